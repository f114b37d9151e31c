//! Tables of services, what is behind them and what leads to them.

use std::collections::BTreeSet;

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Column, NAME, created, list, name, pairs, shown, string, wide};
use crate::resources::at;
use crate::resources::check::labels;

/// Entries that a cell shows before it only counts.
const SHOWN: usize = 3;

pub(super) const SERVICE: &[Column] = &[
    NAME,
    shown("Type", "How the service can be reached."),
    shown("Cluster-IP", "Its address inside the cluster."),
    shown("External-IP", "Its addresses outside of the cluster."),
    shown("Port(s)", "Its ports, and those of the nodes that lead to them."),
    AGE,
    wide("Selector", "Which pods are behind it."),
];
pub(super) const ENDPOINTS: &[Column] = &[NAME, shown("Endpoints", "Addresses and ports behind the service."), AGE];
pub(super) const SLICE: &[Column] = &[
    NAME,
    shown("AddressType", "Whether they are IPv4 or IPv6 addresses, or names."),
    shown("Ports", "Ports of the endpoints."),
    shown("Endpoints", "Addresses of the endpoints."),
    AGE,
];
pub(super) const INGRESS: &[Column] = &[
    NAME,
    shown("Class", "Which controller serves it."),
    shown("Hosts", "Host names that it is for."),
    shown("Address", "Where it can be reached."),
    shown("Ports", "Ports that it opens."),
    AGE,
];
pub(super) const INGRESS_CLASS: &[Column] = &[
    NAME,
    shown("Controller", "The controller that serves ingresses of this class."),
    shown("Parameters", "The object with the controller's settings."),
    AGE,
];
pub(super) const POLICY: &[Column] = &[NAME, shown("Pod-Selector", "Which pods it is about."), AGE];

pub(super) fn service(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let first = list(tree, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or("<none>");
    let ports: Vec<String> = list(tree, &["spec", "ports"]).iter().map(port).collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    vec![
        name(tree),
        Value::from(string(tree, &["spec", "type"])),
        Value::from(first),
        Value::from(external(tree)),
        Value::from(ports),
        created(tree, now),
        Value::from(pairs(tree, &["spec", "selector"])),
    ]
}

fn port(port: &Value) -> String {
    let (number, node) = (integer(port, "port"), integer(port, "nodePort"));
    let protocol = member(port, "protocol");
    if node > 0 { format!("{number}:{node}/{protocol}") } else { format!("{number}/{protocol}") }
}

fn external(tree: &Map<String, Value>) -> String {
    let own: Vec<&str> = list(tree, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    match string(tree, &["spec", "type"]) {
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => own.join(","),
        "LoadBalancer" => {
            let balanced = balancer(tree);
            let all: Vec<&str> = balanced.iter().map(String::as_str).chain(own).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => string(tree, &["spec", "externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// Addresses or names of the load balancer, in order.
fn balancer(tree: &Map<String, Value>) -> BTreeSet<String> {
    let entries = list(tree, &["status", "loadBalancer", "ingress"]).iter();
    let found = entries
        .map(|entry| if member(entry, "ip").is_empty() { member(entry, "hostname") } else { member(entry, "ip") });
    found.filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

pub(super) fn endpoints(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    vec![name(tree), Value::from(addresses(tree)), created(tree, now)]
}

/// Compat: upstream counts on after it has stopped listing, but by whole groups of addresses.
fn addresses(tree: &Map<String, Value>) -> String {
    let subsets = list(tree, &["subsets"]);
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let (mut shown, mut count) = (Vec::new(), 0_usize);
    for subset in subsets {
        let part = |name: &str| subset.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let addresses = part("addresses");
        let ports: Vec<Option<i64>> = match part("ports") {
            [] => vec![None],
            ports => ports.iter().map(|port| Some(integer(port, "port"))).collect(),
        };
        for port in ports {
            count += addresses.len();
            for address in addresses {
                let ip = member(address, "ip");
                shown.push(match port {
                    None => ip.to_owned(),
                    Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
                    Some(port) => format!("{ip}:{port}"),
                });
            }
        }
    }
    shorten(&shown, count)
}

pub(super) fn slice(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(tree, &["ports"])
        .iter()
        .map(|port| match (port.get("port").and_then(Value::as_i64), port.get("name").and_then(Value::as_str)) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> = list(tree, &["endpoints"])
        .iter()
        .filter_map(|endpoint| endpoint.get("addresses").and_then(Value::as_array))
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let or_unset = |entries: &[String]| match shorten(entries, entries.len()) {
        text if text.is_empty() => "<unset>".to_owned(),
        text => text,
    };
    vec![
        name(tree),
        Value::from(string(tree, &["addressType"])),
        Value::from(or_unset(&ports)),
        Value::from(or_unset(&addresses)),
        created(tree, now),
    ]
}

fn shorten(entries: &[String], count: usize) -> String {
    let first = entries.get(..SHOWN).unwrap_or(entries).join(",");
    match entries.len() > SHOWN {
        true => format!("{first} + {} more...", count - SHOWN),
        false => first,
    }
}

pub(super) fn ingress(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let class = at(tree, &["spec", "ingressClassName"]).and_then(Value::as_str).unwrap_or("<none>");
    let address: Vec<String> = balancer(tree).into_iter().collect();
    let ports = if list(tree, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        name(tree),
        Value::from(class),
        Value::from(hosts(list(tree, &["spec", "rules"]))),
        Value::from(address.join(",")),
        Value::from(ports),
        created(tree, now),
    ]
}

/// Compat: rules without a host are not listed, but are counted once the cell is full.
fn hosts(rules: &[Value]) -> String {
    let (mut hosts, mut more) = (Vec::new(), false);
    for rule in rules {
        more |= hosts.len() == SHOWN;
        let host = member(rule, "host");
        if !more && !host.is_empty() {
            hosts.push(host);
        }
    }
    match (hosts.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, true) => format!("{} + {} more...", hosts.join(","), rules.len().saturating_sub(SHOWN)),
        (false, false) => hosts.join(","),
    }
}

pub(super) fn ingress_class(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let default = string(tree, &["metadata", "annotations", "ingressclass.kubernetes.io/is-default-class"]) == "true";
    let shown = string(tree, &["metadata", "name"]);
    let shown = if default { format!("{shown} (default)") } else { shown.to_owned() };
    let parameters = match at(tree, &["spec", "parameters"]).filter(|value| value.is_object()) {
        None => "<none>".to_owned(),
        Some(parameters) => {
            let group = parameters
                .get("apiGroup")
                .and_then(Value::as_str)
                .map_or_else(String::new, |group| format!(".{group}"));
            format!("{}{group}/{}", member(parameters, "kind"), member(parameters, "name"))
        }
    };
    vec![
        Value::from(shown),
        Value::from(string(tree, &["spec", "controller"])),
        Value::from(parameters),
        created(tree, now),
    ]
}

pub(super) fn policy(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let selector = labels::format(at(tree, &["spec", "podSelector"]).unwrap_or(&Value::Null));
    vec![name(tree), Value::from(selector), created(tree, now)]
}

fn member<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn integer(value: &Value, name: &str) -> i64 {
    value.get(name).and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(60);

    fn tree(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_service_shows_its_addresses_and_ports() {
        let cells = |spec: Value, status: Value| {
            service(&tree(json!({"metadata": {"name": "s"}, "spec": spec, "status": status})), NOW)
        };
        let plain = cells(
            json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"b": "2", "a": "1"}}),
            json!({}),
        );
        assert_eq!(plain[1..5], [json!("ClusterIP"), json!("10.96.0.9"), json!("<none>"), json!("80/TCP")]);
        assert_eq!(plain[6], "a=1,b=2");
        let balanced = cells(
            json!({"type": "LoadBalancer", "externalIPs": ["9.9.9.9"], "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}]}),
            json!({"loadBalancer": {"ingress": [{"hostname": "b"}, {"ip": "1.1.1.1"}]}}),
        );
        assert_eq!(balanced[2..5], [json!("<none>"), json!("1.1.1.1,b,9.9.9.9"), json!("80:30000/TCP")]);
        assert_eq!(cells(json!({"type": "LoadBalancer"}), json!({}))[3], "<pending>");
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let addresses: Vec<Value> = (1..=5).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
        let cells = endpoints(&tree(json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]})), NOW);
        assert_eq!(cells[1], "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...");
        let rules: Vec<Value> = ["a", "b", "c", "d"].iter().map(|host| json!({"host": host})).collect();
        assert_eq!(
            (hosts(&rules), hosts(&rules[..3]), hosts(&[])),
            ("a,b,c + 1 more...".to_owned(), "a,b,c".to_owned(), "*".to_owned())
        );
    }

    #[test]
    fn a_slice_without_ports_says_so() {
        let cells =
            slice(&tree(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}], "ports": []})), NOW);
        assert_eq!(cells[1..4], [json!("IPv4"), json!("<unset>"), json!("1.2.3.4")]);
    }
}
