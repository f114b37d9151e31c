//! The crate as its callers see it: examples, limits, recorded answers of upstream's packages, and a comparison with those
//! packages themselves on some twenty thousand random expressions.
//!
//! `PORTCULLIS_SEED` repeats the random choices of a run that failed, and `PORTCULLIS_CEL_EXPRESSIONS` says how many there are.
//! The comparison needs `cel-oracle` (`cargo xtask test` builds it) and fails without it; the recorded answers need nothing.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed, and what it counted is printed"
)]

mod differences;
mod differential;
mod examples;
mod functions;
mod golden;
mod grammar;
mod oracle;
mod ours;
mod productions;
