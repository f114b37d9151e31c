//! `up` and `down` on their own.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Signal;

use crate::world::{PASSWORD, Running, World, bin, finish, guide, is_free};

#[test]
fn one_command_goes_from_nothing_to_a_signed_in_table() {
    let world = World::new();
    let first = world.up(&[]).ok();
    let table: Vec<&str> = first.stdout.lines().collect();
    assert!(table[0].starts_with("NAMESPACE") && table[0].ends_with("AGE"), "{}", first.stdout);
    assert!(table.len() >= 3 && table[1..].iter().all(|row| row.contains("Running")), "{}", first.stdout);
    assert!(!first.stderr.contains("export "), "nothing to try: the servers have ended\n{}", first.stderr);

    let authority = fs::read(world.dev("ca/ca.pem")).unwrap();
    world.up(&[]).ok();
    assert_eq!(fs::read(world.dev("ca/ca.pem")).unwrap(), authority, "the authority survives");

    world.down().ok();
    assert!(!world.state().join("dev").exists());
    assert_eq!(fs::read_dir(world.state().join("trust")).map_or(0, Iterator::count), 0, "nothing is left to trust");
}

/// What is said about the guide's two files, without the folder; `{}` is the issuer.
const WORDS: &[&str] = &[
    "values.yaml: 38 chart keys outside dex.config are ignored (dex.enabled … dex.networkPolicy)",
    "values.yaml:58: dex.config.expiry.idToken: unknown key; it is honoured as `idTokens`, which is what Dex knows (Dex itself would ignore it and use 24h) (write `idTokens`)",
    "kind-config.yaml:5: networking.apiServerPort: 6443 is not used: --port is given",
    "values.yaml:35: dex.config.grpc: gRPC is not served yet",
    "values.yaml:26: dex.config.storage.type: storage kubernetes becomes the embedded database in the state folder",
    "values.yaml:32: dex.config.web.tlsCert: /etc/k8s-webhook-certs/tls.crt is replaced by one that `up` makes for localhost: the sign-in plugin and the API server trust the local authority",
    "values.yaml:33: dex.config.web.tlsKey: /etc/k8s-webhook-certs/tls.key is replaced by one that `up` makes for localhost: the sign-in plugin and the API server trust the local authority",
    "values.yaml:30: dex.config.web.http: 0.0.0.0:5556 becomes loopback: `up` opens nothing to the network",
    "values.yaml:31: dex.config.web.https: 0.0.0.0:5554 becomes loopback: `up` opens nothing to the network",
    "values.yaml:40: dex.config.telemetry.http: 0.0.0.0:5558 becomes loopback: `up` opens nothing to the network",
    "values.yaml:31: dex.config.web.https: the port 5554 is not used: --issuer-port is given",
    "values.yaml:43: dex.config.oauth2.passwordConnector: the password grant is on: applications see the user's password, which RFC 9700 forbids (remove `passwordConnector` if nobody uses it)",
    "values.yaml: oauth2.pkce: plain PKCE is accepted as Dex does, which RFC 9700 advises against (set `oauth2.pkce.codeChallengeMethodsSupported: [S256]`)",
    "values.yaml:21: dex.config.issuer: the issuer $NGROK_ENDPOINT becomes {}",
    "kind-config.yaml:13: nodes[0].kubeadmConfigPatches[0].apiServer.extraArgs.oidc-issuer-url: the issuer $NGROK_ENDPOINT becomes {}",
];

#[test]
fn the_guides_two_files_are_taken_unchanged_and_each_change_is_said() {
    let world = World::new();
    let up = world.up(&["--values", &guide("values.yaml"), "--cluster-config", &guide("kind-config.yaml")]).ok();
    let issuer = world.state_file()["issuer"].as_str().unwrap().to_owned();
    let folder = guide("");
    // Ports 5556 and 5558 may be somebody's on this machine; what is said then is shown elsewhere.
    let words: Vec<String> = notes(&up.stderr)
        .filter(|word| !word.starts_with("port "))
        .map(|word| word.replace(&folder, "").replace(&issuer, "{}"))
        .collect();
    assert_eq!(words, WORDS);
    assert!(up.stdout.contains("Running"));
    let claims = cached_claims(&world);
    let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(lifetime, 8 * 3600, "the guide's expiry.idToken is honoured");
    // `logger: {level: debug}` of the file.
    let log = fs::read_to_string(world.dev("up.log")).unwrap();
    assert!(log.contains("level=DEBUG"), "{log}");
}

/// The words that `up` says about what it changes.
fn notes(stderr: &str) -> impl Iterator<Item = String> {
    stderr.lines().filter_map(|line| line.strip_prefix("  note           ")).map(str::to_owned)
}

/// The claims of the token that the plugin has cached for `up`.
fn cached_claims(world: &World) -> serde_json::Value {
    let files = fs::read_dir(world.dev("cache/oidc-login")).unwrap().flatten();
    let cached = files
        .filter_map(|file| serde_json::from_slice::<serde_json::Value>(&fs::read(file.path()).ok()?).ok())
        .find_map(|cached| Some(cached["id_token"].as_str()?.to_owned()));
    let token = cached.expect("a cached token");
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[test]
fn the_list_form_of_kubeadm_patches_means_the_same() {
    let world = World::new();
    let map = fs::read_to_string(guide("kind-config.yaml")).unwrap();
    let list: String = map
        .lines()
        .map(|line| match line.trim().split_once(": ") {
            Some((flag, value)) if flag.starts_with("oidc-") => {
                format!("        - name: {flag}\n          value: {value}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(list.matches("- name: oidc-").count(), 5, "the fixture has changed");
    let list = world.write("kind-config.yaml", &list);
    let up = world.up(&["--cluster-config", list.to_str().unwrap()]).ok();
    assert!(up.stdout.contains("Running"), "{}", up.stdout);
    assert!(up.stderr.contains("oidc-demo-user@example.com is cluster-admin"), "{}", up.stderr);
}

#[test]
fn a_user_name_from_the_profile_scope_can_be_bound() {
    let world = World::new();
    let kind = fs::read_to_string(guide("kind-config.yaml")).unwrap();
    let by_name = kind.replace("oidc-username-claim: email", "oidc-username-claim: name");
    let by_name = world.write("kind-config.yaml", &by_name);
    let up = world.up(&["--cluster-config", by_name.to_str().unwrap()]).ok();
    let expected = format!("{}#oidc-demo-user is cluster-admin", world.state_file()["issuer"].as_str().unwrap());
    assert!(up.stderr.contains(&expected) && up.stdout.contains("Running"), "{}", up.stderr);
}

#[test]
fn a_foreign_issuer_is_kept_only_by_refusing() {
    let world = World::new();
    let values =
        fs::read_to_string(guide("values.yaml")).unwrap().replace("$NGROK_ENDPOINT", "https://abcd-12.ngrok-free.app");
    let values = world.write("values.yaml", &values);
    let refused = world.up(&["--values", values.to_str().unwrap(), "--keep-issuer"]).fails(1);
    assert!(
        refused.stderr.contains("abcd-12.ngrok-free.app") && refused.stderr.contains("hint:"),
        "{}",
        refused.stderr
    );
    world.up(&["--values", values.to_str().unwrap()]).ok();
}

#[test]
fn the_guides_published_hash_is_recognised_and_mended_on_request() {
    let world = World::new();
    let published = "$2y$12$14X9Hz5bl8JdH5xaQQuGUe0cC./cb7n2wKGF08jm3jRjPpDkEfyAi";
    let values: String = fs::read_to_string(guide("values.yaml"))
        .unwrap()
        .lines()
        .map(|line| if line.contains("hash:") { format!("      hash: '{published}'\n") } else { format!("{line}\n") })
        .collect();
    let values = world.write("values.yaml", &values);
    let refused = world.up(&["--values", values.to_str().unwrap()]).fails(1);
    assert!(refused.stderr.contains("values.yaml:") && refused.stderr.contains("ChangeMe!234"), "{}", refused.stderr);
    let better = refused
        .stderr
        .split_whitespace()
        .map(|w| w.trim_matches(['\'', '"', ',', '.']))
        .find(|w| w.starts_with("$2") && *w != published)
        .unwrap_or_else(|| panic!("no hash in {}", refused.stderr));
    assert!(bcrypt::verify("ChangeMe!234", better).unwrap());
    world.up(&["--values", values.to_str().unwrap(), "--fix-demo-hash"]).ok();
}

#[test]
fn a_second_up_finds_the_one_that_runs_and_down_ends_it() {
    let world = World::new();
    let mut running = world.up_and_keep(&[]);
    let second = world.up(&[]).ok();
    let nothing = format!("\"dev\" is running (process {}), and nothing has changed", running.id());
    assert_eq!((second.stderr.trim(), second.stdout.as_str()), (nothing.as_str(), ""));
    world.down().ok();
    running.wait_for("stopped; ");
    assert!(!world.state().join("dev").exists());
}

#[test]
fn what_takes_no_changes_is_said_to_run() {
    let world = World::new();
    let mut alone = Running::start(&mut world.portcullis(&["apiserver", "--secure-port", "0"]));
    alone.wait_for("running until Ctrl-C");
    let second = world.up(&[]).fails(1);
    let [error, hint] = last_two(&second.stderr);
    assert_eq!(error, format!("error: \"dev\" is already running (process {}), and does not take changes", alone.id()));
    let program = bin().join("portcullis").display().to_string();
    assert_eq!(
        hint,
        format!("hint: stop it with Ctrl-C in its terminal or `{program} down --name dev`, then start it again")
    );
}

#[test]
fn ctrl_c_stops_everything_cleanly() {
    let world = World::new();
    let running = world.up_and_keep(&[]);
    let ports: Vec<u16> = ["issuer", "server"]
        .iter()
        .map(|key| world.state_file()[key].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap())
        .collect();
    assert!(!ports.iter().any(|port| is_free(*port)));
    running.signal(Signal::INT);
    let output = running.output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let program = bin().join("portcullis").display().to_string();
    assert_eq!(
        stderr.lines().last().unwrap(),
        format!("stopped; the same command starts it again, `{program} down` removes it")
    );
    assert!(ports.iter().all(|port| is_free(*port)), "{ports:?}");
    assert_eq!(world.processes(), [""; 0], "no child is left");
    assert_eq!(world.state_file().get("pid"), None);
    world.up(&[]).ok();
}

#[test]
fn a_run_that_is_interrupted_before_its_table_has_failed() {
    let world = World::new();
    // A password that takes seconds to check holds the sign-in.
    let hash = bcrypt::hash(PASSWORD, 15).unwrap();
    let values = fs::read_to_string(guide("values.yaml")).unwrap();
    let values = values.replace("$2y$12$VQP6H7iU2C3O59odzJFYYuYhBqUi0wyvbitNdLFdcE8zmsMGIXgHu", &hash);
    let values = world.write("values.yaml", &values);
    for signal in [Signal::INT, Signal::TERM] {
        let arguments =
            ["up", "--unattended", "--port", "0", "--issuer-port", "0", "--values", values.to_str().unwrap()];
        let mut running = Running::start(&mut world.portcullis(&arguments));
        running.wait_for("  binding ");
        running.signal(signal);
        let output = running.output();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{stderr}");
        assert_eq!(stderr.lines().last(), Some("error: interrupted before the table was printed"));
        assert_eq!(world.processes(), [""; 0], "no child is left");
    }
}

#[test]
fn without_a_terminal_up_signs_in_by_itself() {
    let world = World::new();
    let up = finish(&mut world.portcullis(&["up", "--port", "0", "--issuer-port", "0"])).ok();
    assert!(up.stdout.starts_with("NAMESPACE"), "{}", up.stdout);
    assert!(!up.stderr.contains("sign in as"), "{}", up.stderr);
}

#[test]
fn a_provider_that_is_down_is_said_by_kubectl() {
    let world = World::new();
    world.up(&[]).ok();
    fs::remove_dir_all(world.dev("cache/oidc-login")).unwrap();
    let down = world.kubectl(&["get", "pods", "--all-namespaces"]).fails(1);
    let said: Vec<&str> = down.stderr.lines().collect();
    let hint = "hint: is the provider running, and the port-forward if it is behind one? One on this machine is started by `portcullis up`";
    let at = said.iter().position(|line| *line == hint).unwrap_or_else(|| panic!("no hint in:\n{}", down.stderr));
    assert!(said[at - 1].starts_with("error: get-token: authentication error: oidc error: oidc discovery error: "));
}

/// The error and its hint, which end what is said.
fn last_two(stderr: &str) -> [&str; 2] {
    let mut lines = stderr.lines().rev();
    let (hint, error) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    [error, hint]
}
