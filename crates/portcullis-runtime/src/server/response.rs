//! Response bodies on their way out: what a peer that does not take them may cost.
//!
//! A large body goes out in copied pieces, so that what waits in a buffer does not hold all of it. Over HTTP/1.1 the next piece
//! is taken when the kernel has the one before. Over HTTP/2 each stream has a task, and [`unless_stalled`] drops it, which
//! resets the stream, when the peer has taken nothing of it for the write timeout: another stream of the connection may be a
//! live watch, for which the connection stays.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
#[cfg(feature = "server")]
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::body::Body;
use super::guard::InFlight;

/// A larger piece of a body is cut.
const LARGE: usize = 64 * 1024;
/// Into pieces of this size: a full TLS record.
const PIECE: usize = 16 * 1024;
/// A stream that waits for us.
const OURS: u64 = u64::MAX;

tokio::task_local! {
    static STREAM: Arc<Progress>;
}

/// Since when an HTTP/2 stream waits for its peer, in milliseconds since its start.
struct Progress {
    start: Instant,
    waits: AtomicU64,
}

impl Progress {
    fn set_ours(&self, ours: bool) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(OURS);
        self.waits.store(if ours { OURS } else { now }, Ordering::Release);
    }

    /// Returns when the peer has taken nothing for `timeout`.
    #[cfg(feature = "server")]
    async fn stalled(&self, timeout: Duration) {
        loop {
            let now = Instant::now();
            let deadline = match self.waits.load(Ordering::Acquire) {
                OURS => now + timeout,
                since => self.start + Duration::from_millis(since) + timeout,
            };
            if deadline <= now {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// Runs an HTTP/2 stream to its end, or until the peer has taken nothing of its response for `timeout`.
#[cfg(feature = "server")]
pub(super) fn unless_stalled<F>(stream: F, timeout: Duration) -> impl Future<Output = ()> + Send
where
    F: Future + Send + 'static,
{
    let progress = Arc::new(Progress { start: Instant::now(), waits: AtomicU64::new(OURS) });
    // On the heap: a future keeps room for everything that is moved through it.
    let mut stream = Box::pin(STREAM.scope(progress.clone(), stream));
    async move {
        tokio::select! {
            _ = stream.as_mut() => {}
            () = progress.stalled(timeout) => tracing::debug!("reset a stream that its peer does not take"),
        }
    }
}

/// A response body that reports whether it waits for us or for the peer.
pub(super) struct GuardedBody {
    inner: Body,
    /// What was cut off a large piece.
    rest: Bytes,
    in_flight: InFlight,
    stream: Option<Arc<Progress>>,
}

impl GuardedBody {
    /// For the stream whose task this runs in, when it is one.
    pub(super) fn new(inner: Body, in_flight: InFlight) -> Self {
        let mut made = Self { inner, rest: Bytes::new(), in_flight, stream: STREAM.try_with(Arc::clone).ok() };
        made.set_ours(false);
        made
    }

    fn set_ours(&mut self, ours: bool) {
        self.in_flight.set_ours(ours);
        if let Some(stream) = &self.stream {
            stream.set_ours(ours);
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) if data.len() > LARGE => self.rest = data,
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        let piece = self.rest.split_to(PIECE.min(self.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&piece)))))
    }
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        // No progress: it waits for the peer as before.
        ready!(self.in_flight.activity().poll_sent(cx));
        let polled = self.poll_piece(cx);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.in_flight.activity().takes_piece();
        }
        self.set_ours(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
