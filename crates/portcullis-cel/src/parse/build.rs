//! The tree of what was written into the expression that is checked.
//!
//! Compat: the visitor in cel-go `parser/parser.go` 0.29.2, with its order of node numbers.

use std::sync::Arc;

use super::lexer::{Kind, Token};
use super::macros;
use super::tree::{MAX_DEPTH, Node, Tree};
use super::unescape::unescape;
use crate::ast::{Ast, Call, Expr, ExprKind, Id, ListElement, MapEntry, StructField};
use crate::limits::NODES;
use crate::source::{Issues, Location, Source};
use crate::value::Value;

/// Words that are no names of variables or functions.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Building stops: the tree is too deep.
pub(super) struct TooDeep;

type Built<T> = Result<T, TooDeep>;

pub(super) struct Builder {
    source: Arc<Source>,
    issues: Issues,
    offsets: Vec<Option<usize>>,
    depth: usize,
}

impl Builder {
    pub(super) fn new(source: Arc<Source>, issues: Issues) -> Self {
        Self { source, issues, offsets: vec![None], depth: 0 }
    }

    pub(super) fn start(&mut self, tree: &Node) -> Option<Expr> {
        match self.visit(tree) {
            Ok(expr) => Some(expr),
            Err(TooDeep) => {
                self.issues.report(Location::NONE, "max recursion depth exceeded".to_owned());
                None
            }
        }
    }

    pub(super) fn finish(mut self, root: Option<Expr>) -> Result<Ast, Issues> {
        if self.is_full() {
            let message = format!("expression is too large when its macros are expanded: limit {NODES}");
            self.issues.report(Location::NONE, message);
        }
        match root.filter(|_| self.issues.is_empty()) {
            Some(root) => Ok(Ast { root, offsets: self.offsets, source: self.source }),
            None => Err(self.issues),
        }
    }

    pub(super) fn id(&mut self, offset: Option<usize>) -> Id {
        self.offsets.push(offset);
        Id::try_from(self.offsets.len() - 1).unwrap_or(Id::MAX)
    }

    /// Whether there are as many nodes as there may be; what is built after that is never checked.
    pub(super) fn is_full(&self) -> bool {
        self.offsets.len() > NODES
    }

    pub(super) fn offset(&self, id: Id) -> Option<usize> {
        usize::try_from(id).ok().and_then(|id| self.offsets.get(id).copied().flatten())
    }

    fn forget(&mut self, id: Id) {
        let Ok(index) = usize::try_from(id) else { return };
        if let Some(offset) = self.offsets.get_mut(index) {
            *offset = None;
        }
        if index + 1 == self.offsets.len() {
            self.offsets.pop();
        }
    }

    fn make(&mut self, offset: usize, kind: ExprKind) -> Expr {
        Expr { id: self.id(Some(offset)), kind }
    }

    fn report(&mut self, offset: Option<usize>, message: String) -> Expr {
        let location = offset.map_or(Location::NONE, |offset| self.source.location(offset));
        self.issues.report(location, message);
        Expr { id: self.id(offset), kind: ExprKind::Unspecified }
    }

    fn text(&self, token: Token) -> String {
        self.source.text(token.start, token.end)
    }

    /// A name of a field: `a`, or "`a-b`" without its quotes.
    fn field_name(&self, token: Token) -> String {
        if token.kind == Kind::EscapedIdentifier {
            self.source.text(token.start + 1, token.end - 1)
        } else {
            self.text(token)
        }
    }

    fn visit(&mut self, node: &Node) -> Built<Expr> {
        let counted = matches!(
            *node.tree,
            Tree::Ternary { .. }
                | Tree::Binary { .. }
                | Tree::Select { .. }
                | Tree::Index { .. }
                | Tree::MemberCall { .. }
                | Tree::TooDeep
        );
        if counted {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(TooDeep);
            }
        }
        let expr = self.visit_tree(&node.tree)?;
        if counted {
            self.depth -= 1;
        }
        Ok(expr)
    }

    fn visit_tree(&mut self, tree: &Tree) -> Built<Expr> {
        match tree {
            Tree::TooDeep => Err(TooDeep),
            Tree::Ternary { condition, op, yes, no } => {
                let condition = self.visit(condition)?;
                let id = self.id(Some(*op));
                let yes = self.visit(yes)?;
                let no = self.visit(no)?;
                Ok(call(id, "_?_:_", None, vec![condition, yes, no]))
            }
            Tree::Logic { or, first, rest } => {
                let mut terms = vec![self.visit(first)?];
                let mut ops = Vec::new();
                for (op, term) in rest {
                    terms.push(self.visit(term)?);
                    ops.push(self.id(Some(*op)));
                }
                let function = if *or { "_||_" } else { "_&&_" };
                let mut terms = terms.into_iter();
                Ok(balanced(function, &ops, &mut terms).unwrap_or_else(|| self.report(None, String::new())))
            }
            Tree::Binary { op, left, right } => {
                let left = self.visit(left)?;
                let id = self.id(Some(op.start));
                let right = self.visit(right)?;
                Ok(call(id, operator(op.kind), None, vec![left, right]))
            }
            Tree::Unary { negate, op, odd, operand } => {
                if !odd {
                    return self.visit(operand);
                }
                let id = self.id(Some(*op));
                let operand = self.visit(operand)?;
                Ok(call(id, if *negate { "-_" } else { "!_" }, None, vec![operand]))
            }
            Tree::Select { operand, op, optional, name } => {
                let operand = self.visit(operand)?;
                let field: Arc<str> = self.field_name(*name).into();
                if *optional {
                    let field = self.make(name.start, ExprKind::Literal(Value::String(field)));
                    let id = self.id(Some(*op));
                    return Ok(call(id, "_?._", None, vec![operand, field]));
                }
                Ok(self.make(*op, ExprKind::Select { operand: Box::new(operand), field, test_only: false }))
            }
            Tree::Index { operand, op, optional, index } => {
                let operand = self.visit(operand)?;
                let id = self.id(Some(*op));
                let index = self.visit(index)?;
                Ok(call(id, if *optional { "_[?_]" } else { "_[_]" }, None, vec![operand, index]))
            }
            Tree::MemberCall { operand, name, open, arguments } => {
                let operand = self.visit(operand)?;
                let id = self.id(Some(*open));
                let args = self.visit_all(arguments)?;
                let name = self.text(*name);
                Ok(self.call_or_macro(id, &name, Some(operand), args))
            }
            Tree::Ident { dot, name } => {
                let text = self.text(*name);
                let start = dot.unwrap_or(name.start);
                if RESERVED.contains(&text.as_str()) {
                    return Ok(self.report(Some(start), format!("reserved identifier: {text}")));
                }
                let text = if dot.is_some() { format!(".{text}") } else { text };
                Ok(self.make(name.start, ExprKind::Ident(text.into())))
            }
            Tree::Call { dot, name, open, arguments } => {
                let text = self.text(*name);
                let start = dot.unwrap_or(name.start);
                if RESERVED.contains(&text.as_str()) {
                    return Ok(self.report(Some(start), format!("reserved identifier: {text}")));
                }
                let text = if dot.is_some() { format!(".{text}") } else { text };
                let id = self.id(Some(*open));
                let args = self.visit_all(arguments)?;
                Ok(self.call_or_macro(id, &text, None, args))
            }
            Tree::List { open, elements } => {
                let id = self.id(Some(*open));
                let mut made = Vec::with_capacity(elements.len());
                for (optional, element) in elements {
                    made.push(ListElement { value: self.visit(element)?, optional: *optional });
                }
                Ok(Expr { id, kind: ExprKind::List { elements: made } })
            }
            Tree::Map { open, entries } => {
                let id = self.id(Some(*open));
                let mut made = Vec::with_capacity(entries.len());
                for entry in entries {
                    self.id(Some(entry.colon));
                    let key = self.visit(&entry.key)?;
                    let value = self.visit(&entry.value)?;
                    made.push(MapEntry { key, value, optional: entry.optional });
                }
                Ok(Expr { id, kind: ExprKind::Map { entries: made } })
            }
            Tree::Message { dot, names, open, fields } => {
                let path: Vec<String> = names.iter().map(|name| self.text(*name)).collect();
                let name = format!("{}{}", if *dot { "." } else { "" }, path.join("."));
                let id = self.id(Some(*open));
                let mut made = Vec::with_capacity(fields.len());
                for field in fields {
                    let field_id = self.id(Some(field.colon));
                    let name = self.field_name(field.name).into();
                    let value = self.visit(&field.value)?;
                    made.push(StructField { id: field_id, name, value, optional: field.optional });
                }
                Ok(Expr { id, kind: ExprKind::Struct { name: name.into(), fields: made } })
            }
            Tree::Literal { sign, token } => Ok(self.literal(*sign, *token)),
        }
    }

    fn visit_all(&mut self, nodes: &[Node]) -> Built<Vec<Expr>> {
        nodes.iter().map(|node| self.visit(node)).collect()
    }

    fn literal(&mut self, sign: Option<usize>, token: Token) -> Expr {
        let start = sign.unwrap_or(token.start);
        let text = self.text(token);
        let signed = |text: &str| if sign.is_some() { format!("-{text}") } else { text.to_owned() };
        let value = match token.kind {
            Kind::Int => {
                let (digits, radix) = text.strip_prefix("0x").map_or((text.as_str(), 10), |hex| (hex, 16));
                i64::from_str_radix(&signed(digits), radix).map(Value::Int).map_err(|_| "invalid int literal")
            }
            Kind::Uint => {
                let text = text.get(..text.len() - 1).unwrap_or_default();
                let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
                u64::from_str_radix(digits, radix).map(Value::Uint).map_err(|_| "invalid uint literal")
            }
            Kind::Float => match signed(&text).parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Value::Double(number)),
                _ => Err("invalid double literal"),
            },
            Kind::String => unescape(&text, false).map(|bytes| Value::from(String::from_utf8_lossy(&bytes).as_ref())),
            Kind::Bytes => unescape(text.get(1..).unwrap_or_default(), true).map(|bytes| Value::Bytes(bytes.into())),
            Kind::True => Ok(Value::Bool(true)),
            Kind::False => Ok(Value::Bool(false)),
            _ => Ok(Value::Null),
        };
        match value {
            Ok(value) => self.make(start, ExprKind::Literal(value)),
            Err(message) => self.report(Some(start), message.to_owned()),
        }
    }

    fn call_or_macro(&mut self, id: Id, name: &str, target: Option<Expr>, args: Vec<Expr>) -> Expr {
        match macros::expand(self, id, name, target, args) {
            macros::Expanded::No { target, args } => call(id, name, target, args),
            macros::Expanded::Yes(expr) => {
                self.forget(id);
                expr
            }
            macros::Expanded::Wrong { at, message } => {
                let offset = self.offset(at);
                self.forget(id);
                self.report(offset, message)
            }
        }
    }
}

pub(super) fn call(id: Id, function: &str, target: Option<Expr>, args: Vec<Expr>) -> Expr {
    Expr { id, kind: ExprKind::Call(Box::new(Call { function: function.into(), target, args })) }
}

fn operator(kind: Kind) -> &'static str {
    match kind {
        Kind::Equals => "_==_",
        Kind::NotEquals => "_!=_",
        Kind::In => "@in",
        Kind::Less => "_<_",
        Kind::LessEquals => "_<=_",
        Kind::GreaterEquals => "_>=_",
        Kind::Greater => "_>_",
        Kind::Plus => "_+_",
        Kind::Minus => "_-_",
        Kind::Star => "_*_",
        Kind::Slash => "_/_",
        _ => "_%_",
    }
}

/// `a && b && c && d` as a tree that is as low as it can be.
fn balanced(function: &str, ops: &[Id], terms: &mut impl Iterator<Item = Expr>) -> Option<Expr> {
    if ops.is_empty() {
        return terms.next();
    }
    let middle = ops.len() / 2;
    let (before, rest) = ops.split_at(middle);
    let (op, after) = rest.split_first()?;
    let left = balanced(function, before, terms)?;
    let right = balanced(function, after, terms)?;
    Some(call(*op, function, None, vec![left, right]))
}
