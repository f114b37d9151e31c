//! Opening a store on a server: its schema, and the first block of versions.

use std::path::PathBuf;

use portcullis_runtime::Clock;

use super::{Dialect, Engine, fault::text};
use crate::{
    error::{KernelError, Trouble},
    migrations::Newer,
};

/// Why a store on a SQL server cannot be used. No text holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlOpenError {
    /// The configuration: a file of certificates or keys.
    #[error("cannot use {path:?}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The machine: it has no authorities of its own, and none is configured.
    #[error("the system has no certificate authorities; name the server's in ssl.caFile")]
    NoSystemRoots,
    /// The server or the way to it, or who we say we are.
    #[error("{reason}")]
    Unreachable {
        /// What happened, with the server's address.
        reason: String,
    },
    /// The server: it lacks what the store needs.
    #[error("{server} has version {found}, and the store needs {needed}")]
    Old {
        /// The server.
        server: String,
        /// Its version.
        found: String,
        /// The versions that do.
        needed: &'static str,
    },
    /// The store: a newer version of this program has used it.
    #[error(
        "the schema in {server} is number {found}, and this version knows {known} at most; use the newer version, or a \
         backup from before its first start"
    )]
    Newer {
        /// The server.
        server: String,
        /// The number of the last migration in it.
        found: i64,
        /// The number of the last one that this version knows.
        known: i64,
    },
    /// The configuration: this database holds no store, and it was only to be looked at.
    #[error("there is no store in {server}")]
    Missing {
        /// The server.
        server: String,
    },
    /// The store: it was only to be looked at, and this version would have to change its schema first.
    #[error(
        "the schema in {server} is number {found}, and this version reads number {known}: look with the version that made it, \
         or start this one's provider on it first"
    )]
    Older {
        /// The server.
        server: String,
        /// The number of the last migration in it.
        found: i64,
        /// The number of the last one that this version knows.
        known: i64,
    },
    /// The server: it refuses to make or change the tables.
    #[error("cannot bring the schema in {server} up to date: {reason}")]
    Schema {
        /// The server.
        server: String,
        /// Its words.
        reason: String,
    },
    /// The server: nothing can be written.
    #[error("{server} is read-only, and the store must be written; name the primary server")]
    ReadOnly {
        /// The server.
        server: String,
    },
}

/// Why a schema cannot be brought up to date.
#[derive(Debug)]
pub(crate) enum MigrationError {
    Newer { found: i64, known: i64 },
    Old { found: String, needed: &'static str },
    Step { number: i64, name: &'static str, source: sqlx::Error },
    Sql(sqlx::Error),
}

impl From<Newer> for MigrationError {
    fn from(Newer { found, known }: Newer) -> Self {
        Self::Newer { found, known }
    }
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// Connects, brings the schema up to date, and takes version numbers.
pub(crate) async fn prepare<D: Dialect>(engine: &Engine<D>, clock: &Clock) -> Result<(), SqlOpenError> {
    let server = engine.dialect().server();
    let failed = |error| match error {
        KernelError::Unavailable { trouble: Trouble::ReadOnly, .. } => {
            SqlOpenError::ReadOnly { server: server.to_owned() }
        }
        error => SqlOpenError::Unreachable { reason: error.to_string() },
    };
    let mut lease = engine.lease().await.map_err(failed)?;
    let migrations = engine.dialect().migrations();
    let migrating = D::migrate(&mut lease.connection, migrations, clock.now().unix_seconds());
    // PostgreSQL ends a statement that takes too long; this ends the wait for MySQL, and for a server that has gone.
    let migrated = tokio::time::timeout(super::MIGRATION_TIME * 2, migrating).await;
    let server = server.to_owned();
    let applied = match migrated {
        Ok(Ok(applied)) => applied,
        Ok(Err(error)) => return Err(refused::<D>(server, error)),
        Err(_) => return Err(SqlOpenError::Schema { server, reason: "no answer in time".to_owned() }),
    };
    lease.give_back();
    if applied > 0 {
        tracing::info!(server, migrations = applied, "the store's schema was brought up to date");
    }
    engine.reserve().await.map_err(failed)
}

fn refused<D: Dialect>(server: String, error: MigrationError) -> SqlOpenError {
    match error {
        MigrationError::Newer { found, known } => SqlOpenError::Newer { server, found, known },
        MigrationError::Old { found, needed } => SqlOpenError::Old { server, found, needed },
        MigrationError::Step { number, name, source } => match D::fault(&source).trouble() {
            Trouble::ReadOnly => SqlOpenError::ReadOnly { server },
            _ => SqlOpenError::Schema { server, reason: format!("migration {number} ({name:?}): {}", text(&source)) },
        },
        MigrationError::Sql(error) => match D::fault(&error).trouble() {
            Trouble::ReadOnly => SqlOpenError::ReadOnly { server },
            _ => SqlOpenError::Schema { server, reason: text(&error) },
        },
    }
}

/// Connects, and makes sure that there is a store in a form that this version reads. Changes nothing, so a server that only
/// reads will do.
pub(crate) async fn look<D: Dialect>(engine: &Engine<D>) -> Result<(), SqlOpenError> {
    let server = || engine.dialect().server().to_owned();
    let unreachable = |error: KernelError| SqlOpenError::Unreachable { reason: error.to_string() };
    let mut lease = engine.lease().await.map_err(unreachable)?;
    let asked =
        tokio::time::timeout(super::STATEMENT_TIME, D::schema(&mut lease.connection, engine.dialect().migrations()))
            .await;
    let found = match asked {
        Ok(Ok(found)) => found,
        Ok(Err(MigrationError::Sql(error))) => return Err(SqlOpenError::Unreachable { reason: text(&error) }),
        Ok(Err(error)) => return Err(refused::<D>(server(), error)),
        Err(_) => return Err(SqlOpenError::Unreachable { reason: format!("{} does not answer in time", server()) }),
    };
    lease.give_back();
    readable(server, found.unwrap_or(0), engine.dialect().migrations().number())
}

/// Whether what the last migration was can be read without another one.
fn readable(server: impl FnOnce() -> String, found: i64, known: i64) -> Result<(), SqlOpenError> {
    match found {
        ..=0 => Err(SqlOpenError::Missing { server: server() }),
        number if number < known => Err(SqlOpenError::Older { server: server(), found, known }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_needs_a_migration_is_not_looked_at() {
        let look = |found| readable(|| "x".to_owned(), found, 2);
        assert!(matches!(look(0), Err(SqlOpenError::Missing { .. })));
        assert!(matches!(look(1), Err(SqlOpenError::Older { found: 1, known: 2, .. })));
        assert_eq!((look(2), look(3)), (Ok(()), Ok(())));
    }
}
