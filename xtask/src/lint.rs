//! `cargo xtask lint`: formatting, clippy with warnings as errors, broken documentation links.

use std::time::Duration;

use anyhow::Result;

use crate::stage::{self, Outcome};

/// All lint stages together may take this long (design section 5).
const CAP: Duration = Duration::from_secs(10 * 60);

pub(crate) fn run() -> Result<()> {
    stage::report(&stages()?)
}

pub(crate) fn stages() -> Result<Vec<Outcome>> {
    Ok(vec![
        stage::run("format", CAP, stage::cargo().args(["fmt", "--all", "--check"]))?,
        stage::run(
            "clippy",
            CAP,
            stage::cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
        )?,
        stage::run(
            "doc links",
            CAP,
            stage::cargo()
                .args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
                .env("RUSTDOCFLAGS", "-D rustdoc::broken_intra_doc_links"),
        )?,
    ])
}
