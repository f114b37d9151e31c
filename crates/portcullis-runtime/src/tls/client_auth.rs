//! Optional client certificates, as kube-apiserver asks for them.
//!
//! kube-apiserver requests a certificate in the handshake and judges it later: one from a foreign authority is as good
//! as none, and the request may still bring a token. So the handshake here only makes the client prove that it holds
//! the key; [`verdict`] then checks the chain.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Lets every certificate pass whose key the client holds. The chain is checked by [`verdict`].
#[derive(Debug)]
pub(super) struct DeferredVerifier(Arc<dyn ClientCertVerifier>);

impl DeferredVerifier {
    pub(super) const fn new(inner: Arc<dyn ClientCertVerifier>) -> Self {
        Self(inner)
    }
}

impl ClientCertVerifier for DeferredVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The leaf of `chain` when `verifier` accepts the chain now; otherwise why not. `None` when no certificate was shown.
pub(crate) fn verdict(
    verifier: &dyn ClientCertVerifier,
    chain: &[CertificateDer<'static>],
) -> Option<Result<CertificateDer<'static>, String>> {
    let (leaf, intermediates) = chain.split_first()?;
    Some(match verifier.verify_client_cert(leaf, intermediates, UnixTime::now()) {
        Ok(_) => Ok(leaf.clone()),
        Err(error) => Err(error.to_string()),
    })
}
