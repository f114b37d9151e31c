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
#[path = "../../../portcullis-rbac/tests/rbac/deciding.rs"]
#[expect(dead_code, reason = "the library's own comparison asks for more of it")]
mod deciding;
#[path = "../../../portcullis-rbac/tests/rbac/dice.rs"]
#[expect(clippy::expect_used, clippy::print_stdout, reason = "a test's own choices, which a seed repeats")]
mod dice;
mod differential;
mod discovery;
mod hostile;
mod kubectl;
mod patches;
mod rbac;
mod streams;
mod tls;
mod tokens;
mod validate;
mod watches;
