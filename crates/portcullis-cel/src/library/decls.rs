//! All functions: their names, overloads and types, and what they do.
//!
//! Compat: the order is that in which upstream's environment adds libraries (`k8s.io/apiserver/pkg/cel/environment/base.go`
//! 0.37.2): cel-go's standard library, then Kubernetes' and cel-go's extensions. It decides which overload is taken for values
//! whose types are only known when they come.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::signature;
use super::table::{OVERLOADS, SINGLETONS};
use crate::ops::Evaluated;
use crate::types::Type;
use crate::value::{Trait, Value};

/// What a function does with its arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    Unary(fn(&Value) -> Evaluated),
    Binary(fn(&Value, &Value) -> Evaluated),
    Nary(fn(&[Value]) -> Evaluated),
    /// Declared, and handled elsewhere or never called.
    None,
}

impl Op {
    /// Calls the function if it takes as many arguments.
    pub(crate) fn call(self, args: &[Value]) -> Option<Evaluated> {
        match (self, args) {
            (Self::Unary(function), [a]) => Some(function(a)),
            (Self::Binary(function), [a, b]) => Some(function(a, b)),
            (Self::Nary(function), _) => Some(function(args)),
            _ => None,
        }
    }
}

/// A function's name and all of its overloads.
pub(crate) struct FunctionDecl {
    pub(crate) name: &'static str,
    pub(crate) overloads: Vec<OverloadDecl>,
    /// One implementation for all overloads, for values that have a trait.
    pub(crate) singleton: Option<(Op, Option<Trait>)>,
    /// Whether the types of values are looked at before an overload is called.
    pub(crate) guarded: bool,
}

/// One way to call a function.
pub(crate) struct OverloadDecl {
    pub(crate) id: &'static str,
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    pub(crate) params: Vec<std::sync::Arc<str>>,
    pub(crate) op: Op,
}

impl OverloadDecl {
    /// Whether values are of the types that the overload takes, as far as upstream looks: only at the first of many.
    pub(crate) fn matches(&self, guarded: bool, values: &[Value]) -> bool {
        values.len() == self.args.len()
            && (!guarded || self.args.iter().zip(values).all(|(wanted, value)| assignable(wanted, value)))
    }
}

fn assignable(wanted: &Type, value: &Value) -> bool {
    if matches!(wanted, Type::Dyn | Type::Any | Type::Param(_)) {
        return true;
    }
    if wanted.runtime_name() != value.static_type_name() {
        return false;
    }
    match (wanted, value) {
        (Type::List(element), Value::List(list)) => list.get(0).is_none_or(|first| assignable(element, &first)),
        (Type::Map(key_type, value_type), _) => value.as_map().is_none_or(|map| {
            map.iter().next().is_none_or(|(key, value)| assignable(key_type, &key) && assignable(value_type, &value))
        }),
        _ => true,
    }
}

/// A row of the table: function, overload, whether it is called on its first argument, signature, what it does.
pub(super) struct Row(
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) bool,
    pub(super) &'static str,
    pub(super) Op,
);

struct Functions {
    declared: HashMap<&'static str, FunctionDecl>,
    names: Vec<&'static str>,
}

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| {
    let mut declared: HashMap<&'static str, FunctionDecl> = HashMap::new();
    let mut names = Vec::new();
    for Row(name, id, member, text, op) in OVERLOADS {
        // A test reads every signature.
        let Some((args, result)) = signature::parse(text) else { continue };
        let all: Vec<&Type> = args.iter().chain([&result]).collect();
        let params = signature::params(&all);
        let function = declared.entry(name).or_insert_with(|| {
            names.push(*name);
            FunctionDecl {
                name,
                overloads: Vec::new(),
                singleton: SINGLETONS.iter().find(|(known, _, _)| known == name).map(|(_, op, what)| (*op, *what)),
                guarded: !matches!(*name, "contains" | "endsWith" | "startsWith" | "flatten"),
            }
        });
        function.overloads.push(OverloadDecl { id, member: *member, args, result, params, op: *op });
    }
    Functions { declared, names }
});

/// The function `name`.
pub(crate) fn function(name: &str) -> Option<&'static FunctionDecl> {
    FUNCTIONS.declared.get(name)
}

/// The names of all functions.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.names.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every declaration of kube-apiserver's environment, which `tests/cel/functions.rs` compares with the environment itself.
    const UPSTREAMS: &str = include_str!("../../tests/golden/functions.txt");

    #[test]
    fn every_function_is_declared_as_upstreams() {
        let mut sorted: Vec<&FunctionDecl> = names().filter_map(function).collect();
        sorted.sort_by_key(|function| function.name);
        let mut ours = String::new();
        for function in sorted {
            for overload in &function.overloads {
                let style = if overload.member { "member" } else { "function" };
                let args: Vec<String> = overload.args.iter().map(ToString::to_string).collect();
                let (name, id, args, result) = (function.name, overload.id, args.join(", "), &overload.result);
                ours.push_str(&format!("{name} {id} {style} ({args}) -> {result}\n"));
            }
        }
        let differ: Vec<String> = ours
            .lines()
            .zip(UPSTREAMS.lines())
            .filter(|(ours, theirs)| ours != theirs)
            .map(|(ours, theirs)| format!("ours   {ours}\ntheirs {theirs}"))
            .collect();
        assert!(differ.is_empty(), "{}", differ.join("\n"));
        assert_eq!(ours.lines().count(), UPSTREAMS.lines().count(), "one side has more");
        assert!(UPSTREAMS.lines().count() > 300, "only a part is recorded");
    }

    #[test]
    fn every_signature_is_read_and_every_overload_has_its_own_name() {
        let mut seen = std::collections::BTreeSet::new();
        for Row(name, id, _, text, op) in OVERLOADS {
            let (args, _) = signature::parse(text).unwrap_or_else(|| panic!("{name}: {text}"));
            match op {
                Op::Unary(_) => assert_eq!(args.len(), 1, "{id}"),
                Op::Binary(_) => assert_eq!(args.len(), 2, "{id}"),
                Op::Nary(_) | Op::None => {}
            }
            assert!(seen.insert((name, id)), "{id}");
        }
        for (name, _, _) in SINGLETONS {
            assert!(function(name).is_some(), "{name}");
        }
    }
}
