//! JSON as text: checking it once, reading parts of it in place, and writing it as Go does.
//!
//! Compat: what is JSON is decided as in Go's `encoding/json`: text need not be UTF-8 (what is not becomes U+FFFD), and
//! the halves of surrogate pairs may stand alone. `serde_json` refuses both, so it does not read patches.

mod read;
mod scan;
mod write;

use std::fmt;

use serde_json::{Map, Value};

pub(crate) use read::{Integers, Shape, elements, kind_name, members, text_of, value_of};
pub(crate) use scan::scan;
use write::value;
pub(crate) use write::{compact, string};

use crate::Answer;
use crate::findings::Findings;
use crate::limits::{MAX_DEPTH, MAX_PATCH_BYTES, MAX_VALUES};

/// A patch that is JSON and within the limits. Nothing else is decoded.
#[derive(Debug, Clone, Copy)]
pub struct PatchText<'a>(&'a [u8]);

impl<'a> PatchText<'a> {
    /// Looks at the body of a PATCH request, before the object is.
    ///
    /// # Errors
    /// [`TextError::NotJson`], or the limit that was crossed.
    pub fn check(body: &'a [u8]) -> Result<Self, TextError> {
        if body.len() > MAX_PATCH_BYTES {
            return Err(TextError::TooLong { limit: MAX_PATCH_BYTES });
        }
        scan(body)?;
        Ok(Self(body.trim_ascii()))
    }

    /// The JSON value, without white space around it.
    pub(crate) const fn value(self) -> &'a [u8] {
        self.0
    }
}

/// The JSON text of a document as Go's `encoding/json` writes it: what a JSON patch or merge patch is applied to.
#[must_use]
pub fn document_text(document: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    value(document, &mut text);
    text
}

/// A JSON text as a tree, with what the tree alone does not show.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Document {
    /// The tree. Of members with one name it has the last.
    pub value: Value,
    /// Where members stand twice, such as `spec.containers[0].image`, in the order met.
    pub duplicates: Vec<String>,
}

/// Why a text is not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It is not JSON, or over a limit.
    #[error(transparent)]
    Text(#[from] TextError),
    /// It has a number that no float64 holds. The text is that of Go's decoder.
    #[error("{0}")]
    Number(String),
}

/// Reads what [`JsonPatch::apply`](crate::JsonPatch::apply) or [`MergePatch::apply`](crate::MergePatch::apply) gave, as
/// Go's decoder would: what is not UTF-8, and what is half of a surrogate pair, becomes U+FFFD.
///
/// # Errors
/// The text is not JSON, over a limit, or has a number that is too large.
pub fn read_document(text: &[u8]) -> Result<Document, DocumentError> {
    scan(text)?;
    let mut duplicates = Findings::default();
    let value = value_of(text.trim_ascii(), Integers::Keep, Some(&mut duplicates));
    let value = value.map_err(|number| DocumentError::Number(too_large(&number)))?;
    Ok(Document { value, duplicates: duplicates.into_paths() })
}

/// The members of a patch that is an object; none when it is null.
///
/// # Errors
/// What Go's decoder says of anything else.
pub(crate) fn decode_map(text: &[u8], findings: Option<&mut Findings>) -> Result<Map<String, Value>, String> {
    match text.first() {
        Some(b'{') => match value_of(text, Integers::AsGo, findings) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Ok(Map::new()),
            Err(number) => Err(too_large(&number)),
        },
        Some(b'n') => Ok(Map::new()),
        _ => Err(format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", kind_name(text))),
    }
}

/// What Go's decoder says of a number that no float64 holds.
pub(crate) fn too_large(number: &str) -> String {
    format!("json: cannot unmarshal number {number} into Go value of type float64")
}

/// Why a text is not one that this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextError {
    /// It is not JSON. The text is kube-apiserver's.
    NotJson,
    /// It has more bytes than [`crate::limits`] allows.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// It is nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// It has more than [`MAX_VALUES`] values.
    TooManyValues,
}

impl TextError {
    /// How a client is answered whose patch is so.
    #[must_use]
    pub const fn answer(self) -> Answer {
        match self {
            Self::NotJson => Answer::BadRequest,
            Self::TooLong { .. } | Self::TooDeep | Self::TooManyValues => Answer::TooLarge,
        }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => f.write_str("invalid JSON patch"),
            Self::TooLong { limit } => write!(f, "the limit is {limit} bytes of JSON"),
            Self::TooDeep => write!(f, "the limit is {MAX_DEPTH} levels of nested objects and lists"),
            Self::TooManyValues => write!(f, "the limit is {MAX_VALUES} values in one JSON text"),
        }
    }
}

impl std::error::Error for TextError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_patch_is_not_part_of_it() {
        assert_eq!(PatchText::check(b" \r\n\t{ }\n").unwrap().value(), b"{ }");
    }

    #[test]
    fn a_patch_of_three_mebibytes_is_read_and_one_byte_more_is_not() {
        let fits = format!("\"{}\"", "x".repeat(MAX_PATCH_BYTES - 2));
        assert!(PatchText::check(fits.as_bytes()).is_ok());
        let over = format!("\"{}\"", "x".repeat(MAX_PATCH_BYTES - 1));
        let error = PatchText::check(over.as_bytes()).unwrap_err();
        assert_eq!(error, TextError::TooLong { limit: MAX_PATCH_BYTES });
        assert_eq!(error.answer(), Answer::TooLarge);
        assert_eq!(error.to_string(), "the limit is 3145728 bytes of JSON");
    }

    #[test]
    fn a_document_is_read_as_go_reads_it() {
        let document =
            read_document(b" {\"a\":{\"b\":\"\xff\\ud800\",\"b\":18446744073709551615},\"l\":[{\"x\":1,\"x\":2}]}\n")
                .unwrap();
        assert_eq!(document.value, serde_json::json!({"a": {"b": u64::MAX}, "l": [{"x": 2}]}));
        assert_eq!(document.duplicates, ["a.b", "l[0].x"]);
        let text = read_document(b"\"\xff\\ud800\"").unwrap().value;
        assert_eq!(text, "\u{fffd}\u{fffd}");
        assert_eq!(read_document(b"{"), Err(DocumentError::Text(TextError::NotJson)));
        let deep = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        assert_eq!(read_document(deep.as_bytes()), Err(DocumentError::Text(TextError::TooDeep)));
        let number = read_document(b"[1e999]").unwrap_err().to_string();
        assert_eq!(number, "json: cannot unmarshal number 1e999 into Go value of type float64");
    }

    #[test]
    fn what_is_not_json_is_answered_in_the_words_of_kube_apiserver() {
        let error = PatchText::check(b"{").unwrap_err();
        assert_eq!((error.to_string().as_str(), error.answer()), ("invalid JSON patch", Answer::BadRequest));
    }
}
