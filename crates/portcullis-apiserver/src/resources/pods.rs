//! Pods: defaults, validation, and the status of a pod that nothing will run.
//!
//! Compat: defaults are those of `pkg/apis/core/v1/defaults.go` and of the admission plugins `DefaultTolerationSeconds`
//! and `Priority` for what a simple pod uses. Only Portcullis' own parts run (design decision 9): a pod that a user
//! creates stays Pending, and an event and the `PodScheduled` condition say why.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Map, Value, json};

use super::{SelectableFields, at, text};

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

pub(super) fn selectable(members: &Map<String, Value>) -> SelectableFields {
    let host_network = at(members, &["spec", "hostNetwork"]).and_then(Value::as_bool).unwrap_or(false);
    let ips = at(members, &["status", "podIPs"]).and_then(Value::as_array);
    let first_ip = ips.and_then(|ips| ips.first()).and_then(|ip| ip.get("ip")).and_then(Value::as_str);
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

/// Fills in what a new pod leaves out, and gives it the status of a new pod.
pub(crate) fn prepare(members: &mut Map<String, Value>) {
    let spec = object(members, "spec");
    for (name, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("priority", json!(0)),
        ("enableServiceLinks", json!(true)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
    ] {
        default(spec, name, value);
    }
    if let Some(account) = spec.get("serviceAccountName").filter(|name| name.as_str() != Some("")).cloned() {
        default(spec, "serviceAccount", account);
    }
    tolerate(spec);
    let mut requests_anything = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Value::Object(container) = container {
                requests_anything |= prepare_container(container);
            }
        }
    }
    let qos = if requests_anything { "Burstable" } else { "BestEffort" };
    members.insert("status".to_owned(), json!({"phase": "Pending", "qosClass": qos}));
    object(members, "metadata").insert("generation".to_owned(), json!(1));
}

/// Whether the container asks for any resources.
fn prepare_container(container: &mut Map<String, Value>) -> bool {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let pinned = last.contains('@') || last.split_once(':').is_some_and(|(_, tag)| tag != "latest");
    default(container, "imagePullPolicy", json!(if pinned { "IfNotPresent" } else { "Always" }));
    default(container, "terminationMessagePath", json!("/dev/termination-log"));
    default(container, "terminationMessagePolicy", json!("File"));
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(port) = port {
            default(port, "protocol", json!("TCP"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(probe) {
            for (name, value) in
                [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
            {
                default(probe, name, json!(value));
            }
        }
    }
    let asks = |kind: &str| {
        at(container, &["resources", kind]).and_then(Value::as_object).is_some_and(|resources| !resources.is_empty())
    };
    asks("requests") || asks("limits")
}

fn tolerate(spec: &mut Map<String, Value>) {
    let tolerations = spec.entry("tolerations").or_insert_with(|| Value::Array(Vec::new()));
    if tolerations.is_null() {
        *tolerations = Value::Array(Vec::new());
    }
    let Value::Array(tolerations) = tolerations else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|toleration| {
            let is = |name: &str, wanted: &[&str]| {
                wanted.contains(&toleration.get(name).and_then(Value::as_str).unwrap_or_default())
            };
            is("key", &[key, ""]) && is("effect", &["NoExecute", ""])
        });
        if !covered {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// Marks a pod as waiting for a node that will not come.
pub(crate) fn mark_unschedulable(members: &mut Map<String, Value>, now: &str) {
    object(members, "status").insert(
        "conditions".to_owned(),
        json!([{"type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": now,
            "reason": "Unschedulable", "message": NOTHING_RUNS}]),
    );
}

/// What is wrong with a new pod.
pub(crate) fn validate(members: &Map<String, Value>) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let empty = Vec::new();
    let list = |name: &str| at(members, &["spec", name]).and_then(Value::as_array).unwrap_or(&empty);
    if list("containers").is_empty() {
        wrong.push(FieldError::required("spec.containers", ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for kind in ["containers", "initContainers"] {
        for (index, container) in list(kind).iter().enumerate() {
            let path = format!("spec.{kind}[{index}]");
            let string = |name: &str| container.get(name).and_then(Value::as_str).unwrap_or_default();
            let name = string("name");
            if name.is_empty() {
                wrong.push(FieldError::required(format!("{path}.name"), ""));
            } else {
                let problems = names::dns_label(name).into_iter();
                wrong.extend(problems.map(|why| FieldError::invalid(format!("{path}.name"), name, why)));
            }
            if seen.contains(&name) {
                wrong.push(FieldError::duplicate(format!("{path}.name"), name));
            }
            seen.push(name);
            let image = string("image");
            if image.is_empty() {
                wrong.push(FieldError::required(format!("{path}.image"), ""));
            } else if image.trim() != image {
                wrong.push(FieldError::invalid(
                    format!("{path}.image"),
                    image,
                    "must not have leading or trailing whitespace",
                ));
            }
            supported(
                &mut wrong,
                &format!("{path}.imagePullPolicy"),
                string("imagePullPolicy"),
                &["Always", "IfNotPresent", "Never"],
            );
        }
    }
    let spec = |name: &str| at(members, &["spec", name]).and_then(Value::as_str).unwrap_or_default();
    supported(&mut wrong, "spec.restartPolicy", spec("restartPolicy"), &["Always", "OnFailure", "Never"]);
    supported(
        &mut wrong,
        "spec.dnsPolicy",
        spec("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    wrong
}

fn supported(wrong: &mut Vec<FieldError>, path: &str, value: &str, values: &[&str]) {
    if !value.is_empty() && !values.contains(&value) {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        wrong.push(FieldError::not_supported(path, value, &sorted));
    }
}

/// What an update may not change: everything in `spec` but images, tolerations and two numbers.
pub(crate) fn validate_update(new: &Map<String, Value>, old: &Map<String, Value>) -> Vec<FieldError> {
    let fixed = |members: &Map<String, Value>| {
        let mut spec = members.get("spec").cloned().unwrap_or_default();
        if let Value::Object(spec) = &mut spec {
            for free in ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations"] {
                spec.remove(free);
            }
            for list in ["containers", "initContainers"] {
                for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Value::Object(container) = container {
                        container.remove("image");
                    }
                }
            }
        }
        spec
    };
    if fixed(new) == fixed(old) {
        return Vec::new();
    }
    vec![FieldError::forbidden(
        "spec",
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
         `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
         `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )]
}

/// The member called `name` as an object, made if it is none.
pub(crate) fn object<'m>(members: &'m mut Map<String, Value>, name: &str) -> &'m mut Map<String, Value> {
    let value = members.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(inner) => inner,
        #[expect(clippy::unreachable, reason = "made an object on the line above")]
        _ => unreachable!("made an object above"),
    }
}

fn default(members: &mut Map<String, Value>, name: &str, value: Value) {
    match members.get(name) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(_) => return,
    }
    members.insert(name.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Map<String, Value> {
        json!({"metadata": {"name": "q"}, "spec": spec}).as_object().unwrap().clone()
    }

    #[test]
    fn a_simple_pod_gets_what_the_real_server_fills_in() {
        let mut members = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
        prepare(&mut members);
        let shaped =
            crate::schema::normalise::normalise(super::super::pods().schema().unwrap(), Value::Object(members))
                .unwrap();
        let want = json!({
            "metadata": {"name": "q", "generation": 1},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}],
                "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "securityContext": {},
                "schedulerName": "default-scheduler",
                "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
                "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority"},
            "status": {"phase": "Pending", "qosClass": "BestEffort"}});
        assert_eq!(serde_json::to_string(&shaped.value).unwrap(), serde_json::to_string(&want).unwrap());
        assert!(validate(&shaped.value).is_empty());
    }

    #[test]
    fn image_tags_decide_the_pull_policy() {
        for (image, policy) in [
            ("a", "Always"),
            ("a:latest", "Always"),
            ("a:1", "IfNotPresent"),
            ("r.io:5000/a", "Always"),
            ("r.io:5000/a:2", "IfNotPresent"),
            ("a@sha256:0", "IfNotPresent"),
        ] {
            let mut members = pod(json!({"containers": [{"name": "c", "image": image}]}));
            prepare(&mut members);
            assert_eq!(members["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
        }
    }

    #[test]
    fn problems_are_listed_in_the_real_servers_order() {
        let wrong = validate(&pod(json!({"containers": [{"name": "C", "image": ""}, {"name": "a"}]})));
        let fields: Vec<_> = wrong.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["spec.containers[0].name", "spec.containers[0].image", "spec.containers[1].image"]);
        assert_eq!(validate(&pod(json!({}))).first().unwrap().to_string(), "spec.containers: Required value");
        let twice = validate(&pod(
            json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}], "restartPolicy": "No"}),
        ));
        assert_eq!(twice[0].to_string(), "spec.containers[1].name: Duplicate value: \"a\"");
        assert_eq!(
            twice[1].to_string(),
            "spec.restartPolicy: Unsupported value: \"No\": supported values: \"Always\", \"Never\", \"OnFailure\""
        );
    }

    #[test]
    fn an_update_may_change_images_but_not_commands() {
        let old = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
        assert!(validate_update(&pod(json!({"containers": [{"name": "c", "image": "j"}]})), &old).is_empty());
        assert_eq!(
            validate_update(&pod(json!({"containers": [{"name": "c", "image": "i", "command": ["x"]}]})), &old).len(),
            1
        );
    }
}
