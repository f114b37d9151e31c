//! Nodes: taints, capacities, and the taint that a new node begins with.

use std::collections::BTreeSet;

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::formats::{cidr, cidr_warnings};
use super::check::{NOT_NEGATIVE, Path, Wrong, meta};
use super::rules::{Rules, keep_all_but_status};
use super::tree::{Members, default, flag_at, list_at, members_at, object, string, string_at, take_over};
use crate::resources::SelectableFields;
use crate::schema::quantity::Quantity;

pub(crate) const RULES: Rules = Rules {
    prepare_create,
    prepare_update: |new, old| take_over(new, old, &["status"]),
    prepare_status: keep_all_but_status,
    validate,
    validate_update,
    validate_status: update_only,
    warnings,
    ..Rules::CLUSTER
};
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const CIDR_FIXED: &str = "node updates may not change podCIDR except from \"\" to valid";

pub(super) fn selectable(members: &Members) -> SelectableFields {
    let unschedulable = flag_at(members, &["spec", "unschedulable"]);
    vec![("spec.unschedulable", if unschedulable { "true" } else { "false" }.into())]
}

/// Compat: the older `podCIDR` is the first of `podCIDRs`, and wins where both are said and differ.
pub(super) fn fill_spec(spec: &mut Members) {
    let one = string_at(spec, &["podCIDR"]).to_owned();
    let first = list_at(spec, &["podCIDRs"]).first().cloned();
    match first {
        Some(first) if one.is_empty() => drop(spec.insert("podCIDR".to_owned(), first)),
        Some(first) if first == one.as_str() => {}
        None if one.is_empty() => {}
        _ => drop(spec.insert("podCIDRs".to_owned(), json!([one]))),
    }
}

/// Allocatable is what there is, unless it is said.
pub(super) fn fill_status(status: &mut Members) {
    if let Some(capacity) = status.get("capacity").filter(|capacity| capacity.is_object()).cloned() {
        default(status, "allocatable", capacity);
    }
}

/// Compat: the taint comes from the admission plugin `TaintNodesByCondition`: nobody has seen the node ready yet.
fn prepare_create(members: &mut Members) {
    object(members, "status").shift_remove("config");
    let spec = object(members, "spec");
    spec.shift_remove("configSource");
    let there = spec.get("taints").and_then(Value::as_array).is_some_and(|taints| {
        taints.iter().any(|taint| string(taint, "key") == NOT_READY && string(taint, "effect") == "NoSchedule")
    });
    if !there && let Value::Array(taints) = spec.entry("taints").or_insert_with(|| json!([])) {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, false, names::dns_subdomain, wrong);
    taints(list_at(new, &["spec", "taints"]), wrong);
    resources(new, wrong);
    let blocks = list_at(new, &["spec", "podCIDRs"]);
    let path = Path::new("spec.podCIDRs");
    let mut families = BTreeSet::new();
    for (index, block) in blocks.iter().enumerate() {
        let read = cidr(&path.index(index), block.as_str().unwrap_or_default(), wrong);
        families.extend(read.map(|(address, _)| address.is_ipv6()));
    }
    if blocks.len() > 1 && (families.len() != 2 || blocks.len() > 2) {
        let why = "may specify no more than one CIDR for each IP family";
        wrong.invalid_value(&path, &Value::Array(blocks.to_vec()), why);
    }
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    validate(new, wrong);
    update_only(new, old, wrong);
}

fn update_only(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    resources(new, wrong);
    let mut seen: Vec<&Value> = Vec::new();
    for (index, address) in list_at(new, &["status", "addresses"]).iter().enumerate() {
        if seen.contains(&address) {
            let printed = json!({"Type": string(address, "type"), "Address": string(address, "address")});
            wrong.duplicate_value(&Path::new("status.addresses").index(index), &printed);
        }
        seen.push(address);
    }
    let (before, after) = (list_at(old, &["spec", "podCIDRs"]), list_at(new, &["spec", "podCIDRs"]));
    if !before.is_empty() && before.len() != after.len() {
        wrong.forbidden(&Path::new("spec.podCIDRs"), CIDR_FIXED);
    } else {
        for _ in before.iter().zip(after).filter(|(before, after)| before != after) {
            wrong.forbidden(&Path::new("spec.podCIDRs"), CIDR_FIXED);
        }
    }
    let (before, after) = (string_at(old, &["spec", "providerID"]), string_at(new, &["spec", "providerID"]));
    if !before.is_empty() && before != after {
        let why =
            if after.is_empty() { "field cannot be cleared once set" } else { "field cannot be modified once set" };
        wrong.push(FieldError::invalid_json("spec.providerID", &(), why));
    }
    taints(list_at(new, &["spec", "taints"]), wrong);
    if string_at(old, &["spec", "externalID"]) != string_at(new, &["spec", "externalID"]) {
        wrong.forbidden(&Path::new("spec.externalID"), "may not be updated");
    }
}

/// Compat: upstream puts taints under `metadata` in its messages.
fn taints(taints: &[Value], wrong: &mut Wrong) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = Path::new("metadata.taints").index(index);
        let (key, value, effect) = (string(taint, "key"), string(taint, "value"), string(taint, "effect"));
        wrong.each(&path.child("key"), key, names::label_key(key));
        let sentences = names::label_value(value);
        if !sentences.is_empty() {
            wrong.invalid(&path.child("value"), value, sentences.join(";"));
        }
        wrong.required_one_of(&path.child("effect"), effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        if !seen.insert((effect, key)) {
            let printed = json!({"Key": key, "Value": value, "Effect": effect, "TimeAdded": taint.get("timeAdded").unwrap_or(&Value::Null)});
            let mut error = FieldError::duplicate(&path, "");
            error.value = String::from_utf8(crate::json::to_vec(&printed)).ok();
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            wrong.push(error);
        }
    }
}

fn resources(new: &Members, wrong: &mut Wrong) {
    for name in ["capacity", "allocatable"] {
        for (resource, amount) in members_at(new, &["status", name]) {
            let path = Path::new("status").child(name).child(resource);
            let text = amount.as_str().unwrap_or_default();
            let Ok(quantity) = Quantity::parse(text) else { continue };
            if quantity.is_negative() {
                wrong.invalid(&path, text, NOT_NEGATIVE);
            }
            let whole = resource == "pods" || (resource.contains('/') && !resource.starts_with("kubernetes.io/"));
            if whole && !quantity.is_whole() {
                wrong.invalid(&path, text, "must be an integer");
            }
        }
    }
}

fn warnings(new: &Members, _: Option<&Members>) -> Vec<String> {
    let mut out = Vec::new();
    if members_at(new, &["spec"]).contains_key("configSource") {
        out.push("spec.configSource: the feature is removed".to_owned());
    }
    if !string_at(new, &["spec", "externalID"]).is_empty() {
        out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    for (index, block) in list_at(new, &["spec", "podCIDRs"]).iter().enumerate() {
        out.extend(cidr_warnings(&Path::new("spec.podCIDRs").index(index), block.as_str().unwrap_or_default()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(spec: Value, status: Value) -> Members {
        let node = json!({"metadata": {"name": "n", "resourceVersion": "1"}, "spec": spec, "status": status});
        node.as_object().unwrap().clone()
    }

    fn texts(check: impl FnOnce(&mut Wrong)) -> Vec<String> {
        let mut wrong = Wrong::default();
        check(&mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_node_begins_unready_and_with_all_it_has() {
        let mut new = node(json!({}), json!({}));
        prepare_create(&mut new);
        assert_eq!(new["spec"]["taints"], json!([{"key": NOT_READY, "effect": "NoSchedule"}]));
        let again = new["spec"].clone();
        prepare_create(&mut new);
        assert_eq!(new["spec"], again);
        let mut status = json!({"capacity": {"cpu": "2"}}).as_object().unwrap().clone();
        fill_status(&mut status);
        assert_eq!(status["allocatable"], json!({"cpu": "2"}));
    }

    #[test]
    fn taints_are_unique_and_have_an_effect() {
        let taints = json!([{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule", "value": "v"}, {"key": "b"}, {"key": "c", "effect": "X"}]);
        let found = texts(|wrong| validate(&node(json!({"taints": taints}), json!({})), wrong));
        assert_eq!(
            found,
            [
                "metadata.taints[1]: Duplicate value: {\"Key\":\"a\",\"Value\":\"v\",\"Effect\":\"NoSchedule\",\"TimeAdded\":null}: taints must be unique by key and effect pair",
                "metadata.taints[2].effect: Required value",
                "metadata.taints[3].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
            ]
        );
    }

    #[test]
    fn identities_of_a_node_stay() {
        let old = node(json!({"providerID": "p", "podCIDRs": ["10.0.0.0/24"]}), json!({}));
        let new = node(json!({"podCIDRs": ["10.1.0.0/24"]}), json!({"capacity": {"pods": "1500m", "cpu": "-1"}}));
        let found = texts(|wrong| update_only(&new, &old, wrong));
        assert_eq!(
            found,
            [
                "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Invalid value: null: field cannot be cleared once set"
            ]
        );
    }
}
