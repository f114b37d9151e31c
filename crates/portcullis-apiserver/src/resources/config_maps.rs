//! Config maps: keys, size, immutability.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;

use super::check::formats::config_key;
use super::check::{Path, Wrong, meta};
use super::rules::Rules;
use super::tree::{Members, at, flag_at, members_at};

/// Bytes that one config map or secret may hold: upstream's `MaxSecretSize`.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
pub(super) const FIXED: &str = "field is immutable when `immutable` is set";

pub(crate) const RULES: Rules = Rules { validate, validate_update, ..Rules::NAMESPACED };

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    let (data, binary) = (members_at(new, &["data"]), members_at(new, &["binaryData"]));
    let mut bytes = 0_usize;
    for (key, value) in data {
        let path = Path::new("data").key(key);
        wrong.each(&path, key, config_key(key));
        if binary.contains_key(key) {
            wrong.invalid(&path, key, "duplicate of key present in binaryData");
        }
        bytes = bytes.saturating_add(value.as_str().unwrap_or_default().len());
    }
    for (key, value) in binary {
        wrong.each(&Path::new("binaryData").key(key), key, config_key(key));
        bytes = bytes.saturating_add(decoded_length(value.as_str().unwrap_or_default()));
    }
    if bytes > MAX_BYTES {
        wrong.push(FieldError::too_long("[]", MAX_BYTES));
    }
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    fixed(new, old, &["data", "binaryData"], wrong);
    validate(new, wrong);
}

/// What an immutable object may not change.
pub(super) fn fixed(new: &Members, old: &Members, parts: &[&str], wrong: &mut Wrong) {
    if !flag_at(old, &["immutable"]) {
        return;
    }
    if !flag_at(new, &["immutable"]) {
        wrong.forbidden(&Path::new("immutable"), FIXED);
    }
    for part in parts {
        if at(new, &[*part]) != at(old, &[*part]) {
            wrong.forbidden(&Path::new(part), FIXED);
        }
    }
}

/// How many bytes base64 text stands for.
pub(super) fn decoded_length(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(new: Value, old: Option<Value>) -> Vec<String> {
        let mut wrong = Wrong::default();
        let new = new.as_object().unwrap();
        match old {
            Some(old) => validate_update(new, old.as_object().unwrap(), &mut wrong),
            None => validate(new, &mut wrong),
        }
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    fn map(data: Value, binary: Value, immutable: bool) -> Value {
        json!({"metadata": {"name": "m", "namespace": "d", "resourceVersion": "1"}, "immutable": immutable, "data": data, "binaryData": binary})
    }

    #[test]
    fn keys_are_unique_and_well_formed_and_the_whole_is_bounded() {
        assert!(problems(map(json!({"a": "b"}), json!({"c": "AAAA"}), false), None).is_empty());
        let twice = problems(map(json!({"a": "b"}), json!({"a": "AAAA"}), false), None);
        assert_eq!(twice, ["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"]);
        assert_eq!(problems(map(json!({"a/b": ""}), json!({"..": ""}), false), None).len(), 2);
        let full = "x".repeat(MAX_BYTES);
        assert!(problems(map(json!({"a": full}), json!({}), false), None).is_empty());
        let over = problems(map(json!({"a": full, "b": "x"}), json!({}), false), None);
        assert_eq!(over, ["[]: Too long: may not be more than 1048576 bytes"]);
        assert_eq!((decoded_length("AA=="), decoded_length("AAAA"), decoded_length("")), (1, 3, 0));
    }

    #[test]
    fn what_is_immutable_stays() {
        let old = map(json!({"a": "b"}), json!({}), true);
        let changed = problems(map(json!({"a": "c"}), json!({}), false), Some(old.clone()));
        assert_eq!(changed, [format!("immutable: Forbidden: {FIXED}"), format!("data: Forbidden: {FIXED}")]);
        assert!(problems(old.clone(), Some(old)).is_empty());
    }
}
