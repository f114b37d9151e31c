//! `encoding/json`: grammar, strings and member names as Go reads them.
//!
//! [`parse`] checks a whole document once and cuts its top level into `(name, raw value)` pairs in their order, so that
//! the typed view of the verification stage (names without regard to case, last one wins) and the map view of the mapping
//! stage (exact names, last one wins) come from one pass. Values stay bytes until someone asks for them.
//!
//! It never recurses, so nesting costs no stack; Go's own limit of 10,000 levels applies. It allocates nothing beyond the
//! member list and one byte a level.

use std::borrow::Cow;

/// Levels of nesting that Go's scanner accepts.
const MAX_DEPTH: usize = 10_000;

/// A document that is not JSON in Go's eyes, and where that shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at byte {offset}")]
pub struct SyntaxError {
    /// Offset from the start of the document.
    pub offset: usize,
}

/// The kind of a value, told from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// `-1.5e3`
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

impl Kind {
    /// The word that Go's type errors use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Null => "null",
        }
    }
}

/// One member of an object: its decoded name and its value's bytes, without surrounding white space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// The name, decoded.
    pub name: Cow<'a, str>,
    /// The value as it is written.
    pub value: &'a [u8],
}

impl Member<'_> {
    /// Whether Go would store this member into a struct field tagged `tag` (lower case ASCII, or as given).
    ///
    /// Compat: `foldName` of `encoding/json`: besides ASCII case, `ſ` counts as `s` and the Kelvin sign as `k`.
    pub fn folds_to(&self, tag: &str) -> bool {
        if self.name.len() == tag.len() {
            return self.name.eq_ignore_ascii_case(tag);
        }
        if self.name.is_ascii() {
            return false;
        }
        let mut ours = self.name.chars().map(|c| match c {
            'ſ' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        });
        tag.chars().all(|c| ours.next() == Some(c.to_ascii_lowercase())) && ours.next().is_none()
    }
}

/// A whole document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document<'a> {
    /// An object's members in their order, duplicates kept.
    Object(Vec<Member<'a>>),
    /// Anything else.
    Other(Kind),
}

/// Checks `bytes` and returns its top level.
///
/// # Errors
/// Where Go's decoder would report a syntax error; [`super::syntax::error`] has its words.
pub fn parse(bytes: &[u8]) -> Result<Document<'_>, SyntaxError> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.white_space();
    let document = if scanner.peek() == Some(b'{') {
        Document::Object(scanner.object()?)
    } else {
        let value = scanner.value(0)?;
        Document::Other(kind(value))
    };
    scanner.white_space();
    if scanner.at == bytes.len() { Ok(document) } else { Err(scanner.error()) }
}

/// The last member named `name` exactly: what a Go map of raw values holds.
pub fn last<'a>(members: &[Member<'a>], name: &str) -> Option<&'a [u8]> {
    members.iter().rev().find(|member| member.name == name).map(|member| member.value)
}

/// The kind of a checked value.
pub fn kind(value: &[u8]) -> Kind {
    match value.first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') | None => Kind::Null,
        Some(_) => Kind::Number,
    }
}

/// The members of a checked object; empty for any other value.
pub fn members(value: &[u8]) -> Vec<Member<'_>> {
    match parse(value) {
        Ok(Document::Object(members)) => members,
        Ok(Document::Other(_)) | Err(_) => Vec::new(),
    }
}

/// The elements of a checked array; empty for any other value.
pub fn elements(value: &[u8]) -> Vec<&[u8]> {
    let mut scanner = Scanner { bytes: value, at: 0 };
    if kind(value) != Kind::Array {
        return Vec::new();
    }
    scanner.elements().unwrap_or_default()
}

/// A checked string literal's text, or "" for any other value.
///
/// Compat: each byte that is not UTF-8, and each lone surrogate, becomes U+FFFD.
pub fn string(value: &[u8]) -> Cow<'_, str> {
    let [b'"', inner @ .., b'"'] = value else { return Cow::Borrowed("") };
    if !inner.contains(&b'\\')
        && let Ok(text) = std::str::from_utf8(inner)
    {
        return Cow::Borrowed(text);
    }
    Cow::Owned(unescape(inner))
}

/// Whether `text` is one JSON number, as `isValidNumber` has it.
pub fn is_number(text: &[u8]) -> bool {
    let mut scanner = Scanner { bytes: text, at: 0 };
    scanner.number().is_ok() && scanner.at == text.len()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    const fn error(&self) -> SyntaxError {
        SyntaxError { offset: self.at }
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), SyntaxError> {
        if self.peek() != Some(byte) {
            return Err(self.error());
        }
        self.at += 1;
        Ok(())
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// An object whose members are kept; stands at its `{`.
    fn object(&mut self) -> Result<Vec<Member<'a>>, SyntaxError> {
        let mut members = Vec::with_capacity(16);
        self.expect(b'{')?;
        self.white_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(members);
        }
        loop {
            let name = string(self.name()?);
            self.white_space();
            let value = self.value(1)?;
            members.push(Member { name, value });
            self.white_space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.white_space();
                }
                Some(b'}') => {
                    self.at += 1;
                    return Ok(members);
                }
                _ => return Err(self.error()),
            }
        }
    }

    /// An array whose elements are kept; stands at its `[`.
    fn elements(&mut self) -> Result<Vec<&'a [u8]>, SyntaxError> {
        let mut elements = Vec::new();
        self.expect(b'[')?;
        self.white_space();
        if self.peek() == Some(b']') {
            return Ok(elements);
        }
        loop {
            self.white_space();
            elements.push(self.value(1)?);
            self.white_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => return Ok(elements),
                _ => return Err(self.error()),
            }
        }
    }

    /// A member's name and the colon after it; returns the literal.
    fn name(&mut self) -> Result<&'a [u8], SyntaxError> {
        let start = self.at;
        self.string_literal()?;
        let literal = self.since(start);
        self.white_space();
        self.expect(b':')?;
        Ok(literal)
    }

    /// Skips one value that lies `outer` levels deep, and returns its bytes.
    fn value(&mut self, outer: usize) -> Result<&'a [u8], SyntaxError> {
        let start = self.at;
        // The open containers of this value: true for an object.
        let mut open: Vec<bool> = Vec::new();
        loop {
            self.white_space();
            let opened = match self.peek() {
                Some(b'{') => Some(true),
                Some(b'[') => Some(false),
                Some(b'"') => {
                    self.string_literal()?;
                    None
                }
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(b'-' | b'0'..=b'9') => {
                    self.number()?;
                    None
                }
                _ => return Err(self.error()),
            };
            if let Some(is_object) = opened {
                if outer + open.len() >= MAX_DEPTH {
                    return Err(self.error());
                }
                self.at += 1;
                self.white_space();
                let end = if is_object { b'}' } else { b']' };
                if self.peek() == Some(end) {
                    self.at += 1;
                } else {
                    open.push(is_object);
                    if is_object {
                        self.name()?;
                    }
                    continue;
                }
            }
            // A value has ended: close containers until another value is due.
            loop {
                let Some(is_object) = open.last().copied() else { return Ok(self.since(start)) };
                self.white_space();
                match (self.peek(), is_object) {
                    (Some(b','), true) => {
                        self.at += 1;
                        self.white_space();
                        self.name()?;
                        break;
                    }
                    (Some(b','), false) => {
                        self.at += 1;
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return Err(self.error()),
                }
            }
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<Option<bool>, SyntaxError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(self.error());
        }
        self.at += word.len();
        Ok(None)
    }

    fn string_literal(&mut self) -> Result<(), SyntaxError> {
        self.expect(b'"')?;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            self.at += rest.iter().position(|b| matches!(b, b'"' | b'\\' | ..0x20)).unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) | None => return Err(self.error()),
            }
        }
    }

    /// A backslash and what follows it.
    fn escape(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                        return Err(self.error());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.error()),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.error()),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error()) } else { Ok(()) }
    }
}

/// The slow path of [`string`]: escapes and bytes that are not UTF-8.
fn unescape(inner: &[u8]) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'\\' {
            let plain = rest.iter().position(|b| *b == b'\\').unwrap_or(rest.len());
            let (run, after) = rest.split_at(plain);
            push_lossy(&mut out, run);
            rest = after;
            continue;
        }
        let Some((&escape, tail)) = tail.split_first() else { break };
        rest = tail;
        match escape {
            b'b' => out.push('\u{08}'),
            b'f' => out.push('\u{0c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let unit = hex4(tail);
                rest = tail.get(4..).unwrap_or_default();
                let low = rest.strip_prefix(b"\\u").and_then(hex4);
                let (c, pair) = combine(unit, low);
                out.push(c);
                if pair {
                    rest = rest.get(6..).unwrap_or_default();
                }
            }
            // `"`, `\` and `/` stand for themselves.
            other => out.push(char::from(other)),
        }
    }
    out
}

/// The character of one or two UTF-16 units, and whether the second was used.
fn combine(unit: Option<u32>, low: Option<u32>) -> (char, bool) {
    match (unit, low) {
        (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
            let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), true)
        }
        (Some(code), _) => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), false),
        (None, _) => (char::REPLACEMENT_CHARACTER, false),
    }
}

fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(bytes.get(..4)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// Appends `run`, each byte that belongs to no character as one U+FFFD (Rust's own lossy decoding joins some of them).
fn push_lossy(out: &mut String, run: &[u8]) {
    let mut rest = run;
    loop {
        match std::str::from_utf8(rest) {
            Ok(text) => {
                out.push_str(text);
                return;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                out.push_str(std::str::from_utf8(good).unwrap_or_default());
                out.push(char::REPLACEMENT_CHARACTER);
                rest = bad.get(1..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> bool {
        parse(text.as_bytes()).is_ok()
    }

    #[test]
    fn accepts_and_refuses_what_gos_scanner_does() {
        for good in [
            "{}",
            " {} ",
            "[]",
            "null",
            "0",
            "-0.5e+10",
            "\"a\\u00e9\\/\"",
            "[1,[2,{\"a\":[]}],\"x\"]",
            "{\"a\":1,\"a\":2}",
            "{\"a\" : [ ] , \"b\" : { } }",
            "1e999",
            "true",
            "\t\r\n 1",
        ] {
            assert!(accepts(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "nul",
            "nulll",
            "tru",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "\"",
            "{} {}",
            "{}x",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "\"\\'\"",
            "[1,]",
            "[,1]",
            "{,}",
            "{\"a\":[}",
            "NaN",
            "\u{feff}{}",
        ] {
            assert!(!accepts(bad), "{bad}");
        }
    }

    #[test]
    fn nesting_ends_where_gos_does_and_costs_no_stack() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(accepts(&nested(10_000)));
        assert!(!accepts(&nested(10_001)));
        let inside = |depth: usize| format!("{{\"a\":{}}}", nested(depth));
        assert!(accepts(&inside(9_999)));
        assert!(!accepts(&inside(10_000)));
        assert!(!accepts(&"[".repeat(1_000_000)));
    }

    #[test]
    fn the_top_level_keeps_order_and_duplicates() {
        let text = br#"{"a": 1 , "b\u0063" :{"x":[1]},"a":"two"}"#;
        let Ok(Document::Object(members)) = parse(text) else { panic!("an object") };
        let pairs: Vec<(&str, &[u8])> = members.iter().map(|m| (m.name.as_ref(), m.value)).collect();
        assert_eq!(pairs, [("a", &b"1"[..]), ("bc", &b"{\"x\":[1]}"[..]), ("a", &b"\"two\""[..])]);
        assert_eq!(last(&members, "a"), Some(&b"\"two\""[..]));
        assert_eq!(last(&members, "A"), None);
    }

    #[test]
    fn strings_decode_as_gos_do() {
        let table: &[(&[u8], &str)] = &[
            (b"\"plain\"", "plain"),
            (b"\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "a\"\\/\u{8}\u{c}\n\r\t"),
            (b"\"\\ud83d\\ude00\"", "😀"),
            (b"\"\\ud83d\"", "\u{fffd}"),
            (b"\"\\ud83dx\"", "\u{fffd}x"),
            (b"\"\\ud83d\\u0041\"", "\u{fffd}A"),
            (b"\"\\ude00\\ud83d\\ude00\"", "\u{fffd}😀"),
            (b"\"\xff\xfe\"", "\u{fffd}\u{fffd}"),
            (b"\"\xe2\x82x\"", "\u{fffd}\u{fffd}x"), // a cut-off character: one replacement a byte
            (b"\"\xed\xa0\x80\"", "\u{fffd}\u{fffd}\u{fffd}"), // an encoded surrogate
            (b"\"\"", ""),
            (b"12", ""),
        ];
        for (literal, want) in table {
            assert_eq!(string(literal), *want, "{literal:?}");
        }
    }

    #[test]
    fn names_match_struct_tags_without_regard_to_case() {
        let folds = |name: &str, tag| Member { name: Cow::Borrowed(name), value: b"1" }.folds_to(tag);
        assert!(
            folds("iss", "iss") && folds("ISS", "iss") && folds("iſſ", "iss") && folds("_Claim_Names", "_claim_names")
        );
        assert!(folds("\u{212a}id", "kid"));
        assert!(!folds("is", "iss") && !folds("issu", "iss") && !folds("ißs", "iss") && !folds("iſ", "iss"));
    }

    #[test]
    fn elements_and_members_of_checked_values() {
        assert_eq!(elements(b"[ 1 , [2] ,\"x\"]"), [&b"1"[..], b"[2]", b"\"x\""]);
        assert!(elements(b"[]").is_empty() && elements(b"{}").is_empty());
        assert_eq!(members(b"{\"a\":null}").len(), 1);
        assert!(members(b"[1]").is_empty());
    }
}
