//! The provider: its parts put together, its background work, and its handlers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use portcullis_runtime::net::{Cidr, is_loopback};
use portcullis_runtime::real_ip::RealIp;
use portcullis_runtime::server::{BodyError, ClientIp, ConnInfo, Handler, Request, Response, ResponseFuture, full, read_body, with_context};
use portcullis_runtime::telemetry::{Health, Metrics, TelemetryHandler, instrument};
use portcullis_runtime::{Clock, Rng, Shutdown};
use portcullis_storage::{Client, Password, RotationPolicy, Store, StoreOptions};
use tokio::task::JoinSet;

use crate::app::App;
use crate::authflow::{Flows, connector_ids};
use crate::config::{Config, RefreshPolicy};
use crate::endpoints::Discovery;
use crate::http::{Cors, Inbound, Reply, text};
use crate::pages::{Pages, PagesError};
use crate::passwords::{HashPool, LocalPasswords, Throttle};
use crate::router;
use crate::signer::{CHECK_EVERY, Policy, Signer, SignerError};
use crate::tokens::Tokens;

/// Largest request body.
const MAX_BODY: usize = 64 * 1024;
/// How long a request body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often what has expired is deleted, as Dex.
const COLLECT_EVERY: Duration = Duration::from_secs(300);
/// Most records deleted in one go.
const COLLECT_LIMIT: usize = 10_000;
/// How often failures that are only in memory are written.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// Days after which an unused refresh token ends when the file does not say (design.md decision 3).
const IDLE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// What the provider stands on.
#[derive(Clone, Debug)]
pub struct ProviderDeps {
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Records; made with [`Config::store_options`], so that it knows the file's clients and users.
    pub store: Store,
    /// Metrics of requests.
    pub metrics: Metrics,
    /// Checks of the parts; the provider adds its own.
    pub health: Health,
}

/// How the provider is embedded.
#[derive(Clone, Debug, Default)]
pub struct ProviderOptions {
    /// Scheme and authority, such as `http://localhost:5554`, under which browsers reach the pages when that is not the
    /// issuer's. Discovery's `authorization_endpoint` is there; every other endpoint stays at the issuer. With it, plain
    /// http is answered only for names of this machine, because other sites' pages can reach loopback by DNS rebinding.
    pub browser_base: Option<url::Url>,
}

/// The provider cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Signing keys.
    #[error("signing keys")]
    Signer(#[from] SignerError),
    /// Pages.
    #[error("pages")]
    Pages(#[from] PagesError),
    /// The base for browsers is no http or https URL.
    #[error("the base URL for browsers must be http or https, with a host")]
    BrowserBase,
}

/// The OpenID Connect provider. Cheap to clone.
#[derive(Clone)]
pub struct Provider {
    front: Arc<Front>,
    metrics: Metrics,
    real_ip: Option<RealIp>,
}

/// Background work that is running.
#[derive(Debug)]
pub struct Background(JoinSet<()>);

impl Background {
    /// Waits until all of it has ended, after shutdown was asked for.
    pub async fn wait(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

impl Config {
    /// The clients and users of the file, for the store.
    #[must_use]
    pub fn store_options(&self) -> StoreOptions {
        let clients = self.clients.iter().map(|c| Client {
            id: c.id.clone(),
            secret: c.secret.clone(),
            redirect_uris: c.redirect_uris.clone(),
            trusted_peers: c.trusted_peers.clone(),
            public: c.public,
            name: c.name.clone(),
            logo_url: c.logo_url.clone(),
            allowed_connectors: c.allowed_connectors.clone(),
            ..Client::default()
        });
        let users = self.passwords.iter().map(|u| Password {
            email: u.shown_email.clone(),
            hash: u.hash.to_text().into(),
            username: u.username.clone(),
            name: u.name.clone(),
            preferred_username: u.preferred_username.clone(),
            email_verified: Some(u.email_verified),
            user_id: u.user_id.clone(),
            groups: u.groups.clone(),
        });
        StoreOptions { key_encryption: None, static_clients: clients.collect(), static_passwords: users.collect() }
    }
}

impl Provider {
    /// Puts the parts together. Loads the signing keys, or makes the first one.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn new(config: Config, deps: ProviderDeps, options: ProviderOptions) -> Result<Self, ProviderError> {
        let ProviderDeps { clock, rng, store, metrics, health } = deps;
        let browser_base = match options.browser_base {
            None => None,
            Some(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url.origin().ascii_serialization()),
            Some(_) => return Err(ProviderError::BrowserBase),
        };
        let issuer = config.issuer.clone();
        let policy = Policy { kind: config.signer.kind, rotation: config.signer.rotation, token_lifetime: config.expiry.id_tokens };
        let signer = Signer::open(store.clone(), clock.clone(), rng.clone(), policy).await?;
        let pages = Pages::new(&issuer, &config.frontend)?;
        let tokens = Tokens::new(issuer.as_str(), signer.clone(), clock.clone(), rng.clone(), config.expiry.id_tokens);
        let flows = Flows::new(store.clone(), clock.clone(), rng.clone(), issuer.as_str(), issuer.path());
        let attempts = config.attempts;
        let costs: Vec<u32> = config.passwords.iter().map(|p| p.hash.cost()).collect();
        let throttle = Throttle::new(store.clone(), clock.clone(), &rng, attempts);
        let pool = HashPool::new(attempts.hash_workers, attempts.hash_queue);
        let passwords = LocalPasswords::new(store.clone(), pool, throttle, &costs);
        let discovery = Discovery::new(&config, browser_base.as_deref(), &signer.ring());
        let cors = Cors::new(&config.web.allowed_origins, &config.web.allowed_headers);
        let real_ip = config.web.client_remote_ip.as_ref().map(|c| RealIp::new(c.header.clone(), c.trusted.clone()));
        let trusted = config.web.client_remote_ip.as_ref().map(|c| c.trusted.clone()).unwrap_or_default();
        let rotation = rotation_policy(&config.expiry.refresh);
        let connectors = connector_ids(config.password_db);
        let probe = store.clone();
        health.check("storage", move || {
            let store = probe.clone();
            async move {
                let found = store.signing_keys().load().await.map_err(|e| format!("{e}: {}", crate::authflow::error_source(&e)))?;
                found.map(|_| "ok".to_owned()).ok_or_else(|| "the signing keys are gone".to_owned())
            }
        });
        let app = App { config, clock, rng, store, pages, signer, tokens, flows, passwords, cors, discovery, connectors, rotation };
        let local_names = browser_base.map(|_| issuer.as_str().to_owned());
        Ok(Self { front: Arc::new(Front { app, health, trusted, local_names }), metrics, real_ip })
    }

    /// Answers the provider's own listeners.
    #[must_use]
    pub fn handler(&self) -> Arc<dyn Handler> {
        let counted = instrument(self.front.clone(), &self.metrics);
        with_context(counted, self.front.app.rng.clone(), self.real_ip.clone())
    }

    /// Answers the telemetry listener.
    #[must_use]
    pub fn telemetry_handler(&self) -> Arc<dyn Handler> {
        Arc::new(TelemetryHandler::new(self.metrics.clone(), self.front.health.clone()))
    }

    /// Starts the background work: key rotation (the second key is made at once), deletion of what has expired, writing of
    /// failure counts, health checks. It ends with `shutdown`.
    #[must_use]
    pub fn start(&self, shutdown: &Shutdown) -> Background {
        let mut tasks = JoinSet::new();
        for job in [Job::RotateKeys, Job::Collect, Job::WriteFailures] {
            tasks.spawn(job.repeat(self.front.clone(), shutdown.clone()));
        }
        let front = self.front.clone();
        let stop = shutdown.clone();
        tasks.spawn(async move { front.health.run(&stop).await });
        Background(tasks)
    }

    /// Answers a request without a socket, for tests of programs that embed the provider.
    #[cfg(test)]
    pub(crate) async fn respond(&self, inbound: &Inbound) -> Reply {
        router::route(&self.front.app, &self.front.health, inbound).await
    }

    #[cfg(test)]
    pub(crate) fn app(&self) -> &App {
        &self.front.app
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.front.app.config.issuer.as_str()).finish_non_exhaustive()
    }
}

/// Background work.
#[derive(Clone, Copy)]
enum Job {
    RotateKeys,
    Collect,
    WriteFailures,
}

impl Job {
    const fn interval(self) -> Duration {
        match self {
            Self::RotateKeys => CHECK_EVERY,
            Self::Collect => COLLECT_EVERY,
            Self::WriteFailures => FLUSH_EVERY,
        }
    }

    /// Does it now and at every interval until shutdown, and what must not be lost once more at the end.
    async fn repeat(self, front: Arc<Front>, shutdown: Shutdown) {
        let app = &front.app;
        let rounds = async {
            loop {
                self.run(app).await;
                app.clock.sleep(self.interval()).await;
            }
        };
        shutdown.unless(rounds).await;
        if let Self::WriteFailures = self {
            self.run(app).await;
        }
    }

    async fn run(self, app: &App) {
        let failed = |what: &str, error: &dyn std::error::Error| {
            tracing::error!(%error, source = crate::authflow::error_source(error), "{what}");
        };
        match self {
            Self::RotateKeys => {
                if let Err(error) = app.signer.check().await {
                    failed("failed to rotate keys", &error);
                }
            }
            Self::Collect => match app.store.collect(COLLECT_LIMIT).await {
                Ok(done) if done.records > 0 => tracing::info!(records = done.records, "garbage collection run"),
                Ok(_) => {}
                Err(error) => failed("garbage collection failed", &error),
            },
            Self::WriteFailures => {
                if let Err(error) = app.store.failures().flush(app.config.attempts.window).await {
                    failed("failure counts could not be written", &error);
                }
            }
        }
    }
}

/// Dex's policy, with a grace for lost replies and an end for what nobody uses (design.md decision 3), unless the file
/// says otherwise.
fn rotation_policy(policy: &RefreshPolicy) -> RotationPolicy {
    let default = RotationPolicy::default();
    RotationPolicy {
        rotate: policy.rotate,
        reuse_interval: policy.reuse_interval.unwrap_or(Duration::ZERO),
        grace: policy.reuse_interval.unwrap_or(default.grace),
        absolute_lifetime: policy.absolute_lifetime,
        idle_lifetime: match policy.valid_if_not_used_for {
            None => Some(IDLE_LIFETIME),
            Some(Duration::ZERO) => None,
            some => some,
        },
    }
}

/// Turns the connection's requests into ours.
struct Front {
    app: App,
    health: Health,
    /// Who may say how the browser's side of the connection looks.
    trusted: Vec<Cidr>,
    /// The issuer, when plain http is for this machine's names and the issuer's alone.
    local_names: Option<String>,
}

impl Handler for Front {
    fn handle(self: Arc<Self>, request: Request) -> ResponseFuture {
        Box::pin(async move {
            let reply = match self.read(request).await {
                Ok(inbound) => router::route(&self.app, &self.health, &inbound).await,
                Err(reply) => *reply,
            };
            let (parts, body) = reply.into_parts();
            Response::from_parts(parts, full(body))
        })
    }
}

impl Front {
    async fn read(&self, request: Request) -> Result<Inbound, Box<Reply>> {
        let (mut parts, body) = request.into_parts();
        let info = parts.extensions.get::<ConnInfo>();
        let peer = info.map(|i| i.peer.ip().to_canonical());
        let tls = info.is_some_and(|i| i.tls);
        let proxied = peer.is_some_and(|ip| self.trusted.iter().any(|c| c.contains(ip)));
        let forwarded_tls = proxied && parts.headers.get("x-forwarded-proto").is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"https"));
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
        {
            // HTTP/2 has no Host header.
            parts.headers.insert(header::HOST, host);
        }
        if !tls && !self.host_is_ours(parts.headers.get(header::HOST)) {
            return Err(Box::new(text(http::StatusCode::MISDIRECTED_REQUEST, "this host is not served here\n")));
        }
        let path = parts.uri.path();
        let Some(path) = below(path, self.app.config.issuer.path()) else { return Err(Box::new(router::not_found())) };
        let path = path.to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = match parts.method {
            http::Method::GET | http::Method::HEAD | http::Method::OPTIONS => Bytes::new(),
            _ => read_body(body, MAX_BODY, BODY_TIMEOUT).await.map_err(|error| Box::new(body_error(error)))?,
        };
        Ok(Inbound {
            method: parts.method,
            path,
            query,
            body,
            secure: tls || forwarded_tls,
            client: parts.extensions.get::<ClientIp>().map(|c| c.0).or(peer),
            headers: parts.headers,
        })
    }

    fn host_is_ours(&self, host: Option<&http::HeaderValue>) -> bool {
        let Some(issuer) = &self.local_names else { return true };
        let Some(host) = host.and_then(|h| h.to_str().ok()) else { return false };
        let Ok(url) = url::Url::parse(&format!("http://{host}/")) else { return false };
        let same_as_issuer = url::Url::parse(issuer).is_ok_and(|i| i.host() == url.host());
        let local = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => is_loopback(IpAddr::V4(ip)) && ip != Ipv4Addr::UNSPECIFIED,
            Some(url::Host::Ipv6(ip)) => is_loopback(IpAddr::V6(ip)),
            None => false,
        };
        local || same_as_issuer
    }
}

fn body_error(error: BodyError) -> Reply {
    match error {
        BodyError::TooLarge => text(http::StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large\n"),
        BodyError::Timeout => text(http::StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time\n"),
        BodyError::Broken => text(http::StatusCode::BAD_REQUEST, "the request body is broken\n"),
    }
}

/// The path below the issuer's.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_issuers_path_is_ours() {
        for (path, prefix, want) in [
            ("/keys", "", Some("/keys")),
            ("/dex/keys", "/dex", Some("/keys")),
            ("/dex", "/dex", Some("")),
            ("/dexter/keys", "/dex", None),
            ("/keys", "/dex", None),
            ("/", "", Some("/")),
        ] {
            assert_eq!(below(path, prefix), want, "{path}");
        }
    }

    #[test]
    fn what_the_file_says_about_refresh_tokens_counts() {
        let none = RefreshPolicy { rotate: true, reuse_interval: None, absolute_lifetime: None, valid_if_not_used_for: None };
        let default = rotation_policy(&none);
        assert_eq!((default.grace.as_secs(), default.idle_lifetime), (30, Some(IDLE_LIFETIME)));
        let strict = rotation_policy(&RefreshPolicy { reuse_interval: Some(Duration::ZERO), valid_if_not_used_for: Some(Duration::ZERO), ..none });
        assert_eq!((strict.grace, strict.reuse_interval, strict.idle_lifetime), (Duration::ZERO, Duration::ZERO, None));
    }
}
