//! Every limit, met and crossed.

use portcullis_patch::limits::{
    MAX_COPY_BYTES, MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_OPERATIONS, MAX_PATCH_BYTES, MAX_STEPS, MAX_VALUES,
};
use portcullis_patch::{
    Answer, FieldValidation, JsonPatch, JsonPatchError, MergePatch, MergePatchError, PatchText, TextError,
    apply_json_patch, merge_patch, strategic_merge,
};
use serde_json::{Map, Value, json};

use crate::types::TYPES;

fn json_patch(document: &[u8], patch: &str) -> Result<Vec<u8>, JsonPatchError> {
    JsonPatch::decode(PatchText::check(patch.as_bytes())?, FieldValidation::Ignore)?.apply(document)
}

fn merge(document: &[u8], patch: &str) -> Result<Vec<u8>, MergePatchError> {
    MergePatch::decode(PatchText::check(patch.as_bytes())?, FieldValidation::Ignore)?.apply(document)
}

fn nested(levels: usize) -> String {
    format!("{}{}", "{\"a\":".repeat(levels - 1) + "{", "}".repeat(levels))
}

#[test]
fn a_patch_is_as_long_as_a_body_may_be() {
    let patch = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    assert!(merge_patch(&json!({}), patch(MAX_PATCH_BYTES).as_bytes()).is_ok());
    let error = merge_patch(&json!({}), patch(MAX_PATCH_BYTES + 1).as_bytes()).unwrap_err();
    assert_eq!(
        (error.clone(), error.answer()),
        (MergePatchError::Text(TextError::TooLong { limit: MAX_PATCH_BYTES }), Answer::TooLarge)
    );
}

#[test]
fn a_document_and_what_becomes_of_it_have_a_limit_in_bytes() {
    let document = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8)).into_bytes();
    let too_long = TextError::TooLong { limit: MAX_DOCUMENT_BYTES };
    assert!(merge(&document(MAX_DOCUMENT_BYTES), "{}").is_ok());
    assert_eq!(merge(&document(MAX_DOCUMENT_BYTES + 1), "{}"), Err(MergePatchError::DocumentLimit(too_long)));
    assert_eq!(merge(&document(MAX_DOCUMENT_BYTES), "{\"b\":1}"), Err(MergePatchError::Result(too_long)));
    assert!(json_patch(&document(MAX_DOCUMENT_BYTES), "[]").is_ok());
    assert_eq!(json_patch(&document(MAX_DOCUMENT_BYTES + 1), "[]"), Err(JsonPatchError::DocumentLimit(too_long)));
    let add = r#"[{"op":"add","path":"/b","value":1}]"#;
    assert_eq!(json_patch(&document(MAX_DOCUMENT_BYTES), add), Err(JsonPatchError::Result(too_long)));
}

#[test]
fn patch_document_and_result_have_a_limit_in_values() {
    let object = |values: usize| format!("{{\"a\":[0{}]}}", ",0".repeat(values - 3));
    let (fits, over) = (object(MAX_VALUES), object(MAX_VALUES + 1));
    assert!(merge(b"{}", &fits).is_ok());
    assert_eq!(merge(b"{}", &over), Err(MergePatchError::Text(TextError::TooManyValues)));
    assert!(merge(fits.as_bytes(), "{}").is_ok());
    assert_eq!(merge(over.as_bytes(), "{}"), Err(MergePatchError::DocumentLimit(TextError::TooManyValues)));
    assert_eq!(json_patch(over.as_bytes(), "[]"), Err(JsonPatchError::DocumentLimit(TextError::TooManyValues)));
    let document: Value = serde_json::from_str(&fits).unwrap();
    assert!(merge_patch(&document, b"{}").is_ok());
    assert_eq!(merge_patch(&document, b"{\"b\":1}"), Err(MergePatchError::Result(TextError::TooManyValues)));
    let add = br#"[{"op":"add","path":"/b","value":1}]"#;
    assert_eq!(apply_json_patch(&document, add), Err(JsonPatchError::Result(TextError::TooManyValues)));
    assert!(strategic_merge(Map::new(), over.as_bytes(), &TYPES.of_kind("Pod")).is_err());
}

#[test]
fn nesting_has_a_limit_also_where_operations_build_it() {
    assert!(merge(b"{}", &nested(MAX_DEPTH)).is_ok());
    assert_eq!(merge(b"{}", &nested(MAX_DEPTH + 1)), Err(MergePatchError::Text(TextError::TooDeep)));
    assert_eq!(merge(nested(MAX_DEPTH + 1).as_bytes(), "{}"), Err(MergePatchError::DocumentLimit(TextError::TooDeep)));
    let path = "/a".repeat(100);
    let document = nested(100);
    let add = |levels: usize| format!(r#"[{{"op":"add","path":"{path}","value":{}}}]"#, nested(levels));
    assert!(json_patch(document.as_bytes(), &add(MAX_DEPTH - 100)).is_ok());
    assert_eq!(json_patch(document.as_bytes(), &add(MAX_DEPTH - 99)), Err(JsonPatchError::TooDeep { index: 0 }));
    // Copies and moves of what is deep already: each would double the depth.
    for op in ["copy", "move"] {
        let document = format!("{{\"a\":{0},\"b\":{0}}}", nested(80));
        let patch = format!(r#"[{{"op":"{op}","from":"/a","path":"/b{}"}}]"#, "/a".repeat(80));
        assert_eq!(json_patch(document.as_bytes(), &patch), Err(JsonPatchError::TooDeep { index: 0 }), "{op}");
    }
    let opened = format!("{{\"a\":{0},\"b\":{0}}}", nested(80));
    let patch = format!(
        r#"[{{"op":"test","path":"/a","value":{0}}},{{"op":"move","from":"/a","path":"/b{1}"}}]"#,
        nested(80),
        "/a".repeat(80)
    );
    assert_eq!(json_patch(opened.as_bytes(), &patch), Err(JsonPatchError::TooDeep { index: 1 }));
}

#[test]
fn ten_thousand_operations_are_applied_and_no_more() {
    let patch = |count: usize| format!("[{}]", vec![r#"{"op":"test","path":"/a","value":1}"#; count].join(","));
    assert!(json_patch(b"{\"a\":1}", &patch(MAX_OPERATIONS)).is_ok());
    let error = json_patch(b"{\"a\":1}", &patch(MAX_OPERATIONS + 1)).unwrap_err();
    assert_eq!((error.clone(), error.answer()), (JsonPatchError::TooManyOperations(10_001), Answer::TooLarge));
    assert_eq!(error.to_string(), "The allowed maximum operations in a JSON patch is 10000, got 10001");
}

#[test]
fn copies_add_three_mebibytes_and_no_more() {
    let document = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 2)).into_bytes();
    let patch = format!("[{}]", [r#"{"op":"copy","from":"/a","path":"/b"}"#; 3].join(","));
    assert!(json_patch(&document(MAX_COPY_BYTES / 3), &patch).is_ok());
    let error = json_patch(&document(MAX_COPY_BYTES / 3 + 1), &patch).unwrap_err();
    let text =
        "Unable to complete the copy, the accumulated size increase of copy is 3145731, exceeding the limit 3145728";
    assert_eq!(error, JsonPatchError::Operation { index: 2, text: text.to_owned() });
}

#[test]
fn many_operations_on_a_long_list_end_in_time() {
    let document = format!("{{\"a\":[0{}]}}", ",0".repeat(150_000));
    let operation = r#"{"op":"add","path":"/a/0","value":0}"#;
    let fits = MAX_STEPS / 151_000 - 1;
    let patch = |count: usize| format!("[{}]", vec![operation; count].join(","));
    assert!(json_patch(document.as_bytes(), &patch(fits)).is_ok());
    let error = json_patch(document.as_bytes(), &patch(MAX_OPERATIONS)).unwrap_err();
    assert!(matches!(error, JsonPatchError::TooMuchWork { index } if index >= fits), "{error}");
    assert_eq!(error.answer(), Answer::TooLarge);
    let shift = r#"{"op":"move","from":"/a","path":"/b"},{"op":"move","from":"/b","path":"/a"}"#;
    let patch = format!(r#"[{{"op":"test","path":"/a/0","value":0}},{}]"#, vec![shift; 4_000].join(","));
    assert!(matches!(json_patch(document.as_bytes(), &patch), Err(JsonPatchError::TooMuchWork { .. })));
}

/// Upstream compares each element with each; ours looks them up.
#[test]
fn long_lists_of_a_strategic_patch_are_merged_in_time() {
    let count = 40_000;
    let names: Vec<Value> = (0..count).map(|number| json!({ "name": number.to_string() })).collect();
    let mut deleted: Vec<Value> = names.clone();
    deleted.reverse();
    for item in &mut deleted {
        item["$patch"] = json!("delete");
    }
    let original = |names: &[Value]| {
        let Value::Object(members) = json!({ "spec": { "containers": names } }) else { panic!("an object") };
        members
    };
    let pod = TYPES.of_kind("Pod");
    let merged = |patch: &Value| strategic_merge(original(&names), patch.to_string().as_bytes(), &pod).unwrap();
    let gone = merged(&json!({ "spec": { "containers": deleted } }));
    assert_eq!(gone["spec"]["containers"], json!([]));
    let mut turned = names.clone();
    turned.reverse();
    let patch = json!({ "spec": { "$setElementOrder/containers": turned, "containers": turned } });
    assert_eq!(merged(&patch)["spec"]["containers"], json!(turned));
    let twice: Vec<Value> = (0..2 * count).map(|number| json!((number % count).to_string())).collect();
    let Value::Object(finalizers) = json!({ "metadata": { "finalizers": twice } }) else { panic!("an object") };
    let patch = json!({ "metadata": { "finalizers": twice } }).to_string();
    let unique = strategic_merge(finalizers, patch.as_bytes(), &pod).unwrap();
    assert_eq!(unique["metadata"]["finalizers"].as_array().unwrap().len(), count);
}
