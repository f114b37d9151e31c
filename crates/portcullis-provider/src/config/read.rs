//! Fills [`RawConfig`] from a document: which keys there are, and of what type.

use portcullis_runtime::Secret;

use super::document::{Node, Section, Value, join};
use super::problem::Warning;
use super::raw::{
    RawClient, RawConfig, RawConnector, RawDatabase, RawEtcd, RawExpiry, RawFrontend, RawGrpc, RawKubernetes,
    RawLogger, RawOAuth2, RawOwn, RawPassword, RawSigner, RawStorage, RawTelemetry, RawWeb,
};
use super::reader::{Keys, Reader, Unknown};

const TOP: &[&str] = &[
    "issuer",
    "storage",
    "web",
    "telemetry",
    "oauth2",
    "grpc",
    "expiry",
    "logger",
    "frontend",
    "signer",
    "connectors",
    "staticClients",
    "enablePasswordDB",
    "staticPasswords",
    "sessions",
    "mfa",
    "portcullis",
];
/// The headers that Dex can set, as the file names them.
const HEADERS: &[&str] = &[
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];

impl RawConfig {
    /// Reads a Dex configuration from a document, or from a part of one such as a chart's `dex.config`.
    ///
    /// What cannot be read is kept and reported by [`RawConfig::validate`], together with everything else.
    #[must_use]
    pub fn read(section: &Section<'_>) -> (Self, Vec<Warning>) {
        let mut reader =
            Reader { file: section.file(), problems: Vec::new(), warnings: Vec::new(), unknown: Vec::new() };
        let mut config = Self { file: Some(section.file().clone()), ..Self::default() };
        if let Some(keys) = reader.keys(section.node(), section.path(), TOP, Unknown::Warn) {
            config.fill(&mut reader, &keys);
        }
        config.problems = reader.problems;
        let mut warnings = reader.warnings;
        warnings.extend(reader.unknown.iter().cloned());
        warnings.sort_by_key(|w| w.place.line);
        config.unknown = reader.unknown;
        (config, warnings)
    }

    fn fill<'a>(&mut self, r: &mut Reader<'a>, top: &Keys<'a>) {
        self.issuer = r.string(top, "issuer");
        self.storage = storage(r, top);
        self.web = web(r, top).unwrap_or_default();
        if let Some(k) = r.sub(top, "telemetry", &["http", "enableProfiling"]) {
            self.telemetry =
                RawTelemetry { http: r.string(&k, "http"), enable_profiling: r.bool(&k, "enableProfiling") };
        }
        self.oauth2 = oauth2(r, top).unwrap_or_default();
        self.grpc = grpc(r, top);
        self.expiry = expiry(r, top).unwrap_or_default();
        if let Some(k) = r.sub(top, "logger", &["level", "format", "excludeFields"]) {
            self.logger = RawLogger {
                level: r.string(&k, "level"),
                format: r.string(&k, "format"),
                exclude_fields: r.strings(&k, "excludeFields"),
            };
        }
        if let Some(k) = r.sub(top, "frontend", &["dir", "issuer", "logoURL", "theme", "extra"]) {
            self.frontend = RawFrontend {
                dir: r.string(&k, "dir"),
                issuer: r.string(&k, "issuer"),
                logo_url: r.string(&k, "logoURL"),
                theme: r.string(&k, "theme"),
                extra: r.string_map(&k, "extra"),
            };
        }
        self.signer = signer(r, top);
        self.connectors = each(r, top, "connectors", connector);
        self.static_clients = each(r, top, "staticClients", client);
        self.enable_password_db = r.bool(top, "enablePasswordDB");
        self.static_passwords = each(r, top, "staticPasswords", password);
        self.sessions = top.node("sessions").map(|(node, path)| r.place(&path, node.line));
        self.mfa = top.node("mfa").map(|(node, path)| r.place(&path, node.line));
        self.own = own(r, top).unwrap_or_default();
    }
}

impl<'a> Reader<'a> {
    /// A map below `keys`, if there is one.
    pub(super) fn sub(&mut self, keys: &Keys<'a>, key: &str, known: &[&'static str]) -> Option<Keys<'a>> {
        let (node, path) = keys.node(key)?;
        self.keys(node, &path, known, Unknown::Warn)
    }
}

fn each<'a, T>(
    r: &mut Reader<'a>,
    top: &Keys<'a>,
    key: &str,
    read: fn(&mut Reader<'a>, &'a Node, &str) -> Option<T>,
) -> Vec<T> {
    let Some(list) = r.list(top, key) else { return Vec::new() };
    list.value.into_iter().filter_map(|(node, path)| read(r, node, &path)).collect()
}

fn storage<'a>(r: &mut Reader<'a>, top: &Keys<'a>) -> Option<RawStorage> {
    let k = r.sub(top, "storage", &["type", "config"])?;
    let kind = r.string(&k, "type");
    let (mut file, mut server) = (None, None);
    match kind.as_ref().map(|kind| kind.value.as_str()) {
        Some("sqlite3") => file = r.sub(&k, "config", &["file"]).and_then(|config| r.string(&config, "file")),
        Some("postgres" | "mysql") => server = Some(database(r, &k).unwrap_or_default()),
        _ => {}
    }
    let is = |name: &str| kind.as_ref().is_some_and(|kind| kind.value == name);
    let etcd = if is("etcd") { super::etcd::read(r, &k) } else { RawEtcd::default() };
    let kubernetes = if is("kubernetes") { super::kubernetes::read(r, &k) } else { RawKubernetes::default() };
    Some(RawStorage { kind, place: r.place(&k.path, k.line), file, etcd, kubernetes, database: server })
}

fn database<'a>(r: &mut Reader<'a>, storage: &Keys<'a>) -> Option<RawDatabase> {
    let known = [
        "database",
        "user",
        "password",
        "host",
        "port",
        "connectionTimeout",
        "maxOpenConns",
        "maxIdleConns",
        "connMaxLifetime",
        "ssl",
    ];
    let k = r.sub(storage, "config", &known)?;
    let ssl = r.sub(&k, "ssl", &["mode", "caFile", "keyFile", "certFile"]);
    let mut ssl_string = |key| ssl.as_ref().and_then(|ssl| r.string(ssl, key));
    let (ssl_mode, ca_file) = (ssl_string("mode"), ssl_string("caFile"));
    let (key_file, cert_file) = (ssl_string("keyFile"), ssl_string("certFile"));
    Some(RawDatabase {
        host: r.string(&k, "host"),
        port: r.integer(&k, "port"),
        user: r.string(&k, "user"),
        password: r.string(&k, "password").map(|password| password.map(Secret::new)),
        database: r.string(&k, "database"),
        connection_timeout: r.integer(&k, "connectionTimeout"),
        max_open: r.integer(&k, "maxOpenConns"),
        max_idle: r.integer(&k, "maxIdleConns"),
        max_lifetime: r.integer(&k, "connMaxLifetime"),
        ssl_mode,
        ca_file,
        key_file,
        cert_file,
    })
}

fn web<'a>(r: &mut Reader<'a>, top: &Keys<'a>) -> Option<RawWeb> {
    let k = r.sub(
        top,
        "web",
        &[
            "http",
            "https",
            "tlsCert",
            "tlsKey",
            "tlsMinVersion",
            "tlsMaxVersion",
            "headers",
            "allowedOrigins",
            "allowedHeaders",
            "clientRemoteIP",
        ],
    )?;
    let mut headers = Vec::new();
    if let Some(h) = r.sub(&k, "headers", HEADERS) {
        for &name in HEADERS {
            headers.extend(r.string(&h, name).map(|value| (name, value)));
        }
    }
    let ip = r.sub(&k, "clientRemoteIP", &["header", "trustedProxies"]);
    Some(RawWeb {
        http: r.string(&k, "http"),
        https: r.string(&k, "https"),
        tls_cert: r.string(&k, "tlsCert"),
        tls_key: r.string(&k, "tlsKey"),
        tls_min_version: r.string(&k, "tlsMinVersion"),
        tls_max_version: r.string(&k, "tlsMaxVersion"),
        headers,
        allowed_origins: r.strings(&k, "allowedOrigins"),
        allowed_headers: r.strings(&k, "allowedHeaders"),
        client_ip_header: ip.as_ref().and_then(|ip| r.string(ip, "header")),
        trusted_proxies: ip.as_ref().and_then(|ip| r.strings(ip, "trustedProxies")),
    })
}

fn oauth2<'a>(r: &mut Reader<'a>, top: &Keys<'a>) -> Option<RawOAuth2> {
    let k = r.sub(
        top,
        "oauth2",
        &["grantTypes", "responseTypes", "skipApprovalScreen", "alwaysShowLoginScreen", "passwordConnector", "pkce"],
    )?;
    let mut out = RawOAuth2 {
        grant_types: r.strings(&k, "grantTypes"),
        response_types: r.strings(&k, "responseTypes"),
        skip_approval_screen: r.bool(&k, "skipApprovalScreen"),
        always_show_login_screen: r.bool(&k, "alwaysShowLoginScreen"),
        password_connector: r.string(&k, "passwordConnector"),
        ..RawOAuth2::default()
    };
    if let Some(p) = r.sub(&k, "pkce", &["enforce", "codeChallengeMethodsSupported"]) {
        out.pkce = Some(r.place(&p.path, p.line));
        out.pkce_enforce = r.bool(&p, "enforce");
        out.pkce_methods = r.strings(&p, "codeChallengeMethodsSupported");
    }
    Some(out)
}

fn grpc<'a>(r: &mut Reader<'a>, top: &Keys<'a>) -> Option<RawGrpc> {
    let k = r.sub(
        top,
        "grpc",
        &["addr", "tlsCert", "tlsKey", "tlsClientCA", "tlsMinVersion", "tlsMaxVersion", "reflection"],
    )?;
    r.bool(&k, "reflection");
    Some(RawGrpc {
        place: r.place(&k.path, k.line),
        addr: r.string(&k, "addr"),
        tls_cert: r.string(&k, "tlsCert"),
        tls_key: r.string(&k, "tlsKey"),
        tls_client_ca: r.string(&k, "tlsClientCA"),
        tls_min_version: r.string(&k, "tlsMinVersion"),
        tls_max_version: r.string(&k, "tlsMaxVersion"),
    })
}

/// Compat: `idToken` is no key of Dex, which ignores it and issues tokens for 24 hours. The guide writes it, and it can
/// mean only one thing, so it is honoured with a warning (design.md decision 6).
fn expiry<'a>(r: &mut Reader<'a>, top: &Keys<'a>) -> Option<RawExpiry> {
    let k = r.sub(top, "expiry", &["idTokens", "authRequests", "deviceRequests", "signingKeys", "refreshTokens"])?;
    let mut out = RawExpiry {
        id_tokens: r.string(&k, "idTokens"),
        auth_requests: r.string(&k, "authRequests"),
        device_requests: r.string(&k, "deviceRequests"),
        signing_keys: r.string(&k, "signingKeys"),
        ..RawExpiry::default()
    };
    if let Some(at) = r.unknown.iter().position(|w| w.place.path.eq_ignore_ascii_case(&join(&k.path, "idToken")))
        && out.id_tokens.is_none()
        && let Some((node, _)) = top.node("expiry")
        && let Value::Map(entries) = &node.value
        && let Some(entry) = entries.iter().find(|e| e.key.eq_ignore_ascii_case("idToken"))
        && let Some(field) = r.string_node(&entry.value, &join(&k.path, &entry.key))
    {
        out.id_tokens = Some(field);
        if let Some(warning) = r.unknown.get_mut(at) {
            warning.message = "unknown key; it is honoured as `idTokens`, which is what Dex knows (Dex itself would ignore it and use 24h)".to_owned();
            warning.hint = Some("write `idTokens`".to_owned());
        }
    }
    if let Some(t) =
        r.sub(&k, "refreshTokens", &["disableRotation", "reuseInterval", "absoluteLifetime", "validIfNotUsedFor"])
    {
        out.disable_rotation = r.bool(&t, "disableRotation");
        out.reuse_interval = r.string(&t, "reuseInterval");
        out.absolute_lifetime = r.string(&t, "absoluteLifetime");
        out.valid_if_not_used_for = r.string(&t, "validIfNotUsedFor");
    }
    Some(out)
}

fn signer<'a>(r: &mut Reader<'a>, top: &Keys<'a>) -> Option<RawSigner> {
    let k = r.sub(top, "signer", &["type", "config"])?;
    let kind = r.string(&k, "type");
    let mut out = RawSigner { place: r.place(&k.path, k.line), kind, keys_rotation_period: None, algorithm: None };
    if out.kind.as_ref().is_some_and(|kind| kind.value == "local")
        && let Some((node, path)) = k.node("config")
        && let Some(config) = r.keys(node, &path, &["keysRotationPeriod", "algorithm"], Unknown::Lenient)
    {
        out.keys_rotation_period = r.string(&config, "keysRotationPeriod");
        out.algorithm = r.string(&config, "algorithm");
    }
    Some(out)
}

fn connector<'a>(r: &mut Reader<'a>, node: &'a Node, path: &str) -> Option<RawConnector> {
    let k = r.keys(node, path, &["type", "id", "name", "config", "grantTypes"], Unknown::Warn)?;
    Some(RawConnector { place: r.place(path, node.line), kind: r.string(&k, "type"), id: r.string(&k, "id") })
}

fn client<'a>(r: &mut Reader<'a>, node: &'a Node, path: &str) -> Option<RawClient> {
    let known = &[
        "id",
        "idEnv",
        "secret",
        "secretEnv",
        "name",
        "redirectURIs",
        "public",
        "trustedPeers",
        "logoURL",
        "allowedConnectors",
        "mfaChain",
        "ssoSharedWith",
        "postLogoutRedirectURIs",
        "backchannelLogoutURI",
        "refreshTokenLifetime",
        "clientCredentialsClaims",
    ];
    let k = r.keys(node, path, known, Unknown::Warn)?;
    let inert = ["ssoSharedWith", "postLogoutRedirectURIs", "backchannelLogoutURI", "clientCredentialsClaims"]
        .iter()
        .filter_map(|key| k.node(key).map(|(node, path)| r.place(&path, node.line)))
        .collect();
    Some(RawClient {
        place: r.place(path, node.line),
        id: r.string(&k, "id"),
        id_env: r.string(&k, "idEnv"),
        secret: r.string(&k, "secret").map(|f| f.map(Secret::from)),
        secret_env: r.string(&k, "secretEnv"),
        name: r.string(&k, "name"),
        redirect_uris: r.strings(&k, "redirectURIs"),
        public: r.bool(&k, "public"),
        trusted_peers: r.strings(&k, "trustedPeers"),
        logo_url: r.string(&k, "logoURL"),
        allowed_connectors: r.strings(&k, "allowedConnectors"),
        mfa_chain: r.strings(&k, "mfaChain"),
        refresh_token_lifetime: r.string(&k, "refreshTokenLifetime"),
        inert,
    })
}

fn password<'a>(r: &mut Reader<'a>, node: &'a Node, path: &str) -> Option<RawPassword> {
    let known =
        &["email", "hash", "hashFromEnv", "username", "name", "preferredUsername", "emailVerified", "userID", "groups"];
    let k = r.keys(node, path, known, Unknown::Warn)?;
    Some(RawPassword {
        place: r.place(path, node.line),
        email: r.string(&k, "email"),
        hash: r.string(&k, "hash").map(|f| f.map(Secret::from)),
        hash_from_env: r.string(&k, "hashFromEnv"),
        username: r.string(&k, "username"),
        name: r.string(&k, "name"),
        preferred_username: r.string(&k, "preferredUsername"),
        email_verified: r.bool(&k, "emailVerified"),
        user_id: r.string(&k, "userID"),
        groups: r.strings(&k, "groups"),
    })
}

fn own<'a>(r: &mut Reader<'a>, top: &Keys<'a>) -> Option<RawOwn> {
    let (node, path) = top.node("portcullis")?;
    let own = r.keys(node, &path, &["passwords", "encryption"], Unknown::Refuse)?;
    let encryption = super::encryption::read(r, &own).unwrap_or_default();
    let Some((node, path)) = own.node("passwords") else { return Some(RawOwn { encryption, ..RawOwn::default() }) };
    let known = &["maxFailures", "failureWindow", "maxDelay", "attemptsPerMinute", "hashWorkers", "hashQueue"];
    let Some(k) = r.keys(node, &path, known, Unknown::Refuse) else {
        return Some(RawOwn { encryption, ..RawOwn::default() });
    };
    Some(RawOwn {
        encryption,
        max_failures: r.integer(&k, "maxFailures"),
        failure_window: r.string(&k, "failureWindow"),
        max_delay: r.string(&k, "maxDelay"),
        attempts_per_minute: r.integer(&k, "attemptsPerMinute"),
        hash_workers: r.integer(&k, "hashWorkers"),
        hash_queue: r.integer(&k, "hashQueue"),
    })
}
