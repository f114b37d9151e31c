//! `up`: the whole guide in one command.
//!
//! ```text
//! state -> inputs -> ports -> authority -> provider -> api server -> kubeconfig -> binding -> sign-in -> table
//! ```
//! Everything that can be wrong with what the user gave is found before anything is started. Every listener is on
//! loopback. What is kept (authority, provider's store, kubeconfig) survives any end of the process; leaves, ports and the
//! dev API server's objects are made anew.

pub(crate) mod api_server;
mod error;
mod inputs;
mod listeners;
mod pods;
mod provider;
mod sign_in;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use portcullis_authn::Network;
use portcullis_runtime::http_client::EgressPolicy;
use portcullis_runtime::telemetry::{LogConfig, init_logs};
use portcullis_runtime::{Clock, Rng, Secret, Shutdown};
use url::Url;

pub use error::UpError;
pub use inputs::InputError;
pub use pods::PodsError;
pub use sign_in::SignInError;

use self::inputs::Inputs;
use self::listeners::Listeners;
use self::sign_in::{Plugin, Who};
use crate::ca::{Authority, Origin, Purpose};
use crate::form::Credentials;
use crate::kubeconfig::{self, Entries, PluginEntry};
use crate::state::{self, StateDir, StateFile};
use crate::steps::Steps;
use crate::{plugin_link, system_trust, trust_folder};

/// The guide's password, which is public.
pub(crate) const DEMO_PASSWORD: &str = "ChangeMe!234";
/// The binding that `up` makes.
pub(crate) const BINDING: &str = "portcullis-up-demo";

/// What the command line, the terminal and the environment say.
pub struct Options {
    /// The folder of all names.
    pub root: PathBuf,
    /// The name; the context is `kind-<name>`.
    pub name: String,
    /// A kubeconfig that gets our entries too.
    pub kubeconfig: Option<PathBuf>,
    /// The API server's port; 0 takes a free one.
    pub port: u16,
    /// The provider's port; 0 takes a free one.
    pub issuer_port: u16,
    /// Chart values with `dex.config`.
    pub values: Option<PathBuf>,
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
    /// Leave the demo user without a role.
    pub no_bind: bool,
    /// Sign the demo user in without a person.
    pub unattended: bool,
    /// Keep running after an unattended sign-in.
    pub keep: bool,
    /// Whether there is a desktop to open a browser on.
    pub desktop: bool,
    /// The demo user's password where it is not the guide's.
    pub demo_password: Option<Secret>,
    /// This program's own file: the sign-in plugin is a link to it.
    pub program: PathBuf,
    /// The environment, for the config keys that name variables of it.
    pub environment: fn(&str) -> Option<String>,
}

/// Runs `up` until its end. `print` gets the table's lines and nothing else.
///
/// # Errors
/// See [`UpError`]; whatever was started is stopped before it returns.
pub async fn run(
    options: Options,
    steps: &Steps,
    print: &(dyn Fn(&str) + Sync),
    shutdown: &Shutdown,
) -> Result<(), UpError> {
    let state = StateDir::new(&options.root, &options.name)?;
    let (_lock, mut file) = state.open()?;
    file.claim();
    state.write(&file)?;
    log_to(&state)?;
    steps.done("state", &state.dir().display().to_string());
    let stop = shutdown.child();
    let outcome = shutdown.unless(Box::pin(start(&options, &state, &mut file, steps, print, &stop))).await;
    stop.trigger();
    let outcome = match outcome {
        // Interrupted while starting: what was started stops with `stop`.
        None => Ok(None),
        Some(Ok(running)) => Ok(Some(running)),
        Some(Err(error)) => Err(error),
    };
    let outcome = match outcome {
        Ok(Some(running)) => {
            running.stopped().await;
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    file.pid = None;
    state.write(&file)?;
    if outcome.is_ok() {
        steps.line(&format!(
            "stopped; `portcullis up` starts it again, `portcullis down{}` removes it",
            name_flag(&options.name)
        ));
    }
    outcome
}

/// The servers' logs go into a file of the state folder, made anew at each start: the terminal is for the steps.
pub(crate) fn log_to(state: &StateDir) -> Result<(), UpError> {
    let path = state.path("up.log");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| state::StateError::Io { action: "write", path, source })?;
    // A process that has logs already, as a test may, keeps them.
    let _set_already = init_logs(LogConfig::default(), file);
    Ok(())
}

/// Servers that run until `stop` is triggered.
struct RunningServers {
    provider: Vec<tokio::task::JoinHandle<()>>,
    api: portcullis_apiserver::Running,
}

impl RunningServers {
    async fn stopped(self) {
        self.api.stopped().await;
        for server in self.provider {
            // A server that panicked has stopped as well.
            let _ended = server.await;
        }
    }
}

async fn start(
    options: &Options,
    state: &StateDir,
    file: &mut StateFile,
    steps: &Steps,
    print: &(dyn Fn(&str) + Sync),
    stop: &Shutdown,
) -> Result<RunningServers, UpError> {
    let clock = Clock::system();
    let rng = Rng::system();
    let now = clock.now().to_offset_date_time();

    let mut inputs = Inputs::read(options, steps)?;
    let mut listeners = Listeners::bind(options, &inputs, steps)?;
    let issuer = inputs.settle_issuer(listeners.issuer_port(), options.keep_issuer, steps)?;
    let ports = inputs.settle_callback_ports(steps)?;

    let (authority, origin) = Authority::load_or_make(state, Purpose::Servers, now)?;
    let (clients, _) = Authority::load_or_make(state, Purpose::Clients, now)?;
    let serving = authority.issue_server("portcullis up", now)?;
    let admin = clients.issue_client("kubernetes-admin", "system:masters", now)?;
    trust_folder::add(state, &issuer, authority.cert_pem())?;
    let bundle = state.path("ca/bundle.pem");
    state::write_public(&bundle, system_trust::bundle(authority.cert_pem()).as_bytes())?;
    steps.done(
        "authority",
        &format!("{} ({})", authority.cert_path().display(), if origin == Origin::Kept { "kept" } else { "new" }),
    );
    if options.trust {
        file.system_trust = Some(system_trust::add(&options.name, authority.cert_pem())?);
        state.write(file)?;
        steps.done("trust", "added the authority to the system's store");
    }

    let certificate = provider::write_certificate(state, &serving)?;
    let config = inputs.provider_config(listeners.ports(), &certificate, &state.path("provider/store.db"))?;
    let provider = provider::start(config, &mut listeners, &serving, (clock.clone(), rng.clone()), stop).await?;
    steps.done("provider", &issuer);

    let server = format!("https://127.0.0.1:{}", listeners.api_port());
    let flags = inputs.oidc_flags(&issuer, authority.cert_path());
    let setup = api_server::Setup {
        listener: listeners.take_api()?,
        serving: &serving,
        client_ca_pem: clients.cert_pem(),
        flags: &flags,
        // The issuer is this process; nothing else needs to be reached.
        network: Network { egress: EgressPolicy::LoopbackOnly, ..Network::default() },
        node: format!("{}-control-plane", options.name),
        provider_port: Some(listeners.issuer_port()),
        clock,
        rng,
    };
    let api = api_server::start(setup, stop).await?;
    steps.done("api server", &server);

    let plugin_path = plugin_link::make(state, &options.program)?;
    let client = inputs.client(&flags.client_id)?;
    let arguments = plugin_arguments(&issuer, &client, authority.cert_path().display().to_string(), state, &ports);
    clear_cache(state)?;
    let entries = Entries {
        cluster: format!("kind-{}", options.name),
        server: server.clone(),
        ca_pem: authority.cert_pem().to_owned(),
        admin_cert_pem: admin.cert_pem,
        admin_key_pem: Secret::new(admin.key_pem),
        plugin: Some(PluginEntry {
            program: plugin_path.clone(),
            arguments: arguments.clone(),
            signed_in: !options.no_bind,
        }),
    };
    let own = state.path("kubeconfig");
    kubeconfig::write_own(&own, &entries)?;
    steps.done("kubeconfig", &format!("{} (context {})", own.display(), entries.cluster));
    file.issuer = Some(issuer.clone());
    file.server = Some(server.clone());
    if let Some(path) = &options.kubeconfig {
        let ours = file.kubeconfig.as_ref() == Some(path);
        let previous = kubeconfig::merge(path, &entries, options.use_context, ours)?;
        if options.use_context && file.previous_context.is_none() {
            file.previous_context = previous;
        }
        file.kubeconfig = Some(path.clone());
        steps.done(
            "kubeconfig",
            &format!("{}{}", path.display(), if options.use_context { " (now current)" } else { "" }),
        );
    }
    state.write(file)?;

    let user = inputs.demo_user(&flags);
    match (&user, options.no_bind) {
        (Some(user), false) => {
            api_server::bind_cluster_admin(&api, BINDING, &user.kubernetes_name)?;
            steps.done("binding", &format!("{} is cluster-admin ({BINDING})", user.kubernetes_name));
        }
        (_, true) => steps.done("binding", "none (--no-bind)"),
        (None, false) => steps.word("no local user in the provider's config: nobody is bound to cluster-admin"),
    }
    way_on(options, state, &issuer, &own, &bundle, steps);

    let plugin = Plugin { program: plugin_path, arguments };
    let who = match (&user, options.unattended) {
        (Some(user), true) => Who::Demo(Credentials {
            login: &user.login,
            password: options.demo_password.as_ref().map_or(DEMO_PASSWORD, Secret::expose),
        }),
        (None, true) => return Err(UpError::NobodyToSignIn),
        (_, false) => Who::Person { desktop: options.desktop },
    };
    let token = plugin.token(&who, steps).await?;
    steps.done("sign-in", user.as_ref().map_or("done", |user| user.login.as_str()));
    match pods::get_all(&server, authority.cert_pem(), &token).await {
        Ok(lines) => lines.iter().for_each(|line| print(line)),
        // Without a binding the server's no is the right answer, and the guide's next step.
        Err(error @ PodsError::Refused { .. }) if options.no_bind => steps.line(&error.to_string()),
        Err(error) => return Err(error.into()),
    }
    steps.line(&format!("signed in after {:.2} s", steps.elapsed()));

    if !options.unattended || options.keep {
        steps.line("running until Ctrl-C");
        stop.triggered().await;
    }
    Ok(RunningServers { provider, api })
}

/// The plugin as kubectl will run it; what it would find by itself is spelled out, so that the kubeconfig works anywhere.
fn plugin_arguments(
    issuer: &str,
    client: &inputs::PluginClient,
    ca: String,
    state: &StateDir,
    ports: &[u16],
) -> Vec<String> {
    let mut arguments =
        vec!["get-token".to_owned(), format!("--oidc-issuer-url={issuer}"), format!("--oidc-client-id={}", client.id)];
    if let Some(secret) = &client.secret {
        arguments.push(format!("--oidc-client-secret={}", secret.expose()));
    }
    arguments.extend(["email", "groups", "offline_access"].map(|scope| format!("--oidc-extra-scope={scope}")));
    arguments.push(format!("--certificate-authority={ca}"));
    arguments.push(format!("--token-cache-dir={}", state.path("cache/oidc-login").display()));
    arguments.extend(ports.iter().map(|port| format!("--listen-address=127.0.0.1:{port}")));
    arguments
}

/// A token of an earlier `up` may be of another issuer port or key: the guide's own trap.
fn clear_cache(state: &StateDir) -> Result<(), UpError> {
    let path = state.path("cache/oidc-login");
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(state::StateError::Io { action: "remove", path, source }.into())
        }
        _ => Ok(()),
    }
}

fn way_on(
    options: &Options,
    state: &StateDir,
    issuer: &str,
    kubeconfig: &std::path::Path,
    bundle: &std::path::Path,
    steps: &Steps,
) {
    let own_state = options.root.clone();
    steps.line("");
    steps.line("In another terminal:");
    steps.line(&format!("  export PATH={}:$PATH", shell_word(&state.path("bin").display().to_string())));
    steps.line(&format!("  export KUBECONFIG={}", shell_word(&kubeconfig.display().to_string())));
    steps.line(&format!("  export NGROK_ENDPOINT={issuer}"));
    steps.line(&format!("  export PORTCULLIS_STATE={}", shell_word(&own_state.display().to_string())));
    steps.line("  kubectl get pods --all-namespaces");
    steps.line("  kubectl auth whoami");
    steps.line(&format!(
        "For other tools that check the provider's certificate: SSL_CERT_FILE={}",
        shell_word(&bundle.display().to_string())
    ));
    steps.line(&format!("Logs of provider and API server: {}", state.path("up.log").display()));
    steps.line("");
}

/// A word that a POSIX shell reads as it is.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_shell_are_quoted_where_they_must_be() {
        assert_eq!(shell_word("/a/b-c_1.2"), "/a/b-c_1.2");
        assert_eq!(shell_word("/a b/$x"), "'/a b/$x'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
