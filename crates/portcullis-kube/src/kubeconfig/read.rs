//! Reading members of a kubeconfig with their path, so that an error can say where.
//!
//! Compat: client-go takes a number or a boolean where it wants a string (YAML says which, not the type), and `null` as
//! absent; so does this.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::KubeconfigError;

/// A value and where it is.
pub(super) struct Item<'a> {
    value: &'a Value,
    file: &'a str,
    path: String,
}

/// A map and where it is.
pub(super) struct Place<'a> {
    map: Option<&'a Map<String, Value>>,
    file: &'a str,
    pub(super) path: String,
}

impl<'a> Item<'a> {
    pub(super) fn map(&self) -> Result<Place<'a>, KubeconfigError> {
        let map = match self.value {
            Value::Object(map) => Some(map),
            Value::Null => None,
            _ => return Err(self.wrong("a map")),
        };
        Ok(Place { map, file: self.file, path: self.path.clone() })
    }

    pub(super) fn text(&self) -> Result<String, KubeconfigError> {
        match self.value {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Array(_) | Value::Object(_) => Err(self.wrong("a string")),
        }
    }

    fn wrong(&self, expected: &'static str) -> KubeconfigError {
        KubeconfigError::WrongType {
            file: self.file.to_owned(),
            path: self.path.clone(),
            expected,
            found: kind_of(self.value),
        }
    }
}

impl<'a> Place<'a> {
    pub(super) fn root(map: &'a Map<String, Value>, file: &'a str) -> Self {
        Self { map: Some(map), file, path: String::new() }
    }

    /// A string, empty when absent.
    pub(super) fn text(&self, key: &str) -> Result<String, KubeconfigError> {
        self.item(key).map_or(Ok(String::new()), |item| item.text())
    }

    /// A boolean, false when absent.
    pub(super) fn flag(&self, key: &str) -> Result<bool, KubeconfigError> {
        match self.item(key) {
            None | Some(Item { value: Value::Null, .. }) => Ok(false),
            Some(Item { value: Value::Bool(flag), .. }) => Ok(*flag),
            Some(item) => Err(item.wrong("true or false")),
        }
    }

    /// A list, empty when absent.
    pub(super) fn list(&self, key: &str) -> Result<Vec<Item<'a>>, KubeconfigError> {
        let Some(item) = self.item(key) else { return Ok(Vec::new()) };
        match item.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(values) => Ok(values
                .iter()
                .enumerate()
                .map(|(index, value)| Item { value, file: self.file, path: format!("{}[{index}]", item.path) })
                .collect()),
            _ => Err(item.wrong("a list")),
        }
    }

    /// A list of strings.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, KubeconfigError> {
        self.list(key)?.iter().map(Item::text).collect()
    }

    /// A map of strings.
    pub(super) fn text_map(&self, key: &str) -> Result<BTreeMap<String, String>, KubeconfigError> {
        let place = self.inner(key)?;
        let keys = place.map.into_iter().flat_map(Map::keys);
        keys.map(|key| Ok((key.clone(), place.text(key)?))).collect()
    }

    /// A map, empty when absent.
    pub(super) fn inner(&self, key: &str) -> Result<Self, KubeconfigError> {
        match self.item(key) {
            Some(item) => item.map(),
            None => Ok(Self { map: None, file: self.file, path: self.join(key) }),
        }
    }

    /// Whether a member is there and is not `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.map.and_then(|map| map.get(key)).is_some_and(|value| !value.is_null())
    }

    fn item(&self, key: &str) -> Option<Item<'a>> {
        let value = self.map?.get(key)?;
        Some(Item { value, file: self.file, path: self.join(key) })
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
