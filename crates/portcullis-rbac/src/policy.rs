//! Roles and bindings, and where an authorizer finds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};

use crate::aggregate::aggregated_rules;

/// What an authorizer reads. Order decides only which reason is given, so it should be stable.
pub trait PolicySource {
    /// All cluster role bindings.
    fn cluster_role_bindings(&self) -> Box<dyn Iterator<Item = &ClusterRoleBinding> + '_>;
    /// The role bindings of a namespace.
    fn role_bindings(&self, namespace: &str) -> Box<dyn Iterator<Item = &RoleBinding> + '_>;
    /// A cluster role.
    fn cluster_role(&self, name: &str) -> Option<&ClusterRole>;
    /// A role.
    fn role(&self, namespace: &str, name: &str) -> Option<&Role>;
}

/// A policy in memory, ordered by name. Cloning is cheap: objects are shared, so a server can swap whole policies while
/// requests read the old one.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    cluster_roles: BTreeMap<String, Arc<ClusterRole>>,
    cluster_role_bindings: BTreeMap<String, Arc<ClusterRoleBinding>>,
    roles: BTreeMap<String, BTreeMap<String, Arc<Role>>>,
    role_bindings: BTreeMap<String, BTreeMap<String, Arc<RoleBinding>>>,
    /// Aggregated roles as aggregation last wrote them: rules that someone else wrote since are theirs.
    aggregated: BTreeMap<String, Arc<ClusterRole>>,
}

impl Policy {
    /// Adds or replaces a cluster role.
    pub fn set_cluster_role(&mut self, role: impl Into<Arc<ClusterRole>>) {
        let role = role.into();
        self.cluster_roles.insert(role.metadata.name.clone(), role);
    }

    /// Adds or replaces a cluster role binding.
    pub fn set_cluster_role_binding(&mut self, binding: impl Into<Arc<ClusterRoleBinding>>) {
        let binding = binding.into();
        self.cluster_role_bindings.insert(binding.metadata.name.clone(), binding);
    }

    /// Adds or replaces a role in its namespace.
    pub fn set_role(&mut self, role: impl Into<Arc<Role>>) {
        let role = role.into();
        let namespace = self.roles.entry(role.metadata.namespace.clone()).or_default();
        namespace.insert(role.metadata.name.clone(), role);
    }

    /// Adds or replaces a role binding in its namespace.
    pub fn set_role_binding(&mut self, binding: impl Into<Arc<RoleBinding>>) {
        let binding = binding.into();
        let namespace = self.role_bindings.entry(binding.metadata.namespace.clone()).or_default();
        namespace.insert(binding.metadata.name.clone(), binding);
    }

    /// Removes a cluster role; whether there was one.
    pub fn remove_cluster_role(&mut self, name: &str) -> bool {
        self.aggregated.remove(name);
        self.cluster_roles.remove(name).is_some()
    }

    /// Removes a cluster role binding; whether there was one.
    pub fn remove_cluster_role_binding(&mut self, name: &str) -> bool {
        self.cluster_role_bindings.remove(name).is_some()
    }

    /// Removes a role; whether there was one.
    pub fn remove_role(&mut self, namespace: &str, name: &str) -> bool {
        self.roles.get_mut(namespace).is_some_and(|roles| roles.remove(name).is_some())
    }

    /// Removes a role binding; whether there was one.
    pub fn remove_role_binding(&mut self, namespace: &str, name: &str) -> bool {
        self.role_bindings.get_mut(namespace).is_some_and(|bindings| bindings.remove(name).is_some())
    }

    /// The cluster roles, ordered by name.
    pub fn cluster_roles(&self) -> impl Iterator<Item = &Arc<ClusterRole>> {
        self.cluster_roles.values()
    }

    /// The roles of all namespaces.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values().flat_map(BTreeMap::values)
    }

    /// The role bindings of all namespaces.
    pub fn all_role_bindings(&self) -> impl Iterator<Item = &Arc<RoleBinding>> {
        self.role_bindings.values().flat_map(BTreeMap::values)
    }

    /// Brings the rules of all aggregated cluster roles up to date, as the aggregation controller does, until nothing changes.
    /// The changed roles, each once.
    ///
    /// Compat: the controller applies its rules over whatever others wrote. When it finds none it gives up its own, but rules that
    /// someone wrote by hand stay.
    pub fn aggregate(&mut self) -> Vec<Arc<ClusterRole>> {
        let mut changed = BTreeMap::new();
        // Roles can aggregate aggregated roles; a chain is at most as long as there are roles, and a circle only grows until
        // each holds the union.
        for _round in 0..=self.cluster_roles.len() {
            let mut updates = Vec::new();
            for role in self.cluster_roles.values() {
                if let Some(rules) = aggregated_rules(role, self.cluster_roles.values().map(Arc::as_ref))
                    && rules != role.rules
                    && (!rules.is_empty() || self.has_rules_of_its_own_making(role))
                {
                    updates.push(Arc::new(ClusterRole { rules, ..ClusterRole::clone(role) }));
                }
            }
            if updates.is_empty() {
                break;
            }
            for role in updates {
                changed.insert(role.metadata.name.clone(), Arc::clone(&role));
                self.aggregated.insert(role.metadata.name.clone(), Arc::clone(&role));
                self.cluster_roles.insert(role.metadata.name.clone(), role);
            }
        }
        changed.into_values().collect()
    }

    /// Takes the rules that aggregated roles have now for written by aggregation. For a policy that was read from a store, which
    /// does not say who wrote them: to keep what nobody grants any more would be the worse mistake.
    pub fn adopt_aggregated(&mut self) {
        let aggregated = self.cluster_roles.values().filter(|role| role.aggregation_rule.is_some());
        self.aggregated = aggregated.map(|role| (role.metadata.name.clone(), Arc::clone(role))).collect();
    }

    fn has_rules_of_its_own_making(&self, role: &ClusterRole) -> bool {
        self.aggregated.get(&role.metadata.name).is_some_and(|written| written.rules == role.rules)
    }
}

impl PolicySource for Policy {
    fn cluster_role_bindings(&self) -> Box<dyn Iterator<Item = &ClusterRoleBinding> + '_> {
        Box::new(self.cluster_role_bindings.values().map(Arc::as_ref))
    }

    fn role_bindings(&self, namespace: &str) -> Box<dyn Iterator<Item = &RoleBinding> + '_> {
        Box::new(self.role_bindings.get(namespace).into_iter().flat_map(|b| b.values().map(Arc::as_ref)))
    }

    fn cluster_role(&self, name: &str) -> Option<&ClusterRole> {
        self.cluster_roles.get(name).map(Arc::as_ref)
    }

    fn role(&self, namespace: &str, name: &str) -> Option<&Role> {
        self.roles.get(namespace)?.get(name).map(Arc::as_ref)
    }
}
