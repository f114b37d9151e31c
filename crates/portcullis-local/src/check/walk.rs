//! The way that a token takes, step by step, each with the values that it looks at.
//!
//! Which step refused comes from the verifier's own typed error, and the order is the verifier's, so the walk and the verdict
//! cannot disagree: what is before that step has passed, what is after it was not reached.

use portcullis_authn::{AuthnError, Evaluation, Purpose, Step, ValidConfig};
use portcullis_kube::go::{quote, quote_all};
use portcullis_runtime::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::view::{Case, cut, shown, span};

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It passed.
    Ok,
    /// It refused the token.
    Failed,
    /// It was not reached.
    NotReached,
}

/// A step, and what it looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its name.
    pub step: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// The values.
    pub detail: String,
}

impl Line {
    pub(crate) fn new(step: &'static str, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { step, outcome, detail: detail.into() }
    }
}

/// The name of a step.
pub(crate) const fn name(step: Step) -> &'static str {
    match step {
        Step::Initialized => "keys",
        Step::Parse => "form",
        Step::Algorithm => "algorithm",
        Step::Signature => "signature",
        Step::ClaimTypes => "claimTypes",
        Step::ClaimSources => "claimSources",
        Step::Issuer => "verifiedIssuer",
        Step::Audience => "audience",
        Step::Expiry => "expiry",
        Step::NotBefore => "notBefore",
        Step::DistributedClaims => "distributedClaims",
        Step::Username => "username",
        Step::EmailVerified => "emailVerified",
        Step::Groups => "groups",
        Step::Uid => "uid",
        Step::Extra => "extra",
        Step::RequiredClaims => "requiredClaims",
        Step::ClaimRules => "claimRules",
        Step::UserRules => "userRules",
        Step::Strict => "strict",
        _ => "other",
    }
}

/// The steps behind the choice of the issuer. `refused` is the verifier's, if it refused.
pub(crate) fn steps(case: &Case<'_>, valid: &ValidConfig, refused: Option<&AuthnError>) -> Vec<Line> {
    let evaluations = valid.evaluations(&case.payload);
    let failed = refused.map(AuthnError::step);
    let plan = plan(case, valid, &evaluations, failed);
    let position = failed.and_then(|failed| plan.iter().position(|step| *step == failed));
    plan.iter()
        .enumerate()
        .map(|(at, step)| {
            let outcome = match position {
                Some(failed) if at == failed => Outcome::Failed,
                Some(failed) if at > failed => Outcome::NotReached,
                _ => Outcome::Ok,
            };
            let detail = match outcome {
                Outcome::NotReached => String::new(),
                Outcome::Ok | Outcome::Failed => detail(*step, case, valid, &evaluations),
            };
            Line::new(name(*step), outcome, detail)
        })
        .collect()
}

/// The steps that this issuer's tokens take, in the verifier's order.
fn plan(case: &Case<'_>, valid: &ValidConfig, evaluations: &[Evaluation], failed: Option<Step>) -> Vec<Step> {
    let config = valid.config();
    let has = |wanted: fn(&Purpose) -> bool| evaluations.iter().any(|one| wanted(&one.purpose));
    let mut plan = vec![Step::Initialized, Step::Parse, Step::Algorithm, Step::Signature, Step::ClaimTypes];
    if case.registered("_claim_names").is_some() {
        plan.push(Step::ClaimSources);
    }
    plan.push(Step::Issuer);
    // With several audiences they come after the times.
    match config.audiences.len() {
        1 => plan.extend([Step::Audience, Step::Expiry, Step::NotBefore]),
        _ => plan.extend([Step::Expiry, Step::NotBefore, Step::Audience]),
    }
    if case.claim("_claim_names").is_some() && config.groups.is_some() {
        plan.push(Step::DistributedClaims);
    }
    plan.push(Step::Username);
    if config.username.claim == "email" {
        plan.push(Step::EmailVerified);
    }
    let mapped = [
        (Step::Groups, config.groups.is_some() || has(|purpose| *purpose == Purpose::Groups)),
        (Step::Uid, config.uid_claim.is_some() || has(|purpose| *purpose == Purpose::Uid)),
        (Step::Extra, has(|purpose| matches!(purpose, Purpose::Extra(_)))),
        (Step::RequiredClaims, !config.required_claims.is_empty()),
        (Step::ClaimRules, has(|purpose| matches!(purpose, Purpose::ClaimRule(_)))),
        (Step::UserRules, has(|purpose| matches!(purpose, Purpose::UserRule(_)))),
    ];
    plan.extend(mapped.into_iter().filter_map(|(step, there)| there.then_some(step)));
    // Whatever refused is shown, also where nothing here has foreseen it.
    if let Some(failed) = failed.filter(|failed| !plan.contains(failed)) {
        let at = plan.iter().position(|step| *step > failed).unwrap_or(plan.len());
        plan.insert(at, failed);
    }
    plan
}

fn detail(step: Step, case: &Case<'_>, valid: &ValidConfig, evaluations: &[Evaluation]) -> String {
    let config = valid.config();
    let of = |wanted: &dyn Fn(&Purpose) -> bool| {
        let told = evaluations.iter().filter(|one| wanted(&one.purpose)).map(evaluated);
        told.collect::<Vec<_>>().join("; ")
    };
    let claim = |name: &str| match case.claim(name) {
        Some(value) => format!("the claim {} is {}", quote(name), shown(value)),
        None => match case.odd_case(name) {
            Some(other) => format!("there is no claim {}, and {} is another name here", quote(name), quote(other)),
            None => format!("there is no claim {}", quote(name)),
        },
    };
    // Verification finds its claims in any case of letters, mapping does not.
    let verified = |name: &str| match (case.registered(name), case.spelling(name)) {
        (Some(value), None) => format!("the claim {} is {}", quote(name), shown(value)),
        (Some(value), Some(other)) => {
            format!("the claim {}, spelled {}, is {}", quote(name), quote(other), shown(value))
        }
        (None, _) => format!("there is no claim {}", quote(name)),
    };
    let prefixed = |name: &str, prefix: &str| match prefix {
        "" => format!("{}; no prefix", claim(name)),
        prefix => format!("{}; prefix {}", claim(name), quote(prefix)),
    };
    match step {
        Step::Initialized => case.keys.map(super::keys::Read::summary).unwrap_or_default(),
        Step::Parse => {
            let member = |name: &str| match case.header.as_ref().and_then(|header| header.get(name)) {
                Some(value) => format!("{name} {}", shown(value)),
                None => format!("no {name}"),
            };
            [member("alg"), member("kid"), member("typ")].join(", ")
        }
        Step::Algorithm => {
            let got = case.header("alg").unwrap_or_default();
            format!("{}; allowed are {}", quote(got), config.signing_algs.join(", "))
        }
        Step::Signature => match case.kid() {
            Some(kid) => match case.keys.map(|keys| (keys.faithful.is_ok(), keys.kids().contains(&kid))) {
                Some((true, true)) => format!("with the key {}", quote(kid)),
                Some((true, false)) => format!("the token names the key {}, which the set does not have", quote(kid)),
                Some((false, _)) | None => {
                    format!("the token names the key {}, and there is no set that can be used", quote(kid))
                }
            },
            None => "the token names no key: each of the set is tried".to_owned(),
        },
        Step::ClaimTypes => "iss, sub, aud, exp, iat, nbf, nonce, at_hash".to_owned(),
        Step::ClaimSources => "_claim_names and _claim_sources".to_owned(),
        Step::Issuer => verified("iss"),
        Step::Audience => format!("{}; wanted: {}", verified("aud"), quote_all(&config.audiences)),
        Step::Expiry => time("exp", case),
        Step::NotBefore => match case.registered("nbf") {
            Some(_) => format!("{}; a minute early is fine", time("nbf", case)),
            None => "there is no nbf, which is fine".to_owned(),
        },
        Step::DistributedClaims => "the groups are said to be elsewhere".to_owned(),
        Step::Username if config.username.claim.is_empty() => of(&|purpose| *purpose == Purpose::Username),
        Step::Username => prefixed(&config.username.claim, &config.username.prefix),
        Step::EmailVerified => match case.claim("email_verified") {
            Some(value) => format!("email_verified is {}", shown(value)),
            None => "there is no email_verified, which is fine".to_owned(),
        },
        Step::Groups => match &config.groups {
            Some(groups) => prefixed(&groups.claim, &groups.prefix),
            None => of(&|purpose| *purpose == Purpose::Groups),
        },
        Step::Uid => match &config.uid_claim {
            Some(name) => claim(name),
            None => of(&|purpose| *purpose == Purpose::Uid),
        },
        Step::Extra => of(&|purpose| matches!(purpose, Purpose::Extra(_))),
        Step::RequiredClaims => {
            let each =
                config.required_claims.iter().map(|(name, want)| format!("{}; wanted: {}", claim(name), quote(want)));
            each.collect::<Vec<_>>().join("; ")
        }
        Step::ClaimRules => of(&|purpose| matches!(purpose, Purpose::ClaimRule(_))),
        Step::UserRules => of(&|purpose| matches!(purpose, Purpose::UserRule(_))),
        _ => String::new(),
    }
}

fn evaluated(one: &Evaluation) -> String {
    let Evaluation { purpose, expression, outcome } = one;
    let key = match purpose {
        Purpose::Extra(key) => format!("{key}: "),
        _ => String::new(),
    };
    match outcome {
        Ok(value) => format!("{key}{} comes to {}", cut(expression), cut(value)),
        Err(error) => format!("{key}{}", cut(error)),
    }
}

fn time(name: &str, case: &Case<'_>) -> String {
    let Some(value) = case.registered(name) else { return format!("there is no {name}") };
    let Some(seconds) = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok())) else {
        return format!("{name} is {}", shown(value));
    };
    let now = case.now.unix_seconds();
    let distance = if seconds >= now {
        format!("in {}", span(seconds.saturating_sub(now)))
    } else {
        format!("{} ago", span(now.saturating_sub(seconds)))
    };
    format!("{name} is {}, {distance}; it is {}", Timestamp::from_unix_seconds(seconds).rfc3339(), case.now.rfc3339())
}

/// Whether a claim is there and of use.
pub(crate) fn is_there(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null())
}
