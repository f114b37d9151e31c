//! UTF-8 of text messages, checked as their pieces arrive (RFC 6455 section 8.1): a character may be cut by a fragment.

/// How far a text has been checked.
#[derive(Default)]
pub(super) struct Utf8 {
    /// The beginning of a character whose rest is to come.
    open: [u8; 4],
    length: usize,
}

impl Utf8 {
    /// Checks the next piece. False when no continuation can make it UTF-8.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> bool {
        while self.length > 0 {
            let Some((next, rest)) = piece.split_first() else { return true };
            let Some(place) = self.open.get_mut(self.length) else { return false };
            *place = *next;
            self.length += 1;
            piece = rest;
            match std::str::from_utf8(self.open.get(..self.length).unwrap_or_default()) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                let open = piece.get(error.valid_up_to()..).unwrap_or_default();
                for (place, byte) in self.open.iter_mut().zip(open) {
                    *place = *byte;
                }
                self.length = open.len();
                true
            }
        }
    }

    /// Ends the text. False when its last character is not whole.
    pub(super) fn end(&mut self) -> bool {
        std::mem::take(&mut self.length) == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pieces: &[&[u8]]) -> bool {
        let mut utf8 = Utf8::default();
        pieces.iter().all(|piece| utf8.push(piece)) && utf8.end()
    }

    #[test]
    fn characters_may_be_cut_and_must_be_whole_at_the_end() {
        assert!(check(&["κόσμε".as_bytes()]));
        assert!(check(&[&[0xf0], &[0x9f], &[], &[0x99, 0x82, b'x', 0xc3], &[0xa4]]));
        assert!(!check(&[&[0xf0, 0x9f]]));
        assert!(!check(&[&[0xc3], b"x"]));
        assert!(!check(&[&[0xed, 0xa0, 0x80]]), "a surrogate");
        assert!(!check(&[&[0xf4], &[0x90]]), "beyond the last character, seen at once");
        assert!(!check(&[&[0xc0]]), "longer than it needs to be");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_verdict(bytes in text_or_bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(check(&pieces), std::str::from_utf8(&bytes).is_ok());
        }
    }

    fn text_or_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            ".{0,12}".prop_map(String::into_bytes),
            prop::collection::vec(prop_oneof![Just(0xf0_u8), Just(0x9f), Just(0x80), Just(0xed), any::<u8>()], 0..12),
        ]
    }
}
