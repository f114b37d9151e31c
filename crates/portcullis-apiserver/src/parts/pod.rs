//! What the pod of a part looks like: a static pod's mirror, as a kubelet would write it.

use serde_json::{Value, json};

use super::{PART_ANNOTATION, Part, PartPort};
use crate::resources::tree::Members;

/// The pod of a part, without identity.
pub(crate) fn pod_of(part: &Part, node: &str) -> Members {
    let started = part.started.rfc3339();
    let ready = if part.ready { "True" } else { "False" };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": started});
    let mut container = json!({"name": part.container, "image": part.image, "imageID": "", "ready": part.ready,
        "restartCount": part.restarts, "started": true, "state": {"running": {"startedAt": started}}});
    if let Some(ended) = part.last_ended {
        let last = json!({"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": ended.rfc3339()}});
        crate::json::set(&mut container, "lastState", last);
    }
    // On the node's own network where each port is what it is outside too.
    let host_network = part.ports.iter().all(|port| port.socket.port() == port.number);
    let ports: Vec<Value> = part.ports.iter().map(|port| port_of(port, host_network)).collect();
    let annotations = json!({PART_ANNOTATION: "in-process", "kubernetes.io/config.source": "portcullis",
        "kubernetes.io/config.mirror": part.name});
    let mut pod = json!({
        "metadata": {"name": part.name, "namespace": part.namespace, "labels": part.labels, "annotations": annotations, "generation": 1},
        "spec": {"containers": [{"name": part.container, "image": part.image, "ports": ports, "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "Never"}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "nodeName": node,
            "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": true},
        "status": {"phase": "Running", "qosClass": "BestEffort", "startTime": started, "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}], "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [condition("Initialized", "True"), condition("Ready", ready), condition("ContainersReady", ready),
                condition("PodScheduled", "True")],
            "containerStatuses": [container]}
    });
    if host_network && let Some(spec) = pod.get_mut("spec") {
        crate::json::set(spec, "hostNetwork", Value::from(true));
    }
    pod.as_object().cloned().unwrap_or_default()
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
