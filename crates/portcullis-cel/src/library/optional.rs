//! Values that may be absent.
//!
//! Compat: cel-go `cel/library.go` 0.29.2. Selecting from them, `or` and `orValue` are part of the evaluation.

use crate::error::EvalError;
use crate::ops::Evaluated;
use crate::show::go_value;
use crate::value::Value;

pub(super) fn of(value: &Value) -> Evaluated {
    Ok(Value::some(value.clone()))
}

pub(super) fn of_non_zero(value: &Value) -> Evaluated {
    Ok(if value.is_zero() { Value::Optional(None) } else { Value::some(value.clone()) })
}

pub(super) fn value(optional: &Value) -> Evaluated {
    match optional {
        Value::Optional(Some(value)) => Ok(Value::clone(value)),
        Value::Optional(None) => Err(EvalError::new("optional.none() dereference")),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn has_value(optional: &Value) -> Evaluated {
    match optional {
        Value::Optional(value) => Ok(Value::Bool(value.is_some())),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn first(list: &Value) -> Evaluated {
    at(list, false)
}

pub(super) fn last(list: &Value) -> Evaluated {
    at(list, true)
}

fn at(list: &Value, last: bool) -> Evaluated {
    let Value::List(list) = list else { return Err(EvalError::no_such_overload()) };
    let index = if last { list.len().saturating_sub(1) } else { 0 };
    Ok(list.get(index).map_or(Value::Optional(None), Value::some))
}

pub(super) fn unwrap(list: &Value) -> Evaluated {
    let Value::List(list) = list else { return Err(EvalError::no_such_overload()) };
    let mut kept = Vec::new();
    for item in list.iter() {
        match item {
            Value::Optional(Some(value)) => kept.push(Value::clone(&value)),
            Value::Optional(None) => {}
            other => return Err(EvalError::new(format!("value {} is not optional", go_value(&other)))),
        }
    }
    Ok(Value::list(kept))
}
