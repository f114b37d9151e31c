//! The text of an expression, places in it, and what is wrong at them.
//!
//! Compat: cel-go `common/source.go` and `common/error.go` 0.29.2: lines count from 1, columns from 0 in code points, and
//! an error is shown with its line and a caret below.

use std::fmt;
use std::sync::Arc;

/// Errors that are kept; the rest are only counted.
const MAX_ISSUES: usize = 100;

/// Longest line, in bytes, that is shown below an error.
const MAX_SNIPPET_BYTES: usize = 16_384;

/// A place in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The line, from 1; −1 where an error belongs to no place.
    pub line: i32,
    /// The column in code points, from 0; −1 where an error belongs to no place.
    pub column: i32,
}

impl Location {
    /// For errors about the expression as a whole.
    pub(crate) const NONE: Self = Self { line: -1, column: -1 };
}

/// The text by code points, with the offsets at which lines start.
#[derive(Debug)]
pub(crate) struct Source {
    chars: Vec<char>,
    /// Where the second and later lines start, and one past the end.
    line_starts: Vec<usize>,
}

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut line_starts: Vec<usize> =
            chars.iter().enumerate().filter(|(_, c)| **c == '\n').map(|(at, _)| at + 1).collect();
        line_starts.push(chars.len() + 1);
        Self { chars, line_starts }
    }

    pub(crate) fn chars(&self) -> &[char] {
        &self.chars
    }

    pub(crate) fn text(&self, start: usize, end: usize) -> String {
        self.chars.get(start..end.min(self.chars.len())).unwrap_or_default().iter().collect()
    }

    pub(crate) fn location(&self, offset: usize) -> Location {
        let line = self.line_starts.iter().take_while(|start| **start <= offset).count();
        let start = if line == 0 { 0 } else { self.line_starts.get(line - 1).copied().unwrap_or_default() };
        Location { line: to_i32(line + 1), column: to_i32(offset - start) }
    }

    fn line(&self, line: i32) -> Option<String> {
        let line = usize::try_from(line).ok().filter(|line| *line >= 1)?;
        if self.chars.is_empty() || line > self.line_starts.len() {
            return None;
        }
        let start = if line == 1 { 0 } else { *self.line_starts.get(line - 2)? };
        let end = *self.line_starts.get(line - 1)? - 1;
        Some(self.text(start, end))
    }
}

fn to_i32(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// One thing that is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Where.
    pub location: Location,
    /// What, in cel-go's words.
    pub message: String,
    /// What to write instead, where that can be told.
    pub hint: Option<String>,
}

/// Why an expression does not compile. Its text is the one that kube-apiserver 1.37 prints after `compilation failed: `.
#[derive(Debug, Clone)]
pub struct Issues {
    source: Arc<Source>,
    reported: Vec<Issue>,
    count: usize,
    instantiation: Option<String>,
}

impl Issues {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self { source, reported: Vec::new(), count: 0, instantiation: None }
    }

    pub(crate) fn report(&mut self, location: Location, message: String) {
        self.report_with(location, message, None);
    }

    pub(crate) fn report_with(&mut self, location: Location, message: String, hint: Option<String>) {
        self.count += 1;
        if self.count <= MAX_ISSUES {
            self.reported.push(Issue { location, message, hint });
        }
    }

    /// What the expression's types allow, but its constants do not: `int('x')`, `'a'.find('[')`.
    pub(crate) fn instantiation(source: Arc<Source>, message: String) -> Self {
        let mut issues = Self::new(source);
        issues.report(Location::NONE, message.clone());
        issues.instantiation = Some(message);
        issues
    }

    /// Upstream does not read such an expression at all, and shows no line of it.
    pub(crate) fn oversized(size: usize, limit: usize) -> Self {
        let mut issues = Self::new(Arc::new(Source::new("")));
        let message = format!("expression code point size exceeds limit: size: {size}, limit {limit}");
        issues.report(Location::NONE, message);
        issues
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The issues in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.reported.iter()
    }

    /// Set if the types are right and preparing the program failed: kube-apiserver writes `program instantiation failed: `
    /// and this text, instead of `compilation failed: ` and the list.
    pub fn instantiation_failure(&self) -> Option<&str> {
        self.instantiation.as_deref()
    }

    /// The hints of all issues, without repetition, in the order of the issues.
    pub fn hints(&self) -> Vec<&str> {
        let mut hints: Vec<&str> = Vec::new();
        for hint in self.reported.iter().filter_map(|issue| issue.hint.as_deref()) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        hints
    }

    fn write_issue(&self, f: &mut fmt::Formatter<'_>, issue: &Issue) -> fmt::Result {
        let Location { line, column } = issue.location;
        write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
        let Some(text) = self.source.line(line).filter(|text| text.len() <= MAX_SNIPPET_BYTES) else {
            return Ok(());
        };
        write!(f, "\n | {}\n | ", text.replace('\t', " "))?;
        let mut chars = text.chars();
        for _ in 0..column.max(0) {
            match chars.next() {
                Some(c) if c.len_utf8() > 1 => f.write_str("\u{ff0e}")?,
                Some(_) => f.write_str(".")?,
                None => break,
            }
        }
        f.write_str(if chars.next().is_some_and(|c| c.len_utf8() > 1) { "\u{ff3e}" } else { "^" })
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.instantiation {
            return f.write_str(text);
        }
        let mut sorted: Vec<&Issue> = self.reported.iter().collect();
        sorted.sort_by_key(|issue| issue.location);
        for (index, issue) in sorted.into_iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            self.write_issue(f, issue)?;
        }
        if self.count > MAX_ISSUES {
            write!(f, "\n{} more errors were truncated", self.count - MAX_ISSUES)?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}
