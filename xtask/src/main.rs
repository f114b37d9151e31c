//! `cargo xtask`: everything that is automated, and the only entry that CI calls.
//!
//! Each command prints the stages it runs with their time, and exits 1 when one of them failed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a build tool talks to the terminal")]

mod bench;
mod fuzz;
mod generate;
mod layers;
mod lint;
mod peers;
mod stage;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Portcullis' automation")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, build the peers, run every test, print the sum.
    Test(test::Options),
    /// Formatting, clippy with warnings as errors, documentation links.
    Lint,
    /// Check every crate's dependencies on other crates of ours against the design.
    Layers,
    /// Check file sizes, lint inheritance and forbidden texts.
    Tidy,
    /// Measure Portcullis beside its real peers and write docs/benchmarks.md.
    Bench(bench::Options),
    /// Run every fuzz target for a bounded time.
    FuzzSmoke(fuzz::Options),
    /// Build the pinned real programs (kube-apiserver, etcd, kubectl, the oracle, upstream's RBAC pieces).
    Peers,
    /// Make the checked-in data that comes from the pinned modules again; with `--check`, only compare.
    Gen(generate::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Test(options) => test::run(&options),
        Command::Lint => lint::run(),
        Command::Layers => layers::run(),
        Command::Tidy => tidy::run(),
        Command::Bench(options) => bench::run(&options),
        Command::FuzzSmoke(options) => fuzz::run(&options),
        Command::Gen(options) => generate::run(&options),
        Command::Peers => peers::build_all().map(|_| ()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
