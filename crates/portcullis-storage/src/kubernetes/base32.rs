//! Base32 of hashes (RFC 4648 section 6, lower case, no padding): fit for names and label values.

const ALPHABET: [u8; 32] = *b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters for 32 bytes.
const LENGTH: usize = 52;

/// 32 bytes as 52 characters.
pub(super) fn encode(bytes: &[u8; 32]) -> String {
    let mut out = String::with_capacity(LENGTH);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in bytes {
        (bits, held) = ((bits << 8) | u32::from(*byte), held + 8);
        while held >= 5 {
            held -= 5;
            out.push(letter(bits >> held));
        }
        bits &= (1 << held) - 1;
    }
    out.push(letter(bits << (5 - held)));
    out
}

fn letter(bits: u32) -> char {
    let at = usize::try_from(bits & 31).unwrap_or_default();
    ALPHABET.get(at).copied().map_or('a', char::from)
}

/// The reverse; `None` for everything that [`encode`] does not write.
pub(super) fn decode(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let mut places = out.iter_mut();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        (bits, held) = ((bits << 5) | u32::try_from(value).ok()?, held + 5);
        if held >= 8 {
            held -= 8;
            *places.next()? = u8::try_from(bits >> held).ok()?;
            bits &= (1 << held) - 1;
        }
    }
    (text.len() == LENGTH && bits == 0 && places.next().is_none()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts() {
        let mut bytes = [0; 32];
        assert_eq!(encode(&bytes), "a".repeat(52));
        bytes[..6].copy_from_slice(b"foobar");
        assert!(encode(&bytes).starts_with("mzxw6ytboiaaaa"), "{}", encode(&bytes));
        assert_eq!(encode(&[0xff; 32]), format!("{}q", "7".repeat(51)));
    }

    #[test]
    fn only_what_is_written_is_read() {
        let whole = encode(&[0x5a; 32]);
        for text in [
            "",
            &whole[1..],
            &format!("{whole}a"),
            &whole.to_uppercase(),
            &format!("{}b", &whole[..51]),
            &format!("1{}", &whole[1..]),
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in proptest::array::uniform32(0_u8..)) {
            proptest::prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
