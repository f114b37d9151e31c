//! The only place that prints: data to stdout, everything else to stderr, errors with their causes and a `hint:` line.
//!
//! A stream that cannot be written never ends the program in the middle of something.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Data on its way to stdout, and what went wrong with it.
#[derive(Default)]
pub(crate) struct Data(Mutex<Option<io::Error>>);

impl Data {
    /// Prints a line.
    pub(crate) fn line(&self, text: &str) {
        let mut out = io::stdout().lock();
        if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// What `code` becomes when a line could not be printed, which is said. Whoever reads no further, as `head` does, has got
    /// what they wanted.
    pub(crate) fn finish(self, code: ExitCode) -> ExitCode {
        match self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(failed) if failed.kind() != ErrorKind::BrokenPipe => {
                error(&format!("cannot write to standard output: {failed}"), None);
                ExitCode::FAILURE
            }
            _ => code,
        }
    }
}

/// Prints all the data that there is.
pub(crate) fn data(text: &str) -> ExitCode {
    let data = Data::default();
    data.line(text);
    data.finish(ExitCode::SUCCESS)
}

/// Prints an error and, where there is something the user can do, a hint.
pub(crate) fn error(text: &str, hint: Option<&str>) {
    said(&format!("error: {text}"));
    if let Some(hint) = hint {
        said(&format!("hint: {hint}"));
    }
}

/// Prints a warning.
pub(crate) fn warning(text: &str) {
    said(&format!("warning: {text}"));
}

fn said(text: &str) {
    // There is nowhere left to say that it cannot be said.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints what the command line parser has to say: help and version to stdout with 0, mistakes to stderr with 2.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let failed = error.use_stderr();
    if error.print().is_err() || failed { ExitCode::from(2) } else { ExitCode::SUCCESS }
}
