//! `NamespaceLifecycle`: nothing is made in a namespace that is not there or is going. What it says about deletions stands in
//! `deletion::registry`.
//!
//! Compat: `apiserver/pkg/admission/plugin/namespace/lifecycle` of Kubernetes 1.37: the namespace is looked at before what is to
//! stand in it.

use portcullis_kube::go::quote;
use portcullis_kube::{Status, names};

use crate::engine::Engine;
use crate::handlers::{Asked, store_error};
use crate::http::Outcome;
use crate::resources::namespaces;
use crate::store::StoreError;

/// Refuses a new object without a namespace to stand in.
pub(super) fn change_new(engine: &Engine, asked: &Asked<'_>, name: &str) -> Outcome<()> {
    if !asked.resource.namespaced {
        return Ok(());
    }
    let wrong = names::path_segment(asked.namespace);
    if !wrong.is_empty() {
        // Compat: upstream's plugin asks the server for it as a client.
        let why = format!("invalid resource name {}: [{}]", quote(asked.namespace), wrong.join(" "));
        return Err(Box::new(Status::internal_error(&why)));
    }
    let error = match engine.store.get(namespaces(), "", asked.namespace) {
        None => StoreError::NoNamespace,
        Some(namespace) if namespace.terminating => StoreError::NamespaceTerminating,
        Some(_) => return Ok(()),
    };
    Err(store_error(error, asked.served, asked.namespace, name))
}
