//! `up --issuer`: a provider of the user's own, which `up` has not started, is trusted by the dev API server.

use std::fs;
use std::net::TcpListener;

use portcullis_testkit::TestCa;
use rustix::process::Signal;

use crate::world::{Finished, Running, USER, World, finish};

/// The password of the hash below.
const GOOD: &str = "password";
const HASH: &str = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";

/// A provider that runs, and the file with its authority.
struct Provider {
    issuer: String,
    ca: String,
    port: u16,
    serves: Running,
}

impl Provider {
    /// The same one at the same place, with a certificate of another authority and other keys.
    fn with_a_new_authority(self, world: &World) -> Self {
        self.serves.signal(Signal::TERM);
        self.serves.output();
        provider_on(world, self.port, "new-")
    }
}

fn provider(world: &World) -> Provider {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    provider_on(world, port, "")
}

fn provider_on(world: &World, port: u16, prefix: &str) -> Provider {
    let issuer = format!("https://localhost:{port}/dex");
    let authority = TestCa::default();
    let leaf = authority.server();
    let ca = world.write(&format!("{prefix}issuer-ca.pem"), authority.pem()).display().to_string();
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
    Provider { issuer, ca, port, serves }
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
    assert!(!world.state().exists(), "{}", down.stderr);
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

/// Forgets the token, so that the next command signs in.
fn forget(world: &World) {
    fs::remove_dir_all(world.dev("cache/oidc-login")).unwrap();
}

#[test]
fn a_change_that_cannot_be_written_leaves_everything_as_it_was() {
    let world = World::new();
    let provider = provider(&world);
    let (folder, away) = (world.home().join("kube"), world.home().join("away"));
    fs::create_dir(&folder).unwrap();
    let other = folder.join("config").display().to_string();
    let kubeconfig = ["--kubeconfig", &other];
    let running = up(&world, &arguments(&provider, &[&kubeconfig[..], &["--username-claim=email"]].concat()));
    let before = whoami(&world);
    let files = || ["kubeconfig", "ca/issuer.pem"].map(|file| fs::read_to_string(world.dev(file)).unwrap());
    let (as_they_were, others) = (files(), fs::read_to_string(&other).unwrap());

    // A file stands where the folder of the kubeconfig was.
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "").unwrap();
    let two = format!("{}{}", fs::read_to_string(&provider.ca).unwrap(), TestCa::default().pem());
    let ca = world.write("two.pem", &two).display().to_string();
    let changes = ["--username-claim=name", "--extra-scope=profile"];
    let changed = Provider { ca, ..provider };
    let second = || finish(&mut world.portcullis(&arguments(&changed, &[&kubeconfig[..], &changes].concat())));
    let refused = second().fails(1);
    assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains(&other), "{}", refused.stderr);
    assert!(!refused.stderr.contains("not put back") && !refused.stderr.contains("renewed"), "{}", refused.stderr);
    assert_eq!(files(), as_they_were);
    forget(&world);
    assert_eq!(whoami(&world), before);

    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    assert_eq!(fs::read_to_string(&other).unwrap(), others);
    let done = second().ok();
    assert!(done.stderr.contains(&format!("{other} renewed")), "{}", done.stderr);
    // Claims other than the address are told apart by their issuer.
    assert_eq!(whoami(&world).0, format!("{}#demo", changed.issuer));
    drop(running);
}

#[test]
fn an_authority_that_changed_is_asked_for_and_taken_while_it_runs_and_at_a_start() {
    let world = World::new();
    let old = provider(&world);
    let mut running = up(&world, &arguments(&old, &["--username-claim=email"]));
    let before = whoami(&world);
    let old_ca = old.ca.clone();
    let new = old.with_a_new_authority(&world);
    let with_the_old = Provider { ca: old_ca.clone(), ..new };
    let refused = finish(&mut world.portcullis(&arguments(&with_the_old, &["--username-claim=email"]))).fails(1);
    assert!(
        refused.stderr.contains("hint: name the authority that signed its certificate: --issuer-ca FILE"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read(world.dev("ca/issuer.pem")).unwrap(), fs::read(&old_ca).unwrap());

    let ca = world.home().join("new-issuer-ca.pem").display().to_string();
    let new = Provider { ca, ..with_the_old };
    let taken = finish(&mut world.portcullis(&arguments(&new, &["--username-claim=email"]))).ok();
    assert!(taken.stderr.contains("  api server     oidc-ca-file changed\n"), "{}", taken.stderr);
    assert_eq!(fs::read(world.dev("ca/issuer.pem")).unwrap(), fs::read(&new.ca).unwrap());
    forget(&world);
    assert_eq!(whoami(&world), before, "signed in anew, with the new keys");

    running.signal(Signal::INT);
    running.wait_for("stopped; ");
    drop(running);
    let again = new.with_a_new_authority(&world);
    let running = up(&world, &arguments(&again, &["--username-claim=email"]));
    forget(&world);
    assert_eq!(whoami(&world), before);
    drop(running);
}

#[test]
fn what_is_kept_goes_with_it_but_no_rights_of_another_providers_user() {
    let world = World::new();
    // Our own provider's demo user is cluster-admin, and is called as somebody at the other one is.
    let own = world.up(&["--keep-state"]).ok();
    assert!(own.stderr.contains(&format!("{USER} is cluster-admin")), "{}", own.stderr);
    let provider = provider(&world);
    let all = arguments(&provider, &["--username-claim=email", "--keep-state"]);
    let running = up(&world, &all);
    assert!(running.stderr().contains("portcullis-up-demo, kept from before, is removed"), "{}", running.stderr());
    assert_eq!(whoami(&world).0, USER);
    let pods = ["get", "pods", "--all-namespaces", "--user=oidc"];
    world.kubectl(&pods).fails(1);
    let parts = world.kubectl(&["get", "pods", "--all-namespaces", "--output=name"]).ok();
    assert_eq!(parts.stdout, "pod/portcullis-apiserver-dev-control-plane\n", "the other's pod has gone");
    let user = format!("--user={USER}");
    world.kubectl(&["create", "clusterrolebinding", "mine", "--clusterrole=view", &user]).ok();
    world.kubectl(&pods).ok();
    running.signal(Signal::KILL);
    drop(running);
    let running = up(&world, &all);
    assert!(!running.stderr().contains("portcullis-up-demo"), "{}", running.stderr());
    world.kubectl(&pods).ok();
    drop(running);
}

#[test]
fn a_client_that_the_provider_does_not_know_is_said_and_corrected_while_it_runs() {
    let world = World::new();
    let provider = provider(&world);
    let of = |client: &'static str| {
        [
            "up",
            "--issuer",
            &provider.issuer,
            "--issuer-ca",
            &provider.ca,
            "--client-id",
            client,
            "--username-claim=email",
        ]
    };
    let running = up(&world, &of("lap-top"));
    let doubt =
        "the provider refuses a sign-in by the client \"lap-top\" that comes back to http://localhost:8000 (status 4";
    assert!(running.stderr().contains(doubt), "{}", running.stderr());
    let corrected = [&of("laptop")[..], &["--client-secret=laptop-secret"]].concat();
    let second = finish(&mut world.portcullis(&corrected)).ok();
    assert!(second.stderr.contains("oidc-client-id: \"lap-top\" becomes \"laptop\""), "{}", second.stderr);
    assert!(!second.stderr.contains("refuses a sign-in"), "{}", second.stderr);
    assert_eq!(whoami(&world).0, USER);
    drop(running);
}
