//! Filling a store from a backup or from another store.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use portcullis_runtime::Timestamp;
use tokio::task::JoinSet;

use super::{
    Scope,
    contents::{Contents, fingerprint},
    file::{BackupError, BackupFile, Reading},
};
use crate::{
    error::{KernelError, StoreError, Trouble},
    inspect::Finding,
    kernel::{Kernel, Kind, Page, Record, Write},
    leases::{Filling, NoSnapshot, NotTaken, UseError, whole_snapshot},
    patience::Patience,
    snapshot::{Batch, Snapshot},
    store::Store,
};

/// Writes on their way at a time: enough for a group commit and for every connection of a pool.
const PARALLEL: usize = 32;

/// What ids begin with of records that are written to find out whether two stores are one.
const PROBE: &str = "probe ";

/// What is filled in, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct FillOptions {
    /// Records of the store that are others are replaced, and those that are too many are deleted.
    pub replace: bool,
    /// What is taken along.
    pub scope: Scope,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Records that were not there.
    pub written: u64,
    /// Records that were there already, as they should be.
    pub unchanged: u64,
    /// Records that were there and were others.
    pub replaced: u64,
    /// Records that should not be there.
    pub deleted: u64,
    /// What the source holds that cannot be a record, and so is not in the target ([`Snapshot::left_out`]).
    pub left_out: Vec<Finding>,
}

impl Filled {
    const fn records(&self) -> u64 {
        self.written + self.unchanged + self.replaced
    }
}

/// Why a store could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The caller: both are one store.
    #[error("source and target are the same store: {place}")]
    Same {
        /// Where it is.
        place: String,
    },
    /// The target holds records that are not the source's. Nothing was written.
    #[error("the target is not empty: {others} of its records are not in the source ({place})")]
    NotEmpty {
        /// How many.
        others: u64,
        /// Where the target is.
        place: String,
    },
    /// The target: something uses it, or fills it. Nothing was written, unless it began to while it was filled.
    #[error("the target is in use ({place}): {holder:?} has renewed its lease {lease:?}")]
    InUse {
        /// Where the target is.
        place: String,
        /// The id of the lease.
        lease: &'static str,
        /// Whom it names.
        holder: String,
    },
    /// The target: it could not be reached for so long that another process may fill it by now.
    #[error("filling has stopped: the lease of the target could not be renewed in time ({place})")]
    Lost {
        /// Where the target is.
        place: String,
    },
    /// The target: who uses it cannot be found out.
    #[error("the leases of the target cannot be read or written")]
    Lease(#[source] StoreError),
    /// The target holds something that cannot be a record, and so can neither be compared nor replaced.
    #[error("the target holds what cannot be a record: {what}; delete it")]
    Unfit {
        /// What, in words.
        what: String,
    },
    /// A record is there and is another: somebody writes to the target.
    #[error("the {kind} record {id:?} is in the target and is another one: something else writes to it")]
    Differs {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: String,
    },
    /// In the end the target does not hold what it should: somebody writes to it.
    #[error("the target holds {found} of {expected} records and {others} others: something else writes to it")]
    Incomplete {
        /// How many of the source's it has.
        found: u64,
        /// How many it should have.
        expected: u64,
        /// How many it should not have.
        others: u64,
    },
    /// The source, when it is a store that is not whole.
    #[error("half a store is not copied")]
    Unusable(#[source] UseError),
    /// The source, when it is a store.
    #[error("the source cannot be read")]
    Source(#[source] KernelError),
    /// The source, when it is a file.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The target.
    #[error("the target cannot be written")]
    Target(#[source] KernelError),
}

/// Told how many records have been dealt with.
type Progress<'a> = &'a mut (dyn FnMut(u64) + Send);

enum Source<'a> {
    Store(Snapshot),
    File(Box<Reading<'a>>),
}

impl Source<'_> {
    fn left_out(&self, scope: Scope) -> Vec<Finding> {
        match self {
            Self::Store(snapshot) => {
                snapshot.left_out().iter().filter(|finding| scope.takes(finding.kind)).cloned().collect()
            }
            Self::File(_) => Vec::new(),
        }
    }

    async fn next(&mut self) -> Result<Option<Batch>, FillError> {
        match self {
            Self::Store(snapshot) => snapshot.next().await.map_err(FillError::Source),
            Self::File(reading) => Ok(reading.next()?),
        }
    }
}

/// Fills a store from a backup.
///
/// The target must be empty, or hold only what the backup holds, as after an earlier run that was cut off; any other is
/// refused unless [`FillOptions::replace`] is set. No provider may use it: one that does is found by its leases, which takes up to
/// their lifetime of a minute, and one that starts is refused until the store is whole (docs/decisions/0042).
///
/// # Errors
/// [`FillError`]. Once records were written, an error leaves a store that says of itself that it is half-filled; filling it again
/// goes on where it was cut off.
pub async fn restore_backup(
    file: &BackupFile,
    target: &Store,
    options: FillOptions,
    progress: Progress<'_>,
) -> Result<Filled, FillError> {
    let kernel = target.shared_kernel();
    let contents = (!options.replace).then(|| file.contents());
    let from_file = async |touched: &AtomicBool| {
        fill(Source::File(Box::new(file.read()?)), &kernel, options, (touched, progress)).await
    };
    fill_alone(target, (contents, options.scope), from_file).await
}

/// Fills a store from another one, as it is at this moment. What is said of [`restore_backup`]'s target holds here too.
///
/// # Errors
/// As [`restore_backup`]'s.
pub async fn copy_store(
    source: &dyn Kernel,
    target: &Store,
    options: FillOptions,
    progress: Progress<'_>,
) -> Result<Filled, FillError> {
    let kernel = target.shared_kernel();
    if is_same(source, &kernel, &format!("{PROBE}{}", target.rng().token(16))).await? {
        return Err(FillError::Same { place: kernel.description().place });
    }
    let mut contents = None;
    if !options.replace {
        let known = contents.insert(Contents::default());
        if !is_empty(&kernel).await? {
            let mut snapshot = source.snapshot().await.map_err(FillError::Source)?;
            while let Some(batch) = snapshot.next().await.map_err(FillError::Source)? {
                for (kind, record) in &batch {
                    known.add(*kind, record);
                }
            }
        }
    }
    let from_store = async |touched: &AtomicBool| {
        let snapshot = whole_snapshot(source).await.map_err(|error| match error {
            NoSnapshot::Unusable(error) => FillError::Unusable(error),
            NoSnapshot::Kernel(error) => FillError::Source(error),
        })?;
        fill(Source::Store(snapshot), &kernel, options, (touched, progress)).await
    };
    fill_alone(target, (contents.as_ref(), options.scope), from_store).await
}

/// Fills the target while nobody else uses it. One that holds more than `allowed` is refused: before anybody waits for its
/// leases, and once more when nothing else can write to it. `fill` is told where to say that it is about to change something.
async fn fill_alone(
    target: &Store,
    (allowed, scope): (Option<&Contents>, Scope),
    fill: impl AsyncFnOnce(&AtomicBool) -> Result<Filled, FillError>,
) -> Result<Filled, FillError> {
    let kernel = target.shared_kernel();
    let not_taken = |why| match why {
        NotTaken::InUse { lease, holder } => FillError::InUse { place: kernel.description().place, lease, holder },
        NotTaken::Lost => FillError::Lost { place: kernel.description().place },
        NotTaken::Store(error) => FillError::Lease(error),
    };
    let refuse = async || match allowed {
        Some(allowed) => refuse_others(&kernel, allowed, scope).await,
        None => Ok(()),
    };
    refuse().await?;
    let mut filling = Filling::begin(target).await.map_err(not_taken)?;
    if let Err(error) = filling.run(refuse()).await.map_err(not_taken).flatten() {
        filling.abandon().await;
        return Err(error);
    }
    let touched = AtomicBool::new(false);
    match filling.run(fill(&touched)).await.map_err(not_taken).flatten() {
        Ok(filled) => filling.done().await.map_err(not_taken).map(|()| filled),
        Err(error) => {
            if touched.load(Ordering::Relaxed) {
                filling.fail().await
            } else {
                filling.abandon().await
            }
            Err(error)
        }
    }
}

/// Whether what is written to one is read from the other: a store has many addresses.
async fn is_same(source: &dyn Kernel, target: &Arc<dyn Kernel>, probe: &str) -> Result<bool, FillError> {
    let write = Write { expires_at: Some(Timestamp::UNIX_EPOCH), ..Write::default() };
    let version = target.insert(Kind::Request, probe, write).await.map_err(FillError::Target)?;
    let found = source.get(Kind::Request, probe).await.map_err(FillError::Source);
    match target.delete(Kind::Request, probe, version).await {
        // A collector may have been faster.
        Ok(()) | Err(KernelError::NotFound) => Ok(found?.is_some()),
        Err(error) => Err(FillError::Target(error)),
    }
}

/// Whether a record is such a one, left behind by a run that could not delete it. The collector takes it.
fn is_probe(kind: Kind, record: &Record) -> bool {
    kind == Kind::Request && record.expires_at == Some(Timestamp::UNIX_EPOCH) && record.id.starts_with(PROBE)
}

async fn is_empty(target: &Arc<dyn Kernel>) -> Result<bool, FillError> {
    for kind in Kind::ALL.into_iter().filter(|kind| Scope::Everything.takes(*kind)) {
        if !target.list(kind, Page::first(1)).await.map_err(FillError::Target)?.records.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses a target with records that are not among these, or not of what is taken along.
async fn refuse_others(target: &Arc<dyn Kernel>, contents: &Contents, scope: Scope) -> Result<(), FillError> {
    let mut others = 0;
    let mut snapshot = snapshot_of(target).await?;
    while let Some(batch) = snapshot.next().await.map_err(FillError::Target)? {
        others += batch
            .iter()
            .filter(|(kind, record)| !(is_probe(*kind, record) || scope.takes(*kind) && contents.has(*kind, record)))
            .count() as u64;
    }
    match others {
        0 => Ok(()),
        others => Err(FillError::NotEmpty { others, place: target.description().place }),
    }
}

/// All that the target holds; refused when there is something that no record can be compared with.
async fn snapshot_of(target: &Arc<dyn Kernel>) -> Result<Snapshot, FillError> {
    let snapshot = target.snapshot().await.map_err(FillError::Target)?;
    match snapshot.left_out().first() {
        Some(Finding { what, .. }) => Err(FillError::Unfit { what: what.clone() }),
        None => Ok(snapshot),
    }
}

async fn fill(
    mut source: Source<'_>,
    target: &Arc<dyn Kernel>,
    options: FillOptions,
    (touched, progress): (&AtomicBool, Progress<'_>),
) -> Result<Filled, FillError> {
    let FillOptions { replace, scope } = options;
    let (mut filled, mut contents) =
        (Filled { left_out: source.left_out(scope), ..Filled::default() }, Contents::default());
    let mut running = JoinSet::new();
    while let Some(batch) = source.next().await? {
        for (kind, record) in batch.into_iter().filter(|(kind, _)| scope.takes(*kind)) {
            contents.add(kind, &record);
            if running.len() >= PARALLEL {
                count(&mut filled, running.join_next().await)?;
            }
            touched.store(true, Ordering::Relaxed);
            let target = Arc::clone(target);
            running.spawn(async move { put(&*target, kind, record, replace).await });
        }
        progress(filled.records());
    }
    while !running.is_empty() {
        count(&mut filled, running.join_next().await)?;
    }
    progress(filled.records());
    filled.deleted = compare(target, &contents, replace, touched).await?;
    Ok(filled)
}

/// What became of one record.
enum Put {
    Written,
    Unchanged,
    Replaced,
}

fn count(
    filled: &mut Filled,
    done: Option<Result<Result<Put, FillError>, tokio::task::JoinError>>,
) -> Result<(), FillError> {
    match done {
        Some(Ok(Ok(Put::Written))) => filled.written += 1,
        Some(Ok(Ok(Put::Unchanged))) => filled.unchanged += 1,
        Some(Ok(Ok(Put::Replaced))) => filled.replaced += 1,
        Some(Ok(Err(error))) => return Err(error),
        Some(Err(_)) => return Err(FillError::Target(KernelError::maybe_applied(Trouble::Closed))),
        None => {}
    }
    Ok(())
}

/// Writes one record, or finds it written. A store that does not answer is asked again, which does no harm: a write that had
/// happened after all is met as a record that is as it should be.
async fn put(target: &dyn Kernel, kind: Kind, record: Record, replace: bool) -> Result<Put, FillError> {
    let print = fingerprint(kind, &record);
    let Record { id, index, expires_at, data, .. } = record;
    let write = Write { index, expires_at, data };
    let again = |failure: &KernelError| {
        matches!(failure, KernelError::Unavailable { .. } | KernelError::Conflict | KernelError::NotFound)
    };
    let mut patience = Patience::new();
    loop {
        match put_once(target, kind, &id, (&write, print), replace).await {
            Ok(Some(put)) => return Ok(put),
            Ok(None) => return Err(FillError::Differs { kind, id }),
            Err(failure) => patience.after(failure, again).await.map_err(FillError::Target)?,
        }
    }
}

/// `None` when another record is there and is not to be replaced.
async fn put_once(
    target: &dyn Kernel,
    kind: Kind,
    id: &str,
    (write, print): (&Write, u128),
    replace: bool,
) -> Result<Option<Put>, KernelError> {
    match target.insert(kind, id, write.clone()).await {
        Ok(_) => return Ok(Some(Put::Written)),
        Err(KernelError::AlreadyExists) => {}
        Err(error) => return Err(error),
    }
    let found = target.get(kind, id).await?.ok_or(KernelError::NotFound)?;
    // Not byte by byte: a backend may keep a configured object in a form for people.
    if fingerprint(kind, &found) == print {
        return Ok(Some(Put::Unchanged));
    }
    if !replace {
        return Ok(None);
    }
    target.update(kind, id, found.version, write.clone()).await.map(|_| Some(Put::Replaced))
}

/// Reads all that the target holds, deletes what it should not hold when `replace` says so, and returns how many that were.
async fn compare(
    target: &Arc<dyn Kernel>,
    contents: &Contents,
    replace: bool,
    touched: &AtomicBool,
) -> Result<u64, FillError> {
    let (mut found, mut others, mut deleted) = (0, 0, 0);
    let mut snapshot = snapshot_of(target).await?;
    while let Some(batch) = snapshot.next().await.map_err(FillError::Target)? {
        for (kind, record) in batch {
            if contents.has(kind, &record) {
                found += 1;
            } else if is_probe(kind, &record) {
                // Nobody's, and nothing by itself.
            } else if replace {
                touched.store(true, Ordering::Relaxed);
                match target.delete(kind, &record.id, record.version).await {
                    Ok(()) => deleted += 1,
                    Err(KernelError::NotFound) => {}
                    Err(KernelError::Conflict) => others += 1,
                    Err(error) => return Err(FillError::Target(error)),
                }
            } else {
                others += 1;
            }
        }
    }
    let expected = contents.len() as u64;
    if found != expected || others > 0 {
        return Err(FillError::Incomplete { found, expected, others });
    }
    Ok(deleted)
}
