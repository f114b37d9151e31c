//! Annotations of pods and templates that whatever runs them reads: of kubelets, of old versions, and of AppArmor and seccomp
//! profiles, which are fields today.
//!
//! Compat: `ValidatePodSpecificAnnotations` and what stands around it in `pkg/apis/core/validation`, and
//! `applyAppArmorVersionSkew` of `pkg/registry/core/pod/strategy.go`. Tolerations in an annotation that cannot be read are kept.

use std::collections::HashSet;

use portcullis_kube::go::quote;
use serde_json::{Value, json};

use super::super::check::{Path, Wrong, formats};
use super::super::tree::{Members, at, child, has, list_at, members_at, object, objects_mut, string, string_at};
use super::scheduling;
use super::security::{self, visit};
use crate::parts::MIRROR_ANNOTATION;

const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub(super) const SECCOMP_OF_PODS: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(super) const SECCOMP_OF_CONTAINERS: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What is wrong with them. `before` is what stood there, when they are changed.
pub(crate) fn validate(
    annotations: &Members,
    before: Option<&Members>,
    spec: &Members,
    path: &Path,
    wrong: &mut Wrong,
) {
    let text = |key: &str| string_at(annotations, &[key]);
    if annotations.contains_key(MIRROR_ANNOTATION) && string_at(spec, &["nodeName"]).is_empty() {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        wrong.invalid(&path.key(MIRROR_ANNOTATION), text(MIRROR_ANNOTATION), why);
    }
    if let Ok(tolerations) = serde_json::from_str::<Vec<Value>>(text(TOLERATIONS)) {
        scheduling::tolerations(&tolerations, &path.child(TOLERATIONS), wrong);
    }
    // Compat: whoever had a wrong one may have another wrong one.
    if wrong_cost(annotations) && !before.is_some_and(wrong_cost) {
        wrong.invalid(&path.key(DELETION_COST), text(DELETION_COST), "must be a 32bit integer");
    }
    let of_pod = annotations.iter().filter(|(key, _)| *key == SECCOMP_OF_PODS);
    let of_containers = annotations.iter().filter(|(key, _)| key.starts_with(SECCOMP_OF_CONTAINERS));
    for (key, profile) in of_pod.chain(of_containers) {
        seccomp(profile.as_str().unwrap_or_default(), &path.child(key), wrong);
    }
    let mut containers = None;
    for (key, profile) in annotations {
        let Some(container) = key.strip_prefix(APP_ARMOR) else { continue };
        let names = || visit(spec, path).map(|(one, _)| string(one, "name")).collect::<HashSet<_>>();
        if !containers.get_or_insert_with(names).contains(container) {
            wrong.invalid(&path.key(key), container, "container not found");
        }
        let profile = profile.as_str().unwrap_or_default();
        if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
            let why = format!("invalid AppArmor profile name: {}", quote(profile));
            wrong.invalid(&path.key(key), profile, why);
        }
    }
}

/// What may not change in them.
pub(crate) fn validate_update(new: &Members, old: &Members, path: &Path, wrong: &mut Wrong) {
    let named = |key: &str| match key {
        MIRROR_ANNOTATION => Some("mirror pod annotation"),
        key => key.starts_with(APP_ARMOR).then_some("AppArmor annotations"),
    };
    for (key, before) in old {
        if let Some(what) = named(key).filter(|_| new.get(key) != Some(before)) {
            wrong.forbidden(&path.key(key), format!("may not remove or update {what}"));
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(*key)) {
        if let Some(what) = named(key) {
            wrong.forbidden(&path.key(key), format!("may not add {what}"));
        }
    }
}

/// Fields that say the same as an annotation have to say it too.
pub(crate) fn agree(annotations: &Members, spec: &Members, path: &Path, wrong: &mut Wrong) {
    let own = spec.get("securityContext").unwrap_or(&Value::Null);
    let text = |key: &str| annotations.get(key).and_then(Value::as_str);
    let seccomp = |annotation: Option<&str>, field: &Value, path: &Path, wrong: &mut Wrong| {
        if let Some(annotation) = annotation.filter(|_| field.is_object()) {
            let fits = |kind: &str| match kind {
                "Unconfined" => annotation == "unconfined",
                "RuntimeDefault" => matches!(annotation, "runtime/default" | "docker/default"),
                _ => true,
            };
            compare("seccomp", annotation, field, fits, &path.child("securityContext").child("seccompProfile"), wrong);
        }
    };
    seccomp(text(SECCOMP_OF_PODS), child(own, "seccompProfile"), path, wrong);
    for (container, path) in visit(spec, path) {
        let field = child(child(container, "securityContext"), "seccompProfile");
        seccomp(text(&format!("{SECCOMP_OF_CONTAINERS}{}", string(container, "name"))), field, &path, wrong);
    }
    if string_at(spec, &["os", "name"]) == "windows" {
        return;
    }
    for (container, path) in visit(spec, path) {
        let field = child(child(container, "securityContext"), "appArmorProfile");
        let field = if field.is_object() { field } else { child(own, "appArmorProfile") };
        let Some(annotation) = text(&format!("{APP_ARMOR}{}", string(container, "name"))) else { continue };
        let fits = |kind: &str| match kind {
            "Unconfined" => annotation == "unconfined",
            "RuntimeDefault" => annotation == "runtime/default",
            _ => true,
        };
        if field.is_object() {
            compare(
                "apparmor",
                annotation,
                field,
                fits,
                &path.child("securityContext").child("appArmorProfile"),
                wrong,
            );
        }
    }
}

fn compare(what: &str, annotation: &str, field: &Value, fits: impl Fn(&str) -> bool, path: &Path, wrong: &mut Wrong) {
    let kind = string(field, "type");
    let file = annotation.strip_prefix("localhost/");
    if !fits(kind) || (kind == "Localhost" && file.is_none()) {
        wrong.forbidden(&path.child("type"), format!("{what} type in annotation and field must match"));
    } else if kind == "Localhost" && file != child(field, "localhostProfile").as_str() {
        let why = format!("{what} profile in annotation and field must match");
        wrong.forbidden(&path.child("localhostProfile"), why);
    }
}

fn wrong_cost(annotations: &Members) -> bool {
    let Some(cost) = annotations.get(DELETION_COST).and_then(Value::as_str) else { return false };
    // Compat: neither a plus nor a zero may stand at its beginning.
    let first = cost == "0" || cost.starts_with(|first: char| matches!(first, '-' | '1'..='9'));
    !first || cost.parse::<i32>().is_err()
}

fn seccomp(profile: &str, path: &Path, wrong: &mut Wrong) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => formats::relative_path(path, file, wrong),
        None => wrong.invalid(path, profile, "must be a valid seccomp profile"),
    }
}

/// The field that says what an annotation about AppArmor says.
fn field_of(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let file = annotation.strip_prefix("localhost/").filter(|file| !file.is_empty())?;
            Some(json!({"type": "Localhost", "localhostProfile": file}))
        }
    }
}

fn is_same(field: &Value, other: &Value) -> bool {
    let parts = |field: &Value| (string(field, "type").to_owned(), child(field, "localhostProfile").clone());
    other.is_object() && parts(field) == parts(other)
}

fn deprecated(path: &Path, key: &str) -> String {
    let at = path.child("metadata").child("annotations").key(key);
    format!("{at}: deprecated since v1.30; use the \"appArmorProfile\" field instead")
}

/// Turns a new pod's annotations about AppArmor into fields; what whoever sends them is told.
pub(crate) fn app_armor_as_fields(pod: &mut Members) -> Vec<String> {
    let annotations = members_at(pod, &["metadata", "annotations"]).clone();
    let of_pod = at(pod, &["spec", "securityContext", "appArmorProfile"]).cloned().unwrap_or_default();
    if string_at(pod, &["spec", "os", "name"]) == "windows" || !annotations.keys().any(|key| key.starts_with(APP_ARMOR))
    {
        return Vec::new();
    }
    let mut told = Vec::new();
    let spec = object(pod, "spec");
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in objects_mut(spec, list) {
            let key = format!("{APP_ARMOR}{}", string_at(container, &["name"]));
            let Some(annotation) = annotations.get(&key).and_then(Value::as_str) else { continue };
            if at(container, &["securityContext", "appArmorProfile"]).is_some_and(Value::is_object) {
                continue;
            }
            let right = |field: &Value| {
                let mut wrong = Wrong::default();
                security::app_armor(field, &Path::new(""), &mut wrong);
                wrong.is_empty()
            };
            match field_of(annotation).filter(right) {
                Some(field) if is_same(&field, &of_pod) => continue,
                Some(field) => drop(object(container, "securityContext").insert("appArmorProfile".to_owned(), field)),
                None => {}
            }
            told.push(deprecated(&Path::new(""), &key));
        }
    }
    told
}

/// What is said about a template's annotations about AppArmor.
pub(super) fn of_template(template: &Members, path: &Path) -> Vec<String> {
    let annotations = members_at(template, &["metadata", "annotations"]);
    let of_pod = at(template, &["spec", "securityContext", "appArmorProfile"]).unwrap_or(&Value::Null);
    let containers = ["initContainers", "containers", "ephemeralContainers"];
    let containers = containers.iter().flat_map(|list| list_at(template, &["spec", *list]));
    let unsaid = containers.filter(|container| !has(child(container, "securityContext"), "appArmorProfile"));
    let keys = unsaid.map(|container| format!("{APP_ARMOR}{}", string(container, "name")));
    let old = keys.filter(|key| {
        let annotation = annotations.get(key).and_then(Value::as_str);
        annotation.is_some_and(|text| !field_of(text).is_some_and(|field| is_same(&field, of_pod)))
    });
    old.map(|key| deprecated(path, &key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Value) -> Members {
        value.as_object().unwrap().clone()
    }

    fn pod(annotations: Value, context: Value) -> Members {
        members(json!({"metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "c", "securityContext": context}, {"name": "d"}]}}))
    }

    fn wrong_in(annotations: Value) -> Vec<String> {
        let spec = members(json!({"containers": [{"name": "c"}]}));
        let mut wrong = Wrong::default();
        validate(&members(annotations), None, &spec, &Path::new("a"), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_read_by_others_has_to_be_right() {
        assert!(wrong_in(json!({"any": "thing", DELETION_COST: "-8", SECCOMP_OF_PODS: "localhost/a/b"})).is_empty());
        for cost in ["+1", "01", "", "x", "2147483648", "-"] {
            assert_eq!(
                wrong_in(json!({DELETION_COST: cost})),
                [format!("a[{DELETION_COST}]: Invalid value: \"{cost}\": must be a 32bit integer")]
            );
        }
        let told = wrong_in(
            json!({MIRROR_ANNOTATION: "x", SECCOMP_OF_PODS: "odd", TOLERATIONS: "[{\"operator\":\"Odd\"}]",
            format!("{SECCOMP_OF_CONTAINERS}c"): "localhost/../x", format!("{APP_ARMOR}c"): "odd", format!("{APP_ARMOR}e"): ""}),
        );
        assert_eq!(told.len(), 7, "{told:#?}");
    }

    #[test]
    fn some_of_them_stay_as_they_are() {
        let (one, two) = (members(json!({MIRROR_ANNOTATION: "x"})), members(json!({format!("{APP_ARMOR}c"): ""})));
        for (new, old, count) in [(&one, &one, 0), (&one, &two, 2), (&two, &one, 2), (&Members::new(), &one, 1)] {
            let mut wrong = Wrong::default();
            validate_update(new, old, &Path::new("a"), &mut wrong);
            assert_eq!(wrong.len(), count);
        }
    }

    #[test]
    fn annotations_about_app_armor_become_fields() {
        let field = |pod: &Members, index: usize| {
            pod["spec"]["containers"][index]["securityContext"]["appArmorProfile"].clone()
        };
        let mut both =
            pod(json!({format!("{APP_ARMOR}c"): "unconfined", format!("{APP_ARMOR}d"): "localhost/x"}), json!({}));
        assert_eq!(app_armor_as_fields(&mut both).len(), 2);
        assert_eq!(field(&both, 0), json!({"type": "Unconfined"}));
        assert_eq!(field(&both, 1), json!({"type": "Localhost", "localhostProfile": "x"}));
        let mut said =
            pod(json!({format!("{APP_ARMOR}c"): "unconfined"}), json!({"appArmorProfile": {"type": "RuntimeDefault"}}));
        assert!(app_armor_as_fields(&mut said).is_empty());
        let mut wrong = Wrong::default();
        agree(
            members_at(&said, &["metadata", "annotations"]),
            members_at(&said, &["spec"]),
            &Path::new("spec"),
            &mut wrong,
        );
        assert_eq!(wrong.len(), 1);
        let mut odd = pod(json!({format!("{APP_ARMOR}c"): "localhost/ x"}), json!({}));
        assert_eq!((app_armor_as_fields(&mut odd).len(), field(&odd, 0)), (1, Value::Null));
    }
}
