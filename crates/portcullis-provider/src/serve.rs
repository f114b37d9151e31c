//! `portcullis serve FILE`: store, provider, listeners, until shutdown.

use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portcullis_runtime::server::{self, ServerLimits, Transport};
use portcullis_runtime::telemetry::{Health, Metrics};
use portcullis_runtime::tls::{ClientAuth, TlsError, TlsIdentity, TlsVersion, TlsVersions, server_config};
use portcullis_runtime::{Clock, Rng, Shutdown};
use portcullis_storage::{
    EtcdKernel, EtcdOpenError, Kernel, KubernetesError, KubernetesKernel, MemoryKernel, MySqlKernel, OpenError,
    PostgresKernel, SqlOpenError, SqliteKernel, SqliteOptions, Store, UseError,
};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};

use crate::config::{self, Config, Storage};
use crate::encryption::{self, EncryptionError};
use crate::provider::{BackgroundError, Provider, ProviderDeps, ProviderError, ProviderOptions};

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
    /// The etcd store cannot be opened.
    #[error("failed to initialize storage etcd")]
    Etcd(#[from] EtcdOpenError),
    /// The store on Kubernetes cannot be opened.
    #[error("failed to initialize storage kubernetes")]
    Kubernetes(#[from] KubernetesError),
    /// The database server cannot be used.
    #[error("failed to initialize storage")]
    Database(#[from] SqlOpenError),
    /// The store is being filled or is half-filled.
    #[error("failed to initialize storage")]
    Unusable(#[source] UseError),
    /// The store was filled, or is being filled, after the provider had started.
    #[error("the provider has ended, because its store is no longer the one that it has used")]
    Taken(#[source] UseError),
    /// The store's secrets cannot be sealed or opened.
    #[error("failed to initialize storage")]
    Encryption(#[from] EncryptionError),
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
            Self::Store { source: OpenError::FileLimit { .. }, .. } => {
                Some("raise that limit of this process; what the store has acknowledged is in it")
            }
            Self::Store { source: OpenError::ReadOnly { .. }, .. } => {
                Some("let this user write to the file and to its folder, or name another file")
            }
            Self::Store { source: OpenError::Locked { .. }, .. } => {
                Some("stop the other process; replicas need a database server, not a shared file")
            }
            Self::Store { source: OpenError::Missing { .. }, .. } => {
                Some("see storage.config.file; a relative path is looked up from the folder in which this command runs")
            }
            Self::Etcd(EtcdOpenError::Missing { .. }) => Some("see storage.config: endpoints and namespace"),
            Self::Database(SqlOpenError::Missing { .. }) => {
                Some("see storage.config: host, port and database, and the schema that the user finds first")
            }
            Self::Etcd(EtcdOpenError::Unusable { .. }) => Some(
                "check storage.config: endpoints (https:// for TLS), ssl, and username and password; and that etcd runs",
            ),
            Self::Kubernetes(error) => error.hint(),
            Self::Encryption(error) => error.hint(),
            Self::Unusable(error) | Self::Taken(error) => Some(error.hint()),
            Self::Database(SqlOpenError::Unreachable { .. }) => Some(
                "see that the server runs, that it can be reached from here, and that user, password and ssl.mode are right",
            ),
            Self::Database(SqlOpenError::Schema { .. }) => {
                Some("let the user make tables in that database, at least for the first start of each version")
            }
            Self::Listen { .. } => Some("stop what listens there, or configure another address"),
            Self::Store { .. } | Self::Etcd(_) | Self::Database(_) | Self::Provider(_) | Self::Tls(_) => None,
        }
    }
}

/// Opens the store that the configuration names, with its clients and users, and unlocks its secrets.
///
/// # Errors
/// When a file cannot be opened, a server not be used, or the keys that are configured do not open what is sealed; and when the
/// store is being filled or is half-filled (`docs/decisions/0042`).
pub async fn open_store(config: &Config, clock: Clock, rng: Rng) -> Result<Store, ServeError> {
    let kernel = open_kernel(&config.storage, &clock, &rng).await?;
    let store = Store::with_options(kernel, clock, rng.clone(), config.store_options());
    // Before anything else is written.
    store.leases().announce().await.map_err(ServeError::Unusable)?;
    encryption::unlock(&store, &config.encryption, &rng).await?;
    Ok(store)
}

/// As [`open_store`], for a tool that only looks: no record is written.
///
/// # Errors
/// As [`open_store`].
pub async fn look_at_store(config: &Config, clock: Clock, rng: Rng) -> Result<Store, ServeError> {
    let kernel = look_at_kernel(&config.storage, &clock, &rng).await?;
    let store = Store::with_options(kernel, clock, rng.clone(), config.store_options());
    encryption::look(&store, &config.encryption, &rng).await?;
    Ok(store)
}

/// Opens what the store's records are in. Makes the tables where there are none, and writes no record.
///
/// # Errors
/// When a file cannot be opened, or a server not be used.
pub async fn open_kernel(storage: &Storage, clock: &Clock, rng: &Rng) -> Result<Arc<dyn Kernel>, ServeError> {
    Ok(match storage {
        Storage::Memory => Arc::new(MemoryKernel::new()),
        Storage::Sqlite { file } => {
            let opened = SqliteKernel::open(file, clock, &SqliteOptions::default());
            Arc::new(opened.map_err(|source| ServeError::Store { file: file.clone(), source })?)
        }
        Storage::Etcd(options) => Arc::new(EtcdKernel::open(options.as_ref().clone()).await?),
        Storage::Kubernetes(options) => Arc::new(KubernetesKernel::open(options, clock, rng.clone()).await?),
        Storage::Postgres { server, options } => Arc::new(PostgresKernel::open(server, clock, options).await?),
        Storage::MySql { server, options } => Arc::new(MySqlKernel::open(server, clock, options).await?),
    })
}

/// Opens what the store's records are in, for a tool that only looks: where there is no store none is made, and no schema is
/// changed.
///
/// # Errors
/// When there is no store, or none that this version reads, or a server cannot be used.
pub async fn look_at_kernel(storage: &Storage, clock: &Clock, rng: &Rng) -> Result<Arc<dyn Kernel>, ServeError> {
    Ok(match storage {
        Storage::Memory => Arc::new(MemoryKernel::new()),
        Storage::Sqlite { file } => {
            let opened = SqliteKernel::look(file, clock, &SqliteOptions::default());
            Arc::new(opened.map_err(|source| ServeError::Store { file: file.clone(), source })?)
        }
        Storage::Etcd(options) => Arc::new(EtcdKernel::look(options.as_ref().clone()).await?),
        Storage::Kubernetes(options) => Arc::new(KubernetesKernel::look(options, clock, rng.clone()).await?),
        Storage::Postgres { server, options } => Arc::new(PostgresKernel::look(server, options).await?),
        Storage::MySql { server, options } => Arc::new(MySqlKernel::look(server, options).await?),
    })
}

/// Serves the configured listeners until `shutdown`.
///
/// # Errors
/// What keeps it from starting; see [`ServeError`].
pub async fn serve(config: Config, clock: Clock, rng: Rng, shutdown: Shutdown) -> Result<(), ServeError> {
    // Ended from inside too: by a store that is no longer to be used.
    let shutdown = shutdown.child();
    let web = config.web.clone();
    let telemetry = config.telemetry.clone();
    tracing::info!(issuer = config.issuer.as_str(), "config issuer");
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let store = open_store(&config, clock.clone(), rng.clone()).await?;
    if !matches!(config.storage, Storage::Memory) {
        encryption::announce_clear(&config.encryption);
    }
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
    let taken = Arc::new(OnceLock::new());
    let told = Arc::clone(&taken);
    tasks.spawn(async move {
        match background.wait().await {
            Ok(()) => {}
            Err(BackgroundError::Panicked(panic)) => resume_unwind(panic.into_panic()),
            Err(BackgroundError::Taken(error)) => drop(told.set(error)),
        }
    });
    while let Some(ended) = tasks.join_next().await {
        // The rest would serve with a part missing. Whoever has started the process sees its end, and starts it again.
        if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
            resume_unwind(panic);
        }
    }
    taken.get().map_or(Ok(()), |error| Err(ServeError::Taken(error.clone())))
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
