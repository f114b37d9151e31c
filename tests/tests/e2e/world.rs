//! One test's world: a home, a state folder, and the programs it runs in them.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
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
    port: Option<MutexGuard<'static, ()>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let port = PORT_8000.lock().unwrap_or_else(PoisonError::into_inner);
        let home = tempfile::Builder::new().prefix("portcullis-e2e-").tempdir().unwrap();
        fs::create_dir_all(home.path().join("bin")).unwrap();
        Self { home, port: Some(port) }
    }

    /// Lets other tests go on beside this one, which has no use for port 8000 and has little to do for a while.
    pub(crate) fn make_room(&mut self) {
        self.port = None;
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

    /// `up` with free ports, in a terminal of its own; `display` is the variable of a desktop.
    pub(crate) fn up_in_terminal(&self, display: Option<&str>, arguments: &[&str]) -> Running {
        let mut command = self.portcullis(&[&["up", "--port", "0", "--issuer-port", "0"], arguments].concat());
        if let Some(display) = display {
            command.env("DISPLAY", display);
        }
        Running::in_terminal(&command)
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

    /// What `state.json` of `dev` says.
    pub(crate) fn state_file(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.dev("state.json")).unwrap()).unwrap()
    }

    /// The sign-in plugin that waits, as `up` has written it down.
    pub(crate) fn plugin(&self) -> u32 {
        self.state_file()["plugin"]["pid"].as_u64().unwrap().try_into().unwrap()
    }

    /// Processes of this world that run, by their command lines.
    pub(crate) fn processes(&self) -> Vec<String> {
        let home = self.home().to_str().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        let texts = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        texts.filter(|line| line.contains(home)).collect()
    }

    /// Signs in at a URL as a browser would.
    pub(crate) fn sign_in_at(&self, url: &str) -> Finished {
        finish(
            self.command(env!("CARGO_BIN_EXE_sign-in"))
                .arg(url)
                .env("SIGN_IN_LOGIN", USER)
                .env("SIGN_IN_PASSWORD", PASSWORD),
        )
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

/// Whether a loopback port can be listened on.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Waits until something holds; for what the system does in its own time, such as the end of a killed process.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Whether a process runs: not when it has ended and waits to be reaped.
pub(crate) fn runs(pid: u32) -> bool {
    portcullis_local::process::started(pid).is_some()
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
    keyboard: Option<File>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program()));
        let lines = read_lines(child.stderr.take().unwrap());
        let mut pipe = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut all = Vec::new();
            pipe.read_to_end(&mut all).unwrap();
            all
        });
        Self { child, lines, seen: Vec::new(), stdout: Some(stdout), keyboard: None }
    }

    /// Starts a program in a terminal of its own, which controls it: Ctrl-C that is typed there reaches it as a signal.
    /// All that it prints counts as stderr.
    pub(crate) fn in_terminal(command: &Command) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let screen = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let mut wrapped = Command::new("setsid");
        // It is not the leader of its group yet, so setsid(1) becomes the program itself, under the same id.
        wrapped.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let child = wrapped
            .stdin(screen.try_clone().unwrap())
            .stdout(screen.try_clone().unwrap())
            .stderr(screen)
            .spawn()
            .unwrap_or_else(|e| panic!("setsid: {e}"));
        let master = File::from(master);
        let keyboard = Some(master.try_clone().unwrap());
        Self { child, lines: read_lines(master), seen: Vec::new(), stdout: None, keyboard }
    }

    /// Types into the terminal.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on stderr that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.wait_within(PATIENCE, text)
    }

    /// The same, for what takes longer or shorter.
    #[track_caller]
    pub(crate) fn wait_within(&mut self, patience: Duration, text: &str) -> String {
        let deadline = Instant::now() + patience;
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

    /// The next line, if one comes in time.
    pub(crate) fn next_line(&mut self, patience: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(patience).ok()?;
        self.seen.push(line.clone());
        Some(line)
    }

    pub(crate) fn stderr(&self) -> String {
        self.seen.join("\n")
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Stops it, until it is sent SIGCONT. SIGSTOP alone returns while threads may still be on their way to their stop, and what
    /// these do until then looks as if it had been done by a stopped process.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
        let tasks = format!("/proc/{}/task", self.id());
        eventually("every thread is stopped", || {
            fs::read_dir(&tasks).unwrap().flatten().all(|task| {
                // The state follows the name, which is in parentheses and may hold any.
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
            })
        });
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
        let stdout = self.stdout.take().map(|all| all.join().unwrap()).unwrap_or_default();
        Output { status, stdout, stderr }
    }
}

/// The lines of a stream as they come. A terminal whose program has ended fails to be read.
fn read_lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}
