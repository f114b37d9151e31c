//! Wires `store`: info, check, backup, restore and copy, for the store that a config file names.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_provider::config::{Config, Storage};
use portcullis_provider::{ServeError, look_at_kernel, look_at_store, open_kernel};
use portcullis_runtime::shutdown::on_signals;
use portcullis_runtime::telemetry::{Level, LogConfig, init_logs};
use portcullis_runtime::{Clock, Rng, Shutdown, chain};
use portcullis_storage::kernel::{Description, Kind};
use portcullis_storage::{
    BackedUp, BackupError, BackupFile, FillError, FillOptions, Filled, Finding, Kernel, KernelError, KindCensus, Scope,
    SealingState, SealingSummary, Store, StoreError, Trouble, copy_store, restore_backup, write_backup,
};
use serde_json::{Map, Value, json};

use crate::cli::{OutputForm, StoreCommand, StoreFill};
use crate::{output, serve, up};

/// Between two lines that say how far it is, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The same on a terminal, where one line is written over.
const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// Findings of a check that are printed; the rest is counted.
const MAX_FINDINGS: u64 = 1000;

/// A failure: what is said, and what can be done.
struct Failure {
    text: String,
    hint: Option<String>,
}

impl Failure {
    fn new(text: impl Into<String>, hint: &str) -> Self {
        Self { text: text.into(), hint: Some(hint.to_owned()) }
    }

    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { text: chain(error), hint: None }
    }
}

/// Runs one of the commands.
pub(crate) fn run(command: StoreCommand) -> ExitCode {
    let logs = LogConfig { level: Level::WARN, ..LogConfig::default() };
    if let Err(error) = init_logs(logs, io::stderr()) {
        output::error(&error.to_string(), None);
        return ExitCode::FAILURE;
    }
    let Some(runtime) = up::runtime() else { return ExitCode::FAILURE };
    let outcome = runtime.block_on(async {
        up::survive_file_limits();
        match command {
            StoreCommand::Info { file, output } => info(&file, output).await,
            StoreCommand::Check { file, output } => check(&file, output).await,
            StoreCommand::Backup { file, backup, without_sessions } => {
                let scope = scope(without_sessions);
                if backup == Path::new("-") {
                    stream(&file, scope).await
                } else {
                    Box::pin(unless_stopped(write(&file, &backup, scope))).await
                }
            }
            StoreCommand::Restore { file, backup, fill } => restore(&file, &backup, &fill).await,
            StoreCommand::Copy { from, to, fill } => copy(&from, &to, &fill).await,
        }
    });
    outcome.unwrap_or_else(|Failure { text, hint }| {
        output::error(&text, hint.as_deref());
        ExitCode::FAILURE
    })
}

/// Ends the work at a signal, so that what it has not finished is taken away.
async fn unless_stopped(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let shutdown = Shutdown::new();
    tokio::select! {
        // Signals are listened for before anything is written.
        biased;
        () = on_signals(&shutdown) => {
            Err(Failure::new("stopped by a signal; no backup was written", "run the command again: it begins anew"))
        }
        outcome = work => outcome,
    }
}

const fn scope(without_sessions: bool) -> Scope {
    if without_sessions { Scope::WithoutSessions } else { Scope::Everything }
}

/// The configuration, whose store other processes can reach too.
fn config(file: &Path) -> Result<Config, Failure> {
    let config = serve::load(file).map_err(|(text, hint)| Failure { text, hint })?;
    match config.storage {
        Storage::Memory => Err(Failure::new(
            format!("{}: storage is in memory, which no other process sees", file.display()),
            "name a store that is kept: sqlite3, postgres, mysql, etcd or kubernetes",
        )),
        _ => Ok(config),
    }
}

/// The store that is to be filled. It is made where there is none.
async fn target(config: &Config) -> Result<Store, Failure> {
    let kernel = open_kernel(&config.storage, &Clock::system(), &Rng::system()).await;
    kernel.map(|kernel| Store::new(kernel, Clock::system(), Rng::system())).map_err(|error| unopened(&error))
}

/// What a store that is there is in. Where there is none, none is made.
async fn existing(config: &Config) -> Result<Arc<dyn Kernel>, Failure> {
    look_at_kernel(&config.storage, &Clock::system(), &Rng::system()).await.map_err(|error| unopened(&error))
}

/// The same, of a store that is whole: what is half-filled must not pass for all that there was.
async fn whole_store(config: &Config) -> Result<Arc<dyn Kernel>, Failure> {
    let kernel = existing(config).await?;
    refuse_half(&Store::new(Arc::clone(&kernel), Clock::system(), Rng::system())).await?;
    Ok(kernel)
}

async fn refuse_half(store: &Store) -> Result<(), Failure> {
    store.leases().whole().await.map_err(|error| Failure::new(chain(&error), error.hint()))
}

fn unopened(error: &ServeError) -> Failure {
    Failure { text: chain(error), hint: error.hint().map(ToOwned::to_owned) }
}

async fn info(file: &Path, form: OutputForm) -> Result<ExitCode, Failure> {
    let config = config(file)?;
    let kernel = existing(&config).await?;
    // Nothing is opened, so no key is needed.
    let store = Store::with_options(Arc::clone(&kernel), Clock::system(), Rng::system(), config.store_options());
    let census = store.census().await.map_err(|error| Failure::of(&error))?;
    let sealing = store.sealing_summary(usize::MAX).await.map_err(|error| Failure::of(&error))?;
    let description = kernel.description();
    if let Err(Failure { text, .. }) = refuse_half(&store).await {
        output::warning(&text);
    }
    Ok(output::data(&match form {
        OutputForm::Json => as_json(&description, &census, &sealing).to_string(),
        OutputForm::Text => as_text(&description, &census, &sealing),
    }))
}

type Census = BTreeMap<Kind, KindCensus>;

fn total(census: &Census) -> KindCensus {
    census.values().fold(KindCensus::default(), |sum, kind| KindCensus {
        records: sum.records + kind.records,
        bytes: sum.bytes + kind.bytes,
        expired: sum.expired + kind.expired,
    })
}

const fn state(sealing: &SealingSummary) -> &'static str {
    match sealing.state {
        SealingState::Clear => "clear",
        SealingState::Sealing => "sealed",
        SealingState::Clearing => "clearing",
    }
}

fn as_json(description: &Description, census: &Census, sealing: &SealingSummary) -> Value {
    let counts = |c: &KindCensus| json!({"records": c.records, "bytes": c.bytes, "expired": c.expired});
    let kinds: Map<String, Value> = census.iter().map(|(kind, c)| (kind.name().to_owned(), counts(c))).collect();
    let secrets: Map<String, Value> = sealing
        .fields
        .iter()
        .map(|(kind, fields)| {
            let value = json!({"clear": fields.clear, "sealed": fields.sealed, "unreadable": fields.unreadable});
            (kind.name().to_owned(), value)
        })
        .collect();
    let wrapping: Vec<Value> = sealing
        .key_encryption_keys
        .iter()
        .map(|key| json!({"id": key.id, "current": key.current, "needed": key.needed}))
        .collect();
    let data_keys: Vec<Value> = sealing
        .data_keys
        .iter()
        .map(|key| {
            json!({
                "id": key.id,
                "createdAt": key.created_at.rfc3339(),
                "sealsFrom": key.seals_from.rfc3339(),
                "seals": key.seals,
                "wrappedWith": key.wrapped_with,
            })
        })
        .collect();
    json!({
        "backend": description.backend,
        "place": description.place,
        "schema": description.schema,
        "kinds": kinds,
        "total": counts(&total(census)),
        "sealing": {
            "state": state(sealing),
            "keyEncryptionKeys": wrapping,
            "dataKeys": data_keys,
            "secrets": secrets,
        },
    })
}

fn as_text(description: &Description, census: &Census, sealing: &SealingSummary) -> String {
    let secrets = match sealing.state {
        SealingState::Clear => "in clear: no key-encryption key was ever given",
        SealingState::Sealing if sealing.fields.values().all(|fields| fields.clear == 0) => "sealed",
        SealingState::Sealing => "sealed from now on; those that are still in clear are sealed in the background",
        SealingState::Clearing => "in clear, or on the way to it: sealing was switched off",
    };
    let Description { backend, place, schema } = description;
    let mut lines = vec![
        format!("backend:  {backend}"),
        format!("place:    {place}"),
        format!("schema:   {schema}"),
        format!("secrets:  {secrets}"),
    ];
    lines.extend(sealing.key_encryption_keys.iter().map(|key| {
        let role = if key.current { "wraps new data keys" } else { "older" };
        let needed = if key.needed { "" } else { ", the store opens without it (older backups may not)" };
        format!("  key-encryption key {}: {role}{needed}", key.id)
    }));
    lines.extend(sealing.data_keys.iter().map(|key| {
        let role = if key.seals { "seals" } else { "opens" };
        let by = key.wrapped_with.join(", ");
        format!("  data key {}: {role}, made {}, wrapped with {by}", key.id, key.created_at.rfc3339())
    }));
    lines.push(String::new());
    lines.push(columns(["KIND", "RECORDS", "BYTES", "EXPIRED", "SEALED", "CLEAR"]));
    let mut all = (0, 0);
    for (kind, c) in census {
        let fields = sealing.fields.get(kind);
        let sealed: u64 = fields.map_or(0, |fields| fields.sealed.values().sum());
        let clear = fields.map_or(0, |fields| fields.clear);
        all = (all.0 + sealed, all.1 + clear);
        lines.push(row(kind.name(), *c, sealed, clear));
    }
    lines.push(row("total", total(census), all.0, all.1));
    lines.join("\n")
}

fn row(name: &str, KindCensus { records, bytes, expired }: KindCensus, sealed: u64, clear: u64) -> String {
    let [records, bytes, expired, sealed, clear] =
        [records, bytes, expired, sealed, clear].map(|number| number.to_string());
    columns([name, &records, &bytes, &expired, &sealed, &clear])
}

fn columns([kind, records, bytes, expired, sealed, clear]: [&str; 6]) -> String {
    format!("{kind:<14} {records:>10} {bytes:>14} {expired:>10} {sealed:>10} {clear:>10}")
}

async fn check(file: &Path, form: OutputForm) -> Result<ExitCode, Failure> {
    let config = config(file)?;
    let store = look_at_store(&config, Clock::system(), Rng::system()).await.map_err(|error| unopened(&error))?;
    refuse_half(&store).await?;
    let data = output::Data::default();
    let mut printed = 0;
    let each = |finding: Finding| {
        printed += 1;
        if printed > MAX_FINDINGS {
            return;
        }
        let Finding { kind, id, what } = finding;
        data.line(&match form {
            OutputForm::Json => json!({"kind": kind.name(), "id": id, "what": what}).to_string(),
            OutputForm::Text => format!("{} {id:?}: {what}", kind.name()),
        });
    };
    let checked = store.check(each).await.map_err(|error| Failure::of(&error))?;
    if form == OutputForm::Json {
        data.line(&json!({"records": checked.records, "findings": checked.findings}).to_string());
    } else {
        data.line(&format!("{} records, {} findings", checked.records, checked.findings));
    }
    let code = if checked.findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok(data.finish(code))
}

/// A backup holds its secrets as the store does.
fn warn_if_clear(secrets: u64) {
    if secrets > 0 {
        output::warning(&format!(
            "{secrets} of its secrets are in clear, as in the store: keep it as you keep the store"
        ));
    }
}

/// To standard output, for another program that seals or sends it.
async fn stream(file: &Path, scope: Scope) -> Result<ExitCode, Failure> {
    let config = config(file)?;
    let kernel = existing(&config).await?;
    let mut out = BufWriter::new(io::stdout());
    if io::stdout().is_terminal() {
        return Err(Failure::new("a backup holds secrets, and standard output is a terminal", "name a file"));
    }
    let mut progress = Progress::new("backed up");
    let written = write_backup(&*kernel, Clock::system().now(), scope, &mut out, &mut |n| progress.at(n)).await;
    let BackedUp { records, clear_secrets, left_out } = written.map_err(|error| not_backed_up(&error))?;
    out.flush().map_err(|error| Failure { text: format!("cannot write to standard output: {error}"), hint: None })?;
    progress.end(&format!("{records} records"));
    warn_if_clear(clear_secrets);
    whole("backup", &left_out)
}

/// To a file that only its owner can read, and that is there whole or not at all.
async fn write(file: &Path, backup: &Path, scope: Scope) -> Result<ExitCode, Failure> {
    let config = config(file)?;
    let kernel = existing(&config).await?;
    if backup.exists() {
        return Err(Failure::new(format!("{} exists already", backup.display()), "name another file"));
    }
    let mut name = backup.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = Partial(PathBuf::from(name));
    let failed = |error: io::Error| unwritten(backup, &error);
    let mut out = BufWriter::new(private(&partial.0).map_err(failed)?);
    let mut progress = Progress::new("backed up");
    let written = write_backup(&*kernel, Clock::system().now(), scope, &mut out, &mut |n| progress.at(n)).await;
    let BackedUp { records, clear_secrets, left_out } = written.map_err(|error| match error {
        BackupError::Write(error) => failed(error),
        error => not_backed_up(&error),
    })?;
    let out = out.into_inner().map_err(|error| failed(error.into_error()))?;
    out.sync_all().map_err(failed)?;
    // Not over a file that has come meanwhile, where the file system can tell.
    match fs::hard_link(&partial.0, backup) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(&partial.0, backup),
        linked => linked,
    }
    .map_err(failed)?;
    sync_folder(backup);
    progress.end(&format!("{records} records in {}", backup.display()));
    warn_if_clear(clear_secrets);
    whole("backup", &left_out)
}

fn not_backed_up(error: &BackupError) -> Failure {
    let hint = match error {
        BackupError::Unusable(error) => Some(error.hint().to_owned()),
        _ => None,
    };
    Failure { text: chain(error), hint }
}

/// Why a backup could not be written to its file, of which nothing is left.
fn unwritten(backup: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => Some("make its folder, or name another file"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space on that disk, or name a file on another one; nothing was left behind")
        }
        io::ErrorKind::FileTooLarge => Some(
            "raise the limit on the size of files (`ulimit -f`), or name a file elsewhere; nothing was left behind",
        ),
        _ => None,
    };
    Failure { text: format!("cannot write {}: {error}", backup.display()), hint: hint.map(ToOwned::to_owned) }
}

/// Removes what was not finished.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // It may not have come into being.
        let _ = fs::remove_file(&self.0);
    }
}

fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The file's name is on the disk too.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        // A file system that cannot do it has done what it can.
        let _ = folder.sync_all();
    }
}

async fn restore(file: &Path, backup: &Path, fill: &StoreFill) -> Result<ExitCode, Failure> {
    let config = config(file)?;
    let backup = BackupFile::open(backup).map_err(|error| Failure::of(&error))?;
    let target = target(&config).await?;
    let mut progress = Progress::new("restored");
    let filled = restore_backup(&backup, &target, options(fill), &mut |n| progress.at(n)).await;
    let filled = filled.map_err(|error| unfilled(&error, &target.kernel().description().place))?;
    progress.end(&told(&filled));
    if !fill.without_sessions && !backup.header().without_sessions {
        let taken = &backup.header().taken_at;
        output::warning(&format!(
            "sign-ins are as they were at {taken}: what was signed out since then is signed in again \
             (--without-sessions leaves them out)"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn copy(from: &Path, to: &Path, fill: &StoreFill) -> Result<ExitCode, Failure> {
    let (from, to) = (config(from)?, config(to)?);
    let source = whole_store(&from).await?;
    let target = target(&to).await?;
    let mut progress = Progress::new("copied");
    let filled = copy_store(&*source, &target, options(fill), &mut |n| progress.at(n)).await;
    let filled = filled.map_err(|error| unfilled(&error, &target.kernel().description().place))?;
    progress.end(&told(&filled));
    whole("copy", &filled.left_out)
}

/// Success, unless something is missing: that is named and is a failure, so that no script takes what is there for all.
fn whole(what: &str, left_out: &[Finding]) -> Result<ExitCode, Failure> {
    for Finding { kind, id, what } in left_out {
        output::warning(&format!("left out: {} {id:?}: {what}", kind.name()));
    }
    match left_out.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(Failure::new(
            format!(
                "the {what} was written without objects that cannot be records: {count}, named above, in force nowhere"
            ),
            "make them smaller or delete them, and run the command again",
        )),
    }
}

const fn options(fill: &StoreFill) -> FillOptions {
    FillOptions { replace: fill.replace, scope: scope(fill.without_sessions) }
}

fn told(filled: &Filled) -> String {
    let Filled { written, unchanged, replaced, deleted, .. } = filled;
    format!(
        "{written} records written, {unchanged} there already, {replaced} replaced, {deleted} deleted; all compared"
    )
}

fn unfilled(error: &FillError, place: &str) -> Failure {
    if let FillError::Target(KernelError::Unavailable { trouble: Trouble::DiskFull | Trouble::FileLimit, .. })
    | FillError::Lease(StoreError::Kernel(KernelError::Unavailable {
        trouble: Trouble::DiskFull | Trouble::FileLimit,
        ..
    })) = error
    {
        return Failure::new(
            format!("{} ({place})", chain(error)),
            "make room on the disk of the store (or raise `ulimit -f`), and run the command again: it goes on where it was cut off",
        );
    }
    let hint = match error {
        FillError::Unusable(error) => Some(error.hint()),
        FillError::NotEmpty { .. } => Some("name an empty store, or replace what it holds with --replace"),
        FillError::Differs { .. } | FillError::Incomplete { .. } => {
            Some("stop what uses the target, and run the command again with --replace")
        }
        FillError::InUse { .. } => Some(
            "stop every replica of the provider that uses this store, or let the other restore or copy come to its end, and run \
             the command again",
        ),
        FillError::Lost { .. } => Some("see that the store can be reached, and run the command again"),
        FillError::Lease(_) => Some(
            "see that the store can be reached; on Kubernetes, that deploy/rbac/provider.yaml and store-commands.yaml of this \
             version are applied",
        ),
        FillError::Same { .. } => Some("name two config files with different storage"),
        FillError::Target(_) => Some("run the command again: it goes on where it was cut off"),
        FillError::Source(_) | FillError::Backup(_) | FillError::Unfit { .. } => None,
    };
    Failure { text: chain(error), hint: hint.map(ToOwned::to_owned) }
}

/// How far it is, on standard error: one line that is written over on a terminal, a line now and then elsewhere.
struct Progress {
    verb: &'static str,
    terminal: bool,
    last: Instant,
}

impl Progress {
    fn new(verb: &'static str) -> Self {
        Self { verb, terminal: io::stderr().is_terminal(), last: Instant::now() }
    }

    fn at(&mut self, records: u64) {
        let every = if self.terminal { REDRAW_EVERY } else { LINE_EVERY };
        if self.last.elapsed() < every {
            return;
        }
        self.last = Instant::now();
        let end = if self.terminal { "\r" } else { "\n" };
        // There is nowhere left to say that it cannot be said.
        let _ = write!(io::stderr(), "{} {records} records{end}", self.verb);
    }

    fn end(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{}: {text}", self.verb);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux has a file that is always full.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_with_the_place_and_what_to_do() {
        let full = |path: &str| OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(b"x"));
        let failure = unwritten(Path::new("/backups/store"), &full("/dev/full").unwrap_err());
        assert!(failure.text.starts_with("cannot write /backups/store: No space left"), "{}", failure.text);
        assert!(failure.hint.unwrap().contains("free some space"));
        let missing = unwritten(Path::new("/no/where"), &full("/no/where").unwrap_err());
        assert!(missing.hint.unwrap().contains("make its folder"));

        let error = KernelError::Unavailable { applied: portcullis_storage::Applied::No, trouble: Trouble::DiskFull };
        for error in [FillError::Target(error.clone()), FillError::Lease(StoreError::Kernel(error))] {
            let Failure { text, hint } = unfilled(&error, "/data/store.db");
            assert!(text.contains("the disk is full") && text.ends_with("(/data/store.db)"), "{text}");
            assert!(hint.unwrap().contains("make room on the disk"));
        }
    }

    #[test]
    fn what_is_missing_is_a_failure_that_names_it() {
        assert!(whole("backup", &[]).is_ok());
        let large = Finding { kind: Kind::Connector, id: "large".to_owned(), what: "it is too large".to_owned() };
        let failure = whole("backup", &[large]).unwrap_err();
        assert!(
            failure.text.starts_with("the backup was written without objects that cannot be records: 1,"),
            "{}",
            failure.text
        );
        assert!(failure.hint.unwrap().contains("make them smaller"));
    }
}
