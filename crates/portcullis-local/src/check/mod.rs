//! `check`: what a cluster makes of a token, without the cluster.
//!
//! Flow: token (file, standard input, exec plugin) and whom the cluster trusts (flags, or a file) → the issuer's keys (a file,
//! or the issuer itself) → the verdict of `portcullis_authn`, which is kube-apiserver's → [`Report`]: each step with its
//! values, and for a refusal what to change.
//!
//! The verdict is the verifier's; nothing here decides anything about a token. The token is never printed.

mod config;
mod error;
mod expressions;
mod hints;
mod keys;
mod own;
mod report;
pub mod stream;
mod token;
mod view;
mod walk;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis_authn::{
    Authenticator, AuthnError, Options as Authn, Policy, Step, ValidConfig, Verdict as Decided, claimed_issuer,
};
use portcullis_jose::JwkSet;
use portcullis_kube::go::quote;
use portcullis_oidc::client::KeySource;
use portcullis_runtime::Clock;
use portcullis_runtime::http_client::ProxyFromEnv;

pub use config::ConfigFrom;
pub use error::CheckError;
pub use portcullis_platform::Format;
pub use report::{Report, Strict, User, Verdict, printable};
pub use token::TokenFrom;
pub use walk::{Line, Outcome};

use config::{FILE_LIMIT, GROUPS, RefusedConfig, Trust, USERNAME, read_text};
use keys::{Keys, Undiscovered};
use token::Token;
use view::{Case, span};
use walk::{is_there, name};

/// Bytes from which on proxies before an API server refuse a header.
const LARGE_TOKEN: usize = 8 * 1024;
/// What stands for the path of authorities that are in the configuration.
const OWN_CA: &str = "(the configuration's own)";
/// What kube-apiserver's log says of a request that it takes for nobody's.
const INVALID: &str = "invalid bearer token";

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    /// The token.
    pub token: TokenFrom,
    /// Whom the cluster trusts.
    pub config: ConfigFrom,
    /// The issuer's key set; without it the issuer is asked.
    pub jwks: Option<PathBuf>,
    /// Authorities for reaching the issuer, and the content of `--oidc-ca-file` where that is a file of another machine.
    pub ca: Option<PathBuf>,
    /// The time to judge at.
    pub clock: Clock,
    /// Proxies to the issuer.
    pub proxy: ProxyFromEnv,
}

/// Judges the token.
///
/// # Errors
/// [`CheckError`] when token, configuration or keys cannot be had. Whatever kube-apiserver would refuse is a [`Report`].
pub async fn run(options: &Options, stdin: impl Read) -> Result<Report, CheckError> {
    let ca = options.ca.as_ref().map(|path| read_text(path, "--ca", FILE_LIMIT)).transpose()?;
    let mut trust = match config::load(&options.config, ca.as_deref(), options.jwks.is_some())? {
        Ok(trust) => trust,
        Err(refused) => return Ok(refused_config(refused)),
    };
    let given = match &options.jwks {
        Some(path) => {
            let text = read_text(path, "--jwks", FILE_LIMIT)?;
            Some(keys::Read::new(text.as_bytes(), "application/json", path.display().to_string()))
        }
        None => None,
    };
    let token = token::get(&options.token, stdin).await?;
    let claimed = claimed_issuer(token.text.expose());
    let found = trust.issuers.iter().enumerate().find(|(_, one)| Ok(&one.config().issuer_url) == claimed.as_ref());
    let Some((at, valid)) = found.map(|(at, valid)| (at, valid.clone())) else {
        return Ok(nobodys(&token, &trust, claimed.err(), &options.clock).await);
    };
    let keys = match given {
        Some(read) => Keys::Read(read),
        None => {
            let own = &valid.config().certificate_authority;
            let (pem, warning) = config::authority(own, ca.as_deref(), &trust.origin, at);
            trust.warnings.extend(warning);
            keys::fetch(valid.config(), pem, &options.proxy).await.map_err(|error| CheckError::Ca {
                path: options.ca.as_ref().map_or(OWN_CA.to_owned(), |path| path.display().to_string()),
                reason: error.to_string(),
            })?
        }
    };
    Ok(judge(&token, &trust, at, &valid, &keys, &options.clock).await)
}

fn refused_config(RefusedConfig { message, hint, place }: RefusedConfig) -> Report {
    let mut report = report(Verdict::ConfigurationRefused);
    report.steps.push(Line::new("configuration", Outcome::Failed, place));
    report.log = Some(format!("Error: {message} (at start; at a reload the file before it stays in force)"));
    Report { message: Some(message), hint, ..report }
}

const fn report(verdict: Verdict) -> Report {
    Report {
        verdict,
        step: None,
        message: None,
        log: None,
        by_decision: None,
        hint: None,
        issuer: None,
        expires_at: None,
        user: None,
        steps: Vec::new(),
        strict: None,
        warnings: Vec::new(),
    }
}

fn authn(policy: Policy, clock: &Clock) -> Authn {
    Authn { policy, cache_bytes: 0, ..Authn::new(clock.clone()) }
}

fn token_step(token: &Token) -> Line {
    let text = token.text.expose();
    let parts = text.split('.').count();
    Line::new("token", Outcome::Ok, format!("{} bytes from {}, {parts} part(s)", text.len(), token.from))
}

/// A token of none of the issuers. The verifier is asked all the same.
async fn nobodys(token: &Token, trust: &Trust, why: Option<&str>, clock: &Clock) -> Report {
    let text = token.text.expose();
    let nothing = trust.issuers.iter().map(|valid| (valid.clone(), JwkSet::default()));
    let decided = Authenticator::with_static_keys(nothing.collect::<Vec<_>>(), authn(Policy::Faithful, clock));
    let case = Case::new(text, &trust.issuers, &trust.origin, clock.now());
    let decided = decided.authenticate(text).await;
    let trusted: Vec<String> = trust.issuers.iter().map(|one| quote(&one.config().issuer_url)).collect();
    let claimed = match why {
        Some(why) => why.to_owned(),
        None => format!("iss is {}", case.registered("iss").map(view::shown).unwrap_or_default()),
    };
    let detail = format!("{claimed}; trusted: {}", trusted.join(", "));
    let base = report(Verdict::NoOpinion);
    let steps = vec![token_step(token), Line::new("issuer", Outcome::Failed, detail)];
    let warnings = trust.warnings.clone();
    match decided {
        // Only a token too large to be read comes here.
        Decided::Refused(error) => {
            let message = error.to_string();
            Report {
                verdict: Verdict::Refused,
                step: Some(name(error.step())),
                hint: Some(hints::for_refusal(&error, &case)),
                log: Some(log(&message)),
                message: Some(message),
                steps: vec![token_step(token), Line::new(name(error.step()), Outcome::Failed, String::new())],
                warnings,
                ..base
            }
        }
        Decided::NoOpinion | Decided::User(_) => Report {
            step: Some("issuer"),
            message: Some(INVALID.to_owned()),
            log: Some(format!("\"Unable to authenticate the request\" err=\"{INVALID}\"")),
            hint: Some(hints::for_nobody(&case)),
            steps,
            warnings,
            ..base
        },
    }
}

fn log(message: &str) -> String {
    format!("\"Unable to authenticate the request\" err={}", quote(&format!("[{INVALID}, {message}]")))
}

/// A token of one of the issuers.
async fn judge(token: &Token, trust: &Trust, at: usize, valid: &ValidConfig, keys: &Keys, clock: &Clock) -> Report {
    let text = token.text.expose();
    let mut case = Case::new(text, &trust.issuers, &trust.origin, clock.now());
    case.at = Some(at);
    case.config = Some(valid.config());
    let issuer = &valid.config().issuer_url;
    let setting = trust.origin.name(config::ISSUER, at);
    let mut steps =
        vec![token_step(token), Line::new("issuer", Outcome::Ok, format!("{} is trusted ({setting})", quote(issuer)))];
    let base = Report { issuer: Some(issuer.clone()), ..report(Verdict::Refused) };
    let read = match keys {
        Keys::Read(read) => read,
        Keys::Undiscovered(fault) => {
            let Undiscovered { url, reason, .. } = fault;
            let step = name(Step::Initialized);
            let hint = hints::for_undiscovered(fault, &case);
            steps.push(Line::new(step, Outcome::Failed, format!("{url}: {reason}")));
            // Compat: until an issuer has been discovered kube-apiserver looks at none of its tokens.
            let message = AuthnError::NotInitialized.to_string();
            let log = format!("{}, and before it: oidc authenticator: initializing plugin: {reason}", log(&message));
            let warnings = trust.warnings.clone();
            return Report {
                step: Some(step),
                message: Some(message),
                log: Some(log),
                hint: Some(hint),
                steps,
                warnings,
                ..base
            };
        }
    };
    case.keys = Some(read);
    let decided = decide(valid, read.source(Policy::Faithful), Policy::Faithful, text, clock).await;
    steps.extend(walk::steps(&case, valid, decided.refusal()));
    let strict = decide(valid, read.source(Policy::Strict), Policy::Strict, text, clock).await;
    let strict = differs(&decided, &strict, &case);
    let base = Report { steps, strict, ..base };
    match &decided {
        Decided::User(user) => {
            let mut warnings = trust.warnings.clone();
            warnings.extend(doubts(&case, valid, user.info()));
            Report {
                verdict: Verdict::Accepted,
                user: Some(user.info().into()),
                expires_at: Some(user.expires_at().rfc3339()),
                warnings,
                ..base
            }
        }
        Decided::Refused(error) => {
            let message = error.to_string();
            let by_decision = own::decision(error, &case);
            let hint = match by_decision {
                Some(what) if matches!(error, AuthnError::Claims(_)) => format!(
                    "kube-apiserver accepts {what}, and takes its time and memory: let the expression look at less, or the provider send less \
                     (docs/compat/kube-apiserver-cel.md)"
                ),
                Some(what) => format!(
                    "kube-apiserver accepts {what}: there signature and claims decide, which are not looked at here. If the \
                     keys are the issuer's own, let the provider do without what Portcullis refuses by decision \
                     (docs/compat/kube-apiserver-authn.md); if not, the token or the keys are another issuer's"
                ),
                None => hints::for_refusal(error, &case),
            };
            Report {
                step: Some(name(error.step())),
                log: by_decision.is_none().then(|| log(&message)),
                by_decision,
                hint: Some(hint),
                message: Some(message),
                warnings: trust.warnings.clone(),
                ..base
            }
        }
        Decided::NoOpinion => Report { verdict: Verdict::NoOpinion, warnings: trust.warnings.clone(), ..base },
    }
}

async fn decide(valid: &ValidConfig, keys: Arc<dyn KeySource>, policy: Policy, token: &str, clock: &Clock) -> Decided {
    Authenticator::with_key_sources([(valid.clone(), keys)], authn(policy, clock)).authenticate(token).await
}

/// The strict verdict, where it is of another kind.
fn differs(faithful: &Decided, strict: &Decided, case: &Case<'_>) -> Option<Strict> {
    match (faithful, strict) {
        (Decided::User(_), Decided::Refused(error)) => Some(Strict {
            verdict: Verdict::Refused,
            message: Some(error.to_string()),
            hint: Some(hints::for_refusal(error, case)),
        }),
        (Decided::Refused(_), Decided::User(_)) => {
            Some(Strict { verdict: Verdict::Accepted, message: None, hint: None })
        }
        _ => None,
    }
}

/// What works and may not be what was meant.
fn doubts(case: &Case<'_>, valid: &ValidConfig, user: &portcullis_kube::user_info::UserInfo) -> Vec<String> {
    let config = valid.config();
    let at = case.at.unwrap_or_default();
    let mut doubts = Vec::new();
    if !case.origin.is_file() && config.username.prefix == format!("{}#", config.issuer_url) {
        doubts.push(format!(
            "the user name begins with the issuer, because no prefix is given: roles must be bound to {}; \
             {}oidc-username-prefix=- is none",
            quote(&user.username),
            if matches!(case.origin, config::Origin::Flags) { "--" } else { "" }
        ));
    }
    if let Some(groups) = &config.groups
        && !is_there(case.claim(&groups.claim))
        && case.claim("_claim_names").is_none()
    {
        let other = case.odd_case(&groups.claim);
        let other = other.map(|other| format!(" ({} is another name here)", quote(other))).unwrap_or_default();
        doubts.push(format!(
            "the token has no claim {}{other}, so the user has no groups: let the provider send it, or correct {}",
            quote(&groups.claim),
            case.origin.name(GROUPS, at)
        ));
    }
    doubts.extend(valid.unverified_addresses().map(str::to_owned));
    if user.username.is_empty() {
        doubts.push(format!(
            "the user name is empty: no role can be bound to it; see {}",
            case.origin.name(USERNAME, at)
        ));
    }
    if case.token.len() > LARGE_TOKEN {
        doubts.push(format!(
            "the token has {} bytes: proxies before an API server often refuse headers over {LARGE_TOKEN}",
            case.token.len()
        ));
    }
    let left = case
        .registered("exp")
        .and_then(serde_json::Value::as_i64)
        .map(|exp| exp.saturating_sub(case.now.unix_seconds()));
    if let Some(left) = left.filter(|left| *left < 60) {
        doubts.push(format!("the token ends in {}", span(left)));
    }
    doubts
}
