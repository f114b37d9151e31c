//! How refresh tokens rotate and when families end: Dex's `expiry.refreshTokens`, and a grace for lost replies.

use std::time::Duration;

use portcullis_runtime::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How refresh tokens rotate and when families end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    /// Whether a refresh gives a new token. Dex: not `disableRotation`.
    pub rotate: bool,
    /// For this long after its last use, a token is given back as it is. Dex: `reuseInterval`.
    pub reuse_interval: Duration,
    /// For this long after a rotation, the token before it is accepted and gives the current one, so that a client
    /// whose reply was lost can try again. Reuse after it ends the family.
    pub grace: Duration,
    /// Life of a family from its creation. Dex: `absoluteLifetime`.
    pub absolute_lifetime: Option<Duration>,
    /// Life of a family from its last use. Dex: `validIfNotUsedFor`.
    pub idle_lifetime: Option<Duration>,
}

impl Default for RotationPolicy {
    /// Rotation with 30 seconds of grace; families end after 90 idle days.
    fn default() -> Self {
        Self {
            rotate: true,
            reuse_interval: Duration::ZERO,
            grace: Duration::from_secs(30),
            absolute_lifetime: None,
            idle_lifetime: Some(90 * DAY),
        }
    }
}

impl RotationPolicy {
    /// Whether a family is over.
    pub(super) fn is_over(&self, created_at: Timestamp, last_used: Timestamp, now: Timestamp) -> bool {
        let over = |since: Timestamp, life: Option<Duration>| life.is_some_and(|life| now >= since + life);
        over(created_at, self.absolute_lifetime) || over(last_used, self.idle_lifetime)
    }

    /// Whether the current token was used so recently that it is given back unchanged.
    pub(super) fn gives_back(&self, last_used: Timestamp, now: Timestamp) -> bool {
        !self.reuse_interval.is_zero() && now <= last_used + self.reuse_interval
    }

    /// Whether the previous token is still accepted.
    pub(super) fn accepts_previous(&self, last_used: Timestamp, now: Timestamp) -> bool {
        let window = self.grace.max(self.reuse_interval);
        !window.is_zero() && now <= last_used + window
    }

    /// From when on the family's record may be collected: never before the family is over. The idle end is rounded up
    /// to a step of an eighth of the idle life (between a minute and a week), so that most refreshes leave it as it is.
    pub(super) fn collect_at(&self, created_at: Timestamp, last_used: Timestamp) -> Option<Timestamp> {
        let absolute = self.absolute_lifetime.map(|life| created_at + life);
        let idle = self.idle_lifetime.map(|life| {
            let step = (life / 8).clamp(Duration::from_secs(60), 7 * DAY);
            round_up(last_used + life, step)
        });
        match (absolute, idle) {
            (Some(absolute), Some(idle)) => Some(absolute.min(idle)),
            (one, other) => one.or(other),
        }
    }
}

fn round_up(at: Timestamp, step: Duration) -> Timestamp {
    let step = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX).max(1);
    let beyond = at.unix_nanos().rem_euclid(step);
    let missing = if beyond == 0 { 0 } else { step - beyond };
    Timestamp::from_unix_nanos(at.unix_nanos().saturating_add(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn a_family_is_over_at_the_first_of_its_two_ends() {
        let policy = RotationPolicy {
            absolute_lifetime: Some(Duration::from_secs(100)),
            idle_lifetime: Some(Duration::from_secs(10)),
            ..RotationPolicy::default()
        };
        assert!(!policy.is_over(at(0), at(0), at(9)));
        assert!(policy.is_over(at(0), at(0), at(10)));
        assert!(!policy.is_over(at(0), at(95), at(99)));
        assert!(policy.is_over(at(0), at(95), at(100)));
        let endless = RotationPolicy { absolute_lifetime: None, idle_lifetime: None, ..policy };
        assert!(!endless.is_over(at(0), at(0), Timestamp::MAX));
        assert_eq!(endless.collect_at(at(0), at(0)), None);
    }

    #[test]
    fn a_record_is_never_collected_before_its_family_is_over() {
        for idle in [1, 59, 60, 600, 86_400, 90 * 86_400] {
            for absolute in [None, Some(Duration::from_secs(1_000_000))] {
                let policy = RotationPolicy {
                    absolute_lifetime: absolute,
                    idle_lifetime: Some(Duration::from_secs(idle)),
                    ..RotationPolicy::default()
                };
                for used in [0, 1, 59, 61, 12_345, 999_999] {
                    let collect = policy.collect_at(at(0), at(used)).unwrap();
                    assert!(policy.is_over(at(0), at(used), collect), "idle {idle}, used {used}");
                }
            }
        }
    }

    #[test]
    fn the_windows_are_closed_when_they_are_zero() {
        let policy = RotationPolicy { grace: Duration::ZERO, ..RotationPolicy::default() };
        assert!(!policy.accepts_previous(at(5), at(5)) && !policy.gives_back(at(5), at(5)));
        let policy = RotationPolicy { reuse_interval: Duration::from_secs(3), ..policy };
        assert!(policy.accepts_previous(at(5), at(8)) && policy.gives_back(at(5), at(8)));
        assert!(!policy.accepts_previous(at(5), at(9)) && !policy.gives_back(at(5), at(9)));
    }
}
