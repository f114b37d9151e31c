//! Limits that hold for every expression.
//!
//! Cost bounds an expression as it bounds upstream. It is charged when a function has ended, and by the size of its arguments
//! alone, so that a short expression can ask upstream for more memory than there is, or for a walk without end: a list joined
//! with itself forty times, a text in which each letter is replaced by the whole text. The limits behind
//! [`EvalError::TooLarge`] end those.

use crate::error::EvalError;

/// Cost that Kubernetes allows a call of an expression, in its units: `PerCallLimit` in `k8s.io/apiserver/pkg/apis/cel`.
pub const PER_CALL_COST: u64 = 1_000_000;

/// Longest expression, in code points.
pub const CODE_POINTS: usize = crate::parse::MAX_CODE_POINTS;

/// Nodes that an expression may have when its macros are expanded: `optMap` doubles what it is called on.
pub const NODES: usize = 500_000;

/// Types that make up the types of all nodes: a map from a type to itself doubles it.
pub const TYPES: usize = 1_000_000;

/// Longest text that a function makes, in bytes.
pub const TEXT_BYTES: usize = 16 << 20;

/// Longest list that is made, in elements. `lists.range` of upstream makes a million.
pub const LIST_LENGTH: usize = 1 << 20;

/// Values that functions may look at within one evaluation; 64 bytes of text count as one, and functions that compare each
/// element with each are charged for all pairs.
pub const WORK: u64 = 10_000_000;

/// What functions may make larger than they were given it, within one evaluation: values, with 64 bytes of text as one.
pub const MADE: u64 = 2_000_000;

pub(crate) const LIST: EvalError = EvalError::TooLarge("a list is too long");
pub(crate) const TEXT: EvalError = EvalError::TooLarge("a text is too long");

/// Whether a text of `length` bytes may be made.
pub(crate) fn text(length: usize) -> Result<(), EvalError> {
    if length > TEXT_BYTES { Err(TEXT) } else { Ok(()) }
}
