//! Wires `up`, `down` and `apiserver`: what the terminal, the environment and the command line say becomes plain values.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use portcullis_local::steps::{Steps, shell_word};
use portcullis_local::{apiserver as local_apiserver, down as local_down, up as local_up};
use portcullis_runtime::{Secret, Shutdown};

use crate::{cli, output};

pub(crate) fn up(arguments: cli::Up) -> ExitCode {
    let root_is_named = arguments.state.state.is_some();
    let root = match state_root(arguments.state.state) {
        Ok(root) => root,
        Err(code) => return code,
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            output::error(&format!("cannot find this program's own file: {error}"), None);
            return ExitCode::FAILURE;
        }
    };
    // `down` may be run from another folder.
    let kubeconfig = match arguments.kubeconfig.map(std::path::absolute).transpose() {
        Ok(kubeconfig) => kubeconfig,
        Err(error) => {
            output::error(&format!("--kubeconfig: {error}"), None);
            return ExitCode::FAILURE;
        }
    };
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let options = local_up::Options {
        root,
        root_is_named,
        name: arguments.state.name,
        kubeconfig,
        port: arguments.port,
        issuer_port: arguments.issuer_port,
        values: arguments.values,
        issuer: arguments.issuer.into_flags(),
        cluster_config: arguments.cluster_config,
        keep_issuer: arguments.keep_issuer,
        fix_demo_hash: arguments.fix_demo_hash,
        trust: arguments.trust,
        use_context: arguments.use_context,
        guide: arguments.guide,
        home: env("HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
        no_bind: arguments.no_bind,
        unattended: arguments.unattended || !terminal,
        keep: arguments.keep,
        keep_state: arguments.keep_state,
        desktop: cfg!(any(target_os = "macos", windows)) || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY"),
        demo_password: env("PORTCULLIS_DEMO_PASSWORD").filter(|password| !password.is_empty()).map(Secret::new),
        program,
        called: called(),
        environment: Arc::new(env),
    };
    let data = output::Data::default();
    let code = until_stopped(async |steps, shutdown| {
        local_up::run(options, steps, &|line: &str| data.line(line), shutdown).await
    });
    data.finish(code)
}

pub(crate) fn apiserver(arguments: cli::Apiserver) -> ExitCode {
    let name = arguments.state.name_or_default();
    let root = match state_root(arguments.state.state) {
        Ok(root) => root,
        Err(code) => return code,
    };
    let options = local_apiserver::Options {
        root,
        name,
        port: arguments.secure_port,
        authentication: local_apiserver::AuthenticationOptions {
            oidc: arguments.oidc.into_arguments(),
            config_file: arguments.authentication_config,
            anonymous_auth: arguments.anonymous_auth,
        },
        keep_state: arguments.keep_state,
        audit: arguments.audit.into_options(),
        called: called(),
    };
    until_stopped(async |steps, shutdown| local_apiserver::run(options, steps, shutdown).await)
}

/// Runs a server of this machine until it ends, or until a signal ends it.
fn until_stopped(run: impl AsyncFnOnce(&Steps, &Shutdown) -> Result<(), local_up::UpError>) -> ExitCode {
    let Some(runtime) = runtime() else { return ExitCode::FAILURE };
    let steps = Steps::new(Box::new(std::io::stderr()));
    let outcome = runtime.block_on(async {
        survive_file_limits();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        tokio::spawn(async move { portcullis_runtime::shutdown::on_signals(&stop).await });
        run(&steps, &shutdown).await
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, error.hint()),
    }
}

/// Where a file may not grow any more (`ulimit -f`), a write fails as on a full disk, and the process goes on. Inside a runtime.
pub(crate) fn survive_file_limits() {
    use tokio::signal::unix::{SignalKind, signal};
    // Without the handler the signal ends the process, as it would otherwise.
    let _handled = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
}

pub(crate) fn down(arguments: &cli::Down) -> ExitCode {
    let root = match state_root(arguments.state.state.clone()) {
        Ok(root) => root,
        Err(code) => return code,
    };
    let steps = Steps::new(Box::new(std::io::stderr()));
    match local_down::run(&root, &arguments.state.name_or_default(), &steps) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, error.hint()),
    }
}

/// Hints name this program as `portcullis`, which need not be on the PATH: they are printed with what was typed.
fn failed(error: &dyn std::error::Error, hint: Option<String>) -> ExitCode {
    let hint = hint.map(|hint| hint.replace("`portcullis ", &format!("`{} ", called())));
    output::error(&portcullis_runtime::chain(error), hint.as_deref());
    ExitCode::FAILURE
}

/// How this program was called: its bare name where the PATH leads to it, else its path, which works in every folder.
fn called() -> String {
    let typed = std::env::args_os().next().unwrap_or_default();
    let path = PathBuf::from(&typed);
    let absolute = if path.components().count() > 1 { std::path::absolute(&path).unwrap_or(path) } else { path };
    if absolute.as_os_str().is_empty() { "portcullis".to_owned() } else { shell_word(&absolute.display().to_string()) }
}

/// `--state`, else `$XDG_STATE_HOME/portcullis`, else `~/.local/state/portcullis`.
fn state_root(given: Option<PathBuf>) -> Result<PathBuf, ExitCode> {
    if let Some(given) = given {
        return std::path::absolute(&given).map_err(|error| {
            output::error(&format!("--state {}: {error}", given.display()), None);
            ExitCode::FAILURE
        });
    }
    if let Some(state) = env("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(state.join("portcullis"));
    }
    env("HOME")
        .filter(|home| !home.is_empty())
        .map(|home| PathBuf::from(home).join(".local/state/portcullis"))
        .ok_or_else(|| {
            output::error("neither HOME nor XDG_STATE_HOME is set", Some("name a folder with --state"));
            ExitCode::FAILURE
        })
}

pub(crate) fn runtime() -> Option<tokio::runtime::Runtime> {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => Some(runtime),
        Err(error) => {
            output::error(&format!("cannot start threads: {error}"), None);
            None
        }
    }
}

/// An empty variable is as good as none.
fn is_set(name: &str) -> bool {
    env(name).is_some_and(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "binaries read the environment, and hand it down")]
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
