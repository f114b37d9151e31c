//! `up --trust`: puts the local authority into the system's trust store, and takes it out again.
//!
//! Only where the system has a documented way to do it that can be undone: a folder of extra certificates and a command
//! that reads it (Debian and its kin: ca-certificates(7); Fedora and its kin: update-ca-trust(8)). Nothing else is touched.
//!
//! The command takes seconds. So the file's path is known before ([`Store::file`]) and is written down by the caller, who
//! may be killed meanwhile; [`Store::add`] and [`Store::remove`] can each be done again. Both block.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    #[error("{} failed: {reason}", .command.display())]
    Command {
        /// The command.
        command: PathBuf,
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

/// A folder of extra certificates, and the command that reads it.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    command: PathBuf,
    arguments: &'static [&'static str],
}

/// Folder, command and its arguments.
const STORES: &[(&str, &str, &[&str])] = &[
    ("/usr/local/share/ca-certificates", "update-ca-certificates", &[]),
    ("/etc/pki/ca-trust/source/anchors", "update-ca-trust", &["extract"]),
];

/// Files with the system's authorities, in the order in which common programs look.
const BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

impl Store {
    /// This system's store.
    ///
    /// # Errors
    /// [`TrustError::Unsupported`] where there is none that we know.
    pub fn of_system() -> Result<Self, TrustError> {
        Self::known().find(|store| store.folder.is_dir()).ok_or(TrustError::Unsupported)
    }

    /// Whether this user may add to it, as far as that can be told beforehand.
    ///
    /// # Errors
    /// [`TrustError::Io`] for a folder that cannot be written.
    pub fn check(&self) -> Result<(), TrustError> {
        rustix::fs::access(&self.folder, rustix::fs::Access::WRITE_OK)
            .map_err(|error| TrustError::Io { path: self.folder.clone(), source: error.into() })
    }

    /// The store that a file of ours is in.
    ///
    /// # Errors
    /// [`TrustError::Unsupported`] for a file that [`Store::add`] cannot have made.
    pub fn of_file(path: &Path) -> Result<Self, TrustError> {
        Self::known().find(|store| store.is_ours(path)).ok_or(TrustError::Unsupported)
    }

    fn known() -> impl Iterator<Item = Self> {
        STORES.iter().map(|&(folder, command, arguments)| Self {
            folder: folder.into(),
            command: command.into(),
            arguments,
        })
    }

    /// The file that [`Store::add`] makes for a name.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("portcullis-{name}.crt"))
    }

    /// Adds the authority under a name of ours.
    ///
    /// # Errors
    /// See [`TrustError`]; the file is gone again then.
    pub fn add(&self, name: &str, cert_pem: &str) -> Result<(), TrustError> {
        let path = self.file(name);
        let added = fs::write(&path, cert_pem)
            .map_err(|source| TrustError::Io { path: path.clone(), source })
            .and_then(|()| self.update());
        if added.is_err() {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(TrustError::Io { path, source });
                }
                _ => {}
            }
        }
        added
    }

    /// Takes out what [`Store::add`] put in. A file that is gone already is fine, and the store is read again: the earlier
    /// time may have been cut off before that. A file that is not ours is refused.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn remove(&self, path: &Path) -> Result<(), TrustError> {
        if !self.is_ours(path) {
            return Err(TrustError::Unsupported);
        }
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(TrustError::Io { path: path.to_owned(), source })
            }
            _ => self.update(),
        }
    }

    fn is_ours(&self, path: &Path) -> bool {
        let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("portcullis-"));
        named && path.parent() == Some(&*self.folder)
    }

    fn update(&self) -> Result<(), TrustError> {
        let failed = |reason: String| TrustError::Command { command: self.command.clone(), reason };
        let output = Command::new(&self.command)
            .args(self.arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(said.lines().last().unwrap_or("no reason given").to_owned()))
    }
}

/// The system's authorities followed by ours, for `SSL_CERT_FILE`.
#[must_use]
pub fn bundle(cert_pem: &str) -> String {
    let system = BUNDLES.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    format!("{}\n{cert_pem}", system.trim_end())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A store whose command notes what is in the folder, and fails while a file `broken` is beside it.
    fn fake() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("anchors");
        fs::create_dir(&folder).unwrap();
        let command = temp.path().join("update");
        let script = format!(
            "#!/bin/sh\nif [ -e {0}/broken ]; then echo first >&2; echo no store >&2; exit 3; fi\nls {0}/anchors >{0}/seen\necho run >>{0}/runs\n",
            temp.path().display()
        );
        fs::write(&command, script).unwrap();
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
        (temp, Store { folder, command, arguments: &[] })
    }

    fn seen(temp: &tempfile::TempDir) -> String {
        fs::read_to_string(temp.path().join("seen")).unwrap()
    }

    #[test]
    fn what_was_added_is_read_by_the_system_and_taken_out_again() {
        let (temp, store) = fake();
        fs::write(store.folder.join("other.crt"), "OTHER").unwrap();
        store.check().unwrap();
        store.add("dev", "PEM").unwrap();
        assert_eq!(fs::read_to_string(store.file("dev")).unwrap(), "PEM");
        assert_eq!(seen(&temp), "other.crt\nportcullis-dev.crt\n");
        store.add("dev", "NEW").unwrap();
        store.remove(&store.file("dev")).unwrap();
        assert_eq!(seen(&temp), "other.crt\n");
        // Cut off between the file and the command: the next time reads the store again.
        fs::remove_file(temp.path().join("runs")).unwrap();
        store.remove(&store.file("dev")).unwrap();
        assert!(temp.path().join("runs").exists());
    }

    #[test]
    fn a_command_that_fails_leaves_no_file_and_its_last_words() {
        let (temp, store) = fake();
        fs::write(temp.path().join("broken"), "").unwrap();
        let error = store.add("dev", "PEM").unwrap_err();
        assert_eq!(error.to_string(), format!("{} failed: no store", store.command.display()));
        assert!(error.hint().starts_with("run it as root"), "{}", error.hint());
        assert!(!store.file("dev").exists());
        let gone = Store { folder: temp.path().join("nowhere"), ..store };
        assert!(matches!(gone.check(), Err(TrustError::Io { .. })));
        assert!(matches!(gone.add("dev", "PEM"), Err(TrustError::Io { .. })));
    }

    #[test]
    fn only_files_that_we_added_are_removed() {
        let (_temp, store) = fake();
        let other = store.folder.join("other.crt");
        fs::write(&other, "OTHER").unwrap();
        assert!(matches!(store.remove(&other), Err(TrustError::Unsupported)));
        assert!(other.exists());
        for path in ["/etc/passwd", "/usr/local/share/ca-certificates/other.crt", "/tmp/portcullis-dev.crt"] {
            assert!(matches!(Store::of_file(Path::new(path)), Err(TrustError::Unsupported)), "{path}");
        }
        assert!(Store::of_file(Path::new("/usr/local/share/ca-certificates/portcullis-dev.crt")).is_ok());
    }

    #[test]
    fn the_bundle_ends_with_our_authority() {
        assert!(bundle("OURS").ends_with("\nOURS"));
    }
}
