//! `cargo xtask fuzz-smoke`: every fuzz target for a bounded time, on the pinned stable toolchain.
//!
//! libFuzzer's coverage instrumentation needs only stable code generation flags; the sanitizers do not, and are left to
//! longer runs outside CI. Past crashes are in the corpus and are replayed first.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::stage::{self, Counts, Outcome};

#[derive(Args)]
pub(crate) struct Options {
    /// Seconds for each target.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only targets whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

/// Building all targets may take this long: a cold build compiles most of the workspace.
const BUILD_CAP: Duration = Duration::from_secs(20 * 60);

/// Memory that one target may use, in MiB: a parser that needs more has no limit.
const MEMORY_MIB: u32 = 512;

pub(crate) fn run(options: &Options) -> Result<()> {
    stage::report(&stages(options)?)
}

pub(crate) fn stages(options: &Options) -> Result<Vec<Outcome>> {
    let dir = stage::root().join("fuzz");
    let target_dir = stage::target_dir().join("fuzz");
    let flags = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cdebug-assertions=on";
    let triple = host_triple()?;
    let build = stage::run(
        "fuzz build",
        BUILD_CAP,
        // A target triple keeps the flags away from build scripts and procedural macros.
        stage::cargo()
            .current_dir(&dir)
            .args(["build", "--release", "--locked", "--bins", "--target", &triple])
            .env("CARGO_TARGET_DIR", &target_dir)
            .env("RUSTFLAGS", flags),
    )?;
    let mut outcomes = vec![build];
    if !outcomes.iter().all(|o| o.ok) {
        return Ok(outcomes);
    }
    let mut targets: Vec<String> = fs::read_dir(dir.join("targets"))
        .context("cannot list fuzz/targets")?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .filter(|name| options.only.as_ref().is_none_or(|only| name.contains(only.as_str())))
        .collect();
    targets.sort();
    if targets.is_empty() {
        bail!("no fuzz target matches");
    }
    for target in targets {
        let scratch = target_dir.join("corpus").join(&target);
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let mut outcome = stage::run(
            &format!("fuzz {target}"),
            Duration::from_secs(options.seconds + 120),
            std::process::Command::new(target_dir.join(&triple).join("release").join(&target))
                .arg(&scratch)
                .arg(dir.join("corpus").join(&target))
                .arg(format!("-max_total_time={}", options.seconds))
                .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
                .args(["-timeout=5", "-print_final_stats=0", "-verbosity=0", "-close_fd_mask=0"])
                .current_dir(&scratch),
        )?;
        let (passed, failed) = if outcome.ok { (1, 0) } else { (0, 1) };
        outcome.counts = Counts { passed, failed, skipped: 0 };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn host_triple() -> Result<String> {
    let output = std::process::Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8(output.stdout).context("rustc -vV: not UTF-8")?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("rustc -vV names no host")
}
