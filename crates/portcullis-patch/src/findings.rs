//! Members that a strict reader objects to, in upstream's words: `duplicate field "metadata.labels.a"`.
//!
//! Compat: `sigs.k8s.io/json` keeps the first hundred, each once.

use std::collections::HashSet;

use crate::go;
use crate::limits::MAX_FINDINGS;

/// A step on the way to a value.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Member(String),
    Element(usize),
}

/// What was found, with the way to where the reader stands.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) path: Vec<Step>,
    found: Vec<(&'static str, String)>,
    seen: HashSet<(&'static str, String)>,
}

impl Findings {
    /// The member `name` of the object at the current place stands there twice.
    pub(crate) fn duplicate(&mut self, name: &str) {
        self.add("duplicate field", name);
    }

    /// Nothing reads the member `name` of the object at the current place.
    pub(crate) fn unknown(&mut self, name: &str) {
        self.add("unknown field", name);
    }

    fn add(&mut self, what: &'static str, name: &str) {
        if self.found.len() >= MAX_FINDINGS {
            return;
        }
        let finding = (what, self.path_of(name));
        if self.seen.insert(finding.clone()) {
            self.found.push(finding);
        }
    }

    fn path_of(&self, name: &str) -> String {
        let mut path = String::new();
        for (level, step) in self.path.iter().enumerate() {
            match step {
                Step::Member(name) if level == 0 => path.push_str(name),
                Step::Member(name) => path.extend([".", name]),
                Step::Element(index) => path.push_str(&format!("[{index}]")),
            }
        }
        if self.path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    }

    /// The texts, in the order met.
    pub(crate) fn into_texts(self) -> Vec<String> {
        self.found.into_iter().map(|(what, path)| format!("{what} {}", go::quote(&path))).collect()
    }

    /// Where the members stand, in the order met.
    pub(crate) fn into_paths(self) -> Vec<String> {
        self.found.into_iter().map(|(_, path)| path).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_upstream_joins_them() {
        let mut findings = Findings::default();
        findings.duplicate("a");
        findings.path = vec![Step::Member(String::new()), Step::Member("a".to_owned())];
        findings.duplicate("b");
        findings.path = vec![Step::Element(0)];
        findings.unknown("b");
        findings.path.push(Step::Member("value".to_owned()));
        findings.path.push(Step::Element(12));
        findings.duplicate("c\"d");
        assert_eq!(
            findings.into_texts(),
            [
                r#"duplicate field "a""#,
                r#"duplicate field ".a.b""#,
                r#"unknown field "[0].b""#,
                r#"duplicate field "[0].value[12].c\"d""#
            ]
        );
    }

    #[test]
    fn a_finding_is_kept_once_and_the_first_hundred_only() {
        let mut findings = Findings::default();
        for _ in 0..3 {
            findings.duplicate("same");
        }
        for number in 0..2 * MAX_FINDINGS {
            findings.duplicate(&number.to_string());
        }
        let texts = findings.into_texts();
        assert_eq!(texts.len(), MAX_FINDINGS);
        assert_eq!(texts.iter().filter(|text| text.contains("same")).count(), 1);
    }
}
