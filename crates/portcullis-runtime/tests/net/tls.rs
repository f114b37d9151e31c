//! TLS: reload, client certificates, both protocols on one port.

use std::path::Path;
use std::sync::Arc;

use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, HttpClientError};
use portcullis_runtime::server::{ConnInfo, Request, ServerLimits, Transport, handler_fn};
use portcullis_runtime::tls::{ClientAuth, ServerTls, TlsError, TlsIdentity, TlsVersion, TlsVersions, server_config};
use portcullis_testkit::{Leaf, TestCa, Validity, temp_dir};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{PATIENCE, Server, echo, exchange, rest, text};

fn write(folder: &Path, leaf: &Leaf) -> (std::path::PathBuf, std::path::PathBuf) {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&certificate, &leaf.certificate_pem).unwrap();
    std::fs::write(&key, &leaf.key_pem).unwrap();
    (certificate, key)
}

fn tls(identity: TlsIdentity, client_auth: ClientAuth) -> ServerTls {
    server_config(identity, TlsVersions::default(), client_auth).unwrap()
}

async fn get(ca: &TestCa, server: &Server) -> Result<String, HttpClientError> {
    // A client of its own each time, so that no connection is reused.
    let response = ca.http_client().get(&server.url("https"), &[]).await?;
    Ok(String::from_utf8_lossy(&response.body).into_owned())
}

#[tokio::test]
async fn a_reload_serves_the_new_certificate_without_dropping_the_listener_or_its_connections() {
    let (old, new) = (TestCa::new("old"), TestCa::new("new"));
    let folder = temp_dir();
    let (certificate, key) = write(folder.path(), &old.server());
    let identity = TlsIdentity::from_files(&certificate, &key).unwrap();
    let server =
        Server::start(Transport::Tls(tls(identity.clone(), ClientAuth::None)), ServerLimits::default(), echo()).await;
    let kept = old.http_client();
    assert_eq!(kept.get(&server.url("https"), &[]).await.unwrap().status, 200);
    assert!(!identity.reload().unwrap(), "nothing changed");

    write(folder.path(), &new.server());
    identity.reload_if_changed();
    assert!(get(&new, &server).await.is_ok());
    assert!(matches!(get(&old, &server).await, Err(HttpClientError::Tls { unknown_issuer: true, .. })));
    assert_eq!(kept.get(&server.url("https"), &[]).await.unwrap().status, 200, "the old connection goes on");
}

#[tokio::test]
async fn a_bad_reload_keeps_the_old_certificate_and_a_later_good_one_is_taken() {
    let (old, new) = (TestCa::new("old"), TestCa::new("new"));
    let folder = temp_dir();
    let (certificate, key) = write(folder.path(), &old.server());
    let identity = TlsIdentity::from_files(&certificate, &key).unwrap();
    let server =
        Server::start(Transport::Tls(tls(identity.clone(), ClientAuth::None)), ServerLimits::default(), echo()).await;
    let good = new.server();

    // Half of the new pair is written.
    std::fs::write(&certificate, &good.certificate_pem).unwrap();
    assert_eq!(identity.reload(), Err(TlsError::Mismatch));
    assert!(get(&old, &server).await.is_ok());
    for (content, want) in [
        ("", "no certificate in PEM form found"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "tls.crt"),
    ] {
        std::fs::write(&certificate, content).unwrap();
        let error = identity.reload().unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert!(get(&old, &server).await.is_ok());
    }
    std::fs::remove_file(&certificate).unwrap();
    assert!(matches!(identity.reload(), Err(TlsError::Read { .. })));
    identity.reload_if_changed();
    assert!(get(&old, &server).await.is_ok());

    write(folder.path(), &good);
    identity.reload_if_changed();
    assert!(get(&new, &server).await.is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn a_swapped_symbolic_link_is_seen() {
    let (old, new) = (TestCa::new("old"), TestCa::new("new"));
    let folder = temp_dir();
    for (name, ca) in [("v1", &old), ("v2", &new)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        write(&folder.path().join(name), &ca.server());
    }
    let data = folder.path().join("..data");
    std::os::unix::fs::symlink("v1", &data).unwrap();
    let identity = TlsIdentity::from_files(&data.join("tls.crt"), &data.join("tls.key")).unwrap();
    let before = identity.leaf().unwrap();
    std::os::unix::fs::symlink("v2", folder.path().join("..tmp")).unwrap();
    std::fs::rename(folder.path().join("..tmp"), &data).unwrap();
    identity.reload_if_changed();
    assert_ne!(identity.leaf().unwrap(), before);
}

#[test]
fn unusable_files_are_named_and_key_material_never_shown() {
    let folder = temp_dir();
    let leaf = TestCa::default().server();
    let (certificate, key) = write(folder.path(), &leaf);
    std::fs::write(&key, leaf.key_pem.replace("PRIVATE KEY", "PUBLIC KEY")).unwrap();
    let error = TlsIdentity::from_files(&certificate, &key).unwrap_err().to_string();
    assert!(error.contains("tls.key") && error.contains("PKCS#8") && !error.contains("MI"), "{error}");
    std::fs::write(&key, vec![b'a'; 2 * 1024 * 1024]).unwrap();
    assert!(TlsIdentity::from_files(&certificate, &key).unwrap_err().to_string().contains("larger than 1 MiB"));
    let chain = leaf.certificate_pem.repeat(33);
    assert!(
        TlsIdentity::from_pem(chain.as_bytes(), leaf.key_pem.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("more than 32")
    );
    assert!(
        !format!("{:?}", TlsIdentity::from_pem(leaf.certificate_pem.as_bytes(), leaf.key_pem.as_bytes()).unwrap())
            .contains("MI")
    );
}

#[tokio::test]
async fn one_port_serves_tls_and_to_loopback_plain_http() {
    let ca = TestCa::default();
    let transport = Transport::TlsOrPlainOnLoopback(ca.server_tls(ClientAuth::None));
    let server = Server::start(transport, ServerLimits::default(), echo()).await;
    assert!(get(&ca, &server).await.unwrap().contains("tls=true"));
    let plain = ca.http_client().get(&server.url("http"), &[]).await.unwrap();
    assert!(String::from_utf8_lossy(&plain.body).contains("tls=false"));
}

#[tokio::test]
async fn plain_http_on_a_tls_port_gets_gos_words() {
    let server =
        Server::start(Transport::Tls(TestCa::default().server_tls(ClientAuth::None)), ServerLimits::default(), echo())
            .await;
    let answer = exchange(server.connect().await, b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
}

#[tokio::test]
async fn a_handshake_that_does_not_end_closes_the_connection() {
    let limits = ServerLimits { handshake_timeout: std::time::Duration::from_millis(60), ..ServerLimits::default() };
    let server = Server::start(Transport::Tls(TestCa::default().server_tls(ClientAuth::None)), limits, echo()).await;
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = server.connect().await;
        stream.write_all(begin).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    }
}

/// A raw TLS connection with these protocols and versions.
async fn handshake(
    ca: &TestCa,
    server: &Server,
    alpn: &[&[u8]],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, server.connect().await).await
}

#[tokio::test]
async fn alpn_chooses_the_http_version() {
    let ca = TestCa::default();
    let server = Server::start(Transport::Tls(ca.server_tls(ClientAuth::None)), ServerLimits::default(), echo()).await;
    for (offered, chosen) in [
        (vec![&b"h2"[..], b"http/1.1"], Some(&b"h2"[..])),
        (vec![&b"http/1.1"[..]], Some(&b"http/1.1"[..])),
        (vec![], None),
    ] {
        let stream = handshake(&ca, &server, &offered, rustls::ALL_VERSIONS).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
    }
    let stream = handshake(&ca, &server, &[b"h2"], rustls::ALL_VERSIONS).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(connection);
    let request =
        http::Request::get("https://localhost/").body(http_body_util::Full::new(bytes::Bytes::new())).unwrap();
    let body = http_body_util::BodyExt::collect(sender.send_request(request).await.unwrap().into_body())
        .await
        .unwrap()
        .to_bytes();
    assert!(body.starts_with(b"HTTP/2.0 tls=true"), "{body:?}");
    drop(sender);
    tokio::time::timeout(PATIENCE, driver).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn the_versions_that_are_set_are_the_versions_that_work() {
    let ca = TestCa::default();
    let (v12, v13): (&[_], &[_]) = (&[&rustls::version::TLS12], &[&rustls::version::TLS13]);
    for (min, max, twelve, thirteen) in [
        (TlsVersion::V1_2, TlsVersion::V1_3, true, true),
        (TlsVersion::V1_3, TlsVersion::V1_3, false, true),
        (TlsVersion::V1_2, TlsVersion::V1_2, true, false),
    ] {
        let config = server_config(ca.server().identity(), TlsVersions { min, max }, ClientAuth::None).unwrap();
        let server = Server::start(Transport::Tls(config), ServerLimits::default(), echo()).await;
        assert_eq!(handshake(&ca, &server, &[], v12).await.is_ok(), twelve, "{min:?} {max:?}");
        assert_eq!(handshake(&ca, &server, &[], v13).await.is_ok(), thirteen, "{min:?} {max:?}");
    }
    let reversed = TlsVersions { min: TlsVersion::V1_3, max: TlsVersion::V1_2 };
    assert!(matches!(server_config(ca.server().identity(), reversed, ClientAuth::None), Err(TlsError::Settings(_))));
    assert!("1.1".parse::<TlsVersion>().is_err() && "1.3".parse() == Ok(TlsVersion::V1_3));
}

#[tokio::test]
async fn tls_1_2_uses_only_dexs_suites() {
    use rustls::CipherSuite as C;
    let ca = TestCa::default();
    let server = Server::start(Transport::Tls(ca.server_tls(ClientAuth::None)), ServerLimits::default(), echo()).await;
    let stream = handshake(&ca, &server, &[], &[&rustls::version::TLS12]).await.unwrap();
    let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    let ecdsa = [
        C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    assert!(ecdsa.contains(&suite), "{suite:?}");
    let all: Vec<_> =
        rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES.iter().map(rustls::SupportedCipherSuite::suite).collect();
    let tls12 = all.iter().filter(|suite| !format!("{suite:?}").starts_with("TLS13"));
    assert!(tls12.clone().all(|suite| format!("{suite:?}").starts_with("TLS_ECDHE")) && tls12.count() == 6, "{all:?}");
}

fn with_certificate(ca: &TestCa, leaf: &Leaf) -> HttpClient {
    HttpClient::new(HttpClientConfig { identity: Some(leaf.client_identity()), ..ca.http_client_config() }).unwrap()
}

#[tokio::test]
async fn an_optional_client_certificate_counts_only_when_its_authority_is_ours() {
    let (ca, foreign) = (TestCa::default(), TestCa::new("foreign"));
    let auth = ClientAuth::Optional { roots_pem: ca.pem().as_bytes().to_vec() };
    let handler = handler_fn(|request: Request| async move {
        let info = request.extensions().get::<ConnInfo>().unwrap();
        let shown = match (&info.client_cert, &info.client_cert_error) {
            (Some(leaf), None) => format!("verified {}", leaf.len()),
            (None, Some(error)) => format!("rejected {error}"),
            (None, None) => "none".to_owned(),
            (Some(_), Some(_)) => "both".to_owned(),
        };
        text(http::StatusCode::OK, shown)
    });
    let server = Server::start(Transport::Tls(ca.server_tls(auth)), ServerLimits::default(), handler).await;
    let groups = ["system:masters"];
    for (name, client, want) in [
        ("none shown", ca.http_client(), "none"),
        ("ours", with_certificate(&ca, &ca.client("admin", &groups)), "verified"),
        (
            "another authority's",
            with_certificate(&ca, &foreign.client("admin", &groups)),
            "rejected invalid peer certificate: UnknownIssuer",
        ),
        (
            "expired",
            with_certificate(&ca, &ca.client_for("admin", &groups, Validity::Expired)),
            "rejected invalid peer certificate: certificate expired",
        ),
        (
            "not yet valid",
            with_certificate(&ca, &ca.client_for("admin", &groups, Validity::NotYet)),
            "rejected invalid peer certificate: certificate not valid yet",
        ),
        ("a server's", with_certificate(&ca, &ca.server()), "rejected invalid peer certificate"),
    ] {
        let body = client.get(&server.url("https"), &[]).await.unwrap().body;
        let body = String::from_utf8_lossy(&body);
        assert!(body.starts_with(want), "{name}: {body}");
    }
}

#[tokio::test]
async fn a_required_client_certificate_is_checked_in_the_handshake() {
    let (ca, foreign) = (TestCa::default(), TestCa::new("foreign"));
    let auth = ClientAuth::Required { roots_pem: ca.pem().as_bytes().to_vec() };
    let server = Server::start(Transport::Tls(ca.server_tls(auth)), ServerLimits::default(), echo()).await;
    let url = server.url("https");
    assert!(ca.http_client().get(&url, &[]).await.is_err());
    assert!(with_certificate(&ca, &foreign.client("a", &[])).get(&url, &[]).await.is_err());
    let ours = with_certificate(&ca, &ca.client("a", &[])).get(&url, &[]).await.unwrap();
    assert!(String::from_utf8_lossy(&ours.body).contains("cert=true"));
    for roots_pem in [Vec::new(), b"junk".to_vec()] {
        let refused = server_config(ca.server().identity(), TlsVersions::default(), ClientAuth::Optional { roots_pem });
        assert!(refused.unwrap_err().to_string().starts_with("client CA: "));
    }
}

#[tokio::test]
async fn requests_over_tls_are_answered_in_pieces_too() {
    let ca = TestCa::default();
    let server = Server::start(Transport::Tls(ca.server_tls(ClientAuth::None)), ServerLimits::default(), echo()).await;
    let mut stream = handshake(&ca, &server, &[], rustls::ALL_VERSIONS).await.unwrap();
    for piece in ["GET / HT", "TP/1.1\r\nhost: h\r\nconnection: cl", "ose\r\n\r\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.contains("HTTP/1.1 tls=true"), "{answer}");
}

#[tokio::test]
async fn the_watcher_picks_a_new_certificate_up_by_itself() {
    let folder = temp_dir();
    let (certificate, key) = write(folder.path(), &TestCa::new("old").server());
    let identity = TlsIdentity::from_files(&certificate, &key).unwrap();
    let old = identity.leaf();
    let shutdown = portcullis_runtime::Shutdown::new();
    let watcher = tokio::spawn(identity.clone().watch_every(std::time::Duration::from_millis(2), shutdown.clone()));
    write(folder.path(), &TestCa::new("new").server());
    let changed = async {
        while identity.leaf() == old {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.unwrap();
    shutdown.trigger();
    tokio::time::timeout(PATIENCE, watcher).await.unwrap().unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_hangup_reads_the_files_at_once() {
    use tokio::signal::unix::{SignalKind, signal};
    // With a handler in place the signal cannot end the test program.
    let _handler = signal(SignalKind::hangup()).unwrap();
    let folder = temp_dir();
    let (certificate, key) = write(folder.path(), &TestCa::new("old").server());
    let identity = TlsIdentity::from_files(&certificate, &key).unwrap();
    let old = identity.leaf();
    let shutdown = portcullis_runtime::Shutdown::new();
    let hours = std::time::Duration::from_secs(36_000);
    let watcher = tokio::spawn(identity.clone().watch_every(hours, shutdown.clone()));
    // The first look comes at once; only what is written after it needs the signal.
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    write(folder.path(), &TestCa::new("new").server());
    let changed = async {
        while identity.leaf() == old {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.unwrap();
    shutdown.trigger();
    tokio::time::timeout(PATIENCE, watcher).await.unwrap().unwrap();
}
