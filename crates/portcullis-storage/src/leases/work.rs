//! A job that runs wherever its lease is held.

use std::time::Duration;

use portcullis_runtime::Shutdown;

use super::candidate::Candidate;
use crate::error::StoreError;

/// How long giving the lease back may hold up the end of the process.
const RELEASE_TIME: Duration = Duration::from_secs(2);
/// How soon it is tried again after a failure, as a part of the time between two renewals.
const RETRIES: u32 = 4;
/// By which part the pauses differ, so that replicas that were started together do not ask together.
const JITTER: u32 = 8;

pub(super) async fn run<F: Future<Output = ()> + Send>(
    candidate: Candidate,
    shutdown: &Shutdown,
    mut job: impl FnMut() -> F + Send,
) {
    let mut worker = Worker { candidate, said: String::new() };
    shutdown.unless(worker.work(&mut job)).await;
    worker.give_back().await;
}

struct Worker {
    candidate: Candidate,
    /// The last failure that was logged.
    said: String,
}

impl Worker {
    /// Returns when a run of the job has ended by itself.
    async fn work<F: Future<Output = ()> + Send>(&mut self, job: &mut (impl FnMut() -> F + Send)) {
        loop {
            match self.contend().await {
                Some(true) => {
                    let (duty, id) = (self.candidate.name(), self.candidate.id().to_owned());
                    tracing::info!(lease = duty, holder = id, "the lease is held here");
                    if self.while_held(job()).await {
                        return;
                    }
                    tracing::warn!(lease = duty, holder = id, "the lease was lost, and its work has stopped here");
                }
                Some(false) => self.wait().await,
                None => self.pause(self.candidate.every() / RETRIES).await,
            }
        }
    }

    /// Whether the run has ended by itself, and not with the lease.
    async fn while_held(&mut self, run: impl Future<Output = ()> + Send) -> bool {
        let tenure = self.candidate.tenure();
        tokio::select! {
            biased;
            done = tenure.while_held(run) => done.is_some(),
            () = self.renew() => false,
        }
    }

    /// Renews the lease until it is another's.
    async fn renew(&mut self) {
        let mut rest = self.candidate.every();
        loop {
            self.pause(rest).await;
            rest = match self.contend().await {
                Some(true) => self.candidate.every(),
                Some(false) => return,
                None => self.candidate.every() / RETRIES,
            };
        }
    }

    /// Whether the lease is held; `None` when the store did not say.
    async fn contend(&mut self) -> Option<bool> {
        match self.candidate.contend().await {
            Ok(held) => {
                self.said.clear();
                Some(held)
            }
            Err(error) => {
                self.say(&error);
                None
            }
        }
    }

    /// What is tried several times a minute is worth a line when it changes.
    fn say(&mut self, error: &StoreError) {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let said = format!("{error}: {source}");
        if said != self.said {
            let lease = self.candidate.name();
            let hint =
                "its work is not done here meanwhile; on Kubernetes, see that deploy/rbac/provider.yaml is applied";
            tracing::error!(%error, source, lease, hint, "the lease could not be taken or renewed");
            self.said = said;
        }
    }

    /// Until it is time to look at another holder's lease again.
    async fn wait(&self) {
        match self.candidate.stands_still_in() {
            Some(rest) if rest < self.candidate.every() => self.sleep(rest).await,
            _ => self.pause(self.candidate.every()).await,
        }
    }

    async fn pause(&self, time: Duration) {
        let part = u32::try_from(time.as_millis()).unwrap_or(u32::MAX) / JITTER;
        let less = Duration::from_millis(self.candidate.store().rng().below(part).into());
        self.sleep(time.saturating_sub(less)).await;
    }

    async fn sleep(&self, time: Duration) {
        let clock = self.candidate.store().clock();
        clock.sleep_until_monotonic(clock.monotonic().saturating_add(time)).await;
    }

    /// At the end: nobody need wait for what has ended.
    async fn give_back(&mut self) {
        if !self.candidate.tenure().end() {
            return;
        }
        match tokio::time::timeout(RELEASE_TIME, self.candidate.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.say(&error),
            Err(_) => tracing::warn!(lease = self.candidate.name(), "the lease could not be given back in time"),
        }
    }
}
