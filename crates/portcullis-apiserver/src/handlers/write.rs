//! Create, update and merge patch.
//!
//! Flow: options → body in its kind's shape → names and namespace → escalation check → strategy (defaults, validation) →
//! store → policy, namespaces and pods follow.
//!
//! Compat: the order of checks and their texts follow `endpoints/handlers` and `registry/generic` of Kubernetes 1.37.

use std::sync::Arc;

use portcullis_kube::Status;
use serde_json::{Map, Value};

use super::read::one;
use super::{Asked, no_such_method, store_error};
use crate::engine::Engine;
use crate::http::Outcome;
use crate::http::body::{self, Decoded, Expected};
use crate::http::params::WriteOptions;
use crate::http::reply::Reply;
use crate::policy::{check_create_on_update, check_escalation};
use crate::resources::{pods, strategy, text};
use crate::store::StoreError;
use crate::store::object::Object;

/// Changes by others that a patch without a version puts up with.
const PATCH_ATTEMPTS: usize = 5;

/// POST to a collection.
pub(crate) fn create(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    if !asked.name.is_empty() || (asked.resource.namespaced && asked.namespace.is_empty()) {
        return Err(no_such_method());
    }
    let options = WriteOptions::parse(&asked.call.params, "CreateOptions")?;
    let decoded = body::decode(asked.call, Expected::of(asked.resource)?, options.field_validation)?;
    create_object(engine, asked, decoded, options)
}

fn create_object(engine: &Engine, asked: &Asked<'_>, decoded: Decoded, options: WriteOptions) -> Outcome<Reply> {
    check_namespace(asked, &decoded.members)?;
    if !text(&decoded.members, &["metadata", "resourceVersion"]).is_empty() {
        return Err(Box::new(Status::failure(500, "", "resourceVersion should not be set on objects to be created")));
    }
    let (policy, place) = (engine.policy.snapshot(), (asked.namespace, asked.name));
    check_escalation(&policy, asked.user, asked.resource, place, &decoded.members, None)?;
    let now = engine.clock.now();
    let members = strategy::for_create(asked.resource, decoded.members, asked.namespace, &engine.rng, now);
    let name = text(&members, &["metadata", "name"]);
    let wrong = strategy::validate_create(asked.resource, &members);
    if !wrong.is_empty() {
        return Err(Box::new(Status::invalid(asked.resource.group, asked.resource.kind, &name, &wrong)));
    }
    if !asked.name.is_empty() {
        check_create_on_update(&policy, asked.user, asked.resource, place)?;
    }
    let object =
        if options.dry_run { dry_create(engine, asked, members) } else { engine.store.create(asked.resource, members) };
    let object = object.map_err(|error| store_error(error, asked.resource, asked.namespace, &name))?;
    if !options.dry_run {
        engine.written(asked.resource, asked.namespace, &name);
        if asked.resource.kind == "Pod" {
            engine.explain_pending(&object);
        }
    }
    let mut reply = one(engine, asked, 201, &object)?;
    reply.warn(&decoded.warnings);
    Ok(reply)
}

/// What a create would have given. Its version is not assigned.
fn dry_create(engine: &Engine, asked: &Asked<'_>, members: Map<String, Value>) -> Result<Arc<Object>, StoreError> {
    let name = text(&members, &["metadata", "name"]);
    if engine.store.get(asked.resource, asked.namespace, &name).is_some() {
        return Err(StoreError::Exists);
    }
    if asked.resource.namespaced && engine.store.get(crate::resources::namespaces(), "", asked.namespace).is_none() {
        return Err(StoreError::NoNamespace);
    }
    Ok(Object::seal(asked.resource, members, 0))
}

/// PUT of an object.
pub(crate) fn update(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let options = WriteOptions::parse(&asked.call.params, "UpdateOptions")?;
    let decoded = body::decode(asked.call, Expected::of(asked.resource)?, options.field_validation)?;
    check_namespace(asked, &decoded.members)?;
    let name = text(&decoded.members, &["metadata", "name"]);
    if name.is_empty() {
        return Err(Box::new(Status::bad_request("name must be provided")));
    }
    if *name != *asked.name {
        let why = format!("the name of the object ({name}) does not match the name on the URL ({})", asked.name);
        return Err(Box::new(Status::bad_request(why)));
    }
    let Some(old) = engine.store.get(asked.resource, asked.namespace, asked.name) else {
        // Compat: RBAC objects are created by an update, other kinds are not.
        if asked.resource.group != portcullis_kube::rbac::GROUP {
            return Err(store_error(StoreError::NotFound, asked.resource, asked.namespace, asked.name));
        }
        let mut decoded = decoded;
        if let Some(Value::Object(metadata)) = decoded.members.get_mut("metadata") {
            metadata.shift_remove("resourceVersion");
        }
        return create_object(engine, asked, decoded, options);
    };
    let (object, warnings) = replace(engine, asked, &old, decoded, options)?;
    let mut reply = one(engine, asked, 200, &object)?;
    reply.warn(&warnings);
    Ok(reply)
}

/// PATCH of an object: RFC 7386 merge patches.
pub(crate) fn patch(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let media_type = asked.call.header(http::header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    if media_type != "application/merge-patch+json" {
        let mut status = Status::failure(415, "UnsupportedMediaType", "415: Unsupported Media Type");
        status.details = Some(Box::default());
        return Err(Box::new(status));
    }
    let options = WriteOptions::parse(&asked.call.params, "PatchOptions")?;
    let patch =
        crate::json::parse(&asked.call.body).map_err(|error| Box::new(Status::bad_request(error.to_string())))?.value;
    if !patch.is_object() {
        return Err(Box::new(Status::bad_request("the merge patch is not a JSON object")));
    }
    let pinned = patch.pointer("/metadata/resourceVersion").is_some();
    for attempt in 1.. {
        let Some(old) = engine.store.get(asked.resource, asked.namespace, asked.name) else { break };
        let mut tree = Value::Object(old.tree());
        merge(&mut tree, &patch);
        let decoded = body::decode_tree(tree, Expected::of(asked.resource)?, options.field_validation)?;
        check_namespace(asked, &decoded.members)?;
        match replace(engine, asked, &old, decoded, options) {
            Err(status) if status.code == 409 && !pinned && attempt < PATCH_ATTEMPTS => {}
            Err(status) => return Err(status),
            Ok((object, warnings)) => {
                let mut reply = one(engine, asked, 200, &object)?;
                reply.warn(&warnings);
                return Ok(reply);
            }
        }
    }
    Err(store_error(StoreError::NotFound, asked.resource, asked.namespace, asked.name))
}

fn replace(
    engine: &Engine,
    asked: &Asked<'_>,
    old: &Object,
    decoded: Decoded,
    options: WriteOptions,
) -> Outcome<(Arc<Object>, Vec<String>)> {
    let stale = |error| store_error(error, asked.resource, asked.namespace, asked.name);
    let metadata = |name: &str| text(&decoded.members, &["metadata", name]);
    let (version, uid) = (metadata("resourceVersion"), metadata("uid"));
    if !uid.is_empty() && uid != old.uid {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.uid);
        return Err(Box::new(Status::conflict(asked.resource.group_resource(), asked.name, &why)));
    }
    let before = old.members();
    let place = (asked.namespace, asked.name);
    check_escalation(&engine.policy.snapshot(), asked.user, asked.resource, place, &decoded.members, Some(&before))?;
    if !version.is_empty() && *version != *old.version.to_string() {
        return Err(stale(StoreError::Conflict));
    }
    let members = strategy::for_update(asked.resource, decoded.members, &before);
    let wrong = strategy::validate_update(asked.resource, &members, &before);
    if !wrong.is_empty() {
        return Err(Box::new(Status::invalid(asked.resource.group, asked.resource.kind, asked.name, &wrong)));
    }
    let warnings = decoded.warnings;
    if members == before || options.dry_run {
        return Ok((Object::seal(asked.resource, members, old.version), warnings));
    }
    let finalizers = crate::resources::at(&members, &["metadata", "finalizers"]).and_then(Value::as_array);
    let released = old.terminating
        && finalizers.is_none_or(Vec::is_empty)
        && !std::ptr::eq(asked.resource, crate::resources::namespaces());
    let object = if released {
        engine.store.remove(asked.resource, old, Some(members))
    } else {
        engine.store.replace(asked.resource, old, members)
    };
    let object = object.map_err(stale)?;
    engine.written(asked.resource, asked.namespace, asked.name);
    if released {
        engine.finish_namespace(asked.namespace);
        engine.restart_part(asked.resource, asked.namespace, asked.name);
    }
    Ok((object, warnings))
}

/// The namespace of a body is that of the path, or absent.
fn check_namespace(asked: &Asked<'_>, members: &Map<String, Value>) -> Outcome<()> {
    let sent = text(members, &["metadata", "namespace"]);
    if asked.resource.namespaced && !sent.is_empty() && *sent != *asked.namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Box::new(Status::bad_request(why)));
    }
    Ok(())
}

/// RFC 7386 section 2. The depth of both trees is bounded by how they were read.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        patch.clone_into(target);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.shift_remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

impl Engine {
    /// Says on the pod and in an event why a user's pod stays Pending.
    pub(crate) fn explain_pending(&self, pod: &Object) {
        let now = self.clock.now();
        let mut members = pod.members();
        pods::mark_unschedulable(&mut members, &now.rfc3339());
        let members = strategy::shape(pods(), members);
        // Lost to a parallel change: the event still says it.
        let _ = self.store.replace(pods(), pod, members);
        self.record(pods(), pod, "Warning", "FailedScheduling", pods::NOTHING_RUNS);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of RFC 7386 appendix A.
    #[test]
    fn merge_patches_do_what_the_rfc_shows() {
        for (target, patch, want) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, want, "{target} + {patch}");
        }
    }
}
