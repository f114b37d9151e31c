//! What is wrong or odd in a configuration file, and where.

use std::fmt;
use std::sync::Arc;

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name as the user gave it.
    pub file: Arc<str>,
    /// The line, counted from 1; `None` for something that is missing or that was set by a program.
    pub line: Option<u32>,
    /// The key's path, such as `staticPasswords[0].hash`; empty for the whole file.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        Ok(())
    }
}

/// What kind of problem it is, for programs that can mend one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProblemKind {
    /// The file is not readable as YAML, or over a limit.
    Syntax,
    /// A key that nobody knows, under Dex's strict switch or in our own section.
    UnknownKey,
    /// A value of the wrong type.
    Type,
    /// One of the messages that Dex collects into its `invalid Config:` block.
    Block,
    /// A value that is not valid.
    Value,
    /// Valid for Dex, but not served by this version.
    Unsupported,
    /// The hash is the one that the guide prints for its demo user, which does not belong to the guide's password.
    GuideHash {
        /// Index into `staticPasswords`.
        password: usize,
    },
}

/// A reason why the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem.
    pub kind: ProblemKind,
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Something odd that does not stop the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where it is.
    pub place: Place,
    /// What is odd, and what is done about it.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that is wrong with a configuration, all at once.
///
/// `Display` is the error text: first Dex's `invalid Config:` block, then one line for each other problem.
/// [`ConfigErrors::hints`] says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", render(.0))]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    /// The problems, in the order in which they were found. Never empty.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }

    /// What the user can do, without repetitions.
    #[must_use]
    pub fn hints(&self) -> Vec<&str> {
        let mut hints: Vec<&str> = Vec::new();
        for hint in self.0.iter().filter_map(|p| p.hint.as_deref()) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        hints
    }

    /// An error when there is any problem.
    pub(crate) fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }
}

impl From<Problem> for ConfigErrors {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

fn render(problems: &[Problem]) -> String {
    let mut out = String::new();
    let mut block = problems.iter().filter(|p| p.kind == ProblemKind::Block).peekable();
    if block.peek().is_some() {
        out.push_str("invalid Config:");
        for problem in block {
            out.push_str("\n\t-\t");
            out.push_str(&problem.message);
        }
    }
    for problem in problems.iter().filter(|p| p.kind != ProblemKind::Block) {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&problem.to_string());
    }
    out
}
