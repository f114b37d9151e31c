//! Kubernetes' protobuf bodies, read into the same JSON tree that a JSON body gives.
//!
//! Flow: magic `k8s\0` → `runtime.Unknown` (kind, version, raw bytes) → the message by its field table → JSON tree.
//! kubectl's typed commands (`create clusterrolebinding`, `auth whoami`, `auth can-i`, `create namespace`) send nothing
//! else since 1.37 and do not fall back after 415; answers may stay JSON. Nothing here writes protobuf.
//!
//! Every length is checked against what is there, and nesting and values are bounded.
//!
//! Compat: the decoders that gogo-protobuf generates: a message that comes twice is merged, a list is added to, lists of
//! numbers may be packed, and what is not known is passed over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

pub(crate) use super::proto_wire::ProtobufError;
use super::proto_wire::{BYTES, FIXED64, Reader, Tag, VARINT, text};
use super::quantity::Quantity;
use super::{Field, Kind, SCHEMA, TypeId};
use crate::json;

const MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: usize = 48;

/// What the envelope of a body says.
pub(crate) struct Envelope<'b> {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) raw: &'b [u8],
}

/// Opens the envelope of a body.
pub(crate) fn envelope(body: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    if body.is_empty() {
        return Err(ProtobufError::NoData);
    }
    let rest = body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    if rest.is_empty() {
        return Err(ProtobufError::NoBody);
    }
    let mut out = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    each_bytes(rest, "Unknown", &["TypeMeta", "Raw", "ContentEncoding", "ContentType"], |number, bytes| {
        match number {
            1 => each_bytes(bytes, "TypeMeta", &["APIVersion", "Kind"], |number, bytes| {
                *(if number == 1 { &mut out.api_version } else { &mut out.kind }) = text(bytes);
                Ok(())
            })?,
            2 => out.raw = bytes,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

/// Reads a message of type `id`. Fields that the type does not know are skipped, as Go's generated code does.
pub(crate) fn message(id: TypeId, bytes: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
    let mut out = Map::new();
    Decoder { left: json::MAX_VALUES, copied: bytes.len().saturating_mul(4) }.message(id, bytes, &mut out, 0)?;
    Ok(out)
}

/// Reads a message whose fields, numbered from 1 on, are all bytes.
fn each_bytes<'b>(
    bytes: &'b [u8],
    of: &'static str,
    fields: &[&str],
    mut take: impl FnMut(i32, &'b [u8]) -> Result<(), ProtobufError>,
) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some(tag) = reader.tag(of)? {
        match usize::try_from(tag.number - 1).ok().and_then(|at| fields.get(at)) {
            Some(field) => {
                tag.expect(BYTES, || (*field).to_owned())?;
                take(tag.number, reader.bytes()?)?;
            }
            None => reader.skip(tag)?,
        }
    }
    Ok(())
}

struct Decoder {
    /// Values that may still come.
    left: usize,
    /// Bytes of entries of maps that may still be copied: what stands behind an entry's end can be told again and again.
    copied: usize,
}

impl Decoder {
    fn message(
        &mut self,
        id: TypeId,
        bytes: &[u8],
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        if depth > MAX_DEPTH {
            return Err(ProtobufError::Depth);
        }
        let mut reader = Reader::new(bytes);
        while let Some(tag) = reader.tag(SCHEMA.go_name(id))? {
            let known = |field: &&Field| i32::try_from(field.number) == Ok(tag.number);
            match SCHEMA.fields(id).iter().find(known) {
                Some(field) => self.field(field, tag, &mut reader, out, depth)?,
                None => reader.skip(tag)?,
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        tag: Tag,
        reader: &mut Reader<'_>,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        self.count()?;
        match &field.kind {
            Kind::List(inner) => {
                let items = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = items else { return Ok(()) };
                if tag.wire == BYTES && wire(inner) == VARINT {
                    let length = reader.varint()?;
                    let end = reader.after(length)?;
                    // Compat: whatever it says of itself, there has to be as much.
                    reader.check_end(end)?;
                    while reader.at() < end {
                        self.count()?;
                        items.push(number(inner, reader.varint()?));
                    }
                    return Ok(());
                }
                tag.expect(wire(inner), || field.go_name())?;
                items.push(self.value(inner, reader, None, depth)?);
            }
            Kind::Map(inner) => {
                tag.expect(BYTES, || field.go_name())?;
                let (key, value) = self.entry(inner, reader, depth)?;
                let members = out.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(members) = members {
                    members.insert(key, value);
                }
            }
            Kind::Message(inner) if field.inline => {
                tag.expect(BYTES, || field.go_name())?;
                self.message(*inner, reader.bytes()?, out, depth + 1)?;
            }
            kind => {
                tag.expect(wire(kind), || field.go_name())?;
                let value = self.value(kind, reader, out.get_mut(field.name).map(Value::take), depth)?;
                out.insert(field.name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), ProtobufError> {
        self.left = self.left.checked_sub(1).ok_or(ProtobufError::TooManyValues)?;
        Ok(())
    }

    /// Compat: how key and value come is not looked at, and what they are may stand behind the entry's own end.
    fn entry(&mut self, inner: &Kind, reader: &mut Reader<'_>, depth: usize) -> Result<(String, Value), ProtobufError> {
        let length = reader.varint()?;
        let end = reader.after(length)?;
        reader.check_end(end)?;
        // Compat: a list that an entry leaves out is an empty one, and not none.
        let nothing = if matches!(inner, Kind::ExtraValue) { Value::Array(Vec::new()) } else { zero(inner) };
        let (mut key, mut value) = (String::new(), nothing);
        while reader.at() < end {
            let start = reader.at();
            let (tag, _) = reader.any_tag()?;
            match tag.number {
                1 => key = text(reader.bytes()?),
                2 => value = self.value(inner, reader, None, depth)?,
                _ => {
                    reader.skip(tag)?;
                    if reader.at() > end {
                        return Err(ProtobufError::Truncated);
                    }
                }
            }
            self.copied = self.copied.checked_sub(reader.at() - start).ok_or(ProtobufError::TooManyValues)?;
        }
        reader.go(end);
        Ok((key, value))
    }

    /// The value on the wire; `before` is what the same field has been told already.
    fn value(
        &mut self,
        kind: &Kind,
        reader: &mut Reader<'_>,
        before: Option<Value>,
        depth: usize,
    ) -> Result<Value, ProtobufError> {
        Ok(match kind {
            Kind::Bool | Kind::Int32 | Kind::Int64 => number(kind, reader.varint()?),
            Kind::Float => Value::from(f64::from_bits(reader.fixed64()?)),
            Kind::String | Kind::Named(_) => Value::String(text(reader.bytes()?)),
            Kind::Bytes => Value::String(STANDARD.encode(reader.bytes()?)),
            Kind::Time => time(reader.bytes()?, false)?,
            Kind::MicroTime => time(reader.bytes()?, true)?,
            Kind::Quantity => quantity(reader.bytes()?, before)?,
            Kind::IntOrString => int_or_string(reader.bytes()?, before)?,
            Kind::Raw => self.raw(reader.bytes()?, "RawExtension", before)?,
            Kind::Fields => self.raw(reader.bytes()?, "FieldsV1", before)?,
            Kind::ExtraValue => {
                let mut items = Vec::new();
                each_bytes(reader.bytes()?, "ExtraValue", &["Items"], |_, item| {
                    self.count()?;
                    items.push(Value::String(text(item)));
                    Ok(())
                })?;
                Value::Array(items)
            }
            Kind::Message(id) => {
                let mut members = match before {
                    Some(Value::Object(members)) => members,
                    _ => Map::new(),
                };
                self.message(*id, reader.bytes()?, &mut members, depth + 1)?;
                Value::Object(members)
            }
            // Neither stands in a list or a map.
            Kind::List(_) | Kind::Map(_) => {
                reader.bytes()?;
                Value::Null
            }
        })
    }

    /// Compat: what is no JSON is kept there until it is shown, which fails; here it counts as not said.
    fn raw(&mut self, bytes: &[u8], of: &'static str, before: Option<Value>) -> Result<Value, ProtobufError> {
        let mut out = before.unwrap_or(Value::Null);
        each_bytes(bytes, of, &["Raw"], |_, bytes| {
            out = json::value(bytes).unwrap_or_default();
            self.left = self.left.checked_sub(json::values(&out)).ok_or(ProtobufError::TooManyValues)?;
            Ok(())
        })?;
        Ok(out)
    }
}

impl Field {
    /// What the field is called in Go.
    fn go_name(&self) -> String {
        if !self.go_name.is_empty() {
            return self.go_name.to_owned();
        }
        let mut letters = self.name.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
    }
}

/// How values of a type come.
fn wire(kind: &Kind) -> u8 {
    match kind {
        Kind::Bool | Kind::Int32 | Kind::Int64 => VARINT,
        Kind::Float => FIXED64,
        _ => BYTES,
    }
}

/// Compat: negative 32-bit numbers travel as 64-bit two's complement, and what is too large is cut.
fn number(kind: &Kind, bits: u64) -> Value {
    match kind {
        Kind::Bool => Value::Bool(bits != 0),
        Kind::Int32 => Value::from(cut(bits)),
        _ => Value::from(bits.cast_signed()),
    }
}

fn cut(bits: u64) -> i32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0).cast_signed()
}

/// The value of a map's entry that does not tell it.
fn zero(kind: &Kind) -> Value {
    match kind {
        Kind::String | Kind::Named(_) | Kind::Bytes => Value::String(String::new()),
        Kind::Quantity => Value::String("0".to_owned()),
        Kind::Message(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

fn quantity(bytes: &[u8], before: Option<Value>) -> Result<Value, ProtobufError> {
    let mut out = before.unwrap_or_else(|| Value::String("0".to_owned()));
    each_bytes(bytes, "Quantity", &["String_"], |_, bytes| {
        out = Value::String(Quantity::parse(&text(bytes)).map_err(ProtobufError::Value)?.to_string());
        Ok(())
    })?;
    Ok(out)
}

/// Compat: no bytes are no time; times but for those with microseconds have whole seconds.
fn time(bytes: &[u8], micros: bool) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let mut reader = Reader::new(bytes);
    while let Some(tag) = reader.tag("Timestamp")? {
        match tag.number {
            1 => {
                tag.expect(VARINT, || "Seconds".to_owned())?;
                seconds = reader.varint()?.cast_signed();
            }
            2 => {
                tag.expect(VARINT, || "Nanos".to_owned())?;
                nanos = i64::from(cut(reader.varint()?));
            }
            _ => reader.skip(tag)?,
        }
    }
    let whole = seconds.saturating_mul(1_000_000_000);
    Ok(Value::String(if micros {
        Timestamp::from_unix_nanos(whole.saturating_add(nanos)).rfc3339_micros()
    } else {
        Timestamp::from_unix_nanos(whole).rfc3339()
    }))
}

fn int_or_string(bytes: &[u8], before: Option<Value>) -> Result<Value, ProtobufError> {
    let (mut kind, mut int, mut string) = match before {
        Some(Value::String(text)) => (1, 0, text),
        Some(value) => (0, value.as_i64().unwrap_or(0), String::new()),
        None => (0, 0, String::new()),
    };
    let mut reader = Reader::new(bytes);
    while let Some(tag) = reader.tag("IntOrString")? {
        match tag.number {
            1 => {
                tag.expect(VARINT, || "Type".to_owned())?;
                kind = reader.varint()?;
            }
            2 => {
                tag.expect(VARINT, || "IntVal".to_owned())?;
                int = i64::from(cut(reader.varint()?));
            }
            3 => {
                tag.expect(BYTES, || "StrVal".to_owned())?;
                string = text(reader.bytes()?);
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(if kind == 1 { Value::String(string) } else { Value::from(int) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// `kubectl create clusterrolebinding x1 --clusterrole=cluster-admin --user=bob`, as kubectl 1.37 sent it.
    const BINDING: &str = "azhzAAoyChxyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvL3YxEhJDbHVzdGVyUm9sZUJpbmRpbmcSdwoSCgJ4MRIAGgAiACoAMgA4AEIAEigKBFVzZXISGXJiYWMuYXV0aG9yaXphdGlvbi5rOHMuaW8aA2JvYiIAGjcKGXJiYWMuYXV0aG9yaXphdGlvbi5rOHMuaW8SC0NsdXN0ZXJSb2xlGg1jbHVzdGVyLWFkbWluGgAiAA==";

    #[test]
    fn a_body_that_kubectl_sent_is_read() {
        let body = STANDARD.decode(BINDING).unwrap();
        let envelope = envelope(&body).unwrap();
        assert_eq!(
            (envelope.api_version.as_str(), envelope.kind.as_str()),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding")
        );
        let tree = message(SCHEMA.find("rbac.ClusterRoleBinding").unwrap(), envelope.raw).unwrap();
        let shaped =
            super::super::normalise::normalise(SCHEMA.find("rbac.ClusterRoleBinding").unwrap(), Value::Object(tree))
                .unwrap();
        let group = "rbac.authorization.k8s.io";
        assert_eq!(
            Value::Object(shaped.value),
            json!({"metadata": {"name": "x1"},
                "subjects": [{"kind": "User", "apiGroup": group, "name": "bob"}],
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"}})
        );
    }

    #[test]
    fn every_truncation_of_a_body_is_an_error_or_less() {
        let body = STANDARD.decode(BINDING).unwrap();
        let whole = envelope(&body).unwrap().raw.len();
        for length in 0..body.len() {
            if let Ok(envelope) = envelope(&body[..length]) {
                assert!(envelope.raw.len() < whole || length + 4 >= body.len());
            }
        }
        assert!(matches!(envelope(b"{}"), Err(ProtobufError::Magic)));
    }

    #[test]
    fn scalars_keep_their_sign_and_zero_times_vanish() {
        let options = SCHEMA.find("meta.DeleteOptions").unwrap();
        let minus_one = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(message(options, &minus_one).unwrap()["gracePeriodSeconds"], -1);
        let meta = SCHEMA.find("meta.ObjectMeta").unwrap();
        assert!(message(meta, &[0x42, 0x00]).unwrap()["creationTimestamp"].is_null());
        let one_day = [0x42, 0x04, 0x08, 0x80, 0xa3, 0x05];
        assert_eq!(message(meta, &one_day).unwrap()["creationTimestamp"], "1970-01-02T00:00:00Z");
    }

    #[test]
    fn a_list_that_an_entry_leaves_out_is_empty() {
        let spec = SCHEMA.find("authz.SubjectAccessReviewSpec").unwrap();
        assert_eq!(message(spec, &[0x2a, 0x03, 0x0a, 0x01, b'k']).unwrap()["extra"], serde_json::json!({"k": []}));
    }

    fn varint(mut number: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while number > 127 {
            out.push(u8::try_from(number & 127).unwrap() | 128);
            number >>= 7;
        }
        out.push(u8::try_from(number).unwrap());
        out
    }

    /// A field of bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [varint(usize::from(number) << 3 | 2), varint(bytes.len()), bytes.to_vec()].concat()
    }

    #[test]
    fn entries_of_maps_that_reach_behind_their_end_are_copied_so_often_only() {
        let meta = SCHEMA.find("meta.ObjectMeta").unwrap();
        // Keys of two hundred labels, each of which is all that follows.
        let entry = |rest: usize| {
            let length = u32::try_from(rest).unwrap();
            let padded: Vec<u8> = (0..4)
                .map(|at| u8::try_from(length >> (7 * at) & 127).unwrap() | if at < 3 { 128 } else { 0 })
                .collect();
            [vec![0x5a, 5, 0x0a], padded].concat()
        };
        let tail = 100_000;
        let mut body: Vec<u8> = (0..200).flat_map(|index| entry((199 - index) * 7 + tail + 4)).collect();
        body.extend(field(1, &vec![b'x'; tail]));
        assert!(matches!(message(meta, &body), Err(ProtobufError::TooManyValues)));
        // As many as there is room for are what upstream reads too.
        let mut body: Vec<u8> = entry(tail + 4);
        body.extend(field(1, &vec![b'x'; tail]));
        assert_eq!(message(meta, &body).unwrap()["labels"].as_object().unwrap().len(), 1);
        // And whole entries are never too many.
        let label = |index: usize| field(11, &[field(1, format!("k{index}").as_bytes()), field(2, b"v")].concat());
        let body: Vec<u8> = (0..10_000).flat_map(label).collect();
        assert_eq!(message(meta, &body).unwrap()["labels"].as_object().unwrap().len(), 10_000);
    }

    #[test]
    fn values_of_json_within_count_as_values() {
        let meta = SCHEMA.find("meta.ObjectMeta").unwrap();
        let fields = |count: usize| {
            let json = format!("{{\"a\":[{}0]}}", "0,".repeat(count));
            field(17, &field(7, &field(1, json.as_bytes())))
        };
        assert!(message(meta, &fields(150_000)).is_ok());
        let twice = [fields(150_000), fields(150_000)].concat();
        assert!(matches!(message(meta, &twice), Err(ProtobufError::TooManyValues)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for name in ["core.Pod", "rbac.ClusterRole", "authz.SubjectAccessReview", "core.Event"] {
                let _ = message(SCHEMA.find(name).unwrap(), &bytes);
            }
            let mut body = MAGIC.to_vec();
            body.extend(&bytes);
            let _ = envelope(&body);
        }
    }
}
