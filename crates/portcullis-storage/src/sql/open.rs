//! Opening a store on a server: its schema, and the first block of versions.

use std::path::PathBuf;

use portcullis_runtime::Clock;

use super::{Dialect, Engine, fault::text};
use crate::error::{KernelError, Trouble};

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

/// A step of the schema. One that was released is never changed.
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    /// The oldest schema whose programs can use the store afterwards: so that replicas are upgraded one after the other, a
    /// migration takes nothing away that its predecessor's programs read or write.
    pub(crate) needs: i64,
    pub(crate) statements: &'static [&'static str],
}

/// Why a schema cannot be brought up to date.
#[derive(Debug)]
pub(crate) enum MigrationError {
    Newer { found: i64, known: i64 },
    Old { found: String, needed: &'static str },
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// The migrations after the one with the number `found`, with their numbers; the first has number 1.
pub(crate) fn missing(
    all: &'static [Migration],
    found: i64,
) -> impl Iterator<Item = (i64, &'static Migration)> + use<> {
    (1..).zip(all).filter(move |(number, _)| *number > found)
}

/// Whether a newer program has migrated the store. Then it may be used when its migrations need no more than is known here.
pub(crate) fn is_newer(all: &'static [Migration], found: i64) -> bool {
    found > number_of(all)
}

/// Refuses a store of a newer program whose migrations need more than is known here.
pub(crate) fn check_needs(all: &'static [Migration], found: i64, needs: i64) -> Result<(), MigrationError> {
    let known = number_of(all);
    if needs > known {
        return Err(MigrationError::Newer { found, known });
    }
    tracing::info!(
        schema = found,
        known,
        "a newer version of this program has migrated the store; this one can use it"
    );
    Ok(())
}

fn number_of(all: &[Migration]) -> i64 {
    i64::try_from(all.len()).unwrap_or(i64::MAX)
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
    let migrating = D::migrate(&mut lease.connection, clock.now().unix_seconds());
    // PostgreSQL ends a statement that takes too long; this ends the wait for MySQL, and for a server that has gone.
    let migrated = tokio::time::timeout(super::MIGRATION_TIME * 2, migrating).await;
    let server = server.to_owned();
    let applied = match migrated {
        Ok(Ok(applied)) => applied,
        Ok(Err(MigrationError::Newer { found, known })) => return Err(SqlOpenError::Newer { server, found, known }),
        Ok(Err(MigrationError::Old { found, needed })) => return Err(SqlOpenError::Old { server, found, needed }),
        Ok(Err(MigrationError::Sql(error))) => {
            return Err(match D::fault(&error).trouble() {
                Trouble::ReadOnly => SqlOpenError::ReadOnly { server },
                _ => SqlOpenError::Schema { server, reason: text(&error) },
            });
        }
        Err(_) => return Err(SqlOpenError::Schema { server, reason: "no answer in time".to_owned() }),
    };
    lease.give_back();
    if applied > 0 {
        tracing::info!(server, migrations = applied, "the store's schema was brought up to date");
    }
    engine.reserve().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    static ALL: [Migration; 2] =
        [Migration { name: "one", needs: 1, statements: &[] }, Migration { name: "two", needs: 1, statements: &[] }];

    #[test]
    fn only_what_is_missing_is_applied() {
        let names = |found| missing(&ALL, found).map(|(n, m)| (n, m.name)).collect::<Vec<_>>();
        assert_eq!(names(0), [(1, "one"), (2, "two")]);
        assert_eq!(names(1), [(2, "two")]);
        assert_eq!(names(2), []);
        assert_eq!(names(3), []);
    }

    #[test]
    fn a_newer_store_is_used_when_its_migrations_allow_it() {
        assert!(!is_newer(&ALL, 2) && is_newer(&ALL, 3));
        assert!(check_needs(&ALL, 3, 2).is_ok() && check_needs(&ALL, 3, 1).is_ok());
        assert!(matches!(check_needs(&ALL, 4, 3), Err(MigrationError::Newer { found: 4, known: 2 })));
    }
}
