//! ID token verification: a table of tokens, each with the one thing that is wrong with it.

use portcullis_jose::{Algorithm, JwkSet, KeyHints, half_hash, sign_compact};
use portcullis_oidc::{
    DiscoveryDocument,
    client::{Checks, IdTokenError, IdTokenVerifier, JwksCache, JwksOptions, StaticKeys},
};
use portcullis_runtime::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::support::{Issuer, K1, K2, RSA, Reply, http, key_set, sign};

/// 2026-11-23T18:00:00Z.
const NOW: i64 = 1_795_456_800;
const ISSUER: &str = "https://issuer.example/dex";

fn document(algorithms: &[&str]) -> DiscoveryDocument {
    DiscoveryDocument {
        issuer: ISSUER.into(),
        id_token_signing_alg_values_supported: algorithms.iter().map(|&name| name.into()).collect(),
        ..DiscoveryDocument::default()
    }
}

fn verifier() -> IdTokenVerifier {
    IdTokenVerifier::new(&document(&["ES256"]), "kubernetes", Clock::mock(NOW).0)
}

fn keys() -> StaticKeys<JwkSet> {
    StaticKeys(JwkSet::from_keys(vec![K1.public().clone(), RSA.public().clone()]).with_hints(KeyHints::Ignore))
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "s", "aud": "kubernetes", "exp": NOW + 600, "iat": NOW, "nonce": "n1"})
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

async fn verify(claims: &Value) -> Result<(), String> {
    verify_token(&sign(&K1, &claims.to_string())).await
}

async fn verify_token(token: &str) -> Result<(), String> {
    verifier().verify(token, &keys(), Checks::default()).await.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_good_token_gives_its_claims() {
    let token = sign(&K1, &claims().to_string());
    let checks = Checks { nonce: Some("n1"), access_token: Some("at") };
    let verified = verifier().verify(&token, &keys(), checks).await.unwrap();
    assert_eq!(verified.payload(), claims().to_string().as_bytes());
    assert_eq!((verified.issuer(), verified.subject(), verified.nonce()), (ISSUER, "s", "n1"));
    assert_eq!(verified.audience(), ["kubernetes"]);
    assert_eq!(verified.expiry(), Timestamp::from_unix_seconds(NOW + 600));
    assert_eq!(verified.issued_at(), Some(Timestamp::from_unix_seconds(NOW)));
    assert_eq!(verified.algorithm(), Algorithm::Es256);
}

#[tokio::test]
async fn what_go_accepts_is_accepted() {
    for claims in [
        with("aud", json!(["other", "kubernetes"])),
        with("exp", NOW),
        with("exp", (NOW + 1).to_string()),
        with("exp", 1_999_999_999.9),
        with("nbf", NOW + 300),
        with("nbf", Value::Null),
        with("iat", NOW + 3 * 3600),
        without("iat"),
        with("sub", Value::Null),
        without("sub"),
        with("azp", "other"),
        with("at_hash", "wrong, but there is no access token to compare with"),
        with("email_verified", "yes"),
    ] {
        assert_eq!(verify(&claims).await, Ok(()), "{claims}");
    }
}

#[tokio::test]
async fn each_wrong_claim_has_the_text_of_kubelogin() {
    for (claims, text) in [
        (
            with("iss", "https://issuer.example/dex/"),
            r#"oidc: id token issued by a different provider, expected "https://issuer.example/dex" got "https://issuer.example/dex/""#,
        ),
        (
            without("iss"),
            r#"oidc: id token issued by a different provider, expected "https://issuer.example/dex" got """#,
        ),
        (with("aud", "other"), r#"oidc: expected audience "kubernetes" got ["other"]"#),
        (with("aud", json!(["a", "b\""])), r#"oidc: expected audience "kubernetes" got ["a" "b\""]"#),
        (with("aud", json!([])), r#"oidc: expected audience "kubernetes" got []"#),
        (without("aud"), r#"oidc: expected audience "kubernetes" got []"#),
        (with("exp", NOW - 1), "oidc: token is expired (Token Expiry: 2026-11-23 17:59:59 +0000 UTC)"),
        (without("exp"), "oidc: token is expired (Token Expiry: 0001-01-01 00:00:00 +0000 UTC)"),
        (with("exp", Value::Null), "oidc: token is expired (Token Expiry: 0001-01-01 00:00:00 +0000 UTC)"),
        (
            with("nbf", NOW + 301),
            "oidc: current time 2026-11-23 18:00:00 +0000 UTC before the nbf (not before) time: 2026-11-23 18:05:01 +0000 UTC",
        ),
    ] {
        assert_eq!(verify(&claims).await, Err(text.into()), "{claims}");
    }
    for claims in [with("exp", -1), with("exp", 1e30), with("exp", -1e30)] {
        assert!(verify(&claims).await.unwrap_err().starts_with("oidc: token is expired"), "{claims}");
    }
    for claims in [
        with("iss", 1),
        with("sub", 1),
        with("aud", 1),
        with("aud", json!(["kubernetes", 1])),
        with("exp", "soon"),
        with("exp", "inf"),
        with("exp", true),
        with("iat", "x"),
        with("nonce", 1),
        with("at_hash", 1),
        json!([]),
        json!("x"),
    ] {
        assert!(verify(&claims).await.unwrap_err().starts_with("oidc: failed to unmarshal claims: "), "{claims}");
    }
    let twice = claims().to_string().replacen('{', r#"{"aud":"other","#, 1);
    assert!(verify_token(&sign(&K1, &twice)).await.unwrap_err().starts_with("oidc: failed to unmarshal claims: "));
}

#[tokio::test]
async fn texts_from_the_token_are_bounded() {
    let long = "x".repeat(20_000);
    for claims in [
        with("iss", long.clone()),
        with("aud", vec![long.clone(); 2]),
        with("aud", vec!["x"; 2000]),
        with("exp", long.clone()),
    ] {
        assert!(verify(&claims).await.unwrap_err().len() < 1000);
    }
}

#[tokio::test]
async fn only_announced_algorithms_are_accepted() {
    let clock = Clock::mock(NOW).0;
    let token = sign(&K1, &claims().to_string());
    let rsa = sign(&RSA, &claims().to_string());
    let ps256 = sign_compact(&RSA, Algorithm::Ps256, None, claims().to_string().as_bytes()).unwrap();
    for (announced, token, good) in [
        (&["RS256", "ES256", "HS256", "none"][..], &token, true),
        (&["RS256"], &token, false),
        (&[], &token, false),
        (&[], &rsa, true),
        (&["HS256"], &rsa, true),
        (&["RS256"], &ps256, false),
        (&["PS256"], &ps256, true),
    ] {
        let verifier = IdTokenVerifier::new(&document(announced), "kubernetes", clock.clone());
        let outcome = verifier.verify(token, &keys(), Checks::default()).await;
        assert_eq!(outcome.is_ok(), good, "{announced:?}");
        if let Err(error) = outcome {
            assert!(matches!(error, IdTokenError::Algorithm { .. }), "{error}");
        }
    }
    let verifier = IdTokenVerifier::new(&document(&["HS256"]), "kubernetes", clock);
    assert_eq!(verifier.algorithms(), [Algorithm::Rs256]);
    let error = verifier.verify(&token, &keys(), Checks::default()).await.unwrap_err();
    assert_eq!(error.to_string(), r#"oidc: malformed jwt: unexpected signature algorithm "ES256"; expected ["RS256"]"#);
}

#[tokio::test]
async fn signatures_of_strangers_are_refused() {
    let error = verify_token(&sign(&K2, &claims().to_string())).await.unwrap_err();
    assert_eq!(error, "failed to verify signature: failed to verify id token signature");
    let error = verify_token("a.b").await.unwrap_err();
    assert_eq!(error, "oidc: malformed jwt: a compact JWS has three parts separated by dots");
}

#[tokio::test]
async fn the_nonce_is_that_of_the_request() {
    let token = sign(&K1, &claims().to_string());
    let check = async |token: &str, nonce| {
        let outcome = verifier().verify(token, &keys(), Checks { nonce: Some(nonce), access_token: None }).await;
        outcome.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(check(&token, "n1").await, Ok(()));
    assert_eq!(check(&token, "n2").await, Err("nonce did not match (wants n2 but got n1)".into()));
    assert_eq!(
        check(&sign(&K1, &without("nonce").to_string()), "n2").await,
        Err("nonce did not match (wants n2 but got )".into())
    );
}

#[tokio::test]
async fn an_access_token_that_does_not_belong_to_the_id_token_is_refused() {
    let check = async |at_hash: &str, access_token| {
        let token = sign(&K1, &with("at_hash", at_hash).to_string());
        verifier().verify(&token, &keys(), Checks { nonce: None, access_token: Some(access_token) }).await.map(|_| ())
    };
    let right = half_hash(Algorithm::Es256, "at-1");
    assert_eq!(check(&right, "at-1").await, Ok(()));
    assert_eq!(check(&right, "at-2").await, Err(IdTokenError::AccessTokenHash));
    assert_eq!(check("", "at-1").await, Err(IdTokenError::AccessTokenHash));
}

#[tokio::test]
async fn any_audience_is_accepted_on_request_and_nothing_else_is() {
    let verifier = verifier().for_any_audience();
    let check = async |claims: Value| {
        verifier.verify(&sign(&K1, &claims.to_string()), &keys(), Checks::default()).await.is_ok()
    };
    assert!(check(with("aud", "other")).await);
    assert!(check(without("aud")).await);
    assert!(!check(with("exp", NOW - 1)).await);
    assert!(!check(with("iss", "x")).await);
}

#[tokio::test]
async fn google_may_leave_out_its_scheme() {
    let google = DiscoveryDocument { issuer: "https://accounts.google.com".into(), ..document(&["ES256"]) };
    let verifier = IdTokenVerifier::new(&google, "kubernetes", Clock::mock(NOW).0);
    for (issuer, good) in
        [("accounts.google.com", true), ("https://accounts.google.com", true), ("http://accounts.google.com", false)]
    {
        let token = sign(&K1, &with("iss", issuer).to_string());
        assert_eq!(verifier.verify(&token, &keys(), Checks::default()).await.is_ok(), good, "{issuer}");
    }
}

#[tokio::test]
async fn a_token_with_wrong_claims_costs_no_request_for_keys() {
    let issuer = Issuer::start().await;
    issuer.on("/keys", [Reply::json(key_set(&[&K1]))]);
    let (clock, _hand) = Clock::mock(NOW);
    let cache = JwksCache::new(http(), format!("{}/keys", issuer.url), JwksOptions::limited(), clock);
    for claims in [with("iss", "x"), with("aud", "x"), with("exp", NOW - 1)] {
        assert!(verifier().verify(&sign(&K1, &claims.to_string()), &cache, Checks::default()).await.is_err());
    }
    assert_eq!(issuer.count(), 0);
    assert!(verifier().verify(&sign(&K1, &claims().to_string()), &cache, Checks::default()).await.is_ok());
    assert_eq!(issuer.count(), 1);
}
