//! A flood of distinct tokens that nobody has signed: memory and requests for keys stay bounded, and good users are served.
//!
//! A program of its own, because it measures the process' memory. `PORTCULLIS_FLOOD_TOKENS` says how many tokens there are; what a
//! million of them took is in `docs/attacks.md`.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed, and figures are printed"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis_authn::{Authenticator, JwtConfig, Network, Options, Policy, PrefixedClaim, Verdict};
use portcullis_jose::{KeyKind, SigningKey, base64url_encode, sign_compact};
use portcullis_runtime::{Clock, MockClock, Shutdown};
use portcullis_testkit::{FakeIssuer, Reply};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const NOW: i64 = 1_800_000_000;
const TOKENS: usize = 10_000;
/// Each token is that long, about: all of them together are much more than the process may grow by.
const TOKEN_BYTES: usize = 4_000;
/// Most that the process may grow by after the first tenth, in bytes. The cache of accepted tokens has half of it.
const GROWTH: usize = 8 << 20;
/// Most that a token may cost that waits for its issuer, itself included, in bytes.
const WAITING: usize = 8 << 10;
/// Tokens between two that somebody has signed.
const GOOD_EVERY: usize = 250;

/// The memory is the process', so only one of the tests may run.
static ALONE: Mutex<()> = Mutex::const_new(());

#[expect(clippy::disallowed_methods, reason = "a flood may be longer than one of CI")]
fn tokens() -> usize {
    std::env::var("PORTCULLIS_FLOOD_TOKENS").ok().and_then(|text| text.parse().ok()).unwrap_or(TOKENS)
}

/// The process' resident memory in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// The `n`-th token of the flood. Kinds take turns: a signature that is wrong, a key that is unknown, no signature, an issuer that is
/// unknown, one whose groups are elsewhere, and no token at all.
fn unsigned(n: usize, issuer: &str, padding: &str) -> String {
    let header = |text: &str| base64url_encode(text.as_bytes());
    let claims = |issuer: &str, rest: &str| {
        let text = format!(
            r#"{{"iss":"{issuer}","aud":"c","sub":"jane","exp":{},"jti":"{n}","x":"{padding}"{rest}}}"#,
            NOW + 1_000_000
        );
        base64url_encode(text.as_bytes())
    };
    let mut signature = [7u8; 64];
    signature[..8].copy_from_slice(&n.to_le_bytes());
    let signature = base64url_encode(&signature);
    let elsewhere =
        format!(r#","_claim_names":{{"groups":"s"}},"_claim_sources":{{"s":{{"endpoint":"{issuer}/groups"}}}}"#);
    match n % 6 {
        0 => format!("{}.{}.{signature}", header(r#"{"alg":"ES256","kid":"k"}"#), claims(issuer, "")),
        1 => format!("{}.{}.{signature}", header(&format!(r#"{{"alg":"ES256","kid":"k{n}"}}"#)), claims(issuer, "")),
        2 => format!("{}.{}.", header(r#"{"alg":"none"}"#), claims(issuer, "")),
        3 => format!("{}.{}.{signature}", header(r#"{"alg":"ES256"}"#), claims(&format!("https://{n}.example"), "")),
        4 => format!("{}.{}.{signature}", header(r#"{"alg":"ES256","kid":"k"}"#), claims(issuer, &elsewhere)),
        _ => format!("{n} {padding}"),
    }
}

#[tokio::test]
async fn a_flood_of_tokens_that_nobody_signed_costs_neither_memory_nor_requests() {
    let _alone = ALONE.lock().await;
    // Strict asks for keys at most every ten seconds; kube-apiserver's way only keys that are fresh hold back.
    for (policy, cache_control) in [(Policy::Strict, None), (Policy::Faithful, Some("max-age=1000000"))] {
        flood(policy, cache_control).await;
    }
}

#[tokio::test]
async fn tokens_that_wait_for_an_issuer_at_once_share_one_request_and_hold_nobody_up() {
    let _alone = ALONE.lock().await;
    for policy in [Policy::Strict, Policy::Faithful] {
        waiting(policy).await;
    }
}

/// An authenticator that trusts the issuer, the means to set its clock, and the means to end it.
async fn started(issuer: &FakeIssuer, policy: Policy) -> (Authenticator, MockClock, Shutdown) {
    let config = JwtConfig {
        issuer_url: issuer.issuer().to_owned(),
        certificate_authority: issuer.ca().pem().to_owned(),
        audiences: vec!["c".into()],
        username: PrefixedClaim { claim: "sub".into(), prefix: String::new() },
        groups: Some(PrefixedClaim { claim: "groups".into(), prefix: String::new() }),
        signing_algs: vec!["ES256".into()],
        ..JwtConfig::default()
    };
    let (clock, time) = Clock::mock(NOW);
    let options = Options { policy, cache_bytes: GROWTH / 2, ..Options::new(clock) };
    let shutdown = Shutdown::new();
    let configs = [config.validate("jwt[0]", &[]).expect("a valid configuration")];
    let authenticator =
        Authenticator::start(configs, options, &Network::default(), &shutdown).expect("an authenticator");
    tokio::time::timeout(Duration::from_secs(60), authenticator.ready()).await.expect("discovery succeeds");
    (authenticator, time, shutdown)
}

/// A token of Jane that the key has signed: another one for each `n`, so that none is remembered.
fn signed(n: usize, issuer: &FakeIssuer, key: &SigningKey) -> String {
    let claims =
        json!({ "iss": issuer.issuer(), "aud": "c", "sub": "jane", "exp": NOW + 1_000_000, "jti": n.to_string() });
    sign_compact(key, key.default_algorithm(), None, claims.to_string().as_bytes()).expect("a token")
}

/// Ten thousand tokens name keys that are unknown while the request for the keys is not answered.
async fn waiting(policy: Policy) {
    let issuer = FakeIssuer::start().await;
    let key = SigningKey::generate(KeyKind::P256, "k".to_owned()).expect("a key");
    let keys = Reply::json(&json!({ "keys": [key.public().to_json()] }));
    issuer.reply("/keys", keys.clone());
    let (authenticator, time, shutdown) = started(&issuer, policy).await;
    let verdict = authenticator.authenticate(&signed(0, &issuer, &key)).await;
    assert!(matches!(verdict, Verdict::User(_)), "{verdict:?}");
    assert_eq!(issuer.count("/keys"), 1);

    let padding = "x".repeat(500);
    let mut after_first = 0;
    for round in 0..2_usize {
        time.advance(Duration::from_secs(60));
        let gate = Shutdown::new();
        issuer.reply("/keys", keys.clone().after(gate.clone()));
        let (before, begun) = (resident(), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for n in 0..TOKENS {
            // Of the kinds of a flood the one whose key is unknown.
            let token = unsigned(6 * (n + round * TOKENS) + 1, issuer.issuer(), &padding);
            let (authenticator, begun) = (authenticator.clone(), Arc::clone(&begun));
            tasks.spawn(async move {
                begun.fetch_add(1, Ordering::Relaxed);
                authenticator.authenticate(&token).await
            });
        }
        tokio::time::timeout(Duration::from_secs(60), async {
            while begun.load(Ordering::Relaxed) < TOKENS || issuer.count("/keys") < round + 2 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("all wait and the issuer is asked");
        for n in 1..=100 {
            // Not even one turn of waiting, while the issuer is silent.
            let token = signed(round * 100 + n, &issuer, &key);
            let verdict = tokio::select! {
                biased;
                verdict = authenticator.authenticate(&token) => verdict,
                () = std::future::ready(()) => panic!("a good user waits"),
            };
            assert!(matches!(verdict, Verdict::User(_)), "a good user beside those who wait: {verdict:?}");
        }
        assert!(tasks.try_join_next().is_none(), "somebody has not waited");
        let grown = resident().saturating_sub(before);
        println!("{policy:?}: {} KiB more memory while {TOKENS} tokens wait", grown >> 10);
        if round == 0 {
            assert!(grown < TOKENS * WAITING, "{grown} bytes more memory");
        }
        gate.trigger();
        while let Some(verdict) = tasks.join_next().await {
            assert!(matches!(verdict, Ok(Verdict::Refused(_))), "nobody signed it: {verdict:?}");
        }
        assert_eq!(issuer.count("/keys"), round + 2, "all who wait share one request");
        if round == 0 {
            after_first = resident();
        }
    }
    let kept = resident().saturating_sub(after_first);
    assert!(kept < GROWTH, "{kept} bytes are kept of those who waited");
    shutdown.trigger();
}

async fn flood(policy: Policy, cache_control: Option<&str>) {
    let issuer = FakeIssuer::start().await;
    let key = SigningKey::generate(KeyKind::P256, "k".to_owned()).expect("a key");
    let reply = Reply::json(&json!({ "keys": [key.public().to_json()] }));
    issuer.reply("/keys", cache_control.map_or(reply.clone(), |value| reply.header("cache-control", value)));
    let (authenticator, time, shutdown) = started(&issuer, policy).await;

    let (count, padding) = (tokens(), "x".repeat(TOKEN_BYTES * 3 / 4));
    let (began, mut before, mut sent) = (Instant::now(), 0, 0);
    for n in 0..count {
        if n == count / 10 {
            before = resident();
        }
        let token = unsigned(n, issuer.issuer(), &padding);
        sent += token.len();
        let verdict = authenticator.authenticate(&token).await;
        assert!(!matches!(verdict, Verdict::User(_)), "nobody signed {token}");
        if n % GOOD_EVERY == 0 {
            let verdict = authenticator.authenticate(&signed(n, &issuer, &key)).await;
            assert!(matches!(verdict, Verdict::User(_)), "a good user after {n}: {verdict:?}");
            time.advance(Duration::from_secs(1));
        }
    }
    let grown = resident().saturating_sub(before);
    let (fetches, seconds) = (issuer.count("/keys"), count.div_ceil(GOOD_EVERY));
    println!(
        "{policy:?}: {count} tokens of {} MiB in {:.1} s, {fetches} requests for keys in {seconds} s of the clock, {} KiB more memory",
        sent >> 20,
        began.elapsed().as_secs_f64(),
        grown >> 10,
    );
    assert!(sent > 3 * GROWTH, "too few tokens show nothing: {sent} bytes");
    assert!(grown < GROWTH, "{grown} bytes more memory");
    let most = if policy == Policy::Strict { 1 + seconds / 10 } else { 1 };
    assert!((1..=most).contains(&fetches), "{fetches} requests for keys, at most {most}");
    assert_eq!(issuer.count("/groups"), 0, "nobody is sent elsewhere by a token that is not signed");
    shutdown.trigger();
}
