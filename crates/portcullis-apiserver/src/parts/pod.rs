//! What the pod of a part looks like: a static pod's mirror, as a kubelet would write it.

use portcullis_runtime::Timestamp;
use serde_json::{Value, json};

use super::{MIRROR_ANNOTATION, PART_ANNOTATION, Part, PartPort, PartStatus};
use crate::resources::tree::Members;

/// The pod of a part, without identity.
pub(super) fn pod_of(part: &Part, status: &PartStatus, node: &str) -> Members {
    // On the node's own network where each port is what it is outside too.
    let host_network = part.ports.iter().all(PartPort::is_open);
    let ports: Vec<Value> = part.ports.iter().map(|port| port_of(port, host_network)).collect();
    let annotations = json!({PART_ANNOTATION: "in-process", "kubernetes.io/config.source": "portcullis",
        MIRROR_ANNOTATION: part.name});
    let started = part.started.rfc3339();
    let mut pod = json!({
        "metadata": {"name": part.name, "namespace": part.namespace, "labels": part.labels, "annotations": annotations, "generation": 1},
        "spec": {"containers": [{"name": part.container, "image": part.image, "ports": ports, "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "Never"}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "nodeName": node,
            "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": true},
        "status": {"phase": "Running", "qosClass": "BestEffort", "startTime": started, "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}], "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": conditions(part, status),
            "containerStatuses": [status.container(&part.container, &part.image, &part.name)]}
    });
    if host_network && let Some(spec) = pod.get_mut("spec") {
        crate::json::set(spec, "hostNetwork", Value::from(true));
    }
    pod.as_object().cloned().unwrap_or_default()
}

/// Compat: `pkg/kubelet/status/generate.go` of Kubernetes 1.37.
fn conditions(part: &Part, status: &PartStatus) -> Value {
    let holds =
        |kind: &str, since: Timestamp| json!({"type": kind, "status": "True", "lastTransitionTime": since.rfc3339()});
    let ready = |kind: &str| {
        if status.ready {
            return holds(kind, status.ready_since);
        }
        let message = format!("containers with unready status: [{}]", part.container);
        json!({"type": kind, "status": "False", "lastTransitionTime": status.ready_since.rfc3339(),
            "reason": "ContainersNotReady", "message": message})
    };
    json!([
        holds("PodReadyToStartContainers", part.started),
        holds("Initialized", part.started),
        ready("Ready"),
        ready("ContainersReady"),
        holds("PodScheduled", part.started)
    ])
}

fn port_of(port: &PartPort, host_network: bool) -> Value {
    let mut shown = Members::new();
    if !port.name.is_empty() {
        shown.insert("name".to_owned(), port.name.clone().into());
    }
    if host_network {
        shown.insert("hostPort".to_owned(), port.number.into());
    }
    shown.insert("containerPort".to_owned(), port.number.into());
    shown.insert("protocol".to_owned(), "TCP".into());
    Value::Object(shown)
}
