//! From any JSON tree to the tree that Go's types would give: known fields in their order, zero values kept or left out
//! as the struct tags say, unknown fields reported.
//!
//! It decodes and encodes in one step, so that what is stored is what a real API server would answer with. It never
//! fills in defaults (`resources` does) and never fails on an unknown field: that is the caller's choice
//! (`fieldValidation`).
//!
//! Compat: texts of type errors follow Go's `encoding/json` (`json: cannot unmarshal … into Go struct field …`).

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::quantity::Quantity;
use super::{EMBEDDED, Field, Kind, SCHEMA, TYPE_META, TypeId};
use portcullis_runtime::Timestamp;

/// Unknown fields that are reported one by one.
const MAX_UNKNOWN: usize = 100;

/// A tree in the shape of its type, and what in the input had no place in it.
pub(crate) struct Normalised {
    pub(crate) value: Map<String, Value>,
    /// Paths of unknown fields in the order met.
    pub(crate) unknown: Vec<String>,
    /// Paths of what is kept as it came, into which a strict reader does not look.
    pub(crate) raw: Vec<String>,
}

/// Brings `input` into the shape of `root`. `kind` and `apiVersion` of the root are accepted and left out.
///
/// # Errors
///
/// Go's text for a value of the wrong type.
pub(crate) fn normalise(root: TypeId, input: Value) -> Result<Normalised, String> {
    let mut walk = Walk::default();
    let mut members = match input {
        Value::Object(members) => members,
        Value::Null => Map::new(),
        other => {
            let go = go_type(&Kind::Message(root));
            return Err(format!("json: cannot unmarshal {} into Go value of type {go}", json_kind(&other)));
        }
    };
    for type_meta in TYPE_META {
        if let Some(value) = members.shift_remove(type_meta)
            && !matches!(value, Value::String(_) | Value::Null)
        {
            return Err(format!(
                "json: cannot unmarshal {} into Go struct field {}.{type_meta} of type string",
                json_kind(&value),
                SCHEMA.go_name(root)
            ));
        }
    }
    let value = walk.message(root, members)?;
    walk.saved.map_or(Ok(Normalised { value, unknown: walk.unknown, raw: walk.raw }), Err)
}

#[derive(Default)]
struct Walk {
    /// Where the value is, as a strict reader names it: `spec.volumes[0].emptyDir`.
    path: String,
    /// And as a mismatch names it: `spec.volumes.VolumeSource.emptyDir`.
    place: String,
    unknown: Vec<String>,
    raw: Vec<String>,
    /// Compat: the first mismatch. Go's decoder goes on after one, but not after what a type's own decoder refuses (times,
    /// quantities).
    saved: Option<String>,
}

impl Walk {
    /// Reads the members in the order they stand in (so that unknown ones are named in it), then puts them in the type's.
    fn message(&mut self, id: TypeId, input: Map<String, Value>) -> Result<Map<String, Value>, String> {
        let mut read = Map::new();
        for (name, value) in input {
            let (before, place) = (self.enter(&name), self.place.len());
            match find(id, &name, &mut self.place) {
                None if value.is_string()
                    && TYPE_META.contains(&name.as_str())
                    && Some(id) == SCHEMA.find(EMBEDDED) =>
                {
                    read.insert(name, value);
                }
                None if self.unknown.len() < MAX_UNKNOWN => self.unknown.push(self.path.clone()),
                None => {}
                Some(_) if value.is_null() => {}
                Some(field) => {
                    step(&mut self.place, &name);
                    let value = self.value(&field.kind, value, id)?;
                    read.insert(name, value);
                }
            }
            self.path.truncate(before);
            self.place.truncate(place);
        }
        let mut out = Map::new();
        if Some(id) == SCHEMA.find(EMBEDDED) {
            out.extend(TYPE_META.into_iter().filter_map(|name| Some((name.to_owned(), read.swap_remove(name)?))));
        }
        self.arrange(id, &mut read, &mut out)?;
        Ok(out)
    }

    fn arrange(
        &mut self,
        id: TypeId,
        read: &mut Map<String, Value>,
        out: &mut Map<String, Value>,
    ) -> Result<(), String> {
        for field in SCHEMA.fields(id) {
            if let (true, Kind::Message(inner)) = (field.inline, &field.kind) {
                self.arrange(*inner, read, out)?;
                continue;
            }
            let value = read.swap_remove(field.name);
            if let Some(value) = self.keep(field, value)? {
                out.insert(field.name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// What Go's encoder writes for a field: `None` leaves it out.
    fn keep(&mut self, field: &Field, value: Option<Value>) -> Result<Option<Value>, String> {
        if field.pointer {
            return Ok(match value {
                None if !field.omit_empty => Some(Value::Null),
                value => value,
            });
        }
        if let Kind::Message(inner) = field.kind {
            let value = match value {
                Some(value) => value,
                None => Value::Object(self.message(inner, Map::new())?),
            };
            let zero = value.as_object().is_some_and(Map::is_empty);
            return Ok((!(field.omit_zero && zero)).then_some(value));
        }
        let value = value.unwrap_or_else(|| zero(&field.kind));
        match (&field.kind, &value) {
            // Compat: for Go a struct such as a time is never empty, only zero.
            (Kind::Time | Kind::MicroTime, Value::Null) if !field.omit_zero => return Ok(Some(value)),
            // Compat: protobuf, in which upstream stores, knows no empty list.
            (Kind::List(_), Value::Array(items)) if items.is_empty() && !field.omit_empty => {
                return Ok(Some(Value::Null));
            }
            _ => {}
        }
        Ok((!(field.omit_empty || field.omit_zero) || !is_empty(&value)).then_some(value))
    }

    fn value(&mut self, kind: &Kind, value: Value, owner: TypeId) -> Result<Value, String> {
        match (kind, value) {
            (Kind::Raw, value) => {
                self.raw.push(self.path.clone());
                Ok(value)
            }
            (Kind::Fields, value @ Value::Object(_))
            | (Kind::String | Kind::Named(_) | Kind::IntOrString, value @ Value::String(_))
            | (Kind::Bool, value @ Value::Bool(_)) => Ok(value),
            (Kind::Int32 | Kind::IntOrString, Value::Number(number)) => {
                match number.as_i64().and_then(|wide| i32::try_from(wide).ok()) {
                    Some(_) => Ok(Value::Number(number)),
                    None => self.mismatch(kind, &format!("number {number}"), owner),
                }
            }
            (Kind::Int64, Value::Number(number)) if number.as_i64().is_none() => {
                self.mismatch(kind, &format!("number {number}"), owner)
            }
            (Kind::Int64 | Kind::Float, Value::Number(number)) => Ok(Value::Number(number)),
            (Kind::Bytes, Value::String(text)) => match base64_of_go(&text) {
                Ok(bytes) => Ok(Value::String(STANDARD.encode(bytes))),
                Err(at) => Ok(self.save(format!("illegal base64 data at input byte {at}"))),
            },
            (Kind::Bytes, Value::Array(items)) => Ok(self.bytes(&items, owner)),
            (Kind::Time, Value::String(text)) => time(&text),
            (Kind::MicroTime, Value::String(text)) => micro_time(&text),
            (Kind::Quantity, Value::String(text)) => quantity(&text),
            (Kind::Quantity, other) => quantity(&other.to_string()),
            (Kind::ExtraValue, Value::Array(items)) => self.list(&Kind::String, items, owner),
            (Kind::List(inner), Value::Array(items)) => self.list(inner, items, owner),
            (Kind::Map(inner), Value::Object(members)) => self.map(inner, members, owner),
            (Kind::Message(id), Value::Object(members)) => Ok(Value::Object(self.message(*id, members)?)),
            (kind, other) => self.mismatch(kind, json_kind(&other), owner),
        }
    }

    /// Compat: bytes may be written as a list of numbers.
    fn bytes(&mut self, items: &[Value], owner: TypeId) -> Value {
        let mut bytes = Vec::with_capacity(items.len());
        for item in items {
            let byte = match item {
                Value::Null => Ok(0),
                Value::Number(number) => match number.as_u64().and_then(|wide| u8::try_from(wide).ok()) {
                    Some(byte) => Ok(byte),
                    None => Err(format!("number {number}")),
                },
                other => Err(json_kind(other).to_owned()),
            };
            match byte {
                Ok(byte) => bytes.push(byte),
                Err(found) => {
                    let why = self.mismatch_text(&found, owner, "uint8");
                    return self.save(why);
                }
            }
        }
        Value::String(STANDARD.encode(bytes))
    }

    fn list(&mut self, inner: &Kind, items: Vec<Value>, owner: TypeId) -> Result<Value, String> {
        let mut out = Vec::with_capacity(items.len().min(1_024));
        for (index, item) in items.into_iter().enumerate() {
            let before = self.path.len();
            let _ = write!(self.path, "[{index}]");
            out.push(self.element(inner, item, owner)?);
            self.path.truncate(before);
        }
        Ok(Value::Array(out))
    }

    /// Compat: Go writes maps in the order of their keys.
    fn map(&mut self, inner: &Kind, members: Map<String, Value>, owner: TypeId) -> Result<Value, String> {
        let mut out = Map::new();
        for (name, value) in members {
            let before = self.path.len();
            let value = self.element(inner, value, owner)?;
            self.path.truncate(before);
            out.insert(name, value);
        }
        out.sort_keys();
        Ok(Value::Object(out))
    }

    fn element(&mut self, kind: &Kind, value: Value, owner: TypeId) -> Result<Value, String> {
        match (kind, value) {
            (Kind::Message(id), Value::Null) => Ok(Value::Object(self.message(*id, Map::new())?)),
            (kind, Value::Null) => Ok(zero(kind)),
            (kind, value) => self.value(kind, value, owner),
        }
    }

    fn enter(&mut self, name: &str) -> usize {
        let before = self.path.len();
        step(&mut self.path, name);
        before
    }

    /// Keeps the first mistake that Go's decoder goes on after; the value counts as absent.
    fn save(&mut self, why: String) -> Value {
        self.saved.get_or_insert(why);
        Value::Null
    }

    fn mismatch(&mut self, kind: &Kind, found: &str, owner: TypeId) -> Result<Value, String> {
        let why = self.mismatch_text(found, owner, &go_type(kind));
        if matches!(kind, Kind::Time | Kind::MicroTime | Kind::IntOrString) { Err(why) } else { Ok(self.save(why)) }
    }

    fn mismatch_text(&self, found: &str, owner: TypeId, wanted: &str) -> String {
        let (owner, place) = (SCHEMA.go_name(owner), &self.place);
        format!("json: cannot unmarshal {found} into Go struct field {owner}.{place} of type {wanted}")
    }
}

/// Goes one member down.
fn step(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// The field called `name`, also in inlined structs; `place` goes down to the struct that declares it.
fn find(id: TypeId, name: &str, place: &mut String) -> Option<&'static Field> {
    SCHEMA.fields(id).iter().find_map(|field| match (&field.kind, field.inline) {
        (Kind::Message(inner), true) => {
            let before = place.len();
            step(place, field.name);
            let found = find(*inner, name, place);
            if found.is_none() {
                place.truncate(before);
            }
            found
        }
        _ => (field.name == name).then_some(field),
    })
}

/// A `metav1.Time` as it is written.
pub(super) fn time(text: &str) -> Result<Value, String> {
    match Timestamp::parse_rfc3339(text) {
        Some(time) => Ok(Value::String(time.rfc3339())),
        None => Err(format!(
            "parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{text}\" as \"2006\""
        )),
    }
}

/// Compat: a time with microseconds must have six digits of them.
pub(super) fn micro_time(text: &str) -> Result<Value, String> {
    const LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
    let Some(time) = Timestamp::parse_rfc3339(text) else {
        return Err(format!("parsing time \"{text}\" as \"{LAYOUT}\": cannot parse \"{text}\" as \"2006\""));
    };
    let rest = text.get(19..).unwrap_or_default();
    let digits = rest.strip_prefix('.').map_or(0, |after| after.bytes().take_while(u8::is_ascii_digit).count());
    if digits == 6 {
        return Ok(Value::String(time.rfc3339_micros()));
    }
    Err(format!("parsing time \"{text}\" as \"{LAYOUT}\": cannot parse \"{rest}\" as \".000000\""))
}

/// Decodes as Go does; the error is the place that it names.
pub(super) fn base64_of_go(text: &str) -> Result<Vec<u8>, usize> {
    let lines_joined: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    if let Ok(bytes) = STANDARD.decode(&lines_joined) {
        return Ok(bytes);
    }
    let mut digits = 0_usize;
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| !matches!(byte, b'\r' | b'\n')) {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => digits += 1,
            b'=' if digits % 4 == 2 && text.len() == at + 1 => return Err(text.len()),
            b'=' if digits % 4 >= 2 => return Err(at + 1),
            _ => return Err(at),
        }
    }
    // Something is missing at the end: the place is where the incomplete group begins.
    Err(text.len() - digits % 4)
}

/// A `resource.Quantity` as it is written.
pub(super) fn quantity(text: &str) -> Result<Value, String> {
    Ok(Value::String(Quantity::parse(text)?.to_string()))
}

fn zero(kind: &Kind) -> Value {
    match kind {
        Kind::String | Kind::Named(_) => Value::String(String::new()),
        Kind::Int32 | Kind::Int64 | Kind::Float | Kind::IntOrString => Value::Number(0.into()),
        Kind::Bool => Value::Bool(false),
        Kind::Quantity => Value::String("0".to_owned()),
        Kind::Time
        | Kind::MicroTime
        | Kind::Bytes
        | Kind::Raw
        | Kind::Fields
        | Kind::ExtraValue
        | Kind::List(_)
        | Kind::Map(_)
        | Kind::Message(_) => Value::Null,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// What Go's decoder calls a value.
pub(crate) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_type(kind: &Kind) -> String {
    match kind {
        Kind::String | Kind::Quantity | Kind::Time | Kind::MicroTime => "string".to_owned(),
        Kind::Named(name) => (*name).to_owned(),
        Kind::Int32 | Kind::IntOrString => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::Float => "float64".to_owned(),
        Kind::Bytes => "[]uint8".to_owned(),

        Kind::Raw => "runtime.RawExtension".to_owned(),
        Kind::Fields => "v1.FieldsV1".to_owned(),
        Kind::ExtraValue => "v1.ExtraValue".to_owned(),
        Kind::List(inner) => format!("[]{}", go_type(inner)),
        // Compat: the one map of quantities has a name.
        Kind::Map(inner) if matches!(**inner, Kind::Quantity) => "v1.ResourceList".to_owned(),
        Kind::Map(inner) => format!("map[string]{}", go_type(inner)),
        Kind::Message(id) => format!("v1.{}", SCHEMA.go_name(*id)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn shape(kind: &str, value: Value) -> Result<Normalised, String> {
        normalise(SCHEMA.find(kind).unwrap(), value)
    }

    #[test]
    fn fields_come_in_the_types_order_with_gos_zero_values() {
        let input = json!({
            "roleRef": {"name": "view", "kind": "ClusterRole"},
            "metadata": {"name": "b", "labels": {"z": "1", "a": "2"}, "generateName": "", "creationTimestamp": null},
            "subjects": [{"name": "u", "kind": "User"}],
        });
        let text = serde_json::to_string(&shape("rbac.ClusterRoleBinding", input).unwrap().value).unwrap();
        let want = concat!(
            r#"{"metadata":{"name":"b","labels":{"a":"2","z":"1"}},"subjects":[{"kind":"User","name":"u"}],"#,
            r#""roleRef":{"apiGroup":"","kind":"ClusterRole","name":"view"}}"#
        );
        assert_eq!(text, want);
    }

    #[test]
    fn a_role_without_rules_keeps_the_null_that_go_writes() {
        let value = shape("rbac.ClusterRole", json!({"metadata": {"name": "r"}})).unwrap().value;
        assert_eq!(Value::Object(value), json!({"metadata": {"name": "r"}, "rules": null}));
    }

    #[test]
    fn unknown_fields_are_named_by_path_and_left_out() {
        let input = json!({"metadata": {"name": "p", "name2": "x"}, "foo": 1,
            "spec": {"containers": [{"name": "c"}, {"name": "d", "imag": 1}], "hostPath": {}}});
        let shaped = shape("core.Pod", input).unwrap();
        assert_eq!(shaped.unknown, ["metadata.name2", "foo", "spec.containers[1].imag", "spec.hostPath"]);
        assert!(!shaped.value.contains_key("foo"));
    }

    #[test]
    fn inlined_structs_stand_beside_their_neighbours() {
        let input = json!({"spec": {"containers": null, "volumes": [{"name": "v", "emptyDir": {}, "emptyDirr": {}}]}});
        let shaped = shape("core.Pod", input).unwrap();
        assert_eq!(shaped.value["spec"]["volumes"][0], json!({"name": "v", "emptyDir": {}}));
        assert_eq!(shaped.unknown, ["spec.volumes[0].emptyDirr"]);
    }

    #[test]
    fn wrong_types_read_as_go_words_them() {
        for (kind, input, want) in [
            (
                "core.Namespace",
                json!({"metadata": {"name": 5}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string",
            ),
            (
                "core.Namespace",
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                "core.Pod",
                json!({"spec": {"containers": [{"name": []}]}}),
                "json: cannot unmarshal array into Go struct field Container.spec.containers.name of type string",
            ),
            ("core.Pod", json!([]), "json: cannot unmarshal array into Go value of type v1.Pod"),
        ] {
            assert_eq!(shape(kind, input).err().unwrap(), want);
        }
    }

    #[test]
    fn times_and_quantities_are_checked() {
        assert!(shape("core.Pod", json!({"metadata": {"deletionTimestamp": "yesterday"}})).is_err());
        let whole = shape("core.Pod", json!({"metadata": {"deletionTimestamp": "2026-01-01T02:00:00+02:00"}})).unwrap();
        assert_eq!(whole.value["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
        let limits = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]}});
        let shaped = shape("core.Pod", limits).unwrap().value;
        assert_eq!(shaped["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "500m", "memory": "1Gi"}));
        let wrong = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "many"}}}]}});
        assert_eq!(shape("core.Pod", wrong).err().unwrap(), crate::schema::quantity::FORMAT_WRONG);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,6}".prop_map(Value::from),
        ];
        let names =
            prop::sample::select(vec!["metadata", "spec", "name", "labels", "containers", "status", "x", "env"]);
        leaf.prop_recursive(6, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((names.clone(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_tree_gives_a_shape_or_an_error_and_a_shape_is_its_own_shape(input in any_json()) {
            if let Ok(once) = shape("core.Pod", input) {
                let twice = shape("core.Pod", Value::Object(once.value.clone())).unwrap();
                prop_assert_eq!(&twice.value, &once.value);
                prop_assert!(twice.unknown.is_empty());
            }
        }
    }
}
