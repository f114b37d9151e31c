//! Endpoint slices: the addresses behind a service.

use std::net::IpAddr;

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::formats::{self, ip_warning};
use super::check::{IMMUTABLE, Path, Wrong, labels, meta, same};
use super::endpoints::{PROTOCOLS, reachable};
use super::rules::{Rules, count_up, set_generation};
use super::tree::{Members, at, child, has, list, list_at, objects_mut, string, string_at};

pub(crate) const RULES: Rules = Rules {
    prepare_create: |members| {
        set_generation(members, 1);
        drop_topology(members);
    },
    prepare_update: |new, old| {
        if changed(new, old) {
            count_up(new, old);
        }
        drop_topology(new);
    },
    validate: |new, wrong| slice(new, None, wrong),
    validate_update,
    warnings,
    ..Rules::NAMESPACED
};
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

/// A port without a name has the empty one.
pub(super) fn fill_port(port: &mut Members) {
    port.entry("name").or_insert_with(|| json!(""));
    port.entry("protocol").or_insert_with(|| json!("TCP"));
}

/// Compat: the old field is not for `v1` clients to write.
fn drop_topology(members: &mut Members) {
    objects_mut(members, "endpoints").for_each(|endpoint| drop(endpoint.shift_remove("deprecatedTopology")));
}

fn changed(new: &Members, old: &Members) -> bool {
    let part = |members: &Members, name: &str| at(members, &[name]).cloned().unwrap_or_default();
    let labels_of = |members: &Members| at(members, &["metadata", "labels"]).cloned().unwrap_or_default();
    ["addressType", "endpoints", "ports"].iter().any(|name| !same(&part(new, name), &part(old, name)))
        || !same(&labels_of(new), &labels_of(old))
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    slice(new, Some(old), wrong);
    let (kind, before) = (string_at(new, &["addressType"]), string_at(old, &["addressType"]));
    if kind != before {
        // Compat: declarative validation does not print the value here.
        wrong.push_last(FieldError::invalid_json("addressType", &Value::Null, IMMUTABLE));
    }
}

fn slice(new: &Members, old: Option<&Members>, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    let kind = string_at(new, &["addressType"]);
    if kind.is_empty() {
        wrong.push_last(FieldError::required("addressType", ""));
    } else if !TYPES.contains(&kind) {
        wrong.push_last(FieldError::not_supported("addressType", kind, &TYPES));
    }
    ports(list_at(new, &["ports"]), wrong);
    let list = list_at(new, &["endpoints"]);
    // What was let through once stays.
    if old.is_some_and(|old| list_at(old, &["endpoints"]) == list) {
        return;
    }
    let path = Path::new("endpoints");
    if list.len() > 1_000 {
        wrong.push(FieldError::too_many(&path, list.len(), 1_000));
        return;
    }
    for (index, endpoint) in list.iter().enumerate() {
        self::endpoint(endpoint, kind, &path.index(index), wrong);
    }
}

fn ports(ports: &[Value], wrong: &mut Wrong) {
    let path = Path::new("ports");
    let mut seen = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = string(port, "name");
        if !name.is_empty() {
            wrong.each(&path.child("name"), name, names::dns_label(name));
        }
        if seen.contains(&name) {
            wrong.duplicate(&path.child("name"), name);
        }
        seen.push(name);
        if !PROTOCOLS.contains(&string(port, "protocol")) {
            wrong.not_supported(&path.child("protocol"), string(port, "protocol"), &PROTOCOLS);
        }
        if has(port, "appProtocol") {
            let protocol = string(port, "appProtocol");
            wrong.each(&path.child("appProtocol"), protocol, names::label_key(protocol));
        }
    }
}

fn endpoint(endpoint: &Value, kind: &str, path: &Path, wrong: &mut Wrong) {
    let (addresses, at) = (list(endpoint, "addresses"), path.child("addresses"));
    if addresses.is_empty() {
        wrong.push_last(FieldError::required(&at, ""));
    } else if addresses.len() > 100 {
        wrong.push_last(FieldError::too_many(&at, addresses.len(), 100));
    }
    for (index, address) in addresses.iter().enumerate() {
        self::address(address.as_str().unwrap_or_default(), kind, &at, index, wrong);
    }
    if has(endpoint, "nodeName") {
        let node = string(endpoint, "nodeName");
        wrong.each(&path.child("nodeName"), node, names::dns_subdomain(node));
    }
    if has(endpoint, "hostname") {
        let host = string(endpoint, "hostname");
        wrong.each(&path.child("hostname"), host, names::dns_label(host));
    }
    let (zones, at) = (list(child(endpoint, "hints"), "forZones"), path.child("hints").child("forZones"));
    if zones.len() > 8 {
        wrong.push(FieldError::too_many(&at, zones.len(), 8));
        return;
    }
    let mut seen = Vec::new();
    for (index, zone) in zones.iter().enumerate() {
        let (name, at) = (string(zone, "name"), at.index(index).child("name"));
        if seen.contains(&name) {
            wrong.duplicate(&at, name);
        }
        seen.push(name);
        wrong.each(&at, name, names::label_value(name));
    }
    labels::labels(super::tree::members(endpoint, "deprecatedTopology"), &path.child("deprecatedTopology"), wrong);
}

fn address(text: &str, kind: &str, path: &Path, index: usize, wrong: &mut Wrong) {
    let (at, before) = (path.index(index), wrong.len());
    match kind {
        "IPv4" | "IPv6" => {
            let Some(read) = formats::ip(&at, text, wrong) else { return };
            if wrong.len() > before {
                return;
            }
            if kind == "IPv6" && text != read.to_string() {
                wrong.invalid(&at, text, format!("must be in canonical form (\"{read}\")"));
                return;
            }
            // Compat: upstream names the list here.
            if read.is_ipv4() != (kind == "IPv4") {
                wrong.invalid(path, text, format!("must be an {kind} address"));
            }
            reachable(text, &at, wrong);
        }
        "FQDN" => {
            if text.is_empty() {
                wrong.required(&at, "");
                return;
            }
            let name = text.strip_suffix('.').unwrap_or(text);
            wrong.each(&at, name, names::dns_subdomain(name));
            if wrong.len() == before && !name.contains('.') {
                wrong.invalid(&at, text, "should be a domain with at least two segments separated by dots");
            }
        }
        _ => {}
    }
}

fn warnings(new: &Members, old: Option<&Members>) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() && string_at(new, &["addressType"]) == "FQDN" {
        out.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let manager = string_at(new, &["metadata", "labels", MANAGED_BY]);
    if ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"].contains(&manager) {
        return out;
    }
    for (index, endpoint) in list_at(new, &["endpoints"]).iter().enumerate() {
        for (at, address) in list(endpoint, "addresses").iter().enumerate() {
            let path = Path::new("endpoints").index(index).child("addresses").index(at);
            let text = address.as_str().unwrap_or_default();
            if text.parse::<IpAddr>().is_ok() || formats::sloppy_ip(text).is_some() {
                out.extend(ip_warning(&path, text));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> Members {
        let mut object = json!({"metadata": {"name": "e", "namespace": "d"}});
        object.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        object.as_object().unwrap().clone()
    }

    fn problems(value: Value) -> Vec<String> {
        let mut wrong = Wrong::default();
        slice(&of(value), None, &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_are_of_the_slices_type() {
        assert!(problems(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]})).is_empty());
        assert_eq!(
            problems(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1", "x", "127.0.0.1"]}, {}],
                "ports": [{"name": "a", "protocol": "TCP"}, {"name": "a", "protocol": "X"}]})),
            [
                "ports[1].name: Duplicate value: \"a\"",
                "ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "endpoints[0].addresses: Invalid value: \"::1\": must be an IPv4 address",
                "endpoints[0].addresses[0]: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "endpoints[0].addresses[1]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "endpoints[0].addresses[2]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "endpoints[1].addresses: Required value"
            ]
        );
        assert_eq!(problems(json!({})), ["addressType: Required value"]);
        assert_eq!(problems(json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a", "b.c", ""]}]})).len(), 2);
    }

    #[test]
    fn generations_count_what_clients_see() {
        let old = of(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}));
        let mut new = old.clone();
        new["metadata"]["annotations"] = json!({"a": "b"});
        assert!(!changed(&new, &old));
        new["metadata"]["labels"] = json!({"a": "b"});
        assert!(changed(&new, &old));
        let mut wrong = Wrong::default();
        new.insert("addressType".to_owned(), json!("IPv6"));
        validate_update(&new, &old, &mut wrong);
        assert_eq!(wrong.finish()[0].to_string(), "addressType: Invalid value: null: field is immutable");
        let mut port = Members::new();
        fill_port(&mut port);
        assert_eq!(Value::Object(port), json!({"name": "", "protocol": "TCP"}));
    }
}
