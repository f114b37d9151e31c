//! Memory of sign-ins that nobody finished, so that a client that retries forever (an IDE, k9s, kubectl's own five
//! tries) does not open a browser tab each time (kubelogin issues #904, #1330, #354).
//!
//! Only a sign-in that ran into its timeout counts; Ctrl-C and errors do not. After the first, starts within
//! [`FIRST_SECONDS`] fail at once; each further one doubles that up to [`LONGEST_SECONDS`]; a success forgets all.

use serde::{Deserialize, Serialize};

use super::file::CacheDir;

/// Pause after the first unfinished sign-in.
pub(crate) const FIRST_SECONDS: i64 = 30;

/// Longest pause.
pub(crate) const LONGEST_SECONDS: i64 = 900;

/// What is remembered for one login.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backoff {
    failures: u32,
    until: i64,
}

impl Backoff {
    /// Reads what is remembered for the login `name`; nothing when there is nothing readable.
    pub(crate) fn read(dir: &CacheDir, name: &str) -> Self {
        dir.read_file(&file_name(name)).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Seconds for which no browser is to be opened, at `now` (Unix seconds). A clock that went back never makes it
    /// longer than the longest pause.
    pub(crate) fn wait_seconds(self, now: i64) -> Option<i64> {
        let left = self.until.saturating_sub(now);
        (left > 0 && left <= LONGEST_SECONDS).then_some(left)
    }

    /// Adds an unfinished sign-in at `now` (Unix seconds) and writes it; a failing write is no reason to fail.
    pub(crate) fn record(self, dir: &CacheDir, name: &str, now: i64) -> Self {
        let doublings = self.failures.min(10);
        let pause = (FIRST_SECONDS << doublings).min(LONGEST_SECONDS);
        let next = Self { failures: self.failures.saturating_add(1), until: now.saturating_add(pause) };
        if let Ok(bytes) = serde_json::to_vec(&next) {
            let _ = dir.write_file(&file_name(name), &bytes);
        }
        next
    }

    /// Forgets.
    pub(crate) fn clear(dir: &CacheDir, name: &str) {
        let _ = dir.remove_file(&file_name(name));
    }
}

/// The file that remembers the login `name`.
pub(crate) fn file_name(name: &str) -> String {
    format!("{name}.backoff")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_a_success_forgets_it() {
        let root = tempfile::tempdir().expect("temporary folder");
        let dir = CacheDir::new(root.path());
        let mut now = 1_000;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let wait = Backoff::read(&dir, "k").record(&dir, "k", now).wait_seconds(now).expect("a pause");
            pauses.push(wait);
            now += wait;
            assert_eq!(Backoff::read(&dir, "k").wait_seconds(now), None, "the pause is over");
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 900, 900, 900]);
        Backoff::clear(&dir, "k");
        assert_eq!(Backoff::read(&dir, "k"), Backoff::default());
    }

    #[test]
    fn a_clock_that_went_back_or_a_damaged_file_never_locks_anyone_out() {
        let root = tempfile::tempdir().expect("temporary folder");
        let dir = CacheDir::new(root.path());
        Backoff::default().record(&dir, "k", 1_000_000);
        assert_eq!(Backoff::read(&dir, "k").wait_seconds(0), None);
        std::fs::write(root.path().join("k.backoff"), "junk").expect("writes");
        assert_eq!(Backoff::read(&dir, "k").wait_seconds(1_000_000), None);
    }
}
