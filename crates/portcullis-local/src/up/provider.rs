//! The provider of `up`, in this process, on loopback.
//!
//! The issuer's port speaks TLS; to this machine alone it also speaks plain http, so that a browser meets no certificate
//! that it does not know (design decision 7). Discovery sends browsers there, and nothing but browsers; the provider
//! itself answers plain http for this machine's names alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use portcullis_apiserver::PartPort;
use portcullis_provider::config::Config;
use portcullis_provider::{Provider, ProviderDeps, ProviderOptions, open_store};
use portcullis_runtime::server::{Handler, Request, ResponseFuture, ServerLimits, Transport, serve, serve_stream_as};
use portcullis_runtime::telemetry::{Health, Metrics};
use portcullis_runtime::tls::{ClientAuth, ServerTls, TlsIdentity, TlsVersions, server_config};
use portcullis_runtime::{Clock, Rng, Shutdown};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use url::Url;

use crate::ca::Leaf;
use crate::state::{self, StateDir, StateError};

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
    front: Arc<Front>,
    telemetry: Arc<dyn Handler>,
    tls: ServerTls,
    current: tokio::sync::Mutex<Option<Current>>,
    listeners: Vec<JoinHandle<()>>,
    stop: Shutdown,
}

/// The provider that answers now, and its background work.
struct Current {
    provider: Provider,
    stop: Shutdown,
    background: JoinHandle<()>,
}

impl Current {
    fn start(provider: Provider, stop: &Shutdown) -> Self {
        let stop = stop.child();
        let background = tokio::spawn(provider.start(&stop).wait());
        Self { provider, stop, background }
    }

    async fn stopped(self) {
        self.stop.trigger();
        // Work that panicked has stopped as well.
        let _ended = self.background.await;
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

/// A provider with a changed configuration that has not taken over yet.
pub(crate) struct Changed(Provider);

impl RunningProvider {
    /// Answers the provider's own ports.
    pub(crate) fn handler(&self) -> Arc<dyn Handler> {
        self.front.clone()
    }

    /// The ports of its pod, none of which is one of this machine: a connection is made in memory, for whoever the API server
    /// lets through. To the provider its other end is this machine, as that of a port-forward is.
    pub(crate) fn pod_ports(&self, numbers: PodPorts) -> Vec<PartPort> {
        let pages = |transport| (transport, self.handler());
        let telemetry = || (Transport::Plain, self.telemetry.clone());
        [
            ("http", numbers.http, pages(Transport::Plain)),
            ("https", Some(numbers.https), pages(Transport::TlsOrPlainOnLoopback(self.tls.clone()))),
            ("telemetry", numbers.telemetry, telemetry()),
        ]
        .into_iter()
        .filter_map(|(name, number, (transport, handler))| {
            let number = number?;
            let (stop, runtime) = (self.stop.clone(), Handle::current());
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
            let dial = move || {
                let (ours, theirs) = tokio::io::duplex(IN_MEMORY);
                let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let (transport, handler, stop) = (transport.clone(), handler.clone(), stop.clone());
                runtime.spawn(serve_stream_as(
                    theirs,
                    (peer, local),
                    transport,
                    handler,
                    ServerLimits::default(),
                    stop,
                ));
                ours
            };
            Some(PartPort::in_process(name, number, Arc::new(dial)))
        })
        .collect()
    }

    /// Makes what the provider would be with another configuration; nothing changes yet.
    pub(crate) async fn prepare(&self, config: Config) -> Result<Changed, UpError> {
        let now = self.current.lock().await.as_ref().map(|current| current.provider.clone());
        let Some(now) = now else { return Err(UpError::Interrupted) };
        Ok(Changed(now.reconfigured(config).await.map_err(failed)?))
    }

    /// Lets it take over; requests that have come already are answered by the one before.
    pub(crate) async fn take_over(&self, Changed(provider): Changed) {
        let mut current = self.current.lock().await;
        *self.front.0.write().unwrap_or_else(PoisonError::into_inner) = provider.handler();
        let before = current.replace(Current::start(provider, &self.stop));
        drop(current);
        if let Some(before) = before {
            before.stopped().await;
        }
    }

    /// Waits for its end, after its shutdown was triggered.
    pub(crate) async fn stopped(self) {
        for listener in self.listeners {
            // A server that panicked has stopped as well.
            let _ended = listener.await;
        }
        if let Some(current) = self.current.into_inner() {
            current.stopped().await;
        }
    }
}

/// Starts the provider on the listeners; they are served until `stop`.
pub(crate) async fn start(
    config: Config,
    listeners: &mut Listeners,
    leaf: &Leaf,
    (clock, rng): (Clock, Rng),
    stop: &Shutdown,
) -> Result<RunningProvider, UpError> {
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let store = open_store(&config, clock.clone(), rng.clone()).map_err(failed)?;
    let deps = ProviderDeps {
        metrics: Metrics::new(&clock),
        health: Health::new(clock.clone(), HEALTH_EVERY, HEALTH_TIMEOUT),
        clock,
        rng,
        store,
    };
    let browser_base = Url::parse(&format!("http://localhost:{}", listeners.issuer_port())).ok();
    let provider = Provider::new(config, deps, ProviderOptions { browser_base }).await.map_err(failed)?;

    let tls = tls_of(leaf)?;
    let front = Arc::new(Front(RwLock::new(provider.handler())));
    // Metrics and health are those of every configuration.
    let telemetry = provider.telemetry_handler();
    let mut tasks = Vec::new();
    let mut spawn = |listeners: Vec<TcpListener>, transport: &Transport, handler: &Arc<dyn Handler>| {
        for listener in listeners {
            let (transport, handler, stop) = (transport.clone(), handler.clone(), stop.clone());
            tasks.push(tokio::spawn(serve(listener, transport, handler, ServerLimits::default(), stop)));
        }
    };
    let [of_issuer, of_http, of_telemetry] = listeners.take_provider()?;
    let pages: Arc<dyn Handler> = front.clone();
    spawn(of_issuer, &Transport::TlsOrPlainOnLoopback(tls.clone()), &pages);
    spawn(of_http, &Transport::Plain, &pages);
    spawn(of_telemetry, &Transport::Plain, &telemetry);
    // After the listeners: the second signing key is made off the way to readiness.
    let current = tokio::sync::Mutex::new(Some(Current::start(provider, stop)));
    Ok(RunningProvider { front, telemetry, tls, current, listeners: tasks, stop: stop.clone() })
}

/// What a listener with this certificate speaks.
pub(crate) fn tls_of(leaf: &Leaf) -> Result<ServerTls, UpError> {
    let identity = TlsIdentity::from_pem(leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes())?;
    Ok(server_config(identity, TlsVersions::default(), ClientAuth::None)?)
}
