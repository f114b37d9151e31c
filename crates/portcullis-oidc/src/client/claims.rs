//! The claims of an ID token that verification itself needs (OpenID Connect Core section 2, RFC 7519 section 4.1).
//!
//! Types are as lenient as go-oidc's (`aud` as text or list, times as numbers with a fraction or as text), except that a
//! claim may not occur twice: two readers could otherwise disagree about it.

use std::fmt;

use portcullis_runtime::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Claims {
    #[serde(deserialize_with = "or_default")]
    pub(super) iss: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) sub: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) aud: Audience,
    pub(super) exp: Option<NumericDate>,
    pub(super) iat: Option<NumericDate>,
    pub(super) nbf: Option<NumericDate>,
    #[serde(deserialize_with = "or_default")]
    pub(super) nonce: String,
    pub(super) at_hash: Option<String>,
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// One audience or several.
#[derive(Default)]
pub(super) struct Audience(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AudienceVisitor;

        impl<'de> Visitor<'de> for AudienceVisitor {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Audience, E> {
                Ok(Audience(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Audience, A::Error> {
                let mut audiences = Vec::new();
                while let Some(audience) = seq.next_element()? {
                    audiences.push(audience);
                }
                Ok(Audience(audiences))
            }
        }

        deserializer.deserialize_any(AudienceVisitor)
    }
}

/// Seconds since the Unix epoch; a fraction is cut off.
#[derive(Clone, Copy)]
pub(super) struct NumericDate(pub(super) Timestamp);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DateVisitor;

        impl Visitor<'_> for DateVisitor {
            type Value = NumericDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_i64<E: Error>(self, seconds: i64) -> Result<NumericDate, E> {
                Ok(NumericDate(Timestamp::from_unix_seconds(seconds)))
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<NumericDate, E> {
                self.visit_i64(i64::try_from(seconds).unwrap_or(i64::MAX))
            }

            fn visit_f64<E: Error>(self, seconds: f64) -> Result<NumericDate, E> {
                // Beyond the range Go's conversion gives a time long ago; so a huge `exp` is expired, not eternal.
                if !seconds.is_finite() || seconds.abs() >= 9.2e18 {
                    return self.visit_i64(i64::MIN);
                }
                self.visit_i64(seconds as i64)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<NumericDate, E> {
                match (text.parse::<i64>(), text.parse::<f64>()) {
                    (Ok(seconds), _) => self.visit_i64(seconds),
                    (Err(_), Ok(seconds)) if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => {
                        self.visit_f64(seconds)
                    }
                    _ => Err(E::custom("not a number of seconds")),
                }
            }
        }

        deserializer.deserialize_any(DateVisitor)
    }
}
