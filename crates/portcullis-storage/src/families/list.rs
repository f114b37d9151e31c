//! One record per user and client that lists the user's families there.
//!
//! A family is admitted to the list before it is created, and is taken off before it is ended. So the list's
//! compare-and-swap decides who stays when there are too many, and ending everything a user has at a client reaches
//! also a family whose creation is still under way: its tombstone makes the late insert fail. Ids that were taken off
//! stand under `ending` until their tombstones are written; whoever touches the list next finishes that work.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Families,
    policy::RotationPolicy,
    record::{EndReason, Family, FamilyDoc},
    token::FamilyId,
};
use crate::{
    document::{Indexed, Inserted, Stored, Swapped, decode},
    error::StoreError,
    inspect::Mentions,
    kernel::{IndexKey, Kind, Page, Record, Slot, Version},
    stamp,
};

/// Most families of one user at one client. With one more, the one that was idle the longest ends.
pub const MAX_FAMILIES: usize = 32;
/// How often a list is decided anew after losing a race: more often than callers can be in parallel.
const RACES: usize = 1024;
/// A family that was admitted this long ago and does not exist will not come any more.
const CREATION_TIME: Duration = Duration::from_secs(10 * 60);
/// Lists that are read at once when everything of a user or client is ended.
const PAGE: usize = 100;

/// Whose list.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) user_id: &'a str,
    pub(super) connector_id: &'a str,
    pub(super) client_id: &'a str,
}

impl<'a> Owner<'a> {
    pub(super) fn of(family: &'a Family) -> Self {
        Self { user_id: &family.identity.user_id, connector_id: &family.connector_id, client_id: &family.client_id }
    }

    fn record_id(&self) -> String {
        let key = IndexKey::of(&[self.user_id, self.connector_id, self.client_id]);
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, key.as_bytes()))
    }

    fn user_key(&self) -> IndexKey {
        IndexKey::of(&[self.user_id, self.connector_id])
    }

    fn client_key(&self) -> IndexKey {
        IndexKey::of(&[self.client_id])
    }

    fn indexed(&self, expires_at: Option<Timestamp>) -> Indexed {
        Indexed { index: [Some(self.user_key()), Some(self.client_key())], expires_at }
    }
}

/// Why a family is to be on its owner's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// It is about to be created.
    Creation,
    /// It was used, and lives longer from now on.
    Use,
}

/// Whether a family may be created, or go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    /// The list's owner is being signed out of this family.
    Ending,
}

#[derive(Serialize, Deserialize)]
struct ListDoc {
    user_id: String,
    connector_id: String,
    client_id: String,
    families: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ending: Vec<Ending>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    id: FamilyId,
    #[serde(with = "stamp")]
    at: Timestamp,
    /// The family's.
    #[serde(default)]
    epoch: u64,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ending {
    id: FamilyId,
    why: EndReason,
}

impl ListDoc {
    fn owner(&self) -> Owner<'_> {
        Owner { user_id: &self.user_id, connector_id: &self.connector_id, client_id: &self.client_id }
    }

    /// Takes off what was signed out when `epoch` began, and is still here.
    fn take_off_before(&mut self, epoch: u64) {
        let over = self.families.extract_if(.., |entry| entry.epoch < epoch);
        self.ending.extend(over.map(|Entry { id, .. }| Ending { id, why: EndReason::Revoked }));
    }

    fn take_off(&mut self, id: &FamilyId, why: EndReason) {
        self.families.retain(|entry| entry.id != *id);
        self.ending.push(Ending { id: id.clone(), why });
    }
}

/// For [`crate::Store::check`].
pub(crate) fn inspect(record: &Record) -> Result<Mentions, StoreError> {
    let doc = decode::<ListDoc>(Kind::FamilyList, record)?.value;
    let owner = doc.owner();
    let wrong = if record.id != owner.record_id() {
        Some("its id is not that of its user and client")
    } else {
        let indexed = record.index == owner.indexed(None).index;
        (!indexed).then_some("its index keys are not those of its user and client")
    };
    let listed = doc.families.into_iter().map(|entry| entry.id).chain(doc.ending.into_iter().map(|ending| ending.id));
    Ok(Mentions { lives: None, listed: listed.map(|id| id.as_str().to_owned()).collect(), wrong })
}

impl Families<'_> {
    /// Puts a family on its owner's list, and makes the list's record live at least as long as the family's.
    ///
    /// One that is used is on it already. If not, somebody may have taken it off meanwhile: its tombstone is written before the
    /// list forgets it, so its record tells. Putting it back could end another one that lives, when the list is full. One that
    /// does live was lost from its list, and must be found there again by whoever signs its user out.
    pub(super) async fn admit(
        &self,
        owner: Owner<'_>,
        (id, epoch): (&FamilyId, u64),
        expires_at: Option<Timestamp>,
        policy: &RotationPolicy,
        occasion: Occasion,
    ) -> Result<Admission, StoreError> {
        let record = owner.record_id();
        for _ in 0..RACES {
            let entry = Entry { id: id.clone(), at: stamp::truncate(self.store.now()), epoch };
            let Some(stored) = self.store.read::<ListDoc>(Kind::FamilyList, &record).await? else {
                if occasion == Occasion::Use && !self.lives(id).await? {
                    return Ok(Admission::Ending);
                }
                let doc = ListDoc {
                    user_id: owner.user_id.to_owned(),
                    connector_id: owner.connector_id.to_owned(),
                    client_id: owner.client_id.to_owned(),
                    families: vec![entry],
                    ending: Vec::new(),
                };
                match self.store.insert(Kind::FamilyList, &record, &doc, owner.indexed(expires_at)).await? {
                    Inserted::Done(_) => return Ok(Admission::Admitted),
                    Inserted::Exists => continue,
                }
            };
            let Stored { version, value: mut doc, expires_at: until } = stored;
            if doc.ending.iter().any(|ending| ending.id == *id) {
                self.finish(&record, version, doc, until).await?;
                return Ok(Admission::Ending);
            }
            let later = later(until, expires_at);
            let known = doc.families.iter().any(|entry| entry.id == *id);
            if !known && occasion == Occasion::Use && !self.lives(id).await? {
                return Ok(Admission::Ending);
            }
            let version = if known && later == until {
                version
            } else {
                if !known {
                    doc.families.push(entry);
                    doc.take_off_before(epoch);
                    self.make_room(&mut doc, id, policy).await?;
                }
                match self.store.swap(Kind::FamilyList, &record, version, &doc, owner.indexed(later)).await? {
                    Swapped::Done(version) => version,
                    Swapped::Lost => continue,
                }
            };
            self.finish(&record, version, doc, later).await?;
            return Ok(Admission::Admitted);
        }
        Err(StoreError::Contended { kind: Kind::FamilyList })
    }

    /// Whether there is a family of this id that has not been ended.
    async fn lives(&self, id: &FamilyId) -> Result<bool, StoreError> {
        let stored = self.store.read::<FamilyDoc>(Kind::Family, id.as_str()).await?;
        Ok(matches!(stored.map(|stored| stored.value), Some(FamilyDoc::Live(_))))
    }

    /// Ends every family of one user at one client; returns how many were on the list.
    pub(super) async fn end_list(&self, owner: Owner<'_>, why: EndReason) -> Result<usize, StoreError> {
        let record = owner.record_id();
        for _ in 0..RACES {
            let Some(stored) = self.store.read::<ListDoc>(Kind::FamilyList, &record).await? else { return Ok(0) };
            let Stored { version, value: mut doc, expires_at } = stored;
            let count = doc.families.len();
            let version = if count == 0 {
                version
            } else {
                doc.ending.extend(doc.families.drain(..).map(|Entry { id, .. }| Ending { id, why }));
                match self.store.swap(Kind::FamilyList, &record, version, &doc, owner.indexed(expires_at)).await? {
                    Swapped::Done(version) => version,
                    Swapped::Lost => continue,
                }
            };
            self.finish(&record, version, doc, expires_at).await?;
            return Ok(count);
        }
        Err(StoreError::Contended { kind: Kind::FamilyList })
    }

    /// Ends every family on the lists that an index finds.
    pub(super) async fn end_lists(&self, slot: Slot, key: IndexKey, why: EndReason) -> Result<usize, StoreError> {
        let mut page = Some(Page::first(PAGE));
        let mut count = 0;
        while let Some(current) = page {
            let listing = self.store.kernel().by_index(Kind::FamilyList, slot, key, current).await?;
            for record in &listing.records {
                let doc = decode::<ListDoc>(Kind::FamilyList, record)?.value;
                count += self.end_list(doc.owner(), why).await?;
            }
            page = listing.next;
        }
        Ok(count)
    }

    /// The ids on the lists of a user.
    pub(super) async fn ids_of_user(&self, user_id: &str, connector_id: &str) -> Result<Vec<FamilyId>, StoreError> {
        let key = IndexKey::of(&[user_id, connector_id]);
        let mut page = Some(Page::first(PAGE));
        let mut ids = Vec::new();
        while let Some(current) = page {
            let listing = self.store.kernel().by_index(Kind::FamilyList, Slot::First, key, current).await?;
            for record in &listing.records {
                let doc = decode::<ListDoc>(Kind::FamilyList, record)?.value;
                ids.extend(doc.families.into_iter().map(|entry| entry.id));
            }
            page = listing.next;
        }
        Ok(ids)
    }

    /// Takes families off a list that is too long: first those that are over, then the one that was idle the longest.
    async fn make_room(&self, doc: &mut ListDoc, newest: &FamilyId, policy: &RotationPolicy) -> Result<(), StoreError> {
        if doc.families.len() <= MAX_FAMILIES {
            return Ok(());
        }
        let now = self.store.now();
        let mut idle: Vec<(Timestamp, FamilyId)> = Vec::new();
        for Entry { id, at, .. } in doc.families.clone() {
            if id == *newest {
                continue;
            }
            match self.store.read::<FamilyDoc>(Kind::Family, id.as_str()).await?.map(|stored| stored.value) {
                Some(FamilyDoc::Live(live)) if !live.is_over(policy, now) => idle.push((live.family.last_used, id)),
                Some(FamilyDoc::Ended(_)) => doc.families.retain(|entry| entry.id != id),
                None if now < at + CREATION_TIME => idle.push((at, id)),
                Some(FamilyDoc::Live(_)) | None => doc.take_off(&id, EndReason::TooMany),
            }
        }
        idle.sort();
        let surplus = doc.families.len().saturating_sub(MAX_FAMILIES);
        for (_, id) in idle.into_iter().take(surplus) {
            doc.take_off(&id, EndReason::TooMany);
        }
        Ok(())
    }

    /// Writes the tombstones that the list still owes. That the list forgets them afterwards may fail; then the next
    /// caller writes them again, to no effect.
    async fn finish(
        &self,
        record: &str,
        version: Version,
        mut doc: ListDoc,
        expires_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        if doc.ending.is_empty() {
            return Ok(());
        }
        for Ending { id, why } in std::mem::take(&mut doc.ending) {
            self.end(&id, why).await?;
        }
        let indexed = doc.owner().indexed(expires_at);
        self.store.swap(Kind::FamilyList, record, version, &doc, indexed).await?;
        Ok(())
    }
}

/// The later of two expiries; none is the latest.
fn later(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    Some(one?.max(other?))
}
