//! Namespaces: their label, finalizers and phase. `deletion::emptying` takes away what is in one that goes.

use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::{Path, Wrong, meta};
use super::rules::{PartRules, Rules};
use super::tree::{Members, at, list_at, object, string_at, take_over};

/// Namespaces that cannot be deleted (admission plugin `NamespaceLifecycle`).
pub(crate) const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// The label that names the namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer of the part that empties namespaces.
const OURS: &str = "kubernetes";

pub(crate) const RULES: Rules = Rules {
    returns_deleted: true,
    prepare_create,
    prepare_update: |new, old| take_over(new, old, &["spec", "status"]),
    prepare_status: |new, old| take_over(new, old, &["spec"]),
    validate,
    validate_update: |new, old, wrong| {
        validate(new, wrong);
        meta::object_meta_update(new, old, wrong);
    },
    validate_status,
    ..Rules::CLUSTER
};
/// `spec.finalizers` have a path of their own.
pub(crate) static FINALIZE: PartRules = PartRules {
    prepare: |new, old| take_over(new, old, &["status"]),
    validate: |new, old, wrong| {
        meta::object_meta_update(new, old, wrong);
        finalizers(new, true, wrong);
    },
};

/// The label follows the name, whatever an update says.
pub(crate) fn fill(members: &mut Members) {
    let metadata = object(members, "metadata");
    let name = string_at(metadata, &["name"]).to_owned();
    if !name.is_empty() {
        object(metadata, "labels").insert(NAME_LABEL.to_owned(), Value::String(name));
    }
    super::rules::default_phase(members, "Active");
}

/// Gives a new namespace its finalizer and phase.
fn prepare_create(members: &mut Members) {
    let spec = object(members, "spec");
    let mut finalizers = list_at(spec, &["finalizers"]).to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == OURS) {
        finalizers.push(json!(OURS));
    }
    spec.insert("finalizers".to_owned(), Value::Array(finalizers));
    members.insert("status".to_owned(), json!({"phase": "Active"}));
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, false, names::dns_label, wrong);
    finalizers(new, false, wrong);
}

/// Compat: the list is named in one place, and its entries in the other.
fn finalizers(new: &Members, indexed: bool, wrong: &mut Wrong) {
    let path = Path::new("spec.finalizers");
    for (index, finalizer) in list_at(new, &["spec", "finalizers"]).iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        let path = if indexed { path.index(index) } else { path.clone() };
        wrong.each(&path, finalizer, names::label_key(finalizer));
        if !finalizer.contains('/') && ![OURS, "orphan", "foregroundDeletion"].contains(&finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            wrong.invalid(&path, finalizer, why);
        }
    }
}

fn validate_status(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let phase = string_at(new, &["status", "phase"]);
    // Compat: the path has a capital upstream.
    let path = Path::new("status.Phase");
    match at(new, &["metadata", "deletionTimestamp"]).is_some_and(|time| !time.is_null()) {
        false if phase != "Active" => {
            wrong.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
        true if phase != "Terminating" => {
            wrong.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Value) -> Members {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_new_namespace_looks_like_the_real_servers() {
        let mut namespace = members(json!({"metadata": {"name": "n", "labels": {"a": "b"}}}));
        fill(&mut namespace);
        prepare_create(&mut namespace);
        assert_eq!(
            Value::Object(namespace),
            json!({"metadata": {"name": "n", "labels": {"a": "b", "kubernetes.io/metadata.name": "n"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
    }

    #[test]
    fn the_phase_follows_the_deletion() {
        let of = |deleted: bool, phase: &str| {
            let time = if deleted { json!("1970-01-01T00:00:00Z") } else { Value::Null };
            members(
                json!({"metadata": {"name": "n", "resourceVersion": "1", "deletionTimestamp": time}, "status": {"phase": phase}}),
            )
        };
        let count = |new: &Members| {
            let mut wrong = Wrong::default();
            validate_status(new, new, &mut wrong);
            wrong.finish().len()
        };
        assert_eq!((count(&of(false, "Active")), count(&of(true, "Terminating"))), (0, 0));
        assert_eq!((count(&of(true, "Active")), count(&of(false, "Terminating"))), (1, 1));
    }
}
