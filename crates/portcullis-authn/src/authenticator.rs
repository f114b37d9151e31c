//! The authenticator: a set of issuers, a token cache in front, one verdict for each token.
//!
//! Flow: cache → parse once → issuer by the unverified `iss` → initialised? → algorithm → signature (fetching keys when
//! they are remote) → claims, audience, times → groups that are to be had elsewhere → user → cache.
//!
//! It must never answer "user" for bytes that no key has verified: [`VerifiedUser`] is made here and nowhere else, from a
//! [`VerifiedPayload`], which only a verified signature yields. It never logs a token.
//!
//! The set of issuers may be replaced ([`crate::LiveAuthenticator`]): each request is decided by the set that it met, and
//! each set has a cache of its own, so that nothing accepted by one is remembered by the next. What an issuer that moves accepts
//! as what it was is not remembered at all.
//!
//! Compat: `AuthenticateToken` of `k8s.io/apiserver` v0.37's `oidc` package behind its token cache. Issuers are unique, so
//! looking one up by name gives the same answer as asking each in order, and it is the error of that one that counts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use portcullis_jose::{CompactJws, JoseError, JwkSet, KeyHints};
use portcullis_oidc::client::{KeySource, StaticKeys};
use portcullis_runtime::http_client::HttpClientError;
use portcullis_runtime::{Clock, Shutdown, Timestamp};

use crate::cache::TokenCache;
use crate::config::ValidConfig;
use crate::distributed::DistributedClaims;
use crate::error::{AuthnError, StrictError, VerifyError};
use crate::go::json::Member;
use crate::issuer::{Issuer, Surroundings};
use crate::keys::{Keys, Network};
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
    /// What happens to tokens that say that their groups are to be had from an endpoint. Default: it is asked.
    pub distributed_claims: DistributedClaims,
}

impl Options {
    /// As kube-apiserver, with the default cache.
    pub fn new(clock: Clock) -> Self {
        Self {
            policy: Policy::Faithful,
            clock,
            cache_bytes: DEFAULT_CACHE_BYTES,
            distributed_claims: DistributedClaims::Fetch,
        }
    }
}

/// Turns bearer tokens into users. Cheap to clone; clones share keys and cache.
#[derive(Clone)]
pub struct Authenticator(Arc<Shared>);

struct Shared {
    trusted: ArcSwap<Trusted>,
    policy: Policy,
    clock: Clock,
    cache_bytes: usize,
}

/// Whom tokens are accepted from, and what was accepted of late.
struct Trusted {
    issuers: HashMap<String, Arc<Issuer>>,
    cache: TokenCache,
}

/// A user, and until when it may be remembered (Unix seconds): `exp` of the token, or of the one that its groups came in. `None`
/// when it must not be.
type Accepted = (VerifiedUser, Option<i64>);

impl Authenticator {
    /// An authenticator that discovers its issuers in the background and fetches their keys when tokens need them.
    ///
    /// It answers at once; tokens of an issuer that has not been discovered yet are refused as not initialised. Must be
    /// called inside a Tokio runtime. `shutdown` ends the discovery tasks.
    ///
    /// ```
    /// use portcullis_authn::{Authenticator, Network, Options, TrustConfiguration, Verdict};
    /// use portcullis_runtime::{Clock, Shutdown};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = portcullis_testkit::FakeIssuer::start().await;
    /// # let (issuer, ca) = (server.issuer(), serde_json::json!(server.ca().pem()));
    /// let file = format!(
    ///     r#"
    /// apiVersion: apiserver.config.k8s.io/v1
    /// kind: AuthenticationConfiguration
    /// jwt:
    /// - issuer: {{url: "{issuer}", audiences: [kubernetes], certificateAuthority: {ca}}}
    ///   claimMappings: {{username: {{claim: sub, prefix: ""}}}}
    /// "#
    /// );
    /// let trust = TrustConfiguration::load(file.as_bytes(), &[])?;
    /// let (options, network) = (Options::new(Clock::system()), Network::default());
    /// let shutdown = Shutdown::new();
    /// let authenticator = Authenticator::start(trust.issuers().iter().cloned(), options, &network, &shutdown)?;
    /// // A server need not wait for this: it can serve the tokens of every issuer that has been found.
    /// authenticator.ready().await;
    ///
    /// # let exp = Clock::system().now().unix_seconds() + 60;
    /// # let token = server.sign(&serde_json::json!({ "iss": issuer, "aud": "kubernetes", "sub": "jane", "exp": exp }));
    /// let Verdict::User(user) = authenticator.authenticate(&token).await else { panic!("not accepted") };
    /// assert_eq!(user.info().username, "jane");
    /// shutdown.trigger();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HttpClientError`] when no HTTP client can be made, as with a broken proxy setting.
    pub fn start(
        configs: impl IntoIterator<Item = ValidConfig>,
        options: Options,
        network: &Network,
        shutdown: &Shutdown,
    ) -> Result<Self, HttpClientError> {
        let surroundings = Surroundings::new(&options, network, shutdown);
        let discovered = |config: ValidConfig| Issuer::discovered(config, &surroundings);
        let issuers = configs.into_iter().map(discovered).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::build(issuers, options))
    }

    /// An authenticator with keys given, which never touches the network: it refuses tokens whose groups would have to be
    /// fetched.
    pub fn with_static_keys(issuers: impl IntoIterator<Item = (ValidConfig, JwkSet)>, options: Options) -> Self {
        let hints = key_hints(options.policy);
        let sources = issuers.into_iter().map(|(config, keys)| {
            let source: Arc<dyn KeySource> = Arc::new(StaticKeys(keys.with_hints(hints)));
            (config, source)
        });
        Self::with_key_sources(sources, options)
    }

    /// An authenticator that asks `issuers`' own sources about signatures, and like [`Authenticator::with_static_keys`]
    /// fetches no claims.
    ///
    /// Whether the `alg` and `use` that keys are marked with count is the sources' to decide, whatever the policy:
    /// [`KeyHints::Ignore`] is kube-apiserver's, [`KeyHints::Enforce`] that of [`Policy::Strict`].
    ///
    /// ```
    /// use std::sync::{Arc, RwLock};
    ///
    /// use portcullis_authn::{Authenticator, KeySource, KeySourceError, Options, TrustConfiguration, Verdict, Verification};
    /// use portcullis_jose::{CompactJws, JwkSet, KeyHints, KeyKind, SigningKey, sign_compact};
    /// use portcullis_runtime::Clock;
    ///
    /// /// Keys that somebody else replaces.
    /// #[derive(Default)]
    /// struct Replaced(RwLock<JwkSet>);
    ///
    /// impl KeySource for Replaced {
    ///     fn verify<'a>(&'a self, jws: CompactJws<'a>) -> Verification<'a> {
    ///         Box::pin(async move {
    ///             let keys = self.0.read().expect("nobody panics").clone().with_hints(KeyHints::Ignore);
    ///             jws.verify(&keys).map_err(KeySourceError::Signature)
    ///         })
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file = br#"
    /// apiVersion: apiserver.config.k8s.io/v1
    /// kind: AuthenticationConfiguration
    /// jwt:
    /// - issuer: {url: "https://issuer.example", audiences: [kubernetes]}
    ///   claimMappings: {username: {claim: sub, prefix: ""}}
    /// "#;
    /// let trust = TrustConfiguration::load(file, &[])?;
    /// let keys = Arc::new(Replaced::default());
    /// let sources = trust.issuers().iter().map(|issuer| (issuer.clone(), keys.clone() as Arc<dyn KeySource>));
    /// let authenticator = Authenticator::with_key_sources(sources, Options::new(Clock::mock(1_800_000_000).0));
    ///
    /// let key = SigningKey::generate(KeyKind::P256, "a".to_owned())?;
    /// let claims = br#"{"iss":"https://issuer.example","aud":"kubernetes","sub":"jane","exp":1800003600}"#;
    /// let token = sign_compact(&key, key.default_algorithm(), None, claims)?;
    /// assert!(matches!(authenticator.authenticate(&token).await, Verdict::Refused(_)));
    /// *keys.0.write().expect("nobody panics") = JwkSet::from_keys(vec![key.public().clone()]);
    /// assert!(matches!(authenticator.authenticate(&token).await, Verdict::User(_)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_key_sources(
        issuers: impl IntoIterator<Item = (ValidConfig, Arc<dyn KeySource>)>,
        options: Options,
    ) -> Self {
        let given = |(config, source): (ValidConfig, Arc<dyn KeySource>)| Issuer::given(config, Keys::Given(source));
        Self::build(issuers.into_iter().map(given).collect(), options)
    }

    pub(crate) fn build(issuers: Vec<Issuer>, options: Options) -> Self {
        let Options { policy, clock, cache_bytes, .. } = options;
        let trusted = ArcSwap::from_pointee(Trusted::new(issuers.into_iter().map(Arc::new), cache_bytes));
        Self(Arc::new(Shared { trusted, policy, clock, cache_bytes }))
    }

    /// The issuer with this URL.
    pub(crate) fn issuer(&self, url: &str) -> Option<Arc<Issuer>> {
        self.0.trusted.load().issuers.get(url).cloned()
    }

    /// The URLs of all issuers, sorted.
    pub(crate) fn issuer_urls(&self) -> Vec<String> {
        let mut urls: Vec<String> = self.0.trusted.load().issuers.keys().cloned().collect();
        urls.sort_unstable();
        urls
    }

    /// From now on tokens are decided by `issuers`; what is under way ends as it began.
    pub(crate) fn replace(&self, issuers: impl IntoIterator<Item = Arc<Issuer>>) {
        self.0.trusted.store(Arc::new(Trusted::new(issuers, self.0.cache_bytes)));
    }

    /// The verdict on `token`, the text after `Bearer `.
    ///
    /// Waits only when keys have to be fetched, at most for one request to the issuer, and when groups have to be fetched,
    /// at most for [`Network::timeout`].
    pub async fn authenticate(&self, token: &str) -> Verdict {
        let shared = &*self.0;
        let now = shared.clock.now();
        if let Some(user) = shared.trusted.load().cache.get(token, now) {
            return Verdict::User(user);
        }
        let trusted = shared.trusted.load_full();
        match shared.decide(&trusted, token).await {
            Ok(Some((user, until))) => {
                if let Some(until) = until {
                    trusted.cache.insert(token, &user, until, now);
                }
                Verdict::User(user)
            }
            Ok(None) => Verdict::NoOpinion,
            Err(error) => Verdict::Refused(error),
        }
    }

    /// Ends once every issuer has been discovered; never, when one cannot be reached.
    pub async fn ready(&self) {
        let trusted = self.0.trusted.load_full();
        for issuer in trusted.issuers.values() {
            issuer.keys.ready().await;
        }
    }

    /// The first issuer that cannot be used yet, in kube-apiserver's words; `None` when all can.
    pub fn unhealthy(&self) -> Option<String> {
        let trusted = self.0.trusted.load_full();
        let mut issuers: Vec<&Arc<Issuer>> = trusted.issuers.values().collect();
        issuers.sort_by(|a, b| a.url.cmp(&b.url));
        issuers.into_iter().find_map(|issuer| issuer.keys.unhealthy(&issuer.url))
    }
}

impl Trusted {
    fn new(issuers: impl IntoIterator<Item = Arc<Issuer>>, cache_bytes: usize) -> Self {
        let issuers = issuers.into_iter().map(|issuer| (issuer.config().issuer_url.clone(), issuer)).collect();
        Self { issuers, cache: TokenCache::new(cache_bytes) }
    }

    fn issuer(&self, unverified_payload: &[u8]) -> Option<&Issuer> {
        self.issuers.get(&route::untrusted_issuer(unverified_payload)?).map(|issuer| issuer.in_force())
    }
}

impl Shared {
    /// `None` is no opinion.
    async fn decide(&self, trusted: &Trusted, token: &str) -> Result<Option<Accepted>, AuthnError> {
        match route::parse(token, &route::LIMITS) {
            Ok(jws) => {
                let Some(issuer) = trusted.issuer(jws.unverified_payload()) else { return Ok(None) };
                issuer.initialised()?;
                self.verify(issuer, jws).await.map(Some)
            }
            Err(error) => self.decide_leniently(trusted, token, error).await,
        }
    }

    /// A token that is not in canonical form: foreign, broken, or one that Go reads all the same.
    async fn decide_leniently(
        &self,
        trusted: &Trusted,
        token: &str,
        error: JoseError,
    ) -> Result<Option<Accepted>, AuthnError> {
        if token.len() > route::LIMITS.token_bytes {
            // Not read, so nobody knows whose it is; three parts make it a token all the same.
            let parts = token.split('.').count();
            return if parts == 3 { Err(VerifyError::Malformed(error).into()) } else { Ok(None) };
        }
        let Ok(payload) = route::lenient_payload(token) else { return Ok(None) };
        let Some(issuer) = trusted.issuer(&payload) else { return Ok(None) };
        issuer.initialised()?;
        let canonical = match route::canonical(token).map_err(VerifyError::Malformed)? {
            Cow::Borrowed(_) => return Err(verify::malformed(issuer.config(), token, error).into()),
            Cow::Owned(_) if self.policy == Policy::Strict => return Err(StrictError::NotCanonical.into()),
            Cow::Owned(canonical) => canonical,
        };
        let jws = verify::parse(issuer.config(), &canonical, &route::LIMITS)?;
        self.verify(issuer, jws).await.map(Some)
    }

    async fn verify(&self, issuer: &Issuer, jws: CompactJws<'_>) -> Result<Accepted, AuthnError> {
        let config = issuer.config();
        verify::check_algorithm(config, &jws)?;
        let payload = issuer.keys.verify(jws).await?;
        // Declared before the claims, which borrow from it.
        let resolved;
        let verify::Checked { mut members, expiry } =
            verify::check::<AuthnError>(config, &config.issuer_url, self.policy, payload.bytes(), self.clock.now())?;
        let mut until = expiry;
        if let Some((claim, source)) = issuer.distributed(&members)? {
            // Boxed, so that the many tokens without such claims carry nothing of it.
            resolved = Box::pin(issuer.resolve(claim, source)).await?;
            members.push(Member { name: Cow::Borrowed(claim), value: &resolved.value });
            until = until.min(resolved.expiry);
        }
        let user = verify::user(issuer.valid(), self.policy, &members)?;
        let expires_at = Timestamp::from_unix_seconds(until);
        let remembered = issuer.remembers().then_some(until);
        Ok((VerifiedUser::new(user, Arc::clone(&issuer.url), expires_at), remembered))
    }
}

/// Whether `alg` and `use` of keys count (`docs/compat/kube-apiserver-authn.md`).
const fn key_hints(policy: Policy) -> KeyHints {
    match policy {
        Policy::Faithful => KeyHints::Ignore,
        Policy::Strict => KeyHints::Enforce,
    }
}
