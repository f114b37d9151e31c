//! Tokens through the whole server without a listener.

use portcullis_jose::{Algorithm, KeyKind, SigningKey, base64url_decode, sign_compact};
use serde_json::{Value, json};

use super::*;
use crate::http::Call;
use crate::world::{World, world};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

/// A key and the id that kube-apiserver 1.37.2 gave it.
const KEY: &str = include_str!("testdata/service-account.pem");
const KEY_ID: &str = "y8lbe1zeq4voZLnfK-gcmbza3dBEnh0pAjhVUKN96mk";

#[tokio::test]
async fn a_keys_id_and_document_are_those_of_kube_apiserver() {
    let key = SigningKey::from_pkcs8_pem(KEY, "x".to_owned()).unwrap();
    let accounts = ServiceAccounts::new("127.0.0.1:6443", Some(key));
    let document = String::from_utf8(accounts.document().await.unwrap().to_vec()).unwrap();
    assert!(
        document.starts_with(&format!(r#"{{"keys":[{{"use":"sig","kty":"RSA","kid":"{KEY_ID}","alg":"RS256","n":""#)),
        "{document}"
    );
    assert!(document.ends_with(r#"","e":"AQAB"}]}"#), "{document}");
    let configuration = String::from_utf8(accounts.configuration().to_vec()).unwrap();
    let want = r#"{"issuer":"https://kubernetes.default.svc.cluster.local","jwks_uri":"https://127.0.0.1:6443/openid/v1/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["RS256"]}"#;
    assert_eq!(configuration, want);
}

#[tokio::test]
async fn a_key_that_is_not_rsa_is_refused() {
    let key = SigningKey::generate(KeyKind::P256, "x".to_owned()).unwrap();
    assert!(ServiceAccounts::new("a", Some(key)).document().await.is_err());
}

#[tokio::test]
async fn two_servers_make_two_keys_and_one_server_one() {
    let (first, second) = (ServiceAccounts::new("a", None), ServiceAccounts::new("a", None));
    assert_eq!(first.document().await.unwrap(), first.document().await.unwrap());
    assert_ne!(first.document().await.unwrap(), second.document().await.unwrap());
}

impl World {
    async fn account(&self, name: &str) -> Value {
        self.admin(&format!("POST {ACCOUNTS}"), &json!({"metadata": {"name": name}}).to_string()).await
    }

    async fn pod(&self, name: &str, account: &str) -> Value {
        let pod = json!({"metadata": {"name": name}, "spec": {"serviceAccountName": account, "nodeName": "node",
            "containers": [{"name": "c", "image": "i"}]}});
        self.admin("POST /api/v1/namespaces/default/pods", &pod.to_string()).await
    }

    /// A token with the given spec, and what it says.
    async fn token(&self, account: &str, spec: Value) -> (String, Value) {
        let body = json!({"spec": spec}).to_string();
        let answer = self.admin(&format!("POST {ACCOUNTS}/{account}/token"), &body).await;
        let token = answer["status"]["token"].as_str().unwrap().to_owned();
        let payload = base64url_decode(token.split('.').nth(1).unwrap()).unwrap();
        (token, serde_json::from_slice(&payload).unwrap())
    }

    async fn refused(&self, body: Value) -> (u16, String) {
        let (code, status) = self.call("admin", &format!("POST {ACCOUNTS}/robot/token"), &body.to_string()).await;
        (code, status["message"].as_str().unwrap_or_default().to_owned())
    }

    /// What a TokenReview says, for the API server or for other audiences.
    async fn review(&self, token: &str, audiences: &[&str]) -> Value {
        let body = json!({"spec": {"token": token, "audiences": audiences}}).to_string();
        self.admin("POST /apis/authentication.k8s.io/v1/tokenreviews", &body).await["status"].clone()
    }

    async fn code_with(&self, token: &str) -> u16 {
        let call = Call::test("GET /api", "").with("authorization", &format!("Bearer {token}"));
        self.send(call).await.status.as_u16()
    }
}

#[tokio::test]
async fn a_token_says_who_it_is_for_and_makes_its_bearer_that_account() {
    let world = world();
    let account = world.account("robot").await;
    let (token, claims) = world.token("robot", json!({})).await;
    let uid = &account["metadata"]["uid"];
    let mut want = json!({"aud": [ISSUER], "exp": 1_700_003_600, "iat": 1_700_000_000, "iss": ISSUER, "jti": "",
        "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "robot", "uid": uid}},
        "nbf": 1_700_000_000, "sub": "system:serviceaccount:default:robot"});
    want["jti"] = claims["jti"].clone();
    assert_eq!(claims, want);
    let call = Call::test("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", "{}");
    let reply = world.send(call.with("authorization", &format!("Bearer {token}"))).await;
    let review: Value = serde_json::from_slice(reply.bytes()).unwrap();
    let user = json!({"username": "system:serviceaccount:default:robot", "uid": uid,
        "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
        "extra": {"authentication.kubernetes.io/credential-id": [format!("JTI={}", claims["jti"].as_str().unwrap())]}});
    assert_eq!(review["status"]["userInfo"], user);
}

#[tokio::test]
async fn an_answer_has_the_account_and_what_was_granted() {
    let world = world();
    world.account("robot").await;
    let body = r#"{"metadata":{"labels":{"a":"b"}},"spec":{"expirationSeconds":600,"audiences":["x"]}}"#;
    let answer = world.admin(&format!("POST {ACCOUNTS}/robot/token?dryRun=All"), body).await;
    assert_eq!((&answer["kind"], &answer["apiVersion"]), (&json!("TokenRequest"), &json!("authentication.k8s.io/v1")));
    assert_eq!(answer["spec"], json!({"audiences": ["x"], "expirationSeconds": 600, "boundObjectRef": null}));
    assert_eq!(answer["status"]["expirationTimestamp"], "2023-11-14T22:23:20Z");
    assert_eq!((&answer["metadata"]["name"], &answer["metadata"]["labels"]["a"]), (&json!("robot"), &json!("b")));
}

#[tokio::test]
async fn a_token_ends_with_its_time_its_account_and_its_pod() {
    let world = world();
    world.account("robot").await;
    world.pod("p", "robot").await;
    let (short, _) = world.token("robot", json!({"expirationSeconds": 600})).await;
    let (plain, _) = world.token("robot", json!({})).await;
    let (bound, claims) =
        world.token("robot", json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}})).await;
    assert_eq!(claims["kubernetes.io"]["pod"]["name"], "p");
    assert_eq!(claims["kubernetes.io"]["node"]["name"], "node");
    for token in [&short, &plain, &bound] {
        assert_eq!(world.code_with(token).await, 200);
    }
    let extra = world.review(&bound, &[]).await["user"]["extra"].clone();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["node"]));

    // A minute of leeway, and not a second more.
    world.hand.advance(std::time::Duration::from_secs(660));
    assert_eq!(world.code_with(&short).await, 200);
    world.hand.advance(std::time::Duration::from_secs(1));
    assert_eq!(world.code_with(&short).await, 401);
    assert_eq!(world.review(&short, &[]).await["error"], "[invalid bearer token, service account token has expired]");

    // A new pod of the same name is another one.
    world.admin("DELETE /api/v1/namespaces/default/pods/p", "").await;
    let error = world.review(&bound, &[]).await["error"].clone();
    assert_eq!(error, "[invalid bearer token, service account token has been invalidated]");
    world.pod("p", "robot").await;
    let error = world.review(&bound, &[]).await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("does not match service account pod ref claim"), "{error}");
    assert_eq!((world.code_with(&bound).await, world.code_with(&plain).await), (401, 200));

    world.admin(&format!("DELETE {ACCOUNTS}/robot"), "").await;
    let error = world.review(&plain, &[]).await["error"].clone();
    assert_eq!(error, "[invalid bearer token, serviceaccounts \"robot\" not found]");
    world.account("robot").await;
    let error = world.review(&plain, &[]).await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("service account UID (") && error.contains(") does not match claim ("), "{error}");
    assert_eq!(world.code_with(&plain).await, 401);
}

#[tokio::test]
async fn an_account_that_is_being_deleted_loses_its_tokens_after_the_leeway() {
    let world = world();
    let body = r#"{"metadata":{"name":"robot","finalizers":["a.b/c"]}}"#;
    world.admin(&format!("POST {ACCOUNTS}"), body).await;
    let (token, _) = world.token("robot", json!({})).await;
    world.admin(&format!("DELETE {ACCOUNTS}/robot"), "").await;
    world.hand.advance(std::time::Duration::from_secs(60));
    assert_eq!(world.code_with(&token).await, 200);
    world.hand.advance(std::time::Duration::from_secs(1));
    let error = world.review(&token, &[]).await["error"].clone();
    assert_eq!(error, "[invalid bearer token, service account default/robot has been deleted]");
}

#[tokio::test]
async fn a_token_is_only_good_for_its_audiences() {
    let world = world();
    world.account("robot").await;
    let (other, _) = world.token("robot", json!({"audiences": ["x", "y"]})).await;
    let (own, _) = world.token("robot", json!({})).await;
    assert_eq!((world.code_with(&other).await, world.code_with(&own).await), (401, 200));
    let review = world.review(&other, &["z", "y"]).await;
    assert_eq!((&review["authenticated"], &review["audiences"]), (&json!(true), &json!(["y"])));
    assert_eq!(
        world.review(&own, &["x"]).await["error"],
        format!("[invalid bearer token, token audiences [\"{ISSUER}\"] is invalid for the target audiences [\"x\"]]")
    );
    // Others' tokens are for the API server.
    assert_eq!(world.review("jane", &[]).await["audiences"], json!([ISSUER]));
    assert_eq!(world.review("jane", &["z"]).await, json!({"user": {}, "error": "invalid bearer token"}));
}

#[tokio::test]
async fn a_kubelets_token_lives_a_year_and_says_when_to_fetch_the_next() {
    let world = world();
    world.account("robot").await;
    world.pod("p", "robot").await;
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "name": "p"});
    let (_, claims) = world.token("robot", json!({"expirationSeconds": 3607, "boundObjectRef": pod})).await;
    assert_eq!((&claims["exp"], &claims["kubernetes.io"]["warnafter"]), (&json!(1_731_536_000), &json!(1_700_003_607)));
    for spec in [
        json!({"expirationSeconds": 3607}),
        json!({"expirationSeconds": 3607, "boundObjectRef": pod, "audiences": ["x"]}),
        json!({"expirationSeconds": 3606, "boundObjectRef": pod}),
    ] {
        let (_, claims) = world.token("robot", spec).await;
        assert!(claims["kubernetes.io"].get("warnafter").is_none() && claims["exp"].as_i64().unwrap() < 1_700_004_000);
    }
}

#[tokio::test]
async fn what_was_not_signed_by_this_server_is_no_account() {
    let world = world();
    world.account("robot").await;
    let (token, claims) = world.token("robot", json!({})).await;
    let signed = |kid: &str, claims: &Value| {
        let key = SigningKey::generate(KeyKind::Rsa2048, kid.to_owned()).unwrap();
        sign_compact(&key, Algorithm::Rs256, None, claims.to_string().as_bytes()).unwrap()
    };
    let (body, _) = token.rsplit_once('.').unwrap();
    let changed = format!("{body}.{}", "A".repeat(342));
    let no_key = "[invalid bearer token, invalid signature, no keys found]";
    let bad = "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]";
    for (token, error) in [
        (signed("x", &claims), no_key),
        (signed("", &claims), bad),
        (changed, bad),
        (signed("x", &json!({"iss": "https://else.where"})), "invalid bearer token"),
        ("a.b.c".to_owned(), "invalid bearer token"),
    ] {
        assert_eq!(world.review(&token, &[]).await["error"], error, "{token}");
        assert_eq!(world.code_with(&token).await, 401);
    }
}

/// Requests and the answers that kube-apiserver 1.37.2 gave to them.
#[tokio::test]
async fn bad_requests_read_as_the_real_server_words_them() {
    let world = world();
    world.account("robot").await;
    world.account("other").await;
    world.pod("p", "other").await;
    let webhook =
        json!({"kind": "ValidatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1", "name": "w"});
    let bound = |kind: &str, api_version: &str, name: &str| json!({"spec": {"boundObjectRef": {"kind": kind, "apiVersion": api_version, "name": name}}});
    let invalid = "TokenRequest.authentication.k8s.io \"\" is invalid: ";
    for (body, code, message) in [
        (json!({"spec": {"expirationSeconds": 599}}), 422, format!("{invalid}spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes")),
        (json!({"spec": {"expirationSeconds": 4_294_967_297_i64}}), 422, format!("{invalid}spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds")),
        (json!({"metadata": {"name": "zz"}}), 422, "TokenRequest.authentication.k8s.io \"robot\" is invalid: metadata.name: Invalid value: \"zz\": must match the service account name if specified".to_owned()),
        (json!({"metadata": {"namespace": "zz"}}), 400, "the namespace of the provided object does not match the namespace sent on the request".to_owned()),
        (bound("Pod", "v1", "none"), 404, "pods \"none\" not found".to_owned()),
        (bound("Pod", "v1", "p"), 400, "cannot bind token for serviceaccount \"robot\" to pod running with different serviceaccount name.".to_owned()),
        (bound("Pod", "v1", ""), 400, "Name parameter required.".to_owned()),
        (bound("ConfigMap", "v1", "p"), 400, "cannot bind token to object of type /v1, Kind=ConfigMap".to_owned()),
        (bound("Deployment", "apps/v1", "p"), 400, "cannot bind token to object of type apps/v1, Kind=Deployment".to_owned()),
        (bound("", "", ""), 400, "cannot bind token to object of type /, Kind=".to_owned()),
        (json!({"spec": {"boundObjectRef": webhook}}), 422, format!("{invalid}spec.attestations: Invalid value: null: webhook bound requests require exactly one admissionReviewAPIGroups attestation")),
        (json!({"spec": {"boundObjectRef": webhook, "attestations": {"admissionReviewAPIGroups": ["*"]}}}), 400, "cannot bind token to object of type admissionregistration.k8s.io/v1, Kind=ValidatingWebhookConfiguration (feature gate APIServerWebhookAuthenticationToken is disabled)".to_owned()),
        (json!({"spec": {"attestations": {"a": ["b"]}}}), 422, format!("{invalid}spec.attestations: Invalid value: {{\"a\":[\"b\"]}}: attestations may only be specified with a webhook bound object reference")),
    ] {
        assert_eq!(world.refused(body).await, (code, message));
    }
    let (code, message) = world.refused(json!({"metadata": {"uid": "zz"}})).await;
    assert!(code == 409 && message.starts_with("Operation cannot be fulfilled on TokenRequest.authentication.k8s.io \"robot\": the UID in the token request (zz) does not match"), "{message}");
    for (line, want) in [
        ("POST /api/v1/namespaces/default/serviceaccounts/none/token", 404),
        ("POST /api/v1/namespaces/none/serviceaccounts/none/token", 404),
        ("GET /api/v1/namespaces/default/serviceaccounts/robot/token", 405),
        ("POST /api/v1/namespaces/default/serviceaccounts/robot/token/x", 404),
        ("POST /api/v1/namespaces/default/serviceaccounts/robot/tokens", 404),
        ("POST /api/v1/namespaces/default/pods/p/token", 404),
    ] {
        assert_eq!(world.code("admin", line, "{}").await, want, "{line}");
    }
    assert_eq!(world.code("jane", &format!("POST {ACCOUNTS}/robot/token"), "{}").await, 403);
}

#[tokio::test]
async fn the_issuers_documents_are_for_those_who_may_read_them() {
    let world = world();
    world.account("robot").await;
    let (token, _) = world.token("robot", json!({})).await;
    for (path, media_type) in [(CONFIGURATION, "application/json"), (KEYS, "application/jwk-set+json")] {
        let call = Call::test(&format!("GET {path}"), "").with("authorization", &format!("Bearer {token}"));
        let reply = world.send(call).await;
        assert_eq!((reply.status.as_u16(), reply.headers["content-type"].to_str().unwrap()), (200, media_type));
        assert_eq!(reply.headers["cache-control"], "public, max-age=3600");
        assert_eq!(world.code("", &format!("GET {path}"), "").await, 403);
        assert_eq!(world.code("admin", &format!("POST {path}"), "").await, 405);
        let call =
            Call::test(&format!("GET {path}/"), "").with("authorization", "Bearer admin").with("accept", "text/html");
        assert_eq!(world.send(call).await.status.as_u16(), 406);
    }
}
