//! Who may do what in a new cluster: a golden matrix of subject, verb and resource over the bootstrap policy.
//!
//! The golden file is reviewed like code. A change of it is a change of someone's permissions.

use portcullis_kube::rbac::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};
use portcullis_kube::{ObjectMeta, UserInfo};
use portcullis_rbac::{Policy, RequestInfo, authorize, bootstrap};

const SUBJECTS: &[(&str, &str, &[&str])] = &[
    ("anonymous", "system:anonymous", &["system:unauthenticated"]),
    ("nobody", "nobody", &["system:authenticated"]),
    ("viewer", "viewer", &["system:authenticated"]),
    ("editor", "editor", &["system:authenticated"]),
    ("owner", "owner", &["system:authenticated"]),
    ("demo", DEMO_USER, &["system:authenticated"]),
    ("admin", "kubernetes-admin", &["system:masters", "system:authenticated"]),
    (
        "pod",
        "system:serviceaccount:dev:default",
        &["system:serviceaccounts", "system:serviceaccounts:dev", "system:authenticated"],
    ),
    ("scheduler", "system:kube-scheduler", &["system:authenticated"]),
    ("proxy", "system:kube-proxy", &["system:authenticated"]),
    ("node", "system:node:n1", &["system:nodes", "system:authenticated"]),
    ("joining", "system:bootstrap:abcdef", &["system:bootstrappers", "system:authenticated"]),
    (
        "collector",
        "system:serviceaccount:kube-system:generic-garbage-collector",
        &["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
    ),
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
    ("POST", "/api/v1/namespaces/dev/bindings"),
    ("GET", "/api/v1/namespaces/dev/pods/a/attach"),
    ("POST", "/api/v1/namespaces/dev/pods/a/attach"),
    ("PATCH", "/api/v1/namespaces/dev/pods/a/ephemeralcontainers"),
    ("PATCH", "/api/v1/namespaces/dev/pods/a/resize"),
    ("GET", "/api/v1/namespaces/dev/pods/a/proxy/x"),
    ("POST", "/api/v1/namespaces/dev/pods/a/proxy/x"),
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
    ("GET", "/apis/discovery.k8s.io/v1/endpointslices?watch=1"),
    ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests"),
    ("PATCH", "/api/v1/nodes/n1/status"),
    ("DELETE", "/apis/apps/v1/namespaces/dev/replicasets/a"),
    ("GET", "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"),
];

/// Who is cluster-admin by the guide's binding.
pub(crate) const DEMO_USER: &str = "oidc-demo-user@example.com";
/// That binding.
pub(crate) const DEMO_BINDING: &str = "oidc-admin-binding";

/// The bindings that the matrix adds to those of a new cluster.
pub(crate) fn bind_people_in_dev(policy: &mut Policy) {
    for (user, role) in [("viewer", "view"), ("editor", "edit"), ("owner", "admin")] {
        policy.set_role_binding(RoleBinding {
            metadata: ObjectMeta::namespaced("dev", user),
            subjects: vec![Subject::user(user)],
            role_ref: RoleRef::cluster_role(role),
            ..RoleBinding::default()
        });
    }
    let demo = vec![Subject::user(DEMO_USER)];
    policy.set_cluster_role_binding(ClusterRoleBinding::new(DEMO_BINDING, "cluster-admin", demo));
}

/// Every request with every subject, and a label for both.
pub(crate) fn cells() -> impl Iterator<Item = (String, RequestInfo, UserInfo)> {
    REQUESTS.iter().flat_map(|(method, url)| {
        SUBJECTS.iter().map(move |(label, name, groups)| {
            (format!("{label} {method} {url}"), read(method, url), UserInfo::new(*name, groups.iter().copied()))
        })
    })
}

fn read(method: &str, url: &str) -> RequestInfo {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    RequestInfo::parse(method, path, query).expect("a good URL")
}

#[test]
fn the_bootstrap_policy_gives_exactly_the_golden_verdicts() {
    let mut policy = bootstrap::policy();
    bind_people_in_dev(&mut policy);
    let mut matrix = String::from(
        "# Allowed subjects of each request in a new cluster; viewer, editor and owner are bound in dev.\n",
    );
    for (method, url) in REQUESTS {
        let info = read(method, url);
        let allowed: Vec<&str> = SUBJECTS
            .iter()
            .filter(|(_, name, groups)| {
                let user = UserInfo::new(*name, groups.iter().copied());
                authorize(&policy, &info.attributes(&user)).allowed
            })
            .map(|(label, ..)| *label)
            .collect();
        matrix.push_str(&format!("{:<16} {method:<6} {url}: {}\n", info.verb, allowed.join(" ")));
    }
    let golden = include_str!("golden/bootstrap-matrix.txt");
    assert_eq!(matrix, golden, "the verdicts changed; what is now decided:\n{matrix}");
}
