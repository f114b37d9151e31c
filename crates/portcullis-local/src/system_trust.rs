//! `up --trust`: puts the local authority into the system's trust store, and takes it out again.
//!
//! Only where the system has a documented way to do it that can be undone: a folder of extra certificates and a command
//! that reads it (Debian and its kin: ca-certificates(7); Fedora and its kin: update-ca-trust(8)). Nothing else is touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why the store was not changed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// This system has no store that we know how to change and to restore.
    #[error("this system has no trust store that Portcullis knows how to change")]
    Unsupported,
    /// A file could not be written or removed.
    #[error("cannot change {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system's own command failed.
    #[error("{command} failed: {reason}")]
    Command {
        /// The command.
        command: &'static str,
        /// What it said.
        reason: String,
    },
}

impl TrustError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unsupported => "point tools at the printed SSL_CERT_FILE bundle instead; browsers need nothing: they sign in over http on localhost".to_owned(),
            Self::Io { .. } | Self::Command { .. } => "run it as root, or leave --trust out and point tools at the printed SSL_CERT_FILE bundle".to_owned(),
        }
    }
}

struct Store {
    folder: &'static str,
    command: &'static str,
    arguments: &'static [&'static str],
}

const STORES: &[Store] = &[
    Store { folder: "/usr/local/share/ca-certificates", command: "update-ca-certificates", arguments: &[] },
    Store { folder: "/etc/pki/ca-trust/source/anchors", command: "update-ca-trust", arguments: &["extract"] },
];

/// Files with the system's authorities, in the order in which common programs look.
const BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Adds the authority under a name of ours. Returns the file to hand to [`remove`] later.
///
/// # Errors
/// See [`TrustError`]; the store is as it was then.
pub fn add(name: &str, cert_pem: &str) -> Result<PathBuf, TrustError> {
    let store = STORES.iter().find(|store| Path::new(store.folder).is_dir()).ok_or(TrustError::Unsupported)?;
    let path = Path::new(store.folder).join(format!("portcullis-{name}.crt"));
    fs::write(&path, cert_pem).map_err(|source| TrustError::Io { path: path.clone(), source })?;
    match update(store) {
        Ok(()) => Ok(path),
        Err(error) => {
            fs::remove_file(&path).map_err(|source| TrustError::Io { path, source })?;
            Err(error)
        }
    }
}

/// Takes out what [`add`] put in. A file that is gone already is fine; one that is not ours is refused.
///
/// # Errors
/// See [`TrustError`].
pub fn remove(path: &Path) -> Result<(), TrustError> {
    let ours = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("portcullis-"));
    let store = STORES
        .iter()
        .find(|store| path.parent() == Some(Path::new(store.folder)) && ours)
        .ok_or(TrustError::Unsupported)?;
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(TrustError::Io { path: path.to_owned(), source })
        }
        _ => update(store),
    }
}

/// The system's authorities followed by ours, for `SSL_CERT_FILE`.
#[must_use]
pub fn bundle(cert_pem: &str) -> String {
    let system = BUNDLES.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    format!("{}\n{cert_pem}", system.trim_end())
}

fn update(store: &Store) -> Result<(), TrustError> {
    let output = Command::new(store.command)
        .args(store.arguments)
        .output()
        .map_err(|e| TrustError::Command { command: store.command, reason: e.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(TrustError::Command {
        command: store.command,
        reason: said.lines().last().unwrap_or("no reason given").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_we_added_are_removed() {
        for path in ["/etc/passwd", "/usr/local/share/ca-certificates/other.crt", "/tmp/portcullis-dev.crt"] {
            assert!(matches!(remove(Path::new(path)), Err(TrustError::Unsupported)), "{path}");
        }
    }

    #[test]
    fn the_bundle_ends_with_our_authority() {
        assert!(bundle("OURS").ends_with("\nOURS"));
    }
}
