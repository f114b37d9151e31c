//! The few parts of Go's `encoding/gob` wire format that kubelogin's cache key is made of (reference section 3.2).
//!
//! Only encoding, only the kinds that the key uses, never a decoder. Field numbers are sent as differences and zero
//! values are left out, which is why [`Struct`] keeps the last number.

/// Appends an unsigned integer: one byte below 128, else the negated byte count and the big-endian bytes.
pub(crate) fn uint(out: &mut Vec<u8>, value: u64) {
    if value < 128 {
        out.extend(value.to_le_bytes().first());
        return;
    }
    let bytes = value.to_be_bytes();
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    let used = bytes.get(skip..).unwrap_or_default();
    out.push(u8::try_from(used.len()).map_or(0, u8::wrapping_neg));
    out.extend_from_slice(used);
}

/// Appends a string: its length in bytes, then the bytes.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    uint(out, length(text.len()));
    out.extend_from_slice(text.as_bytes());
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Writes one struct value, field by field in ascending number.
pub(crate) struct Struct<'a> {
    out: &'a mut Vec<u8>,
    last: u64,
}

impl<'a> Struct<'a> {
    /// Starts a struct at the end of `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, last: 0 }
    }

    fn field(&mut self, number: u64) {
        uint(self.out, number - self.last);
        self.last = number;
    }

    /// A string field; empty is left out.
    pub(crate) fn string(&mut self, number: u64, text: &str) {
        if !text.is_empty() {
            self.field(number);
            string(self.out, text);
        }
    }

    /// A list of strings; empty is left out.
    pub(crate) fn strings(&mut self, number: u64, list: &[String]) {
        if !list.is_empty() {
            self.field(number);
            uint(self.out, length(list.len()));
            for text in list {
                string(self.out, text);
            }
        }
    }

    /// A map; `None` (nil in Go) is left out, an empty one is sent.
    pub(crate) fn map(&mut self, number: u64, pairs: Option<&[(String, String)]>) {
        if let Some(pairs) = pairs {
            self.field(number);
            uint(self.out, length(pairs.len()));
            for (key, value) in pairs {
                string(self.out, key);
                string(self.out, value);
            }
        }
    }

    /// A non-negative integer; zero is left out.
    pub(crate) fn int(&mut self, number: u64, value: u32) {
        if value != 0 {
            self.field(number);
            uint(self.out, u64::from(value) * 2);
        }
    }

    /// A boolean; false is left out.
    pub(crate) fn bool(&mut self, number: u64, value: bool) {
        if value {
            self.field(number);
            uint(self.out, 1);
        }
    }

    /// A nested struct, always sent.
    pub(crate) fn nested(&mut self, number: u64, write: impl FnOnce(&mut Struct<'_>)) {
        self.field(number);
        let mut inner = Struct::new(self.out);
        write(&mut inner);
        inner.end();
    }

    /// Ends the struct.
    pub(crate) fn end(self) {
        self.out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_integers_take_the_documented_forms() {
        for (value, want) in [
            (0, &[0][..]),
            (7, &[7]),
            (127, &[127]),
            (128, &[0xff, 0x80]),
            (256, &[0xfe, 0x01, 0x00]),
            (65_536, &[0xfd, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            uint(&mut out, value);
            assert_eq!(out, want, "{value}");
        }
    }

    #[test]
    fn an_empty_map_is_sent_and_a_missing_one_is_not() {
        let encode = |map: Option<&[(String, String)]>| {
            let mut out = Vec::new();
            let mut object = Struct::new(&mut out);
            object.map(4, map);
            object.end();
            out
        };
        assert_eq!(encode(None), [0]);
        assert_eq!(encode(Some(&[])), [4, 0, 0]);
    }
}
