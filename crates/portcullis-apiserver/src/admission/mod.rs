//! Admission: what kube-apiserver's plugins make of objects that are written, and what they refuse, where it takes other objects or
//! the caller to know it. One file for each plugin; those that are on by default there act here.
//!
//! Flow of a write: body → `change_new` or `change_update` → the kind's rules and validation → `judge_new` or `judge_update` →
//! store. Within each step the plugins come in upstream's order, so that of two refusals the same one is told.
//!
//! Compat: `AllOrderedPlugins` in `pkg/kubeapiserver/options/plugins.go` of Kubernetes 1.37. What `DefaultTolerationSeconds` and
//! `TaintNodesByCondition` do stands with pods and nodes in `resources`, because it takes nothing but the object;
//! `CertificateApproval` and `CertificateSigning` stand with their kind in `handlers::certificates`.

mod amounts;
mod default_ingress_class;
mod default_storage_class;
mod limit_ranger;
mod namespace_lifecycle;
mod persistent_volume_claim_resize;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;

use portcullis_kube::Status;

pub(crate) use self::pod_topology_labels::label_with_place;
use crate::engine::Engine;
use crate::handlers::{Asked, certificates};
use crate::http::Outcome;
use crate::http::body::check_values;
use crate::resources::tree::{Members, at, string_at, text};
use crate::resources::{Resource, ingresses, persistent_volume_claims, pods, priority_classes, strategy};

const RESIZE: &str = "resize";

/// What plugins make of a new object, before its kind's rules do.
pub(crate) fn change_new(engine: &Engine, asked: &Asked<'_>, new: &mut Members) -> Outcome<()> {
    namespace_lifecycle::change_new(engine, asked, told_name(new))?;
    if is(asked, pods()) {
        // Compat: upstream's plugins see an object whose defaults are filled in.
        strategy::fill(asked.resource, new);
        check_values(new)?;
        limit_ranger::change(engine, asked.namespace, new);
        service_account::change_new(engine, asked, new)?;
        priority::change_new(engine, asked, new)?;
        runtime_class::change_new(asked, new)?;
        pod_topology_labels::change_new(engine, new);
    } else if is(asked, persistent_volume_claims()) {
        default_storage_class::change_new(engine, new);
    } else if is(asked, ingresses()) {
        default_ingress_class::change_new(engine, new);
    }
    storage_object_in_use_protection::change_new(asked.resource, new);
    Ok(())
}

/// What plugins make of a body that is sent below an object: its namespace has to be there.
pub(crate) fn change_part(engine: &Engine, asked: &Asked<'_>) -> Outcome<()> {
    namespace_lifecycle::change_new(engine, asked, asked.name)
}

/// What plugins make of what is sent to change an object, before its kind's rules do.
pub(crate) fn change_update(engine: &Engine, asked: &Asked<'_>, sent: &mut Members, old: &Members) {
    let resized = is(asked, pods()) && asked.subresource.is_some_and(|part| part.name == RESIZE);
    if resized && at(old, &["metadata", "deletionTimestamp"]).is_none() {
        strategy::fill(asked.resource, sent);
        limit_ranger::change(engine, asked.namespace, sent);
    }
}

/// What plugins refuse of a new object that is otherwise as it should be, and what they warn of.
pub(crate) fn judge_new(engine: &Engine, asked: &Asked<'_>, new: &Members) -> Outcome<Vec<String>> {
    if is(asked, pods()) {
        limit_ranger::judge_pod(engine, asked, new)?;
        service_account::judge_new(engine, asked, new)?;
    }
    let warnings = pod_security::judge_new(engine, asked, new)?;
    // Whoever is refused by another plugin is told all the same.
    asked.call.note(&warnings);
    if is(asked, pods()) {
        runtime_class::judge_new(asked, new)?;
    } else if is(asked, persistent_volume_claims()) {
        limit_ranger::judge_claim(engine, asked, new)?;
    } else if is(asked, priority_classes()) {
        priority::judge_class(engine, asked, new)?;
    }
    certificates::check_subject(asked, new)?;
    Ok(warnings)
}

/// What plugins refuse of an object's new state that is otherwise as it should be, and what they warn of.
pub(crate) fn judge_update(engine: &Engine, asked: &Asked<'_>, new: &Members, old: &Members) -> Outcome<Vec<String>> {
    let part = asked.subresource.map(|part| part.name);
    match part {
        None if is(asked, persistent_volume_claims()) => {
            if at(old, &["metadata", "deletionTimestamp"]).is_none() {
                limit_ranger::judge_claim(engine, asked, new)?;
            }
            persistent_volume_claim_resize::judge_update(engine, asked, new, old)?;
        }
        None if is(asked, priority_classes()) => priority::judge_class(engine, asked, new)?,
        Some(RESIZE) if is(asked, pods()) && at(old, &["metadata", "deletionTimestamp"]).is_none() => {
            limit_ranger::judge_pod(engine, asked, new)?;
        }
        Some("ephemeralcontainers") if is(asked, pods()) => service_account::judge_ephemeral(engine, asked, new)?,
        _ => {}
    }
    pod_security::judge_update(engine, asked, new, old)
}

/// The name of the newest object that an annotation says is the default; of two of the same second, the first by name.
fn newest_marked(engine: &Engine, resource: &'static Resource, marks: &[&str]) -> Option<Box<str>> {
    let all = engine.store.all(resource, "").into_iter().map(|object| object.members());
    let marked =
        all.filter(|class| marks.iter().any(|mark| string_at(class, &["metadata", "annotations", *mark]) == "true"));
    // Times of one form are in the order of their texts; names come in order.
    let newest = marked.reduce(|best, next| {
        let since = |class| string_at(class, &["metadata", "creationTimestamp"]);
        if since(&next) > since(&best) { next } else { best }
    });
    newest.map(|class| text(&class, &["metadata", "name"]))
}

fn is(asked: &Asked<'_>, resource: &'static Resource) -> bool {
    std::ptr::eq(asked.resource, resource)
}

/// What a refusal calls a new object: its name, or the beginning of the one that it would have got.
fn told_name(new: &Members) -> &str {
    match string_at(new, &["metadata", "name"]) {
        "" => string_at(new, &["metadata", "generateName"]),
        name => name,
    }
}

/// The 403 of a plugin about the object of that name. Compat: `extractResourceName`.
fn refusal(asked: &Asked<'_>, name: &str, why: &str) -> Box<Status> {
    let name = if name.is_empty() { "Unknown" } else { name };
    Box::new(Status::forbidden(asked.resource.group_resource(), name, why))
}

/// The 403 of a plugin about an object.
fn refuse(asked: &Asked<'_>, object: &Members, why: &str) -> Outcome<()> {
    Err(refusal(asked, told_name(object), why))
}
