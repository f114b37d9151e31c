//! The provider of `up`, in this process, on loopback.
//!
//! The issuer's port speaks TLS; to this machine alone it also speaks plain http, so that a browser meets no certificate
//! that it does not know (design decision 7). Discovery sends browsers there, and nothing but browsers; the provider
//! itself answers plain http for this machine's names alone.

use std::path::PathBuf;
use std::time::Duration;

use portcullis_provider::config::Config;
use portcullis_provider::{Provider, ProviderDeps, ProviderOptions, open_store};
use portcullis_runtime::server::{ServerLimits, Transport, serve};
use portcullis_runtime::telemetry::{Health, Metrics};
use portcullis_runtime::tls::{ClientAuth, TlsIdentity, TlsVersions, server_config};
use portcullis_runtime::{Clock, Rng, Shutdown};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

use crate::ca::Leaf;
use crate::state::{self, StateDir, StateError};

use super::error::UpError;
use super::listeners::Listeners;

/// How often the provider's parts are checked, and how long a check may take, as Dex.
const HEALTH_EVERY: Duration = Duration::from_secs(15);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the provider's certificate and key are.
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Puts the certificate where the provider's configuration names it.
pub(crate) fn write_certificate(state: &StateDir, leaf: &Leaf) -> Result<Certificate, StateError> {
    let certificate = Certificate { cert: state.path("provider/tls.crt"), key: state.path("provider/tls.key") };
    state::write_private(&certificate.key, leaf.key_pem.as_bytes())?;
    state::write_public(&certificate.cert, leaf.cert_pem.as_bytes())?;
    Ok(certificate)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> UpError {
    UpError::Provider(Box::new(error))
}

/// Starts the provider on the listeners; they are served until `stop`. What runs is put into `tasks` as soon as it does.
pub(crate) async fn start(
    config: Config,
    listeners: &mut Listeners,
    leaf: &Leaf,
    (clock, rng): (Clock, Rng),
    stop: &Shutdown,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Result<(), UpError> {
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let store = open_store(&config, clock.clone(), rng.clone()).map_err(failed)?;
    let deps = ProviderDeps {
        metrics: Metrics::new(&clock),
        health: Health::new(clock.clone(), HEALTH_EVERY, HEALTH_TIMEOUT),
        clock,
        rng,
        store,
    };
    let browser_base = Url::parse(&format!("http://localhost:{}", listeners.issuer_port())).ok();
    let provider = Provider::new(config, deps, ProviderOptions { browser_base }).await.map_err(failed)?;

    let identity = TlsIdentity::from_pem(leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes())?;
    let tls = server_config(identity, TlsVersions::default(), ClientAuth::None)?;
    let mut spawn = |listener: TcpListener, transport: Transport, handler| {
        tasks.push(tokio::spawn(serve(listener, transport, handler, ServerLimits::default(), stop.clone())));
    };
    for listener in listeners.take_issuer()? {
        spawn(listener, Transport::TlsOrPlainOnLoopback(tls.clone()), provider.handler());
    }
    for listener in listeners.take_http()? {
        spawn(listener, Transport::Plain, provider.handler());
    }
    for listener in listeners.take_telemetry()? {
        spawn(listener, Transport::Plain, provider.telemetry_handler());
    }
    // After the listeners: the second signing key is made off the way to readiness.
    let background = provider.start(stop);
    tasks.push(tokio::spawn(background.wait()));
    Ok(())
}
