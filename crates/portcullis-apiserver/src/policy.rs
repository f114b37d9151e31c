//! The authorizer's view of the RBAC objects in the store, and what may be written to them.
//!
//! After each write the object is read again from the store and put into the policy (or taken out), so that the last
//! refresh always shows the last state. Requests read a shared snapshot. Aggregated cluster roles are brought up to date
//! in the same step and written back to the store.
//!
//! Nobody grants more than they have: writing a role or binding one is checked against the writer's own rules.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use portcullis_kube::user_info::MASTERS_GROUP;
use portcullis_kube::{ObjectMeta, Status, UserInfo};
use portcullis_rbac::escalation::confirm_no_escalation;
use portcullis_rbac::{
    Attributes, Policy, ResourceTarget, RoleError, authorize, forbidden, referenced_rules, rules_for,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::http::Outcome;
use crate::resources::{self, Resource, rbac};
use crate::store::Store;

const GROUP: &str = portcullis_kube::rbac::GROUP;

/// The policy in force.
#[derive(Debug, Default)]
pub(crate) struct LivePolicy {
    current: RwLock<Arc<Policy>>,
    /// Held while a change is taken over, so that two of them cannot overtake each other.
    refreshing: Mutex<()>,
}

impl LivePolicy {
    /// The policy at this moment.
    pub(crate) fn snapshot(&self) -> Arc<Policy> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts what the store holds in force, as at start.
    pub(crate) fn load(&self, store: &Store) {
        let _turn = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut policy = Policy::default();
        fn each<T: DeserializeOwned>(store: &Store, resource: &'static Resource, mut take: impl FnMut(T)) {
            store.all(resource, "").iter().filter_map(|object| rbac::read(&object.members())).for_each(&mut take);
        }
        each(store, resources::cluster_roles(), |role: ClusterRole| policy.set_cluster_role(role));
        each(store, resources::cluster_role_bindings(), |binding: ClusterRoleBinding| {
            policy.set_cluster_role_binding(binding);
        });
        each(store, resources::roles(), |role: Role| policy.set_role(role));
        each(store, resources::role_bindings(), |binding: RoleBinding| policy.set_role_binding(binding));
        policy.adopt_aggregated();
        for role in policy.aggregate() {
            write_rules(store, &role);
        }
        self.replace(policy);
    }

    fn replace(&self, policy: Policy) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Takes over what the store holds under that name. Other resources than the RBAC ones are ignored.
    pub(crate) fn refresh(&self, store: &Store, resource: &Resource, namespace: &str, name: &str) {
        if resource.group != GROUP {
            return;
        }
        let _turn = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut policy = Policy::clone(&self.snapshot());
        let members = store.get(resource, namespace, name).map(|object| object.members());
        // What is not there, or could not be read, grants nothing.
        match resource.kind {
            "Role" => match members.as_ref().and_then(rbac::read::<Role>) {
                Some(role) => policy.set_role(role),
                None => drop(policy.remove_role(namespace, name)),
            },
            "ClusterRole" => match members.as_ref().and_then(rbac::read::<ClusterRole>) {
                Some(role) => policy.set_cluster_role(role),
                None => drop(policy.remove_cluster_role(name)),
            },
            "RoleBinding" => match members.as_ref().and_then(rbac::read::<RoleBinding>) {
                Some(binding) => policy.set_role_binding(binding),
                None => drop(policy.remove_role_binding(namespace, name)),
            },
            _ => match members.as_ref().and_then(rbac::read::<ClusterRoleBinding>) {
                Some(binding) => policy.set_cluster_role_binding(binding),
                None => drop(policy.remove_cluster_role_binding(name)),
            },
        }
        if resource.kind == "ClusterRole" {
            for role in policy.aggregate() {
                write_rules(store, &role);
            }
        }
        self.replace(policy);
    }
}

/// Writes an aggregated role's rules to the store; retried when someone else changed the role meanwhile.
fn write_rules(store: &Store, role: &ClusterRole) {
    for _ in 0..8 {
        let Some(old) = store.get(resources::cluster_roles(), "", &role.metadata.name) else { return };
        let mut members = old.members();
        if let Some(rules) = rbac::members(role).remove("rules") {
            members.insert("rules".to_owned(), rules);
        }
        if store.replace(resources::cluster_roles(), &old, members).is_ok() {
            return;
        }
    }
    tracing::warn!(role = role.metadata.name, "an aggregated cluster role could not be brought up to date");
}

/// Whether `user` may write this role or binding: members of `system:masters`, whoever may `escalate` (roles) or `bind`
/// (bindings), and whoever already has all that it grants. `place` is the namespace and the name in the request's path; the
/// name is empty for a POST, so that a grant of `escalate` with names says nothing about it.
///
/// Compat: `pkg/registry/rbac/*/policybased` of Kubernetes 1.37. It comes before validation, and a change of nothing but what
/// garbage collection needs (finalizers, owners) is free.
pub(crate) fn check_escalation(
    policy: &Policy,
    user: &UserInfo,
    resource: &Resource,
    place: (&str, &str),
    new: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
) -> Outcome<()> {
    if resource.group != GROUP || user.in_group(MASTERS_GROUP) {
        return Ok(());
    }
    let (namespace, name_in_path) = place;
    let refuse = |name: &str, why: &str| Err(Box::new(Status::forbidden(resource.group_resource(), name, why)));
    if let "Role" | "ClusterRole" = resource.kind {
        if may(policy, user, "escalate", resource.plural, namespace, name_in_path) {
            return Ok(());
        }
        let Some(role) = rbac::read::<ClusterRole>(new) else { return Err(unread(resource)) };
        let before = old.and_then(rbac::read::<ClusterRole>);
        if before.as_ref().is_some_and(|before| {
            let metadata = only_for_collection(&role.metadata, &before.metadata);
            ClusterRole { metadata, ..role.clone() } == *before
        }) {
            return Ok(());
        }
        let name = &role.metadata.name;
        covered(policy, user, namespace, &role.rules, resource).or_else(|why| refuse(name, &why))?;
        if aggregates(&role) || before.as_ref().is_some_and(aggregates) {
            covered(policy, user, namespace, &everything(), resource)
                .or_else(|_| refuse(name, "must have cluster-admin privileges to use the aggregationRule"))?;
        }
        return Ok(());
    }
    let Some(mut binding) = rbac::read::<RoleBinding>(new) else { return Err(unread(resource)) };
    binding.set_defaults();
    if old.and_then(rbac::read::<RoleBinding>).is_some_and(|before| {
        let metadata = only_for_collection(&binding.metadata, &before.metadata);
        RoleBinding { metadata, ..binding.clone() } == before
    }) {
        return Ok(());
    }
    let role = &binding.role_ref;
    let roles = match role.kind.as_str() {
        "Role" => Some("roles"),
        "ClusterRole" => Some("clusterroles"),
        _ => None,
    };
    if roles.is_some_and(|roles| may_bind(policy, user, role, roles, namespace)) {
        return Ok(());
    }
    let rules = referenced_rules(policy, role, namespace).map_err(|error| match error {
        // Compat: a role that is not there is reported under the resource that was to be written.
        RoleError::NotFound { name, .. } => Box::new(Status::not_found(resource.group_resource(), &name)),
        RoleError::UnsupportedKind(_) => Box::new(Status::failure(500, "", error.to_string())),
    })?;
    covered(policy, user, namespace, rules, resource).or_else(|why| refuse(&binding.metadata.name, &why))
}

/// Whether `user` may create the object that a PUT names and that is not there: `update` alone is not enough.
pub(crate) fn check_create_on_update(
    policy: &Policy,
    user: &UserInfo,
    resource: &Resource,
    (namespace, name): (&str, &str),
) -> Outcome<()> {
    let target = ResourceTarget {
        namespace,
        api_group: resource.group,
        api_version: resource.version,
        resource: resource.plural,
        subresource: "",
        name,
    };
    let attributes = Attributes::resource(user, "create", target);
    let decision = authorize(policy, &attributes);
    if decision.allowed { Ok(()) } else { Err(Box::new(forbidden(&attributes, &decision.reason))) }
}

/// An object that was decoded and cannot be read as what it grants: a mistake of ours, which must not grant anything.
fn unread(resource: &Resource) -> Box<Status> {
    Box::new(Status::internal_error(&format!("the {} could not be read for its check", resource.kind)))
}

/// New metadata with what garbage collection changes taken from the old: equal, when nothing else changed.
fn only_for_collection(new: &ObjectMeta, old: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        owner_references: old.owner_references.clone(),
        finalizers: old.finalizers.clone(),
        self_link: old.self_link.clone(),
        managed_fields: old.managed_fields.clone(),
        ..new.clone()
    }
}

fn aggregates(role: &ClusterRole) -> bool {
    role.aggregation_rule.as_ref().is_some_and(|rule| !rule.cluster_role_selectors.is_empty())
}

fn may(policy: &Policy, user: &UserInfo, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let target = ResourceTarget { namespace, api_group: GROUP, api_version: "*", resource, subresource: "", name };
    authorize(policy, &Attributes::resource(user, verb, target)).allowed
}

fn may_bind(policy: &Policy, user: &UserInfo, role: &RoleRef, resource: &str, namespace: &str) -> bool {
    let (api_group, name) = (role.api_group.as_str(), role.name.as_str());
    let target = ResourceTarget { namespace, api_group, api_version: "*", resource, subresource: "", name };
    authorize(policy, &Attributes::resource(user, "bind", target)).allowed
}

fn covered(
    policy: &Policy,
    user: &UserInfo,
    namespace: &str,
    wanted: &[PolicyRule],
    resource: &Resource,
) -> Result<(), String> {
    confirm_no_escalation(user, &rules_for(policy, user, namespace), wanted, resource.plural)
}

fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { verbs: all(), api_groups: all(), resources: all(), ..PolicyRule::default() },
        PolicyRule { verbs: all(), non_resource_urls: all(), ..PolicyRule::default() },
    ]
}

#[cfg(test)]
mod tests {
    use portcullis_kube::rbac::Subject;
    use serde_json::json;

    use super::*;
    use crate::store::StoreLimits;

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn role(name: &str, resource: &str, labels: Value) -> Map<String, Value> {
        members(json!({"metadata": {"name": name, "labels": labels},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]}))
    }

    fn can_get(policy: &LivePolicy, user: &str, resource: &str) -> bool {
        let user = UserInfo::new(user, [""; 0]);
        let target = ResourceTarget { resource, api_version: "v1", ..ResourceTarget::default() };
        authorize(&*policy.snapshot(), &Attributes::resource(&user, "get", target)).allowed
    }

    #[test]
    fn a_binding_counts_from_its_creation_to_its_end() {
        let (store, policy) = (Store::new(StoreLimits::default()), LivePolicy::default());
        let refresh = |resource, name| policy.refresh(&store, resource, "", name);
        store.create(resources::cluster_roles(), role("r", "pods", json!({}))).unwrap();
        refresh(resources::cluster_roles(), "r");
        assert!(!can_get(&policy, "u", "pods"));
        let binding = rbac::members(&ClusterRoleBinding::new("b", "r", vec![Subject::user("u")]));
        let binding = store.create(resources::cluster_role_bindings(), binding).unwrap();
        refresh(resources::cluster_role_bindings(), "b");
        assert!(can_get(&policy, "u", "pods") && !can_get(&policy, "v", "pods"));
        store.remove(resources::cluster_role_bindings(), &binding).unwrap();
        refresh(resources::cluster_role_bindings(), "b");
        assert!(!can_get(&policy, "u", "pods"));
    }

    #[test]
    fn aggregated_roles_follow_their_parts_in_policy_and_store() {
        let (store, policy) = (Store::new(StoreLimits::default()), LivePolicy::default());
        let whole = members(json!({"metadata": {"name": "all"}, "rules": null,
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"agg": "yes"}}]}}));
        store.create(resources::cluster_roles(), whole).unwrap();
        policy.refresh(&store, resources::cluster_roles(), "", "all");
        store.create(resources::cluster_roles(), role("part", "pods", json!({"agg": "yes"}))).unwrap();
        policy.refresh(&store, resources::cluster_roles(), "", "part");
        let rules = |store: &Store| store.get(resources::cluster_roles(), "", "all").unwrap().tree()["rules"].clone();
        assert_eq!(rules(&store)[0]["resources"][0], "pods");
        let part = store.get(resources::cluster_roles(), "", "part").unwrap();
        store.remove(resources::cluster_roles(), &part).unwrap();
        policy.refresh(&store, resources::cluster_roles(), "", "part");
        assert_eq!(rules(&store), Value::Null);
    }

    #[test]
    fn nobody_grants_more_than_they_have() {
        let live = LivePolicy::default();
        let mut policy = Policy::default();
        policy.set_cluster_role(rbac::read::<ClusterRole>(&role("own", "pods", json!({}))).unwrap());
        policy.set_cluster_role(rbac::read::<ClusterRole>(&role("big", "secrets", json!({}))).unwrap());
        policy.set_cluster_role_binding(ClusterRoleBinding::new("b", "own", vec![Subject::user("u")]));
        live.replace(policy);
        let check = |user: &UserInfo, resource: &Resource, new: &Map<String, Value>| {
            check_escalation(&live.snapshot(), user, resource, ("", ""), new, None)
                .map_err(|status| (status.code, status.message.clone()))
        };
        let user = UserInfo::new("u", [""; 0]);
        let binding = |role: &str| rbac::members(&ClusterRoleBinding::new("n", role, vec![Subject::user("x")]));
        assert!(check(&user, resources::cluster_role_bindings(), &binding("own")).is_ok());
        assert_eq!(check(&user, resources::cluster_role_bindings(), &binding("big")).unwrap_err().0, 403);
        assert_eq!(check(&user, resources::cluster_role_bindings(), &binding("none")).unwrap_err().0, 404);
        assert!(check(&user, resources::cluster_roles(), &role("n", "pods", json!({}))).is_ok());
        let (code, message) = check(&user, resources::cluster_roles(), &role("n", "secrets", json!({}))).unwrap_err();
        assert_eq!(code, 403);
        assert!(message.contains("is attempting to grant RBAC permissions not currently held"), "{message}");
        let mut aggregated = role("n", "pods", json!({}));
        aggregated.insert("aggregationRule".to_owned(), json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}));
        assert!(check(&user, resources::cluster_roles(), &aggregated).unwrap_err().1.contains("cluster-admin"));
        let master = UserInfo::new("m", ["system:masters"]);
        assert!(check(&master, resources::cluster_role_bindings(), &binding("none")).is_ok());
    }

    #[test]
    fn what_cannot_be_read_grants_nothing() {
        let (store, policy) = (Store::new(StoreLimits::default()), LivePolicy::default());
        let refresh = |resource, name| policy.refresh(&store, resource, "", name);
        store.create(resources::cluster_roles(), role("r", "pods", json!({}))).unwrap();
        let bound = rbac::members(&ClusterRoleBinding::new("b", "r", vec![Subject::user("u")]));
        let bound = store.create(resources::cluster_role_bindings(), bound).unwrap();
        refresh(resources::cluster_roles(), "r");
        refresh(resources::cluster_role_bindings(), "b");
        assert!(can_get(&policy, "u", "pods"));
        let odd = members(json!({"metadata": {"name": "b"}, "roleRef": 7}));
        store.replace(resources::cluster_role_bindings(), &bound, odd).unwrap();
        refresh(resources::cluster_role_bindings(), "b");
        assert!(!can_get(&policy, "u", "pods"));
        let user = UserInfo::new("u", [""; 0]);
        for resource in [resources::cluster_role_bindings(), resources::cluster_roles()] {
            let odd = members(json!({"metadata": {"name": "b"}, "roleRef": 7, "rules": 7}));
            let refused = check_escalation(&Policy::default(), &user, resource, ("", "b"), &odd, None).unwrap_err();
            assert_eq!(refused.code, 500, "{}", refused.message);
        }
    }

    /// A policy in which `u` may do one thing.
    fn may_do(verbs: &[&str], resources: &[&str], names: &[&str]) -> Policy {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        let rule = PolicyRule {
            verbs: own(verbs),
            api_groups: vec![GROUP.to_owned()],
            resources: own(resources),
            resource_names: own(names),
            ..PolicyRule::default()
        };
        let mut policy = Policy::default();
        let metadata = ObjectMeta::named("own");
        policy.set_cluster_role(ClusterRole { metadata, rules: vec![rule], ..ClusterRole::default() });
        for name in ["big", "bigger"] {
            policy.set_cluster_role(rbac::read::<ClusterRole>(&role(name, "secrets", json!({}))).unwrap());
        }
        policy.set_cluster_role_binding(ClusterRoleBinding::new("b", "own", vec![Subject::user("u")]));
        policy
    }

    #[test]
    fn escalate_with_names_counts_for_the_name_in_the_path_only() {
        let policy = may_do(&["escalate"], &["clusterroles"], &["n"]);
        let user = UserInfo::new("u", [""; 0]);
        let new = role("n", "secrets", json!({}));
        let check = |name: &str| check_escalation(&policy, &user, resources::cluster_roles(), ("", name), &new, None);
        assert!(check("n").is_ok());
        assert_eq!(check("").unwrap_err().code, 403);
        assert_eq!(check("m").unwrap_err().code, 403);
    }

    #[test]
    fn bind_is_asked_for_the_role_that_is_bound() {
        let policy = may_do(&["bind"], &["clusterroles"], &["big"]);
        let user = UserInfo::new("u", [""; 0]);
        let check = |role: &str| {
            let new = rbac::members(&ClusterRoleBinding::new("n", role, vec![Subject::user("x")]));
            check_escalation(&policy, &user, resources::cluster_role_bindings(), ("", "n"), &new, None)
        };
        assert!(check("big").is_ok());
        assert_eq!(check("none").unwrap_err().code, 404);
        assert_eq!(check("bigger").unwrap_err().code, 403);
    }

    #[test]
    fn only_what_garbage_collection_changes_is_free() {
        let policy = Policy::default();
        let user = UserInfo::new("u", [""; 0]);
        let old = role("n", "secrets", json!({"a": "b"}));
        let check = |change: &dyn Fn(&mut Map<String, Value>)| {
            let mut new = old.clone();
            change(new["metadata"].as_object_mut().unwrap());
            check_escalation(&policy, &user, resources::cluster_roles(), ("", "n"), &new, Some(&old)).is_ok()
        };
        assert!(check(&|_| {}));
        assert!(check(&|metadata| drop(metadata.insert("finalizers".to_owned(), json!(["x/y"])))));
        assert!(check(&|metadata| drop(metadata.insert("ownerReferences".to_owned(), json!([{"name": "o"}])))));
        assert!(!check(&|metadata| drop(metadata.insert("labels".to_owned(), json!({})))));
        assert!(!check(&|metadata| drop(metadata.insert("annotations".to_owned(), json!({"a": "b"})))));
    }

    #[test]
    fn a_put_that_creates_needs_create() {
        let user = UserInfo::new("u", [""; 0]);
        let check = |verbs: &[&str], name: &str| {
            let policy = may_do(verbs, &["clusterroles"], &["n"]);
            check_create_on_update(&policy, &user, resources::cluster_roles(), ("", name))
        };
        assert!(check(&["create"], "n").is_ok());
        assert!(check(&["create"], "m").is_err());
        let refusal = check(&["update"], "n").unwrap_err();
        assert!(refusal.message.contains("cannot create resource \"clusterroles\""), "{}", refusal.message);
    }
}
