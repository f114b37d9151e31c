//! Namespaces: their label, finalizer and phase, and the removal of what is in them.
//!
//! A deleted namespace turns Terminating, takes no new objects, loses its content, and then goes; objects that
//! finalizers hold keep it (as upstream's namespace controller does), and so do finalizers of its own.

use std::sync::Arc;

use portcullis_kube::names;
use portcullis_runtime::Timestamp;
use serde_json::{Value, json};

use super::Resource;
use super::check::{Path, Wrong, meta};
use super::rules::{PartRules, Rules};
use super::tree::{Members, at, list_at, object, string_at, take_over};
use crate::resources;
use crate::store::Store;
use crate::store::object::Object;

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

/// Gives a new namespace its finalizer, phase and label.
fn prepare_create(members: &mut Members) {
    let spec = object(members, "spec");
    let mut finalizers = list_at(spec, &["finalizers"]).to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == OURS) {
        finalizers.push(json!(OURS));
    }
    spec.insert("finalizers".to_owned(), Value::Array(finalizers));
    members.insert("status".to_owned(), json!({"phase": "Active"}));
    fill(members);
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

/// Removes what a terminating namespace holds, and then the namespace. Safe to call at any time and more than once.
/// What was removed is returned, because the authorizer must forget it too.
pub(crate) fn finish(store: &Store, namespace: &str, now: Timestamp) -> Vec<(&'static Resource, Arc<Object>)> {
    let mut removed = Vec::new();
    let Some(namespace_object) = store.get(resources::namespaces(), "", namespace).filter(|object| object.terminating)
    else {
        return removed;
    };
    let mut left = false;
    for resource in resources::ALL.iter().filter(|resource| resource.namespaced) {
        for held in store.all(resource, namespace) {
            let members = held.members();
            if list_at(&members, &["metadata", "finalizers"]).is_empty() {
                match store.remove(resource, &held, None) {
                    Ok(gone) => removed.push((resource, gone)),
                    Err(_) => left = true,
                }
            } else {
                left = true;
                if !held.terminating {
                    // Lost to a parallel change: whoever made it finds the namespace terminating.
                    let ending = super::strategy::shape(resource, super::strategy::ending(members, now));
                    let _ = store.replace(resource, &held, ending);
                }
            }
        }
    }
    if !left {
        release(store, &namespace_object);
    }
    removed
}

/// Takes our finalizer off an empty namespace; it goes when no other one is left.
fn release(store: &Store, namespace: &Object) {
    let mut members = namespace.members();
    let mut others = list_at(&members, &["spec", "finalizers"]).to_vec();
    others.retain(|finalizer| finalizer != OURS);
    let held = !others.is_empty() || !list_at(&members, &["metadata", "finalizers"]).is_empty();
    object(&mut members, "spec").insert("finalizers".to_owned(), Value::Array(others));
    let members = super::strategy::shape(resources::namespaces(), members);
    // Lost to a parallel change: whoever made it finds the namespace terminating and empty.
    if !held {
        let _ = store.remove(resources::namespaces(), namespace, Some(members));
    } else if members != namespace.members() {
        let _ = store.replace(resources::namespaces(), namespace, members);
    }
}

/// A namespace with a deletion time.
pub(crate) fn marked(mut members: Members, now: Timestamp) -> Members {
    let metadata = object(&mut members, "metadata");
    metadata.insert("deletionTimestamp".to_owned(), Value::String(now.rfc3339()));
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreLimits;

    fn members(value: Value) -> Members {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_finalizer_inside_keeps_the_namespace_until_it_goes() {
        let store = Store::new(StoreLimits::default());
        let now = Timestamp::from_unix_seconds(0);
        let pods = resources::pods();
        let namespace = store.create(resources::namespaces(), members(json!({"metadata": {"name": "n"}}))).unwrap();
        store.create(pods, members(json!({"metadata": {"name": "free", "namespace": "n"}}))).unwrap();
        store
            .create(pods, members(json!({"metadata": {"name": "held", "namespace": "n", "finalizers": ["x/y"]}})))
            .unwrap();
        finish(&store, "n", now);
        assert_eq!(store.all(pods, "n").len(), 2, "a namespace that is not terminating keeps everything");
        store.replace(resources::namespaces(), &namespace, marked(namespace.members(), now)).unwrap();
        finish(&store, "n", now);
        let held = store.all(pods, "n");
        assert_eq!((held.len(), &*held[0].name, held[0].terminating), (1, "held", true));
        store.remove(pods, &held[0], None).unwrap();
        finish(&store, "n", now);
        assert!(store.get(resources::namespaces(), "", "n").is_none());
    }

    #[test]
    fn a_finalizer_of_its_own_keeps_the_empty_namespace() {
        let store = Store::new(StoreLimits::default());
        let now = Timestamp::from_unix_seconds(0);
        let spec = json!({"metadata": {"name": "n", "deletionTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"finalizers": ["kubernetes", "a/b"]}});
        store.create(resources::namespaces(), members(spec)).unwrap();
        finish(&store, "n", now);
        let left = store.get(resources::namespaces(), "", "n").unwrap();
        assert_eq!(left.tree()["spec"]["finalizers"], json!(["a/b"]));
        let mut free = left.members();
        free["spec"]["finalizers"] = json!([]);
        store.replace(resources::namespaces(), &left, free).unwrap();
        finish(&store, "n", now);
        assert!(store.get(resources::namespaces(), "", "n").is_none());
    }

    #[test]
    fn a_new_namespace_looks_like_the_real_servers() {
        let mut namespace = members(json!({"metadata": {"name": "n", "labels": {"a": "b"}}}));
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
