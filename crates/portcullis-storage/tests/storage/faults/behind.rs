//! Stores behind a proxy, on any server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_runtime::{Clock, MockClock, Rng, http_client::ProxyFromEnv};
use portcullis_storage::{
    Applied, CrdHandling, EtcdKernel, EtcdOptions, Kernel, KernelError, KubernetesAccess, KubernetesKernel,
    KubernetesOptions, SqlOptions, SqlTls, SqlTlsMode,
    kernel::{Kind, Version, Write},
};
use portcullis_testkit::{
    ControlPlane, DatabaseKind, DatabaseOptions, Etcd, FaultProxy, TempDir, TestCa, Traffic, Validity, temp_dir,
};

use crate::{
    kit::START,
    servers::{Server as Database, Way},
};

/// What the records of these tests are: no backend treats them as something special.
pub(super) const KIND: Kind = Kind::Family;

/// How long an operation may take in a store with little patience.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// No kernel trusts a connection that was idle for this long without a look at it.
pub(super) const IDLE: Duration = Duration::from_millis(1_100);
/// How soon a kernel works again when its server does.
pub(super) const RECOVERY: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug)]
pub(super) enum Backend {
    Postgres,
    MariaDb,
    Etcd,
    Kubernetes,
}

impl Backend {
    pub(super) const ALL: [Self; 4] = [Self::Postgres, Self::MariaDb, Self::Etcd, Self::Kubernetes];
}

/// A running server of a backend.
pub(super) struct Server {
    running: Running,
    stores: AtomicUsize,
}

enum Running {
    Database { server: Database, tls: SqlTls, _folder: TempDir },
    Etcd(Etcd),
    Kubernetes(ControlPlane),
}

impl Server {
    pub(super) async fn start(backend: Backend) -> Self {
        let running = match backend {
            Backend::Postgres => database(DatabaseKind::Postgres),
            Backend::MariaDb => database(DatabaseKind::MariaDb),
            Backend::Etcd => Running::Etcd(Etcd::start().await),
            Backend::Kubernetes => Running::Kubernetes(ControlPlane::start(&[]).await),
        };
        Self { running, stores: AtomicUsize::new(0) }
    }

    fn address(&self) -> SocketAddr {
        match &self.running {
            Running::Database { server, .. } => (Ipv4Addr::LOCALHOST, server.database.port()).into(),
            Running::Etcd(etcd) => etcd.address(),
            Running::Kubernetes(plane) => (Ipv4Addr::LOCALHOST, plane.port()).into(),
        }
    }

    /// An empty store whose operations may take as long as they usually may.
    pub(super) async fn store(&self) -> Behind {
        self.behind(None).await
    }

    /// An empty store whose operations may take [`PATIENCE`].
    pub(super) async fn hasty_store(&self) -> Behind {
        self.behind(Some(PATIENCE)).await
    }

    async fn behind(&self, answer_time: Option<Duration>) -> Behind {
        let name = match &self.running {
            Running::Database { server, .. } => server.fresh(),
            Running::Etcd(_) | Running::Kubernetes(_) => {
                format!("faults-{}", self.stores.fetch_add(1, Ordering::Relaxed))
            }
        };
        let proxy = Arc::new(FaultProxy::start(self.address()).await);
        let (clock, hand) = Clock::mock(START);
        let direct = self.open(&name, self.address().port(), &clock, None).await;
        let kernel = self.open(&name, proxy.address().port(), &clock, answer_time).await;
        Behind { proxy, kernel, direct, clock, hand, warmed: AtomicUsize::new(0) }
    }

    /// Opens a store by way of a port, and makes what it needs when nobody has before.
    async fn open(&self, name: &str, port: u16, clock: &Clock, answer_time: Option<Duration>) -> Arc<dyn Kernel> {
        match &self.running {
            Running::Database { server, tls, .. } => {
                let mut options = SqlOptions::default();
                options.answer_time = answer_time.unwrap_or(options.answer_time);
                server.open(name, &Way { port, tls: tls.clone(), options, ..server.way() }).await.unwrap()
            }
            Running::Etcd(_) => {
                let mut options = EtcdOptions {
                    endpoints: vec![format!("http://127.0.0.1:{port}")],
                    namespace: format!("{name}/"),
                    ..EtcdOptions::default()
                };
                options.answer_time = answer_time.unwrap_or(options.answer_time);
                Arc::new(EtcdKernel::open(options).await.unwrap())
            }
            Running::Kubernetes(plane) => {
                let file = kubeconfig(plane, name, port);
                let access = KubernetesAccess::Kubeconfig { file, proxy: ProxyFromEnv::default() };
                let mut options = KubernetesOptions::new(access, CrdHandling::Ensure);
                options.answer_time = answer_time.unwrap_or(options.answer_time);
                options.scan_time = answer_time.unwrap_or(options.scan_time);
                Arc::new(KubernetesKernel::open(&options, clock, Rng::system()).await.unwrap())
            }
        }
    }
}

fn database(kind: DatabaseKind) -> Running {
    let (ca, folder) = (TestCa::new("databases"), temp_dir());
    let leaf = ca.server_for(&["127.0.0.1"], Validity::Now);
    let options = DatabaseOptions { tls: Some(&ca), certificate: Some(&leaf), ..DatabaseOptions::default() };
    let server = Database::with(kind, options);
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ca.pem()).unwrap();
    let tls = SqlTls { mode: SqlTlsMode::Full, ca_file: Some(ca_file), client: None };
    Running::Database { server, tls, _folder: folder }
}

/// The administrator's, in a namespace of its own, by way of a port.
fn kubeconfig(plane: &ControlPlane, namespace: &str, port: u16) -> PathBuf {
    let administrator = plane.admin_kubeconfig();
    let file = plane.folder().join(format!("{namespace}-{port}.kubeconfig"));
    let text = std::fs::read_to_string(&administrator).unwrap();
    let text = text
        .replace("    user: admin\n", &format!("    user: admin\n    namespace: {namespace}\n"))
        .replace(plane.url(), &format!("https://127.0.0.1:{port}"));
    std::fs::write(&file, text).unwrap();
    if port == plane.port() {
        let made = plane.kubectl(&administrator).args(["create", "namespace", namespace]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    file
}

/// A store behind a proxy, and the same store without it.
pub(super) struct Behind {
    pub(super) proxy: Arc<FaultProxy>,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) direct: Arc<dyn Kernel>,
    pub(super) clock: Clock,
    pub(super) hand: MockClock,
    warmed: AtomicUsize,
}

impl Behind {
    /// Has every operation carried out once, so that a connection is there which has been used for all of them. On a busy machine
    /// a store with little patience needs more than one attempt.
    pub(super) async fn warm(&self) {
        assert_eq!(self.proxy.traffic(), Traffic::Pass);
        let begun = Instant::now();
        while let Err(error) = self.every_operation().await {
            assert!(begun.elapsed() < RECOVERY, "{error}");
        }
    }

    async fn every_operation(&self) -> Result<(), KernelError> {
        let id = format!("warm {}", self.warmed.fetch_add(1, Ordering::Relaxed));
        let version = self.kernel.insert(KIND, &id, write("")).await?;
        let version = self.kernel.update(KIND, &id, version, write("x")).await?;
        self.kernel.delete(KIND, &id, version).await?;
        assert_eq!(self.kernel.get(KIND, &id).await?, None);
        Ok(())
    }

    /// A record that is there, written straight to the server.
    pub(super) async fn there(&self, id: &str, data: &str) -> Version {
        self.direct.insert(KIND, id, write(data)).await.unwrap()
    }

    /// What is really there.
    pub(super) async fn data(&self, id: &str) -> Option<String> {
        let record = self.direct.get(KIND, id).await.unwrap();
        record.map(|record| String::from_utf8(record.data).unwrap())
    }
}

pub(super) fn write(data: &str) -> Write {
    Write { data: data.into(), ..Write::default() }
}

/// A write, to be carried out through a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Insert,
    Update,
    Delete,
}

impl Op {
    pub(super) const ALL: [Self; 3] = [Self::Insert, Self::Update, Self::Delete];

    pub(super) async fn run(self, kernel: &dyn Kernel, id: &str, version: Version) -> Result<(), KernelError> {
        match self {
            Self::Insert => kernel.insert(KIND, id, write("new")).await.map(drop),
            Self::Update => kernel.update(KIND, id, version, write("new")).await.map(drop),
            Self::Delete => kernel.delete(KIND, id, version).await,
        }
    }

    /// What is there before it, and after it has happened once.
    pub(super) const fn effect(self) -> (Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Insert => (None, Some("new")),
            Self::Update => (Some("old"), Some("new")),
            Self::Delete => (Some("old"), None),
        }
    }

    /// What somebody is told who does it again.
    pub(super) const fn repeated(self) -> KernelError {
        match self {
            Self::Insert => KernelError::AlreadyExists,
            Self::Update => KernelError::Conflict,
            Self::Delete => KernelError::NotFound,
        }
    }

    /// Makes what is there before it, through the kernel, so that this knows the record (etcd's reads what it does not know).
    pub(super) async fn prepare(self, store: &Behind, id: &str) -> Version {
        match self.effect().0 {
            Some(data) => store.kernel.insert(KIND, id, write(data)).await.unwrap(),
            None => Version::new(0),
        }
    }
}

/// Whether a failure says that the write may have happened; `None` for whatever is no failure of the store's.
pub(super) const fn applied<T>(result: &Result<T, KernelError>) -> Option<Applied> {
    match result {
        Err(KernelError::Unavailable { applied, .. }) => Some(*applied),
        _ => None,
    }
}
