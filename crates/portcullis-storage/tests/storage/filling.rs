//! Invariants B7 and B8 of docs/store-invariants.md: nothing is filled that is used, and nothing is used that is half-filled.

use std::{sync::Arc, time::Duration};

use portcullis_runtime::{Clock, MockClock, Rng, Shutdown};
use portcullis_storage::{
    BackupError, Client, Duty, FillError, FillOptions, Filled, Kernel, KernelError, LEASE_LIFETIME, MemoryKernel,
    Scope, Store, UseError,
    conformance::{Fault, FaultyKernel, Noise},
    copy_store,
    kernel::{Kind, Page, Write},
    write_backup,
};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::kit::{Kit, START, on_every_backend};

on_every_backend!(
    a_store_that_nobody_uses_is_filled_at_once,
    a_store_that_is_used_is_not_filled,
    a_provider_of_an_older_version_is_seen_by_its_leases,
    a_store_that_is_being_filled_is_not_used_and_not_filled_twice,
    what_was_not_filled_to_its_end_is_not_used_until_it_is,
    a_failure_before_the_first_record_leaves_the_store_as_it_was,
    who_waits_to_fill_shuts_nobody_out,
    a_filler_that_was_killed_is_followed_after_its_lifetime,
    a_filler_that_is_cut_off_stops_and_leaves_no_whole_store,
    a_replica_that_slept_through_a_filling_ends,
);

const SECOND: Duration = Duration::from_secs(1);

/// A process with a clock of its own.
struct Process {
    store: Store,
    clock: Clock,
    hand: MockClock,
    network: Arc<FaultyKernel>,
}

impl Process {
    fn on(kernel: Arc<dyn Kernel>, seed: u64) -> Self {
        let (clock, hand) = Clock::mock(START);
        let network = Arc::new(FaultyKernel::new(kernel, seed));
        let store = Store::new(Arc::clone(&network) as _, clock.clone(), Rng::seeded(seed));
        Self { store, clock, hand, network }
    }
}

fn three(kit: &Kit) -> [Process; 3] {
    [100, 101, 102].map(|seed| Process::on(Arc::clone(&kit.faults) as _, seed))
}

/// What is copied from: a few clients.
async fn source() -> Arc<dyn Kernel> {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let (clock, _) = Clock::mock(START);
    let store = Store::new(Arc::clone(&kernel), clock, Rng::seeded(9));
    for number in 0..5 {
        store.clients().create(&Client { id: format!("client {number}"), ..Client::default() }).await.unwrap();
    }
    kernel
}

async fn filled(process: &Process, options: FillOptions) -> Result<Filled, FillError> {
    copy_store(&*source().await, &process.store, options, &mut |_| {}).await
}

/// Begins to fill in a task of its own.
fn filling(process: &Process) -> JoinHandle<Result<Filled, FillError>> {
    let store = process.store.clone();
    tokio::spawn(async move { copy_store(&*source().await, &store, FillOptions::default(), &mut |_| {}).await })
}

/// Lets time pass everywhere, in steps of a second, until the task has ended. What it does between two sleeps may take a server a
/// moment, so each step takes 20 ms.
async fn passing<T>(processes: &[&Process], mut task: JoinHandle<T>) -> (T, Duration) {
    for passed in 0..1_000 {
        for _ in 0..10 {
            if let Ok(done) = tokio::time::timeout(Duration::from_millis(2), &mut task).await {
                return (done.unwrap(), passed * SECOND);
            }
        }
        processes.iter().for_each(|process| process.hand.advance(SECOND));
    }
    panic!("not in 1,000 seconds");
}

async fn holder(kernel: &dyn Kernel) -> Option<String> {
    let record = kernel.get(Kind::Lease, "use").await.unwrap()?;
    let document: Value = serde_json::from_slice(&record.data).unwrap();
    document["v"].get("holder").map(|holder| holder.as_str().unwrap().to_owned())
}

async fn clients(kit: &Kit) -> usize {
    kit.store.clients().list().await.unwrap().len()
}

async fn a_store_that_nobody_uses_is_filled_at_once(kit: Kit) {
    let [one, two, _] = three(&kit);
    // Nobody lets time pass: a wait would have no end.
    for round in 0..2 {
        let filled = filled(&one, FillOptions::default()).await.unwrap();
        assert_eq!((filled.written, filled.unchanged), if round == 0 { (5, 0) } else { (0, 5) });
        assert_eq!(holder(kit.store.kernel()).await, None);
    }
    two.store.leases().whole().await.unwrap();
    two.store.leases().announce().await.unwrap();
    assert!(holder(kit.store.kernel()).await.unwrap().starts_with("serving "));
    two.store.leases().whole().await.unwrap();
}

async fn a_store_that_is_used_is_not_filled(kit: Kit) {
    let [serves, other, fills] = three(&kit);
    let shutdown = Shutdown::new();
    let serving = [&serves, &other].map(|process| {
        let (store, shutdown) = (process.store.clone(), shutdown.clone());
        tokio::spawn(async move { store.leases().keep_announced(&shutdown).await })
    });
    while holder(kit.store.kernel()).await.is_none() {
        tokio::task::yield_now().await;
    }
    let (refused, waited) = passing(&[&serves, &other, &fills], filling(&fills)).await;
    let Err(FillError::InUse { lease: "use", holder, .. }) = &refused else { panic!("{refused:?}") };
    assert!(holder.starts_with("serving ") && waited < LEASE_LIFETIME, "{holder} {waited:?}");
    assert_eq!(clients(&kit).await, 0, "nothing was written");
    assert!(serving.iter().all(|task| !task.is_finished()), "who serves goes on");
    // One of two is enough, whichever it is.
    serving[0].abort();
    let (refused, _) = passing(&[&other, &fills], filling(&fills)).await;
    assert!(matches!(refused, Err(FillError::InUse { lease: "use", .. })), "{refused:?}");
    shutdown.trigger();
    let [_, other] = serving;
    other.await.unwrap().unwrap();
    // They have gone, and nobody can know it before the lease's time is over.
    let (done, waited) = passing(&[&fills], filling(&fills)).await;
    assert_eq!(done.unwrap().written, 5);
    assert!(waited >= LEASE_LIFETIME, "{waited:?}");
}

async fn a_provider_of_an_older_version_is_seen_by_its_leases(kit: Kit) {
    let [serves, _, fills] = three(&kit);
    for duty in Duty::ALL {
        let mut candidate = serves.store.leases().candidate(duty, LEASE_LIFETIME);
        assert_eq!(candidate.contend().await, Ok(true));
        let id = candidate.id().to_owned();
        let clock = serves.clock.clone();
        let renewing = tokio::spawn(async move {
            loop {
                assert_eq!(candidate.contend().await, Ok(true));
                clock.sleep(20 * SECOND).await;
            }
        });
        let (refused, _) = passing(&[&serves, &fills], filling(&fills)).await;
        let Err(FillError::InUse { lease, holder, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!((*lease, holder), (duty.name(), &id));
        assert_eq!(clients(&kit).await, 0);
        assert_eq!(self::holder(kit.store.kernel()).await, None, "the store is as it was, and may be used");
        renewing.abort();
        renewing.await.unwrap_err();
        serves.store.leases().whole().await.unwrap();
        // Its lease is left behind, as by a process that was killed.
    }
    let (done, waited) = passing(&[&fills], filling(&fills)).await;
    assert_eq!(done.unwrap().written, 5);
    assert!(waited >= LEASE_LIFETIME, "{waited:?}");
    // One that begins while the store is filled is told of in the end.
    let mut late = serves.store.leases().candidate(Duty::Collect, LEASE_LIFETIME);
    assert_eq!(late.contend().await, Ok(false));
    serves.hand.advance(LEASE_LIFETIME);
    fills.network.before_write(
        Kind::Client,
        Box::new(move || {
            Box::pin(async move {
                assert_eq!(late.contend().await, Ok(true));
                Ok(())
            })
        }),
    );
    kit.store.clients().delete("client 0").await.unwrap();
    let (refused, _) = passing(&[&fills], filling(&fills)).await;
    assert!(matches!(refused, Err(FillError::InUse { lease: "collector", .. })), "{refused:?}");
    assert_eq!(serves.store.leases().announce().await, Err(UseError::HalfFilled));
}

async fn a_store_that_is_being_filled_is_not_used_and_not_filled_twice(kit: Kit) {
    let [one, two, three] = three(&kit);
    let (reached, reaches) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = tokio::sync::oneshot::channel::<()>();
    one.network.before_write(
        Kind::Client,
        Box::new(move || {
            Box::pin(async move {
                reached.send(()).unwrap();
                goes_on.await.unwrap();
                Ok(())
            })
        }),
    );
    let first = filling(&one);
    reaches.await.unwrap();
    for _ in 0..2 {
        let refused = two.store.leases().announce().await;
        let Err(UseError::Filling { holder }) = &refused else { panic!("{refused:?}") };
        assert!(holder.starts_with("filling "), "{holder}");
        assert_eq!(two.store.leases().whole().await, refused);
    }
    // A second one waits, and finds that the first renews its lease.
    let (refused, _) = passing(&[&one, &two, &three], filling(&three)).await;
    assert!(
        matches!(&refused, Err(FillError::InUse { lease: "use", holder, .. }) if holder.starts_with("filling ")),
        "{refused:?}"
    );
    go_on.send(()).unwrap();
    assert_eq!(passing(&[&one], first).await.0.unwrap().written, 5);
    two.store.leases().announce().await.unwrap();
}

async fn what_was_not_filled_to_its_end_is_not_used_until_it_is(kit: Kit) {
    let [one, two, _] = three(&kit);
    one.network.before_write(
        Kind::Client,
        Box::new(|| Box::pin(async { Err(KernelError::Corrupt { what: "a test".to_owned() }) })),
    );
    let failed = filled(&one, FillOptions::default()).await;
    assert!(matches!(failed, Err(FillError::Target(_))), "{failed:?}");
    for _ in 0..2 {
        assert_eq!(two.store.leases().announce().await, Err(UseError::HalfFilled));
        assert_eq!(two.store.leases().whole().await, Err(UseError::HalfFilled));
    }
    // A run that is refused changes nothing of that.
    let write = Write { data: b"{\"n\":1,\"v\":{}}".to_vec(), ..Write::default() };
    let version = kit.store.kernel().insert(Kind::Client, "other", write).await.unwrap();
    let refused = filled(&two, FillOptions::default()).await;
    assert!(matches!(refused, Err(FillError::NotEmpty { others: 1, .. })), "{refused:?}");
    assert_eq!(two.store.leases().announce().await, Err(UseError::HalfFilled));
    kit.store.kernel().delete(Kind::Client, "other", version).await.unwrap();
    // Another process goes on, at once, and however its own writes fare.
    let network = Arc::clone(&two.network);
    two.network.before_write(
        Kind::Lease,
        Box::new(move || {
            Box::pin(async move {
                network
                    .script_writes([Fault::LostReply, Fault::Refused, Fault::LostRequest, Fault::LostReply].repeat(2));
                Ok(())
            })
        }),
    );
    let done = filled(&two, FillOptions::default()).await.unwrap();
    assert_eq!(done.written + done.unchanged, 5);
    one.store.leases().announce().await.unwrap();
}

async fn a_failure_before_the_first_record_leaves_the_store_as_it_was(kit: Kit) {
    let [serves, fills, _] = three(&kit);
    let source = FaultyKernel::new(source().await, 7);
    let fail = async || {
        // What asks whether both are one store is answered, and the snapshot is not to be had.
        source.script([Fault::None, Fault::Refused]);
        let options = FillOptions::default();
        let failed = copy_store(&source, &fills.store, options, &mut |_| {}).await;
        assert!(matches!(failed, Err(FillError::Source(_))), "{failed:?}");
        assert_eq!(source.take_struck(), [Fault::Refused]);
    };
    fail().await;
    assert_eq!(holder(kit.store.kernel()).await, None);
    serves.store.leases().whole().await.unwrap();
    // What asks could not be taken away again.
    fills.network.script_writes([Fault::None, Fault::Refused]);
    let failed = copy_store(&*self::source().await, &fills.store, FillOptions::default(), &mut |_| {}).await;
    assert!(matches!(failed, Err(FillError::Target(KernelError::Unavailable { .. }))), "{failed:?}");
    let left = kit.store.kernel().list(Kind::Request, Page::first(2)).await.unwrap().records;
    assert_eq!(left.len(), 1);
    assert_eq!(filled(&fills, FillOptions::default()).await.unwrap().written, 5, "it counts for nothing");
    for client in kit.store.clients().list().await.unwrap() {
        kit.store.clients().delete(&client.id).await.unwrap();
    }
    // One that is half-filled is so still.
    fills.network.before_write(
        Kind::Client,
        Box::new(|| Box::pin(async { Err(KernelError::Corrupt { what: "a test".to_owned() }) })),
    );
    filled(&fills, FillOptions::default()).await.unwrap_err();
    for client in kit.store.clients().list().await.unwrap() {
        kit.store.clients().delete(&client.id).await.unwrap();
    }
    fail().await;
    assert_eq!(serves.store.leases().announce().await, Err(UseError::HalfFilled));
}

/// What is read while it is filled is not whole, however soon that is over.
#[tokio::test]
async fn what_was_filled_while_it_was_read_is_not_copied() {
    let inner: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let (other, target) = (Process::on(Arc::clone(&inner), 1), Process::on(Arc::new(MemoryKernel::new()), 2));
    let source = FaultyKernel::new(inner, 3);
    // Held before each of its reads: whether it is the target, who uses it, its snapshot, who uses it.
    for (step, refused) in [(0, false), (1, false), (2, true), (3, true)] {
        other.store.clients().create(&Client { id: format!("more {step}"), ..Client::default() }).await.unwrap();
        source.hold_after(Some(step));
        let options = FillOptions { replace: true, ..FillOptions::default() };
        let mut ignored = |_| {};
        let mut copying = std::pin::pin!(copy_store(&source, &target.store, options, &mut ignored));
        let begun = std::future::poll_fn(|context| std::task::Poll::Ready(copying.as_mut().poll(context))).await;
        assert!(begun.is_pending(), "it is held before step {step}");
        filled(&other, FillOptions { replace: true, ..FillOptions::default() }).await.unwrap();
        let copied = copying.await;
        assert_eq!(matches!(copied, Err(FillError::Unusable(UseError::Meanwhile))), refused, "step {step}: {copied:?}");
        assert_eq!(copied.is_err(), refused, "step {step}: {copied:?}");
    }
    // What is half-filled is not read at all.
    other.network.before_write(
        Kind::Client,
        Box::new(|| Box::pin(async { Err(KernelError::Corrupt { what: "a test".to_owned() }) })),
    );
    other.store.clients().delete("client 0").await.unwrap();
    filled(&other, FillOptions { replace: true, ..FillOptions::default() }).await.unwrap_err();
    let replace = FillOptions { replace: true, ..FillOptions::default() };
    let copied = copy_store(&source, &target.store, replace, &mut |_| {}).await;
    assert!(matches!(copied, Err(FillError::Unusable(UseError::HalfFilled))), "{copied:?}");
    let backup = write_backup(&source, other.hand.now(), Scope::Everything, &mut Vec::new(), &mut |_| {}).await;
    assert!(matches!(backup, Err(BackupError::Unusable(UseError::HalfFilled))), "{backup:?}");
}

/// A renewal that is dropped on its way must not forget that the store was half-filled.
#[tokio::test]
async fn a_renewal_that_is_cut_off_frees_no_half_filled_store() {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let (fills, provider) = (Process::on(Arc::clone(&kernel), 1), Process::on(Arc::clone(&kernel), 2));
    let fail = |process: &Process| {
        process.network.before_write(
            Kind::Client,
            Box::new(|| Box::pin(async { Err(KernelError::Corrupt { what: "a test".to_owned() }) })),
        );
    };
    fail(&fills);
    filled(&fills, FillOptions::default()).await.unwrap_err();
    assert_eq!(provider.store.leases().announce().await, Err(UseError::HalfFilled));
    // The next run waits for its source while it renews; the renewal has no answer when the source fails.
    let source = FaultyKernel::new(source().await, 3);
    source.script([Fault::None, Fault::None, Fault::None, Fault::Refused]);
    let (stalled, mut is_stalled) = tokio::sync::oneshot::channel::<()>();
    source.hold_after(Some(2));
    let options = FillOptions { replace: true, ..FillOptions::default() };
    let mut ignored = |_| {};
    let mut copying = std::pin::pin!(copy_store(&source, &fills.store, options, &mut ignored));
    let mut poll =
        async || std::future::poll_fn(|context| std::task::Poll::Ready(copying.as_mut().poll(context))).await;
    assert!(poll().await.is_pending(), "it waits for its source");
    fills.network.before_write(
        Kind::Lease,
        Box::new(move || {
            Box::pin(async move {
                stalled.send(()).unwrap();
                std::future::pending().await
            })
        }),
    );
    fills.hand.advance(LEASE_LIFETIME / 3);
    source.hold_after(Some(0));
    assert!(poll().await.is_pending(), "it waits for its source still");
    is_stalled.try_recv().expect("the renewal is on its way");
    let failed = copying.await;
    assert!(matches!(failed, Err(FillError::Source(_))), "{failed:?}");
    assert_eq!(provider.store.leases().announce().await, Err(UseError::HalfFilled));
}

/// What is to be left out is told before anything is done, not found to be too much in the end.
#[tokio::test]
async fn a_store_with_sessions_is_not_taken_for_one_without() {
    let kernel: Arc<dyn Kernel> = Arc::new(MemoryKernel::new());
    let (fills, provider) = (Process::on(Arc::clone(&kernel), 1), Process::on(Arc::clone(&kernel), 2));
    let write = Write { data: b"{\"n\":1,\"v\":{}}".to_vec(), ..Write::default() };
    let source = source().await;
    source.insert(Kind::Login, "somebody", write).await.unwrap();
    copy_store(&*source, &fills.store, FillOptions::default(), &mut |_| {}).await.unwrap();
    let without = FillOptions { scope: Scope::WithoutSessions, ..FillOptions::default() };
    let refused = copy_store(&*source, &fills.store, without, &mut |_| {}).await;
    assert!(matches!(refused, Err(FillError::NotEmpty { others: 1, .. })), "{refused:?}");
    provider.store.leases().announce().await.unwrap();
}

async fn who_waits_to_fill_shuts_nobody_out(kit: Kit) {
    let [gone, serves, fills] = three(&kit);
    // A replica of a version without the record has been killed.
    let mut left = gone.store.leases().candidate(Duty::Seal, LEASE_LIFETIME);
    assert_eq!(left.contend().await, Ok(true));
    let task = filling(&fills);
    while fills.network.take_counts().gets == 0 {
        tokio::task::yield_now().await;
    }
    fills.hand.advance(LEASE_LIFETIME / 2);
    serves.store.leases().announce().await.unwrap();
    // Whoever came meanwhile is waited for as well.
    let (done, waited) = passing(&[&fills], task).await;
    assert_eq!(done.unwrap().written, 5);
    assert!(waited >= LEASE_LIFETIME, "{waited:?}");
}

async fn a_filler_that_was_killed_is_followed_after_its_lifetime(kit: Kit) {
    let [one, two, three] = three(&kit);
    let (reached, reaches) = tokio::sync::oneshot::channel();
    one.network.before_write(
        Kind::Client,
        Box::new(move || {
            Box::pin(async move {
                reached.send(()).unwrap();
                std::future::pending().await
            })
        }),
    );
    let first = filling(&one);
    reaches.await.unwrap();
    first.abort();
    assert!(matches!(three.store.leases().announce().await, Err(UseError::Filling { .. })));
    let (done, waited) = passing(&[&two], filling(&two)).await;
    let done = done.unwrap();
    assert_eq!(done.written + done.unchanged, 5);
    assert!(waited >= LEASE_LIFETIME, "{waited:?}");
    three.store.leases().announce().await.unwrap();
}

async fn a_filler_that_is_cut_off_stops_and_leaves_no_whole_store(kit: Kit) {
    let [one, two, _] = three(&kit);
    let (hand, network) = (one.hand.clone(), Arc::clone(&one.network));
    one.network.before_write(
        Kind::Client,
        Box::new(move || {
            Box::pin(async move {
                network.set_noise(Noise { refusals: 1000, ..Noise::default() });
                hand.advance(LEASE_LIFETIME * 2 / 3);
                Ok(())
            })
        }),
    );
    let lost = filled(&one, FillOptions::default()).await;
    assert!(matches!(lost, Err(FillError::Lost { .. })), "{lost:?}");
    // It could not write that down, and its lease runs out.
    assert!(matches!(two.store.leases().announce().await, Err(UseError::Filling { .. })));
    let (done, waited) = passing(&[&two], filling(&two)).await;
    let done = done.unwrap();
    assert_eq!(done.written + done.unchanged, 5);
    assert!(waited >= LEASE_LIFETIME, "{waited:?}");
    two.store.leases().announce().await.unwrap();
}

async fn a_replica_that_slept_through_a_filling_ends(kit: Kit) {
    let [slept, fresh, fills] = three(&kit);
    let keep = async |process: &Process| {
        let shutdown = Shutdown::new();
        process.store.leases().keep_announced(&shutdown).await
    };
    slept.store.leases().announce().await.unwrap();
    let (done, _) = passing(&[&fills], filling(&fills)).await;
    done.unwrap();
    assert_eq!(keep(&slept).await, Err(UseError::Replaced));
    // Also when another has begun to use it since.
    fresh.store.leases().announce().await.unwrap();
    assert_eq!(keep(&slept).await, Err(UseError::Replaced));
    // What is made from one store with another configuration knows as much.
    let other = slept.store.with_static(Vec::new(), Vec::new(), Vec::new());
    assert_eq!(other.leases().keep_announced(&Shutdown::new()).await, Err(UseError::Replaced));
    // Started again it knows the store as it is.
    slept.store.leases().announce().await.unwrap();
    let shutdown = Shutdown::new();
    shutdown.trigger();
    slept.store.leases().keep_announced(&shutdown).await.unwrap();
}
