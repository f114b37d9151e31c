//! `--keep-state`: what the dev API server has acknowledged is there after a kill.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::world::{Finished, Running, World, finish};

const WRITERS: usize = 4;
const ROUNDS: u64 = 8;

struct Server<'w> {
    world: &'w World,
    running: Running,
    client: Client<'w>,
}

/// The administrator.
struct Client<'w> {
    world: &'w World,
    kubeconfig: PathBuf,
}

impl Client<'_> {
    fn kubectl(&self, arguments: &[&str]) -> Finished {
        let config = ["--kubeconfig", self.kubeconfig.to_str().unwrap()];
        finish(self.world.command(crate::world::peers().join("kubectl")).args(config).args(arguments))
    }
}

impl<'w> Server<'w> {
    fn start(world: &'w World, arguments: &[&str]) -> Self {
        let all = [&["apiserver", "--secure-port", "0", "--keep-state"], arguments].concat();
        let mut running = Running::start(&mut world.portcullis(&all));
        running.wait_for("Ctrl-C");
        Self { world, running, client: Client { world, kubeconfig: world.dev("kubeconfig") } }
    }

    fn kubectl(&self, arguments: &[&str]) -> Finished {
        self.client.kubectl(arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl(&[arguments, &["-o", "json"]].concat()).ok().stdout).unwrap()
    }

    fn kill(self) {
        self.running.signal(Signal::KILL);
    }
}

/// Id and version of each config map of a namespace.
fn maps(server: &Server<'_>) -> BTreeMap<String, (String, String)> {
    let list = server.json(&["get", "configmaps"]);
    let of = |item: &Value, key: &str| item["metadata"][key].as_str().unwrap().to_owned();
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (of(item, "name"), (of(item, "uid"), of(item, "resourceVersion"))))
        .collect()
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed_while_it_writes() {
    let world = World::new();
    let mut known: BTreeMap<String, (String, String)> = BTreeMap::new();
    // Asked for without an answer: the kill came before it, or between the commit and the answer.
    let mut unanswered: BTreeSet<String> = BTreeSet::new();
    let mut highest = 0_u64;
    let mut token = None;
    for round in 0..ROUNDS {
        let server = Server::start(&world, &[]);
        let there = maps(&server);
        for (name, wanted) in &known {
            assert_eq!(there.get(name), Some(wanted), "{name} after the kill of round {round}");
        }
        adopt(&there, &mut known, &mut unanswered);
        let version: u64 = server.json(&["get", "namespaces"])["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or("0")
            .parse()
            .unwrap_or(0);
        assert!(version == 0 || version >= highest, "{version} after {highest}");
        match &token {
            None => {
                server.kubectl(&["create", "serviceaccount", "robot"]).ok();
                server
                    .kubectl(&[
                        "create",
                        "clusterrolebinding",
                        "robot",
                        "--clusterrole=view",
                        "--serviceaccount=default:robot",
                    ])
                    .ok();
                token = Some(server.kubectl(&["create", "token", "robot"]).ok().stdout.trim().to_owned());
            }
            Some(token) => {
                let who = server.kubectl(&["--user", "nobody", "--token", token, "auth", "whoami"]);
                let who = if who.code == Some(0) { who } else { with_token(&server, token) };
                assert!(who.stdout.contains("system:serviceaccount:default:robot"), "{}{}", who.stdout, who.stderr);
            }
        }
        let (stop, begun) = (AtomicBool::new(false), Instant::now());
        let written: Vec<(Vec<Value>, Option<String>)> = std::thread::scope(|scope| {
            let (client, stop) = (&server.client, &stop);
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn(move || {
                        let mut acknowledged = Vec::new();
                        for number in 0..1_000 {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            let name = format!("map-{round}-{writer}-{number}");
                            let made =
                                client.kubectl(&["create", "configmap", &name, "--from-literal=a=b", "-o", "json"]);
                            if made.code != Some(0) {
                                return (acknowledged, Some(name));
                            }
                            acknowledged.push(serde_json::from_str(&made.stdout).unwrap());
                        }
                        (acknowledged, None)
                    })
                })
                .collect();
            // The kill falls into the middle of the writing, at another moment each time.
            while begun.elapsed() < Duration::from_millis(400 + 73 * round) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            server.running.signal(Signal::KILL);
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let (written, lost): (Vec<_>, Vec<_>) = written.into_iter().unzip();
        unanswered.extend(lost.into_iter().flatten());
        for made in written.into_iter().flatten() {
            let of = |key: &str| made["metadata"][key].as_str().unwrap().to_owned();
            highest = highest.max(of("resourceVersion").parse().unwrap());
            known.insert(of("name"), (of("uid"), of("resourceVersion")));
        }
    }
    assert!(known.len() > 20, "{}", known.len());
    let server = Server::start(&world, &[]);
    let there = maps(&server);
    for (name, wanted) in &known {
        assert_eq!(there.get(name), Some(wanted), "{name}");
    }
    adopt(&there, &mut known, &mut unanswered);
    // A deletion is kept as well, and versions go on.
    let first = known.keys().next().unwrap();
    server.kubectl(&["delete", "configmap", first]).ok();
    let last: u64 = {
        let made = server.json(&["create", "configmap", "last"]);
        made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
    };
    assert!(last > highest);
    server.kill();
    let server = Server::start(&world, &[]);
    let there = maps(&server);
    assert!(!there.contains_key(first) && there.contains_key("last"));
    assert_eq!(there.len(), known.len() + 1 + 1 - 1, "what was asked for, and the authorities");
    let old = server.kubectl(&["get", "--raw", "/api/v1/configmaps?watch=true&resourceVersion=5&timeoutSeconds=2"]);
    assert!(old.stdout.contains("too old resource version"), "{}{}", old.stdout, old.stderr);
}

/// What is there is what was answered, or was asked for when the kill came; whatever was seen once is to stay.
fn adopt(
    there: &BTreeMap<String, (String, String)>,
    known: &mut BTreeMap<String, (String, String)>,
    unanswered: &mut BTreeSet<String>,
) {
    for (name, found) in there.iter().filter(|(name, _)| *name != "kube-root-ca.crt") {
        assert!(known.contains_key(name) || unanswered.contains(name), "nobody asked for {name}");
        known.insert(name.clone(), found.clone());
    }
    unanswered.clear();
}

/// Whoami by token alone: the kubeconfig's administrator would win with its certificate.
fn with_token(server: &Server<'_>, token: &str) -> Finished {
    let config = std::fs::read_to_string(&server.client.kubeconfig).unwrap();
    let line = |key: &str| {
        let found = config.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
        found.trim().to_owned()
    };
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": line("server:"), "certificate-authority-data": line("certificate-authority-data:")}}],
        "users": [{"name": "x", "user": {"token": token}}], "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]});
    let path = server.world.write("token.kubeconfig", &text.to_string());
    finish(server.world.command(crate::world::peers().join("kubectl")).args([
        "--kubeconfig",
        path.to_str().unwrap(),
        "auth",
        "whoami",
    ]))
}

#[test]
fn a_damaged_file_is_named_with_the_way_out_and_two_servers_do_not_share_one() {
    let world = World::new();
    let server = Server::start(&world, &[]);
    let second = finish(&mut world.portcullis(&["apiserver", "--secure-port", "0", "--keep-state"]));
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("already running"), "{}", second.stderr);
    server.kubectl(&["create", "namespace", "kept"]).ok();
    server.kill();
    let file = world.dev("apiserver/objects.db");
    let whole = std::fs::read(&file).unwrap();
    let wal = PathBuf::from(format!("{}-wal", file.display()));
    let log = std::fs::read(&wal).unwrap_or_default();
    std::fs::write(
        &file,
        "this is no database, but it is longer than the header of one would be, by far: one hundred bytes",
    )
    .unwrap();
    let _ = std::fs::remove_file(&wal);
    let damaged = finish(&mut world.portcullis(&["apiserver", "--secure-port", "0", "--keep-state"]));
    assert_eq!(damaged.code, Some(1));
    assert!(damaged.stderr.contains(file.to_str().unwrap()) && damaged.stderr.contains("hint"), "{}", damaged.stderr);
    std::fs::write(&file, whole).unwrap();
    std::fs::write(&wal, log).unwrap();
    let server = Server::start(&world, &[]);
    server.kubectl(&["get", "namespace", "kept"]).ok();
    server.kill();
    // Without the flag the file stays, and is not used.
    let mut without = Running::start(&mut world.portcullis(&["apiserver", "--secure-port", "0"]));
    without.wait_for("Ctrl-C");
    assert!(without.stderr().contains("objects of an earlier --keep-state are there, and stay there"));
    let config = world.dev("kubeconfig");
    let gone = finish(world.command(crate::world::peers().join("kubectl")).args([
        "--kubeconfig",
        config.to_str().unwrap(),
        "get",
        "namespace",
        "kept",
    ]));
    assert_eq!(gone.code, Some(1), "{}", gone.stdout);
}

#[test]
fn up_keeps_bindings_and_namespaces_too() {
    let world = World::new();
    let running = world.up_and_keep(&["--keep-state"]);
    let config = world.dev("kubeconfig");
    let kubectl = |arguments: &[&str]| {
        finish(
            world
                .command(crate::world::peers().join("kubectl"))
                .args(["--kubeconfig", config.to_str().unwrap(), "--context=kind-dev"])
                .args(arguments),
        )
    };
    kubectl(&["create", "namespace", "mine"]).ok();
    running.signal(Signal::KILL);
    drop(running);
    let running = world.up_and_keep(&["--keep-state"]);
    kubectl(&["get", "namespace", "mine"]).ok();
    let pods = kubectl(&["get", "pods", "-A"]).ok();
    assert_eq!(pods.stdout.lines().filter(|line| line.contains("Running")).count(), 2, "{}", pods.stdout);
    drop(running);
}
