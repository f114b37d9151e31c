//! `PodTopologyLabels`: what is on a node is labelled with the node's zone and region: a new pod that names its node, and the
//! binding that gives a pod its node.
//!
//! Compat: `plugin/pkg/admission/podtopologylabels` of Kubernetes 1.37.

use serde_json::json;

use crate::engine::Engine;
use crate::resources::nodes;
use crate::resources::tree::{Members, object, string_at};

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// Copies the labels of the node that a new pod names.
pub(super) fn change_new(engine: &Engine, pod: &mut Members) {
    let node = string_at(pod, &["spec", "nodeName"]).to_owned();
    label_with_place(engine, &node, pod);
}

/// Gives an object the labels that say where a node is. A node that is not there says nothing.
pub(crate) fn label_with_place(engine: &Engine, node: &str, labelled: &mut Members) {
    let Some(node) = engine.store.get(nodes(), "", node) else { return };
    for key in LABELS {
        if let Some(value) = node.label(key) {
            object(object(labelled, "metadata"), "labels").insert(key.to_owned(), json!(value));
        }
    }
}
