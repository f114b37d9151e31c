//! `pods/attach`: refused. A part of ours is no container: it has no terminal and no streams of its own, and what it logs is
//! what `pods/log` shows.
//!
//! Compat: `AttachREST` of `pkg/registry/core/pod/rest/subresources.go` of Kubernetes 1.37 up to the node.

use portcullis_kube::{Status, UserInfo};
use portcullis_rbac::RequestInfo;

use super::connect::{container, may_create, no_dry_run, part_of, pod_on_node, pod_there};
use crate::engine::Engine;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};

/// GET or POST of a pod's `attach`.
pub(crate) fn connect(engine: &Engine, call: &Call, info: &RequestInfo, user: &UserInfo) -> Outcome<Reply> {
    no_dry_run(call)?;
    may_create(engine, info, user)?;
    let pod = pod_there(engine, info)?;
    container(call.params.get("container"), &pod.members(), &pod.name)?;
    let pod = pod_on_node(pod)?;
    part_of(engine, info, &pod)?;
    let flags = ["stdin", "stdout", "stderr"];
    if !flags.iter().any(|flag| call.params.flag(flag)) {
        return Err(Box::new(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr")));
    }
    let why = format!(
        "pod {} is a part of Portcullis and has no streams to attach to: kubectl logs -f shows what it says",
        pod.name
    );
    Err(Box::new(Status::internal_error(&why)))
}
