//! The big binary: parse, wire, run. Every role lives in a crate of its own.
//!
//! It answers to other names too: `kubectl-oidc_login` and `kubelogin` are the sign-in plugin, `dex` is the provider.

mod check;
mod cli;
mod output;
mod serve;
mod store;
mod up;

use std::ffi::OsString;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;

use portcullis_local::up::END_WITH_STDIN;
use portcullis_login::{Env, Io};
use portcullis_runtime::Shutdown;

use crate::cli::{Cli, Command};

/// Exit code for a wrong use of the command line.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let program =
        arguments.first().map(Path::new).and_then(Path::file_stem).and_then(|stem| stem.to_str()).unwrap_or_default();
    match program {
        "kubectl-oidc_login" | "kubectl-oidc-login" | "kubelogin" => login(arguments.into_iter().skip(1).collect()),
        "dex" => serve::as_dex(arguments.into_iter().skip(1).collect()),
        _ => portcullis(arguments),
    }
}

fn portcullis(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::read(arguments) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    if let Some((name, instead)) = cli.command.not_built() {
        return not_built(name, instead);
    }
    match cli.command {
        Command::Up(up) => up::up(*up),
        Command::Down(down) => up::down(&down),
        Command::Apiserver(apiserver) => up::apiserver(*apiserver),
        Command::Serve(serve) => serve::serve_file(&serve),
        Command::Check(check) => check::run(*check),
        Command::Store(command) => store::run(command),
        Command::Login(passed) => match cli::login_not_built(&passed.arguments) {
            Some((name, instead)) => not_built(&format!("login {name}"), instead),
            None => login(passed.arguments),
        },
        // `not_built` has answered for all others.
        _ => ExitCode::from(USAGE),
    }
}

fn not_built(name: &str, instead: &str) -> ExitCode {
    output::error(&format!("`portcullis {name}` is not built yet"), Some(&format!("until then: {instead}")));
    ExitCode::from(USAGE)
}

/// The plugin speaks for itself: kubelogin's streams, texts and exit codes.
fn login(arguments: Vec<OsString>) -> ExitCode {
    let env = Env::of_process(std::env::vars_os(), env!("CARGO_PKG_VERSION"));
    if up::env(END_WITH_STDIN).is_some() {
        end_with_stdin(env.shutdown.clone());
    }
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let io = Io { stdout: &mut out, stderr: &mut err, stdin: Box::new(BufReader::new(std::io::stdin())) };
    portcullis_login::run(arguments, &env, io).into()
}

/// `up` holds the other end of the plugin's standard input: when `up` is gone, however it ended, the plugin that waits for a
/// browser ends too, and its port is free.
fn end_with_stdin(shutdown: Shutdown) {
    std::thread::spawn(move || {
        let _ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        shutdown.trigger();
    });
}
