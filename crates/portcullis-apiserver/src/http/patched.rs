//! The object that a patch made, read like a request body and judged by other rules.
//!
//! Flow: text or tree → kind and version → shape → what a strict reader found, of the patch and of its result, by
//! `fieldValidation`. What does not fit is the patch's fault: a 422 that shows all of it.
//!
//! Compat: `jsonPatcher`, `smpPatcher` and `applyPatchToObject` of `apiserver/pkg/endpoints/handlers/patch.go`.

use portcullis_kube::Status;
use portcullis_kube::field::FieldError;
use portcullis_kube::go::quote;
use portcullis_patch::{DocumentError, read_document};
use serde_json::{Map, Value};

use super::Outcome;
use super::body::{Decoded, Expected, KindProblem, kind_problem, schema_of, strict, type_meta};
use super::params::FieldValidation;
use crate::json::{self, Node};
use crate::schema::convert::convert;
use crate::schema::normalise::normalise;

/// What a JSON patch or merge patch made of an object, shaped like a body. `reported` is what a strict reader says of the
/// patch itself.
///
/// Compat: an object without a version is read as one of the internal version, which knows none of its fields.
pub(crate) fn from_text(
    text: &[u8],
    reported: &[String],
    expected: Expected,
    validation: FieldValidation,
) -> Outcome<Decoded> {
    let wrong = |why: &str| Box::new(invalid_patch(&String::from_utf8_lossy(text), why));
    // Its limits; what the numbers are to be is the type's business.
    if let Err(DocumentError::Text(limit)) = read_document(text) {
        return Err(Box::new(Status::too_large(&format!("the patched object: {limit}"))));
    }
    let document = json::parse(text).map_err(|error| wrong(&error.to_string()))?;
    let (kind, api_version) = type_meta(&document).map_err(|why| wrong(&why))?;
    match kind_problem(&kind, &api_version, expected) {
        None | Some(KindProblem::Old(_)) => {}
        Some(KindProblem::Other(why)) => {
            // Compat: it is decoded as what it says it is before it is found not to be of the right kind.
            if let Some(schema) = schema_of(&kind, &api_version, expected) {
                normalise(schema, document).map_err(|why| wrong(&why))?;
            }
            return Err(wrong(&why));
        }
    }
    let mut found = reported.to_vec();
    let members = if api_version.is_empty() {
        found.extend(unknown(document));
        Map::new()
    } else {
        let shaped = normalise(expected.schema, document).map_err(|why| wrong(&why))?;
        found.extend(shaped.found);
        shaped.value
    };
    judge(members, found, validation, wrong)
}

/// What a strategic merge patch made of an object, shaped like a body. `left` is what is left of the patch.
pub(crate) fn from_tree(
    merged: Map<String, Value>,
    left: &str,
    reported: &[String],
    expected: Expected,
    validation: FieldValidation,
) -> Outcome<Decoded> {
    let wrong = |why: &str| Box::new(invalid_patch(left, why));
    let converted = convert(expected.schema, merged).map_err(|why| wrong(&why))?;
    let shaped = normalise(expected.schema, Value::Object(converted.members)).map_err(|why| wrong(&why))?;
    let found = reported.iter().cloned().chain(converted.unknown).collect();
    judge(shaped.value, found, validation, wrong)
}

/// Whether what a strict reader found is nothing, a warning or a mistake.
fn judge(
    members: Map<String, Value>,
    found: Vec<String>,
    validation: FieldValidation,
    wrong: impl Fn(&str) -> Box<Status>,
) -> Outcome<Decoded> {
    match validation {
        FieldValidation::Strict if !found.is_empty() => Err(wrong(&strict(&found))),
        FieldValidation::Ignore => Ok(Decoded { members, warnings: Vec::new() }),
        FieldValidation::Strict | FieldValidation::Warn => Ok(Decoded { members, warnings: found }),
    }
}

/// The 422 for a patch whose result does not fit the kind.
fn invalid_patch(value: &str, why: &str) -> Status {
    Status::invalid("", "", "", &[FieldError::invalid("patch", value, why)])
}

/// What a type that knows nothing but kind and version finds unknown.
fn unknown(document: Node) -> Vec<String> {
    let Node::Object(members) = document else { return Vec::new() };
    let names =
        members.into_iter().map(|(name, _)| name).filter(|name| !matches!(name.as_str(), "kind" | "apiVersion"));
    names.map(|name| format!("unknown field {}", quote(&name))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::body::TYPE_META;
    use crate::resources;

    fn read(text: &str, validation: FieldValidation) -> Result<Decoded, String> {
        let expected = Expected::of(resources::config_maps()).unwrap();
        from_text(text.as_bytes(), &["json patch unknown field \"[0].x\"".to_owned()], expected, validation)
            .map_err(|status| status.message)
    }

    /// Patched objects and the messages that kube-apiserver 1.37.2 gave for them.
    #[test]
    fn results_that_do_not_fit_are_shown_with_the_reason() {
        let head = |text: &str| format!(" \"\" is invalid: patch: Invalid value: {}: ", quote(text));
        for (text, why) in [
            ("[]", format!("couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type {TYPE_META}")),
            (r#"{"kind":1}"#, "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string".to_owned()),
            (r#"{"apiVersion":"a/b/c"}"#, "unexpected GroupVersion string: a/b/c".to_owned()),
            (r#"{"apiVersion":"v1","kind":"Pod"}"#, "converting (v1.Pod) to (core.ConfigMap): unknown conversion".to_owned()),
            (r#"{"apiVersion":"v1","data":{"a":1}}"#, "json: cannot unmarshal number into Go struct field ConfigMap.data of type string".to_owned()),
        ] {
            assert_eq!(read(text, FieldValidation::Ignore).err(), Some(head(text) + &why));
        }
    }

    #[test]
    fn what_a_strict_reader_finds_is_a_warning_or_a_mistake() {
        let text = r#"{"apiVersion":"v1","data":{"a":"1","a":"2"},"foo":{"x":1,"x":2}}"#;
        let found = [r#"json patch unknown field "[0].x""#, r#"duplicate field "data.a""#, r#"unknown field "foo""#];
        assert_eq!(read(text, FieldValidation::Warn).unwrap().warnings, found);
        let message = read(text, FieldValidation::Strict).unwrap_err();
        assert!(message.ends_with(&format!("strict decoding error: {}", found.join(", "))), "{message}");
        let decoded = read(text, FieldValidation::Ignore).unwrap();
        assert!(decoded.warnings.is_empty());
        assert_eq!(Value::Object(decoded.members), json!({"metadata": {}, "data": {"a": "2"}}));
    }

    #[test]
    fn an_object_without_a_version_has_nothing_that_is_known() {
        let decoded = read(r#"{"kind":"ConfigMap","metadata":{"name":"c"},"data":{}}"#, FieldValidation::Warn).unwrap();
        assert_eq!(decoded.warnings[1..], [r#"unknown field "metadata""#, r#"unknown field "data""#]);
        assert!(decoded.members.is_empty());
    }

    #[test]
    fn results_over_a_limit_are_too_large() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let message = read(&deep, FieldValidation::Warn).unwrap_err();
        assert!(message.starts_with("Request entity too large: the patched object: "), "{message}");
    }
}
