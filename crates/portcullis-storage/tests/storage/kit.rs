//! Stores for tests: on memory or on a SQLite file, behind a kernel that can lose requests, with a clock that stands
//! still.

use std::{sync::Arc, time::Duration};

use portcullis_runtime::{Clock, MockClock, Rng, Secret, Timestamp};
use portcullis_storage::{
    CodeRequest, Identity, Kernel, MemoryKernel, NewFamily, NewLogin, Pkce, RefreshError, RefreshToken, Refreshed,
    RotationPolicy, SecretBytes, SqliteKernel, SqliteOptions, Store, StoreOptions,
    conformance::FaultyKernel,
    kernel::{Kind, Page},
};

pub(crate) const START: i64 = 1_800_000_000;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Backend {
    Memory,
    Sqlite,
}

pub(crate) struct Kit {
    pub(crate) store: Store,
    pub(crate) faults: Arc<FaultyKernel>,
    pub(crate) hand: MockClock,
    clock: Clock,
    _folder: Option<tempfile::TempDir>,
}

impl Kit {
    pub(crate) fn new(backend: Backend) -> Self {
        Self::with(backend, StoreOptions::default())
    }

    pub(crate) fn with(backend: Backend, options: StoreOptions) -> Self {
        let (clock, hand) = Clock::mock(START);
        let (kernel, folder): (Arc<dyn Kernel>, _) = match backend {
            Backend::Memory => (Arc::new(MemoryKernel::new()), None),
            Backend::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let kernel = SqliteKernel::open(&folder.path().join("store.db"), &clock, &SqliteOptions::default());
                (Arc::new(kernel.unwrap()), Some(folder))
            }
        };
        Self::assemble(kernel, folder, (clock, hand), options)
    }

    /// On an empty store that somebody else has opened.
    pub(crate) fn on(kernel: Arc<dyn Kernel>) -> Self {
        Self::at(kernel, Clock::mock(START))
    }

    /// The same with the clock that the kernel has.
    pub(crate) fn at(kernel: Arc<dyn Kernel>, clock: (Clock, MockClock)) -> Self {
        Self::assemble(kernel, None, clock, StoreOptions::default())
    }

    fn assemble(
        kernel: Arc<dyn Kernel>,
        folder: Option<tempfile::TempDir>,
        (clock, hand): (Clock, MockClock),
        options: StoreOptions,
    ) -> Self {
        let faults = Arc::new(FaultyKernel::new(kernel, 1));
        let kernel: Arc<dyn Kernel> = Arc::clone(&faults) as _;
        let store = Store::with_options(kernel, clock.clone(), Rng::seeded(1), options);
        Self { store, faults, hand, clock, _folder: folder }
    }

    /// Another replica on the same kernel.
    pub(crate) fn replica(&self, seed: u64, options: StoreOptions) -> Store {
        let kernel: Arc<dyn Kernel> = Arc::clone(&self.faults) as _;
        Store::with_options(kernel, self.clock.clone(), Rng::seeded(seed), options)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.hand.now()
    }

    /// Everything that is stored, as one text.
    pub(crate) async fn dump(&self) -> String {
        let mut all = String::new();
        for kind in Kind::ALL {
            let listing = self.store.kernel().list(kind, Page::first(1000)).await.unwrap();
            assert!(listing.next.is_none());
            for record in listing.records {
                all.push_str(&format!("{kind} {} {}\n", record.id, String::from_utf8(record.data).unwrap()));
            }
        }
        all
    }

    pub(crate) async fn count(&self, kind: Kind) -> usize {
        self.store.kernel().list(kind, Page::first(1000)).await.unwrap().records.len()
    }

    /// A code for a sign-in under `flow`, for the client `app`.
    pub(crate) async fn code(&self, flow: &str) -> Secret {
        let code = self.store.codes().new_code();
        self.store.logins().begin(flow, new_login(true), self.now() + 15 * MINUTE).await.unwrap();
        self.store.logins().issue_code(flow, &code, code_request(), 10 * MINUTE).await.unwrap();
        code
    }

    pub(crate) async fn family(&self) -> RefreshToken {
        let id = self.store.families().new_id();
        self.store.families().create(&id, new_family("app"), &policy()).await.unwrap()
    }

    pub(crate) async fn refresh(&self, token: &RefreshToken) -> Result<RefreshToken, RefreshError> {
        refresh(&self.store, token, &policy()).await
    }
}

/// A store for tools, by the system's clock.
pub(crate) fn tool_on(kernel: &Arc<dyn Kernel>) -> Store {
    Store::new(Arc::clone(kernel), Clock::system(), Rng::system())
}

pub(crate) async fn refresh(
    store: &Store,
    token: &RefreshToken,
    policy: &RotationPolicy,
) -> Result<RefreshToken, RefreshError> {
    let open = store.families().open(token, "app", policy).await?;
    store.families().advance(open, policy, Refreshed::default()).await
}

pub(crate) fn policy() -> RotationPolicy {
    RotationPolicy::default()
}

pub(crate) fn identity() -> Identity {
    Identity {
        user_id: "u1".to_owned(),
        username: "admin".to_owned(),
        email: "admin@example.com".to_owned(),
        email_verified: true,
        groups: vec!["ops".to_owned(), "dev".to_owned()],
        ..Identity::default()
    }
}

pub(crate) fn new_login(approved: bool) -> NewLogin {
    NewLogin {
        client_id: "app".to_owned(),
        connector_id: "local".to_owned(),
        connector_data: Some(SecretBytes::from(&b"upstream secret"[..])),
        identity: identity(),
        auth_time: Timestamp::from_unix_seconds(START),
        approved,
    }
}

pub(crate) fn code_request() -> CodeRequest {
    CodeRequest {
        redirect_uri: "http://localhost:8000".to_owned(),
        scopes: vec!["openid".to_owned(), "offline_access".to_owned()],
        nonce: "n".to_owned(),
        pkce: Some(Pkce { challenge: "c".to_owned(), method: "S256".to_owned() }),
    }
}

pub(crate) fn new_family(client_id: &str) -> NewFamily {
    NewFamily {
        client_id: client_id.to_owned(),
        connector_id: "local".to_owned(),
        connector_data: Some(SecretBytes::from(&b"upstream secret"[..])),
        identity: identity(),
        scopes: vec!["openid".to_owned()],
        nonce: "n".to_owned(),
        auth_time: Timestamp::from_unix_seconds(START),
    }
}

/// Runs each of the named checks on every backend; on a server (`facades.rs`) one after the other, each in an empty store.
macro_rules! on_every_backend {
    ($($check:ident),+ $(,)?) => {
        pub(crate) async fn on_a_server(fresh: &impl AsyncFn() -> std::sync::Arc<dyn portcullis_storage::Kernel>) {
            $(
                println!("{}", stringify!($check));
                $check($crate::kit::Kit::on(fresh().await)).await;
            )+
        }
        mod on_memory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    super::$check($crate::kit::Kit::new($crate::kit::Backend::Memory)).await;
                }
            )+
        }
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    super::$check($crate::kit::Kit::new($crate::kit::Backend::Sqlite)).await;
                }
            )+
        }
    };
}
pub(crate) use on_every_backend;
