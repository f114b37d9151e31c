//! Taking a lease, renewing it, giving it back.

use std::time::Duration;

use super::{
    HALF_FILLED, LeaseDoc,
    tenure::{Moment, Tenure},
};
use crate::{
    document::{Indexed, Inserted, Stored, Swapped},
    error::StoreError,
    kernel::{Kind, Version},
    stamp,
    store::Store,
};

/// How often one call is made anew because somebody else has changed the record.
const RACES: usize = 4;

/// Somebody who holds a lease, or would like to.
#[derive(Debug)]
pub struct Candidate {
    store: Store,
    /// The record's id.
    name: &'static str,
    /// By which it knows its own record; random, so that two processes never have the same.
    id: String,
    seconds: u32,
    tenure: Tenure,
    seen: Option<Seen>,
    /// Whom the record named before it was taken.
    before: Option<String>,
}

/// A record of another holder's, and since when it has not changed by our clock.
#[derive(Clone, Copy, Debug)]
struct Seen {
    version: Version,
    since: Duration,
    /// How long it lasts by what it says.
    lifetime: Duration,
}

impl Candidate {
    pub(super) fn new(store: Store, name: &'static str, seconds: u32) -> Self {
        let id = store.rng().token(9);
        Self::called(store, name, id, seconds)
    }

    /// A candidate that calls itself so; `id` must have something random in it.
    pub(super) fn called(store: Store, name: &'static str, id: String, seconds: u32) -> Self {
        let tenure = Tenure::new(store.clock().clone());
        Self { store, name, id, seconds, tenure, seen: None, before: None }
    }

    /// What it writes into the record as holder.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Whom the record named before it was taken; `None` when that was nobody.
    pub(super) fn before(&self) -> Option<&str> {
        self.before.as_deref()
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    /// Tells whether the lease is held, also while a call here is on its way.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        self.tenure.clone()
    }

    /// How long the lease lasts after it was renewed.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        Duration::from_secs(self.seconds as u64)
    }

    /// How long it counts as held after the last renewal began. The rest of the lifetime is for clocks that run at different
    /// speeds, and for what is on its way to the store when the time is over.
    fn held_for(&self) -> Duration {
        self.lifetime() * 2 / 3
    }

    /// How often it is to be renewed, and looked at while somebody else has it.
    pub(super) fn every(&self) -> Duration {
        self.lifetime() / 3
    }

    /// Renews the lease, or takes it when nobody has it, when it was given back, or when it has stood still for its lifetime
    /// since this candidate saw it first. Whether it is held now.
    ///
    /// # Errors
    /// Those of the store. What was held stays held until it runs out; whether the call has taken or renewed it will be seen by
    /// the next one.
    pub async fn contend(&mut self) -> Result<bool, StoreError> {
        for _ in 0..RACES {
            // The lease may be counted from the write on by whoever sees it. We count from before.
            let began = Moment::now(self.store.clock());
            let now = stamp::truncate(self.store.now());
            let mine = LeaseDoc {
                holder: Some(self.id.clone()),
                taken_at: now,
                renewed_at: now,
                seconds: self.seconds,
                transitions: 0,
            };
            let Some(Stored { version, value, .. }) = self.read().await? else {
                match self.store.insert(Kind::Lease, self.name, &mine, Indexed::default()).await? {
                    Inserted::Done(_) => {
                        self.before = None;
                        return Ok(self.holds(began));
                    }
                    Inserted::Exists => continue,
                }
            };
            let LeaseDoc { holder, taken_at, seconds, transitions, .. } = value;
            let mine = match holder {
                Some(holder) if holder == self.id => LeaseDoc { taken_at, transitions, ..mine },
                Some(holder) if holder != HALF_FILLED && !self.has_stood_still(version, seconds) => {
                    self.tenure.end();
                    return Ok(false);
                }
                other => {
                    self.tenure.end();
                    // Known before the write is: this call may be dropped while it is on its way.
                    self.before = other;
                    LeaseDoc { transitions: transitions.saturating_add(1), ..mine }
                }
            };
            if self.swap(version, &mine).await? {
                return Ok(self.holds(began));
            }
        }
        Err(StoreError::Contended { kind: Kind::Lease })
    }

    /// Whether [`Candidate::contend`] would have the lease now, without doing anything about it. How long another's record has stood
    /// still counts from the first look.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn look(&mut self) -> Result<bool, StoreError> {
        let Some(Stored { version, value, .. }) = self.read().await? else { return Ok(true) };
        Ok(match value.holder {
            Some(holder) if holder != self.id && holder != HALF_FILLED => self.has_stood_still(version, value.seconds),
            _ => true,
        })
    }

    /// Gives the lease back, so that another replica need not wait. To be called when what is done under it has ended.
    ///
    /// # Errors
    /// Those of the store; it runs out then.
    pub async fn release(&mut self) -> Result<(), StoreError> {
        self.leave_to(None, false).await.map(|_| ())
    }

    /// The same, with a word in the holder's place for whoever comes next. With `untaken` it counts as never having passed to this
    /// candidate. False when it was another's already.
    pub(super) async fn leave_to(&self, next: Option<&str>, untaken: bool) -> Result<bool, StoreError> {
        self.tenure.end();
        for _ in 0..RACES {
            let Some(Stored { version, value, .. }) = self.read().await? else { return Ok(false) };
            if value.holder.as_ref() != Some(&self.id) {
                return Ok(false);
            }
            let transitions = value.transitions.saturating_sub(u32::from(untaken));
            if self.swap(version, &LeaseDoc { holder: next.map(ToOwned::to_owned), transitions, ..value }).await? {
                return Ok(true);
            }
        }
        Err(StoreError::Contended { kind: Kind::Lease })
    }

    /// Whether another holder's record has not changed for its lifetime. The first time that it is seen counts, not the time
    /// that it names: that is by another clock.
    fn has_stood_still(&mut self, version: Version, seconds: u32) -> bool {
        if self.seen.is_none_or(|seen| seen.version != version) {
            let lifetime = Duration::from_secs(seconds.into());
            self.seen = Some(Seen { version, since: self.store.clock().monotonic(), lifetime });
        }
        self.stands_still_in().is_some_and(|rest| rest.is_zero())
    }

    /// How long it takes until the lease may be taken over, by what has been seen so far.
    pub(super) fn stands_still_in(&self) -> Option<Duration> {
        let Seen { since, lifetime, .. } = self.seen?;
        Some(since.saturating_add(lifetime).saturating_sub(self.store.clock().monotonic()))
    }

    fn holds(&mut self, began: Moment) -> bool {
        self.seen = None;
        self.tenure.begin(began, self.held_for());
        // The answer may have taken longer than that.
        self.tenure.is_held()
    }

    async fn read(&self) -> Result<Option<Stored<LeaseDoc>>, StoreError> {
        self.store.read(Kind::Lease, self.name).await
    }

    async fn swap(&self, version: Version, doc: &LeaseDoc) -> Result<bool, StoreError> {
        let swapped = self.store.swap(Kind::Lease, self.name, version, doc, Indexed::default()).await?;
        Ok(matches!(swapped, Swapped::Done(_)))
    }
}
