//! TLS of a client that was given certificate authorities: a server may also show one of these certificates itself.
//!
//! `openssl req -x509` makes a certificate that signs itself and says that it is an authority. People put it on a
//! server and hand the same file to clients. Go accepts that (Compat: crypto/x509 `Certificate.Verify`: a leaf that is
//! in the pool of roots is a chain of one); webpki keeps authorities and servers apart. Flow: a server certificate that
//! is one of the configured roots, byte for byte → its name, validity and purpose are checked here; any other →
//! webpki, or the platform's verifier, as without this module.
//!
//! It must never accept this way what nobody configured: neither a root of the operating system nor a certificate that
//! only resembles a configured one. The signature over the handshake is verified in every case, so that whoever has
//! the certificate but not its key cannot speak for it.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::x509::Facts;
use super::{ClientIdentity, HttpClientError};

/// The TLS settings of a client that trusts `roots`, and with `system` those of the operating system as well. What
/// reqwest would have set itself is set here: every version, and HTTP/1.1 alone.
pub(super) fn client_config(
    roots: Vec<CertificateDer<'static>>,
    system: bool,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, HttpClientError> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let inner: Arc<dyn ServerCertVerifier> = if system {
        let extra = roots.iter().cloned();
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider.clone());
        Arc::new(verifier.map_err(|error| unusable(&error))?)
    } else {
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone()).map_err(|error| unusable(&error))?;
        }
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
        builder.build().map_err(|error| unusable(&error))?
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ConfiguredRoots { roots, inner }));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = chain_and_key(identity).ok_or_else(|| {
                HttpClientError::Config("client certificate: not a certificate chain with its key".to_owned())
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn unusable(error: &dyn std::error::Error) -> HttpClientError {
    HttpClientError::Config(error.to_string())
}

fn chain_and_key(identity: &ClientIdentity) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&identity.certificate_pem).collect::<Result<_, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose().as_bytes()).ok()?;
    (!chain.is_empty()).then_some((chain, key))
}

/// Accepts the configured roots as server certificates; leaves every other certificate to `inner`.
#[derive(Debug)]
struct ConfiguredRoots {
    roots: Vec<CertificateDer<'static>>,
    inner: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for ConfiguredRoots {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.roots.iter().any(|root| root.as_ref() == leaf.as_ref()) {
            return verify_root_as_server(leaf, name, now);
        }
        self.inner.verify_server_cert(leaf, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What Go checks of a chain of one. The certificate's own signature proves nothing that its bytes do not, and
/// constraints on names and path length bind what it issues, not itself.
fn verify_root_as_server(
    root: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    // Also refuses critical extensions that nobody here understands.
    let parsed = ParsedCertificate::try_from(root)?;
    let facts = Facts::read(root).ok_or(CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < facts.not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before: unix_time(facts.not_before) }.into());
    }
    if seconds > facts.not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after: unix_time(facts.not_after) }.into());
    }
    if !facts.server_auth {
        return Err(CertificateError::InvalidPurpose.into());
    }
    verify_server_name(&parsed, name)?;
    Ok(ServerCertVerified::assertion())
}

/// For error texts: what lies before 1970 is shown as 1970.
fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}
