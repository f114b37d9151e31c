//! Wrong passwords, delays, and a pool that is full.

use portcullis_storage::kernel::{
    Description, IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write,
};
use portcullis_storage::{KernelError, Snapshot, Trouble};

use super::*;

#[tokio::test]
async fn wrong_passwords_and_unknown_names_get_the_same_page_with_the_name_kept() {
    let world = World::new("").await;
    let mut pages = Vec::new();
    for (login, password) in [
        ("jane@example.com", "wrong"),
        ("nobody@example.com", "password"),
        ("jane@example.com", ""),
        ("", "password"),
        ("jane@example.com", "password\u{0}"),
        (&"x".repeat(5000), "x"),
    ] {
        let mut browser = world.browser();
        let url = browser.start("kubernetes", "openid", &[]).await;
        let reply = browser.log_in(&url, login, password).await;
        let text = page(&reply);
        assert_eq!(reply.status(), 401, "{login}");
        assert!(
            text.contains("role=\"alert\">Invalid Email Address and password.<")
                && text.contains("to continue to <strong>Kubernetes</strong>"),
            "{text}"
        );
        assert!(text.contains(&format!("value=\"{login}\"")));
        pages.push(text.replace(login, "").len());
        // The form works again.
        let reply = browser.log_in(&url, "jane@example.com", "password").await;
        assert_eq!(reply.status(), 303);
    }
}

#[tokio::test]
async fn after_ten_failures_an_account_waits_and_is_never_locked() {
    for name in ["jane@example.com", "nobody@example.com"] {
        let world = World::new("").await;
        let mut browser = world.browser();
        let url = browser.start("kubernetes", "openid", &[]).await;
        for _ in 0..10 {
            assert_eq!(browser.log_in(&url, name, "wrong").await.status(), 401);
        }
        let reply = browser.log_in(&url, name, "password").await;
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["retry-after"]),
            (429, &HeaderValue::from_static("1")),
            "{name}"
        );
        assert!(page(&reply).contains("Too many attempts. Please wait 1 second and try again."), "{}", page(&reply));
        assert_eq!(browser.log_in(&url, "joe@example.com", "wrong").await.status(), 401, "others are not concerned");
        world.clock.advance(Duration::from_secs(1));
        let reply = browser.log_in(&url, name, "password").await;
        assert_eq!(reply.status().as_u16(), if name.starts_with("jane") { 303 } else { 401 });
    }
}

#[tokio::test]
async fn an_address_gets_its_share_of_attempts() {
    let world = World::new("portcullis: {passwords: {attemptsPerMinute: 3}}").await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    for i in 0..3 {
        assert_eq!(browser.log_in(&url, &format!("u{i}@example.com"), "x").await.status(), 401);
    }
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &HeaderValue::from_static("20")));
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(browser.log_in(&url, "jane@example.com", "password").await.status(), 303);
}

/// Wrong passwords for Jane from an address, until she is in the longest delay there.
async fn harass(world: &World, from: Source, more: usize) {
    let mut stranger = Browser { from, ..world.browser() };
    let url = stranger.start("kubernetes", "openid", &[]).await;
    for _ in 0..10 + more {
        let reply = stranger.log_in(&url, "jane@example.com", "wrong").await;
        if let Some(wait) = reply.headers().get("retry-after") {
            world.clock.advance(Duration::from_secs(wait.to_str().unwrap().parse().unwrap()));
            assert_eq!(stranger.log_in(&url, "jane@example.com", "wrong").await.status(), 401);
        }
    }
}

#[tokio::test]
async fn strangers_keep_nobody_out_of_a_browser_that_has_signed_in_before() {
    let world = World::new("portcullis: {passwords: {attemptsPerMinute: 1000}}").await;
    let mut owner = world.browser();
    assert_eq!(owner.sign_in("kubernetes", "openid", &[]).await.status(), 303);
    // From several addresses, the owner's own among them.
    for from in ["198.51.100.1", "198.51.100.2", "192.0.2.7"] {
        harass(&world, address(from), 4).await;
    }
    let mut new = world.browser();
    let url = new.start("kubernetes", "openid", &[]).await;
    assert_eq!(new.log_in(&url, "jane@example.com", "password").await.status(), 429);
    for _ in 0..3 {
        let url = owner.start("kubernetes", "openid", &[]).await;
        assert_eq!(owner.log_in(&url, "jane@example.com", "password").await.status(), 303);
    }
    // The cookie is worth nothing at another account.
    let url = owner.start("kubernetes", "openid", &[]).await;
    for _ in 0..10 {
        assert_eq!(owner.log_in(&url, "joe@example.com", "wrong").await.status(), 401);
    }
    assert_eq!(owner.log_in(&url, "joe@example.com", "password").await.status(), 429);
}

#[tokio::test]
async fn a_browser_that_has_signed_in_before_may_not_guess_more_than_a_stranger() {
    let world = World::new("portcullis: {passwords: {attemptsPerMinute: 1000}}").await;
    let mut browser = world.browser();
    browser.sign_in("kubernetes", "openid", &[]).await;
    let url = browser.start("kubernetes", "openid", &[]).await;
    for _ in 0..10 {
        assert_eq!(browser.log_in(&url, "jane@example.com", "wrong").await.status(), 401);
    }
    let reply = browser.log_in(&url, "jane@example.com", "password").await;
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &HeaderValue::from_static("1")));
}

#[tokio::test]
async fn a_stranger_at_one_address_keeps_nobody_out_elsewhere() {
    let world = World::new("portcullis: {passwords: {attemptsPerMinute: 1000}}").await;
    harass(&world, address("198.51.100.1"), 6).await;
    let mut owner = world.browser();
    let url = owner.start("kubernetes", "openid", &[]).await;
    let reply = owner.log_in(&url, "jane@example.com", "password").await;
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &HeaderValue::from_static("15")));
    world.clock.advance(Duration::from_secs(15));
    let mut stranger = Browser { from: address("198.51.100.1"), ..world.browser() };
    let other = stranger.start("kubernetes", "openid", &[]).await;
    assert_eq!(stranger.log_in(&other, "jane@example.com", "wrong").await.status(), 429, "not the stranger's turn yet");
    assert_eq!(owner.log_in(&url, "jane@example.com", "password").await.status(), 303);
}

#[tokio::test]
async fn behind_a_proxy_that_is_not_named_one_stranger_keeps_nobody_out() {
    let world = World::new("").await;
    let behind = |n: u32| Source { claimed: Some(std::net::IpAddr::V4(n.into())), ..address("10.0.0.5") };
    let mut stranger = Browser { from: behind(1), ..world.browser() };
    let url = stranger.start("kubernetes", "openid", &[]).await;
    let mut made = 0;
    while stranger.log_in(&url, &format!("u{made}@example.com"), "wrong").await.status() == 401 {
        made += 1;
        assert!(made < 60);
    }
    for number in 2..5 {
        let mut other = Browser { from: behind(number), ..world.browser() };
        let url = other.start("kubernetes", "openid", &[]).await;
        assert_eq!(other.log_in(&url, "jane@example.com", "password").await.status(), 303, "{number}");
    }
    assert_eq!(stranger.log_in(&url, "jane@example.com", "password").await.status(), 429, "and is kept out meanwhile");
}

#[tokio::test]
async fn sign_ins_of_many_people_at_one_address_are_not_guesses() {
    let world = World::new("portcullis: {passwords: {attemptsPerMinute: 3}}").await;
    for _ in 0..9 {
        let mut browser = world.browser();
        assert_eq!(browser.sign_in("kubernetes", "openid", &[]).await.status(), 303);
    }
}

/// A store that says what it was asked, and in which no failure can be written: it refuses, or keeps its writers waiting
/// for ever, or until they are let go after they have written.
struct NoFailures {
    inner: MemoryKernel,
    state: std::sync::atomic::AtomicU8,
    asked: std::sync::Mutex<Vec<(&'static str, Kind)>>,
    written: tokio::sync::Notify,
    go: tokio::sync::Notify,
}

impl NoFailures {
    const WORKS: u8 = 0;
    const FULL: u8 = 1;
    const HANGS: u8 = 2;
    const HOLDS: u8 = 3;

    fn new(state: u8) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryKernel::new(),
            state: state.into(),
            asked: std::sync::Mutex::default(),
            written: tokio::sync::Notify::new(),
            go: tokio::sync::Notify::new(),
        })
    }

    fn set(&self, state: u8) {
        self.state.store(state, std::sync::atomic::Ordering::SeqCst);
    }

    /// What it was asked since the last call.
    fn take_asked(&self) -> Vec<(&'static str, Kind)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn check<'a, T: Send + 'a>(&'a self, kind: Kind, future: KernelFuture<'a, T>) -> KernelFuture<'a, T> {
        self.asked.lock().unwrap().push(("write", kind));
        match self.state.load(std::sync::atomic::Ordering::SeqCst) {
            Self::FULL if kind == Kind::Failures => {
                Box::pin(async { Err(KernelError::not_applied(Trouble::DiskFull)) })
            }
            Self::HANGS if kind == Kind::Failures => Box::pin(std::future::pending()),
            Self::HOLDS if kind == Kind::Failures => Box::pin(async move {
                let done = future.await;
                self.written.notify_one();
                self.go.notified().await;
                done
            }),
            _ => future,
        }
    }
}

impl Kernel for NoFailures {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        self.asked.lock().unwrap().push(("read", kind));
        self.inner.get(kind, id)
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        self.check(kind, self.inner.insert(kind, id, write))
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version> {
        self.check(kind, self.inner.update(kind, id, version, write))
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        self.check(kind, self.inner.delete(kind, id, version))
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        self.inner.list(kind, page)
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        self.inner.by_index(kind, slot, key, page)
    }

    fn expire<'a>(&'a self, now: portcullis_runtime::Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        self.inner.expire(now, limit)
    }

    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        self.inner.snapshot()
    }

    fn description(&self) -> Description {
        self.inner.description()
    }
}

#[tokio::test]
async fn a_failure_waits_for_no_write_and_counts_whether_or_not_it_can_be_written() {
    for state in [NoFailures::FULL, NoFailures::HANGS] {
        for name in ["jane@example.com", "nobody@example.com"] {
            let kernel = NoFailures::new(state);
            let world = World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
            let shutdown = portcullis_runtime::Shutdown::new();
            let background = world.provider.start(&shutdown);
            let mut browser = world.browser();
            let url = browser.start("kubernetes", "openid", &[]).await;
            for _ in 0..10 {
                assert_eq!(browser.log_in(&url, name, "wrong").await.status(), 401, "{name}");
            }
            assert_eq!(browser.log_in(&url, name, "wrong").await.status(), 429, "{name}");
            shutdown.trigger();
            if state == NoFailures::FULL {
                background.wait().await.unwrap();
            }
        }
    }
}

/// A shutdown that comes between a write and its answer.
#[tokio::test]
async fn a_failure_that_is_being_written_at_shutdown_counts_once() {
    let kernel = NoFailures::new(NoFailures::HOLDS);
    let world = World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    assert_eq!(browser.log_in(&url, "jane@example.com", "wrong").await.status(), 401);
    let shutdown = portcullis_runtime::Shutdown::new();
    let background = world.provider.start(&shutdown);
    kernel.written.notified().await;
    shutdown.trigger();
    // Long enough for every task to have heard of it.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    kernel.set(NoFailures::WORKS);
    kernel.go.notify_one();
    background.wait().await.unwrap();
    let (clock, _hand) = Clock::mock(world.clock.now().unix_seconds());
    let replica = Store::new(kernel, clock, Rng::seeded(9));
    let jane = portcullis_storage::Subject::Account("jane@example.com");
    assert_eq!(replica.failures().of(jane, Duration::from_secs(300)).await.unwrap().count, 1);
}

#[tokio::test]
async fn names_that_exist_and_names_that_do_not_ask_the_store_the_same() {
    let kernel = NoFailures::new(NoFailures::WORKS);
    let world = World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
    let stored = portcullis_storage::Password {
        email: "stored@example.com".into(),
        hash: HASH.into(),
        user_id: "u9".into(),
        ..Default::default()
    };
    world.provider.app().store.passwords().create(&stored).await.unwrap();
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    let form = browser.get(&url).await;
    let (csrf, action) = (hidden(&form, "csrf"), action(&form));
    let mut asked = Vec::new();
    for name in ["jane@example.com", "stored@example.com", "nobody@example.com"] {
        kernel.take_asked();
        let mut statuses = Vec::new();
        let mut of_name = Vec::new();
        for _ in 0..12 {
            let fields = [("csrf", csrf.as_str()), ("login", name), ("password", "wrong")];
            statuses.push(browser.post(&action, &fields).await.status().as_u16());
            of_name.push(kernel.take_asked());
        }
        assert_eq!(statuses, [[401; 10].as_slice(), &[429; 2]].concat(), "{name}");
        assert!(of_name.iter().flatten().all(|(what, _)| *what == "read"), "{name}: {of_name:?}");
        asked.push(of_name);
    }
    assert_eq!(asked[0], asked[2], "a user of the file");
    assert_eq!(asked[1], asked[2], "a stored user");
}

#[tokio::test]
async fn failures_are_written_when_there_is_room_again() {
    let kernel = NoFailures::new(NoFailures::FULL);
    let world = World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
    let shutdown = portcullis_runtime::Shutdown::new();
    let background = world.provider.start(&shutdown);
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    for _ in 0..10 {
        assert_eq!(browser.log_in(&url, "jane@example.com", "wrong").await.status(), 401);
        world.clock.advance(Duration::from_secs(2));
        tokio::task::yield_now().await;
    }
    let written = async || kernel.inner.list(Kind::Failures, Page::first(10)).await.unwrap().records.len();
    assert_eq!(written().await, 0);
    kernel.set(NoFailures::WORKS);
    while written().await == 0 {
        world.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    // Another replica knows of all ten.
    let (clock, _hand) = Clock::mock(world.clock.now().unix_seconds());
    let replica = Store::new(kernel.clone(), clock, Rng::seeded(9));
    let window = Duration::from_secs(300);
    let jane = portcullis_storage::Subject::Account("jane@example.com");
    assert_eq!(replica.failures().of(jane, window).await.unwrap().count, 10);
    shutdown.trigger();
    background.wait().await.unwrap();
}

#[tokio::test]
async fn whoever_has_the_password_gets_in_although_failures_cannot_be_forgotten() {
    let kernel = NoFailures::new(NoFailures::WORKS);
    let world = World::with(config(""), kernel.clone(), ProviderOptions::default()).await;
    let mut browser = world.browser();
    let url = browser.start("kubernetes", "openid", &[]).await;
    assert_eq!(browser.log_in(&url, "jane@example.com", "wrong").await.status(), 401);
    let window = Duration::from_secs(300);
    world.provider.app().store.failures().flush(window).await.unwrap();
    kernel.set(NoFailures::FULL);
    assert_eq!(browser.log_in(&url, "jane@example.com", "password").await.status(), 303);
}

#[tokio::test]
async fn the_password_grant_is_delayed_alike() {
    let world = World::new("oauth2: {passwordConnector: local}\nportcullis: {passwords: {maxFailures: 2}}").await;
    let ask = async |password: &str| {
        let fields = [
            ("grant_type", "password"),
            ("scope", "openid"),
            ("username", "jane@example.com"),
            ("password", password),
            ("client_id", "kubernetes"),
            ("client_secret", "demo-secret"),
        ];
        world.post("/token", &fields, &[]).await
    };
    for _ in 0..2 {
        assert_eq!(ask("wrong").await.status(), 401);
    }
    let reply = ask("password").await;
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &HeaderValue::from_static("1")));
    assert_eq!(json(&reply).1["error"], "temporarily_unavailable");
}

#[tokio::test]
async fn a_full_queue_is_503_with_retry_after() {
    let world =
        World::new("oauth2: {passwordConnector: local}\nportcullis: {passwords: {hashWorkers: 1, hashQueue: 1}}").await;
    let url = {
        let mut b = world.browser();
        let u = b.start("kubernetes", "openid", &[]).await;
        (b.cookies.clone(), u)
    };
    let attempt = async |i: usize| {
        let mut browser = world.browser();
        browser.cookies = url.0.clone();
        browser.log_in(&url.1, &format!("u{i}@example.com"), "x").await
    };
    let replies = futures(vec![attempt(0), attempt(1), attempt(2), attempt(3), attempt(4), attempt(5)]).await;
    let busy: Vec<&Reply> = replies.iter().filter(|r| r.status() == 503).collect();
    assert!(
        !busy.is_empty() && replies.iter().any(|r| r.status() == 401),
        "{:?}",
        replies.iter().map(|r| r.status()).collect::<Vec<_>>()
    );
    assert!(
        busy.iter()
            .all(|r| r.headers().contains_key("retry-after") && page(r).contains("Please try again in a few seconds."))
    );
}

/// Runs futures side by side on this task.
async fn futures<F: Future>(list: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = list.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().map(|(_, output)| output.unwrap()).collect()
}
