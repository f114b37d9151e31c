//! Many writers at one record, and a store that is far away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_runtime::Timestamp;
use portcullis_storage::{
    Applied, Kernel, KernelError,
    kernel::{Page, Version, Write},
};
use portcullis_testkit::Traffic;
use tokio::task::JoinSet;

use super::behind::{IDLE, KIND, Server, write};

/// 64 writers on two replicas have read the same version and change it at once, round after round: one of them does, and the
/// others are told.
pub(super) async fn of_a_storm_of_conflicts_one_wins_each_round(server: &Server) {
    const WRITERS: usize = 64;
    const ROUNDS: usize = 8;
    let store = server.store().await;
    let mut version = store.there("counter", "0").await;
    for round in 1..=ROUNDS {
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let kernel = Arc::clone(if number % 2 == 0 { &store.kernel } else { &store.direct });
            writers.spawn(async move { kernel.update(KIND, "counter", version, write(&round.to_string())).await });
        }
        let mut won = Vec::new();
        for outcome in writers.join_all().await {
            match outcome {
                Ok(next) => won.push(next),
                Err(error) => assert_eq!(error, KernelError::Conflict, "round {round}"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        version = won[0];
        assert_eq!(store.data("counter").await, Some(round.to_string()));
    }
}

/// 16 writers add three names each to one record, over a network that loses a request or an answer every quarter of a second,
/// and all connections now and then. In the end every name is there once.
pub(super) async fn no_update_is_lost_over_a_network_that_loses_things(server: &Server) {
    const WRITERS: usize = 16;
    const EACH: usize = 3;
    /// Writers that are too fast for the network's faults go on until one was met.
    const MOST: usize = 100;
    let store = server.store().await;
    store.there("id", "").await;
    let mut writers = JoinSet::new();
    let unknown = Arc::new(AtomicUsize::new(0));
    for number in 0..WRITERS {
        let (kernel, unknown) = (Arc::clone(&store.kernel), Arc::clone(&unknown));
        writers.spawn(async move {
            let mut part = 0;
            while part < EACH || (part < MOST && unknown.load(Ordering::Relaxed) == 0) {
                unknown.fetch_add(add(&*kernel, format!("<{number}.{part}>")).await, Ordering::Relaxed);
                part += 1;
            }
            (number, part)
        });
    }
    let proxy = Arc::clone(&store.proxy);
    let chaos = tokio::spawn(async move {
        for round in 0_u64.. {
            match round % 16 {
                15 => proxy.cut(),
                even if even % 2 == 0 => proxy.set(Traffic::LoseReply),
                _ => proxy.set(Traffic::LoseRequest),
            }
            tokio::time::sleep(Duration::from_millis(250 + round % 7)).await;
        }
    });
    let written = writers.join_all().await;
    chaos.abort();
    assert!(unknown.load(Ordering::Relaxed) > 0, "the network lost nothing");
    let data = store.data("id").await.unwrap();
    for (number, parts) in written {
        for part in 0..parts {
            assert_eq!(data.matches(&format!("<{number}.{part}>")).count(), 1, "{number}.{part} in {data}");
        }
    }
}

/// Adds a name once, however often it has to be tried. Returns how often nobody knew whether it had been added.
async fn add(kernel: &dyn Kernel, name: String) -> usize {
    let mut unknown = 0;
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        let Ok(Some(record)) = kernel.get(KIND, "id").await else { continue };
        let data = String::from_utf8(record.data).unwrap();
        if data.contains(&name) {
            return unknown;
        }
        match kernel.update(KIND, "id", record.version, write(&format!("{data}{name}"))).await {
            Ok(_) => return unknown,
            Err(KernelError::Unavailable { applied: Applied::Unknown, .. }) => unknown += 1,
            Err(KernelError::Unavailable { applied: Applied::No, .. } | KernelError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{name} could not be added in time")
}

/// Every reply is late: all operations work, connections that have to be made first included, and nobody waits for the sum of
/// what others wait for.
pub(super) async fn a_slow_store_is_waited_for(server: &Server) {
    const LATE: Duration = Duration::from_millis(80);
    const MANY: usize = 20;
    let store = server.store().await;
    store.proxy.set(Traffic::DelayReplies(LATE));
    store.proxy.cut();
    tokio::time::sleep(IDLE).await;
    let kernel = &store.kernel;
    let begun = Instant::now();
    let version = kernel.insert(KIND, "id", write("1")).await.unwrap();
    let version = kernel.update(KIND, "id", version, write("2")).await.unwrap();
    assert_eq!(kernel.update(KIND, "id", Version::new(1), write("x")).await, Err(KernelError::Conflict));
    assert_eq!(kernel.get(KIND, "id").await.unwrap().unwrap().data, b"2");
    assert_eq!(kernel.list(KIND, Page::first(10)).await.unwrap().records.len(), 1);
    kernel.delete(KIND, "id", version).await.unwrap();
    assert!(begun.elapsed() >= 6 * LATE, "nothing was late: {:?}", begun.elapsed());
    // Together: each waits for its own answer, and for a connection at most.
    let mut writers = JoinSet::new();
    for number in 0..MANY {
        let kernel = Arc::clone(kernel);
        let due = Write { expires_at: Some(Timestamp::from_unix_seconds(10)), ..write("x") };
        writers.spawn(async move { kernel.insert(KIND, &number.to_string(), due).await.unwrap() });
    }
    assert_eq!(writers.join_all().await.len(), MANY);
    assert_eq!(kernel.expire(Timestamp::from_unix_seconds(20), 100).await, Ok(MANY));
    store.proxy.set(Traffic::Pass);
}
