//! The key cache under our own policy: bounded requests, bounded trust.

use std::{sync::Arc, time::Duration};

use portcullis_jose::JoseError;
use portcullis_oidc::client::{JwksCache, JwksOptions, KeySource, KeySourceError, StaticKeys};
use portcullis_runtime::{Clock, MockClock, Timestamp};
use tokio::sync::Semaphore;

use crate::{
    jwks_faithful::check,
    support::{Issuer, K1, K2, RSA, Reply, http, key_set, sign, until},
};

async fn start(reply: Reply) -> (Issuer, JwksCache, MockClock) {
    let issuer = Issuer::start().await;
    issuer.on("/keys", [reply]);
    let (clock, hand) = Clock::mock(1_000_000);
    let cache = JwksCache::new(http(), format!("{}/keys", issuer.url), JwksOptions::limited(), clock);
    (issuer, cache, hand)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn refused() -> Result<(), KeySourceError> {
    Err(KeySourceError::Signature(JoseError::NoMatchingKey))
}

#[tokio::test]
async fn unknown_keys_cost_at_most_one_request_in_ten_seconds() {
    let (issuer, cache, hand) = start(Reply::json(key_set(&[&K1]))).await;
    check(&cache, &sign(&K1, "{}")).await.unwrap();
    assert_eq!(issuer.seen()[0].header("cache-control"), Some("no-cache"));
    for _ in 0..20 {
        assert_eq!(check(&cache, &sign(&K2, "{}")).await, refused());
    }
    hand.advance(seconds(9));
    assert_eq!(check(&cache, &sign(&K2, "{}")).await, refused());
    assert_eq!(issuer.count(), 1);
    hand.advance(seconds(1));
    for _ in 0..20 {
        assert_eq!(check(&cache, &sign(&K2, "{}")).await, refused());
    }
    assert_eq!(issuer.count(), 2);
}

#[tokio::test]
async fn a_new_key_is_found_while_the_old_set_is_still_fresh() {
    let (issuer, cache, hand) = start(Reply::json(key_set(&[&K1])).header("cache-control", "max-age=86400")).await;
    check(&cache, &sign(&K1, "{}")).await.unwrap();
    issuer.on("/keys", [Reply::json(key_set(&[&K2]))]);
    hand.advance(seconds(10));
    assert_eq!(check(&cache, &sign(&K2, "{}")).await, Ok(()));
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, refused());
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_once_its_freshness_has_ended() {
    for (reply, fresh) in
        [(Reply::json(key_set(&[&K1])).header("cache-control", "max-age=60"), 60), (Reply::json(key_set(&[&K1])), 300)]
    {
        let (issuer, cache, hand) = start(reply).await;
        check(&cache, &sign(&K1, "{}")).await.unwrap();
        issuer.on("/keys", [Reply::json(key_set(&[&K2]))]);
        hand.advance(seconds(fresh - 1));
        assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
        hand.advance(seconds(1));
        assert_eq!(check(&cache, &sign(&K1, "{}")).await, refused());
        assert_eq!(issuer.count(), 2);
    }
}

#[tokio::test]
async fn while_the_issuer_fails_stale_keys_serve_a_day_and_no_longer() {
    let (issuer, cache, hand) = start(Reply::json(key_set(&[&K1])).header("cache-control", "max-age=60")).await;
    check(&cache, &sign(&K1, "{}")).await.unwrap();
    issuer.on("/keys", [Reply::json("down").status(503)]);
    hand.advance(seconds(60));
    for _ in 0..5 {
        assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
    }
    assert_eq!(issuer.count(), 2);
    hand.advance(seconds(24 * 3600 - 61));
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
    until(|| issuer.count() == 3).await;
    hand.advance(seconds(20));
    let error = check(&cache, &sign(&K1, "{}")).await.unwrap_err();
    assert_eq!(error.to_string(), "fetching keys oidc: get keys failed: 503 Service Unavailable down");
}

#[tokio::test]
async fn a_long_max_age_outlives_the_day() {
    let (issuer, cache, hand) = start(Reply::json(key_set(&[&K1])).header("cache-control", "max-age=172800")).await;
    check(&cache, &sign(&K1, "{}")).await.unwrap();
    issuer.on("/keys", [Reply::json("down").status(503)]);
    hand.advance(seconds(172_799));
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
    assert_eq!(issuer.count(), 1);
    hand.advance(seconds(1));
    assert!(matches!(check(&cache, &sign(&K1, "{}")).await, Err(KeySourceError::Fetch(_))));
}

#[tokio::test]
async fn failed_fetches_are_limited_too() {
    let (issuer, cache, hand) = start(Reply::json("down").status(500)).await;
    for _ in 0..10 {
        assert!(matches!(check(&cache, &sign(&K1, "{}")).await, Err(KeySourceError::Fetch(_))));
    }
    assert_eq!(issuer.count(), 1);
    issuer.on("/keys", [Reply::json(key_set(&[&K1]))]);
    hand.advance(seconds(10));
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_block_fetches() {
    let (issuer, cache, hand) = start(Reply::json("down").status(500)).await;
    assert!(check(&cache, &sign(&K1, "{}")).await.is_err());
    issuer.on("/keys", [Reply::json(key_set(&[&K1]))]);
    hand.set(Timestamp::from_unix_seconds(1_000));
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
}

#[tokio::test]
async fn a_slow_issuer_does_not_stall_tokens_whose_stale_keys_may_serve() {
    let gate = Arc::new(Semaphore::new(0));
    let (issuer, cache, hand) = start(Reply::json(key_set(&[&K1])).header("cache-control", "max-age=60")).await;
    check(&cache, &sign(&K1, "{}")).await.unwrap();
    issuer.on("/keys", [Reply::json(key_set(&[&K2])).behind(&gate)]);
    hand.advance(seconds(60));
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { check(&cache, &sign(&K1, "{}")).await }
    });
    until(|| issuer.count() == 2).await;
    // Another token, five seconds into the fetch: no more patience.
    hand.advance(seconds(5));
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
    assert!(!waiting.is_finished());
    // The fetch comes to its end, and from then on the new keys count.
    gate.add_permits(1);
    assert_eq!(waiting.await.unwrap(), refused());
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, refused());
    assert_eq!(issuer.count(), 2);
}

#[tokio::test]
async fn what_a_key_is_meant_for_is_enforced() {
    let (issuer, cache, hand) = start(Reply::json(key_set(&[&RSA]).replace("\"sig\"", "\"enc\""))).await;
    let mismatch = Err(KeySourceError::Signature(JoseError::AlgorithmKeyMismatch));
    assert_eq!(check(&cache, &sign(&RSA, "{}")).await, mismatch);
    hand.advance(seconds(10));
    assert_eq!(check(&cache, &sign(&RSA, "{}")).await, mismatch);
    assert_eq!(issuer.count(), 2);
}

#[tokio::test]
async fn refresh_fetches_at_once_and_keeps_the_old_keys_on_failure() {
    let (issuer, cache, _) = start(Reply::json(key_set(&[&K1]))).await;
    assert_eq!(cache.refresh().await, Ok(()));
    issuer.on("/keys", [Reply::json("down").status(500)]);
    assert!(cache.refresh().await.is_err());
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
    assert_eq!(issuer.count(), 2);
}

#[tokio::test]
async fn static_keys_verify_without_any_request() {
    let set = portcullis_jose::JwkSet::from_keys(vec![K1.public().clone()]);
    let keys: Arc<dyn KeySource> = Arc::new(StaticKeys(set));
    for (key, expected) in [(&K1, Ok(())), (&K2, refused())] {
        let token = sign(key, "{}");
        let jws = portcullis_jose::CompactJws::parse(&token, &Default::default()).unwrap();
        assert_eq!(keys.verify(jws).await.map(|_| ()), expected);
    }
}
