//! Pod disruption budgets. Nothing is evicted here, so nothing is counted.

use serde_json::Value;

use super::check::{Path, Wrong, formats, labels};
use super::rules::Rules;
use super::tree::{Members, child, has, integer, list_at, string};

pub(crate) const RULES: Rules = Rules {
    unconditional_update: false,
    validate: spec,
    validate_update: |new, _, wrong| spec(new, wrong),
    validate_status: |new, _, wrong| status(new, wrong),
    ..Rules::WITH_STATUS
};

/// Compat: metadata is judged in general only, not once more for the kind.
fn spec(new: &Members, wrong: &mut Wrong) {
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
        let printed = serde_json::json!({"MinAvailable": child(spec, "minAvailable"), "Selector": child(spec, "selector"),
            "MaxUnavailable": child(spec, "maxUnavailable"), "UnhealthyPodEvictionPolicy": child(spec, "unhealthyPodEvictionPolicy")});
        wrong.invalid_value(&path, &printed, "minAvailable and maxUnavailable cannot be both set");
    }
    for name in ["minAvailable", "maxUnavailable"].into_iter().filter(|name| has(spec, name)) {
        formats::not_negative_int_or_percent(&path.child(name), child(spec, name), wrong);
        formats::not_over_hundred_percent(&path.child(name), child(spec, name), wrong);
    }
    labels::selector(child(spec, "selector"), &path.child("selector"), wrong);
    let policy = string(spec, "unhealthyPodEvictionPolicy");
    wrong.one_of(&path.child("unhealthyPodEvictionPolicy"), policy, &["AlwaysAllow", "IfHealthyBudget"]);
}

fn status(new: &Members, wrong: &mut Wrong) {
    let (status, path) = (new.get("status").unwrap_or(&Value::Null), Path::new("status"));
    for (index, condition) in list_at(new, &["status", "conditions"]).iter().enumerate() {
        let path = path.child("conditions").index(index);
        for name in ["type", "reason"] {
            if string(condition, name).is_empty() {
                wrong.required(&path.child(name), "");
            }
        }
        wrong.required_one_of(&path.child("status"), string(condition, "status"), &["False", "True", "Unknown"]);
    }
    for name in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        wrong.not_negative(&path.child(name), integer(status, name));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_number_is_enough() {
        let problems = |spec: Value| {
            let mut wrong = Wrong::default();
            super::spec(json!({"spec": spec}).as_object().unwrap(), &mut wrong);
            wrong.finish().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(problems(json!({"minAvailable": "50%"})).is_empty());
        assert_eq!(
            problems(json!({"minAvailable": 1, "maxUnavailable": "101%"})),
            [
                "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":null,\"MaxUnavailable\":\"101%\",\"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"
            ]
        );
        let mut wrong = Wrong::default();
        status(json!({"status": {"expectedPods": -1, "conditions": [{}]}}).as_object().unwrap(), &mut wrong);
        assert_eq!(wrong.finish().len(), 4);
    }
}
