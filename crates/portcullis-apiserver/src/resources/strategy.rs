//! What happens to an object between its body and the store, for every kind.
//!
//! Create: system metadata → name from `generateName` → defaults → the kind's preparation → shape → validation.
//! Update: what only the server sets is taken from the old object → defaults → preparation → shape → validation.
//!
//! Compat: `apiserver/pkg/registry/rest/{create,update}.go`.

use portcullis_kube::field::FieldError;
use portcullis_runtime::{Rng, Timestamp};
use serde_json::Value;

use super::check::{Wrong, meta};
use super::rules::PartRules;
use super::tree::{Members, members_at, object, string_at};
use super::{Resource, defaults};
use crate::schema::normalise::normalise;

/// Characters of generated names: those that form no words (upstream's `util/rand`).
const SUFFIX: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Longest stem of a generated name, in bytes.
const STEM: usize = 63 - SUFFIX_LENGTH;
/// Metadata that a client cannot give a new object, nor a review.
pub(crate) const SYSTEM: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];
/// Metadata of a new object that the store and server-side apply give.
const OF_STORE: [&str; 2] = ["resourceVersion", "managedFields"];
/// Metadata that is the old object's after every update.
const KEPT: [&str; 5] = ["name", "namespace", "resourceVersion", "generation", "creationTimestamp"];

/// Which part of an object an update is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Through {
    Object,
    Status,
    Part(&'static PartRules),
}

/// Makes a new object of what the client sent: its metadata and what its kind fills in. `namespace` is that of the request.
pub(crate) fn new_object(
    resource: &Resource,
    mut members: Members,
    namespace: &str,
    rng: &Rng,
    now: Timestamp,
) -> Members {
    // Compat: filled in when it is read, when a name that is generated is not there yet.
    fill(resource, &mut members);
    let metadata = object(&mut members, "metadata");
    for name in SYSTEM.into_iter().chain(OF_STORE) {
        metadata.shift_remove(name);
    }
    if resource.namespaced {
        metadata.insert("namespace".to_owned(), Value::String(namespace.to_owned()));
    } else {
        metadata.shift_remove("namespace");
    }
    let stem = string_at(metadata, &["generateName"]);
    if string_at(metadata, &["name"]).is_empty() && !stem.is_empty() {
        let name = generated_name(stem, rng);
        metadata.insert("name".to_owned(), Value::String(name));
    }
    metadata.insert("uid".to_owned(), Value::String(rng.uuid_v4()));
    metadata.insert("creationTimestamp".to_owned(), Value::String(now.rfc3339()));
    members
}

/// A body in the form that is stored: one of a view is filled in by the rules of its own version first.
pub(crate) fn taken(served: &'static Resource, mut members: Members) -> Members {
    if served.view.is_none() {
        return members;
    }
    fill(served, &mut members);
    shape(served.stored(), served.taken(members))
}

/// What the kind sets on a new object; afterwards it has its type's shape.
pub(crate) fn finish_create(resource: &Resource, mut members: Members) -> Members {
    (resource.rules.prepare_create)(&mut members);
    shape(resource, members)
}

/// Both steps, for what the server makes itself: `members` need not be in shape.
pub(crate) fn for_create(resource: &Resource, members: Members, namespace: &str, rng: &Rng, now: Timestamp) -> Members {
    stored(resource, finish_create(resource, new_object(resource, shape(resource, members), namespace, rng, now)))
}

/// Makes the new state of an object of what the client sent: the metadata that stays, and what its kind fills in.
pub(crate) fn next_state(resource: &Resource, mut members: Members, old: &Members) -> Members {
    let before = members_at(old, &["metadata"]);
    let metadata = object(&mut members, "metadata");
    metadata.shift_remove("managedFields");
    for name in KEPT {
        match before.get(name) {
            Some(value) => metadata.insert(name.to_owned(), value.clone()),
            None => metadata.shift_remove(name),
        };
    }
    if string_at(metadata, &["uid"]).is_empty()
        && let Some(uid) = before.get("uid")
    {
        metadata.insert("uid".to_owned(), uid.clone());
    }
    if let Some(time) = before.get("deletionTimestamp") {
        metadata.insert("deletionTimestamp".to_owned(), time.clone());
    }
    if let Some(seconds) =
        before.get("deletionGracePeriodSeconds").filter(|_| !metadata.contains_key("deletionGracePeriodSeconds"))
    {
        metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.clone());
    }
    fill(resource, &mut members);
    members
}

/// What the update cannot change, and what follows from it; afterwards the object has its type's shape.
pub(crate) fn finish_update(resource: &Resource, through: Through, mut members: Members, old: &Members) -> Members {
    let prepare = match through {
        Through::Object => resource.rules.prepare_update,
        Through::Status => resource.rules.prepare_status,
        Through::Part(rules) => rules.prepare,
    };
    prepare(&mut members, old);
    shape(resource, members)
}

/// An object as it is after it was stored. Compat: upstream fills in what is missing when it decodes a body, and again when it
/// reads back what it has written.
pub(crate) fn stored(resource: &Resource, mut members: Members) -> Members {
    fill(resource, &mut members);
    shape(resource, members)
}

/// Fills in what a body leaves out.
pub(crate) fn fill(resource: &Resource, members: &mut Members) {
    if let Some(schema) = resource.schema() {
        defaults::fill(schema, members);
    }
}

/// The shape again, after fields were filled in.
pub(crate) fn shape(resource: &Resource, members: Members) -> Members {
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
///
/// Compat: metadata is judged in general only when the kind finds nothing.
pub(crate) fn validate_create(resource: &Resource, members: &Members) -> Vec<FieldError> {
    let mut wrong = Wrong::default();
    (resource.rules.validate)(members, &mut wrong);
    if wrong.is_empty() {
        meta::general(members, resource.namespaced, &mut wrong);
    }
    wrong.finish()
}

/// What is wrong with the new state of an object.
///
/// Compat: metadata is judged in general, and again by the kind.
pub(crate) fn validate_update(resource: &Resource, through: Through, new: &Members, old: &Members) -> Vec<FieldError> {
    let mut wrong = Wrong::default();
    meta::general(new, resource.namespaced, &mut wrong);
    meta::general_update(new, old, &mut wrong);
    let judge = match through {
        Through::Object => resource.rules.validate_update,
        Through::Status => resource.rules.validate_status,
        Through::Part(rules) => rules.validate,
    };
    judge(new, old, &mut wrong);
    wrong.finish()
}

/// A name that nothing has, most likely: the stem and five random characters.
pub(crate) fn generated_name(stem: &str, rng: &Rng) -> String {
    let mut name = String::from_utf8_lossy(stem.as_bytes().get(..STEM).unwrap_or(stem.as_bytes())).into_owned();
    for _ in 0..SUFFIX_LENGTH {
        let at = usize::try_from(rng.below(27)).unwrap_or(0);
        name.push(SUFFIX.get(at).copied().map_or('x', char::from));
    }
    name
}

#[cfg(test)]
mod tests {
    use portcullis_kube::names;
    use serde_json::json;

    use super::*;
    use crate::resources::check::same;
    use crate::resources::{self, namespaces, pods, resource_named};
    use crate::schema::{Kind, SCHEMA, TypeId};

    fn create(resource: &Resource, value: Value) -> Members {
        let rng = Rng::seeded(1);
        for_create(resource, value.as_object().unwrap().clone(), "default", &rng, Timestamp::from_unix_seconds(0))
    }

    fn update(resource: &Resource, value: Value, old: &Members) -> Members {
        let next = next_state(resource, value.as_object().unwrap().clone(), old);
        finish_update(resource, Through::Object, next, old)
    }

    #[test]
    fn what_belongs_to_the_server_is_not_taken_from_the_client() {
        let made = create(
            resources::roles(),
            json!({"metadata": {"name": "r", "uid": "mine", "creationTimestamp": "2000-01-01T00:00:00Z", "generation": 9,
                "deletionTimestamp": "2000-01-01T00:00:00Z", "managedFields": [{"manager": "m"}]}}),
        );
        let metadata = made["metadata"].as_object().unwrap();
        assert_ne!(metadata["uid"], "mine");
        assert_eq!(metadata["creationTimestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(metadata["namespace"], "default");
        // Compat: kinds that do not count generations keep what they are given.
        assert_eq!(metadata["generation"], 9);
        for gone in ["deletionTimestamp", "managedFields"] {
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
        let sent = json!({"metadata": {"name": "other", "labels": {"kubernetes.io/metadata.name": "lie", "a": "b"}},
            "spec": {"finalizers": []}, "status": {"phase": "Terminating"}});
        let new = update(namespaces(), sent, &old);
        assert_eq!(new["metadata"]["uid"], old["metadata"]["uid"]);
        assert_eq!(new["metadata"]["labels"], json!({"a": "b", "kubernetes.io/metadata.name": "n"}));
        assert_eq!((&new["spec"], &new["status"]), (&old["spec"], &old["status"]));
    }

    #[test]
    fn an_object_that_is_going_stays_going() {
        let mut old = create(resource_named("configmaps"), json!({"metadata": {"name": "c", "finalizers": ["a/b"]}}));
        old["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
        old["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        let new = update(resource_named("configmaps"), json!({"metadata": {"name": "c", "finalizers": []}}), &old);
        assert_eq!(new["metadata"]["deletionTimestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(new["metadata"]["deletionGracePeriodSeconds"], 0);
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

    /// A tree of that type, of which anything may be empty or missing.
    fn any_members(id: TypeId, depth: usize, rng: &Rng) -> Members {
        let mut out = Members::new();
        for field in SCHEMA.fields(id) {
            match &field.kind {
                Kind::Message(inner) if field.inline => out.extend(any_members(*inner, depth, rng)),
                _ if rng.below(3) > 0 => {}
                kind => drop(out.insert(field.name.to_owned(), any_value(kind, depth, rng))),
            }
        }
        out
    }

    fn any_value(kind: &Kind, depth: usize, rng: &Rng) -> Value {
        let full = depth < 7 && rng.below(2) == 0;
        match kind {
            Kind::String | Kind::Named(_) => json!("x"),
            _ if rng.below(12) == 0 => Value::Null,
            Kind::Int32 | Kind::Int64 | Kind::Float | Kind::IntOrString => json!(rng.below(2)),
            Kind::Bool => json!(full),
            Kind::Quantity => json!(if full { "1" } else { "0" }),
            Kind::Time | Kind::MicroTime => Value::Null,
            Kind::Bytes => json!(""),
            Kind::List(inner) if full => json!([any_value(inner, depth + 1, rng)]),
            Kind::Map(inner) if full => json!({"a": any_value(inner, depth + 1, rng)}),
            Kind::List(_) | Kind::ExtraValue => json!([]),
            Kind::Message(id) if full => Value::Object(any_members(*id, depth + 1, rng)),
            Kind::Map(_) | Kind::Raw | Kind::Fields | Kind::Message(_) => json!({}),
        }
    }

    /// A tree in which plain values that are zero are none.
    fn without_zeros(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), without_zeros(value))).collect()
            }
            Value::Array(items) => items.iter().map(without_zeros).collect(),
            Value::String(text) if text.is_empty() => Value::Null,
            Value::Bool(false) => Value::Null,
            Value::Number(number) if number.as_f64() == Some(0.0) => Value::Null,
            value => value.clone(),
        }
    }

    #[test]
    fn what_is_filled_in_is_compared_as_if_it_had_its_shape() {
        let rng = Rng::seeded(3);
        for resource in resources::ALL.iter().chain(&resources::VIEWS) {
            for _ in 0..100 {
                let mut filled = shape(resource, any_members(resource.schema().unwrap(), 0, &rng));
                fill(resource, &mut filled);
                let shaped = shape(resource, filled.clone());
                let [filled, shaped] = [filled, shaped].map(|members| without_zeros(&Value::Object(members)));
                assert!(same(&filled, &shaped), "{}\n{filled}\n{shaped}", resource.kind);
            }
        }
    }

    #[test]
    fn every_kind_takes_an_empty_body_without_a_fault() {
        for resource in &resources::ALL {
            let made = create(resource, json!({}));
            let _ = validate_create(resource, &made);
            for through in [Through::Object, Through::Status] {
                let next = finish_update(resource, through, next_state(resource, made.clone(), &made), &made);
                let _ = validate_update(resource, through, &next, &made);
            }
        }
    }
}
