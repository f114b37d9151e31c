//! What is particular about a kind: what the server fills in, what it refuses, what it warns about.
//!
//! Upstream's counterpart is a `strategy.go` for each kind. Validation includes metadata, because kinds differ in how often
//! they judge it, and messages list each time.

use portcullis_kube::names;

use super::check::{Wrong, meta, same};
use super::tree::{Members, default, object, take_over};

/// What becomes of an object's dependants when a deletion does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collected {
    /// They go too.
    WithDependants,
    /// They are left behind. Compat: kinds that are older than garbage collection.
    LeavesDependants,
    /// The kind has none, and is nobody's.
    Never,
}

/// The rules of one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// What a deletion means for dependants.
    pub(crate) collected: Collected,
    /// What a client is told that deletes without saying what becomes of dependants; empty for most kinds.
    pub(crate) deletion_warning: &'static str,
    /// Whether a PUT of an object that is not there makes it.
    pub(crate) create_on_update: bool,
    /// Whether a PUT without a version replaces whatever is there.
    pub(crate) unconditional_update: bool,
    /// Whether a DELETE answers with the object and not with a `Status`.
    pub(crate) returns_deleted: bool,
    /// What the server sets on a new object, after defaults.
    pub(crate) prepare_create: fn(&mut Members),
    /// What an update cannot change, and what follows from it.
    pub(crate) prepare_update: fn(&mut Members, &Members),
    /// Likewise for an update of `status`.
    pub(crate) prepare_status: fn(&mut Members, &Members),
    /// What is wrong with a new object.
    pub(crate) validate: fn(&Members, &mut Wrong),
    /// What is wrong with an object's new state.
    pub(crate) validate_update: fn(&Members, &Members, &mut Wrong),
    /// What is wrong with an object whose `status` was updated.
    pub(crate) validate_status: fn(&Members, &Members, &mut Wrong),
    /// What a user should know about an object that was accepted; the old state is that of an update.
    pub(crate) warnings: fn(&Members, Option<&Members>) -> Vec<String>,
}

/// The rules of a part of an object that has a path of its own.
#[derive(Debug)]
pub(crate) struct PartRules {
    /// What an update of the part cannot change.
    pub(crate) prepare: fn(&mut Members, &Members),
    /// What is wrong with an object whose part was updated.
    pub(crate) validate: fn(&Members, &Members, &mut Wrong),
}

impl Rules {
    /// A kind in a namespace, named by a DNS subdomain, about which nothing is particular.
    pub(crate) const NAMESPACED: Self = Self {
        collected: Collected::WithDependants,
        deletion_warning: "",
        create_on_update: false,
        unconditional_update: true,
        returns_deleted: false,
        prepare_create: |_| {},
        prepare_update: |_, _| {},
        prepare_status: keep_all_but_status,
        validate: |new, wrong| meta::object_meta(new, true, names::dns_subdomain, wrong),
        validate_update: |new, old, wrong| {
            meta::object_meta_update(new, old, wrong);
            meta::object_meta(new, true, names::dns_subdomain, wrong);
        },
        validate_status: |new, old, wrong| meta::object_meta_update(new, old, wrong),
        warnings: |_, _| Vec::new(),
    };
    /// Likewise, outside of namespaces.
    pub(crate) const CLUSTER: Self = Self {
        validate: |new, wrong| meta::object_meta(new, false, names::dns_subdomain, wrong),
        validate_update: |new, old, wrong| {
            meta::object_meta_update(new, old, wrong);
            meta::object_meta(new, false, names::dns_subdomain, wrong);
        },
        ..Self::NAMESPACED
    };
    /// A kind in a namespace with `spec`, `status` and a generation that counts changes of `spec`.
    pub(crate) const WITH_STATUS: Self =
        Self { prepare_create: first_generation, prepare_update: next_generation, ..Self::NAMESPACED };
}

/// A new object has generation 1 and no status.
pub(crate) fn first_generation(members: &mut Members) {
    members.shift_remove("status");
    set_generation(members, 1);
}

/// An update leaves the status alone, and a change of `spec` counts.
pub(crate) fn next_generation(new: &mut Members, old: &Members) {
    take_over(new, old, &["status"]);
    if differs(new, old, "spec") {
        count_up(new, old);
    }
}

/// An update of the status changes nothing else.
pub(crate) fn keep_all_but_status(new: &mut Members, old: &Members) {
    let others: Vec<&str> =
        old.keys().map(String::as_str).filter(|name| !matches!(*name, "metadata" | "status")).collect();
    let added: Vec<String> = new
        .keys()
        .filter(|name| !matches!(name.as_str(), "metadata" | "status") && !old.contains_key(*name))
        .cloned()
        .collect();
    take_over(new, old, &others);
    for name in added {
        new.shift_remove(&name);
    }
}

/// Sets the generation.
pub(crate) fn set_generation(members: &mut Members, generation: i64) {
    object(members, "metadata").insert("generation".to_owned(), generation.into());
}

/// The generation after that of `old`.
pub(crate) fn count_up(new: &mut Members, old: &Members) {
    let before = super::at(old, &["metadata", "generation"]).and_then(serde_json::Value::as_i64).unwrap_or(0);
    set_generation(new, before.saturating_add(1));
}

/// Whether a top-level part has changed.
pub(crate) fn differs(new: &Members, old: &Members, name: &str) -> bool {
    let null = serde_json::Value::Null;
    !same(new.get(name).unwrap_or(&null), old.get(name).unwrap_or(&null))
}

/// Gives `status` a phase when it says none.
pub(crate) fn default_phase(members: &mut Members, phase: &str) {
    default(object(members, "status"), "phase", phase);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(value: serde_json::Value) -> Members {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn generations_count_changes_of_the_spec() {
        let mut old = members(json!({"metadata": {"name": "a"}, "spec": {"n": 1}, "status": {"x": 1}}));
        first_generation(&mut old);
        assert_eq!((&old["metadata"]["generation"], old.contains_key("status")), (&json!(1), false));
        let mut same = members(
            json!({"metadata": {"name": "a", "generation": 1, "labels": {"b": "c"}}, "spec": {"n": 1, "l": []}}),
        );
        next_generation(&mut same, &old);
        assert_eq!(same["metadata"]["generation"], 1);
        let mut changed = members(json!({"metadata": {"generation": 1}, "spec": {"n": 2}, "status": {"y": 1}}));
        next_generation(&mut changed, &old);
        assert_eq!((&changed["metadata"]["generation"], changed.contains_key("status")), (&json!(2), false));
    }

    #[test]
    fn a_status_update_touches_nothing_else() {
        let old = members(json!({"metadata": {"name": "a"}, "spec": {"n": 1}, "status": {"x": 1}}));
        let mut new = members(json!({"metadata": {"name": "a"}, "spec": {"n": 2}, "data": {}, "status": {"x": 2}}));
        keep_all_but_status(&mut new, &old);
        assert_eq!(
            serde_json::Value::Object(new),
            json!({"metadata": {"name": "a"}, "spec": {"n": 1}, "status": {"x": 2}})
        );
    }
}
