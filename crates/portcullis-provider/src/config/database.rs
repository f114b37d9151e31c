//! `storage` of the types `postgres` and `mysql`.
//!
//! Compat: keys, defaults and meanings of Dex `storage/sql/config.go` (dex.md 4.2). What differs is in docs/compat/dex.md.

use std::path::PathBuf;
use std::time::Duration;

use portcullis_runtime::Secret;
use portcullis_storage::{MySqlServer, PostgresServer, SqlOptions, SqlTls, SqlTlsMode};

use super::problem::Place;
use super::raw::RawDatabase;
use super::reader::Field;
use super::settings::Storage;
use super::validate::{Findings, text};

/// Most connections that can be asked for.
const MAX_CONNECTIONS: i64 = 1_000;
/// Longest time that can be asked for, in seconds: ten years.
const MAX_SECONDS: i64 = 10 * 365 * 24 * 60 * 60;
const POSTGRES_PORT: u16 = 5432;
const MYSQL_PORT: u16 = 3306;

/// Something is wrong and has been reported.
struct Reported;

pub(super) fn postgres(kind: &Place, raw: &RawDatabase, f: &mut Findings<'_>) -> Option<Storage> {
    let configured = f.expand(text(raw.host.as_ref()));
    // Dex's driver asks the environment for what the file does not say.
    let host = if configured.is_empty() { (f.env)("PGHOST").unwrap_or_default() } else { configured };
    let (host, named) = host_and_port(&host);
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    let port = port(raw, f).ok()?;
    let from_environment = || (f.env)("PGPORT").and_then(|port| port.parse().ok());
    let port = named.or(port).or_else(from_environment).unwrap_or(POSTGRES_PORT);
    let variable = |name: &str| (f.env)(name).filter(|value| !value.is_empty());
    let user = given(raw.user.as_ref(), f).or_else(|| variable("PGUSER"));
    let password = password(raw, f).or_else(|| variable("PGPASSWORD").map(Secret::new));
    let database = given(raw.database.as_ref(), f).or_else(|| variable("PGDATABASE"));
    let mode = match (f.expand(text(raw.ssl_mode.as_ref())).as_str(), path(raw.ca_file.as_ref(), f).is_some()) {
        ("disable", _) => SqlTlsMode::Disabled,
        // As PostgreSQL's own library has it: a named authority is not named in vain.
        ("require", false) => SqlTlsMode::Unverified,
        ("require", true) | ("verify-ca", _) => SqlTlsMode::Authority,
        ("" | "verify-full", _) => SqlTlsMode::Full,
        (other, _) => {
            let message = format!("unsupported sslmode {other:?}");
            let place = raw.ssl_mode.as_ref().map_or(kind, |mode| &mode.place);
            f.value(place, message, "use verify-full, verify-ca, require or disable");
            return None;
        }
    };
    let tls = SqlTls { mode, ca_file: path(raw.ca_file.as_ref(), f), client: client(kind, raw, f).ok()? };
    let options = options(raw, f)?;
    Some(Storage::Postgres { server: PostgresServer { host, port, user, password, database, tls }, options })
}

pub(super) fn mysql(kind: &Place, raw: &RawDatabase, f: &mut Findings<'_>) -> Option<Storage> {
    let host = f.expand(text(raw.host.as_ref()));
    let port = port(raw, f).ok()?;
    let (host, named) = match port {
        // The port is told apart from the host only where it is not given by itself.
        None if !host.starts_with('/') => host_and_port(&host),
        _ => (host, None),
    };
    let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
    let port = port.or(named).unwrap_or(MYSQL_PORT);
    let Some(database) = given(raw.database.as_ref(), f) else {
        let place = raw.database.as_ref().map_or(kind, |database| &database.place);
        f.value(place, "storage.config.database is empty", "name the database, such as portcullis");
        return None;
    };
    let files =
        [&raw.ca_file, &raw.cert_file, &raw.key_file].map(|file| path(file.as_ref(), f)).iter().any(Option::is_some);
    let mode = match f.expand(text(raw.ssl_mode.as_ref())).as_str() {
        // Files make the mode "custom", whatever it says.
        _ if files => SqlTlsMode::Full,
        "" | "true" => SqlTlsMode::Full,
        "false" => SqlTlsMode::Disabled,
        "skip-verify" => SqlTlsMode::Unverified,
        other => {
            let message = format!("invalid value / unknown config name: {other}");
            let place = raw.ssl_mode.as_ref().map_or(kind, |mode| &mode.place);
            f.value(place, message, "use \"true\", \"false\" or skip-verify, or name the authority in ssl.caFile");
            return None;
        }
    };
    let tls = SqlTls { mode, ca_file: path(raw.ca_file.as_ref(), f), client: client(kind, raw, f).ok()? };
    let user = f.expand(text(raw.user.as_ref()));
    let options = options(raw, f)?;
    let server = MySqlServer { host, port, user, password: password(raw, f), database, tls };
    Some(Storage::MySql { server, options })
}

/// The value of a key, unless it is missing or empty.
fn given(field: Option<&Field<String>>, f: &Findings<'_>) -> Option<String> {
    Some(f.expand(text(field))).filter(|value| !value.is_empty())
}

fn path(field: Option<&Field<String>>, f: &Findings<'_>) -> Option<PathBuf> {
    given(field, f).map(PathBuf::from)
}

fn password(raw: &RawDatabase, f: &Findings<'_>) -> Option<Secret> {
    let password = raw.password.as_ref()?;
    Some(f.expand(password.value.expose())).filter(|value| !value.is_empty()).map(Secret::new)
}

/// Certificate and key of the client, of which neither means anything without the other.
fn client(kind: &Place, raw: &RawDatabase, f: &mut Findings<'_>) -> Result<Option<(PathBuf, PathBuf)>, Reported> {
    match (path(raw.cert_file.as_ref(), f), path(raw.key_file.as_ref(), f)) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => {
            let place = raw.cert_file.as_ref().map_or(kind, |file| &file.place);
            f.value(place, "ssl.certFile is given without ssl.keyFile", "name the certificate's key");
            Err(Reported)
        }
        (None, Some(_)) => {
            let place = raw.key_file.as_ref().map_or(kind, |file| &file.place);
            f.value(place, "ssl.keyFile is given without ssl.certFile", "name the key's certificate");
            Err(Reported)
        }
    }
}

/// Compat: Go `net.SplitHostPort`; what it refuses is a host alone.
fn host_and_port(host: &str) -> (String, Option<u16>) {
    if let Some((inner, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once("]:"))
        && let Ok(port) = port.parse()
    {
        return (inner.to_owned(), Some(port));
    }
    match host.split_once(':') {
        Some((name, port)) if !name.starts_with('/') && !port.contains(':') => match port.parse() {
            Ok(port) => (name.to_owned(), Some(port)),
            Err(_) => (host.to_owned(), None),
        },
        _ => (host.to_owned(), None),
    }
}

/// The port; none when it is missing or 0.
fn port(raw: &RawDatabase, f: &mut Findings<'_>) -> Result<Option<u16>, Reported> {
    let Some(field) = &raw.port else { return Ok(None) };
    match u16::try_from(field.value) {
        Ok(port) => Ok(Some(port).filter(|port| *port != 0)),
        Err(_) => {
            let message = format!("{} is no port", field.value);
            f.value(&field.place, message, "use a number up to 65535");
            Err(Reported)
        }
    }
}

fn options(raw: &RawDatabase, f: &mut Findings<'_>) -> Option<SqlOptions> {
    let default = SqlOptions::default();
    let max_open = number(raw.max_open.as_ref(), MAX_CONNECTIONS, f);
    let max_idle = number(raw.max_idle.as_ref(), MAX_CONNECTIONS, f);
    let timeout = number(raw.connection_timeout.as_ref(), MAX_SECONDS, f);
    let lifetime = number(raw.max_lifetime.as_ref(), MAX_SECONDS, f);
    let (max_open, max_idle, timeout, lifetime) = (max_open.ok()?, max_idle.ok()?, timeout.ok()?, lifetime.ok()?);
    let count = |count: Option<u64>| count.and_then(|count| usize::try_from(count).ok());
    let max_open = count(max_open).unwrap_or(default.max_open);
    Some(SqlOptions {
        max_open,
        max_idle: count(max_idle).unwrap_or(default.max_idle).min(max_open),
        max_lifetime: lifetime.map(Duration::from_secs),
        connect_time: timeout.map_or(default.connect_time, Duration::from_secs),
        answer_time: default.answer_time,
    })
}

/// A number; none when it is missing or 0, which means the default everywhere here.
fn number(field: Option<&Field<i64>>, most: i64, f: &mut Findings<'_>) -> Result<Option<u64>, Reported> {
    let Some(field) = field else { return Ok(None) };
    match u64::try_from(field.value) {
        Ok(number) if field.value <= most => Ok(Some(number).filter(|number| *number != 0)),
        _ => {
            let message = format!("{} is out of range", field.value);
            f.value(&field.place, message, &format!("use a number from 0 to {most}; 0 means the default"));
            Err(Reported)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, RawConfig};

    fn read(kind: &str, config: &str, env: &[(&str, &str)]) -> Result<Storage, String> {
        let text = format!(
            "issuer: http://127.0.0.1:5556/dex\nweb: {{http: 127.0.0.1:5556}}\nenablePasswordDB: true\n\
             storage: {{type: {kind}, config: {{{config}}}}}\n"
        );
        let doc = Document::parse(&text, "c.yaml").map_err(|error| error.to_string())?;
        let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let config = RawConfig::read(&doc.root()).0.validate(&env).map_err(|errors| errors.to_string())?;
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter"), "a password in {shown}");
        Ok(config.storage)
    }

    fn postgres(config: &str, env: &[(&str, &str)]) -> (PostgresServer, SqlOptions) {
        match read("postgres", config, env) {
            Ok(Storage::Postgres { server, options }) => (server, options),
            other => panic!("{other:?}"),
        }
    }

    fn mysql(config: &str) -> (MySqlServer, SqlOptions) {
        match read("mysql", config, &[]) {
            Ok(Storage::MySql { server, options }) => (server, options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_key_is_read() {
        let config = "host: db, port: 5433, user: u, password: $PW, database: d, connectionTimeout: 7, maxOpenConns: 9, \
             MAXIDLECONNS: 3, connMaxLifetime: 60, ssl: {mode: verify-ca, caFile: ca, certFile: c, keyFile: k}";
        let (server, options) = postgres(config, &[("PW", "hunter2")]);
        assert_eq!((server.host.as_str(), server.port), ("db", 5433));
        assert_eq!((server.user.as_deref(), server.database.as_deref()), (Some("u"), Some("d")));
        assert_eq!(server.password.unwrap().expose(), "hunter2");
        let files = Some(("c".into(), "k".into()));
        assert_eq!(
            server.tls,
            SqlTls { mode: SqlTlsMode::Authority, ca_file: Some("ca".into()), client: files.clone() }
        );
        assert_eq!((options.max_open, options.max_idle), (9, 3));
        assert_eq!(options.connect_time, Duration::from_secs(7));
        assert_eq!(options.max_lifetime, Some(Duration::from_secs(60)));

        let (server, options) = mysql(&config.replace("mode: verify-ca", "mode: custom").replace("$PW", "hunter3"));
        assert_eq!((server.host.as_str(), server.port, server.user.as_str()), ("db", 5433, "u"));
        assert_eq!((server.database.as_str(), server.password.unwrap().expose()), ("d", "hunter3"));
        assert_eq!(server.tls, SqlTls { mode: SqlTlsMode::Full, ca_file: Some("ca".into()), client: files });
        assert_eq!((options.max_open, options.max_idle), (9, 3));
    }

    #[test]
    fn what_is_missing_has_dex_s_defaults() {
        let (server, options) = postgres("", &[]);
        assert_eq!((server.host.as_str(), server.port), ("localhost", 5432));
        assert!(server.user.is_none() && server.password.is_none() && server.database.is_none());
        assert_eq!(server.tls, SqlTls { mode: SqlTlsMode::Full, ..SqlTls::default() });
        assert_eq!((options.max_open, options.max_idle, options.max_lifetime), (5, 5, None));
        let env = [("PGHOST", "h"), ("PGPORT", "1"), ("PGUSER", "u"), ("PGPASSWORD", "hunter2"), ("PGDATABASE", "d")];
        let (server, _) = postgres("port: 0", &env);
        assert_eq!((server.host.as_str(), server.port), ("h", 1));
        assert_eq!((server.user.as_deref(), server.database.as_deref()), (Some("u"), Some("d")));
        assert_eq!(server.password.unwrap().expose(), "hunter2");
        assert_eq!(postgres("host: 'db:7', port: 8", &[]).0.port, 7, "as Dex has it");

        let (server, options) = mysql("database: d");
        assert_eq!((server.host.as_str(), server.port, server.user.as_str()), ("127.0.0.1", 3306, ""));
        assert_eq!(server.tls.mode, SqlTlsMode::Full);
        assert_eq!((options.max_open, options.max_idle), (5, 5));
        assert_eq!(mysql("database: d, host: 'db:7'").0.port, 7);
        assert_eq!(mysql("database: d, host: /run/mysqld.sock").0.host, "/run/mysqld.sock");
        assert_eq!(mysql("database: d, maxOpenConns: 2").1.max_idle, 2, "no more are kept than there may be");
    }

    #[test]
    fn modes_mean_what_they_mean_to_dex_s_drivers() {
        for (mode, want) in [
            ("disable", SqlTlsMode::Disabled),
            ("require", SqlTlsMode::Unverified),
            ("require, caFile: ca", SqlTlsMode::Authority),
            ("verify-ca", SqlTlsMode::Authority),
            ("verify-full", SqlTlsMode::Full),
        ] {
            assert_eq!(postgres(&format!("ssl: {{mode: {mode}}}"), &[]).0.tls.mode, want, "{mode}");
        }
        for (mode, want) in [
            ("'true'", SqlTlsMode::Full),
            ("'false'", SqlTlsMode::Disabled),
            ("skip-verify", SqlTlsMode::Unverified),
            ("'false', caFile: ca", SqlTlsMode::Full),
        ] {
            assert_eq!(mysql(&format!("database: d, ssl: {{mode: {mode}}}")).0.tls.mode, want, "{mode}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        for (kind, config, want) in [
            ("postgres", "port: 65536", "storage.config.port: 65536 is no port"),
            ("postgres", "port: '5432'", "storage.config.port: expected a whole number"),
            ("mysql", "database: d, port: -1", "storage.config.port: -1 is no port"),
            ("postgres", "maxOpenConns: 1001", "storage.config.maxOpenConns: 1001 is out of range"),
            ("postgres", "maxIdleConns: -1", "storage.config.maxIdleConns: -1 is out of range"),
            ("postgres", "connectionTimeout: 315360001", "storage.config.connectionTimeout: 315360001 is out of range"),
            ("postgres", "connMaxLifetime: -5", "storage.config.connMaxLifetime: -5 is out of range"),
            ("postgres", "ssl: {mode: prefer}", "storage.config.ssl.mode: unsupported sslmode \"prefer\""),
            ("postgres", "ssl: {certFile: c}", "ssl.certFile is given without ssl.keyFile"),
            ("mysql", "database: d, ssl: {keyFile: k}", "ssl.keyFile is given without ssl.certFile"),
            ("mysql", "database: d, ssl: {mode: custom}", "invalid value / unknown config name: custom"),
            ("mysql", "host: db", "storage.config.database is empty"),
        ] {
            let text = read(kind, config, &[]).unwrap_err();
            assert!(text.contains(want), "{kind} {config}: {text}");
        }
    }

    #[test]
    fn hosts_are_split_as_go_splits_them() {
        for (host, name, port) in [
            ("db", "db", None),
            ("db:5433", "db", Some(5433)),
            ("[::1]:5433", "::1", Some(5433)),
            ("::1", "::1", None),
            ("/var/run/postgresql", "/var/run/postgresql", None),
            ("db:name", "db:name", None),
            ("db:70000", "db:70000", None),
            ("", "", None),
        ] {
            assert_eq!(host_and_port(host), (name.to_owned(), port), "{host}");
        }
    }
}
