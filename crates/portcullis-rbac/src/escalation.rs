//! Nobody grants more than they have: whether someone's rules cover the rules of a role that they write or bind.
//!
//! Compat: `component-helpers/auth/rbac/validation` and `pkg/registry/rbac/validation` of Kubernetes 1.37. The role is broken
//! down to single (group, resource, verb, name) and (URL, verb) atoms, each of which one own rule must cover.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_kube::UserInfo;
use portcullis_kube::field::aggregate;
use portcullis_kube::go::{quote, quote_all};
use portcullis_kube::rbac::PolicyRule;

use crate::authorize::RulesFor;
use crate::matching::url_matches;

/// Atoms that a role may be broken down to. A role of 1.5 MiB, the most that a server stores, could name far more than memory
/// holds; above the limit it counts as not covered.
const ATOMS_LIMIT: usize = 200_000;

/// Atoms of `wanted` that `owned` does not cover; none, when all are covered.
pub fn uncovered(owned: &[&PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    if wanted.iter().map(atoms_of).fold(0_usize, usize::saturating_add) > ATOMS_LIMIT {
        return wanted.to_vec();
    }
    wanted.iter().flat_map(break_down).filter(|atom| !owned.iter().any(|rule| covers(rule, atom))).collect()
}

/// Refuses a grant that the user's own rules do not cover, with upstream's text (the part behind `is forbidden: `).
/// `resource` is that of the request, for example `clusterroles`.
///
/// # Errors
/// The text of the refusal.
pub fn confirm_no_escalation(
    user: &UserInfo,
    own: &RulesFor<'_>,
    wanted: &[PolicyRule],
    resource: &str,
) -> Result<(), String> {
    let missing = uncovered(&own.rules, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let described: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    let described: Vec<String> = described.into_iter().collect();
    let mut text = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        quote(&user.username),
        quote_all(&user.groups),
        described.join("\n")
    );
    if !own.errors.is_empty() {
        let errors: Vec<String> = own.errors.iter().map(|error| error.in_request_of(resource)).collect();
        text.push_str(&format!("; resolution errors: [{}]", aggregate(&errors)));
    }
    Err(text)
}

fn atoms_of(rule: &PolicyRule) -> usize {
    let names = rule.resource_names.len().max(1);
    let resources = rule.api_groups.len().saturating_mul(rule.resources.len()).saturating_mul(names);
    resources.saturating_add(rule.non_resource_urls.len()).saturating_mul(rule.verbs.len())
}

fn break_down(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| vec![text.clone()];
    let mut atoms = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let atom = PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: one(verb),
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    atoms.push(atom);
                } else {
                    let named = rule.resource_names.iter();
                    atoms.extend(named.map(|name| PolicyRule { resource_names: one(name), ..atom.clone() }));
                }
            }
        }
    }
    for url in &rule.non_resource_urls {
        for verb in &rule.verbs {
            atoms.push(PolicyRule { non_resource_urls: one(url), verbs: one(verb), ..PolicyRule::default() });
        }
    }
    atoms
}

fn covers(owner: &PolicyRule, atom: &PolicyRule) -> bool {
    let all = |set: &[String], wanted: &[String]| wanted.iter().all(|w| set.contains(w));
    let all_or_star = |set: &[String], wanted: &[String]| set.iter().any(|s| s == "*") || all(set, wanted);
    let resource = |wanted: &String| {
        owner.resources.contains(wanted)
            || wanted.split_once('/').is_some_and(|(_, sub)| owner.resources.contains(&format!("*/{sub}")))
    };
    all_or_star(&owner.verbs, &atom.verbs)
        && all_or_star(&owner.api_groups, &atom.api_groups)
        && (owner.resources.iter().any(|r| r == "*") || atom.resources.iter().all(resource))
        && atom.non_resource_urls.iter().all(|url| owner.non_resource_urls.iter().any(|o| url_matches(o, url)))
        && (owner.resource_names.is_empty()
            || (!atom.resource_names.is_empty() && all(&owner.resource_names, &atom.resource_names)))
}

/// Joins atoms that differ only in the verb.
fn compact(atoms: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut joined: BTreeMap<(String, String, Option<String>), PolicyRule> = BTreeMap::new();
    let mut out = Vec::new();
    for atom in atoms {
        let key = match (atom.api_groups.as_slice(), atom.resources.as_slice(), atom.resource_names.as_slice()) {
            ([group], [resource], names @ ([] | [_])) if atom.non_resource_urls.is_empty() => {
                (group.clone(), resource.clone(), names.first().cloned())
            }
            _ => {
                out.push(atom);
                continue;
            }
        };
        joined.entry(key).and_modify(|known| known.verbs.extend(atom.verbs.iter().cloned())).or_insert(atom);
    }
    out.extend(joined.into_values());
    out
}

/// Compat: `CompactString`.
fn describe(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let shown: Vec<String> = parts
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quote_all(list)))
        .collect();
    format!("{{{}}}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str], urls: &[&str]) -> PolicyRule {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        PolicyRule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            non_resource_urls: own(urls),
        }
    }

    fn covered(owned: &[PolicyRule], wanted: &PolicyRule) -> bool {
        let owned: Vec<&PolicyRule> = owned.iter().collect();
        uncovered(&owned, std::slice::from_ref(wanted)).is_empty()
    }

    #[test]
    fn coverage_is_that_of_upstream() {
        let pods = |verbs: &[&str]| rule(verbs, &[""], &["pods"], &[], &[]);
        let table = [
            (vec![pods(&["get"])], pods(&["get"]), true),
            (vec![pods(&["get"])], pods(&["get", "list"]), false),
            (vec![pods(&["get"]), pods(&["list"])], pods(&["get", "list"]), true),
            (vec![pods(&["*"])], pods(&["get"]), true),
            (vec![pods(&["get"])], pods(&["*"]), false),
            (vec![rule(&["*"], &["*"], &["*"], &[], &[])], rule(&["x"], &["g"], &["r/s"], &["n"], &[]), true),
            (vec![rule(&["*"], &["*"], &["*"], &[], &[])], rule(&["get"], &[], &[], &[], &["/x"]), false),
            (vec![pods(&["get"])], rule(&["get"], &[""], &["pods/log"], &[], &[]), false),
            (vec![rule(&["get"], &[""], &["*/log"], &[], &[])], rule(&["get"], &[""], &["pods/log"], &[], &[]), true),
            (vec![rule(&["get"], &[""], &["*/log"], &[], &[])], rule(&["get"], &[""], &["*/log"], &[], &[]), true),
            (vec![pods(&["get"])], rule(&["get"], &[""], &["pods"], &["a"], &[]), true),
            (vec![rule(&["get"], &[""], &["pods"], &["a"], &[])], pods(&["get"]), false),
            (
                vec![rule(&["get"], &[""], &["pods"], &["a"], &[])],
                rule(&["get"], &[""], &["pods"], &["a", "b"], &[]),
                false,
            ),
            (vec![rule(&["get"], &[], &[], &[], &["/a*"])], rule(&["get"], &[], &[], &[], &["/abc", "/a*"]), true),
            (vec![rule(&["get"], &[], &[], &[], &["*"])], rule(&["get"], &[], &[], &[], &["/abc"]), true),
            (vec![rule(&["get"], &[], &[], &[], &["/abc"])], rule(&["get"], &[], &[], &[], &["/a*"]), false),
            (vec![], rule(&[], &[""], &["pods"], &[], &[]), true),
        ];
        for (owned, wanted, want) in table {
            assert_eq!(covered(&owned, &wanted), want, "{owned:?} covers {wanted:?}");
        }
    }

    #[test]
    fn the_refusal_has_the_text_of_the_real_server() {
        let user = UserInfo::new("sam", ["devs", "system:authenticated"]);
        let held = rule(&["get"], &[""], &["pods"], &[], &[]);
        let wanted = [
            rule(&["list", "get", "watch"], &[""], &["pods"], &[], &[]),
            rule(&["get", "a<b"], &["", "apps"], &["x"], &["n", "m"], &[]),
            rule(&["get", "put"], &[], &[], &[], &["/z*"]),
        ];
        let lost = crate::authorize::RoleError::NotFound { kind: "ClusterRole", name: "lost".to_owned() };
        let own = RulesFor { rules: vec![&held], errors: vec![lost] };
        assert_eq!(
            confirm_no_escalation(&user, &own, &wanted, "clusterroles").unwrap_err(),
            "user \"sam\" (groups=[\"devs\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}\n\
             {APIGroups:[\"\"], Resources:[\"x\"], ResourceNames:[\"m\"], Verbs:[\"get\" \"a<b\"]}\n\
             {APIGroups:[\"\"], Resources:[\"x\"], ResourceNames:[\"n\"], Verbs:[\"get\" \"a<b\"]}\n\
             {APIGroups:[\"apps\"], Resources:[\"x\"], ResourceNames:[\"m\"], Verbs:[\"get\" \"a<b\"]}\n\
             {APIGroups:[\"apps\"], Resources:[\"x\"], ResourceNames:[\"n\"], Verbs:[\"get\" \"a<b\"]}\n\
             {NonResourceURLs:[\"/z*\"], Verbs:[\"get\"]}\n\
             {NonResourceURLs:[\"/z*\"], Verbs:[\"put\"]}; resolution errors: [clusterroles.rbac.authorization.k8s.io \"lost\" not found]"
        );
        let all = RulesFor { rules: wanted.iter().collect(), errors: Vec::new() };
        assert_eq!(confirm_no_escalation(&user, &all, &wanted, "clusterroles"), Ok(()));
    }

    #[test]
    fn a_role_of_too_many_atoms_is_not_covered_and_costs_nothing() {
        let many: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        let huge =
            PolicyRule { verbs: many.clone(), api_groups: many.clone(), resources: many, ..PolicyRule::default() };
        let everything = rule(&["*"], &["*"], &["*"], &[], &[]);
        assert_eq!(uncovered(&[&everything], std::slice::from_ref(&huge)), [huge]);
    }
}
