//! JSON patches.

use portcullis_patch::{apply_json_patch, document_text};
use serde_json::Value;

use super::Draft;
use super::text::Writer;

pub(super) const FEATURES: &[&str] = &[
    // The text.
    "white space",
    "escaped characters",
    "characters that Go escapes",
    "not UTF-8",
    "half a surrogate pair",
    "duplicate member",
    "integer over 64 bits",
    "float",
    "number out of range",
    "null inside of a list",
    "patch is no list",
    "patch is null",
    "patch is not JSON",
    "no operations",
    "too many operations",
    // The operations.
    "add",
    "remove",
    "replace",
    "move",
    "copy",
    "test",
    "unknown operation",
    "operation without op",
    "operation is null",
    "operation is no object",
    "unknown member of an operation",
    "member of an operation twice",
    "member of another case",
    "no path",
    "path is no string",
    "no from",
    "from is no string",
    "no value",
    "value is null",
    // The places.
    "root",
    "path without a slash",
    "escaped slash",
    "escaped tilde",
    "tilde alone",
    "empty name",
    "missing member",
    "below a missing member",
    "below a scalar",
    "below a null",
    "element",
    "end of a list",
    "negative index",
    "index with a sign or zeros",
    "index outside",
    "index is no number",
    "index over 64 bits",
    // What they do.
    "test that holds",
    "test that does not hold",
    "test of another spelling",
    "test of an object",
    "test of a null",
    "test of a null in a list",
    "copy of a missing member",
    "copy of a null that was added",
    "copy over the limit",
    "move into itself",
    "replace the root",
];

const NAMES: &[&str] = &["a", "b", "c", "a/b", "m~n", "", "l<"];

pub(super) fn draft(draft: &mut Draft<'_>) -> (&'static str, Vec<u8>, Vec<u8>) {
    let mut writer = Writer::new(draft);
    writer.object_of_the_server(3, NAMES);
    let document = std::mem::take(&mut writer.out);
    if writer.draft.is_for("too many operations") && writer.draft.hit("too many operations", 0) {
        let count = writer.draft.random.pick(&[9_999, 10_000, 10_001, 12_000]);
        writer.raw(&format!("[{{}}{}]", ",null".repeat(count - 1)));
        return ("", document, writer.out);
    }
    if writer.draft.is_for("copy over the limit") && writer.draft.hit("copy over the limit", 0) {
        return copies(writer.draft);
    }
    for (feature, texts) in [
        ("patch is not JSON", ["[", "[{]", "[{\"op\":add}]", "", "[]]", "\u{feff}[]"].as_slice()),
        ("patch is null", &["null", "\nnull "]),
        ("patch is no list", &["{}", "{\"op\":\"add\",\"path\":\"/a\",\"value\":1}", "1", "\"x\"", "true"]),
        ("no operations", &["[]", " [ ] "]),
    ] {
        if writer.draft.hit(feature, 0) {
            let text = writer.draft.random.pick(texts);
            writer.raw(text);
            return ("", document, writer.out);
        }
    }
    let mut state = serde_json::from_slice(&document).expect("JSON");
    let mut operations = Vec::new();
    for _ in 0..=writer.draft.random.below(6) {
        operation(&mut writer, &state);
        let one = std::mem::take(&mut writer.out);
        let list = [b"[".as_slice(), &one, b"]"].concat();
        operations.push(one);
        match apply_json_patch(&state, &list) {
            Ok(next) => state = next,
            // Hardly anything after it is looked at.
            Err(_) if writer.draft.random.chance(90) => break,
            Err(_) => {}
        }
    }
    ("", document, [b"[".as_slice(), &operations.join(&b','), b"]"].concat())
}

/// A document that is copied until the limit is near, met or crossed.
fn copies(draft: &mut Draft<'_>) -> (&'static str, Vec<u8>, Vec<u8>) {
    // 48 copies of 65,536 bytes are the limit to the byte; `<` is written as six.
    let (plain, rest) = draft.random.pick(&[(65_534, ""), (65_528, "\\u003c"), (65_535, "")]);
    let document = format!("{{\"a\":\"{}{rest}\",\"l\":[]}}", "x".repeat(plain));
    let times = draft.random.pick(&[47, 48, 49]);
    let one =
        draft.random.pick(&[r#"{"op":"copy","from":"/a","path":"/l/-"}"#, r#"{"op":"copy","from":"/a","path":"/b"}"#]);
    ("", document.into_bytes(), format!("[{}]", vec![one; times].join(",")).into_bytes())
}

/// A place in the document.
#[derive(Clone)]
struct Place {
    pointer: String,
    value: Value,
}

fn places(value: &Value, pointer: &str, out: &mut Vec<Place>) {
    out.push(Place { pointer: pointer.to_owned(), value: value.clone() });
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                places(member, &format!("{pointer}/{}", escape(name)), out);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                places(item, &format!("{pointer}/{at}"), out);
            }
        }
        _ => {}
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A list or an object, more often a list when a feature about elements is wanted.
fn container(draft: &mut Draft<'_>, state: &Value) -> Place {
    let mut all = Vec::new();
    places(state, "", &mut all);
    all.retain(|place| place.value.is_object() || place.value.is_array());
    let lists: Vec<Place> = all.iter().filter(|place| place.value.is_array()).cloned().collect();
    let about_elements = [
        "element",
        "end of a list",
        "negative index",
        "index with a sign or zeros",
        "index outside",
        "index is no number",
        "index over 64 bits",
    ];
    let from =
        if !lists.is_empty() && about_elements.iter().any(|feature| draft.is_for(feature)) { &lists } else { &all };
    if from.is_empty() {
        return Place { pointer: String::new(), value: state.clone() };
    }
    from[draft.random.below(from.len())].clone()
}

/// A pointer to a place in `container` that is there, or (when `new`) where something can be put.
fn inside(draft: &mut Draft<'_>, container: &Place, new: bool) -> String {
    let token = match &container.value {
        Value::Array(items) => index(draft, items.len(), new),
        Value::Object(members) => {
            let existing: Vec<&str> = members.keys().map(String::as_str).collect();
            let name = if existing.is_empty() || (new && draft.random.chance(50)) || draft.hit("missing member", 3) {
                draft.random.pick(NAMES)
            } else {
                draft.random.pick(&existing)
            };
            for (feature, part) in [("escaped slash", "/"), ("escaped tilde", "~")] {
                if name.contains(part) {
                    draft.note(feature);
                }
            }
            if name.is_empty() {
                draft.note("empty name");
            }
            if draft.hit("tilde alone", 1) {
                draft.random.pick(&["~", "m~2", "~~1", "~01"]).to_owned()
            } else {
                escape(name)
            }
        }
        _ => "x".to_owned(),
    };
    format!("{}/{token}", container.pointer)
}

fn index(draft: &mut Draft<'_>, length: usize, new: bool) -> String {
    if draft.hit("end of a list", if new { 25 } else { 2 }) {
        return "-".to_owned();
    }
    if draft.hit("negative index", 8) {
        return format!("-{}", draft.random.below(length + 3));
    }
    if draft.hit("index outside", 3) {
        return (length + draft.random.below(3)).to_string();
    }
    if draft.hit("index is no number", 2) {
        return draft.random.pick(&["x", "1.0", "", "0x1", "1_0", " 1", "٣", "+", "é\u{a0}"]).to_owned();
    }
    if draft.hit("index over 64 bits", 1) {
        return draft
            .random
            .pick(&["9223372036854775808", "-9223372036854775809", "99999999999999999999", "9223372036854775807"])
            .to_owned();
    }
    let plain = draft.random.below(length + usize::from(new));
    if draft.hit("index with a sign or zeros", 4) {
        return format!("{}{plain}", draft.random.pick(&["+", "0", "-0", "+00"]));
    }
    draft.note("element");
    plain.to_string()
}

/// A pointer, right or wrong in one of the known ways.
fn pointer(draft: &mut Draft<'_>, state: &Value, new: bool) -> String {
    let mut all = Vec::new();
    places(state, "", &mut all);
    if draft.hit("root", 1) {
        return String::new();
    }
    if draft.hit("path without a slash", 1) {
        return draft.random.pick(&["a", "x~1y", "#"]).to_owned();
    }
    for (feature, wants) in [
        ("below a scalar", (|value: &Value| value.is_string() || value.is_number()) as fn(&Value) -> bool),
        ("below a null", Value::is_null),
    ] {
        let fitting: Vec<&Place> = all.iter().filter(|place| wants(&place.value)).collect();
        if !fitting.is_empty() && draft.hit(feature, 1) {
            let place = fitting[draft.random.below(fitting.len())].pointer.clone();
            return format!("{place}/{}", draft.random.pick(&["a", "0", "-", "a/b"]));
        }
    }
    let container = container(draft, state);
    if draft.hit("below a missing member", 2) {
        return format!("{}/zz/{}", container.pointer, draft.random.pick(&["a", "0", "-"]));
    }
    inside(draft, &container, new)
}

fn at(state: &Value, pointer: &str) -> Option<Value> {
    if pointer.is_empty() { Some(state.clone()) } else { state.pointer(pointer).cloned() }
}

/// One operation, as text.
fn operation(writer: &mut Writer<'_, '_>, state: &Value) {
    for (feature, texts) in [
        ("operation is null", ["null"].as_slice()),
        ("operation is no object", &["1", "[]", "\"add\"", "true"]),
        (
            "operation without op",
            &[
                "{}",
                "{\"path\":\"/a\"}",
                "{\"op\":null,\"path\":\"/a\"}",
                "{\"op\":[\"add\"]}",
                "{\"op\":7,\"path\":\"/a\"}",
            ],
        ),
        (
            "unknown operation",
            &["{\"op\":\"Add\",\"path\":\"/a\"}", "{\"op\":\"\"}", "{\"op\":\"unknown\",\"path\":1}"],
        ),
    ] {
        if writer.draft.hit(feature, 0) {
            let text = writer.draft.random.pick(texts);
            writer.raw(text);
            return;
        }
    }
    let mut op = writer.draft.random.pick(&["add", "add", "remove", "replace", "move", "copy", "test", "test"]);
    for (feature, needs) in [
        ("copy of a missing member", "copy"),
        ("copy of a null that was added", "copy"),
        ("move into itself", "move"),
        ("no from", "copy"),
        ("from is no string", "move"),
        ("replace the root", "replace"),
        ("add", "add"),
        ("remove", "remove"),
        ("replace", "replace"),
        ("move", "move"),
        ("copy", "copy"),
        ("test", "test"),
    ] {
        if writer.draft.is_for(feature) {
            op = needs;
        }
    }
    for feature in FEATURES {
        if feature.starts_with("test ") && writer.draft.is_for(feature) {
            op = "test";
        }
    }
    let in_values = ["not UTF-8", "half a surrogate pair", "integer over 64 bits", "number out of range", "float"];
    if in_values.iter().any(|feature| writer.draft.is_for(feature)) {
        op = "add";
    }
    writer.draft.note(op);
    if op == "copy" && writer.draft.hit("copy of a null that was added", 1) {
        let after = writer.draft.random.pick(&[
            r#"{"op":"test","path":"/b","value":null}"#,
            r#"{"op":"add","path":"/b/x","value":1}"#,
            r#"{"op":"remove","path":"/b/x"}"#,
            r#"{"op":"test","path":"/b","value":{}}"#,
            r#"{"op":"test","path":"/b/x","value":null}"#,
            r#"{"op":"copy","from":"/b","path":"/c"},{"op":"move","from":"/c","path":"/b/c"}"#,
            r#"{"op":"copy","from":"/b/x","path":"/c"}"#,
            r#"{"op":"replace","path":"/b/x","value":2}"#,
        ]);
        writer.raw(r#"{"op":"add","path":"/a","value":null},{"op":"copy","from":"/a","path":"/b"},"#);
        writer.raw(after);
        return;
    }
    members(writer, state, op);
}

fn members(writer: &mut Writer<'_, '_>, state: &Value, op: &'static str) {
    let draft = &mut *writer.draft;
    let mut from = None;
    let mut path = None;
    if matches!(op, "move" | "copy") {
        let missing = op == "copy" && draft.hit("copy of a missing member", 1);
        from = Some(if missing { "/zz".to_owned() } else { pointer(draft, state, false) });
    }
    if !draft.hit("no path", 1) {
        let new = matches!(op, "add" | "move" | "copy");
        path = Some(pointer(draft, state, new));
        if let Some(from) = from.as_ref().filter(|from| !from.is_empty())
            && op == "move"
            && draft.hit("move into itself", 1)
        {
            path = Some(format!("{from}/{}", draft.random.pick(&["a", "0", "-"])));
        }
        if op == "replace" && draft.hit("replace the root", 1) {
            path = Some(String::new());
        }
        if draft.is_for("test of a null in a list") {
            let mut all = Vec::new();
            places(state, "", &mut all);
            all.retain(|place| holds_null_in_list(&place.value));
            path = all.first().map_or(path, |place| Some(place.pointer.clone()));
        }
    }
    if draft.hit("no from", 0) {
        from = None;
    }
    let current = path.as_deref().and_then(|path| at(state, path));
    let value = matches!(op, "add" | "replace" | "test").then(|| value(draft, op, current.as_ref())).flatten();
    let mut parts: Vec<(&str, Vec<u8>)> = vec![("op", format!("\"{op}\"").into_bytes())];
    for (name, place, wrong) in [("from", from, "from is no string"), ("path", path, "path is no string")] {
        if let Some(place) = place {
            let mut inner = Writer::new(draft);
            if inner.draft.hit(wrong, 0) {
                let text = inner.draft.random.pick(&["1", "null", "[]", "{}", "true"]);
                inner.raw(text);
            } else {
                inner.string(&place);
            }
            let text = inner.out;
            parts.push((name, text));
        }
    }
    parts.extend(value.map(|value| ("value", value)));
    if draft.hit("unknown member of an operation", 1) {
        parts.push((draft.random.pick(&["vale", "x", "Op"]), b"{\"x\":1,\"x\":2}".to_vec()));
    }
    if draft.hit("member of another case", 0) {
        parts[0].0 = "OP";
    }
    if draft.hit("member of an operation twice", 1) {
        let again = parts[draft.random.below(parts.len())].clone();
        parts.push(again);
    }
    if draft.random.chance(30) {
        parts.reverse();
    }
    writer.space();
    writer.raw("{");
    for (at, (name, text)) in parts.into_iter().enumerate() {
        if at > 0 {
            writer.raw(",");
        }
        writer.space();
        writer.string(name);
        writer.raw(":");
        writer.space();
        writer.out.extend_from_slice(&text);
        writer.space();
    }
    writer.raw("}");
}

/// The text of an operation's value; nothing when it has none.
fn value(draft: &mut Draft<'_>, op: &str, current: Option<&Value>) -> Option<Vec<u8>> {
    if draft.hit("no value", 1) {
        return None;
    }
    if draft.hit("value is null", 3) {
        return Some(b"null".to_vec());
    }
    if op == "test" {
        match current {
            None | Some(Value::Null) => draft.note("test of a null"),
            Some(current) if current.is_object() || current.is_array() => draft.note("test of an object"),
            Some(_) => {}
        }
        if current.is_some_and(holds_null_in_list) {
            draft.note("test of a null in a list");
        }
        if let Some(current) = current.filter(|current| !current.is_null() || draft.random.chance(50)) {
            if let Some(other) = other_spelling(current)
                && draft.hit("test of another spelling", 10)
            {
                return Some(other.into_bytes());
            }
            if draft.random.chance(80) {
                draft.note("test that holds");
                return Some(document_text(current));
            }
        }
        draft.note("test that does not hold");
    }
    let mut writer = Writer::new(draft);
    writer.value(3, NAMES);
    Some(writer.out)
}

fn holds_null_in_list(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| item.is_null() || holds_null_in_list(item)),
        Value::Object(members) => members.values().any(holds_null_in_list),
        _ => false,
    }
}

/// The same scalar, written in another way.
fn other_spelling(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) if number.is_i64() => Some(format!("{number}.0")),
        Value::String(text) if !text.is_empty() => {
            let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            Some(format!("\"{}\"", units.concat()))
        }
        Value::Bool(_) => Some(format!("\"{value}\"")),
        _ => None,
    }
}
