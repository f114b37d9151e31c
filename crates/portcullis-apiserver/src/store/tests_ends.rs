//! Events end an hour after they were last written, also across restarts, and nothing else ends.

use portcullis_runtime::MockClock;
use portcullis_testkit::{TempDir, temp_dir};
use serde_json::json;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    clock: Clock,
    hand: MockClock,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let (clock, hand) = Clock::mock(1_700_000_000);
        Self { clock, hand, folder: temp_dir() }
    }

    fn memory(&self, event_ttl: Duration) -> Store {
        let store = Store::new(StoreLimits { event_ttl, ..StoreLimits::default() }).with_clock(self.clock.clone());
        with_default(store)
    }

    fn kept_for(&self, event_ttl: Duration) -> Store {
        let limits = StoreLimits { event_ttl, ..StoreLimits::default() };
        // Not RSA: making one would take most of the test's time.
        let key = || SigningKey::generate(portcullis_jose::KeyKind::P256, String::new());
        let path = self.folder.path().join("objects.db");
        let store = Store::kept(limits, self.clock.clone(), &path, key).unwrap().0;
        store.settle().unwrap();
        store
    }

    fn kept(&self) -> Store {
        self.kept_for(HOUR)
    }

    fn after(&self, by: Duration) {
        self.hand.advance(by);
    }
}

fn with_default(store: Store) -> Store {
    store
        .create(resources::namespaces(), json!({"metadata": {"name": "default"}}).as_object().unwrap().clone())
        .unwrap();
    store
}

fn members(name: &str, count: u32) -> Map<String, Value> {
    let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}")});
    json!({"metadata": metadata, "count": count}).as_object().unwrap().clone()
}

fn make(store: &Store, name: &str) -> Arc<Object> {
    store.create(resources::events(), members(name, 1)).unwrap()
}

fn names(store: &Store) -> Vec<String> {
    store.all(resources::events(), "").iter().map(|event| event.name.to_string()).collect()
}

#[test]
fn an_event_ends_an_hour_after_its_last_write_and_watches_are_told() {
    let bench = Bench::new();
    for store in [bench.memory(HOUR), with_default(bench.kept())] {
        let map = resources::find("", "v1", "configmaps").unwrap();
        store.create(map, members("map", 1)).unwrap();
        let first = make(&store, "written-again");
        make(&store, "written-once");
        bench.after(MINUTE * 30);
        store.replace(resources::events(), &first, members("written-again", 2)).unwrap();
        bench.after(MINUTE * 30 - Duration::from_secs(1));
        assert_eq!((store.expire(), names(&store).len()), (Ok(0), 2));
        bench.after(Duration::from_secs(1));
        let before = store.version();
        assert_eq!(store.expire(), Ok(1));
        assert_eq!(names(&store), ["written-again"]);
        let told = store.changes(resources::events(), before, 10).unwrap().events;
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].change, &*told[0].object.name), (Change::Deleted, "written-once"));
        assert_eq!(told[0].object.version, before + 1);
        bench.after(MINUTE * 30);
        assert_eq!((store.expire(), store.expire()), (Ok(1), Ok(0)));
        bench.after(HOUR * 1_000);
        assert_eq!(store.expire(), Ok(0));
        assert_eq!(store.all(map, "").len(), 1, "nothing else ends");
    }
}

#[test]
fn a_deleted_event_leaves_no_end_behind_and_a_new_one_of_its_name_has_its_own() {
    let bench = Bench::new();
    let store = bench.memory(HOUR);
    let first = make(&store, "e");
    bench.after(MINUTE);
    store.remove(resources::events(), &first).unwrap();
    assert!(store.read().ends.is_empty());
    make(&store, "e");
    bench.after(HOUR - MINUTE);
    assert_eq!(store.expire(), Ok(0));
    bench.after(MINUTE);
    assert_eq!(store.expire(), Ok(1));
    assert!(store.read().ends.is_empty());
}

#[test]
fn without_a_lifetime_events_stay_for_good() {
    let bench = Bench::new();
    let store = bench.memory(Duration::ZERO);
    make(&store, "e");
    bench.after(HOUR * 1_000);
    assert_eq!((store.expire(), names(&store).len()), (Ok(0), 1));
}

#[test]
fn restarts_do_not_make_an_event_younger_and_what_has_ended_meanwhile_is_not_shown() {
    let bench = Bench::new();
    let store = with_default(bench.kept());
    make(&store, "old");
    bench.after(MINUTE * 30);
    make(&store, "new");
    drop(store);
    let store = bench.kept();
    assert_eq!(names(&store), ["new", "old"]);
    drop(store);
    bench.after(MINUTE * 30);
    let store = bench.kept();
    assert_eq!(names(&store), ["new"]);
    let version = store.version();
    drop(store);
    let store = bench.kept();
    assert_eq!((store.version(), names(&store)), (version, vec!["new".to_owned()]), "its end is kept as well");
    bench.after(MINUTE * 30);
    assert_eq!((store.expire(), names(&store).len()), (Ok(1), 0));
}

#[test]
fn events_of_a_time_that_has_not_come_yet_end_like_those_of_now() {
    let bench = Bench::new();
    bench.after(HOUR * 1_000);
    let store = with_default(bench.kept());
    make(&store, "ahead");
    drop(store);
    bench.hand.set(bench.hand.now() - HOUR * 1_000);
    drop(bench.kept());
    bench.after(HOUR);
    assert!(names(&bench.kept()).is_empty());
}

#[test]
fn a_file_of_the_first_layout_is_taken_over_and_its_events_end_too() {
    let bench = Bench::new();
    // Without a lifetime rows are as they were then.
    let store = with_default(bench.kept_for(Duration::ZERO));
    make(&store, "e");
    let version = store.version();
    drop(store);
    let path = bench.folder.path().join("objects.db");
    let sql = |text: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(text).unwrap();
    sql("ALTER TABLE objects DROP COLUMN ends; PRAGMA user_version = 1");
    let store = bench.kept();
    assert_eq!((store.version(), names(&store)), (version, vec!["e".to_owned()]));
    drop(store);
    bench.after(MINUTE * 59);
    assert_eq!(names(&bench.kept()), ["e"]);
    bench.after(MINUTE);
    assert!(names(&bench.kept()).is_empty(), "its end was written when the file was taken over");
}

#[test]
fn as_many_as_there_are_end_at_once() {
    let bench = Bench::new();
    let store = with_default(bench.kept());
    for number in 0..600 {
        make(&store, &format!("e{number}"));
    }
    bench.after(HOUR);
    assert_eq!((store.expire(), names(&store).len()), (Ok(600), 0));
    assert_eq!(store.all(resources::namespaces(), "").len(), 1);
    drop(store);
    assert!(names(&bench.kept()).is_empty());
}
