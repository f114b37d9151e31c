//! Reading JSON objects from strangers.

use serde::{Deserialize, de::Error as _};

/// Reads a struct from a JSON object. Serde alone would also read it from a list, in the order of the fields.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, serde_json::Error> {
    if json.trim_ascii_start().first() == Some(&b'[') {
        return Err(serde_json::Error::custom("not a JSON object"));
    }
    serde_json::from_slice(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_no_objects() {
        #[derive(Deserialize, Debug, PartialEq)]
        struct One {
            a: u8,
        }
        assert_eq!(object::<One>(b" {\"a\":1}").unwrap(), One { a: 1 });
        assert!(serde_json::from_slice::<One>(b"[1]").is_ok());
        assert!(object::<One>(b"[1]").is_err());
        assert!(object::<One>(b"").is_err());
    }
}
