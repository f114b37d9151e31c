//! Files that are not as they should be, and what survives a crash.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use portcullis_runtime::Clock;
use portcullis_storage::{
    Applied, Kernel, KernelError, OpenError, SqliteKernel, SqliteOptions, Trouble,
    kernel::{Kind, Page, Write},
};
use rusqlite::Connection;
use tokio::task::JoinSet;

struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        Self { _folder: folder, path }
    }

    fn open(&self) -> Result<SqliteKernel, OpenError> {
        open(&self.path)
    }
}

fn open(path: &Path) -> Result<SqliteKernel, OpenError> {
    let options = SqliteOptions { lock_time: Duration::from_millis(20), ..SqliteOptions::default() };
    SqliteKernel::open(path, &Clock::system(), &options)
}

fn write(data: &str) -> Write {
    Write { data: data.into(), ..Write::default() }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn records_survive_a_restart_and_versions_are_not_used_again() {
    let file = File::new();
    let kernel = file.open().unwrap();
    let version = kernel.insert(Kind::Client, "a", write("1")).await.unwrap();
    drop(kernel);
    assert!(!file.path.with_extension("db-wal").exists(), "a clean end leaves one file");
    let kernel = file.open().unwrap();
    let record = kernel.get(Kind::Client, "a").await.unwrap().unwrap();
    assert_eq!((record.version, record.data.as_slice()), (version, &b"1"[..]));
    kernel.delete(Kind::Client, "a", version).await.unwrap();
    let again = kernel.insert(Kind::Client, "a", write("2")).await.unwrap();
    assert_ne!(again, version);
    assert_eq!(kernel.update(Kind::Client, "a", version, write("3")).await, Err(KernelError::Conflict));
}

/// The files are copied while the store is open, as a power cut would leave them: whatever was acknowledged is in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_in_the_files() {
    let file = File::new();
    let kernel = Arc::new(file.open().unwrap());
    let mut tasks = JoinSet::new();
    for number in 0..300 {
        let kernel = Arc::clone(&kernel);
        tasks.spawn(async move { kernel.insert(Kind::Code, &number.to_string(), write("x")).await.unwrap() });
    }
    tasks.join_all().await;
    let crashed = File::new();
    for extension in ["db", "db-wal"] {
        fs::copy(file.path.with_extension(extension), crashed.path.with_extension(extension)).unwrap();
    }
    let recovered = crashed.open().unwrap();
    assert_eq!(recovered.list(Kind::Code, Page::first(1000)).await.unwrap().records.len(), 300);
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let file = File::new();
    let kernel = file.open().unwrap();
    kernel.insert(Kind::Client, "a", write("1")).await.unwrap();
    for extension in ["db", "db-wal", "db-shm"] {
        assert_eq!(mode(&file.path.with_extension(extension)), 0o600, "{extension}");
    }
    drop(kernel);
    fs::set_permissions(&file.path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(file.open().unwrap());
    assert_eq!(mode(&file.path), 0o600);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let file = File::new();
    drop(file.open().unwrap());
    let connection = Connection::open(&file.path).unwrap();
    connection.execute("ALTER TABLE record ADD COLUMN later INTEGER", []).unwrap();
    connection.execute("INSERT INTO migrations VALUES (2, 'next', 0, 1)", []).unwrap();
    drop(file.open().expect("the next version says that this one can go on"));
    connection.execute("INSERT INTO migrations VALUES (99, 'from the future', 0, 99)", []).unwrap();
    drop(connection);
    let before = fs::read(&file.path).unwrap();
    let error = file.open().unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("store.db") && error.to_string().contains("newer version"), "{error}");
    assert_eq!(fs::read(&file.path).unwrap(), before);
}

#[tokio::test]
async fn looking_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let look = |name: &str| SqliteKernel::look(&dir.path().join(name), &Clock::system(), &SqliteOptions::default());
    assert!(matches!(look("nowhere"), Err(OpenError::Missing { .. })));
    assert!(!dir.path().join("nowhere").exists());
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    assert!(matches!(look("empty"), Err(OpenError::Missing { .. })));
    assert_eq!(fs::metadata(&empty).unwrap().len(), 0);
    let path = dir.path().join("store.db");
    open(&path).unwrap().insert(Kind::Code, "a", write("x")).await.unwrap();
    assert_eq!(look("store.db").unwrap().get(Kind::Code, "a").await.unwrap().unwrap().data, b"x");
}

#[test]
fn files_of_others_are_refused_and_left_alone() {
    let file = File::new();
    let connection = Connection::open(&file.path).unwrap();
    connection
        .execute_batch("CREATE TABLE migrations (num integer, at timestamptz); CREATE TABLE auth_request (id text)")
        .unwrap();
    drop(connection);
    let before = fs::read(&file.path).unwrap();
    let error = file.open().unwrap_err();
    assert!(matches!(error, OpenError::Foreign { owner: "Dex", .. }), "{error}");
    assert_eq!(fs::read(&file.path).unwrap(), before);

    let file = File::new();
    Connection::open(&file.path).unwrap().execute_batch("PRAGMA application_id = 7; CREATE TABLE t (x)").unwrap();
    assert!(matches!(file.open().unwrap_err(), OpenError::Foreign { owner: "another program", .. }));

    let file = File::new();
    fs::write(&file.path, "issuer: https://dex.example.com\n".repeat(200)).unwrap();
    assert!(matches!(file.open().unwrap_err(), OpenError::Damaged { .. }));
    assert!(fs::read_to_string(&file.path).unwrap().starts_with("issuer"));
}

#[test]
fn paths_that_cannot_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/folder/store.db");
    let error = open(&missing).unwrap_err();
    assert!(matches!(error, OpenError::NoFolder { .. }) && error.to_string().contains("no/such/folder"), "{error}");
    assert!(matches!(open(folder.path()).unwrap_err(), OpenError::IsFolder { .. }));
    let beneath_a_file = folder.path().join("file");
    fs::write(&beneath_a_file, "").unwrap();
    assert!(open(&beneath_a_file.join("store.db")).is_err());
    // Nobody, not even root, makes files there.
    let error = open(Path::new("/sys/store.db")).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
}

#[test]
fn a_name_that_looks_like_a_uri_is_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file:store.db?mode=memory");
    drop(open(&path).unwrap());
    assert!(fs::metadata(&path).unwrap().len() > 0);
}

/// Cut anywhere, the file is refused, at the latest when it is read; it is never read as something else.
#[tokio::test]
async fn a_truncated_file_is_damage() {
    let file = File::new();
    let kernel = file.open().unwrap();
    for number in 0..200 {
        kernel.insert(Kind::Client, &number.to_string(), write(&"x".repeat(500))).await.unwrap();
    }
    drop(kernel);
    let whole = fs::read(&file.path).unwrap();
    let mut damaged = 0;
    for part in [1, 50, 99, 100, 4095, 4096, 5000, 8192, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        let cut = File::new();
        fs::write(&cut.path, &whole[..part]).unwrap();
        match cut.open() {
            Err(OpenError::Damaged { .. }) => damaged += 1,
            Err(other) => panic!("{part}: {other}"),
            Ok(kernel) => match kernel.list(Kind::Client, Page::first(1000)).await {
                Err(KernelError::Corrupt { .. }) => damaged += 1,
                Ok(listing) => panic!("{part} of {} bytes: {} records", whole.len(), listing.records.len()),
                Err(other) => panic!("{part} of {} bytes: {other}", whole.len()),
            },
        }
    }
    assert_eq!(damaged, 11);
}

#[tokio::test]
async fn garbage_in_the_middle_is_corruption_and_other_records_are_read() {
    let file = File::new();
    let kernel = file.open().unwrap();
    for number in 0..200 {
        kernel.insert(Kind::Client, &format!("{number:03}"), write(&"x".repeat(3_000))).await.unwrap();
    }
    drop(kernel);
    let mut bytes = fs::read(&file.path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&file.path, bytes).unwrap();
    let kernel = file.open().unwrap();
    let (mut read, mut corrupt) = (0, 0);
    for number in 0..200 {
        match kernel.get(Kind::Client, &format!("{number:03}")).await {
            Ok(Some(record)) => {
                assert_eq!(record.data, "x".repeat(3_000).as_bytes());
                read += 1;
            }
            Err(KernelError::Corrupt { what }) => {
                assert!(!what.is_empty());
                corrupt += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(corrupt >= 1 && read >= 150, "{read} read, {corrupt} corrupt");
}

#[test]
fn a_file_that_stays_locked_is_refused_by_name() {
    let file = File::new();
    drop(file.open().unwrap());
    let connection = Connection::open(&file.path).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = file.open().unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(connection);
    drop(file.open().unwrap());
}

/// Another process writes for long: writes fail with a clear word and did not happen, reads go on.
#[tokio::test]
async fn a_lock_stops_writes_and_no_reads() {
    let file = File::new();
    let kernel = file.open().unwrap();
    let version = kernel.insert(Kind::Client, "a", write("1")).await.unwrap();
    let connection = Connection::open(&file.path).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = KernelError::Unavailable { applied: Applied::No, trouble: Trouble::Locked };
    assert_eq!(kernel.update(Kind::Client, "a", version, write("2")).await, Err(refused));
    assert_eq!(kernel.get(Kind::Client, "a").await.unwrap().unwrap().data, b"1");
    drop(connection);
    kernel.update(Kind::Client, "a", version, write("2")).await.unwrap();
}

/// The test's runtime has one thread. While the writer waits for a lock, that thread is free to read, and a caller that
/// has waited long enough is told that it cannot know.
#[tokio::test]
async fn waiting_for_the_disk_never_holds_up_the_runtime() {
    let file = File::new();
    let options = SqliteOptions {
        lock_time: Duration::from_secs(60),
        answer_time: Duration::from_millis(50),
        ..SqliteOptions::default()
    };
    let kernel = Arc::new(SqliteKernel::open(&file.path, &Clock::system(), &options).unwrap());
    let connection = Connection::open(&file.path).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = tokio::spawn({
        let kernel = Arc::clone(&kernel);
        async move { kernel.insert(Kind::Client, "a", write("1")).await }
    });
    for _ in 0..20 {
        assert_eq!(kernel.get(Kind::Client, "b").await, Ok(None));
    }
    let unknown = KernelError::Unavailable { applied: Applied::Unknown, trouble: Trouble::Timeout };
    assert_eq!(waiting.await.unwrap(), Err(unknown));
    drop(connection);
}

#[test]
fn many_processes_may_open_a_new_file_at_once() {
    let file = File::new();
    std::thread::scope(|scope| {
        let open = || SqliteKernel::open(&file.path, &Clock::system(), &SqliteOptions::default()).map(drop);
        let opening: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        for opened in opening {
            opened.join().unwrap().unwrap();
        }
    });
    let connection = Connection::open(&file.path).unwrap();
    let migrations: i64 = connection.query_row("SELECT count(*) FROM migrations", [], |row| row.get(0)).unwrap();
    assert_eq!(migrations, 1);
}

/// Two processes on one file see each other's writes, and compare-and-swap holds between them.
#[tokio::test]
async fn two_processes_share_one_truth() {
    let file = File::new();
    let (one, other) = (file.open().unwrap(), file.open().unwrap());
    let version = one.insert(Kind::Client, "a", write("1")).await.unwrap();
    assert_eq!(other.get(Kind::Client, "a").await.unwrap().unwrap().version, version);
    let newer = other.update(Kind::Client, "a", version, write("2")).await.unwrap();
    assert_eq!(one.update(Kind::Client, "a", version, write("3")).await, Err(KernelError::Conflict));
    one.delete(Kind::Client, "a", newer).await.unwrap();
    let (a, b) = (one.insert(Kind::Client, "x", write("")).await, other.insert(Kind::Client, "y", write("")).await);
    assert_ne!(a.unwrap(), b.unwrap(), "versions of two processes");
}

#[tokio::test]
async fn a_snapshot_leaves_out_no_kind_that_a_newer_version_has_written() {
    let file = File::new();
    let kernel = file.open().unwrap();
    assert!(kernel.snapshot().await.is_ok());
    let connection = Connection::open(&file.path).unwrap();
    connection.execute("INSERT INTO record (kind, id, version, data) VALUES (99, 'x', 1, x'00')", []).unwrap();
    let error = kernel.snapshot().await.unwrap_err().to_string();
    assert!(error.contains("use the newer version"), "{error}");
}
