//! The whole chain: `up --unattended`, cold, to the table.

use std::process::Command;

use anyhow::{Context, Result};

use crate::Options;
use crate::process;
use crate::report::{Peer, Report};

const ROUNDS: usize = 5;

pub(crate) fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let mut times = Vec::new();
    let mut peak = 0;
    for _ in 0..ROUNDS {
        let home = tempfile::tempdir()?;
        let mut command = Command::new(options.bin.join("portcullis"));
        command
            .args(["up", "--unattended", "--port", "0", "--issuer-port", "0"])
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", "/usr/bin:/bin");
        let (time, memory, table) = process::run_and_watch(&mut command)?;
        table.contains("Running").then_some(()).context("no table")?;
        times.push(time);
        peak = peak.max(memory);
    }
    times.sort();
    report.at_most("up --unattended, cold, to the table", "s", process::median(&times).as_secs_f64(), 3.0, Peer::None);
    report.at_most(
        "up --unattended, peak memory, the plugin's included",
        "MB",
        peak as f64 * 1024.0 / 1e6,
        80.0,
        Peer::None,
    );
    Ok(())
}
