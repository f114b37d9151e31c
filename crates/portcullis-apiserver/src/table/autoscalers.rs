//! The table of horizontal pod autoscalers.

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Column, NAME, created, list, name, number, shown, string};
use crate::resources::tree::{child, string as text};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    shown("Reference", "What is scaled: its kind and name."),
    shown("Targets", "For each metric what is, and what is wanted."),
    shown("MinPods", "Fewest pods."),
    shown("MaxPods", "Most pods."),
    shown("Replicas", "Pods there are."),
    AGE,
];

/// Metrics that a row shows.
const SHOWN: usize = 2;

pub(super) fn cells(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let target = |of: &str| string(tree, &["spec", "scaleTargetRef", of]);
    let least = crate::resources::at(tree, &["spec", "minReplicas"]).and_then(Value::as_i64);
    vec![
        name(tree),
        Value::from(format!("{}/{}", target("kind"), target("name"))),
        Value::from(targets(list(tree, &["spec", "metrics"]), list(tree, &["status", "currentMetrics"]))),
        Value::from(least.map_or_else(|| "<unset>".to_owned(), |least| least.to_string())),
        number(tree, &["spec", "maxReplicas"]),
        number(tree, &["status", "currentReplicas"]),
        created(tree, now),
    ]
}

fn targets(metrics: &[Value], current: &[Value]) -> String {
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let all = metrics.iter().enumerate().map(|(index, metric)| one(metric, current.get(index).unwrap_or(&Value::Null)));
    let text = all.take(SHOWN).collect::<Vec<_>>().join(", ");
    match metrics.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{text} + {more} more..."),
        _ => text,
    }
}

fn one(metric: &Value, current: &Value) -> String {
    let field = match text(metric, "type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (wanted, now) = (child(child(metric, field), "target"), child(current, field));
    let is = |name: &str| {
        let amount = child(child(now, "current"), name);
        if now.is_null() || amount.is_null() { "<unknown>".to_owned() } else { plain(amount) }
    };
    let average = child(wanted, "averageValue");
    match field {
        "external" | "object" if !average.is_null() => format!("{}/{} (avg)", is("averageValue"), plain(average)),
        "external" | "object" => format!("{}/{}", is("value"), plain(child(wanted, "value"))),
        "pods" => format!("{}/{}", is("averageValue"), plain(average)),
        _ => {
            let resource = text(child(metric, field), "name");
            if !average.is_null() {
                return format!("{resource}: {}/{}", is("averageValue"), plain(average));
            }
            let percent =
                |amount: &Value, none: &str| amount.as_i64().map_or(none.to_owned(), |percent| format!("{percent}%"));
            let now = percent(child(child(now, "current"), "averageUtilization"), "<unknown>");
            format!("{resource}: {now}/{}", percent(child(wanted, "averageUtilization"), "<auto>"))
        }
    }
}

fn plain(amount: &Value) -> String {
    amount.as_str().map_or_else(|| amount.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_metric_shows_what_is_and_what_is_wanted() {
        let cpu = |percent: i64| json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": percent}}});
        let is = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}});
        assert_eq!(targets(&[cpu(80)], &[]), "cpu: <unknown>/80%");
        assert_eq!(targets(&[cpu(80)], &[is]), "cpu: 7%/80%");
        let hits = json!({"type": "Object", "object": {"target": {"value": "5"}}});
        let external = json!({"type": "External", "external": {"target": {"averageValue": "3"}}});
        assert_eq!(targets(&[hits, external, cpu(1)], &[]), "<unknown>/5, <unknown>/3 (avg) + 1 more...");
        assert_eq!(targets(&[], &[]), "<none>");
    }
}
