//! Data keys: what seals the store's secrets. They are kept in the store, wrapped by key-encryption keys.
//!
//! One record holds them all and decides: it is changed by compare-and-swap, so of several replicas one makes the next
//! key. A data key is published before it seals ([`PUBLISH_BEFORE`]), so that every replica has learnt it by then; it is
//! wrapped with every key-encryption key that the replica which made it has been given, so that a replica that still runs
//! with the previous configuration can open it too. No request ever asks a key-encryption key for anything: they are used
//! when a store is unlocked, and by the background's [`Store::tend_sealing`].

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::{Rng, Timestamp};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::{
    DataKeyBytes,
    wrap::{KeyEncryption, KeyWrapper, WrapError},
};
use crate::{
    document::{Indexed, Inserted, Stored, Swapped, decode},
    error::StoreError,
    inspect::Mentions,
    kernel::{Kind, Page, Record, Version},
    stamp,
    store::Store,
};

/// The singleton's id.
const ID: &str = "keys";
/// How long a data key is known before it seals: more than clocks may differ and a replica takes to look.
pub const PUBLISH_BEFORE: Duration = Duration::from_secs(10 * 60);
/// How long a data key that seals no longer is kept at least: longer than any request is under way.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How long after a data key began to seal a replica that cannot open it may use the one before: far less than
/// [`KEPT_FOR`], after which that one may be gone.
const FENCE: Duration = Duration::from_secs(60 * 60);
/// How long after the record was last read a replica may seal with what it knew then; as [`FENCE`].
const KNOWN_FOR: Duration = Duration::from_secs(12 * 60 * 60);
/// How long ago the first data key of an empty store began to seal: no replica's clock is so far behind.
const FIRST_SEALS_SINCE: Duration = Duration::from_secs(60 * 60);
/// How often a key-encryption key that has versions is asked whether there is a newer one.
const ASK_VERSION_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
/// Most data keys of a store.
const MAX_DATA_KEYS: usize = 16;
/// How many key-encryption keys that were taken out are remembered.
const MAX_RETIRED: usize = 32;
/// How often the record is decided anew after losing a race.
const RACES: usize = 16;
/// Waits before a key-encryption key that does not answer at start-up is asked again.
const PATIENCE: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
const CHECK: &[u8] = b"portcullis data key check v1";

/// Why the store's secrets cannot be sealed or opened. Without any key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// The configuration: the store's secrets are sealed, and no key-encryption key was given.
    #[error("the store's secrets are sealed with the key-encryption key {}, and none is configured", list(.keys))]
    NotConfigured {
        /// The ids of those that would do.
        keys: Vec<String>,
    },
    /// The configuration: none of the given key-encryption keys has wrapped this data key.
    #[error("the store's data key {data_key} is wrapped with the key-encryption key {}, and configured is only {}",
            list(.wrapped_with), list(.configured))]
    MissingKey {
        /// The data key's id.
        data_key: String,
        /// The ids of the key-encryption keys that would do.
        wrapped_with: Vec<String>,
        /// The ids of those that were given.
        configured: Vec<String>,
    },
    /// The configuration: a key-encryption key has the right id and does not open the data key.
    #[error(
        "the key-encryption key {key} ({from}) does not open the store's data key {data_key}: it has other bytes than \
             the key of that name with which the store was sealed, or the record is damaged"
    )]
    WrongKey {
        /// The key-encryption key's id.
        key: String,
        /// Where it came from.
        from: String,
        /// The data key's id.
        data_key: String,
    },
    /// The configuration: two key-encryption keys with one id.
    #[error("two key-encryption keys have the id {key}")]
    Twice {
        /// The id.
        key: String,
    },
    /// The place where a key-encryption key is kept.
    #[error("the key-encryption key {key} cannot be used: {cause}")]
    Source {
        /// The key-encryption key's id.
        key: String,
        /// Why not.
        cause: WrapError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SealingError {
    /// Whether the same call may succeed later without anyone mending anything.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Source { cause, .. } => cause.is_temporary(),
            Self::Store(error) => error.is_temporary(),
            Self::NotConfigured { .. } | Self::MissingKey { .. } | Self::WrongKey { .. } | Self::Twice { .. } => false,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotConfigured { .. } => {
                Some("give the key under portcullis.encryption.keys, or in PORTCULLIS_ENCRYPTION_KEY_FILE")
            }
            Self::MissingKey { .. } => Some(
                "give that key as well, after the current one under portcullis.encryption.keys (or in \
                 PORTCULLIS_ENCRYPTION_OLD_KEY_FILE), and take it out when the log says that the store opens without it",
            ),
            Self::WrongKey { .. } => {
                Some("give the key with which the store was sealed; a new key needs an id of its own")
            }
            Self::Twice { .. } => Some("give each key an id of its own"),
            Self::Source { cause: WrapError::Source { hint, .. }, .. } => Some(hint),
            Self::Source { cause: WrapError::Wrong, .. } | Self::Store(_) => None,
        }
    }
}

fn list(ids: &[String]) -> String {
    ids.join(" or ")
}

/// A data key, opened.
#[derive(Clone)]
pub(super) struct DataKey {
    pub(super) id: String,
    pub(super) key: hmac::Key,
    bytes: DataKeyBytes,
    seals_from: Timestamp,
}

/// The data keys as they were last read.
#[derive(Default)]
pub(super) struct Ring {
    /// Oldest first.
    keys: Vec<DataKey>,
    /// Those that could not be opened: their ids, and from when on they seal.
    unopened: Vec<(String, Timestamp)>,
    version: Option<Version>,
    clearing: bool,
    /// Something was sealed once; so a replica whose clock is behind writes nothing in clear.
    has_sealed: bool,
    read_at: Option<Timestamp>,
}

/// Nothing may be sealed now: this replica cannot open the data key that the others seal with, or does not know it.
pub(super) struct Fenced {
    /// The data key that cannot be opened; `None` when the record was not read for too long.
    pub(super) unopened: Option<String>,
}

impl Ring {
    #[cfg(test)]
    pub(super) fn of(keys: Vec<DataKey>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// The key that seals; `None` when secrets are written in clear.
    pub(super) fn current(&self, now: Timestamp) -> Option<&DataKey> {
        if self.clearing {
            return None;
        }
        let in_force = self.keys.iter().rev().find(|key| key.seals_from <= now);
        in_force.or_else(|| self.keys.first().filter(|_| self.has_sealed))
    }

    /// The key that seals, as [`Ring::current`], if it may be used still: what is sealed with a key that the others
    /// have stopped using is lost once they remove it.
    pub(super) fn sealer(&self, now: Timestamp) -> Result<Option<&DataKey>, Fenced> {
        let current = self.current(now);
        if self.clearing || self.version.is_none() {
            return Ok(current);
        }
        let newer = self.unopened.iter().find(|(_, from)| match current {
            Some(key) => *from >= key.seals_from && now >= *from + FENCE,
            // Not one is open: in clear is no way out.
            None => self.keys.is_empty(),
        });
        if let Some((id, _)) = newer {
            return Err(Fenced { unopened: Some(id.clone()) });
        }
        if self.read_at.is_some_and(|read_at| now >= read_at + KNOWN_FOR) {
            return Err(Fenced { unopened: None });
        }
        Ok(current)
    }

    /// Whether every data key of the record is open here.
    pub(super) const fn is_whole(&self) -> bool {
        self.unopened.is_empty()
    }

    /// The known data keys with which something in a record is sealed, whatever its field.
    pub(super) fn carried(&self, data: &[u8]) -> Vec<&str> {
        let known = self.keys.iter().map(|key| key.id.as_str()).chain(self.unopened.iter().map(|(id, _)| id.as_str()));
        known.filter(|id| carries(data, id)).collect()
    }

    /// The ids of the data keys that are open here.
    pub(super) fn open(&self) -> BTreeSet<String> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }

    pub(super) fn find(&self, id: &str) -> Option<&DataKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// Whether a blob that is sealed with this data key stands anywhere in a record.
pub(super) fn carries(data: &[u8], id: &str) -> bool {
    let start = format!("s.{id}.");
    data.windows(start.len()).any(|part| part == start.as_bytes())
}

/// What a store knows of its sealing; shared by its clones.
#[derive(Default)]
pub(crate) struct Sealing {
    given: OnceLock<KeyEncryption>,
    ring: RwLock<Arc<Ring>>,
    asked_version: RwLock<Option<Timestamp>>,
    /// A blob was met whose data key is not known.
    pub(super) missed: Notify,
}

impl Sealing {
    pub(super) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether other data keys are open now than before.
    fn adopt(&self, ring: Ring) -> bool {
        let mut known = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let changed = known.open() != ring.open();
        *known = Arc::new(ring);
        changed
    }

    fn is_version_due(&self, now: Timestamp) -> bool {
        let mut asked = self.asked_version.write().unwrap_or_else(PoisonError::into_inner);
        let due = asked.is_none_or(|last| now >= last + ASK_VERSION_EVERY || now < last);
        if due {
            *asked = Some(now);
        }
        due
    }
}

/// How a store's secrets are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealingState {
    /// In clear: no key-encryption key was ever given.
    Clear,
    /// Sealed, or being sealed.
    Sealing,
    /// In clear, or being written in clear: sealing was switched off.
    Clearing,
}

/// What [`Store::unlock`] has found, for a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlocked {
    /// How secrets are kept from now on.
    pub state: SealingState,
    /// The data key that seals; `None` when none does, or not yet.
    pub data_key: Option<String>,
    /// From when on the newest data key seals, when that is to come.
    pub seals_from: Option<Timestamp>,
    /// The ids of the given key-encryption keys without which everything can be opened too.
    pub not_needed: Vec<String>,
}

impl Unlocked {
    const fn clear() -> Self {
        Self { state: SealingState::Clear, data_key: None, seals_from: None, not_needed: Vec::new() }
    }
}

/// For [`Store::check`].
pub(crate) fn inspect(record: &Record) -> Result<Mentions, StoreError> {
    decode::<KeysDoc>(Kind::DataKeys, record).map(|_| Mentions::default())
}

impl Store {
    /// Opens the data keys with the key-encryption keys that are given, and makes the first one when sealing begins. To be
    /// called once, before anything else is done with the store; a store that is not unlocked cannot open what is sealed.
    /// A source that does not answer is asked again for some seconds.
    ///
    /// # Errors
    /// [`SealingError`]; nothing in the store was changed then.
    pub async fn unlock(&self, keys: Option<KeyEncryption>) -> Result<Unlocked, SealingError> {
        let mut waits = PATIENCE.iter();
        loop {
            match (self.try_unlock(keys.as_ref()).await, waits.next()) {
                (Err(error @ SealingError::Source { .. }), Some(wait)) if error.is_temporary() => {
                    tracing::warn!(%error, "a key-encryption key cannot be used; trying again");
                    self.clock().sleep(*wait).await;
                }
                (Err(error), _) => return Err(error),
                (Ok(unlocked), _) => {
                    if let Some(keys) = keys {
                        // A second call keeps the keys of the first.
                        let _ = self.sealing().given.set(keys);
                    }
                    return Ok(unlocked);
                }
            }
        }
    }

    /// As [`Store::unlock`], for a tool that only looks: opens the data keys that are there, makes none, and changes nothing.
    ///
    /// # Errors
    /// [`SealingError`].
    pub async fn look(&self, keys: Option<&KeyEncryption>) -> Result<(), SealingError> {
        let Some(Stored { version, value, .. }) = self.read::<KeysDoc>(Kind::DataKeys, ID).await? else {
            return Ok(());
        };
        match keys {
            Some(keys) => {
                let (opened, failure) = self.opened(&value, keys).await;
                if let Some(error) = failure {
                    return Err(error);
                }
                self.adopt(value.ring(&opened, version, self.now()));
                Ok(())
            }
            None if value.is_cleared() => Ok(()),
            None => Err(SealingError::NotConfigured { keys: value.order }),
        }
    }

    async fn try_unlock(&self, keys: Option<&KeyEncryption>) -> Result<Unlocked, SealingError> {
        let Some(keys) = keys else {
            return match self.read::<KeysDoc>(Kind::DataKeys, ID).await? {
                Some(Stored { value, .. }) if !value.is_cleared() => {
                    Err(SealingError::NotConfigured { keys: value.order })
                }
                _ => Ok(Unlocked::clear()),
            };
        };
        let mut ids = BTreeSet::new();
        if let Some(key) = keys.all().find(|key| !ids.insert(key.id())) {
            return Err(SealingError::Twice { key: key.id().to_owned() });
        }
        self.settle(keys, Occasion::Start).await?;
        let (ring, now) = (self.sealing().ring(), self.now());
        let state = match (ring.version, ring.clearing) {
            (None, _) => SealingState::Clear,
            (Some(_), true) => SealingState::Clearing,
            (Some(_), false) => SealingState::Sealing,
        };
        let newest = ring.keys.last().filter(|_| !ring.clearing);
        let doc = self.data_keys_doc().await?.unwrap_or_default();
        let older = keys.older.iter().map(|key| key.id());
        let not_needed = older.filter(|id| state != SealingState::Clear && !doc.needs(id)).map(str::to_owned).collect();
        Ok(Unlocked {
            state,
            data_key: ring.current(now).map(|key| key.id.clone()),
            seals_from: newest.map(|key| key.seals_from).filter(|from| *from > now),
            not_needed,
        })
    }

    /// Does what the data keys need: learns those that other replicas have made, makes the next one when it is due, wraps
    /// them with key-encryption keys that are new, forgets those that are given no longer. To be called every half minute;
    /// costs one read as a rule.
    ///
    /// # Errors
    /// [`SealingError`]; the data keys that were known are used on.
    pub async fn tend_sealing(&self) -> Result<(), SealingError> {
        match self.sealing().given.get() {
            Some(keys) => self.settle(keys, Occasion::Background).await,
            None => match self.read::<KeysDoc>(Kind::DataKeys, ID).await? {
                Some(Stored { value, .. }) if !value.is_cleared() => {
                    Err(SealingError::NotConfigured { keys: value.order })
                }
                _ => Ok(()),
            },
        }
    }

    /// Waits until a secret was met whose data key is not known, so that [`Store::tend_sealing`] need not wait for its turn.
    pub async fn data_key_missed(&self) {
        self.sealing().missed.notified().await;
    }

    /// Whether secrets are sealed at this moment.
    #[must_use]
    pub fn seals_secrets(&self) -> bool {
        self.sealing().ring().current(self.now()).is_some()
    }

    fn adopt(&self, ring: Ring) {
        if self.sealing().adopt(ring) {
            // What could not be opened when it was judged may open now.
            self.kernel().judge_again();
        }
    }

    async fn settle(&self, keys: &KeyEncryption, occasion: Occasion) -> Result<(), SealingError> {
        for _ in 0..RACES {
            let Some(stored) = self.read::<KeysDoc>(Kind::DataKeys, ID).await? else {
                if !keys.seal {
                    self.adopt(Ring::default());
                    return Ok(());
                }
                let mut doc = KeysDoc { order: known_order(keys), ..KeysDoc::default() };
                let seals_from = self.first_seals_from().await?;
                let key = DataKey::make(self.rng(), seals_from);
                doc.keys.push(self.wrapped(&key, keys).await?);
                match self.insert(Kind::DataKeys, ID, &doc, Indexed::default()).await? {
                    Inserted::Done(version) => {
                        tracing::info!(data_key = key.id, seals_from = seals_from.rfc3339(), "made the first data key");
                        self.adopt(doc.ring(&[key], version, self.now()));
                        return Ok(());
                    }
                    Inserted::Exists => continue,
                }
            };
            let Stored { version, value: mut doc, .. } = stored;
            let now = self.now();
            let (mut opened, failure) = self.opened(&doc, keys).await;
            if occasion == Occasion::Background {
                // Whatever else cannot be done: what could be opened is used, and what could not is known of.
                self.adopt(doc.ring(&opened, version, now));
            }
            if let Some(error) = failure {
                return Err(error);
            }
            let versions = self.sealing().is_version_due(now);
            let changes = self.improve(&mut doc, &mut opened, keys, (occasion, versions)).await?;
            if changes.is_empty() {
                self.adopt(doc.ring(&opened, version, now));
                return Ok(());
            }
            if let Swapped::Done(version) = self.swap(Kind::DataKeys, ID, version, &doc, Indexed::default()).await? {
                for change in changes {
                    tracing::info!("{change}");
                }
                self.adopt(doc.ring(&opened, version, now));
                return Ok(());
            }
        }
        Err(StoreError::Contended { kind: Kind::DataKeys }.into())
    }

    /// An empty store seals at once; where there may be other replicas they learn of the key first.
    async fn first_seals_from(&self) -> Result<Timestamp, StoreError> {
        let used = self.kernel().list(Kind::SigningKeys, Page::first(1)).await?;
        let now = stamp::truncate(self.now());
        Ok(if used.records.is_empty() { now - FIRST_SEALS_SINCE } else { now + PUBLISH_BEFORE })
    }

    /// The record's data keys, opened, as far as that can be done, and why the first that cannot be opened cannot; those
    /// that are known already without asking anybody.
    async fn opened(&self, doc: &KeysDoc, keys: &KeyEncryption) -> (Vec<DataKey>, Option<SealingError>) {
        let known = self.sealing().ring();
        let (mut opened, mut failure) = (Vec::with_capacity(doc.keys.len()), None);
        for kept in &doc.keys {
            match known.find(&kept.id) {
                Some(key) => opened.push(DataKey::new(&kept.id, key.bytes.clone(), kept.seals_from)),
                None => match kept.open(keys).await {
                    Ok(key) => opened.push(key),
                    Err(error) => failure = failure.or(Some(error)),
                },
            }
        }
        (opened, failure)
    }

    /// Changes the record where it is not as this configuration wants it; says what it has done.
    async fn improve(
        &self,
        doc: &mut KeysDoc,
        opened: &mut Vec<DataKey>,
        keys: &KeyEncryption,
        (occasion, versions): (Occasion, bool),
    ) -> Result<Vec<String>, SealingError> {
        let mut changes = Vec::new();
        let now = stamp::truncate(self.now());
        let was_needed: Vec<&str> = keys.older.iter().map(|key| key.id()).filter(|id| doc.needs(id)).collect();
        // Another configuration knows newer keys than this one: it looks after them.
        if !doc.promote(keys, occasion, &mut changes) {
            if versions {
                // When a process starts, and four times a day.
                tracing::warn!(
                    current = keys.current.id(),
                    newest = doc.order.last(),
                    "the current key-encryption key is not the newest, and the newest is not configured: this replica \
                     makes no new data keys. Unless a roll-out is under way, configure the newest as well, after the \
                     current one; if it is lost, put a key with a new id before the current one"
                );
            }
            return Ok(changes);
        }
        if occasion == Occasion::Start && keys.seal == doc.clearing_since.is_some() {
            doc.clearing_since = (!keys.seal).then_some(now);
            (doc.swept, doc.swept_again) = (None, None);
            if keys.seal {
                // Replicas that were started without a key while there was nothing sealed have to be told first.
                doc.keys.iter_mut().for_each(|key| key.seals_from = key.seals_from.max(now + PUBLISH_BEFORE));
            }
            changes.push(format!("sealing of secrets was switched {}", if keys.seal { "on" } else { "off" }));
        }
        for (kept, key) in doc.keys.iter_mut().zip(&*opened) {
            for wrapper in keys.all().filter(|wrapper| !doc.retired.iter().any(|id| id == wrapper.id())) {
                let is_current = wrapper.id() == keys.current.id();
                let old = kept.wrap_of(wrapper.id()).map(|wrap| wrap.text.clone());
                let ask = old.as_deref().is_none_or(|old| versions && is_current && wrapper.version(old).is_some());
                if !ask {
                    continue;
                }
                match wrapper.wrap(&kept.id, &key.bytes).await {
                    Ok(text) if old.as_deref().is_some_and(|old| wrapper.version(old) >= wrapper.version(&text)) => {}
                    Ok(text) => {
                        changes.push(format!("data key {} is wrapped with {}", kept.id, wrapper.id()));
                        kept.set_wrap(wrapper.id(), text);
                    }
                    // What is wrapped can be opened; an older key that is gone is not worth more than this line.
                    Err(error) if old.is_some() || !is_current => {
                        tracing::debug!(%error, key = wrapper.id(), "a data key could not be wrapped anew");
                    }
                    Err(cause) => return Err(SealingError::Source { key: wrapper.id().to_owned(), cause }),
                }
            }
        }
        for id in was_needed.into_iter().filter(|id| !doc.needs(id)) {
            let current = keys.current.id();
            changes.push(format!(
                "the store opens without the key-encryption key {id} now: take it out of the configuration once every \
                 replica has been started with {current}, and keep it for as long as there are backups from before"
            ));
        }
        if doc.order.last().is_some_and(|newest| newest == keys.current.id()) {
            doc.retire(keys, &mut changes);
        }
        if doc.is_next_due(keys, now) {
            let key = DataKey::make(self.rng(), now + PUBLISH_BEFORE);
            doc.keys.push(self.wrapped(&key, keys).await?);
            changes.push(format!("made the data key {}, which seals from {}", key.id, key.seals_from.rfc3339()));
            opened.push(key);
        }
        Ok(changes)
    }

    /// A new data key as it is kept: wrapped with every key that can be reached, and with the current one in any case.
    async fn wrapped(&self, key: &DataKey, keys: &KeyEncryption) -> Result<KeyDoc, SealingError> {
        let mut doc = KeyDoc {
            id: key.id.clone(),
            check: check_of(&key.id, &key.key),
            created_at: stamp::truncate(self.now()),
            seals_from: key.seals_from,
            exposed: false,
            wraps: Vec::new(),
        };
        for wrapper in keys.all() {
            match wrapper.wrap(&key.id, &key.bytes).await {
                Ok(text) => doc.set_wrap(wrapper.id(), text),
                Err(cause) if wrapper.id() == keys.current.id() => {
                    return Err(SealingError::Source { key: wrapper.id().to_owned(), cause });
                }
                Err(error) => {
                    tracing::warn!(%error, key = wrapper.id(), "a new data key is not wrapped with an older key");
                }
            }
        }
        Ok(doc)
    }

    /// What the sweep has to bring everything to; see [`Target`].
    pub(super) async fn sweep_target(&self) -> Result<Option<Target>, StoreError> {
        let Some(Stored { version, value, .. }) = self.read::<KeysDoc>(Kind::DataKeys, ID).await? else {
            return Ok(None);
        };
        let (ring, now) = (self.sealing().ring(), self.now());
        if ring.version != Some(version) || !ring.is_whole() {
            // Another replica has changed something that this one has not learnt yet, or cannot.
            return Ok(None);
        }
        let (name, since) = match (value.clearing_since, ring.current(now)) {
            (Some(since), _) => (CLEAR.to_owned(), since),
            (None, Some(key)) => (key.id.clone(), key.seals_from),
            (None, None) => return Ok(None),
        };
        let (settled_at, certain_at) = (since + PUBLISH_BEFORE, since + KEPT_FOR);
        let stale = value.stale(now).next().is_some();
        let unsure = value.swept_again.as_deref() != Some(&name) && now >= certain_at;
        let done = value.swept.as_deref() == Some(&name) && !stale && !unsure;
        Ok((!done).then_some(Target { name, settled_at, certain_at }))
    }

    /// Notes that a sweep has been over everything: `left` is what is not as it should be, `used` the data keys that were
    /// still met.
    pub(super) async fn swept(
        &self,
        target: &Target,
        began: Timestamp,
        left: u64,
        used: &BTreeSet<String>,
    ) -> Result<(), StoreError> {
        for _ in 0..RACES {
            let Some(Stored { version, value: mut doc, .. }) = self.read::<KeysDoc>(Kind::DataKeys, ID).await? else {
                return Ok(());
            };
            let mut lines = Vec::new();
            let (mut changed, name) = (false, Some(target.name.clone()));
            if left == 0 && began >= target.settled_at && doc.swept != name {
                (doc.swept, changed) = (name.clone(), true);
                if target.name != CLEAR {
                    lines.push(format!("all secrets are sealed with the data key {}", target.name));
                }
            }
            if left == 0 && began >= target.certain_at && doc.swept_again != name {
                (doc.swept_again, changed) = (name, true);
                if target.name == CLEAR {
                    lines.push(
                        "all secrets are in clear: the key-encryption keys can be taken out of the configuration; keep \
                         them for as long as there are backups from before"
                            .to_owned(),
                    );
                }
            }
            let mut gone: Vec<String> = doc.stale(began).filter(|id| !used.contains(*id)).map(str::to_owned).collect();
            if !gone.is_empty() {
                let carried = self.still_carried(&gone).await?;
                gone.retain(|id| !carried.contains(id));
            }
            doc.keys.retain(|key| !gone.contains(&key.id));
            lines.extend(gone.iter().map(|id| format!("data key {id} is in use nowhere; it was removed")));
            if !changed && gone.is_empty() {
                return Ok(());
            }
            if let Swapped::Done(_) = self.swap(Kind::DataKeys, ID, version, &doc, Indexed::default()).await? {
                for line in lines {
                    tracing::info!("{line}");
                }
                return Ok(());
            }
        }
        Err(StoreError::Contended { kind: Kind::DataKeys })
    }

    /// The record, for a summary; nothing of it is opened.
    pub(super) async fn data_keys_doc(&self) -> Result<Option<KeysDoc>, StoreError> {
        Ok(self.read::<KeysDoc>(Kind::DataKeys, ID).await?.map(|stored| stored.value))
    }

    /// The key-encryption keys that this store was unlocked with.
    pub(super) fn given_keys(&self) -> Option<&KeyEncryption> {
        self.sealing().given.get()
    }
}

/// The name of the target that is no data key.
pub(super) const CLEAR: &str = "clear";

/// What everything is to be sealed with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// A data key's id, or [`CLEAR`].
    pub(super) name: String,
    /// From when on every replica writes so: only a sweep that began later has seen the last of the others.
    settled_at: Timestamp,
    /// From when on also such replicas do as were cut off from the store, or had no key, when that began.
    certain_at: Timestamp,
}

/// When the record is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// A process starts: its configuration counts.
    Start,
    Background,
}

impl DataKey {
    pub(super) fn new(id: &str, bytes: DataKeyBytes, seals_from: Timestamp) -> Self {
        Self { id: id.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, bytes.as_slice()), bytes, seals_from }
    }

    fn make(rng: &Rng, seals_from: Timestamp) -> Self {
        Self::new(&rng.token(6), Zeroizing::new(rng.bytes()), seals_from)
    }
}

/// Tells a data key that was opened rightly from one that was not, also where the wrapper does not know its name.
fn check_of(id: &str, key: &hmac::Key) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(CHECK);
    context.update(id.as_bytes());
    URL_SAFE_NO_PAD.encode(context.sign())
}

/// The ids of the given keys, the current one last.
fn known_order(keys: &KeyEncryption) -> Vec<String> {
    keys.older.iter().rev().chain([&keys.current]).map(|key| key.id().to_owned()).collect()
}

/// The record. Oldest keys first.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct KeysDoc {
    pub(super) keys: Vec<KeyDoc>,
    /// The key-encryption keys that are in use, oldest first: so a replica knows whether its own configuration is the newest.
    pub(super) order: Vec<String>,
    /// The last ones that were taken out: a replica that still has one as an older key must not bring it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retired: Vec<String>,
    /// Since when sealing is switched off.
    #[serde(default, with = "stamp::option", skip_serializing_if = "Option::is_none")]
    pub(super) clearing_since: Option<Timestamp>,
    /// What a sweep has brought everything to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) swept: Option<String>,
    /// The same, by a sweep that began a day after it had become the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    swept_again: Option<String>,
}

/// A data key.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeyDoc {
    pub(super) id: String,
    check: String,
    #[serde(with = "stamp")]
    pub(super) created_at: Timestamp,
    #[serde(with = "stamp")]
    pub(super) seals_from: Timestamp,
    /// A key-encryption key that has been taken out of use could open it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) exposed: bool,
    pub(super) wraps: Vec<WrapDoc>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct WrapDoc {
    pub(super) kek: String,
    text: String,
}

impl KeyDoc {
    fn wrap_of(&self, kek: &str) -> Option<&WrapDoc> {
        self.wraps.iter().find(|wrap| wrap.kek == kek)
    }

    fn set_wrap(&mut self, kek: &str, text: String) {
        self.wraps.retain(|wrap| wrap.kek != kek);
        self.wraps.push(WrapDoc { kek: kek.to_owned(), text });
    }

    /// Opens the key with the first of the given ones that can. One that should be able to and is not the right one is a
    /// mistake that must not go unnoticed, even when another key opens.
    async fn open(&self, keys: &KeyEncryption) -> Result<DataKey, SealingError> {
        let (mut found, mut failure) = (None, None);
        for wrapper in keys.all() {
            let Some(wrap) = self.wrap_of(wrapper.id()) else { continue };
            match self.open_with(&**wrapper, &wrap.text).await {
                Ok(key) => found = found.or(Some(key)),
                Err(WrapError::Wrong) => {
                    return Err(SealingError::WrongKey {
                        key: wrapper.id().to_owned(),
                        from: wrapper.source().to_owned(),
                        data_key: self.id.clone(),
                    });
                }
                Err(cause) => failure = failure.or(Some(SealingError::Source { key: wrapper.id().to_owned(), cause })),
            }
        }
        match (found, failure) {
            (Some(key), _) => Ok(key),
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(SealingError::MissingKey {
                data_key: self.id.clone(),
                wrapped_with: self.wraps.iter().map(|wrap| wrap.kek.clone()).collect(),
                configured: keys.all().map(|key| key.id().to_owned()).collect(),
            }),
        }
    }

    async fn open_with(&self, wrapper: &dyn KeyWrapper, text: &str) -> Result<DataKey, WrapError> {
        let key = DataKey::new(&self.id, wrapper.open(&self.id, text).await?, self.seals_from);
        let genuine: bool = check_of(&self.id, &key.key).as_bytes().ct_eq(self.check.as_bytes()).into();
        if genuine { Ok(key) } else { Err(WrapError::Wrong) }
    }
}

impl KeysDoc {
    /// Whether sealing was switched off and nothing sealed is left.
    fn is_cleared(&self) -> bool {
        self.clearing_since.is_some() && self.swept_again.as_deref() == Some(CLEAR)
    }

    fn ring(&self, opened: &[DataKey], version: Version, now: Timestamp) -> Ring {
        let mut ring = Ring {
            version: Some(version),
            clearing: self.clearing_since.is_some(),
            has_sealed: self.has_sealed(),
            read_at: Some(now),
            ..Ring::default()
        };
        for kept in &self.keys {
            match opened.iter().find(|key| key.id == kept.id) {
                Some(key) => ring.keys.push(DataKey { seals_from: kept.seals_from, ..key.clone() }),
                None => ring.unopened.push((kept.id.clone(), kept.seals_from)),
            }
        }
        ring
    }

    /// Whether a data key certainly was in force once since sealing was last switched on: a sweep says so, or a second key,
    /// which is made only then, or a first one that sealed as soon as it was made.
    fn has_sealed(&self) -> bool {
        let times = || self.keys.iter().map(|key| key.seals_from);
        self.swept.as_deref().is_some_and(|swept| swept != CLEAR)
            || times().min() < times().max()
            || self.keys.iter().any(|key| key.seals_from <= key.created_at)
    }

    /// Makes the given current key the newest. False when this configuration does not know a newer one.
    fn promote(&mut self, keys: &KeyEncryption, occasion: Occasion, changes: &mut Vec<String>) -> bool {
        let current = keys.current.id();
        if self.retired.iter().any(|id| id == current) {
            if occasion == Occasion::Background {
                return false;
            }
            // Somebody has gone back to it on purpose.
            self.retired.retain(|id| id != current);
        }
        let newer = match self.order.iter().position(|id| id == current) {
            Some(place) => self.order.get(place + 1..).unwrap_or_default(),
            // A key that nobody knows is newer than all; but only who can open what is there may say so.
            None => &[],
        };
        if newer.iter().any(|id| !keys.has(id)) {
            return false;
        }
        if !newer.is_empty() && occasion == Occasion::Background {
            // Going back is for a start: two configurations that know both keys, in another order each, would otherwise
            // take turns for ever. This one looks after the data keys with what it has.
            return true;
        }
        if self.order.last().is_none_or(|last| last != current) {
            self.order.retain(|id| id != current);
            self.order.push(current.to_owned());
            changes.push(format!("{current} is the current key-encryption key"));
        }
        for key in keys.older.iter().rev() {
            if !self.order.iter().chain(&self.retired).any(|id| id == key.id()) {
                self.order.insert(0, key.id().to_owned());
                changes.push(format!("the key-encryption key {} is known", key.id()));
            }
        }
        true
    }

    /// Forgets key-encryption keys that are given no longer. What they could open is to be sealed with another data key.
    fn retire(&mut self, keys: &KeyEncryption, changes: &mut Vec<String>) {
        let gone: Vec<String> = self.order.iter().filter(|id| !keys.has(id)).cloned().collect();
        if gone.is_empty() {
            return;
        }
        self.order.retain(|id| keys.has(id));
        self.retired.extend(gone.iter().cloned());
        let surplus = self.retired.len().saturating_sub(MAX_RETIRED);
        self.retired.drain(..surplus);
        for key in &mut self.keys {
            let before = key.wraps.len();
            key.wraps.retain(|wrap| keys.has(&wrap.kek));
            key.exposed |= key.wraps.len() < before;
        }
        changes.extend(
            gone.iter().map(|id| {
                format!("the key-encryption key {id} is not configured any more; it opens nothing from now on")
            }),
        );
    }

    /// Whether another data key is to be made now.
    fn is_next_due(&self, keys: &KeyEncryption, now: Timestamp) -> bool {
        if self.clearing_since.is_some() || self.keys.len() >= MAX_DATA_KEYS {
            return false;
        }
        self.keys.last().is_none_or(|newest| {
            let old = now >= newest.created_at + keys.data_key_lifetime;
            let asked = keys.replace_before.is_some_and(|before| newest.created_at < before && before <= now);
            newest.seals_from <= now && (old || asked || newest.exposed)
        })
    }

    /// Whether something could not be opened without this key-encryption key.
    pub(super) fn needs(&self, kek: &str) -> bool {
        let opens = |key: &KeyDoc, kek: &str| key.wrap_of(kek).is_some();
        let newest = self.order.last().map(String::as_str);
        match newest {
            _ if self.is_cleared() => false,
            Some(newest) if newest != kek => self.keys.iter().any(|key| opens(key, kek) && !opens(key, newest)),
            _ => true,
        }
    }

    /// The ids of the data keys that stopped sealing so long ago that no request can still be writing with them.
    fn stale(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let successors = self.keys.iter().skip(1).map(|key| key.seals_from);
        let stopped = self.keys.iter().zip(successors).filter(move |(_, from)| now >= *from + KEPT_FOR);
        stopped.map(|(key, _)| key.id.as_str())
    }
}
