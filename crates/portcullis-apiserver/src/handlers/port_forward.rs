//! `pods/portforward`: a connection to the ports of one of our own parts.
//!
//! Flow: query → may the user create it → the pod and its node → framing → a place among the sessions → 101 and `streams`.
//!
//! Compat: `pkg/registry/core/pod/rest/subresources.go`, `authorize.go` and `pkg/registry/core/pod/strategy.go` of Kubernetes
//! 1.37. A GET, which WebSockets need, is authorized twice: as `get`, and as `create` (gate
//! `AuthorizePodWebsocketUpgradeCreatePermission`).

use portcullis_kube::{Status, UserInfo, go};
use portcullis_rbac::RequestInfo;

use super::connect::{may_create, no_dry_run, part_of, pod_on_node, pod_there};
use crate::engine::Engine;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::streams::negotiate::{Framing, Speaks, agree};
use crate::streams::sockets::Sockets;
use crate::streams::{old_port_forward, port_forward};

const SPEAKS: Speaks = Speaks { spdy: &[port_forward::PROTOCOL], tunnel: true, channels: old_port_forward::PROTOCOLS };

/// GET or POST of a pod's `portforward`.
pub(crate) fn connect(engine: &Engine, call: &Call, info: &RequestInfo, user: &UserInfo) -> Outcome<Reply> {
    no_dry_run(call)?;
    let ports = ports(call)?;
    may_create(engine, info, user)?;
    let pod = pod_on_node(pod_there(engine, info)?)?;
    let part = part_of(engine, info, &pod)?;
    let agreed = match agree(call, &SPEAKS)? {
        Ok(agreed) => agreed,
        Err(refusal) => return Ok(*refusal),
    };
    if matches!(agreed.framing, Framing::Channels(_)) && !(1..=old_port_forward::MAX_PORTS).contains(&ports.len()) {
        let most = old_port_forward::MAX_PORTS;
        let why = if ports.is_empty() {
            "query parameter \"port\" is required".to_owned()
        } else {
            format!("a WebSocket with channels has at most {most} ports")
        };
        return Err(Box::new(Status::bad_request(why)));
    }
    let seat = engine.streams.seat()?;
    let sockets = Sockets {
        pod: pod.name.to_string(),
        uid: pod.uid.to_string(),
        ports: part.part.ports.clone().into(),
        places: engine.streams.forwards(),
    };
    let (limits, over) = (engine.streams.limits.clone(), part.over);
    let framing = agreed.framing;
    Ok(agreed.reply(Box::new(move |transport, stop| {
        Box::pin(async move {
            match framing {
                Framing::Spdy => port_forward::serve(transport, sockets, &limits, &over, &stop).await,
                Framing::Tunnel => {
                    let tunnel = portcullis_spdy::websocket::Tunnel::server(transport, Default::default());
                    port_forward::serve(tunnel, sockets, &limits, &over, &stop).await;
                }
                Framing::Channels(protocol) => {
                    old_port_forward::serve(transport, protocol, &ports, sockets, &limits, &over, &stop).await;
                }
            }
            drop(seat);
        })
    })))
}

/// The ports in the query, which only WebSockets with channels need.
fn ports(call: &Call) -> Outcome<Vec<u16>> {
    let mut ports = Vec::new();
    for number in call.params.all("ports").flat_map(|value| value.split(',')) {
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let port = number.parse::<u16>().ok().filter(|_| digits).ok_or_else(|| {
            let quoted = go::quote(number);
            let why = if digits { "value out of range" } else { "invalid syntax" };
            let why = format!("cannot convert to []int32: strconv.ParseUint: parsing {quoted}: {why}");
            Box::new(Status::bad_request(why))
        })?;
        ports.push(port);
    }
    Ok(ports)
}
