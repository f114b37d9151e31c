//! What is checked besides types: constants that cannot be right.
//!
//! Compat: the validators of durations, timestamps, regular expressions, mixed literals and formats in cel-go
//! `cel/validator.go` and `ext/formatting.go` 0.29.2. The one of regular expressions looks at the first argument of `matches`,
//! which is the text and not the pattern where `matches` is not called on something.

use super::{Checked, Reference};
use crate::ast::{Call, Expr, ExprKind};
use crate::library::regex::{PatternError, Patterns};
use crate::library::{format, time};
use crate::source::Issues;
use crate::types::Type;
use crate::value::Value;

pub(super) fn validate(checked: &Checked) -> Issues {
    let mut issues = Issues::new(std::sync::Arc::clone(&checked.ast.source));
    let mut nodes = Vec::new();
    with_formats(&checked.ast.root, false, &mut nodes);
    let patterns = Patterns::new();
    for function in ["duration", "timestamp", "matches"] {
        for (expr, _) in &nodes {
            let ExprKind::Call(call) = &expr.kind else { continue };
            if &*call.function == function
                && let Some(argument) = call.args.first()
                && let Some(value) = argument.as_literal()
                && let Some(problem) = unacceptable(function, value, &patterns)
            {
                issues.report(checked.ast.location(argument.id), problem);
            }
        }
    }
    for (expr, in_format) in &nodes {
        if !in_format {
            mixed_list(checked, expr, &mut issues);
        }
    }
    for (expr, in_format) in &nodes {
        if !in_format {
            mixed_map(checked, expr, &mut issues);
        }
    }
    for (expr, _) in &nodes {
        if let ExprKind::Call(call) = &expr.kind {
            constant_format(checked, expr, call, &mut issues);
        }
    }
    issues
}

/// All nodes, parents first, and whether they are part of a call of `format`, where literals may be mixed.
fn with_formats<'a>(expr: &'a Expr, inside: bool, nodes: &mut Vec<(&'a Expr, bool)>) {
    nodes.push((expr, inside));
    match &expr.kind {
        ExprKind::Unspecified | ExprKind::Literal(_) | ExprKind::Ident(_) => {}
        ExprKind::Select { operand, .. } => with_formats(operand, inside, nodes),
        ExprKind::Call(call) => {
            let inside = inside || &*call.function == "format";
            call.target.iter().chain(&call.args).for_each(|part| with_formats(part, inside, nodes));
        }
        ExprKind::List { elements } => elements.iter().for_each(|element| with_formats(&element.value, inside, nodes)),
        ExprKind::Map { entries } => entries.iter().for_each(|entry| {
            with_formats(&entry.key, inside, nodes);
            with_formats(&entry.value, inside, nodes);
        }),
        ExprKind::Struct { fields, .. } => fields.iter().for_each(|field| with_formats(&field.value, inside, nodes)),
        ExprKind::Comprehension(fold) => {
            for part in [&fold.range, &fold.accumulator_init, &fold.condition, &fold.step, &fold.result] {
                with_formats(part, inside, nodes);
            }
        }
    }
}

fn unacceptable(function: &str, argument: &Value, patterns: &Patterns) -> Option<String> {
    let acceptable = match (function, argument) {
        ("duration", Value::String(text)) => time::parse_duration(text).is_some(),
        ("timestamp", Value::String(text)) => time::Timestamp::parse(text).is_some_and(|parsed| parsed.is_ok()),
        ("timestamp", Value::Int(seconds)) => time::Timestamp::from_seconds(*seconds).is_ok(),
        ("matches", Value::String(pattern)) => match patterns.compile(pattern) {
            Err(error @ PatternError::Together) => return Some(error.to_string()),
            outcome => outcome.is_ok(),
        },
        _ => false,
    };
    (!acceptable).then(|| format!("invalid {function} argument"))
}

fn mismatch(checked: &Checked, expr: &Expr, expected: &Type, actual: &Type, issues: &mut Issues) {
    let message = format!("expected type '{}' but found '{}'", expected.describe(), actual.describe());
    issues.report_with(checked.ast.location(expr.id), message, super::hints::conversion(expr, expected, actual));
}

/// The type of an element, or what an element that may be left out holds. Upstream breaks down if that is not known.
fn element_type<'a>(checked: &'a Checked, expr: &Expr, optional: bool, issues: &mut Issues) -> Option<&'a Type> {
    let type_ = checked.type_of(expr.id);
    if !optional {
        return Some(type_);
    }
    let inner = type_.params().into_iter().next();
    if inner.is_none() {
        let message = format!("an optional element cannot have the type '{}'", type_.describe());
        issues.report(checked.ast.location(expr.id), message);
    }
    inner
}

fn mixed_list(checked: &Checked, expr: &Expr, issues: &mut Issues) {
    let ExprKind::List { elements } = &expr.kind else { return };
    let mut first = None;
    for element in elements {
        let Some(type_) = element_type(checked, &element.value, element.optional, issues) else { return };
        match first {
            None => first = Some(type_),
            Some(first) if first == type_ => {}
            Some(first) => {
                mismatch(checked, &element.value, first, type_, issues);
                return;
            }
        }
    }
}

fn mixed_map(checked: &Checked, expr: &Expr, issues: &mut Issues) {
    let ExprKind::Map { entries } = &expr.kind else { return };
    let mut first = None;
    for entry in entries {
        let key = checked.type_of(entry.key.id);
        let Some(value) = element_type(checked, &entry.value, entry.optional, issues) else { return };
        let Some((first_key, first_value)) = first else {
            first = Some((key, value));
            continue;
        };
        if first_key != key {
            mismatch(checked, &entry.key, first_key, key, issues);
        }
        if first_value != value {
            mismatch(checked, &entry.value, first_value, value, issues);
        }
    }
}

fn constant_format(checked: &Checked, expr: &Expr, call: &Call, issues: &mut Issues) {
    let Some(Value::String(text)) = call.target.as_ref().and_then(Expr::as_literal) else { return };
    let [argument] = call.args.as_slice() else { return };
    let ExprKind::List { elements } = &argument.kind else { return };
    let known = match checked.references.get(&expr.id) {
        Some(Reference::Overloads(overloads)) => overloads.contains(&"string_format"),
        _ => false,
    };
    if &*call.function != "format" || !known {
        return;
    }
    let mut used = 0;
    let mut place = expr.id;
    let outcome = format::run(text, elements.len(), |index, clause| {
        used += 1;
        let Some(element) = elements.get(index) else { return Ok(String::new()) };
        match clause_fits(checked, &element.value, clause) {
            Ok(()) => Ok(String::new()),
            Err(at) => {
                place = at;
                Err(clause.complaint(checked.type_of(at).runtime_name()))
            }
        }
    });
    match outcome {
        Err(error) => issues.report(checked.ast.location(place), error.to_string()),
        Ok(_) if elements.len() > used => {
            let message =
                format!("too many arguments supplied to string.format (expected {used}, got {})", elements.len());
            issues.report(checked.ast.location(expr.id), message);
        }
        Ok(_) => {}
    }
}

fn clause_fits(checked: &Checked, expr: &Expr, clause: format::Clause) -> Result<(), crate::ast::Id> {
    let type_ = checked.type_of(expr.id);
    let fits = *type_ == Type::Dyn
        || match clause {
            format::Clause::String => !matches!(type_, Type::Any | Type::Opaque(..) | Type::Object(_)),
            format::Clause::Decimal | format::Clause::Octal => matches!(type_, Type::Int | Type::Uint),
            format::Clause::Fixed(_) | format::Clause::Scientific(_) => {
                matches!(type_, Type::Double | Type::String)
            }
            format::Clause::Binary => matches!(type_, Type::Int | Type::Uint | Type::Bool),
            format::Clause::Hex { .. } => {
                matches!(type_, Type::Int | Type::Uint | Type::String | Type::Bytes)
            }
        };
    if !fits {
        return Err(expr.id);
    }
    if clause == format::Clause::String {
        match &expr.kind {
            ExprKind::List { elements } => {
                elements.iter().try_for_each(|element| clause_fits(checked, &element.value, clause))?;
            }
            ExprKind::Map { entries } => {
                for entry in entries {
                    clause_fits(checked, &entry.key, clause)?;
                    clause_fits(checked, &entry.value, clause)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
