//! One file per kind of request.

pub(crate) mod attach;
pub(crate) mod binding;
pub(crate) mod certificates;
pub(crate) mod connect;
pub(crate) mod delete;
pub(crate) mod eviction;
pub(crate) mod exec;
pub(crate) mod form;
pub(crate) mod health;
pub(crate) mod list_options;
pub(crate) mod logs;
pub(crate) mod patch;
pub(crate) mod place;
pub(crate) mod port_forward;
pub(crate) mod proxy;
pub(crate) mod read;
pub(crate) mod reviews;
pub(crate) mod token;
pub(crate) mod watch;
pub(crate) mod write;

use std::sync::Arc;

use portcullis_kube::status::{GroupResource, StatusDetails};
use portcullis_kube::{Status, UserInfo};

use crate::http::negotiate::{Accepted, TYPES, routed};
use crate::http::{Call, Outcome};
use crate::resources::{self, Resource, Serves, Subresource, scale};
use crate::store::StoreError;
use crate::store::object::Object;

/// An authenticated and authorized request of a resource.
pub(crate) struct Asked<'a> {
    pub(crate) call: &'a Call,
    pub(crate) user: &'a UserInfo,
    /// What is stored. Messages about what is wrong with an object call it by this kind.
    pub(crate) resource: &'static Resource,
    /// What the path names: the same, or a view of it. All other messages call it so.
    pub(crate) served: &'static Resource,
    /// What stands after the name in the path.
    pub(crate) subresource: Option<&'static Subresource>,
    /// Empty for cluster-scoped resources and for lists over all namespaces.
    pub(crate) namespace: &'a str,
    /// The name in the path; empty for collections.
    pub(crate) name: &'a str,
    pub(crate) accepted: Accepted,
}

impl Asked<'_> {
    /// Whether an object can lie where the path says.
    pub(crate) fn check_key(&self) -> Outcome<()> {
        place::check_key(self.resource, self.namespace, self.name)
    }

    /// The document that the path shows instead of the stored object.
    pub(crate) fn shown(&self, object: &Object) -> Option<Arc<Object>> {
        self.part_of(object).or_else(|| self.served.shown(object))
    }

    /// The document of a kind of its own that the path shows a part of the object in.
    pub(crate) fn part_of(&self, object: &Object) -> Option<Arc<Object>> {
        let Serves::Scale = self.subresource?.serves else { return None };
        Some(Object::seal_part(resources::SCALE_KIND, scale::of(&object.members()), object.version))
    }
}

/// What the real server says to a resource, version or subresource that it does not have.
pub(crate) fn no_such_resource() -> Box<Status> {
    generic(404, "NotFound", "the server could not find the requested resource")
}

/// What the real server says to a subresource of nothing.
pub(crate) fn nameless() -> Box<Status> {
    Box::new(Status::bad_request("name must be provided"))
}

/// What the real server says to a method that a path does not take.
pub(crate) fn no_such_method() -> Box<Status> {
    generic(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

fn generic(code: u16, reason: &str, message: &str) -> Box<Status> {
    let mut status = Status::failure(code, reason, message);
    status.details = Some(Box::new(StatusDetails::default()));
    Box::new(status)
}

/// Lets a request through whose `Accept` the router knows; `more` is what the path produces beside the usual types, and
/// `streams` whether the router counts watches among it.
pub(crate) fn check_routed(accept: &str, more: &[&str], streams: bool) -> Outcome<()> {
    if routed(accept, &TYPES) || routed(accept, more) {
        return Ok(());
    }
    let mut types = [more, &TYPES].concat().join(", ");
    if streams {
        types.push_str(", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch");
    }
    Err(no_representation(&types))
}

/// The 406 for an `Accept` that names nothing in a form that there is.
pub(crate) fn not_acceptable() -> Box<Status> {
    Box::new(Status::not_acceptable(&TYPES))
}

/// The router's 406.
pub(crate) fn no_representation(types: &str) -> Box<Status> {
    generic(406, "NotAcceptable", &format!("406: Not Acceptable\n\nAvailable representations: {types}"))
}

/// The 409 for an object's name, or what else the store said.
pub(crate) fn store_error(error: StoreError, resource: &Resource, namespace: &str, name: &str) -> Box<Status> {
    let what = resource.group_resource();
    Box::new(match error {
        StoreError::Exists => Status::already_exists(what, name),
        StoreError::NotFound => Status::not_found(what, name),
        StoreError::Conflict => Status::stale(what, name),
        StoreError::NoNamespace => Status::not_found(GroupResource::new("", "namespaces"), namespace),
        StoreError::NamespaceTerminating => {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            let mut status = Status::forbidden(what, name, &why);
            if let Some(details) = &mut status.details {
                details.causes = vec![portcullis_kube::status::StatusCause {
                    reason: "NamespaceTerminating".to_owned(),
                    message: format!("namespace {namespace} is being terminated"),
                    field: "metadata.namespace".to_owned(),
                }];
            }
            status
        }
        // Compat: as when etcd has no room.
        StoreError::NotKept(why) => Status::internal_error(&why.to_string()),
        StoreError::Full => Status::failure(507, "InsufficientStorage", "the dev API server's store is full"),
    })
}

/// The 504 for a version that is not reached yet.
pub(crate) fn too_large_version(wanted: u64, current: u64) -> Box<Status> {
    let mut status = Status::timeout(&format!("Too large resource version: {wanted}, current: {current}"), 1);
    if let Some(details) = &mut status.details {
        details.causes = vec![portcullis_kube::status::StatusCause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }];
    }
    Box::new(status)
}
