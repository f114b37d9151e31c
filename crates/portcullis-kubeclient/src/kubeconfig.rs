//! Access from a kubeconfig file: what a server can use of it.
//!
//! Compat: client-go's rules (paths are relative to the file, data goes before files, a token file before a token), and
//! Dex's (the only context when none is current). Programs that fetch credentials are refused: they ask people.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_kube::Kubeconfig;
use portcullis_kube::kubeconfig::{Cluster, User};
use portcullis_runtime::Secret;
use portcullis_runtime::http_client::{ClientIdentity, ProxyFromEnv, Roots};

use crate::access::{Access, AccessError, check_namespace, read as read_file};
use crate::credential::{Credential, FRESH, TokenFile};

pub(crate) async fn read(path: &Path, proxy: ProxyFromEnv) -> Result<Access, AccessError> {
    let file = File { path };
    let text = String::from_utf8(read_file(path).await?)
        .map_err(|_| AccessError::File(format!("{}: not UTF-8", path.display())))?;
    let config = Kubeconfig::parse(&text, &file.name())?;
    let only = match (config.current_context(), config.context_names().as_slice()) {
        (None, [only]) => Some((*only).to_owned()),
        _ => None,
    };
    let resolved = config.resolve(only.as_deref())?;
    let namespace = match resolved.context.namespace.as_str() {
        "" => "default",
        name => name,
    };
    Ok(Access {
        server: file.server(&resolved.cluster)?,
        namespace: check_namespace(namespace.to_owned())?,
        roots: file.roots(&resolved.cluster).await?,
        insecure_skip_verify: resolved.cluster.insecure_skip_tls_verify,
        identity: file.identity(&resolved.user).await?,
        credential: file.credential(&resolved.user)?,
        proxy: match resolved.cluster.proxy_url.as_str() {
            "" => proxy,
            url => ProxyFromEnv { http: Some(url.to_owned()), https: Some(url.to_owned()), no: None },
        },
    })
}

/// The file that the values come from.
struct File<'a> {
    path: &'a Path,
}

impl File<'_> {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// A path in the file, as client-go takes it.
    fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or_else(|| Path::new("")).join(path)
    }

    fn unsupported(&self, what: impl Into<String>) -> AccessError {
        AccessError::Unsupported { file: self.name(), what: what.into() }
    }

    fn server(&self, cluster: &Cluster) -> Result<String, AccessError> {
        if !cluster.tls_server_name.is_empty() {
            return Err(
                self.unsupported("tls-server-name is not supported: use a server name that the certificate has")
            );
        }
        let server = cluster.server.trim_end_matches('/');
        let usable = url::Url::parse(server).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        });
        if !usable {
            return Err(self.unsupported("the cluster's server must be an http or https URL without query and user"));
        }
        Ok(server.to_owned())
    }

    async fn roots(&self, cluster: &Cluster) -> Result<Roots, AccessError> {
        let (data, path) = (&cluster.certificate_authority_data, &cluster.certificate_authority);
        let pem = self.bytes(data, path, "certificate-authority-data").await?;
        if cluster.insecure_skip_tls_verify {
            // Compat: client-go.
            if pem.is_some() {
                return Err(
                    self.unsupported("a certificate authority beside insecure-skip-tls-verify: leave one of them out")
                );
            }
            tracing::warn!(
                file = %self.name(),
                "insecure-skip-tls-verify: whoever stands between us and the API server reads and changes all that is stored"
            );
        }
        match pem {
            Some(pem) => Ok(Roots::only_pem(&pem)?),
            None => Ok(Roots::System),
        }
    }

    async fn identity(&self, user: &User) -> Result<Option<ClientIdentity>, AccessError> {
        let certificate =
            self.bytes(&user.client_certificate_data, &user.client_certificate, "client-certificate-data").await?;
        let key = self.bytes(user.client_key_data.expose(), &user.client_key, "client-key-data").await?;
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate_pem), Some(key)) => {
                let key_pem = String::from_utf8(key).map_err(|_| self.unsupported("the client key is not PEM"))?;
                Ok(Some(ClientIdentity { certificate_pem, key_pem: Secret::new(key_pem) }))
            }
            _ => Err(self.unsupported("a client certificate and its key belong together")),
        }
    }

    fn credential(&self, user: &User) -> Result<Credential, AccessError> {
        if user.exec.is_some() || user.auth_provider.is_some() {
            let what = "the user's credential comes from a program (exec, auth-provider), which a server cannot run: \
                        use a token, a token file or a client certificate";
            return Err(self.unsupported(what));
        }
        let token = (!user.token.is_empty()).then(|| user.token.expose());
        if token.is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(self.unsupported("the user's token is not a token"));
        }
        Ok(match (user.token_file.as_str(), token) {
            ("", Some(token)) => Credential::token(token),
            ("", None) if !user.username.is_empty() => Credential::basic(&user.username, user.password.expose()),
            ("", None) => Credential::None,
            (path, fallback) => Credential::File(TokenFile::new(self.beside(path), fallback, FRESH)),
        })
    }

    /// What is given as base64, or else in a file.
    async fn bytes(&self, data: &str, path: &str, member: &str) -> Result<Option<Vec<u8>>, AccessError> {
        match (data, path) {
            ("", "") => Ok(None),
            ("", path) => read_file(&self.beside(path)).await.map(Some),
            (data, _) => {
                STANDARD.decode(data).map(Some).map_err(|_| self.unsupported(format!("{member} is no base64")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    const WHOLE: &str = "apiVersion: v1\nkind: Config\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\n";

    async fn with(cluster: &str, user: &str, folder: &Path) -> Result<Access, AccessError> {
        let path = folder.join("kubeconfig");
        let text =
            format!("{WHOLE}clusters:\n- name: k\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n");
        std::fs::write(&path, text).unwrap();
        Access::kubeconfig(&path, ProxyFromEnv::default()).await
    }

    #[tokio::test]
    async fn paths_are_relative_to_the_file_and_the_only_context_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pki")).unwrap();
        for (name, text) in [("ca.pem", CERTIFICATE), ("me.pem", CERTIFICATE), ("me.key", "hunter2")] {
            std::fs::write(folder.path().join("pki").join(name), text).unwrap();
        }
        let cluster = "server: 'https://x:6443/base/', certificate-authority: pki/ca.pem, proxy-url: 'http://p:1'";
        let user = "client-certificate: pki/me.pem, client-key: pki/me.key, tokenFile: pki/token, token: old";
        let access = with(cluster, user, folder.path()).await.unwrap();
        assert_eq!((access.server.as_str(), access.namespace()), ("https://x:6443/base", "default"));
        assert!(matches!(&access.roots, Roots::Only(roots) if roots.len() == 1));
        assert!(access.identity.is_some() && access.proxy.https.as_deref() == Some("http://p:1"));
        assert_eq!(access.credential.header().await.unwrap().unwrap().expose(), "Bearer old");
        std::fs::write(folder.path().join("pki/token"), "new").unwrap();
        assert!(access.credential.renew());
        assert_eq!(access.credential.header().await.unwrap().unwrap().expose(), "Bearer new");
        assert!(!format!("{access:?}").contains("hunter2"), "{access:?}");
    }

    #[tokio::test]
    async fn what_a_server_cannot_use_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let server = "server: 'https://x'";
        for (cluster, user, want) in [
            (server, "exec: {apiVersion: client.authentication.k8s.io/v1, command: x}", "comes from a program"),
            (server, "auth-provider: {name: oidc}", "comes from a program"),
            (server, "client-certificate-data: eA==", "belong together"),
            (server, "client-key-data: '%', client-certificate-data: eA==", "client-key-data is no base64"),
            (server, "token: 'a b'", "not a token"),
            ("server: 'https://x', tls-server-name: y", "", "tls-server-name"),
            (
                "server: 'https://x', insecure-skip-tls-verify: true, certificate-authority-data: eA==",
                "",
                "beside insecure-skip-tls-verify",
            ),
            ("server: 'ftp://x'", "", "http or https"),
            ("server: 'https://u:p@x'", "", "http or https"),
            ("server: ''", "", "http or https"),
            ("server: 'https://x', certificate-authority: none.pem", "", "none.pem: No such file"),
        ] {
            let error = with(cluster, user, folder.path()).await.unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        let missing = Access::kubeconfig(&folder.path().join("missing"), ProxyFromEnv::default()).await.unwrap_err();
        assert!(missing.to_string().contains("missing: No such file"), "{missing}");
    }
}
