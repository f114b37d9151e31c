//! What `up --issuer` is told about the user's provider: flags, and the files that they name.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use portcullis_authn::OidcFlags;
use portcullis_runtime::Secret;
use serde::{Deserialize, Serialize};

use crate::state::StateDir;

use super::error::IssuerError;

/// Bytes of a file that a flag names.
const MAX_FILE: u64 = 1024 * 1024;

/// The flags, as the command line has them.
pub struct IssuerFlags {
    /// Issuer, client, claims and prefixes, as kube-apiserver's `--oidc-*` arguments.
    pub oidc: Vec<String>,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// A file with it.
    pub client_secret_file: Option<PathBuf>,
    /// Authorities of the provider's certificate, PEM.
    pub ca: Option<PathBuf>,
    /// Scopes that the plugin asks for besides.
    pub extra_scopes: Vec<String>,
}

/// The flags with the files' content. It holds a secret, so it is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(super) arguments: Vec<String>,
    pub(super) client_secret: Option<String>,
    pub(super) ca_pem: Option<String>,
    pub(super) extra_scopes: Vec<String>,
}

impl Wish {
    /// Reads the files.
    pub(super) fn read(flags: &IssuerFlags) -> Result<Self, IssuerError> {
        let client_secret = match (&flags.client_secret, &flags.client_secret_file) {
            (Some(secret), _) => Some(secret.expose().to_owned()),
            // Editors end a file with a line break, which no secret has.
            (None, Some(path)) => {
                let text = read_text("--client-secret-file", path)?;
                Some(
                    text.strip_suffix('\n')
                        .map(|line| line.strip_suffix('\r').unwrap_or(line))
                        .unwrap_or(&text)
                        .to_owned(),
                )
            }
            (None, None) => None,
        };
        if client_secret.as_ref().is_some_and(String::is_empty) {
            return Err(IssuerError::Empty("the client's secret"));
        }
        let ca_pem = flags.ca.as_ref().map(|path| read_text("--issuer-ca", path)).transpose()?;
        let (arguments, extra_scopes) = (flags.oidc.clone(), flags.extra_scopes.clone());
        Ok(Self { arguments, client_secret, ca_pem, extra_scopes })
    }

    /// The API server's flags, without the file of the authority.
    pub(super) fn flags(&self) -> Result<OidcFlags, IssuerError> {
        Ok(OidcFlags::parse(&self.arguments)?.0)
    }

    /// The plugin as kubectl will run it.
    pub(super) fn plugin_arguments(&self, flags: &OidcFlags, scopes: &[String], state: &StateDir) -> Vec<String> {
        let mut arguments = vec![
            "get-token".to_owned(),
            format!("--oidc-issuer-url={}", flags.issuer_url),
            format!("--oidc-client-id={}", flags.client_id),
        ];
        arguments.extend(self.client_secret.iter().map(|secret| format!("--oidc-client-secret={secret}")));
        arguments.extend(scopes.iter().map(|scope| format!("--oidc-extra-scope={scope}")));
        if !flags.ca_file.is_empty() {
            arguments.push(format!("--certificate-authority={}", flags.ca_file));
        }
        arguments.push(format!("--token-cache-dir={}", state.path("cache/oidc-login").display()));
        arguments
    }
}

/// Who somebody is in the cluster, for people: `https://…# and then the claim "sub"`.
pub(super) fn name_rule(flags: &OidcFlags) -> String {
    let prefix = flags.effective_username_prefix();
    let claim = &flags.username_claim;
    if prefix.is_empty() {
        format!("the claim {claim:?} of your token")
    } else {
        format!("{prefix:?} and then the claim {claim:?} of your token")
    }
}

fn read_text(flag: &'static str, path: &Path) -> Result<String, IssuerError> {
    let error = |source| IssuerError::File { flag, path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).map_err(error)?.take(MAX_FILE + 1).read_to_string(&mut text).map_err(error)?;
    if text.len() as u64 > MAX_FILE {
        return Err(IssuerError::TooLarge { flag, path: path.to_owned(), limit: MAX_FILE });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(oidc: &[&str]) -> IssuerFlags {
        let oidc = oidc.iter().map(|argument| (*argument).to_owned()).collect();
        IssuerFlags { oidc, client_secret: None, client_secret_file: None, ca: None, extra_scopes: Vec::new() }
    }

    #[test]
    fn a_secret_file_loses_its_line_break_and_the_plugin_gets_what_it_needs() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("secret");
        for (content, secret) in [("s e\n", "s e"), ("x\r\n", "x"), ("x", "x"), ("x\n\n", "x\n")] {
            std::fs::write(&file, content).unwrap();
            let flags = IssuerFlags { client_secret_file: Some(file.clone()), ..given(&[]) };
            assert_eq!(Wish::read(&flags).unwrap().client_secret.as_deref(), Some(secret));
        }
        let state = StateDir::new(temp.path(), "dev").unwrap();
        let flags = given(&["--oidc-issuer-url=https://a", "--oidc-client-id=k"]);
        let wish = Wish::read(&IssuerFlags { client_secret: Some(Secret::new("hush")), ..flags }).unwrap();
        let mut flags = wish.flags().unwrap();
        flags.ca_file = "/ca.pem".to_owned();
        assert_eq!(
            wish.plugin_arguments(&flags, &["email".to_owned()], &state),
            [
                "get-token".to_owned(),
                "--oidc-issuer-url=https://a".to_owned(),
                "--oidc-client-id=k".to_owned(),
                "--oidc-client-secret=hush".to_owned(),
                "--oidc-extra-scope=email".to_owned(),
                "--certificate-authority=/ca.pem".to_owned(),
                format!("--token-cache-dir={}", state.path("cache/oidc-login").display()),
            ]
        );
    }

    #[test]
    fn files_that_are_missing_large_or_empty_are_refused_with_their_flag() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x");
        let flags = || IssuerFlags { ca: Some(path.clone()), ..given(&[]) };
        assert!(matches!(Wish::read(&flags()), Err(IssuerError::File { flag: "--issuer-ca", .. })));
        std::fs::write(&path, vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert!(matches!(Wish::read(&flags()), Err(IssuerError::TooLarge { flag: "--issuer-ca", .. })));
        std::fs::write(&path, "\n").unwrap();
        let empty = IssuerFlags { client_secret_file: Some(path.clone()), ..given(&[]) };
        assert!(matches!(Wish::read(&empty), Err(IssuerError::Empty(_))));
    }

    #[test]
    fn the_name_in_the_cluster_follows_kubernetes_rule() {
        let rule = |more: &[&str]| {
            let mut arguments = vec!["--oidc-issuer-url=https://a", "--oidc-client-id=k"];
            arguments.extend(more);
            name_rule(&OidcFlags::parse(arguments).unwrap().0)
        };
        assert_eq!(rule(&[]), "\"https://a#\" and then the claim \"sub\" of your token");
        assert_eq!(rule(&["--oidc-username-claim=email"]), "the claim \"email\" of your token");
        assert_eq!(rule(&["--oidc-username-prefix=-"]), "the claim \"sub\" of your token");
        assert_eq!(rule(&["--oidc-username-prefix=me:"]), "\"me:\" and then the claim \"sub\" of your token");
    }
}
