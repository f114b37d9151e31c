//! The state folder of `up`: one folder for each name, locked by the process that runs it.
//!
//! ```text
//! <root>/trust/<sha256 of issuer>.pem      what the sign-in plugin trusts, by issuer
//! <root>/<name>/state.json                 version, ports, what to undo
//! <root>/<name>/lock                       held while `up` runs
//! <root>/<name>/up.log                     what provider and API server of the last `up` said
//! <root>/<name>/{ca,provider,apiserver,bin,cache}/  and kubeconfig
//! ```
//!
//! Every file is replaced as a whole, so that a process that is killed leaves the old one or the new one. Private files
//! are 0600, folders 0700. Nothing here follows a name out of the folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::process::{self, Recorded};

/// The layout that this program writes; a higher one in `state.json` comes from a newer Portcullis. Layout 1 had room for
/// one other kubeconfig (`kubeconfig`, `previous_context`); it is read and written back as layout 2.
const VERSION: u32 = 2;

/// The longest name: it becomes part of a context, a node and a host label.
const MAX_NAME: usize = 40;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The name is not a DNS label.
    #[error(
        "the name {0:?} is not usable: use 1 to {MAX_NAME} of a-z, 0-9 and '-', with a letter or digit at both ends"
    )]
    Name(String),
    /// A newer Portcullis wrote the folder.
    #[error("{path} was written by a newer Portcullis (layout {found}, this one knows {VERSION})")]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// The layout that it names.
        found: u64,
    },
    /// `state.json` cannot be understood.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process runs this name.
    #[error("{name:?} is already running{}", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Running {
        /// The name.
        name: String,
        /// The process that runs it, where the folder names it.
        pid: Option<u32>,
    },
    /// A folder that would hold keys is a link or somebody else's.
    #[error("{path} is a link or belongs to another user")]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the folder is not what this program makes: a link, no regular file, or somebody else's.
    #[error("{path} is {found}")]
    Strange {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl StateError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Name(_) => Some("choose another with --name".to_owned()),
            Self::Newer { .. } => Some("use that Portcullis, or another folder with --state".to_owned()),
            Self::Damaged { path, .. } => Some(format!(
                "remove {} and run `portcullis up` again: keys and certificates beside it are kept",
                path.display()
            )),
            Self::Foreign { .. } => {
                Some("run as the user whose folder it is, or choose a folder of your own with --state".to_owned())
            }
            Self::Strange { path, .. } => {
                Some(format!("look at who put it there, then remove {} and try again: it is made anew", path.display()))
            }
            Self::Running { name, .. } => Some(format!(
                "stop it with Ctrl-C in its terminal or `portcullis down --name {name}`, or choose another --name"
            )),
            Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                Some("choose a folder that you may write to with --state".to_owned())
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
                Some("name a folder with --state".to_owned())
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some disk space, or choose another folder with --state".to_owned())
            }
            Self::Io { .. } => None,
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

/// What `up` leaves behind for the next `up` and for `down`. What is to be undone is written here before it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// Layout of the folder.
    pub version: u32,
    /// The process that runs this name, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When that process was started, in clock ticks since boot: a number is given to another process sooner or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_started: Option<u64>,
    /// Whether that process takes changes over the folder's socket.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_changes: bool,
    /// The sign-in plugin that waits for somebody: it holds a port, and outlives an `up` that is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Recorded>,
    /// The issuer that was served last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The API server's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Users that `up` gave the context of its own kubeconfig: any other one is the user's choice. Two only while it is
    /// being changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context_users: Vec<String>,
    /// Kubeconfigs outside the folder that got our entries (`--kubeconfig`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubeconfigs: Vec<OtherKubeconfig>,
    /// The file that `--trust` put into the system's store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_trust: Option<PathBuf>,
}

/// A kubeconfig outside the folder that got our entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherKubeconfig {
    /// The file, absolute.
    pub path: PathBuf,
    /// Its current-context before `--use` changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_context: Option<String>,
    /// Whether the file was not there before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made: bool,
}

impl StateFile {
    /// Notes this process as the one that runs the name.
    pub fn claim(&mut self) {
        self.pid = Some(std::process::id());
        self.pid_started = process::started(std::process::id());
        self.takes_changes = false;
    }

    /// Nobody runs the name any more.
    pub fn release(&mut self) {
        (self.pid, self.pid_started, self.takes_changes) = (None, None, false);
    }

    /// The process that runs the name, where the file names one that can be told from others.
    #[must_use]
    pub fn process(&self) -> Option<Recorded> {
        Some(Recorded { pid: self.pid?, started: self.pid_started? })
    }

    /// What is remembered of a kubeconfig outside the folder.
    #[must_use]
    pub fn kubeconfig(&self, path: &Path) -> Option<&OtherKubeconfig> {
        self.kubeconfigs.iter().find(|other| other.path == path)
    }

    /// Notes that a kubeconfig outside the folder is about to get our entries. What was there before us stays as it was
    /// noted first; a current context that came between our runs takes the place of an older one.
    pub fn note_kubeconfig(&mut self, path: &Path, previous_context: Option<String>, made: bool) {
        match self.kubeconfigs.iter_mut().find(|other| other.path == path) {
            Some(other) => other.previous_context = previous_context.or(other.previous_context.take()),
            None => self.kubeconfigs.push(OtherKubeconfig { path: path.to_owned(), previous_context, made }),
        }
    }
}

/// One name's folder.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
    name: String,
}

/// Held while a process runs a name; released by the system when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl StateDir {
    /// Names the folder without touching the disk.
    ///
    /// # Errors
    /// [`StateError::Name`] when the name is no DNS label.
    pub fn new(root: &Path, name: &str) -> Result<Self, StateError> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edge = |c: Option<char>| c.is_some_and(|c| c != '-');
        // `trust` is the folder that all names share.
        let usable = name.len() <= MAX_NAME
            && name.chars().all(inner)
            && edge(name.chars().next())
            && edge(name.chars().last())
            && name != "trust";
        if !usable {
            return Err(StateError::Name(name.to_owned()));
        }
        Ok(Self { root: root.to_owned(), name: name.to_owned() })
    }

    /// Makes the folder, takes its lock and reads what the last `up` left. A folder of a killed `up` is taken over.
    ///
    /// # Errors
    /// Already running, from a newer version, damaged, or not writable.
    pub fn open(&self) -> Result<(Lock, StateFile), StateError> {
        let dir = self.dir();
        make_private_dir(&dir)?;
        let lock = self.lock()?.ok_or_else(|| StateError::Running {
            name: self.name.clone(),
            pid: self.read().ok().and_then(|s| s.pid),
        })?;
        let state = self.read()?;
        for sub in ["ca", "provider", "apiserver", "bin", "cache"] {
            make_private_dir(&dir.join(sub))?;
        }
        make_private_dir(&self.trust_dir())?;
        Ok((lock, state))
    }

    /// Takes the lock; `None` when another process holds it.
    ///
    /// # Errors
    /// The folder or the lock file is a link or somebody else's, or the file cannot be made.
    pub fn lock(&self) -> Result<Option<Lock>, StateError> {
        check_private_dir(&self.dir())?;
        let path = self.path("lock");
        let file = open_own(&path, "open")?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(StateError::Io { action: "lock", path, source }),
        }
    }

    /// Makes the log file, or empties the one that is there.
    ///
    /// # Errors
    /// It is a link or somebody else's, or cannot be made.
    pub fn log_file(&self) -> Result<File, StateError> {
        let path = self.path("up.log");
        let file = open_own(&path, "write")?;
        file.set_len(0).map_err(io_error("write", &path))?;
        Ok(file)
    }

    /// Reads `state.json`; an absent one is an empty one.
    ///
    /// # Errors
    /// Damaged, newer, or not readable.
    pub fn read(&self) -> Result<StateFile, StateError> {
        let path = self.dir().join("state.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(StateFile { version: VERSION, ..StateFile::default() });
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let damaged = |reason: String| StateError::Damaged { path: path.clone(), reason };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let version = value
            .get("version")
            .and_then(serde_json::Value::as_u64)
            .ok_or_else(|| damaged("it names no version".to_owned()))?;
        if version > u64::from(VERSION) {
            return Err(StateError::Newer { path, found: version });
        }
        serde_json::from_value(upgraded(value, version)).map_err(|e| damaged(e.to_string()))
    }

    /// Replaces `state.json`.
    ///
    /// # Errors
    /// Not writable, or the disk is full.
    pub fn write(&self, state: &StateFile) -> Result<(), StateError> {
        let path = self.dir().join("state.json");
        let mut text = serde_json::to_vec_pretty(&StateFile { version: VERSION, ..state.clone() })
            .map_err(|e| StateError::Damaged { path: path.clone(), reason: e.to_string() })?;
        text.push(b'\n');
        write_private(&path, &text)
    }

    /// `<root>/<name>`.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// A path below the folder.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir().join(relative)
    }

    /// The folder with the authorities that the sign-in plugin trusts, shared by all names.
    #[must_use]
    pub fn trust_dir(&self) -> PathBuf {
        self.root.join("trust")
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of all names.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// The content of `state.json` in today's layout.
fn upgraded(mut value: serde_json::Value, version: u64) -> serde_json::Value {
    if version < 2
        && let Some(members) = value.as_object_mut()
        && let Some(path) = members.remove("kubeconfig").filter(|path| !path.is_null())
    {
        let previous = members.remove("previous_context").unwrap_or_default();
        members.insert(
            "kubeconfigs".to_owned(),
            serde_json::json!([{"path": path, "previous_context": previous, "made": false}]),
        );
    }
    value
}

/// Replaces a file as a whole, readable by its owner alone.
///
/// # Errors
/// Not writable, or the disk is full; the old file is untouched then.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), StateError> {
    replace(path, content, 0o600)
}

/// Replaces a file as a whole, readable by all: certificates, never keys.
///
/// # Errors
/// As [`write_private`].
pub fn write_public(path: &Path, content: &[u8]) -> Result<(), StateError> {
    replace(path, content, 0o644)
}

/// As [`write_private`], for a file that may be another user's (root may change it): it stays theirs.
///
/// # Errors
/// As [`write_private`].
pub fn rewrite(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let owner = fs::metadata(path).ok().map(|found| (found.uid(), found.gid()));
    replace_for(path, content, 0o600, owner)
}

fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), StateError> {
    replace_for(path, content, mode, None)
}

fn replace_for(path: &Path, content: &[u8], mode: u32, owner: Option<(u32, u32)>) -> Result<(), StateError> {
    let error = || io_error("write", path);
    let dir = folder_of(path);
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(dir)
        .map_err(|e| error()(without_path(e)))?;
    file.as_file_mut().write_all(content).map_err(error())?;
    if let Some((user, group)) = owner {
        // Who may not give files away owns the new one: as with every editor.
        let _kept = std::os::unix::fs::fchown(file.as_file(), Some(user), Some(group));
    }
    file.as_file().sync_all().map_err(error())?;
    file.persist(path).map_err(|e| error()(without_path(e.error)))?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(error())
}

/// The folder of a file; that of a bare name is the current one.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The reason without the name of the temporary file, which means nothing to anybody: the file that was to be written is
/// named already.
fn without_path(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    let text = error.to_string();
    let reason = text.split_once(" at path ").map_or(&*text, |(reason, _)| reason);
    io::Error::new(error.kind(), reason.to_owned())
}

/// Makes the folder, or takes one that is there: a real folder, ours, and closed to others from now on.
fn make_private_dir(path: &Path) -> Result<(), StateError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("make", path))?;
    let found = check_private_dir(path)?;
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io_error("close to others", path))?;
    }
    Ok(())
}

/// A real folder, and ours.
fn check_private_dir(path: &Path) -> Result<fs::Metadata, StateError> {
    let found = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(StateError::Foreign { path: path.to_owned() });
    }
    Ok(found)
}

/// Opens a file of ours for writing, or makes it, and leaves its content alone.
///
/// The folder may have been open to others before it was ours alone, so what lies in it under the name is looked at, on
/// the open file: a link would lead us to write somewhere else (a hard link as well), and a pipe would hold us up.
fn open_own(path: &Path, action: &'static str) -> Result<File, StateError> {
    let strange = |found| StateError::Strange { path: path.to_owned(), found };
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(strange("a link")),
        // What opening a folder, or a pipe that nobody reads, or a socket comes to.
        Err(Errno::ISDIR | Errno::NXIO) => return Err(strange("no regular file")),
        Err(errno) => return Err(io_error(action, path)(errno.into())),
    };
    let found = file.metadata().map_err(io_error("look at", path))?;
    if !found.is_file() {
        return Err(strange("no regular file"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(strange("another user's"));
    }
    if found.nlink() > 1 {
        return Err(strange("a link: the file has another name as well"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::new(temp.path(), "dev").unwrap();
        (temp, state)
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for name in ["", "..", "a/b", "-a", "a-", "A", "trust", "ä", &"a".repeat(MAX_NAME + 1)] {
            assert!(matches!(StateDir::new(Path::new("/x"), name), Err(StateError::Name(_))), "{name}");
        }
        assert!(StateDir::new(Path::new("/x"), "dev-2").is_ok());
    }

    #[test]
    fn a_second_process_is_told_who_runs_the_name() {
        let (_temp, state) = dir();
        let (_lock, mut file) = state.open().unwrap();
        file.pid = Some(4711);
        state.write(&file).unwrap();
        let error = state.open().unwrap_err();
        assert!(matches!(error, StateError::Running { pid: Some(4711), .. }));
        assert!(error.to_string().contains("4711"));
    }

    #[test]
    fn the_lock_of_an_ended_process_is_free() {
        let (_temp, state) = dir();
        drop(state.open().unwrap());
        assert!(state.open().is_ok());
    }

    #[test]
    fn a_newer_layout_is_refused_and_left_as_it_is() {
        let (_temp, state) = dir();
        drop(state.open().unwrap());
        let path = state.path("state.json");
        fs::write(&path, r#"{"version":99,"new":true}"#).unwrap();
        assert!(matches!(state.open(), Err(StateError::Newer { found: 99, .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"version":99,"new":true}"#);
    }

    #[test]
    fn a_truncated_state_file_names_itself_and_the_fix() {
        let (_temp, state) = dir();
        drop(state.open().unwrap());
        fs::write(state.path("state.json"), r#"{"version":1,"#).unwrap();
        let error = state.open().unwrap_err();
        assert!(error.to_string().contains("state.json"));
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_folder_that_is_a_link_is_refused_and_an_open_one_is_closed() {
        let temp = tempfile::tempdir().unwrap();
        let elsewhere = temp.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, temp.path().join("dev")).unwrap();
        let state = StateDir::new(temp.path(), "dev").unwrap();
        assert!(matches!(state.open(), Err(StateError::Foreign { .. })));
        let open = StateDir::new(temp.path(), "open").unwrap();
        fs::create_dir(open.dir()).unwrap();
        fs::set_permissions(open.dir(), fs::Permissions::from_mode(0o777)).unwrap();
        drop(open.open().unwrap());
        assert_eq!(fs::metadata(open.dir()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn lock_and_log_are_never_opened_through_a_link() {
        type Open = fn(&StateDir) -> StateError;
        let (temp, state) = dir();
        drop(state.open().unwrap());
        let victim = temp.path().join("victim");
        let open: [(&str, Open); 2] =
            [("lock", |state| state.open().unwrap_err()), ("up.log", |state| state.log_file().unwrap_err())];
        for (name, open) in open {
            let path = state.path(name);
            let make: [(&str, &dyn Fn()); 6] = [
                ("link", &|| std::os::unix::fs::symlink(&victim, &path).unwrap()),
                ("link", &|| std::os::unix::fs::symlink(temp.path().join("not there"), &path).unwrap()),
                ("link", &|| std::os::unix::fs::symlink(&path, &path).unwrap()),
                ("another name", &|| fs::hard_link(&victim, &path).unwrap()),
                ("no regular file", &|| fs::create_dir(&path).unwrap()),
                ("no regular file", &|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap())),
            ];
            for (what, make) in make {
                fs::write(&victim, "precious").unwrap();
                let _gone = fs::remove_file(&path);
                make();
                let error = open(&state);
                assert!(matches!(&error, StateError::Strange { path: found, .. } if *found == path), "{error}");
                assert!(error.to_string().contains(name) && error.to_string().contains(what), "{error}");
                assert!(error.hint().is_some_and(|hint| hint.contains(name)));
                assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
                assert!(!temp.path().join("not there").exists());
                let _gone = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
            }
        }
        assert!(state.open().is_ok());
    }

    #[test]
    fn the_log_is_begun_anew_and_readable_by_its_owner_alone() {
        let (_temp, state) = dir();
        drop(state.open().unwrap());
        state.log_file().unwrap().write_all(b"a long line of the last run").unwrap();
        state.log_file().unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(state.path("up.log")).unwrap(), "new");
        assert_eq!(fs::metadata(state.path("up.log")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_lock_is_not_taken_in_a_folder_that_is_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let elsewhere = temp.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, temp.path().join("dev")).unwrap();
        let state = StateDir::new(temp.path(), "dev").unwrap();
        assert!(matches!(state.lock(), Err(StateError::Foreign { .. })));
        assert!(fs::read_dir(&elsewhere).unwrap().next().is_none());
    }

    #[test]
    fn the_first_layout_is_read_and_its_kubeconfig_kept() {
        let (_temp, state) = dir();
        let (lock, _) = state.open().unwrap();
        let old =
            r#"{"version":1,"pid":7,"issuer":"i","kubeconfig":"/k","previous_context":"prod","system_trust":"/t"}"#;
        fs::write(state.path("state.json"), old).unwrap();
        let read = state.read().unwrap();
        let kept = OtherKubeconfig { path: "/k".into(), previous_context: Some("prod".to_owned()), made: false };
        assert_eq!(read.kubeconfigs, [kept]);
        assert_eq!(
            (read.pid, read.issuer.as_deref(), read.system_trust.as_deref()),
            (Some(7), Some("i"), Some(Path::new("/t")))
        );
        state.write(&read).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&fs::read(state.path("state.json")).unwrap()).unwrap();
        assert_eq!((&written["version"], written.get("kubeconfig")), (&2.into(), None));
        drop(lock);
        assert_eq!(state.open().unwrap().1.kubeconfigs, read.kubeconfigs);
    }

    #[test]
    fn every_kubeconfig_is_remembered_with_what_was_there_before_us() {
        let mut file = StateFile::default();
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        file.note_kubeconfig(a, Some("prod".to_owned()), false);
        file.note_kubeconfig(b, None, true);
        file.note_kubeconfig(a, None, true);
        assert_eq!(file.kubeconfig(a).unwrap().previous_context.as_deref(), Some("prod"));
        assert!(!file.kubeconfig(a).unwrap().made && file.kubeconfig(b).unwrap().made);
        file.note_kubeconfig(a, Some("staging".to_owned()), false);
        assert_eq!(file.kubeconfig(a).unwrap().previous_context.as_deref(), Some("staging"));
        assert_eq!(file.kubeconfigs.len(), 2);
    }

    #[test]
    fn a_bare_file_name_stands_in_the_current_folder() {
        assert_eq!(folder_of(Path::new("new.yaml")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/new.yaml")), Path::new("a"));
        assert_eq!(folder_of(Path::new("/new.yaml")), Path::new("/"));
    }

    #[test]
    fn a_failed_write_names_the_file_and_not_its_temporary_neighbour() {
        let (_temp, state) = dir();
        let path = state.path("nowhere/file");
        let error = write_private(&path, b"x").unwrap_err();
        let StateError::Io { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
        let said = source.to_string();
        assert!(said.starts_with("No such file or directory") && !said.contains("path"), "{said}");
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let (_temp, state) = dir();
        drop(state.open().unwrap());
        let path = state.path("nowhere/file");
        assert!(write_private(&path, b"x").is_err());
        let path = state.path("file");
        write_private(&path, b"old").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
