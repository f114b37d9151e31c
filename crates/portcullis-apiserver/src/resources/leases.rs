//! Leases: who holds what, for how long.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;

use super::check::{Path, Wrong, meta};
use super::rules::Rules;
use super::tree::{Members, at, object};

pub(crate) const RULES: Rules = Rules {
    create_on_update: true,
    unconditional_update: false,
    // Coordinated leader election is an alpha feature, which is off.
    prepare_create: without_coordination,
    prepare_update: |new, _| without_coordination(new),
    validate,
    validate_update,
    ..Rules::NAMESPACED
};

fn without_coordination(members: &mut Members) {
    let spec = object(members, "spec");
    spec.shift_remove("strategy");
    spec.shift_remove("preferredHolder");
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::any_finalizers(new, true, names::dns_subdomain, wrong);
    spec(new, wrong);
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::general_update(new, old, wrong);
    spec(new, wrong);
}

fn spec(new: &Members, wrong: &mut Wrong) {
    let number = |name: &str| at(new, &["spec", name]).and_then(serde_json::Value::as_i64);
    let path = Path::new("spec");
    if let Some(seconds) = number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        wrong.push(FieldError::invalid_json(path.child("leaseDurationSeconds"), &seconds, "must be greater than 0"));
    }
    wrong.not_negative(&path.child("leaseTransitions"), number("leaseTransitions"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_positive_and_transitions_count() {
        let lease = json!({"metadata": {"name": "l", "namespace": "d"}, "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1,
            "strategy": "x"}});
        let mut lease = lease.as_object().unwrap().clone();
        without_coordination(&mut lease);
        assert_eq!(lease["spec"].get("strategy"), None);
        let mut wrong = Wrong::default();
        validate(&lease, &mut wrong);
        let texts: Vec<String> = wrong.finish().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"
            ]
        );
    }
}
