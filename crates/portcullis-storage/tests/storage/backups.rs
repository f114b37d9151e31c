//! Backups, copies, and looking at a whole store.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use portcullis_runtime::{Clock, Rng, http_client::ProxyFromEnv};
use portcullis_storage::{
    BackupError, BackupFile, Client, CrdHandling, FillError, FillOptions, Kernel, KernelError, KeyEncryption,
    KeyEncryptionKey, KubernetesAccess, KubernetesKernel, KubernetesOptions, MAX_LINE_BYTES, MemoryKernel, Password,
    Scope, SigningKeySet, SqliteKernel, SqliteOptions, Store, StoreOptions,
    conformance::{Fault, FaultyKernel},
    copy_store,
    kernel::{IndexKey, Kind, MAX_DATA_BYTES, Record, Version, Write},
    restore_backup, write_backup,
};
use portcullis_testkit::{ControlPlane, DatabaseKind, Etcd};
use tokio::task::JoinSet;

use crate::{
    kit::{Backend, Kit, MINUTE, START, new_family, new_login, policy, refresh, tool_on},
    servers::Server,
};

type All = BTreeMap<(Kind, String), Record>;

/// Everything in a store, without versions.
async fn all(kernel: &dyn Kernel) -> All {
    let mut all = All::new();
    let mut snapshot = kernel.snapshot().await.unwrap();
    while let Some(batch) = snapshot.next().await.unwrap() {
        all.extend(
            batch
                .into_iter()
                .map(|(kind, record)| ((kind, record.id.clone()), Record { version: Version::new(0), ..record })),
        );
    }
    all
}

/// A store with something of every kind.
async fn furnished(kit: &Kit) {
    for number in 0..20 {
        kit.code(&format!("flow {number}")).await;
        kit.family().await;
    }
    let store = &kit.store;
    store.logins().begin("open", new_login(false), kit.now() + 15 * MINUTE).await.unwrap();
    store.signing_keys().create(&SigningKeySet::default()).await.unwrap();
    store.sealing_keys().load(portcullis_storage::SealingPolicy::default()).await.unwrap();
    store.clients().create(&Client { id: "stored".to_owned(), ..Client::default() }).await.unwrap();
    store.passwords().create(&Password { email: "Jane@Example.com".to_owned(), ..Password::default() }).await.unwrap();
    for kind in [Kind::Failures, Kind::Request] {
        let write = Write {
            index: [Some(IndexKey::of(&["a"])), Some(IndexKey::of(&["b"]))],
            expires_at: Some(kit.now()),
            data: vec![0xff; MAX_DATA_BYTES],
        };
        store.kernel().insert(kind, "ä/\u{1}\"\\", write).await.unwrap();
    }
}

async fn backed_up(kernel: &dyn Kernel, file: &Path) -> u64 {
    let mut out = Vec::new();
    let written = write_backup(kernel, Clock::system().now(), Scope::Everything, &mut out, &mut |_| {}).await;
    std::fs::write(file, out).unwrap();
    let written = written.unwrap();
    assert_eq!(written.left_out, []);
    written.records
}

fn memory() -> Arc<dyn Kernel> {
    Arc::new(MemoryKernel::new())
}

async fn restored(
    file: &Path,
    target: &Arc<dyn Kernel>,
    options: FillOptions,
) -> Result<portcullis_storage::Filled, FillError> {
    restore_backup(&BackupFile::open(file)?, &tool_on(target), options, &mut |_| {}).await
}

#[tokio::test]
async fn what_was_backed_up_is_restored_to_the_byte_and_people_stay_signed_in() {
    let kit = Kit::new(Backend::Sqlite);
    furnished(&kit).await;
    let token = kit.family().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let records = backed_up(kit.store.kernel(), &file).await;

    let target = memory();
    let filled = restored(&file, &target, FillOptions::default()).await.unwrap();
    let before = all(kit.store.kernel()).await;
    assert_eq!((filled.written, records), (before.len() as u64, before.len() as u64));
    assert_eq!(all(&*target).await, before);
    let (clock, _hand) = Clock::mock(START);
    let there = Store::new(Arc::clone(&target), clock, Rng::seeded(7));
    refresh(&there, &token, &policy()).await.unwrap();

    // Once more, onto itself but for what has changed since: refused, and done on request.
    let refused = restored(&file, &target, FillOptions::default()).await;
    assert!(matches!(refused, Err(FillError::NotEmpty { others: 1, .. })), "{refused:?}");
    target.insert(Kind::Client, "extra", Write::default()).await.unwrap();
    let replace = FillOptions { replace: true, ..FillOptions::default() };
    let filled = restored(&file, &target, replace).await.unwrap();
    assert_eq!((filled.written, filled.replaced, filled.deleted), (0, 1, 1));
    assert_eq!(all(&*target).await, before);
}

#[tokio::test]
async fn sign_ins_can_be_left_out() {
    let kit = Kit::new(Backend::Memory);
    furnished(&kit).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    backed_up(kit.store.kernel(), &file).await;
    let kept = |all: All| all.into_keys().map(|(kind, _)| kind).collect::<Vec<_>>();
    let without = FillOptions { scope: Scope::WithoutSessions, ..FillOptions::default() };
    let target = memory();
    restored(&file, &target, without).await.unwrap();
    let expected = [Kind::SigningKeys, Kind::SealingKeys, Kind::Client, Kind::Password, Kind::Failures];
    assert_eq!(kept(all(&*target).await), expected);

    let mut out = Vec::new();
    write_backup(kit.store.kernel(), kit.now(), Scope::WithoutSessions, &mut out, &mut |_| {}).await.unwrap();
    std::fs::write(&file, out).unwrap();
    assert!(BackupFile::open(&file).unwrap().header().without_sessions);
    let target = memory();
    restored(&file, &target, FillOptions::default()).await.unwrap();
    assert_eq!(kept(all(&*target).await), expected);
}

/// However it was cut, changed or glued together, it is refused by name and line, and nothing is written.
#[tokio::test]
async fn a_file_that_is_not_as_it_was_written_is_refused() {
    let kit = Kit::new(Backend::Memory);
    kit.code("flow").await;
    kit.family().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    backed_up(kit.store.kernel(), &file).await;
    let whole = std::fs::read(&file).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let joined = |lines: &[&[u8]]| lines.concat();
    let mut broken: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    for position in 0..whole.len() {
        let mut changed = whole.clone();
        changed[position] ^= 0x01;
        broken.push(changed);
    }
    for left_out in 0..lines.len() {
        broken.push(joined(&[&lines[..left_out], &lines[left_out + 1..]].concat()));
        broken.push(joined(&[&lines[..=left_out], &lines[left_out..]].concat()));
    }
    broken.push(joined(&[&lines[..], &[b"{}\n"]].concat()));
    broken.push([&whole[..], b"x"].concat());
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        BackupFile::open(&file)
    };
    for bytes in &broken {
        let opened = refused(bytes);
        assert!(
            matches!(
                opened,
                Err(BackupError::Damaged { .. } | BackupError::Foreign { .. } | BackupError::Newer { .. })
            ),
            "{opened:?}: {}",
            String::from_utf8_lossy(bytes)
        );
    }
    // What a hand could write, with a good sum at its end.
    let record = |kind: &str, id: &str, data: &str| format!("{{\"kind\":{kind:?},\"id\":{id:?},\"data\":{data:?}}}\n");
    let large = "A".repeat((MAX_DATA_BYTES / 3 + 2) * 4);
    for (line, what) in [
        (record("session", "a", ""), "its kind is not one that this version knows"),
        (record("code", "", ""), "the id has 0 bytes"),
        (record("code", &"a".repeat(1025), ""), "the id has 1025 bytes"),
        (record("code", "a", "?"), "no base64"),
        (record("code", "a", &large), "bytes of data"),
        (record("code", "a", &"A".repeat(MAX_LINE_BYTES)), "longer than any that is written"),
        ("{\"kind\":\"code\",\"id\":\"a\",\"index1\":\"AA==\",\"data\":\"\"}\n".to_owned(), "a broken index key"),
        (record("code", "a", "") + &record("code", "a", ""), "twice"),
        ("hunter2\n".to_owned(), "Syntax error at byte"),
        ("\n".to_owned(), "Eof error"),
    ] {
        let body = [lines[0], line.as_bytes()].concat();
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let sum = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sum);
        let records = line.lines().count();
        let end = format!("{{\"records\":{records},\"sha256\":{sum:?}}}\n");
        let error = refused(&[&body, end.as_bytes()].concat()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(what) && text.contains("backup") && !text.contains("hunter2"), "{what}: {text}");
        assert!(matches!(error, BackupError::Damaged { line: 2 | 3, .. }), "{text}");
    }
    let newer = String::from_utf8(whole.clone()).unwrap().replacen("\"form\":1", "\"form\":2", 1);
    assert!(matches!(refused(newer.as_bytes()), Err(BackupError::Newer { found: 2, .. })));
    for foreign in [&b""[..], b"SQLite format 3\0", b"{}\n", b"{\"backup\":\"other\",\"form\":1}\n", &[b'x'; 1 << 20]] {
        assert!(matches!(refused(foreign), Err(BackupError::Foreign { .. })));
    }
    assert!(matches!(BackupFile::open(folder.path()), Err(BackupError::Read { .. })));
    assert!(refused(&whole).is_ok());
}

#[tokio::test]
async fn a_restore_that_was_cut_off_goes_on_and_lost_replies_do_no_harm() {
    let kit = Kit::new(Backend::Memory);
    furnished(&kit).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let records = backed_up(kit.store.kernel(), &file).await;

    let faulty = Arc::new(FaultyKernel::new(memory(), 1));
    let target: Arc<dyn Kernel> = Arc::clone(&faulty) as _;
    let broken = || Err(KernelError::Corrupt { what: "a test".to_owned() });
    faulty.before_write(Kind::Family, Box::new(move || Box::pin(async move { broken() })));
    let cut_off = restored(&file, &target, FillOptions::default()).await;
    assert!(matches!(cut_off, Err(FillError::Target(_))), "{cut_off:?}");
    let network = Arc::clone(&faulty);
    let spoil = move || {
        let faults = [Fault::LostReply, Fault::None, Fault::LostRequest, Fault::LateRequest, Fault::Refused].repeat(7);
        Box::pin(async move {
            network.script_writes(faults);
            Ok(())
        }) as _
    };
    faulty.before_write(Kind::Family, Box::new(spoil));
    let filled = restored(&file, &target, FillOptions::default()).await.unwrap();
    assert_eq!(filled.written + filled.unchanged, records);
    assert!(filled.unchanged >= 30, "{filled:?}");
    assert_eq!(all(&*target).await, all(kit.store.kernel()).await);
}

/// Somebody who writes meanwhile is noticed.
#[tokio::test]
async fn a_target_that_is_in_use_is_not_called_done() {
    let kit = Kit::new(Backend::Memory);
    furnished(&kit).await;
    let faulty = Arc::new(FaultyKernel::new(memory(), 1));
    let target: Arc<dyn Kernel> = Arc::clone(&faulty) as _;
    let other = Arc::clone(&target);
    let write = Write { data: b"{}".to_vec(), ..Write::default() };
    let hook =
        Box::new(move || Box::pin(async move { other.insert(Kind::Client, "other", write).await.map(|_| ()) }) as _);
    faulty.before_write(Kind::Family, hook);
    let copied = copy_store(kit.store.kernel(), &tool_on(&target), FillOptions::default(), &mut |_| {}).await;
    assert!(matches!(copied, Err(FillError::Incomplete { others: 1, .. })), "{copied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_copied_between_any_two_backends() {
    let kit = Kit::new(Backend::Memory);
    furnished(&kit).await;
    let expected = all(kit.store.kernel()).await;
    let folder = tempfile::tempdir().unwrap();
    let (postgres, mariadb) = (Server::start(DatabaseKind::Postgres), Server::start(DatabaseKind::MariaDb));
    let etcd = Etcd::start().await;
    let number = AtomicUsize::new(0);
    let empty = async |backend: usize| -> Arc<dyn Kernel> {
        let number = number.fetch_add(1, Ordering::Relaxed);
        match backend {
            0 => memory(),
            1 => Arc::new(sqlite(&folder.path().join(format!("{number}.db")))),
            2 => postgres.kernel().await,
            3 => mariadb.kernel().await,
            _ => {
                let namespace = format!("{number}/");
                let options =
                    portcullis_storage::EtcdOptions { endpoints: vec![etcd.url()], namespace, ..Default::default() };
                Arc::new(portcullis_storage::EtcdKernel::open(options).await.unwrap())
            }
        }
    };
    for from in 0..5 {
        let source = empty(from).await;
        copy_store(kit.store.kernel(), &tool_on(&source), FillOptions::default(), &mut |_| {}).await.unwrap();
        for to in 0..5 {
            let target = empty(to).await;
            let filled = copy_store(&*source, &tool_on(&target), FillOptions::default(), &mut |_| {}).await;
            let filled = filled.unwrap_or_else(|error| panic!("from {from} to {to}: {error}"));
            assert_eq!(filled.written, expected.len() as u64, "from {from} to {to}");
            assert_eq!(all(&*target).await, expected, "from {from} to {to}");
        }
        if from > 0 {
            let onto_itself = copy_store(&*source, &tool_on(&source), FillOptions::default(), &mut |_| {}).await;
            assert!(matches!(onto_itself, Err(FillError::Same { .. })), "{onto_itself:?}");
        }
    }
}

fn sqlite(file: &Path) -> SqliteKernel {
    SqliteKernel::open(file, &Clock::system(), &SqliteOptions::default()).unwrap()
}

/// While people sign in, refresh and are signed out, each backup is a state that the store was in: nothing in it is half done.
async fn backups_under_load(kernel: Arc<dyn Kernel>) {
    let (clock, _hand) = Clock::mock(START);
    let store = Store::new(Arc::clone(&kernel), clock.clone(), Rng::seeded(3));
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for task in 0..8 {
        let (store, stop, rounds) = (store.clone(), Arc::clone(&stop), Arc::clone(&rounds));
        load.spawn(async move {
            let client = format!("app {task}");
            while !stop.load(Ordering::Relaxed) {
                let id = store.families().new_id();
                let token = store.families().create(&id, new_family(&client), &policy()).await.unwrap();
                let open = store.families().open(&token, &client, &policy()).await.unwrap();
                store.families().advance(open, &policy(), Default::default()).await.unwrap();
                if rounds.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
                    store.families().revoke_client(&client).await.unwrap();
                }
            }
        });
    }
    let folder = tempfile::tempdir().unwrap();
    let mut records = 0;
    for number in 0..10 {
        while rounds.load(Ordering::Relaxed) < (number + 1) * 10 {
            tokio::task::yield_now().await;
        }
        let file = folder.path().join(number.to_string());
        records += backed_up(&*kernel, &file).await;
        let target = memory();
        restored(&file, &target, FillOptions::default()).await.unwrap();
        let there = Store::new(target, clock.clone(), Rng::seeded(4));
        let mut findings = Vec::new();
        there.check(|finding| findings.push(finding)).await.unwrap();
        assert!(findings.is_empty(), "{findings:?}");
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = load.join_next().await {
        done.unwrap();
    }
    assert!(records > 300, "{records}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_of_one_moment_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    backups_under_load(Arc::new(sqlite(&folder.path().join("store.db")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_of_one_moment_on_postgresql() {
    backups_under_load(Server::start(DatabaseKind::Postgres).kernel().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_of_one_moment_on_mariadb() {
    backups_under_load(Server::start(DatabaseKind::MariaDb).kernel().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_of_one_moment_on_etcd() {
    let etcd = Etcd::start().await;
    let options = portcullis_storage::EtcdOptions { endpoints: vec![etcd.url()], ..Default::default() };
    backups_under_load(Arc::new(portcullis_storage::EtcdKernel::open(options).await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_of_one_moment_on_kubernetes() {
    let plane = ControlPlane::start(&[]).await;
    let access = KubernetesAccess::Kubeconfig { file: plane.admin_kubeconfig(), proxy: ProxyFromEnv::default() };
    let options = KubernetesOptions::new(access, CrdHandling::Ensure);
    backups_under_load(Arc::new(KubernetesKernel::open(&options, &Clock::system(), Rng::system()).await.unwrap()))
        .await;
}

async fn findings(store: &Store) -> Vec<(Kind, String)> {
    let mut findings = Vec::new();
    let checked = store.check(|found| findings.push((found.kind, found.what))).await.unwrap();
    assert_eq!(checked.findings, findings.len() as u64);
    findings
}

#[tokio::test]
async fn a_check_finds_what_is_wrong_and_nothing_else() {
    let keys = || {
        let key = KeyEncryptionKey::new(Some("a"), "a test", &[1; 32], Rng::seeded(1)).unwrap();
        Some(KeyEncryption::new(Arc::new(key)))
    };
    let kit = Kit::new(Backend::Memory);
    kit.store.unlock(keys()).await.unwrap();
    for number in 0..5 {
        kit.code(&format!("flow {number}")).await;
        kit.family().await;
    }
    kit.store.clients().create(&Client { id: "c".to_owned(), secret: "s".into(), ..Client::default() }).await.unwrap();
    kit.store
        .passwords()
        .create(&Password { email: "jane@example.com".to_owned(), hash: "h".into(), ..Password::default() })
        .await
        .unwrap();
    kit.store.sealing_keys().load(portcullis_storage::SealingPolicy::default()).await.unwrap();
    assert_eq!(findings(&kit.store).await, []);

    // Who only looks makes no data key.
    let clear = Kit::new(Backend::Memory);
    clear.store.look(keys().as_ref()).await.unwrap();
    assert_eq!(clear.count(Kind::DataKeys).await, 0);
    let looking = kit.replica(5, StoreOptions::default());
    assert!(looking.look(None).await.is_err());
    looking.look(keys().as_ref()).await.unwrap();
    assert_eq!(findings(&looking).await, []);

    // Without keys: everything that is sealed is named.
    let other = findings(&kit.replica(2, StoreOptions::default())).await;
    let kinds: std::collections::BTreeSet<Kind> = other.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        Vec::from_iter(kinds),
        [Kind::Login, Kind::Code, Kind::Family, Kind::SealingKeys, Kind::Client, Kind::Password]
    );
    assert!(other.iter().all(|(_, what)| what.contains("it is sealed with the data key")), "{other:?}");

    let kernel = kit.store.kernel();
    let one = |all: &All, kind| all.iter().find(|((of, _), _)| *of == kind).map(|(_, record)| record.clone()).unwrap();
    for (kind, change, what) in [
        (Kind::Family, "delete list", "is on no list"),
        (Kind::FamilyList, "index", "index keys"),
        (Kind::Code, "expiry", "expiry"),
        (Kind::Login, "data", "error at byte"),
        (Kind::Password, "move", "its address in lower case"),
        (Kind::Family, "swap", "does not open"),
    ] {
        let before = all(kernel).await;
        let target = memory();
        copy_store(kernel, &tool_on(&target), FillOptions::default(), &mut |_| {}).await.unwrap();
        let record = one(&before, kind);
        let there = target.get(kind, &record.id).await.unwrap().unwrap();
        let mut write = Write { index: record.index, expires_at: record.expires_at, data: record.data.clone() };
        match change {
            "delete list" => {
                let list = one(&before, Kind::FamilyList);
                let version = target.get(Kind::FamilyList, &list.id).await.unwrap().unwrap().version;
                target.delete(Kind::FamilyList, &list.id, version).await.unwrap();
            }
            "move" => {
                target.insert(kind, "Jane@example.com", write).await.unwrap();
            }
            "swap" => {
                let last = before.iter().rfind(|((of, _), _)| *of == kind).unwrap().1;
                write.data.clone_from(&last.data);
                target.update(kind, &record.id, there.version, write).await.unwrap();
            }
            _ => {
                match change {
                    "index" => write.index = [None, None],
                    "expiry" => write.expires_at = Some(kit.now()),
                    _ => write.data.truncate(20),
                }
                target.update(kind, &record.id, there.version, write).await.unwrap();
            }
        }
        let (clock, _hand) = Clock::mock(START);
        let store = Store::new(target, clock, Rng::seeded(9));
        store.unlock(keys()).await.unwrap();
        let found = findings(&store).await;
        let expected = if change == "delete list" { 5 } else { 1 };
        assert_eq!(found.len(), expected, "{change}: {found:?}");
        assert!(found.iter().all(|(of, text)| *of == kind && text.contains(what)), "{change}: {found:?}");
    }
}

#[tokio::test]
async fn a_census_counts_what_there_is() {
    let kit = Kit::new(Backend::Memory);
    furnished(&kit).await;
    let census = kit.store.census().await.unwrap();
    let total: u64 = census.values().map(|kind| kind.records).sum();
    assert_eq!(total, all(kit.store.kernel()).await.len() as u64);
    assert_eq!((census[&Kind::Family].records, census[&Kind::Family].expired), (20, 0));
    assert_eq!((census[&Kind::Failures].bytes, census[&Kind::Failures].expired), (MAX_DATA_BYTES as u64, 1));
}

/// For messages of tests: where the store is.
#[test]
fn a_kernel_says_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("store.db");
    let description = sqlite(&file).description();
    assert_eq!(
        (description.backend, description.place.as_str(), description.schema),
        ("sqlite3", file.to_str().unwrap(), 1)
    );
}
