//! Selectors: printing one and reading it again gives the same, with the same verdicts; an object's packed labels and fields
//! say what its tree says; a selector of an object means what the one of a query with its text means.
//!
//! The input is a label selector, a field selector and a JSON object, a NUL after each of the first two, after what
//! chooses the kind (`portcullis_fuzz::kind`). The object is one of the kind, and its `selector` is one too.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use portcullis_apiserver::fuzzing::{Kind, Selector, Stored, structured};
use portcullis_fuzz::Limit;
use serde_json::{Map, Value};

/// Labels that inputs can reach beside those that they bring.
const LABELS: [&[(&str, &str)]; 3] =
    [&[], &[("a", "b"), ("n", "5"), ("in", "")], &[("a", ""), ("b", "c"), ("n", "-1"), ("a.b/c", "x")]];

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = portcullis_fuzz::kind(data) else { return };
    let _limit = Limit::of((1 << 20) + 64 * data.len());
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let mut parts = text.splitn(3, '\0');
    let (labels, fields_sent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let object: Map<String, Value> = parts.next().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let stored = Stored::raw(kind, object.clone());
    packed(&stored, &object);
    if let Ok(selector) = Selector::parse(kind, labels, fields_sent) {
        let (printed, fields) = selector.printed();
        assert!(printed.len() <= labels.len() + 16 * labels.matches("in").count() && !printed.contains('\0'));
        let again = Selector::parse(kind, &printed, &fields).expect("what we print");
        // A field's old name is sorted under that, and printed as the new one, as upstream does it.
        if !fields_sent.contains("spec.host") {
            assert!(again == selector, "{printed} {fields}");
            assert_eq!(again.printed(), (printed.clone(), fields), "what is printed stays");
        }
        assert_eq!(again.selects(&stored), selector.selects(&stored));
        assert!(!selector.is_empty() || selector.selects(&stored), "nothing asked for is nothing refused");
        for labels in LABELS {
            let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
            let verdict = |selector: &Selector| selector.selects_labels(|key| labels.get(key).copied());
            assert_eq!(verdict(&selector), verdict(&again), "{printed}");
        }
    }
    if let Some(selector) = object.get("selector").filter(|selector| selector.is_object()) {
        meaning(kind, selector, &object);
    }
});

/// What the store keeps of an object beside its bytes.
fn packed(stored: &Stored, object: &Map<String, Value>) {
    let metadata = object.get("metadata").and_then(Value::as_object);
    let text =
        |name: &str| metadata.and_then(|metadata| metadata.get(name)).and_then(Value::as_str).unwrap_or_default();
    assert_eq!((stored.field("metadata.name"), stored.field("metadata.namespace")), (text("name"), text("namespace")));
    let labels = metadata.and_then(|metadata| metadata.get("labels")).and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        let Some(value) = value.as_str() else { continue };
        if !key.contains('\0') && !value.contains('\0') {
            assert_eq!(stored.label(key), Some(value));
        }
    }
}

/// A selector as objects hold it, beside its own text in a query.
fn meaning(kind: Kind, selector: &Value, object: &Map<String, Value>) {
    let labels = object.get("labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let (printed, [ours, typed]) = structured(selector, &labels);
    let text = match printed.as_str() {
        "<error>" => return,
        "<none>" => "",
        text => text,
    };
    // What Go's types cannot hold is never stored.
    let typed_ok = serde_json::from_value::<portcullis_kube::meta::LabelSelector>(selector.clone()).is_ok();
    if !typed_ok || !labels.values().all(Value::is_string) {
        return;
    }
    if let Ok(parsed) = Selector::parse(kind, text, "") {
        let asked = parsed.selects_labels(|key| labels.get(key).and_then(Value::as_str));
        assert_eq!((asked, typed), (ours, ours), "{selector} {text}");
    }
}
