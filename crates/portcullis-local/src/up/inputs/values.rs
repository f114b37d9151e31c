//! The chart's values: `dex.config`, read as it is, and what cannot hold on one machine changed with a word each.

use std::path::PathBuf;

use portcullis_provider::config::{Document, Field, GUIDE_BAD_HASH, GUIDE_GOOD_HASH, RawConfig, RawStorage, Warning};
use portcullis_runtime::Secret;
use url::Url;

use crate::steps::Steps;

use super::super::is_loopback;
use super::error::InputError;
use super::{Asked, Text};

/// The provider's configuration when no file is given: the guide's, without its consent page.
pub(super) const DEFAULT_CONFIG: &str = "\
issuer: ''
storage: {type: sqlite3}
web: {https: '127.0.0.1:5554'}
logger: {level: info, format: text}
enablePasswordDB: true
oauth2: {skipApprovalScreen: true}
staticClients:
- id: kubernetes
  name: kubernetes
  secret: demo-client-secret-change-me
  redirectURIs: ['http://localhost:8000', 'http://localhost:18000']
staticPasswords:
- email: oidc-demo-user@example.com
  hash: '$2b$10$bFMH4ZEa8UBqERoiGchjm.yoPC.Bg.b4zWgKqQlCGVXUWP6f/Gjuu'
  username: oidc-demo-user
  userID: 08a8684b-db88-4b73-90a9-3cd1661f5466
";

/// Reads the built-in configuration.
pub(super) fn read_default() -> Result<RawConfig, InputError> {
    let document = Document::parse(DEFAULT_CONFIG, "the built-in configuration").map_err(InputError::Config)?;
    Ok(RawConfig::read(&document.root()).0)
}

/// Reads `dex.config` out of a chart's values.
pub(super) fn read(text: &Text, steps: &Steps) -> Result<RawConfig, InputError> {
    let name = &text.name;
    let document = Document::parse(&text.text, name).map_err(InputError::Config)?;
    for warning in document.warnings() {
        steps.word(&warning.to_string());
    }
    let section = document.section(&["dex", "config"]).ok_or_else(|| InputError::NoDexConfig(PathBuf::from(name)))?;
    let others: Vec<String> = document
        .section(&["dex"])
        .map(|dex| dex.keys())
        .unwrap_or_default()
        .into_iter()
        .filter(|key| *key != "config")
        .map(|key| format!("dex.{key}"))
        .collect();
    let others: Vec<String> =
        document.root().keys().into_iter().filter(|key| *key != "dex").map(str::to_owned).chain(others).collect();
    if let (Some(first), Some(last)) = (others.first(), others.last()) {
        steps.word(&format!("{name}: {} chart keys outside dex.config are ignored ({first} … {last})", others.len()));
    }
    let (raw, warnings) = RawConfig::read(&section);
    for warning in &warnings {
        steps.word(&with_hint(warning));
    }
    Ok(raw)
}

/// A warning with what to do about it.
pub(super) fn with_hint(warning: &Warning) -> String {
    format!("{warning}{}", warning.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())
}

/// Changes what cannot hold on one machine. `source` is the file's name.
pub(super) fn adapt(raw: &mut RawConfig, source: &str, from_file: bool, asked: &Asked, steps: &Steps) {
    if let Some(grpc) = raw.grpc.take() {
        steps.word(&format!("{}: gRPC is not served yet", grpc.place));
    }
    if let Some(storage) = &mut raw.storage {
        adapt_storage(storage, from_file, steps);
    }
    if from_file {
        say_certificate(raw, source, steps);
        say_addresses(raw, asked, steps);
    }
    if asked.fix_demo_hash {
        for password in &mut raw.static_passwords {
            if let Some(hash) = &mut password.hash
                && hash.value.expose() == GUIDE_BAD_HASH
            {
                steps.word(&format!("{}: the guide's published hash does not belong to the guide's password; one that does is used for this run", hash.place));
                hash.value = Secret::new(GUIDE_GOOD_HASH);
            }
        }
    }
}

/// A certificate that is there is replaced too: the plugin and the API server trust the local authority alone.
fn say_certificate(raw: &RawConfig, source: &str, steps: &Steps) {
    let web = &raw.web;
    if web.https.is_none() {
        steps.word(&format!("{source}: web.https is added: an API server takes an issuer over https alone"));
    }
    for (key, field) in [("web.tlsCert", &web.tls_cert), ("web.tlsKey", &web.tls_key)] {
        match field {
            Some(field) => steps.word(&format!(
                "{}: {} is replaced by one that `up` makes for localhost: the sign-in plugin and the API server trust the local authority",
                field.place, field.value
            )),
            None => steps.word(&format!("{source}: {key} is added: one that `up` makes for localhost")),
        }
    }
}

fn say_addresses(raw: &RawConfig, asked: &Asked, steps: &Steps) {
    for field in [&raw.web.http, &raw.web.https, &raw.telemetry.http].into_iter().flatten() {
        if !asked.guide && !is_loopback_address(&field.value) {
            steps
                .word(&format!("{}: {} becomes loopback: `up` opens nothing to the network", field.place, field.value));
        }
    }
    if let (Some(given), Some(field)) = (asked.issuer_port, &raw.web.https)
        && let Some(port) = port_of(&field.value)
        && given != port
    {
        steps.word(&format!("{}: the port {port} is not used: --issuer-port is given", field.place));
    }
}

fn adapt_storage(storage: &mut RawStorage, from_file: bool, steps: &Steps) {
    let Some(kind) = &mut storage.kind else { return };
    if kind.value == "kubernetes" {
        steps.word(&format!("{}: storage kubernetes becomes the embedded database in the state folder", kind.place));
        "sqlite3".clone_into(&mut kind.value);
        storage.file = None;
    } else if kind.value == "sqlite3" && from_file && storage.file.is_some() {
        steps.word(&format!("{}: the database is kept in the state folder", kind.place));
        storage.file = None;
    }
}

/// The port of an address such as `0.0.0.0:5556`.
pub(super) fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

/// A port of the file; an address without one is refused.
pub(super) fn port_in(field: Option<&Field<String>>) -> Result<Option<u16>, InputError> {
    let Some(field) = field.filter(|field| !field.value.is_empty()) else { return Ok(None) };
    port_of(&field.value)
        .map(Some)
        .ok_or_else(|| InputError::Address { place: field.place.to_string(), value: field.value.clone() })
}

fn is_loopback_address(address: &str) -> bool {
    Url::parse(&format!("tcp://{address}"))
        .ok()
        .or_else(|| Url::parse(&format!("http://{address}")).ok())
        .is_some_and(|url| is_loopback_host(&url))
}

fn is_loopback_host(url: &Url) -> bool {
    let ip = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().ok());
    ip.map_or_else(|| is_loopback(url), |ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_hash_is_of_the_guides_password() {
        let hash =
            DEFAULT_CONFIG.lines().find_map(|line| line.trim().strip_prefix("hash: ")).unwrap().trim_matches('\'');
        assert!(bcrypt::verify(super::super::super::DEMO_PASSWORD, hash).unwrap());
    }

    #[test]
    fn addresses_that_others_can_reach_are_told_from_loopback() {
        for (address, loopback) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("localhost:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            (":5556", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(is_loopback_address(address), loopback, "{address}");
        }
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        let port = |text: &str| port_in(Some(&Field::given(text.to_owned())));
        assert_eq!(port("0.0.0.0:5556").unwrap(), Some(5556));
        assert_eq!(port("[::1]:0").unwrap(), Some(0));
        assert_eq!((port("").unwrap(), port_in(None).unwrap()), (None, None));
        for text in ["5556", "localhost", "127.0.0.1:http", "127.0.0.1:70000", "127.0.0.1:"] {
            assert!(matches!(port(text), Err(InputError::Address { .. })), "{text}");
        }
    }
}
