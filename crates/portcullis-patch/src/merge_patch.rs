//! JSON merge patch (RFC 7386): a null takes a member away, an object is merged, anything else replaces.
//!
//! Compat: json-patch v4's `MergePatch`. It differs from the RFC in two places: nulls inside of the objects of a list
//! go only when the list replaces something that is no object, and a patch that is a list replaces the document.

use std::collections::BTreeMap;
use std::mem;

use serde_json::Value;

use crate::findings::Findings;
use crate::limits::MAX_DOCUMENT_BYTES;
use crate::node::Node;
use crate::text::{self, Integers, PatchText, TextError, document_text};
use crate::{Answer, FieldValidation};

/// A merge patch that can be applied.
#[derive(Debug, Clone)]
pub struct MergePatch<'a> {
    text: PatchText<'a>,
    findings: Vec<String>,
}

/// Why a merge patch does not give a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergePatchError {
    /// The patch is not JSON, or over a limit.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The patch is of the wrong type. The text is that of Go's decoder.
    #[error("error decoding patch: {0}")]
    Decode(String),
    /// The patch is a scalar or null. The text is json-patch's.
    #[error("Invalid JSON Patch")]
    Patch,
    /// The document is not JSON, or null. The text is json-patch's.
    #[error("Invalid JSON Document")]
    Document,
    /// The document is over a limit: whoever stored it let it grow.
    #[error("the object to patch: {0}")]
    DocumentLimit(TextError),
    /// What the patch makes of the document is over a limit.
    #[error("the patched object: {0}")]
    Result(TextError),
}

impl MergePatchError {
    /// How a client is answered.
    #[must_use]
    pub const fn answer(&self) -> Answer {
        match self {
            Self::Text(error) => error.answer(),
            Self::Decode(_) | Self::Patch => Answer::BadRequest,
            Self::Document => Answer::Failure,
            Self::DocumentLimit(_) | Self::Result(_) => Answer::TooLarge,
        }
    }
}

impl<'a> MergePatch<'a> {
    /// Decodes a patch, before the object is known.
    ///
    /// # Errors
    /// [`MergePatchError::Decode`] under [`FieldValidation::Report`] when the patch is no object, or has a number that
    /// no float64 holds. Without the report such patches are looked at only when they are applied.
    pub fn decode(text: PatchText<'a>, validation: FieldValidation) -> Result<Self, MergePatchError> {
        let mut findings = Findings::default();
        if validation == FieldValidation::Report {
            text::decode_map(text.value(), Some(&mut findings)).map_err(MergePatchError::Decode)?;
        }
        Ok(Self { text, findings: findings.into_texts() })
    }

    /// Members that stand in the patch twice, in upstream's words: `duplicate field "metadata.labels"`.
    #[must_use]
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// Merges the patch into the JSON text of a document, and gives the JSON text of the result.
    ///
    /// Members stand in the order in which Go writes them: sorted where the patch reached, else as they were.
    ///
    /// # Errors
    /// The document or the patch is not one that can be merged, or a limit is crossed.
    pub fn apply(&self, document: &[u8]) -> Result<Vec<u8>, MergePatchError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(MergePatchError::DocumentLimit(TextError::TooLong { limit: MAX_DOCUMENT_BYTES }));
        }
        text::scan(document).map_err(|error| match error {
            TextError::NotJson => MergePatchError::Document,
            limit => MergePatchError::DocumentLimit(limit),
        })?;
        let mut document = Node::root(document.trim_ascii());
        let mut patch = Node::root(self.text.value());
        match (&document, &patch) {
            (Node::Nil, _) => return Err(MergePatchError::Document),
            (_, Node::Nil) => return Err(MergePatchError::Patch),
            _ => {}
        }
        let merged = match (document.open_object(), patch.open_object()) {
            (true, true) => {
                merge_members(&mut document, patch);
                document
            }
            (false, true) => {
                prune(&mut patch);
                patch
            }
            (_, false) => {
                if !patch.open_list() {
                    return Err(MergePatchError::Patch);
                }
                prune(&mut patch);
                patch
            }
        };
        let mut out = Vec::new();
        merged.write(&mut out);
        if out.len() > MAX_DOCUMENT_BYTES {
            return Err(MergePatchError::Result(TextError::TooLong { limit: MAX_DOCUMENT_BYTES }));
        }
        Ok(out)
    }
}

/// Merges `patch`, an object, into `document`, an object.
fn merge_members<'a>(document: &mut Node<'a>, patch: Node<'a>) {
    let (Node::Object(members), Node::Object(patch)) = (document, patch) else { return };
    for (name, mut value) in patch {
        if matches!(value, Node::Nil) {
            members.remove(&name);
            continue;
        }
        match members.get_mut(&name) {
            None | Some(Node::Nil) => {
                prune(&mut value);
                members.insert(name, value);
            }
            Some(current) => {
                if !current.open_object() {
                    prune(&mut value);
                    *current = value;
                } else if value.open_object() {
                    merge_members(current, value);
                } else {
                    *current = value;
                }
            }
        }
    }
}

/// Takes nulls out of the objects in `node`, at any depth. Nulls that are elements stay.
fn prune(node: &mut Node<'_>) {
    if node.open_object() {
        if let Node::Object(members) = node {
            let kept: BTreeMap<_, _> =
                mem::take(members).into_iter().filter(|(_, member)| !matches!(member, Node::Nil)).collect();
            *members = kept;
            members.values_mut().for_each(prune);
        }
    } else if node.open_list()
        && let Node::List(items) = node
    {
        items.iter_mut().for_each(prune);
    }
}

/// Decodes `patch` and merges it into `document`, reporting nothing.
///
/// # Errors
/// As [`MergePatch::decode`] and [`MergePatch::apply`].
pub fn merge_patch(document: &Value, patch: &[u8]) -> Result<Value, MergePatchError> {
    let patch = MergePatch::decode(PatchText::check(patch)?, FieldValidation::Ignore)?;
    let result = patch.apply(&document_text(document))?;
    text::scan(&result).map_err(MergePatchError::Result)?;
    text::value_of(&result, Integers::Keep, None).map_err(|number| MergePatchError::Decode(text::too_large(&number)))
}
