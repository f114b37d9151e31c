//! Metadata of any object, when it is made and when it changes.
//!
//! Compat: `apimachinery/pkg/api/validation/objectmeta.go` and, for finalizers, `pkg/apis/core/validation`. On an update the
//! server judges metadata in general and once more for the kind, so a mistake is listed more than once; so it is here.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

use super::labels::labels;
use super::{IMMUTABLE, NOT_NEGATIVE, Path, Wrong};
use crate::resources::tree::{Members, integer, list, members, string};

/// Bytes that keys and values of all annotations of one object may have together.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Judges an object's name.
pub(crate) type NameRule = fn(&str) -> Vec<String>;

/// Metadata as each kind judges it; `rule` is that of its names.
pub(crate) fn object_meta(object: &Members, namespaced: bool, rule: NameRule, wrong: &mut Wrong) {
    any_finalizers(object, namespaced, rule, wrong);
    finalizer_names(metadata(object), wrong);
}

/// The same for kinds whose finalizers need not be qualified.
pub(crate) fn any_finalizers(object: &Members, namespaced: bool, rule: NameRule, wrong: &mut Wrong) {
    judge(object, namespaced, rule, |stem| rule(&without_dash(stem)), wrong);
}

fn finalizer_names(metadata: &Value, wrong: &mut Wrong) {
    for (index, finalizer) in list(metadata, "finalizers").iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        if !finalizer.contains('/') && ![ORPHAN, FOREGROUND, "kubernetes"].contains(&finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            wrong.invalid(&root().child("finalizers").index(index), finalizer, why);
        }
    }
}

/// Metadata as the server judges that of every kind.
pub(crate) fn general(object: &Members, namespaced: bool, wrong: &mut Wrong) {
    // Compat: dots alone may begin a name.
    let stem = |stem: &str| {
        if stem.starts_with('.') { names::path_segment(&format!("a{stem}")) } else { names::path_segment(stem) }
    };
    judge(object, namespaced, names::path_segment, stem, wrong);
}

/// Compat: `maskTrailingDash`: a stem may end in a dash, which goes together with what stands before it.
fn without_dash(stem: &str) -> String {
    match stem.as_bytes() {
        [rest @ .., _, b'-'] => format!("{}a", String::from_utf8_lossy(rest)),
        _ => stem.to_owned(),
    }
}

fn judge(
    object: &Members,
    namespaced: bool,
    rule: NameRule,
    stem_rule: impl Fn(&str) -> Vec<String>,
    wrong: &mut Wrong,
) {
    let (metadata, path) = (metadata(object), root());
    let stem = string(metadata, "generateName");
    if !stem.is_empty() {
        wrong.each(&path.child("generateName"), stem, stem_rule(stem));
    }
    let name = string(metadata, "name");
    if name.is_empty() {
        wrong.required(&path.child("name"), "name or generateName is required");
    } else {
        wrong.each(&path.child("name"), name, rule(name));
    }
    let namespace = string(metadata, "namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => wrong.required(&path.child("namespace"), ""),
        (true, false) => wrong.each(&path.child("namespace"), namespace, names::dns_label(namespace)),
        (false, true) => {}
        (false, false) => wrong.forbidden(&path.child("namespace"), "not allowed on this type"),
    }
    generation_labels_annotations_owners(metadata, &path, wrong);
    finalizers(list(metadata, "finalizers"), &path.child("finalizers"), wrong);
}

/// What an update may not do to metadata, as each kind judges it.
pub(crate) fn object_meta_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    general_update(new, old, wrong);
    finalizer_names(metadata(new), wrong);
}

/// What an update may not do to metadata, as the server judges that of every kind.
pub(crate) fn general_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    let (new, old, path) = (metadata(new), metadata(old), root());
    if !string(old, "deletionTimestamp").is_empty() {
        let before = list(old, "finalizers");
        let mut extra: Vec<&str> = list(new, "finalizers")
            .iter()
            .filter(|finalizer| !before.contains(finalizer))
            .filter_map(Value::as_str)
            .collect();
        extra.sort_unstable();
        extra.dedup();
        if !extra.is_empty() {
            let quoted: Vec<String> = extra.iter().map(|name| portcullis_kube::go::quote(name)).collect();
            wrong.forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    quoted.join(", ")
                ),
            );
        }
    }
    if string(new, "resourceVersion").is_empty() {
        wrong.invalid(&path.child("resourceVersion"), "", "must be specified for an update");
    }
    for name in ["name", "namespace", "uid"] {
        if string(new, name) != string(old, name) {
            wrong.invalid(&path.child(name), string(new, name), IMMUTABLE);
        }
    }
    for name in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if new.get(name) != old.get(name) {
            wrong.invalid_value(&path.child(name), new.get(name).unwrap_or(&Value::Null), IMMUTABLE);
        }
    }
    generation_labels_annotations_owners(new, &path, wrong);
}

fn generation_labels_annotations_owners(metadata: &Value, path: &Path, wrong: &mut Wrong) {
    if let Some(generation) = integer(metadata, "generation").filter(|generation| *generation < 0) {
        wrong.push(FieldError::invalid_json(path.child("generation"), &generation, NOT_NEGATIVE));
    }
    labels(members(metadata, "labels"), &path.child("labels"), wrong);
    annotations(members(metadata, "annotations"), &path.child("annotations"), wrong);
    owner_references(list(metadata, "ownerReferences"), &path.child("ownerReferences"), wrong);
}

/// Keys like those of labels in any case, and a limit on all of them together.
pub(crate) fn annotations(annotations: &Members, path: &Path, wrong: &mut Wrong) {
    let mut bytes = 0_usize;
    for (key, value) in annotations {
        wrong.each(path, key, names::label_key(&key.to_lowercase()));
        bytes = bytes.saturating_add(key.len()).saturating_add(value.as_str().unwrap_or_default().len());
    }
    if bytes > ANNOTATIONS_LIMIT {
        wrong.push(FieldError::too_long(path, ANNOTATIONS_LIMIT));
    }
}

fn owner_references(references: &[Value], path: &Path, wrong: &mut Wrong) {
    let mut controller: Option<String> = None;
    for (index, reference) in references.iter().enumerate() {
        let at = path.index(index);
        let api_version = string(reference, "apiVersion");
        if api_version.is_empty() {
            wrong.required(&at.child("apiVersion"), "must not be empty");
        } else if api_version.matches('/').count() > 1 || api_version.ends_with('/') {
            wrong.invalid(&at.child("apiVersion"), api_version, "must be <group>/<version> or <version>");
        }
        for name in ["kind", "name", "uid"] {
            if string(reference, name).is_empty() {
                wrong.required(&at.child(name), "must not be empty");
            }
        }
        // Compat: a slash before the version is none.
        if api_version.strip_prefix('/').unwrap_or(api_version) == "v1" && string(reference, "kind") == "Event" {
            wrong.invalid_value(&at, reference, "/v1, Kind=Event is disallowed from being an owner");
        }
        if reference.get("controller").and_then(Value::as_bool) == Some(true) {
            let current = format!("{}/{}", string(reference, "kind"), string(reference, "name"));
            match &controller {
                Some(first) => {
                    let why = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"
                    );
                    wrong.invalid_value(path, &Value::Array(references.to_vec()), why);
                }
                None => controller = Some(current),
            }
        }
    }
}

fn finalizers(finalizers: &[Value], path: &Path, wrong: &mut Wrong) {
    for finalizer in finalizers {
        let finalizer = finalizer.as_str().unwrap_or_default();
        wrong.each(path, finalizer, names::label_key(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer.as_str() == Some(name));
    if has(ORPHAN) && has(FOREGROUND) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        wrong.invalid_value(path, &Value::Array(finalizers.to_vec()), why);
    }
}

fn metadata(object: &Members) -> &Value {
    object.get("metadata").unwrap_or(&Value::Null)
}

fn root() -> Path {
    Path::new("metadata")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(check: impl FnOnce(&mut Wrong)) -> Vec<String> {
        let mut wrong = Wrong::default();
        check(&mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    fn object(metadata: Value) -> Members {
        json!({"metadata": metadata}).as_object().unwrap().clone()
    }

    #[test]
    fn owners_must_be_whole_and_one_of_them_controls() {
        let owners = json!([
            {"apiVersion": "", "kind": "", "name": "", "uid": ""},
            {"apiVersion": "a/b/c", "kind": "K", "name": "n", "uid": "u", "controller": true},
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]);
        let object = object(json!({"name": "n", "namespace": "d", "ownerReferences": owners}));
        let found = texts(|wrong| object_meta(&object, true, names::dns_subdomain, wrong));
        assert_eq!(found.len(), 6);
        assert_eq!(found[0], "metadata.ownerReferences[0].apiVersion: Required value: must not be empty");
        assert!(found[5].ends_with("Found \"true\" in references for K/n and Pod/p"), "{}", found[5]);
    }

    #[test]
    fn stems_of_names_may_end_in_a_dash() {
        let found = |stem: &str| {
            let object = object(json!({"name": "n", "namespace": "d", "generateName": stem}));
            let kind = texts(|wrong| object_meta(&object, true, names::dns_subdomain, wrong)).len();
            (kind, texts(|wrong| general(&object, true, wrong)).len())
        };
        for (stem, want) in [
            ("a-", (0, 0)),
            ("a_-", (0, 0)),
            ("_", (1, 0)),
            (".", (1, 0)),
            ("a/", (1, 1)),
            ("é-", (1, 0)),
            ("-", (1, 0)),
        ] {
            assert_eq!(found(stem), want, "{stem}");
        }
    }

    #[test]
    fn an_object_that_is_going_takes_no_new_finalizers() {
        let old = object(json!({"name": "n", "resourceVersion": "1", "deletionTimestamp": "t", "finalizers": ["a/b"]}));
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
        let want = "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
                    found new finalizers []string{\"c/d\"}";
        assert_eq!(texts(|wrong| object_meta_update(&new, &old, wrong)), [want]);
        new["metadata"]["finalizers"] = json!([]);
        assert!(texts(|wrong| object_meta_update(&new, &old, wrong)).is_empty());
    }

    #[test]
    fn versions_and_identities_stay() {
        let old = object(json!({"name": "n", "uid": "u", "resourceVersion": "1"}));
        let new = object(json!({"name": "n", "uid": "v"}));
        assert_eq!(
            texts(|wrong| object_meta_update(&new, &old, wrong)),
            [
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.uid: Invalid value: \"v\": field is immutable"
            ]
        );
    }
}
