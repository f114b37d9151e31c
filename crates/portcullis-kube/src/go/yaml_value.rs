//! The values of a YAML file, and the JSON that `sigs.k8s.io/yaml` writes of them.

use std::collections::HashMap;

use super::quote;
use super::yaml_scalar::float_key;

/// Bytes of JSON that a file may turn into, aliases expanded.
const JSON_LIMIT: usize = 16 * 1024 * 1024;

/// A value with everything resolved.
pub(super) enum Value<'n> {
    Null,
    Bool(bool),
    /// Any finite number, as JSON.
    Number(String),
    /// A number that JSON does not know, in Go's spelling.
    NoNumber(&'static str),
    Text(&'n str),
    Decoded(String),
    List(Vec<Self>),
    Map(Map<'n>),
}

#[derive(Default)]
pub(super) struct Map<'n> {
    pub(super) places: HashMap<Key<'n>, usize>,
    pub(super) entries: Vec<(Key<'n>, Value<'n>)>,
}

/// A key of a map: equal when Go's `interface{}` values are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Key<'n> {
    Null,
    Bool(bool),
    Int(i128),
    /// A float's bits.
    Float(u64),
    Text(&'n str),
}

/// Go's `%#v` of a key.
pub(super) fn shown(key: &Key<'_>) -> String {
    match key {
        Key::Null => "<nil>".to_owned(),
        Key::Text(text) => quote(text),
        Key::Bool(_) | Key::Int(_) | Key::Float(_) => name(key).unwrap_or_default(),
    }
}

/// A key as a member's name.
fn name(key: &Key<'_>) -> Result<String, String> {
    match key {
        // Compat: a Go decoder prints the value as well.
        Key::Null => Err("unsupported map key of type: %!s(<nil>), key: <nil>".to_owned()),
        Key::Bool(value) => Ok(value.to_string()),
        Key::Int(value) if i64::try_from(*value).is_err() => {
            Err(format!("unsupported map key of type: uint64, key: {value:#x}"))
        }
        Key::Int(value) => Ok(value.to_string()),
        Key::Float(bits) => Ok(float_key(f64::from_bits(*bits))),
        Key::Text(text) => Ok((*text).to_owned()),
    }
}

pub(super) fn write(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    if out.len() > JSON_LIMIT {
        return Err("yaml: document contains excessive aliasing".to_owned());
    }
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Number(text) => out.extend_from_slice(text.as_bytes()),
        Value::NoNumber(name) => return Err(format!("json: unsupported value: {name}")),
        Value::Text(text) => write_text(text, out)?,
        Value::Decoded(text) => write_text(text, out)?,
        Value::List(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Map(map) => {
            let mut members = HashMap::with_capacity(map.entries.len());
            for (key, value) in &map.entries {
                members.insert(name(key)?, value);
            }
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            out.push(b'{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(&name, out)?;
                out.push(b':');
                write(value, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, text).map_err(|error| error.to_string())
}
