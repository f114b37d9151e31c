//! What only one replica does, and who does it when that one is gone.

use std::sync::atomic::{AtomicUsize, Ordering};

use portcullis_runtime::{Shutdown, Timestamp};
use portcullis_storage::Snapshot;
use portcullis_storage::kernel::{
    Description, IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write,
};

use super::*;
use crate::provider::Background;

/// A replica's way to the store, which counts how often it collects.
struct Way {
    inner: Arc<MemoryKernel>,
    collections: AtomicUsize,
}

impl Kernel for Way {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        self.inner.get(kind, id)
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        self.inner.insert(kind, id, write)
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version> {
        self.inner.update(kind, id, version, write)
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        self.inner.delete(kind, id, version)
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        self.inner.list(kind, page)
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        self.inner.by_index(kind, slot, key, page)
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        self.collections.fetch_add(1, Ordering::SeqCst);
        self.inner.expire(now, limit)
    }

    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        self.inner.snapshot()
    }

    fn description(&self) -> Description {
        self.inner.description()
    }
}

struct Replica {
    world: World,
    way: Arc<Way>,
    shutdown: Shutdown,
    background: Option<Background>,
}

impl Replica {
    async fn start(inner: &Arc<MemoryKernel>, seed: u64) -> Self {
        let way = Arc::new(Way { inner: Arc::clone(inner), collections: AtomicUsize::new(0) });
        let (clock, hand) = Clock::mock(NOW);
        let (rng, config) = (Rng::seeded(seed), config(""));
        let kernel: Arc<dyn Kernel> = Arc::clone(&way) as _;
        let store = Store::with_options(kernel, clock.clone(), rng.clone(), config.store_options());
        let world = World::on(config, store, (clock, hand), rng, ProviderOptions::default()).await;
        let shutdown = Shutdown::new();
        let background = Some(world.provider.start(&shutdown));
        Self { world, way, shutdown, background }
    }

    fn collections(&self) -> usize {
        self.way.collections.load(Ordering::SeqCst)
    }
}

/// Lets time pass everywhere, in steps of five seconds, until something is so; returns how many seconds it took.
async fn until(replicas: [&Replica; 2], what: &str, so: impl Fn() -> bool) -> u64 {
    for step in 0..1_000 {
        for _ in 0..10 {
            if so() {
                return 5 * step;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        replicas.iter().for_each(|replica| replica.world.clock.advance(Duration::from_secs(5)));
    }
    panic!("{what}: not in 5,000 seconds");
}

#[tokio::test]
async fn a_replica_that_was_killed_is_followed_by_another() {
    let kernel = Arc::new(MemoryKernel::new());
    let mut first = Replica::start(&kernel, 1).await;
    let second = Replica::start(&kernel, 2).await;
    until([&first, &second], "several rounds of one", || first.collections() + second.collections() >= 4).await;
    assert_eq!(second.collections(), 0, "{} by the one that came first", first.collections());
    // What is over is deleted by it.
    let over = Write { expires_at: Some(Timestamp::from_unix_seconds(NOW)), ..Write::default() };
    let _ = kernel.insert(Kind::Request, "over", over).await.unwrap();
    let before = first.collections();
    until([&first, &second], "a round", || first.collections() > before).await;
    assert_eq!(kernel.get(Kind::Request, "over").await.unwrap(), None);
    // kill -9.
    drop(first.background.take());
    let collected = first.collections();
    let waited = until([&first, &second], "the other follows", || second.collections() > 0).await;
    assert!((20..=80).contains(&waited), "{waited}");
    assert_eq!(first.collections(), collected);

    // An end that was asked for leaves no lease behind.
    second.shutdown.trigger();
    let background = second.background.unwrap();
    tokio::time::timeout(Duration::from_secs(10), background.wait()).await.unwrap().unwrap();
    for lease in ["collector", "sealing"] {
        let record = kernel.get(Kind::Lease, lease).await.unwrap().unwrap();
        let document: Value = serde_json::from_slice(&record.data).unwrap();
        assert_eq!(document["v"].get("holder"), None, "{lease}: {document}");
    }
}
