//! `cargo xtask bench`: measures Portcullis beside its real peers in one run and writes docs/benchmarks.md.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::{peers, stage, test};

#[derive(Args)]
pub(crate) struct Options {
    /// A kubelogin binary to measure beside our plugin.
    #[arg(long)]
    kubelogin: Option<String>,
    /// A Dex binary to measure beside our provider.
    #[arg(long)]
    dex: Option<String>,
    /// Measure only the dev API server beside kube-apiserver; the other rows stay as they are.
    #[arg(long, conflicts_with = "store_only")]
    apiserver_only: bool,
    /// Measure only the provider on its stores beside Dex; the other rows stay as they are.
    #[arg(long)]
    store_only: bool,
}

const CAP: Duration = Duration::from_secs(40 * 60);

pub(crate) fn run(options: &Options) -> Result<()> {
    if !options.apiserver_only {
        // The database servers are among them.
        test::install_packages()?;
    }
    let peers = peers::build_all()?;
    let mut outcomes = Vec::new();
    let part = options.apiserver_only || options.store_only;
    let packages: &[&str] = if part { &["portcullis"] } else { &["portcullis", "kubectl-oidc_login"] };
    for package in packages {
        outcomes.push(stage::run(
            &format!("release {package}"),
            CAP,
            stage::cargo().args(["build", "--release", "--locked", "-p", package]),
        )?);
    }
    let mut bench = stage::cargo();
    bench.args(["run", "--release", "--locked", "-p", "portcullis-benches", "--"]);
    bench.env("PORTCULLIS_PEERS", peers).env("PORTCULLIS_BIN", stage::target_dir().join("release"));
    bench.arg("--out").arg(stage::root().join("docs/benchmarks.md"));
    for (flag, only) in [("--apiserver-only", options.apiserver_only), ("--store-only", options.store_only)] {
        if only {
            bench.arg(flag);
        }
    }
    for (flag, path) in [("--kubelogin", &options.kubelogin), ("--dex", &options.dex)] {
        if let Some(path) = path {
            bench.arg(flag).arg(path);
        }
    }
    outcomes.push(stage::run("benchmarks", CAP, &mut bench)?);
    let failed: Vec<&str> = outcomes.iter().filter(|o| !o.ok).map(|o| o.name.as_str()).collect();
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
