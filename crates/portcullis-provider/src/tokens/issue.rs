//! Issuing: one access token and one ID token for an identity, and their refresh token where there is one.
//!
//! Compat: the access token is a JWT with the same claims as the ID token, and with an `at_hash` over a random value
//! (dex.md 0.1 T7).

use std::sync::Arc;
use std::time::Duration;

use portcullis_jose::{JoseError, half_hash};
use portcullis_oidc::vocabulary::TokenResponse;
use portcullis_runtime::{Clock, Rng, Secret, Timestamp};
use portcullis_storage::Identity;

use super::claims::Claims;
use super::scopes::audience;
use crate::signer::Signer;

/// Tokens could not be made: ours to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The key failed.
    #[error("a token could not be signed")]
    Sign(#[from] JoseError),
    /// The claims are no JSON.
    #[error("a token could not be written")]
    Write(#[from] serde_json::Error),
}

/// For whom and with what.
#[derive(Debug, Clone)]
pub(crate) struct TokenRequest<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) connector_id: &'a str,
    pub(crate) identity: &'a Identity,
    pub(crate) scopes: &'a [String],
    pub(crate) nonce: &'a str,
    /// When the person signed in; `None` where Dex says nothing.
    pub(crate) auth_time: Option<Timestamp>,
    /// The code that was exchanged, for `c_hash`.
    pub(crate) code: Option<&'a str>,
}

/// What was made.
pub(crate) struct Issued {
    access_token: Secret,
    id_token: Secret,
    expires_in: u64,
}

impl Issued {
    /// The answer of the token endpoint.
    pub(crate) fn into_response(self, refresh_token: Option<Secret>) -> TokenResponse {
        TokenResponse {
            access_token: self.access_token,
            token_type: "bearer".to_owned(),
            expires_in: Some(self.expires_in),
            refresh_token,
            id_token: Some(self.id_token),
        }
    }
}

/// Makes tokens.
#[derive(Clone)]
pub(crate) struct Tokens {
    issuer: Arc<str>,
    signer: Signer,
    clock: Clock,
    rng: Rng,
    lifetime: Duration,
}

impl Tokens {
    pub(crate) fn new(issuer: &str, signer: Signer, clock: Clock, rng: Rng, lifetime: Duration) -> Self {
        Self { issuer: issuer.into(), signer, clock, rng, lifetime }
    }

    /// Makes an access token and an ID token.
    pub(crate) fn issue(&self, request: &TokenRequest<'_>) -> Result<Issued, IssueError> {
        let ring = self.signer.ring();
        let algorithm = ring.algorithm();
        let now = self.clock.now();
        let TokenRequest { client_id, connector_id, identity, scopes, .. } = request;
        let mut claims =
            Claims::new(&self.issuer, client_id, audience(client_id, scopes), connector_id, identity, scopes);
        claims.iat = now.unix_seconds();
        claims.exp = (now + self.lifetime).unix_seconds();
        claims.auth_time = request.auth_time.map(Timestamp::unix_seconds);
        claims.nonce = request.nonce.to_owned();

        claims.jti = self.rng.uuid_v4();
        claims.at_hash = half_hash(algorithm, &self.rng.token(16));
        let access_token = ring.sign(&serde_json::to_vec(&claims)?)?;

        claims.jti = self.rng.uuid_v4();
        claims.at_hash = half_hash(algorithm, &access_token);
        claims.c_hash = request.code.map(|code| half_hash(algorithm, code)).unwrap_or_default();
        let id_token = ring.sign(&serde_json::to_vec(&claims)?)?;

        Ok(Issued { access_token: access_token.into(), id_token: id_token.into(), expires_in: self.lifetime.as_secs() })
    }

    /// The claims of a token that we signed, whoever it was for, unless it has expired.
    pub(crate) fn verify(&self, token: &str) -> Option<Vec<u8>> {
        let payload = self.verify_signature(token)?;
        let claims: Claims = serde_json::from_slice(&payload).ok()?;
        (claims.exp > self.clock.now().unix_seconds()).then_some(payload)
    }

    /// The claims of a token that we signed, expired or not (`id_token_hint`).
    pub(crate) fn verify_signature(&self, token: &str) -> Option<Vec<u8>> {
        let payload = self.signer.ring().verify(token).ok()?;
        let claims: Claims = serde_json::from_slice(&payload).ok()?;
        (claims.iss == *self.issuer).then_some(payload)
    }
}
