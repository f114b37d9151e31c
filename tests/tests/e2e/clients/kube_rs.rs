//! kube-rs: its watchers over pages and over a watch that begins with the objects, with its reflector's store.

use std::error::Error;
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Config, ResourceExt};
use tokio::sync::mpsc;

use super::program::{Client, Line, Lines, Stream};
use super::proxy::Proxy;

const STREAMS: &[Stream] = &[
    Stream { name: "watcher", in_order: true, tells_cut: false, tells_gone: true },
    Stream { name: "streaming", in_order: true, tells_cut: false, tells_gone: true },
];
/// Attempts of a call, while its connection is cut.
const ATTEMPTS: usize = 100;

pub(crate) fn start(proxy: Proxy, kubeconfig: &str, namespace: &'static str, kinds: &'static [&'static str]) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let lines = Lines::default();
    let (commands, mut told) = mpsc::unbounded_channel::<String>();
    let said = Said(Arc::clone(&lines));
    tokio::spawn(async move {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let api: Api<ConfigMap> = Api::namespaced(kube::Client::try_from(config).unwrap(), namespace);
        let pages = watcher::Config::default().page_size(50);
        let stores = [
            follow(said.clone(), "watcher", api.clone(), pages),
            follow(said.clone(), "streaming", api.clone(), watcher::Config::default().streaming_lists()),
        ];
        let mut made = 0_usize;
        while let Some(command) = told.recv().await {
            match command.split_once(' ') {
                Some(("patch", count)) => {
                    for _ in 0..count.parse().unwrap() {
                        made += 1;
                        let name = format!("client-rust-{}", made % 5);
                        let object = patch(&said, &api, kinds[made % kinds.len()], &name, made).await;
                        said.object("", "patched", &object);
                    }
                }
                _ => {
                    for (store, stream) in stores.iter().zip(STREAMS) {
                        for object in store.state() {
                            said.object(stream.name, "state", &object);
                        }
                        said.say(stream.name, "end", String::new());
                    }
                }
            }
            said.say("", "done", command);
        }
    });
    Client::inside(
        "kube-rs",
        STREAMS,
        proxy,
        lines,
        Box::new(move |command| commands.send(command.to_owned()).unwrap()),
    )
}

#[derive(Clone)]
struct Said(Lines);

impl Said {
    fn say(&self, stream: &str, what: &str, text: String) {
        let line = Line { stream: stream.to_owned(), what: what.to_owned(), text, ..Line::default() };
        self.0.lock().unwrap().push(line);
    }

    fn error(&self, stream: &str, what: &str, error: &(dyn Error + 'static)) {
        let ended = match told(error) {
            None => "broken",
            Some(410) => "gone",
            Some(_) => "refused",
        };
        let causes = chain(error).map(ToString::to_string);
        self.say(stream, ended, format!("{what}: {}", causes.collect::<Vec<_>>().join(": ")));
    }

    fn object(&self, stream: &str, what: &str, object: &ConfigMap) {
        self.0.lock().unwrap().push(Line {
            stream: stream.to_owned(),
            what: what.to_owned(),
            name: object.name_any(),
            uid: object.uid().unwrap(),
            version: object.resource_version().unwrap(),
            ..Line::default()
        });
    }
}

/// Runs a watcher with its store.
fn follow(said: Said, stream: &'static str, api: Api<ConfigMap>, config: watcher::Config) -> Store<ConfigMap> {
    let (store, writer) = reflector::store();
    tokio::spawn(async move {
        let mut events = watch(api, config).default_backoff().reflect(writer).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => said.say(stream, "begin", String::new()),
                Ok(Event::InitApply(object)) => said.object(stream, "have", &object),
                Ok(Event::InitDone) => said.say(stream, "ready", String::new()),
                Ok(Event::Apply(object)) => said.object(stream, "applied", &object),
                Ok(Event::Delete(object)) => said.object(stream, "deleted", &object),
                Err(error) => said.error(stream, "watch", &error),
            }
        }
        said.say(stream, "failed", "the watcher ended".to_owned());
    });
    store
}

/// What the server said, when it was the server.
fn told(error: &(dyn Error + 'static)) -> Option<u16> {
    chain(error).find_map(|error| match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status.code),
        _ => match error.downcast_ref::<watcher::Error>() {
            Some(watcher::Error::WatchError(status)) => Some(status.code),
            _ => None,
        },
    })
}

/// An error and what led to it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Repeats a change until it succeeds, and says why each attempt did not.
async fn patch(said: &Said, api: &Api<ConfigMap>, kind: &str, name: &str, value: usize) -> ConfigMap {
    for _ in 0..ATTEMPTS {
        match change(api, kind, name, value).await {
            Ok(object) => return object,
            Err(error) => said.error("", &format!("patch {kind}"), &error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{kind}: no attempt succeeded")
}

async fn change(api: &Api<ConfigMap>, kind: &str, name: &str, value: usize) -> kube::Result<ConfigMap> {
    let body = serde_json::json!({"data": {"n": value.to_string()}});
    let params = PatchParams::default();
    match kind {
        "merge" => api.patch(name, &params, &Patch::Merge(body)).await,
        "strategic" => api.patch(name, &params, &Patch::Strategic(body)).await,
        "json" => {
            let operations = serde_json::json!([{"op": "replace", "path": "/data/n", "value": value.to_string()}]);
            let operations = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
            api.patch(name, &params, &Patch::Json::<()>(operations)).await
        }
        "update" => {
            let mut object = api.get(name).await?;
            object.data.get_or_insert_default().insert("n".to_owned(), value.to_string());
            api.replace(name, &PostParams::default(), &object).await
        }
        _ => panic!("no such kind of patch: {kind}"),
    }
}
