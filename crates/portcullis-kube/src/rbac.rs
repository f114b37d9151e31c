//! `rbac.authorization.k8s.io/v1`: roles, bindings, and what makes one valid.
//!
//! Evaluation lives in `portcullis-rbac`. [`validate`] holds the texts that a write is refused with.

use serde::{Deserialize, Serialize};

use crate::meta::{LabelSelector, ObjectMeta};
use crate::wire::{empty_as_null, nullable};

pub mod validate;

/// The API group.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// Group and version.
pub const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

/// Actions on resources, or on URLs that are no resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyRule {
    /// Verbs; `*` is all.
    #[serde(serialize_with = "empty_as_null", deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    /// API groups; `""` is the core group, `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub resources: Vec<String>,
    /// Names; empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub resource_names: Vec<String>,
    /// Paths; `/healthz/*` is a prefix, `*` is all.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub non_resource_urls: Vec<String>,
}

/// Whom a binding is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    #[serde(deserialize_with = "nullable")]
    pub kind: String,
    /// [`GROUP`] for users and groups, empty for service accounts.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub api_group: String,
    /// Exact name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// For service accounts.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub namespace: String,
}

impl Subject {
    /// A user.
    pub fn user(name: impl Into<String>) -> Self {
        Self { kind: "User".to_owned(), api_group: GROUP.to_owned(), name: name.into(), namespace: String::new() }
    }

    /// A group.
    pub fn group(name: impl Into<String>) -> Self {
        Self { kind: "Group".to_owned(), api_group: GROUP.to_owned(), name: name.into(), namespace: String::new() }
    }

    /// A service account.
    pub fn service_account(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: "ServiceAccount".to_owned(),
            api_group: String::new(),
            name: name.into(),
            namespace: namespace.into(),
        }
    }
}

/// Which role a binding grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RoleRef {
    /// [`GROUP`].
    #[serde(deserialize_with = "nullable")]
    pub api_group: String,
    /// `Role` or `ClusterRole`.
    #[serde(deserialize_with = "nullable")]
    pub kind: String,
    /// The role's name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
}

impl RoleRef {
    /// A cluster role.
    pub fn cluster_role(name: impl Into<String>) -> Self {
        Self { api_group: GROUP.to_owned(), kind: "ClusterRole".to_owned(), name: name.into() }
    }

    /// A role in the binding's namespace.
    pub fn role(name: impl Into<String>) -> Self {
        Self { api_group: GROUP.to_owned(), kind: "Role".to_owned(), name: name.into() }
    }
}

/// Where an aggregated cluster role takes its rules from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AggregationRule {
    /// Cluster roles that any of these selects.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub cluster_role_selectors: Vec<LabelSelector>,
}

macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident : $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            /// Its kind; empty inside a typed list.
            #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
            pub kind: String,
            /// [`API_VERSION`]; empty inside a typed list.
            #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
            pub api_version: String,
            /// Name, labels, versions.
            #[serde(deserialize_with = "nullable")]
            pub metadata: ObjectMeta,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    kind: stringify!($name).to_owned(),
                    api_version: API_VERSION.to_owned(),
                    metadata: ObjectMeta::default(),
                    $($field: Default::default(),)*
                }
            }
        }
    };
}

object! {
    /// Rules for one namespace.
    Role {
        /// What it allows.
        #[serde(serialize_with = "empty_as_null", deserialize_with = "nullable")]
        rules: Vec<PolicyRule>,
    }
}

object! {
    /// Rules for the cluster, or for any namespace that binds it.
    ClusterRole {
        /// What it allows; written by the controller when there is an aggregation rule.
        #[serde(serialize_with = "empty_as_null", deserialize_with = "nullable")]
        rules: Vec<PolicyRule>,
        /// Makes it the union of others.
        #[serde(skip_serializing_if = "Option::is_none")]
        aggregation_rule: Option<AggregationRule>,
    }
}

object! {
    /// Grants a role inside one namespace.
    RoleBinding {
        /// To whom.
        #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
        subjects: Vec<Subject>,
        /// What.
        #[serde(deserialize_with = "nullable")]
        role_ref: RoleRef,
    }
}

object! {
    /// Grants a cluster role everywhere.
    ClusterRoleBinding {
        /// To whom.
        #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
        subjects: Vec<Subject>,
        /// What.
        #[serde(deserialize_with = "nullable")]
        role_ref: RoleRef,
    }
}

impl RoleBinding {
    /// Fills what a client may leave out, as the API server does before it validates.
    pub fn set_defaults(&mut self) {
        set_binding_defaults(&mut self.role_ref, &mut self.subjects);
    }
}

impl ClusterRoleBinding {
    /// A binding of a cluster role to subjects, with everything that the server would default.
    pub fn new(name: impl Into<String>, cluster_role: impl Into<String>, subjects: Vec<Subject>) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            subjects,
            role_ref: RoleRef::cluster_role(cluster_role),
            ..Self::default()
        }
    }

    /// Fills what a client may leave out, as the API server does before it validates.
    pub fn set_defaults(&mut self) {
        set_binding_defaults(&mut self.role_ref, &mut self.subjects);
    }
}

/// Compat: `pkg/apis/rbac/v1/defaults.go` of Kubernetes 1.37.
fn set_binding_defaults(role_ref: &mut RoleRef, subjects: &mut [Subject]) {
    if role_ref.api_group.is_empty() {
        GROUP.clone_into(&mut role_ref.api_group);
    }
    for subject in subjects {
        if subject.api_group.is_empty() && matches!(subject.kind.as_str(), "User" | "Group") {
            GROUP.clone_into(&mut subject.api_group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectls_create_clusterrolebinding_reads_and_prints_as_the_server_does() {
        let sent = r#"{"kind":"ClusterRoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"oidc-admin-binding","creationTimestamp":null},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"oidc-demo-user@example.com"}],"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"}}"#;
        let read: ClusterRoleBinding = serde_json::from_str(sent).unwrap();
        let made = ClusterRoleBinding::new(
            "oidc-admin-binding",
            "cluster-admin",
            vec![Subject::user("oidc-demo-user@example.com")],
        );
        assert_eq!(read, made);
        assert_eq!(serde_json::to_string(&made).unwrap(), sent.replace(r#","creationTimestamp":null"#, ""));
    }

    #[test]
    fn a_role_without_rules_prints_null_and_reads_back() {
        let role = ClusterRole { metadata: ObjectMeta::named("edit"), ..ClusterRole::default() };
        let json = serde_json::to_string(&role).unwrap();
        assert!(json.ends_with(r#""metadata":{"name":"edit"},"rules":null}"#), "{json}");
        assert_eq!(serde_json::from_str::<ClusterRole>(&json).unwrap(), role);
    }

    #[test]
    fn defaults_name_the_group_for_users_and_groups_but_not_for_service_accounts() {
        let mut binding = RoleBinding {
            subjects: vec![
                Subject { kind: "User".to_owned(), name: "u".to_owned(), ..Subject::default() },
                Subject { kind: "Group".to_owned(), name: "g".to_owned(), ..Subject::default() },
                Subject { kind: "ServiceAccount".to_owned(), name: "s".to_owned(), ..Subject::default() },
                Subject { kind: "Robot".to_owned(), name: "r".to_owned(), ..Subject::default() },
            ],
            ..RoleBinding::default()
        };
        binding.set_defaults();
        let groups: Vec<&str> = binding.subjects.iter().map(|s| s.api_group.as_str()).collect();
        assert_eq!(groups, [GROUP, GROUP, "", ""]);
        assert_eq!(binding.role_ref.api_group, GROUP);
    }
}
