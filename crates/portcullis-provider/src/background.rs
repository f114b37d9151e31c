//! Work that no request waits for: key rotation, deletion of what has expired, writing of failure counts, sealing of what
//! is sealed with a key that is not the current one. What one replica does for all runs where its lease is held.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portcullis_runtime::Shutdown;
use portcullis_storage::{Duty, StoreError, Sweep, SweepStep, UseError};

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

/// Tells until shutdown that this replica uses the store, and asks for shutdown when it is not to be used any more.
pub(crate) async fn keep_announced(front: Arc<Front>, shutdown: Shutdown, taken: Arc<OnceLock<UseError>>) {
    if let Err(error) = front.app.store.leases().keep_announced(&shutdown).await {
        tracing::error!(%error, hint = error.hint(), "the provider ends: its store is not to be used any more");
        // Once only: this is the one who tells.
        let _ = taken.set(error);
        shutdown.trigger();
    }
}

/// Keeps the store's data keys until shutdown: each replica opens them for itself.
pub(crate) async fn keep_data_keys(front: Arc<Front>, shutdown: Shutdown) {
    let app = &front.app;
    let rounds = async {
        let mut trouble = Trouble::new("the store's data keys could not be looked after");
        loop {
            trouble.say(app.store.tend_sealing().await.err().map(|error| (error.to_string(), error.hint())));
            app.clock.sleep(SEALING_PAUSE).await;
            tokio::select! {
                () = app.clock.sleep(SEALING_EVERY - SEALING_PAUSE) => {}
                () = app.store.data_key_missed() => {}
            }
        }
    };
    shutdown.unless(rounds).await;
}

/// Seals again what is not sealed with the current data key, on one replica at a time, until shutdown.
pub(crate) async fn seal_again(front: Arc<Front>, shutdown: Shutdown) {
    let app = &front.app;
    let state = tokio::sync::Mutex::new((Sweep::default(), Trouble::new("secrets could not be sealed again")));
    let rounds = async || {
        let (sweep, trouble) = &mut *state.lock().await;
        // What it has looked at may be another's since then; only how long it rests is known still.
        sweep.begin_anew();
        loop {
            trouble.say(sweep_once(app, sweep).await.err().map(|error| (with_source(&error), None)));
            app.clock.sleep(SEALING_EVERY).await;
        }
    };
    app.store.leases().run_while_held(Duty::Seal, &shutdown, rounds).await;
}

/// One sweep to its end, if one is due. A large store takes hours.
async fn sweep_once(app: &App, sweep: &mut Sweep) -> Result<(), StoreError> {
    loop {
        match app.store.sweep(sweep, SWEEP_RECORDS).await? {
            SweepStep::Idle => return Ok(()),
            SweepStep::More => app.clock.sleep(SWEEP_PAUSE).await,
            SweepStep::Done { written, left, why } => {
                match why {
                    Some(why) => tracing::error!(written, left, why, "some secrets could not be sealed again"),
                    None if written == 0 => tracing::debug!(left, "all secrets were looked at"),
                    None => tracing::info!(written, left, "secrets were sealed again"),
                }
                return Ok(());
            }
        }
    }
}

/// A failure of what is tried twice a minute: worth a line when it changes.
struct Trouble {
    what: &'static str,
    said: String,
}

impl Trouble {
    const fn new(what: &'static str) -> Self {
        Self { what, said: String::new() }
    }

    fn say(&mut self, failure: Option<(String, Option<&'static str>)>) {
        match failure {
            Some((error, hint)) if error != self.said => {
                tracing::error!(error, hint, "{}", self.what);
                self.said = error;
            }
            Some(_) => {}
            None => self.said.clear(),
        }
    }
}

fn with_source(error: &StoreError) -> String {
    format!("{error}: {}", error_source(error))
}

/// Deletes what is over, now and at every interval, on one replica at a time, until shutdown.
pub(crate) async fn collect_expired(front: Arc<Front>, shutdown: Shutdown) {
    let app = &front.app;
    let rounds = async || {
        loop {
            match collect(app).await {
                Ok(0) => {}
                Ok(records) => tracing::info!(records, "garbage collection run"),
                Err(error) => {
                    tracing::error!(%error, source = error_source(&error), "garbage collection failed");
                }
            }
            app.clock.sleep(COLLECT_EVERY).await;
        }
    };
    app.store.leases().run_while_held(Duty::Collect, &shutdown, rounds).await;
}

/// Background work that every replica does for itself.
#[derive(Clone, Copy)]
pub(crate) enum Job {
    RotateKeys,
    WriteFailures,
}

impl Job {
    const fn interval(self) -> Duration {
        match self {
            Self::RotateKeys => CHECK_EVERY,
            Self::WriteFailures => FLUSH_EVERY,
        }
    }

    /// Does it now and at every interval until shutdown, and what must not be lost once more at the end.
    /// What is `taken` is written to no more.
    pub(crate) async fn repeat(self, front: Arc<Front>, shutdown: Shutdown, taken: Arc<OnceLock<UseError>>) {
        let app = &front.app;
        let mut failing = false;
        loop {
            let round = self.run(app, failing);
            let done = match self {
                // A write that was cut off may have happened, and its count would be written once more at the end.
                Self::WriteFailures => Some(round.await),
                Self::RotateKeys => shutdown.unless(round).await,
            };
            let Some(done) = done else { return };
            if failing && done {
                tracing::info!("failure counts are written again");
            }
            // What is tried every second is not worth a line every second.
            failing = !done && matches!(self, Self::WriteFailures);
            if shutdown.unless(app.clock.sleep(self.interval())).await.is_none() {
                break;
            }
        }
        if matches!(self, Self::WriteFailures) && taken.get().is_none() {
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
