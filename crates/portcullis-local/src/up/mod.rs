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
pub(crate) mod outside;
mod pods;
mod provider;
mod sign_in;
mod way_on;

use std::path::{Path, PathBuf};

use portcullis_authn::Network;
use portcullis_runtime::http_client::EgressPolicy;
use portcullis_runtime::telemetry::{CrateLog, LogConfig, init_logs};
use portcullis_runtime::{Clock, LogRing, Rng, Secret, Shutdown};
use url::Url;

pub use error::UpError;
pub use inputs::InputError;
pub use pods::PodsError;
pub use sign_in::{END_WITH_STDIN, SignInError};

use self::inputs::{Demo, Inputs};
use self::listeners::Listeners;
use self::sign_in::{Person, Plugin};
use self::way_on::WayOn;
use crate::ca::{Authority, Origin, Purpose};
use crate::form::Credentials;
use crate::kubeconfig::{Entries, PluginEntry};
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
    /// How this program was called, for a shell.
    pub called: String,
    /// The environment, for the config keys that name variables of it.
    pub environment: fn(&str) -> Option<String>,
}

/// Runs `up` until its end. `print` gets the table's lines and nothing else.
///
/// # Errors
/// See [`UpError`]; whatever was started has stopped before it returns.
pub async fn run(
    options: Options,
    steps: &Steps,
    print: &(dyn Fn(&str) + Sync),
    shutdown: &Shutdown,
) -> Result<(), UpError> {
    let inputs = Inputs::read(&options, steps)?;
    let state = StateDir::new(&options.root, inputs.name())?;
    let (_lock, mut file) = state.open()?;
    outside::check(&options, &state, &file)?;
    outside::end_left_over(&state, &mut file, steps).await?;
    file.claim();
    state.write(&file)?;
    let logs = log_to(&state, inputs.logs())?;
    steps.done("state", &state.dir().display().to_string());

    let stop = shutdown.child();
    let mut servers = Servers::default();
    let run = Run { options: &options, state: &state, steps, print, stop: &stop, logs: &logs };
    let outcome = Box::pin(run.start(inputs, &mut file, &mut servers)).await;
    stop.trigger();
    servers.stopped().await;
    file.pid = None;
    file.pid_started = None;
    let written = state.write(&file);
    outcome?;
    written?;
    let (called, name) = (&options.called, name_flag(state.name()));
    steps.line(&format!("stopped; the same command starts it again, `{called} down{name}` removes it"));
    Ok(())
}

/// The servers' logs go into a file of the state folder, made anew at each start: the terminal is for the steps.
///
/// What each part logs is kept beside it, for `kubectl logs`.
pub(crate) fn log_to(state: &StateDir, config: LogConfig) -> Result<PartLogs, UpError> {
    let file = state.log_file()?;
    let logs = PartLogs::default();
    // A process that has logs already, as a test may, keeps them.
    let _set_already = init_logs(LogConfig { rings: logs.by_crate(), ..config }, file);
    Ok(logs)
}

/// What the parts of this process log.
#[derive(Default)]
pub(crate) struct PartLogs {
    pub(crate) provider: LogRing,
    pub(crate) api_server: LogRing,
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

/// Servers that run until `stop` is triggered.
#[derive(Default)]
struct Servers {
    provider: Vec<tokio::task::JoinHandle<()>>,
    api: Option<portcullis_apiserver::Running>,
}

impl Servers {
    async fn stopped(self) {
        if let Some(api) = self.api {
            api.stopped().await;
        }
        for server in self.provider {
            // A server that panicked has stopped as well.
            let _ended = server.await;
        }
    }
}

/// One run, once its state folder is locked.
struct Run<'a> {
    options: &'a Options,
    state: &'a StateDir,
    steps: &'a Steps,
    print: &'a (dyn Fn(&str) + Sync),
    stop: &'a Shutdown,
    logs: &'a PartLogs,
}

impl Run<'_> {
    /// Every step to the table, and the wait after it. No step is cut off: an interruption is seen between two of them, and
    /// while somebody is waited for.
    async fn start(self, mut inputs: Inputs, file: &mut StateFile, servers: &mut Servers) -> Result<(), UpError> {
        let Self { options, state, steps, stop, logs, .. } = self;
        let clock = Clock::system();
        let rng = Rng::system();
        let now = clock.now().to_offset_date_time();

        let mut listeners = Listeners::bind(&inputs, steps)?;
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
            outside::trust(state, file, authority.cert_pem(), steps).await?;
        } else if origin == Origin::Made && file.system_trust.is_some() {
            steps.word("the system's store still has the earlier authority: `up --trust` puts the new one there");
        }
        self.go_on()?;

        let certificate = provider::write_certificate(state, &serving)?;
        let config = inputs.provider_config(listeners.ports(), &certificate, &state.path("provider/store.db"))?;
        let time = (clock.clone(), rng.clone());
        provider::start(config, &mut listeners, &serving, time, stop, &mut servers.provider).await?;
        steps.done("provider", &issuer);
        self.go_on()?;

        let server = format!("https://127.0.0.1:{}", listeners.api_port());
        let flags = inputs.oidc_flags(&issuer, authority.cert_path());
        let setup = api_server::Setup {
            listener: listeners.take_api()?,
            serving: &serving,
            client_ca_pem: clients.cert_pem(),
            flags: &flags,
            // The issuer is this process; nothing else needs to be reached.
            network: Network { egress: EgressPolicy::LoopbackOnly, ..Network::default() },
            node: format!("{}-control-plane", state.name()),
            provider_port: Some(listeners.issuer_port()),
            audit: None,
            logs,
            clock,
            rng,
        };
        let api = &*servers.api.insert(api_server::start(setup, stop).await?);
        steps.done("api server", &server);
        self.go_on()?;

        let program = plugin_link::make(state, &options.program)?;
        let client = inputs.client()?;
        let arguments = plugin_arguments(&issuer, &client, authority.cert_path(), state, &ports);
        clear_cache(state)?;
        let plugin = PluginEntry { issuer: issuer.clone(), arguments: arguments.clone(), signed_in: !options.no_bind };
        let entries = Entries {
            cluster: format!("kind-{}", state.name()),
            server: server.clone(),
            ca_pem: authority.cert_pem().to_owned(),
            admin_cert_pem: admin.cert_pem,
            admin_key_pem: Secret::new(admin.key_pem),
            program: program.clone(),
            plugin: Some(plugin),
        };
        file.issuer = Some(issuer.clone());
        file.server = Some(server.clone());
        let chosen_user = outside::renew_own(state, file, &entries, steps)?;
        if let Some(path) = &options.kubeconfig {
            outside::merge(state, file, path, &entries, options.use_context, steps)?;
        }
        self.bind(&inputs, api)?;
        self.go_on()?;

        let mut record = |plugin| {
            file.plugin = plugin;
            state.write(file)
        };
        let plugin = Plugin { program, arguments, record: &mut record };
        let Some(token) = self.sign_in(&inputs, plugin, &ports).await? else { return Ok(()) };
        // A person may have signed in as somebody else.
        let who = inputs.demo().login().filter(|_| options.unattended);
        steps.done("sign-in", who.unwrap_or("done"));
        self.table(&server, authority.cert_pem(), &token).await?;
        steps.line(&format!("signed in after {:.2} s", steps.elapsed()));

        if options.unattended && !options.keep {
            steps.line("its servers end now; with --keep they keep running");
            return Ok(());
        }
        let unbound = match inputs.demo() {
            Demo::User { kubernetes_name, .. } if options.no_bind => Some(kubernetes_name.as_str()),
            _ => None,
        };
        let way_on = WayOn {
            bin: &state.path("bin"),
            kubeconfig: &state.path("kubeconfig"),
            issuer: &issuer,
            state_root: &options.root,
            bundle: &bundle,
            log: &log_path(state),
            admin: &entries.cluster,
            chosen_user: chosen_user.as_deref(),
            unbound,
        };
        way_on.print(steps);
        steps.line("running until Ctrl-C");
        stop.triggered().await;
        Ok(())
    }

    /// Between two steps: whether to go on.
    fn go_on(&self) -> Result<(), UpError> {
        if self.stop.is_triggered() { Err(UpError::Interrupted) } else { Ok(()) }
    }

    fn bind(&self, inputs: &Inputs, api: &portcullis_apiserver::Running) -> Result<(), UpError> {
        if self.options.no_bind {
            self.steps.done("binding", "none (--no-bind)");
            return Ok(());
        }
        match inputs.demo() {
            Demo::User { kubernetes_name, .. } => {
                api_server::bind_cluster_admin(api, BINDING, kubernetes_name)?;
                self.steps.done("binding", &format!("{kubernetes_name} is cluster-admin ({BINDING})"));
            }
            Demo::NoClaim { login, claim, why } => self.steps.word(&format!(
                "nobody is bound to cluster-admin: {login}'s token will not have the claim {claim:?} ({why}), and the API server will refuse it"
            )),
            Demo::Nobody => self.steps.word(&format!(
                "nobody is bound to cluster-admin: {} has no local user, so nobody can sign in",
                inputs.source()
            )),
        }
        Ok(())
    }

    /// The token; `None` when a person's sign-in was ended by Ctrl-C, which is how `up` ends.
    async fn sign_in(&self, inputs: &Inputs, mut plugin: Plugin<'_>, ports: &[u16]) -> Result<Option<String>, UpError> {
        if self.options.unattended {
            let login = inputs.demo().login().unwrap_or_default();
            let password = self.options.demo_password.as_ref().map_or(DEMO_PASSWORD, Secret::expose);
            return match plugin.demo(Credentials { login, password }, self.steps, self.stop).await {
                Err(SignInError::Interrupted) => Err(UpError::Interrupted),
                token => Ok(Some(token?)),
            };
        }
        let port = ports.first().copied().unwrap_or_default();
        let person = Person {
            desktop: self.options.desktop,
            url: format!("http://localhost:{port}/"),
            who: self.who(inputs).await,
        };
        match plugin.person(&person, self.steps, self.stop).await {
            Err(SignInError::Interrupted) => Ok(None),
            token => Ok(Some(token?)),
        }
    }

    /// Who may sign in, and with what. The guide's password is public, and nobody else's is ever printed.
    async fn who(&self, inputs: &Inputs) -> String {
        let Some(user) = inputs.user().cloned() else { return format!("(no local user in {})", inputs.source()) };
        let login = user.shown_email.clone();
        if self.options.demo_password.is_some() {
            return format!("as {login}, with the password in PORTCULLIS_DEMO_PASSWORD");
        }
        let check = tokio::task::spawn_blocking(move || inputs::has_the_guides_password(&user));
        if check.await.unwrap_or(false) {
            format!("as {login} / {DEMO_PASSWORD}")
        } else {
            format!("as {login}, with the password of its hash in {}", inputs.source())
        }
    }

    async fn table(&self, server: &str, ca_pem: &str, token: &str) -> Result<(), UpError> {
        let log = log_path(self.state);
        let Some(fetched) = self.stop.unless(pods::get_all(server, ca_pem, token)).await else {
            return Err(UpError::Interrupted);
        };
        match fetched {
            Ok(lines) => lines.iter().for_each(|line| (self.print)(line)),
            // Without a binding the server's no is the right answer, and the guide's next step.
            Err(error @ PodsError::Refused { .. }) if self.options.no_bind => self.steps.line(&error.to_string()),
            // A person may have signed in as somebody else; they are told, and the servers stay for their next try.
            Err(error @ PodsError::Refused { .. }) if !self.options.unattended => {
                self.steps.line(&error.to_string());
                if let Some(hint) = error.hint(&log) {
                    self.steps.line(&format!("hint: {hint}"));
                }
            }
            Err(source) => return Err(UpError::Pods { source, log }),
        }
        Ok(())
    }
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
            Err(state::StateError::Io { action: "remove", path, source }.into())
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
