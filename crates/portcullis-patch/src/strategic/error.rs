//! Why a strategic merge patch does not give an object. Texts are upstream's.

use serde_json::{Map, Value};

use crate::Answer;
use crate::go::{self, GoType};
use crate::text::TextError;

/// Why a strategic merge patch does not give an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StrategicError {
    /// The patch is not JSON, or over a limit.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The patch is no object, or has a number that no float64 holds. The text is that of Go's decoder.
    #[error("{0}")]
    Decode(String),
    /// A member that begins with `$deleteFromPrimitiveList` does not go on with `/` and a name.
    #[error("invalid patch format of primitive list")]
    DeleteFromPrimitiveList,
    /// `$retainKeys` is no list, or leaves out a member that the patch sets.
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    /// A member that begins with `$setElementOrder` does not go on with `/` and a name.
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrder,
    /// A list that is merged holds lists.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// Anything else that upstream's code refuses.
    #[error("{0}")]
    Merge(String),
    /// kube-apiserver's code panics.
    #[error("the strategic merge patch cannot be applied: {0}")]
    Crash(&'static str),
}

impl StrategicError {
    /// How a client is answered.
    #[must_use]
    pub const fn answer(&self) -> Answer {
        match self {
            Self::Text(error) => error.answer(),
            Self::Decode(_) | Self::DeleteFromPrimitiveList | Self::RetainKeys | Self::SetElementOrder => {
                Answer::BadRequest
            }
            Self::ListOfLists => Answer::Invalid,
            Self::Merge(_) => Answer::Failure,
            Self::Crash(_) => Answer::Crash,
        }
    }

    /// `expected` is what upstream's code asserts the type of `actual` to be.
    pub(super) fn bad_type(expected: GoType, actual: &Value) -> Self {
        let (expected, actual) = (expected.as_str(), GoType::of(actual).as_str());
        Self::Merge(format!("expected a {expected}, but received a {actual}"))
    }

    pub(super) fn no_merge_key(members: &Map<String, Value>, key: &str) -> Self {
        Self::Merge(format!("map: {} does not contain declared merge key: {key}", go::map(members)))
    }

    pub(super) fn bad_patch_type(directive: &Value, members: &Map<String, Value>) -> Self {
        Self::Merge(format!("unknown patch type: {} in map: {}", go::string(directive), go::map(members)))
    }
}
