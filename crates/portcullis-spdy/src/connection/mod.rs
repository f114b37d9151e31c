//! A [`Session`] on a transport of tokio's: [`connect`] gives a [`Connection`] to open and accept streams with, and a
//! [`Driver`] that moves the bytes and has to be polled, as a task of its own as a rule.
//!
//! The flow: the driver reads the transport and puts what arrives into the streams' queues; a [`Stream`] takes it from
//! there, and writes straight into the session's output, which the driver writes to the transport. All of them share
//! the session under one lock, which is held for a copy at most and never across an await.
//!
//! What it must never do: buffer beyond the session's [limits](crate::Limits); lose what a stream has written before it
//! was shut down; wake nobody when it ends.

mod driver;
mod shared;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Role;
use crate::error::SessionError;
use crate::frame::{GoAwayStatus, ResetStatus, StreamId};
use crate::headers::Headers;
use crate::limits::Config;
use crate::session::{StreamError, StreamOptions};

pub use driver::Driver;
pub use stream::Stream;

use shared::{Arrival, Shared};

/// Starts a session on a transport that has been handed over (after the HTTP upgrade).
///
/// Must be called within a tokio runtime with timers, and so must the driver be polled.
pub fn connect<T>(transport: T, role: Role, config: &Config) -> (Connection, Driver<T>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Arc::new(Shared::new(role, config, Instant::now().into_std()));
    let connection = Connection { handle: Arc::new(Handle { shared: Arc::clone(&shared) }) };
    (connection, Driver::new(transport, shared))
}

/// Why a connection ended before its time.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The transport failed.
    #[error("the transport failed: {0}")]
    Transport(#[source] Arc<io::Error>),
    /// The peer broke the protocol or a limit.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The peer ended the session for an error that it saw.
    #[error("the peer ended the session: {0}")]
    GoneAway(GoAwayStatus),
    /// The transport ended while streams were open.
    #[error("the peer closed the transport while streams were open")]
    Truncated,
    /// The driver was dropped.
    #[error("the connection was given up")]
    Dropped,
}

/// Why no stream could be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The session does not allow it now.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed(#[source] Option<ConnectionError>),
}

/// A handle to a connection, cheap to clone. When the last one is gone, the connection closes as by
/// [`Connection::close`].
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

impl Connection {
    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// The next stream that the peer opens; `None` when the connection has ended or is closing. Cancel safe.
    pub async fn accept(&self) -> Option<Incoming> {
        let shared = self.shared();
        loop {
            let mut arrived = std::pin::pin!(shared.arrivals.notified());
            arrived.as_mut().enable();
            {
                let mut state = shared.lock();
                if let Some(arrival) = state.arrivals.pop_front() {
                    if !state.arrivals.is_empty() {
                        shared.arrivals.notify_one();
                    }
                    return Some(Incoming { stream: Some(Stream::new(Arc::clone(shared), arrival.id)), arrival });
                }
                if state.closing || state.ended.is_some() {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Opens a stream and waits until the peer has accepted it, because `spdystream` drops what arrives before. Dropping
    /// the future resets the stream.
    ///
    /// # Errors
    /// The peer refused the stream or allows no more, or the connection is ending.
    pub async fn open(&self, headers: Headers, options: StreamOptions) -> Result<Stream, OpenError> {
        let shared = self.shared();
        let id = {
            let mut state = shared.lock();
            if let Some(ended) = &state.ended {
                return Err(OpenError::Closed(ended.clone().err()));
            }
            if state.closing {
                return Err(StreamError::Ending.into());
            }
            state.open(headers, options)?
        };
        let mut stream = Stream::new(Arc::clone(shared), id);
        stream.replied().await?;
        Ok(stream)
    }

    /// Asks the peer for a sign of life and says how long it took. `None` when the connection ended first, or eight
    /// such questions are unanswered.
    pub async fn ping(&self) -> Option<Duration> {
        let start = Instant::now();
        let answer = {
            let mut state = self.shared().lock();
            if state.ended.is_some() {
                return None;
            }
            let id = state.session.ping()?;
            let (sender, answer) = oneshot::channel();
            state.pings.push((id, sender));
            state.wake_driver();
            answer
        };
        answer.await.ok()?;
        Some(start.elapsed())
    }

    /// Closes the connection: new streams are refused, open ones may finish, then the peer is told and the transport
    /// closed. Returns when the driver has ended.
    ///
    /// # Errors
    /// Why the connection ended otherwise.
    pub async fn close(&self) -> Result<(), ConnectionError> {
        self.shared().begin_close();
        self.closed().await
    }

    /// Waits until the driver has ended.
    ///
    /// # Errors
    /// Why, if it was before its time.
    pub async fn closed(&self) -> Result<(), ConnectionError> {
        let shared = self.shared();
        loop {
            let mut ended = std::pin::pin!(shared.end.notified());
            ended.as_mut().enable();
            if let Some(result) = &shared.lock().ended {
                return result.clone();
            }
            ended.await;
        }
    }

    /// Bytes that arrived and were not read yet, over all streams: what the peer makes this connection hold.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.shared().lock().session.buffered()
    }
}

/// A stream that the peer has opened and that waits for an answer. Dropped without one, it is refused.
pub struct Incoming {
    arrival: Arrival,
    stream: Option<Stream>,
}

impl Incoming {
    /// The stream's number.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.arrival.id
    }

    /// What the stream is for.
    #[must_use]
    pub const fn headers(&self) -> &Headers {
        &self.arrival.headers
    }

    /// How it was opened.
    #[must_use]
    pub const fn options(&self) -> StreamOptions {
        self.arrival.options
    }

    /// Accepts the stream. The stream keeps the headers it was opened with.
    ///
    /// A stream that allows no answer (unidirectional) is accepted without one.
    ///
    /// # Errors
    /// The stream has been reset, or the connection has ended.
    pub fn accept(mut self, reply: Headers) -> io::Result<Stream> {
        let Some(mut stream) = self.stream.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        stream.accept(reply, self.arrival.options.unidirectional)?;
        stream.set_headers(std::mem::take(&mut self.arrival.headers));
        Ok(stream)
    }

    /// Ends the stream at once. `spdystream`'s own refusal is `REFUSED_STREAM`; Kubernetes' is `CANCEL`.
    pub fn refuse(mut self, status: ResetStatus) {
        if let Some(stream) = self.stream.take() {
            stream.reset(status);
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.reset(ResetStatus::REFUSED_STREAM);
        }
    }
}
