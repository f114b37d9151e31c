//! `up`: the whole guide in one command.
//!
//! ```text
//! state -> inputs -> ports -> authority -> provider -> api server -> kubeconfig -> binding -> sign-in -> table
//! ```
//! Everything that can be wrong with what the user gave is found before anything is started. Every listener is on
//! loopback. What is kept (authority, provider's store, kubeconfig) survives any end of the process; leaves and ports are
//! made anew, and so are the dev API server's objects without `--keep-state`.

pub(crate) mod api_server;
mod changes;
mod claim;
mod control;
mod error;
mod external;
mod guide;
mod inputs;
mod internal;
mod listeners;
mod live;
pub(crate) mod outside;
pub(crate) mod parts;
mod pods;
mod provider;
mod run;
mod second;
mod sign_in;
mod way_on;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use portcullis_runtime::telemetry::{CrateLog, LogConfig, Logs, init_logs};
use portcullis_runtime::{LogRing, Secret, Shutdown};
use url::Url;

pub use control::ControlError;
pub use error::UpError;
pub use external::{IssuerError, IssuerFlags};
pub use inputs::{Environment, InputError};
pub use pods::PodsError;
pub use sign_in::{END_WITH_STDIN, SignInError};

use self::inputs::{Asked, Inputs, Sources};
use self::run::{Run, Servers};
use crate::state::{StateDir, StateError, StateFile};
use crate::steps::Steps;

/// The guide's password, which is public.
pub(crate) const DEMO_PASSWORD: &str = "ChangeMe!234";
/// The binding that `up` makes.
pub(crate) const BINDING: &str = "portcullis-up-demo";

/// What the command line, the terminal and the environment say.
pub struct Options {
    /// The folder of all names.
    pub root: PathBuf,
    /// Whether it is another than the plugin finds by itself.
    pub root_is_named: bool,
    /// The name, where it is given: the context is `kind-<name>`.
    pub name: Option<String>,
    /// A kubeconfig that gets our entries too.
    pub kubeconfig: Option<PathBuf>,
    /// The API server's port, where it is given; 0 takes a free one.
    pub port: Option<u16>,
    /// The provider's port, where it is given; 0 takes a free one.
    pub issuer_port: Option<u16>,
    /// Chart values with `dex.config`.
    pub values: Option<PathBuf>,
    /// The user's own provider, which is trusted instead of ours.
    pub issuer: Option<IssuerFlags>,
    /// A kind cluster configuration.
    pub cluster_config: Option<PathBuf>,
    /// Refuse an issuer that is not the local one.
    pub keep_issuer: bool,
    /// Replace the guide's published hash by one that fits its password.
    pub fix_demo_hash: bool,
    /// Add the authority to the system's trust store.
    pub trust: bool,
    /// Make our context current in `kubeconfig`.
    pub use_context: bool,
    /// Leave the guide's steps to the user: the provider is behind a port-forward, and nobody is signed in.
    pub guide: bool,
    /// The user's home, for the guide's kubeconfig.
    pub home: Option<PathBuf>,
    /// Leave the demo user without a role.
    pub no_bind: bool,
    /// Sign the demo user in without a person.
    pub unattended: bool,
    /// Keep running after an unattended sign-in.
    pub keep: bool,
    /// Keep the API server's objects for the next start.
    pub keep_state: bool,
    /// Whether there is a desktop to open a browser on.
    pub desktop: bool,
    /// The demo user's password where it is not the guide's.
    pub demo_password: Option<Secret>,
    /// This program's own file: the sign-in plugin is a link to it.
    pub program: PathBuf,
    /// How this program was called, for a shell.
    pub called: String,
    /// The environment, for the config keys that name variables of it.
    pub environment: Environment,
}

/// Runs `up` until its end. `print` gets the table's lines and nothing else. Where this name runs already, what the files say
/// is applied to that one, and nothing is started.
///
/// # Errors
/// See [`UpError`]; whatever was started has stopped before it returns.
pub async fn run(
    mut options: Options,
    steps: &Steps,
    print: &(dyn Fn(&str) + Sync),
    shutdown: &Shutdown,
) -> Result<(), UpError> {
    if let Some(flags) = &options.issuer {
        return Box::pin(external::run(&options, flags, steps, shutdown)).await;
    }
    let seen = second::record_environment(&mut options);
    let sources = Sources::read(&options)?;
    // Whether these are words of a first `up` is not known yet.
    let quiet = Steps::silent();
    let asked = Asked::of(&options);
    let read = Inputs::of(&sources, &asked, &quiet);
    let say = || quiet.words().iter().for_each(|word| steps.word(word));
    let inputs = match read {
        Ok(inputs) => inputs,
        Err(error) => {
            say();
            return Err(error.into());
        }
    };
    let state = StateDir::new(&options.root, inputs.name())?;
    let request = second::request(&options, &sources, seen.names());
    let ask = async || second::ask(&state, &request, steps).await;
    let start = async |file: &Mutex<StateFile>| {
        let logs = log_to(&state, inputs.logs())?;
        steps.done("state", &state.dir().display().to_string());
        let (servers_stop, mut servers) = (Shutdown::new(), Servers::default());
        let run = Run {
            options: &options,
            state: &state,
            steps,
            print,
            stop: shutdown,
            servers_stop: &servers_stop,
            logs: &logs,
        };
        let outcome = Box::pin(run.start((sources, asked, inputs), file, &mut servers)).await;
        servers_stop.trigger();
        servers.stopped().await;
        outcome
    };
    Box::pin(claim::alone((&options, &state, steps), ask, say, start)).await
}

/// The servers' logs go into a file of the state folder, made anew at each start: the terminal is for the steps.
///
/// What each part logs is kept beside it, for `kubectl logs`.
pub(crate) fn log_to(state: &StateDir, config: LogConfig) -> Result<PartLogs, UpError> {
    let file = state.log_file()?;
    let mut logs = PartLogs::default();
    // A process that has logs already, as a test may, keeps them.
    logs.written = init_logs(LogConfig { rings: logs.by_crate(), ..config }, file).ok();
    Ok(logs)
}

/// What the parts of this process log.
#[derive(Default)]
pub(crate) struct PartLogs {
    pub(crate) provider: LogRing,
    pub(crate) api_server: LogRing,
    /// The log file's.
    written: Option<Logs>,
}

impl PartLogs {
    fn by_crate(&self) -> Vec<CrateLog> {
        vec![
            CrateLog { targets: &["portcullis_provider", "portcullis_storage"], ring: self.provider.clone() },
            CrateLog {
                targets: &["portcullis_apiserver", "portcullis_authn", "portcullis_rbac"],
                ring: self.api_server.clone(),
            },
        ]
    }
}

fn log_path(state: &StateDir) -> PathBuf {
    state.path("up.log")
}

/// The plugin as kubectl will run it; what it would find by itself is spelled out, so that the kubeconfig works anywhere.
fn plugin_arguments(
    issuer: &str,
    client: &inputs::PluginClient,
    ca: &Path,
    state: &StateDir,
    ports: &[u16],
) -> Vec<String> {
    let mut arguments =
        vec!["get-token".to_owned(), format!("--oidc-issuer-url={issuer}"), format!("--oidc-client-id={}", client.id)];
    if let Some(secret) = &client.secret {
        arguments.push(format!("--oidc-client-secret={}", secret.expose()));
    }
    // `profile` carries name and preferred_username, which the API server may be told to take the user's name from.
    arguments
        .extend(["email", "groups", "profile", "offline_access"].map(|scope| format!("--oidc-extra-scope={scope}")));
    arguments.push(format!("--certificate-authority={}", ca.display()));
    arguments.push(format!("--token-cache-dir={}", state.path("cache/oidc-login").display()));
    arguments.extend(ports.iter().map(|port| format!("--listen-address=127.0.0.1:{port}")));
    arguments
}

/// A token of an earlier `up` may be of another issuer port or key: the guide's own trap.
fn clear_cache(state: &StateDir) -> Result<(), UpError> {
    let path = state.path("cache/oidc-login");
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(StateError::Io { action: "remove", path, source }.into())
        }
        _ => Ok(()),
    }
}

pub(crate) fn name_flag(name: &str) -> String {
    if name == "dev" { String::new() } else { format!(" --name {name}") }
}

/// Whether a URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
