//! The token cache on disk, shared with kubelogin: same file names, same content, same lock files.
//!
//! One login is `DIR/<64 hex digits>`, mode 0600, `{"id_token":"…","refresh_token":"…"}`; its lock is the same name with
//! `.lock`, taken with flock while a login is looked up or made; `.backoff` remembers sign-ins that nobody finished.
//!
//! Never writes in place (a crash leaves the old file or the new one), never follows what is not a regular small file,
//! never shows a token.

mod backoff;
mod file;
mod gob;
mod key;
mod lock;

pub(crate) use backoff::Backoff;
pub(crate) use file::{CacheDir, CacheReadError, TokenSet};
pub(crate) use key::{CacheKey, PkceOption, Renegotiation};
pub(crate) use lock::{CacheLock, LockAttempt};
