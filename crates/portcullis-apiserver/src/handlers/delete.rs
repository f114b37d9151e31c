//! DELETE of objects and of collections.
//!
//! Compat: `registry/rest/delete.go`: options from the body, or from the query when the body is empty; preconditions;
//! finalizers keep an object as terminating; a namespace terminates first and goes when it is empty; a pod's answer is the pod.

use std::sync::Arc;

use portcullis_kube::Status;
use portcullis_kube::field::FieldError;
use portcullis_kube::go::quote;
use portcullis_kube::status::GroupResource;
use serde_json::{Value, json};

use super::read::{objects, one, selection};
use super::{Asked, no_such_method, store_error};
use crate::engine::Engine;
use crate::http::Outcome;
use crate::http::body::{self, Expected};
use crate::http::params::{FieldValidation, check_dry_run, dry_run, invalid};
use crate::http::reply::Reply;
use crate::resources::tree::object;
use crate::resources::{self, Resource, namespaces, priority_classes, strategy};
use crate::schema::SCHEMA;
use crate::store::StoreError;
use crate::store::object::Object;

/// Attempts against parallel changes.
const ATTEMPTS: usize = 5;

#[derive(Debug, Default)]
struct DeleteOptions {
    dry_run: bool,
    uid: Option<String>,
    version: Option<String>,
}

/// DELETE of one object.
pub(crate) fn delete(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let options = options(asked)?;
    if std::ptr::eq(asked.resource, namespaces()) && namespaces::IMMORTAL.contains(&asked.name) {
        let what = asked.resource.group_resource();
        return Err(Box::new(Status::forbidden(what, asked.name, "this namespace may not be deleted")));
    }
    if std::ptr::eq(asked.resource, priority_classes()) && priority_classes::is_of_the_system(asked.name) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Box::new(Status::forbidden(asked.resource.group_resource(), asked.name, why)));
    }
    for attempt in 1.. {
        let old = engine.store.get(asked.resource, asked.namespace, asked.name);
        let old = old.ok_or_else(|| store_error(StoreError::NotFound, asked.resource, asked.namespace, asked.name))?;
        check_preconditions(asked, &options, &old)?;
        match delete_once(engine, asked.resource, &old, options.dry_run) {
            Err(StoreError::Conflict) if attempt < ATTEMPTS => {}
            Err(error) => return Err(store_error(error, asked.resource, asked.namespace, asked.name)),
            Ok(Deleted::Gone(last)) if !asked.resource.rules.returns_deleted => {
                let status = Status::deleted(asked.resource.group_resource(), asked.name, &last.uid);
                return Ok(Reply::status(&status, asked.accepted.encoding));
            }
            Ok(Deleted::Gone(last) | Deleted::Terminating(last)) => return one(engine, asked, 200, &last),
        }
    }
    Err(store_error(StoreError::Conflict, asked.resource, asked.namespace, asked.name))
}

/// DELETE of a collection: what the selectors find.
pub(crate) fn delete_collection(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    if asked.resource.namespaced && asked.namespace.is_empty() {
        return Err(no_such_method());
    }
    let selection = selection(asked)?;
    let options = options(asked)?;
    let found: Vec<Arc<Object>> = engine
        .store
        .all(asked.resource, asked.namespace)
        .into_iter()
        .filter(|object| selection.matches(object))
        .collect();
    for object in &found {
        // One that has changed or gone meanwhile is not the one that was selected.
        let _ = delete_once(engine, asked.resource, object, options.dry_run);
    }
    let meta = json!({"resourceVersion": engine.store.version().to_string()});
    let bytes = objects(asked.resource.kind, &asked.resource.api_version(), &meta, &found);
    Ok(Reply::json_bytes(200, bytes, asked.accepted.encoding))
}

enum Deleted {
    Gone(Arc<Object>),
    Terminating(Arc<Object>),
}

fn delete_once(
    engine: &Engine,
    resource: &'static Resource,
    old: &Arc<Object>,
    dry: bool,
) -> Result<Deleted, StoreError> {
    let now = engine.clock.now();
    let is_namespace = std::ptr::eq(resource, namespaces());
    let members = old.members();
    let finalizers = resources::at(&members, &["metadata", "finalizers"]).and_then(Value::as_array);
    if is_namespace || finalizers.is_some_and(|finalizers| !finalizers.is_empty()) {
        if old.terminating {
            return Ok(Deleted::Terminating(Arc::clone(old)));
        }
        let marked = if is_namespace {
            let mut marked = namespaces::marked(members, now);
            object(&mut marked, "status").insert("phase".to_owned(), json!("Terminating"));
            marked
        } else {
            strategy::ending(members, now)
        };
        let marked = strategy::shape(resource, marked);
        if dry {
            return Ok(Deleted::Terminating(Object::seal(resource, marked, old.version)));
        }
        let terminating = engine.store.replace(resource, old, marked)?;
        if is_namespace {
            engine.finish_namespace(&old.name);
        }
        return Ok(Deleted::Terminating(terminating));
    }
    // Nothing runs a user's pod, so it goes without a grace period.
    let last = if resource.kind == "Pod" { strategy::shape(resource, strategy::ending(members, now)) } else { members };
    if dry {
        return Ok(Deleted::Gone(Object::seal(resource, last, old.version)));
    }
    let gone = engine.store.remove(resource, old, Some(last))?;
    engine.written(resource, &old.namespace, &old.name);
    engine.finish_namespace(&old.namespace);
    engine.restart_part(resource, &old.namespace, &old.name);
    Ok(Deleted::Gone(gone))
}

fn options(asked: &Asked<'_>) -> Outcome<DeleteOptions> {
    let mut wrong = Vec::new();
    let mut options = DeleteOptions::default();
    let policy;
    if asked.call.body.is_empty() {
        let params = &asked.call.params;
        options.dry_run = dry_run(params, &mut wrong);
        policy = params.get("propagationPolicy").to_owned();
        params.number("gracePeriodSeconds")?;
    } else {
        let schema = SCHEMA.find("meta.DeleteOptions").ok_or_else(|| Box::new(Status::internal_error("no schema")))?;
        // Compat: `DeleteOptions` is accepted under `v1`, its own group, and the resource's group.
        let (group, version) = delete_options_version(asked);
        let expected = Expected { group, version, kind: "DeleteOptions", schema };
        let members = body::decode(asked.call, expected, FieldValidation::Ignore)?.members;
        let text = |path: &[&str]| resources::at(&members, path).and_then(Value::as_str).map(str::to_owned);
        options.uid = text(&["preconditions", "uid"]);
        options.version = text(&["preconditions", "resourceVersion"]);
        policy = text(&["propagationPolicy"]).unwrap_or_default();
        let values = members.get("dryRun").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        options.dry_run = check_dry_run(&values, &mut wrong);
    }
    if !matches!(policy.as_str(), "" | "Foreground" | "Background" | "Orphan") {
        let supported = ["Foreground", "Background", "Orphan", "nil"];
        wrong.push(FieldError::not_supported("propagationPolicy", &policy, &supported));
    }
    invalid("DeleteOptions", &wrong)?;
    Ok(options)
}

fn delete_options_version(asked: &Asked<'_>) -> (&'static str, &'static str) {
    let sent = serde_json::from_slice::<Value>(&asked.call.body).ok();
    let sent = sent.as_ref().and_then(|body| body.get("apiVersion")).and_then(Value::as_str).unwrap_or_default();
    match sent {
        "meta.k8s.io/v1" => ("meta.k8s.io", "v1"),
        sent if sent == asked.resource.api_version() => (asked.resource.group, asked.resource.version),
        _ => ("", "v1"),
    }
}

fn check_preconditions(asked: &Asked<'_>, options: &DeleteOptions, object: &Object) -> Outcome<()> {
    let conflict = |why: String| {
        // Compat: this one message names the kind where others name the resource.
        let what = GroupResource::new(asked.resource.group, asked.resource.kind);
        Err(Box::new(Status::conflict(what, asked.name, &why)))
    };
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != &*object.uid) {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). \
             The object might have been deleted and then recreated",
            object.uid
        ));
    }
    if let Some(version) = options.version.as_deref().filter(|version| **version != *object.version.to_string()) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            object.version
        ));
    }
    tracing::debug!(name = %quote(asked.name), kind = asked.resource.kind, "delete");
    Ok(())
}
