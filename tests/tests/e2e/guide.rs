//! The guide's kubectl commands by hand, with the real kubectl, while `up --no-bind` runs.

use std::fs;

use crate::world::{PASSWORD, Running, USER, World, bin, finish, guide};

/// The guide's step 12, as it is written but for the interactive mode: a test has no terminal.
fn set_credentials(world: &World, issuer: &str) {
    let cache = format!("--exec-arg=--token-cache-dir={}/.kube/cache/oidc", world.home().display());
    world
        .kubectl(&[
            "config",
            "set-credentials",
            "oidc",
            "--exec-api-version=client.authentication.k8s.io/v1",
            "--exec-interactive-mode=IfAvailable",
            "--exec-command=kubectl",
            "--exec-arg=oidc-login",
            "--exec-arg=get-token",
            &format!("--exec-arg=--oidc-issuer-url={issuer}"),
            "--exec-arg=--oidc-client-id=kubernetes",
            "--exec-arg=--oidc-client-secret=demo-client-secret-change-me",
            "--exec-arg=--oidc-extra-scope=email",
            &cache,
        ])
        .ok();
}

/// The issuer that a running `up` printed.
fn issuer(running: &Running) -> String {
    let line =
        running.stderr().lines().find_map(|l| l.trim().strip_prefix("export NGROK_ENDPOINT=").map(str::to_owned));
    line.unwrap_or_else(|| panic!("no NGROK_ENDPOINT in:\n{}", running.stderr()))
}

fn guides_up(world: &World) -> Running {
    world.up_and_keep(&["--no-bind", "--values", &guide("values.yaml"), "--cluster-config", &guide("kind-config.yaml")])
}

#[test]
fn steps_10_to_15_work_with_unmodified_kubectl() {
    let world = World::new();
    let running = guides_up(&world);
    let issuer = issuer(&running);
    world.install_browser(USER, PASSWORD);

    let setup = world
        .kubectl(&[
            "oidc-login",
            "setup",
            &format!("--oidc-issuer-url={issuer}"),
            "--oidc-client-id=kubernetes",
            "--oidc-client-secret=demo-client-secret-change-me",
            "--oidc-extra-scope=email",
        ])
        .ok();
    for claim in ["iss", "sub", "aud", "exp", "iat", "nonce", "at_hash", "c_hash", "email", "email_verified"] {
        assert!(setup.stderr.contains(&format!("\"{claim}\":")), "{claim} in:\n{}", setup.stderr);
    }
    assert!(setup.stderr.contains("kubectl config set-credentials oidc"), "{}", setup.stderr);

    set_credentials(&world, &issuer);
    let forbidden = world.kubectl(&["--user=oidc", "get", "pods", "--all-namespaces"]).fails(1);
    assert_eq!(
        forbidden.stderr.lines().last().unwrap_or_default(),
        format!(
            "Error from server (Forbidden): pods is forbidden: User \"{USER}\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
        ),
    );

    // The context's own user, the administrator, grants the role; `--user` is the subject here.
    let created = world
        .kubectl(&[
            "create",
            "clusterrolebinding",
            "oidc-admin-binding",
            "--clusterrole=cluster-admin",
            &format!("--user={USER}"),
        ])
        .ok();
    assert_eq!(created.stdout.trim(), "clusterrolebinding.rbac.authorization.k8s.io/oidc-admin-binding created");

    world.kubectl(&["config", "use-context", "kind-dev"]).ok();
    world.kubectl(&["config", "set-context", "--current", "--user=oidc"]).ok();
    let active = world.kubectl(&["config", "view", "--minify", "--output", "jsonpath={.users[0].name}"]).ok();
    assert_eq!(active.stdout, "oidc");

    fs::remove_dir_all(world.home().join(".kube/cache/oidc")).unwrap();
    let pods = world.kubectl(&["get", "pods", "--all-namespaces"]).ok();
    assert!(pods.stdout.starts_with("NAMESPACE") && pods.stdout.contains("Running"), "{}", pods.stdout);
    let whoami = world.kubectl(&["auth", "whoami"]).ok();
    assert!(whoami.stdout.contains(USER) && whoami.stdout.contains("system:authenticated"), "{}", whoami.stdout);
}

#[test]
fn bad_expired_and_foreign_tokens_get_the_exact_401() {
    let world = World::new();
    let running = guides_up(&world);
    let issuer = issuer(&running);
    world.install_browser(USER, PASSWORD);
    let token = |issuer: &str| {
        let args = [
            "oidc-login",
            "get-token",
            &format!("--oidc-issuer-url={issuer}"),
            "--oidc-client-id=kubernetes",
            "--oidc-client-secret=demo-client-secret-change-me",
            "--oidc-extra-scope=email",
        ];
        let credential: serde_json::Value = serde_json::from_str(&world.kubectl(&args).ok().stdout).unwrap();
        credential["status"]["token"].as_str().unwrap().to_owned()
    };
    let good = token(&issuer);
    let whoami = |token: &str| world.kubectl(&["--user=oidc", "--token", token, "auth", "whoami"]);
    whoami(&good).ok();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let flipped: String = signature.chars().rev().collect();
    let broken = format!("{head}.{flipped}");
    let foreign = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL290aGVyIn0.c2ln";
    for bad in ["garbage", &broken, foreign] {
        let refused = whoami(bad).fails(1);
        assert_eq!(refused.stderr.trim(), "error: You must be logged in to the server (Unauthorized)", "{bad}");
    }
}

#[test]
fn the_big_binary_answers_to_the_plugins_name() {
    let world = World::new();
    let _running = guides_up(&world);
    let version = world.kubectl(&["oidc-login", "version"]).ok();
    assert!(version.stderr.starts_with("kubelogin version"), "{}", version.stderr);
    let small = finish(world.command(bin().join("kubectl-oidc_login")).arg("version")).ok();
    assert_eq!(small.stderr.split_whitespace().nth(2), version.stderr.split_whitespace().nth(2));
}
