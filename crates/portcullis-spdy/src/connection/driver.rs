//! What moves the bytes between a session and its transport.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::ConnectionError;
use super::shared::Shared;
use crate::error::SessionError;
use crate::frame::GoAwayStatus;
use crate::session::Event;

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Less room than this, in bytes, and the read buffer is made anew.
const READ_ROOM: usize = 16 * 1024;

/// Rounds of writing and reading before other tasks have a turn.
const ROUNDS: usize = 16;

/// How long the last bytes may take to leave.
const FAREWELL: Duration = Duration::from_secs(10);

/// Moves the bytes of one connection; resolves when it has ended. Nothing happens on the connection unless this is
/// polled. Dropping it ends the connection at once.
#[must_use = "a connection stands still unless its driver is polled"]
pub struct Driver<T> {
    transport: T,
    shared: Arc<Shared>,
    input: BytesMut,
    output: BytesMut,
    unflushed: bool,
    timer: Pin<Box<Sleep>>,
    /// The timer is set.
    armed: bool,
    /// The session is over; what is left is to say so.
    ending: Option<Result<(), ConnectionError>>,
    /// The timer is set for that.
    farewell: bool,
    /// The peer said GOAWAY.
    gone: Option<GoAwayStatus>,
}

impl<T> Driver<T> {
    pub(super) fn new(transport: T, shared: Arc<Shared>) -> Self {
        Self {
            transport,
            shared,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: false,
            ending: None,
            farewell: false,
            gone: None,
        }
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.shared.end(Err(ConnectionError::Dropped));
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = Result<(), ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let result = ready!(this.run(cx));
        this.shared.end(result.clone());
        Poll::Ready(result)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        // Before anything is looked at, so that no change after the look is missed.
        self.shared.lock().driver = Some(cx.waker().clone());
        for _ in 0..ROUNDS {
            if self.ending.is_none() {
                self.tick(cx);
                self.finish_if_done();
            }
            if self.ending.is_some() {
                return self.end(cx);
            }
            let wrote = self.write(cx);
            let read = if self.ending.is_none() { self.read(cx) } else { Poll::Ready(()) };
            if wrote.is_pending() && read.is_pending() && self.ending.is_none() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what there is. Ready when something was written, or the transport failed.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = Poll::Pending;
        loop {
            if self.output.is_empty() {
                let mut state = self.shared.lock();
                state.session.take_output(Instant::now().into_std(), &mut self.output);
                if state.wake_writers() {
                    cx.waker().wake_by_ref();
                }
            }
            match self.flush(cx) {
                Poll::Ready(Ok(0)) | Poll::Pending => return progress,
                Poll::Ready(Ok(_)) => progress = Poll::Ready(()),
                Poll::Ready(Err(error)) => {
                    self.ending = Some(self.end_of_transport(error));
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Moves the output to the transport: how many bytes, 0 when there were none.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.output.is_empty() {
            if self.unflushed {
                ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
                self.unflushed = false;
            }
            return Poll::Ready(Ok(0));
        }
        let written = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.output))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.output.advance(written);
        self.unflushed = true;
        Poll::Ready(Ok(written))
    }

    /// Handles what was read and reads more. Ready when something happened.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Err(error) = self.receive() {
            self.ending = Some(Err(error.into()));
            return Poll::Ready(());
        }
        if !self.shared.lock().session.wants_input() {
            return Poll::Pending;
        }
        if self.input.capacity() - self.input.len() < READ_ROOM {
            self.input.reserve(READ);
        }
        match pin!(self.transport.read_buf(&mut self.input)).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.ending = Some(self.end_of_input());
                Poll::Ready(())
            }
            Poll::Ready(Ok(_)) => {
                if let Err(error) = self.receive() {
                    self.ending = Some(Err(error.into()));
                }
                Poll::Ready(())
            }
            Poll::Ready(Err(error)) => {
                self.ending = Some(self.end_of_transport(error));
                Poll::Ready(())
            }
        }
    }

    /// Hands what was read to the session, and its events to those who wait for them.
    fn receive(&mut self) -> Result<(), SessionError> {
        let now = Instant::now().into_std();
        let mut state = self.shared.lock();
        while let Some(event) = state.session.receive(now, &mut self.input)? {
            if let Event::GoAway { status } = event {
                self.gone = Some(status);
            }
            if state.handle(event) {
                self.shared.arrivals.notify_one();
            }
        }
        Ok(())
    }

    /// The peer sends nothing more: as it should be when no stream was open.
    fn end_of_input(&self) -> Result<(), ConnectionError> {
        match self.gone {
            Some(status) if status != GoAwayStatus::OK => Err(ConnectionError::GoneAway(status)),
            _ if self.shared.lock().session.open_streams() > 0 => Err(ConnectionError::Truncated),
            _ => Ok(()),
        }
    }

    /// The transport failed. A peer that closes at once meets what we still send, and that is no failure when no stream
    /// was open.
    fn end_of_transport(&self, error: io::Error) -> Result<(), ConnectionError> {
        let closed = matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::UnexpectedEof
        );
        if closed && self.shared.lock().session.open_streams() == 0 {
            return self.end_of_input();
        }
        Err(ConnectionError::Transport(Arc::new(error)))
    }

    /// Sets the timer, and applies the limits that it stands for.
    fn tick(&mut self, cx: &mut Context<'_>) {
        loop {
            let mut state = self.shared.lock();
            let Some(deadline) = state.session.deadline().map(Instant::from_std) else {
                self.armed = false;
                return;
            };
            // A deadline that only moves back is left alone until the timer has run out: it moves with every frame.
            if !self.armed || deadline < self.timer.deadline() {
                self.timer.as_mut().reset(deadline);
                self.armed = true;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.armed = false;
            if let Err(error) = state.session.tick(Instant::now().into_std()) {
                drop(state);
                self.ending = Some(Err(error.into()));
                return;
            }
            drop(state);
            if let Err(error) = self.receive() {
                self.ending = Some(Err(error.into()));
                return;
            }
        }
    }

    /// Says goodbye when the connection is to close and all its streams have.
    fn finish_if_done(&mut self) {
        let mut state = self.shared.lock();
        if state.closing && state.session.open_streams() == 0 {
            state.session.go_away(GoAwayStatus::OK);
            self.ending = Some(Ok(()));
        }
    }

    /// Writes what is left, closes the transport, and ends.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let result = self.ending.clone().unwrap_or(Ok(()));
        if matches!(result, Err(ConnectionError::Transport(_))) {
            return Poll::Ready(result);
        }
        // The timer serves the farewell now; a session that has ended needs it no more.
        if !self.farewell {
            self.farewell = true;
            self.timer.as_mut().reset(Instant::now() + FAREWELL);
        }
        loop {
            if self.output.is_empty() {
                self.shared.lock().session.take_output(Instant::now().into_std(), &mut self.output);
            }
            match self.flush(cx) {
                Poll::Ready(Ok(0)) => match Pin::new(&mut self.transport).poll_shutdown(cx) {
                    Poll::Pending => break,
                    Poll::Ready(_) => return Poll::Ready(result),
                },
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(result),
                Poll::Pending => break,
            }
        }
        self.timer.as_mut().poll(cx).map(|()| result)
    }
}
