//! The functions of expressions.
//!
//! [`decls`] has them all, with the types that they take; the other modules have what they do.

pub(crate) mod convert;
pub(crate) mod decls;
pub(crate) mod format;
pub(crate) mod formats;
pub(crate) mod lists;
pub(crate) mod net;
mod optional;
pub(crate) mod quantity;
pub(crate) mod regex;
mod regex_syntax;
pub(crate) mod semver;
mod signature;
mod strings;
mod table;
pub(crate) mod time;
pub(crate) mod url;
