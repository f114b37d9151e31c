//! Conversions between types, sizes, and parts of dates.
//!
//! Compat: cel-go `common/types` and `common/stdlib` 0.29.2.

use super::time;
use crate::error::EvalError;
use crate::ops::{Evaluated, double_to_int, double_to_uint};
use crate::show::{general, parse_float};
use crate::value::Value;

fn failed(value: &Value, to: &str) -> EvalError {
    EvalError::new(format!("type conversion error from '{}' to '{to}'", go_type_text(value)))
}

/// A type as `%s` shows it.
fn go_type_text(value: &Value) -> String {
    match value {
        Value::List(_) => "list(dyn)".to_owned(),
        Value::Map(_) => "map(dyn, dyn)".to_owned(),
        other => other.type_name().to_string(),
    }
}

pub(super) fn identity(value: &Value) -> Evaluated {
    Ok(value.clone())
}

pub(super) fn not(value: &Value) -> Evaluated {
    match value {
        Value::Bool(value) => Ok(Value::Bool(!value)),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn size(value: &Value) -> Evaluated {
    match value.size() {
        Some(size) => Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX))),
        None => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn to_bool(value: &Value) -> Evaluated {
    match value {
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(failed(value, "bool")),
        },
        other => Ok(other.clone()),
    }
}

pub(super) fn to_bytes(value: &Value) -> Evaluated {
    match value {
        Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
        other => Ok(other.clone()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "as upstream does")]
pub(super) fn to_double(value: &Value) -> Evaluated {
    match value {
        Value::Int(value) => Ok(Value::Double(*value as f64)),
        Value::Uint(value) => Ok(Value::Double(*value as f64)),
        Value::String(text) => parse_float(text).map(Value::Double).ok_or_else(|| failed(value, "double")),
        other => Ok(other.clone()),
    }
}

pub(super) fn to_int(value: &Value) -> Evaluated {
    match value {
        Value::Double(value) => double_to_int(*value),
        Value::Duration(value) => Ok(Value::Int(*value)),
        Value::Timestamp(time) => Ok(Value::Int(time.seconds())),
        Value::Uint(value) => i64::try_from(*value).map(Value::Int).map_err(|_| EvalError::new("integer overflow")),
        Value::String(text) => text.parse().map(Value::Int).map_err(|_| failed(value, "int")),
        other => Ok(other.clone()),
    }
}

pub(super) fn to_uint(value: &Value) -> Evaluated {
    match value {
        Value::Double(value) => double_to_uint(*value),
        Value::Int(value) => {
            u64::try_from(*value).map(Value::Uint).map_err(|_| EvalError::new("unsigned integer overflow"))
        }
        Value::String(text) => match text.parse() {
            Ok(number) if !text.starts_with('+') => Ok(Value::Uint(number)),
            _ => Err(failed(value, "uint")),
        },
        other => Ok(other.clone()),
    }
}

pub(super) fn to_string(value: &Value) -> Evaluated {
    Ok(Value::from(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => general(*value),
        Value::Duration(value) => duration_text(*value),
        Value::Timestamp(time) => time.to_string(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Type(name) => name.to_string(),
        other => return Ok(other.clone()),
    }))
}

pub(super) fn duration_text(nanoseconds: i64) -> String {
    format!("{}s", time::seconds(nanoseconds))
}

pub(super) fn to_duration(value: &Value) -> Evaluated {
    match value {
        Value::String(text) => {
            time::parse_duration(text).map(Value::Duration).ok_or_else(|| failed(value, "google.protobuf.Duration"))
        }
        other => Ok(other.clone()),
    }
}

pub(super) fn to_timestamp(value: &Value) -> Evaluated {
    match value {
        Value::Int(seconds) => time::Timestamp::from_seconds(*seconds).map(Value::Timestamp),
        Value::String(text) => match time::Timestamp::parse(text) {
            Some(parsed) => parsed.map(Value::Timestamp),
            None => Err(failed(value, "google.protobuf.Timestamp")),
        },
        other => Ok(other.clone()),
    }
}

pub(super) fn part(function: &str, time: &Value, zone: Option<&Value>) -> Evaluated {
    match (time, zone) {
        (Value::Timestamp(time), None) => time::part(function, time, "UTC"),
        (Value::Timestamp(time), Some(Value::String(zone))) => time::part(function, time, zone),
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn duration_part(function: &str, span: &Value) -> Evaluated {
    match span {
        Value::Duration(nanoseconds) => Ok(time::duration_part(function, *nanoseconds)),
        _ => Err(EvalError::no_such_overload()),
    }
}
