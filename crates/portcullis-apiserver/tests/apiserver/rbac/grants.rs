//! Writing roles and binding them: nobody grants more than they have, unless they may.

use serde_json::{Value, json};

use super::{Asked, Dice, Pair, RBAC, assert_none, rule};

const HOLDERS: &[(&str, &[&str])] = &[
    ("admin", &["system:masters"]),
    ("writer", &["devs", "ops"]),
    ("holder", &[]),
    ("local", &[]),
    ("binder", &[]),
    ("escalator", &[]),
    ("named", &[]),
    ("updater", &[]),
    ("lord", &["lords"]),
    ("lost", &[]),
];

/// Everybody may write RBAC objects; they differ in what else they hold.
async fn grant_writing(pair: &Pair) {
    let rbac = "rbac.authorization.k8s.io";
    let everything = ["roles", "clusterroles", "rolebindings", "clusterrolebindings"];
    for (user, _) in HOLDERS.iter().skip(1) {
        let verbs: &[&str] =
            if *user == "updater" { &["update", "patch", "get"] } else { &["create", "update", "patch", "get"] };
        let rules = json!([{"verbs": verbs, "apiGroups": [rbac], "resources": everything}]);
        pair.grant(user, &format!("write-{user}"), "", rules).await;
    }
    let held = json!([
        {"verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": ["pods", "deployments", "*/scale"]},
        {"verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a", "b"]},
        {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]},
    ]);
    for user in ["holder", "binder", "named", "updater"] {
        pair.grant(user, &format!("hold-{user}"), "", held.clone()).await;
    }
    pair.grant("local", "hold-local", "x", held).await;
    pair.grant(
        "binder",
        "bind",
        "",
        json!([{"verbs": ["bind"], "apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": ["big"]},
        {"verbs": ["bind"], "apiGroups": [rbac], "resources": ["roles"]}]),
    )
    .await;
    pair.grant(
        "escalator",
        "escalate",
        "",
        json!([{"verbs": ["escalate"], "apiGroups": [rbac], "resources": ["roles", "clusterroles"]}]),
    )
    .await;
    pair.grant("named", "escalate-named", "", json!([{"verbs": ["escalate"], "apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": ["c0", "c1"]}])).await;
    pair.grant(
        "lord",
        "lord",
        "",
        json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"verbs": ["*"], "nonResourceURLs": ["*"]}]),
    )
    .await;
    pair.bind("lost", "lost", "", "gone<&>").await;
    pair.both("POST", &format!("{RBAC}/clusterroles"), json!({"metadata": {"name": "big"}, "rules": [
        {"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["secrets", "nodes"]}, {"verbs": ["post"], "nonResourceURLs": ["/x"]}]})).await;
    pair.both(
        "POST",
        &format!("{RBAC}/namespaces/x/roles"),
        json!({"metadata": {"name": "small"}, "rules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
    )
    .await;
}

fn attempt(dice: &Dice) -> Asked {
    let user = HOLDERS[1 + dice.below(HOLDERS.len() - 1)].0;
    let local = dice.percent(50);
    let place = if local { format!("{RBAC}/namespaces/x/") } else { format!("{RBAC}/") };
    let name = dice.word(&["c0", "c1", "c2", "c3", "c4", "c5"]);
    let mut object = json!({"metadata": {"name": name}});
    let resource = if dice.percent(50) {
        object["rules"] = json!((0..dice.below(4)).map(|_| rule(dice, !local)).collect::<Vec<_>>());
        if !local && dice.percent(15) {
            object["aggregationRule"] =
                json!({"clusterRoleSelectors": [{"matchLabels": {"nothing": dice.word(&["a", "b"])}}]});
        }
        if local { "roles" } else { "clusterroles" }
    } else {
        let kind = if local && dice.percent(50) {
            "Role"
        } else {
            dice.word(&["ClusterRole", "ClusterRole", "ClusterRole", "Robot"])
        };
        object["roleRef"] = json!({"kind": kind, "name": dice.word(&["big", "small", "hold-holder", "hold-holder", "view", "none", "c0", "c1", "escalate"])});
        if dice.percent(10) {
            object["roleRef"]["apiGroup"] = json!(dice.word(&["rbac.authorization.k8s.io", "odd"]));
        }
        object["subjects"] = json!([{"kind": "User", "name": dice.word(&["u", "v"])}]);
        if local { "rolebindings" } else { "clusterrolebindings" }
    };
    match dice.below(10) {
        0 => object["metadata"]["labels"] = json!({"a": dice.word(&["1", "2", "_"])}),
        1 => object["metadata"]["finalizers"] = json!([]),
        2 => object["metadata"]["resourceVersion"] = json!("1"),
        _ => {}
    }
    let (method, path) = match dice.below(10) {
        0..4 => ("POST", format!("{place}{resource}")),
        4..7 => ("PUT", format!("{place}{resource}/{name}")),
        _ => {
            // Only a part, or nothing at all.
            if dice.percent(50) {
                object.as_object_mut().unwrap().retain(|key, _| dice.percent(50) || key == "metadata");
            }
            ("PATCH", format!("{place}{resource}/{name}"))
        }
    };
    if method == "POST" {
        object["metadata"].as_object_mut().unwrap().shift_remove("resourceVersion");
        if dice.percent(5) {
            object["metadata"] = json!({});
        }
    }
    Asked::new(user, method, path, object)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_more_than_the_real_server_lets_them() {
    let dice = Dice::roll();
    let pair = Pair::start(HOLDERS).await;
    pair.both("POST", "/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    grant_writing(&pair).await;
    pair.settle("x").await;
    let mut wrong = Vec::new();
    let mut counts = std::collections::BTreeMap::<u16, usize>::new();
    for n in 0..1_500 {
        if n % 150 == 149 {
            clear(&pair).await;
        }
        let asked = attempt(&dice);
        *counts.entry(pair.compare(&asked, &mut wrong).await).or_default() += 1;
    }
    println!("grants, by status: {counts:?}");
    assert_none(&wrong, 1_500);
    for status in [200, 201, 403, 404, 409, 422] {
        assert!(counts.get(&status).is_some_and(|count| *count >= 10), "{status} came too rarely: {counts:?}");
    }
    collection_is_free(&pair).await;
    pair.stop().await;
}

/// Starts over: what exists can no longer be created.
async fn clear(pair: &Pair) {
    for name in ["c0", "c1", "c2", "c3", "c4", "c5"] {
        for place in ["clusterroles", "clusterrolebindings", "namespaces/x/roles", "namespaces/x/rolebindings"] {
            let asked = Asked::new("admin", "DELETE", format!("{RBAC}/{place}/{name}"), Value::Null);
            let _ = (pair.real.ask(&asked).await, pair.ours.ask(&asked).await);
        }
    }
}

/// A change of owners and finalizers needs no rights on what the role grants; one of a label does.
async fn collection_is_free(pair: &Pair) {
    let path = format!("{RBAC}/clusterroles/big");
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
    let mut wrong = Vec::new();
    for (metadata, want) in [
        (json!({"finalizers": ["example.com/f"]}), 200),
        (json!({"ownerReferences": [owner]}), 200),
        (json!({"labels": {"a": "b"}}), 403),
        (json!({"finalizers": null, "ownerReferences": null}), 200),
    ] {
        let asked = Asked::new("writer", "PATCH", &path, json!({"metadata": metadata}));
        assert_eq!(pair.compare(&asked, &mut wrong).await, want, "{metadata}");
    }
    assert_none(&wrong, 4);
}
