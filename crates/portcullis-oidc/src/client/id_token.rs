//! ID token verification (OpenID Connect Core section 3.1.3.7), as kubelogin does it through go-oidc 3.
//!
//! Order: shape → claims → issuer → audience → expiry → not-before → algorithm → signature → nonce → `at_hash`. The cheap
//! checks come first so that a foreign or stale token costs no fetch of keys; nothing is returned before the signature.
//! Compat: texts of go-oidc 3 and kubelogin 1.36. Stricter on purpose: `at_hash` is checked when the token has one and
//! the access token is at hand, and a claim may not occur twice.

use std::time::Duration;

use portcullis_jose::{Algorithm, CompactJws, JoseError, Limits, VerifiedPayload, half_hash};
use portcullis_runtime::{Clock, Timestamp};
use subtle::ConstantTimeEq as _;

use super::{
    KeySource, KeySourceError,
    claims::{Claims, NumericDate},
};
use crate::{
    DiscoveryDocument, json,
    quote::{bounded, go_quote, go_quote_list},
};

/// Tolerance for `nbf` (go-oidc 3; Azure is known to need it).
const NBF_LEEWAY: Duration = Duration::from_secs(5 * 60);
/// Google's tokens may name it without the scheme.
const GOOGLE: (&str, &str) = ("https://accounts.google.com", "accounts.google.com");

/// Verifies the ID tokens of one issuer for one client.
#[derive(Clone, Debug)]
pub struct IdTokenVerifier {
    issuer: String,
    client_id: Option<String>,
    algorithms: Vec<Algorithm>,
    clock: Clock,
    limits: Limits,
}

/// What else must fit, from the sign-in that brought the token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks<'a> {
    /// The nonce of the authorization request. None: not checked (refresh, password).
    pub nonce: Option<&'a str>,
    /// The access token that came along. None: `at_hash` is not checked.
    pub access_token: Option<&'a str>,
}

/// Why an ID token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdTokenError {
    /// It is not a compact JWS.
    #[error("oidc: malformed jwt: {0}")]
    Malformed(#[source] JoseError),
    /// The payload is not a JSON object with claims of the right types.
    #[error("oidc: failed to unmarshal claims: {0}")]
    Claims(String),
    /// It is another issuer's.
    #[error("oidc: id token issued by a different provider, expected {} got {}", go_quote(expected), go_quote(got))]
    Issuer {
        /// Our issuer.
        expected: String,
        /// The token's, cut to 512 characters.
        got: String,
    },
    /// It is for other clients.
    #[error("oidc: expected audience {} got {}", go_quote(expected), go_quote_list(got))]
    Audience {
        /// Our client id.
        expected: String,
        /// The token's audiences; at most 16, each cut to 256 characters.
        got: Vec<String>,
    },
    /// It is over.
    #[error("oidc: token is expired (Token Expiry: {})", go_time(*expiry))]
    Expired {
        /// Its expiry; the year 1 when it has none.
        expiry: Option<Timestamp>,
    },
    /// It is not valid yet.
    #[error("oidc: current time {} before the nbf (not before) time: {}", go_time(Some(*now)), go_time(Some(*not_before)))]
    NotYet {
        /// The current time.
        now: Timestamp,
        /// Its `nbf`.
        not_before: Timestamp,
    },
    /// Its algorithm is not among those that the issuer announces.
    #[error(
        "oidc: malformed jwt: unexpected signature algorithm {}; expected {}",
        go_quote(got),
        go_quote_list(expected)
    )]
    Algorithm {
        /// The token's, cut to 32 characters.
        got: String,
        /// Those allowed.
        expected: Vec<String>,
    },
    /// Its signature is not the issuer's.
    #[error("failed to verify signature: {0}")]
    Signature(#[source] KeySourceError),
    /// Its nonce is not that of our request.
    #[error("nonce did not match (wants {expected} but got {got})")]
    Nonce {
        /// The nonce of our request.
        expected: String,
        /// The token's, cut to 64 characters.
        got: String,
    },
    /// Its `at_hash` is not that of the access token.
    #[error("access token hash does not match value in ID token")]
    AccessTokenHash,
}

/// An ID token that passed every check. Only [`IdTokenVerifier::verify`] makes one.
#[derive(Debug)]
pub struct VerifiedIdToken {
    payload: VerifiedPayload,
    issuer: String,
    subject: String,
    audience: Vec<String>,
    expiry: Timestamp,
    issued_at: Option<Timestamp>,
    nonce: String,
}

impl IdTokenVerifier {
    /// A verifier for `client_id`. The algorithms are those that the document announces and we know; RS256 when it
    /// announces none.
    pub fn new(document: &DiscoveryDocument, client_id: impl Into<String>, clock: Clock) -> Self {
        let announced = &document.id_token_signing_alg_values_supported;
        let known: Vec<_> = announced.iter().filter_map(|name| Algorithm::from_name(name)).collect();
        Self {
            issuer: document.issuer.clone(),
            client_id: Some(client_id.into()),
            algorithms: if known.is_empty() { vec![Algorithm::Rs256] } else { known },
            clock,
            limits: Limits::default(),
        }
    }

    /// The same verifier without the audience check, for access tokens used in place of ID tokens
    /// (`--oidc-use-access-token`).
    #[must_use]
    pub fn for_any_audience(self) -> Self {
        Self { client_id: None, ..self }
    }

    /// The algorithms that are accepted.
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Verifies `token` with the issuer's keys.
    ///
    /// # Errors
    /// [`IdTokenError`] with the first check that failed, in the order of this module's description.
    pub async fn verify(
        &self,
        token: &str,
        keys: &dyn KeySource,
        checks: Checks<'_>,
    ) -> Result<VerifiedIdToken, IdTokenError> {
        let jws = CompactJws::parse(token, &self.limits).map_err(IdTokenError::Malformed)?;
        let claims: Claims = json::object(jws.unverified_payload())
            .map_err(|error| IdTokenError::Claims(bounded(&error.to_string(), 256)))?;
        let expiry = self.check_claims(&claims)?;
        match jws.algorithm() {
            Ok(algorithm) if self.algorithms.contains(&algorithm) => {}
            _ => {
                let expected = self.algorithms.iter().map(ToString::to_string).collect();
                return Err(IdTokenError::Algorithm { got: bounded(jws.algorithm_name(), 32), expected });
            }
        }
        // The payload that the claims were read from is the one that is verified: both are parts of `jws`.
        let payload = keys.verify(jws).await.map_err(IdTokenError::Signature)?;
        if let Some(expected) = checks.nonce
            && !bool::from(expected.as_bytes().ct_eq(claims.nonce.as_bytes()))
        {
            return Err(IdTokenError::Nonce { expected: expected.to_owned(), got: bounded(&claims.nonce, 64) });
        }
        if let (Some(at_hash), Some(access_token)) = (&claims.at_hash, checks.access_token)
            && half_hash(payload.algorithm(), access_token) != *at_hash
        {
            return Err(IdTokenError::AccessTokenHash);
        }
        Ok(VerifiedIdToken {
            payload,
            issuer: claims.iss,
            subject: claims.sub,
            audience: claims.aud.0,
            expiry,
            issued_at: claims.iat.map(|NumericDate(time)| time),
            nonce: claims.nonce,
        })
    }

    fn check_claims(&self, claims: &Claims) -> Result<Timestamp, IdTokenError> {
        if claims.iss != self.issuer && (self.issuer.as_str(), claims.iss.as_str()) != GOOGLE {
            return Err(IdTokenError::Issuer { expected: self.issuer.clone(), got: bounded(&claims.iss, 512) });
        }
        if let Some(client_id) = &self.client_id
            && !claims.aud.0.contains(client_id)
        {
            let got = claims.aud.0.iter().take(17).map(|audience| bounded(audience, 256)).collect();
            return Err(IdTokenError::Audience { expected: client_id.clone(), got });
        }
        let now = self.clock.now();
        let expiry = claims.exp.map(|NumericDate(time)| time);
        let Some(expiry) = expiry.filter(|expiry| *expiry >= now) else {
            return Err(IdTokenError::Expired { expiry });
        };
        if let Some(NumericDate(not_before)) = claims.nbf
            && now + NBF_LEEWAY < not_before
        {
            return Err(IdTokenError::NotYet { now, not_before });
        }
        Ok(expiry)
    }
}

impl VerifiedIdToken {
    /// All claims, as signed.
    pub fn payload(&self) -> &[u8] {
        self.payload.bytes()
    }

    /// `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// `aud`.
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// `exp`.
    pub fn expiry(&self) -> Timestamp {
        self.expiry
    }

    /// `iat`.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.issued_at
    }

    /// `nonce`, empty when absent.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The algorithm of the signature.
    pub fn algorithm(&self) -> Algorithm {
        self.payload.algorithm()
    }
}

/// A time as Go prints it, in UTC: `2026-11-23 18:36:08 +0000 UTC`. None is Go's zero time.
fn go_time(time: Option<Timestamp>) -> String {
    let Some(time) = time else { return "0001-01-01 00:00:00 +0000 UTC".into() };
    let rfc3339 = time.rfc3339();
    format!("{} +0000 UTC", rfc3339.trim_end_matches('Z').replacen('T', " ", 1))
}
