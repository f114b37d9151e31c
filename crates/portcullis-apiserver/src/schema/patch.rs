//! The table of types as strategic merge patch asks for it.
//!
//! Compat: upstream asks Go's reflection. A struct that writes itself as a scalar (a time, a quantity) is a struct without
//! fields, bytes are a slice, and `kind` and `apiVersion` are fields of whole objects.

use portcullis_patch::{GoKind, PatchField, PatchSchema, names_field};

use super::{EMBEDDED, Field, Kind, SCHEMA, TYPE_META, TypeId};

/// A place in a type: the type itself, a field, or what a pointer or list holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PatchType {
    pointer: bool,
    of: Of,
}

#[derive(Debug, Clone, Copy)]
enum Of {
    /// A whole object, which says what it is.
    Object(TypeId),
    Kind(&'static Kind),
    String,
    Byte,
}

impl PatchType {
    /// The type of a whole object.
    pub(crate) const fn object(id: TypeId) -> Self {
        Self { pointer: false, of: Of::Object(id) }
    }

    const fn plain(of: Of) -> Self {
        Self { pointer: false, of }
    }

    /// The struct and whether it says what it is.
    fn message(self) -> Option<(TypeId, bool)> {
        match self.of {
            Of::Object(id) => Some((id, true)),
            Of::Kind(Kind::Message(id)) => Some((*id, Some(*id) == SCHEMA.find(EMBEDDED))),
            Of::Kind(_) | Of::String | Of::Byte => None,
        }
    }
}

impl PatchSchema for PatchType {
    fn kind(&self) -> GoKind {
        if self.pointer {
            return GoKind::Pointer;
        }
        let kind = match self.of {
            Of::Object(_) => return GoKind::Struct,
            Of::String => return GoKind::String,
            Of::Byte => return GoKind::Uint8,
            Of::Kind(kind) => kind,
        };
        match kind {
            Kind::String | Kind::Named(_) => GoKind::String,
            Kind::Int32 => GoKind::Int32,
            Kind::Int64 => GoKind::Int64,
            Kind::Bool => GoKind::Bool,
            Kind::Float => GoKind::Float64,
            Kind::Bytes | Kind::ExtraValue | Kind::List(_) => GoKind::Slice,
            Kind::Map(_) => GoKind::Map,
            Kind::Time
            | Kind::MicroTime
            | Kind::Quantity
            | Kind::IntOrString
            | Kind::Raw
            | Kind::Fields
            | Kind::Message(_) => GoKind::Struct,
        }
    }

    fn struct_name(&self) -> &str {
        match self.of {
            Of::Object(id) => SCHEMA.go_name(id),
            Of::Kind(Kind::Message(id)) => SCHEMA.go_name(*id),
            Of::Kind(Kind::Time) => "Time",
            Of::Kind(Kind::MicroTime) => "MicroTime",
            Of::Kind(Kind::Quantity) => "Quantity",
            Of::Kind(Kind::IntOrString) => "IntOrString",
            Of::Kind(Kind::Raw) => "RawExtension",
            Of::Kind(Kind::Fields) => "FieldsV1",
            Of::Kind(_) | Of::String | Of::Byte => "",
        }
    }

    fn field(&self, name: &str) -> Option<PatchField<'_, Self>> {
        let (id, says_what_it_is) = self.message()?;
        let found =
            [&|field: &str| field == name, &|field: &str| names_field(field, name)] as [&dyn Fn(&str) -> bool; 2];
        found.into_iter().find_map(|is_meant| {
            if says_what_it_is && TYPE_META.iter().any(|field| is_meant(field)) {
                return Some(PatchField { schema: Self::plain(Of::String), strategies: "", merge_key: "" });
            }
            let field = find(id, is_meant)?;
            let schema = Self { pointer: field.pointer, of: Of::Kind(&field.kind) };
            Some(PatchField { schema, strategies: field.patch_strategy, merge_key: field.patch_merge_key })
        })
    }

    fn element(&self) -> Option<Self> {
        if self.pointer {
            return Some(Self::plain(self.of));
        }
        match self.of {
            Of::Kind(Kind::List(inner)) => Some(Self::plain(Of::Kind(inner))),
            Of::Kind(Kind::Bytes) => Some(Self::plain(Of::Byte)),
            Of::Kind(Kind::ExtraValue) => Some(Self::plain(Of::String)),
            Of::Object(_) | Of::Kind(_) | Of::String | Of::Byte => None,
        }
    }
}

/// The first field that is meant, also in inlined structs.
fn find(id: TypeId, is_meant: &dyn Fn(&str) -> bool) -> Option<&'static Field> {
    SCHEMA.fields(id).iter().find_map(|field| match (&field.kind, field.inline) {
        (Kind::Message(inner), true) => find(*inner, is_meant),
        _ => is_meant(field.name).then_some(field),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(kind: &str, path: &[&str]) -> PatchType {
        let mut at = PatchType::object(SCHEMA.find(kind).unwrap());
        for name in path {
            at = match *name {
                "*" => at.element().unwrap(),
                name => at.field(name).unwrap().schema,
            };
        }
        at
    }

    #[test]
    fn places_have_gos_kinds() {
        for (kind, path, want, name) in [
            ("core.Pod", &[][..], GoKind::Struct, "Pod"),
            ("core.Pod", &["kind"], GoKind::String, ""),
            ("core.Pod", &["metadata", "creationTimestamp"], GoKind::Struct, "Time"),
            ("core.Pod", &["metadata", "labels"], GoKind::Map, ""),
            ("core.Pod", &["spec", "containers"], GoKind::Slice, ""),
            ("core.Pod", &["spec", "containers", "*"], GoKind::Struct, "Container"),
            ("core.Pod", &["spec", "containers", "*", "env", "*", "valueFrom"], GoKind::Pointer, "EnvVarSource"),
            ("core.Pod", &["spec", "containers", "*", "env", "*", "valueFrom", "*"], GoKind::Struct, "EnvVarSource"),
            ("core.Pod", &["spec", "volumes", "*", "emptyDir"], GoKind::Pointer, "EmptyDirVolumeSource"),
            ("core.Secret", &["data"], GoKind::Map, ""),
            ("certificates.CertificateSigningRequest", &["spec", "request"], GoKind::Slice, ""),
            ("certificates.CertificateSigningRequest", &["spec", "request", "*"], GoKind::Uint8, ""),
            ("certificates.CertificateSigningRequest", &["spec", "extra"], GoKind::Map, ""),
            ("apps.Deployment", &["spec", "replicas"], GoKind::Pointer, ""),
            ("apps.Deployment", &["spec", "replicas", "*"], GoKind::Int32, ""),
            ("apps.StatefulSet", &["spec", "volumeClaimTemplates", "*", "apiVersion"], GoKind::String, ""),
            ("core.Service", &["spec", "ports", "*", "targetPort"], GoKind::Struct, "IntOrString"),
        ] {
            let place = at(kind, path);
            assert_eq!((place.kind(), place.struct_name()), (want, name), "{kind} {path:?}");
        }
        assert!(at("core.Pod", &["spec"]).field("kind").is_none());
    }

    #[test]
    fn fields_are_found_whatever_the_case_with_their_strategies() {
        let spec = at("core.Pod", &["spec"]);
        for name in ["containers", "CONTAINERS"] {
            let field = spec.field(name).unwrap();
            assert_eq!((field.strategies, field.merge_key), ("merge", "name"));
        }
        assert!(spec.field("container").is_none());
        assert!(at("core.Pod", &["metadata", "creationTimestamp"]).field("time").is_none());
    }
}
