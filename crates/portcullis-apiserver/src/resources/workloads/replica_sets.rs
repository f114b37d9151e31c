//! Replica sets.

use portcullis_kube::names;
use serde_json::Value;

use super::super::check::{Path, Wrong, labels, meta};
use super::super::rules::Rules;
use super::super::tree::Members;
use super::deployments::same_selector;
use super::{at_most, lasting_template, name_warning, not_negative, template_warnings};

pub(crate) const RULES: Rules = Rules {
    validate,
    validate_update,
    validate_status,
    warnings: |new, old| {
        let mut out = if old.is_none() { name_warning(new) } else { Vec::new() };
        out.extend(template_warnings(new, old, &["spec", "template"]));
        out
    },
    ..Rules::WITH_STATUS
};

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    spec(new, wrong);
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    spec(new, wrong);
    same_selector(new, old, wrong);
}

fn spec(new: &Members, wrong: &mut Wrong) {
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    not_negative(spec, &["replicas", "minReadySeconds"], &path, wrong);
    // Compat: upstream's text speaks of a deployment.
    if labels::own_selector(spec, "empty selector is invalid for deployment", "invalid label selector", &path, wrong) {
        labels::finds_template(spec, &path, wrong);
        lasting_template(spec, "ReplicaSet", &path, wrong);
    }
}

fn validate_status(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let status = new.get("status").unwrap_or(&Value::Null);
    let counts = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    not_negative(status, &counts, &Path::new("status"), wrong);
    for name in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        at_most(status, name, "replicas", "cannot be greater than status.replicas", wrong);
    }
    at_most(status, "availableReplicas", "readyReplicas", "cannot be greater than readyReplicas", wrong);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{changes, problems, template_of};

    #[test]
    fn a_replica_set_finds_its_own_pods() {
        let good = json!({"selector": {"matchLabels": {"app": "a"}}, "template": template_of("a")});
        assert!(problems("replicasets", good.clone()).is_empty());
        let mut other = good.clone();
        other["selector"]["matchExpressions"] = json!([{"key": "a", "operator": "Odd"}]);
        assert_eq!(
            problems("replicasets", other)[1],
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\"},\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Odd\"}]}: invalid label selector"
        );
        let mut scaled = good.clone();
        scaled["replicas"] = json!(5);
        assert!(changes("replicasets", scaled, good).is_empty());
    }
}
