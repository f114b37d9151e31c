//! Strategic merge patch: a merge patch that knows the types, so that lists are merged too.
//!
//! The flow: decode → [`merge`] (objects and directives) → [`lists`] (elements) → [`order`] (where they stand). The types
//! are asked for through [`PatchSchema`].
//!
//! Compat: `StrategicMergeMapPatch` of `k8s.io/apimachinery/pkg/util/strategicpatch`. The order of an object's members
//! means nothing there, nor here.

mod error;
mod lists;
mod merge;
mod order;
mod schema;

use serde_json::{Map, Value};

pub use error::StrategicError;
pub use schema::{GoKind, PatchField, PatchSchema, names_field};

use crate::FieldValidation;
use crate::findings::Findings;
use crate::go;
use crate::text::{self, PatchText};

/// A strategic merge patch that can be applied.
#[derive(Debug, Clone)]
pub struct StrategicPatch {
    members: Map<String, Value>,
    findings: Vec<String>,
}

/// What a strategic merge patch makes of an object.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Merged {
    /// The object. Its members stand in no particular order.
    pub members: Map<String, Value>,
    left: Map<String, Value>,
}

impl Merged {
    /// What is left of the patch, as Go prints it: `map[spec:map[replicas:2]]`. kube-apiserver names it as the invalid
    /// value when the object does not fit its type.
    #[must_use]
    pub fn left(&self) -> String {
        go::map(&self.left)
    }
}

impl StrategicPatch {
    /// Decodes a patch, before the object is known.
    ///
    /// # Errors
    /// [`StrategicError::Decode`] when it is neither an object nor null, or has a number that no float64 holds.
    pub fn decode(text: PatchText<'_>, validation: FieldValidation) -> Result<Self, StrategicError> {
        let mut findings = Findings::default();
        let asked = (validation == FieldValidation::Report).then_some(&mut findings);
        let members = text::decode_map(text.value(), asked).map_err(StrategicError::Decode)?;
        Ok(Self { members, findings: findings.into_texts() })
    }

    /// Members that stand in the patch twice, in upstream's words: `duplicate field "metadata.labels"`.
    #[must_use]
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// Merges the patch into an object of the type `schema`.
    ///
    /// The object has to be what the API server's types give: a list where the type has a list, whole numbers where it
    /// has whole numbers.
    ///
    /// # Errors
    /// A directive is malformed, the patch asks for what the type does not have, or elements lack their merge key.
    pub fn apply<S: PatchSchema>(&self, original: Map<String, Value>, schema: &S) -> Result<Merged, StrategicError> {
        let mut left = self.members.clone();
        let members = merge::merge_map(original, &mut left, schema)?;
        Ok(Merged { members, left })
    }
}

/// Decodes `patch` and merges it into `original`, an object of the type `schema`, reporting nothing.
///
/// # Errors
/// As [`StrategicPatch::decode`] and [`StrategicPatch::apply`].
pub fn strategic_merge<S: PatchSchema>(
    original: Map<String, Value>,
    patch: &[u8],
    schema: &S,
) -> Result<Map<String, Value>, StrategicError> {
    let patch = StrategicPatch::decode(PatchText::check(patch)?, FieldValidation::Ignore)?;
    Ok(patch.apply(original, schema)?.members)
}
