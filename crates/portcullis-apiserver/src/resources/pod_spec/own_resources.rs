//! A pod's own requests and limits: what is missing of them comes from its containers when it is made or resized, and they
//! decide its quality of service.
//!
//! Compat: `DefaultPodLevelResources` of `pkg/api/pod/util.go` and `pkg/apis/core/helper/qos` of Kubernetes 1.37.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::super::tree::{Members, at, list_at, members, object};
use super::resources::{SCALED, totals};
use crate::schema::quantity::Quantity;

/// Fills in what a pod that says something of its own leaves out.
pub(crate) fn fill(spec: &mut Members) {
    let own = spec.get("resources").unwrap_or(&Value::Null);
    let (mut limits, mut requests) = (members(own, "limits").clone(), members(own, "requests").clone());
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let limited = totals(spec, "limits");
    for (name, total) in limited.iter().filter(|(name, _)| is_huge_page(name) && !requests.contains_key(**name)) {
        limits.entry(*name).or_insert_with(|| json!(total.to_string()));
    }
    for (name, total) in totals(spec, "requests").iter().filter(|(name, _)| SCALED.contains(*name)) {
        requests.entry(*name).or_insert_with(|| json!(total.to_string()));
    }
    for (name, limit) in limits.iter().filter(|(name, _)| is_known(name)) {
        requests.entry(name).or_insert_with(|| limit.clone());
    }
    for (name, request) in requests.iter().filter(|(name, _)| is_known(name)) {
        let Some(total) = limited.get(name.as_str()).filter(|_| every_container_limits(spec, name)) else { continue };
        let more = quantity(request).filter(|request| request.compare(*total) == Ordering::Greater);
        limits.entry(name).or_insert_with(|| json!(more.unwrap_or(*total).to_string()));
    }
    let own = object(spec, "resources");
    for (part, amounts) in [("limits", limits), ("requests", requests)] {
        if !amounts.is_empty() {
            own.insert(part.to_owned(), Value::Object(amounts));
        }
    }
}

fn every_container_limits(spec: &Members, name: &str) -> bool {
    let mut all =
        ["containers", "initContainers", "ephemeralContainers"].into_iter().flat_map(|list| list_at(spec, &[list]));
    all.all(|container| container.pointer("/resources/limits").is_some_and(|limits| limits.get(name).is_some()))
}

/// The quality of service by what a pod says of its own; `None` when it says nothing that counts.
pub(super) fn quality(spec: &Members) -> Option<&'static str> {
    let own = at(spec, &["resources"])?;
    if !["limits", "requests"].iter().any(|part| members(own, part).keys().any(|name| is_known(name))) {
        return None;
    }
    let amount =
        |part: &str, name: &str| members(own, part).get(name).and_then(quantity).filter(|found| !found.is_zero());
    let shapes = SCALED.map(|name| match (amount("requests", name), amount("limits", name)) {
        (None, None) => "BestEffort",
        (Some(request), Some(limit)) if request.compare(limit).is_eq() => "Guaranteed",
        _ => "Burstable",
    });
    Some(if shapes.iter().all(|shape| *shape == shapes[0]) { shapes[0] } else { "Burstable" })
}

fn quantity(amount: &Value) -> Option<Quantity> {
    Quantity::parse(amount.as_str()?).ok()
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// What a pod as a whole can ask for.
fn is_known(name: &str) -> bool {
    SCALED.contains(&name) || is_huge_page(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(own: Value, containers: Value) -> Value {
        let mut spec = json!({"resources": own, "containers": containers}).as_object().unwrap().clone();
        fill(&mut spec);
        json!([spec["resources"], quality(&spec)])
    }

    #[test]
    fn what_is_missing_comes_from_limits_and_containers() {
        let small = json!([{"resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "1Gi"}}}]);
        for (own, containers, want) in [
            (
                json!({"limits": {"cpu": "1", "memory": "2Gi"}}),
                json!([{}]),
                json!([{"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "1", "memory": "2Gi"}}, "Guaranteed"]),
            ),
            (
                json!({"limits": {"cpu": "1"}}),
                small.clone(),
                json!([{"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}}, "Burstable"]),
            ),
            (
                json!({"requests": {"cpu": "300m", "memory": "1Gi"}}),
                small,
                json!([{"requests": {"cpu": "300m", "memory": "1Gi"}, "limits": {"cpu": "300m", "memory": "1Gi"}}, "Guaranteed"]),
            ),
            (
                json!({"requests": {"cpu": "1"}}),
                json!([{"resources": {"limits": {"hugepages-2Mi": "2Mi"}}}, {}]),
                json!([{"requests": {"cpu": "1", "hugepages-2Mi": "2Mi"}, "limits": {"hugepages-2Mi": "2Mi"}}, "Burstable"]),
            ),
            (json!({}), json!([{"resources": {"limits": {"cpu": "1"}}}]), json!([{}, null])),
        ] {
            assert_eq!(filled(own, containers), want);
        }
    }
}
