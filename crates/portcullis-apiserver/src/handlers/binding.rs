//! `pods/binding`, and `bindings`: gives a pod its node.
//!
//! Flow: options → body → is it a node → the labels of the node's place → the pod, if it has no node and is not going.
//!
//! Compat: `BindingREST` of `pkg/registry/core/pod/storage/storage.go` of Kubernetes 1.37.

use portcullis_kube::field::FieldError;
use portcullis_kube::status::GroupResource;
use portcullis_kube::{Status, UserInfo, names};
use portcullis_rbac::RequestInfo;
use serde_json::{Value, json};

use super::{Asked, check_routed, no_such_method, not_acceptable, store_error, write};
use crate::admission;
use crate::engine::{Engine, pretty};
use crate::http::negotiate::{Forms, negotiate};
use crate::http::params::WriteOptions;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome, body};
use crate::resources::subresources::find;
use crate::resources::tree::{Members, list_at, members_at, object, string_at};
use crate::resources::{pods, strategy};
use crate::store::StoreError;
use crate::store::object::Object;

/// Attempts against parallel changes.
const ATTEMPTS: usize = 5;
/// Annotations of old versions, which no pod may carry.
const DROPPED: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// POST to `bindings`: the pod is the one that the body names.
pub(crate) fn create_by_body(engine: &Engine, call: &Call, info: &RequestInfo, user: &UserInfo) -> Outcome<Reply> {
    if info.verb != "create" {
        return Err(no_such_method());
    }
    check_routed(&call.accept(), &[], false)?;
    let accepted = negotiate(&call.accept(), pretty(call), Forms::Metadata).ok_or_else(not_acceptable)?;
    let subresource = find(pods(), "binding");
    let namespace = info.namespace.as_str();
    create(engine, &Asked { call, user, resource: pods(), served: pods(), subresource, namespace, name: "", accepted })
}

/// POST to a pod's `binding`.
pub(crate) fn create(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let options = WriteOptions::parse(&asked.call.params, "CreateOptions")?;
    let decoded = body::decode(asked.call, write::expected(asked)?, options.field_validation)?;
    let mut binding = decoded.members;
    write::admit_part(engine, asked, &binding)?;
    if string_at(&binding, &["target", "kind"]) == "Node" {
        let node = string_at(&binding, &["target", "name"]).to_owned();
        admission::label_with_place(engine, &node, &mut binding);
    }
    let name = string_at(&binding, &["metadata", "name"]);
    if name.is_empty() && asked.name.is_empty() {
        return Err(Box::new(Status::bad_request("Name parameter required.")));
    }
    if !asked.name.is_empty() && asked.name != name {
        return Err(Box::new(Status::bad_request("name in URL does not match name in Binding object")));
    }
    validate(&binding)?;
    for _ in 0..ATTEMPTS {
        let failed = |error| store_error(error, pods(), asked.namespace, name);
        let pod = engine.store.get(pods(), asked.namespace, name).ok_or_else(|| failed(StoreError::NotFound))?;
        check_preconditions(&binding, &pod)?;
        let members = bound(&binding, pod.members(), &engine.clock.now().rfc3339())
            .map_err(|why| Box::new(Status::conflict(GroupResource::new("", "pods/binding"), name, &why)))?;
        if !options.dry_run {
            match engine.store.replace(pods(), &pod, strategy::shape(pods(), members)) {
                Ok(_) => engine.written(pods(), asked.namespace, name),
                Err(StoreError::Conflict) => continue,
                Err(error) => return Err(failed(error)),
            }
        }
        let mut reply = Reply::status(&write::done(), asked.accepted.encoding);
        reply.warn(&decoded.warnings);
        return Ok(reply);
    }
    Err(store_error(StoreError::Conflict, pods(), asked.namespace, name))
}

/// Compat: what is wrong is no `Invalid`, but a plain error.
fn validate(binding: &Members) -> Outcome<()> {
    let (kind, name) = (string_at(binding, &["target", "kind"]), string_at(binding, &["target", "name"]));
    let is_node = matches!(kind, "" | "Node");
    let mut wrong = Vec::new();
    if !is_node {
        wrong.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if name.is_empty() {
        wrong.push(FieldError::required("target.name", ""));
    } else if is_node {
        wrong.extend(names::dns_subdomain(name).into_iter().map(|why| FieldError::invalid("target.name", name, why)));
    }
    let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(Box::new(Status::failure(500, "", one))),
        all => Err(Box::new(Status::failure(500, "", format!("[{}]", all.join(", "))))),
    }
}

/// The pod is the one that the binding's identity and version name, if it names any.
fn check_preconditions(binding: &Members, pod: &Object) -> Outcome<()> {
    let version = pod.version.to_string();
    for (what, field, is) in [("UID", "uid", &*pod.uid), ("ResourceVersion", "resourceVersion", version.as_str())] {
        let wanted = string_at(binding, &["metadata", field]);
        if !wanted.is_empty() && wanted != is {
            let key = crate::store::object::key(&pod.namespace, &pod.name);
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/pods/{key}, ResourceVersion: 0, \
                 AdditionalErrorMsg: Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}"
            );
            return Err(Box::new(Status::conflict(pods().group_resource(), &pod.name, &why)));
        }
    }
    Ok(())
}

/// The pod on its node, or why it gets none.
fn bound(binding: &Members, mut pod: Members, now: &str) -> Result<Members, String> {
    let name = string_at(&pod, &["metadata", "name"]);
    let node = string_at(&pod, &["spec", "nodeName"]);
    if !string_at(&pod, &["metadata", "deletionTimestamp"]).is_empty() {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if !node.is_empty() {
        return Err(format!("pod {name} is already assigned to node \"{node}\""));
    }
    if !list_at(&pod, &["spec", "schedulingGates"]).is_empty() {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let node = string_at(binding, &["target", "name"]);
    object(&mut pod, "spec").insert("nodeName".to_owned(), json!(node));
    let metadata = object(&mut pod, "metadata");
    for part in ["annotations", "labels"] {
        let sent = members_at(binding, &["metadata", part]);
        if !sent.is_empty() {
            object(metadata, part).extend(sent.clone());
        }
    }
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.retain(|key, _| !DROPPED.contains(&key.as_str()));
    }
    let status = object(&mut pod, "status");
    status.shift_remove("nominatedNodeName");
    pods::set_condition(status, json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null}), now);
    Ok(pod)
}
