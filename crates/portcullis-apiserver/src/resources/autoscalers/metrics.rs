//! What an autoscaler looks at.

use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{Path, Wrong};
use super::super::pod_spec::container_resource_name;
use super::super::tree::{child, has, integer, string};
use super::{Versions, reference};
use crate::schema::quantity::Quantity;

/// Kinds of metrics and where each stands, in the order in which they are looked at.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const KINDS: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

pub(super) fn validate(metric: &Value, versions: Versions, path: &Path, wrong: &mut Wrong) {
    let kind = string(metric, "type");
    let at_kind = path.child("type");
    if kind.is_empty() {
        wrong.required(&at_kind, "must specify a metric source type");
    }
    let expected = SOURCES.iter().find(|(known, _)| *known == kind).map(|(_, field)| *field);
    if expected.is_none() {
        wrong.not_supported(&at_kind, kind, &KINDS);
    }
    let there: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|field| has(metric, field)).collect();
    if let Some(first) = there.first() {
        source(first, child(metric, first), versions, &path.child(first), wrong);
    }
    match expected {
        None => wrong.not_supported(&at_kind, kind, &KINDS),
        Some(field) if !has(metric, field) => {
            wrong.required(&path.child(field), "must populate information for the given metric source");
        }
        Some(_) => {}
    }
    if there.len() != 1 {
        for field in there.into_iter().filter(|field| Some(*field) != expected) {
            wrong.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn source(field: &str, source: &Value, versions: Versions, path: &Path, wrong: &mut Wrong) {
    let (target, at_target) = (child(source, "target"), path.child("target"));
    let (value, average) = (has(target, "value"), has(target, "averageValue"));
    match field {
        "object" => {
            reference(child(source, "describedObject"), versions, &path.child("describedObject"), wrong);
            identifier(source, path, wrong);
            amounts(target, &at_target, wrong);
            if !value && !average {
                let why = "must set either a target value or averageValue";
                wrong.required(&at_target.child("averageValue"), why);
            }
        }
        "external" => {
            identifier(source, path, wrong);
            amounts(target, &at_target, wrong);
            if !value && !average {
                let why = "must set either a target value for metric or a per-pod target";
                wrong.required(&at_target.child("averageValue"), why);
            }
            if value && average {
                let why = "may not set both a target value for metric and a per-pod target";
                wrong.forbidden(&at_target.child("value"), why);
            }
        }
        "pods" => {
            identifier(source, path, wrong);
            amounts(target, &at_target, wrong);
            if !average {
                wrong.required(&at_target.child("averageValue"), "must specify a positive target averageValue");
            }
        }
        _ => resource(source, field == "containerResource", path, wrong),
    }
}

fn resource(source: &Value, of_container: bool, path: &Path, wrong: &mut Wrong) {
    let name = string(source, "name");
    if name.is_empty() {
        wrong.required(&path.child("name"), "must specify a resource name");
    } else if of_container {
        container_resource_name(name, &path.child("name"), wrong);
    }
    if of_container {
        let container = string(source, "container");
        if container.is_empty() {
            wrong.required(&path.child("container"), "must specify a container");
        } else {
            wrong.each(&path.child("container"), container, names::dns_label(container));
        }
    }
    let (target, at_target) = (child(source, "target"), path.child("target"));
    amounts(target, &at_target, wrong);
    match (has(target, "averageUtilization"), has(target, "averageValue")) {
        (false, false) => {
            let why = "must set either a target raw value or a target utilization";
            wrong.required(&at_target.child("averageUtilization"), why);
        }
        (true, true) => {
            let why = "may not set both a target raw value and a target utilization";
            wrong.forbidden(&at_target.child("averageValue"), why);
        }
        _ => {}
    }
}

fn identifier(source: &Value, path: &Path, wrong: &mut Wrong) {
    let (name, at) = (string(child(source, "metric"), "name"), path.child("metric").child("name"));
    if name.is_empty() {
        wrong.required(&at, "must specify a metric name");
    } else {
        wrong.each(&at, name, names::path_segment(name));
    }
}

fn amounts(target: &Value, path: &Path, wrong: &mut Wrong) {
    let kind = string(target, "type");
    if kind.is_empty() {
        wrong.required(&path.child("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        wrong.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for name in ["value", "averageValue"].into_iter().filter(|name| has(target, name)) {
        let text = string(target, name);
        if Quantity::parse(text).is_ok_and(|amount| amount.is_negative() || amount.is_zero()) {
            wrong.invalid(&path.child(name), text, "must be positive");
        }
    }
    if let Some(percent) = integer(target, "averageUtilization").filter(|percent| *percent < 1) {
        wrong.invalid_value(&path.child("averageUtilization"), &json!(percent), "must be greater than 0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(metric: &Value) -> Vec<String> {
        let mut wrong = Wrong::default();
        validate(metric, Versions { without_group: true, any: false }, &Path::new("m"), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_metric_has_one_source_with_one_target() {
        assert!(problems(&super::super::on_cpu(80)).is_empty());
        let two = json!({"type": "Pods", "pods": {"metric": {"name": "a"}, "target": {"type": "AverageValue", "averageValue": "1"}},
            "resource": {"name": "cpu", "target": {}}});
        assert_eq!(problems(&two), ["m.resource: Forbidden: must populate the given metric source only"]);
        let unknown = "m.type: Unsupported value: \"Odd\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"";
        assert_eq!(problems(&json!({"type": "Odd"})), [unknown, unknown]);
        let both = json!({"type": "Resource", "resource": {"name": "", "target": {"type": "Utilization", "averageValue": "0",
            "averageUtilization": 0}}});
        assert_eq!(
            problems(&both),
            [
                "m.resource.name: Required value: must specify a resource name",
                "m.resource.target.averageValue: Invalid value: \"0\": must be positive",
                "m.resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                "m.resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
            ]
        );
    }
}
