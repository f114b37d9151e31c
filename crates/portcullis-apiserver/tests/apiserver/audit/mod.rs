//! The audit log beside that of a real kube-apiserver: the same policies, the same requests, event by event.

mod events;
mod policies;
mod sessions;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_apiserver::{AuditLog, AuditMode, AuditOptions};
use portcullis_runtime::Clock;
use serde_json::Value;

use crate::bench::Bench;

/// How long a log may take to show what was done.
const PATIENCE: Duration = Duration::from_secs(10);

/// The options of a test: a policy in a file, and a log beside it.
fn options(folder: &Path, policy: &str) -> AuditOptions {
    let file = folder.join("policy.yaml");
    std::fs::write(&file, policy).unwrap();
    AuditOptions { policy_file: Some(file), path: Some(folder.join("audit.log")), ..AuditOptions::default() }
}

async fn bench(options: &AuditOptions) -> Bench {
    let audit = AuditLog::open(options, &Clock::system()).unwrap().unwrap();
    Bench::start_with(|config| config.audit = Some(audit)).await
}

/// The events in a log, once `enough` holds of them.
async fn wait_for(path: &PathBuf, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if enough(&events) {
            return events;
        }
        assert!(Instant::now() < deadline, "the log does not become complete: {} events", events.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_lines_and_never_the_server() {
    let folder = portcullis_testkit::temp_dir();
    let full = Path::new("/dev/full");
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
    for (mode, status) in [(AuditMode::Batch, 200), (AuditMode::Blocking, 200), (AuditMode::BlockingStrict, 500)] {
        let options = AuditOptions { path: Some(full.to_owned()), max_size: 0, mode, ..options(folder.path(), policy) };
        let bench = bench(&options).await;
        let client = bench.client(Some(("admin", &["system:masters"])));
        for _ in 0..50 {
            let answer = client.get(&bench.url("/api/v1/namespaces"), &[]).await.unwrap();
            let text = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, status, "{text}");
            assert!(status == 200 || text.contains("failed to store audit event"), "{text}");
        }
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_the_log_is_there_and_empty() {
    let folder = portcullis_testkit::temp_dir();
    let path = folder.path().join("a/b/audit.log");
    let options = AuditOptions { path: Some(path.clone()), ..AuditOptions::default() };
    assert!(AuditLog::open(&options, &Clock::system()).unwrap().is_none());
    assert_eq!(std::fs::read(path).unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_stands_in_the_log() {
    let folder = portcullis_testkit::temp_dir();
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n";
    let options = AuditOptions { mode: AuditMode::Blocking, ..options(folder.path(), policy) };
    let bench = bench(&options).await;
    let headers = [("authorization", "Bearer very.secret.token"), ("cookie", "very=secret"), ("audit-id", "x")];
    let answer = bench.client(None).get(&bench.url("/api/v1/namespaces"), &headers).await.unwrap();
    assert_eq!((answer.status, answer.headers["audit-id"].to_str().unwrap()), (401, "x"));
    let log = folder.path().join("audit.log");
    wait_for(&log, |events| !events.is_empty()).await;
    assert!(!std::fs::read_to_string(&log).unwrap().contains("secret"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_too_large_lose_their_objects() {
    let folder = portcullis_testkit::temp_dir();
    let policy =
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: RequestResponse}]\n";
    let options = AuditOptions {
        truncate_enabled: true,
        truncate_max_event_size: 1_200,
        mode: AuditMode::Blocking,
        ..options(folder.path(), policy)
    };
    let bench = bench(&options).await;
    let client = bench.client(Some(("admin", &["system:masters"])));
    for (path, agent) in
        [("/api/v1/namespaces", "a"), ("/api/v1/namespaces/default", "b"), ("/api", &"c".repeat(1_100))]
    {
        client.get(&bench.url(path), &[("user-agent", agent)]).await.unwrap();
    }
    let events = wait_for(&folder.path().join("audit.log"), |events| events.len() == 2).await;
    assert_eq!(events[0]["annotations"]["audit.k8s.io/truncated"], "true");
    assert!(events[0].get("responseObject").is_none());
    assert_eq!(events[1]["responseObject"]["metadata"]["name"], "default");
    bench.stop().await;
}
