//! `up --guide` where `document` does not go: who reaches the provider, and whose kubeconfig it is.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::world::{Finished, Running, World, bin, finish, guide, is_free, peers};

/// A free port for the issuer: nothing of ours listens there, so the tests' own choice is good.
fn free_port() -> u16 {
    portcullis_testkit::free_port()
}

struct Guided {
    world: World,
    running: Running,
    port: u16,
}

impl Guided {
    fn start(world: World, arguments: &[&str]) -> Self {
        Self::start_at(free_port(), world, arguments)
    }

    fn start_at(port: u16, world: World, arguments: &[&str]) -> Self {
        let issuer_port = port.to_string();
        let all = [&["up", "--guide", "--port", "0", "--issuer-port", &issuer_port], arguments].concat();
        let mut running = Running::start(&mut world.portcullis(&all));
        running.wait_for("running until Ctrl-C");
        Self { world, running, port }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.world.home().join("dev.kubeconfig")
    }

    fn kubectl(&self, arguments: &[&str]) -> Finished {
        finish(self.world.command(peers().join("kubectl")).args(arguments).env("KUBECONFIG", self.kubeconfig()))
    }

    /// Forwards the provider's port, as step 9 does.
    fn forward(&self) -> Running {
        let ports = format!("{}:5554", self.port);
        let forward = Running::start(
            self.world
                .command(peers().join("kubectl"))
                .args(["port-forward", "service/dex", &ports, "--namespace", "mural-system"])
                .env("KUBECONFIG", self.kubeconfig()),
        );
        crate::world::eventually("the port-forward listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
        forward
    }

    /// The token of the demo user, by the password grant of the guide's values.
    fn token(&self) -> Finished {
        finish(self.world.command(bin().join("kubectl-oidc_login")).args([
            "get-token",
            &format!("--oidc-issuer-url=https://localhost:{}", self.port),
            "--oidc-client-id=kubernetes",
            "--oidc-client-secret=demo-client-secret-change-me",
            "--oidc-extra-scope=email",
            "--grant-type=password",
            &format!("--username={}", crate::world::USER),
            &format!("--password={}", crate::world::PASSWORD),
            "--token-cache-storage=none",
        ]))
    }
}

/// The ports of a process that somebody could connect to.
fn listening(pid: u32) -> Vec<u16> {
    let inodes: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| fs::read_to_string(table).unwrap().lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|row| {
            let fields: Vec<&str> = row.split_whitespace().collect();
            let ours = fields[3] == "0A" && inodes.iter().any(|inode| inode == fields[9]);
            ours.then(|| u16::from_str_radix(fields[1].rsplit(':').next().unwrap(), 16).unwrap())
        })
        .collect()
}

#[test]
fn the_provider_is_reached_through_the_port_forward_alone_and_the_api_server_needs_none() {
    let guided = Guided::start(World::new(), &["--values", &guide("values.yaml")]);
    assert!(is_free(guided.port), "nothing listens on the issuer's port");
    guided.token().fails(1);
    let mut port_forward = guided.forward();
    let credential: serde_json::Value = serde_json::from_str(&guided.token().ok().stdout).unwrap();
    let token = credential["status"]["token"].as_str().unwrap();
    port_forward.signal(Signal::INT);
    crate::world::eventually("the port-forward has ended", || is_free(guided.port));
    let _ended = port_forward.next_line(std::time::Duration::from_secs(1));

    guided.kubectl(&["config", "set-credentials", "nobody"]).ok();
    let arguments =
        ["--user=nobody", "--token", token, "auth", "whoami", "--output", "jsonpath={.status.userInfo.username}"];
    // The API server has never seen a token before: it finds the keys by itself.
    assert_eq!(guided.kubectl(&arguments).ok().stdout, crate::world::USER);
    let refused = guided.token().fails(1);
    assert!(refused.stderr.contains("and the port-forward if it is behind one?"), "{}", refused.stderr);

    // Two listeners: the API server's own, and one for the issuer's two documents, which everybody may see.
    let server = guided.kubectl(&["config", "view", "--output", "jsonpath={.clusters[0].cluster.server}"]).ok().stdout;
    let ports = listening(guided.running.id());
    let others: Vec<&u16> = ports.iter().filter(|port| !server.ends_with(&format!(":{port}"))).collect();
    assert_eq!((ports.len(), others.len()), (2, 1), "{server} {ports:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ca = fs::read(guided.world.dev("ca/ca.pem")).unwrap();
    let ask = |path: &str| {
        let url = format!("https://127.0.0.1:{}{path}", others[0]);
        runtime.block_on(async {
            let roots = portcullis_runtime::http_client::Roots::only_pem(&ca).unwrap();
            let config = portcullis_runtime::http_client::HttpClientConfig { roots, ..Default::default() };
            portcullis_testkit::HttpClient::new(config).unwrap().get(&url, &[]).await.unwrap()
        })
    };
    for path in ["/.well-known/openid-configuration", "/keys", "/token", "/auth", "/", "/x/discovery", "/x/keys"] {
        assert_eq!(ask(path).status, 404, "{path}");
    }
    // The log names the path; who has it from there gets no further than these two.
    let log = fs::read_to_string(guided.world.dev("up.log")).unwrap();
    let uri = log.split("jwks_uri=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap().trim_matches('"');
    let folder = uri.strip_suffix("/keys").and_then(|uri| uri.rsplit('/').next()).unwrap();
    for path in ["token", "auth", "keys/", "keys/../token", "keys/%2e%2e/token", ".well-known/openid-configuration", ""]
    {
        assert_eq!(ask(&format!("/{folder}/{path}")).status, 404, "{path}");
    }
    let json = |path: &str| -> serde_json::Value { serde_json::from_slice(&ask(path).body).unwrap() };
    let document = json(&format!("/{folder}/discovery"));
    assert_eq!(document.as_object().unwrap().len(), 2, "{document}");
    let issuer = format!("https://localhost:{}", guided.port);
    assert_eq!((&document["issuer"], &document["jwks_uri"]), (&issuer.into(), &uri.into()));
    for key in json(&format!("/{folder}/keys"))["keys"].as_array().unwrap() {
        assert!(key["n"].is_string() && key["d"].is_null(), "public keys alone");
    }
}

#[test]
fn a_deleted_service_comes_back_with_the_next_up_and_ports_of_the_pod_change_while_it_runs() {
    let guided = Guided::start(World::new(), &[]);
    let ports = || {
        let path = "jsonpath={range .spec.ports[*]}{.name}:{.port} {end}";
        guided.kubectl(&["get", "service", "dex", "--namespace", "mural-system", "--output", path]).ok().stdout
    };
    assert_eq!(ports(), "https:5554 ");
    guided.kubectl(&["delete", "service", "dex", "--namespace", "mural-system"]).ok();
    finish(&mut guided.world.portcullis(&["up", "--guide"])).ok();
    assert_eq!(ports(), "https:5554 ");
    let pod = || guided.kubectl(&["get", "pods", "--namespace", "mural-system", "--output", "name"]).ok().stdout;
    let before = pod();
    assert!(before.starts_with("pod/dex-") && before.trim().len() == "pod/dex-0123456789-01234".len(), "{before}");
    let second = finish(&mut guided.world.portcullis(&["up", "--guide", "--values", &guide("values.yaml")])).ok();
    let line = "  service        dex has the ports http 5556, https 5554, telemetry 5558";
    assert!(second.stderr.lines().any(|said| said == line), "{}", second.stderr);
    assert!(!second.stderr.contains("restart needed"), "{}", second.stderr);
    assert_eq!((ports().as_str(), pod()), ("http:5556 https:5554 telemetry:5558 ", before));
    let logs = guided.kubectl(&["logs", "--namespace", "mural-system", "--selector", "app.kubernetes.io/name=dex"]);
    assert!(logs.ok().stdout.contains("level="), "the pod logs");
}

#[test]
fn the_kubeconfig_is_the_one_that_kind_would_write_and_no_other_is_touched() {
    let world = World::new();
    let own = world.home().join(".kube");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("config"), "current-context: mine\n").unwrap();
    // A real kind cluster's file is never replaced.
    let foreign =
        "apiVersion: v1\nkind: Config\nclusters:\n- name: kind-dev\n  cluster: {server: 'https://127.0.0.1:1'}\n";
    world.write("dev.kubeconfig", foreign);
    let refused = finish(&mut world.portcullis(&["up", "--guide", "--port", "0"])).fails(1);
    assert!(refused.stderr.contains("dev.kubeconfig already has \"kind-dev\""), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(world.home().join("dev.kubeconfig")).unwrap(), foreign);
    fs::remove_file(world.home().join("dev.kubeconfig")).unwrap();

    let guided = Guided::start(world, &[]);
    let view = |path: &str| guided.kubectl(&["config", "view", "--output", &format!("jsonpath={path}")]).ok().stdout;
    assert_eq!(
        view("{.current-context} {.contexts[*].name} {.contexts[0].context.user}"),
        "kind-dev kind-dev kind-dev"
    );
    assert_eq!(view("{.users[*].name}"), "kind-dev", "nobody signs in yet");
    assert!(!guided.world.dev("kubeconfig").exists());
    // Steps 12 and 14, by hand; a new start makes the administrator the context's user again, as step 4 does.
    let issuer = format!("--exec-arg=--oidc-issuer-url=https://localhost:{}", guided.port);
    let command = ["config", "set-credentials", "oidc", "--exec-command=kubectl", "--exec-arg=oidc-login", &issuer];
    guided.kubectl(&[&command[..], &["--exec-api-version=client.authentication.k8s.io/v1"]].concat()).ok();
    guided.kubectl(&["config", "set-context", "--current", "--user=oidc"]).ok();
    let port = guided.port.to_string();
    let Guided { world, mut running, .. } = guided;
    running.signal(Signal::INT);
    running.wait_for("stopped; ");
    drop(running);
    let mut again =
        Running::start(&mut world.portcullis(&["up", "--guide", "--port", "0", "--issuer-port", port.as_str()]));
    again.wait_for("running until Ctrl-C");
    let guided = Guided { world, running: again, port: port.parse().unwrap() };
    let view = |path: &str| guided.kubectl(&["config", "view", "--output", &format!("jsonpath={path}")]).ok().stdout;
    assert_eq!(view("{.users[*].name} {.contexts[0].context.user}"), "kind-dev oidc kind-dev");
    guided.world.down().ok();
    assert!(!guided.kubeconfig().exists() && !guided.world.dev("").exists());
    assert_eq!(fs::read_to_string(guided.world.home().join(".kube/config")).unwrap(), "current-context: mine\n");
}

#[test]
fn what_is_kept_is_there_after_a_kill_and_the_steps_go_on() {
    let values = guide("values.yaml");
    let arguments = ["--keep-state", "--values", &values];
    let guided = Guided::start(World::new(), &arguments);
    let port = guided.port;
    let binding = ["create", "clusterrolebinding", "oidc-admin-binding", "--clusterrole=cluster-admin"];
    guided.kubectl(&[&binding[..], &[&format!("--user={}", crate::world::USER)]].concat()).ok();
    guided.kubectl(&["create", "namespace", "mine"]).ok();
    let address = ["get", "service", "dex", "--namespace=mural-system", "--output=jsonpath={.spec.clusterIP}"];
    let before = guided.kubectl(&address).ok().stdout;
    let Guided { world, running, .. } = guided;
    running.signal(Signal::KILL);
    drop(running);

    let guided = Guided::start_at(port, world, &arguments);
    guided.kubectl(&["get", "namespace", "mine"]).ok();
    assert_eq!(guided.kubectl(&address).ok().stdout, before, "the service is the same");
    let pods = guided.kubectl(&["get", "pods", "--all-namespaces", "--no-headers"]).ok().stdout;
    assert_eq!(pods.lines().filter(|pod| pod.contains("1/1")).count(), 2, "{pods}");
    assert_eq!(pods.lines().count(), 2, "pods of the process before have gone: {pods}");
    // Steps 8 to 15 with what was kept: the wait, the port-forward, a token, the binding.
    let ready = ["wait", "--for=condition=ready", "pod", "--selector=app.kubernetes.io/name=dex", "--timeout=60s"];
    guided.kubectl(&[&ready[..], &["--namespace=mural-system"]].concat()).ok();
    let forward = guided.forward();
    let credential: serde_json::Value = serde_json::from_str(&guided.token().ok().stdout).unwrap();
    guided.kubectl(&["config", "set-credentials", "nobody"]).ok();
    let token = credential["status"]["token"].as_str().unwrap();
    guided.kubectl(&["--user=nobody", "--token", token, "get", "secrets", "--all-namespaces"]).ok();
    drop(forward);
    // What the user has put into the kubeconfig would stay there, and the file with it.
    guided.kubectl(&["config", "delete-user", "nobody"]).ok();
    guided.world.down().ok();
    assert!(!guided.kubeconfig().exists());
    let left: Vec<_> =
        fs::read_dir(guided.world.state()).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    assert!(!guided.world.state().exists(), "{left:?}");
}
