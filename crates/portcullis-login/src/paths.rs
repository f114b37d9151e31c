//! Paths: tilde, the default cache folder, the state folder.

use std::path::{Component, Path, PathBuf};

use crate::world::Env;

/// Expands a leading `~` to the home folder, as kubelogin does for `get-token` and `clean`: whatever follows the tilde
/// is joined to the home folder and the path is cleaned. Compat: without a home folder the tilde just goes, so that
/// `~/.kube` is `/.kube` (containers), and never a folder named `~`.
pub(crate) fn expand_tilde(path: &str, home: Option<&Path>) -> String {
    let Some(rest) = path.strip_prefix('~') else { return path.to_owned() };
    let joined = match home {
        Some(home) => home.join(rest.trim_start_matches('/')),
        None => PathBuf::from(rest),
    };
    clean(&joined).to_string_lossy().into_owned()
}

/// Where tokens are cached when no flag says so.
pub(crate) fn default_cache_dir(env: &Env) -> String {
    match env.var("KUBECACHEDIR") {
        Some("") => "oidc-login".to_owned(),
        Some(parent) => clean(&Path::new(parent).join("oidc-login")).to_string_lossy().into_owned(),
        None => "~/.kube/cache/oidc-login".to_owned(),
    }
}

/// The root of Portcullis' state: `PORTCULLIS_STATE`, else `$XDG_STATE_HOME/portcullis`, else
/// `~/.local/state/portcullis`.
pub(crate) fn state_root(env: &Env) -> Option<PathBuf> {
    let given = |name: &str| env.var(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    given("PORTCULLIS_STATE")
        .or_else(|| given("XDG_STATE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("portcullis")))
        .or_else(|| env.home().map(|home| home.join(".local/state/portcullis")))
}

/// Removes `.` and resolves `..` by text alone, like Go's `filepath.Clean`.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match out.components().next_back() {
                Some(Component::Normal(_)) => {
                    out.pop();
                }
                Some(Component::RootDir) => {}
                _ => out.push(".."),
            },
            other => out.push(other),
        }
    }
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_becomes_the_home_folder() {
        let home = Some(Path::new("/home/u"));
        for (path, want) in [
            ("~/ca.pem", "/home/u/ca.pem"),
            ("~", "/home/u"),
            ("~/a/../b/./c//d", "/home/u/b/c/d"),
            ("~x", "/home/u/x"),
            ("/etc/~", "/etc/~"),
            ("a/../b", "a/../b"),
            ("", ""),
        ] {
            assert_eq!(expand_tilde(path, home), want, "{path}");
        }
        assert_eq!(expand_tilde("~/ca.pem", None), "/ca.pem");
    }
}
