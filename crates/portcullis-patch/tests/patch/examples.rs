//! What the documents show: RFC 6902 appendix A, RFC 7386 appendix A, and the kubectl steps that need a strategic patch.

use portcullis_patch::{
    Answer, FieldValidation, JsonPatch, JsonPatchError, MergePatchError, PatchText, StrategicError, StrategicPatch,
    TextError, apply_json_patch, merge_patch, strategic_merge,
};
use serde_json::{Map, Value, json};

use crate::types::TYPES;

fn applied(document: &Value, patch: &Value) -> Result<Value, JsonPatchError> {
    apply_json_patch(document, patch.to_string().as_bytes())
}

#[test]
fn json_patches_do_what_rfc_6902_shows() {
    for (document, patch, want) in [
        (
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/baz", "value": "qux"}]),
            json!({"baz": "qux", "foo": "bar"}),
        ),
        (
            json!({"foo": ["bar", "baz"]}),
            json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
            json!({"foo": ["bar", "qux", "baz"]}),
        ),
        (json!({"baz": "qux", "foo": "bar"}), json!([{"op": "remove", "path": "/baz"}]), json!({"foo": "bar"})),
        (
            json!({"foo": ["bar", "qux", "baz"]}),
            json!([{"op": "remove", "path": "/foo/1"}]),
            json!({"foo": ["bar", "baz"]}),
        ),
        (
            json!({"baz": "qux", "foo": "bar"}),
            json!([{"op": "replace", "path": "/baz", "value": "boo"}]),
            json!({"baz": "boo", "foo": "bar"}),
        ),
        (
            json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
            json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
            json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
        ),
        (
            json!({"foo": ["all", "grass", "cows", "eat"]}),
            json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
            json!({"foo": ["all", "cows", "eat", "grass"]}),
        ),
        (
            json!({"baz": "qux", "foo": ["a", 2, "c"]}),
            json!([{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}]),
            json!({"baz": "qux", "foo": ["a", 2, "c"]}),
        ),
        (
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/child", "value": {"grandchild": {}}}]),
            json!({"foo": "bar", "child": {"grandchild": {}}}),
        ),
        (
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}]),
            json!({"foo": "bar", "baz": "qux"}),
        ),
        (json!({"/": 9, "~1": 10}), json!([{"op": "test", "path": "/~01", "value": 10}]), json!({"/": 9, "~1": 10})),
        (
            json!({"foo": ["bar"]}),
            json!([{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]),
            json!({"foo": ["bar", ["abc", "def"]]}),
        ),
    ] {
        assert_eq!(applied(&document, &patch), Ok(want), "{patch}");
    }
    for (document, patch, want) in [
        (
            json!({"baz": "qux"}),
            json!([{"op": "test", "path": "/baz", "value": "bar"}]),
            "testing value /baz failed: test failed",
        ),
        (
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/baz/bat", "value": "qux"}]),
            "add operation does not apply: doc is missing path: \"/baz/bat\": missing value",
        ),
        (
            json!({"/": 9, "~1": 10}),
            json!([{"op": "test", "path": "/~01", "value": "10"}]),
            "testing value /~01 failed: test failed",
        ),
    ] {
        let error = applied(&document, &patch).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.answer()), (want, Answer::Invalid));
    }
}

#[test]
fn merge_patches_do_what_rfc_7386_shows() {
    for (document, patch, want) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        assert_eq!(merge_patch(&document, patch.to_string().as_bytes()), Ok(want), "{document} + {patch}");
    }
    // Compat: the RFC lets a scalar or null replace the document; json-patch refuses.
    for patch in ["null", "\"bar\"", "1"] {
        let error = merge_patch(&json!({"a": "foo"}), patch.as_bytes()).unwrap_err();
        assert_eq!((&error, error.answer()), (&MergePatchError::Patch, Answer::BadRequest));
        assert_eq!(error.to_string(), "Invalid JSON Patch");
    }
}

#[test]
fn numbers_survive_as_they_were_written() {
    let document = json!({"i": i64::MIN, "u": u64::MAX, "f": 1e21, "g": 0.5});
    let patch = br#"{"x":9223372036854775807,"y":18446744073709551615,"z":1.5}"#;
    let want = json!({"f": 1e21, "g": 0.5, "i": i64::MIN, "u": u64::MAX, "x": i64::MAX, "y": u64::MAX, "z": 1.5});
    assert_eq!(merge_patch(&document, patch), Ok(want.clone()));
    let patch = br#"[{"op":"add","path":"/x","value":9223372036854775807},{"op":"add","path":"/y","value":18446744073709551615},{"op":"add","path":"/z","value":1.5}]"#;
    assert_eq!(apply_json_patch(&document, patch), Ok(want));
}

#[test]
fn an_error_names_the_operation_that_failed() {
    let patch = json!([{"op": "add", "path": "/a", "value": 1}, {"op": "remove", "path": "/b"}]);
    let error = applied(&json!({}), &patch).unwrap_err();
    let text = "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value".to_owned();
    assert_eq!(error, JsonPatchError::Operation { index: 1, text });
    let crash = applied(&json!({"l": [null]}), &json!([{"op": "test", "path": "/l", "value": [null]}])).unwrap_err();
    assert!(matches!(crash, JsonPatchError::Crash { index: 0, .. }));
    assert_eq!(crash.answer(), Answer::Crash);
    assert_eq!(
        crash.to_string(),
        "operation 0 of the JSON patch cannot be applied: a list that is compared holds null"
    );
}

#[test]
fn findings_are_reported_only_when_they_are_asked_for() {
    let text = PatchText::check(br#"[{"op":"add","path":"/a","value":1,"vale":2}]"#).unwrap();
    let patch = JsonPatch::decode(text, FieldValidation::Report).unwrap();
    assert_eq!(patch.findings(), [r#"json patch unknown field "[0].vale""#]);
    assert_eq!(patch.apply(b"{}").unwrap(), br#"{"a":1}"#);
    let patch = JsonPatch::decode(text, FieldValidation::Ignore).unwrap();
    assert!(patch.findings().is_empty());
}

fn strategic(kind: &str, original: Value, patch: &Value) -> Result<Value, StrategicError> {
    let Value::Object(original) = original else { panic!("an object") };
    strategic_merge(original, patch.to_string().as_bytes(), &TYPES.of_kind(kind)).map(Value::Object)
}

fn pod(spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
}

#[test]
fn containers_are_merged_by_name() {
    let original = pod(
        &json!({"containers": [{"name": "a", "image": "one", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "two"}]}),
    );
    let patch = json!({"spec": {"containers": [{"name": "a", "image": "three", "env": [{"name": "Y", "value": "2"}]}, {"name": "c", "image": "four"}]}});
    let merged = strategic("Pod", original, &patch).unwrap();
    assert_eq!(
        merged["spec"]["containers"],
        json!([
            {"name": "a", "image": "three", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            {"name": "c", "image": "four"},
            {"name": "b", "image": "two"},
        ])
    );
}

/// kubectl apply, second time: one container renamed, one injected by somebody else.
#[test]
fn an_applied_list_keeps_what_others_put_into_it() {
    let original = pod(&json!({"containers": [{"name": "old"}, {"name": "injected"}]}));
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "new"}], "containers": [{"name": "new"}, {"$patch": "delete", "name": "old"}]}});
    let merged = strategic("Pod", original, &patch).unwrap();
    assert_eq!(merged["spec"]["containers"], json!([{"name": "injected"}, {"name": "new"}]));
}

#[test]
fn finalizers_go_and_come_one_by_one() {
    let original = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b", "x"]}});
    assert_eq!(strategic("ConfigMap", original.clone(), &patch).unwrap()["metadata"]["finalizers"], json!(["a", "c"]));
    let patch = json!({"metadata": {"finalizers": ["d", "a"]}});
    assert_eq!(
        strategic("ConfigMap", original, &patch).unwrap()["metadata"]["finalizers"],
        json!(["d", "a", "b", "c"])
    );
}

#[test]
fn retained_keys_are_the_only_ones_that_stay() {
    let original = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let merged = strategic("Deployment", original.clone(), &patch).unwrap();
    assert_eq!(merged["spec"]["strategy"], json!({"type": "Recreate"}));
    let patch = json!({"spec": {"strategy": {"$retainKeys": [], "type": "Recreate"}}});
    let error = strategic("Deployment", original, &patch).unwrap_err();
    assert_eq!((&error, error.answer()), (&StrategicError::RetainKeys, Answer::BadRequest));
}

#[test]
fn rules_are_replaced_and_labels_are_merged() {
    let original =
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]});
    let patch = json!({"metadata": {"labels": {"b": null, "c": "3"}}, "rules": [{"verbs": ["watch"]}]});
    let merged = strategic("ClusterRole", original, &patch).unwrap();
    assert_eq!(merged, json!({"metadata": {"labels": {"a": "1", "c": "3"}}, "rules": [{"verbs": ["watch"]}]}));
}

#[test]
fn what_the_type_does_not_have_is_named() {
    for (patch, want) in [
        (
            json!({"spec": {"$setElementOrder/contaners": []}}),
            r#"unable to find api field in struct PodSpec for the json field "contaners""#,
        ),
        (json!({"spec": {"$setElementOrder/nodeName": []}}), "expected slice or array type, but got: struct"),
        (
            json!({"spec": {"containers": [{"image": "x"}]}}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "merge", "name": "a"}]}}),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"spec": {"containers": [{"$patch": 5, "name": "a"}]}}),
            "unknown patch type: %!s(int64=5) in map: map[$patch:5 name:a]",
        ),
        (json!({"spec": {"containers": ["a"]}}), "list element types are not identical: [[map[name:a]] [a]]"),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}),
            "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
        ),
        (json!({"metadata": {"$setElementOrder/finalizers": "x"}}), "expected a []interface {}, but received a string"),
    ] {
        let error = strategic("Pod", pod(&json!({"containers": [{"name": "a"}]})), &patch).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.answer()), (want, Answer::Failure));
    }
}

#[test]
fn malformed_directives_are_the_clients_fault() {
    for (patch, want) in [
        (json!({"$deleteFromPrimitiveList": []}), StrategicError::DeleteFromPrimitiveList),
        (json!({"$setElementOrderX/a": []}), StrategicError::SetElementOrder),
        (json!({"$retainKeys": {}}), StrategicError::RetainKeys),
    ] {
        let error = strategic("Pod", pod(&json!({})), &patch).unwrap_err();
        assert_eq!((&error, error.answer()), (&want, Answer::BadRequest));
    }
    let lists = strategic("Pod", json!({"metadata": {"finalizers": []}}), &json!({"metadata": {"finalizers": [[]]}}))
        .unwrap_err();
    assert_eq!((&lists, lists.answer()), (&StrategicError::ListOfLists, Answer::Invalid));
    let error = strategic_merge(Map::new(), b"{", &TYPES.of_kind("Pod")).unwrap_err();
    assert_eq!(error, StrategicError::Text(TextError::NotJson));
}

#[test]
fn what_is_left_of_a_patch_is_printed_as_go_prints_it() {
    let text = json!({"metadata": {"labels": {"a": "b", "c": null}}, "spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "image": "x"}], "replicas": 1.5}});
    let text = text.to_string();
    let patch = StrategicPatch::decode(PatchText::check(text.as_bytes()).unwrap(), FieldValidation::Report).unwrap();
    let Value::Object(original) = pod(&json!({"containers": [{"name": "a"}]})) else { panic!("an object") };
    let merged = patch.apply(original, &TYPES.of_kind("Pod")).unwrap();
    assert_eq!(merged.left(), "map[metadata:map[labels:map[a:b]] spec:map[replicas:1.5]]");
}
