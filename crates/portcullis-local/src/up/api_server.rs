//! The dev API server of `up` and `apiserver`: it trusts an issuer through the `oidc-*` flags, our own like any other.

use std::collections::BTreeMap;

use portcullis_apiserver::{
    ApiServer, ApiServerConfig, AuditLog, Part, PartControl, PartPort, Running, TokenAuthenticator,
};
use portcullis_authn::{Network, OidcFlags};
use portcullis_kube::rbac::{ClusterRoleBinding, Subject};
use portcullis_runtime::tls::TlsIdentity;
use portcullis_runtime::{Clock, Rng, Shutdown, Timestamp};
use tokio::net::TcpListener;

use crate::ca::Leaf;

use super::PartLogs;
use super::error::UpError;

/// Namespace in which the parts of this process are shown.
const NAMESPACE: &str = "kube-system";
/// What runs, for people.
const IMAGE: &str = concat!("portcullis:", env!("CARGO_PKG_VERSION"));

/// What the API server needs from this run.
pub(crate) struct Setup<'a> {
    pub(crate) listener: TcpListener,
    pub(crate) serving: &'a Leaf,
    pub(crate) client_ca_pem: &'a str,
    pub(crate) flags: &'a OidcFlags,
    /// How the issuer may be reached.
    pub(crate) network: Network,
    /// Name of the one node, `<name>-control-plane` as kind has it.
    pub(crate) node: String,
    /// Where the provider listens, when it runs in this process.
    pub(crate) provider_port: Option<u16>,
    pub(crate) audit: Option<AuditLog>,
    /// What the parts log.
    pub(crate) logs: &'a PartLogs,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> UpError {
    UpError::ApiServer(Box::new(error))
}

/// Starts the server and shows the parts of this process as pods.
pub(crate) async fn start(setup: Setup<'_>, stop: &Shutdown) -> Result<Running, UpError> {
    let port = setup.listener.local_addr().map_err(failed)?.port();
    let identity = TlsIdentity::from_pem(setup.serving.cert_pem.as_bytes(), setup.serving.key_pem.as_bytes())?;
    let tokens =
        TokenAuthenticator::from_oidc_flags(setup.flags, setup.clock.clone(), &setup.network, stop).map_err(failed)?;
    let started = setup.clock.now();
    let config = ApiServerConfig {
        tokens,
        audit: setup.audit,
        node_name: setup.node.clone(),
        clock: setup.clock,
        rng: setup.rng,
        ..ApiServerConfig::new(setup.listener, identity, setup.client_ca_pem.as_bytes().to_vec())
    };
    let running = ApiServer::start(config, stop.clone()).await.map_err(failed)?;
    if let Err(error) = show_parts(&running, &setup.node, port, setup.provider_port, setup.logs, started) {
        stop.trigger();
        running.stopped().await;
        return Err(error);
    }
    Ok(running)
}

fn show_parts(
    running: &Running,
    node: &str,
    port: u16,
    provider_port: Option<u16>,
    logs: &PartLogs,
    started: Timestamp,
) -> Result<(), UpError> {
    let own = ("kube-apiserver", "portcullis-apiserver", port, &logs.api_server);
    let provider = provider_port.map(|port| ("dex", "portcullis-provider", port, &logs.provider));
    for (component, container, port, logs) in std::iter::once(own).chain(provider) {
        let part = Part {
            namespace: NAMESPACE.to_owned(),
            name: format!("{container}-{node}"),
            labels: BTreeMap::from([
                ("app.kubernetes.io/name".to_owned(), component.to_owned()),
                ("app.kubernetes.io/managed-by".to_owned(), "portcullis".to_owned()),
            ]),
            container: container.to_owned(),
            image: IMAGE.to_owned(),
            ports: vec![PartPort::open(port)],
            logs: logs.clone(),
            control: PartControl::default(),
            started,
        };
        running.seed().part(&part).map_err(failed)?;
    }
    Ok(())
}

/// Makes a user cluster-admin.
pub(crate) fn bind_cluster_admin(running: &Running, binding: &str, user: &str) -> Result<(), UpError> {
    running
        .seed()
        .cluster_role_binding(&ClusterRoleBinding::new(binding, "cluster-admin", vec![Subject::user(user)]))
        .map_err(failed)
}
