//! `autoscaling/v1 Scale`: how many pods a workload should have and has, as a document of its own.
//!
//! Compat: `pkg/registry/apps/*/storage`: an update of the scale is an update of `spec.replicas`, under the version that the
//! document names.

use portcullis_kube::field::FieldError;
use serde_json::{Value, json};

use super::check::Path;
use super::check::labels;
use super::tree::{Members, at, integer, members_at, object, string_at};

/// The scale that an object shows, without `kind` and `apiVersion`.
pub(crate) fn of(object: &Members) -> Members {
    let metadata = members_at(object, &["metadata"]);
    let mut shown = Members::new();
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = metadata.get(name) {
            shown.insert(name.to_owned(), value.clone());
        }
    }
    let wanted = at(object, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    let there = at(object, &["status", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    let mut spec = Members::new();
    if wanted != 0 {
        spec.insert("replicas".to_owned(), json!(wanted));
    }
    let mut status = json!({"replicas": there});
    let selector = at(object, &["spec", "selector"]).map(written).filter(|text| text != "<none>");
    if let Some(selector) = selector {
        crate::json::set(&mut status, "selector", json!(selector));
    }
    let mut scale = Members::new();
    scale.insert("metadata".to_owned(), Value::Object(shown));
    scale.insert("spec".to_owned(), Value::Object(spec));
    scale.insert("status".to_owned(), status);
    scale
}

/// A selector as text. Replication controllers have a plain map.
fn written(selector: &Value) -> String {
    let plain = selector.as_object().is_some_and(|map| map.values().all(Value::is_string));
    if plain { labels::format(&json!({"matchLabels": selector})) } else { labels::format(selector) }
}

/// The object as the scale wants it.
pub(crate) fn apply(scale: &Members, object_members: &Members) -> Members {
    let mut new = object_members.clone();
    let wanted = at(scale, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    object(&mut new, "spec").insert("replicas".to_owned(), json!(wanted));
    let version = string_at(scale, &["metadata", "resourceVersion"]);
    let metadata = object(&mut new, "metadata");
    if !version.is_empty() {
        metadata.insert("resourceVersion".to_owned(), json!(version));
    }
    new
}

/// What is wrong with a scale.
pub(crate) fn validate(scale: &Members) -> Vec<FieldError> {
    let spec = scale.get("spec").unwrap_or(&Value::Null);
    let wanted = integer(spec, "replicas").unwrap_or(0);
    if wanted >= 0 {
        return Vec::new();
    }
    vec![FieldError::invalid_json(Path::new("spec.replicas"), &wanted, super::check::NOT_NEGATIVE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_and_sets_the_replicas() {
        let deployment = json!({"metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "5", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}}, "status": {"replicas": 1}});
        let deployment = deployment.as_object().unwrap();
        let scale = of(deployment);
        assert_eq!(
            Value::Object(scale),
            json!({"metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": "5"},
                "spec": {"replicas": 3}, "status": {"replicas": 1, "selector": "app=x"}})
        );
        let wanted = json!({"spec": {"replicas": 7}}).as_object().unwrap().clone();
        assert_eq!(apply(&wanted, deployment)["spec"]["replicas"], 7);
        assert_eq!(validate(&json!({"spec": {"replicas": -1}}).as_object().unwrap().clone()).len(), 1);
    }
}
