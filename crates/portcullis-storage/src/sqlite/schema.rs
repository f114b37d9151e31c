//! The tables, and how they came to be: forward migrations, each applied once.
//!
//! All of them run in one transaction that holds the write lock from its first statement, so of several processes one
//! migrates and the others find it done. A file that a newer program has migrated is used when its
//! migrations say that this one can, and refused otherwise.

use portcullis_runtime::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use crate::migrations::{Migration, Migrations, Newer};

/// Marks the file as ours (`PRAGMA application_id`): "Port".
pub(super) const APPLICATION_ID: i32 = 0x506f_7274;
/// Versions that a process takes at once. Those it does not use are never used.
const VERSION_BLOCK: i64 = 1 << 20;

/// The migrations in order; the first has number 1. An entry is never changed once it has been released.
pub(super) const MIGRATIONS: Migrations = Migrations::new(&[Migration {
    name: "records",
    needs: 1,
    statements: &["CREATE TABLE record (
         row INTEGER PRIMARY KEY,
         kind INTEGER NOT NULL,
         id TEXT NOT NULL,
         version INTEGER NOT NULL,
         index1 BLOB,
         index2 BLOB,
         expires_at INTEGER,
         data BLOB NOT NULL,
         UNIQUE (kind, id)
     ) STRICT;
     CREATE INDEX record_by_index1 ON record (kind, index1, id) WHERE index1 IS NOT NULL;
     CREATE INDEX record_by_index2 ON record (kind, index2, id) WHERE index2 IS NOT NULL;
     CREATE INDEX record_by_expiry ON record (expires_at) WHERE expires_at IS NOT NULL;
     CREATE TABLE version_block (only INTEGER PRIMARY KEY CHECK (only = 1), next INTEGER NOT NULL) STRICT;
     INSERT INTO version_block VALUES (1, 1);"],
}]);

/// The number of the last migration that was applied; 0 when there is none.
pub(super) fn found(connection: &Connection) -> rusqlite::Result<i64> {
    if !connection.table_exists(None, "migrations")? {
        return Ok(0);
    }
    connection.query_row("SELECT coalesce(max(num), 0) FROM migrations", [], |row| row.get(0))
}

/// Why a schema cannot be brought up to date.
pub(super) enum MigrationError {
    Newer(Newer),
    Step { number: i64, name: &'static str, source: rusqlite::Error },
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrationError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Applies the migrations that are missing; returns how many.
pub(super) fn migrate(
    connection: &mut Connection,
    migrations: Migrations,
    now: Timestamp,
) -> Result<usize, MigrationError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
             num INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL, needs INTEGER NOT NULL
         ) STRICT",
    )?;
    let found = found(&transaction)?;
    if migrations.is_newer(found) {
        let needs = transaction.query_row("SELECT max(needs) FROM migrations", [], |row| row.get(0))?;
        return migrations.check_needs(found, needs).map(|()| 0).map_err(MigrationError::Newer);
    }
    let mut applied = 0;
    for (number, Migration { name, needs, statements }) in migrations.missing(found) {
        for sql in *statements {
            transaction.execute_batch(sql).map_err(|source| MigrationError::Step { number, name, source })?;
        }
        let row = (number, name, now.unix_seconds(), needs);
        transaction.execute("INSERT INTO migrations VALUES (?1, ?2, ?3, ?4)", row)?;
        applied += 1;
    }
    if found == 0 {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    transaction.commit()?;
    Ok(applied)
}

/// Version numbers that no other process, now or later, has.
pub(super) struct Versions {
    next: i64,
    end: i64,
}

impl Versions {
    /// No number: whoever never writes takes none.
    pub(super) const NONE: Self = Self { next: 0, end: 0 };

    /// The next number; `None` when the block is used up.
    pub(super) fn next(&mut self) -> Option<i64> {
        let next = self.next;
        (next < self.end).then(|| {
            self.next += 1;
            next
        })
    }

    /// Whether `count` numbers are left.
    pub(super) const fn has(&self, count: usize) -> bool {
        (self.end - self.next) as u64 >= count as u64
    }
}

/// Takes a block of version numbers.
pub(super) fn reserve_versions(connection: &mut Connection) -> rusqlite::Result<Versions> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "UPDATE version_block SET next = next + ?1 RETURNING next";
    let end: i64 = transaction.query_row(sql, [VERSION_BLOCK], |row| row.get(0))?;
    transaction.commit()?;
    Ok(Versions { next: end - VERSION_BLOCK, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_seconds(1_000)
    }

    #[test]
    fn migrations_are_applied_once_and_recorded() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(matches!(migrate(&mut connection, MIGRATIONS, now()), Ok(1)));
        assert!(matches!(migrate(&mut connection, MIGRATIONS, now()), Ok(0)));
        let row = connection.query_row("SELECT num, name, applied_at FROM migrations", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
        });
        assert_eq!(row.unwrap(), (1, "records".to_owned(), 1_000));
    }

    #[test]
    fn a_newer_file_is_used_when_its_migrations_allow_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(migrate(&mut connection, MIGRATIONS, now()).is_ok());
        connection.execute("INSERT INTO migrations VALUES (2, 'next', 0, 1)", []).unwrap();
        assert!(matches!(migrate(&mut connection, MIGRATIONS, now()), Ok(0)));
        connection.execute("INSERT INTO migrations VALUES (3, 'after', 0, 2)", []).unwrap();
        assert!(matches!(
            migrate(&mut connection, MIGRATIONS, now()),
            Err(MigrationError::Newer(Newer { found: 3, known: 1 }))
        ));
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_behind() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE version_block (x)").unwrap();
        assert!(matches!(
            migrate(&mut connection, MIGRATIONS, now()),
            Err(MigrationError::Step { number: 1, name: "records", .. })
        ));
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('record', 'migrations')", [], |r| r.get(0))
            .unwrap();
        assert_eq!(tables, 0);
    }

    #[test]
    fn blocks_of_versions_never_overlap() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(migrate(&mut connection, MIGRATIONS, now()).is_ok());
        let mut first = reserve_versions(&mut connection).unwrap();
        let second = reserve_versions(&mut connection).unwrap();
        assert_eq!(first.end, second.next);
        assert!(first.has(1 << 20) && !first.has((1 << 20) + 1));
        assert_eq!(first.next(), Some(1));
        first.next = first.end;
        assert_eq!(first.next(), None);
    }

    /// A scan here would make the collector or an index lookup read the whole store.
    #[test]
    fn lookups_use_their_indices() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(migrate(&mut connection, MIGRATIONS, now()).is_ok());
        for (sql, index) in [
            (crate::sqlite::reader::GET, "sqlite_autoindex_record_1"),
            (crate::sqlite::reader::MARK, "sqlite_autoindex_record_1"),
            (crate::sqlite::reader::LIST, "sqlite_autoindex_record_1"),
            (crate::sqlite::reader::KINDS_ABOVE, "sqlite_autoindex_record_1"),
            (crate::sqlite::reader::BY_INDEX1, "record_by_index1"),
            (crate::sqlite::reader::BY_INDEX2, "record_by_index2"),
            (crate::sqlite::writer::UPDATE_DATA, "sqlite_autoindex_record_1"),
            (crate::sqlite::writer::OVER, "record_by_expiry"),
        ] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let parameters = vec![rusqlite::types::Value::Null; statement.parameter_count()];
            let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3));
            let plan = rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap().join("; ");
            assert!(
                plan.contains(index) && !plan.contains("TEMP B-TREE") && !plan.contains("SCAN record"),
                "{sql}: {plan}"
            );
        }
    }
}
