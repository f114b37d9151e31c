//! Stateful sets.

use std::collections::HashSet;

use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{Path, Wrong, formats, labels, meta, same};
use super::super::rules::Rules;
use super::super::storage;
use super::super::tree::{Members, at, child, has, integer, list, string};
use super::{at_most, collisions_grow, lasts, not_negative, template_warnings};
use crate::resources::pod_spec;

pub(crate) const RULES: Rules = Rules { validate, validate_update, validate_status, warnings, ..Rules::WITH_STATUS };

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_label, wrong);
    spec(new, true, wrong);
}

/// Compat: what no update changes is listed after the rest, in upstream's words for a field that is fixed.
fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    spec(new, false, wrong);
    for name in ["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"] {
        let of = |members: &Members| at(members, &["spec", name]).cloned().unwrap_or_default();
        let (new, old) = (of(new), of(old));
        if !same(&new, &old) {
            wrong.unchanged(&Path::new("spec").child(name), &new, &old);
        }
    }
}

fn spec(new: &Members, is_new: bool, wrong: &mut Wrong) {
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    match string(spec, "podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        other => {
            let why = "must be 'OrderedReady' or 'Parallel'";
            wrong.invalid(&path.child("podManagementPolicy"), other, why);
        }
    }
    strategy(child(spec, "updateStrategy"), &path.child("updateStrategy"), wrong);
    let claims = child(spec, "persistentVolumeClaimRetentionPolicy");
    for name in ["whenDeleted", "whenScaled"] {
        let at = path.child("persistentVolumeClaimRetentionPolicy").child(name);
        wrong.one_of(&at, string(claims, name), &["Retain", "Delete"]);
    }
    if is_new {
        for (index, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
            let at = path.child("volumeClaimTemplates").index(index).child("spec");
            storage::claim_spec(child(claim, "spec"), &at, wrong);
        }
    }
    not_negative(spec, &["replicas", "minReadySeconds"], &path, wrong);
    wrong.not_negative(&path.child("ordinals.start"), integer(child(spec, "ordinals"), "start"));
    let service = string(spec, "serviceName");
    if is_new && !service.is_empty() {
        wrong.each(&path.child("serviceName"), service, names::dns_label(service));
    }
    if labels::own_selector(spec, "empty selector is invalid for statefulset", "", &path, wrong) {
        labels::finds_template(spec, &path, wrong);
        let template = with_claims(spec);
        let at = path.child("template");
        pod_spec::template(&template, &at, wrong);
        // Compat: labels and annotations are judged once more for stateful sets.
        let metadata = child(&template, "metadata");
        labels::labels(super::super::tree::members(metadata, "labels"), &at.child("labels"), wrong);
        meta::annotations(super::super::tree::members(metadata, "annotations"), &at.child("annotations"), wrong);
    }
    lasts(spec, "StatefulSet", &path, wrong);
}

/// The template as its pods will see it: with a volume for each claim, and names that each pod gets of its own.
fn with_claims(spec: &Value) -> Value {
    let mut template = child(spec, "template").clone();
    let mut claims: Vec<&str> =
        list(spec, "volumeClaimTemplates").iter().map(|claim| string(child(claim, "metadata"), "name")).collect();
    // Compat: two claims of one name are one volume.
    let mut seen = HashSet::new();
    claims.retain(|name| seen.insert(*name));
    let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) else { return template };
    pod.shift_remove("subdomain");
    pod.shift_remove("hostname");
    if !claims.is_empty() {
        let own: Vec<Value> =
            claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
        let others = pod.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        let others = others.into_iter().filter(|volume| !claims.contains(&string(volume, "name")));
        let volumes = own.into_iter().chain(others).collect();
        pod.insert("volumes".to_owned(), Value::Array(volumes));
    }
    template
}

fn strategy(strategy: &Value, path: &Path, wrong: &mut Wrong) {
    let (rolling, at) = (child(strategy, "rollingUpdate"), path.child("rollingUpdate"));
    match string(strategy, "type") {
        "OnDelete" if has(strategy, "rollingUpdate") => {
            let printed = printed(rolling);
            wrong.invalid_value(&at, &printed, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            wrong.not_negative(&at.child("partition"), integer(rolling, "partition"));
            if has(rolling, "maxUnavailable") {
                let (unavailable, at) = (child(rolling, "maxUnavailable"), at.child("maxUnavailable"));
                formats::not_negative_int_or_percent(&at, unavailable, wrong);
                if formats::int_or_percent_value(unavailable) == 0 {
                    wrong.invalid_value(&at, unavailable, "cannot be 0");
                }
                formats::not_over_hundred_percent(&at, unavailable, wrong);
            }
        }
        kind => {
            let value = json!({"Type": kind, "RollingUpdate": printed(rolling)});
            wrong.invalid_value(path, &value, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

/// The internal type as messages print it.
fn printed(rolling: &Value) -> Value {
    if rolling.is_null() {
        return Value::Null;
    }
    json!({"Partition": integer(rolling, "partition").unwrap_or(0), "MaxUnavailable": child(rolling, "maxUnavailable")})
}

fn validate_status(new: &Members, old: &Members, wrong: &mut Wrong) {
    let status = new.get("status").unwrap_or(&Value::Null);
    let counts = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    not_negative(status, &counts, &Path::new("status"), wrong);
    for name in ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"] {
        at_most(status, name, "replicas", "cannot be greater than status.replicas", wrong);
    }
    at_most(status, "availableReplicas", "readyReplicas", "cannot be greater than status.readyReplicas", wrong);
    meta::object_meta_update(new, old, wrong);
    collisions_grow(new, old, wrong);
}

fn warnings(new: &Members, old: Option<&Members>) -> Vec<String> {
    let mut out = template_warnings(new, old, &["spec", "template"]);
    let spec = new.get("spec").unwrap_or(&Value::Null);
    if integer(spec, "revisionHistoryLimit").is_some_and(|limit| limit < 0) {
        out.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::{changes, problems, template_of};
    use super::*;

    fn good() -> Value {
        let mut template = template_of("a");
        template["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/d"}]);
        json!({"selector": {"matchLabels": {"app": "a"}}, "serviceName": "s", "template": template,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}]})
    }

    #[test]
    fn claims_are_volumes_of_the_pods() {
        assert_eq!(problems("statefulsets", good()), [""; 0]);
        let mut spec = good();
        spec["volumeClaimTemplates"] = json!([]);
        assert_eq!(
            problems("statefulsets", spec),
            ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""]
        );
    }

    #[test]
    fn only_a_few_fields_may_change() {
        let mut other = good();
        other["serviceName"] = json!("t");
        other["podManagementPolicy"] = json!("Parallel");
        other["replicas"] = json!(3);
        assert_eq!(
            changes("statefulsets", other, good()),
            [
                "spec.serviceName: Invalid value: \"t\": field is immutable",
                "spec.podManagementPolicy: Invalid value: \"Parallel\": field is immutable"
            ]
        );
    }

    #[test]
    fn strategies_are_named() {
        let with = |strategy: Value| {
            let mut spec = good();
            spec["updateStrategy"] = strategy;
            problems("statefulsets", spec)
        };
        assert!(with(json!({"type": "OnDelete"})).is_empty());
        assert!(with(json!({"type": "OnDelete", "rollingUpdate": {}}))[0].contains("only allowed for updateStrategy"));
        assert!(with(json!({"type": "Odd"}))[0].ends_with("must be 'RollingUpdate' or 'OnDelete'"));
        assert!(
            with(json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}))[0].ends_with("cannot be 0")
        );
    }
}
