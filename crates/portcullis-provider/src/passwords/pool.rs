//! A bounded pool for password hashes.
//!
//! One bcrypt check takes tens to hundreds of milliseconds of one processor. At most `workers` run at a time, on the
//! blocking threads of the runtime and never on those that serve; at most `queue` wait; beyond that the caller gets
//! [`PoolFull`] at once, which is a 503 with Retry-After. As many seats again are kept for browsers that have signed in
//! before, so that strangers who keep the queue full keep nobody out who is known. A caller that goes away leaves its running check to finish,
//! so that hanging up does not make room for more work than there are workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use portcullis_runtime::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::hash::BcryptHash;

/// Nobody can check the password now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many password checks are waiting")]
pub(crate) struct PoolFull;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HashPool {
    workers: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

impl HashPool {
    /// A pool of `workers`, or of one less than there are processors when that is 0, and a queue.
    pub(crate) fn new(workers: usize, queue: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = if workers == 0 { processors.saturating_sub(1).max(1) } else { workers };
        Self { workers: Arc::new(Semaphore::new(workers)), waiting: Arc::default(), queue }
    }

    /// Waits for a worker; for one who is `known` there are twice as many seats. A caller that holds one does nothing slow
    /// but the check.
    pub(crate) async fn worker(&self, known: bool) -> Result<Worker, PoolFull> {
        if let Ok(permit) = self.workers.clone().try_acquire_owned() {
            return Ok(Worker(permit));
        }
        let seats = if known { self.queue.saturating_mul(2) } else { self.queue };
        let _seat = Seat::take(&self.waiting, seats)?;
        // The semaphore is never closed.
        self.workers.clone().acquire_owned().await.map(Worker).map_err(|_| PoolFull)
    }
}

/// The right to compute one hash.
pub(crate) struct Worker(OwnedSemaphorePermit);

impl Worker {
    /// Whether the password belongs to the hash.
    pub(crate) async fn verify(self, hash: BcryptHash, password: Secret) -> bool {
        let check = tokio::task::spawn_blocking(move || {
            let right = hash.verify(password.expose());
            drop(self.0);
            right
        });
        // A panic in there, which nothing can cause, is a wrong password.
        check.await.unwrap_or(false)
    }
}

/// A place in the queue, given back when it is dropped.
struct Seat<'a>(&'a AtomicUsize);

impl<'a> Seat<'a> {
    fn take(waiting: &'a AtomicUsize, limit: usize) -> Result<Self, PoolFull> {
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1))
            .map(|_| Self(waiting))
            .map_err(|_| PoolFull)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_seats_come_back() {
        let pool = HashPool::new(1, 2);
        let busy = pool.workers.clone().try_acquire_owned().unwrap();
        let hash = BcryptHash::dummy(10);
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                tokio::spawn({
                    let (p, h) = (pool.clone(), hash.clone());
                    async move { Ok::<bool, PoolFull>(p.worker(false).await?.verify(h, "x".into()).await) }
                })
            })
            .collect();
        while pool.waiting.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.worker(false).await.err(), Some(PoolFull));
        // Whoever is known has a seat all the same, as long as there are some of those.
        let known = tokio::spawn({
            let p = pool.clone();
            async move { p.worker(true).await.is_ok() }
        });
        while pool.waiting.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        let another = tokio::spawn({
            let p = pool.clone();
            async move { p.worker(true).await.is_ok() }
        });
        while pool.waiting.load(Ordering::Relaxed) < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.worker(true).await.err(), Some(PoolFull));
        another.abort();
        known.abort();
        while pool.waiting.load(Ordering::Relaxed) > 2 {
            tokio::task::yield_now().await;
        }
        waiting[0].abort();
        while pool.waiting.load(Ordering::Relaxed) > 1 {
            tokio::task::yield_now().await;
        }
        drop(busy);
        for task in waiting {
            if let Ok(result) = task.await {
                assert_eq!(result, Ok(false));
            }
        }
        assert_eq!(pool.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn right_and_wrong_passwords_are_told_apart() {
        let pool = HashPool::new(0, 1);
        let hash = BcryptHash::parse("$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W").unwrap();
        assert!(pool.worker(false).await.unwrap().verify(hash.clone(), "password".into()).await);
        assert!(!pool.worker(false).await.unwrap().verify(hash, "Password".into()).await);
    }
}
