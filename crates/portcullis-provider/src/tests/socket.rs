//! Over a real socket: what the handler makes of requests, and `serve`.

use portcullis_runtime::Shutdown;
use portcullis_runtime::server::{ServerLimits, Transport, bind, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

async fn listen(world: &World) -> (std::net::SocketAddr, Shutdown) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    tokio::spawn(serve(
        listener,
        Transport::Plain,
        world.provider.handler(),
        ServerLimits::default(),
        shutdown.clone(),
    ));
    (addr, shutdown)
}

async fn ask(addr: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_come_through_a_real_listener() {
    let world = World::new("").await;
    let (addr, shutdown) = listen(&world).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = ask(addr, &get("/dex/.well-known/openid-configuration")).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"issuer\": \"https://dex.example/dex\""),
        "{answer}"
    );
    for path in ["/.well-known/openid-configuration", "/dexter/keys", "/", "/dex/../dex/keys"] {
        assert!(ask(addr, &get(path)).await.starts_with("HTTP/1.1 404"), "{path}");
    }
    let post = |length: usize, body: &str| {
        format!(
            "POST /dex/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    assert!(ask(addr, &post(12, "grant_type=x")).await.contains("unsupported_grant_type"));
    assert!(ask(addr, &post(65 * 1024, "")).await.starts_with("HTTP/1.1 413"));
    let metrics = world_metrics(&world).await;
    assert!(
        metrics.contains("http_requests_total{code=\"400\",handler=\"/token\",method=\"POST\"}")
            || metrics.contains("handler=\"/token\""),
        "{metrics}"
    );
    shutdown.trigger();
}

async fn world_metrics(world: &World) -> String {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(serve(
        listener,
        Transport::Plain,
        world.provider.telemetry_handler(),
        ServerLimits::default(),
        Shutdown::new(),
    ));
    ask(addr, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await
}

#[tokio::test]
async fn with_a_base_for_browsers_plain_http_is_for_names_of_this_machine() {
    let text = BASE.replace("https://dex.example/dex", "https://localhost:5554");
    let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
    let options = ProviderOptions { browser_base: Some("http://localhost:5554".parse().unwrap()) };
    let world = World::with(config, Arc::new(MemoryKernel::new()), options).await;
    let (addr, _shutdown) = listen(&world).await;
    for (host, status) in [
        ("localhost:5554", 200),
        ("localhost", 200),
        ("127.0.0.1:5554", 200),
        ("[::1]:5554", 200),
        ("evil.example", 421),
        ("evil.example:5554", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ] {
        let answer = ask(addr, &format!("GET /keys HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host:?}: {answer}");
    }
}

/// The flow's cookie that a plain connection to an https issuer gets.
async fn cookie(world: &World, headers: &str) -> String {
    let (addr, shutdown) = listen(world).await;
    let path = world.auth_url("kubernetes", "openid", &[]).replace("/auth?", "/auth/local?");
    let answer = ask(addr, &format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n\r\n")).await;
    shutdown.trigger();
    let cookie =
        answer.lines().find(|l| l.to_lowercase().starts_with("set-cookie: ")).unwrap_or_else(|| panic!("{answer}"));
    cookie["set-cookie: ".len()..].to_owned()
}

fn is_secure(cookie: &str) -> bool {
    let (secure, host) = (cookie.ends_with("; Secure"), cookie.starts_with("__Host-"));
    assert_eq!(secure, host, "{cookie}");
    secure
}

#[tokio::test]
async fn behind_a_proxy_that_ends_tls_the_flows_cookie_is_secure() {
    // Nothing is configured: the proxy may say nothing, or something that is not believed.
    let world = World::new("").await;
    for headers in ["Host: x", "Host: 127.0.0.1:5556", "Host: localhost", "Host: x\r\nX-Forwarded-Proto: http"] {
        assert!(is_secure(&cookie(&world, headers).await), "{headers}");
    }
    // What a trusted one says makes it no less so.
    let web = "{http: 127.0.0.1:5556, clientRemoteIP: {header: X-Forwarded-For, trustedProxies: [127.0.0.0/8]}}";
    let text = BASE.replace("{http: 127.0.0.1:5556}", web);
    let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
    let world = World::with(config, Arc::new(MemoryKernel::new()), ProviderOptions::default()).await;
    for proto in ["https", "http", ""] {
        let headers = format!("Host: x\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: {proto}");
        assert!(is_secure(&cookie(&world, &headers).await), "{proto}");
    }
    // An http issuer's browsers speak plain http, unless a trusted proxy knows better.
    for (web, secure) in [("{http: 127.0.0.1:5556}", false), (web, true)] {
        let text =
            BASE.replace("https://dex.example/dex", "http://dex.example/dex").replace("{http: 127.0.0.1:5556}", web);
        let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
        let world = World::with(config, Arc::new(MemoryKernel::new()), ProviderOptions::default()).await;
        assert!(!is_secure(&cookie(&world, "Host: x\r\nX-Forwarded-Proto: http").await));
        assert_eq!(is_secure(&cookie(&world, "Host: x\r\nX-Forwarded-Proto: https").await), secure, "{web}");
    }
}

#[tokio::test]
async fn where_up_sends_browsers_in_plain_http_the_flows_cookie_is_plain() {
    let text = BASE.replace("https://dex.example/dex", "https://dex.example:5554");
    for (base, host, secure) in [
        ("http://localhost:5554", "localhost:5554", false),
        ("http://localhost:5554", "127.0.0.1:5554", false),
        ("http://localhost:5554", "localhost:5554\r\nX-Forwarded-Proto: http", false),
        // A tunnel that ends TLS, and asks by the name that it was given.
        ("http://localhost:5554", "localhost:5554\r\nX-Forwarded-Proto: https", true),
        // By the issuer's name a browser would come with TLS: this is somebody's proxy.
        ("http://localhost:5554", "dex.example:5554", true),
        ("https://localhost:5554", "localhost:5554", true),
    ] {
        let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
        let options = ProviderOptions { browser_base: Some(base.parse().unwrap()) };
        let world = World::with(config, Arc::new(MemoryKernel::new()), options).await;
        assert_eq!(is_secure(&cookie(&world, &format!("Host: {host}")).await), secure, "{base} {host}");
    }
}

#[tokio::test]
async fn people_behind_a_proxy_that_is_not_named_are_told_apart() {
    let named = "{http: 127.0.0.1:5556, clientRemoteIP: {header: X-Forwarded-For, trustedProxies: [127.0.0.0/8]}}";
    for (web, hop) in [("{http: 127.0.0.1:5556}", ""), (named, ", 198.51.100.1")] {
        let text = format!(
            "{BASE}portcullis: {{passwords: {{attemptsPerMinute: 4}}}}\noauth2: {{passwordConnector: local}}\n"
        );
        let text = text.replace("{http: 127.0.0.1:5556}", web);
        let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
        let world = World::with(config, Arc::new(MemoryKernel::new()), ProviderOptions::default()).await;
        told_apart(&world, hop).await;
    }
}

/// `hop` is what trusted proxies add to the list.
async fn told_apart(world: &World, hop: &str) {
    let (addr, shutdown) = listen(world).await;
    let attempt = async |header: &str, number: usize| {
        let body = format!(
            "grant_type=password&scope=openid&username=u{number}&password=x&client_id=kubernetes&client_secret=demo-secret"
        );
        let request = format!(
            "POST /dex/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        ask(addr, &request).await.split(' ').nth(1).unwrap().to_owned()
    };
    let mut stranger = Vec::new();
    for number in 0..4 {
        // What a client sends itself stands before what its proxy adds.
        stranger.push(attempt(&format!("X-Forwarded-For: 1.1.1.{number}, 203.0.113.7{hop}\r\n"), number).await);
    }
    assert_eq!(stranger, ["401", "401", "429", "429"]);
    assert_eq!(attempt(&format!("X-Forwarded-For: 203.0.113.8{hop}\r\n"), 9).await, "401");
    shutdown.trigger();
}

#[tokio::test]
async fn serve_runs_the_configured_listeners_and_keeps_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dex.db");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = BASE
        .replace("{type: memory}", &format!("{{type: sqlite3, config: {{file: {}}}}}", file.display()))
        .replace("127.0.0.1:5556", &format!("127.0.0.1:{port}"));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(crate::serve(config, Clock::system(), Rng::system(), shutdown.clone()));
        let addr = format!("127.0.0.1:{port}").parse().unwrap();
        while TcpStream::connect(addr).await.is_err() {
            assert!(!running.is_finished(), "{:?}", running.await);
            tokio::task::yield_now().await;
        }
        let answer = ask(addr, "GET /dex/keys HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        seen.push(answer.split("\"kid\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned());
        shutdown.trigger();
        running.await.unwrap().unwrap();
    }
    assert_eq!(seen[0], seen[1], "the keys survive");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let text = BASE.replace("127.0.0.1:5556", &addr);
    let config = RawConfig::read(&Document::parse(&text, "c").unwrap().root()).0.validate(&|_| None).unwrap();
    let error = crate::serve(config, Clock::system(), Rng::system(), Shutdown::new()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("listen (http) on {addr}"));
}
