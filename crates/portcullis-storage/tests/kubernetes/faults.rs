//! An API server that restarts, throttles or has lost its store, and records that somebody else has touched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_runtime::Timestamp;
use portcullis_storage::kernel::{Kind, Page, Write};
use portcullis_storage::{CrdHandling, Kernel, KernelError};
use portcullis_testkit::ControlPlane;
use tokio::task::JoinSet;

use crate::kit::{Namespaces, Pod, Shared, answered_with, data, eventually, is_unknown, kubectl, open, options};

/// Adds one to a counter until it is certain that it was added once: a lost answer is looked up by what was written.
async fn count(kernel: &Shared, writer: usize, times: usize) {
    for turn in 0..times {
        let mine = format!("{writer}.{turn}");
        let mut unknown = false;
        loop {
            let Ok(Some(record)) = kernel.get(Kind::Family, "counter").await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let text = String::from_utf8(record.data).unwrap();
            if unknown && text.split(' ').any(|done| done == mine) {
                break;
            }
            match kernel.update(Kind::Family, "counter", record.version, data(&format!("{text} {mine}"))).await {
                Ok(_) => break,
                Err(error) => unknown |= is_unknown(&error),
            }
        }
    }
}

fn assert_counted_once(text: &str, writers: usize, times: usize) {
    let mut done: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(done.len(), writers * times);
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len(), writers * times, "something was written twice");
}

/// Writers at one record while the API server restarts and etcd is killed: nothing is lost, nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_across_restarts_of_the_api_server_and_a_killed_etcd() {
    let mut plane = ControlPlane::start(&[]).await;
    let namespace = Namespaces::new(&plane).make().await;
    let kernel: Shared = Arc::new(open(&options(&plane, &namespace, CrdHandling::Ensure)).await.unwrap());
    kernel.insert(Kind::Family, "counter", data("")).await.unwrap();
    let before = kernel.insert(Kind::Code, "id", data("x")).await.unwrap();
    let (writers, times) = (16, 30);
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let kernel = Arc::clone(&kernel);
        tasks.spawn(async move { tokio::time::timeout(Duration::from_secs(240), count(&kernel, writer, times)).await });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    plane.restart_apiserver().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    plane.kill_etcd();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let start = Instant::now();
    let failed = kernel.insert(Kind::Code, "while away", data("x")).await.unwrap_err();
    assert!(matches!(failed, KernelError::Unavailable { .. }), "{failed}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    plane.restart_etcd().await;
    while let Some(done) = tasks.join_next().await {
        done.unwrap().expect("the writers end");
    }
    let record = kernel.get(Kind::Family, "counter").await.unwrap().unwrap();
    assert_counted_once(std::str::from_utf8(&record.data).unwrap(), writers, times);
    // Versions go on.
    let after = kernel.update(Kind::Code, "id", before, data("y")).await.unwrap();
    assert_ne!(before, after);
    assert_eq!(kernel.update(Kind::Code, "id", before, data("z")).await, Err(KernelError::Conflict));
}

/// A server that does one write at a time and refuses the rest with 429, for a second: all of them are done in the end. How often they
/// are refused, and how long that may take, follows from what is waited after each refusal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_writes_are_done_in_the_end() {
    const WRITES: u32 = 16;
    /// What the server asks for; clients wait up to a quarter longer.
    const ASKED: Duration = Duration::from_secs(1);
    let flags =
        ["--enable-priority-and-fairness=false", "--max-mutating-requests-inflight=1", "--max-requests-inflight=4"];
    let plane = ControlPlane::start(&flags.map(str::to_owned)).await;
    let pod = Pod::deploy_all(&plane);
    let mut options = pod.options(CrdHandling::Check);
    // A write is refused while another one is done, and is back only when that is over: each of the others can refuse it once.
    options.answer_time += ASKED * 5 / 4 * (WRITES - 1);
    let kernel: Shared = Arc::new(open(&options).await.unwrap());
    let before = answered_with(&plane, 429).await;
    let mut tasks = JoinSet::new();
    for number in 0..WRITES {
        let kernel = Arc::clone(&kernel);
        let large = Write { data: vec![b'x'; 128 * 1024], ..Write::default() };
        tasks.spawn(async move {
            let begun = Instant::now();
            kernel.insert(Kind::Code, &number.to_string(), large).await.map(|_| begun.elapsed())
        });
    }
    let times: Vec<Duration> = tasks.join_all().await.into_iter().map(Result::unwrap).collect();
    let refused = answered_with(&plane, 429).await - before;
    assert!(refused >= 1.0, "nothing was throttled");
    // Whoever was refused has waited for as long as the server asked, each time.
    let waits: u64 = times.iter().map(Duration::as_secs).sum();
    assert!(refused <= waits as f64, "{refused} refusals, in {times:?}");
    let mut seen = 0;
    let mut page = Some(Page::first(10));
    while let Some(current) = page {
        let listing = kernel.list(Kind::Code, current).await.unwrap();
        (seen, page) = (seen + listing.records.len(), listing.next);
    }
    assert_eq!(seen, WRITES as usize);
}

/// Somebody with kubectl changes and deletes records: our next write notices, and what cannot be read stops nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_did_to_a_record_is_noticed() {
    let plane = ControlPlane::start(&[]).await;
    let namespace = Namespaces::new(&plane).make().await;
    let kernel = open(&options(&plane, &namespace, CrdHandling::Ensure)).await.unwrap();
    let at = |seconds| Write { expires_at: Some(Timestamp::from_unix_seconds(seconds)), ..Write::default() };
    let version = kernel.insert(Kind::Code, "a", at(10)).await.unwrap();
    let name =
        || kubectl(&plane, &["get", "records", "-n", &namespace, "-o", "name"]).lines().next().unwrap().to_owned();
    let first = name();
    kubectl(&plane, &["label", "-n", &namespace, &first, "example.com/note=x"]);
    assert_eq!(kernel.update(Kind::Code, "a", version, at(11)).await, Err(KernelError::Conflict));
    assert_eq!(kernel.delete(Kind::Code, "a", version).await, Err(KernelError::Conflict));
    kubectl(&plane, &["annotate", "-n", &namespace, "--overwrite", &first, "portcullis.dev/expires-at=soon"]);
    let damaged = kernel.get(Kind::Code, "a").await.unwrap_err();
    assert!(matches!(damaged, KernelError::Corrupt { .. }), "{damaged}");

    kernel.insert(Kind::Code, "b", at(12)).await.unwrap();
    assert_eq!(kernel.expire(Timestamp::from_unix_seconds(20), 10).await, Ok(1));
    assert!(kernel.get(Kind::Code, "b").await.unwrap().is_none());
    kubectl(&plane, &["delete", "-n", &namespace, &first]);
    assert!(kernel.get(Kind::Code, "a").await.unwrap().is_none());
    assert_eq!(kernel.update(Kind::Code, "a", version, at(11)).await, Err(KernelError::NotFound));
}

/// 40 records of 256 KiB are more than what one answer may have: fewer are asked for at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_too_large_together_are_read_in_smaller_parts() {
    let plane = ControlPlane::start(&[]).await;
    let namespace = Namespaces::new(&plane).make().await;
    let kernel = open(&options(&plane, &namespace, CrdHandling::Ensure)).await.unwrap();
    for number in 0..40_u8 {
        let whole = Write { data: vec![number; 256 * 1024], ..Write::default() };
        kernel.insert(Kind::Request, &format!("{number:02}"), whole).await.unwrap();
    }
    let mut ids = Vec::new();
    let mut page = Some(Page::first(1000));
    while let Some(current) = page {
        let listing = kernel.list(Kind::Request, current).await.unwrap();
        ids.extend(listing.records.into_iter().map(|record| record.id));
        page = listing.next;
    }
    assert_eq!(ids, (0..40).map(|number| format!("{number:02}")).collect::<Vec<_>>());
}

/// A list of more than one chunk while etcd forgets versions: 410 in the middle, and still every record once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_goes_on_when_its_version_is_forgotten() {
    // Its cache would keep versions that etcd has forgotten.
    let plane = Arc::new(ControlPlane::start(&["--watch-cache=false".to_owned()]).await);
    let namespace = Namespaces::new(&plane).make().await;
    let kernel: Shared = Arc::new(open(&options(&plane, &namespace, CrdHandling::Ensure)).await.unwrap());
    let mut tasks = JoinSet::new();
    for writer in 0..16 {
        let kernel = Arc::clone(&kernel);
        tasks.spawn(async move {
            for number in 0..75 {
                let large = Write { data: vec![b'x'; 6 * 1024], ..Write::default() };
                kernel.insert(Kind::Code, &format!("{:04}", number * 16 + writer), large).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let compacting = tokio::spawn({
        let (plane, kernel) = (Arc::clone(&plane), Arc::clone(&kernel));
        async move {
            for number in 0..40 {
                let version = kernel.insert(Kind::Login, &format!("{number}"), data("x")).await.unwrap();
                plane.compact_etcd(version.number()).await;
            }
        }
    });
    for _ in 0..4 {
        let mut ids = Vec::new();
        let mut page = Some(Page::first(600));
        while let Some(current) = page {
            let listing = kernel.list(Kind::Code, current).await.unwrap();
            ids.extend(listing.records.into_iter().map(|record| record.id));
            page = listing.next;
        }
        let expected: Vec<String> = (0..1200).map(|number| format!("{number:04}")).collect();
        assert_eq!(ids, expected);
    }
    compacting.await.unwrap();
    assert!(answered_with(&plane, 410).await >= 1.0, "no version was forgotten in the middle of a scan");
    eventually("the rest of the logins", async || {
        (kernel.list(Kind::Login, Page::first(100)).await.unwrap().records.len() == 40).then_some(())
    })
    .await;
}
