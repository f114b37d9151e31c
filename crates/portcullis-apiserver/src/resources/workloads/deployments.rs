//! Deployments.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{Path, Wrong, formats, labels, meta};
use super::super::rules::{Rules, count_up, differs, first_generation, keep_all_but_status};
use super::super::tree::{Members, at, child, has, integer, string, take_over};
use super::{at_most, collisions_grow, lasting_template, name_warning, not_negative, template_warnings};

pub(crate) const RULES: Rules = Rules {
    prepare_create: first_generation,
    prepare_update,
    prepare_status: |new, old| {
        keep_all_but_status(new, old);
        keep_labels(new, old);
    },
    validate,
    validate_update,
    validate_status,
    warnings: |new, old| {
        let mut out = if old.is_none() { name_warning(new) } else { Vec::new() };
        out.extend(template_warnings(new, old, &["spec", "template"]));
        out
    },
    ..Rules::NAMESPACED
};

/// Compat: a change of an annotation counts like one of the specification.
fn prepare_update(new: &mut Members, old: &Members) {
    take_over(new, old, &["status"]);
    let annotations = |members: &Members| at(members, &["metadata", "annotations"]).cloned().unwrap_or_default();
    if differs(new, old, "spec") || annotations(new) != annotations(old) {
        count_up(new, old);
    }
}

fn keep_labels(new: &mut Members, old: &Members) {
    let before = at(old, &["metadata", "labels"]).cloned();
    let metadata = super::super::tree::object(new, "metadata");
    match before {
        Some(labels) => drop(metadata.insert("labels".to_owned(), labels)),
        None => drop(metadata.shift_remove("labels")),
    }
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    spec(new, wrong);
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    spec(new, wrong);
    same_selector(new, old, wrong);
}

/// The selector of a workload stays.
pub(super) fn same_selector(new: &Members, old: &Members, wrong: &mut Wrong) {
    let of = |members: &Members| at(members, &["spec", "selector"]).cloned().unwrap_or_default();
    wrong.unchanged(&Path::new("spec.selector"), &of(new), &of(old));
}

fn spec(new: &Members, wrong: &mut Wrong) {
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    not_negative(spec, &["replicas"], &path, wrong);
    if labels::own_selector(spec, "empty selector is invalid for deployment", "invalid label selector", &path, wrong) {
        labels::finds_template(spec, &path, wrong);
        // Compat: upstream's text speaks of the ReplicaSet here too.
        lasting_template(spec, "ReplicaSet", &path, wrong);
    }
    strategy(child(spec, "strategy"), &path.child("strategy"), wrong);
    not_negative(spec, &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"], &path, wrong);
    let ready = integer(spec, "minReadySeconds").unwrap_or(0);
    if let Some(deadline) = integer(spec, "progressDeadlineSeconds").filter(|deadline| *deadline <= ready) {
        let why = "must be greater than minReadySeconds";
        wrong.push(FieldError::invalid_json(path.child("progressDeadlineSeconds"), &deadline, why));
    }
}

fn strategy(strategy: &Value, path: &Path, wrong: &mut Wrong) {
    let (rolling, at) = (child(strategy, "rollingUpdate"), path.child("rollingUpdate"));
    match string(strategy, "type") {
        "Recreate" if has(strategy, "rollingUpdate") => {
            wrong.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (child(rolling, "maxUnavailable"), child(rolling, "maxSurge"));
            formats::not_negative_int_or_percent(&at.child("maxUnavailable"), unavailable, wrong);
            formats::not_negative_int_or_percent(&at.child("maxSurge"), surge, wrong);
            if formats::int_or_percent_value(unavailable) == 0 && formats::int_or_percent_value(surge) == 0 {
                wrong.invalid_value(&at.child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0");
            }
            formats::not_over_hundred_percent(&at.child("maxUnavailable"), unavailable, wrong);
        }
        kind => {
            let printed = json!({"Type": kind, "RollingUpdate": rolling_printed(rolling)});
            let mut error = FieldError::not_supported(path, "", &["Recreate", "RollingUpdate"]);
            error.value = String::from_utf8(crate::json::to_vec(&printed)).ok();
            wrong.push(error);
        }
    }
}

/// The internal type as messages print it.
fn rolling_printed(rolling: &Value) -> Value {
    if rolling.is_null() {
        return Value::Null;
    }
    let or_zero = |name: &str| rolling.get(name).cloned().unwrap_or_else(|| json!(0));
    json!({"MaxUnavailable": or_zero("maxUnavailable"), "MaxSurge": or_zero("maxSurge")})
}

fn validate_status(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let status = new.get("status").unwrap_or(&Value::Null);
    let counts = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    not_negative(status, &counts, &Path::new("status"), wrong);
    for name in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
        at_most(status, name, "replicas", "cannot be greater than status.replicas", wrong);
    }
    at_most(status, "availableReplicas", "readyReplicas", "cannot be greater than readyReplicas", wrong);
    collisions_grow(new, old, wrong);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{changes, filled, problems, template_of};
    use super::*;

    fn good() -> Value {
        json!({"selector": {"matchLabels": {"app": "a"}}, "template": template_of("a")})
    }

    #[test]
    fn common_mistakes_read_as_upstream_words_them() {
        assert!(problems("deployments", good()).is_empty());
        let mut spec = good();
        spec["template"] = template_of("b");
        spec["replicas"] = json!(-1);
        spec["strategy"] = json!({"type": "Odd"});
        assert_eq!(
            problems("deployments", spec),
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
                "spec.strategy: Unsupported value: {\"Type\":\"Odd\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\""
            ]
        );
        let mut spec = good();
        spec["selector"] = Value::Null;
        assert_eq!(
            problems("deployments", spec),
            [
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"
            ]
        );
        let mut spec = good();
        spec["selector"] = json!({});
        spec["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}});
        spec["template"]["spec"]["restartPolicy"] = json!("Never");
        assert_eq!(
            problems("deployments", spec),
            [
                "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"
            ]
        );
    }

    #[test]
    fn the_selector_stays() {
        let mut other = good();
        other["selector"]["matchLabels"]["x"] = json!("y");
        other["template"]["metadata"]["labels"]["x"] = json!("y");
        assert_eq!(
            changes("deployments", other, good()),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\",\"x\":\"y\"}}: field is immutable"]
        );
    }

    #[test]
    fn annotations_count_like_the_specification() {
        let old = filled("deployments", good());
        let mut new = old.clone();
        new["metadata"]["annotations"] = json!({"a": "b"});
        prepare_update(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 2);
        let mut labelled = old.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        prepare_update(&mut labelled, &old);
        assert_eq!(labelled["metadata"]["generation"], 1);
        (RULES.prepare_status)(&mut labelled, &old);
        assert_eq!(labelled["metadata"].get("labels"), None, "an update of the status does not label");
    }

    #[test]
    fn a_status_adds_up() {
        let mut new = filled("deployments", good());
        new.insert("status".to_owned(), json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": -1}));
        let mut wrong = Wrong::default();
        validate_status(&new, &new, &mut wrong);
        assert_eq!(wrong.finish().len(), 2);
    }
}
