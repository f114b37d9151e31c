//! One of the two servers with a home of its own: runs a line of the script in a shell whose `kubectl` is the real one.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use portcullis_testkit::{Leaf, Peer, TempDir, TestCa, peer, temp_dir};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::lines::Line;
use super::{log, scrub};

/// How long a line may take. It is long because machines that run tests are busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long something that runs on must have been silent before it is ended.
const QUIET: Duration = Duration::from_millis(600);

/// What a line did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Outcome {
    pub(super) code: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) traffic: Vec<String>,
}

/// A server and the folder from which it is asked.
pub(super) struct Side {
    pub(super) own: scrub::Own,
    folder: TempDir,
    running: Vec<(String, Child)>,
}

impl Side {
    /// A home with kubeconfigs of these people and the script's files.
    pub(super) fn new(url: &str, ca: &TestCa, people: &[(&str, Leaf)], files: &Path) -> Self {
        let folder = temp_dir();
        let path = |name: &str| folder.path().join(name);
        for name in ["bin", "home", "work", "out"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        write(&path("bin/kubectl"), &shim());
        std::fs::set_permissions(path("bin/kubectl"), PermissionsExt::from_mode(0o755)).unwrap();
        write(&path("home/ca.pem"), ca.pem());
        for (name, leaf) in people {
            write(&path(&format!("home/{name}.pem")), &leaf.certificate_pem);
            write(&path(&format!("home/{name}.key")), &leaf.key_pem);
            let user = format!("    client-certificate: {name}.pem\n    client-key: {name}.key\n");
            write(&path(&format!("home/{name}.kubeconfig")), &kubeconfig(url, name, &user));
        }
        write(&path("home/stranger.kubeconfig"), &kubeconfig(url, "stranger", "    token: nobody-knows-it\n"));
        // Basic credentials mean nothing to either server.
        let nobody = "    username: nobody\n    password: nothing\n";
        write(&path("home/anonymous.kubeconfig"), &kubeconfig(url, "anonymous", nobody));
        copy(files, &path("work"));
        let own = scrub::Own {
            host: url.trim_start_matches("https://").to_owned(),
            folder: folder.path().display().to_string(),
        };
        Self { own, folder, running: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a line to its end.
    pub(super) async fn run(&self, line: &Line) -> Outcome {
        let mut child = self.spawn(line);
        let code = match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(status) => {
                status.unwrap().code().map_or_else(|| "ended by a signal".to_owned(), |code| code.to_string())
            }
            Err(_) => {
                end(&child, Signal::KILL);
                child.wait().await.unwrap();
                format!("still ran after {PATIENCE:?}")
            }
        };
        let mut outcome = self.outcome(&line.id, code);
        if line.command.contains("kubectl wait") || line.command.starts_with("for ") {
            once(&mut outcome.traffic);
        }
        if line.command.contains("kubectl drain") {
            // It lets all pods go at the same time.
            outcome.traffic.sort();
            let mut said: Vec<&str> = outcome.stdout.lines().collect();
            said.sort_unstable();
            outcome.stdout = said.iter().map(|line| format!("{line}\n")).collect();
        }
        outcome
    }

    /// Starts a line that runs on, and waits until it has begun to print.
    pub(super) async fn start(&mut self, line: &Line) {
        let child = self.spawn(line);
        self.running.push((line.id.clone(), child));
        self.quiet(&line.id).await;
    }

    /// Ends it, once it has nothing more to say, as Ctrl-C does.
    pub(super) async fn stop(&mut self, id: &str) -> Outcome {
        self.quiet(id).await;
        let place = self.running.iter().position(|(running, _)| running == id).unwrap();
        let (_, mut child) = self.running.remove(place);
        let early = child.try_wait().unwrap();
        end(&child, Signal::KILL);
        child.wait().await.unwrap();
        let code = early.and_then(|status| status.code()).map_or_else(|| "stopped".to_owned(), |code| code.to_string());
        let mut outcome = self.outcome(id, code);
        // Something that runs on may be in the midst of a request.
        for line in outcome.traffic.iter_mut().filter(|line| !line.contains(" -> ")) {
            line.push_str(" -> (open)");
        }
        outcome
    }

    /// Waits until its output has not grown for a while.
    async fn quiet(&self, id: &str) {
        let size = || std::fs::metadata(self.path(&format!("out/{id}.out"))).map_or(0, |data| data.len());
        let (begun, mut last, mut since) = (Instant::now(), size(), Instant::now());
        while begun.elapsed() < PATIENCE && (last == 0 && begun.elapsed() < QUIET * 4 || since.elapsed() < QUIET) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = size();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    fn spawn(&self, line: &Line) -> Child {
        let output = |name: &str| Stdio::from(File::create(self.path(&format!("out/{}.{name}", line.id))).unwrap());
        // What fails in a pipe counts.
        Command::new("/bin/bash")
            .args(["-o", "pipefail", "-c"])
            .arg(&line.command)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("HOME", self.path("home"))
            .env("KUBECONFIG", self.path(&format!("home/{}.kubeconfig", line.user)))
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .current_dir(self.path("work"))
            .stdin(Stdio::null())
            .stdout(output("out"))
            .stderr(output("err"))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn outcome(&self, id: &str, code: String) -> Outcome {
        let output = |name: &str| {
            let bytes = std::fs::read(self.path(&format!("out/{id}.{name}"))).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (said, traffic) = log::split(&output("err"));
        let scrubbed = |text: &str| scrub::text(text, &self.own);
        Outcome {
            code,
            stdout: scrubbed(&output("out")),
            stderr: scrubbed(&said),
            traffic: traffic.iter().map(|line| scrubbed(line)).collect(),
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        for (_, child) in &self.running {
            end(child, Signal::KILL);
        }
    }
}

/// Requests of something that asks again and again, with those that come again taken once: how many there are is a matter
/// of time.
fn once(traffic: &mut Vec<String>) {
    for length in 1..=3 {
        let mut place = 0;
        while place + 2 * length <= traffic.len() {
            let next = place + length;
            if traffic[place..next] == traffic[next..next + length] {
                traffic.drain(next..next + length);
            } else {
                place += 1;
            }
        }
    }
}

/// Signals the shell and what it started.
fn end(child: &Child, signal: Signal) {
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(id) = id {
        // An error says that it has ended already.
        let _ = kill_process_group(id, signal);
    }
}

/// Asks the real kubectl to log its requests. The flag comes before `--`, after which a command of a container begins.
fn shim() -> String {
    let kubectl = peer(Peer::Kubectl);
    format!(
        "#!/bin/sh\nlog=-v=8\ncase \"$1\" in __complete*) log= ;; esac\nfor word in \"$@\"; do\n  shift\n  if [ \"$word\" = -- ] && [ -n \"$log\" ]; then set -- \"$@\" $log; log=; fi\n  set -- \"$@\" \"$word\"\ndone\nexec '{}' \"$@\" $log\n",
        kubectl.display()
    )
}

fn kubeconfig(url: &str, user: &str, credentials: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n    server: {url}\n    certificate-authority: ca.pem\nusers:\n- name: {user}\n  user:\n{credentials}contexts:\n- name: test\n  context:\n    cluster: test\n    user: {user}\n"
    )
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn write(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
}

#[test]
fn what_is_asked_again_and_again_counts_once() {
    let mut traffic: Vec<String> = ["a", "b", "c", "b", "c", "b", "c", "d", "d"].map(str::to_owned).to_vec();
    once(&mut traffic);
    assert_eq!(traffic, ["a", "b", "c", "d"]);
}
