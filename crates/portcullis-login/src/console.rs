//! The plugin's output: data on stdout, words on stderr, klog lines by verbosity.
//!
//! Compat: klog's header `I0102 15:04:05.000000 PID file.rs:LINE] text`. Times are UTC. Unlike kubelogin's, no level
//! shows a token, code, password or client secret.

use std::io::{self, BufRead, Write};
use std::panic::Location;

use portcullis_runtime::Clock;
use tokio::sync::oneshot;

use crate::world::Io;

/// Longest line that a prompt accepts, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// The streams of a run with its verbosity.
pub(crate) struct Console<'a> {
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
    stdin: Option<Box<dyn BufRead + Send>>,
    clock: Clock,
    /// `-v`.
    pub(crate) verbosity: i64,
}

impl<'a> Console<'a> {
    /// Takes over the streams.
    pub(crate) fn new(io: Io<'a>, clock: Clock) -> Self {
        Self { stdout: io.stdout, stderr: io.stderr, stdin: Some(io.stdin), clock, verbosity: 0 }
    }

    /// Writes to stdout and flushes.
    pub(crate) fn data(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.flush()
    }

    /// Writes a line to stderr. A closed stderr is nobody's fault.
    pub(crate) fn say(&mut self, text: &str) {
        let _ = writeln!(self.stderr, "{text}");
        let _ = self.stderr.flush();
    }

    /// Writes to stderr without a line end.
    pub(crate) fn prompt(&mut self, text: &str) {
        let _ = write!(self.stderr, "{text}");
        let _ = self.stderr.flush();
    }

    /// Writes a klog line to stderr when the verbosity is at least `level`. `text` must hold no secret.
    #[track_caller]
    pub(crate) fn log(&mut self, level: i64, text: &str) {
        if self.verbosity < level {
            return;
        }
        let at = Location::caller();
        let file = at.file().rsplit(['/', '\\']).next().unwrap_or_default();
        let now = self.clock.now().rfc3339_micros();
        // "2026-11-23T18:34:19.042233Z" -> "1123 18:34:19.042233"
        let (date, time) = now.split_once('T').unwrap_or_default();
        let day = date.get(5..).unwrap_or_default().replace('-', "");
        let time = time.trim_end_matches('Z');
        let pid = std::process::id();
        let _ = writeln!(self.stderr, "I{day} {time} {pid:7} {file}:{}] {text}", at.line());
    }

    /// Reads one line from standard input without its line end. The reading happens on a thread of its own: dropping
    /// the future gives up waiting, not the thread, which ends with the process.
    pub(crate) async fn read_line(&mut self) -> io::Result<String> {
        let Some(mut stdin) = self.stdin.take() else {
            return Err(io::Error::other("standard input is in use"));
        };
        let (send, receive) = oneshot::channel();
        std::thread::Builder::new().name("prompt".to_owned()).spawn(move || {
            let mut line = Vec::new();
            let read = io::Read::take(&mut stdin, MAX_LINE).read_until(b'\n', &mut line).map(|_| line);
            let _ = send.send((read, stdin));
        })?;
        let (read, stdin) = receive.await.map_err(|_| io::Error::other("the prompt's thread ended"))?;
        self.stdin = Some(stdin);
        let line = read?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}
