//! The clock: wall time as a value that a test can replace.
//!
//! [`Clock::sleep_until`] waits in terms of the same clock, so that background work (key rotation, expiry) moves when a
//! test moves its [`MockClock`]. It looks at the wall clock at least every 30 seconds, so a suspended laptop or a
//! stepped clock is noticed.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::timestamp::Timestamp;

/// Longest nap before the system clock is looked at again.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// Where the current time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Mock(watch::Receiver<Timestamp>),
}

impl Clock {
    /// The machine's wall clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `unix_seconds` until its [`MockClock`] moves it.
    #[must_use]
    pub fn mock(unix_seconds: i64) -> (Self, MockClock) {
        let (sender, receiver) = watch::channel(Timestamp::from_unix_seconds(unix_seconds));
        (Self(Source::Mock(receiver)), MockClock(sender))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            Source::Mock(now) => *now.borrow(),
        }
    }

    /// Waits until this clock reads `deadline` or later. With a mock clock whose [`MockClock`] is gone it never ends.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        match &self.0 {
            Source::System => loop {
                let left = deadline.saturating_since(system_now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LONGEST_NAP)).await;
            },
            Source::Mock(now) => {
                let mut now = now.clone();
                if now.wait_for(|now| *now >= deadline).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Waits for `duration` in terms of this clock.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }
}

/// The handle that moves a mock clock. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MockClock(watch::Sender<Timestamp>);

impl MockClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now += by);
    }

    /// Sets the clock, also backwards: wall clocks do that.
    pub fn set(&self, to: Timestamp) {
        self.0.send_replace(to);
    }

    /// What the clock reads.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        *self.0.borrow()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn system_now() -> Timestamp {
    let (nanos, after) = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (since.as_nanos(), true),
        Err(before) => (before.duration().as_nanos(), false),
    };
    let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
    Timestamp::from_unix_nanos(if after { nanos } else { -nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mock_clock_stands_still_and_moves_only_when_told() {
        let (clock, hand) = Clock::mock(1_000);
        let copy = clock.clone();
        assert_eq!(clock.now().unix_seconds(), 1_000);
        hand.advance(Duration::from_secs(60));
        assert_eq!(copy.now().unix_seconds(), 1_060);
        hand.set(Timestamp::from_unix_seconds(5));
        assert_eq!(clock.now().unix_seconds(), 5);
        assert_eq!(hand.now(), clock.now());
    }

    #[tokio::test]
    async fn sleeping_on_a_mock_clock_ends_when_the_clock_passes_the_deadline() {
        let (clock, hand) = Clock::mock(0);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(3_600)).await }
        });
        tokio::task::yield_now().await;
        hand.advance(Duration::from_secs(3_599));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hand.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    #[tokio::test]
    async fn a_deadline_in_the_past_does_not_wait() {
        let clock = Clock::system();
        clock.sleep_until(clock.now() - Duration::from_secs(1)).await;
    }

    #[test]
    fn the_system_clock_reads_a_plausible_time() {
        assert!(Clock::system().now() > Timestamp::from_unix_seconds(1_700_000_000));
    }
}
