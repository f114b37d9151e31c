//! Tables of roles and bindings.

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, CREATED_AT, Column, NAME, created, list, name, shown, string, wide};

pub(super) const ROLE: &[Column] = &[NAME, CREATED_AT];
pub(super) const BINDING: &[Column] = &[
    NAME,
    shown("Role", "The role that is granted."),
    AGE,
    wide("Users", "The users it is granted to."),
    wide("Groups", "The groups it is granted to."),
    wide("ServiceAccounts", "The service accounts it is granted to."),
];

pub(super) fn role(tree: &Map<String, Value>, _: Timestamp) -> Vec<Value> {
    let time = string(tree, &["metadata", "creationTimestamp"]);
    // Compat: a missing time prints as Go's zero time does.
    vec![name(tree), if time.is_empty() { Value::Null } else { Value::from(time) }]
}

pub(super) fn binding(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", string(tree, &["roleRef", "kind"]), string(tree, &["roleRef", "name"]));
    let subjects = |kind: &str| {
        let names: Vec<String> = list(tree, &["subjects"])
            .iter()
            .filter(|subject| member(subject, "kind") == kind)
            .map(|subject| match (kind, member(subject, "namespace"), member(subject, "name")) {
                ("ServiceAccount", namespace, name) => format!("{namespace}/{name}"),
                (_, _, name) => name.to_owned(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![
        name(tree),
        Value::from(role),
        created(tree, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn member<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_binding_lists_its_subjects_by_kind() {
        let tree = json!({"metadata": {"name": "b", "creationTimestamp": "1970-01-01T00:00:00Z"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}, {"kind": "Group", "name": "h"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
        let cells = binding(tree.as_object().unwrap(), Timestamp::from_unix_seconds(5));
        assert_eq!(cells, json!(["b", "ClusterRole/view", "5s", "u", "g, h", "n/s"]).as_array().unwrap().clone());
    }
}
