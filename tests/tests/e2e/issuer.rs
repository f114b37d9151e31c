//! `up --issuer`: a provider of the user's own, which `up` has not started, is trusted by the dev API server.

use std::fs;
use std::net::TcpListener;

use portcullis_testkit::TestCa;

use crate::world::{Finished, Running, USER, World, finish};

/// The password of the hash below.
const GOOD: &str = "password";
const HASH: &str = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";

/// A provider that runs, and the file with its authority.
struct Provider {
    issuer: String,
    ca: String,
    _serves: Running,
}

fn provider(world: &World) -> Provider {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let issuer = format!("https://localhost:{port}/dex");
    let authority = TestCa::default();
    let leaf = authority.server();
    let ca = world.write("issuer-ca.pem", authority.pem()).display().to_string();
    let certificate = world.write("tls.crt", &leaf.certificate_pem);
    let key = world.write("tls.key", &leaf.key_pem);
    let config = format!(
        "issuer: {issuer}\nstorage: {{type: memory}}\nweb: {{https: '127.0.0.1:{port}', tlsCert: {}, tlsKey: {}}}\noauth2: {{skipApprovalScreen: true}}\n\
         enablePasswordDB: true\nstaticPasswords:\n- {{email: {USER}, hash: '{HASH}', username: demo, userID: u-1, groups: [team-a, team-b]}}\n\
         staticClients:\n- {{id: laptop, name: Laptop, secret: laptop-secret, redirectURIs: ['http://localhost:8000']}}\n",
        certificate.display(),
        key.display()
    );
    let file = world.write("provider.yaml", &config);
    let mut serves = Running::start(&mut world.portcullis(&["serve", file.to_str().unwrap()]));
    serves.wait_for("listening");
    world.install_browser_with(USER, GOOD, &format!("SIGN_IN_CA='{ca}'"));
    Provider { issuer, ca, _serves: serves }
}

/// What is typed, with claims.
fn arguments<'a>(provider: &'a Provider, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["up", "--issuer", &provider.issuer, "--issuer-ca", &provider.ca];
    all.extend(["--client-id=laptop", "--client-secret=laptop-secret", "--groups-claim=groups"]);
    all.extend(more);
    all
}

fn up(world: &World, arguments: &[&str]) -> Running {
    let mut running = Running::start(world.portcullis(arguments).args(["--port", "0"]));
    running.wait_for("running until Ctrl-C");
    running
}

fn whoami(world: &World) -> (String, Vec<String>) {
    let answer = world.kubectl(&["auth", "whoami", "--user=oidc", "--output=json"]).ok();
    let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let info = &answer["status"]["userInfo"];
    let groups = info["groups"].as_array().unwrap().iter().map(|group| group.as_str().unwrap().to_owned()).collect();
    (info["username"].as_str().unwrap().to_owned(), groups)
}

/// The commands that were printed, in a shell.
fn shell(world: &World, lines: &[String]) -> Finished {
    finish(world.command("sh").args(["-euc", &lines.join("\n")]))
}

#[test]
fn a_provider_of_the_users_own_is_trusted_and_the_printed_commands_work() {
    let world = World::new();
    let provider = provider(&world);
    let running = up(&world, &arguments(&provider, &["--username-claim=email"]));
    let (name, groups) = whoami(&world);
    assert_eq!(name, USER);
    assert_eq!(groups, ["team-a", "team-b", "system:authenticated"]);
    let refused = world.kubectl(&["get", "pods", "--all-namespaces", "--user=oidc"]).fails(1);
    assert!(refused.stderr.contains(&format!("User \"{USER}\" cannot list resource \"pods\"")), "{}", refused.stderr);

    let printed = running.stderr();
    assert!(!printed.contains("laptop-secret"), "{printed}");
    let commands: Vec<String> = printed.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect();
    let first = commands.iter().position(|line| line.starts_with("export PATH=")).unwrap();
    let pods = shell(&world, &commands[first..]).ok();
    assert!(pods.stdout.contains("clusterrolebinding.rbac.authorization.k8s.io/oidc-admin-binding created"));
    assert!(pods.stdout.contains("Running"), "{}", pods.stdout);
    let signed_in = fs::read_to_string(world.home().join("browser.log")).unwrap();
    assert_eq!(signed_in.lines().count(), 1, "one sign-in for all of them: {signed_in}");
}

#[test]
fn a_second_up_changes_what_runs_and_down_leaves_nothing() {
    let world = World::new();
    let provider = provider(&world);
    let mut running = up(&world, &arguments(&provider, &["--username-claim=email"]));
    whoami(&world);
    let second = |more: &[&str]| finish(&mut world.portcullis(&arguments(&provider, more)));
    let id = running.id();
    let said = |finished: &Finished| finished.stderr.lines().map(str::to_owned).collect::<Vec<_>>();
    let same = second(&["--username-claim=email"]).ok();
    assert_eq!(said(&same), [format!("\"dev\" is running (process {id}), and nothing has changed")]);
    let port = second(&["--username-claim=email", "--port=1"]).ok();
    assert!(port.stderr.contains("restart needed --port: port "), "{}", port.stderr);
    assert!(port.stderr.contains(&format!("nothing was applied to \"dev\" (process {id})")), "{}", port.stderr);

    let changed = second(&["--username-claim=name", "--username-prefix=me:"]).ok();
    let kubeconfig = world.dev("kubeconfig");
    assert_eq!(
        said(&changed),
        [
            "  api server     oidc-username-claim: \"email\" becomes \"name\"".to_owned(),
            "  api server     oidc-username-prefix: \"\" becomes \"me:\"".to_owned(),
            format!("  kubeconfig     {} renewed", kubeconfig.display()),
            format!("applied to \"dev\", which keeps running (process {id})"),
        ]
    );
    running.wait_for("another `up` of this name asked for a change:");
    let (name, groups) = whoami(&world);
    assert_eq!((name.as_str(), groups.len()), ("me:demo", 3));

    let ours = finish(&mut world.portcullis(&["up", "--unattended"])).fails(1);
    let trusts = format!("error: the one that runs trusts {}, and starts no provider of its own", provider.issuer);
    assert!(ours.stderr.contains(&trusts), "{}", ours.stderr);

    let down = world.down().ok();
    assert!(!world.dev("").exists(), "{}", down.stderr);
    let ended = running.output();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn an_issuer_that_does_not_answer_as_it_should_is_refused_and_nothing_is_made() {
    let world = World::new();
    let provider = provider(&world);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = format!("https://localhost:{free}");
    let slash = format!("{}/", provider.issuer);
    let ca = ["--issuer-ca", &provider.ca];
    for (issuer, ca, error, hint) in [
        (&*away, &ca[..], "and there is no answer", "start the provider, or correct --issuer"),
        (&slash, &ca, "and the provider there calls itself", "letter by letter"),
        (&provider.issuer, &[], "and there is no answer", "--issuer-ca FILE"),
        ("http://localhost:1", &ca, "is not an https URL", "put TLS in front of the provider"),
    ] {
        let all = [&["up", "--port=0", "--client-id=laptop", "--issuer", issuer], ca].concat();
        let refused = finish(&mut world.portcullis(&all)).fails(1);
        assert!(refused.stderr.contains(error) && refused.stderr.contains(hint), "{issuer}: {}", refused.stderr);
        assert!(!world.dev("").exists(), "{issuer}");
    }
}
