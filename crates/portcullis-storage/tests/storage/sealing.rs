//! Secrets at rest: invariants S1 to S11 of docs/store-invariants.md.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::{Clock, Rng, Secret, Timestamp};
use portcullis_storage::{
    Client, DataKeyBytes, KeyEncryption, KeyEncryptionKey, KeyWrapper, PUBLISH_BEFORE, Password, Scope, SealingError,
    SealingPolicy, SealingState, Store, StoreError, StoreOptions, Sweep, SweepStep, WrapError, WrapFuture, WriteError,
    conformance::Fault,
    kernel::{Kind, Page, Write},
    write_backup,
};
use tokio::task::JoinSet;

use crate::kit::{Backend, DAY, HOUR, Kit, MINUTE, START, on_every_backend, policy, refresh};

on_every_backend!(
    a_new_store_seals_everything_at_once,
    a_store_in_clear_is_sealed_while_it_is_used,
    a_new_key_encryption_key_wraps_anew_and_the_old_one_is_not_needed,
    sealing_is_switched_off_by_an_explicit_word,
    a_sweep_beside_refreshes_loses_nothing,
);

const CLIENT_SECRET: &str = "hunter2-of-the-client";
const PASSWORD_HASH: &str = "$2a$10$33EMT0cVYVlPy6WAMCLsceLYjWhuHpbz5yuZxu/GAFj03J9Lytjuy";

fn kek(id: &str, byte: u8) -> Arc<dyn KeyWrapper> {
    Arc::new(KeyEncryptionKey::new(Some(id), "a test", &[byte; 32], Rng::seeded(u64::from(byte))).unwrap())
}

/// The first is the current one.
pub(crate) fn keys(all: &[(&str, u8)]) -> KeyEncryption {
    let mut all = all.iter().map(|(id, byte)| kek(id, *byte));
    KeyEncryption { current: all.next().unwrap(), older: all.collect(), ..KeyEncryption::new(kek("x", 0)) }
}

async fn unlocked(kit: &Kit, seed: u64, keys: KeyEncryption) -> Store {
    let store = kit.replica(seed, StoreOptions::default());
    store.unlock(Some(keys)).await.unwrap();
    store
}

/// Makes one of everything that holds a secret.
async fn fill(store: &Store) {
    store.signing_keys().create(&crate::objects::signing_keys(0)).await.unwrap();
    store.sealing_keys().load(SealingPolicy::default()).await.unwrap();
    store.device_keys().load(SealingPolicy::default()).await.unwrap();
    let client = Client { id: "c".into(), secret: Secret::new(CLIENT_SECRET), ..Client::default() };
    store.clients().create(&client).await.unwrap();
    let user = Password { email: "jane@x".into(), hash: Secret::new(PASSWORD_HASH), ..Password::default() };
    store.passwords().create(&user).await.unwrap();
    store.families().create(&store.families().new_id(), crate::kit::new_family("app"), &policy()).await.unwrap();
    let until = Timestamp::from_unix_seconds(START) + 365 * DAY;
    store.logins().begin("flow", crate::kit::new_login(true), until).await.unwrap();
    let code = store.codes().new_code();
    store.logins().issue_code("flow", &code, crate::kit::code_request(), 10 * MINUTE).await.unwrap();
}

/// Opens everything that [`fill`] has made and that lasts.
async fn open_all(store: &Store) -> Result<(), StoreError> {
    store.signing_keys().load().await?.unwrap();
    store.sealing_keys().load(SealingPolicy::default()).await?;
    store.device_keys().load(SealingPolicy::default()).await?;
    assert_eq!(store.clients().get("c").await?.unwrap().secret.expose(), CLIENT_SECRET);
    assert_eq!(store.passwords().get("jane@x").await?.unwrap().hash.expose(), PASSWORD_HASH);
    Ok(())
}

/// Sweeps to the end; what the last step said.
async fn sweep_all(store: &Store, sweep: &mut Sweep) -> SweepStep {
    store.tend_sealing().await.unwrap();
    loop {
        let step = store.sweep(sweep, 3).await.unwrap();
        if step != SweepStep::More {
            return step;
        }
    }
}

/// How many secrets are in clear, and how many are sealed with each data key.
async fn counts(store: &Store) -> (u64, Vec<(String, u64)>) {
    let summary = store.sealing_summary(usize::MAX).await.unwrap();
    assert!(summary.complete);
    let mut by_key = std::collections::BTreeMap::new();
    let mut clear = 0;
    for counts in summary.fields.values() {
        assert_eq!(counts.unreadable, 0);
        clear += counts.clear;
        for (id, count) in &counts.sealed {
            *by_key.entry(id.clone()).or_insert(0) += count;
        }
    }
    (clear, by_key.into_iter().collect())
}

/// How many secrets in clear a backup says that it has.
async fn clear_in_a_backup(store: &Store, scope: Scope) -> u64 {
    let now = Timestamp::from_unix_seconds(START);
    write_backup(store.kernel(), now, scope, &mut std::io::sink(), &mut |_| {}).await.unwrap().clear_secrets
}

async fn data_key(store: &Store) -> String {
    let summary = store.sealing_summary(0).await.unwrap();
    summary.data_keys.into_iter().find(|key| key.seals).unwrap().id
}

async fn a_new_store_seals_everything_at_once(kit: Kit) {
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    assert!(store.seals_secrets());
    fill(&store).await;
    let dump = kit.dump().await;
    for secret in [CLIENT_SECRET, PASSWORD_HASH, "upstream secret"] {
        assert!(!dump.contains(secret) && !dump.contains(&URL_SAFE_NO_PAD.encode(secret)), "{secret} is in {dump}");
    }
    // Each secret that the facades write is one that the walk knows: nothing is in clear, and nothing is sealed unseen.
    let (clear, sealed) = counts(&store).await;
    assert_eq!((clear, sealed.len()), (0, 1), "{dump}");
    assert_eq!(sealed[0].1, dump.matches("\"s.").count() as u64);
    assert_eq!(sealed[0].1, 9, "private key, two cookie keys, client, user, family (2), login, code: {dump}");
    assert!(!dump.contains("\"p."), "{dump}");
    open_all(&unlocked(&kit, 3, keys(&[("k1", 1)])).await).await.unwrap();

    let without = kit.replica(4, StoreOptions::default());
    let refused = without.unlock(None).await.unwrap_err();
    assert_eq!(refused, SealingError::NotConfigured { keys: vec!["k1".to_owned()] });
    assert!(refused.to_string().contains("k1") && refused.hint().is_some());
    assert!(matches!(open_all(&without).await, Err(StoreError::MissingKey { .. })));
    assert_eq!(kit.dump().await, dump, "nothing was changed");
}

async fn a_store_in_clear_is_sealed_while_it_is_used(kit: Kit) {
    fill(&kit.store).await;
    let (clear, sealed) = counts(&kit.store).await;
    assert!(clear > 0 && sealed.is_empty());
    let (one, other) = (unlocked(&kit, 2, keys(&[("k1", 1)])).await, unlocked(&kit, 3, keys(&[("k1", 1)])).await);
    assert!(!one.seals_secrets(), "other replicas learn of the key first");
    assert_eq!(clear_in_a_backup(&one, Scope::Everything).await, clear, "sealing has only begun");
    let mut sweep = Sweep::default();
    assert_eq!(sweep_all(&one, &mut sweep).await, SweepStep::Idle);
    kit.hand.advance(PUBLISH_BEFORE);
    assert!(one.seals_secrets() && other.seals_secrets());
    // One replica is cut off in the middle; the other begins anew.
    assert_eq!(one.sweep(&mut sweep, 2).await.unwrap(), SweepStep::More);
    let mut second = Sweep::default();
    let SweepStep::Done { left, why, .. } = sweep_all(&other, &mut second).await else { panic!("no sweep") };
    assert_eq!((left, why), (2, None), "the sign-in and the code under way are left alone");
    let (clear, sealed) = counts(&other).await;
    assert_eq!((clear, sealed.len()), (2, 1));
    for (scope, clear) in [(Scope::Everything, 2), (Scope::WithoutSessions, 0)] {
        assert_eq!(clear_in_a_backup(&one, scope).await, clear, "{scope:?}");
    }
    open_all(&one).await.unwrap();
    // Those end, and the next sweep finds nothing left.
    kit.hand.advance(366 * DAY + 2 * HOUR);
    other.collect(1000).await.unwrap();
    assert_eq!(kit.count(Kind::Login).await + kit.count(Kind::Code).await, 0);
    other.tend_sealing().await.unwrap();
    open_all(&other).await.unwrap();
}

async fn a_new_key_encryption_key_wraps_anew_and_the_old_one_is_not_needed(kit: Kit) {
    let old = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    fill(&old).await;
    let first = data_key(&old).await;
    let new = unlocked(&kit, 3, keys(&[("k2", 2), ("k1", 1)])).await;
    let summary = new.sealing_summary(0).await.unwrap();
    assert_eq!(summary.state, SealingState::Sealing);
    let needed: Vec<_> = summary.key_encryption_keys.iter().map(|k| (k.id.as_str(), k.current, k.needed)).collect();
    assert_eq!(needed, [("k1", false, false), ("k2", true, true)]);
    assert_eq!(summary.data_keys[0].wrapped_with, ["k1", "k2"], "who has only the old one can still start");
    let late = unlocked(&kit, 4, keys(&[("k1", 1)])).await;
    let before = kit.dump().await;
    late.tend_sealing().await.unwrap();
    assert_eq!(kit.dump().await, before, "who has only the old one leaves it to the others");

    // A year later a new data key is made; whoever has one of the two opens it before it seals.
    kit.hand.advance(365 * DAY);
    new.tend_sealing().await.unwrap();
    for store in [&old, &late] {
        store.tend_sealing().await.unwrap();
    }
    assert_eq!(data_key(&new).await, first);
    kit.hand.advance(PUBLISH_BEFORE);
    let second = data_key(&new).await;
    assert_ne!(second, first);
    let mut sweep = Sweep::default();
    assert!(matches!(sweep_all(&new, &mut sweep).await, SweepStep::Done { written: 6, left: 2, why: None }));
    for store in [&old, &late, &new] {
        open_all(store).await.unwrap();
    }
    // The first data key is removed when nothing carries it and no request can still be writing with it.
    kit.hand.advance(DAY);
    new.collect(1000).await.unwrap();
    assert!(matches!(sweep_all(&new, &mut sweep).await, SweepStep::Done { left: 0, .. }));
    let summary = new.sealing_summary(usize::MAX).await.unwrap();
    assert_eq!(summary.data_keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), [second.as_str()]);
    kit.hand.advance(HOUR);
    assert_eq!(sweep_all(&new, &mut sweep).await, SweepStep::Idle, "it ends");

    // Without the old one: what it could open is replaced.
    let only = unlocked(&kit, 5, keys(&[("k2", 2)])).await;
    kit.hand.advance(PUBLISH_BEFORE);
    only.tend_sealing().await.unwrap();
    let third = data_key(&only).await;
    let settled = kit.dump().await;
    for _ in 0..3 {
        // It still has the old one as an older key, and does not bring it back.
        new.tend_sealing().await.unwrap();
        kit.hand.advance(PUBLISH_BEFORE);
        only.tend_sealing().await.unwrap();
    }
    let back = unlocked(&kit, 7, keys(&[("k2", 2), ("k1", 1)])).await;
    back.tend_sealing().await.unwrap();
    assert_eq!(kit.dump().await, settled);
    assert_ne!(third, second);
    let summary = only.sealing_summary(0).await.unwrap();
    assert!(summary.data_keys.iter().all(|key| key.wrapped_with == ["k2"]), "{summary:?}");
    let gone = kit.replica(6, StoreOptions::default()).unlock(Some(keys(&[("k1", 1)]))).await.unwrap_err();
    assert!(
        matches!(&gone, SealingError::MissingKey { wrapped_with, configured, .. }
        if wrapped_with == &["k2"] && configured == &["k1"]),
        "{gone}"
    );
    assert!(gone.to_string().contains("k2") && gone.hint().is_some(), "{gone}");

    // Whoever makes it the current one again has gone back on purpose.
    let back = unlocked(&kit, 8, keys(&[("k1", 1), ("k2", 2)])).await;
    let summary = back.sealing_summary(0).await.unwrap();
    let order: Vec<_> = summary.key_encryption_keys.iter().map(|key| key.id.as_str()).collect();
    assert_eq!(order, ["k2", "k1"]);
    unlocked(&kit, 9, keys(&[("k1", 1)])).await;
}

async fn sealing_is_switched_off_by_an_explicit_word(kit: Kit) {
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    fill(&store).await;
    let off = unlocked(&kit, 3, KeyEncryption { seal: false, ..keys(&[("k1", 1)]) }).await;
    assert!(!off.seals_secrets() && store.seals_secrets());
    store.tend_sealing().await.unwrap();
    assert!(!store.seals_secrets(), "the other replica follows");
    let mut sweep = Sweep::default();
    kit.hand.advance(PUBLISH_BEFORE);
    assert!(matches!(sweep_all(&off, &mut sweep).await, SweepStep::Done { left: 2, .. }));
    let refused = kit.replica(4, StoreOptions::default()).unlock(None).await.unwrap_err();
    assert!(matches!(refused, SealingError::NotConfigured { .. }), "a sign-in and a code are still sealed");
    kit.hand.advance(366 * DAY);
    off.collect(1000).await.unwrap();
    assert!(matches!(sweep_all(&off, &mut sweep).await, SweepStep::Done { left: 0, .. }));
    let (clear, sealed) = counts(&off).await;
    assert!(clear > 0 && sealed.is_empty(), "{sealed:?}");
    let without = kit.replica(5, StoreOptions::default());
    assert_eq!(without.unlock(None).await.unwrap().state, SealingState::Clear);
    open_all(&without).await.unwrap();
    assert_eq!(off.sealing_summary(0).await.unwrap().state, SealingState::Clearing);

    // And on again: not at once, because there may be replicas without a key.
    let on = unlocked(&kit, 6, keys(&[("k1", 1)])).await;
    assert!(!on.seals_secrets());
    assert!(matches!(without.tend_sealing().await, Err(SealingError::NotConfigured { .. })));
    kit.hand.advance(PUBLISH_BEFORE);
    assert!(on.seals_secrets());
    assert!(matches!(sweep_all(&on, &mut Sweep::default()).await, SweepStep::Done { left: 0, .. }));
    assert_eq!(counts(&on).await.0, 0);
}

async fn a_sweep_beside_refreshes_loses_nothing(kit: Kit) {
    let mut tokens = Vec::new();
    for _ in 0..20 {
        tokens.push(kit.family().await);
    }
    let (one, other) = (unlocked(&kit, 2, keys(&[("k1", 1)])).await, unlocked(&kit, 3, keys(&[("k1", 1)])).await);
    kit.store.unlock(Some(keys(&[("k1", 1)]))).await.unwrap();
    // An empty store would seal at once; this one has no signing keys, so the key is in force already.
    assert!(one.seals_secrets());
    let mut tasks = JoinSet::new();
    for store in [one.clone(), other.clone()] {
        tasks.spawn(async move {
            let mut sweep = Sweep::default();
            while !matches!(store.sweep(&mut sweep, 2).await.unwrap(), SweepStep::Done { .. } | SweepStep::Idle) {
                tokio::task::yield_now().await;
            }
        });
    }
    for (number, token) in tokens.into_iter().enumerate() {
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        tasks.spawn(async move {
            let mut token = token;
            for _ in 0..5 {
                token = refresh(&store, &token, &policy()).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    kit.hand.advance(HOUR);
    sweep_all(&one, &mut Sweep::default()).await;
    assert_eq!(counts(&one).await.0, 0);
}

#[tokio::test]
async fn one_replica_makes_the_first_data_key() {
    let kit = Kit::new(Backend::Memory);
    let mut tasks = JoinSet::new();
    for seed in 10..26 {
        let replica = kit.replica(seed, StoreOptions::default());
        tasks.spawn(async move { replica.unlock(Some(keys(&[("k1", 1)]))).await.unwrap().data_key.unwrap() });
    }
    assert_eq!(tasks.join_all().await.into_iter().collect::<BTreeSet<_>>().len(), 1);
}

/// Changes the record of the data keys.
async fn tamper(kit: &Kit, change: impl Fn(&mut serde_json::Value)) {
    let kernel = kit.store.kernel();
    let record = kernel.list(Kind::DataKeys, Page::first(1)).await.unwrap().records.remove(0);
    let mut value = serde_json::from_slice(&record.data).unwrap();
    change(&mut value);
    let data = serde_json::to_vec(&value).unwrap();
    kernel.update(Kind::DataKeys, &record.id, record.version, Write { data, ..Write::default() }).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_not_the_right_one_is_told_and_nothing_is_overwritten() {
    let kit = Kit::new(Backend::Memory);
    let store = unlocked(&kit, 2, keys(&[("k1", 1), ("k0", 9)])).await;
    fill(&store).await;
    let before = kit.dump().await;
    let refused = async |keys: KeyEncryption| {
        let store = kit.replica(3, StoreOptions::default());
        let refused = store.unlock(Some(keys)).await.unwrap_err();
        assert!(open_all(&store).await.is_err());
        assert_eq!(kit.dump().await, before, "{refused}");
        assert!(refused.hint().is_some() && !refused.is_temporary(), "{refused}");
        refused
    };
    let other = refused(keys(&[("k2", 2)])).await;
    assert!(matches!(&other, SealingError::MissingKey { .. }) && other.to_string().contains("k1"), "{other}");
    for given in [&[("k1", 2)][..], &[("k1", 2), ("k0", 9)], &[("k1", 1), ("k0", 8)], &[("k2", 2), ("k1", 7)]] {
        let wrong = refused(keys(given)).await;
        assert!(matches!(&wrong, SealingError::WrongKey { .. }), "{given:?}: {wrong}");
    }
    assert_eq!(refused(keys(&[("k1", 1), ("k1", 1)])).await, SealingError::Twice { key: "k1".to_owned() });
}

#[tokio::test]
async fn a_damaged_record_of_data_keys_is_told() {
    let kit = Kit::new(Backend::Memory);
    let one = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    fill(&one).await;
    kit.hand.advance(365 * DAY);
    one.tend_sealing().await.unwrap();
    let damage: [&dyn Fn(&mut serde_json::Value); 5] = [
        // Two data keys change places.
        &|v| {
            let wraps = [0, 1].map(|n| v["v"]["keys"][n]["wraps"].take());
            let [first, second] = wraps;
            v["v"]["keys"][0]["wraps"] = second;
            v["v"]["keys"][1]["wraps"] = first;
        },
        &|v| v["v"]["keys"][0]["wraps"][0]["text"] = "AAAA".into(),
        &|v| v["v"]["keys"][0]["check"] = "AAAA".into(),
        &|v| v["v"]["keys"][0]["wraps"] = serde_json::json!([]),
        &|v| v["v"]["keys"] = "nonsense".into(),
    ];
    for (number, damage) in damage.into_iter().enumerate() {
        let before = kit.dump().await;
        let whole = kit.store.kernel().get(Kind::DataKeys, "keys").await.unwrap().unwrap();
        tamper(&kit, damage).await;
        let damaged = kit.dump().await;
        assert_ne!(before, damaged);
        let refused = kit.replica(3, StoreOptions::default()).unlock(Some(keys(&[("k1", 1)]))).await.unwrap_err();
        let expected = match number {
            0..3 => matches!(refused, SealingError::WrongKey { .. }),
            3 => matches!(refused, SealingError::MissingKey { .. }),
            _ => matches!(refused, SealingError::Store(StoreError::Damaged { .. })),
        };
        assert!(expected, "{number}: {refused}");
        assert_eq!(kit.dump().await, damaged, "{number}");
        tamper(&kit, |v| *v = serde_json::from_slice(&whole.data).unwrap()).await;
    }
}

#[tokio::test]
async fn a_sweep_keeps_what_it_does_not_know_and_tells_what_it_cannot_open() {
    let kit = Kit::new(Backend::Memory);
    let kernel = kit.store.kernel();
    let index = [Some(portcullis_storage::kernel::IndexKey::of(&["x"])), None];
    let expires_at = Some(kit.now() + 365 * DAY);
    let write = |data: &str| Write { index, expires_at, data: data.as_bytes().to_vec() };
    let clear = URL_SAFE_NO_PAD.encode(CLIENT_SECRET);
    let known = format!(r#"{{"n":18446744073709551615,"v":{{"new":{{"a":[1]}},"secret":"p.{clear}"}},"w":1}}"#);
    kernel.insert(Kind::Client, "known", write(&known)).await.unwrap();
    for (id, data) in [("no json", "x"), ("unknown key", r#"{"n":1,"v":{"secret":"s.nobody.AAAA"}}"#)] {
        kernel.insert(Kind::Client, id, write(data)).await.unwrap();
    }
    let odd = kernel.get(Kind::Client, "unknown key").await.unwrap().unwrap();
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    let SweepStep::Done { written, left, why } = sweep_all(&store, &mut Sweep::default()).await else { panic!() };
    assert_eq!((written, left), (1, 2));
    let why = why.unwrap();
    assert!(why.contains("no json") && !why.contains(&clear), "{why}");
    let record = kernel.get(Kind::Client, "known").await.unwrap().unwrap();
    assert_eq!((record.index, record.expires_at), (index, expires_at));
    let value: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
    assert_eq!(value["n"].as_u64(), Some(u64::MAX), "the request nonce stays");
    assert_eq!((&value["v"]["new"]["a"][0], &value["w"]), (&1.into(), &1.into()));
    assert!(value["v"]["secret"].as_str().unwrap().starts_with("s."));
    assert_eq!(store.clients().get("known").await.unwrap().unwrap().secret.expose(), CLIENT_SECRET);
    assert_eq!(kernel.get(Kind::Client, "unknown key").await.unwrap().unwrap(), odd, "left as it is");
    let counted = store.sealing_summary(usize::MAX).await.unwrap().fields[&Kind::Client].clone();
    assert_eq!((counted.clear, counted.unreadable, counted.sealed["nobody"]), (0, 1, 1));
    assert!(!store.sealing_summary(2).await.unwrap().complete, "a summary is bounded");
}

/// A secret that nobody can open costs a few sweeps a day; whatever else there is to do is done as soon as ever.
#[tokio::test]
async fn a_secret_that_cannot_be_opened_does_not_keep_sweeps_going() {
    let kit = Kit::new(Backend::Memory);
    let broken = Write { data: br#"{"n":1,"v":{"secret":"s.nobody.AAAA"}}"#.to_vec(), ..Write::default() };
    kit.store.kernel().insert(Kind::Client, "broken", broken).await.unwrap();
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    let mut sweep = Sweep::default();
    let mut sweeps = Vec::new();
    for minute in 0..2 * 24 * 60 {
        if let SweepStep::Done { written, left, why } = sweep_all(&store, &mut sweep).await {
            assert_eq!((written, left, why.is_some()), (0, 1, true));
            sweeps.push(minute);
        }
        kit.hand.advance(MINUTE);
    }
    assert_eq!(sweeps[..7], [0, 10, 30, 70, 150, 310, 630]);
    assert_eq!(sweeps[7..], [990, 1350, 1710, 2070, 2430, 2790]);
    // A new data key: everything is looked at when it seals, and at the usual time after that.
    let asked = KeyEncryption { replace_before: Some(kit.now()), ..keys(&[("k1", 1)]) };
    let store = unlocked(&kit, 3, asked).await;
    let next = async |sweep: &mut Sweep| {
        for minute in 0..24 * 60 {
            if let SweepStep::Done { .. } = sweep_all(&store, sweep).await {
                return minute;
            }
            kit.hand.advance(MINUTE);
        }
        panic!("no sweep in a day")
    };
    kit.hand.advance(PUBLISH_BEFORE);
    assert_eq!(next(&mut sweep).await, 0);
    assert_eq!(next(&mut sweep).await, 10);
}

#[tokio::test]
async fn a_secret_that_was_put_into_another_record_does_not_open() {
    let kit = Kit::new(Backend::Memory);
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    for id in ["a", "b"] {
        let client = Client { id: id.into(), secret: Secret::new(id), ..Client::default() };
        store.clients().create(&client).await.unwrap();
    }
    let kernel = store.kernel();
    let [a, b] =
        [kernel.get(Kind::Client, "a").await, kernel.get(Kind::Client, "b").await].map(|r| r.unwrap().unwrap());
    kernel.update(Kind::Client, "b", b.version, Write { data: a.data, ..Write::default() }).await.unwrap();
    let refused = store.clients().get("b").await.unwrap_err();
    assert!(matches!(&refused, StoreError::Damaged { id, .. } if id == "b"), "{refused}");
    assert_eq!(store.clients().get("a").await.unwrap().unwrap().secret.expose(), "a");
}

#[tokio::test]
async fn a_data_key_is_replaced_when_somebody_asks_for_it_and_only_once() {
    let kit = Kit::new(Backend::Memory);
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    fill(&store).await;
    let first = data_key(&store).await;
    kit.hand.advance(HOUR);
    let asked = KeyEncryption { replace_before: Some(kit.now()), ..keys(&[("k1", 1)]) };
    let again = unlocked(&kit, 3, asked.clone()).await;
    for _ in 0..3 {
        kit.hand.advance(PUBLISH_BEFORE);
        again.tend_sealing().await.unwrap();
    }
    unlocked(&kit, 4, asked).await;
    let summary = again.sealing_summary(0).await.unwrap();
    assert_eq!(summary.data_keys.len(), 2);
    assert_ne!(data_key(&again).await, first);
    let soon = KeyEncryption { replace_before: Some(kit.now() + DAY), ..keys(&[("k1", 1)]) };
    unlocked(&kit, 5, soon).await;
    assert_eq!(again.sealing_summary(0).await.unwrap().data_keys.len(), 2, "a time to come is waited for");
}

/// A key-encryption key that is asked over a network: it counts, has versions, and can be down.
struct Remote {
    inner: Arc<dyn KeyWrapper>,
    version: AtomicUsize,
    asked: AtomicUsize,
    down: AtomicUsize,
}

impl Remote {
    fn new() -> Arc<Self> {
        let zero = AtomicUsize::default;
        Arc::new(Self { inner: kek("remote", 5), version: AtomicUsize::new(1), asked: zero(), down: zero() })
    }

    fn check(&self) -> Result<(), WrapError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let down = self.down.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match down {
            Ok(_) => Err(WrapError::Source { text: "it is down".to_owned(), hint: "start it", temporary: true }),
            Err(_) => Ok(()),
        }
    }

    fn take_asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

impl KeyWrapper for Remote {
    fn id(&self) -> &str {
        "remote"
    }

    fn source(&self) -> &str {
        "a test"
    }

    fn wrap<'a>(&'a self, name: &'a str, key: &'a DataKeyBytes) -> WrapFuture<'a, String> {
        Box::pin(async move {
            self.check()?;
            let text = self.inner.wrap(name, key).await?;
            Ok(format!("{}:{text}", self.version.load(Ordering::SeqCst)))
        })
    }

    fn open<'a>(&'a self, name: &'a str, wrapped: &'a str) -> WrapFuture<'a, DataKeyBytes> {
        Box::pin(async move {
            self.check()?;
            self.inner.open(name, wrapped.split_once(':').ok_or(WrapError::Wrong)?.1).await
        })
    }

    fn version(&self, wrapped: &str) -> Option<u64> {
        wrapped.split_once(':')?.0.parse().ok()
    }
}

fn with(remote: &Arc<Remote>) -> KeyEncryption {
    KeyEncryption::new(Arc::clone(remote) as _)
}

#[tokio::test]
async fn a_remote_key_is_asked_at_start_and_in_the_background_and_never_for_a_record() {
    let kit = Kit::new(Backend::Memory);
    let remote = Remote::new();
    let store = unlocked(&kit, 2, with(&remote)).await;
    assert_eq!(remote.take_asked(), 1, "to wrap the first data key");
    fill(&store).await;
    let token = crate::kit::new_family("app");
    let token = store.families().create(&store.families().new_id(), token, &policy()).await.unwrap();
    let mut token = refresh(&store, &token, &policy()).await.unwrap();
    for _ in 0..10 {
        kit.hand.advance(MINUTE);
        token = refresh(&store, &token, &policy()).await.unwrap();
        store.tend_sealing().await.unwrap();
    }
    open_all(&store).await.unwrap();
    assert_eq!(remote.take_asked(), 1, "once for its version");
    kit.hand.advance(6 * HOUR);
    remote.version.store(2, Ordering::SeqCst);
    store.tend_sealing().await.unwrap();
    assert_eq!(remote.take_asked(), 1);
    assert!(kit.dump().await.contains("\"text\":\"2:"), "the newer version has wrapped it");
    let before = kit.dump().await;
    unlocked(&kit, 3, with(&remote)).await;
    assert_eq!(remote.take_asked(), 2, "to open, and for its version");
    assert_eq!(kit.dump().await, before);
}

#[tokio::test]
async fn a_remote_key_that_is_down_is_waited_for_at_start_and_not_needed_afterwards() {
    let kit = Kit::new(Backend::Memory);
    let remote = Remote::new();
    let store = unlocked(&kit, 2, with(&remote)).await;
    fill(&store).await;
    for (down, works) in [(3, true), (usize::MAX, false)] {
        remote.down.store(down, Ordering::SeqCst);
        let replica = kit.replica(3, StoreOptions::default());
        let keys = with(&remote);
        let mut unlocking = tokio::spawn(async move { replica.unlock(Some(keys)).await });
        let done = loop {
            tokio::select! {
                done = &mut unlocking => break done.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(2)) => kit.hand.advance(Duration::from_secs(1)),
            }
        };
        assert_eq!(done.is_ok(), works, "{done:?}");
        if let Err(error) = done {
            assert!(
                matches!(&error, SealingError::Source { .. }) && error.to_string().contains("it is down"),
                "{error}"
            );
            assert_eq!(error.hint(), Some("start it"));
        }
    }
    remote.down.store(usize::MAX, Ordering::SeqCst);
    kit.hand.advance(365 * DAY);
    assert!(store.tend_sealing().await.is_err(), "no new data key without it");
    open_all(&store).await.unwrap();
    let client = Client { id: "later".into(), secret: Secret::new(CLIENT_SECRET), ..Client::default() };
    store.clients().create(&client).await.unwrap();
    assert_eq!(counts(&store).await.0, 0, "the data key that is open goes on sealing");
}

async fn new_client(store: &Store, id: &str) -> Result<(), StoreError> {
    let client = Client { id: id.into(), secret: Secret::new(CLIENT_SECRET), ..Client::default() };
    match store.clients().create(&client).await {
        Ok(_) => Ok(()),
        Err(WriteError::Store(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_replica_that_cannot_open_the_newest_data_key_stops_sealing_before_the_old_one_goes() {
    let kit = Kit::new(Backend::Memory);
    let (cut_off, fine) = (Remote::new(), Remote::new());
    let old = unlocked(&kit, 2, with(&cut_off)).await;
    let new = unlocked(&kit, 3, with(&fine)).await;
    kit.hand.advance(365 * DAY);
    cut_off.down.store(usize::MAX, Ordering::SeqCst);
    new.tend_sealing().await.unwrap();
    assert!(matches!(old.tend_sealing().await, Err(SealingError::Source { .. })));
    new_client(&old, "published").await.unwrap();
    kit.hand.advance(PUBLISH_BEFORE + HOUR - MINUTE);
    old.tend_sealing().await.unwrap_err();
    new_client(&old, "just in time").await.unwrap();
    assert_eq!(old.sweep(&mut Sweep::default(), 3).await.unwrap(), SweepStep::Idle, "it brings nothing back");
    kit.hand.advance(MINUTE);
    let refused = new_client(&old, "too late").await.unwrap_err();
    let newest = data_key(&new).await;
    assert!(matches!(&refused, StoreError::MissingKey { key, .. } if *key == newest), "{refused}");
    assert_eq!(old.clients().get("published").await.unwrap().unwrap().secret.expose(), CLIENT_SECRET);
    // The old key goes, and nothing is lost.
    kit.hand.advance(DAY);
    let mut sweep = Sweep::default();
    sweep_all(&new, &mut sweep).await;
    kit.hand.advance(HOUR);
    sweep_all(&new, &mut sweep).await;
    assert_eq!(new.sealing_summary(0).await.unwrap().data_keys.len(), 1);
    for id in ["published", "just in time"] {
        assert_eq!(new.clients().get(id).await.unwrap().unwrap().secret.expose(), CLIENT_SECRET);
    }
    old.tend_sealing().await.unwrap_err();
    let refused = new_client(&old, "not in clear either").await.unwrap_err();
    assert!(matches!(refused, StoreError::MissingKey { .. }), "{refused}");
    cut_off.down.store(0, Ordering::SeqCst);
    old.tend_sealing().await.unwrap();
    new_client(&old, "again").await.unwrap();
}

#[tokio::test]
async fn a_replica_that_does_not_learn_of_data_keys_stops_sealing() {
    let kit = Kit::new(Backend::Memory);
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    kit.hand.advance(12 * HOUR - MINUTE);
    new_client(&store, "a").await.unwrap();
    kit.hand.advance(MINUTE);
    assert_eq!(new_client(&store, "b").await, Err(StoreError::StaleKeys { kind: Kind::Client }));
    store.data_key_missed().await;
    store.tend_sealing().await.unwrap();
    new_client(&store, "b").await.unwrap();
}

#[tokio::test]
async fn no_replica_writes_in_clear_because_its_clock_is_behind() {
    let behind = async |kit: &Kit, seed: u64, by: Duration| {
        let (clock, _) = Clock::mock((Timestamp::from_unix_seconds(START) - by).unix_seconds());
        let store =
            Store::with_options(Arc::clone(&kit.faults) as _, clock, Rng::seeded(seed), StoreOptions::default());
        store.unlock(Some(keys(&[("k1", 1)]))).await.unwrap();
        store.seals_secrets()
    };
    let kit = Kit::new(Backend::Memory);
    let first = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    assert!(first.seals_secrets());
    for by in [5 * MINUTE, 2 * DAY] {
        assert!(behind(&kit, 3, by).await, "{by:?}");
    }
    // A store that was in clear is so until the first key seals, and never again once it did.
    let kit = Kit::new(Backend::Memory);
    kit.store.signing_keys().create(&crate::objects::signing_keys(0)).await.unwrap();
    let first = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    assert!(!first.seals_secrets() && !behind(&kit, 3, DAY).await);
    kit.hand.advance(2 * PUBLISH_BEFORE);
    assert!(matches!(sweep_all(&first, &mut Sweep::default()).await, SweepStep::Done { left: 0, .. }));
    assert!(behind(&kit, 4, DAY).await);
}

/// Replaces the data key of a store by another one, a day and more ago.
async fn replaced(kit: &Kit) -> (Store, String) {
    let store = unlocked(kit, 12, keys(&[("k1", 1)])).await;
    let first = data_key(&store).await;
    kit.hand.advance(365 * DAY);
    store.tend_sealing().await.unwrap();
    kit.hand.advance(PUBLISH_BEFORE + DAY);
    store.tend_sealing().await.unwrap();
    assert_ne!(data_key(&store).await, first);
    (store, first)
}

async fn has_data_key(store: &Store, id: &str) -> bool {
    store.sealing_summary(0).await.unwrap().data_keys.iter().any(|key| key.id == id)
}

#[tokio::test]
async fn a_data_key_stays_while_anything_carries_it_also_in_a_field_of_a_later_version() {
    for (kind, told) in [(Kind::Client, true), (Kind::FamilyList, false)] {
        let kit = Kit::new(Backend::Memory);
        let (store, first) = replaced(&kit).await;
        let data = format!(r#"{{"n":1,"v":{{"later":{{"a":["s.{first}.AAAA"]}}}}}}"#).into_bytes();
        let kernel = kit.store.kernel();
        let version = kernel.insert(kind, "x", Write { data: data.clone(), ..Write::default() }).await.unwrap();
        let mut sweep = Sweep::default();
        let SweepStep::Done { left, why, .. } = sweep_all(&store, &mut sweep).await else { panic!() };
        assert_eq!((left > 0, why.is_some_and(|why| why.contains("newer version"))), (told, told), "{kind}");
        assert!(has_data_key(&store, &first).await, "{kind}");
        assert_eq!(kernel.get(kind, "x").await.unwrap().unwrap().data, data);
        kernel.delete(kind, "x", version).await.unwrap();
        kit.hand.advance(HOUR);
        assert!(matches!(sweep_all(&store, &mut sweep).await, SweepStep::Done { left: 0, .. }));
        assert!(!has_data_key(&store, &first).await, "{kind}");
    }
}

#[tokio::test]
async fn an_object_that_a_person_copied_is_sealed_again_and_one_that_they_wrote_is_left() {
    let kit = Kit::new(Backend::Memory);
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    new_client(&store, "copied").await.unwrap();
    let kernel = kit.store.kernel();
    let record = kernel.get(Kind::Client, "copied").await.unwrap().unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
    value["n"] = 0.into();
    let data = serde_json::to_vec(&value).unwrap();
    kernel.update(Kind::Client, "copied", record.version, Write { data, ..Write::default() }).await.unwrap();
    value["v"]["secret"] = format!("p.{}", URL_SAFE_NO_PAD.encode("x")).into();
    let by_hand = serde_json::to_vec(&value).unwrap();
    kernel.insert(Kind::Client, "written", Write { data: by_hand.clone(), ..Write::default() }).await.unwrap();
    let (store, first) = replaced(&kit).await;
    let mut sweep = Sweep::default();
    assert!(matches!(sweep_all(&store, &mut sweep).await, SweepStep::Done { written: 1, left: 0, .. }));
    kit.hand.advance(HOUR);
    sweep_all(&store, &mut sweep).await;
    assert!(!has_data_key(&store, &first).await);
    assert_eq!(store.clients().get("copied").await.unwrap().unwrap().secret.expose(), CLIENT_SECRET);
    assert_eq!(kernel.get(Kind::Client, "written").await.unwrap().unwrap().data, by_hand);
}

#[tokio::test]
async fn a_record_that_the_store_does_not_take_is_named_and_the_others_are_sealed() {
    let kit = Kit::new(Backend::Memory);
    for id in ["a", "b", "c"] {
        new_client(&kit.store, id).await.unwrap();
    }
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    kit.faults.script_writes([Fault::Unacceptable]);
    let mut sweep = Sweep::default();
    let SweepStep::Done { written, left, why } = sweep_all(&store, &mut sweep).await else { panic!() };
    assert_eq!((written, left), (2, 1));
    assert!(why.as_deref().is_some_and(|why| why.contains("\"a\"")), "{why:?}");
    // A store that takes nothing is not asked for every record.
    let kit = Kit::new(Backend::Memory);
    for number in 0..40 {
        new_client(&kit.store, &number.to_string()).await.unwrap();
    }
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    kit.faults.script_writes(vec![Fault::Unacceptable; 40]);
    let mut sweep = Sweep::default();
    while store.sweep(&mut sweep, 100).await.unwrap() == SweepStep::More {}
    assert_eq!(kit.faults.take_struck().len(), 10);
}

#[tokio::test]
async fn what_a_replica_without_a_key_wrote_is_sealed_a_day_later() {
    let kit = Kit::new(Backend::Memory);
    let store = unlocked(&kit, 2, keys(&[("k1", 1)])).await;
    new_client(&store, "sealed").await.unwrap();
    let mut sweep = Sweep::default();
    assert!(matches!(sweep_all(&store, &mut sweep).await, SweepStep::Done { left: 0, .. }));
    new_client(&kit.store, "clear").await.unwrap();
    kit.hand.advance(HOUR);
    assert_eq!(sweep_all(&store, &mut sweep).await, SweepStep::Idle);
    assert_eq!(counts(&store).await.0, 1);
    kit.hand.advance(DAY);
    assert!(matches!(sweep_all(&store, &mut sweep).await, SweepStep::Done { written: 1, .. }));
    assert_eq!(counts(&store).await.0, 0);
    kit.hand.advance(DAY);
    assert_eq!(sweep_all(&store, &mut sweep).await, SweepStep::Idle, "it ends");
}

#[tokio::test]
async fn two_orders_of_the_same_keys_do_not_take_turns() {
    let kit = Kit::new(Backend::Memory);
    let one = unlocked(&kit, 2, keys(&[("k1", 1), ("k2", 2)])).await;
    let other = unlocked(&kit, 3, keys(&[("k2", 2), ("k1", 1)])).await;
    let newest = async || {
        let summary = one.sealing_summary(0).await.unwrap();
        summary.key_encryption_keys.into_iter().find(|key| key.current).unwrap().id
    };
    assert_eq!(newest().await, "k2");
    let settled = kit.dump().await;
    for store in [&one, &other, &one, &other] {
        store.tend_sealing().await.unwrap();
        assert_eq!(kit.dump().await, settled);
    }
    // It looks after the data keys all the same.
    kit.hand.advance(365 * DAY);
    one.tend_sealing().await.unwrap();
    assert_eq!(one.sealing_summary(0).await.unwrap().data_keys.len(), 2);
    unlocked(&kit, 4, keys(&[("k1", 1), ("k2", 2)])).await;
    assert_eq!(newest().await, "k1");
}
