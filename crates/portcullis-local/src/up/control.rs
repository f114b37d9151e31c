//! How a second `up` reaches the running one: a socket in the state folder, for this user alone.
//!
//! ```text
//! second `up`: reads both files, checks them -> connects -> request (JSON, to its end) -> prints the answer
//! running one: one request at a time -> checks again, compares, applies -> answer (JSON)
//! ```
//! The texts travel rather than the paths, with the variables that they name, so that the second `up`'s own folder, rights
//! and environment count, and what was checked is what is applied. Requests hold secrets: they are never logged. The folder
//! is 0700, the socket 0600, and whoever connects is this user or root (docs/decisions/0021).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::state::{self, StateDir, StateError, StateFile};

use super::external::Wish;
use super::inputs::Sources;

/// The socket's name in the folder.
const NAME: &str = "control";
/// Bytes of a request: two files of 1 MiB, every byte of which may take six in JSON, and what is around them.
const MAX_REQUEST: u64 = 13 * 1024 * 1024;
/// Bytes of an answer.
const MAX_ANSWER: u64 = 1024 * 1024;
/// How long a request may take to arrive, and an answer to leave.
const TRANSFER: Duration = Duration::from_secs(10);
/// How long an answer may take: the API server may have to find the issuer again.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a running `up` may take until it listens: it may be at its first steps.
const LISTENS: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Longest path of a socket that every system takes.
const MAX_PATH: usize = 100;

/// What a second `up` wants.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    /// The version of the program that asks.
    pub(super) version: String,
    pub(super) sources: Sources,
    /// Variables of its environment that the files name.
    pub(super) environment: BTreeMap<String, Option<String>>,
    pub(super) port: Option<u16>,
    pub(super) issuer_port: Option<u16>,
    pub(super) keep_issuer: bool,
    pub(super) fix_demo_hash: bool,
    /// Flags that count at a start alone.
    pub(super) at_start: AtStart,
    /// What it says about the user's own provider, under `--issuer`.
    pub(super) external: Option<Wish>,
}

/// Flags that count at a start alone, as they were given.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct AtStart {
    pub(super) guide: bool,
    pub(super) no_bind: bool,
    pub(super) trust: bool,
    pub(super) use_context: bool,
    #[serde(default)]
    pub(super) keep_state: bool,
    pub(super) kubeconfig: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    /// What there is to say, line by line.
    pub(super) lines: Vec<String>,
    /// Why nothing was changed.
    pub(super) error: Option<String>,
    pub(super) hint: Option<String>,
}

/// Why the running `up` was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It runs, and does not listen.
    #[error("{name:?} is already running (process {pid}), and does not take changes")]
    Silent {
        /// Its name.
        name: String,
        /// Its process.
        pid: u32,
    },
    /// It ended, or broke off.
    #[error("{0:?} ended before it answered")]
    Ended(String),
    /// It did not answer in time.
    #[error("{0:?} did not answer within {ANSWER:?}")]
    Late(String),
    /// The answer is not one.
    #[error("{0:?} gave an answer that cannot be read")]
    Unreadable(String),
}

impl ControlError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Silent { name, .. } | Self::Late(name) | Self::Unreadable(name) => {
                format!("stop it with Ctrl-C in its terminal or `portcullis down --name {name}`, then start it again")
            }
            Self::Ended(_) => "run the command again: it starts anew".to_owned(),
        }
    }
}

/// The running side.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens in the state folder, whose lock is held.
    pub(super) fn bind(state: &StateDir) -> Result<Self, StateError> {
        let path = state.path(NAME);
        let failed = |source| StateError::Io { action: "listen on", path: path.clone(), source };
        // A killed `up` leaves its socket. Nobody else's is removed: the folder is this user's.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let place = Place::of(&path).map_err(failed)?;
        let listener = UnixListener::bind(&place.path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path })
    }

    /// Answers one request after the other, for ever.
    pub(super) async fn serve(&self, answer: impl AsyncFn(Request) -> Answer) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = talk(stream, &answer).await {
                        tracing::warn!(%error, "a request of another `up` broke off");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept requests of another `up`");
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // What stays is removed by the next `up`, and by `down`.
        let _gone = fs::remove_file(&self.path);
    }
}

async fn talk(mut stream: UnixStream, answer: &impl AsyncFn(Request) -> Answer) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut text = Vec::new();
    let mut limited = (&mut stream).take(MAX_REQUEST);
    let reading = limited.read_to_end(&mut text);
    tokio::time::timeout(TRANSFER, reading).await.map_err(|_late| io::ErrorKind::TimedOut)??;
    let answered = match serde_json::from_slice::<Request>(&text) {
        Ok(request) => answer(request).await,
        // Not the parser's words: they may quote what was sent.
        Err(_) => Answer {
            error: Some("the request cannot be read".to_owned()),
            hint: Some("use the same version of Portcullis for both".to_owned()),
            ..Answer::default()
        },
    };
    let text = serde_json::to_vec(&answered).map_err(io::Error::other)?;
    let writing = async {
        stream.write_all(&text).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(TRANSFER, writing).await.map_err(|_late| io::ErrorKind::TimedOut)?
}

/// Asks the `up` that holds the folder's lock, and waits for its answer.
pub(super) async fn ask(state: &StateDir, request: &Request) -> Result<Answer, ControlError> {
    let name = || state.name().to_owned();
    let mut stream = connect(state).await?;
    let talking = async {
        let text = serde_json::to_vec(request).map_err(io::Error::other)?;
        stream.write_all(&text).await?;
        stream.shutdown().await?;
        let mut text = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut text).await?;
        Ok::<_, io::Error>(text)
    };
    let talked = tokio::time::timeout(ANSWER, talking).await.map_err(|_late| ControlError::Late(name()))?;
    let text = talked.map_err(|_broken| ControlError::Ended(name()))?;
    if text.is_empty() {
        return Err(ControlError::Ended(name()));
    }
    serde_json::from_slice(&text).map_err(|_| ControlError::Unreadable(name()))
}

/// Connects once it listens: it may be at its first steps.
async fn connect(state: &StateDir) -> Result<UnixStream, ControlError> {
    let path = state.path(NAME);
    let start = Instant::now();
    loop {
        if let Ok(place) = Place::of(&path)
            && let Ok(stream) = UnixStream::connect(&place.path).await
        {
            return Ok(stream);
        }
        let late = start.elapsed() > LISTENS;
        let file = state.read().unwrap_or_default();
        match file.process().filter(|process| process.runs()) {
            Some(process) if late || !file.takes_changes => {
                return Err(ControlError::Silent { name: state.name().to_owned(), pid: process.pid });
            }
            // Whoever holds the lock has not noted itself yet, or nobody does any more.
            None if late || matches!(state.lock(), Ok(Some(_))) => {
                return Err(ControlError::Ended(state.name().to_owned()));
            }
            Some(_) | None => {}
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Notes that whoever runs the name listens here, or will.
pub(super) fn note(file: &mut StateFile) {
    file.takes_changes = true;
}

/// A path that a socket may have. Systems allow about a hundred bytes; a longer one goes through its folder, where the
/// system has a short name for an open folder.
struct Place {
    path: PathBuf,
    _folder: Option<std::os::fd::OwnedFd>,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        if path.as_os_str().len() <= MAX_PATH || !cfg!(target_os = "linux") {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = state::folder_of(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(NAME);
        Ok(Self { path, _folder: Some(folder) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(values: &str) -> Request {
        let text = super::super::inputs::Text { name: "v.yaml".to_owned(), text: values.to_owned() };
        Request {
            version: "1".to_owned(),
            sources: Sources { values: Some(text), cluster: None },
            environment: BTreeMap::from([("SECRET".to_owned(), Some("s".to_owned()))]),
            port: None,
            issuer_port: Some(1),
            keep_issuer: false,
            fix_demo_hash: true,
            at_start: AtStart::default(),
            external: None,
        }
    }

    fn running(root: &Path) -> (StateDir, state::Lock) {
        let state = StateDir::new(root, "dev").unwrap();
        let (lock, mut file) = state.open().unwrap();
        file.claim();
        note(&mut file);
        state.write(&file).unwrap();
        (state, lock)
    }

    async fn echo(request: Request) -> Answer {
        let text = request.sources.values.map(|values| values.text).unwrap_or_default();
        Answer { lines: vec![text, request.environment["SECRET"].clone().unwrap_or_default()], ..Answer::default() }
    }

    #[tokio::test]
    async fn a_request_reaches_the_running_one_and_its_answer_comes_back_also_over_a_long_path() {
        let temp = tempfile::tempdir().unwrap();
        for root in [temp.path().to_owned(), temp.path().join("a".repeat(120))] {
            fs::create_dir_all(&root).unwrap();
            let (state, _lock) = running(&root);
            let control = Control::bind(&state).unwrap();
            assert_eq!(fs::metadata(state.path(NAME)).unwrap().permissions().mode() & 0o777, 0o600);
            let (first, second) = (request("one"), request("two"));
            let asked = async { tokio::join!(ask(&state, &first), ask(&state, &second)) };
            let (first, second) = tokio::select! {
                both = asked => both,
                () = control.serve(echo) => unreachable!("it serves for ever"),
            };
            assert_eq!(
                (first.unwrap().lines, second.unwrap().lines),
                (vec!["one".into(), "s".into()], vec!["two".into(), "s".into()])
            );
            drop(control);
            assert!(!state.path(NAME).exists());
        }
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_taken_over() {
        let temp = tempfile::tempdir().unwrap();
        let (state, _lock) = running(temp.path());
        // One that ends leaves the name of its socket behind.
        drop(std::os::unix::net::UnixListener::bind(state.path(NAME)).unwrap());
        let control = Control::bind(&state).unwrap();
        let asked = request("again");
        tokio::select! {
            answer = ask(&state, &asked) => assert_eq!(answer.unwrap().lines[0], "again"),
            () = control.serve(echo) => unreachable!("it serves for ever"),
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_without_being_quoted_and_the_next_one_is_answered() {
        let temp = tempfile::tempdir().unwrap();
        let (state, _lock) = running(temp.path());
        let control = Control::bind(&state).unwrap();
        let asking = async {
            let mut stream = connect(&state).await.unwrap();
            stream.write_all(b"{\"version\": \"hunter2\"}").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            // One that says nothing and one that hangs up do no harm.
            drop(connect(&state).await.unwrap());
            (said, ask(&state, &request("next")).await.unwrap())
        };
        tokio::select! {
            (said, next) = asking => {
                assert!(said.contains("cannot be read") && !said.contains("hunter2"), "{said}");
                assert_eq!(next.lines[0], "next");
            }
            () = control.serve(echo) => unreachable!("it serves for ever"),
        }
    }

    #[tokio::test]
    async fn one_that_takes_no_changes_is_said_to_run_and_one_that_is_gone_to_have_ended() {
        let temp = tempfile::tempdir().unwrap();
        let (state, lock) = running(temp.path());
        let mut file = state.read().unwrap();
        file.takes_changes = false;
        state.write(&file).unwrap();
        let refused = ask(&state, &request("x")).await.unwrap_err();
        assert!(matches!(&refused, ControlError::Silent { pid, .. } if *pid == std::process::id()), "{refused}");
        file.pid = None;
        state.write(&file).unwrap();
        drop(lock);
        assert!(matches!(ask(&state, &request("x")).await, Err(ControlError::Ended(_))));
    }
}
