//! The trust folder: authorities by issuer, where the sign-in plugin finds them without a flag.
//!
//! The layout belongs to `portcullis-login`, which reads it.

use std::fs;
use std::io;
use std::path::PathBuf;

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

/// Takes out every file that holds this name's authority, whatever issuer it was for.
///
/// # Errors
/// The file that could not be removed, and why.
pub(crate) fn remove(state: &StateDir) -> Result<(), (PathBuf, io::Error)> {
    let Ok(ours) = fs::read(state.path("ca/ca.pem")) else { return Ok(()) };
    let Ok(entries) = fs::read_dir(state.trust_dir()) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if fs::read(&path).is_ok_and(|content| content == ours) {
            fs::remove_file(&path).map_err(|source| (path, source))?;
        }
    }
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
}
