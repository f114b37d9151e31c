//! Events: what happened to what, as clients and controllers report it. They are stored as `v1`, and shown as
//! `events.k8s.io/v1` too, where names and rules are others.
//!
//! Compat: `pkg/apis/core/validation/events.go` and `pkg/apis/events/v1/conversion.go`. Of events with an `eventTime` more is
//! asked in both; the newer version takes no others.

use portcullis_kube::names;
use serde_json::{Value, json};

use super::check::{IMMUTABLE, Path, Wrong, meta, same};
use super::rules::{Collected, Rules};
use super::tree::{Members, at, integer, string, string_at};
use super::view::View;

/// Characters that each text of an event with a time of its own may have.
const LIMITS: [(&str, usize, bool); 4] =
    [("reportingInstance", 128, true), ("action", 128, true), ("reason", 128, true), ("message", 1_024, false)];

/// Fields that have another name in `events.k8s.io`: there, and as they are stored.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// What an update through `events.k8s.io` cannot change, as messages call it and as it is stored.
const FIXED: [(&str, &str); 13] = [
    ("involvedObject", "involvedObject"),
    ("reason", "reason"),
    ("message", "message"),
    ("source", "source"),
    ("firstTimestamp", "firstTimestamp"),
    ("lastTimestamp", "lastTimestamp"),
    ("count", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingComponent"),
    ("reportingInstance", "reportingInstance"),
];

/// `v1`.
pub(crate) const RULES: Rules = Rules {
    collected: Collected::Never,
    create_on_update: true,
    validate: |new, wrong| {
        event(new, "reportingComponent", wrong);
        // Compat: metadata is judged by `rest.BeforeCreate` alone, and only when the rest is right.
        if wrong.is_empty() {
            meta::general(new, true, wrong);
        }
    },
    validate_update: |new, _, wrong| event(new, "reportingComponent", wrong),
    ..Rules::NAMESPACED
};

/// `events.k8s.io/v1`.
pub(crate) const NEWER_RULES: Rules = Rules {
    validate: |new, wrong| {
        event(new, "reportingController", wrong);
        meta::object_meta(new, true, names::dns_subdomain, wrong);
        series(new, wrong);
        newer(new, wrong);
    },
    validate_update: |new, old, wrong| {
        event(new, "reportingController", wrong);
        meta::object_meta_update(new, old, wrong);
        if new.get("series") != old.get("series") {
            series(new, wrong);
        }
        for (path, name) in FIXED {
            let of = |members: &Members| members.get(name).cloned().unwrap_or_default();
            if !same(&of(new), &of(old)) {
                wrong.invalid_value(&Path::new(path), &internal(name, of(new)), IMMUTABLE);
            }
            // Compat: upstream looks at the reason twice.
            if name == "count" {
                let of = |members: &Members| internal("reason", members.get("reason").cloned().unwrap_or_default());
                wrong.unchanged(&Path::new("reason"), &of(new), &of(old));
            }
        }
    },
    ..RULES
};

/// Events as `events.k8s.io/v1` shows them.
pub(crate) const VIEW: View = View {
    show: |members| renamed(members, |name| RENAMED.iter().find(|(_, stored)| *stored == name).map(|pair| pair.0)),
    take: |members| renamed(members, |name| RENAMED.iter().find(|(shown, _)| *shown == name).map(|pair| pair.1)),
    fields: &[
        ("regarding.kind", "involvedObject.kind"),
        ("regarding.namespace", "involvedObject.namespace"),
        ("regarding.name", "involvedObject.name"),
        ("regarding.uid", "involvedObject.uid"),
        ("regarding.apiVersion", "involvedObject.apiVersion"),
        ("regarding.resourceVersion", "involvedObject.resourceVersion"),
        ("regarding.fieldPath", "involvedObject.fieldPath"),
        ("reportingController", "reportingComponent"),
        ("reason", "reason"),
        ("type", "type"),
    ],
};

fn renamed(members: Members, other: impl Fn(&str) -> Option<&'static str>) -> Members {
    members.into_iter().map(|(name, value)| (other(&name).map_or(name, str::to_owned), value)).collect()
}

/// What holds in both versions. `reporter` is what messages call the reporting component.
fn event(new: &Members, reporter: &str, wrong: &mut Wrong) {
    let namespace = string_at(new, &["metadata", "namespace"]);
    let involved = string_at(new, &["involvedObject", "namespace"]);
    let timed = !string_at(new, &["eventTime"]).is_empty();
    // Compat: objects outside of namespaces have their events in `default`, those with a time in `kube-system` too.
    let agrees = match (timed, involved.is_empty()) {
        (false, true) => matches!(namespace, "" | "default"),
        (false, false) => namespace == involved,
        (true, true) => matches!(namespace, "default" | "kube-system"),
        (true, false) => true,
    };
    if !agrees {
        let path = Path::new("involvedObject").child("namespace");
        wrong.invalid(&path, involved, "does not match event.namespace");
    }
    if !timed {
        return;
    }
    let path = Path::new(reporter);
    let reporter = string_at(new, &["reportingComponent"]);
    if reporter.is_empty() {
        wrong.required(&path, "");
    }
    wrong.each(&path, reporter, names::label_key(reporter));
    for (name, limit, required) in LIMITS {
        let (text, path) = (string_at(new, &[name]), Path::new(name));
        if required && text.is_empty() {
            wrong.required(&path, "");
        }
        if text.len() > limit {
            wrong.invalid(&path, "", format!("can have at most {limit} characters"));
        }
    }
}

/// Compat: messages show upstream's internal types.
fn internal(name: &str, value: Value) -> Value {
    let text = |name: &str| string(&value, name);
    match name {
        "involvedObject" | "related" if value.is_object() => {
            json!({"Kind": text("kind"), "Namespace": text("namespace"),
            "Name": text("name"), "UID": text("uid"), "APIVersion": text("apiVersion"),
            "ResourceVersion": text("resourceVersion"), "FieldPath": text("fieldPath")})
        }
        "source" => json!({"Component": text("component"), "Host": text("host")}),
        "count" => json!(value.as_i64().unwrap_or(0)),
        "reason" | "message" | "type" | "action" | "reportingComponent" | "reportingInstance" => {
            json!(value.as_str().unwrap_or_default())
        }
        _ => value,
    }
}

/// A series has been seen more than once.
fn series(new: &Members, wrong: &mut Wrong) {
    let Some(series) = new.get("series").filter(|series| series.is_object()) else { return };
    if integer(series, "count").unwrap_or(0) < 2 {
        wrong.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if string(series, "lastObservedTime").is_empty() {
        wrong.required(&Path::new("series.lastObservedTime"), "");
    }
}

/// What a new event of the newer version has, and what it has no more.
fn newer(new: &Members, wrong: &mut Wrong) {
    if string_at(new, &["eventTime"]).is_empty() {
        wrong.required(&Path::new("eventTime"), "");
    }
    let kind = string_at(new, &["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        wrong.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
    }
    let said = |path: &[&str]| !string_at(new, path).is_empty();
    let counted = at(new, &["count"]).and_then(Value::as_i64).unwrap_or(0) != 0;
    for (name, set) in [
        ("firstTimestamp", said(&["firstTimestamp"])),
        ("lastTimestamp", said(&["lastTimestamp"])),
        ("count", counted),
        ("source", said(&["source", "component"]) || said(&["source", "host"])),
    ] {
        if set {
            wrong.invalid(&Path::new(name), "", "needs to be unset");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(event: Value) -> Vec<String> {
        judged(&RULES, event)
    }

    fn judged(rules: &Rules, mut event: Value) -> Vec<String> {
        event["metadata"] = json!({"name": "e", "namespace": "n"});
        let mut wrong = Wrong::default();
        (rules.validate)(event.as_object().unwrap(), &mut wrong);
        wrong.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_event_lies_beside_its_object() {
        assert!(texts(json!({"involvedObject": {"namespace": "n"}})).is_empty());
        for namespace in ["", "m"] {
            let want =
                format!("involvedObject.namespace: Invalid value: \"{namespace}\": does not match event.namespace");
            assert_eq!(texts(json!({"involvedObject": {"namespace": namespace}})), [want]);
        }
    }

    #[test]
    fn newer_events_say_who_did_what() {
        let mut event = json!({"eventTime": "2026-01-01T00:00:00.000000Z", "involvedObject": {"namespace": "m"},
            "reportingComponent": "a/b", "reportingInstance": "i", "action": "A", "reason": "R", "message": "m".repeat(1_024)});
        assert!(texts(event.clone()).is_empty());
        event["message"] = json!("m".repeat(1_025));
        assert_eq!(texts(event.clone()), ["message: Invalid value: \"\": can have at most 1024 characters"]);
        event["action"] = json!("");
        assert_eq!(texts(event)[0], "action: Required value");
    }

    #[test]
    fn the_newer_version_takes_newer_events_only() {
        let good = json!({"eventTime": "2026-01-01T00:00:00.000000Z", "involvedObject": {"namespace": "n"}, "type": "Normal",
            "reportingComponent": "a/b", "reportingInstance": "i", "action": "A", "reason": "R"});
        assert!(judged(&NEWER_RULES, good.clone()).is_empty());
        let mut old = good.clone();
        for (name, value) in [("count", json!(1)), ("source", json!({"host": "h"})), ("type", json!("Odd"))] {
            old[name] = value;
        }
        old["series"] = json!({"count": 1});
        let want = [
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
            "type: Invalid value: \"\": has invalid value: Odd",
            "count: Invalid value: \"\": needs to be unset",
            "source: Invalid value: \"\": needs to be unset",
        ];
        assert_eq!(judged(&NEWER_RULES, old), want);
        let mut changed = good.clone();
        changed["reason"] = json!("S");
        changed["reportingComponent"] = json!("c");
        let mut wrong = Wrong::default();
        (NEWER_RULES.validate_update)(changed.as_object().unwrap(), good.as_object().unwrap(), &mut wrong);
        let texts: Vec<String> = wrong.finish().iter().map(ToString::to_string).collect();
        let twice = "reason: Invalid value: \"S\": field is immutable";
        assert_eq!(
            texts[texts.len() - 3..],
            [twice, twice, "reportingController: Invalid value: \"c\": field is immutable"]
        );
        // Numbers and texts that are not there are those of nothing.
        let mut more = good.clone();
        (more["count"], more["message"]) = (json!(3), json!("m"));
        let mut wrong = Wrong::default();
        (NEWER_RULES.validate_update)(good.as_object().unwrap(), more.as_object().unwrap(), &mut wrong);
        let texts: Vec<String> = wrong.finish().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[texts.len() - 2..],
            ["message: Invalid value: \"\": field is immutable", "count: Invalid value: 0: field is immutable"]
        );
    }

    #[test]
    fn both_versions_say_the_same() {
        let stored = json!({"metadata": {"name": "e"}, "involvedObject": {"name": "p"}, "reason": "R", "message": "m",
            "source": {"host": "h"}, "count": 2, "series": {"count": 3}, "reportingComponent": "c"});
        let shown = (VIEW.show)(stored.as_object().unwrap().clone());
        let want = json!({"metadata": {"name": "e"}, "regarding": {"name": "p"}, "reason": "R", "note": "m",
            "deprecatedSource": {"host": "h"}, "deprecatedCount": 2, "series": {"count": 3}, "reportingController": "c"});
        assert_eq!(Value::Object(shown.clone()), want);
        assert_eq!(Value::Object((VIEW.take)(shown)), stored);
    }
}
