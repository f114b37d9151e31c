//! What many watches and objects cost the dev API server, counted: bytes, events, and what a watcher gets that does not read.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::io::{AsyncBufRead, AsyncBufReadExt};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use kube::config::{KubeConfigOptions, Kubeconfig};
use portcullis_runtime::http_client::HttpClient;
use serde_json::{Value, json};

use crate::clients::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Bytes of RSS that it may come to: the budget (docs/decisions/0026).
const CEILING: u64 = 40_000_000;
/// Requests at a time.
const AT_ONCE: usize = 16;
/// The longest that a watcher waits for its next line.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn five_thousand_objects_and_two_hundred_watches_stay_below_the_ceiling() {
    runtime().block_on(async {
        let site = Site::start().await;
        let filling = "x".repeat(850);
        let names: Vec<String> = (0..5_000).map(|number| format!("object-{number:04}")).collect();
        site.each(names.iter().map(|name| {
            let body = json!({"metadata": {"name": name, "labels": {"n": name}}, "data": {"text": filling, "n": "0"}});
            (Method::POST, MAPS.to_owned(), body)
        }))
        .await;
        let filled = site.resident();
        // Half of them begin with all objects, as informers do.
        let begin = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let from = format!("resourceVersion={}&allowWatchBookmarks=true", site.version().await);
        let mut watches = Vec::new();
        for number in 0..200 {
            let mut lines = site.watch(if number % 2 == 0 { begin } else { &from }).await;
            if number % 2 == 0 {
                let mut seen = 0;
                while !next(&mut lines).await.contains("k8s.io/initial-events-end") {
                    seen += 1;
                }
                assert_eq!(seen, names.len() + 1, "all objects, and kube-root-ca.crt");
            }
            watches.push(lines);
        }
        let watched = site.resident();
        let counting: Vec<_> = watches
            .into_iter()
            .map(|mut lines| {
                let want = names.len();
                tokio::spawn(async move {
                    for _ in 0..want {
                        assert!(next(&mut lines).await.starts_with("{\"type\":\"MODIFIED\""));
                    }
                    lines
                })
            })
            .collect();
        site.each(names.iter().map(|name| (Method::PATCH, format!("{MAPS}/{name}"), json!({"data": {"n": "1"}}))))
            .await;
        let mut open = Vec::new();
        for task in counting {
            open.push(task.await.unwrap());
        }
        let changed = site.resident();
        let told = format!("{filled} with the objects, {watched} with the watches, {changed} after a change of each");
        println!("{told}");
        assert!(filled.max(watched).max(changed) <= CEILING, "{told}");
    });
}

#[test]
fn ten_thousand_events_reach_a_hundred_watchers_once_and_in_order() {
    runtime().block_on(async {
        let site = Site::start().await;
        let names: Vec<String> = (0..50).map(|number| format!("object-{number}")).collect();
        let create = |name: &String| (Method::POST, MAPS.to_owned(), json!({"metadata": {"name": name}}));
        site.each(names.iter().map(create)).await;
        let from = format!("resourceVersion={}", site.version().await);
        let mut watchers = Vec::new();
        for _ in 0..100 {
            let mut lines = site.watch(&from).await;
            watchers.push(tokio::spawn(async move {
                let mut versions = Vec::with_capacity(10_000);
                while versions.len() < 10_000 {
                    versions.push(version(&next(&mut lines).await));
                }
                versions
            }));
        }
        // Some are cut early on.
        let mut cut = Vec::new();
        for number in 0..10 {
            let mut lines = site.watch(&from).await;
            cut.push(tokio::spawn(async move {
                let mut last = 0;
                for _ in 0..=number * 10 {
                    last = version(&next(&mut lines).await);
                }
                last
            }));
        }
        // Each object is changed by one request after the other, different objects at the same time.
        let written: BTreeSet<u64> = stream::iter(names.iter().map(|name| {
            let site = &site;
            async move {
                let mut versions = Vec::new();
                for turn in 0..200 {
                    let patch = json!({"data": {"n": turn.to_string()}});
                    versions.push(version(&site.send(Method::PATCH, &format!("{MAPS}/{name}"), patch).await));
                }
                versions
            }
        }))
        .buffer_unordered(AT_ONCE)
        .flat_map(stream::iter)
        .collect()
        .await;
        assert_eq!(written.len(), 10_000);
        let in_order: Vec<u64> = written.into_iter().collect();
        for watcher in watchers {
            assert!(watcher.await.unwrap() == in_order, "an event was lost, came twice or in another order");
        }
        // Whoever comes back to what is no longer kept is told so, and how far back it is; from there nothing is missing.
        for cut in cut {
            let oldest = site.told_gone(cut.await.unwrap()).await;
            let kept: Vec<u64> = in_order.iter().copied().filter(|version| *version > oldest).collect();
            assert!((1_000..9_000).contains(&kept.len()), "{} changes are kept", kept.len());
            let mut lines = site.watch(&format!("resourceVersion={oldest}")).await;
            for want in kept {
                assert_eq!(version(&next(&mut lines).await), want);
            }
        }
    });
}

#[test]
fn watchers_that_do_not_read_cost_little_and_learn_what_they_missed() {
    const WATCHERS: usize = 40;
    runtime().block_on(async {
        let site = Site::start().await;
        site.send(Method::POST, MAPS, json!({"metadata": {"name": "big"}})).await;
        let started = site.version().await;
        let from = format!("resourceVersion={started}");
        let mut watchers = Vec::new();
        for _ in 0..WATCHERS {
            watchers.push(site.watch(&from).await);
        }
        let before = site.resident();
        let (mut written, mut most) = (Vec::new(), 0);
        // 120 MB, of which the log keeps 1 MiB and each connection some pieces.
        for turn in 0..1_200 {
            let patch = json!({"data": {"text": format!("{turn}{}", "x".repeat(100_000))}});
            written.push(version(&site.send(Method::PATCH, &format!("{MAPS}/big"), patch).await));
            most = most.max(site.resident());
        }
        assert!(most - before <= 20_000_000, "{before} before, {most} at most");
        for mut lines in watchers {
            let (mut got, mut last) = (0, started);
            loop {
                // The server may have given up on who takes nothing: it says so to whoever comes back.
                let Some(line) = line(&mut lines).await else {
                    site.told_gone(last).await;
                    break;
                };
                if line.contains("\"type\":\"ERROR\"") {
                    gone(&line, last);
                    break;
                }
                last = version(&line);
                assert_eq!(version(&line), written[got], "no event is left out silently");
                got += 1;
            }
            assert!(got < written.len(), "the log must have passed it");
        }
    });
}

struct Site {
    server: Server,
    client: HttpClient,
    config: kube::Config,
}

impl Site {
    async fn start() -> Self {
        let server = Server::ours();
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Self { client: server.admin(), server, config }
    }

    /// What the process has in memory, its program's pages among it.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        kib.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> String {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = (method != Method::GET).then(|| Bytes::from(body.to_string()));
        let answer =
            self.client.request(method, &self.server.url(path), &[("content-type", kind)], body).await.unwrap();
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!((200..300).contains(&answer.status), "{path}: {} {text}", answer.status);
        text
    }

    async fn each(&self, requests: impl Iterator<Item = (Method, String, Value)>) {
        let sent = stream::iter(requests).map(|(method, path, body)| async move {
            self.send(method, &path, body).await;
        });
        sent.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    async fn version(&self) -> u64 {
        version(&self.send(Method::GET, &format!("{MAPS}?limit=1"), Value::Null).await)
    }

    /// A watch from this version is told 410 at once, and ends; the oldest version that is kept.
    async fn told_gone(&self, from: u64) -> u64 {
        let mut lines = self.watch(&format!("resourceVersion={from}")).await;
        let oldest = gone(&next(&mut lines).await, from);
        assert_eq!(line(&mut lines).await, None);
        oldest
    }

    /// A watch on a connection of its own.
    async fn watch(&self, options: &str) -> Lines {
        let client = kube::Client::try_from(self.config.clone()).unwrap();
        let request = http::Request::get(format!("{MAPS}?watch=true&{options}")).body(Vec::new()).unwrap();
        let lines: Box<dyn AsyncBufRead + Send + Unpin> =
            Box::new(Box::pin(client.request_stream(request).await.unwrap()));
        lines.lines()
    }
}

type Lines = futures_util::io::Lines<Box<dyn AsyncBufRead + Send + Unpin>>;

/// The next line; `None` when the stream has ended or broken.
async fn line(lines: &mut Lines) -> Option<String> {
    tokio::time::timeout(PATIENCE, lines.try_next()).await.expect("a line in time").ok().flatten()
}

async fn next(lines: &mut Lines) -> String {
    line(lines).await.expect("the watch goes on")
}

/// The oldest version that is kept, as the event says that tells a watcher at `from` that it has missed something.
fn gone(line: &str, from: u64) -> u64 {
    let event: Value = serde_json::from_str(line).unwrap();
    let status = &event["object"];
    assert_eq!((&event["type"], &status["code"], &status["reason"]), (&json!("ERROR"), &json!(410), &json!("Expired")));
    let oldest = status["message"].as_str().unwrap().strip_prefix(&format!("too old resource version: {from} ("));
    oldest.and_then(|rest| rest.strip_suffix(')')).expect(line).parse().unwrap()
}

/// The first version in a text, which is the object's own.
fn version(text: &str) -> u64 {
    let rest = text.split_once("\"resourceVersion\":\"").expect(text).1;
    rest.split('"').next().unwrap().parse().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
