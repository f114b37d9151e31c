//! Where an issuer's keys come from: given by the caller, or discovered and fetched.
//!
//! Flow of a discovered issuer: at once, and then every ten seconds until it succeeds, the discovery document is fetched;
//! from then on its `jwks_uri` feeds a [`JwksCache`] for good. Before that every token of the issuer is refused with
//! "not initialized". A token never starts a discovery, so a flood of tokens cannot either.
//!
//! Compat: `New` of `oidc.go` in `k8s.io/apiserver` v0.37: discovery is never repeated after it succeeded, the keys are
//! fetched when the first token needs them, proxies are as Go's client has them. Redirects from https to http are refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_jose::{CompactJws, VerifiedPayload};
use portcullis_kube::go::quote;
use portcullis_oidc::client::{
    DiscoveryError, DiscoveryOptions, JwksCache, JwksOptions, KeySource, KeySourceError, discover,
};
use portcullis_runtime::http_client::{EgressPolicy, HttpClient, HttpClientConfig, ProxyFromEnv, Roots};
use portcullis_runtime::{Clock, Shutdown};
use tokio::sync::SetOnce;

use crate::config::ValidConfig;
use crate::error::{AuthnError, VerifyError};
use crate::policy::Policy;

/// How often discovery is tried until it succeeds.
const RETRY: Duration = Duration::from_secs(10);

/// Time for one request, from its start to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How issuers, and the claims endpoints that their tokens name, are reached.
#[derive(Debug, Clone)]
pub struct Network {
    /// Proxies, as the process' environment names them.
    pub proxy: ProxyFromEnv,
    /// Where connections may go. kube-apiserver's are not restricted.
    pub egress: EgressPolicy,
    /// Time for one request to an issuer, and for the whole of a distributed claim: endpoint, redirects and keys. Default
    /// 30 seconds, as kube-apiserver.
    pub timeout: Duration,
    /// How often discovery is tried until it succeeds. Default 10 seconds, as kube-apiserver.
    pub retry: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { proxy: ProxyFromEnv::default(), egress: EgressPolicy::Any, timeout: REQUEST_TIMEOUT, retry: RETRY }
    }
}

/// The HTTP settings for `config`'s issuer and whatever its tokens lead to.
pub(crate) fn http_config(config: &ValidConfig, network: &Network) -> HttpClientConfig {
    HttpClientConfig {
        roots: config.roots.clone().map_or(Roots::System, Roots::Only),
        timeout: network.timeout,
        proxy: network.proxy.clone(),
        egress: network.egress,
        ..HttpClientConfig::default()
    }
}

/// The keys of one issuer.
pub(crate) enum Keys {
    /// Known from the start.
    Given(Arc<dyn KeySource>),
    /// Found by discovery.
    Discovered(Arc<Search>),
}

/// A discovery that ends when nobody needs it any more.
pub(crate) struct Search {
    discovered: Arc<Discovered>,
    stop: Shutdown,
}

impl Search {
    /// Starts `discovery` in the background; `shutdown` ends it as well. Must be called inside a Tokio runtime.
    pub(crate) fn start(discovery: Discovery, shutdown: &Shutdown) -> Arc<Self> {
        let stop = shutdown.child();
        Arc::new(Self { discovered: Discovered::start(discovery, stop.clone()), stop })
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

impl Keys {
    /// Whether tokens can be verified. Once true it stays true.
    pub(crate) fn initialised(&self) -> bool {
        match self {
            Self::Given(_) => true,
            Self::Discovered(search) => search.discovered.keys().is_some(),
        }
    }

    /// The same keys for new settings of the issuer.
    pub(crate) fn kept(&self) -> Self {
        match self {
            Self::Given(source) => Self::Given(Arc::clone(source)),
            Self::Discovered(search) => Self::Discovered(Arc::clone(search)),
        }
    }

    /// Why the issuer cannot be used yet, in kube-apiserver's words.
    pub(crate) fn unhealthy(&self, issuer: &str) -> Option<String> {
        match self {
            Self::Given(_) => None,
            Self::Discovered(search) => search.discovered.unhealthy(issuer),
        }
    }

    /// Ends once tokens can be verified.
    pub(crate) async fn ready(&self) {
        if let Self::Discovered(search) = self {
            search.discovered.keys.wait().await;
        }
    }

    /// Checks a signature, fetching keys where that is due.
    pub(crate) async fn verify(&self, jws: CompactJws<'_>) -> Result<VerifiedPayload, AuthnError> {
        let outcome = match self {
            Self::Given(source) => source.verify(jws).await,
            Self::Discovered(search) => match search.discovered.keys() {
                Some(cache) => cache.verify(jws).await,
                None => return Err(AuthnError::NotInitialized),
            },
        };
        outcome.map_err(|error| key_error(error).into())
    }
}

/// A signature that was not confirmed, in kube-apiserver's words.
pub(crate) fn key_error(error: KeySourceError) -> VerifyError {
    match error {
        KeySourceError::Signature(reason) => VerifyError::Signature(reason),
        KeySourceError::Fetch(reason) => VerifyError::FetchingKeys(reason.to_string()),
    }
}

/// What a discovery runs with.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) http: HttpClient,
    pub(crate) policy: Policy,
    pub(crate) clock: Clock,
    pub(crate) retry: Duration,
}

/// What an issuer is discovered for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is configured: its tokens are users.
    Users,
    /// A claims endpoint's token names it. Compat: its document may lack `jwks_uri`, which then fails later.
    Claims,
}

/// One issuer to be discovered.
pub(crate) struct Discovery {
    pub(crate) outside: Outside,
    pub(crate) issuer: String,
    /// Where the document is, if not at the well-known place.
    pub(crate) document_url: Option<String>,
    pub(crate) purpose: Purpose,
}

/// An issuer that is, or will be, discovered.
pub(crate) struct Discovered {
    keys: SetOnce<JwksCache>,
    last_error: Mutex<Option<String>>,
}

impl Discovered {
    /// Starts `discovery` in the background, until it succeeds or `shutdown` is triggered.
    ///
    /// Must be called inside a Tokio runtime.
    pub(crate) fn start(discovery: Discovery, shutdown: Shutdown) -> Arc<Self> {
        let discovered = Arc::new(Self { keys: SetOnce::new(), last_error: Mutex::default() });
        let state = Arc::clone(&discovered);
        tokio::spawn(async move { shutdown.unless(discovery.run(state)).await });
        discovered
    }

    /// The keys, once they can be had.
    pub(crate) fn keys(&self) -> Option<&JwksCache> {
        self.keys.get()
    }

    /// Whether an attempt has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.last_error().is_some()
    }

    fn unhealthy(&self, issuer: &str) -> Option<String> {
        if self.keys().is_some() {
            return None;
        }
        let issuer = quote(issuer);
        let error = self.last_error().clone();
        let reason = error.unwrap_or_else(|| format!("oidc: authenticator for issuer {issuer} is not initialized"));
        Some(format!("oidc: authenticator for issuer {issuer} is not healthy: {reason}"))
    }

    fn last_error(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discovery {
    async fn run(self, state: Arc<Discovered>) {
        loop {
            match self.discover().await {
                Ok(jwks_uri) => {
                    tracing::info!(issuer = self.issuer, jwks_uri, "oidc authenticator: issuer discovered");
                    let Outside { http, policy, clock, .. } = self.outside;
                    let options = match policy {
                        Policy::Faithful => JwksOptions::faithful(),
                        Policy::Strict => JwksOptions::limited(),
                    };
                    // Only this task sets it.
                    let _ = state.keys.set(JwksCache::new(http, jwks_uri, options, clock));
                    return;
                }
                Err(reason) => {
                    match self.purpose {
                        Purpose::Users => {
                            tracing::warn!(issuer = self.issuer, "oidc authenticator: initializing plugin: {reason}");
                        }
                        Purpose::Claims => tracing::warn!(
                            issuer = self.issuer,
                            "oidc authenticator: async token verifier: init verifier failed: {reason}"
                        ),
                    }
                    *state.last_error() = Some(reason);
                }
            }
            tokio::time::sleep(self.outside.retry).await;
        }
    }

    /// The issuer's `jwks_uri`; the error is kube-apiserver's text.
    async fn discover(&self) -> Result<String, String> {
        let options = DiscoveryOptions { document_url: self.document_url.clone() };
        let document = discover(&self.outside.http, &self.issuer, &options).await.map_err(|error| match error {
            // Compat: go-oidc 2.5.0 words this differently from go-oidc 3.
            DiscoveryError::IssuerMismatch { expected, got } => format!(
                "oidc: issuer did not match the issuer returned by provider, expected {} got {}",
                quote(&expected),
                quote(&got)
            ),
            other => other.to_string(),
        })?;
        let uri = document.jwks_uri.unwrap_or_default();
        match self.purpose {
            Purpose::Users if uri.is_empty() => Err("provider did not return JWKS URL".to_owned()),
            Purpose::Users | Purpose::Claims => Ok(uri),
        }
    }
}
