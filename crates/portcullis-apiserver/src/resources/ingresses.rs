//! Ingresses and ingress classes.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

use super::check::formats::{self, ip_warning};
use super::check::{Path, Wrong, meta};
use super::rules::{Rules, count_up, differs, set_generation};
use super::services::balancer_status;
use super::tree::{Members, at, child, default, has, integer, list, list_at, members_at, string, string_at};

pub(crate) const RULES: Rules = Rules { validate, validate_update, validate_status, warnings, ..Rules::WITH_STATUS };
pub(crate) const CLASS_RULES: Rules = Rules {
    prepare_create: |members| set_generation(members, 1),
    prepare_update: |new, old| {
        if differs(new, old, "spec") {
            count_up(new, old);
        }
    },
    validate: validate_class,
    validate_update: update_class,
    ..Rules::CLUSTER
};
/// The annotation that named the class before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";

/// Parameters of a class belong to the cluster unless they say otherwise.
pub(super) fn fill_parameters(parameters: &mut Members) {
    default(parameters, "scope", "Cluster");
}

fn validate(new: &Members, wrong: &mut Wrong) {
    ingress(new, wrong);
    let annotation = members_at(new, &["metadata", "annotations"]).get(CLASS).and_then(Value::as_str);
    let class = at(new, &["spec", "ingressClassName"]).and_then(Value::as_str);
    if let (Some(annotation), Some(class)) = (annotation, class)
        && annotation != class
    {
        let path = Path::new("annotations").child(CLASS);
        wrong.invalid(&path, annotation, "must match `ingressClassName` when both are specified");
    }
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    ingress(new, wrong);
}

fn ingress(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    let rules = list(spec, "rules");
    if rules.is_empty() && !has(spec, "defaultBackend") {
        wrong.invalid_value(&path, &printed_rules(rules), "either `defaultBackend` or `rules` must be specified");
    }
    if has(spec, "defaultBackend") {
        backend(child(spec, "defaultBackend"), &path.child("defaultBackend"), wrong);
    }
    for (index, rule) in rules.iter().enumerate() {
        self::rule(rule, &path.child("rules").index(index), wrong);
    }
    for (index, tls) in list(spec, "tls").iter().enumerate() {
        let path = path.child("tls").index(index);
        for (at, host) in list(tls, "hosts").iter().enumerate() {
            self::host(host.as_str().unwrap_or_default(), &path.child("hosts").index(at), wrong);
        }
        let secret = string(tls, "secretName");
        if !secret.is_empty() {
            wrong.each(&path.child("secretName"), secret, names::dns_subdomain(secret));
        }
    }
    if has(spec, "ingressClassName") {
        let class = string(spec, "ingressClassName");
        wrong.each(&path.child("ingressClassName"), class, names::dns_subdomain(class));
    }
}

/// Compat: rules that are not there are printed as null.
fn printed_rules(rules: &[Value]) -> Value {
    if rules.is_empty() { Value::Null } else { Value::Array(rules.to_vec()) }
}

fn host(host: &str, path: &Path, wrong: &mut Wrong) {
    let sentences = if host.contains('*') { formats::wildcard_subdomain(host) } else { names::dns_subdomain(host) };
    wrong.each(path, host, sentences);
}

fn rule(rule: &Value, path: &Path, wrong: &mut Wrong) {
    let name = string(rule, "host");
    if !name.is_empty() {
        if formats::sloppy_ip(name).is_some() {
            wrong.invalid(&path.child("host"), name, "must be a DNS name, not an IP address");
        }
        host(name, &path.child("host"), wrong);
    }
    if !has(rule, "http") {
        return;
    }
    let path = path.child("http").child("paths");
    let paths = list(child(rule, "http"), "paths");
    if paths.is_empty() {
        wrong.required(&path, "");
    }
    for (index, entry) in paths.iter().enumerate() {
        http_path(entry, &path.index(index), wrong);
    }
}

fn http_path(entry: &Value, path: &Path, wrong: &mut Wrong) {
    let (text, at) = (string(entry, "path"), path.child("path"));
    if !has(entry, "pathType") {
        wrong.required(&path.child("pathType"), "pathType must be specified");
        return;
    }
    match string(entry, "pathType") {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                wrong.invalid(&at, text, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| text.contains(part)) {
                wrong.invalid(&at, text, format!("must not contain '{sequence}'"));
            }
            for ending in ["/..", "/."].into_iter().filter(|ending| text.ends_with(ending)) {
                wrong.invalid(&at, text, format!("cannot end with '{ending}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                wrong.invalid(&at, text, "must be an absolute path");
            }
        }
        other => wrong.not_supported(&path.child("pathType"), other, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(child(entry, "backend"), &path.child("backend"), wrong);
}

fn backend(backend: &Value, path: &Path, wrong: &mut Wrong) {
    match (has(backend, "resource"), has(backend, "service")) {
        (true, true) => wrong.invalid(path, "", "cannot set both resource and service backends"),
        (true, false) => reference(child(backend, "resource"), false, &path.child("resource"), wrong),
        (false, true) => {
            let (service, at) = (child(backend, "service"), path.child("service"));
            let name = string(service, "name");
            if name.is_empty() {
                wrong.required(&at.child("name"), "");
            } else {
                wrong.each(&at.child("name"), name, names::dns_label(name));
            }
            let port = child(service, "port");
            let (name, number) = (string(port, "name"), integer(port, "number").unwrap_or(0));
            match (name.is_empty(), number) {
                (false, 0) => wrong.each(&at.child("port").child("name"), name, formats::port_name(name)),
                (false, _) => wrong.invalid(path, "", "cannot set both port name & port number"),
                (true, 0) => wrong.required(path, "port name or number is required"),
                (true, number) => {
                    wrong.each_number(&at.child("port").child("number"), number, formats::port_number(number));
                }
            }
        }
        (false, false) => wrong.invalid(path, "", "resource or service backend is required"),
    }
}

/// A reference to an object of any kind. What is missing is listed last where upstream judges declaratively.
fn reference(reference: &Value, missing_last: bool, path: &Path, wrong: &mut Wrong) {
    if has(reference, "apiGroup") {
        let group = string(reference, "apiGroup");
        wrong.each(&path.child("apiGroup"), group, names::dns_subdomain(group));
    }
    for name in ["kind", "name"] {
        let text = string(reference, name);
        if !text.is_empty() {
            wrong.each(&path.child(name), text, names::path_segment(text));
        } else if missing_last {
            wrong.push_last(FieldError::required(path.child(name), ""));
        } else {
            wrong.required(&path.child(name), "");
        }
    }
}

fn validate_status(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    // An ingress' entries have no mode: the same rules without it.
    let mut plain = new.clone();
    for entry in list_at(new, &["status", "loadBalancer", "ingress"]).iter().enumerate() {
        let pointer = format!("/loadBalancer/ingress/{}", entry.0);
        if let Some(Value::Object(entry)) = plain.get_mut("status").and_then(|status| status.pointer_mut(&pointer)) {
            let mode = if string_at(entry, &["ip"]).is_empty() { Value::Null } else { Value::from("VIP") };
            entry.insert("ipMode".to_owned(), mode);
        }
    }
    balancer_status(&plain, &Path::new("status.loadBalancer"), true, wrong);
}

fn warnings(new: &Members, _: Option<&Members>) -> Vec<String> {
    let annotated = members_at(new, &["metadata", "annotations"]).contains_key(CLASS);
    let mut out = Vec::new();
    if annotated && at(new, &["spec", "ingressClassName"]).is_none() {
        out.push(format!("annotation \"{CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"));
    }
    for (index, entry) in list_at(new, &["status", "loadBalancer", "ingress"]).iter().enumerate() {
        out.extend(ip_warning(&Path::new("status.loadBalancer.ingress").index(index), string(entry, "ip")));
    }
    out
}

fn validate_class(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, false, names::dns_subdomain, wrong);
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    let (controller, at) = (string(spec, "controller"), path.child("controller"));
    if controller.len() > 250 {
        wrong.push(FieldError::too_long(&at, 250));
    }
    domain_path(controller, &at, wrong);
    if !has(spec, "parameters") {
        return;
    }
    let (parameters, at) = (child(spec, "parameters"), path.child("parameters"));
    reference(parameters, true, &at, wrong);
    let namespace = string(parameters, "namespace");
    match string(parameters, "scope") {
        "Namespace" if !has(parameters, "namespace") => {
            wrong.required(&at.child("namespace"), "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => wrong.each(&at.child("namespace"), namespace, names::dns_label(namespace)),
        "Cluster" if has(parameters, "namespace") => {
            wrong.forbidden(&at.child("namespace"), "`parameters.scope` is set to 'Cluster'");
        }
        "Cluster" => {}
        // Compat: here its type has no name of its own.
        other => wrong.not_supported_text(&at.child("scope"), other, &["Cluster", "Namespace"]),
    }
}

/// `example.com/what`.
fn domain_path(text: &str, path: &Path, wrong: &mut Wrong) {
    if text.is_empty() {
        wrong.required(path, "");
        return;
    }
    let Some((host, rest)) = text.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) else {
        wrong.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    wrong.each(path, host, names::dns_subdomain(host));
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(good) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        wrong.invalid(path, rest, why);
    }
}

fn update_class(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let of = |members: &Members| Value::from(string_at(members, &["spec", "controller"]));
    wrong.unchanged(&Path::new("spec.controller"), &of(new), &of(old));
    validate_class(new, wrong);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(check: fn(&Members, &mut Wrong), spec: Value, namespaced: bool) -> Vec<String> {
        let mut object = json!({"metadata": {"name": "i"}, "spec": spec});
        if namespaced {
            object["metadata"]["namespace"] = json!("d");
        }
        let mut wrong = Wrong::default();
        check(object.as_object().unwrap(), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn common_mistakes_of_ingresses_read_as_upstream_words_them() {
        let path = |entry: Value| json!({"rules": [{"host": "a.example", "http": {"paths": [entry]}}]});
        let service = json!({"service": {"name": "s", "port": {"number": 80}}});
        let of = |spec: Value| problems(validate, spec, true);
        assert!(of(path(json!({"path": "/", "pathType": "Prefix", "backend": service}))).is_empty());
        for (spec, want) in [
            (json!({}), "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"),
            (
                path(json!({"path": "/"})),
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ),
            (
                path(json!({"path": "a", "pathType": "Prefix", "backend": service})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path",
            ),
            (
                path(json!({"path": "/a//b", "pathType": "Exact", "backend": service})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'",
            ),
            (
                path(json!({"path": "/", "pathType": "Odd", "backend": service})),
                "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Odd\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
            ),
            (
                json!({"defaultBackend": {}}),
                "spec.defaultBackend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                json!({"defaultBackend": {"service": {"name": "s"}}}),
                "spec.defaultBackend: Required value: port name or number is required",
            ),
            (
                json!({"rules": [{"host": "10.0.0.1"}]}),
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ),
        ] {
            assert_eq!(of(spec.clone())[0], want, "{spec}");
        }
        assert_eq!(of(json!({"rules": [{"host": "*"}], "tls": [{"hosts": ["A"], "secretName": "B"}]})).len(), 3);
    }

    #[test]
    fn classes_name_their_controller() {
        let of = |spec: Value| problems(validate_class, spec, false);
        assert!(of(json!({"controller": "example.com/c"})).is_empty());
        assert_eq!(of(json!({})), ["spec.controller: Required value"]);
        assert!(of(json!({"controller": "x"}))[0].contains("must be a domain-prefixed path"));
        assert_eq!(
            of(json!({"controller": "a.b/c", "parameters": {"kind": "K", "name": "n", "scope": "Clust>r"}})),
            [r#"spec.parameters.scope: Unsupported value: "Clust>r": supported values: "Cluster", "Namespace""#]
        );
        assert_eq!(
            of(json!({"controller": "a.b/c", "parameters": {"scope": "Cluster", "namespace": "n"}})),
            [
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
                "spec.parameters.kind: Required value",
                "spec.parameters.name: Required value"
            ]
        );
    }

    #[test]
    fn the_annotation_is_old_and_must_agree() {
        let object = json!({"metadata": {"name": "i", "namespace": "d", "annotations": {CLASS: "a"}},
            "spec": {"ingressClassName": "b", "defaultBackend": {"service": {"name": "s", "port": {"name": "p"}}}},
            "status": {"loadBalancer": {"ingress": [{"ip": "x"}]}}});
        let mut object = object.as_object().unwrap().clone();
        let mut wrong = Wrong::default();
        validate(&object, &mut wrong);
        assert_eq!(
            wrong.finish()[0].to_string(),
            "annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are specified"
        );
        let mut wrong = Wrong::default();
        validate_status(&object, &object, &mut wrong);
        assert!(wrong.finish().iter().any(|error| error.field == "status.loadBalancer.ingress[0].ip"));
        object["spec"].as_object_mut().unwrap().remove("ingressClassName");
        assert_eq!(warnings(&object, None).len(), 1);
    }
}
