//! Impersonation: random identities, asked for by people with grants of every mode.

use serde_json::{Value, json};

use super::{Asked, Dice, Pair, assert_none};

const GATEWAYS: &[(&str, &[&str])] =
    &[("admin", &["system:masters"]), ("nobody", &[]), ("legacy", &[]), ("some", &[]), ("all", &[]), ("nodes", &[])];

async fn grant_impersonation(pair: &Pair) {
    let authentication = "authentication.k8s.io";
    pair.grant(
        "legacy",
        "legacy",
        "",
        json!([
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users", "serviceaccounts"], "resourceNames": ["bob", "sa", "system:anonymous"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["devs", "system:masters", ""]},
            {"verbs": ["impersonate"], "apiGroups": [authentication], "resources": ["uids", "userextras/example.com/a"]},
        ]),
    )
    .await;
    pair.grant(
        "some",
        "some",
        "",
        json!([
            {"verbs": ["impersonate:user-info"], "apiGroups": [authentication], "resources": ["users"], "resourceNames": ["bob"]},
            {"verbs": ["impersonate:user-info"], "apiGroups": [authentication], "resources": ["groups"], "resourceNames": ["devs", "ops"]},
            {"verbs": ["impersonate:user-info"], "apiGroups": [authentication], "resources": ["userextras/example.com/a"]},
            {"verbs": ["impersonate-on:user-info:list", "impersonate-on:user-info:create"], "apiGroups": ["*"], "resources": ["pods", "selfsubjectreviews"]},
            {"verbs": ["impersonate-on:user-info:get"], "nonResourceURLs": ["/healthz"]},
        ]),
    )
    .await;
    pair.grant(
        "all",
        "all",
        "",
        json!([
            {"verbs": ["impersonate:user-info"], "apiGroups": [authentication], "resources": ["*"]},
            {"verbs": ["impersonate-on:user-info:*", "impersonate-on:user-info:create", "impersonate-on:user-info:list"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"]},
        ]),
    )
    .await;
    pair.grant(
        "nodes",
        "nodes",
        "",
        json!([
            {"verbs": ["impersonate:arbitrary-node"], "apiGroups": [authentication], "resources": ["nodes"], "resourceNames": ["n1"]},
            {"verbs": ["impersonate:serviceaccount"], "apiGroups": [authentication], "resources": ["serviceaccounts"]},
            {"verbs": ["impersonate-on:arbitrary-node:create", "impersonate-on:serviceaccount:create"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["impersonate-on:serviceaccount:list"], "apiGroups": [""], "resources": ["pods"]},
        ]),
    )
    .await;
}

fn impersonation(dice: &Dice) -> Asked {
    let user = GATEWAYS[dice.below(GATEWAYS.len())].0;
    let mut asked = match dice.below(5) {
        0 => Asked::new(user, "GET", "/api/v1/pods", Value::Null),
        1 => Asked::new(user, "GET", "/healthz", Value::Null),
        2 => Asked::new(user, "GET", "/api/v1/namespaces/x/pods/y", Value::Null),
        _ => Asked::new(user, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})),
    };
    let mut header = |name: &str, value: &str| asked.headers.push((format!("impersonate-{name}"), value.to_owned()));
    if dice.percent(95) {
        header(
            "user",
            dice.word(&[
                "bob",
                "bob",
                "bob",
                "alice",
                "system:anonymous",
                "system:node:n1",
                "system:node:n2",
                "system:node:N_1",
                "system:serviceaccount:x:sa",
                "system:serviceaccount:x:other",
                "system:serviceaccount:x:",
                "",
            ]),
        );
    }
    let few = dice.percent(60);
    let groups =
        ["devs", "ops", "devs", "other", "", "system:masters", "system:authenticated", "system:unauthenticated"];
    for group in dice.some(&groups[..if few { 3 } else { 8 }], 0, if few { 2 } else { 5 }) {
        header("group", group);
    }
    if dice.percent(15) {
        header("uid", dice.word(&["7", ""]));
    }
    if dice.percent(25) {
        // One key only: with several, the real server's map decides whose refusal is shown.
        let key = dice.word(&[
            "example.com%2fa",
            "example.com%2Fa",
            "example.com%2fb",
            "plain",
            "example.com%2f%41",
            "a%2fb%zz",
            "",
            "-x%2fy",
        ]);
        for value in dice.some(&["v", "w", "", "v"], 1, 5) {
            header(&format!("extra-{key}"), value);
        }
    }
    if dice.percent(10) {
        header("odd", "x");
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_act_as_whom_is_what_the_real_server_says() {
    let dice = Dice::roll();
    let pair = Pair::start(GATEWAYS).await;
    pair.both("POST", "/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    grant_impersonation(&pair).await;
    pair.settle("x").await;
    let mut wrong = Vec::new();
    let mut counts = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..1_500 {
        let asked = impersonation(&dice);
        *counts.entry(pair.compare(&asked, &mut wrong).await).or_default() += 1;
    }
    println!("impersonation, by status: {counts:?}");
    assert_none(&wrong, 1_500);
    for status in [201, 400, 403] {
        assert!(counts.get(&status).is_some_and(|count| *count >= 50), "{status} came too rarely: {counts:?}");
    }
    pair.stop().await;
}
