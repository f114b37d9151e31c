//! Merging objects, and the directives in them.
//!
//! Compat: `mergeMap` upstream. The patch is changed on the way exactly as there, because kube-apiserver prints what is
//! left of it when the result does not fit the type. Directives that stand where nothing looks for them stay in the
//! result (`$retainKeys` in an object that the server does not have yet), and so do nulls in new elements of a list.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::error::StrategicError;
use super::lists::{Way, capacity, element_type, merge_list};
use super::order::{Elements, Id, Lookup, arrange, check_keys, partition};
use super::schema::{self, PatchSchema};
use crate::go::{self, GoType};

/// The member that says what to do with the object it stands in.
const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";
/// The strategy under which a list is merged, and the directive that is not known.
const MERGE: &str = "merge";
const REPLACE: &str = "replace";
const DELETE: &str = "delete";

/// Merges `patch` into `original`.
pub(super) fn merge_map<S: PatchSchema>(
    mut original: Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: &S,
) -> Result<Map<String, Value>, StrategicError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some(REPLACE) => {
                patch.swap_remove(DIRECTIVE);
                Ok(patch.clone())
            }
            Some(DELETE) => Ok(Map::new()),
            _ => Err(StrategicError::bad_patch_type(directive, patch)),
        };
    }
    retain_keys(&mut original, patch)?;
    // How much room Go has in lists that were merged already, by name: what is appended in place shows in the order.
    let mut rooms: HashMap<String, usize> = HashMap::new();
    merge_ordered_lists(&mut original, patch, schema, &mut rooms)?;
    let names: Vec<String> = patch.keys().cloned().collect();
    for name in names {
        let deletes = name.starts_with(DELETE_FROM_LIST);
        let listed = if deletes { listed_name(&name, DELETE_FROM_LIST)? } else { "" };
        let target = if listed.is_empty() { name.as_str() } else { listed };
        let Some(value) = patch.get_mut(&name) else { continue };
        if value.is_null() {
            original.swap_remove(target);
            continue;
        }
        let Some(current) = original.get_mut(target).filter(|current| GoType::of(current) == GoType::of(value)) else {
            if !deletes {
                discard_nulls(value);
                place(&mut original, target, value);
            }
            continue;
        };
        match (&mut *current, &mut *value) {
            (Value::Object(members), Value::Object(patch)) => {
                let mut pointee = None;
                let field = schema::member(&mut pointee, schema, target)?;
                *members = if field.strategy == REPLACE {
                    patch.clone()
                } else {
                    merge_map(std::mem::take(members), patch, &field.schema)?
                };
            }
            (Value::Array(items), Value::Array(patch)) => {
                let mut pointee = None;
                let field = schema::list(&mut pointee, schema, target)?;
                let before = std::mem::take(items);
                let (merged, room) = if field.strategy == MERGE || deletes {
                    let room = rooms.get(target).copied().unwrap_or_else(|| capacity(before.len()));
                    let way = Way { schema: &field.schema, key: field.merge_key, deletes, room };
                    let merged = merge_list(before, patch, &way)?;
                    (merged.items, merged.room)
                } else {
                    (patch.clone(), capacity(patch.len()))
                };
                *items = merged;
                rooms.insert(target.to_owned(), room);
            }
            _ => place(&mut original, target, value),
        }
    }
    Ok(original)
}

/// The name of the list that a directive is about.
fn listed_name<'n>(name: &'n str, directive: &str) -> Result<&'n str, StrategicError> {
    match name.split_once('/') {
        Some((before, listed)) if before == directive => Ok(listed),
        _ if directive == SET_ORDER => Err(StrategicError::SetElementOrder),
        _ => Err(StrategicError::DeleteFromPrimitiveList),
    }
}

/// Sets a member to what the patch says, without its directives.
fn place(original: &mut Map<String, Value>, name: &str, value: &mut Value) {
    match without_directives(value) {
        Some(value) => {
            original.insert(name.to_owned(), value);
        }
        None => {
            original.swap_remove(name);
        }
    }
}

/// The value without objects that have a directive; nothing when it is such an object itself. The value keeps them as
/// elements of its own list, as upstream's does, and loses them everywhere else.
fn without_directives(value: &mut Value) -> Option<Value> {
    let mut result = value.clone();
    if !strip(&mut result) {
        return None;
    }
    match value {
        Value::Object(_) => {
            strip(value);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_inside),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Some(result)
}

/// Takes objects with a directive out of what is in `value`. Returns false, and changes nothing, when it is one itself.
fn strip(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            if members.contains_key(DIRECTIVE) {
                return false;
            }
            members.retain(|_, member| strip(member));
        }
        Value::Array(items) => items.retain_mut(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    true
}

/// Strips an element of a list that keeps its elements.
fn strip_inside(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip_inside),
        other => {
            strip(other);
        }
    }
}

/// Takes members that are null out of `value`, at any depth.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => members.retain(|_, member| {
            discard_nulls(member);
            !member.is_null()
        }),
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `$retainKeys`: members of the original that the list does not name go; what the patch sets has to be named.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), StrategicError> {
    let Some(list) = patch.swap_remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(list) = list else { return Err(StrategicError::RetainKeys) };
    if list.iter().any(|item| item.is_array() || item.is_object()) {
        return Err(StrategicError::Crash("$retainKeys holds a list or an object"));
    }
    let named: HashSet<&str> = list.iter().filter_map(Value::as_str).collect();
    for (name, value) in &*patch {
        let directive = name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER);
        if !value.is_null() && !directive && !named.contains(name.as_str()) {
            return Err(StrategicError::RetainKeys);
        }
    }
    original.retain(|name, _| named.contains(name.as_str()));
    Ok(())
}

/// `$setElementOrder`: the list is merged, and put in that order. What was merged is gone from the patch.
fn merge_ordered_lists<S: PatchSchema>(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: &S,
    rooms: &mut HashMap<String, usize>,
) -> Result<(), StrategicError> {
    let names: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
    for name in names {
        let Some(order) = patch.swap_remove(&name) else { continue };
        let Value::Array(order) = order else { return Err(StrategicError::bad_type(GoType::List, &order)) };
        let target = listed_name(&name, SET_ORDER)?;
        let mut live = match original.get_mut(target) {
            Some(Value::Array(items)) => Some(std::mem::take(items)),
            Some(other) => return Err(StrategicError::bad_type(GoType::List, other)),
            None => None,
        };
        let mut nothing = Vec::new();
        let (patched, items) = match patch.get_mut(target) {
            Some(Value::Array(items)) => (true, items),
            Some(other) => return Err(StrategicError::bad_type(GoType::List, other)),
            None => (false, &mut nothing),
        };
        let mut pointee = None;
        let field = schema::list(&mut pointee, schema, target)?;
        let key = field.merge_key;
        check_order(items, &order, key)?;
        if !patched && live.is_none() {
            continue;
        }
        let given = live.as_deref().unwrap_or_default();
        let (merged, live, kind) = if field.strategy == MERGE && patched && live.is_some() {
            let given = live.take().unwrap_or_default();
            let kind = element_type(&[&given, items]);
            let way = Way { schema: &field.schema, key, deletes: false, room: capacity(given.len()) };
            let merged = merge_list(given, items, &way)?;
            (merged.items, merged.live, kind)
        } else {
            let lookup = if key.is_empty() { Lookup::of_scalars(given) } else { Lookup::by_key(given, key) };
            let kind = element_type(&[given, items]);
            let checked = if kind == Ok(GoType::Map) { check_keys(given, key) } else { Ok(()) };
            let merged = match (live, patched) {
                (Some(live), false) => live,
                (Some(_), true) => items.clone(),
                (None, _) => {
                    let mut added = Value::Array(std::mem::take(items));
                    let Some(Value::Array(kept)) = without_directives(&mut added) else { continue };
                    kept
                }
            };
            (merged, checked.map(|()| lookup), kind)
        };
        let wanted = if key.is_empty() { Lookup::of_scalars(&order) } else { Lookup::by_key(&order, key) };
        let (named, others) = partition(merged, &wanted, key)?;
        let elements = if kind? == GoType::Map {
            check_keys(&named, key)?;
            check_keys(&order, key)?;
            check_keys(&others, key)?;
            Elements::Objects(key)
        } else {
            Elements::Scalars
        };
        let ordered = arrange(named, others, &wanted, &live?, elements)?;
        rooms.insert(target.to_owned(), ordered.len());
        original.insert(target.to_owned(), Value::Array(ordered));
        patch.swap_remove(target);
    }
    Ok(())
}

/// That the elements of the patch stand in the order of `$setElementOrder`, and that it names them all.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), StrategicError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut kept = Vec::with_capacity(patch.len());
    for item in patch {
        if key.is_empty() {
            kept.push(item);
            continue;
        }
        if object(item)?.get(DIRECTIVE).and_then(Value::as_str) != Some(DELETE) {
            kept.push(item);
        }
    }
    let (mut kept, mut ordered) = (kept.into_iter().peekable(), order.iter().peekable());
    while let (Some(item), Some(next)) = (kept.peek(), ordered.peek()) {
        if item.get(DIRECTIVE).is_some() {
            kept.next();
            continue;
        }
        if same_key(item, next, key)? {
            kept.next();
        }
        ordered.next();
    }
    if kept.peek().is_some() {
        let (patch, order) = (go::list(patch), go::list(order));
        let text = format!("The order in patch list:\n{patch}\n doesn't match {SET_ORDER} list:\n{order}\n");
        return Err(StrategicError::Merge(text));
    }
    Ok(())
}

fn same_key(left: &Value, right: &Value, key: &str) -> Result<bool, StrategicError> {
    if key.is_empty() {
        return same(left, right);
    }
    let (left, right) = (object(left)?, object(right)?);
    same(id(left, key)?, id(right, key)?)
}

fn object(value: &Value) -> Result<&Map<String, Value>, StrategicError> {
    value.as_object().ok_or_else(|| StrategicError::bad_type(GoType::Map, value))
}

fn id<'m>(members: &'m Map<String, Value>, key: &str) -> Result<&'m Value, StrategicError> {
    members.get(key).ok_or_else(|| StrategicError::no_merge_key(members, key))
}

/// Go's `==` of two interfaces.
fn same(left: &Value, right: &Value) -> Result<bool, StrategicError> {
    if GoType::of(left) != GoType::of(right) {
        return Ok(false);
    }
    match (Id::of(left), Id::of(right)) {
        (Some(left), Some(right)) => Ok(left == right),
        _ => Err(StrategicError::Crash("lists or objects are compared")),
    }
}
