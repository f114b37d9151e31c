//! `pods/exec`: the one command that our own parts understand, `kill 1`.
//!
//! A part is no container: there are no programs in it, and nothing can be run. Ending it is what people use `kubectl exec`
//! for with pods that have nothing else, so that one command is understood (docs/decisions/0023); any other is refused as a
//! runtime refuses a program that the image does not have.
//!
//! Compat: `pkg/registry/core/pod/rest/subresources.go` of Kubernetes 1.37 up to the node.

use portcullis_kube::{Status, UserInfo};
use portcullis_rbac::RequestInfo;

use super::connect::{container, may_create, no_dry_run, part_of, pod_on_node, pod_there};
use crate::engine::Engine;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::parts::PartState;
use crate::streams::exec::{self, Said, Wants};
use crate::streams::negotiate::{Framing, Speaks, agree};

const SPEAKS: Speaks = Speaks { spdy: &[exec::PROTOCOL], tunnel: false, channels: exec::PROTOCOLS };
/// Most words of a command; further ones make it another.
const MAX_WORDS: usize = 16;

/// GET or POST of a pod's `exec`.
pub(crate) fn connect(engine: &Engine, call: &Call, info: &RequestInfo, user: &UserInfo) -> Outcome<Reply> {
    no_dry_run(call)?;
    may_create(engine, info, user)?;
    let pod = pod_there(engine, info)?;
    let asked = container(call.params.get("container"), &pod.members(), &pod.name)?;
    let pod = pod_on_node(pod)?;
    let known = part_of(engine, info, &pod)?;
    let flag = |name: &str| call.params.flag(name);
    let wants = Wants { stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr"), tty: flag("tty") };
    if !(wants.stdin || wants.stdout || wants.stderr) {
        return Err(Box::new(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr")));
    }
    if !matches!(known.status.state, PartState::Running { .. }) {
        let why = format!("unable to upgrade connection: container not found (\"{asked}\")");
        return Err(Box::new(Status::internal_error(&why)));
    }
    let command: Vec<String> = call.params.all("command").take(MAX_WORDS).map(str::to_owned).collect();
    let agreed = match agree(call, &SPEAKS)? {
        Ok(agreed) => agreed,
        Err(refusal) => return Ok(*refusal),
    };
    let seat = engine.streams.seat()?;
    let limits = engine.streams.limits.clone();
    let (framing, control) = (agreed.framing, known.part.control.clone());
    Ok(agreed.reply(Box::new(move |transport, stop| {
        Box::pin(async move {
            let said = Said::of(&command, &control);
            match framing {
                Framing::Channels(_) => exec::serve_channels(transport, said, &limits, &stop).await,
                Framing::Spdy | Framing::Tunnel => exec::serve_spdy(transport, wants, said, &limits, &stop).await,
            }
            drop(seat);
        })
    })))
}
