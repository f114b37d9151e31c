//! Whether bytes are JSON, and within the limits. No recursion: the text is not trusted yet.
//!
//! Compat: accepts what `json.Valid` of Go accepts, up to [`MAX_DEPTH`].

use super::TextError;
use crate::limits::{MAX_DEPTH, MAX_VALUES};

/// Checks that `text` is one JSON value with nothing but white space around it.
pub(crate) fn scan(text: &[u8]) -> Result<(), TextError> {
    let mut cursor = Cursor { rest: text };
    // What is open, outermost first: objects are true.
    let mut open: Vec<bool> = Vec::new();
    let mut values = 0;
    loop {
        // Here a value has to begin.
        values += 1;
        if values > MAX_VALUES {
            return Err(TextError::TooManyValues);
        }
        if let Some(object) = cursor.begin()? {
            if open.len() == MAX_DEPTH {
                return Err(TextError::TooDeep);
            }
            let end = if object { b'}' } else { b']' };
            if !cursor.eat(end) {
                open.push(object);
                if object {
                    cursor.name()?;
                }
                continue;
            }
        }
        // Here a value has ended, and with it maybe those around it.
        loop {
            cursor.space();
            let Some(object) = open.last().copied() else {
                return if cursor.rest.is_empty() { Ok(()) } else { Err(TextError::NotJson) };
            };
            match (cursor.next()?, object) {
                (b',', true) => cursor.name()?,
                (b',', false) => {}
                (b'}', true) | (b']', false) => {
                    open.pop();
                    continue;
                }
                _ => return Err(TextError::NotJson),
            }
            break;
        }
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn next(&mut self) -> Result<u8, TextError> {
        let (first, rest) = self.rest.split_first().ok_or(TextError::NotJson)?;
        self.rest = rest;
        Ok(*first)
    }

    /// White space as JSON has it; `trim_ascii_start` knows the form feed too.
    fn space(&mut self) {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Takes `byte` if it is what comes next after white space.
    fn eat(&mut self, byte: u8) -> bool {
        self.space();
        let here = self.rest.first() == Some(&byte);
        if here {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        here
    }

    /// A scalar, which is read to its end, or the bracket of an object (true) or list (false).
    fn begin(&mut self) -> Result<Option<bool>, TextError> {
        self.space();
        match self.next()? {
            b'{' => return Ok(Some(true)),
            b'[' => return Ok(Some(false)),
            b'"' => self.string()?,
            b't' => self.word(b"rue")?,
            b'f' => self.word(b"alse")?,
            b'n' => self.word(b"ull")?,
            b'-' => {
                let first = self.next()?;
                self.number(first)?;
            }
            first => self.number(first)?,
        }
        Ok(None)
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), TextError> {
        self.rest = self.rest.strip_prefix(rest).ok_or(TextError::NotJson)?;
        Ok(())
    }

    /// A member's name and the colon after it.
    fn name(&mut self) -> Result<(), TextError> {
        if !self.eat(b'"') {
            return Err(TextError::NotJson);
        }
        self.string()?;
        if self.eat(b':') { Ok(()) } else { Err(TextError::NotJson) }
    }

    /// The rest of a string, its closing quote included.
    fn string(&mut self) -> Result<(), TextError> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            if !self.next()?.is_ascii_hexdigit() {
                                return Err(TextError::NotJson);
                            }
                        }
                    }
                    _ => return Err(TextError::NotJson),
                },
                0..=0x1f => return Err(TextError::NotJson),
                _ => {}
            }
        }
    }

    /// The rest of a number whose first digit is `first`.
    fn number(&mut self, first: u8) -> Result<(), TextError> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(TextError::NotJson),
        }
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.at_least_one_digit()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            if let [b'+' | b'-', rest @ ..] = self.rest {
                self.rest = rest;
            }
            self.at_least_one_digit()?;
        }
        Ok(())
    }

    fn at_least_one_digit(&mut self) -> Result<(), TextError> {
        if !self.next()?.is_ascii_digit() {
            return Err(TextError::NotJson);
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn json_is_what_go_takes_for_json() {
        for text in [
            "null",
            " true ",
            "false",
            "0",
            "-0",
            "1.5e-7",
            "10E+2",
            "\"\"",
            r#""\u00e9\/\b""#,
            "{}",
            "[ ]",
            "[1,\t2]",
            r#"{"a":{"b":[]},"a":1}"#,
            "\r\n[\n]",
            r#""\ud800""#,
        ] {
            assert_eq!(scan(text.as_bytes()), Ok(()), "{text}");
        }
        assert_eq!(scan(b"\"\xff\""), Ok(()), "text need not be UTF-8");
        for text in [
            "",
            " ",
            "nul",
            "tru e",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "\"",
            "\"\n\"",
            r#""\x""#,
            r#""\u12g4""#,
            "{",
            "[1",
            "[1,]",
            "[,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:2}",
            "[1}",
            "{]",
            "1 2",
            "{}}",
            "[\u{c}]",
            "NaN",
            "'a'",
            "\u{feff}{}",
            "[1 2]",
        ] {
            assert_eq!(scan(text.as_bytes()), Err(TextError::NotJson), "{text}");
        }
    }

    #[test]
    fn nesting_up_to_the_limit_is_read_and_no_deeper() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(scan(nested(MAX_DEPTH).as_bytes()), Ok(()));
        assert!(serde_json::from_str::<Value>(&nested(MAX_DEPTH)).is_ok(), "results can be read by serde_json");
        assert_eq!(scan(nested(MAX_DEPTH + 1).as_bytes()), Err(TextError::TooDeep));
        assert_eq!(scan("[".repeat(1_000_000).as_bytes()), Err(TextError::TooDeep));
        assert_eq!(scan("{\"a\":".repeat(1_000_000).as_bytes()), Err(TextError::TooDeep));
    }

    #[test]
    fn as_many_values_as_the_limit_are_read_and_no_more() {
        let list = |values: usize| format!("[0{}]", ",0".repeat(values - 2));
        assert_eq!(scan(list(MAX_VALUES).as_bytes()), Ok(()));
        assert_eq!(scan(list(MAX_VALUES + 1).as_bytes()), Err(TextError::TooManyValues));
    }

    proptest! {
        #[test]
        fn what_serde_json_reads_is_json_here_too(text in r#"[\[\]{}:,"\\ a0-9.eE+tru\-]{0,24}"#) {
            // serde_json refuses more (lone surrogates, numbers out of range), so agreement is one way there.
            if serde_json::from_str::<Value>(&text).is_ok() {
                prop_assert_eq!(scan(text.as_bytes()), Ok(()));
            } else if scan(text.as_bytes()).is_ok() {
                let error = serde_json::from_str::<Value>(&text).unwrap_err().to_string();
                prop_assert!(error.contains("out of range") || error.contains("surrogate"), "{error}");
            }
        }

        #[test]
        fn any_bytes_are_looked_at_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = scan(&bytes);
        }
    }
}
