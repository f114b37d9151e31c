//! The one place where CEL expressions of a configuration are compiled.
//!
//! Nothing evaluates them yet: each expression is a broken rule of its own, so a file with one does not load, at start or
//! as a reload, instead of running with a rule that nobody checks. [`crate::rules`] calls these functions where upstream
//! compiles, so that errors come in upstream's order once compiling can succeed. What they return then belongs into
//! [`crate::ValidConfig`], for [`crate::mapping`] to evaluate, and upstream's rule that a user name made of `claims.email`
//! needs `claims.email_verified` somewhere belongs to [`crate::rules`], which has a note at the place.

use portcullis_kube::field::FieldError;

/// Said of every expression.
const UNSUPPORTED: &str =
    "this build does not evaluate CEL expressions yet: use claim and prefix, or claim and requiredValue, instead";

/// Compiles an expression over `claims`, found at `path`.
pub(crate) fn claims_expression(path: String, expression: &str) -> Result<(), FieldError> {
    Err(FieldError::invalid(path, expression, UNSUPPORTED))
}

/// Compiles an expression over `user`, found at `path`.
pub(crate) fn user_expression(path: String, expression: &str) -> Result<(), FieldError> {
    Err(FieldError::invalid(path, expression, UNSUPPORTED))
}
