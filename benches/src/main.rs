//! Portcullis beside its real peers, in one run: the figures of docs/benchmarks.md.
//!
//! Compared is CPU and memory rather than rate, because client and server share the machine. Nothing here passes or fails
//! a build: a missed budget is printed as missed.
#![expect(clippy::print_stdout, reason = "a program that reports figures")]

mod apiserver;
mod authenticator;
mod chain;
mod load;
mod plugin;
mod process;
mod provider;
mod report;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use crate::report::Report;

#[derive(Parser)]
struct Options {
    /// Where the table goes.
    #[arg(long)]
    out: PathBuf,
    /// The released programs.
    #[arg(long, env = "PORTCULLIS_BIN")]
    bin: PathBuf,
    /// The real kube-apiserver, etcd, kubectl and oracle.
    #[arg(long, env = "PORTCULLIS_PEERS")]
    peers: PathBuf,
    /// A kubelogin binary.
    #[arg(long)]
    kubelogin: Option<PathBuf>,
    /// Only the dev API server beside kube-apiserver; other rows of the table stay.
    #[arg(long)]
    apiserver_only: bool,
    /// A Dex binary.
    #[arg(long)]
    dex: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut report = Report::default();
    if !options.apiserver_only {
        plugin::measure(&mut report, &options)?;
        authenticator::measure(&mut report, &options)?;
        provider::measure(&mut report, &options)?;
    }
    apiserver::measure(&mut report, &options)?;
    if !options.apiserver_only {
        chain::measure(&mut report, &options)?;
    }
    // Rows that were not measured stay.
    let before =
        if options.apiserver_only { fs::read_to_string(&options.out).unwrap_or_default() } else { String::new() };
    fs::write(&options.out, report.markdown(&machine(), &before))
        .with_context(|| format!("cannot write {}", options.out.display()))?;
    say(&format!("written to {}", options.out.display()));
    Ok(())
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name").and_then(|rest| rest.split_once(": ")))
        .map_or("an unknown processor", |(_, name)| name)
        .to_owned();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} cores of {name}")
}

pub(crate) fn say(text: &str) {
    println!("{text}");
}
