//! Endpoints: the addresses behind a service, as they were kept before endpoint slices.

use std::net::IpAddr;

use portcullis_kube::names;
use serde_json::Value;

use super::check::formats::{self, ip_warning};
use super::check::{Path, Wrong, meta, same};
use super::rules::Rules;
use super::tree::{Members, has, list, list_at, string, string_at};

pub(crate) const RULES: Rules =
    Rules { create_on_update: true, validate, validate_update, warnings, ..Rules::NAMESPACED };
pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Compat: `pkg/apis/core/v1` marks the whole kind as deprecated.
pub(crate) const DEPRECATED: &str = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    subsets(new, wrong);
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    let null = Value::Null;
    // What was let through once stays.
    if !same(new.get("subsets").unwrap_or(&null), old.get("subsets").unwrap_or(&null)) {
        subsets(new, wrong);
    }
}

fn subsets(new: &Members, wrong: &mut Wrong) {
    for (index, subset) in list_at(new, &["subsets"]).iter().enumerate() {
        let path = Path::new("subsets").index(index);
        let (ready, waiting) = (list(subset, "addresses"), list(subset, "notReadyAddresses"));
        if ready.is_empty() && waiting.is_empty() {
            wrong.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for (name, addresses) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            for (index, address) in addresses.iter().enumerate() {
                self::address(address, &path.child(name).index(index), wrong);
            }
        }
        let ports = list(subset, "ports");
        for (index, port) in ports.iter().enumerate() {
            self::port(port, ports.len() > 1, &path.child("ports").index(index), wrong);
        }
    }
}

fn address(address: &Value, path: &Path, wrong: &mut Wrong) {
    let text = string(address, "ip");
    formats::ip(&path.child("ip"), text, wrong);
    let host = string(address, "hostname");
    if !host.is_empty() {
        wrong.each(&path.child("hostname"), host, names::dns_label(host));
    }
    if has(address, "nodeName") {
        let node = string(address, "nodeName");
        wrong.each(&path.child("nodeName"), node, names::dns_subdomain(node));
    }
    reachable(text, &path.child("ip"), wrong);
}

/// Addresses that no endpoint can have.
pub(super) fn reachable(text: &str, path: &Path, wrong: &mut Wrong) {
    let Some(address) = formats::sloppy_ip(text) else {
        wrong.invalid(path, text, "must be a valid IP address");
        return;
    };
    if address.is_unspecified() {
        wrong.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        wrong.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(four) => (four.is_link_local(), matches!(four.octets(), [224, 0, 0, _])),
        IpAddr::V6(six) => {
            let first = six.segments()[0];
            (first & 0xffc0 == 0xfe80, first & 0xff0f == 0xff02)
        }
    };
    if link_local {
        wrong.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        wrong.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn port(port: &Value, name_needed: bool, path: &Path, wrong: &mut Wrong) {
    let name = string(port, "name");
    if name.is_empty() && name_needed {
        wrong.required(&path.child("name"), "");
    } else if !name.is_empty() {
        wrong.each(&path.child("name"), name, names::dns_label(name));
    }
    let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
    wrong.each_number(&path.child("port"), number, formats::port_number(number));
    wrong.required_one_of(&path.child("protocol"), string(port, "protocol"), &PROTOCOLS);
    if has(port, "appProtocol") {
        let protocol = string(port, "appProtocol");
        wrong.each(&path.child("appProtocol"), protocol, names::label_key(protocol));
    }
}

fn warnings(new: &Members, _: Option<&Members>) -> Vec<String> {
    if string_at(new, &["metadata", "labels", MANAGED_BY]) == "endpoint-controller" {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (index, subset) in list_at(new, &["subsets"]).iter().enumerate() {
        for name in ["addresses", "notReadyAddresses"] {
            for (at, address) in list(subset, name).iter().enumerate() {
                let path = Path::new("subsets").index(index).child(name).index(at).child("ip");
                out.extend(ip_warning(&path, string(address, "ip")));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(subsets: Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "e", "namespace": "d"}, "subsets": subsets});
        let mut wrong = Wrong::default();
        validate(object.as_object().unwrap(), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_must_be_reachable_and_ports_named_when_there_are_several() {
        let good = json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}]);
        assert!(problems(good).is_empty());
        let found = problems(
            json!([{"ports": []}, {"addresses": [{"ip": "127.0.0.1"}, {"ip": "x"}, {"ip": "fe80::1"}, {"ip": "224.0.0.5"}],
            "ports": [{"port": 0, "protocol": "TCP"}, {"name": "A", "port": 1, "protocol": "X"}]}]),
        );
        let starts = [
            "subsets[0]: Required value: must specify",
            "subsets[1].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback",
            "subsets[1].addresses[1].ip: Invalid value: \"x\": must be a valid IP address, (e.g.",
            "subsets[1].addresses[1].ip: Invalid value: \"x\": must be a valid IP address",
            "subsets[1].addresses[2].ip: Invalid value: \"fe80::1\": may not be in the link-local range",
            "subsets[1].addresses[3].ip: Invalid value: \"224.0.0.5\": may not be in the link-local multicast",
            "subsets[1].ports[0].name: Required value",
            "subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "subsets[1].ports[1].name: Invalid value: \"A\"",
            "subsets[1].ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
    }

    #[test]
    fn addresses_in_odd_forms_are_warned_about_unless_a_controller_wrote_them() {
        let odd = json!({"metadata": {"labels": {}}, "subsets": [{"addresses": [{"ip": "2001:DB8::0:1"}]}]});
        let said = warnings(odd.as_object().unwrap(), None);
        assert_eq!(
            said,
            [
                "subsets[0].addresses[0].ip: IPv6 address \"2001:DB8::0:1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"
            ]
        );
        let mut managed = odd;
        managed["metadata"]["labels"][MANAGED_BY] = json!("endpoint-controller");
        assert!(warnings(managed.as_object().unwrap(), None).is_empty());
    }
}
