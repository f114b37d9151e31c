//! How a cluster is reached: its address, whom to trust there, who we are, and our namespace.
//!
//! Compat: in a cluster, the variables and the folder that kubelet gives every pod; the namespace as Dex finds it
//! (`KUBERNETES_POD_NAMESPACE`, the service account token's claim, the namespace file). With a kubeconfig file, its current
//! context, as Dex the only one when none is current.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_kube::kubeconfig::KubeconfigError;
use portcullis_kube::names::dns_label;
use portcullis_runtime::http_client::{ClientIdentity, HttpClientError, ProxyFromEnv, Roots};

use crate::credential::{Credential, FRESH, TokenFile, read_token};

/// Where kubelet puts a pod's token, the cluster's authority and the namespace.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How a cluster is reached.
#[derive(Debug)]
pub struct Access {
    /// URL without a slash at its end.
    pub(crate) server: String,
    pub(crate) namespace: String,
    pub(crate) roots: Roots,
    pub(crate) insecure_skip_verify: bool,
    pub(crate) identity: Option<ClientIdentity>,
    pub(crate) credential: Credential,
    pub(crate) proxy: ProxyFromEnv,
}

/// What a pod knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InCluster {
    /// `KUBERNETES_SERVICE_HOST`.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: String,
    /// `KUBERNETES_POD_NAMESPACE`, when it is set.
    pub namespace: Option<String>,
    /// The folder with `token`, `ca.crt` and `namespace`.
    pub service_account: PathBuf,
}

impl InCluster {
    /// Reads the variables through `lookup`; what is not set is empty, which [`Access::in_cluster`] refuses.
    #[must_use]
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            host: lookup("KUBERNETES_SERVICE_HOST").unwrap_or_default(),
            port: lookup("KUBERNETES_SERVICE_PORT").unwrap_or_default(),
            namespace: lookup("KUBERNETES_POD_NAMESPACE").filter(|name| !name.is_empty()),
            service_account: PathBuf::from(SERVICE_ACCOUNT),
        }
    }
}

/// The configuration of a cluster's access cannot be used. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// This is no pod.
    #[error(
        "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
    )]
    NotInCluster,
    /// A file cannot be read.
    #[error("cannot read {0}")]
    File(String),
    /// The kubeconfig cannot be read, or does not say what is needed.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The kubeconfig asks for something that this client does not do.
    #[error("{file}: {what}")]
    Unsupported {
        /// The file.
        file: String,
        /// What it asks for, and what to do instead.
        what: String,
    },
    /// A value cannot be used.
    #[error("{0}")]
    Value(String),
    /// A certificate, key or proxy cannot be used.
    #[error(transparent)]
    Client(#[from] HttpClientError),
}

impl AccessError {
    /// What the user can do about it, where the text does not say it already.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotInCluster => Some("run in a pod with a service account, or name a kubeConfigFile"),
            Self::Kubeconfig(_) => Some("`kubectl config view --kubeconfig FILE` shows what kubectl reads of it"),
            Self::File(_) | Self::Unsupported { .. } | Self::Value(_) | Self::Client(_) => None,
        }
    }
}

impl Access {
    /// The access of a pod to its own cluster.
    ///
    /// # Errors
    /// [`AccessError`] when this is no pod, or kubelet's files cannot be read.
    pub async fn in_cluster(pod: &InCluster) -> Result<Self, AccessError> {
        let InCluster { host, port, namespace, service_account } = pod;
        if host.is_empty() || port.is_empty() {
            return Err(AccessError::NotInCluster);
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let roots = Roots::only_pem(&read(&service_account.join("ca.crt")).await?)?;
        let path = service_account.join("token");
        let token = read_token(&path).await.map_err(AccessError::File)?;
        let namespace = match namespace {
            Some(namespace) => namespace.clone(),
            None => match namespace_of_token(token.expose()) {
                Some(namespace) => namespace,
                None => text(&service_account.join("namespace")).await?.trim().to_owned(),
            },
        };
        Ok(Self {
            server: format!("https://{host}:{port}"),
            namespace: check_namespace(namespace)?,
            roots,
            insecure_skip_verify: false,
            identity: None,
            credential: Credential::File(TokenFile::new(path, Some(token.expose()), FRESH)),
            // The API server is inside; kubelet names it by its address.
            proxy: ProxyFromEnv::default(),
        })
    }

    /// The access that a kubeconfig file's current context describes. `proxy` is used unless the file names one.
    ///
    /// # Errors
    /// [`AccessError`], which names the file.
    pub async fn kubeconfig(path: &Path, proxy: ProxyFromEnv) -> Result<Self, AccessError> {
        crate::kubeconfig::read(path, proxy).await
    }

    /// The namespace that namespaced resources are in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// The namespace of a service account token, read without any check: the API server checks the token.
fn namespace_of_token(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    let bound = claims.get("kubernetes.io").and_then(|claim| claim.get("namespace"));
    let found = claims.get("kubernetes.io/serviceaccount/namespace").or(bound)?.as_str()?;
    (!found.is_empty()).then(|| found.to_owned())
}

pub(crate) fn check_namespace(name: String) -> Result<String, AccessError> {
    if dns_label(&name).is_empty() {
        Ok(name)
    } else {
        Err(AccessError::Value(format!("{name:?} is not a namespace's name")))
    }
}

/// Reads a small file.
pub(crate) async fn read(path: &Path) -> Result<Vec<u8>, AccessError> {
    use tokio::io::AsyncReadExt as _;
    /// Bytes; a kubeconfig is the largest file that is read so.
    const LIMIT: usize = portcullis_kube::kubeconfig::BYTES_LIMIT + 1;
    let failed = |error: std::io::Error| AccessError::File(format!("{}: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(u64::try_from(LIMIT).unwrap_or(u64::MAX)).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() >= LIMIT {
        return Err(AccessError::File(format!("{}: larger than {} bytes", path.display(), LIMIT - 1)));
    }
    Ok(bytes)
}

async fn text(path: &Path) -> Result<String, AccessError> {
    String::from_utf8(read(path).await?).map_err(|_| AccessError::File(format!("{}: not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody looks into it before a connection is made.
    const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn token_with(claims: &str) -> String {
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims))
    }

    fn pod(folder: &Path, token: &str) -> InCluster {
        std::fs::write(folder.join("token"), token).unwrap();
        std::fs::write(folder.join("ca.crt"), CA).unwrap();
        std::fs::write(folder.join("namespace"), "from-file\n").unwrap();
        InCluster { host: "10.96.0.1".into(), port: "443".into(), namespace: None, service_account: folder.into() }
    }

    #[tokio::test]
    async fn the_namespace_is_found_where_dex_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        for (token, namespace) in [
            (token_with(r#"{"kubernetes.io/serviceaccount/namespace":"legacy"}"#), "legacy"),
            (token_with(r#"{"kubernetes.io":{"namespace":"bound"}}"#), "bound"),
            (token_with(r#"{"kubernetes.io":{}}"#), "from-file"),
            ("opaque".to_owned(), "from-file"),
            ("a.b.c".to_owned(), "from-file"),
        ] {
            let pod = pod(folder.path(), &token);
            let access = Access::in_cluster(&pod).await.unwrap();
            assert_eq!((access.namespace(), access.server.as_str()), (namespace, "https://10.96.0.1:443"));
            let named = InCluster { namespace: Some("env".to_owned()), ..pod };
            assert_eq!(Access::in_cluster(&named).await.unwrap().namespace(), "env");
            assert!(!format!("{access:?}").contains(&token), "{access:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_or_not_right_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let good = pod(folder.path(), "token");
        let v6 = InCluster { host: "fd00::1".into(), ..good.clone() };
        assert_eq!(Access::in_cluster(&v6).await.unwrap().server, "https://[fd00::1]:443");
        let none = InCluster { host: String::new(), ..good.clone() };
        let error = Access::in_cluster(&none).await.unwrap_err();
        assert!(error.to_string().contains("KUBERNETES_SERVICE_HOST") && error.hint().is_some(), "{error}");
        for name in ["a/b", "..", "A", "-a", &"a".repeat(64)] {
            let odd = InCluster { namespace: Some(name.to_owned()), ..good.clone() };
            let error = Access::in_cluster(&odd).await.unwrap_err().to_string();
            assert!(error.contains("is not a namespace's name"), "{error}");
        }
        std::fs::write(folder.path().join("ca.crt"), "no certificate").unwrap();
        assert!(Access::in_cluster(&good).await.unwrap_err().to_string().contains("no certificate found"));
        std::fs::remove_file(folder.path().join("token")).unwrap();
        std::fs::write(folder.path().join("ca.crt"), CA).unwrap();
        assert!(Access::in_cluster(&good).await.unwrap_err().to_string().contains("token: No such file"));
    }

    #[test]
    fn a_pods_variables_are_read_by_name() {
        let variables = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("h".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("1".to_owned()),
            "KUBERNETES_POD_NAMESPACE" => Some(String::new()),
            _ => None,
        };
        let pod = InCluster::read(variables);
        assert_eq!((pod.host.as_str(), pod.port.as_str(), pod.namespace), ("h", "1", None));
        assert_eq!(pod.service_account, Path::new("/var/run/secrets/kubernetes.io/serviceaccount"));
    }
}
