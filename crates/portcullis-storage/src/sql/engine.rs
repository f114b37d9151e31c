//! The kernel's operations on any SQL server.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use portcullis_runtime::Timestamp;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Dialect, Fault, Put, Reply, Wanted, Work,
    gather::{Gatherer, Outcome},
    pool::{Lease, Pool},
    versions::{VERSION_BLOCK, Versions},
};
use crate::{
    batch,
    error::{KernelError, Trouble},
    kernel::{
        Description, IndexKey, Kind, Listing, MAX_EXPIRE, MAX_PAGE_RECORDS, Mark, Page, Record, Slot, Version, Write,
        check_id, check_write,
    },
    snapshot::{Sink, Snapshot, unknown_kind},
};

/// How often one operation is sent when the server undoes it in favour of others, or when a kept connection proves dead.
const MAX_ATTEMPTS: u32 = 8;
/// The pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(1);

/// How a store on a SQL server behaves.
#[derive(Clone, Debug)]
pub struct SqlOptions {
    /// Most connections at once, at least 1. Callers beyond that wait.
    pub max_open: usize,
    /// Most connections that are kept while nobody needs them.
    pub max_idle: usize,
    /// How long a connection is used at most; without a limit when absent.
    pub max_lifetime: Option<Duration>,
    /// How long connecting may take.
    pub connect_time: Duration,
    /// How long an operation may take, waiting and connecting included, before it fails.
    pub answer_time: Duration,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self {
            max_open: 5,
            max_idle: 5,
            max_lifetime: None,
            connect_time: Duration::from_secs(5),
            answer_time: Duration::from_secs(10),
        }
    }
}

pub(crate) struct Engine<D: Dialect> {
    pool: Arc<Pool<D>>,
    gatherer: Arc<Gatherer<D>>,
    versions: Versions,
    answer_time: Duration,
    batch: AtomicUsize,
}

/// What to do after an attempt.
enum Next {
    Done(Result<Reply, KernelError>),
    Again(KernelError),
}

impl<D: Dialect> Engine<D> {
    pub(crate) fn new(dialect: D, options: &SqlOptions) -> Self {
        let pool = Arc::new(Pool::new(dialect, options));
        Self {
            gatherer: Arc::new(Gatherer::new(Arc::clone(&pool))),
            pool,
            versions: Versions::default(),
            answer_time: options.answer_time,
            batch: AtomicUsize::new(batch::FIRST),
        }
    }

    pub(crate) fn dialect(&self) -> &D {
        self.pool.dialect()
    }

    /// A connection for what is done once, at the start.
    pub(crate) async fn lease(&self) -> Result<Lease<'_, D>, KernelError> {
        self.pool.lease(Instant::now() + self.answer_time).await
    }

    pub(crate) async fn get(&self, kind: Kind, id: &str) -> Result<Option<Record>, KernelError> {
        check_id(id)?;
        let deadline = Instant::now() + self.answer_time;
        if self.gatherer.is_called_for() {
            match self.gatherer.join(&Arc::new(Wanted { kind, id: id.to_owned() }), deadline).await {
                Outcome::Done(record) => return Ok(record),
                Outcome::Failed(error) => return Err(error),
                Outcome::Alone => {}
            }
        }
        Ok(self.run_until(&Work::Get { kind, id }, deadline).await?.records().into_iter().next())
    }

    pub(crate) async fn insert(&self, kind: Kind, id: &str, write: Write) -> Result<Version, KernelError> {
        check_write(id, &write)?;
        let version = self.next_version().await?;
        if self.put(kind, id, None, version, write).await? {
            Ok(Version::new(version.unsigned_abs()))
        } else {
            Err(KernelError::AlreadyExists)
        }
    }

    pub(crate) async fn update(
        &self,
        kind: Kind,
        id: &str,
        version: Version,
        write: Write,
    ) -> Result<Version, KernelError> {
        check_write(id, &write)?;
        let (from, to) = (stored(version), self.next_version().await?);
        if self.put(kind, id, Some(from), to, write).await? {
            Ok(Version::new(to.unsigned_abs()))
        } else {
            Err(self.missed(kind, id).await)
        }
    }

    /// Makes or replaces a record; false when it was not as it had to be.
    async fn put(&self, kind: Kind, id: &str, from: Option<i64>, to: i64, write: Write) -> Result<bool, KernelError> {
        let deadline = Instant::now() + self.answer_time;
        let put = Arc::new(Put { kind, id: id.to_owned(), from, to, write });
        if self.gatherer.is_called_for() {
            match self.gatherer.join(&put, deadline).await {
                Outcome::Done(done) => return Ok(done),
                Outcome::Failed(error) => return Err(error),
                Outcome::Alone => {}
            }
        }
        Ok(self.run_until(&put.alone(), deadline).await?.count() > 0)
    }

    pub(crate) async fn delete(&self, kind: Kind, id: &str, version: Version) -> Result<(), KernelError> {
        check_id(id)?;
        match self.run(&Work::Delete { kind, id, version: stored(version) }).await?.count() {
            0 => Err(self.missed(kind, id).await),
            _ => Ok(()),
        }
    }

    pub(crate) async fn list(
        &self,
        kind: Kind,
        index: Option<(Slot, IndexKey)>,
        page: Page,
    ) -> Result<Listing, KernelError> {
        // No id is empty, so every id comes after "". One more than the page tells whether there is another page.
        let after = page.after.as_deref().unwrap_or("");
        let limit = number(page.clamped_limit() + 1);
        let records = self.run(&Work::List { kind, index, after, limit }).await?.records();
        Listing::collect(&page, records.into_iter().map(Ok))
    }

    pub(crate) async fn mark(&self, kind: Kind) -> Result<Mark, KernelError> {
        Ok(self.run(&Work::Mark { kind }).await?.mark())
    }

    /// Deletes in statements of their own, each of which is over before it could hold anybody up. Each is weighed first; only what
    /// others delete or renew in between can make it delete records that come behind those.
    pub(crate) async fn expire(&self, now: Timestamp, limit: usize) -> Result<usize, KernelError> {
        let limit = limit.min(MAX_EXPIRE);
        let now = now.unix_nanos();
        let mut deleted = 0;
        while deleted < limit {
            let batch = self.batch.load(Ordering::Relaxed).min(limit - deleted);
            let due = self.run(&Work::Due { now, limit: number(batch) }).await.map_err(|error| error.after(deleted))?;
            let due = due.sizes();
            let fitting = batch::fitting(due.iter().copied());
            if fitting == 0 {
                break;
            }
            let begun = Instant::now();
            let work = Work::Expire { now, limit: number(fitting) };
            let count = self.run(&work).await.map_err(|error| error.after(deleted))?.count();
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            // Only what was asked for in full says how long so many take.
            if fitting == self.batch.load(Ordering::Relaxed) {
                self.batch.store(batch::next(fitting, begun.elapsed()), Ordering::Relaxed);
            }
            deleted += count;
            if count < fitting || due.len() < batch && fitting == due.len() {
                break;
            }
        }
        Ok(deleted)
    }

    /// Reads everything in one transaction, on a connection of its own beside those that are counted.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, KernelError> {
        let deadline = Instant::now() + self.answer_time;
        let mut connection = self.pool.connect(deadline).await?;
        for statement in D::BEGIN_SNAPSHOT {
            within(deadline, D::execute(&mut connection, statement)).await.map_err(failed::<D>)?;
        }
        let time = self.answer_time;
        // The first read fixes the moment, and so comes before the answer.
        let mut kinds = Kind::ALL.into_iter();
        let Some(first) = kinds.next() else { return Err(KernelError::not_applied(Trouble::Closed)) };
        let last = i16::from(Kind::LAST_CODE);
        if within(deadline, D::has_kinds_above(&mut connection, last)).await.map_err(failed::<D>)? {
            return Err(unknown_kind(self.dialect().server()));
        }
        let begun = read_page::<D>(&mut connection, first, &Page::first(MAX_PAGE_RECORDS), time).await?;
        Ok(Snapshot::read_by(move |sink| async move {
            if let Some(outcome) = read_on::<D>(connection, (first, begun), kinds, time, &sink).await.transpose() {
                sink.close(outcome).await;
            }
        }))
    }

    pub(crate) fn description(&self) -> Description {
        let dialect = self.dialect();
        let schema = dialect.migrations().number().unsigned_abs();
        Description { backend: D::NAME, place: dialect.server().to_owned(), schema }
    }

    /// Why a compare-and-swap met nothing.
    async fn missed(&self, kind: Kind, id: &str) -> KernelError {
        match self.run(&Work::Exists { kind, id }).await {
            Ok(reply) if reply.count() == 0 => KernelError::NotFound,
            Ok(_) => KernelError::Conflict,
            Err(error) => error,
        }
    }

    async fn next_version(&self) -> Result<i64, KernelError> {
        if let Some(next) = self.versions.next() {
            return Ok(next);
        }
        let _taking = self.versions.taking.lock().await;
        if let Some(next) = self.versions.next() {
            return Ok(next);
        }
        self.reserve().await.map_err(|error| match error {
            // The write itself has not been sent.
            KernelError::Unavailable { trouble, .. } => KernelError::not_applied(trouble),
            other => other,
        })?;
        self.versions.next().ok_or_else(|| KernelError::not_applied(Trouble::Timeout))
    }

    /// Takes a block of version numbers.
    pub(crate) async fn reserve(&self) -> Result<(), KernelError> {
        let end = self.run(&Work::Reserve { count: VERSION_BLOCK }).await?.count();
        self.versions.taken(end)
    }

    async fn run(&self, work: &Work<'_>) -> Result<Reply, KernelError> {
        self.run_until(work, Instant::now() + self.answer_time).await
    }

    async fn run_until(&self, work: &Work<'_>, deadline: Instant) -> Result<Reply, KernelError> {
        let mut pause = PAUSE;
        for _ in 1..MAX_ATTEMPTS {
            match self.attempt(work, deadline).await {
                Next::Done(result) => return result,
                Next::Again(error) if Instant::now() + pause >= deadline => return Err(error),
                Next::Again(_) => sleep(pause).await,
            }
            pause *= 2;
        }
        match self.attempt(work, deadline).await {
            Next::Done(result) => result,
            Next::Again(error) => Err(error),
        }
    }

    async fn attempt(&self, work: &Work<'_>, deadline: Instant) -> Next {
        let mut lease = match self.pool.lease(deadline).await {
            Ok(lease) => lease,
            Err(error) => return Next::Done(Err(error)),
        };
        let prepared = timeout_at(deadline, D::prepare(&mut lease.connection, work)).await;
        let fault = match prepared {
            Err(_) => return Next::Done(Err(KernelError::not_applied(Trouble::Timeout))),
            Ok(Err(error)) => D::fault(&error).before_sending(),
            Ok(Ok(())) => match timeout_at(deadline, D::perform(&mut lease.connection, work)).await {
                Ok(Ok(reply)) => {
                    lease.give_back();
                    return Next::Done(Ok(reply));
                }
                Ok(Err(error)) => D::fault(&error),
                Err(_) => return Next::Done(Err(unknown(work.writes(), Trouble::Timeout))),
            },
        };
        after(work, fault, lease)
    }
}

/// Hands over what has been read and reads the rest; `None` when nobody wants it.
async fn read_on<D: Dialect>(
    mut connection: D::Connection,
    (mut kind, mut listing): (Kind, Listing),
    mut kinds: impl Iterator<Item = Kind> + Send,
    time: Duration,
    sink: &Sink,
) -> Result<Option<()>, KernelError> {
    loop {
        let Listing { records, next } = listing;
        if sink.put(records.into_iter().map(|record| (kind, record)).collect()).await.is_err() {
            return Ok(None);
        }
        let page = match next {
            Some(page) => page,
            None => match kinds.next() {
                Some(next) => {
                    kind = next;
                    Page::first(MAX_PAGE_RECORDS)
                }
                None => return Ok(Some(())),
            },
        };
        listing = read_page::<D>(&mut connection, kind, &page, time).await?;
    }
}

async fn read_page<D: Dialect>(
    connection: &mut D::Connection,
    kind: Kind,
    page: &Page,
    time: Duration,
) -> Result<Listing, KernelError> {
    let limit = number(page.clamped_limit() + 1);
    let work = Work::List { kind, index: None, after: page.after.as_deref().unwrap_or(""), limit };
    let reply = within(Instant::now() + time, D::perform(connection, &work)).await.map_err(failed::<D>)?;
    Listing::collect(page, reply.records().into_iter().map(Ok))
}

/// An answer, or `None` when there was none in time.
async fn within<T>(deadline: Instant, work: impl Future<Output = sqlx::Result<T>>) -> Result<T, Option<sqlx::Error>> {
    match timeout_at(deadline, work).await {
        Ok(answer) => answer.map_err(Some),
        Err(_) => Err(None),
    }
}

/// Why something could not be read.
fn failed<D: Dialect>(error: Option<sqlx::Error>) -> KernelError {
    match error.map(|error| D::fault(&error)) {
        None => KernelError::not_applied(Trouble::Timeout),
        Some(Fault::Corrupt(what)) => KernelError::Corrupt { what },
        Some(fault) => KernelError::not_applied(fault.trouble()),
    }
}

/// What follows from a fault, for the caller and for the connection.
fn after<D: Dialect>(work: &Work<'_>, fault: Fault, lease: Lease<'_, D>) -> Next {
    let used_before = lease.used_before;
    lease.after(&fault);
    match fault {
        Fault::Duplicate => Next::Done(Err(KernelError::AlreadyExists)),
        Fault::Again(trouble) => Next::Again(KernelError::not_applied(trouble)),
        Fault::Refused(trouble) | Fault::Unfit(trouble) => Next::Done(Err(KernelError::not_applied(trouble))),
        Fault::Unsent(trouble) => once_more(used_before, KernelError::not_applied(trouble)),
        Fault::Lost(trouble) => once_more(used_before && !work.writes(), unknown(work.writes(), trouble)),
        Fault::Corrupt(what) => Next::Done(Err(KernelError::Corrupt { what })),
    }
}

/// A kept connection may have died of a restart that is over: a new one will tell.
const fn once_more(again: bool, error: KernelError) -> Next {
    if again { Next::Again(error) } else { Next::Done(Err(error)) }
}

/// A failure after the statement may have been carried out.
pub(super) const fn unknown(writes: bool, trouble: Trouble) -> KernelError {
    if writes { KernelError::maybe_applied(trouble) } else { KernelError::not_applied(trouble) }
}

/// As a parameter.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A version as it is stored. One that does not fit was never given, and no record has it.
fn stored(version: Version) -> i64 {
    i64::try_from(version.number()).unwrap_or(i64::MAX)
}

/// Makes a type with a field `engine` a kernel.
macro_rules! kernel_on {
    ($kernel:ty) => {
        impl $crate::kernel::Kernel for $kernel {
            fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
                Box::pin(self.engine.get(kind, id))
            }

            fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
                Box::pin(self.engine.insert(kind, id, write))
            }

            fn update<'a>(
                &'a self,
                kind: Kind,
                id: &'a str,
                version: Version,
                write: Write,
            ) -> KernelFuture<'a, Version> {
                Box::pin(self.engine.update(kind, id, version, write))
            }

            fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
                Box::pin(self.engine.delete(kind, id, version))
            }

            fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
                Box::pin(self.engine.list(kind, None, page))
            }

            fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
                Box::pin(self.engine.list(kind, Some((slot, key)), page))
            }

            fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
                Box::pin(self.engine.expire(now, limit))
            }

            fn snapshot(&self) -> KernelFuture<'_, $crate::Snapshot> {
                Box::pin(self.engine.snapshot())
            }

            fn description(&self) -> $crate::kernel::Description {
                self.engine.description()
            }

            fn mark<'a>(&'a self, kind: Kind) -> KernelFuture<'a, $crate::kernel::Mark> {
                Box::pin(self.engine.mark(kind))
            }
        }

        impl std::fmt::Debug for $kernel {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($kernel)).finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use kernel_on;
