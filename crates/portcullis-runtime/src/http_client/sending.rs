//! A request's body that tells whether its sending has begun.
//!
//! A server does not carry out a request whose body it does not have. So a request whose time was over before its body was
//! asked for, because no connection could be made, certainly had no effect.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body, in one piece.
pub(super) struct WatchedBody {
    rest: Option<Bytes>,
    begun: Arc<AtomicBool>,
}

impl WatchedBody {
    /// The body, and whether anything of it has been asked for. An empty one is never asked for: it has begun from the start.
    pub(super) fn new(body: Bytes) -> (Self, Arc<AtomicBool>) {
        let begun = Arc::new(AtomicBool::new(body.is_empty()));
        let rest = (!body.is_empty()).then_some(body);
        (Self { rest, begun: Arc::clone(&begun) }, begun)
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.begun.store(true, Ordering::Release);
        Poll::Ready(self.rest.take().map(|rest| Ok(Frame::data(rest))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.as_ref().map_or(0, Bytes::len) as u64)
    }
}
