//! YAML with lines: a tree that knows where each value stands, and readers that name file, line and path of what is wrong.
//!
//! Serves every platform file. The limits on size, depth and aliases are those of `portcullis_kube::yaml`.

use std::fmt;

use portcullis_kube::yaml::{self, YamlError};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// For example `nodes[0].role`; empty for the document.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the document" } else { &self.path };
        write!(f, "{}:{}: {path}", self.file, self.line)
    }
}

/// Something that has no effect, or not the one that was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub place: Place,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// What is said of a key that kind needs and an API server alone does not.
pub(crate) const INERT: &str = "it has no effect here: only the API server runs, without nodes and their network";

/// A value of another type than the format wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: expected {expected}, found {found}")]
pub struct WrongType {
    /// Where.
    pub place: Place,
    /// What it should be.
    pub expected: &'static str,
    /// What it is.
    pub found: &'static str,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    value: Tree,
    pub(crate) place: Place,
    /// Where the content itself starts, which for a block is below its key: the line, and the bytes from the start of the text.
    content: (u64, Option<usize>),
}

#[derive(Clone, Debug)]
enum Tree {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Reads a document of at most `limit` bytes.
    pub(crate) fn parse(text: &str, file: &str, limit: usize) -> Result<Self, YamlError> {
        let raw: Located = yaml::parse(text, file, limit)?;
        Ok(raw.place(file, "", 0))
    }

    /// Reads the document inside a text value. Lines count from the start of the outer file when the value is a literal block
    /// (`|`), as patches are; for other styles they are those of the value.
    pub(crate) fn parse_inside(&self, outer: &str, limit: usize) -> Result<Self, YamlError> {
        let text = self.text().unwrap_or_default();
        let (line, offset) = self.content;
        let literal = offset.and_then(|at| outer.get(..at)).is_some_and(ends_with_block_header);
        // Blank lines at the start of a block belong to its text.
        let blank = text.bytes().take_while(|byte| *byte == b'\n').count();
        let before = line.saturating_sub(1).saturating_sub(u64::try_from(blank).unwrap_or_default());
        let shift = |inner: u64| if literal { inner.saturating_add(before) } else { self.place.line };
        let raw: Located = yaml::parse(&text, &self.place.file, limit).map_err(|error| match error {
            YamlError::Malformed { file, line, column, reason } => {
                let reason = format!("{}: {reason}", self.place.path);
                YamlError::Malformed { file, line: shift(line), column, reason }
            }
            large @ YamlError::TooLarge { .. } => large,
        })?;
        let mut inner = raw.place(&self.place.file, &self.place.path, before);
        if !literal {
            inner.set_line(self.place.line);
        }
        Ok(inner)
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Tree::Null)
    }

    /// Whether a scalar was written without quotes although it is no text.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.value, Tree::Bool(_) | Tree::Number(_))
    }

    /// The text of a scalar; empty for `null`.
    pub(crate) fn text(&self) -> Result<String, WrongType> {
        match &self.value {
            Tree::Null => Ok(String::new()),
            Tree::Bool(flag) => Ok(flag.to_string()),
            Tree::Number(text) | Tree::Text(text) => Ok(text.clone()),
            Tree::List(_) | Tree::Map(_) => Err(self.wrong("a string")),
        }
    }

    /// The items of a list; none for `null`.
    pub(crate) fn list(&self) -> Result<&[Self], WrongType> {
        match &self.value {
            Tree::Null => Ok(&[]),
            Tree::List(items) => Ok(items),
            _ => Err(self.wrong("a list")),
        }
    }

    /// The entries of a map; none for `null`.
    pub(crate) fn map(&self) -> Result<&[(String, Self)], WrongType> {
        match &self.value {
            Tree::Null => Ok(&[]),
            Tree::Map(entries) => Ok(entries),
            _ => Err(self.wrong("a map")),
        }
    }

    /// Whether this is a list.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.value, Tree::List(_))
    }

    /// A member of a map; `None` when it is absent or `null`.
    pub(crate) fn get(&self, key: &str) -> Result<Option<&Self>, WrongType> {
        Ok(self.map()?.iter().find(|(name, node)| name == key && !node.is_null()).map(|(_, node)| node))
    }

    /// The text of a member; empty when it is absent.
    pub(crate) fn text_of(&self, key: &str) -> Result<String, WrongType> {
        self.get(key)?.map_or(Ok(String::new()), Self::text)
    }

    /// Members that are none of `known`, with a word about the nearest one.
    pub(crate) fn unknown_members(&self, known: &[&str]) -> Result<Vec<Warning>, WrongType> {
        let unknown = self.map()?.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        Ok(unknown
            .map(|(name, node)| Warning {
                place: node.place.clone(),
                message: match nearest(name, known) {
                    Some(near) => format!("unknown key, ignored; did you mean {near:?}?"),
                    None => "unknown key, ignored".to_owned(),
                },
            })
            .collect())
    }

    /// Members that are known and of no use here, with a word each.
    pub(crate) fn inert_members(&self, inert: &[&str]) -> Result<Vec<Warning>, WrongType> {
        let found = self.map()?.iter().filter(|(name, node)| inert.contains(&name.as_str()) && !node.is_null());
        Ok(found.map(|(_, node)| Warning { place: node.place.clone(), message: INERT.to_owned() }).collect())
    }

    fn wrong(&self, expected: &'static str) -> WrongType {
        let found = match self.value {
            Tree::Null => "nothing",
            Tree::Bool(_) => "a boolean",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "a string",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a map",
        };
        WrongType { place: self.place.clone(), expected, found }
    }

    fn set_line(&mut self, line: u64) {
        self.place.line = line;
        match &mut self.value {
            Tree::List(items) => items.iter_mut().for_each(|item| item.set_line(line)),
            Tree::Map(entries) => entries.iter_mut().for_each(|(_, node)| node.set_line(line)),
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) => {}
        }
    }
}

/// Whether the text before a value announces a literal block: `|`, perhaps with an indentation, a chomping mark, a comment.
fn ends_with_block_header(before: &str) -> bool {
    let header = before.trim_end().lines().next_back().unwrap_or_default();
    let header = header.find(" #").and_then(|at| header.get(..at)).unwrap_or(header);
    header.trim_end().trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-')).ends_with('|')
}

/// The known word that differs least from a mistyped one, when it is near enough to be meant.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance * 3 <= candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            left = (corner + usize::from(x != *y)).min(left + 1).min(above + 1);
            corner = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// What the YAML reader yields: values with lines, without paths yet.
struct Located(Spanned<RawTree>);

enum RawTree {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Located>),
    Map(Vec<(Spanned<String>, Located)>),
}

impl Located {
    /// Adds file and path; `before` lines come before the text.
    fn place(self, file: &str, path: &str, before: u64) -> Node {
        let location = self.0.referenced;
        let line = location.line().saturating_add(before);
        let value = match self.0.value {
            RawTree::Null => Tree::Null,
            RawTree::Bool(flag) => Tree::Bool(flag),
            RawTree::Number(text) => Tree::Number(text),
            RawTree::Text(text) => Tree::Text(text),
            RawTree::List(items) => Tree::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| item.place(file, &format!("{path}[{index}]"), before))
                    .collect(),
            ),
            RawTree::Map(entries) => Tree::Map(
                entries
                    .into_iter()
                    .map(|(key, item)| {
                        let dot = if path.is_empty() { "" } else { "." };
                        let mut node = item.place(file, &format!("{path}{dot}{}", key.value), before);
                        // The key's line is where people look; a block below it starts later.
                        node.place.line = key.referenced.line().saturating_add(before);
                        (key.value, node)
                    })
                    .collect(),
            ),
        };
        let offset = location.span().byte_offset().and_then(|at| usize::try_from(at).ok());
        Node { value, place: Place { file: file.to_owned(), line, path: path.to_owned() }, content: (line, offset) }
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawTree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<RawTree, E> {
        Ok(RawTree::Null)
    }

    fn visit_none<E>(self) -> Result<RawTree, E> {
        Ok(RawTree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawTree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawTree, E> {
        Ok(RawTree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawTree, E> {
        Ok(RawTree::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawTree, E> {
        Ok(RawTree::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawTree, E> {
        Ok(RawTree::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawTree, E> {
        Ok(RawTree::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawTree, E> {
        Ok(RawTree::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawTree, E> {
        Ok(RawTree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<RawTree, E> {
        Ok(RawTree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawTree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawTree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawTree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawTree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line_and_path() {
        let text = "a: 1\nb:\n- x\n- c: true\n  d: |\n    e: 2\n    f: 3\n";
        let root = Node::parse(text, "f", 1024).unwrap();
        let b = root.get("b").unwrap().unwrap();
        assert_eq!((b.place.line, b.place.path.as_str()), (2, "b"));
        let item = &b.list().unwrap()[1];
        assert_eq!((item.place.line, item.place.path.as_str()), (4, "b[1]"));
        let d = item.get("d").unwrap().unwrap();
        assert_eq!((d.place.line, d.place.path.as_str()), (5, "b[1].d"));
        let inner = d.parse_inside(text, 1024).unwrap();
        let f = inner.get("f").unwrap().unwrap();
        assert_eq!((f.place.line, f.place.path.as_str(), f.text().unwrap().as_str()), (7, "b[1].d.f", "3"));
    }

    #[test]
    fn lines_inside_a_text_are_those_of_the_file_for_literal_blocks_only() {
        let table = [
            ("- |\n  a: 1\n  b: 2\n", 3),
            ("- |\n\n\n  a: 1\n  b: 2\n", 5),
            ("- |2-  # note\n  a: 1\n  b: 2\n", 3),
            ("- |\r\n  a: 1\r\n  b: 2\r\n", 3),
            ("-\n  &x |+\n    a: 1\n    b: 2\n", 4),
            ("- \"a: 1\\nb: 2\"\n", 1),
            ("- >\n  a: 1\n\n  b: 2\n", 2),
        ];
        for (text, line) in table {
            let root = Node::parse(text, "f", 1024).unwrap();
            let inner = root.list().unwrap()[0].parse_inside(text, 1024).unwrap();
            assert_eq!(inner.get("b").unwrap().unwrap().place.line, line, "{text:?}");
        }
    }

    #[test]
    fn a_mistyped_key_names_the_nearest() {
        let known = ["networking", "nodes", "name"];
        assert_eq!(nearest("netwroking", &known), Some("networking"));
        assert_eq!(nearest("Nodes", &known), Some("nodes"));
        assert_eq!(nearest("xyz", &known), None);
        assert_eq!(nearest(&"n".repeat(1000), &known), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting"), distance("a", "a")), (3, 3, 0));
    }
}
