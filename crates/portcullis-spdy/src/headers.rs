//! The headers of a stream, and the name/value block that carries them (SPDY/3.1 draft, section 2.6.10).
//!
//! Compat: a value may be empty, also among several, because `github.com/moby/spdystream` v0.5.1 writes and reads it so;
//! the draft allows an empty value only alone.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Header names with their values, in the order in which they were added. Names are lower case and unique; a name has
/// one value or more.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<Bytes>)>);

/// What is wrong with a name, a value or a block. Ends a stream, not a session: the block itself was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadersError {
    /// The block breaks off, or has bytes after its last pair.
    #[error("the header block has another length than its pairs")]
    Length,
    /// More names or more values than [`crate::Limits::headers`].
    #[error("the header block has more than {limit} values")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// A name is empty or not lower-case ASCII without NUL.
    #[error("a header name is empty or not lower-case ASCII")]
    Name,
    /// A name occurs twice.
    #[error("a header name occurs twice")]
    Duplicate,
    /// A value to be sent contains NUL, which separates values.
    #[error("a header value contains a NUL")]
    Value,
}

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a value to a name. ASCII capitals in the name are made small.
    ///
    /// # Errors
    /// The name is empty or not ASCII, or the value contains NUL.
    pub fn append(&mut self, name: &str, value: impl Into<Bytes>) -> Result<(), HeadersError> {
        let name = name.to_ascii_lowercase();
        check_name(name.as_bytes())?;
        let value = value.into();
        if value.contains(&0) {
            return Err(HeadersError::Value);
        }
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name, vec![value])),
        }
        Ok(())
    }

    /// The same, for building in one expression.
    ///
    /// # Errors
    /// As [`Headers::append`].
    pub fn with(mut self, name: &str, value: impl Into<Bytes>) -> Result<Self, HeadersError> {
        self.append(name, value)?;
        Ok(self)
    }

    /// The first value of a name (lower case), if it is UTF-8.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.all(name).first()?).ok()
    }

    /// All values of a name (lower case).
    #[must_use]
    pub fn all(&self, name: &str) -> &[Bytes] {
        self.0.iter().find(|(known, _)| known == name).map_or(&[], |(_, values)| values)
    }

    /// Names with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Bytes])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// The number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without any name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The uncompressed block.
    pub(crate) fn to_block(&self) -> BytesMut {
        let values = |values: &[Bytes]| values.iter().map(|value| value.len() + 1).sum::<usize>();
        let length = self.0.iter().map(|(name, all)| 8 + name.len() + values(all)).sum::<usize>();
        let mut block = BytesMut::with_capacity(4 + length);
        put_length(&mut block, self.0.len());
        for (name, all) in &self.0 {
            put_length(&mut block, name.len());
            block.put_slice(name.as_bytes());
            put_length(&mut block, values(all).saturating_sub(1));
            for (position, value) in all.iter().enumerate() {
                if position > 0 {
                    block.put_u8(0);
                }
                block.put_slice(value);
            }
        }
        block
    }

    /// Reads an uncompressed block with at most `limit` values. A block of no bytes has no headers.
    pub(crate) fn from_block(mut block: Bytes, limit: usize) -> Result<Self, HeadersError> {
        let mut headers = Self::new();
        if block.is_empty() {
            return Ok(headers);
        }
        let names = block.try_get_u32().map_err(|_| HeadersError::Length)?;
        let mut left = limit;
        for _ in 0..names {
            let name = take(&mut block)?;
            check_name(&name)?;
            let name = std::str::from_utf8(&name).map_err(|_| HeadersError::Name)?.to_owned();
            if headers.0.iter().any(|(known, _)| *known == name) {
                return Err(HeadersError::Duplicate);
            }
            let mut joined = take(&mut block)?;
            let mut values = Vec::new();
            loop {
                left = left.checked_sub(1).ok_or(HeadersError::TooMany { limit })?;
                let Some(end) = joined.iter().position(|byte| *byte == 0) else { break };
                values.push(joined.split_to(end));
                joined.advance(1);
            }
            values.push(joined);
            headers.0.push((name, values));
        }
        if block.has_remaining() { Err(HeadersError::Length) } else { Ok(headers) }
    }
}

/// Lengths are four bytes. What is sent is far below that: the encoder refuses blocks over a mebibyte.
fn put_length(block: &mut BytesMut, length: usize) {
    block.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// A length and as many bytes.
fn take(block: &mut Bytes) -> Result<Bytes, HeadersError> {
    let length = block.try_get_u32().map_err(|_| HeadersError::Length)?;
    let length = usize::try_from(length).map_err(|_| HeadersError::Length)?;
    if length > block.len() {
        return Err(HeadersError::Length);
    }
    Ok(block.split_to(length))
}

fn check_name(name: &[u8]) -> Result<(), HeadersError> {
    let odd = |byte: &u8| *byte == 0 || !byte.is_ascii() || byte.is_ascii_uppercase();
    if name.is_empty() || name.iter().any(odd) { Err(HeadersError::Name) } else { Ok(()) }
}

/// Names, and how many values each has. A value may say who asks for what: it is not for logs.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, values)| (name, values.len()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 2.6.10 by hand: two names, the second with two values.
    const BLOCK: &[u8] = b"\0\0\0\x02\0\0\0\x04port\0\0\0\x045554\0\0\0\x0astreamtype\0\0\0\x0adata\0error";

    fn read(block: &'static [u8]) -> Result<Headers, HeadersError> {
        Headers::from_block(Bytes::from_static(block), 10)
    }

    #[test]
    fn a_block_written_by_hand_is_read_and_written_again() {
        let headers = read(BLOCK).unwrap();
        assert_eq!(headers.get("port"), Some("5554"));
        assert_eq!(headers.all("streamtype"), ["data", "error"]);
        assert_eq!(headers.all("other").len(), 0);
        assert_eq!(headers.to_block(), BLOCK);
        assert_eq!(read(b"").unwrap(), Headers::new());
        assert_eq!(read(b"\0\0\0\0").unwrap(), Headers::new());
    }

    #[test]
    fn names_are_made_small_and_collect_their_values() {
        let headers = Headers::new().with("Port", "1").unwrap().with("pORT", "2").unwrap();
        assert_eq!(headers.all("port"), ["1", "2"]);
        assert_eq!(headers.len(), 1);
        assert_eq!(format!("{headers:?}"), r#"{"port": 2}"#);
    }

    #[test]
    fn empty_values_are_kept_as_spdystream_writes_them() {
        let headers = read(b"\0\0\0\x01\0\0\0\x01a\0\0\0\x02\0\0").unwrap();
        assert_eq!(headers.all("a"), ["", "", ""]);
        assert_eq!(headers.to_block(), &b"\0\0\0\x01\0\0\0\x01a\0\0\0\x02\0\0"[..]);
    }

    #[test]
    fn malformed_blocks_are_refused_by_name() {
        let cases: [(&'static [u8], HeadersError); 9] = [
            (b"\0\0\0", HeadersError::Length),
            (b"\0\0\0\x01", HeadersError::Length),
            (b"\0\0\0\x01\0\0\0\x02a", HeadersError::Length),
            (b"\0\0\0\x01\0\0\0\x01a\xff\xff\xff\xffx", HeadersError::Length),
            (b"\0\0\0\0x", HeadersError::Length),
            (b"\0\0\0\x01\0\0\0\0\0\0\0\x01b", HeadersError::Name),
            (b"\0\0\0\x01\0\0\0\x01A\0\0\0\x01b", HeadersError::Name),
            (b"\0\0\0\x01\0\0\0\x02\xc3\xa4\0\0\0\x01b", HeadersError::Name),
            (b"\0\0\0\x02\0\0\0\x01a\0\0\0\0\0\0\0\x01a\0\0\0\0", HeadersError::Duplicate),
        ];
        for (block, error) in cases {
            assert_eq!(read(block), Err(error), "{block:?}");
        }
        let mut headers = Headers::new();
        assert_eq!(headers.append("", "x"), Err(HeadersError::Name));
        assert_eq!(headers.append("ä", "x"), Err(HeadersError::Name));
        assert_eq!(headers.append("a", "x\0y"), Err(HeadersError::Value));
    }

    #[test]
    fn values_are_counted_and_a_false_count_costs_nothing() {
        assert!(read(b"\0\0\0\x01\0\0\0\x01a\0\0\0\x09\0\0\0\0\0\0\0\0\0").is_ok());
        assert_eq!(
            read(b"\0\0\0\x01\0\0\0\x01a\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0"),
            Err(HeadersError::TooMany { limit: 10 })
        );
        assert_eq!(read(b"\xff\xff\xff\xff\0\0\0\x01a\0\0\0\0"), Err(HeadersError::Length));
    }
}
