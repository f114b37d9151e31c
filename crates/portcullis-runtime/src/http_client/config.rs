//! Settings of an HTTP client, with the limits that it has when nobody says otherwise.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::egress::{EgressPolicy, EgressResolver};
use super::proxy::ProxyFromEnv;
use super::{HttpClientError, redirect_policy, trust};

/// Which certificate authorities are trusted. A certificate that is named here may also be shown by a server itself, as
/// with Go; one of the operating system's may not.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// Those of the operating system (on Linux `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
    #[default]
    System,
    /// Only these.
    Only(Vec<CertificateDer<'static>>),
    /// Those of the operating system and these.
    SystemAnd(Vec<CertificateDer<'static>>),
}

impl Roots {
    /// The certificates of a PEM bundle, alone. Other PEM sections are skipped, as Go does.
    ///
    /// # Errors
    /// When there is no certificate in it, or one is damaged.
    pub fn only_pem(pem: &[u8]) -> Result<Self, HttpClientError> {
        certificates(pem).map(Self::Only)
    }

    /// The certificates of a PEM bundle, beside the system's.
    ///
    /// # Errors
    /// When there is no certificate in it, or one is damaged.
    pub fn system_and_pem(pem: &[u8]) -> Result<Self, HttpClientError> {
        certificates(pem).map(Self::SystemAnd)
    }

    /// The named ones, and whether the system's count as well.
    pub(super) fn split(self) -> (Vec<CertificateDer<'static>>, bool) {
        match self {
            Self::System => (Vec::new(), true),
            Self::Only(roots) => (roots, false),
            Self::SystemAnd(roots) => (roots, true),
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, HttpClientError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| HttpClientError::Config(format!("CA certificates: {error}")))?;
    if certificates.is_empty() {
        return Err(HttpClientError::Config("CA certificates: no certificate found".to_owned()));
    }
    Ok(certificates)
}

/// A client certificate chain and its key, in PEM.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate chain, leaf first.
    pub certificate_pem: Vec<u8>,
    /// The private key.
    pub key_pem: crate::Secret,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity([redacted])")
    }
}

/// Settings of an [`super::HttpClient`].
#[derive(Clone)]
pub struct HttpClientConfig {
    /// Whom to trust. Default: the system.
    pub roots: Roots,
    /// Skips every check of the server's certificate. Default: false.
    pub insecure_skip_verify: bool,
    /// From the start of a request to the last byte of its response. Default: 30 s.
    pub timeout: Duration,
    /// For name resolution, connection and TLS handshake. Default: 10 s.
    pub connect_timeout: Duration,
    /// Largest response body in bytes. Default: 1 MiB.
    pub max_body: usize,
    /// How many redirects are followed (default 10, as Go); with 0 the redirect itself is the response.
    pub max_redirects: usize,
    /// Proxies, as Go's tools read them from the environment. Only used with [`EgressPolicy::Any`]: a proxy resolves
    /// names itself, beyond the policy's reach.
    pub proxy: ProxyFromEnv,
    /// The `User-Agent`; none is sent when empty. Default: `portcullis`.
    pub user_agent: String,
    /// Headers that every request carries.
    pub headers: Vec<(String, String)>,
    /// Where connections may go. Default: anywhere.
    pub egress: EgressPolicy,
    /// The certificate that is shown to servers that ask for one.
    pub identity: Option<ClientIdentity>,
    /// Idle connections that are kept for one host. Default: 4.
    pub idle_connections: usize,
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        Self {
            roots: Roots::System,
            insecure_skip_verify: false,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_body: 1024 * 1024,
            max_redirects: 10,
            proxy: ProxyFromEnv::default(),
            user_agent: "portcullis".to_owned(),
            headers: Vec::new(),
            egress: EgressPolicy::Any,
            identity: None,
            idle_connections: 4,
        }
    }
}

impl fmt::Debug for HttpClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientConfig")
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .field("timeout", &self.timeout)
            .field("max_body", &self.max_body)
            .field("max_redirects", &self.max_redirects)
            .field("proxy", &self.proxy)
            .field("egress", &self.egress)
            .finish_non_exhaustive()
    }
}

impl HttpClientConfig {
    #[expect(clippy::disallowed_methods, reason = "the one place where clients are built, with their limits")]
    pub(super) fn build(self) -> Result<reqwest::Client, HttpClientError> {
        crate::tls::install_crypto_provider();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .timeout(self.timeout)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(self.idle_connections)
            .http1_max_headers(100)
            .referer(false)
            .redirect(redirect_policy(self.max_redirects, self.egress))
            .default_headers(header_map(&self.headers)?)
            .tls_danger_accept_invalid_certs(self.insecure_skip_verify);
        if !self.user_agent.is_empty() {
            builder = builder.user_agent(self.user_agent);
        }
        let (roots, system) = self.roots.split();
        if !roots.is_empty() && !self.insecure_skip_verify {
            builder = builder.tls_backend_preconfigured(trust::client_config(roots, system, self.identity.as_ref())?);
        } else {
            if !system {
                builder = builder.tls_certs_only([]);
            }
            if let Some(identity) = &self.identity {
                builder = builder.identity(reqwest_identity(identity)?);
            }
        }
        builder = match self.egress {
            EgressPolicy::Any => match self.proxy.compile()? {
                Some(rules) => builder.proxy(reqwest::Proxy::custom(move |url| rules.proxy_for(url).cloned())),
                None => builder,
            },
            EgressPolicy::LoopbackOnly | EgressPolicy::Public => builder.dns_resolver(EgressResolver(self.egress)),
        };
        builder.build().map_err(|error| HttpClientError::Config(super::root_cause(&error)))
    }
}

fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, HttpClientError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let key: HeaderName =
            name.parse().map_err(|_| HttpClientError::Config(format!("{name:?} is no header name")))?;
        let mut value: HeaderValue = value
            .parse()
            .map_err(|_| HttpClientError::Config(format!("the value of header {name:?} cannot be sent")))?;
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}

fn reqwest_identity(identity: &ClientIdentity) -> Result<reqwest::Identity, HttpClientError> {
    let mut pem = zeroize::Zeroizing::new(identity.certificate_pem.clone());
    pem.push(b'\n');
    pem.extend_from_slice(identity.key_pem.expose().as_bytes());
    reqwest::Identity::from_pem(&pem)
        .map_err(|_| HttpClientError::Config("client certificate: not a certificate chain with its key".to_owned()))
}
