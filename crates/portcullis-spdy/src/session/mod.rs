//! A SPDY/3.1 session without I/O: bytes and the time go in, [`Event`]s and bytes come out.
//!
//! The flow: [`Session::receive`] reads the peer's bytes and says what happened → the caller commands ([`Session::open`],
//! [`Session::reply`], [`Session::send`], ...) and says what it has read ([`Session::consumed`]) → [`Session::take_output`]
//! has the bytes for the peer. [`Session::tick`] at [`Session::deadline`] applies the limits that need the time.
//!
//! What it must never do: hold more than [`Limits`] allow, whatever the peer sends; answer a reset with a reset; fail
//! the session for what concerns one stream.

mod flow;
mod receive;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::Role;
use crate::error::SessionError;
use crate::frame::{Decoder, EncodeError, Encoder, Frame, GoAwayStatus, ResetStatus, Setting, StreamId, put_data};
use crate::headers::Headers;
use crate::limits::{Config, FlowControl, Limits};
use crate::pace::{Idle, Rate};

use flow::Flow;
use stream::StreamState;

/// Longest payload of a data frame that is sent, in bytes: what Go copies at once, and few enough that streams take
/// turns.
const PAYLOAD: usize = 32 * 1024;

/// Pings of ours that may wait for their answer.
const PINGS: usize = 8;

/// What the peer did, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer opened a stream: answer with [`Session::reply`], or [`Session::reset`] it.
    Opened {
        /// The stream.
        id: StreamId,
        /// What it is for.
        headers: Headers,
        /// How it was opened.
        options: StreamOptions,
    },
    /// The peer accepted a stream of ours.
    Replied {
        /// The stream.
        id: StreamId,
        /// Its answer.
        headers: Headers,
        /// It will send no data.
        fin: bool,
    },
    /// More headers.
    Headers {
        /// The stream.
        id: StreamId,
        /// The headers.
        headers: Headers,
        /// The peer sends nothing more.
        fin: bool,
    },
    /// Data, of any length; also none, with `fin`.
    Data {
        /// The stream.
        id: StreamId,
        /// The bytes: to be given back with [`Session::consumed`].
        payload: Bytes,
        /// The peer sends nothing more.
        fin: bool,
    },
    /// A stream has ended before its time, in both directions.
    Reset {
        /// The stream.
        id: StreamId,
        /// Why.
        status: ResetStatus,
        /// Who ended it.
        cause: Cause,
    },
    /// More can be sent: on this stream, or on any.
    Window {
        /// The stream.
        id: Option<StreamId>,
    },
    /// The answer to [`Session::ping`].
    Pong {
        /// The ping.
        id: u32,
    },
    /// The peer accepts no further streams.
    GoAway {
        /// Why.
        status: GoAwayStatus,
    },
}

/// Who ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer sent RST_STREAM, or GOAWAY before it had seen the stream. What it sent before can still be read.
    Peer,
    /// The peer broke a rule or a limit on this stream, which this session reset. What it sent is given up.
    Session,
}

/// How a stream is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// 0 (highest) to 7. Passed on, not acted on.
    pub priority: u8,
    /// The stream that it belongs to.
    pub associated: Option<StreamId>,
    /// Whoever opens it sends no data.
    pub fin: bool,
    /// The other side sends none.
    pub unidirectional: bool,
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// There is no such stream, or it was released.
    #[error("there is no such stream")]
    Unknown,
    /// The stream must be replied to first, or its reply awaited.
    #[error("the stream has not been replied to")]
    NotReplied,
    /// The stream has been replied to.
    #[error("the stream has been replied to")]
    Replied,
    /// Our side said that it sends nothing more, or never could.
    #[error("the stream is closed for writing")]
    Closed,
    /// The stream was reset.
    #[error("the stream was reset: {0}")]
    Reset(ResetStatus),
    /// One of the sides has said that it accepts no further streams, or the session has ended.
    #[error("the session is ending")]
    Ending,
    /// The peer allows no more streams at once.
    #[error("the peer allows {0} streams at once")]
    TooMany(u32),
    /// All 2^30 numbers are used.
    #[error("the session has no stream numbers left")]
    NumbersUsed,
    /// The headers cannot be sent.
    #[error(transparent)]
    Encode(EncodeError),
}

/// One end of a session.
pub struct Session {
    role: Role,
    limits: Limits,
    decoder: Decoder,
    encoder: Encoder,
    out: BytesMut,
    events: VecDeque<Event>,
    streams: HashMap<StreamId, StreamState>,
    flow: Flow,
    /// Entries of `streams` that the peer opened.
    theirs: usize,
    /// The greatest number that the peer has opened, or 0.
    last_received: u32,
    /// The greatest of them that was not refused.
    last_accepted: Option<StreamId>,
    next_id: u32,
    next_ping: u32,
    pings: VecDeque<u32>,
    peer_streams: Option<u32>,
    refusing: bool,
    said_go_away: bool,
    heard_go_away: bool,
    rate: Rate,
    idle: Idle,
    failed: Option<SessionError>,
}

impl Session {
    /// A session at its start. Its first output announces what it allows.
    #[must_use]
    pub fn new(role: Role, config: &Config, now: Instant) -> Self {
        let limits = config.limits.clone();
        let flow = Flow::new(config);
        let mut session = Self {
            role,
            decoder: Decoder::new(&limits),
            encoder: Encoder::new(),
            out: BytesMut::new(),
            events: VecDeque::new(),
            streams: HashMap::new(),
            theirs: 0,
            last_received: 0,
            last_accepted: None,
            next_id: if role == Role::Client { 1 } else { 2 },
            next_ping: if role == Role::Client { 1 } else { 2 },
            pings: VecDeque::new(),
            peer_streams: None,
            refusing: false,
            said_go_away: false,
            heard_go_away: false,
            rate: Rate::new(limits.pings, limits.ping_interval),
            idle: Idle::new(limits.idle, now),
            failed: None,
            flow,
            limits,
        };
        let streams = u32::try_from(session.limits.streams).unwrap_or(u32::MAX);
        let entry = |id, value| Setting { flags: 0, id, value };
        let entries = vec![
            entry(Setting::MAX_CONCURRENT_STREAMS, streams),
            entry(Setting::INITIAL_WINDOW_SIZE, session.flow.window()),
        ];
        session.queue(&Frame::Settings { entries });
        if let Some(delta) = session.flow.opening() {
            session.queue(&Frame::WindowUpdate { id: None, delta });
        }
        session
    }

    /// Opens a stream. Data may be sent at once as far as the protocol goes.
    ///
    /// Compat: `spdystream` drops what arrives before it has replied; wait for [`Event::Replied`].
    ///
    /// # Errors
    /// The session is ending, the peer allows no more streams, or the headers are too long.
    pub fn open(&mut self, headers: Headers, options: StreamOptions) -> Result<StreamId, StreamError> {
        if self.said_go_away || self.heard_go_away || self.failed.is_some() {
            return Err(StreamError::Ending);
        }
        if let Some(most) = self.peer_streams
            && u32::try_from(self.streams.len() - self.theirs).unwrap_or(u32::MAX) >= most
        {
            return Err(StreamError::TooMany(most));
        }
        let id = StreamId::new(self.next_id).ok_or(StreamError::NumbersUsed)?;
        let StreamOptions { priority, associated, fin, unidirectional } = options;
        let priority = priority.min(7);
        self.command(&Frame::SynStream { id, associated, priority, fin, unidirectional, headers })?;
        self.next_id = self.next_id.saturating_add(2);
        let windows = self.flow.new_stream();
        self.streams.insert(id, StreamState::new(true, !fin, !unidirectional, windows));
        Ok(id)
    }

    /// Accepts a stream that the peer opened. With `fin` our side sends no data.
    ///
    /// # Errors
    /// The stream is gone, or not to be replied to.
    pub fn reply(&mut self, id: StreamId, headers: Headers, fin: bool) -> Result<(), StreamError> {
        let stream = self.writable(id)?;
        if stream.ours || stream.replied {
            return Err(StreamError::Replied);
        }
        self.command(&Frame::SynReply { id, fin, headers })?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.replied = true;
            stream.local_open = !fin;
        }
        Ok(())
    }

    /// Sends more headers. With `fin` our side sends nothing more.
    ///
    /// # Errors
    /// The stream is gone, closed for writing, or not replied to.
    pub fn headers(&mut self, id: StreamId, headers: Headers, fin: bool) -> Result<(), StreamError> {
        let stream = self.writable(id)?;
        if !stream.ours && !stream.replied {
            return Err(StreamError::NotReplied);
        }
        self.command(&Frame::Headers { id, fin, headers })?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.local_open = !fin;
        }
        Ok(())
    }

    /// Sends data, as much as the windows and the output have room for, and says how much that was: at most 32 KiB, and
    /// perhaps nothing. Then [`Event::Window`] or an emptied output tells when to try again. `fin`, if all of it was taken,
    /// says that our side sends nothing more.
    ///
    /// # Errors
    /// The stream is gone, closed for writing, or not replied to.
    pub fn send(&mut self, id: StreamId, data: &[u8], fin: bool) -> Result<usize, StreamError> {
        let stream = self.writable(id)?;
        if !stream.ours && !stream.replied {
            return Err(StreamError::NotReplied);
        }
        let room = self.limits.output.saturating_sub(self.out.len());
        let most = self.flow.room(stream).min(room).min(PAYLOAD);
        let (now, later) = data.split_at(data.len().min(most));
        let fin = fin && later.is_empty();
        // An empty frame that closes needs no window, and must not wait for the output either.
        if now.is_empty() && !fin {
            return Ok(0);
        }
        put_data(&mut self.out, id, fin, now);
        self.flow.sent(now.len());
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sent(now.len());
            stream.local_open = !fin;
        }
        Ok(now.len())
    }

    /// True when [`Session::send`] waits for output to be taken, not for a window.
    #[must_use]
    pub fn output_full(&self) -> bool {
        self.out.len() >= self.limits.output
    }

    /// Ends a stream at once, in both directions.
    pub fn reset(&mut self, id: StreamId, status: ResetStatus) {
        if self.streams.get(&id).is_some_and(|stream| stream.reset.is_none() && !stream.is_closed()) {
            self.queue(&Frame::RstStream { id, status });
            self.forget(id, status);
        }
    }

    /// The caller is done with a stream: it no longer counts as open. Resets it if it was not closed in both directions.
    pub fn release(&mut self, id: StreamId) {
        self.reset(id, ResetStatus::CANCEL);
        if let Some(stream) = self.streams.remove(&id) {
            self.flow.dropped(&stream);
            self.theirs -= usize::from(!stream.ours);
        }
        self.grow_session_window();
    }

    /// The caller has read this many bytes of a stream.
    pub fn consumed(&mut self, id: StreamId, bytes: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(delta) = self.flow.consumed(stream, bytes) {
            self.queue(&Frame::WindowUpdate { id: Some(id), delta });
        }
        self.grow_session_window();
    }

    /// Asks the peer for a sign of life; [`Event::Pong`] has the same number. `None` while eight are unanswered.
    pub fn ping(&mut self) -> Option<u32> {
        if self.pings.len() >= PINGS {
            return None;
        }
        let id = self.next_ping;
        self.next_ping = if id > u32::MAX - 2 { id % 2 + 2 } else { id + 2 };
        self.pings.push_back(id);
        self.queue(&Frame::Ping { id });
        Some(id)
    }

    /// From now on the peer's new streams are refused, and those that are open go on.
    pub const fn refuse_streams(&mut self) {
        self.refusing = true;
    }

    /// Says that no further streams are accepted.
    ///
    /// Compat: `spdystream` reads nothing after a GOAWAY. Call [`Session::refuse_streams`] first, and this when all
    /// streams are closed.
    pub fn go_away(&mut self, status: GoAwayStatus) {
        if !self.said_go_away {
            self.said_go_away = true;
            let last = self.last_accepted;
            self.queue(&Frame::GoAway { last, status });
        }
    }

    /// Streams that are not yet closed in both directions.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.values().filter(|stream| stream.reset.is_none() && !stream.is_closed()).count()
    }

    /// Bytes that were received and not consumed, over all streams.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.flow.buffered()
    }

    /// Bytes of output that wait to be taken.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.out.len()
    }

    /// Moves the output to the end of `into`. Without a copy when `into` is empty.
    pub fn take_output(&mut self, now: Instant, into: &mut BytesMut) {
        if self.out.is_empty() {
            return;
        }
        self.idle.touch(now);
        if into.is_empty() {
            std::mem::swap(&mut self.out, into);
            self.out.clear();
        } else {
            into.extend_from_slice(&self.out);
            self.out.clear();
        }
    }

    /// False while [`Session::receive`] reads nothing, because a reader or the output must catch up first.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.failed.is_none() && !self.flow.is_paused() && self.out.len() < self.limits.output.saturating_mul(2)
    }

    /// When [`Session::tick`] is due, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let stall = self.flow.stall_deadline(self.limits.stall);
        [self.idle.deadline(), stall].into_iter().flatten().min()
    }

    /// Applies the limits that need the time.
    ///
    /// # Errors
    /// The session was idle for too long. GOAWAY is in the output.
    pub fn tick(&mut self, now: Instant) -> Result<(), SessionError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.idle.expired(now) {
            let seconds = self.limits.idle.map_or(0, |limit| limit.as_secs());
            return Err(self.fail(SessionError::Idle(seconds)));
        }
        if self.flow.stall_deadline(self.limits.stall).is_some_and(|deadline| now >= deadline) {
            let fullest = self.streams.iter().max_by_key(|(id, stream)| (stream.buffered, std::cmp::Reverse(**id)));
            if let Some(id) = fullest.map(|(id, _)| *id) {
                self.stream_error(id, ResetStatus::FLOW_CONTROL_ERROR);
            }
            self.flow.restart_stall(now);
        }
        Ok(())
    }

    /// Ends the session: GOAWAY goes out, nothing more is read.
    fn fail(&mut self, error: SessionError) -> SessionError {
        if self.failed.is_none() {
            self.go_away(error.status());
            self.failed = Some(error.clone());
        }
        error
    }

    /// A frame that the caller asked for.
    fn command(&mut self, frame: &Frame) -> Result<(), StreamError> {
        if self.failed.is_some() {
            return Err(StreamError::Ending);
        }
        self.encoder.encode(frame, &mut self.out).map_err(|error| {
            if error == EncodeError::Compression {
                self.fail(SessionError::Compression);
            }
            StreamError::Encode(error)
        })
    }

    /// A frame of fixed length, which can always be written.
    fn queue(&mut self, frame: &Frame) {
        let written = self.encoder.encode(frame, &mut self.out);
        debug_assert!(written.is_ok(), "only headers and payloads can be too long");
    }

    fn writable(&self, id: StreamId) -> Result<&StreamState, StreamError> {
        let stream = self.streams.get(&id).ok_or(StreamError::Unknown)?;
        match stream.reset {
            Some(status) => Err(StreamError::Reset(status)),
            None if !stream.local_open => Err(StreamError::Closed),
            None => Ok(stream),
        }
    }

    /// Marks a stream as reset and gives up what it holds.
    fn forget(&mut self, id: StreamId, status: ResetStatus) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.flow.dropped(stream);
            stream.buffered = 0;
            stream.reset = Some(status);
        }
    }

    fn grow_session_window(&mut self) {
        if let Some(delta) = self.flow.session_update() {
            self.queue(&Frame::WindowUpdate { id: None, delta });
        }
    }

    const fn strict(&self) -> bool {
        matches!(self.flow.mode(), FlowControl::Strict)
    }
}
