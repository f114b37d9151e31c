//! Reads typed fields out of a document, collecting everything that is wrong instead of stopping at the first.
//!
//! Compat: keys match as Go's `encoding/json` matches them: exactly, or else without regard to case (dex.md 0.1 T1);
//! unknown keys do not stop Dex (T2), so they become warnings that name the nearest key; nothing is coerced (T3).
//! A value never appears in a message: it may be a secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::{Entry, Node, Value, join};
use super::problem::{Place, Problem, ProblemKind, Warning};
use super::scalar::Scalar;

/// Longest list in a configuration.
const MAX_ITEMS: usize = 10_000;

/// A value of the configuration and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

impl<T> Field<T> {
    /// A value that no file says but the program itself.
    pub fn given(value: T) -> Self {
        Self { value, place: Place { file: "(set by portcullis)".into(), line: None, path: String::new() } }
    }

    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Field<U> {
        Field { value: change(self.value), place: self.place }
    }
}

/// What happens with a key that nobody knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Dex's own format: a warning, or an error under Dex's strict switch.
    Warn,
    /// Our own format: an error.
    Refuse,
    /// Dex does not look at it even under its strict switch.
    Lenient,
}

/// A map whose keys have been matched.
pub(super) struct Keys<'a> {
    pub(super) path: String,
    pub(super) line: u32,
    known: Vec<(&'static str, &'a Entry)>,
}

impl<'a> Keys<'a> {
    pub(super) fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.known.iter().find(|(name, _)| *name == key).map(|(_, entry)| *entry)
    }

    /// The value under `key`, unless it is missing or null: Go leaves the default then.
    pub(super) fn node(&self, key: &str) -> Option<(&'a Node, String)> {
        let entry = self.entry(key)?;
        match entry.value.value {
            Value::Scalar(Scalar::Null) => None,
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => Some((&entry.value, join(&self.path, &entry.key))),
        }
    }
}

/// Collects what is read, what is wrong and what is odd.
pub(super) struct Reader<'a> {
    pub(super) file: &'a Arc<str>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    /// Unknown keys: warnings that Dex's strict switch turns into errors.
    pub(super) unknown: Vec<Warning>,
}

impl<'a> Reader<'a> {
    pub(super) fn place(&self, path: &str, line: u32) -> Place {
        Place { file: self.file.clone(), line: Some(line), path: path.to_owned() }
    }

    pub(super) fn problem(&mut self, kind: ProblemKind, path: &str, line: u32, message: String, hint: Option<String>) {
        let place = self.place(path, line);
        self.problems.push(Problem { kind, place, message, hint });
    }

    fn wrong_type(&mut self, node: &Node, path: &str, wanted: &str) {
        let found = node.value.kind();
        let hint = match (&node.value, wanted) {
            (Value::Scalar(Scalar::Int(_) | Scalar::Float(_) | Scalar::Bool(_)), "a string") => {
                Some("put the value in quotes".to_owned())
            }
            (Value::Scalar(Scalar::Str(_)), "a boolean") => Some("write true or false, without quotes".to_owned()),
            _ => None,
        };
        self.problem(ProblemKind::Type, path, node.line, format!("expected {wanted}, found {found}"), hint);
    }

    /// Opens a map and matches its keys against `known`.
    pub(super) fn keys(
        &mut self,
        node: &'a Node,
        path: &str,
        known: &[&'static str],
        unknown: Unknown,
    ) -> Option<Keys<'a>> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Scalar(Scalar::Null) => return None,
            Value::Scalar(_) | Value::List(_) => {
                self.wrong_type(node, path, "a map");
                return None;
            }
        };
        let mut out: Vec<(&'static str, &'a Entry)> = Vec::new();
        for entry in entries {
            let name =
                known.iter().find(|k| **k == entry.key).or_else(|| known.iter().find(|k| same_key(k, &entry.key)));
            let Some(name) = name else {
                self.unknown_key(entry, path, known, unknown);
                continue;
            };
            match out.iter_mut().find(|(k, _)| k == name) {
                None => out.push((name, entry)),
                Some(slot) => {
                    // The same key again: the last one counts. Spelt differently: Go applies them in byte order.
                    let (winner, loser) = if entry.key >= slot.1.key { (entry, slot.1) } else { (slot.1, entry) };
                    slot.1 = winner;
                    let place = self.place(&join(path, &loser.key), loser.line);
                    let message = format!("the key is given again in line {}; that one counts", winner.line);
                    self.warnings.push(Warning { place, message, hint: Some("remove one of the two".to_owned()) });
                }
            }
        }
        Some(Keys { path: path.to_owned(), line: node.line, known: out })
    }

    fn unknown_key(&mut self, entry: &Entry, path: &str, known: &[&'static str], unknown: Unknown) {
        let full = join(path, &entry.key);
        let hint = nearest(&entry.key, known).map(|near| format!("did you mean `{near}`?"));
        let place = self.place(&full, entry.line);
        match unknown {
            Unknown::Refuse => {
                let message = "unknown key".to_owned();
                self.problems.push(Problem { kind: ProblemKind::UnknownKey, place, message, hint });
            }
            Unknown::Warn => {
                self.unknown.push(Warning { place, message: "unknown key; it is ignored".to_owned(), hint })
            }
            Unknown::Lenient => {
                self.warnings.push(Warning { place, message: "unknown key; it is ignored".to_owned(), hint })
            }
        }
    }

    pub(super) fn string(&mut self, keys: &Keys<'a>, key: &str) -> Option<Field<String>> {
        let (node, path) = keys.node(key)?;
        self.string_node(node, &path)
    }

    pub(super) fn string_node(&mut self, node: &Node, path: &str) -> Option<Field<String>> {
        match &node.value {
            Value::Scalar(Scalar::Str(text)) => Some(Field { value: text.clone(), place: self.place(path, node.line) }),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                self.wrong_type(node, path, "a string");
                None
            }
        }
    }

    pub(super) fn bool(&mut self, keys: &Keys<'a>, key: &str) -> Option<Field<bool>> {
        let (node, path) = keys.node(key)?;
        match &node.value {
            Value::Scalar(Scalar::Bool(value)) => Some(Field { value: *value, place: self.place(&path, node.line) }),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                self.wrong_type(node, &path, "a boolean");
                None
            }
        }
    }

    pub(super) fn integer(&mut self, keys: &Keys<'a>, key: &str) -> Option<Field<i64>> {
        let (node, path) = keys.node(key)?;
        match &node.value {
            Value::Scalar(Scalar::Int(value)) => Some(Field { value: *value, place: self.place(&path, node.line) }),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                self.wrong_type(node, &path, "a whole number");
                None
            }
        }
    }

    /// The items of a list with their paths.
    pub(super) fn list(&mut self, keys: &Keys<'a>, key: &str) -> Option<Field<Vec<(&'a Node, String)>>> {
        let (node, path) = keys.node(key)?;
        let Value::List(items) = &node.value else {
            self.wrong_type(node, &path, "a list");
            return None;
        };
        if items.len() > MAX_ITEMS {
            self.problem(ProblemKind::Value, &path, node.line, format!("more than {MAX_ITEMS} entries"), None);
            return None;
        }
        let value = items.iter().enumerate().map(|(i, item)| (item, format!("{path}[{i}]"))).collect();
        Some(Field { value, place: self.place(&path, node.line) })
    }

    pub(super) fn strings(&mut self, keys: &Keys<'a>, key: &str) -> Option<Field<Vec<String>>> {
        let list = self.list(keys, key)?;
        let Field { value, place } = list;
        let value =
            value.into_iter().filter_map(|(node, path)| self.string_node(node, &path).map(|f| f.value)).collect();
        Some(Field { value, place })
    }

    /// A map with free keys and string values.
    pub(super) fn string_map(&mut self, keys: &Keys<'a>, key: &str) -> BTreeMap<String, String> {
        let Some((node, path)) = keys.node(key) else { return BTreeMap::new() };
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, &path, "a map");
            return BTreeMap::new();
        };
        entries
            .iter()
            .filter_map(|e| self.string_node(&e.value, &join(&path, &e.key)).map(|f| (e.key.clone(), f.value)))
            .collect()
    }
}

fn same_key(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// The known key that is closest to `key`, if any is close.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    if key.len() > 64 {
        return None;
    }
    let key = key.to_ascii_lowercase();
    known
        .iter()
        .map(|k| (distance(&key, &k.to_ascii_lowercase()), *k))
        .filter(|(d, k)| *d <= (k.len().max(key.len()) / 3).max(1))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Edits (insert, delete, replace) between two short texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut previous = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (cb, above) in b.iter().zip(row.iter().skip(1)) {
            let replace = previous + usize::from(ca != *cb);
            left = replace.min(above + 1).min(left + 1);
            next.push(left);
            previous = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_and_far_ones_are_not() {
        let known = ["idTokens", "signingKeys", "authRequests", "refreshTokens"];
        for (key, want) in [
            ("idToken", Some("idTokens")),
            ("IDTOKEN", Some("idTokens")),
            ("signingKey", Some("signingKeys")),
            ("refreshToken", Some("refreshTokens")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(nearest(key, &known), want, "{key}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), &known), None);
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("a", "a")), (3, 3, 0));
    }
}
