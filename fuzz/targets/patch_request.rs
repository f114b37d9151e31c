//! Patches through the handler, of objects of many kinds and their parts: a try says what the real one does; what is answered
//! is what is there, and can be put back as it is; a refused patch changes nothing; nothing is our failure.
//!
//! The input is a byte that chooses the object, one that chooses the part, the patch's type and what becomes of unknown
//! fields, and the patch. Every input meets the same server.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use portcullis_apiserver::fuzzing::{Answer, Body, Site};
use portcullis_fuzz::{Limit, OBJECTS, Request, filled, runtime, tree};
use serde_json::Value;
use tokio::runtime::Runtime;

const TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];
const PARTS: [&str; 4] = ["", "/status", "", "/scale"];
const FIELDS: [&str; 3] = ["", "&fieldValidation=Strict", "&fieldValidation=Ignore"];
/// Memory that a patch may take, twice and with its answers: one can copy what it has copied.
const MEMORY: usize = 64 << 20;

thread_local! {
    static SITE: RefCell<Option<(Runtime, Site, u64)>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    let [choice, how, patch @ ..] = data else { return };
    let (path, _) = OBJECTS[usize::from(*choice) % OBJECTS.len()];
    let how = usize::from(*how);
    let (part, content_type) = (PARTS[how / 3 % 4], TYPES[how % 3]);
    let target = format!("{path}{part}");
    SITE.with_borrow_mut(|slot| {
        let (runtime, site, start) = slot.get_or_insert_with(|| {
            let runtime = runtime();
            let site = runtime.block_on(filled());
            let start = site.version();
            (runtime, site, start)
        });
        let _limit = Limit::of(MEMORY);
        let query = FIELDS[how / 12 % 3];
        runtime.block_on(one(site, &target, content_type, query, patch));
        if site.version() != *start {
            *slot = None;
        }
    });
});

async fn one(site: &Site, target: &str, content_type: &'static str, query: &str, patch: &[u8]) {
    let start = site.version();
    let before = get(site, target).await;
    let tried = format!("{target}?dryRun=All{query}");
    let tried = Request::of("PATCH", &tried, content_type, patch).send(site).await.expect("a request");
    assert_eq!(site.version(), start, "{target}: a try changes nothing");
    let real = format!("{target}?{}", query.trim_start_matches('&'));
    let real = Request::of("PATCH", &real, content_type, patch).send(site).await.expect("a request");
    assert_eq!(tried.status, real.status, "{target}: {:?} {:?}", tree(&tried), tree(&real));
    assert_eq!(untold(&tried), untold(&real), "{target}: a try says what the real one does");
    if real.status != 200 {
        assert_eq!(site.version(), start, "{target}: a refused patch changes nothing");
        assert_eq!(get(site, target).await, before);
        return;
    }
    let now = get(site, target).await;
    if now.is_null() {
        // It was going already, and waited for the finalizer that the patch took off.
        assert!(before["metadata"]["deletionTimestamp"].is_string(), "{target}: it is gone");
        return;
    }
    assert_eq!(tree(&real).as_ref(), Some(&now), "{target}: what is answered is what is there");
    let Body::Whole(bytes) = &real.body else { panic!("{target}: no object") };
    let version = site.version();
    let put = Request::of("PUT", target, "application/json", bytes).send(site).await.expect("a request");
    assert_eq!((put.status, tree(&put)), (200, Some(now)), "{target}: it can be put back");
    assert_eq!(site.version(), version, "{target}: and that changes nothing");
}

async fn get(site: &Site, target: &str) -> Value {
    let answer = Request::of("GET", target, "application/json", b"").send(site).await.expect("a request");
    let found = answer.status == 200;
    tree(&answer).filter(|_| found).unwrap_or_default()
}

/// An answer without its version and without what is drawn by lot.
fn untold(answer: &Answer) -> Option<Value> {
    let mut tree = tree(answer)?;
    if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    if tree["kind"] == "Service" {
        let spec = tree.get_mut("spec").and_then(Value::as_object_mut)?;
        for drawn in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
            spec.remove(drawn);
        }
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.as_object_mut()?.remove("nodePort");
        }
    }
    Some(tree)
}
