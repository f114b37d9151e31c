//! What all requests have in common that make a connection to a pod.
//!
//! Compat: `pkg/registry/core/pod/rest/authorize.go` and `pkg/registry/core/pod/strategy.go` of Kubernetes 1.37. A GET, which
//! WebSockets need, is authorized twice: as `get`, and as `create` (gate `AuthorizePodWebsocketUpgradeCreatePermission`).

use std::sync::Arc;

use portcullis_kube::status::GroupResource;
use portcullis_kube::{Status, UserInfo};
use portcullis_rbac::{RequestInfo, authorize};

use super::place::check_key;
use super::store_error;
use crate::engine::Engine;
use crate::http::{Call, Outcome};
use crate::parts::Known;
use crate::resources;
use crate::resources::tree::{Members, list_at, string};
use crate::store::StoreError;
use crate::store::object::Object;

/// A connection cannot be tried out.
pub(crate) fn no_dry_run(call: &Call) -> Outcome<()> {
    if call.params.has("dryRun") {
        return Err(Box::new(Status::bad_request("dryRun is not supported")));
    }
    Ok(())
}

/// Whether the user may create what is asked for, when the request is a GET.
pub(crate) fn may_create(engine: &Engine, info: &RequestInfo, user: &UserInfo) -> Outcome<()> {
    let mut attributes = info.attributes(user);
    if attributes.verb == "create" {
        return Ok(());
    }
    attributes.verb = "create";
    let decision = authorize(&*engine.policy.snapshot(), &attributes);
    if decision.allowed {
        return Ok(());
    }
    Err(Box::new(Status::forbidden(GroupResource::new(&info.api_group, &info.resource), &info.name, &decision.reason)))
}

/// The pod.
pub(crate) fn pod_there(engine: &Engine, info: &RequestInfo) -> Outcome<Arc<Object>> {
    let pods = resources::pods();
    check_key(pods, &info.namespace, &info.name)?;
    let pod = engine.store.get(pods, &info.namespace, &info.name);
    pod.ok_or_else(|| store_error(StoreError::NotFound, pods, &info.namespace, &info.name))
}

/// The pod, if it has a node.
pub(crate) fn pod_on_node(pod: Arc<Object>) -> Outcome<Arc<Object>> {
    if resources::text(&pod.members(), &["spec", "nodeName"]).is_empty() {
        return Err(Box::new(Status::bad_request(format!("pod {} does not have a host assigned", pod.name))));
    }
    Ok(pod)
}

/// The part that a pod with a node stands for.
pub(crate) fn part_of(engine: &Engine, info: &RequestInfo, pod: &Object) -> Outcome<Known> {
    let node = resources::text(&pod.members(), &["spec", "nodeName"]).to_string();
    engine.parts.find(&info.namespace, &info.name).ok_or_else(|| {
        let why =
            format!("pod {} does not run: node {node} has no kubelet, and only Portcullis' own parts run", info.name);
        Box::new(Status::internal_error(&why))
    })
}

/// The container that is meant.
pub(crate) fn container(asked: &str, pod: &Members, name: &str) -> Outcome<String> {
    let names = |list: &str| -> Vec<String> {
        list_at(pod, &["spec", list]).iter().map(|container| string(container, "name").to_owned()).collect()
    };
    let main = names("containers");
    let all: Vec<String> =
        ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|list| names(list)).collect();
    if !asked.is_empty() {
        return if all.iter().any(|name| name == asked) {
            Ok(asked.to_owned())
        } else {
            Err(Box::new(Status::bad_request(format!("container {asked} is not valid for pod {name}"))))
        };
    }
    match main.as_slice() {
        [only] => Ok(only.clone()),
        _ => {
            let all = all.join(" ");
            let why = format!("a container name must be specified for pod {name}, choose one of: [{all}]");
            Err(Box::new(Status::bad_request(why)))
        }
    }
}
