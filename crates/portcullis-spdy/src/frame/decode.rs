//! Bytes to frames.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    Decoded, FLAG_FIN, FLAG_UNIDIRECTIONAL, Frame, GoAwayStatus, HEADER, ResetStatus, Setting, StreamId, VERSION, kind,
};
use crate::headers::{Headers, HeadersError};
use crate::limits::Limits;
use crate::zlib::{InflateError, Inflater};

/// Longest piece of a data frame that is handed on at once, in bytes.
const PIECE: usize = 64 * 1024;

/// What makes a byte stream unreadable from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A control frame of another version than 3.
    #[error("a control frame has version {0}; this is SPDY/3.1, version 3")]
    Version(u16),
    /// A control frame is longer than [`Limits::control_frame`].
    #[error("a control frame of type {kind} has {length} bytes; at most {limit} are read")]
    TooLong {
        /// The frame's type.
        kind: u16,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A control frame has another length than its type allows.
    #[error("a control frame of type {kind} cannot have {length} bytes")]
    Length {
        /// The frame's type.
        kind: u16,
        /// Its length.
        length: usize,
    },
    /// A frame that is about a stream names stream 0.
    #[error("a frame names stream 0")]
    StreamZero,
    /// A RST_STREAM or PING has the number 0, which means nothing.
    #[error("a control frame of type {kind} has status or id 0")]
    Zero {
        /// The frame's type.
        kind: u16,
    },
    /// A header block is longer, compressed, than [`Limits::compressed_block`].
    #[error("a compressed header block has {length} bytes; at most {limit} are read")]
    CompressedBlock {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A header block is longer, decompressed, than [`Limits::header_block`].
    #[error("a header block has more than {limit} bytes once decompressed")]
    HeaderBlock {
        /// The limit.
        limit: usize,
    },
    /// A header block cannot be decompressed.
    #[error("a header block is no zlib data with the SPDY/3 dictionary")]
    Compression,
    /// A SETTINGS frame has more entries than [`Limits::settings`].
    #[error("a SETTINGS frame has {count} entries; at most {limit} are read")]
    Settings {
        /// How many.
        count: u32,
        /// The limit.
        limit: usize,
    },
}

/// Reads the frames of one session, in order.
pub struct Decoder {
    control_frame: usize,
    compressed_block: usize,
    header_block: usize,
    headers: usize,
    settings: usize,
    inflater: Inflater,
    rest: Rest,
}

/// What is left of a frame whose header was read.
#[derive(Clone, Copy)]
enum Rest {
    Nothing,
    Data {
        id: StreamId,
        fin: bool,
        left: usize,
    },
    /// A control frame of a type that is not known.
    Unknown {
        left: usize,
    },
}

impl Decoder {
    /// A decoder at the start of a session.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            control_frame: limits.control_frame,
            compressed_block: limits.compressed_block,
            header_block: limits.header_block,
            headers: limits.headers,
            settings: limits.settings,
            inflater: Inflater::default(),
            rest: Rest::Nothing,
        }
    }

    /// Takes the next frame, or the next piece of a data frame, off the front of `input`; `None` when `input` must grow
    /// first. At most one control frame, and never data, stays in `input`.
    ///
    /// # Errors
    /// The bytes are no SPDY/3.1 frames or cross a limit. Nothing after them can be read.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Decoded>, FrameError> {
        loop {
            match self.rest {
                Rest::Data { id, fin, left } => return Ok(self.piece(input, id, fin, left)),
                Rest::Unknown { left } => {
                    let gone = left.min(input.len());
                    input.advance(gone);
                    if gone < left {
                        self.rest = Rest::Unknown { left: left - gone };
                        return Ok(None);
                    }
                    self.rest = Rest::Nothing;
                }
                Rest::Nothing => {}
            }
            let Some((first, [flags, length @ ..])) = header(input) else { return Ok(None) };
            let length =
                usize::try_from(u32::from_be_bytes([0, length[0], length[1], length[2]])).unwrap_or(usize::MAX);
            if first >> 31 == 0 {
                let id = StreamId::new(first).ok_or(FrameError::StreamZero)?;
                input.advance(HEADER);
                let fin = flags & FLAG_FIN != 0;
                if length == 0 {
                    return Ok(Some(Decoded::Frame(Frame::Data { id, fin, payload: Bytes::new() })));
                }
                self.rest = Rest::Data { id, fin, left: length };
                continue;
            }
            let [version_high, version_low, kind_high, kind_low] = first.to_be_bytes();
            let version = u16::from_be_bytes([version_high & 0x7f, version_low]);
            let kind = u16::from_be_bytes([kind_high, kind_low]);
            if version != VERSION {
                return Err(FrameError::Version(version));
            }
            if length > self.control_frame {
                return Err(FrameError::TooLong { kind, length, limit: self.control_frame });
            }
            if !matches!(kind, kind::SYN_STREAM..=kind::SETTINGS | kind::PING..=kind::WINDOW_UPDATE) {
                input.advance(HEADER);
                self.rest = Rest::Unknown { left: length };
                continue;
            }
            if input.len() < HEADER + length {
                return Ok(None);
            }
            input.advance(HEADER);
            let body = input.split_to(length).freeze();
            return self.control(kind, flags, body).map(Some);
        }
    }

    /// The next piece of a data frame of which `left` bytes, at least one, are to come.
    fn piece(&mut self, input: &mut BytesMut, id: StreamId, fin: bool, left: usize) -> Option<Decoded> {
        let length = left.min(input.len()).min(PIECE);
        if length == 0 {
            return None;
        }
        let payload = input.split_to(length).freeze();
        let left = left - length;
        self.rest = if left == 0 { Rest::Nothing } else { Rest::Data { id, fin, left } };
        Some(Decoded::Frame(Frame::Data { id, fin: fin && left == 0, payload }))
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Decoded, FrameError> {
        let length = body.len();
        let short = |_| FrameError::Length { kind, length };
        let exactly = |wanted| if length == wanted { Ok(()) } else { Err(FrameError::Length { kind, length }) };
        let fin = flags & FLAG_FIN != 0;
        let frame = match kind {
            kind::SYN_STREAM => {
                let id = stream(body.try_get_u32().map_err(short)?)?;
                let associated = StreamId::new(body.try_get_u32().map_err(short)? & StreamId::MAX);
                let priority = body.try_get_u8().map_err(short)? >> 5;
                let _slot = body.try_get_u8().map_err(short)?;
                let unidirectional = flags & FLAG_UNIDIRECTIONAL != 0;
                match self.headers(&body)? {
                    Ok(headers) => Frame::SynStream { id, associated, priority, fin, unidirectional, headers },
                    Err(error) => return Ok(Decoded::Malformed { id, opens: true, error }),
                }
            }
            kind::SYN_REPLY | kind::HEADERS => {
                let id = stream(body.try_get_u32().map_err(short)?)?;
                match self.headers(&body)? {
                    Ok(headers) if kind == kind::SYN_REPLY => Frame::SynReply { id, fin, headers },
                    Ok(headers) => Frame::Headers { id, fin, headers },
                    Err(error) => return Ok(Decoded::Malformed { id, opens: false, error }),
                }
            }
            kind::RST_STREAM => {
                exactly(8)?;
                let id = stream(body.try_get_u32().map_err(short)?)?;
                let status = nonzero(kind, body.try_get_u32().map_err(short)?)?;
                Frame::RstStream { id, status: ResetStatus(status) }
            }
            kind::SETTINGS => {
                let count = body.try_get_u32().map_err(short)?;
                if usize::try_from(count).map_or(true, |count| count > self.settings) {
                    return Err(FrameError::Settings { count, limit: self.settings });
                }
                let mut entries = Vec::new();
                for _ in 0..count {
                    let [flags, id @ ..] = body.try_get_u32().map_err(short)?.to_be_bytes();
                    let id = u32::from_be_bytes([0, id[0], id[1], id[2]]);
                    entries.push(Setting { flags, id, value: body.try_get_u32().map_err(short)? });
                }
                if body.has_remaining() {
                    return Err(FrameError::Length { kind, length });
                }
                Frame::Settings { entries }
            }
            kind::PING => {
                exactly(4)?;
                Frame::Ping { id: nonzero(kind, body.try_get_u32().map_err(short)?)? }
            }
            kind::GOAWAY => {
                exactly(8)?;
                let last = StreamId::new(body.try_get_u32().map_err(short)? & StreamId::MAX);
                Frame::GoAway { last, status: GoAwayStatus(body.try_get_u32().map_err(short)?) }
            }
            _ => {
                exactly(8)?;
                let id = StreamId::new(body.try_get_u32().map_err(short)? & StreamId::MAX);
                Frame::WindowUpdate { id, delta: body.try_get_u32().map_err(short)? & StreamId::MAX }
            }
        };
        Ok(Decoded::Frame(frame))
    }

    /// Reads a header block. The outer error ends the session, the inner one the stream.
    fn headers(&mut self, compressed: &[u8]) -> Result<Result<Headers, HeadersError>, FrameError> {
        if compressed.len() > self.compressed_block {
            return Err(FrameError::CompressedBlock { length: compressed.len(), limit: self.compressed_block });
        }
        let block = self.inflater.block(compressed, self.header_block).map_err(|error| match error {
            InflateError::TooLong => FrameError::HeaderBlock { limit: self.header_block },
            InflateError::Corrupt => FrameError::Compression,
        })?;
        Ok(Headers::from_block(block, self.headers))
    }
}

/// The first word of a frame, then flags and length.
fn header(input: &[u8]) -> Option<(u32, [u8; 4])> {
    let (first, rest) = input.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*first), *rest.first_chunk::<4>()?))
}

/// The stream a control frame is about; the highest bit means nothing there.
fn stream(word: u32) -> Result<StreamId, FrameError> {
    StreamId::new(word & StreamId::MAX).ok_or(FrameError::StreamZero)
}

fn nonzero(kind: u16, word: u32) -> Result<u32, FrameError> {
    if word == 0 { Err(FrameError::Zero { kind }) } else { Ok(word) }
}
