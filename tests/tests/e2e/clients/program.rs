//! A client under test: a program that is told what to do on its input, or kube-rs inside this process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::errors::Window;
use super::proxy::Proxy;

/// The longest that a client may take for anything.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a client says: peers/client-go-peer/README.md.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    pub(crate) stream: String,
    #[serde(rename = "do")]
    pub(crate) what: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) version: String,
    pub(crate) text: String,
    /// With `window`: what begins here.
    #[serde(skip)]
    pub(crate) window: Window,
}

impl Line {
    pub(crate) fn version(&self) -> u64 {
        self.version.parse().unwrap()
    }

    /// An object that is there at this version.
    pub(crate) fn shows(&self) -> bool {
        matches!(self.what.as_str(), "have" | "added" | "modified" | "applied")
    }
}

pub(crate) type Lines = Arc<Mutex<Vec<Line>>>;

pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) streams: &'static [Stream],
    pub(crate) proxy: Proxy,
    pub(crate) lines: Lines,
    commands: Box<dyn FnMut(&str) + Send>,
    child: Option<Child>,
}

/// One watch of a client, and what may be expected of it.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) name: &'static str,
    /// It shows events as they came; a queue between may change the order of different objects.
    pub(crate) in_order: bool,
    /// It says that its watch was cut; kube-rs passes over that.
    pub(crate) tells_cut: bool,
    /// It says that it was told 410.
    pub(crate) tells_gone: bool,
}

impl Client {
    /// Starts a program whose arguments end with the kubeconfig, the namespace and the kinds of patches.
    pub(crate) fn program(
        name: &'static str,
        streams: &'static [Stream],
        proxy: Proxy,
        command: &mut Command,
        log: &Path,
    ) -> Self {
        let mut child = command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {:?}: {error}", command.get_program()));
        let lines = Lines::default();
        let (seen, output) = (Arc::clone(&lines), BufReader::new(child.stdout.take().unwrap()));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| Line {
                    what: "failed".to_owned(),
                    text: line,
                    ..Line::default()
                });
                seen.lock().unwrap().push(line);
            }
            seen.lock().unwrap().push(Line { what: "ended".to_owned(), ..Line::default() });
        });
        let mut input = child.stdin.take().unwrap();
        let commands = Box::new(move |command: &str| writeln!(input, "{command}").unwrap());
        Self { name, streams, proxy, lines, commands, child: Some(child) }
    }

    /// A client that lives in this process.
    pub(crate) fn inside(
        name: &'static str,
        streams: &'static [Stream],
        proxy: Proxy,
        lines: Lines,
        commands: Box<dyn FnMut(&str) + Send>,
    ) -> Self {
        Self { name, streams, proxy, lines, commands, child: None }
    }

    /// Says in the record which errors may come from here on.
    pub(crate) fn enter(&self, window: Window) {
        let line = Line { what: "window".to_owned(), window, ..Line::default() };
        self.lines.lock().unwrap().push(line);
    }

    pub(crate) fn tell(&mut self, command: &str) {
        (self.commands)(command);
    }

    /// Waits until a line is what `wanted` looks for; a failure of the client is one of the test.
    pub(crate) async fn wait(&self, what: &str, wanted: impl Fn(&Line) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut at = 0;
        loop {
            {
                let lines = self.lines.lock().unwrap();
                for line in &lines[at..] {
                    assert!(line.what != "failed" && line.what != "ended", "{}: {}", self.name, line.text);
                    if wanted(line) {
                        return;
                    }
                }
                at = lines.len();
            }
            if Instant::now() >= deadline {
                let lines = self.lines.lock().unwrap();
                panic!("{}: waited for {what}; last: {:#?}", self.name, &lines[lines.len().saturating_sub(5)..]);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every stream shows the object at this version.
    pub(crate) async fn caught_up(&self, uid: &str, version: u64) {
        for stream in self.streams {
            let what = format!("version {version} on {}", stream.name);
            self.wait(&what, |line| {
                line.stream == stream.name && line.uid == uid && line.shows() && line.version() == version
            })
            .await;
        }
    }

    /// Waits until the last command is done.
    pub(crate) async fn done(&self, command: &str, times: usize) {
        let seen = std::cell::Cell::new(0);
        self.wait(command, |line| {
            if line.what == "done" && line.text == command {
                seen.set(seen.get() + 1);
            }
            seen.get() == times
        })
        .await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ended_already = child.kill();
            let _reaped_already = child.wait();
        }
    }
}
