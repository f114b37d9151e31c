//! A certificate authority that lives as long as its test.

use std::time::Duration;

use portcullis_runtime::http_client::{ClientIdentity, HttpClient, HttpClientConfig, Roots};
use portcullis_runtime::tls::{ClientAuth, ServerTls, TlsIdentity, TlsVersions, server_config};
use portcullis_runtime::{Clock, Secret};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// When a certificate is valid, seen from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validity {
    /// From a day ago until tomorrow.
    #[default]
    Now,
    /// Until an hour ago.
    Expired,
    /// From an hour ahead.
    NotYet,
}

impl Validity {
    fn range(self) -> (OffsetDateTime, OffsetDateTime) {
        let now = Clock::system().now().to_offset_date_time();
        let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
        match self {
            Self::Now => (now - day, now + day),
            Self::Expired => (now - day, now - hour),
            Self::NotYet => (now + hour, now + day),
        }
    }
}

/// A certificate authority (P-256).
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// The key (PKCS#8), in PEM.
    pub key_pem: String,
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new("Portcullis test CA")
    }
}

impl TestCa {
    /// An authority with this common name and a fresh key.
    #[must_use]
    pub fn new(common_name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common_name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = Validity::Now.range();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a CA certificate");
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// The authority's certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's certificate, in DER.
    #[must_use]
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// A server certificate for localhost, 127.0.0.1 and ::1.
    #[must_use]
    pub fn server(&self) -> Leaf {
        self.server_for(&["localhost", "127.0.0.1", "::1"], Validity::Now)
    }

    /// A server certificate for these names and addresses.
    #[must_use]
    pub fn server_for(&self, names: &[&str], validity: Validity) -> Leaf {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("subject names");
        params.distinguished_name = name("test server", &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, validity)
    }

    /// A client certificate: the common name is Kubernetes' user, the organisations are its groups.
    #[must_use]
    pub fn client(&self, common_name: &str, organisations: &[&str]) -> Leaf {
        self.client_for(common_name, organisations, Validity::Now)
    }

    /// The same with another validity.
    #[must_use]
    pub fn client_for(&self, common_name: &str, organisations: &[&str], validity: Validity) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common_name, organisations);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, validity)
    }

    /// The TLS settings of a listener with a certificate for localhost.
    #[must_use]
    pub fn server_tls(&self, client_auth: ClientAuth) -> ServerTls {
        server_config(self.server().identity(), TlsVersions::default(), client_auth).expect("TLS settings")
    }

    /// An HTTP client that trusts this authority alone.
    #[must_use]
    pub fn http_client(&self) -> HttpClient {
        HttpClient::new(self.http_client_config()).expect("an HTTP client")
    }

    /// The settings of such a client, to be changed.
    #[must_use]
    pub fn http_client_config(&self) -> HttpClientConfig {
        HttpClientConfig { roots: Roots::Only(vec![self.der.clone()]), ..HttpClientConfig::default() }
    }

    fn sign(&self, mut params: CertificateParams, validity: Validity) -> Leaf {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = validity.range();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}

impl Leaf {
    /// As a server's identity.
    #[must_use]
    pub fn identity(&self) -> TlsIdentity {
        TlsIdentity::from_pem(self.certificate_pem.as_bytes(), self.key_pem.as_bytes()).expect("a TLS identity")
    }

    /// As a client's identity.
    #[must_use]
    pub fn client_identity(&self) -> ClientIdentity {
        ClientIdentity {
            certificate_pem: self.certificate_pem.clone().into_bytes(),
            key_pem: Secret::new(self.key_pem.clone()),
        }
    }
}

fn name(common_name: &str, organisations: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    for organisation in organisations {
        name.push(DnType::OrganizationName, *organisation);
    }
    name
}
