//! The guide's kubectl commands by hand, with the real kubectl, while `up --no-bind` runs.

use std::fs;

use portcullis_testkit::TestCa;

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
fn the_guides_own_steps_survive_a_restart() {
    let world = World::new();
    let mut running = guides_up(&world);
    let first = issuer(&running);
    let port = first.rsplit(':').next().unwrap().to_owned();
    let bind =
        format!("  kubectl create clusterrolebinding oidc-admin-binding --clusterrole=cluster-admin --user={USER}");
    let said = running.stderr();
    assert!(said.lines().any(|line| line == bind), "the next step is named:\n{said}");
    assert!(!said.contains("--current --user=kind-dev"), "the administrator is the context's user:\n{said}");
    set_credentials(&world, &first);
    world.kubectl(&["config", "set-context", "--current", "--user=oidc", "--namespace=team"]).ok();
    running.signal(rustix::process::Signal::INT);
    running.wait_for("stopped; ");

    let args = ["--no-bind", "--issuer-port", &port, "--values", &guide("values.yaml")];
    let again = world.up_and_keep(&args);
    let said = again.stderr();
    for line in [
        format!("  note           {}: the user oidc stays as you set it", world.dev("kubeconfig").display()),
        format!("  note           {}: the context's user stays oidc, as you set it", world.dev("kubeconfig").display()),
        "  kubectl config set-context --current --user=kind-dev".to_owned(),
        bind,
        "  kubectl config set-context --current --user=oidc".to_owned(),
    ] {
        assert!(said.lines().any(|said| said == line), "{line} in:\n{said}");
    }
    let view = |path: &str| world.kubectl(&["config", "view", "-o", &format!("jsonpath={path}")]).ok().stdout;
    assert_eq!(view("{.users[?(@.name=='oidc')].user.exec.command}"), "kubectl");
    assert_eq!(view("{.contexts[0].context.user} {.contexts[0].context.namespace}"), "oidc team");
    // What was said works: the administrator binds, and the guide's user lists the pods.
    world.install_browser(USER, PASSWORD);
    world.kubectl(&["config", "set-context", "--current", "--user=kind-dev"]).ok();
    world
        .kubectl(&[
            "create",
            "clusterrolebinding",
            "oidc-admin-binding",
            "--clusterrole=cluster-admin",
            &format!("--user={USER}"),
        ])
        .ok();
    world.kubectl(&["config", "set-context", "--current", "--user=oidc"]).ok();
    let pods = world.kubectl(&["get", "pods", "--all-namespaces"]).ok();
    assert!(pods.stdout.contains("Running"), "{}", pods.stdout);
}

#[test]
fn the_small_binary_signs_in_also_with_a_callback_over_tls() {
    let world = World::new();
    let values = fs::read_to_string(guide("values.yaml")).unwrap();
    let with_tls = values.replace(
        "      - 'http://localhost:8000'\n",
        "      - 'http://localhost:8000'\n      - 'https://localhost:8000'\n",
    );
    assert_ne!(with_tls, values, "the fixture has changed");
    let values = world.write("values.yaml", &with_tls);
    let running = world.up_and_keep(&["--no-bind", "--values", values.to_str().unwrap()]);
    let issuer = issuer(&running);
    let ca = TestCa::new("callback");
    let leaf = ca.server();
    let file = |name: &str, content: &str| world.write(name, content).display().to_string();
    let (certificate, key) = (file("callback.pem", &leaf.certificate_pem), file("callback.key", &leaf.key_pem));
    // The pages are plain http on this machine, the callback's certificate is of the test's own authority.
    let authorities = file("callback-ca.pem", ca.pem());
    let get_token = |cache: &str, more: &[&str]| {
        let mut command = world.command(bin().join("kubectl-oidc_login"));
        command
            .args(["get-token", "--oidc-client-id=kubernetes", "--oidc-client-secret=demo-client-secret-change-me"])
            .args(["--oidc-extra-scope=email", &format!("--oidc-issuer-url={issuer}")])
            .arg(format!("--token-cache-dir={}/{cache}", world.home().display()))
            .args(more);
        let finished = finish(&mut command).ok();
        let credential: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(credential["kind"], "ExecCredential");
        credential["status"]["token"].as_str().unwrap().to_owned()
    };
    let whoami = |token: &str| {
        let kubectl = world.kubectl(&[
            "--user=nobody",
            "--token",
            token,
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username}",
        ]);
        kubectl.ok().stdout
    };
    world.kubectl(&["config", "set-credentials", "nobody"]).ok();

    world.install_browser(USER, PASSWORD);
    let plain = get_token("plain", &[]);
    assert_eq!(whoami(&plain), USER);
    assert_eq!(get_token("plain", &[]), plain, "the second call is answered from the cache");

    world.install_browser_with(USER, PASSWORD, &format!("SIGN_IN_CA='{authorities}'"));
    let over_tls = get_token("tls", &["--local-server-cert", &certificate, "--local-server-key", &key]);
    assert_ne!(over_tls, plain);
    assert_eq!(whoami(&over_tls), USER);
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
