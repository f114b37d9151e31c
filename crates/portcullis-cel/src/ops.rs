//! Operators on values: arithmetic that reports overflow, order, and equality across types.
//!
//! Compat: cel-go `common/types` 0.29.2.

use std::cmp::Ordering;

use crate::error::EvalError;
use crate::library::time::Timestamp;
use crate::limits;
use crate::map::{int_of, uint_of};
use crate::value::{List, Value};

pub(crate) type Evaluated = Result<Value, EvalError>;

fn int(value: Option<i64>) -> Evaluated {
    value.map(Value::Int).ok_or_else(|| EvalError::new("integer overflow"))
}

fn uint(value: Option<u64>) -> Evaluated {
    value.map(Value::Uint).ok_or_else(|| EvalError::new("unsigned integer overflow"))
}

fn duration(value: Option<i64>) -> Evaluated {
    value.map(Value::Duration).ok_or_else(|| EvalError::new("integer overflow"))
}

pub(crate) fn add(left: &Value, right: &Value) -> Evaluated {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => {
            limits::text(a.len() + b.len())?;
            let mut joined = String::with_capacity(a.len() + b.len());
            joined.push_str(a);
            joined.push_str(b);
            Ok(Value::from(joined))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            limits::text(a.len() + b.len())?;
            Ok(Value::Bytes([a.as_ref(), b.as_ref()].concat().into()))
        }
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_add(*b)),
        (Value::Duration(span), Value::Timestamp(time)) | (Value::Timestamp(time), Value::Duration(span)) => {
            time.add(*span).map(Value::Timestamp)
        }
        (Value::List(a), Value::List(b)) => a.join(b).map(Value::List).ok_or(limits::LIST),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(crate) fn subtract(left: &Value, right: &Value) -> Evaluated {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_sub(*b)),
        (Value::Timestamp(time), Value::Duration(span)) => match span.checked_neg() {
            Some(span) => time.add(span).map(Value::Timestamp),
            None => Err(EvalError::new("integer overflow")),
        },
        (Value::Timestamp(a), Value::Timestamp(b)) => duration(a.since(b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(crate) fn multiply(left: &Value, right: &Value) -> Evaluated {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_mul(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_mul(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(crate) fn divide(left: &Value, right: &Value) -> Evaluated {
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(EvalError::new("division by zero")),
        (Value::Int(a), Value::Int(b)) => int(a.checked_div(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_div(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(crate) fn modulo(left: &Value, right: &Value) -> Evaluated {
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(EvalError::new("modulus by zero")),
        (Value::Int(a), Value::Int(b)) => int(a.checked_rem(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_rem(*b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(crate) fn negate(value: &Value) -> Evaluated {
    match value {
        Value::Int(a) => int(a.checked_neg()),
        Value::Double(a) => Ok(Value::Double(-a)),
        Value::Duration(a) => duration(a.checked_neg()),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Order of two values of a kind that has one; numbers of different types are compared by what they are.
pub(crate) fn compare(left: &Value, right: &Value) -> Result<Ordering, EvalError> {
    Ok(match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => Timestamp::compare(a, b),
        (Value::Double(a), _) if a.is_nan() => return Err(EvalError::new("NaN values cannot be ordered")),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Double(b)) if b.is_nan() => {
            return Err(EvalError::new("NaN values cannot be ordered"));
        }
        _ => numbers(left, right).ok_or_else(EvalError::no_such_overload)?,
    })
}

fn numbers(left: &Value, right: &Value) -> Option<Ordering> {
    Some(match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Uint(a), Value::Uint(b)) => a.cmp(b),
        (Value::Int(a), Value::Uint(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Value::Uint(a), Value::Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Value::Double(a), Value::Double(b)) => doubles(*a, *b),
        (Value::Double(a), Value::Int(b)) => double_int(*a, *b),
        (Value::Int(a), Value::Double(b)) => double_int(*b, *a).reverse(),
        (Value::Double(a), Value::Uint(b)) => double_uint(*a, *b),
        (Value::Uint(a), Value::Double(b)) => double_uint(*b, *a).reverse(),
        _ => return None,
    })
}

fn doubles(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

#[expect(clippy::cast_precision_loss, reason = "as upstream does")]
fn double_int(a: f64, b: i64) -> Ordering {
    if a < i64::MIN as f64 {
        Ordering::Less
    } else if a > i64::MAX as f64 {
        Ordering::Greater
    } else {
        doubles(a, b as f64)
    }
}

#[expect(clippy::cast_precision_loss, reason = "as upstream does")]
fn double_uint(a: f64, b: u64) -> Ordering {
    if a < 0.0 {
        Ordering::Less
    } else if a > u64::MAX as f64 {
        Ordering::Greater
    } else {
        doubles(a, b as f64)
    }
}

/// Equality as `==` has it: `null` equals nothing else.
pub(crate) fn equal(left: &Value, right: &Value) -> Result<bool, EvalError> {
    match (left, right) {
        (Value::Null, Value::Null) => Ok(true),
        (Value::Null, _) | (_, Value::Null) => Ok(false),
        _ => same(left, right),
    }
}

/// Equality as a value itself has it, which fails where upstream's types of their own meet something else.
pub(crate) fn same(left: &Value, right: &Value) -> Result<bool, EvalError> {
    Ok(match (left, right) {
        (Value::Null, other) => matches!(other, Value::Null),
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) | (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => Timestamp::compare(a, b).is_eq(),
        (Value::Double(a), _) if a.is_nan() => false,
        (Value::Int(_) | Value::Uint(_), Value::Double(b)) if b.is_nan() => false,
        (Value::Double(_), Value::Double(b)) if b.is_nan() => false,
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), _) => numbers(left, right).is_some_and(Ordering::is_eq),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => return same(a, b),
            _ => false,
        },
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            let mut failed = None;
            for index in 0..a.len() {
                let (Some(x), Some(y)) = (a.get(index), b.get(index)) else { continue };
                match equal(&x, &y) {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            match failed {
                // Upstream loses the error unless the list was joined of two.
                Some(error) if a.is_concat() => return Err(error),
                _ => true,
            }
        }
        (Value::Map(_) | Value::Gathering(_), other) => {
            let (Some(a), Some(b)) = (left.as_map(), other.as_map()) else { return Ok(false) };
            a.len() == b.len()
                && a.iter().all(|(key, value)| match b.select(&key) {
                    Some(found) => equal(&value, &found).unwrap_or(true),
                    None => false,
                })
        }
        (Value::Object(a), Value::Object(b)) => std::sync::Arc::ptr_eq(a, b),
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a), Value::Cidr(b)) => a == b,
        (Value::Url(a), Value::Url(b)) => a.to_string() == b.to_string(),
        // Sums are of a type that equality does not know.
        (Value::Quantity(a), Value::Quantity(b)) if !b.is_computed() => a.compare(b).is_eq(),
        (Value::Semver(a), Value::Semver(b)) => a.compare(b).is_eq(),
        (Value::Format(a), Value::Format(b)) => a.name == b.name,
        (
            Value::Object(_)
            | Value::Ip(_)
            | Value::Cidr(_)
            | Value::Url(_)
            | Value::Quantity(_)
            | Value::Semver(_)
            | Value::Format(_),
            _,
        ) => return Err(EvalError::no_such_overload()),
        _ => false,
    })
}

/// Whether `list` or `map` has `value`.
pub(crate) fn contains(container: &Value, value: &Value) -> Evaluated {
    match container {
        Value::List(list) => Ok(Value::Bool(list_contains(list, value))),
        Value::Map(map) => Ok(Value::Bool(map.contains(value))),
        Value::Gathering(map) => Ok(Value::Bool(map.snapshot().contains(value))),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Whether `list` has `value`. An element that cannot be compared with it is another.
pub(crate) fn list_contains(list: &List, value: &Value) -> bool {
    (0..list.len()).any(|index| list.get(index).is_some_and(|item| same(value, &item) == Ok(true)))
}

/// The position that a value names in a list.
pub(crate) fn index(value: &Value) -> Result<i64, EvalError> {
    match value {
        Value::Int(at) => Ok(*at),
        Value::Double(at) => int_of(*at)
            .ok_or_else(|| EvalError::new(format!("unsupported index value {} in list", crate::show::general(*at)))),
        Value::Uint(at) => {
            i64::try_from(*at).map_err(|_| EvalError::new(format!("unsupported index value {at} in list")))
        }
        other => Err(EvalError::new(format!("unsupported index type '{}' in list", other.type_name()))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(crate) fn double_to_int(value: f64) -> Evaluated {
    let inside = value > -9_223_372_036_854_775_808.0 && value < 9_223_372_036_854_775_808.0;
    int(inside.then_some(value as i64))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
pub(crate) fn double_to_uint(value: f64) -> Evaluated {
    let inside = (0.0..18_446_744_073_709_551_616.0).contains(&value);
    uint(inside.then_some(value as u64))
}

/// The values of other number types that are the same number, for sets of constants.
#[expect(clippy::cast_precision_loss, reason = "as upstream does")]
pub(crate) fn same_numbers(value: &Value) -> Vec<Value> {
    match value {
        Value::Int(a) => {
            let mut all = vec![Value::Double(*a as f64)];
            all.extend(u64::try_from(*a).ok().map(Value::Uint));
            all
        }
        Value::Uint(a) => {
            let mut all = vec![Value::Double(*a as f64)];
            all.extend(i64::try_from(*a).ok().map(Value::Int));
            all
        }
        Value::Double(a) => int_of(*a).map(Value::Int).into_iter().chain(uint_of(*a).map(Value::Uint)).collect(),
        _ => Vec::new(),
    }
}
