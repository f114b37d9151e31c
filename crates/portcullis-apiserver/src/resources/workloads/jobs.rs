//! Jobs: the selector that the server makes, and what may change while a job runs.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{Path, Wrong, labels, meta, same};
use super::super::rules::{Collected, Rules, first_generation};
use super::super::tree::{
    Members, at, child, default, flag, flag_at, has, integer, list_at, members, members_at, object, string, string_at,
    text,
};
use super::{job_policies, name_warning, not_negative, template_warnings};
use crate::resources::{SelectableFields, pod_spec};

pub(crate) const RULES: Rules = Rules {
    collected: Collected::LeavesDependants,
    deletion_warning: "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
                       them or set propagationPolicy=Orphan to suppress this warning",
    prepare_create,
    validate,
    validate_update,
    validate_status,
    warnings: |new, old| {
        let mut out = if old.is_none() { name_warning(new) } else { Vec::new() };
        out.extend(template_warnings(new, old, &["spec", "template"]));
        out
    },
    ..Rules::WITH_STATUS
};
pub(crate) const SELECTABLE: &[&str] = &["status.successful"];
const NAMES: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UIDS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
pub(super) const INDEXED: &str = "Indexed";

pub(crate) fn selectable(members: &Members) -> SelectableFields {
    let done = at(members, &["status", "succeeded"]).and_then(Value::as_i64).unwrap_or(0);
    vec![("status.successful", done.to_string().into())]
}

/// Compat: by gates that are off.
pub(crate) fn fill_spec(spec: &mut Members) {
    spec.shift_remove("scheduling");
}

/// Fills in what a job leaves out.
pub(crate) fn fill(members: &mut Members) {
    let labels = at(members, &["spec", "template", "metadata", "labels"]).cloned();
    let spec = object(members, "spec");
    let absent = |spec: &Members, name: &str| at(spec, &[name]).is_none_or(Value::is_null);
    if absent(spec, "completions") && absent(spec, "parallelism") {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let retries = if absent(spec, "backoffLimitPerIndex") { 6 } else { i64::from(i32::MAX) };
    default(spec, "backoffLimit", retries);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    let replacement = if absent(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    default(spec, "podReplacementPolicy", replacement);
    default(spec, "manualSelector", false);
    if let Some(Value::Object(labels)) = labels {
        let metadata = object(members, "metadata");
        if !labels.is_empty() && members_at(metadata, &["labels"]).is_empty() {
            metadata.insert("labels".to_owned(), Value::Object(labels));
        }
    }
}

/// Compat: the labels that tie pods to their job are the server's to give, unless the client asks to do it.
fn prepare_create(members: &mut Members) {
    first_generation(members);
    let metadata = members_at(members, &["metadata"]);
    let (name, uid) = (text(metadata, &["name"]), text(metadata, &["uid"]));
    let spec = object(members, "spec");
    if flag_at(spec, &["manualSelector"]) {
        return;
    }
    let labels = object(object(object(spec, "template"), "metadata"), "labels");
    for (keys, value) in [(NAMES, &name), (UIDS, &uid)] {
        for key in keys {
            labels.entry(key).or_insert_with(|| json!(value));
        }
    }
    let own = object(object(spec, "selector"), "matchLabels");
    own.entry(UIDS[1]).or_insert_with(|| json!(uid));
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    made_selector(new, wrong);
    let spec = new.get("spec").unwrap_or(&Value::Null);
    whole_spec(spec, wrong);
    indexed_names(new, wrong);
}

fn whole_spec(spec: &Value, wrong: &mut Wrong) {
    let path = Path::new("spec");
    job_spec(spec, &path, wrong);
    let own = child(spec, "selector");
    let before = wrong.len();
    if own.is_null() {
        wrong.required(&path.child("selector"), "");
    } else {
        labels::selector(own, &path.child("selector"), wrong);
    }
    if wrong.len() == before || own.is_null() {
        labels::finds_template(spec, &path, wrong);
    }
}

/// What a job of its own and one in a cron job have in common.
pub(super) fn job_spec(spec: &Value, path: &Path, wrong: &mut Wrong) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    not_negative(spec, &numbers, path, wrong);
    if has(spec, "maxFailedIndexes") && !has(spec, "backoffLimitPerIndex") {
        wrong.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if has(spec, "managedBy") {
        managed_by(string(spec, "managedBy"), &path.child("managedBy"), wrong);
    }
    let mode = string(spec, "completionMode");
    wrong.one_of(&path.child("completionMode"), mode, &["NonIndexed", INDEXED]);
    if mode == INDEXED {
        if !has(spec, "completions") {
            wrong.required(&path.child("completions"), "when completion mode is Indexed");
        }
        let parallelism = integer(spec, "parallelism").unwrap_or(0);
        if parallelism > 100_000 {
            let why = "must be less than or equal to 100000 when completion mode is Indexed";
            wrong.push(FieldError::invalid_json(path.child("parallelism"), &parallelism, why));
        }
        let (failed, completions) = (integer(spec, "maxFailedIndexes"), integer(spec, "completions"));
        if let (Some(failed), Some(completions)) = (failed, completions)
            && failed > completions
        {
            let why = "must be less than or equal to completions";
            wrong.push(FieldError::invalid_json(path.child("maxFailedIndexes"), &failed, why));
        }
        job_policies::many_indexes(spec, path, wrong);
    } else {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = integer(spec, name) {
                wrong.push(FieldError::invalid_json(path.child(name), &number, "requires indexed completion mode"));
            }
        }
    }
    job_policies::failure(spec, path, wrong);
    job_policies::success(spec, path, wrong);
    let replacement = string(spec, "podReplacementPolicy");
    let supported: &[&str] =
        if has(spec, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    wrong.one_of(&path.child("podReplacementPolicy"), replacement, supported);
    pod_spec::template(child(spec, "template"), &path.child("template"), wrong);
    let policy = string(child(child(spec, "template"), "spec"), "restartPolicy");
    let at_policy = path.child("template").child("spec").child("restartPolicy");
    match policy {
        "Always" | "" => wrong.required(&at_policy, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if has(spec, "podFailurePolicy") => {
            wrong.invalid(&at_policy, policy, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        other => wrong.not_supported(&at_policy, other, &["OnFailure", "Never"]),
    }
}

/// The labels and the selector are those that the server makes, unless the client said that it would.
fn made_selector(new: &Members, wrong: &mut Wrong) {
    let spec = members_at(new, &["spec"]);
    if flag_at(spec, &["manualSelector"]) || at(spec, &["selector"]).is_none_or(Value::is_null) {
        return;
    }
    let (name, uid) = (string_at(new, &["metadata", "name"]), string_at(new, &["metadata", "uid"]));
    let labels_of = members_at(spec, &["template", "metadata", "labels"]);
    let path = Path::new("spec.template.metadata.labels");
    for (key, want) in [(UIDS[0], uid), (NAMES[0], name), (UIDS[1], uid), (NAMES[1], name)] {
        match labels_of.get(key).and_then(Value::as_str) {
            None => wrong.required(&path.key(key), &format!("must be '{want}'")),
            Some(found) if found != want => {
                let printed = Value::Object(labels_of.clone());
                wrong.invalid_value(&path.key(key), &printed, format!("must be '{want}'"));
            }
            Some(_) => {}
        }
    }
    let expected = json!({UIDS[0]: uid, UIDS[1]: uid, NAMES[0]: name, NAMES[1]: name});
    let own = child(new.get("spec").unwrap_or(&Value::Null), "selector");
    if !labels::matches(own, members(&json!({"l": expected}), "l")) {
        wrong.invalid_value(&Path::new("spec.selector"), own, "`selector` not auto-generated");
    }
}

/// The last pod of an indexed job has a number in its name.
fn indexed_names(new: &Members, wrong: &mut Wrong) {
    let spec = new.get("spec").unwrap_or(&Value::Null);
    let completions = integer(spec, "completions").unwrap_or(0);
    if string(spec, "completionMode") != INDEXED || completions <= 0 {
        return;
    }
    let name = string_at(new, &["metadata", "name"]);
    let longest = format!("{name}-{}", completions - 1);
    if !names::dns_label(&longest).is_empty() {
        let why = format!("will not able to create pod with invalid DNS label: {longest}");
        wrong.invalid(&Path::new("metadata.name"), name, why);
    }
}

/// Who manages the job, when it is not the controller of the cluster.
fn managed_by(name: &str, path: &Path, wrong: &mut Wrong) {
    const LONGEST: usize = 63;
    match name.split_once('/') {
        _ if name.is_empty() => wrong.required(path, ""),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            wrong.each(path, host, names::dns_subdomain(host));
            if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)) {
                let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                wrong.invalid(path, rest, why);
            }
        }
        _ => wrong.invalid(path, name, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if name.len() > LONGEST {
        wrong.push(FieldError::too_long(path, LONGEST));
    }
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let (spec, before) = (new.get("spec").unwrap_or(&Value::Null), old.get("spec").unwrap_or(&Value::Null));
    whole_spec(spec, wrong);
    let path = Path::new("spec");
    let mut fixed = |name: &str| wrong.unchanged(&path.child(name), child(spec, name), child(before, name));
    if string(spec, "completionMode") != INDEXED {
        fixed("completions");
    }
    fixed("selector");
    // A job that has not begun may still be sent elsewhere.
    if !(flag(before, "suspend") && at(old, &["status", "startTime"]).is_none() && same_but_for_placement(spec, before))
    {
        fixed("template");
    }
    for name in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        fixed(name);
    }
    if string(spec, "completionMode") == INDEXED
        && child(spec, "completions") != child(before, "completions")
        && child(spec, "completions") != child(spec, "parallelism")
    {
        let why = "can only be modified in tandem with spec.parallelism";
        wrong.invalid_value(&path.child("completions"), child(spec, "completions"), why);
    }
    indexed_names(new, wrong);
}

fn same_but_for_placement(spec: &Value, before: &Value) -> bool {
    let without = |spec: &Value| {
        let mut template = child(spec, "template").clone();
        if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("labels");
            metadata.shift_remove("annotations");
        }
        if let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) {
            for name in ["nodeSelector", "tolerations", "schedulingGates"] {
                pod.shift_remove(name);
            }
            if let Some(affinity) = pod.get_mut("affinity").and_then(Value::as_object_mut) {
                affinity.shift_remove("nodeAffinity");
                // Compat: none is as good as one that says nothing.
                if affinity.is_empty() {
                    pod.shift_remove("affinity");
                }
            }
        }
        template
    };
    same(&without(spec), &without(before))
}

fn validate_status(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let status = new.get("status").unwrap_or(&Value::Null);
    let path = Path::new("status");
    not_negative(status, &["active", "succeeded", "failed", "ready", "terminating"], &path, wrong);
    let before = old.get("status").unwrap_or(&Value::Null);
    for name in ["failed", "succeeded"] {
        let (now, then) = (integer(status, name).unwrap_or(0), integer(before, name).unwrap_or(0));
        if now < then {
            wrong.push(FieldError::invalid_json(path.child(name), &now, format!("cannot decrease the {name} counter")));
        }
    }
    let holds = |kind: &str| {
        list_at(new, &["status", "conditions"])
            .iter()
            .any(|condition| string(condition, "type") == kind && string(condition, "status") == "True")
    };
    let conditions = path.child("conditions");
    let mut refuse = |why: &str| {
        let mut error = FieldError::invalid(&conditions, "", why);
        error.value = None;
        wrong.push(error);
    };
    let (complete, failed) = (holds("Complete"), holds("Failed"));
    if complete && failed {
        refuse("cannot set Complete=True and Failed=true conditions");
    }
    if failed && !holds("FailureTarget") {
        refuse("cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if complete && !holds("SuccessCriteriaMet") {
        refuse("cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
    if complete && !has(status, "completionTime") {
        wrong.required(&path.child("completionTime"), "completionTime is required for Complete jobs");
    }
    let active = integer(status, "active").unwrap_or(0);
    if (complete || failed) && active > 0 {
        wrong.push(FieldError::invalid_json(path.child("active"), &active, "active>0 is invalid for finished job"));
    }
    if (complete || failed) && !has(status, "startTime") {
        wrong.required(&path.child("startTime"), "startTime is required for finished job");
    }
    job_policies::indexes(new.get("spec").unwrap_or(&Value::Null), status, before, &path, wrong);
    if let Some(ready) = integer(status, "ready").filter(|ready| *ready > active) {
        wrong.push(FieldError::invalid_json(path.child("ready"), &ready, "cannot set more ready pods than active"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{changes, filled, problems, template_of};
    use super::*;

    fn good() -> Value {
        let mut template = template_of("a");
        template["spec"]["restartPolicy"] = json!("Never");
        json!({"template": template})
    }

    #[test]
    fn a_job_gets_its_selector_and_its_template_the_labels() {
        let job = filled("jobs", good());
        assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}));
        assert_eq!(
            job["spec"]["template"]["metadata"]["labels"],
            json!({"app": "a", "job-name": "n", "batch.kubernetes.io/job-name": "n", "controller-uid": "u",
                "batch.kubernetes.io/controller-uid": "u"})
        );
        assert_eq!(job["metadata"]["labels"], json!({"app": "a"}));
        assert!(problems("jobs", good()).is_empty());
    }

    #[test]
    fn pods_of_a_job_end() {
        let mut spec = good();
        spec["template"]["spec"]["restartPolicy"] = json!("Always");
        spec["completions"] = json!(-1);
        assert_eq!(
            problems("jobs", spec),
            [
                "spec.completions: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
            ]
        );
        let mut spec = good();
        spec["completionMode"] = json!(INDEXED);
        spec["parallelism"] = json!(1);
        assert_eq!(problems("jobs", spec), ["spec.completions: Required value: when completion mode is Indexed"]);
        let mut manual = good();
        manual["manualSelector"] = json!(true);
        manual["selector"] = json!({"matchLabels": {"app": "b"}});
        assert!(problems("jobs", manual)[0].contains("`selector` does not match template `labels`"));
    }

    #[test]
    fn a_running_job_changes_little() {
        let mut other = good();
        other["parallelism"] = json!(3);
        other["completions"] = json!(1);
        assert!(changes("jobs", other, good()).is_empty());
        let mut other = good();
        other["template"]["spec"]["containers"][0]["image"] = json!("j:1");
        let found = changes("jobs", other, good());
        assert!(found.len() == 1 && found[0].starts_with("spec.template: Invalid value: {"), "{found:?}");
        let suspended = |node: &str| {
            let mut spec = good();
            spec["suspend"] = json!(true);
            spec["template"]["spec"]["nodeSelector"] = json!({"n": node});
            spec
        };
        assert!(changes("jobs", suspended("b"), suspended("a")).is_empty(), "it has not begun");
    }

    #[test]
    fn a_status_does_not_contradict_itself() {
        let mut job = filled("jobs", good());
        job.insert("status".to_owned(), json!({"active": 1, "conditions": [{"type": "Complete", "status": "True"}]}));
        let mut wrong = Wrong::default();
        validate_status(&job, &job, &mut wrong);
        assert_eq!(wrong.finish().len(), 4);
        assert_eq!(&*selectable(&job)[0].1, "0");
    }
}
