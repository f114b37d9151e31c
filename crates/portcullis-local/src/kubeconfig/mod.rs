//! The kubeconfig of `up`: one of its own in the state folder, and on request our entries in other ones.
//!
//! The own file ([`own`]) is what the guide's commands expect: context `kind-<name>`, a user with a client certificate and
//! the user `oidc`. In somebody else's file ([`other`]) every entry of ours carries `kind-<name>` in its name. In both,
//! entries that are not ours are never replaced, unknown keys stay, and what the user chose (current context, the context's
//! user, a user `oidc` of their own) stays too. Every file is read and checked before anything is started.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portcullis_kube::kubeconfig::{self as kube, Cluster, Exec, Kubeconfig, User};
use portcullis_runtime::Secret;

use crate::state::{self, StateError};

pub mod other;
pub mod own;

/// Why a kubeconfig cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file is not a kubeconfig.
    #[error(transparent)]
    Content(#[from] kube::KubeconfigError),
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] StateError),
    /// An entry of the same name is somebody else's.
    #[error("{path} already has {entry:?}, which `up` did not make")]
    Taken {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
}

impl KubeconfigError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Taken { .. } => Some("choose another --name, or another --kubeconfig".to_owned()),
            Self::Content(error) => Some(format!("{}; the file is left as it is", error.hint())),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::IsADirectory => {
                Some("name a file, not a folder".to_owned())
            }
            Self::Read { .. } => Some("let this user read it, or choose another --kubeconfig".to_owned()),
            Self::Write(StateError::Io { source, .. }) => match source.kind() {
                io::ErrorKind::NotFound => Some("make its folder first, or choose another --kubeconfig".to_owned()),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("let this user write to its folder, or choose another --kubeconfig".to_owned())
                }
                io::ErrorKind::StorageFull => Some("free some disk space, or choose another --kubeconfig".to_owned()),
                _ => None,
            },
            Self::Write(error) => error.hint(),
        }
    }
}

/// What goes into a kubeconfig.
pub struct Entries {
    /// Name of cluster and context: `kind-<name>`.
    pub cluster: String,
    /// The API server's URL.
    pub server: String,
    /// Its authority, PEM.
    pub ca_pem: String,
    /// The administrator's certificate, PEM.
    pub admin_cert_pem: String,
    /// Its key, PEM.
    pub admin_key_pem: Secret,
    /// The sign-in plugin of this state folder; a user `oidc` that runs another program is not ours.
    pub program: PathBuf,
    /// How the plugin is run, where somebody can sign in.
    pub plugin: Option<PluginEntry>,
}

/// The user `oidc`.
pub struct PluginEntry {
    /// The issuer, which is also among the arguments.
    pub issuer: String,
    /// The plugin's arguments.
    pub arguments: Vec<String>,
    /// Whether the context's user is `oidc` (bound) or the administrator (who is yet to bind it).
    pub signed_in: bool,
}

/// Renews our cluster; what the user added to it stays, but for what would contradict our authority.
fn put_cluster(config: &mut Kubeconfig, entries: &Entries) -> Result<(), KubeconfigError> {
    let fresh = Cluster::new(&entries.server, entries.ca_pem.as_bytes());
    let found = config.cluster(&entries.cluster)?.unwrap_or_default();
    let cluster = Cluster { insecure_skip_tls_verify: false, certificate_authority: String::new(), ..found };
    let cluster =
        Cluster { server: fresh.server, certificate_authority_data: fresh.certificate_authority_data, ..cluster };
    config.set_cluster(&entries.cluster, &cluster);
    Ok(())
}

fn admin(entries: &Entries) -> User {
    User::with_certificate(entries.admin_cert_pem.as_bytes(), entries.admin_key_pem.expose().as_bytes())
}

fn oidc(entries: &Entries, plugin: &PluginEntry) -> User {
    User::with_exec(Exec {
        api_version: "client.authentication.k8s.io/v1".to_owned(),
        command: entries.program.display().to_string(),
        args: plugin.arguments.clone(),
        interactive_mode: "IfAvailable".to_owned(),
        ..Exec::default()
    })
}

fn read(path: &Path) -> Result<Option<Kubeconfig>, KubeconfigError> {
    let read_error = |source| KubeconfigError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(read_error(source)),
    };
    let mut text = String::new();
    // One byte over the limit, so that the parser sees that it is over.
    file.take(kube::BYTES_LIMIT as u64 + 1).read_to_string(&mut text).map_err(read_error)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    Ok(Some(Kubeconfig::parse(&text, &path.display().to_string())?))
}

/// Through a link to the file it names: a kubeconfig is often one, and replacing the link would lose it.
fn write(path: &Path, config: &Kubeconfig) -> Result<(), KubeconfigError> {
    state::rewrite(&target(path), config.to_yaml()?.as_bytes())?;
    Ok(())
}

/// The file that a path means: the end of its links, also where nothing is there yet.
fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_not_there_yet| match fs::read_link(path) {
        Ok(to) => state::folder_of(path).join(to),
        Err(_no_link) => path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn entries() -> Entries {
        Entries {
            cluster: "kind-dev".to_owned(),
            server: "https://127.0.0.1:6443".to_owned(),
            ca_pem: "CA".to_owned(),
            admin_cert_pem: "CERT".to_owned(),
            admin_key_pem: Secret::new("KEY"),
            program: PathBuf::from("/state/dev/bin/kubectl-oidc_login"),
            plugin: Some(PluginEntry {
                issuer: "https://localhost:5554".to_owned(),
                arguments: vec!["get-token".to_owned(), "--oidc-issuer-url=https://localhost:5554".to_owned()],
                signed_in: true,
            }),
        }
    }

    pub(super) fn parsed(path: &Path) -> Kubeconfig {
        Kubeconfig::parse(&fs::read_to_string(path).unwrap(), "x").unwrap()
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_names_its_place_and_the_fix_in_one_line_each() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("config");
        fs::write(&path, "users: 7\n").unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: users: expected a list, found a number", path.display()));
        assert_eq!(error.hint().unwrap(), "correct users in that file; the file is left as it is");
        let error = read(temp.path()).unwrap_err();
        assert_eq!(error.hint().unwrap(), "name a file, not a folder");
    }
}
