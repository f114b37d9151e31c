//! What calls, watches and objects cost an API server: CPU by kind of call and by delivered event, memory with many of both.
//! The dev API server and the real one go through the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use portcullis_runtime::http_client::HttpClient;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::process::{self, Memory};

/// Requests under way at a time.
const PARALLEL: usize = 8;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Calls of a kind that are counted.
const GETS: u32 = 4_000;
const LISTS: u32 = 4_000;
/// Changes, without watchers and then with [`WATCHERS`].
const CHANGES: u32 = 10_000;
const WATCHERS: u32 = 100;
/// Objects that take turns in being changed.
const CHANGED: u32 = 50;
/// Objects and watches that memory is measured with.
const OBJECTS: usize = 5_000;
const WATCHES: usize = 200;
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
    pub(crate) list: Duration,
    pub(crate) patch: Duration,
    /// CPU of an event for one watcher.
    pub(crate) event: Duration,
    /// Events that did not arrive.
    pub(crate) lost: u64,
    /// Memory after what kubectl asks for and the objects of the guide, in MB.
    pub(crate) guide: f64,
    /// Memory with 200 watches and 5,000 objects, in MB.
    pub(crate) full: f64,
}

pub(crate) async fn measure(target: &Target<'_>) -> Result<Cost> {
    target.guide().await?;
    let guide = target.memory()?;
    for number in 0..CHANGED {
        target.send(Method::POST, MAPS, Some(map(&format!("changed-{number}")))).await?;
    }
    let one = format!("{MAPS}/changed-0");
    let get = target.cost(GETS, |_| target.send(Method::GET, &one, None)).await?;
    let list = target
        .cost(LISTS, |_| target.send(Method::GET, "/api/v1/namespaces/default/configmaps?limit=50", None))
        .await?;
    let patch = target.cost(CHANGES, |number| target.change(number)).await?;
    let (watched, lost) = target.watched().await?;
    let event = watched.saturating_sub(patch * CHANGES) / (CHANGES * WATCHERS);
    let full = target.full().await?;
    Ok(Cost { get, list, patch, event, lost, guide, full })
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
    async fn cost<'f, F>(&self, count: u32, call: impl Fn(u32) -> F) -> Result<Duration>
    where
        F: Future<Output = Result<Vec<u8>>> + 'f,
    {
        let before = self.cpu()?;
        stream::iter((0..count).map(call)).buffer_unordered(PARALLEL).try_for_each(|_| async { Ok(()) }).await?;
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
            watchers
                .spawn(async move { tokio::time::timeout(PATIENCE, lines(answer, CHANGES.into())).await.unwrap_or(0) });
        }
        let before = self.cpu()?;
        let changes = stream::iter((0..CHANGES).map(|number| self.change(number)));
        changes.buffer_unordered(PARALLEL).try_for_each(|_| async { Ok(()) }).await?;
        let arrived: u64 = watchers.join_all().await.into_iter().sum();
        Ok((self.cpu()? - before, u64::from(CHANGES * WATCHERS).saturating_sub(arrived)))
    }

    /// Makes many objects, and returns their names.
    pub(crate) async fn fill(&self) -> Result<Vec<String>> {
        let filling = "x".repeat(850);
        let names: Vec<String> = (0..OBJECTS).map(|number| format!("object-{number}")).collect();
        let made = names.iter().map(|name| {
            let body =
                json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"text": filling, "n": "0"}});
            self.send(Method::POST, MAPS, Some(body))
        });
        stream::iter(made).buffer_unordered(PARALLEL).try_for_each(|_| async { Ok(()) }).await?;
        Ok(names)
    }

    /// Whether all of [`Self::fill`] are there.
    pub(crate) async fn is_filled(&self) -> Result<bool> {
        let list: Value = serde_json::from_slice(&self.send(Method::GET, MAPS, None).await?)?;
        let items = list.get("items").and_then(Value::as_array).context("no list")?;
        Ok(items.len() >= OBJECTS)
    }

    /// Memory with many watches and objects, after each object has changed.
    async fn full(&self) -> Result<f64> {
        let names = self.fill().await?;
        let from = format!("resourceVersion={}", self.version().await?);
        let mut watches = JoinSet::new();
        for _ in 0..WATCHES {
            let answer = self.watch(&from).await?;
            watches.spawn(tokio::time::timeout(PATIENCE, lines(answer, OBJECTS as u64)));
        }
        let changed = names.iter().map(|name| async move {
            self.send(Method::PATCH, &format!("{MAPS}/{name}"), Some(json!({"data": {"n": "1"}}))).await
        });
        stream::iter(changed).buffer_unordered(PARALLEL).try_for_each(|_| async { Ok(()) }).await?;
        let memory = self.memory()?;
        watches.join_all().await;
        Ok(memory.max(self.memory()?))
    }
}

/// Counts lines until there are as many as wanted, or the stream ends.
async fn lines(mut answer: reqwest::Response, wanted: u64) -> u64 {
    let mut seen = 0;
    while seen < wanted {
        let Ok(Some(piece)) = answer.chunk().await else { break };
        seen += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    seen
}
