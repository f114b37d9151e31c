//! Typed views of a kubeconfig's entries.
//!
//! Each knows the members that this project reads or writes. Writing one replaces those members and leaves all others.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::KubeconfigError;
use super::read::Place;
use crate::secret::SecretText;

/// A cluster: where it is, and whom to trust there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// URL.
    pub server: String,
    /// Name to check the certificate against, when not that of the URL.
    pub tls_server_name: String,
    /// Trust any certificate.
    pub insecure_skip_tls_verify: bool,
    /// Path of a PEM file.
    pub certificate_authority: String,
    /// Base64 of PEM.
    pub certificate_authority_data: String,
    /// Proxy to use.
    pub proxy_url: String,
    /// Do not compress responses.
    pub disable_compression: bool,
}

/// A user: one way of proving who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Path of a PEM file.
    pub client_certificate: String,
    /// Base64 of PEM.
    pub client_certificate_data: String,
    /// Path of a PEM file.
    pub client_key: String,
    /// Base64 of PEM.
    pub client_key_data: SecretText,
    /// Bearer token.
    pub token: SecretText,
    /// Path of a file with a bearer token.
    pub token_file: String,
    /// For basic authentication.
    pub username: String,
    /// For basic authentication.
    pub password: SecretText,
    /// A program that answers with a credential.
    pub exec: Option<Exec>,
    /// The older way of plugins; kubelogin's standalone mode reads and writes it.
    pub auth_provider: Option<AuthProvider>,
}

/// A program that answers with a credential.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// `client.authentication.k8s.io/v1`.
    pub api_version: String,
    /// The program.
    pub command: String,
    /// Its arguments; kubelogin's carry a client secret, so they are not for printing.
    pub args: Vec<String>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
    /// What to say when the program is not there.
    pub install_hint: String,
    /// Tell the program about the cluster.
    pub provide_cluster_info: bool,
    /// `Never`, `IfAvailable` or `Always`.
    pub interactive_mode: String,
}

/// An authentication provider built into client-go.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthProvider {
    /// `oidc`.
    pub name: String,
    /// Its settings, tokens among them.
    pub config: BTreeMap<String, String>,
}

/// A context: a cluster, a user, and a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Name of a cluster.
    pub cluster: String,
    /// Name of a user.
    pub user: String,
    /// Empty: `default`.
    pub namespace: String,
}

impl Cluster {
    /// A cluster at this URL that trusts this PEM.
    pub fn new(server: impl Into<String>, certificate_authority_pem: &[u8]) -> Self {
        Self {
            server: server.into(),
            certificate_authority_data: STANDARD.encode(certificate_authority_pem),
            ..Self::default()
        }
    }

    /// The PEM of `certificate-authority-data`; `None` when it is absent or no base64.
    pub fn certificate_authority_pem(&self) -> Option<Vec<u8>> {
        if self.certificate_authority_data.is_empty() {
            return None;
        }
        STANDARD.decode(&self.certificate_authority_data).ok()
    }

    pub(super) fn read(place: &Place<'_>) -> Result<Self, KubeconfigError> {
        Ok(Self {
            server: place.text("server")?,
            tls_server_name: place.text("tls-server-name")?,
            insecure_skip_tls_verify: place.flag("insecure-skip-tls-verify")?,
            certificate_authority: place.text("certificate-authority")?,
            certificate_authority_data: place.text("certificate-authority-data")?,
            proxy_url: place.text("proxy-url")?,
            disable_compression: place.flag("disable-compression")?,
        })
    }

    pub(super) fn write(&self, map: &mut Map<String, Value>) {
        put_text(map, "certificate-authority", &self.certificate_authority);
        put_text(map, "certificate-authority-data", &self.certificate_authority_data);
        put_flag(map, "disable-compression", self.disable_compression);
        put_flag(map, "insecure-skip-tls-verify", self.insecure_skip_tls_verify);
        put_text(map, "proxy-url", &self.proxy_url);
        map.insert("server".to_owned(), self.server.as_str().into());
        put_text(map, "tls-server-name", &self.tls_server_name);
    }
}

impl User {
    /// A user with a client certificate.
    pub fn with_certificate(certificate_pem: &[u8], key_pem: &[u8]) -> Self {
        Self {
            client_certificate_data: STANDARD.encode(certificate_pem),
            client_key_data: SecretText::new(STANDARD.encode(key_pem)),
            ..Self::default()
        }
    }

    /// A user with an exec plugin.
    pub fn with_exec(exec: Exec) -> Self {
        Self { exec: Some(exec), ..Self::default() }
    }

    pub(super) fn read(place: &Place<'_>) -> Result<Self, KubeconfigError> {
        Ok(Self {
            client_certificate: place.text("client-certificate")?,
            client_certificate_data: place.text("client-certificate-data")?,
            client_key: place.text("client-key")?,
            client_key_data: SecretText::new(place.text("client-key-data")?),
            token: SecretText::new(place.text("token")?),
            token_file: place.text("tokenFile")?,
            username: place.text("username")?,
            password: SecretText::new(place.text("password")?),
            exec: place.has("exec").then(|| Exec::read(&place.inner("exec")?)).transpose()?,
            auth_provider: place
                .has("auth-provider")
                .then(|| AuthProvider::read(&place.inner("auth-provider")?))
                .transpose()?,
        })
    }

    pub(super) fn write(&self, map: &mut Map<String, Value>) {
        match &self.auth_provider {
            Some(provider) => edit(map, "auth-provider", |inner| provider.write(inner)),
            None => drop(map.shift_remove("auth-provider")),
        }
        put_text(map, "client-certificate", &self.client_certificate);
        put_text(map, "client-certificate-data", &self.client_certificate_data);
        put_text(map, "client-key", &self.client_key);
        put_text(map, "client-key-data", self.client_key_data.expose());
        match &self.exec {
            Some(exec) => edit(map, "exec", |inner| exec.write(inner)),
            None => drop(map.shift_remove("exec")),
        }
        put_text(map, "password", self.password.expose());
        put_text(map, "token", self.token.expose());
        put_text(map, "tokenFile", &self.token_file);
        put_text(map, "username", &self.username);
    }
}

impl Exec {
    fn read(place: &Place<'_>) -> Result<Self, KubeconfigError> {
        let env = place.list("env")?.into_iter().map(|item| {
            let variable = item.map()?;
            Ok((variable.text("name")?, variable.text("value")?))
        });
        Ok(Self {
            api_version: place.text("apiVersion")?,
            command: place.text("command")?,
            args: place.texts("args")?,
            env: env.collect::<Result<_, KubeconfigError>>()?,
            install_hint: place.text("installHint")?,
            provide_cluster_info: place.flag("provideClusterInfo")?,
            interactive_mode: place.text("interactiveMode")?,
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        put_text(map, "apiVersion", &self.api_version);
        map.insert("args".to_owned(), self.args.as_slice().into());
        map.insert("command".to_owned(), self.command.as_str().into());
        let env: Vec<Value> =
            self.env.iter().map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect();
        map.insert("env".to_owned(), if env.is_empty() { Value::Null } else { Value::Array(env) });
        put_text(map, "installHint", &self.install_hint);
        put_text(map, "interactiveMode", &self.interactive_mode);
        map.insert("provideClusterInfo".to_owned(), self.provide_cluster_info.into());
    }
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec")
            .field("api_version", &self.api_version)
            .field("command", &self.command)
            .field("args", &format_args!("[{} redacted]", self.args.len()))
            .field("interactive_mode", &self.interactive_mode)
            .finish_non_exhaustive()
    }
}

impl AuthProvider {
    fn read(place: &Place<'_>) -> Result<Self, KubeconfigError> {
        Ok(Self { name: place.text("name")?, config: place.text_map("config")? })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        let config: Map<String, Value> = self.config.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
        map.insert("config".to_owned(), Value::Object(config));
        map.insert("name".to_owned(), self.name.as_str().into());
    }
}

impl std::fmt::Debug for AuthProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&String> = self.config.keys().collect();
        f.debug_struct("AuthProvider").field("name", &self.name).field("config_keys", &keys).finish()
    }
}

impl Context {
    pub(super) fn read(place: &Place<'_>) -> Result<Self, KubeconfigError> {
        Ok(Self { cluster: place.text("cluster")?, user: place.text("user")?, namespace: place.text("namespace")? })
    }

    pub(super) fn write(&self, map: &mut Map<String, Value>) {
        map.insert("cluster".to_owned(), self.cluster.as_str().into());
        put_text(map, "namespace", &self.namespace);
        map.insert("user".to_owned(), self.user.as_str().into());
    }
}

fn put_text(map: &mut Map<String, Value>, key: &str, value: &str) {
    if value.is_empty() {
        map.shift_remove(key);
    } else {
        map.insert(key.to_owned(), value.into());
    }
}

fn put_flag(map: &mut Map<String, Value>, key: &str, value: bool) {
    if value {
        map.insert(key.to_owned(), true.into());
    } else {
        map.shift_remove(key);
    }
}

/// Changes the map at a key in its place; makes one when there is none.
fn edit(map: &mut Map<String, Value>, key: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut inner = match map.get_mut(key) {
        Some(Value::Object(inner)) => std::mem::take(inner),
        _ => Map::new(),
    };
    change(&mut inner);
    map.insert(key.to_owned(), Value::Object(inner));
}
