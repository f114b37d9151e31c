//! The configuration after validation: what the provider runs with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_jose::KeyKind;
use portcullis_oidc::vocabulary::PkceMethod;
use portcullis_runtime::net::Cidr;
use portcullis_runtime::{Secret, Timestamp};
use portcullis_storage::{
    EtcdOptions, KubernetesOptions, MySqlServer, PostgresServer, SqlOptions, VaultTransitOptions,
};

use super::problem::Warning;
use crate::passwords::BcryptHash;

/// A validated configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who we are.
    pub issuer: Issuer,
    /// Where records live.
    pub storage: Storage,
    /// Listeners and headers.
    pub web: Web,
    /// Address of metrics and health, if any.
    pub telemetry: Option<String>,
    /// Grants, response types, PKCE, screens.
    pub oauth2: OAuth2,
    /// Lifetimes.
    pub expiry: Expiry,
    /// Logs.
    pub logger: Logger,
    /// How pages look.
    pub frontend: Frontend,
    /// Signing keys.
    pub signer: Signer,
    /// Static clients.
    pub clients: Vec<Client>,
    /// Whether the local password database (connector `local`) is on.
    pub password_db: bool,
    /// Static local users.
    pub passwords: Vec<LocalUser>,
    /// Limits of sign-in attempts.
    pub attempts: Attempts,
    /// How the store's secrets are sealed.
    pub encryption: Encryption,
    /// What is worth a line in the log at every start.
    pub notices: Vec<Warning>,
}

/// The issuer URL, verbatim, and its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    url: String,
    base: String,
    path: String,
}

impl Issuer {
    /// Takes an absolute http or https URL without query, fragment and user.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|e| format!("server: can't parse issuer URL: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err("server: can't parse issuer URL: it must begin with https:// or http://".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the issuer URL must not have a query or a fragment".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the issuer URL must not have a user or a password".to_owned());
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("the issuer URL must not have blanks".to_owned());
        }
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self { url: text.to_owned(), base: format!("{}{path}", url.origin().ascii_serialization()), path })
    }

    /// The issuer exactly as configured: the `iss` claim.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The path under which every route lives, without a trailing slash; empty for none.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The absolute URL of a route such as `/token`.
    #[must_use]
    pub fn at(&self, route: &str) -> String {
        format!("{}{route}", self.base)
    }
}

/// `storage`.
#[derive(Debug, Clone)]
pub enum Storage {
    /// Nothing survives a restart.
    Memory,
    /// An embedded database in one file.
    Sqlite {
        /// The file.
        file: PathBuf,
    },
    /// An etcd cluster.
    Etcd(Box<EtcdOptions>),
    /// Custom resources of a Kubernetes cluster.
    Kubernetes(Box<KubernetesOptions>),
    /// A PostgreSQL server.
    Postgres {
        /// The database.
        server: PostgresServer,
        /// Its connections.
        options: SqlOptions,
    },
    /// A MySQL or MariaDB server.
    MySql {
        /// The database.
        server: MySqlServer,
        /// Its connections.
        options: SqlOptions,
    },
}

/// `portcullis.encryption`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// The key-encryption keys, the current one first; none when nothing is to be sealed.
    pub keys: Vec<EncryptionKey>,
    /// Whether secrets are sealed, or opened and written in clear.
    pub seal: bool,
    /// How long a data key seals.
    pub data_key_lifetime: Duration,
    /// Data keys that are older are replaced.
    pub replace_before: Option<Timestamp>,
}

/// A key-encryption key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionKey {
    /// Its id, when one was given.
    pub id: Option<String>,
    /// Where it is.
    pub from: KeySource,
}

/// Where a key-encryption key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Variable {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret,
    },
    /// In Vault, which does not give it away.
    Vault(Box<VaultTransitOptions>),
}

/// `web`.
#[derive(Debug, Clone)]
pub struct Web {
    /// Address of the plain listener.
    pub http: Option<String>,
    /// The TLS listener.
    pub https: Option<Https>,
    /// Headers of every answer, as configured.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Origins that scripts may call from; empty means none, `*` all.
    pub allowed_origins: Vec<String>,
    /// Request headers that such scripts may send.
    pub allowed_headers: Vec<String>,
    /// Where to find the client's address behind proxies.
    pub client_remote_ip: Option<ClientRemoteIp>,
}

/// The TLS listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Https {
    /// Its address.
    pub addr: String,
    /// Certificate chain file.
    pub cert: PathBuf,
    /// Private key file.
    pub key: PathBuf,
    /// Lowest version.
    pub min: TlsVersion,
    /// Highest version.
    pub max: TlsVersion,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// `web.clientRemoteIP`.
#[derive(Debug, Clone)]
pub struct ClientRemoteIp {
    /// The header that proxies write.
    pub header: http::HeaderName,
    /// Who may write it.
    pub trusted: Vec<Cidr>,
}

/// `oauth2`.
#[derive(Debug, Clone)]
pub struct OAuth2 {
    /// Served grants, sorted.
    pub grants: Vec<Grant>,
    /// No consent page unless a client asks for it.
    pub skip_approval: bool,
    /// The list of connectors even when there is only one.
    pub always_show_login: bool,
    /// The connector of the password grant.
    pub password_connector: Option<String>,
    /// Every authorization request needs PKCE.
    pub pkce_enforce: bool,
    /// Accepted PKCE methods, in the configured order.
    pub pkce_methods: Vec<PkceMethod>,
}

/// A grant that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// `authorization_code`.
    AuthorizationCode,
    /// `password`.
    Password,
    /// `refresh_token`.
    RefreshToken,
}

impl Grant {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::Password => "password",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// `expiry`.
#[derive(Debug, Clone)]
pub struct Expiry {
    /// Lifetime of ID and access tokens.
    pub id_tokens: Duration,
    /// How long a person may take to sign in.
    pub auth_requests: Duration,
    /// Refresh tokens.
    pub refresh: RefreshPolicy,
}

/// `expiry.refreshTokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshPolicy {
    /// Whether each use gives a new token.
    pub rotate: bool,
    /// How long the previous token still works after a rotation; `None` when the file does not say.
    pub reuse_interval: Option<Duration>,
    /// Lifetime from the first issue; `None` for no end.
    pub absolute_lifetime: Option<Duration>,
    /// Longest time between two uses; `None` when the file does not say.
    pub valid_if_not_used_for: Option<Duration>,
}

/// `logger`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logger {
    /// slog's level number: debug -4, info 0, warn 4, error 8.
    pub level: i32,
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Attributes that are left out.
    pub exclude_fields: Vec<String>,
}

/// `frontend`.
#[derive(Debug, Clone)]
pub struct Frontend {
    /// The pages' title.
    pub title: String,
    /// Logo; `None` for ours.
    pub logo_url: Option<String>,
    /// Light, dark, or what the browser prefers.
    pub theme: Theme,
    /// Values that templates may use.
    pub extra: BTreeMap<String, String>,
}

/// Colours of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// As the browser prefers.
    Auto,
    /// Always light.
    Light,
    /// Always dark.
    Dark,
}

/// `signer` of type `local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signer {
    /// What new keys are made.
    pub kind: KeyKind,
    /// How long a key signs.
    pub rotation: Duration,
}

/// A static client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Client id.
    pub id: String,
    /// Client secret; empty only for a public client without one.
    pub secret: Secret,
    /// Name for people.
    pub name: String,
    /// Registered redirect URIs.
    pub redirect_uris: Vec<String>,
    /// A client without a secret that can keep.
    pub public: bool,
    /// Clients that may ask for tokens for this one.
    pub trusted_peers: Vec<String>,
    /// Logo for the consent page.
    pub logo_url: String,
    /// Connectors whose users may sign in; empty means all.
    pub allowed_connectors: Vec<String>,
}

/// A static local user.
#[derive(Debug, Clone)]
pub struct LocalUser {
    /// Login name, in lower case.
    pub email: String,
    /// E-mail as configured: the `email` claim.
    pub shown_email: String,
    /// The password's hash.
    pub hash: BcryptHash,
    /// `username`.
    pub username: String,
    /// `name`; empty means the username.
    pub name: String,
    /// `preferred_username`.
    pub preferred_username: String,
    /// `email_verified`.
    pub email_verified: bool,
    /// User id.
    pub user_id: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// Limits of sign-in attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// Failures per account and window before further attempts are delayed.
    pub max_failures: u32,
    /// The window.
    pub window: Duration,
    /// The longest delay between two attempts.
    pub max_delay: Duration,
    /// Attempts per client address and minute.
    pub per_minute: u32,
    /// Password hashes computed at a time; 0 for one less than there are processors.
    pub hash_workers: usize,
    /// Password checks that may wait for a worker.
    pub hash_queue: usize,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            max_failures: 10,
            window: Duration::from_secs(300),
            max_delay: Duration::from_secs(30),
            per_minute: 60,
            hash_workers: 0,
            hash_queue: 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_hang_below_the_issuers_path() {
        for (text, path, token) in [
            ("https://a.example", "", "https://a.example/token"),
            ("https://a.example/", "", "https://a.example/token"),
            ("http://127.0.0.1:5556/dex", "/dex", "http://127.0.0.1:5556/dex/token"),
            ("https://a.example/x/y/", "/x/y", "https://a.example/x/y/token"),
            ("https://[::1]:8443/x", "/x", "https://[::1]:8443/x/token"),
        ] {
            let issuer = Issuer::parse(text).unwrap();
            assert_eq!((issuer.as_str(), issuer.path(), issuer.at("/token").as_str()), (text, path, token));
        }
    }

    #[test]
    fn what_cannot_be_an_issuer_is_refused() {
        for text in [
            "",
            "://",
            "$NGROK_ENDPOINT",
            "/dex",
            "ftp://x",
            "https://",
            "https://x?y",
            "https://x#y",
            "https://u:p@x",
            "https://x/ y",
            "mailto:x",
        ] {
            assert!(Issuer::parse(text).is_err(), "{text}");
        }
    }
}
