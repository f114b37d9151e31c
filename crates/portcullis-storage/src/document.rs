//! How the facades write records: JSON with a request nonce, and answers that survive lost replies.
//!
//! A write that fails with [`Applied::Unknown`] is sent again. If it had taken effect, the second one meets its own
//! result: a conflict or an id that is taken. So after a doubtful attempt the record is read, and its nonce says whether
//! this call was the winner or lost the race to another one. A nonce is drawn once per call, never per attempt.

use portcullis_runtime::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use crate::{
    error::{Applied, KernelError, StoreError},
    kernel::{IndexKey, Kind, Record, Version, Write, check_id},
    store::Store,
};

/// How often one write or read is tried while its outcome is unknown.
const ATTEMPTS: usize = 4;
/// How often a change of a configured object is made anew after losing a race.
pub(crate) const RACES: usize = 64;

/// A record, read and decoded.
pub(crate) struct Stored<T> {
    pub(crate) version: Version,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) value: T,
}

/// The parts of a record that the kernel looks at.
#[derive(Clone, Copy, Default)]
pub(crate) struct Indexed {
    pub(crate) index: [Option<IndexKey>; 2],
    pub(crate) expires_at: Option<Timestamp>,
}

impl Indexed {
    pub(crate) const fn until(expires_at: Option<Timestamp>) -> Self {
        Self { index: [None, None], expires_at }
    }
}

/// How an insert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    Done(Version),
    Exists,
}

/// How a compare-and-swap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swapped {
    Done(Version),
    /// The record is gone or was changed by another call: read it again and decide anew.
    Lost,
}

#[derive(Serialize)]
struct EnvelopeRef<'a, T> {
    n: u64,
    v: &'a T,
}

#[derive(Deserialize)]
struct Envelope<T> {
    n: u64,
    v: T,
}

impl Store {
    /// Reads a record. An id that no record can have finds none.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Stored<T>>, StoreError> {
        let record = self.fetch(kind, id).await?;
        record.map(|record| decode(kind, &record)).transpose()
    }

    /// Reads a configured record as it is in force; see [`Kernel::recent`](crate::kernel::Kernel::recent).
    pub(crate) async fn recent<T: DeserializeOwned>(
        &self,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Stored<T>>, StoreError> {
        if check_id(id).is_err() {
            return Ok(None);
        }
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match self.kernel().recent(kind, id).await {
                Ok(record) => return record.map(|record| decode(kind, &record)).transpose(),
                Err(error) if is_doubtful(&error) => failure = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(given_up(kind, failure))
    }

    /// Writes a record that must not exist yet.
    pub(crate) async fn insert<T: Serialize>(
        &self,
        kind: Kind,
        id: &str,
        value: &T,
        indexed: Indexed,
    ) -> Result<Inserted, StoreError> {
        let (nonce, write) = self.encode(kind, value, indexed)?;
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match self.kernel().insert(kind, id, write.clone()).await {
                Ok(version) => return Ok(Inserted::Done(version)),
                Err(KernelError::AlreadyExists) if failure.is_none() => return Ok(Inserted::Exists),
                Err(KernelError::AlreadyExists) => {
                    let won = self.wrote(kind, id, nonce).await?;
                    return Ok(won.map_or(Inserted::Exists, Inserted::Done));
                }
                Err(error) if is_doubtful(&error) => failure = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(given_up(kind, failure))
    }

    /// Replaces a record that still has `version`.
    pub(crate) async fn swap<T: Serialize>(
        &self,
        kind: Kind,
        id: &str,
        version: Version,
        value: &T,
        indexed: Indexed,
    ) -> Result<Swapped, StoreError> {
        let (nonce, write) = self.encode(kind, value, indexed)?;
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match self.kernel().update(kind, id, version, write.clone()).await {
                Ok(version) => return Ok(Swapped::Done(version)),
                Err(KernelError::Conflict | KernelError::NotFound) if failure.is_none() => return Ok(Swapped::Lost),
                Err(KernelError::Conflict | KernelError::NotFound) => {
                    let won = self.wrote(kind, id, nonce).await?;
                    return Ok(won.map_or(Swapped::Lost, Swapped::Done));
                }
                Err(error) if is_doubtful(&error) => failure = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(given_up(kind, failure))
    }

    /// Deletes a record that still has `version`. True when it is gone, also when another call deleted it; false when
    /// it was changed.
    pub(crate) async fn remove(&self, kind: Kind, id: &str, version: Version) -> Result<bool, StoreError> {
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match self.kernel().delete(kind, id, version).await {
                Ok(()) | Err(KernelError::NotFound) => return Ok(true),
                Err(KernelError::Conflict) => return Ok(false),
                Err(error) if is_doubtful(&error) => failure = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(given_up(kind, failure))
    }

    /// Deletes a record in whatever version it is; false when there was none.
    pub(crate) async fn remove_any(&self, kind: Kind, id: &str) -> Result<bool, StoreError> {
        for _ in 0..RACES {
            let Some(record) = self.fetch(kind, id).await? else { return Ok(false) };
            if self.remove(kind, id, record.version).await? {
                return Ok(true);
            }
        }
        Err(StoreError::Contended { kind })
    }

    async fn fetch(&self, kind: Kind, id: &str) -> Result<Option<Record>, StoreError> {
        if check_id(id).is_err() {
            return Ok(None);
        }
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match self.kernel().get(kind, id).await {
                Ok(record) => return Ok(record),
                Err(error) if is_doubtful(&error) => failure = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(given_up(kind, failure))
    }

    /// The record's version if the write with this nonce was the last one to it.
    async fn wrote(&self, kind: Kind, id: &str, nonce: u64) -> Result<Option<Version>, StoreError> {
        let Some(record) = self.fetch(kind, id).await? else { return Ok(None) };
        let envelope: Envelope<IgnoredAny> =
            serde_json::from_slice(&record.data).map_err(|error| damaged(kind, &record.id, &error))?;
        Ok((envelope.n == nonce).then_some(record.version))
    }

    fn encode<T: Serialize>(&self, kind: Kind, value: &T, indexed: Indexed) -> Result<(u64, Write), StoreError> {
        let nonce = u64::from_be_bytes(self.rng().bytes());
        let mut data = Vec::with_capacity(1024);
        serde_json::to_writer(&mut data, &EnvelopeRef { n: nonce, v: value })
            .map_err(|error| StoreError::Unwritable { kind, what: error.to_string() })?;
        Ok((nonce, Write { index: indexed.index, expires_at: indexed.expires_at, data }))
    }
}

/// Decodes a record that a list returned.
pub(crate) fn decode<T: DeserializeOwned>(kind: Kind, record: &Record) -> Result<Stored<T>, StoreError> {
    let envelope: Envelope<T> =
        serde_json::from_slice(&record.data).map_err(|error| damaged(kind, &record.id, &error))?;
    Ok(Stored { version: record.version, expires_at: record.expires_at, value: envelope.v })
}

const fn is_doubtful(error: &KernelError) -> bool {
    matches!(error, KernelError::Unavailable { applied: Applied::Unknown, .. })
}

fn given_up(kind: Kind, failure: Option<KernelError>) -> StoreError {
    failure.map_or(StoreError::Contended { kind }, StoreError::Kernel)
}

/// Serde's message can quote content; its category and position do not.
fn damaged(kind: Kind, id: &str, error: &serde_json::Error) -> StoreError {
    let what = format!("{:?} error at byte {} of its data", error.classify(), error.column());
    StoreError::Damaged { kind, id: id.to_owned(), what }
}
