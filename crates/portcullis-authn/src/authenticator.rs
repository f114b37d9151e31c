//! The authenticator: a set of issuers, a token cache in front, one verdict for each token.
//!
//! Flow: cache → parse once → issuer by the unverified `iss` → initialised? → algorithm → signature (fetching keys when
//! they are remote) → claims, audience, times, user → cache.
//!
//! It must never answer "user" for bytes that no key has verified: [`VerifiedUser`] is made here and nowhere else, from a
//! [`VerifiedPayload`], which only a verified signature yields. It never logs a token.
//!
//! Compat: `AuthenticateToken` of `k8s.io/apiserver` v0.37's `oidc` package behind its token cache. Issuers are unique, so
//! looking one up by name gives the same answer as asking each in order.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use portcullis_jose::{CompactJws, JoseError, JwkSet, KeyHints};
use portcullis_oidc::client::{KeySource, StaticKeys};
use portcullis_runtime::http_client::HttpClientError;
use portcullis_runtime::{Clock, Shutdown, Timestamp};

use crate::cache::TokenCache;
use crate::config::{JwtConfig, ValidConfig};
use crate::error::{AuthnError, StrictError, VerifyError};
use crate::keys::{Discovered, Keys, Network};
use crate::policy::Policy;
use crate::route;
use crate::verdict::{Verdict, VerifiedUser};
use crate::verify;

/// Bytes of accepted tokens that are remembered, unless told otherwise.
const DEFAULT_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// How an authenticator runs, apart from whom it trusts.
#[derive(Debug, Clone)]
pub struct Options {
    /// kube-apiserver's verdict, or a safer one.
    pub policy: Policy,
    /// The time.
    pub clock: Clock,
    /// Bytes of accepted tokens that are remembered for up to 10 seconds; 0 remembers nothing. Default 32 MiB.
    pub cache_bytes: usize,
}

impl Options {
    /// Faithful, with the default cache.
    pub fn new(clock: Clock) -> Self {
        Self { policy: Policy::Faithful, clock, cache_bytes: DEFAULT_CACHE_BYTES }
    }
}

/// Turns bearer tokens into users. Cheap to clone; clones share keys and cache.
#[derive(Clone)]
pub struct Authenticator(Arc<Shared>);

struct Shared {
    issuers: HashMap<String, Issuer>,
    cache: TokenCache,
    policy: Policy,
    clock: Clock,
}

struct Issuer {
    url: Arc<str>,
    config: JwtConfig,
    keys: Keys,
}

/// A user, and when the token ends (`exp`, Unix seconds).
type Accepted = (VerifiedUser, i64);

impl Authenticator {
    /// An authenticator that discovers its issuers in the background and fetches their keys when tokens need them.
    ///
    /// It answers at once; tokens of an issuer that has not been discovered yet are refused as not initialised. Must be
    /// called inside a Tokio runtime. `shutdown` ends the discovery tasks.
    ///
    /// # Errors
    /// [`HttpClientError`] when no HTTP client can be made, as with a broken proxy setting.
    pub fn start(
        configs: impl IntoIterator<Item = ValidConfig>,
        options: Options,
        network: &Network,
        shutdown: &Shutdown,
    ) -> Result<Self, HttpClientError> {
        let discovered = |config: ValidConfig| {
            let (policy, clock) = (options.policy, options.clock.clone());
            Discovered::start(&config, policy, clock, network, shutdown.child()).map(|keys| (config, keys))
        };
        let issuers = configs.into_iter().map(discovered).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::build(issuers, options))
    }

    /// An authenticator with keys given, which never touches the network.
    pub fn with_static_keys(issuers: impl IntoIterator<Item = (ValidConfig, JwkSet)>, options: Options) -> Self {
        let hints = key_hints(options.policy);
        let sources = issuers.into_iter().map(|(config, keys)| {
            let source: Arc<dyn KeySource> = Arc::new(StaticKeys(keys.with_hints(hints)));
            (config, source)
        });
        Self::with_key_sources(sources, options)
    }

    /// An authenticator that asks `issuers`' own sources about signatures.
    pub fn with_key_sources(
        issuers: impl IntoIterator<Item = (ValidConfig, Arc<dyn KeySource>)>,
        options: Options,
    ) -> Self {
        Self::build(issuers.into_iter().map(|(config, source)| (config, Keys::Given(source))).collect(), options)
    }

    fn build(issuers: Vec<(ValidConfig, Keys)>, options: Options) -> Self {
        let issuers = issuers
            .into_iter()
            .map(|(ValidConfig { config, .. }, keys)| {
                (config.issuer_url.clone(), Issuer { url: Arc::from(config.issuer_url.as_str()), config, keys })
            })
            .collect();
        let Options { policy, clock, cache_bytes } = options;
        Self(Arc::new(Shared { issuers, cache: TokenCache::new(cache_bytes), policy, clock }))
    }

    /// The verdict on `token`, the text after `Bearer `.
    ///
    /// Waits only when keys have to be fetched, at most for one request to the issuer.
    pub async fn authenticate(&self, token: &str) -> Verdict {
        let shared = &*self.0;
        let now = shared.clock.now();
        if let Some(user) = shared.cache.get(token, now) {
            return Verdict::User(user);
        }
        match shared.decide(token).await {
            Ok(Some((user, exp))) => {
                shared.cache.insert(token, &user, exp, now);
                Verdict::User(user)
            }
            Ok(None) => Verdict::NoOpinion,
            Err(error) => Verdict::Refused(error),
        }
    }

    /// Forgets all accepted tokens, as after a change of what is trusted.
    pub fn clear_cache(&self) {
        self.0.cache.clear();
    }

    /// Ends once every issuer has been discovered; never, when one cannot be reached.
    pub async fn ready(&self) {
        for issuer in self.0.issuers.values() {
            issuer.keys.ready().await;
        }
    }

    /// The first issuer that cannot be used yet, in kube-apiserver's words; `None` when all can.
    pub fn unhealthy(&self) -> Option<String> {
        let mut issuers: Vec<&Issuer> = self.0.issuers.values().collect();
        issuers.sort_by(|a, b| a.url.cmp(&b.url));
        issuers.into_iter().find_map(|issuer| issuer.keys.unhealthy(&issuer.url))
    }
}

impl Shared {
    /// `None` is no opinion.
    async fn decide(&self, token: &str) -> Result<Option<Accepted>, AuthnError> {
        match route::parse(token) {
            Ok(jws) => {
                let Some(issuer) = self.issuer(jws.unverified_payload()) else { return Ok(None) };
                issuer.initialised()?;
                self.verify(issuer, jws).await.map(Some)
            }
            Err(error) => self.decide_leniently(token, error).await,
        }
    }

    /// A token that is not in canonical form: foreign, broken, or one that Go reads all the same.
    async fn decide_leniently(&self, token: &str, error: JoseError) -> Result<Option<Accepted>, AuthnError> {
        if token.len() > route::LIMITS.token_bytes {
            // Not read, so nobody knows whose it is; three parts make it a token all the same.
            let parts = token.split('.').count();
            return if parts == 3 { Err(VerifyError::Malformed(error).into()) } else { Ok(None) };
        }
        let Some(payload) = route::lenient_payload(token) else { return Ok(None) };
        let Some(issuer) = self.issuer(&payload) else { return Ok(None) };
        issuer.initialised()?;
        let canonical = match route::canonical(token).map_err(VerifyError::Malformed)? {
            // Compat: in go-jose's eyes no header is a header without `alg`.
            Cow::Borrowed(_) if token.starts_with('.') => return Err(issuer.unsupported("")),
            Cow::Borrowed(_) => return Err(issuer.malformed(error)),
            Cow::Owned(_) if self.policy == Policy::Strict => return Err(StrictError::NotCanonical.into()),
            Cow::Owned(canonical) => canonical,
        };
        let jws = route::parse(&canonical).map_err(|error| issuer.malformed(error))?;
        self.verify(issuer, jws).await.map(Some)
    }

    fn issuer(&self, unverified_payload: &[u8]) -> Option<&Issuer> {
        self.issuers.get(&route::untrusted_issuer(unverified_payload)?)
    }

    async fn verify(&self, issuer: &Issuer, jws: CompactJws<'_>) -> Result<Accepted, AuthnError> {
        let config = &issuer.config;
        if !config.signing_algs.iter().any(|alg| alg == jws.algorithm_name()) {
            return Err(issuer.unsupported(jws.algorithm_name()));
        }
        let payload = issuer.keys.verify(jws).await?;
        let evaluated = verify::evaluate(config, self.policy, payload.bytes(), self.clock.now())?;
        let expires_at = Timestamp::from_unix_seconds(evaluated.expiry);
        Ok((VerifiedUser::new(evaluated.user, Arc::clone(&issuer.url), expires_at), evaluated.expiry))
    }
}

impl Issuer {
    fn initialised(&self) -> Result<(), AuthnError> {
        if self.keys.initialised() { Ok(()) } else { Err(AuthnError::NotInitialized) }
    }

    fn unsupported(&self, got: &str) -> AuthnError {
        VerifyError::UnsupportedAlgorithm { expected: self.config.signing_algs.clone(), got: got.to_owned() }.into()
    }

    /// Compat: a header without `alg` is well-formed in go-jose's eyes and fails at the algorithm.
    fn malformed(&self, error: JoseError) -> AuthnError {
        match error {
            JoseError::HeaderMember("alg") => self.unsupported(""),
            error => VerifyError::Malformed(error).into(),
        }
    }
}

/// Whether `alg` and `use` of keys count (`docs/compat/kube-apiserver-authn.md`).
const fn key_hints(policy: Policy) -> KeyHints {
    match policy {
        Policy::Faithful => KeyHints::Ignore,
        Policy::Strict => KeyHints::Enforce,
    }
}
