//! The server on its listener: TLS, client certificates, bodies, streams.
//!
//! A body is read only after the request has been admitted, so that nobody unknown can make the server hold one; at most
//! [`BODIES`] are held at a time.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use portcullis_jose::{KeyKind, SigningKey};
use portcullis_kube::Status;
use portcullis_kube::authentication_config::AnonymousAuthConfig;
use portcullis_runtime::server::{
    BodyError, ConnInfo, Handler, Request, Response, ResponseFuture, ServerLimits, Transport, Upgrade, fits, full,
    read_body, serve, stream, until,
};
use portcullis_runtime::telemetry::Metrics;
use portcullis_runtime::tls::{ClientAuth, ServerTls, TlsError, TlsIdentity, TlsVersions, server_config};
use portcullis_runtime::{Clock, Rng, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::audit::record::Arrival;
use crate::audit::{AuditLog, Record};
use crate::authenticate::{TokenAuthenticator, ignored_token};
use crate::controllers::Controllers;
use crate::deletion;
use crate::discovery::Discovery;
use crate::engine::{Admitted, Engine, refusal};
use crate::handlers::health::version_info;
use crate::http::body::MAX_BYTES;
use crate::http::params::Params;
use crate::http::reply::{Payload, Reply};
use crate::http::{Call, head};
use crate::large::Turns;
use crate::openapi::OpenApi;
use crate::parts::Parts;
use crate::policy::LivePolicy;
use crate::seed::{Seed, SeedError, go_arch};
use crate::service_account::ServiceAccounts;
use crate::store::kept::KeptError;
use crate::store::{Store, StoreLimits};
use crate::streams::{Session, StreamLimits, Streams};

/// What the server says it is: the release whose behaviour it has, marked as not being it. kubectl reads the numbers only.
pub const GIT_VERSION: &str = "v1.37.2+portcullis";
/// Names a request in the audit log and for its client.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Request bodies that are read or worked on at a time: so many of small ones, and so many others.
const BODIES: usize = 64;
/// Bytes of a body beyond which it waits for a turn.
const LARGE_BODY: usize = 64 * 1024;
/// Bytes of a refused request's body that are taken in, as Go's server does.
const REFUSED_BYTES: usize = 256 * 1024;
/// For those to arrive.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(2);
/// For a 101 to be sent.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);
/// For the audit log's last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(5);
/// For a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How a server is set up.
#[derive(Debug)]
pub struct ApiServerConfig {
    /// Where it listens; bound already, so that its port is known.
    pub listener: TcpListener,
    /// Its certificate.
    pub identity: TlsIdentity,
    /// Authorities of client certificates, in PEM.
    pub client_ca_pem: Vec<u8>,
    /// What knows bearer tokens.
    pub tokens: TokenAuthenticator,
    /// Whether and where requests without credentials are let in, as `system:anonymous`.
    pub anonymous: AnonymousAuthConfig,
    /// The file that keeps its objects and its key. Without one they end with the process. With one, the runtime has to have
    /// several threads.
    pub keep_state: Option<PathBuf>,
    /// Where requests are written down.
    pub audit: Option<AuditLog>,
    /// The RSA key that signs service account tokens. Without one the server makes its own, whose tokens end with it.
    pub service_account_key: Option<SigningKey>,
    /// Authorities of its own certificate, in PEM: what `kube-root-ca.crt` shows in every namespace.
    pub root_ca_pem: String,
    /// Name of the one node.
    pub node_name: String,
    /// Limits of the store.
    pub store_limits: StoreLimits,
    /// Limits of the listener.
    pub server_limits: ServerLimits,
    /// Limits of connections that leave HTTP.
    pub stream_limits: StreamLimits,
    /// What `/metrics` shows, to those who may get that path.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
    /// Identities and names.
    pub rng: Rng,
}

impl ApiServerConfig {
    /// A configuration with the usual limits, which trusts no token and lets anonymous requests in. The authorities of
    /// clients are taken for those of the server too.
    pub fn new(listener: TcpListener, identity: TlsIdentity, client_ca_pem: Vec<u8>) -> Self {
        Self {
            listener,
            identity,
            root_ca_pem: String::from_utf8_lossy(&client_ca_pem).into_owned(),
            client_ca_pem,
            tokens: TokenAuthenticator::Nobody,
            anonymous: AnonymousAuthConfig::everywhere(true),
            keep_state: None,
            audit: None,
            service_account_key: None,
            node_name: "portcullis-control-plane".to_owned(),
            store_limits: StoreLimits::default(),
            server_limits: ServerLimits::default(),
            stream_limits: StreamLimits::default(),
            metrics: Metrics::new(&Clock::system()),
            clock: Clock::system(),
            rng: Rng::system(),
        }
    }
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The listener has no address.
    #[error("the listener has no address: {0}")]
    Listener(#[source] std::io::Error),
    /// The system gave no threads.
    #[error("cannot start threads: {0}")]
    Threads(#[source] std::io::Error),
    /// The file that keeps the objects cannot be used.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// The initial objects could not be made.
    #[error("cannot make the initial objects: {0}")]
    Seed(#[from] SeedError),
}

/// The dev API server.
#[derive(Debug)]
pub struct ApiServer;

/// A server that runs.
pub struct Running {
    addr: SocketAddr,
    seed: Seed,
    front: Front,
    tasks: Mutex<JoinSet<()>>,
    audit: Option<AuditLog>,
}

impl ApiServer {
    /// Fills the store and starts to serve, until `shutdown`.
    ///
    /// # Errors
    /// [`StartError`]. It does not fail once it serves.
    pub async fn start(config: ApiServerConfig, shutdown: Shutdown) -> Result<Running, StartError> {
        let addr = config.listener.local_addr().map_err(StartError::Listener)?;
        let client_auth = ClientAuth::Optional { roots_pem: config.client_ca_pem };
        let tls = server_config(config.identity, TlsVersions::default(), client_auth)?;
        let file = config.keep_state.clone().unwrap_or_default();
        let (store, kept_key) = open_store(config.store_limits, &config.clock, config.keep_state).await?;
        let engine = Arc::new(Engine {
            store: Arc::new(store),
            policy: LivePolicy::default(),
            last_modes: Default::default(),
            tokens: RwLock::new(Arc::new(config.tokens)),
            anonymous: config.anonymous,
            service_accounts: ServiceAccounts::new(&addr.to_string(), config.service_account_key.or(kept_key)),
            discovery: Discovery::new(&addr.to_string()),
            openapi: Arc::new(OpenApi::new(config.clock.now())),
            version: version_info(GIT_VERSION, go_arch()),
            audit: config.audit,
            metrics: config.metrics,
            clock: config.clock,
            rng: config.rng,
            controllers: Controllers { root_ca: config.root_ca_pem, port: addr.port(), ..Controllers::default() },
            parts: Parts::default(),
            streams: Streams::new(config.stream_limits),
        });
        engine.bootstrap(&config.node_name, GIT_VERSION)?;
        engine.store.settle().map_err(|error| KeptError::Unusable {
            action: "write",
            path: file,
            reason: error.to_string(),
        })?;
        let accounts = engine.service_accounts.clone();
        tokio::spawn(async move { accounts.prepare().await });
        let large = Arc::new(Turns::start().map_err(StartError::Threads)?);
        let front = Front { engine: Arc::clone(&engine), tls, limits: config.server_limits, large };
        let tasks = Mutex::new(front.serve(config.listener, &shutdown));
        let audit = engine.audit.clone();
        let seed = Seed { engine, node: config.node_name.into() };
        Ok(Running { addr, seed, front, tasks, audit })
    }
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process' own hand in it.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Lets another authenticator know bearer tokens from the next request on. Whoever has changed the flags of a real
    /// kube-apiserver starts it again instead.
    pub fn trust(&self, tokens: TokenAuthenticator) {
        *self.seed.engine.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    /// Serves what it holds on another listener, after the first has ended.
    pub fn front(&self) -> Front {
        self.front.clone()
    }

    /// The tasks that serve, for whoever keeps them running from now on. Nothing is left for [`Self::stopped`] to wait for.
    pub fn hand_over(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until it has stopped, after its shutdown was triggered.
    pub async fn stopped(self) {
        let mut tasks = self.hand_over();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the dev API server ended badly");
            }
        }
        // A disk that hangs is no reason to hang too.
        if let Some(audit) = self.audit
            && tokio::time::timeout(LAST_LINES, audit.flushed()).await.is_err()
        {
            tracing::error!("the last lines of the audit log could not be written in time");
        }
    }
}

/// What answers for a server's state, on one listener after the other. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    engine: Arc<Engine>,
    tls: ServerTls,
    limits: ServerLimits,
    large: Arc<Turns>,
}

impl Front {
    /// Serves on a listener until `stop`, and does meanwhile what is to be done in the background: a panic there is a task's as
    /// well. Connections end with the task that serves them, however it ends.
    pub fn serve(&self, listener: TcpListener, stop: &Shutdown) -> JoinSet<()> {
        let engine = Arc::clone(&self.engine);
        let edge = Edge {
            engine: Arc::clone(&engine),
            shutdown: stop.child(),
            bodies: Semaphore::new(BODIES),
            small_bodies: Semaphore::new(BODIES),
            large: Arc::clone(&self.large),
        };
        let serving = serve(listener, Transport::Tls(self.tls.clone()), Arc::new(edge), self.limits, stop.clone());
        let mut tasks = deletion::start(&self.engine, stop);
        tasks.spawn(async move {
            serving.await;
            engine.streams.ended().await;
        });
        tasks
    }
}

struct Edge {
    engine: Arc<Engine>,
    shutdown: Shutdown,
    bodies: Semaphore,
    /// For those that say that they are small: large ones, which wait for their turns, hold none of them up.
    small_bodies: Semaphore,
    large: Arc<Turns>,
}

impl Drop for Edge {
    /// What has left HTTP ends with its listener.
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Handler for Edge {
    fn handle(self: Arc<Self>, mut request: Request) -> ResponseFuture {
        Box::pin(async move {
            if let Some(refused) = head::refused(request.version(), request.method(), request.uri(), request.headers())
            {
                return self.respond(refused, false, None, Record::default());
            }
            let asks = request.headers().contains_key(http::header::UPGRADE);
            let upgrade = asks.then(|| Upgrade::take(&mut request));
            let http2 = request.version() == Version::HTTP_2;
            let head_only = request.method() == Method::HEAD;
            let ignored = ignored_token(request.headers());
            let audit_id = self.audit_id(request.headers());
            let record = self.record(&request, &audit_id);
            let answer = AssertUnwindSafe(self.answer(request, &record)).catch_unwind();
            let mut reply = match answer.await {
                Ok(answered) => answered,
                Err(panic) => {
                    record.panicked(said(&panic));
                    std::panic::resume_unwind(panic);
                }
            };
            if let Some(warning) = ignored {
                reply.warn(&[warning.to_owned()]);
            }
            reply.headers.insert(AUDIT_ID, audit_id);
            if let Some(object) = reply.object.take() {
                record.response(&object.json, object.status.as_deref());
            }
            record.responds(reply.status.as_u16()).await;
            // Compat: an unauthenticated client's HTTP/1.1 connection is closed, so that it cannot keep one.
            if !http2 && reply.status == http::StatusCode::UNAUTHORIZED {
                reply.headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            }
            self.respond(reply, head_only, upgrade, record)
        })
    }
}

impl Edge {
    /// The client's own, as it came, or a new one.
    fn audit_id(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(AUDIT_ID).filter(|id| !id.is_empty()) {
            Some(given) => given.clone(),
            None => HeaderValue::from_str(&self.engine.rng.uuid_v4()).unwrap_or(HeaderValue::from_static("-")),
        }
    }

    fn record(&self, request: &Request, id: &HeaderValue) -> Record {
        let Some(log) = &self.engine.audit else { return Record::default() };
        let peer = request.extensions().get::<ConnInfo>().map(|info| info.peer.ip());
        let id = String::from_utf8_lossy(id.as_bytes());
        let arrival = Arrival { id: &id, uri: request.uri(), headers: request.headers(), peer };
        log.begin(&self.engine.clock, &arrival)
    }

    async fn answer(&self, request: Request, record: &Record) -> Reply {
        let (parts, body) = request.into_parts();
        let mut call = call_of(&parts.method, &parts.uri, parts.headers, parts.extensions.get::<ConnInfo>());
        call.audit = record.clone();
        let admitted = match self.engine.admit(&call).await {
            Ok(admitted) => admitted,
            Err(mut reply) if head::waits(&call.headers) => {
                // Whoever waits to be told to send is not told; the body that would come all the same is no request.
                reply.headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
                return reply;
            }
            Err(reply) => {
                // A client that is still sending would see a broken connection instead of the refusal.
                let _ = read_body(body, REFUSED_BYTES, REFUSED_TIMEOUT).await;
                return reply;
            }
        };
        let writes = matches!(call.method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
        if writes && admitted.is_of_resource() {
            let pool = if fits(&body, LARGE_BODY) { &self.small_bodies } else { &self.bodies };
            let Ok(_permit) = pool.acquire().await else {
                return refusal(&call, &Status::service_unavailable("shutting down"));
            };
            call.body = match read_body(body, MAX_BYTES, BODY_TIMEOUT).await {
                Ok(body) => body,
                Err(error) => return refusal(&call, &body_status(error)),
            };
            return self.serve(call, admitted).await;
        }
        let reply = self.engine.serve(&call, &admitted).await;
        if writes {
            let _ = read_body(body, REFUSED_BYTES, REFUSED_TIMEOUT).await;
        }
        reply
    }

    /// Serves a request whose body is there.
    async fn serve(&self, call: Call, admitted: Admitted) -> Reply {
        if call.body.len() <= LARGE_BODY {
            return self.engine.serve(&call, &admitted).await;
        }
        let (engine, call) = (Arc::clone(&self.engine), Arc::new(call));
        let large = Arc::clone(&call);
        let reply = self.large.take(async move { engine.serve(&large, &admitted).await }).await;
        reply.unwrap_or_else(|| refusal(&call, &Status::service_unavailable("shutting down")))
    }

    fn respond(&self, reply: Reply, head_only: bool, upgrade: Option<Upgrade>, record: Record) -> Response {
        let body = match reply.payload {
            Payload::Whole(_) if head_only => full(Bytes::new()),
            Payload::Whole(bytes) => full(bytes),
            Payload::Pieces(pieces) => {
                // The record ends with the stream.
                let recorded = pieces.inspect(move |_piece| {
                    let _held = &record;
                });
                stream(until(Box::pin(recorded), self.shutdown.clone()))
            }
            Payload::Upgrade(session) => {
                if let Some(upgrade) = upgrade {
                    let stop = self.shutdown.clone();
                    tokio::spawn(async move {
                        run(session, upgrade, stop).await;
                        drop(record);
                    });
                }
                full(Bytes::new())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        response
    }
}

/// Runs a session on its connection, once that has left HTTP.
async fn run(session: Session, upgrade: Upgrade, stop: Shutdown) {
    match tokio::time::timeout(UPGRADE_TIMEOUT, upgrade.established()).await {
        Ok(Ok(connection)) => session(Box::new(connection), stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection did not leave HTTP"),
        Err(_) => tracing::debug!("a connection did not leave HTTP in time"),
    }
}

/// The store, and the key that is kept with it. Reading it and making a key take a while, which nobody else waits for.
async fn open_store(
    limits: StoreLimits,
    clock: &Clock,
    keep: Option<PathBuf>,
) -> Result<(Store, Option<SigningKey>), StartError> {
    let clock = clock.clone();
    let Some(path) = keep else { return Ok((Store::new(limits).with_clock(clock), None)) };
    let place = path.clone();
    let make_key = || SigningKey::generate(KeyKind::Rsa2048, String::new());
    let opened = tokio::task::spawn_blocking(move || Store::kept(limits, clock, &path, make_key)).await;
    let broken = |error: tokio::task::JoinError| {
        StartError::Kept(KeptError::Unusable { action: "read", path: place, reason: error.to_string() })
    };
    let (store, key) = opened.map_err(broken)??;
    Ok((store, Some(key)))
}

/// What the listener's request says, but for its body.
pub(crate) fn call_of(method: &Method, uri: &http::Uri, headers: HeaderMap, connection: Option<&ConnInfo>) -> Call {
    Call {
        method: method.clone(),
        path: uri.path().to_owned(),
        params: Params::parse(uri.query().unwrap_or_default()),
        headers,
        body: Bytes::new(),
        client_cert: connection
            .and_then(|info| info.client_cert.as_ref())
            .map(|cert| Arc::from(cert.as_ref().as_ref())),
        client_cert_refused: connection.is_some_and(|info| info.client_cert_error.is_some()),
        audit: Record::default(),
        warnings: Mutex::default(),
    }
}

/// What a panic says.
fn said(panic: &Box<dyn Any + Send>) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

fn body_status(error: BodyError) -> Status {
    match error {
        BodyError::TooLarge => Status::too_large(&format!("limit is {MAX_BYTES}")),
        BodyError::Timeout => Status::failure(408, "Timeout", "the request body did not arrive in time"),
        // Compat: upstream counts it as its own failure.
        BodyError::Broken => Status::failure(500, "", "the request body could not be read"),
    }
}
