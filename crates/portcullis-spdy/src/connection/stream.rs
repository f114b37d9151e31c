//! One stream, as something to read from and write to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::{Found, Shared};
use super::{ConnectionError, OpenError};
use crate::frame::{ResetStatus, StreamId};
use crate::headers::Headers;
use crate::session::StreamError;

/// One stream of a connection.
///
/// Reading ends when the peer has closed its direction, and fails when the stream was reset or the connection ended
/// before that; what arrived earlier is read first. Shutting down closes our direction only (a half close). What was
/// written is on its way at once; flushing has nothing to do.
///
/// Dropping a stream that is not closed in both directions resets it with `CANCEL`: shut it down, and read it to its end,
/// or the peer may lose what was written.
pub struct Stream {
    shared: Arc<Shared>,
    id: StreamId,
    headers: Headers,
}

impl Stream {
    pub(super) const fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self { shared, id, headers: Headers::new() }
    }

    /// The stream's number.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.id
    }

    /// The headers that the peer gave: those it opened the stream with, or those of its reply.
    #[must_use]
    pub const fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Ends the stream at once, in both directions.
    pub fn reset(self, status: ResetStatus) {
        self.shared.lock().session.reset(self.id, status);
        // Dropping it wakes the driver.
    }

    pub(super) fn set_headers(&mut self, headers: Headers) {
        self.headers = headers;
    }

    pub(super) fn accept(&self, reply: Headers, unidirectional: bool) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.check(self.id)?;
        if !unidirectional {
            state.session.reply(self.id, reply, false).map_err(to_io)?;
        }
        state.wake_driver();
        Ok(())
    }

    /// Waits until the peer has accepted the stream.
    pub(super) async fn replied(&mut self) -> Result<(), OpenError> {
        let headers = std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            let failed = state.check(self.id);
            let Some(slot) = state.slots.get_mut(&self.id) else {
                return Poll::Ready(Err(StreamError::Unknown.into()));
            };
            if let Some(headers) = slot.reply.take() {
                return Poll::Ready(Ok::<_, OpenError>(headers));
            }
            failed?;
            slot.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await?;
        self.headers = headers;
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.lock().release(self.id);
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.shared.lock();
        match state.read(self.id, buf)? {
            Found::Data | Found::End => Poll::Ready(Ok(())),
            Found::Nothing => {
                if let Some(slot) = state.slots.get_mut(&self.id) {
                    slot.reader = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        state.check(self.id)?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = state.session.send(self.id, buf, false).map_err(to_io)?;
        if written > 0 {
            state.wake_driver();
            return Poll::Ready(Ok(written));
        }
        let full = state.session.output_full();
        if let Some(slot) = state.slots.get_mut(&self.id) {
            slot.writer = Some(cx.waker().clone());
            if full && !slot.waits {
                slot.waits = true;
                state.writers.push_back(self.id);
            }
        }
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        match state.session.send(self.id, &[], true) {
            Ok(_) => {
                state.wake_driver();
                Poll::Ready(state.check(self.id).map_err(Into::into))
            }
            Err(StreamError::Closed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(to_io(error))),
        }
    }
}

fn to_io(error: StreamError) -> io::Error {
    let kind = match error {
        StreamError::Closed => io::ErrorKind::BrokenPipe,
        StreamError::Reset(_) => io::ErrorKind::ConnectionReset,
        StreamError::Ending => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl From<ConnectionError> for io::Error {
    fn from(error: ConnectionError) -> Self {
        Self::new(io::ErrorKind::ConnectionAborted, error)
    }
}
