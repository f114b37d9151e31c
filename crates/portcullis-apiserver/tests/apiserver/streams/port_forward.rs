//! `kubectl port-forward`, over WebSocket and over plain SPDY.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_apiserver::{Part, PartPort};
use portcullis_testkit::{ChildGuard, Peer, peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::{Echo, LAST, exchange, pattern};
use crate::bench::{Bench, dex};

/// Bounds every wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// The two ways of kubectl: SPDY inside WebSocket messages, and plain SPDY.
const WAYS: [&str; 2] = ["true", "false"];

pub(super) fn part(ports: Vec<PartPort>) -> Part {
    Part { ports, ..dex() }
}

/// A `kubectl port-forward` that runs.
pub(super) struct Forward {
    pub(super) child: ChildGuard,
    pub(super) port: u16,
}

impl Forward {
    /// Starts it and waits until it listens. `way` is what `KUBECTL_PORT_FORWARD_WEBSOCKETS` says.
    pub(super) async fn start(bench: &Bench, kubeconfig: &Path, way: &str, target: &str) -> Self {
        let mut child = spawn(bench, kubeconfig, way, target);
        let port = wait(|| {
            assert!(child.ended().is_none(), "kubectl ended: {}", child.tail());
            let output = child.output();
            let rest = output.split_once("Forwarding from 127.0.0.1:")?.1;
            rest.split_once(" -> ")?.0.parse().ok()
        })
        .await;
        Self { child, port }
    }

    /// What it has said when it has said `text`.
    async fn said(&self, text: &str) -> String {
        wait(|| Some(self.child.output()).filter(|output| output.contains(text))).await
    }
}

fn spawn(bench: &Bench, kubeconfig: &Path, way: &str, target: &str) -> ChildGuard {
    let mut command = Command::new(peer(Peer::Kubectl));
    command.env_clear().env("HOME", bench.folder.path()).env("KUBECONFIG", kubeconfig);
    command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", way);
    command.args(["port-forward", "-n", "mural-system", "--address", "127.0.0.1"]).args(target.split(' '));
    let name = format!("forward-{way}-{}", target.replace(['/', ':', ' '], "-"));
    ChildGuard::spawn(&name, bench.folder.path(), &mut command)
}

pub(super) async fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "it does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn with_last(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(LAST);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_in_any_number_and_in_parallel() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let echo = Echo::start().await;
    bench.running.seed().part(&part(vec![PartPort::inside("https", 5554, echo.addr)])).unwrap();
    for way in WAYS {
        let forward = Forward::start(&bench, &admin, way, "pod/dex-0 :5554").await;
        assert_eq!(exchange(forward.port, b"hello".to_vec()).await, b"hello.");
        assert_eq!(exchange(forward.port, Vec::new()).await, b".", "an empty half close is passed on");
        let large = pattern(1, 50 << 20);
        let back = tokio::time::timeout(PATIENCE, exchange(forward.port, large.clone())).await.unwrap();
        assert!(back == with_last(large), "{way}: 50 MB came back changed, {} bytes", back.len());
        let many = (0..20).map(|seed| {
            let (port, bytes) = (forward.port, pattern(seed, 300_000 + seed));
            tokio::spawn(async move { exchange(port, bytes.clone()).await == with_last(bytes) })
        });
        for one in many.collect::<Vec<_>>() {
            assert!(tokio::time::timeout(PATIENCE, one).await.unwrap().unwrap(), "{way}");
        }
        wait(|| (echo.open() == 0).then_some(())).await;
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_memory_is_reached_through_its_pod_and_a_service_that_the_process_makes() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let dial = Arc::new(|| {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            theirs.write_all(&with_last(all)).await.unwrap();
        });
        Some(ours)
    });
    bench.running.seed().part(&part(vec![PartPort::in_process("https", 5554, dial)])).unwrap();
    let service = |port: u16| {
        let ports = serde_json::json!([{"name": "https", "port": port, "targetPort": "https"}]);
        let service = serde_json::json!({"metadata": {"name": "own"}, "spec": {"ports": ports,
            "selector": {"app.kubernetes.io/name": "dex"}}});
        bench.running.seed().service("mural-system", service).unwrap();
    };
    service(443);
    for way in WAYS {
        let forward = Forward::start(&bench, &admin, way, "service/own :443").await;
        assert_eq!(exchange(forward.port, b"in memory".to_vec()).await, b"in memory.");
        let large = pattern(3, 3 << 20);
        assert!(exchange(forward.port, large.clone()).await == with_last(large), "{way}");
    }
    let get = |path: &'static str| {
        let arguments = ["get", "service", "own", "--namespace", "mural-system", "--output", path];
        let (bench, admin) = (&bench, &admin);
        async move { String::from_utf8(bench.kubectl(admin, &arguments).await.stdout).unwrap() }
    };
    let address = get("jsonpath={.spec.clusterIP}").await;
    assert!(address.starts_with("10."), "{address}");
    service(8443);
    assert_eq!(get("jsonpath={.spec.ports[*].port} {.spec.clusterIP}").await, format!("8443 {address}"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_the_part_that_it_selects() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let echo = Echo::start().await;
    bench.running.seed().part(&part(vec![PartPort::inside("https", 5554, echo.addr)])).unwrap();
    let service = bench.folder.path().join("service.yaml");
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: dex, namespace: mural-system}\nspec:\n  selector: {app.kubernetes.io/name: dex}\n  ports: [{name: https, port: 443, targetPort: https}]\n";
    std::fs::write(&service, text).unwrap();
    let made = bench.kubectl(&admin, &["create", "-f", "service.yaml"]).await;
    assert!(made.status.success(), "{made:?}");
    let forward = Forward::start(&bench, &admin, "true", "service/dex :443").await;
    assert_eq!(exchange(forward.port, b"through the service".to_vec()).await, b"through the service.");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_declared_ports_are_reached() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let (echo, hidden) = (Echo::start().await, Echo::start().await);
    let gone = portcullis_testkit::free_port();
    let ports = vec![
        PartPort::inside("https", 5554, echo.addr),
        PartPort::inside("gone", 5555, ([127, 0, 0, 1], gone).into()),
        PartPort::inside("outside", 5556, ([192, 0, 2, 1], 80).into()),
    ];
    bench.running.seed().part(&part(ports)).unwrap();
    let hidden_port = hidden.addr.port();
    for way in WAYS {
        // One that listens on loopback and is no part's, one where nobody listens, and one that is not on this machine.
        for port in [hidden_port, 5555, 5556] {
            let mut forward = Forward::start(&bench, &admin, way, &format!("pod/dex-0 :{port}")).await;
            assert_eq!(exchange(forward.port, Vec::new()).await, b"", "{port}");
            let said = forward.said("lost connection to pod").await;
            let why = format!("failed to connect to localhost:{port} inside namespace \\\"dex-0\\\"");
            assert!(said.contains(&why) && said.contains("connect: connection refused"), "{said}");
            assert!(said.contains(&format!("error forwarding port {port} to pod dex-0")), "{said}");
            wait(|| forward.child.ended()).await;
        }
    }
    assert_eq!(hidden.open(), 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_side_hears_of_the_others_end() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    for way in WAYS {
        let echo = Echo::start().await;
        bench.running.seed().part(&part(vec![PartPort::inside("https", 5554, echo.addr)])).unwrap();
        let mut forward = Forward::start(&bench, &admin, way, "pod/dex-0 :5554").await;
        let mut stream = open(forward.port).await;
        wait(|| (echo.open() == 1).then_some(())).await;
        forward.child.kill();
        wait(|| (echo.open() == 0).then_some(())).await;
        let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 8])).await.unwrap();
        assert!(end.map_or(true, |read| read == 0));

        let mut forward = Forward::start(&bench, &admin, way, "pod/dex-0 :5554").await;
        let mut stream = open(forward.port).await;
        echo.kill();
        let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 8])).await.unwrap();
        assert!(end.map_or(true, |read| read == 0));
        // The pod is gone for good: its port-forwards end, and kubectl says so.
        assert!(bench.running.seed().remove_part("mural-system", "dex-0"));
        forward.said("lost connection to pod").await;
        let status = wait(|| forward.child.ended()).await;
        assert!(!status.success());
    }
    bench.stop().await;
}

/// A connection that has got something through.
pub(super) async fn open(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let mut back = [0];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"x");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_forward_ends_with_the_server() {
    let bench = Bench::start().await;
    let admin = bench.kubeconfig("admin", &["system:masters"]);
    let echo = Echo::start().await;
    bench.running.seed().part(&part(vec![PartPort::inside("https", 5554, echo.addr)])).unwrap();
    let mut forwards = Vec::new();
    for way in WAYS {
        let forward = Forward::start(&bench, &admin, way, "pod/dex-0 :5554").await;
        let stream = open(forward.port).await;
        forwards.push((forward, stream));
    }
    let stopped = tokio::time::timeout(Duration::from_secs(5), bench.stop_keeping_files()).await;
    let _logs = stopped.expect("streams hold up the end");
    wait(|| (echo.open() == 0).then_some(())).await;
    for (mut forward, _stream) in forwards {
        forward.said("lost connection to pod").await;
        wait(|| forward.child.ended()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_the_right_to_create_and_a_pod_that_runs() {
    let bench = Bench::start().await;
    let (admin, jane) = (bench.kubeconfig("admin", &["system:masters"]), bench.kubeconfig("jane", &["devs"]));
    let echo = Echo::start().await;
    bench.running.seed().part(&part(vec![PartPort::inside("https", 5554, echo.addr)])).unwrap();
    let admin_does = async |line: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        let output = bench.kubectl(&admin, &args).await;
        assert!(output.status.success(), "{line}: {output:?}");
    };
    admin_does("create role look -n mural-system --verb=get,list --resource=pods,pods/portforward").await;
    admin_does("create rolebinding look -n mural-system --role=look --user=jane").await;
    for way in WAYS {
        let mut child = spawn(&bench, &jane, way, "pod/dex-0 :5554");
        let status = wait(|| child.ended()).await;
        assert!(!status.success() && child.output().contains("forbidden"), "{}", child.output());
    }
    admin_does("create role reach -n mural-system --verb=create --resource=pods/portforward").await;
    admin_does("create rolebinding reach -n mural-system --role=reach --user=jane").await;
    for way in WAYS {
        let forward = Forward::start(&bench, &jane, way, "pod/dex-0 :5554").await;
        assert_eq!(exchange(forward.port, b"jane".to_vec()).await, b"jane.");
    }
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: mural-system}\nspec: {containers: [{name: c, image: i}]}\n";
    std::fs::write(bench.folder.path().join("pod.yaml"), pod).unwrap();
    admin_does("create -f pod.yaml").await;
    let mut child = spawn(&bench, &admin, "true", "pod/web :80");
    wait(|| child.ended()).await;
    assert_eq!(child.output(), "error: unable to forward port because pod is not running. Current status=Pending\n");
    bench.stop().await;
}
