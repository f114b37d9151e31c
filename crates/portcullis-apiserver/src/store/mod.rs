//! The state: every object of every resource, in memory, with a log of what changed.
//!
//! One counter numbers all changes (`resourceVersion`). Each resource keeps a bounded log; watches read it with a
//! cursor, so a slow watcher costs nothing and is told 410 when the log has moved past it. A list at an older version
//! is the current state with the log undone.
//!
//! In memory nothing waits: the lock is held for map operations and for writing one object, never across an await. With a
//! file (`kept`) whoever makes a change waits until it is written (`committer`); readers still wait for nothing.

pub(crate) mod beginning;
mod committer;
mod ends;
pub(crate) mod graph;
pub(crate) mod kept;
pub(crate) mod list;
mod live;
pub(crate) mod log;
pub(crate) mod object;
#[cfg(test)]
mod tests_ends;
#[cfg(test)]
mod tests_kept;

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use portcullis_jose::{JoseError, SigningKey};
use portcullis_runtime::Clock;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};

use self::beginning::Beginning;
use self::committer::{Ahead, Committer, Ticket};
use self::ends::Ends;
use self::graph::{Found, Graph, Task};
use self::kept::KeptError;
use self::live::Live;
use self::log::{Change, Event, Log, LogLimits};
use self::object::Object;
use crate::resources::{self, Resource};

/// All objects. Shared; cheap to use from many tasks.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    limits: StoreLimits,
    clock: Clock,
    /// Of a store whose objects are kept.
    committer: Option<Committer>,
}

/// What readers, writers and the committer have in common.
#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// One per resource: the version of its last change.
    changed: Vec<watch::Sender<u64>>,
    /// One per resource: what watches began with last.
    beginnings: Vec<Mutex<Beginning>>,
    /// Rings when there is something for the background to do.
    bell: Notify,
}

/// What the store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Objects of all resources together. Default 50,000.
    pub objects: usize,
    /// Bytes of all objects together, as JSON. Default 256 MiB.
    pub bytes: usize,
    /// Changes that each resource remembers for watches. Default 16,384.
    pub log_events: usize,
    /// Bytes of memory that each resource's log takes for states that are no more. Default 1 MiB.
    pub log_bytes: usize,
    /// How long an event stays after it was last written, as `--event-ttl` of kube-apiserver; zero is for good. Default an hour.
    pub event_ttl: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            objects: 50_000,
            bytes: 256 << 20,
            log_events: 16_384,
            log_bytes: 1 << 20,
            event_ttl: Duration::from_secs(3_600),
        }
    }
}

#[derive(Debug)]
struct State {
    version: u64,
    objects: usize,
    bytes: usize,
    tables: Vec<Table>,
    graph: Graph,
    ends: Ends,
}

#[derive(Debug)]
struct Table {
    live: Live,
    log: Log,
}

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// An object of that name is there.
    #[error("the object exists")]
    Exists,
    /// No object of that name is there.
    #[error("the object does not exist")]
    NotFound,
    /// The object has changed since it was read.
    #[error("the object has changed")]
    Conflict,
    /// Its namespace is not there.
    #[error("the namespace does not exist")]
    NoNamespace,
    /// Its namespace is being deleted.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// A limit of [`StoreLimits`].
    #[error("the store is full")]
    Full,
    /// The file of the objects could not be written.
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

/// Why the file of the objects could not be written, in words for whoever made the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotKept {
    /// No room.
    #[error("the disk that keeps the objects is full: free some room and try again")]
    DiskFull,
    /// This process may not make files that large.
    #[error(
        "the file that keeps the objects may not grow any more (`ulimit -f`): raise that limit of the server and try again"
    )]
    FileLimit,
    /// The log says more.
    #[error("the file that keeps the objects could not be written, and the server's log says why")]
    Failed,
}

/// What is seen of the objects when a change is planned.
trait View {
    fn version(&self) -> u64;
    /// Objects and their bytes.
    fn counts(&self) -> (usize, usize);
    fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Object>>;

    fn current(&self, resource: &Resource, expected: &Object) -> Result<Arc<Object>, StoreError> {
        let current = self.get(resource, &expected.namespace, &expected.name).ok_or(StoreError::NotFound)?;
        if current.version == expected.version { Ok(current) } else { Err(StoreError::Conflict) }
    }

    /// The end of an object that is still at `expected`.
    fn removal(&self, resource: &Resource, expected: &Object) -> Result<Planned, StoreError> {
        let current = self.current(resource, expected)?;
        let object = Object::seal(resource, current.members(), self.version() + 1);
        Ok(Planned { change: Change::Deleted, object, before: Some(current) })
    }

    fn namespace_takes_objects(&self, namespace: &str) -> Result<(), StoreError> {
        match self.get(resources::namespaces(), "", namespace) {
            None => Err(StoreError::NoNamespace),
            Some(object) if object.terminating => Err(StoreError::NamespaceTerminating),
            Some(_) => Ok(()),
        }
    }
}

/// A change that may be made.
#[derive(Debug)]
struct Planned {
    change: Change,
    object: Arc<Object>,
    before: Option<Arc<Object>>,
}

impl Planned {
    /// What stands in the object's place afterwards.
    fn after(&self) -> Option<Arc<Object>> {
        (self.change != Change::Deleted).then(|| Arc::clone(&self.object))
    }

    /// Objects and their bytes afterwards.
    fn counts(&self, objects: usize, bytes: usize) -> (usize, usize) {
        let size = |object: &Arc<Object>| object.bytes.len();
        let (goes, comes) = (self.before.as_ref(), self.after());
        (
            objects.saturating_sub(usize::from(goes.is_some())) + usize::from(comes.is_some()),
            bytes.saturating_sub(goes.map_or(0, size)) + comes.as_ref().map_or(0, size),
        )
    }
}

impl Store {
    /// A store in memory, by the system's clock.
    pub(crate) fn new(limits: StoreLimits) -> Self {
        Self::of(limits, Clock::system(), 1)
    }

    /// The same by another clock.
    pub(crate) fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    fn of(limits: StoreLimits, clock: Clock, version: u64) -> Self {
        let log = LogLimits { events: limits.log_events, bytes: limits.log_bytes };
        // A watch from before the first change of this process would miss what was between.
        let forgotten = if version > 1 { version } else { 0 };
        let table = || Table { live: Live::default(), log: Log::after(forgotten, log) };
        let tables = resources::ALL.iter().map(|_| table()).collect();
        let shared = Shared {
            state: RwLock::new(State {
                version,
                objects: 0,
                bytes: 0,
                tables,
                graph: Graph::default(),
                ends: Ends::default(),
            }),
            changed: resources::ALL.iter().map(|_| watch::Sender::new(version)).collect(),
            beginnings: resources::ALL.iter().map(|_| Mutex::default()).collect(),
            bell: Notify::new(),
        };
        Self { shared: Arc::new(shared), limits, clock, committer: None }
    }

    /// A store whose objects are kept in a file, and the key that was kept with them. Until [`Store::settle`] changes are
    /// taken in without being written.
    pub(crate) fn kept(
        limits: StoreLimits,
        clock: Clock,
        path: &Path,
        make_key: impl FnOnce() -> Result<SigningKey, JoseError>,
    ) -> Result<(Self, SigningKey), KeptError> {
        let (kept, loaded) = committer::load(path, limits.bytes)?;
        let key = match loaded.key {
            Some(key) => key,
            None => {
                let made = make_key().and_then(|key| Ok((key.to_pkcs8_der()?, key)));
                let (der, key) = made.map_err(|error| KeptError::Unusable {
                    action: "make the key of service account tokens for",
                    path: path.to_owned(),
                    reason: error.to_string(),
                })?;
                kept.keep_key(&der)?;
                key
            }
        };
        let mut store = Self::of(limits, clock, loaded.version);
        let mut otherwise = Vec::new();
        {
            let mut state = store.shared.write();
            for (resource, object) in loaded.objects {
                let object = store.settle_end(resource, object, &mut otherwise);
                state.ends.follow(resource, None, Some(&object));
                state.objects += 1;
                state.bytes += object.bytes.len();
                // What follows from it is done again, in case it was not done to its end.
                state.graph.follow(resource, Change::Added, &object, None);
                if let Some(table) = state.tables.get_mut(resource.id()) {
                    table.live.insert(object);
                }
            }
            store.shared.bell.notify_one();
        }
        let committer = Committer::gathering(kept, &store.shared);
        otherwise.iter().for_each(|(resource, object)| committer.head().keep_again(resource, object));
        store.committer = Some(committer);
        Ok((store, key))
    }

    /// Writes what was taken in so far, without what has ended meanwhile; from now on a change counts when it is in the file.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        self.expire()?;
        self.committer.as_ref().map_or(Ok(()), |committer| committer.open(&self.shared))
    }

    /// The version of the last change to anything.
    pub(crate) fn version(&self) -> u64 {
        self.read().version
    }

    pub(crate) fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.read().get(resource, namespace, name)
    }

    /// All objects of a resource, of one namespace when `namespace` is not empty.
    pub(crate) fn all(&self, resource: &Resource, namespace: &str) -> Vec<Arc<Object>> {
        let state = self.read();
        let Some(table) = state.table(resource) else { return Vec::new() };
        table.live.within(namespace, None).map(Arc::clone).collect()
    }

    /// Adds an object; `members` is in its kind's shape, with name, namespace and uid.
    pub(crate) fn create(
        &self,
        resource: &'static Resource,
        members: Map<String, Value>,
    ) -> Result<Arc<Object>, StoreError> {
        self.change(resource, |view| {
            // Sealed here because the version is part of the bytes; it takes microseconds.
            let object = Object::seal_until(resource, members, view.version() + 1, self.end_of(resource));
            if resource.namespaced {
                view.namespace_takes_objects(&object.namespace)?;
            }
            if view.get(resource, &object.namespace, &object.name).is_some() {
                return Err(StoreError::Exists);
            }
            let (objects, bytes) = view.counts();
            if objects >= self.limits.objects || bytes + object.bytes.len() > self.limits.bytes {
                return Err(StoreError::Full);
            }
            Ok(Planned { change: Change::Added, object, before: None })
        })
    }

    /// Replaces an object that is still at `expected`.
    pub(crate) fn replace(
        &self,
        resource: &'static Resource,
        expected: &Object,
        members: Map<String, Value>,
    ) -> Result<Arc<Object>, StoreError> {
        self.change(resource, |view| {
            let current = view.current(resource, expected)?;
            let object = Object::seal_until(resource, members, view.version() + 1, self.end_of(resource));
            let planned = Planned { change: Change::Modified, object, before: Some(current) };
            let (objects, bytes) = view.counts();
            if planned.counts(objects, bytes).1 > self.limits.bytes {
                return Err(StoreError::Full);
            }
            Ok(planned)
        })
    }

    /// Removes an object that is still at `expected`; what it answers is the object at the version of its end.
    pub(crate) fn remove(&self, resource: &'static Resource, expected: &Object) -> Result<Arc<Object>, StoreError> {
        self.change(resource, |view| view.removal(resource, expected))
    }

    /// Makes a change that `plan` allows. When it returns, the change is kept and everybody sees it.
    fn change(
        &self,
        resource: &'static Resource,
        plan: impl FnOnce(&dyn View) -> Result<Planned, StoreError>,
    ) -> Result<Arc<Object>, StoreError> {
        let (object, ticket) = self.begin(resource, plan)?;
        ticket.wait()?;
        Ok(object)
    }

    /// Begins a change that `plan` allows: it counts when the ticket has been waited for.
    fn begin(
        &self,
        resource: &'static Resource,
        plan: impl FnOnce(&dyn View) -> Result<Planned, StoreError>,
    ) -> Result<(Arc<Object>, Ticket), StoreError> {
        let Some(committer) = &self.committer else {
            let mut state = self.shared.write();
            let planned = plan(&*state)?;
            let object = Arc::clone(&planned.object);
            state.apply(resource, planned);
            self.shared.announce(resource, &state);
            return Ok((object, Ticket::Taken));
        };
        let mut head = committer.head();
        let planned = plan(&Ahead { head: &head, state: &self.read() })?;
        let object = Arc::clone(&planned.object);
        Ok((object, head.take(resource, planned, &self.shared)?))
    }

    /// Becomes ready whenever a change of the resource is announced.
    pub(crate) fn subscribe(&self, resource: &Resource) -> Option<watch::Receiver<u64>> {
        self.shared.changed.get(resource.id()).map(watch::Sender::subscribe)
    }

    /// The object with that uid. Events have no place here.
    pub(crate) fn find(&self, uid: &str) -> Option<Found> {
        self.read().graph.find(uid).cloned()
    }

    /// What names the object with that uid as an owner.
    pub(crate) fn dependants(&self, uid: &str) -> Vec<Found> {
        self.read().graph.dependants(uid).cloned().collect()
    }

    /// Gives the background something to do.
    pub(crate) fn ask(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut state = self.shared.write();
        tasks.into_iter().for_each(|task| state.graph.add(task));
        self.shared.bell.notify_one();
    }

    /// What is to be done next.
    pub(crate) fn next_task(&self) -> Option<Task> {
        self.shared.write().graph.next()
    }

    /// Waits until there may be something to do.
    pub(crate) async fn work(&self) {
        self.shared.bell.notified().await;
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.read()
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Shows a change to readers and watches.
    fn apply(&self, resource: &'static Resource, planned: Planned) {
        let mut state = self.write();
        state.apply(resource, planned);
        self.announce(resource, &state);
    }

    fn announce(&self, resource: &Resource, state: &State) {
        if let Some(sender) = self.changed.get(resource.id()) {
            sender.send_replace(state.version);
        }
        if !state.graph.is_idle() {
            self.bell.notify_one();
        }
    }
}

impl View for State {
    fn version(&self) -> u64 {
        self.version
    }

    fn counts(&self) -> (usize, usize) {
        (self.objects, self.bytes)
    }

    fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.table(resource)?.live.get(namespace, name).map(Arc::clone)
    }
}

impl State {
    fn table(&self, resource: &Resource) -> Option<&Table> {
        self.tables.get(resource.id())
    }

    fn apply(&mut self, resource: &'static Resource, planned: Planned) {
        (self.objects, self.bytes) = planned.counts(self.objects, self.bytes);
        let after = planned.after();
        let Planned { change, object, before } = planned;
        self.version = object.version;
        self.ends.follow(resource, before.as_ref(), after.as_ref());
        let Some(table) = self.tables.get_mut(resource.id()) else { return };
        if change == Change::Deleted {
            table.live.remove(&object);
        } else {
            table.live.insert(Arc::clone(&object));
        }
        self.graph.follow(resource, change, &object, before.as_deref());
        table.log.push(Arc::new(Event { change, object, before }));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(namespace: &str, name: &str) -> Map<String, Value> {
        let mut metadata = json!({"name": name, "uid": format!("uid-{name}")});
        if !namespace.is_empty() {
            metadata["namespace"] = json!(namespace);
        }
        json!({"metadata": metadata}).as_object().unwrap().clone()
    }

    fn store_with_default() -> Store {
        let store = Store::new(StoreLimits::default());
        store.create(resources::namespaces(), named("", "default")).unwrap();
        store
    }

    fn pods() -> &'static Resource {
        resources::find("", "v1", "pods").unwrap()
    }

    #[test]
    fn versions_only_grow_and_are_one_sequence_for_all_resources() {
        let store = store_with_default();
        let first = store.create(pods(), named("default", "a")).unwrap();
        let second = store.create(resources::namespaces(), named("", "x")).unwrap();
        let third = store.replace(pods(), &first, named("default", "a")).unwrap();
        assert!(first.version < second.version && second.version < third.version);
        assert_eq!(store.version(), third.version);
    }

    #[test]
    fn a_change_on_an_old_version_is_a_conflict_and_on_a_gone_object_not_found() {
        let store = store_with_default();
        let old = store.create(pods(), named("default", "a")).unwrap();
        assert_eq!(store.create(pods(), named("default", "a")).unwrap_err(), StoreError::Exists);
        let new = store.replace(pods(), &old, named("default", "a")).unwrap();
        assert_eq!(store.replace(pods(), &old, named("default", "a")).unwrap_err(), StoreError::Conflict);
        assert_eq!(store.remove(pods(), &old).unwrap_err(), StoreError::Conflict);
        let last = store.remove(pods(), &new).unwrap();
        assert!(last.version > new.version);
        assert_eq!(store.remove(pods(), &new).unwrap_err(), StoreError::NotFound);
    }

    #[test]
    fn objects_need_a_namespace_that_is_there_and_stays() {
        let store = store_with_default();
        assert_eq!(store.create(pods(), named("nowhere", "a")).unwrap_err(), StoreError::NoNamespace);
        let mut going = named("", "going");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        store.create(resources::namespaces(), going).unwrap();
        assert_eq!(store.create(pods(), named("going", "a")).unwrap_err(), StoreError::NamespaceTerminating);
    }

    #[test]
    fn the_limits_on_objects_and_bytes_hold_and_deleting_makes_room() {
        let store = Store::new(StoreLimits { objects: 2, ..StoreLimits::default() });
        store.create(resources::namespaces(), named("", "a")).unwrap();
        let b = store.create(resources::namespaces(), named("", "b")).unwrap();
        assert_eq!(store.create(resources::namespaces(), named("", "c")).unwrap_err(), StoreError::Full);
        store.remove(resources::namespaces(), &b).unwrap();
        store.create(resources::namespaces(), named("", "c")).unwrap();
        let small = Store::new(StoreLimits { bytes: 150, ..StoreLimits::default() });
        let a = small.create(resources::namespaces(), named("", "a")).unwrap();
        assert_eq!(small.create(resources::namespaces(), named("", "b")).unwrap_err(), StoreError::Full);
        assert_eq!(
            small.replace(resources::namespaces(), &a, named("", &"n".repeat(60))).unwrap_err(),
            StoreError::Full
        );
    }

    #[test]
    fn one_of_many_parallel_changes_to_a_version_wins() {
        let store = store_with_default();
        let old = store.create(pods(), named("default", "a")).unwrap();
        let wins: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| usize::from(store.replace(pods(), &old, named("default", "a")).is_ok())))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(wins, 1);
    }
}
