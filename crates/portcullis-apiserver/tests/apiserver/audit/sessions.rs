//! Events of requests that leave HTTP or last: exec, port-forward and logs of a pod. The kubelet of the real server's node is
//! played by this test, as far as that server asks it: it agrees to every upgrade, and a log has one line.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_apiserver::{AuditMode, AuditOptions, Part};
use portcullis_runtime::LogRing;
use portcullis_testkit::{ControlPlane, Leaf, TestCa};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::events::{by_request, difference};
use super::{PATIENCE, bench, options, wait_for};
use crate::bench::dex;
use crate::tls::{Connector, identity};

const POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitManagedFields: true\nrules: [{level: RequestResponse}]\n";
const PODS: &str = "/api/v1/namespaces/mural-system/pods";

const EXEC: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
const FORWARD: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n";
const SOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n";

/// What is asked, behind the pods' path; headers; the answer's code.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("POST /dex-0/exec?command=kill&command=1&stdout=true", EXEC, "101"),
    ("GET /dex-0/exec?command=kill&command=1&stdout=true&container=dex", SOCKET, "101"),
    ("POST /dex-0/portforward", FORWARD, "101"),
    ("GET /dex-0/portforward?ports=5554", SOCKET, "101"),
    ("GET /dex-0/log", "", "200"),
    ("GET /dex-0/log?follow=true&tailLines=1", "", "200"),
    ("GET /dex-0/log?follow=true&container=other", "", "400"),
    ("GET /dex-0/log?tailLines=-1", "", "422"),
    ("POST /dex-0/exec?command=kill&stdout=true&container=other", EXEC, "400"),
    ("POST /dex-0/exec?command=kill&stdout=true&dryRun=All", EXEC, "400"),
    ("POST /waiting/exec?command=kill&command=1&stdout=true", EXEC, "400"),
    ("POST /waiting/portforward", FORWARD, "400"),
    ("GET /waiting/portforward?ports=80", SOCKET, "400"),
    ("GET /waiting/log?follow=true", "", "204"),
    ("POST /gone/exec?command=kill&stdout=true", EXEC, "404"),
    ("POST /gone/portforward", FORWARD, "404"),
    ("GET /gone/log?follow=true", "", "404"),
];

/// A server under test: where it is, and who asks.
struct Side<'a> {
    port: u16,
    ca: &'a TestCa,
    user: Leaf,
}

impl Side<'_> {
    /// Sends a request, reads the beginning of the answer, of a log its first line, and goes; the status code.
    async fn ask(&self, id: &str, (request, headers, _): &(&str, &str, &str)) -> String {
        let mut stream = Connector::new(self.port, self.ca, Some(&self.user)).connect().await;
        let (method, path) = request.split_once(' ').unwrap();
        let head = format!(
            "{method} {PODS}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: test\r\nAudit-Id: {id}\r\nContent-Length: 0\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let wanted = if request.contains("/dex-0/log") { "one\n" } else { "\r\n\r\n" };
        let answer = read_until(&mut stream, &[wanted, "Failure"]).await;
        let _gone_first = stream.shutdown().await;
        answer.split(' ').nth(1).unwrap().to_owned()
    }
}

/// What came when one of the texts was in it, or at the end.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), texts: &[&str]) -> String {
    let (mut all, mut piece) = (String::new(), [0; 4096]);
    let reading = async {
        while !texts.iter().any(|text| all.contains(text)) {
            match stream.read(&mut piece).await {
                Ok(count) if count > 0 => all.push_str(&String::from_utf8_lossy(&piece[..count])),
                _ => break,
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    all
}

/// The kubelet: its port, and the tasks that are it.
async fn kubelet(ca: &TestCa) -> (u16, JoinSet<()>) {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let (chain, key) = identity(&ca.server());
    let config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let head = read_until(&mut stream, &["\r\n\r\n"]).await;
                let agreed: String = head
                    .lines()
                    .filter(|line| {
                        let name = line.split(':').next().unwrap_or_default().to_lowercase();
                        ["connection", "upgrade", "x-stream-protocol-version"].contains(&name.as_str())
                    })
                    .map(|line| format!("{line}\r\n"))
                    .collect();
                let answer = if agreed.to_lowercase().contains("upgrade:") {
                    format!("HTTP/1.1 101 Switching Protocols\r\n{agreed}\r\n")
                } else {
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\none\n".to_owned()
                };
                let _broken = stream.write_all(answer.as_bytes()).await;
                if answer.contains(" 101 ") || head.contains("follow=true") {
                    // Until whoever asked goes.
                    let _broken = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                }
                let _broken = stream.shutdown().await;
            });
        }
    });
    (port, tasks)
}

async fn create(plane: &ControlPlane, path: &str, object: Value) {
    let url = format!("{}{path}", plane.url());
    let headers = [("content-type", "application/json")];
    let body = Some(object.to_string().into());
    let answer = plane.admin_client().request("POST".parse().unwrap(), &url, &headers, body).await.unwrap();
    assert_eq!(answer.status, 201, "{path}: {}", String::from_utf8_lossy(&answer.body));
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "dex", "image": "portcullis"}]}})
}

/// Whether the last stage of every request is there.
fn complete(events: &[Value]) -> bool {
    let ended = events.iter().filter(|event| {
        let id = event["auditID"].as_str().unwrap_or_default();
        event["stage"] == "ResponseComplete" && id.starts_with("request-")
    });
    ended.count() >= REQUESTS.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_http_or_lasts_begins_and_ends_in_the_log_as_a_real_servers() {
    let folder = portcullis_testkit::temp_dir();
    let ours_options = AuditOptions { mode: AuditMode::Blocking, ..options(folder.path(), POLICY) };
    let real_log = folder.path().join("real.log");
    let flags = [
        format!("--audit-policy-file={}", folder.path().join("policy.yaml").display()),
        format!("--audit-log-path={}", real_log.display()),
        "--audit-log-mode=blocking-strict".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ];
    let plane = ControlPlane::start(&flags).await;
    crate::differential::settled(&plane).await;
    let (kubelet_port, _kubelet) = kubelet(plane.ca()).await;
    create(&plane, "/api/v1/namespaces", json!({"metadata": {"name": "mural-system"}})).await;
    let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}}});
    create(&plane, "/api/v1/nodes", json!({"metadata": {"name": "node"}, "status": status})).await;
    let mut bound = pod("dex-0");
    bound["spec"]["nodeName"] = json!("node");
    create(&plane, PODS, bound).await;
    create(&plane, PODS, pod("waiting")).await;

    let bench = bench(&ours_options).await;
    let logs = LogRing::default();
    logs.push("one");
    let part = Part { labels: BTreeMap::new(), logs, ..dex() };
    bench.running.seed().part(&part).unwrap();
    let admin = bench.client(Some(("admin", &["system:masters"])));
    let headers = [("content-type", "application/json")];
    let body = Some(pod("waiting").to_string().into());
    let made = admin.request("POST".parse().unwrap(), &bench.url(PODS), &headers, body).await.unwrap();
    assert_eq!(made.status, 201);

    let masters: &[&str] = &["system:masters"];
    let real = Side { port: plane.port(), ca: plane.ca(), user: plane.ca().client("admin", masters) };
    let port = bench.running.addr().port();
    let ours = Side { port, ca: &bench.ca, user: bench.ca.client("admin", masters) };
    for (number, asked) in REQUESTS.iter().enumerate() {
        let id = format!("request-{number}");
        let codes = (real.ask(&id, asked).await, ours.ask(&id, asked).await);
        assert_eq!(codes, (asked.2.to_owned(), asked.2.to_owned()), "{}", asked.0);
    }
    let theirs = by_request(wait_for(&real_log, complete).await, plane.url());
    let ours = by_request(wait_for(&folder.path().join("audit.log"), complete).await, &bench.url(""));
    bench.stop().await;
    let mut wrong = Vec::new();
    for (number, (request, _, code)) in REQUESTS.iter().enumerate() {
        let (theirs, ours) = (theirs.get(&number), ours.get(&number));
        if theirs != ours {
            wrong.push(format!("== {number} {request}\n{}", difference(theirs, ours)));
        }
        let stages = ["RequestReceived", "ResponseStarted", "ResponseComplete"];
        let ours = ours.unwrap();
        let in_order = ours.iter().zip(stages).all(|(event, stage)| event.contains(stage));
        assert!(ours.len() == stages.len() && in_order, "{request} {code}: {ours:?}");
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), REQUESTS.len(), wrong.join("\n"));
}
