//! Requests of every sort through router and handlers, one after the other: none makes the server fail, every refusal is a
//! Status with its own code, and what watches tell adds up to what lists show.
//!
//! The input is up to eight requests as text, a NUL between them. Every input meets the same server.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use portcullis_apiserver::fuzzing::{Body, Frames, Kind, Site};
use portcullis_fuzz::{Limit, Request, filled, runtime, tree};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Requests of one input.
const REQUESTS: usize = 8;
/// What is watched.
const SELECTORS: [&str; 3] = ["", "labelSelector=a", "labelSelector=!kubernetes.io/bootstrapping,a!=b"];
/// Memory that one input may take. The documents of OpenAPI are the largest things that there are.
const MEMORY: usize = 192 << 20;

thread_local! {
    static SITE: RefCell<Option<(Runtime, Site, u64)>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    SITE.with_borrow_mut(|slot| {
        let (runtime, site, start) = slot.get_or_insert_with(|| {
            let runtime = runtime();
            let site = runtime.block_on(filled());
            let start = site.version();
            (runtime, site, start)
        });
        let _limit = Limit::of(MEMORY);
        runtime.block_on(all(site, data, *start));
        if site.version() != *start {
            *slot = None;
        }
    });
});

async fn all(site: &Site, data: &[u8], start: u64) {
    let mut streams = Vec::new();
    for text in data.split(|byte| *byte == 0).take(REQUESTS) {
        let Some(request) = Request::read(text) else { continue };
        let follows = request.target.contains("/log");
        if let Some(answer) = request.send(site).await
            && let Body::Frames(frames) = answer.body
        {
            streams.push((frames, follows));
        }
        assert!(site.settle(), "the background comes to an end");
    }
    if site.version() != start {
        for kind in Kind::all() {
            adds_up(site, kind, start).await;
        }
    }
    // Longer than any watch may ask for.
    site.advance(Duration::from_secs(25 * 3_600));
    for (mut frames, follows) in streams {
        if !follows {
            for frame in read(&mut frames).await {
                assert!(frame["type"].is_string() && frame["object"].is_object(), "{frame}");
            }
        }
    }
    assert!(site.is_quiet());
}

/// The state at `start` and what happened since make the state of now.
async fn adds_up(site: &Site, kind: Kind, start: u64) {
    let path = kind.path();
    for selector in SELECTORS {
        let at = format!("{path}?{selector}&resourceVersion={start}&resourceVersionMatch=Exact");
        let Some(mut state) = list(site, &at).await else { continue };
        let now = list(site, &format!("{path}?{selector}")).await.expect("a list");
        let watch = format!("{path}?{selector}&watch=1&resourceVersion={start}&timeoutSeconds=1");
        let watch = Request::of("GET", &watch, "", b"").send(site).await.expect("a request");
        let Body::Frames(mut frames) = watch.body else { panic!("{path}: no watch") };
        site.advance(Duration::from_secs(2));
        for frame in read(&mut frames).await {
            let (key, object) = keyed(frame["object"].clone());
            let before = match frame["type"].as_str() {
                Some("ADDED" | "MODIFIED") => state.insert(key, object),
                Some("DELETED") => state.remove(&key),
                _ => panic!("{path}: {frame}"),
            };
            assert_eq!(before.is_some(), frame["type"] != "ADDED", "{path}: {frame}");
        }
        assert_eq!(state, now, "{path}?{selector}");
        if selector.is_empty() && state.is_empty() {
            return;
        }
    }
}

/// Objects by namespace and name; `None` when the log does not reach back that far.
async fn list(site: &Site, target: &str) -> Option<BTreeMap<(String, String), Value>> {
    let answer = Request::of("GET", target, "", b"").send(site).await.expect("a request");
    if answer.status == 410 {
        return None;
    }
    let mut tree = tree(&answer).expect("a list");
    let Value::Array(items) = tree["items"].take() else { panic!("{target}: {tree}") };
    Some(items.into_iter().map(keyed).collect())
}

fn keyed(mut object: Value) -> ((String, String), Value) {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    let key = (text("namespace"), text("name"));
    if let Some(members) = object.as_object_mut() {
        members.remove("kind");
        members.remove("apiVersion");
    }
    (key, object)
}

/// The frames of a watch that is over.
async fn read(frames: &mut Frames) -> Vec<Value> {
    let mut bytes = Vec::new();
    while let Some(piece) = frames.next().await {
        bytes.extend_from_slice(&piece);
    }
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect()
}
