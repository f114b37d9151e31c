//! Bytes in binary messages, as something to read from and write to.
//!
//! Compat: what `TunnelingConnection` of `k8s.io/client-go` v0.37.2 (tools/portforward) is to kubectl. Message borders mean
//! nothing: `spdystream` writes each field of a frame as a message of its own.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Limits;
use super::close::CloseCode;
use super::codec::{Codec, Event, Kind, WebSocketError};
use super::mask::MaskKeys;

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Less room than this, in bytes, and the read buffer is made anew.
const READ_ROOM: usize = 16 * 1024;

/// Longest message that is written, in bytes.
const MESSAGE: usize = 64 * 1024;

/// A WebSocket connection, after its handshake, as a stream of bytes.
///
/// Reading ends when the peer closes with code 1000, and fails when it closes with another or not at all; text is refused
/// with 1003. Shutting down sends a close with 1000. Writers must flush. [`Limits::idle`] does not apply: what runs
/// through the tunnel has its own.
pub struct Tunnel<T> {
    transport: T,
    codec: Codec,
    input: BytesMut,
    /// What of the last piece was not read.
    piece: Bytes,
    end: Option<End>,
    /// The writer, while it waits for the transport.
    writer: Option<Waker>,
    /// The reader, while it waits for the output to leave.
    reader: Option<Waker>,
}

/// How the peer has ended.
#[derive(Clone, Copy)]
enum End {
    Normal,
    Closed(Option<CloseCode>),
    Failed(WebSocketError),
}

impl<T> Tunnel<T> {
    /// The server's end.
    pub fn server(transport: T, limits: Limits) -> Self {
        Self::new(transport, Codec::server(limits, Instant::now().into_std()))
    }

    /// The client's end.
    pub fn client(transport: T, keys: MaskKeys, limits: Limits) -> Self {
        Self::new(transport, Codec::client(keys, limits, Instant::now().into_std()))
    }

    fn new(transport: T, codec: Codec) -> Self {
        Self { transport, codec, input: BytesMut::new(), piece: Bytes::new(), end: None, writer: None, reader: None }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Tunnel<T> {
    /// Copies what has arrived into `buf`.
    fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let now = Instant::now().into_std();
        loop {
            let length = self.piece.len().min(buf.remaining());
            buf.put_slice(&self.piece.split_to(length));
            if buf.remaining() == 0 || self.end.is_some() {
                return;
            }
            match self.codec.receive(now, &mut self.input) {
                Ok(Some(Event::Data { kind: Kind::Binary, payload, .. })) => self.piece = payload,
                Ok(Some(Event::Data { kind: Kind::Text, .. })) => {
                    self.end = Some(End::Failed(self.codec.fail(WebSocketError::Unsupported)));
                }
                Ok(Some(Event::Close { close })) => {
                    let code = close.map(|close| close.code);
                    self.end = Some(if code == Some(CloseCode::NORMAL) { End::Normal } else { End::Closed(code) });
                }
                Ok(Some(Event::Pong { .. })) => {}
                Ok(None) => return,
                Err(error) => self.end = Some(End::Failed(error)),
            }
        }
    }

    /// Moves the codec's output to the transport.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.codec.output().is_empty() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, self.codec.output()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.codec.output().advance(written);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The same for a writer, whose turn at the transport the reader must not take.
    fn drain_as_writer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.drain(cx);
        self.writer = drained.is_pending().then(|| cx.waker().clone());
        drained
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        loop {
            this.take(buf);
            // Pongs and the answer to a close leave with the reader, unless a writer is at it.
            if this.writer.is_none()
                && let Poll::Ready(Err(error)) = this.drain(cx)
                && buf.filled().len() == before
            {
                return Poll::Ready(Err(error));
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            match this.end {
                Some(End::Normal) => return Poll::Ready(Ok(())),
                Some(End::Closed(code)) => {
                    let code = code.map_or_else(|| "no code".to_owned(), |code| format!("code {code}"));
                    let text = format!("the peer closed the WebSocket with {code}");
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, text)));
                }
                Some(End::Failed(error)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                None => {}
            }
            if !this.codec.wants_input() {
                this.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if this.input.capacity() - this.input.len() < READ_ROOM {
                this.input.reserve(READ);
            }
            if ready!(pin!(this.transport.read_buf(&mut this.input)).poll(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.drain_as_writer(cx))?;
        if this.codec.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let payload = buf.get(..buf.len().min(MESSAGE)).unwrap_or_default();
        if payload.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(header) = this.codec.message_header(payload.len()) else {
            this.codec.send(Kind::Binary, payload).map_err(io::Error::other)?;
            // What does not leave now leaves when the writer flushes or goes on.
            if let Poll::Ready(Err(error)) = this.drain(cx) {
                return Poll::Ready(Err(error));
            }
            return Poll::Ready(Ok(payload.len()));
        };
        // The server's payload is not changed, so it goes to the transport as it is; only what the transport leaves of
        // a message that it began is copied.
        let both = [IoSlice::new(&header), IoSlice::new(payload)];
        let written = match Pin::new(&mut this.transport).poll_write_vectored(cx, &both) {
            Poll::Pending => {
                this.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(written) => written?,
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_payload = written.saturating_sub(header.len());
        this.codec.output().extend_from_slice(header.get(written..).unwrap_or_default());
        this.codec.output().extend_from_slice(payload.get(of_payload..).unwrap_or_default());
        Poll::Ready(Ok(payload.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.drain_as_writer(cx))?;
        Pin::new(&mut this.transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.codec.close(CloseCode::NORMAL, "");
        ready!(this.drain_as_writer(cx))?;
        Pin::new(&mut this.transport).poll_shutdown(cx)
    }
}
