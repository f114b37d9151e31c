//! Environment variables of containers, and the references to fields that downward API files have too.

use portcullis_kube::names;
use serde_json::Value;

use super::super::check::{Path, Wrong, formats};
use super::super::tree::{child, has, string};
use crate::schema::quantity::Quantity;

const ONE_SOURCE: &str = "may not have more than one field specified at a time";
/// The variables of a container.
pub(super) fn variables(variables: &[Value], path: &Path, wrong: &mut Wrong) {
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
const KNOWN_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
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
    let version = string(reference, "apiVersion");
    if version != "v1" {
        wrong.invalid(&at, field, format!("error converting fieldPath: unsupported pod version: {version}"));
        return;
    }
    let subscript = field.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    if let Some((name, key)) = subscript.filter(|(name, _)| !name.is_empty()) {
        match name {
            "metadata.annotations" => wrong.each(path, &key.to_lowercase(), names::label_key(&key.to_lowercase())),
            "metadata.labels" => wrong.each(path, key, names::label_key(key)),
            _ => {
                let why = format!("error converting fieldPath: field label does not support subscript: {field}");
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

/// Where a container's variables come from, all at once.
pub(super) fn sources(sources: &[Value], path: &Path, wrong: &mut Wrong) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::containers::tests::with;
    use super::*;

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
}
