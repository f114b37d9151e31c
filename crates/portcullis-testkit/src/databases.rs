//! Real database servers on loopback: PostgreSQL and MariaDB from Debian's packages, each with a data folder of its own.
//!
//! Neither wants to run as root: as root, they run as `postgres` (else `nobody`) and `mysql` (else `nobody`). They stop
//! when they are dropped, so they must not be put into a static, which is never dropped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{ChildGuard, Leaf, TestCa, free_port, temp_dir};

/// How long a server may take to become ready, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(50);
/// Attempts, when the port is taken under our feet.
const ATTEMPTS: usize = 3;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    MariaDb,
}

/// How a server is started.
#[derive(Clone, Copy, Default)]
pub struct DatabaseOptions<'a> {
    /// Whether a commit waits for the disk. Off, tests are faster.
    pub durable: bool,
    /// Certificates of this authority for the server, which then asks every client over TCP for TLS.
    pub tls: Option<&'a TestCa>,
    /// The server's certificate, when it is not the authority's usual one for localhost.
    pub certificate: Option<&'a Leaf>,
}

/// A running server. Its only user is [`Database::USER`], who may do anything.
pub struct Database {
    // Dropped in this order: the server first, its data last.
    child: ChildGuard,
    kind: DatabaseKind,
    port: u16,
    arguments: Vec<String>,
    account: Option<Account>,
    programs: PathBuf,
    folder: TempDir,
}

/// Whom the server runs as, when we are root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Database {
    /// The user's name.
    pub const USER: &'static str = "portcullis";
    /// The user's password over TCP.
    pub const PASSWORD: &'static str = "test-hunter2";

    /// Starts a server. Panics, with the last lines of the log, when it does not become ready.
    #[must_use]
    pub fn start(kind: DatabaseKind, options: DatabaseOptions<'_>) -> Self {
        let mut reasons = Vec::new();
        for _ in 0..ATTEMPTS {
            match Self::attempt(kind, options) {
                Ok(running) => return running,
                Err(reason) if reason.to_lowercase().contains("in use") => reasons.push(reason),
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("{}", reasons.join("\n"))
    }

    fn attempt(kind: DatabaseKind, options: DatabaseOptions<'_>) -> Result<Self, String> {
        let programs = programs(kind)?;
        let account = account(kind)?;
        let folder = temp_dir();
        give(folder.path(), account);
        let port = free_port();
        let made = match kind {
            DatabaseKind::Postgres => init_postgres(&programs, folder.path(), account),
            DatabaseKind::MariaDb => init_mariadb(&programs, folder.path(), account),
        };
        made?;
        let mut arguments = match kind {
            DatabaseKind::Postgres => postgres_arguments(folder.path(), port, options.durable),
            DatabaseKind::MariaDb => mariadb_arguments(folder.path(), port, options.durable),
        };
        if let Some(ca) = options.tls {
            let leaf = options.certificate.cloned().unwrap_or_else(|| ca.server());
            arguments.extend(tls_arguments(kind, folder.path(), ca, &leaf, account));
        }
        let child = spawn(kind, &programs, folder.path(), &arguments, account);
        let mut server = Self { child, kind, port, arguments, account, programs, folder };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The process that started all others of the server.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The folder of its socket (PostgreSQL) or its socket (MariaDB).
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        match self.kind {
            DatabaseKind::Postgres => self.folder.path().to_owned(),
            DatabaseKind::MariaDb => self.folder.path().join("socket"),
        }
    }

    /// Kills it without a warning (SIGKILL), as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Starts it again after it was killed.
    pub fn restart(&mut self) {
        self.child = spawn(self.kind, &self.programs, self.folder.path(), &self.arguments, self.account);
        self.wait_until_ready().unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Makes an empty database.
    pub fn create(&self, name: &str) {
        let _ = self.ask("", &format!("CREATE DATABASE {name}"));
    }

    /// What the server's own client program says to a statement: rows as lines, columns parted by tabs. Panics when it
    /// fails.
    #[must_use]
    pub fn ask(&self, database: &str, sql: &str) -> String {
        let output = self.client(database, sql).output().expect("the server's client program");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The client program with a statement, over the socket.
    fn client(&self, database: &str, sql: &str) -> Command {
        match self.kind {
            DatabaseKind::Postgres => {
                let mut command = Command::new(self.programs.join("psql"));
                let database = if database.is_empty() { "postgres" } else { database };
                command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-U", Self::USER, "-d", database, "-c", sql]);
                command.arg("-h").arg(self.socket()).arg("-p").arg(self.port.to_string());
                command.env("PGPASSWORD", Self::PASSWORD);
                command
            }
            DatabaseKind::MariaDb => {
                let mut command = Command::new(self.programs.join("mariadb"));
                command.args(["--no-defaults", "-N", "-B", "-u", Self::USER, "-e", sql]);
                command.arg(format!("--password={}", Self::PASSWORD));
                command.arg(format!("--socket={}", self.socket().display()));
                if !database.is_empty() {
                    command.arg(database);
                }
                command
            }
        }
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < deadline {
            if let Some(status) = self.child.ended() {
                return Err(format!("{:?} ended with {status}\n{}", self.kind, self.child.tail()));
            }
            match self.client("", "SELECT 1").output() {
                Ok(output) if output.status.success() => return Ok(()),
                Ok(output) => last = String::from_utf8_lossy(&output.stderr).into_owned(),
                Err(error) => last = error.to_string(),
            }
            pause();
        }
        Err(format!("{:?} did not become ready: {last}\n{}", self.kind, self.child.tail()))
    }
}

impl Drop for Database {
    /// At once, but so that it takes its helpers with it: SIGQUIT is PostgreSQL's immediate stop, SIGTERM MariaDB's.
    fn drop(&mut self) {
        let signal = match self.kind {
            DatabaseKind::Postgres => "-QUIT",
            DatabaseKind::MariaDb => "-TERM",
        };
        let asked = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        let deadline = Instant::now() + PATIENCE;
        while asked.is_ok() && self.child.ended().is_none() && Instant::now() < deadline {
            pause();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "another process is waited for, and there is no event")]
fn pause() {
    std::thread::sleep(INTERVAL);
}

/// Where the server's programs are: Debian keeps PostgreSQL's beside the path, by version.
fn programs(kind: DatabaseKind) -> Result<PathBuf, String> {
    let (program, package) = match kind {
        DatabaseKind::Postgres => ("initdb", "postgresql"),
        DatabaseKind::MariaDb => ("mariadb-install-db", "mariadb-server"),
    };
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(PathBuf::from));
    folders.into_iter().find(|folder| folder.join(program).is_file()).ok_or_else(|| {
        format!("{program} is not there; `cargo xtask test` installs the Debian package {package} when it runs as root")
    })
}

/// The account of the server when we are root, and none when we are not.
fn account(kind: DatabaseKind) -> Result<Option<Account>, String> {
    let ours = fs::metadata("/proc/self").map_err(|error| format!("/proc/self: {error}"))?;
    if std::os::unix::fs::MetadataExt::uid(&ours) != 0 {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let wanted = match kind {
        DatabaseKind::Postgres => ["postgres", "nobody"],
        DatabaseKind::MariaDb => ["mysql", "nobody"],
    };
    let found = wanted.iter().find_map(|name| find_account(&passwd, name));
    found.map(Some).ok_or_else(|| {
        format!("we are root, {kind:?} refuses to run as root, and there is no account {} here", wanted.join(" or "))
    })
}

fn find_account(passwd: &str, name: &str) -> Option<Account> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    Some(Account { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

/// The program, run as the server's account.
fn as_account(program: &Path, account: Option<Account>) -> Command {
    let Some(Account { uid, gid }) = account else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]).arg(program);
    command
}

fn give(path: &Path, account: Option<Account>) {
    if let Some(Account { uid, gid }) = account {
        chown(path, Some(uid), Some(gid)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn succeeded(what: &str, output: std::io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|error| format!("cannot start {what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Err(format!("{what} failed with {}:\n{}", output.status, words.concat()))
}

fn init_postgres(programs: &Path, folder: &Path, account: Option<Account>) -> Result<(), String> {
    let password = private(folder, "password", Database::PASSWORD, account);
    let mut command = as_account(&programs.join("initdb"), account);
    command.args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "-U", Database::USER]);
    command.arg(format!("--pwfile={}", password.display())).arg("-D").arg(folder.join("data")).current_dir(folder);
    succeeded("initdb", command.output())
}

fn postgres_arguments(folder: &Path, port: u16, durable: bool) -> Vec<String> {
    let mut arguments = vec![
        format!("-D{}", folder.join("data").display()),
        format!("-p{port}"),
        "-h127.0.0.1".to_owned(),
        format!("-k{}", folder.display()),
        "-cmax_connections=200".to_owned(),
        "-cshared_buffers=32MB".to_owned(),
    ];
    if !durable {
        arguments.extend(["-cfsync=off", "-csynchronous_commit=off", "-cfull_page_writes=off"].map(str::to_owned));
    }
    arguments
}

fn init_mariadb(programs: &Path, folder: &Path, account: Option<Account>) -> Result<(), String> {
    let mut command = as_account(&programs.join("mariadb-install-db"), account);
    command.args([
        "--no-defaults",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
    ]);
    command.arg(format!("--datadir={}", folder.join("data").display())).current_dir(folder);
    succeeded("mariadb-install-db", command.output())?;
    let account_sql = format!(
        "CREATE USER '{0}'@'%' IDENTIFIED BY '{1}'; GRANT ALL ON *.* TO '{0}'@'%' WITH GRANT OPTION; \
         CREATE USER '{0}'@'localhost' IDENTIFIED BY '{1}'; GRANT ALL ON *.* TO '{0}'@'localhost' WITH GRANT OPTION;\n",
        Database::USER,
        Database::PASSWORD,
    );
    let mut command = as_account(&server_program(DatabaseKind::MariaDb, programs), account);
    command.args(["--no-defaults", "--bootstrap", "--skip-networking"]);
    command.arg(format!("--datadir={}", folder.join("data").display())).current_dir(folder);
    // What is bootstrapped knows no accounts before it is told to.
    let script = format!("FLUSH PRIVILEGES;\n{account_sql}").replace("; ", ";\n");
    let input = private(folder, "bootstrap.sql", &script, account);
    command.stdin(fs::File::open(input).map_err(|error| error.to_string())?);
    succeeded("mariadbd --bootstrap", command.output())
}

fn mariadb_arguments(folder: &Path, port: u16, durable: bool) -> Vec<String> {
    let flush = if durable { 1 } else { 0 };
    [
        "--no-defaults".to_owned(),
        format!("--datadir={}", folder.join("data").display()),
        format!("--port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--socket={}", folder.join("socket").display()),
        format!("--pid-file={}", folder.join("pid").display()),
        format!("--innodb-flush-log-at-trx-commit={flush}"),
        "--innodb-buffer-pool-size=64M".to_owned(),
        "--max-connections=200".to_owned(),
        "--skip-name-resolve".to_owned(),
    ]
    .to_vec()
}

fn tls_arguments(kind: DatabaseKind, folder: &Path, ca: &TestCa, leaf: &Leaf, account: Option<Account>) -> Vec<String> {
    let file = |name: &str, content: &str| private(folder, name, content, account).display().to_string();
    let (authority, certificate) = (file("ca.pem", ca.pem()), file("server.pem", &leaf.certificate_pem));
    let key = file("server.key", &leaf.key_pem);
    match kind {
        DatabaseKind::Postgres => {
            let rules = "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
            let rules = file("pg_hba.conf", rules);
            vec![
                "-cssl=on".to_owned(),
                format!("-cssl_ca_file={authority}"),
                format!("-cssl_cert_file={certificate}"),
                format!("-cssl_key_file={key}"),
                format!("-chba_file={rules}"),
            ]
        }
        DatabaseKind::MariaDb => vec![
            format!("--ssl-ca={authority}"),
            format!("--ssl-cert={certificate}"),
            format!("--ssl-key={key}"),
            "--require-secure-transport=ON".to_owned(),
        ],
    }
}

fn server_program(kind: DatabaseKind, programs: &Path) -> PathBuf {
    match kind {
        DatabaseKind::Postgres => programs.join("postgres"),
        DatabaseKind::MariaDb => {
            let beside = programs.join("mariadbd");
            if beside.is_file() { beside } else { PathBuf::from("/usr/sbin/mariadbd") }
        }
    }
}

fn spawn(
    kind: DatabaseKind,
    programs: &Path,
    folder: &Path,
    arguments: &[String],
    account: Option<Account>,
) -> ChildGuard {
    let mut command = as_account(&server_program(kind, programs), account);
    command.args(arguments).current_dir(folder).env_remove("LANG").env("LC_ALL", "C");
    ChildGuard::spawn(&format!("{kind:?}").to_lowercase(), folder, &mut command)
}

/// A file that only the server's account may read.
fn private(folder: &Path, name: &str, content: &str, account: Option<Account>) -> PathBuf {
    let path = folder.join(name);
    let written =
        fs::write(&path, content).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    give(&path, account);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\npostgres2:x:1:1::/:\npostgres:x:101:104:,,,:/var/lib:/bin/bash\n";
        assert_eq!(find_account(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(find_account(passwd, "nobody"), None);
        assert_eq!(find_account("postgres:x:abc:1", "postgres"), None);
    }
}
