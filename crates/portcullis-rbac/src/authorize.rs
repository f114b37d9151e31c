//! The verdict: bindings in order, subjects, roles, rules; the first rule that allows wins.
//!
//! Compat: `pkg/registry/rbac/validation/rule.go` and `plugin/pkg/auth/authorizer/rbac` of Kubernetes 1.37. A binding whose
//! role is missing is remembered and skipped; it is mentioned only when nothing else allows.

use portcullis_kube::UserInfo;
use portcullis_kube::field::aggregate;
use portcullis_kube::go::quote;
use portcullis_kube::rbac::{GROUP, PolicyRule, RoleRef, Subject};
use portcullis_kube::user_info::{MASTERS_GROUP, SERVICE_ACCOUNT_PREFIX};

use crate::attributes::Attributes;
use crate::matching::rule_allows;
use crate::policy::PolicySource;

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why; empty when there is nothing to say. It goes into the audit log and, for a refusal, to the client.
    pub reason: String,
}

impl Decision {
    /// What an audit event of the request says about it: always both, even when there is no reason.
    ///
    /// Compat: `endpoints/filters/authorization.go` of apiserver v0.37.
    pub fn audit_annotations(&self) -> [(&'static str, &str); 2] {
        let decision = if self.allowed { "allow" } else { "forbid" };
        [("authorization.k8s.io/decision", decision), ("authorization.k8s.io/reason", &self.reason)]
    }
}

/// The rules that apply to someone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RulesFor<'a> {
    /// In the order of their bindings.
    pub rules: Vec<&'a PolicyRule>,
    /// Bindings whose role is missing.
    pub errors: Vec<RoleError>,
}

/// A binding's role that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// There is none of this name.
    #[error("{}.{GROUP} {} not found", kind.to_lowercase(), quote(name))]
    NotFound {
        /// `Role` or `ClusterRole`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Neither a role nor a cluster role.
    #[error("unsupported role reference kind: {}", quote(.0))]
    UnsupportedKind(String),
}

impl RoleError {
    /// The text as it comes from the storage of a resource rather than from the authorizer.
    ///
    /// Compat: while it handles a write, the server names the resource of the request, whatever is missing.
    pub fn in_request_of(&self, resource: &str) -> String {
        match self {
            Self::NotFound { name, .. } => format!("{resource}.{GROUP} {} not found", quote(name)),
            Self::UnsupportedKind(_) => self.to_string(),
        }
    }
}

/// The whole chain of an API server with `--authorization-mode=RBAC`: members of `system:masters` may do everything, without a
/// reason; all others what RBAC allows. The chain puts the authorizer's name in front of a reason that did not decide.
pub fn authorize(policy: &impl PolicySource, attributes: &Attributes<'_>) -> Decision {
    if attributes.user.in_group(MASTERS_GROUP) {
        return Decision { allowed: true, reason: String::new() };
    }
    let mut decision = authorize_rbac(policy, attributes);
    if !decision.allowed && !decision.reason.is_empty() {
        decision.reason.insert_str(0, "rbac: ");
    }
    decision
}

/// RBAC alone.
pub fn authorize_rbac(policy: &impl PolicySource, attributes: &Attributes<'_>) -> Decision {
    let mut reason = None;
    let mut errors = Vec::new();
    visit(policy, attributes.user, attributes.namespace(), |found| {
        match found {
            Ok((source, rules)) => {
                if rules.iter().any(|rule| rule_allows(rule, attributes)) {
                    reason = Some(format!("RBAC: allowed by {}", source.describe()));
                }
            }
            Err(error) => errors.push(error.to_string()),
        }
        reason.is_none()
    });
    match reason {
        Some(reason) => Decision { allowed: true, reason },
        None if errors.is_empty() => Decision { allowed: false, reason: String::new() },
        None => Decision { allowed: false, reason: format!("RBAC: {}", aggregate(&errors)) },
    }
}

/// All rules that apply to a user in a namespace (empty: cluster-wide only).
pub fn rules_for<'a>(policy: &'a impl PolicySource, user: &UserInfo, namespace: &str) -> RulesFor<'a> {
    let mut found = RulesFor::default();
    visit(policy, user, namespace, |visited| {
        match visited {
            Ok((_, rules)) => found.rules.extend(rules),
            Err(error) => found.errors.push(error),
        }
        true
    });
    found
}

/// The rules of a role that a binding names. `namespace` is that of the binding.
///
/// # Errors
/// [`RoleError`], when there is no such role.
pub fn referenced_rules<'a>(
    policy: &'a impl PolicySource,
    role: &RoleRef,
    namespace: &str,
) -> Result<&'a [PolicyRule], RoleError> {
    let not_found = |kind| RoleError::NotFound { kind, name: role.name.clone() };
    match role.kind.as_str() {
        "Role" => policy.role(namespace, &role.name).map(|r| r.rules.as_slice()).ok_or_else(|| not_found("Role")),
        "ClusterRole" => {
            policy.cluster_role(&role.name).map(|r| r.rules.as_slice()).ok_or_else(|| not_found("ClusterRole"))
        }
        other => Err(RoleError::UnsupportedKind(other.to_owned())),
    }
}

/// A binding through which rules apply.
struct Source<'a> {
    kind: &'static str,
    name: &'a str,
    namespace: &'a str,
    role: &'a RoleRef,
    subject: &'a Subject,
}

impl Source<'_> {
    /// Compat: name first, then namespace, for bindings and service accounts alike.
    fn describe(&self) -> String {
        let scoped = |name: &str, namespace: &str| quote(&format!("{name}/{namespace}"));
        let name = if self.kind == "RoleBinding" { scoped(self.name, self.namespace) } else { quote(self.name) };
        let subject = if self.subject.kind == "ServiceAccount" {
            let own = &self.subject.namespace;
            scoped(&self.subject.name, if own.is_empty() { self.namespace } else { own })
        } else {
            quote(&self.subject.name)
        };
        format!(
            "{} {name} of {} {} to {} {subject}",
            self.kind,
            self.role.kind,
            quote(&self.role.name),
            self.subject.kind
        )
    }
}

/// Shows every applicable binding with its rules, or the error of its role, until the visitor has enough.
fn visit<'a>(
    policy: &'a impl PolicySource,
    user: &UserInfo,
    namespace: &str,
    mut visitor: impl FnMut(Result<(Source<'a>, &'a [PolicyRule]), RoleError>) -> bool,
) {
    for binding in policy.cluster_role_bindings() {
        let Some(subject) = binding.subjects.iter().find(|s| applies(s, user, "")) else { continue };
        let source = Source {
            kind: "ClusterRoleBinding",
            name: &binding.metadata.name,
            namespace: "",
            role: &binding.role_ref,
            subject,
        };
        let rules = referenced_rules(policy, &binding.role_ref, "");
        if !visitor(rules.map(|rules| (source, rules))) {
            return;
        }
    }
    if namespace.is_empty() {
        return;
    }
    for binding in policy.role_bindings(namespace) {
        let Some(subject) = binding.subjects.iter().find(|s| applies(s, user, namespace)) else { continue };
        let source = Source {
            kind: "RoleBinding",
            name: &binding.metadata.name,
            namespace: &binding.metadata.namespace,
            role: &binding.role_ref,
            subject,
        };
        let rules = referenced_rules(policy, &binding.role_ref, namespace);
        if !visitor(rules.map(|rules| (source, rules))) {
            return;
        }
    }
}

/// Whether a subject of a binding is this user. A service account without namespace is one of the binding's namespace.
fn applies(subject: &Subject, user: &UserInfo, binding_namespace: &str) -> bool {
    match subject.kind.as_str() {
        "User" => user.username == subject.name,
        "Group" => user.in_group(&subject.name),
        "ServiceAccount" => {
            let namespace = if subject.namespace.is_empty() { binding_namespace } else { &subject.namespace };
            !namespace.is_empty()
                && user
                    .username
                    .strip_prefix(SERVICE_ACCOUNT_PREFIX)
                    .and_then(|rest| rest.strip_prefix(namespace))
                    .and_then(|rest| rest.strip_prefix(':'))
                    == Some(subject.name.as_str())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_kube::ObjectMeta;
    use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};

    use super::*;
    use crate::attributes::ResourceTarget;
    use crate::policy::Policy;

    fn rule(verbs: &[&str], resources: &[&str]) -> PolicyRule {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        PolicyRule { verbs: own(verbs), api_groups: own(&[""]), resources: own(resources), ..PolicyRule::default() }
    }

    fn policy() -> Policy {
        let mut policy = Policy::default();
        policy.set_cluster_role(ClusterRole {
            metadata: ObjectMeta::named("reader"),
            rules: vec![
                rule(&["get", "list"], &["pods"]),
                PolicyRule {
                    verbs: vec!["get".to_owned()],
                    non_resource_urls: vec!["/x".to_owned()],
                    ..PolicyRule::default()
                },
            ],
            ..ClusterRole::default()
        });
        policy.set_role(Role {
            metadata: ObjectMeta::namespaced("ns", "writer"),
            rules: vec![rule(&["create"], &["pods"])],
            ..Role::default()
        });
        policy
    }

    fn bind(policy: &mut Policy, namespace: &str, name: &str, role_ref: RoleRef, subjects: Vec<Subject>) {
        policy.set_role_binding(RoleBinding {
            metadata: ObjectMeta::namespaced(namespace, name),
            subjects,
            role_ref,
            ..RoleBinding::default()
        });
    }

    fn ask(policy: &Policy, user: &UserInfo, verb: &str, namespace: &str) -> Decision {
        let target = ResourceTarget { namespace, resource: "pods", ..ResourceTarget::default() };
        authorize(policy, &Attributes::resource(user, verb, target))
    }

    fn allowed(reason: &str) -> Decision {
        Decision { allowed: true, reason: reason.to_owned() }
    }

    fn refused(reason: &str) -> Decision {
        Decision { allowed: false, reason: reason.to_owned() }
    }

    #[test]
    fn reasons_name_binding_role_and_subject() {
        let mut p = policy();
        p.set_cluster_role_binding(ClusterRoleBinding::new(
            "b",
            "reader",
            vec![Subject::user("u"), Subject::group("g")],
        ));
        bind(
            &mut p,
            "ns",
            "rb",
            RoleRef::role("writer"),
            vec![
                Subject::group("devs"),
                Subject { kind: "ServiceAccount".to_owned(), name: "bot".to_owned(), ..Subject::default() },
                Subject::service_account("other", "bot"),
            ],
        );
        let table = [
            (
                UserInfo::new("u", ["g"]),
                "get",
                "ns",
                allowed("RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"reader\" to User \"u\""),
            ),
            (
                UserInfo::new("x", ["g"]),
                "list",
                "",
                allowed("RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"reader\" to Group \"g\""),
            ),
            (
                UserInfo::new("x", ["devs"]),
                "create",
                "ns",
                allowed("RBAC: allowed by RoleBinding \"rb/ns\" of Role \"writer\" to Group \"devs\""),
            ),
            (
                UserInfo::new("system:serviceaccount:ns:bot", [""; 0]),
                "create",
                "ns",
                allowed("RBAC: allowed by RoleBinding \"rb/ns\" of Role \"writer\" to ServiceAccount \"bot/ns\""),
            ),
            (
                UserInfo::new("system:serviceaccount:other:bot", [""; 0]),
                "create",
                "ns",
                allowed("RBAC: allowed by RoleBinding \"rb/ns\" of Role \"writer\" to ServiceAccount \"bot/other\""),
            ),
            (UserInfo::new("x", ["devs"]), "create", "elsewhere", refused("")),
            (UserInfo::new("x", ["devs"]), "create", "", refused("")),
            (UserInfo::new("u", [""; 0]), "delete", "ns", refused("")),
            (UserInfo::new("U", ["G"]), "get", "ns", refused("")),
            (UserInfo::new("g", ["u"]), "get", "ns", refused("")),
            (UserInfo::new("x", [MASTERS_GROUP]), "anything", "ns", allowed("")),
        ];
        for (user, verb, namespace, want) in table {
            assert_eq!(ask(&p, &user, verb, namespace), want, "{user:?} {verb} {namespace}");
        }
    }

    #[test]
    fn an_audit_event_says_what_was_decided_and_why() {
        let (yes, no) = (allowed("because"), refused(""));
        let decision = "authorization.k8s.io/decision";
        let reason = "authorization.k8s.io/reason";
        assert_eq!(yes.audit_annotations(), [(decision, "allow"), (reason, "because")]);
        assert_eq!(no.audit_annotations(), [(decision, "forbid"), (reason, "")]);
    }

    #[test]
    fn a_missing_role_is_named_only_when_nothing_allows() {
        let mut p = policy();
        let user = UserInfo::new("u", [""; 0]);
        p.set_cluster_role_binding(ClusterRoleBinding::new("a", "gone", vec![Subject::user("u")]));
        bind(&mut p, "ns", "rb", RoleRef::role("lost"), vec![Subject::user("u")]);
        assert_eq!(
            ask(&p, &user, "get", ""),
            refused("rbac: RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found")
        );
        assert_eq!(
            ask(&p, &user, "get", "ns"),
            refused(
                "rbac: RBAC: [clusterrole.rbac.authorization.k8s.io \"gone\" not found, role.rbac.authorization.k8s.io \"lost\" not found]"
            )
        );
        p.set_cluster_role_binding(ClusterRoleBinding::new("z", "reader", vec![Subject::user("u")]));
        assert!(ask(&p, &user, "get", "ns").allowed);
        let unsupported = RoleRef { kind: "Robot".to_owned(), ..RoleRef::role("r") };
        bind(&mut p, "ns", "rb", unsupported, vec![Subject::user("u")]);
        assert!(ask(&p, &user, "watch", "ns").reason.ends_with("unsupported role reference kind: \"Robot\"]"));
    }

    #[test]
    fn a_role_binding_to_a_cluster_role_grants_inside_its_namespace_only_and_no_urls() {
        let mut p = policy();
        let user = UserInfo::new("u", [""; 0]);
        bind(&mut p, "ns", "rb", RoleRef::cluster_role("reader"), vec![Subject::user("u")]);
        assert_eq!(
            ask(&p, &user, "list", "ns"),
            allowed("RBAC: allowed by RoleBinding \"rb/ns\" of ClusterRole \"reader\" to User \"u\"")
        );
        assert!(!ask(&p, &user, "list", "").allowed);
        assert!(!ask(&p, &user, "list", "other").allowed);
        assert!(!authorize(&p, &Attributes::path(&user, "get", "/x")).allowed);
        p.set_cluster_role_binding(ClusterRoleBinding::new("b", "reader", vec![Subject::user("u")]));
        assert!(authorize(&p, &Attributes::path(&user, "get", "/x")).allowed);
    }

    #[test]
    fn a_service_account_without_namespace_in_a_cluster_role_binding_is_nobody() {
        let mut p = policy();
        let subject = Subject { kind: "ServiceAccount".to_owned(), name: "bot".to_owned(), ..Subject::default() };
        p.set_cluster_role_binding(ClusterRoleBinding::new("b", "reader", vec![subject]));
        for name in ["system:serviceaccount:ns:bot", "system:serviceaccount::bot", "bot"] {
            assert!(!ask(&p, &UserInfo::new(name, [""; 0]), "get", "ns").allowed, "{name}");
        }
    }

    #[test]
    fn a_user_is_no_service_account_by_a_similar_name() {
        let mut p = policy();
        bind(&mut p, "ns", "rb", RoleRef::role("writer"), vec![Subject::service_account("a", "b")]);
        for (name, is) in [
            ("system:serviceaccount:a:b", true),
            ("system:serviceaccount:a:b:c", false),
            ("system:serviceaccount:a:bb", false),
            ("system:serviceaccount:aa:b", false),
            ("serviceaccount:a:b", false),
        ] {
            assert_eq!(ask(&p, &UserInfo::new(name, [""; 0]), "create", "ns").allowed, is, "{name}");
        }
    }

    #[test]
    fn all_rules_of_a_user_are_listed() {
        let mut p = policy();
        let user = UserInfo::new("u", [""; 0]);
        p.set_cluster_role_binding(ClusterRoleBinding::new("a", "gone", vec![Subject::user("u")]));
        p.set_cluster_role_binding(ClusterRoleBinding::new("b", "reader", vec![Subject::user("u")]));
        bind(&mut p, "ns", "rb", RoleRef::role("writer"), vec![Subject::user("u")]);
        let found = rules_for(&p, &user, "ns");
        assert_eq!((found.rules.len(), found.errors.len()), (3, 1));
        assert_eq!(rules_for(&p, &user, "").rules.len(), 2);
    }
}
