//! A JSON text against the types of a configuration file, as kube-apiserver's strict decoder compares them.
//!
//! One pass: the first value of a wrong type ends it all, in `encoding/json`'s words; names that nobody knows and names that
//! occur twice are collected. What comes out is a plain JSON value with every `null` made what Go makes of it.
//!
//! Compat: `sigs.k8s.io/json` (`UnmarshalStrict`) as pinned by Kubernetes v1.37.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::go::json::{self, Kind};
use crate::go::quote;

/// Strict errors that upstream collects.
const MOST_STRICT_ERRORS: usize = 100;

/// A Go type.
#[derive(Clone, Copy)]
pub(super) enum Type {
    Bool,
    /// `string`, or a string type of the package with its own name.
    Text(Option<&'static str>),
    /// A pointer to a string.
    TextOrNull,
    Struct(&'static Struct),
    /// A pointer to a struct.
    StructOrNull(&'static Struct),
    List(&'static Self),
}

/// A struct: its name and its members in Go's order.
pub(super) struct Struct {
    pub(super) name: &'static str,
    pub(super) fields: &'static [(&'static str, Type)],
}

/// What became of a text.
pub(super) enum Shaped {
    /// It fits.
    Fits(Value),
    /// A value has a type that cannot be stored.
    WrongType(String),
    /// It could be stored, but strictness forbids it: one text for each reason.
    Strict(Vec<String>),
}

/// Compares `text`, which is checked JSON, with `root` of the Go package `package` (`v1`).
pub(super) fn shape(text: &[u8], root: &'static Struct, package: &str) -> Shaped {
    let mut walk = Walk {
        package,
        path: String::new(),
        fields: Vec::new(),
        wrong: None,
        strict: Vec::new(),
        seen: HashSet::new(),
    };
    // A value's first byte tells its kind.
    let value = walk.value(text.trim_ascii(), Type::Struct(root), None);
    match (walk.wrong, walk.strict) {
        (Some(wrong), _) => Shaped::WrongType(wrong),
        (None, strict) if strict.is_empty() => Shaped::Fits(value),
        (None, strict) => Shaped::Strict(strict),
    }
}

struct Walk<'a> {
    package: &'a str,
    /// The place in strict errors: `jwt[0].issuer`.
    path: String,
    /// The place in type errors, which leaves out indexes: `jwt.issuer`.
    fields: Vec<&'static str>,
    wrong: Option<String>,
    strict: Vec<String>,
    seen: HashSet<String>,
}

impl Walk<'_> {
    /// The value as `ty` stores it; `holder` is the struct around it.
    fn value(&mut self, text: &[u8], ty: Type, holder: Option<&'static Struct>) -> Value {
        let kind = json::kind(text);
        match (kind, ty) {
            (Kind::Null, _) => zero(ty),
            (Kind::Bool, Type::Bool) => Value::Bool(text == b"true"),
            (Kind::String, Type::Text(_) | Type::TextOrNull) => Value::String(json::string(text).into_owned()),
            (Kind::Array, Type::List(item)) => self.list(text, *item, holder),
            (Kind::Object, Type::Struct(shape) | Type::StructOrNull(shape)) => self.object(text, shape),
            _ => {
                self.wrong_type(kind, ty, holder);
                zero(ty)
            }
        }
    }

    fn list(&mut self, text: &[u8], item: Type, holder: Option<&'static Struct>) -> Value {
        let outer = self.path.len();
        let mut values = Vec::new();
        for (at, element) in json::elements(text).into_iter().enumerate() {
            self.path.push_str(&format!("[{at}]"));
            values.push(self.value(element, item, holder));
            self.path.truncate(outer);
        }
        Value::Array(values)
    }

    fn object(&mut self, text: &[u8], shape: &'static Struct) -> Value {
        let outer = self.path.len();
        let mut stored = Map::new();
        for member in json::members(text) {
            let Some((name, ty)) = shape.fields.iter().find(|(name, _)| member.name == *name) else {
                self.report("unknown", &member.name);
                continue;
            };
            if stored.contains_key(*name) {
                self.report("duplicate", name);
            }
            if outer > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            self.fields.push(name);
            let value = self.value(member.value, *ty, Some(shape));
            self.fields.pop();
            self.path.truncate(outer);
            stored.insert((*name).to_owned(), value);
        }
        Value::Object(stored)
    }

    fn report(&mut self, what: &str, name: &str) {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        let text = format!("{what} field {}", quote(&path));
        if self.strict.len() < MOST_STRICT_ERRORS && self.seen.insert(text.clone()) {
            self.strict.push(text);
        }
    }

    fn wrong_type(&mut self, kind: Kind, ty: Type, holder: Option<&'static Struct>) {
        if self.wrong.is_some() {
            return;
        }
        let wanted = self.go_type(ty);
        self.wrong = Some(match holder {
            Some(holder) => format!(
                "json: cannot unmarshal {} into Go struct field {}.{} of type {wanted}",
                kind.name(),
                holder.name,
                self.fields.join(".")
            ),
            None => format!("json: cannot unmarshal {} into Go value of type {wanted}", kind.name()),
        });
    }

    fn go_type(&self, ty: Type) -> String {
        match ty {
            Type::Bool => "bool".to_owned(),
            Type::Text(None) | Type::TextOrNull => "string".to_owned(),
            Type::Text(Some(name)) => format!("{}.{name}", self.package),
            Type::Struct(shape) | Type::StructOrNull(shape) => format!("{}.{}", self.package, shape.name),
            Type::List(item) => format!("[]{}", self.go_type(*item)),
        }
    }
}

/// What `null`, and no value, store.
fn zero(ty: Type) -> Value {
    match ty {
        Type::Bool => Value::Bool(false),
        Type::Text(_) => json!(""),
        Type::TextOrNull | Type::StructOrNull(_) => Value::Null,
        Type::Struct(_) => json!({}),
        Type::List(_) => json!([]),
    }
}
