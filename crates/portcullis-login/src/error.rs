//! Why a login failed, with kubelogin's words.
//!
//! Compat: these texts are interface. The chain of prefixes is kubelogin v1.36's (reference section 1.5); the words of
//! the protocol itself come from `portcullis-oidc`.

use thiserror::Error;

use crate::callback::CallbackError;
use crate::callback::listen::NoAvailablePort;
use crate::trust::TrustError;

/// What Go's context says after Ctrl-C.
pub(crate) const CANCELED: &str = "context canceled";

/// What Go's context says after a time limit.
pub(crate) const DEADLINE: &str = "context deadline exceeded";

/// A login that did not bring a token.
#[derive(Debug, Error)]
pub(crate) enum LoginError {
    /// A CA flag or trust file is unusable.
    #[error("oidc error: could not load the TLS client config: {0}")]
    Trust(#[source] TrustError),
    /// A request header or proxy is unusable.
    #[error("oidc error: {0}")]
    Client(String),
    /// The provider is down, or does not describe itself as that issuer.
    #[error("oidc error: oidc discovery error: {0}")]
    Discovery(String),
    /// Nobody answers where the provider should be.
    #[error("oidc error: oidc discovery error: {reason}")]
    Unreachable {
        /// Whether the issuer names this machine.
        local: bool,
        /// Why.
        reason: String,
    },
    /// The provider's certificate is not trusted.
    #[error("oidc error: oidc discovery error: {0}")]
    Untrusted(String),
    /// The browser grant.
    #[error("authcode-browser error: authentication error: authorization code flow error: {0}")]
    Browser(#[source] BrowserError),
    /// The keyboard grant.
    #[error("authcode-keyboard error: {0}")]
    Keyboard(#[source] KeyboardError),
    /// The password grant.
    #[error("ropc error: {0}")]
    Password(#[source] PasswordError),
    /// A grant of kubelogin that is not here yet.
    #[error("{name} error: not built yet, use {instead}")]
    NotBuilt {
        /// kubelogin's name for it.
        name: &'static str,
        /// What to use.
        instead: &'static str,
    },
}

/// Why the browser grant failed.
#[derive(Debug, Error)]
pub(crate) enum BrowserError {
    /// One of the two files was given.
    #[error("oauth2 error: invalid config: both LocalServerCertFile and LocalServerKeyFile must be set")]
    HalfTls,
    /// The two files are unusable.
    #[error("oauth2 error: authorization error: authorization error: could not start HTTPS server: {0}")]
    LocalTls(String),
    /// `--oidc-redirect-url` is no URL.
    #[error("oauth2 error: authorization error: invalid redirect URL: {0}")]
    RedirectUrl(String),
    /// The provider's authorization endpoint is unusable.
    #[error("oauth2 error: authorization error: {0}")]
    Request(String),
    /// No address of `--listen-address` is free.
    #[error("oauth2 error: authorization error: could not start a local server: {0}")]
    Ports(#[source] NoAvailablePort),
    /// An earlier sign-in was not finished a moment ago.
    #[error(
        "oauth2 error: authorization error: the last sign-in was not finished in time; no browser is opened for another {seconds}s"
    )]
    BackingOff {
        /// How long.
        seconds: i64,
    },
    /// Nobody finished the sign-in in time.
    #[error("oauth2 error: authorization error: authorization error: {DEADLINE}")]
    TimedOut,
    /// Ctrl-C.
    #[error("oauth2 error: authorization error: authorization error: {CANCELED}")]
    Canceled,
    /// The browser brought no code.
    #[error("oauth2 error: authorization error: {0}")]
    Callback(#[source] CallbackError),
    /// The code brought no token.
    #[error("oauth2 error: could not exchange the code and token: {0}")]
    Exchange(String),
    /// The token is not good.
    #[error("{0}")]
    Verify(String),
}

/// Why the keyboard grant failed.
#[derive(Debug, Error)]
pub(crate) enum KeyboardError {
    /// The provider's authorization endpoint is unusable.
    #[error("{0}")]
    Request(String),
    /// No code was typed.
    #[error("could not read an authorization code: {0}")]
    Read(String),
    /// A whole URL was typed and its state is not ours.
    #[error("{0}")]
    Callback(#[source] CallbackError),
    /// The code brought no token.
    #[error("could not exchange the authorization code: exchange error: {0}")]
    Exchange(String),
    /// The token is not good.
    #[error("could not exchange the authorization code: {0}")]
    Verify(String),
}

/// Why the password grant failed.
#[derive(Debug, Error)]
pub(crate) enum PasswordError {
    /// No username was typed.
    #[error("could not read a username: {0}")]
    Username(String),
    /// No password was typed.
    #[error("could not read a password: {0}")]
    Password(String),
    /// The provider refused.
    #[error("resource owner password credentials flow error: {0}")]
    Exchange(String),
    /// The token is not good.
    #[error("resource owner password credentials flow error: {0}")]
    Verify(String),
}

impl LoginError {
    /// Whether the sign-in was left unfinished, which makes the next starts wait.
    pub(crate) fn is_unfinished(&self) -> bool {
        matches!(self, Self::Browser(BrowserError::TimedOut))
    }

    /// What the user can do, for a `hint:` line.
    pub(crate) fn hint(&self) -> Option<String> {
        let text = self.to_string();
        match self {
            Self::Browser(BrowserError::Ports(_)) => {
                Some("stop what holds the port, or give another with --listen-address and register http://localhost:PORT at the provider".to_owned())
            }
            Self::Unreachable { local: true, .. } => {
                Some("is the provider running, and the port-forward if it is behind one? One on this machine is started by `portcullis up`".to_owned())
            }
            Self::Unreachable { local: false, .. } => {
                Some("is the provider running, and can this machine reach it?".to_owned())
            }
            Self::Untrusted(_) => {
                Some("if the provider has a private CA, give its file with --certificate-authority".to_owned())
            }
            Self::Browser(BrowserError::BackingOff { .. }) => {
                Some("wait, or run the same get-token command in a terminal to sign in at once".to_owned())
            }
            Self::Browser(BrowserError::Verify(_)) | Self::Keyboard(KeyboardError::Verify(_))
                if text.contains("token is expired") || text.contains("before the nbf") =>
            {
                Some("a new token cannot be outdated: compare this machine's clock with the provider's".to_owned())
            }
            _ => None,
        }
    }
}
