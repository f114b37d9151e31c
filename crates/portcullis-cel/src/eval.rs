//! Evaluation of a planned expression.
//!
//! Compat: cel-go `interpreter/interpretable.go` and `interpreter/attributes.go` 0.29.2. An error is a value until something
//! needs what it stands for: `&&` and `||` can do without one side, and macros carry it on. What ends the evaluation at once
//! is [`Fatal`].

use std::sync::Arc;

use crate::cost::{Fatal, LIST, MAP, STRUCT, Tracker};
use crate::error::EvalError;
use crate::escape::unescape;
use crate::map::{Map, hash_panic, unhashable};
use crate::ops::{self, Evaluated};
use crate::plan::node::{Attribute, AttributeNode, CallNode, FoldNode, Implementation, Key, Node, Qualifier};
use crate::program::Activation;
use crate::show::go_value;
use crate::spent::Spent;
use crate::value::{List, MutableMap, Object, Trait, Value};

/// What a node came to, or the end of the evaluation.
type Outcome = Result<Evaluated, Fatal>;

/// The variables of a macro while it runs.
struct Scope<'p> {
    fold: &'p FoldNode,
    parent: Option<usize>,
    accumulated: Option<Evaluated>,
    first: Evaluated,
    second: Evaluated,
    /// Set when the loop is over: its variables are gone then.
    finished: bool,
    gathers: bool,
}

pub(crate) struct Evaluator<'p, 'a> {
    variables: &'a dyn Activation,
    tracker: Tracker,
    spent: Spent,
    scopes: Vec<Scope<'p>>,
}

/// Where names are looked for: the innermost macro, or outside of all.
type Place = Option<usize>;

fn seen(outcome: &Evaluated) -> Option<Value> {
    outcome.as_ref().ok().cloned()
}

impl<'p, 'a> Evaluator<'p, 'a> {
    pub(crate) fn new(variables: &'a dyn Activation, limit: u64) -> Self {
        Self { variables, tracker: Tracker::new(limit), spent: Spent::default(), scopes: Vec::new() }
    }

    pub(crate) fn cost(&self) -> u64 {
        self.tracker.cost()
    }

    pub(crate) fn run(&mut self, root: &'p Node) -> Evaluated {
        match self.node(root, None) {
            Ok(outcome) => outcome,
            Err(Fatal(error)) => Err(error),
        }
    }

    /// Evaluates a node, charges it, and remembers what it came to.
    fn node(&mut self, node: &'p Node, place: Place) -> Outcome {
        // Functions of their own, never inlined, so that nested expressions need little stack.
        let outcome = match node {
            Node::Const { value, .. } => Ok(value.clone()),
            Node::Attribute(attribute) => self.charged_attribute(attribute, place)?,
            Node::Logic { or, terms, .. } => self.logic(*or, terms, place)?,
            Node::Equal { negate, left, right, .. } => self.equal(*negate, left, right, place)?,
            Node::Call(call) => self.call(call, place)?,
            Node::List { elements, .. } => self.list(elements, place)?,
            Node::Map { entries, .. } => self.map(entries, place)?,
            Node::Struct { name, fields, .. } => self.structure(name, fields, place)?,
            Node::Fold(fold) => self.fold(fold, place)?,
            Node::Membership { argument, set, .. } => self.membership(argument, set, place)?,
            Node::OptionalOr { unwrap, left, right, .. } => self.optional_or(*unwrap, left, right, place)?,
        };
        self.charge(node, &outcome)?;
        Ok(outcome)
    }

    /// Charges a node that was evaluated.
    #[inline(never)]
    fn charge(&mut self, node: &Node, outcome: &Evaluated) -> Result<(), Fatal> {
        match node {
            Node::Logic { terms, .. } => {
                for term in terms {
                    self.tracker.drop(term.id());
                }
            }
            Node::Equal { negate, left, right, .. } => {
                let (function, overload) = if *negate { ("_!=_", "not_equals") } else { ("_==_", "equals") };
                self.tracker.call(function, overload, [left.id(), right.id()].into_iter(), outcome)?;
            }
            Node::Call(call) => {
                let ids = call.args.iter().map(Node::id);
                self.tracker.call(call.declared.name, call.overload, ids, outcome)?;
            }
            Node::List { elements, .. } => {
                self.tracker.drop_args(elements.iter().map(|(element, _)| element.id()));
                self.tracker.charge(LIST);
            }
            Node::Map { entries, .. } => {
                self.tracker.drop_args(entries.iter().flat_map(|(key, value, _)| [key.id(), value.id()]));
                self.tracker.charge(MAP);
            }
            Node::Struct { fields, .. } => {
                self.tracker.drop_args(fields.iter().map(|(_, field, _)| field.id()));
                self.tracker.charge(STRUCT);
            }
            Node::Fold(fold) => self.tracker.drop(fold.range.id()),
            Node::Const { .. } | Node::Attribute(_) | Node::Membership { .. } | Node::OptionalOr { .. } => {}
        }
        if let Err(error) = outcome
            && error.is_fatal()
        {
            return Err(Fatal(error.clone()));
        }
        self.tracker.push(node.id(), seen(outcome))
    }

    #[inline(never)]
    fn charged_attribute(&mut self, attribute: &'p AttributeNode, place: Place) -> Outcome {
        let outcome = self.attribute(attribute, place)?;
        match &attribute.attribute {
            Attribute::Conditional { condition, yes, no, .. } => {
                self.tracker.drop(no.id());
                self.tracker.drop(yes.id());
                self.tracker.drop(condition.id());
            }
            other => {
                self.tracker.drop(other.id());
                if attribute.test_only.is_none() {
                    self.tracker.charge(1);
                }
            }
        }
        Ok(outcome)
    }

    #[inline(never)]
    fn membership(&mut self, argument: &'p Node, set: &Map, place: Place) -> Outcome {
        Ok(match self.node(argument, place)? {
            Ok(value) => match unhashable(&value) {
                Some(kind) => return Err(Fatal(hash_panic(kind))),
                None => Ok(Value::Bool(set.contains_exactly(&value))),
            },
            Err(error) => Err(error),
        })
    }

    #[inline(never)]
    fn optional_or(&mut self, unwrap: bool, left: &'p Node, right: &'p Node, place: Place) -> Outcome {
        Ok(match self.node(left, place)? {
            Ok(Value::Optional(Some(value))) => {
                Ok(if unwrap { Value::clone(&value) } else { Value::Optional(Some(value)) })
            }
            Ok(Value::Optional(None)) => self.node(right, place)?,
            Ok(_) => Err(EvalError::no_such_overload()),
            Err(error) => Err(error),
        })
    }

    #[inline(never)]
    fn logic(&mut self, or: bool, terms: &'p [Node], place: Place) -> Outcome {
        let mut failed = None;
        for term in terms {
            match self.node(term, place)? {
                Ok(Value::Bool(value)) if value == or => return Ok(Ok(Value::Bool(or))),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| Some(EvalError::no_such_overload())),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Ok(match failed {
            Some(error) => Err(error),
            None => Ok(Value::Bool(!or)),
        })
    }

    #[inline(never)]
    fn equal(&mut self, negate: bool, left: &'p Node, right: &'p Node, place: Place) -> Outcome {
        let (left, right) = (self.node(left, place)?, self.node(right, place)?);
        Ok(match (left, right) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(left), Ok(right)) => {
                self.spent.work(left.weight().min(right.weight()))?;
                match ops::equal(&left, &right) {
                    Ok(same) => Ok(Value::Bool(same != negate)),
                    // What cannot be compared is not equal, but only `!=` says so.
                    Err(_) if negate => Ok(Value::Bool(true)),
                    Err(error) => Err(error),
                }
            }
        })
    }

    #[inline(never)]
    fn call(&mut self, call: &'p CallNode, place: Place) -> Outcome {
        let mut args = Vec::with_capacity(call.args.len());
        let mut failed = None;
        for arg in &call.args {
            match self.node(arg, place)? {
                Ok(value) => args.push(value),
                Err(error) if call.in_turn => return Ok(Err(error)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            if matches!(call.implementation, Implementation::NotStrictlyFalse) {
                return Ok(Ok(Value::Bool(true)));
            }
            return Ok(Err(error));
        }
        if call.declared.name == "@in"
            && let [value, container @ (Value::Map(_) | Value::Gathering(_))] = args.as_slice()
        {
            check_key(value, container)?;
        }
        self.spent.before(call, &args)?;
        let outcome = call.apply(&args);
        if let Ok(value) = &outcome {
            self.spent.after(call, value)?;
        }
        Ok(outcome)
    }

    #[inline(never)]
    fn list(&mut self, elements: &'p [(Node, bool)], place: Place) -> Outcome {
        let mut values = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            let value = match self.node(element, place)? {
                Ok(value) => value,
                Err(error) => return Ok(Err(error)),
            };
            match (optional, value) {
                (false, value) => values.push(value),
                (true, Value::Optional(Some(value))) => values.push(Value::clone(&value)),
                (true, Value::Optional(None)) => {}
                (true, value) => {
                    let shown = go_value(&value);
                    let message = format!("cannot initialize optional list element from non-optional value {shown}");
                    return Ok(Err(EvalError::new(message)));
                }
            }
        }
        Ok(Ok(Value::List(List::new(values))))
    }

    #[inline(never)]
    fn map(&mut self, entries: &'p [(Node, Node, bool)], place: Place) -> Outcome {
        let mut map = Map::default();
        for (key, value, optional) in entries {
            let key = match self.node(key, place)? {
                Ok(key) => key,
                Err(error) => return Ok(Err(error)),
            };
            let value = match self.node(value, place)? {
                Ok(value) => value,
                Err(error) => return Ok(Err(error)),
            };
            if let Some(kind) = unhashable(&key) {
                return Err(Fatal(hash_panic(kind)));
            }
            match (optional, value) {
                (false, value) => map.insert(key, value),
                (true, Value::Optional(Some(value))) => map.insert(key, Value::clone(&value)),
                (true, Value::Optional(None)) => map.remove(&key),
                (true, value) => return Ok(Err(not_optional(&go_value(&key), &value))),
            }
        }
        Ok(Ok(Value::Map(map)))
    }

    /// Types with fields are declared for what is given; upstream makes none.
    #[inline(never)]
    fn structure(&mut self, name: &str, fields: &'p [(Arc<str>, Node, bool)], place: Place) -> Outcome {
        for (field, value, optional) in fields {
            match self.node(value, place)? {
                Err(error) => return Ok(Err(error)),
                Ok(value) if *optional && !matches!(value, Value::Optional(_)) => {
                    return Ok(Err(not_optional(field, &value)));
                }
                Ok(_) => {}
            }
        }
        Ok(Err(EvalError::new(format!("unknown type '{name}'"))))
    }

    fn attribute(&mut self, node: &'p AttributeNode, place: Place) -> Outcome {
        let outcome = self.resolve(&node.attribute, place)?;
        Ok(match (node.test_only, outcome) {
            (Some(_), Ok(Value::Optional(value))) => Ok(Value::Bool(value.is_some())),
            (_, outcome) => outcome,
        })
    }

    fn resolve(&mut self, attribute: &'p Attribute, place: Place) -> Outcome {
        match attribute {
            Attribute::Absolute { name, root, qualifiers, .. } => {
                let place = if *root { None } else { place };
                let value = match self.variable(name, place)? {
                    Some(Ok(value)) => value,
                    Some(Err(error)) => return Ok(Err(error)),
                    None => {
                        let message = format!("no such attribute(s): {name}");
                        return Ok(Err(EvalError::new(message)));
                    }
                };
                let on = self.tracker.on;
                self.tracker.on = on && !root;
                let outcome = self.qualify_all(value, qualifiers, place);
                self.tracker.on = on;
                outcome
            }
            Attribute::Conditional { condition, yes, no, .. } => match self.node(condition, place)? {
                Ok(Value::Bool(true)) => self.resolve(yes, place),
                Ok(Value::Bool(false)) => self.resolve(no, place),
                Ok(_) => Ok(Err(EvalError::no_such_overload())),
                Err(error) => Ok(Err(error)),
            },
            Attribute::Relative { operand, qualifiers, .. } => match self.node(operand, place)? {
                Ok(value) => self.qualify_all(value, qualifiers, place),
                Err(error) => Ok(Err(error)),
            },
        }
    }

    fn qualify_all(&mut self, value: Value, qualifiers: &'p [Arc<Qualifier>], place: Place) -> Outcome {
        let (mut value, mut optional) = match value {
            Value::Optional(None) => return Ok(Ok(Value::Optional(None))),
            Value::Optional(Some(inner)) => (Value::clone(&inner), true),
            other => (other, false),
        };
        for qualifier in qualifiers {
            optional = optional || qualifier.optional;
            value = match self.qualify(qualifier, &value, optional, place)? {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(Ok(Value::Optional(None))),
                Err(error) => return Ok(Err(error)),
            };
        }
        Ok(Ok(if optional { Value::some(value) } else { value }))
    }

    /// One step; nothing if what may be absent is.
    fn qualify(
        &mut self,
        qualifier: &'p Qualifier,
        object: &Value,
        optional: bool,
        place: Place,
    ) -> Result<Result<Option<Value>, EvalError>, Fatal> {
        let found = match &qualifier.key {
            Key::Constant(key) => select(object, key, optional || qualifier.test_only)?,
            Key::Attribute(attribute) | Key::Computed(attribute) => match self.resolve(attribute, place)? {
                Ok(key) => match crate::plan::node::qualifier_problem(&key) {
                    Some(problem) => Err(EvalError::new(problem)),
                    None => select(object, &key, optional)?,
                },
                Err(error) => Err(error),
            },
        };
        let found = match found {
            // `has` says whether there is something, unless something on the way to it may be absent.
            Ok(found) if qualifier.test_only && !optional => Ok(Some(Value::Bool(found.is_some()))),
            other => other,
        };
        // Upstream does not see a step that finds nothing or fails where something may be absent.
        if matches!(found, Ok(None)) || (optional && found.is_err()) {
            return Ok(found);
        }
        match &qualifier.key {
            Key::Computed(attribute) => {
                self.tracker.drop(attribute.id());
            }
            Key::Constant(_) | Key::Attribute(_) => {}
        }
        self.tracker.charge(1);
        self.tracker.push(qualifier.id, found.as_ref().ok().cloned().flatten())?;
        Ok(found)
    }

    fn variable(&mut self, name: &str, place: Place) -> Result<Option<Evaluated>, Fatal> {
        let mut next = place;
        while let Some(index) = next {
            let Some(scope) = self.scopes.get(index) else { break };
            if *name == *scope.fold.accumulator {
                if scope.accumulated.is_none() {
                    self.start(index)?;
                }
                return Ok(self.scopes.get(index).and_then(|scope| scope.accumulated.clone()));
            }
            if !scope.finished {
                if *name == *scope.fold.variable {
                    return Ok(Some(scope.first.clone()));
                }
                if scope.fold.second_variable.as_deref() == Some(name) {
                    return Ok(Some(scope.second.clone()));
                }
            }
            next = scope.parent;
        }
        Ok(self.variables.resolve(name).map(Ok))
    }

    /// Evaluates what a macro starts with, when it is first asked for.
    fn start(&mut self, index: usize) -> Result<(), Fatal> {
        let Some((fold, parent)) = self.scopes.get(index).map(|scope| (scope.fold, scope.parent)) else {
            return Ok(());
        };
        let outcome = self.node(&fold.init, parent)?;
        let (outcome, gathers) = match outcome {
            Ok(Value::List(list)) if list.is_empty() => (Ok(Value::List(List::mutable())), true),
            Ok(Value::Map(map)) if map.is_empty() => (Ok(Value::Gathering(MutableMap::default())), true),
            other => (other, false),
        };
        if let Some(scope) = self.scopes.get_mut(index) {
            scope.accumulated = Some(outcome);
            scope.gathers = gathers;
        }
        Ok(())
    }

    #[inline(never)]
    fn fold(&mut self, fold: &'p FoldNode, place: Place) -> Outcome {
        let range = match self.node(&fold.range, place)? {
            Ok(range) => range,
            Err(error) => return Ok(Err(error)),
        };
        let two = fold.second_variable.is_some();
        if !range.has(Trait::Iterable) {
            let kind = range.go_type();
            return Ok(Err(EvalError::new(if two {
                format!("unsupported comprehension range type: {kind}")
            } else {
                format!("got '{kind}', expected iterable type")
            })));
        }
        let index = self.scopes.len();
        self.scopes.push(Scope {
            fold,
            parent: place,
            accumulated: None,
            first: Ok(Value::Null),
            second: Ok(Value::Null),
            finished: false,
            gathers: false,
        });
        let outcome = self.iterate(fold, &range, index);
        self.scopes.truncate(index);
        outcome
    }

    fn iterate(&mut self, fold: &'p FoldNode, range: &Value, index: usize) -> Outcome {
        let two = fold.second_variable.is_some();
        match range {
            Value::List(list) => {
                for (position, item) in (0i64..).zip(list.iter()) {
                    let (first, second) = if two { (Value::Int(position), item) } else { (item, Value::Null) };
                    if !self.step(fold, index, Ok(first), Ok(second))? {
                        break;
                    }
                }
            }
            Value::Object(object) => {
                for name in object.names() {
                    let first = field_of(object, &Value::String(name));
                    let second = match &first {
                        Ok(key) if two => field_of(object, key),
                        _ => Ok(Value::Null),
                    };
                    if !self.step(fold, index, first, second)? {
                        break;
                    }
                }
            }
            other => {
                for (key, value) in other.as_map().unwrap_or_default().iter() {
                    if !self.step(fold, index, Ok(key), Ok(value))? {
                        break;
                    }
                }
            }
        }
        if let Some(scope) = self.scopes.get_mut(index) {
            scope.finished = true;
        }
        let outcome = self.node(&fold.result, Some(index))?;
        let gathers = self.scopes.get(index).is_some_and(|scope| scope.gathers);
        Ok(outcome.map(|value| if gathers { value.settled() } else { value }))
    }

    /// One round; whether another one follows.
    fn step(&mut self, fold: &'p FoldNode, index: usize, first: Evaluated, second: Evaluated) -> Result<bool, Fatal> {
        if let Some(scope) = self.scopes.get_mut(index) {
            scope.first = first;
            scope.second = second;
        }
        if let Ok(Value::Bool(false)) = self.node(&fold.condition, Some(index))? {
            return Ok(false);
        }
        let outcome = self.node(&fold.step, Some(index))?;
        if let Some(scope) = self.scopes.get_mut(index) {
            scope.accumulated = Some(outcome);
        }
        Ok(true)
    }
}

fn not_optional(field: &str, value: &Value) -> EvalError {
    let shown = go_value(value);
    EvalError::new(format!("cannot initialize optional entry '{field}' from non-optional value {shown}"))
}

/// Upstream's maps break down over some keys, unless they are empty.
fn check_key(key: &Value, container: &Value) -> Result<(), Fatal> {
    let plain = match container {
        Value::Map(map) => !map.is_json() && !map.is_empty(),
        _ => true,
    };
    match unhashable(key) {
        Some(kind) if plain => Err(Fatal(hash_panic(kind))),
        _ => Ok(()),
    }
}

/// A field of an object, or why there is none.
fn field_of(object: &Arc<dyn Object>, key: &Value) -> Evaluated {
    match find_field(object, key) {
        Some(found) => found,
        None => Err(EvalError::new(format!("no such key: {}", go_value(key)))),
    }
}

fn find_field(object: &Arc<dyn Object>, key: &Value) -> Option<Evaluated> {
    let Value::String(name) = key else { return Some(Err(EvalError::no_such_overload())) };
    match unescape(name) {
        Ok(None) => object.field(name),
        Ok(Some(plain)) => object.field(&plain),
        Err(_) => None,
    }
}

/// What `key` selects from `object`; nothing if it is absent and that was asked.
fn select(object: &Value, key: &Value, presence: bool) -> Result<Result<Option<Value>, EvalError>, Fatal> {
    let found = match object {
        Value::Map(map) => {
            check_key(key, object)?;
            map.select(key)
        }
        Value::Gathering(map) => {
            check_key(key, object)?;
            map.snapshot().find(key)
        }
        Value::Object(object) => match find_field(object, key) {
            Some(Ok(value)) => Some(value),
            Some(Err(error)) => return Ok(Err(error)),
            None => None,
        },
        Value::List(list) => {
            let at = match ops::index(key) {
                Ok(at) => at,
                Err(error) => return Ok(Err(error)),
            };
            match usize::try_from(at).ok().and_then(|at| list.get(at)) {
                Some(value) => Some(value),
                None if presence => None,
                None => return Ok(Err(EvalError::new(format!("index out of bounds: {}", go_value(key))))),
            }
        }
        _ => None,
    };
    Ok(match found {
        Some(value) => Ok(Some(value)),
        None if presence => Ok(None),
        None => Err(EvalError::new(format!("no such key: {}", go_value(key)))),
    })
}
