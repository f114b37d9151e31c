//! Who may do what in a new cluster: a golden matrix of subject, verb and resource over the bootstrap policy.
//!
//! The golden file is reviewed like code. A change of it is a change of someone's permissions.

use portcullis_kube::UserInfo;
use portcullis_kube::rbac::{RoleBinding, RoleRef, Subject};
use portcullis_kube::{ObjectMeta, rbac::ClusterRoleBinding};
use portcullis_rbac::{Attributes, RequestInfo, authorize, bootstrap};

const SUBJECTS: &[(&str, &str, &[&str])] = &[
    ("anonymous", "system:anonymous", &["system:unauthenticated"]),
    ("nobody", "nobody", &["system:authenticated"]),
    ("viewer", "viewer", &["system:authenticated"]),
    ("editor", "editor", &["system:authenticated"]),
    ("owner", "owner", &["system:authenticated"]),
    ("demo", "oidc-demo-user@example.com", &["system:authenticated"]),
    ("admin", "kubernetes-admin", &["system:masters", "system:authenticated"]),
    (
        "pod",
        "system:serviceaccount:dev:default",
        &["system:serviceaccounts", "system:serviceaccounts:dev", "system:authenticated"],
    ),
    ("scheduler", "system:kube-scheduler", &["system:authenticated"]),
    (
        "namespacer",
        "system:serviceaccount:kube-system:namespace-controller",
        &["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
    ),
];

const REQUESTS: &[(&str, &str)] = &[
    ("GET", "/healthz"),
    ("GET", "/livez"),
    ("GET", "/version"),
    ("GET", "/api"),
    ("GET", "/apis/apps/v1"),
    ("GET", "/openapi/v3"),
    ("GET", "/metrics"),
    ("GET", "/openid/v1/jwks"),
    ("GET", "/logs"),
    ("POST", "/healthz"),
    ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/namespaces"),
    ("GET", "/api/v1/namespaces/dev"),
    ("DELETE", "/api/v1/namespaces/dev"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/namespaces/dev/pods"),
    ("GET", "/api/v1/namespaces/dev/pods?watch=1"),
    ("POST", "/api/v1/namespaces/dev/pods"),
    ("GET", "/api/v1/namespaces/dev/pods/a/log"),
    ("POST", "/api/v1/namespaces/dev/pods/a/exec"),
    ("POST", "/api/v1/namespaces/dev/pods/a/portforward"),
    ("POST", "/api/v1/namespaces/dev/pods/a/eviction"),
    ("DELETE", "/api/v1/namespaces/dev/pods/a"),
    ("DELETE", "/api/v1/namespaces/dev/pods"),
    ("GET", "/api/v1/namespaces/dev/secrets/a"),
    ("PUT", "/api/v1/namespaces/dev/secrets/a"),
    ("GET", "/api/v1/namespaces/dev/configmaps/a"),
    ("PATCH", "/api/v1/namespaces/dev/configmaps/a"),
    ("POST", "/api/v1/namespaces/dev/serviceaccounts/default/token"),
    ("GET", "/apis/apps/v1/namespaces/dev/deployments/a/scale"),
    ("PATCH", "/apis/apps/v1/namespaces/dev/deployments/a/scale"),
    ("GET", "/apis/rbac.authorization.k8s.io/v1/namespaces/dev/roles"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/dev/rolebindings"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ("GET", "/api/v1/namespaces/other/pods"),
    ("POST", "/api/v1/namespaces/other/pods"),
    ("PUT", "/api/v1/namespaces/dev/finalize"),
    ("POST", "/api/v1/namespaces/dev/pods/a/binding"),
    ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler"),
];

#[test]
fn the_bootstrap_policy_gives_exactly_the_golden_verdicts() {
    let mut policy = bootstrap::policy();
    for (user, role) in [("viewer", "view"), ("editor", "edit"), ("owner", "admin")] {
        policy.set_role_binding(RoleBinding {
            metadata: ObjectMeta::namespaced("dev", user),
            subjects: vec![Subject::user(user)],
            role_ref: RoleRef::cluster_role(role),
            ..RoleBinding::default()
        });
    }
    policy.set_cluster_role_binding(ClusterRoleBinding::new(
        "oidc-admin-binding",
        "cluster-admin",
        vec![Subject::user("oidc-demo-user@example.com")],
    ));

    let mut matrix = String::from(
        "# Allowed subjects of each request in a new cluster; viewer, editor and owner are bound in dev.\n",
    );
    for (method, url) in REQUESTS {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let info = RequestInfo::parse(method, path, query).expect("a good URL");
        let allowed: Vec<&str> = SUBJECTS
            .iter()
            .filter(|(_, name, groups)| {
                let user = UserInfo::new(*name, groups.iter().copied());
                let attributes: Attributes<'_> = info.attributes(&user);
                authorize(&policy, &attributes).allowed
            })
            .map(|(label, ..)| *label)
            .collect();
        matrix.push_str(&format!("{:<16} {method:<6} {url}: {}\n", info.verb, allowed.join(" ")));
    }
    let golden = include_str!("golden/bootstrap-matrix.txt");
    assert_eq!(matrix, golden, "the verdicts changed; what is now decided:\n{matrix}");
}
