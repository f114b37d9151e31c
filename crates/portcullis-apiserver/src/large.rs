//! Threads for requests with large bodies.
//!
//! What a large body says takes long to read and to judge. Others are served meanwhile, health checks above all. The threads
//! are as many as processors and stay the same: so many bodies are trees at a time, and the allocator keeps what they were
//! made in for the next ones instead of for every thread that ever had one.

use std::any::Any;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How nice the threads are to others (setpriority(2), -20 to 19).
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Work that is done on one of the threads.
type Work = Box<dyn FnOnce() + Send>;
type Panic = Box<dyn Any + Send>;

/// The threads. They end when this is dropped, each after the work that it is at.
pub(crate) struct Turns {
    waiting: mpsc::Sender<Work>,
}

impl Turns {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system's, when it gives no more threads.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (waiting, works) = mpsc::channel();
        let works = Arc::new(Mutex::new(works));
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let works = Arc::clone(&works);
            thread::Builder::new().name("large".to_owned()).spawn(move || work_on(&works))?;
        }
        Ok(Self { waiting })
    }

    /// What `work` gives, once it had its turn. A panic of it goes on here. Work whose caller is gone before its turn is not
    /// begun; `None` is told when no thread is left.
    pub(crate) async fn take<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel::<Result<T, Panic>>();
        let runtime = Handle::current();
        let work: Work = Box::new(move || {
            if !done.is_closed() {
                let _caller_gone = done.send(catch_unwind(AssertUnwindSafe(|| runtime.block_on(work))));
            }
        });
        self.waiting.send(work).ok()?;
        result.await.ok().map(|result| result.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

fn work_on(works: &Mutex<mpsc::Receiver<Work>>) {
    yield_to_others();
    loop {
        let next = works.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        work();
    }
}

/// Whoever shares the processors goes first. That it cannot be had does no harm.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "a thread has the priority of the others");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn no_more_is_under_way_than_there_are_processors_and_all_get_their_turn() {
        let turns = Turns::start().unwrap();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let works = (0..50).map(|number| {
            let (now, most) = (now.clone(), most.clone());
            turns.take(async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                number
            })
        });
        let given: Vec<Option<usize>> = futures_util::future::join_all(works).await;
        assert_eq!(given, (0..50).map(Some).collect::<Vec<_>>());
        let processors = thread::available_parallelism().unwrap().get();
        assert!((1..=processors).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn a_panic_is_the_callers_and_the_thread_goes_on() {
        let turns = Turns::start().unwrap();
        for _ in 0..50 {
            let panicked = AssertUnwindSafe(turns.take(async { panic!("odd") })).catch_unwind().await;
            assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"odd"));
        }
        assert_eq!(turns.take(async { 7 }).await, Some(7));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_begun() {
        let turns = Turns::start().unwrap();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let busy: Vec<_> = (0..thread::available_parallelism().unwrap().get())
            .map(|_| {
                let held = held.clone();
                Box::pin(turns.take(async move { held.lock().unwrap().recv().unwrap() }))
            })
            .collect();
        let mut busy = futures_util::future::join_all(busy);
        assert!((&mut busy).now_or_never().is_none());
        let begun = Arc::new(AtomicUsize::new(0));
        let also = begun.clone();
        let left = turns.take(async move { also.fetch_add(1, Ordering::SeqCst) });
        assert!(left.now_or_never().is_none());
        for _ in 0..thread::available_parallelism().unwrap().get() {
            release.send(()).unwrap();
        }
        busy.await;
        turns.take(async {}).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 0);
    }
}
