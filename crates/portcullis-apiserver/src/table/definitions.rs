//! The table of custom resource definitions. None can be made here, so only its columns are seen over HTTP.
//!
//! Compat: `apiextensions-apiserver/pkg/registry/customresourcedefinition/tableconvertor`.

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{CREATED_AT, Column, NAME, list, name, shown, string, wide};
use crate::resources::tree::{flag, string as member};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    shown("Scope", "Cluster or Namespaced."),
    shown("Versions", "The versions that are served."),
    CREATED_AT,
    wide("Group", "The API group."),
    wide("Kind", "The kind of its objects."),
    wide("ShortNames", "Other names for it."),
    Column { kind: "boolean", ..wide("Established", "Whether its objects are served.") },
];

pub(super) fn cells(tree: &Map<String, Value>, _: Timestamp) -> Vec<Value> {
    let mut versions: Vec<String> = list(tree, &["spec", "versions"])
        .iter()
        .filter(|version| flag(version, "served"))
        .map(|version| {
            format!("{}{}", member(version, "name"), if flag(version, "storage") { "(storage)" } else { "" })
        })
        .collect();
    versions.sort();
    let short: Vec<&str> = list(tree, &["spec", "names", "shortNames"]).iter().filter_map(Value::as_str).collect();
    let established = list(tree, &["status", "conditions"])
        .iter()
        .any(|condition| member(condition, "type") == "Established" && member(condition, "status") == "True");
    vec![
        name(tree),
        Value::from(string(tree, &["spec", "scope"])),
        Value::from(versions.join(",")),
        Value::from(string(tree, &["metadata", "creationTimestamp"])),
        Value::from(string(tree, &["spec", "group"])),
        Value::from(string(tree, &["spec", "names", "kind"])),
        Value::from(short.join(",")),
        Value::from(established),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn served_versions_are_listed_and_the_stored_one_is_marked() {
        let tree = json!({"metadata": {"name": "t.x", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"group": "x",
            "scope": "Namespaced", "names": {"kind": "T", "shortNames": ["a", "b"]}, "versions": [{"name": "v2", "served": true},
            {"name": "v1", "served": true, "storage": true}, {"name": "v0"}]},
            "status": {"conditions": [{"type": "Established", "status": "True"}]}});
        let want = json!(["t.x", "Namespaced", "v1(storage),v2", "2026-01-01T00:00:00Z", "x", "T", "a,b", true]);
        assert_eq!(Value::from(cells(tree.as_object().unwrap(), Timestamp::from_unix_seconds(0))), want);
    }
}
