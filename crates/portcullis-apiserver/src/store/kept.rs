//! The file that keeps the objects: SQLite, one row for each object, with a checksum.
//!
//! A commit is one transaction, durable when it returns (WAL, `synchronous = FULL`). The file belongs to one process
//! (exclusive lock) and to its owner alone, because it holds secrets and the key of service account tokens.
//!
//! What cannot be read is refused with its place and the way out; nothing is repaired by guessing.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flate2::Crc;
use portcullis_jose::SigningKey;
use portcullis_runtime::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde_json::{Map, Value};

use super::object::Object;
use super::{NotKept, StoreError};
use crate::resources::{self, Resource};

/// Marks the file as ours: `PcAs`.
const APPLICATION_ID: i32 = 0x5063_4173;
/// The layout that this program writes. Until 1 no object had an end.
const LAYOUT: i32 = 2;
/// Of a SQLite file, and where it says what it is: `fileformat2` of SQLite.
const HEADER: usize = 100;
const LAYOUT_AT: usize = 60;
const APPLICATION_ID_AT: usize = 68;
const META: &str = "meta";
const PAGE: u64 = 4_096;
/// A limit on the size of files that is so near to the size of the log is why it could not be written.
const NEAR: u64 = 64 << 20;
/// Room for the objects, for their pages' slack, and for the log.
const PAGES_PER_BYTE: u64 = 4;
const VERSION: &str = "version";
const KEY: &str = "service-account-key";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The operating system or SQLite refused.
    #[error("cannot {action} {}: {reason}", path.display())]
    Unusable {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Another process has it.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} is not a file of the dev API server", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer Portcullis wrote it.
    #[error("{} was written by a newer Portcullis (layout {found}, this one knows {LAYOUT})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i32,
    },
    /// It cannot be understood.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl KeptError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unusable { path, .. } => {
                format!("free some disk space and see who may write to the folder of {}", path.display())
            }
            Self::InUse { .. } => "stop the other server, or choose another --name".to_owned(),
            Self::Foreign { path } | Self::Newer { path, .. } => {
                format!(
                    "use the program that wrote it, or move {} away: the server then starts without objects",
                    path.display()
                )
            }
            Self::Damaged { path, .. } => format!(
                "put back a copy, or move {0} and {0}-wal away: the server then starts without objects, with a new key",
                path.display()
            ),
        })
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Kept {
    connection: Connection,
    path: PathBuf,
    /// Of the file as it was found.
    layout: i32,
}

/// What it held.
pub(crate) struct Loaded {
    /// The version of the last change.
    pub(crate) version: u64,
    pub(crate) objects: Vec<(&'static Resource, std::sync::Arc<Object>)>,
    pub(crate) key: Option<SigningKey>,
}

/// One change, as it is kept: the object, or nothing in its place.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) key: &'a str,
    pub(crate) version: u64,
    pub(crate) object: Option<&'a Object>,
}

impl Kept {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path, max_bytes: usize) -> Result<Self, KeptError> {
        let unusable = |action: &'static str| {
            move |error: io::Error| KeptError::Unusable { action, path: path.to_owned(), reason: error.to_string() }
        };
        let opened = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path);
        let file = opened.map_err(unusable("open"))?;
        let metadata = file.metadata().map_err(unusable("open"))?;
        let mut header = Vec::with_capacity(HEADER);
        (&file).take(HEADER as u64).read_to_end(&mut header).map_err(unusable("read"))?;
        look_at(&header, path)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(unusable("protect"))?;
        }
        drop(file);
        let connection = Connection::open(path).map_err(|error| refused("open", path, &error))?;
        // One that is refused stays as it is, its log included.
        let careful = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        careful.map_err(|error| refused("open", path, &error))?;
        let mut kept = Self { connection, path: path.to_owned(), layout: LAYOUT };
        kept.prepare(max_bytes).map_err(|error| refused("open", path, &error))??;
        Ok(kept)
    }

    fn prepare(&mut self, max_bytes: usize) -> rusqlite::Result<Result<(), KeptError>> {
        let path = self.path.clone();
        let connection = &mut self.connection;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "cache_size", -512)?;
        let pragma =
            |connection: &Connection, name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let (application, layout) = (pragma(connection, "application_id")?, pragma(connection, "user_version")?);
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if application != APPLICATION_ID && (application, layout, tables) != (0, 0, 0) {
            return Ok(Err(KeptError::Foreign { path }));
        }
        if layout > LAYOUT {
            return Ok(Err(KeptError::Newer { path, found: layout }));
        }
        if tables == 0 {
            let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            transaction.execute_batch(
                "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
                 CREATE TABLE objects (resource TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
                     sum INTEGER NOT NULL, bytes BLOB NOT NULL, ends INTEGER, PRIMARY KEY (resource, key));",
            )?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
            transaction.commit()?;
        } else {
            self.layout = layout;
            let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Ok(Err(KeptError::Damaged { path, reason: verdict }));
            }
        }
        // After the header says whose file it is: what is in the log alone is not seen by others.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let pages = (max_bytes as u64).saturating_mul(PAGES_PER_BYTE) / PAGE;
        connection.pragma_update(None, "max_page_count", i64::try_from(pages.max(64)).unwrap_or(i64::MAX))?;
        Ok(Ok(()))
    }

    /// Everything that is kept. From here on the file is taken over: its log is written into it at the end.
    pub(crate) fn load(&self) -> Result<Loaded, KeptError> {
        let damaged = |reason: String| KeptError::Damaged { path: self.path.clone(), reason };
        let failed = |error: rusqlite::Error| refused("read", &self.path, &error);
        // A name that was hurt would else read as a value that is not there.
        let strange = "SELECT count(*) FROM meta WHERE name NOT IN (?1, ?2)";
        if self.connection.query_row(strange, [VERSION, KEY], |row| row.get::<_, i64>(0)).map_err(failed)? > 0 {
            return Err(damaged("it holds a value of a name that was not written".to_owned()));
        }
        let version = match self.proven(VERSION)? {
            None => 1,
            Some(bytes) => {
                let bytes = <[u8; 8]>::try_from(bytes.as_slice()).map_err(|_| damaged("the version".to_owned()))?;
                u64::from_be_bytes(bytes)
            }
        };
        let key = match self.proven(KEY)? {
            None => None,
            Some(der) => Some(
                SigningKey::from_pkcs8_der(&der, String::new())
                    .map_err(|error| damaged(format!("the key of service account tokens: {error}")))?,
            ),
        };
        let mut objects = Vec::new();
        let ends = if self.layout < 2 { "NULL" } else { "ends" };
        let statement =
            self.connection.prepare(&format!("SELECT resource, key, version, sum, bytes, {ends} FROM objects"));
        let mut statement = statement.map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let text = |index: usize| row.get::<_, String>(index);
            let (name, key) = (text(0).map_err(failed)?, text(1).map_err(failed)?);
            let at: u64 = row.get::<_, i64>(2).map_err(failed)?.try_into().unwrap_or(u64::MAX);
            let sum: i64 = row.get(3).map_err(failed)?;
            let bytes: Vec<u8> = row.get(4).map_err(failed)?;
            let ends: Option<i64> = row.get(5).map_err(failed)?;
            let place = || format!("{name} {key}");
            if sum != i64::from(checksum(&name, &key, at, &bytes, ends)) || at > version {
                return Err(damaged(format!("{} is not what was written", place())));
            }
            let Some(resource) = find(&name) else {
                tracing::warn!(resource = name, "objects of a resource that is not served are kept and not shown");
                continue;
            };
            let mut members: Map<String, Value> =
                serde_json::from_slice(&bytes).map_err(|error| damaged(format!("{}: {error}", place())))?;
            members.shift_remove("kind");
            members.shift_remove("apiVersion");
            let object = Object::seal_until(resource, members, at, ends.map(Timestamp::from_unix_seconds));
            if object.key() != key {
                return Err(damaged(format!("{} is another object", place())));
            }
            objects.push((resource, object));
        }
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
        if self.layout < 2 {
            let renew = "BEGIN IMMEDIATE; ALTER TABLE objects ADD COLUMN ends INTEGER; PRAGMA user_version = 2; COMMIT";
            self.connection.execute_batch(renew).map_err(|error| refused("write", &self.path, &error))?;
        }
        Ok(Loaded { version, objects, key })
    }

    fn meta(&self, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        self.connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
    }

    /// A value of `meta` without its checksum.
    fn proven(&self, name: &str) -> Result<Option<Vec<u8>>, KeptError> {
        let Some(mut value) = self.meta(name).map_err(|error| refused("read", &self.path, &error))? else {
            return Ok(None);
        };
        let sum = value.split_off(value.len().saturating_sub(4));
        if sum != checksum(META, name, 0, &value, None).to_be_bytes() {
            let reason = format!("the {name} is not what was written");
            return Err(KeptError::Damaged { path: self.path.clone(), reason });
        }
        Ok(Some(value))
    }

    /// Keeps the key of service account tokens.
    pub(crate) fn keep_key(&self, der: &[u8]) -> Result<(), KeptError> {
        let insert = "INSERT INTO meta (name, value) VALUES (?1, ?2)";
        self.connection
            .execute(insert, params![KEY, with_sum(KEY, der)])
            .map(drop)
            .map_err(|error| refused("write", &self.path, &error))
    }

    /// Keeps changes, all or none of them; what it returned from is there after any end of the process or the machine.
    pub(crate) fn commit<'r>(
        &mut self,
        rows: impl IntoIterator<Item = Row<'r>>,
        version: u64,
    ) -> Result<(), StoreError> {
        let rows: Vec<Row<'r>> = rows.into_iter().collect();
        let outcome = self.try_commit(&rows, version).or_else(|error| {
            // The log cannot grow, but what is in it may fit into the file: then it begins anew, in the room that it has.
            if self.make_room() { self.try_commit(&rows, version) } else { Err(error) }
        });
        outcome.map_err(|error| {
            let why = self.why(&error);
            tracing::error!(path = %self.path.display(), %error, reason = %why, "changes could not be kept, and are refused");
            StoreError::NotKept(why)
        })
    }

    /// Why a commit failed. SQLite tells a full disk apart; it takes a limit on the size of files for a broken disk.
    fn why(&self, error: &rusqlite::Error) -> NotKept {
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            return NotKept::DiskFull;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        let log = fs::metadata(format!("{}-wal", self.path.display())).map_or(0, |metadata| metadata.len());
        match limit {
            Some(limit) if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) && log + NEAR > limit => {
                NotKept::FileLimit
            }
            _ => NotKept::Failed,
        }
    }

    /// Moves the log into the file; whether all of it has gone.
    fn make_room(&self) -> bool {
        let moved = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        moved.is_ok_and(|(busy, frames, moved)| busy == 0 && frames > 0 && frames == moved)
    }

    fn try_commit(&mut self, rows: &[Row<'_>], version: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut put = transaction.prepare_cached(
                "INSERT INTO objects (resource, key, version, sum, bytes, ends) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (resource, key) DO UPDATE SET version = ?3, sum = ?4, bytes = ?5, ends = ?6",
            )?;
            let mut delete = transaction.prepare_cached("DELETE FROM objects WHERE resource = ?1 AND key = ?2")?;
            for Row { resource, key, version, object } in rows {
                let (name, version) = (name_of(resource), *version);
                match object {
                    Some(Object { bytes, ends, .. }) => {
                        let ends = ends.map(Timestamp::unix_seconds);
                        let sum = i64::from(checksum(&name, key, version, bytes, ends));
                        let version = i64::try_from(version).unwrap_or(i64::MAX);
                        put.execute(params![name, key, version, sum, bytes, ends])?
                    }
                    None => delete.execute(params![name, key])?,
                };
            }
            let mut meta = transaction.prepare_cached(
                "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
            )?;
            meta.execute(params![VERSION, with_sum(VERSION, &version.to_be_bytes())])?;
        }
        transaction.commit()
    }

    /// The pages that the file may have, for tests of a full disk.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: i64) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
}

/// `configmaps`, `deployments.apps`.
fn name_of(resource: &Resource) -> String {
    if resource.group.is_empty() {
        resource.plural.to_owned()
    } else {
        format!("{}.{}", resource.plural, resource.group)
    }
}

fn find(name: &str) -> Option<&'static Resource> {
    resources::ALL.iter().find(|resource| name_of(resource) == name)
}

/// A value of `meta` as it is written: with its checksum.
fn with_sum(name: &str, value: &[u8]) -> Vec<u8> {
    [value, &checksum(META, name, 0, value, None).to_be_bytes()].concat()
}

/// Whether the file may be ours, before SQLite sees it: that might already change it.
fn look_at(header: &[u8], path: &Path) -> Result<(), KeptError> {
    if header.is_empty() {
        return Ok(());
    }
    let number = |at: usize| header.get(at..at + 4).and_then(|four| four.try_into().ok()).map(i32::from_be_bytes);
    let foreign = || KeptError::Foreign { path: path.to_owned() };
    if !header.starts_with(b"SQLite format 3\0") || number(APPLICATION_ID_AT) != Some(APPLICATION_ID) {
        return Err(foreign());
    }
    match number(LAYOUT_AT).ok_or_else(foreign)? {
        found if found > LAYOUT => Err(KeptError::Newer { path: path.to_owned(), found }),
        _ => Ok(()),
    }
}

/// Over everything in the row, so that a row that was moved or cut shows.
fn checksum(resource: &str, key: &str, version: u64, bytes: &[u8], ends: Option<i64>) -> u32 {
    let mut sum = Crc::new();
    for part in [resource.as_bytes(), b"\n", key.as_bytes(), b"\n", &version.to_be_bytes(), bytes] {
        sum.update(part);
    }
    if let Some(ends) = ends {
        sum.update(&ends.to_be_bytes());
    }
    sum.sum()
}

fn refused(action: &'static str, path: &Path, error: &rusqlite::Error) -> KeptError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => KeptError::InUse { path },
        Some(ErrorCode::NotADatabase) => KeptError::Foreign { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::TypeMismatch) => {
            KeptError::Damaged { path, reason: error.to_string() }
        }
        _ => KeptError::Unusable { action, path, reason: error.to_string() },
    }
}
