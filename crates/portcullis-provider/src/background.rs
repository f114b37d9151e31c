//! Work that no request waits for: key rotation, deletion of what has expired, writing of failure counts.

use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::Shutdown;

use crate::app::App;
use crate::authflow::error_source;
use crate::front::Front;
use crate::signer::CHECK_EVERY;

/// How often what has expired is deleted, as Dex.
const COLLECT_EVERY: Duration = Duration::from_secs(300);
/// Most records deleted in one go.
const COLLECT_LIMIT: usize = 10_000;
/// How often failures that are only in memory are written, so that other replicas know: each account at most that often.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Background work.
#[derive(Clone, Copy)]
pub(crate) enum Job {
    RotateKeys,
    Collect,
    WriteFailures,
}

impl Job {
    const fn interval(self) -> Duration {
        match self {
            Self::RotateKeys => CHECK_EVERY,
            Self::Collect => COLLECT_EVERY,
            Self::WriteFailures => FLUSH_EVERY,
        }
    }

    /// Does it now and at every interval until shutdown, and what must not be lost once more at the end.
    pub(crate) async fn repeat(self, front: Arc<Front>, shutdown: Shutdown) {
        let app = &front.app;
        let rounds = async {
            let mut failing = false;
            loop {
                let failed = !self.run(app, failing).await;
                if failing && !failed {
                    tracing::info!("failure counts are written again");
                }
                // What is tried every second is not worth a line every second.
                failing = failed && matches!(self, Self::WriteFailures);
                app.clock.sleep(self.interval()).await;
            }
        };
        shutdown.unless(rounds).await;
        if let Self::WriteFailures = self {
            self.run(app, false).await;
        }
    }

    /// Does it once; `quietly` when the log has said already that it fails. False when it has failed.
    async fn run(self, app: &App, quietly: bool) -> bool {
        let failed = |what: &str, error: &dyn std::error::Error| {
            if !quietly {
                tracing::error!(%error, source = error_source(error), "{what}");
            }
            false
        };
        match self {
            Self::RotateKeys => match app.signer.check().await {
                Ok(_) => true,
                Err(error) => failed("failed to rotate keys", &error),
            },
            Self::Collect => match app.store.collect(COLLECT_LIMIT).await {
                Ok(done) => {
                    if done.records > 0 {
                        tracing::info!(records = done.records, "garbage collection run");
                    }
                    true
                }
                Err(error) => failed("garbage collection failed", &error),
            },
            Self::WriteFailures => match app.store.failures().flush(app.config.attempts.window).await {
                Ok(()) => true,
                Err(error) => {
                    failed("failure counts could not be written; they count in this process until they can be", &error)
                }
            },
        }
    }
}
