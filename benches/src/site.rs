//! A provider's configuration and process, ours or Dex's: one file serves both.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use portcullis_testkit::{Database, DatabaseKind, DatabaseOptions};
use tempfile::TempDir;

use crate::process::Server;

/// Dex's own well-known hash of "password", of the lowest cost that it accepts.
const HASH: &str = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";
pub(crate) const PASSWORD: &str = "password";
pub(crate) const CLIENT: &str = "bench";
pub(crate) const SECRET: &str = "bench-secret";
pub(crate) const CALLBACK: &str = "http://localhost:1/callback";
const PATIENCE: Duration = Duration::from_secs(20);

/// A provider's program.
#[derive(Clone, Copy)]
pub(crate) enum Program<'p> {
    Ours(&'p Path),
    Dex(&'p Path),
}

/// Where a provider keeps its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// The address of user `number`.
pub(crate) fn user(number: usize) -> String {
    format!("user-{number}@example.com")
}

/// A provider that may be started, and started again.
pub(crate) struct Site {
    folder: TempDir,
    config: PathBuf,
    pub(crate) issuer: String,
    pub(crate) address: SocketAddr,
}

impl Site {
    /// With a store of its own in a file.
    pub(crate) fn new(program: Program<'_>, users: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // Dex's driver waits for the disk at less than every commit unless it is told to.
        let mode = if matches!(program, Program::Dex(_)) { "?_synchronous=FULL" } else { "" };
        let storage =
            format!("{{type: sqlite3, config: {{file: '{}{mode}'}}}}", folder.path().join("store.db").display());
        Self::make(folder, None, &storage, users)
    }

    /// On this database of a server.
    pub(crate) fn on(server: &Database, database: &str, users: usize) -> Result<Self> {
        Self::make(tempfile::tempdir()?, None, &in_database(server, database), users)
    }

    /// Another replica on the same database.
    pub(crate) fn replica(&self, server: &Database, database: &str, users: usize) -> Result<Self> {
        Self::make(tempfile::tempdir()?, Some(&self.issuer), &in_database(server, database), users)
    }

    fn make(folder: TempDir, issuer: Option<&str>, storage: &str, users: usize) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let port = address.port();
        let issuer = issuer.map_or_else(|| format!("http://localhost:{port}"), str::to_owned);
        let mut text = format!(
            "issuer: {issuer}\nstorage: {storage}\nweb:\n  http: 127.0.0.1:{port}\nlogger:\n  level: error\nenablePasswordDB: true\n\
             staticClients:\n- id: {CLIENT}\n  name: Bench\n  secret: {SECRET}\n  redirectURIs: ['{CALLBACK}']\nstaticPasswords:\n"
        );
        for number in 0..users {
            text += &format!(
                "- {{email: {}, hash: '{HASH}', username: user-{number}, userID: u-{number}}}\n",
                user(number)
            );
        }
        let config = folder.path().join("config.yaml");
        fs::write(&config, text)?;
        Ok(Self { folder, config, issuer, address })
    }

    /// The file of a store in a file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    /// Starts it; returns when it answers, and how long that took.
    pub(crate) fn start(&self, program: Program<'_>) -> Result<(Server, Duration)> {
        let (Program::Ours(path) | Program::Dex(path)) = program;
        let begin = Instant::now();
        let mut command = Command::new(path);
        command.arg("serve").arg(&self.config).current_dir(self.folder.path());
        let server = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        while begin.elapsed() < PATIENCE {
            if healthy(self.address) {
                return Ok((server, begin.elapsed()));
            }
            std::thread::park_timeout(Duration::from_micros(200));
        }
        bail!("{} was not ready after {PATIENCE:?}", path.display())
    }
}

fn in_database(server: &Database, database: &str) -> String {
    format!(
        "{{type: postgres, config: {{host: 127.0.0.1, port: {}, user: {}, password: {}, database: {database}, ssl: {{mode: disable}}}}}}",
        server.port(),
        Database::USER,
        Database::PASSWORD
    )
}

/// A PostgreSQL server of Debian's, every commit of which waits for the disk, with an empty database.
pub(crate) fn postgres(database: &str) -> Database {
    let server =
        Database::start(DatabaseKind::Postgres, DatabaseOptions { durable: true, ..DatabaseOptions::default() });
    server.create(database);
    server
}

fn healthy(address: SocketAddr) -> bool {
    use std::io::{Read, Write};
    let Ok(mut connection) = TcpStream::connect(address) else { return false };
    let mut answer = [0; 12];
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").is_ok()
        && connection.read_exact(&mut answer).is_ok()
        && answer.ends_with(b" 200")
}
