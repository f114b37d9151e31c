//! The tables, and how they came to be: forward migrations, each applied once.
//!
//! All of them run in one transaction that holds an advisory lock of the database from its first statement, so of several
//! replicas one migrates and the others find it done. A store that a newer program has migrated is used when its
//! migrations say that this one can, and refused otherwise.

use sqlx::{Connection, PgConnection};

use crate::{
    migrations::{Migration, Migrations},
    sql::{MIGRATION_TIME, MigrationError},
};

/// The advisory lock of all migrations: "Portcull" as a number.
const LOCK: i64 = 0x506f_7274_6375_6c6c;

/// The migrations in order; the first has number 1. An entry is never changed once it has been released.
///
/// Pages are not filled, so that an update that touches no index finds room beside its record.
pub(super) const MIGRATIONS: Migrations = Migrations::new(&[Migration {
    name: "records",
    needs: 1,
    statements: &[
        "CREATE TABLE portcullis_record (
             kind smallint NOT NULL,
             id bytea NOT NULL,
             version bigint NOT NULL,
             index1 bytea,
             index2 bytea,
             expires_at bigint,
             data bytea NOT NULL,
             PRIMARY KEY (kind, id)
         ) WITH (fillfactor = 80)",
        "CREATE INDEX portcullis_record_by_index1 ON portcullis_record (kind, index1, id) WHERE index1 IS NOT NULL",
        "CREATE INDEX portcullis_record_by_index2 ON portcullis_record (kind, index2, id) WHERE index2 IS NOT NULL",
        "CREATE INDEX portcullis_record_by_expiry ON portcullis_record (expires_at) WHERE expires_at IS NOT NULL",
        "CREATE TABLE portcullis_version_block (singleton boolean PRIMARY KEY CHECK (singleton), next bigint NOT NULL)",
        "INSERT INTO portcullis_version_block VALUES (true, 1)",
    ],
}]);

/// What the statements need (`AS MATERIALIZED`).
const NEEDED: &str = "PostgreSQL 12";
const OLDEST: i32 = 120_000;

/// Applies the migrations that are missing; returns how many. `now` is in seconds.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    migrations: Migrations,
    now: i64,
) -> Result<usize, MigrationError> {
    let (number, version): (i32, String) =
        sqlx::query_as("SELECT current_setting('server_version_num')::int, current_setting('server_version')")
            .fetch_one(&mut *connection)
            .await?;
    if number < OLDEST {
        return Err(MigrationError::Old { found: version, needed: NEEDED });
    }
    let mut transaction = connection.begin().await?;
    let patience = format!("{}ms", MIGRATION_TIME.as_millis());
    sqlx::query("SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $1, true)")
        .bind(patience)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    // Asked first, so that a user who may not make tables can use those that are there.
    let found = found(&mut transaction, migrations).await?;
    if found.is_none() {
        let table = "CREATE TABLE portcullis_migration (
                         num bigint PRIMARY KEY, name text NOT NULL, applied_at bigint NOT NULL, needs bigint NOT NULL
                     )";
        sqlx::query(table).execute(&mut *transaction).await?;
    }
    let mut applied = 0;
    for (number, Migration { name, needs, statements }) in migrations.missing(found.unwrap_or(0)) {
        for sql in *statements {
            let step = |source| MigrationError::Step { number, name, source };
            sqlx::raw_sql(*sql).execute(&mut *transaction).await.map_err(step)?;
        }
        sqlx::query("INSERT INTO portcullis_migration VALUES ($1, $2, $3, $4)")
            .bind(number)
            .bind(*name)
            .bind(now)
            .bind(*needs)
            .execute(&mut *transaction)
            .await?;
        applied += 1;
    }
    transaction.commit().await?;
    Ok(applied)
}

/// The number of the last migration that was applied, 0 when the first was cut off; `None` when none was begun.
pub(super) async fn found(
    connection: &mut PgConnection,
    migrations: Migrations,
) -> Result<Option<i64>, MigrationError> {
    if !is_there(connection).await? {
        return Ok(None);
    }
    let last = "SELECT coalesce(max(num), 0), coalesce(max(needs), 0) FROM portcullis_migration";
    let (found, needs): (i64, i64) = sqlx::query_as(last).fetch_one(connection).await?;
    if migrations.is_newer(found) {
        migrations.check_needs(found, needs)?;
    }
    Ok(Some(found))
}

async fn is_there(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT to_regclass('portcullis_migration') IS NOT NULL").fetch_one(connection).await
}
