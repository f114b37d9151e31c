//! The wire format of protobuf: tags, numbers, lengths, and what is passed over.
//!
//! Every length is checked against what is there; nothing is taken that a length only promises.
//!
//! Compat: the code that gogo-protobuf generates, of which upstream's decoders are made, and its texts.

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("empty data")]
    NoData,
    #[error("empty body")]
    NoBody,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: negative length found during unmarshaling")]
    Negative,
    #[error("proto: unexpected end of group")]
    EndOfGroup,
    #[error("proto: illegal wireType {0}")]
    Unknown(u8),
    #[error("proto: {0}: wiretype end group for non-group")]
    Group(&'static str),
    #[error("proto: {of}: illegal tag {number} (wire type {wire})")]
    Tag { of: &'static str, number: i32, wire: u64 },
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WrongWire { wire: u8, field: String },
    #[error("{0}")]
    Value(&'static str),
    #[error("proto: message nested too deeply")]
    Depth,
    #[error("proto: more than {} values", crate::json::MAX_VALUES)]
    TooManyValues,
}

/// A number.
pub(crate) const VARINT: u8 = 0;
/// Eight bytes.
pub(crate) const FIXED64: u8 = 1;
/// A length, and so many bytes.
pub(crate) const BYTES: u8 = 2;
const GROUP: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// What stands before a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tag {
    pub(crate) number: i32,
    pub(crate) wire: u8,
    /// Where it begins.
    start: usize,
}

impl Tag {
    /// Whether the value comes in that way.
    pub(crate) fn expect(self, wire: u8, field: impl FnOnce() -> String) -> Result<(), ProtobufError> {
        if self.wire == wire { Ok(()) } else { Err(ProtobufError::WrongWire { wire: self.wire, field: field() }) }
    }
}

/// Reads a message from its beginning on.
pub(crate) struct Reader<'b> {
    all: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    pub(crate) fn new(all: &'b [u8]) -> Self {
        Self { all, at: 0 }
    }

    /// How far it has come.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next tag of a message of type `of`; `None` at its end.
    pub(crate) fn tag(&mut self, of: &'static str) -> Result<Option<Tag>, ProtobufError> {
        if self.at >= self.all.len() {
            return Ok(None);
        }
        let (tag, wire) = self.any_tag()?;
        if tag.wire == GROUP_END {
            return Err(ProtobufError::Group(of));
        }
        if tag.number <= 0 {
            return Err(ProtobufError::Tag { of, number: tag.number, wire });
        }
        Ok(Some(tag))
    }

    /// A tag, whatever it says, and the number that it is. Compat: the field's number is cut to 32 bits.
    pub(crate) fn any_tag(&mut self) -> Result<(Tag, u64), ProtobufError> {
        let start = self.at;
        let wire = self.varint()?;
        let number = u32::try_from((wire >> 3) & u64::from(u32::MAX)).unwrap_or(0).cast_signed();
        Ok((Tag { number, wire: u8::try_from(wire & 7).unwrap_or(0), start }, wire))
    }

    /// Compat: bits beyond 64 are dropped, and an eleventh byte is too many.
    pub(crate) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut out = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.all.get(self.at).ok_or(ProtobufError::Truncated)?;
            self.at += 1;
            out |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(ProtobufError::Overflow)
    }

    /// A length, and so many bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'b [u8], ProtobufError> {
        let length = self.varint()?;
        let end = self.after(length)?;
        let taken = self.all.get(self.at..end).ok_or(ProtobufError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    /// Where as many bytes end, which may be behind all that there is. Compat: Go counts in signed numbers.
    pub(crate) fn after(&self, length: u64) -> Result<usize, ProtobufError> {
        let length = i64::try_from(length).map_err(|_| ProtobufError::Negative)?;
        let at = i64::try_from(self.at).map_err(|_| ProtobufError::Negative)?;
        let end = at.checked_add(length).ok_or(ProtobufError::Negative)?;
        usize::try_from(end).map_err(|_| ProtobufError::Truncated)
    }

    /// Whether as much is there.
    pub(crate) fn check_end(&self, end: usize) -> Result<(), ProtobufError> {
        if end > self.all.len() { Err(ProtobufError::Truncated) } else { Ok(()) }
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, ProtobufError> {
        let bytes = self.all.get(self.at..).and_then(<[u8]>::first_chunk::<8>).ok_or(ProtobufError::Truncated)?;
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Goes on there. Compat: a member of a map may reach over the map's own end, to which its reader then goes back.
    pub(crate) fn go(&mut self, to: usize) {
        self.at = to;
    }

    /// Passes over the value behind a tag, which may be a group.
    pub(crate) fn skip(&mut self, tag: Tag) -> Result<(), ProtobufError> {
        self.at = tag.start;
        let mut depth = 0_usize;
        while self.at < self.all.len() {
            let (tag, _) = self.any_tag()?;
            match tag.wire {
                VARINT => {
                    self.varint()?;
                }
                FIXED64 => self.at += 8,
                BYTES => {
                    let length = self.varint()?;
                    self.at = self.after(length)?;
                }
                GROUP => depth += 1,
                GROUP_END => depth = depth.checked_sub(1).ok_or(ProtobufError::EndOfGroup)?,
                FIXED32 => self.at += 4,
                other => return Err(ProtobufError::Unknown(other)),
            }
            if depth == 0 {
                return if self.at <= self.all.len() { Ok(()) } else { Err(ProtobufError::Truncated) };
            }
        }
        Err(ProtobufError::Truncated)
    }
}

/// Text as Go writes it into JSON: U+FFFD for each byte that is none of it.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(std::iter::repeat_n('\u{fffd}', chunk.invalid().len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(bytes: &[u8]) -> Result<usize, ProtobufError> {
        let mut reader = Reader::new(bytes);
        let (tag, _) = reader.any_tag()?;
        reader.skip(tag)?;
        Ok(reader.at())
    }

    #[test]
    fn what_is_not_known_is_passed_over_as_gogo_passes_over_it() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        for (bytes, want) in [
            (vec![0x08, 0x80, 0x01, 9], Ok(3)),
            (vec![0x09, 1, 2, 3, 4, 5, 6, 7, 8], Ok(9)),
            (vec![0x09, 1], Err(ProtobufError::Truncated)),
            (vec![0x0d, 1, 2, 3, 4], Ok(5)),
            (vec![0x0a, 2, 1, 2], Ok(4)),
            (vec![0x0a, 3, 1, 2], Err(ProtobufError::Truncated)),
            ([&[0x0a], &huge[..]].concat(), Err(ProtobufError::Negative)),
            (vec![0x0b, 0x13, 0x14, 0x0c], Ok(4)),
            (vec![0x0b, 0x13, 0x14], Err(ProtobufError::Truncated)),
            (vec![0x0c], Err(ProtobufError::EndOfGroup)),
            (vec![0x0e], Err(ProtobufError::Unknown(6))),
            (vec![0x80; 11], Err(ProtobufError::Overflow)),
        ] {
            assert_eq!(skip(&bytes), want, "{bytes:x?}");
        }
        // As deep as a body is long, and on no stack.
        let deep = [vec![0x0b; 1_000_000], vec![0x0c; 1_000_000]].concat();
        assert_eq!(skip(&deep), Ok(deep.len()));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_one_by_one() {
        assert_eq!(text(b"a\xff\xc3(\xf0\x9f\xa6b"), "a\u{fffd}\u{fffd}(\u{fffd}\u{fffd}\u{fffd}b");
    }
}
