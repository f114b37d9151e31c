//! Values and numbers as Go's `fmt` and `strconv` write them, which results and error messages show.

use crate::value::Value;

/// Longest text of a value that a message shows, in bytes; upstream shows all.
const MAX_SHOWN: usize = 16 << 10;

/// `%v`.
pub(crate) fn go_value(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Bytes(bytes) => {
            write_all(out, ["[", " ", "]"], bytes.iter(), |byte, out| out.push_str(&byte.to_string()))
        }
        Value::List(list) => {
            let write = if list.is_json() { write_json } else { write_value };
            write_wrapped(list.is_wrapped(), out, |out| {
                write_all(out, ["[", ", ", "]"], list.iter(), |item, out| write(&item, out));
            });
        }
        Value::Map(_) | Value::Gathering(_) => {
            let map = value.as_map().unwrap_or_default();
            write_wrapped(map.unescapes(), out, |out| {
                write_all(out, ["{", ", ", "}"], map.iter(), |(key, value), out| {
                    write_value(&key, out);
                    out.push_str(": ");
                    write_value(&value, out);
                });
            });
        }
        Value::Optional(Some(value)) => {
            out.push_str("optional(");
            write_value(value, out);
            out.push(')');
        }
        Value::String(text) => match text.char_indices().find(|(at, _)| *at > MAX_SHOWN) {
            Some((end, _)) => {
                out.push_str(text.get(..end).unwrap_or_default());
                out.push('…');
            }
            None => out.push_str(text),
        },
        other => out.push_str(&simple(other)),
    }
}

/// Upstream's wrappers of lists and maps are pointers to structures.
fn write_wrapped(wrapped: bool, out: &mut String, write: impl FnOnce(&mut String)) {
    out.push_str(if wrapped { "&{" } else { "" });
    write(out);
    out.push_str(if wrapped { "}" } else { "" });
}

/// An element of a list from JSON, which upstream shows as what Go's decoder made.
fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::List(list) => write_all(out, ["[", " ", "]"], list.iter(), |item, out| write_json(&item, out)),
        Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_cached_key(|(key, _)| go_value(key));
            write_all(out, ["map[", " ", "]"], entries.into_iter(), |(key, value), out| {
                write_value(&key, out);
                out.push(':');
                write_json(&value, out);
            });
        }
        other => write_value(other, out),
    }
}

fn write_all<T>(
    out: &mut String,
    [open, between, close]: [&str; 3],
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
) {
    out.push_str(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(between);
        }
        if out.len() > MAX_SHOWN {
            out.push('…');
            break;
        }
        write(item, out);
    }
    out.push_str(close);
}

/// A value that holds no others.
fn simple(value: &Value) -> String {
    match value {
        Value::Null => "0".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => general(*value),
        Value::Duration(nanoseconds) => crate::library::time::go_duration(*nanoseconds),
        Value::Timestamp(time) => time.go_string(),
        Value::Type(name) => name.to_string(),
        Value::Object(object) => object.type_name().to_owned(),
        Value::Url(url) => url.to_string(),
        Value::Ip(address) => crate::library::net::go_address(address),
        Value::Cidr(cidr) => cidr.to_string(),
        Value::Quantity(quantity) => quantity.to_string(),
        Value::Semver(version) => version.to_string(),
        Value::Format(format) => format.name.to_owned(),
        Value::Optional(_) => "optional.none()".to_owned(),
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) | Value::Gathering(_) => String::new(),
    }
}

/// `%g`: the fewest digits that tell the number apart.
pub(crate) fn general(value: f64) -> String {
    if let Some(text) = not_finite(value) {
        return text.to_owned();
    }
    let text = shortest(value);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    format!("{digits}e{}", signed_exponent(exponent))
}

/// `1.5e10`. Where two texts of the least length are as close to the number, Go takes the even one; this language does not.
fn shortest(value: f64) -> String {
    let text = format!("{value:e}");
    let digits = text.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let rounded = format!("{value:.*e}", digits.saturating_sub(1));
    if rounded.parse() == Ok(value) { rounded } else { text }
}

pub(crate) fn signed_exponent(exponent: i32) -> String {
    format!("{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

pub(crate) fn not_finite(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("+Inf")
    } else if value == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

/// `%q`.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    quote_into(&mut out, text);
    out.push('"');
    out
}

/// What stands between the quotes.
pub(crate) fn quote_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_print(c) => out.push(c),
            c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
}

/// Whether Go's `strconv.IsPrint` holds: letters, marks, numbers, punctuation, symbols and the ASCII space.
///
/// The same as `portcullis_kube::go::is_print`, which this crate cannot use: neither of the two depends on the other.
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // `escape_debug` leaves exactly those classes alone, except that it escapes a combining mark at the start of a string.
    let mut buffer = String::with_capacity(5);
    buffer.push('a');
    buffer.push(c);
    buffer.escape_debug().nth(1) == Some(c)
}

/// `strconv.ParseFloat` with 64 bits.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let (negative, body) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..)?),
        Some(b'+') => (false, text.get(1..)?),
        _ => (false, text),
    };
    let sign = if negative { -1.0 } else { 1.0 };
    let lower = body.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "infinity" => return Some(sign * f64::INFINITY),
        "nan" if body.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    let plain = without_underscores(&lower)?;
    if let Some(hex) = plain.strip_prefix("0x") {
        return hex_float(hex).map(|value| sign * value);
    }
    let usual = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && plain.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'));
    let value: f64 = usual.then(|| plain.parse().ok()).flatten()?;
    value.is_finite().then_some(sign * value)
}

/// Underscores may separate digits.
fn without_underscores(text: &str) -> Option<String> {
    if !text.contains('_') {
        return Some(text.to_owned());
    }
    let hex = text.starts_with("0x");
    let mut previous = if hex { '0' } else { '^' };
    for c in text.chars().skip(if hex { 2 } else { 0 }) {
        let digit = c.is_ascii_digit() || (hex && c.is_ascii_hexdigit());
        match c {
            '_' if previous != '0' => return None,
            '_' => previous = '_',
            _ if digit => previous = '0',
            _ if previous == '_' => return None,
            _ => previous = '!',
        }
    }
    (previous != '_').then(|| text.replace('_', ""))
}

/// Digits and an exponent of two, which must be there.
fn hex_float(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once('p')?;
    let exponent: i32 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 {
        return None;
    }
    let mut value: u128 = 0;
    let mut dropped = 0i32;
    for c in whole.chars().chain(fraction.chars()) {
        let digit = c.to_digit(16)?;
        if value >> 120 == 0 {
            value = (value << 4) | u128::from(digit);
        } else {
            dropped += 4;
            value |= u128::from(digit != 0);
        }
    }
    let scale = exponent.checked_add(dropped)?.checked_sub(i32::try_from(fraction.len()).ok()?.checked_mul(4)?)?;
    #[expect(clippy::cast_precision_loss, reason = "rounds once, as Go does")]
    let result = (value as f64) * 2f64.powi(scale.clamp(-1100, 1100));
    result.is_finite().then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_shortest_texts_the_even_one_is_taken() {
        assert_eq!(general(0.1 * 9_007_199_254_740_992.0), "9.007199254740992e+14");
        assert_eq!(general(900_719_925_474_099.0 + 0.375), "9.007199254740994e+14");
        assert_eq!(general(9_007_199_254_740_993.0), "9.007199254740992e+15");
        assert_eq!(general(5e-324), "5e-324");
        assert_eq!(general(f64::MAX), "1.7976931348623157e+308");
        assert_eq!(general(1e23), "1e+23");
    }
}
