//! What a deletion does to one object.
//!
//! Flow: preconditions → grace (pods have it) → finalizers that ask for what becomes of the dependants → the object is marked
//! and stays while finalizers or its grace hold it, or goes.
//!
//! Compat: `registry/rest/delete.go`, `registry/generic/registry/store.go`, and for namespaces `registry/core/namespace`.

use std::sync::Arc;

use portcullis_kube::Status;
use portcullis_kube::go::quote;
use portcullis_kube::status::GroupResource;
use portcullis_runtime::Timestamp;
use serde_json::{Value, json};

use super::Refusal;
use super::options::{DeleteOptions, Policy};
use crate::engine::Engine;
use crate::resources::rules::Collected;
use crate::resources::tree::{Members, at, list_at, object, string_at};
use crate::resources::{Resource, namespaces, pods, priority_classes, strategy};
use crate::store::object::{FOREGROUND, ORPHAN, Object};

/// What became of an object.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// It is gone; this was its last state.
    Gone(Arc<Object>),
    /// It stays for now.
    Terminating(Arc<Object>),
}

/// How long a pod may take.
enum Grace {
    /// The kind has none, or it is over.
    None,
    /// It is ending already, and no sooner.
    Pending,
    Seconds(i64),
}

/// Deletes an object that is still as `old`.
pub(crate) fn delete(
    engine: &Engine,
    resource: &'static Resource,
    old: &Arc<Object>,
    options: &DeleteOptions,
) -> Result<Deleted, Refusal> {
    admit(resource, &old.name)?;
    let now = engine.clock.now();
    let before = old.members();
    if std::ptr::eq(resource, namespaces()) {
        check_namespace(options, old)?;
        if !old.terminating {
            let marked = mark_namespace(before, options, now);
            return write(engine, resource, old, marked, options.dry_run).map(Deleted::Terminating);
        }
        if !list_at(&before, &["spec", "finalizers"]).is_empty() {
            return Ok(Deleted::Terminating(Arc::clone(old)));
        }
    }
    check_preconditions(resource, options, old)?;
    let mut members = before.clone();
    let grace = if std::ptr::eq(resource, pods()) { grace(&mut members, options, now) } else { Grace::None };
    if let Grace::Pending = grace {
        return Ok(Deleted::Terminating(Arc::clone(old)));
    }
    let finalizers = finalizers(resource, &before, options);
    let held = !finalizers.is_empty();
    object(&mut members, "metadata").insert("finalizers".to_owned(), Value::from(finalizers));
    match grace {
        Grace::Seconds(0) if !held => {
            let last = write(engine, resource, old, members, options.dry_run)?;
            remove(engine, resource, &last, options.dry_run)
        }
        Grace::Seconds(_) => write(engine, resource, old, members, options.dry_run).map(Deleted::Terminating),
        Grace::None | Grace::Pending if held => {
            mark(&mut members, now);
            write(engine, resource, old, members, options.dry_run).map(Deleted::Terminating)
        }
        Grace::None | Grace::Pending => remove(engine, resource, old, options.dry_run),
    }
}

/// Whether no finalizers hold an object in that state.
pub(crate) fn is_free(resource: &Resource, members: &Members) -> bool {
    let of_namespace = std::ptr::eq(resource, namespaces()) && !list_at(members, &["spec", "finalizers"]).is_empty();
    list_at(members, &["metadata", "finalizers"]).is_empty() && !of_namespace
}

/// Whether an object that is to go has no time left.
pub(crate) fn is_due(members: &Members) -> bool {
    at(members, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0) == 0
}

/// Compat: the admission plugins `NamespaceLifecycle` and `Priority`.
fn admit(resource: &Resource, name: &str) -> Result<(), Refusal> {
    let why = if std::ptr::eq(resource, namespaces()) && namespaces::IMMORTAL.contains(&name) {
        "this namespace may not be deleted"
    } else if std::ptr::eq(resource, priority_classes()) && priority_classes::is_of_the_system(name) {
        "this is a system priority class and cannot be deleted"
    } else {
        return Ok(());
    };
    Err(Refusal::Answer(Box::new(Status::forbidden(resource.group_resource(), name, why))))
}

/// Whether the object is the one that is meant.
pub(crate) fn check_preconditions(
    resource: &Resource,
    options: &DeleteOptions,
    object: &Object,
) -> Result<(), Refusal> {
    let conflict = |why: String| {
        // Compat: this one message names the kind where others name the resource.
        let what = GroupResource::new(resource.group, resource.kind);
        Err(Refusal::Answer(Box::new(Status::conflict(what, &object.name, &why))))
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
    tracing::debug!(name = %quote(&object.name), kind = resource.kind, "delete");
    Ok(())
}

/// Compat: namespaces have words of their own for that.
fn check_namespace(options: &DeleteOptions, object: &Object) -> Result<(), Refusal> {
    let conflict = |what: &str, wanted: &str, is: &str| {
        let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}");
        let resource = namespaces().group_resource();
        Err(Refusal::Answer(Box::new(Status::conflict(resource, &object.name, &why))))
    };
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != &*object.uid) {
        return conflict("UID", uid, &object.uid);
    }
    let version = object.version.to_string();
    match options.version.as_deref().filter(|wanted| *wanted != version) {
        Some(wanted) => conflict("ResourceVersion", wanted, &version),
        None => Ok(()),
    }
}

fn mark_namespace(mut members: Members, options: &DeleteOptions, now: Timestamp) -> Members {
    let metadata = object(&mut members, "metadata");
    metadata.insert("deletionTimestamp".to_owned(), Value::String(now.rfc3339()));
    let mut finalizers = list_at(metadata, &["finalizers"]).to_vec();
    for (name, policy) in [(ORPHAN, Policy::Orphan), (FOREGROUND, Policy::Foreground)] {
        let there = finalizers.iter().any(|finalizer| finalizer == name);
        let wanted = match (options.orphan, options.policy) {
            (Some(orphan), _) => orphan == (name == ORPHAN),
            (None, Some(wanted)) => wanted == policy,
            (None, None) => there,
        };
        if there && !wanted {
            finalizers.retain(|finalizer| finalizer != name);
        } else if wanted && !there {
            finalizers.push(json!(name));
        }
    }
    metadata.insert("finalizers".to_owned(), Value::Array(finalizers));
    object(&mut members, "status").insert("phase".to_owned(), json!("Terminating"));
    members
}

/// Marks a pod, and says how long it has. Compat: `BeforeDelete` and the pods' `CheckGracefulDelete`.
fn grace(members: &mut Members, options: &DeleteOptions, now: Timestamp) -> Grace {
    let wanted = options.grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let given = at(members, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    let given = given.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let since = Timestamp::parse_rfc3339(string_at(members, &["metadata", "deletionTimestamp"]));
    if let Some(end) = since {
        let Some(given) = given.filter(|given| *given != 0) else { return Grace::None };
        // Only a shorter time may be asked for.
        let Some(mut seconds) = wanted.filter(|wanted| *wanted < given) else { return Grace::Pending };
        let mut end = end.unix_seconds().saturating_sub(given).saturating_add(seconds);
        if end < now.unix_seconds() {
            end = now.unix_seconds();
            seconds = seconds.min(1);
        }
        set_end(members, end, seconds);
        return Grace::Seconds(seconds);
    }
    let scheduled = !string_at(members, &["spec", "nodeName"]).is_empty();
    let ended = matches!(string_at(members, &["status", "phase"]), "Failed" | "Succeeded");
    let own = at(members, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0);
    let seconds = match wanted.unwrap_or(own) {
        _ if !scheduled || ended => 0,
        seconds if seconds < 0 => 1,
        seconds => seconds,
    };
    count_generation(members);
    set_end(members, now.unix_seconds().saturating_add(seconds), seconds);
    Grace::Seconds(seconds)
}

/// Marks an object that finalizers hold.
fn mark(members: &mut Members, now: Timestamp) {
    let since = Timestamp::parse_rfc3339(string_at(members, &["metadata", "deletionTimestamp"]));
    if since.is_none() {
        count_generation(members);
    }
    let end = since.map_or(now.unix_seconds(), |since| since.unix_seconds().min(now.unix_seconds()));
    set_end(members, end, 0);
}

fn set_end(members: &mut Members, end: i64, seconds: i64) {
    let metadata = object(members, "metadata");
    let end = Timestamp::from_unix_seconds(end).rfc3339();
    metadata.insert("deletionTimestamp".to_owned(), Value::String(end));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
}

/// Compat: the generation, where there is one, counts the beginning of the end.
fn count_generation(members: &mut Members) {
    let metadata = object(members, "metadata");
    let generation = metadata.get("generation").and_then(Value::as_i64).filter(|generation| *generation > 0);
    if let Some(generation) = generation {
        metadata.insert("generation".to_owned(), generation.saturating_add(1).into());
    }
}

/// The finalizers with which the object goes on. Compat: `deletionFinalizersForGarbageCollection`.
fn finalizers(resource: &Resource, before: &Members, options: &DeleteOptions) -> Vec<Value> {
    let there = list_at(before, &["metadata", "finalizers"]);
    let has = |name: &str| there.iter().any(|finalizer| finalizer == name);
    let (orphan, foreground) = match (resource.rules.collected, options.orphan, options.policy) {
        (Collected::Never, ..) => (false, false),
        (_, Some(orphan), _) => (orphan, false),
        (_, None, Some(policy)) => (policy == Policy::Orphan, policy == Policy::Foreground),
        // Compat: of two finalizers that exclude each other the first counts; validation keeps one from having both.
        (_, None, None) if has(ORPHAN) => (true, false),
        (_, None, None) if has(FOREGROUND) => (false, true),
        (collected, None, None) => (collected == Collected::LeavesDependants, false),
    };
    if orphan == has(ORPHAN) && foreground == has(FOREGROUND) {
        return there.to_vec();
    }
    let others = there.iter().filter(|finalizer| *finalizer != ORPHAN && *finalizer != FOREGROUND);
    let asked = [(orphan, ORPHAN), (foreground, FOREGROUND)];
    others.cloned().chain(asked.iter().filter(|(set, _)| *set).map(|(_, name)| json!(name))).collect()
}

/// Stores a new state, unless nothing has changed.
fn write(
    engine: &Engine,
    resource: &'static Resource,
    old: &Arc<Object>,
    members: Members,
    dry_run: bool,
) -> Result<Arc<Object>, Refusal> {
    let members = strategy::shape(resource, members);
    if dry_run {
        return Ok(Object::seal(resource, members, old.version));
    }
    if members == old.members() {
        return Ok(Arc::clone(old));
    }
    let object = engine.store.replace(resource, old, members)?;
    engine.written(resource, &old.namespace, &old.name);
    Ok(object)
}

fn remove(engine: &Engine, resource: &'static Resource, old: &Arc<Object>, dry_run: bool) -> Result<Deleted, Refusal> {
    if dry_run {
        return Ok(Deleted::Gone(Arc::clone(old)));
    }
    let gone = engine.store.remove(resource, old)?;
    engine.removed(resource, &old.namespace, &old.name);
    Ok(Deleted::Gone(gone))
}
