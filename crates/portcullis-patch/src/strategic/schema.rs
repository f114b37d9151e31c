//! What a strategic merge patch has to know of the types it meets: the caller answers, from whatever table it has.
//!
//! Compat: upstream asks Go's reflection; kinds of types show up in its messages.

use super::error::StrategicError;
use crate::go;

/// A place in the type of an object: the type itself, a field's type, an element's type.
///
/// The type has to be the Go type, not what the JSON looks like: a pointer is [`GoKind::Pointer`], a named string is
/// [`GoKind::String`], `metav1.Time` is a struct without fields.
pub trait PatchSchema: Sized {
    /// The kind of the type.
    fn kind(&self) -> GoKind;

    /// The name of a struct without its package, such as `PodSpec`; empty for other kinds.
    fn struct_name(&self) -> &str;

    /// The field of a struct that JSON calls `name`. Members of embedded structs are fields too.
    ///
    /// Compat: a field of exactly that name goes first, then the first in order for which [`names_field`] holds.
    fn field(&self, name: &str) -> Option<PatchField<'_, Self>>;

    /// What a pointer points to, or the type of a list's elements; nothing for other kinds.
    fn element(&self) -> Option<Self>;
}

/// A field, and how patches of it are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchField<'s, S> {
    /// The field's type.
    pub schema: S,
    /// Go's `patchStrategy` tag: strategies separated by commas, empty when there is none.
    pub strategies: &'s str,
    /// Go's `patchMergeKey` tag: the member that tells elements apart, empty when there is none.
    pub merge_key: &'s str,
}

/// The kind of a Go type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoKind {
    /// A struct.
    Struct,
    /// A map with string keys.
    Map,
    /// A slice, also a slice of bytes.
    Slice,
    /// A pointer.
    Pointer,
    /// A string or a type made of one.
    String,
    /// A bool.
    Bool,
    /// An int32.
    Int32,
    /// An int64.
    Int64,
    /// A float64.
    Float64,
    /// A byte.
    Uint8,
    /// An interface.
    Interface,
}

impl GoKind {
    /// The kind as Go's reflection spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Struct => "struct",
            Self::Map => "map",
            Self::Slice => "slice",
            Self::Pointer => "ptr",
            Self::String => "string",
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Uint8 => "uint8",
            Self::Interface => "interface",
        }
    }
}

/// Whether the field that JSON calls `field` is meant by `name`, case aside.
///
/// Compat: Go folds ASCII letters, and takes the long s for an s and the Kelvin sign for a k.
#[must_use]
pub fn names_field(field: &str, name: &str) -> bool {
    let mut theirs = name.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c,
    });
    field.chars().all(|c| theirs.next().is_some_and(|theirs| c.eq_ignore_ascii_case(&theirs)))
        && theirs.next().is_none()
}

/// A field as merging needs it.
pub(super) struct Found<'s, S> {
    pub(super) schema: S,
    pub(super) strategy: &'s str,
    pub(super) merge_key: &'s str,
}

/// The field `name` of a struct or of what a pointer points to.
pub(super) fn member<'s, S: PatchSchema>(
    pointee: &'s mut Option<S>,
    of: &'s S,
    name: &str,
) -> Result<Found<'s, S>, StrategicError> {
    let of = if of.kind() == GoKind::Pointer {
        *pointee = of.element();
        let pointee: &'s Option<S> = pointee;
        pointee.as_ref().unwrap_or(of)
    } else {
        of
    };
    if of.kind() != GoKind::Struct {
        let kind = of.kind().as_str();
        let text = format!("merging an object in json but data type is not struct, instead is: {kind}");
        return Err(StrategicError::Merge(text));
    }
    let Some(field) = of.field(name) else {
        let (of, name) = (of.struct_name(), go::quote(name));
        return Err(StrategicError::Merge(format!(
            "unable to find api field in struct {of} for the json field {name}"
        )));
    };
    Ok(Found { schema: field.schema, strategy: strategy(field.strategies)?, merge_key: field.merge_key })
}

/// The field `name`, which is a list: its elements' type and how they are merged.
pub(super) fn list<'s, S: PatchSchema>(
    pointee: &'s mut Option<S>,
    of: &'s S,
    name: &str,
) -> Result<Found<'s, S>, StrategicError> {
    let field = member(pointee, of, name)?;
    let unexpected = || {
        // Compat: the kind that is named is that of the struct around the field.
        let kind = of.kind().as_str();
        StrategicError::Merge(format!("expected slice or array type, but got: {kind}"))
    };
    let element = match field.schema.kind() {
        GoKind::Slice => {
            let element = field.schema.element().ok_or_else(unexpected)?;
            if element.kind() == GoKind::Slice {
                return Err(StrategicError::Merge("unexpected slice of slice".to_owned()));
            }
            element
        }
        GoKind::Pointer => {
            let pointee = field.schema.element().ok_or_else(unexpected)?;
            if pointee.kind() == GoKind::Slice { pointee.element().ok_or_else(unexpected)? } else { pointee }
        }
        _ => return Err(unexpected()),
    };
    Ok(Found { schema: element, strategy: field.strategy, merge_key: field.merge_key })
}

/// The strategy beside `retainKeys`, which acts only through its directive.
fn strategy(strategies: &str) -> Result<&str, StrategicError> {
    const RETAIN_KEYS: &str = "retainKeys";
    match strategies.split_once(',') {
        None if strategies == RETAIN_KEYS => Ok(""),
        None => Ok(strategies),
        Some((RETAIN_KEYS, other) | (other, RETAIN_KEYS)) if !other.contains(',') => Ok(other),
        Some(_) => {
            let all = strategies.replace(',', " ");
            Err(StrategicError::Merge(format!("unexpected patch strategy: [{all}]")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_whatever_the_case() {
        for (field, name) in
            [("containers", "Containers"), ("hostIPs", "HOSTIPS"), ("kind", "\u{212a}ind"), ("tasks", "ta\u{17f}ks")]
        {
            assert!(names_field(field, name), "{name}");
        }
        for (field, name) in [("containers", "container"), ("container", "containers"), ("name", "na me"), ("", "a")] {
            assert!(!names_field(field, name), "{name}");
        }
    }

    #[test]
    fn of_several_strategies_the_one_beside_retain_keys_counts() {
        for (strategies, want) in [
            ("", ""),
            ("merge", "merge"),
            ("retainKeys", ""),
            ("merge,retainKeys", "merge"),
            ("retainKeys,replace", "replace"),
            ("retainKeys,retainKeys", "retainKeys"),
        ] {
            assert_eq!(strategy(strategies), Ok(want), "{strategies}");
        }
        for (strategies, listed) in
            [("merge,replace", "[merge replace]"), ("retainKeys,merge,replace", "[retainKeys merge replace]")]
        {
            let want = StrategicError::Merge(format!("unexpected patch strategy: {listed}"));
            assert_eq!(strategy(strategies), Err(want));
        }
    }
}
