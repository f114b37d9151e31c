//! What every cluster starts with: the default cluster roles and bindings, those of the controllers included, and the roles of
//! `kube-system` and `kube-public`. The data and where it comes from are in `data/`.

use std::sync::OnceLock;

use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Deserialize;

use crate::policy::Policy;

/// The objects as they are created, aggregated roles without rules yet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// 73 in Kubernetes 1.37.
    pub cluster_roles: Vec<ClusterRole>,
    /// 54 in Kubernetes 1.37.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// In `kube-system` and `kube-public`.
    pub roles: Vec<Role>,
    /// In `kube-system` and `kube-public`.
    pub role_bindings: Vec<RoleBinding>,
}

const DATA: &str = include_str!("../data/bootstrap.json");

/// The objects, parsed once.
pub fn objects() -> &'static Objects {
    static PARSED: OnceLock<Objects> = OnceLock::new();
    // The data is part of the program; a test shows that it parses. Without it nobody but system:masters may do anything.
    PARSED.get_or_init(|| serde_json::from_str(DATA).unwrap_or_default())
}

/// The policy of a new cluster: all objects, with the aggregated roles filled in.
pub fn policy() -> Policy {
    let objects = objects();
    let mut policy = Policy::default();
    for role in &objects.cluster_roles {
        policy.set_cluster_role(role.clone());
    }
    for binding in &objects.cluster_role_bindings {
        policy.set_cluster_role_binding(binding.clone());
    }
    for role in &objects.roles {
        policy.set_role(role.clone());
    }
    for binding in &objects.role_bindings {
        policy.set_role_binding(binding.clone());
    }
    policy.aggregate();
    policy
}

#[cfg(test)]
mod tests {
    use portcullis_kube::UserInfo;
    use portcullis_kube::rbac::{RoleRef, validate};

    use super::*;
    use crate::attributes::{Attributes, ResourceTarget};
    use crate::authorize::authorize;
    use crate::policy::PolicySource as _;

    #[test]
    fn the_data_parses_and_is_complete() {
        let objects = objects();
        assert_eq!(
            (
                objects.cluster_roles.len(),
                objects.cluster_role_bindings.len(),
                objects.roles.len(),
                objects.role_bindings.len()
            ),
            (73, 54, 7, 7)
        );
    }

    #[test]
    fn every_object_is_valid_marked_and_refers_to_a_role_that_exists() {
        let objects = objects();
        let policy = policy();
        let exists = |role: &RoleRef, namespace: &str| match role.kind.as_str() {
            "ClusterRole" => policy.cluster_role(&role.name).is_some(),
            _ => policy.role(namespace, &role.name).is_some(),
        };
        for role in &objects.cluster_roles {
            assert_eq!(validate::cluster_role(role), [], "{}", role.metadata.name);
            assert_eq!(role.metadata.labels["kubernetes.io/bootstrapping"], "rbac-defaults");
            assert_eq!(role.metadata.annotations["rbac.authorization.kubernetes.io/autoupdate"], "true");
            assert_eq!(
                (role.kind.as_str(), role.api_version.as_str()),
                ("ClusterRole", "rbac.authorization.k8s.io/v1")
            );
        }
        for role in &objects.roles {
            assert_eq!(validate::role(role), [], "{}", role.metadata.name);
        }
        for binding in &objects.cluster_role_bindings {
            assert_eq!(validate::cluster_role_binding(binding), [], "{}", binding.metadata.name);
            assert!(exists(&binding.role_ref, ""), "{}", binding.metadata.name);
        }
        for binding in &objects.role_bindings {
            assert_eq!(validate::role_binding(binding), [], "{}", binding.metadata.name);
            assert!(exists(&binding.role_ref, &binding.metadata.namespace), "{}", binding.metadata.name);
        }
    }

    #[test]
    fn aggregated_roles_are_filled_and_contain_each_other() {
        let policy = policy();
        let rules = |name: &str| &policy.cluster_role(name).expect(name).rules;
        assert!(!rules("view").is_empty());
        for (small, large) in [("view", "edit"), ("edit", "admin")] {
            assert!(rules(small).iter().all(|rule| rules(large).contains(rule)), "{small} in {large}");
            assert!(rules(small).len() < rules(large).len());
        }
    }

    #[test]
    fn masters_are_also_bound_to_cluster_admin() {
        let policy = policy();
        let user = UserInfo::new("kubernetes-admin", ["system:masters"]);
        let target = ResourceTarget { resource: "secrets", ..ResourceTarget::default() };
        let asked = Attributes::resource(&user, "delete", target);
        assert!(authorize(&policy, &asked).reason.is_empty());
        assert_eq!(
            crate::authorize::authorize_rbac(&policy, &asked).reason,
            "RBAC: allowed by ClusterRoleBinding \"cluster-admin\" of ClusterRole \"cluster-admin\" to Group \"system:masters\""
        );
    }
}
