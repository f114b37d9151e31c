//! Close codes and close frames (RFC 6455 sections 5.5.1 and 7.4).

use std::fmt;

use bytes::{BufMut, BytesMut};

/// Longest reason that fits into a control frame, in bytes.
pub(super) const MAX_REASON: usize = 123;

/// Why a connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The end goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// A kind of data that is not taken here.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// Something against the rules of this end.
    pub const POLICY: Self = Self(1008);
    /// A message that is too large.
    pub const TOO_BIG: Self = Self(1009);
    /// The end failed.
    pub const INTERNAL_ERROR: Self = Self(1011);

    /// True when a frame may carry it: what the registry has assigned, and the two free ranges. 1005, 1006 and 1015 are
    /// for use within a program only.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A close frame's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Why.
    pub code: CloseCode,
    /// In words, at most 123 bytes. From the peer: not to be shown to anybody as ours.
    pub reason: String,
}

impl Close {
    /// Reads a close frame's payload. `None` for an empty one.
    pub(super) fn parse(payload: &[u8]) -> Result<Option<Self>, CloseCode> {
        if payload.is_empty() {
            return Ok(None);
        }
        let Some((code, reason)) = payload.split_first_chunk::<2>() else { return Err(CloseCode::PROTOCOL) };
        let code = CloseCode(u16::from_be_bytes(*code));
        if !code.is_allowed() {
            return Err(CloseCode::PROTOCOL);
        }
        let reason = std::str::from_utf8(reason).map_err(|_| CloseCode::INVALID_DATA)?.to_owned();
        Ok(Some(Self { code, reason }))
    }

    /// A close frame's payload. A reason that is too long is cut.
    pub(super) fn payload(code: CloseCode, reason: &str) -> BytesMut {
        let reason = reason.get(..reason.floor_char_boundary(MAX_REASON)).unwrap_or_default();
        let mut payload = BytesMut::with_capacity(2 + reason.len());
        payload.put_u16(code.0);
        payload.put_slice(reason.as_bytes());
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_by_the_rules() {
        assert_eq!(Close::parse(b""), Ok(None));
        let bye = Close { code: CloseCode::NORMAL, reason: "bye".to_owned() };
        assert_eq!(Close::parse(b"\x03\xe8bye"), Ok(Some(bye)));
        assert_eq!(Close::parse(b"\x03"), Err(CloseCode::PROTOCOL));
        assert_eq!(Close::parse(b"\x03\xe8\xff"), Err(CloseCode::INVALID_DATA));
        for (code, allowed) in [
            (0, false),
            (999, false),
            (1000, true),
            (1003, true),
            (1004, false),
            (1005, false),
            (1006, false),
            (1007, true),
            (1014, true),
            (1015, false),
            (1016, false),
            (2999, false),
            (3000, true),
            (4999, true),
            (5000, false),
        ] {
            assert_eq!(Close::parse(&u16::to_be_bytes(code)).is_ok(), allowed, "{code}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let payload = Close::payload(CloseCode::POLICY, &"ä".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(Close::parse(&payload).unwrap().unwrap().reason, "ä".repeat(61));
    }
}
