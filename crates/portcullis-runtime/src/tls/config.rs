//! rustls configurations of our listeners.
//!
//! TLS 1.2 and 1.3 only. The TLS 1.2 suites are Dex's list as far as rustls has it: ECDHE with AES-128-GCM,
//! AES-256-GCM and ChaCha20-Poly1305; the two plain-RSA suites of that list have no forward secrecy and do not exist
//! here. ALPN offers h2 and http/1.1. There are no session tickets and no 0-RTT.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::client_auth::DeferredVerifier;
use super::identity::Resolver;
use super::{TlsError, TlsIdentity, install_crypto_provider};

/// Most certificate authorities that client certificates are checked against.
const MAX_ROOTS: usize = 1_000;

/// A protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl FromStr for TlsVersion {
    type Err = TlsError;

    /// Reads `1.2` or `1.3`, as in Dex's `tlsMinVersion`.
    fn from_str(text: &str) -> Result<Self, TlsError> {
        match text {
            "1.2" => Ok(Self::V1_2),
            "1.3" => Ok(Self::V1_3),
            _ => Err(TlsError::Settings(format!("TLS version {text:?} is not one of 1.2, 1.3"))),
        }
    }
}

/// The versions that are offered. Default: 1.2 and 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    /// The lowest.
    pub min: TlsVersion,
    /// The highest.
    pub max: TlsVersion,
}

impl Default for TlsVersions {
    fn default() -> Self {
        Self { min: TlsVersion::V1_2, max: TlsVersion::V1_3 }
    }
}

impl TlsVersions {
    fn supported(self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        let offered: Vec<_> =
            [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)]
                .into_iter()
                .filter(|(version, _)| (self.min..=self.max).contains(version))
                .map(|(_, supported)| supported)
                .collect();
        if offered.is_empty() {
            return Err(TlsError::Settings("the lowest TLS version is above the highest".to_owned()));
        }
        Ok(offered)
    }
}

/// What is asked of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    #[default]
    None,
    /// A certificate may be shown, as to kube-apiserver's `--client-ca-file`. One that these authorities did not issue
    /// does not end the handshake; the connection is then one without a client certificate, and
    /// `ConnInfo::client_cert_error` says why.
    Optional {
        /// The authorities, in PEM.
        roots_pem: Vec<u8>,
    },
    /// A certificate that these authorities issued must be shown, or the handshake fails.
    Required {
        /// The authorities, in PEM.
        roots_pem: Vec<u8>,
    },
}

/// A listener's TLS configuration. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    /// Checks an optional client certificate after the handshake.
    pub(crate) deferred: Option<Arc<dyn ClientCertVerifier>>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("client_certificates", &self.deferred.is_some()).finish_non_exhaustive()
    }
}

/// Builds the configuration of a listener that shows `identity`'s current certificate at every handshake.
///
/// # Errors
/// When the versions are the wrong way round or the client authorities cannot be used.
pub fn server_config(
    identity: TlsIdentity,
    versions: TlsVersions,
    client_auth: ClientAuth,
) -> Result<ServerTls, TlsError> {
    install_crypto_provider();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions.supported()?)
        .map_err(|error| TlsError::Settings(error.to_string()))?;
    let (builder, deferred) = match client_auth {
        ClientAuth::None => (builder.with_no_client_auth(), None),
        ClientAuth::Optional { roots_pem } => {
            let verifier = client_verifier(&roots_pem)?;
            (builder.with_client_cert_verifier(Arc::new(DeferredVerifier::new(verifier.clone()))), Some(verifier))
        }
        ClientAuth::Required { roots_pem } => (builder.with_client_cert_verifier(client_verifier(&roots_pem)?), None),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Resolver(identity)));
    config.alpn_protocols = if cfg!(feature = "server") { vec![b"h2".to_vec()] } else { Vec::new() };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    config.max_early_data_size = 0;
    Ok(ServerTls { config: Arc::new(config), deferred })
}

fn client_verifier(roots_pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let error = |reason: String| TlsError::Certificate { source_name: "client CA".to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots_pem) {
        let certificate = certificate.map_err(|e| error(e.to_string()))?;
        roots.add(certificate).map_err(|e| error(e.to_string()))?;
        if roots.len() > MAX_ROOTS {
            return Err(error(format!("more than {MAX_ROOTS} certificates")));
        }
    }
    if roots.is_empty() {
        return Err(error("no certificate in PEM form found".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|e| error(e.to_string()))
}
