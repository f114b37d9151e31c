//! What bodies say that they are.

use super::wire::Case;
use crate::rbac::Dice;

const MAPS: &str = "/api/v1/namespaces/bad/configmaps";
const KEPT: &str = "/api/v1/namespaces/bad/configmaps/kept";
/// Values of `Content-Type`.
const TYPES: &[&str] = &[
    "",
    " ",
    ";",
    "*/*",
    "application/*",
    "application/json",
    "APPLICATION/JSON",
    "application/json;",
    "application/json; charset=utf-8",
    "application/json; charset=latin1",
    "application/json;odd",
    "application/json;a=b;a=c",
    "application/json,application/yaml",
    "application/json application/yaml",
    " application/json",
    "application/json/x",
    "json",
    "text/json",
    "text/plain",
    "text/html",
    "application/yaml",
    "application/yaml; charset=utf-8",
    "application/x-yaml",
    "text/yaml",
    "application/cbor",
    "application/cbor-seq",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf;type=x",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+cbor",
    "application/merge-patch+json; charset=utf-8",
    "application/merge-patch+yaml",
    "application/problem+json",
    "application/json+patch",
    "/",
    "a/b/c",
    "\"",
    "<>",
];

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let bodies =
        ["", "{}", "null", r#"{"metadata":{"name":"made"}}"#, "metadata:\n  name: made\n", "k8s\0", "\u{1}\u{2}"];
    let mut out = Vec::new();
    for value in TYPES {
        for body in [bodies[1], bodies[3], bodies[4], bodies[dice.below(bodies.len())]] {
            out.push(Case::new("type", "POST", MAPS).header("content-type", value).body(body));
            out.push(Case::new("type", "PATCH", KEPT).header("content-type", value).body(body));
            out.push(
                Case::new("type", "DELETE", format!("{KEPT}?dryRun=All")).header("content-type", value).body(body),
            );
        }
        let body = r#"{"spec":{"nonResourceAttributes":{"verb":"get","path":"/"}}}"#;
        let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        out.push(Case::new("type", "POST", review).header("content-type", value).body(body));
        out.push(Case::new("type", "PUT", KEPT).header("content-type", value).body(r#"{"metadata":{"name":"kept"}}"#));
        out.push(Case::new("type", "GET", KEPT).header("content-type", value));
        let eviction = "/api/v1/namespaces/bad/serviceaccounts/none/token";
        out.push(Case::new("type", "POST", eviction).header("content-type", value).body(r#"{"spec":{}}"#));
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        // No type at all.
        for body in bodies {
            let target = if method == "POST" { MAPS.to_owned() } else { format!("{KEPT}?dryRun=All") };
            out.push(Case::new("no type", method, target).body(body));
        }
    }
    out
}
