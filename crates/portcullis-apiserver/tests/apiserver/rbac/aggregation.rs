//! Aggregated cluster roles, live.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Asked, Dice, PATIENCE, Pair, RBAC, rule};

/// Upstream's controller against ours, step by step.
#[tokio::test(flavor = "multi_thread")]
async fn aggregated_roles_follow_as_upstreams_controller_makes_them() {
    let dice = Dice::roll();
    let pair = Pair::start(&[("admin", &["system:masters"])]).await;
    let roles = format!("{RBAC}/clusterroles");
    let wholes = ["all-a", "all-ab", "all-sum", "all-none"];
    let selector = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    for (name, selectors, labels) in [
        (wholes[0], json!([{"matchLabels": {"part": "a"}}]), json!({"sum": "1"})),
        (wholes[1], json!([selector("part", "In", &["b"]), {"matchLabels": {"part": "a"}}]), json!({})),
        (wholes[2], json!([selector("sum", "Exists", &[]), selector("part", "NotIn", &["a", "b", "none"])]), json!({})),
        (wholes[3], json!([{"matchLabels": {"part": "none"}}]), json!({})),
    ] {
        // The third would find every other role of the cluster, and itself.
        let selectors = if name == wholes[2] { json!([selectors[0]]) } else { selectors };
        let hand = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["by-hand"]}]);
        pair.both(
            "POST",
            &roles,
            json!({"metadata": {"name": name, "labels": labels}, "rules": hand,
            "aggregationRule": {"clusterRoleSelectors": selectors}}),
        )
        .await;
    }
    for step in 0..60 {
        let name = dice.word(&["p0", "p1", "p2", "p3"]);
        let rules: Vec<Value> =
            (0..dice.below(3)).map(|_| rule(&dice, true)).filter(|rule| rule["verbs"] != json!([])).collect();
        let asked = match dice.below(6) {
            0..3 => {
                let labels = json!({"part": dice.word(&["a", "b", "none", "other"])});
                Asked::new(
                    "admin",
                    "PUT",
                    format!("{roles}/{name}"),
                    json!({"metadata": {"name": name, "labels": labels}, "rules": rules}),
                )
            }
            3 => Asked::new("admin", "DELETE", format!("{roles}/{name}"), Value::Null),
            _ => Asked::new("admin", "PATCH", format!("{roles}/{}", dice.word(&wholes)), json!({"rules": rules})),
        };
        let _ = (pair.real.ask(&asked).await, pair.ours.ask(&asked).await);
        for whole in wholes {
            let get = Asked::new("admin", "GET", format!("{roles}/{whole}"), Value::Null);
            let deadline = Instant::now() + PATIENCE;
            loop {
                let (theirs, ours) = (pair.real.ask(&get).await, pair.ours.ask(&get).await);
                if theirs == ours {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "step {step} {asked:?}, {whole}\n  theirs {}\n  ours   {}",
                    theirs.1,
                    ours.1
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    pair.stop().await;
}
