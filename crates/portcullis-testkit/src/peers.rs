//! Where the real programs are that tests run against. `cargo xtask test` builds them from the Go modules in `peers/`.

use std::path::{Path, PathBuf};

/// A real program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// kube-apiserver.
    KubeApiserver,
    /// etcd.
    Etcd,
    /// kubectl.
    Kubectl,
    /// The oracle: Kubernetes' own OIDC package behind JSON lines.
    Oracle,
    /// Kubernetes' own bootstrap policy and aggregation controller.
    UpstreamRbac,
    /// Kubernetes' own garbage collector and namespace controller.
    UpstreamControllers,
    /// The patch oracle: Kubernetes' own patch packages behind JSON lines.
    PatchOracle,
    /// The CEL oracle: Kubernetes' own environment for claims and users behind JSON lines.
    CelOracle,
}

impl Peer {
    /// The program's file name.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::Etcd => "etcd",
            Self::Kubectl => "kubectl",
            Self::Oracle => "oracle",
            Self::UpstreamRbac => "upstream-rbac",
            Self::UpstreamControllers => "upstream-controllers",
            Self::PatchOracle => "patch-oracle",
            Self::CelOracle => "cel-oracle",
        }
    }
}

/// The folder of the real programs: `PORTCULLIS_PEERS`, else `portcullis/peers` under `XDG_CACHE_HOME`, else under
/// `~/.cache`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the programs are")]
pub fn peers_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder(variable("PORTCULLIS_PEERS"), variable("XDG_CACHE_HOME"), variable("HOME"))
}

fn folder(peers: Option<PathBuf>, cache: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    peers.unwrap_or_else(|| {
        let cache = cache.filter(|cache| cache.is_absolute());
        cache.unwrap_or_else(|| home.unwrap_or_default().join(".cache")).join("portcullis").join("peers")
    })
}

/// The path of a real program. A test that needs one fails without it: a check that did not run must not look passed.
#[must_use]
pub fn peer(peer: Peer) -> PathBuf {
    found(&peers_folder(), peer).unwrap_or_else(|missing| panic!("{missing}"))
}

fn found(folder: &Path, peer: Peer) -> Result<PathBuf, String> {
    let path = folder.join(peer.file_name());
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("{} is not there; `cargo xtask test` builds it, or set PORTCULLIS_PEERS", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_follows_the_environment() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(folder(path("/p"), path("/c"), path("/h")), PathBuf::from("/p"));
        assert_eq!(folder(None, path("/c"), path("/h")), PathBuf::from("/c/portcullis/peers"));
        assert_eq!(folder(None, path("relative"), path("/h")), PathBuf::from("/h/.cache/portcullis/peers"));
        assert_eq!(folder(None, None, path("/h")), PathBuf::from("/h/.cache/portcullis/peers"));
    }

    #[test]
    fn a_missing_program_says_what_builds_it() {
        let missing = found(Path::new("/nowhere"), Peer::Etcd).unwrap_err();
        assert!(missing.contains("/nowhere/etcd") && missing.contains("xtask"), "{missing}");
    }
}
