//! Masking (RFC 6455 section 5.3): what a client sends is mixed with four bytes of a key, so that a script cannot write
//! bytes of its choice through a proxy that takes them for HTTP.

/// Where a client's masking keys come from: unpredictable bytes, anew for each frame. Randomness is an input.
pub struct MaskKeys(Box<dyn FnMut() -> [u8; 4] + Send>);

impl MaskKeys {
    /// Keys from a function, which must take them from a source that the peer cannot foresee.
    pub fn new(keys: impl FnMut() -> [u8; 4] + Send + 'static) -> Self {
        Self(Box::new(keys))
    }

    pub(super) fn next(&mut self) -> [u8; 4] {
        (self.0)()
    }
}

/// Masks or unmasks `data`, whose first byte is the payload's byte number `offset`.
pub(super) fn apply(key: [u8; 4], offset: u64, data: &mut [u8]) {
    let mut turned = key;
    turned.rotate_left(usize::try_from(offset % 4).unwrap_or(0));
    // Sixteen at a time, which the compiler turns into vector instructions.
    let wide: [u8; 16] = std::array::from_fn(|index| turned.get(index % 4).copied().unwrap_or(0));
    for chunk in data.chunks_mut(16) {
        for (byte, key) in chunk.iter_mut().zip(wide) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_section_5_7_is_unmasked() {
        let mut data = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply([0x37, 0xfa, 0x21, 0x3d], 0, &mut data);
        assert_eq!(&data, b"Hello");
    }

    #[test]
    fn pieces_are_unmasked_as_the_whole_is() {
        let key = [1, 2, 3, 4];
        let whole: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        let mut masked = whole.clone();
        apply(key, 0, &mut masked);
        for cut in [0, 1, 2, 3, 5, 16, 17, 999] {
            let mut pieces = masked.clone();
            let (first, second) = pieces.split_at_mut(cut);
            apply(key, 0, first);
            apply(key, u64::try_from(cut).unwrap(), second);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
