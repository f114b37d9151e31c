//! Small text encodings: hex, Go's JSON strings, JSON re-indentation and what may be shown on a terminal.
//!
//! What a provider sends is shown only through [`printable`] or [`indent_json`]: control characters never reach the
//! terminal (escape sequence injection).

use std::fmt::Write as _;

/// Lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// A JSON string with quotes, escaped as Go's `encoding/json` does by default: also `<`, `>`, `&`, U+2028, U+2029.
pub(crate) fn go_json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Text from elsewhere, made fit for one line of a terminal: at most `limit` characters, no control characters.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let mut out: String =
        text.trim().chars().take(limit).map(|character| if character.is_control() { ' ' } else { character }).collect();
    if text.trim().chars().nth(limit).is_some() {
        out.push_str("...");
    }
    out
}

/// Re-indents valid JSON by two spaces, keeping order, numbers and escapes as they are, like Go's `json.Indent`.
///
/// Raw control characters beyond ASCII (C1) inside strings are escaped, so that no claim can steer a terminal.
pub(crate) fn indent_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut just_opened = false;
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        for _ in 0..depth {
            out.push_str("  ");
        }
    };
    for character in text.chars() {
        if in_string {
            if character.is_control() {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            } else {
                out.push(character);
            }
            if escaped {
                escaped = false;
            } else if character == '\\' {
                escaped = true;
            } else if character == '"' {
                in_string = false;
            }
            continue;
        }
        if character.is_whitespace() {
            continue;
        }
        if just_opened && !matches!(character, '}' | ']') {
            new_line(&mut out, depth);
        }
        match character {
            '{' | '[' => {
                depth += 1;
                out.push(character);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !just_opened {
                    new_line(&mut out, depth);
                }
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => {
                in_string = other == '"';
                out.push(other);
            }
        }
        just_opened = matches!(character, '{' | '[');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_without_touching_order_numbers_or_escapes() {
        let text = r#"{"b":1e3,"a":[1,2],"e":{},"f":[],"s":"x\"\u0041: ,{","n":{"k":null}}"#;
        let want = "{\n  \"b\": 1e3,\n  \"a\": [\n    1,\n    2\n  ],\n  \"e\": {},\n  \"f\": [],\n  \"s\": \"x\\\"\\u0041: ,{\",\n  \"n\": {\n    \"k\": null\n  }\n}";
        assert_eq!(indent_json(text), want);
    }

    #[test]
    fn terminal_control_characters_never_come_through() {
        let hostile = "{\"name\":\"\u{9b}31mred\u{7f}\"}";
        assert!(!indent_json(hostile).chars().any(|character| character.is_control() && character != '\n'));
        assert_eq!(printable("a\u{1b}[2Jb\r\nc", 100), "a [2Jb  c");
        assert_eq!(printable("abcdef", 3), "abc...");
    }

    #[test]
    fn json_strings_are_escaped_as_go_escapes_them() {
        assert_eq!(go_json_string("a<b>&\"\\\n\u{1}\u{2028}é"), r#""a\u003cb\u003e\u0026\"\\\n\u0001\u2028é""#);
    }
}
