//! Discovery and key fetching against an issuer that follows a script: which requests are made, and what tokens get.
//!
//! Compat: the traces are go-oidc v2.5.0's (`remoteKeySet.verify`): a key at hand that verifies is used however old it
//! is; a token that no key verifies makes a fetch only within 30 seconds of the end of freshness, or after it.

use std::time::Duration;

use portcullis_authn::{Authenticator, JwtConfig, Network, Options, Policy, PrefixedClaim, ValidConfig, Verdict};
use portcullis_jose::{KeyKind, SigningKey, sign_compact};
use portcullis_runtime::{Clock, MockClock, Shutdown};
use portcullis_testkit::{FakeIssuer, Reply, TestCa};
use serde_json::json;

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const KEYS: &str = "/keys";
pub(crate) const DISCOVERY: &str = "/.well-known/openid-configuration";
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

struct World {
    issuer: FakeIssuer,
    authenticator: Authenticator,
    clock: MockClock,
    shutdown: Shutdown,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

pub(crate) fn config(issuer: &FakeIssuer, ca: &str) -> ValidConfig {
    let config = JwtConfig {
        issuer_url: issuer.issuer().to_owned(),
        certificate_authority: ca.to_owned(),
        audiences: vec!["c".into()],
        username: PrefixedClaim { claim: "sub".into(), prefix: String::new() },
        signing_algs: vec!["ES256".into()],
        ..JwtConfig::default()
    };
    config.validate("jwt[0]", &[]).expect("a valid configuration")
}

fn network() -> Network {
    Network { retry: Duration::from_millis(5), ..Network::default() }
}

pub(crate) fn key(kid: &str) -> SigningKey {
    SigningKey::generate(KeyKind::P256, kid.to_owned()).expect("a key")
}

fn start(config: ValidConfig, policy: Policy) -> (Authenticator, MockClock, Shutdown) {
    let (clock, mock) = Clock::mock(NOW);
    // No cache: every token shows what the keys say.
    let options = Options { policy, cache_bytes: 0, ..Options::new(clock) };
    let shutdown = Shutdown::new();
    let authenticator = Authenticator::start([config], options, &network(), &shutdown).expect("an authenticator");
    (authenticator, mock, shutdown)
}

impl World {
    async fn new(policy: Policy) -> Self {
        let issuer = FakeIssuer::start().await;
        issuer.set_key(key("one"));
        let (authenticator, clock, shutdown) = start(config(&issuer, issuer.ca().pem()), policy);
        let this = Self { issuer, authenticator, clock, shutdown };
        this.ready().await;
        this
    }

    async fn ready(&self) {
        tokio::time::timeout(LIMIT, self.authenticator.ready()).await.expect("discovery succeeds");
    }

    fn serve(&self, keys: &[&SigningKey], cache_control: Option<&str>) {
        let keys: Vec<_> = keys.iter().map(|key| key.public().to_json()).collect();
        let reply = Reply::json(&json!({ "keys": keys }));
        self.issuer.reply(KEYS, cache_control.map_or(reply.clone(), |value| reply.header("cache-control", value)));
    }

    fn token(&self, key: &SigningKey) -> String {
        let claims = json!({ "iss": self.issuer.issuer(), "aud": "c", "sub": "jane", "exp": NOW + 1_000_000 });
        sign_compact(key, key.default_algorithm(), None, claims.to_string().as_bytes()).expect("a token")
    }

    /// `ok`, or why not.
    async fn ask(&self, key: &SigningKey) -> String {
        verdict(self.authenticator.authenticate(&self.token(key)).await)
    }

    fn fetches(&self) -> usize {
        self.issuer.count(KEYS)
    }
}

pub(crate) fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::User(user) => format!("ok {}", user.info().username),
        Verdict::NoOpinion => "no opinion".to_owned(),
        Verdict::Refused(error) => error.to_string(),
    }
}

pub(crate) const BAD: &str = "oidc: verify token: failed to verify signature: failed to verify id token signature";

#[tokio::test]
async fn keys_are_fetched_by_the_first_token_and_kept() {
    let world = World::new(Policy::Faithful).await;
    let one = key("one");
    world.serve(&[&one], Some("max-age=3600"));
    assert_eq!(world.fetches(), 0, "nothing before the first token");
    for _ in 0..5 {
        assert_eq!(world.ask(&one).await, "ok jane");
    }
    assert_eq!((world.fetches(), world.issuer.count(DISCOVERY)), (1, 1));
}

#[tokio::test]
async fn fresh_keys_are_not_fetched_again_for_an_unknown_one() {
    let world = World::new(Policy::Faithful).await;
    let (one, two) = (key("one"), key("two"));
    world.serve(&[&one], Some("max-age=3600"));
    assert_eq!(world.ask(&one).await, "ok jane");
    world.serve(&[&one, &two], Some("max-age=3600"));
    for (advance, want, fetches) in [(0, BAD, 1), (3_500, BAD, 1), (69, BAD, 1), (2, "ok jane", 2), (0, "ok jane", 2)] {
        world.clock.advance(Duration::from_secs(advance));
        assert_eq!((world.ask(&two).await.as_str(), world.fetches()), (want, fetches), "after {advance} s more");
    }
}

#[tokio::test]
async fn without_cache_headers_every_bad_token_costs_a_fetch_and_good_ones_none() {
    let world = World::new(Policy::Faithful).await;
    let (one, foreign) = (key("one"), key("foreign"));
    for headers in [None, Some("no-store"), Some("no-cache"), Some("max-age=0")] {
        world.serve(&[&one], headers);
        let before = world.fetches();
        assert_eq!(world.ask(&foreign).await, BAD);
        assert_eq!(world.ask(&foreign).await, BAD);
        assert_eq!(world.fetches(), before + 2, "{headers:?}");
        assert_eq!(world.ask(&one).await, "ok jane");
        assert_eq!(world.fetches(), before + 2, "{headers:?}");
    }
}

#[tokio::test]
async fn a_withdrawn_key_is_trusted_until_another_failure_forces_a_fetch() {
    let world = World::new(Policy::Faithful).await;
    let (one, two) = (key("one"), key("two"));
    world.serve(&[&one], Some("max-age=60"));
    assert_eq!(world.ask(&one).await, "ok jane");
    world.serve(&[&two], Some("max-age=60"));
    world.clock.advance(Duration::from_secs(100_000));
    assert_eq!((world.ask(&one).await.as_str(), world.fetches()), ("ok jane", 1));
    assert_eq!((world.ask(&two).await.as_str(), world.fetches()), ("ok jane", 2));
    assert_eq!((world.ask(&one).await.as_str(), world.fetches()), (BAD, 2));
}

#[tokio::test]
async fn a_failed_fetch_is_named_and_keeps_the_old_keys() {
    let world = World::new(Policy::Faithful).await;
    let (one, two) = (key("one"), key("two"));
    world.serve(&[&one], None);
    assert_eq!(world.ask(&one).await, "ok jane");
    world.issuer.reply(KEYS, Reply::bytes("boom").status(500));
    let failed = "oidc: verify token: failed to verify signature: fetching keys oidc: get keys failed: 500 Internal Server Error boom";
    assert_eq!(world.ask(&two).await, failed);
    assert_eq!(world.ask(&one).await, "ok jane");
    // One key that kube-apiserver's library does not know spoils the whole set.
    let set = json!({ "keys": [two.public().to_json(), { "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" }] });
    world.issuer.reply(KEYS, Reply::json(&set));
    let error = world.ask(&two).await;
    assert!(
        error.contains("fetching keys oidc: failed to decode keys:")
            && error.contains("unknown json web key type 'AKP'"),
        "{error}"
    );
    assert_eq!(world.ask(&one).await, "ok jane");
}

#[tokio::test]
async fn concurrent_tokens_share_one_fetch() {
    let world = World::new(Policy::Faithful).await;
    let one = key("one");
    let gate = Shutdown::new();
    world.issuer.reply(KEYS, Reply::json(&json!({ "keys": [one.public().to_json()] })).after(gate.clone()));
    let tokens: Vec<_> = (0..20)
        .map(|_| {
            let (authenticator, token) = (world.authenticator.clone(), world.token(&one));
            tokio::spawn(async move { verdict(authenticator.authenticate(&token).await) })
        })
        .collect();
    while world.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    gate.trigger();
    for token in tokens {
        assert_eq!(token.await.expect("an answer"), "ok jane");
    }
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn the_strict_policy_limits_fetches_and_skips_unknown_keys() {
    let world = World::new(Policy::Strict).await;
    let (one, two) = (key("one"), key("two"));
    let unknown = json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" });
    world.issuer.reply(KEYS, Reply::json(&json!({ "keys": [one.public().to_json(), unknown] })));
    assert_eq!(world.ask(&one).await, "ok jane");
    for _ in 0..50 {
        assert_eq!(world.ask(&two).await, BAD);
    }
    assert_eq!(world.fetches(), 1, "a flood within ten seconds makes no further request");
    world.serve(&[&one, &two], Some("max-age=86400"));
    world.clock.advance(Duration::from_secs(11));
    assert_eq!((world.ask(&two).await.as_str(), world.fetches()), ("ok jane", 2));
}

#[tokio::test]
async fn tokens_are_refused_until_the_issuer_comes_up() {
    let mut issuer = FakeIssuer::start().await;
    issuer.set_key(key("one"));
    issuer.stop().await;
    let (authenticator, clock, shutdown) = start(config(&issuer, issuer.ca().pem()), Policy::Faithful);
    let mut world = World { issuer, authenticator, clock, shutdown };
    let one = world.issuer.key();
    assert_eq!(world.ask(&one).await, "oidc: authenticator not initialized");
    assert_eq!(verdict(world.authenticator.authenticate("opaque").await), "no opinion");
    let health = world.authenticator.unhealthy().expect("not healthy");
    let prefix = format!("oidc: authenticator for issuer {:?} is not healthy: ", world.issuer.issuer());
    assert!(health.starts_with(&prefix), "{health}");
    world.issuer.restart().await;
    world.ready().await;
    assert_eq!(world.authenticator.unhealthy(), None);
    assert_eq!(world.ask(&one).await, "ok jane");
}

#[tokio::test]
async fn discovery_goes_on_until_the_document_is_right() {
    let issuer = FakeIssuer::start().await;
    issuer.set_key(key("one"));
    let good = issuer.discovery_document();
    let with = |name: &str, value: serde_json::Value| {
        let mut document = good.clone();
        document[name] = value;
        Reply::json(&document)
    };
    let slash = format!("{}/", issuer.issuer());
    let mismatch = format!(
        "oidc: issuer did not match the issuer returned by provider, expected {:?} got {slash:?}",
        issuer.issuer()
    );
    for (reply, want) in [
        (Reply::bytes("nothing here").status(404), "404 Not Found: nothing here".to_owned()),
        (with("issuer", json!(slash)), mismatch),
        (with("jwks_uri", json!("")), "provider did not return JWKS URL".to_owned()),
        (Reply::bytes("<html>"), "oidc: failed to decode provider discovery object: ".to_owned()),
    ] {
        issuer.reply(DISCOVERY, reply);
        let (authenticator, _, shutdown) = start(config(&issuer, issuer.ca().pem()), Policy::Faithful);
        let health = tokio::time::timeout(LIMIT, async {
            loop {
                match authenticator.unhealthy() {
                    Some(text) if !text.ends_with("is not initialized") => return text,
                    _ => tokio::task::yield_now().await,
                }
            }
        });
        let health = health.await.expect("a failure is reported");
        assert!(health.contains(&want), "{health}: {want}");
        issuer.reply(DISCOVERY, Reply::json(&good));
        tokio::time::timeout(LIMIT, authenticator.ready()).await.expect("discovery succeeds in the end");
        shutdown.trigger();
    }
}

#[tokio::test]
async fn an_issuer_with_a_certificate_of_another_ca_is_never_trusted() {
    let issuer = FakeIssuer::start().await;
    issuer.set_key(key("one"));
    let (authenticator, clock, shutdown) = start(config(&issuer, TestCa::new("another CA").pem()), Policy::Faithful);
    let world = World { issuer, authenticator, clock, shutdown };
    tokio::time::timeout(LIMIT, async {
        while world.authenticator.unhealthy().is_some_and(|text| text.ends_with("is not initialized")) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a failure is reported");
    assert_eq!(world.ask(&key("one")).await, "oidc: authenticator not initialized");
    assert_eq!(world.issuer.requests().len(), 0, "no request got through");
}

#[tokio::test]
async fn a_document_url_is_asked_instead_and_the_issuer_in_it_still_counts() {
    let issuer = FakeIssuer::start().await;
    issuer.set_key(key("one"));
    issuer.reply("/elsewhere", Reply::json(&issuer.discovery_document()));
    issuer.reply(DISCOVERY, Reply::bytes("").status(500));
    let config = JwtConfig {
        discovery_url: Some(issuer.url("/elsewhere")),
        ..config(&issuer, issuer.ca().pem()).config().clone()
    };
    let config = config.validate("jwt[0]", &[]).expect("a valid configuration");
    let (authenticator, clock, shutdown) = start(config, Policy::Faithful);
    let world = World { issuer, authenticator, clock, shutdown };
    world.ready().await;
    assert_eq!(world.ask(&world.issuer.key()).await, "ok jane");
    assert_eq!(world.issuer.count(DISCOVERY), 0);
}
