//! JSON patch (RFC 6902): a list of operations, each on a place that a JSON pointer (RFC 6901) names.
//!
//! Compat: json-patch v4 in kube-apiserver's configuration: negative indices count from the end, a `-` is the end only
//! for adding, at most 10,000 operations, at most 3 MiB copied, and no operation adds below a place that does not exist.

mod apply;
mod decode;
mod pointer;

use serde_json::Value;

use crate::limits::{MAX_DOCUMENT_BYTES, MAX_OPERATIONS, MAX_STEPS};
use crate::text::{self, Integers, PatchText, TextError, document_text};
use crate::{Answer, FieldValidation};

/// A JSON patch that can be applied.
#[derive(Debug, Clone)]
pub struct JsonPatch<'a> {
    operations: Vec<decode::Operation<'a>>,
    findings: Vec<String>,
}

/// Why a JSON patch does not give a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonPatchError {
    /// The patch is not JSON, or over a limit.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The patch is no list of operations. The text is that of Go's decoder.
    #[error("{0}")]
    Decode(String),
    /// The patch has more than [`MAX_OPERATIONS`] operations. The text is kube-apiserver's.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// An operation cannot be applied. The text is json-patch's.
    #[error("{text}")]
    Operation {
        /// Which operation, from 0.
        index: usize,
        /// Why.
        text: String,
    },
    /// kube-apiserver's code panics on an operation.
    #[error("operation {index} of the JSON patch cannot be applied: {why}")]
    Crash {
        /// Which operation, from 0.
        index: usize,
        /// What it runs into.
        why: &'static str,
    },
    /// The operations together move or look at more than [`MAX_STEPS`] elements.
    #[error(
        "operation {index} of the JSON patch: the operations move or look at more than {MAX_STEPS} elements; send fewer in one patch"
    )]
    TooMuchWork {
        /// The operation that crossed the limit, from 0.
        index: usize,
    },
    /// An operation would nest the document too deep.
    #[error("operation {index} of the JSON patch: {}", TextError::TooDeep)]
    TooDeep {
        /// Which operation, from 0.
        index: usize,
    },
    /// The document is no object or list. The text is that of Go's decoder.
    #[error("{0}")]
    Document(String),
    /// The document is over a limit: whoever stored it let it grow.
    #[error("the object to patch: {0}")]
    DocumentLimit(TextError),
    /// What the patch makes of the document is over a limit.
    #[error("the patched object: {0}")]
    Result(TextError),
}

impl JsonPatchError {
    /// How a client is answered.
    #[must_use]
    pub const fn answer(&self) -> Answer {
        match self {
            Self::Text(error) => error.answer(),
            Self::Decode(_) => Answer::BadRequest,
            Self::Operation { .. } | Self::Document(_) => Answer::Invalid,
            Self::Crash { .. } => Answer::Crash,
            Self::TooManyOperations(_)
            | Self::TooMuchWork { .. }
            | Self::TooDeep { .. }
            | Self::DocumentLimit(_)
            | Self::Result(_) => Answer::TooLarge,
        }
    }
}

impl<'a> JsonPatch<'a> {
    /// Decodes a patch, before the object is known.
    ///
    /// # Errors
    /// [`JsonPatchError::Decode`] when it is no list of objects, or under [`FieldValidation::Report`] has members of the
    /// wrong type; [`JsonPatchError::TooManyOperations`].
    pub fn decode(text: PatchText<'a>, validation: FieldValidation) -> Result<Self, JsonPatchError> {
        let findings = match validation {
            FieldValidation::Report => decode::report(text.value()).map_err(JsonPatchError::Decode)?,
            FieldValidation::Ignore => Vec::new(),
        };
        let operations = decode::operations(text.value()).map_err(JsonPatchError::Decode)?;
        if operations.len() > MAX_OPERATIONS {
            return Err(JsonPatchError::TooManyOperations(operations.len()));
        }
        Ok(Self { operations, findings })
    }

    /// Members of operations that nothing reads or that stand there twice, in upstream's words: `json patch unknown
    /// field "[0].vale"`.
    #[must_use]
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// Applies the operations to the JSON text of a document, and gives the JSON text of the result.
    ///
    /// Give the document as Go writes it (`<`, `>` and `&` escaped): `test` compares text. Members of the result stand
    /// in the order in which Go writes them: sorted where an operation passed, else as they were.
    ///
    /// # Errors
    /// An operation cannot be applied, or a limit is crossed.
    pub fn apply(&self, document: &[u8]) -> Result<Vec<u8>, JsonPatchError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(JsonPatchError::DocumentLimit(TextError::TooLong { limit: MAX_DOCUMENT_BYTES }));
        }
        text::scan(document).map_err(JsonPatchError::DocumentLimit)?;
        let out = apply::apply(&self.operations, document)?;
        if out.len() > MAX_DOCUMENT_BYTES {
            return Err(JsonPatchError::Result(TextError::TooLong { limit: MAX_DOCUMENT_BYTES }));
        }
        Ok(out)
    }
}

/// Decodes `patch` and applies it to `document`, reporting nothing.
///
/// # Errors
/// As [`JsonPatch::decode`] and [`JsonPatch::apply`].
pub fn apply_json_patch(document: &Value, patch: &[u8]) -> Result<Value, JsonPatchError> {
    let patch = JsonPatch::decode(PatchText::check(patch)?, FieldValidation::Ignore)?;
    let result = patch.apply(&document_text(document))?;
    text::scan(&result).map_err(JsonPatchError::Result)?;
    text::value_of(&result, Integers::Keep, None).map_err(|number| JsonPatchError::Decode(text::too_large(&number)))
}
