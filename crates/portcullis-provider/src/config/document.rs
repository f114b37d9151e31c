//! A YAML or JSON document whose every value knows its line.
//!
//! The flow: bytes → limits → YAML events → a tree with aliases and merge keys resolved → [`Section`]s that the readers
//! walk. It must never hold more than the limits below allow, whatever the aliases say.

use std::sync::Arc;

use granit_parser::Parser;

use super::problem::{ConfigErrors, Place, Problem, ProblemKind, Warning};
use super::scalar::Scalar;
use super::tree::{Builder, Progress};

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Deepest nesting of maps and lists.
pub const MAX_DEPTH: usize = 64;
/// Most values in one document, after aliases are resolved.
pub const MAX_NODES: usize = 100_000;

/// A value and the line where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) value: Value,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u32,
    pub(crate) value: Node,
}

impl Value {
    /// The value's kind in words, for messages. Never the value itself: it may be a secret.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(Scalar::Null) => "nothing",
            Self::Scalar(Scalar::Bool(_)) => "a boolean",
            Self::Scalar(Scalar::Int(_) | Scalar::Float(_)) => "a number",
            Self::Scalar(Scalar::Str(_)) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// A parsed configuration file.
#[derive(Debug, Clone)]
pub struct Document {
    file: Arc<str>,
    root: Node,
    warnings: Vec<Warning>,
}

impl Document {
    /// Reads `text`, the content of the file that the user calls `file_name`.
    ///
    /// # Errors
    /// The text is over a limit, or no YAML.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigErrors> {
        let file: Arc<str> = file_name.into();
        let problem = |line: Option<u32>, message: String, hint: &str| {
            ConfigErrors::from(Problem {
                kind: ProblemKind::Syntax,
                place: Place { file: file.clone(), line, path: String::new() },
                message,
                hint: (!hint.is_empty()).then(|| hint.to_owned()),
            })
        };
        if text.len() > MAX_FILE_BYTES {
            return Err(problem(
                None,
                format!("the file has more than {MAX_FILE_BYTES} bytes"),
                "is this the right file?",
            ));
        }
        let mut builder = Builder::default();
        for step in Parser::new_from_str(text) {
            let (event, span) = step.map_err(|error| {
                let line = u32::try_from(error.marker().line()).ok();
                let hint = if text.lines().any(|l| l.starts_with('\t')) {
                    "YAML is indented with spaces, not with tabs"
                } else {
                    ""
                };
                problem(line, format!("error parse config file {file}: {}", error.info()), hint)
            })?;
            let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
            match builder.event(event, line) {
                Ok(Progress::More) => {}
                Ok(Progress::Done) => break,
                Err(message) => {
                    return Err(problem(Some(line), format!("error parse config file {file}: {message}"), ""));
                }
            }
        }
        let mut warnings = Vec::new();
        if builder.more_documents {
            warnings.push(Warning {
                place: Place { file: file.clone(), line: None, path: String::new() },
                message: "the file holds several documents; only the first is read".to_owned(),
                hint: None,
            });
        }
        let root = builder.root.unwrap_or(Node { line: 1, value: Value::Scalar(Scalar::Null) });
        Ok(Self { file, root, warnings })
    }

    /// The whole document.
    #[must_use]
    pub const fn root(&self) -> Section<'_> {
        Section { document: self, path: String::new(), node: &self.root }
    }

    /// The value under a path of map keys (matched exactly), such as `["dex", "config"]`.
    #[must_use]
    pub fn section(&self, path: &[&str]) -> Option<Section<'_>> {
        path.iter().try_fold(self.root(), |section, key| section.get(key))
    }

    /// What is odd about the document itself.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    pub(crate) const fn file(&self) -> &Arc<str> {
        &self.file
    }
}

/// A part of a [`Document`].
#[derive(Debug, Clone)]
pub struct Section<'a> {
    document: &'a Document,
    path: String,
    node: &'a Node,
}

impl<'a> Section<'a> {
    /// The value under `key`, matched exactly.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &self.node.value else { return None };
        let entry = entries.iter().rev().find(|entry| entry.key == key)?;
        Some(Self { document: self.document, path: join(&self.path, key), node: &entry.value })
    }

    /// The keys of a map, in the file's order; nothing for anything else.
    #[must_use]
    pub fn keys(&self) -> Vec<&'a str> {
        match &self.node.value {
            Value::Map(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            Value::Scalar(_) | Value::List(_) => Vec::new(),
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(Scalar::Str(text)) => Some(text),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The line where the value starts.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.node.line
    }

    /// The path from the document's root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(crate) const fn file(&self) -> &'a Arc<str> {
        self.document.file()
    }

    pub(crate) const fn node(&self) -> &'a Node {
        self.node
    }
}

/// `parent.key`, or `key` at the root.
pub(crate) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Document {
        Document::parse(text, "c.yaml").unwrap()
    }

    #[test]
    fn values_know_their_lines_and_paths() {
        let doc = parse("# note\ndex:\n  config:\n    issuer: 'http://x'\n    list: [a,\n      b]\n");
        let issuer = doc.section(&["dex", "config", "issuer"]).unwrap();
        assert_eq!((issuer.as_str(), issuer.line(), issuer.path()), (Some("http://x"), 4, "dex.config.issuer"));
        assert_eq!(doc.section(&["dex", "config"]).unwrap().keys(), ["issuer", "list"]);
        assert!(doc.section(&["dex", "nothing"]).is_none());
    }

    #[test]
    fn json_is_read_too() {
        let doc = parse("{\"issuer\": \"http://x\", \"n\": {\"deep\": true}}");
        assert_eq!(doc.section(&["issuer"]).unwrap().as_str(), Some("http://x"));
        assert_eq!(doc.section(&["n"]).unwrap().keys(), ["deep"]);
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved() {
        let doc = parse("base: &b {a: x, b: w}\nuse:\n  <<: *b\n  a: z\ncopy: *b\n");
        assert_eq!(doc.section(&["use", "a"]).unwrap().as_str(), Some("z"));
        assert_eq!(doc.section(&["use", "b"]).unwrap().as_str(), Some("w"));
        assert_eq!(doc.section(&["copy", "a"]).unwrap().as_str(), Some("x"));
    }

    #[test]
    fn only_the_first_document_counts_and_that_is_said() {
        let doc = parse("a: one\n---\na: two\n");
        assert_eq!(doc.section(&["a"]).unwrap().as_str(), Some("one"));
        assert_eq!(doc.warnings().len(), 1);
        assert!(parse("--- \na: one\n").warnings().is_empty());
    }

    #[test]
    fn an_empty_file_is_an_empty_document() {
        for text in ["", "\n", "# nothing\n", "---\n", "~"] {
            assert!(parse(text).root().keys().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn limits_hold() {
        let big = "#".repeat(MAX_FILE_BYTES + 1);
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        let deepest = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..9 {
            let items = vec![format!("*a{}", i - 1); 10].join(",");
            laughs.push_str(&format!("a{i}: &a{i} [{items}]\n"));
        }
        let wide = format!("[{}]", "x,".repeat(MAX_NODES + 1));
        let text_bomb = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(100));
        for (name, text) in [("text", text_bomb), ("size", big), ("depth", deep), ("aliases", laughs), ("nodes", wide)]
        {
            let error = Document::parse(&text, "c.yaml").unwrap_err();
            assert_eq!(error.problems()[0].kind, ProblemKind::Syntax, "{name}");
        }
        parse(&deepest);
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_line() {
        for (text, line) in [
            ("x: 1\na: [1,\nb: }", 2),
            ("a: b: c", 1),
            ("ok: 1\n\tx: 2", 1),
            ("a: *nope", 1),
            ("? [a]\n: b", 1),
            ("a: {<<: 1}", 1),
            ("a: \"\\q\"", 1),
        ] {
            let error = Document::parse(text, "c.yaml").unwrap_err();
            assert_eq!(error.problems()[0].place.line, Some(line), "{text:?}: {error}");
            assert!(error.to_string().starts_with("c.yaml:"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z:\\-\\[\\]{}&*!|>'\"#%@`\\\\<? \n\t,~0-9é]{0,200}") {
            let _ = Document::parse(&text, "c.yaml");
        }
    }
}
