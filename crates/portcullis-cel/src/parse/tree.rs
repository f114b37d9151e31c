//! What was written, before macros are expanded.

use super::lexer::Token;

/// How often a rule may be inside itself, and how many operators may be above one another.
pub(super) const MAX_DEPTH: usize = 250;

/// What was written, with offsets in code points.
pub(super) enum Tree {
    Ternary {
        condition: Node,
        op: usize,
        yes: Node,
        no: Node,
    },
    Logic {
        or: bool,
        first: Node,
        rest: Vec<(usize, Node)>,
    },
    Binary {
        op: Token,
        left: Node,
        right: Node,
    },
    /// `!` or `-`, as often as written; only an odd number counts.
    Unary {
        negate: bool,
        op: usize,
        odd: bool,
        operand: Node,
    },
    Select {
        operand: Node,
        op: usize,
        optional: bool,
        name: Token,
    },
    Index {
        operand: Node,
        op: usize,
        optional: bool,
        index: Node,
    },
    MemberCall {
        operand: Node,
        name: Token,
        open: usize,
        arguments: Vec<Node>,
    },
    Ident {
        dot: Option<usize>,
        name: Token,
    },
    Call {
        dot: Option<usize>,
        name: Token,
        open: usize,
        arguments: Vec<Node>,
    },
    List {
        open: usize,
        elements: Vec<(bool, Node)>,
    },
    Map {
        open: usize,
        entries: Vec<MapEntry>,
    },
    Message {
        dot: bool,
        names: Vec<Token>,
        open: usize,
        fields: Vec<MessageField>,
    },
    Literal {
        sign: Option<usize>,
        token: Token,
    },
    /// Stands for a part that has too many operators above one another.
    TooDeep,
}

pub(super) struct MapEntry {
    pub(super) optional: bool,
    pub(super) key: Node,
    pub(super) colon: usize,
    pub(super) value: Node,
}

pub(super) struct MessageField {
    pub(super) optional: bool,
    pub(super) name: Token,
    pub(super) colon: usize,
    pub(super) value: Node,
}

/// A tree and the most operators above one another in it. Small, because many rules hand it on, each inside the other.
pub(super) struct Node {
    pub(super) tree: Box<Tree>,
    pub(super) depth: usize,
}

impl Node {
    /// A part that does not count as a level.
    pub(super) fn flat(tree: Tree, parts: impl IntoIterator<Item = usize>) -> Self {
        Self { tree: Box::new(tree), depth: parts.into_iter().max().unwrap_or_default() }
    }

    /// An operator above its parts.
    pub(super) fn above(tree: Tree, parts: impl IntoIterator<Item = usize>) -> Self {
        let depth = parts.into_iter().max().unwrap_or_default() + 1;
        if depth > MAX_DEPTH {
            Self { tree: Box::new(Tree::TooDeep), depth: MAX_DEPTH + 1 }
        } else {
            Self { tree: Box::new(tree), depth }
        }
    }
}
