//! What Go's JSON scanner says of a text that is no JSON.
//!
//! [`super::json`] finds out whether a text is JSON, fast; this says why it is not, in the words that people know from
//! kube-apiserver's log. It runs on refused texts only.
//!
//! Compat: `scanner.go` of `encoding/json`, Go 1.26.

use super::quote;

/// Levels of nesting that Go's scanner accepts.
const MAX_DEPTH: usize = 10_000;

/// What is open around the current place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    ObjectKey,
    ObjectValue,
    Array,
}

/// What may come next.
#[derive(Clone, Copy)]
enum State {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    End,
    String,
    Escape,
    /// Hexadecimal digits that are still due.
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// A word, and how many of its letters have been read.
    Word(&'static str, usize),
}

/// The scanner's message about `text`; `None` when it is JSON.
pub fn error(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { state: State::Value, open: Vec::new(), done: false };
    for byte in text {
        if let Err(context) = scanner.step(*byte) {
            return Some(wrong(*byte, &context));
        }
    }
    if scanner.done {
        return None;
    }
    // Compat: the end of the text is a space to Go, so that a number ends there.
    match scanner.step(b' ') {
        Err(context) => Some(wrong(b' ', &context)),
        Ok(()) if scanner.done => None,
        Ok(()) => Some("unexpected end of JSON input".to_owned()),
    }
}

fn wrong(byte: u8, context: &str) -> String {
    format!("invalid character {} {context}", quote_byte(byte))
}

fn quote_byte(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        other => {
            let quoted = quote(char::from(other).encode_utf8(&mut [0; 4]));
            format!("'{}'", quoted.trim_matches('"'))
        }
    }
}

struct Scanner {
    state: State,
    open: Vec<Open>,
    /// The top-level value has ended.
    done: bool,
}

impl Scanner {
    /// Takes one byte; the error says where it stands wrong.
    fn step(&mut self, byte: u8) -> Result<(), String> {
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.state = match self.state {
            State::Value | State::ValueOrEnd | State::Name | State::NameOrEnd if space => return Ok(()),
            State::ValueOrEnd if byte == b']' => return self.end_value(byte),
            State::Value | State::ValueOrEnd => self.begin_value(byte)?,
            State::NameOrEnd if byte == b'}' => {
                if let Some(open) = self.open.last_mut() {
                    *open = Open::ObjectValue;
                }
                return self.end_value(byte);
            }
            State::Name | State::NameOrEnd => match byte {
                b'"' => State::String,
                _ => return Err("looking for beginning of object key string".to_owned()),
            },
            State::String => match byte {
                b'"' => State::End,
                b'\\' => State::Escape,
                ..0x20 => return Err("in string literal".to_owned()),
                _ => State::String,
            },
            State::Escape => match byte {
                b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => State::String,
                b'u' => State::Hex(4),
                _ => return Err("in string escape code".to_owned()),
            },
            State::Hex(due) if byte.is_ascii_hexdigit() => {
                if due == 1 {
                    State::String
                } else {
                    State::Hex(due - 1)
                }
            }
            State::Hex(_) => return Err("in \\u hexadecimal character escape".to_owned()),
            State::Minus => match byte {
                b'0' => State::Zero,
                b'1'..=b'9' => State::Digits,
                _ => return Err("in numeric literal".to_owned()),
            },
            State::Digits if byte.is_ascii_digit() => State::Digits,
            State::Zero | State::Digits => match byte {
                b'.' => State::Point,
                b'e' | b'E' => State::Exponent,
                _ => return self.end_value(byte),
            },
            State::Point if byte.is_ascii_digit() => State::Fraction,
            State::Point => return Err("after decimal point in numeric literal".to_owned()),
            State::Fraction => match byte {
                b'0'..=b'9' => State::Fraction,
                b'e' | b'E' => State::Exponent,
                _ => return self.end_value(byte),
            },
            State::Exponent if matches!(byte, b'+' | b'-') => State::ExponentSign,
            State::Exponent | State::ExponentSign | State::ExponentDigits if byte.is_ascii_digit() => {
                State::ExponentDigits
            }
            State::Exponent | State::ExponentSign => return Err("in exponent of numeric literal".to_owned()),
            State::End | State::ExponentDigits => return self.end_value(byte),
            State::Word(word, read) => match word.as_bytes().get(read) {
                Some(want) if *want == byte => {
                    if read + 1 == word.len() {
                        State::End
                    } else {
                        State::Word(word, read + 1)
                    }
                }
                Some(want) => return Err(format!("in literal {word} (expecting '{}')", char::from(*want))),
                None => State::End,
            },
        };
        Ok(())
    }

    fn begin_value(&mut self, byte: u8) -> Result<State, String> {
        Ok(match byte {
            b'{' => self.push(Open::ObjectKey, State::NameOrEnd)?,
            b'[' => self.push(Open::Array, State::ValueOrEnd)?,
            b'"' => State::String,
            b'-' => State::Minus,
            b'0' => State::Zero,
            b'1'..=b'9' => State::Digits,
            b't' => State::Word("true", 1),
            b'f' => State::Word("false", 1),
            b'n' => State::Word("null", 1),
            _ => return Err("looking for beginning of value".to_owned()),
        })
    }

    fn push(&mut self, open: Open, next: State) -> Result<State, String> {
        self.open.push(open);
        if self.open.len() > MAX_DEPTH { Err("exceeded max depth".to_owned()) } else { Ok(next) }
    }

    /// The byte after a value.
    fn end_value(&mut self, byte: u8) -> Result<(), String> {
        self.state = State::End;
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let Some(open) = self.open.last_mut() else {
            self.done = true;
            return if space { Ok(()) } else { Err("after top-level value".to_owned()) };
        };
        match (*open, byte) {
            _ if space => {}
            (Open::ObjectKey, b':') => {
                *open = Open::ObjectValue;
                self.state = State::Value;
            }
            (Open::ObjectValue, b',') => {
                *open = Open::ObjectKey;
                self.state = State::Name;
            }
            (Open::Array, b',') => self.state = State::Value,
            (Open::ObjectValue, b'}') | (Open::Array, b']') => {
                self.open.pop();
                self.done = self.open.is_empty();
            }
            (Open::ObjectKey, _) => return Err("after object key".to_owned()),
            (Open::ObjectValue, _) => return Err("after object key:value pair".to_owned()),
            (Open::Array, _) => return Err("after array element".to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_gos() {
        for (text, want) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("\"a", "unexpected end of JSON input"),
            ("[1", "unexpected end of JSON input"),
            ("-", "invalid character ' ' in numeric literal"),
            ("[tru", "invalid character ' ' in literal true (expecting 'e')"),
            ("\"\\u1", r"invalid character ' ' in \u hexadecimal character escape"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("{}}", "invalid character '}' after top-level value"),
            ("'a'", r"invalid character '\'' looking for beginning of value"),
            ("\"\n\"", r"invalid character '\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u12g\"", r"invalid character 'g' in \u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("nul ", "invalid character ' ' in literal null (expecting 'l')"),
            ("\u{e9}", "invalid character 'Ã' looking for beginning of value"),
        ] {
            assert_eq!(error(text.as_bytes()).as_deref(), Some(want), "{text:?}");
        }
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(error(deep(MAX_DEPTH + 1).as_bytes()).as_deref(), Some("invalid character '[' exceeded max depth"));
        assert_eq!(error(deep(MAX_DEPTH).as_bytes()), None);
    }

    #[test]
    fn what_is_json_is_left_alone() {
        for text in ["1", " -0.5e+3 ", "{}", "[]", "[ ]", "{ }", "[{\"a\":[1,true,null,\"\\u00e9\\n\"]}]", "false", "0"]
        {
            assert_eq!(error(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_agrees_with_the_fast_scanner(text in "[\\[\\]{}:,\"a\\\\u0-9eE+. -]{0,12}|[a-z\"{}:,\\[\\]0-9]{0,8}") {
            let fast = super::super::json::parse(text.as_bytes()).is_err();
            proptest::prop_assert_eq!(error(text.as_bytes()).is_some(), fast, "{:?}", text);
        }
    }
}
