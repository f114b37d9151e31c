//! Writing JSON as Go's `encoding/json` does: no white space, and `<`, `>`, `&`, U+2028, U+2029 escaped.

use serde_json::Value;

use crate::go;

/// Appends checked text without its white space, with the escapes that Go adds. Bytes that are not UTF-8 stay.
pub(crate) fn compact(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    let mut quoted = false;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'<' => out.extend_from_slice(b"\\u003c"),
            b'>' => out.extend_from_slice(b"\\u003e"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            0xe2 if matches!(after, [0x80, 0xa8 | 0xa9, ..]) => {
                let last = after.get(1).map_or(8, |byte| byte & 0xf);
                out.extend_from_slice(if last == 8 { b"\\u2028" } else { b"\\u2029" });
                rest = after.get(2..).unwrap_or_default();
            }
            b'"' => {
                quoted = !quoted;
                out.push(b'"');
            }
            b'\\' => {
                out.push(b'\\');
                if let Some((escaped, after)) = after.split_first() {
                    out.push(*escaped);
                    rest = after;
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' if !quoted => {}
            other => out.push(*other),
        }
    }
}

/// Appends a string with its quotes.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Appends a value, members in their order. Recurses as deep as the value is.
pub(crate) fn value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let text = match number.as_f64() {
                Some(float) if number.is_f64() => go::json_float(float),
                _ => number.to_string(),
            };
            out.extend_from_slice(text.as_bytes());
        }
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                self::value(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (at, (name, member)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                string(name, out);
                out.push(b':');
                self::value(member, out);
            }
            out.push(b'}');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::text::{Integers, value_of};

    fn written(from: &Value) -> String {
        let mut out = Vec::new();
        value(from, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn compacted(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compact(text, &mut out);
        out
    }

    #[test]
    fn escapes_are_those_of_go() {
        let value = json!({"a<\u{2028}\u{7f}\u{1}": ["<b>&\u{2029}\"\\ü\u{8}\u{c}\n\r\t", 1e21, 1.0, u64::MAX, -3]});
        assert_eq!(
            written(&value),
            "{\"a\\u003c\\u2028\u{7f}\\u0001\":[\"\\u003cb\\u003e\\u0026\\u2029\\\"\\\\ü\\b\\f\\n\\r\\t\",1e+21,1,18446744073709551615,-3]}"
        );
    }

    #[test]
    fn white_space_goes_and_what_is_quoted_stays() {
        assert_eq!(compacted(b" { \"a b\\\" \" :\t[ 1 ,\r\n2 ] } "), b"{\"a b\\\" \":[1,2]}");
        assert_eq!(compacted("\"<\u{2028}\u{2029}&>\"".as_bytes()), b"\"\\u003c\\u2028\\u2029\\u0026\\u003e\"");
        assert_eq!(compacted("\"\u{2027}\u{202a}…\"".as_bytes()), "\"\u{2027}\u{202a}…\"".as_bytes());
        assert_eq!(compacted(b"\"\xff\xe2\x80\""), b"\"\xff\xe2\x80\"", "bytes that are not UTF-8 stay");
    }

    proptest! {
        #[test]
        fn writing_and_compacting_agree(text in r#"[ a<>&\\"\n\u{2028}é]{0,12}"#) {
            let value = json!([&text, { &text: &text }]);
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compacted(pretty.as_bytes()), written(&value).into_bytes());
        }

        #[test]
        fn what_is_written_is_read_back(text in r#"[ a<>&\\"\n\u{2028}é]{0,12}"#, float in any::<f64>(), int in any::<u64>()) {
            // Go writes a whole float without a point, so it comes back as an integer.
            let float = if float.is_finite() && float.fract() != 0.0 { float } else { 0.5 };
            let value = json!({ &text: [text, float, int, null, true, {}] });
            let read = value_of(written(&value).as_bytes(), Integers::Keep, None).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
