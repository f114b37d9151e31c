//! Tables of namespaces, nodes, events and kinds without one of their own.

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Column, NAME, created, list, name, shown, since, string, wide};

pub(super) const PLAIN: &[Column] = &[NAME, AGE];
pub(super) const NAMESPACE: &[Column] =
    &[NAME, shown("Status", "Active, or Terminating while it is being removed."), AGE];
pub(super) const NODE: &[Column] = &[
    NAME,
    shown("Status", "Whether the node is ready and takes pods."),
    shown("Roles", "The node's roles, from its labels."),
    AGE,
    shown("Version", "The version that the node reports."),
    wide("Internal-IP", "The node's address inside the cluster."),
    wide("External-IP", "The node's address outside the cluster."),
    wide("OS-Image", "The operating system."),
    wide("Kernel-Version", "The kernel, and the architecture."),
    wide("Container-Runtime", "What runs containers."),
];
pub(super) const EVENT: &[Column] = &[
    shown("Last Seen", "When it happened last."),
    shown("Type", "Normal or Warning."),
    shown("Reason", "Why it happened, in a word for programs."),
    shown("Object", "What it happened to."),
    wide("Subobject", "Which part of it."),
    wide("Source", "Who reported it."),
    shown("Message", "What happened, for people."),
    wide("First Seen", "When it happened first."),
    wide("Count", "How often it happened."),
    Column { priority: 1, ..NAME },
];

pub(super) fn plain(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    vec![name(tree), created(tree, now)]
}

pub(super) fn namespace(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    vec![name(tree), Value::from(string(tree, &["status", "phase"])), created(tree, now)]
}

pub(super) fn node(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let ready = list(tree, &["status", "conditions"]).iter().find(|c| member(c, "type") == "Ready");
    let mut status = match ready {
        None => "Unknown".to_owned(),
        Some(condition) if member(condition, "status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
    };
    if crate::resources::at(tree, &["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true) {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = list(tree, &["status", "addresses"]).iter().find(|address| member(address, "type") == kind);
        or(found.map_or("", |address| member(address, "address")), "<none>")
    };
    let info = |field: &str| string(tree, &["status", "nodeInfo", field]);
    let mut kernel = or(info("kernelVersion"), "<unknown>");
    if !info("architecture").is_empty() {
        kernel.push_str(&format!(" ({})", info("architecture")));
    }
    vec![
        name(tree),
        Value::from(status),
        Value::from(or(&roles(tree), "<none>")),
        created(tree, now),
        Value::from(info("kubeletVersion")),
        Value::from(address("InternalIP")),
        Value::from(address("ExternalIP")),
        Value::from(or(info("osImage"), "<unknown>")),
        Value::from(kernel),
        Value::from(or(info("containerRuntimeVersion"), "<unknown>")),
    ]
}

fn roles(tree: &Map<String, Value>) -> String {
    let labels = crate::resources::at(tree, &["metadata", "labels"]).and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

pub(super) fn event(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let first_of =
        |names: &[&str]| names.iter().map(|n| string(tree, &[n])).find(|text| !text.is_empty()).unwrap_or_default();
    let first = since(first_of(&["firstTimestamp", "eventTime"]), now);
    let last = match (string(tree, &["series", "lastObservedTime"]), string(tree, &["lastTimestamp"])) {
        ("", "") => first.clone(),
        ("", last) => since(last, now),
        (observed, _) => since(observed, now),
    };
    let number = |path: &[&str]| crate::resources::at(tree, path).and_then(Value::as_i64);
    let count = number(&["series", "count"]).or_else(|| number(&["count"]).filter(|count| *count != 0)).unwrap_or(1);
    let kind = string(tree, &["involvedObject", "kind"]).to_lowercase();
    let object = match string(tree, &["involvedObject", "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = |old: &str, new: &str| match string(tree, &["source", old]) {
        "" => string(tree, &[new]).to_owned(),
        text => text.to_owned(),
    };
    let (component, instance) = (source("component", "reportingComponent"), source("host", "reportingInstance"));
    let source = if instance.is_empty() { component } else { format!("{component}, {instance}") };
    vec![
        Value::from(last),
        Value::from(string(tree, &["type"])),
        Value::from(string(tree, &["reason"])),
        Value::from(object),
        Value::from(string(tree, &["involvedObject", "fieldPath"])),
        Value::from(source),
        Value::from(string(tree, &["message"]).trim()),
        Value::from(first),
        Value::from(count),
        name(tree),
    ]
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}

fn member<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(60);

    #[test]
    fn a_node_shows_readiness_roles_and_addresses() {
        let tree = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1", "kernelVersion": "6", "architecture": "amd64"}}});
        let cells = node(tree.as_object().unwrap(), NOW);
        assert_eq!(
            cells,
            json!([
                "n",
                "Ready,SchedulingDisabled",
                "control-plane,x",
                "<unknown>",
                "v1",
                "127.0.0.1",
                "<none>",
                "<unknown>",
                "6 (amd64)",
                "<unknown>"
            ])
            .as_array()
            .unwrap()
            .clone()
        );
        assert_eq!(node(&Map::new(), NOW)[1..3], [json!("Unknown"), json!("<none>")]);
    }

    #[test]
    fn an_event_shows_when_what_and_who() {
        let tree = json!({"metadata": {"name": "e"}, "type": "Warning", "reason": "R", "message": " m\n", "count": 2,
            "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "c", "host": "h"},
            "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:00:50Z"});
        let cells = event(tree.as_object().unwrap(), NOW);
        assert_eq!(
            cells,
            json!(["10s", "Warning", "R", "pod/p", "", "c, h", "m", "60s", 2, "e"]).as_array().unwrap().clone()
        );
    }
}
