//! What makes pods: deployments, replica sets, stateful sets, daemon sets, jobs, cron jobs, and their revisions.
//!
//! Nothing acts on them here (there are no controllers): they are kept, validated and shown as a real server would, and an
//! event says that no pods will come.

pub(crate) mod controller_revisions;
pub(crate) mod cron_jobs;
mod cron_schedule;
pub(crate) mod daemon_sets;
pub(crate) mod deployments;
mod job_policies;
pub(crate) mod jobs;
pub(crate) mod replica_sets;
pub(crate) mod replication_controllers;
pub(crate) mod stateful_sets;

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::{Path, Wrong};
use super::pod_spec;
use super::tree::{Members, at, child, default, has, integer, members_at, object, objects_mut, string, string_at};

pub(crate) use self::cron_jobs::{fill as fill_cron_job, fill_condition_pattern};
pub(crate) use self::jobs::{fill as fill_job, fill_spec as fill_job_spec};

/// What the event on a new workload says.
pub(crate) const NOTHING_ACTS: &str = "this is the Portcullis dev API server, which has no controllers: the object is stored, \
     validated and shown, and nothing makes pods of it";

pub(crate) fn fill_deployment(members: &mut Members) {
    let spec = object(members, "spec");
    default(spec, "replicas", 1);
    let strategy = object(spec, "strategy");
    default(strategy, "type", "RollingUpdate");
    if string_at(strategy, &["type"]) == "RollingUpdate" {
        let rolling = object(strategy, "rollingUpdate");
        // Compat: a text that is empty says something: it is no percentage.
        for name in ["maxUnavailable", "maxSurge"] {
            rolling.entry(name).or_insert_with(|| "25%".into());
        }
    }
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
}

pub(crate) fn fill_replica_set(members: &mut Members) {
    default(object(members, "spec"), "replicas", 1);
}

pub(crate) fn fill_daemon_set(members: &mut Members) {
    let spec = object(members, "spec");
    let strategy = object(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if string_at(strategy, &["type"]) == "RollingUpdate" {
        let rolling = object(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", 1);
        default(rolling, "maxSurge", 0);
    }
    default(spec, "revisionHistoryLimit", 10);
}

pub(crate) fn fill_stateful_set(members: &mut Members) {
    let spec = object(members, "spec");
    default(spec, "podManagementPolicy", "OrderedReady");
    for claim in objects_mut(spec, "volumeClaimTemplates") {
        default(claim, "kind", "PersistentVolumeClaim");
        default(claim, "apiVersion", "v1");
    }
    let strategy = object(spec, "updateStrategy");
    if string_at(strategy, &["type"]).is_empty() {
        default(strategy, "type", "RollingUpdate");
        default(strategy, "rollingUpdate", json!({}));
    }
    if string_at(strategy, &["type"]) == "RollingUpdate"
        && at(strategy, &["rollingUpdate"]).is_some_and(Value::is_object)
    {
        let rolling = object(strategy, "rollingUpdate");
        default(rolling, "partition", 0);
        default(rolling, "maxUnavailable", 1);
    }
    let claims = object(spec, "persistentVolumeClaimRetentionPolicy");
    default(claims, "whenDeleted", "Retain");
    default(claims, "whenScaled", "Retain");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
}

/// Numbers in a part of an object that must not be below zero.
fn not_negative(part: &Value, names: &[&str], path: &Path, wrong: &mut Wrong) {
    for name in names {
        wrong.not_negative(&path.child(name), integer(part, name));
    }
}

/// Counts of a status that cannot exceed another one.
fn at_most(status: &Value, name: &str, limit: &str, why: &str, wrong: &mut Wrong) {
    let count = |name: &str| integer(status, name).unwrap_or(0);
    if count(name) > count(limit) {
        wrong.push(FieldError::invalid_json(Path::new("status").child(name), &count(name), why));
    }
}

/// A counter that only grows.
fn collisions_grow(new: &Members, old: &Members, wrong: &mut Wrong) {
    let count = |members: &Members| at(members, &["status", "collisionCount"]).and_then(Value::as_i64);
    if count(old).is_some_and(|before| count(new).is_none_or(|now| now < before)) {
        let now = count(new).unwrap_or(0);
        wrong.push(FieldError::invalid_json("status.collisionCount", &now, "cannot be decremented"));
    }
}

/// A template whose pods run forever.
fn lasting_template(spec: &Value, owner: &str, path: &Path, wrong: &mut Wrong) {
    let at = path.child("template");
    pod_spec::template(child(spec, "template"), &at, wrong);
    lasts(spec, owner, path, wrong);
}

/// Only pods that are started again can be kept running.
fn lasts(spec: &Value, owner: &str, path: &Path, wrong: &mut Wrong) {
    let (template, at) = (child(child(spec, "template"), "spec"), path.child("template").child("spec"));
    let policy = string(template, "restartPolicy");
    if policy != "Always" {
        wrong.not_supported(&at.child("restartPolicy"), policy, &["Always"]);
    }
    if has(template, "activeDeadlineSeconds") {
        let why = format!("activeDeadlineSeconds in {owner} is not Supported");
        wrong.forbidden(&at.child("activeDeadlineSeconds"), why);
    }
}

/// What is said of a name that is good for the object and not for its pods.
fn name_warning(new: &Members) -> Vec<String> {
    no_label(new, "Pod names and hostnames")
}

/// What is said of a name that is used for something whose name has to be a label.
pub(crate) fn no_label(new: &Members, used: &str) -> Vec<String> {
    let sentences = names::dns_label(string_at(new, &["metadata", "name"]));
    if sentences.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
        sentences.join(" ")
    )]
}

/// Warnings about a template, when it is new or has changed with the generation.
fn template_warnings(new: &Members, old: Option<&Members>, path: &[&str]) -> Vec<String> {
    let generation = |members: &Members| at(members, &["metadata", "generation"]).and_then(Value::as_i64);
    if old.is_some_and(|old| generation(old) == generation(new)) {
        return Vec::new();
    }
    pod_spec::warnings::template(members_at(new, path), &Path::new(&path.join(".")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::resource_named;
    use super::*;
    use crate::resources::{defaults, strategy};

    /// A template that nothing is wrong with.
    pub(crate) fn template_of(label: &str) -> Value {
        json!({"metadata": {"labels": {"app": label}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
    }

    /// A filled-in object of a kind.
    pub(crate) fn filled(plural: &str, spec: Value) -> Members {
        let resource = resource_named(plural);
        let object =
            json!({"metadata": {"name": "n", "namespace": "d", "resourceVersion": "1", "uid": "u"}, "spec": spec});
        let mut members = strategy::shape(resource, object.as_object().unwrap().clone());
        defaults::fill(resource.schema().unwrap(), &mut members);
        (resource.rules.prepare_create)(&mut members);
        members
    }

    /// What is wrong with it.
    pub(crate) fn problems(plural: &str, spec: Value) -> Vec<String> {
        let mut wrong = Wrong::default();
        (resource_named(plural).rules.validate)(&filled(plural, spec), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    /// What is wrong with a change.
    pub(crate) fn changes(plural: &str, new: Value, old: Value) -> Vec<String> {
        let mut wrong = Wrong::default();
        (resource_named(plural).rules.validate_update)(&filled(plural, new), &filled(plural, old), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn workloads_get_what_the_real_server_fills_in() {
        let of = |plural: &str| filled(plural, json!({"template": template_of("a")}))["spec"].clone();
        let deployment = of("deployments");
        assert_eq!(
            (
                &deployment["replicas"],
                &deployment["strategy"]["rollingUpdate"]["maxSurge"],
                &deployment["progressDeadlineSeconds"]
            ),
            (&json!(1), &json!("25%"), &json!(600))
        );
        assert_eq!(of("daemonsets")["updateStrategy"]["rollingUpdate"], json!({"maxUnavailable": 1, "maxSurge": 0}));
        let set = of("statefulsets");
        assert_eq!(
            (&set["podManagementPolicy"], &set["persistentVolumeClaimRetentionPolicy"]["whenScaled"]),
            (&json!("OrderedReady"), &json!("Retain"))
        );
        assert_eq!(set["template"]["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    }

    #[test]
    fn counters_only_grow_and_parts_fit_their_wholes() {
        let of = |count: i64| json!({"status": {"collisionCount": count}}).as_object().unwrap().clone();
        let mut wrong = Wrong::default();
        collisions_grow(&of(1), &of(2), &mut wrong);
        collisions_grow(&of(2), &of(2), &mut wrong);
        at_most(&json!({"readyReplicas": 2, "replicas": 1}), "readyReplicas", "replicas", "too many", &mut wrong);
        let fields: Vec<String> = wrong.finish().into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["status.collisionCount", "status.readyReplicas"]);
    }
}
