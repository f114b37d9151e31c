//! What an update of a pod may change: images, deadlines, more tolerations, fewer gates; of a gated pod, where it may run.
//!
//! Compat: `ValidatePodUpdate` and `ValidatePodEphemeralContainersUpdate` in `pkg/apis/core/validation` of Kubernetes 1.37. The
//! difference that upstream prints in Go's notation is left out.

use std::collections::{HashMap, HashSet};

use portcullis_kube::field::FieldError;
use serde_json::{Map, Value, json};

use super::{NOTED, pod};
use crate::parts::MIRROR_ANNOTATION;
use crate::resources::check::{Path, Wrong, meta, same};
use crate::resources::pod_spec::annotations;
use crate::resources::tree::{Members, at, child, list, list_at, members_at, objects_mut, string};

const OTHER_FIELDS: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update of the pod itself.
pub(super) fn validate(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    pod(new, Some(old), wrong);
    noted(new, old, wrong);
    let path = Path::new("spec");
    for list in ["containers", "initContainers"] {
        let (now, before) = (list_at(new, &["spec", list]), list_at(old, &["spec", list]));
        if now.len() != before.len() {
            return wrong.forbidden(&path.child(list), "pod updates may not add or remove containers");
        }
        for (index, container) in now.iter().enumerate() {
            let (image, at) = (string(container, "image"), path.child(list).index(index).child("image"));
            if image.is_empty() {
                wrong.required(&at, "");
            }
            if image.trim() != image {
                wrong.invalid(&at, image, "must not have leading or trailing whitespace");
            }
        }
    }
    if !deadline(new, old, wrong) {
        return;
    }
    tolerations(new, old, wrong);
    gates(new, old, wrong);
    let (mut now, mut before) = (fixed(new), fixed(old));
    grace(&mut now, &before);
    if !list_at(old, &["spec", "schedulingGates"]).is_empty() {
        placement(&mut now, &mut before, wrong);
    }
    if !same(&Value::Object(now), &Value::Object(before)) {
        wrong.push(FieldError::forbidden("spec", OTHER_FIELDS));
    }
}

/// More ephemeral containers.
pub(super) fn validate_ephemeral_containers(new: &Members, old: &Members, wrong: &mut Wrong) {
    // Compat: it is told alone.
    if is_mirror(old) {
        return wrong.forbidden(&Path::new("[]"), "static pods do not support ephemeral containers");
    }
    meta::object_meta_update(new, old, wrong);
    pod(new, Some(old), wrong);
    noted(new, old, wrong);
    let path = Path::new("spec.ephemeralContainers");
    let now = list_at(new, &["spec", "ephemeralContainers"]).iter();
    let now: HashMap<&str, &Value> = now.map(|container| (string(container, "name"), container)).collect();
    for before in list_at(old, &["spec", "ephemeralContainers"]) {
        let name = portcullis_kube::go::quote(string(before, "name"));
        match now.get(string(before, "name")) {
            None => wrong.forbidden(&path, format!("existing ephemeral containers {name} may not be removed\n")),
            Some(now) if !same(now, before) => {
                wrong.forbidden(&path, format!("existing ephemeral containers {name} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
}

/// Whether a kubelet shows one of its own pods by it.
pub(super) fn is_mirror(pod: &Members) -> bool {
    members_at(pod, NOTED).contains_key(MIRROR_ANNOTATION)
}

/// Compat: upstream judges the annotations once more.
fn noted(new: &Members, old: &Members, wrong: &mut Wrong) {
    let (path, now, before) = (Path::new("metadata.annotations"), members_at(new, NOTED), members_at(old, NOTED));
    annotations::validate_update(now, before, &path, wrong);
    annotations::validate(now, Some(before), members_at(new, &["spec"]), &path, wrong);
}

/// Whether the rest of the update is worth looking at.
fn deadline(new: &Members, old: &Members, wrong: &mut Wrong) -> bool {
    let of = |members: &Members| at(members, &["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64);
    let path = Path::new("spec.activeDeadlineSeconds");
    let why = match (of(new), of(old)) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => "must be between 0 and 2147483647, inclusive",
        (Some(now), Some(before)) if before < now => "must be less than or equal to previous value",
        (None, Some(_)) => {
            wrong.invalid_value(&path, &Value::Null, "must not update from a positive integer to nil value");
            return true;
        }
        _ => return true,
    };
    wrong.push(FieldError::invalid_json(&path, &of(new), why));
    false
}

/// What was tolerated still is, for as long as may be said anew.
fn tolerations(new: &Members, old: &Members, wrong: &mut Wrong) {
    let of = |members: &Members| -> Vec<String> {
        let without = |toleration: &Value| {
            let mut toleration = toleration.clone();
            if let Value::Object(members) = &mut toleration {
                members.shift_remove("tolerationSeconds");
            }
            toleration.to_string()
        };
        list_at(members, &["spec", "tolerations"]).iter().map(without).collect()
    };
    let now: HashSet<String> = of(new).into_iter().collect();
    if !of(old).iter().all(|toleration| now.contains(toleration)) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        wrong.forbidden(&Path::new("spec.tolerations"), why);
    }
}

/// A gate can only be taken away.
fn gates(new: &Members, old: &Members, wrong: &mut Wrong) {
    let known: HashSet<&str> =
        list_at(old, &["spec", "schedulingGates"]).iter().map(|gate| string(gate, "name")).collect();
    // Of gates of one name the last is told.
    let now = list_at(new, &["spec", "schedulingGates"]).iter().enumerate();
    let last: HashMap<&str, usize> = now.map(|(index, gate)| (string(gate, "name"), index)).collect();
    let mut added: Vec<_> = last.into_iter().filter(|(name, _)| !known.contains(name)).collect();
    added.sort_unstable_by_key(|(_, index)| *index);
    for (name, index) in added {
        let at = Path::new("spec.schedulingGates").index(index).child("name");
        wrong.forbidden(&at, format!("only deletion is allowed, but found new scheduling gate '{name}'"));
    }
}

/// A negative time to end, which older servers took, may become one second.
fn grace(now: &mut Members, before: &Members) {
    let of = |spec: &Members| spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if let (Some(1), Some(..0)) = (of(now), of(before)) {
        now.insert("terminationGracePeriodSeconds".to_owned(), json!(of(before)));
    }
}

/// Where a gated pod may run can be narrowed. What is judged here is taken out of both.
fn placement(now: &mut Members, before: &mut Members, wrong: &mut Wrong) {
    let path = Path::new("spec");
    let selectors = [&mut *now, &mut *before].map(|spec| spec.shift_remove("nodeSelector").unwrap_or(json!({})));
    let [selector, selected] = &selectors;
    let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (selector, selected) = (members(selector), members(selected));
    if selected.iter().any(|(key, value)| selector.get(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        wrong.invalid_value(&path.child("nodeSelector"), &sorted(&selector), why);
    }
    let there = |spec: &Members| spec.contains_key("affinity");
    let both = there(now) && there(before);
    let [affinity, affined] = [&mut *now, &mut *before].map(|spec| {
        let affinity = spec.get_mut("affinity").and_then(Value::as_object_mut);
        let of_node = affinity.and_then(|affinity| affinity.shift_remove("nodeAffinity"));
        // Compat: an affinity that has come or gone with that of nodes has not.
        if of_node.is_some() && !both && members_at(spec, &["affinity"]).is_empty() {
            spec.shift_remove("affinity");
        }
        of_node.unwrap_or_default()
    });
    let terms = |affinity: &Value| -> Vec<Value> {
        list(child(affinity, "requiredDuringSchedulingIgnoredDuringExecution"), "nodeSelectorTerms").to_vec()
    };
    let (terms, before) = (terms(&affinity), terms(&affined));
    let path = path.child("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    if before.is_empty() {
        return;
    }
    if terms.len() != before.len() {
        let shown = if terms.is_empty() { Value::Null } else { terms.iter().map(shown).collect() };
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return wrong.invalid_value(&path, &shown, why);
    }
    for (index, (term, before)) in terms.iter().zip(&before).enumerate() {
        if !only_adds(term, before) {
            let why = "only additions are allowed (no mutations or deletions)";
            wrong.invalid_value(&path.index(index), &shown(term), why);
        }
    }
}

fn only_adds(term: &Value, before: &Value) -> bool {
    const PARTS: [&str; 2] = ["matchExpressions", "matchFields"];
    // A term of nothing selects nothing, and must go on doing so.
    if PARTS.iter().all(|part| list(before, part).is_empty()) {
        return PARTS.iter().all(|part| list(term, part).is_empty());
    }
    PARTS.iter().all(|part| {
        let (now, before) = (list(term, part), list(before, part));
        now.len() >= before.len() && now.iter().zip(before).all(|(now, before)| same(now, before))
    })
}

/// A term as Go prints the type that has no names for JSON.
fn shown(term: &Value) -> Value {
    let part = |name: &str| -> Value {
        let requirements = list(term, name).iter().map(
            |one| json!({"Key": string(one, "key"), "Operator": string(one, "operator"), "Values": one.get("values")}),
        );
        if list(term, name).is_empty() { Value::Null } else { requirements.collect() }
    };
    json!({"MatchExpressions": part("matchExpressions"), "MatchFields": part("matchFields")})
}

/// A map as Go prints it.
fn sorted(map: &Map<String, Value>) -> Value {
    if map.is_empty() {
        return Value::Null;
    }
    let mut map = map.clone();
    map.sort_keys();
    Value::Object(map)
}

/// What is compared as a whole.
fn fixed(members: &Members) -> Members {
    let mut spec = members_at(members, &["spec"]).clone();
    for free in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        spec.shift_remove(free);
    }
    for list in ["containers", "initContainers"] {
        for container in objects_mut(&mut spec, list) {
            container.shift_remove("image");
        }
    }
    spec
}
