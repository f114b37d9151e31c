//! Frame headers (RFC 6455 section 5.2).

use bytes::{BufMut, BytesMut};

/// What kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(super) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Longest payload of a control frame, in bytes.
pub(super) const MAX_CONTROL: u64 = 125;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) length: u64,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// A reserved bit is set, and no extension was agreed on.
    Reserved,
    Opcode,
    /// A control frame is longer than 125 bytes or in fragments.
    Control,
    /// The length is not in its shortest form, or over 63 bits.
    Length,
}

impl Header {
    /// Reads a header and says how long it is; `None` when there are too few bytes.
    pub(super) fn decode(input: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        let Some(([first, second], rest)) = input.split_first_chunk::<2>() else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(HeaderError::Reserved);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(HeaderError::Opcode)?;
        let fin = first & 0x80 != 0;
        let short = u64::from(second & 0x7f);
        if opcode.is_control() && (!fin || short > MAX_CONTROL) {
            return Err(HeaderError::Control);
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest),
                None => return Ok(None),
            },
            _ => (short, rest),
        };
        let shortest = match short {
            126 => length > MAX_CONTROL,
            127 => length > u64::from(u16::MAX) && length <= u64::MAX >> 1,
            _ => true,
        };
        if !shortest {
            return Err(HeaderError::Length);
        }
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            match rest.split_first_chunk::<4>() {
                Some((key, rest)) => (Some(*key), rest),
                None => return Ok(None),
            }
        };
        Ok(Some((Self { fin, opcode, mask, length }, input.len() - rest.len())))
    }

    /// Writes the header.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(if self.fin { 0x80 } else { 0 } | self.opcode.bits());
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        match (u8::try_from(self.length), u16::try_from(self.length)) {
            (Ok(length), _) if u64::from(length) <= MAX_CONTROL => out.put_u8(masked | length),
            (_, Ok(length)) => {
                out.put_u8(masked | 126);
                out.put_u16(length);
            }
            _ => {
                out.put_u8(masked | 127);
                out.put_u64(self.length);
            }
        }
        if let Some(key) = self.mask {
            out.put_slice(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headers of the examples in section 5.7, and the edges of the three forms of a length.
    #[test]
    fn headers_written_by_hand_are_read_and_written_again() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let cases: [(&[u8], Header); 8] = [
            (&[0x81, 0x05], Header { fin: true, opcode: Opcode::Text, mask: None, length: 5 }),
            (
                &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d],
                Header { fin: true, opcode: Opcode::Text, mask: Some(key), length: 5 },
            ),
            (&[0x01, 0x03], Header { fin: false, opcode: Opcode::Text, mask: None, length: 3 }),
            (&[0x80, 0x02], Header { fin: true, opcode: Opcode::Continuation, mask: None, length: 2 }),
            (&[0x89, 0x7d], Header { fin: true, opcode: Opcode::Ping, mask: None, length: 125 }),
            (&[0x82, 0x7e, 0x01, 0x00], Header { fin: true, opcode: Opcode::Binary, mask: None, length: 256 }),
            (&[0x82, 0x7e, 0xff, 0xff], Header { fin: true, opcode: Opcode::Binary, mask: None, length: 65_535 }),
            (
                &[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0],
                Header { fin: true, opcode: Opcode::Binary, mask: None, length: 65_536 },
            ),
        ];
        for (bytes, header) in cases {
            assert_eq!(Header::decode(bytes), Ok(Some((header, bytes.len()))));
            for length in 0..bytes.len() {
                assert_eq!(Header::decode(&bytes[..length]), Ok(None), "{bytes:?} cut at {length}");
            }
            let mut out = BytesMut::new();
            header.encode(&mut out);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn headers_against_the_rules_are_refused_by_name() {
        let cases: [(&[u8], HeaderError); 10] = [
            (&[0xc1, 0x00], HeaderError::Reserved),
            (&[0x91, 0x00], HeaderError::Reserved),
            (&[0x83, 0x00], HeaderError::Opcode),
            (&[0x8b, 0x00], HeaderError::Opcode),
            (&[0x09, 0x00], HeaderError::Control),
            (&[0x88, 0x7e], HeaderError::Control),
            (&[0x82, 0x7e, 0x00, 0x7d], HeaderError::Length),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff], HeaderError::Length),
            (&[0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0], HeaderError::Length),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0], HeaderError::Length),
        ];
        for (bytes, error) in cases {
            assert_eq!(Header::decode(bytes), Err(error), "{bytes:?}");
        }
    }
}
