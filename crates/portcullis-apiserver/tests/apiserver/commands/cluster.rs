//! What the rest of a control plane does in a real cluster and the dev API server does itself, done for the bare real
//! kube-apiserver. Upstream's own namespace controller and garbage collector run beside it; this does what is left:
//!
//! - at start, what the real one lacks of the dev API server's objects: the node that its kubelet would have made, and the
//!   service account and the authority in each namespace;
//! - a new namespace gets its account and authority (controllers `serviceaccount`, `root-ca-certificate-publisher`).

use std::time::Duration;

use http::Method;
use portcullis_testkit::HttpClient;
use serde_json::{Value, json};

/// Collections of which the real server gets what it lacks.
const LEVELLED: [&str; 4] =
    ["/api/v1/nodes", "/api/v1/serviceaccounts", "/api/v1/configmaps", "/apis/coordination.k8s.io/v1/leases"];
/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// The real server's administrator.
#[derive(Clone)]
pub(super) struct Cluster {
    client: HttpClient,
    base: String,
    /// The dev API server's object for each namespace, which both sides shall show alike.
    authority: Value,
}

impl Cluster {
    /// Gives the real server what it lacks of ours.
    pub(super) async fn level(client: HttpClient, base: &str, ours: &HttpClient, our_base: &str) -> Self {
        let path = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";
        let ours_of = Self { client: ours.clone(), base: our_base.to_owned(), authority: Value::Null };
        let mut authority = ours_of.get(path).await;
        strip(&mut authority);
        let cluster = Self { client, base: base.to_owned(), authority };
        for collection in LEVELLED {
            let there = cluster.items(collection).await;
            for mut item in ours_of.items(collection).await {
                let known = |there: &&Value| name(there) == name(&item);
                if there.iter().any(|there| known(&there)) {
                    continue;
                }
                strip(&mut item);
                let (root, plural) = collection.rsplit_once('/').unwrap();
                let namespace = item["metadata"]["namespace"].as_str().map(|name| format!("/namespaces/{name}"));
                let path = format!("{root}{}/{plural}", namespace.unwrap_or_default());
                let (status, made) = cluster.send(Method::POST, &path, Some(&item)).await;
                assert_eq!(status, 201, "{path}: {made}");
                if collection.ends_with("/nodes") {
                    // Admission taints a new node until the node controller has seen it ready.
                    item["metadata"] = made["metadata"].clone();
                    let (status, made) =
                        cluster.send(Method::PUT, &format!("{path}/{}", name(&item).1), Some(&item)).await;
                    assert_eq!(status, 200, "{path}: {made}");
                }
            }
        }
        cluster
    }

    /// Acts until it is aborted.
    pub(super) async fn keep(self) {
        loop {
            self.act().await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Brings about what the controllers would. Others may change the same things at this moment, so nothing is demanded.
    pub(super) async fn act(&self) {
        for namespace in self.items("/api/v1/namespaces").await {
            let (_, named) = name(&namespace);
            if !namespace["metadata"]["deletionTimestamp"].is_null() {
                continue;
            }
            let folder = format!("/api/v1/namespaces/{named}");
            if self.get(&format!("{folder}/serviceaccounts/default")).await["code"] == 404 {
                let account = json!({"metadata": {"name": "default"}});
                self.send(Method::POST, &format!("{folder}/serviceaccounts"), Some(&account)).await;
            }
            if self.get(&format!("{folder}/configmaps/kube-root-ca.crt")).await["code"] == 404 {
                let mut map = self.authority.clone();
                map["metadata"]["namespace"] = json!(named);
                self.send(Method::POST, &format!("{folder}/configmaps"), Some(&map)).await;
            }
        }
    }

    /// The objects of a collection, each with its kind.
    pub(super) async fn items(&self, path: &str) -> Vec<Value> {
        let list = self.get(path).await;
        let kind = list["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
        let mut items = list["items"].as_array().cloned().unwrap_or_default();
        for item in &mut items {
            item["apiVersion"] = list["apiVersion"].clone();
            item["kind"] = json!(kind);
        }
        items
    }

    async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, None).await.1
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(|body| body.to_string().into());
        let url = format!("{}{path}", self.base);
        let response = self.client.request(method, &url, &[("content-type", "application/json")], body).await.unwrap();
        (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
    }
}

/// Namespace and name.
fn name(object: &Value) -> (String, String) {
    let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (part("namespace"), part("name"))
}

/// What a new object does not bring.
fn strip(object: &mut Value) {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for given in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        metadata.shift_remove(given);
    }
}
