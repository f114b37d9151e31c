//! An authenticator whose AuthenticationConfiguration may be replaced while it runs.
//!
//! Flow: a file is read → decoded and checked whole → each issuer is compared with the one of the same URL that is trusted →
//! the new set takes the place of the old one, at once and as a whole. A file that is not valid changes nothing.
//!
//! It must never drop an issuer that works because something else does not:
//! - an issuer whose entry is the same goes on with its keys, discovery and all;
//! - one with other rules goes on with its keys under the new rules;
//! - one that is reached differently (`discoveryURL`, `certificateAuthority`) goes on with its former keys, under the new
//!   rules, until the new place has been discovered;
//! - nobody waits for a new one that cannot be reached.
//!
//! Compat: the reload of Kubernetes v1.37 waits until all issuers, the unchanged ones too, have been discovered anew, for at
//! most a minute, and keeps the old file otherwise. What it accepts and refuses is the same, in the same words: `anonymous`
//! cannot change, a broken file is not tried again until it changes, a file that cannot be read is.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_kube::authentication_config::BYTES_LIMIT;
use portcullis_kube::go::quote;
use portcullis_runtime::Shutdown;
use portcullis_runtime::http_client::HttpClientError;

use crate::authenticator::{Authenticator, Options};
use crate::config::ConfigError;
use crate::configuration::TrustConfiguration;
use crate::issuer::{Issuer, Surroundings};
use crate::keys::Network;

/// How often a watched file is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// An authenticator and the file that it follows. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct LiveAuthenticator(Arc<Live>);

struct Live {
    authenticator: Authenticator,
    around: Surroundings,
    path: PathBuf,
    /// What the process started with.
    initial: TrustConfiguration,
    disallowed: Vec<String>,
    /// What was last dealt with, whatever came of it; held while it is dealt with.
    last: Mutex<Vec<u8>>,
}

/// Why a file did not become the configuration. The one before it stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The file cannot be read; it is tried again.
    #[error("open {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no valid configuration. It is not tried again until it changes.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An issuer cannot be reached at all, as with a broken proxy setting.
    #[error("issuer {issuer}: {source}")]
    Client {
        /// Its URL.
        issuer: String,
        /// Why.
        source: HttpClientError,
    },
}

/// What a new configuration changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// In the file's order; issuers that are gone come last.
    pub changes: Vec<Change>,
    /// Issuers whose entry is as before: their keys are kept.
    pub unchanged: usize,
}

/// What happened to one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is trusted from now on, once it has been discovered.
    Added(String),
    /// Other rules or mappings; its keys are kept.
    Rules(String),
    /// It is reached differently; its former keys count until it has been discovered there.
    Moved(String),
    /// It is not trusted any more.
    Removed(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(issuer) => write!(f, "issuer {} added", quote(issuer)),
            Self::Rules(issuer) => write!(f, "issuer {} has new rules, its keys are kept", quote(issuer)),
            Self::Moved(issuer) => {
                write!(f, "issuer {} is discovered anew, its former keys count until then", quote(issuer))
            }
            Self::Removed(issuer) => write!(f, "issuer {} removed", quote(issuer)),
        }
    }
}

impl LiveAuthenticator {
    /// Starts with the file at `path`. `disallowed` are the issuers of the server's own service account tokens.
    ///
    /// Must be called inside a Tokio runtime. `shutdown` ends what runs in the background.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub fn start(
        path: &Path,
        disallowed: Vec<String>,
        options: Options,
        network: &Network,
        shutdown: &Shutdown,
    ) -> Result<Self, ReloadError> {
        let data = read(path)?;
        let initial = TrustConfiguration::load(&data, &disallowed)?;
        let around = Surroundings::new(&options, network, shutdown);
        let authenticator = Authenticator::start([], options, network, shutdown)
            .map_err(|source| ReloadError::Client { issuer: String::new(), source })?;
        let live = Live {
            authenticator,
            around,
            path: path.to_owned(),
            initial: initial.clone(),
            disallowed,
            last: Mutex::new(data),
        };
        live.apply(&initial)?;
        Ok(Self(Arc::new(live)))
    }

    /// The authenticator, which follows from now on.
    #[must_use]
    pub fn authenticator(&self) -> &Authenticator {
        &self.0.authenticator
    }

    /// The configuration that the process started with; what it says of requests without credentials holds for good.
    #[must_use]
    pub fn initial(&self) -> &TrustConfiguration {
        &self.0.initial
    }

    /// Looks at the file now; `None` when it is as it was when it was last looked at. Must be called inside a Tokio
    /// runtime; reads the file where it is called.
    ///
    /// # Errors
    /// [`ReloadError`]; the configuration that was in force stays in force.
    pub fn look(&self) -> Result<Option<Reloaded>, ReloadError> {
        let data = read(&self.0.path)?;
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == data {
            return Ok(None);
        }
        let loaded = self.0.initial.reload(&data, &self.0.disallowed);
        *last = data;
        self.0.apply(&loaded?).map(Some)
    }

    /// Looks at the file every five seconds until `shutdown`, and logs what changed.
    pub async fn watch(&self, shutdown: &Shutdown) {
        while shutdown.unless(tokio::time::sleep(LOOK)).await.is_some() {
            let live = self.clone();
            let runtime = tokio::runtime::Handle::current();
            let looked = tokio::task::spawn_blocking(move || {
                // Discoveries are started from there.
                let _inside = runtime.enter();
                live.look()
            });
            match looked.await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(reloaded))) => report(&reloaded),
                Ok(Err(error)) => {
                    tracing::error!("authentication configuration not reloaded, the former one stays: {error}");
                }
                Err(error) => tracing::error!("authentication configuration not reloaded: {error}"),
            }
        }
    }
}

fn report(reloaded: &Reloaded) {
    for change in &reloaded.changes {
        tracing::info!("authentication configuration reloaded: {change}");
    }
    tracing::info!(unchanged = reloaded.unchanged, "reloaded authentication config");
}

impl Live {
    /// Puts `loaded` in force. Nothing changes when one of its issuers cannot be made.
    fn apply(&self, loaded: &TrustConfiguration) -> Result<Reloaded, ReloadError> {
        let mut reloaded = Reloaded::default();
        let mut issuers = Vec::with_capacity(loaded.issuers().len());
        for valid in loaded.issuers() {
            let url = valid.config().issuer_url.clone();
            let failed = |source| ReloadError::Client { issuer: url.clone(), source };
            let issuer = match self.authenticator.issuer(&url) {
                Some(known) if known.valid() == valid => {
                    reloaded.unchanged += 1;
                    known
                }
                Some(known) => {
                    let (issuer, moves) = known.changed(valid.clone(), &self.around).map_err(failed)?;
                    reloaded.changes.push(if moves { Change::Moved(url) } else { Change::Rules(url) });
                    Arc::new(issuer)
                }
                None => {
                    let issuer = Issuer::discovered(valid.clone(), &self.around).map_err(failed)?;
                    reloaded.changes.push(Change::Added(url));
                    Arc::new(issuer)
                }
            };
            issuers.push(issuer);
        }
        let gone = self.authenticator.issuer_urls().into_iter();
        let gone = gone.filter(|url| !loaded.issuers().iter().any(|valid| valid.config().issuer_url == *url));
        reloaded.changes.extend(gone.map(Change::Removed));
        self.authenticator.replace(issuers);
        Ok(reloaded)
    }
}

/// The file's bytes, one more than may be at most.
fn read(path: &Path) -> Result<Vec<u8>, ReloadError> {
    let failed = |source| ReloadError::Read { path: path.display().to_string(), source };
    let mut data = Vec::new();
    let limit = u64::try_from(BYTES_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(failed)?.take(limit).read_to_end(&mut data).map_err(failed)?;
    Ok(data)
}
