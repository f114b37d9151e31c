//! The tables, and how they came to be: forward migrations, each applied once.
//!
//! MySQL commits after each change of the schema. So the migrations are written such that a part of one can be done again,
//! and run under a lock of the server's (`GET_LOCK`, one for each database) that other replicas wait for; it ends with the
//! connection. A store that a newer program has migrated is used when its
//! migrations say that this one can, and refused otherwise.

use sqlx::MySqlConnection;

use crate::{
    migrations::{Migration, Migrations},
    sql::{MIGRATION_TIME, MigrationError},
};

/// What the statements need (SKIP LOCKED is not among it; window functions, and index keys of 3072 bytes, are).
const NEEDED: &str = "MySQL 8.0 or MariaDB 10.6";
const OLDEST_MYSQL: (u32, u32) = (8, 0);
const OLDEST_MARIADB: (u32, u32) = (10, 6);

/// The migrations in order; the first has number 1. An entry is never changed once it has been released. Every statement
/// can be done again.
///
/// `bytes` tells the size of `data` without reading it. An index holds the primary key behind its own columns, so records
/// of one index key come in order of their ids.
pub(super) const MIGRATIONS: Migrations = Migrations::new(&[Migration {
    name: "records",
    needs: 1,
    statements: &[
        "CREATE TABLE IF NOT EXISTS portcullis_record (
             kind SMALLINT NOT NULL,
             id VARBINARY(1024) NOT NULL,
             version BIGINT NOT NULL,
             index1 BINARY(32),
             index2 BINARY(32),
             expires_at BIGINT,
             data MEDIUMBLOB NOT NULL,
             bytes INT AS (LENGTH(data)) STORED,
             PRIMARY KEY (kind, id),
             KEY portcullis_record_by_index1 (kind, index1),
             KEY portcullis_record_by_index2 (kind, index2),
             KEY portcullis_record_by_expiry (expires_at)
         ) ENGINE = InnoDB ROW_FORMAT = DYNAMIC",
        "CREATE TABLE IF NOT EXISTS portcullis_version_block (
             singleton TINYINT NOT NULL PRIMARY KEY, next BIGINT NOT NULL
         ) ENGINE = InnoDB",
        "INSERT INTO portcullis_version_block VALUES (1, 1) ON DUPLICATE KEY UPDATE next = next",
    ],
}]);

/// Applies the migrations that are missing; returns how many. `now` is in seconds.
pub(super) async fn migrate(
    connection: &mut MySqlConnection,
    migrations: Migrations,
    now: i64,
) -> Result<usize, MigrationError> {
    let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut *connection).await?;
    if !is_new_enough(&version) {
        return Err(MigrationError::Old { found: version, needed: NEEDED });
    }
    let locked: Option<i64> = sqlx::query_scalar("SELECT GET_LOCK(CONCAT('portcullis:', MD5(DATABASE())), ?)")
        .bind(i64::try_from(MIGRATION_TIME.as_secs()).unwrap_or(i64::MAX))
        .fetch_one(&mut *connection)
        .await?;
    if locked != Some(1) {
        let reason = "another replica has been changing the schema for too long";
        return Err(MigrationError::Sql(sqlx::Error::Configuration(reason.into())));
    }
    let applied = apply(connection, migrations, now).await?;
    sqlx::query("DO RELEASE_LOCK(CONCAT('portcullis:', MD5(DATABASE())))").execute(connection).await?;
    Ok(applied)
}

async fn apply(connection: &mut MySqlConnection, migrations: Migrations, now: i64) -> Result<usize, MigrationError> {
    // Asked first, so that a user who may not make tables can use those that are there.
    let found = found(connection, migrations).await?;
    if found.is_none() {
        let table = "CREATE TABLE portcullis_migration (
                         num BIGINT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, applied_at BIGINT NOT NULL, needs BIGINT NOT NULL
                     ) ENGINE = InnoDB";
        sqlx::query(table).execute(&mut *connection).await?;
    }
    let mut applied = 0;
    for (number, Migration { name, needs, statements }) in migrations.missing(found.unwrap_or(0)) {
        for sql in *statements {
            let step = |source| MigrationError::Step { number, name, source };
            sqlx::raw_sql(*sql).execute(&mut *connection).await.map_err(step)?;
        }
        sqlx::query("INSERT INTO portcullis_migration VALUES (?, ?, ?, ?)")
            .bind(number)
            .bind(*name)
            .bind(now)
            .bind(*needs)
            .execute(&mut *connection)
            .await?;
        applied += 1;
    }
    Ok(applied)
}

/// The number of the last migration that was applied, 0 when the first was cut off; `None` when none was begun.
pub(super) async fn found(
    connection: &mut MySqlConnection,
    migrations: Migrations,
) -> Result<Option<i64>, MigrationError> {
    if !is_there(connection).await? {
        return Ok(None);
    }
    let last = "SELECT COALESCE(MAX(num), 0), COALESCE(MAX(needs), 0) FROM portcullis_migration";
    let (found, needs): (i64, i64) = sqlx::query_as(last).fetch_one(connection).await?;
    if migrations.is_newer(found) {
        migrations.check_needs(found, needs)?;
    }
    Ok(Some(found))
}

async fn is_there(connection: &mut MySqlConnection) -> sqlx::Result<bool> {
    let tables: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = 'portcullis_migration'",
    )
    .fetch_one(connection)
    .await?;
    Ok(tables > 0)
}

/// Whether `VERSION()` names a server that has what the statements need. MariaDB says so behind its number.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= if version.to_ascii_lowercase().contains("mariadb") { OLDEST_MARIADB } else { OLDEST_MYSQL }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_write_them() {
        for (version, new_enough) in [
            ("8.0.39", true),
            ("8.4.2-commercial", true),
            ("9.1.0", true),
            ("5.7.44-log", false),
            ("10.11.14-MariaDB-0+deb12u2", true),
            ("11.4.2-MariaDB", true),
            ("10.5.29-MariaDB-log", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), new_enough, "{version}");
        }
    }
}
