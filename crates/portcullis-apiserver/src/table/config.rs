//! Tables of configuration: config maps, secrets, quotas, leases, priorities, budgets.

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Column, NAME, created, flag, members, name, number, shown, string};
use crate::resources::at;

pub(super) const CONFIG_MAP: &[Column] = &[NAME, shown("Data", "How many entries it has."), AGE];
pub(super) const SECRET: &[Column] =
    &[NAME, shown("Type", "What kind of secret it is."), shown("Data", "How many entries it has."), AGE];
pub(super) const QUOTA: &[Column] = &[
    NAME,
    shown("Request", "What is requested, of what may be."),
    shown("Limit", "What limits add up to, of what they may."),
    AGE,
];
pub(super) const LEASE: &[Column] = &[NAME, shown("Holder", "Who holds it."), AGE];
pub(super) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    Column { kind: "integer", ..shown("Value", "The priority of its pods; the higher number goes first.") },
    Column { kind: "boolean", ..shown("Global-Default", "Whether pods without a class get this one.") },
    AGE,
    shown("PreemptionPolicy", "Whether its pods may push out others."),
];
pub(super) const BUDGET: &[Column] = &[
    NAME,
    shown("Min Available", "Pods that must stay."),
    shown("Max Unavailable", "Pods that may be missing."),
    Column { kind: "integer", ..shown("Allowed Disruptions", "Pods that may be evicted now.") },
    AGE,
];

pub(super) fn config_map(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let entries = members(tree, &["data"]).len() + members(tree, &["binaryData"]).len();
    vec![name(tree), Value::from(entries), created(tree, now)]
}

pub(super) fn secret(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    vec![
        name(tree),
        Value::from(string(tree, &["type"])),
        Value::from(members(tree, &["data"]).len()),
        created(tree, now),
    ]
}

pub(super) fn quota(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let hard = members(tree, &["status", "hard"]);
    let mut names: Vec<&String> = hard.keys().collect();
    names.sort_unstable();
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for resource in names {
        let amount = |of: &str| match string(tree, &["status", of, resource.as_str()]) {
            "" => "0",
            amount => amount,
        };
        let column = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
        column.push(format!("{resource}: {}/{}", amount("used"), amount("hard")));
    }
    vec![name(tree), Value::from(requests.join(", ")), Value::from(limits.join(", ")), created(tree, now)]
}

pub(super) fn lease(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    vec![name(tree), Value::from(string(tree, &["spec", "holderIdentity"])), created(tree, now)]
}

pub(super) fn priority_class(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let default = Value::from(flag(tree, &["globalDefault"]));
    vec![
        name(tree),
        number(tree, &["value"]),
        default,
        created(tree, now),
        Value::from(string(tree, &["preemptionPolicy"])),
    ]
}

pub(super) fn budget(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let amount = |of: &str| match at(tree, &["spec", of]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "N/A".to_owned(),
    };
    vec![
        name(tree),
        Value::from(amount("minAvailable")),
        Value::from(amount("maxUnavailable")),
        number(tree, &["status", "disruptionsAllowed"]),
        created(tree, now),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(60);

    fn tree(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn entries_of_both_kinds_count() {
        let map = tree(json!({"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "eA=="}}));
        assert_eq!(config_map(&map, NOW)[1], 3);
    }

    #[test]
    fn quotas_show_requests_and_limits_apart() {
        let quota_of =
            tree(json!({"metadata": {"name": "q"}, "status": {"hard": {"pods": "4", "limits.cpu": "2", "cpu": "1"},
            "used": {"pods": "1"}}}));
        let cells = quota(&quota_of, NOW);
        assert_eq!((&cells[1], &cells[2]), (&json!("cpu: 0/1, pods: 1/4"), &json!("limits.cpu: 0/2")));
    }

    #[test]
    fn budgets_show_numbers_and_shares() {
        let budget_of = tree(json!({"metadata": {"name": "b"}, "spec": {"minAvailable": "50%"}}));
        assert_eq!(budget(&budget_of, NOW)[1..4], [json!("50%"), json!("N/A"), json!(0)]);
    }
}
