//! Text as Go prints it: floating-point numbers in JSON and in messages, the verbs `%v`, `%s` and `%q`, names of types.
//!
//! Compat: Go 1.26, packages `fmt`, `strconv` and `encoding/json`. A decoded JSON value is a `map[string]interface {}`, a
//! `[]interface {}`, a `string`, a `bool`, an `int64`, a `float64` or nil.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// The type that Go's decoder would have given a value. Two values are compared only when their types are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoType {
    Nil,
    Bool,
    Int64,
    Float64,
    String,
    List,
    Map,
}

impl GoType {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nil,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) if number.is_i64() => Self::Int64,
            Value::Number(_) => Self::Float64,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Map,
        }
    }

    /// The type as the verb `%s` prints it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Nil => "%!s(<nil>)",
            Self::Bool => "bool",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::String => "string",
            Self::List => "[]interface {}",
            Self::Map => "map[string]interface {}",
        }
    }
}

/// The verb a value is printed with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// `%v`.
    Value,
    /// `%s`: what is no string is marked.
    String,
}

/// An object as `%v` and `%+v` print it: `map[a:1 b:[x y] c:<nil>]`, members sorted.
pub(crate) fn map(members: &serde_json::Map<String, Value>) -> String {
    let mut out = String::new();
    print_map(members, Verb::Value, 0, &mut out);
    out
}

/// A list as `%v` prints it.
pub(crate) fn list(items: &[Value]) -> String {
    let mut out = String::new();
    print_list(items, Verb::Value, 0, &mut out);
    out
}

/// A value as `%s` prints it: `%!s(int64=1)` for what is no string.
pub(crate) fn string(value: &Value) -> String {
    let mut out = String::new();
    print(value, Verb::String, 0, &mut out);
    out
}

fn print(value: &Value, verb: Verb, level: usize, out: &mut String) {
    match value {
        Value::String(text) => out.push_str(text),
        // Inside of a list or map even `%s` prints nil plainly.
        Value::Null if verb == Verb::Value || level > 0 => out.push_str("<nil>"),
        Value::Array(items) => print_list(items, verb, level, out),
        Value::Object(members) => print_map(members, verb, level, out),
        scalar => {
            let text = match scalar {
                Value::Bool(truth) => truth.to_string(),
                Value::Number(number) => number_text(number),
                _ => String::new(),
            };
            let _infallible = match verb {
                Verb::Value => out.write_str(&text),
                Verb::String if value.is_null() => out.write_str("%!s(<nil>)"),
                Verb::String => write!(out, "%!s({}={text})", GoType::of(value).as_str()),
            };
        }
    }
}

fn print_list(items: &[Value], verb: Verb, level: usize, out: &mut String) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        print(item, verb, level + 1, out);
    }
    out.push(']');
}

fn print_map(members: &serde_json::Map<String, Value>, verb: Verb, level: usize, out: &mut String) {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    out.push_str("map[");
    for (at, (name, member)) in sorted.into_iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        out.push_str(name);
        out.push(':');
        print(member, verb, level + 1, out);
    }
    out.push(']');
}

fn number_text(number: &Number) -> String {
    match number.as_i64() {
        Some(int) => int.to_string(),
        None => float_verb_g(number.as_f64().unwrap_or_default()),
    }
}

/// The shortest digits that give `float` back, without the point, and the exponent of the first of them.
fn digits(float: f64) -> (bool, String, i32) {
    let text = format!("{float:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let negative = mantissa.starts_with('-');
    let digits = mantissa.chars().filter(char::is_ascii_digit).collect();
    (negative, digits, exponent.parse().unwrap_or_default())
}

/// `%v` of a float64: the shortest digits, with an exponent below 1e-4 and from 1e+06 on.
fn float_verb_g(float: f64) -> String {
    let (_, _, exponent) = digits(float);
    if (-4..6).contains(&exponent) { plain(float) } else { scientific(float, 2) }
}

/// A float64 as `encoding/json` writes it: as ECMAScript does, so without an exponent from 1e-6 up to 1e21.
pub(crate) fn json_float(float: f64) -> String {
    let size = float.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) { plain(float) } else { scientific(float, 1) }
}

/// Without an exponent.
fn plain(float: f64) -> String {
    // Rust prints the shortest digits that give the number back, and never an exponent.
    format!("{float}")
}

/// With a signed exponent of at least `width` digits.
fn scientific(float: f64, width: usize) -> String {
    let (negative, digits, exponent) = digits(float);
    let (first, rest) = digits.split_at(digits.len().min(1));
    let sign = if negative { "-" } else { "" };
    let point = if rest.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{exponent_sign}{:0width$}", exponent.unsigned_abs())
}

/// Quotes like `%q` and `strconv.Quote`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let short = match c {
            '"' => Some("\\\""),
            '\\' => Some("\\\\"),
            '\u{7}' => Some("\\a"),
            '\u{8}' => Some("\\b"),
            '\u{b}' => Some("\\v"),
            '\u{c}' => Some("\\f"),
            '\n' => Some("\\n"),
            '\r' => Some("\\r"),
            '\t' => Some("\\t"),
            _ => None,
        };
        let code = u32::from(c);
        let _infallible = match short {
            Some(short) => out.write_str(short),
            None if is_print(c) => out.write_char(c),
            None if code < 0x80 => write!(out, "\\x{code:02x}"),
            None if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
            None => write!(out, "\\U{code:08x}"),
        };
    }
    out.push('"');
    out
}

/// Whether `strconv.IsPrint` holds: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // `escape_debug` leaves those classes alone, but for a combining mark at the start of a string.
    let text: String = ['a', c].into_iter().collect();
    text.escape_debug().nth(1) == Some(c)
}

/// The number in `text`, or what `strconv.Atoi` says instead.
pub(crate) fn atoi(text: &str) -> Result<i64, String> {
    let wrong = |why| Err(format!("strconv.Atoi: parsing {}: {why}", quote(text)));
    let text_bytes = text.as_bytes();
    let negative = text_bytes.starts_with(b"-");
    let digits = text_bytes.strip_prefix(if negative { b"-" } else { b"+" }).unwrap_or(text_bytes);
    if digits.is_empty() {
        return wrong("invalid syntax");
    }
    let mut number: i128 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return wrong("invalid syntax");
        }
        number = number * 10 + i128::from(byte - b'0');
        // Compat: Go stops at 64 bits without a sign, and does not look at what follows.
        if number > i128::from(u64::MAX) {
            return wrong("value out of range");
        }
    }
    i64::try_from(if negative { -number } else { number }).or_else(|_| wrong("value out of range"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_print_as_the_verb_v_does() {
        let mixed = json!({"b": null, "a": "x y", "c": [1, null, "q", true, {}], "": 1.0});
        assert_eq!(map(mixed.as_object().unwrap()), "map[:1 a:x y b:<nil> c:[1 <nil> q true map[]]]");
        assert_eq!(list(&[json!([]), json!([null, 1])]), "[[] [<nil> 1]]");
    }

    #[test]
    fn values_print_as_the_verb_s_does() {
        for (from, want) in [
            (json!(null), "%!s(<nil>)"),
            (json!(5), "%!s(int64=5)"),
            (json!(1.5), "%!s(float64=1.5)"),
            (json!(true), "%!s(bool=true)"),
            (json!("text"), "text"),
            (json!(["a", null, 2, [1.0]]), "[a <nil> %!s(int64=2) [%!s(float64=1)]]"),
            (json!({"z": null, "k": "v", "n": -1e21}), "map[k:v n:%!s(float64=-1e+21) z:<nil>]"),
        ] {
            assert_eq!(string(&from), want);
        }
    }

    #[test]
    fn floats_print_as_in_messages_and_as_in_json() {
        for (float, message, json) in [
            (1.0, "1", "1"),
            (100_000.0, "100000", "100000"),
            (1e6, "1e+06", "1000000"),
            (123_456_789.0, "1.23456789e+08", "123456789"),
            (1e20, "1e+20", "100000000000000000000"),
            (1e21, "1e+21", "1e+21"),
            (1.5, "1.5", "1.5"),
            (0.0001, "0.0001", "0.0001"),
            (0.00001, "1e-05", "0.00001"),
            (1e-7, "1e-07", "1e-7"),
            (123_456.789, "123456.789", "123456.789"),
            (1e100, "1e+100", "1e+100"),
            (5e-324, "5e-324", "5e-324"),
            (f64::MAX, "1.7976931348623157e+308", "1.7976931348623157e+308"),
            (12_345_678_901_234_567_890.0, "1.2345678901234567e+19", "12345678901234567000"),
            (-0.0, "-0", "-0"),
            (-2.5e-9, "-2.5e-09", "-2.5e-9"),
        ] {
            assert_eq!((float_verb_g(float).as_str(), json_float(float).as_str()), (message, json));
        }
    }

    #[test]
    fn quoting_is_that_of_the_verb_q() {
        for (text, want) in [
            ("plain", r#""plain""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{7}\u{8}\u{b}\u{c}\n\r\t", r#""\a\b\v\f\n\r\t""#),
            ("\u{0}\u{1b}\u{7f}", r#""\x00\x1b\x7f""#),
            ("\u{a0}\u{200b}é\u{301}", "\"\\u00a0\\u200bé\u{301}\""),
            ("\u{fffd}\u{10ffff}", "\"\u{fffd}\\U0010ffff\""),
        ] {
            assert_eq!(quote(text), want);
        }
    }

    #[test]
    fn indices_are_read_as_atoi_reads_them() {
        for (text, want) in [("7", 7), ("+1", 1), ("-0", 0), ("007", 7), ("-12", -12)] {
            assert_eq!(atoi(text), Ok(want));
        }
        assert_eq!(atoi("9223372036854775807"), Ok(i64::MAX));
        for (text, why) in [
            ("", "invalid syntax"),
            ("-", "invalid syntax"),
            ("+", "invalid syntax"),
            ("1_0", "invalid syntax"),
            ("0x1", "invalid syntax"),
            (" 1", "invalid syntax"),
            ("٣", "invalid syntax"),
            ("9223372036854775808", "value out of range"),
            ("-99999999999999999999", "value out of range"),
            ("9999999999999999999x", "invalid syntax"),
            ("99999999999999999999x", "value out of range"),
        ] {
            assert_eq!(atoi(text), Err(format!("strconv.Atoi: parsing {}: {why}", quote(text))));
        }
    }
}
