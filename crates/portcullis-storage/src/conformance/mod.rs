//! The suite that every kernel must pass.
