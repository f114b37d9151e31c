//! A string that must not be seen: passwords, client secrets, tokens.

use std::fmt;

use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret string: `Debug` and `Display` are redacted, comparison takes constant time (for equal lengths), and the
/// memory is wiped when it is dropped. It cannot be serialized: whoever writes it somewhere calls [`Secret::expose`].
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes a string as a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself. Every use of this is a place where it can leak.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the secret is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in constant time. Only the lengths may leak.
    #[must_use]
    pub fn ct_eq(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(&other.0)
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_formatting_shows_the_secret() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "[redacted] Secret([redacted]) Some(Secret([redacted]))"
        );
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn equality_is_of_the_whole_value() {
        let secret = Secret::new("abc");
        assert!(secret.ct_eq("abc"));
        for other in ["", "ab", "abd", "abcd"] {
            assert!(!secret.ct_eq(other), "{other}");
        }
        assert_eq!(secret, Secret::from("abc"));
        assert!(Secret::default().is_empty());
    }

    #[test]
    fn it_is_read_like_a_string() {
        assert_eq!(serde_json::from_str::<Secret>("\"s\"").unwrap().expose(), "s");
        assert!(serde_json::from_str::<Secret>("1").is_err());
    }
}
