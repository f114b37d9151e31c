//! Keys, clients, local users, failure counters, stored requests: invariants K1, K2, O1 to O3, N1, R1 of
//! docs/store-invariants.md.

use std::{collections::HashSet, time::Duration};

use portcullis_jose::{KeyKind, SigningKey};
use portcullis_runtime::Secret;
use portcullis_storage::{
    Client, ClientCredentialsClaims, Password, RequestError, RequestOrigin, SealingPolicy, SigningKeyRecord,
    SigningKeySet, StoreOptions, Subject, WriteError,
    conformance::{Counts, Fault, WriteHook},
    kernel::{Kind, Page},
    lower_case_email,
};
use tokio::task::JoinSet;

use crate::kit::{Backend, DAY, HOUR, Kit, MINUTE, on_every_backend};

const WINDOW: Duration = Duration::from_secs(300);

on_every_backend!(
    one_replica_makes_the_first_signing_keys,
    one_replica_rotates,
    signing_keys_survive_the_way_through_the_store,
    all_replicas_share_one_ring_of_sealing_keys,
    sealing_keys_open_until_all_they_sealed_has_expired,
    clients_are_stored_changed_and_deleted,
    static_clients_shadow_stored_ones_and_cannot_be_changed,
    no_update_of_a_client_is_lost,
    users_are_found_in_any_case_of_letters,
    failures_are_written_in_the_background_and_together,
    failures_of_names_that_do_not_exist_are_never_written,
    failures_that_cannot_be_written_count_and_are_written_later,
    failures_are_forgotten_with_the_window,
    failures_of_all_replicas_add_up,
    a_user_is_looked_up_by_the_same_reads_wherever_they_are,
    stored_requests_are_found_until_they_end,
);

pub(crate) fn signing_keys(seed: u8) -> SigningKeySet {
    let now = portcullis_runtime::Timestamp::from_unix_seconds(crate::kit::START);
    let key = SigningKey::generate(KeyKind::P256, format!("key {seed}")).unwrap();
    SigningKeySet { keys: vec![SigningKeyRecord::of(&key, now, now).unwrap()], next_rotation: now + 6 * HOUR }
}

async fn one_replica_makes_the_first_signing_keys(kit: Kit) {
    assert!(kit.store.signing_keys().load().await.unwrap().is_none());
    let mut tasks = JoinSet::new();
    for seed in 0..8 {
        let store = kit.store.clone();
        let keys = signing_keys(seed);
        tasks.spawn(async move { store.signing_keys().create(&keys).await.unwrap().then_some(keys) });
    }
    let made: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(made.len(), 1);
    assert_eq!(kit.store.signing_keys().load().await.unwrap().unwrap().value, made[0]);
}

async fn one_replica_rotates(kit: Kit) {
    kit.faults.script_writes([Fault::LostReply]);
    assert!(kit.store.signing_keys().create(&signing_keys(0)).await.unwrap(), "a lost reply is no lost race");
    let old = kit.store.signing_keys().load().await.unwrap().unwrap();
    let mut rotated = 0;
    for seed in 1..4 {
        rotated += usize::from(kit.store.signing_keys().replace(&old, &signing_keys(seed)).await.unwrap());
    }
    assert_eq!(rotated, 1);
    assert_eq!(kit.store.signing_keys().load().await.unwrap().unwrap().value.keys[0].kid, "key 1");
}

async fn signing_keys_survive_the_way_through_the_store(kit: Kit) {
    let mut keys = signing_keys(0);
    keys.keys.extend(signing_keys(1).keys);
    keys.keys[1].private = None;
    keys.keys[1].verifies_until = Some(keys.next_rotation);
    kit.store.signing_keys().create(&keys).await.unwrap();
    let loaded = kit.store.signing_keys().load().await.unwrap().unwrap().value;
    assert_eq!(loaded, keys);
    let key = loaded.keys[0].signing_key().unwrap().unwrap();
    assert_eq!((key.kid(), key.public().to_json().to_string()), ("key 0", loaded.keys[0].public.clone()));
    assert!(loaded.keys[1].signing_key().unwrap().is_none());
}

async fn all_replicas_share_one_ring_of_sealing_keys(kit: Kit) {
    let mut tasks = JoinSet::new();
    for seed in 10..26 {
        let replica = kit.replica(seed, StoreOptions::default());
        tasks.spawn(async move { replica.sealing_keys().load(SealingPolicy::default()).await.unwrap() });
    }
    let keys: HashSet<_> = tasks.join_all().await.iter().map(|ring| *ring.newest().expose()).collect();
    assert_eq!(keys.len(), 1);
    kit.hand.advance(2 * DAY);
    let mut tasks = JoinSet::new();
    for seed in 30..46 {
        let replica = kit.replica(seed, StoreOptions::default());
        tasks.spawn(async move { replica.sealing_keys().load(SealingPolicy::default()).await.unwrap() });
    }
    let rings = tasks.join_all().await;
    let newer: HashSet<_> = rings.iter().map(|ring| *ring.newest().expose()).collect();
    assert_eq!(newer.len(), 1);
    assert!(keys.is_disjoint(&newer));
}

#[tokio::test]
async fn flows_and_devices_have_keys_of_their_own() {
    let kit = Kit::new(Backend::Memory);
    let (flows, devices) = (kit.store.sealing_keys(), kit.store.device_keys());
    let policy = SealingPolicy { rotate_after: 30 * DAY, opens_for: 90 * DAY };
    let first = devices.load(policy).await.unwrap();
    let flow = flows.load(SealingPolicy::default()).await.unwrap();
    assert!(flow.find(first.newest().id()).is_none() && first.newest().expose() != flow.newest().expose());
    kit.hand.advance(3 * DAY);
    assert_ne!(flows.load(SealingPolicy::default()).await.unwrap().newest().id(), flow.newest().id());
    assert_eq!(devices.load(policy).await.unwrap().newest().id(), first.newest().id());
}

async fn sealing_keys_open_until_all_they_sealed_has_expired(kit: Kit) {
    let policy = SealingPolicy { rotate_after: HOUR, opens_for: 150 * MINUTE };
    let mut made: Vec<(String, portcullis_runtime::Timestamp)> = Vec::new();
    for _ in 0..40 {
        let ring = kit.store.sealing_keys().load(policy).await.unwrap();
        let newest = ring.newest();
        if made.last().is_none_or(|(id, _)| id != newest.id()) {
            assert!(made.iter().all(|(id, _)| id != newest.id()), "an id came twice");
            made.push((newest.id().to_owned(), kit.now()));
        }
        for (number, (id, _)) in made.iter().enumerate() {
            // What a key sealed until it was replaced may live for `opens_for`.
            let replaced = made.get(number + 1).map(|(_, at)| *at);
            let needed = replaced.is_none_or(|at| kit.now() < at + policy.opens_for);
            assert!(!needed || ring.find(id).is_some(), "key {number} is missing at {}", kit.now());
        }
        kit.hand.advance(25 * MINUTE);
    }
    let ring = kit.store.sealing_keys().load(policy).await.unwrap();
    let kept = made.iter().filter(|(id, _)| ring.find(id).is_some()).count();
    assert!(made.len() > 10 && kept <= 5, "{kept} of {} keys are kept", made.len());
    assert!(ring.find("unknown").is_none());
}

fn client(id: &str) -> Client {
    Client {
        id: id.to_owned(),
        secret: Secret::new("s3cret"),
        redirect_uris: vec!["http://localhost:8000".to_owned()],
        trusted_peers: vec!["peer".to_owned()],
        public: true,
        name: "An app".to_owned(),
        logo_url: "https://example.com/logo.svg".to_owned(),
        allowed_connectors: vec!["local".to_owned()],
        mfa_chain: Some(vec![]),
        sso_shared_with: Some(vec!["*".to_owned()]),
        post_logout_redirect_uris: vec!["http://localhost:8000/bye".to_owned()],
        backchannel_logout_uri: "https://example.com/logout".to_owned(),
        refresh_token_lifetime: "session".to_owned(),
        client_credentials_claims: Some(ClientCredentialsClaims { groups: vec!["robots".to_owned()] }),
    }
}

async fn clients_are_stored_changed_and_deleted(kit: Kit) {
    let clients = kit.store.clients();
    assert!(clients.get("app").await.unwrap().is_none());
    clients.create(&client("app")).await.unwrap();
    assert_eq!(*clients.get("app").await.unwrap().unwrap(), client("app"));
    assert!(clients.get("APP").await.unwrap().is_none());
    assert_eq!(clients.create(&client("app")).await.unwrap_err(), WriteError::Exists);
    let changed = clients.update("app", |client| client.name = "Another name".to_owned()).await.unwrap();
    assert_eq!(changed, Client { name: "Another name".to_owned(), ..client("app") });
    assert_eq!(*clients.get("app").await.unwrap().unwrap(), changed);
    assert_eq!(clients.update("other", |_| ()).await.unwrap_err(), WriteError::NotFound);
    clients.delete("app").await.unwrap();
    assert_eq!(clients.delete("app").await.unwrap_err(), WriteError::NotFound);
    assert!(clients.get("app").await.unwrap().is_none());
    let plain = Client { id: "plain".to_owned(), ..Client::default() };
    clients.create(&plain).await.unwrap();
    assert_eq!(*clients.get("plain").await.unwrap().unwrap(), plain);
}

async fn static_clients_shadow_stored_ones_and_cannot_be_changed(kit: Kit) {
    let fixed = |id: &str, name: &str| Client { name: name.to_owned(), ..client(id) };
    kit.store.clients().create(&client("app")).await.unwrap();
    kit.store.clients().create(&client("stored")).await.unwrap();
    let options = StoreOptions {
        static_clients: vec![fixed("twice", "first"), fixed("app", "static"), fixed("twice", "last")],
        ..StoreOptions::default()
    };
    let store = kit.replica(2, options);
    let clients = store.clients();
    kit.faults.take_counts();
    assert_eq!(clients.get("app").await.unwrap().unwrap().name, "static");
    assert_eq!(clients.get("twice").await.unwrap().unwrap().name, "last");
    assert_eq!(kit.faults.take_counts(), Counts::default(), "a static client costs no read");
    let names: Vec<_> =
        clients.list().await.unwrap().iter().map(|client| format!("{} {}", client.id, client.name)).collect();
    assert_eq!(names, ["stored An app", "twice last", "app static"]);
    for (error, verb) in [
        (clients.create(&client("app")).await.unwrap_err(), "create"),
        (clients.update("app", |_| ()).await.unwrap_err(), "update"),
        (clients.delete("app").await.unwrap_err(), "delete"),
    ] {
        assert_eq!(error.to_string(), format!("static clients: read-only cannot {verb} client"));
    }
    assert_eq!(kit.store.clients().get("app").await.unwrap().unwrap().name, "An app", "the stored one is as it was");
}

async fn no_update_of_a_client_is_lost(kit: Kit) {
    kit.store.clients().create(&Client { id: "app".to_owned(), ..Client::default() }).await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let store = kit.store.clone();
        tasks.spawn(async move {
            let add = |client: &mut Client| client.redirect_uris.push(format!("http://localhost:{number}"));
            store.clients().update("app", add).await.map(|_| ())
        });
    }
    for updated in tasks.join_all().await {
        updated.unwrap();
    }
    assert_eq!(kit.store.clients().get("app").await.unwrap().unwrap().redirect_uris.len(), 16);
}

async fn users_are_found_in_any_case_of_letters(kit: Kit) {
    let user = Password {
        email: "Admin@Example.com".to_owned(),
        hash: Secret::new("$2a$10$abc"),
        username: "admin".to_owned(),
        name: "The Admin".to_owned(),
        preferred_username: "adm".to_owned(),
        email_verified: Some(false),
        user_id: "u1".to_owned(),
        groups: vec!["ops".to_owned()],
    };
    let passwords = kit.store.passwords();
    passwords.create(&user).await.unwrap();
    for email in ["admin@example.com", "ADMIN@EXAMPLE.COM", "Admin@Example.com"] {
        assert_eq!(*passwords.get(email).await.unwrap().unwrap(), user, "{email}");
        assert_eq!(
            passwords.create(&Password { email: email.to_owned(), ..user.clone() }).await.unwrap_err(),
            WriteError::Exists
        );
    }
    assert!(passwords.get("admin@example.org").await.unwrap().is_none());
    assert!(passwords.get("").await.unwrap().is_none());
    assert!(passwords.get(&"x".repeat(5_000)).await.unwrap().is_none());
    let changed = passwords.update("ADMIN@example.com", |user| user.hash = Secret::new("new")).await.unwrap();
    assert_eq!((changed.hash.expose(), changed.email.as_str()), ("new", "Admin@Example.com"));
    let fixed = Password { email: "ADMIN@example.com".to_owned(), name: "static".to_owned(), ..user.clone() };
    let twice = Password { name: "last".to_owned(), ..fixed.clone() };
    let store = kit.replica(2, StoreOptions { static_passwords: vec![fixed, twice], ..StoreOptions::default() });
    assert_eq!(store.passwords().get("admin@EXAMPLE.com").await.unwrap().unwrap().name, "last");
    assert_eq!(store.passwords().list().await.unwrap().len(), 1);
    let refused = store.passwords().delete("admin@example.com").await.unwrap_err();
    assert_eq!(refused.to_string(), "static passwords: read-only cannot delete password");
    passwords.delete("admin@EXAMPLE.com").await.unwrap();
    assert!(passwords.list().await.unwrap().is_empty());
}

/// Go's `strings.ToLower`, not Rust's `to_lowercase`, which differs for these.
#[test]
fn addresses_are_lowered_as_go_does_it() {
    for (email, lowered) in [
        ("A@B.C", "a@b.c"),
        ("ÄÖ@É.com", "äö@é.com"),
        ("İ@x", "i@x"),
        ("ΟΔΟΣ@x", "οδοσ@x"),
        ("ẞ@x", "ß@x"),
        ("Ω@x", "ω@x"),
        ("ǅ@x", "ǆ@x"),
    ] {
        assert_eq!(lower_case_email(email), lowered, "{email}");
    }
}

const USER: Subject<'_> = Subject::Account("user");

async fn failures_are_written_in_the_background_and_together(kit: Kit) {
    let failures = kit.store.failures();
    kit.faults.take_counts();
    for _ in 0..50 {
        failures.record(USER, true, WINDOW);
    }
    assert_eq!(kit.faults.take_counts(), Counts::default(), "a failure waits for no read and no write");
    assert_eq!(failures.here(USER, WINDOW).count, 50);
    assert_eq!(failures.of(USER, WINDOW).await.unwrap().count, 50, "what is not written yet counts here");
    let replica = kit.replica(2, StoreOptions::default());
    assert_eq!(replica.failures().of(USER, WINDOW).await.unwrap().count, 0);
    let last = kit.now();
    kit.hand.advance(Duration::from_secs(1));
    kit.faults.take_counts();
    failures.flush(WINDOW).await.unwrap();
    failures.flush(WINDOW).await.unwrap();
    assert_eq!(kit.faults.take_counts().writes, 1);
    let there = replica.failures().of(USER, WINDOW).await.unwrap();
    assert_eq!((there.count, there.last), (50, Some(last)), "and with the time of the failure, not of the write");
    failures.record(USER, true, WINDOW);
    assert_eq!(failures.of(USER, WINDOW).await.unwrap().count, 51, "what is written does not count twice");
    failures.flush(WINDOW).await.unwrap();
    assert_eq!(replica.failures().of(USER, WINDOW).await.unwrap().count, 51);
    assert_eq!(replica.failures().here(USER, WINDOW).count, 0);
}

async fn failures_of_names_that_do_not_exist_are_never_written(kit: Kit) {
    let failures = kit.store.failures();
    kit.faults.take_counts();
    for _ in 0..50 {
        failures.record(Subject::Account("nobody"), false, WINDOW);
        failures.record(Subject::From { account: "user", address: "192.0.2.7" }, true, WINDOW);
    }
    failures.flush(WINDOW).await.unwrap();
    assert_eq!(kit.faults.take_counts(), Counts::default());
    assert_eq!(failures.of(Subject::Account("nobody"), WINDOW).await.unwrap().count, 50);
    assert_eq!(failures.of(Subject::From { account: "user", address: "192.0.2.7" }, WINDOW).await.unwrap().count, 50);
    for other in [
        USER,
        Subject::From { account: "user", address: "192.0.2.8" },
        Subject::From { account: "user2", address: "192.0.2.7" },
        Subject::Device { account: "user", device: "192.0.2.7" },
    ] {
        assert_eq!(failures.of(other, WINDOW).await.unwrap().count, 0, "{other:?}");
    }
}

async fn failures_that_cannot_be_written_count_and_are_written_later(kit: Kit) {
    let failures = kit.store.failures();
    let accounts = ["a", "b", "c"].map(Subject::Account);
    for _ in 0..4 {
        for account in accounts {
            failures.record(account, true, WINDOW);
        }
        kit.faults.script_writes([Fault::Refused]);
        failures.flush(WINDOW).await.unwrap_err();
    }
    let replica = kit.replica(2, StoreOptions::default());
    for account in accounts {
        assert_eq!(failures.of(account, WINDOW).await.unwrap().count, 4, "{account:?}");
        assert_eq!(replica.failures().of(account, WINDOW).await.unwrap().count, 0, "{account:?}");
    }
    failures.flush(WINDOW).await.unwrap();
    for account in accounts {
        assert_eq!(failures.of(account, WINDOW).await.unwrap().count, 4, "{account:?}");
        assert_eq!(replica.failures().of(account, WINDOW).await.unwrap().count, 4, "{account:?}");
    }
    // A lost reply is no second failure.
    failures.record(USER, true, WINDOW);
    kit.faults.script_writes([Fault::LostReply]);
    failures.flush(WINDOW).await.unwrap();
    failures.flush(WINDOW).await.unwrap();
    assert_eq!(replica.failures().of(USER, WINDOW).await.unwrap().count, 1);
}

#[tokio::test]
async fn failures_that_come_while_others_are_written_are_not_lost() {
    let kit = Kit::new(Backend::Memory);
    kit.store.failures().record(USER, true, WINDOW);
    let store = kit.store.clone();
    let meanwhile: WriteHook = Box::new(move || {
        store.failures().record(USER, true, WINDOW);
        Box::pin(async { Ok(()) })
    });
    kit.faults.before_write(Kind::Failures, meanwhile);
    kit.store.failures().flush(WINDOW).await.unwrap();
    let replica = kit.replica(2, StoreOptions::default());
    assert_eq!(replica.failures().of(USER, WINDOW).await.unwrap().count, 1);
    assert_eq!(kit.store.failures().of(USER, WINDOW).await.unwrap().count, 2);
    kit.store.failures().flush(WINDOW).await.unwrap();
    assert_eq!(replica.failures().of(USER, WINDOW).await.unwrap().count, 2);
}

async fn failures_are_forgotten_with_the_window(kit: Kit) {
    let failures = kit.store.failures();
    assert_eq!(failures.of(USER, WINDOW).await.unwrap().count, 0);
    for _ in 0..10 {
        failures.record(USER, true, WINDOW);
        failures.flush(WINDOW).await.unwrap();
        kit.hand.advance(Duration::from_secs(2));
    }
    assert_eq!(failures.of(USER, WINDOW).await.unwrap().count, 10);
    assert_eq!(failures.of(Subject::Account("other"), WINDOW).await.unwrap().count, 0);
    let mut before = 10;
    for _ in 0..12 {
        kit.hand.advance(Duration::from_secs(30));
        let now = failures.of(USER, WINDOW).await.unwrap().count;
        assert!(now <= before, "{now} after {before}");
        before = now;
    }
    assert_eq!(before, 0);
    failures.record(USER, true, WINDOW);
    failures.flush(WINDOW).await.unwrap();
    failures.record(USER, true, WINDOW);
    failures.clear(USER).await.unwrap();
    failures.flush(WINDOW).await.unwrap();
    assert_eq!(failures.of(USER, WINDOW).await.unwrap().count, 0);
    failures.record(USER, true, WINDOW);
    failures.flush(WINDOW).await.unwrap();
    kit.hand.advance(HOUR);
    kit.store.collect(100).await.unwrap();
    assert_eq!(kit.count(Kind::Failures).await, 0);
    // A clock that is set back does not silence the counter.
    kit.hand.set(kit.now() - DAY);
    for _ in 0..3 {
        failures.record(USER, true, WINDOW);
        failures.flush(WINDOW).await.unwrap();
        kit.hand.advance(Duration::from_secs(1));
    }
    assert_eq!(failures.of(USER, WINDOW).await.unwrap().count, 3);
}

async fn failures_of_all_replicas_add_up(kit: Kit) {
    let mut tasks = JoinSet::new();
    for seed in 0..8 {
        let replica = kit.replica(seed + 2, StoreOptions::default());
        tasks.spawn(async move {
            for _ in 0..5 {
                replica.failures().record(USER, true, WINDOW);
                replica.failures().flush(WINDOW).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(kit.store.failures().of(USER, WINDOW).await.unwrap().count, 40);
}

async fn a_user_is_looked_up_by_the_same_reads_wherever_they_are(kit: Kit) {
    let user = |email: &str| Password { email: email.to_owned(), ..Password::default() };
    kit.store.passwords().create(&user("stored@x")).await.unwrap();
    let options = StoreOptions { static_passwords: vec![user("static@x")], ..StoreOptions::default() };
    let store = kit.replica(2, options);
    for (email, found) in [("stored@x", true), ("STATIC@x", true), ("nobody@x", false)] {
        kit.faults.take_counts();
        assert_eq!(store.passwords().get_evenly(email).await.unwrap().is_some(), found, "{email}");
        assert_eq!(kit.faults.take_counts(), Counts { gets: 1, ..Counts::default() }, "{email}");
    }
    kit.faults.script([Fault::Refused, Fault::Refused]);
    assert!(store.passwords().get_evenly("static@x").await.unwrap().is_some(), "the file's users need no store");
    store.passwords().get_evenly("stored@x").await.unwrap_err();
}

fn origin(address: &str) -> RequestOrigin<'_> {
    RequestOrigin { client_id: "app", address, claimed: None }
}

async fn stored_requests_are_found_until_they_end(kit: Kit) {
    let requests = kit.store.requests();
    let sealed: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    let handle = requests.keep(&sealed, 15 * MINUTE, origin("a")).await.unwrap();
    assert_eq!(requests.get(&handle).await.unwrap(), Some(sealed.clone()));
    let (slot, secret) = handle.split_once('.').unwrap();
    for wrong in [
        "",
        ".",
        "x",
        slot,
        &format!("{slot}."),
        &format!("{slot}.{}", &secret[1..]),
        &format!("9999.{secret}"),
        &"x".repeat(5_000),
    ] {
        assert_eq!(requests.get(wrong).await.unwrap(), None, "{wrong}");
        requests.forget(wrong).await.unwrap();
    }
    let large = requests.keep(&vec![0; 64 * 1024 + 1], MINUTE, origin("a")).await.unwrap_err();
    assert_eq!(large, RequestError::TooLarge { bytes: 64 * 1024 + 1 });
    kit.hand.advance(15 * MINUTE);
    assert_eq!(requests.get(&handle).await.unwrap(), None);
    let handle = requests.keep(b"x", MINUTE, origin("a")).await.unwrap();
    requests.forget(&handle).await.unwrap();
    assert_eq!(requests.get(&handle).await.unwrap(), None);
}

/// Keeps requests until one is refused; returns how many were kept.
async fn fill(kit: &Kit, origin: RequestOrigin<'_>) -> usize {
    for kept in 0.. {
        match kit.store.requests().keep(b"x", 15 * MINUTE, origin).await {
            Ok(_) => assert!(kept <= 1024, "more requests than slots"),
            Err(error) => {
                assert_eq!(error, RequestError::Full);
                return kept;
            }
        }
    }
    unreachable!()
}

#[tokio::test]
async fn stored_requests_are_capped_and_the_cap_frees_itself() {
    let kit = Kit::new(Backend::Memory);
    let mut kept = 0;
    for number in 0..200 {
        kept += fill(&kit, origin(&number.to_string())).await;
    }
    assert_eq!(kept, 512, "the slots of one client");
    let other = RequestOrigin { client_id: "another", ..origin("0") };
    assert!(fill(&kit, other).await < 32, "clients may share slots");
    for number in 0..200 {
        for client in 0..10 {
            let client = format!("app {client}");
            fill(&kit, RequestOrigin { client_id: &client, ..origin(&number.to_string()) }).await;
        }
    }
    assert_eq!(kit.store.kernel().list(Kind::Request, Page::first(1000)).await.unwrap().records.len(), 1000);
    assert_eq!(fill(&kit, origin("yet another")).await, 0);
    kit.hand.advance(15 * MINUTE);
    assert!(fill(&kit, origin("yet another")).await > 20, "slots come back");
}

#[tokio::test]
async fn one_address_leaves_the_slots_of_the_others_free() {
    let kit = Kit::new(Backend::Memory);
    for client in 0..50 {
        let client = format!("app {client}");
        fill(&kit, RequestOrigin { client_id: &client, ..origin("stranger") }).await;
    }
    let taken = kit.count(Kind::Request).await;
    assert!((33..=64).contains(&taken), "{taken}");
    for number in 0..100 {
        let address = number.to_string();
        kit.store.requests().keep(b"x", MINUTE, origin(&address)).await.unwrap();
    }
}

#[tokio::test]
async fn one_of_many_behind_an_address_leaves_slots_to_the_others() {
    let kit = Kit::new(Backend::Memory);
    fn behind(claimed: &str) -> RequestOrigin<'_> {
        RequestOrigin { claimed: Some(claimed), ..origin("proxy") }
    }
    assert!(fill(&kit, behind("stranger")).await <= 8);
    let mut others = 0;
    for number in 0..40 {
        others += usize::from(kit.store.requests().keep(b"x", MINUTE, behind(&number.to_string())).await.is_ok());
    }
    assert!(others >= 16, "{others}");
    let all = kit.count(Kind::Request).await;
    assert!(all <= 32, "whoever it claims to speak for, an address has no more than its slots: {all}");
}
