//! From what was written to what is valid: every message of Dex's, then what this version does not serve.
//!
//! Compat: texts and order of Dex `cmd/dex/config.go` and `serve.go` (dex.md 1.5). Everything that is wrong is reported
//! at once; nothing is guessed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_jose::KeyKind;

use super::duration::parse_duration;
use super::expand::expand;
use super::problem::{ConfigErrors, Place, Problem, ProblemKind, Warning};
use super::raw::{RawConfig, RawExpiry, RawFrontend, RawLogger, RawOwn, RawStorage};
use super::reader::Field;
use super::settings::{Attempts, Config, Expiry, Frontend, Issuer, Logger, RefreshPolicy, Signer, Storage, Theme};
use super::{clients, oauth2, users, web};

/// Reads an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How long a person may take to sign in (design.md decision 1).
pub(crate) const FLOW_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// What validation has found so far.
pub(super) struct Findings<'a> {
    pub(super) env: Env<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) notices: Vec<Warning>,
    file: Place,
}

impl Findings<'_> {
    pub(super) fn block(&mut self, wrong: bool, message: &str, hint: &str) {
        if wrong {
            self.problems.push(Problem {
                kind: ProblemKind::Block,
                place: self.file.clone(),
                message: message.to_owned(),
                hint: (!hint.is_empty()).then(|| hint.to_owned()),
            });
        }
    }

    pub(super) fn problem(&mut self, kind: ProblemKind, place: &Place, message: impl Into<String>, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.problems.push(Problem { kind, place: place.clone(), message: message.into(), hint });
    }

    pub(super) fn value(&mut self, place: &Place, message: impl Into<String>, hint: &str) {
        self.problem(ProblemKind::Value, place, message, hint);
    }

    pub(super) fn unsupported(&mut self, place: &Place, message: impl Into<String>, hint: &str) {
        self.problem(ProblemKind::Unsupported, place, message, hint);
    }

    pub(super) fn notice(&mut self, place: &Place, message: impl Into<String>, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.notices.push(Warning { place: place.clone(), message: message.into(), hint });
    }

    /// The file itself, for what is not in it.
    pub(super) fn whole_file(&self) -> Place {
        self.file.clone()
    }

    /// Dex's feature flags: Go's `strconv.ParseBool`, and the default for anything else.
    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        match (self.env)(name).as_deref() {
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => true,
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => false,
            _ => default,
        }
    }

    /// `$NAME` in the settings where Dex expands it.
    pub(super) fn expand(&self, text: &str) -> String {
        if self.flag("DEX_EXPAND_ENV", true) { expand(text, self.env) } else { text.to_owned() }
    }
}

/// The text of a field, empty when it is missing.
pub(super) fn text(field: Option<&Field<String>>) -> &str {
    field.map_or("", |f| f.value.as_str())
}

impl RawConfig {
    /// Checks everything and makes the configuration that the provider runs with. `env` reads environment variables
    /// (`idEnv`, `secretEnv`, `hashFromEnv`, `$NAME`, and Dex's feature flags).
    ///
    /// # Errors
    /// All that is wrong at once, including what [`RawConfig::read`] could not read.
    pub fn validate(self, env: Env<'_>) -> Result<Config, ConfigErrors> {
        let file = Place { file: self.file.clone().unwrap_or_else(|| "config".into()), line: None, path: String::new() };
        let mut f = Findings { env, problems: Vec::new(), notices: Vec::new(), file };
        self.dex_block(&mut f);
        f.problems.extend(self.problems.iter().cloned());
        if f.flag("DEX_CONFIG_DISALLOW_UNKNOWN_FIELDS", false) {
            for warning in &self.unknown {
                let key = warning.place.path.rsplit('.').next().unwrap_or_default();
                let message = format!("json: unknown field {key:?}");
                f.problem(ProblemKind::UnknownKey, &warning.place, message, warning.hint.as_deref().unwrap_or_default());
            }
        }
        self.not_served(&mut f);
        let issuer = self.issuer.as_ref().filter(|i| !i.value.is_empty()).and_then(|issuer| {
            Issuer::parse(&issuer.value)
                .map_err(|e| f.value(&issuer.place, e, "write the URL under which browsers and clusters reach this provider, such as https://dex.example.com"))
                .ok()
        });
        let storage = storage(self.storage.as_ref(), &mut f);
        let web = web::validate(&self.web, &mut f);
        let password_db = self.enable_password_db.as_ref().is_some_and(|b| b.value);
        let oauth2 = oauth2::validate(&self.oauth2, password_db, &mut f);
        let expiry = expiry(&self.expiry, &mut f);
        let logger = logger(&self.logger, &mut f);
        let frontend = frontend(self.frontend.clone(), &mut f);
        let signer = signer(&self, &mut f);
        let clients = clients::validate(&self.static_clients, &mut f);
        let passwords = users::validate(&self.static_passwords, &mut f);
        let attempts = attempts(&self.own, &mut f);
        if !password_db && self.connectors.is_empty() {
            let place = f.file.clone();
            f.value(&place, "server: no connectors specified", "set `enablePasswordDB: true`, so that local users can sign in");
        }
        if self.telemetry.enable_profiling.as_ref().is_some_and(|b| b.value)
            && let Some(field) = &self.telemetry.enable_profiling
        {
            f.notice(&field.place, "there are no Go profiles here; the key has no effect", "remove it");
        }
        let notices = std::mem::take(&mut f.notices);
        ConfigErrors::check(f.problems)?;
        match (issuer, storage) {
            (Some(issuer), Some(storage)) => Ok(Config {
                issuer,
                storage,
                web,
                telemetry: self.telemetry.http.map(|h| h.value).filter(|h| !h.is_empty()),
                oauth2,
                expiry,
                logger,
                frontend,
                signer,
                clients,
                password_db,
                passwords,
                attempts,
                notices,
            }),
            // Their absence is a problem of its own, so this is not reached.
            _ => Err(ConfigErrors::from(Problem {
                kind: ProblemKind::Value,
                place: Place { file: "config".into(), line: None, path: String::new() },
                message: "the configuration is not complete".to_owned(),
                hint: None,
            })),
        }
    }

    /// The messages that Dex collects into one block, in its order.
    fn dex_block(&self, f: &mut Findings<'_>) {
        let w = &self.web;
        let is = |field: &Option<Field<String>>| !text(field.as_ref()).is_empty();
        f.block(!is(&self.issuer), "no issuer specified in config file", "add `issuer:` with the URL under which this provider is reached");
        f.block(
            !self.enable_password_db.as_ref().is_some_and(|b| b.value) && !self.static_passwords.is_empty(),
            "cannot specify static passwords without enabling password db",
            "add `enablePasswordDB: true`",
        );
        f.block(
            self.storage.as_ref().is_none_or(|s| !is(&s.kind)),
            "no storage supplied in config file",
            "add `storage:` with `type: sqlite3` and `config: {file: /path/to/dex.db}`, or `type: memory`",
        );
        f.block(!is(&w.http) && !is(&w.https), "must supply a HTTP/HTTPS  address to listen on", "add `web:` with `http: 127.0.0.1:5556`");
        f.block(is(&w.https) && !is(&w.tls_cert), "no cert specified for HTTPS", "add `web.tlsCert`");
        f.block(is(&w.https) && !is(&w.tls_key), "no private key specified for HTTPS", "add `web.tlsKey`");
        tls_block(&w.tls_min_version, &w.tls_max_version, f);
        if let Some(g) = &self.grpc {
            f.block(is(&g.tls_cert) && !is(&g.addr), "no address specified for gRPC", "");
            f.block(is(&g.tls_key) && !is(&g.addr), "no address specified for gRPC", "");
            f.block(is(&g.tls_cert) != is(&g.tls_key), "must specific both a gRPC TLS cert and key", "");
            f.block(!is(&g.tls_cert) && is(&g.tls_client_ca), "cannot specify gRPC TLS client CA without a gRPC TLS cert", "");
            tls_block(&g.tls_min_version, &g.tls_max_version, f);
        }
    }

    /// What Dex serves and this version does not.
    fn not_served(&self, f: &mut Findings<'_>) {
        let sessions_on = f.flag("DEX_SESSIONS_ENABLED", false);
        let file = f.file.clone();
        if let Some(place) = &self.sessions {
            if sessions_on {
                f.unsupported(place, "sessions are not served yet", "remove `sessions`, and DEX_SESSIONS_ENABLED from the environment");
            } else {
                f.value(place, "sessions config requires sessions to be enabled (DEX_SESSIONS_ENABLED=true)", "sessions are not served yet: remove `sessions`");
            }
        } else if sessions_on {
            f.unsupported(&file, "DEX_SESSIONS_ENABLED is set, but sessions are not served yet", "unset DEX_SESSIONS_ENABLED");
        }
        if let Some(place) = &self.mfa {
            if sessions_on {
                f.unsupported(place, "second factors are not served yet", "remove `mfa`");
            } else {
                f.value(place, "mfa requires sessions to be enabled (DEX_SESSIONS_ENABLED=true)", "second factors are not served yet: remove `mfa`");
            }
        }
        if let Some(grpc) = self.grpc.as_ref().filter(|g| !text(g.addr.as_ref()).is_empty()) {
            f.unsupported(&grpc.place, "the gRPC API is not served yet", "remove `grpc`");
        }
        for connector in &self.connectors {
            let kind = text(connector.kind.as_ref());
            let message = format!("connectors are not served yet (this one is {:?} of type {kind:?})", text(connector.id.as_ref()));
            f.unsupported(&connector.place, message, "remove `connectors`, and use `enablePasswordDB` with `staticPasswords`");
        }
    }

}

fn tls_block(min: &Option<Field<String>>, max: &Option<Field<String>>, f: &mut Findings<'_>) {
    let (min, max) = (text(min.as_ref()), text(max.as_ref()));
    for version in [min, max] {
        f.block(!matches!(version, "" | "1.2" | "1.3"), "supported TLS versions are: 1.2, 1.3", "");
    }
    f.block(!min.is_empty() && !max.is_empty() && min > max, "TLSMinVersion greater than TLSMaxVersion", "");
}

fn storage(raw: Option<&RawStorage>, f: &mut Findings<'_>) -> Option<Storage> {
    let raw = raw?;
    let kind = raw.kind.as_ref()?;
    match kind.value.as_str() {
        "" => None,
        "memory" => {
            f.notice(&kind.place, "storage is in memory: a restart signs everybody out and makes new keys", "");
            Some(Storage::Memory)
        }
        "sqlite3" => {
            let place = raw.file.as_ref().map_or(&kind.place, |file| &file.place);
            let file = f.expand(text(raw.file.as_ref()));
            let path = file.strip_prefix("file:").unwrap_or(&file);
            match path {
                "" => {
                    f.value(place, "storage.config.file is empty", "name a file, such as /var/dex/dex.db");
                    None
                }
                ":memory:" => Some(Storage::Memory),
                path if file.starts_with("file:") && path.contains('?') => {
                    f.unsupported(place, "SQLite URIs with parameters are not supported", "write the file's path alone");
                    None
                }
                path => Some(Storage::Sqlite { file: PathBuf::from(path) }),
            }
        }
        known @ ("etcd" | "kubernetes" | "postgres" | "mysql") => {
            let message = format!("storage type {known:?} is not served yet");
            f.unsupported(&kind.place, message, "use `type: sqlite3` with `config: {file: /path/to/dex.db}`, or `type: memory`");
            None
        }
        other => {
            f.value(&kind.place, format!("unknown storage type {other:?}"), "use sqlite3 or memory");
            None
        }
    }
}

fn expiry(raw: &RawExpiry, f: &mut Findings<'_>) -> Expiry {
    let mut read = |field: &Option<Field<String>>, prefix: &dyn Fn(&str) -> String| -> Option<Duration> {
        let field = field.as_ref().filter(|x| !x.value.is_empty())?;
        match parse_duration(&field.value) {
            Ok(duration) => Some(duration),
            Err(error) => {
                f.value(&field.place, format!("{}: {error}", prefix(&field.value)), "write a duration such as 30m, 8h or 720h; there is no unit for days");
                None
            }
        }
    };
    let named = |what: &'static str| move |v: &str| format!("invalid config value {v:?} for {what} expiry");
    let refresh = |_: &str| "invalid refresh token expiration policy config".to_owned();
    let id_tokens = read(&raw.id_tokens, &named("id token"));
    let auth_requests = read(&raw.auth_requests, &named("auth request"));
    read(&raw.device_requests, &named("device request"));
    let reuse_interval = read(&raw.reuse_interval, &refresh);
    let absolute_lifetime = read(&raw.absolute_lifetime, &refresh);
    let valid_if_not_used_for = read(&raw.valid_if_not_used_for, &refresh);
    if id_tokens.is_some_and(|d| d < Duration::from_secs(1))
        && let Some(field) = &raw.id_tokens
    {
        f.value(&field.place, "tokens must live for at least a second", "write a duration such as 8h");
    }
    if auth_requests.is_some_and(|d| d > FLOW_LIFETIME)
        && let Some(field) = &raw.auth_requests
    {
        f.notice(&field.place, "a sign-in may take at most 15 minutes here; longer values count as 15m", "");
    }
    Expiry {
        id_tokens: id_tokens.unwrap_or(Duration::from_secs(24 * 3600)),
        auth_requests: auth_requests.filter(|d| !d.is_zero()).unwrap_or(FLOW_LIFETIME).min(FLOW_LIFETIME),
        refresh: RefreshPolicy {
            rotate: !raw.disable_rotation.as_ref().is_some_and(|b| b.value),
            reuse_interval,
            absolute_lifetime: absolute_lifetime.filter(|d| !d.is_zero()),
            valid_if_not_used_for,
        },
    }
}

fn logger(raw: &RawLogger, f: &mut Findings<'_>) -> Logger {
    let level = raw.level.as_ref().map_or(Some(0), |field| {
        let level = slog_level(&field.value);
        if level.is_none() {
            f.value(&field.place, format!("slog: level string {:?}: unknown name", field.value), "use debug, info, warn or error");
        }
        level
    });
    let json = match text(raw.format.as_ref()) {
        "" | "text" => false,
        "json" => true,
        other => {
            if let Some(field) = &raw.format {
                f.value(&field.place, format!("invalid config: log format is not one of the supported values (json, text): {other}"), "use json or text");
            }
            false
        }
    };
    let exclude_fields = raw.exclude_fields.as_ref().map(|x| x.value.clone()).unwrap_or_default();
    Logger { level: level.unwrap_or(0), json, exclude_fields }
}

/// slog's level names with an optional offset, such as `INFO+2`. The empty text is info.
fn slog_level(text: &str) -> Option<i32> {
    let (name, offset) = match text.find(['+', '-']) {
        Some(at) => {
            let (name, offset) = text.split_at(at);
            (name, offset.parse::<i32>().ok()?)
        }
        None => (text, 0),
    };
    let base = match name.to_ascii_uppercase().as_str() {
        "DEBUG" => -4,
        "" if text.is_empty() => 0,
        "INFO" => 0,
        "WARN" => 4,
        "ERROR" => 8,
        _ => return None,
    };
    i32::checked_add(base, offset)
}

fn frontend(raw: RawFrontend, f: &mut Findings<'_>) -> Frontend {
    if let Some(dir) = raw.dir.as_ref().filter(|d| !d.value.is_empty()) {
        f.unsupported(&dir.place, "own templates (frontend.dir) are not supported yet", "remove `frontend.dir`; title, logo and theme can be set");
    } else if (f.env)("DEX_FRONTEND_DIR").is_some_and(|d| !d.is_empty()) {
        let place = f.file.clone();
        f.unsupported(&place, "DEX_FRONTEND_DIR is set, but own templates are not supported yet", "unset DEX_FRONTEND_DIR");
    }
    let theme = match text(raw.theme.as_ref()) {
        "" => Theme::Auto,
        "light" | "coreos" | "tectonic" => Theme::Light,
        "dark" => Theme::Dark,
        other => {
            if let Some(field) = &raw.theme {
                f.value(&field.place, format!("there is no theme {other:?}"), "use light or dark, or remove the key: the browser's preference counts then");
            }
            Theme::Auto
        }
    };
    let logo_url = raw.logo_url.filter(|l| !l.value.is_empty()).and_then(|field| {
        let ok = url::Url::parse(&field.value).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some());
        if !ok {
            f.value(&field.place, "the logo must be an http or https URL", "without the key, a built-in logo is shown");
        }
        ok.then_some(field.value)
    });
    let title = raw.issuer.map(|i| i.value).filter(|i| !i.is_empty()).unwrap_or_else(|| "dex".to_owned());
    Frontend { title, logo_url, theme, extra: raw.extra }
}

fn signer(raw: &RawConfig, f: &mut Findings<'_>) -> Signer {
    let hint = "write a duration such as 6h";
    let mut rotation = None;
    let mut kind = KeyKind::Rsa2048;
    let old = raw.expiry.signing_keys.as_ref().filter(|k| !k.value.is_empty());
    let from_expiry = old.and_then(|field| {
        parse_duration(&field.value)
            .map_err(|e| f.value(&field.place, format!("invalid config value {:?} for signing keys expiry: {e}", field.value), hint))
            .ok()
    });
    if let Some(signer) = &raw.signer {
        match text(signer.kind.as_ref()) {
            "" => {}
            "local" => {
                let period = signer.keys_rotation_period.as_ref().map(|field| (field, f.expand(&field.value)));
                match period.filter(|(_, text)| !text.is_empty()) {
                    None => f.value(&signer.place, "failed to open local signer: signer.config.keysRotationPeriod must be specified", "add `keysRotationPeriod: 6h` under `signer.config`"),
                    Some((field, text)) => match parse_duration(&text) {
                        Ok(duration) => rotation = Some(duration),
                        Err(error) => f.value(&field.place, format!("invalid config value {text:?} for local signer rotation period: {error}"), hint),
                    },
                }
                if let (Some(old), Some(_)) = (old, rotation) {
                    f.notice(&old.place, "signer.config.keysRotationPeriod counts instead", "remove `expiry.signingKeys`");
                }
                match f.expand(text(signer.algorithm.as_ref())).as_str() {
                    "" | "RS256" => {}
                    "ES256" => kind = KeyKind::P256,
                    other => {
                        let place = signer.algorithm.as_ref().map_or(&signer.place, |a| &a.place);
                        f.value(place, format!("parse signer config: unsupported local signer algorithm {other:?}"), "use RS256 or ES256");
                    }
                }
            }
            "vault" => f.unsupported(&signer.place, "the vault signer is not served yet", "use `type: local` with `config: {keysRotationPeriod: 6h}`"),
            other => f.value(&signer.place, format!("unknown signer type {other:?}"), "use `type: local`"),
        }
    }
    let rotation = rotation.or(from_expiry).unwrap_or(Duration::from_secs(6 * 3600));
    if rotation < Duration::from_secs(60) {
        let place = old.map_or_else(|| f.file.clone(), |o| o.place.clone());
        f.value(&place, "signing keys must live for at least a minute", hint);
    }
    Signer { kind, rotation }
}

fn attempts(raw: &RawOwn, f: &mut Findings<'_>) -> Attempts {
    let d = Attempts::default();
    let mut number = |field: &Option<Field<i64>>, default: usize, low: i64, high: i64| -> usize {
        let Some(field) = field else { return default };
        if !(low..=high).contains(&field.value) {
            f.value(&field.place, format!("must be from {low} to {high}"), "");
            return default;
        }
        usize::try_from(field.value).unwrap_or(default)
    };
    let max_failures = number(&raw.max_failures, d.max_failures as usize, 1, 1000);
    let per_minute = number(&raw.attempts_per_minute, d.per_minute as usize, 1, 100_000);
    let hash_workers = number(&raw.hash_workers, d.hash_workers, 0, 256);
    let hash_queue = number(&raw.hash_queue, d.hash_queue, 1, 100_000);
    let mut time = |field: &Option<Field<String>>, default: Duration, low: u64, high: u64| -> Duration {
        let Some(field) = field else { return default };
        match parse_duration(&field.value) {
            Ok(duration) if (Duration::from_secs(low)..=Duration::from_secs(high)).contains(&duration) => duration,
            Ok(_) => {
                f.value(&field.place, format!("must be from {low}s to {high}s"), "");
                default
            }
            Err(error) => {
                f.value(&field.place, error.to_string(), "write a duration such as 5m");
                default
            }
        }
    };
    Attempts {
        max_failures: u32::try_from(max_failures).unwrap_or(d.max_failures),
        window: time(&raw.failure_window, d.window, 1, 86_400),
        max_delay: time(&raw.max_delay, d.max_delay, 1, 600),
        per_minute: u32::try_from(per_minute).unwrap_or(d.per_minute),
        hash_workers,
        hash_queue,
    }
}

/// Keeps the last of several entries with one name, as Dex's maps do, and says so.
pub(super) fn last_wins<T>(entries: Vec<(String, Place, T)>, what: &str, f: &mut Findings<'_>) -> Vec<T> {
    let mut seen = HashSet::new();
    let mut out: Vec<T> = Vec::new();
    for (name, place, entry) in entries.into_iter().rev() {
        if seen.insert(name.clone()) {
            out.push(entry);
        } else {
            f.notice(&place, format!("{what} {name:?} is given again further down; the last one counts"), "remove one of the two");
        }
    }
    out.reverse();
    out
}
