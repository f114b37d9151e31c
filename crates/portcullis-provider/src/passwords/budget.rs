//! How many attempts somebody may make in a minute: buckets that fill up evenly, and how those behind one address share
//! its bucket.
//!
//! An address has one bucket, whatever it says. A proxy that the configuration does not name is such an address, and so
//! one stranger behind it could use up what everybody there has. So an address that says for whom it speaks
//! ([`Source::claimed`]) shares its bucket among those: whoever has made more attempts in the last minute than are left in
//! the bucket has to wait, so that something is left for those who have made fewer. With n who take all they can, about
//! 1/(n+1) stays for the others. What an address says divides its bucket and never adds to it, so inventing names gains
//! nothing.
//!
//! An attempt that succeeds gives most of its cost back: guesses are what is limited. It keeps some, because a password
//! check costs a processor's time whoever asks for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use portcullis_runtime::Timestamp;

use super::throttle::Refused;
use crate::http::{Source, network};

/// Entries that a table remembers.
const TABLE: usize = 8192;
/// An attempt, in thousandths.
const ATTEMPT: u64 = 1000;
/// What an attempt that succeeded gives back, in thousandths: four successes cost as much as a failure.
const SUCCESS_RETURNS: u64 = 750;
/// A minute, in milliseconds.
const MINUTE: u64 = 60_000;

/// Buckets of addresses, and the shares of those behind them.
pub(crate) struct Addresses {
    per_minute: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buckets: HashMap<IpAddr, Bucket>,
    shares: HashMap<(IpAddr, Option<IpAddr>), Share>,
}

impl Addresses {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, state: Mutex::default() }
    }

    /// Takes an attempt from the bucket of an address; an unknown address has no bucket, and no limit.
    pub(crate) fn take(&self, from: Source, now: Timestamp) -> Result<(), Refused> {
        let Some(address) = from.network() else { return Ok(()) };
        let claimed = from.claimed.map(network);
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut state.buckets, &address, |bucket| bucket.at);
        let bucket = state.buckets.entry(address).or_insert_with(|| Bucket::full(self.per_minute, now));
        bucket.fill(self.per_minute, now);
        if claimed.is_some() {
            bucket.claims = Some(now);
        }
        if !bucket.is_shared(now) {
            return bucket.take(self.per_minute);
        }
        make_room(&mut state.shares, &(address, claimed), |share| share.at);
        let share = state.shares.entry((address, claimed)).or_insert(Share { at: now, current: 0, previous: 0 });
        share.turn(now);
        let used = share.used(now);
        if used >= bucket.left.max(1) {
            return Err(refused(used.saturating_sub(bucket.left) + 1, self.per_minute));
        }
        bucket.take(self.per_minute)?;
        share.current = share.current.saturating_add(ATTEMPT);
        Ok(())
    }

    /// Gives back what an attempt that succeeded does not cost.
    pub(crate) fn give_back(&self, from: Source) {
        let Some(address) = from.network() else { return };
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = state.buckets.get_mut(&address) {
            bucket.left = bucket.left.saturating_add(SUCCESS_RETURNS).min(capacity(self.per_minute));
        }
        if let Some(share) = state.shares.get_mut(&(address, from.claimed.map(network))) {
            share.current = share.current.saturating_sub(SUCCESS_RETURNS);
        }
    }
}

/// Buckets of whoever is known by a key, undivided.
pub(crate) struct Buckets<K> {
    per_minute: u32,
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, buckets: Mutex::default() }
    }

    /// Takes an attempt.
    pub(crate) fn take(&self, key: K, now: Timestamp) -> Result<(), Refused> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut buckets, &key, |bucket| bucket.at);
        let bucket = buckets.entry(key).or_insert_with(|| Bucket::full(self.per_minute, now));
        bucket.fill(self.per_minute, now);
        bucket.take(self.per_minute)
    }
}

#[derive(Clone, Copy)]
struct Bucket {
    /// Attempts that are left, in thousandths.
    left: u64,
    at: Timestamp,
    /// When somebody behind the address was named last.
    claims: Option<Timestamp>,
}

impl Bucket {
    fn full(per_minute: u32, now: Timestamp) -> Self {
        Self { left: capacity(per_minute), at: now, claims: None }
    }

    fn fill(&mut self, per_minute: u32, now: Timestamp) {
        let gained = millis_since(self.at, now).saturating_mul(u64::from(per_minute)) / 60;
        self.left = self.left.saturating_add(gained).min(capacity(per_minute));
        self.at = now;
    }

    fn take(&mut self, per_minute: u32) -> Result<(), Refused> {
        match self.left.checked_sub(ATTEMPT) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(refused(ATTEMPT - self.left, per_minute)),
        }
    }

    /// Whether somebody behind the address was named within the time that a bucket takes to fill up.
    fn is_shared(&self, now: Timestamp) -> bool {
        self.claims.is_some_and(|at| millis_since(at, now) <= MINUTE)
    }
}

/// Attempts of one of those behind an address, in thousandths, in this minute and in the one before.
#[derive(Clone, Copy)]
struct Share {
    at: Timestamp,
    current: u64,
    previous: u64,
}

impl Share {
    fn turn(&mut self, now: Timestamp) {
        match minute(now).saturating_sub(minute(self.at)) {
            0 => {}
            1 => self.previous = std::mem::take(&mut self.current),
            _ => (self.current, self.previous) = (0, 0),
        }
        self.at = now;
    }

    /// In the last minute: this one, and the part of the one before that the last sixty seconds cover.
    fn used(&self, now: Timestamp) -> u64 {
        self.current.saturating_add(self.previous.saturating_mul(MINUTE - millis(now) % MINUTE) / MINUTE)
    }
}

fn capacity(per_minute: u32) -> u64 {
    u64::from(per_minute) * ATTEMPT
}

/// How long a bucket takes to gain `missing` thousandths.
fn refused(missing: u64, per_minute: u32) -> Refused {
    let wait = (missing.saturating_mul(60)).div_ceil(u64::from(per_minute.max(1)));
    Refused { wait: Duration::from_millis(wait.min(MINUTE)) }
}

fn millis(at: Timestamp) -> u64 {
    millis_since(Timestamp::UNIX_EPOCH, at)
}

fn minute(at: Timestamp) -> u64 {
    millis(at) / MINUTE
}

fn millis_since(earlier: Timestamp, later: Timestamp) -> u64 {
    u64::try_from(later.saturating_since(earlier).as_millis()).unwrap_or(u64::MAX)
}

/// Keeps a table within its size: what was used longest ago goes, an eighth at a time, so that a flood of new keys does
/// not pay for a scan each.
fn make_room<K: Copy + Eq + Hash, V>(table: &mut HashMap<K, V>, key: &K, used: impl Fn(&V) -> Timestamp) {
    if table.len() < TABLE || table.contains_key(key) {
        return;
    }
    let mut order: Vec<(Timestamp, K)> = table.iter().map(|(key, value)| (used(value), *key)).collect();
    order.select_nth_unstable_by_key(TABLE / 8, |(at, _)| *at);
    for (_, key) in order.iter().take(TABLE / 8) {
        table.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_000_000) + Duration::from_millis(millis)
    }

    fn from(client: &str, claimed: Option<u32>) -> Source {
        Source { client: Some(client.parse().unwrap()), claimed: claimed.map(|n| IpAddr::V4(n.into())) }
    }

    /// Attempts at one moment until one is refused.
    fn burst(addresses: &Addresses, source: Source, now: Timestamp) -> usize {
        (0..1000).take_while(|_| addresses.take(source, now).is_ok()).count()
    }

    #[test]
    fn an_address_gets_sixty_attempts_and_then_one_a_second() {
        let addresses = Addresses::new(60);
        let (ip, same) = (from("2001:db8::1", None), from("2001:db8::2:0:0:9", None));
        assert_eq!(burst(&addresses, ip, at(0)), 60);
        assert_eq!(addresses.take(same, at(0)), Err(Refused { wait: Duration::from_secs(1) }));
        assert!(addresses.take(from("2001:db8:0:1::1", None), at(0)).is_ok());
        addresses.take(ip, at(1000)).unwrap();
        assert!(addresses.take(ip, at(1000)).is_err());
        assert_eq!(burst(&addresses, ip, at(3_600_000)), 60, "a bucket holds no more than a minute's worth");
        assert!(addresses.take(Source::default(), at(0)).is_ok());
    }

    #[test]
    fn inventing_whom_one_speaks_for_gains_nothing() {
        let (plain, inventive) = (Addresses::new(60), Addresses::new(60));
        let mut made = [0, 0];
        for step in 0..3_000_u32 {
            let now = at(u64::from(step) * 100);
            made[0] += usize::from(plain.take(from("192.0.2.1", None), now).is_ok());
            made[1] += usize::from(inventive.take(from("192.0.2.1", Some(step)), now).is_ok());
        }
        assert_eq!(made[0], 60 + 299);
        assert!(made[1] <= made[0], "{made:?}");
    }

    #[test]
    fn a_stranger_behind_a_proxy_leaves_attempts_to_the_others() {
        let addresses = Addresses::new(60);
        let behind = |n| from("10.0.0.1", Some(n));
        assert_eq!(burst(&addresses, behind(1), at(0)), 30);
        assert!(burst(&addresses, behind(2), at(0)) >= 10, "and something is left for the next");
        // However long it goes on, whoever comes has a turn at once.
        let mut made = 0;
        for step in 0..6_000 {
            let now = at(step * 100);
            made += usize::from(addresses.take(behind(1), now).is_ok());
            if step % 50 == 0 {
                let who = u32::try_from(1000 + step).unwrap();
                assert!(addresses.take(behind(who), now).is_ok(), "step {step}");
            }
        }
        assert!(made > 300, "what nobody else wants is the stranger's: {made}");
    }

    #[test]
    fn several_strangers_behind_a_proxy_leave_attempts_to_the_others() {
        let addresses = Addresses::new(60);
        let mut refused = 0;
        for step in 0..6_000 {
            let now = at(step * 100);
            for stranger in 0..5 {
                let _ = addresses.take(from("10.0.0.1", Some(stranger)), now);
            }
            if step % 50 == 0 {
                let who = u32::try_from(1000 + step).unwrap();
                refused += usize::from(addresses.take(from("10.0.0.1", Some(who)), now).is_err());
            }
        }
        assert_eq!(refused, 0, "of 120");
    }

    #[test]
    fn whoever_is_not_named_shares_with_those_who_are() {
        let addresses = Addresses::new(60);
        addresses.take(from("10.0.0.1", Some(1)), at(0)).unwrap();
        let unnamed = burst(&addresses, from("10.0.0.1", None), at(0));
        assert!((25..=30).contains(&unnamed), "{unnamed}");
        assert!(addresses.take(from("10.0.0.1", Some(2)), at(0)).is_ok());
        // The address is a plain one again when nobody has been named for a while.
        assert_eq!(burst(&addresses, from("10.0.0.1", None), at(70_000)), 60);
    }

    #[test]
    fn a_success_costs_a_quarter() {
        for claimed in [None, Some(1)] {
            let addresses = Addresses::new(60);
            let source = from("192.0.2.1", claimed);
            let mut made = 0;
            while addresses.take(source, at(0)).is_ok() {
                addresses.give_back(source);
                made += 1;
                assert!(made < 1000);
            }
            let expected = if claimed.is_none() { 237..=240 } else { 110..=120 };
            assert!(expected.contains(&made), "{made}");
        }
        let addresses = Addresses::new(60);
        addresses.give_back(from("192.0.2.1", None));
        addresses.take(from("192.0.2.1", None), at(0)).unwrap();
        addresses.give_back(from("192.0.2.1", None));
        addresses.give_back(from("192.0.2.1", None));
        assert_eq!(burst(&addresses, from("192.0.2.1", None), at(0)), 60, "never more than a full bucket");
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_for_the_jump() {
        let addresses = Addresses::new(60);
        for claimed in [None, Some(1)] {
            let source = from("192.0.2.1", claimed);
            burst(&addresses, source, at(3_600_000));
            let refused = addresses.take(source, at(0)).unwrap_err();
            assert!(refused.wait <= Duration::from_secs(60), "{refused:?}");
            assert!(addresses.take(source, at(0) + refused.wait).is_ok());
        }
    }

    #[test]
    fn the_tables_stay_within_their_size() {
        let (addresses, buckets) = (Addresses::new(60), Buckets::new(60));
        for number in 0..3 * u32::try_from(TABLE).unwrap() {
            let source = Source { client: Some(IpAddr::V4(number.into())), claimed: Some(IpAddr::V4(number.into())) };
            let _ = addresses.take(source, at(0));
            let _ = buckets.take(number, at(0));
            let state = addresses.state.lock().unwrap();
            assert!(state.buckets.len() <= TABLE && state.shares.len() <= TABLE);
        }
        assert!(buckets.buckets.lock().unwrap().len() <= TABLE);
    }
}
