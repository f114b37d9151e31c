//! The crate as its callers see it: what upstream's examples show, limits, recorded answers of upstream's packages, and
//! a comparison with those packages themselves on some ten thousand random cases.
//!
//! `PORTCULLIS_SEED` repeats the random choices of a run that failed. The comparison needs `patch-oracle` (`cargo xtask
//! test` builds it) and fails without it; the recorded answers need nothing.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed, and what it counted is printed"
)]

mod differential;
mod examples;
mod golden;
mod grammar;
mod limits;
mod oracle;
mod ours;
mod real;
mod types;
