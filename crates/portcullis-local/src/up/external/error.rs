//! What is wrong with the user's own provider, or with what was said about it; each with the way out.

use std::path::PathBuf;

use portcullis_authn::{ConfigError, FlagError};
use portcullis_oidc::client::{DiscoveryError, JwksFetchError};
use portcullis_runtime::http_client::HttpClientError;

/// Why the user's provider cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A flag cannot be read.
    #[error(transparent)]
    Flags(#[from] FlagError),
    /// The flags do not go together, or the address is not an issuer's.
    #[error("the API server would not take this issuer")]
    Config(#[from] ConfigError),
    /// A file that a flag names.
    #[error("{flag}: cannot read {path}")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file that a flag names is too large.
    #[error("{flag}: {path} has more than {limit} bytes")]
    TooLarge {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The authorities are none.
    #[error("--issuer-ca: no certificate can be read from it")]
    Ca(#[source] HttpClientError),
    /// A flag without a value.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// The issuer is no URL.
    #[error("--issuer: {found:?} is not a URL: {reason}")]
    NotUrl {
        /// What was given.
        found: String,
        /// Why.
        reason: String,
    },
    /// The issuer is not https.
    #[error("--issuer: {0} is not an https URL, and API servers take no other")]
    NotHttps(String),
    /// Nobody answers.
    #[error("asked {url}, and there is no answer")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        source: HttpClientError,
    },
    /// The answer is no discovery document of this issuer.
    #[error("asked {url} for the discovery document")]
    Discovery {
        /// What was asked.
        url: String,
        /// What came.
        #[source]
        source: DiscoveryError,
    },
    /// The provider calls itself otherwise.
    #[error("asked {url}, and the provider there calls itself {got:?}, not {asked:?}")]
    OtherName {
        /// What was asked.
        url: String,
        /// The issuer that was given.
        asked: String,
        /// The one in the document.
        got: String,
    },
    /// The document lacks something.
    #[error("the discovery document at {url} has no {member}")]
    Lacks {
        /// The document.
        url: String,
        /// What it lacks.
        member: &'static str,
    },
    /// The keys cannot be used.
    #[error("asked {url} for the provider's keys")]
    Keys {
        /// What was asked.
        url: String,
        /// What came.
        #[source]
        source: JwksFetchError,
    },
    /// Tokens are signed in no way that the API server would take.
    #[error("{issuer} signs with {offered}, and the API server would take {taken} alone")]
    Algorithms {
        /// The issuer.
        issuer: String,
        /// What it says that it signs with.
        offered: String,
        /// What the flags say.
        taken: String,
    },
}

impl IssuerError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Flags(_) | Self::Config(_) => None,
            Self::File { flag, .. } | Self::TooLarge { flag, .. } => Some(format!("name another file with {flag}")),
            Self::Ca(_) => Some("name a PEM file with the authority that signed the provider's certificate".to_owned()),
            Self::Empty(flag) => Some(format!("give {flag} a value")),
            Self::NotUrl { .. } => Some("give the provider's issuer, such as https://accounts.example.com".to_owned()),
            Self::NotHttps(_) => Some("put TLS in front of the provider, and name its https address".to_owned()),
            Self::Unreachable { source: HttpClientError::Tls { unknown_issuer: true, .. }, .. }
            | Self::Keys { source: JwksFetchError::Http(HttpClientError::Tls { unknown_issuer: true, .. }), .. } => {
                Some("name the authority that signed its certificate: --issuer-ca FILE".to_owned())
            }
            Self::Unreachable { source: HttpClientError::Tls { .. }, .. } => Some(
                "its certificate must be valid for the host name in --issuer; a plain http port gives this too"
                    .to_owned(),
            ),
            Self::Unreachable { .. } => Some(
                "start the provider, or correct --issuer; a proxy is taken from HTTPS_PROXY and NO_PROXY".to_owned(),
            ),
            Self::Discovery { source: DiscoveryError::Status { .. }, .. } => {
                Some("correct --issuer: its path counts, and the document is below it".to_owned())
            }
            Self::Discovery { .. } => {
                Some("correct --issuer: what answers there is no OpenID Connect provider".to_owned())
            }
            Self::OtherName { got, .. } => Some(format!(
                "tokens name their issuer letter by letter, a slash at its end included; if that one is meant: --issuer {got}"
            )),
            Self::Lacks { .. } | Self::Keys { .. } => {
                Some("this is the provider's to correct: neither kubectl nor an API server could use it".to_owned())
            }
            Self::Algorithms { offered, .. } => Some(format!("name them: --signing-algs {offered}")),
        }
    }
}
