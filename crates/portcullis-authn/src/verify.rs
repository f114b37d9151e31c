//! The checks around a signature: form and algorithm before it; typed claims, sources, issuer, audience, times and user
//! once it is right.
//!
//! Pure: the same payload, configuration and time always give the same answer. The order of the checks is upstream's,
//! because the first failure is the one that people read.
//!
//! Compat: `IDTokenVerifier.Verify` of go-oidc v2.5.0 and `idTokenVerifier.verifyAudience` of `k8s.io/apiserver` v0.37.
//! `exp` has no leeway, `nbf` has 60 seconds, and with several audiences they are compared after the times.

use portcullis_jose::{CompactJws, JoseError, Limits};
use portcullis_kube::user_info::UserInfo;
use portcullis_runtime::Timestamp;

use crate::claims::IdTokenClaims;
use crate::config::{self, JwtConfig, ValidConfig};
use crate::error::{AuthnError, StrictError, VerifyError};
use crate::go::json::{self, Document, Member};
use crate::go::number;
use crate::mapping;
use crate::policy::{self, Policy};
use crate::route::{self, GOOGLE, GOOGLE_BARE};

/// Seconds that a token may be used before its `nbf`.
const NOT_BEFORE_LEEWAY: i64 = 60;

/// The claims of a token that is valid.
#[derive(Debug)]
pub(crate) struct Checked<'p> {
    pub(crate) members: Vec<Member<'p>>,
    /// `exp` in Unix seconds.
    pub(crate) expiry: i64,
}

/// Parses a token in canonical form.
pub(crate) fn parse<'t>(config: &JwtConfig, token: &'t str, limits: &Limits) -> Result<CompactJws<'t>, VerifyError> {
    route::parse(token, limits).map_err(|error| malformed(config, token, error))
}

/// Compat: no header at all, and one without `alg`, are well-formed in go-jose's eyes and fail at the algorithm.
pub(crate) fn malformed(config: &JwtConfig, token: &str, error: JoseError) -> VerifyError {
    match error {
        JoseError::HeaderMember("alg") => unsupported(config, ""),
        _ if token.starts_with('.') => unsupported(config, ""),
        error => VerifyError::Malformed(error),
    }
}

/// Whether the header's algorithm is one of the configured ones.
pub(crate) fn check_algorithm(config: &JwtConfig, jws: &CompactJws<'_>) -> Result<(), VerifyError> {
    let name = jws.algorithm_name();
    if config.signing_algs.iter().any(|alg| alg == name) { Ok(()) } else { Err(unsupported(config, name)) }
}

fn unsupported(config: &JwtConfig, got: &str) -> VerifyError {
    VerifyError::UnsupportedAlgorithm { expected: config.signing_algs.clone(), got: got.to_owned() }
}

/// Checks the payload of a token whose signature is `issuer`'s: the configured one, or that of a distributed claim.
pub(crate) fn check<'p, E: From<VerifyError> + From<StrictError>>(
    config: &JwtConfig,
    issuer: &str,
    policy: Policy,
    payload: &'p [u8],
    now: Timestamp,
) -> Result<Checked<'p>, E> {
    let members = match json::parse(payload) {
        Ok(Document::Object(members)) => members,
        // Unreachable after routing, which found an issuer in the same bytes.
        Ok(Document::Other(_)) | Err(_) => Vec::new(),
    };
    if policy == Policy::Strict {
        policy::check_members(&members)?;
    }
    let claims = IdTokenClaims::decode(&members)?;
    claims.check_sources()?;
    check_issuer(issuer, &claims.issuer)?;
    if let [only] = config.audiences.as_slice() {
        check_audience(only, &claims.audience)?;
    }
    let expiry = check_times(&claims, now)?;
    if config.audiences.len() > 1 {
        check_audiences(&config.audiences, &claims.audience)?;
    }
    Ok(Checked { members, expiry })
}

/// The user that valid claims make.
pub(crate) fn user(valid: &ValidConfig, policy: Policy, members: &[Member<'_>]) -> Result<UserInfo, AuthnError> {
    let user = mapping::user(valid.config(), &valid.expressions, members)?;
    if policy == Policy::Strict {
        policy::check_user(&user.username, &user.groups)?;
    }
    Ok(user)
}

fn check_issuer(expected: &str, got: &str) -> Result<(), VerifyError> {
    if got == expected || (expected == GOOGLE && got == GOOGLE_BARE) {
        return Ok(());
    }
    Err(VerifyError::Issuer { expected: expected.to_owned(), got: got.to_owned() })
}

fn check_audience(expected: &str, got: &[String]) -> Result<(), VerifyError> {
    if got.iter().any(|audience| audience == expected) {
        return Ok(());
    }
    Err(VerifyError::Audience { expected: expected.to_owned(), got: got.to_vec() })
}

fn check_audiences(expected: &[String], got: &[String]) -> Result<(), VerifyError> {
    if got.iter().any(|audience| expected.contains(audience)) {
        return Ok(());
    }
    Err(VerifyError::AudienceAny { expected: config::sorted(expected), got: got.to_vec() })
}

/// Checks `exp` and `nbf`; returns `exp`.
fn check_times(claims: &IdTokenClaims, now: Timestamp) -> Result<i64, VerifyError> {
    let expired = || VerifyError::Expired { expiry: claims.expiry };
    let seconds = now.unix_seconds();
    let nanos = u32::try_from(now.unix_nanos().rem_euclid(1_000_000_000)).unwrap_or_default();
    let expiry = claims.expiry.ok_or_else(expired)?;
    if number::before(expiry, seconds, nanos) {
        return Err(expired());
    }
    if let Some(not_before) = claims.not_before
        && number::after(not_before, seconds.saturating_add(NOT_BEFORE_LEEWAY))
    {
        return Err(VerifyError::NotYetValid { now: seconds, not_before });
    }
    Ok(expiry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PrefixedClaim;
    use crate::error::Step;

    const NOW: i64 = 1_800_000_000;

    fn config() -> JwtConfig {
        JwtConfig {
            issuer_url: "https://issuer.example".into(),
            audiences: vec!["c".into()],
            username: PrefixedClaim { claim: "sub".into(), prefix: String::new() },
            ..JwtConfig::default()
        }
    }

    fn evaluate(config: &JwtConfig, policy: Policy, payload: &[u8], now: Timestamp) -> Result<UserInfo, AuthnError> {
        let checked = check::<AuthnError>(config, &config.issuer_url, policy, payload, now)?;
        let valid = config.clone().validate("", &[]).expect("valid");
        user(&valid, policy, &checked.members)
    }

    fn at(config: &JwtConfig, now: Timestamp, claims: &str) -> Result<UserInfo, AuthnError> {
        evaluate(config, Policy::Faithful, format!(r#"{{"iss":"https://issuer.example",{claims}}}"#).as_bytes(), now)
    }

    fn step(claims: &str) -> Option<Step> {
        at(&config(), Timestamp::from_unix_seconds(NOW), claims).err().map(|error| error.step())
    }

    #[test]
    fn expiry_has_no_leeway_and_not_before_has_a_minute() {
        for (claims, want) in [
            (format!(r#""aud":"c","sub":"x","exp":{NOW}"#), None),
            (format!(r#""aud":"c","sub":"x","exp":{}"#, NOW - 1), Some(Step::Expiry)),
            (r#""aud":"c","sub":"x""#.to_owned(), Some(Step::Expiry)),
            (format!(r#""aud":"c","sub":"x","exp":{NOW},"nbf":{}"#, NOW + 60), None),
            (format!(r#""aud":"c","sub":"x","exp":{NOW},"nbf":{}"#, NOW + 61), Some(Step::NotBefore)),
            (format!(r#""aud":"c","sub":"x","exp":{NOW},"nbf":1e30"#), None),
            (r#""aud":"c","sub":"x","exp":1e30"#.to_owned(), Some(Step::Expiry)),
        ] {
            assert_eq!(step(&claims), want, "{claims}");
        }
        let just_after = Timestamp::from_unix_nanos(NOW * 1_000_000_000 + 1);
        let claims = format!(r#""aud":"c","sub":"x","exp":{NOW}"#);
        assert_eq!(at(&config(), just_after, &claims).err().map(|error| error.step()), Some(Step::Expiry));
    }

    #[test]
    fn the_first_failing_check_is_the_one_reported() {
        assert_eq!(step(r#""aud":1"#), Some(Step::ClaimTypes));
        assert_eq!(step(r#""aud":"x","_claim_names":{"a":"b"}"#), Some(Step::ClaimSources));
        assert_eq!(step(r#""aud":"x","exp":1"#), Some(Step::Audience));
        assert_eq!(step(r#""aud":"c","exp":1"#), Some(Step::Expiry));
        assert_eq!(step(&format!(r#""aud":"c","exp":{NOW}"#)), Some(Step::Username));
        let several = JwtConfig { audiences: vec!["c".into(), "d".into()], ..config() };
        let now = Timestamp::from_unix_seconds(NOW);
        let error = at(&several, now, r#""aud":"x","exp":1"#).expect_err("refused");
        assert_eq!(error.step(), Step::Expiry, "several audiences are compared after the times");
        let error = at(&several, now, &format!(r#""aud":["x"],"exp":{NOW}"#)).expect_err("refused");
        assert_eq!(error.to_string(), r#"oidc: verify token: oidc: expected audience in ["c" "d"] got ["x"]"#);
    }

    #[test]
    fn the_issuer_is_compared_again() {
        let now = Timestamp::from_unix_seconds(NOW);
        let error = evaluate(&config(), Policy::Faithful, br#"{"iss":"https://other"}"#, now).expect_err("refused");
        assert_eq!(
            error.to_string(),
            r#"oidc: verify token: oidc: id token issued by a different provider, expected "https://issuer.example" got "https://other""#
        );
        let google = JwtConfig { issuer_url: GOOGLE.into(), ..config() };
        let payload = format!(r#"{{"iss":"accounts.google.com","aud":"c","sub":"x","exp":{NOW}}}"#);
        assert!(evaluate(&google, Policy::Faithful, payload.as_bytes(), now).is_ok());
    }

    #[test]
    fn strict_adds_its_own_checks_and_takes_nothing_away() {
        let now = Timestamp::from_unix_seconds(NOW);
        for (claims, strict) in [
            (r#""sub":"x""#, true),
            (r#""sub":"""#, false),
            (r#""sub":"system:admin""#, false),
            (r#""sub":"x","SUB":"y""#, false),
            (r#""sub":"x","sub":"x""#, false),
        ] {
            let payload = format!(r#"{{"iss":"https://issuer.example","aud":"c","exp":{NOW},{claims}}}"#);
            assert!(evaluate(&config(), Policy::Faithful, payload.as_bytes(), now).is_ok(), "{claims}");
            assert_eq!(evaluate(&config(), Policy::Strict, payload.as_bytes(), now).is_ok(), strict, "{claims}");
        }
    }
}
