//! A JSON Web Key as it is written (RFC 7517, RFC 7518 section 6, RFC 8037 section 2): members as text, nothing decoded.
//!
//! Duplicate known members are refused, unknown ones skipped. The private members are borrowed from the input, so this
//! type leaves no copy of them behind.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::value::RawValue;

/// The members that this crate reads.
#[derive(Deserialize)]
pub(crate) struct RawJwk<'a> {
    #[serde(borrow)]
    pub(crate) kty: Option<BorrowedStr<'a>>,
    pub(crate) kid: Option<BorrowedStr<'a>>,
    pub(crate) alg: Option<BorrowedStr<'a>>,
    #[serde(rename = "use")]
    pub(crate) use_: Option<BorrowedStr<'a>>,
    pub(crate) crv: Option<BorrowedStr<'a>>,
    pub(crate) x: Option<BorrowedStr<'a>>,
    pub(crate) y: Option<BorrowedStr<'a>>,
    pub(crate) n: Option<BorrowedStr<'a>>,
    pub(crate) e: Option<BorrowedStr<'a>>,
    pub(crate) d: Option<BorrowedStr<'a>>,
    pub(crate) p: Option<BorrowedStr<'a>>,
    pub(crate) q: Option<BorrowedStr<'a>>,
    pub(crate) dp: Option<BorrowedStr<'a>>,
    pub(crate) dq: Option<BorrowedStr<'a>>,
    pub(crate) qi: Option<BorrowedStr<'a>>,
    pub(crate) oth: Option<serde::de::IgnoredAny>,
    pub(crate) k: Option<BorrowedStr<'a>>,
    // Only go-jose looks at these (`go_jose`); their types are nobody else's concern.
    #[serde(borrow)]
    pub(crate) x5c: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) x5u: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) x5t: Option<&'a RawValue>,
    #[serde(borrow, rename = "x5t#S256")]
    pub(crate) x5t_s256: Option<&'a RawValue>,
}

/// A JSON string that is borrowed when it has no escapes. (`Cow` itself always deserialises as owned.)
#[derive(Clone)]
pub(crate) struct BorrowedStr<'a>(pub(crate) Cow<'a, str>);

impl BorrowedStr<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for BorrowedStr<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;

        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text))
            }
        }

        deserializer.deserialize_str(StrVisitor).map(BorrowedStr)
    }
}
