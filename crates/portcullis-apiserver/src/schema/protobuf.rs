//! Kubernetes' protobuf bodies, read into the same JSON tree that a JSON body gives.
//!
//! Flow: magic `k8s\0` → `runtime.Unknown` (kind, version, raw bytes) → the message by its field table → JSON tree.
//! kubectl's typed commands (`create clusterrolebinding`, `auth whoami`, `auth can-i`, `create namespace`) send nothing
//! else since 1.37 and do not fall back after 415; answers may stay JSON. Nothing here writes protobuf.
//!
//! Every length is checked against what is there, and nesting is bounded.

use serde_json::{Map, Value};

use super::{Field, Kind, SCHEMA, TypeId};
use portcullis_runtime::Timestamp;

const MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: usize = 48;

/// What the envelope of a body says.
pub(crate) struct Envelope<'b> {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) raw: &'b [u8],
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("empty data")]
    NoData,
    #[error("empty body")]
    NoBody,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: message nested deeper than {MAX_DEPTH}")]
    Depth,
    #[error("proto: invalid UTF-8 string")]
    Utf8,
    #[error("proto: more than {} values", crate::json::MAX_VALUES)]
    TooManyValues,
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
    let mut reader = Reader(rest);
    let mut out = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Wire::Bytes(type_meta)) => {
                let mut inner = Reader(type_meta);
                while let Some((number, value)) = inner.field()? {
                    match (number, value) {
                        (1, Wire::Bytes(text)) => out.api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => out.kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(raw)) => out.raw = raw,
            _ => {}
        }
    }
    Ok(out)
}

/// Reads a message of type `id`. Fields that the type does not know are skipped, as Go's generated code does.
pub(crate) fn message(id: TypeId, bytes: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
    Decoder { left: crate::json::MAX_VALUES }.message(id, bytes, 0)
}

enum Wire<'b> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'b [u8]),
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn field(&mut self) -> Result<Option<(u32, Wire<'b>)>, ProtobufError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Overflow)?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Overflow)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.array::<4>()?;
                Wire::Fixed32
            }
            other => return Err(ProtobufError::WireType(u8::try_from(other).unwrap_or(u8::MAX))),
        };
        Ok(Some((number, value)))
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut out = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(ProtobufError::Truncated)?;
            self.0 = rest;
            out |= u64::from(byte & 0x7f).checked_shl(shift).ok_or(ProtobufError::Overflow)?;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(ProtobufError::Overflow)
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        self.take(N)?.try_into().map_err(|_| ProtobufError::Truncated)
    }
}

struct Decoder {
    left: usize,
}

impl Decoder {
    fn message(&mut self, id: TypeId, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, ProtobufError> {
        if depth > MAX_DEPTH {
            return Err(ProtobufError::Depth);
        }
        let mut out = Map::new();
        let mut reader = Reader(bytes);
        while let Some((number, wire)) = reader.field()? {
            let Some(field) = SCHEMA.fields(id).iter().find(|field| field.number == number && number != 0) else {
                continue;
            };
            self.left = self.left.checked_sub(1).ok_or(ProtobufError::TooManyValues)?;
            self.field(field, &wire, &mut out, depth)?;
        }
        Ok(out)
    }

    fn field(
        &mut self,
        field: &Field,
        wire: &Wire<'_>,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        match (&field.kind, wire) {
            (Kind::Message(inner), Wire::Bytes(bytes)) if field.inline => {
                out.extend(self.message(*inner, bytes, depth + 1)?);
            }
            (Kind::List(inner), wire) => {
                let item = self.value(inner, wire, depth)?;
                if let Value::Array(items) = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) {
                    items.extend(item);
                }
            }
            (Kind::Map(inner), Wire::Bytes(bytes)) => {
                let (key, value) = self.entry(inner, bytes, depth)?;
                if let Value::Object(members) = out.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                    members.insert(key, value);
                }
            }
            (kind, wire) => {
                if let Some(value) = self.value(kind, wire, depth)? {
                    out.insert(field.name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, inner: &Kind, bytes: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut value) = (String::new(), Value::Null);
        let mut reader = Reader(bytes);
        while let Some((number, wire)) = reader.field()? {
            match (number, &wire) {
                (1, Wire::Bytes(text)) => key = utf8(text)?,
                (2, wire) => value = self.value(inner, wire, depth)?.unwrap_or(Value::Null),
                _ => {}
            }
        }
        Ok((key, value))
    }

    /// The value on the wire; `None` for a zero time, which JSON leaves out.
    fn value(&mut self, kind: &Kind, wire: &Wire<'_>, depth: usize) -> Result<Option<Value>, ProtobufError> {
        Ok(match (kind, wire) {
            (Kind::String | Kind::Named(_), Wire::Bytes(text)) => Some(Value::String(utf8(text)?)),
            (Kind::Bool, Wire::Varint(bits)) => Some(Value::Bool(*bits != 0)),
            // Negative 32-bit numbers travel as 64-bit two's complement.
            (Kind::Int32 | Kind::Int64, Wire::Varint(bits)) => Some(Value::from(bits.cast_signed())),
            (Kind::Float, Wire::Fixed64(bits)) => Some(Value::from(f64::from_bits(*bits))),
            (Kind::Bytes, Wire::Bytes(bytes)) => {
                use base64::Engine as _;
                Some(Value::String(base64::engine::general_purpose::STANDARD.encode(bytes)))
            }
            (Kind::Time, Wire::Bytes(bytes)) => time(bytes)?.map(|time| Value::String(time.rfc3339())),
            (Kind::MicroTime, Wire::Bytes(bytes)) => time(bytes)?.map(|time| Value::String(time.rfc3339_micros())),
            (Kind::Quantity, Wire::Bytes(bytes)) => text_at(bytes, 1)?.map(Value::String),
            (Kind::IntOrString, Wire::Bytes(bytes)) => Some(int_or_string(bytes)?),
            (Kind::Raw | Kind::Fields, Wire::Bytes(bytes)) => {
                let text = text_at(bytes, 1)?.unwrap_or_default();
                crate::json::value(text.as_bytes()).ok()
            }
            (Kind::ExtraValue, Wire::Bytes(bytes)) => {
                let mut items = Vec::new();
                let mut reader = Reader(bytes);
                while let Some((number, wire)) = reader.field()? {
                    if let (1, Wire::Bytes(text)) = (number, wire) {
                        self.left = self.left.checked_sub(1).ok_or(ProtobufError::TooManyValues)?;
                        items.push(Value::String(utf8(text)?));
                    }
                }
                Some(Value::Array(items))
            }
            (Kind::Message(id), Wire::Bytes(bytes)) => Some(Value::Object(self.message(*id, bytes, depth + 1)?)),
            (_, Wire::Varint(_)) => return Err(ProtobufError::WireType(0)),
            (_, Wire::Fixed64(_)) => return Err(ProtobufError::WireType(1)),
            (_, Wire::Bytes(_)) => return Err(ProtobufError::WireType(2)),
            (_, Wire::Fixed32) => return Err(ProtobufError::WireType(5)),
        })
    }
}

fn utf8(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Utf8)
}

fn text_at(bytes: &[u8], wanted: u32) -> Result<Option<String>, ProtobufError> {
    let mut reader = Reader(bytes);
    let mut out = None;
    while let Some((number, wire)) = reader.field()? {
        if let (true, Wire::Bytes(text)) = (number == wanted, wire) {
            out = Some(utf8(text)?);
        }
    }
    Ok(out)
}

fn time(bytes: &[u8]) -> Result<Option<Timestamp>, ProtobufError> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Varint(bits)) => seconds = bits.cast_signed(),
            (2, Wire::Varint(bits)) => nanos = bits.cast_signed(),
            _ => {}
        }
    }
    if seconds == 0 && nanos == 0 {
        return Ok(None);
    }
    Ok(Some(Timestamp::from_unix_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number_value, mut text_value) = (false, 0_i64, String::new());
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(bits)) => number_value = bits.cast_signed(),
            (3, Wire::Bytes(text)) => text_value = utf8(text)?,
            _ => {}
        }
    }
    Ok(if is_text { Value::String(text_value) } else { Value::from(number_value) })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
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
        assert!(message(meta, &[0x42, 0x00]).unwrap().is_empty());
        let one_day = [0x42, 0x04, 0x08, 0x80, 0xa3, 0x05];
        assert_eq!(message(meta, &one_day).unwrap()["creationTimestamp"], "1970-01-02T00:00:00Z");
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
