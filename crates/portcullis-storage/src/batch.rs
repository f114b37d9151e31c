//! How many records the collector deletes in one transaction, so that nobody waits for its lock.
//!
//! A batch follows the time that the one before it took, and is bounded by what the records weigh, which is asked first: the
//! time of the first large records is known only afterwards.

use std::time::Duration;

/// How many records the first transaction deletes, and the largest.
pub(crate) const FIRST: usize = 32;
const LARGEST: usize = 256;
/// And the smallest, however long it takes.
const FEWEST: usize = 8;
/// What the records of one transaction may weigh together, in bytes of data; a single one may weigh more.
const BYTES: usize = 1024 * 1024;
/// A batch that took longer is followed by one of half its size, so that no lock is held for 50 ms.
const LONG: Duration = Duration::from_millis(20);
/// A batch that took less is followed by one of twice its size.
const SHORT: Duration = Duration::from_millis(5);

/// How many records the next transaction deletes, after one of `batch` took so long.
pub(crate) fn next(batch: usize, took: Duration) -> usize {
    if took > LONG {
        // A slow way to the server is no reason to delete one by one: nobody waits for the way.
        (batch / 2).max(FEWEST)
    } else if took < SHORT {
        (batch * 2).min(LARGEST)
    } else {
        batch
    }
}

/// How many of the records with these sizes, in their order, one transaction deletes: one at least.
pub(crate) fn fitting(sizes: impl IntoIterator<Item = usize>) -> usize {
    let mut weight = 0_usize;
    sizes
        .into_iter()
        .take_while(|size| {
            let first = weight == 0;
            weight = weight.saturating_add((*size).max(1));
            first || weight <= BYTES
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_follow_the_time_that_they_take_and_never_become_single_records() {
        let of = |batch, millis| next(batch, Duration::from_millis(millis));
        assert_eq!((of(FIRST, 1), of(FIRST, 10), of(FIRST, 21)), (64, 32, 16));
        assert_eq!((of(LARGEST, 1), of(200, 1)), (LARGEST, LARGEST));
        assert_eq!((of(16, 100), of(FEWEST, 100)), (FEWEST, FEWEST));
    }

    #[test]
    fn a_batch_weighs_no_more_than_it_may_unless_it_is_one_record() {
        for (sizes, expected) in [
            (vec![], 0),
            (vec![0; 100], 100),
            (vec![256 * 1024; 100], 4),
            (vec![1, BYTES - 1, 1], 2),
            (vec![1, BYTES, 1], 1),
            (vec![BYTES + 1, 1], 1),
            (vec![usize::MAX, usize::MAX], 1),
        ] {
            assert_eq!(fitting(sizes.iter().copied()), expected, "{sizes:?}");
        }
    }
}
