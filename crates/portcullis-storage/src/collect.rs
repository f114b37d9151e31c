//! Deleting what is over, and by which time.
//!
//! What a wall clock says by mistake must not cost what lives: what was deleted is not there when the clock is set right. So a clock
//! that has leapt ahead of the time that has passed by the monotonic one is believed only when it has stood for an hour; until
//! then what is over is told by the time that there would be without the leap. A clock that is wrong from the start of the process
//! on is believed, for nothing tells of it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use portcullis_runtime::{Clock, Timestamp};

use crate::{error::StoreError, kernel::Kernel};

/// How far the clocks of two replicas may differ: a record is collected only when it has been over for this long. A clock that is set
/// by less is taken as it is.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
/// How long a clock that has leapt ahead must have stood.
const STANDS: Duration = Duration::from_secs(60 * 60);
/// Most records that one call of the kernel's `expire` deletes.
const BATCH: usize = 250;

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many records were deleted.
    pub records: usize,
    /// Whether more are over than this call was allowed to delete.
    pub more: bool,
}

pub(crate) async fn collect(
    kernel: &dyn Kernel,
    believed: &Believed,
    clock: &Clock,
    limit: usize,
) -> Result<Collected, StoreError> {
    let over = believed.now(clock) - CLOCK_SKEW;
    let mut records = 0;
    while records < limit {
        let batch = BATCH.min(limit - records);
        let deleted = kernel.expire(over, batch).await?;
        records += deleted;
        if deleted < batch {
            return Ok(Collected { records, more: false });
        }
    }
    Ok(Collected { records, more: true })
}

/// The wall clock, as far as it is believed.
pub(crate) struct Believed(Mutex<State>);

struct State {
    /// What the two clocks read when they were last believed.
    wall: Timestamp,
    monotonic: Duration,
    /// Since when, by the monotonic clock, the wall clock has been ahead.
    ahead_since: Option<Duration>,
}

impl Believed {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self(Mutex::new(State { wall: clock.now(), monotonic: clock.monotonic(), ahead_since: None }))
    }

    fn now(&self, clock: &Clock) -> Timestamp {
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).look(wall, monotonic)
    }
}

impl State {
    fn look(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        let expected = self.wall + monotonic.saturating_sub(self.monotonic);
        if wall > expected + CLOCK_SKEW {
            let since = *self.ahead_since.get_or_insert(monotonic);
            if monotonic.saturating_sub(since) < STANDS {
                return expected;
            }
        }
        *self = Self { wall, monotonic, ahead_since: None };
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = STANDS;

    #[test]
    fn a_clock_that_has_leapt_ahead_is_believed_when_it_has_stood_for_an_hour() {
        let (clock, hand) = Clock::mock(1_000_000);
        let believed = Believed::new(&clock);
        let start = hand.now();
        for hours in 1..=100_u32 {
            hand.advance(HOUR);
            assert_eq!(believed.now(&clock), start + HOUR * hours, "time that passes is believed");
        }
        let right = hand.now();
        hand.set(right + CLOCK_SKEW);
        assert_eq!(believed.now(&clock), right + CLOCK_SKEW, "clocks are set a little");
        hand.set(right);
        assert_eq!(believed.now(&clock), right);

        hand.set(right + HOUR * 48);
        assert_eq!(believed.now(&clock), right);
        hand.advance(HOUR / 2);
        assert_eq!(believed.now(&clock), right + HOUR / 2, "the time that has really passed");
        hand.set(right + HOUR / 2);
        assert_eq!(believed.now(&clock), right + HOUR / 2, "it was a mistake");

        hand.set(right + HOUR * 48);
        assert_eq!(believed.now(&clock), right + HOUR / 2);
        hand.advance(HOUR - Duration::from_secs(1));
        assert!(believed.now(&clock) < right + HOUR * 2, "the first leap counts no more");
        hand.advance(Duration::from_secs(1));
        assert_eq!(believed.now(&clock), right + HOUR * 49);
        hand.set(right);
        assert_eq!(believed.now(&clock), right, "a clock behind deletes less");
    }
}
