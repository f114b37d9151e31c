//! The PostgreSQL kernel (docs/decisions/0029): replicas over a database server.
//!
//! Each statement is a transaction of its own under READ COMMITTED, whatever the database's default. The tables are
//! `portcullis_record`, `portcullis_version_block` and `portcullis_migration` in the schema that the session finds first;
//! those of other programs, Dex's in particular, are neither read nor changed.

mod fault;
mod schema;
mod statements;
mod together;

use std::sync::Arc;

use portcullis_runtime::{Clock, Secret, Timestamp};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, PgConnection, SqlSafeStr,
    postgres::{PgConnectOptions, PgSslMode},
};

#[cfg(feature = "conformance")]
use crate::migrations::Migration;
use crate::{
    kernel::{IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write},
    migrations::Migrations,
    sql::{
        Certificates, Dialect, Engine, Fault, LOCK_TIME, MigrationError, Put, Reply, STATEMENT_TIME, SqlOpenError,
        SqlOptions, SqlTls, SqlTlsMode, Wanted, Work, kernel_on, look, prepare,
    },
};

/// Which database, and as whom.
#[derive(Clone, Debug)]
pub struct PostgresServer {
    /// The server's name or address, or the folder of its socket when it begins with a slash.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user; when absent, that of the variable PGUSER, or the operating system's.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// The database; when absent, that of the variable PGDATABASE, or the one with the user's name.
    pub database: Option<String>,
    /// How the connection is secured. Sockets on this machine are not.
    pub tls: SqlTls,
}

/// A store in a PostgreSQL database.
pub struct PostgresKernel {
    engine: Engine<Postgres>,
}

impl PostgresKernel {
    /// Connects, and makes the tables or brings them up to date while other replicas wait.
    ///
    /// # Errors
    /// [`SqlOpenError`], which names the server.
    pub async fn open(server: &PostgresServer, clock: &Clock, options: &SqlOptions) -> Result<Self, SqlOpenError> {
        let engine = Engine::new(Postgres::new(server)?, options);
        prepare(&engine, clock).await?;
        Ok(Self { engine })
    }

    /// As a later version of this program opens the store, whose migrations come after ours.
    ///
    /// # Errors
    /// [`SqlOpenError`], which names the server.
    #[cfg(feature = "conformance")]
    pub async fn open_later(
        server: &PostgresServer,
        clock: &Clock,
        options: &SqlOptions,
        later: &'static [Migration],
    ) -> Result<Self, SqlOpenError> {
        let dialect = Postgres::new(server)?;
        let dialect = Postgres { migrations: dialect.migrations.and_later(later), ..dialect };
        let engine = Engine::new(dialect, options);
        prepare(&engine, clock).await?;
        Ok(Self { engine })
    }

    /// Opens a store that is there, for a tool that only reads: makes and changes nothing.
    ///
    /// # Errors
    /// [`SqlOpenError`], which names the server.
    pub async fn look(server: &PostgresServer, options: &SqlOptions) -> Result<Self, SqlOpenError> {
        let engine = Engine::new(Postgres::new(server)?, options);
        look(&engine).await?;
        Ok(Self { engine })
    }
}

kernel_on!(PostgresKernel);

/// How the engine speaks to PostgreSQL.
struct Postgres {
    options: PgConnectOptions,
    server: String,
    migrations: Migrations,
}

impl Postgres {
    fn new(server: &PostgresServer) -> Result<Self, SqlOpenError> {
        let PostgresServer { host, port, user, password, database, tls } = server;
        let local = host.starts_with('/');
        let mode = match tls.mode {
            _ if local => PgSslMode::Disable,
            SqlTlsMode::Disabled => PgSslMode::Disable,
            SqlTlsMode::Unverified => PgSslMode::Require,
            SqlTlsMode::Authority => PgSslMode::VerifyCa,
            SqlTlsMode::Full => PgSslMode::VerifyFull,
        };
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(host)
            .port(*port)
            .ssl_mode(mode)
            .application_name("portcullis")
            .extra_float_digits(None)
            .disable_statement_logging();
        if !local {
            let certificates = Certificates::read(tls)?;
            options = options.ssl_root_cert_from_pem(certificates.roots);
            if let Some((certificate, key)) = certificates.client {
                options = options.ssl_client_cert_from_pem(certificate).ssl_client_key_from_pem(key);
            }
        }
        if let Some(user) = user {
            options = options.username(user);
        }
        if let Some(password) = password {
            options = options.password(password.expose());
        }
        if let Some(database) = database {
            options = options.database(database);
        }
        let place = if local { format!("in {host}") } else { format!("at {host}:{port}") };
        let server = match database {
            Some(database) => format!("the PostgreSQL database {database:?} {place}"),
            None => format!("PostgreSQL {place}"),
        };
        Ok(Self { options, server, migrations: schema::MIGRATIONS })
    }
}

impl Dialect for Postgres {
    type Connection = PgConnection;

    const NAME: &'static str = "postgres";
    /// A reader that is slower than this holds the database's clean-up back for too long, and is cut off.
    const BEGIN_SNAPSHOT: &'static [&'static str] = &[
        "SET idle_in_transaction_session_timeout = '10min'",
        "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    ];

    fn server(&self) -> &str {
        &self.server
    }

    fn migrations(&self) -> Migrations {
        self.migrations
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        let mut connection = self.options.connect().await?;
        // Every statement finds its records by an index. A plan is kept for long, and one that was made while the table was small,
        // and read it from end to end, would be slow later. Nothing here is worth compiling.
        let session = format!(
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; SET lock_timeout = {}; \
             SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
             SELECT set_config(name, value, false) FROM (VALUES ('plan_cache_mode', 'force_generic_plan'), \
             ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('jit', 'off')) \
             AS s (name, value) WHERE current_setting(name, true) IS NOT NULL",
            LOCK_TIME.as_millis(),
            STATEMENT_TIME.as_millis(),
            STATEMENT_TIME.as_millis(),
        );
        sqlx::raw_sql(AssertSqlSafe(session)).execute(&mut connection).await?;
        Ok(connection)
    }

    async fn execute(connection: &mut PgConnection, statement: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(statement).execute(connection).await.map(|_| ())
    }

    async fn has_kinds_above(connection: &mut PgConnection, code: i16) -> sqlx::Result<bool> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM portcullis_record WHERE kind > $1)")
            .bind(code)
            .fetch_one(connection)
            .await
    }

    async fn migrate(connection: &mut PgConnection, migrations: Migrations, now: i64) -> Result<usize, MigrationError> {
        schema::migrate(connection, migrations, now).await
    }

    async fn schema(connection: &mut PgConnection, migrations: Migrations) -> Result<Option<i64>, MigrationError> {
        schema::found(connection, migrations).await
    }

    async fn prepare<'a>(connection: &'a mut PgConnection, work: &'a Work<'a>) -> sqlx::Result<()> {
        connection.prepare(statements::sql(work).into_sql_str()).await.map(|_| ())
    }

    async fn perform<'a>(connection: &'a mut PgConnection, work: &'a Work<'a>) -> sqlx::Result<Reply> {
        statements::perform(connection, work).await
    }

    const TOGETHER: usize = 64;

    async fn prepare_reads(connection: &mut PgConnection) -> sqlx::Result<()> {
        connection.prepare(together::READ.into_sql_str()).await.map(|_| ())
    }

    async fn read_together(connection: &mut PgConnection, wanted: &[Arc<Wanted>]) -> sqlx::Result<Vec<Option<Record>>> {
        together::read(connection, wanted).await
    }

    async fn prepare_puts(connection: &mut PgConnection) -> sqlx::Result<()> {
        connection.prepare(together::PUT.into_sql_str()).await.map(|_| ())
    }

    async fn put_together(connection: &mut PgConnection, puts: &[Arc<Put>]) -> sqlx::Result<Vec<bool>> {
        together::put(connection, puts).await
    }

    fn fault(error: &sqlx::Error) -> Fault {
        fault::of(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        let server = PostgresServer {
            host: "db.example.com".to_owned(),
            port: 5432,
            user: Some("portcullis".to_owned()),
            password: Some(Secret::new("hunter2")),
            database: Some("portcullis".to_owned()),
            tls: SqlTls { mode: SqlTlsMode::Unverified, ..SqlTls::default() },
        };
        let dialect = Postgres::new(&server).unwrap();
        assert_eq!(dialect.server(), "the PostgreSQL database \"portcullis\" at db.example.com:5432");
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
