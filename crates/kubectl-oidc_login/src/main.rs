//! The sign-in plugin alone, for laptops: `kubectl oidc-login …`, with kubelogin's commands, streams and exit codes.
//!
//! Everything is in `portcullis-login`; this program only hands it the process.

use std::io::{BufReader, stderr, stdin, stdout};
use std::process::ExitCode;

use portcullis_login::{Env, Io, run};

fn main() -> ExitCode {
    let env = Env::of_process(std::env::vars_os(), env!("CARGO_PKG_VERSION"));
    let (mut out, mut err) = (stdout(), stderr());
    let io = Io { stdout: &mut out, stderr: &mut err, stdin: Box::new(BufReader::new(stdin())) };
    run(std::env::args_os().skip(1).collect(), &env, io).into()
}
