//! From the tree that a strategic merge patch gives to one that fits its type, by the rules of upstream's converter, which
//! are not those of the JSON decoder: whole floats become integers, integers wrap around, and messages are others.
//!
//! It takes away what the type does not have; [`normalise`](super::normalise) then gives the shape.
//!
//! Compat: `FromUnstructuredWithValidation` of `apimachinery/pkg/runtime/converter.go`. Where Go walks a map in random order,
//! members are taken in theirs.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::normalise::{base64_of_go, micro_time, quantity, time};
use super::{EMBEDDED, Kind, SCHEMA, TYPE_META, TypeId};

/// Unknown fields that are reported one by one.
const MAX_UNKNOWN: usize = 1_000;

/// A tree that fits its type.
pub(crate) struct Converted {
    pub(crate) members: Map<String, Value>,
    /// What was left out, in upstream's words, sorted: `unknown field "spec.foo"`.
    pub(crate) unknown: Vec<String>,
}

/// Fits the tree of a whole object to its type. Its `kind` and `apiVersion` are left out.
///
/// # Errors
///
/// Upstream's text for the first value of the wrong type.
pub(crate) fn convert(root: TypeId, mut members: Map<String, Value>) -> Result<Converted, String> {
    let mut walk = Walk { path: String::new(), unknown: Vec::new() };
    for name in TYPE_META {
        if let Some(value) = members.shift_remove(name) {
            walk.value(&Kind::String, value)?;
        }
    }
    let members = walk.message(root, members)?;
    walk.unknown.sort_unstable();
    let unknown = walk.unknown.into_iter().map(|path| format!("unknown field \"{path}\"")).collect();
    Ok(Converted { members, unknown })
}

struct Walk {
    path: String,
    unknown: Vec<String>,
}

impl Walk {
    fn message(&mut self, id: TypeId, mut members: Map<String, Value>) -> Result<Map<String, Value>, String> {
        let mut out = Map::new();
        if Some(id) == SCHEMA.find(EMBEDDED) {
            for name in TYPE_META {
                self.member(name, &Kind::String, &mut members, &mut out)?;
            }
        }
        self.fields(id, &mut members, &mut out)?;
        for name in members.keys() {
            if self.unknown.len() >= MAX_UNKNOWN {
                break;
            }
            let before = self.enter(name);
            self.unknown.push(self.path.clone());
            self.path.truncate(before);
        }
        Ok(out)
    }

    fn fields(
        &mut self,
        id: TypeId,
        members: &mut Map<String, Value>,
        out: &mut Map<String, Value>,
    ) -> Result<(), String> {
        for field in SCHEMA.fields(id) {
            match (&field.kind, field.inline) {
                (Kind::Message(inner), true) => self.fields(*inner, members, out)?,
                (kind, _) => self.member(field.name, kind, members, out)?,
            }
        }
        Ok(())
    }

    fn member(
        &mut self,
        name: &str,
        kind: &Kind,
        members: &mut Map<String, Value>,
        out: &mut Map<String, Value>,
    ) -> Result<(), String> {
        if let Some(value) = members.shift_remove(name).filter(|value| !value.is_null()) {
            let before = self.enter(name);
            out.insert(name.to_owned(), self.value(kind, value)?);
            self.path.truncate(before);
        }
        Ok(())
    }

    /// A value that is not null.
    fn value(&mut self, kind: &Kind, value: Value) -> Result<Value, String> {
        match (kind, value) {
            (Kind::String | Kind::Named(_) | Kind::IntOrString, value @ Value::String(_))
            | (Kind::Bool, value @ Value::Bool(_))
            | (Kind::Float, value @ Value::Number(_)) => Ok(value),
            (Kind::Raw | Kind::Fields, mut value) => {
                // Compat: it goes through a map of Go's.
                value.sort_all_objects();
                Ok(value)
            }
            (Kind::String, Value::Number(number)) if number.is_i64() => {
                Err("cannot convert int64 to string".to_owned())
            }
            (Kind::Named(name), Value::Number(number)) if number.is_i64() => {
                Err(format!("cannot convert int64 to {name}"))
            }
            (Kind::Int32, Value::Number(number)) => {
                // Compat: the lower half of the bits.
                #[expect(clippy::cast_possible_truncation, reason = "Go's conversion wraps around")]
                let narrow = integer(&number, "int32")? as i32;
                Ok(narrow.into())
            }
            (Kind::Int64, Value::Number(number)) => Ok(integer(&number, "int64")?.into()),
            (Kind::String | Kind::Named(_) | Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Float, _) => {
                Err(format!("unrecognized type: {}", scalar(kind)))
            }
            (Kind::Time, Value::String(text)) => time(&text),
            (Kind::MicroTime, Value::String(text)) => micro_time(&text),
            (Kind::Time | Kind::MicroTime, other) => Err(mismatch(&other, "string")),
            (Kind::Quantity, Value::String(text)) => quantity(&text),
            (Kind::Quantity, other) => quantity(&other.to_string()),
            (Kind::IntOrString, value) => match value.as_i64().map(i32::try_from) {
                Some(Ok(_)) => Ok(value),
                _ => Err(mismatch(&value, "int32")),
            },
            (Kind::Bytes, Value::String(text)) => match base64_of_go(&text) {
                Ok(_) => Ok(Value::String(text)),
                Err(at) => Err(format!("error decoding from json: illegal base64 data at input byte {at}")),
            },
            (Kind::Bytes, Value::Array(items)) => bytes(&items),
            (Kind::ExtraValue, Value::Array(items)) => self.list(&Kind::String, items),
            (Kind::List(inner), Value::Array(items)) => self.list(inner, items),
            (Kind::Bytes | Kind::ExtraValue | Kind::List(_), other) => {
                Err(format!("cannot restore slice from {}", go_kind(&other)))
            }
            (Kind::Map(inner), Value::Object(members)) => {
                let mut out = Map::new();
                for (name, value) in members {
                    let value = self.element(inner, value)?;
                    out.insert(name, value);
                }
                Ok(Value::Object(out))
            }
            (Kind::Map(_), other) => Err(format!("cannot restore map from {}", go_kind(&other))),
            (Kind::Message(id), Value::Object(members)) => Ok(Value::Object(self.message(*id, members)?)),
            (Kind::Message(_), other) => Err(format!("cannot restore struct from: {}", go_kind(&other))),
        }
    }

    fn list(&mut self, inner: &Kind, items: Vec<Value>) -> Result<Value, String> {
        let mut out = Vec::with_capacity(items.len().min(1_024));
        for (index, item) in items.into_iter().enumerate() {
            let before = self.path.len();
            let _ = write!(self.path, "[{index}]");
            out.push(self.element(inner, item)?);
            self.path.truncate(before);
        }
        Ok(Value::Array(out))
    }

    /// A null element stays; the shape makes it the type's zero.
    fn element(&mut self, kind: &Kind, value: Value) -> Result<Value, String> {
        if value.is_null() { Ok(value) } else { self.value(kind, value) }
    }

    fn enter(&mut self, name: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        before
    }
}

/// A number as an int64. Compat: a float without a fraction is one; one that does not fit is the lowest int64.
fn integer(number: &serde_json::Number, into: &str) -> Result<i64, String> {
    if let Some(int) = number.as_i64() {
        return Ok(int);
    }
    let float = number.as_f64().unwrap_or_default();
    if float.trunc() != float {
        return Err(format!("cannot convert float64 to {into}"));
    }
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float);
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    Ok(if fits { float as i64 } else { i64::MIN })
}

/// Compat: bytes may be written as a list of numbers.
fn bytes(items: &[Value]) -> Result<Value, String> {
    use base64::Engine as _;
    let byte = |item: &Value| match item {
        Value::Null => Ok(0),
        Value::Number(number) => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Go's conversion wraps around")]
            let byte = integer(number, "uint8")? as u8;
            Ok(byte)
        }
        _ => Err("unrecognized type: uint8".to_owned()),
    };
    let bytes = items.iter().map(byte).collect::<Result<Vec<u8>, String>>()?;
    Ok(Value::String(base64::engine::general_purpose::STANDARD.encode(bytes)))
}

fn scalar(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Float => "float64",
        _ => "string",
    }
}

/// What Go's reflection calls a value of a tree.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

/// What the type's own decoder says.
fn mismatch(value: &Value, into: &str) -> String {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if into == "int32" => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    format!("json: cannot unmarshal {found} into Go value of type {into}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fit(kind: &str, value: Value) -> Result<Converted, String> {
        let Value::Object(members) = value else { return Err("no object".to_owned()) };
        convert(SCHEMA.find(kind).unwrap(), members)
    }

    #[test]
    fn numbers_convert_as_go_converts_them() {
        for (replicas, want) in [(json!(3), 3), (json!(4.0), 4), (json!(4_294_967_301_i64), 5), (json!(1e300), 0)] {
            let fitted = fit("apps.Deployment", json!({"spec": {"replicas": replicas}})).unwrap();
            assert_eq!(fitted.members["spec"]["replicas"], want);
        }
        let fitted = fit("core.Secret", json!({"data": {"k": [104, 105, 256]}})).unwrap();
        assert_eq!(fitted.members["data"]["k"], "aGkA");
    }

    #[test]
    fn wrong_types_read_as_upstreams_converter_words_them() {
        let pod = |container: Value| json!({"spec": {"containers": [container]}});
        for (kind, value, want) in [
            ("core.ConfigMap", json!({"data": {"a": 1}}), "cannot convert int64 to string"),
            ("core.ConfigMap", json!({"data": {"a": 1.5}}), "unrecognized type: string"),
            ("core.ConfigMap", json!({"data": {"a": {}}}), "unrecognized type: string"),
            ("core.ConfigMap", json!({"data": []}), "cannot restore map from slice"),
            ("core.ConfigMap", json!({"kind": 1}), "cannot convert int64 to string"),
            ("core.ConfigMap", json!({"metadata": "x"}), "cannot restore struct from: string"),
            ("core.ConfigMap", json!({"immutable": "x"}), "unrecognized type: bool"),
            (
                "core.ConfigMap",
                json!({"binaryData": {"a": "?"}}),
                "error decoding from json: illegal base64 data at input byte 0",
            ),
            ("core.ConfigMap", json!({"binaryData": {"a": true}}), "cannot restore slice from bool"),
            ("apps.Deployment", json!({"spec": {"replicas": 1.5}}), "cannot convert float64 to int32"),
            ("apps.Deployment", json!({"spec": {"replicas": "1"}}), "unrecognized type: int32"),
            ("core.Pod", pod(json!({"ports": {}})), "cannot restore slice from map"),
            (
                "core.Pod",
                json!({"metadata": {"creationTimestamp": 1}}),
                "json: cannot unmarshal number into Go value of type string",
            ),
            (
                "core.Service",
                json!({"spec": {"ports": [{"targetPort": 1.5}]}}),
                "json: cannot unmarshal number 1.5 into Go value of type int32",
            ),
            (
                "core.Service",
                json!({"spec": {"ports": [{"targetPort": {}}]}}),
                "json: cannot unmarshal object into Go value of type int32",
            ),
            ("core.Pod", pod(json!({"resources": {"limits": {"cpu": true}}})), crate::schema::quantity::FORMAT_WRONG),
        ] {
            assert_eq!(fit(kind, value.clone()).err().as_deref(), Some(want), "{value}");
        }
    }

    #[test]
    fn unknown_fields_are_named_in_the_order_of_the_alphabet_and_bounded() {
        let fitted =
            fit("core.Pod", json!({"zoo": 1, "spec": {"containers": [{"b": 1, "a\"": 2}], "kind": "x"}})).unwrap();
        let want = [
            "unknown field \"spec.containers[0].a\"\"",
            "unknown field \"spec.containers[0].b\"",
            "unknown field \"spec.kind\"",
            "unknown field \"zoo\"",
        ];
        assert_eq!(fitted.unknown, want);
        assert_eq!(Value::Object(fitted.members), json!({"spec": {"containers": [{}]}}));
        let many: Map<String, Value> = (0..5_000).map(|n| (format!("x{n}"), json!(1))).collect();
        assert_eq!(fit("core.Pod", Value::Object(many)).unwrap().unknown.len(), MAX_UNKNOWN);
    }

    #[test]
    fn nulls_are_nothing_or_stay_in_lists() {
        let fitted = fit("core.Pod", json!({"metadata": null, "spec": {"containers": [null]}})).unwrap();
        assert_eq!(Value::Object(fitted.members), json!({"spec": {"containers": [null]}}));
    }
}
