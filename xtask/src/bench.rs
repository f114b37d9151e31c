//! `cargo xtask bench`: measures Portcullis beside its real peers in one run and writes docs/benchmarks.md.

use std::process::Command;
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
    /// Measure only the authenticator beside Kubernetes' own package; the other rows stay as they are.
    #[arg(long, conflicts_with_all = ["apiserver_only", "store_only"])]
    authenticator_only: bool,
    /// Measure only the dev API server beside kube-apiserver; the other rows stay as they are.
    #[arg(long, conflicts_with = "store_only")]
    apiserver_only: bool,
    /// Measure only the provider on its stores beside Dex; the other rows stay as they are.
    #[arg(long)]
    store_only: bool,
    /// With `--store-only`: only this part (postgres, sqlite, replicas, large).
    #[arg(long, requires = "store_only")]
    part: Option<String>,
}

const CAP: Duration = Duration::from_secs(40 * 60);

pub(crate) fn run(options: &Options) -> Result<()> {
    if !options.apiserver_only && !options.authenticator_only {
        // The database servers are among them.
        test::install_packages()?;
    }
    let peers = peers::build_all()?;
    let mut outcomes = Vec::new();
    let mut packages: Vec<&str> = if options.authenticator_only { Vec::new() } else { vec!["portcullis"] };
    if !options.authenticator_only && !options.apiserver_only && !options.store_only {
        packages.push("kubectl-oidc_login");
    }
    // All of its programs, so it is built before one of them runs.
    packages.push("portcullis-benches");
    for package in packages {
        outcomes.push(stage::run(
            &format!("release {package}"),
            CAP,
            stage::cargo().args(["build", "--release", "--locked", "-p", package]),
        )?);
    }
    let release = stage::target_dir().join("release");
    let mut bench = Command::new(release.join("portcullis-benches"));
    bench.env("PORTCULLIS_PEERS", peers).env("PORTCULLIS_BIN", release).current_dir(stage::root());
    bench.arg("--out").arg(stage::root().join("docs/benchmarks.md"));
    for (flag, only) in [
        ("--authenticator-only", options.authenticator_only),
        ("--apiserver-only", options.apiserver_only),
        ("--store-only", options.store_only),
    ] {
        if only {
            bench.arg(flag);
        }
    }
    for (flag, value) in [("--kubelogin", &options.kubelogin), ("--dex", &options.dex), ("--part", &options.part)] {
        if let Some(value) = value {
            bench.arg(flag).arg(value);
        }
    }
    outcomes.push(stage::run("benchmarks", CAP, &mut bench)?);
    let failed: Vec<&str> = outcomes.iter().filter(|o| !o.ok).map(|o| o.name.as_str()).collect();
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
