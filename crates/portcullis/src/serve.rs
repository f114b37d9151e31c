//! Wires `serve FILE` and the program name `dex`: file, flags, logs, signals.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portcullis_provider::config::{Config, ConfigErrors, Document, Field, RawConfig};
use portcullis_provider::serve;
use portcullis_runtime::telemetry::{Level, LogConfig, LogFormat, init_logs};
use portcullis_runtime::{Clock, Rng, Shutdown};

use crate::{USAGE, cli, output, up};

/// The largest config file.
const MAX_FILE: u64 = 1024 * 1024;

/// Dex's own command line.
#[derive(Debug, Parser)]
#[command(name = "dex", arg_required_else_help = true, disable_help_subcommand = true)]
struct Dex {
    #[command(subcommand)]
    command: DexCommand,
}

#[derive(Debug, Subcommand)]
enum DexCommand {
    /// Launch Dex
    Serve(cli::Serve),
    /// Print the version and exit
    Version,
}

/// The program was called `dex`.
pub(crate) fn as_dex(arguments: Vec<OsString>) -> ExitCode {
    match Dex::try_parse_from(std::iter::once("dex".into()).chain(arguments)) {
        Ok(Dex { command: DexCommand::Serve(arguments) }) => run(&arguments, ExitCode::from(USAGE)),
        Ok(Dex { command: DexCommand::Version }) => output::data(&format!(
            "Dex Version: portcullis {}\nGo Version: none\nGo OS/ARCH: {} {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        )),
        Err(error) => output::usage(&error),
    }
}

/// `portcullis serve FILE`.
pub(crate) fn serve_file(arguments: &cli::Serve) -> ExitCode {
    run(arguments, ExitCode::FAILURE)
}

fn run(arguments: &cli::Serve, failed: ExitCode) -> ExitCode {
    let text = match read(&arguments.file) {
        Ok(text) => text,
        Err(reason) => {
            output::error(&format!("failed to read config file {}: {reason}", arguments.file.display()), None);
            return failed;
        }
    };
    let config = match parse(&text, arguments) {
        Ok(config) => config,
        Err(errors) => {
            let hints = errors.hints().join("; ");
            output::error(&errors.to_string(), (!hints.is_empty()).then_some(&*hints));
            return failed;
        }
    };
    if arguments.check {
        for notice in &config.notices {
            output::warning(&notice.to_string());
        }
        return output::data(&format!("{}: no mistakes", arguments.file.display()));
    }
    let logs = LogConfig {
        level: Level::from_slog(config.logger.level),
        format: if config.logger.json { LogFormat::Json } else { LogFormat::Text },
        exclude_fields: config.logger.exclude_fields.clone(),
        ..LogConfig::default()
    };
    if let Err(error) = init_logs(logs, std::io::stderr()) {
        output::error(&error.to_string(), None);
        return failed;
    }
    let Some(runtime) = up::runtime() else { return failed };
    let outcome = runtime.block_on(async {
        up::survive_file_limits();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        tokio::spawn(async move { portcullis_runtime::shutdown::on_signals(&stop).await });
        serve(config, Clock::system(), Rng::system(), shutdown).await
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&portcullis_runtime::chain(&error), error.hint());
            failed
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it is larger than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|_not_utf8| "it is not UTF-8 text".to_owned())
}

/// Reads and checks a config file for a command that does not serve. The error comes with its hint.
pub(crate) fn load(path: &Path) -> Result<Config, (String, Option<String>)> {
    let text =
        read(path).map_err(|reason| (format!("failed to read config file {}: {reason}", path.display()), None))?;
    let config = raw(&text, path).and_then(|raw| raw.validate(&up::env));
    config.map_err(|errors| {
        let hints = errors.hints().join("; ");
        (errors.to_string(), (!hints.is_empty()).then_some(hints))
    })
}

/// Reads the file, with a word about each key that is not known.
fn raw(text: &str, path: &Path) -> Result<RawConfig, ConfigErrors> {
    let document = Document::parse(text, &path.display().to_string())?;
    let (raw, warnings) = RawConfig::read(&document.root());
    for warning in document.warnings().iter().chain(&warnings) {
        let hint = warning.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        output::warning(&format!("{warning}{hint}"));
    }
    Ok(raw)
}

/// Reads the file; flags win over what it says, as in Dex.
fn parse(text: &str, arguments: &cli::Serve) -> Result<Config, ConfigErrors> {
    let mut raw = raw(text, &arguments.file)?;
    for (given, field) in [
        (&arguments.web_http_addr, &mut raw.web.http),
        (&arguments.web_https_addr, &mut raw.web.https),
        (&arguments.telemetry_addr, &mut raw.telemetry.http),
    ] {
        if let Some(address) = given.as_ref().filter(|address| !address.is_empty()) {
            *field = Some(Field::given(address.clone()));
        }
    }
    if arguments.grpc_addr.as_ref().is_some_and(|address| !address.is_empty()) {
        output::warning("--grpc-addr: gRPC is not served yet");
    }
    raw.validate(&up::env)
}
