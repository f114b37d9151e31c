//! Events: what happened to what, as clients and controllers report it.
//!
//! Compat: `pkg/apis/core/validation/events.go`, the part that holds for `v1`. Events with an `eventTime` are the newer form,
//! of which more is asked.

use portcullis_kube::names;

use super::check::{Path, Wrong, meta};
use super::rules::{Collected, Rules};
use super::tree::{Members, string_at};

/// Characters that each text of a newer event may have.
const LIMITS: [(&str, usize, bool); 4] =
    [("reportingInstance", 128, true), ("action", 128, true), ("reason", 128, true), ("message", 1_024, false)];

pub(crate) const RULES: Rules = Rules {
    collected: Collected::Never,
    create_on_update: true,
    validate: |new, wrong| {
        event(new, wrong);
        // Compat: metadata is judged by `rest.BeforeCreate` alone, and only when the rest is right.
        if wrong.is_empty() {
            meta::general(new, true, names::path_segment, wrong);
        }
    },
    validate_update: |new, old, wrong| {
        meta::object_meta_update(new, old, wrong);
        meta::general(new, true, names::path_segment, wrong);
        event(new, wrong);
    },
    ..Rules::NAMESPACED
};

fn event(new: &Members, wrong: &mut Wrong) {
    let namespace = string_at(new, &["metadata", "namespace"]);
    let involved = string_at(new, &["involvedObject", "namespace"]);
    let newer = !string_at(new, &["eventTime"]).is_empty();
    // Compat: objects outside of namespaces have their events in `default`, newer ones in `kube-system` too.
    let agrees = match (newer, involved.is_empty()) {
        (false, true) => matches!(namespace, "" | "default"),
        (false, false) => namespace == involved,
        (true, true) => matches!(namespace, "default" | "kube-system"),
        (true, false) => true,
    };
    if !agrees {
        let path = Path::new("involvedObject").child("namespace");
        wrong.invalid(&path, involved, "does not match event.namespace");
    }
    if !newer {
        return;
    }
    let reporter = string_at(new, &["reportingComponent"]);
    let path = Path::new("reportingComponent");
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn texts(mut event: Value) -> Vec<String> {
        event["metadata"] = json!({"name": "e", "namespace": "n"});
        let mut wrong = Wrong::default();
        (RULES.validate)(event.as_object().unwrap(), &mut wrong);
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
}
