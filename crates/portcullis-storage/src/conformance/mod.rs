//! The suite that every kernel must pass, and a kernel that loses requests and replies.
//!
//! [`check_kernel`] runs every case against a fresh store and reports the first violation by the name of its case. A
//! case asks for what the [`Kernel`](crate::Kernel) trait promises and for nothing else, so it holds on every backend.
//! [`FaultyKernel`] stands between a store and a kernel, for tests of what the facades promise when the network does
//! not.

mod cases;
mod faults;
mod moments;
mod parallel;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

pub use faults::{Counts, Fault, FaultyKernel, Held, Noise, WriteHook};

use crate::kernel::Kernel;

/// Makes an empty store.
pub type MakeKernel<'a> = &'a (dyn Fn() -> Pin<Box<dyn Future<Output = Arc<dyn Kernel>> + Send>> + Sync);

/// A promise that a kernel broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The case that found it.
    pub case: &'static str,
    /// What was expected and found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.what)
    }
}

impl std::error::Error for Violation {}

/// How a case ends: the text says what was violated.
type Outcome = Result<(), String>;

/// Fails the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
use ensure;

/// Runs every case, each against a store of its own. Returns the names of the cases that passed.
///
/// # Errors
/// The first violation.
pub async fn check_kernel(make: MakeKernel<'_>) -> Result<Vec<&'static str>, Violation> {
    let mut passed = Vec::new();
    macro_rules! run {
        ($($module:ident :: $case:ident),+ $(,)?) => {
            $(
                let case = stringify!($case);
                $module::$case(make().await).await.map_err(|what| Violation { case, what })?;
                passed.push(case);
            )+
        };
    }
    run!(
        cases::what_was_inserted_is_read_back,
        cases::an_id_is_inserted_once,
        cases::an_update_needs_the_current_version,
        cases::a_delete_needs_the_current_version,
        cases::a_version_is_never_used_again,
        cases::ids_are_compared_as_bytes,
        cases::ids_out_of_bounds_are_refused,
        cases::kinds_do_not_meet,
        cases::leases_are_records,
        cases::data_is_kept_to_the_byte,
        cases::too_much_data_is_refused,
        cases::both_indices_find_their_records,
        cases::indices_follow_updates_and_deletes,
        cases::times_are_kept_to_the_nanosecond,
        cases::a_walk_over_pages_meets_every_record_once,
        cases::a_walk_survives_changes_between_its_pages,
        cases::a_page_ends_when_it_is_heavy,
        cases::expiry_deletes_what_is_over_and_nothing_else,
        cases::expiry_follows_updates,
        cases::expiry_is_bounded_and_takes_the_earliest_first,
        cases::a_record_that_is_over_is_read_until_it_is_collected,
        moments::a_snapshot_has_every_record,
        moments::a_snapshot_is_of_one_moment,
        moments::a_snapshot_that_nobody_reads_on_leaves_the_store_free,
        cases::configured_records_are_records,
        cases::what_was_written_is_in_force_at_once,
        cases::changes_of_configured_records_are_told,
        parallel::one_of_many_inserts_wins,
        parallel::one_of_many_inserts_of_a_client_wins,
        parallel::no_update_is_lost_among_64_writers,
        parallel::one_of_many_deletes_wins,
        parallel::expiry_and_updates_do_not_mix_up,
        parallel::a_reader_never_sees_a_mixture,
    );
    Ok(passed)
}
