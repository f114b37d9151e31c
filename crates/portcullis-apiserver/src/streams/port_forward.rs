//! A port-forward over SPDY/3.1, plain or in a WebSocket tunnel: streams come in pairs, an error stream and a data stream,
//! which share a request's number; each pair is a connection to a port of the pod.
//!
//! Compat: `cri-streaming/pkg/streaming/portforward/httpstream.go` of Kubernetes 1.37, which a kubelet and the container
//! runtimes run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_runtime::Shutdown;
use portcullis_spdy::frame::ResetStatus;
use portcullis_spdy::{Config, Connection, Headers, Incoming, Limits, Role, Stream, connect};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::forward::{finish, forward};
use super::sockets::Sockets;
use super::{FAREWELL, StreamLimits};

/// The stream protocol's name.
pub(crate) const PROTOCOL: &str = "portforward.k8s.io";
/// Longest header block of a stream: three short headers.
const HEADER_BLOCK: usize = 4 * 1024;
/// Most headers of a stream.
const HEADERS: usize = 32;

/// Serves a port-forward until the client, its part or the server ends.
pub(crate) async fn serve<T>(transport: T, sockets: Sockets, limits: &StreamLimits, over: &Shutdown, stop: &Shutdown)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (connection, driver) = connect(transport, Role::Server, &config(limits));
    let mut driver = std::pin::pin!(driver);
    let mut pairs = Pairs { waiting: HashMap::new(), running: JoinSet::new(), sockets: Arc::new(sockets), limits };
    let ended = async {
        tokio::select! {
            () = over.triggered() => {}
            () = stop.triggered() => {}
        }
    };
    let mut ended = std::pin::pin!(ended);
    loop {
        let next_timeout = pairs.next_timeout();
        tokio::select! {
            result = &mut driver => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a port-forward ended");
                }
                return;
            }
            () = &mut ended => break,
            Some(incoming) = connection.accept() => pairs.add(incoming),
            Some(_) = pairs.running.join_next() => {}
            () = tokio::time::sleep_until(next_timeout) => pairs.give_up(),
        }
    }
    // The streams are dropped, and so reset, before the connection is closed.
    drop(pairs);
    farewell(&connection, driver).await;
}

async fn farewell(connection: &Connection, driver: impl Future) {
    let closed = async { tokio::join!(connection.close(), driver) };
    let _closed = tokio::time::timeout(FAREWELL, closed).await;
}

fn config(limits: &StreamLimits) -> Config {
    let limits = Limits {
        compressed_block: HEADER_BLOCK,
        header_block: HEADER_BLOCK,
        headers: HEADERS,
        streams: limits.forwards_per_session.saturating_mul(2),
        stream_buffer: limits.stream_buffer,
        connection_buffer: limits.session_buffer,
        idle: Some(limits.idle),
        stall: Some(limits.stall),
        ..Limits::default()
    };
    Config { limits, ..Config::default() }
}

/// The streams of a session, until two of them make a pair.
struct Pairs<'a> {
    /// By the request's number.
    waiting: HashMap<String, Waiting>,
    running: JoinSet<()>,
    sockets: Arc<Sockets>,
    limits: &'a StreamLimits,
}

/// Half of a pair.
struct Waiting {
    half: Half,
    stream: Stream,
    until: Instant,
}

/// Which stream of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Error,
    Data,
}

impl Half {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Data => "data",
        }
    }
}

/// What a stream's headers say.
#[derive(Debug, PartialEq, Eq)]
struct Opening {
    half: Half,
    port: u16,
    request: String,
}

impl Opening {
    /// Compat: a stream without a request's number is from an old client, whose error stream goes just before its data.
    fn read(headers: &Headers, id: u32) -> Result<Self, &'static str> {
        let port = headers.get("port").unwrap_or_default();
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or("the header port must be a port")?;
        let half = match headers.get("streamtype") {
            Some("error") => Half::Error,
            Some("data") => Half::Data,
            _ => return Err("the header streamType must be error or data"),
        };
        let request = match headers.get("requestid").unwrap_or_default() {
            "" if half == Half::Error => id.to_string(),
            "" => id.saturating_sub(2).to_string(),
            given => given.to_owned(),
        };
        Ok(Self { half, port, request })
    }
}

impl Pairs<'_> {
    fn add(&mut self, incoming: Incoming) {
        let Opening { half, port, request } = match Opening::read(incoming.headers(), incoming.id().get()) {
            Ok(opening) => opening,
            Err(why) => {
                tracing::debug!(why, "a stream was refused");
                return incoming.refuse(ResetStatus::CANCEL);
            }
        };
        // A stream that is gone again needs no answer.
        let Ok(stream) = incoming.accept(Headers::new()) else { return };
        let (data, error) = match (self.waiting.remove(&request), half) {
            (None, half) => {
                let until = Instant::now() + self.limits.pairing;
                self.waiting.insert(request, Waiting { half, stream, until });
                return;
            }
            (Some(Waiting { half: Half::Error, stream: error, .. }), Half::Data) => (stream, error),
            (Some(Waiting { half: Half::Data, stream: data, .. }), Half::Error) => (data, stream),
            (Some(there), half) => {
                let why =
                    format!("error processing stream for request {request}: {} stream already assigned", half.name());
                return self.refuse(there, why);
            }
        };
        let sockets = Arc::clone(&self.sockets);
        self.running.spawn(async move { forward(data, error, port, &sockets).await });
    }

    /// Ends a stream that stays alone; its client is told where there is an error stream.
    fn refuse(&mut self, alone: Waiting, why: String) {
        tracing::debug!(why, "a stream stays alone");
        if alone.half == Half::Error {
            self.running.spawn(async move { finish(alone.stream, &why).await });
        }
    }

    /// When the next stream has waited long enough; far away when none waits.
    fn next_timeout(&self) -> Instant {
        let next = self.waiting.values().map(|waiting| waiting.until).min();
        next.unwrap_or_else(|| Instant::now() + Duration::from_secs(24 * 60 * 60))
    }

    fn give_up(&mut self) {
        let now = Instant::now();
        let late: Vec<String> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.until <= now)
            .map(|(request, _)| request.clone())
            .collect();
        for request in late {
            if let Some(waiting) = self.waiting.remove(&request) {
                self.refuse(waiting, format!("(request={request}) timed out waiting for streams"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_say_what_a_stream_is_for() {
        let headers = |list: &[(&str, &'static str)]| {
            list.iter().fold(Headers::new(), |headers, (name, value)| headers.with(name, *value).unwrap())
        };
        let read = |list: &[(&str, &'static str)]| Opening::read(&headers(list), 7);
        let opening = |half, request: &str| Ok(Opening { half, port: 80, request: request.to_owned() });
        let port = ("Port", "80");
        assert_eq!(read(&[port, ("streamType", "error"), ("requestID", "5")]), opening(Half::Error, "5"));
        assert_eq!(read(&[port, ("streamType", "data"), ("requestID", "5")]), opening(Half::Data, "5"));
        assert_eq!(read(&[port, ("streamType", "error")]), opening(Half::Error, "7"));
        assert_eq!(read(&[port, ("streamType", "data")]), opening(Half::Data, "5"));
        for bad in [
            &[("streamType", "data")][..],
            &[port],
            &[port, ("streamType", "stdin")],
            &[("port", "0"), ("streamType", "data")],
            &[("port", "65536"), ("streamType", "data")],
            &[("port", "-1"), ("streamType", "data")],
            &[("port", ""), ("streamType", "data")],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
