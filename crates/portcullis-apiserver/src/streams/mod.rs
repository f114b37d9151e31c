//! Connections that have left HTTP: port-forwards, and the one command that parts understand.
//!
//! Flow: a handler decides, `negotiate` finds out which framing the client asks for, a [`Session`] goes with the 101 → the
//! listener hands the connection over → the session runs until its peer, its part or the server ends. What is framed how is
//! `portcullis-spdy`'s; here it is decided what the streams lead to.
//!
//! It must never reach a socket that no part declares, hold more than [`StreamLimits`] allow, or outlive the server.

pub(crate) mod channels;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod negotiate;
pub(crate) mod old_port_forward;
pub(crate) mod port_forward;
pub(crate) mod sockets;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use portcullis_kube::Status;
use portcullis_runtime::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::Outcome;

/// How long a session may take to end once the server stops.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// What clients may make the server hold for connections that have left HTTP.
#[derive(Debug, Clone)]
pub struct StreamLimits {
    /// Such connections at a time; one more is refused with 429. Default 64.
    pub sessions: usize,
    /// Connections to parts that one session has at a time; one more is refused on its error stream. Default 128.
    pub forwards_per_session: usize,
    /// Connections to parts, over all sessions. Default 512.
    pub forwards: usize,
    /// Requests that follow a log, at a time; one more is refused with 429. Default 128.
    pub followers: usize,
    /// Bytes of one stream that have arrived and were not passed on yet; beyond, the client is not read. Default 128 KiB.
    pub stream_buffer: usize,
    /// Likewise for a session. Default 512 KiB.
    pub session_buffer: usize,
    /// Without a byte for this long, a session ends. Default 4 h, the kubelet's.
    pub idle: Duration,
    /// For the second stream of a pair to be opened. Default 30 s, the kubelet's.
    pub pairing: Duration,
    /// How long a stream that its part does not read may keep the session's other streams waiting before it is reset.
    /// Default 30 s.
    pub stall: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            sessions: 64,
            forwards_per_session: 128,
            forwards: 512,
            followers: 128,
            stream_buffer: 128 * 1024,
            session_buffer: 512 * 1024,
            idle: Duration::from_secs(4 * 60 * 60),
            pairing: Duration::from_secs(30),
            stall: Duration::from_secs(30),
        }
    }
}

/// A connection's bytes.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// What runs on a connection once its 101 has been sent, until the server stops.
pub(crate) type Session =
    Box<dyn FnOnce(Box<dyn Transport>, Shutdown) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// All sessions of a server.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) limits: StreamLimits,
    sessions: Arc<Semaphore>,
    forwards: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

/// A session's place among those that may be open. Kept as long as the session runs.
#[derive(Debug)]
pub(crate) struct Seat(#[expect(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit);

impl Streams {
    pub(crate) fn new(limits: StreamLimits) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let (sessions, forwards) = (semaphore(limits.sessions), semaphore(limits.forwards));
        Self { sessions, forwards, followers: semaphore(limits.followers), limits }
    }

    /// Takes a place, or says that there is none.
    pub(crate) fn seat(&self) -> Outcome<Seat> {
        let free = Arc::clone(&self.sessions).try_acquire_owned();
        free.map(Seat).map_err(|_| {
            let most = self.limits.sessions;
            Box::new(Status::too_many_requests(format!("{most} streaming connections are open, which is the most"), 1))
        })
    }

    /// Takes a place among those that follow a log.
    pub(crate) fn follower(&self) -> Outcome<OwnedSemaphorePermit> {
        Arc::clone(&self.followers).try_acquire_owned().map_err(|_| {
            let most = self.limits.followers;
            Box::new(Status::too_many_requests(format!("{most} logs are followed, which is the most"), 1))
        })
    }

    /// The places of connections to parts.
    pub(crate) fn forwards(&self) -> Arc<Semaphore> {
        Arc::clone(&self.forwards)
    }

    /// Waits until every session has ended, after the server was told to stop.
    pub(crate) async fn ended(&self) {
        let all = u32::try_from(self.limits.sessions.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        // A session that does not end in time is given up by the runtime's end.
        let _ended = tokio::time::timeout(2 * FAREWELL, self.sessions.acquire_many(all)).await;
    }
}
