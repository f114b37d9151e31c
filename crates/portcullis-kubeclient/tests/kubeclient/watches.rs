//! Collections that are followed: what is asked after which trouble, and what the follower is told; on a server that answers
//! as it is told, and on a real kube-apiserver.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_kubeclient::{Access, Client, ClientError, Event, Follower, Instant, Part, Resource, follow};
use portcullis_runtime::Rng;
use portcullis_runtime::http_client::ProxyFromEnv;
use portcullis_testkit::ControlPlane;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::server::{Answer, Server};

const WIDGETS: Resource = Resource { group: "example.com", version: "v1", plural: "widgets", namespaced: true };
const LEASES: Resource = Resource { group: "coordination.k8s.io", version: "v1", plural: "leases", namespaced: true };

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn taken(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits, at most for this long, until a line that begins so is among the notes.
    async fn wait_for(&self, wanted: &str, time: Duration) {
        let found = tokio::time::timeout(time, async {
            while !self.taken().iter().any(|line| line.starts_with(wanted)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(found.await.is_ok(), "{wanted:?} is not among {:?}", self.taken());
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

impl Follower<Value> for Notes {
    type Kept = Value;

    fn keep(&mut self, object: Value) -> Option<Value> {
        Some(object)
    }

    fn replace(&mut self, objects: Vec<Value>, version: &str) {
        let names: Vec<&str> = objects.iter().map(name).collect();
        self.note(format!("all at {version}: {}", names.join(" ")));
    }

    fn change(&mut self, event: Event<Value>) {
        self.note(match event {
            Event::Applied(object) => format!("applied {}", name(&object)),
            Event::Deleted(object) => format!("deleted {}", name(&object)),
            Event::Bookmark(version) => format!("bookmark {version}"),
        });
    }

    fn version_of(object: &Value) -> &str {
        object["metadata"]["resourceVersion"].as_str().unwrap()
    }

    fn failed(&mut self, error: &ClientError) {
        self.note(format!("failed: {error}"));
    }
}

/// A stream that goes on after these events, or ends after them.
fn events(lines: &[&str], ends: bool) -> Answer {
    let mut text = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for line in lines {
        text.push_str(&format!("{:x}\r\n{line}\n\r\n", line.len() + 1));
    }
    if ends {
        text.push_str("0\r\n\r\n");
    }
    Answer::Bytes(text)
}

fn list(version: &str, names: &[&str]) -> Answer {
    let items: Vec<Value> =
        names.iter().map(|name| json!({"metadata": {"name": name, "resourceVersion": "1"}})).collect();
    Answer::ok(&json!({"metadata": {"resourceVersion": version}, "items": items}).to_string())
}

const B_APPLIED: &str = r#"{"type":"ADDED","object":{"metadata":{"name":"b","resourceVersion":"6"}}}"#;
const BOOKMARK: &str = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
const A_DELETED: &str = r#"{"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"11"}}}"#;
const FORGOTTEN: &str = r#"{"type":"ERROR","object":{"kind":"Status","message":"too old","code":410}}"#;

#[tokio::test]
async fn a_watch_goes_on_where_it_ended_and_everything_is_listed_anew_when_that_is_forgotten() {
    let folder = tempdir().unwrap();
    let throttled = Answer::new(429, "Retry-After: 1\r\n", r#"{"kind":"Status","code":429}"#);
    let server = Server::start([
        list("5", &["a"]),
        // Ended by the server, broken in the middle of a line, throttled, forgotten in the stream, forgotten at once. Before a
        // watch is begun anew the server is asked how far it is.
        events(&[B_APPLIED, BOOKMARK], true),
        list("9", &["a"]),
        Answer::Broken("HTTP/1.1 200 X\r\nContent-Length: 900\r\n\r\n{\"type\":\"AD".to_owned()),
        list("10", &["a"]),
        throttled,
        events(&[A_DELETED, FORGOTTEN], false),
        list("20", &["b"]),
        // Not ready yet: it is asked again sooner than it asks for.
        Answer::new(503, "Retry-After: 60\r\n", ""),
        Answer::new(410, "", r#"{"kind":"Status","reason":"Expired","code":410}"#),
        list("21", &["b", "c"]),
        events(&[BOOKMARK], false),
    ])
    .await;
    let client = server.client("", folder.path()).await;
    let notes = Notes::default();
    let mut follower = notes.clone();
    let task = tokio::spawn(async move { follow(&client, &WIDGETS, &mut follower).await });
    notes.wait_for("all at 21: b c", Duration::from_secs(20)).await;
    let told: Vec<String> = notes.taken().into_iter().filter(|line| !line.starts_with("failed")).collect();
    assert_eq!(told[..6], ["all at 5: a", "applied b", "bookmark 9", "deleted a", "all at 20: b", "all at 21: b c"]);
    let broken = notes.taken().iter().filter(|line| line.starts_with("failed: the API server did not answer")).count();
    assert_eq!(broken, 1, "{:?}", notes.taken());
    task.abort();
    let asked = server.asked();
    let from: Vec<&str> =
        asked.iter().filter_map(|request| request.split_once("resourceVersion=")?.1.split(['&', ' ']).next()).collect();
    assert_eq!(from[..6], ["5", "9", "9", "9", "20", "20"]);
    for request in asked.iter().filter(|request| request.contains("watch=true")) {
        assert!(request.contains("allowWatchBookmarks=true") && request.contains("timeoutSeconds=3"), "{request}");
    }
}

/// A watch from a version that the server has not come to yet would be silent until it has.
#[tokio::test]
async fn everything_is_listed_anew_when_the_server_has_gone_back_behind_what_was_told() {
    let folder = tempdir().unwrap();
    let server = Server::start([
        list("5", &["a"]),
        events(&[BOOKMARK], true),
        list("8", &["c"]),
        list("8", &["b", "c"]),
        events(&[], false),
    ])
    .await;
    let client = server.client("", folder.path()).await;
    let notes = Notes::default();
    let mut follower = notes.clone();
    let task = tokio::spawn(async move { follow(&client, &WIDGETS, &mut follower).await });
    notes.wait_for("all at 8", Duration::from_secs(20)).await;
    assert_eq!(notes.taken(), ["all at 5: a", "bookmark 9", "all at 8: b c"]);
    task.abort();
    let asked = server.asked();
    assert!(asked[2].contains("limit=1 ") || asked[2].contains("limit=1&"), "{}", asked[2]);
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again_with_longer_pauses() {
    let folder = tempdir().unwrap();
    let mut script: Vec<Answer> = (0..6).map(|_| Answer::new(403, "", r#"{"kind":"Status","code":403}"#)).collect();
    script.push(list("5", &["a"]));
    let server = Server::start(script).await;
    let client = server.client("", folder.path()).await;
    let notes = Notes::default();
    let mut follower = notes.clone();
    let begun = Instant::now();
    let task = tokio::spawn(async move { follow(&client, &WIDGETS, &mut follower).await });
    notes.wait_for("all at 5: a", Duration::from_secs(20)).await;
    // 50 + 100 + 200 + 400 + 500 + 500 ms at least.
    assert!(begun.elapsed() >= Duration::from_millis(1_750), "{:?}", begun.elapsed());
    task.abort();
}

#[tokio::test]
async fn a_line_without_end_is_given_up() {
    let folder = tempdir().unwrap();
    let endless = format!("HTTP/1.1 200 X\r\nContent-Length: 9000000\r\n\r\n{}", "x".repeat(5 * 1024 * 1024));
    let server = Server::start([Answer::Bytes(endless)]).await;
    let client = server.client("", folder.path()).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut watch = client.watch::<Value>(&WIDGETS, "1", Duration::from_secs(60), deadline).await.unwrap();
    assert_eq!(watch.next().await, Err(ClientError::TooLarge { limit: 4 * 1024 * 1024 }));
}

/// Across a restart of the API server, and after etcd has forgotten the versions in between, nothing is missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_collection_is_followed_across_a_restart() {
    let mut plane = ControlPlane::start(&[]).await;
    let access = Access::kubeconfig(&plane.admin_kubeconfig(), ProxyFromEnv::default()).await.unwrap();
    let client = Client::new(access, Rng::system()).unwrap();
    let soon = || Instant::now() + Duration::from_secs(30);
    let lease = |name: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": "me"},
        })
    };
    client.create::<Value>(&LEASES, &lease("first"), soon()).await.unwrap();
    let notes = Notes::default();
    let (mut follower, following) = (notes.clone(), client.clone());
    let task = tokio::spawn(async move { follow(&following, &LEASES, &mut follower).await });
    notes.wait_for("all at ", Duration::from_secs(10)).await;
    client.create::<Value>(&LEASES, &lease("second"), soon()).await.unwrap();
    notes.wait_for("applied second", Duration::from_secs(2)).await;
    let patched: Value = client
        .patch(&LEASES, "second", Part::Whole, &json!({"spec": {"holderIdentity": "you"}}), soon())
        .await
        .unwrap();
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "x"}});
    let refused = client.patch::<Value>(&LEASES, "second", Part::Whole, &stale, soon()).await;
    assert_eq!(refused, Err(ClientError::Conflict));
    plane.restart_apiserver().await;
    let third: Value = client.create(&LEASES, &lease("third"), soon()).await.unwrap();
    notes.wait_for("applied third", Duration::from_secs(5)).await;
    let at = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(at(&patched) < at(&third));
    task.abort();
}
