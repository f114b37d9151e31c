//! The query of a URL, read as Kubernetes reads it.
//!
//! Whoever authorizes a request and whoever serves it take this one reading: with two, a parameter that only one of them
//! sees decides what the other does not know of.
//!
//! Compat: `url.ParseQuery` of Go 1.26, whose errors Kubernetes ignores: what cannot be read is dropped, the rest counts.

use std::borrow::Cow;
use std::fmt;

/// Pairs of one query. Of a query with more Go reads none, and so do we.
pub const MAX_PAIRS: usize = 10_000;

/// A query, as sent and decoded.
#[derive(Clone, Default)]
pub struct Query {
    raw: String,
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads the text after `?`. Bytes that are no UTF-8 become U+FFFD.
    pub fn parse(raw: &str) -> Self {
        let many = raw.bytes().filter(|byte| *byte == b'&').count() >= MAX_PAIRS;
        let readable = |pair: &&str| !pair.is_empty() && !pair.contains(';') && escapes(pair);
        let pairs = raw.split('&').filter(|_| !many).filter(readable).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name, true).into_owned(), unescape(value, true).into_owned())
        });
        Self { pairs: pairs.collect(), raw: raw.to_owned() }
    }

    /// The text after `?`, as sent.
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// The first value of a parameter.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter, in order.
    pub fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Whether a value stands for false. Compat: `Convert_Slice_string_To_bool`; Go's folding takes `\u{17f}` for an `s`.
pub fn is_false(value: &str) -> bool {
    value == "0" || value.replace('\u{17f}', "s").eq_ignore_ascii_case("false")
}

/// Names only: a value may be a token.
impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(name, _)| name)).finish()
    }
}

/// Whether every `%` begins an escape.
pub fn escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

/// Percent-decodes; in a query, `+` is a space. What is not an escape stays as it is, and bytes that are no UTF-8 become U+FFFD.
pub fn unescape(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || (plus_is_space && byte == b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        bytes = rest;
        match (first, rest) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or(0);
                out.push(digit(high) << 4 | digit(low));
                bytes = after;
            }
            (b'+', _) if plus_is_space => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_decode_as_forms() {
        let query = Query::parse("fieldSelector=metadata.name%3Da+b&x&x=2&w%61tch=1&=y");
        assert_eq!(query.first("fieldSelector"), Some("metadata.name=a b"));
        assert_eq!(query.all("x").collect::<Vec<_>>(), ["", "2"]);
        assert_eq!((query.first("watch"), query.first("")), (Some("1"), Some("y")));
        assert_eq!(query.first("none"), None);
        assert_eq!(unescape("a+b%2F", false), "a+b/");
    }

    #[test]
    fn pairs_that_cannot_be_read_are_dropped_and_the_rest_counts() {
        let query = Query::parse("watch=%zz&watch=%4&watch=a;b&&watch=1");
        assert_eq!(query.all("watch").collect::<Vec<_>>(), ["1"]);
    }

    #[test]
    fn what_is_no_text_keeps_its_place() {
        let query = Query::parse("fieldSelector=metadata.name!%3D%FF&fieldSelector=metadata.name%3Da");
        assert_eq!(query.first("fieldSelector"), Some("metadata.name!=\u{FFFD}"));
    }

    #[test]
    fn of_too_many_pairs_none_is_read() {
        let filled = |pairs: usize| Query::parse(&format!("{}a=1", "&".repeat(pairs - 1)));
        assert_eq!(filled(MAX_PAIRS).first("a"), Some("1"));
        assert_eq!(filled(MAX_PAIRS + 1).first("a"), None);
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", Query::parse("access_token=s3cret&x=1")), r#"["access_token", "x"]"#);
    }

    proptest! {
        #[test]
        fn no_query_panics(query in "[a-z=&%+;é0-9]{0,60}") {
            let _ = Query::parse(&query);
        }

        #[test]
        fn what_was_encoded_is_decoded(text in "\\PC{0,20}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(unescape(&encoded, true), text);
        }
    }
}
