//! Functions on text. Positions count code points.
//!
//! Compat: cel-go `common/types/string.go` and `ext/strings.go`, version 2 of that library, 0.29.2.

use crate::error::EvalError;
use crate::limits;
use crate::ops::Evaluated;
use crate::show::go_value;
use crate::value::{List, Value};

fn text(value: &Value) -> Result<&str, EvalError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn number(value: &Value) -> Result<i64, EvalError> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn argument(args: &[Value], index: usize) -> Result<&Value, EvalError> {
    args.get(index).ok_or_else(EvalError::no_such_overload)
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::new(format!("index out of range: {index}"))
}

fn to_int(index: usize) -> Value {
    Value::Int(i64::try_from(index).unwrap_or(i64::MAX))
}

pub(super) fn contains(a: &Value, b: &Value) -> Evaluated {
    Ok(Value::Bool(text(a)?.contains(text(b)?)))
}

pub(super) fn ends_with(a: &Value, b: &Value) -> Evaluated {
    Ok(Value::Bool(text(a)?.ends_with(text(b)?)))
}

pub(super) fn starts_with(a: &Value, b: &Value) -> Evaluated {
    Ok(Value::Bool(text(a)?.starts_with(text(b)?)))
}

pub(super) fn char_at(a: &Value, at: &Value) -> Evaluated {
    let (text, at) = (text(a)?, number(at)?);
    let index = usize::try_from(at).map_err(|_| out_of_range(at))?;
    match text.chars().nth(index) {
        Some(c) => Ok(Value::from(c.to_string())),
        None if index == text.chars().count() => Ok(Value::from("")),
        None => Err(out_of_range(at)),
    }
}

pub(super) fn index_of(a: &Value, b: &Value) -> Evaluated {
    find_from(text(a)?, text(b)?, 0)
}

pub(super) fn index_of_from(args: &[Value]) -> Evaluated {
    find_from(text(argument(args, 0)?)?, text(argument(args, 1)?)?, number(argument(args, 2)?)?)
}

fn find_from(text: &str, part: &str, from: i64) -> Evaluated {
    let start = usize::try_from(from).map_err(|_| out_of_range(from))?;
    let length = text.chars().count();
    if part.is_empty() {
        return Ok(to_int(start.min(length)));
    }
    if start >= length {
        return Ok(Value::Int(-1));
    }
    let offset = text.char_indices().nth(start).map_or(text.len(), |(offset, _)| offset);
    let found =
        text.get(offset..).and_then(|tail| tail.find(part).map(|at| tail.get(..at).map_or(0, |t| t.chars().count())));
    Ok(found.map_or(Value::Int(-1), |at| to_int(start + at)))
}

pub(super) fn last_index_of(a: &Value, b: &Value) -> Evaluated {
    let (text, part) = (text(a)?, text(b)?);
    let length = text.chars().count();
    if part.is_empty() {
        return Ok(to_int(length));
    }
    if text.len() < part.len() {
        return Ok(Value::Int(-1));
    }
    find_back_from(text, part, i64::try_from(length).unwrap_or(i64::MAX) - 1)
}

pub(super) fn last_index_of_from(args: &[Value]) -> Evaluated {
    find_back_from(text(argument(args, 0)?)?, text(argument(args, 1)?)?, number(argument(args, 2)?)?)
}

fn find_back_from(text: &str, part: &str, from: i64) -> Evaluated {
    let start = usize::try_from(from).map_err(|_| out_of_range(from))?;
    let length = text.chars().count();
    if part.is_empty() {
        return Ok(to_int(start.min(length)));
    }
    if start >= length {
        return Ok(Value::Int(-1));
    }
    // The last place at which the part may start.
    let offset = text.char_indices().nth(start).map_or(text.len(), |(offset, _)| offset);
    let end = (offset + part.len()).min(text.len());
    let mut end = end;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let found = text.get(..end).and_then(|head| head.rfind(part)).and_then(|at| text.get(..at));
    Ok(found.map_or(Value::Int(-1), |before| to_int(before.chars().count())))
}

pub(super) fn lower_ascii(a: &Value) -> Evaluated {
    Ok(Value::from(text(a)?.to_ascii_lowercase()))
}

pub(super) fn upper_ascii(a: &Value) -> Evaluated {
    Ok(Value::from(text(a)?.to_ascii_uppercase()))
}

/// White space as Go knows it, which is Unicode's.
pub(super) fn trim(a: &Value) -> Evaluated {
    Ok(Value::from(text(a)?.trim_matches(|c: char| c.is_whitespace())))
}

pub(super) fn replace(args: &[Value]) -> Evaluated {
    let (all, old, new) = (text(argument(args, 0)?)?, text(argument(args, 1)?)?, text(argument(args, 2)?)?);
    let limit = match args.get(3) {
        Some(limit) => usize::try_from(number(limit)?).ok(),
        None => None,
    };
    let most = if old.is_empty() { all.chars().count() + 1 } else { all.len() / old.len() };
    if all.len() + most.saturating_mul(new.len()) > limits::TEXT_BYTES {
        let count = all.matches(old).take(limit.unwrap_or(usize::MAX)).count();
        limits::text((all.len() - count * old.len()).saturating_add(count.saturating_mul(new.len())))?;
    }
    Ok(Value::from(match limit {
        Some(limit) => all.replacen(old, new, limit),
        None => all.replace(old, new),
    }))
}

pub(super) fn split(args: &[Value]) -> Evaluated {
    let (all, separator) = (text(argument(args, 0)?)?, text(argument(args, 1)?)?);
    let limit = match args.get(2) {
        Some(limit) => usize::try_from(number(limit)?).ok(),
        None => None,
    };
    let parts: Vec<&str> = match (limit, separator.is_empty()) {
        (Some(0), _) => Vec::new(),
        (Some(limit), false) => all.splitn(limit, separator).collect(),
        (None, false) => all.split(separator).collect(),
        (limit, true) => characters(all, limit.unwrap_or(usize::MAX)),
    };
    Ok(Value::List(List::made_of_strings(parts)))
}

/// The characters of `text` one by one, and all the rest as the last of `limit` parts.
fn characters(text: &str, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if parts.len() + 1 == limit {
            parts.push(rest);
            break;
        }
        let (first, tail) = rest.split_at(c.len_utf8());
        parts.push(first);
        rest = tail;
    }
    parts
}

pub(super) fn substring(args: &[Value]) -> Evaluated {
    let (text, start) = (text(argument(args, 0)?)?, number(argument(args, 1)?)?);
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let end = match args.get(2) {
        Some(end) => {
            let end = number(end)?;
            if start > end {
                let message = format!("invalid substring range. start: {start}, end: {end}");
                return Err(EvalError::new(message));
            }
            end
        }
        None => length,
    };
    for position in [start, end] {
        if !(0..=length).contains(&position) {
            return Err(out_of_range(position));
        }
    }
    let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else {
        return Err(out_of_range(start));
    };
    Ok(Value::from(text.chars().skip(start).take(end - start).collect::<String>()))
}

pub(super) fn quote(a: &Value) -> Evaluated {
    let mut out = String::from("\"");
    for c in text(a)?.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(Value::from(out))
}

pub(super) fn join(list: &Value, separator: Option<&Value>) -> Evaluated {
    let Value::List(list) = list else { return Err(EvalError::no_such_overload()) };
    let separator = separator.map_or(Ok(""), text)?;
    let mut out = String::new();
    for index in 0..list.len() {
        if index > 0 {
            limits::text(out.len() + separator.len())?;
            out.push_str(separator);
        }
        match list.get(index) {
            Some(Value::String(part)) => {
                limits::text(out.len() + part.len())?;
                out.push_str(&part);
            }
            Some(other) => return Err(EvalError::new(format!("join: invalid input: {}", go_value(&other)))),
            None => {}
        }
    }
    Ok(Value::from(out))
}
