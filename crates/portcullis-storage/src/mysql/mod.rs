//! The kernel on MySQL and MariaDB (docs/decisions/0029): replicas over a database server.
//!
//! Each statement is a transaction of its own under READ COMMITTED, so that nobody waits for a gap between records. The
//! tables are `portcullis_record`, `portcullis_version_block` and `portcullis_migration`; those of other programs, Dex's in
//! particular, are neither read nor changed.

mod fault;
mod schema;
mod statements;

use std::path::PathBuf;

use portcullis_runtime::{Clock, Secret, Timestamp};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, MySqlConnection, SqlSafeStr,
    mysql::{MySqlConnectOptions, MySqlSslMode},
};

#[cfg(feature = "conformance")]
use crate::migrations::Migration;
use crate::{
    kernel::{IndexKey, KernelFuture, Kind, Listing, Page, Record, Slot, Version, Write},
    migrations::Migrations,
    sql::{
        Certificates, Dialect, Engine, Fault, LOCK_TIME, MigrationError, Reply, SqlOpenError, SqlOptions, SqlTls,
        SqlTlsMode, Work, kernel_on, look, prepare,
    },
};

/// Which database, and as whom.
#[derive(Clone, Debug)]
pub struct MySqlServer {
    /// The server's name or address, or its socket when it begins with a slash.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// How the connection is secured.
    pub tls: SqlTls,
}

/// A store in a MySQL or MariaDB database.
pub struct MySqlKernel {
    engine: Engine<MySql>,
}

impl MySqlKernel {
    /// Connects, and makes the tables or brings them up to date while other replicas wait.
    ///
    /// # Errors
    /// [`SqlOpenError`], which names the server.
    pub async fn open(server: &MySqlServer, clock: &Clock, options: &SqlOptions) -> Result<Self, SqlOpenError> {
        let engine = Engine::new(MySql::new(server)?, options);
        prepare(&engine, clock).await?;
        Ok(Self { engine })
    }

    /// As a later version of this program opens the store, whose migrations come after ours.
    ///
    /// # Errors
    /// [`SqlOpenError`], which names the server.
    #[cfg(feature = "conformance")]
    pub async fn open_later(
        server: &MySqlServer,
        clock: &Clock,
        options: &SqlOptions,
        later: &'static [Migration],
    ) -> Result<Self, SqlOpenError> {
        let dialect = MySql::new(server)?;
        let dialect = MySql { migrations: dialect.migrations.and_later(later), ..dialect };
        let engine = Engine::new(dialect, options);
        prepare(&engine, clock).await?;
        Ok(Self { engine })
    }

    /// Opens a store that is there, for a tool that only reads: makes and changes nothing.
    ///
    /// # Errors
    /// [`SqlOpenError`], which names the server.
    pub async fn look(server: &MySqlServer, options: &SqlOptions) -> Result<Self, SqlOpenError> {
        let engine = Engine::new(MySql::new(server)?, options);
        look(&engine).await?;
        Ok(Self { engine })
    }
}

kernel_on!(MySqlKernel);

/// How the engine speaks to MySQL.
struct MySql {
    options: MySqlConnectOptions,
    server: String,
    migrations: Migrations,
}

impl MySql {
    fn new(server: &MySqlServer) -> Result<Self, SqlOpenError> {
        let MySqlServer { host, port, user, password, database, tls } = server;
        let mode = match tls.mode {
            SqlTlsMode::Disabled => MySqlSslMode::Disabled,
            SqlTlsMode::Unverified => MySqlSslMode::Required,
            SqlTlsMode::Authority => MySqlSslMode::VerifyCa,
            SqlTlsMode::Full => MySqlSslMode::VerifyIdentity,
        };
        let certificates = Certificates::read(tls)?;
        // The session's settings follow in one statement of ours.
        let mut options = MySqlConnectOptions::new()
            .username(user)
            .database(database)
            .ssl_mode(mode)
            .ssl_ca_from_pem(certificates.roots)
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .disable_statement_logging();
        let local = host.starts_with('/');
        options = if local { options.socket(PathBuf::from(host)) } else { options.host(host).port(*port) };
        if let Some((certificate, key)) = certificates.client {
            options = options.ssl_client_cert_from_pem(certificate).ssl_client_key_from_pem(key);
        }
        if let Some(password) = password {
            options = options.password(password.expose());
        }
        let place = if local { format!("in {host}") } else { format!("at {host}:{port}") };
        let server = format!("the MySQL database {database:?} {place}");
        Ok(Self { options, server, migrations: schema::MIGRATIONS })
    }
}

impl Dialect for MySql {
    type Connection = MySqlConnection;

    const NAME: &'static str = "mysql";
    const BEGIN_SNAPSHOT: &'static [&'static str] = &[
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ];

    fn server(&self) -> &str {
        &self.server
    }

    fn migrations(&self) -> Migrations {
        self.migrations
    }

    async fn connect(&self) -> sqlx::Result<MySqlConnection> {
        let mut connection = self.options.connect().await?;
        // Strict: what does not fit is refused, never cut.
        let session = format!(
            "SET autocommit = 1, innodb_lock_wait_timeout = {}, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
            LOCK_TIME.as_secs()
        );
        sqlx::raw_sql(AssertSqlSafe(session)).execute(&mut connection).await?;
        sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").execute(&mut connection).await?;
        Ok(connection)
    }

    async fn execute(connection: &mut MySqlConnection, statement: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(statement).execute(connection).await.map(|_| ())
    }

    async fn has_kinds_above(connection: &mut MySqlConnection, code: i16) -> sqlx::Result<bool> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM portcullis_record WHERE kind > ?)")
            .bind(code)
            .fetch_one(connection)
            .await
    }

    async fn migrate(
        connection: &mut MySqlConnection,
        migrations: Migrations,
        now: i64,
    ) -> Result<usize, MigrationError> {
        schema::migrate(connection, migrations, now).await
    }

    async fn schema(connection: &mut MySqlConnection, migrations: Migrations) -> Result<Option<i64>, MigrationError> {
        schema::found(connection, migrations).await
    }

    async fn prepare<'a>(connection: &'a mut MySqlConnection, work: &'a Work<'a>) -> sqlx::Result<()> {
        connection.prepare(statements::sql(work).into_sql_str()).await.map(|_| ())
    }

    async fn perform<'a>(connection: &'a mut MySqlConnection, work: &'a Work<'a>) -> sqlx::Result<Reply> {
        statements::perform(connection, work).await
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
        let server = MySqlServer {
            host: "db.example.com".to_owned(),
            port: 3306,
            user: "portcullis".to_owned(),
            password: Some(Secret::new("hunter2")),
            database: "portcullis".to_owned(),
            tls: SqlTls { mode: SqlTlsMode::Unverified, ..SqlTls::default() },
        };
        let dialect = MySql::new(&server).unwrap();
        assert_eq!(dialect.server(), "the MySQL database \"portcullis\" at db.example.com:3306");
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
