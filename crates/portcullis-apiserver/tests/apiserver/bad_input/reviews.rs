//! Bodies of what is answered and not stored, and of requests for certificates: reviews, tokens, approvals.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::bodies::{STRATA, spoil, validation};
use super::metadata::THERE;
use super::seeds::Seed;
use super::wire::Case;
use crate::rbac::Dice;

pub(super) const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let (seeds, request) = (seeds(), request());
    let mut out = Vec::new();
    for (round, stratum) in STRATA.into_iter().enumerate() {
        for (index, seed) in seeds.iter().enumerate() {
            let name = format!("r{}-{round}-{index}", dice.seed() % 1_000_000);
            let mut tree = seed.named(&name);
            if !dice.percent(10) {
                // Most of them take no metadata, and say nothing else then.
                tree["metadata"] = json!({});
            }
            let case = Case::new(stratum, "POST", format!("{}{}", seed.path, validation(dice)));
            out.push(spoil(dice, &tree, stratum, case));
        }
        let name = format!("r{}-{round}", dice.seed() % 1_000_000);
        let case = Case::new(stratum, "POST", format!("{REQUESTS}{}", validation(dice)));
        out.push(spoil(dice, &request.named(&name), stratum, case));
        for part in ["approval", "status", "approval"] {
            let mut tree = request.named(THERE);
            tree["status"] = json!({"conditions": [{"type": dice.word(&["Approved", "Denied", "Failed", "Odd"]), "status": "True",
                "reason": "R", "message": "m", "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
            let query = validation(dice).replace('?', "&");
            let case = Case::new(stratum, "PUT", format!("{REQUESTS}/{THERE}/{part}?dryRun=All{query}"));
            out.push(spoil(dice, &tree, stratum, case));
        }
    }
    out
}

/// What is answered and not stored, but for those that `seeds` has.
pub(super) fn seeds() -> Vec<Seed> {
    let access = "authorization.k8s.io/v1";
    let who = "authentication.k8s.io/v1";
    let seed = |path, api_version, kind, object| Seed { path, kind, api_version, object };
    let attributes = json!({"namespace": "bad", "verb": "list", "group": "apps", "version": "v1", "resource": "deployments", "subresource": "scale", "name": "a",
        "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}, "labelSelector": {"rawSelector": "a=b"}});
    vec![
        seed(
            "/apis/authorization.k8s.io/v1/namespaces/bad/localsubjectaccessreviews",
            access,
            "LocalSubjectAccessReview",
            json!({"spec": {"user": "jane", "uid": "u", "groups": ["g", "h"], "extra": {"k": ["v", "w"]}, "resourceAttributes": attributes}}),
        ),
        seed(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            access,
            "SelfSubjectAccessReview",
            json!({"spec": {"resourceAttributes": attributes}}),
        ),
        seed(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            access,
            "SubjectAccessReview",
            json!({"spec": {"user": "jane", "nonResourceAttributes": {"verb": "get", "path": "/livez"}}}),
        ),
        seed(
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            access,
            "SelfSubjectRulesReview",
            json!({"spec": {"namespace": "bad"}}),
        ),
        seed(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            who,
            "TokenReview",
            json!({"spec": {"token": "odd", "audiences": ["a", "b"]}}),
        ),
        seed("/apis/authentication.k8s.io/v1/selfsubjectreviews", who, "SelfSubjectReview", json!({"status": {}})),
        seed(
            "/api/v1/namespaces/bad/serviceaccounts/there/token",
            who,
            "TokenRequest",
            json!({"spec": {"audiences": ["a", "b"], "expirationSeconds": 3600,
                "boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "there"}}}),
        ),
    ]
}

/// A request for a certificate.
pub(super) fn request() -> Seed {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wanted = rcgen::CertificateParams::default();
    wanted.distinguished_name.push(rcgen::DnType::CommonName, "jane");
    let pem = wanted.serialize_request(&key).unwrap().pem().unwrap();
    let object = json!({"spec": {"request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client",
        "expirationSeconds": 3600, "usages": ["client auth", "digital signature"]}});
    Seed { path: REQUESTS, kind: "CertificateSigningRequest", api_version: "certificates.k8s.io/v1", object }
}

/// An answer without who asked for a certificate: the administrators of the two servers have names of their own.
pub(super) fn without_administrator(body: &str) -> String {
    body.replace("\"kubernetes-admin\"", "\"admin\"")
}

/// An answer without the token that it gives.
pub(super) fn without_token(body: &str) -> String {
    let Ok(mut body) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
    let Some(Value::Object(status)) = body.get_mut("status") else { return body.to_string() };
    for member in ["token", "expirationTimestamp"] {
        if let Some(value) = status.get_mut(member).filter(|value| value.as_str().is_some_and(|text| !text.is_empty()))
        {
            *value = Value::from("-");
        }
    }
    serde_json::to_string_pretty(&body).unwrap()
}
