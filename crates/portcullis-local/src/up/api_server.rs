//! The dev API server of `up` and `apiserver`: it trusts an issuer through the `oidc-*` flags, our own like any other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portcullis_apiserver::{
    ApiServer, ApiServerConfig, AuditLog, PartControl, PartPort, Running, SERVICE_ACCOUNT_ISSUER, TokenAuthenticator,
};
use portcullis_authn::{Authenticator, Network, OidcFlags, ValidConfig};
use portcullis_kube::authentication_config::AnonymousAuthConfig;
use portcullis_kube::rbac::{ClusterRoleBinding, Subject};
use portcullis_runtime::telemetry::Metrics;
use portcullis_runtime::tls::TlsIdentity;
use portcullis_runtime::{Clock, LogRing, Rng, Shutdown, Timestamp};
use tokio::net::TcpListener;

use crate::ca::Leaf;
use crate::state::StateDir;
use crate::steps::Steps;

use super::error::UpError;
use super::parts::Part;

/// Namespace in which the parts of this process are shown.
const NAMESPACE: &str = "kube-system";
/// What runs, for people.
const IMAGE: &str = concat!("portcullis:", env!("CARGO_PKG_VERSION"));

/// What the API server needs from this run.
pub(crate) struct Setup<'a> {
    pub(crate) listener: TcpListener,
    pub(crate) serving: &'a Leaf,
    pub(crate) client_ca_pem: &'a str,
    /// What knows bearer tokens.
    pub(crate) tokens: TokenAuthenticator,
    /// What holds for requests without credentials.
    pub(crate) anonymous: AnonymousAuthConfig,
    /// Name of the one node, `<name>-control-plane` as kind has it.
    pub(crate) node: String,
    /// The provider's pod, when it runs in this process.
    pub(crate) provider: Option<Shown>,
    /// The file that keeps its objects.
    pub(crate) keep_state: Option<PathBuf>,
    pub(crate) audit: Option<AuditLog>,
    /// What it shows of itself.
    pub(crate) metrics: Metrics,
    /// What the server logs.
    pub(crate) logs: &'a LogRing,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
}

/// The file that keeps the objects, if they are to be kept. One that is there and not asked for gets a word.
pub(crate) fn kept(state: &StateDir, keep: bool, steps: &Steps) -> Option<PathBuf> {
    let file = state.path("apiserver/objects.db");
    if !keep && file.exists() {
        steps.word(&format!("{}: objects of an earlier --keep-state are there, and stay there", file.display()));
    }
    keep.then_some(file)
}

/// A part of this process, as a pod shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) namespace: &'static str,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) container: &'static str,
    pub(crate) ports: Vec<PartPort>,
    /// What it logs.
    pub(crate) logs: LogRing,
    /// How it is reached by signals.
    pub(crate) control: PartControl,
    pub(crate) started: Timestamp,
}

impl Shown {
    /// A part of the node's own, which listens on this machine's port.
    pub(crate) fn of_the_node(
        component: &str,
        container: &'static str,
        node: &str,
        port: u16,
        logs: &LogRing,
        started: Timestamp,
    ) -> Self {
        Self {
            namespace: NAMESPACE,
            name: format!("{container}-{node}"),
            labels: BTreeMap::from([
                ("app.kubernetes.io/name".to_owned(), component.to_owned()),
                ("app.kubernetes.io/managed-by".to_owned(), "portcullis".to_owned()),
            ]),
            container,
            ports: vec![PartPort::open(port)],
            logs: logs.clone(),
            control: PartControl::default(),
            started,
        }
    }
}

pub(crate) fn failed(error: impl std::error::Error + Send + Sync + 'static) -> UpError {
    UpError::ApiServer(Box::new(error))
}

/// What knows the tokens of the issuer that the flags name; nobody when they are off. `discovery_url` is where the issuer's
/// documents are, when that is not below the issuer itself (`discoveryURL` of structured authentication).
pub(crate) fn trust(
    flags: &OidcFlags,
    discovery_url: Option<&str>,
    clock: &Clock,
    network: &Network,
    stop: &Shutdown,
) -> Result<Option<Authenticator>, UpError> {
    let own = [SERVICE_ACCOUNT_ISSUER.to_owned()];
    trust_of(flags.config(&own).map_err(failed)?, discovery_url, clock, network, stop)
}

/// As [`trust`], of flags that were read.
pub(crate) fn trust_of(
    valid: Option<ValidConfig>,
    discovery_url: Option<&str>,
    clock: &Clock,
    network: &Network,
    stop: &Shutdown,
) -> Result<Option<Authenticator>, UpError> {
    let Some(valid) = valid else { return Ok(None) };
    let valid = match discovery_url {
        Some(url) => valid.with_discovery_url(url).map_err(failed)?,
        None => valid,
    };
    Authenticator::start([valid], portcullis_authn::Options::new(clock.clone()), network, stop)
        .map(Some)
        .map_err(failed)
}

/// As the API server takes it.
pub(crate) fn tokens(authenticator: Option<Authenticator>) -> TokenAuthenticator {
    authenticator.map_or(TokenAuthenticator::Nobody, |known| TokenAuthenticator::Oidc(Box::new(known)))
}

/// Starts the server and shows the parts of this process as pods. The second is the server's own part, which nobody keeps
/// running yet.
pub(crate) async fn start(setup: Setup<'_>, stop: &Shutdown) -> Result<(Running, Part), UpError> {
    let port = setup.listener.local_addr().map_err(failed)?.port();
    let identity = TlsIdentity::from_pem(setup.serving.cert_pem.as_bytes(), setup.serving.key_pem.as_bytes())?;
    let own = Part::new(
        Shown::of_the_node("kube-apiserver", "portcullis-apiserver", &setup.node, port, setup.logs, setup.clock.now()),
        stop.child(),
    );
    let config = ApiServerConfig {
        tokens: setup.tokens,
        anonymous: setup.anonymous,
        keep_state: setup.keep_state,
        audit: setup.audit,
        metrics: setup.metrics,
        node_name: setup.node,
        clock: setup.clock,
        rng: setup.rng,
        ..ApiServerConfig::new(setup.listener, identity, setup.client_ca_pem.as_bytes().to_vec())
    };
    let running = ApiServer::start(config, own.run.clone()).await.map_err(failed)?;
    tracing::info!(target: "portcullis_apiserver", port, "the API server has started");
    for part in std::iter::once(own.shown.clone()).chain(setup.provider) {
        if let Err(error) = show(&running, part) {
            stop.trigger();
            running.stopped().await;
            return Err(error);
        }
    }
    Ok((running, own))
}

/// Shows a part, or what has changed of it.
pub(crate) fn show(running: &Running, part: Shown) -> Result<(), UpError> {
    let part = portcullis_apiserver::Part {
        namespace: part.namespace.to_owned(),
        name: part.name,
        labels: part.labels,
        container: part.container.to_owned(),
        image: IMAGE.to_owned(),
        ports: part.ports,
        logs: part.logs,
        control: part.control,
        started: part.started,
    };
    running.seed().part(&part).map_err(failed)
}

/// Makes a user cluster-admin.
pub(crate) fn bind_cluster_admin(running: &Running, binding: &str, user: &str) -> Result<(), UpError> {
    running
        .seed()
        .cluster_role_binding(&ClusterRoleBinding::new(binding, "cluster-admin", vec![Subject::user(user)]))
        .map_err(failed)
}
