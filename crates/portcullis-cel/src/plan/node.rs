//! What is evaluated.

use std::sync::Arc;

use crate::ast::Id;
use crate::library::decls::{FunctionDecl, Op, OverloadDecl};
use crate::library::regex::Pattern;
use crate::map::Map;
use crate::value::{Trait, Value};

#[derive(Clone)]
pub(crate) enum Node {
    Const {
        id: Id,
        value: Value,
    },
    Attribute(Box<AttributeNode>),
    Logic {
        id: Id,
        or: bool,
        terms: Vec<Self>,
    },
    Equal {
        id: Id,
        negate: bool,
        left: Box<Self>,
        right: Box<Self>,
    },
    Call(Box<CallNode>),
    List {
        id: Id,
        elements: Vec<(Self, bool)>,
    },
    Map {
        id: Id,
        entries: Vec<(Self, Self, bool)>,
    },
    Struct {
        id: Id,
        name: Arc<str>,
        fields: Vec<(Arc<str>, Self, bool)>,
    },
    Fold(Box<FoldNode>),
    /// Whether a value is one of some that are known.
    Membership {
        id: Id,
        argument: Box<Self>,
        set: Map,
    },
    /// `or` and `orValue`.
    OptionalOr {
        id: Id,
        unwrap: bool,
        left: Box<Self>,
        right: Box<Self>,
    },
}

/// A variable or a value, and what is selected from it.
#[derive(Clone)]
pub(crate) struct AttributeNode {
    pub(crate) attribute: Attribute,
    /// Set for `has(…)`.
    pub(crate) test_only: Option<Id>,
}

#[derive(Clone)]
pub(crate) enum Attribute {
    Absolute { id: Id, name: Arc<str>, root: bool, qualifiers: Vec<Arc<Qualifier>> },
    Conditional { id: Id, condition: Box<Node>, yes: Box<Self>, no: Box<Self> },
    Relative { id: Id, operand: Box<Node>, qualifiers: Vec<Arc<Qualifier>> },
}

/// One step of a selection.
#[derive(Clone)]
pub(crate) struct Qualifier {
    pub(crate) id: Id,
    pub(crate) optional: bool,
    pub(crate) key: Key,
    pub(crate) test_only: bool,
}

#[derive(Clone)]
pub(crate) enum Key {
    Constant(Value),
    /// What another attribute has.
    Attribute(Attribute),
    /// What an expression comes to.
    Computed(Attribute),
}

#[derive(Clone)]
pub(crate) struct CallNode {
    pub(crate) id: Id,
    pub(crate) declared: &'static FunctionDecl,
    /// The only overload that fits the types, or nothing if they are not known well enough.
    pub(crate) overload: &'static str,
    pub(crate) args: Vec<Node>,
    pub(crate) implementation: Implementation,
    /// Whether an argument that fails keeps those behind it from being evaluated.
    pub(crate) in_turn: bool,
}

#[derive(Clone)]
pub(crate) enum Implementation {
    Singleton(Op, Option<Trait>),
    Overload(&'static OverloadDecl),
    /// The first overload that fits the values.
    Dispatch,
    Pattern(Box<Pattern>),
    NotStrictlyFalse,
}

#[derive(Clone)]
pub(crate) struct FoldNode {
    pub(crate) id: Id,
    pub(crate) accumulator: Arc<str>,
    pub(crate) init: Node,
    pub(crate) range: Node,
    pub(crate) variable: Arc<str>,
    pub(crate) second_variable: Option<Arc<str>>,
    pub(crate) condition: Node,
    pub(crate) step: Node,
    pub(crate) result: Node,
}

impl Node {
    pub(crate) fn id(&self) -> Id {
        match self {
            Self::Const { id, .. }
            | Self::Logic { id, .. }
            | Self::Equal { id, .. }
            | Self::List { id, .. }
            | Self::Map { id, .. }
            | Self::Struct { id, .. }
            | Self::Membership { id, .. }
            | Self::OptionalOr { id, .. } => *id,
            Self::Attribute(attribute) => attribute.id(),
            Self::Call(call) => call.id,
            Self::Fold(fold) => fold.id,
        }
    }

    pub(crate) fn constant(&self) -> Option<&Value> {
        match self {
            Self::Const { value, .. } => Some(value),
            _ => None,
        }
    }
}

impl AttributeNode {
    pub(crate) fn new(attribute: Attribute) -> Self {
        Self { attribute, test_only: None }
    }

    pub(crate) fn id(&self) -> Id {
        self.test_only.unwrap_or_else(|| self.attribute.id())
    }
}

impl Attribute {
    /// The number of the last step.
    pub(crate) fn id(&self) -> Id {
        match self {
            Self::Absolute { id, qualifiers, .. } | Self::Relative { id, qualifiers, .. } => {
                qualifiers.last().map_or(*id, |last| last.id)
            }
            Self::Conditional { id, yes, no, .. } => {
                if yes.id() == no.id() {
                    yes.id()
                } else {
                    *id
                }
            }
        }
    }

    /// Adds a step; to both branches of a conditional.
    pub(crate) fn qualify(&mut self, qualifier: &Arc<Qualifier>) {
        match self {
            Self::Absolute { qualifiers, .. } | Self::Relative { qualifiers, .. } => {
                qualifiers.push(Arc::clone(qualifier));
            }
            Self::Conditional { yes, no, .. } => {
                yes.qualify(qualifier);
                no.qualify(qualifier);
            }
        }
    }
}

impl Op {
    pub(crate) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// Why a value cannot be what is selected by.
pub(crate) fn qualifier_problem(value: &Value) -> Option<String> {
    match value {
        Value::String(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Double(_) => None,
        other => Some(format!("invalid qualifier type: {}", other.go_type())),
    }
}
