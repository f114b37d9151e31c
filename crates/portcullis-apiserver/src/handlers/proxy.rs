//! `pods/proxy`: HTTP to a pod's own address, which no pod here has.
//!
//! Compat: `pkg/registry/core/pod/strategy.go` of Kubernetes 1.37: an address that is none, or of this machine only, is refused.

use std::net::IpAddr;

use http::Method;
use portcullis_kube::Status;
use portcullis_rbac::RequestInfo;

use super::connect::{no_dry_run, pod_there};
use crate::engine::Engine;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::resources::tree::{list_at, string, string_at};

/// What is passed on.
pub(crate) const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Any method on a pod's `proxy`, and on what is below it.
pub(crate) fn connect(engine: &Engine, call: &Call, info: &RequestInfo) -> Outcome<Reply> {
    no_dry_run(call)?;
    // The name may say scheme and port: `https:name:443`.
    let parts: Vec<&str> = info.name.split(':').collect();
    let name = match parts.as_slice() {
        [name] | [name, _] | ["" | "http" | "https", name, _] if !name.is_empty() => name,
        _ => {
            return Err(Box::new(Status::bad_request(format!(
                "invalid pod request {}",
                portcullis_kube::go::quote(&info.name)
            ))));
        }
    };
    let pod = pod_there(engine, &RequestInfo { name: (*name).to_owned(), ..info.clone() })?;
    let members = pod.members();
    let first = list_at(&members, &["status", "podIPs"]).first().map(|ip| string(ip, "ip"));
    let address = first.unwrap_or_else(|| string_at(&members, &["status", "podIP"]));
    if !address.parse().is_ok_and(is_global_unicast) {
        return Err(Box::new(Status::bad_request("address not allowed")));
    }
    let why = format!("error trying to reach service: nothing listens at {address}: only Portcullis' own parts run");
    Err(Box::new(Status::service_unavailable(why)))
}

/// Compat: Go's `IP.IsGlobalUnicast`.
fn is_global_unicast(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}
