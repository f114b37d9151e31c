//! `check`: its arguments, and how they, the streams and the environment become plain values.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use portcullis_local::check::{self, ConfigFrom, Format, Options, Report, TokenFrom, printable, stream};
use portcullis_runtime::http_client::ProxyFromEnv;
use portcullis_runtime::{Clock, Timestamp, chain};

use crate::cli::{Oidc, OutputForm};
use crate::{USAGE, output, up};

// Long lines, which are broken where the terminal ends.
const AFTER_HELP: &str = "\
Two things are needed: a token (--token-file or --exec), and whom the cluster trusts (--oidc-* flags as kube-apiserver has them, or one \
file). The keys come from --jwks, or the issuer is asked.

  portcullis check --token-file token --config /etc/kubernetes/manifests/kube-apiserver.yaml
  portcullis check --exec ~/.kube/config --config authentication.yaml --jwks keys.json -o json

Exit code 0 when the token is accepted, 1 when it is not or something cannot be read, 2 for a wrong command line. The token is no \
argument, because others on the machine can read those, and it is never printed.

A line of --stream has the members id, config, initial, jwks, issuerJwks, token, algs and disallowed, as in peers/oracle/README.md; the \
answers have id, ok, user, err, decodeErr, jwksErr, initErr, anonymous and badcase.";

/// What `check` takes.
#[derive(Debug, Args)]
#[command(args_override_self = true, after_long_help = AFTER_HELP)]
pub(crate) struct Check {
    /// File with the token, an ExecCredential, or the answer of a token endpoint; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Get the token from the exec plugin of a user in a kubeconfig [default user: the current context's]
    #[arg(long, value_name = "KUBECONFIG[:USER]", conflicts_with = "token_file")]
    exec: Option<String>,
    /// Any of the files below; which one is found out
    #[arg(long, value_name = "FILE", group = "trusted")]
    config: Option<PathBuf>,
    /// kube-apiserver's AuthenticationConfiguration
    #[arg(long, value_name = "FILE", group = "trusted")]
    authentication_config: Option<PathBuf>,
    /// kubeadm's ClusterConfiguration, or the manifest kube-apiserver.yaml that kubeadm makes
    #[arg(long, value_name = "FILE", group = "trusted")]
    kubeadm_config: Option<PathBuf>,
    /// kind's cluster config, with kubeadmConfigPatches
    #[arg(long, value_name = "FILE", group = "trusted")]
    kind_config: Option<PathBuf>,
    /// The config.yaml of k3s or RKE2, with kube-apiserver-arg
    #[arg(long, value_name = "FILE", group = "trusted")]
    k3s_config: Option<PathBuf>,
    /// The issuer's key set [default: the issuer is asked]
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// Authorities for reaching the issuer where the configuration names none, PEM; also what oidc-ca-file holds where that is a file
    /// of the cluster's machine
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The time to judge at, as in 2026-11-28T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    now: Option<Timestamp>,
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "text")]
    output: OutputForm,
    /// Answer cases from standard input instead, a line of JSON each, as peers/oracle does with kube-apiserver's own package
    #[arg(
        long,
        conflicts_with_all = ["token_file", "exec", "trusted", "jwks", "ca", "output"]
    )]
    stream: bool,
    #[command(flatten)]
    oidc: Oidc,
}

impl Check {
    /// Where the token comes from.
    fn token(&self) -> Option<TokenFrom> {
        match (&self.token_file, &self.exec) {
            (Some(path), _) if path.as_os_str() == "-" => Some(TokenFrom::Stdin),
            (Some(path), _) => Some(TokenFrom::File(path.clone())),
            (None, Some(exec)) => Some(TokenFrom::exec(exec)),
            (None, None) => None,
        }
    }

    /// What says whom the cluster trusts; the error is a wrong use of the command line.
    fn trusted(&mut self) -> Result<ConfigFrom, &'static str> {
        let flags = std::mem::take(&mut self.oidc).into_arguments();
        let file = [
            (self.config.take(), None),
            (self.authentication_config.take(), Some(Format::AuthenticationConfiguration)),
            (self.kubeadm_config.take(), Some(Format::Kubeadm)),
            (self.kind_config.take(), Some(Format::Kind)),
            (self.k3s_config.take(), Some(Format::K3s)),
        ];
        let file = file.into_iter().find_map(|(path, format)| Some(ConfigFrom::File(path?, format)));
        match (file, flags.is_empty()) {
            (Some(_), false) => Err("a configuration file and --oidc-* flags are mutually exclusive"),
            (None, true) => Err("nothing says whom the cluster trusts"),
            (Some(file), true) => Ok(file),
            (None, false) => Ok(ConfigFrom::Flags(flags)),
        }
    }
}

fn time(text: &str) -> Result<Timestamp, &'static str> {
    Timestamp::parse_rfc3339(text).ok_or("write it as 2026-11-28T12:00:00Z")
}

pub(crate) fn run(mut arguments: Check) -> ExitCode {
    let clock = arguments.now.map_or_else(Clock::system, |now| {
        let (clock, hands) = Clock::mock(0);
        hands.set(now);
        clock
    });
    if arguments.stream {
        return answer_stream(&clock);
    }
    let Some(token) = arguments.token() else {
        let hint = "give --token-file FILE, - for standard input, or --exec KUBECONFIG";
        return misused("nothing says where the token is", hint);
    };
    let config = match arguments.trusted() {
        Ok(config) => config,
        Err(text) => {
            return misused(text, "give either --oidc-issuer-url and --oidc-client-id, or one file with --config");
        }
    };
    let options =
        Options { token, config, jwks: arguments.jwks, ca: arguments.ca, clock, proxy: ProxyFromEnv::read(up::env) };
    let Some(runtime) = up::runtime() else { return ExitCode::FAILURE };
    match runtime.block_on(check::run(&options, io::stdin().lock())) {
        Ok(report) => tell(&report, arguments.output),
        Err(error) => {
            output::error(&printable(&chain(&error)), error.hint().as_deref());
            ExitCode::FAILURE
        }
    }
}

fn tell(report: &Report, form: OutputForm) -> ExitCode {
    let written = output::data(&match form {
        OutputForm::Text => report.text(),
        OutputForm::Json => serde_json::to_string_pretty(report).unwrap_or_default(),
    });
    for warning in &report.warnings {
        output::warning(&printable(warning));
    }
    match report.error() {
        None => written,
        Some(error) => {
            output::error(&error, report.hint.as_deref().map(printable).as_deref());
            ExitCode::FAILURE
        }
    }
}

fn misused(text: &str, hint: &str) -> ExitCode {
    output::error(text, Some(hint));
    ExitCode::from(USAGE)
}

fn answer_stream(clock: &Clock) -> ExitCode {
    let Some(runtime) = up::runtime() else { return ExitCode::FAILURE };
    match runtime.block_on(stream::run(io::stdin().lock(), io::stdout().lock(), clock)) {
        Ok(counts) if counts.bad > 0 => {
            let text = format!("{} of {} lines are no cases", counts.bad, counts.lines);
            output::error(&text, Some("their answers say why; `portcullis check --help` says what a line is"));
            ExitCode::FAILURE
        }
        // Whoever reads no further, as `head` does, has got what they wanted.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            output::error(&format!("the cases cannot be read or answered any more: {error}"), None);
            ExitCode::FAILURE
        }
        Ok(_) | Err(_) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(given: &[&str]) -> Result<Check, clap::Error> {
        let words: Vec<OsString> = ["portcullis", "check"].iter().chain(given).map(OsString::from).collect();
        let Command::Check(check) = Cli::read(words)?.command else { panic!("another command") };
        Ok(*check)
    }

    #[test]
    fn one_token_and_one_configuration_are_wanted() {
        for given in [
            &["--token-file=a", "--exec=b"][..],
            &["--config=a", "--kind-config=b"],
            &["--stream", "--token-file=a"],
            &["--stream", "--config=a"],
            &["--stream", "-o", "json"],
            &["--now=yesterday"],
            &["token"],
        ] {
            assert!(parse(given).is_err(), "{given:?}");
        }
        let mut check = parse(&["--config=a", "--oidc-client-id=b"]).unwrap();
        assert!(check.token().is_none() && check.trusted().is_err());
        assert!(parse(&["--token-file=a"]).unwrap().trusted().is_err());
    }

    #[test]
    fn what_is_given_reaches_the_check() {
        let mut check = parse(&["--token-file=-", "--oidc-issuer-url=https://a", "--oidc-client-id=b"]).unwrap();
        assert_eq!(check.token(), Some(TokenFrom::Stdin));
        let flags = ["--oidc-issuer-url=https://a", "--oidc-client-id=b"].map(str::to_owned).to_vec();
        assert_eq!(check.trusted(), Ok(ConfigFrom::Flags(flags)));
        for (flag, format) in [
            ("--config=f", None),
            ("--authentication-config=f", Some(Format::AuthenticationConfiguration)),
            ("--kubeadm-config=f", Some(Format::Kubeadm)),
            ("--kind-config=f", Some(Format::Kind)),
            ("--k3s-config=f", Some(Format::K3s)),
        ] {
            let mut check = parse(&[flag, "--exec=k:u", "--now=2026-11-28T12:00:00Z"]).unwrap();
            assert_eq!(check.trusted(), Ok(ConfigFrom::File("f".into(), format)));
            let exec = TokenFrom::Exec { kubeconfig: "k".into(), user: Some("u".to_owned()) };
            assert_eq!(
                (check.token(), check.now.map(Timestamp::rfc3339)),
                (Some(exec), Some("2026-11-28T12:00:00Z".into()))
            );
        }
    }
}
