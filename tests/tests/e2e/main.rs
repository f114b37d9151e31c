//! End to end: the released programs, as a user runs them, against the real kubectl, kube-apiserver and Chromium.
//!
//! Needs `PORTCULLIS_BIN` (the released programs) and `PORTCULLIS_PEERS` (the real ones); `cargo xtask test` sets both. Each
//! test has its own state folder, home and ports, and ends what it started.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on has failed; the runner speaks through the environment"
)]

mod authentication_config;
mod bad_input;
mod browser;
mod capacity;
mod check;
mod clients;
mod databases;
mod distributed_claims;
mod document;
mod full_disk;
mod guide;
mod guided;
mod hostile;
mod issuer;
mod kept;
mod killed;
mod kubeconfig;
mod parts;
mod person;
mod ports;
mod real_apiserver;
mod replicas;
mod sealed;
mod second;
mod store;
mod tokens;
mod up;
mod world;
