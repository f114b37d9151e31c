//! The dev API server on a real listener: real kubectl against it, its answers beside those of a real kube-apiserver, and
//! hostile input.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test whose setting-up fails, or whose answer lacks what it looks for, has failed"
)]

mod audit;
mod bad_input;
mod bench;
mod commands;
mod differential;
mod discovery;
mod hostile;
mod kubectl;
mod patches;
mod rbac;
mod streams;
mod tokens;
mod validate;
mod watches;
