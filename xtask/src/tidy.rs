//! `cargo xtask tidy`: rules that no compiler checks.
//!
//! No production file over 1,000 lines; every crate inherits the workspace's lints; every module says what it serves; no
//! tests that never run; no unfinished code; nothing that only makes sense on the machine where it was written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::stage;

/// Lines of production code (up to the trailing test module) that a file may have.
const MAX_LINES: usize = 1_000;

pub(crate) fn run() -> Result<()> {
    let mut wrong = Vec::new();
    let files = tracked_files()?;
    for file in &files {
        let path = stage::root().join(file);
        if file.ends_with(".rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
            wrong.extend(check_source(file, &text));
        } else if file.ends_with("Cargo.toml") && file != "Cargo.toml" && !file.starts_with("fuzz/") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
            wrong.extend(check_manifest(file, &text));
        }
    }
    wrong.extend(check_crates(&built_crates()?));
    for needed in
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "docs/STATUS.md", ".ci/run"]
    {
        if !stage::root().join(needed).is_file() {
            wrong.push(format!("{needed}: missing"));
        }
    }
    if wrong.is_empty() {
        println!("tidy: {} files, nothing to mend", files.len());
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// Files that git tracks, or would.
fn tracked_files() -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(stage::root())
        .output()
        .context("cannot start git")?;
    let text = String::from_utf8(output.stdout).context("git ls-files: not UTF-8")?;
    Ok(text.lines().filter(|f| stage::root().join(f).is_file()).map(str::to_owned).collect())
}

fn check_source(file: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let production = text.lines().position(|line| line == "#[cfg(test)]").unwrap_or_else(|| text.lines().count());
    if production > MAX_LINES {
        wrong.push(format!("{file}: {production} production lines, over {MAX_LINES}: split it by concept"));
    }
    if !text.starts_with("//!") && !text.starts_with("#!") {
        wrong.push(format!("{file}: no `//!` header: say what this serves and what it must never do"));
    }
    let forbidden = [
        (concat!("#[ign", "ore"), "a test that never runs shows nothing"),
        (concat!("TO", "DO"), "finish it, or open an issue"),
        (concat!("FIX", "ME"), "finish it, or open an issue"),
        (concat!("todo", "!("), "finish it"),
        (concat!("unimpl", "emented!("), "finish it"),
    ];
    for (number, line) in text.lines().enumerate() {
        for (word, why) in forbidden {
            if line.contains(word) {
                wrong.push(format!("{file}:{}: `{word}`: {why}", number + 1));
            }
        }
    }
    wrong
}

fn check_manifest(file: &str, text: &str) -> Vec<String> {
    // What stands in for somebody else's crate is in no workspace.
    if file.starts_with("overrides/") {
        return Vec::new();
    }
    let inherits = text.split("[lints]").nth(1).is_some_and(|rest| rest.trim_start().starts_with("workspace = true"));
    let mut wrong = Vec::new();
    if !inherits {
        wrong.push(format!("{file}: does not inherit the workspace's lints: add `[lints]` `workspace = true`"));
    }
    if let (Some(folder), Some(name)) = (Path::new(file).parent().and_then(Path::file_name), package_name(text))
        && file.starts_with("crates/")
        && folder != name
    {
        wrong.push(format!("{file}: the package is named {name}, its folder is not"));
    }
    wrong
}

/// Crates that must not come in, not even through others, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "TLS is rustls"),
    ("native-tls", "TLS is rustls"),
    ("ring", "cryptography is aws-lc-rs"),
    ("rsa", "its timing leaks keys (RUSTSEC-2023-0071)"),
    ("serde_yaml", "unmaintained; YAML is serde-saphyr"),
    ("serde_yml", "unsound (RUSTSEC-2025-0068)"),
    ("rustls-pemfile", "unmaintained (RUSTSEC-2025-0134)"),
    ("bincode", "unmaintained"),
    ("async-std", "discontinued (RUSTSEC-2025-0052)"),
    ("backoff", "unmaintained"),
];

/// Every crate that is built for this machine; the lock file also names those that no feature asks for.
fn built_crates() -> Result<String> {
    let arguments =
        ["tree", "--workspace", "--locked", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"];
    let output = stage::cargo().args(arguments).output().context("cannot start cargo tree")?;
    anyhow::ensure!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("cargo tree: not UTF-8")
}

fn check_crates(tree: &str) -> Vec<String> {
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let banned = BANNED.iter().filter(|(name, _)| names.contains(name));
    banned.map(|(name, why)| format!("{name} is banned: {why}; `cargo tree -i {name}` shows who brings it")).collect()
}

fn package_name(manifest: &str) -> Option<&str> {
    manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_a_long_test_module_is_not() {
        let long = format!("//! x\n{}", "fn a() {}\n".repeat(MAX_LINES));
        assert_eq!(check_source("a.rs", &long).len(), 1);
        let tests = format!("//! x\n#[cfg(test)]\n{}", "fn a() {}\n".repeat(MAX_LINES));
        assert!(check_source("a.rs", &tests).is_empty());
    }

    #[test]
    fn a_file_without_a_header_and_a_test_that_never_runs_are_found() {
        assert_eq!(check_source("a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(check_source("a.rs", concat!("//! x\n#[ign", "ore]\n")).len(), 1);
    }

    #[test]
    fn a_banned_crate_is_found() {
        assert_eq!(check_crates("a v1.0.0\nring v0.17.14\n").len(), 1);
        assert!(check_crates("rings v0.17.14\n").is_empty());
    }

    #[test]
    fn a_manifest_without_lints_or_with_another_name_is_found() {
        assert_eq!(check_manifest("crates/b/Cargo.toml", "name = \"a\"\n[lints]\nworkspace = true\n").len(), 1);
        assert_eq!(check_manifest("crates/a/Cargo.toml", "name = \"a\"\n").len(), 1);
        assert!(check_manifest("crates/a/Cargo.toml", "name = \"a\"\n[lints]\nworkspace = true\n").is_empty());
        assert!(check_manifest("overrides/b/Cargo.toml", "name = \"a\"\n").is_empty());
    }
}
