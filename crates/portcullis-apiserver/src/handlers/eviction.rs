//! `pods/eviction`: a pod goes, unless that would break its disruption budget.
//!
//! Flow: options → body → the pod → its budget counts it, or says that it has to wait (429) → the condition
//! `DisruptionTarget` → a deletion with the options of the body.
//!
//! Compat: `pkg/registry/core/pod/storage/eviction.go` of Kubernetes 1.37.

use std::sync::Arc;

use portcullis_kube::Status;
use portcullis_kube::field::FieldError;
use serde_json::json;

use super::{Asked, store_error, write};
use crate::deletion::Refusal;
use crate::deletion::options::{DeleteOptions, Sent, UNREADABLE};
use crate::deletion::registry;
use crate::engine::Engine;
use crate::http::params::WriteOptions;
use crate::http::reply::Reply;
use crate::http::{Outcome, body};
use crate::resources::check::labels;
use crate::resources::disruption_budgets::{self as budgets, Verdict};
use crate::resources::strategy::{self, Through};
use crate::resources::tree::{Members, at, list_at, members_at, object, string, string_at};
use crate::resources::{self, pods};
use crate::store::StoreError;
use crate::store::object::Object;

/// Attempts against parallel changes. Compat: upstream tries 20 times, half a second apart.
const ATTEMPTS: usize = 20;
const SEVERAL: &str =
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";

/// POST of an eviction.
pub(crate) fn create(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let options = WriteOptions::parse(&asked.call.params, "CreateOptions")?;
    let decoded = body::decode(asked.call, write::expected(asked)?, options.field_validation)?;
    write::admit_part(engine, asked, &decoded.members)?;
    let eviction = &decoded.members;
    if string_at(eviction, &["metadata", "name"]) != asked.name {
        return Err(Box::new(Status::bad_request("name in URL does not match name in Eviction object")));
    }
    let sent = Sent::of(members_at(eviction, &["deleteOptions"]));
    if sent.unreadable {
        let why = "can not be set for pod eviction, try after removing the option";
        let path = format!("deleteOptions.{UNREADABLE}");
        let wrong = [FieldError::invalid_json(path, &true, why)];
        return Err(Box::new(Status::invalid("policy", "Eviction", asked.name, &wrong)));
    }
    let sent = with_dry_run(sent, asked)?;
    evict(engine, asked, &sent)?;
    let mut reply = Reply::status(&write::done(), asked.accepted.encoding);
    reply.warn(&decoded.warnings);
    Ok(reply)
}

/// The query and the body may both ask for a dry run, but not differently.
fn with_dry_run(mut sent: Sent, asked: &Asked<'_>) -> Outcome<Sent> {
    let query: Vec<String> = asked.call.params.all("dryRun").map(str::to_owned).collect();
    if sent.dry_run.is_empty() {
        sent.dry_run = query;
    } else if !query.is_empty() && query != sent.dry_run {
        let (query, body) = (query.join(" "), sent.dry_run.join(" "));
        let why = format!("Non-matching dry-run options in request and content: [{query}] and [{body}]");
        return Err(Box::new(Status::failure(500, "", why)));
    }
    Ok(sent)
}

fn evict(engine: &Engine, asked: &Asked<'_>, sent: &Sent) -> Outcome<()> {
    let mut counted = None;
    for _ in 0..ATTEMPTS {
        let pod = pod(engine, asked)?;
        let members = pod.members();
        let phase = string_at(&members, &["status", "phase"]);
        let over = pod.terminating || matches!(phase, "Succeeded" | "Failed");
        // Compat: a pod that disturbs nobody may go; one that has not begun only as long as it has not.
        let guarded = !over && phase != "Pending";
        if guarded && counted.is_none() {
            counted = Some(count(engine, asked, &pod, sent)?);
        }
        let unready = counted.iter().flatten().next();
        let mut wanted = sent.clone();
        if wanted.version.is_none() && (unready.is_some() || (!guarded && !over)) {
            wanted.version = Some(pod.version.to_string());
        }
        match remove(engine, &pod, &wanted) {
            Ok(()) => return Ok(()),
            // Someone else has changed it meanwhile.
            Err(Refusal::Store(StoreError::Conflict)) => {}
            Err(Refusal::Store(error)) => return Err(store_error(error, pods(), asked.namespace, asked.name)),
            Err(Refusal::Answer(status)) => return Err(status),
        }
        if let Some(budget) = unready.filter(|_| sent.version.is_none()) {
            return Err(budgets::unprocessed(budget));
        }
    }
    Err(store_error(StoreError::Conflict, pods(), asked.namespace, asked.name))
}

fn pod(engine: &Engine, asked: &Asked<'_>) -> Outcome<Arc<Object>> {
    let pod = engine.store.get(pods(), asked.namespace, asked.name);
    pod.ok_or_else(|| store_error(StoreError::NotFound, pods(), asked.namespace, asked.name))
}

/// Lets the pod's budget count the eviction. The budget's name when the pod may go only as it is, because its budget counts it
/// as lost already.
fn count(engine: &Engine, asked: &Asked<'_>, pod: &Object, sent: &Sent) -> Outcome<Option<String>> {
    let mut name = String::new();
    for _ in 0..ATTEMPTS {
        let Some(budget) = budget_of(engine, pod)? else { return Ok(None) };
        name = budget.name.to_string();
        let before = budget.members();
        if !is_ready(&pod.members()) && budgets::gives_up_unready(&before) {
            return Ok(Some(name));
        }
        let now = engine.clock.now().rfc3339();
        let mut members = match budgets::count(&before, asked.name, &now) {
            Verdict::Counted(members) => members,
            Verdict::Refused(status) => return Err(status),
        };
        if !sent.dry_run.is_empty() {
            return Ok(None);
        }
        let resource = resources::pod_disruption_budgets();
        members = strategy::finish_update(resource, Through::Status, members, &before);
        match engine.store.replace(resource, &budget, members) {
            Ok(_) => {
                engine.written(resource, &budget.namespace, &budget.name);
                return Ok(None);
            }
            Err(StoreError::Conflict | StoreError::NotFound) => {}
            Err(error) => return Err(store_error(error, resource, &budget.namespace, &budget.name)),
        }
    }
    let why = format!("couldn't update PodDisruptionBudget \"{name}\" due to conflicts");
    Err(Box::new(Status::timeout(&why, 10)))
}

/// The one budget whose selector finds the pod.
fn budget_of(engine: &Engine, pod: &Object) -> Outcome<Option<Arc<Object>>> {
    let members = pod.members();
    let own = members_at(&members, &["metadata", "labels"]);
    let all = engine.store.all(resources::pod_disruption_budgets(), &pod.namespace);
    let mut found = all.into_iter().filter(|budget| {
        let budget = budget.members();
        // Compat: no selector finds nothing, an empty one everything.
        at(&budget, &["spec", "selector"]).is_some_and(|selector| labels::matches(selector, own))
    });
    let first = found.next();
    if found.next().is_some() {
        return Err(Box::new(Status::failure(500, "", SEVERAL)));
    }
    Ok(first)
}

fn is_ready(pod: &Members) -> bool {
    let conditions = list_at(pod, &["status", "conditions"]);
    conditions.iter().any(|condition| string(condition, "type") == "Ready" && string(condition, "status") == "True")
}

/// Says on the pod why it goes, and deletes it.
fn remove(engine: &Engine, pod: &Arc<Object>, sent: &Sent) -> Result<(), Refusal> {
    let mut wanted = DeleteOptions { uid: sent.uid.clone(), version: sent.version.clone(), ..DeleteOptions::default() };
    let mut pod = Arc::clone(pod);
    if sent.dry_run.is_empty() {
        registry::check_preconditions(pods(), &wanted, &pod)?;
        let before = pod.members();
        let mut members = before.clone();
        mark(&mut members, &engine.clock.now().rfc3339());
        let members = strategy::finish_update(pods(), Through::Status, members, &before);
        if members != before {
            pod = engine.store.replace(pods(), &pod, members)?;
            engine.written(pods(), &pod.namespace, &pod.name);
        }
        if wanted.version.is_some() {
            wanted.version = Some(pod.version.to_string());
        }
    }
    let options = Sent { version: wanted.version, ..sent.clone() };
    let options = options.checked().map_err(Refusal::Answer)?;
    registry::delete(engine, pods(), &pod, &options).map(drop)
}

/// The condition of a pod that has to go.
fn mark(pod: &mut Members, now: &str) {
    let condition = json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
    pods::set_condition(object(pod, "status"), condition, now);
}
