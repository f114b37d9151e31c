//! The clock: wall time as a value that a test can replace.
//!
//! [`Clock::sleep_until`] waits in terms of the same clock, so that background work (key rotation, expiry) moves when a
//! test moves its [`MockClock`]. It looks at the wall clock at least every 30 seconds, so a suspended laptop or a
//! stepped clock is noticed.
//!
//! What must not depend on whoever sets the wall clock (leases, how long ago something was heard) goes by
//! [`Clock::monotonic`].

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::timestamp::Timestamp;

/// Longest nap before the system clock is looked at again.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// Where the current time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Mock(watch::Receiver<Reading>),
}

/// What a mock clock shows.
#[derive(Clone, Copy, Debug)]
struct Reading {
    now: Timestamp,
    monotonic: Duration,
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
        let reading = Reading { now: Timestamp::from_unix_seconds(unix_seconds), monotonic: Duration::ZERO };
        let (sender, receiver) = watch::channel(reading);
        (Self(Source::Mock(receiver)), MockClock(sender))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            Source::Mock(reading) => reading.borrow().now,
        }
    }

    /// How long this clock has been going: a time that never goes back and that nobody sets. Only two readings in one process
    /// can be compared. While the machine sleeps it may stand still.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        match &self.0 {
            Source::System => FIRST.get_or_init(Instant::now).elapsed(),
            Source::Mock(reading) => reading.borrow().monotonic,
        }
    }

    /// Waits until [`Clock::monotonic`] reads `deadline` or later. With a mock clock whose [`MockClock`] is gone it never ends.
    pub async fn sleep_until_monotonic(&self, deadline: Duration) {
        match &self.0 {
            Source::System => loop {
                let left = deadline.saturating_sub(self.monotonic());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left).await;
            },
            Source::Mock(reading) => wait_for(reading, |reading| reading.monotonic >= deadline).await,
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
            Source::Mock(reading) => wait_for(reading, |reading| reading.now >= deadline).await,
        }
    }

    /// Waits for `duration` by the wall clock or by the monotonic one, whichever has come there first: a wall clock that is
    /// set back prolongs no wait, and the time for which a machine was asleep counts.
    pub async fn sleep(&self, duration: Duration) {
        tokio::select! {
            () = self.sleep_until(self.now() + duration) => {}
            () = self.sleep_until_monotonic(self.monotonic().saturating_add(duration)) => {}
        }
    }
}

async fn wait_for(reading: &watch::Receiver<Reading>, reached: impl FnMut(&Reading) -> bool) {
    if reading.clone().wait_for(reached).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The handle that moves a mock clock. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MockClock(watch::Sender<Reading>);

impl MockClock {
    /// Moves the clock forward, as time does.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|reading| {
            reading.now += by;
            reading.monotonic += by;
        });
    }

    /// Sets the wall time, also backwards: people and programs do that. The monotonic time stays.
    pub fn set(&self, to: Timestamp) {
        self.0.send_modify(|reading| reading.now = to);
    }

    /// What the clock reads.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.borrow().now
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
    async fn a_wall_clock_that_is_set_prolongs_no_wait() {
        let (clock, hand) = Clock::mock(100_000);
        let start = |clock: Clock| tokio::spawn(async move { clock.sleep(Duration::from_secs(60)).await });
        let back = start(clock.clone());
        tokio::task::yield_now().await;
        hand.set(Timestamp::from_unix_seconds(1_000));
        hand.advance(Duration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!back.is_finished());
        hand.advance(Duration::from_secs(1));
        back.await.unwrap();
        let forward = start(clock.clone());
        tokio::task::yield_now().await;
        hand.set(Timestamp::from_unix_seconds(100_000));
        forward.await.unwrap();
        assert_eq!(clock.monotonic(), Duration::from_secs(60));
    }

    #[tokio::test]
    async fn a_deadline_in_the_past_does_not_wait() {
        let clock = Clock::system();
        clock.sleep_until(clock.now() - Duration::from_secs(1)).await;
        clock.sleep_until_monotonic(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn nobody_sets_the_monotonic_time() {
        let (clock, hand) = Clock::mock(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until_monotonic(Duration::from_secs(60)).await }
        });
        for wall in [1_000_000, 0] {
            hand.set(Timestamp::from_unix_seconds(wall));
            tokio::task::yield_now().await;
            assert_eq!(clock.monotonic(), Duration::ZERO);
            assert!(!sleeper.is_finished());
        }
        hand.advance(Duration::from_secs(60));
        sleeper.await.unwrap();
        assert_eq!((clock.monotonic(), clock.now()), (Duration::from_secs(60), Timestamp::from_unix_seconds(60)));
        let system = Clock::system();
        let before = system.monotonic();
        system.sleep_until_monotonic(before + Duration::from_millis(2)).await;
        assert!(system.monotonic() >= before + Duration::from_millis(2));
    }

    #[test]
    fn the_system_clock_reads_a_plausible_time() {
        assert!(Clock::system().now() > Timestamp::from_unix_seconds(1_700_000_000));
    }
}
