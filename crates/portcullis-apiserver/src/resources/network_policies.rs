//! Network policies. Nothing enforces them here.

use std::net::IpAddr;

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::formats::{self, cidr_warnings};
use super::check::{Path, Wrong, labels, meta};
use super::rules::{Rules, count_up, set_generation};
use super::tree::{Members, child, has, integer, list, list_at, object, string};

pub(crate) const RULES: Rules = Rules {
    prepare_create: |members| set_generation(members, 1),
    prepare_update: |new, old| {
        if new.get("spec") != old.get("spec") {
            count_up(new, old);
        }
    },
    validate,
    validate_update,
    warnings,
    ..Rules::NAMESPACED
};

/// The protocol of a port. Compat: an empty text says something: that it is none.
pub(super) fn protocol(port: &mut Members) {
    port.entry("protocol").or_insert_with(|| "TCP".into());
}

/// A policy is about what comes in, and about what goes out when it says something of that.
pub(super) fn fill(members: &mut Members) {
    let spec = object(members, "spec");
    if list_at(spec, &["policyTypes"]).is_empty() {
        let mut types = vec![json!("Ingress")];
        if !list_at(spec, &["egress"]).is_empty() {
            types.push(json!("Egress"));
        }
        spec.insert("policyTypes".to_owned(), Value::Array(types));
    }
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    spec(new, wrong);
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    spec(new, wrong);
}

fn spec(new: &Members, wrong: &mut Wrong) {
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    labels::selector(child(spec, "podSelector"), &path.child("podSelector"), wrong);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(spec, direction).iter().enumerate() {
            let path = path.child(direction).index(index);
            for (at, port) in list(rule, "ports").iter().enumerate() {
                self::port(port, &path.child("ports").index(at), wrong);
            }
            for (at, peer) in list(rule, peers).iter().enumerate() {
                self::peer(peer, &path.child(peers).index(at), wrong);
            }
        }
    }
    let types = list(spec, "policyTypes");
    let at = path.child("policyTypes");
    if types.len() > 2 {
        wrong.invalid_value(&at, &Value::Array(types.to_vec()), "may not specify more than two policyTypes");
        return;
    }
    for (index, kind) in types.iter().enumerate() {
        let kind = kind.as_str().unwrap_or_default();
        if !["Ingress", "Egress"].contains(&kind) {
            wrong.not_supported(&at.index(index), kind, &["Ingress", "Egress"]);
        }
    }
}

fn port(port: &Value, path: &Path, wrong: &mut Wrong) {
    if let Some(protocol) = port.get("protocol").and_then(Value::as_str)
        && !["TCP", "UDP", "SCTP"].contains(&protocol)
    {
        wrong.not_supported(&path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let (end, at_end) = (integer(port, "endPort"), path.child("endPort"));
    let mut refuse = |end: i64, why: &str| wrong.push(FieldError::invalid_json(&at_end, &end, why));
    match (child(port, "port"), end) {
        (Value::Null, Some(end)) => refuse(end, "may not be specified when `port` is not specified"),
        (Value::Null, None) => {}
        (Value::String(name), end) => {
            if let Some(end) = end {
                refuse(end, "may not be specified when `port` is non-numeric");
            }
            wrong.each(&path.child("port"), name, formats::port_name(name));
        }
        (number, end) => {
            let number = number.as_i64().unwrap_or(0);
            wrong.each_number(&path.child("port"), number, formats::port_number(number));
            if let Some(end) = end {
                if end < number {
                    wrong.push(FieldError::invalid_json(&at_end, &end, "must be greater than or equal to `port`"));
                }
                wrong.each_number(&at_end, end, formats::port_number(end));
            }
        }
    }
}

fn peer(peer: &Value, path: &Path, wrong: &mut Wrong) {
    let selectors = ["podSelector", "namespaceSelector"];
    let mut peers = 0;
    for name in selectors.into_iter().filter(|name| has(peer, name)) {
        peers += 1;
        labels::selector(child(peer, name), &path.child(name), wrong);
    }
    let block = has(peer, "ipBlock");
    if block {
        ip_block(child(peer, "ipBlock"), &path.child("ipBlock"), wrong);
    }
    if peers == 0 && !block {
        wrong.required(path, "must specify a peer");
    } else if peers > 0 && block {
        wrong.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, path: &Path, wrong: &mut Wrong) {
    let text = string(block, "cidr");
    if text.is_empty() {
        wrong.push_last(FieldError::required(path.child("cidr"), ""));
        return;
    }
    let Some((address, bits)) = formats::cidr(&path.child("cidr"), text, wrong) else { return };
    for (index, except) in list(block, "except").iter().enumerate() {
        let (path, text) = (path.child("except").index(index), except.as_str().unwrap_or_default());
        let Some((inner, inner_bits)) = formats::cidr(&path, text, wrong) else { continue };
        let inside = IpAddr::is_ipv4(&address) == inner.is_ipv4()
            && formats::masked(inner, bits) == formats::masked(address, bits)
            && bits < inner_bits;
        if !inside {
            wrong.invalid(&path, text, "must be a strict subset of `cidr`");
        }
    }
}

fn warnings(new: &Members, _: Option<&Members>) -> Vec<String> {
    let mut out = Vec::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list_at(new, &["spec", direction]).iter().enumerate() {
            for (at, peer) in list(rule, peers).iter().enumerate().filter(|(_, peer)| has(peer, "ipBlock")) {
                let path = Path::new("spec").child(direction).index(index).child(peers).index(at).child("ipBlock");
                let block = child(peer, "ipBlock");
                out.extend(cidr_warnings(&path.child("cidr"), string(block, "cidr")));
                for (at, except) in list(block, "except").iter().enumerate() {
                    out.extend(cidr_warnings(&path.child("except").index(at), except.as_str().unwrap_or_default()));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": spec});
        let mut wrong = Wrong::default();
        validate(object.as_object().unwrap(), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_policy_says_what_it_is_about() {
        let types = |spec: Value| {
            let mut object = json!({"spec": spec}).as_object().unwrap().clone();
            fill(&mut object);
            object["spec"]["policyTypes"].clone()
        };
        assert_eq!(types(json!({})), json!(["Ingress"]));
        assert_eq!(types(json!({"egress": [{}]})), json!(["Ingress", "Egress"]));
    }

    #[test]
    fn common_mistakes_read_as_upstream_words_them() {
        assert!(
            problems(json!({"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80, "endPort": 90}]}]}))
                .is_empty()
        );
        assert_eq!(
            problems(
                json!({"ingress": [{"from": [{}, {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}, {"ipBlock": {}}],
                "ports": [{"port": 80, "endPort": 70}, {"port": "http", "endPort": 1}, {"endPort": 5, "protocol": "X"}]}], "policyTypes": ["Odd"]})
            ),
            [
                "spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
                "spec.ingress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is non-numeric",
                "spec.ingress[0].ports[2].protocol: Unsupported value: \"X\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                "spec.ingress[0].ports[2].endPort: Invalid value: 5: may not be specified when `port` is not specified",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
                "spec.policyTypes[0]: Unsupported value: \"Odd\": supported values: \"Ingress\", \"Egress\"",
                "spec.ingress[0].from[2].ipBlock.cidr: Required value"
            ]
        );
    }

    #[test]
    fn a_block_in_an_odd_form_is_warned_about() {
        let object = json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "2001:DB8::/32"}}]}]}});
        assert_eq!(
            warnings(object.as_object().unwrap(), None),
            [
                "spec.egress[0].to[0].ipBlock.cidr: IPv6 CIDR value \"2001:DB8::/32\" should be in RFC 5952 canonical format (\"2001:db8::/32\")"
            ]
        );
    }
}
