//! `up --issuer`: the dev API server trusts the user's own provider, and ours is not started.
//!
//! ```text
//! flags and files -> provider asked -> state -> api server -> kubeconfig -> what to do next
//! ```
//! Nobody is signed in or bound here: who may do what is for the administrator, whose certificate is in the kubeconfig. A
//! second `up --issuer` is checked likewise, and then changes what runs.

mod client;
mod error;
mod issuer;
mod live;
mod wish;

use std::sync::{Mutex, PoisonError};

use portcullis_authn::{Network, OidcFlags};
use portcullis_kube::authentication_config::AnonymousAuthConfig;
use portcullis_runtime::http_client::ProxyFromEnv;
use portcullis_runtime::telemetry::{LogConfig, Metrics};
use portcullis_runtime::{Clock, Rng, Secret, Shutdown};

use crate::ca::{Authority, Purpose};
use crate::kubeconfig::Entries;
use crate::state::{self, StateDir, StateFile};
use crate::steps::{Steps, shell_word};
use crate::{apiserver, plugin_link};

use super::control::{AtStart, Control, Request};
use super::error::UpError;
use super::inputs::Sources;
use super::{BINDING, Options, api_server, claim, log_path, log_to, parts, second};

use issuer::Checked;
use live::{Applied, Live};

pub use error::IssuerError;
pub use wish::IssuerFlags;
pub(crate) use wish::Wish;

/// The API server's port where no flag says it.
const API_PORT: u16 = 6443;

/// Serves until `shutdown`; where this name runs already, it is asked to take these flags.
pub(super) async fn run(
    options: &Options,
    flags: &IssuerFlags,
    steps: &Steps,
    shutdown: &Shutdown,
) -> Result<(), UpError> {
    let wish = Wish::read(flags)?;
    let clock = Clock::system();
    let proxy = ProxyFromEnv::read(|name| (options.environment)(name));
    let network = Network { proxy, ..Network::default() };
    let asking = shutdown.unless(issuer::check(&wish, &network, &clock)).await;
    let checked = asking.ok_or(UpError::Interrupted)??;
    let state = StateDir::new(&options.root, options.name.as_deref().unwrap_or("dev"))?;
    let request = request(options, &wish);
    let ask = async || second::ask(&state, &request, steps).await;
    let start = async |file: &Mutex<StateFile>| {
        steps.done("state", &state.dir().display().to_string());
        steps.done("issuer", &format!("{} (yours)", checked.flags.issuer_url));
        checked.doubt.iter().for_each(|doubt| steps.word(doubt));
        let start = Start { options, state: &state, steps, network, clock, file };
        Box::pin(start.serve(wish, checked, shutdown)).await
    };
    claim::alone((options, &state, steps), ask, || {}, start).await
}

fn request(options: &Options, wish: &Wish) -> Request {
    Request {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sources: Sources::default(),
        environment: std::collections::BTreeMap::new(),
        port: options.port,
        issuer_port: None,
        keep_issuer: false,
        fix_demo_hash: false,
        at_start: AtStart {
            use_context: options.use_context,
            kubeconfig: options.kubeconfig.clone(),
            keep_state: options.keep_state,
            ..AtStart::default()
        },
        external: Some(wish.clone()),
    }
}

/// A run that has its state folder.
struct Start<'a> {
    options: &'a Options,
    state: &'a StateDir,
    steps: &'a Steps,
    network: Network,
    clock: Clock,
    file: &'a Mutex<StateFile>,
}

impl Start<'_> {
    async fn serve(self, wish: Wish, checked: Checked, shutdown: &Shutdown) -> Result<(), UpError> {
        let Self { options, state, steps, network, clock, file } = self;
        let logs = log_to(state, LogConfig::default())?;
        let (listener, port) = apiserver::listen(options.port.unwrap_or(API_PORT), steps)?;
        let now = clock.now().to_offset_date_time();
        let (authority, _) = Authority::load_or_make(state, Purpose::Servers, now)?;
        let (clients, _) = Authority::load_or_make(state, Purpose::Clients, now)?;
        let serving = authority.issue_server("portcullis up", now)?;
        let admin = clients.issue_client("kubernetes-admin", "system:masters", now)?;
        let mut flags = checked.flags;
        flags.ca_file = write_ca(state, &wish)?;

        let stop = shutdown.child();
        let tokens_stop = stop.child();
        let tokens = api_server::tokens(api_server::trust(&flags, None, &clock, &network, &tokens_stop)?);
        let setup = api_server::Setup {
            listener,
            serving: &serving,
            client_ca_pem: clients.cert_pem(),
            // Nobody is known until what was kept for others has gone.
            tokens: api_server::tokens(None),
            anonymous: AnonymousAuthConfig::everywhere(true),
            node: format!("{}-control-plane", state.name()),
            provider: None,
            keep_state: api_server::kept(state, options.keep_state, steps),
            audit: None,
            metrics: Metrics::new(&clock),
            logs: &logs.api_server,
            clock: clock.clone(),
            rng: Rng::system(),
        };
        let (api, part) = api_server::start(setup, &stop).await?;
        let server = format!("https://127.0.0.1:{port}");
        let kept = match parts::keep_api_server(&api, part, Some(&serving), &clock, &stop) {
            Ok(kept) => kept,
            Err(error) => {
                stop.trigger();
                api.stopped().await;
                return Err(error);
            }
        };
        let outcome: Result<(), UpError> = async {
            steps.done("api server", &server);
            // Kept from a run with our own provider: that name may be anybody's at this one.
            if api.seed().remove_cluster_role_binding(BINDING) {
                steps.word(&format!("{BINDING}, kept from before, is removed: it was for a user of another provider"));
            }
            api.trust(tokens);
            let entries = Entries {
                cluster: format!("kind-{}", state.name()),
                server: server.clone(),
                ca_pem: authority.cert_pem().to_owned(),
                admin_cert_pem: admin.cert_pem,
                admin_key_pem: Secret::new(admin.key_pem),
                program: plugin_link::make(state, &options.program)?,
                plugin: None,
            };
            file.lock().unwrap_or_else(PoisonError::into_inner).server = Some(server.clone());
            let applied = Applied { wish, flags, scopes: checked.scopes, entries, tokens_stop };
            let live = Live {
                options,
                state,
                steps,
                stop: &stop,
                file,
                api: &api,
                network,
                clock: clock.clone(),
                port,
                applied: applied.into(),
            };
            let chosen = live.write_kubeconfigs(steps)?;
            let control = Control::bind(state)?;
            live.next_steps(chosen.as_deref());
            let where_kept = if options.keep_state { "kept in the state folder" } else { "in memory" };
            steps.line(&format!("running until Ctrl-C; its objects are {where_kept}"));
            tokio::select! {
                () = stop.triggered() => {}
                () = control.serve(async |request| live.change(request).await) => {}
            }
            Ok(())
        }
        .await;
        stop.trigger();
        // A supervisor that panicked keeps nothing running any more.
        let _ended = kept.await;
        api.stopped().await;
        outcome
    }
}

/// Keeps the authority in the state folder, where it stays when the user's file is moved.
fn write_ca(state: &StateDir, wish: &Wish) -> Result<String, UpError> {
    if let Some(pem) = &wish.ca_pem {
        state::write_public(&state.path("ca/issuer.pem"), pem.as_bytes())?;
    }
    Ok(ca_file(state, wish))
}

/// Where it is kept; empty where the system's authorities count.
fn ca_file(state: &StateDir, wish: &Wish) -> String {
    wish.ca_pem.as_ref().map(|_| state.path("ca/issuer.pem").display().to_string()).unwrap_or_default()
}

/// What is printed once it runs: nobody but the administrator may do anything yet.
fn next_steps(options: &Options, state: &StateDir, flags: &OidcFlags, chosen: Option<&str>, steps: &Steps) {
    let path = |path: std::path::PathBuf| shell_word(&path.display().to_string());
    let admin = format!("kind-{}", state.name());
    steps.line("");
    steps.line(&format!("Your name in the cluster is {}.", wish::name_rule(flags)));
    steps.line(&format!("The client needs the redirect URI {} (or http://localhost:18000).", client::REDIRECT_URI));
    steps.line("In another terminal:");
    steps.line(&format!("  export PATH={}:$PATH", path(state.path("bin"))));
    steps.line(&format!("  export KUBECONFIG={}", path(state.path("kubeconfig"))));
    steps.line(&format!("  export PORTCULLIS_STATE={}", path(options.root.clone())));
    if chosen.is_some_and(|chosen| chosen != admin) {
        steps.line(&format!("  kubectl config set-context --current --user={}", shell_word(&admin)));
    }
    steps.line(&format!("  kubectl auth whoami --user=oidc   # signs in at {}", flags.issuer_url));
    steps.line("  kubectl create clusterrolebinding oidc-admin-binding --clusterrole=cluster-admin \\");
    steps.line("    --user=\"$(kubectl auth whoami --user=oidc --output jsonpath='{.status.userInfo.username}')\"");
    steps.line("  kubectl config set-context --current --user=oidc");
    steps.line("  kubectl get pods --all-namespaces");
    steps.line(&format!("Log of the API server: {}", log_path(state).display()));
    steps.line("");
}
