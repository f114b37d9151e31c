//! The same random changes to a real kube-apiserver and to ours, seen by watches of every sort: the events must be the same, in
//! the same order, whether they come as they happen, after a pause, or all at once afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_runtime::http_client::HttpClient;
use portcullis_testkit::ControlPlane;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::bench::Bench;
use crate::differential::{make_namespace, scrub, started};
use crate::rbac::Dice;

const NAMESPACES: [&str; 2] = ["seen-a", "seen-b"];
const STEPS: usize = 320;
/// How often a watch is begun again until it has seen the end.
const ROUNDS: usize = 200;
/// What ends the history, in each collection that is watched.
const END: &str = "the-end";

/// What is watched: name, path, further query, `Accept`.
type Watch = (&'static str, &'static str, &'static str, &'static str);

const WATCHES: &[Watch] = &[
    ("everything", "/api/v1/configmaps", "", "*/*"),
    ("one namespace", "/api/v1/namespaces/seen-a/configmaps", "", "application/json;stream=watch"),
    ("a label", "/api/v1/configmaps", "labelSelector=a%3D1", ""),
    ("a set of labels", "/api/v1/configmaps", "labelSelector=a+in+(1,2),!b", ""),
    ("a label that is not", "/api/v1/namespaces/seen-b/configmaps", "labelSelector=a!%3D1,b", ""),
    ("a name", "/api/v1/namespaces/seen-a/configmaps", "fieldSelector=metadata.name%3Dn1", ""),
    ("all but a name", "/api/v1/configmaps", "fieldSelector=metadata.name!%3Dn1", ""),
    ("a namespace by field", "/api/v1/configmaps", "fieldSelector=metadata.namespace%3Dseen-b", ""),
    ("the old path", "/api/v1/watch/namespaces/seen-a/configmaps", "", ""),
    ("the old path of one", "/api/v1/watch/namespaces/seen-a/configmaps/n2", "", ""),
    ("a type of secret", "/api/v1/secrets", "fieldSelector=type%3Dexample.com/x", ""),
    ("pods by phase", "/api/v1/pods", "fieldSelector=status.phase%3DRunning", ""),
    ("pods by node and label", "/api/v1/pods", "fieldSelector=spec.nodeName%3Dn&labelSelector=a", ""),
    ("pods as a table", "/api/v1/pods", "", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
    (
        "a table with objects",
        "/apis/apps/v1/deployments",
        "includeObject=Object",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    ),
    (
        "a table without",
        "/apis/apps/v1/namespaces/seen-a/deployments",
        "includeObject=None&labelSelector=a",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    ),
    ("metadata", "/apis/apps/v1/deployments", "", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"),
    (
        "metadata by label",
        "/api/v1/secrets",
        "labelSelector=!b",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    ),
];

/// A collection in which changes happen.
const COLLECTIONS: [(&str, &str); 4] =
    [("configmaps", "/api/v1"), ("secrets", "/api/v1"), ("pods", "/api/v1"), ("deployments", "/apis/apps/v1")];

struct Side {
    base: String,
    client: HttpClient,
}

impl Side {
    async fn ask(&self, step: &Step) -> (u16, Value) {
        let kind = if step.method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let headers = [("content-type", kind), ("user-agent", "test")];
        let body = (!step.body.is_null()).then(|| step.body.to_string().into());
        let url = format!("{}{}", self.base, step.path);
        let answer = self.client.request(step.method.parse().unwrap(), &url, &headers, body).await.unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// The version of a collection now.
    async fn version(&self, path: &str) -> String {
        let (status, list) =
            self.ask(&Step::new("GET", path.replace("/watch/", "/").replace("/n2", ""), Value::Null)).await;
        assert_eq!(status, 200, "{path}");
        list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    }

    /// All events from a version to the end of the history; a watch that ends is begun again where it stopped, as clients do.
    #[expect(clippy::panic, reason = "a watch that never sees the end has failed the test")]
    async fn watch(&self, watch: &Watch, mut from: String, seconds: usize) -> Vec<String> {
        let (name, path, query, accept) = *watch;
        let mut events = Vec::new();
        for _ in 0..ROUNDS {
            let url = format!("{}{path}?watch=true&timeoutSeconds={seconds}&resourceVersion={from}&{query}", self.base);
            let accept = if accept.is_empty() { "application/json" } else { accept };
            let answer = self.client.get(&url, &[("accept", accept), ("user-agent", "test")]).await.unwrap();
            assert_eq!(answer.status, 200, "{name}: {}", String::from_utf8_lossy(&answer.body));
            events.push(format!("{name}: {}", answer.header("content-type").unwrap_or_default()));
            for line in answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let event: Value = serde_json::from_slice(line).unwrap();
                let rows = event["object"]["rows"].as_array();
                let metadata = match rows {
                    Some(rows) => rows[0]["object"]["metadata"].clone(),
                    None => event["object"]["metadata"].clone(),
                };
                let ended = line.windows(END.len()).any(|window| window == END.as_bytes());
                let mut shown = event.clone();
                for row in shown["object"]["rows"].as_array_mut().into_iter().flatten() {
                    row["cells"]
                        .as_array_mut()
                        .unwrap()
                        .iter_mut()
                        .filter(|cell| cell.as_str().is_some_and(scrub::is_age))
                        .for_each(|age| *age = "-".into());
                }
                if let Some(table) = shown["object"].as_object_mut().filter(|_| seconds < 5) {
                    // Sent with the first event of each watch, and how many there are depends on time.
                    table.shift_remove("columnDefinitions");
                }
                events.push(format!("{name}: {}", scrub::body(&shown.to_string(), &self.base)));
                if ended {
                    return events;
                }
                if let Some(version) = metadata["resourceVersion"].as_str() {
                    version.clone_into(&mut from);
                } else {
                    // A row without its object does not say where it stands: this watch has to see the end in one go.
                    assert!(seconds > 5, "{name} cannot go on");
                }
            }
        }
        panic!("{name}: the end was never seen\n{}", events.join("\n"));
    }
}

/// A watch of both sides: its name and what each sees.
type Both = (&'static str, JoinHandle<Vec<String>>, JoinHandle<Vec<String>>);

fn begin(real: &Arc<Side>, ours: &Arc<Side>, watch: &'static Watch, from: &(String, String), seconds: usize) -> Both {
    let side = |side: &Arc<Side>, from: &str| {
        let (side, from) = (Arc::clone(side), from.to_owned());
        tokio::spawn(async move { side.watch(watch, from, seconds).await })
    };
    (watch.0, side(real, &from.0), side(ours, &from.1))
}

/// A change.
#[derive(Debug, Clone)]
struct Step {
    method: &'static str,
    path: String,
    body: Value,
}

impl Step {
    fn new(method: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self { method, path: path.into(), body }
    }
}

fn labels(dice: &Dice) -> Value {
    let mut labels = serde_json::Map::new();
    if dice.percent(70) {
        labels.insert("a".to_owned(), json!(dice.word(&["1", "1", "2", "3"])));
    }
    if dice.percent(30) {
        labels.insert("b".to_owned(), json!("x"));
    }
    Value::Object(labels)
}

fn object(dice: &Dice, plural: &str, name: &str) -> Value {
    let mut object = json!({"metadata": {"name": name, "labels": labels(dice)}});
    let text = dice.word(&["one", "two", "three"]);
    match plural {
        "configmaps" => object["data"] = json!({"a": text}),
        "secrets" => {
            object["type"] = json!(dice.word(&["Opaque", "example.com/x"]));
            object["stringData"] = json!({"a": text});
        }
        "pods" => {
            object["spec"] = json!({"nodeName": dice.word(&["n", "m"]), "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": text}]});
        }
        _ => {
            object["spec"] = json!({"selector": {"matchLabels": {"x": "y"}}, "template": {
                "metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "c", "image": text}]}}});
        }
    }
    if dice.percent(15) {
        object["metadata"]["finalizers"] = json!(["example.com/held"]);
    }
    object
}

fn step(dice: &Dice) -> Step {
    let (plural, prefix) = COLLECTIONS[dice.below(COLLECTIONS.len())];
    let collection = format!("{prefix}/namespaces/{}/{plural}", NAMESPACES[dice.below(2)]);
    let name = dice.word(&["n0", "n1", "n2", "n3"]);
    let one = format!("{collection}/{name}");
    let dry = if dice.percent(7) { "?dryRun=All" } else { "" };
    match dice.below(20) {
        0..5 => Step::new("POST", collection + dry, object(dice, plural, name)),
        5..7 => Step::new("PUT", one + dry, object(dice, plural, name)),
        // Also one that changes nothing.
        7..11 => {
            let labels =
                json!({"a": dice.word(&["1", "2"]), "b": if dice.percent(50) { json!("x") } else { Value::Null }});
            Step::new("PATCH", one + dry, json!({"metadata": {"labels": labels}}))
        }
        11..13 => Step::new("PATCH", one, json!({"metadata": {"annotations": {"n": dice.word(&["1", "2", "3"])}}})),
        13 => {
            let held = if dice.percent(30) { json!(["example.com/held"]) } else { Value::Null };
            Step::new("PATCH", one, json!({"metadata": {"finalizers": held}}))
        }
        14..16 if plural == "pods" => {
            // Always a change: a part that is written for the first time changes managed fields there, even to what it was.
            let (phase, message) = (dice.word(&["Running", "Running", "Pending", "Succeeded"]), dice.below(1 << 30));
            let status = json!({"status": {"phase": phase, "message": message.to_string()}});
            Step::new("PATCH", one + "/status", status)
        }
        14..16 if plural == "deployments" => {
            Step::new("PATCH", one + "/scale", json!({"spec": {"replicas": 2 + dice.below(1 << 20)}}))
        }
        19 if dice.percent(30) => {
            Step::new("DELETE", collection + "?labelSelector=b&gracePeriodSeconds=0", Value::Null)
        }
        _ => {
            let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
            Step::new("DELETE", one + dry, body)
        }
    }
}

/// What each watch sees last.
fn endings() -> Vec<Step> {
    let mut steps = Vec::new();
    for namespace in NAMESPACES {
        for (plural, prefix) in COLLECTIONS {
            let mut last = object(&Dice::roll_unless_given(1), plural, END);
            // Every selector sees it, when it is changed once more.
            last["metadata"]["labels"] = json!({"a": "1"});
            if plural == "pods" {
                last["spec"]["nodeName"] = json!("n");
            }
            if plural == "secrets" {
                last["type"] = json!("example.com/x");
            }
            last["metadata"]["finalizers"] = json!([]);
            let collection = format!("{prefix}/namespaces/{namespace}/{plural}");
            steps.push(Step::new("POST", &collection, last));
            if plural == "pods" {
                let running = json!({"status": {"phase": "Running"}});
                steps.push(Step::new("PATCH", format!("{collection}/{END}/status"), running));
            }
            if plural == "configmaps" {
                let other = json!({"metadata": {"labels": {"a": "2", "b": "x"}}});
                steps.push(Step::new("PATCH", format!("{collection}/{END}"), other));
                for name in ["n1", "n2"] {
                    let one = format!("{collection}/{name}");
                    // Whether it is there or not.
                    steps.push(Step::new("POST", &collection, json!({"metadata": {"name": name}})));
                    steps.push(Step::new("PATCH", one, json!({"metadata": {"annotations": {END: "yes"}}})));
                }
            }
        }
    }
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_see_what_those_of_a_real_server_see() {
    let dice = Dice::roll();
    let plane = ControlPlane::start(&[]).await;
    started(&plane).await;
    let bench = Bench::start().await;
    for namespace in NAMESPACES {
        make_namespace(&plane, &bench, namespace).await;
    }
    let admin = bench.client(Some(("admin", &["system:masters"])));
    let real = Arc::new(Side { base: plane.url().to_owned(), client: plane.admin_client() });
    let ours = Arc::new(Side { base: bench.url(""), client: admin });
    let mut beginnings = BTreeMap::new();
    let mut live = Vec::new();
    for watch in WATCHES {
        let from = (real.version(watch.1).await, ours.version(watch.1).await);
        beginnings.insert(watch.0, from.clone());
        // One that cannot go on is only read afterwards.
        if !watch.2.contains("includeObject=None") {
            live.push(begin(&real, &ours, watch, &from, 2));
        }
    }
    let mut counts = BTreeMap::<u16, usize>::new();
    for step in (0..STEPS).map(|_| step(&dice)).chain(endings()) {
        let (theirs, got) = (real.ask(&step).await, ours.ask(&step).await);
        assert_eq!(theirs.0, got.0, "{step:?}\n{}\n{}", theirs.1, got.1);
        *counts.entry(theirs.0).or_default() += 1;
    }
    let afterwards: Vec<_> = WATCHES.iter().map(|watch| begin(&real, &ours, watch, &beginnings[watch.0], 6)).collect();
    let mut wrong = Vec::new();
    let mut kinds = BTreeMap::<&str, usize>::new();
    for (name, left, right) in live.into_iter().chain(afterwards) {
        compare(name, &left.await.unwrap(), &right.await.unwrap(), &mut wrong, &mut kinds);
    }
    println!("changes, by status: {counts:?}; events: {kinds:?}");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(6)].join("\n"));
    for status in [200, 201, 404, 409] {
        assert!(counts.get(&status).is_some_and(|count| *count >= 10), "{status} came too rarely: {counts:?}");
    }
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        assert!(kinds.get(kind).is_some_and(|count| *count >= 50), "{kind} came too rarely: {kinds:?}");
    }
    bench.stop().await;
}

fn compare(
    name: &str,
    theirs: &[String],
    ours: &[String],
    wrong: &mut Vec<String>,
    kinds: &mut BTreeMap<&'static str, usize>,
) {
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        let said = format!("\"type\": \"{kind}\"");
        *kinds.entry(kind).or_default() += theirs.iter().filter(|event| event.contains(&said)).count();
    }
    // How often a watch was begun again depends on time.
    let events = |all: &[String]| -> Vec<String> { all.iter().filter(|event| event.contains('{')).cloned().collect() };
    let forms =
        |all: &[String]| -> BTreeSet<String> { all.iter().filter(|event| !event.contains('{')).cloned().collect() };
    if forms(theirs) != forms(ours) {
        wrong.push(format!("{name}: {:?} and {:?}", forms(theirs), forms(ours)));
    }
    let (theirs, ours) = (events(theirs), events(ours));
    let same = theirs.iter().zip(&ours).take_while(|(left, right)| left == right).count();
    if theirs.len() != ours.len() || same < theirs.len() {
        let at = |list: &[String]| list.iter().skip(same.saturating_sub(2)).take(3).cloned().collect::<String>();
        wrong.push(format!("{name}, event {same} of {}:\nreal: {}\nours: {}", theirs.len(), at(&theirs), at(&ours)));
    }
}
