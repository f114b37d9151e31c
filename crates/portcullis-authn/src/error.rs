//! Why a token was refused, in kube-apiserver's words.
//!
//! Compat: the `Display` texts are those of `k8s.io/apiserver` v0.37 and go-oidc v2.5.0, because they reach people
//! through server logs and TokenReview's `status.error`. Texts that quote Go's JSON decoder follow it closely, not to the
//! last word. An error carries claim values where upstream prints them (audience, required claims), never a token or a
//! signature.

use portcullis_jose::JoseError;

use crate::distributed::DistributedError;
use crate::go::time;
use portcullis_kube::go::{quote, quote_all};

/// A token of one of our issuers that was not accepted.
///
/// Sorted by the step that failed; [`AuthnError::step`] names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthnError {
    /// The issuer's discovery has not succeeded yet.
    #[error("oidc: authenticator not initialized")]
    NotInitialized,
    /// The token itself: form, signature, issuer, audience, times.
    #[error("oidc: verify token: {0}")]
    Verify(#[from] VerifyError),
    /// A distributed claim could not be resolved.
    #[error("oidc: could not expand distributed claims: {0}")]
    Distributed(#[from] DistributedError),
    /// The claims do not make a user, or a required claim is missing.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// Only [`crate::Policy::Strict`] refuses this; kube-apiserver would accept it.
    #[error("oidc: refused by strict policy: {0}")]
    Strict(#[from] StrictError),
}

/// A step of the authenticator, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// The issuer's discovery document and keys are known.
    Initialized,
    /// The token is a signed compact JWT.
    Parse,
    /// The header's algorithm is allowed.
    Algorithm,
    /// The signature is right.
    Signature,
    /// The claims have the types that OpenID Connect gives them.
    ClaimTypes,
    /// `_claim_names` and `_claim_sources` fit together.
    ClaimSources,
    /// `iss` is the configured issuer.
    Issuer,
    /// `aud` holds a configured audience.
    Audience,
    /// `exp` has not passed.
    Expiry,
    /// `nbf` has passed.
    NotBefore,
    /// Distributed claims are resolved.
    DistributedClaims,
    /// The user name.
    Username,
    /// The address behind an `email` user name is verified.
    EmailVerified,
    /// The groups.
    Groups,
    /// The uid.
    Uid,
    /// Further attributes.
    Extra,
    /// Required claims.
    RequiredClaims,
    /// Expressions about the claims.
    ClaimRules,
    /// Expressions about the user.
    UserRules,
    /// What only the strict policy asks.
    Strict,
}

impl AuthnError {
    /// The step that refused the token.
    pub const fn step(&self) -> Step {
        match self {
            Self::NotInitialized => Step::Initialized,
            Self::Verify(error) => error.step(),
            Self::Distributed(_) => Step::DistributedClaims,
            Self::Claims(error) => error.step(),
            Self::Strict(_) => Step::Strict,
        }
    }
}

/// go-oidc's part of the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Not a compact JWS with a readable header.
    #[error("oidc: malformed jwt: {0}")]
    Malformed(#[source] JoseError),
    /// `alg` is not in the configured list.
    #[error("oidc: id token signed with unsupported algorithm, expected {} got {}", quote_all(expected), quote(got))]
    UnsupportedAlgorithm {
        /// The allowed names in the configured order.
        expected: Vec<String>,
        /// The header's value.
        got: String,
    },
    /// No known key verifies the token.
    #[error("failed to verify signature: failed to verify id token signature")]
    Signature(#[source] JoseError),
    /// The keys could not be fetched.
    #[error("failed to verify signature: fetching keys {0}")]
    FetchingKeys(String),
    /// A claim has a type that it must not have. The text is that of Go's decoder.
    #[error("oidc: failed to unmarshal claims: {0}")]
    ClaimTypes(String),
    /// `_claim_names` maps a claim to the empty source.
    #[error("oidc: failed to obtain source from claim name")]
    EmptySource,
    /// `_claim_names` names a source that `_claim_sources` lacks.
    #[error("oidc: source does not exist")]
    UnknownSource,
    /// `iss` is another issuer's (reachable only when the routing and the typed view differ).
    #[error("oidc: id token issued by a different provider, expected {} got {}", quote(expected), quote(got))]
    Issuer {
        /// The configured issuer URL.
        expected: String,
        /// The token's `iss`.
        got: String,
    },
    /// `aud` lacks the one configured audience.
    #[error("oidc: expected audience {} got {}", quote(expected), quote_all(got))]
    Audience {
        /// The configured audience.
        expected: String,
        /// The token's `aud`.
        got: Vec<String>,
    },
    /// `aud` lacks every one of several configured audiences.
    #[error("oidc: expected audience in {} got {}", quote_all(expected), quote_all(got))]
    AudienceAny {
        /// The configured audiences, sorted.
        expected: Vec<String>,
        /// The token's `aud`.
        got: Vec<String>,
    },
    /// `exp` has passed, or is missing (`None`).
    #[error("oidc: token is expired (Token Expiry: {})", time::text(*expiry))]
    Expired {
        /// Unix seconds.
        expiry: Option<i64>,
    },
    /// `nbf` is more than a minute away.
    #[error("oidc: current time {} before the nbf (not before) time: {}", time::text(Some(*now)), time::text(Some(*not_before)))]
    NotYetValid {
        /// Unix seconds.
        now: i64,
        /// Unix seconds.
        not_before: i64,
    },
}

impl VerifyError {
    const fn step(&self) -> Step {
        match self {
            Self::Malformed(_) => Step::Parse,
            Self::UnsupportedAlgorithm { .. } => Step::Algorithm,
            Self::Signature(_) | Self::FetchingKeys(_) => Step::Signature,
            Self::ClaimTypes(_) => Step::ClaimTypes,
            Self::EmptySource | Self::UnknownSource => Step::ClaimSources,
            Self::Issuer { .. } => Step::Issuer,
            Self::Audience { .. } | Self::AudienceAny { .. } => Step::Audience,
            Self::Expired { .. } => Step::Expiry,
            Self::NotYetValid { .. } => Step::NotBefore,
        }
    }
}

/// The mapping from claims to a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// The user name claim is missing or no string.
    #[error("oidc: parse username claims {}: {reason}", quote(claim))]
    Username {
        /// The configured claim.
        claim: String,
        /// `claim not present`, or Go's type error.
        reason: String,
    },
    /// `email_verified` is no boolean.
    #[error("oidc: parse 'email_verified' claim: {0}")]
    EmailVerifiedType(String),
    /// `email_verified` is not true.
    #[error("oidc: email not verified")]
    EmailNotVerified,
    /// The groups claim is neither a string nor a list of strings.
    #[error("oidc: parse groups claim {}: {reason}", quote(claim))]
    Groups {
        /// The configured claim.
        claim: String,
        /// Go's type error.
        reason: String,
    },
    /// The uid claim is missing or no string.
    #[error("oidc: parse uid claim {}: {reason}", quote(claim))]
    Uid {
        /// The configured claim.
        claim: String,
        /// `claim not present`, or Go's type error.
        reason: String,
    },
    /// A required claim is missing.
    #[error("oidc: required claim {0} not present in ID token")]
    RequiredMissing(String),
    /// A required claim is no string.
    #[error("oidc: parse claim {claim}: {reason}")]
    RequiredType {
        /// The required claim.
        claim: String,
        /// Go's type error.
        reason: String,
    },
    /// A required claim has another value.
    #[error("oidc: required claim {claim} value does not match. Got = {got}, want = {want}")]
    RequiredValue {
        /// The required claim.
        claim: String,
        /// The token's value.
        got: String,
        /// The configured value.
        want: String,
    },
    /// The expression for the user name failed, or came to something else than a text.
    #[error("oidc: error evaluating username claim expression: {0}")]
    UsernameExpression(String),
    /// The expression for the user name came to no text at all.
    #[error("oidc: empty username via CEL expression is not allowed")]
    EmptyUsername,
    /// The expression for the groups failed, or came to something else than texts.
    #[error("oidc: error evaluating group claim expression: {0}")]
    GroupsExpression(String),
    /// The expression for the uid failed, or came to something else than a text.
    #[error("oidc: error evaluating uid claim expression: {0}")]
    UidExpression(String),
    /// An expression for a further attribute failed. Compat: upstream does not say what it was for.
    #[error("{0}")]
    ExtraExpression(String),
    /// An expression for a further attribute came to something else than texts.
    #[error("oidc: error evaluating extra claim expression: {expression}: {reason}")]
    ExtraValue {
        /// The expression.
        expression: String,
        /// What was wanted.
        reason: String,
    },
    /// An expression about the claims failed or does not hold.
    #[error("oidc: error evaluating claim validation expression: {0}")]
    ClaimRule(String),
    /// An expression about the user failed or does not hold.
    #[error("oidc: error evaluating user info validation rule: {0}")]
    UserRule(String),
}

impl ClaimsError {
    const fn step(&self) -> Step {
        match self {
            Self::Username { .. } | Self::UsernameExpression(_) | Self::EmptyUsername => Step::Username,
            Self::EmailVerifiedType(_) | Self::EmailNotVerified => Step::EmailVerified,
            Self::Groups { .. } | Self::GroupsExpression(_) => Step::Groups,
            Self::Uid { .. } | Self::UidExpression(_) => Step::Uid,
            Self::ExtraExpression(_) | Self::ExtraValue { .. } => Step::Extra,
            Self::ClaimRule(_) => Step::ClaimRules,
            Self::UserRule(_) => Step::UserRules,
            Self::RequiredMissing(_) | Self::RequiredType { .. } | Self::RequiredValue { .. } => Step::RequiredClaims,
        }
    }
}

/// What kube-apiserver lets pass and [`crate::Policy::Strict`] does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StrictError {
    /// White space, line breaks or unused base64 bits in the token: the same claims under many spellings.
    #[error("the token is not in its canonical form")]
    NotCanonical,
    /// A member name occurs twice: two readers of the token could see different users.
    #[error("the claim {} occurs twice", quote(.0))]
    DuplicateClaim(String),
    /// A registered claim in odd case, which other readers do not see.
    #[error("the claim {} is spelled {}", quote(expected), quote(got))]
    OddCase {
        /// The registered name.
        expected: &'static str,
        /// The name in the token.
        got: String,
    },
    /// The user name is empty.
    #[error("the user name is empty")]
    EmptyUsername,
    /// The token claims a name that only Kubernetes itself gives out.
    #[error("{} is a name of Kubernetes' own", quote(.0))]
    SystemName(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kube_apiservers() {
        let verify = |error: VerifyError| AuthnError::from(error).to_string();
        let got = || vec!["x".to_owned(), "y\"".to_owned()];
        assert_eq!(
            verify(VerifyError::UnsupportedAlgorithm { expected: vec!["RS256".into()], got: "PS256".into() }),
            r#"oidc: verify token: oidc: id token signed with unsupported algorithm, expected ["RS256"] got "PS256""#
        );
        assert_eq!(
            verify(VerifyError::Audience { expected: "c".into(), got: got() }),
            r#"oidc: verify token: oidc: expected audience "c" got ["x" "y\""]"#
        );
        assert_eq!(
            verify(VerifyError::AudienceAny { expected: vec!["a".into(), "b".into()], got: vec![] }),
            r#"oidc: verify token: oidc: expected audience in ["a" "b"] got []"#
        );
        assert_eq!(
            verify(VerifyError::Expired { expiry: None }),
            "oidc: verify token: oidc: token is expired (Token Expiry: 0001-01-01 00:00:00 +0000 UTC)"
        );
        assert_eq!(
            AuthnError::from(ClaimsError::Username { claim: "u".into(), reason: "claim not present".into() })
                .to_string(),
            r#"oidc: parse username claims "u": claim not present"#
        );
        assert_eq!(
            AuthnError::from(DistributedError::NoSources).to_string(),
            "oidc: could not expand distributed claims: oidc: no claim sources"
        );
    }
}
