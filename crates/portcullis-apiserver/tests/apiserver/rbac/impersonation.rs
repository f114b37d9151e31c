//! Impersonation: random identities, asked for by people and node agents with grants of every mode.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Asked, Dice, Pair, assert_none};

const GATEWAYS: &[(&str, &[&str])] =
    &[("admin", &["system:masters"]), ("nobody", &[]), ("legacy", &[]), ("some", &[]), ("all", &[]), ("nodes", &[])];

/// Service accounts whose tokens are bound to pods on a node, with grants and without.
const AGENTS: &[(&str, &str)] = &[("agent", "n1"), ("plain-agent", "n2")];
/// Every mode must have let so many requests through, and refused so many.
const LEAST: usize = 100;
const CASES: usize = 5_000;
/// The modes as refusals spell them; the legacy one has no name.
const MODES: &[&str] = &["associated-node", "arbitrary-node", "serviceaccount", "user-info", "legacy"];

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
    pair.grant(
        "system:serviceaccount:x:agent",
        "agent",
        "",
        json!([
            // Whoever may be the node of its own pod is asked for all of them.
            {"verbs": ["impersonate:associated-node"], "apiGroups": [authentication], "resources": ["nodes"]},
            {"verbs": ["impersonate-on:associated-node:create"], "apiGroups": [authentication], "resources": ["selfsubjectreviews"]},
        ]),
    )
    .await;
    pair.grant(
        "system:serviceaccount:x:plain-agent",
        "plain-agent",
        "",
        json!([
            // A name is not enough, though it is that of its own node.
            {"verbs": ["impersonate:associated-node"], "apiGroups": [authentication], "resources": ["nodes"], "resourceNames": ["n2"]},
            {"verbs": ["impersonate-on:associated-node:*", "impersonate-on:associated-node:create"], "apiGroups": [authentication], "resources": ["selfsubjectreviews"]},
        ]),
    )
    .await;
}

fn impersonation(dice: &Dice) -> Asked {
    let from = |list: &[(&'static str, &[&str])]| list[dice.below(list.len())].0;
    let user = if dice.percent(25) { AGENTS[dice.below(AGENTS.len())].0 } else { from(GATEWAYS) };
    let mut asked = match dice.below(7) {
        0 => Asked::new(user, "GET", "/api/v1/pods", Value::Null),
        1 => Asked::new(user, "GET", "/healthz", Value::Null),
        2 => Asked::new(user, "GET", "/api/v1/namespaces/x/pods/y", Value::Null),
        _ => Asked::new(user, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})),
    };
    if dice.percent(55) {
        // What the constrained modes are for. Those of nodes and service accounts take a name and nothing else.
        let mut header = |name: &str, value: &str| asked.headers.push((name.to_owned(), value.to_owned()));
        match dice.below(7) {
            0 => {
                header("impersonate-user", "bob");
                dice.some(&["devs", "ops"], 0, 2).iter().for_each(|group| header("impersonate-group", group));
                asked.user = "some";
            }
            1 | 2 => {
                header("impersonate-user", dice.word(&["system:node:n1", "system:serviceaccount:x:sa"]));
                asked.user = "nodes";
            }
            3 => {
                header("impersonate-user", dice.word(&["bob", "system:serviceaccount:x:sa"]));
                dice.some(&["devs"], 0, 1).iter().for_each(|group| header("impersonate-group", group));
                asked.user = "legacy";
            }
            4 => {
                header("impersonate-user", dice.word(&["system:node:n2", "system:serviceaccount:x:sa"]));
                asked.user = "some";
            }
            _ => {
                header(
                    "impersonate-user",
                    dice.word(&["system:node:n1", "system:node:n1", "system:node:n1", "system:node:n2"]),
                );
                asked.user = AGENTS[dice.below(AGENTS.len())].0;
            }
        }
        return asked;
    }
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

/// The mode that decided, and whether it let the request through; unknown where several could have.
fn decided(asked: &Asked, status: u16, answer: &Value) -> Option<(&'static str, bool)> {
    let message = answer["message"].as_str().unwrap_or_default();
    if let Some((_, verb)) = message.split_once("cannot impersonate").filter(|_| status == 403) {
        let of = |mode: &&&str| [":", "-on:"].iter().any(|form| verb.starts_with(&format!("{form}{mode}")));
        return Some((MODES.iter().find(of).copied().unwrap_or("legacy"), false));
    }
    let wanted = asked.headers.iter().find(|(name, _)| name == "impersonate-user").map(|(_, name)| name.as_str())?;
    if status == 400 || wanted.is_empty() {
        return None;
    }
    // Those who hold grants of one mode for such a name.
    let mode = match asked.user {
        "agent" => "associated-node",
        "legacy" => "legacy",
        "some" => "user-info",
        "nodes" if wanted.starts_with("system:node:") => "arbitrary-node",
        "nodes" => "serviceaccount",
        _ => return None,
    };
    Some((mode, true))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_act_as_whom_is_what_the_real_server_says() {
    let dice = Dice::roll();
    let mut pair = Pair::start(GATEWAYS).await;
    pair.both("POST", "/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    for (name, node) in AGENTS {
        pair.agent(name, "x", node).await;
    }
    grant_impersonation(&pair).await;
    pair.settle("x").await;
    let mut wrong = Vec::new();
    let (mut counts, mut modes) = (BTreeMap::<u16, usize>::new(), BTreeMap::<(&str, bool), usize>::new());
    for _ in 0..CASES {
        let asked = impersonation(&dice);
        let (status, answer) = pair.compare_answers(&asked, &mut wrong).await;
        *counts.entry(status).or_default() += 1;
        if let Some(mode) = decided(&asked, status, &answer) {
            *modes.entry(mode).or_default() += 1;
        }
    }
    println!("impersonation, by status: {counts:?}; by mode, and whether it let through: {modes:?}");
    assert_none(&wrong, CASES);
    for status in [201, 400, 403] {
        assert!(counts.get(&status).is_some_and(|count| *count >= LEAST), "{status} came too rarely: {counts:?}");
    }
    for mode in MODES.iter().flat_map(|mode| [(*mode, true), (*mode, false)]) {
        assert!(modes.get(&mode).is_some_and(|count| *count >= LEAST), "{mode:?} came too rarely: {modes:?}");
    }
    pair.stop().await;
}
