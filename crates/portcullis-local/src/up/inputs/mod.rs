//! What the user gave: chart values with `dex.config`, and a kind cluster configuration. Both are taken as they are; what
//! cannot hold on one machine is changed with a word each, and what is wrong is refused with its place before anything is
//! started.

mod cluster;
mod demo;
mod error;
mod values;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use portcullis_authn::OidcFlags;
use portcullis_provider::config::{Config, Field, LocalUser, RawClient, RawConfig};
use portcullis_runtime::Secret;
use portcullis_runtime::telemetry::{Level, LogConfig, LogFormat};
use serde::{Deserialize, Serialize};

use crate::ports::{self, Obstacle};
use crate::steps::Steps;

use super::Options;
use super::listeners::Ports;
use super::provider::Certificate;

use cluster::Cluster;
use error::{MAX_FILE, busy};
use values::port_in;

pub use error::InputError;

pub(crate) use demo::{Demo, has_the_guides_password};

/// Ports on which kubelogin listens unless told otherwise; the guide registers the first.
const PLUGIN_PORTS: [u16; 2] = [8000, 18000];
/// The provider's port when neither a flag nor the file says it: the guide's.
const DEFAULT_ISSUER_PORT: u16 = 5554;

/// The environment, for the configuration's keys that name variables of it.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A file as it was read. It holds secrets, so it is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Text {
    /// The path as it was given, for error texts.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Both files; a missing one is the built-in configuration.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sources {
    pub(crate) values: Option<Text>,
    pub(crate) cluster: Option<Text>,
}

impl Sources {
    /// Reads the files that the command line names.
    pub(crate) fn read(options: &Options) -> Result<Self, InputError> {
        let read = |flag, path: &Option<std::path::PathBuf>| {
            let Some(path) = path else { return Ok(None) };
            Ok::<_, InputError>(Some(Text { name: path.display().to_string(), text: read_text(flag, path)? }))
        };
        Ok(Self {
            values: read("--values", &options.values)?,
            cluster: read("--cluster-config", &options.cluster_config)?,
        })
    }
}

/// What the command line says about the files.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) name: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) issuer_port: Option<u16>,
    pub(crate) keep_issuer: bool,
    pub(crate) fix_demo_hash: bool,
    /// Whether somebody has to be there who can be signed in.
    pub(crate) unattended: bool,
    /// Whether the provider is in a pod, whose addresses are its own.
    pub(crate) guide: bool,
    pub(crate) environment: Environment,
}

impl Asked {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            name: options.name.clone(),
            port: options.port,
            issuer_port: options.issuer_port,
            keep_issuer: options.keep_issuer,
            fix_demo_hash: options.fix_demo_hash,
            // The guide's reader signs in when they come to it.
            unattended: options.unattended && !options.guide,
            guide: options.guide,
            environment: options.environment.clone(),
        }
    }
}

/// The client as the plugin needs it.
#[derive(PartialEq, Eq)]
pub(crate) struct PluginClient {
    pub(crate) id: String,
    pub(crate) secret: Option<Secret>,
}

/// Both files, read and adapted.
pub(crate) struct Inputs {
    raw: RawConfig,
    /// Where the provider's configuration comes from, for error texts.
    source: String,
    from_file: bool,
    cluster: Cluster,
    cluster_from_file: bool,
    environment: Environment,
    issuer_port: u16,
    https_port: Option<u16>,
    http_port: Option<u16>,
    telemetry_port: Option<u16>,
    logs: LogConfig,
    user: Option<LocalUser>,
    demo: Demo,
}

impl Inputs {
    /// Takes both files, says what is changed in them, and refuses what is wrong.
    pub(crate) fn of(sources: &Sources, asked: &Asked, steps: &Steps) -> Result<Self, InputError> {
        let (mut raw, source) = match &sources.values {
            Some(text) => (values::read(text, steps)?, text.name.clone()),
            None => (values::read_default()?, "the built-in configuration".to_owned()),
        };
        let from_file = sources.values.is_some();
        let cluster = Cluster::read(sources.cluster.as_ref(), asked, steps)?;
        values::adapt(&mut raw, &source, from_file, asked, steps);
        let of_the_file = port_in(raw.web.https.as_ref())?;
        let mut inputs = Self {
            issuer_port: asked.issuer_port.or(of_the_file).unwrap_or(DEFAULT_ISSUER_PORT),
            https_port: of_the_file,
            http_port: port_in(raw.web.http.as_ref())?,
            telemetry_port: port_in(raw.telemetry.http.as_ref())?,
            raw,
            source,
            from_file,
            cluster,
            cluster_from_file: sources.cluster.is_some(),
            environment: asked.environment.clone(),
            logs: LogConfig::default(),
            user: None,
            demo: Demo::Nobody,
        };
        inputs.check(asked.unattended, steps)?;
        Ok(inputs)
    }

    /// Validates with stand-ins for what is known only once ports are taken, so that every mistake shows at once.
    fn check(&mut self, unattended: bool, steps: &Steps) -> Result<(), InputError> {
        let mut raw = self.raw.clone();
        raw.issuer = Some(stand_in(raw.issuer.as_ref(), "https://localhost:5554"));
        let certificate = Certificate { cert: "tls.crt".into(), key: "tls.key".into() };
        complete(&mut raw, Ports { https: 5554, http: None, telemetry: None }, &certificate, Path::new("store.db"));
        let config = self.validate(&raw)?;
        self.client()?;
        self.check_callback_ports()?;
        if self.from_file {
            for notice in &config.notices {
                steps.word(&values::with_hint(notice));
            }
        }
        self.logs = LogConfig {
            level: Level::from_slog(config.logger.level),
            format: if config.logger.json { LogFormat::Json } else { LogFormat::Text },
            exclude_fields: config.logger.exclude_fields.clone(),
            ..LogConfig::default()
        };
        self.demo = Demo::of(&config, &self.cluster.flags);
        self.user = config.passwords.into_iter().next();
        match &self.demo {
            Demo::Nobody if unattended => Err(InputError::NobodyToSignIn(self.source.clone())),
            Demo::NoClaim { claim, why, .. } if unattended => Err(InputError::NoClaim {
                place: self.cluster.place("oidc-username-claim"),
                claim: claim.clone(),
                why: why.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn validate(&self, raw: &RawConfig) -> Result<Config, InputError> {
        raw.clone().validate(&*self.environment).map_err(InputError::Config)
    }

    /// Puts the local issuer into both files and returns it.
    pub(crate) fn settle_issuer(&mut self, port: u16, keep: bool, steps: &Steps) -> Result<String, InputError> {
        let given = self.raw.issuer.as_ref();
        let local = format!("https://localhost:{port}{}", given.map_or("", |field| issuer_path(&field.value)));
        let config = self.from_file.then(|| {
            given.map_or_else(
                || (format!("{}: dex.config.issuer", self.source), String::new()),
                |field| (field.place.to_string(), field.value.clone()),
            )
        });
        let flags = self
            .cluster_from_file
            .then(|| (self.cluster.place("oidc-issuer-url"), self.cluster.flags.issuer_url.clone()));
        for (place, found) in [config, flags].into_iter().flatten() {
            if found == local {
                continue;
            }
            if keep {
                return Err(InputError::Issuer { place, found, local });
            }
            let found = if found.is_empty() { "that is missing".to_owned() } else { found };
            steps.word(&format!("{place}: the issuer {found} becomes {local}"));
        }
        self.raw.issuer = Some(stand_in(self.raw.issuer.as_ref(), &local));
        self.cluster.flags.issuer_url.clone_from(&local);
        // With the claim `sub` the issuer is part of the user's name.
        if let Some(user) = &self.user {
            self.demo = Demo::of_user(user, &self.cluster.flags);
        }
        Ok(local)
    }

    /// Whether the client has a redirect URI that the plugin can use at all; whether its port is free is another question.
    fn check_callback_ports(&self) -> Result<(), InputError> {
        let Some(client) = self.plugin_client() else { return Ok(()) };
        if !self.from_file || callback_ports(client) != Some(Vec::new()) {
            return Ok(());
        }
        let [first, _] = PLUGIN_PORTS;
        let (place, add) = (client.place.to_string(), format!("http://localhost:{first}"));
        Err(InputError::CallbackPort { place, held: Vec::new(), add })
    }

    fn plugin_client(&self) -> Option<&RawClient> {
        let id = &self.cluster.flags.client_id;
        self.raw.static_clients.iter().find(|client| client_id(client, &*self.environment).as_ref() == Some(id))
    }

    /// The ports on which the plugin may wait for the browser: those of the client's redirect URIs that are free.
    /// `ours` are ports that count as free: a sign-in of this very `up` may wait there.
    pub(crate) fn settle_callback_ports(&mut self, ours: &[u16], steps: &Steps) -> Result<Vec<u16>, InputError> {
        let obstacle = |port: u16| if ours.contains(&port) { None } else { ports::obstacle(port) };
        let Some(client) = self
            .raw
            .static_clients
            .iter_mut()
            .find(|client| client_id(client, &*self.environment).as_deref() == Some(&self.cluster.flags.client_id))
        else {
            return Ok(PLUGIN_PORTS.to_vec());
        };
        let registered = callback_ports(client);
        let any_port = registered.is_none();
        let allowed = registered.unwrap_or_else(|| PLUGIN_PORTS.to_vec());
        let (free, held): (Vec<_>, Vec<_>) =
            allowed.iter().map(|port| (*port, obstacle(*port))).partition(|(_, obstacle)| obstacle.is_none());
        let held: Vec<(u16, Obstacle)> = held.into_iter().filter_map(|(port, why)| Some((port, why?))).collect();
        if let Some((first, _)) = free.first() {
            for (port, obstacle) in &held {
                steps.word(&format!("port {port} {obstacle}: the sign-in uses http://localhost:{first}"));
            }
            return Ok(free.into_iter().map(|(port, _)| port).collect());
        }
        let unused = PLUGIN_PORTS.into_iter().find(|port| !allowed.contains(port) && obstacle(*port).is_none());
        let another = || ports::bind(0).map(|bound| bound.port).unwrap_or_default();
        let port = unused.unwrap_or_else(another);
        let add = format!("http://localhost:{port}");
        if self.from_file && !any_port {
            return Err(InputError::CallbackPort { place: client.place.to_string(), held, add });
        }
        steps.word(&format!("the sign-in uses {add}{}", busy(&held)));
        if let Some(uris) = &mut client.redirect_uris
            && !any_port
        {
            uris.value.push(add);
        }
        Ok(vec![port])
    }

    /// The provider's final configuration.
    pub(crate) fn provider_config(
        &mut self,
        ports: Ports,
        certificate: &Certificate,
        store: &Path,
    ) -> Result<Config, InputError> {
        complete(&mut self.raw, ports, certificate, store);
        self.validate(&self.raw)
    }

    /// The API server's flags for the local issuer.
    pub(crate) fn oidc_flags(&self, issuer: &str, ca: &Path) -> OidcFlags {
        let mut flags = self.cluster.flags.clone();
        issuer.clone_into(&mut flags.issuer_url);
        flags.ca_file = ca.display().to_string();
        flags.set = true;
        flags
    }

    /// The client that the plugin uses.
    pub(crate) fn client(&self) -> Result<PluginClient, InputError> {
        let id = &self.cluster.flags.client_id;
        let client = self.plugin_client().ok_or_else(|| {
            // The list that it should be in.
            let first = self.raw.static_clients.first().map(|first| first.place.to_string());
            let list = first.and_then(|first| first.strip_suffix("[0]").map(str::to_owned));
            let place = list.unwrap_or_else(|| format!("{}: staticClients", self.source));
            InputError::NoClient { id: id.clone(), place }
        })?;
        let from_env = || client.secret_env.as_ref().and_then(|name| (self.environment)(&name.value)).map(Secret::new);
        Ok(PluginClient {
            id: id.clone(),
            secret: client.secret.as_ref().map(|field| field.value.clone()).or_else(from_env),
        })
    }

    /// The cluster's name: `--name`, else the kind config's, else `dev`.
    pub(crate) fn name(&self) -> &str {
        &self.cluster.name
    }

    /// The API server's port: `--port`, else the kind config's, else 6443.
    pub(crate) const fn api_port(&self) -> u16 {
        self.cluster.port
    }

    /// The provider's port: `--issuer-port`, else that of `web.https`, else 5554.
    pub(crate) const fn issuer_port(&self) -> u16 {
        self.issuer_port
    }

    /// The port of `web.https`, if the config has one.
    pub(crate) const fn https_port(&self) -> Option<u16> {
        self.https_port
    }

    /// The port of `web.http`, if the config has one.
    pub(crate) const fn http_port(&self) -> Option<u16> {
        self.http_port
    }

    /// The port of `telemetry.http`, if the config has one.
    pub(crate) const fn telemetry_port(&self) -> Option<u16> {
        self.telemetry_port
    }

    /// The logs that the config's `logger` asks for.
    pub(crate) fn logs(&self) -> LogConfig {
        self.logs.clone()
    }

    /// Whom `up` binds and signs in.
    pub(crate) const fn demo(&self) -> &Demo {
        &self.demo
    }

    /// The first local user.
    pub(crate) const fn user(&self) -> Option<&LocalUser> {
        self.user.as_ref()
    }

    /// Where the provider's configuration comes from.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }
}

/// Reads a file within its limit; `flag` names it.
fn read_text(flag: &'static str, path: &Path) -> Result<String, InputError> {
    let read_error = |source| InputError::Read { flag, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(read_error)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(InputError::TooLarge(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_not_utf8| InputError::NotText(path.to_owned()))
}

/// Fills in what is the same for every run: addresses, certificate, database.
fn complete(raw: &mut RawConfig, ports: Ports, certificate: &Certificate, store: &Path) {
    let address = |port: u16| Field::given(format!("127.0.0.1:{port}"));
    let is_set = |field: &Option<Field<String>>| field.as_ref().is_some_and(|field| !field.value.is_empty());
    raw.web.https = Some(address(ports.https));
    raw.web.tls_cert = Some(Field::given(certificate.cert.display().to_string()));
    raw.web.tls_key = Some(Field::given(certificate.key.display().to_string()));
    if is_set(&raw.web.http) {
        raw.web.http = Some(address(ports.http.unwrap_or(5556)));
    }
    if is_set(&raw.telemetry.http) {
        raw.telemetry.http = Some(address(ports.telemetry.unwrap_or(5558)));
    }
    if let Some(storage) = &mut raw.storage
        && storage.kind.as_ref().is_some_and(|kind| kind.value == "sqlite3")
    {
        storage.file = Some(Field::given(store.display().to_string()));
    }
}

/// `value` in the place of what the file says, so that an error still names the line.
fn stand_in(given: Option<&Field<String>>, value: &str) -> Field<String> {
    given.map_or_else(
        || Field::given(value.to_owned()),
        |field| Field { value: value.to_owned(), place: field.place.clone() },
    )
}

/// The path of an issuer such as `https://x.ngrok.app/dex`: routes live under it, and other tools know it.
fn issuer_path(issuer: &str) -> &str {
    let Some((_, rest)) = issuer.split_once("://") else { return "" };
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("");
    if path.len() > 1 && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b)) { path } else { "" }
}

/// The client's id; where it comes from the environment, the variable's value.
fn client_id(client: &RawClient, environment: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    client
        .id
        .as_ref()
        .map(|id| id.value.clone())
        .or_else(|| client.id_env.as_ref().and_then(|name| environment(&name.value)))
}

/// The ports of the client's redirect URIs that the plugin can use; `None` where it may use any, as a public client may.
fn callback_ports(client: &RawClient) -> Option<Vec<u16>> {
    let uris = client.redirect_uris.as_ref().map_or(&[][..], |field| field.value.as_slice());
    let any_port = uris.is_empty() && client.public.as_ref().is_some_and(|public| public.value);
    if any_port { None } else { Some(uris.iter().filter_map(|uri| callback_port(uri)).collect()) }
}

/// The port of a redirect URI that the plugin uses by itself: `http://localhost:PORT`, nothing after it.
fn callback_port(uri: &str) -> Option<u16> {
    uri.strip_prefix("http://localhost:")?.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests;
