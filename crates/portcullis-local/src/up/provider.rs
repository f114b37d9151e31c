//! The provider of `up`, in this process, on loopback.
//!
//! The issuer's port speaks TLS; to this machine alone it also speaks plain http, so that a browser meets no certificate
//! that it does not know (design decision 7). Discovery sends browsers there, and nothing but browsers; the provider
//! itself answers plain http for this machine's names alone.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use http::StatusCode;
use portcullis_apiserver::PartPort;
use portcullis_provider::config::Config;
use portcullis_provider::{BackgroundError, Provider, ProviderDeps, ProviderOptions, open_store};
use portcullis_runtime::server::{
    Handler, Request, ResponseFuture, ServerLimits, Transport, respond, serve, serve_stream_as,
};
use portcullis_runtime::telemetry::{Health, Metrics};
use portcullis_runtime::tls::{ClientAuth, ServerTls, TlsIdentity, TlsVersions, server_config};
use portcullis_runtime::{Clock, Rng, Shutdown};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use crate::ca::Leaf;
use crate::ports;
use crate::state::{self, StateDir, StateError};
use crate::supervisor::{BoxFuture, Started, probe};

use super::error::UpError;
use super::listeners::Listeners;

/// How often the provider's parts are checked, and how long a check may take, as Dex.
const HEALTH_EVERY: Duration = Duration::from_secs(15);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that a connection in memory holds in each direction.
const IN_MEMORY: usize = 64 * 1024;

/// The numbers of its pod's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PodPorts {
    pub(crate) http: Option<u16>,
    pub(crate) https: u16,
    pub(crate) telemetry: Option<u16>,
}

/// Where the provider's certificate and key are.
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Puts the certificate where the provider's configuration names it.
pub(crate) fn write_certificate(state: &StateDir, leaf: &Leaf) -> Result<Certificate, StateError> {
    let certificate = Certificate { cert: state.path("provider/tls.crt"), key: state.path("provider/tls.key") };
    state::write_private(&certificate.key, leaf.key_pem.as_bytes())?;
    state::write_public(&certificate.cert, leaf.cert_pem.as_bytes())?;
    Ok(certificate)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> UpError {
    UpError::Provider(Box::new(error))
}

/// The provider while it runs. Its configuration can be changed; its listeners stay.
pub(crate) struct RunningProvider {
    shared: Arc<Shared>,
    /// The tasks of the first run, until somebody keeps them running.
    tasks: Mutex<JoinSet<()>>,
}

/// What stays when the provider is started again.
struct Shared {
    front: Arc<Front>,
    telemetry: Arc<Front>,
    tls: ServerTls,
    /// Its ports on this machine, and what each speaks.
    sockets: Vec<(u16, Speaks)>,
    /// The port in the issuer's URL.
    issuer_port: u16,
    clock: Clock,
    rng: Rng,
    /// With what it is started again.
    config: Mutex<Config>,
    current: Mutex<Option<Current>>,
}

/// What a port speaks.
#[derive(Clone, Copy)]
enum Speaks {
    Issuer,
    Plain,
    Telemetry,
}

/// The provider that answers now, and its background work.
struct Current {
    provider: Provider,
    /// Of this run: what is connected in memory ends with it.
    run: Shutdown,
    stop: Shutdown,
    background: JoinHandle<()>,
    /// Where a panic in it is told; the run ends with it.
    panics: Panics,
}

type Panics = mpsc::UnboundedSender<Box<dyn Any + Send>>;

impl Current {
    fn start(provider: Provider, run: &Shutdown, panics: Panics) -> Self {
        let stop = run.child();
        let (working, told) = (provider.start(&stop), panics.clone());
        let background = tokio::spawn(async move {
            let reason: Box<dyn Any + Send> = match working.wait().await {
                Ok(()) => return,
                Err(BackgroundError::Panicked(panic)) => panic.into_panic(),
                Err(BackgroundError::Taken(error)) => Box::new(format!("{error}; {}", error.hint())),
            };
            // A run that has ended needs no other reason.
            let _ = told.send(reason);
        });
        Self { provider, run: run.clone(), stop, background, panics }
    }

    async fn stopped(self) {
        self.stop.trigger();
        // What there was to tell is told.
        let _ended = self.background.await;
    }
}

/// One run of the provider. However it ends, nothing of it is left.
struct Life(Arc<Shared>);

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(current) = self.0.lock_current().take() {
            current.run.trigger();
            current.background.abort();
        }
        self.0.front.set(Arc::new(Gone));
        self.0.telemetry.set(Arc::new(Gone));
    }
}

/// What answers for a provider that does not run.
struct Gone;

impl Handler for Gone {
    fn handle(self: Arc<Self>, _: Request) -> ResponseFuture {
        let why = "the provider does not run\n";
        Box::pin(std::future::ready(respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", why)))
    }
}

/// Hands each request to the provider of the moment.
struct Front(RwLock<Arc<dyn Handler>>);

impl Handler for Front {
    fn handle(self: Arc<Self>, request: Request) -> ResponseFuture {
        let now = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        now.handle(request)
    }
}

impl Front {
    fn set(&self, handler: Arc<dyn Handler>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = handler;
    }
}

/// A provider with a changed configuration that has not taken over yet.
pub(crate) struct Changed(Provider, Config);

impl RunningProvider {
    /// Answers the provider's own ports.
    pub(crate) fn handler(&self) -> Arc<dyn Handler> {
        self.shared.front.clone()
    }

    /// The ports of its pod, none of which is one of this machine: a connection is made in memory, for whoever the API server
    /// lets through. To the provider its other end is this machine, as that of a port-forward is.
    pub(crate) fn pod_ports(&self, numbers: PodPorts) -> Vec<PartPort> {
        [
            ("http", numbers.http, Speaks::Plain),
            ("https", Some(numbers.https), Speaks::Issuer),
            ("telemetry", numbers.telemetry, Speaks::Telemetry),
        ]
        .into_iter()
        .filter_map(|(name, number, speaks)| {
            let number = number?;
            let (shared, runtime) = (self.shared.clone(), Handle::current());
            Some(PartPort::in_process(name, number, Arc::new(move || shared.dial(number, speaks, &runtime))))
        })
        .collect()
    }

    /// Makes what the provider would be with another configuration; nothing changes yet.
    pub(crate) async fn prepare(&self, config: Config) -> Result<Changed, UpError> {
        let now = self.shared.lock_current().as_ref().map(|current| current.provider.clone());
        let Some(now) = now else { return Err(UpError::ProviderDown) };
        Ok(Changed(now.reconfigured(config.clone()).await.map_err(failed)?, config))
    }

    /// Lets it take over; requests that have come already are answered by the one before.
    pub(crate) async fn take_over(&self, Changed(provider, config): Changed) {
        let shared = &self.shared;
        *shared.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        let before = {
            let mut current = shared.lock_current();
            // One that has ended meanwhile is started with the new configuration.
            let of_run = current.as_ref().map(|current| (current.run.clone(), current.panics.clone()));
            let Some((run, panics)) = of_run else { return };
            shared.front.set(provider.handler());
            current.replace(Current::start(provider, &run, panics))
        };
        if let Some(before) = before {
            before.stopped().await;
        }
    }

    /// The tasks of the first run, for whoever keeps the provider running from now on.
    pub(crate) fn hand_over(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What starts it again, with its listeners and the configuration that it had last.
    pub(crate) fn start_again(&self) -> impl Fn(Shutdown) -> BoxFuture<Started> + Send + Sync + use<> {
        let shared = self.shared.clone();
        move |stop| {
            let shared = shared.clone();
            Box::pin(async move { shared.start(stop).await })
        }
    }

    /// Asks it through its own port whether it is well.
    pub(crate) fn probe(&self, issuer: &Url) -> impl Fn() -> BoxFuture<Result<(), String>> + Send + Sync + use<> {
        let (shared, runtime) = (self.shared.clone(), Handle::current());
        let path = format!("{}/healthz", issuer.path().trim_end_matches('/'));
        move || {
            let (shared, runtime, path) = (shared.clone(), runtime.clone(), path.clone());
            Box::pin(async move {
                let port = shared.issuer_port;
                if shared.sockets.is_empty() {
                    let stream = shared.dial(port, Speaks::Issuer, &runtime);
                    return probe::http(stream.ok_or("connection refused")?, port, &path).await;
                }
                probe::http(probe::connect(port).await?, port, &path).await
            })
        }
    }

    /// Waits for its end, after its shutdown was triggered.
    pub(crate) async fn stopped(self) {
        let mut tasks = self.hand_over();
        // A server that panicked has stopped as well.
        while tasks.join_next().await.is_some() {}
    }
}

impl Shared {
    fn lock_current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, speaks: Speaks) -> (Transport, Arc<dyn Handler>) {
        match speaks {
            Speaks::Issuer => (Transport::TlsOrPlainOnLoopback(self.tls.clone()), self.front.clone()),
            Speaks::Plain => (Transport::Plain, self.front.clone()),
            Speaks::Telemetry => (Transport::Plain, self.telemetry.clone()),
        }
    }

    /// A connection in memory; `None` while the provider does not run.
    fn dial(&self, number: u16, speaks: Speaks, runtime: &Handle) -> Option<DuplexStream> {
        let run = self.lock_current().as_ref()?.run.clone();
        let (ours, theirs) = tokio::io::duplex(IN_MEMORY);
        let ends = (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv4Addr::LOCALHOST, number)));
        let (transport, handler) = self.of(speaks);
        runtime.spawn(serve_stream_as(theirs, ends, transport, handler, ServerLimits::default(), run));
        Some(ours)
    }

    /// Starts it again.
    async fn start(self: Arc<Self>, stop: Shutdown) -> Started {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut listeners = Vec::new();
        for (port, speaks) in &self.sockets {
            for listener in ports::bind_again(*port).map_err(|error| format!("listen on port {port}: {error}"))? {
                listeners.push((TcpListener::from_std(listener).map_err(|error| error.to_string())?, *speaks));
            }
        }
        let provider = make(config, (self.clock.clone(), self.rng.clone()), self.issuer_port).await;
        Ok(self.run(provider.map_err(|error| said(&error))?, listeners, &stop))
    }

    /// The tasks of a run.
    fn run(self: Arc<Self>, provider: Provider, listeners: Vec<(TcpListener, Speaks)>, stop: &Shutdown) -> JoinSet<()> {
        // Metrics and health are those of every configuration.
        self.telemetry.set(provider.telemetry_handler());
        self.front.set(provider.handler());
        let mut tasks = JoinSet::new();
        for (listener, speaks) in listeners {
            let (transport, handler) = self.of(speaks);
            tasks.spawn(serve(listener, transport, handler, ServerLimits::default(), stop.clone()));
        }
        // After the listeners: the second signing key is made off the way to readiness.
        let (panics, mut panicked) = mpsc::unbounded_channel();
        *self.lock_current() = Some(Current::start(provider, &stop.child(), panics));
        let (life, stop) = (Life(self), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.triggered() => {}
                Some(panic) = panicked.recv() => resume_unwind(panic),
            }
            let current = life.0.lock_current().take();
            if let Some(current) = current {
                current.stopped().await;
            }
        });
        tracing::info!(target: "portcullis_provider", "the provider has started");
        tasks
    }
}

/// An error with its causes.
fn said(error: &UpError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

async fn make(config: Config, (clock, rng): (Clock, Rng), issuer_port: u16) -> Result<Provider, UpError> {
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let store = open_store(&config, clock.clone(), rng.clone()).await.map_err(failed)?;
    let deps = ProviderDeps {
        metrics: Metrics::new(&clock),
        health: Health::new(clock.clone(), HEALTH_EVERY, HEALTH_TIMEOUT),
        clock,
        rng,
        store,
    };
    let browser_base = Url::parse(&format!("http://localhost:{issuer_port}")).ok();
    Provider::new(config, deps, ProviderOptions { browser_base }).await.map_err(failed)
}

/// Starts the provider on the listeners; they are served until `stop`.
pub(crate) async fn start(
    config: Config,
    listeners: &mut Listeners,
    leaf: &Leaf,
    (clock, rng): (Clock, Rng),
    stop: &Shutdown,
) -> Result<RunningProvider, UpError> {
    let provider = make(config.clone(), (clock.clone(), rng.clone()), listeners.issuer_port()).await?;
    let of_kinds = listeners.take_provider()?;
    let kinds = [Speaks::Issuer, Speaks::Plain, Speaks::Telemetry];
    let mut listening = Vec::new();
    let mut sockets = Vec::new();
    for (of_kind, speaks) in of_kinds.into_iter().zip(kinds) {
        let port = of_kind.first().and_then(|listener| listener.local_addr().ok());
        sockets.extend(port.map(|address| (address.port(), speaks)));
        listening.extend(of_kind.into_iter().map(|listener| (listener, speaks)));
    }
    let gone = || Arc::new(Front(RwLock::new(Arc::new(Gone) as Arc<dyn Handler>)));
    let shared = Arc::new(Shared {
        front: gone(),
        telemetry: gone(),
        tls: tls_of(leaf)?,
        sockets,
        issuer_port: listeners.issuer_port(),
        clock,
        rng,
        config: Mutex::new(config),
        current: Mutex::new(None),
    });
    let tasks = Mutex::new(shared.clone().run(provider, listening, stop));
    Ok(RunningProvider { shared, tasks })
}

/// What a listener with this certificate speaks.
pub(crate) fn tls_of(leaf: &Leaf) -> Result<ServerTls, UpError> {
    let identity = TlsIdentity::from_pem(leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes())?;
    Ok(server_config(identity, TlsVersions::default(), ClientAuth::None)?)
}

#[cfg(test)]
mod tests;
