//! What a command in a part says, over WebSocket channels or SPDY/3.1 streams.
//!
//! Compat: `client-go/tools/remotecommand` and `cri-streaming/pkg/streaming/remotecommand` of Kubernetes 1.37, protocols
//! version 5 (WebSocket) and 4 (both): a Status object on the error stream tells how the command ended.

use portcullis_kube::Status;
use portcullis_kube::status::{StatusCause, StatusDetails};
use portcullis_runtime::Shutdown;
use portcullis_spdy::frame::ResetStatus;
use portcullis_spdy::websocket::channel;
use portcullis_spdy::{Config, Headers, Limits, Role, Stream, connect};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::channels::{Framing, Message, QUEUE, run};
use super::forward::finish;
use super::{FAREWELL, StreamLimits};
use crate::parts::{PartControl, PartSignal};

/// The stream protocol over SPDY.
pub(crate) const PROTOCOL: &str = "v4.channel.k8s.io";
/// The WebSocket subprotocols, best first.
pub(crate) const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Most streams of a session: one of each kind.
const STREAMS: usize = 5;
/// Longest header block of a stream.
const HEADER_BLOCK: usize = 4 * 1024;

/// Which streams the client opens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

impl Wants {
    fn streams(self) -> usize {
        // The error stream, and with a terminal its sizes instead of an error output.
        let error_output = self.stderr && !self.tty;
        1 + [self.stdin, self.stdout, error_output, self.tty].into_iter().filter(|wanted| *wanted).count()
    }
}

/// What a command says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// On its error output.
    pub(crate) stderr: String,
    /// How it ended, as a Status in JSON.
    pub(crate) status: Vec<u8>,
}

impl Said {
    /// Does what a command asks for, if it is `kill 1`.
    pub(crate) fn of(command: &[String], control: &PartControl) -> Self {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let (program, arguments) = words.split_first().map_or(("", &[][..]), |(program, rest)| (*program, rest));
        if !matches!(program, "kill" | "/bin/kill" | "/usr/bin/kill") {
            return Self::no_program(program);
        }
        match signal(arguments) {
            Ok(signal) if control.signal(signal) => Self { stderr: String::new(), status: success() },
            Ok(_) => Self::failed("kill: (1) - Operation not permitted\n"),
            Err(why) => Self::failed(&why),
        }
    }

    /// Compat: the words of a runtime for a program that an image does not have.
    fn no_program(program: &str) -> Self {
        let why = format!(
            "error executing command in container: exec: {program:?}: executable file not found in $PATH: \
             this container is a part of the Portcullis process, without programs; it understands `kill 1`"
        );
        Self { stderr: String::new(), status: Status::internal_error(&why).to_body() }
    }

    fn failed(stderr: &str) -> Self {
        let mut status = Status::failure(500, "NonZeroExitCode", "command terminated with exit code 1");
        let cause = StatusCause { reason: "ExitCode".to_owned(), message: "1".to_owned(), field: String::new() };
        status.details = Some(Box::new(StatusDetails { causes: vec![cause], ..StatusDetails::default() }));
        Self { stderr: stderr.to_owned(), status: status.to_body() }
    }
}

fn success() -> Vec<u8> {
    br#"{"metadata":{},"status":"Success"}"#.to_vec()
}

/// What `kill` is told.
fn signal(arguments: &[&str]) -> Result<PartSignal, String> {
    let (name, processes) = match arguments {
        ["-s" | "--signal", name, processes @ ..] => (*name, processes),
        ["--", processes @ ..] => ("TERM", processes),
        [name, processes @ ..] if name.starts_with('-') => (name.trim_start_matches('-'), processes),
        processes => ("TERM", processes),
    };
    let name = name.to_ascii_uppercase();
    let signal = match name.strip_prefix("SIG").unwrap_or(&name) {
        "TERM" | "15" | "INT" | "2" => PartSignal::Terminate,
        "KILL" | "9" => PartSignal::Kill,
        other => return Err(format!("kill: {other}: of the signals only TERM, INT and KILL are understood\n")),
    };
    match processes {
        ["1"] => Ok(signal),
        [] => Err("kill: usage: kill [-s signal | -signal] 1\n".to_owned()),
        _ => Err(format!("kill: ({}) - No such process\n", processes.join(" "))),
    }
}

/// Says it over WebSocket channels.
pub(crate) async fn serve_channels<T>(transport: T, said: Said, limits: &StreamLimits, stop: &Shutdown)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (output, outputs) = mpsc::channel(QUEUE);
    let framing = Framing { base64: false, idle: limits.idle };
    let saying = async move {
        let error = (!said.stderr.is_empty()).then_some((channel::STDERR, said.stderr.into_bytes()));
        for (channel, payload) in error.into_iter().chain([(channel::ERROR, said.status)]) {
            // A client that has gone need not be told.
            let _gone = output.send(Message { channel, payload: payload.into() }).await;
        }
    };
    let both = async { tokio::join!(run(transport, framing, Vec::new(), outputs), saying) };
    stop.unless(both).await;
}

/// Says it over SPDY streams, once the client has opened those that it wants.
pub(crate) async fn serve_spdy<T>(transport: T, wants: Wants, said: Said, limits: &StreamLimits, stop: &Shutdown)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let limits = Limits {
        compressed_block: HEADER_BLOCK,
        header_block: HEADER_BLOCK,
        streams: STREAMS,
        stream_buffer: limits.stream_buffer,
        connection_buffer: limits.session_buffer,
        idle: Some(limits.pairing),
        ..Limits::default()
    };
    let (connection, driver) = connect(transport, Role::Server, &Config { limits, ..Config::default() });
    let serving = async {
        let mut streams: Vec<Stream> = Vec::new();
        while streams.len() < wants.streams() {
            let Some(incoming) = connection.accept().await else { return };
            let known = |kind: &str| ["error", "stdin", "stdout", "stderr", "resize"].contains(&kind);
            if incoming.headers().get("streamtype").is_some_and(known) {
                streams.extend(incoming.accept(Headers::new()).ok());
            } else {
                incoming.refuse(ResetStatus::CANCEL);
            }
        }
        let mut finishing = JoinSet::new();
        let status = String::from_utf8_lossy(&said.status).into_owned();
        for stream in streams {
            let text = match stream.headers().get("streamtype") {
                Some("error") => status.clone(),
                Some("stderr") => said.stderr.clone(),
                _ => String::new(),
            };
            finishing.spawn(async move { finish(stream, &text).await });
        }
        while finishing.join_next().await.is_some() {}
        let _closed = tokio::time::timeout(FAREWELL, connection.close()).await;
    };
    tokio::select! {
        _ = async { tokio::join!(driver, serving) } => {}
        () = stop.triggered() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str, control: &PartControl) -> (String, String) {
        let command: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let said = Said::of(&command, control);
        (said.stderr, String::from_utf8(said.status).unwrap())
    }

    #[test]
    fn kill_reaches_the_supervisor_and_nothing_else_does() {
        for (line, want) in [
            ("kill 1", PartSignal::Terminate),
            ("/bin/kill -TERM 1", PartSignal::Terminate),
            ("kill -s SIGINT 1", PartSignal::Terminate),
            ("kill -- 1", PartSignal::Terminate),
            ("kill -9 1", PartSignal::Kill),
            ("kill -SIGKILL 1", PartSignal::Kill),
        ] {
            let (control, mut signals) = PartControl::new();
            assert_eq!(said(line, &control), (String::new(), r#"{"metadata":{},"status":"Success"}"#.to_owned()));
            assert_eq!(signals.try_recv(), Ok(want), "{line}");
        }
        let (control, mut signals) = PartControl::new();
        for (line, want) in [
            ("kill 2", "kill: (2) - No such process\n"),
            ("kill 1 2", "kill: (1 2) - No such process\n"),
            ("kill", "kill: usage: kill [-s signal | -signal] 1\n"),
            ("kill -HUP 1", "kill: HUP: of the signals only TERM, INT and KILL are understood\n"),
        ] {
            let (stderr, status) = said(line, &control);
            assert_eq!(stderr, want);
            assert!(status.contains("\"reason\":\"NonZeroExitCode\"") && status.contains("exit code 1"), "{status}");
        }
        for line in ["sh", "", "ls -l", "killall 1"] {
            let (_, status) = said(line, &control);
            assert!(status.contains("executable file not found in $PATH"), "{status}");
        }
        assert!(signals.try_recv().is_err());
        assert_eq!(said("kill 1", &PartControl::default()).0, "kill: (1) - Operation not permitted\n");
    }
}
