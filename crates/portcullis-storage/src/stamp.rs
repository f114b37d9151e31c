//! Serde representation of times in records: whole milliseconds since the Unix epoch.
//!
//! Milliseconds, because a grace window of a second is measured with them.

use portcullis_runtime::Timestamp;
use serde::{Deserialize, Deserializer, Serializer};

const NANOS_PER_MILLI: i64 = 1_000_000;

pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(at.unix_nanos().div_euclid(NANOS_PER_MILLI))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    Ok(from_millis(i64::deserialize(deserializer)?))
}

/// A time without the fraction of a millisecond that a record would not keep.
pub(crate) const fn truncate(at: Timestamp) -> Timestamp {
    from_millis(at.unix_nanos().div_euclid(NANOS_PER_MILLI))
}

const fn from_millis(millis: i64) -> Timestamp {
    Timestamp::from_unix_nanos(millis.saturating_mul(NANOS_PER_MILLI))
}

/// The same for optional times.
pub(crate) mod option {
    use portcullis_runtime::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde's `with` calls")]
    pub(crate) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(deserializer)?.map(super::from_millis))
    }
}
