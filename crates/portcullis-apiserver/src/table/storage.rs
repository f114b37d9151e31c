//! Tables of volumes, claims and storage classes.

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Column, NAME, created, flag, list, name, shown, string, wide};
use crate::resources::at;
use crate::store::object::Object;

pub(super) const VOLUME: &[Column] = &[
    NAME,
    shown("Capacity", "How much it holds."),
    shown("Access Modes", "Who may use it at a time."),
    shown("Reclaim Policy", "What becomes of it after its claim."),
    shown("Status", "Whether it is free, bound or left over."),
    shown("Claim", "The claim that has it."),
    shown("StorageClass", "The class it belongs to."),
    shown("VolumeAttributesClass", "The class of its changeable properties."),
    shown("Reason", "Why it is in that state."),
    AGE,
    wide("VolumeMode", "Whether it is a file system or a raw device."),
];
pub(super) const CLAIM: &[Column] = &[
    NAME,
    shown("Status", "Whether it has a volume."),
    shown("Volume", "The volume that it has."),
    shown("Capacity", "How much that volume holds."),
    shown("Access Modes", "Who may use it at a time."),
    shown("StorageClass", "The class it asks for."),
    shown("VolumeAttributesClass", "The class of changeable properties it asks for."),
    AGE,
    wide("VolumeMode", "Whether it wants a file system or a raw device."),
];
pub(super) const CLASS: &[Column] = &[
    NAME,
    shown("Provisioner", "What makes its volumes."),
    shown("ReclaimPolicy", "What becomes of them after their claims."),
    shown("VolumeBindingMode", "When claims get their volumes."),
    shown("AllowVolumeExpansion", "Whether volumes may grow."),
    AGE,
];
const MODES: [(&str, &str); 4] =
    [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
const UNSET: &str = "<unset>";

pub(super) fn volume(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let claim = match at(tree, &["spec", "claimRef"]).filter(|claim| claim.is_object()) {
        None => String::new(),
        Some(_) => format!(
            "{}/{}",
            string(tree, &["spec", "claimRef", "namespace"]),
            string(tree, &["spec", "claimRef", "name"])
        ),
    };
    vec![
        name(tree),
        Value::from(amount(tree, &["spec", "capacity", "storage"])),
        Value::from(modes(list(tree, &["spec", "accessModes"]))),
        Value::from(string(tree, &["spec", "persistentVolumeReclaimPolicy"])),
        phase(tree),
        Value::from(claim),
        class_name(tree),
        or_unset(tree, "volumeAttributesClassName"),
        Value::from(string(tree, &["status", "reason"])),
        created(tree, now),
        or_unset(tree, "volumeMode"),
    ]
}

pub(super) fn claim(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let volume = string(tree, &["spec", "volumeName"]);
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (amount(tree, &["status", "capacity", "storage"]), modes(list(tree, &["status", "accessModes"])))
    };
    vec![
        name(tree),
        phase(tree),
        Value::from(volume),
        Value::from(capacity),
        Value::from(modes),
        class_name(tree),
        or_unset(tree, "volumeAttributesClassName"),
        created(tree, now),
        or_unset(tree, "volumeMode"),
    ]
}

pub(super) fn class(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let or = |name: &str, otherwise: &str| match string(tree, &[name]) {
        "" => Value::from(otherwise),
        text => Value::from(text),
    };
    vec![
        name(tree),
        Value::from(string(tree, &["provisioner"])),
        or("reclaimPolicy", "Delete"),
        or("volumeBindingMode", "Immediate"),
        Value::from(flag(tree, &["allowVolumeExpansion"])),
        created(tree, now),
    ]
}

/// The class that claims without one get: of those that say so, the newest. Lists mark it.
pub(super) fn default_class<'o>(classes: impl Iterator<Item = &'o Object>) -> Option<Box<str>> {
    let marked = classes.filter_map(|object| {
        let tree = object.tree();
        let says = |group: &str| {
            let key = format!("storageclass.{group}/is-default-class");
            string(&tree, &["metadata", "annotations", key.as_str()]) == "true"
        };
        (says("kubernetes.io") || says("beta.kubernetes.io"))
            .then(|| (string(&tree, &["metadata", "creationTimestamp"]).to_owned(), object.name.clone()))
    });
    // Times of that form compare as text. Of two equally old ones the first by name counts.
    marked.max_by(|left, right| left.0.cmp(&right.0).then_with(|| right.1.cmp(&left.1))).map(|(_, name)| name)
}

fn phase(tree: &Map<String, Value>) -> Value {
    let going = !string(tree, &["metadata", "deletionTimestamp"]).is_empty();
    Value::from(if going { "Terminating" } else { string(tree, &["status", "phase"]) })
}

fn class_name(tree: &Map<String, Value>) -> Value {
    match string(tree, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        "" => Value::from(string(tree, &["spec", "storageClassName"])),
        old => Value::from(old),
    }
}

fn or_unset(tree: &Map<String, Value>, name: &str) -> Value {
    Value::from(at(tree, &["spec", name]).and_then(Value::as_str).unwrap_or(UNSET))
}

fn amount(tree: &Map<String, Value>, path: &[&str]) -> String {
    let text = string(tree, path);
    if text.is_empty() { "0".to_owned() } else { text.to_owned() }
}

fn modes(modes: &[Value]) -> String {
    let short: Vec<&str> =
        MODES.iter().filter(|(long, _)| modes.iter().any(|mode| mode == long)).map(|(_, short)| *short).collect();
    short.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::resource_named;

    const NOW: Timestamp = Timestamp::from_unix_seconds(60);

    #[test]
    fn a_volume_shows_what_it_is() {
        let tree = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "slow"},
            "status": {"phase": "Bound"}});
        let cells = volume(tree.as_object().unwrap(), NOW);
        let want =
            json!(["v", "1Gi", "RWO,RWX", "Retain", "Bound", "n/c", "slow", "<unset>", "", "<unknown>", "<unset>"]);
        assert_eq!(Value::Array(cells), want);
    }

    #[test]
    fn a_claim_shows_nothing_of_a_volume_it_does_not_have() {
        let tree = json!({"metadata": {"name": "c"}, "spec": {"volumeMode": "Block"}, "status": {"phase": "Pending"}});
        let cells = claim(tree.as_object().unwrap(), NOW);
        assert_eq!(cells[1..5], [json!("Pending"), json!(""), json!(""), json!("")]);
    }

    #[test]
    fn the_newest_marked_class_is_the_default() {
        let class = |name: &str, time: &str, marked: bool| {
            let annotations =
                if marked { json!({"storageclass.kubernetes.io/is-default-class": "true"}) } else { json!({}) };
            let members = json!({"metadata": {"name": name, "creationTimestamp": time, "annotations": annotations}});
            Object::seal(resource_named("storageclasses"), members.as_object().unwrap().clone(), 1)
        };
        let classes = [
            class("a", "2026-01-01T00:00:00Z", true),
            class("b", "2026-01-02T00:00:00Z", true),
            class("c", "2026-01-02T00:00:00Z", true),
            class("d", "2026-01-03T00:00:00Z", false),
        ];
        assert_eq!(default_class(classes.iter().map(|class| &**class)).as_deref(), Some("b"));
    }
}
