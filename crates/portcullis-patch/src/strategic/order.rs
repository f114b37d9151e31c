//! The order of a merged list: what the patch names in the patch's order, what only the server has in the server's
//! order, the two woven together.
//!
//! Compat: `normalizeElementOrder` upstream. Its comparison answers "less" for whatever it does not find, which is no
//! order at all; what comes out then is decided by the steps of Go's stable sort, so those are taken here too.

use std::cell::Cell;
use std::collections::HashMap;

use serde_json::{Map, Value};

use super::error::StrategicError;
use crate::go::GoType;

const UNCOMPARABLE: StrategicError = StrategicError::Crash("the value of a merge key is a list or an object");

/// A value that elements are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Id {
    Nil,
    Bool(bool),
    Int(i64),
    /// The bits of a float, minus zero taken for zero.
    Float(u64),
    String(String),
}

impl Id {
    /// Nothing for lists and objects: Go crashes when it compares them.
    pub(super) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Nil,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Number(number) => match number.as_i64() {
                Some(int) => Self::Int(int),
                None => Self::Float((number.as_f64().unwrap_or_default() + 0.0).to_bits()),
            },
            Value::String(text) => Self::String(text.clone()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }
}

/// Where values stand in a list.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookup {
    first: HashMap<Id, usize>,
    /// The first element whose value is an object, and the first whose value is a list.
    object: Option<usize>,
    list: Option<usize>,
    /// The first element that is no object where one is needed.
    broken: Option<usize>,
    length: usize,
}

impl Lookup {
    /// A list of objects told apart by their member `key`. What is no object is remembered.
    pub(super) fn by_key<'v>(items: impl IntoIterator<Item = &'v Value>, key: &str) -> Self {
        let mut lookup = Self::default();
        for item in items {
            match item {
                Value::Object(members) => lookup.push(members.get(key)),
                _ => {
                    lookup.broken.get_or_insert(lookup.length);
                    lookup.length += 1;
                }
            }
        }
        lookup
    }

    /// A list of scalars.
    pub(super) fn of_scalars(items: &[Value]) -> Self {
        let mut lookup = Self::default();
        items.iter().for_each(|item| lookup.push(Some(item)));
        lookup
    }

    /// A list whose elements are told apart by `ids`; an element without one is never found.
    pub(super) fn of_ids(ids: impl Iterator<Item = Option<Id>>) -> Self {
        let mut lookup = Self::default();
        for id in ids {
            if let Some(id) = id {
                lookup.first.entry(id).or_insert(lookup.length);
            }
            lookup.length += 1;
        }
        lookup
    }

    fn push(&mut self, value: Option<&Value>) {
        match (value, value.and_then(Id::of)) {
            (_, Some(id)) => {
                self.first.entry(id).or_insert(self.length);
            }
            (Some(Value::Object(_)), None) => {
                self.object.get_or_insert(self.length);
            }
            (Some(_), None) => {
                self.list.get_or_insert(self.length);
            }
            (None, None) => {}
        }
        self.length += 1;
    }

    /// Whether an element has that value; elements are looked at in order until one has.
    pub(super) fn contains(&self, value: &Value) -> Result<bool, StrategicError> {
        let (found, crash) = match (Id::of(value), GoType::of(value)) {
            (Some(id), _) => (self.first.get(&id).copied(), None),
            (None, GoType::Map) => (None, self.object),
            (None, _) => (None, self.list),
        };
        let before = |at: usize| self.broken.is_none_or(|broken| at < broken);
        match (found, crash, self.broken) {
            (Some(at), ..) if before(at) => Ok(true),
            (_, Some(at), _) if before(at) => Err(UNCOMPARABLE),
            (.., Some(broken)) => Err(StrategicError::Merge(format!("value for key {broken} is not a map"))),
            _ => Ok(false),
        }
    }

    /// Where the value stands.
    fn position(&self, value: &Value) -> Position {
        match (Id::of(value), GoType::of(value)) {
            (Some(id), _) => self.first.get(&id).map_or(Position::Absent, |at| Position::At(*at)),
            (None, GoType::Map) if self.object.is_some() => Position::Crash,
            (None, GoType::List) if self.list.is_some() => Position::Crash,
            (None, _) => Position::Absent,
        }
    }

    /// Whether a list or object stands among the values: they cannot be keys of a map.
    pub(super) const fn has_uncomparable(&self) -> bool {
        self.object.is_some() || self.list.is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    At(usize),
    Absent,
    /// Looking for it makes Go compare lists or objects.
    Crash,
}

static NIL: Value = Value::Null;

/// How elements are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elements<'k> {
    /// Objects, by that member.
    Objects(&'k str),
    /// Scalars, by themselves.
    Scalars,
}

impl Elements<'_> {
    fn id(self, item: &Value) -> &Value {
        match self {
            Self::Objects(key) => item.get(key).unwrap_or(&NIL),
            Self::Scalars => item,
        }
    }
}

/// Splits `merged` into what `list` names and what it does not.
pub(super) fn partition(
    merged: Vec<Value>,
    list: &Lookup,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let (mut named, mut others) = (Vec::new(), Vec::new());
    if key.is_empty() && list.has_uncomparable() {
        return Err(UNCOMPARABLE);
    }
    for item in merged {
        let is_named = if key.is_empty() {
            if Id::of(&item).is_none() {
                return Err(UNCOMPARABLE);
            }
            list.contains(&item)?
        } else {
            let Value::Object(members) = &item else { return Err(StrategicError::bad_type(GoType::Map, &item)) };
            let id = members.get(key).ok_or_else(|| StrategicError::no_merge_key(members, key))?;
            list.contains(id)?
        };
        if is_named { named.push(item) } else { others.push(item) }
    }
    Ok((named, others))
}

/// That every element is an object with the member `key`.
pub(super) fn check_keys(items: &[Value], key: &str) -> Result<(), StrategicError> {
    for item in items {
        let Value::Object(members) = item else { return Err(StrategicError::bad_type(GoType::Map, item)) };
        if !members.contains_key(key) {
            return Err(StrategicError::no_merge_key(members, key));
        }
    }
    Ok(())
}

struct Item {
    value: Value,
    wanted: Position,
    live: Position,
}

/// Puts `named` in the order of `wanted`, `others` in the order of `live`, and weaves the two: an element of `others`
/// goes before one of `named` when `live` has both in that order.
pub(super) fn arrange(
    named: Vec<Value>,
    others: Vec<Value>,
    wanted: &Lookup,
    live: &Lookup,
    elements: Elements<'_>,
) -> Result<Vec<Value>, StrategicError> {
    let items = |list: Vec<Value>| -> Vec<Item> {
        list.into_iter()
            .map(|value| {
                let (wanted, live) = (wanted.position(elements.id(&value)), live.position(elements.id(&value)));
                Item { value, wanted, live }
            })
            .collect()
    };
    let named = sorted(items(named), |item| item.wanted, elements)?;
    let others = sorted(items(others), |item| item.live, elements)?;
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some(other), Some(name)) => match (other.live, name.live) {
                (Position::Crash, _) | (_, Position::Crash) => return Err(UNCOMPARABLE),
                (Position::At(other), Position::At(name)) => other < name,
                _ => false,
            },
            (other, _) => other.is_some(),
        };
        match if other_first { others.next() } else { named.next() } {
            Some(item) => out.push(item.value),
            None => return Ok(out),
        }
    }
}

/// Sorts items by their position; those that say that they are to be deleted go last.
fn sorted(
    items: Vec<Item>,
    position: impl Fn(&Item) -> Position,
    elements: Elements<'_>,
) -> Result<Vec<Item>, StrategicError> {
    let doomed = |item: &Item| {
        matches!(elements, Elements::Objects(_))
            && item.value.as_object().and_then(|members| members.get("$patch")) == Some(&Value::from("delete"))
    };
    let (doomed, mut items): (Vec<Item>, Vec<Item>) = items.into_iter().partition(doomed);
    let crashed = Cell::new(false);
    go_stable_sort(&mut items, &|a, b| match position(a) {
        Position::Crash => {
            crashed.set(true);
            false
        }
        Position::Absent => true,
        Position::At(a) => match position(b) {
            Position::Crash => {
                crashed.set(true);
                false
            }
            Position::Absent => true,
            Position::At(b) => a < b,
        },
    });
    if crashed.get() {
        return Err(UNCOMPARABLE);
    }
    items.extend(doomed);
    Ok(items)
}

/// Elements that are sorted by insertion before blocks are merged.
const BLOCK: usize = 20;

/// Sorts as Go's `sort.SliceStable` does, also when `less` is no order: insertion in blocks of twenty, then blocks
/// merged by rotation (SymMerge, Kim and Kutzner 2004).
fn go_stable_sort<T>(items: &mut [T], less: &impl Fn(&T, &T) -> bool) {
    for block in items.chunks_mut(BLOCK) {
        for end in 1..block.len() {
            let Some((last, before)) = block.get(..=end).and_then(<[T]>::split_last) else { continue };
            let distance = before.iter().rev().take_while(|item| less(last, item)).count();
            if let Some(run) = block.get_mut(end - distance..=end) {
                run.rotate_right(1);
            }
        }
    }
    let mut size = BLOCK;
    while size < items.len() {
        for pair in items.chunks_mut(2 * size) {
            if pair.len() > size {
                sym_merge(pair, size, less);
            }
        }
        size *= 2;
    }
}

/// Merges the sorted runs before and from `middle`, both not empty.
fn sym_merge<T>(items: &mut [T], middle: usize, less: &impl Fn(&T, &T) -> bool) {
    let length = items.len();
    let compare = |items: &[T], a: usize, b: usize| match (items.get(a), items.get(b)) {
        (Some(a), Some(b)) => less(a, b),
        _ => false,
    };
    if middle == 1 {
        // One element on the left: it goes before the first that is not less.
        let end = first(1, length, |at| !compare(items, at, 0));
        if let Some(run) = items.get_mut(..end) {
            run.rotate_left(1);
        }
        return;
    }
    if length - middle == 1 {
        // One element on the right: it goes before the first that is greater.
        let start = first(0, middle, |at| compare(items, middle, at));
        if let Some(run) = items.get_mut(start..) {
            run.rotate_right(1);
        }
        return;
    }
    let half = length / 2;
    let sum = half + middle;
    let (low, high) = if middle > half { (sum - length, half) } else { (0, middle) };
    let start = first(low, high, |at| compare(items, sum - 1 - at, at));
    let end = sum - start;
    if start < middle
        && middle < end
        && let Some(run) = items.get_mut(start..end)
    {
        run.rotate_left(middle - start);
    }
    let (left, right) = items.split_at_mut(half);
    if 0 < start && start < half {
        sym_merge(left, start, less);
    }
    if half < end && end < length {
        sym_merge(right, end - half, less);
    }
}

/// By bisection, the first number from `low` on for which `holds`; `high` when there is none before.
fn first(mut low: usize, mut high: usize, holds: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let at = usize::midpoint(low, high);
        if holds(at) {
            high = at;
        } else {
            low = at + 1;
        }
    }
    low
}

/// The member of an element that tells it apart, when it is an object and has one.
pub(super) fn key_of(members: &Map<String, Value>, key: &str) -> Option<Id> {
    members.get(key).and_then(Id::of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn list(value: Value) -> Vec<Value> {
        let Value::Array(items) = value else { panic!("a list") };
        items
    }

    fn scalars(named: Value, others: Value, wanted: Value, live: Value) -> Value {
        let (wanted, live) = (Lookup::of_scalars(&list(wanted)), Lookup::of_scalars(&list(live)));
        Value::Array(arrange(list(named), list(others), &wanted, &live, Elements::Scalars).unwrap())
    }

    #[test]
    fn what_only_the_server_has_keeps_its_place_among_what_the_patch_names() {
        let woven = scalars(json!(["c", "a"]), json!(["b", "d"]), json!(["a", "c"]), json!(["a", "b", "c", "d"]));
        assert_eq!(woven, json!(["a", "b", "c", "d"]));
        let new_first = scalars(json!(["new"]), json!(["b"]), json!(["new"]), json!(["b"]));
        assert_eq!(new_first, json!(["new", "b"]), "what the server does not have goes before what it has");
    }

    #[test]
    fn without_an_order_twenty_elements_turn_round() {
        let turned = scalars(json!([]), json!([1, 2, 3, 4]), json!([]), json!([]));
        assert_eq!(turned, json!([4, 3, 2, 1]));
    }

    /// What Go 1.26 makes of these numbers when those that three divides are "not found".
    #[test]
    fn with_an_order_that_is_none_the_sort_takes_the_steps_of_go() {
        for want in [FORTY_FIVE.as_slice(), &SIXTY_SEVEN] {
            let mut items: Vec<usize> = (0..want.len()).map(|at| at * 7 % want.len()).collect();
            go_stable_sort(&mut items, &|a, b| a % 3 == 0 || b % 3 == 0 || a < b);
            assert_eq!(items, want);
        }
    }

    const FORTY_FIVE: [usize; 45] = [
        24, 10, 3, 27, 6, 30, 9, 2, 33, 12, 5, 36, 15, 1, 39, 18, 4, 42, 21, 7, 8, 11, 13, 14, 16, 17, 19, 20, 22, 23,
        25, 26, 28, 29, 31, 32, 34, 35, 37, 38, 40, 41, 43, 44, 0,
    ];
    const SIXTY_SEVEN: [usize; 67] = [
        60, 39, 57, 36, 15, 1, 4, 8, 11, 54, 33, 51, 30, 9, 2, 5, 48, 27, 13, 16, 19, 66, 45, 24, 3, 63, 42, 21, 7, 10,
        14, 17, 20, 22, 23, 25, 26, 28, 29, 31, 32, 34, 35, 37, 38, 40, 43, 46, 53, 18, 41, 44, 47, 49, 50, 52, 55, 56,
        58, 59, 61, 62, 64, 12, 65, 6, 0,
    ];

    #[test]
    fn values_are_told_apart_by_type() {
        let lookup = Lookup::of_scalars(&list(json!([1, 1.0, "1", true, null, 0.0])));
        for (value, at) in
            [(json!(1), 0), (json!(1.0), 1), (json!("1"), 2), (json!(true), 3), (json!(null), 4), (json!(-0.0), 5)]
        {
            assert_eq!(lookup.position(&value), Position::At(at), "{value}");
        }
        assert_eq!(lookup.position(&json!(2)), Position::Absent);
    }

    #[test]
    fn looking_ends_at_what_is_no_object_and_crashes_on_what_cannot_be_compared() {
        let lookup = Lookup::by_key(&list(json!([{"k": "a"}, {"k": {}}, {}, "x", {"k": "b"}])), "k");
        assert_eq!(lookup.contains(&json!("a")), Ok(true));
        let broken = Err(StrategicError::Merge("value for key 3 is not a map".to_owned()));
        assert_eq!(lookup.contains(&json!("b")), broken);
        assert_eq!(lookup.contains(&json!([])), broken);
        assert_eq!(lookup.contains(&json!({})), Err(UNCOMPARABLE));
    }

    proptest! {
        #[test]
        fn with_an_order_the_sort_is_a_stable_sort(numbers in proptest::collection::vec(0_u8..9, 0..130)) {
            let mut items: Vec<(u8, usize)> = numbers.into_iter().zip(0..).collect();
            let mut want = items.clone();
            want.sort_by_key(|(number, _)| *number);
            go_stable_sort(&mut items, &|a, b| a.0 < b.0);
            prop_assert_eq!(items, want);
        }
    }
}
