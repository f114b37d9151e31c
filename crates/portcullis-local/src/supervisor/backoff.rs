//! How long a part that keeps ending waits before it is started again.
//!
//! Compat: a kubelet's: at once, then 10 s, 20 s, and so on up to 5 minutes; forgotten by a part that ran for 10 minutes.

use std::time::Duration;

/// The waits of one part.
#[derive(Debug)]
pub(super) struct BackOff {
    first: Duration,
    longest: Duration,
    /// The next one; `None` when the part is started at once.
    next: Option<Duration>,
}

impl BackOff {
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: None }
    }

    /// The part has run for that long.
    pub(super) fn ran(&mut self, time: Duration) {
        if time >= 2 * self.longest {
            self.next = None;
        }
    }

    /// The wait before this start.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let wait = self.next;
        self.next = Some(wait.map_or(self.first, |wait| (2 * wait).min(self.longest)));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_forgotten() {
        let seconds = Duration::from_secs;
        let mut back_off = BackOff::new(seconds(10), seconds(300));
        let waits: Vec<_> = (0..8).map(|_| back_off.next().map_or(0, |wait| wait.as_secs())).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        back_off.ran(seconds(599));
        assert_eq!(back_off.next(), Some(seconds(300)));
        back_off.ran(seconds(600));
        assert_eq!((back_off.next(), back_off.next()), (None, Some(seconds(10))));
    }
}
