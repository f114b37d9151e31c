//! Containers: names, images, ports, environment, mounts, resources, security.

use std::collections::BTreeSet;

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{NOT_NEGATIVE, Path, Wrong, formats};
use super::super::endpoints::PROTOCOLS;
use super::super::tree::{Members, at, child, flag, has, integer, list, list_at, members, string};
use super::{Volumes, probes};
use crate::schema::quantity::Quantity;

const ONE_SOURCE: &str = "may not have more than one field specified at a time";
const FOR_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";

pub(super) fn regular(spec: &Members, volumes: &Volumes<'_>, path: &Path, wrong: &mut Wrong) {
    let containers = list_at(spec, &["containers"]);
    if containers.is_empty() {
        wrong.required(path, "");
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        one(container, volumes, &path, wrong);
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
    for (index, container) in list_at(spec, &["initContainers"]).iter().enumerate() {
        let at = path.index(index);
        one(container, volumes, &at, wrong);
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

fn one(container: &Value, volumes: &Volumes<'_>, path: &Path, wrong: &mut Wrong) {
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
    environment(list(container, "env"), &path.child("env"), wrong);
    environment_from(list(container, "envFrom"), &path.child("envFrom"), wrong);
    mounts(container, volumes, &path.child("volumeMounts"), wrong);
    devices(container, volumes, &path.child("volumeDevices"), wrong);
    let policy = string(container, "imagePullPolicy");
    wrong.required_one_of(&path.child("imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    resources(child(container, "resources"), &path.child("resources"), wrong);
    security(child(container, "securityContext"), &path.child("securityContext"), wrong);
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

fn environment(variables: &[Value], path: &Path, wrong: &mut Wrong) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        let name = string(variable, "name");
        if name.is_empty() {
            wrong.required(&path.child("name"), "");
        } else {
            wrong.each(&path.child("name"), name, formats::env_name(name));
        }
        let (from, at) = (child(variable, "valueFrom"), path.child("valueFrom"));
        if from.is_null() {
            continue;
        }
        let mut sources = 0;
        let mut source = |name: &str| {
            let there = has(from, name);
            sources += usize::from(there);
            there.then(|| (child(from, name), at.child(name)))
        };
        if let Some((reference, at)) = source("fieldRef") {
            field_ref(reference, &ENVIRONMENT_FIELDS, &at, wrong);
        }
        if let Some((reference, at)) = source("resourceFieldRef") {
            resource_ref(reference, false, &at, wrong);
        }
        for name in ["configMapKeyRef", "secretKeyRef"] {
            if let Some((reference, at)) = source(name) {
                let object = string(reference, "name");
                wrong.each(&at.child("name"), object, names::dns_subdomain(object));
                formats::key_selector(&at, reference, wrong);
            }
        }
        source("fileKeyRef");
        let all =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        if sources == 0 {
            wrong.invalid(&at, "", all);
        } else if !string(variable, "value").is_empty() {
            wrong.invalid(&at, "", "may not be specified when `value` is not empty");
        } else if sources > 1 {
            wrong.invalid(&at, "", ONE_SOURCE);
        }
    }
}

const ENVIRONMENT_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that downward API files show.
pub(super) const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields that `ConvertDownwardAPIFieldLabel` knows, whoever asks.
const KNOWN_FIELDS: [&str; 11] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn field_ref(reference: &Value, fields: &[&str], path: &Path, wrong: &mut Wrong) {
    let field = string(reference, "fieldPath");
    let at = path.child("fieldPath");
    if field.is_empty() {
        wrong.required(&at, "");
        return;
    }
    if let Some((name, key)) = field.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
        let key = key.trim_matches('\'');
        match name {
            "metadata.annotations" => wrong.each(path, &key.to_lowercase(), names::label_key(&key.to_lowercase())),
            "metadata.labels" => wrong.each(path, key, names::label_key(key)),
            name => {
                let why = format!("error converting fieldPath: field label does not support subscript: {name}");
                wrong.invalid(&at, field, why);
            }
        }
    } else if !KNOWN_FIELDS.contains(&field) {
        wrong.invalid(&at, field, format!("error converting fieldPath: field label not supported: {field}"));
    } else if !fields.contains(&field) {
        wrong.not_supported_text(&at, field, fields);
    }
}

pub(super) fn resource_ref(reference: &Value, in_file: bool, path: &Path, wrong: &mut Wrong) {
    let fields = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = string(reference, "resource");
    if in_file && string(reference, "containerName").is_empty() {
        wrong.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        wrong.required(&path.child("resource"), "");
    } else if !resource.starts_with("limits.hugepages-") && !resource.starts_with("requests.hugepages-") {
        wrong.one_of(&path.child("resource"), resource, &fields);
    }
    let divisor = string(reference, "divisor");
    let unset = Quantity::parse(divisor).is_ok_and(Quantity::is_zero) || divisor.is_empty();
    if unset {
        return;
    }
    let at = path.child("divisor");
    if resource.ends_with(".cpu") && !["1m", "1"].contains(&divisor) {
        wrong.invalid(&at, resource, "only divisor's values 1m and 1 are supported with the cpu resource");
    }
    let sizes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    for (suffix, name) in [(".memory", "memory"), (".ephemeral-storage", "local ephemeral storage")] {
        if resource.ends_with(suffix) && !sizes.contains(&divisor) {
            let why = format!("only divisor's values {} are supported with the {name} resource", sizes.join(", "));
            wrong.invalid(&at, resource, why);
        }
    }
}

fn environment_from(sources: &[Value], path: &Path, wrong: &mut Wrong) {
    for (index, source) in sources.iter().enumerate() {
        let at = path.index(index);
        let prefix = string(source, "prefix");
        if !prefix.is_empty() {
            wrong.each(&at.child("prefix"), prefix, formats::env_name(prefix));
        }
        let mut count = 0;
        for name in ["configMapRef", "secretRef"].into_iter().filter(|name| has(source, name)) {
            count += 1;
            let object = string(child(source, name), "name");
            let at = at.child(name).child("name");
            if object.is_empty() {
                wrong.required(&at, "");
            } else {
                wrong.each(&at, object, names::dns_subdomain(object));
            }
        }
        // Compat: upstream names the list here, not the entry.
        match count {
            0 => wrong.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => wrong.invalid(path, "", ONE_SOURCE),
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

/// Limits and requests of a container, or of whatever else has them.
pub(super) fn resources(resources: &Value, path: &Path, wrong: &mut Wrong) {
    let limits = members(resources, "limits");
    let at_limits = path.child("limits");
    for (name, amount) in limits {
        resource(name, amount, &at_limits.key(name), wrong);
    }
    let at_requests = path.child("requests");
    for (name, amount) in members(resources, "requests") {
        resource(name, amount, &at_requests.key(name), wrong);
        let text = amount.as_str().unwrap_or_default();
        let overcommits = !name.contains('/') && !name.starts_with("hugepages-");
        match limits.get(name).and_then(Value::as_str) {
            Some(limit) => {
                let (Ok(asked), Ok(most)) = (Quantity::parse(text), Quantity::parse(limit)) else { continue };
                let order = asked.compare(most);
                if order.is_ne() && !overcommits {
                    wrong.invalid(&at_requests, text, format!("must be equal to {name} limit of {limit}"));
                } else if order.is_gt() {
                    wrong.invalid(&at_requests, text, format!("must be less than or equal to {name} limit of {limit}"));
                }
            }
            None if !overcommits => {
                wrong.required(&at_limits, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
    }
}

fn resource(name: &str, amount: &Value, path: &Path, wrong: &mut Wrong) {
    let sentences = names::label_key(name);
    let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-");
    if !sentences.is_empty() {
        wrong.each(path, name, sentences);
    } else if !name.contains('/') && !standard && !QUOTA_NAMES.contains(&name) {
        wrong.invalid(path, name, "must be a standard resource type or fully qualified");
    }
    if !name.contains('/') && !standard {
        wrong.invalid(path, name, "must be a standard resource for containers");
    }
    let text = amount.as_str().unwrap_or_default();
    let Ok(quantity) = Quantity::parse(text) else { return };
    if quantity.is_negative() {
        wrong.invalid(path, text, NOT_NEGATIVE);
    }
    let extended = name.contains('/') && !name.contains("kubernetes.io/");
    if extended && !quantity.is_whole() {
        wrong.invalid(path, text, "must be an integer");
    }
}

/// Standard names that are for quotas and not for containers.
const QUOTA_NAMES: [&str; 15] = [
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
];

fn security(context: &Value, path: &Path, wrong: &mut Wrong) {
    if context.is_null() {
        return;
    }
    for name in ["runAsUser", "runAsGroup"] {
        if let Some(id) = integer(context, name) {
            wrong.each_number(&path.child(name), id, formats::unix_id(id));
        }
    }
    wrong.one_of(&path.child("procMount"), string(context, "procMount"), &["Default", "Unmasked"]);
    seccomp(child(context, "seccompProfile"), &path.child("seccompProfile"), wrong);
    let escalation = context.get("allowPrivilegeEscalation").and_then(Value::as_bool);
    if escalation == Some(false) && flag(context, "privileged") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        wrong.invalid_value(path, &printed(context), why);
    }
}

/// The internal type as messages print it.
fn printed(context: &Value) -> Value {
    let or_null = |name: &str| child(context, name).clone();
    json!({"Capabilities": or_null("capabilities"), "Privileged": or_null("privileged"), "SELinuxOptions": or_null("seLinuxOptions"),
        "WindowsOptions": or_null("windowsOptions"), "RunAsUser": or_null("runAsUser"), "RunAsGroup": or_null("runAsGroup"),
        "RunAsNonRoot": or_null("runAsNonRoot"), "ReadOnlyRootFilesystem": or_null("readOnlyRootFilesystem"),
        "AllowPrivilegeEscalation": or_null("allowPrivilegeEscalation"), "ProcMount": or_null("procMount"),
        "SeccompProfile": or_null("seccompProfile"), "AppArmorProfile": or_null("appArmorProfile")})
}

pub(super) fn seccomp(profile: &Value, path: &Path, wrong: &mut Wrong) {
    if profile.is_null() {
        return;
    }
    let kind = string(profile, "type");
    if kind.is_empty() {
        wrong.required(&path.child("type"), "type is required when seccompProfile is set");
    } else {
        wrong.one_of(&path.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    let at_file = path.child("localhostProfile");
    let file = at(profile.as_object().unwrap_or(&Members::new()), &["localhostProfile"])
        .and_then(Value::as_str)
        .map(str::to_owned);
    match (kind == "Localhost", file) {
        (true, None) => wrong.required(&at_file, "must be set when seccomp type is Localhost"),
        (true, Some(file)) => formats::relative_path(&at_file, &file, wrong),
        (false, Some(file)) => {
            let printed = json!({"Type": kind, "LocalhostProfile": file});
            wrong.invalid_value(&at_file, &printed, "can only be set when seccomp type is Localhost");
        }
        (false, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;
    use super::*;

    fn with(container: Value) -> Vec<String> {
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
    fn variables_have_one_source() {
        let from = |value: Value| with(json!({"env": [{"name": "A", "valueFrom": value}]}));
        assert!(from(json!({"fieldRef": {"fieldPath": "metadata.name"}})).is_empty());
        assert!(from(json!({"fieldRef": {"fieldPath": "metadata.labels['a']"}})).is_empty());
        assert!(from(json!({}))[0].contains("must specify one of"));
        assert_eq!(
            from(json!({"fieldRef": {"fieldPath": "spec.foo"}}))[0],
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.foo\": error converting fieldPath: field label not supported: spec.foo"
        );
        assert!(from(json!({"fieldRef": {"fieldPath": "metadata.labels"}}))[0].contains("Unsupported value"));
        assert!(from(json!({"secretKeyRef": {"name": "s"}}))[0].ends_with("secretKeyRef.key: Required value"));
        assert!(
            from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "5"}}))[0]
                .contains("only divisor's values 1m and 1")
        );
        assert!(with(json!({"env": [{"name": ""}]}))[0].ends_with("name: Required value"));
        assert!(with(json!({"envFrom": [{}]}))[0].contains("must specify one of: `configMapRef` or `secretRef`"));
        assert!(with(json!({"envFrom": [{"secretRef": {}}]}))[0].ends_with("secretRef.name: Required value"));
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
    fn requests_fit_their_limits() {
        let of = |resources: Value| with(json!({"resources": resources}));
        assert!(of(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}})).is_empty());
        assert_eq!(
            of(json!({"requests": {"cpu": "2", "gpu": "1"}, "limits": {"cpu": "1", "gpu": "1"}})),
            [
                "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers"
            ]
        );
        assert!(of(json!({"limits": {"memory": "-1"}}))[0].contains("greater than or equal to 0"));
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
