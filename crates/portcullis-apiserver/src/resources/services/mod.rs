//! Services: what is filled in, what an update takes along, and warnings. Addresses and node ports are given in `allocate`.
//!
//! Compat: `pkg/registry/core/service` of Kubernetes 1.37, for a cluster with IPv4 only.

pub(crate) mod allocate;
mod validate;

pub(crate) use self::validate::balancer_status;

use serde_json::{Value, json};

use super::SelectableFields;
use super::check::Path;
use super::check::formats::{cidr_warnings, ip_warning};
use super::rules::Rules;
use super::tree::{Members, at, default, list_at, members_at, object, objects_mut, string_at, take_over, text};

pub(crate) const RULES: Rules = Rules {
    create_on_update: true,
    returns_deleted: true,
    prepare_create: |members| drop(members.shift_remove("status")),
    prepare_update,
    validate: validate::create,
    validate_update: validate::update,
    validate_status: validate::status,
    warnings,
    ..Rules::NAMESPACED
};
pub(crate) const SELECTABLE: &[&str] = &["spec.clusterIP", "spec.type"];
const SPEC: &str = "spec";
const CLOSE: &str = "PreferClose";
const ZONE: &str = "PreferSameZone";

pub(crate) fn selectable(members: &Members) -> SelectableFields {
    vec![("spec.clusterIP", text(members, &[SPEC, "clusterIP"])), ("spec.type", text(members, &[SPEC, "type"]))]
}

/// Fills in what a body leaves out.
pub(crate) fn fill(members: &mut Members) {
    let spec = object(members, SPEC);
    default(spec, "sessionAffinity", "None");
    match string_at(spec, &["sessionAffinity"]) {
        "None" => drop(spec.shift_remove("sessionAffinityConfig")),
        "ClientIP" if at(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).is_none() => {
            spec.insert("sessionAffinityConfig".to_owned(), json!({"clientIP": {"timeoutSeconds": 10_800}}));
        }
        _ => {}
    }
    default(spec, "type", "ClusterIP");
    for port in objects_mut(spec, "ports") {
        default(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|target| target.is_null() || target.as_i64() == Some(0) || target.as_str() == Some("")) {
            let number = port.get("port").cloned().unwrap_or_else(|| json!(0));
            port.insert("targetPort".to_owned(), number);
        }
    }
    if externally_accessible(spec) {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    let kind = string_at(spec, &["type"]).to_owned();
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        spec.entry("internalTrafficPolicy").or_insert_with(|| "Cluster".into());
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
        let balancer = object(object(members, "status"), "loadBalancer");
        for entry in objects_mut(balancer, "ingress") {
            if !string_at(entry, &["ip"]).is_empty() {
                default(entry, "ipMode", "VIP");
            }
        }
    }
}

/// Whether something outside of the cluster can reach it.
fn externally_accessible(spec: &Members) -> bool {
    match string_at(spec, &["type"]) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list_at(spec, &["externalIPs"]).is_empty(),
        _ => false,
    }
}

/// Whether the load balancer asks a port of its own about the service's health.
fn needs_health_check(spec: &Members) -> bool {
    string_at(spec, &["type"]) == "LoadBalancer" && string_at(spec, &["externalTrafficPolicy"]) == "Local"
}

fn is_headless(spec: &Members) -> bool {
    list_at(spec, &["clusterIPs"]).first().and_then(Value::as_str) == Some("None")
}

fn needs_cluster_ip(spec: &Members) -> bool {
    string_at(spec, &["type"]) != "ExternalName"
}

fn has_node_ports(spec: &Members) -> bool {
    matches!(string_at(spec, &["type"]), "NodePort" | "LoadBalancer")
}

fn node_ports(spec: &Members) -> Vec<i64> {
    let ports = list_at(spec, &["ports"]).iter();
    ports.filter_map(|port| port.get("nodePort").and_then(Value::as_i64)).filter(|port| *port != 0).collect()
}

/// Takes out of the new state what belonged to the old type and was merely sent along.
fn prepare_update(new: &mut Members, old: &Members) {
    take_over(new, old, &["status"]);
    let old_spec = members_at(old, &[SPEC]);
    let spec = object(new, SPEC);
    let same = |spec: &Members, name: &str| spec.get(name) == old_spec.get(name);
    let drop = |spec: &mut Members, names: &[&str]| {
        for name in names {
            spec.shift_remove(*name);
        }
    };
    if needs_cluster_ip(old_spec) && !needs_cluster_ip(spec) {
        if same(spec, "clusterIP") && same(spec, "clusterIPs") {
            drop(spec, &["clusterIP", "clusterIPs"]);
        }
        for name in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if same(spec, name) {
                drop(spec, &[name]);
            }
        }
    }
    if has_node_ports(old_spec) && !has_node_ports(spec) {
        let before = node_ports(old_spec);
        if node_ports(spec).iter().all(|port| before.contains(port)) {
            objects_mut(spec, "ports").for_each(|port| std::mem::drop(port.shift_remove("nodePort")));
        }
    }
    if needs_health_check(old_spec) && !needs_health_check(spec) && same(spec, "healthCheckNodePort") {
        drop(spec, &["healthCheckNodePort"]);
    }
    let balanced = |spec: &Members| string_at(spec, &["type"]) == "LoadBalancer";
    if balanced(old_spec) && !balanced(spec) {
        for name in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(spec, name) {
                drop(spec, &[name]);
            }
        }
    }
    if externally_accessible(old_spec) && !externally_accessible(spec) && same(spec, "externalTrafficPolicy") {
        drop(spec, &["externalTrafficPolicy"]);
    }
    if !balanced(spec) {
        object(new, "status").shift_remove("loadBalancer");
    }
}

fn warnings(new: &Members, _: Option<&Members>) -> Vec<String> {
    let spec = members_at(new, &[SPEC]);
    let path = Path::new(SPEC);
    let mut out = Vec::new();
    if members_at(new, &["metadata", "annotations"]).contains_key(validate::HINTS) {
        out.push(format!("annotation {} is deprecated, please use {} instead", validate::HINTS, validate::MODE));
    }
    let (kind, external) = (string_at(spec, &["type"]), list_at(spec, &["externalIPs"]));
    let addresses = |out: &mut Vec<String>, name: &str| {
        for (index, address) in list_at(spec, &[name]).iter().enumerate() {
            out.extend(ip_warning(&path.child(name).index(index), address.as_str().unwrap_or_default()));
        }
    };
    if kind != "ExternalName" && !is_headless(spec) {
        addresses(&mut out, "clusterIPs");
    }
    let headless = is_headless(spec) && kind == "ClusterIP";
    if headless {
        if !string_at(spec, &["loadBalancerIP"]).is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !external.is_empty() {
            out.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if string_at(spec, &["sessionAffinity"]) != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    addresses(&mut out, "externalIPs");
    if !external.is_empty() && !headless && kind != "ExternalName" {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    out.extend(ip_warning(&path.child("loadBalancerIP"), string_at(spec, &["loadBalancerIP"])));
    for (index, block) in list_at(spec, &["loadBalancerSourceRanges"]).iter().enumerate() {
        let at = path.child("loadBalancerSourceRanges").index(index);
        out.extend(cidr_warnings(&at, block.as_str().unwrap_or_default()));
    }
    if kind == "ExternalName" && !external.is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if kind != "ExternalName" && !string_at(spec, &["externalName"]).is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if string_at(spec, &["trafficDistribution"]) == CLOSE {
        out.push(format!("spec.trafficDistribution: \"{CLOSE}\" is deprecated; use \"{ZONE}\""));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: Value) -> Members {
        json!({"metadata": {"name": "s"}, "spec": spec}).as_object().unwrap().clone()
    }

    #[test]
    fn a_service_gets_what_the_real_server_fills_in() {
        let mut plain = service(json!({"ports": [{"port": 80}, {"port": 81, "targetPort": "web", "protocol": "UDP"}]}));
        fill(&mut plain);
        assert_eq!(
            plain["spec"],
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "targetPort": "web", "protocol": "UDP"}],
                "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster"})
        );
        let mut balanced = service(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"}));
        fill(&mut balanced);
        assert_eq!(balanced["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
        assert_eq!(balanced["spec"]["allocateLoadBalancerNodePorts"], true);
        assert_eq!(balanced["spec"]["externalTrafficPolicy"], "Cluster");
        let mut named = service(json!({"type": "ExternalName", "externalName": "a.b"}));
        fill(&mut named);
        assert_eq!(named["spec"].get("internalTrafficPolicy"), None);
    }

    #[test]
    fn what_belonged_to_the_old_type_goes_with_it() {
        let old = service(
            json!({"type": "NodePort", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30080}]}),
        );
        let mut new = old.clone();
        new["spec"]["type"] = json!("ExternalName");
        prepare_update(&mut new, &old);
        assert_eq!(new["spec"], json!({"type": "ExternalName", "ports": [{"port": 80}]}));
        let mut new = old.clone();
        new["spec"]["type"] = json!("ClusterIP");
        new["spec"]["ports"][0]["nodePort"] = json!(30_081);
        prepare_update(&mut new, &old);
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30_081, "a port of its own is not taken out");
    }

    #[test]
    fn what_is_ignored_or_old_is_warned_about() {
        let headless = service(
            json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "ClientIP",
            "externalIPs": ["1.2.3.4"], "trafficDistribution": "PreferClose", "externalName": "a"}),
        );
        assert_eq!(
            warnings(&headless, None),
            [
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
            ]
        );
    }
}
