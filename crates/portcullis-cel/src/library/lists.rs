//! Functions on lists and sets, and what macros over maps call.
//!
//! Compat: cel-go `ext/lists.go` (version 3), `ext/sets.go` and `ext/comprehensions.go` 0.29.2,
//! `k8s.io/apiserver/pkg/cel/library/lists.go` (version 1) 0.37.2.

use crate::error::EvalError;
use crate::limits;
use crate::ops::{self, Evaluated};
use crate::show::go_value;
use crate::value::{List, Trait, Value};

/// Longest list that `lists.range` makes.
const MAX_RANGE: i64 = 1_000_000;

fn list_of(value: &Value) -> Result<&List, EvalError> {
    match value {
        Value::List(list) => Ok(list),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn number(args: &[Value], index: usize) -> Result<i64, EvalError> {
    match args.get(index) {
        Some(Value::Int(number)) => Ok(*number),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    ops::same(a, b) == Ok(true)
}

fn contains_all(list: &List, values: &List) -> bool {
    values.iter().all(|value| ops::list_contains(list, &value))
}

pub(super) fn sets_contains(list: &Value, values: &Value) -> Evaluated {
    Ok(Value::Bool(contains_all(list_of(list)?, list_of(values)?)))
}

pub(super) fn sets_equivalent(a: &Value, b: &Value) -> Evaluated {
    let (a, b) = (list_of(a)?, list_of(b)?);
    Ok(Value::Bool(contains_all(a, b) && contains_all(b, a)))
}

pub(super) fn sets_intersects(a: &Value, b: &Value) -> Evaluated {
    let (a, b) = (list_of(a)?, list_of(b)?);
    Ok(Value::Bool(a.iter().any(|value| ops::list_contains(b, &value))))
}

pub(super) fn slice(args: &[Value]) -> Evaluated {
    let list = list_of(args.first().unwrap_or(&Value::Null))?;
    let (start, end) = (number(args, 1)?, number(args, 2)?);
    let fail = |reason: &str| Err(EvalError::new(format!("cannot slice({start}, {end}), {reason}")));
    if start < 0 || end < 0 {
        return fail("negative indexes not supported");
    }
    if start > end {
        return fail("start index must be less than or equal to end index");
    }
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else { return fail("") };
    if list.len() < to {
        return fail(&format!("list is length {}", list.len()));
    }
    Ok(Value::list((from..to).filter_map(|index| list.get(index)).collect()))
}

pub(super) fn flatten(list: &Value, depth: Option<&Value>) -> Evaluated {
    let Value::List(list) = list else {
        let more = depth.map_or(String::new(), shown);
        return Err(EvalError::new(format!("no such overload: {}.flatten({more})", shown(list))));
    };
    let depth = match depth {
        None => 1,
        Some(Value::Int(depth)) => *depth,
        Some(other) => {
            let message = format!("no such overload: list(dyn).flatten({})", shown(other));
            return Err(EvalError::new(message));
        }
    };
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut out = Vec::new();
    flatten_into(list, depth, &mut out)?;
    Ok(Value::list(out))
}

/// The type of a value as `%v` shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::List(_) => "list(dyn)".to_owned(),
        Value::Map(_) => "map(dyn, dyn)".to_owned(),
        Value::Optional(_) => "optional_type(dyn)".to_owned(),
        other => other.type_name().to_string(),
    }
}

fn flatten_into(list: &List, depth: i64, out: &mut Vec<Value>) -> Result<(), EvalError> {
    for item in list.iter() {
        match item {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, out)?,
            _ if out.len() >= limits::LIST_LENGTH => return Err(limits::LIST),
            other => out.push(other),
        }
    }
    Ok(())
}

pub(super) fn range(count: &Value) -> Evaluated {
    let Value::Int(count) = count else { return Err(EvalError::no_such_overload()) };
    if *count < 0 {
        let message = format!("lists.range: size must be non-negative, got {count}");
        return Err(EvalError::new(message));
    }
    if *count > MAX_RANGE {
        let message = format!("lists.range: size {count} exceeds maximum allowed ({MAX_RANGE})");
        return Err(EvalError::new(message));
    }
    Ok(Value::list((0..*count).map(Value::Int).collect()))
}

pub(super) fn reverse(list: &Value) -> Evaluated {
    let list = list_of(list)?;
    Ok(Value::list((0..list.len()).rev().filter_map(|index| list.get(index)).collect()))
}

pub(super) fn distinct(list: &Value) -> Evaluated {
    let items = list_of(list)?;
    if items.is_empty() {
        return Ok(list.clone());
    }
    let mut kept: Vec<Value> = Vec::new();
    for index in 0..items.len() {
        let Some(item) = items.get(index) else { continue };
        // Upstream passes over what it kept at the same position.
        let seen = kept.iter().enumerate().any(|(at, known)| at != index && equal(&item, known));
        if !seen {
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}

pub(super) fn sort(list: &Value) -> Evaluated {
    sort_by(list, list)
}

pub(super) fn sort_by(list: &Value, keys: &Value) -> Evaluated {
    let Value::List(key_list) = keys else {
        let message = format!("interface conversion: {} is not traits.Lister: missing method Contains", keys.go_type());
        return Err(EvalError::Internal(message.into()));
    };
    let items = list_of(list)?;
    if items.len() != key_list.len() {
        let message = format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} \
             elements respectively",
            items.len(),
            key_list.len()
        );
        return Err(EvalError::new(message));
    }
    let all: Vec<Value> = (0..key_list.len()).filter_map(|index| key_list.get(index)).collect();
    let Some(first) = all.first() else { return Ok(list.clone()) };
    if !first.has(Trait::Comparer) {
        return Err(EvalError::new("list elements must be comparable"));
    }
    let kind = first.type_name();
    if all.len() > 1 && all.iter().any(|key| key.type_name() != kind) {
        return Err(EvalError::new("list elements must have the same type"));
    }
    let less = |a: usize, b: usize| {
        let (Some(a), Some(b)) = (all.get(a), all.get(b)) else { return false };
        ops::compare(a, b).is_ok_and(std::cmp::Ordering::is_lt)
    };
    let order = sorted((0..all.len()).collect(), &less);
    Ok(Value::list(order.into_iter().filter_map(|index| items.get(index)).collect()))
}

/// A stable sort that also ends where `less` is no order, as with NaN; the standard library's may panic then.
fn sorted(order: Vec<usize>, less: &impl Fn(usize, usize) -> bool) -> Vec<usize> {
    if order.len() < 2 {
        return order;
    }
    let mut left = order;
    let right = left.split_off(left.len() / 2);
    let (left, right) = (sorted(left, less), sorted(right, less));
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        merged.extend(if less(*b, *a) { right.next() } else { left.next() });
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

pub(super) fn is_sorted(list: &Value) -> Evaluated {
    let mut previous: Option<Value> = None;
    for item in list_of(list)?.iter() {
        if !item.has(Trait::Comparer) {
            return Err(EvalError::no_such_overload());
        }
        if let Some(previous) = &previous
            && ops::compare(previous, &item).is_ok_and(std::cmp::Ordering::is_gt)
        {
            return Ok(Value::Bool(false));
        }
        previous = Some(item);
    }
    Ok(Value::Bool(true))
}

pub(super) fn sum(list: &Value, zero: Value) -> Evaluated {
    let mut total = zero;
    for item in list_of(list)?.iter() {
        if !item.has(Trait::Adder) {
            return Err(EvalError::no_such_overload());
        }
        total = ops::add(&total, &item)?;
    }
    Ok(total)
}

pub(super) fn extreme(list: &Value, largest: bool) -> Evaluated {
    let mut best: Option<Value> = None;
    for item in list_of(list)?.iter() {
        if !item.has(Trait::Comparer) {
            return Err(EvalError::no_such_overload());
        }
        best = match best {
            None => Some(item),
            Some(best) => {
                let better =
                    ops::compare(&best, &item).is_ok_and(|order| if largest { order.is_lt() } else { order.is_gt() });
                Some(if better { item } else { best })
            }
        };
    }
    best.ok_or_else(|| EvalError::new(if largest { "max called on empty list" } else { "min called on empty list" }))
}

pub(super) fn index_of(list: &Value, item: &Value) -> Evaluated {
    let list = list_of(list)?;
    let found = (0..list.len()).find(|index| list.get(*index).is_some_and(|known| equal(&known, item)));
    Ok(Value::Int(found.map_or(-1, |index| i64::try_from(index).unwrap_or(i64::MAX))))
}

pub(super) fn last_index_of(list: &Value, item: &Value) -> Evaluated {
    let list = list_of(list)?;
    let found = (0..list.len()).rev().find(|index| list.get(*index).is_some_and(|known| equal(&known, item)));
    Ok(Value::Int(found.map_or(-1, |index| i64::try_from(index).unwrap_or(i64::MAX))))
}

pub(super) fn includes(target: &Value, item: &Value) -> Evaluated {
    Ok(Value::Bool(match target {
        Value::List(list) => list.iter().any(|known| equal(&known, item)),
        other => equal(other, item),
    }))
}

pub(super) fn insert(args: &[Value]) -> Evaluated {
    let [map, key, value] = args else { return Err(EvalError::no_such_overload()) };
    insert_one(map, key, value.clone())
}

fn insert_one(map: &Value, key: &Value, value: Value) -> Evaluated {
    if let Some(kind) = crate::map::unhashable(key) {
        return Err(crate::map::hash_panic(kind));
    }
    let exists = || EvalError::new(format!("insert failed: key {} already exists", go_value(key)));
    match map {
        Value::Gathering(gathering) => {
            if let Ok(mut inner) = gathering.0.lock() {
                if inner.contains(key) {
                    return Err(exists());
                }
                inner.insert(key.clone(), value);
            }
            Ok(map.clone())
        }
        Value::Map(old) if old.contains(key) => Err(exists()),
        Value::Map(old) => {
            let mut new = crate::value::Map::new(old.iter());
            new.insert(key.clone(), value);
            Ok(Value::Map(new))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn insert_all(map: &Value, more: &Value) -> Evaluated {
    let mut map = map.clone();
    for (key, value) in more.as_map().ok_or_else(EvalError::no_such_overload)?.iter() {
        map = insert_one(&map, &key, value)?;
    }
    Ok(map)
}
