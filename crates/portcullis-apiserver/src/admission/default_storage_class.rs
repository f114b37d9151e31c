//! `DefaultStorageClass`: a claim that names no class gets the default one, if there is one.
//!
//! Compat: `plugin/pkg/admission/storage/storageclass/setdefault` of Kubernetes 1.37.

use serde_json::json;

use super::newest_marked;
use crate::engine::Engine;
use crate::resources::storage_classes;
use crate::resources::tree::{Members, at, object};

/// What marks a class as the default, today and in former times.
const MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// How claims once named their class.
pub(super) const OLD_NAME: &str = "volume.beta.kubernetes.io/storage-class";

/// Gives a new claim its class. Compat: an empty name is a name, and means none.
pub(super) fn change_new(engine: &Engine, claim: &mut Members) {
    let named = at(claim, &["spec", "storageClassName"]).is_some_and(|name| !name.is_null())
        || at(claim, &["metadata", "annotations", OLD_NAME]).is_some();
    if named {
        return;
    }
    if let Some(class) = newest_marked(engine, storage_classes(), &MARKS) {
        object(claim, "spec").insert("storageClassName".to_owned(), json!(class));
    }
}
