//! Our verdict, in the oracle's terms.

use portcullis_authn::{Authenticator, ConfigError, Options, Policy, TrustConfiguration, Verdict};
use portcullis_jose::{JwkSet, Limits, UnknownKeys};
use portcullis_kube::authentication_config::AuthenticationConfiguration;
use portcullis_runtime::Clock;

use crate::draft::Case;
use crate::oracle::{Anonymous, Answer, User};

/// What our authenticator makes of `case`.
pub(crate) async fn ask(case: &Case, policy: Policy) -> Answer {
    let file = match AuthenticationConfiguration::decode(case.file.as_bytes()) {
        Ok(file) => file,
        Err(error) => return Answer { decode_err: Some(error.to_string()), ..Answer::default() },
    };
    // The oracle reads the key sets before it looks at the rules.
    let mut keys = Vec::new();
    for jwt in &file.jwt {
        let own = case.issuer_jwks.iter().find(|(issuer, _)| *issuer == jwt.issuer.url);
        let text = own.map_or(&case.jwks, |(_, jwks)| jwks);
        match JwkSet::parse(text.as_bytes(), UnknownKeys::RejectSet, &Limits::default()) {
            Ok(set) => keys.push(set),
            Err(error) => return Answer { jwks_err: Some(error.to_string()), ..Answer::default() },
        }
    }
    let trust = match load(case) {
        Ok(trust) => trust,
        Err(error) => return Answer { init_err: Some(error.to_string()), ..Answer::default() },
    };
    let anonymous = trust.anonymous().map(|anonymous| Anonymous {
        enabled: anonymous.enabled,
        paths: anonymous.conditions.iter().map(|condition| condition.path.clone()).collect(),
    });
    let loaded = Answer { anonymous, ..Answer::default() };
    let options = Options { policy, ..Options::new(Clock::system()) };
    let issuers: Vec<_> = trust.issuers().iter().cloned().zip(keys).collect();
    match Authenticator::with_static_keys(issuers, options).authenticate(&case.token).await {
        Verdict::User(user) => {
            let info = user.info().clone();
            let user = User { name: info.username, uid: info.uid, groups: info.groups, extra: info.extra };
            Answer { ok: true, user: Some(user), ..loaded }
        }
        Verdict::NoOpinion => loaded,
        Verdict::Refused(error) => Answer { err: Some(error.to_string()), ..loaded },
    }
}

fn load(case: &Case) -> Result<TrustConfiguration, ConfigError> {
    let trust = match &case.initial {
        None => TrustConfiguration::load(case.file.as_bytes(), &case.disallowed)?,
        Some(initial) => TrustConfiguration::load(initial.as_bytes(), &case.disallowed)
            .unwrap_or_else(|error| panic!("{}: the initial file is refused: {error}", case.family))
            .reload(case.file.as_bytes(), &case.disallowed)?,
    };
    trust.with_signing_algs(&case.algs)
}
