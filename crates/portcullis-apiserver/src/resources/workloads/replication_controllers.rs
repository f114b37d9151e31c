//! Replication controllers, and pod templates: what came before replica sets.
//!
//! Compat: `pkg/registry/core/{replicationcontroller,podtemplate}` and `ValidateReplicationController` of Kubernetes 1.37. A
//! selector is a plain map; without one the template's labels select.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{NOT_NEGATIVE, Path, Wrong, meta};
use super::super::rules::{Collected, Rules, count_up, differs, set_generation};
use super::super::tree::{Members, at, child, default, has, integer, members, members_at, object, string_at};
use super::{at_most, lasts, name_warning, not_negative, template_warnings};
use crate::resources::{SelectableFields, pod_spec};

pub(crate) const RULES: Rules = Rules {
    collected: Collected::LeavesDependants,
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

pub(crate) const TEMPLATE_RULES: Rules = Rules {
    returns_deleted: true,
    prepare_create: |new| set_generation(new, 1),
    prepare_update: |new, old| {
        if differs(new, old, "template") {
            count_up(new, old);
        }
    },
    validate: |new, wrong| {
        meta::object_meta(new, true, names::dns_subdomain, wrong);
        pod_spec::template(new.get("template").unwrap_or(&Value::Null), &Path::new("template"), wrong);
    },
    validate_update: |new, old, wrong| {
        meta::object_meta_update(new, old, wrong);
        pod_spec::template(new.get("template").unwrap_or(&Value::Null), &Path::new("template"), wrong);
    },
    warnings: |new, old| template_warnings(new, old, &["template"]),
    ..Rules::NAMESPACED
};

pub(crate) const SELECTABLE: &[&str] = &["status.replicas"];

pub(crate) fn selectable(members: &Members) -> SelectableFields {
    let there = at(members, &["status", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    vec![("status.replicas", there.to_string().into())]
}

/// The template's labels stand in for a selector and for labels.
pub(crate) fn fill(controller: &mut Members) {
    let labels = members_at(controller, &["spec", "template", "metadata", "labels"]).clone();
    let spec = object(controller, "spec");
    default(spec, "replicas", 1);
    if labels.is_empty() {
        return;
    }
    if members_at(spec, &["selector"]).is_empty() {
        spec.insert("selector".to_owned(), Value::Object(labels.clone()));
    }
    if members_at(controller, &["metadata", "labels"]).is_empty() {
        object(controller, "metadata").insert("labels".to_owned(), Value::Object(labels));
    }
}

/// Compat: the name is judged by upstream's declarative validation, so what is wrong with it comes late.
fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, |_| Vec::new(), wrong);
    let name = string_at(new, &["metadata", "name"]);
    for why in names::long_name(name).into_iter().filter(|_| !name.is_empty()) {
        wrong.push_last(FieldError::invalid("metadata.name", name, why));
    }
    spec(new, wrong);
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    spec(new, wrong);
}

fn spec(new: &Members, wrong: &mut Wrong) {
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    for name in ["replicas", "minReadySeconds"] {
        if let Some(number) = integer(spec, name).filter(|number| *number < 0) {
            wrong.push_last(FieldError::invalid_json(path.child(name), &number, NOT_NEGATIVE));
        }
    }
    let selector = members(spec, "selector");
    if selector.is_empty() {
        wrong.required(&path.child("selector"), "");
    }
    let at = path.child("template");
    if !has(spec, "template") {
        wrong.required(&at, "");
        return;
    }
    let template = child(spec, "template");
    let labels = members(child(template, "metadata"), "labels");
    if !selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
        let shown = if labels.is_empty() { Value::Null } else { json!(labels) };
        let why = "`selector` does not match template `labels`";
        wrong.invalid_value(&at.child("metadata").child("labels"), &shown, why);
    }
    pod_spec::template(template, &at, wrong);
    lasts(spec, "ReplicationController", &path, wrong);
}

fn validate_status(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let status = new.get("status").unwrap_or(&Value::Null);
    let counts = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    not_negative(status, &counts, &Path::new("status"), wrong);
    for name in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        at_most(status, name, "replicas", "cannot be greater than status.replicas", wrong);
    }
    at_most(status, "availableReplicas", "readyReplicas", "cannot be greater than readyReplicas", wrong);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_labels_stand_in_for_what_is_not_said() {
        let mut controller =
            json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}).as_object().unwrap().clone();
        fill(&mut controller);
        assert_eq!(controller["spec"]["selector"], json!({"a": "b"}));
        assert_eq!(
            (&controller["metadata"]["labels"], &controller["spec"]["replicas"]),
            (&json!({"a": "b"}), &json!(1))
        );
        let mut own = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"selector": {"c": "d"}, "template": {"metadata": {"labels": {"a": "b"}}}}});
        fill(own.as_object_mut().unwrap());
        assert_eq!((&own["spec"]["selector"], &own["metadata"]["labels"]), (&json!({"c": "d"}), &json!({"x": "y"})));
    }

    #[test]
    fn a_name_that_is_too_long_is_told_in_bytes() {
        let mut wrong = Wrong::default();
        let metadata = json!({"name": "a".repeat(254), "namespace": "n"});
        validate(json!({"metadata": metadata}).as_object().unwrap(), &mut wrong);
        let texts: Vec<String> = wrong.finish().iter().map(ToString::to_string).collect();
        assert!(texts.last().unwrap().ends_with(": must be no more than 253 bytes"), "{texts:?}");
    }
}
