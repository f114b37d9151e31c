//! `portcullis serve FILE`: store, provider, listeners, until shutdown.

use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::server::{self, ServerLimits, Transport};
use portcullis_runtime::telemetry::{Health, Metrics};
use portcullis_runtime::tls::{ClientAuth, TlsError, TlsIdentity, TlsVersion, TlsVersions, server_config};
use portcullis_runtime::{Clock, Rng, Shutdown};
use portcullis_storage::{Kernel, MemoryKernel, OpenError, SqliteKernel, SqliteOptions, Store};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};

use crate::config::{self, Config, Storage};
use crate::provider::{Provider, ProviderDeps, ProviderError, ProviderOptions};

/// How often health checks run, as Dex.
const HEALTH_EVERY: Duration = Duration::from_secs(15);
/// How long one may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// The provider cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store's file cannot be opened.
    #[error("failed to initialize storage {file}", file = .file.display())]
    Store {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// The provider cannot be made.
    #[error("failed to initialize server")]
    Provider(#[from] ProviderError),
    /// An address cannot be listened on.
    #[error("listen ({what}) on {addr}")]
    Listen {
        /// `http`, `https` or `telemetry`.
        what: &'static str,
        /// The address as configured.
        addr: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("invalid config: get HTTP TLS")]
    Tls(#[from] TlsError),
}

impl ServeError {
    /// What the user can do about it, where the text does not say it already.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store { source: OpenError::DiskFull { .. }, .. } => {
                Some("free some disk space, or name a file on another disk; what the store has acknowledged is in it")
            }
            Self::Store { source: OpenError::ReadOnly { .. }, .. } => {
                Some("let this user write to the file and to its folder, or name another file")
            }
            Self::Store { source: OpenError::Locked { .. }, .. } => {
                Some("stop the other process; replicas need a database server, not a shared file")
            }
            Self::Listen { .. } => Some("stop what listens there, or configure another address"),
            Self::Store { .. } | Self::Provider(_) | Self::Tls(_) => None,
        }
    }
}

/// Opens the store that the configuration names, with its clients and users.
///
/// # Errors
/// When a file cannot be opened.
pub fn open_store(config: &Config, clock: Clock, rng: Rng) -> Result<Store, ServeError> {
    let kernel: Arc<dyn Kernel> = match &config.storage {
        Storage::Memory => Arc::new(MemoryKernel::new()),
        Storage::Sqlite { file } => {
            let opened = SqliteKernel::open(file, &clock, &SqliteOptions::default());
            Arc::new(opened.map_err(|source| ServeError::Store { file: file.clone(), source })?)
        }
    };
    Ok(Store::with_options(kernel, clock, rng, config.store_options()))
}

/// Serves the configured listeners until `shutdown`.
///
/// # Errors
/// What keeps it from starting; see [`ServeError`].
pub async fn serve(config: Config, clock: Clock, rng: Rng, shutdown: Shutdown) -> Result<(), ServeError> {
    let web = config.web.clone();
    let telemetry = config.telemetry.clone();
    tracing::info!(issuer = config.issuer.as_str(), "config issuer");
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let store = open_store(&config, clock.clone(), rng.clone())?;
    let health = Health::new(clock.clone(), HEALTH_EVERY, HEALTH_TIMEOUT);
    let deps = ProviderDeps { metrics: Metrics::new(&clock), clock, rng, store, health };
    let provider = Provider::new(config, deps, ProviderOptions::default()).await?;

    let mut tasks = JoinSet::new();
    if let Some(addr) = &telemetry {
        let listener = listen("telemetry", addr).await?;
        tasks.spawn(server::serve(
            listener,
            Transport::Plain,
            provider.telemetry_handler(),
            ServerLimits::default(),
            shutdown.clone(),
        ));
    }
    if let Some(addr) = &web.http {
        let listener = listen("http", addr).await?;
        tasks.spawn(server::serve(
            listener,
            Transport::Plain,
            provider.handler(),
            ServerLimits::default(),
            shutdown.clone(),
        ));
    }
    if let Some(https) = &web.https {
        let identity = TlsIdentity::from_files(&https.cert, &https.key)?;
        let versions = TlsVersions { min: version(https.min), max: version(https.max) };
        let tls = server_config(identity.clone(), versions, ClientAuth::None)?;
        let listener = listen("https", &https.addr).await?;
        tasks.spawn(identity.watch(shutdown.clone()));
        tasks.spawn(server::serve(
            listener,
            Transport::Tls(tls),
            provider.handler(),
            ServerLimits::default(),
            shutdown.clone(),
        ));
    }
    // After the listeners: the second key is made off the way to readiness.
    let background = provider.start(&shutdown);
    tasks.spawn(async move {
        if let Err(panic) = background.wait().await.map_err(JoinError::into_panic) {
            resume_unwind(panic);
        }
    });
    while let Some(ended) = tasks.join_next().await {
        // The rest would serve with a part missing. Whoever has started the process sees its end, and starts it again.
        if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
            resume_unwind(panic);
        }
    }
    Ok(())
}

const fn version(version: config::TlsVersion) -> TlsVersion {
    match version {
        config::TlsVersion::V12 => TlsVersion::V1_2,
        config::TlsVersion::V13 => TlsVersion::V1_3,
    }
}

/// Listens on an address in Go's form: the host may be a name, or empty for all addresses.
async fn listen(what: &'static str, addr: &str) -> Result<TcpListener, ServeError> {
    let failed = |source| ServeError::Listen { what, addr: addr.to_owned(), source };
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in resolve(addr).await.map_err(failed)? {
        match server::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().map_err(failed)?;
                tracing::info!(server = what, address = %address, "listening on");
                return Ok(listener);
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

async fn resolve(addr: &str) -> io::Result<Vec<SocketAddr>> {
    match addr.strip_prefix(':') {
        // Both families where there are both, or IPv4 alone.
        Some(port) => {
            Ok([format!("[::]:{port}"), format!("0.0.0.0:{port}")].iter().filter_map(|a| a.parse().ok()).collect())
        }
        None => Ok(tokio::net::lookup_host(addr).await?.collect()),
    }
}
