//! The kubeconfig of `up`: one of its own in the state folder, and on request our entries in another one.
//!
//! The own file is what the guide's commands expect: context `kind-<name>`, a user with a client certificate and the user
//! `oidc`. In somebody else's file every entry of ours carries `kind-<name>` in its name, entries that are not ours are
//! never replaced, unknown keys stay, and the current context changes only when asked.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portcullis_kube::kubeconfig::{self as kube, Cluster, Context, Exec, Kubeconfig, User};
use portcullis_runtime::Secret;

use crate::state::{self, StateError};

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
            Self::Write(error) => error.hint(),
            Self::Content(_) => Some("the file is left as it is: mend it, or choose another --kubeconfig".to_owned()),
            Self::Read { .. } => None,
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
    /// The sign-in plugin, where somebody can sign in.
    pub plugin: Option<PluginEntry>,
}

/// The user `oidc`.
pub struct PluginEntry {
    /// The sign-in plugin.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether the context's user is `oidc` (bound) or the administrator (who is yet to bind it).
    pub signed_in: bool,
}

/// Names of the two users in a file.
struct Names {
    admin: String,
    oidc: String,
}

/// Replaces our own kubeconfig.
///
/// # Errors
/// The folder cannot be written.
pub fn write_own(path: &Path, entries: &Entries) -> Result<(), KubeconfigError> {
    let mut config = Kubeconfig::new(&path.display().to_string());
    put(&mut config, entries, &Names { admin: entries.cluster.clone(), oidc: "oidc".to_owned() });
    config.set_current_context(&entries.cluster);
    write(path, &config)
}

/// Puts our entries into another kubeconfig, which is made when it is not there. Returns the current context that
/// `make_current` replaced.
///
/// `ours` says that an earlier `up` of this name put entries there.
///
/// # Errors
/// The file is not a kubeconfig, has such entries that are not ours, or cannot be written; it is untouched then.
pub fn merge(
    path: &Path,
    entries: &Entries,
    make_current: bool,
    ours: bool,
) -> Result<Option<String>, KubeconfigError> {
    let mut config = read(path)?.unwrap_or_else(|| Kubeconfig::new(&path.display().to_string()));
    let names = merged_names(&entries.cluster);
    if !ours {
        let taken = [
            config.cluster_names().contains(&entries.cluster.as_str()),
            config.context_names().contains(&entries.cluster.as_str()),
            config.user_names().contains(&names.admin.as_str()),
        ];
        if taken.contains(&true) {
            return Err(KubeconfigError::Taken { path: path.to_owned(), entry: entries.cluster.clone() });
        }
        if config.user_names().contains(&names.oidc.as_str()) {
            return Err(KubeconfigError::Taken { path: path.to_owned(), entry: names.oidc });
        }
    }
    let previous = config.current_context().filter(|current| *current != entries.cluster).map(str::to_owned);
    put(&mut config, entries, &names);
    if make_current {
        config.set_current_context(&entries.cluster);
    }
    write(path, &config)?;
    Ok(previous)
}

/// Takes our entries for `name` out of another kubeconfig, and its current context back to `previous` where it is ours.
///
/// # Errors
/// The file is no longer a kubeconfig, or cannot be written; it is untouched then.
pub fn remove(path: &Path, name: &str, previous: Option<&str>) -> Result<(), KubeconfigError> {
    let Some(mut config) = read(path)? else { return Ok(()) };
    let cluster = format!("kind-{name}");
    let names = merged_names(&cluster);
    let current_is_ours = config.current_context() == Some(&cluster);
    config.remove_cluster(&cluster);
    config.remove_context(&cluster);
    config.remove_user(&names.admin);
    config.remove_user(&names.oidc);
    if current_is_ours {
        config.set_current_context(previous.unwrap_or_default());
    }
    write(path, &config)
}

fn merged_names(cluster: &str) -> Names {
    Names { admin: cluster.to_owned(), oidc: format!("{cluster}-oidc") }
}

fn put(config: &mut Kubeconfig, entries: &Entries, names: &Names) {
    config.set_cluster(&entries.cluster, &Cluster::new(&entries.server, entries.ca_pem.as_bytes()));
    config.set_user(
        &names.admin,
        &User::with_certificate(entries.admin_cert_pem.as_bytes(), entries.admin_key_pem.expose().as_bytes()),
    );
    let mut user = &names.admin;
    if let Some(plugin) = &entries.plugin {
        let exec = Exec {
            api_version: "client.authentication.k8s.io/v1".to_owned(),
            command: plugin.program.display().to_string(),
            args: plugin.arguments.clone(),
            interactive_mode: "IfAvailable".to_owned(),
            ..Exec::default()
        };
        config.set_user(&names.oidc, &User::with_exec(exec));
        if plugin.signed_in {
            user = &names.oidc;
        }
    }
    config.set_context(
        &entries.cluster,
        &Context { cluster: entries.cluster.clone(), user: user.clone(), ..Context::default() },
    );
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
    let target = fs::canonicalize(path).unwrap_or_else(|_not_there_yet| path.to_owned());
    state::write_private(&target, config.to_yaml()?.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Entries {
        Entries {
            cluster: "kind-dev".to_owned(),
            server: "https://127.0.0.1:6443".to_owned(),
            ca_pem: "CA".to_owned(),
            admin_cert_pem: "CERT".to_owned(),
            admin_key_pem: Secret::new("KEY"),
            plugin: Some(PluginEntry {
                program: PathBuf::from("/x/kubectl-oidc_login"),
                arguments: vec!["get-token".to_owned()],
                signed_in: true,
            }),
        }
    }

    const OTHER: &str = "apiVersion: v1\nkind: Config\ncurrent-context: prod\npreferences: {}\nx-mine: kept\nclusters:\n- name: prod\n  cluster:\n    server: https://prod\n    x-extra: 1\nusers:\n- name: oidc\n  user:\n    token: secret\ncontexts:\n- name: prod\n  context:\n    cluster: prod\n    user: oidc\n";

    #[test]
    fn the_own_file_is_what_the_guide_expects() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("kubeconfig");
        write_own(&path, &entries()).unwrap();
        let config = Kubeconfig::parse(&fs::read_to_string(&path).unwrap(), "x").unwrap();
        assert_eq!(config.current_context(), Some("kind-dev"));
        assert_eq!(config.user_names(), ["kind-dev", "oidc"]);
        assert_eq!(config.context("kind-dev").unwrap().unwrap().user, "oidc");
    }

    #[test]
    fn merging_and_removing_leaves_the_other_file_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("config");
        fs::write(&path, OTHER).unwrap();
        let before = Kubeconfig::parse(OTHER, "x").unwrap();
        let previous = merge(&path, &entries(), true, false).unwrap();
        assert_eq!(previous.as_deref(), Some("prod"));
        let merged = Kubeconfig::parse(&fs::read_to_string(&path).unwrap(), "x").unwrap();
        assert_eq!(merged.current_context(), Some("kind-dev"));
        assert!(merged.user_names().contains(&"oidc") && merged.user_names().contains(&"kind-dev-oidc"));
        remove(&path, "dev", previous.as_deref()).unwrap();
        let after = Kubeconfig::parse(&fs::read_to_string(&path).unwrap(), "x").unwrap();
        assert_eq!(after.as_value(), before.as_value());
    }

    #[test]
    fn the_current_context_stays_unless_asked() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("config");
        fs::write(&path, OTHER).unwrap();
        merge(&path, &entries(), false, false).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("current-context: prod"));
    }

    #[test]
    fn somebody_elses_kind_dev_is_not_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("config");
        let taken = OTHER.replace("name: prod\n  cluster", "name: kind-dev\n  cluster");
        fs::write(&path, &taken).unwrap();
        assert!(matches!(merge(&path, &entries(), true, false), Err(KubeconfigError::Taken { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), taken);
        assert!(merge(&path, &entries(), true, true).is_ok(), "an earlier run of ours is renewed");
    }

    #[test]
    fn a_link_stays_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().join("real");
        let link = temp.path().join("config");
        fs::write(&real, OTHER).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        merge(&link, &entries(), false, false).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("kind-dev"));
    }
}
