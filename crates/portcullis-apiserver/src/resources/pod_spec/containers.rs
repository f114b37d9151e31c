//! Containers: names, images, ports, mounts; environment, resources and security have files of their own.

use std::collections::BTreeSet;

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

use super::super::check::{Path, Wrong, formats};
use super::super::endpoints::PROTOCOLS;
use super::super::tree::{Members, child, flag, has, integer, list, list_at, string};
use super::{Volumes, environment, probes, resources, security};

const FOR_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";

pub(super) fn regular(spec: &Members, volumes: &Volumes<'_>, path: &Path, wrong: &mut Wrong) {
    let containers = list_at(spec, &["containers"]);
    if containers.is_empty() {
        wrong.required(path, "");
        return;
    }
    let claims = resources::claim_names(spec);
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        one(container, volumes, &claims, &path, wrong);
        if !seen.insert(string(container, "name")) {
            wrong.duplicate(&path.child("name"), string(container, "name"));
        }
        probes::all(container, &path, wrong);
    }
    host_ports(containers, path, wrong);
}

pub(super) fn init(spec: &Members, volumes: &Volumes<'_>, path: &Path, wrong: &mut Wrong) {
    let mut seen: BTreeSet<&str> =
        list_at(spec, &["containers"]).iter().map(|container| string(container, "name")).collect();
    let claims = resources::claim_names(spec);
    for (index, container) in list_at(spec, &["initContainers"]).iter().enumerate() {
        let at = path.index(index);
        one(container, volumes, &claims, &at, wrong);
        let name = string(container, "name");
        if seen.contains(name) {
            wrong.duplicate(&at.child("name"), name);
        } else if !name.is_empty() {
            seen.insert(name);
        }
        host_ports(std::slice::from_ref(container), path, wrong);
        if string(container, "restartPolicy") == "Always" {
            probes::all(container, &at, wrong);
            continue;
        }
        for part in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if has(container, part) {
                wrong.forbidden(&at.child(part), FOR_SIDECARS);
            }
        }
    }
}

/// Fields of containers that those for looking into a pod cannot have.
const NOT_EPHEMERAL: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

pub(super) fn ephemeral(spec: &Members, volumes: &Volumes<'_>, path: &Path, wrong: &mut Wrong) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    let named = |list: &str| list_at(spec, &[list]).iter().map(|container| string(container, "name"));
    let others: BTreeSet<&str> = named("containers").chain(named("initContainers")).collect();
    let mut seen = others.clone();
    let claims = resources::claim_names(spec);
    for (index, container) in list_at(spec, &["ephemeralContainers"]).iter().enumerate() {
        let at = path.index(index);
        one(container, volumes, &claims, &at, wrong);
        let (name, image) = (string(container, "name"), string(container, "image"));
        if image.trim() != image {
            wrong.invalid(&at.child("image"), image, "must not have leading or trailing whitespace");
        }
        if !seen.insert(name) {
            wrong.duplicate(&at.child("name"), name);
        }
        let target = string(container, "targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            wrong.push(FieldError::not_found(at.child("targetContainerName"), target));
        }
        let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Members::is_empty);
        for field in NOT_EPHEMERAL.into_iter().filter(|field| !empty(child(container, field))) {
            wrong.forbidden(&at.child(field), WHY);
        }
        for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"].into_iter().filter(|field| !string(mount, field).is_empty()) {
                wrong.forbidden(&at.child("volumeMounts").index(index).child(field), WHY);
            }
        }
    }
}

fn one(container: &Value, volumes: &Volumes<'_>, claims: &BTreeSet<&str>, path: &Path, wrong: &mut Wrong) {
    let name = string(container, "name");
    if name.is_empty() {
        wrong.required(&path.child("name"), "");
    } else {
        wrong.each(&path.child("name"), name, names::dns_label(name));
    }
    if string(container, "image").is_empty() {
        wrong.required(&path.child("image"), "");
    }
    let policies = ["File", "FallbackToLogsOnError"];
    let policy = string(container, "terminationMessagePolicy");
    wrong.required_one_of(&path.child("terminationMessagePolicy"), policy, &policies);
    ports(list(container, "ports"), &path.child("ports"), wrong);
    environment::variables(list(container, "env"), &path.child("env"), wrong);
    environment::sources(list(container, "envFrom"), &path.child("envFrom"), wrong);
    mounts(container, volumes, &path.child("volumeMounts"), wrong);
    devices(container, volumes, &path.child("volumeDevices"), wrong);
    let policy = string(container, "imagePullPolicy");
    wrong.required_one_of(&path.child("imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    resources::of_container(child(container, "resources"), claims, &path.child("resources"), wrong);
    security::of_container(child(container, "securityContext"), &path.child("securityContext"), wrong);
}

fn ports(ports: &[Value], path: &Path, wrong: &mut Wrong) {
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = string(port, "name");
        if !name.is_empty() {
            let sentences = formats::port_name(name);
            if !sentences.is_empty() {
                wrong.each(&path.child("name"), name, sentences);
            } else if !seen.insert(name) {
                wrong.duplicate(&path.child("name"), name);
            }
        }
        match integer(port, "containerPort").unwrap_or(0) {
            0 => wrong.required(&path.child("containerPort"), ""),
            number => wrong.each_number(&path.child("containerPort"), number, formats::port_number(number)),
        }
        if let Some(number) = integer(port, "hostPort").filter(|number| *number != 0) {
            wrong.each_number(&path.child("hostPort"), number, formats::port_number(number));
        }
        wrong.required_one_of(&path.child("protocol"), string(port, "protocol"), &PROTOCOLS);
    }
}

fn host_ports(containers: &[Value], path: &Path, wrong: &mut Wrong) {
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (at, port) in list(container, "ports").iter().enumerate() {
            let Some(number) = integer(port, "hostPort").filter(|number| *number != 0) else { continue };
            let text = format!("{}/{}/{number}", string(port, "protocol"), string(port, "hostIP"));
            if !seen.insert(text.clone()) {
                wrong.duplicate(&path.index(index).child("ports").index(at).child("hostPort"), &text);
            }
        }
    }
}

/// On the host's network a port is the host's.
pub(super) fn host_network(spec: &Members, is_pod: bool, path: &Path, wrong: &mut Wrong) {
    for (index, container) in list_at(spec, &["containers"]).iter().enumerate() {
        for (at, port) in list(container, "ports").iter().enumerate() {
            let number = |name: &str| integer(port, name).unwrap_or(0);
            let host = number("hostPort");
            if (is_pod || host != 0) && host != number("containerPort") {
                let at = path.index(index).child("ports").index(at).child("hostPort");
                let why = "must match `containerPort` when `hostNetwork` is true";
                wrong.push(FieldError::invalid_json(at, &host, why));
            }
        }
    }
}

fn mounts(container: &Value, volumes: &Volumes<'_>, path: &Path, wrong: &mut Wrong) {
    let mut seen = BTreeSet::new();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let at = path.index(index);
        let (name, target) = (string(mount, "name"), string(mount, "mountPath"));
        if name.is_empty() {
            wrong.required(&at.child("name"), "");
        }
        if !volumes.contains_key(name) {
            wrong.push(FieldError::not_found(at.child("name"), name));
        }
        if target.is_empty() {
            wrong.required(&at.child("mountPath"), "");
        }
        if !seen.insert(target) {
            wrong.invalid(&at.child("mountPath"), target, "must be unique");
        }
        for device in list(container, "volumeDevices") {
            if string(device, "name") == name {
                wrong.invalid(&at.child("name"), name, "must not already exist in volumeDevices");
            }
            if string(device, "devicePath") == target {
                wrong.invalid(&at.child("mountPath"), target, "must not already exist as a path in volumeDevices");
            }
        }
        let (below, expression) = (string(mount, "subPath"), string(mount, "subPathExpr"));
        // Compat: upstream leaves the index out of these paths.
        if !below.is_empty() {
            formats::relative_path(&path.child("subPath"), below, wrong);
        }
        if !expression.is_empty() {
            if !below.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                wrong.invalid(&at.child("subPathExpr"), expression, why);
            }
            formats::relative_path(&path.child("subPathExpr"), expression, wrong);
        }
        let propagation = string(mount, "mountPropagation");
        let supported = ["Bidirectional", "HostToContainer", "None"];
        wrong.one_of(&path.child("mountPropagation"), propagation, &supported);
        if propagation == "Bidirectional" && !flag(child(container, "securityContext"), "privileged") {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            wrong.forbidden(&path.child("mountPropagation"), why);
        }
    }
}

fn devices(container: &Value, volumes: &Volumes<'_>, path: &Path, wrong: &mut Wrong) {
    let (mut names_seen, mut paths_seen) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in list(container, "volumeDevices").iter().enumerate() {
        let at = path.index(index);
        let (name, target) = (string(device, "name"), string(device, "devicePath"));
        if name.is_empty() {
            wrong.required(&at.child("name"), "");
        }
        if names_seen.contains(name) {
            wrong.invalid(&at.child("name"), name, "must be unique");
        }
        match volumes.get(name) {
            None => wrong.push(FieldError::not_found(at.child("name"), name)),
            Some(volume) if !has(volume, "persistentVolumeClaim") && !has(volume, "ephemeral") => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                wrong.invalid(&at.child("name"), name, why);
            }
            Some(_) => {}
        }
        if target.is_empty() {
            wrong.required(&at.child("devicePath"), "");
        }
        if !paths_seen.insert(target) {
            wrong.invalid(&at.child("devicePath"), target, "must be unique");
        }
        if target.split('/').any(|part| part == "..") {
            wrong.invalid(&at.child("devicePath"), target, "can not contain backsteps ('..')");
        }
        if !name.is_empty() {
            names_seen.insert(name);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::tests::problems;
    use super::*;

    pub(in super::super) fn with(container: Value) -> Vec<String> {
        let mut whole = json!({"name": "c", "image": "i"});
        whole.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        problems(json!({"containers": [whole], "volumes": [{"name": "v"}]}))
    }

    #[test]
    fn ports_are_named_numbered_and_unique() {
        assert!(with(json!({"ports": [{"containerPort": 80, "name": "http"}]})).is_empty());
        assert_eq!(
            with(
                json!({"ports": [{"name": "a"}, {"containerPort": 70_000, "name": "a"}, {"containerPort": 1, "protocol": "X", "hostPort": 5},
                {"containerPort": 2, "protocol": "X", "hostPort": 5}]})
            ),
            [
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.containers[0].ports[2].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "spec.containers[0].ports[3].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "spec.containers[0].ports[3].hostPort: Duplicate value: \"X//5\""
            ]
        );
    }

    #[test]
    fn mounts_are_of_volumes_that_are_there() {
        assert!(with(json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]})).is_empty());
        assert_eq!(
            with(
                json!({"volumeMounts": [{"name": "x", "mountPath": "/a"}, {"name": "v", "mountPath": "/a", "subPath": "../b"}]})
            ),
            [
                "spec.containers[0].volumeMounts[0].name: Not found: \"x\"",
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"../b\": must not contain '..'"
            ]
        );
        assert!(with(json!({"volumeDevices": [{"name": "v", "devicePath": "/d"}]}))[0].contains("block mode"));
    }

    #[test]
    fn init_containers_are_not_probed() {
        let found = problems(
            json!({"containers": [{"name": "c", "image": "i"}], "initContainers": [{"name": "c", "image": "i",
            "livenessProbe": {"tcpSocket": {"port": 1}}}]}),
        );
        assert_eq!(
            found,
            [
                "spec.initContainers[0].name: Duplicate value: \"c\"",
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"
            ]
        );
    }
}
