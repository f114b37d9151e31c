//! Reading and filling the JSON trees of objects. Whatever is missing or of another type reads as empty.

use serde_json::{Map, Value};

/// The members of an object.
pub(crate) type Members = Map<String, Value>;

static NULL: Value = Value::Null;
static NOTHING: std::sync::LazyLock<Members> = std::sync::LazyLock::new(Map::new);

/// The value at a path of members.
pub(crate) fn at<'v>(members: &'v Members, path: &[&str]) -> Option<&'v Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(members.get(*first)?, |value, name| value.get(*name))
}

/// The string at a path of members; empty when there is none.
pub(crate) fn text(members: &Members, path: &[&str]) -> Box<str> {
    string_at(members, path).into()
}

/// The string at a path of members; empty when there is none.
pub(crate) fn string_at<'v>(members: &'v Members, path: &[&str]) -> &'v str {
    at(members, path).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a path of members; empty when there is none.
pub(crate) fn list_at<'v>(members: &'v Members, path: &[&str]) -> &'v [Value] {
    at(members, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The members at a path of members; empty when there are none.
pub(crate) fn members_at<'v>(members: &'v Members, path: &[&str]) -> &'v Members {
    at(members, path).and_then(Value::as_object).unwrap_or(&NOTHING)
}

/// The flag at a path of members; false when there is none.
pub(crate) fn flag_at(members: &Members, path: &[&str]) -> bool {
    at(members, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The member called `name`; null when there is none.
pub(crate) fn child<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&NULL)
}

/// The string member called `name`; empty when there is none.
pub(crate) fn string<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The integer member called `name`.
pub(crate) fn integer(value: &Value, name: &str) -> Option<i64> {
    value.get(name).and_then(Value::as_i64)
}

/// The flag called `name`; false when there is none.
pub(crate) fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// The list called `name`; empty when there is none.
pub(crate) fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The members of the member called `name`; empty when there are none.
pub(crate) fn members<'v>(value: &'v Value, name: &str) -> &'v Members {
    value.get(name).and_then(Value::as_object).unwrap_or(&NOTHING)
}

/// Whether a member is there and not null.
pub(crate) fn has(value: &Value, name: &str) -> bool {
    value.get(name).is_some_and(|value| !value.is_null())
}

/// The member called `name`, made an object when it is none.
pub(crate) fn object<'m>(members: &'m mut Members, name: &str) -> &'m mut Members {
    let value = members.entry(name).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(inner) => inner,
        #[expect(clippy::unreachable, reason = "made an object on the line above")]
        _ => unreachable!("made an object above"),
    }
}

/// Every object in the list called `name`.
pub(crate) fn objects_mut<'m>(members: &'m mut Members, name: &str) -> impl Iterator<Item = &'m mut Members> {
    let items = members.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Sets a member that is missing, null, or Go's zero value of its kind.
pub(crate) fn default(members: &mut Members, name: &str, value: impl Into<Value>) {
    let value = value.into();
    let missing = match members.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(there)) => there.is_empty() && value.is_string(),
        Some(_) => false,
    };
    if missing {
        members.insert(name.to_owned(), value);
    }
}

/// Like [`default`], for numbers whose zero means that nothing was said.
pub(crate) fn default_number(members: &mut Members, name: &str, value: i64) {
    if members.get(name).and_then(Value::as_i64).unwrap_or(0) == 0 {
        members.insert(name.to_owned(), Value::from(value));
    }
}

/// Makes the named members those of `old`.
pub(crate) fn take_over(members: &mut Members, old: &Members, names: &[&str]) {
    for name in names {
        match old.get(*name) {
            Some(value) => members.insert((*name).to_owned(), value.clone()),
            None => members.shift_remove(*name),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_reads_as_empty() {
        let tree = json!({"a": {"b": "c", "n": 5, "l": [1], "f": true}});
        let members_of = tree.as_object().unwrap();
        assert_eq!((string_at(members_of, &["a", "b"]), string_at(members_of, &["a", "n"])), ("c", ""));
        assert_eq!((list_at(members_of, &["a", "l"]).len(), list_at(members_of, &["x"]).len()), (1, 0));
        assert!(flag_at(members_of, &["a", "f"]) && !flag_at(members_of, &["a", "b"]));
        assert_eq!((child(&tree, "x"), string(&tree, "a"), integer(&tree["a"], "n")), (&Value::Null, "", Some(5)));
        assert!(members(&tree, "x").is_empty() && members_at(members_of, &["a"]).len() == 4);
    }

    #[test]
    fn defaults_fill_only_what_says_nothing() {
        let mut members = json!({"empty": "", "null": null, "no": false, "zero": 0}).as_object().unwrap().clone();
        for name in ["empty", "null", "absent"] {
            default(&mut members, name, "x");
        }
        default(&mut members, "no", true);
        default_number(&mut members, "zero", 3);
        let want = json!({"empty": "x", "null": "x", "no": false, "zero": 3, "absent": "x"});
        assert_eq!(Value::Object(members.clone()), want);
        assert!(object(&mut members, "no").is_empty());
    }
}
