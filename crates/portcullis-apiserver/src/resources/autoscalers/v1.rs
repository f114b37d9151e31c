//! Autoscalers as `autoscaling/v1` shows them: one metric, the CPU. What is newer stands in annotations, as JSON.
//!
//! Compat: `pkg/apis/autoscaling/v1/conversion.go` of Kubernetes 1.37.

use serde_json::{Map, Value, json};

use super::super::tree::{Members, at, child, default, has, list, list_at, members_at, object, string};
use super::super::view::View;
use super::{BEHAVIOR, CONDITIONS, CURRENT_METRICS, METRICS, drop_round_trip, on_cpu};
use crate::json::{self, Node, to_vec};
use crate::schema::SCHEMA;
use crate::schema::normalise::normalise;

pub(in super::super) const VIEW: View = View { show, take, fields: &[] };

/// What is filled in in `v1`.
pub(in super::super) fn fill(autoscaler: &mut Members) {
    default(object(autoscaler, "spec"), "minReplicas", 1);
}

/// Fields of `status` that both versions have.
const STATUS: [&str; 4] = ["observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas"];

fn show(mut stored: Members) -> Members {
    drop_round_trip(&mut stored);
    let metrics = list_at(&stored, &["spec", "metrics"]);
    let mut spec = picked(members_at(&stored, &["spec"]), &["scaleTargetRef", "minReplicas", "maxReplicas"]);
    if let Some(percent) = metrics.iter().find_map(cpu_target) {
        spec.insert("targetCPUUtilizationPercentage".to_owned(), percent.clone());
    }
    let current = list_at(&stored, &["status", "currentMetrics"]);
    let mut status = picked(members_at(&stored, &["status"]), &STATUS);
    if let Some(percent) = current.iter().rev().find_map(|metric| cpu(metric, "current")) {
        status.insert("currentCPUUtilizationPercentage".to_owned(), percent.clone());
    }
    let others: Vec<Value> = metrics
        .iter()
        .filter(|metric| cpu_target(metric).is_none())
        .map(|metric| shown_metric(metric, &TARGET))
        .collect();
    let current: Vec<Value> = current.iter().map(|metric| shown_metric(metric, &CURRENT)).collect();
    let conditions = list_at(&stored, &["status", "conditions"]).to_vec();
    let mut kept: Vec<(&str, Value)> = Vec::new();
    for (key, values, shape) in [
        (METRICS, others, "autoscaling.MetricSpec"),
        (CURRENT_METRICS, current, "autoscaling.MetricStatus"),
        (CONDITIONS, conditions, "autoscaling.HorizontalPodAutoscalerCondition"),
    ] {
        if !values.is_empty() {
            kept.push((key, values.into_iter().filter_map(|value| shaped(shape, value)).collect()));
        }
    }
    if let Some(behavior) = at(&stored, &["spec", "behavior"]).filter(|behavior| behavior.is_object()) {
        kept.push((BEHAVIOR, internal_behavior(behavior)));
    }
    let mut out = Members::new();
    out.insert("metadata".to_owned(), stored.get("metadata").cloned().unwrap_or_default());
    out.insert("spec".to_owned(), Value::Object(spec));
    out.insert("status".to_owned(), Value::Object(status));
    for (key, value) in kept {
        let text = String::from_utf8(to_vec(&value)).unwrap_or_default();
        object(object(&mut out, "metadata"), "annotations").insert(key.to_owned(), Value::String(text));
    }
    out
}

fn take(mut sent: Members) -> Members {
    let annotations = members_at(&sent, &["metadata", "annotations"]).clone();
    let mut spec = picked(members_at(&sent, &["spec"]), &["scaleTargetRef", "minReplicas", "maxReplicas"]);
    let mut metrics: Vec<Value> = Vec::new();
    if let Some(others) = said(&annotations, METRICS, "autoscaling.MetricSpec") {
        metrics.extend(others.iter().map(|metric| stored_metric(metric, &TARGET)));
    }
    if let Some(percent) = at(&sent, &["spec", "targetCPUUtilizationPercentage"]).and_then(Value::as_i64) {
        metrics.push(on_cpu(percent));
    }
    if metrics.is_empty() {
        metrics.push(on_cpu(80));
    }
    spec.insert("metrics".to_owned(), Value::Array(metrics));
    if let Some(behavior) = annotations.get(BEHAVIOR).and_then(Value::as_str).and_then(stored_behavior) {
        spec.insert("behavior".to_owned(), behavior);
    }
    let mut status = picked(members_at(&sent, &["status"]), &STATUS);
    if let Some(percent) = at(&sent, &["status", "currentCPUUtilizationPercentage"]).filter(|percent| percent.is_i64())
    {
        let metric =
            json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}});
        status.insert("currentMetrics".to_owned(), json!([metric]));
    }
    if let Some(current) = said(&annotations, CURRENT_METRICS, "autoscaling.MetricStatus") {
        let current = current.iter().map(|metric| stored_metric(metric, &CURRENT)).collect();
        status.insert("currentMetrics".to_owned(), Value::Array(current));
    }
    if let Some(conditions) = said(&annotations, CONDITIONS, "autoscaling.HorizontalPodAutoscalerCondition") {
        status.insert("conditions".to_owned(), Value::Array(conditions));
    }
    drop_round_trip(&mut sent);
    sent.insert("spec".to_owned(), Value::Object(spec));
    sent.insert("status".to_owned(), Value::Object(status));
    sent
}

fn picked(from: &Members, names: &[&str]) -> Members {
    names.iter().filter_map(|name| Some(((*name).to_owned(), from.get(*name)?.clone()))).collect()
}

/// The percentage of a metric about the CPU, under `target` or `current`.
fn cpu<'m>(metric: &'m Value, amounts: &str) -> Option<&'m Value> {
    let resource = child(metric, "resource");
    let is_cpu = string(metric, "type") == "Resource" && string(resource, "name") == "cpu";
    Some(child(child(resource, amounts), "averageUtilization")).filter(|percent| is_cpu && !percent.is_null())
}

fn cpu_target(metric: &Value) -> Option<&Value> {
    cpu(metric, "target")
}

/// What an annotation says, when it is a list of that type.
fn said(annotations: &Members, key: &str, shape: &str) -> Option<Vec<Value>> {
    let text = annotations.get(key)?.as_str()?;
    match json::parse(text.as_bytes()).ok()? {
        Node::Array(items) => items.into_iter().map(|item| shaped(shape, item)).collect(),
        Node::Null => Some(Vec::new()),
        _ => None,
    }
}

fn shaped(shape: &str, value: impl Into<Node>) -> Option<Value> {
    Some(Value::Object(normalise(SCHEMA.find(shape)?, value).ok()?.value))
}

/// The names that differ between what is wanted and what is.
struct Amounts {
    /// Where `v2` keeps them.
    stored: &'static str,
    /// How `v1` begins its names.
    prefix: &'static str,
    wanted: bool,
}

const TARGET: Amounts = Amounts { stored: "target", prefix: "target", wanted: true };
const CURRENT: Amounts = Amounts { stored: "current", prefix: "current", wanted: false };

/// A metric in the form of `v1`.
fn shown_metric(metric: &Value, amounts: &Amounts) -> Value {
    let mut out = json!({"type": child(metric, "type")});
    for field in ["object", "pods", "resource", "containerResource", "external"] {
        let source = child(metric, field);
        if source.is_null() {
            continue;
        }
        let of = child(source, amounts.stored);
        let named = |name: &str| format!("{}{name}", amounts.prefix);
        let mut shown = Map::new();
        let mut put = |name: String, value: &Value| {
            if !value.is_null() {
                shown.insert(name, value.clone());
            }
        };
        let (name, selector) = (child(child(source, "metric"), "name"), child(child(source, "metric"), "selector"));
        match field {
            "object" => {
                put("target".to_owned(), child(source, "describedObject"));
                put("metricName".to_owned(), name);
                put(named("Value"), child(of, "value"));
                put("selector".to_owned(), selector);
                put("averageValue".to_owned(), child(of, "averageValue"));
            }
            "pods" => {
                put("metricName".to_owned(), name);
                put(named("AverageValue"), child(of, "averageValue"));
                put("selector".to_owned(), selector);
            }
            "external" => {
                put("metricName".to_owned(), name);
                put("metricSelector".to_owned(), selector);
                put(named("Value"), child(of, "value"));
                put(named("AverageValue"), child(of, "averageValue"));
            }
            _ => {
                put("name".to_owned(), child(source, "name"));
                put("container".to_owned(), child(source, "container"));
                put(named("AverageUtilization"), child(of, "averageUtilization"));
                put(named("AverageValue"), child(of, "averageValue"));
            }
        }
        json::set(&mut out, field, Value::Object(shown));
    }
    out
}

/// A metric of `v1` in the form of `v2`.
fn stored_metric(metric: &Value, amounts: &Amounts) -> Value {
    let mut out = json!({"type": child(metric, "type")});
    for field in ["object", "pods", "resource", "containerResource", "external"] {
        let source = child(metric, field);
        if source.is_null() {
            continue;
        }
        let named = |name: &str| child(source, &format!("{}{name}", amounts.prefix)).clone();
        let identifier =
            |selector: &str| json!({"name": child(source, "metricName"), "selector": child(source, selector)});
        let (mut value, mut percent) = (Value::Null, Value::Null);
        let average: Value;
        let mut stored = Map::new();
        match field {
            "object" => {
                stored.insert("describedObject".to_owned(), child(source, "target").clone());
                stored.insert("metric".to_owned(), identifier("selector"));
                average = child(source, "averageValue").clone();
                value = named("Value");
                // Compat: `v1` cannot leave the value out, so that a zero beside an average says nothing.
                if amounts.wanted && !average.is_null() && value == "0" {
                    value = Value::Null;
                }
            }
            "pods" => {
                stored.insert("metric".to_owned(), identifier("selector"));
                average = named("AverageValue");
            }
            "external" => {
                stored.insert("metric".to_owned(), identifier("metricSelector"));
                (value, average) = (named("Value"), named("AverageValue"));
            }
            _ => {
                stored.insert("name".to_owned(), child(source, "name").clone());
                stored.insert("container".to_owned(), child(source, "container").clone());
                (percent, average) = (named("AverageUtilization"), named("AverageValue"));
            }
        }
        let mut of = json!({"value": value, "averageValue": average, "averageUtilization": percent});
        if amounts.wanted {
            let kind = match field {
                "resource" | "containerResource" if has(&of, "averageUtilization") => "Utilization",
                "object" if !has(&of, "averageValue") => "Value",
                "external" if has(&of, "value") => "Value",
                _ => "AverageValue",
            };
            json::set(&mut of, "type", json!(kind));
        }
        stored.insert(amounts.stored.to_owned(), of);
        stored.retain(|_, value| !value.is_null());
        json::set(&mut out, field, Value::Object(stored));
    }
    out
}

/// Members of scaling rules, as upstream's internal type calls them and as `v2` does.
const RULES: [(&str, &str); 4] = [
    ("StabilizationWindowSeconds", "stabilizationWindowSeconds"),
    ("SelectPolicy", "selectPolicy"),
    ("Policies", "policies"),
    ("Tolerance", "tolerance"),
];
const POLICY: [(&str, &str); 3] = [("Type", "type"), ("Value", "value"), ("PeriodSeconds", "periodSeconds")];
const DIRECTIONS: [(&str, &str); 2] = [("ScaleUp", "scaleUp"), ("ScaleDown", "scaleDown")];

/// Compat: the annotation is upstream's internal type as Go writes it.
fn internal_behavior(behavior: &Value) -> Value {
    let named = |value: &Value, names: &[(&str, &str)]| -> Value {
        if value.is_null() {
            return Value::Null;
        }
        names.iter().map(|(internal, stored)| ((*internal).to_owned(), child(value, stored).clone())).collect()
    };
    let mut out = named(behavior, &DIRECTIONS);
    for (direction, _) in DIRECTIONS {
        let mut rules = named(child(&out, direction), &RULES);
        if rules.is_object() {
            let policies: Vec<Value> = list(&rules, "Policies").iter().map(|policy| named(policy, &POLICY)).collect();
            json::set(&mut rules, "Policies", Value::Array(policies));
        }
        json::set(&mut out, direction, rules);
    }
    out
}

fn stored_behavior(text: &str) -> Option<Value> {
    // Go's reader does not look at the case of names.
    let renamed = |value: &Value, names: &[(&str, &str)]| -> Members {
        let of = |name: &str| names.iter().find(|(internal, _)| internal.eq_ignore_ascii_case(name)).map(|pair| pair.1);
        let members = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        members.filter_map(|(name, value)| Some((of(name)?.to_owned(), value.clone()))).collect()
    };
    let parsed = json::value(text.as_bytes()).ok()?;
    let mut behavior = renamed(&parsed, &DIRECTIONS);
    for rules in behavior.values_mut() {
        let mut own = renamed(rules, &RULES);
        if let Some(Value::Array(policies)) = own.get_mut("policies") {
            for policy in policies {
                *policy = Value::Object(renamed(policy, &POLICY));
            }
        }
        *rules = Value::Object(own);
    }
    let shaped = shaped("autoscalingv2.HorizontalPodAutoscalerBehavior", Value::Object(behavior))?;
    let says_something = shaped.as_object().is_some_and(|behavior| !behavior.is_empty());
    says_something.then_some(shaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v1_does_not_know_comes_back_from_its_annotations() {
        let stored = json!({"metadata": {"name": "a", "annotations": {"x": "y"}},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "minReplicas": 1, "maxReplicas": 3,
                "metrics": [on_cpu(60), {"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
                    {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": {"type": "Utilization", "averageUtilization": 70}}}],
                "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}}},
            "status": {"currentReplicas": 1, "desiredReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "1"}}}]}});
        let shown = show(stored.as_object().unwrap().clone());
        assert_eq!(shown["spec"]["targetCPUUtilizationPercentage"], 60);
        assert_eq!(shown["status"]["currentCPUUtilizationPercentage"], 7);
        let annotations = shown["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(annotations.len(), 5);
        assert_eq!(
            annotations[BEHAVIOR],
            r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":null}"#
        );
        let again = take(shown);
        assert_eq!(again["metadata"]["annotations"], json!({"x": "y"}));
        assert_eq!(again["spec"]["behavior"], stored["spec"]["behavior"]);
        assert_eq!(again["spec"]["metrics"].as_array().unwrap().len(), 3);
        assert_eq!(again["spec"]["metrics"][2], on_cpu(60));
        assert_eq!(again["status"]["conditions"][0]["type"], "AbleToScale");
    }

    #[test]
    fn an_annotation_that_is_none_says_nothing() {
        let sent = json!({"metadata": {"annotations": {METRICS: "{", BEHAVIOR: "5", CONDITIONS: "[1]"}}, "spec": {"maxReplicas": 2}});
        let taken = take(sent.as_object().unwrap().clone());
        assert_eq!(taken["spec"]["metrics"], json!([on_cpu(80)]));
        assert!(!taken["spec"].as_object().unwrap().contains_key("behavior"));
    }
}
