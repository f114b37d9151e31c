//! DELETE of objects and of collections: what is asked for, and what is answered.
//!
//! Compat: `endpoints/handlers/delete.go`. `deletion::registry` does it.

use std::sync::Arc;

use portcullis_kube::Status;
use portcullis_rbac::{Attributes, ResourceTarget, authorize};

use super::form::{many, one};
use super::list_options::ListRequest;
use super::place::{check_folder, check_key, is_of_no_namespace, registry_key};
use super::read::page;
use super::{Asked, no_such_method, store_error};
use crate::deletion::Refusal;
use crate::deletion::options::{self, DeleteOptions};
use crate::deletion::registry::{self, Deleted};
use crate::engine::Engine;
use crate::http::Outcome;
use crate::http::reply::Reply;
use crate::store::StoreError;
use crate::store::object::Object;

/// Attempts against parallel changes.
const ATTEMPTS: usize = 5;
/// The verb that deleting what cannot be read takes.
const UNREADABLE: &str = "unsafe-delete-ignore-read-errors";

/// DELETE of one object.
pub(crate) fn delete(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    let options = options::read(asked, false)?;
    if options.unreadable {
        return Err(refuse_unreadable(engine, asked));
    }
    let warnings = unsaid(asked, &options);
    asked.call.note(&warnings);
    let mut reply = match attempt(engine, asked, asked.name, &options)? {
        Deleted::Gone(last) if !asked.resource.rules.returns_deleted => {
            let status = Status::deleted(asked.served.group_resource(), asked.name, &last.uid);
            Reply::status(&status, asked.accepted.encoding)
        }
        Deleted::Gone(last) => one(engine, asked, 200, &last)?,
        // Compat: who wants dependants gone in the old words is told that it is not done yet.
        Deleted::Terminating(last) => one(engine, asked, if options.orphan == Some(false) { 202 } else { 200 }, &last)?,
    };
    reply.warn(&warnings);
    Ok(reply)
}

/// DELETE of a collection: what the list of the same options shows.
pub(crate) fn delete_collection(engine: &Engine, asked: &Asked<'_>) -> Outcome<Reply> {
    if asked.resource.namespaced && asked.namespace.is_empty() {
        // Compat: there is such a path below a namespace only.
        let below = is_of_no_namespace(&asked.call.path);
        return if below { check_folder(asked.resource, "").and(Err(no_such_method())) } else { Err(no_such_method()) };
    }
    // Compat: all options are judged before anything is looked up.
    let list = ListRequest::read(asked)?;
    let options = options::read(asked, true)?;
    let list = list.at(engine.store.version())?;
    let warnings = unsaid(asked, &options);
    asked.call.note(&warnings);
    let page = page(engine, asked, &list)?;
    for object in &page.objects {
        match attempt(engine, asked, &object.name, &options) {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let mut reply = many(engine, asked, &page)?;
    reply.warn(&warnings);
    Ok(reply)
}

/// Compat: kinds that leave dependants behind say so to who did not ask for that.
fn unsaid(asked: &Asked<'_>, options: &DeleteOptions) -> Vec<String> {
    let warning = asked.resource.rules.deletion_warning;
    let said = options.policy.is_some() || options.orphan.is_some();
    if said || warning.is_empty() { Vec::new() } else { vec![warning.to_owned()] }
}

/// Deletes the object of that name, also when it changes meanwhile.
fn attempt(engine: &Engine, asked: &Asked<'_>, name: &str, options: &DeleteOptions) -> Outcome<Deleted> {
    check_key(asked.resource, asked.namespace, name)?;
    let refused = |error| store_error(error, asked.served, asked.namespace, name);
    for _ in 0..ATTEMPTS {
        let old: Option<Arc<Object>> = engine.store.get(asked.resource, asked.namespace, name);
        let old = old.ok_or_else(|| refused(StoreError::NotFound))?;
        match registry::delete(engine, asked.resource, &old, options) {
            Err(Refusal::Store(StoreError::Conflict)) => {}
            Err(Refusal::Store(error)) => return Err(refused(error)),
            Err(Refusal::Answer(status)) => return Err(status),
            Ok(deleted) => return Ok(deleted),
        }
    }
    Err(refused(StoreError::Conflict))
}

/// Compat: only an object that cannot be read may go that way, and here all can be.
fn refuse_unreadable(engine: &Engine, asked: &Asked<'_>) -> Box<Status> {
    let what = asked.served.group_resource();
    let target = ResourceTarget {
        namespace: asked.namespace,
        api_group: asked.served.group,
        api_version: asked.served.version,
        resource: asked.served.plural,
        subresource: "",
        name: asked.name,
    };
    let decision = authorize(&*engine.policy.snapshot(), &Attributes::resource(asked.user, UNREADABLE, target));
    if !decision.allowed {
        let why = format!("not permitted to do \"{UNREADABLE}\", reason: {}", decision.reason);
        return Box::new(Status::forbidden(what, asked.name, &why));
    }
    if engine.store.get(asked.resource, asked.namespace, asked.name).is_none() {
        return store_error(StoreError::NotFound, asked.served, asked.namespace, asked.name);
    }
    let key = registry_key(asked.resource, asked.namespace, asked.name);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
         unsafe deletion is not allowed because the object is decodable from storage"
    );
    Box::new(Status::conflict(what, asked.name, &why))
}
