//! From YAML events to a tree: aliases and merge keys resolved, everything counted.

use std::collections::HashMap;

use granit_parser::{Event, ScalarStyle};

use super::document::{Entry, MAX_DEPTH, MAX_NODES, Node, Value};
use super::scalar::{Scalar, resolve};

/// Whether more events are wanted.
pub(super) enum Progress {
    More,
    Done,
}

/// A collection that is being filled.
enum Open {
    List { anchor: usize, line: u32, items: Vec<Node> },
    Map { anchor: usize, line: u32, entries: Vec<Entry>, key: Option<Key>, merges: Vec<Node> },
}

struct Key {
    text: String,
    line: u32,
    merge: bool,
}

/// Builds the tree.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    pub(super) root: Option<Node>,
    pub(super) more_documents: bool,
}

impl Builder {
    /// Takes one event; the error is a message.
    pub(super) fn event(&mut self, event: Event<'_>, line: u32) -> Result<Progress, String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = match tag.as_deref() {
                    Some(tag) if tag.is_yaml_core_schema() && tag.suffix() != "str" => resolve(&text),
                    None if style == ScalarStyle::Plain => {
                        if self.wants_key() && text == "<<" {
                            return self.set_key(Key { text: text.into_owned(), line, merge: true });
                        }
                        resolve(&text)
                    }
                    Some(_) | None => Scalar::Str(text.into_owned()),
                };
                self.add(Node { line, value: Value::Scalar(scalar) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.start(Open::List { anchor, line, items: Vec::new() }),
            Event::MappingStart(_, anchor, _) => {
                self.start(Open::Map { anchor, line, entries: Vec::new(), key: None, merges: Vec::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => {
                let mut node = self.anchors.get(&id).cloned().ok_or("an alias names an anchor that is not complete")?;
                node.line = line;
                self.count(&node)?;
                self.put(node)
            }
            Event::UnresolvedAlias(_) => Err("an alias has no anchor".to_owned()),
            Event::DocumentStart(..) if self.root.is_some() => {
                self.more_documents = true;
                Ok(Progress::Done)
            }
            Event::StreamEnd => Ok(Progress::Done),
            _ => Ok(Progress::More),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn set_key(&mut self, new: Key) -> Result<Progress, String> {
        if let Some(Open::Map { key, .. }) = self.open.last_mut() {
            *key = Some(new);
        }
        self.bump(1)
    }

    fn start(&mut self, open: Open) -> Result<Progress, String> {
        if self.wants_key() {
            return Err("a map's key must be a scalar".to_owned());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        self.open.push(open);
        Ok(Progress::More)
    }

    fn end(&mut self) -> Result<Progress, String> {
        let (node, anchor) = match self.open.pop() {
            Some(Open::List { anchor, line, items }) => (Node { line, value: Value::List(items) }, anchor),
            Some(Open::Map { anchor, line, mut entries, merges, .. }) => {
                for merge in merges {
                    merge_into(&mut entries, merge)?;
                }
                (Node { line, value: Value::Map(entries) }, anchor)
            }
            None => return Err("unbalanced document".to_owned()),
        };
        self.add(node, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<Progress, String> {
        if anchor != 0 {
            self.count(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.bump(1)?;
        self.put(node)
    }

    fn put(&mut self, node: Node) -> Result<Progress, String> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, merges, .. }) => match key.take() {
                Some(key) if key.merge => merges.push(node),
                Some(Key { text, line, .. }) => entries.push(Entry { key: text, line, value: node }),
                None => *key = Some(Key { text: key_text(&node.value)?, line: node.line, merge: false }),
            },
        }
        Ok(Progress::More)
    }

    fn count(&mut self, node: &Node) -> Result<(), String> {
        let size = size_of_tree(node);
        if depth_of_tree(node) + self.open.len() > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        self.bump(size).map(|_| ())
    }

    fn bump(&mut self, by: usize) -> Result<Progress, String> {
        self.nodes = self.nodes.saturating_add(by);
        if self.nodes > MAX_NODES { Err(format!("more than {MAX_NODES} values")) } else { Ok(Progress::More) }
    }
}

/// How much of [`MAX_NODES`] a scalar uses up: long texts count more, or a few aliases could copy a large one often.
const fn weight(scalar: &Scalar) -> usize {
    match scalar {
        Scalar::Str(text) => 1 + text.len() / 256,
        Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) => 1,
    }
}

fn size_of_tree(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(scalar) => weight(scalar),
        Value::List(items) => items.iter().map(size_of_tree).sum::<usize>() + 1,
        Value::Map(entries) => entries.iter().map(|e| size_of_tree(&e.value) + 1).sum::<usize>() + 1,
    }
}

fn depth_of_tree(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 0,
        Value::List(items) => items.iter().map(depth_of_tree).max().unwrap_or(0) + 1,
        Value::Map(entries) => entries.iter().map(|e| depth_of_tree(&e.value)).max().unwrap_or(0) + 1,
    }
}

/// The text of a key. Compat: `ghodss/yaml` turns numbers and booleans into JSON strings.
fn key_text(value: &Value) -> Result<String, String> {
    match value {
        Value::Scalar(Scalar::Str(text)) => Ok(text.clone()),
        Value::Scalar(Scalar::Bool(value)) => Ok(value.to_string()),
        Value::Scalar(Scalar::Int(value)) => Ok(value.to_string()),
        Value::Scalar(Scalar::Float(value)) => Ok(value.to_string()),
        Value::Scalar(Scalar::Null) | Value::List(_) | Value::Map(_) => Err("a map's key must be a scalar".to_owned()),
    }
}

/// YAML 1.1's merge key: what the map does not say itself comes from the merged map, or maps, first one first.
fn merge_into(entries: &mut Vec<Entry>, merge: Node) -> Result<(), String> {
    match merge.value {
        Value::Map(more) => {
            for entry in more {
                if !entries.iter().any(|e| e.key == entry.key) {
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Value::List(maps) => maps.into_iter().try_for_each(|map| match map.value {
            Value::Map(_) => merge_into(entries, map),
            Value::Scalar(_) | Value::List(_) => {
                Err("map merge requires map or sequence of maps as the value".to_owned())
            }
        }),
        Value::Scalar(_) => Err("map merge requires map or sequence of maps as the value".to_owned()),
    }
}
