//! The memory kernel: ordered maps behind one lock. Everything is lost when the process ends.
//!
//! It serves `storage: {type: memory}` and tests. Operations are short and never wait while they hold the lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use portcullis_runtime::Timestamp;

use crate::{
    error::KernelError,
    kernel::{
        Description, IndexKey, Kernel, KernelFuture, Kind, Listing, MAX_EXPIRE, Mark, Page, Record, Slot, Version,
        Write, check_id, check_write,
    },
    snapshot::{Batch, Snapshot},
};

/// A store in memory.
#[derive(Default)]
pub struct MemoryKernel(Mutex<State>);

#[derive(Default)]
struct State {
    last_version: u64,
    records: BTreeMap<Kind, BTreeMap<String, Entry>>,
    indices: [BTreeMap<(Kind, IndexKey), BTreeSet<String>>; 2],
    expiries: BTreeSet<(Timestamp, Kind, String)>,
    /// How often each kind was written to or deleted from.
    changes: BTreeMap<Kind, u64>,
}

struct Entry {
    version: Version,
    write: Write,
}

impl Entry {
    fn record(&self, id: &str) -> Record {
        Record {
            id: id.to_owned(),
            version: self.version,
            index: self.write.index,
            expires_at: self.write.expires_at,
            data: self.write.data.clone(),
        }
    }
}

impl MemoryKernel {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The state. Every operation leaves it whole, so a panic elsewhere while it was locked does not matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn all(&self) -> Batch {
        let kinds = self.records.iter();
        kinds.flat_map(|(kind, records)| records.iter().map(|(id, entry)| (*kind, entry.record(id)))).collect()
    }

    fn get(&self, kind: Kind, id: &str) -> Option<&Entry> {
        self.records.get(&kind)?.get(id)
    }

    fn put(&mut self, kind: Kind, id: &str, write: Write) -> Version {
        self.remove(kind, id);
        self.last_version += 1;
        let version = Version::new(self.last_version);
        for (index, key) in self.indices.iter_mut().zip(write.index) {
            if let Some(key) = key {
                index.entry((kind, key)).or_default().insert(id.to_owned());
            }
        }
        if let Some(at) = write.expires_at {
            self.expiries.insert((at, kind, id.to_owned()));
        }
        self.records.entry(kind).or_default().insert(id.to_owned(), Entry { version, write });
        *self.changes.entry(kind).or_default() += 1;
        version
    }

    fn remove(&mut self, kind: Kind, id: &str) {
        let Some(old) = self.records.get_mut(&kind).and_then(|records| records.remove(id)) else { return };
        *self.changes.entry(kind).or_default() += 1;
        for (index, key) in self.indices.iter_mut().zip(old.write.index) {
            let Some(key) = key else { continue };
            if let Some(ids) = index.get_mut(&(kind, key)) {
                ids.remove(id);
                if ids.is_empty() {
                    index.remove(&(kind, key));
                }
            }
        }
        if let Some(at) = old.write.expires_at {
            self.expiries.remove(&(at, kind, id.to_owned()));
        }
    }

    fn check_version(&self, kind: Kind, id: &str, version: Version) -> Result<(), KernelError> {
        match self.get(kind, id) {
            None => Err(KernelError::NotFound),
            Some(entry) if entry.version != version => Err(KernelError::Conflict),
            Some(_) => Ok(()),
        }
    }
}

fn after(page: &Page) -> Bound<&str> {
    page.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded)
}

impl Kernel for MemoryKernel {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        Box::pin(async move {
            check_id(id)?;
            Ok(self.state().get(kind, id).map(|entry| entry.record(id)))
        })
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            check_write(id, &write)?;
            let mut state = self.state();
            if state.get(kind, id).is_some() {
                return Err(KernelError::AlreadyExists);
            }
            Ok(state.put(kind, id, write))
        })
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version> {
        Box::pin(async move {
            check_write(id, &write)?;
            let mut state = self.state();
            state.check_version(kind, id, version)?;
            Ok(state.put(kind, id, write))
        })
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        Box::pin(async move {
            check_id(id)?;
            let mut state = self.state();
            state.check_version(kind, id, version)?;
            state.remove(kind, id);
            Ok(())
        })
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        Box::pin(async move {
            let state = self.state();
            let Some(records) = state.records.get(&kind) else { return Ok(Listing::default()) };
            let records = records.range::<str, _>((after(&page), Bound::Unbounded));
            Listing::collect(&page, records.map(|(id, entry)| Ok(entry.record(id))))
        })
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        Box::pin(async move {
            let state = self.state();
            let [first, second] = &state.indices;
            let index = match slot {
                Slot::First => first,
                Slot::Second => second,
            };
            let Some(ids) = index.get(&(kind, key)) else { return Ok(Listing::default()) };
            let ids = ids.range::<str, _>((after(&page), Bound::Unbounded));
            let records = ids.filter_map(|id| state.get(kind, id).map(|entry| Ok(entry.record(id))));
            Listing::collect(&page, records)
        })
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        Box::pin(async move {
            let mut state = self.state();
            let over = state.expiries.iter().take_while(|(at, ..)| *at <= now).take(limit.min(MAX_EXPIRE));
            let over: Vec<_> = over.cloned().collect();
            for (_, kind, id) in &over {
                state.remove(*kind, id);
            }
            Ok(over.len())
        })
    }

    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        Box::pin(async move {
            let all = self.state().all();
            let (sink, snapshot) = Snapshot::channel();
            // There is room for both, so nothing here waits and no task is needed.
            if sink.put(all).await.is_ok() {
                sink.close(Ok(())).await;
            }
            Ok(snapshot)
        })
    }

    fn description(&self) -> Description {
        Description { backend: "memory", place: "the memory of this process".to_owned(), schema: 1 }
    }

    fn mark<'a>(&'a self, kind: Kind) -> KernelFuture<'a, Mark> {
        Box::pin(async move { Ok(Mark(self.state().changes.get(&kind).copied().unwrap_or_default(), 0)) })
    }
}
