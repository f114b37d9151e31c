//! The seam between "whose keys" and "what the claims mean".
//!
//! Token verification above this module asks a [`KeySource`] and gets a [`VerifiedPayload`] back. In production that is
//! a [`super::JwksCache`] (an issuer's published keys) or [`StaticKeys`] (a key set that is known beforehand); a fuzz
//! target wraps its own [`SignatureVerifier`] in [`StaticKeys`].

use std::{future::Future, pin::Pin};

use portcullis_jose::{CompactJws, JoseError, SignatureVerifier, VerifiedPayload};

use super::JwksFetchError;

/// The future that [`KeySource::verify`] returns.
pub type Verification<'a> = Pin<Box<dyn Future<Output = Result<VerifiedPayload, KeySourceError>> + Send + 'a>>;

/// Something that can tell whether a token's signature is the issuer's.
pub trait KeySource: Send + Sync {
    /// Checks the signature of `jws`, fetching keys when that is allowed and may help.
    fn verify<'a>(&'a self, jws: CompactJws<'a>) -> Verification<'a>;
}

/// Why a signature was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySourceError {
    /// No known key confirms it.
    #[error("failed to verify id token signature")]
    Signature(#[source] JoseError),
    /// No known key confirms it, and newer ones could not be fetched.
    #[error("fetching keys {0}")]
    Fetch(JwksFetchError),
}

/// Keys, or any other verifier, that never change.
#[derive(Clone, Debug)]
pub struct StaticKeys<V>(pub V);

impl<V: SignatureVerifier + Send + Sync> KeySource for StaticKeys<V> {
    fn verify<'a>(&'a self, jws: CompactJws<'a>) -> Verification<'a> {
        Box::pin(std::future::ready(jws.verify(&self.0).map_err(KeySourceError::Signature)))
    }
}
