//! JSON as the API server reads and writes it.
//!
//! Reading keeps what Go's decoder looks at ([`Node`]) and is bounded in depth and in number of values, so that a body of a
//! few megabytes cannot become a tree of hundreds. Writing escapes `<`, `>` and `&` as Go's encoder does, because clients
//! compare bytes.
//!
//! Compat: error texts are those of Go's `encoding/json`.

mod node;
mod scan;

use std::fmt;
use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter};

pub(crate) use self::node::{Node, parse};

/// Values (members, elements, scalars) that one body may hold.
pub(crate) const MAX_VALUES: usize = 200_000;

/// Why a text is not JSON that this server reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// Not JSON; the text is Go's.
    Syntax(String),
    /// More values than [`MAX_VALUES`].
    TooManyValues,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => f.write_str(text),
            Self::TooManyValues => write!(f, "the body has more than {MAX_VALUES} values"),
        }
    }
}

/// Reads one JSON text as a tree. Of several members of one name the last one stays.
pub(crate) fn value(bytes: &[u8]) -> Result<Value, JsonError> {
    parse(bytes)?.into_value().map_err(JsonError::Syntax)
}

/// How many values stand in a value, itself counted.
pub(crate) fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum(),
        _ => 0,
    }
}

/// Sets a member of a value that is an object; other values stay as they are.
pub(crate) fn set(value: &mut Value, name: &str, member: Value) {
    if let Value::Object(members) = value {
        members.insert(name.to_owned(), member);
    }
}

/// `value` as Go's encoder writes it, without a final newline.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    portcullis_kube::go::to_json(value).unwrap_or_else(|error| not_json(&error))
}

/// `value` indented by two spaces, as the API server does for browsers and curl.
pub(crate) fn to_pretty<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, GoPretty(PrettyFormatter::new()));
    match value.serialize(&mut serializer) {
        Ok(()) => out,
        Err(error) => not_json(&error),
    }
}

/// Only a map with keys that are no strings cannot be written, and no type here has one.
fn not_json(error: &serde_json::Error) -> Vec<u8> {
    tracing::error!(%error, "a response could not be written as JSON");
    b"null".to_vec()
}

/// Indentation with Go's HTML escapes.
struct GoPretty(PrettyFormatter<'static>);

impl Formatter for GoPretty {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, after) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            let mut chars = after.chars();
            if let Some(special) = chars.next() {
                write!(out, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).err().unwrap().to_string()
    }

    #[test]
    fn mistakes_read_as_go_words_them() {
        assert_eq!(error("{"), "unexpected end of JSON input");
        assert_eq!(error(""), "unexpected end of JSON input");
        assert_eq!(error("{} trailing"), "invalid character 't' after top-level value");
        assert_eq!(error("nope").split(' ').next(), Some("invalid"));
    }

    #[test]
    fn writing_escapes_what_go_escapes() {
        let value = json!({"a": "<b>&\u{2028}\"ü", "<": [1, {}]});
        let text = String::from_utf8(to_vec(&value)).unwrap();
        assert_eq!(text, "{\"a\":\"\\u003cb\\u003e\\u0026\\u2028\\\"ü\",\"\\u003c\":[1,{}]}");
        assert_eq!(super::value(text.as_bytes()).unwrap(), value);
        assert_eq!(
            String::from_utf8(to_pretty(&json!({"a": {}, "b": [1]}))).unwrap(),
            "{\n  \"a\": {},\n  \"b\": [\n    1\n  ]\n}"
        );
    }
}
