//! What surrounds a run of the plugin: environment, clock, randomness, browser, streams, and how it ends.
//!
//! Everything here is an input, so that tests drive the whole plugin in one process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use portcullis_runtime::{Clock, Rng, Shutdown};

use crate::browser::{Browser, SystemBrowser};

/// The environment of a run.
#[derive(Clone)]
pub struct Env {
    /// Environment variables.
    pub vars: BTreeMap<OsString, OsString>,
    /// Wall clock.
    pub clock: Clock,
    /// Randomness of state, nonce and verifier.
    pub rng: Rng,
    /// Opens the user's browser.
    pub browser: Arc<dyn Browser>,
    /// Whether standard input is a terminal.
    pub stdin_is_terminal: bool,
    /// Ends the run as Ctrl-C does when triggered.
    pub shutdown: Shutdown,
    /// Whether SIGINT and SIGTERM trigger `shutdown` while the plugin waits for something. Before that the system's
    /// default ends the process.
    pub handle_signals: bool,
    /// Version shown by `version`, without a leading `v`.
    pub version: String,
}

impl Env {
    /// The environment of this process, with `vars` from it. `version` is the program's own.
    #[must_use]
    pub fn of_process(vars: impl Iterator<Item = (OsString, OsString)>, version: &str) -> Self {
        Self {
            vars: vars.collect(),
            clock: Clock::system(),
            rng: Rng::system(),
            browser: Arc::new(SystemBrowser),
            stdin_is_terminal: std::io::IsTerminal::is_terminal(&std::io::stdin()),
            shutdown: Shutdown::new(),
            handle_signals: true,
            version: version.to_owned(),
        }
    }

    /// A variable that is present and valid UTF-8.
    pub(crate) fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(std::ffi::OsStr::new(name)).and_then(|value| value.to_str())
    }

    /// The home folder, as client-go's `homedir` finds it on Unix; elsewhere `USERPROFILE` too.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        ["HOME", "USERPROFILE"]
            .iter()
            .find_map(|name| self.var(name).filter(|path| !path.is_empty()))
            .map(PathBuf::from)
    }
}

/// The streams of a run.
pub struct Io<'a> {
    /// Carries the credential, help and completion, nothing else.
    pub stdout: &'a mut dyn Write,
    /// Everything else.
    pub stderr: &'a mut dyn Write,
    /// Answers to prompts. Read on a thread of its own, so that a prompt can be interrupted.
    pub stdin: Box<dyn BufRead + Send>,
}

/// How a run ended. kubelogin knows no other codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Success,
    /// Exit code 1.
    Failure,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::SUCCESS,
            Outcome::Failure => Self::FAILURE,
        }
    }
}
