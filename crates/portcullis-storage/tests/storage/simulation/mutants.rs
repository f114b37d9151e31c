//! Kernels with one fault each.
//!
//! Some faults are those that a kernel could have. Most are those of a facade, made where they show: a facade that does
//! not look at the expiry of a code behaves as one to which the store shows codes that never expire.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis_runtime::Timestamp;
use portcullis_storage::{
    Kernel, KernelError, MemoryKernel, Snapshot,
    kernel::{Description, IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write},
};
use serde_json::{Value, json};

use crate::kit::DAY;

/// The years that are long ago and far away.
const NEVER_OVER: i64 = 9_000_000_000_000;
const LONG_AGO: i64 = 1_000_000_000_000;

macro_rules! bugs {
    ($($bug:ident: $($promise:literal)|*),+ $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Bug {
            None,
            $($bug),+
        }

        impl Bug {
            pub(super) const ALL: &'static [Self] = &[$(Self::$bug),+];

            /// The promises of which one must be found broken; any will do when there is none.
            pub(super) const fn breaks(self) -> &'static [&'static str] {
                match self {
                    Self::None => &[],
                    $(Self::$bug => &[$($promise),*]),+
                }
            }
        }
    };
}

bugs! {
    // Faults of a kernel, which break any promise.
    UpdatesIgnoreTheVersion:,
    InsertsOverwrite:,
    DeletesIgnoreTheVersion: "R1" | "N2",
    ReadsAreStale:,
    RepliesAreAnothers:,
    CollectsTwoMonthsEarly:,
    // Faults in how facades write.
    NoncesAreForgotten:,
    TombstonesAreDropped: "C2" | "F3" | "F2" | "F9",
    RedemptionsAreNotStored: "C1",
    RotationsAreNotStored: "F1" | "F2" | "F3",
    IssuedCodesAreNotStored: "L4" | "L3",
    DenialsAreNotStored: "L3",
    // Faults of the transitions.
    CodesNeverExpire: "C5",
    LoginsNeverExpire: "L2",
    FamiliesNeverExpire: "F6",
    GraceIsNeverOver: "F2",
    GraceIsIgnored: "F4" | "F2",
    PreviousIsKeptTooLong: "F2" | "F4",
    CodesDoNotFixTheFamily: "C2" | "F3",
    RevocationMissesWhatIsBeingCreated: "F9",
    TheListHasNoLimit: "F8" | "F9",
    TheListForgetsWhomItEnds: "F9" | "F3" | "F8",
    ClientChangesGetLost: "O1",
    FirstKeysAreMadeTwice: "K1",
    KeysAreRotatedTwice: "K1",
    SealingKeysAreDroppedEarly: "K2",
    FailuresAreWrittenTwice: "N3",
    FailuresAreNotWritten: "N2",
    RequestSlotsAreTakenTwice: "R1",
    RequestsNeverExpire: "R1",
    EpochsAreNotStored: "F3",
    LeasesRunOutAtOnce: "T1",
    FirstLeasesAreTakenTwice: "T1",
    LeaseTakeoversOverwriteRenewals: "T1",
    // Faults of sealing.
    DataKeysAreDroppedWithTheNext: "S2" | "S7",
    DataKeysAreMadeTwice: "S2" | "S7",
    SweepsAreNotStored: "S5",
    SweepsOverwriteRotations: "F1" | "F2" | "F3" | "F4" | "F5",
}

pub(super) struct Mutant {
    inner: MemoryKernel,
    bug: Bug,
    /// Of the last record that was replaced or read: what it was before.
    before: Mutex<Option<(Kind, Record)>>,
    operations: AtomicU64,
    /// Of all families that were written.
    nonces: Mutex<HashSet<u64>>,
}

fn parse(data: &[u8]) -> Value {
    serde_json::from_slice(data).unwrap()
}

fn nonce(data: &[u8]) -> u64 {
    parse(data)["n"].as_u64().unwrap()
}

fn says(write: &Write, what: &str) -> bool {
    write.data.windows(what.len()).any(|window| window == what.as_bytes())
}

impl Mutant {
    pub(super) fn new(inner: MemoryKernel, bug: Bug) -> Self {
        Self { inner, bug, before: Mutex::new(None), operations: AtomicU64::new(0), nonces: Mutex::new(HashSet::new()) }
    }

    fn every(&self, nth: u64) -> bool {
        self.operations.fetch_add(1, Ordering::Relaxed).is_multiple_of(nth)
    }

    /// Whether a write is acknowledged and not carried out.
    fn drops(&self, kind: Kind, write: &Write) -> bool {
        match (self.bug, kind) {
            (Bug::TombstonesAreDropped, Kind::Family) => says(write, "\"ended\""),
            (Bug::RedemptionsAreNotStored, Kind::Code) => says(write, "\"redeemed\""),
            (Bug::RotationsAreNotStored, Kind::Family) => says(write, "\"previous\""),
            (Bug::IssuedCodesAreNotStored, Kind::Login) => says(write, "\"code_issued\""),
            (Bug::DenialsAreNotStored, Kind::Login) => says(write, "\"denied\""),
            (Bug::ClientChangesGetLost, Kind::Client) => self.every(4),
            (Bug::FailuresAreNotWritten, Kind::Failures) | (Bug::EpochsAreNotStored, Kind::Epoch) => true,
            _ => false,
        }
    }

    /// What the store shows instead of a record.
    async fn shown(&self, kind: Kind, record: &mut Record) -> Result<(), KernelError> {
        let mut doc = match (self.bug, kind) {
            (Bug::NoncesAreForgotten, _)
            | (Bug::LoginsNeverExpire, Kind::Login)
            | (Bug::FamiliesNeverExpire | Bug::GraceIsNeverOver | Bug::GraceIsIgnored, Kind::Family)
            | (Bug::CodesNeverExpire | Bug::CodesDoNotFixTheFamily, Kind::Code)
            | (Bug::RevocationMissesWhatIsBeingCreated | Bug::TheListHasNoLimit, Kind::FamilyList)
            | (Bug::RequestSlotsAreTakenTwice | Bug::RequestsNeverExpire, Kind::Request)
            | (Bug::FailuresAreWrittenTwice, Kind::Failures)
            | (Bug::LeasesRunOutAtOnce, Kind::Lease) => parse(&record.data),
            _ => return Ok(()),
        };
        match self.bug {
            Bug::NoncesAreForgotten | Bug::FailuresAreWrittenTwice => doc["n"] = json!(0),
            Bug::CodesNeverExpire => {
                let state = &mut doc["v"];
                if let Some(open) = state.get_mut("open") {
                    open["expires_at"] = json!(NEVER_OVER);
                }
            }
            Bug::LoginsNeverExpire | Bug::RequestsNeverExpire => doc["v"]["expires_at"] = json!(NEVER_OVER),
            Bug::FamiliesNeverExpire | Bug::GraceIsNeverOver => {
                if let Some(live) = doc["v"].get_mut("live")
                    && live["previous"].is_null() == (self.bug == Bug::FamiliesNeverExpire)
                {
                    live["family"]["last_used"] = json!(NEVER_OVER);
                }
            }
            Bug::GraceIsIgnored => {
                if let Some(live) = doc["v"].get_mut("live").and_then(Value::as_object_mut) {
                    live.remove("previous");
                }
            }
            Bug::CodesDoNotFixTheFamily => {
                if let Some(redeemed) = doc["v"].get_mut("redeemed") {
                    redeemed["family"] = json!(format!("another {}", self.operations.fetch_add(1, Ordering::Relaxed)));
                }
            }
            Bug::RevocationMissesWhatIsBeingCreated => {
                let mut there = Vec::new();
                for entry in doc["v"]["families"].as_array().unwrap() {
                    if self.inner.get(Kind::Family, entry["id"].as_str().unwrap()).await?.is_some() {
                        there.push(entry.clone());
                    }
                }
                doc["v"]["families"] = Value::Array(there);
            }
            Bug::TheListHasNoLimit => doc["v"]["families"].as_array_mut().unwrap().truncate(31),
            Bug::LeasesRunOutAtOnce => doc["v"]["seconds"] = json!(0),
            Bug::RequestSlotsAreTakenTwice => doc["v"]["expires_at"] = json!(LONG_AGO),
            _ => {}
        }
        record.data = serde_json::to_vec(&doc).unwrap();
        Ok(())
    }

    /// What is stored instead of what is written over `old`.
    fn stored(&self, kind: Kind, old: &Record, write: &mut Write) {
        match (self.bug, kind) {
            (Bug::PreviousIsKeptTooLong, Kind::Family) => {
                let (before, mut doc) = (parse(&old.data), parse(&write.data));
                let oldest = &before["v"]["live"]["previous"];
                if !oldest.is_null() && doc["v"].get("live").is_some() {
                    doc["v"]["live"]["previous"] = oldest.clone();
                    write.data = serde_json::to_vec(&doc).unwrap();
                }
            }
            (Bug::TheListForgetsWhomItEnds, Kind::FamilyList) => {
                let mut doc = parse(&write.data);
                doc["v"].as_object_mut().unwrap().remove("ending");
                write.data = serde_json::to_vec(&doc).unwrap();
            }
            (Bug::SealingKeysAreDroppedEarly, Kind::SealingKeys)
            | (Bug::DataKeysAreDroppedWithTheNext, Kind::DataKeys) => {
                let mut doc = parse(&write.data);
                let keys = doc["v"]["keys"].as_array_mut().unwrap();
                keys.drain(..keys.len() - 1);
                write.data = serde_json::to_vec(&doc).unwrap();
            }
            _ => {}
        }
    }

    fn ignores_the_version(&self, kind: Kind) -> bool {
        match self.bug {
            Bug::UpdatesIgnoreTheVersion => true,
            Bug::KeysAreRotatedTwice => kind == Kind::SigningKeys,
            Bug::DataKeysAreMadeTwice => kind == Kind::DataKeys,
            Bug::LeaseTakeoversOverwriteRenewals => kind == Kind::Lease,
            _ => false,
        }
    }

    /// A sweep keeps the request nonce of what it seals again, and nothing else does that.
    fn is_a_sweep_that_is_dropped(&self, old: &Record, write: &Write) -> bool {
        self.bug == Bug::SweepsAreNotStored && nonce(&old.data) == nonce(&write.data)
    }

    /// The nonce of an earlier version is that of a sweep, or of a write that is repeated.
    fn is_a_sweep_that_overwrites(&self, kind: Kind, write: &Write) -> bool {
        self.bug == Bug::SweepsOverwriteRotations
            && kind == Kind::Family
            && !self.nonces.lock().unwrap().insert(nonce(&write.data))
    }

    fn overwrites(&self, kind: Kind) -> bool {
        match self.bug {
            Bug::InsertsOverwrite => true,
            Bug::FirstKeysAreMadeTwice => kind == Kind::SigningKeys,
            Bug::FirstLeasesAreTakenTwice => kind == Kind::Lease,
            _ => false,
        }
    }
}

impl Kernel for Mutant {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        Box::pin(async move {
            let Some(mut record) = self.inner.get(kind, id).await? else { return Ok(None) };
            match self.bug {
                Bug::ReadsAreStale if self.every(3) => {
                    let before = self.before.lock().unwrap().clone();
                    if let Some((_, before)) = before.filter(|(of, before)| *of == kind && before.id == id) {
                        return Ok(Some(before));
                    }
                }
                Bug::RepliesAreAnothers => {
                    let last = self.before.lock().unwrap().replace((kind, record.clone()));
                    if let Some((_, last)) = last.filter(|(of, _)| *of == kind && self.every(8)) {
                        return Ok(Some(last));
                    }
                }
                _ => self.shown(kind, &mut record).await?,
            }
            Ok(Some(record))
        })
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            if self.drops(kind, &write) {
                return Ok(Version::new(1));
            }
            let _noted = self.is_a_sweep_that_overwrites(kind, &write);
            match self.inner.get(kind, id).await? {
                Some(old) if self.overwrites(kind) => self.inner.update(kind, id, old.version, write).await,
                _ => self.inner.insert(kind, id, write).await,
            }
        })
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, mut write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            let old = self.inner.get(kind, id).await?.ok_or(KernelError::NotFound)?;
            if old.version == version && (self.drops(kind, &write) || self.is_a_sweep_that_is_dropped(&old, &write)) {
                return Ok(version);
            }
            self.stored(kind, &old, &mut write);
            let ignores = self.ignores_the_version(kind) || self.is_a_sweep_that_overwrites(kind, &write);
            let version = if ignores { old.version } else { version };
            let updated = self.inner.update(kind, id, version, write).await?;
            if self.bug == Bug::ReadsAreStale {
                *self.before.lock().unwrap() = Some((kind, old));
            }
            Ok(updated)
        })
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        Box::pin(async move {
            let old = self.inner.get(kind, id).await?.ok_or(KernelError::NotFound)?;
            let version = if self.bug == Bug::DeletesIgnoreTheVersion { old.version } else { version };
            self.inner.delete(kind, id, version).await
        })
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        self.inner.list(kind, page)
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        Box::pin(async move {
            let mut listing = self.inner.by_index(kind, slot, key, page).await?;
            for record in &mut listing.records {
                self.shown(kind, record).await?;
            }
            Ok(listing)
        })
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        let early = if self.bug == Bug::CollectsTwoMonthsEarly { 60 * DAY } else { std::time::Duration::ZERO };
        self.inner.expire(now + early, limit)
    }

    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        self.inner.snapshot()
    }

    fn description(&self) -> Description {
        self.inner.description()
    }
}
