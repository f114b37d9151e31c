//! A JSON document of which only what is looked at has been opened.
//!
//! Compat: this is json-patch v4's lazy node with everything that shows through: what was not opened keeps its text
//! (order of members, duplicates, spelling of numbers and strings), what was opened is written with its members sorted,
//! scalars are compared by their bytes, and a null that was read is something else than a null that was added.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::text::{self, Shape};

/// A value inside of a document.
#[derive(Debug, Clone)]
pub(crate) enum Node<'a> {
    /// A null that was read, or the value of an operation that has none: a nil pointer upstream.
    Nil,
    /// A null that an operation brought.
    Null,
    /// A null that an operation brought and another one copied. Upstream takes it for an object that cannot be filled.
    NullObject,
    /// Not opened.
    Raw { text: Cow<'a, [u8]>, depth: usize },
    /// An object.
    Object(BTreeMap<String, Self>),
    /// A list.
    List(Vec<Self>),
}

/// Upstream's code dereferences a nil pointer or writes into a nil map at this point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crash;

impl<'a> Node<'a> {
    /// A whole text that was scanned. Nobody asks how deep a root is.
    pub(crate) fn root(text: &'a [u8]) -> Self {
        Self::read(Shape { text, depth: 0 })
    }

    /// A value as it stands in a text that is opened: its nulls are nil.
    pub(crate) fn read(shape: Shape<'a>) -> Self {
        if shape.is_null() { Self::Nil } else { Self::raw(shape) }
    }

    /// A value that is not opened.
    pub(crate) const fn raw(shape: Shape<'a>) -> Self {
        Self::Raw { text: Cow::Borrowed(shape.text), depth: shape.depth }
    }

    /// Opens an object. Returns whether it is one.
    pub(crate) fn open_object(&mut self) -> bool {
        if let Self::Raw { text, .. } = self {
            let opened = match text {
                Cow::Borrowed(text) => object(text),
                // A copy: its parts are copied once more, in the end never more than twice its size.
                Cow::Owned(text) => object(text).map(Node::into_owned),
            };
            match opened {
                Some(object) => *self = object,
                None => return false,
            }
        }
        matches!(self, Self::Object(_) | Self::NullObject)
    }

    /// Opens a list. Returns whether it is one.
    pub(crate) fn open_list(&mut self) -> bool {
        if let Self::Raw { text, .. } = self {
            let opened = match text {
                Cow::Borrowed(text) => list(text),
                Cow::Owned(text) => list(text).map(Node::into_owned),
            };
            match opened {
                Some(list) => *self = list,
                None => return false,
            }
        }
        matches!(self, Self::List(_))
    }

    /// Opens an object or list. Returns whether it is one.
    pub(crate) fn open(&mut self) -> bool {
        self.open_object() || self.open_list()
    }

    fn into_owned<'o>(self) -> Node<'o> {
        match self {
            Self::Nil => Node::Nil,
            Self::Null => Node::Null,
            Self::NullObject => Node::NullObject,
            Self::Raw { text, depth } => Node::Raw { text: Cow::Owned(text.into_owned()), depth },
            Self::Object(members) => {
                Node::Object(members.into_iter().map(|(name, member)| (name, member.into_owned())).collect())
            }
            Self::List(items) => Node::List(items.into_iter().map(Node::into_owned).collect()),
        }
    }

    /// How deep the value is nested; `steps` counts what was looked at.
    pub(crate) fn depth(&self, steps: &mut usize) -> usize {
        *steps += 1;
        match self {
            Self::Nil | Self::Null | Self::NullObject => 0,
            Self::Raw { depth, .. } => *depth,
            Self::Object(members) => 1 + members.values().map(|member| member.depth(steps)).max().unwrap_or(0),
            Self::List(items) => 1 + items.iter().map(|item| item.depth(steps)).max().unwrap_or(0),
        }
    }

    /// How many parts the value has that are opened.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Object(members) => members.len(),
            Self::List(items) => items.len(),
            Self::Nil | Self::Null | Self::NullObject | Self::Raw { .. } => 0,
        }
    }

    /// Whether two values are the same; both are opened as far as it takes.
    ///
    /// # Errors
    /// A null stands in a list: upstream crashes on it.
    pub(crate) fn equal(&mut self, other: &mut Self) -> Result<bool, Crash> {
        if matches!(self, Self::Nil) || matches!(other, Self::Nil) {
            return Err(Crash);
        }
        if self.open_object() {
            if !other.open_object() {
                return Ok(false);
            }
            return match (self, other) {
                (Self::Object(ours), Self::Object(theirs)) => equal_objects(ours, theirs),
                (ours, theirs) => Ok(ours.width() == theirs.width()),
            };
        }
        if self.open_list() {
            if !other.open_list() {
                return Ok(false);
            }
            let (Self::List(ours), Self::List(theirs)) = (self, other) else { return Ok(false) };
            if ours.len() != theirs.len() {
                return Ok(false);
            }
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                if !ours.equal(theirs)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        Ok(match (&*self, &*other) {
            (Self::Null, Self::Null) => true,
            (Self::Raw { text: ours, .. }, Self::Raw { text: theirs, .. }) => ours == theirs,
            _ => false,
        })
    }

    /// Appends the value as Go writes it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil | Self::Null | Self::NullObject => out.extend_from_slice(b"null"),
            Self::Raw { text, .. } => text::compact(text, out),
            Self::Object(members) => {
                out.push(b'{');
                for (at, (name, member)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    text::string(name, out);
                    out.push(b':');
                    member.write(out);
                }
                out.push(b'}');
            }
            Self::List(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
        }
    }
}

fn equal_objects<'a>(
    ours: &mut BTreeMap<String, Node<'a>>,
    theirs: &mut BTreeMap<String, Node<'a>>,
) -> Result<bool, Crash> {
    if ours.len() != theirs.len() {
        return Ok(false);
    }
    for (name, ours) in ours {
        let Some(theirs) = theirs.get_mut(name) else { return Ok(false) };
        let same = match (&*ours, &*theirs) {
            (Node::Nil, Node::Nil) => true,
            (Node::Nil, _) | (_, Node::Nil) => false,
            _ => ours.equal(theirs)?,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn object(text: &[u8]) -> Option<Node<'_>> {
    Some(Node::Object(text::members(text)?.map(|(name, value)| (name.into_owned(), Node::read(value))).collect()))
}

fn list(text: &[u8]) -> Option<Node<'_>> {
    Some(Node::List(text::elements(text)?.map(Node::read).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node<'_> {
        let depth = text.chars().filter(|c| matches!(c, '{' | '[')).count();
        Node::read(Shape { text: text.as_bytes(), depth })
    }

    fn written(node: &Node<'_>) -> String {
        let mut out = Vec::new();
        node.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_not_opened_keeps_its_text_and_what_is_opened_is_sorted() {
        let mut root = node(r#"{ "b" : { "y":1.0 , "x":1e2, "y":2 }, "a":[ "<" ] }"#);
        assert_eq!(written(&root), r#"{"b":{"y":1.0,"x":1e2,"y":2},"a":["\u003c"]}"#);
        assert!(root.open());
        assert_eq!(written(&root), r#"{"a":["\u003c"],"b":{"y":1.0,"x":1e2,"y":2}}"#);
        let Node::Object(members) = &mut root else { panic!("an object") };
        assert!(members.get_mut("b").unwrap().open());
        assert_eq!(written(&root), r#"{"a":["\u003c"],"b":{"x":1e2,"y":2}}"#);
    }

    #[test]
    fn scalars_are_compared_by_their_spelling() {
        for (ours, theirs, same) in [
            ("1", "1", true),
            ("1", "1.0", false),
            (r#""a""#, r#""a""#, true),
            (r#""a""#, r#""\u0061""#, false),
            ("true", "false", false),
            ("{}", "[]", false),
            ("[]", "{}", false),
            ("[1]", "1", false),
            ("1", "[1]", false),
            (r#"{"a":1,"b":[2]}"#, r#"{ "b":[ 2 ],"a":1 }"#, true),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            (r#"{"a":1}"#, r#"{"b":1}"#, false),
            (r#"{"a":null}"#, r#"{"a":null}"#, true),
            (r#"{"a":null}"#, r#"{"a":1}"#, false),
            ("[1,2]", "[1]", false),
        ] {
            assert_eq!(node(ours).equal(&mut node(theirs)), Ok(same), "{ours} {theirs}");
        }
    }

    #[test]
    fn a_null_in_a_list_is_where_upstream_crashes() {
        assert_eq!(node("[null]").equal(&mut node("[null]")), Err(Crash));
        assert_eq!(node("[1]").equal(&mut node("[null]")), Err(Crash));
        assert_eq!(node("[null,1]").equal(&mut node("[null]")), Ok(false), "the lengths differ before");
        assert_eq!(node("[1,null]").equal(&mut node("[2,null]")), Ok(false), "an element differs before");
    }

    #[test]
    fn a_null_that_was_added_is_not_one_that_was_read() {
        assert_eq!(Node::Null.equal(&mut Node::Null), Ok(true));
        assert_eq!(Node::NullObject.equal(&mut Node::Null), Ok(false));
        assert_eq!(Node::NullObject.equal(&mut node("{}")), Ok(true));
        assert_eq!(written(&Node::List(vec![Node::Nil, Node::Null, Node::NullObject])), "[null,null,null]");
    }

    #[test]
    fn depth_counts_what_is_opened_and_what_is_not() {
        let mut steps = 0;
        assert_eq!(node("1").depth(&mut steps), 0);
        let mut root = node(r#"{"a":{"b":[]}}"#);
        assert_eq!(root.depth(&mut steps), 3);
        assert!(root.open());
        assert_eq!((root.depth(&mut steps), root.width()), (3, 1));
        assert_eq!(steps, 4);
    }
}
