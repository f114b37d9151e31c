//! The keys that seal cookies: one record for each use, shared by all replicas, rotated by whichever notices first.
//!
//! Sign-ins under way live for minutes, the cookies by which browsers are known again for months: each has keys of its
//! own, so that neither makes the other's live too long or too short. A cookie names the key that sealed it. The newest key seals; older ones open until everything that they sealed has
//! expired. A replica that meets an unknown key id loads the ring again before it refuses.

use std::time::Duration;

use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    document::{Indexed, Inserted, Stored, Swapped, decode},
    error::StoreError,
    inspect::{Mentions, misplaced},
    kernel::{Kind, Record},
    seal::{Blob, Place},
    stamp,
    store::Store,
};

const FLOWS: &str = "cookies";
const DEVICES: &str = "devices";
const RACES: usize = 64;

/// A key of 32 bytes with its id.
#[derive(Clone)]
pub struct SealingKey {
    id: String,
    key: Zeroizing<[u8; 32]>,
    created_at: Timestamp,
}

impl SealingKey {
    /// The id that a sealed value carries.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// When it was made.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// When sealing keys change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealingPolicy {
    /// A key seals for this long.
    pub rotate_after: Duration,
    /// A key opens for this long after it has stopped sealing: at least the life of what it sealed.
    pub opens_for: Duration,
}

impl Default for SealingPolicy {
    /// A new key a day; the old one opens for another hour.
    fn default() -> Self {
        Self { rotate_after: Duration::from_secs(24 * 60 * 60), opens_for: Duration::from_secs(60 * 60) }
    }
}

/// The keys in force: never empty.
#[derive(Clone, Debug)]
pub struct SealingRing {
    newest: SealingKey,
    older: Vec<SealingKey>,
}

impl SealingRing {
    /// The key that seals.
    #[must_use]
    pub const fn newest(&self) -> &SealingKey {
        &self.newest
    }

    /// The key with this id, if it still opens.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&SealingKey> {
        std::iter::once(&self.newest).chain(&self.older).find(|key| key.id == id)
    }
}

/// The facade of the sealing keys.
#[derive(Clone, Copy)]
pub struct SealingKeys<'a> {
    store: &'a Store,
    id: &'static str,
}

impl<'a> SealingKeys<'a> {
    pub(crate) const fn of_flows(store: &'a Store) -> Self {
        Self { store, id: FLOWS }
    }

    pub(crate) const fn of_devices(store: &'a Store) -> Self {
        Self { store, id: DEVICES }
    }

    /// Loads the keys. Makes the first one when there is none, and the next one when the newest is due; drops those that
    /// open no longer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(&self, policy: SealingPolicy) -> Result<SealingRing, StoreError> {
        for _ in 0..RACES {
            let now = self.store.now();
            let Some(stored) = self.store.read::<RingDoc>(Kind::SealingKeys, self.id).await? else {
                let first = self.new_key(now);
                let doc = RingDoc { keys: vec![self.seal(&first)?] };
                match self.store.insert(Kind::SealingKeys, self.id, &doc, Indexed::default()).await? {
                    Inserted::Done(_) => return Ok(SealingRing { newest: first, older: Vec::new() }),
                    Inserted::Exists => continue,
                }
            };
            let Stored { version, value, .. } = stored;
            let mut keys = value.keys.iter().map(|key| self.open(key)).collect::<Result<Vec<_>, _>>()?;
            let newest = keys.pop().ok_or_else(|| self.damaged("there is no key in it".to_owned()))?;
            if now < newest.created_at + policy.rotate_after {
                return Ok(SealingRing { newest, older: keys });
            }
            let ring = SealingRing { older: still_opening(keys, newest, now, policy), newest: self.new_key(now) };
            let keys = ring.older.iter().chain([&ring.newest]);
            let doc = RingDoc { keys: keys.map(|key| self.seal(key)).collect::<Result<_, _>>()? };
            if let Swapped::Done(_) =
                self.store.swap(Kind::SealingKeys, self.id, version, &doc, Indexed::default()).await?
            {
                return Ok(ring);
            }
        }
        Err(StoreError::Contended { kind: Kind::SealingKeys })
    }

    fn new_key(&self, now: Timestamp) -> SealingKey {
        let rng = self.store.rng();
        SealingKey { id: rng.token(6), key: Zeroizing::new(rng.bytes()), created_at: stamp::truncate(now) }
    }

    fn seal(&self, key: &SealingKey) -> Result<KeyDoc, StoreError> {
        let SealingKey { id, key, created_at } = key;
        Ok(KeyDoc { id: id.clone(), key: self.store.seal(place(id), key.as_slice())?, created_at: *created_at })
    }

    fn open(&self, doc: &KeyDoc) -> Result<SealingKey, StoreError> {
        let key = self.store.unseal(place(&doc.id), &doc.key)?;
        let key = key.expose().try_into().map_err(|_| self.damaged(format!("key {} has not 32 bytes", doc.id)))?;
        Ok(SealingKey { id: doc.id.clone(), key: Zeroizing::new(key), created_at: doc.created_at })
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { kind: Kind::SealingKeys, id: self.id.to_owned(), what }
    }
}

/// The keys, oldest first, that sealed something which may not have expired. A key stopped sealing when the next one was
/// made; `last` stops now.
fn still_opening(keys: Vec<SealingKey>, last: SealingKey, now: Timestamp, policy: SealingPolicy) -> Vec<SealingKey> {
    let mut kept: Vec<SealingKey> = vec![last];
    for key in keys.into_iter().rev() {
        let stopped = kept.last().map_or(now, |next| next.created_at);
        if now >= stopped + policy.opens_for {
            break;
        }
        kept.push(key);
    }
    kept.reverse();
    kept
}

/// Oldest first.
#[derive(Serialize, Deserialize)]
struct RingDoc {
    keys: Vec<KeyDoc>,
}

#[derive(Serialize, Deserialize)]
struct KeyDoc {
    id: String,
    key: Blob,
    #[serde(with = "stamp")]
    created_at: Timestamp,
}

/// For [`Store::check`].
pub(crate) fn inspect(store: &Store, record: &Record) -> Result<Mentions, StoreError> {
    let doc = decode::<RingDoc>(Kind::SealingKeys, record)?.value;
    for key in &doc.keys {
        if store.unseal(place(&key.id), &key.key)?.expose().len() != 32 {
            return Err(misplaced(Kind::SealingKeys, record, "a key has not 32 bytes"));
        }
    }
    if doc.keys.is_empty() {
        return Err(misplaced(Kind::SealingKeys, record, "there is no key in it"));
    }
    Ok(Mentions::default())
}

fn place(id: &str) -> Place<'_> {
    Place { kind: Kind::SealingKeys, id, field: "key" }
}
