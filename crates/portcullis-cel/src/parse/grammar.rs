//! Tokens into a tree of what was written.
//!
//! Compat: the rules of cel-go's `CEL.g4` 0.29.2, one function for each, with the words in which ANTLR reports the first
//! token that does not fit. Upstream goes on after it and reports what follows from guesses; here the first one is the last.
//!
//! Nesting is bounded as upstream bounds it: 250 of each rule inside itself while parsing, and 250 operators on the way from
//! the root to a leaf afterwards ([`Tree::TooDeep`]).

use super::lexer::{Kind, Kinds, Token, Tokens};
use super::tree::{MAX_DEPTH, MapEntry, MessageField, Node, Tree};
use crate::source::Source;

/// Tokens that start an expression, and those that start one without operators.
const FIRST_MEMBER: Kinds = Kinds::of(&[
    Kind::LeftBracket,
    Kind::LeftBrace,
    Kind::LeftParen,
    Kind::Dot,
    Kind::Minus,
    Kind::True,
    Kind::False,
    Kind::Null,
    Kind::Float,
    Kind::Int,
    Kind::Uint,
    Kind::String,
    Kind::Bytes,
    Kind::Identifier,
]);
const FIRST: Kinds = FIRST_MEMBER.and(Kinds::of(&[Kind::Exclamation]));
const FIRST_OPTIONAL: Kinds = FIRST.and(Kinds::of(&[Kind::Question]));
const RELATIONS: Kinds = Kinds::of(&[
    Kind::Equals,
    Kind::NotEquals,
    Kind::In,
    Kind::Less,
    Kind::LessEquals,
    Kind::GreaterEquals,
    Kind::Greater,
]);
const SUMS: Kinds = Kinds::of(&[Kind::Plus, Kind::Minus]);
const PRODUCTS: Kinds = Kinds::of(&[Kind::Star, Kind::Slash, Kind::Percent]);
const FIELD_NAMES: Kinds = Kinds::of(&[Kind::Identifier, Kind::EscapedIdentifier]);

/// Why there is no tree.
pub(super) enum Failed {
    Syntax { at: usize, message: String, lexer_errors: usize },
    Recursion { lexer_errors: usize },
}

/// Rules whose nesting is counted.
#[derive(Clone, Copy)]
enum Rule {
    Expr,
    Relation,
    Calc,
}

/// What may follow a rule in the place from which it is used, and whether that place may end the rule around it.
#[derive(Clone, Copy)]
struct Follow {
    kinds: Kinds,
    ends: bool,
}

const fn follow(kinds: &[Kind], ends: bool) -> Follow {
    Follow { kinds: Kinds::of(kinds), ends }
}

const AFTER_OPERAND: Follow = Follow { kinds: RELATIONS, ends: true };
const AFTER_TERM: Follow = Follow { kinds: SUMS.and(PRODUCTS), ends: true };
const AFTER_MEMBER: Follow = follow(&[Kind::Dot, Kind::LeftBracket], true);
const TRANSPARENT: Follow = follow(&[], true);

pub(super) struct Grammar<'a> {
    source: &'a Source,
    tokens: &'a [Token],
    at: usize,
    seen: usize,
    follows: Vec<Follow>,
    depths: [usize; 3],
}

type Parsed<T> = Result<T, Failed>;

impl<'a> Grammar<'a> {
    pub(super) fn new(source: &'a Source, tokens: &'a Tokens) -> Self {
        Self { source, tokens: &tokens.tokens, at: 0, seen: 0, follows: Vec::new(), depths: [0; 3] }
    }

    pub(super) fn start(&mut self) -> Parsed<Node> {
        let node = self.within(follow(&[Kind::Eof], false), Self::expr)?;
        self.expect(Kind::Eof)?;
        Ok(node)
    }

    fn look(&mut self, ahead: usize) -> Token {
        let index = (self.at + ahead).min(self.tokens.len().saturating_sub(1));
        self.seen = self.seen.max(index);
        self.tokens.get(index).copied().unwrap_or(Token { kind: Kind::Eof, start: 0, end: 0, errors: 0 })
    }

    fn kind(&mut self) -> Kind {
        self.look(0).kind
    }

    fn advance(&mut self) -> Token {
        let token = self.look(0);
        self.at += 1;
        self.look(0);
        token
    }

    fn take(&mut self, kind: Kind) -> Option<Token> {
        (self.kind() == kind).then(|| self.advance())
    }

    fn within<T>(&mut self, after: Follow, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.follows.push(after);
        let found = rule(self)?;
        self.follows.pop();
        Ok(found)
    }

    fn enter(&mut self, rule: Rule) -> Parsed<()> {
        let index = rule as usize;
        let lexer_errors = self.lexer_errors();
        if let Some(depth) = self.depths.get_mut(index) {
            *depth += 1;
            if *depth > MAX_DEPTH {
                return Err(Failed::Recursion { lexer_errors });
            }
        }
        Ok(())
    }

    fn leave(&mut self, rule: Rule) {
        if let Some(depth) = self.depths.get_mut(rule as usize) {
            *depth -= 1;
        }
    }

    /// How many of the lexer's errors come before what has been looked at.
    fn lexer_errors(&self) -> usize {
        self.tokens.get(self.seen).map_or(0, |token| token.errors)
    }

    /// All that may stand here: `kinds`, and if those may be left out, what may follow the rules around.
    fn expected(&self, kinds: Kinds, ends: bool) -> Kinds {
        let (mut all, mut open) = (kinds, ends);
        for outer in self.follows.iter().rev() {
            if !open {
                break;
            }
            all = all.and(outer.kinds);
            open = outer.ends;
        }
        if open { all.and(Kinds::of(&[Kind::Eof])) } else { all }
    }

    #[cold]
    #[inline(never)]
    fn fail<T>(&self, token: Token, message: String) -> Parsed<T> {
        let message = reserved(message);
        Err(Failed::Syntax { at: token.start, message, lexer_errors: self.lexer_errors() })
    }

    fn quoted(&self, token: Token) -> String {
        if token.kind == Kind::Eof {
            return "'<EOF>'".to_owned();
        }
        self.quoted_text(token.start, token.end)
    }

    fn quoted_text(&self, start: usize, end: usize) -> String {
        let text = self.source.text(start, end).replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r");
        format!("'{text}'")
    }

    #[cold]
    #[inline(never)]
    fn extraneous<T>(&mut self, expected: Kinds) -> Parsed<T> {
        let token = self.look(0);
        let message = format!("extraneous input {} expecting {}", self.quoted(token), expected.display());
        self.fail(token, message)
    }

    #[cold]
    #[inline(never)]
    fn mismatched<T>(&mut self, expected: Kinds) -> Parsed<T> {
        let token = self.look(0);
        let message = format!("mismatched input {} expecting {}", self.quoted(token), expected.display());
        self.fail(token, message)
    }

    /// No alternative fits; `from` is where the choice began, and the token `ahead` of here is the one that decides.
    #[cold]
    #[inline(never)]
    fn no_viable<T>(&mut self, from: Token, ahead: usize) -> Parsed<T> {
        let token = self.look(ahead);
        let text = if from.kind == Kind::Eof {
            "'<EOF>'".to_owned()
        } else {
            self.quoted_text(from.start, if token.kind == Kind::Eof { self.last_end() } else { token.end })
        };
        self.fail(token, format!("no viable alternative at input {text}"))
    }

    /// Up to where the text counts as input before the end: white space and comments do.
    fn last_end(&self) -> usize {
        self.source.chars().len()
    }

    /// At the start of a choice: one of `kinds`, or it is an error.
    fn choose(&mut self, kinds: Kinds) -> Parsed<()> {
        if kinds.contains(self.kind()) {
            return Ok(());
        }
        if kinds.contains(self.look(1).kind) { self.extraneous(kinds) } else { self.mismatched(kinds) }
    }

    fn expect(&mut self, kind: Kind) -> Parsed<Token> {
        self.expect_before(kind, TRANSPARENT)
    }

    /// Takes a token of `kind`; `then` is what may follow it within the rule.
    fn expect_before(&mut self, kind: Kind, then: Follow) -> Parsed<Token> {
        if let Some(token) = self.take(kind) {
            return Ok(token);
        }
        let wanted = Kinds::of(&[]).and(Kinds::of(match kind {
            Kind::Eof => &[Kind::Eof],
            Kind::RightParen => &[Kind::RightParen],
            Kind::RightBracket => &[Kind::RightBracket],
            Kind::RightBrace => &[Kind::RightBrace],
            Kind::Colon => &[Kind::Colon],
            _ => &[Kind::Identifier],
        }));
        if self.look(1).kind == kind {
            return self.extraneous(wanted);
        }
        if kind != Kind::Eof && self.expected(then.kinds, then.ends).contains(self.kind()) {
            let token = self.look(0);
            let message = format!("missing {} at {}", wanted.display(), self.quoted(token));
            return self.fail(token, message);
        }
        self.mismatched(wanted)
    }

    fn expr(&mut self) -> Parsed<Node> {
        self.enter(Rule::Expr)?;
        let condition = self.within(follow(&[Kind::Question], true), Self::or)?;
        let node = if let Some(op) = self.take(Kind::Question) {
            let yes = self.within(follow(&[Kind::Colon], false), Self::or)?;
            self.expect_before(Kind::Colon, Follow { kinds: FIRST, ends: false })?;
            let no = self.within(TRANSPARENT, Self::expr)?;
            let depths = [condition.depth, yes.depth, no.depth];
            let tree = Tree::Ternary { condition, op: op.start, yes, no };
            Node::above(tree, depths)
        } else {
            condition
        };
        self.leave(Rule::Expr);
        Ok(node)
    }

    fn or(&mut self) -> Parsed<Node> {
        self.logic(true, Kind::Or, |grammar| {
            grammar.logic(false, Kind::And, |inner| inner.within(follow(&[Kind::And], true), |g| g.relation(0)))
        })
    }

    fn logic(&mut self, or: bool, kind: Kind, mut operand: impl FnMut(&mut Self) -> Parsed<Node>) -> Parsed<Node> {
        let after = if or { follow(&[Kind::Or], true) } else { TRANSPARENT };
        let first = self.within(after, &mut operand)?;
        let mut rest = Vec::new();
        while let Some(op) = self.take(kind) {
            rest.push((op.start, self.within(after, &mut operand)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let depths: Vec<usize> = std::iter::once(first.depth).chain(rest.iter().map(|(_, node)| node.depth)).collect();
        Ok(Node::flat(Tree::Logic { or, first, rest }, depths))
    }

    fn relation(&mut self, above: u8) -> Parsed<Node> {
        self.enter(Rule::Relation)?;
        let mut node = self.within(AFTER_OPERAND, |g| g.calc(0))?;
        while above == 0 && RELATIONS.contains(self.kind()) {
            let op = self.advance();
            let right = self.within(AFTER_OPERAND, |g| g.relation(1))?;
            node = binary(op, node, right);
        }
        self.leave(Rule::Relation);
        Ok(node)
    }

    /// Sums (`above` 0 and 1) and products (`above` 0 to 2).
    fn calc(&mut self, above: u8) -> Parsed<Node> {
        self.enter(Rule::Calc)?;
        let mut node = self.within(AFTER_TERM, Self::unary)?;
        loop {
            let kind = self.kind();
            let level = if PRODUCTS.contains(kind) {
                2
            } else if SUMS.contains(kind) {
                1
            } else {
                break;
            };
            if level <= above {
                break;
            }
            let op = self.advance();
            let right = self.within(AFTER_TERM, |g| g.calc(level))?;
            node = binary(op, node, right);
        }
        self.leave(Rule::Calc);
        Ok(node)
    }

    fn unary(&mut self) -> Parsed<Node> {
        self.choose(FIRST)?;
        let first = self.look(0);
        let negate = match first.kind {
            Kind::Exclamation => false,
            Kind::Minus if !matches!(self.look(1).kind, Kind::Int | Kind::Float) => true,
            _ => return self.within(TRANSPARENT, Self::member),
        };
        let (operator, after) = if negate { (Kind::Minus, FIRST_MEMBER) } else { (Kind::Exclamation, FIRST) };
        if negate && !FIRST_MEMBER.contains(self.look(1).kind) {
            return self.no_viable(first, 1);
        }
        let mut ops = 0;
        while self.kind() == operator {
            let here = self.look(0);
            if negate && ops > 0 && !FIRST_MEMBER.contains(self.look(1).kind) {
                return self.no_viable(here, 1);
            }
            self.advance();
            ops += 1;
        }
        if !after.contains(self.kind()) {
            return self.extraneous(after);
        }
        let operand = self.within(TRANSPARENT, Self::member)?;
        let depth = operand.depth;
        let tree = Tree::Unary { negate, op: first.start, odd: ops % 2 == 1, operand };
        Ok(Node::flat(tree, [depth]))
    }

    fn member(&mut self) -> Parsed<Node> {
        let mut node = self.within(AFTER_MEMBER, Self::primary)?;
        loop {
            match self.kind() {
                Kind::Dot => node = self.dotted(node)?,
                Kind::LeftBracket => {
                    let op = self.advance().start;
                    self.choose(FIRST_OPTIONAL)?;
                    let optional = self.take(Kind::Question).is_some();
                    let index = self.within(follow(&[Kind::RightBracket], false), Self::expr)?;
                    self.expect_before(Kind::RightBracket, AFTER_MEMBER)?;
                    let depths = [node.depth, index.depth];
                    let tree = Tree::Index { operand: node, op, optional, index };
                    node = Node::above(tree, depths);
                }
                _ => return Ok(node),
            }
        }
    }

    fn dotted(&mut self, operand: Node) -> Parsed<Node> {
        let dot = self.look(0);
        match self.look(1).kind {
            Kind::Identifier | Kind::EscapedIdentifier | Kind::Question => {}
            _ => return self.no_viable(dot, 1),
        }
        self.advance();
        let call = self.kind() == Kind::Identifier && self.look(1).kind == Kind::LeftParen;
        if call {
            let name = self.advance();
            let open = self.advance().start;
            let arguments = self.arguments(AFTER_MEMBER)?;
            let depths: Vec<usize> =
                std::iter::once(operand.depth).chain(arguments.iter().map(|node| node.depth)).collect();
            return Ok(Node::above(Tree::MemberCall { operand, name, open, arguments }, depths));
        }
        let optional = self.take(Kind::Question).is_some();
        self.choose(FIELD_NAMES)?;
        let name = self.advance();
        let depth = operand.depth;
        let tree = Tree::Select { operand, op: dot.start, optional, name };
        Ok(Node::above(tree, [depth]))
    }

    /// What stands between the parentheses of a call, and the one that closes it.
    fn arguments(&mut self, then: Follow) -> Parsed<Vec<Node>> {
        self.choose(FIRST.and(Kinds::of(&[Kind::RightParen])))?;
        let mut arguments = Vec::new();
        if self.kind() != Kind::RightParen {
            self.follows.push(follow(&[Kind::RightParen], false));
            loop {
                arguments.push(self.within(follow(&[Kind::Comma], true), Self::expr)?);
                if self.take(Kind::Comma).is_none() {
                    break;
                }
            }
            self.follows.pop();
        }
        self.expect_before(Kind::RightParen, then)?;
        Ok(arguments)
    }

    fn primary(&mut self) -> Parsed<Node> {
        let first = self.look(0);
        match first.kind {
            Kind::Identifier => self.named(None),
            Kind::Dot if self.look(1).kind == Kind::Identifier => {
                self.advance();
                self.named(Some(first.start))
            }
            Kind::Dot => self.no_viable(first, 1),
            Kind::LeftParen => {
                self.advance();
                let node = self.within(follow(&[Kind::RightParen], false), Self::expr)?;
                self.expect(Kind::RightParen)?;
                Ok(node)
            }
            Kind::LeftBracket => self.list(),
            Kind::LeftBrace => self.map(),
            Kind::Minus if !matches!(self.look(1).kind, Kind::Int | Kind::Float) => self.no_viable(first, 1),
            _ => {
                let sign = self.take(Kind::Minus).map(|token| token.start);
                let token = self.advance();
                Ok(Node::flat(Tree::Literal { sign, token }, []))
            }
        }
    }

    /// A name, a call or a message, whichever the tokens after the name make it.
    fn named(&mut self, dot: Option<usize>) -> Parsed<Node> {
        let mut names = 1;
        while self.look(2 * names - 1).kind == Kind::Dot && self.look(2 * names).kind == Kind::Identifier {
            names += 1;
        }
        if self.look(2 * names - 1).kind == Kind::LeftBrace {
            return self.message(dot.is_some(), names);
        }
        let name = self.advance();
        if self.kind() != Kind::LeftParen {
            return Ok(Node::flat(Tree::Ident { dot, name }, []));
        }
        let open = self.advance().start;
        let arguments = self.arguments(TRANSPARENT)?;
        let depths: Vec<usize> = arguments.iter().map(|node| node.depth).collect();
        Ok(Node::flat(Tree::Call { dot, name, open, arguments }, depths))
    }

    fn list(&mut self) -> Parsed<Node> {
        let open = self.advance().start;
        self.choose(FIRST_OPTIONAL.and(Kinds::of(&[Kind::Comma, Kind::RightBracket])))?;
        let mut elements = Vec::new();
        if FIRST_OPTIONAL.contains(self.kind()) {
            self.follows.push(follow(&[Kind::Comma, Kind::RightBracket], false));
            loop {
                elements.push(self.within(follow(&[Kind::Comma], true), Self::optional)?);
                if self.kind() != Kind::Comma || !FIRST_OPTIONAL.contains(self.look(1).kind) {
                    break;
                }
                self.advance();
            }
            self.follows.pop();
        }
        self.close(Kind::RightBracket)?;
        let depths: Vec<usize> = elements.iter().map(|(_, node)| node.depth).collect();
        Ok(Node::flat(Tree::List { open, elements }, depths))
    }

    /// An optional comma and the end of a list, a map or a message.
    fn close(&mut self, kind: Kind) -> Parsed<()> {
        self.choose(match kind {
            Kind::RightBracket => Kinds::of(&[Kind::Comma, Kind::RightBracket]),
            _ => Kinds::of(&[Kind::Comma, Kind::RightBrace]),
        })?;
        self.take(Kind::Comma);
        self.expect(kind)?;
        Ok(())
    }

    fn optional(&mut self) -> Parsed<(bool, Node)> {
        let optional = self.take(Kind::Question).is_some();
        Ok((optional, self.within(TRANSPARENT, Self::expr)?))
    }

    fn map(&mut self) -> Parsed<Node> {
        let open = self.advance().start;
        self.choose(FIRST_OPTIONAL.and(Kinds::of(&[Kind::Comma, Kind::RightBrace])))?;
        let mut entries = Vec::new();
        if FIRST_OPTIONAL.contains(self.kind()) {
            self.follows.push(follow(&[Kind::Comma, Kind::RightBrace], false));
            loop {
                let (optional, key) = self.within(follow(&[Kind::Colon], false), Self::optional)?;
                let colon = self.expect_before(Kind::Colon, Follow { kinds: FIRST, ends: false })?.start;
                let value = self.within(follow(&[Kind::Comma], true), Self::expr)?;
                entries.push(MapEntry { optional, key, colon, value });
                if self.kind() != Kind::Comma || !FIRST_OPTIONAL.contains(self.look(1).kind) {
                    break;
                }
                self.advance();
            }
            self.follows.pop();
        }
        self.close(Kind::RightBrace)?;
        let depths: Vec<usize> = entries.iter().map(|entry| entry.key.depth.max(entry.value.depth)).collect();
        Ok(Node::flat(Tree::Map { open, entries }, depths))
    }

    fn message(&mut self, dot: bool, count: usize) -> Parsed<Node> {
        const FIELDS: Kinds = FIELD_NAMES.and(Kinds::of(&[Kind::Question]));
        let mut names = vec![self.advance()];
        while names.len() < count {
            self.advance();
            names.push(self.advance());
        }
        let open = self.advance().start;
        self.choose(FIELDS.and(Kinds::of(&[Kind::Comma, Kind::RightBrace])))?;
        let mut fields = Vec::new();
        if FIELDS.contains(self.kind()) {
            self.follows.push(follow(&[Kind::Comma, Kind::RightBrace], false));
            loop {
                let optional = self.take(Kind::Question).is_some();
                self.follows.push(follow(&[Kind::Colon], false));
                self.choose(FIELD_NAMES)?;
                let name = self.advance();
                self.follows.pop();
                let colon = self.expect_before(Kind::Colon, Follow { kinds: FIRST, ends: false })?.start;
                let value = self.within(follow(&[Kind::Comma], true), Self::expr)?;
                fields.push(MessageField { optional, name, colon, value });
                if self.kind() != Kind::Comma || !FIELDS.contains(self.look(1).kind) {
                    break;
                }
                self.advance();
            }
            self.follows.pop();
        }
        self.close(Kind::RightBrace)?;
        let depths: Vec<usize> = fields.iter().map(|field| field.value.depth).collect();
        Ok(Node::flat(Tree::Message { dot, names, open, fields }, depths))
    }
}

fn binary(op: Token, left: Node, right: Node) -> Node {
    let depths = [left.depth, right.depth];
    Node::above(Tree::Binary { op, left, right }, depths)
}

/// Upstream rewrites one message so that it did not change when its grammar did.
fn reserved(message: String) -> String {
    for word in ["true", "false", "null"] {
        if let Some(rest) = message.strip_prefix("no viable alternative at input '")
            && rest.strip_suffix('\'').is_some_and(|text| {
                text.strip_suffix(word).is_some_and(|before| before.chars().count() == 1 && before != "\n")
            })
        {
            return format!("mismatched input '{word}' expecting IDENTIFIER");
        }
    }
    message
}
