//! How often and how long: the two limits that need the time, which is an input.

use std::time::{Duration, Instant};

/// Counts events in intervals that begin with their first event.
pub(crate) struct Rate {
    most: u32,
    interval: Duration,
    start: Option<Instant>,
    seen: u32,
}

impl Rate {
    pub(crate) const fn new(most: u32, interval: Duration) -> Self {
        Self { most, interval, start: None, seen: 0 }
    }

    /// Counts one event. False when it is one too many.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        if self.start.is_none_or(|start| now.saturating_duration_since(start) >= self.interval) {
            self.start = Some(now);
            self.seen = 0;
        }
        self.seen = self.seen.saturating_add(1);
        self.seen <= self.most
    }
}

/// Remembers when something last happened.
pub(crate) struct Idle {
    limit: Option<Duration>,
    last: Instant,
}

impl Idle {
    pub(crate) const fn new(limit: Option<Duration>, now: Instant) -> Self {
        Self { limit, last: now }
    }

    /// Something happened.
    pub(crate) const fn touch(&mut self, now: Instant) {
        self.last = now;
    }

    /// When the limit is reached if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.last.checked_add(self.limit?)
    }

    /// True from the deadline on.
    pub(crate) fn expired(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_admits_as_many_as_it_says_in_each_interval() {
        let start = Instant::now();
        let mut rate = Rate::new(2, Duration::from_secs(10));
        assert!(rate.admit(start));
        assert!(rate.admit(start + Duration::from_secs(9)));
        assert!(!rate.admit(start + Duration::from_millis(9_999)));
        assert!(rate.admit(start + Duration::from_secs(10)));
        assert!(!Rate::new(0, Duration::from_secs(10)).admit(start));
    }

    #[test]
    fn idle_ends_at_the_deadline_and_moves_with_what_happens() {
        let start = Instant::now();
        let mut idle = Idle::new(Some(Duration::from_secs(5)), start);
        assert!(!idle.expired(start + Duration::from_millis(4_999)));
        assert!(idle.expired(start + Duration::from_secs(5)));
        idle.touch(start + Duration::from_secs(4));
        assert_eq!(idle.deadline(), Some(start + Duration::from_secs(9)));
        assert!(!Idle::new(None, start).expired(start + Duration::from_secs(1 << 40)));
    }
}
