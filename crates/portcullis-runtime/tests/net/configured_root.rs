//! A server that shows one of the client's configured roots, as `openssl req -x509` makes it.

use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::http_client::{ClientIdentity, HttpClient, HttpClientConfig, HttpClientError, Roots};
use portcullis_runtime::server::{ServerLimits, Transport};
use portcullis_runtime::tls::{ClientAuth, TlsIdentity, TlsVersion, TlsVersions, server_config};
use portcullis_runtime::{Clock, Secret};
use portcullis_testkit::TestCa;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::{PATIENCE, Server, echo};

const DAY: Duration = Duration::from_secs(86_400);

/// What `openssl req -x509 -addext subjectAltName=DNS:localhost,IP:127.0.0.1` writes.
fn params() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let now = Clock::system().now().to_offset_date_time();
    (params.not_before, params.not_after) = (now - DAY, now + DAY);
    params
}

fn sign_itself(change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
    let mut params = params();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

async fn serve(chain_pem: &str, key: &KeyPair, versions: TlsVersions, client_auth: ClientAuth) -> Server {
    let identity = TlsIdentity::from_pem(chain_pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let tls = server_config(identity, versions, client_auth).unwrap();
    Server::start(Transport::Tls(tls), ServerLimits::default(), echo()).await
}

async fn plainly(certificate: &Certificate, key: &KeyPair) -> Server {
    serve(&certificate.pem(), key, TlsVersions::default(), ClientAuth::None).await
}

async fn get(roots: Roots, url: &str) -> Result<String, HttpClientError> {
    let client = HttpClient::new(HttpClientConfig { roots, ..HttpClientConfig::default() }).unwrap();
    client.get(url, &[]).await.map(|response| String::from_utf8_lossy(&response.body).into_owned())
}

fn only(certificate: &Certificate) -> Roots {
    Roots::only_pem(certificate.pem().as_bytes()).unwrap()
}

/// The refusal's reason.
async fn refused(roots: Roots, url: &str) -> String {
    match get(roots, url).await {
        Err(HttpClientError::Tls { reason, .. }) => reason,
        other => panic!("not refused by TLS: {other:?}"),
    }
}

#[tokio::test]
async fn it_is_accepted_for_its_names_with_every_version_and_beside_the_systems_roots() {
    let (root, key) = sign_itself(|_| ());
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let versions = TlsVersions { min: version, max: version };
        let server = serve(&root.pem(), &key, versions, ClientAuth::None).await;
        let by_name = format!("https://localhost:{}/", server.address.port());
        for url in [server.url("https"), by_name] {
            assert!(get(only(&root), &url).await.unwrap().starts_with("HTTP/1.1 tls=true"), "{url}");
            let beside = Roots::system_and_pem(root.pem().as_bytes()).unwrap();
            assert!(get(beside, &url).await.unwrap().starts_with("HTTP/1.1 tls=true"), "{url}");
        }
    }
    // One among many.
    let (foreign, _) = sign_itself(|_| ());
    let bundle = format!("{}{}{}", TestCa::default().pem(), foreign.pem(), root.pem());
    let server = plainly(&root, &key).await;
    assert!(get(Roots::only_pem(bundle.as_bytes()).unwrap(), &server.url("https")).await.is_ok());
}

#[tokio::test]
async fn name_time_and_purpose_are_checked_as_go_checks_them() {
    let now = Clock::system().now().to_offset_date_time();
    type Change = Box<dyn Fn(&mut CertificateParams)>;
    let usages = |list: &'static [Usage]| -> Change { Box::new(|p| p.extended_key_usages = list.to_vec()) };
    let refusals: [(&str, Change, &str); 5] = [
        (
            "name",
            Box::new(|p| p.subject_alt_names = vec![SanType::DnsName("other.example".try_into().unwrap())]),
            "not valid for name",
        ),
        ("expired", Box::new(move |p| p.not_after = now - DAY / 24), "expired"),
        ("early", Box::new(move |p| p.not_before = now + DAY / 24), "not valid yet"),
        ("a client's", usages(&[Usage::ClientAuth]), "InvalidPurpose"),
        ("no TLS", usages(&[Usage::CodeSigning, Usage::OcspSigning]), "InvalidPurpose"),
    ];
    for (case, change, want) in refusals {
        let (root, key) = sign_itself(|params| change(params));
        let server = plainly(&root, &key).await;
        let reason = refused(only(&root), &server.url("https")).await;
        assert!(reason.contains(want) && !reason.contains("hint"), "{case}: {reason}");
        assert_eq!(refused(Roots::system_and_pem(root.pem().as_bytes()).unwrap(), &server.url("https")).await, reason);
    }
    for (case, change) in [
        ("a server's", usages(&[Usage::ServerAuth])),
        ("both", usages(&[Usage::ClientAuth, Usage::ServerAuth])),
        ("any", usages(&[Usage::Any])),
        ("path length", Box::new(|p: &mut CertificateParams| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))),
    ] {
        let (root, key) = sign_itself(|params| change(params));
        let server = plainly(&root, &key).await;
        assert!(get(only(&root), &server.url("https")).await.is_ok(), "{case}");
    }
}

#[tokio::test]
async fn a_common_name_alone_is_refused_with_a_hint() {
    let (root, key) = sign_itself(|params| params.subject_alt_names.clear());
    let server = plainly(&root, &key).await;
    for url in [server.url("https"), format!("https://localhost:{}/", server.address.port())] {
        let reason = refused(only(&root), &url).await;
        assert!(reason.contains("; hint: the certificate has no subjectAltName"), "{reason}");
    }
    // The same words for a certificate that an authority issued.
    let (ca, ca_key) = sign_itself(|_| ());
    let issuer = Issuer::from_ca_cert_pem(&ca.pem(), ca_key).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(Vec::new()).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let server = plainly(&leaf, &leaf_key).await;
    assert!(refused(only(&ca), &server.url("https")).await.contains("; hint: "));
}

#[tokio::test]
async fn what_only_resembles_a_root_is_refused_and_what_it_issued_is_accepted() {
    let (mut first, mut second) = (params(), params());
    (first.serial_number, second.serial_number) = (Some(1_u64.into()), Some(2_u64.into()));
    let key = KeyPair::generate().unwrap();
    let (root, twin) = (first.self_signed(&key).unwrap(), second.self_signed(&key).unwrap());
    let server = plainly(&twin, &key).await;
    assert!(refused(only(&root), &server.url("https")).await.contains("CaUsedAsEndEntity"));
    assert!(get(only(&twin), &server.url("https")).await.is_ok());
    // Nor does it help to send the root along.
    let server = serve(&format!("{}{}", twin.pem(), root.pem()), &key, TlsVersions::default(), ClientAuth::None).await;
    assert!(refused(only(&root), &server.url("https")).await.contains("CaUsedAsEndEntity"));

    let issuer = Issuer::new(first, key);
    let leaf_key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let server = plainly(&leaf, &leaf_key).await;
    assert!(get(only(&root), &server.url("https")).await.is_ok());
    assert!(get(Roots::system_and_pem(root.pem().as_bytes()).unwrap(), &server.url("https")).await.is_ok());
    // Pinned without its issuer: Go takes it as well.
    assert!(get(only(&leaf), &server.url("https")).await.is_ok());
    assert!(
        refused(Roots::Only(vec![TestCa::default().der().clone()]), &server.url("https"))
            .await
            .contains("UnknownIssuer")
    );
}

#[tokio::test]
async fn whoever_lacks_its_key_cannot_show_it() {
    let (root, _) = sign_itself(|_| ());
    let thief = KeyPair::generate().unwrap();
    let key = PrivateKeyDer::try_from(thief.serialize_der()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let stolen = rustls::sign::CertifiedKey::new(vec![CertificateDer::from(root.der().to_vec())], key);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(stolen.clone())));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.is_ok()
        });
        assert!(refused(only(&root), &url).await.contains("BadSignature"), "{version:?}");
        assert!(!tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap(), "{version:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_still_shown_and_carelessness_still_works() {
    let (root, key) = sign_itself(|_| ());
    let clients = TestCa::default();
    let required = ClientAuth::Required { roots_pem: clients.pem().as_bytes().to_vec() };
    let server = serve(&root.pem(), &key, TlsVersions::default(), required).await;
    assert!(get(only(&root), &server.url("https")).await.is_err());
    let identity = Some(clients.client("me", &[]).client_identity());
    for config in [
        HttpClientConfig { roots: only(&root), identity: identity.clone(), ..HttpClientConfig::default() },
        HttpClientConfig {
            roots: only(&sign_itself(|_| ()).0),
            insecure_skip_verify: true,
            identity: identity.clone(),
            ..HttpClientConfig::default()
        },
    ] {
        let response = HttpClient::new(config).unwrap().get(&server.url("https"), &[]).await.unwrap();
        assert!(String::from_utf8_lossy(&response.body).contains("cert=true"));
    }
    for (certificate_pem, key_pem) in [("", key.serialize_pem()), (&root.pem()[..], "no key".to_owned())] {
        let identity =
            ClientIdentity { certificate_pem: certificate_pem.as_bytes().to_vec(), key_pem: Secret::new(key_pem) };
        let config = HttpClientConfig { roots: only(&root), identity: Some(identity), ..HttpClientConfig::default() };
        let error = HttpClient::new(config).unwrap_err();
        assert_eq!(error.to_string(), "HTTP client: client certificate: not a certificate chain with its key");
    }
    let damaged = Roots::Only(vec![CertificateDer::from(vec![0x30, 0])]);
    let config = HttpClientConfig { roots: damaged, ..HttpClientConfig::default() };
    assert!(matches!(HttpClient::new(config), Err(HttpClientError::Config(_))));
}

/// On Linux the system's roots are those of a file, which only another process can be told.
#[cfg(target_os = "linux")]
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test runs itself again with an environment of its own")]
async fn a_root_of_the_system_is_never_a_server() {
    const NAME: &str = "configured_root::a_root_of_the_system_is_never_a_server";
    const FOLDER: &str = "PORTCULLIS_TEST_SYSTEM_ROOT";
    let Some(folder) = std::env::var_os(FOLDER).map(std::path::PathBuf::from) else {
        let folder = portcullis_testkit::temp_dir();
        let (root, key) = sign_itself(|_| ());
        std::fs::write(folder.path().join("root.pem"), root.pem()).unwrap();
        std::fs::write(folder.path().join("root.key"), key.serialize_pem()).unwrap();
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact"])
            .env(FOLDER, folder.path())
            .env("SSL_CERT_FILE", folder.path().join("root.pem"))
            .env_remove("SSL_CERT_DIR")
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, child).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    };
    let root = std::fs::read_to_string(folder.join("root.pem")).unwrap();
    let key = KeyPair::from_pem(&std::fs::read_to_string(folder.join("root.key")).unwrap()).unwrap();
    let server = serve(&root, &key, TlsVersions::default(), ClientAuth::None).await;
    let other = TestCa::default();
    for roots in [Roots::System, Roots::SystemAnd(vec![other.der().clone()])] {
        assert!(refused(roots, &server.url("https")).await.contains("CaUsedAsEndEntity"));
    }
    assert!(get(Roots::system_and_pem(root.as_bytes()).unwrap(), &server.url("https")).await.is_ok());
    // It is a root: what it issued is accepted.
    let issuer = Issuer::from_ca_cert_pem(&root, key).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let server = plainly(&leaf, &leaf_key).await;
    for roots in [Roots::System, Roots::SystemAnd(vec![other.der().clone()])] {
        assert!(get(roots, &server.url("https")).await.is_ok());
    }
}
