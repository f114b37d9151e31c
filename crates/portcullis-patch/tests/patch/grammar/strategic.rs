//! Strategic merge patches of real types: an object is made from its type, then a patch from both.

use portcullis_patch::{GoKind, PatchSchema as _};
use serde_json::{Map, Value, json};

use super::Draft;
use super::text::Writer;
use crate::types::{At, Field, TYPES};

pub(super) const FEATURES: &[&str] = &[
    // The text.
    "white space",
    "escaped characters",
    "duplicate member",
    "integer over 64 bits",
    "float",
    "number out of range",
    "characters that Go escapes",
    "patch is no object",
    "patch is null",
    "patch is not JSON",
    "empty patch",
    // Objects.
    "nested object",
    "new object",
    "null deletes",
    "null deletes nothing",
    "null in something new",
    "unknown field",
    "unknown field in both",
    "another type",
    "object in a map",
    "map of strings",
    "any JSON",
    "$patch replace",
    "$patch delete",
    "$patch merge",
    "$patch unknown",
    "$patch is no string",
    "directive in something new",
    // $retainKeys.
    "$retainKeys",
    "$retainKeys leaves a member out",
    "$retainKeys is no list",
    "$retainKeys with other values",
    "$retainKeys with an object",
    // Lists of scalars.
    "list of scalars merged",
    "duplicates in a list of scalars",
    "atomic list",
    "$deleteFromPrimitiveList",
    "$deleteFromPrimitiveList beside the list",
    "$deleteFromPrimitiveList is no list",
    "$deleteFromPrimitiveList of an object",
    "$deleteFromPrimitiveList malformed",
    // Lists of objects.
    "list of objects merged",
    "element merged",
    "element added",
    "element deleted",
    "element deleted and added",
    "missing element deleted",
    "delete without a key",
    "element twice in the patch",
    "element twice in the object",
    "element without its key",
    "element of the object without its key",
    "key is null",
    "key of another type",
    "key is an object",
    "list replaced by directive",
    "list merged by directive",
    "unknown directive in a list",
    "list of lists",
    "list begins with null",
    "list of several types",
    "list of objects without a merge key",
    "empty list",
    "long list",
    // $setElementOrder.
    "$setElementOrder",
    "$setElementOrder without a list",
    "$setElementOrder of a new list",
    "$setElementOrder of nothing",
    "$setElementOrder of scalars",
    "$setElementOrder of an atomic list",
    "$setElementOrder empty",
    "$setElementOrder in another order",
    "$setElementOrder leaves an element out",
    "$setElementOrder names what is not there",
    "$setElementOrder is no list",
    "$setElementOrder without keys",
    "$setElementOrder of scalars for objects",
    "$setElementOrder of no list",
    "$setElementOrder of an unknown field",
    "$setElementOrder malformed",
];

const KEYS: &[&str] = &["a", "b", "c", "d", "e"];

pub(super) fn draft(draft: &mut Draft<'_>) -> (&'static str, Vec<u8>, Vec<u8>) {
    let (kind, name) = loop {
        let (kind, name) = draft.random.pick(&TYPES.kinds);
        // Workloads have most of the features.
        let telling = matches!(kind, "Pod" | "Deployment" | "DaemonSet" | "StatefulSet" | "ServiceAccount" | "Node");
        if telling || draft.random.chance(if about_lists(draft) { 0 } else { 30 }) {
            break (kind, name);
        }
    };
    let Value::Object(original) = made(draft, At(name), 7) else { panic!("an object") };
    let document = Value::Object(original.clone()).to_string().into_bytes();
    for (feature, texts) in [
        ("patch is not JSON", ["{", "{\"a\":}", "", "{\"metadata\":{}}}"].as_slice()),
        ("patch is null", &["null", " null "]),
        ("patch is no object", &["[]", "1", "\"x\"", "false", "[{\"op\":\"add\"}]"]),
        ("empty patch", &["{}", "{ }"]),
    ] {
        if draft.hit(feature, 0) {
            return (kind, document, draft.random.pick(texts).as_bytes().to_vec());
        }
    }
    let patch = object(draft, At(name), &original, 7);
    let mut writer = Writer::new(draft);
    writer.spell(&Value::Object(patch));
    (kind, document, writer.out)
}

/// Whether the case is to show something about lists.
fn about_lists(draft: &Draft<'_>) -> bool {
    FEATURES
        .iter()
        .filter(|feature| ["list", "element", "key ", "List", "Order"].iter().any(|word| feature.contains(word)))
        .any(|feature| draft.is_for(feature))
}

/// What a type is behind its pointers.
fn pointee(at: At) -> At {
    if at.kind() == GoKind::Pointer { at.element().expect("a pointee") } else { at }
}

/// Types that are structs in Go and something else in JSON.
fn special(draft: &mut Draft<'_>, at: At) -> Option<Value> {
    Some(match at.struct_name() {
        "Time" | "MicroTime" => json!("2026-01-02T03:04:05Z"),
        "Duration" => json!("5s"),
        "Quantity" => json!(draft.random.pick(&["1", "100m", "1Gi"])),
        "IntOrString" if draft.random.chance(50) => json!(80),
        "IntOrString" => json!("http"),
        "RawExtension" => {
            draft.note("any JSON");
            json!({ "x": 1, "y": { "z": ["a"] } })
        }
        "FieldsV1" => json!({ "f:a": {} }),
        _ => return None,
    })
}

fn scalar(draft: &mut Draft<'_>, at: At) -> Value {
    match at.kind() {
        GoKind::Bool => json!(draft.random.chance(50)),
        GoKind::Int32 | GoKind::Int64 | GoKind::Uint8 => json!(draft.random.below(4)),
        GoKind::Float64 => json!(0.5),
        _ => json!(draft.random.pick(KEYS)),
    }
}

/// A value of a type, as the API server would have it, but for features that say otherwise.
fn made(draft: &mut Draft<'_>, at: At, depth: usize) -> Value {
    let at = pointee(at);
    match at.kind() {
        GoKind::Struct => {
            if let Some(value) = special(draft, at) {
                return value;
            }
            let mut members = Map::new();
            let fields = at.fields();
            for field in fields {
                // Fields with a strategy are what this is about.
                let chance = match (field.strategies.is_empty(), field.name) {
                    _ if depth == 0 => 0,
                    (_, "spec" | "metadata" | "template") => 90,
                    (false, _) => 55,
                    (true, _) => (300 / fields.len()).clamp(5, 60),
                };
                if draft.random.chance(chance) {
                    let value = if let Some(element) = list_element(field.at) {
                        Value::Array(made_list(draft, field, element, depth - 1))
                    } else {
                        made(draft, field.at, depth - 1)
                    };
                    members.insert(field.name.to_owned(), value);
                }
            }
            if draft.hit("unknown field in both", 0) {
                members.insert("zz".to_owned(), json!({ "a": 1, "l": ["a"] }));
            }
            Value::Object(members)
        }
        GoKind::Map => {
            let values = at.values().expect("a map's values");
            let mut members = Map::new();
            for name in KEYS {
                if draft.random.chance(40) {
                    members.insert((*name).to_owned(), made(draft, values, depth.saturating_sub(1)));
                }
            }
            if draft.hit("object in a map", 0) {
                members.insert("o".to_owned(), json!({ "x": 1 }));
            }
            Value::Object(members)
        }
        GoKind::Slice => match at.element() {
            Some(element) if element.kind() == GoKind::Uint8 => json!("YQ=="),
            Some(element) => Value::Array(
                (0..draft.random.below(3)).map(|_| made(draft, element, depth.saturating_sub(1))).collect(),
            ),
            None => json!([]),
        },
        _ => scalar(draft, at),
    }
}

/// The type of the elements of what JSON shows as a list.
fn list_element(at: At) -> Option<At> {
    let at = pointee(at);
    at.element().filter(|element| at.kind() == GoKind::Slice && element.kind() != GoKind::Uint8)
}

fn is_object(at: At) -> bool {
    pointee(at).kind() == GoKind::Struct
}

/// A value for a merge key.
fn key(element: At, name: &str, number: usize) -> Value {
    let field = pointee(element).fields().iter().find(|field| field.name == name).expect("the merge key");
    match pointee(field.at).kind() {
        GoKind::Int32 | GoKind::Int64 => json!(number),
        _ => json!(KEYS[number % KEYS.len()]),
    }
}

fn made_list(draft: &mut Draft<'_>, field: &Field, element: At, depth: usize) -> Vec<Value> {
    if field.key.is_empty() || !is_object(element) {
        let mut items: Vec<Value> = (0..draft.random.below(4)).map(|_| made(draft, element, depth)).collect();
        let merged = field.strategies.contains("merge");
        if merged && !draft.random.chance(30) {
            items.sort_by_key(Value::to_string);
            items.dedup();
        }
        if merged && items.len() > 1 && draft.hit("duplicates in a list of scalars", 0) {
            items.insert(1, items[0].clone());
        }
        return items;
    }
    let mut items = Vec::new();
    let long = draft.hit("long list", 0);
    for number in 0..if long { 30 } else { KEYS.len() } {
        if !long && draft.random.chance(45) {
            continue;
        }
        let Value::Object(mut members) = made(draft, element, if long { 0 } else { depth }) else { continue };
        let id = if long { json!(format!("k{number}")) } else { key(element, field.key, number) };
        members.insert(
            field.key.to_owned(),
            if long && id.is_string() && !key(element, field.key, 0).is_string() { json!(number) } else { id },
        );
        items.push(Value::Object(members));
    }
    if items.len() > 1 && draft.random.chance(40) {
        let at = draft.random.below(items.len());
        items.rotate_left(at);
    }
    if !items.is_empty() && draft.hit("element twice in the object", 0) {
        items.push(items[0].clone());
    }
    if !items.is_empty() && draft.hit("element of the object without its key", 0) {
        let at = draft.random.below(items.len());
        items[at].as_object_mut().expect("an object").swap_remove(field.key);
    }
    items
}

/// A value of a type for a patch, with the oddities that a patch may have.
fn fresh(draft: &mut Draft<'_>, at: At, depth: usize) -> Value {
    let odd = [
        ("integer over 64 bits", "\x00123456789012345678901"),
        ("float", "\x001.0"),
        ("float", "\x002.5e-7"),
        ("number out of range", "\x001e999"),
        ("characters that Go escapes", "<a&b>"),
    ];
    if matches!(pointee(at).kind(), GoKind::String | GoKind::Int32 | GoKind::Int64 | GoKind::Bool) {
        for (feature, text) in odd {
            if draft.hit(feature, 0) {
                return json!(text);
            }
        }
    }
    let mut value = made(draft, at, depth.min(3));
    if let Value::Object(members) = &mut value {
        if draft.hit("null in something new", 2) {
            members.insert("nothing".to_owned(), Value::Null);
            members.insert("inside".to_owned(), json!([{ "nothing": null }, null]));
        }
        if draft.hit("directive in something new", 1) {
            let directive = draft.random.pick(&["delete", "replace", "merge"]);
            let (name, value) = match draft.random.below(4) {
                0 => ("$patch", json!(directive)),
                1 => ("gone", json!({ "$patch": directive })),
                2 => ("some", json!([{ "$patch": directive }, { "in": [{ "$patch": directive }, [{ "$patch": 1 }]] }])),
                _ => ("$retainKeys", json!(["name"])),
            };
            members.insert(name.to_owned(), value);
        }
    }
    value
}

/// A patch of an object of the type `at`.
fn object(draft: &mut Draft<'_>, at: At, original: &Map<String, Value>, depth: usize) -> Map<String, Value> {
    let mut patch = Map::new();
    for (feature, directive) in [
        ("$patch replace", json!("replace")),
        ("$patch delete", json!("delete")),
        ("$patch merge", json!("merge")),
        ("$patch unknown", json!("remove")),
        ("$patch is no string", json!(draft.random.below(3))),
        ("$patch is no string", json!([null, { "a": true }])),
    ] {
        if draft.hit(feature, 0) {
            patch.insert("$patch".to_owned(), directive);
            break;
        }
    }
    let fields = at.fields();
    if fields.is_empty() {
        return patch;
    }
    for _ in 0..2 + draft.random.below(4) {
        let present: Vec<&Field> = fields.iter().filter(|field| original.contains_key(field.name)).collect();
        let telling = |field: &Field| {
            !field.strategies.is_empty() || matches!(field.name, "spec" | "metadata" | "template" | "jobTemplate")
        };
        let told: Vec<&Field> = present.iter().copied().filter(|field| telling(field)).collect();
        let field = if !told.is_empty() && draft.random.chance(if about_lists(draft) { 85 } else { 45 }) {
            told[draft.random.below(told.len())]
        } else if present.is_empty() || draft.random.chance(20) {
            &fields[draft.random.below(fields.len())]
        } else {
            present[draft.random.below(present.len())]
        };
        if patch.contains_key(field.name) || depth == 0 {
            continue;
        }
        member(draft, field, original, &mut patch, depth);
    }
    for (feature, value) in [
        ("unknown field", json!("x")),
        ("unknown field in both", json!({ "a": 2 })),
        ("unknown field in both", json!(["b"])),
    ] {
        let both = feature == "unknown field in both";
        if (!both && draft.hit(feature, 1)) || (both && original.contains_key("zz") && draft.random.chance(60)) {
            let (name, value) = if both && value.is_array() { ("zz", json!({ "l": value })) } else { ("zz", value) };
            patch.insert(name.to_owned(), value);
        }
    }
    order_of_anything(draft, fields, original, &mut patch);
    retain_keys(draft, original, &mut patch);
    patch
}

fn member(
    draft: &mut Draft<'_>,
    field: &Field,
    original: &Map<String, Value>,
    patch: &mut Map<String, Value>,
    depth: usize,
) {
    let name = field.name.to_owned();
    let current = original.get(field.name);
    if draft.hit(if current.is_some() { "null deletes" } else { "null deletes nothing" }, 5) {
        patch.insert(name, Value::Null);
        return;
    }
    if draft.hit("another type", 1) {
        let other = draft.random.pick(&["\x001", "\x00[]", "\x00{}", "\x00[{}]", "\x00true", "\x001.5", "x"]);
        patch.insert(name, json!(other));
        return;
    }
    if let Some(element) = list_element(field.at) {
        let items = current.and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
        list(draft, field, element, items, current.is_some(), patch, depth - 1);
        return;
    }
    let at = pointee(field.at);
    match (at.kind(), current) {
        (GoKind::Struct, Some(Value::Object(current))) if !at.fields().is_empty() => {
            draft.note("nested object");
            patch.insert(name, Value::Object(object(draft, at, current, depth - 1)));
        }
        (GoKind::Struct, Some(Value::Object(_))) => {
            draft.note("any JSON");
            patch.insert(
                name,
                draft
                    .random
                    .pick(&["\x00{\"x\":2}", "\x00{\"y\":{\"z\":[\"b\"]}}", "\x00{\"x\":null}", "\x00{\"n\":{}}"])
                    .into(),
            );
        }
        (GoKind::Map, current) => {
            draft.note("map of strings");
            let values = at.values().expect("a map's values");
            let mut members = Map::new();
            for key in KEYS {
                if draft.random.chance(30) {
                    let value = if draft.random.chance(25) { Value::Null } else { fresh(draft, values, 0) };
                    members.insert((*key).to_owned(), value);
                }
            }
            if current.is_some_and(|current| current.get("o").is_some()) {
                members.insert("o".to_owned(), json!({ "y": 1 }));
            }
            patch.insert(name, Value::Object(members));
        }
        (GoKind::Struct, _) => {
            draft.note("new object");
            patch.insert(name, fresh(draft, at, depth - 1));
        }
        _ => {
            patch.insert(name, fresh(draft, at, 0));
        }
    }
}

/// A patch of a list, and the directives beside it.
fn list(
    draft: &mut Draft<'_>,
    field: &Field,
    element: At,
    current: &[Value],
    present: bool,
    patch: &mut Map<String, Value>,
    depth: usize,
) {
    let merged = field.strategies.contains("merge");
    for (feature, text) in [
        ("list of lists", "\x00[[1]]"),
        ("list begins with null", "\x00[null]"),
        ("list of several types", "\x00[\"a\",1]"),
        ("empty list", "\x00[]"),
    ] {
        if (merged || draft.random.chance(20)) && draft.hit(feature, 0) {
            patch.insert(field.name.to_owned(), json!(text));
            return;
        }
    }
    if !merged {
        draft.note("atomic list");
        let items: Vec<Value> = (0..draft.random.below(3)).map(|_| fresh(draft, element, depth)).collect();
        let order = items.clone();
        patch.insert(field.name.to_owned(), Value::Array(items));
        if draft.hit("$setElementOrder of an atomic list", 2) {
            patch.insert(format!("$setElementOrder/{}", field.name), Value::Array(order));
        }
        return;
    }
    if field.key.is_empty() || !is_object(element) {
        scalars(draft, field, current, present, patch);
    } else {
        objects(draft, field, element, current, present, patch, depth);
    }
}

fn scalars(draft: &mut Draft<'_>, field: &Field, current: &[Value], present: bool, patch: &mut Map<String, Value>) {
    let name = field.name;
    if draft.hit("list of objects without a merge key", 1) {
        patch.insert(name.to_owned(), json!([{ "name": "a" }]));
        return;
    }
    let mut items: Vec<Value> = KEYS.iter().filter(|_| draft.random.chance(40)).map(|key| json!(key)).collect();
    if draft.random.chance(30) {
        items.reverse();
    }
    if items.len() > 1 && draft.hit("duplicates in a list of scalars", 5) {
        items.push(items[0].clone());
    }
    if present {
        draft.note("list of scalars merged");
    }
    let mut without = false;
    let beside = ["$deleteFromPrimitiveList is no list", "$deleteFromPrimitiveList beside the list"];
    let deletes = beside.iter().any(|feature| draft.is_for(feature));
    if draft.hit("$deleteFromPrimitiveList", if deletes { 100 } else { 15 }) {
        let mut doomed: Vec<Value> = current.iter().filter(|_| draft.random.chance(50)).cloned().collect();
        doomed.push(json!("x"));
        let doomed = if draft.hit("$deleteFromPrimitiveList is no list", 3) {
            json!(draft.random.pick(&["\x00null", "x", "\x001", "\x00{}"]))
        } else {
            Value::Array(doomed)
        };
        patch.insert(format!("$deleteFromPrimitiveList/{name}"), doomed);
        without = !draft.hit("$deleteFromPrimitiveList beside the list", 30);
    }
    if draft.hit("$setElementOrder of scalars", 20) {
        let mut order: Vec<Value> = items.clone();
        order.extend(current.iter().filter(|item| !items.contains(item)).filter(|_| draft.random.chance(50)).cloned());
        set_order(draft, name, order, patch);
    }
    if !without {
        patch.insert(name.to_owned(), Value::Array(items));
    }
}

fn objects(
    draft: &mut Draft<'_>,
    field: &Field,
    element: At,
    current: &[Value],
    present: bool,
    patch: &mut Map<String, Value>,
    depth: usize,
) {
    let (name, id) = (field.name, field.key);
    if present {
        draft.note("list of objects merged");
    }
    let mut items: Vec<Value> = Vec::new();
    let long = current.len() > 20;
    for item in current {
        if draft.random.chance(if long { 20 } else { 50 }) {
            let Some(value) = item.get(id).cloned() else { continue };
            let mut members = match item.as_object() {
                Some(members) if !draft.hit("element deleted", 12) && depth > 0 => {
                    draft.note("element merged");
                    object(draft, pointee(element), members, depth.min(2))
                }
                _ => json!({ "$patch": "delete" }).as_object().cloned().expect("an object"),
            };
            members.insert(id.to_owned(), value);
            items.push(Value::Object(members));
        }
    }
    for number in 0..draft.random.below(3) {
        let value = key(element, id, draft.random.below(KEYS.len()) + number);
        let taken = |list: &[Value]| list.iter().any(|item| item.get(id) == Some(&value));
        if taken(&items) || taken(current) {
            continue;
        }
        let Value::Object(mut members) = fresh(draft, element, depth.min(1)) else { continue };
        if draft.hit("missing element deleted", 5) {
            members.insert("$patch".to_owned(), json!("delete"));
        } else {
            draft.note("element added");
        }
        members.insert(id.to_owned(), value);
        items.push(Value::Object(members));
    }
    if draft.random.chance(20) {
        items.reverse();
    }
    odd_elements(draft, id, current, &mut items);
    if draft.random.chance(45)
        || FEATURES.iter().any(|feature| feature.starts_with("$setElementOrder") && draft.is_for(feature))
    {
        draft.note("$setElementOrder");
        let only_key = |item: &Value| item.get(id).map(|value| json!({ id: value }));
        let deleted = |item: &Value| item.get("$patch") == Some(&json!("delete"));
        let mut order: Vec<Value> = items.iter().filter(|item| !deleted(item)).filter_map(only_key).collect();
        if draft.random.chance(60) {
            let rest: Vec<Value> = current.iter().filter_map(only_key).filter(|item| !order.contains(item)).collect();
            for item in rest {
                if draft.random.chance(60) {
                    let at = draft.random.below(order.len() + 1);
                    order.insert(at, item);
                }
            }
        }
        if present && draft.hit("$setElementOrder without a list", 10) {
            set_order(draft, name, order, patch);
            return;
        }
        if !present {
            draft.note("$setElementOrder of a new list");
        }
        set_order(draft, name, order, patch);
    }
    patch.insert(name.to_owned(), Value::Array(items));
}

/// Elements of a list of objects that are not as they should be.
fn odd_elements(draft: &mut Draft<'_>, id: &str, current: &[Value], items: &mut Vec<Value>) {
    if let Some(first) = items.first().cloned()
        && draft.hit("element twice in the patch", 2)
    {
        items.push(first);
    }
    if let Some(value) = current.first().and_then(|item| item.get(id))
        && draft.hit("element deleted and added", 3)
    {
        items.push(json!({ "$patch": "delete", id: value }));
        items.push(json!({ id: value }));
    }
    for (feature, item) in [
        ("delete without a key", json!({ "$patch": "delete", "x": 1 })),
        ("element without its key", json!({ "x": 1 })),
        ("key is null", json!({ id: null, "x": 1 })),
        ("key of another type", json!({ id: 1.5 })),
        ("key of another type", json!({ id: true, "$patch": "delete" })),
        ("key is an object", json!({ id: {} })),
        ("key is an object", json!({ id: ["a"], "$patch": "delete" })),
        ("list replaced by directive", json!({ "$patch": "replace" })),
        ("list merged by directive", json!({ "$patch": "merge", id: "a" })),
        ("unknown directive in a list", json!({ "$patch": ["x", 1], id: "a" })),
    ] {
        if draft.hit(feature, 0) {
            let at = draft.random.below(items.len() + 1);
            items.insert(at, item.clone());
            if feature == "key is an object" && draft.random.chance(60) {
                items.push(item);
            }
            return;
        }
    }
}

/// Puts `$setElementOrder` for a list into the patch, right or wrong.
fn set_order(draft: &mut Draft<'_>, name: &str, mut order: Vec<Value>, patch: &mut Map<String, Value>) {
    let mut value = None;
    if draft.hit("$setElementOrder empty", 3) {
        order.clear();
    }
    if order.len() > 1 && draft.hit("$setElementOrder in another order", 3) {
        order.reverse();
    }
    if !order.is_empty() && draft.hit("$setElementOrder leaves an element out", 3) {
        let at = draft.random.below(order.len());
        order.remove(at);
    }
    if draft.hit("$setElementOrder names what is not there", 8) {
        let more = order.first().map_or(json!("q"), |item| match item.as_object() {
            Some(members) => json!({ members.keys().next().cloned().unwrap_or_default(): "q" }),
            None => json!("q"),
        });
        let at = draft.random.below(order.len() + 1);
        order.insert(at, more);
    }
    if draft.hit("$setElementOrder is no list", 0) {
        value = Some(json!(draft.random.pick(&["x", "\x00null", "\x00{}", "\x001"])));
    }
    if draft.hit("$setElementOrder without keys", 0) {
        let at = draft.random.below(order.len() + 1);
        order.insert(at, json!({ "other": 1 }));
    }
    if draft.hit("$setElementOrder of scalars for objects", 0) {
        let at = draft.random.below(order.len() + 1);
        order.insert(at, json!("a"));
    }
    patch.insert(format!("$setElementOrder/{name}"), value.unwrap_or(Value::Array(order)));
}

/// Directives about members that are no lists, or are not there.
fn order_of_anything(
    draft: &mut Draft<'_>,
    fields: &[Field],
    original: &Map<String, Value>,
    patch: &mut Map<String, Value>,
) {
    let named = |draft: &mut Draft<'_>, wanted: &dyn Fn(&Field) -> bool| {
        let all: Vec<&'static str> = fields.iter().filter(|field| wanted(field)).map(|field| field.name).collect();
        (!all.is_empty()).then(|| draft.random.pick(&all))
    };
    if draft.hit("$setElementOrder of nothing", 1)
        && let Some(name) = named(draft, &|field| {
            list_element(field.at).is_some() && !original.contains_key(field.name) && !patch.contains_key(field.name)
        })
    {
        patch.insert(format!("$setElementOrder/{name}"), json!([{ "name": "a" }]));
    }
    if draft.hit("$setElementOrder of no list", 0)
        && let Some(name) = named(draft, &|field| list_element(field.at).is_none())
    {
        patch.insert(format!("$setElementOrder/{name}"), json!([]));
    }
    if draft.hit("$setElementOrder of an unknown field", 0) {
        let name = draft.random.pick(&["zz", "", "a/b", "NAME", "Metadata"]);
        patch.insert(format!("$setElementOrder/{name}"), json!([]));
    }
    if draft.hit("$setElementOrder malformed", 0) {
        patch.insert(
            draft.random.pick(&["$setElementOrder", "$setElementOrderX", "$setElementOrders/containers"]).to_owned(),
            json!([]),
        );
    }
    if draft.hit("$deleteFromPrimitiveList malformed", 0) {
        let name = draft.random.pick(&[
            "$deleteFromPrimitiveList",
            "$deleteFromPrimitiveListX/a",
            "$deleteFromPrimitiveList/",
            "$deleteFromPrimitiveList/zz",
        ]);
        patch.insert(name.to_owned(), json!(["a"]));
    }
    if draft.hit("$deleteFromPrimitiveList of an object", 0)
        && let Some(name) = named(draft, &|field| original.contains_key(field.name) && !patch.contains_key(field.name))
    {
        patch.insert(format!("$deleteFromPrimitiveList/{name}"), original.get(name).cloned().unwrap_or_default());
    }
}

fn retain_keys(draft: &mut Draft<'_>, original: &Map<String, Value>, patch: &mut Map<String, Value>) {
    if !draft.hit("$retainKeys", 2) {
        for feature in [
            "$retainKeys leaves a member out",
            "$retainKeys is no list",
            "$retainKeys with other values",
            "$retainKeys with an object",
        ] {
            if draft.is_for(feature) && draft.random.chance(50) {
                draft.note("$retainKeys");
            }
        }
        if !draft.features.contains(&"$retainKeys") || patch.contains_key("$retainKeys") || draft.random.chance(50) {
            return;
        }
    }
    let mut names: Vec<Value> = patch.keys().filter(|name| !name.starts_with('$')).map(|name| json!(name)).collect();
    names.extend(original.keys().filter(|_| draft.random.chance(50)).map(|name| json!(name)));
    if !names.is_empty() && draft.hit("$retainKeys leaves a member out", 3) {
        names.remove(0);
    }
    if draft.hit("$retainKeys with other values", 3) {
        names.extend([json!(1), json!(null), json!(1.5), json!("nothing")]);
    }
    if draft.hit("$retainKeys with an object", 0) {
        names.push(if draft.random.chance(50) { json!({}) } else { json!([]) });
    }
    let list = if draft.hit("$retainKeys is no list", 0) {
        json!(draft.random.pick(&["name", "\x00null", "\x00{}"]))
    } else {
        Value::Array(names)
    };
    patch.insert("$retainKeys".to_owned(), list);
}
