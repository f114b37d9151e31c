//! `StorageObjectInUseProtection`: volumes and claims stay while something uses them. `deletion::protection` lets them go.
//!
//! Compat: `plugin/pkg/admission/storage/storageobjectinuseprotection` of Kubernetes 1.37.

use serde_json::{Value, json};

use crate::deletion::protection::finalizer;
use crate::resources::Resource;
use crate::resources::tree::{Members, object};

/// Gives a new volume or claim the finalizer that protects it.
pub(super) fn change_new(resource: &Resource, new: &mut Members) {
    let Some(finalizer) = finalizer(resource) else { return };
    let metadata = object(new, "metadata");
    match metadata.get_mut("finalizers") {
        Some(Value::Array(there)) if there.iter().any(|one| one == finalizer) => {}
        Some(Value::Array(there)) => there.push(json!(finalizer)),
        _ => drop(metadata.insert("finalizers".to_owned(), json!([finalizer]))),
    }
}
