//! `apiserver`: the dev API server alone, with an authority and an administrator's kubeconfig of its own.
//!
//! It is the API server of `up` without the provider: whoever has an issuer names it with kube-apiserver's own `--oidc-*`
//! flags, or names several in its `--authentication-config`. It shares `up`'s state folder and its lock, binds loopback only, and is removed by `down`.

use std::path::PathBuf;

use portcullis_apiserver::AuditLog;
pub use portcullis_apiserver::{AuditMode, AuditOptions};
use portcullis_runtime::telemetry::{LogConfig, Metrics};
use portcullis_runtime::{Clock, Rng, Secret, Shutdown};
use tokio::net::TcpListener;

pub use crate::authentication::AuthenticationOptions;
use crate::ca::{Authority, Purpose};
use crate::kubeconfig::{self, Entries};
use crate::plugin_link;
use crate::ports;
use crate::state::StateDir;
use crate::steps::{Steps, shell_word};
use crate::up::{UpError, api_server, log_to, name_flag, outside, parts};
pub use portcullis_kube::go::parse_bool;

/// What the command line says.
pub struct Options {
    /// The folder of all names.
    pub root: PathBuf,
    /// The name; the context is `kind-<name>`.
    pub name: String,
    /// The port on loopback; 0 takes a free one.
    pub port: u16,
    /// The `--oidc-*` flags, `--authentication-config` and `--anonymous-auth`.
    pub authentication: AuthenticationOptions,
    /// Keep the objects for the next start.
    pub keep_state: bool,
    /// The `--audit-*` flags.
    pub audit: AuditOptions,
    /// How this program was called, for a shell.
    pub called: String,
}

/// Serves until `shutdown`.
///
/// # Errors
/// See [`UpError`]; whatever was started is stopped before it returns.
pub async fn run(options: Options, steps: &Steps, shutdown: &Shutdown) -> Result<(), UpError> {
    let authentication = options.authentication.check()?;
    let state = StateDir::new(&options.root, &options.name)?;
    let (_lock, mut file) = state.open()?;
    let own = state.path("kubeconfig");
    kubeconfig::own::check(&own)?;
    let logs = log_to(&state, LogConfig::default())?;

    let clock = Clock::system();
    let stop = shutdown.child();
    let (metrics, node) = (Metrics::new(&clock), format!("{}-control-plane", options.name));
    let authentication = authentication.start(&clock, (&metrics, &node), &stop)?;
    let audit = AuditLog::open(&options.audit, &clock)?;
    for warning in audit.iter().flat_map(AuditLog::warnings) {
        steps.word(warning);
    }
    if let (Some(path), None) = (&options.audit.path, &audit) {
        steps.word(&format!("{}: no audit events are recorded without --audit-policy-file", path.display()));
    }

    let (listener, port) = listen(options.port, steps)?;

    let now = clock.now().to_offset_date_time();
    let (authority, _) = Authority::load_or_make(&state, Purpose::Servers, now)?;
    let (clients, _) = Authority::load_or_make(&state, Purpose::Clients, now)?;
    let serving = authority.issue_server("portcullis apiserver", now)?;
    let admin = clients.issue_client("kubernetes-admin", "system:masters", now)?;
    let asked_at = audit.is_none().then_some(&serving);
    let setup = api_server::Setup {
        listener,
        serving: &serving,
        client_ca_pem: clients.cert_pem(),
        tokens: authentication.tokens,
        anonymous: authentication.anonymous,
        node,
        metrics,
        provider: None,
        keep_state: api_server::kept(&state, options.keep_state, steps),
        audit,
        logs: &logs.api_server,
        clock: clock.clone(),
        rng: Rng::system(),
    };
    let (running, part) = api_server::start(setup, &stop).await?;
    let kept = match parts::keep_api_server(&running, part, asked_at, &clock, &stop) {
        Ok(kept) => kept,
        Err(error) => {
            stop.trigger();
            running.stopped().await;
            return Err(error);
        }
    };
    let server = format!("https://127.0.0.1:{port}");
    steps.done("api server", &server);
    if let Some(issuers) = &authentication.of_file {
        steps.part("issuers", issuers);
    }

    let cluster = format!("kind-{}", options.name);
    let entries = Entries {
        cluster: cluster.clone(),
        server: server.clone(),
        ca_pem: authority.cert_pem().to_owned(),
        admin_cert_pem: admin.cert_pem,
        admin_key_pem: Secret::new(admin.key_pem),
        program: plugin_link::path(&state),
        plugin: None,
    };
    file.claim();
    file.server = Some(server);
    file.issuer = authentication.issuer;
    if let Err(error) = outside::renew_own(&state, &mut file, &entries, steps) {
        stop.trigger();
        // A supervisor that panicked keeps nothing running any more.
        let _ended = kept.await;
        running.stopped().await;
        return Err(error);
    }
    steps.line("");
    steps.line(&format!("  export KUBECONFIG={}", shell_word(&own.display().to_string())));
    steps.line("  kubectl get namespaces");
    steps.line("");
    let where_kept = if options.keep_state { "kept in the state folder" } else { "in memory" };
    steps.line(&format!("running until Ctrl-C; its objects are {where_kept}"));
    let _ended = kept.await;
    running.stopped().await;
    file.release();
    state.write(&file)?;
    steps.line(&format!("stopped; `{} down{}` removes what it made", options.called, name_flag(&options.name)));
    Ok(())
}

/// A listener for the API server, and its port: another one, with a word, where the wanted one cannot be had.
pub(crate) fn listen(wanted: u16, steps: &Steps) -> Result<(TcpListener, u16), UpError> {
    let bound = ports::bind(wanted).map_err(|source| UpError::Listen { port: wanted, source })?;
    if let Some((wanted, obstacle)) = &bound.moved_from {
        steps.word(&format!("port {wanted} {obstacle}: the API server is on {}", bound.port));
    }
    let port = bound.port;
    let gone = || UpError::Listen { port, source: std::io::ErrorKind::AddrNotAvailable.into() };
    // Known by its IPv4 address alone, as under `up`.
    let listener = bound.listeners.into_iter().next().ok_or_else(gone)?;
    let listener = TcpListener::from_std(listener).map_err(|source| UpError::Listen { port, source })?;
    Ok((listener, port))
}
