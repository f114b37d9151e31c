//! `cargo xtask layers`: which crate may use which (design section 2), checked against cargo's own metadata.
//!
//! A crate depends only on lower levels and only on the crates in its row. Development dependencies may also name the
//! test kit, which itself stays on levels 0 to 2 so that it can never hide a wrong arrow.

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::stage;

/// A crate, its level, and the crates of ours that it may use.
const ROWS: &[(&str, u8, &[&str])] = &[
    ("portcullis-jose", 0, &[]),
    ("portcullis-cel", 0, &[]),
    ("portcullis-patch", 0, &[]),
    ("portcullis-spdy", 0, &[]),
    ("portcullis-kube", 0, &[]),
    ("portcullis-runtime", 1, &[]),
    ("portcullis-rbac", 1, &["portcullis-kube"]),
    ("portcullis-platform", 1, &["portcullis-kube"]),
    ("portcullis-kubeclient", 2, &["portcullis-kube", "portcullis-runtime"]),
    ("portcullis-oidc", 2, &["portcullis-jose", "portcullis-runtime"]),
    ("portcullis-storage", 3, &["portcullis-jose", "portcullis-runtime", "portcullis-kubeclient"]),
    ("portcullis-connectors", 3, &["portcullis-oidc", "portcullis-runtime"]),
    (
        "portcullis-authn",
        3,
        &["portcullis-jose", "portcullis-cel", "portcullis-oidc", "portcullis-kube", "portcullis-runtime"],
    ),
    (
        "portcullis-provider",
        4,
        &[
            "portcullis-jose",
            "portcullis-cel",
            "portcullis-oidc",
            "portcullis-storage",
            "portcullis-connectors",
            "portcullis-runtime",
        ],
    ),
    ("portcullis-login", 4, &["portcullis-oidc", "portcullis-kube", "portcullis-runtime", "portcullis-authn"]),
    (
        "portcullis-gateway",
        4,
        &["portcullis-authn", "portcullis-kube", "portcullis-kubeclient", "portcullis-spdy", "portcullis-runtime"],
    ),
    (
        "portcullis-apiserver",
        4,
        &[
            "portcullis-jose",
            "portcullis-authn",
            "portcullis-rbac",
            "portcullis-patch",
            "portcullis-spdy",
            "portcullis-kube",
            "portcullis-runtime",
        ],
    ),
    ("portcullis-tunnel", 4, &["portcullis-runtime"]),
    (
        "portcullis-local",
        5,
        &[
            "portcullis-jose",
            "portcullis-kube",
            "portcullis-runtime",
            "portcullis-rbac",
            "portcullis-platform",
            "portcullis-oidc",
            "portcullis-storage",
            "portcullis-authn",
            "portcullis-provider",
            "portcullis-login",
            "portcullis-gateway",
            "portcullis-apiserver",
            "portcullis-tunnel",
        ],
    ),
    (
        "portcullis",
        6,
        &[
            "portcullis-runtime",
            "portcullis-storage",
            "portcullis-provider",
            "portcullis-login",
            "portcullis-gateway",
            "portcullis-apiserver",
            "portcullis-tunnel",
            "portcullis-local",
        ],
    ),
    ("kubectl-oidc_login", 6, &["portcullis-login", "portcullis-runtime"]),
    (
        "portcullis-testkit",
        3,
        &[
            "portcullis-jose",
            "portcullis-kube",
            "portcullis-runtime",
            "portcullis-rbac",
            "portcullis-platform",
            "portcullis-oidc",
        ],
    ),
];

/// Packages beside `crates/` that may use everything: they are never shipped.
const UNCHECKED: &[&str] = &["portcullis-tests", "portcullis-benches", "xtask"];

pub(crate) fn run() -> Result<()> {
    let metadata = MetadataCommand::new().current_dir(stage::root()).no_deps().exec().context("cargo metadata")?;
    let mut wrong = Vec::new();
    let mut checked = 0;
    for package in metadata.workspace_packages() {
        if UNCHECKED.contains(&package.name.as_str()) {
            continue;
        }
        checked += 1;
        wrong.extend(violations(package));
    }
    if wrong.is_empty() {
        println!("layers: {checked} crates, every arrow is in the design");
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

fn violations(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, level, allowed)) = ROWS.iter().find(|(row, ..)| *row == name) else {
        return vec![format!("{name}: no row in the design for this crate")];
    };
    let mut wrong = Vec::new();
    for dependency in &package.dependencies {
        let used = dependency.name.as_str();
        let Some((_, used_level, _)) = ROWS.iter().find(|(row, ..)| *row == used) else { continue };
        let development = dependency.kind == DependencyKind::Development;
        if development
            && (used == "portcullis-testkit" || used == name || used_level < level || allowed.contains(&used))
        {
            continue;
        }
        if !allowed.contains(&used) {
            wrong.push(format!("{name} must not use {used}: it is not in its row"));
        } else if used_level >= level {
            wrong.push(format!("{name} (level {level}) must not use {used} (level {used_level})"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_arrow_points_down() {
        for (name, level, allowed) in ROWS {
            for used in *allowed {
                let (_, used_level, _) = ROWS.iter().find(|(row, ..)| row == used).expect("a row for every name");
                assert!(used_level < level, "{name} -> {used}");
            }
        }
    }

    #[test]
    fn the_gateway_cannot_reach_signing_or_storage() {
        let (.., allowed) = ROWS.iter().find(|(row, ..)| *row == "portcullis-gateway").expect("a row");
        for forbidden in ["portcullis-provider", "portcullis-storage", "portcullis-jose"] {
            assert!(!allowed.contains(&forbidden));
        }
    }
}
