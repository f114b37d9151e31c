//! What changed, newest last, bounded in number and bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Store;
use super::object::Object;
use crate::resources::Resource;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One change. Its version is that of `object`.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) change: Change,
    pub(crate) object: Arc<Object>,
    /// The object before the change.
    pub(crate) before: Option<Arc<Object>>,
}

/// An event and its place in the log.
const EVENT: usize = size_of::<Event>() + 3 * size_of::<usize>();

impl Event {
    /// Bytes of memory that remembering it takes: the state before it, which is no more, and the last one of what was deleted.
    /// Other objects are still there, or are the state before a later event, which counts them.
    fn bytes(&self) -> usize {
        let last = if self.change == Change::Deleted { self.object.cost() } else { 0 };
        EVENT + last + self.before.as_ref().map_or(0, |before| before.cost())
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Log {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The version of the newest change that was forgotten.
    forgotten: u64,
    limits: LogLimits,
}

impl Log {
    /// An empty log that begins after the version `forgotten`.
    pub(crate) fn after(forgotten: u64, limits: LogLimits) -> Self {
        Self { events: VecDeque::new(), bytes: 0, forgotten, limits }
    }

    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > self.limits.events || (self.bytes > self.limits.bytes && self.events.len() > 1) {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.bytes());
            self.forgotten = oldest.object.version;
        }
    }

    /// The changes after `version`, oldest first; `None` when some of them are forgotten.
    pub(crate) fn since(&self, version: u64) -> Option<impl DoubleEndedIterator<Item = &Arc<Event>>> {
        if version < self.forgotten {
            return None;
        }
        let from = self.events.partition_point(|event| event.object.version <= version);
        Some(self.events.range(from..))
    }

    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

/// Changes for one watcher.
pub(crate) struct Batch {
    pub(crate) events: Vec<Arc<Event>>,
    /// Everything of the resource up to this version is in this batch or before it.
    pub(crate) upto: u64,
}

/// The log no longer reaches back to where the watcher stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooOld {
    /// The oldest version that a watch could begin at.
    pub(crate) oldest: u64,
}

impl Store {
    /// At most `limit` changes of a resource after `version`.
    pub(crate) fn changes(&self, resource: &Resource, version: u64, limit: usize) -> Result<Batch, TooOld> {
        let state = self.read();
        let Some(table) = state.table(resource) else { return Ok(Batch { events: Vec::new(), upto: version }) };
        let Some(changes) = table.log.since(version) else {
            return Err(TooOld { oldest: table.log.forgotten() });
        };
        let events: Vec<_> = changes.take(limit).map(Arc::clone).collect();
        let upto = match events.last() {
            Some(last) if events.len() >= limit => last.object.version,
            _ => state.version.max(version),
        };
        Ok(Batch { events, upto })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources;
    use crate::store::StoreLimits;

    fn churn(store: &Store, times: usize) -> u64 {
        for number in 0..times {
            let members = json!({"metadata": {"name": format!("n{number}")}}).as_object().unwrap().clone();
            store.create(resources::namespaces(), members).unwrap();
        }
        store.version()
    }

    #[test]
    fn a_cursor_sees_every_change_once_in_order() {
        let store = Store::new(StoreLimits::default());
        let end = churn(&store, 250);
        let mut at = 1;
        let mut seen = Vec::new();
        while at < end {
            let batch = store.changes(resources::namespaces(), at, 64).unwrap();
            seen.extend(batch.events.iter().map(|event| event.object.version));
            at = batch.upto;
        }
        assert_eq!(seen, (2..=end).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_log_forgot_is_an_error_and_not_a_gap() {
        let store = Store::new(StoreLimits { log_events: 10, ..StoreLimits::default() });
        let end = churn(&store, 30);
        assert_eq!(store.changes(resources::namespaces(), 1, 64).err(), Some(TooOld { oldest: end - 10 }));
        assert_eq!(store.changes(resources::namespaces(), end - 10, 64).unwrap().events.len(), 10);
    }

    #[test]
    fn the_log_is_bounded_in_bytes_of_what_is_no_more() {
        const LIMIT: usize = 10_000;
        let store = Store::new(StoreLimits { log_bytes: LIMIT, ..StoreLimits::default() });
        let namespaces = resources::namespaces();
        let members = || json!({"metadata": {"name": "a", "labels": {"x": "y"}}}).as_object().unwrap().clone();
        let mut object = store.create(namespaces, members()).unwrap();
        for _ in 0..100 {
            object = store.replace(namespaces, &object, members()).unwrap();
        }
        let forgotten = store.read().tables[namespaces.id()].log.forgotten();
        let kept = store.changes(namespaces, forgotten, 1_000).unwrap().events;
        let states = |of: fn(&Event) -> Option<&Arc<Object>>| -> usize {
            kept.iter().filter_map(|event| of(event)).map(|object| object.cost()).sum()
        };
        let bytes = states(|event| event.before.as_ref());
        assert!(bytes <= LIMIT && bytes > LIMIT / 2, "{bytes} in {} events", kept.len());
        assert_eq!(store.read().tables[namespaces.id()].log.bytes, bytes + kept.len() * EVENT);
        assert!(store.changes(namespaces, forgotten - 1, 1_000).is_err());
        store.remove(namespaces, &object).unwrap();
        let last = store.changes(namespaces, store.version() - 1, 1).unwrap().events;
        assert!(last[0].bytes() > object.cost() * 2 - 20, "a deleted object's last state counts too");
    }

    #[test]
    fn a_quiet_resource_follows_the_common_version() {
        let store = Store::new(StoreLimits::default());
        let end = churn(&store, 5);
        let pods = resources::find("", "v1", "pods").unwrap();
        assert_eq!(store.changes(pods, 1, 10).unwrap().upto, end);
    }
}
