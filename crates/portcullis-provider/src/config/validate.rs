//! From what was written to what is valid: every message of Dex's, then what this version does not serve.
//!
//! Compat: texts and order of Dex `cmd/dex/config.go` and `serve.go` (dex.md 1.5). Everything that is wrong is reported
//! at once; nothing is guessed.

use std::collections::HashSet;

use super::expand::expand;
use super::problem::{ConfigErrors, Place, Problem, ProblemKind, Warning};
use super::raw::RawConfig;
use super::reader::Field;
use super::settings::{Config, Issuer};
use super::{appearance, clients, encryption, lifetimes, oauth2, storage, users, web};

/// Reads an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

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
        let file =
            Place { file: self.file.clone().unwrap_or_else(|| "config".into()), line: None, path: String::new() };
        let mut f = Findings { env, problems: Vec::new(), notices: Vec::new(), file };
        self.dex_block(&mut f);
        f.problems.extend(self.problems.iter().cloned());
        if f.flag("DEX_CONFIG_DISALLOW_UNKNOWN_FIELDS", false) {
            for warning in &self.unknown {
                let key = warning.place.path.rsplit('.').next().unwrap_or_default();
                let message = format!("json: unknown field {key:?}");
                f.problem(
                    ProblemKind::UnknownKey,
                    &warning.place,
                    message,
                    warning.hint.as_deref().unwrap_or_default(),
                );
            }
        }
        self.not_served(&mut f);
        let issuer = self.issuer.as_ref().filter(|i| !i.value.is_empty()).and_then(|issuer| {
            Issuer::parse(&issuer.value)
                .map_err(|e| f.value(&issuer.place, e, "write the URL under which browsers and clusters reach this provider, such as https://dex.example.com"))
                .ok()
        });
        let storage = storage::storage(self.storage.as_ref(), &mut f);
        let web = web::validate(&self.web, &mut f);
        if let Some(issuer) = &issuer {
            web::notice_unnamed_proxy(&self.web, issuer.as_str(), &mut f);
        }
        let password_db = self.enable_password_db.as_ref().is_some_and(|b| b.value);
        let oauth2 = oauth2::validate(&self.oauth2, password_db, &mut f);
        let expiry = lifetimes::expiry(&self.expiry, &mut f);
        let logger = appearance::logger(&self.logger, &mut f);
        let frontend = appearance::frontend(self.frontend.clone(), &mut f);
        let signer = lifetimes::signer(&self, &mut f);
        let clients = clients::validate(&self.static_clients, &mut f);
        let passwords = users::validate(&self.static_passwords, &mut f);
        let attempts = lifetimes::attempts(&self.own, &mut f);
        let encryption = encryption::validate(&self.own.encryption, &mut f);
        if !password_db && self.connectors.is_empty() {
            let place = f.file.clone();
            f.value(
                &place,
                "server: no connectors specified",
                "set `enablePasswordDB: true`, so that local users can sign in",
            );
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
                encryption,
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
        f.block(
            !is(&self.issuer),
            "no issuer specified in config file",
            "add `issuer:` with the URL under which this provider is reached",
        );
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
        f.block(
            !is(&w.http) && !is(&w.https),
            "must supply a HTTP/HTTPS  address to listen on",
            "add `web:` with `http: 127.0.0.1:5556`",
        );
        f.block(is(&w.https) && !is(&w.tls_cert), "no cert specified for HTTPS", "add `web.tlsCert`");
        f.block(is(&w.https) && !is(&w.tls_key), "no private key specified for HTTPS", "add `web.tlsKey`");
        tls_block(&w.tls_min_version, &w.tls_max_version, f);
        if let Some(g) = &self.grpc {
            f.block(is(&g.tls_cert) && !is(&g.addr), "no address specified for gRPC", "");
            f.block(is(&g.tls_key) && !is(&g.addr), "no address specified for gRPC", "");
            f.block(is(&g.tls_cert) != is(&g.tls_key), "must specific both a gRPC TLS cert and key", "");
            f.block(
                !is(&g.tls_cert) && is(&g.tls_client_ca),
                "cannot specify gRPC TLS client CA without a gRPC TLS cert",
                "",
            );
            tls_block(&g.tls_min_version, &g.tls_max_version, f);
        }
    }

    /// What Dex serves and this version does not.
    fn not_served(&self, f: &mut Findings<'_>) {
        let sessions_on = f.flag("DEX_SESSIONS_ENABLED", false);
        let file = f.file.clone();
        if let Some(place) = &self.sessions {
            if sessions_on {
                f.unsupported(
                    place,
                    "sessions are not served yet",
                    "remove `sessions`, and DEX_SESSIONS_ENABLED from the environment",
                );
            } else {
                f.value(
                    place,
                    "sessions config requires sessions to be enabled (DEX_SESSIONS_ENABLED=true)",
                    "sessions are not served yet: remove `sessions`",
                );
            }
        } else if sessions_on {
            f.unsupported(
                &file,
                "DEX_SESSIONS_ENABLED is set, but sessions are not served yet",
                "unset DEX_SESSIONS_ENABLED",
            );
        }
        if let Some(place) = &self.mfa {
            if sessions_on {
                f.unsupported(place, "second factors are not served yet", "remove `mfa`");
            } else {
                f.value(
                    place,
                    "mfa requires sessions to be enabled (DEX_SESSIONS_ENABLED=true)",
                    "second factors are not served yet: remove `mfa`",
                );
            }
        }
        if let Some(grpc) = self.grpc.as_ref().filter(|g| !text(g.addr.as_ref()).is_empty()) {
            f.unsupported(&grpc.place, "the gRPC API is not served yet", "remove `grpc`");
        }
        for connector in &self.connectors {
            let kind = text(connector.kind.as_ref());
            let message = format!(
                "connectors are not served yet (this one is {:?} of type {kind:?})",
                text(connector.id.as_ref())
            );
            f.unsupported(
                &connector.place,
                message,
                "remove `connectors`, and use `enablePasswordDB` with `staticPasswords`",
            );
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

/// Keeps the last of several entries with one name, as Dex's maps do, and says so.
pub(super) fn last_wins<T>(entries: Vec<(String, Place, T)>, what: &str, f: &mut Findings<'_>) -> Vec<T> {
    let mut seen = HashSet::new();
    let mut out: Vec<T> = Vec::new();
    for (name, place, entry) in entries.into_iter().rev() {
        if seen.insert(name.clone()) {
            out.push(entry);
        } else {
            f.notice(
                &place,
                format!("{what} {name:?} is given again further down; the last one counts"),
                "remove one of the two",
            );
        }
    }
    out.reverse();
    out
}
