//! Text from strangers, made fit for an error message.
//!
//! Compat: kubelogin and kube-apiserver print such text with Go's `%q`; so do we, cut to a bound.

use std::fmt::Write as _;

/// Longest quoted text in characters, before the escapes.
const MAX: usize = 256;
/// Most elements of a quoted list.
const MAX_LIST: usize = 16;

/// `text` in double quotes with Go's escapes. At most 256 characters of it are kept; `…` says that there was more.
pub fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().min(MAX) + 2);
    quoted.push('"');
    for (count, character) in text.chars().enumerate() {
        if count == MAX {
            quoted.push('…');
            break;
        }
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            _ if !is_printable(character) => {
                let code = u32::from(character);
                // Writing into a String cannot fail.
                let _ = match code {
                    0..0x80 => write!(quoted, "\\x{code:02x}"),
                    0x80..0x1_0000 => write!(quoted, "\\u{code:04x}"),
                    _ => write!(quoted, "\\U{code:08x}"),
                };
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// A list as Go prints `[]string` with `%q`: `["a" "b"]`. At most 16 elements.
pub fn go_quote_list(texts: &[String]) -> String {
    let mut quoted: Vec<String> = texts.iter().take(MAX_LIST).map(|text| go_quote(text)).collect();
    if texts.len() > MAX_LIST {
        quoted.push("…".into());
    }
    format!("[{}]", quoted.join(" "))
}

/// Close to Go's `strconv.IsPrint`: controls, format characters and all spaces but U+0020 are escaped.
fn is_printable(character: char) -> bool {
    !(character.is_control()
        || (character.is_whitespace() && character != ' ')
        || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'))
}

/// The first `max` characters of `text` without control characters, for a place that is not quoted.
pub(crate) fn bounded(text: &str, max: usize) -> String {
    let mut kept: String = text.chars().filter(|character| is_printable(*character)).take(max + 1).collect();
    if kept.chars().count() > max {
        kept.pop();
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (text, quoted) in [
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("ä€", r#""ä€""#),
            ("\"\\\n\r\t", r#""\"\\\n\r\t""#),
            ("\u{1b}[31m\u{7f}", r#""\x1b[31m\x7f""#),
            ("\u{a0}\u{202e}\u{e0001}", "\"\\u00a0\\u202e\u{e0001}\""),
        ] {
            assert_eq!(go_quote(text), quoted);
        }
        assert_eq!(go_quote_list(&["a".into(), "b\"".into()]), r#"["a" "b\""]"#);
        assert_eq!(go_quote_list(&[]), "[]");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(go_quote(&"x".repeat(10_000)).chars().count(), 256 + 3);
        assert!(go_quote(&"x".repeat(256)).ends_with("x\""));
        assert_eq!(go_quote_list(&vec!["x".into(); 100]).matches('x').count(), 16);
        assert_eq!(bounded("ab\u{0}cd", 3), "abc…");
        assert_eq!(bounded("abc", 3), "abc");
    }
}
