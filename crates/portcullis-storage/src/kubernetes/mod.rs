//! The Kubernetes kernel: each record is an object of the kind `Record` in our namespace (docs/decisions/0032).
//!
//! The API server is the store: `insert` is a create, `update` a replace with the version's `resourceVersion`, `delete` a
//! delete with it as a precondition, so every decision about one record is etcd's. Lists in the order of ids and lookups by
//! index read everything that a label selects; no grant's hot path uses them. What is over is deleted one by one, each only
//! while it still has the version that was read, so that a record whose expiry was moved lives on.
//!
//! What people configure are objects of kinds of their own (`typed.rs`), which are watched (`configured.rs`). A lease is a `Lease`
//! like that of every other component (`lease.rs`).
//!
//! A write whose answer was lost is told as such and never repeated. Throttling, and an API server that is away, are waited
//! out within the operation's time.

mod base32;
mod configured;
mod definition;
mod error;
mod lease;
mod object;
mod open;
mod scan;
mod schema;
mod seen;
mod table;
mod typed;

use std::time::Duration;

use portcullis_kubeclient::{Client, ClientError, Form, Instant, Preconditions};
use portcullis_runtime::{Clock, Rng, Timestamp};
use serde_json::Value;
use tokio::task::JoinSet;

pub(crate) use self::typed::canonical;
use self::{
    configured::Configured,
    error::{of_insert, of_read, of_write},
    lease::{LEASES, Lease, lease_name},
    object::{MetadataOnly, NewObject, Object, RECORDS, name_of, selector, selector_of_over},
    scan::{Earliest, Over, Smallest, scan},
};
pub use self::{
    error::KubernetesError,
    open::{CrdHandling, KubernetesAccess, KubernetesOptions},
};
use crate::{
    error::{Applied, KernelError, Trouble},
    kernel::{
        Description, Feed, IndexKey, Judge, Kernel, KernelFuture, Kind, Listing, MAX_EXPIRE, Page, Record, Slot,
        Verdict, Version, Write, check_id, check_write,
    },
    snapshot::Snapshot,
};

/// Deletes of the collector on their way at a time: a small part of what an API server does at once.
const DELETES_AT_ONCE: usize = 8;

/// A store on Kubernetes.
pub struct KubernetesKernel {
    client: Client,
    configured: Configured,
    answer_time: Duration,
    scan_time: Duration,
}

impl KubernetesKernel {
    /// Reads the access and waits until records and configured objects are served, installing their definitions when the
    /// options say so. Then it begins to watch.
    ///
    /// # Errors
    /// [`KubernetesError`].
    pub async fn open(options: &KubernetesOptions, clock: &Clock, rng: Rng) -> Result<Self, KubernetesError> {
        let client = open::open(options, options.crds, rng).await?;
        schema::check(&client, options.crds, Instant::now() + options.open_time).await?;
        Ok(Self::on(client, options, clock))
    }

    /// Opens a store whose definitions are installed, for a tool that only reads: installs nothing.
    ///
    /// # Errors
    /// As [`KubernetesKernel::open`].
    pub async fn look(options: &KubernetesOptions, clock: &Clock, rng: Rng) -> Result<Self, KubernetesError> {
        let crds = if options.crds == CrdHandling::Skip { CrdHandling::Skip } else { CrdHandling::Check };
        let client = open::open(options, crds, rng).await?;
        if !schema::look(&client, Instant::now() + options.open_time).await? {
            return Err(KubernetesError::Absent { namespace: client.namespace().to_owned() });
        }
        Ok(Self::on(client, options, clock))
    }

    fn on(client: Client, options: &KubernetesOptions, clock: &Clock) -> Self {
        let configured = Configured::start(&client, clock);
        Self { client, configured, answer_time: options.answer_time, scan_time: options.scan_time }
    }

    fn soon(&self) -> Instant {
        Instant::now() + self.answer_time
    }

    /// Every page is a scan of what the selector admits.
    async fn page(&self, kind: Kind, selector: &str, page: Page) -> Result<Listing, KernelError> {
        let deadline = Instant::now() + self.scan_time;
        let mut smallest = Smallest::new(page);
        let each = |object: Object| {
            smallest.push(object.into_record(kind)?);
            Ok(())
        };
        scan(&self.client, selector, Form::Whole, deadline, each).await?;
        smallest.into_listing()
    }

    async fn over(&self, now: Timestamp, limit: usize, deadline: Instant) -> Result<(Vec<Over>, bool), KernelError> {
        let mut earliest = Earliest::new(now, limit);
        let each = |object: MetadataOnly| {
            earliest.push(object.metadata);
            Ok(())
        };
        scan(&self.client, &selector_of_over(now), Form::Metadata, deadline, each).await?;
        Ok(earliest.into_sorted())
    }

    /// Deletes those of them that are as they were read, and returns how many. After a failure no more are begun.
    async fn delete_all(&self, over: Vec<Over>, deadline: Instant) -> Result<usize, KernelError> {
        let (mut deleted, mut unknown, mut failure) = (0, 0, None);
        let mut running = JoinSet::new();
        let mut over = over.into_iter();
        loop {
            while failure.is_none()
                && running.len() < DELETES_AT_ONCE
                && let Some(next) = over.next()
            {
                let client = self.client.clone();
                running.spawn(async move { delete(&client, next, deadline).await });
            }
            let Some(done) = running.join_next().await else { break };
            match done.unwrap_or(Err(KernelError::maybe_applied(Trouble::Closed))) {
                Ok(gone) => deleted += usize::from(gone),
                Err(error) => {
                    unknown += usize::from(matches!(error, KernelError::Unavailable { applied: Applied::Unknown, .. }));
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(deleted), |error| Err(error.after(deleted + unknown)))
    }
}

/// Whether it was there as it was read.
async fn delete(client: &Client, over: Over, deadline: Instant) -> Result<bool, KernelError> {
    let Over { name, uid, resource_version, .. } = over;
    let preconditions = Preconditions { uid: Some(uid), resource_version: Some(resource_version) };
    match client.delete(&RECORDS, &name, preconditions, deadline).await {
        Ok(()) => Ok(true),
        // It has got another life, or another collector was faster.
        Err(ClientError::Conflict | ClientError::NotFound) => Ok(false),
        Err(error) => Err(of_write(&error)),
    }
}

impl Kernel for KubernetesKernel {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        Box::pin(async move {
            check_id(id)?;
            if let Some(followed) = self.configured.of(kind) {
                return followed.get(id, self.soon()).await;
            }
            if kind == Kind::Lease {
                return match self.client.get::<Lease>(&LEASES, &lease_name(id), self.soon()).await {
                    Ok(lease) => lease.into_record(id).map(Some),
                    Err(ClientError::NotFound) => Ok(None),
                    Err(error) => Err(of_read(&error)),
                };
            }
            match self.client.get::<Object>(&RECORDS, &name_of(kind, id), self.soon()).await {
                Ok(object) => object.into_record(kind).map(Some),
                Err(ClientError::NotFound) => Ok(None),
                Err(error) => Err(of_read(&error)),
            }
        })
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            check_write(id, &write)?;
            if let Some(followed) = self.configured.of(kind) {
                return followed.insert(id, &write, self.soon()).await;
            }
            if kind == Kind::Lease {
                let made = self.client.create::<Lease>(&LEASES, &lease::object(id, &write, None)?, self.soon()).await;
                return made.map_err(|error| of_insert(&error))?.version();
            }
            let object = NewObject::new(kind, id, &write, None);
            drop(write);
            let made = self.client.create::<MetadataOnly>(&RECORDS, &object, self.soon()).await;
            made.map_err(|error| of_insert(&error))?.version()
        })
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            check_write(id, &write)?;
            if let Some(followed) = self.configured.of(kind) {
                return followed.update(id, version, &write, self.soon()).await;
            }
            if kind == Kind::Lease {
                // Compat: a PUT to a `Lease` that is not there makes it (`AllowCreateOnUpdate` in
                // `pkg/registry/coordination/lease/strategy.go`), unless the object has a uid.
                let deadline = self.soon();
                let found = self.client.get::<Value>(&LEASES, &lease_name(id), deadline).await;
                let found = found.map_err(|error| match error {
                    ClientError::NotFound => KernelError::NotFound,
                    error => of_read(&error),
                })?;
                if found.pointer("/metadata/resourceVersion").and_then(Value::as_str)
                    != Some(&version.number().to_string())
                {
                    return Err(KernelError::Conflict);
                }
                let changed = lease::object(id, &write, Some(found))?;
                let replaced = self.client.replace::<Lease>(&LEASES, &lease_name(id), &changed, deadline).await;
                return replaced.map_err(|error| of_write(&error))?.version();
            }
            let object = NewObject::new(kind, id, &write, Some(version));
            drop(write);
            let replaced = self.client.replace::<MetadataOnly>(&RECORDS, object.name(), &object, self.soon()).await;
            replaced.map_err(|error| of_write(&error))?.version()
        })
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        Box::pin(async move {
            check_id(id)?;
            if let Some(followed) = self.configured.of(kind) {
                return followed.delete(id, version, self.soon()).await;
            }
            let preconditions = Preconditions { uid: None, resource_version: Some(version.number().to_string()) };
            let (resource, name) = match kind {
                Kind::Lease => (&LEASES, lease_name(id)),
                _ => (&RECORDS, name_of(kind, id)),
            };
            let deleted = self.client.delete(resource, &name, preconditions, self.soon()).await;
            deleted.map_err(|error| of_write(&error))
        })
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        Box::pin(async move {
            if let Some(followed) = self.configured.of(kind) {
                return followed.list(&page, Instant::now() + self.scan_time).await;
            }
            if kind == Kind::Lease {
                // Rights are for their names, and a list of all leases of the namespace needs more.
                return Ok(Listing::default());
            }
            self.page(kind, &selector(kind, None), page).await
        })
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        Box::pin(async move {
            if self.configured.of(kind).is_some() || kind == Kind::Lease {
                // They have no index keys.
                return Ok(Listing::default());
            }
            self.page(kind, &selector(kind, Some((slot, key))), page).await
        })
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        Box::pin(async move {
            let limit = limit.min(MAX_EXPIRE);
            let deadline = Instant::now() + self.scan_time;
            let mut deleted = 0;
            while deleted < limit {
                let (over, more) =
                    self.over(now, limit - deleted, deadline).await.map_err(|error| error.after(deleted))?;
                deleted += self.delete_all(over, deadline).await.map_err(|error| error.after(deleted))?;
                if !more {
                    break;
                }
            }
            Ok(deleted)
        })
    }

    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        Box::pin(scan::snapshot(&self.client, self.scan_time))
    }

    fn trouble(&self) -> Option<String> {
        self.configured.trouble()
    }

    fn description(&self) -> Description {
        let place = format!("the namespace {:?} of the cluster at {}", self.client.namespace(), self.client.server());
        Description { backend: "kubernetes", place, schema: schema::SCHEMA }
    }

    fn recent<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        Box::pin(async move {
            check_id(id)?;
            match self.configured.of(kind) {
                Some(followed) => followed.recent(id, self.soon()).await,
                None => self.get(kind, id).await,
            }
        })
    }

    fn feed(&self, kind: Kind) -> Option<Feed> {
        self.configured.of(kind).map(|followed| followed.feed())
    }

    fn judge_with(&self, judge: Judge) {
        self.configured.judge_with(&judge);
    }

    fn judge_again(&self) {
        self.configured.judge_again();
    }

    fn report<'a>(&'a self, kind: Kind, id: &'a str, verdict: Verdict) -> KernelFuture<'a, ()> {
        Box::pin(async move {
            match self.configured.of(kind) {
                Some(followed) => followed.report(id, verdict, self.soon()).await,
                None => Ok(()),
            }
        })
    }
}

impl std::fmt::Debug for KubernetesKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesKernel").field("client", &self.client).finish_non_exhaustive()
    }
}
