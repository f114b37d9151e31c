//! The expression after macros are expanded, as it is checked and planned.

use std::sync::Arc;

use crate::source::{Location, Source};
use crate::value::Value;

/// Names a node; from 1, in the order in which upstream gives them.
pub(crate) type Id = u32;

/// The variable in which a macro gathers its result. No expression can name it.
pub(crate) const ACCUMULATOR: &str = "@result";

#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) id: Id,
    pub(crate) kind: ExprKind,
}

#[derive(Debug, Clone)]
pub(crate) enum ExprKind {
    /// Stands where an error was reported; such a tree is never checked.
    Unspecified,
    Literal(Value),
    Ident(Arc<str>),
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        test_only: bool,
    },
    Call(Box<Call>),
    List {
        elements: Vec<ListElement>,
    },
    Map {
        entries: Vec<MapEntry>,
    },
    Struct {
        name: Arc<str>,
        fields: Vec<StructField>,
    },
    Comprehension(Box<Comprehension>),
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) function: Arc<str>,
    pub(crate) target: Option<Expr>,
    pub(crate) args: Vec<Expr>,
}

#[derive(Debug, Clone)]
pub(crate) struct ListElement {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct MapEntry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct StructField {
    pub(crate) id: Id,
    pub(crate) name: Arc<str>,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// A loop over `range`, that starts with `accumulator_init` and takes `step` while `condition` holds.
#[derive(Debug, Clone)]
pub(crate) struct Comprehension {
    pub(crate) range: Expr,
    pub(crate) variable: Arc<str>,
    pub(crate) second_variable: Option<Arc<str>>,
    pub(crate) accumulator: Arc<str>,
    pub(crate) accumulator_init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}

impl Expr {
    pub(crate) fn as_ident(&self) -> Option<&Arc<str>> {
        match &self.kind {
            ExprKind::Ident(name) => Some(name),
            _ => None,
        }
    }

    pub(crate) fn as_literal(&self) -> Option<&Value> {
        match &self.kind {
            ExprKind::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// Calls `found` with variable and field of each `variable.field`, `has(variable.field)` and `variable.?field`, those of a macro's own
    /// variable included. Compat: `hasSelectExp` of `validation.go` in `k8s.io/apiserver` v0.37.
    pub(crate) fn selections<'a>(&'a self, found: &mut impl FnMut(&'a str, &'a str)) {
        match &self.kind {
            ExprKind::Unspecified | ExprKind::Literal(_) | ExprKind::Ident(_) => {}
            ExprKind::Select { operand, field, .. } => {
                if let Some(variable) = operand.as_ident() {
                    found(variable, field);
                }
                operand.selections(found);
            }
            ExprKind::Call(call) => {
                if let ("_?._", None, [operand, field]) = (&*call.function, &call.target, call.args.as_slice())
                    && let (Some(variable), Some(Value::String(field))) = (operand.as_ident(), field.as_literal())
                {
                    found(variable, field);
                }
                call.args.iter().chain(&call.target).for_each(|part| part.selections(found));
            }
            ExprKind::List { elements } => elements.iter().for_each(|element| element.value.selections(found)),
            ExprKind::Map { entries } => entries.iter().for_each(|entry| {
                entry.key.selections(found);
                entry.value.selections(found);
            }),
            ExprKind::Struct { fields, .. } => fields.iter().for_each(|field| field.value.selections(found)),
            ExprKind::Comprehension(c) => {
                [&c.range, &c.accumulator_init, &c.condition, &c.step, &c.result]
                    .into_iter()
                    .for_each(|part| part.selections(found));
            }
        }
    }

    /// `a.b.c` as one name.
    pub(crate) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            ExprKind::Ident(name) => Some(name.to_string()),
            ExprKind::Select { operand, field, test_only: false } => {
                Some(format!("{}.{field}", operand.qualified_name()?))
            }
            _ => None,
        }
    }
}

/// The tree, and where its nodes are in the text.
#[derive(Debug)]
pub(crate) struct Ast {
    pub(crate) root: Expr,
    pub(crate) offsets: Vec<Option<usize>>,
    pub(crate) source: Arc<Source>,
}

impl Ast {
    pub(crate) fn location(&self, id: Id) -> Location {
        match usize::try_from(id).ok().and_then(|id| self.offsets.get(id).copied().flatten()) {
            Some(offset) => self.source.location(offset),
            None => Location::NONE,
        }
    }
}
