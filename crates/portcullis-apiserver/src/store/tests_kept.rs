//! Objects that are kept: what is there after a restart, and what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use portcullis_testkit::{TempDir, temp_dir};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn key() -> Result<SigningKey, JoseError> {
    // Not RSA: making one would take most of the test's time.
    SigningKey::generate(portcullis_jose::KeyKind::P256, String::new())
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(temp_dir())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("objects.db")
    }

    fn try_open(&self) -> Result<Store, KeptError> {
        Store::kept(StoreLimits::default(), Clock::system(), &self.file(), key).map(|(store, _)| store)
    }

    fn open(&self) -> Store {
        let store = self.try_open().unwrap();
        store.settle().unwrap();
        store
    }
}

fn named(name: &str, more: &str) -> Map<String, Value> {
    json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"more": more}}})
        .as_object()
        .unwrap()
        .clone()
}

fn spaces() -> &'static Resource {
    resources::namespaces()
}

fn content(store: &Store) -> BTreeMap<String, Vec<u8>> {
    store.all(spaces(), "").iter().map(|object| (object.key(), object.bytes.to_vec())).collect()
}

#[test]
fn objects_versions_and_the_key_survive() {
    let folder = Folder::new();
    let (store, first) = Store::kept(StoreLimits::default(), Clock::system(), &folder.file(), key).unwrap();
    store.create(spaces(), named("gathered", "")).unwrap();
    store.settle().unwrap();
    let a = store.create(spaces(), named("a", "1")).unwrap();
    let b = store.create(spaces(), named("b", "1")).unwrap();
    store.replace(spaces(), &a, named("a", "2")).unwrap();
    store.remove(spaces(), &b).unwrap();
    let (before, version) = (content(&store), store.version());
    assert_eq!(before.keys().collect::<Vec<_>>(), ["a", "gathered"]);
    drop(store);

    let (store, second) = reopened(&folder);
    assert_eq!((content(&store), store.version()), (before, version));
    assert_eq!(first.public().to_json(), second.public().to_json());
    store.settle().unwrap();
    assert_eq!(store.create(spaces(), named("c", "")).unwrap().version, version + 1, "the last change was a deletion");
}

fn reopened(folder: &Folder) -> (Store, SigningKey) {
    Store::kept(StoreLimits::default(), Clock::system(), &folder.file(), key).unwrap()
}

#[test]
fn a_watch_of_before_the_restart_is_told_that_it_is_too_old() {
    let folder = Folder::new();
    let store = folder.open();
    store.create(spaces(), named("a", "")).unwrap();
    store.create(spaces(), named("b", "")).unwrap();
    let version = store.version();
    drop(store);
    let (store, _) = reopened(&folder);
    store.settle().unwrap();
    assert!(store.changes(spaces(), version - 1, 10).is_err());
    store.create(spaces(), named("c", "")).unwrap();
    let since = store.changes(spaces(), version, 10).unwrap();
    assert_eq!(since.events.len(), 1, "a client that had seen everything goes on");
}

#[test]
fn parallel_writers_get_each_version_once_and_all_of_it_is_kept() {
    let folder = Folder::new();
    let store = folder.open();
    let shared = store.create(spaces(), named("shared", "")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, shared) = (&store, &shared);
            scope.spawn(move || {
                for number in 0..20 {
                    let name = format!("{thread}-{number}");
                    let made = store.create(spaces(), named(&name, "")).unwrap();
                    assert!(store.get(spaces(), "", &name).is_some(), "whoever has written sees it");
                    if number % 2 == 0 {
                        store.remove(spaces(), &made).unwrap();
                        store.create(spaces(), named(&name, "again")).unwrap();
                    }
                }
                store.replace(spaces(), shared, named("shared", "won")).is_ok()
            });
        }
    });
    assert_eq!(store.version(), 1 + 1 + 8 * 20 + 8 * 10 * 2 + 1, "one of the replacements has won");
    let (before, version) = (content(&store), store.version());
    assert_eq!(before.len(), 161);
    drop(store);
    let (store, _) = reopened(&folder);
    assert_eq!((content(&store), store.version()), (before, version));
}

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_deleting_makes_room() {
    let folder = Folder::new();
    let store = folder.try_open().unwrap();
    store.committer.as_ref().unwrap().file(|kept| kept.limit_pages(40)).unwrap();
    store.settle().unwrap();
    let big = "x".repeat(4_000);
    let mut made = Vec::new();
    let refused = loop {
        match store.create(spaces(), named(&format!("n{}", made.len()), &big)) {
            Ok(object) => made.push(object),
            Err(error) => break error,
        }
        assert!(made.len() < 100, "the disk does not fill");
    };
    assert_eq!(refused, StoreError::NotKept(NotKept::DiskFull));
    let (before, version) = (content(&store), store.version());
    assert_eq!((before.len(), version), (made.len(), made.last().unwrap().version));
    let parallel: Vec<_> = std::thread::scope(|scope| {
        let store = &store;
        let big = &big;
        let threads: Vec<_> =
            (0..4).map(|n| scope.spawn(move || store.create(spaces(), named(&format!("p{n}"), big)).err())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(parallel.contains(&Some(StoreError::NotKept(NotKept::DiskFull))), "{parallel:?}");
    assert_eq!(store.version(), version + parallel.iter().filter(|refused| refused.is_none()).count() as u64);
    for object in &made[..8] {
        store.remove(spaces(), object).unwrap();
    }
    store.create(spaces(), named("room", "")).unwrap();
    let before = content(&store);
    drop(store);
    assert_eq!(content(&reopened(&folder).0), before);
}

#[test]
fn a_file_that_is_not_what_was_written_is_refused_by_name() {
    let damage = |hurt: fn(&Path)| {
        let folder = Folder::new();
        let store = folder.open();
        for number in 0..20 {
            store.create(spaces(), named(&format!("n{number}"), &"y".repeat(300))).unwrap();
        }
        drop(store);
        drop(reopened(&folder));
        hurt(&folder.file());
        let before = files(&folder);
        let error = folder.try_open().expect_err("it is refused");
        assert!(files(&folder) == before, "{error}: the file is as it was");
        assert!(error.to_string().contains(&folder.file().display().to_string()), "{error}");
        assert!(error.hint().is_some());
        error
    };
    let flipped = damage(|path| {
        let mut bytes = std::fs::read(path).unwrap();
        // A page may hold remains that nothing refers to: each run is hurt.
        let runs: Vec<usize> =
            (1..bytes.len() - 4).filter(|at| bytes[at - 1] != b'y' && bytes[*at..].starts_with(b"yyyy")).collect();
        runs.into_iter().for_each(|at| bytes[at] = b'z');
        std::fs::write(path, bytes).unwrap();
    });
    assert!(matches!(&flipped, KeptError::Damaged { reason, .. } if reason.contains("namespaces n")), "{flipped}");
    let cut = damage(|path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(matches!(cut, KeptError::Damaged { .. }), "{cut}");
    let text = damage(|path| {
        std::fs::write(path, "hello, this is a text, and it is long enough for a header of SQLite").unwrap()
    });
    assert!(matches!(text, KeptError::Foreign { .. }), "{text}");
    let zeroes = damage(|path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[4_096..8_192].fill(0);
        std::fs::write(path, bytes).unwrap();
    });
    assert!(matches!(zeroes, KeptError::Damaged { .. }), "{zeroes}");
}

/// All files of a folder that hold something, by name: looking at one may leave an empty log beside it.
fn files(folder: &Folder) -> BTreeMap<std::ffi::OsString, Vec<u8>> {
    let entries = std::fs::read_dir(folder.0.path()).unwrap().map(Result::unwrap);
    let read = entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()));
    read.filter(|(_, bytes)| !bytes.is_empty()).collect()
}

/// A folder as a kill leaves it: what was written last is in the log alone.
fn killed(store: &Folder) -> Folder {
    let copy = Folder::new();
    for (name, bytes) in files(store) {
        std::fs::write(copy.0.path().join(name), bytes).unwrap();
    }
    copy
}

#[test]
fn no_flipped_byte_of_the_file_changes_what_is_read() {
    let folder = Folder::new();
    let (store, first) = Store::kept(StoreLimits::default(), Clock::system(), &folder.file(), key).unwrap();
    store.settle().unwrap();
    for number in 0..3 {
        store.create(spaces(), named(&format!("n{number}"), "")).unwrap();
    }
    let (before, version) = (content(&store), store.version());
    drop(store);
    let whole = std::fs::read(folder.file()).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x15;
        std::fs::write(folder.file(), &bytes).unwrap();
        match Store::kept(StoreLimits::default(), Clock::system(), &folder.file(), key) {
            Ok((store, key)) => {
                assert_eq!((content(&store), store.version()), (before.clone(), version), "byte {at}");
                assert_eq!(key.public().to_json(), first.public().to_json(), "byte {at}");
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("objects.db") && error.hint().is_some(), "byte {at}: {error}");
                assert!(std::fs::read(folder.file()).unwrap() == bytes, "byte {at}: {error}: the file is as it was");
            }
        }
        for entry in std::fs::read_dir(folder.0.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn a_kill_while_the_log_holds_it_loses_nothing_and_a_refusal_leaves_the_log() {
    let folder = Folder::new();
    let store = folder.open();
    store.create(spaces(), named("a", "")).unwrap();
    let before = content(&store);
    let copy = killed(&folder);
    assert!(files(&copy).keys().any(|name| name.to_string_lossy().ends_with("-wal")));
    let mut bytes = std::fs::read(copy.file()).unwrap();
    bytes[60..64].copy_from_slice(&9_i32.to_be_bytes());
    std::fs::write(copy.file(), bytes).unwrap();
    let as_it_was = files(&copy);
    assert!(matches!(copy.try_open(), Err(KeptError::Newer { found: 9, .. })));
    assert!(files(&copy) == as_it_was);
    assert_eq!(content(&killed(&folder).open()), before);
}

#[test]
fn a_place_that_cannot_be_written_is_named_with_the_way_out() {
    let folder = Folder::new();
    std::fs::write(folder.0.path().join("file"), "").unwrap();
    for place in ["file/objects.db", "nowhere/objects.db", "."] {
        let path = folder.0.path().join(place);
        let error = Store::kept(StoreLimits::default(), Clock::system(), &path, key).err().unwrap();
        assert!(matches!(&error, KeptError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()) && error.hint().is_some(), "{error}");
    }
}

#[test]
fn five_thousand_objects_are_there_again() {
    let folder = Folder::new();
    let store = folder.try_open().unwrap();
    for number in 0..5_000 {
        store.create(spaces(), named(&format!("n{number}"), &"x".repeat(500))).unwrap();
    }
    store.settle().unwrap();
    let before = (store.version(), content(&store));
    drop(store);
    let (store, _) = reopened(&folder);
    assert_eq!(before.1.len(), 5_000);
    assert!((store.version(), content(&store)) == before, "each object byte for byte, at the same version");
    let found = store.get(spaces(), "", "n4999").unwrap();
    assert!(Arc::ptr_eq(&store.find(&found.uid).unwrap().object, &found), "known by its uid too");
}

#[test]
fn files_of_others_and_of_the_future_stay_as_they_are() {
    let sql =
        |folder: &Folder, text: &str| rusqlite::Connection::open(folder.file()).unwrap().execute_batch(text).unwrap();
    let folder = Folder::new();
    sql(&folder, "CREATE TABLE mine (x)");
    let before = files(&folder);
    assert!(matches!(folder.try_open(), Err(KeptError::Foreign { .. })));
    assert!(files(&folder) == before);
    let folder = Folder::new();
    drop(folder.open());
    drop(reopened(&folder));
    sql(&folder, "PRAGMA user_version = 9");
    assert!(matches!(folder.try_open(), Err(KeptError::Newer { found: 9, .. })));
}

#[test]
fn the_file_is_its_owners_alone_and_one_process_has_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    std::fs::write(folder.file(), "").unwrap();
    std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = folder.open();
    store.create(spaces(), named("a", "")).unwrap();
    for entry in std::fs::read_dir(folder.0.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", entry.path().display());
    }
    assert!(matches!(folder.try_open(), Err(KeptError::InUse { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn a_store_that_is_kept_is_as_one_in_memory(steps in prop::collection::vec((0..3_u8, 0..5_usize), 1..40), restart in 0..40_usize) {
        let folder = Folder::new();
        let memory = Store::new(StoreLimits::default());
        let mut store = folder.open();
        for (step, (action, which)) in steps.into_iter().enumerate() {
            if step == restart {
                drop(store);
                store = reopened(&folder).0;
                store.settle().unwrap();
            }
            let name = format!("n{which}");
            let members = named(&name, &step.to_string());
            let act = |store: &Store| match (store.get(spaces(), "", &name), action) {
                (None, _) => store.create(spaces(), members.clone()).map(|object| object.bytes.clone()),
                (Some(old), 0) => store.remove(spaces(), &old).map(|object| object.bytes.clone()),
                (Some(old), _) => store.replace(spaces(), &old, members.clone()).map(|object| object.bytes.clone()),
            };
            prop_assert_eq!(act(&store), act(&memory));
        }
        prop_assert_eq!(content(&store), content(&memory));
        prop_assert_eq!(store.version(), memory.version());
    }
}
