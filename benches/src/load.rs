//! What calls, watches and objects cost an API server: CPU by kind of call and by delivered event, memory with many of both.
//! The dev API server and the real one go through the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::Method;
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, Roots};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::process::{self, Memory};

/// Requests under way at a time.
const PARALLEL: u32 = 8;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ACCOUNTS_PATH: &str = "/api/v1/namespaces/default/serviceaccounts";
const BINDINGS_PATH: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
const ROLES_PATH: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
/// Service accounts with a binding each.
const ACCOUNTS: usize = 50;
/// Calls of a kind that are counted.
const GETS: u32 = 4_000;
const LISTS: u32 = 4_000;
/// Changes, without watchers and then with [`WATCHERS`].
const CHANGES: u32 = 10_000;
const WATCHERS: u32 = 100;
/// Objects that take turns in being changed.
const CHANGED: u32 = 50;
/// Objects and watches that memory is measured with.
const OBJECTS: u32 = 5_000;
const WATCHES: u64 = 200;
/// Changes before all watches have to have seen them.
const STEP: u32 = 250;
/// For the last event to arrive.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server, and what to reach it with.
pub(crate) struct Target<'t> {
    pub(crate) url: &'t str,
    pub(crate) client: HttpClient,
    pub(crate) authority_pem: Vec<u8>,
    /// Certificate and key of an administrator.
    pub(crate) identity_pem: Vec<u8>,
    /// Processes whose CPU counts.
    pub(crate) ids: Vec<u32>,
    /// Processes whose memory counts.
    pub(crate) all: Vec<u32>,
}

/// What it cost.
pub(crate) struct Cost {
    /// CPU of a GET of one object, of a LIST of 50, of a PATCH.
    pub(crate) get: Duration,
    /// CPU of a GET of one object by a service account, whose token is verified and whose right comes from a role.
    pub(crate) bound: Duration,
    pub(crate) list: Duration,
    pub(crate) patch: Duration,
    /// CPU of an event for one watcher.
    pub(crate) event: Duration,
    /// Events that did not arrive.
    pub(crate) lost: u64,
    /// Memory after what kubectl asks for and the objects of the guide, in MB.
    pub(crate) guide: f64,
    /// Memory after all of that, with 200 watches and 5,000 objects, in MB.
    pub(crate) worn: f64,
}

pub(crate) async fn measure(target: &Target<'_>) -> Result<Cost> {
    target.guide().await?;
    let guide = target.memory()?;
    for number in 0..CHANGED {
        target.send(Method::POST, MAPS, Some(map(&format!("changed-{number}")))).await?;
    }
    let one = format!("{MAPS}/changed-0");
    let get = target.cost(GETS, |_| target.send(Method::GET, &one, None)).await?;
    let account = target.account().await?;
    let bound = target.cost(GETS, |_| account.get(&one)).await?;
    let list = target
        .cost(LISTS, |_| target.send(Method::GET, "/api/v1/namespaces/default/configmaps?limit=50", None))
        .await?;
    let patch = target.cost(CHANGES, |number| target.change(number)).await?;
    let (watched, lost) = target.watched().await?;
    let event = watched.saturating_sub(patch * CHANGES) / (CHANGES * WATCHERS);
    let worn = full(target).await?;
    Ok(Cost { get, bound, list, patch, event, lost, guide, worn })
}

/// Memory with 200 watches and 5,000 objects, after each of them has changed, in MB.
pub(crate) async fn full(target: &Target<'_>) -> Result<f64> {
    target.fill().await?;
    let from = format!("resourceVersion={}", target.version().await?);
    let seen = Arc::new(AtomicU64::new(0));
    let mut watches = JoinSet::new();
    for _ in 0..WATCHES {
        watches.spawn(lines(target.watch(&from).await?, OBJECTS.into(), Arc::clone(&seen)));
    }
    // Both servers leave those behind that are slower than changes, and here the changes and the watches share processors.
    let mut memory: f64 = 0.0;
    for step in (0..OBJECTS).step_by(STEP as usize) {
        let change = |number| async move {
            target.send(Method::PATCH, &object(step + number), Some(json!({"data": {"n": "1"}}))).await
        };
        rows(STEP, change).await?;
        let (due, begin) = (u64::from(step + STEP) * WATCHES, Instant::now());
        while seen.load(Ordering::Relaxed) < due {
            ensure!(begin.elapsed() < PATIENCE, "a watch has missed an event");
            memory = memory.max(target.memory()?);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(memory.max(target.memory()?))
}

/// Makes `count` calls, in as many rows as are under way at a time: a row goes on with the connection that it had.
async fn rows<F: Future<Output = Result<Vec<u8>>>>(count: u32, call: impl Fn(u32) -> F) -> Result<()> {
    let call = &call;
    let rows = (0..PARALLEL).map(|row| async move {
        for number in (row..count).step_by(PARALLEL as usize) {
            call(number).await?;
        }
        Ok(())
    });
    futures_util::future::try_join_all(rows).await.map(|_| ())
}

/// A service account that may read in its namespace.
struct Account<'t> {
    url: &'t str,
    client: HttpClient,
    authorization: String,
}

impl Account<'_> {
    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let headers = [("authorization", self.authorization.as_str())];
        let answer = self.client.get(&format!("{}{path}", self.url), &headers).await?;
        ensure!(answer.status == 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        Ok(answer.body.to_vec())
    }
}

/// The path of one of many objects.
fn object(number: u32) -> String {
    format!("{MAPS}/object-{number}")
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"n": "0"}})
}

impl Target<'_> {
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Vec<u8>> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = body.map(|body| body.to_string().into());
        let answer =
            self.client.request(method, &format!("{}{path}", self.url), &[("content-type", kind)], body).await?;
        ensure!((200..300).contains(&answer.status), "{path}: {}", String::from_utf8_lossy(&answer.body));
        Ok(answer.body.to_vec())
    }

    /// Makes the account among others, each with a binding of its own.
    async fn account(&self) -> Result<Account<'_>> {
        // Nothing gathers the rules of `view` beside the real server.
        let rules = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "configmaps"]}]);
        self.send(Method::POST, ROLES_PATH, Some(json!({"metadata": {"name": "reader"}, "rules": rules}))).await?;
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"});
        for number in 0..ACCOUNTS {
            let name = format!("reader-{number}");
            let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": "default"});
            let meta = json!({"name": name});
            self.send(Method::POST, ACCOUNTS_PATH, Some(json!({"metadata": meta}))).await?;
            let binding = json!({"metadata": meta, "roleRef": role, "subjects": [subject]});
            self.send(Method::POST, BINDINGS_PATH, Some(binding)).await?;
        }
        let path = format!("{ACCOUNTS_PATH}/reader-{}/token", ACCOUNTS - 1);
        let body = json!({"spec": {"expirationSeconds": 3_600}});
        let review: Value = serde_json::from_slice(&self.send(Method::POST, &path, Some(body)).await?)?;
        let token = review.pointer("/status/token").and_then(Value::as_str).context("no token")?;
        let roots = Roots::only_pem(&self.authority_pem)?;
        let client = HttpClient::new(HttpClientConfig { roots, ..HttpClientConfig::default() })?;
        let account = Account { url: self.url, client, authorization: format!("Bearer {token}") };
        // The real server's authorizer learns of a binding a moment after it is made.
        let begin = Instant::now();
        while account.get(&format!("{MAPS}/changed-0")).await.is_err() {
            ensure!(begin.elapsed() < PATIENCE, "the account may not read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(account)
    }

    async fn change(&self, number: u32) -> Result<Vec<u8>> {
        let path = format!("{MAPS}/changed-{}", number % CHANGED);
        self.send(Method::PATCH, &path, Some(json!({"data": {"n": number.to_string()}}))).await
    }

    fn cpu(&self) -> Result<Duration> {
        self.ids.iter().map(|id| process::cpu(*id)).sum()
    }

    fn memory(&self) -> Result<f64> {
        let kib = self.all.iter().map(|id| Memory::of(*id).map(|memory| memory.resident)).sum::<Option<u64>>();
        Ok(kib.context("the server has ended")? as f64 * 1024.0 / 1e6)
    }

    /// CPU of one of `count` calls.
    async fn cost<F: Future<Output = Result<Vec<u8>>>>(&self, count: u32, call: impl Fn(u32) -> F) -> Result<Duration> {
        let before = self.cpu()?;
        rows(count, call).await?;
        Ok((self.cpu()? - before) / count)
    }

    /// The objects that the guide's steps make, and what kubectl asks a server for.
    async fn guide(&self) -> Result<()> {
        let pod = json!({"containers": [{"name": "dex", "image": "dex"}]});
        let labels = json!({"app.kubernetes.io/name": "dex"});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
        let subjects =
            json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "oidc-demo-user@example.com"}]);
        let space = "mural-system";
        for (path, body) in [
            ("/api/v1/namespaces", json!({"metadata": {"name": space}})),
            (
                "/api/v1/namespaces/mural-system/secrets",
                json!({"metadata": {"name": "dex"}, "stringData": {"config.yaml": "x".repeat(4_000)}}),
            ),
            (
                "/api/v1/namespaces/mural-system/services",
                json!({"metadata": {"name": "dex"}, "spec": {"selector": labels, "ports": [{"port": 5554}]}}),
            ),
            (
                "/apis/apps/v1/namespaces/mural-system/deployments",
                json!({"metadata": {"name": "dex"}, "spec": {
                "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}}),
            ),
            (
                "/api/v1/namespaces/mural-system/pods",
                json!({"metadata": {"name": "dex", "labels": labels}, "spec": pod}),
            ),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
                json!({"metadata": {"name": "oidc-cluster-admin"}, "roleRef": role, "subjects": subjects}),
            ),
        ] {
            self.send(Method::POST, path, Some(body)).await?;
        }
        for path in [
            "/api",
            "/apis",
            "/openapi/v3",
            "/openapi/v3/api/v1",
            "/openapi/v3/apis/apps/v1",
            "/api/v1/pods",
            "/version",
        ] {
            self.send(Method::GET, path, None).await?;
        }
        Ok(())
    }

    /// A watch on a connection of its own.
    #[expect(clippy::disallowed_methods, reason = "the common client gives answers as a whole")]
    async fn watch(&self, options: &str) -> Result<reqwest::Response> {
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&self.authority_pem)?])
            .identity(reqwest::Identity::from_pem(&self.identity_pem)?)
            .build()?;
        let answer = client.get(format!("{}{MAPS}?watch=true&{options}", self.url)).send().await?;
        Ok(answer.error_for_status()?)
    }

    async fn version(&self) -> Result<String> {
        let list: Value = serde_json::from_slice(&self.send(Method::GET, &format!("{MAPS}?limit=1"), None).await?)?;
        Ok(list.pointer("/metadata/resourceVersion").and_then(Value::as_str).context("no version")?.to_owned())
    }

    /// CPU of all changes with all watchers, and how many events did not arrive.
    async fn watched(&self) -> Result<(Duration, u64)> {
        let from = format!("resourceVersion={}", self.version().await?);
        let mut watchers = JoinSet::new();
        for _ in 0..WATCHERS {
            let answer = self.watch(&from).await?;
            watchers.spawn(lines(answer, CHANGES.into(), Arc::default()));
        }
        let before = self.cpu()?;
        rows(CHANGES, |number| self.change(number)).await?;
        let arrived: u64 = watchers.join_all().await.into_iter().sum();
        Ok((self.cpu()? - before, u64::from(CHANGES * WATCHERS).saturating_sub(arrived)))
    }

    /// Makes many objects.
    pub(crate) async fn fill(&self) -> Result<()> {
        let filling = "x".repeat(850);
        rows(OBJECTS, |number| {
            let name = format!("object-{number}");
            let body =
                json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"text": filling, "n": "0"}});
            self.send(Method::POST, MAPS, Some(body))
        })
        .await
    }

    /// Whether all of [`Self::fill`] are there.
    pub(crate) async fn is_filled(&self) -> Result<bool> {
        let list: Value = serde_json::from_slice(&self.send(Method::GET, MAPS, None).await?)?;
        let items = list.get("items").and_then(Value::as_array).context("no list")?;
        Ok(items.len() >= OBJECTS as usize)
    }
}

/// Counts lines until there are as many as wanted, the stream ends, or patience; `all` counts those of others too.
async fn lines(mut answer: reqwest::Response, wanted: u64, all: Arc<AtomicU64>) -> u64 {
    let mut seen = 0;
    let end = tokio::time::Instant::now() + PATIENCE;
    while seen < wanted {
        let Ok(Ok(Some(piece))) = tokio::time::timeout_at(end, answer.chunk()).await else { break };
        let more = piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        all.fetch_add(more, Ordering::Relaxed);
        seen += more;
    }
    seen
}
