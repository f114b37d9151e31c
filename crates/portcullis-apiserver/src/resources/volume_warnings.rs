//! What is said about volumes and claims that were accepted although something about them is outdated or looks like a mistake.
//!
//! Compat: `pkg/api/persistentvolume` and `pkg/api/persistentvolumeclaim`.

use serde_json::Value;

use super::check::Path;
use super::pod_spec::warnings::{fraction, old_labels};
use super::storage::MOUNT_OPTIONS;
use super::tree::{Members, has, list_at, members_at, string_at};

const OLD_CLASS: (&str, &str) =
    ("volume.beta.kubernetes.io/storage-class", "deprecated since v1.8; use \"storageClassName\" attribute instead");
const OLD_OPTIONS: (&str, &str) = (MOUNT_OPTIONS, "deprecated since v1.31; use \"mountOptions\" attribute instead");
const OLD_SOURCES: [(&str, &str, &str); 6] = [
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// About a claim.
pub(super) fn claim(claim: &Members) -> Vec<String> {
    let mut out = annotations(claim, &[OLD_CLASS]);
    let path = Path::new("spec.resources");
    for kind in ["requests", "limits"] {
        fraction(members_at(claim, &["spec", "resources", kind]), "storage", &path.child(kind), &mut out);
    }
    out
}

/// About a volume.
pub(super) fn volume(volume: &Members) -> Vec<String> {
    let mut out = annotations(volume, &[OLD_CLASS, OLD_OPTIONS]);
    let (spec, path) = (members_at(volume, &["spec"]), Path::new("spec"));
    if string_at(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle" {
        let why = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
        out.push(format!("{}: {why}", path.child("persistentVolumeReclaimPolicy")));
    }
    let terms = path.child("nodeAffinity").child("required").child("nodeSelectorTerms");
    for (index, term) in list_at(spec, &["nodeAffinity", "required", "nodeSelectorTerms"]).iter().enumerate() {
        old_labels(term, &terms.index(index), &mut out);
    }
    let spec = Value::Object(spec.clone());
    let sources = OLD_SOURCES.iter().filter(|(name, ..)| has(&spec, name));
    out.extend(sources.map(|(_, shown, why)| format!("{}: {why}", path.child(shown))));
    out
}

fn annotations(object: &Members, old: &[(&str, &str)]) -> Vec<String> {
    let (there, path) = (members_at(object, &["metadata", "annotations"]), Path::new("metadata.annotations"));
    let found = old.iter().filter(|(key, _)| there.contains_key(*key));
    found.map(|(key, why)| format!("{}: {why}", path.key(key))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_outdated_is_mentioned() {
        let members = |value: Value| value.as_object().unwrap().clone();
        let old =
            json!({"volume.beta.kubernetes.io/storage-class": "c", "volume.beta.kubernetes.io/mount-options": "o"});
        let of = json!({"metadata": {"annotations": old}, "spec": {"resources": {"requests": {"storage": "1500m"}}}});
        assert_eq!(
            claim(&members(of)),
            [
                "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead",
                "spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer"
            ]
        );
        let of = json!({"metadata": {"annotations": old}, "spec": {"persistentVolumeReclaimPolicy": "Recycle", "rbd": {},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "beta.kubernetes.io/os"}]}]}}}});
        assert_eq!(volume(&members(of)).len(), 5);
        assert!(claim(&Members::new()).is_empty() && volume(&Members::new()).is_empty());
    }
}
