//! Every method on every sort of path.

use super::wire::Case;
use crate::rbac::Dice;

/// One path of every sort.
const SORTS: &[&str] = &[
    "/",
    "/api",
    "/api/",
    "/api/v1",
    "/api/v1/",
    "/apis",
    "/apis/",
    "/apis/apps",
    "/apis/apps/",
    "/apis/apps/v1",
    "/apis/apps/v1/",
    "/apis/nothing",
    "/apis/nothing/v1",
    "/apis/nothing/v1/things",
    "/apis/apps/v9",
    "/apis/apps/v9/deployments",
    "/apis/apps/v1/things",
    "/api/v1/things",
    "/api/v1/things/a",
    "/api/v1/namespaces/bad/things",
    "/api/v1/namespaces/bad/things/a",
    "/api/v2",
    "/api/v2/pods",
    "/api/v1/secrets",
    "/api/v1/namespaces",
    "/api/v1/namespaces/",
    "/api/v1/namespaces/none",
    "/api/v1/namespaces/none/status",
    "/api/v1/namespaces/none/finalize",
    "/api/v1/namespaces/bad/configmaps",
    "/api/v1/namespaces/bad/configmaps/",
    "/api/v1/namespaces/bad/configmaps/none",
    "/api/v1/namespaces/bad/configmaps/none/",
    "/api/v1/namespaces/bad/configmaps/none/status",
    "/api/v1/namespaces/bad/configmaps/none/scale",
    "/api/v1/namespaces/bad/configmaps/none/a/b",
    "/api/v1/namespaces/none/configmaps",
    "/api/v1/namespaces/none/configmaps/none",
    "/api/v1/namespaces/bad/pods/none/status",
    "/api/v1/namespaces/bad/pods/none/log",
    "/api/v1/namespaces/bad/pods/none/exec",
    "/api/v1/namespaces/bad/pods/none/portforward",
    "/api/v1/namespaces/bad/pods/none/attach",
    "/api/v1/namespaces/bad/pods/none/binding",
    "/api/v1/namespaces/bad/pods/none/ephemeralcontainers",
    "/api/v1/namespaces/bad/pods/none/eviction",
    "/api/v1/namespaces/bad/pods/none/proxy",
    "/api/v1/namespaces/bad/pods/none/proxy/a/b",
    "/api/v1/namespaces/bad/pods/none/resize",
    "/api/v1/namespaces/bad/bindings",
    "/api/v1/namespaces/bad/bindings/none",
    "/api/v1/namespaces/bad/serviceaccounts/none/token",
    "/api/v1/nodes",
    "/api/v1/nodes/none",
    "/api/v1/nodes/none/status",
    "/apis/apps/v1/namespaces/bad/deployments/none/scale",
    "/apis/apps/v1/deployments",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/none",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/none/status",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/a",
    "/apis/authorization.k8s.io/v1/namespaces/bad/localsubjectaccessreviews",
    "/apis/authentication.k8s.io/v1/tokenreviews",
    "/version",
    "/version/",
    "/healthz",
    "/livez",
    "/readyz",
    "/livez/ping",
    "/livez/nothing",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/api/v1",
    "/openapi/v3/nothing",
    "/openid/v1/jwks",
    "/.well-known/openid-configuration",
    "/nothing",
    "/nothing/at/all",
];
const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "FOO", "get"];

pub(super) fn cases(_dice: &Dice) -> Vec<Case> {
    SORTS.iter().flat_map(|path| METHODS.iter().map(|method| with_body("method", method, path))).collect()
}

/// A request whose body, where there is one, is an object of no kind. Nothing is really written.
fn with_body(stratum: &'static str, method: &str, path: &str) -> Case {
    let glue = if path.contains('?') { '&' } else { '?' };
    let case = match method {
        "POST" | "PUT" | "PATCH" | "DELETE" => Case::new(stratum, method, format!("{path}{glue}dryRun=All")),
        _ => Case::new(stratum, method, path),
    };
    match method {
        "POST" | "PUT" => case.json(r#"{"metadata":{"name":"none"}}"#),
        "PATCH" => case.header("content-type", "application/merge-patch+json").body("{}"),
        _ => case,
    }
}
