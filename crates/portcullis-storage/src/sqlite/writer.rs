//! The thread that writes: group commit.
//!
//! What has queued up while the last transaction was being written goes into the next one together. When an operation
//! fails for another reason than a conflict, the whole transaction is rolled back and its operations are run again one
//! by one, each in a transaction of its own, so that none suffers for another. Nobody is answered before the commit.

use std::time::{Duration, Instant};

use portcullis_runtime::Timestamp;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    error::{is_of_the_index, kernel_error},
    schema::{Versions, reserve_versions},
};
use crate::{
    batch,
    error::{Applied, KernelError, Trouble},
    kernel::{IndexKey, Kind, Version, Write},
};

/// Most operations in one transaction.
const GROUP: usize = 256;
/// A transaction takes no further operation once it has this much data.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

const INSERT: &str = "INSERT INTO record (kind, id, version, index1, index2, expires_at, data) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
/// Names no indexed column in `SET`, so that the common update touches no index.
pub(super) const UPDATE_DATA: &str = "UPDATE record SET version = ?3, data = ?7 \
     WHERE kind = ?1 AND id = ?2 AND version = ?8 AND index1 IS ?4 AND index2 IS ?5 AND expires_at IS ?6";
const UPDATE: &str = "UPDATE record SET version = ?3, data = ?7, index1 = ?4, index2 = ?5, expires_at = ?6 \
     WHERE kind = ?1 AND id = ?2 AND version = ?8";
const DELETE: &str = "DELETE FROM record WHERE kind = ?1 AND id = ?2 AND version = ?3";
const EXISTS: &str = "SELECT 1 FROM record WHERE kind = ?1 AND id = ?2";
/// The length of a record's data stands before it, so that no data is read.
pub(super) const OVER: &str =
    "SELECT row, length(data) FROM record WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2";
const DELETE_ROW: &str = "DELETE FROM record WHERE row = ?1";

/// An operation and where its answer goes.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Answer, KernelError>>,
}

pub(super) enum Work {
    Insert {
        kind: Kind,
        id: String,
        write: Write,
    },
    Update {
        kind: Kind,
        id: String,
        version: Version,
        write: Write,
    },
    Delete {
        kind: Kind,
        id: String,
        version: Version,
    },
    /// As many of those that are over as one transaction is to delete.
    Expire {
        now: Timestamp,
        limit: usize,
    },
}

impl Work {
    const fn bytes(&self) -> usize {
        match self {
            Self::Insert { write, .. } | Self::Update { write, .. } => write.data.len(),
            Self::Delete { .. } => 0,
            // The last of its transaction: whoever comes after it waits for no second one.
            Self::Expire { .. } => GROUP_BYTES,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Answer {
    Version(Version),
    Deleted,
    Expired(Expired),
}

/// What of the records that are over was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expired {
    pub(super) records: usize,
    /// Whether others are over that this transaction had no room for.
    pub(super) more: bool,
}

/// Runs jobs until the queue is closed and empty.
pub(super) fn run(connection: Connection, versions: Versions, mut queue: mpsc::Receiver<Job>) {
    let mut writer = Writer::new(connection, versions);
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = queue.blocking_recv() {
        let mut bytes = first.work.bytes();
        group.push(first);
        while group.len() < GROUP && bytes < GROUP_BYTES {
            let Ok(next) = queue.try_recv() else { break };
            bytes += next.work.bytes();
            group.push(next);
        }
        writer.answer(&mut group);
    }
}

struct Writer {
    connection: Connection,
    versions: Versions,
    /// How many records the collector's next transaction deletes.
    batch: usize,
    /// Why the last transaction failed, when it did.
    failing: Option<KernelError>,
}

/// Why a transaction came to nothing.
enum Failure {
    /// One of its operations failed; the others may succeed without it.
    Operation(KernelError),
    /// It could not begin or commit.
    Transaction(KernelError),
}

impl Writer {
    const fn new(connection: Connection, versions: Versions) -> Self {
        Self { connection, versions, batch: batch::FIRST, failing: None }
    }

    /// Runs a group and empties it.
    fn answer(&mut self, group: &mut Vec<Job>) {
        match self.transact(group) {
            Ok(answers) => {
                if self.failing.take().is_some() {
                    tracing::info!(file = self.connection.path(), "the store is written again");
                }
                for (job, answer) in group.drain(..).zip(answers) {
                    let _ = job.reply.send(answer);
                }
            }
            Err(Failure::Operation(_)) if group.len() > 1 => {
                for job in group.drain(..) {
                    let mut alone = vec![job];
                    self.answer(&mut alone);
                }
            }
            Err(Failure::Operation(error) | Failure::Transaction(error)) => {
                // Each request is told; the log, when it is another error than before.
                if self.failing.as_ref() != Some(&error) {
                    tracing::error!(file = self.connection.path(), "the store could not write: {error}");
                    self.failing = Some(error.clone());
                }
                for job in group.drain(..) {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// One transaction. The answers are valid once this has returned them: after the commit.
    fn transact(&mut self, group: &[Job]) -> Result<Vec<Result<Answer, KernelError>>, Failure> {
        let not_begun = |error: rusqlite::Error| Failure::Transaction(kernel_error(&error, Applied::No));
        if !self.versions.has(group.len()) {
            self.versions = reserve_versions(&mut self.connection).map_err(not_begun)?;
        }
        self.execute("BEGIN IMMEDIATE").map_err(not_begun)?;
        let begun = Instant::now();
        let mut answers = Vec::with_capacity(group.len());
        for job in group {
            match self.perform(&job.work) {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    self.roll_back();
                    return Err(Failure::Operation(kernel_error(&error, Applied::No)));
                }
            }
        }
        self.execute("COMMIT").map_err(|error| {
            self.roll_back();
            Failure::Transaction(commit_error(&error))
        })?;
        self.learn(&answers, begun.elapsed());
        Ok(answers)
    }

    /// How long the lock was held tells how much the next transaction of the collector deletes, when this one deleted as many as
    /// it was to.
    fn learn(&mut self, answers: &[Result<Answer, KernelError>], took: Duration) {
        let full = |answer: &_| matches!(answer, Ok(Answer::Expired(expired)) if expired.records == self.batch);
        if answers.iter().any(full) {
            self.batch = batch::next(self.batch, took);
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    /// SQLite may have rolled back by itself.
    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!("the store could not roll back: {error}");
        }
    }

    /// One operation within the transaction. The inner result is the caller's answer; the outer error is trouble.
    fn perform(&mut self, work: &Work) -> rusqlite::Result<Result<Answer, KernelError>> {
        match work {
            Work::Insert { kind, id, write } => {
                let Some(new) = self.versions.next() else { return Ok(Err(out_of_versions())) };
                let inserted = self.connection.prepare_cached(INSERT)?.execute((
                    kind.code(),
                    id,
                    new,
                    write.index[0].as_ref().map(IndexKey::as_bytes),
                    write.index[1].as_ref().map(IndexKey::as_bytes),
                    write.expires_at.map(Timestamp::unix_nanos),
                    &write.data,
                ))?;
                Ok(if inserted == 1 { Ok(version(new)) } else { Err(KernelError::AlreadyExists) })
            }
            Work::Update { kind, id, version: old, write } => {
                let Some(new) = self.versions.next() else { return Ok(Err(out_of_versions())) };
                let old = i64::try_from(old.number()).unwrap_or(i64::MAX);
                for sql in [UPDATE_DATA, UPDATE] {
                    let updated = self.connection.prepare_cached(sql)?.execute((
                        kind.code(),
                        id,
                        new,
                        write.index[0].as_ref().map(IndexKey::as_bytes),
                        write.index[1].as_ref().map(IndexKey::as_bytes),
                        write.expires_at.map(Timestamp::unix_nanos),
                        &write.data,
                        old,
                    ))?;
                    if updated == 1 {
                        return Ok(Ok(version(new)));
                    }
                }
                self.missed(*kind, id).map(Err)
            }
            Work::Delete { kind, id, version: old } => {
                let old = i64::try_from(old.number()).unwrap_or(i64::MAX);
                let deleted = self.connection.prepare_cached(DELETE)?.execute((kind.code(), id, old))?;
                if deleted == 1 { Ok(Ok(Answer::Deleted)) } else { self.missed(*kind, id).map(Err) }
            }
            Work::Expire { now, limit } => self.expire(*now, *limit).map(|expired| Ok(Answer::Expired(expired))),
        }
    }

    /// Deletes what one transaction is to delete: no more than the time of the last one admits, and no more than a few large ones.
    fn expire(&self, now: Timestamp, limit: usize) -> rusqlite::Result<Expired> {
        let batch = i64::try_from(self.batch.min(limit)).unwrap_or(i64::MAX);
        let mut over = self.connection.prepare_cached(OVER)?;
        let over = over.query_map((now.unix_nanos(), batch), |row| {
            let bytes: i64 = row.get(1)?;
            Ok((row.get(0)?, usize::try_from(bytes).unwrap_or(usize::MAX)))
        })?;
        let over: Vec<(i64, usize)> = over.collect::<rusqlite::Result<_>>()?;
        let records = batch::fitting(over.iter().map(|(_, bytes)| *bytes));
        let mut delete = self.connection.prepare_cached(DELETE_ROW)?;
        for (row, _) in over.iter().take(records) {
            delete.execute([row])?;
        }
        Ok(Expired { records, more: records < over.len() || over.len() >= self.batch.min(limit) })
    }

    /// Why a compare-and-swap met nothing.
    fn missed(&self, kind: Kind, id: &str) -> rusqlite::Result<KernelError> {
        let exists = self.connection.prepare_cached(EXISTS)?.exists((kind.code(), id))?;
        Ok(if exists { KernelError::Conflict } else { KernelError::NotFound })
    }
}

const fn version(number: i64) -> Answer {
    Answer::Version(Version::new(number.unsigned_abs()))
}

/// Cannot happen: enough numbers are reserved before a transaction begins.
fn out_of_versions() -> KernelError {
    KernelError::not_applied(Trouble::Other("no version number is left".to_owned()))
}

/// What a failed commit means. When the disk was full, or the file at its limit, the log's last frame is not whole, and never
/// counts; after any other failure (of `fsync`, or of the log's index, which comes after it) it may be found whole after a crash.
fn commit_error(error: &rusqlite::Error) -> KernelError {
    match kernel_error(error, Applied::Unknown) {
        unknown if is_of_the_index(error) => unknown,
        KernelError::Unavailable {
            trouble: trouble @ (Trouble::DiskFull | Trouble::FileLimit | Trouble::Locked | Trouble::ReadOnly),
            ..
        } => KernelError::not_applied(trouble),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema::{MIGRATIONS, migrate};

    fn writer(mut connection: Connection) -> Writer {
        assert!(migrate(&mut connection, MIGRATIONS, Timestamp::UNIX_EPOCH).is_ok());
        let versions = reserve_versions(&mut connection).unwrap();
        Writer::new(connection, versions)
    }

    type Reply = oneshot::Receiver<Result<Answer, KernelError>>;

    fn insert(id: &str, bytes: usize) -> (Job, Reply) {
        let (reply, answer) = oneshot::channel();
        let write = Write { data: vec![b'x'; bytes], ..Write::default() };
        (Job { work: Work::Insert { kind: Kind::Client, id: id.to_owned(), write }, reply }, answer)
    }

    fn outcome(reply: &mut Reply) -> Result<(), KernelError> {
        reply.try_recv().unwrap().map(|_| ())
    }

    fn stored(writer: &Writer) -> Vec<String> {
        let mut statement = writer.connection.prepare("SELECT id FROM record ORDER BY id").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn what_may_be_in_the_log_is_not_said_to_be_in_no_store() {
        let of =
            |extended: i32| commit_error(&rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(extended), None));
        let applied = |error| matches!(error, KernelError::Unavailable { applied: Applied::Unknown, .. });
        assert!(!applied(of(rusqlite::ffi::SQLITE_FULL)));
        assert!(applied(of(rusqlite::ffi::SQLITE_IOERR_FSYNC)));
        assert!(applied(of(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)));
        assert!(is_of_the_index(&rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_SHMSIZE),
            None
        )));
    }

    #[test]
    fn what_does_not_fit_on_the_disk_fails_alone() {
        let mut writer = writer(Connection::open_in_memory().unwrap());
        writer.connection.pragma_update(None, "max_page_count", 30).unwrap();
        let (jobs, mut replies): (Vec<_>, Vec<_>) =
            [insert("a", 10), insert("b", 200_000), insert("c", 10), insert("a", 10)].into_iter().unzip();
        writer.answer(&mut { jobs });
        let outcomes: Vec<_> = replies.iter_mut().map(outcome).collect();
        let full = Err(KernelError::not_applied(Trouble::DiskFull));
        assert_eq!(outcomes, [Ok(()), full, Ok(()), Err(KernelError::AlreadyExists)]);
        assert_eq!(stored(&writer), ["a", "c"]);
        assert!(writer.connection.is_autocommit(), "no transaction is left open");
    }

    #[test]
    fn a_store_that_cannot_be_written_says_so_and_goes_on_when_it_can() {
        let mut writer = writer(Connection::open_in_memory().unwrap());
        writer.connection.pragma_update(None, "query_only", true).unwrap();
        let (job, mut reply) = insert("a", 10);
        writer.answer(&mut vec![job]);
        assert_eq!(outcome(&mut reply), Err(KernelError::not_applied(Trouble::ReadOnly)));
        writer.connection.pragma_update(None, "query_only", false).unwrap();
        let (job, mut reply) = insert("a", 10);
        writer.answer(&mut vec![job]);
        assert_eq!(outcome(&mut reply), Ok(()));
    }

    #[test]
    fn version_blocks_are_renewed_between_transactions() {
        let mut writer = writer(Connection::open_in_memory().unwrap());
        while writer.versions.has(2) {
            writer.versions.next();
        }
        for id in ["a", "b", "c"] {
            let (job, mut reply) = insert(id, 1);
            let (other, mut other_reply) = insert(&format!("{id}{id}"), 1);
            writer.answer(&mut vec![job, other]);
            assert_eq!((outcome(&mut reply), outcome(&mut other_reply)), (Ok(()), Ok(())));
        }
        let mut statement = writer.connection.prepare("SELECT count(DISTINCT version) FROM record").unwrap();
        assert_eq!(statement.query_row([], |row| row.get::<_, i64>(0)).unwrap(), 6);
    }

    /// Frames in the write-ahead log after 200 inserts that were queued before the writer began, or came one by one.
    fn frames(together: bool) -> i64 {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("store.db")).unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        let _: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
        let Writer { connection, versions, .. } = writer(connection);
        let other = Connection::open(folder.path().join("store.db")).unwrap();
        let _: (i64, i64) =
            other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let jobs = (0..200).map(|number| insert(&number.to_string(), 10));
        if together {
            let (sender, queue) = mpsc::channel(200);
            for (job, _) in jobs {
                assert!(sender.try_send(job).is_ok());
            }
            drop(sender);
            run(connection, versions, queue);
        } else {
            let mut writer = Writer::new(connection, versions);
            for (job, _) in jobs {
                writer.answer(&mut vec![job]);
            }
        }
        let count: i64 = other.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 200);
        let bytes = std::fs::metadata(folder.path().join("store.db-wal")).map_or(0, |log| log.len());
        i64::try_from(bytes / 4096).unwrap()
    }

    #[test]
    fn what_has_queued_up_shares_one_transaction() {
        assert!(frames(false) >= 400);
        let shared = frames(true);
        assert!(shared < 40, "{shared} frames");
    }

    /// Records that are over at 10, with so much data each.
    fn over(writer: &mut Writer, count: usize, bytes: usize) {
        let (mut jobs, replies): (Vec<_>, Vec<_>) =
            (0..count).map(|number| insert(&format!("{bytes} {number}"), bytes)).unzip();
        for job in &mut jobs {
            if let Work::Insert { write, .. } = &mut job.work {
                write.expires_at = Some(Timestamp::from_unix_seconds(10));
            }
        }
        jobs.into_iter().for_each(|job| writer.answer(&mut vec![job]));
        replies.into_iter().for_each(|mut reply| assert_eq!(outcome(&mut reply), Ok(())));
    }

    /// One transaction of the collector, after which `batch` is as if it had taken no particular time.
    fn expire(writer: &mut Writer, limit: usize) -> (usize, bool) {
        let batch = writer.batch;
        let (reply, mut answer) = oneshot::channel();
        let work = Work::Expire { now: Timestamp::from_unix_seconds(10), limit };
        assert!(work.bytes() >= GROUP_BYTES, "nothing joins its transaction");
        writer.answer(&mut vec![Job { work, reply }]);
        writer.batch = batch;
        match answer.try_recv().unwrap() {
            Ok(Answer::Expired(Expired { records, more })) => (records, more),
            _ => panic!("the collector failed"),
        }
    }

    #[test]
    fn one_transaction_deletes_few_large_records_and_more_small_ones() {
        let mut writer = writer(Connection::open_in_memory().unwrap());
        over(&mut writer, 10, 256 * 1024);
        let deleted: Vec<_> = (0..4).map(|_| expire(&mut writer, 250)).collect();
        assert_eq!(deleted, [(4, true), (4, true), (2, false), (0, false)]);

        over(&mut writer, 100, 10);
        writer.batch = 40;
        let deleted: Vec<_> = [250, 250, 7, 250].into_iter().map(|limit| expire(&mut writer, limit)).collect();
        assert_eq!(deleted, [(40, true), (40, true), (7, true), (13, false)]);
        assert!(stored(&writer).is_empty());
    }

    #[test]
    fn the_next_transaction_follows_the_time_of_a_full_one() {
        let mut writer = writer(Connection::open_in_memory().unwrap());
        let expired = |records| [Ok(Answer::Expired(Expired { records, more: true }))];
        writer.learn(&expired(batch::FIRST), Duration::from_millis(30));
        assert_eq!(writer.batch, batch::FIRST / 2);
        writer.learn(&expired(batch::FIRST / 2 - 1), Duration::from_millis(30));
        assert_eq!(writer.batch, batch::FIRST / 2, "fewer than asked for say nothing");
        writer.learn(&expired(batch::FIRST / 2), Duration::ZERO);
        assert_eq!(writer.batch, batch::FIRST);
    }
}
