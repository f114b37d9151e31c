//! A WebSocket connection without I/O: bytes and the time go in, [`Event`]s and bytes come out.
//!
//! Pings are answered and a close is returned by itself. Payloads are unmasked in place and handed on as they arrive;
//! nothing but a control frame, of 125 bytes, is ever collected.

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use super::Limits;
use super::close::{Close, CloseCode};
use super::header::{Header, HeaderError, MAX_CONTROL, Opcode};
use super::mask::{self, MaskKeys};
use super::utf8::Utf8;
use crate::pace::{Idle, Rate};

/// Longest piece of a message that is handed on at once, in bytes.
const PIECE: usize = 64 * 1024;

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, checked.
    Text,
    /// Bytes.
    Binary,
}

/// What the peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A piece of a message. A piece of text may end within a character.
    Data {
        /// Of which kind of message.
        kind: Kind,
        /// The bytes; perhaps none.
        payload: Bytes,
        /// The message begins with it.
        first: bool,
        /// The message ends with it.
        last: bool,
    },
    /// An answer to [`Codec::ping`], or a sign of life that nobody asked for.
    Pong {
        /// What the ping had.
        payload: Bytes,
    },
    /// The peer closes the connection; nothing follows. It has been answered.
    Close {
        /// Why, if it said so.
        close: Option<Close>,
    },
}

/// Why a connection cannot go on. Sorted by blame: the peer, the circumstances, the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// A frame has a reserved bit set, and no extension was agreed on.
    #[error("a frame has a reserved bit set")]
    Reserved,
    /// A frame has an opcode that means nothing.
    #[error("a frame has an unknown opcode")]
    Opcode,
    /// A control frame is in fragments or has more than 125 bytes.
    #[error("a control frame is in fragments or too long")]
    Control,
    /// A frame's length is not written in its shortest form.
    #[error("a frame's length is malformed")]
    Length,
    /// A client's frame is not masked.
    #[error("a frame from the client is not masked")]
    NotMasked,
    /// A server's frame is masked.
    #[error("a frame from the server is masked")]
    Masked,
    /// A continuation without a beginning, or a beginning within a message.
    #[error("a fragment is out of place")]
    Fragment,
    /// A close frame has a code that must not be sent, or half of one.
    #[error("a close frame is malformed")]
    Close,
    /// Text or a close reason is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A kind of message that is not taken here.
    #[error("this kind of message is not taken here")]
    Unsupported,
    /// A frame is longer than [`Limits::frame`].
    #[error("a frame is too long")]
    FrameTooLong,
    /// A message is longer than [`Limits::message`].
    #[error("a message is too long")]
    MessageTooLong,
    /// A message has more frames than [`Limits::fragments`].
    #[error("a message is in too many fragments")]
    Fragments,
    /// More pings than [`Limits::pings`].
    #[error("there are too many pings")]
    Pings,
    /// Nothing came for [`Limits::idle`].
    #[error("the connection was idle for too long")]
    Idle,
    /// The caller sends after it has closed.
    #[error("nothing can be sent after a close frame")]
    Closed,
}

impl WebSocketError {
    /// What the close frame says of it.
    #[must_use]
    pub const fn code(self) -> CloseCode {
        match self {
            Self::Reserved
            | Self::Opcode
            | Self::Control
            | Self::Length
            | Self::NotMasked
            | Self::Masked
            | Self::Fragment
            | Self::Close => CloseCode::PROTOCOL,
            Self::Utf8 => CloseCode::INVALID_DATA,
            Self::Unsupported => CloseCode::UNSUPPORTED,
            Self::FrameTooLong | Self::MessageTooLong | Self::Fragments => CloseCode::TOO_BIG,
            Self::Pings => CloseCode::POLICY,
            Self::Idle => CloseCode::GOING_AWAY,
            Self::Closed => CloseCode::INTERNAL_ERROR,
        }
    }
}

impl From<HeaderError> for WebSocketError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Reserved => Self::Reserved,
            HeaderError::Opcode => Self::Opcode,
            HeaderError::Control => Self::Control,
            HeaderError::Length => Self::Length,
        }
    }
}

/// One end of a WebSocket connection, after the handshake.
pub struct Codec {
    /// A client's keys; a server has none.
    keys: Option<MaskKeys>,
    limits: Limits,
    message: Option<Message>,
    frame: Option<Frame>,
    out: BytesMut,
    rate: Rate,
    idle: Idle,
    close_sent: bool,
    close_received: bool,
    failed: Option<WebSocketError>,
}

/// A message of which frames were seen.
struct Message {
    kind: Kind,
    length: u64,
    frames: u32,
    utf8: Utf8,
    /// No piece was handed on.
    fresh: bool,
}

/// A data frame whose header was read.
struct Frame {
    mask: Option<[u8; 4]>,
    offset: u64,
    left: u64,
    fin: bool,
}

impl Codec {
    /// The server's end.
    #[must_use]
    pub fn server(limits: Limits, now: Instant) -> Self {
        Self::new(None, limits, now)
    }

    /// The client's end.
    #[must_use]
    pub fn client(keys: MaskKeys, limits: Limits, now: Instant) -> Self {
        Self::new(Some(keys), limits, now)
    }

    fn new(keys: Option<MaskKeys>, limits: Limits, now: Instant) -> Self {
        Self {
            keys,
            message: None,
            frame: None,
            out: BytesMut::new(),
            rate: Rate::new(limits.pings, limits.ping_interval),
            idle: Idle::new(limits.idle, now),
            limits,
            close_sent: false,
            close_received: false,
            failed: None,
        }
    }

    /// Reads from the front of `input` up to the next event. `None` when `input` must grow, when the peer has closed, or
    /// when the connection does not [want](Codec::wants_input) any.
    ///
    /// # Errors
    /// The connection is over, and the output holds the close frame that says why.
    pub fn receive(&mut self, now: Instant, input: &mut BytesMut) -> Result<Option<Event>, WebSocketError> {
        loop {
            if let Some(error) = self.failed {
                return Err(error);
            }
            if self.close_received {
                input.clear();
                return Ok(None);
            }
            if !self.wants_input() {
                return Ok(None);
            }
            let step = if self.frame.is_some() { self.piece(now, input) } else { self.header(now, input) };
            match step {
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Ok(Step::On) => {}
                Ok(Step::Short) => return Ok(None),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    fn header(&mut self, now: Instant, input: &mut BytesMut) -> Result<Step, WebSocketError> {
        let Some((header, length)) = Header::decode(input)? else { return Ok(Step::Short) };
        match (header.mask, &self.keys) {
            (None, None) => return Err(WebSocketError::NotMasked),
            (Some(_), Some(_)) => return Err(WebSocketError::Masked),
            _ => {}
        }
        if header.opcode.is_control() {
            let whole = length + usize::try_from(header.length).unwrap_or(usize::MAX);
            if input.len() < whole {
                return Ok(Step::Short);
            }
            input.advance(length);
            let mut payload = input.split_to(whole - length);
            if let Some(key) = header.mask {
                mask::apply(key, 0, &mut payload);
            }
            self.idle.touch(now);
            return self.control(now, header.opcode, payload.freeze());
        }
        let message = match (header.opcode, &mut self.message) {
            (Opcode::Continuation, Some(message)) => message,
            (Opcode::Continuation, None) | (_, Some(_)) => return Err(WebSocketError::Fragment),
            (opcode, none) => {
                let kind = if opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
                none.insert(Message { kind, length: 0, frames: 0, utf8: Utf8::default(), fresh: true })
            }
        };
        message.frames += 1;
        message.length = message.length.saturating_add(header.length);
        if header.length > self.limits.frame {
            return Err(WebSocketError::FrameTooLong);
        }
        if message.length > self.limits.message {
            return Err(WebSocketError::MessageTooLong);
        }
        if message.frames > self.limits.fragments {
            return Err(WebSocketError::Fragments);
        }
        input.advance(length);
        self.frame = Some(Frame { mask: header.mask, offset: 0, left: header.length, fin: header.fin });
        Ok(Step::On)
    }

    /// The next piece of a data frame.
    fn piece(&mut self, now: Instant, input: &mut BytesMut) -> Result<Step, WebSocketError> {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else { return Ok(Step::Short) };
        let length = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len()).min(PIECE);
        if length == 0 && frame.left > 0 {
            return Ok(Step::Short);
        }
        self.idle.touch(now);
        let mut payload = input.split_to(length);
        if let Some(key) = frame.mask {
            mask::apply(key, frame.offset, &mut payload);
        }
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        frame.offset += length;
        frame.left -= length;
        let ends = frame.left == 0;
        let last = ends && frame.fin;
        if message.kind == Kind::Text && (!message.utf8.push(&payload) || last && !message.utf8.end()) {
            return Err(WebSocketError::Utf8);
        }
        let (kind, first) = (message.kind, std::mem::take(&mut message.fresh));
        if ends {
            self.frame = None;
        }
        if last {
            self.message = None;
        }
        Ok(Step::Event(Event::Data { kind, payload: payload.freeze(), first, last }))
    }

    fn control(&mut self, now: Instant, opcode: Opcode, payload: Bytes) -> Result<Step, WebSocketError> {
        match opcode {
            Opcode::Ping => {
                if !self.rate.admit(now) {
                    return Err(WebSocketError::Pings);
                }
                if !self.close_sent {
                    self.put(Opcode::Pong, true, &payload);
                }
                Ok(Step::On)
            }
            Opcode::Close => {
                let close = Close::parse(&payload).map_err(|code| match code {
                    CloseCode::INVALID_DATA => WebSocketError::Utf8,
                    _ => WebSocketError::Close,
                })?;
                self.close_received = true;
                if !self.close_sent {
                    self.close_sent = true;
                    let code = payload.get(..2).unwrap_or_default().to_vec();
                    self.put(Opcode::Close, true, &code);
                }
                Ok(Step::Event(Event::Close { close }))
            }
            _ => Ok(Step::Event(Event::Pong { payload })),
        }
    }

    /// Sends a message in one frame.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), WebSocketError> {
        self.fragment(kind, payload, true, true)
    }

    /// Sends one frame of a message: `first` begins it, `last` ends it. Frames of two messages must not mix.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn fragment(&mut self, kind: Kind, payload: &[u8], first: bool, last: bool) -> Result<(), WebSocketError> {
        self.may_send()?;
        let opcode = match kind {
            _ if !first => Opcode::Continuation,
            Kind::Text => Opcode::Text,
            Kind::Binary => Opcode::Binary,
        };
        self.put(opcode, last, payload);
        Ok(())
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// The connection is closed, or the payload is longer than 125 bytes.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), WebSocketError> {
        self.may_send()?;
        if u64::try_from(payload.len()).unwrap_or(u64::MAX) > MAX_CONTROL {
            return Err(WebSocketError::Control);
        }
        self.put(Opcode::Ping, true, payload);
        Ok(())
    }

    /// Closes our direction. The peer's answer is [`Event::Close`]; until then it may send.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        if !self.close_sent {
            self.close_sent = true;
            self.put(Opcode::Close, true, &Close::payload(code, reason));
        }
    }

    /// Ends the connection for something that the caller found wrong with what the peer sent.
    pub fn fail(&mut self, error: WebSocketError) -> WebSocketError {
        if self.failed.is_none() {
            self.close(error.code(), &error.to_string());
            self.failed = Some(error);
        }
        error
    }

    /// True once a close frame was sent: nothing else can be.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.close_sent
    }

    /// False while [`Codec::receive`] reads nothing, because the output must be taken first.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.out.len() <= self.limits.output
    }

    /// The output: to be taken from its front.
    pub const fn output(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// When [`Codec::tick`] is due, if nothing comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.idle.deadline()
    }

    /// Applies the limit that needs the time.
    ///
    /// # Errors
    /// The peer was silent for too long. The output holds a close frame.
    pub fn tick(&mut self, now: Instant) -> Result<(), WebSocketError> {
        if self.idle.expired(now) { Err(self.fail(WebSocketError::Idle)) } else { Ok(()) }
    }

    /// The header of a message of so many bytes, for a caller who writes the bytes after it himself. `None` for a
    /// client, who must mask them.
    pub(super) fn message_header(&self, length: usize) -> Option<BytesMut> {
        if self.keys.is_some() {
            return None;
        }
        let mut header = BytesMut::with_capacity(10);
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        Header { fin: true, opcode: Opcode::Binary, mask: None, length }.encode(&mut header);
        Some(header)
    }

    const fn may_send(&self) -> Result<(), WebSocketError> {
        if self.close_sent { Err(WebSocketError::Closed) } else { Ok(()) }
    }

    fn put(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        let mask = self.keys.as_mut().map(MaskKeys::next);
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        Header { fin, opcode, mask, length }.encode(&mut self.out);
        let start = self.out.len();
        self.out.extend_from_slice(payload);
        if let (Some(key), Some(payload)) = (mask, self.out.get_mut(start..)) {
            mask::apply(key, 0, payload);
        }
    }
}

/// How reading went on.
enum Step {
    Event(Event),
    On,
    Short,
}
