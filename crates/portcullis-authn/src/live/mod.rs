//! An authenticator whose AuthenticationConfiguration may be replaced while it runs.
//!
//! Flow: a file is read → decoded and checked whole → each issuer is compared with the one of the same URL that is trusted →
//! the new set takes the place of the old one, at once and as a whole. A file that is not valid changes nothing.
//!
//! It must never drop an issuer that works because something else does not:
//! - an issuer whose entry is the same goes on with its keys, discovery and all;
//! - one with other rules goes on with its keys under the new rules;
//! - one that is reached differently (`discoveryURL`, `certificateAuthority`) stays what it was, keys and rules, until the new
//!   place has been discovered: rules that were made for the new keys are none for tokens that the former ones signed;
//! - nobody waits for a new one that cannot be reached.
//!
//! Compat: the reload of Kubernetes v1.37 waits until all issuers, the unchanged ones too, have been discovered anew, for at
//! most a minute, and keeps the old file otherwise. What it accepts and refuses is the same, in the same words: `anonymous`
//! cannot change, a broken file is not tried again until it changes, a file that cannot be read is.

mod metrics;
mod watch;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_kube::authentication_config::{AnonymousAuthConfig, AuthenticationConfiguration, BYTES_LIMIT};
use portcullis_kube::go::quote;
use portcullis_runtime::Shutdown;
use portcullis_runtime::http_client::HttpClientError;

use crate::authenticator::{Authenticator, Options};
use crate::config::ConfigError;
use crate::configuration::TrustConfiguration;
use crate::flags::io_text;
use crate::issuer::{Issuer, Surroundings};
use crate::keys::Network;

pub use metrics::ReloadMetrics;

/// A file, and what the server's other settings have to do with it.
#[derive(Debug, Clone, Default)]
pub struct ConfigFile {
    /// Where it is. The name is looked up anew each time, so that symbolic links may be swapped, as a ConfigMap's volume does.
    pub path: PathBuf,
    /// The issuers of the server's own service account tokens, which the file must not name.
    pub disallowed: Vec<String>,
    /// `--anonymous-auth`, where it was given: then the file must not speak of anonymous requests too.
    pub anonymous_auth: Option<bool>,
    /// Where reloads are counted.
    pub metrics: Option<ReloadMetrics>,
}

impl ConfigFile {
    /// A file beside which nothing else is set.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

/// An authenticator and the file that it follows. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct LiveAuthenticator(Arc<Live>);

struct Live {
    authenticator: Authenticator,
    around: Surroundings,
    file: ConfigFile,
    /// What the process started with.
    initial: TrustConfiguration,
    /// What was last dealt with, whatever came of it; held while it is dealt with.
    last: Mutex<Vec<u8>>,
}

/// Why a file did not become the configuration. The one before it stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// A server cannot start with the file, because it cannot be read or is no AuthenticationConfiguration.
    #[error("failed to load authentication configuration from file {}", quote(path))]
    Load {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        reason: Box<Self>,
    },
    /// The file cannot be read; it is tried again.
    #[error("{action} {path}: {reason}")]
    Read {
        /// `open` or `read`.
        action: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file is no valid configuration. It is not tried again until it changes.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No HTTP client can be made for an issuer, as with a broken proxy setting.
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
    /// It is reached differently; what it was, keys and rules, counts until it has been discovered there.
    Moved(String),
    /// It is not trusted any more.
    Removed(String),
}

impl ReloadError {
    /// What the user can do about it, where the text does not say it already.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Load { reason, .. } => match &**reason {
                Self::Read { .. } => Some("name a file that this user can read".to_owned()),
                reason => reason.hint(),
            },
            Self::Config(error) => error.hint(),
            Self::Read { .. } | Self::Client { .. } => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(issuer) => write!(f, "issuer {} added", quote(issuer)),
            Self::Rules(issuer) => write!(f, "issuer {} has new rules, its keys are kept", quote(issuer)),
            Self::Moved(issuer) => {
                write!(f, "issuer {} is discovered anew; its former keys and rules count until then", quote(issuer))
            }
            Self::Removed(issuer) => write!(f, "issuer {} removed", quote(issuer)),
        }
    }
}

impl LiveAuthenticator {
    /// Starts with what the file says now. Its issuers need not be up.
    ///
    /// Must be called inside a Tokio runtime. `shutdown` ends what runs in the background.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub fn start(
        file: ConfigFile,
        options: Options,
        network: &Network,
        shutdown: &Shutdown,
    ) -> Result<Self, ReloadError> {
        let failed =
            |reason: ReloadError| ReloadError::Load { path: file.path.display().to_string(), reason: Box::new(reason) };
        let data = read(&file.path).map_err(failed)?;
        let decoded =
            AuthenticationConfiguration::decode(&data).map_err(|error| failed(ConfigError::from(error).into()))?;
        if decoded.anonymous.is_some() && file.anonymous_auth.is_some() {
            return Err(ConfigError::AnonymousTwice.into());
        }
        let initial = TrustConfiguration::new(decoded, &file.disallowed)?;
        let around = Surroundings::new(&options, network, shutdown);
        let authenticator = Authenticator::build(Vec::new(), options);
        let live = Live { authenticator, around, file, initial: initial.clone(), last: Mutex::new(data) };
        live.apply(&initial)?;
        live.measure(ReloadMetrics::applied);
        Ok(Self(Arc::new(live)))
    }

    /// The authenticator, which follows from now on.
    #[must_use]
    pub fn authenticator(&self) -> &Authenticator {
        &self.0.authenticator
    }

    /// The configuration that the process started with.
    #[must_use]
    pub fn initial(&self) -> &TrustConfiguration {
        &self.0.initial
    }

    /// What holds for requests without credentials, for good: what the file said at the start, else `--anonymous-auth`, else
    /// they are let in.
    #[must_use]
    pub fn anonymous(&self) -> AnonymousAuthConfig {
        let flag = self.0.file.anonymous_auth.unwrap_or(true);
        self.0.initial.anonymous().cloned().unwrap_or_else(|| AnonymousAuthConfig::everywhere(flag))
    }

    /// Looks at the file now; `None` when it is as it was when it was last looked at, or is a pipe, which can be read once.
    /// Must be called inside a Tokio runtime; reads the file where it is called.
    ///
    /// # Errors
    /// [`ReloadError`]; the configuration that was in force stays in force.
    pub fn look(&self) -> Result<Option<Reloaded>, ReloadError> {
        // Held while the file is read: whoever reads first also comes first, so that nothing older follows what is newer.
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(data) = read_again(&self.0.file.path)?.filter(|data| *data != *last) else { return Ok(None) };
        let loaded = self.0.initial.reload(&data, &self.0.file.disallowed);
        *last = data;
        self.0.apply(&loaded?).map(Some)
    }
}

impl Live {
    /// Tells the metrics something about the content that was dealt with last.
    fn measure(&self, what: impl FnOnce(&ReloadMetrics, &[u8])) {
        if let Some(metrics) = &self.file.metrics {
            what(metrics, &self.last.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

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
        if !reloaded.changes.is_empty() {
            warn(loaded);
        }
        let gone = self.authenticator.issuer_urls().into_iter();
        let gone = gone.filter(|url| !loaded.issuers().iter().any(|valid| valid.config().issuer_url == *url));
        reloaded.changes.extend(gone.map(Change::Removed));
        self.authenticator.replace(issuers);
        Ok(reloaded)
    }
}

/// Says what works and may let in somebody else than was meant.
fn warn(loaded: &TrustConfiguration) {
    for valid in loaded.issuers() {
        if let Some(doubt) = valid.unverified_addresses() {
            tracing::warn!(issuer = valid.config().issuer_url, "authentication configuration: {doubt}");
        }
    }
}

/// The bytes of a file that was read before; `None` where reading would wait for somebody who writes.
fn read_again(path: &Path) -> Result<Option<Vec<u8>>, ReloadError> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => Ok(None),
        Ok(_) | Err(_) => read(path).map(Some),
    }
}

/// The file's bytes, one more than may be at most.
fn read(path: &Path) -> Result<Vec<u8>, ReloadError> {
    let failed =
        |action| move |error| ReloadError::Read { action, path: path.display().to_string(), reason: io_text(&error) };
    let mut data = Vec::new();
    let limit = u64::try_from(BYTES_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(failed("open"))?.take(limit).read_to_end(&mut data).map_err(failed("read"))?;
    Ok(data)
}
