//! Maps.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::EvalError;
use crate::escape::unescape;
use crate::list::reached;
use crate::value::Value;

/// A map. Entries keep their order; upstream walks them in a random one.
#[derive(Clone, Default)]
pub struct Map {
    data: Arc<Data>,
    origin: Origin,
}

#[derive(Clone, Default)]
struct Data {
    entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    /// Of all that was ever put in.
    weight: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Origin {
    /// With keys of any type.
    #[default]
    Values,
    /// From JSON.
    Json { unescape: bool },
}

/// Keys are the same only if their types are.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(u64),
    String(Arc<str>),
    Other(Arc<str>),
}

impl Key {
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Uint(value) => Self::Uint(*value),
            Value::Double(value) if value.is_nan() => return None,
            // Both zeroes are one key.
            Value::Double(value) => Self::Double((*value + 0.0).to_bits()),
            Value::String(text) => Self::String(Arc::clone(text)),
            Value::Duration(_) | Value::Timestamp(_) | Value::Ip(_) | Value::Cidr(_) => {
                Self::Other(crate::show::go_value(value).into())
            }
            _ => return None,
        })
    }
}

/// The keys under which upstream looks for `key`, one after the other.
fn candidates(key: &Value) -> [Option<Key>; 3] {
    let first = Key::of(key);
    match key {
        Value::Double(value) => [first, int_of(*value).map(Key::Int), uint_of(*value).map(Key::Uint)],
        Value::Int(value) => [first, u64::try_from(*value).ok().map(Key::Uint), None],
        Value::Uint(value) => [first, i64::try_from(*value).ok().map(Key::Int), None],
        _ => [first, None, None],
    }
}

/// The integer that a double is, if it is one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the range is checked, and so is the result"
)]
pub(crate) fn int_of(value: f64) -> Option<i64> {
    let inside = value > -9_223_372_036_854_775_808.0 && value < 9_223_372_036_854_775_808.0;
    Some(value as i64).filter(|whole| inside && *whole as f64 == value)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the range is checked, and so is the result"
)]
pub(crate) fn uint_of(value: f64) -> Option<u64> {
    let inside = (0.0..18_446_744_073_709_551_616.0).contains(&value);
    Some(value as u64).filter(|whole| inside && *whole as f64 == value)
}

/// The type of a key that upstream's maps break down over, if it is one.
pub(crate) fn unhashable(key: &Value) -> Option<&'static str> {
    matches!(key, Value::Bytes(_) | Value::Semver(_) | Value::Format(_)).then(|| key.go_type())
}

/// What upstream reports when it is asked for such a key.
pub(crate) fn hash_panic(kind: &str) -> EvalError {
    EvalError::Internal(format!("runtime error: hash of unhashable type {kind}").into())
}

impl Map {
    /// A map of `entries`; of several with one key the last counts.
    pub fn new(entries: impl IntoIterator<Item = (Value, Value)>) -> Self {
        let mut data = Data::default();
        for (key, value) in entries {
            data.insert(key, value);
        }
        Self { data: Arc::new(data), origin: Origin::Values }
    }

    pub(crate) fn from_json(members: impl Iterator<Item = (Arc<str>, Value)>) -> Self {
        let map = Self::new(members.map(|(name, value)| (Value::String(name), value)));
        Self { origin: Origin::Json { unescape: true }, ..map }
    }

    /// A map of text to lists of text, in which escaped names are found, as those from JSON are.
    pub fn of_string_lists(members: impl IntoIterator<Item = (Arc<str>, crate::list::List)>) -> Self {
        Self::from_json(members.into_iter().map(|(name, list)| (name, Value::List(list))))
    }

    pub(crate) fn unescapes(&self) -> bool {
        self.origin == Origin::Json { unescape: true }
    }

    pub(crate) fn reached(self, unescape: bool) -> Self {
        match self.origin {
            Origin::Json { .. } => Self { origin: Origin::Json { unescape }, ..self },
            Origin::Values => self,
        }
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.data.entries.len()
    }

    /// How much there is to look at in a walk through all of the map.
    pub(crate) fn weight(&self) -> u64 {
        self.data.weight
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.data.entries.is_empty()
    }

    /// The entries in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Value, Value)> + '_ {
        self.data.entries.iter().map(|(key, value)| (key.clone(), self.held(value)))
    }

    /// The value at `key`; a whole number finds the entry of the same number of another type.
    pub(crate) fn find(&self, key: &Value) -> Option<Value> {
        candidates(key).into_iter().flatten().find_map(|key| {
            let index = self.data.index.get(&key)?;
            self.data.entries.get(*index).map(|(_, value)| self.held(value))
        })
    }

    /// A value in the map as macros and functions see it.
    fn held(&self, value: &Value) -> Value {
        if self.is_json() { reached(value.clone(), false) } else { value.clone() }
    }

    /// The same for a selection: escapes in a name are undone, in this map and in what is found.
    pub(crate) fn select(&self, key: &Value) -> Option<Value> {
        if !self.unescapes() {
            return self.find(key);
        }
        let plain = match key {
            Value::String(name) => unescape(name).ok().flatten().map(Value::from),
            _ => None,
        };
        self.find(plain.as_ref().unwrap_or(key)).map(|value| reached(value, true))
    }

    /// Whether there is an entry with this key of this type.
    pub(crate) fn contains_exactly(&self, key: &Value) -> bool {
        Key::of(key).is_some_and(|key| self.data.index.contains_key(&key))
    }

    pub(crate) fn is_json(&self) -> bool {
        self.origin != Origin::Values
    }

    pub(crate) fn contains(&self, key: &Value) -> bool {
        candidates(key).into_iter().flatten().any(|key| self.data.index.contains_key(&key))
    }

    pub(crate) fn insert(&mut self, key: Value, value: Value) {
        Arc::make_mut(&mut self.data).insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: &Value) {
        let Some(key) = Key::of(key) else { return };
        let data = Arc::make_mut(&mut self.data);
        if let Some(index) = data.index.remove(&key) {
            data.entries.remove(index);
            for at in data.index.values_mut().filter(|at| **at > index) {
                *at -= 1;
            }
        }
    }
}

impl Data {
    fn insert(&mut self, key: Value, value: Value) {
        self.weight = self.weight.saturating_add(key.weight()).saturating_add(value.weight());
        if let Some(hashed) = Key::of(&key) {
            if let Some(entry) = self.index.get(&hashed).and_then(|at| self.entries.get_mut(*at)) {
                entry.1 = value;
                return;
            }
            self.index.insert(hashed, self.entries.len());
        }
        self.entries.push((key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_in_range_are_integers() {
        let both = |value| (int_of(value), uint_of(value));
        assert_eq!(both(3.0), (Some(3), Some(3)));
        assert_eq!(both(-3.0), (Some(-3), None));
        assert_eq!(both(3.5), (None, None));
        assert_eq!(both(9.3e18), (None, Some(9_300_000_000_000_000_000)));
        assert_eq!(both(f64::NAN), (None, None));
    }

    #[test]
    fn a_removed_entry_leaves_the_others_where_they_are_found() {
        let mut map = Map::new([1, 2, 3].map(|n| (Value::Int(n), Value::Int(n * 10))));
        map.remove(&Value::Int(1));
        assert_eq!(map.len(), 2);
        assert!(matches!(map.find(&Value::Double(3.0)), Some(Value::Int(30))));
        assert!(map.find(&Value::Int(1)).is_none());
    }
}
