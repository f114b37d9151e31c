//! Merging a list: scalars without duplicates, objects by their merge key.
//!
//! Compat: `mergeSlice` upstream. Go's slices share memory, and that shows: after a deletion the list that the caller
//! still holds has moved up, with new elements in its last places, and its order decides where the server's elements
//! go. [`MergedList::live`] is that list.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::error::StrategicError;
use super::merge::merge_map;
use super::order::{Elements, Id, Lookup, arrange, check_keys, key_of, partition};
use super::schema::PatchSchema;
use crate::go::{self, GoType};

const NIL_ELEMENT: StrategicError = StrategicError::Crash("a list that is merged begins with null");
const UNCOMPARABLE: StrategicError = StrategicError::Crash("the value of a merge key is a list or an object");

/// A merged list.
pub(super) struct MergedList {
    pub(super) items: Vec<Value>,
    /// The elements that Go has room for in it.
    pub(super) room: usize,
    /// The order that the caller's own list has by now.
    pub(super) live: Result<Lookup, StrategicError>,
}

/// The type of all elements of `lists`, which have to be of one type.
pub(super) fn element_type(lists: &[&[Value]]) -> Result<GoType, StrategicError> {
    let mut all = None;
    for item in lists.iter().copied().flatten() {
        let this = GoType::of(item);
        match all {
            None if this == GoType::Nil => return Err(NIL_ELEMENT),
            None if this == GoType::List => return Err(StrategicError::ListOfLists),
            None => all = Some(this),
            Some(other) if other == this => {}
            Some(_) => {
                let lists: Vec<String> = lists.iter().map(|list| go::list(list)).collect();
                let text = format!("list element types are not identical: [{}]", lists.join(" "));
                return Err(StrategicError::Merge(text));
            }
        }
    }
    all.ok_or_else(|| StrategicError::Merge("no elements in any of the given slices".to_owned()))
}

/// How a list is merged.
pub(super) struct Way<'w, S> {
    /// The elements' type.
    pub(super) schema: &'w S,
    /// The merge key; empty when there is none.
    pub(super) key: &'w str,
    /// The patch is a list of scalars to delete.
    pub(super) deletes: bool,
    /// The elements that Go has room for in the original.
    pub(super) room: usize,
}

/// Merges `patch` into `original`, or takes it away.
pub(super) fn merge_list<S: PatchSchema>(
    original: Vec<Value>,
    patch: &mut [Value],
    way: &Way<'_, S>,
) -> Result<MergedList, StrategicError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(MergedList { items: original, room: way.room, live: Ok(Lookup::default()) });
    }
    if element_type(&[&original, patch])? != GoType::Map {
        return merge_scalars(original, patch, way);
    }
    let (schema, key) = (way.schema, way.key);
    if key.is_empty() {
        let kind = schema.kind().as_str();
        return Err(StrategicError::Merge(format!("cannot merge lists without merge key for {kind}")));
    }
    merge_objects(original, patch, schema, key)
}

fn merge_scalars<S>(original: Vec<Value>, patch: &[Value], way: &Way<'_, S>) -> Result<MergedList, StrategicError> {
    if way.deletes {
        let doomed = Lookup::of_scalars(patch);
        let room = original.len();
        let mut items = Vec::with_capacity(room);
        for item in original {
            if !doomed.contains(&item)? {
                items.push(item);
            }
        }
        return Ok(MergedList { items, room, live: Ok(Lookup::default()) });
    }
    let length = original.len();
    let shares_memory = length + patch.len() <= way.room;
    let before = Lookup::of_scalars(&original);
    let mut both = original;
    both.extend_from_slice(patch);
    let unique = deduplicate(&mut both);
    let live = if shares_memory { Lookup::of_scalars(both.get(..length).unwrap_or_default()) } else { before };
    both.truncate(unique);
    let wanted = Lookup::of_scalars(patch);
    let (named, others) = partition(both, &wanted, way.key)?;
    let items = arrange(named, others, &wanted, &live, Elements::Scalars)?;
    Ok(MergedList { room: items.len(), items, live: Ok(live) })
}

/// The elements that Go has room for in a slice that has grown to `length` strings one by one (Go 1.26, 64 bits).
pub(super) fn capacity(length: usize) -> usize {
    const GROWTH: [usize; 13] = [0, 1, 2, 4, 8, 16, 32, 71, 143, 303, 591, 1023, 1535];
    GROWTH.into_iter().find(|room| *room >= length).unwrap_or(length)
}

/// Leaves each value once in the first places, and returns how many those are: a duplicate is overwritten by the last
/// element, which is then looked at again.
fn deduplicate(items: &mut [Value]) -> usize {
    let mut places: HashMap<Option<Id>, BTreeSet<usize>> = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        places.entry(Id::of(item)).or_default().insert(at);
    }
    let mut length = items.len();
    let mut kept = 0;
    while kept < length {
        let id = items.get(kept).and_then(Id::of);
        while let Some(twin) = places.get_mut(&id).and_then(|places| {
            let twin = places.range(kept + 1..).next().copied()?;
            places.remove(&twin);
            Some(twin)
        }) {
            length -= 1;
            if twin == length {
                continue;
            }
            let Some(last) = items.get(length).cloned() else { break };
            let moved = places.entry(Id::of(&last)).or_default();
            moved.remove(&length);
            moved.insert(twin);
            if let Some(place) = items.get_mut(twin) {
                *place = last;
            }
        }
        kept += 1;
    }
    length
}

/// The server's elements while they are merged.
struct Objects<'k> {
    key: &'k str,
    items: Vec<Value>,
    places: HashMap<Id, BTreeSet<usize>>,
    /// How many elements have an object, and how many a list, for a key.
    object_keys: usize,
    list_keys: usize,
}

impl<'k> Objects<'k> {
    fn new(items: Vec<Value>, key: &'k str) -> Self {
        let mut objects = Self { key, items: Vec::new(), places: HashMap::new(), object_keys: 0, list_keys: 0 };
        items.into_iter().for_each(|item| objects.push(item));
        objects
    }

    fn push(&mut self, item: Value) {
        let at = self.items.len();
        match item.get(self.key) {
            Some(Value::Object(_)) => self.object_keys += 1,
            Some(Value::Array(_)) => self.list_keys += 1,
            Some(id) => {
                if let Some(id) = Id::of(id) {
                    self.places.entry(id).or_default().insert(at);
                }
            }
            None => {}
        }
        self.items.push(item);
    }

    /// The first element whose key has that value.
    fn find(&self, value: &Value) -> Result<Option<usize>, StrategicError> {
        match (Id::of(value), GoType::of(value)) {
            (Some(id), _) => Ok(self.places.get(&id).and_then(BTreeSet::first).copied()),
            (None, GoType::Map) if self.object_keys > 0 => Err(UNCOMPARABLE),
            (None, GoType::List) if self.list_keys > 0 => Err(UNCOMPARABLE),
            (None, _) => Ok(None),
        }
    }

    /// Merges an element of the patch into the element at `at`, which may get another key by that.
    fn merge<S: PatchSchema>(
        &mut self,
        at: usize,
        patch: &mut Map<String, Value>,
        schema: &S,
    ) -> Result<(), StrategicError> {
        let Some(place) = self.items.get_mut(at) else { return Ok(()) };
        let Value::Object(members) = std::mem::take(place) else { return Ok(()) };
        let before = key_of(&members, self.key);
        let merged = merge_map(members, patch, schema)?;
        let (after, value) = (key_of(&merged, self.key), merged.get(self.key));
        if before != after {
            if let Some(places) = before.and_then(|before| self.places.get_mut(&before)) {
                places.remove(&at);
            }
            match (after, value) {
                (Some(after), _) => {
                    self.places.entry(after).or_default().insert(at);
                }
                (None, Some(Value::Object(_))) => self.object_keys += 1,
                (None, Some(_)) => self.list_keys += 1,
                (None, None) => {}
            }
        }
        *place = Value::Object(merged);
        Ok(())
    }
}

fn merge_objects<S: PatchSchema>(
    original: Vec<Value>,
    patch: &mut [Value],
    schema: &S,
    key: &str,
) -> Result<MergedList, StrategicError> {
    let special = special_elements(&original, patch, key)?;
    let mut kept = original;
    let mut at = 0;
    kept.retain(|_| {
        at += 1;
        special.deleted.get(at - 1) != Some(&true)
    });
    if special.replace {
        let plain: Vec<Value> = patch.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
        let own = Lookup::by_key(&plain, key);
        let none = Lookup::default();
        let (named, others) = partition(plain, &none, key)?;
        let items = arrange(named, others, &none, &own, Elements::Objects(key))?;
        return Ok(MergedList { room: items.len(), items, live: live_order(&kept, &[], &special, key) });
    }
    let survivors = kept.len();
    let mut objects = Objects::new(kept, key);
    // Which element of the patch a new element is: upstream both are one, so what is merged into it shows in the patch.
    let mut origins: Vec<(usize, usize, bool)> = Vec::new();
    for (at, item) in patch.iter_mut().enumerate() {
        let Value::Object(members) = item else { continue };
        if members.contains_key("$patch") {
            continue;
        }
        let id = members.get(key).ok_or_else(|| StrategicError::no_merge_key(members, key))?;
        match objects.find(id)? {
            Some(found) => {
                objects.merge(found, members, schema)?;
                if let Some(origin) = found.checked_sub(survivors).and_then(|new| origins.get_mut(new)) {
                    origin.2 = true;
                }
            }
            None => {
                origins.push((at, objects.items.len(), false));
                objects.push(Value::Object(members.clone()));
            }
        }
    }
    for (at, merged, changed) in origins {
        if changed && let (Some(item), Some(merged)) = (patch.get_mut(at), objects.items.get(merged)) {
            item.clone_from(merged);
        }
    }
    let wanted = Lookup::by_key(patch.iter().filter(|item| item.get("$patch").is_none()), key);
    let merged = objects.items;
    let (before, new) = merged.split_at(survivors.min(merged.len()));
    let own = Lookup::by_key(before, key);
    let live = live_order(before, new, &special, key);
    let (named, others) = partition(merged, &wanted, key)?;
    let items = arrange(named, others, &wanted, &own, Elements::Objects(key))?;
    Ok(MergedList { room: items.len(), items, live })
}

/// What the elements of a patch with `$patch` ask for.
struct Special {
    replace: bool,
    /// By place in the original: whether the element is deleted.
    deleted: Vec<bool>,
    /// The last element before each deletion: it stays behind in Go's memory when the rest moves up.
    left_behind: Vec<Option<Id>>,
}

fn special_elements(original: &[Value], patch: &[Value], key: &str) -> Result<Special, StrategicError> {
    let mut special = Special { replace: false, deleted: vec![false; original.len()], left_behind: Vec::new() };
    let mut places: Option<Objects<'_>> = None;
    let mut last = original.len();
    for item in patch {
        let Value::Object(members) = item else { continue };
        let Some(directive) = members.get("$patch") else { continue };
        match directive.as_str() {
            Some("delete") => {
                let id = members.get(key).ok_or_else(|| StrategicError::no_merge_key(members, key))?;
                let places = places.get_or_insert_with(|| {
                    let keys = original.iter().map(|item| {
                        let id = item.get(key).map(|id| (key.to_owned(), id.clone()));
                        Value::Object(id.into_iter().collect())
                    });
                    Objects::new(keys.collect(), key)
                });
                while let Some(found) = places.find(id)? {
                    if let Some(places) = Id::of(id).and_then(|id| places.places.get_mut(&id)) {
                        places.remove(&found);
                    }
                    while last > 0 && special.deleted.get(last - 1) == Some(&true) {
                        last -= 1;
                    }
                    let tail = last.checked_sub(1).and_then(|last| original.get(last)).and_then(|item| item.get(key));
                    special.left_behind.push(tail.and_then(Id::of));
                    if let Some(deleted) = special.deleted.get_mut(found) {
                        *deleted = true;
                    }
                }
            }
            Some("replace") => special.replace = true,
            Some("merge") => {
                return Err(StrategicError::Merge("merging lists cannot yet be specified in the patch".to_owned()));
            }
            _ => return Err(StrategicError::bad_patch_type(directive, members)),
        }
    }
    Ok(special)
}

/// The order of the caller's list: the survivors moved up, then new elements, then what was left behind.
fn live_order(survivors: &[Value], new: &[Value], special: &Special, key: &str) -> Result<Lookup, StrategicError> {
    check_keys(survivors, key)?;
    let room = special.left_behind.len();
    let ids = |items: &[Value]| -> Vec<Option<Id>> {
        items.iter().map(|item| item.as_object().and_then(|members| key_of(members, key))).collect()
    };
    let behind = special.left_behind.iter().rev().skip(new.len().min(room)).cloned();
    let all = ids(survivors).into_iter().chain(ids(new).into_iter().take(room)).chain(behind);
    Ok(Lookup::of_ids(all))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(value: Value) -> Vec<Value> {
        let Value::Array(items) = value else { panic!("a list") };
        items
    }

    #[test]
    fn duplicates_are_overwritten_by_the_last_element() {
        for (items, want, left) in [
            (json!(["a", "a", "b", "c"]), json!(["a", "c", "b"]), json!(["a", "c", "b", "c"])),
            (json!(["a", "a", "b", "b"]), json!(["a", "b"]), json!(["a", "b", "b", "b"])),
            (json!(["a", "a", "a", "a"]), json!(["a"]), json!(["a", "a", "a", "a"])),
            (json!([1, 2, 1, 3, 2]), json!([1, 2, 3]), json!([1, 2, 3, 3, 2])),
            (json!([]), json!([]), json!([])),
        ] {
            let mut items = list(items);
            let unique = deduplicate(&mut items);
            assert_eq!(items[..unique], list(want));
            assert_eq!(items, list(left), "what stays in Go's memory");
        }
    }

    #[test]
    fn elements_are_of_one_type() {
        let of = |lists: &[Value]| {
            let lists: Vec<Vec<Value>> = lists.iter().cloned().map(list).collect();
            element_type(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>()).map_err(|error| error.to_string())
        };
        assert_eq!(of(&[json!([]), json!(["a"])]), Ok(GoType::String));
        assert_eq!(of(&[json!([]), json!([])]), Err("no elements in any of the given slices".to_owned()));
        assert_eq!(of(&[json!([[]])]), Err("lists of lists are not supported".to_owned()));
        assert_eq!(
            of(&[json!([1]), json!([1.5, null])]),
            Err("list element types are not identical: [[1] [1.5 <nil>]]".to_owned())
        );
        assert!(of(&[json!([null])]).unwrap_err().contains("begins with null"));
    }

    #[test]
    fn slices_have_the_room_that_go_gives_them() {
        for (length, room) in [(0, 0), (1, 1), (3, 4), (9, 16), (33, 71), (72, 143), (2_000, 2_000)] {
            assert_eq!(capacity(length), room);
        }
    }
}
