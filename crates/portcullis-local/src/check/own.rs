//! What this program refuses by decision although kube-apiserver accepts it (docs/compat/kube-apiserver-authn.md).
//!
//! `check` tells kube-apiserver's verdict. Where the verifier is narrower, that must be said, and no line of kube-apiserver's log
//! be made up.

use portcullis_authn::{AuthnError, VerifyError};
use portcullis_jose::{JoseError, base64url_decode_as_go};
use portcullis_oidc::client::JwksFetchError;
use serde_json::{Map, Value};

use super::view::Case;

/// Members of a header that the verifier takes.
const HEADER_MEMBERS: usize = 256;
/// Bits of the RSA keys that kube-apiserver takes and this program does not.
const SMALL_RSA: std::ops::Range<usize> = 1024..2048;
const LARGEST_RSA: usize = 8192;

const ODD_KEYS: &str = "a set whose member keys is written twice or in other letters";

/// What it is that kube-apiserver accepts, if this program alone refuses the token at this step.
pub(crate) fn decision(error: &AuthnError, case: &Case<'_>) -> Option<&'static str> {
    let error = match error {
        AuthnError::Verify(error) => error,
        AuthnError::Claims(error) => return of_values(&error.to_string()),
        _ => return None,
    };
    let header = |name: &str| case.header.as_ref().and_then(|header| header.get(name));
    match error {
        VerifyError::Malformed(reason) | VerifyError::Signature(reason) => match reason {
            JoseError::Critical => header("crit")
                .is_some_and(|crit| {
                    crit.is_null() || crit.as_array().is_some_and(|names| names.iter().all(|n| n == "b64"))
                })
                .then_some("critical header members that need nothing of it"),
            JoseError::HeaderMember("typ") => Some("a header typ that is no text"),
            JoseError::HeaderMember("jwk") | JoseError::HeaderKey if header("jwk").is_some_and(Value::is_null) => {
                Some("a header jwk that is null")
            }
            JoseError::HeaderTooLarge { .. } | JoseError::KidTooLong { .. } => Some("a header of that size"),
            JoseError::HeaderJson if case.header.as_ref().is_some_and(|header| header.len() > HEADER_MEMBERS) => {
                Some("a header with that many members")
            }
            JoseError::NoMatchingKey if has_odd_keys(case) => Some(ODD_KEYS),
            JoseError::NoMatchingKey => named(case, |key| {
                let bits = rsa_bits(key).unwrap_or_default();
                SMALL_RSA.contains(&bits) || bits > LARGEST_RSA
            })
            .then_some("RSA keys of that size"),
            JoseError::AlgorithmKeyMismatch => (case.header("alg").is_some_and(|alg| alg.starts_with("ES"))
                && named(case, |key| key.get("kty").is_some_and(|kty| kty == "EC")))
            .then_some("a curve that is not the algorithm's"),
            _ => None,
        },
        VerifyError::FetchingKeys(_) => match case.keys.map(|keys| &keys.faithful) {
            Some(Err(JwksFetchError::Decode { reason, .. })) => match reason {
                JoseError::TooManyKeys { .. } => Some("a set of that many keys"),
                JoseError::SetTooLarge { .. } | JoseError::KidTooLong { .. } => Some("a set of that size"),
                JoseError::SetJson if lists_keys(case) => Some(ODD_KEYS),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn set<'a>(case: &Case<'a>) -> Option<&'a Map<String, Value>> {
    case.keys?.json.as_ref()?.as_object()
}

/// Limits of evaluation that upstream does not have.
fn of_values(text: &str) -> Option<&'static str> {
    if text.ends_with("levels of lists and objects") {
        Some("a claim of that depth")
    } else if text.contains("resulted in error: operation cancelled: ") && !text.ends_with("actual cost limit exceeded")
    {
        Some("an expression that makes values of that size, or walks as many")
    } else {
        None
    }
}

/// Whether the set has a list of keys under that name, in whatever letters.
fn lists_keys(case: &Case<'_>) -> bool {
    set(case).is_some_and(|set| set.iter().any(|(name, keys)| name.eq_ignore_ascii_case("keys") && keys.is_array()))
}

/// Whether it has one in other letters alone.
fn has_odd_keys(case: &Case<'_>) -> bool {
    lists_keys(case) && set(case).is_some_and(|set| !set.contains_key("keys"))
}

/// Whether the set has a key of this kind that the token may have been signed with.
fn named(case: &Case<'_>, kind: impl Fn(&Value) -> bool) -> bool {
    let kid = case.kid();
    let keys = set(case).and_then(|set| set.get("keys")).and_then(Value::as_array);
    keys.into_iter().flatten().any(|key| (kid.is_none() || key.get("kid").and_then(Value::as_str) == kid) && kind(key))
}

fn rsa_bits(key: &Value) -> Option<usize> {
    let modulus = base64url_decode_as_go(key.get("n")?.as_str()?)?;
    let modulus = modulus.get(modulus.iter().position(|byte| *byte != 0)?..)?;
    let leading = modulus.first()?.leading_zeros();
    Some((modulus.len() * 8).saturating_sub(usize::try_from(leading).ok()?))
}
