//! `base64.RawURLEncoding`: URL alphabet, no padding, line breaks skipped, unused trailing bits ignored.
//!
//! Compat: the leniency matters twice. A token with a stray line break in its payload is still routed, and a last
//! character with unused bits set decodes to the same bytes, over which go-jose then verifies the signature.

pub(crate) use portcullis_jose::{base64url_decode_as_go as decode, base64url_encode as encode};

/// Whether `text` is what [`encode`] gives for the bytes that it stands for: no line breaks, no unused bits set.
pub(crate) fn is_canonical(text: &str) -> bool {
    let Some(last) = text.bytes().last() else { return true };
    let Some(value) = sextet(last) else { return false };
    let unused = match text.len() % 4 {
        2 => 0b00_1111,
        3 => 0b00_0011,
        _ => 0,
    };
    value & unused == 0 && text.bytes().all(|b| sextet(b).is_some())
}

const fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_as_gos_raw_url_encoding_does() {
        let table: &[(&str, Option<&[u8]>)] = &[
            ("", Some(b"")),
            ("YQ", Some(b"a")),
            ("YR", Some(b"a")), // unused bits set
            ("Y\r\nQ", Some(b"a")),
            ("YQ==", None),
            ("Y Q", None),
            ("Y", None),
            ("-_8", Some(&[0xfb, 0xff])),
            ("+/8", None),
            ("YQ\u{e9}", None),
        ];
        for (text, want) in table {
            assert_eq!(decode(text).as_deref(), *want, "{text:?}");
        }
    }

    #[test]
    fn canonical_means_that_encoding_again_gives_the_same_text() {
        for text in ["", "YQ", "YR", "YWI", "YWJ", "YWJj", "Y\nQ", "YWJjZA", "YWJjZB", "-_8"] {
            let again = decode(text).map(|bytes| encode(&bytes));
            assert_eq!(is_canonical(text), again.as_deref() == Some(text), "{text:?}");
        }
    }
}
