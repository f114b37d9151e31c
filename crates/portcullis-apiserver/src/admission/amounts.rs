//! Amounts of resources by name, and what a whole pod asks for.
//!
//! Compat: `podRequests` and `podLimits` in `plugin/pkg/admission/limitranger` of Kubernetes 1.37.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::resources::pod_spec::totals;
use crate::resources::tree::{Members, child, members};
use crate::schema::quantity::Quantity;

/// Amounts by the name of what they are amounts of.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// Which of a container's two lists is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Requests,
    Limits,
}

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// Amounts as an object writes them. What cannot be read counts as nothing.
pub(super) fn read(amounts: &Members) -> Amounts {
    let amount = |(name, text): (&String, &Value)| {
        let quantity = Quantity::parse(text.as_str().unwrap_or_default()).unwrap_or_else(|_| Quantity::zero());
        (name.clone(), quantity)
    };
    amounts.iter().map(amount).collect()
}

/// What a container, or a pod's specification as a whole, asks for.
pub(super) fn of_container(container: &Value, which: Asked) -> Amounts {
    read(members(child(container, "resources"), which.name()))
}

/// What a pod asks for: its containers together, or as much as an init container that runs before them, whichever is more.
pub(super) fn of_pod(spec: &Members, which: Asked) -> Amounts {
    let mut all: Amounts =
        totals(spec, which.name()).into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect();
    // What is said of the pod counts instead of the sum.
    let whole = spec.get("resources").map(|whole| read(members(whole, which.name()))).unwrap_or_default();
    all.extend(whole.into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(spec: Value) -> Vec<String> {
        let amounts = of_pod(spec.as_object().unwrap(), Asked::Requests);
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    fn container(cpu: &str, more: &Value) -> Value {
        let mut container = json!({"resources": {"requests": {"cpu": cpu}}});
        for (name, value) in more.as_object().unwrap() {
            container[name] = value.clone();
        }
        container
    }

    #[test]
    fn a_pod_asks_for_what_its_containers_ask_for_at_the_same_time() {
        let plain = json!({});
        let beside = json!({"restartPolicy": "Always"});
        let pods = [
            (json!({"containers": [container("1", &plain), container("500m", &plain)]}), "cpu=1500m"),
            (json!({"containers": [container("1", &plain)], "initContainers": [container("3", &plain)]}), "cpu=3"),
            (
                json!({"containers": [container("1", &plain)],
                    "initContainers": [container("2", &beside), container("3", &plain), container("1", &beside)]}),
                "cpu=5",
            ),
            (json!({"containers": [container("1", &plain)], "resources": {"requests": {"cpu": "7"}}}), "cpu=7"),
        ];
        for (spec, want) in pods {
            assert_eq!(asked(spec.clone()), [want], "{spec}");
        }
    }
}
