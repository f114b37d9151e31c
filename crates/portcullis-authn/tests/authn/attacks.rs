//! Issuers that attack: their keys and documents hang, lie, lead elsewhere, grow, change all the time and hold what is no key.
//!
//! There are two issuers. One of them is hostile, and the other one's users have to be served all the while; so have those users
//! of the hostile one whose keys were found before. Floods of tokens are in `tests/flood.rs`, hostile keys one by one in
//! `portcullis-jose`.

use std::time::Duration;

use portcullis_authn::{Authenticator, Network, Options, Policy, Verdict};
use portcullis_jose::{SigningKey, base64url_encode, sign_compact};
use portcullis_runtime::{Clock, Shutdown};
use portcullis_testkit::{FakeIssuer, Reply, TestCa};
use serde_json::{Value, json};

use crate::issuer::{BAD, DISCOVERY, KEYS, LIMIT, NOW, config, key, verdict};

/// Largest body that is read, in bytes.
const BODY: usize = 1024 * 1024;
/// What stands before the reason for which keys could not be had.
const FETCHING: &str = "oidc: verify token: failed to verify signature: fetching keys ";

struct World {
    hostile: FakeIssuer,
    good: FakeIssuer,
    /// The hostile issuer's key as long as it was not hostile.
    known: SigningKey,
    authenticator: Authenticator,
    shutdown: Shutdown,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl World {
    /// With both issuers found, and no token asked about.
    async fn new(policy: Policy, timeout: Duration) -> Self {
        let this = Self::starting(policy, timeout, |_| {}).await;
        tokio::time::timeout(LIMIT, this.authenticator.ready()).await.expect("discovery succeeds");
        this
    }

    /// With the hostile issuer changed before it is looked for.
    async fn starting(policy: Policy, timeout: Duration, change: impl FnOnce(&FakeIssuer)) -> Self {
        let (hostile, good) = (FakeIssuer::start().await, FakeIssuer::start().await);
        // One name for the keys of both, so that a name alone decides nothing.
        let known = key("k");
        hostile.set_key(known.clone());
        good.set_key(key("k"));
        change(&hostile);
        let configs = [&hostile, &good].map(|issuer| config(issuer, issuer.ca().pem()));
        let options = Options { policy, cache_bytes: 0, ..Options::new(Clock::mock(NOW).0) };
        let network = Network { timeout, retry: Duration::from_millis(5), ..Network::default() };
        let shutdown = Shutdown::new();
        let authenticator = Authenticator::start(configs, options, &network, &shutdown).expect("an authenticator");
        Self { hostile, good, known, authenticator, shutdown }
    }

    /// What a token of `issuer` gets that `key` signed.
    async fn ask(&self, issuer: &FakeIssuer, key: &SigningKey) -> String {
        verdict(self.authenticator.authenticate(&token(issuer, key)).await)
    }

    async fn good_users_are_served(&self, attack: &str) {
        assert_eq!(self.ask(&self.good, &self.good.key()).await, "ok jane", "{attack}");
    }
}

fn token(issuer: &FakeIssuer, key: &SigningKey) -> String {
    signed(key, json!({ "iss": issuer.issuer(), "aud": "c", "sub": "jane", "exp": NOW + 1_000 }).to_string().as_bytes())
}

fn signed(key: &SigningKey, payload: &[u8]) -> String {
    sign_compact(key, key.default_algorithm(), None, payload).expect("a token")
}

fn set(keys: &[Value]) -> Reply {
    Reply::json(&json!({ "keys": keys }))
}

/// A list in a list, `depth` times.
fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[tokio::test]
async fn a_hostile_key_set_is_refused_and_the_keys_at_hand_stay() {
    let world = World::new(Policy::Faithful, Duration::from_secs(30)).await;
    assert_eq!(world.ask(&world.hostile, &world.known).await, "ok jane");
    let evil = key("k");
    let public = evil.public().to_json();
    let with = |name: &str, value: Value| {
        let mut key = public.clone();
        key[name] = value;
        set(&[key, public.clone()])
    };
    let stranger = FakeIssuer::start_with(portcullis_testkit::IssuerOptions {
        key: Some(evil.clone()),
        ca: Some(TestCa::new("another CA")),
        ..portcullis_testkit::IssuerOptions::default()
    })
    .await;
    let cases = [
        // Grows.
        ("a body without an end", Reply::bytes(vec![b' '; BODY + 1]), "the response is larger than 1048576 bytes"),
        ("too many keys", set(&vec![public.clone(); 101]), "the key set has more than 100 keys"),
        // Leads elsewhere.
        ("a circle", Reply::redirect(&world.hostile.url(KEYS)), "stopped after 10 redirects"),
        (
            "to plain http",
            Reply::redirect("http://127.0.0.1:1/keys"),
            "refused to follow a redirect from https to http://",
        ),
        ("to a stranger", Reply::redirect(&stranger.url(KEYS)), "TLS: "),
        ("to a file", Reply::redirect("file:///etc/passwd"), "get keys failed: 302 Found"),
        // Lies.
        ("a page", Reply::bytes("<html>"), "the key set is not a JSON object with a list of keys"),
        ("an error that looks right", set(std::slice::from_ref(&public)).status(500), "500 Internal Server Error"),
        ("a part", Reply::bytes(r#"{"keys":["#), "failed to decode keys"),
        ("invalid UTF-8", Reply::bytes(&b"{\"keys\":[{\"kty\":\"\xff\"}]}"[..]), "failed to decode keys"),
        ("deep JSON", Reply::bytes(format!("{{\"keys\":{}}}", nested(400_000))), "failed to decode keys"),
        (
            "deep JSON in a key",
            Reply::bytes(format!("{{\"keys\":[{{\"kty\":{}}}]}}", nested(400_000))),
            "failed to decode keys",
        ),
        (
            "a key's member twice",
            Reply::bytes(r#"{"keys":[{"kty":"EC","kty":"RSA"}]}"#),
            "not a valid JSON Web Key object",
        ),
        // Holds what is no key.
        ("an unknown kind", with("kty", json!("AKP")), "unknown json web key type 'AKP'"),
        ("a point off the curve", with("x", public["y"].clone()), "the key is not a valid key of its type"),
    ];
    for (attack, reply, want) in cases {
        world.hostile.reply(KEYS, reply);
        let before = world.hostile.count(KEYS);
        let refused = world.ask(&world.hostile, &evil).await;
        assert!(refused.starts_with(FETCHING) && refused.contains(want), "{attack}: {refused}");
        let requests = world.hostile.count(KEYS) - before;
        assert!(requests <= 11, "{attack}: {requests} requests");
        assert!(refused.len() < 1_000, "{attack}: {} bytes of text", refused.len());
        assert_eq!(world.ask(&world.hostile, &world.known).await, "ok jane", "{attack}: the key at hand");
        world.good_users_are_served(attack).await;
    }
    assert_eq!(stranger.requests().len(), 0, "nothing is asked of a stranger");
    // The attacks leave nothing behind.
    world.hostile.reply(KEYS, set(&[public]));
    assert_eq!(world.ask(&world.hostile, &evil).await, "ok jane");
    assert_eq!(world.good.count(KEYS), 1, "the other issuer was asked once");
}

#[tokio::test]
async fn keys_that_are_no_good_verify_nothing_and_spoil_nothing() {
    let world = World::new(Policy::Faithful, Duration::from_secs(30)).await;
    let known = world.known.public().to_json();
    let rsa = |bits: usize, e: &str| json!({ "kty": "RSA", "kid": "k", "n": base64url_encode(&vec![0xff; bits / 8]), "e": e });
    for (attack, weak) in [
        ("an exponent of one", rsa(2_048, "AQ")),
        ("a short modulus", rsa(1_024, "AQAB")),
        ("a modulus that takes long", rsa(65_536, "AQAB")),
        ("a name that is too long", key("k").public().with(Some(&"k".repeat(513)), None, None).to_json()),
        ("a secret", json!({ "kty": "oct", "kid": "k", "k": "AAAA" })),
    ] {
        world.hostile.reply(KEYS, set(&[weak, known.clone()]));
        assert_eq!(world.ask(&world.hostile, &key("k")).await, BAD, "{attack}");
        let before = world.hostile.count(KEYS);
        assert_eq!(world.ask(&world.hostile, &world.known).await, "ok jane", "{attack}: its neighbour");
        assert_eq!(world.hostile.count(KEYS), before, "{attack}: the set was taken");
    }
    world.good_users_are_served("keys that are no good").await;
}

#[tokio::test]
async fn keys_that_hang_or_drip_hold_up_their_own_tokens_alone_and_only_for_a_time() {
    for never in [Reply::hang(), Reply::bytes(vec![b' '; 20_000]).dripping(Duration::from_millis(10))] {
        never_keys(never).await;
    }
}

async fn never_keys(reply: Reply) {
    let world = World::new(Policy::Faithful, Duration::from_secs(2)).await;
    world.hostile.reply(KEYS, reply);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (authenticator, token) = (world.authenticator.clone(), token(&world.hostile, &world.known));
            tokio::spawn(async move { verdict(authenticator.authenticate(&token).await) })
        })
        .collect();
    while world.hostile.count(KEYS) == 0 {
        tokio::task::yield_now().await;
    }
    world.good_users_are_served("keys that hang").await;
    assert!(waiting.iter().all(|task| !task.is_finished()), "those of the hostile issuer wait");
    for task in waiting {
        let refused = task.await.expect("an answer");
        assert!(refused.starts_with(FETCHING) && refused.ends_with("timed out"), "{refused}");
    }
    assert_eq!(world.hostile.count(KEYS), 1, "fifty tokens, one request");
    world.hostile.reply(KEYS, set(&[world.known.public().to_json()]));
    assert_eq!(world.ask(&world.hostile, &world.known).await, "ok jane");
}

#[tokio::test]
async fn keys_that_change_with_every_request_are_followed_and_not_gathered() {
    let world = World::new(Policy::Faithful, Duration::from_secs(30)).await;
    let mut former = world.known.clone();
    for round in 0..20 {
        let next = key("k");
        world.hostile.reply(KEYS, set(&[next.public().to_json()]));
        assert_eq!(world.ask(&world.hostile, &next).await, "ok jane", "round {round}");
        assert_eq!(world.ask(&world.hostile, &former).await, BAD, "round {round}: what was replaced");
        former = next;
    }
    assert_eq!(world.hostile.count(KEYS), 40, "one request for each token that no key at hand had signed");
    // Compat: a document without keys is a set without keys, and takes the place of the former one.
    world.hostile.reply(KEYS, Reply::json(&world.hostile.discovery_document()));
    assert_eq!(world.ask(&world.hostile, &former).await, "ok jane", "keys at hand are asked first");
    assert_eq!(world.ask(&world.hostile, &key("k")).await, BAD);
    assert_eq!(world.ask(&world.hostile, &former).await, BAD);
    world.good_users_are_served("keys that change").await;
}

#[tokio::test]
async fn no_issuers_key_counts_for_another() {
    for policy in [Policy::Faithful, Policy::Strict] {
        let world = World::new(policy, Duration::from_secs(30)).await;
        let (hostile, good) = (&world.hostile, &world.good);
        assert_eq!(world.ask(hostile, &world.known).await, "ok jane");
        world.good_users_are_served("none yet").await;
        // The same name, the same algorithm, and the other one's issuer.
        assert_eq!(world.ask(good, &world.known).await, BAD);
        assert_eq!(world.ask(hostile, &good.key()).await, BAD);
        // Both issuers' names in one token: Go takes the last one, and so it is its key that has to have signed.
        for (first, last) in [(hostile, good), (good, hostile)] {
            let (first, last) = (first.issuer(), last.issuer());
            let claims = format!(r#"{{"iss":"{first}","aud":"c","sub":"jane","exp":{},"iss":"{last}"}}"#, NOW + 1_000);
            let answer = verdict(world.authenticator.authenticate(&signed(&world.known, claims.as_bytes())).await);
            assert_eq!(answer == "ok jane", policy == Policy::Faithful && last == hostile.issuer(), "{answer}");
        }
    }
}

#[tokio::test]
async fn an_issuer_that_publishes_anothers_key_gives_itself_away_and_nobody_else() {
    let world = World::starting(Policy::Faithful, Duration::from_secs(30), |_| {}).await;
    let (hostile, good) = (&world.hostile, &world.good);
    world.good_users_are_served_when_found().await;
    hostile.reply(KEYS, set(&[good.key().public().to_json(), world.known.public().to_json()]));
    assert_eq!(world.ask(good, &world.known).await, BAD, "its key is not the other one's");
    assert_eq!(world.ask(hostile, &good.key()).await, "ok jane", "the other one may speak for it now");
    let claims = json!({ "iss": good.issuer(), "aud": "c", "sub": "jane", "exp": NOW + 1_000 });
    let none =
        format!("{}.{}.", base64url_encode(br#"{"alg":"none"}"#), base64url_encode(claims.to_string().as_bytes()));
    assert!(verdict(world.authenticator.authenticate(&none).await).contains("unsupported algorithm"));
}

#[tokio::test]
async fn a_hostile_document_is_asked_for_again_and_holds_up_nobody_else() {
    let deep = format!(r#"{{"issuer":{}}}"#, nested(400_000));
    for (attack, reply, want) in [
        ("a body without an end", Reply::bytes(vec![b' '; BODY + 1]), "the response is larger than 1048576 bytes"),
        ("to plain http", Reply::redirect("http://127.0.0.1:1/"), "refused to follow a redirect from https to http://"),
        ("hangs", Reply::hang(), "timed out"),
        // Never silent for long, and never done: 200 s in all.
        ("drips", Reply::bytes(vec![b' '; 20_000]).dripping(Duration::from_millis(10)), "timed out"),
        ("another issuer", Reply::json(&json!({ "issuer": "https://other.example" })), "issuer did not match"),
        ("invalid UTF-8", Reply::bytes(&b"{\"issuer\":\"\xff\"}"[..]), "failed to decode provider discovery object"),
        ("deep JSON", Reply::bytes(deep), "failed to decode provider discovery object"),
    ] {
        hostile_document(attack, |_| reply, want).await;
    }
    let circle = |issuer: &FakeIssuer| Reply::redirect(&issuer.url(DISCOVERY));
    hostile_document("a circle", circle, "stopped after 10 redirects").await;
    for other_first in [true, false] {
        let two = |issuer: &FakeIssuer| {
            let (mut first, mut second) = ("https://other.example", issuer.issuer());
            if !other_first {
                std::mem::swap(&mut first, &mut second);
            }
            let keys = issuer.url(KEYS);
            Reply::bytes(format!(r#"{{"issuer":"{first}","issuer":"{second}","jwks_uri":"{keys}"}}"#))
        };
        hostile_document("two issuers", two, "duplicate field").await;
    }
}

async fn hostile_document(attack: &str, reply: impl FnOnce(&FakeIssuer) -> Reply, want: &str) {
    let world = World::starting(Policy::Faithful, Duration::from_secs(1), |issuer| {
        issuer.reply(DISCOVERY, reply(issuer));
    })
    .await;
    world.good_users_are_served_when_found().await;
    let failed = tokio::time::timeout(LIMIT, async {
        loop {
            match world.authenticator.unhealthy() {
                Some(text) if !text.ends_with("is not initialized") => return text,
                _ => tokio::task::yield_now().await,
            }
        }
    });
    let failed = failed.await.expect("a failure is reported");
    assert!(failed.contains(want) && failed.len() < 2_000, "{attack}: {failed}");
    assert_eq!(world.ask(&world.hostile, &world.known).await, "oidc: authenticator not initialized", "{attack}");
    assert_eq!(world.hostile.count(KEYS), 0, "{attack}: no keys of an issuer that is not known");
    world.hostile.reply(DISCOVERY, Reply::json(&world.hostile.discovery_document()));
    tokio::time::timeout(LIMIT, world.authenticator.ready()).await.expect("found in the end");
    assert_eq!(world.ask(&world.hostile, &world.known).await, "ok jane", "{attack}");
}

impl World {
    async fn good_users_are_served_when_found(&self) {
        let token = token(&self.good, &self.good.key());
        tokio::time::timeout(LIMIT, async {
            while !matches!(self.authenticator.authenticate(&token).await, Verdict::User(_)) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the good issuer is found");
    }
}

/// A signature does not make JSON harmless: the issuer's own users write part of it.
#[tokio::test]
async fn signed_claims_may_be_as_odd_as_they_like() {
    let world = World::new(Policy::Faithful, Duration::from_secs(30)).await;
    let claims = |exp: &str, rest: &str| {
        format!(r#"{{"iss":"{}","aud":"c","sub":"jane","exp":{exp}{rest}}}"#, world.hostile.issuer())
    };
    let far = (NOW + 1_000).to_string();
    let digits = "9".repeat(500_000);
    for (odd, payload, want) in [
        ("deep JSON", claims(&far, &format!(r#","x":{}"#, nested(9_000))), "ok jane"),
        ("deeper than Go reads", claims(&far, &format!(r#","x":{}"#, nested(10_001))), "no opinion"),
        ("deeper than any stack", claims(&far, &format!(r#","x":{}"#, nested(350_000))), "no opinion"),
        (
            "deep JSON in a claim that counts",
            claims(&far, &format!(r#","aud":{}"#, nested(9_000))),
            "failed to unmarshal claims",
        ),
        ("an end in digits", claims(&digits, ""), "failed to unmarshal claims"),
        ("an end beyond doubles", claims("1e999999999", ""), "failed to unmarshal claims"),
        ("an end beyond integers", claims("1e300", ""), "token is expired"),
        (
            "a number that nobody reads",
            claims(&far, &format!(r#","x":-{digits}.{}e{}"#, &digits[..10], &digits[..9])),
            "ok jane",
        ),
        ("members without an end", claims(&far, &r#","x":1"#.repeat(100_000)), "ok jane"),
        ("one long text", claims(&far, &format!(r#","x":"{}""#, "\\u0000".repeat(100_000))), "ok jane"),
    ] {
        let token = signed(&world.known, payload.as_bytes());
        assert!(token.len() < 1024 * 1024, "{odd}: {} bytes are not read", token.len());
        let answer = verdict(world.authenticator.authenticate(&token).await);
        assert!(answer.contains(want) && answer.len() < token.len(), "{odd}: {answer:.500}");
    }
    world.good_users_are_served("odd claims").await;
}
