//! What an evaluation can fail with.

use std::borrow::Cow;

/// Why an evaluation has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// An operation cannot be applied to its values. The text is cel-go's.
    #[error("{0}")]
    Value(Cow<'static, str>),
    /// The evaluation cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    /// A value is so large, or values are walked so often, that time or memory would not be bounded any more; see
    /// [`limits`](crate::limits). Upstream has no such limit.
    #[error("operation cancelled: {0}")]
    TooLarge(&'static str),
    /// Something went wrong that upstream reports as an error of its own program. The text is cel-go's.
    #[error("internal error: {0}")]
    Internal(Cow<'static, str>),
}

impl EvalError {
    pub(crate) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Value(text.into())
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::new("no such overload")
    }

    /// Ends the evaluation: no operator takes it as one of its values.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Self::Value(_))
    }
}
