//! Bringing what a cluster has up to what it should start with, at each start of the server.
//!
//! Missing permissions, subjects, labels and annotations are added, and what others added stays. An object whose annotation
//! `rbac.authorization.kubernetes.io/autoupdate` says `false` is left alone.
//!
//! Compat: `component-helpers/auth/rbac/reconciliation` of Kubernetes 1.37, as the hook `rbac/bootstrap-roles` uses it. As there, a
//! binding of another role is replaced, because its role cannot be changed.

use portcullis_kube::ObjectMeta;
use portcullis_kube::rbac::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use crate::escalation::uncovered;

/// Says `false` on an object that must not be reconciled.
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What has to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Reconciled<T> {
    /// Nothing.
    Keep,
    /// Write this over the existing object.
    Update(T),
    /// Delete the existing object and create this one.
    Recreate(T),
}

/// Reconciles a cluster role.
pub fn cluster_role(existing: &ClusterRole, expected: &ClusterRole) -> Reconciled<ClusterRole> {
    let mut role = existing.clone();
    role.metadata = merged(&existing.metadata, &expected.metadata);
    add_rules(&mut role.rules, &expected.rules);
    role.aggregation_rule = aggregation(existing.aggregation_rule.as_ref(), expected.aggregation_rule.as_ref());
    update(existing, role, &existing.metadata)
}

/// Reconciles a role.
pub fn role(existing: &Role, expected: &Role) -> Reconciled<Role> {
    let mut role = existing.clone();
    role.metadata = merged(&existing.metadata, &expected.metadata);
    add_rules(&mut role.rules, &expected.rules);
    update(existing, role, &existing.metadata)
}

/// Reconciles a cluster role binding.
pub fn cluster_role_binding(
    existing: &ClusterRoleBinding,
    expected: &ClusterRoleBinding,
) -> Reconciled<ClusterRoleBinding> {
    if let Some(recreated) = recreate(&existing.role_ref, expected, &expected.role_ref, &existing.metadata) {
        return recreated;
    }
    let mut binding = existing.clone();
    binding.metadata = merged(&existing.metadata, &expected.metadata);
    add_subjects(&mut binding.subjects, &expected.subjects);
    update(existing, binding, &existing.metadata)
}

/// Reconciles a role binding.
pub fn role_binding(existing: &RoleBinding, expected: &RoleBinding) -> Reconciled<RoleBinding> {
    if let Some(recreated) = recreate(&existing.role_ref, expected, &expected.role_ref, &existing.metadata) {
        return recreated;
    }
    let mut binding = existing.clone();
    binding.metadata = merged(&existing.metadata, &expected.metadata);
    add_subjects(&mut binding.subjects, &expected.subjects);
    update(existing, binding, &existing.metadata)
}

fn is_protected(metadata: &ObjectMeta) -> bool {
    metadata.annotations.get(AUTO_UPDATE).is_some_and(|value| value == "false")
}

fn update<T: PartialEq>(existing: &T, wanted: T, metadata: &ObjectMeta) -> Reconciled<T> {
    if is_protected(metadata) || *existing == wanted { Reconciled::Keep } else { Reconciled::Update(wanted) }
}

fn recreate<T: Clone>(
    existing_role: &RoleRef,
    expected: &T,
    expected_role: &RoleRef,
    metadata: &ObjectMeta,
) -> Option<Reconciled<T>> {
    (existing_role != expected_role)
        .then(|| if is_protected(metadata) { Reconciled::Keep } else { Reconciled::Recreate(expected.clone()) })
}

/// The existing metadata, with the expected labels and annotations where there are none.
fn merged(existing: &ObjectMeta, expected: &ObjectMeta) -> ObjectMeta {
    let mut metadata = existing.clone();
    for (key, value) in &expected.labels {
        metadata.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for (key, value) in &expected.annotations {
        metadata.annotations.entry(key.clone()).or_insert_with(|| value.clone());
    }
    metadata
}

fn add_rules(rules: &mut Vec<PolicyRule>, expected: &[PolicyRule]) {
    let missing = uncovered(&rules.iter().collect::<Vec<_>>(), expected);
    rules.extend(missing);
}

fn add_subjects(subjects: &mut Vec<Subject>, expected: &[Subject]) {
    for subject in expected {
        if !subjects.contains(subject) {
            subjects.push(subject.clone());
        }
    }
}

/// A role that is not expected to be aggregated is so no longer; otherwise missing selectors are added.
fn aggregation(existing: Option<&AggregationRule>, expected: Option<&AggregationRule>) -> Option<AggregationRule> {
    let expected = expected?;
    let mut rule = existing.cloned().unwrap_or_default();
    for selector in &expected.cluster_role_selectors {
        if !rule.cluster_role_selectors.contains(selector) {
            rule.cluster_role_selectors.push(selector.clone());
        }
    }
    Some(rule)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bootstrap;

    fn rule(verbs: &[&str], resource: &str) -> PolicyRule {
        PolicyRule {
            verbs: verbs.iter().map(|&v| v.to_owned()).collect(),
            api_groups: vec![String::new()],
            resources: vec![resource.to_owned()],
            ..PolicyRule::default()
        }
    }

    fn named(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
        ClusterRole { metadata: ObjectMeta::named(name), rules, ..ClusterRole::default() }
    }

    #[test]
    fn what_a_cluster_starts_with_needs_nothing() {
        let objects = bootstrap::objects();
        for role in &objects.cluster_roles {
            assert_eq!(cluster_role(role, role), Reconciled::Keep);
        }
        for binding in &objects.cluster_role_bindings {
            assert_eq!(cluster_role_binding(binding, binding), Reconciled::Keep);
        }
        for item in &objects.roles {
            assert_eq!(role(item, item), Reconciled::Keep);
        }
        for binding in &objects.role_bindings {
            assert_eq!(role_binding(binding, binding), Reconciled::Keep);
        }
    }

    #[test]
    fn missing_permissions_are_added_one_by_one_and_more_of_them_stay() {
        let existing = named("r", vec![rule(&["get"], "pods"), rule(&["*"], "extra")]);
        let mut expected = named("r", vec![rule(&["get", "list"], "pods")]);
        expected.metadata.labels.insert("a".to_owned(), "1".to_owned());
        let Reconciled::Update(new) = cluster_role(&existing, &expected) else { panic!("an update") };
        assert_eq!(new.rules, [rule(&["get"], "pods"), rule(&["*"], "extra"), rule(&["list"], "pods")]);
        assert_eq!(new.metadata.labels["a"], "1");
    }

    #[test]
    fn labels_that_someone_changed_stay_changed() {
        let mut existing = named("r", vec![]);
        existing.metadata.labels.insert("a".to_owned(), "mine".to_owned());
        let mut expected = named("r", vec![]);
        expected.metadata.labels.insert("a".to_owned(), "1".to_owned());
        assert_eq!(cluster_role(&existing, &expected), Reconciled::Keep);
    }

    #[test]
    fn a_protected_object_is_left_alone() {
        let mut existing = named("r", vec![]);
        existing.metadata.annotations.insert(AUTO_UPDATE.to_owned(), "false".to_owned());
        assert_eq!(cluster_role(&existing, &named("r", vec![rule(&["get"], "pods")])), Reconciled::Keep);
        let mut binding = ClusterRoleBinding::new("b", "old", vec![]);
        let wanted = ClusterRoleBinding::new("b", "new", vec![Subject::user("u")]);
        assert_eq!(cluster_role_binding(&binding, &wanted), Reconciled::Recreate(wanted.clone()));
        binding.metadata.annotations.insert(AUTO_UPDATE.to_owned(), "false".to_owned());
        assert_eq!(cluster_role_binding(&binding, &wanted), Reconciled::Keep);
    }

    #[test]
    fn selectors_are_added_and_an_unexpected_aggregation_ends() {
        let view = bootstrap::objects().cluster_roles.iter().find(|role| role.metadata.name == "view").unwrap();
        let mut plain = view.clone();
        plain.aggregation_rule = None;
        assert_eq!(cluster_role(&plain, view), Reconciled::Update(view.clone()));
        assert_eq!(cluster_role(view, &plain), Reconciled::Update(plain));
    }

    #[test]
    fn missing_subjects_are_added_once() {
        let existing = ClusterRoleBinding::new("b", "r", vec![Subject::user("mine")]);
        let expected = ClusterRoleBinding::new("b", "r", vec![Subject::group("g"), Subject::group("g")]);
        let Reconciled::Update(new) = cluster_role_binding(&existing, &expected) else { panic!("an update") };
        assert_eq!(new.subjects, [Subject::user("mine"), Subject::group("g")]);
    }

    fn rules() -> impl Strategy<Value = Vec<PolicyRule>> {
        let words = |list: &'static [&'static str]| {
            proptest::collection::vec(proptest::sample::select(list), 0..3)
                .prop_map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let rule =
            (words(&["get", "list", "*"]), words(&["", "apps", "*"]), words(&["pods", "*/scale", "*"]), words(&["a"]));
        let rule = rule.prop_map(|(verbs, api_groups, resources, resource_names)| PolicyRule {
            verbs,
            api_groups,
            resources,
            resource_names,
            ..PolicyRule::default()
        });
        proptest::collection::vec(rule, 0..4)
    }

    proptest! {
        #[test]
        fn reconciling_grants_what_is_expected_takes_nothing_and_is_done_once(existing in rules(), expected in rules()) {
            let (existing, expected) = (named("r", existing), named("r", expected));
            let after = match cluster_role(&existing, &expected) {
                Reconciled::Keep => existing.clone(),
                Reconciled::Update(role) => role,
                Reconciled::Recreate(_) => panic!("roles are never replaced"),
            };
            prop_assert!(after.rules.starts_with(&existing.rules));
            prop_assert!(uncovered(&after.rules.iter().collect::<Vec<_>>(), &expected.rules).is_empty());
            prop_assert_eq!(cluster_role(&after, &expected), Reconciled::Keep);
        }
    }
}
