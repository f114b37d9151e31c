//! What slows down guessing passwords, and never locks anybody out.
//!
//! - Per account: after `max_failures` failures in the window, the next attempt has to wait 1, 2, 4, … seconds after the
//!   last failure, up to `max_delay`. Accounts that exist are counted in the store, so that all replicas know; names that
//!   do not exist are counted, under a keyed hash, in a table of fixed size in this process, and are delayed alike, so
//!   that the delay does not tell which names exist (and inventing names writes nothing).
//! - Per address: at most `per_minute` attempts. An IPv6 client counts by its /64.
//!
//! A refused attempt is not a failure: it does not prolong the delay, so whoever owns the account gets a turn.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use portcullis_runtime::{Clock, Rng, Timestamp};
use portcullis_storage::{Store, StoreError};

use crate::config::Attempts;
use crate::http::Source;

/// Addresses, and names, that are remembered.
const TABLE: usize = 8192;

/// The attempt is refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// How long to wait.
    pub(crate) wait: Duration,
}

/// Decides whether an attempt may be made.
pub(crate) struct Throttle {
    store: Store,
    clock: Clock,
    limits: Attempts,
    key: hmac::Key,
    unknown: Mutex<HashMap<[u8; 16], Misses>>,
    addresses: AddressTable,
}

/// Failures of a name that does not exist.
#[derive(Clone, Copy)]
struct Misses {
    count: u32,
    since: Timestamp,
    last: Timestamp,
}

impl Throttle {
    pub(crate) fn new(store: Store, clock: Clock, rng: &Rng, limits: Attempts) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rng.bytes::<32>());
        Self { store, clock, limits, key, unknown: Mutex::default(), addresses: AddressTable::new(limits.per_minute) }
    }

    /// Counts an attempt of an address, and refuses it when there were too many.
    pub(crate) fn address(&self, from: Source) -> Result<(), Refused> {
        from.network().map_or(Ok(()), |ip| self.addresses.take(ip, self.clock.now()))
    }

    /// Refuses the attempt while the account has to wait. Makes the same look-ups whether or not it exists.
    pub(crate) async fn account(&self, name: &str, exists: bool) -> Result<Result<(), Refused>, StoreError> {
        let stored = self.store.failures().of(name, self.limits.window).await?;
        let (count, last) = match (exists, self.misses(name)) {
            (true, _) => (stored.count, stored.last),
            (false, Some(misses)) => (misses.count, Some(misses.last)),
            (false, None) => (0, None),
        };
        let delay = self.delay(count);
        let free_from = last.map_or(Timestamp::UNIX_EPOCH, |last| last + delay);
        // A clock that was set back puts the last failure into the future; nobody waits longer than the delay itself.
        let wait = free_from.saturating_since(self.clock.now()).min(delay);
        Ok(if wait.is_zero() { Ok(()) } else { Err(Refused { wait }) })
    }

    /// Counts a failure.
    pub(crate) async fn failed(&self, name: &str, exists: bool) -> Result<(), StoreError> {
        if exists {
            return self.store.failures().record(name, self.limits.window).await.map(|_| ());
        }
        let now = self.clock.now();
        let mut table = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.hash(name);
        make_room(&mut table, &key, |misses| misses.last);
        let misses = table.entry(key).or_insert(Misses { count: 0, since: now, last: now });
        if now.saturating_since(misses.since) >= self.limits.window {
            *misses = Misses { count: 0, since: now, last: now };
        }
        misses.count = misses.count.saturating_add(1);
        misses.last = now;
        Ok(())
    }

    /// Forgets the failures of an account whose owner has signed in.
    pub(crate) async fn succeeded(&self, name: &str) -> Result<(), StoreError> {
        if self.store.failures().of(name, self.limits.window).await?.count == 0 {
            return Ok(());
        }
        self.store.failures().clear(name).await
    }

    /// How long an account rests after its n-th failure in the window.
    fn delay(&self, count: u32) -> Duration {
        match count.checked_sub(self.limits.max_failures) {
            None => Duration::ZERO,
            Some(over) => Duration::from_secs(1_u64.checked_shl(over).unwrap_or(u64::MAX)).min(self.limits.max_delay),
        }
    }

    fn misses(&self, name: &str) -> Option<Misses> {
        let now = self.clock.now();
        let table = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(&self.hash(name)).copied().filter(|m| now.saturating_since(m.since) < self.limits.window)
    }

    fn hash(&self, name: &str) -> [u8; 16] {
        let tag = hmac::sign(&self.key, name.as_bytes());
        tag.as_ref().get(..16).and_then(|t| t.try_into().ok()).unwrap_or_default()
    }
}

/// Attempts of addresses: a bucket that fills up evenly over a minute.
pub(crate) struct AddressTable {
    per_minute: u32,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// Attempts that are left, in thousandths.
    left: u64,
    at: Timestamp,
}

impl AddressTable {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, buckets: Mutex::default() }
    }

    fn take(&self, ip: IpAddr, now: Timestamp) -> Result<(), Refused> {
        let full = u64::from(self.per_minute) * 1000;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut buckets, &ip, |bucket| bucket.at);
        let bucket = buckets.entry(ip).or_insert(Bucket { left: full, at: now });
        let passed = u64::try_from(now.saturating_since(bucket.at).as_millis()).unwrap_or(u64::MAX);
        bucket.left = bucket.left.saturating_add(passed.saturating_mul(u64::from(self.per_minute)) / 60).min(full);
        bucket.at = now;
        match bucket.left.checked_sub(1000) {
            Some(left) => {
                bucket.left = left;
                Ok(())
            }
            None => Err(Refused {
                wait: Duration::from_millis(((1000 - bucket.left) * 60).div_ceil(u64::from(self.per_minute.max(1)))),
            }),
        }
    }
}

/// Keeps a table within its size: the entry that was used longest ago goes.
fn make_room<K: Copy + Eq + std::hash::Hash, V>(table: &mut HashMap<K, V>, key: &K, used: impl Fn(&V) -> Timestamp) {
    if table.len() < TABLE || table.contains_key(key) {
        return;
    }
    // An eighth at a time, so that a flood of new keys does not pay for a scan each.
    let mut times: Vec<Timestamp> = table.values().map(&used).collect();
    let (_, limit, _) = times.select_nth_unstable(TABLE / 8);
    let limit = *limit;
    table.retain(|_, value| used(value) > limit);
    if table.len() >= TABLE {
        table.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_runtime::MockClock;
    use portcullis_storage::MemoryKernel;

    use super::*;

    fn throttle() -> (Throttle, MockClock) {
        let (clock, hand) = Clock::mock(1_000_000);
        let store = Store::new(Arc::new(MemoryKernel::new()), clock.clone(), Rng::seeded(1));
        (Throttle::new(store, clock, &Rng::seeded(2), Attempts::default()), hand)
    }

    async fn wait(throttle: &Throttle, name: &str, exists: bool) -> u64 {
        throttle.account(name, exists).await.unwrap().err().map_or(0, |r| r.wait.as_secs())
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_makes_nobody_wait_for_the_jump() {
        for exists in [true, false] {
            let (throttle, hand) = throttle();
            throttle.failed("a@b", exists).await.unwrap();
            hand.set(Timestamp::from_unix_seconds(1_000_000 - 3_600));
            assert_eq!(wait(&throttle, "a@b", exists).await, 0, "exists: {exists}");
            for _ in 0..30 {
                throttle.failed("a@b", exists).await.unwrap();
            }
            hand.set(Timestamp::from_unix_seconds(1_000_000 - 7_200));
            assert!(wait(&throttle, "a@b", exists).await <= 30, "exists: {exists}");
        }
    }

    #[tokio::test]
    async fn known_and_unknown_names_are_delayed_alike_and_never_for_long() {
        for exists in [true, false] {
            let (throttle, hand) = throttle();
            let mut waits = Vec::new();
            for _ in 0..18 {
                let seconds = wait(&throttle, "a@b", exists).await;
                waits.push(seconds);
                hand.advance(Duration::from_secs(seconds));
                assert_eq!(wait(&throttle, "a@b", exists).await, 0);
                throttle.failed("a@b", exists).await.unwrap();
            }
            assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30], "exists: {exists}");
            assert_eq!(wait(&throttle, "other@b", exists).await, 0);
            hand.advance(Duration::from_secs(601));
            assert_eq!(wait(&throttle, "a@b", exists).await, 0, "the window is over");
        }
    }

    #[tokio::test]
    async fn a_success_clears_the_count() {
        let (throttle, _hand) = throttle();
        for _ in 0..12 {
            throttle.failed("a@b", true).await.unwrap();
        }
        assert!(wait(&throttle, "a@b", true).await > 0);
        throttle.succeeded("a@b").await.unwrap();
        assert_eq!(wait(&throttle, "a@b", true).await, 0);
    }

    #[tokio::test]
    async fn an_address_gets_sixty_attempts_and_then_one_a_second() {
        let (throttle, hand) = throttle();
        let from = |ip: &str| Source { client: Some(ip.parse().unwrap()), claimed: None };
        let (ip, same) = (from("2001:db8::1"), from("2001:db8::2:0:0:9"));
        for _ in 0..60 {
            throttle.address(ip).unwrap();
        }
        assert_eq!(throttle.address(same), Err(Refused { wait: Duration::from_secs(1) }));
        assert!(throttle.address(from("2001:db8:0:1::1")).is_ok());
        hand.advance(Duration::from_secs(1));
        throttle.address(ip).unwrap();
        assert!(throttle.address(ip).is_err());
        hand.advance(Duration::from_secs(3600));
        for _ in 0..60 {
            throttle.address(ip).unwrap();
        }
        assert!(throttle.address(ip).is_err(), "a bucket holds no more than a minute's worth");
    }

    #[tokio::test]
    async fn the_tables_stay_within_their_size() {
        let (throttle, hand) = throttle();
        for i in 0..3 * u32::try_from(TABLE).unwrap() {
            hand.advance(Duration::from_millis(1));
            let _ = throttle.address(Source { client: Some(IpAddr::V4(i.into())), claimed: None });
            throttle.failed(&i.to_string(), false).await.unwrap();
        }
        assert!(throttle.unknown.lock().unwrap().len() <= TABLE);
        assert!(throttle.addresses.buckets.lock().unwrap().len() <= TABLE);
    }
}
