//! Work that no request waits for: key rotation, deletion of what has expired, writing of failure counts, sealing of what
//! is sealed with a key that is not the current one.

use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::Shutdown;
use portcullis_storage::{StoreError, Sweep, SweepStep};

use crate::app::App;
use crate::authflow::error_source;
use crate::front::Front;
use crate::signer::CHECK_EVERY;

/// How often what has expired is deleted, as Dex.
const COLLECT_EVERY: Duration = Duration::from_secs(300);
/// Records deleted before a pause, and the pause.
const COLLECT_LIMIT: usize = 2_000;
const COLLECT_PAUSE: Duration = Duration::from_millis(100);
/// How often failures that are only in memory are written, so that other replicas know: each account at most that often.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How often the store's data keys are looked at.
const SEALING_EVERY: Duration = Duration::from_secs(30);
/// How often at most when secrets are met whose data key is not known.
const SEALING_PAUSE: Duration = Duration::from_secs(1);
/// Records that are looked at, and if need be sealed again, at once; and the pause after them.
const SWEEP_RECORDS: usize = 100;
const SWEEP_PAUSE: Duration = Duration::from_millis(50);

/// Keeps the store's data keys, and seals again what others have sealed, until shutdown.
pub(crate) async fn keep_sealed(front: Arc<Front>, shutdown: Shutdown) {
    let app = &front.app;
    let rounds = async {
        let mut sweep = Sweep::default();
        let mut said = String::new();
        loop {
            let trouble = match app.store.tend_sealing().await {
                Ok(()) => seal_again(app, &mut sweep).await,
                Err(error) => Some((error.to_string(), error.hint())),
            };
            match trouble {
                // What is tried twice a minute is worth a line when it changes.
                Some((error, hint)) if error != said => {
                    tracing::error!(error, hint, "the store's data keys could not be looked after");
                    said = error;
                }
                Some(_) => {}
                None => said.clear(),
            }
            app.clock.sleep(SEALING_PAUSE).await;
            tokio::select! {
                () = app.clock.sleep(SEALING_EVERY - SEALING_PAUSE) => {}
                () = app.store.data_key_missed() => {}
            }
        }
    };
    shutdown.unless(rounds).await;
}

/// One sweep to its end, if one is due. A large store takes hours: the data keys are looked at in between as without it.
async fn seal_again(app: &App, sweep: &mut Sweep) -> Option<(String, Option<&'static str>)> {
    let (mut tended, mut missed) = (app.clock.now(), false);
    loop {
        match app.store.sweep(sweep, SWEEP_RECORDS).await {
            Ok(SweepStep::Idle) => return None,
            Ok(SweepStep::More) => {
                missed |= pause_in_sweep(app).await;
                let (now, wait) = (app.clock.now(), if missed { SEALING_PAUSE } else { SEALING_EVERY });
                if now < tended || now >= tended + wait {
                    if let Err(error) = app.store.tend_sealing().await {
                        // The sweep goes on where it is, once they can be looked at again.
                        return Some((error.to_string(), error.hint()));
                    }
                    (tended, missed) = (now, false);
                }
            }
            Ok(SweepStep::Done { written, left, why }) => {
                match why {
                    Some(why) => tracing::error!(written, left, why, "some secrets could not be sealed again"),
                    None if written == 0 => tracing::debug!(left, "all secrets were looked at"),
                    None => tracing::info!(written, left, "secrets were sealed again"),
                }
                return None;
            }
            Err(error) => return Some((format!("{error}: {}", error_source(&error)), None)),
        }
    }
}

/// Waits before the next page of a sweep; whether a data key was missed meanwhile.
async fn pause_in_sweep(app: &App) -> bool {
    let pause = app.clock.sleep(SWEEP_PAUSE);
    tokio::pin!(pause);
    let mut missed = false;
    loop {
        tokio::select! {
            () = &mut pause => return missed,
            () = app.store.data_key_missed(), if !missed => missed = true,
        }
    }
}

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
            Self::Collect => match collect(app).await {
                Ok(records) => {
                    if records > 0 {
                        tracing::info!(records, "garbage collection run");
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

/// Deletes all that is over: as much as the sign-ins of a busy provider leave in the meantime, in parts with pauses in which others have
/// the store to themselves.
async fn collect(app: &App) -> Result<usize, StoreError> {
    let mut records = 0;
    loop {
        let done = app.store.collect(COLLECT_LIMIT).await?;
        records += done.records;
        if !done.more {
            return Ok(records);
        }
        app.clock.sleep(COLLECT_PAUSE).await;
    }
}
