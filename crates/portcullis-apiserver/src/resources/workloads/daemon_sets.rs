//! Daemon sets.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::{Value, json};

use super::super::check::{Path, Wrong, formats, labels, meta, same};
use super::super::rules::{Rules, count_up, differs, set_generation};
use super::super::tree::{Members, at, child, has, string, take_over};
use super::deployments::same_selector;
use super::{collisions_grow, lasts, not_negative, template_warnings};
use crate::resources::pod_spec;

pub(crate) const RULES: Rules = Rules {
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    validate_status,
    warnings: |new, old| match old {
        // Compat: here the template decides, elsewhere the generation.
        Some(old) if at(old, &["spec", "template"]) == at(new, &["spec", "template"]) => Vec::new(),
        _ => template_warnings(new, old, &["spec", "template"]),
    },
    ..Rules::WITH_STATUS
};
/// Compat: the generation of the template alone, which `apps/v1` keeps in an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn prepare_create(members: &mut Members) {
    members.shift_remove("status");
    set_generation(members, 1);
    let sent = template_generation(members);
    set_template_generation(members, sent.max(1));
}

fn prepare_update(new: &mut Members, old: &Members) {
    take_over(new, old, &["status"]);
    let before = template_generation(old);
    let template = |members: &Members| at(members, &["spec", "template"]).cloned().unwrap_or_default();
    if same(&template(new), &template(old)) {
        set_template_generation(new, before);
        if differs(new, old, "spec") {
            count_up(new, old);
        }
    } else {
        set_template_generation(new, before.saturating_add(1));
        count_up(new, old);
    }
}

fn template_generation(members: &Members) -> i64 {
    let text = at(members, &["metadata", "annotations", TEMPLATE_GENERATION]).and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(members: &mut Members, generation: i64) {
    let annotations = super::super::tree::object(super::super::tree::object(members, "metadata"), "annotations");
    annotations.insert(TEMPLATE_GENERATION.to_owned(), json!(generation.to_string()));
}

fn validate(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    spec(new, wrong);
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    same_selector(new, old, wrong);
    spec(new, wrong);
}

fn spec(new: &Members, wrong: &mut Wrong) {
    let (spec, path) = (new.get("spec").unwrap_or(&Value::Null), Path::new("spec"));
    let (selector, at) = (child(spec, "selector"), path.child("selector"));
    let before = wrong.len();
    labels::selector(selector, &at, wrong);
    if wrong.len() == before {
        let labels_of = super::super::tree::members(child(child(spec, "template"), "metadata"), "labels");
        if selector.is_null() || !labels::matches(selector, labels_of) {
            labels::finds_template(spec, &path, wrong);
        }
    }
    if !selector.is_null() && labels::is_empty(selector) {
        wrong.invalid_value(&at, selector, "empty selector is invalid for daemonset");
    }
    pod_spec::template(child(spec, "template"), &path.child("template"), wrong);
    lasts(spec, "DaemonSet", &path, wrong);
    not_negative(spec, &["minReadySeconds"], &path, wrong);
    strategy(child(spec, "updateStrategy"), &path.child("updateStrategy"), wrong);
    not_negative(spec, &["revisionHistoryLimit"], &path, wrong);
}

fn strategy(strategy: &Value, path: &Path, wrong: &mut Wrong) {
    match string(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" if !has(strategy, "rollingUpdate") => wrong.required(&path.child("rollingUpdate"), ""),
        "RollingUpdate" => {
            let (rolling, path) = (child(strategy, "rollingUpdate"), path.child("rollingUpdate"));
            let (unavailable, surge) = (child(rolling, "maxUnavailable"), child(rolling, "maxSurge"));
            let (at_unavailable, at_surge) = (path.child("maxUnavailable"), path.child("maxSurge"));
            formats::not_negative_int_or_percent(&at_unavailable, unavailable, wrong);
            formats::not_negative_int_or_percent(&at_surge, surge, wrong);
            formats::not_over_hundred_percent(&at_unavailable, unavailable, wrong);
            formats::not_over_hundred_percent(&at_surge, surge, wrong);
            match (formats::int_or_percent_value(unavailable) != 0, formats::int_or_percent_value(surge) != 0) {
                (true, true) => wrong.invalid_value(&at_surge, surge, "may not be set when maxUnavailable is non-zero"),
                (false, false) => wrong.required(&at_unavailable, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        kind => {
            let rolling = strategy.get("rollingUpdate").filter(|rolling| !rolling.is_null()).map(|rolling| {
                let part = |name: &str| rolling.get(name).cloned().unwrap_or(json!(0));
                json!({"MaxUnavailable": part("maxUnavailable"), "MaxSurge": part("maxSurge")})
            });
            let printed = json!({"Type": kind, "RollingUpdate": rolling});
            let mut error = FieldError::not_supported(path, "", &["RollingUpdate", "OnDelete"]);
            error.value = String::from_utf8(crate::json::to_vec(&printed)).ok();
            wrong.push(error);
        }
    }
}

fn validate_status(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    let counts = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    not_negative(new.get("status").unwrap_or(&Value::Null), &counts, &Path::new("status"), wrong);
    collisions_grow(new, old, wrong);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{filled, problems, template_of};
    use super::*;

    fn good() -> Value {
        json!({"selector": {"matchLabels": {"app": "a"}}, "template": template_of("a")})
    }

    #[test]
    fn the_template_has_a_generation_of_its_own() {
        let old = filled("daemonsets", good());
        assert_eq!(template_generation(&old), 1);
        let mut new = old.clone();
        new["spec"]["minReadySeconds"] = json!(5);
        prepare_update(&mut new, &old);
        assert_eq!((template_generation(&new), &new["metadata"]["generation"]), (1, &json!(2)));
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j");
        prepare_update(&mut new, &old);
        assert_eq!((template_generation(&new), &new["metadata"]["generation"]), (2, &json!(2)));
    }

    #[test]
    fn an_update_either_takes_away_or_adds() {
        assert!(problems("daemonsets", good()).is_empty());
        let with = |rolling: Value| {
            let mut spec = good();
            spec["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
            problems("daemonsets", spec)
        };
        assert!(
            with(json!({"maxUnavailable": 1, "maxSurge": 1}))[0]
                .contains("may not be set when maxUnavailable is non-zero")
        );
        assert!(with(json!({"maxUnavailable": 0}))[0].contains("cannot be 0 when maxSurge is 0"));
        let mut spec = good();
        spec["selector"] = json!({"matchLabels": {"app": "b"}});
        spec["updateStrategy"] = json!({"type": "Odd"});
        assert_eq!(problems("daemonsets", spec).len(), 2);
    }
}
