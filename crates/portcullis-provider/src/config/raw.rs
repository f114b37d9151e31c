//! The file as it was written: every field optional, every field with its place, nothing checked but types.
//!
//! `portcullis up` edits this form before it is validated (other addresses, another issuer, no gRPC).

use std::collections::BTreeMap;

use portcullis_runtime::Secret;

use super::problem::{Place, Problem, Warning};
use super::reader::Field;

/// An optional field.
type Opt<T> = Option<Field<T>>;

/// A Dex configuration file, read but not yet checked.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    /// `issuer`.
    pub issuer: Opt<String>,
    /// `storage`.
    pub storage: Option<RawStorage>,
    /// `web`.
    pub web: RawWeb,
    /// `telemetry`.
    pub telemetry: RawTelemetry,
    /// `oauth2`.
    pub oauth2: RawOAuth2,
    /// `grpc`; not served yet, so it must be cleared before [`RawConfig::validate`].
    pub grpc: Option<RawGrpc>,
    /// `expiry`.
    pub expiry: RawExpiry,
    /// `logger`.
    pub logger: RawLogger,
    /// `frontend`.
    pub frontend: RawFrontend,
    /// `signer`.
    pub signer: Option<RawSigner>,
    /// `connectors`; none is served yet, so they must be cleared before [`RawConfig::validate`].
    pub connectors: Vec<RawConnector>,
    /// `staticClients`.
    pub static_clients: Vec<RawClient>,
    /// `enablePasswordDB`.
    pub enable_password_db: Opt<bool>,
    /// `staticPasswords`.
    pub static_passwords: Vec<RawPassword>,
    /// Where `sessions` is; not served yet, so it must be cleared before [`RawConfig::validate`].
    pub sessions: Option<Place>,
    /// Where `mfa` is; not served yet, so it must be cleared before [`RawConfig::validate`].
    pub mfa: Option<Place>,
    /// `portcullis`: our own settings, which Dex ignores.
    pub own: RawOwn,
    /// The file's name.
    pub(super) file: Option<std::sync::Arc<str>>,
    /// What could not be read.
    pub(super) problems: Vec<Problem>,
    /// Keys that nobody knows.
    pub(super) unknown: Vec<Warning>,
}

/// `storage`.
#[derive(Debug, Clone)]
pub struct RawStorage {
    /// `storage.type`.
    pub kind: Opt<String>,
    /// Whether there is a `storage` section with a type: Dex says "no storage supplied" otherwise.
    pub place: Place,
    /// `storage.config.file` of type `sqlite3`.
    pub file: Opt<String>,
    /// `storage.config` of type `etcd`.
    pub etcd: RawEtcd,
    /// `storage.config` of type `kubernetes`.
    pub kubernetes: RawKubernetes,
    /// `storage.config` of the types `postgres` and `mysql`.
    pub database: Option<RawDatabase>,
}

/// `storage.config` of type `etcd`.
#[derive(Debug, Clone, Default)]
pub struct RawEtcd {
    /// `endpoints`.
    pub endpoints: Opt<Vec<String>>,
    /// `namespace`.
    pub namespace: Opt<String>,
    /// `username`.
    pub username: Opt<String>,
    /// `password`.
    pub password: Opt<Secret>,
    /// `ssl.serverName`.
    pub server_name: Opt<String>,
    /// `ssl.caFile`.
    pub ca_file: Opt<String>,
    /// `ssl.keyFile`.
    pub key_file: Opt<String>,
    /// `ssl.certFile`.
    pub cert_file: Opt<String>,
}

/// `storage.config` of type `kubernetes`.
#[derive(Debug, Clone, Default)]
pub struct RawKubernetes {
    /// `inCluster`.
    pub in_cluster: Opt<bool>,
    /// `kubeConfigFile`.
    pub kube_config_file: Opt<String>,
    /// `crdHandling`.
    pub crd_handling: Opt<String>,
}

/// `storage.config` of a database server.
#[derive(Debug, Clone, Default)]
pub struct RawDatabase {
    /// `host`.
    pub host: Opt<String>,
    /// `port`.
    pub port: Opt<i64>,
    /// `user`.
    pub user: Opt<String>,
    /// `password`.
    pub password: Opt<Secret>,
    /// `database`.
    pub database: Opt<String>,
    /// `connectionTimeout`, in seconds.
    pub connection_timeout: Opt<i64>,
    /// `maxOpenConns`.
    pub max_open: Opt<i64>,
    /// `maxIdleConns`.
    pub max_idle: Opt<i64>,
    /// `connMaxLifetime`, in seconds.
    pub max_lifetime: Opt<i64>,
    /// `ssl.mode`.
    pub ssl_mode: Opt<String>,
    /// `ssl.caFile`.
    pub ca_file: Opt<String>,
    /// `ssl.keyFile`.
    pub key_file: Opt<String>,
    /// `ssl.certFile`.
    pub cert_file: Opt<String>,
}

/// `web`.
#[derive(Debug, Clone, Default)]
pub struct RawWeb {
    /// `web.http`.
    pub http: Opt<String>,
    /// `web.https`.
    pub https: Opt<String>,
    /// `web.tlsCert`.
    pub tls_cert: Opt<String>,
    /// `web.tlsKey`.
    pub tls_key: Opt<String>,
    /// `web.tlsMinVersion`.
    pub tls_min_version: Opt<String>,
    /// `web.tlsMaxVersion`.
    pub tls_max_version: Opt<String>,
    /// `web.headers`: name and value of each of the five that Dex knows.
    pub headers: Vec<(&'static str, Field<String>)>,
    /// `web.allowedOrigins`.
    pub allowed_origins: Opt<Vec<String>>,
    /// `web.allowedHeaders`.
    pub allowed_headers: Opt<Vec<String>>,
    /// `web.clientRemoteIP.header`.
    pub client_ip_header: Opt<String>,
    /// `web.clientRemoteIP.trustedProxies`.
    pub trusted_proxies: Opt<Vec<String>>,
}

/// `telemetry`.
#[derive(Debug, Clone, Default)]
pub struct RawTelemetry {
    /// `telemetry.http`.
    pub http: Opt<String>,
    /// `telemetry.enableProfiling`.
    pub enable_profiling: Opt<bool>,
}

/// `oauth2`.
#[derive(Debug, Clone, Default)]
pub struct RawOAuth2 {
    /// `oauth2.grantTypes`.
    pub grant_types: Opt<Vec<String>>,
    /// `oauth2.responseTypes`.
    pub response_types: Opt<Vec<String>>,
    /// `oauth2.skipApprovalScreen`.
    pub skip_approval_screen: Opt<bool>,
    /// `oauth2.alwaysShowLoginScreen`.
    pub always_show_login_screen: Opt<bool>,
    /// `oauth2.passwordConnector`.
    pub password_connector: Opt<String>,
    /// Where `oauth2.pkce` is.
    pub pkce: Option<Place>,
    /// `oauth2.pkce.enforce`.
    pub pkce_enforce: Opt<bool>,
    /// `oauth2.pkce.codeChallengeMethodsSupported`.
    pub pkce_methods: Opt<Vec<String>>,
}

/// `grpc`.
#[derive(Debug, Clone)]
pub struct RawGrpc {
    /// Where the section is.
    pub place: Place,
    /// `grpc.addr`.
    pub addr: Opt<String>,
    /// `grpc.tlsCert`.
    pub tls_cert: Opt<String>,
    /// `grpc.tlsKey`.
    pub tls_key: Opt<String>,
    /// `grpc.tlsClientCA`.
    pub tls_client_ca: Opt<String>,
    /// `grpc.tlsMinVersion`.
    pub tls_min_version: Opt<String>,
    /// `grpc.tlsMaxVersion`.
    pub tls_max_version: Opt<String>,
}

/// `expiry`. Durations are text as Go writes them.
#[derive(Debug, Clone, Default)]
pub struct RawExpiry {
    /// `expiry.idTokens` (or the guide's `expiry.idToken`).
    pub id_tokens: Opt<String>,
    /// `expiry.authRequests`.
    pub auth_requests: Opt<String>,
    /// `expiry.deviceRequests`.
    pub device_requests: Opt<String>,
    /// `expiry.signingKeys`.
    pub signing_keys: Opt<String>,
    /// `expiry.refreshTokens.disableRotation`.
    pub disable_rotation: Opt<bool>,
    /// `expiry.refreshTokens.reuseInterval`.
    pub reuse_interval: Opt<String>,
    /// `expiry.refreshTokens.absoluteLifetime`.
    pub absolute_lifetime: Opt<String>,
    /// `expiry.refreshTokens.validIfNotUsedFor`.
    pub valid_if_not_used_for: Opt<String>,
}

/// `logger`.
#[derive(Debug, Clone, Default)]
pub struct RawLogger {
    /// `logger.level`.
    pub level: Opt<String>,
    /// `logger.format`.
    pub format: Opt<String>,
    /// `logger.excludeFields`.
    pub exclude_fields: Opt<Vec<String>>,
}

/// `frontend`.
#[derive(Debug, Clone, Default)]
pub struct RawFrontend {
    /// `frontend.dir`; refused for now.
    pub dir: Opt<String>,
    /// `frontend.issuer`: the pages' title.
    pub issuer: Opt<String>,
    /// `frontend.logoURL`.
    pub logo_url: Opt<String>,
    /// `frontend.theme`.
    pub theme: Opt<String>,
    /// `frontend.extra`.
    pub extra: BTreeMap<String, String>,
}

/// `signer`.
#[derive(Debug, Clone)]
pub struct RawSigner {
    /// Where the section is.
    pub place: Place,
    /// `signer.type`.
    pub kind: Opt<String>,
    /// `signer.config.keysRotationPeriod` of type `local`.
    pub keys_rotation_period: Opt<String>,
    /// `signer.config.algorithm` of type `local`.
    pub algorithm: Opt<String>,
}

/// One of `connectors`.
#[derive(Debug, Clone)]
pub struct RawConnector {
    /// Where it is.
    pub place: Place,
    /// `type`.
    pub kind: Opt<String>,
    /// `id`.
    pub id: Opt<String>,
}

/// One of `staticClients`.
#[derive(Debug, Clone)]
pub struct RawClient {
    /// Where it is.
    pub place: Place,
    /// `id`.
    pub id: Opt<String>,
    /// `idEnv`: name of an environment variable.
    pub id_env: Opt<String>,
    /// `secret`.
    pub secret: Opt<Secret>,
    /// `secretEnv`: name of an environment variable.
    pub secret_env: Opt<String>,
    /// `name`.
    pub name: Opt<String>,
    /// `redirectURIs`.
    pub redirect_uris: Opt<Vec<String>>,
    /// `public`.
    pub public: Opt<bool>,
    /// `trustedPeers`.
    pub trusted_peers: Opt<Vec<String>>,
    /// `logoURL`.
    pub logo_url: Opt<String>,
    /// `allowedConnectors`.
    pub allowed_connectors: Opt<Vec<String>>,
    /// `mfaChain`.
    pub mfa_chain: Opt<Vec<String>>,
    /// `refreshTokenLifetime`.
    pub refresh_token_lifetime: Opt<String>,
    /// Keys that have no effect before sessions are served: `ssoSharedWith` and the logout ones.
    pub inert: Vec<Place>,
}

/// One of `staticPasswords`.
#[derive(Debug, Clone)]
pub struct RawPassword {
    /// Where it is.
    pub place: Place,
    /// `email`.
    pub email: Opt<String>,
    /// `hash`: bcrypt, or base64 of it.
    pub hash: Opt<Secret>,
    /// `hashFromEnv`: name of an environment variable.
    pub hash_from_env: Opt<String>,
    /// `username`.
    pub username: Opt<String>,
    /// `name`.
    pub name: Opt<String>,
    /// `preferredUsername`.
    pub preferred_username: Opt<String>,
    /// `emailVerified`.
    pub email_verified: Opt<bool>,
    /// `userID`.
    pub user_id: Opt<String>,
    /// `groups`.
    pub groups: Opt<Vec<String>>,
}

/// `portcullis.encryption`: the keys that seal the store's secrets.
#[derive(Debug, Clone, Default)]
pub struct RawEncryption {
    /// `keys`: the current one first.
    pub keys: Vec<RawEncryptionKey>,
    /// `seal`: false opens what is sealed and writes it in clear.
    pub seal: Opt<bool>,
    /// `dataKeyLifetime`: a Go duration.
    pub data_key_lifetime: Opt<String>,
    /// `replaceDataKeysBefore`: a time (RFC 3339).
    pub replace_before: Opt<String>,
}

/// One of `portcullis.encryption.keys`.
#[derive(Debug, Clone)]
pub struct RawEncryptionKey {
    /// Where it is.
    pub place: Place,
    /// `id`.
    pub id: Opt<String>,
    /// `file`.
    pub file: Opt<String>,
    /// `env`: name of an environment variable.
    pub env: Opt<String>,
    /// `vault`.
    pub vault: Option<RawVault>,
}

/// `vault` of an encryption key.
#[derive(Debug, Clone, Default)]
pub struct RawVault {
    /// `address`.
    pub address: Opt<String>,
    /// `mount`.
    pub mount: Opt<String>,
    /// `key`.
    pub key: Opt<String>,
    /// `namespace`.
    pub namespace: Opt<String>,
    /// `token`.
    pub token: Opt<Secret>,
    /// `tokenFile`.
    pub token_file: Opt<String>,
    /// `caFile`.
    pub ca_file: Opt<String>,
}

/// `portcullis`: how sign-in attempts are slowed down and hashed (`passwords`), and `encryption`.
#[derive(Debug, Clone, Default)]
pub struct RawOwn {
    /// `encryption`.
    pub encryption: RawEncryption,
    /// `maxFailures`: failures per account and window before further attempts are delayed.
    pub max_failures: Opt<i64>,
    /// `failureWindow`: a Go duration.
    pub failure_window: Opt<String>,
    /// `maxDelay`: the longest delay between two attempts, a Go duration.
    pub max_delay: Opt<String>,
    /// `attemptsPerMinute`: attempts per client address.
    pub attempts_per_minute: Opt<i64>,
    /// `hashWorkers`: password hashes computed at a time.
    pub hash_workers: Opt<i64>,
    /// `hashQueue`: password checks that may wait.
    pub hash_queue: Opt<i64>,
}
