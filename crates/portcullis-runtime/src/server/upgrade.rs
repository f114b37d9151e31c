//! Connections that leave HTTP/1.1 with a 101 (RFC 9110 section 7.8).
//!
//! Whoever answers 101 takes the [`Upgrade`] out of the request before, and waits for it in a task of its own. From then on
//! the connection counts no more for its listener: its limits, its idle time and its end at shutdown are the new owner's.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handler::Request;

/// A request's connection, once the answer has left.
pub struct Upgrade(OnUpgrade);

impl Upgrade {
    /// Takes it out of a request. It never comes about for a request that did not ask for it, or over HTTP/2.
    pub fn take(request: &mut Request) -> Self {
        Self(hyper::upgrade::on(request))
    }

    /// Waits until the 101 has been sent.
    ///
    /// # Errors
    /// The answer was another, or the connection has broken.
    pub async fn established(self) -> io::Result<Upgraded> {
        self.0.await.map(|upgraded| Upgraded(TokioIo::new(upgraded))).map_err(io::Error::other)
    }
}

/// The bytes of a connection that has left HTTP.
pub struct Upgraded(TokioIo<hyper::upgrade::Upgraded>);

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
