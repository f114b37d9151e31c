//! The key cache under kube-apiserver's policy: which token costs a request, and which key is trusted.

use std::{sync::Arc, time::Duration};

use portcullis_jose::{CompactJws, JoseError, Limits, UnknownKeys};
use portcullis_oidc::client::{JwksCache, JwksFetchError, JwksOptions, KeySourceError};
use portcullis_runtime::{Clock, MockClock};
use tokio::sync::Semaphore;

use crate::support::{Issuer, K1, K2, Reply, http, key_set, sign, until};

pub(crate) async fn check(cache: &JwksCache, token: &str) -> Result<(), KeySourceError> {
    let jws = CompactJws::parse(token, &Limits::default()).unwrap();
    cache.verify(jws).await.map(|payload| assert_eq!(payload.bytes(), b"{}"))
}

async fn start(reply: Reply) -> (Issuer, JwksCache, MockClock) {
    let issuer = Issuer::start().await;
    issuer.on("/keys", [reply]);
    let (clock, hand) = Clock::mock(1_000_000);
    let cache = JwksCache::new(http(), format!("{}/keys", issuer.url), JwksOptions::faithful(), clock);
    (issuer, cache, hand)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test]
async fn the_first_token_fetches_and_the_next_ones_do_not() {
    let (issuer, cache, _) = start(Reply::json(key_set(&[&K1]))).await;
    assert_eq!(issuer.count(), 0);
    for _ in 0..3 {
        assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
    }
    assert_eq!(issuer.count(), 1);
    assert_eq!(issuer.seen()[0].header("cache-control"), None);
}

#[tokio::test]
async fn an_unknown_key_costs_a_request_only_when_freshness_ends_within_thirty_seconds() {
    let (issuer, cache, hand) = start(Reply::json(key_set(&[&K1])).header("cache-control", "max-age=600")).await;
    let (known, unknown) = (sign(&K1, "{}"), sign(&K2, "{}"));
    check(&cache, &known).await.unwrap();
    issuer.on("/keys", [Reply::json(key_set(&[&K1, &K2])).header("cache-control", "max-age=600")]);

    let refused = Err(KeySourceError::Signature(JoseError::NoMatchingKey));
    assert_eq!(check(&cache, &unknown).await, refused);
    hand.advance(seconds(570));
    assert_eq!(check(&cache, &unknown).await, refused);
    assert_eq!(issuer.count(), 1);
    hand.advance(seconds(1));
    assert_eq!(check(&cache, &unknown).await, Ok(()));
    assert_eq!(issuer.count(), 2);
}

#[tokio::test]
async fn without_cache_headers_every_unknown_key_costs_a_request() {
    let (issuer, cache, _) = start(Reply::json(key_set(&[&K1]))).await;
    check(&cache, &sign(&K1, "{}")).await.unwrap();
    for count in 2..5 {
        let refused = Err(KeySourceError::Signature(JoseError::NoMatchingKey));
        assert_eq!(check(&cache, &sign(&K2, "{}")).await, refused);
        assert_eq!(issuer.count(), count);
    }
}

#[tokio::test]
async fn a_withdrawn_key_is_trusted_until_something_else_makes_a_fetch() {
    let (issuer, cache, hand) = start(Reply::json(key_set(&[&K1])).header("cache-control", "max-age=60")).await;
    check(&cache, &sign(&K1, "{}")).await.unwrap();
    issuer.on("/keys", [Reply::json(key_set(&[&K2]))]);
    hand.advance(seconds(365 * 24 * 3600));
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
    assert_eq!(issuer.count(), 1);
    assert_eq!(check(&cache, &sign(&K2, "{}")).await, Ok(()));
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Err(KeySourceError::Signature(JoseError::NoMatchingKey)));
}

#[tokio::test]
async fn a_failed_fetch_keeps_the_old_keys_and_is_tried_again_at_once() {
    let (issuer, cache, _) = start(Reply::json(key_set(&[&K1]))).await;
    check(&cache, &sign(&K1, "{}")).await.unwrap();
    issuer.on("/keys", [Reply::json("down").status(500)]);
    for count in 2..4 {
        let error = check(&cache, &sign(&K2, "{}")).await.unwrap_err();
        assert_eq!(error.to_string(), "fetching keys oidc: get keys failed: 500 Internal Server Error down");
        assert_eq!(issuer.count(), count);
    }
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
    issuer.on("/keys", [Reply::json(key_set(&[&K2]))]);
    assert_eq!(check(&cache, &sign(&K2, "{}")).await, Ok(()));
}

#[tokio::test]
async fn one_unknown_key_type_spoils_the_set() {
    let set = key_set(&[&K1]).replace("]}", r#",{"kty":"AKP"}]}"#);
    let (_issuer, cache, _) = start(Reply::json(set.clone())).await;
    let error = check(&cache, &sign(&K1, "{}")).await.unwrap_err();
    let text = "fetching keys oidc: failed to decode keys: got Content-Type = application/json, but could not unmarshal as JSON: unknown json web key type 'AKP'";
    assert_eq!(error.to_string(), text);

    let issuer = Issuer::start().await;
    issuer.on("/keys", [Reply::json(set)]);
    let options = JwksOptions { unknown_keys: UnknownKeys::Skip, ..JwksOptions::faithful() };
    let cache = JwksCache::new(http(), format!("{}/keys", issuer.url), options, Clock::mock(0).0);
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
}

#[tokio::test]
async fn answers_that_are_no_key_set_are_fetch_errors() {
    let (issuer, cache, _) = start(Reply::json("<html>").content_type("text/html")).await;
    let error = check(&cache, &sign(&K1, "{}")).await.unwrap_err().to_string();
    assert!(
        error.starts_with(
            "fetching keys oidc: failed to decode keys: expected Content-Type = application/json, got \"text/html\": "
        ),
        "{error}"
    );
    issuer.on("/keys", [Reply::json(format!("{{\"keys\":[{}]}}", vec!["{}"; 101].join(",")))]);
    let Err(KeySourceError::Fetch(JwksFetchError::Decode { reason, .. })) = check(&cache, &sign(&K1, "{}")).await
    else {
        panic!()
    };
    assert_eq!(reason, JoseError::TooManyKeys { limit: 100 });
    issuer.on("/keys", [Reply::json(" ".repeat(64 * 1024 + 1))]);
    assert!(matches!(check(&cache, &sign(&K1, "{}")).await, Err(KeySourceError::Fetch(JwksFetchError::Http(_)))));
    issuer.on("/keys", [Reply::json("").status(204)]);
    assert!(matches!(
        check(&cache, &sign(&K1, "{}")).await,
        Err(KeySourceError::Fetch(JwksFetchError::Status { status: 204, .. }))
    ));
}

#[tokio::test]
async fn tokens_that_come_together_share_one_request() {
    let gate = Arc::new(Semaphore::new(0));
    let (issuer, cache, _) = start(Reply::json(key_set(&[&K1])).behind(&gate)).await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { check(&cache, &sign(&K1, "{}")).await })
        })
        .collect();
    until(|| issuer.count() == 1).await;
    gate.add_permits(50);
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(()));
    }
    assert_eq!(issuer.count(), 1);
}

#[tokio::test]
async fn a_fetch_goes_on_when_the_token_that_started_it_goes_away() {
    let gate = Arc::new(Semaphore::new(0));
    let (issuer, cache, _) = start(Reply::json(key_set(&[&K1])).behind(&gate)).await;
    let starter = tokio::spawn({
        let cache = cache.clone();
        async move { check(&cache, &sign(&K1, "{}")).await }
    });
    until(|| issuer.count() == 1).await;
    starter.abort();
    assert!(starter.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    assert_eq!(check(&cache, &sign(&K1, "{}")).await, Ok(()));
    assert_eq!(issuer.count(), 1);
}
