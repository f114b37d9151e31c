//! `PersistentVolumeClaimResize`: only a bound claim grows, and only if its class lets it.
//!
//! Compat: `plugin/pkg/admission/storage/persistentvolume/resize` of Kubernetes 1.37.

use super::default_storage_class::OLD_NAME;
use super::refuse;
use crate::engine::Engine;
use crate::handlers::Asked;
use crate::http::Outcome;
use crate::resources::storage_classes;
use crate::resources::tree::{Members, at, flag_at, string_at};
use crate::schema::quantity::Quantity;

/// Refuses to let a claim grow that cannot.
pub(super) fn judge_update(engine: &Engine, asked: &Asked<'_>, new: &Members, old: &Members) -> Outcome<()> {
    let size = |claim: &Members| Quantity::parse(string_at(claim, &["spec", "resources", "requests", "storage"])).ok();
    let grows = match (size(new), size(old)) {
        (Some(new), Some(old)) => new.compare(old).is_gt(),
        (Some(new), None) => !new.is_negative() && !new.is_zero(),
        (None, _) => false,
    };
    if !grows {
        return Ok(());
    }
    if string_at(old, &["status", "phase"]) != "Bound" {
        return refuse(asked, new, "Only bound persistent volume claims can be expanded");
    }
    let class = class(new);
    let there =
        (!class.is_empty() && class == self::class(old)).then(|| engine.store.get(storage_classes(), "", class));
    if there.flatten().is_some_and(|class| flag_at(&class.members(), &["allowVolumeExpansion"])) {
        return Ok(());
    }
    refuse(
        asked,
        new,
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    )
}

fn class(claim: &Members) -> &str {
    match at(claim, &["metadata", "annotations", OLD_NAME]) {
        Some(name) => name.as_str().unwrap_or_default(),
        None => string_at(claim, &["spec", "storageClassName"]),
    }
}
