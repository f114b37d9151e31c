//! SPDY/3.1 frames (draft, sections 2.2 and 2.6): their parts, [`Decoder`] and [`Encoder`].
//!
//! Control frames are read whole, up to a limit. Data frames are handed on in pieces as they arrive, because a peer may
//! send 16 MiB in one. Both directions keep compression state: one decoder and one encoder serve one session, and every
//! frame of it passes through them.

use std::fmt;
use std::num::NonZeroU32;

use bytes::Bytes;

use crate::headers::{Headers, HeadersError};

mod decode;
mod encode;

pub use decode::{Decoder, FrameError};
pub(crate) use encode::put_data;
pub use encode::{EncodeError, Encoder};

/// The version that control frames carry: 3.1 calls itself 3.
const VERSION: u16 = 3;

/// Bytes of the header that every frame has.
const HEADER: usize = 8;

/// The most that a frame's 24-bit length can say.
const MAX_LENGTH: usize = (1 << 24) - 1;

/// The frame's sender sends no more on the stream.
const FLAG_FIN: u8 = 1;
/// The frame's receiver must not send on the stream.
const FLAG_UNIDIRECTIONAL: u8 = 2;

/// Types of control frames. 5 (NOOP) and 10 (CREDENTIAL) are gone from 3.1.
mod kind {
    pub(super) const SYN_STREAM: u16 = 1;
    pub(super) const SYN_REPLY: u16 = 2;
    pub(super) const RST_STREAM: u16 = 3;
    pub(super) const SETTINGS: u16 = 4;
    pub(super) const PING: u16 = 6;
    pub(super) const GOAWAY: u16 = 7;
    pub(super) const HEADERS: u16 = 8;
    pub(super) const WINDOW_UPDATE: u16 = 9;
}

/// A stream's number: 31 bits, not 0. The client opens odd ones, the server even ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(NonZeroU32);

impl StreamId {
    /// The greatest number; numbers are never used again.
    pub const MAX: u32 = 0x7fff_ffff;

    /// The id with this number, unless it is 0 or over [`StreamId::MAX`].
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) if number.get() <= Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// True when the client opens streams with such a number.
    #[must_use]
    pub const fn is_clients(self) -> bool {
        self.get() % 2 == 1
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why a stream was ended (section 2.6.3). Values that the draft does not name are kept; 0 cannot occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResetStatus(pub u32);

impl ResetStatus {
    /// Something that no other status says better.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// A frame for a stream that was never opened.
    pub const INVALID_STREAM: Self = Self(2);
    /// Refused before anything was done with it.
    pub const REFUSED_STREAM: Self = Self(3);
    /// The SPDY version is not spoken here.
    pub const UNSUPPORTED_VERSION: Self = Self(4);
    /// No longer wanted.
    pub const CANCEL: Self = Self(5);
    /// The sender failed.
    pub const INTERNAL_ERROR: Self = Self(6);
    /// More data than the window allowed.
    pub const FLOW_CONTROL_ERROR: Self = Self(7);
    /// A second SYN_REPLY.
    pub const STREAM_IN_USE: Self = Self(8);
    /// Data after its sender said that there would be none.
    pub const STREAM_ALREADY_CLOSED: Self = Self(9);
    /// A frame larger than is read here.
    pub const FRAME_TOO_LARGE: Self = Self(11);

    /// The draft's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "PROTOCOL_ERROR",
            2 => "INVALID_STREAM",
            3 => "REFUSED_STREAM",
            4 => "UNSUPPORTED_VERSION",
            5 => "CANCEL",
            6 => "INTERNAL_ERROR",
            7 => "FLOW_CONTROL_ERROR",
            8 => "STREAM_IN_USE",
            9 => "STREAM_ALREADY_CLOSED",
            11 => "FRAME_TOO_LARGE",
            _ => "unknown status",
        }
    }
}

impl fmt::Display for ResetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

/// Why a session ends (section 2.6.6). Values that the draft does not name are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GoAwayStatus(pub u32);

impl GoAwayStatus {
    /// The ordinary end.
    pub const OK: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The sender failed.
    pub const INTERNAL_ERROR: Self = Self(2);
}

impl fmt::Display for GoAwayStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::OK => "OK",
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self(_) => "unknown status",
        };
        write!(f, "{name} ({})", self.0)
    }
}

/// One entry of a SETTINGS frame (section 2.6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What the sender wants done with it: 1 keep it, 2 this was kept. Nothing is kept here.
    pub flags: u8,
    /// What is set, 24 bits: [`Setting::MAX_CONCURRENT_STREAMS`], [`Setting::INITIAL_WINDOW_SIZE`], ...
    pub id: u32,
    /// To what.
    pub value: u32,
}

impl Setting {
    /// How many streams the receiver may have open at once.
    pub const MAX_CONCURRENT_STREAMS: u32 = 4;
    /// Bytes that the receiver may send on a stream before it hears of more.
    pub const INITIAL_WINDOW_SIZE: u32 = 7;
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// The new stream.
        id: StreamId,
        /// The stream that it belongs to, if any.
        associated: Option<StreamId>,
        /// 0 (highest) to 7.
        priority: u8,
        /// The sender sends no data.
        fin: bool,
        /// The receiver must send none.
        unidirectional: bool,
        /// What the stream is for.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// The stream.
        id: StreamId,
        /// The sender sends no data.
        fin: bool,
        /// The answer.
        headers: Headers,
    },
    /// Ends a stream at once, in both directions.
    RstStream {
        /// The stream.
        id: StreamId,
        /// Why.
        status: ResetStatus,
    },
    /// What the sender allows and expects.
    Settings {
        /// The entries, as sent.
        entries: Vec<Setting>,
    },
    /// To be answered with the same frame, if the other side numbered it.
    Ping {
        /// Odd from the client, even from the server.
        id: u32,
    },
    /// The sender accepts no more streams.
    GoAway {
        /// The last stream that it accepted.
        last: Option<StreamId>,
        /// Why.
        status: GoAwayStatus,
    },
    /// More headers for a stream.
    Headers {
        /// The stream.
        id: StreamId,
        /// The sender sends nothing more.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// The receiver may send more.
    WindowUpdate {
        /// The stream, or the whole session.
        id: Option<StreamId>,
        /// How many bytes more, 31 bits. 0 is not allowed.
        delta: u32,
    },
    /// Data. The decoder cuts one frame into several of these; the last has the `fin`.
    Data {
        /// The stream.
        id: StreamId,
        /// The sender sends nothing more.
        fin: bool,
        /// The bytes.
        payload: Bytes,
    },
}

/// What [`Decoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A frame.
    Frame(Frame),
    /// A frame whose header block was read but does not hold what it must: its stream cannot go on, its session can.
    Malformed {
        /// The stream.
        id: StreamId,
        /// The frame was a SYN_STREAM.
        opens: bool,
        /// What is wrong.
        error: HeadersError,
    },
}
