//! A store that `store restore` or `store copy` fills: no provider begins to use it, and one that has used it ends.

use std::sync::OnceLock;

use portcullis_runtime::Shutdown;
use portcullis_storage::conformance::FaultyKernel;
use portcullis_storage::kernel::{Kind, Page};
use portcullis_storage::{
    FillError, FillOptions, Filled, KernelError, SqliteKernel, SqliteOptions, Subject, UseError, copy_store,
};
use tokio::task::JoinHandle;

use super::*;
use crate::background::Job;
use crate::{ServeError, serve};

/// A provider that is served on a store in a file, with a clock of its own.
struct Served {
    clock: MockClock,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    fn start(file: &std::path::Path) -> Self {
        let storage = format!("storage: {{type: sqlite3, config: {{file: '{}'}}}}", file.display());
        let text = BASE.replace("storage: {type: memory}", &storage).replace("127.0.0.1:5556", "127.0.0.1:0");
        let config = RawConfig::read(&Document::parse(&text, "c.yaml").unwrap().root()).0.validate(&|_| None).unwrap();
        let ((clock, hand), shutdown) = (Clock::mock(NOW), Shutdown::new());
        let task = tokio::spawn(serve(config, clock, Rng::seeded(1), shutdown.clone()));
        Self { clock: hand, shutdown, task }
    }

    async fn end(self) -> Result<(), ServeError> {
        tokio::time::timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap()
    }
}

/// What fills the file, with a clock of its own.
async fn filled(source: &dyn Kernel, file: &std::path::Path, clocks: &[&MockClock]) -> Result<Filled, FillError> {
    fill(source, file, clocks, |_| {}).await
}

async fn fill(
    source: &dyn Kernel,
    file: &std::path::Path,
    clocks: &[&MockClock],
    spoil: impl FnOnce(&FaultyKernel),
) -> Result<Filled, FillError> {
    let (clock, hand) = Clock::mock(NOW);
    let kernel = Arc::new(SqliteKernel::open(file, &clock, &SqliteOptions::default()).unwrap());
    let kernel = Arc::new(FaultyKernel::new(kernel, 1));
    spoil(&kernel);
    let target = Store::new(Arc::clone(&kernel) as _, clock, Rng::seeded(2));
    let options = FillOptions { replace: true, ..FillOptions::default() };
    let mut ignored = |_| {};
    let filling = copy_store(source, &target, options, &mut ignored);
    let passing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(30)).await;
            // Once it fills nobody is waited for, and its lease must not run out on a slow disk.
            let used = kernel.get(Kind::Lease, "use").await.unwrap();
            if used.is_some_and(|record| String::from_utf8_lossy(&record.data).contains("\"filling ")) {
                std::future::pending::<()>().await;
            }
            clocks.iter().copied().chain([&hand]).for_each(|clock| clock.advance(Duration::from_secs(1)));
        }
    };
    tokio::select! {
        done = filling => done,
        () = passing => unreachable!("it has no end"),
    }
}

async fn keys(file: &std::path::Path) -> Option<Vec<u8>> {
    let kernel = SqliteKernel::look(file, &Clock::mock(NOW).0, &SqliteOptions::default()).unwrap();
    let mut snapshot = kernel.snapshot().await.unwrap();
    let mut found = None;
    while let Some(batch) = snapshot.next().await.unwrap() {
        found = batch.into_iter().find(|(kind, _)| *kind == Kind::SigningKeys).map(|(_, record)| record.data).or(found);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_served_is_not_filled_and_one_that_was_filled_is_not_served_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let source = World::new("").await;
    let source = source.provider.app().store.clone();
    let served = Served::start(&file);
    let begun = async {
        while !file.exists() || keys(&file).await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begun).await.expect("a provider that starts");

    let refused = filled(source.kernel(), &file, &[&served.clock]).await;
    assert!(matches!(&refused, Err(FillError::InUse { place, .. }) if place.contains("store.db")), "{refused:?}");
    assert!(!served.task.is_finished());
    // It sleeps for a minute, and wakes up in another store.
    filled(source.kernel(), &file, &[]).await.unwrap();
    served.clock.advance(Duration::from_secs(20));
    let error = served.end().await.unwrap_err();
    assert!(matches!(error, ServeError::Taken(UseError::Replaced)), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("start the provider again")));

    let served = Served::start(&file);
    served.shutdown.trigger();
    served.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_provider_starts_on_a_store_that_is_half_filled() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let source = World::new("").await;
    let source = source.provider.app().store.clone();
    let broken = |kernel: &FaultyKernel| {
        let failure = || KernelError::Corrupt { what: "a test".to_owned() };
        kernel.before_write(Kind::SigningKeys, Box::new(move || Box::pin(async move { Err(failure()) })));
    };
    let cut_off = fill(source.kernel(), &file, &[], broken).await;
    assert!(matches!(cut_off, Err(FillError::Target(_))), "{cut_off:?}");
    let error = Served::start(&file).end().await.unwrap_err();
    assert!(matches!(error, ServeError::Unusable(UseError::HalfFilled)), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("run it again")));
    assert_eq!(keys(&file).await, None, "it has made none");

    filled(source.kernel(), &file, &[]).await.unwrap();
    let served = Served::start(&file);
    served.shutdown.trigger();
    served.end().await.unwrap();
}

/// What was counted before belongs to the store that was there before.
#[tokio::test]
async fn failures_are_not_written_to_a_store_that_was_taken() {
    for (is_taken, written) in [(false, 1), (true, 0)] {
        let world = World::new("").await;
        let (front, shutdown) = (world.provider.front(), Shutdown::new());
        let taken = Arc::new(OnceLock::new());
        let job = tokio::spawn(Job::WriteFailures.repeat(front, shutdown.clone(), Arc::clone(&taken)));
        // It has written, nothing as yet, and waits for its next turn.
        tokio::task::yield_now().await;
        let app = world.provider.app();
        app.store.failures().record(Subject::Account("jane@example.com"), true, app.config.attempts.window);
        if is_taken {
            taken.set(UseError::Replaced).unwrap();
        }
        shutdown.trigger();
        job.await.unwrap();
        let failures = app.store.kernel().list(Kind::Failures, Page::first(2)).await.unwrap().records;
        assert_eq!(failures.len(), written, "taken: {is_taken}");
    }
}
