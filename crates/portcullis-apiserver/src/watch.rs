//! Watches: a stream of changes from a version on.
//!
//! Flow: initial objects (when no version is given, or asked for with `sendInitialEvents`) → the bookmark that ends them →
//! changes as they happen, through the selectors (an object that stops matching is DELETED, one that starts is ADDED) →
//! a bookmark each minute when allowed → the end after the timeout.
//!
//! A watcher holds a cursor into the store's log and at most one batch: a client that reads slowly costs no memory, and
//! is told 410 once the log no longer reaches back.
//!
//! Compat: event frames and texts as `watch-cache` of kube-apiserver gives them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use portcullis_kube::Status;
use portcullis_runtime::{Clock, Timestamp};
use serde_json::json;
use tokio::sync::watch;

use crate::http::negotiate::Form;
use crate::http::reply::Pieces;
use crate::json;
use crate::resources::Resource;
use crate::selector::Selection;
use crate::store::Store;
use crate::store::beginning::Everything;
use crate::store::log::{Change, Event};
use crate::store::object::Object;
use crate::table::{self, Rows};

/// Changes taken from the log at once.
const BATCH: usize = 256;
/// Bytes of a piece that is sent at once, roughly.
const PIECE: usize = 8 * 1024;
/// How often a quiet watch says where it stands.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// What one watch shows, and how.
pub(crate) struct WatchRequest {
    pub(crate) resource: &'static Resource,
    /// In whose form objects are shown.
    pub(crate) served: &'static Resource,
    pub(crate) namespace: String,
    pub(crate) selection: Selection,
    pub(crate) form: Form,
    /// Of tables.
    pub(crate) rows: Option<Rows>,
    /// Changes after this version; with `initial`, after the initial objects.
    pub(crate) from: u64,
    /// Objects to begin with; those that it does not show are left out.
    pub(crate) initial: Everything,
    /// Send the bookmark that ends the initial objects.
    pub(crate) end_of_initial: bool,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Duration,
}

struct Watcher {
    request: WatchRequest,
    store: Arc<Store>,
    clock: Clock,
    changed: watch::Receiver<u64>,
    cursor: u64,
    /// How many of the initial objects have been written.
    begun: usize,
    end: Timestamp,
    next_bookmark: Timestamp,
    columns_sent: bool,
    over: bool,
}

/// The frames of a watch.
pub(crate) fn frames(request: WatchRequest, store: Arc<Store>, clock: Clock) -> Option<Pieces> {
    let changed = store.subscribe(request.resource)?;
    let now = clock.now();
    let watcher = Watcher {
        cursor: request.from,
        begun: 0,
        end: now + request.timeout,
        next_bookmark: now + BOOKMARKS,
        columns_sent: false,
        over: false,
        changed,
        store,
        clock,
        request,
    };
    Some(Box::pin(stream::unfold(watcher, |mut watcher| async move {
        let piece = watcher.next().await?;
        Some((Ok::<Bytes, io::Error>(piece), watcher))
    })))
}

/// A watch that ends at once, with an error.
pub(crate) fn refused(status: &Status) -> Pieces {
    let mut out = Vec::new();
    begin(&mut out, "ERROR");
    out.extend(json::to_vec(status));
    out.extend_from_slice(b"}\n");
    Box::pin(stream::once(async move { Ok::<Bytes, io::Error>(out.into()) }))
}

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            let mut out = Vec::new();
            self.fill_initial(&mut out);
            if out.is_empty() {
                // Seen before reading the log, so that a change in between wakes the wait below.
                self.changed.mark_unchanged();
                self.fill_changes(&mut out);
            }
            if !out.is_empty() {
                return Some(out.into());
            }
            if let Some(bookmark) = self.wait().await {
                return Some(bookmark);
            }
        }
        None
    }

    fn fill_initial(&mut self, out: &mut Vec<u8>) {
        let initial = Arc::clone(&self.request.initial);
        for object in initial.get(self.begun..).unwrap_or_default() {
            if out.len() >= PIECE {
                return;
            }
            self.begun += 1;
            if self.shows(object) {
                self.write(out, "ADDED", object);
            }
        }
        // A watch lives for an hour; its list of what it began with need not.
        self.request.initial = Everything::default();
        if self.request.end_of_initial {
            self.request.end_of_initial = false;
            self.write_bookmark(out, self.cursor, true);
        }
    }

    fn fill_changes(&mut self, out: &mut Vec<u8>) {
        loop {
            match self.store.changes(self.request.resource, self.cursor, BATCH) {
                Err(gone) => {
                    self.write_gone(out, gone.oldest);
                    self.over = true;
                    return;
                }
                Ok(batch) => {
                    let full = batch.events.len() >= BATCH;
                    for event in &batch.events {
                        self.write_event(out, event);
                        self.cursor = event.object.version;
                        if out.len() >= PIECE {
                            return;
                        }
                    }
                    self.cursor = self.cursor.max(batch.upto);
                    if !full {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for a change, a bookmark's time or the end.
    async fn wait(&mut self) -> Option<Bytes> {
        let bookmark_at = if self.request.bookmarks { self.next_bookmark } else { Timestamp::MAX };
        let alarm = self.clock.sleep_until(self.end.min(bookmark_at));
        tokio::select! {
            changed = self.changed.changed() => {
                self.over = changed.is_err();
                None
            }
            () = alarm => {
                let now = self.clock.now();
                self.over = now >= self.end;
                if self.over || !self.request.bookmarks {
                    return None;
                }
                self.next_bookmark = now + BOOKMARKS;
                let mut out = Vec::new();
                self.write_bookmark(&mut out, self.cursor, false);
                Some(out.into())
            }
        }
    }

    fn shows(&self, object: &Object) -> bool {
        (self.request.namespace.is_empty() || *object.namespace == *self.request.namespace)
            && self.request.selection.matches(object)
    }

    fn write_event(&mut self, out: &mut Vec<u8>, event: &Event) {
        let (is, was) = (self.shows(&event.object), event.before.as_deref().is_some_and(|before| self.shows(before)));
        match (event.change, was, is) {
            (Change::Added, _, true) | (Change::Modified, false, true) => self.write(out, "ADDED", &event.object),
            (Change::Modified, true, true) => self.write(out, "MODIFIED", &event.object),
            (Change::Deleted, true, _) => self.write(out, "DELETED", &event.object),
            // Compat: the object as it was last selected, at the version of the change that took it out.
            (Change::Modified, true, false) => match &event.before {
                Some(before) => {
                    let last = Object::seal(self.request.resource, before.members(), event.object.version);
                    self.write(out, "DELETED", &last);
                }
                None => self.write(out, "DELETED", &event.object),
            },
            (Change::Added | Change::Modified | Change::Deleted, _, _) => {}
        }
    }

    fn write(&mut self, out: &mut Vec<u8>, kind: &str, object: &Object) {
        if out.is_empty() {
            // A vector that grows step by step ends up with room for twice as much.
            out.reserve_exact(object.bytes.len() + 64);
        }
        begin(out, kind);
        match (self.request.form, self.request.rows) {
            (Form::Metadata(version) | Form::MetadataList(version), _) => {
                table::write_partial(out, version, object.metadata());
            }
            (Form::Table(_), Some(rows)) => {
                let meta = json!({"resourceVersion": object.version.to_string()});
                let known = std::mem::replace(&mut self.columns_sent, true);
                let columns = if known { table::Asked::Further } else { table::Asked::One };
                let now = self.clock.now();
                let one = std::iter::once(object);
                out.extend(table::render(self.request.resource.kind, one, &meta, rows, columns, now));
            }
            (Form::Object | Form::Table(_) | Form::Discovery, _) => match self.request.served.shown(object) {
                Some(shown) => out.extend_from_slice(&shown.bytes),
                None => out.extend_from_slice(&object.bytes),
            },
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_bookmark(&self, out: &mut Vec<u8>, version: u64, initial: bool) {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if initial {
            json::set(&mut metadata, "annotations", json!({"k8s.io/initial-events-end": "true"}));
        }
        let served = self.request.served;
        begin(out, "BOOKMARK");
        match self.request.form {
            Form::Object | Form::Discovery => {
                let members = json!({"metadata": metadata});
                let members = members.as_object().cloned().unwrap_or_default();
                let shaped = crate::resources::strategy::shape(served, members);
                out.extend_from_slice(&Object::seal(served, shaped, version).bytes);
            }
            Form::Metadata(meta) | Form::MetadataList(meta) => {
                table::write_partial(out, meta, &json::to_vec(&metadata));
            }
            Form::Table(meta) => {
                let api_version = meta.api_version();
                let cells = table::empty_cells(served.kind, self.clock.now());
                let object = json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata});
                let table = json!({"kind": "Table", "apiVersion": api_version,
                    "metadata": {"resourceVersion": version.to_string()}, "columnDefinitions": null,
                    "rows": [{"cells": cells, "object": object}]});
                out.extend(json::to_vec(&table));
            }
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_gone(&self, out: &mut Vec<u8>, oldest: u64) {
        begin(out, "ERROR");
        let message = format!("too old resource version: {} ({oldest})", self.cursor);
        out.extend(json::to_vec(&Status::expired(message)));
        out.extend_from_slice(b"}\n");
    }
}

fn begin(out: &mut Vec<u8>, kind: &str) {
    out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use portcullis_runtime::MockClock;
    use serde_json::{Map, Value};

    use super::*;
    use crate::http::negotiate::MetaVersion;
    use crate::resources;
    use crate::selector::Written;
    use crate::store::StoreLimits;
    use crate::table::RowObject;

    fn namespace(name: &str, label: &str) -> Map<String, Value> {
        json!({"metadata": {"name": name, "labels": {"x": label}}}).as_object().unwrap().clone()
    }

    struct Bench {
        store: Arc<Store>,
        clock: Clock,
        hand: MockClock,
    }

    fn bench(limits: StoreLimits) -> Bench {
        let (clock, hand) = Clock::mock(0);
        Bench { store: Arc::new(Store::new(limits)), clock, hand }
    }

    impl Bench {
        fn watch(&self, from: u64, selector: &str, change: impl FnOnce(&mut WatchRequest)) -> Pieces {
            let mut request = WatchRequest {
                resource: resources::namespaces(),
                served: resources::namespaces(),
                namespace: String::new(),
                selection: Written::read(selector, "").unwrap().of(resources::namespaces()).unwrap(),
                form: Form::Object,
                rows: None,
                from,
                initial: Everything::default(),
                end_of_initial: false,
                bookmarks: false,
                timeout: Duration::from_secs(300),
            };
            change(&mut request);
            frames(request, Arc::clone(&self.store), self.clock.clone()).unwrap()
        }

        async fn rest(&self, pieces: Pieces) -> Vec<(String, Value)> {
            self.hand.advance(Duration::from_secs(301));
            let bytes: Vec<u8> = pieces.map(|piece| piece.unwrap().to_vec()).concat().await;
            String::from_utf8(bytes).unwrap().lines().map(frame).collect()
        }
    }

    fn frame(line: &str) -> (String, Value) {
        let value: Value = serde_json::from_str(line).unwrap();
        (value["type"].as_str().unwrap().to_owned(), value["object"].clone())
    }

    fn names(frames: &[(String, Value)]) -> Vec<String> {
        frames
            .iter()
            .map(|(kind, object)| format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or("-")))
            .collect()
    }

    #[tokio::test]
    async fn leaving_a_selection_is_a_deletion_and_entering_it_an_addition() {
        let bench = bench(StoreLimits::default());
        let pieces = bench.watch(1, "x=in", |_| {});
        let a = bench.store.create(resources::namespaces(), namespace("a", "in")).unwrap();
        let a = bench.store.replace(resources::namespaces(), &a, namespace("a", "out")).unwrap();
        let gone = bench.store.version();
        let a = bench.store.replace(resources::namespaces(), &a, namespace("a", "in")).unwrap();
        let a = bench.store.replace(resources::namespaces(), &a, namespace("a", "in")).unwrap();
        bench.store.remove(resources::namespaces(), &a).unwrap();
        bench.store.create(resources::namespaces(), namespace("b", "out")).unwrap();
        let frames = bench.rest(pieces).await;
        assert_eq!(names(&frames), ["ADDED a", "DELETED a", "ADDED a", "MODIFIED a", "DELETED a"]);
        assert_eq!(frames[1].1["metadata"]["labels"]["x"], "in", "the state that was last selected");
        assert_eq!(frames[1].1["metadata"]["resourceVersion"], gone.to_string());
    }

    #[tokio::test]
    async fn initial_events_end_with_their_bookmark_and_changes_follow() {
        let bench = bench(StoreLimits::default());
        bench.store.create(resources::namespaces(), namespace("a", "")).unwrap();
        let initial = bench.store.all(resources::namespaces(), "");
        let from = bench.store.version();
        let pieces = bench.watch(from, "", |request| {
            request.initial = Arc::new(initial);
            request.end_of_initial = true;
        });
        bench.store.create(resources::namespaces(), namespace("b", "")).unwrap();
        let frames = bench.rest(pieces).await;
        assert_eq!(names(&frames), ["ADDED a", "BOOKMARK -", "ADDED b"]);
        assert_eq!(frames[1].1["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
        assert_eq!(frames[1].1["spec"], json!({}), "the real server writes its type's zero value");
    }

    #[tokio::test]
    async fn a_watcher_that_the_log_has_passed_is_told_410_and_ends() {
        let bench = bench(StoreLimits { log_events: 4, ..StoreLimits::default() });
        for name in ["a", "b", "c", "d", "e", "f"] {
            bench.store.create(resources::namespaces(), namespace(name, "")).unwrap();
        }
        let frames = bench.rest(bench.watch(1, "", |_| {})).await;
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].0.as_str(), &frames[0].1["code"]), ("ERROR", &json!(410)));
        assert_eq!(frames[0].1["message"], "too old resource version: 1 (3)");
    }

    #[tokio::test]
    async fn quiet_watches_get_a_bookmark_each_minute_and_end_in_time() {
        let bench = bench(StoreLimits::default());
        let mut pieces = bench.watch(1, "", |request| request.bookmarks = true);
        let hand = bench.hand.clone();
        for _ in 0..3 {
            let next = tokio::spawn(async move { (pieces.next().await, pieces) });
            tokio::task::yield_now().await;
            hand.advance(Duration::from_secs(60));
            let (piece, back) = next.await.unwrap();
            pieces = back;
            assert_eq!(frame(std::str::from_utf8(&piece.unwrap().unwrap()).unwrap().trim_end()).0, "BOOKMARK");
        }
        hand.advance(Duration::from_secs(200));
        assert!(pieces.next().await.is_none());
    }

    #[tokio::test]
    async fn table_events_carry_the_columns_once() {
        let bench = bench(StoreLimits::default());
        let pieces = bench.watch(1, "", |request| {
            request.form = Form::Table(MetaVersion::V1);
            request.rows = Some(Rows { object: RowObject::Metadata, version: MetaVersion::V1 });
        });
        bench.store.create(resources::namespaces(), namespace("a", "")).unwrap();
        bench.store.create(resources::namespaces(), namespace("b", "")).unwrap();
        let frames = bench.rest(pieces).await;
        assert!(frames[0].1["columnDefinitions"].is_array());
        assert!(frames[1].1["columnDefinitions"].is_null());
        assert_eq!(frames[1].1["rows"][0]["cells"][0], "b");
    }

    #[tokio::test]
    async fn many_watchers_see_every_change_while_it_happens() {
        let bench = bench(StoreLimits::default());
        let readers: Vec<_> = (0..20)
            .map(|_| {
                let pieces = bench.watch(1, "", |_| {});
                tokio::spawn(async move {
                    let mut seen = 0;
                    let mut pieces = pieces;
                    while seen < 500 {
                        seen += pieces.next().await.unwrap().unwrap().iter().filter(|byte| **byte == b'\n').count();
                    }
                    seen
                })
            })
            .collect();
        for number in 0..500 {
            bench.store.create(resources::namespaces(), namespace(&format!("n{number}"), "")).unwrap();
            tokio::task::yield_now().await;
        }
        for reader in readers {
            assert_eq!(reader.await.unwrap(), 500);
        }
    }

    #[tokio::test]
    async fn a_view_shows_changes_in_its_own_form() {
        let bench = bench(StoreLimits::default());
        bench.store.create(resources::namespaces(), namespace("n", "")).unwrap();
        let event =
            json!({"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"name": "p"}, "message": "m"});
        let pieces = bench.watch(0, "", |request| {
            request.resource = resources::events();
            request.served = resources::find("events.k8s.io", "v1", "events").unwrap();
        });
        bench.store.create(resources::events(), event.as_object().unwrap().clone()).unwrap();
        let frames = bench.rest(pieces).await;
        let (kind, shown) = &frames[0];
        assert_eq!(
            (kind.as_str(), &shown["apiVersion"], &shown["note"]),
            ("ADDED", &json!("events.k8s.io/v1"), &json!("m"))
        );
        assert_eq!((&shown["regarding"]["name"], shown.get("involvedObject")), (&json!("p"), None));
        assert_eq!(shown["metadata"]["resourceVersion"], bench.store.version().to_string());
    }
}
