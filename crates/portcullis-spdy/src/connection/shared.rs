//! What the driver, the streams and the handles of a connection share.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::{Notify, oneshot};

use super::{ConnectionError, OpenError};
use crate::Role;
use crate::frame::{ResetStatus, StreamId};
use crate::headers::Headers;
use crate::limits::Config;
use crate::session::{Cause, Event, Session, StreamError, StreamOptions};

/// A piece of data at least this long, in bytes, is kept as it was read; a shorter one is copied, because it would keep
/// the whole read buffer (64 KiB) in memory.
const KEEP: usize = 16 * 1024;

/// Writers that are woken at once when the output has room: as many as fill it.
const WRITERS: usize = 8;

/// One connection.
pub(super) struct Shared {
    state: Mutex<State>,
    /// A stream arrived, or none will any more.
    pub(super) arrivals: Notify,
    /// The driver has ended.
    pub(super) end: Notify,
}

/// A stream that the peer opened and nobody has taken.
pub(super) struct Arrival {
    pub(super) id: StreamId,
    pub(super) headers: Headers,
    pub(super) options: StreamOptions,
}

/// What the lock protects.
pub(super) struct State {
    pub(super) session: Session,
    pub(super) slots: HashMap<StreamId, Slot>,
    pub(super) arrivals: VecDeque<Arrival>,
    pub(super) pings: Vec<(u32, oneshot::Sender<()>)>,
    /// Streams that wait for room in the output, in turn.
    pub(super) writers: VecDeque<StreamId>,
    pub(super) driver: Option<Waker>,
    pub(super) closing: bool,
    pub(super) ended: Option<Result<(), ConnectionError>>,
}

/// A stream's side of the shared state, as long as somebody holds the stream.
#[derive(Default)]
pub(super) struct Slot {
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    /// The peer sends nothing more.
    fin: bool,
    reset: Option<ResetStatus>,
    pub(super) reply: Option<Headers>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// The stream is in `writers`.
    pub(super) waits: bool,
}

/// What a reader finds.
pub(super) enum Found {
    Data,
    End,
    Nothing,
}

/// Why nothing more can happen on a stream.
pub(super) enum Failure {
    Reset(ResetStatus),
    /// The connection has ended.
    Ended(Option<ConnectionError>),
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Reset(status) => Self::new(io::ErrorKind::ConnectionReset, StreamError::Reset(status)),
            Failure::Ended(None) => io::ErrorKind::ConnectionAborted.into(),
            Failure::Ended(Some(error)) => Self::new(io::ErrorKind::ConnectionAborted, error),
        }
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Reset(status) => Self::Stream(StreamError::Reset(status)),
            Failure::Ended(error) => Self::Closed(error),
        }
    }
}

impl Slot {
    fn push(&mut self, payload: Bytes) {
        if payload.len() < KEEP {
            self.tail.extend_from_slice(&payload);
            if self.tail.len() < KEEP {
                return;
            }
        }
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
        if payload.len() >= KEEP {
            self.queue.push_back(payload);
        }
    }

    /// Gives up what has not been read.
    fn discard(&mut self) {
        self.queue.clear();
        self.tail = BytesMut::new();
    }

    /// The front of what has not been read.
    fn front(&self) -> &[u8] {
        match self.queue.front() {
            Some(piece) => piece,
            None => &self.tail,
        }
    }

    fn advance(&mut self, bytes: usize) {
        match self.queue.front_mut() {
            Some(piece) if piece.len() > bytes => piece.advance(bytes),
            Some(_) => {
                self.queue.pop_front();
            }
            None => {
                self.tail.advance(bytes);
                if self.tail.is_empty() {
                    self.tail = BytesMut::new();
                }
            }
        }
    }

    pub(super) fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Shared {
    pub(super) fn new(role: Role, config: &Config, now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                session: Session::new(role, config, now),
                slots: HashMap::new(),
                arrivals: VecDeque::new(),
                pings: Vec::new(),
                writers: VecDeque::new(),
                driver: None,
                closing: false,
                ended: None,
            }),
            arrivals: Notify::new(),
            end: Notify::new(),
        }
    }

    /// The state. Nothing that holds it can leave it half changed, so a poisoned lock is taken as it is.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses new streams and lets the driver end when the open ones have.
    pub(super) fn begin_close(&self) {
        let mut state = self.lock();
        if !state.closing {
            state.closing = true;
            state.session.refuse_streams();
            while let Some(arrival) = state.arrivals.pop_front() {
                state.session.reset(arrival.id, ResetStatus::REFUSED_STREAM);
                state.release(arrival.id);
            }
            state.wake_driver();
        }
        drop(state);
        self.arrivals.notify_waiters();
    }

    /// The driver has ended: everybody hears of it.
    pub(super) fn end(&self, result: Result<(), ConnectionError>) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(result);
        state.pings.clear();
        state.arrivals.clear();
        for slot in state.slots.values_mut() {
            slot.wake();
        }
        drop(state);
        self.arrivals.notify_waiters();
        self.end.notify_waiters();
    }
}

impl State {
    pub(super) fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    pub(super) fn open(&mut self, headers: Headers, options: StreamOptions) -> Result<StreamId, StreamError> {
        let id = self.session.open(headers, options)?;
        self.slots.insert(id, Slot { fin: options.unidirectional, ..Slot::default() });
        self.wake_driver();
        Ok(id)
    }

    /// Nobody holds the stream any more.
    pub(super) fn release(&mut self, id: StreamId) {
        self.session.release(id);
        if self.slots.remove(&id).is_some_and(|slot| slot.waits) {
            self.wake_writers();
        }
        self.wake_driver();
    }

    /// Wakes some of those that wait for room in the output. Says whether there are more.
    pub(super) fn wake_writers(&mut self) -> bool {
        let mut woken = 0;
        while woken < WRITERS
            && !self.session.output_full()
            && let Some(id) = self.writers.pop_front()
        {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.waits = false;
                if let Some(writer) = slot.writer.take() {
                    writer.wake();
                    woken += 1;
                }
            }
        }
        !self.session.output_full() && !self.writers.is_empty()
    }

    /// Copies what a stream has into `into`, and tells the session that it was read.
    pub(super) fn read(&mut self, id: StreamId, into: &mut tokio::io::ReadBuf<'_>) -> io::Result<Found> {
        let Some(slot) = self.slots.get_mut(&id) else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut read = 0;
        while into.remaining() > 0 {
            let front = slot.front();
            let bytes = front.len().min(into.remaining());
            if bytes == 0 {
                break;
            }
            into.put_slice(front.get(..bytes).unwrap_or_default());
            slot.advance(bytes);
            read += bytes;
        }
        if read > 0 {
            let (output, wanted) = (self.session.output_len(), self.session.wants_input());
            self.session.consumed(id, read);
            if self.session.output_len() > output || self.session.wants_input() != wanted {
                self.wake_driver();
            }
            return Ok(Found::Data);
        }
        if slot.fin {
            return Ok(Found::End);
        }
        self.check(id)?;
        Ok(Found::Nothing)
    }

    /// An error when nothing more can happen on the stream.
    pub(super) fn check(&self, id: StreamId) -> Result<(), Failure> {
        match (self.slots.get(&id).and_then(|slot| slot.reset), &self.ended) {
            (Some(status), _) => Err(Failure::Reset(status)),
            (None, Some(ended)) => Err(Failure::Ended(ended.clone().err())),
            (None, None) => Ok(()),
        }
    }

    /// Puts an event where it belongs. True when a stream arrived.
    pub(super) fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Opened { id, headers, options } => {
                self.slots.insert(id, Slot { fin: options.fin, ..Slot::default() });
                self.arrivals.push_back(Arrival { id, headers, options });
                return true;
            }
            Event::Replied { id, headers, fin } => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.reply = Some(headers);
                    slot.fin |= fin;
                    slot.wake();
                }
            }
            // Kubernetes sends no HEADERS frames. Their content is dropped, their `fin` is not.
            Event::Headers { id, headers: _, fin } => self.arrived(id, Bytes::new(), fin),
            Event::Data { id, payload, fin } => self.arrived(id, payload, fin),
            Event::Reset { id, status, cause } => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.reset = Some(status);
                    if cause == Cause::Session {
                        slot.discard();
                        slot.fin = false;
                    }
                    slot.wake();
                }
                self.forget_arrival(id);
            }
            Event::Window { id: Some(id) } => {
                if let Some(writer) = self.slots.get_mut(&id).and_then(|slot| slot.writer.take()) {
                    writer.wake();
                }
            }
            Event::Window { id: None } => {
                for writer in self.slots.values_mut().filter_map(|slot| slot.writer.take()) {
                    writer.wake();
                }
            }
            Event::Pong { id } => {
                if let Some(position) = self.pings.iter().position(|(ping, _)| *ping == id) {
                    // Nobody may be waiting any more.
                    let _ = self.pings.swap_remove(position).1.send(());
                }
            }
            Event::GoAway { .. } => {}
        }
        false
    }

    fn arrived(&mut self, id: StreamId, payload: Bytes, fin: bool) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.push(payload);
        slot.fin |= fin;
        if let Some(reader) = slot.reader.take() {
            reader.wake();
        }
    }

    /// A stream that was reset before anybody took it is not offered.
    fn forget_arrival(&mut self, id: StreamId) {
        if let Some(position) = self.arrivals.iter().position(|arrival| arrival.id == id) {
            self.arrivals.remove(position);
            self.release(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(slot: &mut Slot, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let front = slot.front();
            let bytes = front.len().min(step);
            if bytes == 0 {
                return all;
            }
            all.extend_from_slice(&front[..bytes]);
            slot.advance(bytes);
        }
    }

    #[test]
    fn pieces_of_all_lengths_come_out_as_they_went_in() {
        let pieces = [1, KEEP, 5, KEEP - 1, 10, KEEP + 1, 0, 3];
        for step in [1, 7, KEEP, 1 << 20] {
            let (mut slot, mut expected) = (Slot::default(), Vec::new());
            for (number, length) in pieces.into_iter().enumerate() {
                let piece = vec![u8::try_from(number).unwrap(); length];
                expected.extend_from_slice(&piece);
                slot.push(piece.into());
            }
            assert!(drain(&mut slot, step) == expected, "step {step}");
        }
    }

    #[test]
    fn a_short_piece_does_not_keep_the_buffer_it_came_from() {
        let mut slot = Slot::default();
        let buffer = Bytes::from(vec![7; 64 * 1024]);
        slot.push(buffer.slice(..KEEP - 1));
        assert!(buffer.is_unique(), "the piece was copied");
        slot.push(buffer.slice(..KEEP));
        assert!(!buffer.is_unique(), "a long piece is kept as it is");
    }
}
