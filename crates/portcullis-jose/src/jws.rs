//! The compact serialisation of a JWS (RFC 7515 sections 3.1, 5.2, 7.1): parse once, verify, hand out the bytes.
//!
//! Flow: count and bound the parts → decode them into one buffer → read the header → (caller looks at the unverified
//! payload to find the issuer) → pick keys → check the signature → [`VerifiedPayload`].
//! Nothing here looks into the payload.

use std::ops::Range;

use crate::{
    Algorithm, JoseError, JwkSet, KeyHints, Limits, PublicJwk,
    base64url::decode_part,
    error::{TokenPart, bounded},
    header::Header,
};

/// A compact JWS whose shape is sound and whose signature has not been checked.
#[derive(Debug)]
pub struct CompactJws<'a> {
    signing_input: &'a str,
    header: Header,
    /// Header, payload and signature, decoded, one after the other.
    decoded: Vec<u8>,
    payload: Range<usize>,
}

impl<'a> CompactJws<'a> {
    /// Parses `token`. Limits are checked before anything is split or decoded.
    ///
    /// # Errors
    /// [`JoseError`] naming the limit that is passed, or the part of the token and the rule that it breaks.
    pub fn parse(token: &'a str, limits: &Limits) -> Result<Self, JoseError> {
        if token.len() > limits.token_bytes {
            return Err(JoseError::TokenTooLarge { limit: limits.token_bytes });
        }
        // Counted before the split, so that a token of dots costs one pass (CVE-2025-27144 and its family).
        if token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return Err(JoseError::PartCount);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JoseError::PartCount)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JoseError::PartCount)?;
        if header.len() / 4 * 3 > limits.header_bytes {
            return Err(JoseError::HeaderTooLarge { limit: limits.header_bytes });
        }

        let mut decoded = Vec::with_capacity(token.len() / 4 * 3 + 3);
        decode_part(header, TokenPart::Header, &mut decoded)?;
        let payload_start = decoded.len();
        let header = Header::parse(&decoded, limits)?;
        decode_part(payload, TokenPart::Payload, &mut decoded)?;
        let payload_end = decoded.len();
        decode_part(signature, TokenPart::Signature, &mut decoded)?;
        Ok(Self { signing_input, header, decoded, payload: payload_start..payload_end })
    }

    /// The algorithm.
    ///
    /// # Errors
    /// [`JoseError::UnsupportedAlgorithm`] for `none`, the HMAC family and unknown names.
    pub fn algorithm(&self) -> Result<Algorithm, JoseError> {
        Algorithm::from_name(&self.header.alg).ok_or_else(|| JoseError::UnsupportedAlgorithm(bounded(&self.header.alg)))
    }

    /// The `alg` header as written (untrusted, bounded by the header limit).
    pub fn algorithm_name(&self) -> &str {
        &self.header.alg
    }

    /// The `kid` header as written.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The `typ` header as written.
    pub fn typ(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }

    /// The payload before any check. Good for choosing an issuer, never for a decision.
    pub fn unverified_payload(&self) -> &[u8] {
        self.decoded.get(self.payload.clone()).unwrap_or_default()
    }

    /// Checks the signature with one key, whatever the key's id, `alg` and `use`.
    ///
    /// # Errors
    /// [`JoseError::Critical`], [`JoseError::UnsupportedAlgorithm`], and those of [`PublicJwk::verify`].
    pub fn verify_with(&self, key: &PublicJwk) -> Result<(), JoseError> {
        if self.header.critical {
            return Err(JoseError::Critical);
        }
        key.verify(self.algorithm()?, self.signing_input.as_bytes(), self.signature())
    }

    /// Asks `verifier`, and hands out the payload as verified when it agrees.
    ///
    /// # Errors
    /// [`JoseError::UnsupportedAlgorithm`], and whatever `verifier` says.
    pub fn verify(self, verifier: &(impl SignatureVerifier + ?Sized)) -> Result<VerifiedPayload, JoseError> {
        self.try_verify(verifier).map_err(|rejected| rejected.error)
    }

    /// As [`Self::verify`], and gives the token back when it was refused, so that newer keys can be tried on it.
    ///
    /// # Errors
    /// [`Rejected`] with the error of [`Self::verify`] and the token.
    pub fn try_verify(
        self,
        verifier: &(impl SignatureVerifier + ?Sized),
    ) -> Result<VerifiedPayload, Box<Rejected<'a>>> {
        match self.algorithm().and_then(|algorithm| verifier.verify_signature(&self).map(|()| algorithm)) {
            Ok(algorithm) => {
                Ok(VerifiedPayload { decoded: self.decoded, payload: self.payload, algorithm, kid: self.header.kid })
            }
            Err(error) => Err(Box::new(Rejected { error, jws: self })),
        }
    }

    fn signature(&self) -> &[u8] {
        self.decoded.get(self.payload.end..).unwrap_or_default()
    }
}

/// A token that a verifier refused.
#[derive(Debug)]
pub struct Rejected<'a> {
    /// Why.
    pub error: JoseError,
    /// The token, for another attempt.
    pub jws: CompactJws<'a>,
}

/// Decides whether a signature is to be trusted. This is the one seam of verification: whoever implements it vouches
/// for every [`VerifiedPayload`] that comes out of [`CompactJws::verify`] with it, so production code implements it
/// only on top of keys; a fuzz target may implement it to reach the code behind.
pub trait SignatureVerifier {
    /// Whether the signature is to be trusted.
    ///
    /// # Errors
    /// [`JoseError`] when no key of the verifier confirms it.
    fn verify_signature(&self, jws: &CompactJws<'_>) -> Result<(), JoseError>;
}

/// A token with a key id is tried with the keys of that id, one without (or with an empty one) with every key; of these
/// only those that may be used with the token's algorithm.
impl SignatureVerifier for JwkSet {
    fn verify_signature(&self, jws: &CompactJws<'_>) -> Result<(), JoseError> {
        let algorithm = jws.algorithm()?;
        let kid = jws.kid().filter(|kid| !kid.is_empty());
        let mut worst = JoseError::NoMatchingKey;
        for key in self.keys().iter().filter(|key| kid.is_none() || key.kid() == kid) {
            if !key.can_verify(algorithm, self.hints()) {
                if worst == JoseError::NoMatchingKey {
                    worst = JoseError::AlgorithmKeyMismatch;
                }
                continue;
            }
            match jws.verify_with(key) {
                Ok(()) => return Ok(()),
                Err(error) => worst = error,
            }
        }
        Err(worst)
    }
}

/// One key: the key id must be equal when the token names one and the key has one.
impl SignatureVerifier for PublicJwk {
    fn verify_signature(&self, jws: &CompactJws<'_>) -> Result<(), JoseError> {
        if let (Some(theirs), Some(ours)) = (jws.kid().filter(|kid| !kid.is_empty()), self.kid())
            && theirs != ours
        {
            return Err(JoseError::NoMatchingKey);
        }
        if !self.can_verify(jws.algorithm()?, KeyHints::Enforce) {
            return Err(JoseError::AlgorithmKeyMismatch);
        }
        jws.verify_with(self)
    }
}

/// The payload of a token whose signature a [`SignatureVerifier`] confirmed. Only [`CompactJws::verify`] and
/// [`CompactJws::try_verify`] make one.
#[derive(Debug)]
pub struct VerifiedPayload {
    decoded: Vec<u8>,
    payload: Range<usize>,
    algorithm: Algorithm,
    kid: Option<Box<str>>,
}

impl VerifiedPayload {
    /// The signed bytes.
    pub fn bytes(&self) -> &[u8] {
        self.decoded.get(self.payload.clone()).unwrap_or_default()
    }

    /// The algorithm of the signature.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key id of the token.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}
