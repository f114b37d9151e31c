//! Aggregated cluster roles: the union of the rules of those that a role's selectors find.
//!
//! Compat: `clusterroleaggregation` controller of Kubernetes 1.37: selectors in order, roles by name, without the role itself,
//! equal rules once.

use portcullis_kube::rbac::{ClusterRole, PolicyRule};

/// The rules that an aggregated role should have; `None` for a role without an aggregation rule. `all` is ordered by name.
pub fn aggregated_rules<'a>(
    role: &ClusterRole,
    all: impl Iterator<Item = &'a ClusterRole> + Clone,
) -> Option<Vec<PolicyRule>> {
    let aggregation = role.aggregation_rule.as_ref()?;
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in &aggregation.cluster_role_selectors {
        let others = all.clone().filter(|other| other.metadata.name != role.metadata.name);
        for other in others.filter(|other| selector.matches(&other.metadata.labels)) {
            for rule in &other.rules {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use portcullis_kube::ObjectMeta;
    use portcullis_kube::meta::LabelSelector;
    use portcullis_kube::rbac::AggregationRule;

    use crate::policy::{Policy, PolicySource as _};

    use super::*;

    fn rule(resource: &str) -> PolicyRule {
        PolicyRule { verbs: vec!["get".to_owned()], resources: vec![resource.to_owned()], ..PolicyRule::default() }
    }

    fn role(name: &str, labels: &[&str], rules: Vec<PolicyRule>, selects: &[&str]) -> ClusterRole {
        let mut metadata = ObjectMeta::named(name);
        metadata.labels = labels.iter().map(|&l| (l.to_owned(), "true".to_owned())).collect();
        let selector = |label: &&str| LabelSelector {
            match_labels: [((*label).to_owned(), "true".to_owned())].into(),
            ..LabelSelector::default()
        };
        let aggregation_rule = (!selects.is_empty())
            .then(|| AggregationRule { cluster_role_selectors: selects.iter().map(selector).collect() });
        ClusterRole { metadata, rules, aggregation_rule, ..ClusterRole::default() }
    }

    fn resources(policy: &Policy, name: &str) -> Vec<String> {
        policy.cluster_role(name).unwrap().rules.iter().flat_map(|r| r.resources.clone()).collect()
    }

    #[test]
    fn a_chain_is_followed_rules_come_in_order_and_once() {
        let mut policy = Policy::default();
        policy.set_cluster_role(role("admin", &["to-admin"], vec![], &["to-admin"]));
        policy.set_cluster_role(role("edit", &["to-admin"], vec![], &["to-edit"]));
        policy.set_cluster_role(role("z", &["to-admin"], vec![rule("z")], &[]));
        policy.set_cluster_role(role("b", &["to-edit"], vec![rule("b"), rule("a")], &[]));
        policy.set_cluster_role(role("a", &["to-edit", "to-admin"], vec![rule("a")], &[]));
        let changed: Vec<String> = policy.aggregate().iter().map(|r| r.metadata.name.clone()).collect();
        assert_eq!(changed, ["admin", "edit"]);
        assert_eq!(resources(&policy, "edit"), ["a", "b"]);
        assert_eq!(resources(&policy, "admin"), ["a", "b", "z"]);
        assert!(policy.aggregate().is_empty());
    }

    #[test]
    fn a_circle_ends() {
        let mut policy = Policy::default();
        policy.set_cluster_role(role("a", &["x"], vec![], &["y"]));
        policy.set_cluster_role(role("b", &["y"], vec![], &["x", "z"]));
        policy.set_cluster_role(role("c", &["z"], vec![rule("c")], &[]));
        policy.aggregate();
        assert_eq!(resources(&policy, "a"), ["c"]);
        assert_eq!(resources(&policy, "b"), ["c"]);
    }

    fn set_rules(policy: &mut Policy, name: &str, rules: Vec<PolicyRule>) {
        let role = policy.cluster_role(name).unwrap().clone();
        policy.set_cluster_role(ClusterRole { rules, ..role });
    }

    #[test]
    fn what_the_selectors_no_longer_find_is_gone() {
        let mut policy = Policy::default();
        policy.set_cluster_role(role("a", &[], vec![], &["x"]));
        policy.set_cluster_role(role("part", &["x"], vec![rule("part")], &[]));
        policy.aggregate();
        assert_eq!(resources(&policy, "a"), ["part"]);
        policy.remove_cluster_role("part");
        assert_eq!(policy.aggregate().len(), 1);
        assert_eq!(resources(&policy, "a"), Vec::<String>::new());
    }

    #[test]
    fn rules_written_by_hand_are_overwritten_but_never_by_nothing() {
        let mut policy = Policy::default();
        policy.set_cluster_role(role("a", &[], vec![rule("hand")], &["x"]));
        assert!(policy.aggregate().is_empty());
        assert_eq!(resources(&policy, "a"), ["hand"]);
        policy.set_cluster_role(role("part", &["x"], vec![rule("part")], &[]));
        policy.aggregate();
        set_rules(&mut policy, "a", vec![rule("hand")]);
        policy.aggregate();
        assert_eq!(resources(&policy, "a"), ["part"]);
        policy.remove_cluster_role("part");
        policy.aggregate();
        set_rules(&mut policy, "a", vec![rule("hand")]);
        assert!(policy.aggregate().is_empty());
        assert_eq!(resources(&policy, "a"), ["hand"]);
    }

    #[test]
    fn what_a_store_held_counts_as_aggregated() {
        let mut policy = Policy::default();
        policy.set_cluster_role(role("a", &[], vec![rule("old")], &["x"]));
        policy.adopt_aggregated();
        policy.aggregate();
        assert_eq!(resources(&policy, "a"), Vec::<String>::new());
    }

    #[test]
    fn selectors_may_have_expressions_and_an_empty_one_finds_every_other_role() {
        let mut policy = Policy::default();
        let mut all = role("all", &[], vec![], &[]);
        all.aggregation_rule = Some(AggregationRule { cluster_role_selectors: vec![LabelSelector::default()] });
        policy.set_cluster_role(all);
        policy.set_cluster_role(role("x", &["x"], vec![rule("x")], &[]));
        policy.set_cluster_role(role("y", &["y"], vec![rule("y")], &[]));
        let mut not_x = role("not-x", &[], vec![], &[]);
        let requirement = portcullis_kube::meta::SelectorRequirement {
            key: "x".to_owned(),
            operator: "DoesNotExist".to_owned(),
            values: Vec::new(),
        };
        let selector = LabelSelector { match_expressions: vec![requirement], ..LabelSelector::default() };
        not_x.aggregation_rule = Some(AggregationRule { cluster_role_selectors: vec![selector] });
        policy.set_cluster_role(not_x);
        policy.aggregate();
        // The two find each other: what one gathers comes to the other, in an order that depends on who was first.
        for name in ["all", "not-x"] {
            let mut found = resources(&policy, name);
            found.sort();
            assert_eq!(found, ["x", "y"], "{name}");
        }
    }
}
