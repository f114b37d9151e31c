//! The etcd kernel beside the conformance suite and the faults (`faults/`): TLS and users, an etcd that is killed, paused or
//! compacted, several endpoints, the schema key, and what is left behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use portcullis_runtime::{Timestamp, chain};
use portcullis_storage::{
    Applied, EtcdClientCertificate, EtcdCredentials, EtcdKernel, EtcdOpenError, EtcdOptions, EtcdTls, Kernel,
    KernelError,
    kernel::{IndexKey, Kind, Page, Slot, Write},
};
use portcullis_testkit::{Etcd, FaultProxy, TestCa, Traffic, free_port};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const PASSWORD: &str = "pw-that-must-not-show";

fn options(url: &str) -> EtcdOptions {
    EtcdOptions { endpoints: vec![url.to_owned()], namespace: "dex/".to_owned(), ..EtcdOptions::default() }
}

async fn open(url: &str) -> EtcdKernel {
    EtcdKernel::open(options(url)).await.unwrap()
}

/// An open error with its causes.
async fn refusal(options: EtcdOptions) -> String {
    chain(&EtcdKernel::open(options).await.err().unwrap())
}

fn data(text: &str) -> Write {
    Write { data: text.as_bytes().to_vec(), ..Write::default() }
}

fn until(seconds: i64, index: [Option<IndexKey>; 2]) -> Write {
    Write { index, expires_at: Some(Timestamp::from_unix_seconds(seconds)), data: Vec::new() }
}

fn key(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// How many keys begin with `prefix`, which ends with `/`.
async fn count(etcd: &Etcd, prefix: &str) -> u64 {
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let range = json!({"key": key(prefix), "range_end": key(&end), "count_only": true});
    let answer = etcd.call("kv/range", &range, None).await;
    answer.get("count").and_then(Value::as_str).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn tls_with_client_certificates_keeps_everybody_else_out() {
    let etcd = Etcd::start_with_tls().await;
    let client = EtcdClientCertificate { cert_file: etcd.file("client.pem"), key_file: etcd.file("client.key") };
    let ours = EtcdTls { ca_file: Some(etcd.file("ca.pem")), client: Some(client), server_name: None };
    let with = |tls: EtcdTls| EtcdOptions { tls: Some(tls), ..options(&etcd.url()) };

    let kernel = EtcdKernel::open(with(ours.clone())).await.unwrap();
    kernel.insert(Kind::Client, "app", data("x")).await.unwrap();
    let bare = EtcdOptions { endpoints: vec![etcd.address().to_string()], ..with(ours.clone()) };
    let again = EtcdKernel::open(bare).await.unwrap();
    assert_eq!(again.get(Kind::Client, "app").await.unwrap().unwrap().data, b"x");
    let named = EtcdTls { server_name: Some("localhost".to_owned()), ..ours.clone() };
    assert!(EtcdKernel::open(with(named)).await.is_ok());

    let other = etcd.file("other.pem");
    std::fs::write(&other, TestCa::new("other").pem()).unwrap();
    let short = |tls: EtcdTls| EtcdOptions { answer_time: Duration::from_secs(2), ..with(tls) };
    for (tls, why) in [
        (EtcdTls { client: None, ..ours.clone() }, "the etcd store cannot be opened"),
        (EtcdTls { ca_file: Some(other), ..ours.clone() }, "TLS: invalid peer certificate"),
        (EtcdTls { server_name: Some("etcd.example".to_owned()), ..ours.clone() }, "TLS: invalid peer certificate"),
        (EtcdTls { ca_file: Some(etcd.file("missing.pem")), ..ours.clone() }, "missing.pem"),
        (EtcdTls { ca_file: Some(etcd.file("client.key")), ..ours }, "client.key: CA certificates"),
    ] {
        let refusal = refusal(short(tls)).await;
        assert!(refusal.contains(why), "{refusal}");
    }
    let plain =
        EtcdOptions { answer_time: Duration::from_millis(500), ..options(&format!("http://{}", etcd.address())) };
    let refusal = refusal(plain).await;
    assert!(refusal.contains("etcd"), "{refusal}");
}

/// Users and roles: root, and `dex`, who may use the namespace `dex/` alone.
async fn with_users() -> Etcd {
    let etcd = Etcd::start().await;
    for user in ["root", "dex"] {
        etcd.call("auth/user/add", &json!({"name": user, "password": PASSWORD}), None).await;
        etcd.call("auth/role/add", &json!({"name": user}), None).await;
        etcd.call("auth/user/grant", &json!({"user": user, "role": user}), None).await;
    }
    let range = json!({"permType": "READWRITE", "key": key("dex/"), "range_end": key("dex0")});
    etcd.call("auth/role/grant", &json!({"name": "dex", "perm": range}), None).await;
    etcd.call("auth/enable", &json!({}), None).await;
    etcd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_signs_in_and_its_token_is_renewed() {
    let mut etcd = with_users().await;
    let with = |username: &str, password: &str| EtcdOptions {
        credentials: Some(EtcdCredentials { username: username.to_owned(), password: password.into() }),
        ..options(&etcd.url())
    };
    let ours = with("dex", PASSWORD);
    assert!(!format!("{ours:?}").contains(PASSWORD));
    let wrong = refusal(with("dex", "wrong-pw-must-not-show")).await;
    assert!(wrong.contains("invalid user ID or password") && !wrong.contains("must-not-show"), "{wrong}");
    let nobody = refusal(options(&etcd.url())).await;
    assert!(nobody.contains("user name is empty"), "{nobody}");
    let elsewhere = refusal(EtcdOptions { namespace: "other/".to_owned(), ..ours.clone() }).await;
    assert!(elsewhere.contains("permission denied"), "{elsewhere}");

    let kernel = Arc::new(EtcdKernel::open(ours).await.unwrap());
    assert!(!format!("{kernel:?}").contains(PASSWORD));
    let version = kernel.insert(Kind::Client, "app", data("1")).await.unwrap();
    // The users' store has changed: tokens from before are old for writes.
    let root = etcd.call("auth/authenticate", &json!({"name": "root", "password": PASSWORD}), None).await;
    let token = root.get("token").and_then(Value::as_str).unwrap();
    etcd.call("auth/role/add", &json!({"name": "more"}), Some(token)).await;
    let version = kernel.update(Kind::Client, "app", version, data("2")).await.unwrap();
    // After a restart etcd knows none of its tokens. Many ask at once; one renews.
    etcd.restart().await;
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let kernel = Arc::clone(&kernel);
        tasks.spawn(async move { kernel.get(Kind::Client, "app").await });
    }
    while let Some(read) = tasks.join_next().await {
        assert_eq!(read.unwrap().unwrap().unwrap().version, version);
    }
    etcd.restart().await;
    kernel.update(Kind::Client, "app", version, data("3")).await.unwrap();
}

#[tokio::test]
async fn a_password_for_an_etcd_without_users_is_no_error() {
    let etcd = Etcd::start().await;
    let credentials = Some(EtcdCredentials { username: "dex".to_owned(), password: PASSWORD.into() });
    let kernel = EtcdKernel::open(EtcdOptions { credentials, ..options(&etcd.url()) }).await.unwrap();
    kernel.insert(Kind::Client, "app", data("1")).await.unwrap();
}

/// Every write that was acknowledged is there, and none twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_killed_and_comes_back_is_used_again() {
    let mut etcd = Etcd::start().await;
    let kernel = Arc::new(open(&etcd.url()).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (kernel, stop) = (Arc::clone(&kernel), Arc::clone(&stop));
        writers.spawn(async move {
            let (mut acknowledged, mut unknown, mut refused) = (Vec::new(), Vec::new(), Vec::new());
            for number in 0..1_000_000 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("{writer}-{number}");
                match kernel.insert(Kind::Login, &id, data(&id)).await {
                    Ok(version) => acknowledged.push((id, version)),
                    Err(KernelError::Unavailable { applied: Applied::Unknown, trouble }) => unknown.push(trouble),
                    Err(KernelError::Unavailable { applied: Applied::No, .. }) => refused.push(id),
                    Err(error) => panic!("{id}: {error:?}"),
                }
            }
            (acknowledged, unknown, refused)
        });
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        etcd.kill();
        etcd.restart().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    while let Some(writer) = writers.join_next().await {
        let (acknowledged, unknown, refused) = writer.unwrap();
        for id in refused {
            let read = kernel.get(Kind::Login, &id).await.unwrap();
            assert_eq!(read, None, "{id} was said not to be written");
        }
        assert!(unknown.len() <= 3, "more writes than crashes are unknown to one writer: {unknown:?}");
        assert!(!acknowledged.is_empty());
        total += acknowledged.len();
        for (id, version) in acknowledged {
            let found = kernel.get(Kind::Login, &id).await.unwrap().unwrap_or_else(|| panic!("{id} is lost"));
            assert_eq!((found.version, found.data), (version, id.into_bytes()));
        }
    }
    println!("{total} acknowledged writes over three crashes");
}

/// A paused server keeps its connections and says nothing: the next endpoint is asked.
#[tokio::test]
async fn another_endpoint_is_asked_when_one_is_silent_or_gone() {
    let etcd = Etcd::start().await;
    let proxy = FaultProxy::start(etcd.address()).await;
    let gone = format!("http://127.0.0.1:{}", free_port());
    let endpoints = vec![gone, format!("http://{}", proxy.address()), etcd.url()];
    let kernel = EtcdKernel::open(EtcdOptions { endpoints, ..options("") }).await.unwrap();
    kernel.insert(Kind::Client, "app", data("1")).await.unwrap();
    assert_eq!(proxy.accepted(), 1);
    proxy.set(Traffic::Hold);
    assert_eq!(kernel.get(Kind::Client, "app").await.unwrap().unwrap().data, b"1");
    let begun = Instant::now();
    kernel.insert(Kind::Client, "b", data("1")).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "the silent one is asked again first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_under_way_disturbs_nobody() {
    let etcd = Etcd::start().await;
    let kernel = Arc::new(open(&etcd.url()).await);
    let index = IndexKey::of(&["x"]);
    for number in 0..100 {
        let write = until(1_000_000, [Some(index), None]);
        kernel.insert(Kind::Family, &format!("{number:03}"), write).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (kernel, stop) = (Arc::clone(&kernel), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) || rounds == 0 {
                let id = format!("{task:03}");
                let record = kernel.get(Kind::Family, &id).await.unwrap().unwrap();
                kernel.update(Kind::Family, &id, record.version, until(2_000_000, record.index)).await.unwrap();
                let listed = kernel.list(Kind::Family, Page::first(1000)).await.unwrap();
                let found = kernel.by_index(Kind::Family, Slot::First, index, Page::first(1000)).await.unwrap();
                assert_eq!((listed.records.len(), found.records.len()), (100, 100));
                assert_eq!(kernel.expire(Timestamp::UNIX_EPOCH, 10).await.unwrap(), 0);
                rounds += 1;
            }
            rounds
        });
    }
    let mut compacted = Vec::new();
    for _ in 0..1_000 {
        let answer = etcd.call("kv/range", &json!({"key": key("dex/portcullis/schema")}), None).await;
        let revision = answer.pointer("/header/revision").and_then(Value::as_str).unwrap().to_owned();
        if compacted.last() != Some(&revision) {
            etcd.call("kv/compaction", &json!({"revision": revision, "physical": true}), None).await;
            compacted.push(revision);
        }
        if compacted.len() >= 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(compacted.len(), 10);
    stop.store(true, Ordering::Relaxed);
    while let Some(rounds) = tasks.join_next().await {
        assert!(rounds.unwrap() >= 1);
    }
}

#[tokio::test]
async fn batches_meet_every_record_once_and_leave_nothing_behind() {
    let etcd = Etcd::start().await;
    let kernel = open(&etcd.url()).await;
    let (x, y) = (IndexKey::of(&["x"]), IndexKey::of(&["y"]));
    for number in 0..150_i64 {
        let write = until(number, [Some(x), (number % 2 == 0).then_some(y)]);
        kernel.insert(Kind::Family, &format!("{number:03}"), write).await.unwrap();
    }
    for limit in [31, 32, 33, 64, 149, 150, 1000] {
        for (slot, index, expected) in [(Slot::First, x, 150), (Slot::Second, y, 75)] {
            let (mut ids, mut page) = (Vec::new(), Some(Page::first(limit)));
            while let Some(current) = page {
                let listing = kernel.by_index(Kind::Family, slot, index, current).await.unwrap();
                ids.extend(listing.records.into_iter().map(|record| record.id));
                page = listing.next;
            }
            let mut sorted = ids.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!((sorted.len(), &sorted), (expected, &ids), "in pages of {limit}");
        }
    }
    assert_eq!(count(&etcd, "dex/portcullis/index/").await, 225);
    // Keys and expiry change, and go: the entries follow.
    let version = kernel.get(Kind::Family, "000").await.unwrap().unwrap().version;
    let version = kernel.update(Kind::Family, "000", version, data("no entries")).await.unwrap();
    assert_eq!(count(&etcd, "dex/portcullis/index/").await, 223);
    assert_eq!(count(&etcd, "dex/portcullis/expiry/").await, 149);
    kernel.delete(Kind::Family, "000", version).await.unwrap();
    assert_eq!(kernel.expire(Timestamp::from_unix_seconds(100), 1000).await.unwrap(), 100);
    assert_eq!(kernel.expire(Timestamp::MAX, 1000).await.unwrap(), 49);
    assert_eq!(count(&etcd, "dex/portcullis/").await, 1, "the schema key alone is left");
}

/// A second kernel has no memory of what the first one wrote.
#[tokio::test]
async fn entries_that_another_replica_wrote_are_taken_away() {
    let etcd = Etcd::start().await;
    let (one, two) = (open(&etcd.url()).await, open(&etcd.url()).await);
    let x = IndexKey::of(&["x"]);
    let first = one.insert(Kind::Family, "a", until(5, [Some(x), None])).await.unwrap();
    let second = two.update(Kind::Family, "a", first, until(6, [None, Some(x)])).await.unwrap();
    assert_eq!(one.update(Kind::Family, "a", first, data("")).await, Err(KernelError::Conflict));
    assert_eq!(count(&etcd, "dex/portcullis/index/").await, 1);
    one.delete(Kind::Family, "a", second).await.unwrap();
    assert_eq!(two.delete(Kind::Family, "a", second).await, Err(KernelError::NotFound));
    assert_eq!(two.update(Kind::Family, "a", second, data("")).await, Err(KernelError::NotFound));
    assert_eq!(count(&etcd, "dex/portcullis/").await, 1);
}

#[tokio::test]
async fn an_expiry_entry_that_lost_its_record_is_collected() {
    let etcd = Etcd::start().await;
    let kernel = open(&etcd.url()).await;
    kernel.insert(Kind::Code, "a", until(5, [None, None])).await.unwrap();
    kernel.insert(Kind::Code, "b", until(6, [None, None])).await.unwrap();
    etcd.call("kv/deleterange", &json!({"key": key("dex/portcullis/record/code/a")}), None).await;
    assert_eq!(kernel.expire(Timestamp::from_unix_seconds(10), 10).await.unwrap(), 1);
    assert_eq!(count(&etcd, "dex/portcullis/").await, 1);
}

#[tokio::test]
async fn looking_writes_nothing() {
    let etcd = Etcd::start().await;
    let missing = EtcdKernel::look(options(&etcd.url())).await.expect_err("a refusal");
    assert!(matches!(missing, EtcdOpenError::Missing { .. }), "{missing}");
    let text = missing.to_string();
    assert!(text.contains("dex/portcullis/") && text.contains(&etcd.url()), "{text}");
    assert_eq!(count(&etcd, "dex/").await, 0);
    open(&etcd.url()).await.insert(Kind::Code, "a", data("x")).await.unwrap();
    let before = count(&etcd, "dex/").await;
    let looking = EtcdKernel::look(options(&etcd.url())).await.unwrap();
    assert_eq!(looking.get(Kind::Code, "a").await.unwrap().unwrap().data, b"x");
    assert_eq!(count(&etcd, "dex/").await, before);
    etcd.call("kv/put", &json!({"key": key("dex/portcullis/schema"), "value": key("2")}), None).await;
    assert!(matches!(EtcdKernel::look(options(&etcd.url())).await, Err(EtcdOpenError::Newer { .. })));
}

/// As a replica of the next version leaves it behind: its records must not stop the collector for all others.
#[tokio::test]
async fn kinds_of_a_later_version_are_collected_too() {
    let etcd = Etcd::start().await;
    let kernel = open(&etcd.url()).await;
    let index = [Some(IndexKey::of(&["a"])), Some(IndexKey::of(&["b"]))];
    kernel.insert(Kind::Code, "z", until(5, index)).await.unwrap();
    // The same record once more, as one of a kind that is not known here.
    let all = json!({"key": key("dex/portcullis/"), "range_end": key("dex/portcullis0")});
    let stored = etcd.call("kv/range", &all, None).await;
    let puts: Vec<Value> = stored["kvs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|kv| {
            let name = String::from_utf8(BASE64_STANDARD.decode(kv["key"].as_str()?).ok()?).ok()?;
            let later = name.replace("/code/", "/later/");
            (later != name).then(|| json!({"requestPut": {"key": key(&later), "value": kv.get("value")}}))
        })
        .collect();
    assert_eq!(puts.len(), 4, "record, two index entries, expiry");
    etcd.call("kv/txn", &json!({"success": puts}), None).await;
    kernel.insert(Kind::Code, "after", until(6, [None, None])).await.unwrap();
    assert_eq!(kernel.expire(Timestamp::from_unix_seconds(10), 10).await.unwrap(), 3);
    assert_eq!(count(&etcd, "dex/portcullis/").await, 1, "the schema");
}

#[tokio::test]
async fn a_newer_or_foreign_store_is_refused_and_left_alone() {
    let etcd = Etcd::start().await;
    for (value, text) in [
        ("2", "has schema number 2, and this version knows 1 at most; use the newer version"),
        ("{}", "another program uses the keys \"dex/portcullis/\" in etcd at http"),
    ] {
        etcd.call("kv/put", &json!({"key": key("dex/portcullis/schema"), "value": key(value)}), None).await;
        let refusal = refusal(options(&etcd.url())).await;
        assert!(refusal.contains(text) && refusal.contains("\"dex/portcullis/\" in etcd at"), "{refusal}");
        assert_eq!(count(&etcd, "dex/").await, 1);
    }
    // A namespace with Dex's own records is no reason to refuse.
    etcd.call("kv/put", &json!({"key": key("own/client/app"), "value": key("{}")}), None).await;
    let own = || EtcdOptions { namespace: "own/".to_owned(), ..options(&etcd.url()) };
    let (one, two) = tokio::join!(EtcdKernel::open(own()), EtcdKernel::open(own()));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(count(&etcd, "own/").await, 2);
}

#[test]
fn settings_out_of_bounds_are_refused() {
    let endpoint = "http://127.0.0.1:1".to_owned();
    for (endpoints, namespace, fine) in [
        (vec![endpoint.clone(); 64], "x".repeat(1024), true),
        (Vec::new(), String::new(), false),
        (vec![endpoint.clone(); 65], String::new(), false),
        (vec![endpoint.clone()], "x".repeat(1025), false),
        (vec![endpoint, "ftp://x".to_owned()], String::new(), false),
    ] {
        let checked = EtcdOptions { endpoints, namespace, ..EtcdOptions::default() }.check();
        assert_eq!(checked.is_ok(), fine, "{checked:?}");
        assert!(fine || matches!(checked, Err(EtcdOpenError::Settings { .. })));
    }
}
