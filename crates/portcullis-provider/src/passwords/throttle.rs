//! What slows down guessing passwords, and never locks anybody out.
//!
//! - Per account: after `max_failures` failures in the window, the next attempt has to wait 1, 2, 4, … seconds after the
//!   last failure, up to `max_delay`. Names that do not exist are counted by the same rule in the same table, and nothing
//!   that depends on whether a name exists is done before an attempt is refused.
//! - Per address: at most `per_minute` attempts ([`Addresses`]). An IPv6 client counts by its /64.
//!
//! Somebody who fails all the time must not keep the account's owner out (docs/decisions/0011):
//!
//! - A browser that has signed in to the account before, and proves it with its device cookie, counts by itself: others'
//!   failures do not delay it, nor its own the others. It has the same number of attempts, so the cookie is worth no more
//!   to whoever steals it than coming as a stranger; and it needs no attempt of its address.
//! - An address from which few of the account's failures came (less than half of `max_failures`) waits half as long. So
//!   whoever fails from one address leaves the second half of every delay to everybody else. For whom an address says that
//!   it speaks does not count here: inventing that would make everybody look like somebody new.
//!
//! A refused attempt is not a failure: it does not prolong the delay.

use std::time::Duration;

use aws_lc_rs::hmac;
use portcullis_runtime::{Clock, Rng, Timestamp};
use portcullis_storage::{Failures, Store, StoreError, Subject};

use super::budget::{Addresses, Buckets};
use crate::config::Attempts;
use crate::http::Source;

/// The attempt is refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// How long to wait.
    pub(crate) wait: Duration,
}

/// Who tries, as far as that is known before the password is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    /// The account's name, in lower case. It need not exist.
    pub(crate) account: &'a str,
    /// Where the attempt comes from.
    pub(crate) from: Source,
    /// The device, when the browser has signed in to the account before.
    pub(crate) device: Option<&'a str>,
}

impl<'a> Who<'a> {
    fn subject(&self) -> Subject<'a> {
        let account = self.account;
        self.device.map_or(Subject::Account(account), |device| Subject::Device { account, device })
    }

    fn address(&self) -> Option<String> {
        self.from.network().map(|ip| ip.to_string())
    }
}

/// The right to one attempt.
#[derive(Debug)]
#[must_use]
pub(crate) struct Admitted {
    /// It was taken from the address.
    of_address: bool,
}

/// Decides whether an attempt may be made.
pub(crate) struct Throttle {
    store: Store,
    clock: Clock,
    limits: Attempts,
    key: hmac::Key,
    addresses: Addresses,
    /// Of the devices of an account, together: whoever signs in often collects devices.
    devices: Buckets<[u8; 16]>,
}

impl Throttle {
    pub(crate) fn new(store: Store, clock: Clock, rng: &Rng, limits: Attempts) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rng.bytes::<32>());
        let (addresses, devices) = (Addresses::new(limits.per_minute), Buckets::new(limits.per_minute));
        Self { store, clock, limits, key, addresses, devices }
    }

    /// Counts an attempt, and refuses it when there were too many.
    pub(crate) fn admit(&self, who: &Who<'_>) -> Result<Admitted, Refused> {
        let now = self.clock.now();
        if who.device.is_some() && self.devices.take(self.hash(who.account), now).is_ok() {
            return Ok(Admitted { of_address: false });
        }
        self.addresses.take(who.from, now).map(|()| Admitted { of_address: true })
    }

    /// Refuses the attempt while the account, or the device, has to wait.
    pub(crate) async fn delayed(&self, who: &Who<'_>) -> Result<Result<(), Refused>, StoreError> {
        let failures = self.store.failures();
        // What this process has counted is enough to refuse, known or not: then the time of the answer says nothing.
        let here = self.judge(who, failures.here(who.subject(), self.limits.window));
        if here.is_err() {
            return Ok(here);
        }
        Ok(self.judge(who, failures.of(who.subject(), self.limits.window).await?))
    }

    /// Counts a failure. Waits for nothing.
    pub(crate) fn failed(&self, who: &Who<'_>, exists: bool) {
        let failures = self.store.failures();
        failures.record(who.subject(), exists, self.limits.window);
        if let (None, Some(address)) = (who.device, who.address()) {
            let part = Subject::From { account: who.account, address: &address };
            failures.record(part, exists, self.limits.window);
        }
    }

    /// Forgets the failures of whoever has signed in, and gives the attempt back. A device does not speak for the account:
    /// strangers would get new attempts each time its owner signs in.
    pub(crate) async fn succeeded(&self, who: &Who<'_>, admitted: Admitted) -> Result<(), StoreError> {
        if admitted.of_address {
            self.addresses.give_back(who.from);
        }
        let failures = self.store.failures();
        if let (None, Some(address)) = (who.device, who.address()) {
            failures.clear(Subject::From { account: who.account, address: &address }).await?;
        }
        failures.clear(who.subject()).await
    }

    fn judge(&self, who: &Who<'_>, failures: Failures) -> Result<(), Refused> {
        let delay = self.delay(failures.count);
        let delay = if !delay.is_zero() && self.is_hardly_its_doing(who) { delay / 2 } else { delay };
        let free_from = failures.last.map_or(Timestamp::UNIX_EPOCH, |last| last + delay);
        // A clock that was set back puts the last failure into the future; nobody waits longer than the delay itself.
        let wait = free_from.saturating_since(self.clock.now()).min(delay);
        if wait.is_zero() { Ok(()) } else { Err(Refused { wait }) }
    }

    /// Whether few of the account's failures came from where this attempt comes from, as far as this process knows.
    fn is_hardly_its_doing(&self, who: &Who<'_>) -> bool {
        let (None, Some(address)) = (who.device, who.address()) else { return false };
        let part = Subject::From { account: who.account, address: &address };
        self.store.failures().here(part, self.limits.window).count < self.limits.max_failures.div_ceil(2)
    }

    /// How long to rest after the n-th failure in the window.
    fn delay(&self, count: u32) -> Duration {
        match count.checked_sub(self.limits.max_failures) {
            None => Duration::ZERO,
            Some(over) => Duration::from_secs(1_u64.checked_shl(over).unwrap_or(u64::MAX)).min(self.limits.max_delay),
        }
    }

    fn hash(&self, name: &str) -> [u8; 16] {
        let tag = hmac::sign(&self.key, name.as_bytes());
        tag.as_ref().get(..16).and_then(|t| t.try_into().ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Poll;

    use portcullis_runtime::MockClock;
    use portcullis_storage::kernel::{
        Description, IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write,
    };
    use portcullis_storage::{Kernel, MemoryKernel, Snapshot};

    use super::*;

    fn throttle() -> (Throttle, MockClock) {
        let (clock, hand) = Clock::mock(1_000_000);
        let store = Store::new(Arc::new(MemoryKernel::new()), clock.clone(), Rng::seeded(1));
        (Throttle::new(store, clock, &Rng::seeded(2), Attempts::default()), hand)
    }

    const ACCOUNT: &str = "a@b";

    fn who(address: Option<&str>) -> Who<'static> {
        let client = address.map(|a| a.parse().unwrap());
        Who { account: ACCOUNT, from: Source { client, claimed: None }, device: None }
    }

    fn device(id: &'static str) -> Who<'static> {
        Who { device: Some(id), ..who(Some("192.0.2.1")) }
    }

    async fn wait(throttle: &Throttle, who: &Who<'_>) -> f64 {
        throttle.delayed(who).await.unwrap().err().map_or(0.0, |r| r.wait.as_secs_f64())
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_makes_nobody_wait_for_the_jump() {
        for exists in [true, false] {
            let (throttle, hand) = throttle();
            throttle.failed(&who(None), exists);
            hand.set(Timestamp::from_unix_seconds(1_000_000 - 3_600));
            assert_eq!(wait(&throttle, &who(None)).await, 0.0, "exists: {exists}");
            for _ in 0..30 {
                throttle.failed(&who(None), exists);
            }
            hand.set(Timestamp::from_unix_seconds(1_000_000 - 7_200));
            assert!(wait(&throttle, &who(None)).await <= 30.0, "exists: {exists}");
        }
    }

    #[tokio::test]
    async fn known_and_unknown_names_are_delayed_alike_and_never_for_long() {
        for address in [None, Some("192.0.2.1")] {
            for (exists, flush) in [(true, false), (true, true), (false, false)] {
                let (throttle, hand) = throttle();
                let me = who(address);
                let mut waits = Vec::new();
                for _ in 0..18 {
                    let seconds = wait(&throttle, &me).await;
                    waits.push(seconds);
                    hand.advance(Duration::from_secs_f64(seconds));
                    assert_eq!(wait(&throttle, &me).await, 0.0);
                    throttle.failed(&me, exists);
                    if flush {
                        throttle.store.failures().flush(throttle.limits.window).await.unwrap();
                    }
                }
                let want = [0.0; 10].into_iter().chain([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
                assert_eq!(waits, want.collect::<Vec<_>>(), "exists: {exists}, written: {flush}");
                assert_eq!(wait(&throttle, &Who { account: "other@b", ..me }).await, 0.0);
                hand.advance(Duration::from_secs(331));
                assert_eq!(wait(&throttle, &me).await, 0.0, "the window is over");
            }
        }
    }

    #[tokio::test]
    async fn a_success_clears_the_count() {
        let (throttle, _hand) = throttle();
        let me = who(Some("192.0.2.1"));
        for _ in 0..12 {
            throttle.failed(&me, true);
        }
        throttle.store.failures().flush(throttle.limits.window).await.unwrap();
        assert!(wait(&throttle, &me).await > 0.0);
        let admitted = throttle.admit(&me).unwrap();
        throttle.succeeded(&me, admitted).await.unwrap();
        assert_eq!(wait(&throttle, &me).await, 0.0);
        assert_eq!(throttle.store.failures().here(Subject::Account(ACCOUNT), throttle.limits.window).count, 0);
    }

    #[tokio::test]
    async fn a_device_and_strangers_do_not_delay_each_other() {
        let (throttle, _hand) = throttle();
        for _ in 0..20 {
            throttle.failed(&who(Some("198.51.100.1")), true);
        }
        assert!(wait(&throttle, &who(Some("198.51.100.1"))).await > 0.0);
        assert_eq!(wait(&throttle, &device("one")).await, 0.0, "strangers' failures are not the device's");
        for _ in 0..20 {
            throttle.failed(&device("one"), true);
        }
        assert_eq!(wait(&throttle, &device("one")).await, 30.0, "its own are");
        assert_eq!(wait(&throttle, &device("two")).await, 0.0);
        let stranger = Who { account: "c@d", ..who(Some("198.51.100.1")) };
        assert_eq!(wait(&throttle, &stranger).await, 0.0);
    }

    #[tokio::test]
    async fn a_device_that_signs_in_gives_strangers_no_new_attempts() {
        let (throttle, _hand) = throttle();
        for _ in 0..20 {
            throttle.failed(&who(Some("198.51.100.1")), true);
            throttle.failed(&device("one"), true);
        }
        let admitted = throttle.admit(&device("one")).unwrap();
        throttle.succeeded(&device("one"), admitted).await.unwrap();
        assert_eq!(wait(&throttle, &device("one")).await, 0.0);
        assert_eq!(wait(&throttle, &who(Some("198.51.100.1"))).await, 30.0);
    }

    #[tokio::test]
    async fn whoever_fails_from_one_address_leaves_half_of_the_delay_to_others() {
        for exists in [true, false] {
            let (throttle, hand) = throttle();
            let (stranger, owner) = (who(Some("198.51.100.1")), who(Some("192.0.2.1")));
            for _ in 0..20 {
                throttle.failed(&stranger, exists);
            }
            assert_eq!((wait(&throttle, &stranger).await, wait(&throttle, &owner).await), (30.0, 15.0));
            // The stranger comes back at every moment; the owner has fifteen seconds each time, and may mistype.
            for typed in 1..=5 {
                hand.advance(Duration::from_secs(16));
                assert_eq!(wait(&throttle, &owner).await, 0.0);
                assert!(wait(&throttle, &stranger).await > 10.0);
                throttle.failed(&owner, exists);
                assert_eq!(wait(&throttle, &owner).await, if typed < 5 { 15.0 } else { 30.0 }, "{typed}");
                hand.advance(Duration::from_secs(30));
                throttle.failed(&stranger, exists);
            }
        }
    }

    #[tokio::test]
    async fn inventing_whom_one_speaks_for_shortens_no_delay() {
        let (throttle, _hand) = throttle();
        let inventive = |n: u32| {
            let from = Source { claimed: Some(std::net::IpAddr::V4(n.into())), ..who(Some("198.51.100.1")).from };
            Who { from, ..who(None) }
        };
        for number in 0..20 {
            throttle.failed(&inventive(number), true);
        }
        assert_eq!(wait(&throttle, &inventive(100)).await, 30.0);
        assert_eq!(wait(&throttle, &who(Some("192.0.2.1"))).await, 15.0);
    }

    #[tokio::test]
    async fn a_device_needs_no_attempt_of_its_address_and_all_of_an_account_share_theirs() {
        let (throttle, hand) = throttle();
        let stranger = who(Some("192.0.2.1"));
        for _ in 0..60 {
            let _admitted = throttle.admit(&stranger).unwrap();
        }
        assert_eq!(throttle.admit(&stranger).unwrap_err(), Refused { wait: Duration::from_secs(1) });
        for number in 0..60 {
            let admitted = throttle.admit(&device(if number % 2 == 0 { "one" } else { "two" })).unwrap();
            assert!(!admitted.of_address);
        }
        assert!(throttle.admit(&device("three")).is_err(), "more devices are not more attempts");
        hand.advance(Duration::from_secs(1));
        assert!(throttle.admit(&device("three")).is_ok());
    }

    /// A store that never answers.
    struct Silent;

    impl Kernel for Silent {
        fn get<'a>(&'a self, _: Kind, _: &'a str) -> KernelFuture<'a, Option<Record>> {
            Box::pin(std::future::pending())
        }

        fn insert<'a>(&'a self, _: Kind, _: &'a str, _: Write) -> KernelFuture<'a, Version> {
            Box::pin(std::future::pending())
        }

        fn update<'a>(&'a self, _: Kind, _: &'a str, _: Version, _: Write) -> KernelFuture<'a, Version> {
            Box::pin(std::future::pending())
        }

        fn delete<'a>(&'a self, _: Kind, _: &'a str, _: Version) -> KernelFuture<'a, ()> {
            Box::pin(std::future::pending())
        }

        fn list<'a>(&'a self, _: Kind, _: Page) -> KernelFuture<'a, Listing> {
            Box::pin(std::future::pending())
        }

        fn by_index<'a>(&'a self, _: Kind, _: Slot, _: IndexKey, _: Page) -> KernelFuture<'a, Listing> {
            Box::pin(std::future::pending())
        }

        fn expire<'a>(&'a self, _: Timestamp, _: usize) -> KernelFuture<'a, usize> {
            Box::pin(std::future::pending())
        }

        fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
            Box::pin(std::future::pending())
        }

        fn description(&self) -> Description {
            MemoryKernel::new().description()
        }
    }

    #[tokio::test]
    async fn a_failure_and_a_refusal_ask_the_store_nothing() {
        let (clock, _hand) = Clock::mock(1_000_000);
        let store = Store::new(Arc::new(Silent), clock.clone(), Rng::seeded(1));
        let throttle = Throttle::new(store, clock, &Rng::seeded(2), Attempts::default());
        for (account, exists) in [("known", true), ("unknown", false)] {
            let me = Who { account, ..who(None) };
            for _ in 0..20 {
                throttle.failed(&me, exists);
            }
            let mut delayed = Box::pin(throttle.delayed(&me));
            let at_once = std::future::poll_fn(|cx| Poll::Ready(delayed.as_mut().poll(cx))).await;
            assert!(matches!(at_once, Poll::Ready(Ok(Err(_)))), "{account}");
        }
    }
}
