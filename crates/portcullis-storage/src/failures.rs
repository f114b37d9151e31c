//! Failed sign-ins of existing accounts, counted over a window, at the cost of at most one write a second and account.
//!
//! Two buckets of one window each estimate a sliding window: the current one, and the part of the previous one that the
//! window still covers. A replica adds failures to a small table in memory and writes the sum at most once a second; the
//! estimate includes what is not written yet. Names that do not exist are not counted here: whoever invents names must
//! not make the store write (design decision 2).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    document::{Indexed, Inserted, RACES, Stored, Swapped},
    error::StoreError,
    kernel::{IndexKey, Kind},
    stamp,
    store::Store,
};

/// Shortest time between two writes of one replica for one account.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Accounts whose unwritten failures a replica remembers; beyond that, failures are written at once.
const TABLE_SIZE: usize = 4096;

/// How often an account failed lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Failures within the window, estimated upwards.
    pub count: u32,
    /// The last one.
    pub last: Option<Timestamp>,
}

/// What this replica has not written yet, by record id.
#[derive(Default)]
pub(crate) struct FailureTable(Mutex<HashMap<String, Pending>>);

#[derive(Clone, Copy)]
struct Pending {
    count: u32,
    last: Timestamp,
    written: Timestamp,
}

impl FailureTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one failure; returns how many are to be written now, if it is time.
    fn add(&self, id: &str, now: Timestamp) -> Option<u32> {
        let mut table = self.lock();
        if let Some(pending) = table.get_mut(id) {
            pending.last = now;
            // A clock that was set back must not silence the counter.
            if now < pending.written + WRITE_INTERVAL && now >= pending.written {
                pending.count = pending.count.saturating_add(1);
                return None;
            }
            let due = pending.count.saturating_add(1);
            *pending = Pending { count: 0, last: now, written: now };
            return Some(due);
        }
        if table.len() >= TABLE_SIZE {
            table.retain(|_, pending| pending.count > 0 || now < pending.written + WRITE_INTERVAL);
        }
        if table.len() < TABLE_SIZE {
            table.insert(id.to_owned(), Pending { count: 0, last: now, written: now });
        }
        Some(1)
    }

    fn pending(&self, id: &str) -> Option<Pending> {
        self.lock().get(id).copied().filter(|pending| pending.count > 0)
    }

    /// Gives failures back that could not be written.
    fn put_back(&self, id: &str, count: u32) {
        if let Some(pending) = self.lock().get_mut(id) {
            pending.count = pending.count.saturating_add(count);
        }
    }

    fn take_all(&self) -> Vec<(String, u32)> {
        let mut table = self.lock();
        let due = table.iter().filter(|(_, pending)| pending.count > 0).map(|(id, p)| (id.clone(), p.count)).collect();
        table.clear();
        due
    }

    fn forget(&self, id: &str) {
        self.lock().remove(id);
    }
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

    /// How often `account` failed within `window`, as far as this replica knows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of(&self, account: &str, window: Duration) -> Result<Failures, StoreError> {
        let id = record_id(account);
        let now = self.store.now();
        let stored = self.store.read::<CountDoc>(Kind::Failures, &id).await?;
        let mut doc = stored.map_or_else(CountDoc::default, |stored| stored.value);
        if let Some(pending) = self.store.failure_table().pending(&id) {
            doc.add(pending.count, pending.last, window);
        }
        Ok(doc.estimate(now, window))
    }

    /// Counts a failure of an account that exists. Returns whether the store was written.
    ///
    /// # Errors
    /// [`StoreError`]; the failure is remembered all the same and written with the next one.
    pub async fn record(&self, account: &str, window: Duration) -> Result<bool, StoreError> {
        let id = record_id(account);
        match self.store.failure_table().add(&id, self.store.now()) {
            None => Ok(false),
            Some(count) => self.write(&id, count, window).await.map(|()| true),
        }
    }

    /// Forgets an account's failures, after a success.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clear(&self, account: &str) -> Result<(), StoreError> {
        let id = record_id(account);
        self.store.failure_table().forget(&id);
        self.store.remove_any(Kind::Failures, &id).await?;
        Ok(())
    }

    /// Writes what is in memory only; for a background task, and before the process ends.
    ///
    /// # Errors
    /// [`StoreError`]; what could not be written is lost.
    pub async fn flush(&self, window: Duration) -> Result<(), StoreError> {
        for (id, count) in self.store.failure_table().take_all() {
            self.write(&id, count, window).await?;
        }
        Ok(())
    }

    async fn write(&self, id: &str, count: u32, window: Duration) -> Result<(), StoreError> {
        let written = self.try_write(id, count, window).await;
        if written.is_err() {
            self.store.failure_table().put_back(id, count);
        }
        written
    }

    async fn try_write(&self, id: &str, count: u32, window: Duration) -> Result<(), StoreError> {
        let now = self.store.now();
        let indexed = Indexed::until(Some(now + window * 2));
        for _ in 0..RACES {
            let done = match self.store.read::<CountDoc>(Kind::Failures, id).await? {
                None => {
                    let mut doc = CountDoc::default();
                    doc.add(count, now, window);
                    matches!(self.store.insert(Kind::Failures, id, &doc, indexed).await?, Inserted::Done(_))
                }
                Some(Stored { version, value: mut doc, .. }) => {
                    doc.add(count, now, window);
                    matches!(self.store.swap(Kind::Failures, id, version, &doc, indexed).await?, Swapped::Done(_))
                }
            };
            if done {
                return Ok(());
            }
        }
        Err(StoreError::Contended { kind: Kind::Failures })
    }
}

/// Counts of the bucket that began at `since`, and of the one before it.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct CountDoc {
    #[serde(with = "stamp")]
    since: Timestamp,
    current: u32,
    previous: u32,
    #[serde(with = "stamp::option")]
    last: Option<Timestamp>,
}

impl Default for CountDoc {
    fn default() -> Self {
        Self { since: Timestamp::UNIX_EPOCH, current: 0, previous: 0, last: None }
    }
}

impl CountDoc {
    fn add(&mut self, count: u32, at: Timestamp, window: Duration) {
        self.turn(at, window);
        self.current = self.current.saturating_add(count);
        self.last = Some(stamp::truncate(at));
    }

    /// Begins new buckets as time goes by. A clock set back by more than a window begins anew.
    fn turn(&mut self, now: Timestamp, window: Duration) {
        let age = now.saturating_since(self.since);
        if age >= window * 2 || self.since > now + window {
            *self = Self { since: stamp::truncate(now), current: 0, previous: 0, last: self.last };
        } else if age >= window {
            self.since += window;
            self.previous = std::mem::take(&mut self.current);
        }
    }

    fn estimate(mut self, now: Timestamp, window: Duration) -> Failures {
        self.turn(now, window);
        let window = window.as_millis().max(1);
        let covered = window.saturating_sub(now.saturating_since(self.since).as_millis());
        let before = (u128::from(self.previous) * covered).div_ceil(window);
        let count = self.current.saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
        Failures { count, last: self.last }
    }
}

fn record_id(account: &str) -> String {
    URL_SAFE_NO_PAD.encode(IndexKey::of(&[account]).as_bytes())
}
