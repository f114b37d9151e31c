//! Priority classes: the two of the system, and those of users.

use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::{Path, Wrong, meta};
use super::rules::{Rules, set_generation};
use super::tree::{Members, at, default, flag_at, string_at};

pub(crate) const RULES: Rules =
    Rules { prepare_create: |members| set_generation(members, 1), validate, validate_update, ..Rules::CLUSTER };
const SYSTEM: &str = "system-";
/// The highest number that a user may give.
const HIGHEST: i64 = 1_000_000_000;
/// Name, number and description of those that are always there.
pub(crate) const OF_THE_SYSTEM: [(&str, i64, &str); 2] = [
    ("system-cluster-critical", 2_000_000_000, "For pods that the cluster cannot do without, on whichever node."),
    ("system-node-critical", 2_000_001_000, "For pods that their node cannot do without."),
];

pub(super) fn fill(members: &mut Members) {
    default(members, "preemptionPolicy", "PreemptLowerPriority");
}

/// Whether a class is always there.
pub(crate) fn is_of_the_system(name: &str) -> bool {
    OF_THE_SYSTEM.iter().any(|(known, ..)| *known == name)
}

fn number(members: &Members) -> i64 {
    at(members, &["value"]).and_then(Value::as_i64).unwrap_or(0)
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, false, names::dns_subdomain, wrong);
    let (name, value) = (string_at(new, &["metadata", "name"]), number(new));
    if name.starts_with(SYSTEM) {
        if let Err(why) = known(name, value, flag_at(new, &["globalDefault"])) {
            let why =
                format!("priority class names with '{SYSTEM}' prefix are reserved for system use only. error: {why}");
            wrong.forbidden(&Path::new("metadata.name"), why);
        }
    } else if value > HIGHEST {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        wrong.forbidden(&Path::new("value"), why);
    }
    let policy = string_at(new, &["preemptionPolicy"]);
    wrong.one_of(&Path::new("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
}

fn known(name: &str, value: i64, global: bool) -> Result<(), String> {
    match OF_THE_SYSTEM.iter().find(|(known, ..)| *known == name) {
        None => Err(format!("{name} is not a known system priority class")),
        Some((_, known, _)) if *known != value => Err(format!("value of {name} PriorityClass must be {known}")),
        Some(_) if global => Err(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => Ok(()),
    }
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    if number(new) != number(old) {
        wrong.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    let policy = |members: &Members| at(members, &["preemptionPolicy"]).cloned().unwrap_or_default();
    wrong.unchanged(&Path::new("preemptionPolicy"), &policy(new), &policy(old));
}

/// A class of the system as it is made at start.
pub(crate) fn of_the_system((name, value, description): (&str, i64, &str)) -> Value {
    json!({"metadata": {"name": name}, "value": value, "description": description})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, value: i64, policy: &str) -> Members {
        let class =
            json!({"metadata": {"name": name, "resourceVersion": "1"}, "value": value, "preemptionPolicy": policy});
        class.as_object().unwrap().clone()
    }

    fn texts(check: impl FnOnce(&mut Wrong)) -> Vec<String> {
        let mut wrong = Wrong::default();
        check(&mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_systems_names_and_numbers_are_its_own() {
        for class in OF_THE_SYSTEM {
            let members = of_the_system(class).as_object().unwrap().clone();
            assert!(texts(|wrong| validate(&members, wrong)).is_empty());
        }
        assert_eq!(
            texts(|wrong| validate(&class("system-x", 1, "Never"), wrong)),
            [
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class"
            ]
        );
        assert_eq!(
            texts(|wrong| validate(&class("x", HIGHEST + 1, "Odd"), wrong)),
            [
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
                "preemptionPolicy: Unsupported value: \"Odd\": supported values: \"PreemptLowerPriority\", \"Never\""
            ]
        );
    }

    #[test]
    fn a_class_keeps_its_number() {
        let found =
            texts(|wrong| validate_update(&class("x", 2, "Never"), &class("x", 1, "PreemptLowerPriority"), wrong));
        assert_eq!(
            found,
            [
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"Never\": field is immutable"
            ]
        );
    }
}
