//! A JSON text as Go's decoder meets it: numbers as they are written, members as often and in the order they come.
//!
//! Compat: what a number is, and which of two members of one name counts, depends on the type that is decoded into.

use serde_json::{Map, Number, Value};

use super::{JsonError, MAX_VALUES, scan};

/// Brackets below which no type of the API has anything, so that no tree is kept.
const MAX_DEPTH: usize = 128;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(Digits),
    String(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
    /// An array or object that is nested deeper than [`MAX_DEPTH`]; which one, in Go's word.
    Deep(&'static str),
}

/// A number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Digits {
    /// One that is written as Go writes it.
    Int(i64),
    Text(Box<str>),
}

impl Digits {
    /// As it was written.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Text(text) => text.clone().into(),
        }
    }

    /// Compat: `strconv.ParseInt`, which takes neither points nor exponents.
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }

    /// The number in a tree; `None` when it is beyond all types.
    pub(crate) fn number(&self) -> Option<Number> {
        match self {
            Self::Int(number) => Some((*number).into()),
            Self::Text(text) => serde_json::from_str(text).ok(),
        }
    }
}

impl Node {
    /// What Go's decoder calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
            Self::Deep(kind) => kind,
        }
    }

    /// The tree with the last of several members.
    ///
    /// # Errors
    ///
    /// A number beyond all types, or too many brackets.
    pub(crate) fn into_value(self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Number(digits) => Value::Number(digits.number().ok_or("number out of range")?),
            Self::String(text) => Value::String(text),
            Self::Array(items) => Value::Array(items.into_iter().map(Self::into_value).collect::<Result<_, _>>()?),
            Self::Object(members) => {
                let mut out = Map::new();
                for (name, member) in members {
                    out.insert(name, member.into_value()?);
                }
                Value::Object(out)
            }
            Self::Deep(_) => return Err(format!("nested deeper than {MAX_DEPTH}")),
        })
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Number(number) => Self::Number(match number.as_i64() {
                Some(number) => Digits::Int(number),
                None => Digits::Text(number.to_string().into()),
            }),
            Value::String(text) => Self::String(text),
            Value::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Value::Object(members) => {
                Self::Object(members.into_iter().map(|(name, member)| (name, member.into())).collect())
            }
        }
    }
}

/// Reads one JSON text; nothing but white space may follow it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Node, JsonError> {
    if let Some(why) = scan::problem(bytes) {
        return Err(JsonError::Syntax(why));
    }
    let text = scan::mended(bytes);
    let mut reader = Reader { rest: &text, left: MAX_VALUES };
    reader.value(0)?.ok_or_else(|| JsonError::Syntax("unexpected end of JSON input".to_owned()))
}

/// Reads a text that is known to be JSON, and takes whatever is not for its end.
struct Reader<'t> {
    rest: &'t [u8],
    left: usize,
}

impl<'t> Reader<'t> {
    fn value(&mut self, depth: usize) -> Result<Option<Node>, JsonError> {
        self.left = self.left.checked_sub(1).ok_or(JsonError::TooManyValues)?;
        self.skip_space();
        let Some(first) = self.rest.first() else { return Ok(None) };
        Ok(Some(match first {
            b'{' | b'[' if depth >= MAX_DEPTH => self.deep(),
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => Node::String(self.string()),
            b't' => self.word(4, Node::Bool(true)),
            b'f' => self.word(5, Node::Bool(false)),
            b'n' => self.word(4, Node::Null),
            _ => self.number(),
        }))
    }

    fn object(&mut self, depth: usize) -> Result<Node, JsonError> {
        let mut members = Vec::new();
        self.take(1);
        loop {
            self.skip_space();
            match self.rest.first() {
                Some(b'"') => {
                    let name = self.string();
                    self.skip_space();
                    self.take(1);
                    let Some(value) = self.value(depth + 1)? else { break };
                    members.push((name, value));
                }
                Some(b',') => {
                    self.take(1);
                }
                _ => break,
            }
        }
        self.take(1);
        Ok(Node::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Node, JsonError> {
        let mut items = Vec::new();
        self.take(1);
        loop {
            self.skip_space();
            match self.rest.first() {
                Some(b',') => {
                    self.take(1);
                }
                Some(b']') | None => break,
                Some(_) => items.extend(self.value(depth + 1)?),
            }
        }
        self.take(1);
        Ok(Node::Array(items))
    }

    /// Goes over all that stands between two brackets.
    fn deep(&mut self) -> Node {
        let kind = if self.rest.first() == Some(&b'[') { "array" } else { "object" };
        let mut open = 0_usize;
        while let Some(byte) = self.rest.first() {
            match byte {
                b'"' => {
                    self.quoted();
                    continue;
                }
                b'[' | b'{' => open += 1,
                b']' | b'}' => open -= 1,
                _ => {}
            }
            self.take(1);
            if open == 0 {
                break;
            }
        }
        Node::Deep(kind)
    }

    fn number(&mut self) -> Node {
        let ends = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        let length = self.rest.iter().position(ends).unwrap_or(self.rest.len()).max(1);
        let text = String::from_utf8_lossy(self.take(length));
        Node::Number(match text.parse::<i64>() {
            Ok(number) if text != "-0" => Digits::Int(number),
            _ => Digits::Text(text.into()),
        })
    }

    fn string(&mut self) -> String {
        let quoted = self.quoted();
        let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        if inner.contains(&b'\\') {
            serde_json::from_slice(quoted).unwrap_or_default()
        } else {
            String::from_utf8_lossy(inner).into_owned()
        }
    }

    /// A string with its quotes.
    fn quoted(&mut self) -> &'t [u8] {
        let mut escaped = false;
        let end = self.rest.iter().skip(1).position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        self.take(end.map_or(self.rest.len(), |end| end + 2))
    }

    fn word(&mut self, length: usize, node: Node) -> Node {
        self.take(length);
        node
    }

    fn skip_space(&mut self) {
        let space = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let length = self.rest.iter().position(space).unwrap_or(self.rest.len());
        self.take(length);
    }

    fn take(&mut self, length: usize) -> &'t [u8] {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Result<Value, String> {
        parse(text.as_bytes()).map_err(|error| error.to_string())?.into_value()
    }

    #[test]
    fn numbers_and_members_stay_as_they_are_written() {
        let text = |text: &str| Node::Number(Digits::Text(text.into()));
        let node = parse(br#"{"a":1.0,"b":-0,"a":[1e400,7,18446744073709551616]}"#).unwrap();
        let list = Node::Array(vec![text("1e400"), Node::Number(Digits::Int(7)), text("18446744073709551616")]);
        let want = [("a".to_owned(), text("1.0")), ("b".to_owned(), text("-0")), ("a".to_owned(), list)];
        assert_eq!(node, Node::Object(want.to_vec()));
        assert_eq!(Digits::Text("-0".into()).int(), Some(0));
        assert_eq!((Digits::Text("1.0".into()).int(), Digits::Text("1e2".into()).int()), (None, None));
    }

    #[test]
    fn the_last_of_several_members_stays_in_a_tree() {
        assert_eq!(value(r#"{"a":1,"b":{"c":"\u00e9\\\""},"a":null}"#), Ok(json!({"a": null, "b": {"c": "é\\\""}})));
        assert_eq!(value("[1e400]"), Err("number out of range".to_owned()));
    }

    #[test]
    fn what_is_nested_too_deeply_is_known_by_its_kind_only() {
        let nested = |depth: usize| format!("{}\"]\\\"\"{}", "[".repeat(depth), "]".repeat(depth));
        assert!(value(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(value(&nested(MAX_DEPTH + 1)), Err("nested deeper than 128".to_owned()));
        let text = format!("{{\"a\":{},\"b\":2}}", nested(9_000));
        let Node::Object(members) = parse(text.as_bytes()).unwrap() else { panic!() };
        assert_eq!(members[1], ("b".to_owned(), Node::Number(Digits::Int(2))));
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let fits = format!("[{}0]", "0,".repeat(MAX_VALUES - 2));
        assert!(parse(fits.as_bytes()).is_ok());
        let over = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert_eq!(parse(over.as_bytes()).err(), Some(JsonError::TooManyValues));
    }

    proptest! {
        #[test]
        fn a_text_of_a_tree_gives_the_tree(list in prop::collection::vec(prop_oneof![
            any::<i64>().prop_map(Value::from), (-9_000..9_000_i32).prop_map(|eighths| f64::from(eighths) / 8.0).prop_map(Value::from), any::<bool>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from), Just(json!({"a\"": [null, "\\"], "": {}})),
        ], 0..6)) {
            let tree = Value::from(list);
            prop_assert_eq!(value(&tree.to_string()), Ok(tree.clone()));
            prop_assert_eq!(value(&serde_json::to_string_pretty(&tree).unwrap()), Ok(tree));
        }

        #[test]
        fn no_text_panics(bytes in prop::collection::vec(prop::sample::select(br#"{}[]",:\ 0-1.eEtruenlfas"#.to_vec()), 0..30)) {
            let _ = parse(&bytes).map(Node::into_value);
        }
    }
}
