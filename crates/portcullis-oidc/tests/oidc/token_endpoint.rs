//! The token endpoint: what is sent byte for byte, what is read, and what errors say and do not say.

use portcullis_oidc::client::{AuthStyle, TokenClient, TokenError};
use portcullis_runtime::Secret;

use crate::support::{Issuer, Reply, http};

const GOOD: &str =
    r#"{"access_token":"at","token_type":"bearer","expires_in":3600,"refresh_token":"rt","id_token":"it"}"#;

fn client(issuer: &Issuer, secret: Option<&str>) -> TokenClient {
    TokenClient::new(http(), format!("{}/token", issuer.url), "kube:1", secret.map(Secret::from))
}

fn secret_in_basic(secret: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("kube%3A1:{secret}")))
}

async fn answer(reply: Reply) -> Result<portcullis_oidc::vocabulary::TokenResponse, TokenError> {
    let issuer = Issuer::start().await;
    issuer.on("/token", [reply]);
    client(&issuer, None).exchange_code("the-code", "http://localhost:8000", Some("the-verifier")).await
}

#[tokio::test]
async fn without_a_secret_the_client_id_is_in_the_body() {
    let issuer = Issuer::start().await;
    issuer.on("/token", [Reply::json(GOOD)]);
    let client = client(&issuer, Some(""));
    client.exchange_code("c~*", "http://localhost:8000", Some("v")).await.unwrap();
    client.refresh(&"r t".into()).await.unwrap();
    client.password("jane", &"p&w".into(), &["email".into(), "openid".into()]).await.unwrap();
    let seen = issuer.seen();
    assert_eq!(seen[0].method, "POST");
    assert_eq!(seen[0].path, "/token");
    assert_eq!(seen[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen[0].header("authorization"), None);
    let bodies: Vec<_> = seen.iter().map(|seen| seen.body.as_str()).collect();
    assert_eq!(
        bodies,
        [
            "client_id=kube%3A1&code=c~%2A&code_verifier=v&grant_type=authorization_code&redirect_uri=http%3A%2F%2Flocalhost%3A8000",
            "client_id=kube%3A1&grant_type=refresh_token&refresh_token=r+t",
            "client_id=kube%3A1&grant_type=password&password=p%26w&scope=email+openid&username=jane",
        ]
    );
}

#[tokio::test]
async fn with_a_secret_basic_comes_first_and_is_remembered_when_it_works() {
    let issuer = Issuer::start().await;
    issuer.on("/token", [Reply::json(GOOD)]);
    let client = client(&issuer, Some("s ä"));
    for _ in 0..2 {
        client.refresh(&"rt".into()).await.unwrap();
    }
    let seen = issuer.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!(seen.header("authorization"), Some(secret_in_basic("s+%C3%A4").as_str()));
        assert_eq!(seen.body, "grant_type=refresh_token&refresh_token=rt");
    }
}

#[tokio::test]
async fn on_any_error_the_body_is_tried_once_and_remembered() {
    for failure in [
        Reply::json(r#"{"error":"invalid_client"}"#).status(401),
        Reply::json("oops").status(500),
        Reply::json(r#"{"error":"invalid_grant"}"#),
        Reply::json("{}"),
    ] {
        let issuer = Issuer::start().await;
        issuer.on("/token", [failure, Reply::json(GOOD)]);
        let client = client(&issuer, Some("sec"));
        client.refresh(&"rt".into()).await.unwrap();
        client.refresh(&"rt".into()).await.unwrap();
        let seen = issuer.seen();
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[0].header("authorization"), Some(secret_in_basic("sec").as_str()));
        for seen in &seen[1..] {
            assert_eq!(seen.header("authorization"), None);
            assert_eq!(seen.body, "client_id=kube%3A1&client_secret=sec&grant_type=refresh_token&refresh_token=rt");
        }
    }
}

#[tokio::test]
async fn when_both_styles_fail_nothing_is_remembered_and_the_second_error_is_told() {
    let issuer = Issuer::start().await;
    let refuse = |code: &str| Reply::json(format!(r#"{{"error":"{code}"}}"#)).status(401);
    issuer.on("/token", [refuse("one"), refuse("two"), refuse("three"), refuse("four")]);
    let client = client(&issuer, Some("sec"));
    let codes = [client.refresh(&"rt".into()).await, client.refresh(&"rt".into()).await].map(|outcome| match outcome {
        Err(TokenError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    });
    assert_eq!(codes, ["two", "four"]);
    assert_eq!(issuer.count(), 4);
}

#[tokio::test]
async fn a_fixed_style_is_never_probed() {
    for (style, basic) in [(AuthStyle::Basic, true), (AuthStyle::Body, false)] {
        let issuer = Issuer::start().await;
        issuer.on("/token", [Reply::json(r#"{"error":"invalid_client"}"#).status(401)]);
        let client = client(&issuer, Some("sec")).with_auth_style(style);
        assert!(client.refresh(&"rt".into()).await.is_err());
        assert_eq!(issuer.count(), 1);
        assert_eq!(issuer.seen()[0].header("authorization").is_some(), basic);
    }
}

#[tokio::test]
async fn a_refresh_without_a_new_refresh_token_keeps_the_old_one() {
    let issuer = Issuer::start().await;
    issuer.on("/token", [Reply::json(r#"{"access_token":"at","refresh_token":""}"#), Reply::json(GOOD)]);
    let client = client(&issuer, None);
    assert_eq!(client.refresh(&"old".into()).await.unwrap().refresh_token, Some("old".into()));
    assert_eq!(client.refresh(&"old".into()).await.unwrap().refresh_token, Some("rt".into()));
}

#[tokio::test]
async fn answers_are_read_in_every_form_that_kubelogin_reads() {
    let tokens = answer(Reply::json(GOOD)).await.unwrap();
    assert_eq!(
        (tokens.access_token, tokens.token_type.as_str(), tokens.expires_in),
        ("at".into(), "bearer", Some(3600))
    );
    assert_eq!((tokens.refresh_token, tokens.id_token), (Some("rt".into()), Some("it".into())));

    for (body, expires_in) in [
        (r#"{"access_token":"at","expires_in":"3600"}"#, Some(3600)),
        (r#"{"access_token":"at","expires_in":3600.0}"#, Some(3600)),
        (r#"{"access_token":"at","expires_in":null}"#, None),
        (r#"{"access_token":"at","expires_in":0}"#, None),
        (r#"{"access_token":"at","expires_in":-5}"#, None),
        (r#"{"access_token":"at","id_token":"","unknown":{"x":1}}"#, None),
    ] {
        let tokens = answer(Reply::json(body).content_type("text/html")).await.unwrap();
        assert_eq!((tokens.expires_in, tokens.id_token), (expires_in, None), "{body}");
    }
    let form = "access_token=a%20t&id_token=i+t&expires_in=60&refresh_token=r&token_type=bearer&x=1";
    for media in ["application/x-www-form-urlencoded", "text/plain; charset=utf-8"] {
        let tokens = answer(Reply::json(form).content_type(media)).await.unwrap();
        assert_eq!(
            (tokens.access_token, tokens.id_token, tokens.expires_in),
            ("a t".into(), Some("i t".into()), Some(60))
        );
    }
    assert!(answer(Reply::json(GOOD).status(201)).await.is_ok());
}

#[tokio::test]
async fn errors_have_the_texts_of_kubelogin() {
    for (reply, text) in [
        (Reply::json(r#"{"error":"invalid_grant"}"#).status(400), r#"oauth2: "invalid_grant""#),
        (
            Reply::json(r#"{"error":"invalid_grant","error_description":"a \"b\"","error_uri":"https://x"}"#)
                .status(400),
            r#"oauth2: "invalid_grant" "a \"b\"" "https://x""#,
        ),
        (Reply::json(r#"{"error":"slow_down","access_token":"x"}"#), r#"oauth2: "slow_down""#),
        (
            Reply::json("error=access_denied&error_description=no").content_type("text/plain"),
            r#"oauth2: "access_denied" "no""#,
        ),
        (Reply::json("boom").status(502), "oauth2: cannot fetch token: 502 Bad Gateway\nResponse: boom"),
        (Reply::json("{}").status(503), "oauth2: cannot fetch token: 503 Service Unavailable\nResponse: {}"),
        (Reply::json("{}"), "oauth2: server response missing access_token"),
        (Reply::json(r#"{"access_token":""}"#), "oauth2: server response missing access_token"),
        (Reply::json("x=1").content_type("text/plain"), "oauth2: server response missing access_token"),
        (Reply::json("<html>"), "oauth2: cannot parse json: Syntax error at line 1 column 1"),
        (Reply::json(r#"["at"]"#), "oauth2: cannot parse json: Data error at line 0 column 0"),
        (Reply::json(r#"{"access_token":7}"#), "oauth2: cannot parse json: Data error at line 1 column 17"),
    ] {
        assert_eq!(answer(reply.clone()).await.unwrap_err().to_string(), text, "{}", reply.body);
    }
}

#[tokio::test]
async fn errors_are_bounded_and_repeat_no_secret() {
    let long = "x".repeat(10_000);
    let body = format!(r#"{{"error":"{long}","error_description":"{long}","error_uri":"{long}"}}"#);
    let error = answer(Reply::json(body).status(400)).await.unwrap_err();
    assert!(error.to_string().len() < 1200, "{}", error.to_string().len());
    assert!(answer(Reply::json(long).status(400)).await.unwrap_err().to_string().len() < 400);

    let issuer = Issuer::start().await;
    let echo = "password=pass+w%26rd secret=cl%26ient code pass w&rd cl&ient";
    for reply in [
        Reply::json(echo).status(400),
        Reply::json(format!(r#"{{"error":"{echo}","error_description":"{echo}","error_uri":"{echo}"}}"#)).status(400),
    ] {
        issuer.on("/token", [reply]);
        let client = client(&issuer, Some("cl&ient"));
        let error = client.password("jane", &"pass w&rd".into(), &[]).await.unwrap_err();
        let shown = format!("{error} {error:?} {client:?}");
        for secret in ["pass w&rd", "pass+w%26rd", "cl&ient", "cl%26ient"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    // A success that cannot be read does not show what it brought.
    let error = answer(Reply::json(r#"{"access_token":"tok-1","id_token":["tok-2"]}"#)).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("tok-"), "{error}");
}

#[tokio::test]
async fn oversized_answers_are_refused() {
    let error = answer(Reply::json(format!("{GOOD}{}", " ".repeat(64 * 1024)))).await.unwrap_err();
    assert!(matches!(error, TokenError::Http(_)), "{error}");
}
