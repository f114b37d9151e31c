//! Cluster addresses and node ports: given from their ranges, or checked when a client asks for one.
//!
//! What is taken is read off the services in the store each time, so that nothing can be lost or kept by mistake. The caller
//! holds a lock from here until the service is stored.
//!
//! Compat: `pkg/registry/core/service/storage/alloc.go`; the lower parts of both ranges are left to those who ask for an
//! address or port of their own.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use portcullis_kube::Status;
use portcullis_kube::field::FieldError;
use portcullis_runtime::Rng;
use serde_json::{Value, json};

use super::super::check::{Path, Wrong, formats};
use super::super::tree::{Members, at, flag_at, list_at, members_at, object, objects_mut, string_at};
use super::validate::cluster_ips;
use super::{SPEC, has_node_ports, needs_cluster_ip, needs_health_check, node_ports};
use crate::http::Outcome;
use crate::store::Store;

/// The first address of the range, which is kubeadm's default.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
/// Bits of its prefix.
const BITS: u8 = 12;
const SIZE: u32 = 1 << (32 - BITS as u32);
/// Addresses at the beginning that are given only when asked for.
const STATIC: u32 = 256;
const PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;
const STATIC_PORTS: u32 = 86;
/// The address of the service `kubernetes`.
pub(crate) const KUBERNETES: &str = "10.96.0.1";

const TAKEN: &str = "provided IP is already allocated";
const OUTSIDE: &str = "the provided network does not match the current range";
const PORT_TAKEN: &str = "provided port is already allocated";
const PORT_OUTSIDE: &str = "provided port is not in the valid range. The range of valid ports is 30000-32767";

/// What services have.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    addresses: HashSet<u32>,
    ports: HashSet<i64>,
    /// The ports of a request that is only tried.
    tried: Option<Vec<i64>>,
}

impl Taken {
    /// Reads it off the store.
    pub(crate) fn of(store: &Store) -> Self {
        let mut taken = Self::default();
        for service in store.all(crate::resources::services(), "") {
            if let Ok(address) = service.field("spec.clusterIP").parse::<Ipv4Addr>() {
                taken.addresses.insert(address.into());
            }
            // Only these types have ports to look for.
            if matches!(service.field("spec.type"), "NodePort" | "LoadBalancer") {
                let members = service.members();
                let spec = members_at(&members, &[SPEC]);
                taken.ports.extend(node_ports(spec));
                taken
                    .ports
                    .extend(at(spec, &["healthCheckNodePort"]).and_then(Value::as_i64).filter(|port| *port != 0));
            }
        }
        taken
    }

    /// For a request that has no effect.
    ///
    /// Compat: it gets an address and ports that nobody ever gets, and of an address that it asks for nobody looks whether it
    /// is free.
    pub(crate) fn only_tried(mut self, tried: bool) -> Self {
        self.tried = tried.then(Vec::new);
        self
    }

    fn address(&mut self, rng: &Rng) -> Option<Ipv4Addr> {
        if self.tried.is_some() {
            return Some(FIRST);
        }
        let base = u32::from(FIRST);
        let span = SIZE - STATIC - 1;
        let start = rng.below(span);
        let offset = (0..span)
            .map(|step| STATIC + (start + step) % span)
            .find(|offset| !self.addresses.contains(&(base + offset)))?;
        self.addresses.insert(base + offset);
        Some((base + offset).into())
    }

    fn port(&mut self, rng: &Rng) -> Option<i64> {
        if let Some(tried) = &mut self.tried {
            let port = tried.iter().copied().max().unwrap_or(PORTS.end() + 1) + 1;
            tried.push(port);
            return Some(port);
        }
        let span = u32::try_from(PORTS.end() - PORTS.start() + 1).unwrap_or(0) - STATIC_PORTS;
        let start = rng.below(span);
        let first = PORTS.start() + i64::from(STATIC_PORTS);
        let port =
            (0..span).map(|step| first + i64::from((start + step) % span)).find(|port| !self.ports.contains(port))?;
        self.ports.insert(port);
        Some(port)
    }

    fn claim_address(&mut self, address: Ipv4Addr) -> Result<(), String> {
        let offset = u32::from(address).wrapping_sub(u32::from(FIRST));
        if offset >= SIZE {
            return Err(OUTSIDE.to_owned());
        }
        if offset == 0 || offset == SIZE - 1 {
            return Err(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {FIRST}/{BITS}"
            ));
        }
        if self.tried.is_some() || self.addresses.insert(address.into()) { Ok(()) } else { Err(TAKEN.to_owned()) }
    }

    fn claim_port(&mut self, port: i64) -> Result<(), &'static str> {
        if let Some(tried) = &mut self.tried {
            if self.ports.contains(&port) || tried.contains(&port) {
                return Err(PORT_TAKEN);
            }
            tried.push(port);
            return Ok(());
        }
        if !PORTS.contains(&port) {
            return Err(PORT_OUTSIDE);
        }
        if self.ports.insert(port) { Ok(()) } else { Err(PORT_TAKEN) }
    }
}

/// Gives a new service its address and ports.
pub(crate) fn create(members: &mut Members, taken: &mut Taken, rng: &Rng) -> Outcome<()> {
    let name = string_at(members, &["metadata", "name"]).to_owned();
    let spec = object(members, SPEC);
    let single = string_at(spec, &["clusterIP"]).to_owned();
    if !single.is_empty() && list_at(spec, &["clusterIPs"]).is_empty() {
        spec.insert("clusterIPs".to_owned(), json!([single]));
    }
    families(spec, None, &name)?;
    addresses(spec, taken, rng, &name)?;
    if has_node_ports(spec) {
        new_ports(spec, taken, rng, &name)?;
    }
    health_port(spec, None, taken, rng)
}

/// Takes along what the service has, and gives what its new state needs.
pub(crate) fn update(members: &mut Members, old: &Members, taken: &mut Taken, rng: &Rng) -> Outcome<()> {
    let name = string_at(members, &["metadata", "name"]).to_owned();
    let before = members_at(old, &[SPEC]);
    let spec = object(members, SPEC);
    take_along(spec, before);
    families(spec, Some(before), &name)?;
    if !needs_cluster_ip(before) && needs_cluster_ip(spec) {
        addresses(spec, taken, rng, &name)?;
    }
    if has_node_ports(spec) {
        changed_ports(spec, &node_ports(before), taken, rng, &name)?;
    }
    health_port(spec, Some(before), taken, rng)
}

/// What a client that does not know of it would otherwise take away.
fn take_along(spec: &mut Members, before: &Members) {
    let missing = |spec: &Members, name: &str| match spec.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    };
    let keep = |spec: &mut Members, name: &str| {
        if missing(spec, name)
            && let Some(value) = before.get(name)
        {
            spec.insert(name.to_owned(), value.clone());
        }
    };
    if needs_cluster_ip(before) && needs_cluster_ip(spec) {
        keep(spec, "clusterIP");
        keep(spec, "clusterIPs");
    }
    let wants_ports = |spec: &Members| match string_at(spec, &["type"]) {
        "NodePort" => true,
        "LoadBalancer" => spec.get("allocateLoadBalancerNodePorts").and_then(Value::as_bool).unwrap_or(true),
        _ => false,
    };
    if wants_ports(before) && wants_ports(spec) {
        let (old_ports, new_ports) = (node_ports(before), node_ports(spec));
        for port in objects_mut(spec, "ports") {
            let port_name = string_at(port, &["name"]).to_owned();
            let same_name = |old: &&Value| old.get("name").and_then(Value::as_str).unwrap_or_default() == port_name;
            let of_old = list_at(before, &["ports"]).iter().rev().find(same_name);
            let of_old = of_old.and_then(|old| old.get("nodePort")).and_then(Value::as_i64).unwrap_or(0);
            let used = old_ports.contains(&of_old) && new_ports.contains(&of_old);
            if missing(port, "nodePort") && of_old != 0 && !used {
                port.insert("nodePort".to_owned(), json!(of_old));
            }
        }
    }
    if needs_health_check(before) && needs_health_check(spec) {
        keep(spec, "healthCheckNodePort");
    }
    let (old_single, single) = (string_at(before, &["clusterIP"]), string_at(spec, &["clusterIP"]).to_owned());
    let same_list = list_at(before, &["clusterIPs"]) == list_at(spec, &["clusterIPs"]);
    if old_single != single && same_list {
        if single.is_empty() {
            spec.shift_remove("clusterIPs");
        } else {
            spec.insert("clusterIPs".to_owned(), json!([single]));
        }
    }
}

fn invalid(name: &str, errors: &[FieldError]) -> Box<Status> {
    Box::new(Status::invalid("", "Service", name, errors))
}

/// Sets families and policy, for a cluster that has IPv4.
fn families(spec: &mut Members, before: Option<&Members>, name: &str) -> Outcome<()> {
    if !needs_cluster_ip(spec) {
        return Ok(());
    }
    let bare = string_at(spec, &["clusterIP"]) == "None" && members_at(spec, &["selector"]).is_empty();
    if !spec.contains_key("ipFamilyPolicy") {
        let kept = before.map(|before| string_at(before, &["ipFamilyPolicy"])).filter(|policy| !policy.is_empty());
        let policy = kept.unwrap_or(if bare { "RequireDualStack" } else { "SingleStack" });
        spec.insert("ipFamilyPolicy".to_owned(), json!(policy));
    }
    let mut wrong = Wrong::default();
    cluster_ips(spec, before, &mut wrong);
    if !wrong.is_empty() {
        return Err(invalid(name, &wrong.finish()));
    }
    let policy = string_at(spec, &["ipFamilyPolicy"]).to_owned();
    let at_policy = Path::new("spec.ipFamilyPolicy");
    let mut refuse = |path: &Path, value: &Value, why: &str| wrong.invalid_value(path, value, why);
    let mut list: Vec<Value> = list_at(spec, &["ipFamilies"]).to_vec();
    let asked = list_at(spec, &["clusterIPs"]).to_vec();
    if policy == "SingleStack" {
        let why =
            |what: &str| format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
        if asked.len() == 2 {
            refuse(&at_policy, &json!(policy), &why("cluster IPs"));
        }
        if list.len() == 2 {
            refuse(&at_policy, &json!(policy), &why("IP families"));
        }
    }
    for (index, address) in asked.iter().enumerate().skip(list.len()) {
        match address.as_str().and_then(formats::sloppy_ip) {
            None => break,
            Some(address) if address.is_ipv4() => list.push(json!("IPv4")),
            Some(_) => {
                let at = Path::new("spec.clusterIPs").index(index);
                refuse(&at, &Value::Array(asked.clone()), "IPv6 is not configured on this cluster");
            }
        }
    }
    if !wrong.is_empty() {
        return Err(invalid(name, &wrong.finish()));
    }
    if bare {
        if list.is_empty() {
            list.push(json!("IPv4"));
        }
        if list.len() < 2 && policy != "SingleStack" {
            let other = if list.first().and_then(Value::as_str) == Some("IPv4") { "IPv6" } else { "IPv4" };
            list.push(json!(other));
        }
        spec.insert("ipFamilies".to_owned(), Value::Array(list));
        return Ok(());
    }
    if policy == "RequireDualStack" {
        wrong.invalid(&at_policy, &policy, "this cluster is not configured for dual-stack services");
    }
    for (index, family) in list.iter().enumerate().filter(|(_, family)| family.as_str() != Some("IPv4")) {
        let at = Path::new("spec.ipFamilies").index(index);
        wrong.invalid(&at, family.as_str().unwrap_or_default(), "not configured on this cluster");
    }
    if !wrong.is_empty() {
        return Err(invalid(name, &wrong.finish()));
    }
    if list.is_empty() {
        list.push(json!("IPv4"));
    }
    spec.insert("ipFamilies".to_owned(), Value::Array(list));
    Ok(())
}

fn addresses(spec: &mut Members, taken: &mut Taken, rng: &Rng, name: &str) -> Outcome<()> {
    let asked = list_at(spec, &["clusterIPs"]).to_vec();
    if !needs_cluster_ip(spec) || asked.first().and_then(Value::as_str) == Some("None") {
        return Ok(());
    }
    let path = Path::new("spec.clusterIPs");
    match asked.first().and_then(Value::as_str) {
        None => {
            let Some(address) = taken.address(rng) else {
                let why = format!("failed to allocate a serviceIP for Service {name:?}: range is full");
                return Err(Box::new(Status::internal_error(&why)));
            };
            spec.insert("clusterIP".to_owned(), json!(address.to_string()));
            spec.insert("clusterIPs".to_owned(), json!([address.to_string()]));
        }
        Some(text) => {
            let claimed = match formats::sloppy_ip(text) {
                Some(std::net::IpAddr::V4(address)) => taken.claim_address(address),
                _ => Err(OUTSIDE.to_owned()),
            };
            if let Err(why) = claimed {
                let why = format!("failed to allocate IP {text}: {why}");
                return Err(invalid(name, &[FieldError::invalid_json(&path, &asked, why)]));
            }
        }
    }
    Ok(())
}

fn gives_ports(spec: &Members) -> bool {
    string_at(spec, &["type"]) == "NodePort" || flag_at(spec, &["allocateLoadBalancerNodePorts"])
}

fn port_error(index: usize, port: i64, why: &str, name: &str) -> Box<Status> {
    let path = Path::new("spec.ports").index(index).child("nodePort");
    invalid(name, &[FieldError::invalid_json(path, &port, why)])
}

fn none_left() -> Box<Status> {
    Box::new(Status::internal_error("failed to allocate a nodePort: range is full"))
}

/// Node ports of a new service: the same number for the same port under several protocols.
fn new_ports(spec: &mut Members, taken: &mut Taken, rng: &Rng, name: &str) -> Outcome<()> {
    let gives = gives_ports(spec);
    let number = |port: &Value, member: &str| port.get(member).and_then(Value::as_i64).unwrap_or(0);
    let asked: Vec<(i64, i64)> =
        list_at(spec, &["ports"]).iter().map(|port| (number(port, "port"), number(port, "nodePort"))).collect();
    let mut given: Vec<(i64, i64)> = Vec::new();
    for (index, port) in objects_mut(spec, "ports").enumerate() {
        let Some((own, node_port)) = asked.get(index).copied() else { break };
        if node_port == 0 && !gives {
            continue;
        }
        let there = given.iter().find(|(port, _)| *port == own).map(|(_, node_port)| *node_port);
        let chosen = match there {
            Some(there) if node_port == 0 || node_port == there => there,
            Some(_) => {
                taken.claim_port(node_port).map_err(|why| port_error(index, node_port, why, name))?;
                continue;
            }
            None => {
                let wanted = asked.iter().find(|(port, node)| *port == own && *node != 0).map(|(_, node)| *node);
                let chosen = match wanted {
                    Some(wanted) => {
                        taken.claim_port(wanted).map_err(|why| port_error(index, wanted, why, name))?;
                        wanted
                    }
                    None => taken.port(rng).ok_or_else(none_left)?,
                };
                given.push((own, chosen));
                chosen
            }
        };
        port.insert("nodePort".to_owned(), json!(chosen));
    }
    Ok(())
}

/// Node ports of a service that has some.
fn changed_ports(spec: &mut Members, before: &[i64], taken: &mut Taken, rng: &Rng, name: &str) -> Outcome<()> {
    let gives = gives_ports(spec);
    let mut claimed: Vec<i64> = Vec::new();
    for (index, port) in objects_mut(spec, "ports").enumerate() {
        match port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) {
            0 if gives => {
                let given = taken.port(rng).ok_or_else(none_left)?;
                port.insert("nodePort".to_owned(), json!(given));
            }
            0 => {}
            asked if before.contains(&asked) || claimed.contains(&asked) => {}
            asked => {
                taken.claim_port(asked).map_err(|why| port_error(index, asked, why, name))?;
                claimed.push(asked);
            }
        }
    }
    Ok(())
}

fn health_port(spec: &mut Members, before: Option<&Members>, taken: &mut Taken, rng: &Rng) -> Outcome<()> {
    if !needs_health_check(spec) || before.is_some_and(needs_health_check) {
        return Ok(());
    }
    let failed = |why: String| Box::new(Status::internal_error(&why));
    match spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0) {
        0 => {
            let given = taken.port(rng).ok_or_else(none_left)?;
            spec.insert("healthCheckNodePort".to_owned(), json!(given));
            Ok(())
        }
        asked => taken
            .claim_port(asked)
            .map_err(|why| failed(format!("failed to allocate requested HealthCheck NodePort {asked}: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_runtime::Rng;
    use proptest::prelude::*;

    use super::*;
    use crate::resources::tree::has;

    fn made(spec: Value, taken: &mut Taken) -> Result<Members, String> {
        let mut service = json!({"metadata": {"name": "s"}, "spec": spec}).as_object().unwrap().clone();
        super::super::fill(&mut service);
        create(&mut service, taken, &Rng::seeded(3)).map_err(|status| status.message)?;
        Ok(service)
    }

    #[test]
    fn addresses_are_given_once_and_come_from_the_range() {
        let mut taken = Taken::default();
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let service = made(json!({"ports": [{"port": 80}]}), &mut taken).unwrap();
            let address: Ipv4Addr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
            assert!(address.octets()[0] == 10 && (96..112).contains(&address.octets()[1]), "{address}");
            assert!(seen.insert(address));
        }
        assert_eq!(made(json!({"clusterIP": "None"}), &mut taken).unwrap()["spec"]["clusterIPs"], json!(["None"]));
        let refused = |address: &str, taken: &mut Taken| {
            made(json!({"ports": [{"port": 1}], "clusterIP": address}), taken).err().unwrap()
        };
        assert!(made(json!({"ports": [{"port": 1}], "clusterIP": "10.96.0.9"}), &mut taken).is_ok());
        assert!(
            refused("10.96.0.9", &mut taken)
                .ends_with("failed to allocate IP 10.96.0.9: provided IP is already allocated")
        );
        for outside in ["1.2.3.4", "10.95.255.255", "10.112.0.0"] {
            assert!(refused(outside, &mut taken).ends_with(OUTSIDE), "{outside}");
        }
        for end in ["10.96.0.0", "10.111.255.255"] {
            assert!(refused(end, &mut taken).ends_with("The range of valid IPs is 10.96.0.0/12"), "{end}");
        }
        assert!(refused("::1", &mut taken).contains("IPv6 is not configured on this cluster"));
    }

    #[test]
    fn what_is_only_tried_gets_what_nobody_gets() {
        let mut taken = Taken::default();
        let of = |address: &str, port: i64| json!({"type": "NodePort", "clusterIP": address, "ports": [{"port": 80, "nodePort": port}, {"port": 81, "name": "b"}]});
        made(of("10.96.0.9", 30_080), &mut taken).unwrap();
        let mut taken = taken.only_tried(true);
        assert!(made(of("", 30_080), &mut taken).unwrap_err().ends_with(PORT_TAKEN));
        let spec = made(of("", 80), &mut taken).unwrap()["spec"].clone();
        assert_eq!((&spec["clusterIP"], &spec["ports"][1]["nodePort"]), (&json!("10.96.0.0"), &json!(81)));
        let mut taken = taken.only_tried(true);
        assert!(made(of("10.96.0.9", 0), &mut taken).is_ok());
        assert_eq!(taken.tried, Some(vec![32_769, 32_770]));
    }

    #[test]
    fn node_ports_are_shared_by_protocols_of_one_port() {
        let mut taken = Taken::default();
        let both = json!({"type": "NodePort", "ports": [{"name": "a", "port": 53, "protocol": "TCP"}, {"name": "b", "port": 53, "protocol": "UDP"}]});
        let service = made(both, &mut taken).unwrap();
        assert_eq!(service["spec"]["ports"][0]["nodePort"], service["spec"]["ports"][1]["nodePort"]);
        let of = |port: i64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
        assert!(made(of(80), &mut taken).unwrap_err().ends_with(PORT_OUTSIDE));
        assert!(made(of(30_080), &mut taken).is_ok());
        assert!(made(of(30_080), &mut taken).unwrap_err().ends_with(PORT_TAKEN));
        let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
        assert!(made(local, &mut taken).unwrap()["spec"]["healthCheckNodePort"].as_i64().is_some());
        let bare = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]});
        assert_eq!(made(bare, &mut taken).unwrap()["spec"]["ports"][0].get("nodePort"), None);
    }

    #[test]
    fn an_update_takes_along_what_the_service_has() {
        let mut taken = Taken::default();
        let old = made(json!({"type": "NodePort", "ports": [{"port": 80}]}), &mut taken).unwrap();
        let mut new = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}, {"name": "x", "port": 81}]}})
            .as_object()
            .unwrap()
            .clone();
        super::super::fill(&mut new);
        update(&mut new, &old, &mut taken, &Rng::seeded(4)).unwrap();
        assert_eq!(new["spec"]["clusterIP"], old["spec"]["clusterIP"]);
        assert_eq!(new["spec"]["ports"][0]["nodePort"], old["spec"]["ports"][0]["nodePort"]);
        assert!(has(&new["spec"]["ports"][1], "nodePort"));
        let named = made(json!({"type": "ExternalName", "externalName": "a.b"}), &mut taken).unwrap();
        let mut given = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "ports": [{"port": 80}]}})
            .as_object()
            .unwrap()
            .clone();
        update(&mut given, &named, &mut taken, &Rng::seeded(5)).unwrap();
        assert!(has(&given["spec"], "clusterIP"));
    }

    #[test]
    fn what_the_cluster_does_not_have_is_refused() {
        let mut taken = Taken::default();
        for (spec, want) in [
            (
                json!({"ports": [{"port": 1}], "ipFamilyPolicy": "RequireDualStack"}),
                "this cluster is not configured for dual-stack services",
            ),
            (
                json!({"ports": [{"port": 1}], "ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
        ] {
            let refused = made(spec, &mut taken).unwrap_err();
            assert!(refused.ends_with(want), "{refused}");
        }
        let bare = made(json!({"clusterIP": "None"}), &mut taken).unwrap();
        assert_eq!(
            (&bare["spec"]["ipFamilies"], &bare["spec"]["ipFamilyPolicy"]),
            (&json!(["IPv4", "IPv6"]), &json!("RequireDualStack"))
        );
    }

    proptest! {
        #[test]
        fn no_two_claims_give_the_same_port(seeds in prop::collection::vec(any::<u64>(), 1..40)) {
            let mut taken = Taken::default();
            let ports: Vec<i64> = seeds.iter().filter_map(|seed| taken.port(&Rng::seeded(*seed))).collect();
            let unique: HashSet<i64> = ports.iter().copied().collect();
            prop_assert_eq!(unique.len(), ports.len());
            prop_assert!(ports.iter().all(|port| PORTS.contains(port)));
        }
    }
}
