//! Who makes the changes: writes straight to the server, with a record of each as the server answered it.

use std::collections::HashMap;

use bytes::Bytes;
use http::Method;
use portcullis_runtime::http_client::HttpClient;
use serde_json::{Value, json};

use super::server::Server;

pub(crate) const NAMESPACE: &str = "clients";
/// Writers at a time, each with objects of its own.
const WRITERS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// A change that the server has made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) change: Change,
    pub(crate) uid: String,
    /// 0 for a deletion: its answer does not say.
    pub(crate) version: u64,
    /// A watch may have missed it: it was made before the watch began, or while no client could watch.
    pub(crate) unwatched: bool,
}

pub(crate) struct Driver {
    client: HttpClient,
    base: String,
    /// What each writer's objects are, by name; `None` after a deletion.
    objects: Vec<HashMap<String, String>>,
    pub(crate) made: Vec<Made>,
    pub(crate) unwatched: bool,
    turn: u64,
}

impl Driver {
    pub(crate) async fn new(server: &Server) -> Self {
        let client = server.admin();
        let namespace = json!({"metadata": {"name": NAMESPACE}});
        send(&client, Method::POST, &server.url("/api/v1/namespaces"), Some(namespace)).await;
        Self {
            client,
            base: server.url(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps")),
            objects: vec![HashMap::new(); WRITERS],
            made: Vec::new(),
            unwatched: true,
            turn: 1,
        }
    }

    /// Makes an object that others change.
    pub(crate) async fn create(&mut self, name: &str) -> (String, u64) {
        let made = create(&self.client, &self.base, name, "0").await;
        self.keep(&made);
        (made.uid, made.version)
    }

    /// Gives an object another value.
    pub(crate) async fn set(&mut self, name: &str, value: &str) -> (String, u64) {
        let made = set(&self.client, &self.base, name, value).await;
        self.keep(&made);
        (made.uid, made.version)
    }

    pub(crate) async fn delete(&mut self, name: &str) {
        let url = format!("{}/{name}", self.base);
        let uid = text(&send(&self.client, Method::GET, &url, None).await, "uid");
        send(&self.client, Method::DELETE, &url, None).await;
        self.keep(&Made { change: Change::Deleted, uid, version: 0, unwatched: false });
    }

    fn keep(&mut self, made: &Made) {
        self.made.push(Made { unwatched: self.unwatched, ..made.clone() });
    }

    /// `count` changes by all writers at once: most modify, some create and some delete.
    pub(crate) async fn change(&mut self, count: usize) {
        self.turn += 1;
        let (turn, each) = (self.turn, count / WRITERS);
        let mut tasks = Vec::new();
        for (writer, mut objects) in std::mem::take(&mut self.objects).into_iter().enumerate() {
            let (client, base) = (self.client.clone(), self.base.clone());
            tasks.push(tokio::spawn(async move {
                let mut random = turn * 1_000 + writer as u64;
                let mut made = Vec::new();
                for number in 0..each {
                    // A linear congruential generator: the same choices in each run.
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let choice = random >> 33;
                    let name = format!("driver-{writer}-{}", choice % 25);
                    let value = format!("{turn}-{number}");
                    match (objects.get(&name).cloned(), choice / 25 % 8) {
                        (None, _) => {
                            let one = create(&client, &base, &name, &value).await;
                            objects.insert(name, one.uid.clone());
                            made.push(one);
                        }
                        (Some(uid), 0) => {
                            send(&client, Method::DELETE, &format!("{base}/{name}"), None).await;
                            objects.remove(&name);
                            made.push(Made { change: Change::Deleted, uid, version: 0, unwatched: false });
                        }
                        (Some(_), _) => made.push(set(&client, &base, &name, &value).await),
                    }
                }
                (objects, made)
            }));
        }
        for task in tasks {
            let (objects, made) = task.await.unwrap();
            self.objects.push(objects);
            for one in made {
                self.keep(&one);
            }
        }
    }

    /// Everything that the server has: name, uid and version.
    pub(crate) async fn state(&self) -> Vec<(String, String, u64)> {
        let list = send(&self.client, Method::GET, &self.base, None).await;
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| (text(item, "name"), text(item, "uid"), version(item))).collect()
    }
}

async fn create(client: &HttpClient, base: &str, name: &str, value: &str) -> Made {
    let body = json!({"metadata": {"name": name, "labels": {"made-by": "driver"}}, "data": {"n": value}});
    let object = send(client, Method::POST, base, Some(body)).await;
    Made { change: Change::Added, uid: text(&object, "uid"), version: version(&object), unwatched: false }
}

async fn set(client: &HttpClient, base: &str, name: &str, value: &str) -> Made {
    let object = send(client, Method::PATCH, &format!("{base}/{name}"), Some(json!({"data": {"n": value}}))).await;
    Made { change: Change::Modified, uid: text(&object, "uid"), version: version(&object), unwatched: false }
}

async fn send(client: &HttpClient, method: Method, url: &str, body: Option<Value>) -> Value {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let body = body.map(|body| Bytes::from(body.to_string()));
    let answer = client.request(method.clone(), url, &[("content-type", kind)], body).await.unwrap();
    let told = String::from_utf8_lossy(&answer.body);
    assert!((200..300).contains(&answer.status), "{method} {url}: {} {told}", answer.status);
    serde_json::from_slice(&answer.body).unwrap()
}

fn text(object: &Value, name: &str) -> String {
    object["metadata"][name].as_str().unwrap().to_owned()
}

fn version(object: &Value) -> u64 {
    text(object, "resourceVersion").parse().unwrap()
}
