//! Bodies: prepared, empty, streamed; and reading a request's with a limit.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body::{Body as _, Frame};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;

use crate::Shutdown;

/// A response body.
pub type Body = BoxBody<Bytes, io::Error>;

/// A request body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed: 413.
    #[error("the request body is too large")]
    TooLarge,
    /// It did not arrive in time: 408.
    #[error("the request body did not arrive in time")]
    Timeout,
    /// The connection broke, or it is malformed: 400.
    #[error("the request body is broken")]
    Broken,
}

/// A body that is there already.
pub fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed()
}

/// No body.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body that comes piece by piece, such as a watch. Each piece is sent as it comes; an error ends the connection.
pub fn stream<S>(pieces: S) -> Body
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    StreamBody(Mutex::new(Box::pin(pieces))).boxed()
}

/// `pieces` until `shutdown`, so that a watch does not hold up the drain.
pub fn until<S>(pieces: S, shutdown: Shutdown) -> impl Stream<Item = S::Item> + Send
where
    S: Stream + Send + 'static,
{
    use futures_util::StreamExt;
    pieces.take_until(async move { shutdown.triggered().await })
}

/// Whether a request body is known to have at most `limit` bytes before it is read: one that is declared, or none.
pub fn fits(body: &Incoming, limit: usize) -> bool {
    body.size_hint().upper().is_some_and(|most| most <= limit as u64)
}

/// What is read of a body that is too large and thrown away, beyond as much as the limit, so that a client that writes
/// first and reads then gets to its answer instead of a broken connection (Go's server does likewise).
const DISCARD_BYTES: usize = 256 * 1024;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Reads a request body of at most `limit` bytes, within `timeout`.
///
/// # Errors
/// See [`BodyError`]. Nothing is kept of a body whose declared length is over the limit.
pub async fn read_body(mut body: Incoming, limit: usize, timeout: Duration) -> Result<Bytes, BodyError> {
    let result = if body.size_hint().lower() > limit as u64 {
        Err(BodyError::TooLarge)
    } else {
        tokio::time::timeout(timeout, collect(&mut body, limit)).await.map_err(|_| BodyError::Timeout)?
    };
    if matches!(result, Err(BodyError::TooLarge)) {
        // The client's fault either way: whether it was still listening does not matter.
        let _cut_off = tokio::time::timeout(DISCARD_TIME.min(timeout), discard(body, limit + DISCARD_BYTES)).await;
    }
    result
}

async fn discard(mut body: Incoming, mut left: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

async fn collect(body: &mut Incoming, limit: usize) -> Result<Bytes, BodyError> {
    // The usual body comes in one piece, which is not copied.
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if first.len() + all.len() + piece.len() > limit {
            return Err(BodyError::TooLarge);
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
            continue;
        }
        if all.is_empty() {
            // What is declared is made room for at once: growing would hold a body twice.
            let more = usize::try_from(body.size_hint().lower()).unwrap_or(limit).min(limit);
            all.reserve((first.len() + piece.len() + more).min(limit));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// The mutex is never locked: it makes any `Send` stream shareable, as [`BoxBody`] wants.
struct StreamBody(Mutex<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>>);

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let pieces = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        pieces.as_mut().poll_next(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
