//! One log line, byte for byte as Go's slog text and JSON handlers write it.
//!
//! Compat: log/slog (Go 1.25) `TextHandler` and `JSONHandler`, in UTC.

use std::fmt::Write as _;

use time::format_description::StaticFormatDescription;
use time::macros::format_description;

use super::level::Level;
use crate::Timestamp;

/// Longest value of a field, in bytes; longer ones are cut.
const VALUE_BYTES: usize = 16 * 1024;
const TEXT_TIME: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// A field's value, as slog tells kinds apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
}

impl Value {
    pub(super) fn text(mut text: String) -> Self {
        if text.len() > VALUE_BYTES {
            let mut end = VALUE_BYTES;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push('…');
        }
        Self::Text(text)
    }
}

/// What a line holds.
pub(super) struct Record<'a> {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(&'a str, &'a Value)],
}

/// `time=… level=… msg=… key=value`.
pub(super) fn text_line(record: &Record<'_>) -> String {
    let time = record.time.to_offset_date_time().format(TEXT_TIME).unwrap_or_default();
    let mut line = String::with_capacity(128);
    let _ = write!(line, "time={time} level={} msg=", record.level);
    push_text(&mut line, record.message);
    for (key, value) in record.fields {
        line.push(' ');
        push_text(&mut line, key);
        line.push('=');
        let _ = match value {
            Value::Text(text) => {
                push_text(&mut line, text);
                Ok(())
            }
            Value::Signed(number) => write!(line, "{number}"),
            Value::Unsigned(number) => write!(line, "{number}"),
            Value::Float(number) => write!(line, "{number}"),
            Value::Bool(value) => write!(line, "{value}"),
        };
    }
    line.push('\n');
    line
}

/// `{"time":…,"level":…,"msg":…,"key":value}`.
pub(super) fn json_line(record: &Record<'_>) -> String {
    let mut line = String::with_capacity(160);
    let _ = write!(line, "{{\"time\":\"{}\",\"level\":\"{}\",\"msg\":", nano_time(record.time), record.level);
    push_json(&mut line, record.message);
    for (key, value) in record.fields {
        line.push(',');
        push_json(&mut line, key);
        line.push(':');
        let _ = match value {
            Value::Text(text) => {
                push_json(&mut line, text);
                Ok(())
            }
            Value::Signed(number) => write!(line, "{number}"),
            Value::Unsigned(number) => write!(line, "{number}"),
            Value::Float(number) if number.is_finite() => write!(line, "{number}"),
            Value::Float(number) => write!(line, "\"{number}\""),
            Value::Bool(value) => write!(line, "{value}"),
        };
    }
    line.push_str("}\n");
    line
}

/// RFC 3339 with as many fraction digits as there are.
fn nano_time(time: Timestamp) -> String {
    let nanos = time.unix_nanos().rem_euclid(1_000_000_000);
    let seconds = time.rfc3339();
    if nanos == 0 {
        return seconds;
    }
    let fraction = format!("{nanos:09}");
    format!("{}.{}Z", seconds.trim_end_matches('Z'), fraction.trim_end_matches('0'))
}

fn push_text(line: &mut String, text: &str) {
    if needs_quotes(text) { push_quoted(line, text) } else { line.push_str(text) }
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.chars().any(|c| matches!(c, ' ' | '=' | '"') || !is_print(c))
}

/// Go's `strconv.Quote`.
fn push_quoted(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' => write!(line, "\\\""),
            '\\' => write!(line, "\\\\"),
            '\u{7}' => write!(line, "\\a"),
            '\u{8}' => write!(line, "\\b"),
            '\u{c}' => write!(line, "\\f"),
            '\n' => write!(line, "\\n"),
            '\r' => write!(line, "\\r"),
            '\t' => write!(line, "\\t"),
            '\u{b}' => write!(line, "\\v"),
            c if is_print(c) => write!(line, "{c}"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => write!(line, "\\x{:02x}", u32::from(c)),
            c if u32::from(c) < 0x1_0000 => write!(line, "\\u{:04x}", u32::from(c)),
            c => write!(line, "\\U{:08x}", u32::from(c)),
        };
    }
    line.push('"');
}

/// Near enough to Go's `unicode.IsPrint`: no control, format or separator characters except the ASCII space, and not
/// the replacement character. What matters is that nothing breaks a line or turns a terminal's text around.
fn is_print(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c if c.is_control() || c.is_whitespace() => false,
        '\u{ad}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{feff}'
        | '\u{fff0}'..='\u{ffff}'
        | '\u{e0000}'..='\u{10ffff}' => false,
        _ => true,
    }
}

/// A JSON string as slog writes it: as encoding/json without HTML escapes.
fn push_json(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' => write!(line, "\\\""),
            '\\' => write!(line, "\\\\"),
            '\u{8}' => write!(line, "\\b"),
            '\u{c}' => write!(line, "\\f"),
            '\n' => write!(line, "\\n"),
            '\r' => write!(line, "\\r"),
            '\t' => write!(line, "\\t"),
            '\u{2028}' | '\u{2029}' => write!(line, "\\u{:04x}", u32::from(c)),
            c if u32::from(c) < 0x20 => write!(line, "\\u{:04x}", u32::from(c)),
            c => write!(line, "{c}"),
        };
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(message: &'a str, fields: &'a [(&'a str, &'a Value)]) -> Record<'a> {
        Record { time: Timestamp::from_unix_nanos(1_785_576_600_120_000_000), level: Level::INFO, message, fields }
    }

    #[test]
    fn golden_text() {
        let (text, number, flag, float) =
            (Value::Text("a b".into()), Value::Signed(-3), Value::Bool(true), Value::Float(0.5));
        let fields = [("user", &text), ("n", &number), ("ok", &flag), ("took", &float)];
        assert_eq!(
            text_line(&record("login successful", &fields)),
            "time=2026-08-01T09:30:00.120Z level=INFO msg=\"login successful\" user=\"a b\" n=-3 ok=true took=0.5\n"
        );
        assert_eq!(text_line(&record("plain", &[])), "time=2026-08-01T09:30:00.120Z level=INFO msg=plain\n");
    }

    #[test]
    fn golden_json() {
        let (text, number, flag, nan) =
            (Value::Text("a\"<b>\n".into()), Value::Unsigned(u64::MAX), Value::Bool(false), Value::Float(f64::NAN));
        let fields = [("user", &text), ("n", &number), ("ok", &flag), ("f", &nan)];
        let line = json_line(&record("keys rotated", &fields));
        assert_eq!(
            line,
            "{\"time\":\"2026-08-01T09:30:00.12Z\",\"level\":\"INFO\",\"msg\":\"keys rotated\",\"user\":\"a\\\"<b>\\n\",\"n\":18446744073709551615,\"ok\":false,\"f\":\"NaN\"}\n"
        );
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }

    #[test]
    fn text_values_are_quoted_as_in_go() {
        for (value, shown) in [
            ("", "\"\""),
            ("plain", "plain"),
            ("a=b", "\"a=b\""),
            ("back\\slash", "back\\slash"),
            ("back\\slash and space", "\"back\\\\slash and space\""),
            ("quote\"", "\"quote\\\"\""),
            ("line\nbreak", "\"line\\nbreak\""),
            ("\u{1b}[31m", "\"\\x1b[31m\""),
            ("é", "é"),
            ("\u{85}", "\"\\u0085\""),
            ("\u{202e}evil", "\"\\u202eevil\""),
            ("\u{2028}", "\"\\u2028\""),
            ("\u{e0001}", "\"\\U000e0001\""),
            ("http://x/y?z", "http://x/y?z"),
            ("\u{7f}", "\"\\x7f\""),
        ] {
            let mut line = String::new();
            push_text(&mut line, value);
            assert_eq!(line, shown, "{value:?}");
        }
    }

    #[test]
    fn no_value_can_forge_a_second_line() {
        let forged = Value::Text("x\ntime=2026 level=ERROR msg=forged\r\n\u{2028}\u{85}".into());
        let fields = [("v", &forged)];
        for line in [text_line(&record("a\nb", &fields)), json_line(&record("a\nb", &fields))] {
            assert_eq!(line.matches(['\n', '\r', '\u{2028}']).count(), 1, "{line}");
        }
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let Value::Text(cut) = Value::text("é".repeat(VALUE_BYTES)) else { panic!() };
        assert!(cut.len() <= VALUE_BYTES + 3 && cut.ends_with('…'));
        assert_eq!(Value::text("short".into()), Value::Text("short".into()));
    }
}
