//! What becomes of certificate signing requests where the caller counts: who asks, who may approve and who may sign.
//!
//! Compat: `pkg/registry/certificates/certificates/strategy.go`, and the admission plugins `CertificateApproval`,
//! `CertificateSigning` and `CertificateSubjectRestriction` of Kubernetes 1.37.

use portcullis_kube::Status;
use portcullis_kube::go::quote;
use portcullis_rbac::{Attributes, Policy, ResourceTarget, authorize};
use serde_json::{Value, json};

use super::Asked;
use crate::engine::Engine;
use crate::http::Outcome;
use crate::resources::certificate_signing_requests;
use crate::resources::certificates::{request, stamp};
use crate::resources::check::same;
use crate::resources::tree::{Members, at, object, string_at};

/// The signer of certificates that this API takes.
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

fn is_about_one(asked: &Asked<'_>) -> bool {
    std::ptr::eq(asked.resource, certificate_signing_requests())
}

/// Says in a new request who makes it.
pub(crate) fn of_caller(asked: &Asked<'_>, new: &mut Members) {
    if !is_about_one(asked) {
        return;
    }
    let user = asked.user;
    let spec = object(new, "spec");
    for (name, value) in [
        ("username", json!(user.username)),
        ("uid", json!(user.uid)),
        ("groups", json!(user.groups)),
        ("extra", json!(user.extra)),
    ] {
        spec.insert(name.to_owned(), value);
    }
}

/// Nobody gets a certificate of `system:masters`.
pub(crate) fn check_subject(asked: &Asked<'_>, new: &Members) -> Outcome<()> {
    if !is_about_one(asked) || string_at(new, &["spec", "signerName"]) != CLIENTS {
        return Ok(());
    }
    let organizations = request::organizations(at(new, &["spec", "request"]).unwrap_or(&Value::Null));
    let why = match organizations {
        Err(why) => format!("failed to parse CSR: {why}"),
        Ok(names) if names.iter().any(|name| name == portcullis_kube::user_info::MASTERS_GROUP) => {
            format!("use of {CLIENTS} signer with system:masters group is not allowed")
        }
        Ok(_) => return Ok(()),
    };
    refuse(asked, string_at(new, &["metadata", "name"]), &why)
}

/// Gives what an approver or signer says the time at which it is said.
pub(crate) fn stamp_conditions(engine: &Engine, asked: &Asked<'_>, new: &mut Members, old: &Members) {
    if is_about_one(asked) && asked.subresource.is_some() {
        stamp(new, old, &engine.clock.now().rfc3339());
    }
}

/// Whether the caller may approve, or sign, for the request's signer.
pub(crate) fn check_signer(policy: &Policy, asked: &Asked<'_>, new: &Members, old: &Members) -> Outcome<()> {
    let part = asked.subresource.map_or("", |part| part.name);
    let changed = |path: &[&str]| {
        let of = |members| at(members, path).unwrap_or(&Value::Null);
        !same(of(new), of(old))
    };
    let verb = match part {
        _ if !is_about_one(asked) => return Ok(()),
        "approval" => "approve",
        "status" if changed(&["status", "certificate"]) || changed(&["status", "conditions"]) => "sign",
        _ => return Ok(()),
    };
    let signer = string_at(old, &["spec", "signerName"]);
    let any = format!("{}/*", signer.split('/').next().unwrap_or_default());
    let may = |name: &str| {
        let target = ResourceTarget {
            namespace: "",
            api_group: asked.resource.group,
            api_version: "*",
            resource: "signers",
            subresource: "",
            name,
        };
        authorize(policy, &Attributes::resource(asked.user, verb, target)).allowed
    };
    if may(signer) || may(&any) {
        return Ok(());
    }
    refuse(asked, asked.name, &format!("user not permitted to {verb} requests with signerName {}", quote(signer)))
}

fn refuse(asked: &Asked<'_>, name: &str, why: &str) -> Outcome<()> {
    Err(Box::new(Status::forbidden(asked.resource.group_resource(), name, why)))
}
