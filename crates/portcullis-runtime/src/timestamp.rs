//! Points in time, as a count of nanoseconds since the Unix epoch.
//!
//! The range is 1677-09-21 to 2262-04-11. Conversions and arithmetic saturate at its ends: a token that claims to
//! expire in the year 9999 expires in 2262 and nothing overflows.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_FORMAT: StaticFormatDescription = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const MICROS_FORMAT: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

const NANOS_FORMAT: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z");

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last point in time that can be held; "never" for an expiry.
    pub const MAX: Self = Self(i64::MAX);
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);

    /// The point `seconds` after the Unix epoch (before it when negative); saturates.
    #[must_use]
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// The point `nanos` nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_nanos(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 time with any offset; `None` when it is not one. Times outside the range saturate.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        let nanos = parsed.unix_timestamp_nanos();
        let clamped = nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        i64::try_from(clamped).ok().map(Self)
    }

    /// RFC 3339 in UTC with second precision, such as `2026-08-01T09:30:00Z` (`metav1.Time`).
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.format(SECONDS_FORMAT)
    }

    /// RFC 3339 in UTC with six fraction digits, such as `2026-08-01T09:30:00.000000Z` (`metav1.MicroTime`).
    #[must_use]
    pub fn rfc3339_micros(self) -> String {
        self.format(MICROS_FORMAT)
    }

    /// RFC 3339 in UTC with nine fraction digits, such as `2026-08-01T09:30:00.000000000Z` (container logs).
    #[must_use]
    pub fn rfc3339_nanos(self) -> String {
        self.format(NANOS_FORMAT)
    }

    /// The time from `earlier` to `self`; zero when `earlier` is the later one.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        let nanos = self.0 as i128 - earlier.0 as i128;
        if nanos <= 0 {
            Duration::ZERO
        } else {
            Duration::from_nanos(if nanos > u64::MAX as i128 { u64::MAX } else { nanos as u64 })
        }
    }

    /// The same point as an [`OffsetDateTime`] in UTC.
    #[must_use]
    pub fn to_offset_date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    fn format(self, format: StaticFormatDescription) -> String {
        // Every i64 of nanoseconds has a four-digit year, so formatting into a String cannot fail.
        self.to_offset_date_time().format(format).unwrap_or_default()
    }
}

fn nanos_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(duration)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos_of(duration)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339_micros())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// Serde representation as whole Unix seconds, for `#[serde(with = "portcullis_runtime::unix_seconds")]`.
pub mod unix_seconds {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Timestamp;

    /// Writes the whole seconds since the Unix epoch.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(value.unix_seconds())
    }

    /// Reads whole seconds since the Unix epoch.
    ///
    /// # Errors
    /// When the value is no integer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_unix_seconds)
    }

    /// The same for `Option<Timestamp>`.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serializer};

        use super::Timestamp;

        /// Writes the whole seconds since the Unix epoch, or null.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(value: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => serializer.serialize_some(&value.unix_seconds()),
                None => serializer.serialize_none(),
            }
        }

        /// Reads whole seconds since the Unix epoch, or null.
        ///
        /// # Errors
        /// When the value is neither.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
            Ok(Option::<i64>::deserialize(deserializer)?.map(Timestamp::from_unix_seconds))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_in_utc_with_fixed_precision() {
        let t = Timestamp::from_unix_nanos(1_785_576_600_123_456_789);
        assert_eq!(t.rfc3339(), "2026-08-01T09:30:00Z");
        assert_eq!(t.rfc3339_micros(), "2026-08-01T09:30:00.123456Z");
        assert_eq!(Timestamp::UNIX_EPOCH.rfc3339(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn times_before_the_epoch_round_down_and_format() {
        let t = Timestamp::from_unix_nanos(-1);
        assert_eq!(t.unix_seconds(), -1);
        assert_eq!(t.rfc3339(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn the_ends_of_the_range_saturate_and_still_format() {
        assert_eq!(Timestamp::from_unix_seconds(253_402_300_799), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.rfc3339(), "2262-04-11T23:47:16Z");
        assert_eq!(Timestamp::from_unix_seconds(i64::MIN).rfc3339(), "1677-09-21T00:12:43Z");
        assert_eq!(Timestamp::MAX + Duration::from_secs(1), Timestamp::MAX);
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(
            Timestamp::MAX.saturating_since(Timestamp::from_unix_nanos(i64::MIN)),
            Duration::from_nanos(u64::MAX)
        );
    }

    #[test]
    fn since_is_never_negative() {
        let a = Timestamp::from_unix_seconds(10);
        let b = Timestamp::from_unix_seconds(12);
        assert_eq!(b.saturating_since(a), Duration::from_secs(2));
        assert_eq!(a.saturating_since(b), Duration::ZERO);
        assert_eq!(b - Duration::from_secs(2), a);
    }

    #[test]
    fn parses_offsets_and_refuses_other_text() {
        let t = Timestamp::parse_rfc3339("2026-08-01T11:30:00+02:00").unwrap();
        assert_eq!(t.rfc3339(), "2026-08-01T09:30:00Z");
        assert_eq!(Timestamp::parse_rfc3339("9999-12-31T23:59:59Z"), Some(Timestamp::MAX));
        assert_eq!(Timestamp::parse_rfc3339("2026-08-01"), None);
        assert_eq!(Timestamp::parse_rfc3339(""), None);
    }

    #[test]
    fn serde_is_whole_seconds() {
        #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
        struct S {
            #[serde(with = "super::unix_seconds")]
            at: Timestamp,
            #[serde(with = "super::unix_seconds::option")]
            until: Option<Timestamp>,
        }
        let s = S { at: Timestamp::from_unix_seconds(5), until: None };
        let text = serde_json::to_string(&s).unwrap();
        assert_eq!(text, r#"{"at":5,"until":null}"#);
        assert_eq!(serde_json::from_str::<S>(&text).unwrap(), s);
        assert!(serde_json::from_str::<S>(r#"{"at":"5","until":null}"#).is_err());
    }
}
