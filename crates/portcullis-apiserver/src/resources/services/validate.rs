//! What a service must look like.
//!
//! Compat: the order of problems is that of `pkg/apis/core/validation`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::labels::labels;
use super::super::check::{Path, Wrong, formats, meta};
use super::super::endpoints::{PROTOCOLS, reachable};
use super::super::tree::{Members, at, has, list_at, members_at, string, string_at};
use super::{CLOSE, SPEC, ZONE, externally_accessible, is_headless, needs_health_check};

pub(super) const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
pub(super) const MODE: &str = "service.kubernetes.io/topology-mode";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const BALANCED_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
/// Seconds in a day: the longest that a client can stick to an endpoint.
const DAY: i64 = 86_400;

pub(super) fn create(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_label, wrong);
    service(new, None, wrong);
}

pub(super) fn update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let (spec, before) = (members_at(new, &[SPEC]), members_at(old, &[SPEC]));
    addresses_stay(spec, before, wrong);
    balancer_class(spec, Some(before), wrong);
    if needs_health_check(before)
        && needs_health_check(spec)
        && spec.get("healthCheckNodePort") != before.get("healthCheckNodePort")
    {
        wrong.forbidden(&Path::new("spec.healthCheckNodePort"), "field is immutable");
    }
    service(new, Some(old), wrong);
}

pub(super) fn status(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let balanced = string_at(new, &[SPEC, "type"]) == "LoadBalancer";
    balancer_status(new, &Path::new("status.loadBalancer"), balanced, wrong);
}

/// What a load balancer says about itself; ingresses say it too.
pub(crate) fn balancer_status(object: &Members, path: &Path, balanced: bool, wrong: &mut Wrong) {
    let entries = list_at(object, &["status", "loadBalancer", "ingress"]);
    let path = path.child("ingress");
    if !balanced && !entries.is_empty() {
        wrong.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    for (index, entry) in entries.iter().enumerate() {
        let path = path.index(index);
        let (ip, mode, host) = (string(entry, "ip"), string(entry, "ipMode"), string(entry, "hostname"));
        if !ip.is_empty() {
            formats::ip(&path.child("ip"), ip, wrong);
        }
        match (has(entry, "ipMode"), ip.is_empty()) {
            (false, false) => wrong.required(&path.child("ipMode"), "must be specified when `ip` is set"),
            (true, true) => wrong.forbidden(&path.child("ipMode"), "may not be specified when `ip` is not set"),
            (true, false) => wrong.one_of(&path.child("ipMode"), mode, &["Proxy", "VIP"]),
            (false, true) => {}
        }
        if !host.is_empty() {
            wrong.each(&path.child("hostname"), host, names::dns_subdomain(host));
            if formats::sloppy_ip(host).is_some() {
                wrong.invalid(&path.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
}

fn service(new: &Members, old: Option<&Members>, wrong: &mut Wrong) {
    let (spec, path) = (members_at(new, &[SPEC]), Path::new(SPEC));
    let annotations = members_at(new, &["metadata", "annotations"]);
    if let (Some(hints), Some(mode)) = (annotations.get(HINTS), annotations.get(MODE))
        && hints != mode
    {
        let at = Path::new("metadata.annotations").key(MODE);
        wrong.invalid(
            &at,
            mode.as_str().unwrap_or_default(),
            format!("must match annotations[{HINTS}] when both are specified"),
        );
    }
    let (kind, headless, ports) = (string_at(spec, &["type"]), is_headless(spec), list_at(spec, &["ports"]));
    if ports.is_empty() && !headless && kind != "ExternalName" {
        wrong.required(&path.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            wrong.invalid(&path.child("clusterIPs").index(0), "None", why);
        }
        "ExternalName" => external_name(spec, &path, wrong),
        _ => {}
    }
    let mut port_names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        self::port(port, ports.len() > 1, &mut port_names, &path.child("ports").index(index), wrong);
    }
    labels(members_at(spec, &["selector"]), &path.child("selector"), wrong);
    affinity(spec, &path, wrong);
    cluster_ips(spec, old.map(|old| members_at(old, &[SPEC])), wrong);
    for (index, address) in list_at(spec, &["externalIPs"]).iter().enumerate() {
        let at = path.child("externalIPs").index(index);
        let (text, before) = (address.as_str().unwrap_or_default(), wrong.len());
        formats::ip(&at, text, wrong);
        if wrong.len() == before {
            reachable(text, &at, wrong);
        }
    }
    wrong.required_one_of(&path.child("type"), kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    port_numbers(kind, ports, &path.child("ports"), wrong);
    source_ranges(new, old, kind, wrong);
    if kind != "LoadBalancer" && at(spec, &["allocateLoadBalancerNodePorts"]).is_some_and(|value| !value.is_null()) {
        wrong.forbidden(&path.child("allocateLoadBalancerNodePorts"), BALANCED_ONLY);
    }
    balancer_class(spec, None, wrong);
    traffic(spec, &path, wrong);
}

fn external_name(spec: &Members, path: &Path, wrong: &mut Wrong) {
    for name in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let there = match spec.get(name) {
            Some(Value::Array(items)) => !items.is_empty(),
            Some(value) => !value.is_null(),
            None => false,
        };
        if there {
            wrong.forbidden(&path.child(name), "may not be set for ExternalName services");
        }
    }
    let name = string_at(spec, &["externalName"]);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        wrong.required(&path.child("externalName"), "");
    } else {
        wrong.each(&path.child("externalName"), name, names::dns_subdomain(name));
    }
}

fn port<'p>(port: &'p Value, name_needed: bool, seen: &mut BTreeSet<&'p str>, path: &Path, wrong: &mut Wrong) {
    let name = string(port, "name");
    if name.is_empty() && name_needed {
        wrong.required(&path.child("name"), "");
    } else if !name.is_empty() {
        wrong.each(&path.child("name"), name, names::dns_label(name));
        if !seen.insert(name) {
            wrong.duplicate(&path.child("name"), name);
        }
    }
    let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
    wrong.each_number(&path.child("port"), number, formats::port_number(number));
    wrong.required_one_of(&path.child("protocol"), string(port, "protocol"), &PROTOCOLS);
    formats::port_number_or_name(&path.child("targetPort"), port.get("targetPort").unwrap_or(&Value::Null), wrong);
    if has(port, "appProtocol") {
        let protocol = string(port, "appProtocol");
        wrong.each(&path.child("appProtocol"), protocol, names::label_key(protocol));
    }
}

fn affinity(spec: &Members, path: &Path, wrong: &mut Wrong) {
    let affinity = string_at(spec, &["sessionAffinity"]);
    wrong.required_one_of(&path.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let at_config = path.child("sessionAffinityConfig");
    match affinity {
        "ClientIP" => {
            let seconds = at(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).and_then(Value::as_i64);
            if let Some(seconds) = seconds.filter(|seconds| *seconds <= 0 || *seconds > DAY) {
                let why = format!("must be greater than 0 and less than {DAY}");
                wrong.push(FieldError::invalid_json(
                    at_config.child("clientIP").child("timeoutSeconds"),
                    &seconds,
                    why,
                ));
            }
        }
        "None" if at(spec, &["sessionAffinityConfig"]).is_some() => {
            wrong.forbidden(&at_config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// Addresses and families as a client may ask for them.
pub(super) fn cluster_ips(spec: &Members, old: Option<&Members>, wrong: &mut Wrong) {
    if string_at(spec, &["type"]) == "ExternalName" {
        return;
    }
    let path = Path::new("spec.clusterIPs");
    let (single, list) = (string_at(spec, &["clusterIP"]), list_at(spec, &["clusterIPs"]));
    let printed = || Value::Array(list.to_vec());
    let first = list.first().and_then(Value::as_str);
    match (single.is_empty(), first) {
        (false, None) => wrong.required(&path, ""),
        (false, Some(first)) if first != single => {
            wrong.invalid_value(&path, &printed(), "first value must match `clusterIP`");
        }
        (true, Some(_)) => wrong.invalid_value(&path, &printed(), "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for (index, family) in list_at(spec, &["ipFamilies"]).iter().enumerate() {
        let (at, family) = (Path::new("spec.ipFamilies").index(index), family.as_str().unwrap_or_default());
        if !matches!(family, "IPv4" | "IPv6") {
            wrong.not_supported(&at, family, &["IPv4", "IPv6"]);
        }
        if !seen.insert(family) {
            wrong.duplicate(&at, family);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if let Some(policy) = spec.get("ipFamilyPolicy").and_then(Value::as_str)
        && !policies.contains(&policy)
    {
        wrong.not_supported(&Path::new("spec.ipFamilyPolicy"), policy, &policies);
    }
    let before = wrong.len();
    for (index, address) in list.iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        if index == 0 && address == "None" {
            if list.len() > 1 {
                wrong.invalid_value(&path, &printed(), "'None' must be the first and only value");
            }
            continue;
        }
        // Compat: what the service has is not judged again.
        if !old.is_some_and(|old| list_at(old, &["clusterIPs"]).iter().any(|there| there == address)) {
            formats::ip(&path.index(index), address, wrong);
        }
    }
    let malformed = wrong.len() > before;
    if list.len() > 2 {
        wrong.invalid_value(&path, &printed(), "may only hold up to 2 values");
    }
    if malformed {
        return;
    }
    let read: Vec<IpAddr> = list.iter().filter_map(Value::as_str).filter_map(formats::sloppy_ip).collect();
    if list.len() > 1 && !(read.iter().any(IpAddr::is_ipv4) && read.iter().any(IpAddr::is_ipv6)) {
        wrong.invalid_value(&path, &printed(), "may specify no more than one IP for each IP family");
    }
    if !is_headless(spec) {
        for (index, (address, family)) in list.iter().zip(list_at(spec, &["ipFamilies"])).enumerate() {
            let text = address.as_str().unwrap_or_default();
            let Some(read) = formats::sloppy_ip(text) else { continue };
            let wanted = family.as_str().unwrap_or_default();
            if (wanted == "IPv4" && read.is_ipv6()) || (wanted == "IPv6" && read.is_ipv4()) {
                let why = format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`");
                wrong.invalid(&path.index(index), text, why);
            }
        }
    }
}

fn port_numbers(kind: &str, ports: &[Value], path: &Path, wrong: &mut Wrong) {
    let number = |port: &Value, name: &str| port.get(name).and_then(Value::as_i64).unwrap_or(0);
    if kind == "ClusterIP" {
        for (index, _) in ports.iter().enumerate().filter(|(_, port)| number(port, "nodePort") != 0) {
            wrong.forbidden(&path.index(index).child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let node_port = number(port, "nodePort");
        if node_port != 0 && !seen.insert((string(port, "protocol"), node_port)) {
            wrong.duplicate_value(&path.index(index).child("nodePort"), &json!(node_port));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, port) = (string(port, "protocol"), number(port, "port"));
        if !seen.insert((protocol, port)) {
            // Compat: the internal type is printed, with nothing but protocol and port.
            let printed = json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": port, "TargetPort": 0, "NodePort": 0});
            wrong.duplicate_value(&path.index(index), &printed);
        }
    }
}

fn source_ranges(new: &Members, old: Option<&Members>, kind: &str, wrong: &mut Wrong) {
    let ranges = list_at(new, &[SPEC, "loadBalancerSourceRanges"]);
    if !ranges.is_empty() {
        // Compat: the path begins with a capital upstream.
        let path = Path::new("spec.LoadBalancerSourceRanges");
        if kind != "LoadBalancer" {
            wrong.forbidden(&path, BALANCED_ONLY);
        }
        for (index, range) in ranges.iter().enumerate() {
            formats::cidr(&path.index(index), range.as_str().unwrap_or_default().trim(), wrong);
        }
        return;
    }
    let annotation = |object: &Members| {
        at(object, &["metadata", "annotations", SOURCE_RANGES]).and_then(Value::as_str).map(str::to_owned)
    };
    let Some(text) = annotation(new) else { return };
    let path = Path::new("metadata.annotations").key(SOURCE_RANGES);
    if kind != "LoadBalancer" {
        wrong.forbidden(&path, BALANCED_ONLY);
    }
    if old.and_then(annotation).as_ref() != Some(&text) && !text.trim().is_empty() {
        for range in text.trim().split(',') {
            formats::cidr(&path, range.trim(), wrong);
        }
    }
}

fn balancer_class(spec: &Members, before: Option<&Members>, wrong: &mut Wrong) {
    let path = Path::new("spec.loadBalancerClass");
    let balanced = |spec: &Members| string_at(spec, &["type"]) == "LoadBalancer";
    let class = at(spec, &["loadBalancerClass"]).and_then(Value::as_str);
    if let Some(before) = before
        && balanced(before)
        && balanced(spec)
        && at(before, &["loadBalancerClass"]).and_then(Value::as_str) != class
    {
        wrong.invalid_value(&path, &class.map_or(Value::Null, Value::from), "may not change once set");
    }
    match class {
        Some(class) if balanced(spec) => wrong.each(&path, class, names::label_key(class)),
        Some(_) => wrong.forbidden(&path, BALANCED_ONLY),
        None => {}
    }
}

fn traffic(spec: &Members, path: &Path, wrong: &mut Wrong) {
    let external = string_at(spec, &["externalTrafficPolicy"]);
    let at_external = path.child("externalTrafficPolicy");
    if externally_accessible(spec) {
        wrong.required_one_of(&at_external, external, &["Cluster", "Local"]);
    } else if !external.is_empty() {
        wrong.invalid(&at_external, external, "may only be set for externally-accessible services");
    }
    let port = at(spec, &["healthCheckNodePort"]).and_then(Value::as_i64).unwrap_or(0);
    let at_port = path.child("healthCheckNodePort");
    match (needs_health_check(spec), port) {
        (false, 0) => {}
        (false, port) => wrong.push(FieldError::invalid_json(
            &at_port,
            &port,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        )),
        (true, 0) => wrong.required(&at_port, ""),
        (true, port) => wrong.each_number(&at_port, port, formats::port_number(port)),
    }
    let (kind, internal) = (string_at(spec, &["type"]), spec.get("internalTrafficPolicy").and_then(Value::as_str));
    match internal {
        None if matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") => {
            wrong.required(&path.child("internalTrafficPolicy"), "");
        }
        None | Some("Cluster" | "Local") => {}
        Some(odd) => wrong.not_supported(&path.child("internalTrafficPolicy"), odd, &["Cluster", "Local"]),
    }
    let distribution = string_at(spec, &["trafficDistribution"]);
    if at(spec, &["trafficDistribution"]).is_some() && ![CLOSE, ZONE, "PreferSameNode"].contains(&distribution) {
        wrong.not_supported_text(&path.child("trafficDistribution"), distribution, &[CLOSE, ZONE, "PreferSameNode"]);
    }
}

/// Once given, addresses and families stay.
fn addresses_stay(spec: &Members, before: &Members, wrong: &mut Wrong) {
    let external = |spec: &Members| string_at(spec, &["type"]) == "ExternalName";
    if external(spec) || external(before) || (is_headless(spec) && is_headless(before)) {
        return;
    }
    let fixed = "may not change once set";
    let (new, old) = (list_at(spec, &["clusterIPs"]), list_at(before, &["clusterIPs"]));
    let path = Path::new("spec.clusterIPs");
    let printed = Value::Array(new.to_vec());
    if new.is_empty() && !old.is_empty() {
        wrong.invalid_value(&path.index(0), &printed, "primary clusterIP can not be unset");
    } else if new.len() == old.len() {
        for (index, _) in new.iter().zip(old).enumerate().filter(|(_, (new, old))| new != old) {
            wrong.invalid_value(&path.index(index), &printed, fixed);
        }
    } else if !old.is_empty() && new.first() != old.first() {
        wrong.invalid_value(&path.index(0), &printed, fixed);
    }
    if is_headless(spec) != is_headless(before) {
        return;
    }
    let (families, before) = (list_at(spec, &["ipFamilies"]), list_at(before, &["ipFamilies"]));
    let path = Path::new("spec.ipFamilies").index(0);
    if families.len() == before.len() {
        for _ in families.iter().zip(before).filter(|(new, old)| new != old) {
            wrong.invalid_value(&path, &Value::Array(families.to_vec()), fixed);
        }
    } else if !families.is_empty() && !before.is_empty() && families.first() != before.first() {
        wrong.invalid_value(&path, &printed, fixed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service_of(spec: Value) -> Members {
        let mut service = json!({"metadata": {"name": "s", "namespace": "d", "resourceVersion": "1"}, "spec": spec})
            .as_object()
            .unwrap()
            .clone();
        super::super::fill(&mut service);
        service
    }

    fn problems(spec: Value) -> Vec<String> {
        let mut wrong = Wrong::default();
        create(&service_of(spec), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn common_mistakes_read_as_upstream_words_them() {
        for (spec, want) in [
            (json!({"ports": [{"port": 80}]}), vec![]),
            (json!({}), vec!["spec.ports: Required value"]),
            (
                json!({"ports": [{"port": 0, "targetPort": 80}]}),
                vec!["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
            ),
            (
                json!({"ports": [{"port": 80}, {"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}),
                vec![
                    "spec.ports[0].name: Required value",
                    "spec.ports[2].name: Duplicate value: \"a\"",
                    "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
                ],
            ),
            (
                json!({"type": "Odd", "ports": [{"port": 80, "protocol": "tcp"}]}),
                vec![
                    "spec.ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                    "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                ],
            ),
            (
                json!({"ports": [{"port": 80, "nodePort": 30_000}]}),
                vec!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            ),
            (json!({"type": "ExternalName"}), vec!["spec.externalName: Required value"]),
            (
                json!({"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 1}]}),
                vec!["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
            ),
            (
                json!({"ports": [{"port": 1}], "loadBalancerClass": "x", "externalTrafficPolicy": "Local", "sessionAffinity": "Odd"}),
                vec![
                    "spec.sessionAffinity: Unsupported value: \"Odd\": supported values: \"ClientIP\", \"None\"",
                    "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                ],
            ),
            (
                json!({"ports": [{"port": 1}], "clusterIP": "x", "clusterIPs": ["x"], "externalIPs": ["127.0.0.1"]}),
                vec![
                    "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                    "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ],
            ),
        ] {
            assert_eq!(problems(spec.clone()), want, "{spec}");
        }
    }

    #[test]
    fn a_given_address_stays() {
        let of =
            |address: &str| service_of(json!({"ports": [{"port": 1}], "clusterIP": address, "clusterIPs": [address]}));
        let mut wrong = Wrong::default();
        update(&of("10.96.0.6"), &of("10.96.0.5"), &mut wrong);
        let texts: Vec<String> = wrong.finish().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.6\"]: may not change once set"]);
    }

    #[test]
    fn a_balancers_status_is_for_balanced_services() {
        let mut new = service_of(json!({"ports": [{"port": 1}]}));
        new.insert("status".to_owned(), json!({"loadBalancer": {"ingress": [{"ip": "x"}]}}));
        let mut wrong = Wrong::default();
        status(&new, &new, &mut wrong);
        assert!(wrong.finish()[0].to_string().contains("may only be used when `spec.type`"));
        new["spec"]["type"] = json!("LoadBalancer");
        let mut wrong = Wrong::default();
        status(&new, &new, &mut wrong);
        assert_eq!(wrong.finish().len(), 2);
    }
}
