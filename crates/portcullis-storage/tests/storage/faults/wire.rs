//! Replies that come twice, or when nobody waits for them any more. What must never happen: that a reply is taken for the
//! answer to another question.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use portcullis_storage::{Applied, Kernel, KernelError, kernel::Version};
use portcullis_testkit::Traffic;

use super::behind::{Behind, KIND, Op, PATIENCE, Server, applied, write};

/// A transport that does this is broken, so operations may fail; that is told, and the next connection is a new one.
pub(super) async fn a_reply_that_comes_twice_answers_nothing_else(server: &Server) {
    let store = server.store().await;
    let mut exam = Exam::begin(&store).await;
    for op in Op::ALL {
        for round in 0..3 {
            let id = format!("{op:?} {round}");
            let version = op.prepare(&store, &id).await;
            store.warm().await;
            store.proxy.set(Traffic::RepeatReply);
            let result = op.run(&*store.kernel, &id, version).await;
            assert_eq!(store.proxy.traffic(), Traffic::Pass, "it struck");
            exam.ask(&*store.kernel).await;
            let there = store.data(&id).await;
            let (before, after) = op.effect();
            match applied(&result) {
                None => assert_eq!((result, there.as_deref()), (Ok(()), after), "{id}"),
                Some(Applied::No) => assert_eq!(there.as_deref(), before, "{id}"),
                Some(Applied::Unknown) => assert!([before, after].contains(&there.as_deref()), "{id}: {there:?}"),
            }
        }
    }
    // Reads: the same.
    for _ in 0..3 {
        store.warm().await;
        store.proxy.set(Traffic::RepeatReply);
        exam.ask(&*store.kernel).await;
        assert_eq!(store.proxy.traffic(), Traffic::Pass, "it struck");
    }
    assert!(exam.ask(&*store.kernel).await, "the kernel recovers by itself");
}

/// Whoever waited is told in time that nobody knows. The reply comes later; then it is nobody's.
pub(super) async fn a_reply_that_comes_too_late_answers_nothing_else(server: &Server) {
    const LATE: Duration = Duration::from_secs(4);
    let store = server.hasty_store().await;
    let mut exam = Exam::begin(&store).await;
    let version = Op::Update.prepare(&store, "late").await;
    store.warm().await;
    store.proxy.set(Traffic::DelayReplies(LATE));
    let begun = Instant::now();
    let (written, read) =
        tokio::join!(Op::Update.run(&*store.kernel, "late", version), store.kernel.get(KIND, "there"));
    assert_eq!(applied(&written), Some(Applied::Unknown), "{written:?}");
    assert_eq!(applied(&read), Some(Applied::No), "{read:?}");
    assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < LATE, "told after {:?}", begun.elapsed());
    store.proxy.set(Traffic::Pass);
    // Over new connections everything is answered, while the replies come over the old ones.
    let mut answered = 0;
    while begun.elapsed() < LATE + Duration::from_millis(500) {
        answered += usize::from(exam.ask(&*store.kernel).await);
    }
    assert!(answered > 0, "the kernel recovers by itself");
    assert_eq!(store.data("late").await.as_deref(), Some("new"), "it had arrived");
    assert_eq!(store.direct.update(KIND, "late", version, write("x")).await, Err(KernelError::Conflict));
    store.warm().await;
}

/// A network that holds everything back: whoever waits is told in time, and the request that arrives when nobody waits any more
/// counts once or not at all.
pub(super) async fn a_request_that_arrives_late_counts_once_at_most(server: &Server) {
    let store = server.hasty_store().await;
    let mut versions = Vec::new();
    for op in Op::ALL {
        versions.push((op, op.prepare(&store, &format!("{op:?}")).await));
    }
    store.warm().await;
    store.proxy.set(Traffic::Hold);
    let begun = Instant::now();
    let kernel = &*store.kernel;
    let held = join_all(
        versions.iter().map(|(op, version)| async move { op.run(kernel, &format!("{op:?}"), *version).await }),
    );
    let (held, read) = tokio::join!(held, kernel.get(KIND, "Update"));
    assert_eq!(applied(&read), Some(Applied::No), "{read:?}");
    assert!((PATIENCE..3 * PATIENCE).contains(&begun.elapsed()), "told after {:?}", begun.elapsed());
    store.proxy.set(Traffic::Pass);
    // Nothing tells when it has arrived, or that it will not.
    tokio::time::sleep(PATIENCE / 2).await;
    assert!(held.iter().any(|held| applied(held) == Some(Applied::Unknown)), "{held:?}");
    for ((op, version), held) in versions.into_iter().zip(held) {
        let (before, after) = op.effect();
        let there = store.data(&format!("{op:?}")).await;
        match applied(&held) {
            Some(Applied::Unknown) => assert!([before, after].contains(&there.as_deref()), "{op:?}: {there:?}"),
            // There was no connection for it.
            Some(Applied::No) => assert_eq!(there.as_deref(), before, "{op:?}"),
            None => panic!("{op:?}: {held:?}"),
        }
        let again = if there.as_deref() == before { Ok(()) } else { Err(op.repeated()) };
        assert_eq!(op.run(&*store.direct, &format!("{op:?}"), version).await, again, "{op:?}");
        assert_eq!(store.data(&format!("{op:?}")).await.as_deref(), after, "{op:?}");
    }
    store.warm().await;
}

/// Questions whose right answers differ from each other.
struct Exam {
    stale: Version,
    counter: (Version, usize),
}

impl Exam {
    async fn begin(store: &Behind) -> Self {
        store.there("there", "there's").await;
        let stale = store.there("moved", "").await;
        store.direct.update(KIND, "moved", stale, write("moved's")).await.unwrap();
        Self { stale, counter: (store.there("counter", "0").await, 0) }
    }

    /// Asks them all. An answer may be that the store failed; any other one must be right. Whether all were answered.
    async fn ask(&mut self, kernel: &dyn Kernel) -> bool {
        let data = |id| async move {
            kernel.get(KIND, id).await.map(|record| record.map(|record| String::from_utf8(record.data).unwrap()))
        };
        let mut all = right("get", data("there").await, Ok(Some("there's".to_owned())));
        all &= right("get", data("missing").await, Ok(None));
        let refused = kernel.update(KIND, "moved", self.stale, write("wrong")).await;
        all &= right("update", refused, Err(KernelError::Conflict));
        all &= right("get", data("moved").await, Ok(Some("moved's".to_owned())));
        all &= right("insert", kernel.insert(KIND, "there", write("wrong")).await, Err(KernelError::AlreadyExists));
        let gone = kernel.delete(KIND, "missing", self.stale).await;
        all &= right("delete", gone, Err(KernelError::NotFound));
        all && self.count(kernel).await
    }

    /// A write that succeeds: it is there afterwards.
    async fn count(&mut self, kernel: &dyn Kernel) -> bool {
        let (version, count) = self.counter;
        let next = (count + 1).to_string();
        match kernel.update(KIND, "counter", version, write(&next)).await {
            Ok(version) => self.counter = (version, count + 1),
            result @ Err(_) => {
                assert!(applied(&result).is_some(), "update: {result:?}");
                // Whatever became of it: what is there now is counted on from.
                let Ok(Some(record)) = kernel.get(KIND, "counter").await else { return false };
                let found: usize = String::from_utf8(record.data).unwrap().parse().unwrap();
                assert!(found == count || found == count + 1, "{found} after {count}");
                self.counter = (record.version, found);
                return false;
            }
        }
        let found = kernel.get(KIND, "counter").await.map(|record| record.map(|record| record.data));
        right("get", found, Ok(Some(next.into_bytes())))
    }
}

/// Whether it was answered, and then rightly.
fn right<T: Debug + PartialEq>(what: &str, answer: Result<T, KernelError>, expected: Result<T, KernelError>) -> bool {
    if applied(&answer).is_some() {
        return false;
    }
    assert_eq!(answer, expected, "{what}");
    true
}
