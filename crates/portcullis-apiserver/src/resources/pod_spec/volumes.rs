//! Volumes: unique names, one source each, and what the common sources need.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

use super::super::check::{Path, Wrong, formats};
use super::super::tree::{Members, child, has, integer, list, list_at, string};
use super::Volumes;
use super::environment::{FILE_FIELDS, field_ref, resource_ref};
use crate::schema::quantity::Quantity;

const ONE_TYPE: &str = "may not specify more than 1 volume type";
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
/// Sources in the order in which they are looked at. What is not listed here is taken as it comes.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// The volumes that are in order, by name.
pub(super) fn validate<'v>(spec: &'v Members, pod_name: Option<&str>, path: &Path, wrong: &mut Wrong) -> Volumes<'v> {
    let mut good = BTreeMap::new();
    for (index, volume) in list_at(spec, &["volumes"]).iter().enumerate() {
        let (path, before) = (path.index(index), wrong.len());
        source(volume, pod_name, &path, wrong);
        let name = string(volume, "name");
        if name.is_empty() {
            wrong.required(&path.child("name"), "");
        } else {
            wrong.each(&path.child("name"), name, names::dns_label(name));
        }
        if good.contains_key(name) {
            wrong.duplicate(&path.child("name"), name);
        }
        if wrong.len() == before {
            good.insert(name, volume);
        }
    }
    good
}

fn source(volume: &Value, pod_name: Option<&str>, path: &Path, wrong: &mut Wrong) {
    let mut types = 0;
    for name in SOURCES.into_iter().filter(|name| has(volume, name)) {
        types += 1;
        let (source, path) = (child(volume, name), path.child(name));
        if types > 1 {
            wrong.forbidden(&path, ONE_TYPE);
            continue;
        }
        match name {
            "emptyDir" if Quantity::parse(string(source, "sizeLimit")).is_ok_and(Quantity::is_negative) => {
                wrong.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
            "hostPath" => host_path(source, &path, wrong),
            "secret" => files(source, "secretName", &path, wrong),
            "configMap" => files(source, "name", &path, wrong),
            "nfs" => nfs(source, &path, wrong),
            "persistentVolumeClaim" => required(source, "claimName", &path, wrong),
            "downwardAPI" => {
                mode(source, "defaultMode", &path, wrong);
                for file in list(source, "items") {
                    downward_file(file, &path, wrong);
                }
            }
            "projected" => projected(source, &path, wrong),
            "csi" => required(source, "driver", &path, wrong),
            "ephemeral" => {
                if !has(source, "volumeClaimTemplate") {
                    wrong.required(&path.child("volumeClaimTemplate"), "");
                }
                if let Some(pod) = pod_name.filter(|pod| !pod.is_empty()) {
                    let claim = format!("{pod}-{}", string(volume, "name"));
                    for why in names::dns_subdomain(&claim) {
                        wrong.invalid(
                            &path.child("name"),
                            string(volume, "name"),
                            format!("PVC name \"{claim}\": {why}"),
                        );
                    }
                }
            }
            "image" => {
                required(source, "reference", &path, wrong);
                let policies = ["Always", "IfNotPresent", "Never"];
                wrong.one_of(&path.child("pullPolicy"), string(source, "pullPolicy"), &policies);
            }
            _ => {}
        }
    }
    if types == 0 {
        wrong.required(path, "must specify a volume type");
    }
}

fn required(source: &Value, name: &str, path: &Path, wrong: &mut Wrong) {
    if string(source, name).is_empty() {
        wrong.required(&path.child(name), "");
    }
}

fn mode(source: &Value, name: &str, path: &Path, wrong: &mut Wrong) {
    if let Some(mode) = integer(source, name).filter(|mode| !(0..=0o777).contains(mode)) {
        wrong.push(FieldError::invalid_json(path.child(name), &mode, MODE));
    }
}

/// A path on a node, of a pod's volume or of a persistent one.
pub(crate) fn host_path(source: &Value, path: &Path, wrong: &mut Wrong) {
    let target = string(source, "path");
    if target.is_empty() {
        wrong.required(&path.child("path"), "");
        return;
    }
    formats::no_steps_back(&path.child("path"), target, wrong);
    let types = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let kind = string(source, "type");
    if !types.contains(&kind) {
        wrong.not_supported(&path.child("type"), kind, &types);
    }
}

fn nfs(source: &Value, path: &Path, wrong: &mut Wrong) {
    required(source, "server", path, wrong);
    required(source, "path", path, wrong);
    let target = string(source, "path");
    if !target.is_empty() && !target.starts_with('/') {
        wrong.invalid(&path.child("path"), target, "must be an absolute path");
    }
}

fn files(source: &Value, object: &str, path: &Path, wrong: &mut Wrong) {
    required(source, object, path, wrong);
    mode(source, "defaultMode", path, wrong);
    items(source, path, wrong);
}

fn items(source: &Value, path: &Path, wrong: &mut Wrong) {
    for (index, item) in list(source, "items").iter().enumerate() {
        let path = path.child("items").index(index);
        required(item, "key", &path, wrong);
        required(item, "path", &path, wrong);
        local_path(string(item, "path"), &path.child("path"), wrong);
        mode(item, "mode", &path, wrong);
    }
}

/// A path below the mount that does not begin like the kubelet's own files.
fn local_path(text: &str, path: &Path, wrong: &mut Wrong) {
    formats::relative_path(path, text, wrong);
    if text.starts_with("..") && !text.split('/').any(|part| part == "..") {
        wrong.invalid(path, text, "must not start with '..'");
    }
}

fn downward_file(file: &Value, path: &Path, wrong: &mut Wrong) {
    required(file, "path", path, wrong);
    local_path(string(file, "path"), &path.child("path"), wrong);
    match (has(file, "fieldRef"), has(file, "resourceFieldRef")) {
        (true, both) => {
            field_ref(child(file, "fieldRef"), &FILE_FIELDS, &path.child("fieldRef"), wrong);
            if both {
                wrong.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
        }
        (false, true) => resource_ref(child(file, "resourceFieldRef"), true, &path.child("resourceFieldRef"), wrong),
        (false, false) => wrong.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(file, "mode", path, wrong);
}

fn projected(source: &Value, path: &Path, wrong: &mut Wrong) {
    mode(source, "defaultMode", path, wrong);
    let mut seen = BTreeSet::new();
    for (index, entry) in list(source, "sources").iter().enumerate() {
        let at = path.child("sources").index(index);
        let mut types = 0;
        for name in ["secret", "configMap"].into_iter().filter(|name| has(entry, name)) {
            types += 1;
            let (source, at) = (child(entry, name), at.child(name));
            required(source, "name", &at, wrong);
            items(source, &at, wrong);
            for item in list(source, "items") {
                let file = string(item, "path");
                if !file.is_empty() && !seen.insert(file) {
                    wrong.invalid(path, string(source, "name"), "conflicting duplicate paths");
                }
            }
        }
        if has(entry, "downwardAPI") {
            types += 1;
            for file in list(child(entry, "downwardAPI"), "items") {
                downward_file(file, &at.child("downwardAPI"), wrong);
                let target = string(file, "path");
                if !target.is_empty() && !seen.insert(target) {
                    wrong.invalid(path, target, "conflicting duplicate paths");
                }
            }
        }
        if has(entry, "serviceAccountToken") {
            types += 1;
            token(child(entry, "serviceAccountToken"), &at.child("serviceAccountToken"), path, wrong);
        }
        types += ["clusterTrustBundle", "podCertificate"].iter().filter(|name| has(entry, name)).count();
        if types > 1 {
            wrong.forbidden(&at, ONE_TYPE);
        }
    }
}

fn token(source: &Value, at: &Path, volume: &Path, wrong: &mut Wrong) {
    let seconds = integer(source, "expirationSeconds").unwrap_or(0);
    let field = at.child("expirationSeconds");
    if seconds < 600 {
        wrong.push(FieldError::invalid_json(&field, &seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > 1 << 32 {
        wrong.push(FieldError::invalid_json(&field, &seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    // Compat: upstream names the volume here, not the source.
    required(source, "path", volume, wrong);
    local_path(string(source, "path"), &volume.child("path"), wrong);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::problems;
    use super::*;

    fn with(volumes: Value) -> Vec<String> {
        problems(json!({"containers": [{"name": "c", "image": "i"}], "volumes": volumes, "serviceAccountName": "a"}))
    }

    #[test]
    fn names_are_unique_and_sources_single() {
        assert!(with(json!([{"name": "a"}, {"name": "b", "configMap": {"name": "m"}}])).is_empty());
        assert_eq!(
            with(
                json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}, {"emptyDir": {}}, {"name": "b"}, {"name": "b"}])
            ),
            [
                "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
                "spec.volumes[1].name: Required value",
                "spec.volumes[3].name: Duplicate value: \"b\""
            ]
        );
    }

    #[test]
    fn sources_name_what_they_show() {
        assert_eq!(
            with(json!([{"name": "a", "secret": {"defaultMode": 999, "items": [{"key": "k", "path": "../x"}]}},
                {"name": "b", "hostPath": {"path": "/a/../b", "type": "Odd"}}, {"name": "c", "persistentVolumeClaim": {}},
                {"name": "d", "nfs": {"server": "s", "path": "p"}}])),
            [
                "spec.volumes[0].secret.secretName: Required value",
                "spec.volumes[0].secret.defaultMode: Invalid value: 999: must be a number between 0 and 0777 (octal), both inclusive",
                "spec.volumes[0].secret.items[0].path: Invalid value: \"../x\": must not contain '..'",
                "spec.volumes[1].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                "spec.volumes[1].hostPath.type: Unsupported value: \"Odd\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
                "spec.volumes[2].persistentVolumeClaim.claimName: Required value",
                "spec.volumes[3].nfs.path: Invalid value: \"p\": must be an absolute path"
            ]
        );
    }

    #[test]
    fn projections_do_not_collide() {
        let found = with(json!([{"name": "p", "projected": {"sources": [
            {"secret": {"name": "s", "items": [{"key": "k", "path": "f"}]}},
            {"configMap": {"name": "m", "items": [{"key": "k", "path": "f"}]}},
            {"serviceAccountToken": {"path": "t", "expirationSeconds": 5}},
            {"downwardAPI": {"items": [{"path": "g"}]}}]}}]));
        assert_eq!(
            found,
            [
                "spec.volumes[0].projected: Invalid value: \"m\": conflicting duplicate paths",
                "spec.volumes[0].projected.sources[2].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
                "spec.volumes[0].projected.sources[3].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"
            ]
        );
    }
}
