//! What the API types look like: for each type its fields with JSON name, protobuf number and type.
//!
//! One table serves five readers: the JSON decoder (types, unknown fields, Go's zero values), the protobuf decoder
//! (kubectl's typed clients send nothing else since 1.37), the encoder's field order, strategic merge patch (how lists
//! are merged), and later OpenAPI.
//! The table is data (`types.txt`), made by `examples/schema_gen.rs` from the pinned Kubernetes modules.

pub(crate) mod convert;
pub(crate) mod go_time;
pub(crate) mod normalise;
pub(crate) mod patch;
mod proto_wire;
pub(crate) mod protobuf;
pub(crate) mod quantity;

use std::collections::HashMap;
use std::sync::LazyLock;

/// The table of all types.
pub(crate) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::parse(include_str!("types.txt")));

/// What says of which kind an object is.
const TYPE_META: [&str; 2] = ["kind", "apiVersion"];
/// The one whole object that stands inside others (`volumeClaimTemplates`), and says there what it is.
const EMBEDDED: &str = "core.PersistentVolumeClaim";

/// All known types by name, such as `core.Pod`.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    types: Vec<MessageType>,
    by_name: HashMap<&'static str, TypeId>,
}

/// Where a message type stands in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypeId(usize);

/// A Go struct.
#[derive(Debug)]
pub(crate) struct MessageType {
    /// Package and name, such as `core.Pod`.
    pub(crate) name: &'static str,
    pub(crate) fields: Vec<Field>,
}

/// A field of a Go struct.
#[derive(Debug)]
pub(crate) struct Field {
    /// The name in JSON; of an inlined struct, its Go name.
    pub(crate) name: &'static str,
    /// The protobuf field number; 0 when it has none.
    pub(crate) number: u32,
    /// The name in Go, where it is not that in JSON with a capital.
    pub(crate) go_name: &'static str,
    pub(crate) omit_empty: bool,
    pub(crate) omit_zero: bool,
    pub(crate) pointer: bool,
    /// The members of this struct stand in JSON beside those of the outer one.
    pub(crate) inline: bool,
    pub(crate) kind: Kind,
    /// Go's `patchStrategy` tag, such as `merge` or `merge,retainKeys`; empty when there is none.
    pub(crate) patch_strategy: &'static str,
    /// Go's `patchMergeKey` tag, such as `name`; empty when there is none.
    pub(crate) patch_merge_key: &'static str,
}

/// The type of a field.
#[derive(Debug)]
pub(crate) enum Kind {
    String,
    /// A string whose Go type has a name of its own, such as `v1.Protocol`.
    Named(&'static str),
    Int32,
    Int64,
    Bool,
    Float,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON, kept as it came (`runtime.RawExtension`).
    Raw,
    /// Any JSON object, in protobuf as bytes (`metav1.FieldsV1`).
    Fields,
    /// A list of strings that protobuf wraps into a message.
    ExtraValue,
    List(Box<Self>),
    Map(Box<Self>),
    Message(TypeId),
}

impl TypeId {
    /// Its place in the table, below [`Schema::len`].
    pub(crate) fn place(self) -> usize {
        self.0
    }
}

impl Schema {
    /// Reads the table. Lines that are not understood are left out; a test shows that there is none.
    fn parse(text: &'static str) -> Self {
        let mut schema = Self::default();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("T ") {
                schema.by_name.insert(name, TypeId(schema.types.len()));
                schema.types.push(MessageType { name, fields: Vec::new() });
            }
        }
        let mut current: Option<TypeId> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("T ") {
                current = schema.by_name.get(name).copied();
            } else if let (Some(TypeId(at)), Some(field)) = (current, schema.field(line))
                && let Some(message) = schema.types.get_mut(at)
            {
                message.fields.push(field);
            }
        }
        schema
    }

    fn field(&self, line: &'static str) -> Option<Field> {
        let mut words = line.split(' ');
        let (name, number, flags, kind) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let (number, go_name) = number.split_once('=').unwrap_or((number, ""));
        Some(Field {
            name,
            number: number.parse().ok()?,
            go_name,
            omit_empty: flags.contains('e'),
            omit_zero: flags.contains('z'),
            pointer: flags.contains('p'),
            inline: flags.contains('i'),
            kind: self.kind(kind)?,
            patch_strategy: words.next().filter(|strategy| *strategy != "-").unwrap_or_default(),
            patch_merge_key: words.next().unwrap_or_default(),
        })
    }

    fn kind(&self, text: &'static str) -> Option<Kind> {
        if let Some(inner) = text.strip_prefix("[]") {
            return Some(Kind::List(Box::new(self.kind(inner)?)));
        }
        if let Some(inner) = text.strip_prefix("{}") {
            return Some(Kind::Map(Box::new(self.kind(inner)?)));
        }
        if let Some(name) = text.strip_prefix("s=") {
            return Some(Kind::Named(name));
        }
        Some(match text {
            "s" => Kind::String,
            "i32" => Kind::Int32,
            "i64" => Kind::Int64,
            "b" => Kind::Bool,
            "f" => Kind::Float,
            "y" => Kind::Bytes,
            "Time" => Kind::Time,
            "MicroTime" => Kind::MicroTime,
            "Quantity" => Kind::Quantity,
            "IntOrString" => Kind::IntOrString,
            "Raw" => Kind::Raw,
            "Fields" => Kind::Fields,
            "ExtraValue" => Kind::ExtraValue,
            name => Kind::Message(self.find(name)?),
        })
    }

    /// The type called `name`, such as `rbac.ClusterRole`.
    pub(crate) fn find(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// How many types there are.
    pub(crate) fn len(&self) -> usize {
        self.types.len()
    }

    /// The fields of a type.
    pub(crate) fn fields(&self, id: TypeId) -> &[Field] {
        self.types.get(id.0).map_or(&[], |message| &message.fields)
    }

    /// The Go name of a type without its package, such as `ObjectMeta`.
    pub(crate) fn go_name(&self, id: TypeId) -> &'static str {
        self.types.get(id.0).and_then(|message| message.name.rsplit('.').next()).unwrap_or_default()
    }

    /// The Go package of a type, which is called as the version that it belongs to.
    pub(crate) fn go_package(&self, id: TypeId) -> &'static str {
        match self.types.get(id.0).and_then(|message| message.name.split('.').next()) {
            Some("autoscalingv2") => "v2",
            Some("networkingbeta") => "v1beta1",
            Some("schedulingalpha") => "v1alpha3",
            _ => "v1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let text = include_str!("types.txt");
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("T ")).count();
        let fields: usize = SCHEMA.types.iter().map(|message| message.fields.len()).sum();
        assert_eq!(fields, lines);
        assert!(SCHEMA.types.len() > 150);
    }

    #[test]
    fn lists_say_how_a_strategic_patch_merges_them() {
        let patch = |of: &str, name: &str| {
            let fields = SCHEMA.fields(SCHEMA.find(of).unwrap());
            let field = fields.iter().find(|field| field.name == name).unwrap();
            (field.patch_strategy, field.patch_merge_key)
        };
        assert_eq!(patch("core.PodSpec", "containers"), ("merge", "name"));
        assert_eq!(patch("core.PodSpec", "volumes"), ("merge,retainKeys", "name"));
        assert_eq!(patch("core.PodSpec", "tolerations"), ("", ""));
        assert_eq!(patch("core.Container", "ports"), ("merge", "containerPort"));
        assert_eq!(patch("meta.ObjectMeta", "finalizers"), ("merge", ""));
        assert_eq!(patch("meta.ObjectMeta", "ownerReferences"), ("merge", "uid"));
    }

    #[test]
    fn no_type_uses_a_protobuf_number_twice() {
        for message in &SCHEMA.types {
            let mut numbers: Vec<u32> = message.fields.iter().map(|field| field.number).filter(|n| *n != 0).collect();
            let before = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), before, "{}", message.name);
        }
    }
}
