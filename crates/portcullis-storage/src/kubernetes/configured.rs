//! Clients, local users and connectors as objects that people write: watched, read from memory, written to the server.
//!
//! Flow: the API server's watch → [`Table`], which decides what is in force → `recent` reads that; `get`, `insert`,
//! `update` and `delete` ask the server itself, so that compare-and-swap is etcd's. After a write they wait until the watch
//! has told of it (or ask), so that the next read here sees it. Statuses are written by a task of their own, one by one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portcullis_kubeclient::{Client, ClientError, Event, Follower, Instant, Listed, Part, Preconditions, follow};
use portcullis_runtime::Clock;
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout_at},
};

use super::{
    error::{of_insert, of_read, of_write},
    object::MetadataOnly,
    seen::{MAX_BYTES, MAX_OBJECTS, Room, Seen},
    table::{Report, Table},
    typed::{Object, SHAPES, Shape},
};
use crate::{
    changes::{Change, Feed, Hub},
    error::{KernelError, Trouble},
    inspect::Finding,
    kernel::{Judge, Kind, Listing, Page, Record, Verdict, Version, Write},
    snapshot::Batch,
};

/// How long a write waits for the watch to tell of it before it asks for the object itself.
const ECHO: Duration = Duration::from_secs(1);
/// How long after the start a kind that could not be listed is waited for. Whoever asks later is told so at once, until it has
/// been listed.
const FIRST_LIST: Duration = Duration::from_secs(10);
/// How long writing one status may take, waiting included.
const REPORT_TIME: Duration = Duration::from_secs(10);
/// The pause after a status that could not be written.
const REPORT_PAUSE: Duration = Duration::from_millis(200);

/// A kind of which nothing was heard for so long is no longer known: a watch begins every five minutes, and the server tells once a
/// minute how far it is.
const STALE: Duration = Duration::from_secs(10 * 60);

/// All kinds that people configure.
pub(super) struct Configured {
    kinds: [Arc<Followed>; 3],
    /// Watch and report; they end with this.
    _tasks: JoinSet<()>,
}

/// One kind.
pub(super) struct Followed {
    client: Client,
    shape: &'static Shape,
    clock: Clock,
    table: Mutex<Table>,
    /// Until when the first list is waited for.
    listed_by: Instant,
    /// When the server last said how things stand, by the monotonic clock: one that is set must not take every replica out of
    /// service.
    heard: Mutex<Duration>,
    hub: Hub,
    /// Counts what the table was told.
    told: watch::Sender<u64>,
    /// A status is due.
    due: Notify,
}

impl Configured {
    /// Begins to watch.
    pub(super) fn start(client: &Client, clock: &Clock) -> Self {
        let mut tasks = JoinSet::new();
        let kinds = SHAPES.map(|shape| {
            let followed = Arc::new(Followed::new(client, shape, clock));
            let (watched, reported) = (Arc::clone(&followed), Arc::clone(&followed));
            tasks.spawn(async move {
                let client = watched.client.clone();
                follow::<Object>(&client, &shape.resource, &mut Watcher::new(watched)).await;
            });
            tasks.spawn(async move { reported.write_statuses().await });
            followed
        });
        Self { kinds, _tasks: tasks }
    }

    /// The kind, when it is one of these.
    pub(super) fn of(&self, kind: Kind) -> Option<&Arc<Followed>> {
        self.kinds.iter().find(|followed| followed.shape.kind == kind)
    }

    /// What is wrong with the kinds, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        let troubles: Vec<String> = self.kinds.iter().filter_map(|followed| followed.trouble()).collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    pub(super) fn judge_with(&self, judge: &Judge) {
        for followed in &self.kinds {
            followed.table().judge_with(Arc::clone(judge));
            followed.tell(&Change::All);
        }
    }

    pub(super) fn judge_again(&self) {
        for followed in &self.kinds {
            followed.table().judge_again();
            followed.tell(&Change::All);
        }
    }
}

/// Tells the table what the watch brings.
struct Watcher {
    of: Arc<Followed>,
    /// How much of the list under way is kept.
    room: Room,
    /// Whether the log says already that it fails.
    failing: bool,
    /// Whether the log says already that there is more than is kept.
    crowded: bool,
}

impl Watcher {
    fn new(of: Arc<Followed>) -> Self {
        Self { of, room: Room::default(), failing: false, crowded: false }
    }

    fn works(&mut self) {
        self.of.hear();
        if std::mem::take(&mut self.failing) {
            tracing::info!(resource = self.of.shape.resource.plural, "watched again");
        }
    }

    fn tell(&mut self, change: &Change) {
        let crowded = self.of.table().is_crowded();
        if crowded && !self.crowded {
            tracing::error!("{}", self.of.too_many());
        }
        self.crowded = crowded;
        self.of.tell(change);
    }
}

impl Follower<Object> for Watcher {
    type Kept = Seen;

    fn listing(&mut self) {
        self.room = Room::default();
        self.of.table().listing();
    }

    fn keep(&mut self, object: Object) -> Option<Seen> {
        self.room.take(Seen::of(self.of.shape, object))
    }

    fn replace(&mut self, objects: Vec<Seen>, version: &str) {
        self.of.hear();
        let change = self.of.table().replace(objects, number(version), self.room.crowded);
        self.tell(&change);
    }

    fn change(&mut self, event: Event<Object>) {
        self.works();
        let change = match event {
            Event::Applied(object) => {
                let seen = Seen::of(self.of.shape, object);
                self.of.table().apply(seen)
            }
            Event::Deleted(object) => {
                let (version, metadata) = (object.version(), object.metadata);
                self.of.table().remove(&metadata.name, &metadata.uid, version)
            }
            Event::Bookmark(version) => return self.of.table().bookmark(number(&version)),
        };
        self.tell(&change);
    }

    fn opened(&mut self) {
        self.works();
    }

    fn version_of(object: &Object) -> &str {
        &object.metadata.resource_version
    }

    fn failed(&mut self, error: &ClientError) {
        if !std::mem::replace(&mut self.failing, true) {
            let resource = self.of.shape.resource.plural;
            tracing::warn!(%error, resource, "cannot be watched at the moment; what is known stays in force");
        }
    }
}

/// Versions are etcd's revisions.
fn number(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}

impl Followed {
    fn new(client: &Client, shape: &'static Shape, clock: &Clock) -> Self {
        Self {
            client: client.clone(),
            shape,
            clock: clock.clone(),
            table: Mutex::new(Table::new(shape)),
            listed_by: Instant::now() + FIRST_LIST,
            heard: Mutex::new(clock.monotonic()),
            hub: Hub::default(),
            told: watch::Sender::new(0),
            due: Notify::new(),
        }
    }

    fn trouble(&self) -> Option<String> {
        let plural = self.shape.resource.plural;
        if Instant::now() >= self.listed_by && !self.table().is_listed() {
            return Some(format!("the {plural} could not be listed yet, so none is in force; the log says why"));
        }
        let minutes = STALE.as_secs() / 60;
        self.is_stale().then(|| format!("nothing was heard of {plural} for {minutes} minutes; the log says why"))
    }

    /// For the log. It is no trouble of the kernel's: replicas that are taken out of service serve nobody, and these serve all
    /// that is in force.
    fn too_many(&self) -> String {
        format!(
            "there are more {} than are kept ({MAX_OBJECTS} objects, {} MiB): the rest are not in force; delete what is not \
             needed, and they come into force with the next list (half an hour) or edit",
            self.shape.resource.plural,
            MAX_BYTES / 1024 / 1024
        )
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.monotonic();
    }

    fn is_stale(&self) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        self.clock.monotonic() >= heard.saturating_add(STALE)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every operation leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: &Change) {
        if !matches!(change, Change::Ids(ids) if ids.is_empty()) {
            self.hub.tell(change);
        }
        self.told.send_modify(|count| *count = count.wrapping_add(1));
        self.due.notify_one();
    }

    pub(super) fn feed(&self) -> Feed {
        self.hub.feed()
    }

    /// Waits until the table is as asked for; false when it is not in time.
    async fn until(&self, deadline: Instant, wanted: impl Fn(&Table) -> bool + Send) -> bool {
        let mut told = self.told.subscribe();
        loop {
            if wanted(&self.table()) {
                return true;
            }
            if !matches!(timeout_at(deadline, told.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    async fn listed(&self, deadline: Instant) -> Result<(), KernelError> {
        if self.until(deadline.min(self.listed_by), Table::is_listed).await {
            return Ok(());
        }
        let plural = self.shape.resource.plural;
        let what = format!("the {plural} of the cluster could not be listed yet; the log says why");
        Err(KernelError::not_applied(Trouble::Other(what)))
    }

    /// What is in force.
    pub(super) async fn recent(&self, id: &str, deadline: Instant) -> Result<Option<Record>, KernelError> {
        self.listed(deadline).await?;
        Ok(self.table().in_force(id).map(|record| Record::clone(&record)))
    }

    /// The name of the object that counts for an id, or that we would make.
    fn name_for(&self, id: &str) -> String {
        self.table().name_for(id).map_or_else(|| self.shape.name_of(id), ToOwned::to_owned)
    }

    /// The object that counts for an id, as the server has it.
    async fn fetch(&self, id: &str, deadline: Instant) -> Result<Option<(Object, Value)>, ClientError> {
        let name = self.name_for(id);
        let whole: Value = match self.client.get(&self.shape.resource, &name, deadline).await {
            Ok(whole) => whole,
            Err(ClientError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        // serde's words can hold values.
        let object = Object::read(&whole).ok_or_else(|| ClientError::Unreadable { what: name.clone() })?;
        let is_it = self.shape.id_of(&object).as_deref() == Some(id) && !object.is_being_deleted();
        Ok(is_it.then_some((object, whole)))
    }

    pub(super) async fn get(&self, id: &str, deadline: Instant) -> Result<Option<Record>, KernelError> {
        self.listed(deadline).await?;
        let Some((object, _)) = self.fetch(id, deadline).await.map_err(|error| of_read(&error))? else {
            return Ok(None);
        };
        record(self.shape, &object, id).map(Some)
    }

    fn check(&self, write: &Write) -> Result<(), KernelError> {
        if write.index != [None, None] || write.expires_at.is_some() {
            let what = format!("a {} record has no index keys and no expiry", self.shape.kind);
            return Err(KernelError::not_applied(Trouble::Other(what)));
        }
        Ok(())
    }

    fn object(&self, id: &str, write: &Write, replaced: Option<Value>) -> Result<Value, KernelError> {
        self.check(write)?;
        let object = self.shape.object(id, &write.data, replaced);
        object.map_err(|what| KernelError::not_applied(Trouble::Other(what.to_owned())))
    }

    pub(super) async fn insert(&self, id: &str, write: &Write, deadline: Instant) -> Result<Version, KernelError> {
        let object = self.object(id, write, None)?;
        self.listed(deadline).await?;
        let (taken, full) = {
            let table = self.table();
            (table.name_for(id).is_some(), table.is_full())
        };
        if taken {
            return Err(KernelError::AlreadyExists);
        }
        if full {
            return Err(KernelError::not_applied(Trouble::Other(self.too_many())));
        }
        let made = self.client.create::<MetadataOnly>(&self.shape.resource, &object, deadline).await;
        let made = made.map_err(|error| of_insert(&error))?;
        let version = made.version()?;
        let name = made.metadata.name;
        self.see(&name, |known| known.is_some_and(|(at, _)| at >= version.number())).await;
        // The watch tells in the order in which etcd wrote: an older object of a person's is known by now.
        if self.table().name_for(id).is_some_and(|counts| counts != name) {
            let ours = Preconditions { uid: Some(made.metadata.uid), resource_version: None };
            return match self.client.delete(&self.shape.resource, &name, ours, deadline).await {
                Ok(()) | Err(ClientError::NotFound | ClientError::Conflict) => Err(KernelError::AlreadyExists),
                Err(error) => Err(KernelError::maybe_applied(Trouble::Other(error.to_string()))),
            };
        }
        Ok(version)
    }

    pub(super) async fn update(
        &self,
        id: &str,
        version: Version,
        write: &Write,
        deadline: Instant,
    ) -> Result<Version, KernelError> {
        self.check(write)?;
        self.listed(deadline).await?;
        let found = self.fetch(id, deadline).await.map_err(|error| of_read(&error))?;
        let Some((object, whole)) = found else { return Err(KernelError::NotFound) };
        if object.version() != version.number() {
            return Err(KernelError::Conflict);
        }
        // The whole object goes back, so that what people have written beside the spec stays.
        let changed = self.object(id, write, Some(whole))?;
        let name = &object.metadata.name;
        let replaced = self.client.replace::<MetadataOnly>(&self.shape.resource, name, &changed, deadline).await;
        let version = replaced.map_err(|error| of_write(&error))?.version()?;
        self.see(name, |known| known.is_none_or(|(at, _)| at >= version.number())).await;
        Ok(version)
    }

    pub(super) async fn delete(&self, id: &str, version: Version, deadline: Instant) -> Result<(), KernelError> {
        self.listed(deadline).await?;
        let Some((object, _)) = self.fetch(id, deadline).await.map_err(|error| of_read(&error))? else {
            return Err(KernelError::NotFound);
        };
        let (name, uid) = (object.metadata.name, object.metadata.uid);
        let preconditions =
            Preconditions { uid: Some(uid.clone()), resource_version: Some(version.number().to_string()) };
        let deleted = self.client.delete(&self.shape.resource, &name, preconditions, deadline).await;
        deleted.map_err(|error| of_write(&error))?;
        // At once: nobody is let in by an object whose deletion was acknowledged.
        let change = self.table().end(&name, &uid);
        self.tell(&change);
        self.see(&name, |known| known.is_none_or(|(_, other)| other != uid)).await;
        Ok(())
    }

    /// Waits until the table knows of our own write, and sees to it when the watch does not tell in time. The write has
    /// happened: nothing here makes it fail.
    async fn see(&self, name: &str, wanted: impl Fn(Option<(u64, &str)>) -> bool + Send + Sync) {
        if self.until(Instant::now() + ECHO, |table| wanted(table.known(name))).await {
            return;
        }
        let before = self.table().known(name).map(|(_, uid)| uid.to_owned());
        let change = match self.client.get::<Object>(&self.shape.resource, name, Instant::now() + ECHO).await {
            Ok(object) => {
                let seen = Seen::of(self.shape, object);
                self.table().observe(seen)
            }
            // What has its name by now is another object, if the watch was faster.
            Err(ClientError::NotFound) => before.map_or_else(Change::none, |uid| self.table().end(name, &uid)),
            Err(error) => {
                tracing::warn!(%error, name, "what was written is not known here yet");
                return;
            }
        };
        self.tell(&change);
    }

    /// The objects that count, from the server.
    pub(super) async fn list(&self, page: &Page, deadline: Instant) -> Result<Listing, KernelError> {
        let counting = counting(&self.client, self.shape, None, deadline).await.map_err(|error| of_read(&error))?;
        let records = counting.into_iter().map(|(id, Counts { name, record, .. })| {
            (id, record.map_err(|what| KernelError::Corrupt { what: unfit(self.shape, &name, &what) }))
        });
        let after = |id: &String| page.after.as_ref().is_none_or(|after| id > after);
        let records = records.into_iter().filter(|(id, _)| after(id)).map(|(_, record)| record);
        // One that cannot be a record says so in its status, and must not hide the others.
        let records = records.filter(|record| match record {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "left out of a list");
                false
            }
        });
        Listing::collect(page, records)
    }

    /// Has a verdict of somebody else's written down.
    pub(super) async fn report(&self, id: &str, verdict: Verdict, deadline: Instant) -> Result<(), KernelError> {
        self.listed(deadline).await?;
        let found = self.table().tell(id, verdict);
        self.due.notify_one();
        if found { Ok(()) } else { Err(KernelError::NotFound) }
    }

    /// Writes statuses as they become due, for ever.
    async fn write_statuses(&self) {
        loop {
            self.due.notified().await;
            loop {
                let now = self.clock.now().rfc3339();
                let Some(Report { name, patch }) = self.table().next_report(&now) else { break };
                let resource = &self.shape.resource;
                let deadline = Instant::now() + REPORT_TIME;
                match self.client.patch::<MetadataOnly>(resource, &name, Part::Status, &patch, deadline).await {
                    Ok(_) | Err(ClientError::NotFound) => {}
                    // The object has another version by now; the watch will tell which.
                    Err(ClientError::Conflict) => {
                        self.table().again(name);
                        sleep(REPORT_PAUSE).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, resource = resource.plural, name, "its status cannot be written");
                        if error.is_temporary() {
                            self.table().again(name);
                        }
                        sleep(REPORT_PAUSE).await;
                    }
                }
            }
        }
    }
}

fn record(shape: &Shape, object: &Object, id: &str) -> Result<Record, KernelError> {
    let record = shape.record(object, id);
    record.map_err(|what| KernelError::Corrupt { what: unfit(shape, &object.metadata.name, &what) })
}

/// An object that cannot be a record, in words.
fn unfit(shape: &Shape, name: &str, what: &str) -> String {
    format!("the object {} {name:?}: {what}", shape.resource.plural)
}

/// An object that counts for its id.
struct Counts {
    created: String,
    uid: String,
    name: String,
    record: Result<Record, String>,
}

/// The objects that count, in the order of their ids: as they are now, or as they were at a version.
async fn counting(
    client: &Client,
    shape: &Shape,
    at: Option<&str>,
    deadline: Instant,
) -> Result<BTreeMap<String, Counts>, ClientError> {
    let mut counting: BTreeMap<String, Counts> = BTreeMap::new();
    let mut each = |listed: Listed<Object>| {
        let object = match listed {
            Listed::Begins => return counting.clear(),
            Listed::Object(object) => object,
        };
        if object.is_being_deleted() {
            return;
        }
        let Some(id) = shape.id_of(&object) else { return };
        let metadata = &object.metadata;
        let older = |other: &Counts| (&metadata.creation_timestamp, &metadata.uid) < (&other.created, &other.uid);
        if counting.get(&id).is_none_or(older) {
            let (created, uid) = (metadata.creation_timestamp.clone(), metadata.uid.clone());
            let counts = Counts { created, uid, name: metadata.name.clone(), record: shape.record(&object, &id) };
            counting.insert(id, counts);
        }
    };
    client.list_each::<Object>(&shape.resource, at, deadline, &mut each).await?;
    Ok(counting)
}

/// What people configure, as it was at a version: the records, and the names of objects that cannot be records, with why.
pub(super) async fn records_at(
    client: &Client,
    version: &str,
    deadline: Instant,
) -> Result<(Vec<Batch>, Vec<Finding>), KernelError> {
    let (mut batches, mut left_out) = (Vec::new(), Vec::new());
    for shape in SHAPES {
        let counting = counting(client, shape, Some(version), deadline).await.map_err(|error| match error {
            ClientError::Expired => KernelError::not_applied(Trouble::Forgotten),
            error => of_read(&error),
        })?;
        let mut batch = Batch::new();
        for (id, Counts { name, record, .. }) in counting {
            match record {
                Ok(record) => batch.push((shape.kind, record)),
                Err(what) => left_out.push(Finding { kind: shape.kind, id, what: unfit(shape, &name, &what) }),
            }
        }
        batches.push(batch);
    }
    Ok((batches, left_out))
}

#[cfg(test)]
mod tests {
    use portcullis_kubeclient::Access;
    use portcullis_runtime::{Rng, http_client::ProxyFromEnv};

    use super::*;

    /// A server that never answers is waited for once, by all together; afterwards they are told at once, until it has answered.
    #[tokio::test]
    async fn a_kind_that_was_never_listed_is_waited_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", silent.local_addr().unwrap());
        let file = folder.path().join("kubeconfig");
        let text = format!(
            "contexts: [{{name: c, context: {{cluster: k, user: u, namespace: ns}}}}]\ncurrent-context: c\n\
             clusters: [{{name: k, cluster: {{server: '{server}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
        );
        std::fs::write(&file, text).unwrap();
        let access = Access::kubeconfig(&file, ProxyFromEnv::default()).await.unwrap();
        let client = Client::new(access, Rng::seeded(1)).unwrap();
        let (clock, _) = Clock::mock(1_800_000_000);
        let mut followed = Followed::new(&client, SHAPES[0], &clock);
        followed.listed_by = Instant::now() + Duration::from_millis(50);
        assert_eq!(followed.trouble(), None);
        // Far beyond what the test may take.
        let patient = Instant::now() + Duration::from_secs(3600);
        for _ in 0..100 {
            let told = followed.recent("app", patient).await.unwrap_err().to_string();
            assert!(told.contains("oauthclients of the cluster could not be listed yet"), "{told}");
        }
        assert!(followed.trouble().unwrap().contains("oauthclients could not be listed yet"));
        followed.table().listing();
        followed.table().replace(Vec::new(), 1, false);
        assert_eq!(followed.recent("app", patient).await, Ok(None));
        assert_eq!(followed.trouble(), None);
    }
}
