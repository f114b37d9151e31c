//! RBAC beside the real thing: what a new cluster starts with, verdicts and reasons, refusals and audit annotations of a real
//! kube-apiserver (with etcd and upstream's aggregation controller) against ours.
//!
//! The real programs come from `cargo xtask test`; without them these tests fail. Random choices are fresh in each run;
//! `PORTCULLIS_SEED` repeats those of a run that failed.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed, and what it counted is printed"
)]

mod bootstrap;
mod deciding;
mod dice;
mod matrix;
mod real;
mod refusals;
mod verdicts;
