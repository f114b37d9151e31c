//! `'%s is %d'.format([…])`.
//!
//! Compat: cel-go `ext/formatting.go` 0.29.2, which version 2 of the strings library uses, with the locale `en_US`: `%f`
//! groups digits with commas, and `%e` writes a power of ten. What stands behind the point is the least width of `%e`, whose
//! precision is always six, and counts only up to 255 for `%f`.

use super::convert::{duration_text, to_string};
use crate::error::EvalError;
use crate::limits;
use crate::ops::Evaluated;
use crate::show::quoted;
use crate::value::Value;

/// What stands behind a percent sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clause {
    String,
    Decimal,
    Fixed(u64),
    Scientific(u64),
    Binary,
    Hex { upper: bool },
    Octal,
}

const DEFAULT_PRECISION: u64 = 6;

/// A tenth of the numbers behind the point that Go's formatter does not read any more.
const UNREADABLE: u64 = 1_000_000;

impl Clause {
    /// Why a value of the type `kind` cannot be written so.
    pub(crate) fn complaint(self, kind: &str) -> String {
        match self {
            Self::String => format!(
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and \
                 timestamps, was given {kind}"
            ),
            Self::Decimal => format!("decimal clause can only be used on integers, was given {kind}"),
            Self::Fixed(_) => format!("fixed-point clause can only be used on doubles, was given {kind}"),
            Self::Scientific(_) => format!("scientific clause can only be used on doubles, was given {kind}"),
            Self::Binary => format!("only integers and bools can be formatted as binary, was given {kind}"),
            Self::Hex { .. } => {
                format!("only integers, byte buffers, and strings can be formatted as hex, was given {kind}")
            }
            Self::Octal => format!("octal clause can only be used on integers, was given {kind}"),
        }
    }
}

/// Goes through `format`; `write` is asked for the text of the argument at a position.
pub(crate) fn run(
    format: &str,
    arguments: usize,
    mut write: impl FnMut(usize, Clause) -> Result<String, String>,
) -> Result<String, EvalError> {
    let mut out = String::with_capacity(format.len());
    let mut rest = format;
    let mut index = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let tail = rest.get(at + 1..).unwrap_or_default();
        if let Some(after) = tail.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        if index >= arguments {
            return Err(EvalError::new(format!("index {index} out of range")));
        }
        if tail.is_empty() {
            return Err(EvalError::new("unexpected end of string"));
        }
        let fail = |reason: &str, error: String| EvalError::new(format!("{reason}: {error}"));
        let (clause, after) = clause(tail).map_err(|error| fail("could not parse formatting clause", error))?;
        out.push_str(&write(index, clause).map_err(|error| fail("error during formatting", error))?);
        limits::text(out.len())?;
        index += 1;
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn clause(text: &str) -> Result<(Clause, &str), String> {
    let mut rest = text;
    let mut precision = DEFAULT_PRECISION;
    if let Some(tail) = text.strip_prefix('.') {
        let count = tail.bytes().take_while(u8::is_ascii_digit).count();
        let fail = |reason: &str| Err(format!("error while parsing precision: {reason}"));
        if count == tail.len() {
            return fail("could not find end of precision specifier");
        }
        let digits = tail.get(..count).unwrap_or_default();
        precision = match digits.parse::<i64>() {
            Ok(number) => number.unsigned_abs(),
            Err(_) => {
                let reason = if digits.is_empty() { "invalid syntax" } else { "value out of range" };
                return fail(&format!(
                    "error while converting precision to integer: strconv.Atoi: parsing {}: {reason}",
                    quoted(digits)
                ));
            }
        };
        rest = tail.get(count..).unwrap_or_default();
    }
    // Upstream reads one byte, and shows it as if it were a character.
    let first = rest.bytes().next().unwrap_or_default();
    let clause = match first {
        b's' => Clause::String,
        b'd' => Clause::Decimal,
        b'f' => Clause::Fixed(precision),
        b'e' => Clause::Scientific(precision),
        b'b' => Clause::Binary,
        b'x' => Clause::Hex { upper: false },
        b'X' => Clause::Hex { upper: true },
        b'o' => Clause::Octal,
        other => return Err(format!("unrecognized formatting clause \"{}\"", char::from(other))),
    };
    Ok((clause, rest.get(1..).unwrap_or_default()))
}

pub(super) fn format(args: &[Value]) -> Evaluated {
    let [Value::String(text), Value::List(list)] = args else { return Err(EvalError::no_such_overload()) };
    run(text, list.len(), |index, clause| write(&list.get(index).unwrap_or(Value::Null), clause)).map(Value::from)
}

fn write(value: &Value, clause: Clause) -> Result<String, String> {
    let complaint = || Err(clause.complaint(value.static_type_name()));
    match (clause, value) {
        (Clause::String, _) => string(value),
        (Clause::Decimal, Value::Int(number)) => Ok(number.to_string()),
        (Clause::Decimal, Value::Uint(number)) => Ok(number.to_string()),
        (Clause::Fixed(precision), _) => match number(value) {
            Some(number) => Ok(fixed(number, precision)),
            None => complaint(),
        },
        (Clause::Scientific(precision), _) => match number(value) {
            Some(number) => Ok(scientific(number, precision)),
            None => complaint(),
        },
        (Clause::Binary, Value::Int(number)) => Ok(signed(*number, |n| format!("{n:b}"))),
        (Clause::Binary, Value::Uint(number)) => Ok(format!("{number:b}")),
        (Clause::Binary, Value::Bool(value)) => Ok(u8::from(*value).to_string()),
        (Clause::Hex { upper }, Value::Int(number)) => {
            Ok(signed(*number, |n| if upper { format!("{n:X}") } else { format!("{n:x}") }))
        }
        (Clause::Hex { upper }, Value::Uint(number)) => {
            Ok(if upper { format!("{number:X}") } else { format!("{number:x}") })
        }
        (Clause::Hex { upper }, Value::String(text)) => Ok(hex(text.as_bytes(), upper)),
        (Clause::Hex { upper }, Value::Bytes(bytes)) => Ok(hex(bytes, upper)),
        (Clause::Octal, Value::Int(number)) => Ok(signed(*number, |n| format!("{n:o}"))),
        (Clause::Octal, Value::Uint(number)) => Ok(format!("{number:o}")),
        _ => complaint(),
    }
}

/// Negative numbers have a sign and the digits of what is behind it.
fn signed(number: i64, digits: impl Fn(u64) -> String) -> String {
    format!("{}{}", if number < 0 { "-" } else { "" }, digits(number.unsigned_abs()))
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
}

/// Doubles, and the three texts that stand for numbers that are not finite.
fn number(value: &Value) -> Option<f64> {
    match value {
        // Upstream's formatter gives zero no sign.
        Value::Double(number) => Some(if *number == 0.0 { 0.0 } else { *number }),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn special(number: f64) -> Option<String> {
    if number.is_nan() {
        Some("NaN".to_owned())
    } else if number.is_infinite() {
        Some(if number > 0.0 { "\u{221e}" } else { "-\u{221e}" }.to_owned())
    } else {
        None
    }
}

fn unreadable(number: u64) -> Option<String> {
    (number / 10 > UNREADABLE).then(|| "%!(NOVERB)".to_owned())
}

fn fixed(number: f64, precision: u64) -> String {
    if let Some(text) = unreadable(precision).or_else(|| special(number)) {
        return text;
    }
    let precision = usize::try_from(precision % 256).unwrap_or_default();
    let text = format!("{number:.precision$}");
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

fn scientific(number: f64, width: u64) -> String {
    if let Some(text) = unreadable(width) {
        return text;
    }
    let text = special(number).unwrap_or_else(|| power_of_ten(number));
    let width = usize::try_from(width % 65_536).unwrap_or_default();
    format!("{text:>width$}")
}

fn power_of_ten(number: f64) -> String {
    let text = format!("{number:.6e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let mut power = String::new();
    if exponent < 0 {
        power.push('\u{207b}');
    }
    for digit in format!("{:02}", exponent.unsigned_abs()).chars() {
        power.push(superscript(digit));
    }
    format!("{digits}\u{d7}10{power}")
}

fn superscript(digit: char) -> char {
    match digit {
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        other => char::from_u32(0x2070 + other.to_digit(10).unwrap_or_default()).unwrap_or(other),
    }
}

fn string(value: &Value) -> Result<String, String> {
    match value {
        Value::List(_) => list(value),
        Value::Map(_) | Value::Gathering(_) => map(value),
        Value::Null => Ok("null".to_owned()),
        Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Bool(_)
        | Value::String(_)
        | Value::Timestamp(_)
        | Value::Bytes(_)
        | Value::Duration(_)
        | Value::Type(_) => match to_string(value) {
            Ok(Value::String(text)) => Ok(text.to_string()),
            Ok(_) => Ok(String::new()),
            Err(error) => Err(format!("could not convert argument {} to string", quoted(&error.to_string()))),
        },
        other => Err(Clause::String.complaint(other.static_type_name())),
    }
}

/// A value within a list or a map.
fn nested(value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Bytes(_) => format!("b{}", quoted(&string(value)?)),
        Value::Bool(_) | Value::Null | Value::Type(_) => string(value)?,
        Value::Timestamp(time) => format!("timestamp({})", quoted(&time.to_string())),
        Value::Duration(span) => format!("duration({})", quoted(&duration_text(*span))),
        Value::List(_) => list(value)?,
        Value::Map(_) | Value::Gathering(_) => map(value)?,
        Value::Double(number) => match crate::show::not_finite(*number) {
            Some(text) => quoted(text),
            None => format!("{number:.6}"),
        },
        other => return Err(format!("no formatting function for {}", other.static_type_name())),
    })
}

fn list(value: &Value) -> Result<String, String> {
    let Value::List(list) = value else { return Ok(String::new()) };
    let parts: Vec<String> = list.iter().map(|item| nested(&item)).collect::<Result<_, _>>()?;
    Ok(format!("[{}]", parts.join(", ")))
}

fn map(value: &Value) -> Result<String, String> {
    let map = value.as_map().unwrap_or_default();
    let mut parts: Vec<(String, String)> = Vec::with_capacity(map.len());
    for (key, value) in map.iter() {
        let key = match &key {
            Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_) => nested(&key)?,
            other => {
                return Err(format!("no formatting function for map key of type {}", other.static_type_name()));
            }
        };
        parts.push((key, nested(&value)?));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    let parts: Vec<String> = parts.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(format!("{{{}}}", parts.join(", ")))
}
