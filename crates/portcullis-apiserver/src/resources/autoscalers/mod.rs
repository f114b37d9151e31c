//! Horizontal pod autoscalers: stored, judged and shown. They are stored as `autoscaling/v2`; `v1` shows them too.
//!
//! Compat: `pkg/apis/autoscaling/validation` and `pkg/apis/autoscaling/v2/defaults.go` of Kubernetes 1.37, whose gates let an
//! autoscaler go down to no pods.

mod metrics;
mod v1;

use portcullis_kube::names;
use serde_json::{Value, json};

pub(super) use self::v1::{VIEW, fill as fill_v1};
use super::check::{NOT_NEGATIVE, Path, Wrong, meta};
use super::rules::Rules;
use super::tree::{Members, at, child, default, has, integer, list, list_at, object, string, string_at};
use crate::schema::quantity::Quantity;

/// Most seconds that a policy looks at.
const MAX_PERIOD: i64 = 1_800;
/// Most seconds for which earlier recommendations count.
const MAX_WINDOW: i64 = 3_600;
/// What `v1` keeps of newer fields; a stored object has none of it.
const ROUND_TRIP: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

pub(super) const RULES: Rules = Rules {
    validate: |new, wrong| {
        meta::object_meta(new, true, names::dns_subdomain, wrong);
        spec(new, None, wrong);
    },
    validate_update: |new, old, wrong| {
        meta::object_meta_update(new, old, wrong);
        spec(new, Some(old), wrong);
    },
    validate_status: |new, old, wrong| {
        meta::object_meta_update(new, old, wrong);
        status(new, wrong);
    },
    ..Rules::WITH_STATUS
};

/// What is filled in in `v2`.
pub(super) fn fill(autoscaler: &mut Members) {
    drop_round_trip(autoscaler);
    let spec = object(autoscaler, "spec");
    default(spec, "minReplicas", 1);
    if list_at(spec, &["metrics"]).is_empty() {
        spec.insert("metrics".to_owned(), json!([on_cpu(80)]));
    }
    let Some(Value::Object(behavior)) = spec.get_mut("behavior") else { return };
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let up = object(behavior, "scaleUp");
    default(up, "stabilizationWindowSeconds", 0);
    rules(up, json!([pods, percent]));
    rules(object(behavior, "scaleDown"), json!([percent]));
}

fn rules(rules: &mut Members, policies: Value) {
    default(rules, "selectPolicy", "Max");
    default(rules, "policies", policies);
}

/// A metric: how busy the CPU is, in percent.
fn on_cpu(percent: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}})
}

/// Takes away the annotations in which `v1` keeps newer fields.
fn drop_round_trip(autoscaler: &mut Members) {
    if let Some(Value::Object(annotations)) =
        autoscaler.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"))
    {
        annotations.retain(|key, _| !ROUND_TRIP.contains(&key.as_str()));
    }
}

/// Which versions a reference to another object may name.
#[derive(Clone, Copy)]
struct Versions {
    without_group: bool,
    any: bool,
}

fn spec(new: &Members, old: Option<&Members>, wrong: &mut Wrong) {
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    let (least, most) = (integer(spec, "minReplicas"), integer(spec, "maxReplicas").unwrap_or(0));
    let mut last = Wrong::default();
    if let Some(least) = least.filter(|least| *least < 0) {
        last.invalid_value(&path.child("minReplicas"), &json!(least), NOT_NEGATIVE);
    }
    match most {
        0 => last.required(&path.child("maxReplicas"), ""),
        most if most < 0 => {
            last.invalid_value(&path.child("maxReplicas"), &json!(most), "must be greater than or equal to 1");
        }
        _ => {}
    }
    if least.is_some_and(|least| most < least) {
        let why = "must be greater than or equal to `minReplicas`";
        wrong.invalid_value(&path.child("maxReplicas"), &json!(most), why);
    }
    let target = |members: &Members, name: &str| string_at(members, &["spec", "scaleTargetRef", name]).to_owned();
    let kept = |name: &str| old.is_some_and(|old| target(old, name) == target(new, name));
    let versions = Versions {
        any: kept("apiVersion") && kept("kind"),
        without_group: target(new, "kind") == "ReplicationController",
    };
    reference(child(spec, "scaleTargetRef"), versions, &path.child("scaleTargetRef"), wrong);
    let mut versions = Versions { without_group: true, any: false };
    let described = |metric: &Value| string(child(child(metric, "object"), "describedObject"), "apiVersion").to_owned();
    let before = old.map(|old| list_at(old, &["spec", "metrics"])).unwrap_or_default();
    versions.any = before
        .iter()
        .any(|metric| string(metric, "type") == "Object" && version_problem(&described(metric), versions).is_some());
    let at_metrics = path.child("metrics");
    for (index, metric) in list(spec, "metrics").iter().enumerate() {
        metrics::validate(metric, versions, &at_metrics.index(index), wrong);
    }
    let counts = |metric: &Value| matches!(string(metric, "type"), "Object" | "External");
    if least == Some(0) && !list(spec, "metrics").iter().any(counts) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        wrong.forbidden(&at_metrics, why);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = child(child(spec, "behavior"), direction);
        if !rules.is_null() {
            scaling(rules, &path.child("behavior").child(direction), wrong);
        }
    }
    // Compat: upstream's declarative validation finds these.
    for error in last.finish() {
        wrong.push_last(error);
    }
}

/// A reference to an object of any kind.
fn reference(reference: &Value, versions: Versions, path: &Path, wrong: &mut Wrong) {
    for name in ["kind", "name"] {
        let text = string(reference, name);
        if text.is_empty() {
            wrong.required(&path.child(name), "");
        } else {
            wrong.each(&path.child(name), text, names::path_segment(text));
        }
    }
    let version = string(reference, "apiVersion");
    if let Some(why) = version_problem(version, versions) {
        wrong.invalid(&path.child("apiVersion"), version, why);
    }
}

fn version_problem(text: &str, versions: Versions) -> Option<String> {
    if versions.any {
        return None;
    }
    let group = match text.split('/').collect::<Vec<_>>().as_slice() {
        [_] | ["", ""] => "",
        [group, _] => *group,
        _ => return Some(format!("unexpected GroupVersion string: {text}")),
    };
    (group.is_empty() && !versions.without_group).then(|| "apiVersion must specify API group".to_owned())
}

/// How fast pods may come or go.
fn scaling(rules: &Value, path: &Path, wrong: &mut Wrong) {
    if let Some(window) = integer(rules, "stabilizationWindowSeconds") {
        let at = path.child("stabilizationWindowSeconds");
        if window < 0 {
            wrong.invalid_value(&at, &json!(window), "must be greater than or equal to zero");
        }
        if window > MAX_WINDOW {
            wrong.invalid_value(&at, &json!(window), format!("must be less than or equal to {MAX_WINDOW}"));
        }
    }
    if has(rules, "selectPolicy") && !["Disabled", "Max", "Min"].contains(&string(rules, "selectPolicy")) {
        let policies = ["Disabled", "Max", "Min"];
        wrong.not_supported(&path.child("selectPolicy"), string(rules, "selectPolicy"), &policies);
    }
    let at_policies = path.child("policies");
    let policies = list(rules, "policies");
    if policies.is_empty() {
        wrong.required(&at_policies, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let at = at_policies.index(index);
        let kind = string(policy, "type");
        if !["Percent", "Pods"].contains(&kind) {
            wrong.not_supported(&at.child("type"), kind, &["Percent", "Pods"]);
        }
        for name in ["value", "periodSeconds"] {
            let number = integer(policy, name).unwrap_or(0);
            if number <= 0 {
                wrong.invalid_value(&at.child(name), &json!(number), "must be greater than zero");
            }
            if name == "periodSeconds" && number > MAX_PERIOD {
                let why = format!("must be less than or equal to {MAX_PERIOD}");
                wrong.invalid_value(&at.child(name), &json!(number), why);
            }
        }
    }
    let tolerance = string(rules, "tolerance");
    if Quantity::parse(tolerance).is_ok_and(Quantity::is_negative) {
        wrong.invalid(&path.child("tolerance"), tolerance, NOT_NEGATIVE);
    }
}

fn status(new: &Members, wrong: &mut Wrong) {
    let path = Path::new("status");
    for (index, condition) in list_at(new, &["status", "conditions"]).iter().enumerate() {
        let at = path.child("conditions").index(index).child("observedGeneration");
        wrong.not_negative(&at, integer(condition, "observedGeneration"));
    }
    for name in ["currentReplicas", "desiredReplicas"] {
        wrong.not_negative(&path.child(name), at(new, &["status", name]).and_then(Value::as_i64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: Value, old: Option<Value>) -> Vec<String> {
        let whole = |spec: Value| {
            let mut whole =
                json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec}).as_object().unwrap().clone();
            fill(&mut whole);
            whole
        };
        let mut wrong = Wrong::default();
        super::spec(&whole(spec), old.map(whole).as_ref(), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    fn target() -> Value {
        json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"})
    }

    #[test]
    fn what_is_not_said_is_filled_in() {
        let mut autoscaler =
            json!({"metadata": {"annotations": {METRICS: "[]", "a": "b"}}, "spec": {"behavior": {"scaleDown": {
            "stabilizationWindowSeconds": 5, "policies": []}}}})
            .as_object()
            .unwrap()
            .clone();
        fill(&mut autoscaler);
        assert_eq!(autoscaler["metadata"]["annotations"], json!({"a": "b"}));
        let spec = &autoscaler["spec"];
        assert_eq!((&spec["minReplicas"], &spec["metrics"]), (&json!(1), &json!([on_cpu(80)])));
        assert_eq!(spec["behavior"]["scaleUp"]["policies"].as_array().unwrap().len(), 2);
        assert_eq!(spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 5);
        assert_eq!(spec["behavior"]["scaleDown"]["policies"], json!([]));
    }

    #[test]
    fn bounds_and_targets_are_judged() {
        assert!(problems(json!({"maxReplicas": 2, "scaleTargetRef": target()}), None).is_empty());
        assert_eq!(
            problems(
                json!({"minReplicas": 0, "scaleTargetRef": {"kind": "a/b", "name": "d", "apiVersion": "v1"}}),
                None
            ),
            [
                "spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain '/'",
                "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
                "spec.maxReplicas: Required value",
            ]
        );
        let old = json!({"maxReplicas": 2, "scaleTargetRef": {"kind": "K", "name": "d", "apiVersion": "v1"}});
        assert!(problems(old.clone(), Some(old)).is_empty());
    }

    #[test]
    fn scaling_has_limits() {
        let up = |window: i64, period: i64| {
            json!({"maxReplicas": 2, "scaleTargetRef": target(), "behavior": {"scaleUp": {"stabilizationWindowSeconds": window,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": period}]}}})
        };
        assert!(problems(up(MAX_WINDOW, MAX_PERIOD), None).is_empty());
        assert_eq!(
            problems(up(MAX_WINDOW + 1, MAX_PERIOD + 1), None),
            [
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ]
        );
    }
}
