//! The authenticator as a whole with keys given: cache, several issuers, forms of tokens, proofs.

use portcullis_authn::{Authenticator, JwtConfig, Options, Policy, PrefixedClaim, Verdict};
use portcullis_jose::{JwkSet, KeyKind, SigningKey, sign_compact};
use portcullis_runtime::{Clock, MockClock, Timestamp};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

struct World {
    authenticator: Authenticator,
    clock: MockClock,
    keys: Vec<SigningKey>,
}

fn issuer(n: usize) -> String {
    format!("https://issuer-{n}.example")
}

fn world(issuers: usize, policy: Policy) -> World {
    let (clock, mock) = Clock::mock(NOW);
    let keys: Vec<_> =
        (0..issuers).map(|_| SigningKey::generate(KeyKind::P256, "k".to_owned()).expect("a key")).collect();
    let configured = keys.iter().enumerate().map(|(n, key)| {
        let config = JwtConfig {
            issuer_url: issuer(n),
            audiences: vec!["c".into()],
            username: PrefixedClaim { claim: "sub".into(), prefix: format!("{n}:") },
            signing_algs: vec!["ES256".into()],
            ..JwtConfig::default()
        };
        (config.validate("", &[]).expect("a valid configuration"), JwkSet::from_keys(vec![key.public().clone()]))
    });
    let options = Options { policy, ..Options::new(clock) };
    let authenticator = Authenticator::with_static_keys(configured.collect::<Vec<_>>(), options);
    World { authenticator, clock: mock, keys }
}

fn token(key: &SigningKey, claims: &Value) -> String {
    sign_compact(key, key.default_algorithm(), None, claims.to_string().as_bytes()).expect("a token")
}

fn claims(n: usize) -> Value {
    json!({ "iss": issuer(n), "aud": "c", "sub": "jane", "exp": NOW + 100 })
}

async fn ask(world: &World, token: &str) -> String {
    match world.authenticator.authenticate(token).await {
        Verdict::User(user) => format!("{} from {}", user.info().username, user.issuer()),
        Verdict::NoOpinion => "no opinion".to_owned(),
        Verdict::Refused(error) => error.to_string(),
    }
}

#[tokio::test]
async fn each_issuer_speaks_for_itself_alone() {
    let world = world(64, Policy::Faithful);
    for n in [0, 1, 63] {
        assert_eq!(ask(&world, &token(&world.keys[n], &claims(n))).await, format!("{n}:jane from {}", issuer(n)));
        let stolen = token(&world.keys[(n + 1) % 64], &claims(n));
        assert!(ask(&world, &stolen).await.contains("failed to verify id token signature"));
    }
    let foreign = json!({ "iss": "https://elsewhere.example", "aud": "c", "sub": "jane", "exp": NOW + 100 });
    assert_eq!(ask(&world, &token(&world.keys[0], &foreign)).await, "no opinion");
    for text in ["", "opaque", "a.b.c", "{}", "eyJhbGciOiJub25lIn0..", &"x".repeat(2_000_000)] {
        assert_eq!(ask(&world, text).await, "no opinion", "{text:.20}");
    }
}

#[tokio::test]
async fn a_token_over_the_size_limit_is_not_read() {
    let world = world(1, Policy::Faithful);
    let mut big = claims(0);
    big["x"] = json!("x".repeat(1_000_000));
    assert!(ask(&world, &token(&world.keys[0], &big)).await.contains("longer than 1048576 bytes"));
}

#[tokio::test]
async fn an_accepted_token_is_remembered_and_never_past_its_end() {
    let world = world(1, Policy::Faithful);
    let mut short = claims(0);
    short["exp"] = json!(NOW + 3);
    let token = token(&world.keys[0], &short);
    let Verdict::User(first) = world.authenticator.authenticate(&token).await else { panic!("accepted") };
    let Verdict::User(second) = world.authenticator.authenticate(&token).await else { panic!("accepted") };
    assert!(std::ptr::eq(first.info(), second.info()), "the second answer comes from the cache");
    assert_eq!(first.expires_at(), Timestamp::from_unix_seconds(NOW + 3));
    // One character more or less is another token.
    assert!(!ask(&world, &format!("{token}A")).await.starts_with("0:jane"));
    assert!(!ask(&world, &token[..token.len() - 1]).await.starts_with("0:jane"));
    world.clock.set(Timestamp::from_unix_nanos((NOW + 3) * 1_000_000_000 + 1));
    assert!(ask(&world, &token).await.contains("token is expired"));
}

#[tokio::test]
async fn odd_spellings_are_one_token_for_faithful_and_none_for_strict() {
    for (policy, accepted) in [(Policy::Faithful, true), (Policy::Strict, false)] {
        let world = world(1, policy);
        let token = token(&world.keys[0], &claims(0));
        assert!(ask(&world, &token).await.starts_with("0:jane"));
        for odd in [format!(" {token}"), format!("{token}\n"), token.replacen('.', ".\r\n", 1)] {
            let answer = ask(&world, &odd).await;
            assert_eq!(answer.starts_with("0:jane"), accepted, "{answer}");
            assert!(accepted || answer == "oidc: refused by strict policy: the token is not in its canonical form");
        }
    }
}

#[tokio::test]
async fn strict_heeds_what_a_key_says_about_itself() {
    for (policy, accepted) in [(Policy::Faithful, true), (Policy::Strict, false)] {
        let key = SigningKey::generate(KeyKind::P256, "k".to_owned()).expect("a key");
        let config = JwtConfig {
            issuer_url: issuer(0),
            audiences: vec!["c".into()],
            username: PrefixedClaim { claim: "sub".into(), prefix: String::new() },
            signing_algs: vec!["ES256".into()],
            ..JwtConfig::default()
        };
        let keys = JwkSet::from_keys(vec![key.public().with(Some("k"), Some("ES256"), Some("enc"))]);
        let options = Options { policy, ..Options::new(Clock::mock(NOW).0) };
        let config = config.validate("", &[]).expect("a valid configuration");
        let authenticator = Authenticator::with_static_keys([(config, keys)], options);
        let verdict = authenticator.authenticate(&token(&key, &claims(0))).await;
        assert_eq!(verdict.user().is_some(), accepted, "{verdict:?}");
    }
}
