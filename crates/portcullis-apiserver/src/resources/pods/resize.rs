//! `pods/resize`: what a running pod's containers ask for and may use.
//!
//! Compat: `podResizeStrategy` of `pkg/registry/core/pod/strategy.go` and `ValidatePodResize` of `pkg/apis/core/validation`, with
//! the gates of Kubernetes 1.37: init containers and the pod's own resources may be changed, sizes of volumes not.

use serde_json::{Value, json};

use super::super::check::{Path, Wrong, meta, same};
use super::super::pod_spec::{self, own_resources};
use super::super::rules::{count_up, differs};
use super::super::tree::{Members, at, child, has, list, list_at, members, members_at, object, string, string_at};

/// What can be changed.
const SCALED: [&str; 2] = ["cpu", "memory"];
const ONLY_SCALED: &str = "only cpu and memory resources are mutable";

/// Takes nothing from the update but resources and resize policies.
pub(super) fn prepare(new: &mut Members, old: &Members) {
    let lists = |pod: &Members, name: &str| list_at(pod, &["spec", name]).to_vec();
    let fits = ["containers", "initContainers"].iter().all(|name| lists(new, name).len() == lists(old, name).len());
    // Compat: what adds or takes away containers is left as it is, for validation to refuse.
    if fits {
        let sent = std::mem::replace(new, old.clone());
        let spec = object(new, "spec");
        for name in ["containers", "initContainers"] {
            let containers = resized(lists(&sent, name), lists(old, name));
            if !containers.is_empty() {
                spec.insert(name.to_owned(), Value::Array(containers));
            }
        }
        let own = at(&sent, &["spec", "resources"]).filter(|resources| !resources.is_null());
        if let Some(own) = own {
            spec.insert("resources".to_owned(), own.clone());
        }
        own_resources::fill(spec);
    }
    if differs(new, old, "spec") {
        count_up(new, old);
    }
}

fn resized(new: Vec<Value>, old: Vec<Value>) -> Vec<Value> {
    if new.iter().zip(&old).any(|(new, old)| string(new, "name") != string(old, "name")) {
        return new;
    }
    let merged = old.into_iter().zip(new).map(|(mut old, new)| {
        if let Value::Object(members) = &mut old {
            for part in ["resources", "resizePolicy"] {
                match new.get(part) {
                    Some(value) => members.insert(part.to_owned(), value.clone()),
                    None => members.shift_remove(part),
                };
            }
        }
        old
    });
    merged.collect()
}

pub(super) fn validate(new: &Members, old: &Members, wrong: &mut Wrong) {
    let path = Path::new("spec");
    if super::update::is_mirror(old) {
        return wrong.forbidden(&Path::new("[]"), "static pods cannot be resized");
    }
    if string_at(old, &["spec", "os", "name"]) == "windows" {
        return wrong.forbidden(&Path::new("[]"), "windows pods cannot be resized");
    }
    meta::object_meta_update(new, old, wrong);
    super::pod(new, Some(old), wrong);
    let quality = |pod: &Members| pod_spec::fill::quality(members_at(pod, &["spec"]));
    let before = match string_at(old, &["status", "qosClass"]) {
        "" => quality(old).to_owned(),
        class => class.to_owned(),
    };
    if before != quality(new) {
        let shown = string_at(new, &["status", "qosClass"]);
        wrong.invalid(&path, shown, "Pod QOS Class may not change as a result of resizing");
    }
    if !node_can(old) {
        wrong.forbidden(&path, "Pod running on node without support for resize");
    }
    let mut masked = members_at(new, &["spec"]).clone();
    let spec_before = members_at(old, &["spec"]);
    let set = |spec: &Members| {
        let own = spec.get("resources").unwrap_or(&Value::Null);
        !members(own, "requests").is_empty() || !members(own, "limits").is_empty()
    };
    if set(&masked) || set(spec_before) {
        of_pod(&mut masked, spec_before, &path, wrong);
    }
    if !in_order(new, old, &path, wrong) {
        return;
    }
    for kind in ["initContainers", "containers"] {
        for (index, (new, old)) in pairs(new, old, kind).enumerate() {
            let at = path.child(kind).index(index).child("resources");
            for (part, why) in
                [("requests", "resource requests cannot be removed"), ("limits", "resource limits cannot be removed")]
            {
                if removed(child(new, "resources"), child(old, "resources"), part) {
                    wrong.forbidden(&at.child(part), why);
                }
            }
        }
    }
    containers(new, old, &mut masked, &path, wrong);
    if wrong.is_empty() && !same(&Value::Object(masked), &Value::Object(spec_before.clone())) {
        wrong.forbidden(&path, ONLY_SCALED);
    }
}

/// Only CPU and memory of containers differ. What may differ is made equal in `masked`.
fn containers(new: &Members, old: &Members, masked: &mut Members, path: &Path, wrong: &mut Wrong) {
    for kind in ["containers", "initContainers"] {
        let mut all = Vec::new();
        for (index, (now, before)) in pairs(new, old, kind).enumerate() {
            let mut now = now.clone();
            let modified = !same(&now, before);
            mask(&mut now, before);
            let at = path.child(kind).index(index);
            if !same(&now, before) {
                if kind == "containers" {
                    wrong.forbidden(path, ONLY_SCALED);
                } else {
                    wrong.forbidden(&at, "only cpu and memory resources for init or sidecar containers are mutable");
                }
            }
            if kind == "initContainers" && modified && string(&now, "restartPolicy") != "Always" {
                let restarts = |policy: &&Value| string(policy, "restartPolicy") == "RestartContainer";
                for _ in list(&now, "resizePolicy").iter().filter(restarts) {
                    let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                    wrong.forbidden(&at, why);
                }
            }
            all.push(now);
        }
        if !all.is_empty() {
            masked.insert(kind.to_owned(), Value::Array(all));
        }
    }
}

/// The pod's own resources.
fn of_pod(masked: &mut Members, before: &Members, path: &Path, wrong: &mut Wrong) {
    let null = Value::Null;
    let old = before.get("resources").unwrap_or(&null);
    let at = path.child("resources");
    if !old.is_null() && !masked.contains_key("resources") {
        return wrong.forbidden(&at, "pod-level resources cannot be removed");
    }
    let new = masked.get("resources").cloned().unwrap_or_default();
    for (part, why) in [
        ("requests", "pod-level resource requests cannot be removed"),
        ("limits", "pod-level resource limits cannot be removed"),
    ] {
        if !old.is_null() && removed(&new, old, part) {
            wrong.forbidden(&at.child(part), why);
        }
    }
    let wrapped = json!({"resources": old});
    let mut own = json!({"resources": new});
    mask(&mut own, &wrapped);
    let own = child(&own, "resources").clone();
    let nothing = own.as_object().is_none_or(Members::is_empty);
    let own = if old.is_null() && nothing { Value::Null } else { own };
    if !same(&own, old) {
        wrong.forbidden(path, "only cpu and memory resources are mutable at pod-level");
    }
    masked.insert("resources".to_owned(), own);
}

/// Gives `new` the old amounts of what may be changed.
fn mask(new: &mut Value, old: &Value) {
    let Some(resources) = new.as_object_mut().map(|members| object(members, "resources")) else { return };
    for part in ["requests", "limits"] {
        let before = members(child(old, "resources"), part);
        let amounts = object(resources, part);
        for name in SCALED {
            match before.get(name) {
                Some(amount) => amounts.insert(name.to_owned(), amount.clone()),
                None => amounts.shift_remove(name),
            };
        }
        if amounts.is_empty() {
            resources.shift_remove(part);
        }
    }
}

fn removed(new: &Value, old: &Value, part: &str) -> bool {
    let (new, old) = (members(new, part), members(old, part));
    old.len() > new.len() || old.keys().any(|name| !new.contains_key(name))
}

fn pairs<'p>(new: &'p Members, old: &'p Members, kind: &str) -> impl Iterator<Item = (&'p Value, &'p Value)> {
    list_at(new, &["spec", kind]).iter().zip(list_at(old, &["spec", kind]))
}

/// Whether containers are the same, one by one.
fn in_order(new: &Members, old: &Members, path: &Path, wrong: &mut Wrong) -> bool {
    let before = wrong.len();
    for kind in ["containers", "initContainers"] {
        let at = path.child(kind);
        if list_at(new, &["spec", kind]).len() != list_at(old, &["spec", kind]).len() {
            wrong.forbidden(&at, format!("{kind} may not be added or removed on resize"));
            continue;
        }
        for (index, (new, old)) in pairs(new, old, kind).enumerate() {
            if string(new, "name") != string(old, "name") {
                let why = format!("{kind} may not be renamed or reordered on resize");
                wrong.forbidden(&at.index(index).child("name"), why);
            }
        }
    }
    wrong.len() == before
}

/// Compat: a node that does not know resizing says nothing about the resources of what runs.
fn node_can(pod: &Members) -> bool {
    let running = |status: &&Value| has(child(status, "state"), "running");
    let first = list_at(pod, &["status", "containerStatuses"]).iter().find(running);
    first.is_none_or(|status| has(status, "resources"))
}
