//! How objects go: what a deletion does to one, and what the controllers of a real cluster do about those that are going.
//!
//! `options` reads what a client asks for; `registry` does it to one object; `collector` takes away what lost its owners,
//! waits for dependants or leaves them behind; `emptying` takes away what stands in a namespace that goes; `protection` lets
//! volumes and claims go that nothing uses. The last three run in the background, one task of the store's queue at a time, so
//! that no request waits for them and no chain or cycle of owners can make them recurse. `expiry` takes away what ends by itself.

mod collector;
mod emptying;
mod expiry;
pub(crate) mod options;
pub(crate) mod protection;
pub(crate) mod registry;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_kube::Status;
use portcullis_runtime::Shutdown;
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::resources::Resource;
use crate::resources::tree::Members;
use crate::resources::{pods, strategy};
use crate::store::StoreError;
use crate::store::graph::{Found, Task};
use crate::store::object::Object;

/// Why an object was not deleted.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It may not be, and that is what the client is told.
    Answer(Box<Status>),
    /// The store could not.
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Starts both kinds of work, until `shutdown`. None of it ends before, but by a panic; what was being done then is not done
/// again, or it would panic for ever.
pub(crate) fn start(engine: &Arc<Engine>, shutdown: &Shutdown) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    jobs.spawn(run(Arc::clone(engine), shutdown.clone()));
    jobs.spawn(expiry::run(Arc::clone(engine), shutdown.clone()));
    jobs
}

/// Does what deletions leave to do, until `shutdown`.
async fn run(engine: Arc<Engine>, shutdown: Shutdown) {
    loop {
        while engine.work_off() {
            tokio::task::yield_now().await;
            if shutdown.is_triggered() {
                return;
            }
        }
        if shutdown.unless(engine.store.work()).await.is_none() {
            return;
        }
    }
}

impl Engine {
    /// Does one thing that deletions left to do; whether there was one.
    pub(crate) fn work_off(&self) -> bool {
        let Some(task) = self.store.next_task() else { return false };
        match &task {
            Task::Judge(uid) => self.judge(uid),
            Task::Orphan(uid) => self.orphan(uid),
            Task::Stop(uid) => self.stop(uid),
            Task::Empty(namespace) => self.empty(namespace),
            #[cfg(test)]
            Task::Bug => panic!("the work hit a bug"),
            Task::Protect(uid) => self.protect(uid),
            Task::ReviewClaims(namespace) => self.review_claims(namespace),
        }
        true
    }

    /// Ends a pod on this process' node, as a kubelet whose containers have ended: nothing but our own parts runs there, and
    /// they come back. Compat: pods on other nodes wait for theirs.
    fn stop(&self, uid: &str) {
        let Some(Found { resource, object }) = self.store.find(uid) else { return };
        if !object.terminating || !self.is_own_node(object.field("spec.nodeName")) {
            return;
        }
        let mut options = options::DeleteOptions { grace: Some(0), ..Default::default() };
        options.uid = Some(uid.to_owned());
        self.try_to_delete(resource, &object, &options, &Task::Stop(uid.into()));
    }

    /// Deletes what may have changed meanwhile; then it is looked at once more.
    fn try_to_delete(
        &self,
        resource: &'static Resource,
        object: &Arc<Object>,
        options: &options::DeleteOptions,
        again: &Task,
    ) {
        match registry::delete(self, resource, object, options) {
            Ok(_) | Err(Refusal::Store(StoreError::NotFound)) => {}
            Err(Refusal::Store(StoreError::Conflict)) => self.store.ask([again.clone()]),
            Err(why) => tracing::warn!(?why, kind = resource.kind, name = %object.name, "an object stays"),
        }
    }

    /// Writes a new state of an object that is going, or takes it away when nothing holds it any more.
    fn let_go(&self, resource: &'static Resource, old: &Object, members: Members) -> Result<(), StoreError> {
        let members = strategy::shape(resource, members);
        if old.terminating && registry::is_free(resource, &members) && registry::is_due(&old.members()) {
            self.store.remove(resource, old)?;
            self.removed(resource, &old.namespace, &old.name);
        } else {
            self.store.replace(resource, old, members)?;
            self.written(resource, &old.namespace, &old.name);
        }
        Ok(())
    }

    /// What follows from the end of an object.
    pub(crate) fn removed(&self, resource: &'static Resource, namespace: &str, name: &str) {
        self.written(resource, namespace, name);
        if std::ptr::eq(resource, pods()) {
            self.restart_part(resource, namespace, name);
        }
    }
}
