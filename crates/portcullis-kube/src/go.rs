//! Text as Go prints and reads it: `encoding/json`, the `%q` verb, and below it what YAML means to Kubernetes. Its bodies,
//! messages and configuration files are made of these.
//!
//! Compat: `encoding/json` escapes `<`, `>`, `&`, U+2028 and U+2029 so that JSON can stand inside HTML; `strconv.Quote`
//! escapes what Unicode does not call printable.

pub mod json;
pub mod syntax;
pub(crate) mod yaml;
mod yaml_flow;
mod yaml_marks;
mod yaml_refused;
mod yaml_scalar;
mod yaml_value;

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Serialises as Go's `json.Marshal` does: compact, HTML-safe escapes, no trailing newline.
///
/// # Errors
/// When a type refuses to serialise (a map with keys that are no strings); the types of this crate never do.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    value.serialize(&mut Serializer::with_formatter(&mut out, GoFormatter))?;
    Ok(out)
}

/// Like [`to_json`], with the newline that Go's `json.Encoder` ends each value with: this is an API server's response body.
///
/// # Errors
/// As [`to_json`].
pub fn to_body<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut out = to_json(value)?;
    out.push(b'\n');
    Ok(out)
}

/// `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Quotes like Go's `%q` for a string.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
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
            c if is_print(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let _infallible = if code < 0x80 {
                    write!(out, "\\x{code:02x}")
                } else if code < 0x1_0000 {
                    write!(out, "\\u{code:04x}")
                } else {
                    write!(out, "\\U{code:08x}")
                };
            }
        }
    }
    out.push('"');
    out
}

/// Quotes like Go's `%q` for a slice of strings: `["a" "b"]`.
pub fn quote_all<S: AsRef<str>>(list: &[S]) -> String {
    let quoted: Vec<String> = list.iter().map(|s| quote(s.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}

/// Whether Go's `strconv.IsPrint` holds: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // `escape_debug` leaves exactly those classes alone, except that it escapes a combining mark at the start of a string.
    let mut buffer = String::with_capacity(5);
    buffer.push('a');
    buffer.push(c);
    buffer.escape_debug().nth(1) == Some(c)
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (head, tail) = rest.split_at(at);
            writer.write_all(head.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_are_those_of_go() {
        let table = [
            ("plain", r#""plain""#),
            ("<a>&b", "\"\\u003ca\\u003e\\u0026b\""),
            ("x\u{2028}y\u{2029}", "\"x\\u2028y\\u2029\""),
            ("\u{8}\u{c}\n\r\t\u{1}\"\\/", "\"\\b\\f\\n\\r\\t\\u0001\\\"\\\\/\""),
            ("é😀\u{7f}", "\"é😀\u{7f}\""),
        ];
        for (text, want) in table {
            assert_eq!(String::from_utf8(to_json(text).unwrap()).unwrap(), want);
        }
    }

    #[test]
    fn a_body_ends_with_one_newline() {
        assert_eq!(to_body("a").unwrap(), b"\"a\"\n");
    }

    #[test]
    fn quoting_is_that_of_the_q_verb() {
        let table = [
            ("pods", r#""pods""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{7}\u{8}\u{b}\u{c}\n\r\t", r#""\a\b\v\f\n\r\t""#),
            ("\u{0}\u{1b}\u{7f}", r#""\x00\x1b\x7f""#),
            ("\u{a0}\u{200b}\u{feff}", r#""\u00a0\u200b\ufeff""#),
            ("é漢😀", "\"é漢😀\""),
            ("\u{301}e\u{301}", "\"\u{301}e\u{301}\""),
            ("\u{e0001}", r#""\U000e0001""#),
        ];
        for (text, want) in table {
            assert_eq!(quote(text), want);
        }
        assert_eq!(quote_all(&["a", "b c"]), r#"["a" "b c"]"#);
        assert_eq!(quote_all::<&str>(&[]), "[]");
    }
}
