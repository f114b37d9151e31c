//! What has changed among configured objects, in bounded memory: ids as long as they are few, else that everything may have.
//!
//! Flow on a backend that watches: the watch tells [`Hub`] → each [`Feed`] collects until its reader comes. Elsewhere
//! [`Changes`] asks for the kind's [`Mark`](crate::kernel::Mark) every second.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use portcullis_runtime::Clock;
use tokio::sync::Notify;

use crate::{
    error::StoreError,
    kernel::{Kernel, Kind, Mark},
    store::Store,
};

/// Most ids that a feed collects; with more, everything may have changed.
pub const MAX_CHANGED_IDS: usize = 256;
/// How often a backend that does not tell by itself is asked.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Objects with these ids have been written or deleted.
    Ids(BTreeSet<String>),
    /// Any may have been.
    All,
}

impl Change {
    /// Nothing has.
    pub(crate) const fn none() -> Self {
        Self::Ids(BTreeSet::new())
    }
}

/// Collects changes of one kind until they are asked for.
#[derive(Debug)]
pub struct Feed(Arc<Inbox>);

#[derive(Debug, Default)]
struct Inbox {
    waiting: Mutex<Option<Change>>,
    come: Notify,
}

impl Inbox {
    fn add(&self, change: &Change) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let together = match (waiting.take(), change) {
            (None, change) => change.clone(),
            (Some(Change::Ids(mut ids)), Change::Ids(more)) => {
                ids.extend(more.iter().cloned());
                if ids.len() > MAX_CHANGED_IDS { Change::All } else { Change::Ids(ids) }
            }
            (Some(_), _) => Change::All,
        };
        *waiting = Some(together);
        drop(waiting);
        self.come.notify_one();
    }
}

impl Feed {
    /// What has changed since the last call, as soon as something has. Safe to drop while it waits.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return change;
            }
            self.0.come.notified().await;
        }
    }
}

/// For backends that watch: hands changes of one kind to all feeds that are still read.
#[derive(Debug, Default)]
pub(crate) struct Hub(Mutex<Vec<Weak<Inbox>>>);

impl Hub {
    pub(crate) fn feed(&self) -> Feed {
        let inbox = Arc::new(Inbox::default());
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|feed| feed.strong_count() > 0);
        feeds.push(Arc::downgrade(&inbox));
        Feed(inbox)
    }

    pub(crate) fn tell(&self, change: &Change) {
        let feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.iter().filter_map(Weak::upgrade).for_each(|inbox| inbox.add(change));
    }
}

/// The changes of one kind of configured objects.
pub struct Changes {
    kernel: Arc<dyn Kernel>,
    clock: Clock,
    kind: Kind,
    feed: Option<Feed>,
    /// Whether the backend has been asked.
    asked: bool,
    /// As of the last answer; `None` before the first.
    mark: Option<Mark>,
}

impl Changes {
    pub(crate) fn new(store: &Store, kind: Kind) -> Self {
        let (kernel, clock) = store.kernel_and_clock();
        let feed = kernel.feed(kind);
        Self { kernel, clock, kind, feed, asked: false, mark: None }
    }

    /// Waits for the next change: at once for those that a backend tells of by itself, at most about a second elsewhere. On a
    /// backend that is asked, the first call answers [`Change::All`] at once: nobody knows what came before.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked at the moment; the next call asks again, after a second.
    pub async fn next(&mut self) -> Result<Change, StoreError> {
        if let Some(feed) = &mut self.feed {
            return Ok(feed.next().await);
        }
        loop {
            // Not before the first question; also after one that failed.
            if std::mem::replace(&mut self.asked, true) {
                self.clock.sleep(POLL_EVERY).await;
            }
            let now = Some(self.kernel.mark(self.kind).await?);
            if std::mem::replace(&mut self.mark, now) != now {
                return Ok(Change::All);
            }
        }
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Change {
        Change::Ids(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    #[tokio::test]
    async fn changes_are_collected_while_nobody_reads_and_become_all_when_they_are_many() {
        let hub = Hub::default();
        hub.tell(&ids(&["before"]));
        let (mut one, mut other) = (hub.feed(), hub.feed());
        hub.tell(&ids(&["a"]));
        hub.tell(&ids(&["b", "a"]));
        assert_eq!(one.next().await, ids(&["a", "b"]));
        hub.tell(&ids(&["c"]));
        assert_eq!((one.next().await, other.next().await), (ids(&["c"]), ids(&["a", "b", "c"])));
        for number in 0..=MAX_CHANGED_IDS {
            hub.tell(&ids(&[&number.to_string()]));
        }
        assert_eq!(one.next().await, Change::All);
        hub.tell(&Change::All);
        hub.tell(&ids(&["d"]));
        assert_eq!(one.next().await, Change::All);
        drop(other);
        let _ = hub.feed();
        assert_eq!(hub.0.lock().unwrap().len(), 2, "feeds that nobody reads are forgotten");
    }
}
