//! The trust folder: authorities by issuer, where the sign-in plugin finds them without a flag.
//!
//! The layout belongs to `portcullis-login`, which reads it.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::ca;
use crate::state::{self, StateDir, StateError};

/// Lets the plugin trust `ca_pem` for `issuer`.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn add(state: &StateDir, issuer: &str, ca_pem: &str) -> Result<PathBuf, StateError> {
    let path = portcullis_login::trust_file(state.root(), issuer);
    state::write_public(&path, ca_pem.as_bytes())?;
    Ok(path)
}

/// Takes out every file that holds this name's authority, whatever issuer it was for, and those that it had before it was
/// renewed.
///
/// # Errors
/// The file that could not be removed, and why.
pub(crate) fn remove(state: &StateDir) -> Result<(), (PathBuf, io::Error)> {
    let ours = ca::stored(state);
    let Ok(entries) = fs::read_dir(state.trust_dir()) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = |content: &[u8]| {
            ours.as_ref().is_some_and(|ours| ours.as_bytes() == content) || ca::is_authority_of(content, state.name())
        };
        if fs::read(&path).is_ok_and(|content| is_ours(&content)) {
            fs::remove_file(&path).map_err(|source| (path, source))?;
        }
    }
    // One that still holds another name's authority stays.
    let _not_empty = fs::remove_dir(state.trust_dir());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_names_authority_is_taken_out() {
        let temp = tempfile::tempdir().unwrap();
        let one = StateDir::new(temp.path(), "one").unwrap();
        let two = StateDir::new(temp.path(), "two").unwrap();
        for (state, pem) in [(&one, "ONE"), (&two, "TWO")] {
            drop(state.open().unwrap());
            state::write_public(&state.path("ca/ca.pem"), pem.as_bytes()).unwrap();
        }
        let first = add(&one, "https://localhost:5554", "ONE").unwrap();
        let second = add(&two, "https://localhost:5555", "TWO").unwrap();
        remove(&one).unwrap();
        assert!(!first.exists() && second.exists());
    }

    #[test]
    fn an_authority_that_was_renewed_since_goes_too() {
        let temp = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| StateDir::new(temp.path(), name).unwrap());
        let now = time::macros::datetime!(2026-11-23 12:00 UTC);
        let make = |state: &StateDir, now| {
            ca::Authority::load_or_make(state, ca::Purpose::Servers, now).unwrap().0.cert_pem().to_owned()
        };
        let mut files = Vec::new();
        for (state, port) in [(&one, 1), (&two, 2)] {
            drop(state.open().unwrap());
            files.push(add(state, &format!("https://localhost:{port}"), &make(state, now)).unwrap());
        }
        let renewed = make(&one, now + time::Duration::days(720));
        files.push(add(&one, "https://localhost:3", &renewed).unwrap());
        remove(&one).unwrap();
        assert_eq!(files.iter().map(|file| file.exists()).collect::<Vec<_>>(), [false, true, false]);
    }
}
