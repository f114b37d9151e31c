//! Namespaces: their label, finalizer and phase, and the removal of what is in them.
//!
//! A deleted namespace turns Terminating, takes no new objects, loses its content, and then goes; objects that
//! finalizers hold keep it (as upstream's namespace controller does).

use std::sync::Arc;

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value, json};

use super::Resource;
use super::pods::object;
use crate::resources;
use crate::store::Store;
use crate::store::object::Object;

/// Namespaces that cannot be deleted (admission plugin `NamespaceLifecycle`).
pub(crate) const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// The label that names the namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Gives a new namespace its finalizer, phase and label.
pub(crate) fn prepare(members: &mut Map<String, Value>) {
    let spec = object(members, "spec");
    let mut finalizers = spec.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        finalizers.push(json!("kubernetes"));
    }
    spec.insert("finalizers".to_owned(), Value::Array(finalizers));
    members.insert("status".to_owned(), json!({"phase": "Active"}));
    set_name_label(members);
}

/// The label follows the name, whatever an update says.
pub(crate) fn set_name_label(members: &mut Map<String, Value>) {
    let metadata = object(members, "metadata");
    let name = metadata.get("name").cloned().unwrap_or_default();
    if name.as_str().is_some_and(|name| !name.is_empty()) {
        object(metadata, "labels").insert(NAME_LABEL.to_owned(), name);
    }
}

/// Removes what a terminating namespace holds, and then the namespace. Safe to call at any time and more than once.
/// What was removed is returned, because the authorizer must forget it too.
pub(crate) fn finish(store: &Store, namespace: &str, now: Timestamp) -> Vec<(&'static Resource, Arc<Object>)> {
    let mut removed = Vec::new();
    let Some(object) = store.get(resources::namespaces(), "", namespace).filter(|object| object.terminating) else {
        return removed;
    };
    let mut left = false;
    for resource in resources::ALL.iter().filter(|resource| resource.namespaced) {
        for held in store.all(resource, namespace) {
            let members = held.members();
            let finalizers = resources::at(&members, &["metadata", "finalizers"]).and_then(Value::as_array);
            if finalizers.is_some_and(|finalizers| !finalizers.is_empty()) {
                left = true;
                if !held.terminating {
                    // Lost to a parallel change: whoever made it finds the namespace terminating.
                    let _ = store.replace(resource, &held, marked(members, now));
                }
            } else {
                match store.remove(resource, &held, None) {
                    Ok(gone) => removed.push((resource, gone)),
                    Err(_) => left = true,
                }
            }
        }
    }
    if !left {
        let _ = store.remove(resources::namespaces(), &object, None);
    }
    removed
}

/// `members` with a deletion time.
pub(crate) fn marked(mut members: Map<String, Value>, now: Timestamp) -> Map<String, Value> {
    let metadata = object(&mut members, "metadata");
    metadata.insert("deletionTimestamp".to_owned(), Value::String(now.rfc3339()));
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreLimits;

    fn members(value: Value) -> Map<String, Value> {
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
    fn a_new_namespace_looks_like_the_real_servers() {
        let mut namespace = members(json!({"metadata": {"name": "n", "labels": {"a": "b"}}}));
        prepare(&mut namespace);
        assert_eq!(
            Value::Object(namespace),
            json!({"metadata": {"name": "n", "labels": {"a": "b", "kubernetes.io/metadata.name": "n"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
    }
}
