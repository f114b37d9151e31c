//! What is said about pods and templates that were accepted although something about them looks like a mistake.
//!
//! Compat: `pkg/api/pod/warnings.go`; warnings about overlapping files of projected volumes are not given.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::super::check::Path;
use super::super::check::formats::ip_warning;
use super::super::tree::{Members, at, child, has, integer, list, list_at, members, members_at, string};
use super::annotations::{self, SECCOMP_OF_CONTAINERS, SECCOMP_OF_PODS};
use crate::schema::quantity::Quantity;

/// Labels of nodes that have successors.
const OLD_LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
];
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];
const OLD_VOLUMES: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const NOTHING_MATCHES: &str = "a null labelSelector results in matching no pod";

/// About a pod.
pub(crate) fn pod(pod: &Members) -> Vec<String> {
    about(pod, &Path::new(""))
}

/// About a template at `path`.
pub(crate) fn template(template: &Members, path: &Path) -> Vec<String> {
    let mut out = about(template, path);
    out.extend(annotations::of_template(template, path));
    out
}

fn about(object: &Members, path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let (spec, at_spec) = (members_at(object, &["spec"]), path.child("spec"));
    placement(spec, &at_spec, &mut out);
    let annotations = members_at(object, &["metadata", "annotations"]);
    for (key, why) in OLD_ANNOTATIONS.into_iter().filter(|(key, _)| annotations.contains_key(*key)) {
        out.push(format!("{}: {why}", path.child("metadata").child("annotations").key(key)));
    }
    for (index, volume) in list_at(spec, &["volumes"]).iter().enumerate() {
        for (_, shown, why) in OLD_VOLUMES.into_iter().filter(|(name, ..)| has(volume, name)) {
            out.push(format!("{}: {why}", at_spec.child("volumes").index(index).child(shown)));
        }
    }
    let profile = |context: Option<&Value>| context.and_then(|context| context.get("seccompProfile")).is_some();
    let unused = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    let at_annotations = path.child("metadata").child("annotations");
    if !profile(at(spec, &["securityContext"])) && annotations.contains_key(SECCOMP_OF_PODS) {
        out.push(format!("{}: {unused}", at_annotations.key(SECCOMP_OF_PODS)));
    }
    for container in
        ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|name| list_at(spec, &[*name]))
    {
        let key = format!("{SECCOMP_OF_CONTAINERS}{}", string(container, "name"));
        if !profile(container.get("securityContext")) && annotations.contains_key(&key) {
            out.push(format!("{}: {unused}", at_annotations.key(&key)));
        }
    }
    repeated(list_at(spec, &["hostAliases"]), "ip", "ip", &at_spec.child("hostAliases"), &mut out);
    repeated(list_at(spec, &["imagePullSecrets"]), "name", "name", &at_spec.child("imagePullSecrets"), &mut out);
    for (index, secret) in list_at(spec, &["imagePullSecrets"]).iter().enumerate() {
        if string(secret, "name").is_empty() {
            out.push(format!(
                "{}: invalid empty name \"\"",
                at_spec.child("imagePullSecrets").index(index).child("name")
            ));
        }
    }
    fractions(members_at(spec, &["overhead"]), &at_spec.child("overhead"), &mut out);
    for (container, path) in containers(spec, &at_spec) {
        let resources = child(container, "resources");
        for name in ["memory", "ephemeral-storage"] {
            for kind in ["limits", "requests"] {
                fraction(members(resources, kind), name, &path.child("resources").child(kind), &mut out);
            }
        }
        hidden_variables(list(container, "env"), &path.child("env"), &mut out);
    }
    ports(spec, &at_spec, &mut out);
    if at(spec, &["terminationGracePeriodSeconds"]).and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            at_spec.child("terminationGracePeriodSeconds")
        ));
    }
    pod_affinity(spec, &at_spec.child("affinity"), &mut out);
    for (index, server) in list_at(spec, &["dnsConfig", "nameservers"]).iter().enumerate() {
        let at = at_spec.child("dnsConfig").child("nameservers").index(index);
        out.extend(ip_warning(&at, server.as_str().unwrap_or_default()));
    }
    for (index, alias) in list_at(spec, &["hostAliases"]).iter().enumerate() {
        out.extend(ip_warning(&at_spec.child("hostAliases").index(index).child("ip"), string(alias, "ip")));
    }
    out
}

fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == key).map(|(_, why)| *why)
}

fn placement(spec: &Members, path: &Path, out: &mut Vec<String>) {
    for key in members_at(spec, &["nodeSelector"]).keys() {
        if let Some(why) = old_label(key) {
            out.push(format!("{}: {why}", path.child("nodeSelector").key(key)));
        }
    }
    let node = at(spec, &["affinity", "nodeAffinity"]).unwrap_or(&Value::Null);
    let at_node = path.child("affinity").child("nodeAffinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let hard = list(child(node, required), "nodeSelectorTerms").iter().enumerate();
    let hard = hard.map(|(index, term)| (term, at_node.child(required).child("nodeSelectorTerms").index(index)));
    let soft = list(node, preferred).iter().enumerate();
    let soft = soft
        .map(|(index, term)| (child(term, "preference"), at_node.child(preferred).index(index).child("preference")));
    for (term, path) in hard.chain(soft) {
        old_labels(term, &path, out);
    }
    for (index, constraint) in list_at(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let key = string(constraint, "topologyKey");
        if let Some(why) = old_label(key) {
            out.push(format!("{}: {key} is {why}", path.child("topologyKey")));
        }
        if !has(constraint, "labelSelector") {
            out.push(format!("{}: {NOTHING_MATCHES}", path.child("labelSelector")));
        }
    }
}

/// Labels in a term that chooses nodes.
pub(crate) fn old_labels(term: &Value, path: &Path, out: &mut Vec<String>) {
    for (index, requirement) in list(term, "matchExpressions").iter().enumerate() {
        let key = string(requirement, "key");
        if let Some(why) = old_label(key) {
            out.push(format!("{}: {key} is {why}", path.child("matchExpressions").index(index).child("key")));
        }
    }
}

fn repeated(items: &[Value], member: &str, word: &str, path: &Path, out: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let value = string(item, member);
        if !seen.insert(value) {
            out.push(format!("{}: duplicate {word} \"{value}\"", path.index(index).child(member)));
        }
    }
}

fn fractions(amounts: &Members, path: &Path, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        fraction(amounts, name, path, out);
    }
}

pub(crate) fn fraction(amounts: &Members, name: &str, path: &Path, out: &mut Vec<String>) {
    let Some(text) = amounts.get(name).and_then(Value::as_str) else { return };
    if Quantity::parse(text).is_ok_and(|quantity| !quantity.is_whole()) {
        out.push(format!("{}: fractional byte value \"{text}\" is invalid, must be an integer", path.key(name)));
    }
}

fn containers<'s>(spec: &'s Members, path: &'s Path) -> impl Iterator<Item = (&'s Value, Path)> {
    ["initContainers", "containers"].into_iter().flat_map(move |kind| {
        list_at(spec, &[kind])
            .iter()
            .enumerate()
            .map(move |(index, container)| (container, path.child(kind).index(index)))
    })
}

fn hidden_variables(variables: &[Value], path: &Path, out: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (index, variable) in variables.iter().enumerate() {
        let (name, value) = (string(variable, "name"), string(variable, "value"));
        if seen.insert(name) {
            continue;
        }
        let itself = format!("$({name})");
        if has(variable, "valueFrom") || value == itself || !value.contains(&itself) {
            out.push(format!(
                "{}: hides previous definition of \"{name}\", which may be dropped when using apply",
                path.index(index)
            ));
        }
    }
}

fn ports(spec: &Members, path: &Path, out: &mut Vec<String>) {
    let number = |port: &Value, name: &str| integer(port, name).unwrap_or(0);
    let mut seen: BTreeMap<String, Vec<(&Value, Path)>> = BTreeMap::new();
    let mut names_seen: BTreeMap<&str, Path> = BTreeMap::new();
    let mut later = Vec::new();
    for (container, path) in containers(spec, path) {
        for (index, port) in list(container, "ports").iter().enumerate() {
            let at = path.child("ports").index(index);
            let key = format!("{}/{}", number(port, "containerPort"), string(port, "protocol"));
            let others = seen.entry(key).or_default();
            for (other, other_at) in others.iter() {
                let (host, other_host) = (number(port, "hostPort"), number(other, "hostPort"));
                let (ip, other_ip) = (string(port, "hostIP"), string(other, "hostIP"));
                if ip == other_ip && host == other_host {
                    out.push(format!("{at}: duplicate port definition with {other_at}"));
                } else if host == 0 || other_host == 0 {
                    out.push(format!("{at}: overlapping port definition with {other_at}"));
                } else if host == other_host && (ip.is_empty() != other_ip.is_empty()) {
                    out.push(format!("{at}: dangerously ambiguous port definition with {other_at}"));
                }
            }
            others.push((port, at.clone()));
            let name = string(port, "name");
            if name.is_empty() {
                continue;
            }
            match names_seen.get(name) {
                Some(first) => later.push(format!(
                    "{at}: duplicate port name \"{name}\" with {first}, services and probes that select ports by name will use {first}"
                )),
                None => drop(names_seen.insert(name, at)),
            }
        }
    }
    out.append(&mut later);
}

fn pod_affinity(spec: &Members, path: &Path, out: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (affinity, path) = (at(spec, &["affinity", kind]).unwrap_or(&Value::Null), path.child(kind));
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (index, _) in list(affinity, required).iter().enumerate().filter(|(_, term)| !has(term, "labelSelector")) {
            out.push(format!("{}: {NOTHING_MATCHES}", path.child(required).index(index).child("labelSelector")));
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in list(affinity, preferred).iter().enumerate() {
            if !has(child(term, "podAffinityTerm"), "labelSelector") {
                let at = path.child(preferred).index(index).child("podAffinityTerm").child("labelSelector");
                out.push(format!("{at}: {NOTHING_MATCHES}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(spec: Value) -> Vec<String> {
        pod(json!({"metadata": {"annotations": {}}, "spec": spec}).as_object().unwrap())
    }

    #[test]
    fn what_looks_like_a_mistake_is_mentioned() {
        assert!(said(json!({"containers": [{"name": "c", "env": [{"name": "A"}, {"name": "B"}]}]})).is_empty());
        assert_eq!(
            said(
                json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}, "imagePullSecrets": [{"name": "a"}, {"name": "a"}],
                "containers": [
                    {"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A) 3"}],
                        "ports": [{"containerPort": 80, "protocol": "TCP", "name": "x"}], "resources": {"limits": {"memory": "1500m"}}},
                    {"name": "d", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "x"}]}]})
            ),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[0]: duplicate port name \"x\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]"
            ]
        );
    }

    #[test]
    fn templates_are_named_by_their_place() {
        let template_of =
            json!({"spec": {"topologySpreadConstraints": [{"topologyKey": "k"}], "volumes": [{"gitRepo": {}}]}});
        assert_eq!(
            template(template_of.as_object().unwrap(), &Path::new("spec.template")),
            [
                "spec.template.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.template.spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"
            ]
        );
    }
}
