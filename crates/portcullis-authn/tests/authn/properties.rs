//! No token, payload, flag or URL makes the authenticator panic, and nothing unsigned becomes a user.
//!
//! A verifier that accepts every signature lets the random payloads through to the claims logic.

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use portcullis_authn::{Authenticator, JwtConfig, OidcFlags, Options, Policy, PrefixedClaim, ValidConfig, Verdict};
use portcullis_jose::{CompactJws, JoseError, JwkSet, SignatureVerifier, base64url_encode};
use portcullis_oidc::client::{KeySource, StaticKeys};
use portcullis_runtime::Clock;
use proptest::prelude::*;

struct AcceptsAll;

impl SignatureVerifier for AcceptsAll {
    fn verify_signature(&self, _: &CompactJws<'_>) -> Result<(), JoseError> {
        Ok(())
    }
}

fn config() -> ValidConfig {
    let config = JwtConfig {
        issuer_url: "https://issuer.example".into(),
        audiences: vec!["c".into()],
        username: PrefixedClaim { claim: "sub".into(), prefix: "u:".into() },
        groups: Some(PrefixedClaim { claim: "groups".into(), prefix: "p:".into() }),
        uid_claim: Some("uid".into()),
        required_claims: vec![("hd".into(), "x".into())],
        ..JwtConfig::default()
    };
    config.validate("", &[]).expect("a valid configuration")
}

static FAITHFUL: LazyLock<Authenticator> = LazyLock::new(|| authenticator(Policy::Faithful));
static STRICT: LazyLock<Authenticator> = LazyLock::new(|| authenticator(Policy::Strict));

fn authenticator(policy: Policy) -> Authenticator {
    let options = Options { policy, cache_bytes: 0, ..Options::new(Clock::mock(1_800_000_000).0) };
    let source: Arc<dyn KeySource> = Arc::new(StaticKeys(AcceptsAll));
    Authenticator::with_key_sources([(config(), source)], options)
}

/// Keys that are given need no runtime: the answer is there at the first poll.
fn ask(authenticator: &Authenticator, token: &str) -> Verdict {
    let mut answer = pin!(authenticator.authenticate(token));
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => verdict,
        Poll::Pending => panic!("waits without a network"),
    }
}

fn token(payload: &[u8]) -> String {
    format!("{}.{}.AAAA", base64url_encode(br#"{"alg":"RS256"}"#), base64url_encode(payload))
}

/// Raw JSON of any kind, sometimes broken.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:e}")),
        Just("4102444800".to_owned()),
        Just("\"c\"".to_owned()),
        Just("\"x\"".to_owned()),
        Just("\"https://issuer.example\"".to_owned()),
        "\"[ -~é🦀]{0,12}\"",
        "\"(\\\\u[0-9a-fA-F]{4}|\\\\[\"/bfnrt]){0,4}\"",
        "[ -~]{0,8}",
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((any_name(), inner), 0..4).prop_map(|members| object(&members)),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "iss", "ISS", "aud", "exp", "Exp", "iat", "nbf", "sub", "nonce", "at_hash", "groups", "uid", "hd", "jti",
            "_claim_names", "_claim_sources", "endpoint", "src", "email", "email_verified", "iſſ",
        ]).prop_map(str::to_owned),
        1 => "[ -!#-\\[\\]-~]{0,6}",
    ]
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_claims_behind_a_good_signature_are_judged(members in prop::collection::vec((any_name(), any_value()), 0..8)) {
        let good = [("iss", "\"https://issuer.example\""), ("aud", "\"c\""), ("exp", "4102444800"), ("sub", "\"a\""), ("uid", "\"1\""), ("hd", "\"x\"")];
        let mut all: Vec<(String, String)> = good.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        all.extend(members);
        let token = token(object(&all).as_bytes());
        let faithful = ask(&FAITHFUL, &token);
        let strict = ask(&STRICT, &token);
        if let Verdict::User(user) = &strict {
            prop_assert_eq!(Some(user), faithful.user(), "strict only takes away");
            prop_assert!(!user.info().username.is_empty());
        }
    }

    #[test]
    fn any_payload_bytes_are_judged(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let verdict = ask(&FAITHFUL, &token(&payload));
        prop_assert!(verdict.user().is_none());
    }

    #[test]
    fn any_text_is_judged(text in "\\PC{0,200}", dots in "[A-Za-z0-9_.\\- \n=]{0,200}") {
        for text in [text, dots] {
            prop_assert!(ask(&FAITHFUL, &text).user().is_none());
        }
    }

    #[test]
    fn no_key_means_no_user(members in prop::collection::vec((any_name(), any_value()), 0..8)) {
        let authenticator = Authenticator::with_static_keys([(config(), JwkSet::default())], Options::new(Clock::mock(0).0));
        prop_assert!(ask(&authenticator, &token(object(&members).as_bytes())).user().is_none());
    }

    #[test]
    fn any_flags_are_read_or_refused(arguments in prop::collection::vec("--oidc-(issuer-url|client-id|signing-algs|required-claim|ca-file|x)(=[ -~]{0,20})?", 0..6)) {
        if let Ok((flags, _)) = OidcFlags::parse(&arguments) {
            let _ = flags.config_with(&[], |_| Ok(b"junk".to_vec()));
        }
    }

    #[test]
    fn any_issuer_url_is_judged(url in "(https?://)?[\\PC]{0,40}") {
        let config = JwtConfig { issuer_url: url, audiences: vec!["c".into()], ..JwtConfig::default() };
        let _ = config.validate("jwt[0]", &[]);
    }
}
