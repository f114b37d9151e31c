//! The HTTP client's limits.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use portcullis_runtime::http_client::{
    EgressPolicy, HttpClient, HttpClientConfig, HttpClientError, HttpLines, ProxyFromEnv, Roots, StreamLimits, Streamed,
};
use portcullis_testkit::{FakeIssuer, IssuerOptions, Reply, TestCa, Validity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn client(change: impl FnOnce(&mut HttpClientConfig)) -> HttpClient {
    let mut config = HttpClientConfig { roots: Roots::Only(Vec::new()), ..HttpClientConfig::default() };
    change(&mut config);
    HttpClient::new(config).unwrap()
}

async fn plain() -> FakeIssuer {
    FakeIssuer::start_with(IssuerOptions { plain: true, ..IssuerOptions::default() }).await
}

/// A server that answers the first connection with these bytes, and keeps it for a while.
async fn raw_and_wait(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await;
        let _ = stream.write_all(answer).await;
        // Until the other side ends it.
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    address
}

/// A server that answers every connection with these bytes, whatever it is asked.
async fn raw(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

const LIMITS: StreamLimits = StreamLimits {
    head: Duration::from_secs(5),
    idle: Duration::from_millis(300),
    whole: Duration::from_secs(20),
    line: 8,
};

async fn lines(address: SocketAddr, limits: StreamLimits) -> HttpLines {
    match client(|_| {}).stream(&format!("http://{address}/"), &[("x", "y")], limits).await.unwrap() {
        Streamed::Lines(lines) => *lines,
        Streamed::Refused(response) => panic!("{response:?}"),
    }
}

#[tokio::test]
async fn a_stream_is_read_line_by_line_and_bounded_in_length_and_silence() {
    let ended =
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\nb1\r\n5\r\n2\n\nxx\r\n0\r\n\r\n").await;
    let mut stream = lines(ended, LIMITS).await;
    let mut read = Vec::new();
    while let Some(line) = stream.next().await.unwrap() {
        read.push(String::from_utf8(line.to_vec()).unwrap());
    }
    assert_eq!(read, ["a", "b12", ""], "what has no end is no line");
    for (line, longer) in
        [(&b"HTTP/1.1 200 OK\r\n\r\n12345678\n"[..], false), (b"HTTP/1.1 200 OK\r\n\r\n123456789", true)]
    {
        let first = lines(raw(line).await, LIMITS).await.next().await;
        assert_eq!(matches!(first, Err(HttpClientError::BodyTooLarge { limit: 8, .. })), longer, "{first:?}");
    }
    let silent = raw_and_wait(b"HTTP/1.1 200 OK\r\n\r\na\nb").await;
    let mut stream = lines(silent, LIMITS).await;
    assert_eq!(stream.next().await.unwrap().as_deref(), Some(&b"a"[..]));
    let begun = Instant::now();
    assert!(matches!(stream.next().await, Err(HttpClientError::Timeout { .. })));
    assert!(begun.elapsed() >= LIMITS.idle && begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let refused = raw(b"HTTP/1.1 410 Gone\r\nContent-Length: 3\r\n\r\nold").await;
    let refused = client(|_| {}).stream(&format!("http://{refused}/"), &[], LIMITS).await.unwrap();
    assert!(matches!(&refused, Streamed::Refused(response) if response.status == 410 && &response.body[..] == b"old"));
    let mute = raw_and_wait(b"HTTP/1.1 ").await;
    let limits = StreamLimits { head: Duration::from_millis(200), ..LIMITS };
    let late = client(|_| {}).stream(&format!("http://{mute}/"), &[], limits).await;
    assert!(matches!(late, Err(HttpClientError::Timeout { .. })), "{late:?}");
}

#[tokio::test]
async fn a_stream_that_is_dropped_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\na\n").await.unwrap();
        stream.read(&mut buffer).await
    });
    let mut stream = lines(address, StreamLimits { idle: Duration::from_secs(60), ..LIMITS }).await;
    assert!(stream.next().await.unwrap().is_some());
    drop(stream);
    let ended = tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn redirects_are_followed_up_to_the_limit() {
    let server = plain().await;
    server.reply("/a", Reply::redirect("/b"));
    server.reply("/b", Reply::redirect("/c"));
    server.reply("/c", Reply::bytes("there"));
    server.reply("/loop", Reply::redirect("/loop"));
    let with = |limit| client(move |config| config.max_redirects = limit);
    let response = with(2).get(&server.url("/a"), &[]).await.unwrap();
    assert_eq!((&response.body[..], response.url), (&b"there"[..], server.url("/c")));
    let refused = with(1).get(&server.url("/a"), &[]).await.unwrap_err();
    assert!(
        matches!(refused, HttpClientError::Redirect { .. })
            && refused.to_string().contains("stopped after 1 redirects"),
        "{refused}"
    );
    assert!(matches!(with(10).get(&server.url("/loop"), &[]).await, Err(HttpClientError::Redirect { .. })));
    assert_eq!(server.count("/loop"), 11);
    let shown = with(0).get(&server.url("/a"), &[]).await.unwrap();
    assert_eq!((shown.status, shown.header("location")), (302, Some("/b")));
}

#[tokio::test]
async fn a_redirect_never_leads_from_https_to_http() {
    let target = plain().await;
    let issuer = FakeIssuer::start().await;
    issuer.reply("/down", Reply::redirect(&format!("{}?secret=1", target.url("/keys"))));
    let refused = issuer.http_client().get(&issuer.url("/down"), &[]).await.unwrap_err();
    assert!(refused.to_string().contains("from https to"), "{refused}");
    assert!(!refused.to_string().contains("secret"), "{refused}");
    assert_eq!(target.requests().len(), 0);
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let (first, second) = (plain().await, plain().await);
    first.reply("/away", Reply::redirect(&second.url("/keys")));
    client(|_| ()).get(&first.url("/away"), &[("authorization", "Bearer secret")]).await.unwrap();
    assert_eq!(first.requests_to("/away")[0].header("authorization"), Some("Bearer secret"));
    assert_eq!(second.requests_to("/keys")[0].header("authorization"), None);
}

#[tokio::test]
async fn a_body_over_the_limit_is_an_error_with_and_without_a_length() {
    let server = plain().await;
    server.reply("/fits", Reply::bytes(vec![b'a'; 100]));
    server.reply("/large", Reply::bytes(vec![b'a'; 101]));
    let limited = client(|config| config.max_body = 100);
    assert_eq!(limited.get(&server.url("/fits"), &[]).await.unwrap().body.len(), 100);
    let refused = limited.get(&server.url("/large?code=secret"), &[]).await.unwrap_err();
    assert_eq!(refused, HttpClientError::BodyTooLarge { url: server.url("/large"), limit: 100 });

    let chunked = raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n40\r\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n40\r\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n0\r\n\r\n").await;
    assert!(matches!(limited.get(&format!("http://{chunked}/"), &[]).await, Err(HttpClientError::BodyTooLarge { .. })));
}

#[tokio::test]
async fn a_response_that_breaks_off_or_is_no_http_is_an_error() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"[..],
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let address = raw(answer).await;
        let error = client(|_| ()).get(&format!("http://{address}/"), &[]).await.unwrap_err();
        assert!(matches!(error, HttpClientError::Broken { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn no_answer_in_time_is_a_timeout_also_in_the_middle_of_a_body() {
    let server = plain().await;
    server.reply("/hang", Reply::hang());
    let hasty = client(|config| config.timeout = Duration::from_millis(60));
    let start = Instant::now();
    assert_eq!(
        hasty.get(&server.url("/hang"), &[]).await.unwrap_err(),
        HttpClientError::Timeout { url: server.url("/hang") }
    );
    assert!(start.elapsed() < Duration::from_secs(5));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let held = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab").await.unwrap();
        // Ends when the client gives up.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    assert!(matches!(hasty.get(&url, &[]).await, Err(HttpClientError::Timeout { .. })));
    drop(hasty);
    tokio::time::timeout(crate::support::PATIENCE, held).await.unwrap().unwrap();
}

/// Whoever does not know whether a write has arrived must not send it again; so what was never sent has to be told apart.
#[tokio::test]
async fn a_time_that_is_over_before_anything_was_sent_is_no_timeout() {
    // A socket that accepts and says nothing: no TLS handshake ends.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let short = Duration::from_millis(60);
    let write = async |client: HttpClient, scheme: &str, body: &'static [u8]| {
        let url = format!("{scheme}://{address}/");
        client.request_within(2 * short, http::Method::POST, &url, &[], Some(body.into())).await.unwrap_err()
    };
    let hasty = client(|config| config.connect_timeout = short);
    for error in [
        hasty.get(&format!("https://{address}/"), &[]).await.unwrap_err(),
        write(hasty, "https", b"x").await,
        write(client(|_| ()), "https", b"x").await,
    ] {
        let HttpClientError::Connect { reason, .. } = &error else { panic!("{error:?}") };
        assert_eq!(reason, "no connection in time");
    }
    // Without TLS the request is sent as soon as the socket accepts; an empty body tells nothing.
    for (scheme, body) in [("http", &b"x"[..]), ("https", b"")] {
        let error = write(client(|_| ()), scheme, body).await;
        assert!(matches!(error, HttpClientError::Timeout { .. }), "{scheme}: {error:?}");
    }
    drop(silent);
}

#[tokio::test]
async fn a_body_that_is_watched_arrives_with_its_length() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"whole body") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        String::from_utf8(request).unwrap()
    });
    let body = Some("whole body".into());
    let time = Duration::from_secs(20);
    let answer = client(|_| ()).request_within(time, http::Method::PUT, &url, &[("x", "y")], body).await.unwrap();
    assert_eq!(answer.body, "ok");
    let request = asked.await.unwrap();
    assert!(request.starts_with("PUT / HTTP/1.1\r\n") && request.contains("\r\nx: y\r\n"), "{request}");
    assert!(request.contains("content-length: 10\r\n") && !request.contains("chunked"), "{request}");
}

#[tokio::test]
async fn certificates_are_checked_unless_told_otherwise() {
    let issuer = FakeIssuer::start().await;
    let url = issuer.url("/keys");
    let refused = TestCa::new("other").http_client().get(&url, &[]).await.unwrap_err();
    assert!(matches!(&refused, HttpClientError::Tls { unknown_issuer: true, .. }), "{refused:?}");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let careless = client(|config| config.insecure_skip_verify = true);
    assert_eq!(careless.get(&url, &[]).await.unwrap().status, 200);
}

#[tokio::test]
async fn expired_and_misnamed_certificates_are_refused() {
    use portcullis_runtime::server::{ServerLimits, Transport};
    use portcullis_runtime::tls::{ClientAuth, TlsVersions, server_config};
    let ca = TestCa::default();
    for leaf in [
        ca.server_for(&["127.0.0.1"], Validity::Expired),
        ca.server_for(&["127.0.0.1"], Validity::NotYet),
        ca.server_for(&["other.example"], Validity::Now),
    ] {
        let tls = server_config(leaf.identity(), TlsVersions::default(), ClientAuth::None).unwrap();
        let server =
            crate::support::Server::start(Transport::Tls(tls), ServerLimits::default(), crate::support::echo()).await;
        let refused = ca.http_client().get(&server.url("https"), &[]).await.unwrap_err();
        assert!(matches!(refused, HttpClientError::Tls { unknown_issuer: false, .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn the_egress_policy_holds_for_addresses_names_and_redirects() {
    let server = plain().await;
    let port = server.issuer().rsplit_once(':').unwrap().1.to_owned();
    server.reply("/meta", Reply::redirect("http://169.254.169.254/latest/meta-data"));
    let public = client(|config| config.egress = EgressPolicy::Public);
    let loopback = client(|config| config.egress = EgressPolicy::LoopbackOnly);
    for url in [
        server.url("/keys"),
        format!("http://localhost:{port}/keys"),
        "http://10.0.0.1/".to_owned(),
        "http://[fe80::1]/".to_owned(),
    ] {
        assert!(matches!(public.get(&url, &[]).await, Err(HttpClientError::Egress(_))), "{url}");
    }
    assert_eq!(server.requests().len(), 0, "nothing was sent");
    assert_eq!(loopback.get(&server.url("/keys"), &[]).await.unwrap().status, 200);
    assert_eq!(loopback.get(&format!("http://localhost:{port}/keys"), &[]).await.unwrap().status, 200);
    assert!(matches!(loopback.get(&server.url("/meta"), &[]).await, Err(HttpClientError::Egress(_))));
    assert!(matches!(loopback.get("http://192.0.2.1/", &[]).await, Err(HttpClientError::Egress(_))));
}

#[tokio::test]
async fn the_proxy_is_asked_for_other_hosts_and_never_for_loopback() {
    let proxy = raw(b"HTTP/1.1 203 Proxied\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let server = plain().await;
    let proxied = client(|config| {
        config.proxy =
            ProxyFromEnv { http: Some(proxy.to_string()), https: None, no: Some("direct.invalid".to_owned()) };
    });
    assert_eq!(proxied.get("http://elsewhere.invalid/", &[]).await.unwrap().status, 203);
    assert_eq!(proxied.get(&server.url("/keys"), &[]).await.unwrap().status, 200);
    assert!(matches!(proxied.get("http://direct.invalid/", &[]).await, Err(HttpClientError::Connect { .. })));
    let guarded = client(|config| {
        config.egress = EgressPolicy::LoopbackOnly;
        config.proxy = ProxyFromEnv { http: Some(proxy.to_string()), ..ProxyFromEnv::default() };
    });
    assert!(guarded.get("http://elsewhere.invalid/", &[]).await.is_err(), "a proxy is no way around the policy");
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_the_proxys_password_stays_out_of_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://user:hunter2@{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        stream.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).to_lowercase()
    });
    let proxied = client(|config| config.proxy = ProxyFromEnv { https: Some(proxy), ..ProxyFromEnv::default() });
    let refused = proxied.get("https://elsewhere.invalid/", &[]).await.unwrap_err();
    assert!(
        matches!(refused, HttpClientError::Connect { .. }) && !format!("{refused} {refused:?}").contains("hunter2"),
        "{refused}"
    );
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("connect elsewhere.invalid:443 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("proxy-authorization: basic dxnlcjpodw50zxiy\r\n"), "{asked}");
}

#[tokio::test]
async fn what_cannot_be_requested_is_refused_before_anything_is_sent() {
    let any = client(|_| ());
    for url in [
        "",
        "/relative",
        "ftp://h/",
        "file:///etc/passwd",
        "http://",
        "https://h:99999/",
        &format!("http://h/{}", "a".repeat(20_000)),
    ] {
        assert!(matches!(any.get(url, &[]).await, Err(HttpClientError::Url { .. })), "{url:.40}");
    }
    assert!(matches!(any.get("http://127.0.0.1:1/", &[("bad header", "x")]).await, Err(HttpClientError::Url { .. })));
    let refused = any.get("http://127.0.0.1:1/x?code=secret", &[]).await.unwrap_err();
    assert!(matches!(refused, HttpClientError::Connect { .. }) && refused.is_transient());
    assert!(!refused.to_string().contains("secret"), "{refused}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let header = |name: &str, value: &str| HttpClientConfig {
        headers: vec![(name.to_owned(), value.to_owned())],
        ..HttpClientConfig::default()
    };
    for config in [header("bad name", "x"), header("x", "line\nbreak")] {
        assert!(matches!(HttpClient::new(config), Err(HttpClientError::Config(_))));
    }
    assert!(Roots::only_pem(b"nothing here").is_err());
    assert!(Roots::only_pem(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").is_err());
    let shown = format!("{:?}", header("authorization", "Bearer secret"));
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn fixed_headers_and_the_user_agent_are_sent() {
    let server = plain().await;
    let tagged = client(|config| {
        config.headers = vec![("x-tenant".to_owned(), "blue".to_owned())];
        config.user_agent = "portcullis/test".to_owned();
    });
    tagged.get(&server.url("/keys"), &[("accept", "application/json")]).await.unwrap();
    let seen = server.requests().remove(0);
    assert_eq!(
        (seen.header("x-tenant"), seen.header("user-agent"), seen.header("accept")),
        (Some("blue"), Some("portcullis/test"), Some("application/json"))
    );
}
