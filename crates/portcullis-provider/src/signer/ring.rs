//! The keys as requests use them: parsed once, and the documents that follow from them as prepared bytes.

use bytes::Bytes;
use http::HeaderValue;
use portcullis_jose::{Algorithm, CompactJws, JoseError, JwkSet, Limits, PublicJwk, SigningKey};
use portcullis_runtime::Timestamp;
use portcullis_storage::{SigningKeyRecord, SigningKeySet};

use super::rotation::{next_after, signing_at};
use crate::tokens::Document;

/// A stored key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RingError {
    /// No key signs now.
    #[error("there is no signing key")]
    NoKey,
    /// The stored key is damaged.
    #[error("the signing key {kid} cannot be used: {source}")]
    Damaged {
        /// Which.
        kid: String,
        /// Why.
        source: JoseError,
    },
}

/// The keys of one moment.
pub(crate) struct Ring {
    key: SigningKey,
    algorithm: Algorithm,
    verifiers: JwkSet,
    /// The `/keys` document.
    pub(crate) jwks: Document,
    /// Algorithms of the published keys, that of the signing one first.
    pub(crate) algorithms: Vec<&'static str>,
    /// From when on another key signs or is gone.
    pub(crate) stale_from: Timestamp,
}

impl Ring {
    /// The ring of `set` at `now`.
    pub(crate) fn new(set: &SigningKeySet, now: Timestamp) -> Result<Self, RingError> {
        Self::with(set, now, None)
    }

    /// The same; `made` is the key that was just made, if one was. A key that is read is checked (RSA takes tens of
    /// milliseconds), one that was made here need not be.
    pub(crate) fn with(set: &SigningKeySet, now: Timestamp, made: Option<SigningKey>) -> Result<Self, RingError> {
        let current = signing_at(set, now).ok_or(RingError::NoKey)?;
        let damaged = |kid: &str| {
            let kid = kid.to_owned();
            move |source| RingError::Damaged { kid, source }
        };
        let key = match made.filter(|made| made.kid() == current.kid) {
            Some(made) => made,
            None => current.signing_key().map_err(damaged(&current.kid))?.ok_or(RingError::NoKey)?,
        };
        let next = next_after(set, now);
        let is_first = |k: &&SigningKeyRecord| k.kid == current.kid || next.is_some_and(|n| n.kid == k.kid);
        let published = std::iter::once(current)
            .chain(next)
            .chain(set.keys.iter().filter(|k| !is_first(k) && k.verifies_until.is_none_or(|until| until > now)));
        let mut publics = Vec::new();
        let mut algorithms: Vec<&'static str> = Vec::new();
        for record in published {
            let public =
                PublicJwk::parse(record.public.as_bytes(), &Limits::default()).map_err(damaged(&record.kid))?;
            publics.push(public.with(Some(&record.kid), Some(&record.algorithm), Some("sig")));
            if let Ok(algorithm) = record.algorithm.parse::<Algorithm>()
                && !algorithms.contains(&algorithm.name())
            {
                algorithms.push(algorithm.name());
            }
        }
        let ends = set.keys.iter().filter_map(|k| k.verifies_until).filter(|until| *until > now);
        let stale_from = ends.chain(next.map(|n| n.signs_from)).min().unwrap_or(Timestamp::MAX);
        let json = serde_json::json!({ "keys": publics.iter().map(PublicJwk::to_json).collect::<Vec<_>>() });
        let jwks = Document::new(serde_json::to_vec_pretty(&json).unwrap_or_default());
        let algorithm = key.default_algorithm();
        Ok(Self { key, algorithm, verifiers: JwkSet::from_keys(publics), jwks, algorithms, stale_from })
    }

    /// Signs claims. The header has `alg` and `kid` alone, as Dex's.
    pub(crate) fn sign(&self, claims: &[u8]) -> Result<String, JoseError> {
        portcullis_jose::sign_compact(&self.key, self.algorithm, None, claims)
    }

    /// The algorithm of new tokens.
    pub(crate) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The payload of a token that one of our published keys signed.
    pub(crate) fn verify(&self, token: &str) -> Result<Vec<u8>, JoseError> {
        let jws = CompactJws::parse(token, &Limits::default())?;
        jws.verify(&self.verifiers).map(|payload| payload.bytes().to_vec())
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("kid", &self.key.kid()).finish_non_exhaustive()
    }
}

/// The ETag of a document: enough of its SHA-256.
pub(crate) fn etag(body: &Bytes) -> HeaderValue {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    let short = digest.as_ref().get(..16).unwrap_or_default();
    HeaderValue::from_str(&format!("\"{}\"", portcullis_jose::base64url_encode(short)))
        .unwrap_or(HeaderValue::from_static("\"\""))
}
