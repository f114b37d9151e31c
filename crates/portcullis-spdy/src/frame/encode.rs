//! Frames to bytes.

use bytes::{BufMut, BytesMut};

use super::{FLAG_FIN, FLAG_UNIDIRECTIONAL, Frame, HEADER, MAX_LENGTH, StreamId, VERSION, kind};
use crate::headers::Headers;
use crate::zlib::Deflater;

/// Longest header block that is sent, in bytes before compression: what `spdystream` reads of a single value.
const MAX_BLOCK: usize = 1 << 20;

/// What cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The headers are longer than a mebibyte.
    #[error("the headers have {0} bytes; at most 1 MiB can be sent")]
    Headers(usize),
    /// A frame's payload is longer than 16 MiB - 1.
    #[error("the frame has {0} bytes; at most 16 MiB - 1 can be sent")]
    Length(usize),
    /// The header block could not be compressed; no further one can be sent.
    #[error("the header block could not be compressed")]
    Compression,
}

/// Writes the frames of one session, in order.
#[derive(Default)]
pub struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    /// An encoder at the start of a session.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a frame to the end of `out`.
    ///
    /// # Errors
    /// The frame is too long. Nothing was written then.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), EncodeError> {
        match frame {
            Frame::SynStream { id, associated, priority, fin, unidirectional, headers } => {
                let flags = flag(*fin, FLAG_FIN) | flag(*unidirectional, FLAG_UNIDIRECTIONAL);
                let [a, b, c, d] = id.get().to_be_bytes();
                let [e, f, g, h] = associated.map_or(0, StreamId::get).to_be_bytes();
                self.with_headers(kind::SYN_STREAM, flags, &[a, b, c, d, e, f, g, h, priority << 5, 0], headers, out)?;
            }
            Frame::SynReply { id, fin, headers } => {
                self.with_headers(kind::SYN_REPLY, flag(*fin, FLAG_FIN), &id.get().to_be_bytes(), headers, out)?;
            }
            Frame::Headers { id, fin, headers } => {
                self.with_headers(kind::HEADERS, flag(*fin, FLAG_FIN), &id.get().to_be_bytes(), headers, out)?;
            }
            Frame::RstStream { id, status } => {
                put_control(out, kind::RST_STREAM, 0, 8);
                out.put_u32(id.get());
                out.put_u32(status.0);
            }
            Frame::Settings { entries } => {
                let length = 4 + entries.len() * 8;
                if length > MAX_LENGTH {
                    return Err(EncodeError::Length(length));
                }
                put_control(out, kind::SETTINGS, 0, length);
                out.put_u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
                for entry in entries {
                    out.put_u32(u32::from(entry.flags) << 24 | entry.id & 0x00ff_ffff);
                    out.put_u32(entry.value);
                }
            }
            Frame::Ping { id } => {
                put_control(out, kind::PING, 0, 4);
                out.put_u32(*id);
            }
            Frame::GoAway { last, status } => {
                put_control(out, kind::GOAWAY, 0, 8);
                out.put_u32(last.map_or(0, StreamId::get));
                out.put_u32(status.0);
            }
            Frame::WindowUpdate { id, delta } => {
                put_control(out, kind::WINDOW_UPDATE, 0, 8);
                out.put_u32(id.map_or(0, StreamId::get));
                out.put_u32(*delta);
            }
            Frame::Data { id, fin, payload } => {
                if payload.len() > MAX_LENGTH {
                    return Err(EncodeError::Length(payload.len()));
                }
                put_data(out, *id, *fin, payload);
            }
        }
        Ok(())
    }

    /// Writes a control frame whose body is `fixed` and then headers.
    fn with_headers(
        &mut self,
        kind: u16,
        flags: u8,
        fixed: &[u8],
        headers: &Headers,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let block = headers.to_block();
        // Looked at before compression: what was compressed must also be sent.
        if block.len() > MAX_BLOCK {
            return Err(EncodeError::Headers(block.len()));
        }
        let start = out.len();
        put_control(out, kind, flags, 0);
        out.put_slice(fixed);
        if !self.deflater.block(&block, out) {
            out.truncate(start);
            return Err(EncodeError::Compression);
        }
        let length = out.len() - start - HEADER;
        if let Some(field) = out.get_mut(start + 4..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *field = flags_and_length(flags, length);
        }
        Ok(())
    }
}

/// Writes a data frame. The caller keeps `payload` below 16 MiB.
pub(crate) fn put_data(out: &mut BytesMut, id: StreamId, fin: bool, payload: &[u8]) {
    out.reserve(HEADER + payload.len());
    out.put_u32(id.get());
    out.put_slice(&flags_and_length(flag(fin, FLAG_FIN), payload.len()));
    out.put_slice(payload);
}

fn put_control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_slice(&flags_and_length(flags, length));
}

fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flags, high, middle, low]
}

const fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}
