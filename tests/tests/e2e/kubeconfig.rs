//! `--kubeconfig`, `--use` and `down`: somebody else's files keep what is theirs.

use std::fs;
use std::path::Path;

use crate::world::{Finished, World, finish};

const OTHER: &str = "apiVersion: v1\nkind: Config\ncurrent-context: prod\nx-mine: kept\nclusters:\n- name: prod\n  cluster: {server: 'https://prod', x-extra: 1}\nusers:\n- name: oidc\n  user: {token: secret}\ncontexts:\n- name: prod\n  context: {cluster: prod, user: oidc}\n";

/// A file that cannot be used, and the two lines that say so; `{}` is the file.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "{",
        "error: {}:1:1: ",
        "hint: a kubeconfig is YAML or JSON; `kubectl config view --kubeconfig FILE` shows whether kubectl can read it; the file is left as it is",
    ),
    (
        "users: 7\n",
        "error: {}: users: expected a list, found a number",
        "hint: correct users in that file; the file is left as it is",
    ),
    (
        "kind: Pod\n",
        "error: {}: kind: expected \"Config\", found \"Pod\"",
        "hint: this is not a kubeconfig that kubectl would read; the file is left as it is",
    ),
    (
        "users: [{name: a}, {name: a}]\n",
        "error: {}: users[1]: another entry is named \"a\" too",
        "hint: rename or remove one of them; the file is left as it is",
    ),
    (
        "clusters: [{name: kind-dev, cluster: {server: 'https://kind'}}]\n",
        "error: {} already has \"kind-dev\", which `up` did not make",
        "hint: choose another --name, or another --kubeconfig",
    ),
    (
        "users: [{name: kind-dev-oidc, user: {token: t}}]\n",
        "error: {} already has \"kind-dev-oidc\", which `up` did not make",
        "hint: choose another --name, or another --kubeconfig",
    ),
];

fn lines(finished: &Finished) -> Vec<String> {
    finished.stderr.lines().map(str::to_owned).collect()
}

#[test]
fn a_file_that_cannot_be_used_is_found_before_anything_is_started_and_left_as_it_is() {
    let world = World::new();
    for (content, error, hint) in REFUSED {
        let path = world.write("config", content);
        let refused = world.up(&["--kubeconfig", path.to_str().unwrap()]).fails(1);
        let said = lines(&refused);
        assert_eq!(said.len(), 2, "{content}:\n{}", refused.stderr);
        let error = error.replace("{}", path.to_str().unwrap());
        assert!(said[0].starts_with(&error), "{content}:\n{}", refused.stderr);
        assert_eq!(said[1], *hint, "{content}");
        assert_eq!(fs::read_to_string(&path).unwrap(), *content);
        assert!(!world.dev("ca/ca.pem").exists(), "nothing was made");
    }
    let missing = world.home().join("no/config");
    let refused = world.up(&["--kubeconfig", missing.to_str().unwrap()]).fails(1);
    assert_eq!(
        lines(&refused),
        [
            format!("error: cannot write {}: No such file or directory (os error 2)", missing.display()),
            "hint: make its folder first, or choose another --kubeconfig".to_owned()
        ]
    );
    let folder = world.home().join("bin");
    let refused = world.up(&["--kubeconfig", folder.to_str().unwrap()]).fails(1);
    assert_eq!(lines(&refused)[1], "hint: name a file, not a folder");
}

#[test]
fn entries_and_current_context_go_in_when_asked_and_come_out_again() {
    let world = World::new();
    let path = world.write("config", OTHER);
    let of = path.to_str().unwrap();
    let kubectl = |arguments: &[&str]| {
        let all = [&["--kubeconfig", of], arguments].concat();
        world.kubectl(&all)
    };
    world.up(&["--kubeconfig", of]).ok();
    assert_eq!(kubectl(&["config", "current-context"]).ok().stdout, "prod\n");
    let users = kubectl(&["config", "view", "-o", "jsonpath={.users[*].name}"]).ok();
    assert_eq!(users.stdout, "kind-dev kind-dev-oidc oidc");
    world.up(&["--kubeconfig", of, "--use"]).ok();
    assert_eq!(kubectl(&["config", "current-context"]).ok().stdout, "kind-dev\n");
    let merged = fs::read_to_string(&path).unwrap();
    assert!(merged.contains("x-mine: kept") && merged.contains("x-extra: 1"), "{merged}");

    // A second run's `--use` does not take our own context for the user's.
    world.up(&["--kubeconfig", of, "--use"]).ok();
    let down = world.down().ok();
    assert!(down.stderr.contains(&format!("removed our entries from {of}")), "{}", down.stderr);
    assert_eq!(kubectl(&["config", "current-context"]).ok().stdout, "prod\n");
    let left = fs::read_to_string(&path).unwrap();
    assert!(!left.contains("kind-dev") && left.contains("token: secret"), "{left}");
}

#[test]
fn every_kubeconfig_that_got_entries_is_cleaned_and_one_that_is_gone_or_anothers_is_said() {
    let world = World::new();
    let run = |file: &Path| world.up(&["--kubeconfig", file.to_str().unwrap(), "--use"]).ok();
    let (a, b) = (world.write("a", OTHER), world.write("b", OTHER));
    let (made, gone, kinds) = (world.home().join("made"), world.write("gone", OTHER), world.write("kinds", OTHER));
    for file in [&a, &b, &made, &gone, &kinds] {
        run(file);
    }
    fs::remove_file(&gone).unwrap();
    // kind itself has made a cluster of that name since.
    let theirs = "clusters: [{name: kind-dev, cluster: {server: 'https://kind'}}]\n";
    fs::write(&kinds, theirs).unwrap();
    let down = world.down().ok();
    for said in [
        format!("removed our entries from {}", a.display()),
        format!("removed our entries from {}", b.display()),
        format!("removed {}, which held nothing but our entries", made.display()),
        format!("{} is not there any more: nothing to remove", gone.display()),
        format!("{}: kind-dev is not ours any more: left as it is", kinds.display()),
    ] {
        assert!(down.stderr.contains(&said), "{said} in:\n{}", down.stderr);
    }
    for file in [&a, &b] {
        let left = fs::read_to_string(file).unwrap();
        assert!(left.contains("current-context: prod") && !left.contains("kind-dev"), "{left}");
    }
    assert!(!made.exists() && !gone.exists());
    assert_eq!(fs::read_to_string(&kinds).unwrap(), theirs);
}

#[test]
fn a_bare_file_name_is_one_in_the_current_folder() {
    let world = World::new();
    let mut up = world.portcullis(&[
        "up",
        "--unattended",
        "--port",
        "0",
        "--issuer-port",
        "0",
        "--kubeconfig",
        "new.yaml",
        "--use",
    ]);
    finish(up.current_dir(world.home())).ok();
    let path = world.home().join("new.yaml");
    assert!(fs::read_to_string(&path).unwrap().contains("current-context: kind-dev"));
    let kept = &world.state_file()["kubeconfigs"][0];
    assert_eq!((kept["path"].as_str(), &kept["made"]), (path.to_str(), &true.into()), "`down` may run elsewhere");
    world.down().ok();
    assert!(!path.exists());
}

#[test]
fn a_broken_kubeconfig_in_the_state_folder_is_refused_and_kept() {
    let world = World::new();
    world.up(&[]).ok();
    let path = world.dev("kubeconfig");
    fs::write(&path, "users: 7\n").unwrap();
    let refused = world.up(&[]).fails(1);
    assert_eq!(
        lines(&refused),
        [
            format!("error: {}: users: expected a list, found a number", path.display()),
            "hint: correct users in that file; the file is left as it is".to_owned()
        ]
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "users: 7\n");
    fs::remove_file(&path).unwrap();
    world.up(&[]).ok();
}
