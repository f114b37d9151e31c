//! What happens to an object between its body and the store, for every kind.
//!
//! Create: system metadata → name from `generateName` → the kind's defaults → shape → validation.
//! Update: fields that only the server sets are taken from the old object → defaults → shape → validation.

use portcullis_kube::ObjectMeta;
use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use portcullis_kube::rbac::validate::object_meta;
use portcullis_runtime::{Rng, Timestamp};
use serde_json::{Map, Value};

use super::pods::object;
use super::{Resource, namespaces, pods, rbac};
use crate::schema::normalise::normalise;

/// Characters of generated names: those that form no words (upstream's `util/rand`).
const SUFFIX: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Longest stem of a generated name.
const STEM: usize = 63 - SUFFIX_LENGTH;
/// Metadata that a client cannot set.
const SYSTEM: [&str; 8] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
];

/// Makes a new object of what the client sent. `namespace` is that of the request.
pub(crate) fn for_create(
    resource: &Resource,
    mut members: Map<String, Value>,
    namespace: &str,
    rng: &Rng,
    now: Timestamp,
) -> Map<String, Value> {
    let metadata = object(&mut members, "metadata");
    for name in SYSTEM {
        metadata.shift_remove(name);
    }
    if resource.namespaced {
        metadata.insert("namespace".to_owned(), Value::String(namespace.to_owned()));
    }
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if text("name").is_empty() && !text("generateName").is_empty() {
        let name = generated_name(&text("generateName"), rng);
        metadata.insert("name".to_owned(), Value::String(name));
    }
    metadata.insert("uid".to_owned(), Value::String(rng.uuid_v4()));
    metadata.insert("creationTimestamp".to_owned(), Value::String(now.rfc3339()));
    match resource.kind {
        "Namespace" => namespaces::prepare(&mut members),
        "Pod" => pods::prepare(&mut members),
        _ => rbac::prepare(resource, &mut members),
    }
    shape(resource, members)
}

/// Makes the new state of an object of what the client sent.
pub(crate) fn for_update(
    resource: &Resource,
    mut members: Map<String, Value>,
    old: &Map<String, Value>,
) -> Map<String, Value> {
    let metadata = object(&mut members, "metadata");
    let before = old.get("metadata").and_then(Value::as_object);
    for name in SYSTEM.into_iter().chain(["name", "namespace", "generateName"]) {
        match before.and_then(|before| before.get(name)) {
            Some(value) => metadata.insert(name.to_owned(), value.clone()),
            None => metadata.shift_remove(name),
        };
    }
    match resource.kind {
        "Namespace" => {
            // `spec.finalizers` and `status` have endpoints of their own.
            take_over(&mut members, old, &["spec", "status"]);
            namespaces::set_name_label(&mut members);
        }
        "Pod" => take_over(&mut members, old, &["status"]),
        _ => rbac::prepare(resource, &mut members),
    }
    shape(resource, members)
}

fn take_over(members: &mut Map<String, Value>, old: &Map<String, Value>, names: &[&str]) {
    for name in names {
        match old.get(*name) {
            Some(value) => members.insert((*name).to_owned(), value.clone()),
            None => members.shift_remove(*name),
        };
    }
}

/// The shape again, after fields were filled in.
pub(crate) fn shape(resource: &Resource, members: Map<String, Value>) -> Map<String, Value> {
    let Some(schema) = resource.schema() else { return members };
    match normalise(schema, Value::Object(members.clone())) {
        Ok(shaped) => shaped.value,
        Err(error) => {
            tracing::error!(%error, kind = resource.kind, "a prepared object does not have its type's shape");
            members
        }
    }
}

/// What is wrong with a new object.
pub(crate) fn validate_create(resource: &Resource, members: &Map<String, Value>) -> Vec<FieldError> {
    if resource.group == portcullis_kube::rbac::GROUP {
        return rbac::validate(resource, members);
    }
    let mut wrong = metadata_problems(resource, members);
    if resource.kind == "Pod" {
        wrong.extend(pods::validate(members));
    }
    wrong
}

/// What is wrong with the new state of an object.
pub(crate) fn validate_update(
    resource: &Resource,
    new: &Map<String, Value>,
    old: &Map<String, Value>,
) -> Vec<FieldError> {
    let mut wrong = validate_create(resource, new);
    match resource.kind {
        "Pod" if wrong.is_empty() => wrong.extend(pods::validate_update(new, old)),
        _ => wrong.extend(rbac::validate_update(resource, new, old)),
    }
    wrong
}

fn metadata_problems(resource: &Resource, members: &Map<String, Value>) -> Vec<FieldError> {
    let rule: fn(&str) -> Vec<String> =
        if resource.kind == "Namespace" { names::dns_label } else { names::dns_subdomain };
    let metadata = members.get("metadata").cloned().unwrap_or_default();
    match serde_json::from_value::<ObjectMeta>(metadata) {
        Ok(metadata) => object_meta(&metadata, resource.namespaced, rule),
        Err(error) => vec![FieldError::invalid("metadata", "", error.to_string())],
    }
}

/// A name that nothing has, most likely: the stem and five random characters.
fn generated_name(stem: &str, rng: &Rng) -> String {
    let mut name: String = stem.chars().take(STEM).collect();
    for _ in 0..SUFFIX_LENGTH {
        let at = usize::try_from(rng.below(27)).unwrap_or(0);
        name.push(SUFFIX.get(at).copied().map_or('x', char::from));
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources;

    fn create(resource: &Resource, value: Value) -> Map<String, Value> {
        let rng = Rng::seeded(1);
        for_create(resource, value.as_object().unwrap().clone(), "default", &rng, Timestamp::from_unix_seconds(0))
    }

    #[test]
    fn clients_cannot_set_what_belongs_to_the_server() {
        let made = create(
            resources::roles(),
            json!({"metadata": {"name": "r", "uid": "mine", "creationTimestamp": "2000-01-01T00:00:00Z", "generation": 9,
                "deletionTimestamp": "2000-01-01T00:00:00Z", "managedFields": [{"manager": "m"}]}}),
        );
        let metadata = made["metadata"].as_object().unwrap();
        assert_ne!(metadata["uid"], "mine");
        assert_eq!(metadata["creationTimestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(metadata["namespace"], "default");
        for gone in ["generation", "deletionTimestamp", "managedFields"] {
            assert!(!metadata.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn generated_names_fit_a_label_and_differ() {
        let rng = Rng::seeded(2);
        let long = generated_name(&"a".repeat(80), &rng);
        assert_eq!(long.len(), 63);
        let names: std::collections::BTreeSet<_> = (0..50).map(|_| generated_name("g-", &rng)).collect();
        assert!(names.len() > 45 && names.iter().all(|name| names::dns_label(name).is_empty()));
    }

    #[test]
    fn an_update_keeps_identity_and_status() {
        let old = create(namespaces(), json!({"metadata": {"name": "n"}}));
        let sent = json!({"metadata": {"name": "other", "uid": "x", "labels": {"kubernetes.io/metadata.name": "lie", "a": "b"}},
            "spec": {"finalizers": []}, "status": {"phase": "Terminating"}});
        let new = for_update(namespaces(), sent.as_object().unwrap().clone(), &old);
        assert_eq!(new["metadata"]["uid"], old["metadata"]["uid"]);
        assert_eq!(new["metadata"]["labels"], json!({"a": "b", "kubernetes.io/metadata.name": "n"}));
        assert_eq!((&new["spec"], &new["status"]), (&old["spec"], &old["status"]));
    }

    #[test]
    fn names_follow_their_kinds_rule() {
        let problems = |resource: &Resource, name: &str| {
            let made = create(
                resource,
                json!({"metadata": {"name": name}, "rules": [], "spec": {"containers": [{"name": "c", "image": "i"}]}}),
            );
            validate_create(resource, &made).len()
        };
        assert_eq!(problems(namespaces(), "a.b"), 1);
        assert_eq!(problems(pods(), "a.b"), 0);
        assert_eq!(problems(pods(), "a:b"), 1);
        assert_eq!(problems(resources::cluster_roles(), "a:b"), 0);
        assert_eq!(problems(resources::cluster_roles(), "a/b"), 1);
    }
}
