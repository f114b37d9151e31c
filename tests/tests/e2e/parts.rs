//! Parts that are killed: their pods turn NotReady, count a restart and are ready again, and their logs show it.

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
    eventually("it answers again, with one restart", || {
        let finished = cluster.kubectl(&format!("get pod {name} -n {SYSTEM} -o json"));
        let pod: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
        pod["status"]["containerStatuses"][0]["restartCount"] == 1
    });
    cluster.kubectl(&format!("wait -n {SYSTEM} --for=condition=Ready pod/{name} --timeout=20s")).ok();
    let last = &cluster.pod(SYSTEM)["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&0.into(), &"Completed".into()));
    assert_eq!(cluster.kubectl("get namespace kept -o name").ok().stdout, "namespace/kept\n");
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
