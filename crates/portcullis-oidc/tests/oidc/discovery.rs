//! Discovery: what is asked, what is believed, what is said when it fails.

use portcullis_oidc::{
    DiscoveryDocument,
    client::{DiscoveryError, DiscoveryOptions, discover},
};
use portcullis_runtime::http_client::HttpClientError;
use serde_json::json;

use crate::support::{Issuer, Reply, http};

const PATH: &str = "/.well-known/openid-configuration";

async fn run(issuer: &str) -> Result<DiscoveryDocument, DiscoveryError> {
    discover(&http(), issuer, &DiscoveryOptions::default()).await
}

#[tokio::test]
async fn a_document_of_the_same_issuer_is_believed() {
    let issuer = Issuer::start().await;
    let document = json!({"issuer": issuer.url, "jwks_uri": "https://elsewhere/keys", "x": 1});
    issuer.on(PATH, [Reply::json(document.to_string()).content_type("text/plain")]);
    let found = run(&issuer.url).await.unwrap();
    assert_eq!(found.jwks_uri.as_deref(), Some("https://elsewhere/keys"));
    assert_eq!(found.other["x"], 1);
    assert_eq!(issuer.seen()[0].method, "GET");
}

#[tokio::test]
async fn the_issuer_is_compared_byte_for_byte_also_in_its_trailing_slash() {
    let issuer = Issuer::start().await;
    issuer.on(PATH, [Reply::json(json!({"issuer": issuer.url}).to_string())]);
    issuer.on(
        "/dex/.well-known/openid-configuration",
        [Reply::json(json!({"issuer": format!("{}/dex/", issuer.url)}).to_string())],
    );

    assert!(run(&issuer.url).await.is_ok());
    let with_slash = format!("{}/", issuer.url);
    let expected = DiscoveryError::IssuerMismatch { expected: with_slash.clone(), got: issuer.url.clone() };
    assert_eq!(run(&with_slash).await, Err(expected));
    assert!(run(&format!("{}/dex/", issuer.url)).await.is_ok());
    assert!(matches!(run(&format!("{}/dex", issuer.url)).await, Err(DiscoveryError::IssuerMismatch { .. })));
}

#[tokio::test]
async fn the_document_may_be_elsewhere_but_its_issuer_may_not() {
    let issuer = Issuer::start().await;
    let options = DiscoveryOptions { document_url: Some(format!("{}/internal", issuer.url)) };
    issuer.on("/internal", [Reply::json(json!({"issuer": "https://public.example"}).to_string())]);
    assert!(discover(&http(), "https://public.example", &options).await.is_ok());
    let other = discover(&http(), "https://other.example", &options).await;
    assert!(matches!(other, Err(DiscoveryError::IssuerMismatch { .. })));
}

#[tokio::test]
async fn bad_answers_are_errors_with_bounded_texts() {
    let issuer = Issuer::start().await;
    let missing = run(&issuer.url).await.unwrap_err();
    assert_eq!(missing.to_string(), "404 Not Found: not scripted");

    issuer.on(PATH, [Reply::json(format!("\u{1b}[31m{}", "x".repeat(5000))).status(500)]);
    let Err(DiscoveryError::Status { status: 500, body }) = run(&issuer.url).await else { panic!() };
    assert_eq!(body, format!("[31m{}…", "x".repeat(252)));

    for status in [201, 204, 206, 301, 304] {
        issuer.on(PATH, [Reply::json(json!({"issuer": issuer.url}).to_string()).status(status)]);
        assert!(run(&issuer.url).await.is_err(), "{status}");
    }

    issuer.on(PATH, [Reply::json("<html>").content_type("text/html; charset=utf-8")]);
    let html = run(&issuer.url).await.unwrap_err().to_string();
    assert!(html.starts_with("oidc: failed to decode provider discovery object: expected Content-Type = application/json, got \"text/html; charset=utf-8\": "), "{html}");

    for body in ["", "[]", "null", "{", "{}{}", r#"{"issuer":1}"#, r#"{"issuer":"a","issuer":"b"}"#] {
        issuer.on(PATH, [Reply::json(body)]);
        let error = run(&issuer.url).await.unwrap_err();
        assert!(matches!(error, DiscoveryError::Json { .. }), "{body}: {error}");
        assert!(error.to_string().contains("got Content-Type = application/json, but could not unmarshal as JSON: "));
    }

    issuer.on(PATH, [Reply::json("{}")]);
    assert_eq!(
        run(&issuer.url).await,
        Err(DiscoveryError::IssuerMismatch { expected: issuer.url.clone(), got: String::new() })
    );

    issuer.on(PATH, [Reply::json(" ".repeat(64 * 1024 + 1))]);
    assert!(matches!(run(&issuer.url).await, Err(DiscoveryError::Http(HttpClientError::BodyTooLarge { .. }))));
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error() {
    let issuer = Issuer::start().await;
    let url = issuer.url.clone();
    // A bound port that does not listen: nothing else can take it meanwhile.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead = format!("http://{}", held.local_addr().unwrap());
    assert_ne!(url, dead);
    assert!(matches!(run(&dead).await, Err(DiscoveryError::Http(HttpClientError::Connect { .. }))));
    assert!(matches!(run("not a url").await, Err(DiscoveryError::Http(HttpClientError::Url { .. }))));
}
