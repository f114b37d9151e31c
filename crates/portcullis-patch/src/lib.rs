//! What a PATCH makes of an object: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes' strategic merge
//! patch, with the results and the words of kube-apiserver 1.37.
//!
//! The flow: [`PatchText::check`] (limits and shape, once) → [`JsonPatch`], [`MergePatch`] or [`StrategicPatch`]
//! `::decode` (what cannot be a patch, and what `fieldValidation` reports) → `apply`, as often as a conflict makes the
//! caller read the object again. [`apply_json_patch`], [`merge_patch`] and [`strategic_merge`] do all of it in one call.
//!
//! An error says which class of answer a client gets ([`Answer`]); which status and which sentence around the text that
//! is, the caller decides. The crate is pure: no HTTP, no storage, no clock, no type table. What a field is and how its
//! list is merged comes from the caller's [`PatchSchema`].
//!
//! Compat: the upstream counterparts are `gopkg.in/evanphx/json-patch.v4` 4.13.0 and
//! `k8s.io/apimachinery/pkg/util/strategicpatch` 0.37.2 as `k8s.io/apiserver/pkg/endpoints/handlers/patch.go` uses them,
//! oddities included: a JSON patch works on text (`1` and `1.0` differ, so do `"<"` and `"\u003c"`), and lists are put in
//! order by an algorithm that shows through when a list is deleted from. Where Go walks a map in random order, members
//! are taken in the order of the patch. Where Go's code panics (the connection to kube-apiserver breaks off), the error
//! says so: [`Answer::Crash`]. What is narrower here: the limits in [`limits`].

mod answer;
mod findings;
mod go;
mod json_patch;
pub mod limits;
mod merge_patch;
mod node;
mod strategic;
mod text;

pub use answer::{Answer, FieldValidation};
pub use json_patch::{JsonPatch, JsonPatchError, apply_json_patch};
pub use merge_patch::{MergePatch, MergePatchError, merge_patch};
pub use strategic::{
    GoKind, Merged, PatchField, PatchSchema, StrategicError, StrategicPatch, names_field, strategic_merge,
};
pub use text::{Document, DocumentError, PatchText, TextError, document_text, read_document};
