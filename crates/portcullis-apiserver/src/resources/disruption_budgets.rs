//! Pod disruption budgets. Nothing counts pods here: `status` is what its writers say, and what evictions take from it.
//!
//! Compat: `checkAndDecrement` of `pkg/registry/core/pod/storage/eviction.go` of Kubernetes 1.37.

use portcullis_kube::Status;
use portcullis_kube::status::{GroupResource, StatusCause, StatusDetails};
use serde_json::{Value, json};

use super::check::{Path, Wrong, formats, labels};
use super::rules::Rules;
use super::tree::{Members, at, child, has, integer, list_at, members_at, object, string, string_at};

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

/// Most evictions that a budget holds which nobody has confirmed.
const MAX_DISRUPTED: usize = 2_000;
const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// What a budget says to an eviction.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It has counted it, and looks like this.
    Counted(Members),
    Refused(Box<Status>),
}

/// Whether an unready pod may go without being counted.
pub(crate) fn gives_up_unready(budget: &Members) -> bool {
    let of = |name: &str| number(budget, name);
    string_at(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
        || (of("currentHealthy") >= of("desiredHealthy") && of("desiredHealthy") > 0)
}

/// Takes one eviction from what the budget allows.
pub(crate) fn count(budget: &Members, pod: &str, now: &str) -> Verdict {
    let name = string_at(budget, &["metadata", "name"]);
    let generation = at(budget, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
    let refused = |status: Status, message: String| Verdict::Refused(because(status, message));
    if number(budget, "observedGeneration") < generation {
        return Verdict::Refused(unprocessed(name));
    }
    let forbidden = |why: &str| Status::forbidden(GroupResource::new("policy", "poddisruptionbudget"), name, why);
    let allowed = number(budget, "disruptionsAllowed");
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return refused(
            forbidden(why),
            format!("The disruption budget {name} does not allow evicting pods currently: {why}"),
        );
    }
    if members_at(budget, &["status", "disruptedPods"]).len() > MAX_DISRUPTED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        let message = format!(
            "The disruption budget {name} does not allow evicting pods currently: too many pending evictions not confirmed by PDB \
             controller"
        );
        return refused(forbidden(why), message);
    }
    if allowed == 0 {
        return refused(Status::too_many_requests(VIOLATED, 0), exhausted(budget, name));
    }
    let mut new = budget.clone();
    let status = object(&mut new, "status");
    status.insert("disruptionsAllowed".to_owned(), json!(allowed - 1));
    if allowed == 1 {
        disallow(status, now);
    }
    object(status, "disruptedPods").insert(pod.to_owned(), json!(now));
    Verdict::Counted(new)
}

fn number(budget: &Members, name: &str) -> i64 {
    at(budget, &["status", name]).and_then(Value::as_i64).unwrap_or(0)
}

/// The 429 of a budget that is not looked at yet, or of a pod that has changed meanwhile.
pub(crate) fn unprocessed(name: &str) -> Box<Status> {
    let message = format!("The disruption budget {name} is still being processed by the server.");
    because(Status::too_many_requests(VIOLATED, 10), message)
}

fn because(mut status: Status, message: String) -> Box<Status> {
    let details = status.details.get_or_insert_with(|| Box::new(StatusDetails::default()));
    details.causes.push(StatusCause { reason: "DisruptionBudget".to_owned(), message, field: String::new() });
    Box::new(status)
}

fn exhausted(budget: &Members, name: &str) -> String {
    let conditions = list_at(budget, &["status", "conditions"]);
    let allowed = conditions.iter().find(|condition| string(condition, "type") == DISRUPTION_ALLOWED);
    let said =
        allowed.filter(|condition| string(condition, "status") == "False" && !string(condition, "message").is_empty());
    let (healthy, wanted) = (number(budget, "currentHealthy"), number(budget, "desiredHealthy"));
    let budget = format!("The disruption budget {name}");
    match said {
        Some(condition) if string(condition, "reason") == "SyncFailed" => {
            let message = string(condition, "message");
            format!("{budget} does not allow evicting pods currently because it failed sync: {message}")
        }
        _ if healthy <= wanted => format!("{budget} needs {wanted} healthy pods and has {healthy} currently"),
        Some(condition) => {
            let (reason, message) = (string(condition, "reason"), string(condition, "message"));
            format!("{budget} does not allow evicting pods currently ({reason}): {message}")
        }
        None => format!("{budget} does not allow evicting pods currently"),
    }
}

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// The condition of a budget whose last eviction was taken.
fn disallow(status: &mut Members, now: &str) {
    let observed = status.get("observedGeneration").cloned();
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if conditions.is_null() {
        *conditions = json!([]);
    }
    let Value::Array(conditions) = conditions else { return };
    let there = conditions.iter().position(|condition| string(condition, "type") == DISRUPTION_ALLOWED);
    let since = there.and_then(|at| conditions.get(at)).filter(|condition| string(condition, "status") == "False");
    let since = since.map_or_else(|| json!(now), |condition| child(condition, "lastTransitionTime").clone());
    let mut condition = json!({"type": DISRUPTION_ALLOWED, "status": "False", "observedGeneration": observed,
        "lastTransitionTime": since, "reason": "InsufficientPods", "message": ""});
    if observed.is_none_or(|observed| observed.as_i64() == Some(0))
        && let Value::Object(condition) = &mut condition
    {
        condition.shift_remove("observedGeneration");
    }
    match there.and_then(|at| conditions.get_mut(at)) {
        Some(there) => *there = condition,
        None => conditions.push(condition),
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

    #[test]
    fn a_budget_counts_down_and_then_says_why_not() {
        let budget = |status: Value| {
            json!({"metadata": {"name": "b", "generation": 1}, "status": status}).as_object().unwrap().clone()
        };
        let said = |status: Value| match count(&budget(status), "p", "t") {
            Verdict::Counted(budget) => panic!("{budget:?}"),
            Verdict::Refused(status) => {
                let details = status.details.unwrap();
                (status.code, details.retry_after_seconds, details.causes[0].message.clone())
            }
        };
        let (code, after, message) = said(json!({"disruptionsAllowed": 1}));
        assert_eq!((code, after), (429, 10));
        assert!(message.ends_with("is still being processed by the server."), "{message}");
        let none = json!({"observedGeneration": 1, "currentHealthy": 2, "desiredHealthy": 3});
        assert_eq!(said(none), (429, 0, "The disruption budget b needs 3 healthy pods and has 2 currently".to_owned()));
        assert_eq!(said(json!({"observedGeneration": 1, "disruptionsAllowed": -1})).0, 403);
        let many: serde_json::Map<String, Value> = (0..=MAX_DISRUPTED).map(|n| (n.to_string(), json!("t"))).collect();
        assert_eq!(said(json!({"observedGeneration": 1, "disruptionsAllowed": 1, "disruptedPods": many})).0, 403);
        let Verdict::Counted(last) =
            count(&budget(json!({"observedGeneration": 1, "disruptionsAllowed": 1})), "p", "t")
        else {
            panic!("refused")
        };
        assert_eq!(
            last["status"],
            json!({"observedGeneration": 1, "disruptionsAllowed": 0, "disruptedPods": {"p": "t"}, "conditions": [{"type": "DisruptionAllowed",
                "status": "False", "observedGeneration": 1, "lastTransitionTime": "t", "reason": "InsufficientPods", "message": ""}]})
        );
    }
}
