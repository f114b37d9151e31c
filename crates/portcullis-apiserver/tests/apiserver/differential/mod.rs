//! The same requests to a real kube-apiserver and to ours: status, warnings and body must be the same, but for ids, versions,
//! times, managed fields and the words of column descriptions. `docs/compat/kube-apiserver.md` lists what is known to differ.
//!
//! The requests stand in `requests/*.txt`, a file for each theme; `script` says how they are written.

mod collection;
mod known;
mod pointers;
mod random;
mod script;
pub(crate) mod scrub;

use std::collections::BTreeMap;

use portcullis_runtime::http_client::{HttpClient, HttpClientConfig};
use portcullis_testkit::ControlPlane;
use serde_json::{Value, json};

use self::known::KNOWN;
use self::script::{Step, steps};
use crate::bench::Bench;

/// Themes: the user who asks, and the requests. A theme has the namespace of its name to itself.
const THEMES: &[(&str, &str, &[&str], &str)] = &[
    ("base", "admin", &["system:masters"], include_str!("requests/base.txt")),
    ("jane", "jane", &["devs", "ops"], include_str!("requests/jane.txt")),
    ("config", "admin", &["system:masters"], include_str!("requests/config.txt")),
    ("services", "admin", &["system:masters"], include_str!("requests/services.txt")),
    ("pods", "admin", &["system:masters"], include_str!("requests/pods.txt")),
    ("workloads", "admin", &["system:masters"], include_str!("requests/workloads.txt")),
    ("batch", "admin", &["system:masters"], include_str!("requests/batch.txt")),
    ("certificates", "admin", &["system:masters"], include_str!("requests/certificates.txt")),
    ("network", "admin", &["system:masters"], include_str!("requests/network.txt")),
    ("cluster", "admin", &["system:masters"], include_str!("requests/cluster.txt")),
    ("deletion", "admin", &["system:masters"], include_str!("requests/deletion.txt")),
    ("patches", "admin", &["system:masters"], include_str!("requests/patches.txt")),
    ("hostile", "admin", &["system:masters"], include_str!("requests/patches_hostile.txt")),
    ("lists", "admin", &["system:masters"], include_str!("requests/lists.txt")),
    ("added", "admin", &["system:masters"], include_str!("requests/added.txt")),
    ("crds", "admin", &["system:masters"], include_str!("requests/crds.txt")),
    ("events", "admin", &["system:masters"], include_str!("requests/events.txt")),
    ("pod-parts", "admin", &["system:masters"], include_str!("requests/pod_parts.txt")),
    ("autoscalers", "admin", &["system:masters"], include_str!("requests/autoscalers.txt")),
    ("judged", "admin", &["system:masters"], include_str!("requests/judged.txt")),
    ("metadata", "admin", &["system:masters"], include_str!("requests/metadata.txt")),
    ("admission", "admin", &["system:masters"], include_str!("requests/admission.txt")),
    ("limits", "admin", &["system:masters"], include_str!("requests/limits.txt")),
    ("security", "admin", &["system:masters"], include_str!("requests/security.txt")),
    ("streams", "admin", &["system:masters"], include_str!("requests/streams.txt")),
];

/// How often a dry run is repeated whose answers differ.
const LATEST: usize = 20;

struct Side {
    base: String,
    client: HttpClient,
    /// Version and id in the last answer that had any.
    last: (String, String),
    /// Ids by name.
    ids: BTreeMap<String, String>,
}

/// Status, content type, warnings, body.
type Answer = (u16, String, Vec<String>, String);

impl Side {
    fn new(base: String, client: HttpClient) -> Self {
        Self { base, client, last: Default::default(), ids: BTreeMap::new() }
    }

    async fn ask(&mut self, step: &Step) -> Answer {
        self.try_ask(step).await.unwrap()
    }

    /// Nothing when the connection breaks off without an answer.
    async fn try_ask(&mut self, step: &Step) -> Option<Answer> {
        let fill = |text: &str| {
            let named = |text: String, (name, id): (&String, &String)| text.replace(&format!("$UID({name})"), id);
            let text = self.ids.iter().fold(text.to_owned(), named);
            text.replace("$RV", &self.last.0).replace("$UID", &self.last.1)
        };
        let mut headers = vec![("user-agent", "test")];
        if !step.body.is_empty() && step.headers.iter().all(|(name, _)| name != "content-type") {
            headers.push(("content-type", "application/json"));
        }
        headers.extend(step.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let body = (!step.body.is_empty()).then(|| fill(&step.body).into());
        let url = format!("{}{}", self.base, fill(&step.path));
        let response = self.client.request(step.method.parse().unwrap(), &url, &headers, body).await.ok()?;
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let kind = response.headers.get("content-type").map(text).unwrap_or_default();
        let warnings = response.headers.get_all("warning").iter().map(text).collect();
        let body = std::str::from_utf8(&response.body).unwrap();
        if let Ok(value) = serde_json::from_str::<Value>(body) {
            let metadata = |name: &str| value.get("metadata")?.get(name)?.as_str().filter(|text| !text.is_empty());
            if let (Some(version), Some(id)) = (metadata("resourceVersion"), metadata("uid")) {
                self.last = (version.to_owned(), id.to_owned());
                self.ids.insert(metadata("name").unwrap_or_default().to_owned(), id.to_owned());
            }
        }
        let scrubbed = scrub::body(body, &self.base);
        let sent = serde_json::from_str::<Value>(&step.body).unwrap_or_default();
        let scrubbed = match sent["metadata"]["generateName"].as_str() {
            // Refusals tell names that have been drawn.
            Some(stem) if response.status >= 400 => scrub::drawn(&scrubbed, stem),
            _ => scrubbed,
        };
        Some((response.status, kind, warnings, scrubbed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_a_real_kube_apiserver() {
    let real_plane = ControlPlane::start(&[]).await;
    let bench = Bench::start().await;
    settled(&real_plane).await;
    let mut differences = BTreeMap::new();
    let mut compared = 0;
    for (theme, user, groups, requests) in THEMES {
        make_namespace(&real_plane, &bench, theme).await;
        let identity = real_plane.ca().client(user, groups).client_identity();
        let config =
            HttpClientConfig { identity: Some(identity), max_body: 16 << 20, ..real_plane.ca().http_client_config() };
        let mut real = Side::new(real_plane.url().to_owned(), HttpClient::new(config).unwrap());
        let mut ours = Side::new(bench.url(""), bench.client(Some((user, groups))));
        for (number, step) in steps(theme, requests).into_iter().enumerate() {
            let (mut want, mut got) = (real.ask(&step).await, ours.ask(&step).await);
            // A plugin of the real server may not have seen yet what was made just before.
            for _ in 0..LATEST {
                if want == got || !step.path.contains("dryRun=All") {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                (want, got) = (real.ask(&step).await, ours.ask(&step).await);
            }
            compared += 1;
            if want != got {
                let place = format!("{theme} {:03}: {} {} {}", number + 1, step.method, step.path, step.body);
                differences.insert(place, difference(&want, &got));
            }
        }
    }
    let unknown = differences.iter().filter(|(step, _)| !KNOWN.iter().any(|(known, _)| step.contains(known)));
    let report: Vec<String> = unknown.map(|(step, what)| format!("== {step}\n{what}")).collect();
    assert!(report.is_empty(), "{} of {compared} answers differ\n{}", report.len(), report.join("\n"));
    assert!(compared > 1_250, "{compared}");
    for (known, why) in KNOWN {
        assert!(
            differences.keys().any(|step| step.contains(known)),
            "{known} no longer differs ({why}): take it off the list"
        );
    }
    bench.stop().await;
}

/// Makes a namespace on both sides. In a cluster a controller manager adds an account and a config map, and so does ours.
pub(crate) async fn make_namespace(real: &ControlPlane, ours: &Bench, name: &str) {
    let body = json!({"metadata": {"name": name}}).to_string();
    let admin = ours.client(Some(("admin", &["system:masters"])));
    for (client, base) in [(real.admin_client(), real.url().to_owned()), (admin, ours.url(""))] {
        let url = format!("{base}/api/v1/namespaces");
        let made = client.request(
            http::Method::POST,
            &url,
            &[("content-type", "application/json")],
            Some(body.clone().into()),
        );
        assert_eq!(made.await.unwrap().status, 201);
    }
    complete(&real.admin_client(), real.url(), name).await;
}

/// What the controller manager of a real cluster puts into a namespace.
pub(crate) async fn complete(admin: &HttpClient, base: &str, namespace: &str) {
    let map = json!({"metadata": {"name": "kube-root-ca.crt", "annotations": {"kubernetes.io/description": "-"}}, "data": {"ca.crt": "-"}});
    for (plural, object) in [("serviceaccounts", json!({"metadata": {"name": "default"}})), ("configmaps", map)] {
        let url = format!("{base}/api/v1/namespaces/{namespace}/{plural}");
        let body = Some(object.to_string().into());
        let made = admin.request(http::Method::POST, &url, &[("content-type", "application/json")], body).await;
        assert_eq!(made.unwrap().status, 201);
    }
}

/// Waits until the real server's own controllers have made what they make at start, and adds what others make in a cluster.
pub(crate) async fn settled(real: &ControlPlane) {
    started(real).await;
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        complete(&real.admin_client(), real.url(), namespace).await;
    }
}

/// Waits until the real server's own controllers have made what they make at start.
pub(crate) async fn started(real: &ControlPlane) {
    let client = real.admin_client();
    for path in [
        "/api/v1/namespaces/kube-node-lease",
        "/api/v1/namespaces/default/services/kubernetes",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/rolebindings/system:controller:bootstrap-signer",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-cluster-critical",
    ] {
        for attempt in 0.. {
            if client.get(&format!("{}{path}", real.url()), &[]).await.unwrap().status == 200 {
                break;
            }
            assert!(attempt < 200, "{path} does not appear");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// Where two answers part.
fn difference(want: &Answer, got: &Answer) -> String {
    let mut out = Vec::new();
    if (want.0, &want.1) != (got.0, &got.1) {
        out.push(format!("real: {} {}\nours: {} {}", want.0, want.1, got.0, got.1));
    }
    if want.2 != got.2 {
        out.push(format!("real: {:?}\nours: {:?}", want.2, got.2));
    }
    let (want, got): (Vec<&str>, Vec<&str>) = (want.3.lines().collect(), got.3.lines().collect());
    let start = want.iter().zip(&got).take_while(|(want, got)| want == got).count();
    let shown = |side: &str, lines: &[&str]| {
        let part = lines.iter().skip(start.saturating_sub(2)).take(8).map(|line| format!("{side}> {line}"));
        part.collect::<Vec<_>>().join("\n")
    };
    if want != got {
        out.push(shown("real", &want));
        out.push(shown("ours", &got));
    }
    out.join("\n")
}
