//! `cargo xtask gen`: data in the tree that is made from the pinned Go modules. It needs Go.
//!
//! So far that is the RBAC bootstrap policy (`crates/portcullis-rbac/data/bootstrap.json`), as the functions say that
//! kube-apiserver itself calls at its start.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value};

use crate::{peers, stage};

#[derive(Args)]
pub(crate) struct Options {
    /// Write nothing; fail when something would change.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let path = stage::root().join("crates/portcullis-rbac/data/bootstrap.json");
    let made = rbac_policy()?;
    let there = fs::read_to_string(&path).unwrap_or_default();
    match (there == made, options.check) {
        (true, _) => println!("{} is up to date", path.display()),
        (false, true) => bail!("{} is out of date; hint: run `cargo xtask gen`", path.display()),
        (false, false) => {
            fs::write(&path, made).with_context(|| format!("cannot write {}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}

/// The policy of upstream's own functions.
fn rbac_policy() -> Result<String> {
    let mut go = Command::new("go");
    go.args(["run", "./rbac", "policy"]).current_dir(stage::root().join("peers"));
    let output = go.output().context("cannot start go: install Go 1.26 or newer")?;
    if !output.status.success() {
        bail!("go run ./rbac policy failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let policy = serde_json::from_slice(&output.stdout).context("upstream's policy is not JSON")?;
    Ok(render(policy))
}

/// One object a line, so that a change of version shows what changed.
fn render(mut policy: Map<String, Value>) -> String {
    let source = format!(
        "k8s.io/kubernetes {}, plugin/pkg/auth/authorizer/rbac/bootstrappolicy (Apache-2.0); see README.md",
        peers::KUBERNETES
    );
    let mut text = format!("{{\"source\":{}", Value::from(source));
    for (member, name) in [
        ("ClusterRoles", "clusterRoles"),
        ("ClusterRoleBindings", "clusterRoleBindings"),
        ("Roles", "roles"),
        ("RoleBindings", "roleBindings"),
    ] {
        let lines: Vec<String> = objects(policy.remove(member)).into_iter().map(|object| object.to_string()).collect();
        text.push_str(&format!("\n,\"{name}\":[\n{}\n]", lines.join(",\n")));
    }
    text.push_str("}\n");
    text
}

/// A list, or lists by namespace. Empty members mean nothing and are left out.
fn objects(value: Option<Value>) -> Vec<Value> {
    let mut list = match value {
        Some(Value::Array(list)) => list,
        Some(Value::Object(spaces)) => spaces.into_iter().flat_map(|(_, list)| objects(Some(list))).collect(),
        _ => Vec::new(),
    };
    for object in &mut list {
        if let Value::Object(members) = object {
            members.retain(|_, value| !value.is_null());
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_stand_one_a_line_without_their_empty_members() {
        let policy = json!({
            "ClusterRoles": [{"metadata": {"name": "a"}, "rules": null}, {"metadata": {"name": "b"}}],
            "ClusterRoleBindings": null,
            "Roles": {"kube-public": [{"metadata": {"name": "c"}}], "kube-system": [{"metadata": {"name": "d"}}]},
        });
        let Value::Object(policy) = policy else { unreachable!() };
        let text = render(policy);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                r#","clusterRoles":["#,
                r#"{"metadata":{"name":"a"}},"#,
                r#"{"metadata":{"name":"b"}}"#,
                "]",
                r#","clusterRoleBindings":["#,
                "",
                "]",
                r#","roles":["#,
                r#"{"metadata":{"name":"c"}},"#,
                r#"{"metadata":{"name":"d"}}"#,
                "]",
                r#","roleBindings":["#,
                "",
                "]}",
            ]
        );
        serde_json::from_str::<Value>(&text).unwrap();
    }
}
