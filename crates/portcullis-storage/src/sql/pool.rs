//! Connections to a server: at most so many at once, some of them kept.
//!
//! sqlx's own pool hides why it could not connect, and knows no limit of idle connections; both are asked for here.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::Connection;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout, timeout_at},
};

use super::{Fault, MigrationError, Put, Reply, SqlOptions, Wanted, Work, fault::text};
use crate::{
    error::{KernelError, Trouble},
    kernel::Record,
    migrations::Migrations,
};

/// A connection that was idle for longer is asked whether it is alive before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const PING_TIME: Duration = Duration::from_secs(1);
/// How long a connection that is no longer needed may take to say goodbye.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// A kind of server: how to reach it, and how it says what is asked.
pub(crate) trait Dialect: Send + Sync + 'static {
    /// A connection.
    type Connection: Connection + Send + 'static;

    /// The server, for messages; without credentials.
    fn server(&self) -> &str;

    /// The steps of the schema that this program knows.
    fn migrations(&self) -> Migrations;

    /// Connects and prepares the session.
    fn connect(&self) -> impl Future<Output = sqlx::Result<Self::Connection>> + Send;

    /// The backend's name in the configuration.
    const NAME: &'static str;
    /// Begins a transaction that only reads and sees one moment. The first read fixes the moment, if nothing has before.
    const BEGIN_SNAPSHOT: &'static [&'static str];

    /// Carries out a statement that answers nothing.
    fn execute(
        connection: &mut Self::Connection,
        statement: &'static str,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Whether there are records of kinds with larger numbers than this.
    fn has_kinds_above(connection: &mut Self::Connection, code: i16)
    -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// Brings the schema up to date under a lock that other replicas wait for; returns how many migrations were applied.
    /// `now` is in seconds.
    fn migrate(
        connection: &mut Self::Connection,
        migrations: Migrations,
        now: i64,
    ) -> impl Future<Output = Result<usize, MigrationError>> + Send;

    /// The number of the last migration that was applied, 0 when the first was cut off; `None` when none was begun. Refuses what
    /// only a newer program can use, and changes nothing.
    fn schema(
        connection: &mut Self::Connection,
        migrations: Migrations,
    ) -> impl Future<Output = Result<Option<i64>, MigrationError>> + Send;

    /// Makes one statement ready. It does not wait for the server when the connection has sent it before.
    fn prepare<'a>(
        connection: &'a mut Self::Connection,
        work: &'a Work<'a>,
    ) -> impl Future<Output = sqlx::Result<()>> + Send + 'a;

    /// Carries out one statement.
    fn perform<'a>(
        connection: &'a mut Self::Connection,
        work: &'a Work<'a>,
    ) -> impl Future<Output = sqlx::Result<Reply>> + Send + 'a;

    /// Most operations that one statement carries out; 1 when the server has no statement for several.
    const TOGETHER: usize = 1;

    /// As [`Dialect::prepare`], for [`Dialect::read_together`].
    fn prepare_reads(_connection: &mut Self::Connection) -> impl Future<Output = sqlx::Result<()>> + Send {
        async { Err(not_together()) }
    }

    /// Reads up to [`Dialect::TOGETHER`] records; the answers are in their order.
    fn read_together(
        _connection: &mut Self::Connection,
        _wanted: &[Arc<Wanted>],
    ) -> impl Future<Output = sqlx::Result<Vec<Option<Record>>>> + Send {
        async { Err(not_together()) }
    }

    /// As [`Dialect::prepare`], for [`Dialect::put_together`].
    fn prepare_puts(_connection: &mut Self::Connection) -> impl Future<Output = sqlx::Result<()>> + Send {
        async { Err(not_together()) }
    }

    /// Makes and replaces up to [`Dialect::TOGETHER`] different records; each of them is, or is not, by itself. The answers are in
    /// their order.
    fn put_together(
        _connection: &mut Self::Connection,
        _puts: &[Arc<Put>],
    ) -> impl Future<Output = sqlx::Result<Vec<bool>>> + Send {
        async { Err(not_together()) }
    }

    /// What an error means.
    fn fault(error: &sqlx::Error) -> Fault;
}

/// Nobody asks for several at once where there is no such statement.
fn not_together() -> sqlx::Error {
    sqlx::Error::InvalidArgument("this server takes one operation at a time".to_owned())
}

pub(crate) struct Pool<D: Dialect> {
    dialect: D,
    slots: Semaphore,
    idle: Mutex<Vec<Idle<D::Connection>>>,
    max_idle: usize,
    max_lifetime: Option<Duration>,
    connect_time: Duration,
}

struct Idle<C> {
    connection: C,
    made: Instant,
    since: Instant,
}

/// A connection in use. Dropped, it is cut off: what it was doing is unknown. [`Lease::give_back`] keeps it.
pub(crate) struct Lease<'a, D: Dialect> {
    pub(crate) connection: D::Connection,
    /// Whether it has been used before, so that the server may have gone since.
    pub(crate) used_before: bool,
    made: Instant,
    pool: &'a Pool<D>,
    _slot: SemaphorePermit<'a>,
}

impl<D: Dialect> Pool<D> {
    pub(crate) fn new(dialect: D, options: &SqlOptions) -> Self {
        Self {
            dialect,
            slots: Semaphore::new(options.max_open.max(1)),
            idle: Mutex::new(Vec::new()),
            max_idle: options.max_idle,
            max_lifetime: options.max_lifetime,
            connect_time: options.connect_time,
        }
    }

    pub(crate) fn dialect(&self) -> &D {
        &self.dialect
    }

    /// Whether a connection could be had without waiting for another operation.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.available_permits() > 0
    }

    /// A connection, which may have to be made. Whatever fails here, nothing has been asked of the store.
    pub(crate) async fn lease(&self, deadline: Instant) -> Result<Lease<'_, D>, KernelError> {
        let slot = self.slot(deadline).await?;
        self.lease_in(slot, deadline).await
    }

    /// The right to use one of the connections, in the order in which it was asked for.
    pub(crate) async fn slot(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, KernelError> {
        match timeout_at(deadline, self.slots.acquire()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(KernelError::not_applied(Trouble::Closed)),
            Err(_) => Err(KernelError::not_applied(Trouble::Timeout)),
        }
    }

    /// A connection for whoever has the right to one.
    pub(crate) async fn lease_in<'a>(
        &'a self,
        slot: SemaphorePermit<'a>,
        deadline: Instant,
    ) -> Result<Lease<'a, D>, KernelError> {
        while let Some(idle) = self.take_idle() {
            let Idle { mut connection, made, since } = idle;
            if self.max_lifetime.is_some_and(|most| made.elapsed() >= most) {
                close(connection);
                continue;
            }
            if since.elapsed() >= TRUSTED_IDLE && !answers(&mut connection, deadline).await {
                // Whatever ended this one has ended those that have been idle for longer.
                self.idle().clear();
                break;
            }
            return Ok(Lease { connection, used_before: true, made, pool: self, _slot: slot });
        }
        let connection = self.connect(deadline).await?;
        Ok(Lease { connection, used_before: false, made: Instant::now(), pool: self, _slot: slot })
    }

    /// A connection that is not counted and not kept.
    pub(crate) async fn connect(&self, deadline: Instant) -> Result<D::Connection, KernelError> {
        let until = deadline.min(Instant::now() + self.connect_time);
        let reason = match timeout_at(until, self.dialect.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => match D::fault(&error) {
                Fault::Unfit(trouble @ Trouble::ReadOnly) => return Err(KernelError::not_applied(trouble)),
                _ => text(&error),
            },
            Err(_) => "no answer in time".to_owned(),
        };
        let message = format!("cannot connect to {}: {reason}", self.dialect.server());
        Err(KernelError::not_applied(Trouble::Other(message)))
    }

    /// The one that was used last, so that those beyond the need grow old and are let go.
    fn take_idle(&self) -> Option<Idle<D::Connection>> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle<D::Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Dialect> Lease<'_, D> {
    /// What a fault means for it, and for those that are kept: what ended this one, or became of its server, may have ended them.
    pub(crate) fn after(self, fault: &Fault) {
        match fault {
            Fault::Duplicate | Fault::Again(_) | Fault::Refused(_) => self.give_back(),
            Fault::Unfit(_) | Fault::Unsent(_) | Fault::Lost(_) => self.pool.idle().clear(),
            Fault::Corrupt(_) => {}
        }
    }

    /// Keeps the connection for the next operation, if there is room.
    pub(crate) fn give_back(self) {
        let Self { connection, made, pool, .. } = self;
        let too_old = |made: Instant| pool.max_lifetime.is_some_and(|most| made.elapsed() >= most);
        let mut idle = pool.idle();
        let mut over: Vec<_> = idle.extract_if(.., |idle| too_old(idle.made)).map(|idle| idle.connection).collect();
        if too_old(made) || idle.len() >= pool.max_idle {
            over.push(connection);
        } else {
            idle.push(Idle { connection, made, since: Instant::now() });
        }
        drop(idle);
        over.into_iter().for_each(close);
    }
}

/// Whether a connection that was idle still lives.
async fn answers<C: Connection>(connection: &mut C, deadline: Instant) -> bool {
    matches!(timeout_at(deadline.min(Instant::now() + PING_TIME), connection.ping()).await, Ok(Ok(())))
}

/// Ends a connection properly, which the caller need not wait for.
fn close<C: Connection + Send + 'static>(connection: C) {
    tokio::spawn(timeout(CLOSE_TIME, connection.close()));
}
