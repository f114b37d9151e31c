//! Where the secrets are, record by record; sealing all of them again; counting them.
//!
//! A sweep walks over everything in bounded steps and writes, by compare-and-swap, what is not sealed with the key that
//! seals now. Sign-ins and codes are looked at and left alone: they are over in an hour, and the deciding swap of a code
//! must not be beaten by housekeeping. A record that is written keeps its request nonce, so that whoever waits to learn
//! whether its own write took effect still learns it, and whatever else it holds, also what a later version has put there.
//!
//! Nothing about a sweep is stored but that one has ended: one that was cut off begins anew, and finds less to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use portcullis_runtime::Timestamp;
use serde_json::Value;

use super::{
    Blob, Place,
    data_keys::{CLEAR, SealingState, Target, carries},
};
use crate::{
    error::{Applied, KernelError, StoreError, Trouble},
    inspect::Finding,
    kernel::{Kind, MAX_DATA_BYTES, Page, Record, Write},
    store::Store,
};

/// How long after a sweep that left something the next one begins. The time doubles, up to the longest one, as long as sweeps
/// find nothing but what they cannot open or write: only people can mend that, and each sweep reads the whole store.
const AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);
const LONGEST_REST: Duration = Duration::from_secs(6 * 60 * 60);
/// After so many refused writes on a page nothing more is written there: the store refuses everything, or is down.
const MAX_REFUSED: usize = 10;

/// A sweep over everything, and how far it has come. One for each process.
#[derive(Debug, Default)]
pub struct Sweep {
    under_way: Option<UnderWay>,
    rest: Option<Rest>,
}

impl Sweep {
    /// Forgets how far it has come. To be called when others may have written where it has looked already, as when a lease was
    /// another's meanwhile.
    pub fn begin_anew(&mut self) {
        self.under_way = None;
    }
}

/// The pause after a sweep. It ends early when there is more to do, or can be done, than there was.
#[derive(Debug)]
struct Rest {
    since: Timestamp,
    length: Duration,
    target: String,
    /// The data keys that were open.
    open: BTreeSet<String>,
}

struct UnderWay {
    target: Target,
    began: Timestamp,
    /// What is still to be looked at; the kind at the end is next.
    kinds: Vec<Kind>,
    page: Page,
    left: u64,
    why_left: Option<String>,
    /// Writes on this page that the store has refused.
    refused: usize,
    used: BTreeSet<String>,
    written: u64,
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnderWay").field("target", &self.target.name).field("page", &self.page).finish_non_exhaustive()
    }
}

/// What a step of a sweep has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SweepStep {
    /// There is nothing to do.
    Idle,
    /// A page was looked at, and there is more.
    More,
    /// Everything was looked at.
    Done {
        /// How many records were written anew.
        written: u64,
        /// How many secrets are still not as they should be: of sign-ins and codes under way, which end by themselves, of
        /// records that others were writing, and of such as cannot be opened. Another sweep follows.
        left: u64,
        /// Why the first of those that cannot be opened cannot.
        why: Option<String>,
    },
}

/// How the secrets of a store are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealingSummary {
    /// Whether they are sealed.
    pub state: SealingState,
    /// The key-encryption keys that wrap data keys, the current one last.
    pub key_encryption_keys: Vec<KeyEncryptionKeySummary>,
    /// The data keys, oldest first.
    pub data_keys: Vec<DataKeySummary>,
    /// How many secrets there are, by kind of record. Kinds without any are left out.
    pub fields: BTreeMap<Kind, FieldCounts>,
    /// Whether everything was counted.
    pub complete: bool,
}

/// A key-encryption key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEncryptionKeySummary {
    /// Its id.
    pub id: String,
    /// Where it is kept, if this process was given it.
    pub source: Option<String>,
    /// Whether it is the one that wraps new data keys.
    pub current: bool,
    /// Whether something could not be opened without it.
    pub needed: bool,
}

/// A data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKeySummary {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it seals.
    pub seals_from: Timestamp,
    /// Whether it is the one that seals now.
    pub seals: bool,
    /// The ids of the key-encryption keys that open it.
    pub wrapped_with: Vec<String>,
}

/// Secrets of one kind of record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldCounts {
    /// In clear.
    pub clear: u64,
    /// Sealed, by data key.
    pub sealed: BTreeMap<String, u64>,
    /// Neither, or in a record that cannot be read.
    pub unreadable: u64,
}

/// How many secrets of a record are in clear.
pub(crate) fn clear_secrets(kind: Kind, record: &Record) -> u64 {
    let mut counts = FieldCounts::default();
    if holds_secrets(kind) {
        counts.count_record(kind, record);
    }
    counts.clear
}

impl FieldCounts {
    fn count_record(&mut self, kind: Kind, record: &Record) {
        match serde_json::from_slice::<Value>(&record.data) {
            Ok(mut value) => each_secret(kind, &record.id, &mut value, &mut |_, blob| self.count(blob)),
            Err(_) => self.unreadable += 1,
        }
    }

    fn count(&mut self, blob: &Blob) {
        if blob.0.starts_with("p.") {
            self.clear += 1;
        } else if let Some((id, _)) = blob.sealed() {
            *self.sealed.entry(id.to_owned()).or_default() += 1;
        } else {
            self.unreadable += 1;
        }
    }
}

impl Store {
    /// Looks at up to `limit` records and seals again what is not sealed with the current data key (or writes it in clear,
    /// when sealing was switched off). To be called again and again; several replicas may.
    ///
    /// # Errors
    /// Those of the store. The sweep goes on where it was.
    pub async fn sweep(&self, sweep: &mut Sweep, limit: usize) -> Result<SweepStep, StoreError> {
        let now = self.now();
        let (target_name, open) = (self.target_name(now), self.sealing().ring().open());
        let same = sweep.rest.as_ref().filter(|rest| rest.target == target_name && rest.open == open);
        // A clock that was set back ends it.
        if same.is_some_and(|rest| now >= rest.since && now < rest.since + rest.length) {
            return Ok(SweepStep::Idle);
        }
        let rested = same.map(|rest| rest.length);
        let way = match &mut sweep.under_way {
            Some(way) if way.target.name == target_name && self.sealing().ring().is_whole() => way,
            under_way => {
                let Some(target) = self.sweep_target().await? else {
                    *under_way = None;
                    return Ok(SweepStep::Idle);
                };
                under_way.insert(UnderWay {
                    target,
                    began: now,
                    kinds: Kind::ALL.into_iter().filter(|kind| holds_secrets(*kind)).collect(),
                    page: Page::first(limit),
                    left: 0,
                    why_left: None,
                    refused: 0,
                    used: BTreeSet::new(),
                    written: 0,
                })
            }
        };
        let Some(kind) = way.kinds.last().copied() else {
            self.swept(&way.target, way.began, way.left, &way.used).await?;
            let UnderWay { written, left, why_left: why, .. } = sweep.under_way.take().ok_or_else(lost)?;
            let in_vain = written == 0 && why.is_some();
            let length = rested.filter(|_| in_vain).map_or(AGAIN_AFTER, |rested| (rested * 2).min(LONGEST_REST));
            sweep.rest = Some(Rest { since: now, length, target: target_name, open });
            return Ok(SweepStep::Done { written, left, why });
        };
        let listing = self.kernel().list(kind, way.page.clone()).await?;
        way.refused = 0;
        for record in &listing.records {
            self.sweep_record(kind, record, way).await?;
        }
        match listing.next {
            Some(next) => way.page = next,
            None => {
                way.kinds.pop();
                way.page = Page::first(limit);
            }
        }
        Ok(SweepStep::More)
    }

    fn target_name(&self, now: Timestamp) -> String {
        self.sealing().ring().current(now).map_or_else(|| CLEAR.to_owned(), |key| key.id.clone())
    }

    async fn sweep_record(&self, kind: Kind, record: &Record, way: &mut UnderWay) -> Result<(), StoreError> {
        let ring = self.sealing().ring();
        let key = ring.current(self.now());
        let mut changed = false;
        let mut left = 0;
        let before = way.left;
        let others = |data: &[u8]| -> Vec<String> {
            let met = ring.carried(data).into_iter().filter(|id| key.is_none_or(|key| key.id != *id));
            met.map(str::to_owned).collect()
        };
        // Whatever field it stands in: a later version may have put it there.
        way.used.extend(others(&record.data));
        let mut value = match serde_json::from_slice::<Value>(&record.data) {
            Ok(value) => value,
            Err(error) => {
                way.leave(1, format!("the {kind} record {:?} is no JSON (byte {})", record.id, error.column()));
                return Ok(());
            }
        };
        // An object that a person has written and no facade has: what is in clear there stays as they wrote it.
        let by_hand = Kind::CONFIGURED.contains(&kind) && value.get("n").and_then(Value::as_u64) == Some(0);
        each_secret(kind, &record.id, &mut value, &mut |place, blob| {
            if blob.is_current(key) || (by_hand && blob.sealed().is_none()) {
                return;
            }
            if let Some((id, _)) = blob.sealed() {
                way.used.insert(id.to_owned());
            }
            if is_short_lived(kind) {
                left += 1;
                return;
            }
            let sealed = blob.open(&ring, place).and_then(|secret| Blob::seal(key, self.rng(), place, secret.expose()));
            match sealed {
                Ok(sealed) => {
                    *blob = sealed;
                    changed = true;
                }
                Err(error) => way.leave(1, error.to_string()),
            }
        });
        way.left += left;
        if !changed {
            if way.left == before && !others(&record.data).is_empty() {
                way.leave(1, unknown_field(kind, &record.id));
            }
            return Ok(());
        }
        if way.refused >= MAX_REFUSED {
            way.left += 1;
            return Ok(());
        }
        let data = serde_json::to_vec(&value)
            .map_err(|error| StoreError::Unwritable { kind, what: format!("{:?}", error.classify()) })?;
        if data.len() > MAX_DATA_BYTES {
            way.leave(1, format!("the {kind} record {:?} would be too large when sealed", record.id));
            return Ok(());
        }
        if way.left == before && !others(&data).is_empty() {
            way.leave(1, unknown_field(kind, &record.id));
        }
        let write = Write { index: record.index, expires_at: record.expires_at, data };
        match self.kernel().update(kind, &record.id, record.version, write).await {
            Ok(_) => way.written += 1,
            // Whoever has changed it has sealed it; the next sweep sees whether that was so.
            Err(KernelError::Conflict | KernelError::NotFound) => way.left += 1,
            // One record that the store does not take must not keep all the others from being sealed.
            Err(error) if is_refusal(&error) => {
                way.refused += 1;
                way.leave(1, format!("the {kind} record {:?} cannot be written: {error}", record.id));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Of these data keys, the ones that something in the store carries, whatever its kind and field, all at one moment.
    /// All of them when that cannot be told: a later version has written what this one does not know, or an object is too large
    /// to be read.
    pub(super) async fn still_carried(&self, ids: &[String]) -> Result<BTreeSet<String>, StoreError> {
        let mut carried = BTreeSet::new();
        let read = async {
            let mut snapshot = self.kernel().snapshot().await?;
            if let Some(Finding { what, .. }) = snapshot.left_out().first() {
                return Err(KernelError::Corrupt { what: what.clone() });
            }
            while let Some(batch) = snapshot.next().await? {
                for (_, record) in batch {
                    carried.extend(ids.iter().filter(|id| carries(&record.data, id)).cloned());
                }
            }
            Ok(())
        };
        match read.await {
            Ok(()) => Ok(carried),
            Err(error @ KernelError::Corrupt { .. }) => {
                tracing::warn!(%error, "no data key is removed");
                Ok(ids.iter().cloned().collect())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How the secrets of this store are kept, looking at up to `limit` records. The store need not be unlocked: nothing is
    /// opened. May be asked while others write; counts are of one moment.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sealing_summary(&self, limit: usize) -> Result<SealingSummary, StoreError> {
        let (fields, complete) = self.count_secrets(limit).await?;
        let Some(doc) = self.data_keys_doc().await? else {
            let state = SealingState::Clear;
            return Ok(SealingSummary {
                state,
                key_encryption_keys: Vec::new(),
                data_keys: Vec::new(),
                fields,
                complete,
            });
        };
        let now = self.now();
        let state = if doc.clearing_since.is_some() { SealingState::Clearing } else { SealingState::Sealing };
        let source = |id: &str| {
            let given = self.given_keys()?.all().find(|key| key.id() == id)?;
            Some(given.source().to_owned())
        };
        let keys = doc.order.iter().map(|id| KeyEncryptionKeySummary {
            id: id.clone(),
            source: source(id),
            current: doc.order.last() == Some(id),
            needed: doc.needs(id),
        });
        let sealing = doc.keys.iter().rev().find(|key| key.seals_from <= now).filter(|_| doc.clearing_since.is_none());
        let data_keys = doc.keys.iter().map(|key| DataKeySummary {
            id: key.id.clone(),
            created_at: key.created_at,
            seals_from: key.seals_from,
            seals: sealing.is_some_and(|sealing| sealing.id == key.id),
            wrapped_with: key.wraps.iter().map(|wrap| wrap.kek.clone()).collect(),
        });
        Ok(SealingSummary {
            state,
            key_encryption_keys: keys.collect(),
            data_keys: data_keys.collect(),
            fields,
            complete,
        })
    }

    async fn count_secrets(&self, limit: usize) -> Result<(BTreeMap<Kind, FieldCounts>, bool), StoreError> {
        let mut fields: BTreeMap<Kind, FieldCounts> = BTreeMap::new();
        if limit == 0 {
            return Ok((fields, false));
        }
        let mut rest = limit;
        let mut snapshot = self.kernel().snapshot().await?;
        let complete = snapshot.left_out().is_empty();
        while let Some(batch) = snapshot.next().await? {
            for (kind, record) in batch.into_iter().filter(|(kind, _)| holds_secrets(*kind)) {
                if rest == 0 {
                    fields.retain(|_, counts| *counts != FieldCounts::default());
                    return Ok((fields, false));
                }
                rest -= 1;
                fields.entry(kind).or_default().count_record(kind, &record);
            }
        }
        fields.retain(|_, counts| *counts != FieldCounts::default());
        Ok((fields, complete))
    }
}

impl UnderWay {
    fn leave(&mut self, count: u64, why: String) {
        self.left += count;
        self.why_left.get_or_insert(why);
    }
}

/// Whether the store has said that it does not take this write, and nothing is known of its being unable to take others.
const fn is_refusal(error: &KernelError) -> bool {
    match error {
        KernelError::Unavailable { applied: Applied::No, trouble } => matches!(trouble, Trouble::Other(_)),
        KernelError::Id { .. } | KernelError::Data { .. } | KernelError::Corrupt { .. } => true,
        _ => false,
    }
}

fn unknown_field(kind: Kind, id: &str) -> String {
    format!("the {kind} record {id:?} holds a secret in a field that this version does not know: use the newer version")
}

fn lost() -> StoreError {
    StoreError::Contended { kind: Kind::DataKeys }
}

/// Records that end by themselves within an hour or so.
const fn is_short_lived(kind: Kind) -> bool {
    matches!(kind, Kind::Login | Kind::Code)
}

/// Whether records of this kind can hold a sealed field.
const fn holds_secrets(kind: Kind) -> bool {
    match kind {
        Kind::Login
        | Kind::Code
        | Kind::Family
        | Kind::SigningKeys
        | Kind::SealingKeys
        | Kind::Client
        | Kind::Password
        | Kind::Connector => true,
        // Ids, counts, and requests that the caller has sealed; data keys are wrapped.
        Kind::FamilyList | Kind::Failures | Kind::Request | Kind::DataKeys | Kind::Lease | Kind::Epoch => false,
    }
}

/// Shows `visit` each secret of a record, as the facades write them.
fn each_secret(kind: Kind, id: &str, record: &mut Value, visit: &mut dyn FnMut(Place<'_>, &mut Blob)) {
    let Some(doc) = record.get_mut("v") else { return };
    let mut field = |doc: &mut Value, id: &str, field: &'static str| {
        let Some(slot) = doc.get_mut(field).filter(|slot| slot.is_string()) else { return };
        let Value::String(text) = slot.take() else { return };
        let mut blob = Blob(text);
        visit(Place { kind, id, field }, &mut blob);
        *slot = Value::String(blob.0);
    };
    match kind {
        Kind::Login => field(doc, id, "connector_data"),
        Kind::Code => {
            if let Some(open) = doc.get_mut("open") {
                field(open, id, "connector_data");
            }
        }
        Kind::Family => {
            if let Some(live) = doc.get_mut("live") {
                field(live, id, "key");
                field(live, id, "connector_data");
            }
        }
        Kind::SigningKeys => each_key(doc, "kid", |key, kid| field(key, kid, "private")),
        Kind::SealingKeys => each_key(doc, "id", |key, id| field(key, id, "key")),
        Kind::Client => field(doc, id, "secret"),
        Kind::Password => field(doc, id, "hash"),
        Kind::Connector => field(doc, id, "config"),
        Kind::FamilyList | Kind::Failures | Kind::Request | Kind::DataKeys | Kind::Lease | Kind::Epoch => {}
    }
}

fn each_key(doc: &mut Value, name: &str, mut visit: impl FnMut(&mut Value, &str)) {
    let keys = doc.get_mut("keys").and_then(Value::as_array_mut).map(|keys| keys.iter_mut());
    for key in keys.into_iter().flatten() {
        if let Some(id) = key.get(name).and_then(Value::as_str).map(str::to_owned) {
            visit(key, &id);
        }
    }
}
