//! Why a distributed claim could not be had, in kube-apiserver's words.

use portcullis_kube::go::quote;

use crate::error::{StrictError, VerifyError};

/// A distributed groups claim that cannot be had.
///
/// Endpoints are shown without user, password, query and fragment, and like issuers cut to 512 characters; access tokens
/// are not shown at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DistributedError {
    /// `_claim_names` is no object of strings.
    #[error("oidc: error parsing distributed claim names: {0}")]
    Names(String),
    /// `_claim_names` without `_claim_sources`.
    #[error("oidc: no claim sources")]
    NoSources,
    /// `_claim_sources` is no object of sources.
    #[error("oidc: could not parse claim sources: {0}")]
    Sources(String),
    /// The claim's source is not among the sources.
    #[error("id token _claim_names contained a source {0} missing in _claims_sources")]
    MissingSource(String),
    /// The claim would have to be fetched, and this authenticator was told not to, or has no network.
    #[error(
        "while getting distributed claim {}: this authenticator does not fetch claims from {}",
        quote(claim),
        quote(endpoint)
    )]
    NotFetched {
        /// The groups claim.
        claim: String,
        /// The endpoint that the token names.
        endpoint: String,
    },
    /// The endpoint gave no token.
    #[error("while getting distributed claim {}: {reason}", quote(claim))]
    Fetch {
        /// The groups claim.
        claim: String,
        /// What went wrong.
        #[source]
        reason: ClaimFetchError,
    },
    /// What the endpoint gave names no issuer.
    #[error("getting untrusted issuer from endpoint {endpoint} failed for claim {}: {reason}", quote(claim))]
    NoIssuer {
        /// The groups claim.
        claim: String,
        /// The endpoint that the token names.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The keys of the issuer that the endpoint's token names are not known (yet). The next token may fare better.
    #[error("verifying untrusted issuer {issuer} failed: verifier not initialized for issuer: {}", quote(issuer))]
    NotInitialized {
        /// The issuer, which nobody has vouched for.
        issuer: String,
    },
    /// The issuer that the endpoint's token names is not at a host that may be asked ([`crate::DistributedClaims::FetchFrom`]).
    #[error(
        "keys are not fetched from the issuer {}: it is not https at the issuer's own host or a listed one",
        quote(issuer)
    )]
    IssuerOutOfReach {
        /// The issuer, which nobody has vouched for.
        issuer: String,
    },
    /// The endpoint's token is not valid.
    #[error("verify distributed claim token: {0}")]
    Verify(#[from] VerifyError),
    /// Only [`crate::Policy::Strict`] refuses the endpoint's token.
    #[error("verify distributed claim token: refused by strict policy: {0}")]
    Strict(#[from] StrictError),
    /// The endpoint's token is valid and lacks the claim.
    #[error("jwt returned by distributed claim endpoint {} did not contain claim: {claim}", quote(endpoint))]
    ClaimMissing {
        /// The groups claim.
        claim: String,
        /// The endpoint that the token names.
        endpoint: String,
    },
}

/// Why a claims endpoint gave no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimFetchError {
    /// The endpoint is no URL.
    #[error("while calling {endpoint}: {reason}")]
    Url {
        /// The endpoint.
        endpoint: String,
        /// Go's text.
        reason: String,
    },
    /// There was no answer.
    #[error("Get {}: {reason}", quote(endpoint))]
    Request {
        /// The URL that was asked last.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// Not a host that claims may be fetched from ([`crate::DistributedClaims::FetchFrom`]). Upstream has no such list.
    #[error(
        "claims are not fetched from {}: it is not https at the issuer's own host or a listed one",
        quote(endpoint)
    )]
    OutOfReach {
        /// The URL that was to be asked.
        endpoint: String,
    },
    /// The answer's status is not one from 200 to 226.
    #[error("error while getting distributed claim JWT: {}", status_text(*.0))]
    Status(u16),
    /// The answer is larger than what is read of one.
    #[error("could not decode distributed claim response: it is larger than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
}

/// A status as Go prints it: `401 Unauthorized`.
fn status_text(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
}
