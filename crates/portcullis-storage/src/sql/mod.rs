//! What the kernels on PostgreSQL and on MySQL share (docs/decisions/0029).
//!
//! Every operation is one statement, which the server makes atomic, and so one round trip; only a compare-and-swap that met
//! nothing asks a second time why. Versions come from blocks that a process takes from the store. Connections are kept in a
//! pool with the limits that Dex's configuration names; operations that find all of them in use are sent together where the server
//! can carry out many with one statement. Everything has a time limit.
//!
//! A connection that fails before the whole statement has left leaves the store as it was; one that fails afterwards may
//! not, and the caller is told so. What the server undid in favour of another transaction is sent again, a few times.

mod engine;
mod fault;
mod gather;
mod open;
mod pool;
mod tls;
mod versions;
mod work;

use std::time::Duration;

pub use self::open::SqlOpenError;
pub use self::{
    engine::SqlOptions,
    tls::{SqlTls, SqlTlsMode},
};
pub(crate) use self::{
    engine::{Engine, kernel_on},
    fault::{Fault, text as fault_text},
    open::{MigrationError, look, prepare},
    pool::Dialect,
    tls::Certificates,
    work::{Put, Reply, Row, Wanted, Work, record},
};

/// How long a statement waits for a lock before the server gives up on it.
pub(crate) const LOCK_TIME: Duration = Duration::from_secs(5);
/// How long a statement may take on the server.
pub(crate) const STATEMENT_TIME: Duration = Duration::from_secs(10);
/// How long a replica waits while another one brings the schema up to date.
pub(crate) const MIGRATION_TIME: Duration = Duration::from_secs(60);
