//! Our verdict, in the oracle's terms: what `portcullis check --stream` answers.

use portcullis_authn::Policy;
use portcullis_local::check::stream::{self, Question};
use portcullis_runtime::Clock;

use crate::draft::Case;
use crate::oracle::{Anonymous, Answer, User};

/// What our authenticator makes of `case`.
pub(crate) async fn ask(case: &Case, policy: Policy) -> Answer {
    let question = Question {
        id: "".into(),
        config: (&case.file).into(),
        initial: case.initial.as_ref().map(Into::into),
        jwks: (&case.jwks).into(),
        issuer_jwks: case.issuer_jwks.iter().map(|(issuer, set)| (issuer.into(), set.into())).collect(),
        token: (&case.token).into(),
        algs: case.algs.clone(),
        disallowed: case.disallowed.clone(),
    };
    let answer = stream::answer(&question, policy, &Clock::system()).await;
    let user = |user: stream::User| User { name: user.name, uid: user.uid, groups: user.groups, extra: user.extra };
    let anonymous = |said: stream::Anonymous| Anonymous { enabled: said.enabled, paths: said.paths };
    Answer {
        ok: answer.ok.unwrap_or_default(),
        user: answer.user.map(user),
        err: answer.err,
        init_err: answer.init_err,
        decode_err: answer.decode_err,
        jwks_err: answer.jwks_err,
        anonymous: answer.anonymous.map(anonymous),
        id: String::new(),
        badcase: answer.badcase,
    }
}
