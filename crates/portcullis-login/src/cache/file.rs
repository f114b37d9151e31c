//! Reading, writing and removing the cached logins of one directory.
//!
//! Compat: kubelogin `pkg/tokencache/repository` v1.36: content and names are its own; the atomic write (temporary file,
//! fsync, rename, fsync of the directory) is ours, kubelogin writes in place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::lock::{CacheLock, LockAttempt};
use crate::encoding::go_json_string;

/// Largest cache file that is read.
pub(crate) const MAX_CACHE_FILE: u64 = 1024 * 1024;

/// A cached login. In access token mode the access token is in `id_token`, as kubelogin keeps it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct TokenSet {
    /// The token that kubectl gets.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) id_token: String,
    /// Refresh token, empty when there is none.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) refresh_token: String,
}

impl std::fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSet")
            .field("id_token", &"[redacted]")
            .field("refresh_token", &if self.refresh_token.is_empty() { "" } else { "[redacted]" })
            .finish()
    }
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

impl TokenSet {
    /// Reads the content of a cache file.
    fn parse(bytes: &[u8]) -> Option<Self> {
        // The derived reader would take an array too.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return None;
        }
        serde_json::from_slice::<Option<Self>>(bytes).ok().map(Option::unwrap_or_default)
    }

    /// The content of a cache file, byte for byte what kubelogin writes.
    fn to_json(&self) -> String {
        let mut members = Vec::new();
        if !self.id_token.is_empty() {
            members.push(format!("\"id_token\":{}", go_json_string(&self.id_token)));
        }
        if !self.refresh_token.is_empty() {
            members.push(format!("\"refresh_token\":{}", go_json_string(&self.refresh_token)));
        }
        format!("{{{}}}", members.join(","))
    }
}

/// Why there is no usable cached login.
#[derive(Debug, Error)]
pub(crate) enum CacheReadError {
    /// There is none.
    #[error("no cached token")]
    Missing,
    /// The file is there and is not a token cache.
    #[error("the token cache {0} is damaged")]
    Damaged(String),
    /// The file cannot be read.
    #[error("could not read the token cache {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The cache directory.
#[derive(Debug, Clone)]
pub(crate) struct CacheDir {
    path: PathBuf,
}

impl CacheDir {
    /// The directory at `path`, which need not exist.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where a login or one of its companions is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Creates the directory, 0700, with its parents.
    pub(crate) fn create(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path)
    }

    /// Tries to take the lock of the login `name`, without waiting.
    pub(crate) fn try_lock(&self, name: &str) -> io::Result<LockAttempt> {
        let path = self.file(&format!("{name}.lock"));
        match CacheLock::try_acquire(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.create()?;
                CacheLock::try_acquire(&path)
            }
            other => other,
        }
    }

    /// Reads the login `name`.
    pub(crate) fn read(&self, name: &str) -> Result<TokenSet, CacheReadError> {
        let path = self.file(name);
        let shown = || path.display().to_string();
        match read_small(&path) {
            Ok(Some(bytes)) => TokenSet::parse(&bytes).ok_or_else(|| CacheReadError::Damaged(shown())),
            Ok(None) => Err(CacheReadError::Damaged(shown())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(CacheReadError::Missing)
            }
            Err(source) => Err(CacheReadError::Unreadable { path: shown(), source }),
        }
    }

    /// Writes the login `name`: all of it or nothing, mode 0600. The caller holds its lock.
    pub(crate) fn write(&self, name: &str, tokens: &TokenSet) -> io::Result<()> {
        self.write_file(name, tokens.to_json().as_bytes())
    }

    /// Writes a companion file of a login atomically, mode 0600.
    pub(crate) fn write_file(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.create()?;
        let temporary = self.file(&format!("{name}.tmp"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, self.file(name)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        #[cfg(unix)]
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }

    /// Reads a companion file; `None` when it is missing, too large or unreadable.
    pub(crate) fn read_file(&self, name: &str) -> Option<Vec<u8>> {
        read_small(&self.file(name)).ok().flatten()
    }

    /// Removes a companion file; a missing one is fine.
    pub(crate) fn remove_file(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes every cached login with its companions, and the directory when nothing else is in it.
    ///
    /// Compat: kubelogin removes the whole tree whatever it holds; a wrong `--token-cache-dir` would delete foreign
    /// files. A lock that somebody holds stays, so that a login under way is not doubled.
    pub(crate) fn remove_all(&self) -> io::Result<Removed> {
        let mut removed = Removed::default();
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(removed),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            let Some(kind) = name.to_str().and_then(companion) else {
                removed.foreign += 1;
                continue;
            };
            if kind == "lock" && matches!(CacheLock::try_acquire(&path), Ok(LockAttempt::Busy)) {
                removed.busy += 1;
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if removed.foreign == 0 && removed.busy == 0 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(removed)
    }
}

/// What [`CacheDir::remove_all`] left behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Entries that are not part of a token cache.
    pub(crate) foreign: usize,
    /// Locks of logins under way.
    pub(crate) busy: usize,
}

/// The kind of one of our files (`""` for a login itself), `None` for a foreign name.
fn companion(name: &str) -> Option<&str> {
    let (hex, kind) = name.split_at_checked(64)?;
    let ours = hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match kind {
        "" | ".lock" | ".tmp" | ".backoff" | ".backoff.tmp" if ours => Some(kind.trim_start_matches('.')),
        _ => None,
    }
}

/// The content of a file of at most [`MAX_CACHE_FILE`] bytes, `None` when it is larger.
fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let mut bytes = Vec::with_capacity(2048);
    file.take(MAX_CACHE_FILE + 1).read_to_end(&mut bytes)?;
    Ok((u64::try_from(bytes.len()).is_ok_and(|len| len <= MAX_CACHE_FILE)).then_some(bytes))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "e86f17bb894f37a5c90b523f0f8aa372904cf54f7123d57c4f408614db582fd4";

    fn dir() -> (tempfile::TempDir, CacheDir) {
        let root = tempfile::tempdir().expect("temporary folder");
        let cache = CacheDir::new(root.path().join("a/oidc-login"));
        (root, cache)
    }

    fn tokens(id_token: &str, refresh_token: &str) -> TokenSet {
        TokenSet { id_token: id_token.to_owned(), refresh_token: refresh_token.to_owned() }
    }

    #[test]
    fn a_file_is_written_byte_for_byte_as_kubelogin_writes_it() {
        let (_root, cache) = dir();
        for (set, want) in [
            (tokens("a.b.c", "r"), r#"{"id_token":"a.b.c","refresh_token":"r"}"#),
            (tokens("a.b.c", ""), r#"{"id_token":"a.b.c"}"#),
            (tokens("", ""), "{}"),
            (tokens("a", "x<y>&z"), r#"{"id_token":"a","refresh_token":"x\u003cy\u003e\u0026z"}"#),
        ] {
            cache.write(NAME, &set).expect("writes");
            assert_eq!(fs::read_to_string(cache.file(NAME)).expect("reads"), want);
            assert_eq!(cache.read(NAME).expect("reads"), set);
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_are_private_and_no_temporary_file_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_root, cache) = dir();
        cache.write(NAME, &tokens("a", "b")).expect("writes");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&cache.file(NAME)), 0o600);
        assert_eq!(mode(&cache.path), 0o700);
        assert_eq!(mode(cache.path.parent().expect("parent")), 0o700);
        assert_eq!(fs::read_dir(&cache.path).expect("lists").count(), 1);
    }

    #[test]
    fn a_left_over_temporary_file_is_in_nobodys_way() {
        let (_root, cache) = dir();
        cache.create().expect("creates");
        fs::write(cache.file(&format!("{NAME}.tmp")), "half a fil").expect("writes");
        cache.write(NAME, &tokens("a", "b")).expect("writes");
        assert_eq!(cache.read(NAME).expect("reads"), tokens("a", "b"));
    }

    #[test]
    fn damaged_files_are_told_from_missing_ones() {
        let (_root, cache) = dir();
        assert!(matches!(cache.read(NAME), Err(CacheReadError::Missing)));
        cache.create().expect("creates");
        for content in ["", "{", "[]", "{\"id_token\":1}", "\u{0}\u{0}"] {
            fs::write(cache.file(NAME), content).expect("writes");
            assert!(matches!(cache.read(NAME), Err(CacheReadError::Damaged(_))), "{content:?}");
        }
        for (content, want) in [
            ("null", tokens("", "")),
            ("{}", tokens("", "")),
            (r#"{"id_token":null,"refresh_token":"r","more":1}"#, tokens("", "r")),
            (" {\"id_token\" : \"a\"}\n", tokens("a", "")),
        ] {
            fs::write(cache.file(NAME), content).expect("writes");
            assert_eq!(cache.read(NAME).expect(content), want);
        }
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let (_root, cache) = dir();
        cache.create().expect("creates");
        let frame = "{\"id_token\":\"\"}".len();
        let limit = usize::try_from(MAX_CACHE_FILE).expect("fits");
        fs::write(cache.file(NAME), format!("{{\"id_token\":\"{}\"}}", "a".repeat(limit - frame))).expect("writes");
        assert!(cache.read(NAME).is_ok());
        fs::write(cache.file(NAME), format!("{{\"id_token\":\"{}\"}}", "a".repeat(limit - frame + 1))).expect("writes");
        assert!(matches!(cache.read(NAME), Err(CacheReadError::Damaged(_))));
    }

    #[test]
    fn clean_removes_our_files_and_nothing_else() {
        let (_root, cache) = dir();
        cache.write(NAME, &tokens("a", "b")).expect("writes");
        cache.write_file(&format!("{NAME}.backoff"), b"{}").expect("writes");
        drop(cache.try_lock(NAME).expect("locks"));
        fs::write(cache.file("notes.txt"), "mine").expect("writes");
        assert_eq!(cache.remove_all().expect("removes"), Removed { foreign: 1, busy: 0 });
        assert_eq!(fs::read_dir(&cache.path).expect("lists").count(), 1);
        fs::remove_file(cache.file("notes.txt")).expect("removes");
        assert_eq!(cache.remove_all().expect("removes"), Removed::default());
        assert!(!cache.path.exists());
        assert_eq!(cache.remove_all().expect("nothing to do"), Removed::default());
    }

    #[test]
    fn clean_leaves_the_lock_of_a_login_under_way() {
        let (_root, cache) = dir();
        let Ok(LockAttempt::Held(_guard)) = cache.try_lock(NAME) else { panic!("the lock is free") };
        cache.write(NAME, &tokens("a", "b")).expect("writes");
        assert_eq!(cache.remove_all().expect("removes"), Removed { foreign: 0, busy: 1 });
        assert!(matches!(cache.read(NAME), Err(CacheReadError::Missing)));
        assert!(matches!(cache.try_lock(NAME), Ok(LockAttempt::Busy)));
    }

    #[test]
    fn tokens_are_not_in_the_debug_output() {
        let text = format!("{:?}", tokens("secret-id", "secret-refresh"));
        assert!(!text.contains("secret"), "{text}");
    }
}
