//! Reading parts of checked text in place.
//!
//! Every function here is given text that [`super::scan`] let pass; on other text it may return nonsense, but never
//! panics. Recursion is bounded by the depth that the scan allowed.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::findings::{Findings, Step};

/// A value inside of a text: its own bytes, without white space around them, and how deep it is nested (0 for a scalar).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) depth: usize,
}

impl Shape<'_> {
    pub(crate) fn is_null(self) -> bool {
        self.text.first() == Some(&b'n')
    }
}

/// The members of an object, in the order written, duplicates included.
pub(crate) struct Members<'a> {
    rest: &'a [u8],
}

/// The elements of a list.
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
}

/// The members of `text`, when it is an object.
pub(crate) fn members(text: &[u8]) -> Option<Members<'_>> {
    Some(Members { rest: text.strip_prefix(b"{")? })
}

/// The elements of `text`, when it is a list.
pub(crate) fn elements(text: &[u8]) -> Option<Elements<'_>> {
    Some(Elements { rest: text.strip_prefix(b"[")? })
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Shape<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = take(after(self.rest, b','))?;
        if name.text.first() != Some(&b'"') {
            return None;
        }
        let (value, rest) = take(after(rest, b':'))?;
        self.rest = rest;
        Some((text_of(name.text), value))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Shape<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (value, rest) = take(after(self.rest, b','))?;
        self.rest = rest;
        Some(value)
    }
}

/// `text` after white space and, if it is there, `separator` and more white space.
fn after(text: &[u8], separator: u8) -> &[u8] {
    let text = space(text);
    match text.split_first() {
        Some((first, rest)) if *first == separator => space(rest),
        _ => text,
    }
}

fn space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = text {
        text = rest;
    }
    text
}

/// The value that `text` begins with, and what follows it; nothing at the end of an object or list.
fn take(text: &[u8]) -> Option<(Shape<'_>, &[u8])> {
    let (mut end, mut level, mut depth) = (0, 0_usize, 0);
    loop {
        match *text.get(end)? {
            b'"' => end = end_of_string(text, end)?,
            b'{' | b'[' => {
                level += 1;
                depth = depth.max(level);
                end += 1;
            }
            b'}' | b']' => {
                level = level.checked_sub(1)?;
                end += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => {
                end += 1;
                continue;
            }
            _ => {
                let scalar = |byte: &u8| !matches!(byte, b',' | b']' | b'}' | b':' | b' ' | b'\t' | b'\r' | b'\n');
                end += text.get(end..)?.iter().take_while(|byte| scalar(byte)).count();
            }
        }
        if level == 0 {
            let (text, rest) = text.split_at_checked(end)?;
            return Some((Shape { text, depth }, rest));
        }
    }
}

/// Where the string ends that begins at `at`.
fn end_of_string(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// What a JSON string says. What is not UTF-8, and what is half of a surrogate pair, becomes U+FFFD, byte by byte.
pub(crate) fn text_of(quoted: &[u8]) -> Cow<'_, str> {
    let inner = quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or_default();
    if !inner.contains(&b'\\')
        && let Ok(text) = std::str::from_utf8(inner)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'\\' {
            rest = escape(after, &mut out);
            continue;
        }
        let plain = rest.iter().position(|byte| *byte == b'\\').unwrap_or(rest.len());
        let (plain, after) = rest.split_at(plain);
        push_lossy(plain, &mut out);
        rest = after;
    }
    Cow::Owned(out)
}

/// Appends bytes that should be UTF-8, a U+FFFD for each that is not.
fn push_lossy(mut bytes: &[u8], out: &mut String) {
    while !bytes.is_empty() {
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                out.push_str(text);
                return;
            }
            Err(error) => {
                let (good, bad) = bytes.split_at(error.valid_up_to());
                out.push_str(std::str::from_utf8(good).unwrap_or_default());
                out.push(char::REPLACEMENT_CHARACTER);
                bytes = bad.get(1..).unwrap_or_default();
            }
        }
    }
}

/// One escape, without its backslash; returns what follows it.
fn escape<'a>(after: &'a [u8], out: &mut String) -> &'a [u8] {
    let Some((kind, rest)) = after.split_first() else { return after };
    let plain = match kind {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let Some((unit, rest)) = hex(rest) else { return rest };
            if let Some(c) = char::from_u32(unit) {
                out.push(c);
                return rest;
            }
            // A surrogate: the first half takes the second with it, alone it is nothing.
            let low = rest.strip_prefix(b"\\u").and_then(hex);
            if let (0xd800..=0xdbff, Some((low @ 0xdc00..=0xdfff, rest))) = (unit, low) {
                let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                return rest;
            }
            out.push(char::REPLACEMENT_CHARACTER);
            return rest;
        }
        other => char::from(*other),
    };
    out.push(plain);
    rest
}

fn hex(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let unit = digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))?;
    Some((unit, rest))
}

/// What becomes of whole numbers that an int64 cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integers {
    /// They become floating-point numbers, as in Go's decoder (`sigs.k8s.io/json`).
    AsGo,
    /// They stay whole up to 64 bits without a sign.
    Keep,
}

/// The number that `text` says; nothing when it is too large for a float64.
fn number(text: &[u8], integers: Integers) -> Option<Number> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    if !text.contains('.') {
        if let Ok(int) = text.parse::<i64>() {
            return Some(int.into());
        }
        if let (Integers::Keep, Ok(int)) = (integers, text.parse::<u64>()) {
            return Some(int.into());
        }
    }
    Number::from_f64(text.parse().ok()?)
}

/// The value that `text` says. Of members with one name the last counts; `findings` are told of the others.
///
/// # Errors
/// The first number that is too large for a float64, as it was written.
pub(crate) fn value_of(text: &[u8], integers: Integers, findings: Option<&mut Findings>) -> Result<Value, String> {
    let mut reading = Reading { integers, findings, overflow: None };
    let value = reading.value(text);
    reading.overflow.map_or(Ok(value), Err)
}

struct Reading<'f> {
    integers: Integers,
    findings: Option<&'f mut Findings>,
    overflow: Option<String>,
}

impl Reading<'_> {
    fn value(&mut self, text: &[u8]) -> Value {
        match text.first() {
            Some(b'{') => self.object(text),
            Some(b'[') => self.list(text),
            Some(b'"') => Value::String(text_of(text).into_owned()),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'-' | b'0'..=b'9') => match number(text, self.integers) {
                Some(number) => Value::Number(number),
                None => {
                    self.overflow.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
                    Value::Null
                }
            },
            _ => Value::Null,
        }
    }

    fn object(&mut self, text: &[u8]) -> Value {
        let mut object = Map::new();
        for (name, member) in members(text).into_iter().flatten() {
            let name = name.into_owned();
            if let Some(findings) = self.findings.as_deref_mut() {
                if object.contains_key(&name) {
                    findings.duplicate(&name);
                }
                findings.path.push(Step::Member(name.clone()));
            }
            let member = self.value(member.text);
            self.leave();
            object.insert(name, member);
        }
        Value::Object(object)
    }

    fn list(&mut self, text: &[u8]) -> Value {
        let mut list = Vec::new();
        for element in elements(text).into_iter().flatten() {
            if let Some(findings) = self.findings.as_deref_mut() {
                findings.path.push(Step::Element(list.len()));
            }
            list.push(self.value(element.text));
            self.leave();
        }
        Value::Array(list)
    }

    fn leave(&mut self) {
        if let Some(findings) = self.findings.as_deref_mut() {
            findings.path.pop();
        }
    }
}

/// What Go's decoder calls the value that `text` begins.
pub(crate) fn kind_name(text: &[u8]) -> &'static str {
    match text.first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        _ => "number",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        value_of(text.as_bytes(), Integers::AsGo, None).unwrap()
    }

    #[test]
    fn parts_are_found_without_the_white_space_around_them() {
        let text = br#"{ "a" : [ 1 , {"b":[]} ] ,"c\u0064":"x,]}\"" , "e" : -1.5e3 }"#;
        let found: Vec<_> =
            members(text).unwrap().map(|(name, value)| (name.into_owned(), value.text, value.depth)).collect();
        assert_eq!(
            found,
            [
                ("a".to_owned(), br#"[ 1 , {"b":[]} ]"#.as_slice(), 3),
                ("cd".to_owned(), br#""x,]}\"""#.as_slice(), 0),
                ("e".to_owned(), b"-1.5e3".as_slice(), 0),
            ]
        );
        let list: Vec<_> = elements(b"[ null,[[]] ,true ]").unwrap().map(|value| (value.text, value.depth)).collect();
        assert_eq!(list, [(b"null".as_slice(), 0), (b"[[]]", 2), (b"true", 0)]);
        assert!(members(b"{ }").unwrap().next().is_none());
        assert!(elements(b"[\n]").unwrap().next().is_none());
        assert!(members(b"[]").is_none());
        assert!(elements(b"{}").is_none());
    }

    #[test]
    fn strings_are_unquoted_as_go_unquotes_them() {
        for (quoted, want) in [
            (br#""plain""#.as_slice(), "plain"),
            (br#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (br#""\u00e9\ud83d\ude00""#, "é😀"),
            (br#""\ud83d""#, "\u{fffd}"),
            (br#""\ude00\ud83dx""#, "\u{fffd}\u{fffd}x"),
            (br#""\ud83d\u0041""#, "\u{fffd}A"),
            (br#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (b"\"a\xffb\xe2\x80c\"", "a\u{fffd}b\u{fffd}\u{fffd}c"),
            (b"\"\xed\xa0\x80\\n\"", "\u{fffd}\u{fffd}\u{fffd}\n"),
        ] {
            assert_eq!(text_of(quoted), want);
        }
    }

    #[test]
    fn whole_numbers_stay_whole_and_the_rest_is_as_in_go() {
        for (text, go, kept) in [
            ("1", json!(1), json!(1)),
            ("-0", json!(0), json!(0)),
            ("9223372036854775807", json!(i64::MAX), json!(i64::MAX)),
            ("-9223372036854775808", json!(i64::MIN), json!(i64::MIN)),
            ("9223372036854775808", json!(9_223_372_036_854_775_808.0), json!(9_223_372_036_854_775_808_u64)),
            ("18446744073709551615", json!(18_446_744_073_709_551_616.0), json!(u64::MAX)),
            ("18446744073709551616", json!(18_446_744_073_709_551_616.0), json!(18_446_744_073_709_551_616.0)),
            ("1.0", json!(1.0), json!(1.0)),
            ("1e2", json!(100.0), json!(100.0)),
            ("1e-400", json!(0.0), json!(0.0)),
        ] {
            assert_eq!(value_of(text.as_bytes(), Integers::AsGo, None), Ok(go), "{text}");
            assert_eq!(value_of(text.as_bytes(), Integers::Keep, None), Ok(kept), "{text}");
        }
    }

    #[test]
    fn a_number_too_large_for_a_float_is_named_the_first_only() {
        let text = br#"{"a":[1,1e999],"b":-2e999}"#;
        assert_eq!(value_of(text, Integers::AsGo, None), Err("1e999".to_owned()));
    }

    #[test]
    fn the_last_of_two_members_counts_and_the_other_is_reported() {
        let mut findings = Findings::default();
        let text = br#"{"a":1,"m":[{"x":1,"x":{"y":2,"y":3}}],"a":5}"#;
        let value = value_of(text, Integers::AsGo, Some(&mut findings)).unwrap();
        assert_eq!(value, json!({"a": 5, "m": [{"x": {"y": 3}}]}));
        assert!(findings.path.is_empty());
        assert_eq!(
            findings.into_texts(),
            [r#"duplicate field "m[0].x""#, r#"duplicate field "m[0].x.y""#, r#"duplicate field "a""#]
        );
    }

    proptest! {
        #[test]
        fn what_serde_json_writes_is_read_back(text in r#"[a-z\\"é😀\n]{0,8}"#, int in any::<i64>(), float in any::<f64>()) {
            let float = if float.is_finite() { float + 0.5 } else { 0.5 };
            let value = json!({ &text: [int, float, { "in": text }, null, true], "deep": [[[[int]]]] });
            prop_assert_eq!(&read(&value.to_string()), &value);
            prop_assert_eq!(&read(&serde_json::to_string_pretty(&value).unwrap()), &value);
        }

        #[test]
        fn unchecked_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = members(&bytes).map(Iterator::count);
            let _ = elements(&bytes).map(Iterator::count);
            let _ = text_of(&bytes);
        }
    }
}
