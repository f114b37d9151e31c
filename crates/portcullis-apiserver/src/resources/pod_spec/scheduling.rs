//! Where a pod may run: affinity, tolerations, spreading, gates.

use std::collections::BTreeSet;

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{Path, Wrong, labels};
use super::super::tree::{child, has, integer, list, string};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(affinity: &Value, path: &Path, wrong: &mut Wrong) {
    let (node, at) = (child(affinity, "nodeAffinity"), path.child("nodeAffinity"));
    if has(node, REQUIRED) {
        node_selector(child(node, REQUIRED), &at.child(REQUIRED), wrong);
    }
    for (index, term) in list(node, PREFERRED).iter().enumerate() {
        let at = at.child(PREFERRED).index(index);
        weight(term, &at, wrong);
        node_term(child(term, "preference"), false, &at.child("preference"), wrong);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (pods, at) = (child(affinity, kind), path.child(kind));
        for (index, term) in list(pods, REQUIRED).iter().enumerate() {
            pod_term(term, &at.child(REQUIRED).index(index), wrong);
        }
        for (index, term) in list(pods, PREFERRED).iter().enumerate() {
            let at = at.child(PREFERRED).index(index);
            weight(term, &at, wrong);
            pod_term(child(term, "podAffinityTerm"), &at.child("podAffinityTerm"), wrong);
        }
    }
}

fn weight(term: &Value, path: &Path, wrong: &mut Wrong) {
    let weight = integer(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        wrong.push(FieldError::invalid_json(path.child("weight"), &weight, "must be in the range 1-100"));
    }
}

/// Terms of which one must hold for a node; volumes have them too.
pub(crate) fn node_selector(selector: &Value, path: &Path, wrong: &mut Wrong) {
    let terms = list(selector, "nodeSelectorTerms");
    let path = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        wrong.required(&path, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(term, true, &path.index(index), wrong);
    }
}

fn node_term(term: &Value, values_too: bool, path: &Path, wrong: &mut Wrong) {
    for (index, requirement) in list(term, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = list(requirement, "values");
        match string(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                wrong.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => wrong
                .forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
            "Gt" | "Lt" if values.len() != 1 => {
                wrong.required(&path.child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => wrong.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = string(requirement, "key");
        wrong.each(&path.child("key"), key, names::label_key(key));
        if values_too {
            for (at, value) in values.iter().enumerate() {
                let value = value.as_str().unwrap_or_default();
                wrong.each(&path.child("values").index(at), value, names::label_value(value));
            }
        }
    }
    for (index, requirement) in list(term, "matchFields").iter().enumerate() {
        let path = path.child("matchFields").index(index);
        match string(requirement, "operator") {
            "In" | "NotIn" if list(requirement, "values").len() != 1 => wrong.required(
                &path.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            "In" | "NotIn" => {}
            other => wrong.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = string(requirement, "key");
        if key != "metadata.name" {
            wrong.invalid(&path.child("key"), key, "not a valid field selector key");
        }
    }
}

fn pod_term(term: &Value, path: &Path, wrong: &mut Wrong) {
    for name in ["labelSelector", "namespaceSelector"].into_iter().filter(|name| has(term, name)) {
        labels::selector(child(term, name), &path.child(name), wrong);
    }
    for namespace in list(term, "namespaces").iter().filter_map(Value::as_str) {
        wrong.each(&path.child("namespace"), namespace, names::dns_label(namespace));
    }
    let key = string(term, "topologyKey");
    if key.is_empty() {
        wrong.required(&path.child("topologyKey"), "can not be empty");
    }
    wrong.each(&path.child("topologyKey"), key, names::label_key(key));
}

pub(super) fn tolerations(tolerations: &[Value], path: &Path, wrong: &mut Wrong) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let (key, operator) = (string(toleration, "key"), string(toleration, "operator"));
        let (value, effect) = (string(toleration, "value"), string(toleration, "effect"));
        if !key.is_empty() {
            wrong.each(&path.child("key"), key, names::label_key(key));
        }
        let at = path.child("operator");
        if key.is_empty() && operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            wrong.invalid(&at, operator, why);
        }
        if has(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            wrong.invalid_typed(&path.child("effect"), effect, why);
        }
        match operator {
            "Equal" | "" => {
                let sentences = names::label_value(value);
                if !sentences.is_empty() {
                    wrong.invalid(&at, value, sentences.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                wrong.invalid(&at, value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => wrong.not_supported(&at, operator, &["Equal", "Exists", "Lt", "Gt"]),
            other => wrong.not_supported(&at, other, &["Equal", "Exists"]),
        }
        wrong.one_of(&path.child("effect"), effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    }
}

pub(super) fn spread(constraints: &[Value], path: &Path, wrong: &mut Wrong) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        let skew = integer(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            wrong.push(FieldError::invalid_json(path.child("maxSkew"), &skew, "must be greater than zero"));
        }
        let (key, action) = (string(constraint, "topologyKey"), string(constraint, "whenUnsatisfiable"));
        if key.is_empty() {
            wrong.required(&path.child("topologyKey"), "can not be empty");
        }
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action) {
            wrong.not_supported(&path.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let again = constraints
            .iter()
            .skip(index + 1)
            .any(|other| string(other, "topologyKey") == key && string(other, "whenUnsatisfiable") == action);
        if again {
            wrong.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), &format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = integer(constraint, "minDomains") {
            let at = path.child("minDomains");
            if domains <= 0 {
                wrong.push(FieldError::invalid_json(&at, &domains, "must be greater than zero"));
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                wrong.push(FieldError::invalid_json(&at, &domains, why));
            }
        }
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            wrong.one_of(&path.child(name), string(constraint, name), &["Honor", "Ignore"]);
        }
        if has(constraint, "labelSelector") {
            labels::selector(child(constraint, "labelSelector"), &path.child("labelSelector"), wrong);
        }
    }
}

pub(super) fn gates(gates: &[Value], path: &Path, wrong: &mut Wrong) {
    let mut seen = BTreeSet::new();
    for (index, gate) in gates.iter().enumerate() {
        let name = string(gate, "name");
        wrong.each(&path.index(index), name, names::label_key(name));
        if !seen.insert(name) {
            wrong.duplicate_value(&path.index(index), &json!(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;
    use super::*;

    fn with(part: &str, value: Value) -> Vec<String> {
        problems(json!({"containers": [{"name": "c", "image": "i"}], part: value}))
    }

    #[test]
    fn tolerations_say_what_they_tolerate() {
        assert!(
            with("tolerations", json!([{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoSchedule"}]))
                .is_empty()
        );
        assert_eq!(
            with(
                "tolerations",
                json!([{}, {"key": "a", "operator": "Exists", "value": "v", "tolerationSeconds": 5}, {"key": "a", "operator": "Odd", "effect": "X"}])
            ),
            [
                "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                "spec.tolerations[1].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
                "spec.tolerations[1].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'",
                "spec.tolerations[2].operator: Unsupported value: \"Odd\": supported values: \"Equal\", \"Exists\"",
                "spec.tolerations[2].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
            ]
        );
    }

    #[test]
    fn an_effect_is_printed_as_json() {
        assert_eq!(
            with("tolerations", json!([{"key": "a", "tolerationSeconds": 5, "effect": "\u{7}"}]))[0],
            "spec.tolerations[0].effect: Invalid value: \"\\u0007\": effect must be 'NoExecute' when `tolerationSeconds` is set"
        );
    }

    #[test]
    fn affinity_needs_terms_keys_and_weights() {
        let found = with(
            "affinity",
            json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}, PREFERRED: [{"weight": 0, "preference": {"matchExpressions": [{"key": "a", "operator": "Odd"}]}}]},
                "podAffinity": {REQUIRED: [{"labelSelector": {"matchLabels": {"a": "b"}}}]}}),
        );
        let starts = [
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].operator: Invalid value: \"Odd\"",
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"\": name part must be non-empty",
        ];
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
    }

    #[test]
    fn spreading_is_over_a_key_and_once() {
        let one = json!({"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"});
        assert!(with("topologySpreadConstraints", json!([one])).is_empty());
        assert_eq!(
            with("topologySpreadConstraints", json!([one, one]))[0],
            "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{z, DoNotSchedule}\""
        );
        assert_eq!(with("topologySpreadConstraints", json!([{"minDomains": 0}])).len(), 5);
        assert_eq!(with("schedulingGates", json!([{"name": "a"}, {"name": "a"}])).len(), 1);
    }
}
