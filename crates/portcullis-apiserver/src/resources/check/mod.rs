//! What makes validation: paths, the list of problems, and rules that many kinds share.
//!
//! Rules read JSON trees in their kind's shape. Texts and their order are the real server's.

pub(crate) mod formats;
pub(crate) mod labels;
pub(crate) mod meta;

use std::fmt;

use portcullis_kube::field::FieldError;
use serde_json::Value;

/// Where a field stands, as messages print it: `spec.ports[0].name`.
#[derive(Debug, Clone)]
pub(crate) struct Path(String);

impl Path {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        Self(if self.0.is_empty() { name.to_owned() } else { format!("{}.{name}", self.0) })
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.0
    }
}

impl From<&Path> for String {
    fn from(path: &Path) -> Self {
        path.0.clone()
    }
}

/// Problems of one object that are told. kube-apiserver tells all of them, however many a body makes.
const MOST_PROBLEMS: usize = 1_000;
/// Bytes of their texts, from which on no more are told.
const MOST_BYTES: usize = 1 << 20;

/// Problems in the order in which the server prints them, the first [`MOST_PROBLEMS`] of them.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    first: Vec<FieldError>,
    /// Compat: what upstream's declarative validation finds comes after everything else.
    last: Vec<FieldError>,
    bytes: usize,
}

impl Wrong {
    pub(crate) fn push(&mut self, error: FieldError) {
        if self.takes(&error) {
            self.first.push(error);
        }
    }

    /// A problem that upstream's declarative validation finds.
    pub(crate) fn push_last(&mut self, error: FieldError) {
        if self.takes(&error) {
            self.last.push(error);
        }
    }

    pub(crate) fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        errors.into_iter().for_each(|error| self.push(error));
    }

    /// Whether enough is known: what makes long texts, or many, can stop.
    pub(crate) fn is_full(&self) -> bool {
        self.first.len() + self.last.len() >= MOST_PROBLEMS || self.bytes >= MOST_BYTES
    }

    fn takes(&mut self, error: &FieldError) -> bool {
        let takes = !self.is_full();
        if takes {
            self.bytes += error.field.len() + error.detail.len() + error.value.as_ref().map_or(0, String::len);
        }
        takes
    }

    pub(crate) fn required(&mut self, path: &Path, detail: &str) {
        self.push(FieldError::required(path, detail));
    }

    pub(crate) fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(FieldError::forbidden(path, detail));
    }

    pub(crate) fn invalid(&mut self, path: &Path, value: &str, detail: impl Into<String>) {
        self.push(FieldError::invalid(path, value, detail));
    }

    /// A problem of a string of a type with a name of its own, such as a resource's name: Go prints it as JSON.
    pub(crate) fn invalid_typed(&mut self, path: &Path, value: &str, detail: impl Into<String>) {
        self.push(FieldError::invalid_json(path, value, detail));
    }

    /// A problem of a value that is printed as JSON.
    pub(crate) fn invalid_value(&mut self, path: &Path, value: &Value, detail: impl Into<String>) {
        self.push(FieldError::invalid_json(path, value, detail));
    }

    pub(crate) fn duplicate(&mut self, path: &Path, value: &str) {
        self.push(FieldError::duplicate(path, value));
    }

    /// A duplicate that is no string.
    pub(crate) fn duplicate_value(&mut self, path: &Path, value: &Value) {
        let mut error = FieldError::duplicate(path, "");
        error.value = String::from_utf8(crate::json::to_vec(value)).ok();
        self.push(error);
    }

    /// A value of a type with a name of its own, such as a protocol: Go prints it as JSON.
    pub(crate) fn not_supported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        self.push(FieldError::not_supported_typed(path, value, supported));
    }

    /// A value that is a mere string.
    pub(crate) fn not_supported_text(&mut self, path: &Path, value: &str, supported: &[&str]) {
        self.push(FieldError::not_supported(path, value, supported));
    }

    /// One problem for each sentence about `value`.
    pub(crate) fn each(&mut self, path: &Path, value: &str, sentences: Vec<String>) {
        self.extend(sentences.into_iter().map(|why| FieldError::invalid(path, value, why)));
    }

    /// One problem for each sentence about a string of a type with a name of its own.
    pub(crate) fn each_typed(&mut self, path: &Path, value: &str, sentences: Vec<String>) {
        self.extend(sentences.into_iter().map(|why| FieldError::invalid_json(path, value, why)));
    }

    /// One problem for each sentence about a number.
    pub(crate) fn each_number(&mut self, path: &Path, value: i64, sentences: Vec<String>) {
        self.extend(sentences.into_iter().map(|why| FieldError::invalid_json(path, &value, why)));
    }

    /// A number that must not be below zero.
    pub(crate) fn not_negative(&mut self, path: &Path, value: Option<i64>) {
        if let Some(value) = value.filter(|value| *value < 0) {
            self.push(FieldError::invalid_json(path, &value, NOT_NEGATIVE));
        }
    }

    /// A string that must be one of a few; absence is not looked at.
    pub(crate) fn one_of(&mut self, path: &Path, value: &str, supported: &[&str]) {
        if !value.is_empty() && !supported.contains(&value) {
            self.not_supported(path, value, supported);
        }
    }

    /// Like [`Self::one_of`], and it must be there.
    pub(crate) fn required_one_of(&mut self, path: &Path, value: &str, supported: &[&str]) {
        if value.is_empty() {
            self.required(path, "");
        } else {
            self.one_of(path, value, supported);
        }
    }

    /// A part that an update may not change. `new` is printed.
    pub(crate) fn unchanged(&mut self, path: &Path, new: &Value, old: &Value) {
        if !same(new, old) {
            self.invalid_value(path, new, IMMUTABLE);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.last.is_empty()
    }

    /// How many there are so far.
    pub(crate) fn len(&self) -> usize {
        self.first.len()
    }

    pub(crate) fn finish(mut self) -> Vec<FieldError> {
        self.first.append(&mut self.last);
        self.first
    }
}

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// Whether two values are equal, where an empty list equals none (`apiequality.Semantic`).
///
/// Both must be in their type's shape. No empty map is left in it, so `{}` is a pointer to a struct in which nothing is set,
/// and upstream tells that from no pointer.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Array(items)) | (Value::Array(items), Value::Null) => items.is_empty(),
        (Value::Object(left), Value::Object(right)) => {
            left.iter().all(|(name, value)| same(value, right.get(name).unwrap_or(&Value::Null)))
                && right.iter().all(|(name, value)| left.contains_key(name) || same(value, &Value::Null))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (left, right) => left == right,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_read_as_upstream_prints_them() {
        let path = Path::new("spec").child("ports").index(2).child("name");
        assert_eq!(path.to_string(), "spec.ports[2].name");
        assert_eq!(Path::new("").child("data").key("a.b").to_string(), "data[a.b]");
    }

    #[test]
    fn declarative_problems_come_last() {
        let mut wrong = Wrong::default();
        wrong.push_last(FieldError::required("a", ""));
        wrong.required(&Path::new("b"), "");
        wrong.not_negative(&Path::new("c"), Some(-1));
        wrong.one_of(&Path::new("d"), "x", &["y"]);
        let texts: Vec<String> = wrong.finish().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "b: Required value",
                "c: Invalid value: -1: must be greater than or equal to 0",
                "d: Unsupported value: \"x\": supported values: \"y\"",
                "a: Required value"
            ]
        );
    }

    #[test]
    fn an_empty_list_equals_none_and_a_pointer_to_an_empty_struct_does_not() {
        assert!(same(&json!({"a": [], "b": [1]}), &json!({"b": [1], "c": null, "d": []})));
        assert!(same(&json!({"a": {"b": []}}), &json!({"a": {}})));
        assert!(!same(&json!({"affinity": {}}), &json!({})));
        assert!(!same(&json!({}), &json!({"affinity": {"nodeAffinity": {}}})));
        assert!(!same(&json!({"a": 0}), &json!({})));
        assert!(!same(&json!({"b": [1]}), &json!({"b": [2]})));
    }

    proptest! {
        #[test]
        fn equality_is_symmetric(left in prop::collection::btree_map("[a-c]", 0..2_u8, 0..3), right in prop::collection::btree_map("[a-c]", 0..2_u8, 0..3)) {
            let (left, right) = (json!(left), json!(right));
            prop_assert_eq!(same(&left, &right), same(&right, &left));
            prop_assert!(same(&left, &left));
        }
    }
}
