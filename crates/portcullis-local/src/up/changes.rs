//! What differs between what runs and what the files say now, in the words of the files: one line for each thing that a
//! person would name. Values of secrets and hashes are never in it.

use std::fmt::Debug;
use std::time::Duration;

use portcullis_authn::OidcFlags;
use portcullis_provider::config::{Client, Config, LocalUser, Logger, RefreshPolicy};
use portcullis_runtime::telemetry::Level;

/// What can change while `up` runs.
pub(super) struct Settings<'a> {
    pub(super) config: &'a Config,
    pub(super) flags: &'a OidcFlags,
}

/// What is made at a start.
pub(super) struct Start<'a> {
    pub(super) config: &'a Config,
    /// The ports that the files and flags ask for: provider, API server, `web.http`, `telemetry.http`.
    pub(super) ports: [Option<u16>; 4],
}

/// A difference: the part that it is about, and what it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) part: &'static str,
    pub(super) text: String,
}

/// All differences.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// What can be changed while it runs.
    pub(super) now: Vec<Line>,
    /// What takes another start.
    pub(super) later: Vec<Line>,
    /// Whether the provider is concerned.
    pub(super) provider: bool,
    /// Whether the API server's trust is concerned.
    pub(super) api_server: bool,
    /// Whether the logs are concerned.
    pub(super) logs: bool,
}

impl Changes {
    /// Compares what runs with what is wanted.
    pub(super) fn between(old: &Settings<'_>, new: &Settings<'_>) -> Self {
        let mut changes = Self::default();
        clients(&old.config.clients, &new.config.clients, &mut changes.now);
        users(&old.config.passwords, &new.config.passwords, &mut changes.now);
        settings(old.config, new.config, &mut changes.now);
        changes.provider = !changes.now.is_empty();
        let before = changes.now.len();
        flags(old.flags, new.flags, &mut changes.now);
        changes.api_server = changes.now.len() > before;
        let before = changes.now.len();
        logger(&old.config.logger, &new.config.logger, &mut changes.now);
        changes.logs = changes.now.len() > before;
        changes
    }

    /// Compares with what was so at the start.
    pub(super) fn compare_starts(&mut self, old: &Start<'_>, new: &Start<'_>) {
        later(old, new, &mut self.later);
    }
}

fn clients(old: &[Client], new: &[Client], lines: &mut Vec<Line>) {
    let fields = |old: &Client, new: &Client| {
        [
            ("secret", old.secret.expose() != new.secret.expose()),
            ("name", old.name != new.name),
            ("redirectURIs", old.redirect_uris != new.redirect_uris),
            ("public", old.public != new.public),
            ("trustedPeers", old.trusted_peers != new.trusted_peers),
            ("logoURL", old.logo_url != new.logo_url),
            ("allowedConnectors", old.allowed_connectors != new.allowed_connectors),
        ]
    };
    each("client", old, new, |client| &client.id, fields, lines);
}

fn users(old: &[LocalUser], new: &[LocalUser], lines: &mut Vec<Line>) {
    let fields = |old: &LocalUser, new: &LocalUser| {
        [
            ("password", old.hash != new.hash),
            ("email", old.shown_email != new.shown_email),
            ("userID", old.user_id != new.user_id),
            ("username", old.username != new.username),
            ("name", old.name != new.name),
            ("preferredUsername", old.preferred_username != new.preferred_username),
            ("emailVerified", old.email_verified != new.email_verified),
            ("groups", old.groups != new.groups),
        ]
    };
    each("user", old, new, |user| &user.email, fields, lines);
}

/// Compares two lists whose entries have a name.
fn each<T, const N: usize>(
    part: &'static str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &String,
    fields: impl Fn(&T, &T) -> [(&'static str, bool); N],
    lines: &mut Vec<Line>,
) {
    for entry in new {
        let text = match old.iter().find(|old| name(old) == name(entry)) {
            None => format!("{} added", name(entry)),
            Some(before) => {
                let changed: Vec<&str> =
                    fields(before, entry).into_iter().filter_map(|(field, changed)| changed.then_some(field)).collect();
                if changed.is_empty() {
                    continue;
                }
                format!("{} changed: {}", name(entry), changed.join(", "))
            }
        };
        lines.push(Line { part, text });
    }
    for entry in old.iter().filter(|entry| !new.iter().any(|new| name(new) == name(entry))) {
        lines.push(Line { part, text: format!("{} removed", name(entry)) });
    }
}

/// Collects what differs under one part's name.
struct Part<'a> {
    part: &'static str,
    lines: &'a mut Vec<Line>,
}

impl Part<'_> {
    fn value<T: Debug>(&mut self, key: &str, old: &T, new: &T) {
        self.text(key, format!("{old:?}"), format!("{new:?}"));
    }

    fn text(&mut self, key: &str, old: String, new: String) {
        if old != new {
            self.lines.push(Line { part: self.part, text: format!("{key}: {old} becomes {new}") });
        }
    }

    /// For what is too long to be shown.
    fn whole<T: Debug>(&mut self, key: &str, old: &T, new: &T) {
        if format!("{old:?}") != format!("{new:?}") {
            self.lines.push(Line { part: self.part, text: format!("{key} changed") });
        }
    }
}

fn settings(old: &Config, new: &Config, lines: &mut Vec<Line>) {
    let mut part = Part { part: "expiry", lines };
    part.text("idTokens", duration(old.expiry.id_tokens), duration(new.expiry.id_tokens));
    part.text("authRequests", duration(old.expiry.auth_requests), duration(new.expiry.auth_requests));
    refresh(&old.expiry.refresh, &new.expiry.refresh, &mut part);
    let mut part = Part { part: "provider", lines: part.lines };
    part.value("enablePasswordDB", &old.password_db, &new.password_db);
    let (before, after) = (&old.oauth2, &new.oauth2);
    let names = |grants: &[portcullis_provider::config::Grant]| -> String {
        grants.iter().map(|grant| grant.as_str()).collect::<Vec<_>>().join(", ")
    };
    part.text("oauth2.grantTypes", names(&before.grants), names(&after.grants));
    part.value("oauth2.skipApprovalScreen", &before.skip_approval, &after.skip_approval);
    part.value("oauth2.alwaysShowLoginScreen", &before.always_show_login, &after.always_show_login);
    let named = |name: &Option<String>| name.as_deref().map_or_else(|| "none".to_owned(), |name| format!("{name:?}"));
    part.text("oauth2.passwordConnector", named(&before.password_connector), named(&after.password_connector));
    part.value("oauth2.pkce.enforce", &before.pkce_enforce, &after.pkce_enforce);
    part.value("oauth2.pkce.codeChallengeMethodsSupported", &before.pkce_methods, &after.pkce_methods);
    part.value("signer.config.algorithm", &old.signer.kind, &new.signer.kind);
    part.text("signer.config.keysRotationPeriod", duration(old.signer.rotation), duration(new.signer.rotation));
    part.whole("frontend", &old.frontend, &new.frontend);
    part.whole("web.headers", &old.web.headers, &new.web.headers);
    part.value("web.allowedOrigins", &old.web.allowed_origins, &new.web.allowed_origins);
    part.value("web.allowedHeaders", &old.web.allowed_headers, &new.web.allowed_headers);
    part.whole("web.clientRemoteIP", &old.web.client_remote_ip, &new.web.client_remote_ip);
    part.whole("portcullis.passwords", &old.attempts, &new.attempts);
}

fn refresh(old: &RefreshPolicy, new: &RefreshPolicy, part: &mut Part<'_>) {
    let shown = |value: Option<Duration>| value.map_or_else(|| "the default".to_owned(), duration);
    part.value("refreshTokens.disableRotation", &!old.rotate, &!new.rotate);
    part.text("refreshTokens.reuseInterval", shown(old.reuse_interval), shown(new.reuse_interval));
    part.text("refreshTokens.absoluteLifetime", shown(old.absolute_lifetime), shown(new.absolute_lifetime));
    part.text("refreshTokens.validIfNotUsedFor", shown(old.valid_if_not_used_for), shown(new.valid_if_not_used_for));
}

/// The authority's file is ours, so it is not compared.
pub(super) fn flags(old: &OidcFlags, new: &OidcFlags, lines: &mut Vec<Line>) {
    let mut part = Part { part: "api server", lines };
    part.value("oidc-issuer-url", &old.issuer_url, &new.issuer_url);
    part.value("oidc-client-id", &old.client_id, &new.client_id);
    part.value("oidc-username-claim", &old.username_claim, &new.username_claim);
    part.value("oidc-username-prefix", &old.username_prefix, &new.username_prefix);
    part.value("oidc-groups-claim", &old.groups_claim, &new.groups_claim);
    part.value("oidc-groups-prefix", &old.groups_prefix, &new.groups_prefix);
    part.text("oidc-signing-algs", old.signing_algs.join(","), new.signing_algs.join(","));
    let pairs = |flags: &OidcFlags| {
        let pairs: Vec<String> =
            flags.required_claims.iter().map(|(claim, value)| format!("{claim}={value}")).collect();
        if pairs.is_empty() { "none".to_owned() } else { pairs.join(",") }
    };
    part.text("oidc-required-claim", pairs(old), pairs(new));
}

fn logger(old: &Logger, new: &Logger, lines: &mut Vec<Line>) {
    let mut part = Part { part: "logger", lines };
    let level = |logger: &Logger| Level::from_slog(logger.level).to_string().to_lowercase();
    let format = |logger: &Logger| if logger.json { "json" } else { "text" }.to_owned();
    part.text("level", level(old), level(new));
    part.text("format", format(old), format(new));
    part.value("excludeFields", &old.exclude_fields, &new.exclude_fields);
}

/// Listeners and storage are made at the start, and secrets are unlocked then.
fn later(old: &Start<'_>, new: &Start<'_>, lines: &mut Vec<Line>) {
    let mut part = Part { part: "restart needed", lines };
    let port = |port: Option<u16>| port.map_or_else(|| "none".to_owned(), |port| format!("port {port}"));
    for (key, (before, after)) in ["web.https", "networking.apiServerPort", "web.http", "telemetry.http"]
        .into_iter()
        .zip(old.ports.into_iter().zip(new.ports))
    {
        part.text(key, port(before), port(after));
    }
    part.value("storage", &kind(old.config), &kind(new.config));
    // Not what it is: where keys are is nobody's business in a terminal.
    if old.config.encryption != new.config.encryption {
        part.lines.push(Line { part: part.part, text: "portcullis.encryption changed".to_owned() });
    }
}

const fn kind(config: &Config) -> &'static str {
    match config.storage {
        portcullis_provider::config::Storage::Memory => "memory",
        portcullis_provider::config::Storage::Sqlite { .. } => "sqlite3",
        portcullis_provider::config::Storage::Etcd(_) => "etcd",
        portcullis_provider::config::Storage::Kubernetes(_) => "kubernetes",
        portcullis_provider::config::Storage::Postgres { .. } => "postgres",
        portcullis_provider::config::Storage::MySql { .. } => "mysql",
    }
}

/// As Go writes durations, without the parts that are zero: `1h30m`.
fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    match (text.is_empty(), value.subsec_millis()) {
        (true, 0) => "0s".to_owned(),
        (_, 0) => text,
        (_, millis) => format!("{text}{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_provider::config::{Document, RawConfig};

    use super::*;

    const BASE: &str = "
issuer: https://localhost:5554
storage: {type: memory}
web: {http: '127.0.0.1:5556'}
enablePasswordDB: true
staticClients:
- {id: kubernetes, name: Kubernetes, secret: top-secret, redirectURIs: ['http://localhost:8000']}
- {id: other, name: Other, secret: other-secret, redirectURIs: ['http://localhost:8000']}
staticPasswords:
- {email: jane@example.com, username: jane, userID: u-jane, hash: '$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W'}
";

    fn config(text: &str) -> Config {
        RawConfig::read(&Document::parse(text, "c.yaml").unwrap().root()).0.validate(&|_| None).unwrap()
    }

    fn changes(old: &str, new: &str) -> Changes {
        let (old, new) = (config(old), config(new));
        let flags = OidcFlags::default();
        let ports = [Some(5554), Some(6443), Some(5556), None];
        let mut changes =
            Changes::between(&Settings { config: &old, flags: &flags }, &Settings { config: &new, flags: &flags });
        changes.compare_starts(&Start { config: &old, ports }, &Start { config: &new, ports });
        changes
    }

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| format!("{}: {}", line.part, line.text)).collect()
    }

    #[test]
    fn each_change_is_named_in_the_files_words_and_no_secret_is_shown() {
        let hash = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";
        let new = BASE
            .replace("top-secret", "another-secret")
            .replace("id: other", "id: third")
            .replace("userID: u-jane", "userID: u-jane, groups: [devs]")
            .replace(hash, "$2b$10$bFMH4ZEa8UBqERoiGchjm.yoPC.Bg.b4zWgKqQlCGVXUWP6f/Gjuu");
        let new = format!(
            "{new}- {{email: Joe@example.com, username: joe, userID: u-joe, hash: '{hash}'}}\nexpiry: {{idTokens: 90m}}\noauth2: {{skipApprovalScreen: true}}\nfrontend: {{issuer: Us}}\n"
        );
        let found = changes(BASE, &new);
        assert_eq!(
            texts(&found.now),
            [
                "client: kubernetes changed: secret",
                "client: third added",
                "client: other removed",
                "user: jane@example.com changed: password, groups",
                "user: joe@example.com added",
                "expiry: idTokens: 24h becomes 1h30m",
                "provider: oauth2.skipApprovalScreen: false becomes true",
                "provider: frontend changed",
            ]
        );
        assert!(found.provider && !found.api_server && found.later.is_empty());
        let shown = format!("{found:?}");
        assert!(!["top-secret", "another-secret", "$2"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }

    #[test]
    fn nothing_differs_from_itself_and_flags_are_the_api_servers() {
        assert_eq!(changes(BASE, BASE), Changes::default());
        let config = config(BASE);
        let mut old = OidcFlags::default();
        old.username_claim = "email".to_owned();
        let mut new = old.clone();
        new.username_prefix = "oidc:".to_owned();
        new.required_claims.insert("hd".to_owned(), "example.com".to_owned());
        let of = |flags| Settings { config: &config, flags };
        let found = Changes::between(&of(&old), &of(&new));
        assert_eq!(
            texts(&found.now),
            [
                "api server: oidc-username-prefix: \"\" becomes \"oidc:\"",
                "api server: oidc-required-claim: none becomes hd=example.com",
            ]
        );
        assert!(found.api_server && !found.provider);
    }

    #[test]
    fn what_was_made_at_the_start_waits_for_another() {
        let new = BASE.replace("storage: {type: memory}", "storage: {type: sqlite3, config: {file: x.db}}");
        let sealed = "portcullis: {encryption: {keys: [{file: /run/key}]}}\n";
        let (old, new) = (config(BASE), config(&format!("{new}logger: {{level: debug}}\n{sealed}")));
        let flags = OidcFlags::default();
        let mut found =
            Changes::between(&Settings { config: &old, flags: &flags }, &Settings { config: &new, flags: &flags });
        found.compare_starts(
            &Start { config: &old, ports: [Some(5554), Some(6443), Some(5556), None] },
            &Start { config: &new, ports: [Some(5554), Some(7443), Some(5557), Some(5558)] },
        );
        assert_eq!(
            texts(&found.later),
            [
                "restart needed: networking.apiServerPort: port 6443 becomes port 7443",
                "restart needed: web.http: port 5556 becomes port 5557",
                "restart needed: telemetry.http: none becomes port 5558",
                "restart needed: storage: \"memory\" becomes \"sqlite3\"",
                "restart needed: portcullis.encryption changed",
            ]
        );
        assert_eq!(texts(&found.now), ["logger: level: info becomes debug"]);
        assert!(found.logs && !found.provider && !found.api_server);
    }

    #[test]
    fn durations_are_short() {
        for (millis, text) in
            [(0, "0s"), (86_400_000, "24h"), (5_400_000, "1h30m"), (1_500, "1s500ms"), (61_000, "1m1s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
