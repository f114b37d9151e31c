//! A store that a program after this one migrates while this one goes on: replicas are upgraded one after the other.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use portcullis_runtime::{Clock, Timestamp};
use portcullis_storage::{
    Kernel, Migration, Snapshot, SqliteKernel, SqliteOptions,
    conformance::check_kernel,
    kernel::{Description, IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write},
};
use portcullis_testkit::DatabaseKind;

use crate::servers::Server;

/// How a store is opened.
#[derive(Clone, Copy)]
enum As {
    /// By this program.
    Now,
    /// By this program, to look at it.
    Looking,
    /// By a program whose migrations are ours and these.
    Later(&'static [Migration]),
}

/// What a later program does to the schema.
struct Steps {
    /// What this program can go on with.
    mild: &'static [Migration],
    /// The same with a statement behind it that fails.
    broken: &'static [Migration],
    /// The mild one, and one that this program cannot go on with.
    harsh: &'static [Migration],
}

macro_rules! steps {
    ($($statement:literal),+) => {{
        const MILD: Migration = Migration { name: "notes", needs: 1, statements: &[$($statement),+] };
        const HARSH: Migration = Migration { name: "harsh", needs: 3, statements: &["SELECT 1"] };
        Steps {
            mild: &[MILD],
            broken: &[Migration { name: "notes", needs: 1, statements: &[$($statement),+, "SELECT nothing_of_this"] }],
            harsh: &[MILD, HARSH],
        }
    }};
}

type Opened = Result<Arc<dyn Kernel>, String>;
/// Opens the store of this number.
type Open = Arc<dyn Fn(usize, As) -> Pin<Box<dyn Future<Output = Opened> + Send>> + Send + Sync>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_is_migrated_beside_this_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let open: Open = Arc::new(move |number, way| {
        let path = path.join(format!("{number}.db"));
        Box::pin(async move {
            let (clock, options) = (Clock::system(), SqliteOptions::default());
            let opened = match way {
                As::Now => SqliteKernel::open(&path, &clock, &options),
                As::Looking => SqliteKernel::look(&path, &clock, &options),
                As::Later(later) => SqliteKernel::open_later(&path, &clock, &options, later),
            };
            opened.map(|kernel| Arc::new(kernel) as Arc<dyn Kernel>).map_err(|error| error.to_string())
        })
    });
    let steps = steps!(
        "ALTER TABLE record ADD COLUMN note TEXT NOT NULL DEFAULT 'none'",
        "CREATE INDEX record_by_note ON record (note)"
    );
    is_migrated_beside_this_program(open, steps).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_is_migrated_beside_this_program() {
    let steps = steps!(
        "ALTER TABLE portcullis_record ADD COLUMN note text NOT NULL DEFAULT 'none'",
        "CREATE INDEX portcullis_record_by_note ON portcullis_record (note)"
    );
    is_migrated_beside_this_program(on(DatabaseKind::Postgres), steps).await;
}

/// There a part of a migration may have to be done again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_is_migrated_beside_this_program() {
    let steps = steps!(
        "ALTER TABLE portcullis_record ADD COLUMN IF NOT EXISTS note VARCHAR(64) NOT NULL DEFAULT 'none'",
        "CREATE INDEX IF NOT EXISTS portcullis_record_by_note ON portcullis_record (note)"
    );
    is_migrated_beside_this_program(on(DatabaseKind::MariaDb), steps).await;
}

/// Each store in a database of its own.
fn on(kind: DatabaseKind) -> Open {
    let server = Arc::new(Server::start(kind));
    let names = Arc::new(std::sync::Mutex::new(Vec::new()));
    Arc::new(move |number, way| {
        let (server, names) = (Arc::clone(&server), Arc::clone(&names));
        Box::pin(async move {
            let name = {
                let mut names = names.lock().unwrap();
                while names.len() <= number {
                    names.push(server.fresh());
                }
                names[number].clone()
            };
            let to = server.way();
            let opened = match way {
                As::Now => server.open(&name, &to).await,
                As::Looking => server.look(&name, &to).await,
                As::Later(later) => server.open_later(&name, &to, later).await,
            };
            opened.map_err(|error| error.to_string())
        })
    })
}

async fn is_migrated_beside_this_program(open: Open, Steps { mild, broken, harsh }: Steps) {
    let now = open(0, As::Now).await.unwrap();
    let write = Write {
        index: [Some(IndexKey::of(&["a"])), None],
        expires_at: Some(Timestamp::from_unix_seconds(100)),
        data: b"x".to_vec(),
    };
    let version = now.insert(Kind::Code, "a", write.clone()).await.unwrap();

    // One that fails says which, and is done from its beginning by the next.
    let failed = open(0, As::Later(broken)).await.err().expect("a failure");
    assert!(failed.contains("migration 2 (\"notes\")") && failed.contains("nothing_of_this"), "{failed}");
    assert_eq!(open(0, As::Looking).await.unwrap().description().schema, 1);
    let version = now.update(Kind::Code, "a", version, write.clone()).await.unwrap();

    // Of two who come at once, one migrates, and the other goes on with what it finds.
    let (one, two) = tokio::join!(open(0, As::Later(mild)), open(0, As::Later(mild)));
    for later in [one.unwrap(), two.unwrap()] {
        assert_eq!(later.description().schema, 2);
        let there = later.get(Kind::Code, "a").await.unwrap().unwrap();
        assert_eq!((there.version, there.index, there.expires_at), (version, write.index, write.expires_at));
    }
    // Whoever is there goes on, may come again, and may look.
    for kernel in [Arc::clone(&now), open(0, As::Now).await.unwrap(), open(0, As::Looking).await.unwrap()] {
        assert_eq!(kernel.get(Kind::Code, "a").await.unwrap().unwrap().data, b"x");
    }

    // Every promise is kept when each operation goes to another of two replicas, one of either program.
    let number = AtomicUsize::new(1);
    let both = Arc::clone(&open);
    let make = move || {
        let (open, number) = (Arc::clone(&both), number.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move {
            let now = open(number, As::Now).await.unwrap();
            let later = open(number, As::Later(mild)).await.unwrap();
            Arc::new(InTurn { replicas: [now, later], turn: AtomicUsize::new(0) }) as Arc<dyn Kernel>
        }) as Pin<Box<dyn Future<Output = _> + Send>>
    };
    let passed = check_kernel(&make).await.unwrap();
    assert!(passed.len() >= 28, "{passed:?}");

    // What this program cannot go on with, it refuses and leaves alone.
    let last = open(0, As::Later(harsh)).await.unwrap();
    assert_eq!(last.description().schema, 3);
    for way in [As::Now, As::Looking, As::Later(mild)] {
        let refused = open(0, way).await.err().expect("a refusal");
        let known = if matches!(way, As::Later(_)) { 2 } else { 1 };
        let words = [" number 3, and this version knows ", &format!("{known} at most"), "use the newer version"];
        assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
    }
    assert_eq!(last.get(Kind::Code, "a").await.unwrap().unwrap().version, version);
}

/// Replicas of one store, each of which gets the next operation in its turn.
struct InTurn {
    replicas: [Arc<dyn Kernel>; 2],
    turn: AtomicUsize,
}

impl InTurn {
    fn next(&self) -> &dyn Kernel {
        &*self.replicas[self.turn.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

impl Kernel for InTurn {
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        self.next().get(kind, id)
    }

    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version> {
        self.next().insert(kind, id, write)
    }

    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version> {
        self.next().update(kind, id, version, write)
    }

    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()> {
        self.next().delete(kind, id, version)
    }

    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing> {
        self.next().list(kind, page)
    }

    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing> {
        self.next().by_index(kind, slot, key, page)
    }

    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize> {
        self.next().expire(now, limit)
    }

    fn snapshot(&self) -> KernelFuture<'_, Snapshot> {
        self.next().snapshot()
    }

    fn description(&self) -> Description {
        self.next().description()
    }
}
