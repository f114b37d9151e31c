//! The SQLite kernel: one file, one process, full durability (docs/decisions/0002).
//!
//! Three threads own a connection each: one writes, one reads single records, one reads lists. The async side sends an
//! operation over a bounded queue and awaits its answer, so no task ever waits for the disk on a runtime's thread. The
//! writer takes what has queued up while it was busy into one transaction: concurrent writers share one `fsync`, and
//! nobody is answered before it has returned.
//!
//! The file is readable by its owner only. A file that another program made, or a newer version of this one, is refused
//! and left alone.

mod error;
mod open;
mod reader;
mod schema;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, mpsc as std_mpsc},
    thread,
    time::{Duration, Instant},
};

use portcullis_runtime::{Clock, Timestamp};
use tokio::sync::{mpsc, oneshot};

pub use self::open::OpenError;
use self::{
    reader::{Query, Read},
    writer::{Answer, Job, Work},
};
#[cfg(feature = "conformance")]
use crate::migrations::Migration;
use crate::{
    error::{KernelError, Trouble},
    kernel::{
        Description, IndexKey, Kernel, KernelFuture, Kind, Listing, MAX_EXPIRE, Mark, Page, Record, Slot, Version,
        Write, check_id, check_write,
    },
    migrations::Migrations,
    snapshot::Snapshot,
};

/// How long dropping the kernel waits for its threads to write back and close.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// How a SQLite store behaves.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Operations that may wait in each of the three queues. Callers beyond that wait before the queue.
    pub queue: usize,
    /// How long an operation may take, waiting included, before it fails.
    pub answer_time: Duration,
    /// How long to wait for a lock that another process holds. Less than `answer_time`.
    pub lock_time: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { queue: 1024, answer_time: Duration::from_secs(10), lock_time: Duration::from_secs(5) }
    }
}

/// A store in a SQLite file.
pub struct SqliteKernel {
    /// Always present but while the kernel is being dropped.
    threads: Option<Threads>,
    /// Locked by nobody but the drop; the mutex only makes the kernel shareable.
    closed: Mutex<std_mpsc::Receiver<()>>,
    path: PathBuf,
    schema: u64,
    options: SqliteOptions,
}

struct Threads {
    writer: mpsc::Sender<Job>,
    points: mpsc::Sender<Query>,
    scans: mpsc::Sender<Query>,
}

impl SqliteKernel {
    /// Opens the file at `path`, making it when it does not exist, and brings its schema up to date. Blocks for some
    /// milliseconds: call it before serving.
    ///
    /// # Errors
    /// [`OpenError`], which names the file.
    pub fn open(path: &Path, clock: &Clock, options: &SqliteOptions) -> Result<Self, OpenError> {
        Self::with(path, clock, options, schema::MIGRATIONS, true)
    }

    /// As a later version of this program opens the file, whose migrations come after ours.
    ///
    /// # Errors
    /// As [`SqliteKernel::open`].
    #[cfg(feature = "conformance")]
    pub fn open_later(
        path: &Path,
        clock: &Clock,
        options: &SqliteOptions,
        later: &'static [Migration],
    ) -> Result<Self, OpenError> {
        Self::with(path, clock, options, schema::MIGRATIONS.and_later(later), true)
    }

    /// `writes` tells whether it must be possible to write, which is tried.
    fn with(
        path: &Path,
        clock: &Clock,
        options: &SqliteOptions,
        migrations: Migrations,
        writes: bool,
    ) -> Result<Self, OpenError> {
        let mut writing = open::prepare(path, clock, options, migrations)?;
        let versions = if writes {
            schema::reserve_versions(&mut writing).map_err(|error| OpenError::of(path, &error))?
        } else {
            schema::Versions::NONE
        };
        let points = open::reading(path, options)?;
        let scans = open::reading(path, options)?;

        let (writer_jobs, writer_queue) = mpsc::channel(options.queue.max(1));
        let (point_jobs, point_queue) = mpsc::channel(options.queue.max(1));
        let (scan_jobs, scan_queue) = mpsc::channel(options.queue.max(1));
        let (open_thread, closed) = std_mpsc::channel::<()>();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let open_thread = open_thread.clone();
            let run = move || {
                run();
                drop(open_thread);
            };
            thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| OpenError::thread(path, &error))
        };
        // Ours is dropped on return; from then on only the threads keep the channel connected.
        spawn("store-write", Box::new(move || writer::run(writing, versions, writer_queue)))?;
        spawn("store-read", Box::new(move || reader::run(&points, point_queue)))?;
        spawn("store-scan", Box::new(move || reader::run(&scans, scan_queue)))?;

        let threads = Threads { writer: writer_jobs, points: point_jobs, scans: scan_jobs };
        Ok(Self {
            threads: Some(threads),
            closed: Mutex::new(closed),
            path: path.to_owned(),
            schema: migrations.number().unsigned_abs(),
            options: options.clone(),
        })
    }

    /// Opens a store that is there, for a tool that only reads: makes no file, changes no schema and no record, and takes no version numbers, so that what
    /// is on a full disk can be saved to another one. Blocks as [`SqliteKernel::open`] does.
    ///
    /// # Errors
    /// As [`SqliteKernel::open`].
    pub fn look(path: &Path, clock: &Clock, options: &SqliteOptions) -> Result<Self, OpenError> {
        open::look(path, options)?;
        Self::with(path, clock, options, schema::MIGRATIONS, false)
    }

    async fn write(&self, work: Work) -> Result<Answer, KernelError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.threads.as_ref().map(|threads| &threads.writer);
        let queued = send(queue, Job { work, reply }, self.options.answer_time).await?;
        match tokio::time::timeout(queued, answer).await {
            Ok(Ok(answer)) => answer,
            // The thread has gone while it had the job.
            Ok(Err(_)) => Err(KernelError::maybe_applied(Trouble::Closed)),
            Err(_) => Err(KernelError::maybe_applied(Trouble::Timeout)),
        }
    }

    async fn write_version(&self, work: Work) -> Result<Version, KernelError> {
        match self.write(work).await? {
            Answer::Version(version) => Ok(version),
            Answer::Deleted | Answer::Expired(_) => Err(wrong_answer()),
        }
    }

    /// In transactions of their own, between which others have their turn.
    async fn expire_in_batches(&self, now: Timestamp, limit: usize) -> Result<usize, KernelError> {
        let mut deleted = 0;
        loop {
            let work = Work::Expire { now, limit: limit - deleted };
            let expired = match self.write(work).await.map_err(|error| error.after(deleted))? {
                Answer::Expired(expired) => expired,
                Answer::Version(_) | Answer::Deleted => return Err(wrong_answer()),
            };
            deleted += expired.records;
            if deleted >= limit || !expired.more {
                return Ok(deleted);
            }
        }
    }

    async fn scan(&self, kind: Kind, index: Option<(Slot, IndexKey)>, page: Page) -> Result<Listing, KernelError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.threads.as_ref().map(|threads| &threads.scans);
        read(queue, Query { kind, read: Read::List { index, page, reply } }, answer, self.options.answer_time).await
    }
}

fn wrong_answer() -> KernelError {
    KernelError::Corrupt { what: "the writer gave the wrong answer".to_owned() }
}

/// Queues a job; returns how much of the time is left.
async fn send<T>(queue: Option<&mpsc::Sender<T>>, job: T, time: Duration) -> Result<Duration, KernelError> {
    let closed = || KernelError::not_applied(Trouble::Closed);
    let queue = queue.ok_or_else(closed)?;
    let job = match queue.try_send(job) {
        Ok(()) => return Ok(time),
        Err(mpsc::error::TrySendError::Closed(_)) => return Err(closed()),
        Err(mpsc::error::TrySendError::Full(job)) => job,
    };
    let begun = Instant::now();
    match tokio::time::timeout(time, queue.send(job)).await {
        Ok(Ok(())) => Ok(time.saturating_sub(begun.elapsed())),
        Ok(Err(_)) => Err(closed()),
        Err(_) => Err(KernelError::not_applied(Trouble::Timeout)),
    }
}

async fn read<T>(
    queue: Option<&mpsc::Sender<Query>>,
    query: Query,
    answer: oneshot::Receiver<Result<T, KernelError>>,
    time: Duration,
) -> Result<T, KernelError> {
    let left = send(queue, query, time).await?;
    match tokio::time::timeout(left, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(KernelError::not_applied(Trouble::Closed)),
        Err(_) => Err(KernelError::not_applied(Trouble::Timeout)),
    }
}

impl Kernel for SqliteKernel {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        Box::pin(async move {
            check_id(id)?;
            let (reply, answer) = oneshot::channel();
            let queue = self.threads.as_ref().map(|threads| &threads.points);
            let query = Query { kind, read: Read::Get { id: id.to_owned(), reply } };
            read(queue, query, answer, self.options.answer_time).await
        })
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            check_write(id, &write)?;
            self.write_version(Work::Insert { kind, id: id.to_owned(), write }).await
        })
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            check_write(id, &write)?;
            self.write_version(Work::Update { kind, id: id.to_owned(), version, write }).await
        })
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        Box::pin(async move {
            check_id(id)?;
            self.write(Work::Delete { kind, id: id.to_owned(), version }).await.map(|_| ())
        })
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        Box::pin(self.scan(kind, None, page))
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        Box::pin(self.scan(kind, Some((slot, key)), page))
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        Box::pin(self.expire_in_batches(now, limit.min(MAX_EXPIRE)))
    }

    /// By a thread and a connection of its own, for as long as it is read. The log grows meanwhile.
    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        Box::pin(async move {
            let (sink, snapshot) = Snapshot::channel();
            let (begun, moment) = oneshot::channel();
            let (path, options) = (self.path.clone(), self.options.clone());
            let run = move || match open::reading(&path, &options) {
                Ok(connection) => reader::snapshot(&connection, begun, sink),
                Err(error) => {
                    let _gone = begun.send(Err(KernelError::not_applied(Trouble::Other(error.to_string()))));
                }
            };
            let spawned = thread::Builder::new().name("store-snapshot".to_owned()).spawn(run);
            spawned.map_err(|error| KernelError::not_applied(Trouble::Other(error.to_string())))?;
            match tokio::time::timeout(self.options.answer_time, moment).await {
                Ok(Ok(begun)) => begun.map(|()| snapshot),
                Ok(Err(_)) => Err(KernelError::not_applied(Trouble::Closed)),
                Err(_) => Err(KernelError::not_applied(Trouble::Timeout)),
            }
        })
    }

    fn description(&self) -> Description {
        Description { backend: "sqlite3", place: self.path.display().to_string(), schema: self.schema }
    }

    fn mark<'a>(&'a self, kind: Kind) -> KernelFuture<'a, Mark> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let queue = self.threads.as_ref().map(|threads| &threads.scans);
            read(queue, Query { kind, read: Read::Mark { reply } }, answer, self.options.answer_time).await
        })
    }
}

impl Drop for SqliteKernel {
    fn drop(&mut self) {
        // The threads end when their queues are closed and empty; the channel disconnects when all of them have.
        self.threads = None;
        let _ = self.closed.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(CLOSE_TIME);
    }
}

impl std::fmt::Debug for SqliteKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteKernel").finish_non_exhaustive()
    }
}
