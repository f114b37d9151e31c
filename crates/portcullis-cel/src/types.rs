//! Types of expressions.

use std::fmt;
use std::sync::Arc;

/// The static type of an expression or a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Checked when it is evaluated.
    Dyn,
    /// Like [`Type::Dyn`], but not the range of a macro: what `claims` has, see [`Environment`](crate::Environment).
    Any,
    /// Of an expression in which an error was reported.
    Error,
    /// Of `null`.
    Null,
    /// `bool`.
    Bool,
    /// `int`: 64 bits, signed.
    Int,
    /// `uint`: 64 bits.
    Uint,
    /// `double`.
    Double,
    /// `string`: Unicode code points.
    String,
    /// `bytes`.
    Bytes,
    /// `google.protobuf.Duration`.
    Duration,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// A list and the type of its elements.
    List(Arc<Self>),
    /// A map and the types of its keys and values.
    Map(Arc<Self>, Arc<Self>),
    /// The type of a type.
    Type(Option<Arc<Self>>),
    /// A type with a name and parameters, such as `optional_type`.
    Opaque(Arc<str>, Arc<[Self]>),
    /// A type with a name and fields.
    Object(Arc<str>),
    /// Stands for any one type within a declaration.
    Param(Arc<str>),
}

/// The name of the type of optional values.
pub(crate) const OPTIONAL: &str = "optional_type";

impl Type {
    /// A list of `element`.
    pub fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    /// A map from `key` to `value`.
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    /// A type whose fields an [`Environment`](crate::Environment) declares under `name`.
    pub fn object(name: &str) -> Self {
        Self::Object(name.into())
    }

    pub(crate) fn optional(value: Self) -> Self {
        Self::Opaque(OPTIONAL.into(), Arc::new([value]))
    }

    pub(crate) fn type_of(self) -> Self {
        Self::Type(Some(Arc::new(self)))
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        self.is_dyn() || *self == Self::Error
    }

    /// What an optional type holds.
    pub(crate) fn unwrap_optional(&self) -> Option<&Self> {
        match self {
            Self::Opaque(name, params) if &**name == OPTIONAL => params.first(),
            _ => None,
        }
    }

    /// The name that `type(x)` has for values of this type.
    pub(crate) fn runtime_name(&self) -> &str {
        match self {
            Self::Dyn => "dyn",
            Self::Any => "google.protobuf.Any",
            Self::Error => "error",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(..) => "map",
            Self::Type(_) => "type",
            Self::Opaque(name, _) | Self::Object(name) | Self::Param(name) => name,
        }
    }

    pub(crate) fn params(&self) -> Vec<&Self> {
        match self {
            Self::List(element) => vec![element],
            Self::Map(key, value) => vec![key, value],
            Self::Type(Some(inner)) => vec![inner],
            Self::Opaque(_, params) => params.iter().collect(),
            _ => Vec::new(),
        }
    }

    fn write_params(
        &self,
        f: &mut fmt::Formatter<'_>,
        write: fn(&Self, &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let params = self.params();
        if params.is_empty() {
            return Ok(());
        }
        f.write_str("(")?;
        for (index, param) in params.into_iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write(param, f)?;
        }
        f.write_str(")")
    }

    /// As error messages name the type: `duration` and `any`, not the names of messages.
    pub(crate) fn describe(&self) -> impl fmt::Display + '_ {
        Described(self)
    }
}

/// As `type(x)` names the type, with its parameters.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Param(name) = self {
            return write!(f, "<{name}>");
        }
        f.write_str(self.runtime_name())?;
        self.write_params(f, |param, f| param.fmt(f))
    }
}

struct Described<'a>(&'a Type);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Type::Any => "any",
            Type::Duration => "duration",
            Type::Error => "!error!",
            Type::Null => "null",
            Type::Timestamp => "timestamp",
            other => other.runtime_name(),
        };
        f.write_str(name)?;
        self.0.write_params(f, |param, f| Described(param).fmt(f))
    }
}
