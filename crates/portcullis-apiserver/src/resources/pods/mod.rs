//! Pods: what the server adds to them, what may change, and the status of a pod that nothing will run.
//!
//! Compat: tolerations and priority are those of the admission plugins `DefaultTolerationSeconds` and `Priority`. Only
//! Portcullis' own parts run (design decision 9): a pod that a user creates stays Pending, and an event and the
//! `PodScheduled` condition say why.

mod resize;
mod update;

use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::{IMMUTABLE, Path, Wrong, meta};
use super::pod_spec::{self, Around, annotations};
use super::rules::{PartRules, Rules, count_up, differs, keep_all_but_status, set_generation};
use super::tree::{Members, at, default, flag_at, list_at, members_at, object, string, string_at, take_over};
use super::{SelectableFields, text, workloads};

pub(crate) const RULES: Rules = Rules {
    returns_deleted: true,
    prepare_create,
    prepare_update: |new, old| {
        take_over(new, old, &["status"]);
        let spec = object(new, "spec");
        tolerate(spec);
        for name in ["priority", "preemptionPolicy", "resources"] {
            if let Some(value) = at(old, &["spec", name]).filter(|_| !spec.contains_key(name)) {
                spec.insert(name.to_owned(), value.clone());
            }
        }
        if differs(new, old, "spec") {
            count_up(new, old);
        }
    },
    prepare_status: |new, old| {
        keep_all_but_status(new, old);
        let quality = string_at(old, &["status", "qosClass"]);
        if !quality.is_empty() {
            default(object(new, "status"), "qosClass", quality);
        }
        keep_owners(new, old);
    },
    validate,
    validate_update: update::validate,
    validate_status,
    warnings: |new, old| {
        let mut warnings = if old.is_none() { workloads::no_label(new, "the Pod's hostname") } else { Vec::new() };
        if old.is_none_or(|old| differs(new, old, "spec")) {
            warnings.extend(pod_spec::warnings::pod(new));
        }
        warnings
    },
    ..Rules::NAMESPACED
};

/// `pods/ephemeralcontainers`: containers for looking into a pod, which can be added and stay.
pub(crate) const EPHEMERAL_CONTAINERS: PartRules = PartRules {
    prepare: |new, old| {
        let added = at(new, &["spec", "ephemeralContainers"]).cloned();
        new.clone_from(old);
        if let Some(added) = added {
            object(new, "spec").insert("ephemeralContainers".to_owned(), added);
        } else {
            object(new, "spec").shift_remove("ephemeralContainers");
        }
        if differs(new, old, "spec") {
            count_up(new, old);
        }
    },
    validate: update::validate_ephemeral_containers,
};

/// `pods/resize`: CPU and memory of containers.
pub(crate) const RESIZE: PartRules = PartRules { prepare: resize::prepare, validate: resize::validate };

const NOTED: &[&str] = &["metadata", "annotations"];

/// What the condition and the event of a user's pod say.
pub(crate) const NOTHING_RUNS: &str = "0/1 nodes are available: this is the Portcullis dev API server, which has no kubelet; \
     only Portcullis' own parts run as pods";

pub(super) const SELECTABLE: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

pub(super) fn selectable(members: &Members) -> SelectableFields {
    let host_network = flag_at(members, &["spec", "hostNetwork"]);
    let ips = list_at(members, &["status", "podIPs"]);
    let first_ip = ips.first().and_then(|ip| ip.get("ip")).and_then(Value::as_str);
    let ip: Box<str> = first_ip.map_or_else(|| text(members, &["status", "podIP"]), Into::into);
    vec![
        ("spec.nodeName", text(members, &["spec", "nodeName"])),
        ("spec.restartPolicy", text(members, &["spec", "restartPolicy"])),
        ("spec.schedulerName", text(members, &["spec", "schedulerName"])),
        ("spec.serviceAccountName", text(members, &["spec", "serviceAccountName"])),
        ("spec.hostNetwork", if host_network { "true" } else { "false" }.into()),
        ("status.phase", text(members, &["status", "phase"])),
        ("status.podIP", ip.clone()),
        ("status.podIPs", ip),
        ("status.nominatedNodeName", text(members, &["status", "nominatedNodeName"])),
    ]
}

/// Gives a new pod its tolerations, generation, and the status of a new pod.
fn prepare_create(members: &mut Members) {
    let spec = object(members, "spec");
    default(spec, "priority", 0);
    default(spec, "preemptionPolicy", "PreemptLowerPriority");
    tolerate(spec);
    pod_spec::own_resources::fill(spec);
    let quality = pod_spec::fill::quality(spec);
    members.insert("status".to_owned(), json!({"phase": "Pending", "qosClass": quality}));
    hold_back_gated(members);
    set_generation(members, 1);
}

fn tolerate(spec: &mut Members) {
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if tolerations.is_null() {
        *tolerations = json!([]);
    }
    let Value::Array(tolerations) = tolerations else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|toleration| {
            let is = |name: &str, wanted: &[&str]| wanted.contains(&string(toleration, name));
            is("key", &[key, ""]) && is("effect", &["NoExecute", ""])
        });
        if !covered {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// Compat: an update of the status does not give the pod to someone else.
fn keep_owners(new: &mut Members, old: &Members) {
    let before = at(old, &["metadata", "ownerReferences"]).cloned();
    let metadata = object(new, "metadata");
    match before {
        Some(owners) => drop(metadata.insert("ownerReferences".to_owned(), owners)),
        None => drop(metadata.shift_remove("ownerReferences")),
    }
}

/// Sets a condition. Its time is when its status came about.
pub(crate) fn set_condition(status: &mut Members, mut condition: Value, now: &str) {
    let conditions = status.entry("conditions").or_insert(Value::Null);
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Value::Array(conditions) = conditions else { return };
    let there = conditions.iter_mut().find(|there| string(there, "type") == string(&condition, "type"));
    let same = there.as_ref().filter(|there| string(there, "status") == string(&condition, "status"));
    let since = same.map_or(now, |there| string(there, "lastTransitionTime")).to_owned();
    crate::json::set(&mut condition, "lastTransitionTime", json!(since));
    match there {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}

/// Whether somebody still holds a pod back from being scheduled.
pub(crate) fn is_gated(pod: &Members) -> bool {
    !list_at(pod, &["spec", "schedulingGates"]).is_empty()
}

/// Says on a new pod with gates what it waits for. Compat: `applySchedulingGatedCondition`.
fn hold_back_gated(pod: &mut Members) {
    if is_gated(pod) {
        let now = string_at(pod, &["metadata", "creationTimestamp"]).to_owned();
        object(pod, "status").insert(
            "conditions".to_owned(),
            json!([{"type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": now,
                "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"}]),
        );
    }
}

/// Marks a pod as waiting for a node that will not come.
pub(crate) fn mark_unschedulable(members: &mut Members, now: &str) {
    object(members, "status").insert(
        "conditions".to_owned(),
        json!([{"type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": now,
            "reason": "Unschedulable", "message": NOTHING_RUNS}]),
    );
}

fn validate(new: &Members, wrong: &mut Wrong) {
    pod(new, None, wrong);
    let spec = members_at(new, &["spec"]);
    let path = Path::new("spec");
    if !list_at(spec, &["ephemeralContainers"]).is_empty() {
        wrong.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    if !string_at(spec, &["nodeName"]).is_empty() && !list_at(spec, &["schedulingGates"]).is_empty() {
        wrong.forbidden(&path.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    annotations::agree(members_at(new, NOTED), spec, &path, wrong);
}

fn pod(new: &Members, old: Option<&Members>, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    let (spec, path) = (members_at(new, &["spec"]), Path::new("spec"));
    let before = old.map(|old| members_at(old, NOTED));
    annotations::validate(members_at(new, NOTED), before, spec, &Path::new("metadata.annotations"), wrong);
    let name = string_at(new, &["metadata", "name"]);
    pod_spec::validate(spec, &path, Around { pod_name: Some(name) }, wrong);
    pod_spec::only_for_pods(spec, &path, wrong);
}

fn validate_status(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let status = |members: &Members, name: &str| string_at(members, &["status", name]).to_owned();
    let nominated = status(new, "nominatedNodeName");
    if nominated != status(old, "nominatedNodeName") && !nominated.is_empty() {
        wrong.each(&Path::new("status.nominatedNodeName"), &nominated, names::dns_subdomain(&nominated));
    }
    let quality = status(new, "qosClass");
    if quality != status(old, "qosClass") {
        wrong.invalid(&Path::new("status.qosClass"), &quality, IMMUTABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::super::defaults;
    use super::*;
    use crate::schema::SCHEMA;

    fn pod_of(spec: Value) -> Members {
        let pod = json!({"metadata": {"name": "q", "namespace": "d", "resourceVersion": "1"}, "spec": spec});
        pod.as_object().unwrap().clone()
    }

    #[test]
    fn a_simple_pod_gets_what_the_real_server_fills_in() {
        let mut members = pod_of(json!({"containers": [{"name": "c", "image": "i"}]}));
        let schema = SCHEMA.find("core.Pod").unwrap();
        let mut shaped =
            crate::schema::normalise::normalise(schema, Value::Object(std::mem::take(&mut members))).unwrap().value;
        defaults::fill(schema, &mut shaped);
        prepare_create(&mut shaped);
        let shaped = crate::schema::normalise::normalise(schema, Value::Object(shaped)).unwrap().value;
        let want = json!({
            "metadata": {"name": "q", "namespace": "d", "resourceVersion": "1", "generation": 1},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}],
                "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "securityContext": {},
                "schedulerName": "default-scheduler",
                "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
                "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority"},
            "status": {"phase": "Pending", "qosClass": "BestEffort"}});
        assert_eq!(serde_json::to_string(&shaped).unwrap(), serde_json::to_string(&want).unwrap());
        let mut wrong = Wrong::default();
        validate(&shaped, &mut wrong);
        assert!(wrong.is_empty());
    }

    #[test]
    fn an_update_may_change_images_but_not_commands() {
        let filled = |spec: Value| {
            let mut members = pod_of(spec);
            defaults::fill(SCHEMA.find("core.Pod").unwrap(), &mut members);
            members
        };
        let old = filled(json!({"containers": [{"name": "c", "image": "i"}]}));
        let fields = |new: Value| {
            let mut wrong = Wrong::default();
            update::validate(&filled(new), &old, &mut wrong);
            wrong.finish().into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert!(fields(json!({"containers": [{"name": "c", "image": "j", "imagePullPolicy": "Always"}]})).is_empty());
        assert_eq!(fields(json!({"containers": [{"name": "c", "image": "i", "command": ["x"]}]})), ["spec"]);
        assert_eq!(
            fields(json!({"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]})),
            ["spec.containers"]
        );
        assert_eq!(
            fields(json!({"containers": [{"name": "c", "image": "i"}], "activeDeadlineSeconds": -1})),
            ["spec.activeDeadlineSeconds", "spec.activeDeadlineSeconds"]
        );
    }

    #[test]
    fn an_update_of_the_status_leaves_the_owners() {
        let mut old = pod_of(json!({}));
        old["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]);
        old.insert("status".to_owned(), json!({"qosClass": "BestEffort"}));
        let mut new = pod_of(json!({"x": 1}));
        new.insert("status".to_owned(), json!({"qosClass": "Burstable", "nominatedNodeName": "A B"}));
        (RULES.prepare_status)(&mut new, &old);
        assert_eq!(
            (&new["metadata"]["ownerReferences"], &new["spec"]),
            (&old["metadata"]["ownerReferences"], &old["spec"])
        );
        let mut wrong = Wrong::default();
        validate_status(&new, &old, &mut wrong);
        assert_eq!(wrong.finish().len(), 2);
    }

    /// What a pod of these is told, and how many bytes that takes.
    fn told(spec: Value) -> (usize, usize) {
        let mut members = pod_of(spec);
        defaults::fill(SCHEMA.find("core.Pod").unwrap(), &mut members);
        let mut wrong = Wrong::default();
        validate(&members, &mut wrong);
        let problems = wrong.finish();
        let status = portcullis_kube::Status::invalid("", "Pod", "q", &problems);
        (problems.len(), status.to_body().len())
    }

    #[test]
    fn of_many_problems_the_first_are_told() {
        const MANY: usize = 100_000;
        let (count, bytes) = told(json!({"containers": vec![json!({}); MANY]}));
        assert!(count == 1_000 && bytes < 1 << 20, "{count} {bytes}");
        // Each names all claims that there are.
        let named = |index: usize| json!({"name": format!("c{index}"), "resourceClaimName": "x"});
        let known: Vec<Value> = (0..MANY).map(named).collect();
        let wanted: Vec<Value> = (0..MANY).map(|index| json!({"name": format!("d{index}")})).collect();
        let resources = json!({"claims": wanted});
        let (count, bytes) = told(json!({"resourceClaims": known,
            "containers": [{"name": "c", "image": "i", "resources": resources}]}));
        assert!((1..1_000).contains(&count) && bytes < 8 << 20, "{count} {bytes}");
    }

    #[test]
    fn repetitions_are_found_among_many() {
        const MANY: usize = 100_000;
        let (settings, tolerations): (Vec<Value>, Vec<Value>) = (0..MANY)
            .map(|index| {
                (
                    json!({"name": format!("a.b{index}"), "value": "1"}),
                    json!({"key": format!("k{index}"), "operator": "Exists"}),
                )
            })
            .unzip();
        let spec = json!({"containers": [{"name": "c", "image": "i"}], "securityContext": {"sysctls": settings}});
        assert_eq!(told(spec).0, 0);
        let old = pod_of(json!({"containers": [{"name": "c", "image": "i"}], "tolerations": tolerations}));
        let mut wrong = Wrong::default();
        update::validate(&old, &old, &mut wrong);
        assert!(!wrong.finish().iter().any(|error| error.field == "spec.tolerations"));
    }
}
