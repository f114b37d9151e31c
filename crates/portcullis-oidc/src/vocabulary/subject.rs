//! Dex's `sub` claim: base64url of the protobuf message `{1: user_id, 2: conn_id}` (dex `server/internal/types.proto`).
//!
//! Bindings in clusters are keyed on it, so the bytes must be Dex's: fields in order, empty ones left out, lengths as
//! minimal varints, no padding.

use portcullis_jose::{base64url_decode, base64url_encode};

/// Longest `sub` that is decoded, in characters.
const MAX_SUB: usize = 4096;

/// A user of a connector, as `sub` names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The id within the connector.
    pub user_id: String,
    /// The connector; empty for client credentials.
    pub conn_id: String,
}

/// The text is no `sub` of Dex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a subject that Dex or Portcullis made")]
pub struct InvalidSubject;

/// The `sub` of a user.
pub fn encode_sub(user_id: &str, conn_id: &str) -> String {
    let mut message = Vec::with_capacity(user_id.len() + conn_id.len() + 8);
    for (tag, value) in [(0x0a, user_id), (0x12, conn_id)] {
        if value.is_empty() {
            continue;
        }
        message.push(tag);
        let mut length = value.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(value.as_bytes());
    }
    base64url_encode(&message)
}

/// The user that a `sub` names. As a protobuf reader must, it takes the last of repeated fields and skips unknown ones.
///
/// # Errors
/// [`InvalidSubject`] for what is no such message, or longer than 4,096 characters.
pub fn decode_sub(sub: &str) -> Result<Subject, InvalidSubject> {
    if sub.len() > MAX_SUB {
        return Err(InvalidSubject);
    }
    let message = base64url_decode(sub).map_err(|_| InvalidSubject)?;
    let mut rest = message.as_slice();
    let mut subject = Subject { user_id: String::new(), conn_id: String::new() };
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let field = tag >> 3;
        if field == 0 || field >= 1 << 29 {
            return Err(InvalidSubject);
        }
        let value: &[u8] = match tag & 7 {
            0 => {
                varint(&mut rest)?;
                &[]
            }
            1 => take(&mut rest, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| InvalidSubject)?;
                take(&mut rest, length)?
            }
            5 => take(&mut rest, 4)?,
            _ => return Err(InvalidSubject),
        };
        if let (1 | 2, 2) = (field, tag & 7) {
            let text = std::str::from_utf8(value).map_err(|_| InvalidSubject)?.to_owned();
            *(if field == 1 { &mut subject.user_id } else { &mut subject.conn_id }) = text;
        }
    }
    Ok(subject)
}

fn varint(rest: &mut &[u8]) -> Result<u64, InvalidSubject> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(InvalidSubject)?;
        *rest = tail;
        if shift == 63 && *byte > 1 {
            return Err(InvalidSubject);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(InvalidSubject)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], InvalidSubject> {
    let (head, tail) = rest.split_at_checked(length).ok_or(InvalidSubject)?;
    *rest = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_those_of_dex() {
        for (user_id, conn_id, sub) in [
            ("foo", "bar", "CgNmb28SA2Jhcg"),
            ("1", "test", "CgExEgR0ZXN0"),
            (
                "08a8684b-db88-4b73-90a9-3cd1661f5466",
                "local",
                "CiQwOGE4Njg0Yi1kYjg4LTRiNzMtOTBhOS0zY2QxNjYxZjU0NjYSBWxvY2Fs",
            ),
            ("", "", ""),
            ("client", "", "CgZjbGllbnQ"),
            ("", "c", "EgFj"),
        ] {
            assert_eq!(encode_sub(user_id, conn_id), sub);
            assert_eq!(decode_sub(sub), Ok(Subject { user_id: user_id.into(), conn_id: conn_id.into() }));
        }
    }

    #[test]
    fn lengths_over_one_byte_are_varints() {
        let sub = encode_sub(&"u".repeat(300), "c");
        let bytes = base64url_decode(&sub).unwrap();
        assert_eq!(&bytes[..3], &[0x0a, 0xac, 0x02]);
        assert_eq!(decode_sub(&sub).unwrap().user_id.len(), 300);
    }

    #[test]
    fn malformed_messages_are_refused_and_foreign_fields_skipped() {
        let decode = |bytes: &[u8]| decode_sub(&base64url_encode(bytes));
        for bytes in [
            &[0x0a][..],
            &[0x0a, 5, b'a'],
            &[0x0a, 1, 0xff],
            &[0x0b, 0],
            &[0x02, 0],
            &[0x80],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert_eq!(decode(bytes), Err(InvalidSubject), "{bytes:?}");
        }
        assert_eq!(decode_sub("not base64!"), Err(InvalidSubject));
        assert_eq!(decode_sub(&"A".repeat(MAX_SUB + 1)), Err(InvalidSubject));
        let skipped = decode(&[
            0x18, 7, 0x22, 1, 9, 0x29, 1, 2, 3, 4, 5, 6, 7, 8, 0x35, 1, 2, 3, 4, 0x0a, 1, b'a', 0x0a, 1, b'b',
        ]);
        assert_eq!(skipped, Ok(Subject { user_id: "b".into(), conn_id: String::new() }));
    }

    proptest! {
        #[test]
        fn every_subject_survives_the_round_trip(user_id in ".{0,300}", conn_id in ".{0,40}") {
            prop_assert_eq!(decode_sub(&encode_sub(&user_id, &conn_id)), Ok(Subject { user_id, conn_id }));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_sub(&base64url_encode(&bytes));
        }
    }
}
