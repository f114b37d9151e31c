//! Values of expressions.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::error::EvalError;
use crate::library::formats::NamedFormat;
use crate::library::net::Cidr;
use crate::library::quantity::Quantity;
use crate::library::semver::Semver;
use crate::library::time::Timestamp;
use crate::library::url::Url;
pub(crate) use crate::list::List;
pub(crate) use crate::map::Map;

/// Bytes of text that are one unit of [`Value::weight`].
pub(crate) const BYTES_PER_WEIGHT: usize = 64;

/// A value. Cheap to clone: text, lists and maps are shared.
#[derive(Clone)]
#[non_exhaustive]
pub enum Value {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating point number, as all numbers in JSON are.
    Double(f64),
    /// Text.
    String(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A span of time in nanoseconds.
    Duration(i64),
    /// A point in time.
    Timestamp(Timestamp),
    /// A list.
    List(List),
    /// A map.
    Map(Map),
    /// The type of a value, by name.
    Type(Arc<str>),
    /// A value that may be absent.
    Optional(Option<Arc<Self>>),
    /// Something with fields that are asked for one by one.
    Object(Arc<dyn Object>),
    /// A URL.
    Url(Arc<Url>),
    /// An IP address.
    Ip(IpAddr),
    /// A network.
    Cidr(Cidr),
    /// A quantity.
    Quantity(Arc<Quantity>),
    /// A semantic version.
    Semver(Arc<Semver>),
    /// A format with a name.
    Format(&'static NamedFormat),
    /// What a macro gathers a map in, see [`MutableMap`].
    #[doc(hidden)]
    Gathering(MutableMap),
}

/// A map that a macro adds to. It turns into a [`Map`] when the macro ends.
#[derive(Clone, Default)]
pub struct MutableMap(pub(crate) Arc<Mutex<Map>>);

impl MutableMap {
    pub(crate) fn snapshot(&self) -> Map {
        self.0.lock().map(|map| map.clone()).unwrap_or_default()
    }
}

/// Something whose fields are looked up when an expression asks for them, such as the claims of a token.
pub trait Object: fmt::Debug + Send + Sync {
    /// The name of its type.
    fn type_name(&self) -> &str;

    /// The field `name`, or nothing if there is none. Names come without the escapes that expressions write them with.
    ///
    /// # Errors
    /// What the expression fails with, if the field exists and cannot be read.
    fn field(&self, name: &str) -> Option<Result<Value, EvalError>>;

    /// The names of all fields.
    fn names(&self) -> Vec<Arc<str>>;
}

/// An [`Object`] whose fields are all there.
#[derive(Debug)]
pub struct Fields {
    type_name: Arc<str>,
    fields: Vec<(Arc<str>, Value)>,
}

impl Fields {
    /// An object of the type `type_name` with `fields`.
    pub fn new(type_name: &str, fields: impl IntoIterator<Item = (Arc<str>, Value)>) -> Self {
        Self { type_name: type_name.into(), fields: fields.into_iter().collect() }
    }
}

impl Object for Fields {
    fn type_name(&self) -> &str {
        &self.type_name
    }

    fn field(&self, name: &str) -> Option<Result<Value, EvalError>> {
        self.fields.iter().find(|(known, _)| &**known == name).map(|(_, value)| Ok(value.clone()))
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.fields.iter().map(|(name, _)| Arc::clone(name)).collect()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

/// What a kind of value can do, as upstream asks it before it calls an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trait {
    Adder,
    Comparer,
    Divider,
    Modder,
    Multiplier,
    Negator,
    Subtractor,
    Sizer,
    Matcher,
    List,
    Iterable,
    Receiver,
}

impl Value {
    /// A list of `values`.
    pub fn list(values: Vec<Self>) -> Self {
        Self::List(List::new(values))
    }

    pub(crate) fn some(value: Self) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// A value of JSON: numbers are doubles, and names with escapes (`a__dot__b`) find their fields in maps and in what
    /// those hold.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Self::from(text.as_str()),
            serde_json::Value::Array(items) => Self::List(List::from_json(items.iter().map(Self::from_json).collect())),
            serde_json::Value::Object(members) => Self::Map(Map::from_json(
                members.iter().map(|(name, value)| (name.as_str().into(), Self::from_json(value))),
            )),
        }
    }

    /// The name of the value's type, as `type(x)` has it.
    pub fn type_name(&self) -> Arc<str> {
        match self {
            Self::Object(object) => object.type_name().into(),
            other => other.static_type_name().into(),
        }
    }

    pub(crate) fn static_type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) | Self::Gathering(_) => "map",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Object(object) => object.type_name(),
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
        }
    }

    /// Upstream's name of the type that holds the value, which some of its messages show.
    pub(crate) fn go_type(&self) -> &'static str {
        match self {
            Self::Null => "types.Null",
            Self::Bool(_) => "types.Bool",
            Self::Int(_) => "types.Int",
            Self::Uint(_) => "types.Uint",
            Self::Double(_) => "types.Double",
            Self::String(_) => "types.String",
            Self::Bytes(_) => "types.Bytes",
            Self::Duration(_) => "types.Duration",
            Self::Timestamp(_) => "types.Timestamp",
            Self::List(list) => list.go_type(),
            Self::Map(map) if map.unescapes() => "*oidc.unescapeMapper",
            Self::Map(_) => "*types.baseMap",
            Self::Gathering(_) => "*types.mutableMap",
            Self::Type(_) => "*types.Type",
            Self::Optional(_) => "*types.Optional",
            Self::Object(_) => "*lazy.MapValue",
            Self::Url(_) => "cel.URL",
            Self::Ip(_) => "cel.IP",
            Self::Cidr(_) => "cel.CIDR",
            Self::Quantity(quantity) if quantity.is_computed() => "*cel.Quantity",
            Self::Quantity(_) => "cel.Quantity",
            Self::Semver(_) => "cel.Semver",
            Self::Format(_) => "cel.Format",
        }
    }

    pub(crate) fn has(&self, what: Trait) -> bool {
        use Trait::{
            Adder, Comparer, Divider, Iterable, List, Matcher, Modder, Multiplier, Negator, Receiver, Sizer, Subtractor,
        };
        match self {
            Self::Bool(_) => matches!(what, Comparer | Negator),
            Self::Int(_) => {
                matches!(what, Adder | Comparer | Divider | Modder | Multiplier | Negator | Subtractor)
            }
            Self::Uint(_) => matches!(what, Adder | Comparer | Divider | Modder | Multiplier | Subtractor),
            Self::Double(_) => matches!(what, Adder | Comparer | Divider | Multiplier | Negator | Subtractor),
            Self::String(_) => matches!(what, Adder | Comparer | Matcher | Receiver | Sizer),
            Self::Bytes(_) => matches!(what, Adder | Comparer | Sizer),
            Self::Duration(_) => matches!(what, Adder | Comparer | Negator | Receiver | Subtractor),
            Self::Timestamp(_) => matches!(what, Adder | Comparer | Receiver | Subtractor),
            Self::List(_) => matches!(what, Adder | List | Iterable | Sizer),
            Self::Map(_) | Self::Gathering(_) => matches!(what, Iterable | Sizer),
            Self::Object(_) => matches!(what, Iterable),
            Self::Null
            | Self::Type(_)
            | Self::Optional(_)
            | Self::Url(_)
            | Self::Ip(_)
            | Self::Cidr(_)
            | Self::Quantity(_)
            | Self::Semver(_)
            | Self::Format(_) => false,
        }
    }

    /// The map behind the value, if it is one.
    pub(crate) fn as_map(&self) -> Option<Map> {
        match self {
            Self::Map(map) => Some(map.clone()),
            Self::Gathering(map) => Some(map.snapshot()),
            _ => None,
        }
    }

    /// How many code points, bytes, elements or fields the value has.
    pub(crate) fn size(&self) -> Option<usize> {
        match self {
            Self::String(text) => Some(text.chars().count()),
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::List(list) => Some(list.len()),
            Self::Map(map) => Some(map.len()),
            Self::Gathering(map) => Some(map.snapshot().len()),
            Self::Object(object) => Some(object.names().len()),
            Self::Ip(IpAddr::V4(_)) => Some(4),
            Self::Ip(IpAddr::V6(_)) => Some(16),
            Self::Cidr(cidr) => Some(usize::from(cidr.bits().div_ceil(8))),
            _ => None,
        }
    }

    /// How much there is to look at in a walk through all of the value: one for each value in it, and one for each 64 bytes of
    /// text. What is shared counts as often as it is reached, so a value that takes little memory can be heavier than any walk.
    pub(crate) fn weight(&self) -> u64 {
        let text = |length: usize| 1 + u64::try_from(length / BYTES_PER_WEIGHT).unwrap_or(u64::MAX - 1);
        match self {
            Self::String(value) => text(value.len()),
            Self::Bytes(value) => text(value.len()),
            Self::List(list) => list.weight().saturating_add(1),
            Self::Map(map) => map.weight().saturating_add(1),
            Self::Optional(Some(value)) => value.weight().saturating_add(1),
            // Its fields are not read before an expression asks for them.
            Self::Object(object) => text(object.names().len() * BYTES_PER_WEIGHT),
            _ => 1,
        }
    }

    /// Whether `optional.ofNonZeroValue` takes the value for absent.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Int(value) | Self::Duration(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Double(value) => *value == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Timestamp(time) => time.is_zero(),
            // Upstream's wrappers of JSON hide that they can be empty.
            Self::List(list) => list.is_empty() && !list.is_wrapped(),
            Self::Map(map) => map.is_empty() && !map.unescapes(),
            _ => false,
        }
    }

    /// The value without what only macros use.
    pub(crate) fn settled(self) -> Self {
        match self {
            Self::Gathering(map) => Self::Map(map.snapshot()),
            Self::List(list) => Self::List(list.settled()),
            other => other,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::show::go_value(self))
    }
}
