//! Types of an expression, and what is wrong with them.
//!
//! Compat: cel-go `checker/checker.go` 0.29.2 with comparison across number types, as
//! `k8s.io/apiserver/pkg/cel/environment/base.go` 0.37.2 sets it up, and that file's validators ([`validate`]).

mod hints;
mod unify;
pub(crate) mod validate;

use std::collections::HashMap;
use std::sync::Arc;

use self::unify::Bindings;
use crate::ast::{Ast, Call, Comprehension, Expr, ExprKind, Id, ListElement, MapEntry, StructField};
use crate::environment::{Environment, Field};
use crate::library::decls::{FunctionDecl, function};
use crate::limits::TYPES;
use crate::source::Issues;
use crate::types::Type;
use crate::value::Value;

/// What an identifier or a call turned out to be.
#[derive(Debug, Clone)]
pub(crate) enum Reference {
    Variable(Arc<str>),
    /// A type's name.
    Type(Arc<str>),
    Overloads(Vec<&'static str>),
    /// A type that a literal makes.
    Struct,
}

/// An expression with the types of its nodes.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) ast: Ast,
    pub(crate) types: HashMap<Id, Type>,
    pub(crate) references: HashMap<Id, Reference>,
}

impl Checked {
    pub(crate) fn type_of(&self, id: Id) -> &Type {
        self.types.get(&id).unwrap_or(&Type::Error)
    }
}

pub(crate) fn check(mut ast: Ast, environment: &Environment) -> Result<Checked, Issues> {
    let mut root = std::mem::replace(&mut ast.root, Expr { id: 0, kind: ExprKind::Unspecified });
    let mut checker = Checker {
        issues: Issues::new(Arc::clone(&ast.source)),
        ast: &ast,
        environment,
        bindings: Bindings::default(),
        scopes: Vec::new(),
        free: 0,
        size: 0,
        types: HashMap::new(),
        references: HashMap::new(),
    };
    checker.check(&mut root);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let types = checker.types.iter().map(|(id, t)| (*id, checker.bindings.substitute(t, true))).collect();
    let references = checker.references;
    ast.root = root;
    let checked = Checked { ast, types, references };
    let issues = validate::validate(&checked);
    if issues.is_empty() { Ok(checked) } else { Err(issues) }
}

struct Checker<'a> {
    ast: &'a Ast,
    environment: &'a Environment,
    issues: Issues,
    bindings: Bindings,
    scopes: Vec<HashMap<Arc<str>, Type>>,
    free: usize,
    /// How many types make up those of all nodes.
    size: usize,
    types: HashMap<Id, Type>,
    references: HashMap<Id, Reference>,
}

/// A name that stands for something, with whether it must be looked for outside of macros.
struct Resolved {
    type_: Type,
    reference: Reference,
    name: Arc<str>,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.issues.report(self.ast.location(id), message);
    }

    fn report_with(&mut self, id: Id, message: String, hint: Option<String>) {
        self.issues.report_with(self.ast.location(id), message, hint);
    }

    fn mismatch(&mut self, expr: &Expr, expected: &Type, actual: &Type) {
        let message = format!("expected type '{}' but found '{}'", expected.describe(), actual.describe());
        self.report_with(expr.id, message, hints::conversion(expr, expected, actual));
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        let hint = hints::similar(name, self.environment);
        self.report_with(id, format!("undeclared reference to '{name}' (in container '')"), hint);
    }

    fn set(&mut self, id: Id, type_: Type) {
        let size = self.bindings.size(&type_, TYPES.saturating_sub(self.size) + 1);
        self.size += size;
        if self.size <= TYPES {
            self.types.insert(id, type_);
            return;
        }
        // Upstream goes on for as long as it takes. What is left has the type of errors, which is small.
        self.types.insert(id, Type::Error);
        if self.size - size <= TYPES {
            self.report(id, format!("the types of the expression are too large: limit {TYPES}"));
        }
    }

    fn type_of(&self, id: Id) -> Type {
        self.types.get(&id).cloned().unwrap_or(Type::Error)
    }

    fn new_variable(&mut self) -> Type {
        self.free += 1;
        Type::Param(format!("_var{}", self.free - 1).into())
    }

    fn local(&self, name: &str) -> Option<&Type> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    fn global(&self, name: &str) -> Option<(Type, Reference)> {
        if let Some(found) = self.environment.variable_type(name) {
            return Some((found.clone(), Reference::Variable(name.into())));
        }
        let found = self.environment.named_type(name)?;
        Some((found.type_of(), Reference::Type(name.into())))
    }

    fn resolve(&self, name: &str) -> Option<Resolved> {
        let plain = name.strip_prefix('.').unwrap_or(name);
        let local = self.local(plain);
        if let Some(found) = local.filter(|_| !name.starts_with('.')) {
            return Some(Resolved {
                type_: found.clone(),
                reference: Reference::Variable(name.into()),
                name: name.into(),
            });
        }
        let (type_, reference) = self.global(plain)?;
        let name = if local.is_some() { format!(".{plain}") } else { plain.to_owned() };
        let reference = match reference {
            Reference::Variable(_) => Reference::Variable(name.as_str().into()),
            other => other,
        };
        Some(Resolved { type_, reference, name: name.into() })
    }

    fn check(&mut self, expr: &mut Expr) {
        let id = expr.id;
        match &mut expr.kind {
            ExprKind::Unspecified => {}
            ExprKind::Literal(value) => {
                let type_ = literal_type(value);
                self.set(id, type_);
            }
            ExprKind::Ident(name) => match self.resolve(name) {
                Some(found) => self.accept(expr, found),
                None => {
                    let name = Arc::clone(name);
                    self.set(id, Type::Error);
                    self.undeclared(id, &name);
                }
            },
            ExprKind::Select { .. } => self.check_select(expr),
            ExprKind::Call(_) => self.check_call(expr),
            ExprKind::List { elements } => {
                let type_ = self.check_list(elements);
                self.set(id, type_);
            }
            ExprKind::Map { entries } => {
                let type_ = self.check_map(entries);
                self.set(id, type_);
            }
            ExprKind::Struct { name, fields } => {
                let name = Arc::clone(name);
                if let Some(name) = self.check_struct(id, &name, fields) {
                    expr.kind = match std::mem::replace(&mut expr.kind, ExprKind::Unspecified) {
                        ExprKind::Struct { fields, .. } => ExprKind::Struct { name, fields },
                        other => other,
                    };
                }
            }
            ExprKind::Comprehension(fold) => self.check_comprehension(id, fold),
        }
    }

    fn accept(&mut self, expr: &mut Expr, found: Resolved) {
        self.set(expr.id, found.type_);
        self.references.insert(expr.id, found.reference);
        expr.kind = ExprKind::Ident(found.name);
    }

    fn check_select(&mut self, expr: &mut Expr) {
        if let ExprKind::Select { test_only: false, .. } = &expr.kind
            && let Some(name) = expr.qualified_name()
        {
            let first = name.trim_start_matches('.').split('.').next().unwrap_or_default();
            let hidden = !name.starts_with('.') && self.local(first).is_some();
            if !hidden && let Some((type_, reference)) = self.global(name.strip_prefix('.').unwrap_or(&name)) {
                let name = name.strip_prefix('.').unwrap_or(&name).into();
                self.accept(expr, Resolved { type_, reference, name });
                return;
            }
        }
        let id = expr.id;
        let ExprKind::Select { operand, field, test_only } = &mut expr.kind else { return };
        let (field, test_only) = (Arc::clone(field), *test_only);
        let type_ = self.check_field(id, operand, &field, false);
        let type_ = if test_only { Type::Bool } else { type_ };
        let type_ = self.bindings.substitute(&type_, false);
        self.set(id, type_);
    }

    fn check_field(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand_type = self.bindings.substitute(&self.type_of(operand.id), false);
        let inner = operand_type.unwrap_optional();
        let wrap = optional || inner.is_some();
        let target = inner.unwrap_or(&operand_type);
        let found = match target {
            Type::Map(_, value) => (**value).clone(),
            Type::Object(name) => self.field_type(id, name, field).unwrap_or(Type::Error),
            Type::Param(_) => {
                self.bindings.assignable(&Type::Dyn, target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    self.report(id, format!("type '{}' does not support field selection", other.describe()));
                }
                Type::Dyn
            }
        };
        if wrap { Type::optional(found) } else { found }
    }

    fn field_type(&mut self, id: Id, object: &str, field: &str) -> Option<Type> {
        match self.environment.field_type(object, field) {
            Field::OfNothing => {
                self.report(id, format!("unexpected failed resolution of '{object}'"));
                None
            }
            Field::None => {
                let hint = hints::field(object, field, self.environment);
                self.report_with(id, format!("undefined field '{field}'"), hint);
                None
            }
            Field::Of(found) => Some(found.clone()),
        }
    }

    fn check_call(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let ExprKind::Call(call) = &mut expr.kind else { return };
        if &*call.function == "_?._" {
            let field = call.args.get(1).and_then(|arg| match arg.as_literal() {
                Some(Value::String(field)) => Some(Arc::clone(field)),
                _ => None,
            });
            if let (Some(operand), Some(field)) = (call.args.first_mut(), field) {
                let type_ = self.check_field(id, operand, &field, true);
                let type_ = self.bindings.substitute(&type_, false);
                self.set(id, type_);
                self.references.insert(id, Reference::Overloads(vec!["select_optional_field"]));
            }
            return;
        }
        for arg in &mut call.args {
            self.check(arg);
        }
        if let Some(target) = &call.target
            && let Some(prefix) = target.qualified_name()
            && let Some(found) = function(&format!("{}.{}", prefix.strip_prefix('.').unwrap_or(&prefix), call.function))
        {
            call.target = None;
            call.function = found.name.into();
            self.resolve_overload(id, found, call);
            return;
        }
        if let Some(target) = &mut call.target {
            self.check(target);
        }
        let name = Arc::clone(&call.function);
        match function(name.strip_prefix('.').unwrap_or(&name)) {
            Some(found) => {
                if call.target.is_none() {
                    call.function = found.name.into();
                }
                self.resolve_overload(id, found, call);
            }
            None => {
                self.set(id, Type::Error);
                self.undeclared(id, &name);
            }
        }
    }

    fn resolve_overload(&mut self, id: Id, declared: &'static FunctionDecl, call: &Call) {
        let arguments: Vec<&Expr> = call.target.iter().chain(&call.args).collect();
        let types: Vec<Type> = arguments.iter().map(|arg| self.type_of(arg.id)).collect();
        if matches!(declared.name, "_&&_" | "_||_") {
            let mut wrong = false;
            for (arg, type_) in arguments.iter().zip(&types) {
                if !self.bindings.assignable(type_, &Type::Bool) {
                    self.mismatch(arg, &Type::Bool, type_);
                    wrong = true;
                }
            }
            self.set(id, if wrong { Type::Error } else { Type::Bool });
            if !wrong {
                let overload = if declared.name == "_&&_" { "logical_and" } else { "logical_or" };
                self.references.insert(id, Reference::Overloads(vec![overload]));
            }
            return;
        }
        let mut result: Option<Type> = None;
        let mut overloads = Vec::new();
        for overload in &declared.overloads {
            if overload.member != call.target.is_some() {
                continue;
            }
            let names: HashMap<&str, Type> =
                overload.params.iter().map(|param| (&**param, self.new_variable())).collect();
            let wanted: Vec<Type> = overload.args.iter().map(|arg| unify::rename(arg, &names)).collect();
            if self.bindings.all_assignable(&types.iter().collect::<Vec<_>>(), &wanted.iter().collect::<Vec<_>>()) {
                overloads.push(overload.id);
                let found = self.bindings.substitute(&unify::rename(&overload.result, &names), false);
                result = Some(match result {
                    None => found,
                    Some(before) if before.is_dyn() || before == found => before,
                    Some(_) => Type::Dyn,
                });
            }
        }
        let Some(result) = result else {
            let shown: Vec<Type> = types.iter().map(|t| self.bindings.substitute(t, true)).collect();
            let mut names: Vec<String> = shown.iter().map(|t| t.describe().to_string()).collect();
            let target = if call.target.is_some() { format!("{}.", names.remove(0)) } else { String::new() };
            let signature = format!("{target}({})", names.join(", "));
            let message = format!("found no matching overload for '{}' applied to '{signature}'", declared.name);
            let hint = hints::overload(&arguments, &shown);
            self.report_with(id, message, hint);
            self.set(id, Type::Error);
            return;
        };
        self.set(id, result);
        self.references.insert(id, Reference::Overloads(overloads));
    }

    /// The type behind an element or an entry that may be left out.
    fn unwrapped(&mut self, expr: &Expr, optional: bool) -> Type {
        let type_ = self.type_of(expr.id);
        if !optional {
            return type_;
        }
        match type_.unwrap_optional() {
            Some(inner) => inner.clone(),
            None => {
                if !type_.is_dyn() {
                    self.mismatch(expr, &Type::optional(type_.clone()), &type_);
                }
                type_
            }
        }
    }

    /// The type of elements that have both types. Mixed ones are refused later, by [`validate`].
    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.bindings.assignable(&previous, &current) {
            return unify::most_general(&previous, &current);
        }
        Type::Dyn
    }

    fn check_list(&mut self, elements: &mut [ListElement]) -> Type {
        let mut joined = None;
        for element in elements {
            self.check(&mut element.value);
            let type_ = self.unwrapped(&element.value, element.optional);
            joined = Some(self.join(joined, type_));
        }
        Type::list(joined.unwrap_or_else(|| self.new_variable()))
    }

    fn check_map(&mut self, entries: &mut [MapEntry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(&mut entry.key);
            let key = self.type_of(entry.key.id);
            keys = Some(self.join(keys, key));
            self.check(&mut entry.value);
            let value = self.unwrapped(&entry.value, entry.optional);
            values = Some(self.join(values, value));
        }
        let key = keys.unwrap_or_else(|| self.new_variable());
        let value = values.unwrap_or_else(|| self.new_variable());
        Type::map(key, value)
    }

    fn check_struct(&mut self, id: Id, name: &str, fields: &mut [StructField]) -> Option<Arc<str>> {
        let plain = name.strip_prefix('.').unwrap_or(name);
        if crate::environment::is_message(plain) {
            self.report(id, format!("literals of '{plain}' are not supported"));
            self.set(id, Type::Error);
            return None;
        }
        let Some(found) = self.environment.struct_type(plain) else {
            self.undeclared(id, name);
            self.set(id, Type::Error);
            return None;
        };
        self.references.insert(id, Reference::Struct);
        let object = match &found {
            Type::Object(object) => Some(Arc::clone(object)),
            other => {
                self.report(id, format!("'{}' is not a message type", other.runtime_name()));
                None
            }
        };
        self.set(id, if object.is_some() { found } else { Type::Error });
        for field in fields {
            self.check(&mut field.value);
            let declared =
                self.field_type(field.id, object.as_deref().unwrap_or(plain), &field.name).unwrap_or(Type::Error);
            let value = self.unwrapped(&field.value, field.optional);
            if !self.bindings.assignable(&declared, &value) {
                self.report(
                    field.id,
                    format!(
                        "expected type of field '{}' is '{}' but provided type is '{}'",
                        field.name,
                        declared.describe(),
                        value.describe()
                    ),
                );
            }
        }
        Some(plain.into())
    }

    fn check_comprehension(&mut self, id: Id, fold: &mut Comprehension) {
        self.check(&mut fold.range);
        self.check(&mut fold.accumulator_init);
        let range = self.bindings.substitute(&self.type_of(fold.range.id), false);
        let accumulator = self.type_of(fold.accumulator_init.id);
        self.scopes.push(HashMap::from([(Arc::clone(&fold.accumulator), accumulator.clone())]));
        let two = fold.second_variable.is_some();
        let (first, second) = match &range {
            Type::List(element) if two => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Error),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.bindings.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                    other.describe()
                );
                self.report_with(fold.range.id, message, hints::range(&fold.range, other));
                (Type::Error, Type::Error)
            }
        };
        let mut scope = HashMap::from([(Arc::clone(&fold.variable), first)]);
        if let Some(name) = &fold.second_variable {
            scope.insert(Arc::clone(name), second);
        }
        self.scopes.push(scope);
        self.check(&mut fold.condition);
        self.assert(&fold.condition, &Type::Bool);
        self.check(&mut fold.step);
        self.assert(&fold.step, &accumulator);
        self.scopes.pop();
        self.check(&mut fold.result);
        self.scopes.pop();
        let result = self.bindings.substitute(&self.type_of(fold.result.id), false);
        self.set(id, result);
    }

    fn assert(&mut self, expr: &Expr, wanted: &Type) {
        let found = self.type_of(expr.id);
        if !self.bindings.assignable(wanted, &found) {
            self.mismatch(expr, wanted, &found);
        }
    }
}

fn literal_type(value: &Value) -> Type {
    match value {
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Null,
    }
}
