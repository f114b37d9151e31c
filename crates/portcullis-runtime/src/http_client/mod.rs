//! The HTTP client of every part that talks to the outside: bounded in time, body, redirects and reach.
//!
//! Flow: [`HttpClientConfig`] → [`HttpClient::new`] → `get`, `post_form` or `request` → egress check of the URL → proxy
//! choice as Go's tools do it → connection to an address that the egress policy admitted → redirects, each checked like
//! the first URL → the body, up to `max_body`; or, with `stream`, line by line for as long as it comes.
//!
//! It must never follow a redirect from https to http, never let a name resolve twice between check and connection
//! (DNS rebinding), and never put a URL's query into an error: codes and tokens travel there.

mod config;
mod egress;
mod error;
mod proxy;
mod sending;
mod stream;
mod trust;
mod x509;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use reqwest::redirect;
use url::Url;

use sending::WatchedBody;

pub use config::{ClientIdentity, HttpClientConfig, Roots};
pub use egress::{EgressPolicy, EgressRefused};
pub use error::HttpClientError;
pub use proxy::{InvalidProxy, ProxyFromEnv};
pub use stream::{HttpLines, StreamLimits, Streamed};

/// The TLS settings of a client that speaks something else than HTTP through this crate: the same trust, the same client
/// certificates. The caller sets the protocol names (ALPN); there are none.
///
/// # Errors
/// [`HttpClientError::Config`] when a certificate or the key cannot be used.
pub fn tls_client_config(
    roots: Roots,
    identity: Option<&ClientIdentity>,
) -> Result<rustls::ClientConfig, HttpClientError> {
    let (roots, system) = roots.split();
    let mut config = trust::client_config(roots, system, identity)?;
    config.alpn_protocols.clear();
    Ok(config)
}

/// Longest URL that is requested, in bytes.
const URL_BYTES: usize = 16 * 1024;

/// An HTTP client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct HttpClient {
    inner: reqwest::Client,
    shared: Arc<Shared>,
}

struct Shared {
    max_body: usize,
    egress: EgressPolicy,
}

/// A response whose body has been read, up to the limit.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The response headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The URL that answered, after redirects.
    pub url: String,
}

impl HttpResponse {
    /// Whether the status is 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// A header's value, when it is there once or more and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl HttpClient {
    /// Builds a client. With [`Roots::System`] this reads the system's certificates.
    ///
    /// # Errors
    /// When a header, certificate, key or proxy address cannot be used.
    pub fn new(config: HttpClientConfig) -> Result<Self, HttpClientError> {
        let shared = Arc::new(Shared { max_body: config.max_body, egress: config.egress });
        Ok(Self { inner: config.build()?, shared })
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// See [`HttpClientError`]. Any status is a success here.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<HttpResponse, HttpClientError> {
        self.request(Method::GET, url, headers, None).await
    }

    /// Posts `application/x-www-form-urlencoded` pairs, in the order given.
    ///
    /// # Errors
    /// See [`HttpClientError`]. Any status is a success here.
    pub async fn post_form(
        &self,
        url: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Result<HttpResponse, HttpClientError> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.request(Method::POST, url, &all, Some(body.into())).await
    }

    /// Sends any request.
    ///
    /// # Errors
    /// See [`HttpClientError`]. Any status is a success here.
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<HttpResponse, HttpClientError> {
        let (shown, mut request) = self.begin(method, url, headers)?;
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| HttpClientError::from_reqwest(&shown, &error))?;
        self.read(&shown, response).await
    }

    /// Sends a request that must be answered within `time`, and tells whether one that has a body can have taken effect: what
    /// failed before the body was asked for is [`HttpClientError::Connect`]. The body is sent once, so a redirect that needs it
    /// again is the response.
    ///
    /// # Errors
    /// See [`HttpClientError`]. Any status is a success here.
    pub async fn request_within(
        &self,
        time: Duration,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<HttpResponse, HttpClientError> {
        let (shown, request) = self.begin(method, url, headers)?;
        let mut request = request.timeout(time);
        let mut sending = None;
        if let Some(body) = body {
            let (watched, begun) = WatchedBody::new(body);
            request = request.body(reqwest::Body::wrap(watched));
            sending = Some(begun);
        }
        let response = request.send().await.map_err(|error| match HttpClientError::from_reqwest(&shown, &error) {
            error if sending.is_none_or(|begun| begun.load(Ordering::Acquire)) => error,
            HttpClientError::Timeout { url } => HttpClientError::no_connection(url),
            HttpClientError::Broken { url, reason } => HttpClientError::Connect { url, reason },
            error => error,
        })?;
        self.read(&shown, response).await
    }

    /// A request without its body, and its URL as errors may show it.
    fn begin(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<(String, reqwest::RequestBuilder), HttpClientError> {
        let target = parse_url(url)?;
        self.shared.egress.check_url(&target)?;
        let shown = shown(&target);
        let mut request = self.inner.request(method, target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok((shown, request))
    }

    async fn read(&self, shown: &str, mut response: reqwest::Response) -> Result<HttpResponse, HttpClientError> {
        let limit = self.shared.max_body;
        let too_large = || HttpClientError::BodyTooLarge { url: shown.to_owned(), limit };
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| HttpClientError::from_reqwest(shown, &error))? {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        let url = response.url().to_string();
        let status = response.status().as_u16();
        Ok(HttpResponse { status, headers: std::mem::take(response.headers_mut()), body: body.freeze(), url })
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient")
            .field("egress", &self.shared.egress)
            .field("max_body", &self.shared.max_body)
            .finish()
    }
}

fn parse_url(text: &str) -> Result<Url, HttpClientError> {
    let error = |reason: &str| HttpClientError::Url { url: without_query(text), reason: reason.to_owned() };
    if text.len() > URL_BYTES {
        return Err(error("longer than 16 KiB"));
    }
    let url = Url::parse(text).map_err(|parse| error(&parse.to_string()))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(error("only http and https URLs can be requested")),
    }
}

fn without_query(text: &str) -> String {
    text.split(['?', '#']).next().unwrap_or_default().chars().take(256).collect()
}

/// The URL as errors may show it: no user, password, query or fragment.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// What a redirect may not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RedirectRefused {
    #[error("stopped after {0} redirects")]
    TooMany(usize),
    #[error("refused to follow a redirect from https to {0}")]
    Downgrade(String),
    #[error(transparent)]
    Egress(#[from] EgressRefused),
}

/// Follows up to `limit` redirects; with 0 the redirect itself is the response.
fn redirect_policy(limit: usize, egress: EgressPolicy) -> redirect::Policy {
    if limit == 0 {
        return redirect::Policy::none();
    }
    redirect::Policy::custom(move |attempt| {
        let refused = if attempt.previous().len() > limit {
            Some(RedirectRefused::TooMany(limit))
        } else if attempt.previous().last().is_some_and(|from| from.scheme() == "https")
            && attempt.url().scheme() != "https"
        {
            Some(RedirectRefused::Downgrade(shown(attempt.url())))
        } else {
            egress.check_url(attempt.url()).err().map(RedirectRefused::Egress)
        };
        match refused {
            Some(refused) => attempt.error(refused),
            None => attempt.follow(),
        }
    })
}

/// The causes of `error`, from the outermost inwards, looking into `io::Error`s as well.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| next_cause(*error)).take(16)
}

fn next_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn root_cause(error: &reqwest::Error) -> String {
    error.source().and_then(|source| causes(source).last()).map_or_else(|| error.to_string(), ToString::to_string)
}
