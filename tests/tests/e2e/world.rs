//! One test's world: a home, a state folder, and the programs it runs in them.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The password that the guide gives its demo user.
pub(crate) const PASSWORD: &str = "ChangeMe!234";
pub(crate) const USER: &str = "oidc-demo-user@example.com";

/// The longest that any one program may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The guide's plugin listens on port 8000: one sign-in at a time.
static PORT_8000: Mutex<()> = Mutex::new(());

pub(crate) struct World {
    home: tempfile::TempDir,
    _port: MutexGuard<'static, ()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let port = PORT_8000.lock().unwrap_or_else(PoisonError::into_inner);
        let home = tempfile::Builder::new().prefix("portcullis-e2e-").tempdir().unwrap();
        fs::create_dir_all(home.path().join("bin")).unwrap();
        Self { home, _port: port }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home().join(".local/state/portcullis")
    }

    /// `dev`'s own folder.
    pub(crate) fn dev(&self, file: &str) -> PathBuf {
        self.state().join("dev").join(file)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.home().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A program in this world: only its own home, and a PATH with our link, the fake browser and the system's programs.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let bin = self.home().join("bin");
        let path = format!(
            "{}:{}:{}:/usr/local/bin:/usr/bin:/bin",
            self.dev("bin").display(),
            bin.display(),
            peers().display()
        );
        command.env_clear().env("HOME", self.home()).env("PATH", path).stdin(Stdio::null());
        command
    }

    pub(crate) fn portcullis(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(bin().join("portcullis"));
        command.args(arguments);
        command
    }

    /// Runs `up` to its end.
    pub(crate) fn up(&self, arguments: &[&str]) -> Finished {
        let all = [&["up", "--unattended", "--port", "0", "--issuer-port", "0"], arguments].concat();
        finish(&mut self.portcullis(&all))
    }

    /// Starts `up`, waits until it says that it keeps running, and leaves it running.
    pub(crate) fn up_and_keep(&self, arguments: &[&str]) -> Running {
        let all = [&["up", "--unattended", "--keep", "--port", "0", "--issuer-port", "0"], arguments].concat();
        let mut running = Running::start(&mut self.portcullis(&all));
        running.wait_for("Ctrl-C");
        running
    }

    pub(crate) fn down(&self) -> Finished {
        finish(&mut self.portcullis(&["down"]))
    }

    /// `kubectl` with dev's kubeconfig.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Finished {
        finish(self.command(peers().join("kubectl")).args(arguments).env("KUBECONFIG", self.dev("kubeconfig")))
    }

    /// Puts a browser onto the PATH that signs in through the real form: `xdg-open URL`.
    pub(crate) fn install_browser(&self, login: &str, password: &str) {
        self.install_browser_with(login, password, "");
    }

    /// The same, with more of an environment, such as `SIGN_IN_CA=FILE`.
    pub(crate) fn install_browser_with(&self, login: &str, password: &str, environment: &str) {
        let script = format!(
            "#!/bin/sh\n{environment} SIGN_IN_LOGIN='{login}' SIGN_IN_PASSWORD='{password}' exec '{}' \"$1\" >>'{}' 2>&1\n",
            env!("CARGO_BIN_EXE_sign-in"),
            self.home().join("browser.log").display()
        );
        let path = self.home().join("bin/xdg-open");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        for other in ["x-www-browser", "www-browser"] {
            let _there_already = symlink(&path, self.home().join("bin").join(other));
        }
    }
}

/// The released programs.
pub(crate) fn bin() -> PathBuf {
    PathBuf::from(std::env::var_os("PORTCULLIS_BIN").expect("PORTCULLIS_BIN names the folder of the released programs"))
}

/// The real programs.
pub(crate) fn peers() -> PathBuf {
    PathBuf::from(
        std::env::var_os("PORTCULLIS_PEERS")
            .expect("PORTCULLIS_PEERS names the folder of kubectl, kube-apiserver and etcd"),
    )
}

pub(crate) fn guide(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/guide").join(file).to_str().unwrap().to_owned()
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

pub(crate) fn finish(command: &mut Command) -> Finished {
    let output: Output = Running::start(command).output();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A program that runs; ended by its id when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    stdout: Option<std::thread::JoinHandle<Vec<u8>>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program()));
        let (sender, lines) = mpsc::channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let Ok(line) = line else { return };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut pipe = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut all = Vec::new();
            pipe.read_to_end(&mut all).unwrap();
            all
        });
        Self { child, lines, seen: Vec::new(), stdout: Some(stdout) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on stderr that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?} in:\n{}", self.seen.join("\n")),
            }
        }
    }

    pub(crate) fn stderr(&self) -> String {
        self.seen.join("\n")
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn output(mut self) -> Output {
        let deadline = Instant::now() + PATIENCE;
        let mut stderr = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("still running after {PATIENCE:?}:\n{}", self.seen.join("\n"))
                }
            }
        }
        stderr.extend_from_slice(self.seen.join("\n").as_bytes());
        let status = self.child.wait().unwrap();
        let stdout = self.stdout.take().unwrap().join().unwrap();
        Output { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}
