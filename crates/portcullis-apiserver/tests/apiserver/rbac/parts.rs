//! What hangs below a pod, asked for by people who have exactly one right each: one part's right gives no other's.

use serde_json::{Value, json};

use super::{Asked, Pair, assert_none};

/// A right and who has it.
const RIGHTS: &[(&str, &str, &str)] = &[
    ("get", "get", "pods"),
    ("create", "create", "pods"),
    ("update", "update", "pods"),
    ("patch", "patch", "pods"),
    ("status", "patch", "pods/status"),
    ("log", "get", "pods/log"),
    ("evict", "create", "pods/eviction"),
    ("bind", "create", "pods/binding"),
    ("bindings", "create", "bindings"),
    ("debug-get", "get", "pods/ephemeralcontainers"),
    ("debug-update", "update", "pods/ephemeralcontainers"),
    ("debug-patch", "patch", "pods/ephemeralcontainers"),
    ("resize-get", "get", "pods/resize"),
    ("resize-update", "update", "pods/resize"),
    ("resize-patch", "patch", "pods/resize"),
    ("attach-get", "get", "pods/attach"),
    ("attach-create", "create", "pods/attach"),
    ("exec-get", "get", "pods/exec"),
    ("exec-create", "create", "pods/exec"),
    ("forward-get", "get", "pods/portforward"),
    ("forward-create", "create", "pods/portforward"),
    ("proxy-get", "get", "pods/proxy"),
    ("proxy-create", "create", "pods/proxy"),
    ("proxy-update", "update", "pods/proxy"),
    ("proxy-patch", "patch", "pods/proxy"),
    ("proxy-delete", "delete", "pods/proxy"),
];
/// The real server has no controller that makes the account `default`.
const ACCOUNT: &str = "runner";
const NS: &str = "/api/v1/namespaces/x";

/// Requests about a pod that is not there: who may make one is told so, and nothing changes.
fn requests() -> Vec<(&'static str, String, Value)> {
    let spec = json!({"serviceAccountName": ACCOUNT, "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "i"}]});
    let pod = json!({"metadata": {"name": "none"}, "spec": spec});
    let named = json!({"metadata": {"name": "none"}});
    let target = json!({"metadata": {"name": "none"}, "target": {"kind": "Node", "name": "n"}});
    let nothing = json!({});
    let mut all = vec![
        ("POST", format!("{NS}/pods?dryRun=All"), pod.clone()),
        ("POST", format!("{NS}/bindings"), target.clone()),
    ];
    for (part, methods, body) in [
        ("", &["GET", "PUT", "PATCH", "DELETE"] as &[_], &pod),
        ("/status", &["GET", "PUT", "PATCH"], &pod),
        ("/log", &["GET"], &nothing),
        ("/eviction", &["POST"], &named),
        ("/binding", &["POST"], &target),
        ("/ephemeralcontainers", &["GET", "PUT", "PATCH"], &pod),
        ("/resize", &["GET", "PUT", "PATCH"], &pod),
        ("/attach", &["GET", "POST"], &nothing),
        ("/exec?command=x", &["GET", "POST"], &nothing),
        ("/portforward", &["GET", "POST"], &nothing),
        ("/proxy", &["GET", "POST", "PUT", "PATCH", "DELETE"], &nothing),
        ("/proxy/some/where", &["GET", "POST", "DELETE"], &nothing),
    ] {
        for method in methods {
            let body = if *method == "GET" { Value::Null } else { body.clone() };
            all.push((method, format!("{NS}/pods/none{part}"), body));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_one_part_of_a_pod_gives_no_other() {
    let users: Vec<(&str, &[&str])> = std::iter::once(("admin", &["system:masters"] as &[&str]))
        .chain(RIGHTS.iter().map(|(user, ..)| (*user, &[] as &[&str])))
        .collect();
    let pair = Pair::start(&users).await;
    pair.both("POST", "/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    pair.both("POST", &format!("{NS}/serviceaccounts"), json!({"metadata": {"name": ACCOUNT}})).await;
    for (user, verb, resource) in RIGHTS {
        let rule = json!({"verbs": [verb], "apiGroups": [""], "resources": [resource]});
        pair.grant(user, user, "", json!([rule])).await;
    }
    pair.settle("x").await;
    let requests = requests();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (user, ..) in RIGHTS {
        let mut allowed = 0;
        for (method, path, body) in &requests {
            let asked = Asked::new(user, method, path.clone(), body.clone());
            let (theirs, ours) = (pair.real.ask(&asked).await, pair.ours.ask(&asked).await);
            allowed += usize::from(theirs.0 != 403);
            if theirs != ours {
                wrong.push(format!("{asked:?}\n  theirs {theirs:?}\n  ours   {ours:?}"));
            }
            count += 1;
        }
        // A right that gives nothing would not be seen to give too much. `get` alone opens no connection: it has to be `create`.
        let opens_nothing = ["attach-get", "exec-get", "forward-get"].contains(user);
        assert_eq!(allowed > 0, !opens_nothing, "{user}: {allowed}");
        assert!(allowed <= 3, "{user}: {allowed}");
    }
    assert_none(&wrong, count);
    pair.stop().await;
}
