//! `metav1.Time`: an instant in whole seconds, printed in UTC as RFC 3339.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds since the Unix epoch, kept inside the years 0 to 9999, the only ones RFC 3339 can print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// 0000-01-01T00:00:00Z.
const EARLIEST: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z.
const LATEST: i64 = 253_402_300_799;

/// Text that is not an RFC 3339 instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time, for example 2026-01-31T12:00:00Z")]
pub struct InvalidTime;

impl Time {
    /// The instant so many seconds after 1970-01-01T00:00:00Z; what RFC 3339 cannot print is moved to its nearest end.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.clamp(EARLIEST, LATEST))
    }

    /// Seconds since the Unix epoch.
    pub fn unix_seconds(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339 with any offset; fractions of a second are cut off.
    ///
    /// # Errors
    /// [`InvalidTime`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidTime> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTime)?;
        Ok(Self::from_unix_seconds(parsed.unix_timestamp()))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp(self.0).map_err(|_| fmt::Error)?;
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_utc_seconds() {
        assert_eq!(Time::from_unix_seconds(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Time::from_unix_seconds(1_795_462_493).to_string(), "2026-11-23T19:34:53Z");
        assert_eq!(Time::from_unix_seconds(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Time::from_unix_seconds(i64::MIN).to_string(), "0000-01-01T00:00:00Z");
    }

    #[test]
    fn reads_offsets_and_fractions() {
        let want = Time::from_unix_seconds(1_795_462_493);
        for text in ["2026-11-23T19:34:53Z", "2026-11-23T21:34:53+02:00", "2026-11-23T19:34:53.999999Z"] {
            assert_eq!(Time::parse(text), Ok(want), "{text}");
        }
        for text in ["", "2026-11-23", "1795462493", "2026-11-23T19:34:53", "2026-13-01T00:00:00Z"] {
            assert_eq!(Time::parse(text), Err(InvalidTime), "{text}");
        }
    }
}
