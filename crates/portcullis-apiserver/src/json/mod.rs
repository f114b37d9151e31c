//! JSON as the API server reads and writes it.
//!
//! Reading keeps the paths of duplicate members (`fieldValidation` reports them) and is bounded in depth and in number
//! of values, so that a body of a few megabytes cannot become a tree of hundreds. Writing escapes `<`, `>` and `&` as
//! Go's encoder does, because clients compare bytes.
//!
//! Compat: error texts are those of Go's `encoding/json`.

mod scan;

use std::cell::RefCell;
use std::fmt;
use std::io;

use serde::Serialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::ser::{Formatter, PrettyFormatter};
use serde_json::{Map, Number, Value};

/// Values (members, elements, scalars) that one body may hold.
pub(crate) const MAX_VALUES: usize = 200_000;
/// Duplicate members that are reported; further ones are counted as none.
const MAX_DUPLICATES: usize = 100;
const TOO_MANY: &str = "too many values";

/// A JSON text as a tree, with what the tree alone does not show.
pub(crate) struct Parsed {
    pub(crate) value: Value,
    /// Paths such as `metadata.name` or `spec.containers[0].image`, in the order met.
    pub(crate) duplicates: Vec<String>,
}

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

/// Reads one JSON text; nothing but white space may follow it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, JsonError> {
    let tracker = RefCell::new(Tracker { path: Vec::new(), duplicates: Vec::new(), left: MAX_VALUES });
    let text = scan::mended(bytes);
    let mut reader = serde_json::Deserializer::from_slice(&text);
    let value = Seed(&tracker).deserialize(&mut reader).map_err(|error| describe(&error, bytes))?;
    reader.end().map_err(|error| describe(&error, bytes))?;
    Ok(Parsed { value, duplicates: tracker.into_inner().duplicates })
}

fn describe(error: &serde_json::Error, bytes: &[u8]) -> JsonError {
    if error.is_data() && error.to_string().starts_with(TOO_MANY) {
        return JsonError::TooManyValues;
    }
    // What Go would read and this server does not: too deep, or a number beyond all types.
    JsonError::Syntax(scan::problem(bytes).unwrap_or_else(|| error.to_string()))
}

enum Segment {
    Member(String),
    Element(usize),
}

struct Tracker {
    path: Vec<Segment>,
    duplicates: Vec<String>,
    left: usize,
}

impl Tracker {
    fn path_of(&self, member: &str) -> String {
        let mut text = String::new();
        for segment in &self.path {
            match segment {
                Segment::Member(name) if text.is_empty() => text.push_str(name),
                Segment::Member(name) => text.extend([".", name]),
                Segment::Element(index) => text.push_str(&format!("[{index}]")),
            }
        }
        if text.is_empty() { member.to_owned() } else { format!("{text}.{member}") }
    }
}

struct Seed<'t>(&'t RefCell<Tracker>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        {
            let mut tracker = self.0.borrow_mut();
            match tracker.left.checked_sub(1) {
                Some(left) => tracker.left = left,
                None => return Err(D::Error::custom(TOO_MANY)),
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        self.0.borrow_mut().path.push(Segment::Element(0));
        while let Some(item) = access.next_element_seed(Seed(self.0))? {
            items.push(item);
            if let Some(Segment::Element(index)) = self.0.borrow_mut().path.last_mut() {
                *index = items.len();
            }
        }
        self.0.borrow_mut().path.pop();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                let mut tracker = self.0.borrow_mut();
                let path = tracker.path_of(&name);
                if tracker.duplicates.len() < MAX_DUPLICATES && !tracker.duplicates.contains(&path) {
                    tracker.duplicates.push(path);
                }
            }
            self.0.borrow_mut().path.push(Segment::Member(name.clone()));
            let value = access.next_value_seed(Seed(self.0))?;
            self.0.borrow_mut().path.pop();
            members.insert(name, value);
        }
        Ok(Value::Object(members))
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
    fn duplicates_are_found_at_any_depth_and_the_last_one_counts() {
        let parsed = parse(br#"{"a":1,"m":{"n":1,"n":2},"l":[{"x":1},{"x":1,"x":2,"x":3}],"a":5}"#).unwrap();
        assert_eq!(parsed.duplicates, ["m.n", "l[1].x", "a"]);
        assert_eq!(parsed.value["a"], 5);
        assert_eq!(parsed.value["m"]["n"], 2);
    }

    #[test]
    fn mistakes_read_as_go_words_them() {
        assert_eq!(error("{"), "unexpected end of JSON input");
        assert_eq!(error(""), "unexpected end of JSON input");
        assert_eq!(error("{} trailing"), "invalid character 't' after top-level value");
        assert_eq!(error("nope").split(' ').next(), Some("invalid"));
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse(format!("{}{}", "[".repeat(120), "]".repeat(120)).as_bytes()).is_ok());
        let fits = format!("[{}0]", "0,".repeat(MAX_VALUES - 2));
        assert!(parse(fits.as_bytes()).is_ok());
        let over = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert_eq!(parse(over.as_bytes()).err(), Some(JsonError::TooManyValues));
    }

    #[test]
    fn writing_escapes_what_go_escapes() {
        let value = json!({"a": "<b>&\u{2028}\"ü", "<": [1, {}]});
        let text = String::from_utf8(to_vec(&value)).unwrap();
        assert_eq!(text, "{\"a\":\"\\u003cb\\u003e\\u0026\\u2028\\\"ü\",\"\\u003c\":[1,{}]}");
        assert_eq!(parse(text.as_bytes()).unwrap().value, value);
        assert_eq!(
            String::from_utf8(to_pretty(&json!({"a": {}, "b": [1]}))).unwrap(),
            "{\n  \"a\": {},\n  \"b\": [\n    1\n  ]\n}"
        );
    }
}
