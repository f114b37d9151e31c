//! The provider: its parts put together, its background work, and its handlers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portcullis_runtime::real_ip::RealIp;
use portcullis_runtime::server::{Handler, with_context};
use portcullis_runtime::telemetry::{Health, Metrics, TelemetryHandler, instrument};
use portcullis_runtime::{Clock, Rng, Shutdown};
use portcullis_storage::{Client, Password, RotationPolicy, Store, StoreOptions, UseError};
use tokio::task::{JoinError, JoinSet};

use crate::app::App;
use crate::authflow::{Devices, Flows, connector_ids, error_source};
use crate::background::{Job, collect_expired, keep_announced, keep_data_keys, seal_again};
use crate::config::{Config, RefreshPolicy};
use crate::configured;
use crate::endpoints::Discovery;
use crate::front::{Front, Unnamed};
use crate::http::Cors;
#[cfg(any(test, fuzzing))]
use crate::http::{Inbound, Reply};
use crate::pages::{Pages, PagesError};
use crate::passwords::{HashPool, LocalPasswords, Throttle};
use crate::signer::{Policy, Signer, SignerError};
use crate::tokens::Tokens;

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
    options: ProviderOptions,
}

/// Background work that is running.
#[derive(Debug)]
pub struct Background {
    tasks: JoinSet<()>,
    /// Why the store is not to be used any more.
    taken: Arc<OnceLock<UseError>>,
}

/// Why background work has ended that nobody has asked to end.
#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    /// A job panicked. The others are ended: a provider that rotates its keys and no longer deletes, or the other way round,
    /// is none that anybody has looked at.
    #[error("background work of the provider panicked")]
    Panicked(#[source] JoinError),
    /// Something fills the store, or has filled it.
    #[error("the store is no longer to be used")]
    Taken(#[source] UseError),
}

impl Background {
    /// Waits until all of it has ended, after shutdown was asked for.
    ///
    /// # Errors
    /// What has ended it from inside.
    pub async fn wait(mut self) -> Result<(), BackgroundError> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(BackgroundError::Panicked)?;
        }
        self.taken.get().map_or(Ok(()), |error| Err(BackgroundError::Taken(error.clone())))
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
        StoreOptions { static_clients: clients.collect(), static_passwords: users.collect(), ..StoreOptions::default() }
    }
}

impl Provider {
    /// Puts the parts together. Loads the signing keys, or makes the first one.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn new(config: Config, deps: ProviderDeps, options: ProviderOptions) -> Result<Self, ProviderError> {
        Self::build(config, deps, options, None).await
    }

    /// This provider with another configuration of the same issuer and storage: records, signing keys, counted failures,
    /// metrics and sign-ins under way are shared, so that sessions and refresh tokens of what has not changed go on. This one
    /// still answers what has reached it; whoever swaps the handlers ends its background work.
    ///
    /// # Errors
    /// See [`ProviderError`]; this one is untouched then.
    pub async fn reconfigured(&self, config: Config) -> Result<Self, ProviderError> {
        let app = &self.front.app;
        let StoreOptions { static_clients, static_passwords, static_connectors } = config.store_options();
        let deps = ProviderDeps {
            clock: app.clock.clone(),
            rng: app.rng.clone(),
            store: app.store.with_static(static_clients, static_passwords, static_connectors),
            metrics: self.metrics.clone(),
            health: self.front.health.clone(),
        };
        Self::build(config, deps, self.options.clone(), Some(app)).await
    }

    /// `earlier` is the provider that this one takes the place of.
    async fn build(
        config: Config,
        deps: ProviderDeps,
        options: ProviderOptions,
        earlier: Option<&App>,
    ) -> Result<Self, ProviderError> {
        let ProviderDeps { clock, rng, store, metrics, health } = deps;
        let browser_base = match &options.browser_base {
            None => None,
            Some(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                Some(url.origin().ascii_serialization())
            }
            Some(_) => return Err(ProviderError::BrowserBase),
        };
        let issuer = config.issuer.clone();
        let policy = Policy {
            kind: config.signer.kind,
            rotation: config.signer.rotation,
            token_lifetime: config.expiry.id_tokens,
        };
        let signer = Signer::open(store.clone(), clock.clone(), rng.clone(), policy).await?;
        let pages = Pages::new(&issuer, &config.frontend)?;
        let tokens = Tokens::new(issuer.as_str(), signer.clone(), clock.clone(), rng.clone(), config.expiry.id_tokens);
        let flows = Flows::new(store.clone(), clock.clone(), rng.clone(), issuer.as_str(), issuer.path());
        let devices = Devices::new(store.clone(), clock.clone(), rng.clone(), issuer.as_str(), issuer.path());
        let attempts = config.attempts;
        let costs: Vec<u32> = config.passwords.iter().map(|p| p.hash.cost()).collect();
        let passwords = match earlier.filter(|app| app.config.attempts == attempts) {
            Some(app) => app.passwords.with_users(store.clone(), &costs),
            None => {
                let throttle = Throttle::new(store.clone(), clock.clone(), &rng, attempts);
                let pool = HashPool::new(attempts.hash_workers, attempts.hash_queue);
                LocalPasswords::new(store.clone(), pool, throttle, &costs)
            }
        };
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
                let found = store.signing_keys().load().await.map_err(|e| format!("{e}: {}", error_source(&e)))?;
                if let Some(trouble) = store.kernel().trouble() {
                    return Err(trouble);
                }
                found.map(|_| "ok".to_owned()).ok_or_else(|| "the signing keys are gone".to_owned())
            }
        });
        let app = App {
            config,
            clock,
            rng,
            store,
            pages,
            signer,
            tokens,
            flows,
            devices,
            passwords,
            cors,
            discovery,
            connectors,
            rotation,
        };
        let plain_entry = browser_base.as_ref().is_some_and(|base| base.starts_with("http:"));
        let local_names = browser_base.map(|_| issuer.as_str().to_owned());
        let password_db = app.config.password_db;
        app.store.judge(move |object| configured::judge(object, password_db));
        let front = Front { app, health, trusted, local_names, plain_entry, unnamed: Unnamed::default() };
        Ok(Self { front: Arc::new(front), metrics, real_ip, options })
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
    /// failure counts, sealing of secrets, health checks, looking at stored connectors, telling that the store is used. It ends with
    /// `shutdown`, and triggers it when the store is not to be used any more ([`BackgroundError::Taken`]).
    #[must_use]
    pub fn start(&self, shutdown: &Shutdown) -> Background {
        let mut tasks = JoinSet::new();
        let taken = Arc::new(OnceLock::new());
        for job in [Job::RotateKeys, Job::WriteFailures] {
            tasks.spawn(job.repeat(self.front.clone(), shutdown.clone(), Arc::clone(&taken)));
        }
        tasks.spawn(collect_expired(self.front.clone(), shutdown.clone()));
        tasks.spawn(keep_data_keys(self.front.clone(), shutdown.clone()));
        tasks.spawn(seal_again(self.front.clone(), shutdown.clone()));
        let front = self.front.clone();
        let stop = shutdown.clone();
        tasks.spawn(async move { front.health.run(&stop).await });
        let front = self.front.clone();
        let stop = shutdown.clone();
        tasks.spawn(async move {
            stop.unless(configured::report_connectors(&front.app)).await;
        });
        tasks.spawn(keep_announced(self.front.clone(), shutdown.clone(), Arc::clone(&taken)));
        Background { tasks, taken }
    }

    /// Answers a request without a socket, for tests and fuzz targets.
    #[cfg(any(test, fuzzing))]
    pub(crate) async fn respond(&self, inbound: &Inbound) -> Reply {
        crate::router::route(&self.front.app, &self.front.health, inbound).await
    }

    /// Its checks, for whoever has more to check.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.front.health
    }

    #[cfg(test)]
    pub(crate) fn app(&self) -> &App {
        &self.front.app
    }

    #[cfg(test)]
    pub(crate) fn front(&self) -> Arc<Front> {
        Arc::clone(&self.front)
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.front.app.config.issuer.as_str()).finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says_about_refresh_tokens_counts() {
        let none =
            RefreshPolicy { rotate: true, reuse_interval: None, absolute_lifetime: None, valid_if_not_used_for: None };
        let default = rotation_policy(&none);
        assert_eq!((default.grace.as_secs(), default.idle_lifetime), (30, Some(IDLE_LIFETIME)));
        let strict = rotation_policy(&RefreshPolicy {
            reuse_interval: Some(Duration::ZERO),
            valid_if_not_used_for: Some(Duration::ZERO),
            ..none
        });
        assert_eq!((strict.grace, strict.reuse_interval, strict.idle_lifetime), (Duration::ZERO, Duration::ZERO, None));
    }
}
