//! A checked expression into what is evaluated.
//!
//! Compat: cel-go `interpreter/planner.go` and `interpreter/decorators.go` 0.29.2 with optimisation: literals of constants and
//! conversions of constants are computed here, membership in a list of constants becomes a look-up, and constant regular
//! expressions are compiled. All of that shows in what an evaluation costs.

pub(crate) mod node;

use std::sync::Arc;

use self::node::{Attribute, AttributeNode, CallNode, FoldNode, Implementation, Key, Node, Qualifier};
use crate::ast::{Call, Comprehension, Expr, ExprKind, Id, ListElement, MapEntry, StructField};
use crate::check::{Checked, Reference};
use crate::environment::is_undefined_type;
use crate::error::EvalError;
use crate::library::decls::{FunctionDecl, Op, function};
use crate::library::regex::Patterns;
use crate::map::{Map, unhashable};
use crate::ops;
use crate::source::Issues;
use crate::value::{List, Value};

pub(crate) fn plan(checked: &Checked) -> Result<Node, Issues> {
    Planner { checked, patterns: Patterns::new() }
        .plan(&checked.ast.root)
        .map_err(|message| Issues::instantiation(Arc::clone(&checked.ast.source), message))
}

struct Planner<'a> {
    checked: &'a Checked,
    patterns: Patterns,
}

type Planned<T> = Result<T, String>;

/// Functions that are computed beforehand if their argument is known.
const CONVERSIONS: [&str; 10] =
    ["bool", "bytes", "double", "dyn", "duration", "int", "string", "timestamp", "type", "uint"];

impl Planner<'_> {
    fn plan(&self, expr: &Expr) -> Planned<Node> {
        match &expr.kind {
            ExprKind::Unspecified => Err("unsupported expr".to_owned()),
            ExprKind::Literal(value) => Ok(Node::Const { id: expr.id, value: value.clone() }),
            ExprKind::Ident(_) => self.ident(expr.id),
            ExprKind::Select { operand, field, test_only } => self.select(expr.id, operand, field, *test_only),
            ExprKind::Call(call) => self.call(expr.id, call),
            ExprKind::List { elements } => self.list(expr.id, elements),
            ExprKind::Map { entries } => self.map(expr.id, entries),
            ExprKind::Struct { name, fields } => self.structure(expr.id, name, fields),
            ExprKind::Comprehension(fold) => self.fold(expr.id, fold),
        }
    }

    // Functions of their own, never inlined, so that nested expressions need little stack.

    #[inline(never)]
    fn list(&self, id: Id, elements: &[ListElement]) -> Planned<Node> {
        let mut planned: Vec<(Node, bool)> = Vec::with_capacity(elements.len());
        for element in elements {
            planned.push((self.plan(&element.value)?, element.optional));
        }
        Ok(match planned.iter().map(|(node, _)| node.constant().cloned()).collect::<Option<Vec<_>>>() {
            Some(values) => Node::Const { id, value: Value::List(List::new(values)) },
            None => Node::List { id, elements: planned },
        })
    }

    #[inline(never)]
    fn map(&self, id: Id, entries: &[MapEntry]) -> Planned<Node> {
        let mut planned: Vec<(Node, Node, bool)> = Vec::with_capacity(entries.len());
        for entry in entries {
            planned.push((self.plan(&entry.key)?, self.plan(&entry.value)?, entry.optional));
        }
        let constant =
            |(key, value, _): &(Node, Node, bool)| Some((key.constant()?.clone(), value.constant()?.clone()));
        Ok(match planned.iter().map(constant).collect::<Option<Vec<_>>>() {
            // Upstream breaks down here: its maps cannot hold such a key, and nothing catches that before an evaluation.
            Some(values) if values.iter().any(|(key, _)| unhashable(key).is_some()) => {
                return Err("bytes cannot be the key of a map".to_owned());
            }
            Some(values) => Node::Const { id, value: Value::Map(Map::new(values)) },
            None => Node::Map { id, entries: planned },
        })
    }

    #[inline(never)]
    fn structure(&self, id: Id, name: &Arc<str>, fields: &[StructField]) -> Planned<Node> {
        let mut planned = Vec::with_capacity(fields.len());
        for field in fields {
            planned.push((Arc::clone(&field.name), self.plan(&field.value)?, field.optional));
        }
        Ok(Node::Struct { id, name: Arc::clone(name), fields: planned })
    }

    fn ident(&self, id: Id) -> Planned<Node> {
        match self.checked.references.get(&id) {
            Some(Reference::Variable(name)) => Ok(absolute(id, name)),
            Some(Reference::Type(name)) if is_undefined_type(name) => {
                Err(format!("reference to undefined type: {name}"))
            }
            Some(Reference::Type(name)) => Ok(Node::Const { id, value: Value::Type(Arc::clone(name)) }),
            _ => Err("unsupported expr".to_owned()),
        }
    }

    fn select(&self, id: Id, operand: &Expr, field: &Arc<str>, test_only: bool) -> Planned<Node> {
        if self.checked.references.contains_key(&id) {
            return self.ident(id);
        }
        let mut attribute = into_attribute(self.plan(operand)?);
        let key = Key::Constant(Value::String(Arc::clone(field)));
        let qualifier = Qualifier { id, optional: false, key, test_only };
        attribute.attribute.qualify(&Arc::new(qualifier));
        if test_only {
            attribute.test_only = Some(id);
        }
        Ok(Node::Attribute(Box::new(attribute)))
    }

    #[inline(never)]
    fn call(&self, id: Id, call: &Call) -> Planned<Node> {
        let mut args: Vec<Node> = Vec::with_capacity(call.args.len() + 1);
        for arg in call.target.iter().chain(&call.args) {
            args.push(self.plan(arg)?);
        }
        self.planned_call(id, call, args)
    }

    #[inline(never)]
    fn planned_call(&self, id: Id, call: &Call, mut args: Vec<Node>) -> Planned<Node> {
        let name = &*call.function;
        match name {
            "_&&_" | "_||_" => return Ok(Node::Logic { id, or: name == "_||_", terms: args }),
            "_==_" | "_!=_" | "or" | "orValue" => {
                let (Some(right), Some(left)) = (args.pop(), args.pop()) else {
                    return Err(format!("no such overload: {name}"));
                };
                let (left, right) = (Box::new(left), Box::new(right));
                return Ok(match name {
                    "or" | "orValue" => Node::OptionalOr { id, unwrap: name == "orValue", left, right },
                    _ => Node::Equal { id, negate: name == "_!=_", left, right },
                });
            }
            "_?_:_" => {
                let (Some(no), Some(yes), Some(condition)) = (args.pop(), args.pop(), args.pop()) else {
                    return Err(format!("no such overload: {name}"));
                };
                let attribute = Attribute::Conditional {
                    id,
                    condition: Box::new(condition),
                    yes: Box::new(branch(yes)),
                    no: Box::new(branch(no)),
                };
                return Ok(Node::Attribute(Box::new(AttributeNode::new(attribute))));
            }
            "_[_]" | "_?._" | "_[?_]" => {
                let (Some(index), Some(operand)) = (args.pop(), args.pop()) else {
                    return Err(format!("no such overload: {name}"));
                };
                return index_of(id, operand, index, name != "_[_]");
            }
            _ => {}
        }
        let Some(declared) = function(name) else { return Err(format!("no such overload: {name}")) };
        let overloads: &[&'static str] = match self.checked.references.get(&id) {
            Some(Reference::Overloads(overloads)) => overloads,
            _ => &[],
        };
        let overload = match overloads {
            [one] => one,
            _ => "",
        };
        finish_call(id, declared, overload, args, &self.patterns)
    }

    #[inline(never)]
    fn fold(&self, id: Id, fold: &Comprehension) -> Planned<Node> {
        Ok(Node::Fold(Box::new(FoldNode {
            id,
            accumulator: Arc::clone(&fold.accumulator),
            init: self.plan(&fold.accumulator_init)?,
            range: self.plan(&fold.range)?,
            variable: Arc::clone(&fold.variable),
            second_variable: fold.second_variable.clone(),
            condition: self.plan(&fold.condition)?,
            step: self.plan(&fold.step)?,
            result: self.plan(&fold.result)?,
        })))
    }
}

fn absolute(id: Id, name: &str) -> Node {
    let attribute = Attribute::Absolute {
        id,
        root: name.starts_with('.'),
        name: name.strip_prefix('.').unwrap_or(name).into(),
        qualifiers: Vec::new(),
    };
    Node::Attribute(Box::new(AttributeNode::new(attribute)))
}

/// The node as something that is selected from.
fn into_attribute(node: Node) -> AttributeNode {
    match node {
        Node::Attribute(attribute) => *attribute,
        other => AttributeNode::new(relative(other)),
    }
}

fn relative(node: Node) -> Attribute {
    Attribute::Relative { id: node.id(), operand: Box::new(node), qualifiers: Vec::new() }
}

/// A branch of a conditional: an attribute is taken as it is, without what is charged for it as a node.
fn branch(node: Node) -> Attribute {
    match node {
        Node::Attribute(attribute) => attribute.attribute,
        other => relative(other),
    }
}

fn index_of(id: Id, operand: Node, index: Node, optional: bool) -> Planned<Node> {
    let mut attribute = into_attribute(operand);
    let key = match index {
        Node::Const { value, .. } => match node::qualifier_problem(&value) {
            None => Key::Constant(value),
            Some(problem) => return Err(problem),
        },
        Node::Attribute(attribute) => Key::Attribute(attribute.attribute),
        other => Key::Computed(Attribute::Relative { id, operand: Box::new(other), qualifiers: Vec::new() }),
    };
    attribute.attribute.qualify(&Arc::new(Qualifier { id, optional, key, test_only: false }));
    Ok(Node::Attribute(Box::new(attribute)))
}

fn finish_call(
    id: Id,
    declared: &'static FunctionDecl,
    overload: &'static str,
    args: Vec<Node>,
    patterns: &Patterns,
) -> Planned<Node> {
    if overload == "in_list"
        && let [argument, list] = args.as_slice()
        && let Some(Value::List(list)) = list.constant()
    {
        if list.is_empty() {
            return Ok(Node::Const { id, value: Value::Bool(false) });
        }
        if let Some(set) = constant_set(list) {
            let argument = Box::new(argument.clone());
            return Ok(Node::Membership { id, argument, set });
        }
    }
    let call = implementation(id, declared, overload, args);
    if CONVERSIONS.contains(&declared.name)
        && let [argument] = call.args.as_slice()
        && let Some(value) = argument.constant()
    {
        let value = match call.apply(std::slice::from_ref(value)) {
            Ok(value) => value,
            Err(error) => return Err(error.to_string()),
        };
        return Ok(Node::Const { id, value });
    }
    with_pattern(call, patterns)
}

fn implementation(id: Id, declared: &'static FunctionDecl, overload: &'static str, args: Vec<Node>) -> CallNode {
    let single = declared.overloads.iter().find(|known| known.id == overload).filter(|known| known.op.is_some());
    let bound = declared.overloads.iter().filter(|known| known.op.is_some()).count();
    let only = declared.overloads.iter().find(|known| known.op.is_some()).filter(|_| bound == 1);
    let (implementation, in_turn) = match (declared.singleton, single.or(only)) {
        (Some((op, what)), _) => (Implementation::Singleton(op, what), false),
        (None, Some(one)) => (Implementation::Overload(one), matches!(one.op, Op::Nary(_))),
        (None, None) if declared.name == "@not_strictly_false" => (Implementation::NotStrictlyFalse, false),
        (None, None) => (Implementation::Dispatch, true),
    };
    CallNode { id, declared, overload, args, implementation, in_turn }
}

/// Compiles the regular expression of a call, if it is known.
fn with_pattern(mut call: CallNode, patterns: &Patterns) -> Planned<Node> {
    if matches!(call.declared.name, "matches" | "find" | "findAll")
        && let Some(Value::String(pattern)) = call.args.get(1).and_then(Node::constant)
    {
        call.implementation =
            Implementation::Pattern(Box::new(patterns.compile(pattern).map_err(|error| error.to_string())?));
        call.in_turn = true;
    }
    Ok(Node::Call(Box::new(call)))
}

/// The values of a list of constants, with the numbers of other types that are the same.
fn constant_set(list: &List) -> Option<Map> {
    let mut set = Map::default();
    for value in list.iter() {
        if !matches!(value, Value::Bool(_) | Value::Double(_) | Value::Int(_) | Value::String(_) | Value::Uint(_)) {
            return None;
        }
        for same in ops::same_numbers(&value) {
            set.insert(same, Value::Null);
        }
        set.insert(value, Value::Null);
    }
    Some(set)
}

impl CallNode {
    /// Calls the function with values.
    pub(crate) fn apply(&self, args: &[Value]) -> Result<Value, EvalError> {
        let name = self.declared.name;
        let none = || EvalError::new(format!("no such overload: {name}"));
        match &self.implementation {
            Implementation::Singleton(op, what) => {
                let first = args.first().unwrap_or(&Value::Null);
                if what.is_none_or(|what| first.has(what)) {
                    return op.call(args).unwrap_or_else(|| Err(none()));
                }
                if first.has(crate::value::Trait::Receiver) {
                    return Err(EvalError::no_such_overload());
                }
                Err(none())
            }
            Implementation::Overload(overload) => {
                if overload.matches(self.declared.guarded, args) {
                    return overload.op.call(args).unwrap_or_else(|| Err(none()));
                }
                Err(self.unmatched(args))
            }
            Implementation::Dispatch => {
                for overload in &self.declared.overloads {
                    if overload.matches(self.declared.guarded, args)
                        && let Some(outcome) = overload.op.call(args)
                    {
                        return outcome;
                    }
                }
                Err(self.unmatched(args))
            }
            Implementation::Pattern(pattern) => pattern.apply(name, args),
            Implementation::NotStrictlyFalse => match args {
                [Value::Bool(value)] => Ok(Value::Bool(*value)),
                _ => Ok(Value::Bool(true)),
            },
        }
    }

    fn unmatched(&self, args: &[Value]) -> EvalError {
        let types: Vec<String> = args.iter().map(|arg| arg.type_name().to_string()).collect();
        EvalError::new(format!("no such overload: {}({})", self.declared.name, types.join(", ")))
    }
}
