//! From any JSON tree to the tree that Go's types would give: known fields in their order, zero values kept or left out
//! as the struct tags say, unknown fields reported.
//!
//! It decodes and encodes in one step, so that what is stored is what a real API server would answer with. It never
//! fills in defaults (`resources` does) and never fails on an unknown field: that is the caller's choice
//! (`fieldValidation`).
//!
//! Compat: texts of type errors follow Go's `encoding/json` (`json: cannot unmarshal … into Go struct field …`).

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_kube::go::quote;
use serde_json::{Map, Value};

use super::quantity::Quantity;
use super::{EMBEDDED, Field, Kind, SCHEMA, TYPE_META, TypeId, go_time};
use crate::json::Node;

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
/// Findings of a strict reader that are reported one by one.
const MAX_FOUND: usize = 100;

/// A tree in the shape of its type, and what in the input had no place in it.
pub(crate) struct Normalised {
    pub(crate) value: Map<String, Value>,
    /// What a strict reader says, in the order met: `unknown field "a.b"`, `duplicate field "a"`.
    pub(crate) found: Vec<String>,
}

/// Brings `input` into the shape of `root`. `kind` and `apiVersion` of the root are accepted and left out.
///
/// # Errors
///
/// Go's text for a value of the wrong type.
pub(crate) fn normalise(root: TypeId, input: impl Into<Node>) -> Result<Normalised, String> {
    let mut walk = Walk { root: true, ..Walk::default() };
    let members = match input.into() {
        Node::Object(members) => members,
        Node::Null => Vec::new(),
        other => {
            let go = go_type(&Kind::Message(root));
            return Err(format!("json: cannot unmarshal {} into Go value of type {go}", other.kind()));
        }
    };
    let value = walk.message(root, members, Map::new())?;
    walk.saved.map_or(Ok(Normalised { value, found: walk.found }), Err)
}

#[derive(Default)]
struct Walk {
    /// Whether the members are those of the root.
    root: bool,
    /// Where the value is, as a strict reader names it: `spec.volumes[0].emptyDir`.
    path: String,
    /// And as a mismatch names it: `spec.volumes.VolumeSource.emptyDir`.
    place: String,
    found: Vec<String>,
    /// Compat: the first mismatch. Go's decoder goes on after one, but not after what a type's own decoder refuses (times,
    /// quantities).
    saved: Option<String>,
}

impl Walk {
    /// Reads the members in the order they stand in, then puts them in the type's.
    ///
    /// Compat: what comes again is read into what is there already (`before`).
    fn message(
        &mut self,
        id: TypeId,
        input: Vec<(String, Node)>,
        before: Map<String, Value>,
    ) -> Result<Map<String, Value>, String> {
        let root = std::mem::take(&mut self.root);
        let embedded = !root && Some(id) == SCHEMA.find(EMBEDDED);
        let (mut read, mut seen) = (before, HashSet::new());
        for (name, node) in input {
            let (before, place) = (self.path.len(), self.place.len());
            if let Some(meta) = TYPE_META.into_iter().find(|meta| (root || embedded) && *meta == name) {
                self.once(seen.insert(meta), meta);
                match node {
                    Node::String(text) if embedded => {
                        read.insert(name, Value::String(text));
                    }
                    Node::String(_) | Node::Null => {}
                    other => {
                        step(&mut self.place, &name);
                        self.mismatch(&Kind::String, other.kind(), id)?;
                    }
                }
            } else if let Some(field) = find(id, &name, &mut self.place) {
                self.once(seen.insert(field.name), field.name);
                step(&mut self.path, &name);
                step(&mut self.place, &name);
                let there = read.get_mut(&name).map(Value::take);
                let value = match node {
                    Node::Null => after_null(field, there),
                    node => Some(self.value(&field.kind, node, id, there.unwrap_or_default())?),
                };
                match value.filter(|value| !value.is_null()) {
                    Some(value) => read.insert(name, value),
                    None => read.swap_remove(&name),
                };
            } else {
                self.find("unknown", &name);
            }
            self.path.truncate(before);
            self.place.truncate(place);
        }
        let mut out = Map::new();
        if embedded {
            out.extend(TYPE_META.into_iter().filter_map(|name| Some((name.to_owned(), read.swap_remove(name)?))));
        }
        self.arrange(id, &mut read, &mut out)?;
        Ok(out)
    }

    /// Notes a member that has come before.
    fn once(&mut self, first: bool, name: &str) {
        if !first {
            self.find("duplicate", name);
        }
    }

    /// Notes what a strict reader finds: each thing once.
    fn find(&mut self, what: &str, name: &str) {
        let before = self.path.len();
        step(&mut self.path, name);
        let finding = format!("{what} field {}", quote(&self.path));
        self.path.truncate(before);
        if self.found.len() < MAX_FOUND && !self.found.contains(&finding) {
            self.found.push(finding);
        }
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
                None => Value::Object(self.message(inner, Vec::new(), Map::new())?),
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

    /// A value that is not null; `before` is what stands there already.
    fn value(&mut self, kind: &Kind, node: Node, owner: TypeId, before: Value) -> Result<Value, String> {
        match (kind, node) {
            (Kind::Raw | Kind::Fields, node) => node.into_value(),
            (Kind::String | Kind::Named(_) | Kind::IntOrString, Node::String(text)) => Ok(Value::String(text)),
            (Kind::Bool, Node::Bool(flag)) => Ok(Value::Bool(flag)),
            (Kind::Int32 | Kind::IntOrString, Node::Number(digits)) => {
                match digits.int().filter(|wide| i32::try_from(*wide).is_ok()) {
                    Some(number) => Ok(number.into()),
                    None => self.mismatch(kind, &format!("number {}", digits.text()), owner),
                }
            }
            (Kind::Int64, Node::Number(digits)) => match digits.int() {
                Some(number) => Ok(number.into()),
                None => self.mismatch(kind, &format!("number {}", digits.text()), owner),
            },
            (Kind::Float, Node::Number(digits)) => match digits.number() {
                Some(number) => Ok(Value::Number(number)),
                None => self.mismatch(kind, &format!("number {}", digits.text()), owner),
            },
            (Kind::Bytes, Node::String(text)) => match base64_of_go(&text) {
                Ok(bytes) => Ok(Value::String(STANDARD.encode(bytes))),
                Err(at) => Ok(self.save(format!("illegal base64 data at input byte {at}"))),
            },
            (Kind::Bytes, Node::Array(items)) => Ok(self.bytes(&items, owner)),
            (Kind::Time, Node::String(text)) => time(&text),
            (Kind::MicroTime, Node::String(text)) => micro_time(&text),
            (Kind::Quantity, Node::String(text)) => quantity(&text),
            (Kind::Quantity, Node::Number(digits)) => quantity(&digits.text()),
            (Kind::Quantity, _) => quantity("x"),
            (Kind::ExtraValue, Node::Array(items)) => self.list(&Kind::String, items, owner, before),
            (Kind::List(inner), Node::Array(items)) => self.list(inner, items, owner, before),
            (Kind::Map(inner), Node::Object(members)) => self.map(inner, members, owner, before),
            (Kind::Message(id), Node::Object(members)) => {
                Ok(Value::Object(self.message(*id, members, members_of(before))?))
            }
            (kind, other) => self.mismatch(kind, other.kind(), owner),
        }
    }

    /// Compat: bytes may be written as a list of numbers.
    fn bytes(&mut self, items: &[Node], owner: TypeId) -> Value {
        let mut bytes = Vec::with_capacity(items.len());
        for item in items {
            let byte = match item {
                Node::Null => Ok(0),
                Node::Number(digits) => match digits.int().and_then(|wide| u8::try_from(wide).ok()) {
                    Some(byte) if !digits.text().starts_with('-') => Ok(byte),
                    _ => Err(format!("number {}", digits.text())),
                },
                other => Err(other.kind().to_owned()),
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

    fn list(&mut self, inner: &Kind, items: Vec<Node>, owner: TypeId, before: Value) -> Result<Value, String> {
        let mut out = Vec::with_capacity(items.len().min(1_024));
        let mut there = match before {
            Value::Array(items) => items.into_iter(),
            _ => Vec::new().into_iter(),
        };
        for (index, item) in items.into_iter().enumerate() {
            let before = self.path.len();
            let _ = write!(self.path, "[{index}]");
            out.push(self.element(inner, item, owner, there.next().unwrap_or_default())?);
            self.path.truncate(before);
        }
        Ok(Value::Array(out))
    }

    /// Compat: Go writes maps in the order of their keys.
    fn map(
        &mut self,
        inner: &Kind,
        members: Vec<(String, Node)>,
        owner: TypeId,
        before: Value,
    ) -> Result<Value, String> {
        let (mut out, mut seen) = (members_of(before), HashSet::new());
        for (name, node) in members {
            let before = self.path.len();
            self.once(seen.insert(name.clone()), &name);
            step(&mut self.path, &name);
            let value = match (inner, node) {
                // Compat: protobuf, in which upstream stores, knows no bytes that are nothing.
                (Kind::Bytes, Node::Null) => Value::String(String::new()),
                (inner, node) => self.element(inner, node, owner, Value::Null)?,
            };
            self.path.truncate(before);
            out.insert(name, value);
        }
        out.sort_keys();
        Ok(Value::Object(out))
    }

    fn element(&mut self, kind: &Kind, node: Node, owner: TypeId, before: Value) -> Result<Value, String> {
        match (kind, node) {
            (Kind::Message(id), Node::Null) => Ok(Value::Object(self.message(*id, Vec::new(), members_of(before))?)),
            (kind, Node::Null) => Ok(zero(kind)),
            (kind, node) => self.value(kind, node, owner, before),
        }
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

fn members_of(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// What a null leaves of what stood there. Compat: it makes pointers, maps and lists nothing, and what reads itself zero;
/// anything else it leaves alone.
fn after_null(field: &Field, there: Option<Value>) -> Option<Value> {
    match field.kind {
        _ if field.pointer => None,
        Kind::String
        | Kind::Named(_)
        | Kind::Int32
        | Kind::Int64
        | Kind::Bool
        | Kind::Float
        | Kind::Raw
        | Kind::Message(_) => there,
        Kind::Bytes
        | Kind::Time
        | Kind::MicroTime
        | Kind::Quantity
        | Kind::IntOrString
        | Kind::Fields
        | Kind::ExtraValue
        | Kind::List(_)
        | Kind::Map(_) => None,
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

/// A `metav1.Time` as it is written. Compat: the time zero is none.
pub(super) fn time(text: &str) -> Result<Value, String> {
    let time = go_time::parse(go_time::SECONDS, text)?;
    Ok(if text == ZERO_TIME { Value::Null } else { Value::String(time.rfc3339()) })
}

/// A `metav1.MicroTime` as it is written.
pub(super) fn micro_time(text: &str) -> Result<Value, String> {
    Ok(Value::String(go_time::parse(go_time::MICROS, text)?.rfc3339_micros()))
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
        Kind::Message(id) => format!("{}.{}", SCHEMA.go_package(*id), SCHEMA.go_name(*id)),
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
        let paths = ["metadata.name2", "foo", "spec.containers[1].imag", "spec.hostPath"];
        assert_eq!(shaped.found, paths.map(|path| format!("unknown field \"{path}\"")));
        assert!(!shaped.value.contains_key("foo"));
    }

    #[test]
    fn inlined_structs_stand_beside_their_neighbours() {
        let input = json!({"spec": {"containers": null, "volumes": [{"name": "v", "emptyDir": {}, "emptyDirr": {}}]}});
        let shaped = shape("core.Pod", input).unwrap();
        assert_eq!(shaped.value["spec"]["volumes"][0], json!({"name": "v", "emptyDir": {}}));
        assert_eq!(shaped.found, ["unknown field \"spec.volumes[0].emptyDirr\""]);
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
    fn what_comes_again_is_read_into_what_is_there() {
        let read = |text: &str| {
            let shaped = normalise(SCHEMA.find("core.Pod").unwrap(), crate::json::parse(text.as_bytes()).unwrap());
            shaped.map(|shaped| (Value::Object(shaped.value), shaped.found))
        };
        let text = r#"{"metadata":{"name":"a","labels":{"x":"1"}},"zzz":{"a":1,"a":2},"kind":"Pod","kind":"Pod",
            "metadata":{"name":null,"labels":{"y":"2","y":"3"},"uid":"u"},"spec":{"containers":[{"name":"c","image":"i"},{}]},
            "spec":{"containers":[{"name":"d"}],"hostname":"h"},"metadata":{"labels":null}}"#;
        let (value, found) = read(text).unwrap();
        assert_eq!(value["metadata"], json!({"name": "a", "uid": "u"}));
        assert_eq!(value["spec"]["containers"], json!([{"name": "d", "image": "i", "resources": {}}]));
        let want = [
            "unknown field \"zzz\"",
            "duplicate field \"kind\"",
            "duplicate field \"metadata\"",
            "duplicate field \"metadata.labels.y\"",
            "duplicate field \"spec\"",
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn numbers_are_taken_as_they_are_written() {
        let read = |number: &str| {
            let text = format!(r#"{{"spec":{{"containers":[{{"ports":[{{"containerPort":{number}}}]}}]}}}}"#);
            let shaped = normalise(SCHEMA.find("core.Pod").unwrap(), crate::json::parse(text.as_bytes()).unwrap());
            shaped.map(|shaped| shaped.value["spec"]["containers"][0]["ports"][0]["containerPort"].clone())
        };
        assert_eq!((read("-0"), read("2147483647")), (Ok(json!(0)), Ok(json!(2_147_483_647))));
        for number in ["1.0", "1E+2", "2147483648", "1e400", "123456789012345678901234567890"] {
            let why = read(number).unwrap_err();
            assert!(why.starts_with(&format!("json: cannot unmarshal number {number} into")), "{why}");
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
                prop_assert!(twice.found.is_empty());
            }
        }
    }
}
