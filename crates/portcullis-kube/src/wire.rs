//! Small serde helpers shared by the wire types: Go reads `null` as the zero value, and prints empty lists in its own way.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads `null` as the default, as Go's decoder does for every non-pointer field.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads lists by name; `null` is the empty one, of the names and of each list.
pub(crate) fn nullable_lists<'de, D>(deserializer: D) -> Result<BTreeMap<String, Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    let lists = Option::<BTreeMap<String, Option<Vec<String>>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(lists.into_iter().map(|(name, list)| (name, list.unwrap_or_default())).collect())
}

/// Prints an empty list as `null`: objects that went through the store lose the difference, and Go prints a nil slice so.
pub(crate) fn empty_as_null<S, T>(list: &[T], serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    T: Serialize,
{
    if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) fn is_zero_i32(value: &i32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) fn is_zero_i64(value: &i64) -> bool {
    *value == 0
}
