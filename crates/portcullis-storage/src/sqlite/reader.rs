//! The threads that read.

use portcullis_runtime::Timestamp;
use rusqlite::{Connection, Row};
use tokio::sync::{mpsc, oneshot};

use super::error::kernel_error;
use crate::{
    error::{Applied, KernelError},
    kernel::{IndexKey, Kind, Listing, MAX_PAGE_RECORDS, Mark, Page, Record, Slot, Version},
    snapshot::{Sink, unknown_kind},
};

pub(super) const GET: &str =
    "SELECT id, version, index1, index2, expires_at, data FROM record WHERE kind = ?1 AND id = ?2";
/// Reads the kind's part of the index, and of each row its head alone.
pub(super) const MARK: &str = "SELECT count(*), coalesce(sum(version), 0) FROM record WHERE kind = ?1";
pub(super) const LIST: &str = "SELECT id, version, index1, index2, expires_at, data FROM record \
     WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
pub(super) const BY_INDEX1: &str = "SELECT id, version, index1, index2, expires_at, data FROM record \
     WHERE kind = ?1 AND id > ?2 AND index1 = ?4 ORDER BY id LIMIT ?3";
pub(super) const BY_INDEX2: &str = "SELECT id, version, index1, index2, expires_at, data FROM record \
     WHERE kind = ?1 AND id > ?2 AND index2 = ?4 ORDER BY id LIMIT ?3";

pub(super) const KINDS_ABOVE: &str = "SELECT EXISTS (SELECT 1 FROM record WHERE kind > ?1)";

/// A question and where its answer goes.
pub(super) struct Query {
    pub(super) kind: Kind,
    pub(super) read: Read,
}

pub(super) enum Read {
    Get { id: String, reply: oneshot::Sender<Result<Option<Record>, KernelError>> },
    List { index: Option<(Slot, IndexKey)>, page: Page, reply: oneshot::Sender<Result<Listing, KernelError>> },
    Mark { reply: oneshot::Sender<Result<Mark, KernelError>> },
}

/// Answers queries until the queue is closed. A caller that has gone away is not read for.
pub(super) fn run(connection: &Connection, mut queue: mpsc::Receiver<Query>) {
    let failed = |error: rusqlite::Error| kernel_error(&error, Applied::No);
    while let Some(Query { kind, read }) = queue.blocking_recv() {
        match read {
            Read::Get { reply, .. } if reply.is_closed() => {}
            Read::List { reply, .. } if reply.is_closed() => {}
            Read::Mark { reply } if reply.is_closed() => {}
            Read::Get { id, reply } => {
                let _ = reply.send(get(connection, kind, &id).map_err(failed));
            }
            Read::List { index, page, reply } => {
                let _ = reply.send(list(connection, kind, index, &page).map_err(failed));
            }
            Read::Mark { reply } => {
                let _ = reply.send(mark(connection, kind).map_err(failed));
            }
        }
    }
}

/// Reads everything in one transaction. Says so as soon as the moment is fixed.
pub(super) fn snapshot(connection: &Connection, begun: oneshot::Sender<Result<(), KernelError>>, sink: Sink) {
    let failed = |error: &rusqlite::Error| kernel_error(error, Applied::No);
    // A transaction's moment is that of its first read.
    let fixed = connection
        .execute_batch("BEGIN")
        .and_then(|()| connection.query_row(KINDS_ABOVE, [Kind::LAST_CODE], |row| row.get::<_, bool>(0)));
    let fixed = match fixed {
        Ok(false) => Ok(()),
        Ok(true) => Err(unknown_kind("the file")),
        Err(error) => Err(failed(&error)),
    };
    let failure = fixed.is_err();
    if begun.send(fixed).is_err() || failure {
        return;
    }
    for kind in Kind::ALL {
        let mut page = Some(Page::first(MAX_PAGE_RECORDS));
        while let Some(current) = page {
            let Listing { records, next } = match list(connection, kind, None, &current) {
                Ok(listing) => listing,
                Err(error) => return sink.close_blocking(Err(failed(&error))),
            };
            if sink.put_blocking(records.into_iter().map(|record| (kind, record)).collect()).is_err() {
                return;
            }
            page = next;
        }
    }
    sink.close_blocking(Ok(()));
}

fn get(connection: &Connection, kind: Kind, id: &str) -> rusqlite::Result<Option<Record>> {
    let mut statement = connection.prepare_cached(GET)?;
    let mut rows = statement.query((kind.code(), id))?;
    rows.next()?.map(record).transpose()
}

fn mark(connection: &Connection, kind: Kind) -> rusqlite::Result<Mark> {
    let row = connection.prepare_cached(MARK)?.query_row([kind.code()], |row| Ok((row.get(0)?, row.get(1)?)));
    let (count, sum): (i64, i64) = row?;
    Ok(Mark(count.unsigned_abs(), sum.unsigned_abs()))
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
