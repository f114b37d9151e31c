//! Failed sign-ins, counted over a sliding window, without a write that anybody waits for.
//!
//! A failure is added to a table of fixed size in this process, in the same way and by the same rule whether or not its
//! account exists, so that neither a delay nor the time of an answer tells which names exist. What belongs to an existing
//! account is written from there in the background ([`FailureCounters::flush`]), so that all replicas learn of it; what
//! cannot be written stays in the table and is tried again. Names that do not exist never cause a write: whoever invents
//! names must not make the store grow (design decision 2).
//!
//! The parts of a window begin at fixed times (multiples of their length since 1970), so that counts that were taken at
//! different places add up exactly: what a replica has written and what it has not make what it has counted.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::{Rng, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    document::{Indexed, Inserted, RACES, Stored, Swapped, decode},
    error::{KernelError, StoreError},
    inspect::Mentions,
    kernel::{IndexKey, Kind, Record},
    stamp,
    store::Store,
};

/// Subjects whose failures a replica remembers: as many as fit into a hash map of 2¹⁵ buckets.
const TABLE_SIZE: usize = 28_672;
/// What stays when the table is full: room is made for many at a time, so that a flood does not pay for a scan each.
const TABLE_KEEPS: usize = TABLE_SIZE / 8 * 7;
/// Parts of the window that are counted apart.
const PARTS: usize = 10;

/// Whose failures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// An account, by the name that was typed. It need not exist.
    Account(&'a str),
    /// A browser that has signed in to the account before. Its failures are its own, and not the account's.
    Device {
        /// The account's name.
        account: &'a str,
        /// What the browser was given to be known by.
        device: &'a str,
    },
    /// What one address has to do with an account's failures. Known to this replica alone.
    From {
        /// The account's name.
        account: &'a str,
        /// The address, or whatever stands for it.
        address: &'a str,
    },
}

impl Subject<'_> {
    /// The record's name, and what the table's key is made of.
    fn index(&self) -> IndexKey {
        match self {
            Self::Account(account) => IndexKey::of(&[account]),
            Self::Device { account, device } => IndexKey::of(&["device", account, device]),
            Self::From { account, address } => IndexKey::of(&["from", account, address]),
        }
    }

    const fn is_shared(&self) -> bool {
        !matches!(self, Self::From { .. })
    }
}

/// How often a subject failed lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Failures within the window, and no older than it by more than a tenth.
    pub count: u32,
    /// The last one.
    pub last: Option<Timestamp>,
}

impl Failures {
    /// The higher count and the later time of the two.
    fn or(self, other: Self) -> Self {
        Self { count: self.count.max(other.count), last: self.last.max(other.last) }
    }
}

/// What this replica has counted.
pub(crate) struct FailureTable {
    key: hmac::Key,
    entries: Mutex<HashMap<TableKey, Entry>>,
}

/// A keyed hash: people type passwords into the field for the name, and whoever sends names must not choose buckets.
type TableKey = [u8; 16];

#[derive(Default)]
struct Entry {
    /// All that this replica has counted.
    counted: Count,
    /// The part of it that the store does not know yet; absent for what is never written.
    unwritten: Option<Box<Unwritten>>,
}

struct Unwritten {
    id: String,
    count: Count,
}

impl Entry {
    fn is_written(&self) -> bool {
        self.unwritten.is_none()
    }
}

/// A count on its way to the store.
struct Due {
    key: TableKey,
    id: String,
    count: Count,
}

impl FailureTable {
    pub(crate) fn new(rng: &Rng) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &rng.bytes::<32>()), entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TableKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, index: &IndexKey) -> TableKey {
        let tag = hmac::sign(&self.key, index.as_bytes());
        tag.as_ref().get(..16).and_then(|tag| tag.try_into().ok()).unwrap_or_default()
    }

    fn add(&self, index: &IndexKey, write: bool, now: Timestamp, window: Window) {
        let (key, id) = (self.key(index), record_id(index));
        let mut entries = self.lock();
        make_room(&mut entries, &key, now, window);
        let entry = entries.entry(key).or_default();
        let one = Count::one(now, window);
        entry.counted.add(&one, now, window);
        if write {
            let unwritten = || Box::new(Unwritten { id, count: Count::default() });
            entry.unwritten.get_or_insert_with(unwritten).count.add(&one, now, window);
        }
    }

    fn counted(&self, index: &IndexKey) -> Count {
        self.lock().get(&self.key(index)).map_or_else(Count::default, |entry| entry.counted)
    }

    fn unwritten(&self, index: &IndexKey) -> Count {
        let entries = self.lock();
        let unwritten = entries.get(&self.key(index)).and_then(|entry| entry.unwritten.as_ref());
        unwritten.map_or_else(Count::default, |unwritten| unwritten.count)
    }

    /// What is to be written. It stays here until it has been.
    fn due(&self) -> Vec<Due> {
        let entries = self.lock();
        let due = entries.iter().filter_map(|(key, entry)| {
            let Unwritten { id, count } = &**entry.unwritten.as_ref()?;
            Some(Due { key: *key, id: id.clone(), count: *count })
        });
        due.collect()
    }

    /// Takes off what has been written; failures that came meanwhile remain.
    fn written(&self, done: &Due, now: Timestamp, window: Window) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&done.key) else { return };
        if let Some(unwritten) = &mut entry.unwritten {
            unwritten.count.subtract(&done.count, now, window);
            if unwritten.count.is_zero() {
                entry.unwritten = None;
            }
        }
    }

    fn forget(&self, index: &IndexKey) {
        let key = self.key(index);
        self.lock().remove(&key);
    }
}

/// Keeps the table within its size. What is over goes first, then what was used longest ago; what has not been written
/// goes only when there is nothing else, because it is nowhere else.
fn make_room(entries: &mut HashMap<TableKey, Entry>, key: &TableKey, now: Timestamp, window: Window) {
    if entries.len() < TABLE_SIZE || entries.contains_key(key) {
        return;
    }
    entries.retain(|_, entry| !entry.counted.is_over(now, window));
    let Some(surplus) = entries.len().checked_sub(TABLE_KEEPS).filter(|surplus| *surplus > 0) else { return };
    let mut order: Vec<_> =
        entries.iter().map(|(key, entry)| (!entry.is_written(), entry.counted.last, *key)).collect();
    order.select_nth_unstable(surplus - 1);
    for (_, _, key) in order.iter().take(surplus) {
        entries.remove(key);
    }
}

/// For [`Store::check`].
pub(crate) fn inspect(record: &Record) -> Result<Mentions, StoreError> {
    decode::<Count>(Kind::Failures, record).map(|_| Mentions::default())
}

/// The facade of failure counters.
#[derive(Clone, Copy)]
pub struct FailureCounters<'a> {
    store: &'a Store,
}

impl<'a> FailureCounters<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// How often `subject` failed within `window` as far as this replica has counted itself. Asks nobody.
    #[must_use]
    pub fn here(&self, subject: Subject<'_>, window: Duration) -> Failures {
        let window = Window::new(window);
        self.store.failure_table().counted(&subject.index()).estimate(self.store.now(), window)
    }

    /// How often `subject` failed within `window`, on all replicas as far as they have written it. The same look-ups are
    /// made for accounts that do not exist.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of(&self, subject: Subject<'_>, window: Duration) -> Result<Failures, StoreError> {
        let here = self.here(subject, window);
        if !subject.is_shared() {
            return Ok(here);
        }
        let (now, window, index) = (self.store.now(), Window::new(window), subject.index());
        let stored = self.store.read::<Count>(Kind::Failures, &record_id(&index)).await?;
        let mut all = stored.map_or_else(Count::default, |stored| stored.value);
        all.add(&self.store.failure_table().unwritten(&index), now, window);
        Ok(all.estimate(now, window).or(here))
    }

    /// Counts a failure. It counts from now on; [`FailureCounters::flush`] writes it if the account `exists`.
    pub fn record(&self, subject: Subject<'_>, exists: bool, window: Duration) {
        let write = exists && subject.is_shared();
        self.store.failure_table().add(&subject.index(), write, self.store.now(), Window::new(window));
    }

    /// Forgets a subject's failures, after a success.
    ///
    /// # Errors
    /// [`StoreError`]; this replica has forgotten what it had not written all the same.
    pub async fn clear(&self, subject: Subject<'_>) -> Result<(), StoreError> {
        let index = subject.index();
        self.store.failure_table().forget(&index);
        if subject.is_shared() {
            self.store.remove_any(Kind::Failures, &record_id(&index)).await?;
        }
        Ok(())
    }

    /// Writes what has not been written: one write for each account that failed since the last call. For a background
    /// task, and before the process ends.
    ///
    /// # Errors
    /// The first [`StoreError`]; what was not written counts here as before, and is written by a later call.
    pub async fn flush(&self, window: Duration) -> Result<(), StoreError> {
        let window = Window::new(window);
        let table = self.store.failure_table();
        let mut failed = Ok(());
        for due in table.due() {
            match self.write(&due, window).await {
                Ok(()) => table.written(&due, self.store.now(), window),
                // The others would wait for the same.
                Err(error @ StoreError::Kernel(KernelError::Unavailable { .. })) => return Err(error),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed
    }

    async fn write(&self, due: &Due, window: Window) -> Result<(), StoreError> {
        let Due { id, count, .. } = due;
        for _ in 0..RACES {
            let now = self.store.now();
            let stored = self.store.read::<Count>(Kind::Failures, id).await?;
            let (version, mut sum) = match stored {
                Some(Stored { version, value, .. }) => (Some(version), value),
                None => (None, Count::default()),
            };
            sum.add(count, now, window);
            if sum.is_zero() {
                // All of it was over before it could be written.
                return Ok(());
            }
            let indexed = Indexed::until(Some(now + window.keeps()));
            let done = match version {
                None => matches!(self.store.insert(Kind::Failures, id, &sum, indexed).await?, Inserted::Done(_)),
                Some(version) => {
                    matches!(self.store.swap(Kind::Failures, id, version, &sum, indexed).await?, Swapped::Done(_))
                }
            };
            if done {
                return Ok(());
            }
        }
        Err(StoreError::Contended { kind: Kind::Failures })
    }
}

/// Failures by when they were: the newest part of the window first. One part more than the window has, because it begins
/// somewhere within the oldest: so everything within the window counts, and nothing that is older than it by a tenth.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Count {
    /// When the newest part began.
    #[serde(with = "stamp")]
    since: Timestamp,
    #[serde(default)]
    parts: [u32; PARTS + 1],
    #[serde(with = "stamp::option")]
    last: Option<Timestamp>,
}

impl Default for Count {
    fn default() -> Self {
        Self { since: Timestamp::UNIX_EPOCH, parts: [0; PARTS + 1], last: None }
    }
}

impl Count {
    fn one(at: Timestamp, window: Window) -> Self {
        let mut one = Self { since: window.begin(at), last: Some(stamp::truncate(at)), ..Self::default() };
        if let Some(newest) = one.parts.first_mut() {
            *newest = 1;
        }
        one
    }

    fn add(&mut self, other: &Self, now: Timestamp, window: Window) {
        self.combine(other, now, window, u32::saturating_add);
        self.last = self.last.max(other.last);
    }

    fn subtract(&mut self, other: &Self, now: Timestamp, window: Window) {
        self.combine(other, now, window, u32::saturating_sub);
    }

    fn combine(&mut self, other: &Self, now: Timestamp, window: Window, with: impl Fn(u32, u32) -> u32) {
        let other = other.at(now, window);
        *self = self.at(now, window);
        for (part, more) in self.parts.iter_mut().zip(other.parts) {
            *part = with(*part, more);
        }
    }

    fn is_zero(&self) -> bool {
        self.parts.iter().all(|part| *part == 0)
    }

    fn is_over(&self, now: Timestamp, window: Window) -> bool {
        self.at(now, window).is_zero()
    }

    /// The same count, seen at `now`: what is over falls away. A clock that was set back by more than a window begins
    /// anew; otherwise it must not silence the counter.
    fn at(self, now: Timestamp, window: Window) -> Self {
        let (start, since) = (window.begin(now), window.begin(self.since));
        if since > start {
            let fresh = since > now + window.length();
            return if fresh { Self { since: start, parts: [0; PARTS + 1], ..self } } else { Self { since, ..self } };
        }
        let age = window.parts_between(since, start);
        let mut parts = self.parts;
        parts.rotate_right(age.min(PARTS + 1));
        parts.iter_mut().take(age).for_each(|part| *part = 0);
        Self { since: start, parts, ..self }
    }

    fn estimate(self, now: Timestamp, window: Window) -> Failures {
        let Self { parts, last, .. } = self.at(now, window);
        Failures { count: parts.iter().fold(0, |sum, part| sum.saturating_add(*part)), last }
    }
}

/// A window, by the length of its parts: whole milliseconds, as records keep times.
#[derive(Clone, Copy)]
struct Window {
    part: Duration,
}

impl Window {
    fn new(length: Duration) -> Self {
        let millis = length.as_millis().div_ceil(PARTS as u128).max(1);
        Self { part: Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)) }
    }

    fn length(self) -> Duration {
        self.part.saturating_mul(PARTS as u32)
    }

    /// How long a count may matter.
    fn keeps(self) -> Duration {
        self.part.saturating_mul(PARTS as u32 + 1)
    }

    /// When the part began that `at` lies in.
    fn begin(self, at: Timestamp) -> Timestamp {
        let part = i64::try_from(self.part.as_nanos()).unwrap_or(i64::MAX).max(1);
        let nanos = at.unix_nanos();
        Timestamp::from_unix_nanos(nanos.saturating_sub(nanos.rem_euclid(part)))
    }

    fn parts_between(self, earlier: Timestamp, later: Timestamp) -> usize {
        let parts = later.saturating_since(earlier).as_nanos() / self.part.as_nanos().max(1);
        usize::try_from(parts).unwrap_or(usize::MAX)
    }
}

fn record_id(index: &IndexKey) -> String {
    URL_SAFE_NO_PAD.encode(index.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_runtime::{Clock, MockClock};
    use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;
    use crate::memory::MemoryKernel;

    const WINDOW: Duration = Duration::from_secs(300);

    fn store() -> (Store, MockClock) {
        let (clock, hand) = Clock::mock(1_000_000);
        (Store::new(Arc::new(MemoryKernel::new()), clock, Rng::seeded(1)), hand)
    }

    fn size(store: &Store) -> usize {
        store.failure_table().lock().len()
    }

    #[tokio::test]
    async fn the_table_is_bounded_and_keeps_what_is_written_nowhere_else() {
        let (store, hand) = store();
        let failures = store.failures();
        for number in 0..100 {
            failures.record(Subject::Account(&format!("known {number}")), true, WINDOW);
        }
        for number in 0..3 * TABLE_SIZE {
            if number % 1024 == 0 {
                hand.advance(Duration::from_millis(1));
            }
            failures.record(Subject::Account(&number.to_string()), false, WINDOW);
            assert!(size(&store) <= TABLE_SIZE);
        }
        let last = (3 * TABLE_SIZE - 1).to_string();
        assert_eq!(failures.here(Subject::Account(&last), WINDOW).count, 1, "the newest are there");
        assert_eq!(failures.here(Subject::Account("0"), WINDOW).count, 0, "the oldest have gone");
        for number in 0..100 {
            let name = format!("known {number}");
            assert_eq!(failures.here(Subject::Account(&name), WINDOW).count, 1, "{name}");
        }
        // Even a table full of what cannot be written stays within its size.
        for number in 0..2 * TABLE_SIZE {
            failures.record(Subject::Account(&format!("k{number}")), true, WINDOW);
            assert!(size(&store) <= TABLE_SIZE);
        }
    }

    #[tokio::test]
    async fn what_is_over_makes_room_first() {
        let (store, hand) = store();
        for number in 0..TABLE_SIZE {
            store.failures().record(Subject::Account(&number.to_string()), number % 2 == 0, WINDOW);
        }
        hand.advance(WINDOW * 2);
        store.failures().record(Subject::Account("new"), false, WINDOW);
        assert_eq!(size(&store), 1);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Fail,
        Pass(u64),
        Flush,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Fail),
            3 => (0_u64..400_000).prop_map(Event::Pass),
            2 => Just(Event::Flush),
        ]
    }

    proptest! {
        /// The counting rule does not tell whether an account exists, whatever has been written when.
        #[test]
        fn known_and_unknown_names_are_counted_alike(events in prop::collection::vec(event(), 1..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (store, hand) = store();
            let failures = store.failures();
            for event in events {
                match event {
                    Event::Fail => {
                        failures.record(Subject::Account("known"), true, WINDOW);
                        failures.record(Subject::Account("unknown"), false, WINDOW);
                    }
                    Event::Pass(millis) => hand.advance(Duration::from_millis(millis)),
                    Event::Flush => runtime.block_on(failures.flush(WINDOW)).unwrap(),
                }
                let both = ["known", "unknown"].map(Subject::Account);
                let [known, unknown] = both.map(|subject| failures.here(subject, WINDOW));
                prop_assert_eq!(known, unknown);
                let [known, unknown] = both.map(|subject| runtime.block_on(failures.of(subject, WINDOW)).unwrap());
                prop_assert_eq!(known, unknown);
            }
        }

        /// Everything within the window counts, and nothing that is older than it by more than a tenth.
        #[test]
        fn the_count_is_that_of_the_window(steps in prop::collection::vec(0_u64..120_000, 1..80)) {
            let (store, hand) = store();
            let mut times = Vec::new();
            for millis in steps {
                hand.advance(Duration::from_millis(millis));
                store.failures().record(Subject::Account("a"), false, WINDOW);
                times.push(hand.now());
                let within = |length: Duration| {
                    times.iter().filter(|at| hand.now().saturating_since(**at) < length).count()
                };
                let count = store.failures().here(Subject::Account("a"), WINDOW).count as usize;
                prop_assert!((within(WINDOW)..=within(WINDOW + WINDOW / 10)).contains(&count), "{count}");
            }
        }
    }
}
