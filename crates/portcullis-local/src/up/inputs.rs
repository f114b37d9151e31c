//! What the user gave: chart values with `dex.config`, and a kind cluster configuration. Both are taken as they are; what
//! cannot hold on one machine is changed with a word each, and what is wrong is refused with its place before anything is
//! started.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portcullis_authn::OidcFlags;
use portcullis_platform::kind::{KindConfig, KindConfigError};
use portcullis_provider::config::{
    Config, ConfigErrors, Document, Field, GUIDE_BAD_HASH, GUIDE_GOOD_HASH, RawClient, RawConfig, RawStorage,
};
use portcullis_runtime::Secret;
use url::Url;

use crate::ports::{self, Holder};
use crate::steps::Steps;

use super::listeners::Ports;
use super::provider::Certificate;
use super::{Options, is_loopback};

/// The largest input file. The guide's has 4 KiB.
const MAX_FILE: u64 = 1024 * 1024;

/// The provider's configuration when no file is given: the guide's, without its consent page.
const DEFAULT_CONFIG: &str = "\
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

/// The API server's flags when no file is given: the guide's.
const DEFAULT_FLAGS: &[(&str, &str)] = &[
    ("oidc-client-id", "kubernetes"),
    ("oidc-username-claim", "email"),
    ("oidc-username-prefix", ""),
    ("oidc-groups-claim", "groups"),
];

/// Ports on which kubelogin listens unless told otherwise; the guide registers the first.
const PLUGIN_PORTS: [u16; 2] = [8000, 18000];

/// Why the input cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is too large.
    #[error("{0} is larger than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// The file is not text.
    #[error("{0} is not UTF-8 text")]
    NotText(PathBuf),
    /// The provider's configuration is wrong.
    #[error("{0}")]
    Config(ConfigErrors),
    /// The values hold no provider configuration.
    #[error("{0}: no dex.config in it")]
    NoDexConfig(PathBuf),
    /// The cluster's configuration cannot be read.
    #[error("{}", without_hint(&.0.to_string()))]
    Kind(#[from] KindConfigError),
    /// The API server's flags in it are wrong.
    #[error("{path}: {reason}")]
    Cluster {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// `--keep-issuer`, and the issuer is another.
    #[error("{place}: the issuer is {found:?}, not {local}, and --keep-issuer is given")]
    Issuer {
        /// Where it is.
        place: String,
        /// What it is.
        found: String,
        /// What it would become.
        local: String,
    },
    /// The cluster asks for a client that the provider does not have.
    #[error("{place}: no client with the id {id:?}, which the API server's oidc-client-id asks for")]
    NoClient {
        /// The client.
        id: String,
        /// Where it should be.
        place: String,
    },
    /// None of the client's redirect URIs can be used by the plugin.
    #[error("{place}: the sign-in plugin cannot listen on any of the client's redirect URIs{}", busy(.held))]
    CallbackPort {
        /// The client's place.
        place: String,
        /// Ports that are held, and by whom.
        held: Vec<(u16, Holder)>,
        /// The redirect URI to add.
        add: String,
    },
}

/// `portcullis-platform` puts a hint below its errors; `up` prints hints itself.
fn without_hint(text: &str) -> String {
    text.split("\nhint: ").next().unwrap_or_default().to_owned()
}

fn busy(held: &[(u16, Holder)]) -> String {
    held.iter().map(|(port, holder)| format!(": port {port} is held by {holder}")).collect()
}

impl InputError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(errors) => {
                let hints = errors.hints().join("; ");
                if !hints.is_empty() { Some(hints) } else { None }
            }
            Self::NoDexConfig(_) => {
                Some("give the chart's values file, with the provider's configuration under dex.config".to_owned())
            }
            Self::Issuer { .. } => Some(
                "leave --keep-issuer out: the local issuer then takes its place in both files, for this run".to_owned(),
            ),
            Self::NoClient { .. } => {
                Some("make staticClients[].id and the kubeadm patch's oidc-client-id the same".to_owned())
            }
            Self::CallbackPort { add, .. } => {
                Some(format!("add {add} to the client's redirectURIs, or end the process that holds the port"))
            }
            Self::Kind(error) => error.to_string().split_once("\nhint: ").map(|(_, hint)| hint.to_owned()),
            Self::NotText(_) => Some("save it as UTF-8".to_owned()),
            Self::Read { .. } | Self::TooLarge(_) | Self::Cluster { .. } => None,
        }
    }
}

/// The client as the plugin needs it.
pub(crate) struct PluginClient {
    pub(crate) id: String,
    pub(crate) secret: Option<Secret>,
}

/// Who is signed in and bound.
pub(crate) struct DemoUser {
    /// What is typed into the form.
    pub(crate) login: String,
    /// The user's name in the cluster.
    pub(crate) kubernetes_name: String,
}

/// Both files, read and adapted.
pub(crate) struct Inputs {
    raw: RawConfig,
    /// Where the provider's configuration comes from, for error texts.
    source: String,
    from_file: bool,
    flags: OidcFlags,
    flags_source: String,
    environment: fn(&str) -> Option<String>,
}

impl Inputs {
    /// Reads both files, says what is changed in them, and refuses what is wrong.
    pub(crate) fn read(options: &Options, steps: &Steps) -> Result<Self, InputError> {
        let (raw, source) = match &options.values {
            Some(path) => (read_values(path, steps)?, path.display().to_string()),
            None => (read_default()?, "the built-in configuration".to_owned()),
        };
        let (flags, flags_source) = match &options.cluster_config {
            Some(path) => (read_cluster(path, steps)?, path.display().to_string()),
            None => (default_flags(), "the built-in flags".to_owned()),
        };
        let mut inputs = Self {
            raw,
            source,
            from_file: options.values.is_some(),
            flags,
            flags_source,
            environment: options.environment,
        };
        inputs.adapt(options, steps);
        inputs.check()?;
        Ok(inputs)
    }

    fn adapt(&mut self, options: &Options, steps: &Steps) {
        let raw = &mut self.raw;
        if let Some(grpc) = raw.grpc.take() {
            steps.word(&format!("{}: gRPC is not served yet", grpc.place));
        }
        if let Some(storage) = &mut raw.storage {
            adapt_storage(storage, self.from_file, steps);
        }
        let web = &mut raw.web;
        for (key, field) in [("web.tlsCert", &web.tls_cert), ("web.tlsKey", &web.tls_key)] {
            if let Some(field) = field {
                steps.word(&format!(
                    "{}: {key} {} is replaced by a certificate that `up` makes for localhost",
                    field.place, field.value
                ));
            }
        }
        for (key, field) in
            [("web.http", &web.http), ("web.https", &web.https), ("telemetry.http", &raw.telemetry.http)]
        {
            if let Some(field) = field
                && !is_loopback_address(&field.value)
            {
                steps.word(&format!(
                    "{}: {key} {} becomes loopback: `up` opens nothing to the network",
                    field.place, field.value
                ));
            }
        }
        if options.fix_demo_hash {
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

    /// Validates with stand-ins for what is known only once ports are taken, so that every mistake shows at once.
    fn check(&self) -> Result<(), InputError> {
        let mut raw = self.raw.clone();
        raw.issuer = Some(stand_in(raw.issuer.as_ref(), "https://localhost:5554"));
        let certificate = Certificate { cert: "tls.crt".into(), key: "tls.key".into() };
        complete(&mut raw, Ports { https: 5554, http: None, telemetry: None }, &certificate, Path::new("store.db"));
        self.validate(&raw)?;
        self.client(&self.flags.client_id).map(|_| ())
    }

    fn validate(&self, raw: &RawConfig) -> Result<Config, InputError> {
        raw.clone().validate(&self.environment).map_err(InputError::Config)
    }

    /// Puts the local issuer into both files and returns it.
    pub(crate) fn settle_issuer(&mut self, port: u16, keep: bool, steps: &Steps) -> Result<String, InputError> {
        let given = self.raw.issuer.as_ref();
        let local = format!("https://localhost:{port}{}", given.map_or("", |field| issuer_path(&field.value)));
        let config = given.map(|field| (field.place.to_string(), field.value.clone()));
        let flags = (!self.flags.issuer_url.is_empty())
            .then(|| (format!("{}: oidc-issuer-url", self.flags_source), self.flags.issuer_url.clone()));
        for (place, found) in [config.filter(|_| self.from_file), flags].into_iter().flatten() {
            if found == local {
                continue;
            }
            if keep {
                return Err(InputError::Issuer { place, found, local });
            }
            steps.word(&format!("{place}: the issuer {found} becomes {local}"));
        }
        self.raw.issuer = Some(stand_in(self.raw.issuer.as_ref(), &local));
        self.flags.issuer_url.clone_from(&local);
        Ok(local)
    }

    /// The ports on which the plugin may wait for the browser: those of the client's redirect URIs that are free.
    pub(crate) fn settle_callback_ports(&mut self, steps: &Steps) -> Result<Vec<u16>, InputError> {
        let Some(client) = self
            .raw
            .static_clients
            .iter_mut()
            .find(|client| client_id(client, self.environment).as_deref() == Some(&self.flags.client_id))
        else {
            return Ok(PLUGIN_PORTS.to_vec());
        };
        let uris = client.redirect_uris.as_ref().map_or(&[][..], |field| field.value.as_slice());
        let any_port = uris.is_empty() && client.public.as_ref().is_some_and(|public| public.value);
        let allowed: Vec<u16> =
            if any_port { PLUGIN_PORTS.to_vec() } else { uris.iter().filter_map(|uri| callback_port(uri)).collect() };
        let (free, held): (Vec<_>, Vec<_>) =
            allowed.iter().map(|port| (*port, ports::taken(*port))).partition(|(_, holder)| holder.is_none());
        if !free.is_empty() {
            return Ok(free.into_iter().map(|(port, _)| port).collect());
        }
        let held: Vec<(u16, Holder)> = held.into_iter().filter_map(|(port, holder)| Some((port, holder?))).collect();
        let unused = PLUGIN_PORTS.into_iter().find(|port| !allowed.contains(port) && ports::taken(*port).is_none());
        let another = || ports::bind(0).map(|bound| bound.port).unwrap_or_default();
        let port = unused.unwrap_or_else(another);
        let add = format!("http://localhost:{port}");
        if self.from_file && !any_port {
            return Err(InputError::CallbackPort { place: client.place.to_string(), held, add });
        }
        steps.word(&format!("ports 8000 and 18000 are busy{}; the sign-in uses {add}", busy(&held)));
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
        let mut flags = self.flags.clone();
        issuer.clone_into(&mut flags.issuer_url);
        flags.ca_file = ca.display().to_string();
        flags.set = true;
        flags
    }

    /// The client that the plugin uses.
    pub(crate) fn client(&self, id: &str) -> Result<PluginClient, InputError> {
        let client =
            self.raw.static_clients.iter().find(|client| client_id(client, self.environment).as_deref() == Some(id));
        let client = client.ok_or_else(|| InputError::NoClient {
            id: id.to_owned(),
            place: format!("{}: staticClients", self.source),
        })?;
        let from_env = || client.secret_env.as_ref().and_then(|name| (self.environment)(&name.value)).map(Secret::new);
        Ok(PluginClient {
            id: id.to_owned(),
            secret: client.secret.as_ref().map(|field| field.value.clone()).or_else(from_env),
        })
    }

    /// The first local user, and the name that the API server's flags give it; `None` where either is unknown.
    pub(crate) fn demo_user(&self, flags: &OidcFlags) -> Option<DemoUser> {
        let user = self.raw.static_passwords.first()?;
        let email = user.email.as_ref()?.value.clone();
        let text = |field: &Option<Field<String>>| field.as_ref().map(|field| field.value.clone());
        let claim = match flags.username_claim.as_str() {
            "email" => Some(email.clone()),
            "sub" => Some(portcullis_oidc::vocabulary::subject::encode_sub(&text(&user.user_id)?, "local")),
            "name" => text(&user.name).or_else(|| text(&user.username)),
            "preferred_username" => text(&user.preferred_username),
            _ => None,
        }?;
        Some(DemoUser { login: email, kubernetes_name: format!("{}{claim}", flags.effective_username_prefix()) })
    }

    /// The port of `web.http`, if the config has one.
    pub(crate) fn http_port(&self) -> Option<u16> {
        self.raw.web.http.as_ref().and_then(|field| port_of(&field.value))
    }

    /// The port of `telemetry.http`, if the config has one.
    pub(crate) fn telemetry_port(&self) -> Option<u16> {
        self.raw.telemetry.http.as_ref().and_then(|field| port_of(&field.value))
    }
}

fn read_values(path: &Path, steps: &Steps) -> Result<RawConfig, InputError> {
    let name = path.display().to_string();
    let document = Document::parse(&read_text(path)?, &name).map_err(InputError::Config)?;
    for warning in document.warnings() {
        steps.word(&warning.to_string());
    }
    let section = document.section(&["dex", "config"]).ok_or_else(|| InputError::NoDexConfig(path.to_owned()))?;
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
    for warning in warnings {
        steps.word(&format!("{warning}{}", warning.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default()));
    }
    Ok(raw)
}

fn read_default() -> Result<RawConfig, InputError> {
    let document = Document::parse(DEFAULT_CONFIG, "the built-in configuration").map_err(InputError::Config)?;
    Ok(RawConfig::read(&document.root()).0)
}

fn read_cluster(path: &Path, steps: &Steps) -> Result<OidcFlags, InputError> {
    let text = read_text(path)?;
    let wrong = |reason: String| InputError::Cluster { path: path.to_owned(), reason };
    let cluster = KindConfig::parse(&text, &path.display().to_string())?;
    for warning in &cluster.warnings {
        steps.word(&warning.to_string());
    }
    let arguments = cluster.extra_args.iter().map(|argument| (argument.name.as_str(), argument.value.as_str()));
    let (flags, others) = OidcFlags::from_extra_args(arguments).map_err(|e| wrong(e.to_string()))?;
    if let (Some((first, _)), Some((last, _))) = (others.first(), others.last()) {
        steps.word(&format!(
            "{}: {} flags of the API server other than oidc-* are ignored ({first} … {last})",
            path.display(),
            others.len()
        ));
    }
    let mut probe = flags.clone();
    // Only the issuer may be a placeholder; everything else is checked as the API server would.
    "https://localhost".clone_into(&mut probe.issuer_url);
    probe.ca_file.clear();
    probe.set = true;
    probe.config(&[]).map_err(|e| wrong(e.to_string()))?;
    Ok(flags)
}

fn default_flags() -> OidcFlags {
    OidcFlags::from_extra_args(DEFAULT_FLAGS.iter().copied()).map(|(flags, _)| flags).unwrap_or_default()
}

fn read_text(path: &Path) -> Result<String, InputError> {
    let read_error = |source| InputError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(read_error)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(InputError::TooLarge(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_not_utf8| InputError::NotText(path.to_owned()))
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

/// Fills in what is the same for every run: addresses, certificate, database.
fn complete(raw: &mut RawConfig, ports: Ports, certificate: &Certificate, store: &Path) {
    let address = |port: u16| Field::given(format!("127.0.0.1:{port}"));
    raw.web.https = Some(address(ports.https));
    raw.web.tls_cert = Some(Field::given(certificate.cert.display().to_string()));
    raw.web.tls_key = Some(Field::given(certificate.key.display().to_string()));
    if raw.web.http.is_some() {
        raw.web.http = Some(address(ports.http.unwrap_or(5556)));
    }
    if raw.telemetry.http.is_some() {
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
fn client_id(client: &RawClient, environment: fn(&str) -> Option<String>) -> Option<String> {
    client
        .id
        .as_ref()
        .map(|id| id.value.clone())
        .or_else(|| client.id_env.as_ref().and_then(|name| environment(&name.value)))
}

/// The port of a redirect URI that the plugin uses by itself: `http://localhost:PORT`, nothing after it.
fn callback_port(uri: &str) -> Option<u16> {
    uri.strip_prefix("http://localhost:")?.parse().ok().filter(|port| *port != 0)
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
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
        assert!(bcrypt::verify(super::super::DEMO_PASSWORD, hash).unwrap());
    }

    #[test]
    fn a_foreign_issuers_path_is_kept_and_a_placeholder_has_none() {
        for (issuer, path) in [
            ("$NGROK_ENDPOINT", ""),
            ("", ""),
            ("https://a.ngrok.app", ""),
            ("https://a.ngrok.app/", ""),
            ("https://a/dex", "/dex"),
            ("https://a/x y", ""),
            ("https://a/$X", ""),
        ] {
            assert_eq!(issuer_path(issuer), path, "{issuer}");
        }
    }

    #[test]
    fn only_redirect_uris_that_the_plugin_uses_count() {
        for (uri, port) in [
            ("http://localhost:8000", Some(8000)),
            ("http://localhost:8000/", None),
            ("https://localhost:8000", None),
            ("http://localhost:0", None),
            ("http://localhost", None),
            ("http://localhost:80000", None),
        ] {
            assert_eq!(callback_port(uri), port, "{uri}");
        }
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
}
