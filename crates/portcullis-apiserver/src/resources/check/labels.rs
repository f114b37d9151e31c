//! Labels and label selectors as fields of objects.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

use super::{Path, Wrong};
use crate::resources::tree::{Members, child, list, members, string};

/// A map of labels.
pub(crate) fn labels(labels: &Members, path: &Path, wrong: &mut Wrong) {
    for (key, value) in labels {
        wrong.each(path, key, names::label_key(key));
        let value = value.as_str().unwrap_or_default();
        wrong.each(path, value, names::label_value(value));
    }
}

/// A `LabelSelector`. `loose_values` leaves the values of expressions unjudged, as some kinds do for old objects.
pub(crate) fn selector(selector: &Value, path: &Path, wrong: &mut Wrong) {
    labels(members(selector, "matchLabels"), &path.child("matchLabels"), wrong);
    for (index, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = list(requirement, "values");
        match string(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                wrong.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => wrong
                .forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => wrong.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = string(requirement, "key");
        wrong.each(&path.child("key"), key, names::label_key(key));
        for (at, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            wrong.each(&path.child("values").index(at), value, names::label_value(value));
        }
    }
}

/// Whether a selector asks for nothing.
pub(crate) fn is_empty(selector: &Value) -> bool {
    members(selector, "matchLabels").is_empty() && list(selector, "matchExpressions").is_empty()
}

/// Whether a selector lets labels through. A malformed one lets nothing through.
pub(crate) fn matches(selector: &Value, labels: &Members) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let equal = members(selector, "matchLabels").iter().all(|(key, value)| label(key) == value.as_str());
    equal
        && list(selector, "matchExpressions").iter().all(|requirement| {
            let found = label(string(requirement, "key"));
            let listed = || {
                found.is_some_and(|found| list(requirement, "values").iter().any(|value| value.as_str() == Some(found)))
            };
            match string(requirement, "operator") {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// A selector as tables print it: `a=b,c in (d,e)`; `<none>` when it asks for nothing, `<error>` when it cannot be read.
///
/// Compat: `FormatLabelSelector` of `apimachinery/pkg/apis/meta/v1`.
pub(crate) fn format(selector: &Value) -> String {
    let mut wrong = Wrong::default();
    self::selector(selector, &Path::new(""), &mut wrong);
    if !wrong.is_empty() {
        return "<error>".to_owned();
    }
    let mut parts: Vec<(&str, String)> = members(selector, "matchLabels")
        .iter()
        .map(|(key, value)| (key.as_str(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for requirement in list(selector, "matchExpressions") {
        let key = string(requirement, "key");
        let mut values: Vec<&str> = list(requirement, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let text = match string(requirement, "operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        parts.push((key, text));
    }
    if parts.is_empty() {
        return "<none>".to_owned();
    }
    parts.sort_by_key(|(key, _)| *key);
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The selector of a workload, which must be there, say something, and find the workload's own template. Whether the template
/// is worth looking at: a selector that cannot be read is all that is reported.
///
/// Compat: a selector that is absent finds nothing, one that is empty finds everything.
pub(crate) fn own_selector(spec: &Value, empty: &str, unreadable: &str, path: &Path, wrong: &mut Wrong) -> bool {
    let (own, at) = (child(spec, "selector"), path.child("selector"));
    let before = wrong.len();
    if own.is_null() {
        wrong.required(&at, "");
    } else {
        selector(own, &at, wrong);
        if wrong.len() > before {
            wrong.invalid_value(&at, own, unreadable);
            return false;
        }
        if is_empty(own) {
            wrong.invalid_value(&at, own, empty);
        }
    }
    true
}

/// The problem of a workload whose selector does not find its own template.
pub(crate) fn finds_template(spec: &Value, path: &Path, wrong: &mut Wrong) {
    let own = child(spec, "selector");
    let labels = members(child(child(spec, "template"), "metadata"), "labels");
    let everything = !own.is_null() && is_empty(own);
    if !everything && (own.is_null() || !matches(own, labels)) {
        // Compat: a map that is not there is printed as null.
        let printed = if labels.is_empty() { Value::Null } else { Value::Object(labels.clone()) };
        let at = path.child("template").child("metadata").child("labels");
        wrong.push(FieldError::invalid_json(at, &printed, "`selector` does not match template `labels`"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_match_print_and_are_refused_as_upstream_does() {
        let full = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["e", "d"]}, {"key": "x", "operator": "DoesNotExist"}]});
        let labels = |value: Value| value.as_object().unwrap().clone();
        assert!(matches(&full, &labels(json!({"a": "b", "c": "d"}))));
        assert!(!matches(&full, &labels(json!({"a": "b", "c": "d", "x": ""}))));
        assert!(!matches(&full, &labels(json!({"a": "b"}))));
        assert_eq!(format(&full), "a=b,c in (d,e),!x");
        assert_eq!((format(&Value::Null).as_str(), format(&json!({})).as_str()), ("<none>", "<none>"));
        let bad = json!({"matchLabels": {"a b": "c d"}, "matchExpressions": [
            {"key": "c", "operator": "In"}, {"key": "c", "operator": "Exists", "values": ["v"]}, {"key": "", "operator": "Odd"}]});
        let mut wrong = Wrong::default();
        selector(&bad, &Path::new("spec.selector"), &mut wrong);
        let fields: Vec<String> = wrong.finish().into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.selector.matchLabels",
                "spec.selector.matchLabels",
                "spec.selector.matchExpressions[0].values",
                "spec.selector.matchExpressions[1].values",
                "spec.selector.matchExpressions[2].operator",
                "spec.selector.matchExpressions[2].key",
                "spec.selector.matchExpressions[2].key"
            ]
        );
    }
}
