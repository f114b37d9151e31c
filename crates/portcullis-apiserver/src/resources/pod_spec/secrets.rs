//! Which secrets a pod uses.
//!
//! Compat: `VisitPodSecretNames` in `pkg/api/pod/util.go` of Kubernetes 1.37.

use serde_json::Value;

use super::super::tree::{Members, child, list, list_at, string};

/// Sources of volumes, and where each names its secret.
const SOURCES: [(&str, &[&str]); 10] = [
    ("azureFile", &["secretName"]),
    ("cephfs", &["secretRef", "name"]),
    ("cinder", &["secretRef", "name"]),
    ("csi", &["nodePublishSecretRef", "name"]),
    ("flexVolume", &["secretRef", "name"]),
    ("iscsi", &["secretRef", "name"]),
    ("rbd", &["secretRef", "name"]),
    ("scaleIO", &["secretRef", "name"]),
    ("secret", &["secretName"]),
    ("storageos", &["secretRef", "name"]),
];

/// Whether a pod's specification names a secret.
pub(crate) fn any(spec: &Members) -> bool {
    let containers = ["initContainers", "containers", "ephemeralContainers"];
    let named = |value: &Value| !string(value, "name").is_empty();
    list_at(spec, &["imagePullSecrets"]).iter().any(named)
        || containers.iter().flat_map(|list| list_at(spec, &[list])).any(of_container)
        || list_at(spec, &["volumes"]).iter().any(of_volume)
}

fn of_container(container: &Value) -> bool {
    let named = |value: &Value| !string(value, "name").is_empty();
    list(container, "envFrom").iter().any(|source| named(child(source, "secretRef")))
        || list(container, "env").iter().any(|variable| named(child(child(variable, "valueFrom"), "secretKeyRef")))
}

fn of_volume(volume: &Value) -> bool {
    let projected = list(child(volume, "projected"), "sources");
    let named = |path: &[&str], source: &Value| {
        let place = path.iter().fold(source, |value, name| child(value, name));
        place.as_str().is_some_and(|name| !name.is_empty())
    };
    SOURCES.iter().any(|(source, path)| named(path, child(volume, source)))
        || projected.iter().any(|source| named(&["name"], child(source, "secret")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_can_name_a_secret_is_looked_at() {
        let uses = |spec: Value| any(spec.as_object().unwrap());
        assert!(!uses(json!({"containers": [{"name": "c", "env": [{"name": "A", "value": "b"}]}],
            "volumes": [{"name": "v", "configMap": {"name": "m"}}, {"name": "w", "secret": {"secretName": ""}}]})));
        for (source, path) in SOURCES {
            let inner = path.iter().rev().fold(json!("s"), |value, name| json!({*name: value}));
            assert!(uses(json!({"volumes": [{"name": "v", source: inner}]})), "{source}");
        }
        for spec in [
            json!({"imagePullSecrets": [{"name": "s"}]}),
            json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]}),
            json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}),
            json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}),
        ] {
            assert!(uses(spec.clone()), "{spec}");
        }
    }
}
