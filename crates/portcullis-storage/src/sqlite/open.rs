//! Opening the file: who made it, who may read it, and whether this program knows its schema.

use std::{
    fs,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use portcullis_runtime::Clock;
use rusqlite::{Connection, OpenFlags};

use super::{
    SqliteOptions,
    error::{Class, classify},
    schema::{self, APPLICATION_ID, MigrationError},
};
use crate::{
    error::Trouble,
    migrations::{Migrations, Newer},
};

/// Log size to which the file is cut back after a burst, in bytes.
const LOG_BYTES: i64 = 16 * 1024 * 1024;
/// How every SQLite database begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The magic bytes and the page size behind them.
const HEADER: usize = MAGIC.len() + 2;
/// The smallest page, in bytes.
const SMALLEST_PAGE: u64 = 512;

/// How long one attempt to open waits for a lock, and the pause before the next.
const OPENING_LOCK_TIME: Duration = Duration::from_millis(50);
const OPENING_PAUSE: Duration = Duration::from_millis(5);

/// Why a SQLite file cannot be used. Every text names the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The configuration: the folder does not exist.
    #[error("cannot open the store {path:?}: its folder does not exist; make it, or name another file")]
    NoFolder {
        /// The file.
        path: PathBuf,
    },
    /// The configuration: the path is a folder.
    #[error("cannot open the store {path:?}: it is a folder; name a file in it")]
    IsFolder {
        /// The file.
        path: PathBuf,
    },
    /// The configuration: there is no store in the file, and it was only to be looked at.
    #[error("there is no store in {path:?}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The store: it was only to be looked at, and this version would have to change its schema first.
    #[error(
        "the schema of the store {path:?} is number {found}, and this version reads number {known}: look with the version that \
         made it, or start this one's provider on it first"
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// The number of the last migration in it.
        found: i64,
        /// The number of the last one that this version knows.
        known: i64,
    },
    /// The configuration: the file was made by another program.
    #[error("cannot open the store {path:?}: {owner} made this file; name another one, it is left as it is")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Who made it, as far as can be told.
        owner: &'static str,
    },
    /// The configuration: a newer version of this program has used the file.
    #[error(
        "cannot open the store {path:?}: its schema is number {found}, and this version knows {known} at most; use the \
         newer version, or a backup from before its first start"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The number of the last migration in it.
        found: i64,
        /// The number of the last one that this version knows.
        known: i64,
    },
    /// The machine: not allowed, or a read-only file system.
    #[error("cannot open the store {path:?}: it or its folder cannot be written ({reason})")]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The machine: no room.
    #[error("cannot open the store {path:?}: the disk is full")]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The machine: no room that this process may use.
    #[error("cannot open the store {path:?}: the file may not grow any more (`ulimit -f`)")]
    FileLimit {
        /// The file.
        path: PathBuf,
    },
    /// The machine: another process keeps the file locked.
    #[error("cannot open the store {path:?}: another process keeps it locked")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The stored data: not a database, or a broken one.
    #[error("cannot open the store {path:?}: the file is damaged or no SQLite database ({reason}); restore a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// Anything else.
    #[error("cannot open the store {path:?}: {reason}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

impl OpenError {
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        match classify(error) {
            Class::Corrupt(reason) => Self::Damaged { path, reason },
            Class::Trouble(Trouble::DiskFull) => Self::DiskFull { path },
            Class::Trouble(Trouble::FileLimit) => Self::FileLimit { path },
            Class::Trouble(Trouble::ReadOnly) => Self::ReadOnly { path, reason: error.to_string() },
            Class::Trouble(Trouble::Locked) => Self::Locked { path },
            Class::Trouble(trouble) => Self::Other { path, reason: trouble.to_string() },
        }
    }

    pub(super) fn thread(path: &Path, error: &io::Error) -> Self {
        Self::Other { path: path.to_owned(), reason: format!("cannot start a thread: {error}") }
    }

    fn io(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::NotFound => Self::NoFolder { path },
            ErrorKind::IsADirectory => Self::IsFolder { path },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, reason: error.to_string() }
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { path },
            ErrorKind::FileTooLarge => Self::FileLimit { path },
            _ => Self::Other { path, reason: error.to_string() },
        }
    }
}

/// Makes the file if need be, checks it, brings its schema up to date, and returns the connection that writes.
pub(super) fn prepare(
    path: &Path,
    clock: &Clock,
    options: &SqliteOptions,
    migrations: Migrations,
) -> Result<Connection, OpenError> {
    let file = make_private(path).map_err(|error| OpenError::io(path, &error))?;
    check_size(path, file)?;
    // While processes open a new file together, SQLite says "locked" to some at once, without waiting as it does later: so
    // the steps are begun anew, for as long as a lock is waited for.
    let attempts = (options.lock_time.as_millis() / OPENING_LOCK_TIME.as_millis()).max(1);
    let mut connection = connect(path, OPENING_LOCK_TIME.min(options.lock_time))?;
    for _ in 1..attempts {
        match bring_up_to_date(path, clock, migrations, &mut connection) {
            Err(OpenError::Locked { .. }) => std::thread::park_timeout(OPENING_PAUSE),
            outcome => return outcome.and_then(|()| settled(path, connection, options)),
        }
    }
    bring_up_to_date(path, clock, migrations, &mut connection)?;
    settled(path, connection, options)
}

/// Makes sure that the file holds a store that needs no migration. Changes nothing.
pub(super) fn look(path: &Path, options: &SqliteOptions) -> Result<(), OpenError> {
    let missing = || OpenError::Missing { path: path.to_owned() };
    let file = fs::File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing(),
        _ => OpenError::io(path, &error),
    })?;
    check_size(path, file)?;
    let mut connection = connect(path, options.lock_time)?;
    check_owner(path, &mut connection)?;
    let found = schema::found(&connection).map_err(|error| OpenError::of(path, &error))?;
    let known = schema::MIGRATIONS.number();
    match found {
        0 => Err(missing()),
        found if found < known => Err(OpenError::Older { path: path.to_owned(), found, known }),
        _ => Ok(()),
    }
}

/// What changes the file. It can be done again when it failed.
fn bring_up_to_date(
    path: &Path,
    clock: &Clock,
    migrations: Migrations,
    connection: &mut Connection,
) -> Result<(), OpenError> {
    let of = |error: rusqlite::Error| OpenError::of(path, &error);
    check_owner(path, connection)?;
    let applied = schema::migrate(connection, migrations, clock.now()).map_err(|error| match error {
        MigrationError::Newer(Newer { found, known }) => OpenError::Newer { path: path.to_owned(), found, known },
        MigrationError::Step { number, name, source } => match (&source, OpenError::of(path, &source)) {
            // Our statement and this file do not fit: the one may be as wrong as the other.
            (rusqlite::Error::SqlInputError { .. }, _) | (_, OpenError::Other { .. }) => {
                OpenError::Other { path: path.to_owned(), reason: format!("migration {number} ({name:?}): {source}") }
            }
            (_, error) => error,
        },
        MigrationError::Sqlite(error) => of(error),
    })?;
    if applied > 0 {
        tracing::info!(path = %path.display(), migrations = applied, "the store's schema was brought up to date");
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(of)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let reason = format!("its file system cannot keep a write-ahead log (journal mode {mode})");
        return Err(OpenError::Other { path: path.to_owned(), reason });
    }
    Ok(())
}

/// What holds for the connection alone.
fn settled(path: &Path, connection: Connection, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let of = |error: rusqlite::Error| OpenError::of(path, &error);
    connection.busy_timeout(options.lock_time).map_err(of)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(of)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES).map_err(of)?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn reading(path: &Path, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let connection = connect(path, options.lock_time)?;
    connection.pragma_update(None, "query_only", true).map_err(|error| OpenError::of(path, &error))?;
    Ok(connection)
}

fn connect(path: &Path, lock_time: Duration) -> Result<Connection, OpenError> {
    let of = |error: rusqlite::Error| OpenError::of(path, &error);
    // A relative name is made to begin with "./", because SQLite reads one that begins with "file:" as a URI.
    let name = if path.is_relative() { Path::new(".").join(path) } else { path.to_owned() };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(name, flags).map_err(of)?;
    connection.busy_timeout(lock_time).map_err(of)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(of)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(of)?;
    Ok(connection)
}

/// Makes the file if it is not there, and closes it to everybody but its owner. SQLite gives the log beside it the same
/// mode.
fn make_private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

        let file = options.mode(0o600).open(path)?;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = %format_args!("{:o}", mode & 0o777), "the store could be read by others; its mode is now 600");
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// Refuses what SQLite would take for an empty or a whole database and is neither: a file cut within its first bytes, or
/// within a page. With a log beside it, a crash may have left it so, and SQLite mends it.
fn check_size(path: &Path, mut file: fs::File) -> Result<(), OpenError> {
    let io = |error: io::Error| OpenError::io(path, &error);
    let length = file.metadata().map_err(io)?.len();
    let mut header = Vec::with_capacity(HEADER);
    file.by_ref().take(HEADER as u64).read_to_end(&mut header).map_err(io)?;
    let page = match header.strip_prefix(MAGIC) {
        Some([0, 1]) => 65_536,
        Some(&[high, low]) => u64::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    let has_log = ["-wal", "-journal"].into_iter().any(|suffix| {
        let mut log = path.as_os_str().to_owned();
        log.push(suffix);
        fs::metadata(log).is_ok_and(|log| log.len() > 0)
    });
    if length > 0 && !has_log && (page < SMALLEST_PAGE || length % page != 0) {
        let reason = format!("it has {length} bytes, which is no whole database");
        return Err(OpenError::Damaged { path: path.to_owned(), reason });
    }
    Ok(())
}

/// An empty database is ours to fill; any other must carry our mark. Both are read in one transaction: another process
/// may be filling it at this moment.
fn check_owner(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let of = |error: rusqlite::Error| OpenError::of(path, &error);
    let moment = connection.transaction().map_err(of)?;
    let count = "SELECT count(*), total(name = 'auth_request') > 0 FROM sqlite_schema";
    let (objects, dex): (i64, bool) = moment.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(of)?;
    let mark: i32 = moment.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(of)?;
    moment.finish().map_err(of)?;
    match (mark, objects, dex) {
        (APPLICATION_ID, ..) | (0, 0, _) => Ok(()),
        (_, _, true) => Err(OpenError::Foreign { path: path.to_owned(), owner: "Dex" }),
        (_, _, false) => Err(OpenError::Foreign { path: path.to_owned(), owner: "another program" }),
    }
}
