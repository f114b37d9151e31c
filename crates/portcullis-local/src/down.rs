//! `down`: ends what `up` runs and removes what it made.
//!
//! The running `up` is asked to stop and waited for; only the process that holds the lock is ever signalled. What was put
//! outside the folder (a kubeconfig's entries, the system's trust store) is taken out first, so that a `down` that fails
//! half-way can be run again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::kubeconfig::{self, KubeconfigError};
use crate::state::{StateDir, StateError, process_started};
use crate::steps::Steps;
use crate::system_trust::{self, TrustError};
use crate::trust_folder;

/// How long a running `up` may take to end.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Why something was not removed.
#[derive(Debug, thiserror::Error)]
pub enum DownError {
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The running process did not end.
    #[error("process {0} still runs after {PATIENCE:?}")]
    StillRunning(u32),
    /// A process holds the lock but the folder does not name it.
    #[error("{0:?} is running, but its process is not known")]
    UnknownProcess(String),
    /// The other kubeconfig could not be changed.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The system's trust store could not be changed.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A file could not be removed.
    #[error("cannot remove {path}")]
    Remove {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl DownError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::State(error) => error.hint(),
            Self::StillRunning(pid) => Some(format!("end it with `kill -9 {pid}`, then run `portcullis down` again")),
            Self::UnknownProcess(_) => {
                Some("stop it with Ctrl-C in its terminal, then run `portcullis down` again".to_owned())
            }
            Self::Trust(error) => Some(error.hint()),
            Self::Kubeconfig(error) => error.hint(),
            Self::Remove { .. } => None,
        }
    }
}

/// Ends and removes `name`. Nothing there is fine.
///
/// # Errors
/// See [`DownError`]; what was removed until then stays removed, and `down` can be run again.
pub fn run(root: &Path, name: &str, steps: &Steps) -> Result<(), DownError> {
    let state = StateDir::new(root, name)?;
    if !state.dir().is_dir() {
        steps.line(&format!("nothing to remove: {} is not there", state.dir().display()));
        return Ok(());
    }
    let _lock = match state.lock()? {
        Some(lock) => lock,
        None => stop(&state, steps)?,
    };
    let file = state.read()?;
    if let Some(path) = &file.system_trust {
        system_trust::remove(path)?;
        steps.done("trust", "removed the authority from the system's store");
    }
    if let Some(path) = &file.kubeconfig {
        kubeconfig::remove(path, name, file.previous_context.as_deref())?;
        steps.done("kubeconfig", &format!("removed our entries from {}", path.display()));
    }
    trust_folder::remove(&state).map_err(|(path, source)| DownError::Remove { path, source })?;
    let dir = state.dir();
    fs::remove_dir_all(&dir).map_err(|source| DownError::Remove { path: dir.clone(), source })?;
    steps.done("state", &format!("removed {}", dir.display()));
    Ok(())
}

fn stop(state: &StateDir, steps: &Steps) -> Result<crate::state::Lock, DownError> {
    let unknown = || DownError::UnknownProcess(state.name().to_owned());
    let file = state.read()?;
    let pid = file.pid.ok_or_else(unknown)?;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(unknown)?;
    // A number that an `up` left behind may be another process' by now: only the one that was written down is asked to end.
    if file.pid_started.is_none() || process_started(pid) != file.pid_started {
        return Err(unknown());
    }
    // Gone between the two looks is as good as stopped.
    let _gone = kill_process(process, Signal::TERM);
    let start = Instant::now();
    loop {
        if let Some(lock) = state.lock()? {
            steps.done("stop", &format!("process {pid} has ended"));
            return Ok(lock);
        }
        if start.elapsed() > PATIENCE {
            return Err(DownError::StillRunning(pid));
        }
        std::thread::park_timeout(POLL);
    }
}
