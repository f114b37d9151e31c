//! The etcd kernel: one key for each record, the index entries beside it, changed in one transaction
//! (docs/decisions/0034, layout in `keys.rs`).
//!
//! A record's version is its key's modification revision: etcd counts revisions up over the whole store and never goes
//! back, so no version comes twice. Reads are linearizable. A write is one transaction on the record's revision; the
//! entries that it has to take away are known from the last reading of the same version, which a bounded cache keeps.
//!
//! Compaction takes nothing away that is read here: every read is of the present.

mod client;
mod endpoint;
mod error;
mod expire;
mod flight;
mod grpc;
mod keys;
mod options;
mod schema;
mod snapshot;
mod wire;

use std::{convert::Infallible, fmt, sync::Arc};

use portcullis_runtime::Timestamp;
use quick_cache::sync::Cache;

pub use self::options::{EtcdClientCertificate, EtcdCredentials, EtcdOpenError, EtcdOptions, EtcdTls};
use self::{
    client::Client,
    keys::{Entries, Keys, after, decode, end_of, revision, version},
    wire::{Compare, KeyValue, RangeRequest, RequestOp, TxnRequest, TxnResponse},
};
use crate::{
    error::KernelError,
    kernel::{
        Description, IndexKey, Kernel, KernelFuture, Kind, Listing, MAX_EXPIRE, MAX_PAGE_BYTES, Mark, Page, Record,
        Slot, Version, Write, check_id, check_write, walked_mark,
    },
    snapshot::Snapshot,
};

/// Records that are read in one call: their data is 8 MiB at most.
const BATCH: usize = 32;
/// Records whose entries are remembered.
const REMEMBERED: usize = 4096;

/// A store in etcd.
pub struct EtcdKernel {
    client: Arc<Client>,
    keys: Arc<Keys>,
    /// By a record's key: its other entries as of a version. What it says of a version stays true for ever.
    remembered: Cache<Vec<u8>, (Version, Entries)>,
}

/// What a list is a list of.
#[derive(Clone, Copy)]
enum Source {
    Kind,
    Index(Slot, IndexKey),
}

impl EtcdKernel {
    /// Finds a server and checks the store's schema, within `answer_time` for each of at most three calls.
    ///
    /// # Errors
    /// [`EtcdOpenError`], which never shows the password.
    pub async fn open(options: EtcdOptions) -> Result<Self, EtcdOpenError> {
        let kernel = Self::connect(options).await?;
        schema::check(&kernel.client, &kernel.keys).await?;
        Ok(kernel)
    }

    /// Opens a store that is there, for a tool that only reads: writes nothing.
    ///
    /// # Errors
    /// As [`EtcdKernel::open`].
    pub async fn look(options: EtcdOptions) -> Result<Self, EtcdOpenError> {
        let kernel = Self::connect(options).await?;
        if schema::look(&kernel.client, &kernel.keys).await? {
            return Ok(kernel);
        }
        Err(EtcdOpenError::Missing { place: kernel.description().place })
    }

    async fn connect(options: EtcdOptions) -> Result<Self, EtcdOpenError> {
        let tls = options.tls.clone().map(Arc::new);
        let servers = options.servers(tls.as_ref())?;
        if let Some(tls) = &tls {
            tls.client_config().await.map_err(|reason| EtcdOpenError::Settings { reason })?;
        }
        let client = Client::new(servers, options.credentials, options.dial_time, options.answer_time);
        let (client, keys) = (Arc::new(client), Arc::new(Keys::new(&options.namespace)));
        Ok(Self { client, keys, remembered: Cache::new(REMEMBERED) })
    }

    /// Reads a record by its key.
    async fn read(&self, kind: Kind, id: &str, key: Vec<u8>) -> Result<Option<Record>, KernelError> {
        let found = self.client.range(&RangeRequest::one(key.clone())).await?;
        let Some(entry) = found.kvs.into_iter().next() else { return Ok(None) };
        let record = decode(kind, id.to_owned(), entry.mod_revision, &entry.value)?;
        self.remember(key, &record);
        Ok(Some(record))
    }

    fn remember(&self, key: Vec<u8>, record: &Record) {
        let entries = Entries { index: record.index, expires_at: record.expires_at };
        self.remembered.insert(key, (record.version, entries));
    }

    /// The other entries of a record that has this version.
    async fn entries(&self, kind: Kind, id: &str, key: &[u8], expected: Version) -> Result<Entries, KernelError> {
        if let Some((version, entries)) = self.remembered.get(key)
            && version == expected
        {
            return Ok(entries);
        }
        let record = self.read(kind, id, key.to_vec()).await?.ok_or(KernelError::NotFound)?;
        if record.version != expected {
            return Err(KernelError::Conflict);
        }
        Ok(Entries { index: record.index, expires_at: record.expires_at })
    }

    /// The operations that turn the entries of `old` into those of `new`.
    fn change(&self, kind: Kind, id: &str, old: Entries, new: Entries) -> Vec<RequestOp> {
        let mut operations = Vec::new();
        if Kind::CONFIGURED.contains(&kind) {
            operations.push(RequestOp::put(self.keys.changed(kind), Vec::new()));
        }
        for (slot, (old, new)) in [Slot::First, Slot::Second].into_iter().zip(old.index.into_iter().zip(new.index)) {
            if old == new {
                continue;
            }
            operations.extend(old.map(|key| RequestOp::delete(self.keys.index(kind, slot, key, id))));
            operations.extend(new.map(|key| RequestOp::put(self.keys.index(kind, slot, key, id), Vec::new())));
        }
        if let Some(old) = old.expires_at.filter(|old| Some(*old) != new.expires_at) {
            operations.push(RequestOp::delete(self.keys.expiry(old, kind, id)));
        }
        if let Some(at) = new.expires_at {
            operations.push(RequestOp::put(self.keys.expiry(at, kind, id), keys::encode_expiry(new.index)));
        }
        operations
    }

    /// Writes a record whose key still has the revision `expected` (0: does not exist).
    async fn put(
        &self,
        kind: Kind,
        id: &str,
        expected: i64,
        old: Entries,
        write: Write,
    ) -> Result<Result<Version, TxnResponse>, KernelError> {
        let key = self.keys.record(kind, id);
        let new = Entries::from(&write);
        let mut success = self.change(kind, id, old, new);
        success.push(RequestOp::put(key.clone(), keys::encode(write)));
        let request = TxnRequest {
            compare: vec![Compare::changed_at(key.clone(), expected)],
            success,
            failure: vec![RequestOp::exists(key.clone())],
        };
        let response = self.client.write(&request).await?;
        if !response.succeeded {
            return Ok(Err(response));
        }
        let Some(header) = response.header else {
            return Err(KernelError::Corrupt { what: "etcd's answer has no revision".to_owned() });
        };
        let version = version(header.revision);
        self.remembered.insert(key, (version, new));
        Ok(Ok(version))
    }

    /// One page. A record is read after its index entry, and belongs to the page when it still has the key.
    async fn page(&self, kind: Kind, source: Source, page: &Page) -> Result<Listing, KernelError> {
        let limit = page.clamped_limit();
        let mut records = Vec::new();
        let mut bytes = 0_usize;
        let mut from = page.after.clone();
        // One more than the page holds tells whether there is a next one.
        while records.len() <= limit {
            let heavy = bytes >= MAX_PAGE_BYTES;
            let wanted = if heavy { 1 } else { (limit + 1 - records.len()).min(BATCH) };
            let (batch, last) = self.batch(kind, source, from.as_deref(), wanted).await?;
            let found = !batch.is_empty();
            for record in batch {
                bytes = bytes.saturating_add(record.data.len());
                records.push(record);
            }
            match last {
                Some(id) if !(heavy && found) => from = Some(id),
                Some(_) | None => break,
            }
        }
        let Ok(listing) = Listing::collect(page, records.into_iter().map(Ok::<_, Infallible>));
        Ok(listing)
    }

    /// Up to `limit` records after an id, and the id to go on from; `None` when there are no more.
    async fn batch(
        &self,
        kind: Kind,
        source: Source,
        from: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Record>, Option<String>), KernelError> {
        let prefix = match source {
            Source::Kind => self.keys.records(kind),
            Source::Index(slot, key) => self.keys.indexed(kind, slot, key),
        };
        let request = RangeRequest {
            range_end: end_of(&prefix),
            key: from.map_or_else(|| prefix.clone(), |id| after(prefix.clone(), id)),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            keys_only: matches!(source, Source::Index(..)),
            ..RangeRequest::default()
        };
        let found = self.client.range(&request).await?;
        let last = found.kvs.last().filter(|_| found.more).map(|entry| id_of(&entry.key, &prefix)).transpose()?;
        let records = match source {
            Source::Kind => self.records(kind, found.kvs)?,
            Source::Index(slot, key) => {
                let ids = found.kvs.iter().map(|entry| id_of(&entry.key, &prefix)).collect::<Result<Vec<_>, _>>()?;
                let mut records = self.records_of(kind, &ids).await?;
                records.retain(|record| indexed(record, slot) == Some(key));
                records
            }
        };
        Ok((records, last))
    }

    async fn records_of(&self, kind: Kind, ids: &[String]) -> Result<Vec<Record>, KernelError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let success = ids.iter().map(|id| RequestOp::get(self.keys.record(kind, id))).collect();
        let found = self.client.read(&TxnRequest { success, ..TxnRequest::default() }).await?;
        self.records(kind, found.found().collect())
    }

    fn records(&self, kind: Kind, entries: Vec<KeyValue>) -> Result<Vec<Record>, KernelError> {
        let prefix = self.keys.records(kind);
        let records = entries.into_iter().map(|entry| {
            let record = decode(kind, id_of(&entry.key, &prefix)?, entry.mod_revision, &entry.value)?;
            self.remember(entry.key, &record);
            Ok(record)
        });
        records.collect()
    }
}

const fn indexed(record: &Record, slot: Slot) -> Option<IndexKey> {
    let [first, second] = record.index;
    match slot {
        Slot::First => first,
        Slot::Second => second,
    }
}

/// The id at the end of a key.
fn id_of(key: &[u8], prefix: &[u8]) -> Result<String, KernelError> {
    let id = key.strip_prefix(prefix).and_then(|id| std::str::from_utf8(id).ok());
    id.map(ToOwned::to_owned).ok_or_else(|| KernelError::Corrupt {
        what: format!("the etcd key {:?} is not ours", String::from_utf8_lossy(key)),
    })
}

/// Why a comparison failed: the failure branch has asked whether the record exists.
fn missed(response: TxnResponse) -> KernelError {
    if response.found().next().is_some() { KernelError::Conflict } else { KernelError::NotFound }
}

impl Kernel for EtcdKernel {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        Box::pin(async move {
            check_id(id)?;
            self.read(kind, id, self.keys.record(kind, id)).await
        })
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            check_write(id, &write)?;
            let put = self.put(kind, id, 0, Entries::default(), write).await?;
            put.map_err(|_| KernelError::AlreadyExists)
        })
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            check_write(id, &write)?;
            let old = self.entries(kind, id, &self.keys.record(kind, id), version).await?;
            self.put(kind, id, revision(version), old, write).await?.map_err(missed)
        })
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        Box::pin(async move {
            check_id(id)?;
            let key = self.keys.record(kind, id);
            let old = self.entries(kind, id, &key, version).await?;
            let mut success = self.change(kind, id, old, Entries::default());
            success.push(RequestOp::delete(key.clone()));
            let request = TxnRequest {
                compare: vec![Compare::changed_at(key.clone(), revision(version))],
                success,
                failure: vec![RequestOp::exists(key.clone())],
            };
            let response = self.client.write(&request).await?;
            if response.succeeded {
                self.remembered.remove(key.as_slice());
                return Ok(());
            }
            Err(missed(response))
        })
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        Box::pin(async move { self.page(kind, Source::Kind, &page).await })
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        Box::pin(async move { self.page(kind, Source::Index(slot, key), &page).await })
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        Box::pin(async move { expire::expire(&self.client, &self.keys, now, limit.min(MAX_EXPIRE)).await })
    }

    /// The store at one revision, which etcd keeps until it is told to compact.
    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        Box::pin(async move { snapshot::begin(&self.client, &self.keys).await })
    }

    fn description(&self) -> Description {
        let place = schema::place(&self.client, &self.keys);
        Description { backend: "etcd", place, schema: schema::SCHEMA }
    }

    fn mark<'a>(&'a self, kind: Kind) -> KernelFuture<'a, Mark> {
        Box::pin(async move {
            if !Kind::CONFIGURED.contains(&kind) {
                return walked_mark(self, kind).await;
            }
            let found = self.client.range(&RangeRequest::one(self.keys.changed(kind))).await?;
            Ok(Mark(found.kvs.first().map_or(0, |entry| entry.mod_revision.unsigned_abs()), 0))
        })
    }
}

impl fmt::Debug for EtcdKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdKernel").field("client", &self.client).field("keys", &self.keys).finish_non_exhaustive()
    }
}
