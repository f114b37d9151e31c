//! `down`: ends what `up` runs and removes what it made.
//!
//! The running `up` is asked to stop and waited for; only the process that holds the lock is ever signalled. What was put
//! outside the folder (a kubeconfig's entries, the system's trust store) is taken out first, so that a `down` that fails
//! half-way can be run again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ca;
use crate::kubeconfig::KubeconfigError;
use crate::kubeconfig::other::{self, Ours, Removed};
use crate::state::{OtherKubeconfig, StateDir, StateError};
use crate::steps::Steps;
use crate::system_trust::{Store, TrustError};
use crate::trust_folder;

/// How long a killed plugin may take to be gone.
pub(crate) const PLUGIN_PATIENCE: Duration = Duration::from_secs(5);
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
            Self::Trust(_) => Some("run it as the user who gave --trust: as root".to_owned()),
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
    // The `up` that started it was killed. It holds a port, and nobody waits for its answer.
    if let Some(plugin) = file.plugin.filter(|plugin| plugin.runs()) {
        if !plugin.end(PLUGIN_PATIENCE) {
            return Err(DownError::StillRunning(plugin.pid));
        }
        steps.done("stop", &format!("ended the sign-in that still waited (process {})", plugin.pid));
    }
    if let Some(path) = &file.system_trust {
        Store::of_file(path)?.remove(path)?;
        steps.done("trust", "removed the authority from the system's store");
    }
    let authority = ca::stored(&state);
    let mut failed = None;
    for other in &file.kubeconfigs {
        let ours = Ours { name, ca_pem: authority.as_deref(), remembered: true };
        match other::remove(other, &ours, file.issuer.as_deref()) {
            Ok(outcome) => steps.done("kubeconfig", &removed(other, outcome)),
            // A file that is broken does not keep ours in the others.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    trust_folder::remove(&state).map_err(|(path, source)| DownError::Remove { path, source })?;
    let dir = state.dir();
    fs::remove_dir_all(&dir).map_err(|source| DownError::Remove { path: dir.clone(), source })?;
    // The folder of all names, once the last one has gone. One that the user has named is theirs.
    if root.file_name().is_some_and(|name| name == "portcullis") {
        let _not_empty = fs::remove_dir(root);
    }
    steps.done("state", &format!("removed {}", dir.display()));
    Ok(())
}

fn removed(file: &OtherKubeconfig, removed: Removed) -> String {
    let path = file.path.display();
    match removed {
        Removed::Entries => format!("removed our entries from {path}"),
        Removed::File => format!("removed {path}, which held nothing but our entries"),
        Removed::NotThere => format!("{path} is not there any more: nothing to remove"),
        Removed::NoEntries => format!("{path} has no entries of ours any more: left as it is"),
        Removed::Foreign(entry) => format!("{path}: {entry} is not ours any more: left as it is"),
    }
}

fn stop(state: &StateDir, steps: &Steps) -> Result<crate::state::Lock, DownError> {
    let unknown = || DownError::UnknownProcess(state.name().to_owned());
    // A number that an `up` left behind may be another process' by now: only the one that was written down is asked to end.
    let process = state.read()?.process().filter(|process| process.runs()).ok_or_else(unknown)?;
    let pid = process.pid;
    // Gone between the two looks is as good as stopped.
    process.signal(Signal::TERM);
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
