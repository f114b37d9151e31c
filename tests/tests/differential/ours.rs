//! Our verdict, in the oracle's terms.

use portcullis_authn::{Authenticator, Options, Policy, Verdict};
use portcullis_jose::{JwkSet, Limits, UnknownKeys};
use portcullis_runtime::Clock;

use crate::draft::Case;
use crate::oracle::{Answer, User};

/// What our authenticator makes of `case`.
pub(crate) async fn ask(case: &Case, policy: Policy) -> Answer {
    // The oracle reads the key set first.
    let keys = match JwkSet::parse(case.jwks.as_bytes(), UnknownKeys::RejectSet, &Limits::default()) {
        Ok(keys) => keys,
        Err(error) => return Answer { jwks_err: Some(error.to_string()), ..Answer::default() },
    };
    let config = match case.config.clone().validate("", &case.disallowed) {
        Ok(config) => config,
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("invalid authentication configuration: ").unwrap_or(&text).to_owned();
            return Answer { init_err: Some(text), ..Answer::default() };
        }
    };
    let options = Options { policy, ..Options::new(Clock::system()) };
    match Authenticator::with_static_keys([(config, keys)], options).authenticate(&case.token).await {
        Verdict::User(user) => {
            let info = user.info().clone();
            let user = User { name: info.username, uid: info.uid, groups: info.groups, extra: info.extra };
            Answer { ok: true, user: Some(user), ..Answer::default() }
        }
        Verdict::NoOpinion => Answer::default(),
        Verdict::Refused(error) => Answer { err: Some(error.to_string()), ..Answer::default() },
    }
}
