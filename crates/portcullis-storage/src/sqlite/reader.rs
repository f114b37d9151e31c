//! The threads that read.

use portcullis_runtime::Timestamp;
use rusqlite::{Connection, Row};
use tokio::sync::{mpsc, oneshot};

use super::error::kernel_error;
use crate::{
    error::{Applied, KernelError},
    kernel::{IndexKey, Kind, Listing, Page, Record, Slot, Version},
};

pub(super) const GET: &str =
    "SELECT id, version, index1, index2, expires_at, data FROM record WHERE kind = ?1 AND id = ?2";
pub(super) const LIST: &str = "SELECT id, version, index1, index2, expires_at, data FROM record \
     WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
pub(super) const BY_INDEX1: &str = "SELECT id, version, index1, index2, expires_at, data FROM record \
     WHERE kind = ?1 AND id > ?2 AND index1 = ?4 ORDER BY id LIMIT ?3";
pub(super) const BY_INDEX2: &str = "SELECT id, version, index1, index2, expires_at, data FROM record \
     WHERE kind = ?1 AND id > ?2 AND index2 = ?4 ORDER BY id LIMIT ?3";

/// A question and where its answer goes.
pub(super) struct Query {
    pub(super) kind: Kind,
    pub(super) read: Read,
}

pub(super) enum Read {
    Get { id: String, reply: oneshot::Sender<Result<Option<Record>, KernelError>> },
    List { index: Option<(Slot, IndexKey)>, page: Page, reply: oneshot::Sender<Result<Listing, KernelError>> },
}

/// Answers queries until the queue is closed. A caller that has gone away is not read for.
pub(super) fn run(connection: &Connection, mut queue: mpsc::Receiver<Query>) {
    let failed = |error: rusqlite::Error| kernel_error(&error, Applied::No);
    while let Some(Query { kind, read }) = queue.blocking_recv() {
        match read {
            Read::Get { reply, .. } if reply.is_closed() => {}
            Read::List { reply, .. } if reply.is_closed() => {}
            Read::Get { id, reply } => {
                let _ = reply.send(get(connection, kind, &id).map_err(failed));
            }
            Read::List { index, page, reply } => {
                let _ = reply.send(list(connection, kind, index, &page).map_err(failed));
            }
        }
    }
}

fn get(connection: &Connection, kind: Kind, id: &str) -> rusqlite::Result<Option<Record>> {
    let mut statement = connection.prepare_cached(GET)?;
    let mut rows = statement.query((kind.code(), id))?;
    rows.next()?.map(record).transpose()
}

fn list(
    connection: &Connection,
    kind: Kind,
    index: Option<(Slot, IndexKey)>,
    page: &Page,
) -> rusqlite::Result<Listing> {
    let sql = match index {
        None => LIST,
        Some((Slot::First, _)) => BY_INDEX1,
        Some((Slot::Second, _)) => BY_INDEX2,
    };
    let mut statement = connection.prepare_cached(sql)?;
    // No id is empty, so every id comes after "". One more than the page tells whether there is another page.
    let after = page.after.as_deref().unwrap_or("");
    let limit = i64::try_from(page.clamped_limit() + 1).unwrap_or(i64::MAX);
    match index {
        None => Listing::collect(page, statement.query_map((kind.code(), after, limit), record)?),
        Some((_, key)) => {
            Listing::collect(page, statement.query_map((kind.code(), after, limit, key.as_bytes()), record)?)
        }
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let version: i64 = row.get(1)?;
    Ok(Record {
        id: row.get(0)?,
        version: Version::new(
            u64::try_from(version).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(1, version))?,
        ),
        index: [index_key(row, 2)?, index_key(row, 3)?],
        expires_at: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_unix_nanos),
        data: row.get(5)?,
    })
}

fn index_key(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<IndexKey>> {
    let Some(bytes) = row.get_ref(column)?.as_blob_or_null()? else { return Ok(None) };
    IndexKey::from_bytes(bytes).map(Some).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Blob,
            "an index key has 32 bytes".into(),
        )
    })
}
