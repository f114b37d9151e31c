//! Builds the real programs that tests run against, from the Go modules pinned in `peers/`.
//!
//! They land in the cache folder under a name that carries the modules' sums, so that a change of version builds anew and
//! an unchanged one costs nothing. `PORTCULLIS_PEERS` names a folder that holds them already.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::stage;

/// Kubernetes' version, as `peers/go.mod` pins it; it is also linked into the programs, which report it.
pub(crate) const KUBERNETES: &str = "v1.37.2";

/// Builds what is missing and returns the folder that holds the programs.
pub(crate) fn build_all() -> Result<PathBuf> {
    if let Some(given) = stage::env("PORTCULLIS_PEERS") {
        return Ok(PathBuf::from(given));
    }
    let folder = stage::cache_dir()?.join("peers");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let stamp = folder.join("stamp");
    let wanted = sums()?;
    let current = fs::read_to_string(&stamp).unwrap_or_default();
    let peers = stage::root().join("peers");
    let version = version_flags();
    let programs: [(&str, PathBuf, &str, &str); 10] = [
        ("kubectl", peers.clone(), "k8s.io/kubernetes/cmd/kubectl", &version),
        ("etcd", peers.clone(), "go.etcd.io/etcd/server/v3", ""),
        ("kube-apiserver", peers.clone(), "k8s.io/kubernetes/cmd/kube-apiserver", &version),
        ("upstream-rbac", peers.clone(), "./rbac", ""),
        ("upstream-controllers", peers.clone(), "./controllers", ""),
        ("oracle", peers.join("oracle"), ".", ""),
        ("patch-oracle", peers.join("patch-oracle"), ".", ""),
        ("cel-oracle", peers.join("cel-oracle"), ".", ""),
        ("stream-peer", peers.join("stream-peer"), ".", ""),
        ("client-go-peer", peers.join("client-go-peer"), ".", ""),
    ];
    for (name, dir, package, flags) in programs {
        let out = folder.join(name);
        if current == wanted && out.is_file() {
            continue;
        }
        go_build(name, &dir, package, flags, &out)?;
    }
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(folder)
}

fn go_build(name: &str, dir: &Path, package: &str, flags: &str, out: &Path) -> Result<()> {
    println!("building {name} (some minutes the first time, then cached by Go)");
    let status = Command::new("go")
        .args(["build", "-trimpath", "-ldflags", &format!("-s -w {flags}"), "-o"])
        .arg(out)
        .arg(package)
        .current_dir(dir)
        .status()
        .context("cannot start go: install Go 1.26 or newer")?;
    if !status.success() {
        bail!("go build {package} failed");
    }
    Ok(())
}

fn version_flags() -> String {
    ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]
        .map(|package| format!("-X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor=37 -X {package}.gitTreeState=clean"))
        .join(" ")
}

/// Everything that the programs are made of: a change of any of it builds them anew.
fn sums() -> Result<String> {
    let mut all = version_flags();
    for path in sources(&stage::root().join("peers"))? {
        all.push_str(&fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(all)
}

/// The Go files and module files below a folder, in the order of their names.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|ending| ["go", "mod", "sum"].iter().any(|known| ending == *known)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
