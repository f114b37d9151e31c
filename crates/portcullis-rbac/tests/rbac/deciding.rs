//! Which bindings allow something, each seen alone. The real server names the first that its cache gives, so each is right.

use std::collections::{BTreeSet, HashMap};

use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject};
use portcullis_rbac::{Attributes, Policy, PolicySource, authorize_rbac};

/// A policy with one binding.
struct Only<'a> {
    policy: &'a Policy,
    cluster: Option<&'a ClusterRoleBinding>,
    namespaced: Option<&'a RoleBinding>,
}

impl PolicySource for Only<'_> {
    fn cluster_role_bindings(&self) -> Box<dyn Iterator<Item = &ClusterRoleBinding> + '_> {
        Box::new(self.cluster.into_iter())
    }

    fn role_bindings(&self, namespace: &str) -> Box<dyn Iterator<Item = &RoleBinding> + '_> {
        let there = self.namespaced.filter(|binding| binding.metadata.namespace == namespace);
        Box::new(there.into_iter())
    }

    fn cluster_role(&self, name: &str) -> Option<&ClusterRole> {
        self.policy.cluster_role(name)
    }

    fn role(&self, namespace: &str, name: &str) -> Option<&Role> {
        self.policy.role(namespace, name)
    }
}

/// A binding that allows, seen alone.
pub(crate) struct Allowing<'a> {
    pub(crate) reason: String,
    pub(crate) subjects: &'a [Subject],
    pub(crate) role: &'a RoleRef,
    /// Empty for a cluster role binding.
    pub(crate) namespace: &'a str,
}

/// Finds the bindings that allow.
pub(crate) struct Deciding<'a> {
    policy: &'a Policy,
    cluster: Vec<&'a ClusterRoleBinding>,
    /// Cluster role bindings by the names that a user may be known under.
    by_name: HashMap<String, Vec<usize>>,
}

impl<'a> Deciding<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Self {
        let cluster: Vec<&ClusterRoleBinding> = policy.cluster_role_bindings().collect();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, binding) in cluster.iter().enumerate() {
            for subject in &binding.subjects {
                let name = match subject.kind.as_str() {
                    "ServiceAccount" => format!("system:serviceaccount:{}:{}", subject.namespace, subject.name),
                    _ => subject.name.clone(),
                };
                by_name.entry(name).or_default().push(at);
            }
        }
        Self { policy, cluster, by_name }
    }

    /// The reasons that the real server may give: those of the cluster role bindings that allow, or else of the role bindings.
    ///
    /// Members of `system:masters` are let through without one.
    pub(crate) fn reasons(&self, attributes: &Attributes<'_>) -> BTreeSet<String> {
        if attributes.user.in_group("system:masters") {
            return BTreeSet::new();
        }
        self.allowing(attributes).into_iter().map(|allowing| allowing.reason).collect()
    }

    /// Whether a reason may be given for letting a request through.
    pub(crate) fn may_be(&self, attributes: &Attributes<'_>, reason: &str) -> bool {
        let reasons = self.reasons(attributes);
        reasons.contains(reason) || (reasons.is_empty() && reason.is_empty())
    }

    pub(crate) fn allowing(&self, attributes: &Attributes<'_>) -> Vec<Allowing<'a>> {
        let user = attributes.user;
        let names = std::iter::once(&user.username).chain(&user.groups);
        let found: BTreeSet<usize> = names.filter_map(|name| self.by_name.get(name)).flatten().copied().collect();
        let policy = self.policy;
        let cluster: Vec<Allowing<'a>> = found
            .into_iter()
            .filter_map(|at| {
                let binding = self.cluster[at];
                let decision = authorize_rbac(&Only { policy, cluster: Some(binding), namespaced: None }, attributes);
                let (subjects, role) = (binding.subjects.as_slice(), &binding.role_ref);
                decision.allowed.then_some(Allowing { reason: decision.reason, subjects, role, namespace: "" })
            })
            .collect();
        if !cluster.is_empty() {
            return cluster;
        }
        policy
            .role_bindings(attributes.namespace())
            .filter_map(|binding| {
                let decision = authorize_rbac(&Only { policy, cluster: None, namespaced: Some(binding) }, attributes);
                let (subjects, role) = (binding.subjects.as_slice(), &binding.role_ref);
                let namespace = binding.metadata.namespace.as_str();
                decision.allowed.then_some(Allowing { reason: decision.reason, subjects, role, namespace })
            })
            .collect()
    }
}

/// A refusal's reason with its list of missing roles in order: the real server's has none.
pub(crate) fn sorted(reason: &str) -> String {
    let Some(list) = reason.strip_prefix("rbac: RBAC: [").and_then(|rest| rest.strip_suffix(']')) else {
        return reason.to_owned();
    };
    let mut missing: Vec<&str> = list.split(", ").collect();
    missing.sort_unstable();
    format!("rbac: RBAC: [{}]", missing.join(", "))
}
