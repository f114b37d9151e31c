//! Requests to one API server: each within a deadline, never sent again where it may have been carried out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use portcullis_kube::meta::{DeleteOptions, Preconditions, TypeMeta};
use portcullis_runtime::http_client::{
    HttpClient, HttpClientConfig, HttpClientError, HttpLines, HttpResponse, StreamLimits, Streamed,
};
use portcullis_runtime::{Rng, Secret};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::access::{Access, AccessError};
use crate::credential::Credential;
use crate::error::ClientError;
use crate::resource::{Form, List, ListQuery, Part, Resource};
use crate::watch::Watch;

/// Requests on their way at a time, from one client.
const IN_FLIGHT: usize = 32;
/// Longest time for one request, whatever its deadline.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// For name resolution, connection and TLS handshake.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Largest answer in bytes.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Longest line of a watch in bytes: the largest object that etcd takes, with room for its escapes.
const MAX_LINE: usize = 4 * 1024 * 1024;
/// Longest silence of a watch. API servers send a bookmark every minute or so.
const WATCH_SILENCE: Duration = Duration::from_secs(150);
/// First pause before a request is sent again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause, unless the server asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const EAGER_PAUSE: Duration = Duration::from_millis(400);
/// Who writes, in the objects' `managedFields`.
const FIELD_MANAGER: &str = "portcullis";
const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// Metadata alone, from servers that can do that (all since 1.15).
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// A client of one API server. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>, Pauses);

/// How long is waited between two attempts.
#[derive(Clone, Copy)]
struct Pauses {
    /// The longest pause, unless the server asks for more.
    longest: Duration,
    /// What counts of the pause that a server asks for which is not ready (503). One that throttles (429) is obeyed.
    unready: Duration,
}

struct Inner {
    http: HttpClient,
    server: String,
    namespace: String,
    credential: Credential,
    places: Semaphore,
    rng: Rng,
}

/// One request, to be sent as often as it may be.
struct Call<'a> {
    method: Method,
    resource: &'a Resource,
    name: Option<&'a str>,
    part: Part,
    query: String,
    accept: &'static str,
    content_type: &'static str,
    body: Option<Bytes>,
}

/// What is known after some attempts at a request.
struct Attempts {
    deadline: Instant,
    pause: Duration,
    /// Whether the credential has been read again.
    renewed: bool,
}

impl Attempts {
    const fn new(deadline: Instant) -> Self {
        Self { deadline, pause: FIRST_PAUSE, renewed: false }
    }
}

impl Call<'_> {
    fn only_reads(&self) -> bool {
        self.method == Method::GET
    }
}

impl Client {
    /// A client with this access. Nothing is sent yet. `rng` spreads the pauses of replicas that were throttled together.
    ///
    /// # Errors
    /// When a certificate, key or proxy cannot be used.
    pub fn new(access: Access, rng: Rng) -> Result<Self, AccessError> {
        let Access { server, namespace, roots, insecure_skip_verify, identity, credential, proxy } = access;
        let http = HttpClient::new(HttpClientConfig {
            roots,
            insecure_skip_verify,
            timeout: REQUEST_TIME,
            connect_timeout: CONNECT_TIME,
            max_body: MAX_ANSWER,
            max_redirects: 0,
            proxy,
            identity,
            idle_connections: IN_FLIGHT,
            ..HttpClientConfig::default()
        })?;
        let places = Semaphore::new(IN_FLIGHT);
        Ok(Self(
            Arc::new(Inner { http, server, namespace, credential, places, rng }),
            Pauses { longest: LONGEST_PAUSE, unready: Duration::MAX },
        ))
    }

    /// The API server's URL, without credentials.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// The same client, for what must be known soon after a server is back: it asks more often. An API server that has just
    /// started asks for five seconds, and is ready after one.
    pub(crate) fn eager(&self) -> Self {
        Self(Arc::clone(&self.0), Pauses { longest: EAGER_PAUSE, unready: EAGER_PAUSE })
    }

    /// The namespace that namespaced resources are in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// Reads one object as it is now.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] when there is none; see [`ClientError`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        name: &str,
        deadline: Instant,
    ) -> Result<T, ClientError> {
        let call = Call {
            method: Method::GET,
            resource,
            name: Some(name),
            part: Part::Whole,
            query: String::new(),
            accept: JSON,
            content_type: JSON,
            body: None,
        };
        parse(&self.send(&call, deadline).await?)
    }

    /// Reads a collection, or a part of it.
    ///
    /// # Errors
    /// [`ClientError::Expired`] when it cannot be gone on with, [`ClientError::TooLarge`] when fewer objects must be asked for;
    /// see [`ClientError`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        query: &ListQuery<'_>,
        deadline: Instant,
    ) -> Result<List<T>, ClientError> {
        let call = Call {
            method: Method::GET,
            resource,
            name: None,
            part: Part::Whole,
            query: query.text(),
            accept: match query.form {
                Form::Whole => JSON,
                Form::Metadata => METADATA_LIST,
            },
            content_type: JSON,
            body: None,
        };
        parse(&self.send(&call, deadline).await?)
    }

    /// Makes an object and reads its metadata back. A member that the server does not know is an error.
    ///
    /// # Errors
    /// [`ClientError::AlreadyExists`] when the name is taken; see [`ClientError`].
    pub async fn create<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        object: &(impl Serialize + Sync),
        deadline: Instant,
    ) -> Result<T, ClientError> {
        parse(&self.write(Method::POST, resource, None, JSON, body(object)?, deadline).await?)
    }

    /// Makes an object from its YAML.
    ///
    /// # Errors
    /// As [`Client::create`].
    pub async fn create_yaml(
        &self,
        resource: &Resource,
        text: &'static str,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let text = Bytes::from_static(text.as_bytes());
        self.write(Method::POST, resource, None, "application/yaml", text, deadline).await.map(|_| ())
    }

    /// Replaces an object that still has the `resourceVersion` in `object`, and reads its metadata back.
    ///
    /// # Errors
    /// [`ClientError::Conflict`] when it has another one, [`ClientError::NotFound`]; see [`ClientError`].
    pub async fn replace<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        name: &str,
        object: &(impl Serialize + Sync),
        deadline: Instant,
    ) -> Result<T, ClientError> {
        parse(&self.write(Method::PUT, resource, Some(name), JSON, body(object)?, deadline).await?)
    }

    /// Deletes an object that has the uid and the version that `preconditions` name.
    ///
    /// # Errors
    /// [`ClientError::Conflict`] when it has others, [`ClientError::NotFound`]; see [`ClientError`].
    pub async fn delete(
        &self,
        resource: &Resource,
        name: &str,
        preconditions: Preconditions,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let options = DeleteOptions {
            types: TypeMeta::new("DeleteOptions", "v1"),
            preconditions: Some(preconditions),
            ..DeleteOptions::default()
        };
        let call = Call {
            method: Method::DELETE,
            resource,
            name: Some(name),
            part: Part::Whole,
            query: String::new(),
            accept: JSON,
            content_type: JSON,
            body: Some(body(&options)?),
        };
        self.send(&call, deadline).await.map(|_| ())
    }

    async fn write(
        &self,
        method: Method,
        resource: &Resource,
        name: Option<&str>,
        content_type: &'static str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<HttpResponse, ClientError> {
        let query = format!("fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        let part = Part::Whole;
        let call = Call { method, resource, name, part, query, accept: METADATA, content_type, body: Some(body) };
        self.send(&call, deadline).await
    }

    /// Changes members of an object (JSON merge patch, RFC 7386), or of its status, and reads its metadata back. With a
    /// `resourceVersion` in the patch, only while the object has that one.
    ///
    /// # Errors
    /// [`ClientError::Conflict`] when it has another one, [`ClientError::NotFound`]; see [`ClientError`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        name: &str,
        part: Part,
        patch: &(impl Serialize + Sync),
        deadline: Instant,
    ) -> Result<T, ClientError> {
        let call = Call {
            method: Method::PATCH,
            resource,
            name: Some(name),
            part,
            query: format!("fieldManager={FIELD_MANAGER}&fieldValidation=Strict"),
            accept: METADATA,
            content_type: MERGE_PATCH,
            body: Some(body(patch)?),
        };
        parse(&self.send(&call, deadline).await?)
    }

    /// Watches a collection from a version on, for at most `time`; the deadline is for the beginning alone.
    ///
    /// # Errors
    /// [`ClientError::Expired`] when the version has been forgotten; see [`ClientError`].
    pub async fn watch<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        from: &str,
        time: Duration,
        deadline: Instant,
    ) -> Result<Watch<T>, ClientError> {
        let query = format!(
            "watch=true&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds={}",
            time.as_secs().max(1)
        );
        let call = Call {
            method: Method::GET,
            resource,
            name: None,
            part: Part::Whole,
            query,
            accept: JSON,
            content_type: JSON,
            body: None,
        };
        let limits =
            StreamLimits { head: REQUEST_TIME, idle: WATCH_SILENCE, whole: time + REQUEST_TIME, line: MAX_LINE };
        let mut attempts = Attempts::new(deadline);
        loop {
            match self.open(&call, limits, deadline).await {
                Ok(lines) => return Ok(Watch::new(lines)),
                Err(failure) => self.pause(&mut attempts, &call, failure).await?,
            }
        }
    }

    /// Sends a request, again where nothing can have happened (or where it only reads), until the deadline.
    async fn send(&self, call: &Call<'_>, deadline: Instant) -> Result<HttpResponse, ClientError> {
        let mut attempts = Attempts::new(deadline);
        loop {
            let failure = match self.attempt(call, deadline).await {
                Ok(response) if response.is_success() => return Ok(response),
                Ok(response) => refused(call, &response),
                Err(error) => (error, None),
            };
            self.pause(&mut attempts, call, failure).await?;
        }
    }

    /// Returns when another attempt is to be made. A failure comes with the pause that the server asks for.
    async fn pause(
        &self,
        attempts: &mut Attempts,
        call: &Call<'_>,
        (error, asked): (ClientError, Option<Duration>),
    ) -> Result<(), ClientError> {
        // A token can be over before its file is read again.
        if matches!(error, ClientError::Unauthorized { .. }) && !attempts.renewed && self.0.credential.renew() {
            attempts.renewed = true;
            return Ok(());
        }
        let asked = match error {
            ClientError::Throttled => asked,
            _ => asked.map(|asked| asked.min(self.1.unready)),
        };
        let again = error.is_temporary() && (call.only_reads() || !error.may_have_happened());
        let wait = self.spread(asked.unwrap_or(attempts.pause));
        if !again || Instant::now() + wait >= attempts.deadline {
            return Err(error);
        }
        tracing::debug!(%error, method = %call.method, resource = call.resource.plural, "trying again");
        sleep(wait).await;
        attempts.pause = (attempts.pause * 2).min(self.1.longest);
        Ok(())
    }

    async fn attempt(&self, call: &Call<'_>, deadline: Instant) -> Result<HttpResponse, ClientError> {
        let not_sent = |reason: &str| ClientError::Unreachable { reason: reason.to_owned() };
        let ready = async {
            let credential = self.0.credential.header().await.map_err(|reason| ClientError::Unreachable { reason })?;
            let place = self.0.places.acquire().await.map_err(|_| not_sent("the client is closed"))?;
            Ok::<_, ClientError>((credential, place))
        };
        let (credential, _place) =
            timeout_at(deadline, ready).await.map_err(|_| not_sent("too many requests are on their way"))??;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(not_sent("too many requests are on their way"));
        }
        let url = self.url(call);
        let headers = headers(call, credential.as_ref());
        let (time, method) = (left.min(REQUEST_TIME), call.method.clone());
        let answer = self.0.http.request_within(time, method, &url, &headers, call.body.clone()).await;
        answer.map_err(|error| ClientError::of_transport(&error))
    }

    /// Begins to read a stream. It takes none of the places of requests, which would be held for as long as it lasts.
    async fn open(
        &self,
        call: &Call<'_>,
        limits: StreamLimits,
        deadline: Instant,
    ) -> Result<Box<HttpLines>, (ClientError, Option<Duration>)> {
        let opening = async {
            let credential = self.0.credential.header().await.map_err(|reason| ClientError::Unreachable { reason })?;
            let url = self.url(call);
            let headers = headers(call, credential.as_ref());
            let opened = self.0.http.stream(&url, &headers, limits).await;
            opened.map_err(|error: HttpClientError| ClientError::of_transport(&error))
        };
        match timeout_at(deadline, opening).await {
            Ok(Ok(Streamed::Lines(lines))) => Ok(lines),
            Ok(Ok(Streamed::Refused(response))) => Err(refused(call, &response)),
            Ok(Err(error)) => Err((error, None)),
            Err(_) => Err((ClientError::Lost { reason: "no answer in time".to_owned() }, None)),
        }
    }

    fn url(&self, call: &Call<'_>) -> String {
        let mut url = format!("{}{}", self.0.server, call.resource.path(&self.0.namespace, call.name, call.part));
        if !call.query.is_empty() {
            url.push('?');
            url.push_str(&call.query);
        }
        url
    }

    /// A pause that is up to a quarter longer.
    pub(crate) fn spread(&self, pause: Duration) -> Duration {
        pause + pause * self.0.rng.below(256) / 1024
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { server, namespace, credential, .. } = &*self.0;
        f.debug_struct("Client")
            .field("server", server)
            .field("namespace", namespace)
            .field("credential", credential)
            .finish_non_exhaustive()
    }
}

fn headers<'a>(call: &Call<'_>, credential: Option<&'a Secret>) -> Vec<(&'static str, &'a str)> {
    let mut headers = vec![("accept", call.accept)];
    if call.body.is_some() {
        headers.push(("content-type", call.content_type));
    }
    if let Some(credential) = credential {
        headers.push(("authorization", credential.expose()));
    }
    headers
}

/// An answer that is no success, and the pause that it asks for.
fn refused(call: &Call<'_>, response: &HttpResponse) -> (ClientError, Option<Duration>) {
    (ClientError::of_response(response, call.resource.plural, call.name), retry_after(response))
}

/// The seconds of `Retry-After`; Kubernetes never sends a date.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let seconds: u32 = response.header("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

fn body(object: &impl Serialize) -> Result<Bytes, ClientError> {
    serde_json::to_vec(object)
        .map(Bytes::from)
        .map_err(|error| ClientError::Refused { code: 0, message: format!("the object cannot be written: {error}") })
}

fn parse<T: DeserializeOwned>(response: &HttpResponse) -> Result<T, ClientError> {
    serde_json::from_slice(&response.body).map_err(|error| {
        // serde's words can hold values; its place cannot.
        ClientError::Unreadable { what: format!("line {} column {}", error.line(), error.column()) }
    })
}
