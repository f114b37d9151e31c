//! OpenAPI v2 as protobuf: what kubectl asks `/openapi/v2` for.
//!
//! Compat: the messages of `gnostic-models/openapiv2/OpenAPIv2.proto`; each function is one message, its field numbers are
//! those of that file. Extensions are YAML texts in it.

use serde_json::{Map, Value};

/// A message being written.
#[derive(Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = u8::try_from(value & 0x7f).unwrap_or(0);
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }

    /// A text or an inner message.
    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(u64::try_from(bytes.len()).unwrap_or(0));
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn message(&mut self, field: u64, inner: &Self) {
        self.bytes(field, &inner.0);
    }

    /// The empty text is not written.
    fn text(&mut self, field: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, list: Option<&Value>) {
        for text in list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u64, value: Option<&Value>) {
        if value.and_then(Value::as_bool) == Some(true) {
            self.key(field, 0);
            self.varint(1);
        }
    }

    fn whole(&mut self, field: u64, value: Option<&Value>) {
        if let Some(number) = value.and_then(Value::as_u64).filter(|number| *number != 0) {
            self.key(field, 0);
            self.varint(number);
        }
    }

    fn double(&mut self, field: u64, value: Option<&Value>) {
        if let Some(number) = value.and_then(Value::as_f64).filter(|number| *number != 0.0) {
            self.key(field, 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// `x-…` members, as `NamedAny`.
    fn extensions(&mut self, field: u64, members: &Map<String, Value>) {
        for (name, value) in members.iter().filter(|(name, _)| name.starts_with("x-")) {
            self.message(field, &named(name, &any(value)));
        }
    }
}

/// `NamedSchema`, `NamedPathItem` and the like.
pub(super) fn named(name: &str, value: &Message) -> Message {
    let mut out = Message::default();
    out.bytes(1, name.as_bytes());
    out.message(2, value);
    out
}

fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.bytes(2, portcullis_kube::yaml::print(value).unwrap_or_default().as_bytes());
    out
}

/// `Schema`.
pub(super) fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    let Some(members) = value.as_object() else { return out };
    let get = |name: &str| members.get(name);
    out.text(1, get("$ref"));
    out.text(2, get("format"));
    out.text(3, get("title"));
    out.text(4, get("description"));
    out.double(7, get("maximum"));
    out.double(9, get("minimum"));
    out.whole(11, get("maxLength"));
    out.whole(12, get("minLength"));
    out.text(13, get("pattern"));
    out.whole(14, get("maxItems"));
    out.whole(15, get("minItems"));
    out.flag(16, get("uniqueItems"));
    out.whole(17, get("maxProperties"));
    out.whole(18, get("minProperties"));
    out.texts(19, get("required"));
    for item in get("enum").and_then(Value::as_array).into_iter().flatten() {
        out.message(20, &any(item));
    }
    match get("additionalProperties") {
        Some(inner @ Value::Object(_)) => {
            let mut item = Message::default();
            item.message(1, &schema(inner));
            out.message(21, &item);
        }
        Some(value) => {
            let mut item = Message::default();
            item.flag(2, Some(value));
            out.message(21, &item);
        }
        None => {}
    }
    if let Some(name) = get("type").and_then(Value::as_str) {
        let mut item = Message::default();
        item.bytes(1, name.as_bytes());
        out.message(22, &item);
    }
    if let Some(inner) = get("items") {
        let mut item = Message::default();
        item.message(1, &schema(inner));
        out.message(23, &item);
    }
    for inner in get("allOf").and_then(Value::as_array).into_iter().flatten() {
        out.message(24, &schema(inner));
    }
    if let Some(properties) = get("properties").and_then(Value::as_object) {
        let mut inner = Message::default();
        for (name, value) in properties {
            inner.message(1, &named(name, &schema(value)));
        }
        out.message(25, &inner);
    }
    out.extensions(31, members);
    out
}

/// One operation, or the parameters, of a `PathItem`.
pub(super) fn path_member(out: &mut Message, method: &str, value: &Value) {
    let field = match method {
        "get" => 2,
        "put" => 3,
        "post" => 4,
        "delete" => 5,
        "options" => 6,
        "head" => 7,
        "patch" => 8,
        _ => {
            for parameter in value.as_array().into_iter().flatten() {
                out.message(9, &parameters_item(parameter));
            }
            return;
        }
    };
    out.message(field, &operation(value));
}

fn operation(value: &Value) -> Message {
    let mut out = Message::default();
    let Some(members) = value.as_object() else { return out };
    let get = |name: &str| members.get(name);
    out.texts(1, get("tags"));
    out.text(2, get("summary"));
    out.text(3, get("description"));
    out.text(5, get("operationId"));
    out.texts(6, get("produces"));
    out.texts(7, get("consumes"));
    for parameter in get("parameters").and_then(Value::as_array).into_iter().flatten() {
        out.message(8, &parameters_item(parameter));
    }
    let mut responses = Message::default();
    for (code, response) in get("responses").and_then(Value::as_object).into_iter().flatten() {
        let mut inner = Message::default();
        inner.text(1, response.get("description"));
        if let Some(schema_of) = response.get("schema") {
            let mut item = Message::default();
            item.message(1, &schema(schema_of));
            inner.message(2, &item);
        }
        let mut value = Message::default();
        value.message(1, &inner);
        responses.message(1, &named(code, &value));
    }
    out.message(9, &responses);
    out.texts(10, get("schemes"));
    out.flag(11, get("deprecated"));
    out.extensions(13, members);
    out
}

/// `ParametersItem`: a parameter or a reference to one.
fn parameters_item(value: &Value) -> Message {
    let mut out = Message::default();
    match value.get("$ref") {
        Some(reference) => {
            let mut inner = Message::default();
            inner.text(1, Some(reference));
            out.message(2, &inner);
        }
        None => out.message(1, &parameter(value)),
    }
    out
}

/// `Parameter`, of a body, a path or a query.
pub(super) fn parameter(value: &Value) -> Message {
    let mut inner = Message::default();
    let get = |name: &str| value.get(name);
    let mut out = Message::default();
    if get("in").and_then(Value::as_str) == Some("body") {
        inner.text(1, get("description"));
        inner.text(2, get("name"));
        inner.text(3, get("in"));
        inner.flag(4, get("required"));
        if let Some(schema_of) = get("schema") {
            inner.message(5, &schema(schema_of));
        }
        out.message(1, &inner);
        return out;
    }
    let in_path = get("in").and_then(Value::as_str) == Some("path");
    inner.flag(1, get("required"));
    inner.text(2, get("in"));
    inner.text(3, get("description"));
    inner.text(4, get("name"));
    inner.text(if in_path { 5 } else { 6 }, get("type"));
    inner.text(if in_path { 6 } else { 7 }, get("format"));
    inner.flag(if in_path { 19 } else { 20 }, get("uniqueItems"));
    let mut kind = Message::default();
    kind.message(if in_path { 4 } else { 3 }, &inner);
    out.message(2, &kind);
    out
}

/// The members of `Document` that stand after paths and definitions.
pub(super) fn rest(out: &mut Message, document: &Map<String, Value>) {
    let mut parameters = Message::default();
    for (name, value) in document.get("parameters").and_then(Value::as_object).into_iter().flatten() {
        parameters.message(1, &named(name, &parameter(value)));
    }
    out.message(10, &parameters);
    for requirement in document.get("security").and_then(Value::as_array).into_iter().flatten() {
        let mut inner = Message::default();
        for (name, scopes) in requirement.as_object().into_iter().flatten() {
            let mut list = Message::default();
            list.texts(1, Some(scopes));
            inner.message(1, &named(name, &list));
        }
        out.message(12, &inner);
    }
    let mut definitions = Message::default();
    for (name, value) in document.get("securityDefinitions").and_then(Value::as_object).into_iter().flatten() {
        let mut key = Message::default();
        key.text(1, value.get("type"));
        key.text(2, value.get("name"));
        key.text(3, value.get("in"));
        key.text(4, value.get("description"));
        let mut item = Message::default();
        item.message(2, &key);
        definitions.message(1, &named(name, &item));
    }
    out.message(13, &definitions);
}

/// The members of `Document` that stand before paths and definitions.
pub(super) fn beginning(out: &mut Message, document: &Map<String, Value>) {
    out.text(1, document.get("swagger"));
    let mut info = Message::default();
    info.text(1, document.get("info").and_then(|info| info.get("title")));
    info.text(2, document.get("info").and_then(|info| info.get("version")));
    out.message(2, &info);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_written_as_protobuf_writes_them() {
        // `{1: "#/x", 25: {1: {1: "a", 2: {22: {1: "string"}}}}}`
        let got = schema(&json!({"$ref": "#/x", "properties": {"a": {"type": "string"}}}));
        let mut want = b"\x0a\x03#/x".to_vec();
        want.extend(b"\xca\x01\x12\x0a\x10\x0a\x01a\x12\x0b\xb2\x01\x08\x0a\x06string");
        assert_eq!(got.0, want);
        let mut long = Message::default();
        long.bytes(1, &[0; 300]);
        assert_eq!(long.0[..3], [0x0a, 0xac, 0x02]);
    }

    #[test]
    fn extensions_are_yaml() {
        let got = schema(&json!({"x-kubernetes-patch-merge-key": "name"}));
        assert_eq!(got.0, b"\xfa\x01\x27\x0a\x1cx-kubernetes-patch-merge-key\x12\x07\x12\x05name\n".to_vec());
    }
}
