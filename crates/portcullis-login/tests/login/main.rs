//! The plugin against a fake issuer: the rows of kubelogin's acceptance table that this program serves, and what it does
//! better.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test program"
)]

mod authcode;
mod cache;
mod command_line;
mod issuer;
mod setup;
mod trouble;
mod world;
