//! The link `bin/kubectl-oidc_login` in the state folder: this program under the plugin's name, so that `kubectl
//! oidc-login` works with the printed PATH.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::state::{StateDir, StateError};

/// The name by which kubectl finds the plugin (`-` in a plugin's name becomes `_`).
const NAME: &str = "kubectl-oidc_login";

/// Where the link is.
pub(crate) fn path(state: &StateDir) -> PathBuf {
    state.path("bin").join(NAME)
}

/// Makes or renews the link, and returns it.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn make(state: &StateDir, program: &Path) -> Result<PathBuf, StateError> {
    let link = path(state);
    let io_error = |source| StateError::Io { action: "link", path: link.clone(), source };
    // A new link under another name, renamed over the old one: the name is never without a program.
    let fresh = state.path("bin").join(format!(".{NAME}.new"));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
        _ => {}
    }
    symlink(program, &fresh).map_err(io_error)?;
    fs::rename(&fresh, &link).map_err(|source| StateError::Io { action: "link", path: link.clone(), source })?;
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_follows_a_program_that_moved() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::new(temp.path(), "dev").unwrap();
        drop(state.open().unwrap());
        for program in ["/bin/one", "/bin/two"] {
            let link = make(&state, Path::new(program)).unwrap();
            assert_eq!(fs::read_link(link).unwrap(), Path::new(program));
        }
    }
}
