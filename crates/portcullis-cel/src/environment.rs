//! What expressions may name: variables and the types of objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::check::check;
use crate::parse::parse;
use crate::plan::plan;
use crate::program::Program;
use crate::source::Issues;
use crate::types::Type;

/// The variables and types that expressions see, besides the functions, macros and types of Kubernetes 1.37.
///
/// A map whose values are [`Type::Any`] is how Kubernetes declares `claims`: what is selected from it can be compared,
/// indexed and passed on, but is not the range of a macro until it is written as `dyn(…)`.
///
/// ```
/// use portcullis_cel::{Environment, Type};
///
/// let environment = Environment::new().variable("claims", Type::map(Type::String, Type::Any));
/// let program = environment.compile("claims.email.endsWith('@example.com')").unwrap();
/// assert_eq!(*program.output_type(), Type::Bool);
///
/// let issues = environment.compile("claims.groups.map(g, g)").unwrap_err();
/// assert!(issues.to_string().starts_with("ERROR: <input>:1:7: expression of type 'any' cannot be range"));
/// assert!(issues.hints()[0].contains("dyn(claims.groups)"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(Arc<str>, Type)>,
    objects: Vec<ObjectType>,
}

/// A type with a name and fields.
#[derive(Debug, Clone)]
pub struct ObjectType {
    /// Its name, such as `kubernetes.UserInfo`.
    pub name: Arc<str>,
    /// Its fields and their types.
    pub fields: Vec<(Arc<str>, Type)>,
}

/// The types that have a name of their own in expressions.
fn basic_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "google.protobuf.Duration" | "duration" => Type::Duration,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "string" => Type::String,
        "google.protobuf.Timestamp" | "timestamp" => Type::Timestamp,
        "type" => Type::Type(None),
        "uint" => Type::Uint,
        "optional_type" => Type::optional(Type::Dyn),
        "net.IP" | "net.CIDR" => Type::Opaque(name.into(), Arc::new([])),
        _ => return None,
    })
}

/// Whether `name` is a message of Protocol Buffers that upstream knows. Literals and names of those are refused here, but
/// for the names of durations and timestamps.
pub(crate) fn is_message(name: &str) -> bool {
    MESSAGES.iter().any(|known| name.strip_prefix("google.protobuf.") == Some(known))
        || matches!(name, "list" | "null_type" | "duration" | "timestamp")
}

/// The well-known messages that upstream registers.
const MESSAGES: [&str; 17] = [
    "Any",
    "BoolValue",
    "BytesValue",
    "DoubleValue",
    "Duration",
    "Empty",
    "FloatValue",
    "Int32Value",
    "Int64Value",
    "ListValue",
    "NullValue",
    "StringValue",
    "Struct",
    "Timestamp",
    "UInt32Value",
    "UInt64Value",
    "Value",
];

/// Types that upstream finds by a name that its programs then do not know.
pub(crate) fn is_undefined_type(name: &str) -> bool {
    name.starts_with("kubernetes.") || matches!(name, "duration" | "timestamp")
}

/// What a field of an object is.
pub(crate) enum Field<'a> {
    Of(&'a Type),
    /// The object has no such field.
    None,
    /// There is no such object.
    OfNothing,
}

impl Environment {
    /// Without variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, type_: Type) -> Self {
        self.variables.push((name.into(), type_));
        self
    }

    /// Declares a type with fields, for [`Type::Object`] of its name.
    #[must_use]
    pub fn object(mut self, object: ObjectType) -> Self {
        self.objects.push(object);
        self
    }

    /// Parses and checks `source` and prepares it.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place; after the first syntax error nothing more is looked for.
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        let checked = check(parse(source)?, self)?;
        let root = plan(&checked)?;
        let mut selections = BTreeSet::new();
        checked.ast.root.selections(&mut |variable, field| {
            selections.insert((variable.into(), field.into()));
        });
        Ok(Program::new(source, checked.type_of(checked.ast.root.id).clone(), root, selections))
    }

    pub(crate) fn variable_type(&self, name: &str) -> Option<&Type> {
        self.variables.iter().find(|(known, _)| &**known == name).map(|(_, type_)| type_)
    }

    pub(crate) fn variable_names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _)| &**name)
    }

    /// The type that `name` stands for in an expression.
    pub(crate) fn named_type(&self, name: &str) -> Option<Type> {
        basic_type(name).or_else(|| self.object_type(name).map(|object| Type::Object(Arc::clone(&object.name))))
    }

    /// The type that a literal `name{…}` makes.
    pub(crate) fn struct_type(&self, name: &str) -> Option<Type> {
        self.object_type(name).map(|object| Type::Object(Arc::clone(&object.name))).or_else(|| basic_type(name))
    }

    fn object_type(&self, name: &str) -> Option<&ObjectType> {
        self.objects.iter().find(|object| &*object.name == name)
    }

    pub(crate) fn field_type(&self, object: &str, field: &str) -> Field<'_> {
        match object {
            // Upstream takes these for objects without fields, and a map for one that has them all.
            "bool" | "bytes" | "double" | "int" | "string" | "uint" => return Field::None,
            "map" => return Field::Of(&Type::Any),
            _ => {}
        }
        let Some(object) = self.object_type(object) else { return Field::OfNothing };
        object.fields.iter().find(|(known, _)| &**known == field).map_or(Field::None, |(_, type_)| Field::Of(type_))
    }

    pub(crate) fn field_names(&self, object: &str) -> Vec<&str> {
        self.object_type(object)
            .map(|object| object.fields.iter().map(|(name, _)| &**name).collect())
            .unwrap_or_default()
    }
}
