//! `RuntimeClass`: a pod's class has to be there, and its overhead is what the class says. No classes are served, so there are none.
//!
//! Compat: `plugin/pkg/admission/runtimeclass` of Kubernetes 1.37.

use portcullis_kube::Status;
use portcullis_kube::go::quote;
use serde_json::Value;

use super::refuse;
use crate::handlers::Asked;
use crate::http::Outcome;
use crate::resources::tree::{Members, at, members_at};

/// Refuses a pod that names a class.
pub(super) fn change_new(asked: &Asked<'_>, pod: &Members) -> Outcome<()> {
    match at(pod, &["spec", "runtimeClassName"]).and_then(Value::as_str) {
        None => Ok(()),
        // Compat: the client that looks it up does not ask for no name.
        Some("") => Err(Box::new(Status::failure(500, "", "resource name may not be empty"))),
        Some(class) => refuse(asked, pod, &format!("pod rejected: RuntimeClass {} not found", quote(class))),
    }
}

/// Refuses an overhead that no class gives.
pub(super) fn judge_new(asked: &Asked<'_>, pod: &Members) -> Outcome<()> {
    if members_at(pod, &["spec", "overhead"]).is_empty() {
        return Ok(());
    }
    refuse(asked, pod, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
}
