//! Objects that end by themselves: events, an hour after they were last written.
//!
//! Compat: kube-apiserver gives each write of an event a lease of `--event-ttl` in etcd (`pkg/registry/core/event/storage`), and
//! all writes of a minute the same one, so that an event stays up to a minute longer (`etcd3/lease_manager.go`). Here they are
//! looked for once a minute. Where objects are kept the end is kept too, and is that of the last write after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_runtime::Timestamp;

use super::committer::Ticket;
use super::object::Object;
use super::{Store, StoreError};
use crate::resources::{self, Resource};

/// Objects whose end is still to come, the first one first: by their end and their version, which no two objects share.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<(Timestamp, u64), (&'static Resource, Arc<Object>)>);

impl Ends {
    /// Takes in a change.
    pub(super) fn follow(
        &mut self,
        resource: &'static Resource,
        before: Option<&Arc<Object>>,
        after: Option<&Arc<Object>>,
    ) {
        if let Some(before) = before
            && let Some(ends) = before.ends
        {
            self.0.remove(&(ends, before.version));
        }
        if let Some(after) = after
            && let Some(ends) = after.ends
        {
            self.0.insert((ends, after.version), (resource, Arc::clone(after)));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Store {
    /// When an object that is written now ends by itself.
    pub(super) fn end_of(&self, resource: &Resource) -> Option<Timestamp> {
        let ttl = self.limits.event_ttl;
        (std::ptr::eq(resource, resources::events()) && !ttl.is_zero()).then(|| self.clock.now() + ttl)
    }

    /// An object of the file with an end no later than that of one written now. A file of an earlier layout has no ends, and a
    /// clock may have been ahead; what differs from the file is noted.
    pub(super) fn settle_end(
        &self,
        resource: &'static Resource,
        object: Arc<Object>,
        otherwise: &mut Vec<(&'static Resource, Arc<Object>)>,
    ) -> Arc<Object> {
        let Some(latest) = self.end_of(resource) else { return object };
        if object.ends.is_some_and(|ends| ends <= latest) {
            return object;
        }
        let object = Object::seal_until(resource, object.members(), object.version, Some(latest));
        otherwise.push((resource, Arc::clone(&object)));
        object
    }

    /// Takes away what has ended; how much that was.
    pub(crate) fn expire(&self) -> Result<usize, StoreError> {
        let ended: Vec<(&'static Resource, Arc<Object>)> = {
            let (state, now) = (self.read(), self.clock.now());
            let ended = state.ends.0.range(..=(now, u64::MAX));
            ended.map(|(_, (resource, object))| (*resource, Arc::clone(object))).collect()
        };
        let mut tickets: Vec<Ticket> = Vec::with_capacity(ended.len());
        for (resource, object) in ended {
            match self.begin(resource, |view| view.removal(resource, &object)) {
                Ok((_, ticket)) => tickets.push(ticket),
                // It has been written or deleted meanwhile.
                Err(StoreError::Conflict | StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let count = tickets.len();
        tickets.into_iter().try_for_each(Ticket::wait)?;
        Ok(count)
    }
}
