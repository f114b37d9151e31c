//! What containers and pods ask for and may use: amounts, and claims of devices.
//!
//! Compat: `validateResourceRequirements`, `validatePodResources` and `validatePodResourceClaims` of `pkg/apis/core/validation`.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{NOT_NEGATIVE, Path, Wrong};
use super::super::tree::{Members, child, has, list, list_at, members, string, string_at};
use crate::schema::quantity::Quantity;

/// What is judged about a resource's name.
type Judge = fn(&str, &Path, &mut Wrong);

/// Resources by which a pod's quality is told.
pub(super) const SCALED: [&str; 2] = ["cpu", "memory"];

/// Limits, requests and claims of a container.
pub(super) fn of_container(resources: &Value, known: &BTreeSet<&str>, path: &Path, wrong: &mut Wrong) {
    amounts(resources, resource_name, path, wrong);
    claims(list(resources, "claims"), known, &path.child("claims"), wrong);
}

/// Limits and requests of a pod as a whole, beside those of its containers.
pub(super) fn of_pod(spec: &Members, path: &Path, wrong: &mut Wrong) {
    let own = spec.get("resources").unwrap_or(&Value::Null);
    if own.is_null() {
        return;
    }
    let path = path.child("resources");
    if string_at(spec, &["os", "name"]) == "windows" {
        wrong.forbidden(&path, "may not be set for a windows pod");
        return;
    }
    if has(own, "claims") {
        wrong.forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level");
    }
    amounts(own, pod_resource_name, &path, wrong);
    claims(list(own, "claims"), &claim_names(spec), &path.child("claims"), wrong);
    for (part, huge_only) in [("requests", false), ("limits", true)] {
        for (name, total) in totals(spec, part) {
            let Some(most) = amount(own, part, name).filter(|_| !huge_only || name.starts_with("hugepages-")) else {
                continue;
            };
            if total.compare(most).is_gt() {
                let why = format!("must be greater than or equal to aggregate container {part} of {total}");
                wrong.invalid(&path.child(part).key(name), &most.to_string(), why);
            }
        }
    }
    for (index, container) in list_at(spec, &["containers"]).iter().enumerate() {
        let resources = child(container, "resources");
        for name in members(resources, "limits").keys() {
            let (Some(limit), Some(most)) = (amount(resources, "limits", name), amount(own, "limits", name)) else {
                continue;
            };
            if limit.compare(most).is_gt() {
                let at = path.child("containers").index(index).key(name).child("limits");
                wrong.invalid(&at, &limit.to_string(), format!("must be less than or equal to pod limits of {most}"));
            }
        }
    }
}

fn amount(resources: &Value, part: &str, name: &str) -> Option<Quantity> {
    Quantity::parse(members(resources, part).get(name)?.as_str()?).ok()
}

/// What all containers ask for at the same time: those that run, or one that prepares beside those that run on.
pub(crate) fn totals<'s>(spec: &'s Members, part: &str) -> BTreeMap<&'s str, Quantity> {
    let mut running: BTreeMap<&str, Quantity> = BTreeMap::new();
    let mut starting: BTreeMap<&str, Quantity> = BTreeMap::new();
    let mut beside: BTreeMap<&str, Quantity> = BTreeMap::new();
    let of = |container: &'s Value| {
        let resources = child(container, "resources");
        members(resources, part).keys().filter_map(move |name| Some((name.as_str(), amount(resources, part, name)?)))
    };
    let add = |sums: &mut BTreeMap<&'s str, Quantity>, name: &'s str, amount: Quantity| {
        let sum = sums.get(name).map_or(amount, |sum| sum.plus(amount));
        sums.insert(name, sum);
    };
    for container in list_at(spec, &["containers"]) {
        of(container).for_each(|(name, amount)| add(&mut running, name, amount));
    }
    for container in list_at(spec, &["initContainers"]) {
        let runs_on = string(container, "restartPolicy") == "Always";
        for (name, amount) in of(container) {
            if runs_on {
                add(&mut running, name, amount);
                add(&mut beside, name, amount);
            }
            let now = if runs_on { beside.get(name).copied() } else { beside.get(name).map(|sum| sum.plus(amount)) };
            let now = now.unwrap_or(amount);
            let most = starting.get(name).copied().filter(|most| most.compare(now).is_ge()).unwrap_or(now);
            starting.insert(name, most);
        }
    }
    for (name, now) in starting {
        if running.get(name).is_none_or(|sum| sum.compare(now).is_lt()) {
            running.insert(name, now);
        }
    }
    running
}

/// What a pod as a whole can ask for.
fn pod_resource_name(name: &str, path: &Path, wrong: &mut Wrong) {
    let before = wrong.len();
    known_name(name, path, wrong);
    if wrong.len() == before && !SCALED.contains(&name) && !name.starts_with("hugepages-") {
        wrong.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// The claims of a pod by name.
pub(super) fn claim_names(spec: &Members) -> BTreeSet<&str> {
    let all = list_at(spec, &["resourceClaims"]).iter().map(|claim| string(claim, "name"));
    all.filter(|name| !name.is_empty()).collect()
}

/// The claims that a pod has.
pub(super) fn pod_claims(spec: &Members, path: &Path, wrong: &mut Wrong) {
    let mut seen = BTreeSet::new();
    for (index, claim) in list_at(spec, &["resourceClaims"]).iter().enumerate() {
        let (at, name) = (path.index(index), string(claim, "name"));
        if name.is_empty() {
            wrong.required(&at.child("name"), "");
        } else if !seen.insert(name) {
            wrong.duplicate(&at.child("name"), name);
        } else {
            wrong.each(&at.child("name"), name, names::dns_label(name));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let there: Vec<&str> = sources.into_iter().filter(|source| has(claim, source)).collect();
        let printed = json!({"Name": name, "ResourceClaimName": child(claim, sources[0]),
            "ResourceClaimTemplateName": child(claim, sources[1])});
        if there.len() > 1 {
            let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
            wrong.invalid_value(&at, &printed, why);
        }
        if there.is_empty() {
            let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            wrong.invalid_value(&at, &printed, why);
        }
        for source in there {
            let object = string(claim, source);
            wrong.each(&at.child(source), object, names::dns_subdomain(object));
        }
    }
}

/// The claims that a container uses.
fn claims(claims: &[Value], known: &BTreeSet<&str>, path: &Path, wrong: &mut Wrong) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let (at, name, request) = (path.index(index), string(claim, "name"), string(claim, "request"));
        if name.is_empty() {
            wrong.required(&at, "");
            continue;
        }
        if seen.contains(name) {
            wrong.duplicate(&at, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                wrong.each(&at.child("request"), request, names::dns_label(request));
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                wrong.duplicate(&at, &key);
            } else if request.is_empty() {
                // Parts of the claim are used already: they stand behind its name and a slash.
                let part = format!("{name}/");
                for _ in seen.range(part.clone()..).take_while(|seen| seen.starts_with(&part)) {
                    wrong.duplicate(&at, name);
                }
            }
            seen.insert(key);
        }
        // Each such problem names all claims.
        if !known.contains(name) && !wrong.is_full() {
            let listed = known.iter().copied().collect::<Vec<_>>().join(", ");
            let mut error = FieldError::not_found(&at, name);
            let list = if known.is_empty() { " which is empty".to_owned() } else { format!(": {listed}") };
            error.detail = format!("must be one of the names in pod.spec.resourceClaims{list}");
            wrong.push(error);
        }
    }
}

fn amounts(resources: &Value, judge: Judge, path: &Path, wrong: &mut Wrong) {
    let limits = members(resources, "limits");
    let at_limits = path.child("limits");
    for (name, amount) in limits {
        judge(name, &at_limits.key(name), wrong);
        quantity(name, amount, &at_limits.key(name), wrong);
    }
    let at_requests = path.child("requests");
    for (name, amount) in members(resources, "requests") {
        judge(name, &at_requests.key(name), wrong);
        quantity(name, amount, &at_requests.key(name), wrong);
        let text = amount.as_str().unwrap_or_default();
        let overcommits = !name.contains('/') && !name.starts_with("hugepages-");
        match limits.get(name).and_then(Value::as_str) {
            Some(limit) => {
                let (Ok(asked), Ok(most)) = (Quantity::parse(text), Quantity::parse(limit)) else { continue };
                let order = asked.compare(most);
                if order.is_ne() && !overcommits {
                    wrong.invalid(&at_requests, text, format!("must be equal to {name} limit of {limit}"));
                } else if order.is_gt() {
                    wrong.invalid(&at_requests, text, format!("must be less than or equal to {name} limit of {limit}"));
                }
            }
            None if !overcommits => {
                wrong.required(&at_limits, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
    }
    let named = |prefix: &str| {
        let of = |part: &str| members(resources, part).keys().any(|name| name.starts_with(prefix));
        of("limits") || of("requests")
    };
    if named("hugepages-") && !SCALED.iter().any(|name| named(name)) {
        wrong.forbidden(path, "HugePages require cpu or memory");
    }
}

/// The name of something that a container asks for.
pub(crate) fn resource_name(name: &str, path: &Path, wrong: &mut Wrong) {
    known_name(name, path, wrong);
    if !name.contains('/') && !is_standard(name) {
        wrong.invalid_typed(path, name, "must be a standard resource for containers");
    }
}

fn is_standard(name: &str) -> bool {
    ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-")
}

fn known_name(name: &str, path: &Path, wrong: &mut Wrong) {
    let sentences = names::label_key(name);
    if !sentences.is_empty() {
        wrong.each_typed(path, name, sentences);
    } else if !name.contains('/') && !is_standard(name) && !QUOTA_NAMES.contains(&name) {
        wrong.invalid_typed(path, name, "must be a standard resource type or fully qualified");
    }
}

fn quantity(name: &str, amount: &Value, path: &Path, wrong: &mut Wrong) {
    let text = amount.as_str().unwrap_or_default();
    let Ok(quantity) = Quantity::parse(text) else { return };
    if quantity.is_negative() {
        wrong.invalid(path, text, NOT_NEGATIVE);
    }
    let extended = name.contains('/') && !name.contains("kubernetes.io/");
    if extended && !quantity.is_whole() {
        wrong.invalid(path, text, "must be an integer");
    }
}

/// Standard names that are for quotas and not for containers.
const QUOTA_NAMES: [&str; 15] = [
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
];

#[cfg(test)]
mod tests {
    use super::super::containers::tests::with;
    use super::super::tests::problems;
    use super::*;

    #[test]
    fn requests_fit_their_limits() {
        let of = |resources: Value| with(json!({"resources": resources}));
        assert!(of(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}})).is_empty());
        assert_eq!(
            of(json!({"requests": {"cpu": "2", "gpu": "1"}, "limits": {"cpu": "1", "gpu": "1"}})),
            [
                "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers"
            ]
        );
        assert!(of(json!({"limits": {"memory": "-1"}}))[0].contains("greater than or equal to 0"));
    }

    #[test]
    fn a_pods_own_resources_hold_those_of_its_containers() {
        let of = |own: Value| {
            problems(
                json!({"resources": own, "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}}],
                "initContainers": [{"name": "i", "image": "i", "resources": {"requests": {"cpu": "4"}}}]}),
            )
        };
        assert!(of(json!({"requests": {"cpu": "4"}, "limits": {"cpu": "4"}})).is_empty());
        assert_eq!(
            of(json!({"requests": {"cpu": "1", "example.com/a": "1"}, "limits": {"cpu": "2"}})),
            [
                "spec.resources.requests[example.com/a]: Unsupported value: \"example.com/a\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
                "spec.resources.limits: Required value: Limit must be set for non overcommitable resources",
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 4",
                "spec.resources.containers[0][cpu].limits: Invalid value: \"3\": must be less than or equal to pod limits of 2",
            ]
        );
    }

    #[test]
    fn claims_are_of_the_pod() {
        let of = |claims: Value| {
            problems(json!({"resourceClaims": [{"name": "a", "resourceClaimName": "x"}],
                "containers": [{"name": "c", "image": "i", "resources": {"claims": claims}}]}))
        };
        assert!(of(json!([{"name": "a"}])).is_empty());
        assert_eq!(
            of(json!([{"name": "a", "request": "r"}, {"name": "a"}, {"name": "b"}, {}])),
            [
                "spec.containers[0].resources.claims[1]: Duplicate value: \"a\"",
                "spec.containers[0].resources.claims[2]: Not found: \"b\": must be one of the names in pod.spec.resourceClaims: a",
                "spec.containers[0].resources.claims[3]: Required value",
            ]
        );
        let both = json!({"name": "a", "resourceClaimName": "x", "resourceClaimTemplateName": "Y"});
        let found = problems(
            json!({"resourceClaims": [{}, both, {"name": "a", "resourceClaimName": "x"}], "containers": [{"name": "c", "image": "i"}]}),
        );
        assert_eq!(found.len(), 5, "{found:#?}");
    }
}
