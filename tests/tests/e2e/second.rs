//! A second `up` with changed files: what runs takes them, and says what has changed (the guide's step 16).

use std::fs;
use std::path::PathBuf;

use crate::world::{Finished, PASSWORD, Running, USER, World, finish, guide};

const JANE: &str = "jane@example.com";
/// Jane, and what she types.
const JANES_PASSWORD: &str = "Janes-own-password";

/// The guide's values, with an edit, under the same name each time.
fn values(world: &World, edit: impl FnOnce(String) -> String) -> PathBuf {
    world.write("values.yaml", &edit(fs::read_to_string(guide("values.yaml")).unwrap()))
}

/// With Jane beside the guide's user.
fn with_jane(values: String) -> String {
    let hash = bcrypt::hash(JANES_PASSWORD, 10).unwrap();
    let jane = format!("    - email: {JANE}\n      hash: '{hash}'\n      username: jane\n      userID: u-jane\n");
    let changed = values.replace("    expiry:\n", &format!("{jane}    expiry:\n"));
    assert_ne!(changed, values, "the fixture has changed");
    changed
}

/// With a client `dashboard` beside the guide's.
fn with_dashboard(values: String) -> String {
    let client = "    - id: dashboard\n      name: Dashboard\n      secret: dashboard-secret\n      redirectURIs: ['http://localhost:8000']\n";
    let changed = values.replace("    staticPasswords:\n", &format!("{client}    staticPasswords:\n"));
    assert_ne!(changed, values, "the fixture has changed");
    changed
}

/// A second `up`, as it is typed a second time: without the ports that the tests' first one has.
fn second(world: &World, arguments: &[&str]) -> Finished {
    finish(&mut world.portcullis(&[&["up", "--unattended"], arguments].concat()))
}

fn first(world: &World, values: &str) -> Running {
    world.up_and_keep(&["--values", values, "--cluster-config", &guide("kind-config.yaml")])
}

/// What was said without the notes, which are about files and tested elsewhere.
fn said(finished: &Finished) -> Vec<String> {
    finished.stderr.lines().filter(|line| !line.starts_with("  note ")).map(str::to_owned).collect()
}

fn applied(running: &Running) -> String {
    format!("applied to \"dev\", which keeps running (process {})", running.id())
}

/// kubectl, after everything that the plugin has cached is gone.
fn signed_in_anew(world: &World, arguments: &[&str]) -> Finished {
    let _none_yet = fs::remove_dir_all(world.dev("cache/oidc-login"));
    world.kubectl(arguments)
}

#[test]
fn a_user_that_is_added_signs_in_and_is_told_apart() {
    let world = World::new();
    let path = values(&world, |values| values);
    let path = path.to_str().unwrap();
    let mut running = first(&world, path);
    world.install_browser(JANE, JANES_PASSWORD);
    values(&world, with_jane);
    let changed = second(&world, &["--values", path]).ok();
    assert_eq!(said(&changed), [format!("  user           {JANE} added"), applied(&running)]);
    assert_eq!(changed.stdout, "", "there is no table: nobody was signed in");
    running.wait_for("another `up` of this name asked for a change:");
    running.wait_for(&format!("  user           {JANE} added"));

    let whoami = signed_in_anew(&world, &["auth", "whoami", "--output", "jsonpath={.status.userInfo.username}"]).ok();
    assert_eq!(whoami.stdout, JANE);
    let refused = world.kubectl(&["get", "pods", "--all-namespaces"]).fails(1);
    assert_eq!(
        refused.stderr.trim(),
        format!(
            "Error from server (Forbidden): pods is forbidden: User \"{JANE}\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
        )
    );
    world.install_browser(USER, PASSWORD);
    let pods = signed_in_anew(&world, &["get", "pods", "--all-namespaces"]).ok();
    assert!(pods.stdout.contains("Running"), "the guide's user is cluster-admin as before: {}", pods.stdout);
}

/// The plugin's password grant, which the guide's values turn on: no browser.
fn dashboards_token(world: &World) -> Finished {
    let state = world.state_file();
    let issuer = format!("--oidc-issuer-url={}", state["issuer"].as_str().unwrap());
    finish(world.command(world.dev("bin/kubectl-oidc_login")).args([
        "get-token",
        &issuer,
        "--oidc-client-id=dashboard",
        "--oidc-client-secret=dashboard-secret",
        "--grant-type=password",
        &format!("--username={USER}"),
        &format!("--password={PASSWORD}"),
        "--token-cache-storage=none",
    ]))
}

#[test]
fn a_removed_client_is_refused_and_sessions_of_the_others_go_on() {
    let world = World::new();
    let path = values(&world, with_dashboard);
    let path = path.to_str().unwrap();
    let running = first(&world, path);
    dashboards_token(&world).ok();
    values(&world, |values| values);
    let changed = second(&world, &["--values", path]).ok();
    assert_eq!(said(&changed), ["  client         dashboard removed".to_owned(), applied(&running)]);
    let refused = dashboards_token(&world).fails(1);
    assert!(refused.stderr.contains("invalid_client"), "{}", refused.stderr);

    // There is no browser: what works without one works with the refresh token of the first sign-in.
    let config = world.kubectl(&["config", "view", "--raw", "--output", "json"]).ok();
    let config: serde_json::Value = serde_json::from_str(&config.stdout).unwrap();
    let user = config["users"].as_array().unwrap().iter().find(|user| user["name"] == "oidc").unwrap();
    let arguments: Vec<&str> =
        user["user"]["exec"]["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
    let refreshed =
        finish(world.command(world.dev("bin/kubectl-oidc_login")).args(arguments).arg("--force-refresh")).ok();
    assert!(refreshed.stdout.contains("\"token\":"), "{}", refreshed.stdout);
    assert!(!refreshed.stderr.contains("visit"), "{}", refreshed.stderr);
}

#[test]
fn flags_of_the_cluster_lifetimes_and_secrets_are_applied_and_the_kubeconfig_follows() {
    let world = World::new();
    let path = values(&world, |values| values);
    let (path, cluster) = (path.to_str().unwrap(), fs::read_to_string(guide("kind-config.yaml")).unwrap());
    let running = first(&world, path);
    let prefixed = cluster.replace("oidc-username-prefix: \"\"", "oidc-username-prefix: \"oidc:\"");
    assert_ne!(prefixed, cluster);
    let prefixed = world.write("kind-config.yaml", &prefixed);
    values(&world, |values| {
        values.replace("demo-client-secret-change-me", "another-secret").replace("idToken: '8h'", "idTokens: 1h")
    });
    let changed = second(&world, &["--values", path, "--cluster-config", prefixed.to_str().unwrap()]).ok();
    let kubeconfig = world.dev("kubeconfig");
    assert_eq!(
        said(&changed),
        [
            "  client         kubernetes changed: secret".to_owned(),
            "  expiry         idTokens: 8h becomes 1h".to_owned(),
            "  api server     oidc-username-prefix: \"\" becomes \"oidc:\"".to_owned(),
            format!("  kubeconfig     {} renewed", kubeconfig.display()),
            format!("  binding        oidc:{USER} is cluster-admin (portcullis-up-demo)"),
            applied(&running),
        ]
    );
    assert!(!changed.stderr.contains("another-secret"), "{}", changed.stderr);
    world.install_browser(USER, PASSWORD);
    let pods = signed_in_anew(&world, &["get", "pods", "--all-namespaces"]).ok();
    assert!(pods.stdout.contains("Running"), "{}", pods.stdout);
    let whoami = world.kubectl(&["auth", "whoami", "--output", "jsonpath={.status.userInfo.username}"]).ok();
    assert_eq!(whoami.stdout, format!("oidc:{USER}"));
}

#[test]
fn without_changes_it_says_so_and_with_a_bad_file_it_says_why_and_nothing_changes() {
    let world = World::new();
    let path = values(&world, |values| values);
    let path = path.to_str().unwrap();
    let running = first(&world, path);
    let nothing = format!("\"dev\" is running (process {}), and nothing has changed", running.id());
    for arguments in [&[][..], &["--values", path], &["--values", path, "--cluster-config", &guide("kind-config.yaml")]]
    {
        assert_eq!(second(&world, arguments).ok().stderr.trim(), nothing, "{arguments:?}");
    }
    for (edit, place) in [
        ("    enablePasswordDB: 7x\n", "values.yaml:41: "),
        ("    issuer: [\n", "values.yaml:"),
        ("    staticClients: []\n", "no client with the id \"kubernetes\""),
    ] {
        let key = edit.split(':').next().unwrap();
        values(&world, |values| {
            let rest = |line: &&str| line.starts_with("    - ") || line.starts_with("      ");
            let mut lines = Vec::new();
            let mut skipping = false;
            for line in values.lines() {
                skipping = if line.starts_with(&format!("{key}:")) {
                    lines.push(edit.trim_end());
                    true
                } else {
                    skipping && rest(&line)
                };
                if !skipping {
                    lines.push(line);
                }
            }
            lines.join("\n")
        });
        let refused = second(&world, &["--values", path]).fails(1);
        assert!(refused.stderr.contains(place) && refused.stderr.contains("\nhint: "), "{edit}: {}", refused.stderr);
    }
    // One that only the running one can judge: its issuer is another.
    values(&world, |values| values.replace("issuer: $NGROK_ENDPOINT", "issuer: https://dex.example/dex"));
    let refused = second(&world, &["--values", path]).fails(1);
    assert!(refused.stderr.contains("error: the issuer would become https://localhost:"), "{}", refused.stderr);
    assert!(refused.stderr.contains("/dex, and https://localhost:"), "{}", refused.stderr);
    values(&world, |values| values);
    assert_eq!(second(&world, &["--values", path]).ok().stderr.trim(), nothing);
    world.install_browser(USER, PASSWORD);
    signed_in_anew(&world, &["get", "pods", "--all-namespaces"]).ok();
}

#[test]
fn what_takes_a_restart_is_said_each_time_until_there_was_one() {
    let world = World::new();
    let path = values(&world, |values| values);
    let path = path.to_str().unwrap();
    let running = first(&world, path);
    values(&world, |values| values.replace("type: kubernetes", "type: memory"));
    for _ in 0..2 {
        let changed = second(&world, &["--values", path, "--port", "1"]).ok();
        let summary = format!(
            "nothing was applied to \"dev\" (process {}): what needs a restart takes effect when it is stopped and started again",
            running.id()
        );
        assert_eq!(
            said(&changed),
            [
                "  restart needed networking.apiServerPort: port 0 becomes port 1",
                "  restart needed storage: \"sqlite3\" becomes \"memory\"",
                &summary,
            ]
        );
    }
    values(&world, |values| values.replace("level: debug", "level: error"));
    let quiet = second(&world, &["--values", path, "--port", "0"]).ok();
    assert_eq!(said(&quiet), ["  logger         level: debug becomes error".to_owned(), applied(&running)]);
    let log = || fs::read_to_string(world.dev("up.log")).unwrap();
    let before = log();
    world.kubectl(&["get", "pods", "--all-namespaces"]).ok();
    assert!(before.contains("level=DEBUG") && log() == before, "nothing more is written");
    let flags = second(&world, &["--no-bind", "--trust"]).ok();
    for flag in ["--no-bind", "--trust"] {
        let note = format!("  note           {flag} has an effect at a start alone");
        assert!(flags.stderr.lines().any(|line| line == note), "{}", flags.stderr);
    }
}

#[test]
fn many_at_once_are_applied_one_after_the_other() {
    let world = World::new();
    let path = values(&world, |values| values);
    let running = first(&world, path.to_str().unwrap());
    let text = with_jane(fs::read_to_string(guide("values.yaml")).unwrap());
    let files: Vec<PathBuf> = (0..6)
        .map(|n| {
            world.write(&format!("values-{n}.yaml"), &text.replace("username: jane", &format!("username: jane{n}")))
        })
        .collect();
    let all: Vec<Running> = files
        .iter()
        .map(|file| Running::start(&mut world.portcullis(&["up", "--unattended", "--values", file.to_str().unwrap()])))
        .collect();
    for one in all {
        let output = one.output();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.lines().any(|line| line == applied(&running)), "{stderr}");
    }
    let last = second(&world, &["--values", files[0].to_str().unwrap()]).ok();
    let lines = said(&last);
    assert!(
        lines == [format!("  user           {JANE} changed: username"), applied(&running)]
            || lines[0].ends_with("nothing has changed"),
        "{lines:?}"
    );
    world.install_browser(JANE, JANES_PASSWORD);
    let whoami = signed_in_anew(&world, &["auth", "whoami", "--output", "jsonpath={.status.userInfo.username}"]).ok();
    assert_eq!(whoami.stdout, JANE);
}

#[test]
fn of_many_that_start_at_once_one_runs_and_the_others_say_so() {
    let world = World::new();
    let arguments = ["up", "--unattended", "--keep", "--port", "0", "--issuer-port", "0"];
    let all: Vec<Running> = (0..4).map(|_| Running::start(&mut world.portcullis(&arguments))).collect();
    let (mut runs, mut ended) = (Vec::new(), 0);
    for mut one in all {
        // Either line comes sooner or later.
        loop {
            let line = one
                .next_line(std::time::Duration::from_secs(60))
                .unwrap_or_else(|| panic!("it runs, or says who does:\n{}", one.stderr()));
            if line.ends_with("and nothing has changed") {
                ended += 1;
                break;
            }
            if line == "running until Ctrl-C" {
                runs.push(one);
                break;
            }
        }
    }
    assert_eq!((runs.len(), ended), (1, 3));
}

/// The first `up` may wait for a person as long as it likes.
#[test]
fn what_waits_for_a_person_takes_changes_too() {
    let world = World::new();
    let path = values(&world, |values| values);
    let path = path.to_str().unwrap();
    let mut running = world.up_in_terminal(None, &["--values", path]);
    running.wait_for("Please visit");
    values(&world, with_jane);
    let changed = second(&world, &["--values", path]).ok();
    assert_eq!(said(&changed), [format!("  user           {JANE} added"), applied(&running)]);
    world.sign_in_at("http://localhost:8000/").ok();
    running.wait_for("running until Ctrl-C");
}
