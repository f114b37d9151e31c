//! What a YAML file means to Kubernetes: the JSON that `sigs.k8s.io/yaml` makes of it.
//!
//! Flow: text → events (see [`super::yaml_flow`] and [`super::yaml_marks`] for where the text is changed for them) → nodes with anchors → values, each scalar resolved as YAML 1.1 does (`yes` is a boolean, `0777` is
//! octal, a date stays text) → JSON text with sorted names. Only the first document is read. The reader of the JSON never
//! learns that it was YAML; keys that occur twice are reported beside it, because upstream looks for them on the side.
//!
//! Whatever aliases say, no more is made than the limits below allow.
//!
//! Compat: `yaml.v2` 2.4.4 behind `sigs.k8s.io/yaml` 1.6.0. Of a text that is no YAML, the words are our parser's.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StructureStyle};

use super::yaml_flow::{self, Rewrite};
use super::yaml_marks;
use super::yaml_refused::{self, OddBreaks};
use super::yaml_scalar::{Scalar, resolve};
use super::yaml_value::{Key, Map, Value, shown, write};

/// Levels of nesting that a file may have, aliases expanded: what walks a value calls itself.
const DEPTH_LIMIT: usize = 100;
/// Nodes that a file may have, and values that it may turn into, aliases expanded.
const NODES_LIMIT: usize = 100_000;
/// Changes that a text may need before both parsers would read it alike.
const REWRITES_LIMIT: usize = 100;

const TAG_PREFIX: &str = "tag:yaml.org,2002:";

/// A file as JSON.
#[derive(Debug)]
pub(crate) struct Converted {
    /// The JSON text.
    pub(crate) json: Vec<u8>,
    /// Upstream's words about keys that occur twice.
    pub(crate) duplicates: Option<String>,
}

/// Converts `text`; the error is what upstream says, or our parser with the line in upstream's form.
pub(crate) fn to_json(text: &[u8]) -> Result<Converted, String> {
    let text = std::str::from_utf8(text).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.chars().any(is_control) {
        return Err("yaml: control characters are not allowed".to_owned());
    }
    let nodes =
        yaml_refused::directives(text).and_then(|()| nodes(text)).map_err(|reason| format!("yaml: {reason}"))?;
    let Some(root) = nodes.root else {
        return Ok(Converted { json: b"null".to_vec(), duplicates: None });
    };
    let mut reader = Reader { nodes: &nodes.all, inside: Vec::new(), depth: 0, read: 0, twice: Vec::new() };
    let value = reader.value(root).map_err(|reason| format!("yaml: {reason}"))?;
    let mut json = Vec::with_capacity(text.len());
    write(&value, &mut json)?;
    let duplicates =
        (!reader.twice.is_empty()).then(|| format!("yaml: unmarshal errors:\n  {}", reader.twice.join("\n  ")));
    Ok(Converted { json, duplicates })
}

/// The nodes of the first document.
fn nodes(text: &str) -> Result<Nodes, String> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..=REWRITES_LIMIT {
        match read(&text)? {
            Read::Nodes(nodes) => return Ok(nodes),
            Read::Again(Rewrite { place, with }) => text.to_mut().replace_range(place, &with),
        }
    }
    Err(format!("more than {REWRITES_LIMIT} times ?, : or # before or after what it is not set off from"))
}

/// What came of reading a text.
enum Read {
    Nodes(Nodes),
    /// It has to be read again with this change.
    Again(Rewrite),
}

fn read(text: &str) -> Result<Read, String> {
    let mut nodes = Nodes::default();
    let mut odd = OddBreaks::of(text);
    // Where what has been read ends.
    let mut done = 0;
    let options = granit_parser::options! {
        bom_inside_document_as_content: true,
        block_scalar_eof_without_line_feed: true,
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
    };
    for step in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match step {
            Ok(step) => step,
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or_default();
                let line = error.marker().line() + odd.before(at);
                return refused(text, &error, (at, line), (done, nodes.in_flow()));
            }
        };
        let at = span.start.byte_offset().unwrap_or_default();
        let mut line = span.start.line() + odd.before(at);
        if let Event::Scalar(.., Some(_)) | Event::SequenceStart(.., Some(_)) | Event::MappingStart(.., Some(_)) =
            &event
        {
            yaml_marks::check_tag(text, done).map_err(|reason| format!("line {line}: {reason}"))?;
        }
        done = done.max(span.end.byte_offset().unwrap_or_default());
        if matches!(event, Event::Anchor(..) | Event::Alias(_) | Event::UnresolvedAlias(_))
            && let Some(place) = span.byte_range()
        {
            let change = yaml_marks::name(text, place.start, nodes.in_flow());
            if let Some(change) = change.map_err(|reason| format!("line {line}: {reason}"))? {
                return Ok(Read::Again(change));
            }
        }
        if let Event::Scalar(_, style @ (ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted), ..) = event
            && let Some(place) = span.byte_range()
        {
            odd.quoted(&place)?;
            if style == ScalarStyle::DoubleQuoted {
                let source = text.get(place).unwrap_or_default();
                yaml_refused::escapes(source).map_err(|reason| format!("line {line}: {reason}"))?;
            }
        }
        if nodes.in_flow()
            && matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..))
            && let Some(place) = span.byte_range()
            && let Some(change) = yaml_flow::rewrite(text, place)?
        {
            return Ok(Read::Again(change));
        }
        if nodes.wants_flow_key()
            && matches!(event, Event::Scalar(..) | Event::Alias(_))
            && let Some(place) = span.byte_range()
            && yaml_flow::is_key_of_lines(text, place)
        {
            return Err(format!("line {line}: did not find expected ',' or '}}'"));
        }
        let before = text.get(..at).unwrap_or_default();
        if !nodes.in_flow() && tab_before_key(before) {
            return Err(format!("line {line}: found character that cannot start any token"));
        }
        if matches!(event, Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..)) {
            if yaml_marks::tab_in_indentation(text, at) {
                return Err(format!("line {line}: found a tab character where an indentation space is expected"));
            }
            // Our parser may place it at its first line of text, libyaml at its `|`.
            line -= before.get(before.trim_end().len()..).unwrap_or_default().matches('\n').count();
        }
        if nodes.event(event, line)? {
            break;
        }
    }
    odd.end()?;
    Ok(Read::Nodes(nodes))
}

/// What is to be changed about a text of which our parser has read everything before `done` and refuses what is at `at`, or its
/// words.
fn refused(
    text: &str,
    error: &ScanError,
    (at, line): (usize, usize),
    (done, in_flow): (usize, bool),
) -> Result<Read, String> {
    let change = match error.kind() {
        ErrorKind::CommentNotSeparated if yaml_marks::in_directive(text, at) => None,
        ErrorKind::CommentNotSeparated => Some(yaml_marks::blank(at)),
        _ => yaml_marks::next_name(text, done, in_flow).map_err(|reason| format!("line {line}: {reason}"))?,
    };
    change.map(Read::Again).ok_or_else(|| format!("line {line}: {}", error.info()))
}

/// Compat: libyaml takes no tab where a key may begin: at the beginning of a line, after `-` and `?`, and after a `:` that begins a
/// line.
fn tab_before_key(before: &str) -> bool {
    let rest = before.trim_end_matches([' ', '\t']);
    let blanks = before.get(rest.len()..).unwrap_or_default();
    let line_begins = |text: &str| text.is_empty() || text.ends_with(['\n', '\r']);
    blanks.contains('\t')
        && (line_begins(rest)
            || rest.strip_suffix(['-', '?']).is_some_and(|rest| line_begins(rest) || rest.ends_with([' ', '\t']))
            || rest.strip_suffix(':').is_some_and(|rest| line_begins(rest.trim_end_matches(' '))))
}

/// What libyaml's reader refuses.
fn is_control(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A place in [`Nodes::all`].
type Id = usize;

struct Node {
    line: usize,
    content: Content,
}

enum Content {
    Scalar {
        text: String,
        tag: Option<String>,
        /// Its meaning follows from its text.
        implicit: bool,
    },
    List(Vec<Id>),
    /// Keys and values in turn.
    Map(Vec<Id>),
    Alias(Id),
}

/// The nodes of one document.
#[derive(Default)]
struct Nodes {
    all: Vec<Node>,
    open: Vec<(Id, StructureStyle)>,
    anchors: HashMap<usize, Id>,
    root: Option<Id>,
}

impl Nodes {
    /// Takes one event; whether the document has ended.
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<bool, String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
                let implicit = tag.is_none() && style == ScalarStyle::Plain;
                self.add(Node { line, content: Content::Scalar { text: text.into_owned(), tag, implicit } }, anchor)?;
            }
            Event::SequenceStart(style, anchor, _) => {
                self.start(Node { line, content: Content::List(Vec::new()) }, style, anchor)?
            }
            Event::MappingStart(style, anchor, _) => {
                self.start(Node { line, content: Content::Map(Vec::new()) }, style, anchor)?
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            Event::UnresolvedAlias(name) => return Err(format!("line {line}: unknown anchor '{name}' referenced")),
            Event::Alias(anchor) => {
                let target = *self.anchors.get(&anchor).ok_or("unknown anchor referenced")?;
                self.add(Node { line, content: Content::Alias(target) }, 0)?;
            }
            Event::DocumentEnd | Event::StreamEnd => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    /// Whether the next node lies inside `{…}` or `[…]`.
    fn in_flow(&self) -> bool {
        matches!(self.open.last(), Some((_, StructureStyle::Flow)))
    }

    /// Whether the next node is a name inside `{…}`.
    fn wants_flow_key(&self) -> bool {
        self.in_flow()
            && matches!(
                self.open.last().and_then(|(open, _)| self.all.get(*open)),
                Some(Node { content: Content::Map(items), .. }) if items.len() % 2 == 0
            )
    }

    fn start(&mut self, node: Node, style: StructureStyle, anchor: usize) -> Result<(), String> {
        if self.open.len() >= DEPTH_LIMIT {
            return Err(too_deep());
        }
        let id = self.add(node, anchor)?;
        self.open.push((id, style));
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<Id, String> {
        let id = self.all.len();
        if id >= NODES_LIMIT {
            return Err(format!("more than {NODES_LIMIT} values"));
        }
        self.all.push(node);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        match self.open.last().and_then(|(open, _)| self.all.get_mut(*open)) {
            Some(Node { content: Content::List(items) | Content::Map(items), .. }) => items.push(id),
            Some(_) | None => self.root = Some(self.root.unwrap_or(id)),
        }
        Ok(id)
    }
}

struct Reader<'n> {
    nodes: &'n [Node],
    /// Aliases that are being followed.
    inside: Vec<Id>,
    /// Collections, and merged maps, that are being read.
    depth: usize,
    /// Values made so far.
    read: usize,
    /// What upstream's strict mode would report.
    twice: Vec<String>,
}

impl<'n> Reader<'n> {
    fn node(&self, id: Id) -> Result<&'n Node, String> {
        self.nodes.get(id).ok_or_else(|| "a node is missing".to_owned())
    }

    fn value(&mut self, id: Id) -> Result<Value<'n>, String> {
        self.read += 1;
        if self.read > NODES_LIMIT {
            return Err("document contains excessive aliasing".to_owned());
        }
        match &self.node(id)?.content {
            Content::Scalar { text, tag, implicit } => Ok(match scalar(text, tag.as_deref(), *implicit)? {
                Scalar::Null => Value::Null,
                Scalar::Bool(value) => Value::Bool(value),
                Scalar::Int(value) => Value::Number(value.to_string()),
                Scalar::Float(value) if value.is_nan() => Value::NoNumber("NaN"),
                Scalar::Float(value) if value.is_infinite() => {
                    Value::NoNumber(if value > 0.0 { "+Inf" } else { "-Inf" })
                }
                Scalar::Float(value) => Value::Number(format!("{value:e}")),
                Scalar::Text(text) => Value::Text(text),
                Scalar::Decoded(text) => Value::Decoded(text),
            }),
            Content::List(items) => self.deeper(|reader| {
                items.iter().map(|item| reader.value(*item)).collect::<Result<_, _>>().map(Value::List)
            }),
            Content::Map(items) => {
                let mut map = Map::default();
                self.fill(items, &mut map)?;
                Ok(Value::Map(map))
            }
            Content::Alias(target) => self.follow(id, |reader| reader.value(*target)),
        }
    }

    /// Reads what lies one level deeper.
    fn deeper<T>(&mut self, then: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth >= DEPTH_LIMIT {
            return Err(too_deep());
        }
        self.depth += 1;
        let outcome = then(self);
        self.depth -= 1;
        outcome
    }

    /// Compat: an alias may lead through the node that holds it as long as the same alias is not met again.
    fn follow<T>(&mut self, alias: Id, then: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.inside.contains(&alias) {
            return Err("anchor value contains itself".to_owned());
        }
        self.inside.push(alias);
        let outcome = then(self);
        self.inside.pop();
        outcome
    }

    /// Puts the entries of a map node into `map`.
    fn fill(&mut self, items: &'n [Id], map: &mut Map<'n>) -> Result<(), String> {
        self.deeper(|reader| reader.entries(items, map))
    }

    fn entries(&mut self, items: &'n [Id], map: &mut Map<'n>) -> Result<(), String> {
        for pair in items.chunks_exact(2) {
            let [key, value] = pair else { continue };
            if is_merge(self.node(*key)?) {
                self.merge(*value, map)?;
                continue;
            }
            let key = self.key(*key)?;
            let line = self.node(*value)?.line;
            let value = self.value(*value)?;
            match map.places.get(&key).and_then(|at| map.entries.get_mut(*at)) {
                Some((_, earlier)) => {
                    self.twice.push(format!("line {line}: key {} already set in map", shown(&key)));
                    *earlier = value;
                }
                None => {
                    map.places.insert(key.clone(), map.entries.len());
                    map.entries.push((key, value));
                }
            }
        }
        Ok(())
    }

    /// `<<`: the entries of another map, or of several, the first of which counts most.
    fn merge(&mut self, id: Id, map: &mut Map<'n>) -> Result<(), String> {
        const WANTED: &str = "map merge requires map or sequence of maps as the value";
        let parts: Vec<Id> = match &self.node(id)?.content {
            Content::List(items) => items.iter().rev().copied().collect(),
            Content::Map(_) | Content::Alias(_) => vec![id],
            Content::Scalar { .. } => return Err(WANTED.to_owned()),
        };
        for part in parts {
            self.read += 1;
            if self.read > NODES_LIMIT {
                return Err("document contains excessive aliasing".to_owned());
            }
            match &self.node(part)?.content {
                Content::Map(items) => self.fill(items, map)?,
                Content::Alias(target) => match &self.node(*target)?.content {
                    Content::Map(items) => self.follow(part, |reader| reader.fill(items, map))?,
                    Content::Scalar { .. } | Content::List(_) | Content::Alias(_) => return Err(WANTED.to_owned()),
                },
                Content::Scalar { .. } | Content::List(_) => return Err(WANTED.to_owned()),
            }
        }
        Ok(())
    }

    fn key(&mut self, id: Id) -> Result<Key<'n>, String> {
        match &self.node(id)?.content {
            Content::Scalar { text, tag, implicit } => Ok(match scalar(text, tag.as_deref(), *implicit)? {
                Scalar::Null => Key::Null,
                Scalar::Bool(value) => Key::Bool(value),
                Scalar::Int(value) => Key::Int(value),
                Scalar::Float(value) => Key::Float(value.to_bits()),
                Scalar::Text(text) => Key::Text(text),
                Scalar::Decoded(_) => return Err("binary map key".to_owned()),
            }),
            Content::Alias(target) => self.follow(id, |reader| reader.key(*target)),
            Content::List(_) | Content::Map(_) => Err("invalid map key: a map or a list".to_owned()),
        }
    }
}

fn too_deep() -> String {
    format!("exceeded max depth of {DEPTH_LIMIT}")
}

fn is_merge(node: &Node) -> bool {
    matches!(&node.content, Content::Scalar { text, tag, implicit }
        if text == "<<" && (*implicit || tag.as_deref().and_then(|tag| tag.strip_prefix(TAG_PREFIX)) == Some("merge")))
}

fn scalar<'n>(text: &'n str, tag: Option<&str>, implicit: bool) -> Result<Scalar<'n>, String> {
    match tag {
        None if !implicit => Ok(Scalar::Text(text)),
        None => Ok(resolve(text)),
        Some(tag) => super::yaml_scalar::tagged(text, tag.strip_prefix(TAG_PREFIX).unwrap_or(tag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<String, String> {
        to_json(text.as_bytes()).map(|converted| String::from_utf8(converted.json).unwrap())
    }

    fn twice(text: &str) -> Option<String> {
        to_json(text.as_bytes()).unwrap().duplicates
    }

    #[test]
    fn values_are_those_of_yaml_1_1_and_names_are_sorted() {
        for (text, want) in [
            (
                "b: yes\na: 'yes'\nc: 0x1f\nd: 2001-12-14\ne:\n",
                r#"{"a":"yes","b":true,"c":31,"d":"2001-12-14","e":null}"#,
            ),
            ("- ! 12\n- !!str 12\n- !x 12\n- !!float 1\n", r#"["12","12","12",1e0]"#),
            ("1: a\ntrue: b\n1.5: c\n", r#"{"1":"a","1.5":"c","true":"b"}"#),
            ("a: &x {k: v}\nb: *x\n", r#"{"a":{"k":"v"},"b":{"k":"v"}}"#),
            ("a: {k: 1, l: 3}\nb: {k: 1, <<: {k: 2, m: 4}}\n", r#"{"a":{"k":1,"l":3},"b":{"k":2,"m":4}}"#),
            ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", r#"{"a":"x\ny\n","b":"x y"}"#),
            ("a: |\n  b\n  \tc\nd: |1\n \te\n", r#"{"a":"b\n\tc\n","d":"\te\n"}"#),
            ("a: 1\n---\n][ not read\n", r#"{"a":1}"#),
            ("\u{feff}a: !!binary aGk=\n", r#"{"a":"hi"}"#),
            ("# nothing\n", "null"),
        ] {
            assert_eq!(json(text).as_deref(), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn keys_that_occur_twice_are_reported_and_the_last_counts() {
        let text = "a: 1\nb: {c: 1,\n  c: 2}\na:\n  3\nyes: 1\ntrue: 2\n";
        assert_eq!(json(text).unwrap(), r#"{"a":3,"b":{"c":2},"true":2}"#);
        assert_eq!(
            twice(text).as_deref(),
            Some(
                "yaml: unmarshal errors:\n  line 3: key \"c\" already set in map\n  line 5: key \"a\" already set in map\n  line 7: key true already set in map"
            )
        );
        assert_eq!(twice("a: 1\nb: 1\n"), None);
        for (text, line) in [
            ("a: \"x\u{2028}\"\nb: 1\nb: 2\n", "line 4: "),
            ("a: 1\na: |\n  x\n  y\n", "line 2: "),
            ("a: 1\na: >-  # why\n\n\n  x\n", "line 2: "),
        ] {
            let said = twice(text).unwrap();
            assert!(said.contains(line), "{text:?}: {said}");
        }
    }

    #[test]
    fn what_cannot_be_json_is_refused() {
        for (text, want) in [
            ("a: .nan", "json: unsupported value: NaN"),
            ("a: -.inf", "json: unsupported value: -Inf"),
            ("~: 1", "unsupported map key"),
            ("9223372036854775808: 1", "unsupported map key of type: uint64, key: 0x8000000000000000"),
            ("[a]: 1", "yaml: invalid map key"),
            ("a: *x", "yaml: line 1: "),
            ("a: &x [*x]", "contains itself"),
            ("<<: 1", "map merge requires map"),
            ("a: !!int x", "yaml: cannot decode !!str `x` as a !!int"),
            ("a: !!binary '%'", "!!binary value contains invalid base64 data"),
            ("a: \u{1}", "yaml: control characters are not allowed"),
            ("a:\n- \tb\n", "yaml: line 2: found character that cannot start any token"),
            ("a:\n  \tb: c\n", "yaml: line 2: found character that cannot start any token"),
            ("a:\n\t{b: c}\n", "yaml: line 2: "),
            ("- ? a\n  : \tb\n", "yaml: line 2: found character that cannot start any token"),
            ("? a\n:\t'b'\n", "yaml: line 2: found character that cannot start any token"),
            ("a: >\n \tb\n", "found a tab character where an indentation space is expected"),
            ("a: |- # x | y\n\n  \n   \tb\n", "found a tab character where an indentation space is expected"),
            ("a: b: c", "yaml: line 1: "),
            ("a: &'b c", "yaml: line 1: did not find expected alphabetic or numeric character"),
        ] {
            let error = json(text).expect_err(text);
            assert!(error.contains(want), "{text:?}: {error}");
        }
        assert_eq!(to_json(b"a: \xff").unwrap_err(), "yaml: invalid UTF-8");
    }

    #[test]
    fn scalars_in_collections_end_where_libyaml_ends_them() {
        for (text, want) in [
            ("{?a: b}", r#"{"a":"b"}"#),
            ("[?a]", r#"[{"a":null}]"#),
            ("[a:]", r#"["a:"]"#),
            ("[a:,b]", r#"["a:","b"]"#),
            ("[a :]", r#"["a :"]"#),
            ("{?\"a\": b}", r#"{"a":"b"}"#),
            ("{x: [?'a': 1, ?b]}", r#"{"x":[{"a":1},{"b":null}]}"#),
            ("{?#c\n a: b}", r#"{"a":"b"}"#),
            ("{a::,b: c}", r#"{"a::":null,"b":"c"}"#),
            ("{a: 1, ?b: 2}", r#"{"a":1,"b":2}"#),
            ("{12:,a: b}", r#"{"12:":null,"a":"b"}"#),
            ("{a:}", r#"{"a:":null}"#),
            ("{'a':{b: c}}", r#"{"a":{"b":"c"}}"#),
            ("[?!!str 1 : 2]", r#"[{"1":2}]"#),
            ("a: b?c", r#"{"a":"b?c"}"#),
            ("- ?a", r#"["?a"]"#),
        ] {
            assert_eq!(json(text).as_deref(), Ok(want), "{text:?}");
        }
        for text in [
            "{a:{b: c}}",
            "[a?]",
            "[a b?c]",
            "{?}",
            "[:a]",
            "{? :a}",
            "{:a}",
            "{??a: b}",
            "{a: ?b}",
            "{a: :b}",
            "{a: {b?: c}}",
        ] {
            assert!(json(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_of_anchors_and_comments_end_and_begin_where_libyaml_has_it() {
        for (text, want) in [
            ("['a']# why", r#"["a"]"#),
            ("a: \"é#\"#", r#"{"a":"é#"}"#),
            ("a: 'x'#c\nb: 1", r#"{"a":"x","b":1}"#),
            ("{a: [b]#c\n}", r#"{"a":["b"]}"#),
            ("[#c\n'a',#c\n]#c", r#"["a"]"#),
            ("? 'a'#c\n: b", r#"{"a":"b"}"#),
            ("a: |#c\n  d", r#"{"a":"d"}"#),
            ("a: >-#c\n  d", r#"{"a":"d"}"#),
            ("a: &ttps://a", r#"{"a":"://a"}"#),
            ("a: &x:y", r#"{"a":":y"}"#),
            ("a: &x?y", r#"{"a":"?y"}"#),
            ("- &a:b", r#"[":b"]"#),
            ("&a:b: c", r#"{":b":"c"}"#),
            ("x: z\n&a:b: c", r#"{":b":"c","x":"z"}"#),
            ("x: z\n!!str &a:b: c", r#"{":b":"c","x":"z"}"#),
            ("x: z\n# c\n&a:[: c", r#"{":[":"c","x":"z"}"#),
            ("- x\n- &a:{- }", r#"["x",":{- }"]"#),
            ("a: &b c\n*b: d", r#"{"a":"c","c":"d"}"#),
            ("a: &b c\n*b : d\ne: f", r#"{"a":"c","c":"d","e":"f"}"#),
            ("a: &b c\n? *b\n: d", r#"{"a":"c","c":"d"}"#),
            ("a: &b c\nd: {*b: e}", r#"{"a":"c","d":{"c":"e"}}"#),
            ("a: &b c\nd: [*b: e, *b,*b]", r#"{"a":"c","d":[{"c":"e"},"c","c"]}"#),
            ("a: &b c\nd: [*b:e, *b :'f', *b :[g]]", r#"{"a":"c","d":[{"c":"e"},{"c":"f"},{"c":["g"]}]}"#),
            ("- &b c\n- {*b :[d]}", r#"["c",{"c":["d"]}]"#),
            ("a: &b c\nd: {*b:e}", r#"{"a":"c","d":{"c":"e"}}"#),
            ("&a a: &b b\n*b: *a", r#"{"a":"b","b":"a"}"#),
            ("a: &b 1\n*b: d", r#"{"1":"d","a":1}"#),
            ("a: &b\n  c\nd: *b", r#"{"a":"c","d":"c"}"#),
            ("a: &b-c_D9 d\ne: *b-c_D9", r#"{"a":"d","e":"d"}"#),
        ] {
            assert_eq!(json(text).as_deref(), Ok(want), "{text:?}");
        }
        const NAME: &str = "did not find expected alphabetic or numeric character";
        for (text, want) in [
            ("a: &b#c\n  d", NAME),
            ("a: &b c\nd: *b#c", NAME),
            ("a: &x/y", NAME),
            ("a: &é", NAME),
            ("a: &x!!str y", NAME),
            ("a: &x \"y\"\nb: *x\"", NAME),
            ("%YAML 1.1#c\n---\na: b", "yaml: line 1: "),
            ("a: !!str#c\n  d", "did not find expected whitespace or line break"),
            ("a: !!map#c {}", "did not find expected whitespace or line break"),
            ("- [!x, b]", "yaml: line 1: did not find expected whitespace or line break"),
            ("- &b c\n- {*b\n  : d}", "yaml: line 2: did not find expected ',' or '}'"),
            ("{a: b, c: !x}", "did not find expected whitespace or line break"),
            ("a: &x: y", "yaml: line 1: "),
            ("a: &x,y", "yaml: line 1: "),
            ("a: &x%y", "yaml: line 1: "),
            ("a: &x@y", "yaml: line 1: "),
            ("a: &x y\nb: *x:z", "yaml: line 2: "),
            ("a: &x y\nb: *x?", "yaml: line 2: "),
            ("a: &x y\n*x:z", "yaml: line 2: "),
            ("a: b\nc: [*b: d]", "yaml: line 2: unknown anchor 'b' referenced"),
            ("[&a:b]", "unsupported map key"),
            ("{&a:b: c}", "yaml: line 1: "),
            ("a: &b [x]\n*b: d", "yaml: invalid map key"),
        ] {
            let error = json(text).expect_err(text);
            assert!(error.contains(want), "{text:?}: {error}");
        }
        assert_eq!(
            twice("a: &b c\n*b: d\nc: e").as_deref(),
            Some("yaml: unmarshal errors:\n  line 3: key \"c\" already set in map")
        );
    }

    #[test]
    fn what_ends_a_line_in_yaml_1_1_alone_is_no_text_outside_of_quotes() {
        for text in ["a: \"x\u{2028}y\"", "a: 'x\u{2029}\u{2028}y'", "a: \"x\\u2028 y\\u0085\"", "a: \"x\u{2028}\""] {
            json(text).unwrap();
        }
        for odd in yaml_refused::ODD_BREAKS {
            for text in [
                "a: b\n# only staff:Xc: d\n",
                "a: bXc\n",
                "a: |\n  bX  c\n",
                "a: bX",
                "a: \"b X c\"",
                "a: \"bX\n c\"",
                "a: \"bX---\"",
            ] {
                let text = text.replace('X', &odd.to_string());
                let error = json(&text).expect_err(&text);
                assert!(error.contains(" ends a line in kube-apiserver's YAML"), "{text:?}: {error}");
            }
            // Our parser has words of its own for these.
            for text in ["a: \"b\"Xc: d", "{a: b}Xc", "a: bXc: d\n"] {
                let text = text.replace('X', &odd.to_string());
                json(&text).expect_err(&text);
            }
        }
        let error = json("a: b\n#\u{2028}c: \"x\"\n").unwrap_err();
        assert_eq!(
            error,
            "yaml: line 2: U+2028 ends a line in kube-apiserver's YAML; write it in double quotes, as \\u2028"
        );
        assert!(json("a: \"x\u{85}y\"").is_err(), "there it is a blank");
        for (text, want) in [
            ("a: \"https:\\/\\/x\"", "yaml: line 1: found unknown escape character"),
            ("b: 1\na: \"\\ud83d\\ude00\"", "yaml: line 2: found invalid Unicode character escape code"),
            ("%YAML 1.2\n---\na: b", "yaml: line 1: found incompatible YAML document"),
            ("%ANY x\n---\na: b", "yaml: line 1: found unknown directive name"),
            ("a: \"x\u{2028}y\"\nb: \"\\/\"", "yaml: line 3: found unknown escape character"),
        ] {
            assert_eq!(json(text).unwrap_err(), want, "{text:?}");
        }
    }

    #[test]
    fn each_limit_is_enforced() {
        let marks = |many: usize| format!("[{}]", "?a,".repeat(many));
        assert!(json(&marks(REWRITES_LIMIT)).is_ok());
        assert!(json(&marks(REWRITES_LIMIT + 1)).is_err());
        let comments = |many: usize| "- 'a'#c\n".repeat(many);
        assert!(json(&comments(REWRITES_LIMIT)).is_ok());
        assert!(json(&comments(REWRITES_LIMIT + 1)).is_err());
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(json(&deep(DEPTH_LIMIT)).is_ok());
        assert!(json(&deep(DEPTH_LIMIT + 1)).is_err());
        // Aliases lead as deep as if what they stand for were written out.
        let aliases = |more: usize| {
            let half = |inner: &str| format!("{}{inner}{}", "[".repeat(49), "]".repeat(49));
            format!("a: &a {}\nb: &b {}\nc: {}*b{}\n", half("1"), half("*a"), "[".repeat(more), "]".repeat(more))
        };
        assert!(json(&aliases(1)).is_ok());
        assert!(json(&aliases(2)).unwrap_err().contains("exceeded max depth of 100"));
        let merges = |levels: usize| {
            let more = (1..levels).map(|level| format!("a{level}: &a{level} {{<<: *a{}}}\n", level - 1));
            format!("a0: &a0 {{k: v}}\n{}", more.collect::<String>())
        };
        assert!(json(&merges(DEPTH_LIMIT - 1)).is_ok());
        assert!(json(&merges(DEPTH_LIMIT)).unwrap_err().contains("exceeded max depth of 100"));
        // As many as there may be nodes do not exhaust the stack.
        assert!(json(&merges(NODES_LIMIT / 4)).is_err());
        let wide = |values: usize| format!("[{}1]", "1,".repeat(values - 2));
        assert!(json(&wide(NODES_LIMIT)).is_ok());
        assert!(json(&wide(NODES_LIMIT + 1)).is_err());
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..7 {
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(",")));
        }
        assert!(json(&bomb).unwrap_err().contains("excessive aliasing"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(40));
        assert!(json(&long).unwrap_err().contains("excessive aliasing"));
        let merges = format!("a: &a {{k: v}}\nb: {{{}}}\n", "<<: *a,".repeat(1_000));
        assert!(json(&merges).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_comes_out_is_json(text in "[a-z:\\-\\[\\]{}&*!|>'\"#%@`\\\\<? \n\t,~0-9é]{0,200}") {
            if let Ok(converted) = to_json(text.as_bytes()) {
                proptest::prop_assert!(super::super::json::parse(&converted.json).is_ok());
            }
        }
    }
}
