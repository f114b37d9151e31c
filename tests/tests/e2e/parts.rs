//! Parts that are killed: their pods turn NotReady, count a restart and are ready again, and their logs show it.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_runtime::{Clock, Timestamp};
use rustix::process::Signal;
use serde_json::Value;

use crate::clients::python;
use crate::world::{Finished, Running, World, eventually, finish, peers};

/// The provider's namespace and the API server's, under `--guide`.
const MURAL: &str = "mural-system";
const SYSTEM: &str = "kube-system";

struct Cluster {
    world: World,
    up: Running,
}

impl Cluster {
    fn start() -> Self {
        let world = World::new();
        let mut up = Running::start(&mut world.portcullis(&["up", "--guide", "--port", "0", "--issuer-port", "0"]));
        up.wait_for("Ctrl-C");
        Self { world, up }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.world.command(peers().join("kubectl"));
        command.args(line.split(' ')).env("KUBECONFIG", self.world.home().join("dev.kubeconfig"));
        command
    }

    fn kubectl(&self, line: &str) -> Finished {
        finish(&mut self.command(line))
    }

    fn pod(&self, namespace: &str) -> Value {
        let finished = self.kubectl(&format!("get pods -n {namespace} -o json")).ok();
        let pods: Value = serde_json::from_str(&finished.stdout).unwrap();
        let parts = pods["items"].as_array().unwrap();
        let part = |pod: &&Value| pod["metadata"]["annotations"]["portcullis.dev/part"] == "in-process";
        parts.iter().find(part).unwrap().clone()
    }

    fn name(&self, namespace: &str) -> String {
        self.pod(namespace)["metadata"]["name"].as_str().unwrap().to_owned()
    }

    /// Where the API server listens.
    fn address(&self) -> SocketAddr {
        let text = std::fs::read_to_string(self.world.home().join("dev.kubeconfig")).unwrap();
        text.split_whitespace().find_map(|word| word.strip_prefix("https://")).unwrap().parse().unwrap()
    }

    fn api_server_is_back(&self, name: &str) {
        eventually("it answers again, with one restart", || {
            let finished = self.kubectl(&format!("get pod {name} -n {SYSTEM} -o json"));
            let pod: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
        });
        self.kubectl(&format!("wait -n {SYSTEM} --for=condition=Ready pod/{name} --timeout=20s")).ok();
    }

    fn end(self) {
        self.up.signal(Signal::INT);
        assert!(self.up.output().status.success());
    }
}

/// Everything that a watch of the pod has shown: ready, restarts, and the state's kind.
fn seen(watched: &str) -> Vec<(bool, u64, String)> {
    let stream = serde_json::Deserializer::from_str(watched).into_iter::<Value>();
    let pods = stream.map_while(Result::ok).map(|pod| {
        let container = &pod["status"]["containerStatuses"][0];
        let ready = pod["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
        let state = container["state"].as_object().unwrap().keys().next().unwrap().clone();
        (ready["status"] == "True", container["restartCount"].as_u64().unwrap(), state)
    });
    pods.collect()
}

/// When the pod turned NotReady first, by its own account.
fn not_ready_since(watched: &str) -> Timestamp {
    let pods = serde_json::Deserializer::from_str(watched).into_iter::<Value>().map_while(Result::ok);
    let ready = |pod: Value| pod["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "Ready").cloned();
    let lost = pods.filter_map(ready).find(|ready| ready["status"] == "False").unwrap();
    Timestamp::parse_rfc3339(lost["lastTransitionTime"].as_str().unwrap()).unwrap()
}

#[test]
fn a_killed_provider_turns_not_ready_counts_a_restart_and_its_logs_show_it_coming_back() {
    let cluster = Cluster::start();
    let name = cluster.name(MURAL);
    let before = cluster.pod(MURAL);
    // At this verbosity kubectl says when a request is answered: nothing that comes later is missed.
    let mut watching = Running::start(&mut cluster.command(&format!("get pod {name} -n {MURAL} -w -o json -v 6")));
    let mut following = Running::start(&mut cluster.command(&format!("logs -f -n {MURAL} {name} -v 6")));
    watching.wait_for("watch=true");
    following.wait_for("follow=true");
    let killed = Instant::now();
    cluster.kubectl(&format!("exec -n {MURAL} {name} -- kill -9 1")).ok();
    let gone = Clock::system().now();
    eventually("one restart", || cluster.pod(MURAL)["status"]["containerStatuses"][0]["restartCount"] == 1);
    cluster.kubectl(&format!("wait -n {MURAL} --for=condition=Ready pod/{name} --timeout=20s")).ok();
    assert!(killed.elapsed() < Duration::from_secs(20));

    let after = cluster.pod(MURAL);
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "the pod is the same");
    let last = &after["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&137.into(), &"Error".into()));
    watching.signal(Signal::INT);
    let watched = String::from_utf8(watching.output().stdout).unwrap();
    let steps = seen(&watched);
    let ended = steps.iter().position(|step| *step == (false, 0, "terminated".to_owned()));
    let back = steps.iter().position(|step| *step == (true, 1, "running".to_owned()));
    assert!(ended.is_some() && ended < back, "{steps:?}");
    let since = not_ready_since(&watched);
    assert!(since <= gone + Duration::from_secs(2), "NotReady since {since:?}, killed before {gone:?}");

    let described = cluster.kubectl(&format!("describe pod {name} -n {MURAL}")).ok().stdout;
    for part in [
        "Last State:     Terminated",
        "Exit Code:    137",
        "Restart Count:  1",
        "Stopping container",
        "Container started",
    ] {
        assert!(described.contains(part), "{part}\n{described}");
    }
    let started = "the provider has started";
    let current = cluster.kubectl(&format!("logs -n {MURAL} {name}")).ok().stdout;
    let previous = cluster.kubectl(&format!("logs -p -n {MURAL} {name}")).ok().stdout;
    assert_eq!((current.matches(started).count(), previous.matches(started).count()), (1, 1), "{current}\n{previous}");
    following.signal(Signal::INT);
    let followed = String::from_utf8(following.output().stdout).unwrap();
    assert_eq!(followed.matches(started).count(), 2, "it is followed over the new start: {followed}");
    cluster.end();
}

#[test]
fn a_killed_api_server_comes_back_with_what_it_held() {
    let cluster = Cluster::start();
    let name = cluster.name(SYSTEM);
    cluster.kubectl("create namespace kept").ok();
    // The answer may be lost with the server.
    let _lost = cluster.kubectl(&format!("exec -n {SYSTEM} {name} -- kill 1"));
    cluster.api_server_is_back(&name);
    let last = &cluster.pod(SYSTEM)["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&0.into(), &"Completed".into()));
    assert_eq!(cluster.kubectl("get namespace kept -o name").ok().stdout, "namespace/kept\n");
    // What it does in the background goes on too: somebody empties the namespace.
    cluster.kubectl("create configmap inside -n kept").ok();
    cluster.kubectl("delete namespace kept --timeout=30s").ok();
    cluster.end();
}

#[test]
fn a_killed_api_server_is_seen_to_be_gone_and_back_and_its_pod_tells_that_it_was_not_ready() {
    let cluster = Cluster::start();
    let name = cluster.name(SYSTEM);
    let before = cluster.pod(SYSTEM);
    let address = cluster.address();
    let mut watching = Running::start(&mut cluster.command(&format!("get pod {name} -n {SYSTEM} -w -v 6")));
    watching.wait_for("watch=true");
    let killed = Instant::now();
    let kill = Clock::system().now();
    let kill_it = Running::start(&mut cluster.command(&format!("exec -n {SYSTEM} {name} -- kill -9 1")));
    // A client sees it: nobody listens, and a watch ends.
    eventually("nobody listens", || TcpStream::connect(address).is_err());
    assert!(killed.elapsed() < Duration::from_secs(2), "gone after {:?}", killed.elapsed());
    kill_it.signal(Signal::KILL);
    watching.output();
    cluster.api_server_is_back(&name);
    assert!(killed.elapsed() < Duration::from_secs(20), "back after {:?}", killed.elapsed());

    // Its pod's watch, from before: not ready within two seconds, then ready again with one restart.
    let path = format!(
        "/api/v1/namespaces/{SYSTEM}/pods?watch=1&timeoutSeconds=1&fieldSelector=metadata.name={name}&resourceVersion={}",
        before["metadata"]["resourceVersion"].as_str().unwrap()
    );
    let mut raw = cluster.command("get --raw");
    let told = finish(raw.arg(path)).ok().stdout;
    let pods: String =
        told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["object"].to_string()).collect();
    let steps = seen(&pods);
    let ended = steps.iter().position(|step| *step == (false, 0, "terminated".to_owned()));
    let back = steps.iter().position(|step| *step == (true, 1, "running".to_owned()));
    assert!(ended.is_some() && ended < back, "{steps:?}");
    let since = not_ready_since(&pods);
    assert!(since <= kill + Duration::from_secs(2), "NotReady since {since:?}, killed at {kill:?}");
    let after = cluster.pod(SYSTEM);
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "the pod is the same");
    let last = &after["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&137.into(), &"Error".into()));
    cluster.end();
}

#[test]
fn the_python_client_forwards_a_port_reads_the_log_and_kills_a_part() {
    let cluster = Cluster::start();
    let name = cluster.name(MURAL);
    let mut command = cluster.world.command(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/parts.py"));
    command.arg(cluster.world.home().join("dev.kubeconfig")).args([MURAL, &name, "5554"]);
    let seen: Value = serde_json::from_str(&finish(&mut command).ok().stdout).unwrap();
    let text = |key: &str| seen[key].as_str().unwrap_or_default().to_owned();
    assert!(text("answer").starts_with("HTTP/1.1 200 OK") && text("answer").ends_with("Health check passed"), "{seen}");
    assert!(seen["error"].is_null() && text("refused").ends_with("connect: connection refused"), "{seen}");
    assert!(text("log").contains("the provider has started") && text("exec").is_empty(), "{seen}");
    eventually("one restart", || cluster.pod(MURAL)["status"]["containerStatuses"][0]["restartCount"] == 1);
    cluster.end();
}
