//! `up` is killed at any step; the next one recovers, and what must survive survives.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use rustix::fs::inotify;
use rustix::process::Signal;

use crate::world::{PASSWORD, Running, USER, World, finish, guide};

/// The steps that `up` names, in order; the process is killed right after each.
const STEPS: &[&str] = &["state", "authority", "provider", "api server", "kubeconfig", "binding", "sign-in"];

#[test]
fn a_kill_after_any_step_is_recovered_by_the_next_up() {
    let world = World::new();
    world.up(&[]).ok();
    let authority = fs::read(world.dev("ca/ca.pem")).unwrap();
    for step in STEPS {
        let mut running = Running::start(&mut world.portcullis(&[
            "up",
            "--unattended",
            "--keep",
            "--port",
            "0",
            "--issuer-port",
            "0",
        ]));
        running.wait_for(&format!("  {step} "));
        running.signal(Signal::KILL);
        drop(running);
        let next = world.up(&[]);
        assert_eq!(next.code, Some(0), "after a kill at {step:?}:\n{}", next.stderr);
        assert_eq!(fs::read(world.dev("ca/ca.pem")).unwrap(), authority, "after a kill at {step:?}");
    }
}

/// In a folder where nothing is yet: at each file that a first start makes, the authorities, keys, certificates, database,
/// kubeconfigs and the plugin's cache among them.
#[test]
fn a_first_start_that_is_killed_at_any_file_is_recovered() {
    let world = World::new();
    let whole = FirstStart::new(&world, "whole");
    let watch = whole.watch();
    finish(&mut whole.up(&world)).ok();
    let files = watch.seen();
    let of = |name: &str| files.iter().any(|file| file.ends_with(name));
    for name in [
        "ca/ca.key",
        "ca/ca.pem",
        "ca/client-ca.key",
        "provider/store.db",
        "provider/tls.key",
        "dev/kubeconfig",
        "/config",
    ] {
        assert!(of(name), "{name} is not among {files:?}");
    }
    for (index, file) in files.iter().enumerate() {
        let start = FirstStart::new(&world, &format!("killed-{index}"));
        let watch = start.watch();
        let running = Running::start(&mut start.up(&world));
        watch.wait_for(file);
        running.signal(Signal::KILL);
        drop(running);
        let authority = fs::read(start.dev("ca/ca.pem")).ok();
        let next = finish(&mut start.up(&world));
        assert_eq!(next.code, Some(0), "after a kill at {file}:\n{}", next.stderr);
        assert!(next.stdout.contains("Running"), "after a kill at {file}:\n{}", next.stdout);
        if let Some(authority) = authority {
            assert!(fs::read(start.dev("ca/ca.pem")).unwrap() == authority, "the authority survives a kill at {file}");
        }
        assert!(fs::read_to_string(start.kubeconfig()).unwrap().contains("current-context: kind-dev"));
        let down = finish(&mut world.portcullis(&["down", "--state", start.root.to_str().unwrap()])).ok();
        assert!(!start.dev("").exists() && !start.kubeconfig().exists(), "after {file}:\n{}", down.stderr);
    }
}

/// An `up` with the guide's values and another kubeconfig, in a state folder of its own.
struct FirstStart {
    root: PathBuf,
}

/// The folders that `up` makes; they are there already, empty, so that files in them are seen.
const FOLDERS: &[&str] = &["dev", "dev/ca", "dev/provider", "dev/apiserver", "dev/bin", "dev/cache", "trust", "other"];

impl FirstStart {
    fn new(world: &World, name: &str) -> Self {
        let root = world.home().join(name);
        for folder in FOLDERS {
            DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder)).unwrap();
        }
        Self { root }
    }

    fn dev(&self, path: &str) -> PathBuf {
        self.root.join("dev").join(path)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.root.join("other/config")
    }

    fn up(&self, world: &World) -> std::process::Command {
        let (root, kubeconfig) = (self.root.to_str().unwrap().to_owned(), self.kubeconfig());
        world.portcullis(&[
            "up",
            "--unattended",
            "--port",
            "0",
            "--issuer-port",
            "0",
            "--values",
            &guide("values.yaml"),
            "--state",
            &root,
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "--use",
        ])
    }

    fn watch(&self) -> Watch {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
        let folders = FOLDERS.iter().map(|folder| {
            let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            (inotify::add_watch(&inotify, self.root.join(folder), flags).unwrap(), (*folder).to_owned())
        });
        Watch { folders: folders.collect(), inotify }
    }
}

/// Sees the files that come into some folders.
struct Watch {
    folders: HashMap<i32, String>,
    inotify: OwnedFd,
}

impl Watch {
    /// All files so far, each once.
    fn seen(&self) -> Vec<String> {
        let mut files = Vec::new();
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                return files;
            }
            for file in batch {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
    }

    /// Waits for a file.
    fn wait_for(&self, file: &str) {
        crate::world::eventually(&format!("{file} comes"), || self.batch().iter().any(|seen| seen == file));
    }

    /// What has come since the last time. Names of temporary files are random, and count as one.
    fn batch(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut files = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let folder = self.folders.get(&event.wd()).map_or("?", String::as_str);
            let name = match (folder, name.as_str()) {
                (_, name) if name.starts_with(".tmp") => ".tmp",
                // Named after the issuer, of which the port is another each time.
                ("trust", _) => "ISSUER.pem",
                (_, name) => name,
            };
            files.push(format!("{folder}/{name}"));
            if reader.is_buffer_empty() {
                break;
            }
        }
        files
    }
}

#[test]
fn keys_refresh_tokens_and_kubeconfigs_survive_a_kill() {
    let world = World::new();
    // The issuer is part of what survives, so its port stays the same.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let kubeconfig = world.home().join("config");
    let arguments =
        ["--issuer-port", &port, "--values", &guide("values.yaml"), "--kubeconfig", kubeconfig.to_str().unwrap()];
    let running = world.up_and_keep(&arguments);
    let before = key_ids(&running);
    world.install_browser(USER, PASSWORD);
    let first = get_token(&world, &port, &[]);
    fs::remove_file(world.home().join("bin/xdg-open")).unwrap();
    running.signal(Signal::KILL);
    drop(running);

    let again = world.up_and_keep(&arguments);
    let after = key_ids(&again);
    assert!(!before.is_empty() && before.iter().all(|kid| after.contains(kid)), "{before:?} then {after:?}");
    // There is no browser any more: only the refresh token of before the kill can bring a new token.
    let second = get_token(&world, &port, &["--force-refresh"]);
    assert_ne!(first, second);
    for file in [&kubeconfig, &world.dev("kubeconfig")] {
        let pods =
            world.kubectl(&["--kubeconfig", file.to_str().unwrap(), "get", "pods", "-A", "--context=kind-dev"]).ok();
        assert!(pods.stdout.contains("Running"), "{}", pods.stdout);
    }
}

/// A token from the plugin, with a cache of its own that no `up` clears.
fn get_token(world: &World, port: &str, more: &[&str]) -> String {
    let mut plugin = world.command(world.dev("bin/kubectl-oidc_login"));
    plugin.args([
        "get-token",
        &format!("--oidc-issuer-url=https://localhost:{port}"),
        "--oidc-client-id=kubernetes",
        "--oidc-client-secret=demo-client-secret-change-me",
        "--oidc-extra-scope=offline_access",
        &format!("--token-cache-dir={}", world.home().join("tokens").display()),
    ]);
    // Without a browser it would wait for one.
    plugin.args(more).arg("--authentication-timeout-sec=30");
    let credential: serde_json::Value = serde_json::from_str(&finish(&mut plugin).ok().stdout).unwrap();
    credential["status"]["token"].as_str().unwrap().to_owned()
}

/// The ids of the keys that the running provider publishes, asked over loopback http as a browser could.
fn key_ids(running: &Running) -> Vec<String> {
    let stderr = running.stderr();
    let issuer = stderr.lines().find_map(|line| line.trim().strip_prefix("export NGROK_ENDPOINT=https://")).unwrap();
    let mut connection = TcpStream::connect(issuer).unwrap();
    write!(connection, "GET /keys HTTP/1.1\r\nHost: {issuer}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split("\"kid\"").skip(1).filter_map(|rest| rest.split('"').nth(1).map(str::to_owned)).collect()
}
