//! Limit ranges and resource quotas: kept and validated, not enforced.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

use super::check::{IMMUTABLE, Path, Wrong, meta};
use super::rules::{Rules, keep_all_but_status};
use super::storage::not_negative_amount;
use super::tree::{Members, child, has, list, list_at, members, members_at, object, string, string_at, take_over};
use crate::schema::quantity::Quantity;

pub(crate) const LIMIT_RULES: Rules = Rules {
    create_on_update: true,
    prepare_create: name_it,
    validate: limit_range,
    validate_update: |new, _, wrong| limit_range(new, wrong),
    ..Rules::NAMESPACED
};
pub(crate) const QUOTA_RULES: Rules = Rules {
    returns_deleted: true,
    prepare_create: |members| drop(members.shift_remove("status")),
    prepare_update: |new, old| take_over(new, old, &["status"]),
    prepare_status: keep_all_but_status,
    validate: quota,
    validate_update: update_quota,
    warnings: quota_warnings,
    ..Rules::NAMESPACED
};
const COUNTED: [&str; 10] = [
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
    "count",
];
const MEASURED: [&str; 11] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

fn standard(name: &str) -> bool {
    COUNTED.contains(&name) || MEASURED.contains(&name) || name.contains("hugepages-")
}

fn resource_name(name: &str, path: &Path, wrong: &mut Wrong) -> bool {
    let sentences = names::label_key(name);
    let known = name.contains('/') || standard(name);
    if !sentences.is_empty() {
        wrong.each_typed(path, name, sentences);
        return false;
    }
    if !known {
        wrong.invalid_typed(path, name, "must be a standard resource type or fully qualified");
    }
    known
}

/// Compat: a limit range without a name gets an id for one.
fn name_it(new: &mut Members) {
    let metadata = object(new, "metadata");
    if string_at(metadata, &["name"]).is_empty()
        && let Some(id) = metadata.get("uid").cloned()
    {
        metadata.insert("name".to_owned(), id);
    }
}

fn limit_range(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    let mut seen = BTreeSet::new();
    for (index, limit) in list_at(new, &["spec", "limits"]).iter().enumerate() {
        let path = Path::new("spec.limits").index(index);
        let kind = string(limit, "type");
        let sentences = names::label_key(kind);
        if !sentences.is_empty() {
            wrong.each_typed(&path.child("type"), kind, sentences);
        } else if !kind.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind) {
            wrong.invalid_typed(&path.child("type"), kind, "must be a standard limit type or fully qualified");
        }
        if !seen.insert(kind) {
            wrong.duplicate(&path.child("type"), kind);
        }
        amounts(limit, kind, &path, wrong);
    }
}

fn amounts(limit: &Value, kind: &str, path: &Path, wrong: &mut Wrong) {
    let mut by_part: BTreeMap<&str, BTreeMap<&str, (&str, Quantity)>> = BTreeMap::new();
    for part in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        if kind == "Pod" && part.starts_with("default") {
            if has(limit, part) && !members(limit, part).is_empty() {
                wrong.forbidden(&path.child(part), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount) in members(limit, part) {
            let at = path.child(part).key(name);
            resource_name(name, &at, wrong);
            let for_containers = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str())
                || name.contains('/')
                || name.starts_with("hugepages-");
            if matches!(kind, "Pod" | "Container") && !for_containers {
                wrong.invalid_typed(&at, name, "must be a standard resource for containers");
            }
            let text = amount.as_str().unwrap_or_default();
            if let Ok(quantity) = Quantity::parse(text) {
                by_part.entry(part).or_default().insert(name, (text, quantity));
            }
        }
    }
    if kind == "PersistentVolumeClaim"
        && !["min", "max"].iter().any(|part| members(limit, part).contains_key("storage"))
    {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        wrong.required(&path.child("limits"), why);
    }
    let of = |part: &str, name: &str| by_part.get(part).and_then(|amounts| amounts.get(name)).copied();
    let named: BTreeSet<&str> = by_part.values().flat_map(BTreeMap::keys).copied().collect();
    for name in named {
        // The smaller, the larger, where the mistake is shown and which of the two is, and how they are called.
        for (low, high, shown, value_of, low_name, high_name) in [
            ("min", "max", "min", "min", "min value", "max value"),
            ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value", "default request value"),
            ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value", "max value"),
            (
                "defaultRequest",
                "default",
                "defaultRequest",
                "defaultRequest",
                "default request value",
                "default limit value",
            ),
            ("min", "default", "default", "min", "min value", "default value"),
            ("default", "max", "default", "max", "default value", "max value"),
        ] {
            let (Some((low_text, low)), Some((high_text, high))) = (of(low, name), of(high, name)) else { continue };
            if low.compare(high).is_gt() {
                let value = of(value_of, name).map_or("", |(text, _)| text);
                let why = format!("{low_name} {low_text} is greater than {high_name} {high_text}");
                wrong.invalid(&path.child(shown).key(name), value, why);
            }
        }
        if let (Some((text, ratio)), Ok(one)) = (of("maxLimitRequestRatio", name), Quantity::parse("1"))
            && ratio.compare(one).is_lt()
        {
            wrong.invalid(&path.child("maxLimitRequestRatio").key(name), text, format!("ratio {text} is less than 1"));
        }
    }
}

fn quota(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    quota_spec(new, wrong);
}

fn quota_spec(new: &Members, wrong: &mut Wrong) {
    let path = Path::new("spec.hard");
    for (name, amount) in members_at(new, &["spec", "hard"]) {
        let at = path.key(name);
        if !resource_name(name, &at, wrong) && !name.contains('/') {
            wrong.invalid_typed(&at, name, "must be a standard resource for quota");
        }
        not_negative_amount(amount, &at, wrong);
        let text = amount.as_str().unwrap_or_default();
        let counted = COUNTED.contains(&name.as_str()) || name.starts_with("count/");
        if counted && Quantity::parse(text).is_ok_and(|quantity| !quantity.is_whole()) {
            wrong.invalid(&at, text, "must be an integer");
        }
    }
    let scopes = list_at(new, &["spec", "scopes"]);
    let printed = Value::Array(scopes.to_vec());
    let path = Path::new("spec.scopes");
    let known = [
        "BestEffort",
        "NotBestEffort",
        "Terminating",
        "NotTerminating",
        "PriorityClass",
        "CrossNamespacePodAffinity",
        "VolumeAttributesClass",
    ];
    for scope in scopes.iter().filter_map(Value::as_str) {
        if !known.contains(&scope) {
            wrong.invalid_value(&path, &printed, "unsupported scope");
        }
        for _ in beyond(scope, new) {
            wrong.invalid_value(&path, &printed, "unsupported scope applied to resource");
        }
    }
    let has_scope = |name: &str| scopes.iter().any(|scope| scope.as_str() == Some(name));
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if has_scope(one) && has_scope(other) {
            wrong.invalid_value(&path, &printed, "conflicting scopes");
        }
    }
    scope_selector(new, &known, wrong);
}

/// The limited resources that a scope says nothing about.
fn beyond<'q>(scope: &str, quota: &'q Members) -> impl Iterator<Item = &'q str> {
    const COMPUTED: [&str; 7] =
        ["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    let valid: Option<&[&str]> = match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            Some(&COMPUTED)
        }
        "BestEffort" => Some(&["pods"]),
        "VolumeAttributesClass" => Some(&["persistentvolumeclaims", "requests.storage"]),
        _ => None,
    };
    let hard = members_at(quota, &["spec", "hard"]).keys().map(String::as_str);
    hard.filter(move |name| standard(name) && valid.is_some_and(|valid| !valid.contains(name)))
}

fn scope_selector(quota: &Members, known: &[&str], wrong: &mut Wrong) {
    let requirements = list_at(quota, &["spec", "scopeSelector", "matchExpressions"]);
    let path = Path::new("spec.scopeSelector.matchExpressions");
    for requirement in requirements {
        let (scope, operator) = (string(requirement, "scopeName"), string(requirement, "operator"));
        if !known.contains(&scope) {
            wrong.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in beyond(scope, quota) {
            wrong.invalid_value(&path, &internal(requirements), "unsupported scope applied to resource");
        }
        if !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && known.contains(&scope) && operator != "Exists"
        {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                       ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                       ResourceQuotaScopeCrossNamespacePodAffinity";
            wrong.invalid(&path.child("operator"), operator, why);
        }
        let values = list(requirement, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                wrong.required(&path.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                wrong.invalid_value(&path.child("values"), &Value::Array(values.to_vec()), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => wrong.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
    }
}

/// Compat: this message shows the selector under the names of Go's fields.
fn internal(requirements: &[Value]) -> Value {
    let each = requirements.iter().map(|requirement| {
        serde_json::json!({"ScopeName": child(requirement, "scopeName"), "Operator": child(requirement, "operator"),
            "Values": child(requirement, "values")})
    });
    serde_json::json!({"MatchExpressions": each.collect::<Vec<_>>()})
}

fn update_quota(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    quota_spec(new, wrong);
    let scopes = |members: &Members| -> BTreeSet<String> {
        list_at(members, &["spec", "scopes"]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if scopes(new) != scopes(old) {
        let printed = list(new.get("spec").unwrap_or(&Value::Null), "scopes").to_vec();
        wrong.push(FieldError::invalid_json("spec.scopes", &printed, IMMUTABLE));
    }
}

fn quota_warnings(new: &Members, old: Option<&Members>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let hard = child(new.get("spec").unwrap_or(&Value::Null), "hard");
    let amount =
        |name: &str| hard.get(name).and_then(Value::as_str).and_then(|text| Some((text, Quantity::parse(text).ok()?)));
    let mut out = Vec::new();
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let mut asked = format!("requests.{name}");
        if amount(&asked).is_none() && ["cpu", "memory"].contains(&name) {
            name.clone_into(&mut asked);
        }
        let most = format!("limits.{name}");
        if let (Some((request_text, request)), Some((limit_text, limit))) = (amount(&asked), amount(&most))
            && request.compare(limit).is_gt()
        {
            out.push(format!("ResourceQuota {asked} ({request_text}) should be less than {most} ({limit_text})"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(spec: Value) -> Members {
        let object = json!({"metadata": {"name": "q", "namespace": "d", "resourceVersion": "1"}, "spec": spec});
        object.as_object().unwrap().clone()
    }

    fn texts(check: impl FnOnce(&mut Wrong)) -> Vec<String> {
        let mut wrong = Wrong::default();
        check(&mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn limits_do_not_contradict_each_other() {
        let good = json!({"limits": [{"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}}]});
        assert!(texts(|wrong| limit_range(&of(good), wrong)).is_empty());
        let bad = json!({"limits": [{"type": "Container", "min": {"cpu": "3"}, "max": {"cpu": "2"}}, {"type": "Container"},
            {"type": "Pod", "default": {"cpu": "1"}}, {"type": "Odd"}, {"type": "PersistentVolumeClaim"}]});
        assert_eq!(
            texts(|wrong| limit_range(&of(bad), wrong)),
            [
                "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
                "spec.limits[1].type: Duplicate value: \"Container\"",
                "spec.limits[2].default: Forbidden: may not be specified when `type` is 'Pod'",
                "spec.limits[3].type: Invalid value: \"Odd\": must be a standard limit type or fully qualified",
                "spec.limits[4].limits: Required value: either minimum or maximum storage value is required, but neither was provided"
            ]
        );
    }

    #[test]
    fn quotas_name_what_they_limit() {
        let good = json!({"hard": {"pods": "10", "requests.cpu": "1", "count/widgets.example.com": "3"}});
        assert!(texts(|wrong| quota(&of(good), wrong)).is_empty());
        assert_eq!(
            texts(|wrong| quota(
                &of(json!({"hard": {"pods": "1.5"}, "scopes": ["BestEffort", "NotBestEffort", "Odd"]})),
                wrong
            )),
            [
                "spec.hard[pods]: Invalid value: \"1.5\": must be an integer",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: conflicting scopes"
            ]
        );
        assert_eq!(texts(|wrong| update_quota(&of(json!({"scopes": ["BestEffort"]})), &of(json!({})), wrong)).len(), 1);
        assert_eq!(quota_warnings(&of(json!({"hard": {"cpu": "2", "limits.cpu": "1"}})), None).len(), 1);
    }
}
