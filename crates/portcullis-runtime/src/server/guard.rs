//! Watches over one connection, so that a peer cannot hold it for nothing.
//!
//! [`Activity`] knows what the connection is waiting for; [`GuardedIo`] sits under hyper and, whenever the connection
//! would wait for the peer, also waits for the deadline that the state has:
//! no request yet or a head under way → header timeout; between requests → idle timeout; responses that the peer does
//! not take → write timeout; a handler or a stream of ours at work → none.
//!
//! This stops slow heads (slowloris), silent connections and slow readers. A peer with one live watch keeps its connection;
//! the streams that it leaves stalled beside it are ended one by one ([`super::response`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::limits::ServerLimits;

/// What a connection is doing. All times are milliseconds since its start.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    /// A request head is under way (true from the start), as opposed to: between requests.
    head: AtomicBool,
    /// Since when `head` is what it is.
    since: AtomicU64,
    http2: AtomicBool,
    upgraded: AtomicBool,
    /// Requests whose response has not been taken to its end.
    in_flight: AtomicUsize,
    /// Those of them that wait for us: the handler runs, or the body has nothing to send now.
    ours: AtomicUsize,
    /// When hyper last took something from a response.
    progress: AtomicU64,
    /// Something of an HTTP/1.1 response is on its way to the kernel.
    unsent: AtomicBool,
    /// Who waits until it is there.
    sent: AtomicWaker,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            head: AtomicBool::new(true),
            since: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            ours: AtomicUsize::new(0),
            progress: AtomicU64::new(0),
            unsent: AtomicBool::new(false),
            sent: AtomicWaker::new(),
        })
    }

    /// A request's head has arrived.
    pub(super) fn begin(self: &Arc<Self>, http2: bool) -> InFlight {
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.ours.fetch_add(1, Ordering::AcqRel);
        InFlight { activity: self.clone(), ours: true }
    }

    /// The connection belongs to another protocol from now on, which sets its own limits.
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    /// hyper takes a piece of a response. HTTP/2 limits what is under way itself.
    pub(super) fn takes_piece(&self) {
        self.unsent.store(!self.http2.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Ready when the kernel has what hyper took last, so that a peer that does not read costs one piece.
    pub(super) fn poll_sent(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.unsent.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.sent.register(cx.waker());
        if self.unsent.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(()) }
    }

    fn flushed(&self) {
        if self.unsent.swap(false, Ordering::AcqRel) {
            self.sent.wake();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn received(&self) {
        // HTTP/2 peers send frames that belong to no request; only the idle timeout counts between their requests.
        if self.in_flight.load(Ordering::Acquire) == 0
            && !self.http2.load(Ordering::Relaxed)
            && !self.head.swap(true, Ordering::AcqRel)
        {
            self.since.store(self.now(), Ordering::Release);
        }
    }

    fn deadline(&self, limits: &ServerLimits) -> Option<Instant> {
        let after = |millis: u64, timeout: Duration| (self.start + Duration::from_millis(millis)).checked_add(timeout);
        if self.upgraded.load(Ordering::Acquire) {
            None
        } else if self.in_flight.load(Ordering::Acquire) > 0 {
            if self.ours.load(Ordering::Acquire) > 0 {
                return None;
            }
            after(self.progress.load(Ordering::Acquire), limits.write_timeout)
        } else {
            let timeout = if self.head.load(Ordering::Acquire) { limits.header_timeout } else { limits.idle_timeout };
            after(self.since.load(Ordering::Acquire), timeout)
        }
    }
}

/// One request, from its head to the end of its response.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    ours: bool,
}

impl InFlight {
    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Whether it waits for us now; if not, the peer has taken something.
    pub(super) fn set_ours(&mut self, ours: bool) {
        if ours != self.ours {
            self.ours = ours;
            if ours {
                self.activity.ours.fetch_add(1, Ordering::AcqRel);
            } else {
                self.activity.progress.store(self.activity.now(), Ordering::Release);
                self.activity.ours.fetch_sub(1, Ordering::AcqRel);
            }
        } else if !ours {
            self.activity.progress.store(self.activity.now(), Ordering::Release);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &self.activity;
        if self.ours {
            activity.ours.fetch_sub(1, Ordering::AcqRel);
        }
        activity.since.store(activity.now(), Ordering::Release);
        activity.head.store(false, Ordering::Release);
        activity.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream that fails with `TimedOut` when the connection's deadline passes.
pub(super) struct GuardedIo<S> {
    inner: S,
    activity: Arc<Activity>,
    limits: Arc<ServerLimits>,
    sleep: Pin<Box<Sleep>>,
}

impl<S> GuardedIo<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>, limits: Arc<ServerLimits>) -> Self {
        let sleep = Box::pin(tokio::time::sleep(limits.header_timeout));
        Self { inner, activity, limits, sleep }
    }

    /// Called when the peer makes us wait: ready with an error once the deadline has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let Some(deadline) = self.activity.deadline(&self.limits) else { return Poll::Pending };
            if self.sleep.deadline() != deadline {
                self.sleep.as_mut().reset(deadline);
            }
            ready!(self.sleep.as_mut().poll(cx));
            if self.activity.deadline(&self.limits).is_some_and(|now| now <= deadline) {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer took too long"));
            }
        }
    }

    fn or_deadline<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_deadline(cx).map(Err),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.received();
        }
        // A peer that sends a byte now and then must not keep the connection for ever.
        if polled.is_ready()
            && let Poll::Ready(error) = self.poll_deadline(cx)
        {
            return Poll::Ready(Err(error));
        }
        self.or_deadline(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.or_deadline(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.or_deadline(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        if polled.is_ready() {
            self.activity.flushed();
        }
        self.or_deadline(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.or_deadline(cx, polled)
    }
}
