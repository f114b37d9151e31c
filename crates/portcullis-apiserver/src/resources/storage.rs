//! Volumes, claims and storage classes. Nothing provisions or binds here: they are kept, validated and shown.

use std::collections::BTreeSet;

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::{IMMUTABLE, NOT_NEGATIVE, Path, Wrong, labels, meta, same};
use super::pod_spec::volumes::host_path;
use super::rules::{Rules, default_phase};
use super::tree::{
    Members, at, child, default, has, list, list_at, members, members_at, object, string, string_at, take_over,
};
use super::volume_warnings;
use crate::schema::quantity::Quantity;

pub(crate) const CLAIM_RULES: Rules = Rules {
    returns_deleted: true,
    prepare_create: |members| {
        members.insert("status".to_owned(), json!({"phase": "Pending"}));
    },
    prepare_update: |new, old| {
        take_over(new, old, &["status"]);
        // A claim that had a class keeps it.
        if at(old, &["spec", "storageClassName"]).is_some() {
            let before = at(old, &["spec", "storageClassName"]).cloned().unwrap_or_default();
            object(new, "spec").entry("storageClassName").or_insert(before);
        }
    },
    validate: claim,
    validate_update: update_claim,
    validate_status: |new, old, wrong| {
        meta::object_meta_update(new, old, wrong);
        for (name, amount) in members_at(new, &["status", "capacity"]) {
            basic(amount, &Path::new("status.capacity").key(name), wrong);
        }
    },
    warnings: |new, _| volume_warnings::claim(new),
    ..Rules::NAMESPACED
};
pub(crate) const VOLUME_RULES: Rules = Rules {
    returns_deleted: true,
    prepare_create: |members| {
        let since = at(members, &["metadata", "creationTimestamp"]).cloned().unwrap_or_default();
        members.insert("status".to_owned(), json!({"phase": "Pending", "lastPhaseTransitionTime": since}));
    },
    prepare_update: |new, old| take_over(new, old, &["status"]),
    validate: volume,
    validate_update: update_volume,
    warnings: |new, _| volume_warnings::volume(new),
    ..Rules::CLUSTER
};
pub(crate) const CLASS_RULES: Rules =
    Rules { returns_deleted: true, validate: class, validate_update: update_class, ..Rules::CLUSTER };
const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// What is said instead of the difference that upstream prints.
const CLAIM_FIXED: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const SOURCE_FIXED: &str = "spec.persistentvolumesource is immutable after creation";
pub(super) const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
/// Sources that are mounted with options.
const MOUNTED_WITH_OPTIONS: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
/// Members of a volume's specification that are no source.
const NO_SOURCE: [&str; 9] = [
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
    "nodeAffinity",
    "volumeAttributesClassName",
];

pub(super) fn fill_claim(members: &mut Members) {
    default_phase(members, "Pending");
}

pub(super) fn fill_volume_mode(spec: &mut Members) {
    default(spec, "volumeMode", "Filesystem");
}

pub(super) fn fill_volume(members: &mut Members) {
    default_phase(members, "Pending");
    let spec = object(members, "spec");
    default(spec, "persistentVolumeReclaimPolicy", "Retain");
    default(spec, "volumeMode", "Filesystem");
}

pub(super) fn fill_class(members: &mut Members) {
    // Compat: both are pointers, so an empty text is no missing one.
    members.entry("reclaimPolicy").or_insert_with(|| Value::from("Delete"));
    members.entry("volumeBindingMode").or_insert_with(|| Value::from("Immediate"));
}

/// The most that is allowed is what a container gets, and what it gets is what it asks for.
pub(super) fn fill_limit_range_item(item: &mut Members) {
    if string_at(item, &["type"]) != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let amounts = members_at(item, &[from]).clone();
        let target = object(item, to);
        for (name, amount) in amounts {
            target.entry(name).or_insert(amount);
        }
    }
}

fn access_modes(spec: &Value, required: &str, path: &Path, wrong: &mut Wrong) {
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        wrong.required(path, required);
    }
}

fn known_modes(spec: &Value, path: &Path, wrong: &mut Wrong) {
    let modes: Vec<&str> = list(spec, "accessModes").iter().filter_map(Value::as_str).collect();
    for mode in modes.iter().filter(|mode| !MODES.contains(mode)) {
        wrong.not_supported(path, mode, &MODES);
    }
    let alone = modes.contains(&"ReadWriteOncePod");
    if alone && modes.iter().any(|mode| MODES.contains(mode) && *mode != "ReadWriteOncePod") {
        wrong.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// An amount whose whole number is not below zero. Compat: that number is what the message shows.
fn basic(amount: &Value, path: &Path, wrong: &mut Wrong) {
    let amount = Quantity::parse(amount.as_str().unwrap_or_default());
    if let Ok(whole) = amount.map(Quantity::whole)
        && whole < 0
    {
        wrong.push(FieldError::invalid_json(path, &whole, "must be a valid resource quantity"));
    }
}

fn positive(amount: &Value, path: &Path, wrong: &mut Wrong) {
    let text = amount.as_str().unwrap_or_default();
    let Ok(quantity) = Quantity::parse(text) else { return };
    if quantity.is_negative() || quantity.is_zero() {
        wrong.invalid(path, text, "must be greater than zero");
    }
}

/// A claim's specification; stateful sets have templates of it.
pub(crate) fn claim_spec(spec: &Value, path: &Path, wrong: &mut Wrong) {
    let at = path.child("accessModes");
    access_modes(spec, "at least 1 access mode is required", &at, wrong);
    if has(spec, "selector") {
        labels::selector(child(spec, "selector"), &path.child("selector"), wrong);
    }
    known_modes(spec, &at, wrong);
    let at = path.child("resources").key("storage");
    match members(child(spec, "resources"), "requests").get("storage") {
        None => wrong.required(&at, ""),
        Some(amount) => positive(amount, &at, wrong),
    }
    let class = string(spec, "storageClassName");
    if !class.is_empty() {
        wrong.each(&path.child("storageClassName"), class, names::dns_subdomain(class));
    }
    wrong.one_of(&path.child("volumeMode"), string(spec, "volumeMode"), &["Block", "Filesystem"]);
}

fn claim(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    claim_spec(new.get("spec").unwrap_or(&Value::Null), &Path::new("spec"), wrong);
}

fn update_claim(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    claim(new, wrong);
    let bound = string_at(new, &["status", "phase"]) == "Bound";
    let fixed = |members: &Members| {
        let mut spec = members.get("spec").cloned().unwrap_or_default();
        if let Value::Object(spec) = &mut spec {
            if string_at(old, &["spec", "volumeName"]).is_empty() {
                spec.shift_remove("volumeName");
            }
            if at(old, &["spec", "storageClassName"]).is_none() {
                spec.shift_remove("storageClassName");
            }
            if bound {
                spec.shift_remove("volumeAttributesClassName");
                object(object(spec, "resources"), "requests").shift_remove("storage");
            }
        }
        spec
    };
    if !same(&fixed(new), &fixed(old)) {
        wrong.forbidden(&Path::new("spec"), CLAIM_FIXED);
    }
    let amount = |members: &Members, path: &[&str]| Quantity::parse(string_at(members, path)).ok();
    let requests = ["spec", "resources", "requests", "storage"];
    if let (Some(now), Some(before)) = (amount(new, &requests), amount(old, &requests))
        && now.compare(before).is_lt()
    {
        let there = amount(old, &["status", "capacity", "storage"]);
        let zero = Quantity::parse("0").ok();
        if there.or(zero).is_some_and(|there| now.compare(there).is_le()) {
            let path = Path::new("spec.resources.requests.storage");
            wrong.forbidden(&path, "field can not be less than status.capacity");
        }
    }
    let mode = |members: &Members| at(members, &["spec", "volumeMode"]).cloned().unwrap_or_default();
    wrong.unchanged(&Path::new("volumeMode"), &mode(new), &mode(old));
}

fn volume(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, false, names::dns_subdomain, wrong);
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    let at = path.child("accessModes");
    access_modes(spec, "", &at, wrong);
    known_modes(spec, &at, wrong);
    let (capacity, at) = (members(spec, "capacity"), path.child("capacity"));
    if capacity.is_empty() {
        wrong.required(&at, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        let mut error = FieldError::not_supported(&at, "", &["storage"]);
        let printed = if capacity.is_empty() { Value::Null } else { Value::Object(capacity.clone()) };
        error.value = String::from_utf8(crate::json::to_vec(&printed)).ok();
        wrong.push(error);
    }
    for (name, amount) in capacity {
        basic(amount, &at.key(name), wrong);
        positive(amount, &at.key(name), wrong);
    }
    let policy = string(spec, "persistentVolumeReclaimPolicy");
    wrong.one_of(&path.child("persistentVolumeReclaimPolicy"), policy, &["Delete", "Recycle", "Retain"]);
    let mut sources = 0;
    for source in sources_of(spec) {
        sources += 1;
        if sources > 1 {
            wrong.forbidden(&path.child(source), "may not specify more than 1 volume type");
        } else if source == "hostPath" {
            host_path(child(spec, source), &path.child(source), wrong);
        }
    }
    if sources == 0 {
        wrong.required(&path, "must specify a volume type");
    }
    if policy == "Recycle" && string(child(spec, "hostPath"), "path") == "/" {
        wrong.forbidden(
            &path.child("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    let class = string(spec, "storageClassName");
    if !class.is_empty() {
        wrong.each(&path.child("storageClassName"), class, names::dns_subdomain(class));
    }
    wrong.one_of(&path.child("volumeMode"), string(spec, "volumeMode"), &["Block", "Filesystem"]);
    let options = members_at(new, &["metadata", "annotations"]).contains_key(MOUNT_OPTIONS);
    if options && !MOUNTED_WITH_OPTIONS.iter().any(|source| has(spec, source)) {
        let at = Path::new("metadata.annotations").child(MOUNT_OPTIONS);
        wrong.forbidden(&at, "may not specify mount options for this volume type");
    }
}

fn sources_of(spec: &Value) -> impl Iterator<Item = &str> {
    let members = spec.as_object().into_iter().flatten();
    members
        .filter(|(name, value)| !NO_SOURCE.contains(&name.as_str()) && value.is_object())
        .map(|(name, _)| name.as_str())
}

/// Compat: an update of a volume judges metadata in general only.
fn update_volume(new: &Members, old: &Members, wrong: &mut Wrong) {
    volume(new, wrong);
    let source = |members: &Members| {
        let spec = members.get("spec").unwrap_or(&Value::Null);
        let sources: Members = sources_of(spec).map(|name| (name.to_owned(), child(spec, name).clone())).collect();
        Value::Object(sources)
    };
    if !same(&source(new), &source(old)) {
        wrong.forbidden(&Path::new("spec.persistentvolumesource"), SOURCE_FIXED);
    }
    let mode = |members: &Members| at(members, &["spec", "volumeMode"]).cloned().unwrap_or_default();
    wrong.unchanged(&Path::new("volumeMode"), &mode(new), &mode(old));
}

fn class(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, false, names::dns_subdomain, wrong);
    let provisioner = string_at(new, &["provisioner"]);
    if provisioner.is_empty() {
        wrong.push_last(FieldError::required("provisioner", ""));
    } else {
        let lower = provisioner.to_lowercase();
        wrong.each(&Path::new("provisioner"), &lower, names::label_key(&lower));
    }
    for (key, _) in members_at(new, &["parameters"]).iter().filter(|(key, _)| key.is_empty()) {
        wrong.invalid(&Path::new("parameters"), key, "field can not be empty.");
    }
    wrong.one_of(&Path::new("reclaimPolicy"), string_at(new, &["reclaimPolicy"]), &["Delete", "Retain"]);
    let mode = string_at(new, &["volumeBindingMode"]);
    let modes = ["Immediate", "WaitForFirstConsumer"];
    if new.contains_key("volumeBindingMode") && !modes.contains(&mode) {
        wrong.not_supported(&Path::new("volumeBindingMode"), mode, &modes);
    }
    for (index, term) in list_at(new, &["allowedTopologies"]).iter().enumerate() {
        topology(term, &Path::new("allowedTopologies").index(index), wrong);
    }
}

fn topology(term: &Value, path: &Path, wrong: &mut Wrong) {
    let mut keys = BTreeSet::new();
    for (index, requirement) in list(term, "matchLabelExpressions").iter().enumerate() {
        let path = path.child("matchLabelExpressions").index(index);
        let values = list(requirement, "values");
        if values.is_empty() {
            wrong.required(&path.child("values"), "");
        }
        for (at, value) in
            values.iter().enumerate().filter(|(at, value)| values.iter().take(*at).any(|other| other == *value))
        {
            wrong.duplicate_value(&path.child("values").index(at), value);
        }
        let key = string(requirement, "key");
        wrong.each(&path.child("key"), key, names::label_key(key));
        if !keys.insert(key) {
            wrong.duplicate(&path.child("key"), key);
        }
    }
}

/// Compat: fields that are fixed are judged declaratively, so they come last.
fn update_class(new: &Members, old: &Members, wrong: &mut Wrong) {
    class(new, wrong);
    meta::object_meta_update(new, old, wrong);
    for name in ["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"] {
        let of = |members: &Members| members.get(name).cloned().unwrap_or_default();
        if !same(&of(new), &of(old)) {
            // Compat: declarative validation does not print the value here.
            wrong.push_last(FieldError::invalid_json(name, &Value::Null, IMMUTABLE));
        }
    }
}

/// Amounts in a status or limit that cannot be below zero.
pub(super) fn not_negative_amount(amount: &Value, path: &Path, wrong: &mut Wrong) {
    let text = amount.as_str().unwrap_or_default();
    if Quantity::parse(text).is_ok_and(Quantity::is_negative) {
        wrong.invalid(path, text, NOT_NEGATIVE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, namespaced: bool, spec: Value) -> Members {
        let mut object = json!({"metadata": {"name": name, "resourceVersion": "1"}, "spec": spec});
        if namespaced {
            object["metadata"]["namespace"] = json!("d");
        }
        object.as_object().unwrap().clone()
    }

    fn texts(check: impl FnOnce(&mut Wrong)) -> Vec<String> {
        let mut wrong = Wrong::default();
        check(&mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_update_of_a_class_judges_all_of_it_again() {
        let class = |more: Value| {
            let mut class = json!({"metadata": {"name": "c", "resourceVersion": "1"}, "provisioner": "a.b/c"});
            class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            class.as_object().unwrap().clone()
        };
        let new = class(
            json!({"metadata": {"name": "c", "resourceVersion": "1", "generateName": "g."}, "reclaimPolicy": "x"}),
        );
        let found = texts(|wrong| update_class(&new, &class(json!({"reclaimPolicy": "x"})), wrong));
        assert!(
            found[0].starts_with("metadata.generateName: Invalid value: \"g.\": a lowercase RFC 1123"),
            "{found:?}"
        );
        assert_eq!(found[1..], ["reclaimPolicy: Unsupported value: \"x\": supported values: \"Delete\", \"Retain\""]);
    }

    #[test]
    fn a_claim_says_how_much_and_how() {
        let good = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        assert!(texts(|wrong| claim(&of("c", true, good.clone()), wrong)).is_empty());
        assert_eq!(
            texts(|wrong| claim(&of("c", true, json!({"volumeMode": "Odd"})), wrong)),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
                "spec.volumeMode: Unsupported value: \"Odd\": supported values: \"Block\", \"Filesystem\""
            ]
        );
        let mut other = good.clone();
        other["accessModes"] = json!(["ReadWriteMany"]);
        assert_eq!(
            texts(|wrong| update_claim(&of("c", true, other), &of("c", true, good), wrong)),
            [format!("spec: Forbidden: {CLAIM_FIXED}")]
        );
    }

    #[test]
    fn a_volume_has_one_source() {
        let good =
            json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}});
        assert!(texts(|wrong| volume(&of("v", false, good.clone()), wrong)).is_empty());
        let mut other = good.clone();
        other["hostPath"]["path"] = json!("/b");
        assert_eq!(texts(|wrong| update_volume(&of("v", false, other), &of("v", false, good), wrong)).len(), 1);
        assert_eq!(
            texts(|wrong| volume(&of("v", false, json!({})), wrong)),
            [
                "spec.accessModes: Required value",
                "spec.capacity: Required value",
                "spec.capacity: Unsupported value: null: supported values: \"storage\"",
                "spec: Required value: must specify a volume type"
            ]
        );
    }

    #[test]
    fn a_class_keeps_what_volumes_were_made_with() {
        let of = |provisioner: &str, policy: &str| {
            let class = json!({"metadata": {"name": "c", "resourceVersion": "1"}, "provisioner": provisioner, "reclaimPolicy": policy});
            class.as_object().unwrap().clone()
        };
        assert_eq!(texts(|wrong| class(&of("", "Odd"), wrong)).len(), 2);
        assert!(texts(|wrong| update_class(&of("", "Delete"), &of("a", "Delete"), wrong))[0].contains("Required"));
        assert_eq!(
            texts(|wrong| update_class(&of("b", "Retain"), &of("a", "Delete"), wrong)),
            [
                "provisioner: Invalid value: null: field is immutable",
                "reclaimPolicy: Invalid value: null: field is immutable"
            ]
        );
    }

    #[test]
    fn limits_of_containers_fill_each_other_in() {
        let mut item =
            json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}).as_object().unwrap().clone();
        fill_limit_range_item(&mut item);
        assert_eq!(
            (&item["default"], &item["defaultRequest"]),
            (&json!({"cpu": "2"}), &json!({"cpu": "2", "memory": "1Mi"}))
        );
    }
}
