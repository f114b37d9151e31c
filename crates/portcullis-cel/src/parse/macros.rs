//! Macros: calls that stand for a longer expression.
//!
//! Compat: `has`, `all`, `exists`, `exists_one`, `map` and `filter` as in cel-go `parser/macro.go`, `optMap` and
//! `optFlatMap` as in `cel/library.go`, the loops with two variables as in `ext/comprehensions.go`, `sortBy` as in
//! `ext/lists.go` (0.29.2). `cel.bind` is not in Kubernetes' environment.

use std::sync::Arc;

use super::build::{Builder, call};
use crate::ast::{ACCUMULATOR, Comprehension, Expr, ExprKind, Id, ListElement, MapEntry, StructField};
use crate::value::Value;

/// What upstream called the accumulator earlier; still refused as a variable.
const OLD_ACCUMULATOR: &str = "__result__";
const UNUSED: &str = "#unused";
const SORT_INPUT: &str = "@__sortBy_input__";

pub(super) enum Expanded {
    Yes(Expr),
    /// Not a macro: what was given, back.
    No {
        target: Option<Expr>,
        args: Vec<Expr>,
    },
    Wrong {
        at: Id,
        message: String,
    },
}

struct Wrong(Id, String);

fn wrong<T>(expr: &Expr, message: &str) -> Result<T, Wrong> {
    Err(Wrong(expr.id, message.to_owned()))
}

pub(super) fn expand(builder: &mut Builder, id: Id, name: &str, target: Option<Expr>, args: Vec<Expr>) -> Expanded {
    let place = builder.offset(id);
    let mut made = Maker { builder, place };
    let known = matches!(
        (name, args.len(), target.is_some()),
        ("has", 1, false)
            | ("all" | "exists" | "exists_one" | "filter" | "optMap" | "optFlatMap" | "sortBy", 2, true)
            | ("all" | "exists" | "exists_one" | "existsOne", 3, true)
            | ("map", 2 | 3, true)
            | ("transformList" | "transformMap" | "transformMapEntry", 3 | 4, true)
    );
    if !known {
        return Expanded::No { target, args };
    }
    let expanded = match target {
        None => has(&mut made, args),
        Some(target) => match name {
            "map" => map(&mut made, target, args),
            "filter" => filter(&mut made, target, args),
            "optMap" => optional_map(&mut made, target, args, true),
            "optFlatMap" => optional_map(&mut made, target, args, false),
            "sortBy" => sort_by(&mut made, target, args),
            "transformList" | "transformMap" | "transformMapEntry" => transform(&mut made, name, target, args),
            _ => quantifier(&mut made, name, target, args),
        },
    };
    match expanded {
        Ok(expr) => Expanded::Yes(expr),
        Err(Wrong(at, message)) => Expanded::Wrong { at, message },
    }
}

/// Makes nodes that are shown at the place of the macro.
struct Maker<'a> {
    builder: &'a mut Builder,
    place: Option<usize>,
}

impl Maker<'_> {
    fn node(&mut self, kind: ExprKind) -> Expr {
        Expr { id: self.builder.id(self.place), kind }
    }

    fn literal(&mut self, value: Value) -> Expr {
        self.node(ExprKind::Literal(value))
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.node(ExprKind::Ident(name.into()))
    }

    fn accumulator(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        let id = self.builder.id(self.place);
        call(id, function, None, args)
    }

    fn member_call(&mut self, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        let id = self.builder.id(self.place);
        call(id, function, Some(target), args)
    }

    fn list(&mut self, values: Vec<Expr>) -> Expr {
        let elements = values.into_iter().map(|value| ListElement { value, optional: false }).collect();
        self.node(ExprKind::List { elements })
    }

    /// The same expression with numbers of its own.
    fn copy(&mut self, expr: &Expr) -> Expr {
        let offset = self.builder.offset(expr.id);
        let id = self.builder.id(offset);
        if self.builder.is_full() {
            return Expr { id, kind: ExprKind::Unspecified };
        }
        let kind = match &expr.kind {
            ExprKind::Unspecified => ExprKind::Unspecified,
            ExprKind::Literal(value) => ExprKind::Literal(value.clone()),
            ExprKind::Ident(name) => ExprKind::Ident(Arc::clone(name)),
            ExprKind::Select { operand, field, test_only } => ExprKind::Select {
                operand: Box::new(self.copy(operand)),
                field: Arc::clone(field),
                test_only: *test_only,
            },
            ExprKind::Call(old) => {
                let args = old.args.iter().map(|arg| self.copy(arg)).collect();
                let target = old.target.as_ref().map(|target| self.copy(target));
                return call(id, &old.function, target, args);
            }
            ExprKind::List { elements } => ExprKind::List {
                elements: elements
                    .iter()
                    .map(|old| ListElement { value: self.copy(&old.value), optional: old.optional })
                    .collect(),
            },
            ExprKind::Map { entries } => ExprKind::Map {
                entries: entries
                    .iter()
                    .map(|old| {
                        self.builder.id(self.place);
                        MapEntry { key: self.copy(&old.key), value: self.copy(&old.value), optional: old.optional }
                    })
                    .collect(),
            },
            ExprKind::Struct { name, fields } => ExprKind::Struct {
                name: Arc::clone(name),
                fields: fields
                    .iter()
                    .map(|old| StructField {
                        id: self.builder.id(self.place),
                        name: Arc::clone(&old.name),
                        value: self.copy(&old.value),
                        optional: old.optional,
                    })
                    .collect(),
            },
            ExprKind::Comprehension(old) => ExprKind::Comprehension(Box::new(Comprehension {
                range: self.copy(&old.range),
                variable: Arc::clone(&old.variable),
                second_variable: old.second_variable.clone(),
                accumulator: Arc::clone(&old.accumulator),
                accumulator_init: self.copy(&old.accumulator_init),
                condition: self.copy(&old.condition),
                step: self.copy(&old.step),
                result: self.copy(&old.result),
            })),
        };
        Expr { id, kind }
    }
}

/// The parts of a loop that gathers in [`ACCUMULATOR`].
struct Loop {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

fn comprehension(made: &mut Maker<'_>, range: Expr, variable: Arc<str>, second: Option<Arc<str>>, parts: Loop) -> Expr {
    made.node(ExprKind::Comprehension(Box::new(Comprehension {
        range,
        variable,
        second_variable: second,
        accumulator: ACCUMULATOR.into(),
        accumulator_init: parts.init,
        condition: parts.condition,
        step: parts.step,
        result: parts.result,
    })))
}

fn has(made: &mut Maker<'_>, args: Vec<Expr>) -> Result<Expr, Wrong> {
    match args.into_iter().next() {
        Some(Expr { kind: ExprKind::Select { operand, field, .. }, .. }) => {
            Ok(made.node(ExprKind::Select { operand, field, test_only: true }))
        }
        Some(other) => wrong(&other, "invalid argument to has() macro"),
        None => Err(Wrong(0, String::new())),
    }
}

fn variable(expr: &Expr, message: &str) -> Result<Arc<str>, Wrong> {
    match expr.as_ident() {
        Some(name) => Ok(Arc::clone(name)),
        None => wrong(expr, message),
    }
}

fn not_accumulator(expr: &Expr, name: &str) -> Result<(), Wrong> {
    if name == ACCUMULATOR || name == OLD_ACCUMULATOR {
        return wrong(expr, "iteration variable overwrites accumulator variable");
    }
    Ok(())
}

/// The variable or variables at the start of the arguments, and the arguments after them.
struct Variables {
    first: Arc<str>,
    second: Option<Arc<str>>,
    rest: std::vec::IntoIter<Expr>,
}

impl Variables {
    fn one(args: Vec<Expr>, message: &str) -> Result<(Self, Expr), Wrong> {
        let mut rest = args.into_iter();
        let Some(arg) = rest.next() else { return Err(Wrong(0, String::new())) };
        let first = variable(&arg, message)?;
        not_accumulator(&arg, &first)?;
        Ok((Self { first, second: None, rest }, arg))
    }

    fn two(args: Vec<Expr>) -> Result<Self, Wrong> {
        let mut rest = args.into_iter();
        let (Some(a), Some(b)) = (rest.next(), rest.next()) else { return Err(Wrong(0, String::new())) };
        let first = variable(&a, "argument must be a simple name")?;
        let second = variable(&b, "argument must be a simple name")?;
        if first == second {
            return wrong(&b, &format!("duplicate variable name: {first}"));
        }
        not_accumulator(&a, &first)?;
        not_accumulator(&b, &second)?;
        Ok(Self { first, second: Some(second), rest })
    }

    fn next(&mut self) -> Result<Expr, Wrong> {
        self.rest.next().ok_or_else(|| Wrong(0, String::new()))
    }

    /// A filter and what is made, or only what is made.
    fn filter_and_transform(&mut self) -> Result<(Option<Expr>, Expr), Wrong> {
        let a = self.next()?;
        Ok(match self.rest.next() {
            Some(b) => (Some(a), b),
            None => (None, a),
        })
    }
}

fn quantifier(made: &mut Maker<'_>, name: &str, target: Expr, args: Vec<Expr>) -> Result<Expr, Wrong> {
    let mut variables =
        if args.len() == 3 { Variables::two(args)? } else { Variables::one(args, "argument must be a simple name")?.0 };
    let predicate = variables.next()?;
    let parts = match name {
        "all" => {
            let init = made.literal(Value::Bool(true));
            let so_far = made.accumulator();
            let condition = made.call("@not_strictly_false", vec![so_far]);
            let so_far = made.accumulator();
            let step = made.call("_&&_", vec![so_far, predicate]);
            Loop { init, condition, step, result: made.accumulator() }
        }
        "exists" => {
            let init = made.literal(Value::Bool(false));
            let so_far = made.accumulator();
            let not = made.call("!_", vec![so_far]);
            let condition = made.call("@not_strictly_false", vec![not]);
            let so_far = made.accumulator();
            let step = made.call("_||_", vec![so_far, predicate]);
            Loop { init, condition, step, result: made.accumulator() }
        }
        _ => {
            let init = made.literal(Value::Int(0));
            let condition = made.literal(Value::Bool(true));
            let (so_far, one) = (made.accumulator(), made.literal(Value::Int(1)));
            let more = made.call("_+_", vec![so_far, one]);
            let same = made.accumulator();
            let step = made.call("_?_:_", vec![predicate, more, same]);
            let (so_far, one) = (made.accumulator(), made.literal(Value::Int(1)));
            Loop { init, condition, step, result: made.call("_==_", vec![so_far, one]) }
        }
    };
    Ok(comprehension(made, target, variables.first, variables.second, parts))
}

/// A list to which `step` appends, for the elements for which `filter` holds.
fn gathering(made: &mut Maker<'_>, init: Expr, step: Expr, filter: Option<Expr>) -> Loop {
    let condition = made.literal(Value::Bool(true));
    let step = match filter {
        Some(filter) => {
            let same = made.accumulator();
            made.call("_?_:_", vec![filter, step, same])
        }
        None => step,
    };
    Loop { init, condition, step, result: made.accumulator() }
}

fn append(made: &mut Maker<'_>, value: Expr) -> Expr {
    let so_far = made.accumulator();
    let added = made.list(vec![value]);
    made.call("_+_", vec![so_far, added])
}

fn map(made: &mut Maker<'_>, target: Expr, args: Vec<Expr>) -> Result<Expr, Wrong> {
    let (mut variables, _) = Variables::one(args, "argument is not an identifier")?;
    let (filter, transform) = variables.filter_and_transform()?;
    let init = made.list(Vec::new());
    let step = append(made, transform);
    let parts = gathering(made, init, step, filter);
    Ok(comprehension(made, target, variables.first, None, parts))
}

fn filter(made: &mut Maker<'_>, target: Expr, args: Vec<Expr>) -> Result<Expr, Wrong> {
    let (mut variables, variable) = Variables::one(args, "argument is not an identifier")?;
    let predicate = variables.next()?;
    let init = made.list(Vec::new());
    let step = append(made, variable);
    let parts = gathering(made, init, step, Some(predicate));
    Ok(comprehension(made, target, variables.first, None, parts))
}

fn transform(made: &mut Maker<'_>, name: &str, target: Expr, args: Vec<Expr>) -> Result<Expr, Wrong> {
    let mut variables = Variables::two(args)?;
    let (filter, transform) = variables.filter_and_transform()?;
    let (init, step) = if name == "transformList" {
        let step = append(made, transform);
        (made.list(Vec::new()), step)
    } else {
        let mut args = vec![made.accumulator()];
        if name == "transformMap" {
            args.push(made.ident(&variables.first));
        }
        args.push(transform);
        let step = made.call("cel.@mapInsert", args);
        (made.node(ExprKind::Map { entries: Vec::new() }), step)
    };
    let parts = gathering(made, init, step, filter);
    Ok(comprehension(made, target, variables.first, variables.second, parts))
}

/// Evaluates `result` with `name` standing for `value`.
fn bind(made: &mut Maker<'_>, name: &str, value: Expr, result: Expr) -> Expr {
    let range = made.list(Vec::new());
    let condition = made.literal(Value::Bool(false));
    let step = made.ident(name);
    made.node(ExprKind::Comprehension(Box::new(Comprehension {
        range,
        variable: UNUSED.into(),
        second_variable: None,
        accumulator: name.into(),
        accumulator_init: value,
        condition,
        step,
        result,
    })))
}

fn optional_map(made: &mut Maker<'_>, target: Expr, args: Vec<Expr>, wrap: bool) -> Result<Expr, Wrong> {
    let mut args = args.into_iter();
    let (Some(variable), Some(mapped)) = (args.next(), args.next()) else { return Err(Wrong(0, String::new())) };
    let Some(name) = variable.as_ident().cloned() else {
        let name = if wrap { "optMap" } else { "optFlatMap" };
        return wrong(&variable, &format!("{name}() variable name must be a simple identifier"));
    };
    let copied = made.copy(&target);
    let condition = made.member_call("hasValue", target, Vec::new());
    let value = made.member_call("value", copied, Vec::new());
    let mut result = bind(made, &name, value, mapped);
    if wrap {
        result = made.call("optional.of", vec![result]);
    }
    let none = made.call("optional.none", Vec::new());
    Ok(made.call("_?_:_", vec![condition, result, none]))
}

fn sort_by(made: &mut Maker<'_>, target: Expr, args: Vec<Expr>) -> Result<Expr, Wrong> {
    if !matches!(
        target.kind,
        ExprKind::List { .. }
            | ExprKind::Select { .. }
            | ExprKind::Ident(_)
            | ExprKind::Comprehension(_)
            | ExprKind::Call(_)
    ) {
        let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return wrong(&target, message);
    }
    let input = made.ident(SORT_INPUT);
    let keys = map(made, input, args)?;
    let input = made.ident(SORT_INPUT);
    let sorted = made.member_call("@sortByAssociatedKeys", input, vec![keys]);
    Ok(bind(made, SORT_INPUT, target, sorted))
}
