//! One run of `up`, once its state folder is locked: every step to the table, or to the guide's next steps, and the wait
//! after it, in which other `up`s may change what runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use portcullis_authn::Network;
use portcullis_kube::authentication_config::AnonymousAuthConfig;
use portcullis_runtime::http_client::EgressPolicy;
use portcullis_runtime::telemetry::Metrics;
use portcullis_runtime::{Clock, Rng, Secret, Shutdown};
use url::Url;

use crate::ca::{Authority, Origin, Purpose};
use crate::form::Credentials;
use crate::kubeconfig::Entries;
use crate::state::{self, StateDir, StateFile};
use crate::steps::Steps;
use crate::{plugin_link, system_trust, trust_folder};

use super::api_server::{self, Shown};
use super::control::Control;
use super::error::UpError;
use super::inputs::{self, Asked, Demo, Inputs, Sources};
use super::internal;
use super::listeners::Listeners;
use super::live::{Applied, Live, Started, Trust, Variables, asked_ports};
use super::parts::{self, Part};
use super::pods::{self, PodsError};
use super::provider::{self, RunningProvider};
use super::sign_in::{Person, Plugin, SignInError};
use super::way_on::WayOn;
use super::{BINDING, DEMO_PASSWORD, Options, PartLogs, clear_cache, guide, log_path, outside};

/// Servers that run until they are told to stop.
#[derive(Default)]
pub(super) struct Servers {
    provider: Option<RunningProvider>,
    internal: Option<tokio::task::JoinHandle<()>>,
    api: Option<portcullis_apiserver::Running>,
    /// What keeps them running.
    kept: Vec<tokio::task::JoinHandle<()>>,
}

impl Servers {
    /// Waits for their end, after it was asked for.
    pub(super) async fn stopped(self) {
        for kept in self.kept {
            // A supervisor that panicked keeps nothing running any more.
            let _ended = kept.await;
        }
        if let Some(api) = self.api {
            api.stopped().await;
        }
        if let Some(internal) = self.internal {
            // A server that panicked has stopped as well.
            let _ended = internal.await;
        }
        if let Some(provider) = self.provider {
            provider.stopped().await;
        }
    }
}

/// What a run works with.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) state: &'a StateDir,
    pub(super) steps: &'a Steps,
    pub(super) print: &'a (dyn Fn(&str) + Sync),
    pub(super) stop: &'a Shutdown,
    /// Ends the servers. Triggered when the run is over, so that a sign-in that is under way does not see them go before it.
    pub(super) servers_stop: &'a Shutdown,
    pub(super) logs: &'a PartLogs,
}

/// Who may be signed in, and where they are configured.
struct Users {
    demo: Demo,
    first: Option<portcullis_provider::config::LocalUser>,
    source: String,
}

impl Run<'_> {
    /// Every step, and the wait after it. No step is cut off: an interruption is seen between two of them, and while
    /// somebody is waited for.
    pub(super) async fn start(
        self,
        (sources, asked, mut inputs): (Sources, Asked, Inputs),
        file: &Mutex<StateFile>,
        servers: &mut Servers,
    ) -> Result<(), UpError> {
        let Self { options, state, steps, stop, servers_stop, logs, .. } = self;
        let lock = || file.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = Clock::system();
        let rng = Rng::system();
        let now = clock.now().to_offset_date_time();

        let mut listeners = if options.guide {
            Listeners::of_the_api_server(&inputs, steps)?
        } else {
            Listeners::bind(&inputs, steps)?
        };
        let issuer = inputs.settle_issuer(listeners.issuer_port(), options.keep_issuer, steps)?;
        let callback_ports = inputs.settle_callback_ports(&[], steps)?;
        if options.guide {
            guide::check_port(listeners.issuer_port(), steps);
        }

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
        self.trust(file, authority.cert_pem(), origin).await?;
        self.go_on()?;

        let certificate = provider::write_certificate(state, &serving)?;
        let config = inputs.provider_config(listeners.ports(), &certificate, &state.path("provider/store.db"))?;
        let time = (clock.clone(), rng.clone());
        let started = clock.now();
        let provider_run = servers_stop.child();
        let provider = provider::start(config.clone(), &mut listeners, &serving, time, &provider_run).await?;
        let provider = &*servers.provider.insert(provider);
        steps.done("provider", &issuer);
        self.go_on()?;

        let mut discovery_url = None;
        if options.guide {
            let internal = internal::start(provider.handler(), &issuer, &serving, &rng, servers_stop).await?;
            discovery_url = Some(internal.discovery_url);
            servers.internal = Some(internal.task);
        }
        let server = format!("https://127.0.0.1:{}", listeners.api_port());
        let flags = inputs.oidc_flags(&issuer, authority.cert_path());
        let trust = Trust {
            // The issuer is this process; nothing else needs to be reached.
            network: Network { egress: EgressPolicy::LoopbackOnly, ..Network::default() },
            clock: clock.clone(),
            discovery_url,
        };
        let tokens_stop = servers_stop.child();
        let tokens = api_server::tokens(trust.authenticator(&flags, &tokens_stop)?);
        let node = format!("{}-control-plane", state.name());
        let pod = if options.guide {
            guide::pod(provider.pod_ports(guide::ports_of(&inputs)), &rng, &logs.provider, started)
        } else {
            Shown::of_the_node("dex", "portcullis-provider", &node, listeners.issuer_port(), &logs.provider, started)
        };
        let provider_part = Part::new(pod, provider_run);
        let pod = provider_part.shown.clone();
        let setup = api_server::Setup {
            listener: listeners.take_api()?,
            serving: &serving,
            client_ca_pem: clients.cert_pem(),
            tokens,
            anonymous: AnonymousAuthConfig::everywhere(true),
            node,
            provider: Some(pod.clone()),
            keep_state: api_server::kept(state, options.keep_state, steps),
            audit: None,
            metrics: Metrics::new(&clock),
            logs: &logs.api_server,
            clock: clock.clone(),
            rng,
        };
        let (api, api_part) = api_server::start(setup, servers_stop).await?;
        let api = &*servers.api.insert(api);
        let issuer_url = Url::parse(&issuer).map_err(|error| UpError::Provider(error.into()))?;
        servers.kept = vec![
            parts::keep_provider(api, provider, &issuer_url, provider_part, &clock, servers_stop),
            parts::keep_api_server(api, api_part, Some(&serving), &clock, servers_stop)?,
        ];
        if options.guide {
            guide::ensure_service(api, &pod)?;
            // Of a start without --guide, when objects are kept: here the step is the user's.
            api.seed().remove_cluster_role_binding(BINDING);
        }
        steps.done("api server", &server);
        self.go_on()?;

        let entries = Entries {
            cluster: format!("kind-{}", state.name()),
            server: server.clone(),
            ca_pem: authority.cert_pem().to_owned(),
            admin_cert_pem: admin.cert_pem,
            admin_key_pem: Secret::new(admin.key_pem),
            program: plugin_link::make(state, &options.program)?,
            plugin: None,
        };
        let users =
            Users { demo: inputs.demo().clone(), first: inputs.user().cloned(), source: inputs.source().to_owned() };
        let config_at_start = config.clone();
        let (asked_ports_at_start, pod_ports) = (asked_ports(&inputs), guide::ports_of(&inputs));
        let applied = Applied {
            environment: Variables { own: asked.environment.clone(), others: BTreeMap::new() },
            words: steps.words(),
            sources,
            asked,
            inputs,
            config,
            flags,
            callback_ports,
            entries,
            pod,
            tokens_stop,
        };
        let live = Live {
            options,
            state,
            steps,
            stop: servers_stop,
            logs,
            file,
            api,
            provider,
            trust,
            issuer: issuer.clone(),
            issuer_port: listeners.issuer_port(),
            ports: listeners.ports(),
            api_port: listeners.api_port(),
            certificate,
            ca_path: authority.cert_path().clone(),
            started: Started { config: config_at_start, ports: asked_ports_at_start, pod_ports },
            applied: Mutex::new(applied),
        };
        {
            let mut file = lock();
            file.issuer = Some(issuer.clone());
            file.server = Some(server.clone());
        }
        if options.guide {
            return self.guide(&live, &listeners, file).await;
        }
        clear_cache(state)?;
        let chosen_user = live.write_kubeconfigs(steps)?;
        self.bind(&users, api)?;
        self.go_on()?;

        let control = Control::bind(state)?;
        let rest = async {
            let Some(token) = self.sign_in(&users, &live).await? else { return Ok(()) };
            // A person may have signed in as somebody else.
            let who = users.demo.login().filter(|_| options.unattended);
            steps.done("sign-in", who.unwrap_or("done"));
            self.table(&server, authority.cert_pem(), &token).await?;
            steps.line(&format!("signed in after {:.2} s", steps.elapsed()));
            if options.unattended && !options.keep {
                steps.line("its servers end now; with --keep they keep running");
                return Ok(());
            }
            let unbound = match &users.demo {
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
                admin: &format!("kind-{}", state.name()),
                chosen_user: chosen_user.as_deref(),
                unbound,
            };
            way_on.print(steps);
            steps.line("running until Ctrl-C");
            stop.triggered().await;
            Ok(())
        };
        tokio::select! {
            outcome = rest => outcome,
            () = control.serve(async |request| live.change(request).await) => Ok(()),
        }
    }

    /// The guide's steps are the user's; until Ctrl-C.
    async fn guide(&self, live: &Live<'_>, listeners: &Listeners, file: &Mutex<StateFile>) -> Result<(), UpError> {
        let Self { options, state, steps, stop, .. } = self;
        let kubeconfig = guide::kubeconfig(options, state.name())?;
        let (client, user) = {
            let applied = live.applied();
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            guide::write_kubeconfig(state, &mut file, &kubeconfig, &applied.entries, steps)?;
            let user = match applied.inputs.demo() {
                Demo::User { kubernetes_name, .. } => Some(kubernetes_name.clone()),
                Demo::NoClaim { .. } | Demo::Nobody => None,
            };
            (applied.inputs.client()?, user)
        };
        self.go_on()?;
        let control = Control::bind(state)?;
        let next = guide::NextSteps {
            bin: &state.path("bin"),
            kubeconfig: &kubeconfig,
            issuer: &live.issuer,
            ports: (listeners.issuer_port(), live.started.pod_ports.https),
            state_root: options.root_is_named.then_some(&*options.root),
            name: state.name(),
            client: (&client.id, client.secret.as_ref().map(Secret::expose)),
            user: user.as_deref(),
            called: &options.called,
            log: &log_path(state),
        };
        next.print(steps);
        steps.line("running until Ctrl-C");
        tokio::select! {
            () = stop.triggered() => {}
            () = control.serve(async |request| live.change(request).await) => {}
        }
        Ok(())
    }

    /// Between two steps: whether to go on.
    fn go_on(&self) -> Result<(), UpError> {
        if self.stop.is_triggered() { Err(UpError::Interrupted) } else { Ok(()) }
    }

    /// Puts the authority into the system's store, where that was asked for.
    async fn trust(&self, file: &Mutex<StateFile>, ca_pem: &str, origin: Origin) -> Result<(), UpError> {
        let mut now = file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.options.trust {
            let outcome = outside::trust(self.state, &mut now, ca_pem, self.steps).await;
            *file.lock().unwrap_or_else(PoisonError::into_inner) = now;
            outcome?;
        } else if origin == Origin::Made && now.system_trust.is_some() {
            self.steps.word("the system's store still has the earlier authority: `up --trust` puts the new one there");
        }
        Ok(())
    }

    fn bind(&self, users: &Users, api: &portcullis_apiserver::Running) -> Result<(), UpError> {
        if self.options.no_bind {
            let text = if api.seed().remove_cluster_role_binding(BINDING) {
                format!("none (--no-bind); {BINDING}, kept from before, is removed")
            } else {
                "none (--no-bind)".to_owned()
            };
            self.steps.done("binding", &text);
            return Ok(());
        }
        if !matches!(users.demo, Demo::User { .. }) {
            // One that was kept is for somebody who can sign in no more.
            api.seed().remove_cluster_role_binding(BINDING);
        }
        match &users.demo {
            Demo::User { kubernetes_name, .. } => {
                api_server::bind_cluster_admin(api, BINDING, kubernetes_name)?;
                self.steps.done("binding", &format!("{kubernetes_name} is cluster-admin ({BINDING})"));
            }
            Demo::NoClaim { login, claim, why } => self.steps.word(&format!(
                "nobody is bound to cluster-admin: {login}'s token will not have the claim {claim:?} ({why}), and the API server will refuse it"
            )),
            Demo::Nobody => self.steps.word(&format!(
                "nobody is bound to cluster-admin: {} has no local user, so nobody can sign in",
                users.source
            )),
        }
        Ok(())
    }

    /// The token; `None` when a person's sign-in was ended by Ctrl-C, which is how `up` ends.
    async fn sign_in(&self, users: &Users, live: &Live<'_>) -> Result<Option<String>, UpError> {
        let mut record = |plugin| {
            let mut file = live.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.plugin = plugin;
            self.state.write(&file)
        };
        let program: PathBuf = plugin_link::path(self.state);
        let arguments = || live.plugin_arguments();
        let mut plugin = Plugin { program, arguments: &arguments, record: &mut record };
        if self.options.unattended {
            let login = users.demo.login().unwrap_or_default();
            let password = self.options.demo_password.as_ref().map_or(DEMO_PASSWORD, Secret::expose);
            return match plugin.demo(Credentials { login, password }, self.steps, self.stop).await {
                Err(SignInError::Interrupted) => Err(UpError::Interrupted),
                token => Ok(Some(token?)),
            };
        }
        let port = live.applied().callback_ports.first().copied().unwrap_or_default();
        let person = Person {
            desktop: self.options.desktop,
            url: format!("http://localhost:{port}/"),
            who: self.who(users).await,
        };
        match plugin.person(&person, self.steps, self.stop).await {
            Err(SignInError::Interrupted) => Ok(None),
            token => Ok(Some(token?)),
        }
    }

    /// Who may sign in, and with what. The guide's password is public, and nobody else's is ever printed.
    async fn who(&self, users: &Users) -> String {
        let Some(user) = users.first.clone() else { return format!("(no local user in {})", users.source) };
        let login = user.shown_email.clone();
        if self.options.demo_password.is_some() {
            return format!("as {login}, with the password in PORTCULLIS_DEMO_PASSWORD");
        }
        let check = tokio::task::spawn_blocking(move || inputs::has_the_guides_password(&user));
        if check.await.unwrap_or(false) {
            format!("as {login} / {DEMO_PASSWORD}")
        } else {
            format!("as {login}, with the password of its hash in {}", users.source)
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
