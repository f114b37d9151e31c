//! From the endpoint that a token names to the claim's value.

use std::time::Duration;

use portcullis_jose::Limits;
use portcullis_runtime::Shutdown;
use portcullis_runtime::http_client::HttpClientError;
use tokio::time::{Instant, timeout_at};

use crate::config::{JwtConfig, ValidConfig};
use crate::error::VerifyError;
use crate::go::json;
use crate::keys::{Network, Outside, key_error};
use crate::route;
use crate::verify;

use super::error::DistributedError;
use super::fetch::{Fetcher, MAX_RESPONSE_BYTES, TOO_LATE};
use super::verifiers::Verifiers;
use super::{Reach, Source, shown_text};

/// Bounds for tokens of claims endpoints: they are not sent in a header, so they may be as long as a response.
const LIMITS: Limits = Limits { token_bytes: MAX_RESPONSE_BYTES, ..route::LIMITS };

/// Resolves the groups claim for the tokens of one configured issuer.
pub(crate) struct Resolver {
    fetcher: Fetcher,
    verifiers: Verifiers,
    outside: Outside,
    timeout: Duration,
}

/// A claim that was fetched.
pub(crate) struct Resolved {
    /// The claim's value, checked JSON.
    pub(crate) value: Vec<u8>,
    /// `exp` of the token that it came in, in Unix seconds.
    pub(crate) expiry: i64,
}

impl Resolver {
    /// A resolver that asks with the roots, proxies and egress policy of the configured issuer.
    pub(crate) fn new(
        config: &ValidConfig,
        outside: Outside,
        reach: Reach,
        network: &Network,
        shutdown: Shutdown,
    ) -> Result<Self, HttpClientError> {
        Ok(Self {
            fetcher: Fetcher::new(config, reach, network)?,
            verifiers: Verifiers::new(&config.config, outside.clone(), shutdown),
            outside,
            timeout: network.timeout,
        })
    }

    /// Fetches and verifies `claim`. Waits for the endpoint, and for its issuer's keys where those are due, both together
    /// no longer than one request may take.
    pub(crate) async fn resolve(
        &self,
        config: &JwtConfig,
        claim: &str,
        source: Source,
    ) -> Result<Resolved, DistributedError> {
        let deadline = Instant::now() + self.timeout;
        let token = self
            .fetcher
            .get(&source, deadline)
            .await
            .map_err(|reason| DistributedError::Fetch { claim: claim.to_owned(), reason })?;
        let issuer = route::issuer_of(&token).map_err(|reason| DistributedError::NoIssuer {
            claim: claim.to_owned(),
            endpoint: source.shown(),
            reason,
        })?;
        if !self.fetcher.reach().allows_issuer(&issuer) {
            return Err(DistributedError::IssuerOutOfReach { issuer: shown_text(&issuer) });
        }
        let Some(keys) = self.verifiers.get(&issuer) else {
            return Err(DistributedError::NotInitialized { issuer: shown_text(&issuer) });
        };
        let canonical = route::canonical(&token).map_err(VerifyError::Malformed)?;
        let jws = verify::parse(config, &canonical, &LIMITS)?;
        verify::check_algorithm(config, &jws)?;
        let payload = match timeout_at(deadline, keys.verify(jws)).await {
            Ok(outcome) => outcome.map_err(key_error)?,
            Err(_) => return Err(VerifyError::FetchingKeys(TOO_LATE.to_owned()).into()),
        };
        let Outside { policy, clock, .. } = &self.outside;
        let checked = verify::check::<DistributedError>(config, &issuer, *policy, payload.bytes(), clock.now())?;
        match json::last(&checked.members, claim) {
            Some(value) => Ok(Resolved { value: value.to_vec(), expiry: checked.expiry }),
            None => Err(DistributedError::ClaimMissing { claim: claim.to_owned(), endpoint: source.shown() }),
        }
    }
}
