//! The lock of one cached login, compatible with kubelogin's (flock on `<key>.lock`).
//!
//! Compat: gofrs/flock opens the file read-only, creating it with mode 0600, and takes an exclusive flock; the standard
//! library's file locks are the same calls. kubelogin blocks inside the call, deaf to Ctrl-C; here the caller tries, and
//! waits by trying again, so that it can stop at any time. The system releases the lock with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// How often a lock file that was replaced under our hands is opened again.
const MAX_REPLACED: usize = 16;

/// A held lock; dropping it releases.
#[derive(Debug)]
pub(crate) struct CacheLock {
    _file: File,
}

/// What an attempt gave.
#[derive(Debug)]
pub(crate) enum LockAttempt {
    /// The lock is ours.
    Held(CacheLock),
    /// Another process (or kubelogin) holds it.
    Busy,
}

impl CacheLock {
    /// Takes the lock at `path` if it is free. Its directory must exist.
    pub(crate) fn try_acquire(path: &Path) -> io::Result<LockAttempt> {
        for _ in 0..MAX_REPLACED {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) if is_current(&file, path) => return Ok(LockAttempt::Held(Self { _file: file })),
                // `clean` removed the file between our open and our lock: this lock would guard nothing.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(LockAttempt::Busy),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(LockAttempt::Busy)
    }
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // O_CREAT with O_RDONLY, as kubelogin opens it; the standard library's own `create` insists on writing.
    match OpenOptions::new().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
        }
        other => other,
    }
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

#[cfg(unix)]
fn is_current(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_current(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_busy_for_others_until_dropped() {
        let root = tempfile::tempdir().expect("temporary folder");
        let path = root.path().join("x.lock");
        let Ok(LockAttempt::Held(guard)) = CacheLock::try_acquire(&path) else { panic!("free") };
        assert!(matches!(CacheLock::try_acquire(&path), Ok(LockAttempt::Busy)));
        drop(guard);
        assert!(matches!(CacheLock::try_acquire(&path), Ok(LockAttempt::Held(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_on_a_file_that_was_removed_is_not_trusted() {
        let root = tempfile::tempdir().expect("temporary folder");
        let path = root.path().join("x.lock");
        let file = open(&path).expect("opens");
        std::fs::remove_file(&path).expect("removes");
        assert!(!is_current(&file, &path));
        File::create(&path).expect("creates");
        assert!(!is_current(&file, &path));
        assert!(is_current(&open(&path).expect("opens"), &path));
    }

    #[cfg(unix)]
    #[test]
    fn an_existing_lock_file_that_we_may_only_read_can_be_locked() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().expect("temporary folder");
        let path = root.path().join("x.lock");
        File::create(&path).expect("creates");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("sets the mode");
        assert!(matches!(CacheLock::try_acquire(&path), Ok(LockAttempt::Held(_))));
    }
}
