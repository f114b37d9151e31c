//! Nothing that can be presented is ever in a log, a URL of ours, an error or `Debug`; and a store that fails.

use std::io::Write;
use std::sync::Mutex;

use portcullis_runtime::telemetry::{Level, LogConfig, LogFormat, init_logs};
use portcullis_storage::kernel::{Description, IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version};
use portcullis_storage::{KernelError, Snapshot, Trouble};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Of the whole process, so that the lines of the other tests are looked at as well.
#[tokio::test]
async fn logs_hold_no_secret() {
    let lines = Lines::default();
    let log =
        LogConfig { level: Level::DEBUG, format: LogFormat::Text, clock: Clock::mock(NOW).0, ..LogConfig::default() };
    init_logs(log, lines.clone()).unwrap();
    let world = World::new("oauth2: {passwordConnector: local}").await;
    let mut secrets = vec!["demo-secret".to_owned(), "password-that-is-wrong".to_owned(), HASH.to_owned()];
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid offline_access", &[]).await;
    secrets.extend(browser.cookies.values().cloned());
    browser.log_in(&url, "jane@example.com", "password-that-is-wrong").await;
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    secrets.push(query_of(&reply).get("hmac").to_owned());
    let reply = browser.finish(reply).await;
    let code = query_of(&reply).get("code").to_owned();
    let (_, tokens) = world.redeem(&code).await;
    world.redeem(&code).await;
    let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
    world.refresh(&refresh).await;
    world
        .token(&[
            ("grant_type", "password"),
            ("username", "jane@example.com"),
            ("password", "password-that-is-wrong"),
            ("scope", "openid"),
            ("client_id", "kubernetes"),
            ("client_secret", "demo-secret"),
        ])
        .await;
    world
        .token(&[
            ("grant_type", "refresh_token"),
            ("client_id", "kubernetes"),
            ("client_secret", "wrong-client-secret"),
        ])
        .await;
    world
        .get("/auth/local?client_id=kubernetes&redirect_uri=http://localhost:8000&state=state-is-private&scope=x", &[])
        .await;
    secrets.extend([code, refresh, "wrong-client-secret".to_owned(), "state-is-private".to_owned()]);
    secrets.extend(["id_token", "access_token"].map(|t| tokens[t].as_str().unwrap().to_owned()));
    assert!(!format!("{:?} {:?}", world.provider, world.provider.app().config).contains("demo-secret"));
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.contains("login successful")
            && text.contains("failed login attempt: Invalid credentials.")
            && text.contains("a code was used again"),
        "{text}"
    );
    for secret in secrets {
        assert!(!text.contains(&secret), "{secret} is in\n{text}");
    }
}

#[tokio::test]
async fn our_own_urls_hold_no_secret_that_outlives_the_step() {
    let world = World::new("").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let csrf = hidden(&browser.get(&url).await, "csrf");
    let value = browser.cookies.values().next().unwrap().clone();
    assert!(!url.contains(&csrf) && !url.contains(&value));
}

/// A store that answers like one whose disk is gone, once told so.
struct Failing {
    inner: MemoryKernel,
    broken: std::sync::atomic::AtomicBool,
}

impl Failing {
    fn check<'a, T: Send + 'a>(&'a self, future: KernelFuture<'a, T>) -> KernelFuture<'a, T> {
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Box::pin(async { Err(KernelError::not_applied(Trouble::DiskFull)) });
        }
        future
    }
}

impl Kernel for Failing {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        self.check(self.inner.get(kind, id))
    }

    fn insert<'a>(
        &'a self,
        kind: Kind,
        id: &'a str,
        write: portcullis_storage::kernel::Write,
    ) -> KernelFuture<'a, Version> {
        self.check(self.inner.insert(kind, id, write))
    }

    fn update<'a>(
        &'a self,
        kind: Kind,
        id: &'a str,
        version: Version,
        write: portcullis_storage::kernel::Write,
    ) -> KernelFuture<'a, Version> {
        self.check(self.inner.update(kind, id, version, write))
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        self.check(self.inner.delete(kind, id, version))
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        self.check(self.inner.list(kind, page))
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        self.check(self.inner.by_index(kind, slot, key, page))
    }

    fn expire<'a>(&'a self, now: portcullis_runtime::Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        self.check(self.inner.expire(now, limit))
    }

    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        self.check(self.inner.snapshot())
    }

    fn description(&self) -> Description {
        self.inner.description()
    }
}

#[tokio::test]
async fn a_store_that_fails_is_a_page_or_a_server_error_without_internals() {
    let kernel = Arc::new(Failing { inner: MemoryKernel::new(), broken: false.into() });
    let world = World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
    let refresh = world.offline().await;
    let code = world.code("kubernetes", "openid", &[]).await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let form = browser.get(&url).await;
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    let go_on = location(&reply);
    let approval = location(&browser.get(&go_on).await);
    kernel.broken.store(true, std::sync::atomic::Ordering::SeqCst);

    let (csrf, action) = (hidden(&form, "csrf"), action(&form));
    for reply in [
        browser.post(&action, &[("csrf", &csrf), ("login", "jane@example.com"), ("password", "password")]).await,
        browser.get(&go_on).await,
        browser.get(&approval).await,
        browser.post(&approval, &[("approval", "approve")]).await,
        world.get("/auth?client_id=unknown", &[]).await,
    ] {
        let text = page(&reply);
        assert_eq!(reply.status(), 500, "{text}");
        assert!(text.contains("Database error.") && !text.contains("disk"), "{text}");
    }
    for (status, body) in [world.redeem(&code).await, world.refresh(&refresh).await] {
        assert_eq!((status, body), (500, serde_json::json!({"error": "server_error"})));
    }
    assert_eq!(world.get("/keys", &[]).await.status(), 200, "keys and discovery need no store");
    assert_eq!(world.get("/.well-known/openid-configuration", &[]).await.status(), 200);

    kernel.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(browser.post(&approval, &[("approval", "approve")]).await.status(), 303, "and it goes on afterwards");
    assert_eq!(world.redeem(&code).await.0, 200);
    assert_eq!(world.refresh(&refresh).await.0, 200);
}

#[tokio::test]
async fn health_follows_the_store() {
    let kernel = Arc::new(Failing { inner: MemoryKernel::new(), broken: false.into() });
    let (clock, _hand) = Clock::mock(NOW);
    let health = Health::new(clock.clone(), Duration::from_secs(15), Duration::from_secs(5));
    let config = config("");
    let store = Store::with_options(kernel.clone(), clock.clone(), Rng::seeded(1), config.store_options());
    let deps =
        ProviderDeps { metrics: Metrics::new(&clock), clock, rng: Rng::seeded(1), store, health: health.clone() };
    let provider = Provider::new(config, deps, ProviderOptions::default()).await.unwrap();
    let ask = async || {
        let inbound = Inbound {
            method: Method::GET,
            path: "/healthz".to_owned(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            secure: false,
            from: Source::default(),
        };
        provider.respond(&inbound).await
    };
    health.run_once().await;
    assert_eq!(ask().await.status(), 200);
    kernel.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    health.run_once().await;
    let reply = ask().await;
    assert_eq!((reply.status().as_u16(), page(&reply).contains("Health check failed.")), (500, true));
}
