//! Whether bytes are JSON, and if not, what Go says of them; and what Go reads where others refuse.
//!
//! It keeps no tree: a byte a step, and a bit for each open bracket.
//!
//! Compat: `encoding/json/scanner.go`: the same states, so the same words at the same byte. Go reads bytes that are no UTF-8,
//! and halves of surrogate pairs, as U+FFFD.

use std::borrow::Cow;

use portcullis_kube::go::quote;

/// Brackets that may be open at a time.
const MAX_DEPTH: usize = 10_000;
const REPLACEMENT: &str = "\u{fffd}";
const ESCAPED_REPLACEMENT: &[u8] = b"\\ufffd";

#[derive(Debug, Clone, Copy)]
enum Step {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    EndValue,
    EndTop,
    String,
    Escape,
    /// Hexadecimal digits that are missing.
    Hex(u8),
    Negative,
    Zero,
    Digits,
    Dot,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// A word, and how much of it has come.
    Literal(&'static str, usize),
}

#[derive(Debug, Clone, Copy)]
enum Open {
    Key,
    Member,
    Array,
}

/// What is wrong with a text, in Go's words; `None` when it is JSON.
pub(super) fn problem(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner { step: Step::Value, open: Vec::new() };
    for byte in bytes {
        if let Err(why) = scanner.take(*byte) {
            return Some(why);
        }
    }
    if matches!(scanner.step, Step::EndTop) {
        return None;
    }
    // Compat: the end is taken for a space first, which ends numbers and is wrong inside of words.
    match scanner.take(b' ') {
        Err(why) => Some(why),
        Ok(()) if matches!(scanner.step, Step::EndTop) => None,
        Ok(()) => Some("unexpected end of JSON input".to_owned()),
    }
}

struct Scanner {
    step: Step,
    open: Vec<Open>,
}

impl Scanner {
    fn take(&mut self, byte: u8) -> Result<(), String> {
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.step = match (self.step, byte) {
            (Step::Value | Step::ValueOrEnd | Step::Key | Step::KeyOrEnd | Step::EndTop, _) if space => self.step,
            (Step::ValueOrEnd, b']') | (Step::EndValue, _) => return self.end_value(byte),
            (Step::Value | Step::ValueOrEnd, _) => return self.begin_value(byte),
            (Step::KeyOrEnd, b'}') => {
                if let Some(open) = self.open.last_mut() {
                    *open = Open::Member;
                }
                return self.end_value(byte);
            }
            (Step::Key | Step::KeyOrEnd, b'"')
            | (Step::Escape, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => Step::String,
            (Step::Key | Step::KeyOrEnd, _) => return Err(invalid(byte, "looking for beginning of object key string")),
            (Step::EndTop, _) => return Err(invalid(byte, "after top-level value")),
            (Step::String, b'"') => Step::EndValue,
            (Step::String, b'\\') => Step::Escape,
            (Step::String, 0..=0x1f) => return Err(invalid(byte, "in string literal")),
            (Step::String, _) => Step::String,
            (Step::Escape, b'u') => Step::Hex(4),
            (Step::Escape, _) => return Err(invalid(byte, "in string escape code")),
            (Step::Hex(1), _) if byte.is_ascii_hexdigit() => Step::String,
            (Step::Hex(left), _) if byte.is_ascii_hexdigit() => Step::Hex(left.saturating_sub(1)),
            (Step::Hex(_), _) => return Err(invalid(byte, "in \\u hexadecimal character escape")),
            (Step::Negative, b'0') => Step::Zero,
            (Step::Negative, b'1'..=b'9') | (Step::Digits, b'0'..=b'9') => Step::Digits,
            (Step::Negative, _) => return Err(invalid(byte, "in numeric literal")),
            (Step::Zero | Step::Digits, b'.') => Step::Dot,
            (Step::Zero | Step::Digits | Step::Fraction, b'e' | b'E') => Step::Exponent,
            (Step::Dot | Step::Fraction, b'0'..=b'9') => Step::Fraction,
            (Step::Dot, _) => return Err(invalid(byte, "after decimal point in numeric literal")),
            (Step::Exponent, b'+' | b'-') => Step::ExponentSign,
            (Step::Exponent | Step::ExponentSign | Step::ExponentDigits, b'0'..=b'9') => Step::ExponentDigits,
            (Step::Exponent | Step::ExponentSign, _) => return Err(invalid(byte, "in exponent of numeric literal")),
            (Step::Zero | Step::Digits | Step::Fraction | Step::ExponentDigits, _) => return self.end_value(byte),
            (Step::Literal(word, at), _) => {
                let Some(expected) = word.as_bytes().get(at).filter(|expected| **expected != byte) else {
                    self.step = if at + 1 == word.len() { Step::EndValue } else { Step::Literal(word, at + 1) };
                    return Ok(());
                };
                let place = format!("in literal {word} (expecting '{}')", char::from(*expected));
                return Err(invalid(byte, &place));
            }
        };
        Ok(())
    }

    fn begin_value(&mut self, byte: u8) -> Result<(), String> {
        self.step = match byte {
            b'{' => return self.push(byte, Open::Key, Step::KeyOrEnd),
            b'[' => return self.push(byte, Open::Array, Step::ValueOrEnd),
            b'"' => Step::String,
            b'-' => Step::Negative,
            b'0' => Step::Zero,
            b'1'..=b'9' => Step::Digits,
            b't' => Step::Literal("true", 1),
            b'f' => Step::Literal("false", 1),
            b'n' => Step::Literal("null", 1),
            _ => return Err(invalid(byte, "looking for beginning of value")),
        };
        Ok(())
    }

    fn push(&mut self, byte: u8, open: Open, step: Step) -> Result<(), String> {
        self.open.push(open);
        self.step = step;
        if self.open.len() <= MAX_DEPTH { Ok(()) } else { Err(invalid(byte, "exceeded max depth")) }
    }

    /// A value has ended before `byte`.
    fn end_value(&mut self, byte: u8) -> Result<(), String> {
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let Some(open) = self.open.last_mut() else {
            self.step = Step::EndTop;
            return if space { Ok(()) } else { Err(invalid(byte, "after top-level value")) };
        };
        self.step = match (*open, byte) {
            _ if space => Step::EndValue,
            (Open::Key, b':') => {
                *open = Open::Member;
                Step::Value
            }
            (Open::Member, b',') => {
                *open = Open::Key;
                Step::Key
            }
            (Open::Array, b',') => Step::Value,
            (Open::Member, b'}') | (Open::Array, b']') => {
                self.open.pop();
                if self.open.is_empty() { Step::EndTop } else { Step::EndValue }
            }
            (Open::Key, _) => return Err(invalid(byte, "after object key")),
            (Open::Member, _) => return Err(invalid(byte, "after object key:value pair")),
            (Open::Array, _) => return Err(invalid(byte, "after array element")),
        };
        Ok(())
    }
}

/// Compat: Go takes a byte for a character, whatever it is a part of.
fn invalid(byte: u8, place: &str) -> String {
    let shown = match byte {
        b'\'' => "\\'".to_owned(),
        b'"' => "\"".to_owned(),
        byte => {
            let quoted = quote(char::from(byte).encode_utf8(&mut [0; 4]));
            quoted.trim_matches('"').to_owned()
        }
    };
    format!("invalid character '{shown}' {place}")
}

/// The text as Go reads it: every byte that is no UTF-8 and every half of a surrogate pair is U+FFFD.
pub(super) fn mended(bytes: &[u8]) -> Cow<'_, [u8]> {
    let utf8 = match std::str::from_utf8(bytes) {
        Ok(_) => Cow::Borrowed(bytes),
        Err(_) => {
            let mut out = Vec::with_capacity(bytes.len() + 64);
            for chunk in bytes.utf8_chunks() {
                out.extend_from_slice(chunk.valid().as_bytes());
                for _ in chunk.invalid() {
                    out.extend_from_slice(REPLACEMENT.as_bytes());
                }
            }
            Cow::Owned(out)
        }
    };
    if !utf8
        .windows(4)
        .any(|window| matches!(window, [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F']))
    {
        return utf8;
    }
    let mut out = Vec::with_capacity(utf8.len());
    let mut rest: &[u8] = &utf8;
    while let Some((first, after)) = rest.split_first() {
        let (kept, next) = match (first, code(rest)) {
            (b'\\', Some(0xd800..=0xdbff)) => match code(rest.get(6..).unwrap_or_default()) {
                Some(0xdc00..=0xdfff) => rest.split_at_checked(12).unwrap_or((rest, &[])),
                _ => (ESCAPED_REPLACEMENT, rest.get(6..).unwrap_or_default()),
            },
            (b'\\', Some(0xdc00..=0xdfff)) => (ESCAPED_REPLACEMENT, rest.get(6..).unwrap_or_default()),
            (b'\\', _) => rest.split_at_checked(2).unwrap_or((rest, &[])),
            _ => (rest.get(..1).unwrap_or_default(), after),
        };
        out.extend_from_slice(kept);
        rest = next;
    }
    Cow::Owned(out)
}

/// The code unit of an escape that `text` begins with.
fn code(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts, and what kube-apiserver 1.37.2 says of them.
    #[test]
    fn mistakes_read_as_go_words_them() {
        for (text, want) in [
            (&b""[..], "unexpected end of JSON input"),
            (b"nul", "invalid character ' ' in literal null (expecting 'l')"),
            (b"{\"a\":1.}", "invalid character '}' after decimal point in numeric literal"),
            (b"{\"a\":01}", "invalid character '1' after object key:value pair"),
            (b"\0{}", "invalid character '\\x00' looking for beginning of value"),
            (b"\xc2\xa0{}", "invalid character '\u{c2}' looking for beginning of value"),
            (b"{,}", "invalid character ',' looking for beginning of object key string"),
            (b"{\"a\" 1}", "invalid character '1' after object key"),
            (b"[1 2]", "invalid character '2' after array element"),
            (b"\"\n\"", "invalid character '\\n' in string literal"),
            (b"\"\\x\"", "invalid character 'x' in string escape code"),
            (b"\"\\u12g\"", "invalid character 'g' in \\u hexadecimal character escape"),
            (b"-x", "invalid character 'x' in numeric literal"),
            (b"1ex", "invalid character 'x' in exponent of numeric literal"),
            (b"{}'", "invalid character '\\'' after top-level value"),
            (b"\"", "unexpected end of JSON input"),
        ] {
            assert_eq!(problem(text).as_deref(), Some(want), "{}", String::from_utf8_lossy(text));
        }
        for text in [&b"1"[..], b" {} ", b"[{\"a\":[1,-0.5e+3,true,null]}]", b"\"\\ud800\xff\""] {
            assert_eq!(problem(text), None);
        }
        let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert_eq!(problem(&nested(MAX_DEPTH)), None);
        assert_eq!(problem(&nested(MAX_DEPTH + 1)).as_deref(), Some("invalid character '[' exceeded max depth"));
    }

    #[test]
    fn halves_of_pairs_and_stray_bytes_are_replaced_and_nothing_else() {
        for (text, want) in [
            (&br#""\ud800""#[..], r#""\ufffd""#),
            (br#""\ud800\ud800""#, r#""\ufffd\ufffd""#),
            (br#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (br#""\\ud800""#, r#""\\ud800""#),
            (b"\"\xed\xa0\x80\"", "\"\u{fffd}\u{fffd}\u{fffd}\""),
            (b"\"a\xffb\"", "\"a\u{fffd}b\""),
            ("\"é\"".as_bytes(), "\"é\""),
        ] {
            assert_eq!(String::from_utf8_lossy(&mended(text)), want);
        }
    }
}
