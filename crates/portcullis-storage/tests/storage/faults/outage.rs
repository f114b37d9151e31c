//! A server that is gone for a minute and comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_runtime::{Clock, Rng};
use portcullis_storage::{
    Applied, Client, Kernel, KernelError, Store,
    kernel::{Kind, Page, Version},
};
use portcullis_testkit::Traffic;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::behind::{Backend, Behind, KIND, RECOVERY, Server, write};
use crate::kit::START;

/// How long nothing comes back; then its connections are over and new ones are refused, as by a machine that starts again.
const SILENT: Duration = Duration::from_secs(35);
/// For how long it is gone in all. This minute has to be a real one: the kernels' limits are times of the network, which no mock
/// clock moves, and the longest of them (a list on Kubernetes) is a minute at usual settings. The others are shorter:
/// connections have 2 s (etcd) or 5 s, operations on a record 5 s (etcd) or 10 s, pauses between two attempts 2 s at most.
const GONE: Duration = Duration::from_secs(62);
/// By how much an operation may exceed its time on a busy machine.
const SLACK: Duration = Duration::from_secs(5);
const WRITERS: usize = 4;

/// On all backends at once.
pub(super) async fn gone_for_a_minute() {
    let mut backends = JoinSet::new();
    for backend in Backend::ALL {
        backends.spawn(gone(backend));
    }
    backends.join_all().await;
}

/// No operation takes longer than it may, each is told as it was, and the kernel goes on by itself.
async fn gone(backend: Backend) {
    let server = Server::start(backend).await;
    let store = server.store().await;
    let (one, whole_list) = match backend {
        Backend::Postgres | Backend::MariaDb => (Duration::from_secs(10), Duration::from_secs(10)),
        Backend::Etcd => (Duration::from_secs(5), Duration::from_secs(5)),
        Backend::Kubernetes => (Duration::from_secs(10), Duration::from_secs(60)),
    };
    let version = store.there("before", "x").await;
    store.warm().await;
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(0));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(insert(Arc::clone(&store.kernel), number, Arc::clone(&stop), acknowledged.clone()));
    }
    grows(&acknowledged).await;

    let went = Instant::now();
    store.proxy.set(Traffic::Silence);
    let listing = tokio::spawn(list(Arc::clone(&store.kernel)));
    tokio::time::sleep(SILENT).await;
    store.proxy.set(Traffic::Refuse);
    store.proxy.cut();
    let refused = Instant::now();
    let text = loop {
        match store.kernel.update(KIND, "before", version, write("gone")).await {
            Err(KernelError::Unavailable { applied: Applied::No, trouble }) => break trouble.to_string(),
            // Over a connection that was made before.
            other => assert!(refused.elapsed() < RECOVERY, "{backend:?}: {other:?}"),
        }
    };
    assert!(text.contains("cannot connect"), "{backend:?}: {text}");
    // Another replica, which can reach the server, writes meanwhile.
    let other = Store::new(Arc::clone(&store.direct), Clock::mock(START).0, Rng::seeded(7));
    other.clients().create(&Client { id: "meanwhile".to_owned(), ..Client::default() }).await.unwrap();
    tokio::time::sleep(GONE.saturating_sub(went.elapsed())).await;
    let (answer, took) = listing.await.unwrap();
    assert!(matches!(answer, Err(KernelError::Unavailable { applied: Applied::No, .. })), "{backend:?}: {answer:?}");
    assert!(took < whole_list + SLACK, "{backend:?}: a list took {took:?}");

    store.proxy.set(Traffic::Pass);
    let back = Instant::now();
    grows(&acknowledged).await;
    while !matches!(store.kernel.recent(Kind::Client, "meanwhile").await, Ok(Some(_))) {
        assert!(back.elapsed() < RECOVERY, "{backend:?}: what was written meanwhile is not in force");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.kernel.update(KIND, "before", version, write("back")).await.unwrap();
    let recovered = back.elapsed();
    assert!(recovered < RECOVERY, "{backend:?}: it took {recovered:?}");
    stop.store(true, Ordering::Relaxed);
    let inserts: Vec<Insert> = writers.join_all().await.into_iter().flatten().collect();
    judge(backend, &store, &inserts, one, (went, back)).await;
    println!("{backend:?}: used again after {recovered:?}");
}

/// One attempt to write a record of its own.
struct Insert {
    id: String,
    begun: Instant,
    took: Duration,
    answer: Result<Version, KernelError>,
}

async fn insert(
    kernel: Arc<dyn Kernel>,
    writer: usize,
    stop: Arc<AtomicBool>,
    acknowledged: watch::Sender<usize>,
) -> Vec<Insert> {
    let mut inserts = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let id = format!("{writer}-{}", inserts.len());
        let begun = Instant::now();
        let answer = kernel.insert(KIND, &id, write(&id)).await;
        acknowledged.send_modify(|count| *count += usize::from(answer.is_ok()));
        inserts.push(Insert { id, begun, took: begun.elapsed(), answer });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    inserts
}

/// Waits until more is acknowledged than any that was under way.
async fn grows(acknowledged: &watch::Sender<usize>) {
    let mut count = acknowledged.subscribe();
    let before = *count.borrow();
    let grown = timeout(RECOVERY, count.wait_for(|now| *now >= before + 4 * WRITERS)).await;
    assert!(grown.is_ok_and(|grown| grown.is_ok()), "nothing is acknowledged");
}

async fn list(kernel: Arc<dyn Kernel>) -> (Result<usize, KernelError>, Duration) {
    let begun = Instant::now();
    let listed = kernel.list(KIND, Page::first(10)).await;
    (listed.map(|listing| listing.records.len()), begun.elapsed())
}

async fn judge(backend: Backend, store: &Behind, inserts: &[Insert], time: Duration, (went, back): (Instant, Instant)) {
    let [mut done, mut refused, mut unknown] = [0; 3];
    for Insert { id, begun, took, answer } in inserts {
        assert!(*took < time + SLACK, "{backend:?}: {id} took {took:?}");
        let there = store.direct.get(KIND, id).await.unwrap();
        match answer {
            Ok(version) => {
                done += 1;
                let there = there.unwrap_or_else(|| panic!("{backend:?}: {id} was acknowledged and is lost"));
                assert_eq!((there.version, there.data.as_slice()), (*version, id.as_bytes()));
                assert!(
                    *begun < went || *begun + *took > back,
                    "{backend:?}: {id} was acknowledged while nothing could come back"
                );
            }
            Err(KernelError::Unavailable { applied: Applied::No, .. }) => {
                refused += 1;
                assert_eq!(there, None, "{backend:?}: {id} was not written, it was said");
            }
            Err(KernelError::Unavailable { applied: Applied::Unknown, .. }) => unknown += 1,
            Err(error) => panic!("{backend:?}: {id}: {error}"),
        }
    }
    println!("{backend:?}: {done} written, {refused} refused, {unknown} unknown");
    // Only connections from before can have taken something; none of them is used again and again.
    assert!(refused >= WRITERS && unknown <= 2 * WRITERS, "{backend:?}: {refused} refused, {unknown} unknown");
}
