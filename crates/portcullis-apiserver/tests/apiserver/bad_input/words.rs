//! A namespace that is only read, and what each server says of it: versions, and tokens of lists that go on.

use portcullis_testkit::HttpClient;
use serde_json::{Value, json};

use super::wire::Case;

/// A namespace that comes before all others, so that a list of everything begins alike on both sides.
pub(super) const FIRST: &str = "0";

/// Makes the namespace `odd`: config maps with labels, secrets, and a pod that waits.
pub(super) async fn furnish(admin: &HttpClient, base: &str) {
    let labels = [("a", "x", "4"), ("b", "y", "5"), ("c", "z", "6"), ("d", "", "x"), ("e", "x", "07")];
    let maps = labels.map(|(name, a, n)| {
        let labels = if a.is_empty() { json!({"n": n, "e": ""}) } else { json!({"a": a, "n": n}) };
        ("configmaps", json!({"metadata": {"name": name, "labels": labels}}))
    });
    let secrets = ["a", "b", "c"].map(|name| ("secrets", json!({"metadata": {"name": name}})));
    let pod = json!({"metadata": {"name": "waiting"}, "spec": {"serviceAccountName": "mine",
        "containers": [{"name": "main", "image": "x"}, {"name": "other", "image": "y"}]}});
    // On the real side nobody makes the account `default`.
    let account = ("serviceaccounts", json!({"metadata": {"name": "mine"}}));
    for name in [FIRST, "odd"] {
        make(admin, &format!("{base}/api/v1/namespaces"), &json!({"metadata": {"name": name}})).await;
    }
    for (plural, object) in maps.into_iter().chain(secrets).chain([account, ("pods", pod)]) {
        make(admin, &format!("{base}/api/v1/namespaces/odd/{plural}"), &object).await;
    }
    // Ours says why the pod waits.
    let events = format!("{base}/api/v1/namespaces/odd/events");
    assert_eq!(admin.request(http::Method::DELETE, &events, &[], None).await.unwrap().status, 200);
}

async fn make(admin: &HttpClient, url: &str, object: &Value) {
    let json = [("content-type", "application/json")];
    let made = admin.request(http::Method::POST, url, &json, Some(object.to_string().into())).await.unwrap();
    assert_eq!(made.status, 201, "{url}");
}

/// The version that lists have now, and the tokens of three of them.
pub(super) async fn learn(admin: &HttpClient, base: &str) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for (word, list, member) in [
        ("{version}", "namespaces/odd/configmaps", "resourceVersion"),
        ("{token}", "namespaces/odd/configmaps?limit=2", "continue"),
        ("{secrets}", "namespaces/odd/secrets?limit=1", "continue"),
        ("{all}", "configmaps?limit=1", "continue"),
    ] {
        let answer = admin.get(&format!("{base}/api/v1/{list}"), &[]).await.unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let value = body["metadata"][member].as_str().unwrap().to_owned();
        assert!(!value.is_empty(), "{list}");
        out.push((word, value));
    }
    out
}

/// The case as one side is sent it.
pub(super) fn fill(case: &Case, words: &[(&'static str, String)]) -> Case {
    let mut case = case.clone();
    for (word, value) in words {
        if case.target.contains(word) {
            case.target = case.target.replace(word, value);
        }
    }
    case
}
