//! Changes on their way into the file: who makes one waits until it is there, who reads sees only what is.
//!
//! ```text
//! a writer: checks against what is kept and what is on its way → hands its change over → waits
//! the committer: takes what has gathered → one transaction → shows it to readers and watches → tells the writers
//! ```
//! Many writers share one `fsync`. When a transaction fails, everything on its way is refused: later changes were checked
//! against earlier ones. Readers never wait for a disk.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::kept::{Kept, KeptError, Row};
use super::log::Change;
use super::object::{self, Object};
use super::{NotKept, Planned, Shared, StoreError, View};
use crate::resources::{self, Resource};

/// Changes of one transaction.
const BATCH: usize = 256;

/// Where changes wait for the file.
#[derive(Debug)]
pub(super) struct Committer {
    head: Arc<Mutex<Head>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Committer {
    /// Gives the file back: what was handed over is written first.
    fn drop(&mut self) {
        lock(&self.head).way = Way::Closed;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that wrote the file of the objects had ended badly");
        }
    }
}

/// A place of an object: the number of its resource, and its key.
type Spot = (usize, String);

/// The last change of a place that is on its way.
#[derive(Debug)]
struct Underway {
    version: u64,
    /// Nothing when the object goes.
    object: Option<Arc<Object>>,
}

/// The state as it will be when everything on its way has arrived.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) version: u64,
    pub(super) objects: usize,
    pub(super) bytes: usize,
    overlay: HashMap<Spot, Underway>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Everything is taken in first, and written at once.
    Gathering(Box<Kept>),
    /// To the thread that writes.
    Open(Sender<Pending>),
    /// The thread could not be started, or has ended.
    Closed,
}

#[derive(Debug)]
struct Pending {
    resource: &'static Resource,
    planned: Planned,
    done: SyncSender<Result<(), StoreError>>,
}

/// What the writer has to wait for.
pub(super) enum Ticket {
    /// Nothing: the change counts already.
    Taken,
    Waits(Receiver<Result<(), StoreError>>),
}

impl Ticket {
    /// Waits without holding up the tasks of this thread.
    pub(super) fn wait(self) -> Result<(), StoreError> {
        let Self::Waits(done) = self else { return Ok(()) };
        let wait = || done.recv().unwrap_or(Err(StoreError::NotKept(NotKept::Failed)));
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }
}

impl Committer {
    /// Takes changes in without writing them, until [`Committer::open`].
    pub(super) fn gathering(kept: Kept, shared: &Shared) -> Self {
        let state = shared.read();
        let head = Head {
            version: state.version,
            objects: state.objects,
            bytes: state.bytes,
            overlay: HashMap::new(),
            way: Way::Gathering(Box::new(kept)),
        };
        Self { head: Arc::new(Mutex::new(head)), thread: Mutex::default() }
    }

    /// Writes what was gathered, in one transaction, and everything from now on as it comes.
    pub(super) fn open(&self, shared: &Arc<Shared>) -> Result<(), StoreError> {
        let mut head = lock(&self.head);
        let Way::Gathering(mut kept) = std::mem::replace(&mut head.way, Way::Closed) else { return Ok(()) };
        let gathered: Vec<_> = std::mem::take(&mut head.overlay).into_iter().collect();
        if !gathered.is_empty() {
            let rows = gathered.iter().filter_map(|((id, key), Underway { version, object })| {
                Some(Row { resource: resources::ALL.get(*id)?, key, version: *version, object: object.as_deref() })
            });
            kept.commit(rows, head.version)?;
        }
        let (sender, waiting) = channel();
        let (shared, ours) = (Arc::clone(shared), Arc::clone(&self.head));
        let thread = std::thread::Builder::new().name("objects".to_owned());
        let started = thread.spawn(move || commit_all(*kept, &waiting, &shared, &ours));
        let started = started.map_err(|error| {
            tracing::error!(%error, "no thread for the file of the objects");
            StoreError::NotKept(NotKept::Failed)
        })?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        head.way = Way::Open(sender);
        Ok(())
    }

    /// The file, while changes are gathered.
    #[cfg(test)]
    pub(super) fn file<T>(&self, act: impl FnOnce(&Kept) -> T) -> Option<T> {
        match &lock(&self.head).way {
            Way::Gathering(kept) => Some(act(kept)),
            Way::Open(_) | Way::Closed => None,
        }
    }

    /// The state that the next change is checked against. Held from the check until the change is handed over.
    pub(super) fn head(&self) -> MutexGuard<'_, Head> {
        lock(&self.head)
    }
}

impl Head {
    fn underway(&self, resource: &Resource, namespace: &str, name: &str) -> Option<&Underway> {
        self.overlay.get(&(resource.id(), object::key(namespace, name)))
    }

    /// Hands a change over.
    pub(super) fn take(
        &mut self,
        resource: &'static Resource,
        planned: Planned,
        shared: &Shared,
    ) -> Result<Ticket, StoreError> {
        let entry = ((resource.id(), planned.object.key()), planned.after());
        let counts = planned.counts(self.objects, self.bytes);
        let (version, ticket) = (
            planned.object.version,
            match &self.way {
                Way::Gathering(_) => {
                    shared.apply(resource, planned);
                    Ticket::Taken
                }
                Way::Open(way) => {
                    let (done, waits) = sync_channel(1);
                    let sent = way.send(Pending { resource, planned, done });
                    sent.map_err(|_ended| StoreError::NotKept(NotKept::Failed))?;
                    Ticket::Waits(waits)
                }
                Way::Closed => return Err(StoreError::NotKept(NotKept::Failed)),
            },
        );
        self.overlay.insert(entry.0, Underway { version, object: entry.1 });
        self.version = version;
        (self.objects, self.bytes) = counts;
        Ok(ticket)
    }

    /// Has an object of the file written once more, as it is now.
    pub(super) fn keep_again(&mut self, resource: &Resource, object: &Arc<Object>) {
        let underway = Underway { version: object.version, object: Some(Arc::clone(object)) };
        self.overlay.insert((resource.id(), object.key()), underway);
    }

    /// Forgets everything on its way.
    fn reset(&mut self, shared: &Shared) {
        let state = shared.read();
        self.overlay.clear();
        (self.version, self.objects, self.bytes) = (state.version, state.objects, state.bytes);
    }
}

fn lock(head: &Mutex<Head>) -> MutexGuard<'_, Head> {
    head.lock().unwrap_or_else(PoisonError::into_inner)
}

fn commit_all(mut kept: Kept, waiting: &Receiver<Pending>, shared: &Shared, head: &Mutex<Head>) {
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        let keys: Vec<_> = batch.iter().map(|pending| pending.planned.object.key()).collect();
        let rows = batch.iter().zip(&keys).map(|(pending, key)| {
            let Planned { change, object, .. } = &pending.planned;
            let stays = (*change != Change::Deleted).then_some(object.as_ref());
            Row { resource: pending.resource, key, version: object.version, object: stays }
        });
        let version = batch.last().map_or(0, |pending| pending.planned.object.version);
        match kept.commit(rows, version) {
            Ok(()) => show(batch, shared, head),
            Err(error) => refuse(batch, error, waiting, shared, head),
        }
    }
}

/// Readers and watches see the changes, then their writers go on.
fn show(batch: Vec<Pending>, shared: &Shared, head: &Mutex<Head>) {
    let mut told = Vec::with_capacity(batch.len());
    for Pending { resource, planned, done } in batch {
        told.push((resource.id(), planned.object.key(), planned.object.version, done));
        shared.apply(resource, planned);
    }
    let mut head = lock(head);
    for (id, key, version, _) in &told {
        let entry = (*id, key.clone());
        // A later change of the same object is still on its way.
        if head.overlay.get(&entry).is_some_and(|last| last.version == *version) {
            head.overlay.remove(&entry);
        }
    }
    drop(head);
    for (_, _, _, done) in told {
        // Whoever no longer waits does not care.
        let _ = done.send(Ok(()));
    }
}

fn refuse(batch: Vec<Pending>, error: StoreError, waiting: &Receiver<Pending>, shared: &Shared, head: &Mutex<Head>) {
    let mut refused = batch;
    // Nothing can be handed over while the head is held.
    let mut head = lock(head);
    while let Ok(pending) = waiting.try_recv() {
        refused.push(pending);
    }
    head.reset(shared);
    drop(head);
    for pending in refused {
        let _ = pending.done.send(Err(error));
    }
}

/// Opens a file and what it held.
pub(super) fn load(path: &std::path::Path, max_bytes: usize) -> Result<(Kept, super::kept::Loaded), KeptError> {
    let kept = Kept::open(path, max_bytes)?;
    let loaded = kept.load()?;
    Ok((kept, loaded))
}

/// What is kept, with what is on its way over it.
pub(super) struct Ahead<'a> {
    pub(super) head: &'a Head,
    pub(super) state: &'a super::State,
}

impl View for Ahead<'_> {
    fn version(&self) -> u64 {
        self.head.version
    }

    fn counts(&self) -> (usize, usize) {
        (self.head.objects, self.head.bytes)
    }

    fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        match self.head.underway(resource, namespace, name) {
            Some(ahead) => ahead.object.clone(),
            None => self.state.get(resource, namespace, name),
        }
    }
}
