//! Regular expressions.
//!
//! Compat: Go's `regexp` (RE2), as `matches` in cel-go 0.29.2 and `find` and `findAll` in
//! `k8s.io/apiserver/pkg/cel/library/regex.go` 0.37.2 use it. A pattern is read as Go reads it, with Go's words for what is
//! wrong in it, and written again for the `regex` crate ([`super::regex_syntax`]).

use std::cell::Cell;

use regex::{Regex, RegexBuilder};

use super::regex_syntax;
use crate::error::EvalError;
use crate::ops::Evaluated;
use crate::value::{List, Value};

/// Memory that a compiled pattern may take, in bytes. Upstream has no such limit; its patterns are small.
const SIZE_LIMIT: usize = 4 << 20;

/// Memory that the constant patterns of an expression may take together, in bytes.
const PATTERNS: usize = 16 << 20;

/// What a pattern is counted as, in bytes: the first of these that it fits into.
const SIZES: [usize; 3] = [16 << 10, 256 << 10, SIZE_LIMIT];

/// Why a constant pattern was not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatternError {
    /// It is none, or too large by itself.
    #[error("{0}")]
    Pattern(String),
    /// Those before it have left too little.
    #[error("the regular expressions of the expression are too large: limit {PATTERNS} bytes")]
    Together,
}

/// Compiles the constant patterns of one expression.
pub(crate) struct Patterns {
    /// Bytes that they may still take.
    left: Cell<usize>,
}

impl Patterns {
    pub(crate) const fn new() -> Self {
        Self { left: Cell::new(PATTERNS) }
    }

    pub(crate) fn compile(&self, pattern: &str) -> Result<Pattern, PatternError> {
        let translated = translate(pattern).map_err(PatternError::Pattern)?;
        for size in SIZES {
            let left = self.left.get().checked_sub(size).ok_or(PatternError::Together)?;
            if let Ok(compiled) = build(&translated, size) {
                self.left.set(left);
                return Ok(Pattern(compiled));
            }
        }
        Err(PatternError::Pattern(TOO_LARGE.to_owned()))
    }
}

const TOO_LARGE: &str = "error parsing regexp: expression too large";

fn translate(pattern: &str) -> Result<String, String> {
    regex_syntax::translate(pattern).map_err(|error| format!("error parsing regexp: {error}"))
}

/// Fails where the pattern needs more than `size` bytes: that it is one at all, [`translate`] has seen.
fn build(translated: &str, size: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(translated).size_limit(size).build()
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Compiles `pattern`, or says in Go's words why it cannot be.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        build(&translate(pattern)?, SIZE_LIMIT).map(Self).map_err(|_| TOO_LARGE.to_owned())
    }

    /// What a call of `function` with this pattern, known beforehand, makes of its arguments.
    pub(crate) fn apply(&self, function: &str, args: &[Value]) -> Evaluated {
        match (function, args) {
            ("matches", [Value::String(text), _]) => Ok(Value::Bool(self.0.is_match(text))),
            ("find", [Value::String(text), _]) => Ok(self.find(text)),
            ("findAll", [Value::String(text), _]) => Ok(self.find_all(text, None)),
            ("findAll", [Value::String(text), _, Value::Int(limit)]) => {
                Ok(self.find_all(text, usize::try_from(*limit).ok()))
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn find(&self, text: &str) -> Value {
        Value::from(self.0.find(text).map_or("", |found| found.as_str()))
    }

    fn find_all(&self, text: &str, limit: Option<usize>) -> Value {
        let found = self.0.find_iter(text).map(|found| found.as_str()).take(limit.unwrap_or(usize::MAX));
        Value::List(List::made_of_strings(found))
    }
}

pub(super) fn matches(text: &Value, pattern: &Value) -> Evaluated {
    let (Value::String(text), Value::String(pattern)) = (text, pattern) else {
        return Err(EvalError::no_such_overload());
    };
    Ok(Value::Bool(Pattern::new(pattern).map_err(EvalError::new)?.0.is_match(text)))
}

fn dynamic(pattern: &Value) -> Result<Pattern, EvalError> {
    match pattern {
        Value::String(pattern) => {
            Pattern::new(pattern).map_err(|error| EvalError::new(format!("Illegal regex: {error}")))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

pub(super) fn find(text: &Value, pattern: &Value) -> Evaluated {
    dynamic(pattern)?.apply("find", &[text.clone(), pattern.clone()])
}

pub(super) fn find_all(args: &[Value]) -> Evaluated {
    match args.get(1) {
        Some(pattern) => dynamic(pattern)?.apply("findAll", args),
        None => Err(EvalError::no_such_overload()),
    }
}
