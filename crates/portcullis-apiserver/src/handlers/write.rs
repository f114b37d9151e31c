//! Create, update and merge patch, of objects and of their parts.
//!
//! Flow: options → body in its kind's shape → names and namespace → escalation check → strategy (defaults, addresses,
//! validation) → store → what follows from it.
//!
//! Compat: the order of checks and their texts follow `endpoints/handlers` and `registry/generic` of Kubernetes 1.37.

use std::sync::Arc;

use portcullis_kube::Status;
use portcullis_kube::field::FieldError;
use serde_json::{Map, Value};

use super::read::one;
use super::{Asked, no_such_method, store_error};
use crate::deletion::registry;
use crate::engine::Engine;
use crate::http::Outcome;
use crate::http::body::{self, Decoded, Expected};
use crate::http::params::WriteOptions;
use crate::http::reply::Reply;
use crate::policy::{check_create_on_update, check_escalation};
use crate::resources::services::allocate::{self, Taken};
use crate::resources::strategy::Through;
use crate::resources::tree::{Members, string_at};
use crate::resources::{self, SCALE_KIND, Serves, pods, scale, strategy, text};
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
    let decoded = body::decode(asked.call, expected(asked)?, options.field_validation)?;
    create_object(engine, asked, decoded, options)
}

fn create_object(engine: &Engine, asked: &Asked<'_>, decoded: Decoded, options: WriteOptions) -> Outcome<Reply> {
    check_namespace(asked, &decoded.members)?;
    if !text(&decoded.members, &["metadata", "resourceVersion"]).is_empty() {
        return Err(Box::new(Status::failure(500, "", "resourceVersion should not be set on objects to be created")));
    }
    let (policy, place) = (engine.policy.snapshot(), (asked.namespace, asked.name));
    check_escalation(&policy, asked.user, asked.resource, place, &decoded.members, None)?;
    check_namespace_is_there(engine, asked, &text(&decoded.members, &["metadata", "name"]))?;
    let now = engine.clock.now();
    let mut members = strategy::new_object(asked.resource, decoded.members, asked.namespace, &engine.rng, now);
    let of_services = std::ptr::eq(asked.resource, resources::services());
    let turn = of_services.then(|| engine.address_turn());
    if of_services {
        allocate::create(&mut members, &mut Taken::of(&engine.store), &engine.rng)?;
    }
    let members = strategy::finish_create(asked.resource, members);
    let name = text(&members, &["metadata", "name"]);
    let wrong = strategy::validate_create(asked.resource, &members);
    if !wrong.is_empty() {
        return Err(Box::new(Status::invalid(asked.resource.group, asked.resource.kind, &name, &wrong)));
    }
    if !asked.name.is_empty() {
        check_create_on_update(&policy, asked.user, asked.resource, place)?;
    }
    note_pod_security(engine, asked);
    let mut warnings = decoded.warnings;
    warnings.extend((asked.resource.rules.warnings)(&members, None));
    let members = strategy::stored(asked.resource, members);
    let object =
        if options.dry_run { dry_create(engine, asked, members) } else { engine.store.create(asked.resource, members) };
    drop(turn);
    let object = object.map_err(|error| store_error(error, asked.resource, asked.namespace, &name))?;
    if !options.dry_run {
        engine.written(asked.resource, asked.namespace, &name);
        engine.explain(asked.resource, &object);
    }
    let mut reply = one(engine, asked, 201, &object)?;
    reply.warn(&warnings);
    Ok(reply)
}

/// Compat: upstream's admission notes the level that it holds a new pod to. Ours holds it to none, and says so where none is
/// asked for.
fn note_pod_security(engine: &Engine, asked: &Asked<'_>) {
    let (prefix, name) = ("pod-security.kubernetes.io/", asked.namespace);
    let asks = |namespace: &Object| namespace.labels.iter().any(|(key, _)| key.starts_with(prefix));
    let is_pod = std::ptr::eq(asked.resource, pods());
    if is_pod && engine.store.get(resources::namespaces(), "", name).is_some_and(|namespace| !asks(&namespace)) {
        asked.call.audit.annotate("pod-security.kubernetes.io/enforce-policy", "privileged:latest");
    }
}

/// Compat: the namespace is looked at before what is to stand in it.
fn check_namespace_is_there(engine: &Engine, asked: &Asked<'_>, name: &str) -> Outcome<()> {
    if !asked.resource.namespaced {
        return Ok(());
    }
    let error = match engine.store.get(resources::namespaces(), "", asked.namespace) {
        None => StoreError::NoNamespace,
        Some(namespace) if namespace.terminating => StoreError::NamespaceTerminating,
        Some(_) => return Ok(()),
    };
    Err(store_error(error, asked.resource, asked.namespace, name))
}

/// What a create would have given. Its version is not assigned.
fn dry_create(engine: &Engine, asked: &Asked<'_>, members: Members) -> Result<Arc<Object>, StoreError> {
    let name = text(&members, &["metadata", "name"]);
    if engine.store.get(asked.resource, asked.namespace, &name).is_some() {
        return Err(StoreError::Exists);
    }
    Ok(Object::seal(asked.resource, members, 0))
}

/// PUT of an object or of a part of one.
pub(crate) fn update(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let options = WriteOptions::parse(&asked.call.params, "UpdateOptions")?;
    let decoded = body::decode(asked.call, expected(asked)?, options.field_validation)?;
    check_namespace(asked, &decoded.members)?;
    let name = text(&decoded.members, &["metadata", "name"]);
    if name.is_empty() {
        let why = "undeterminable: name must be provided";
        let why = format!("the name of the object ({} based on URL) was {why}", asked.name);
        return Err(Box::new(Status::bad_request(why)));
    }
    if *name != *asked.name {
        let why = format!("the name of the object ({name}) does not match the name on the URL ({})", asked.name);
        return Err(Box::new(Status::bad_request(why)));
    }
    let Some(old) = engine.store.get(asked.resource, asked.namespace, asked.name) else {
        // Compat: objects of some kinds are created by an update.
        if asked.subresource.is_some() || !asked.resource.rules.create_on_update {
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

/// PATCH of an object or of a part of one: RFC 7386 merge patches.
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
    asked.call.audit.request_patch(&asked.call.body);
    if !patch.is_object() {
        return Err(Box::new(Status::bad_request("the merge patch is not a JSON object")));
    }
    let pinned = patch.pointer("/metadata/resourceVersion").is_some();
    for attempt in 1.. {
        let Some(old) = engine.store.get(asked.resource, asked.namespace, asked.name) else { break };
        let mut tree = Value::Object(shown(asked, &old));
        merge(&mut tree, &patch);
        let decoded = body::decode_tree(tree, expected(asked)?, options.field_validation)?;
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
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            registry_key(asked),
            old.uid
        );
        return Err(Box::new(Status::conflict(asked.resource.group_resource(), asked.name, &why)));
    }
    let before = old.members();
    let place = (asked.namespace, asked.name);
    check_escalation(&engine.policy.snapshot(), asked.user, asked.resource, place, &decoded.members, Some(&before))?;
    if version.is_empty() && !asked.resource.rules.unconditional_update {
        let why = FieldError::invalid_json("metadata.resourceVersion", &0, "must be specified for an update");
        // Compat: this one message names the resource where others name the kind.
        return Err(Box::new(Status::invalid(asked.resource.group, asked.resource.plural, asked.name, &[why])));
    }
    if !version.is_empty() && *version != *old.version.to_string() {
        return Err(stale(StoreError::Conflict));
    }
    let sent = whole(asked, decoded.members, &before)?;
    let of_services = std::ptr::eq(asked.resource, resources::services()) && asked.subresource.is_none();
    let turn = of_services.then(|| engine.address_turn());
    let mut members = strategy::next_state(asked.resource, sent, &before);
    if of_services {
        allocate::update(&mut members, &before, &mut Taken::of(&engine.store), &engine.rng)?;
    }
    let members = strategy::finish_update(asked.resource, through(asked), members, &before);
    let wrong = strategy::validate_update(asked.resource, through(asked), &members, &before);
    if !wrong.is_empty() {
        return Err(Box::new(Status::invalid(asked.resource.group, asked.resource.kind, asked.name, &wrong)));
    }
    let mut warnings = decoded.warnings;
    if let Through::Object = through(asked) {
        note_pod_security(engine, asked);
        warnings.extend((asked.resource.rules.warnings)(&members, Some(&before)));
    }
    let members = strategy::stored(asked.resource, members);
    if members == before || options.dry_run {
        return Ok((Object::seal(asked.resource, members, old.version), warnings));
    }
    // Compat: what is going goes with its last finalizer.
    let released = old.terminating && registry::is_free(asked.resource, &members) && registry::is_due(&before);
    let object = if released {
        engine.store.remove(asked.resource, old, Some(members))
    } else {
        engine.store.replace(asked.resource, old, members)
    };
    drop(turn);
    let object = object.map_err(stale)?;
    if released {
        engine.removed(asked.resource, asked.namespace, asked.name);
    } else {
        engine.written(asked.resource, asked.namespace, asked.name);
    }
    Ok((object, warnings))
}

/// Where etcd would keep the object: one message shows it.
pub(super) fn registry_key(asked: &Asked<'_>) -> String {
    let folder = match asked.resource.plural {
        "services" => "services/specs",
        "endpoints" => "services/endpoints",
        "nodes" => "minions",
        "ingresses" => "ingress",
        plural => plural,
    };
    format!("/registry/{folder}/{}", crate::store::object::key(asked.namespace, asked.name))
}

/// The kind that the path takes.
fn expected(asked: &Asked<'_>) -> Outcome<Expected> {
    Expected::at(asked.resource, asked.subresource)
}

/// The part of the object that the path is about.
fn through(asked: &Asked<'_>) -> Through {
    match asked.subresource.map(|part| &part.serves) {
        None | Some(Serves::Scale | Serves::Token | Serves::Log | Serves::PortForward) => Through::Object,
        Some(Serves::Status) => Through::Status,
        Some(Serves::Part(rules)) => Through::Part(rules),
    }
}

/// What a GET of the path shows of an object, as a patch sees it.
fn shown(asked: &Asked<'_>, object: &Object) -> Members {
    match asked.subresource.map(|part| &part.serves) {
        Some(Serves::Scale) => scale::of(&object.members()),
        _ => object.tree(),
    }
}

/// The whole object that a body of the path's kind asks for.
fn whole(asked: &Asked<'_>, sent: Members, before: &Members) -> Outcome<Members> {
    let Some(Serves::Scale) = asked.subresource.map(|part| &part.serves) else { return Ok(sent) };
    let wrong = scale::validate(&sent);
    if wrong.is_empty() {
        return Ok(scale::apply(&sent, before));
    }
    let name = string_at(&sent, &["metadata", "name"]);
    Err(Box::new(Status::invalid(SCALE_KIND.0, SCALE_KIND.2, name, &wrong)))
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
