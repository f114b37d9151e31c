//! One file per kind of request.

mod admission;
mod certificates;
pub(crate) mod connect;
pub(crate) mod delete;
pub(crate) mod exec;
pub(crate) mod health;
pub(crate) mod list_options;
pub(crate) mod logs;
pub(crate) mod patch;
pub(crate) mod place;
pub(crate) mod port_forward;
pub(crate) mod read;
pub(crate) mod reviews;
pub(crate) mod token;
pub(crate) mod watch;
pub(crate) mod write;

use std::sync::Arc;

use portcullis_kube::status::{GroupResource, StatusDetails};
use portcullis_kube::{Status, UserInfo};

use crate::http::negotiate::{Accepted, clauses};
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

/// What objects are written in.
const TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

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
        match self.subresource?.serves {
            Serves::Status | Serves::Part(_) | Serves::Token | Serves::Exec | Serves::Log | Serves::PortForward => None,
            Serves::Scale => {
                Some(Object::seal_part(resources::SCALE_KIND, scale::of(&object.members()), object.version))
            }
        }
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

/// The 406 for an `Accept` that nothing served fits.
///
/// Compat: a media type that the path does not know at all is refused by the router, in other words than one that is known
/// but cannot be had in the wanted form; of lists the router names the streams too.
pub(crate) fn not_acceptable(accept: &str, list: bool) -> Box<Status> {
    let known = |media_type: &str| TYPES.contains(&media_type) || matches!(media_type, "*/*" | "application/*");
    if clauses(accept).iter().any(|clause| known(clause.media_type)) {
        return Box::new(Status::not_acceptable(&TYPES));
    }
    let mut types = TYPES.join(", ");
    if list {
        types.push_str(", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch");
    }
    no_representation(&types)
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
