//! The only place that prints: data to stdout, everything else to stderr, errors with their causes and a `hint:` line.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "this is the output module")]

use std::process::ExitCode;

/// Prints data.
pub(crate) fn data(text: &str) {
    println!("{text}");
}

/// Prints an error and, where there is something the user can do, a hint.
pub(crate) fn error(text: &str, hint: Option<&str>) {
    eprintln!("error: {text}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}

/// Prints a warning.
pub(crate) fn warning(text: &str) {
    eprintln!("warning: {text}");
}

/// Prints what the command line parser has to say: help and version to stdout with 0, mistakes to stderr with 2.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let failed = error.use_stderr();
    if error.print().is_err() || failed { ExitCode::from(2) } else { ExitCode::SUCCESS }
}
