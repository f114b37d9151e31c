//! Who may grant, who may act as whom, and what reviews answer: the same requests to a real kube-apiserver and to ours.
//!
//! Random choices are fresh in each run; `PORTCULLIS_SEED` repeats those of a run that failed.

#![expect(clippy::indexing_slicing, reason = "a test whose data are not as expected has failed")]

mod aggregation;
mod grants;
mod impersonation;
mod names;
mod parts;
mod reviews;
mod verdicts;

use std::time::{Duration, Instant};

use portcullis_testkit::{ChildGuard, ControlPlane, HttpClient, Rng};
use serde_json::{Value, json};

use crate::bench::Bench;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";
/// How long the real server's caches and controllers may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Random choices that a seed repeats.
pub(crate) struct Dice(Rng, u64);

impl Dice {
    pub(crate) fn roll() -> Self {
        Self::roll_unless_given(u64::from_le_bytes(Rng::system().bytes()))
    }

    /// The choices of a seed, unless another one is given.
    #[expect(clippy::disallowed_methods, reason = "a failed run is repeated by its seed")]
    #[expect(clippy::print_stdout, reason = "the seed has to be known")]
    pub(crate) fn roll_unless_given(seed: u64) -> Self {
        let given = std::env::var("PORTCULLIS_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or(seed);
        println!("PORTCULLIS_SEED={seed}");
        Self::of(seed)
    }

    /// The choices of that seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(Rng::seeded(seed), seed)
    }

    pub(crate) fn seed(&self) -> u64 {
        self.1
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        self.0.below(u32::try_from(bound).unwrap()) as usize
    }

    pub(crate) fn percent(&self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn word(&self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len())]
    }

    pub(crate) fn some(&self, list: &[&'static str], least: usize, most: usize) -> Vec<&'static str> {
        (0..least + self.below(most - least + 1)).map(|_| self.word(list)).collect()
    }
}

/// One server, and a client for each user.
struct Side {
    base: String,
    clients: Vec<(&'static str, HttpClient)>,
    /// Bearer tokens of those that have one instead of a certificate.
    tokens: Vec<(&'static str, String)>,
    nobody: HttpClient,
}

/// A request and who sends it.
#[derive(Debug, Clone)]
struct Asked {
    user: &'static str,
    method: &'static str,
    path: String,
    body: Value,
    headers: Vec<(String, String)>,
}

impl Asked {
    fn new(user: &'static str, method: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self { user, method, path: path.into(), body, headers: Vec::new() }
    }
}

impl Side {
    async fn ask(&self, asked: &Asked) -> (u16, Value) {
        let token = self.tokens.iter().find(|(name, _)| *name == asked.user);
        let bearer = token.map(|(_, token)| format!("Bearer {token}"));
        let client = match bearer {
            Some(_) => &self.nobody,
            None => &self.clients.iter().find(|(name, _)| *name == asked.user).unwrap().1,
        };
        let content = if asked.method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut headers = vec![("content-type", content), ("user-agent", "test")];
        headers.extend(bearer.iter().map(|bearer| ("authorization", bearer.as_str())));
        headers.extend(asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let body = (!asked.body.is_null()).then(|| asked.body.to_string().into());
        let url = format!("{}{}", self.base, asked.path);
        let response = client.request(asked.method.parse().unwrap(), &url, &headers, body).await.unwrap();
        let mut answer = serde_json::from_slice(&response.body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&response.body)));
        scrub(&mut answer);
        (response.status, answer)
    }

    async fn admin(&self, method: &'static str, path: &str, body: Value) {
        let (status, answer) = self.ask(&Asked::new("admin", method, path, body.clone())).await;
        assert!(status < 300, "{method} {path} {body}: {answer}");
    }
}

/// What each server makes for itself.
fn scrub(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.shift_remove("managedFields");
            for (key, value) in members.iter_mut() {
                if matches!(key.as_str(), "uid" | "resourceVersion" | "creationTimestamp") && value.is_string() {
                    *value = Value::from("-");
                }
                if key == "authentication.kubernetes.io/pod-uid" {
                    *value = Value::from("-");
                }
                scrub(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(scrub),
        Value::String(text) => {
            for id in ["X509SHA256=", "JTI="] {
                if text.starts_with(id) {
                    text.replace_range(id.len().., "-");
                }
            }
            // Inside a message.
            while let Some(at) = text.find(",\"managedFields\":[") {
                let mut depth = 0_usize;
                let end = text[at..].char_indices().find_map(|(end, c)| {
                    depth = match c {
                        '[' => depth + 1,
                        ']' => depth - 1,
                        _ => depth,
                    };
                    (c == ']' && depth == 0).then_some(at + end)
                });
                text.replace_range(at..=end.unwrap(), "");
            }
        }
        _ => {}
    }
}

/// A real server and ours, with the same users.
struct Pair {
    real: Side,
    ours: Side,
    bench: Bench,
    _controller: ChildGuard,
    _plane: ControlPlane,
}

impl Pair {
    async fn start(users: &[(&'static str, &[&str])]) -> Self {
        let plane = ControlPlane::start(&[]).await;
        let controller = plane.aggregation_controller();
        let bench = Bench::start().await;
        let real = users.iter().map(|(name, groups)| (*name, plane.client(name, groups))).collect();
        let ours = users.iter().map(|(name, groups)| (*name, bench.client(Some((name, groups))))).collect();
        let side = |base, clients, nobody| Side { base, clients, tokens: Vec::new(), nobody };
        let real = side(plane.url().to_owned(), real, plane.http_client());
        let ours = side(bench.url(""), ours, bench.client(None));
        let pair = Self { real, ours, bench, _controller: controller, _plane: plane };
        // The last role that upstream's controller fills, because it gathers the others.
        let admin = Asked::new("admin", "GET", format!("{RBAC}/clusterroles/admin"), Value::Null);
        let deadline = Instant::now() + PATIENCE;
        while pair.real.ask(&admin).await != pair.ours.ask(&admin).await {
            assert!(Instant::now() < deadline, "the real server does not gather its bootstrap roles");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pair
    }

    async fn both(&self, method: &'static str, path: &str, body: Value) {
        self.real.admin(method, path, body.clone()).await;
        self.ours.admin(method, path, body).await;
    }

    /// A service account whose token is bound to a pod on that node asks under its name from now on.
    async fn agent(&mut self, name: &'static str, namespace: &str, node: &str) {
        let core = format!("/api/v1/namespaces/{namespace}");
        self.both("POST", &format!("{core}/serviceaccounts"), json!({"metadata": {"name": name}})).await;
        let pod = json!({"metadata": {"name": name}, "spec": {"serviceAccountName": name, "nodeName": node,
            "automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}});
        self.both("POST", &format!("{core}/pods"), pod).await;
        let bound = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name}}});
        let asked = Asked::new("admin", "POST", format!("{core}/serviceaccounts/{name}/token"), bound);
        for side in [&mut self.real, &mut self.ours] {
            let (status, answer) = side.ask(&asked).await;
            assert_eq!(status, 201, "{answer}");
            side.tokens.push((name, answer["status"]["token"].as_str().unwrap().to_owned()));
        }
    }

    /// Grants rules to a user, in one namespace or everywhere.
    async fn grant(&self, user: &str, name: &str, namespace: &str, rules: Value) {
        let role = json!({"metadata": {"name": name}, "rules": rules});
        self.both("POST", &format!("{RBAC}/clusterroles"), role).await;
        self.bind(user, name, namespace, name).await;
    }

    async fn bind(&self, user: &str, name: &str, namespace: &str, role: &str) {
        let path = if namespace.is_empty() {
            format!("{RBAC}/clusterrolebindings")
        } else {
            format!("{RBAC}/namespaces/{namespace}/rolebindings")
        };
        let binding = json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": user}]});
        self.both("POST", &path, binding).await;
    }

    /// Waits until the real server's authorizer has seen what was bound last, cluster-wide and in a namespace.
    async fn settle(&self, namespace: &str) {
        let rules = json!([{"verbs": ["get"], "apiGroups": ["sentinel"], "resources": ["things"]}]);
        self.grant("seer", "seer", "", rules.clone()).await;
        self.grant("local-seer", "local-seer", namespace, rules).await;
        for user in ["seer", "local-seer"] {
            let asked = json!({"spec": {"user": user, "resourceAttributes":
                {"verb": "get", "group": "sentinel", "resource": "things", "namespace": namespace}}});
            let asked = Asked::new("admin", "POST", format!("{AUTHORIZATION}/subjectaccessreviews"), asked);
            let deadline = Instant::now() + PATIENCE;
            while self.real.ask(&asked).await.1["status"]["allowed"] != true {
                assert!(Instant::now() < deadline, "the real server does not see its bindings");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Asks both, and adds what differs to the list; the real server's status.
    async fn compare(&self, asked: &Asked, wrong: &mut Vec<String>) -> u16 {
        self.compare_answers(asked, wrong).await.0
    }

    /// Likewise, with the real server's answer.
    async fn compare_answers(&self, asked: &Asked, wrong: &mut Vec<String>) -> (u16, Value) {
        let (theirs, ours) = (self.real.ask(asked).await, self.ours.ask(asked).await);
        if theirs != ours {
            wrong.push(format!("{asked:?}\n  theirs {} {}\n  ours   {} {}", theirs.0, theirs.1, ours.0, ours.1));
        }
        theirs
    }

    async fn stop(self) {
        self.bench.stop().await;
    }
}

fn assert_none(wrong: &[String], of: usize) {
    assert!(wrong.is_empty(), "{} of {of} differ:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
}

/// A rule of few words, so that rules often cover each other.
fn rule(dice: &Dice, urls: bool) -> Value {
    if urls && dice.percent(25) {
        return json!({"verbs": dice.some(&["get", "post", "*"], 1, 2), "nonResourceURLs": dice.some(&["/metrics", "/logs/a", "/logs/*", "/x", "*"], 1, 2)});
    }
    let mut rule = json!({
        "verbs": dice.some(&["get", "list", "get", "delete", "*", "a<b"], 1, 3),
        "apiGroups": dice.some(&["", "", "apps", "*"], 1, 2),
        "resources": dice.some(&["pods", "pods", "deployments", "pods/log", "deployments/scale", "*/scale", "configmaps", "*"], 1, 3),
    });
    if dice.percent(35) {
        rule["resourceNames"] = json!(dice.some(&["a", "b", "c"], 1, 2));
    }
    if dice.percent(3) {
        rule["verbs"] = json!([]);
    }
    rule
}
