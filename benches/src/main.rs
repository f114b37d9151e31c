//! Portcullis beside its real peers, in one run: the figures of docs/benchmarks.md.
//!
//! Compared is CPU and memory rather than rate, because client and server share the machine. Nothing here passes or fails
//! a build: a missed budget is printed as missed.
#![expect(clippy::print_stdout, reason = "a program that reports figures")]

mod apiserver;
mod authenticator;
mod chain;
mod client;
mod load;
mod million;
mod plugin;
mod process;
mod provider;
mod quota;
mod report;
mod site;
mod store;
mod traffic;
mod verdicts;

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
    /// Only the authenticator beside Kubernetes' own package; other rows of the table stay.
    #[arg(long, conflicts_with_all = ["apiserver_only", "store_only"])]
    authenticator_only: bool,
    /// Only the dev API server beside kube-apiserver; other rows of the table stay.
    #[arg(long, conflicts_with = "store_only")]
    apiserver_only: bool,
    /// Only the provider on its stores beside Dex; other rows of the table stay.
    #[arg(long)]
    store_only: bool,
    /// Only this part of what is measured on the stores.
    #[arg(long, requires = "store_only")]
    part: Option<store::Part>,
    /// How long each load lasts, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Code flows of each of the 64 clients.
    #[arg(long, default_value_t = 16)]
    flows: usize,
    /// Refresh token families in the large store. It has a tenth as many sign-ins.
    #[arg(long, default_value_t = 1_000_000)]
    families: usize,
    /// A Dex binary.
    #[arg(long)]
    dex: Option<PathBuf>,
}

impl Options {
    /// The part that is measured, when it is not all.
    fn only(&self) -> Option<&'static str> {
        let parts = [
            (self.authenticator_only, "--authenticator-only"),
            (self.apiserver_only, "--apiserver-only"),
            (self.store_only, "--store-only"),
        ];
        parts.into_iter().find_map(|(only, flag)| only.then_some(flag))
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut report = Report::default();
    let all = options.only().is_none();
    if all {
        plugin::measure(&mut report, &options)?;
    }
    if all || options.authenticator_only {
        authenticator::measure(&mut report, &options)?;
    }
    if all {
        provider::measure(&mut report, &options)?;
    }
    if all || options.store_only {
        store::measure(&mut report, &options)?;
    }
    if all || options.apiserver_only {
        apiserver::measure(&mut report, &options)?;
    }
    if all {
        chain::measure(&mut report, &options)?;
    }
    let document = match options.only() {
        None => report.markdown(&machine()),
        // Rows that were not measured stay.
        Some(part) => report.merged(part, &machine(), &fs::read_to_string(&options.out).unwrap_or_default()),
    };
    fs::write(&options.out, document).with_context(|| format!("cannot write {}", options.out.display()))?;
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
