//! Whether a lease is held, by the holder's own clocks.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use portcullis_runtime::{Clock, Timestamp};

/// Tells whether a candidate holds its lease just now. Cheap to clone; clones tell the same.
#[derive(Clone, Debug)]
pub struct Tenure(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    until: Mutex<Option<Moment>>,
}

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    monotonic: Duration,
    wall: Timestamp,
}

impl Moment {
    pub(super) fn now(clock: &Clock) -> Self {
        Self { monotonic: clock.monotonic(), wall: clock.now() }
    }

    fn after(self, time: Duration) -> Self {
        Self { monotonic: self.monotonic.saturating_add(time), wall: self.wall + time }
    }
}

impl Tenure {
    pub(super) fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, until: Mutex::new(None) }))
    }

    /// Whether the lease is held. Asks the clocks and nobody else, so a process that has been stopped knows at once that its
    /// lease may be another's by now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let until = *self.until();
        until.is_some_and(|until| self.0.clock.monotonic() < until.monotonic && self.0.clock.now() < until.wall)
    }

    /// It is held for this long from then on.
    pub(super) fn begin(&self, began: Moment, time: Duration) {
        *self.until() = Some(began.after(time));
    }

    /// It is not held any more; whether it had been, perhaps until it ran out.
    pub(super) fn end(&self) -> bool {
        self.until().take().is_some()
    }

    /// Runs `work` while the lease is held, looking at the clocks before each of its steps; `None` when the lease was lost first.
    pub(super) async fn while_held<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        let guarded = poll_fn(|context| match self.is_held() {
            true => work.as_mut().poll(context).map(Some),
            false => Poll::Ready(None),
        });
        let runs_out = async {
            // Renewals move the end.
            while let Some(until) = self.is_held().then(|| *self.until()).flatten() {
                self.0.clock.sleep_until_monotonic(until.monotonic).await;
            }
        };
        tokio::select! {
            biased;
            done = guarded => done,
            () = runs_out => None,
        }
    }

    fn until(&self) -> MutexGuard<'_, Option<Moment>> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
