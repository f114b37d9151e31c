//! Invariants T1 to T5 of docs/store-invariants.md: leases.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use portcullis_runtime::{Clock, MockClock, Rng, Shutdown, Timestamp};
use portcullis_storage::{
    Candidate, Duty, FillOptions, Kernel, LEASE_LIFETIME, MemoryKernel, SqliteKernel, SqliteOptions, Store, StoreError,
    conformance::{Fault, FaultyKernel, Noise},
    copy_store,
    kernel::Kind,
};
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};

use crate::kit::{Backend, HOUR, Kit, START, on_every_backend, tool_on};

on_every_backend!(
    one_of_many_candidates_gets_a_lease,
    a_lease_that_stands_still_for_its_lifetime_is_taken_over,
    clocks_that_are_hours_apart_change_nothing,
    a_holder_that_was_stopped_knows_it_before_it_does_more,
    a_renewal_that_was_overtaken_is_none,
    a_lost_reply_is_no_lost_race,
    a_lease_that_was_given_back_is_free_at_once,
    a_wall_clock_that_leaps_ends_a_tenure_and_makes_none,
    what_the_record_says_follows_its_holder,
);

const SECOND: Duration = Duration::from_secs(1);
/// For how long a tenure counts after its last renewal began.
const HELD: Duration = Duration::from_secs(40);

/// A replica with a clock of its own.
struct Replica {
    store: Store,
    hand: MockClock,
    network: Arc<FaultyKernel>,
}

impl Replica {
    fn on(kernel: Arc<dyn Kernel>, seed: u64, ahead: i64) -> Self {
        let (clock, hand) = Clock::mock(START + ahead);
        let network = Arc::new(FaultyKernel::new(kernel, seed));
        let store = Store::new(Arc::clone(&network) as _, clock, Rng::seeded(seed));
        Self { store, hand, network }
    }

    fn candidate(&self) -> Candidate {
        self.store.leases().candidate(Duty::Collect, LEASE_LIFETIME)
    }
}

fn two(kit: &Kit) -> [Replica; 2] {
    [100, 101].map(|seed| Replica::on(Arc::clone(&kit.faults) as _, seed, 0))
}

/// Time passes, everywhere.
fn pass(replicas: &[Replica], time: Duration) {
    replicas.iter().for_each(|replica| replica.hand.advance(time));
}

async fn lease(kit: &Kit) -> Value {
    lease_on(kit.store.kernel()).await
}

async fn lease_on(kernel: &dyn Kernel) -> Value {
    let record = kernel.get(Kind::Lease, Duty::Collect.name()).await.unwrap().unwrap();
    serde_json::from_slice::<Value>(&record.data).unwrap()["v"].clone()
}

async fn one_of_many_candidates_gets_a_lease(kit: Kit) {
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let store = kit.replica(200 + number, Default::default());
        tasks.spawn(async move {
            let mut candidate = store.leases().candidate(Duty::Collect, LEASE_LIFETIME);
            let held = candidate.contend().await;
            (held, candidate.tenure().is_held())
        });
    }
    let mut holders = 0;
    while let Some(done) = tasks.join_next().await {
        let (held, is_held) = done.unwrap();
        // Who loses several races in a row is told so, and holds nothing.
        assert!(held == Ok(is_held) || (held == Err(StoreError::Contended { kind: Kind::Lease }) && !is_held));
        holders += usize::from(is_held);
    }
    assert_eq!(holders, 1);
    let other = kit.store.leases().candidate(Duty::Seal, LEASE_LIFETIME).contend().await;
    assert_eq!(other, Ok(true), "each duty has a lease of its own");
}

async fn a_lease_that_stands_still_for_its_lifetime_is_taken_over(kit: Kit) {
    let replicas = two(&kit);
    let [mut a, mut b] = [replicas[0].candidate(), replicas[1].candidate()];
    assert_eq!((a.contend().await, b.contend().await), (Ok(true), Ok(false)));
    for _ in 0..10 {
        pass(&replicas, 20 * SECOND);
        assert_eq!((a.contend().await, b.contend().await), (Ok(true), Ok(false)), "a renewed lease is not taken over");
    }
    // The holder is gone. The other saw its last renewal as soon as it was made.
    pass(&replicas, HELD - Duration::from_millis(1));
    assert!(a.tenure().is_held());
    pass(&replicas, Duration::from_millis(1));
    assert!(!a.tenure().is_held(), "the holder ends long before the other may begin");
    pass(&replicas, LEASE_LIFETIME - HELD - Duration::from_millis(1));
    assert_eq!(b.contend().await, Ok(false));
    pass(&replicas, Duration::from_millis(1));
    assert_eq!(b.contend().await, Ok(true));
    assert_eq!(a.contend().await, Ok(false));
}

async fn clocks_that_are_hours_apart_change_nothing(kit: Kit) {
    for ahead in [-5 * 3600, 5 * 3600] {
        let [a, b] =
            [(102, 0), (103, ahead)].map(|(seed, ahead)| Replica::on(Arc::clone(&kit.faults) as _, seed, ahead));
        let (mut held, mut other) = (a.candidate(), b.candidate());
        assert_eq!((held.contend().await, other.contend().await), (Ok(true), Ok(false)), "{ahead}");
        // By the times in the record it would be over, or not over for hours.
        let replicas = [a, b];
        pass(&replicas, LEASE_LIFETIME - SECOND);
        assert_eq!(other.contend().await, Ok(false), "{ahead}");
        pass(&replicas, SECOND);
        assert_eq!((held.tenure().is_held(), other.contend().await), (false, Ok(true)), "{ahead}");
        // A clock that is set in between is no time that has passed.
        let [_, b] = &replicas;
        let mut third = Replica::on(Arc::clone(&kit.faults) as _, 104, 0).candidate();
        assert_eq!(third.contend().await, Ok(false));
        b.hand.set(b.hand.now() - 7 * HOUR);
        assert!(other.tenure().is_held());
        other.release().await.unwrap();
    }
}

async fn a_holder_that_was_stopped_knows_it_before_it_does_more(kit: Kit) {
    let replicas = two(&kit);
    let [mut a, mut b] = [replicas[0].candidate(), replicas[1].candidate()];
    assert_eq!((a.contend().await, b.contend().await), (Ok(true), Ok(false)));
    // SIGSTOP: nothing of it runs, and time passes.
    pass(&replicas, LEASE_LIFETIME);
    assert_eq!(b.contend().await, Ok(true));
    // It wakes up. Before it asks anybody:
    assert!(!a.tenure().is_held());
    assert_eq!(a.contend().await, Ok(false));
    assert!(b.tenure().is_held());
}

async fn a_renewal_that_was_overtaken_is_none(kit: Kit) {
    let replicas = two(&kit);
    let [mut a, mut b] = [replicas[0].candidate(), replicas[1].candidate()];
    assert_eq!((a.contend().await, b.contend().await), (Ok(true), Ok(false)));
    pass(&replicas, 20 * SECOND);
    // Stopped between reading and writing; the other takes over, and the write goes out.
    let hands = [replicas[0].hand.clone(), replicas[1].hand.clone()];
    let tenure = b.tenure();
    replicas[0].network.before_write(
        Kind::Lease,
        Box::new(move || {
            Box::pin(async move {
                hands.iter().for_each(|hand| hand.advance(LEASE_LIFETIME));
                assert_eq!(b.contend().await, Ok(true));
                Ok(())
            })
        }),
    );
    assert_eq!(a.contend().await, Ok(false));
    assert!(!a.tenure().is_held() && tenure.is_held());
}

async fn a_lost_reply_is_no_lost_race(kit: Kit) {
    let replicas = two(&kit);
    let [mut a, mut b] = [replicas[0].candidate(), replicas[1].candidate()];
    for fault in [Fault::LostReply, Fault::LostRequest, Fault::LateRequest, Fault::Duplicated] {
        for what in ["taken", "renewed"] {
            replicas[0].network.script_writes([fault]);
            assert_eq!(a.contend().await, Ok(true), "{what}: {fault:?}");
            pass(&replicas, SECOND);
        }
        assert_eq!(b.contend().await, Ok(false), "{fault:?}");
        pass(&replicas, LEASE_LIFETIME);
        replicas[1].network.script_writes([fault]);
        assert_eq!(b.contend().await, Ok(true), "taken over: {fault:?}");
        assert_eq!(a.contend().await, Ok(false));
        b.release().await.unwrap();
    }
    // All repetitions are lost: what was held runs out in its time, and the next call finds what has happened.
    assert_eq!(a.contend().await, Ok(true));
    pass(&replicas, 30 * SECOND);
    replicas[0].network.script_writes([Fault::LostReply; 4]);
    assert!(matches!(a.contend().await, Err(StoreError::Kernel(_))));
    assert!(a.tenure().is_held());
    pass(&replicas, 10 * SECOND);
    assert!(!a.tenure().is_held(), "nobody has acknowledged the renewal");
    assert_eq!((b.contend().await, a.contend().await), (Ok(false), Ok(true)));
}

async fn a_lease_that_was_given_back_is_free_at_once(kit: Kit) {
    let replicas = two(&kit);
    let [mut a, mut b] = [replicas[0].candidate(), replicas[1].candidate()];
    assert_eq!((a.contend().await, b.contend().await), (Ok(true), Ok(false)));
    b.release().await.unwrap();
    assert!(a.tenure().is_held());
    assert_eq!(b.contend().await, Ok(false), "nobody gives back what is another's");
    replicas[0].network.script_writes([Fault::LostReply]);
    a.release().await.unwrap();
    assert!(!a.tenure().is_held());
    assert_eq!((b.contend().await, a.contend().await), (Ok(true), Ok(false)));
}

async fn a_wall_clock_that_leaps_ends_a_tenure_and_makes_none(kit: Kit) {
    let replicas = two(&kit);
    let [mut a, mut b] = [replicas[0].candidate(), replicas[1].candidate()];
    let hand = &replicas[0].hand;
    assert_eq!((a.contend().await, b.contend().await), (Ok(true), Ok(false)));
    // The machine has slept: its monotonic clock stood still, and the wall clock tells.
    let before = hand.now();
    hand.set(before + HELD);
    assert!(!a.tenure().is_held());
    assert_eq!(a.contend().await, Ok(true), "nobody else has taken it");
    // Back: the monotonic clock tells.
    hand.set(before - HOUR);
    assert!(a.tenure().is_held());
    pass(&replicas, HELD);
    assert!(!a.tenure().is_held());
    // The other's wall clock says that the lease is over. It is not.
    assert_eq!((a.contend().await, b.contend().await), (Ok(true), Ok(false)));
    replicas[1].hand.set(before + 9 * HOUR);
    assert_eq!(b.contend().await, Ok(false));
}

async fn what_the_record_says_follows_its_holder(kit: Kit) {
    let replicas = two(&kit);
    let [mut a, mut b] = [replicas[0].candidate(), replicas[1].candidate()];
    let at = |seconds: i64| Value::from((START + seconds) * 1000);
    a.contend().await.unwrap();
    pass(&replicas, 20 * SECOND);
    a.contend().await.unwrap();
    let found = lease(&kit).await;
    assert_eq!((&found["holder"], &found["taken_at"], &found["renewed_at"]), (&a.id().into(), &at(0), &at(20)));
    assert_eq!((&found["seconds"], &found["transitions"]), (&60.into(), &0.into()));
    a.release().await.unwrap();
    assert_eq!(lease(&kit).await.get("holder"), None);
    b.contend().await.unwrap();
    let found = lease(&kit).await;
    assert_eq!((&found["holder"], &found["taken_at"], &found["transitions"]), (&b.id().into(), &at(20), &1.into()));
    assert_ne!(a.id(), b.id());
}

/// How many run, and how often a run was begun.
#[derive(Clone, Default)]
struct Work {
    running: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Work {
    /// Does it on this replica until `shutdown`.
    fn start(&self, replica: &Replica, shutdown: &Shutdown) -> JoinHandle<()> {
        let (work, store, shutdown) = (self.clone(), replica.store.clone(), shutdown.clone());
        tokio::spawn(async move {
            let job = || async {
                assert_eq!(work.running.fetch_add(1, Ordering::SeqCst), 0, "it runs twice");
                let _running = Running(Arc::clone(&work.running));
                work.begun.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            };
            store.leases().run_while_held(Duty::Collect, &shutdown, job).await;
        })
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

/// Lets time pass in steps of a second until something is so. Returns how long that took by the clocks. For stores in memory, on one
/// thread: what is to happen in a second has happened when this thread has nothing else to do.
async fn until(replicas: &[Replica], what: &str, so: impl Fn() -> bool) -> Duration {
    for passed in 0..3_000 {
        for _ in 0..3 {
            if so() {
                return passed * SECOND;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pass(replicas, SECOND);
    }
    panic!("{what}: not in 3,000 seconds");
}

#[tokio::test]
async fn the_work_is_done_on_one_replica_and_moves_on_with_its_end() {
    let kit = Kit::new(Backend::Memory);
    let replicas = two(&kit);
    let work = Work::default();
    let (first, second) = (Shutdown::new(), Shutdown::new());
    let one = work.start(&replicas[0], &first);
    until(&replicas, "it begins", || work.running() == 1).await;
    let other = work.start(&replicas[1], &second);
    until(&replicas, "several lifetimes", || {
        replicas[0].hand.now() > Timestamp::from_unix_seconds(START) + 4 * LEASE_LIFETIME
    })
    .await;
    assert_eq!((work.running(), work.begun()), (1, 1), "a lease that is renewed is kept");
    first.trigger();
    one.await.unwrap();
    let waited = until(&replicas, "the other takes over", || work.begun() == 2).await;
    assert!(waited <= LEASE_LIFETIME / 3, "it was given back, and nobody waited for its end: {waited:?}");
    second.trigger();
    other.await.unwrap();
    assert_eq!(work.running(), 0);
    assert_eq!(lease(&kit).await.get("holder"), None);
}

#[tokio::test]
async fn work_stops_in_time_when_the_lease_cannot_be_renewed() {
    let kit = Kit::new(Backend::Memory);
    let replicas = two(&kit);
    let work = Work::default();
    let shutdown = Shutdown::new();
    let one = work.start(&replicas[0], &shutdown);
    until(&replicas, "it begins", || work.running() == 1).await;
    // Its store refuses everything from now on; the other's does not.
    replicas[0].network.set_noise(Noise { refusals: 1000, ..Noise::default() });
    let other = work.start(&replicas[1], &shutdown);
    let waited = until(&replicas, "it stops", || work.running() == 0).await;
    assert!(waited <= HELD, "{waited:?}");
    let waited = until(&replicas, "the other takes over", || work.begun() == 2).await;
    assert!(waited <= LEASE_LIFETIME, "{waited:?}");
    // It may be asked again, and the other gives it back.
    replicas[0].network.set_noise(Noise::default());
    assert_eq!(work.running(), 1);
    shutdown.trigger();
    tokio::try_join!(one, other).unwrap();
    assert_eq!(work.running(), 0);
}

#[tokio::test]
async fn work_goes_on_elsewhere_when_its_replica_is_gone() {
    let kit = Kit::new(Backend::Memory);
    let replicas = two(&kit);
    let work = Work::default();
    let shutdown = Shutdown::new();
    let one = work.start(&replicas[0], &shutdown);
    until(&replicas, "it begins", || work.running() == 1).await;
    let other = work.start(&replicas[1], &shutdown);
    until(&replicas, "a renewal or two", || {
        replicas[0].hand.now() > Timestamp::from_unix_seconds(START) + 3 * LEASE_LIFETIME
    })
    .await;
    // kill -9: nothing is given back.
    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());
    let waited = until(&replicas, "the other takes over", || work.begun() == 2).await;
    assert!(waited <= LEASE_LIFETIME + LEASE_LIFETIME / 3 + SECOND, "{waited:?}");
    shutdown.trigger();
    other.await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_away_holds_up_neither_start_nor_end() {
    let replicas = [Replica::on(Arc::new(MemoryKernel::new()), 1, 0)];
    let (work, shutdown) = (Work::default(), Shutdown::new());
    replicas[0].network.set_noise(Noise { lost_requests: 1000, ..Noise::default() });
    let running = work.start(&replicas[0], &shutdown);
    tokio::task::yield_now().await;
    replicas[0].network.set_noise(Noise::default());
    until(&replicas, "it begins when the store is back", || work.running() == 1).await;
    replicas[0].network.set_noise(Noise { lost_requests: 1000, ..Noise::default() });
    shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    assert_eq!(work.running(), 0);
}

#[tokio::test]
async fn a_store_that_never_answers_holds_up_no_end() {
    let replicas = [Replica::on(Arc::new(MemoryKernel::new()), 1, 0)];
    let (work, shutdown) = (Work::default(), Shutdown::new());
    let running = work.start(&replicas[0], &shutdown);
    until(&replicas, "it begins", || work.running() == 1).await;
    replicas[0].network.before_write(Kind::Lease, Box::new(|| Box::pin(std::future::pending())));
    shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    assert_eq!(work.running(), 0);
    assert!(lease_on(&*replicas[0].network).await.get("holder").is_some(), "it runs out");
}

/// A run that ends by itself is not begun again, and its lease is free.
#[tokio::test]
async fn what_has_ended_by_itself_gives_its_lease_back() {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let [one, other] = [1, 2].map(|seed| Replica::on(Arc::clone(&kernel), seed, 0));
    let mut runs = 0;
    let job = || {
        runs += 1;
        std::future::ready(())
    };
    one.store.leases().run_while_held(Duty::Collect, &Shutdown::new(), job).await;
    assert_eq!(runs, 1);
    assert_eq!(other.candidate().contend().await, Ok(true));
}

#[tokio::test]
async fn a_lifetime_is_whole_seconds_and_three_at_least() {
    let replica = Replica::on(Arc::new(MemoryKernel::new()), 1, 0);
    for (asked, got) in [(0, 3), (2_999, 3), (3_000, 3), (3_001, 4), (60_000, 60)] {
        let candidate = replica.store.leases().candidate(Duty::Seal, Duration::from_millis(asked));
        assert_eq!(candidate.lifetime(), Duration::from_secs(got), "{asked}");
    }
    let endless = replica.store.leases().candidate(Duty::Seal, Duration::MAX);
    assert_eq!(endless.lifetime(), Duration::from_secs(u32::MAX.into()));
}

/// The rest of a lifetime that a record names counts, also when it is another's than ours.
#[tokio::test]
async fn a_record_tells_how_long_it_lasts() {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let replicas = [1, 2].map(|seed| Replica::on(Arc::clone(&kernel), seed, 0));
    let mut long = replicas[0].store.leases().candidate(Duty::Collect, 2 * LEASE_LIFETIME);
    let mut short = replicas[1].store.leases().candidate(Duty::Collect, Duration::from_secs(3));
    assert_eq!((long.contend().await, short.contend().await), (Ok(true), Ok(false)));
    pass(&replicas, 2 * LEASE_LIFETIME - SECOND);
    assert_eq!(short.contend().await, Ok(false));
    pass(&replicas, SECOND);
    assert_eq!((short.contend().await, long.contend().await), (Ok(true), Ok(false)));
    pass(&replicas, 2 * SECOND);
    assert!(!short.tenure().is_held());
    pass(&replicas, SECOND);
    assert_eq!(long.contend().await, Ok(true));
}

#[tokio::test]
async fn a_lease_is_in_no_copy_and_in_no_copys_way() {
    let [from, to]: [Arc<dyn Kernel>; 2] = [Arc::new(MemoryKernel::new()), Arc::new(MemoryKernel::new())];
    let [here, there] = [(&from, 1), (&to, 2)].map(|(kernel, seed)| Replica::on(Arc::clone(kernel), seed, 0));
    here.store
        .clients()
        .create(&portcullis_storage::Client { id: "a".to_owned(), ..Default::default() })
        .await
        .unwrap();
    let [mut held, mut other] = [here.candidate(), there.candidate()];
    assert_eq!((held.contend().await, other.contend().await), (Ok(true), Ok(true)));
    other.release().await.unwrap();
    for _ in 0..2 {
        let copied = copy_store(&*from, &tool_on(&to), FillOptions::default(), &mut |_| {}).await.unwrap();
        assert_eq!(copied.written + copied.unchanged, 1);
    }
    let replace = FillOptions { replace: true, ..FillOptions::default() };
    let copied = copy_store(&*from, &tool_on(&to), replace, &mut |_| {}).await.unwrap();
    assert_eq!((copied.written + copied.unchanged, copied.deleted), (1, 0));
    assert_eq!(other.contend().await, Ok(true));
    assert_eq!(here.store.census().await.unwrap().get(&Kind::Lease), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_file_share_a_lease() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let replicas = [1, 2].map(|seed| {
        let (clock, _) = Clock::mock(START);
        Replica::on(Arc::new(SqliteKernel::open(&file, &clock, &SqliteOptions::default()).unwrap()), seed, 0)
    });
    let [mut a, mut b] = [replicas[0].candidate(), replicas[1].candidate()];
    assert_eq!((a.contend().await, b.contend().await), (Ok(true), Ok(false)));
    pass(&replicas, LEASE_LIFETIME);
    assert_eq!((b.contend().await, a.contend().await), (Ok(true), Ok(false)));
    assert!(b.tenure().is_held());
}
