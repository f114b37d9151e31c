//! Where an issuer's keys come from: given by the caller, or discovered and fetched.
//!
//! Flow of a discovered issuer: at once, and then every ten seconds until it succeeds, the discovery document is fetched;
//! from then on its `jwks_uri` feeds a [`JwksCache`] for good. Before that every token of the issuer is refused with
//! "not initialized". A token never starts a discovery, so a flood of tokens cannot either.
//!
//! Compat: `New` of `oidc.go` in `k8s.io/apiserver` v0.37: discovery is never repeated after it succeeded, the keys are
//! fetched when the first token needs them, redirects and proxies are as Go's client has them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_jose::{CompactJws, VerifiedPayload};
use portcullis_kube::go::quote;
use portcullis_oidc::client::{
    DiscoveryError, DiscoveryOptions, JwksCache, JwksOptions, KeySource, KeySourceError, discover,
};
use portcullis_runtime::http_client::{
    EgressPolicy, HttpClient, HttpClientConfig, HttpClientError, ProxyFromEnv, Roots,
};
use portcullis_runtime::{Clock, Shutdown};
use tokio::sync::SetOnce;

use crate::config::ValidConfig;
use crate::error::{AuthnError, VerifyError};
use crate::policy::Policy;

/// How often discovery is tried until it succeeds.
const RETRY: Duration = Duration::from_secs(10);

/// Time for one request to an issuer, from its start to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How issuers are reached.
#[derive(Debug, Clone)]
pub struct Network {
    /// Proxies, as the process' environment names them.
    pub proxy: ProxyFromEnv,
    /// Where connections may go. kube-apiserver's are not restricted.
    pub egress: EgressPolicy,
    /// How often discovery is tried until it succeeds. Default 10 seconds, as kube-apiserver.
    pub retry: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { proxy: ProxyFromEnv::default(), egress: EgressPolicy::Any, retry: RETRY }
    }
}

/// The keys of one issuer.
pub(crate) enum Keys {
    /// Known from the start.
    Given(Arc<dyn KeySource>),
    /// Found by discovery.
    Discovered(Arc<Discovered>),
}

impl Keys {
    /// Whether tokens can be verified.
    pub(crate) fn initialised(&self) -> bool {
        match self {
            Self::Given(_) => true,
            Self::Discovered(discovered) => discovered.keys.get().is_some(),
        }
    }

    /// Why the issuer cannot be used yet, in kube-apiserver's words.
    pub(crate) fn unhealthy(&self, issuer: &str) -> Option<String> {
        match self {
            Self::Given(_) => None,
            Self::Discovered(discovered) => discovered.unhealthy(issuer),
        }
    }

    /// Ends once tokens can be verified.
    pub(crate) async fn ready(&self) {
        if let Self::Discovered(discovered) = self {
            discovered.keys.wait().await;
        }
    }

    /// Checks a signature, fetching keys where that is due.
    pub(crate) async fn verify(&self, jws: CompactJws<'_>) -> Result<VerifiedPayload, AuthnError> {
        let outcome = match self {
            Self::Given(source) => source.verify(jws).await,
            Self::Discovered(discovered) => match discovered.keys.get() {
                Some(cache) => cache.verify(jws).await,
                None => return Err(AuthnError::NotInitialized),
            },
        };
        outcome.map_err(|error| match error {
            KeySourceError::Signature(reason) => VerifyError::Signature(reason).into(),
            KeySourceError::Fetch(reason) => VerifyError::FetchingKeys(reason.to_string()).into(),
        })
    }
}

/// An issuer that is, or will be, discovered.
pub(crate) struct Discovered {
    keys: SetOnce<JwksCache>,
    last_error: Mutex<Option<String>>,
}

impl Discovered {
    /// Starts the discovery of `config`'s issuer in the background, until it succeeds or `shutdown` is triggered.
    ///
    /// Must be called inside a Tokio runtime. Errors when no HTTP client can be made, as with a broken proxy setting.
    pub(crate) fn start(
        config: &ValidConfig,
        policy: Policy,
        clock: Clock,
        network: &Network,
        shutdown: Shutdown,
    ) -> Result<Keys, HttpClientError> {
        let http = HttpClient::new(HttpClientConfig {
            roots: config.roots.clone().map_or(Roots::System, Roots::Only),
            timeout: REQUEST_TIMEOUT,
            proxy: network.proxy.clone(),
            egress: network.egress,
            ..HttpClientConfig::default()
        })?;
        let discovered = Arc::new(Self { keys: SetOnce::new(), last_error: Mutex::default() });
        let task = DiscoveryTask {
            http,
            issuer: config.config.issuer_url.clone(),
            options: DiscoveryOptions { document_url: config.config.discovery_url.clone() },
            jwks: match policy {
                Policy::Faithful => JwksOptions::faithful(),
                Policy::Strict => JwksOptions::limited(),
            },
            clock,
            retry: network.retry,
        };
        let state = Arc::clone(&discovered);
        tokio::spawn(async move { shutdown.unless(task.run(state)).await });
        Ok(Keys::Discovered(discovered))
    }

    fn unhealthy(&self, issuer: &str) -> Option<String> {
        if self.keys.get().is_some() {
            return None;
        }
        let issuer = quote(issuer);
        let error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reason = error.unwrap_or_else(|| format!("oidc: authenticator for issuer {issuer} is not initialized"));
        Some(format!("oidc: authenticator for issuer {issuer} is not healthy: {reason}"))
    }
}

struct DiscoveryTask {
    http: HttpClient,
    issuer: String,
    options: DiscoveryOptions,
    jwks: JwksOptions,
    clock: Clock,
    retry: Duration,
}

impl DiscoveryTask {
    async fn run(self, state: Arc<Discovered>) {
        loop {
            match self.discover().await {
                Ok(jwks_uri) => {
                    tracing::info!(issuer = self.issuer, jwks_uri, "oidc authenticator: issuer discovered");
                    let cache = JwksCache::new(self.http, jwks_uri, self.jwks, self.clock);
                    // Only this task sets it.
                    let _ = state.keys.set(cache);
                    return;
                }
                Err(reason) => {
                    tracing::warn!(issuer = self.issuer, "oidc authenticator: initializing plugin: {reason}");
                    *state.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                }
            }
            tokio::time::sleep(self.retry).await;
        }
    }

    /// The issuer's `jwks_uri`; the error is kube-apiserver's text.
    async fn discover(&self) -> Result<String, String> {
        let document = discover(&self.http, &self.issuer, &self.options).await.map_err(|error| match error {
            // Compat: go-oidc 2.5.0 words this differently from go-oidc 3.
            DiscoveryError::IssuerMismatch { expected, got } => format!(
                "oidc: issuer did not match the issuer returned by provider, expected {} got {}",
                quote(&expected),
                quote(&got)
            ),
            other => other.to_string(),
        })?;
        let uri = document.jwks_uri.filter(|uri| !uri.is_empty());
        uri.ok_or_else(|| "provider did not return JWKS URL".to_owned())
    }
}
