//! Text into tokens.
//!
//! Compat: the lexer rules of cel-go's `CEL.g4` as ANTLR runs them: the longest token wins, and what starts none is
//! reported and skipped together with the character at which it went wrong.

use crate::source::Source;

/// Kinds of tokens, in the order of the grammar: lists of what was expected are sorted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Eof,
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    LeftBracket,
    RightBracket,
    LeftBrace,
    RightBrace,
    LeftParen,
    RightParen,
    Dot,
    Comma,
    Minus,
    Exclamation,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Identifier,
    EscapedIdentifier,
}

impl Kind {
    const ALL: [Self; 36] = [
        Self::Eof,
        Self::Equals,
        Self::NotEquals,
        Self::In,
        Self::Less,
        Self::LessEquals,
        Self::GreaterEquals,
        Self::Greater,
        Self::And,
        Self::Or,
        Self::LeftBracket,
        Self::RightBracket,
        Self::LeftBrace,
        Self::RightBrace,
        Self::LeftParen,
        Self::RightParen,
        Self::Dot,
        Self::Comma,
        Self::Minus,
        Self::Exclamation,
        Self::Question,
        Self::Colon,
        Self::Plus,
        Self::Star,
        Self::Slash,
        Self::Percent,
        Self::True,
        Self::False,
        Self::Null,
        Self::Float,
        Self::Int,
        Self::Uint,
        Self::String,
        Self::Bytes,
        Self::Identifier,
        Self::EscapedIdentifier,
    ];

    fn display(self) -> &'static str {
        match self {
            Self::Eof => "<EOF>",
            Self::Equals => "'=='",
            Self::NotEquals => "'!='",
            Self::In => "'in'",
            Self::Less => "'<'",
            Self::LessEquals => "'<='",
            Self::GreaterEquals => "'>='",
            Self::Greater => "'>'",
            Self::And => "'&&'",
            Self::Or => "'||'",
            Self::LeftBracket => "'['",
            Self::RightBracket => "']'",
            Self::LeftBrace => "'{'",
            Self::RightBrace => "'}'",
            Self::LeftParen => "'('",
            Self::RightParen => "')'",
            Self::Dot => "'.'",
            Self::Comma => "','",
            Self::Minus => "'-'",
            Self::Exclamation => "'!'",
            Self::Question => "'?'",
            Self::Colon => "':'",
            Self::Plus => "'+'",
            Self::Star => "'*'",
            Self::Slash => "'/'",
            Self::Percent => "'%'",
            Self::True => "'true'",
            Self::False => "'false'",
            Self::Null => "'null'",
            Self::Float => "NUM_FLOAT",
            Self::Int => "NUM_INT",
            Self::Uint => "NUM_UINT",
            Self::String => "STRING",
            Self::Bytes => "BYTES",
            Self::Identifier => "IDENTIFIER",
            Self::EscapedIdentifier => "ESC_IDENTIFIER",
        }
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u64);

impl Kinds {
    pub(crate) const fn of(kinds: &[Kind]) -> Self {
        let mut bits = 0;
        let mut rest = kinds;
        while let [first, others @ ..] = rest {
            bits |= 1 << (*first as u32);
            rest = others;
        }
        Self(bits)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << (kind as u32)) != 0
    }

    /// As the grammar names them: `')'`, or `{'[', '{', IDENTIFIER}`.
    pub(crate) fn display(self) -> String {
        let names: Vec<&str> = Kind::ALL.into_iter().filter(|kind| self.contains(*kind)).map(Kind::display).collect();
        match names.as_slice() {
            [one] => (*one).to_owned(),
            many => format!("{{{}}}", many.join(", ")),
        }
    }
}

/// A token and its place, in code points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// How many of the lexer's errors had been reported when this token was found.
    pub(crate) errors: usize,
}

/// The tokens, ending with [`Kind::Eof`], and the texts that are none: (where they start, the text).
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<Token>,
    pub(crate) errors: Vec<(usize, String)>,
}

pub(crate) fn tokenize(source: &Source) -> Tokens {
    let chars = source.chars();
    let mut tokens = Vec::new();
    let mut errors: Vec<(usize, String)> = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = chars.get(at..).unwrap_or_default();
        match next(rest) {
            Found::Hidden(length) => at += length,
            Found::Token(kind, length) => {
                tokens.push(Token { kind, start: at, end: at + length, errors: errors.len() });
                at += length;
            }
            Found::Nothing(length) => {
                errors.push((at, source.text(at, at + length + 1)));
                at += length + 1;
            }
        }
    }
    tokens.push(Token { kind: Kind::Eof, start: chars.len(), end: chars.len(), errors: errors.len() });
    Tokens { tokens, errors }
}

enum Found {
    Hidden(usize),
    Token(Kind, usize),
    /// No token; so many characters could have been the start of one.
    Nothing(usize),
}

fn count(chars: &[char], accept: impl Fn(char) -> bool) -> usize {
    chars.iter().take_while(|c| accept(**c)).count()
}

fn next(rest: &[char]) -> Found {
    match rest {
        ['\t' | ' ' | '\r' | '\n' | '\u{c}', ..] => {
            Found::Hidden(count(rest, |c| matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}')))
        }
        ['/', '/', ..] => Found::Hidden(count(rest, |c| c != '\n')),
        ['0'..='9', ..] | ['.', '0'..='9', ..] => number(rest),
        ['"' | '\'', ..] => match string(rest, false) {
            Ok(length) => Found::Token(Kind::String, length),
            Err(failed) => Found::Nothing(failed),
        },
        ['`', tail @ ..] => {
            let inner = count(tail, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '));
            if inner > 0 && tail.get(inner) == Some(&'`') {
                Found::Token(Kind::EscapedIdentifier, inner + 2)
            } else {
                Found::Nothing(inner + 1)
            }
        }
        ['A'..='Z' | 'a'..='z' | '_', ..] => word(rest),
        _ => operator(rest),
    }
}

fn operator(rest: &[char]) -> Found {
    let (kind, length) = match rest {
        ['=', '=', ..] => (Kind::Equals, 2),
        ['!', '=', ..] => (Kind::NotEquals, 2),
        ['<', '=', ..] => (Kind::LessEquals, 2),
        ['>', '=', ..] => (Kind::GreaterEquals, 2),
        ['&', '&', ..] => (Kind::And, 2),
        ['|', '|', ..] => (Kind::Or, 2),
        ['<', ..] => (Kind::Less, 1),
        ['>', ..] => (Kind::Greater, 1),
        ['[', ..] => (Kind::LeftBracket, 1),
        [']', ..] => (Kind::RightBracket, 1),
        ['{', ..] => (Kind::LeftBrace, 1),
        ['}', ..] => (Kind::RightBrace, 1),
        ['(', ..] => (Kind::LeftParen, 1),
        [')', ..] => (Kind::RightParen, 1),
        ['.', ..] => (Kind::Dot, 1),
        [',', ..] => (Kind::Comma, 1),
        ['-', ..] => (Kind::Minus, 1),
        ['!', ..] => (Kind::Exclamation, 1),
        ['?', ..] => (Kind::Question, 1),
        [':', ..] => (Kind::Colon, 1),
        ['+', ..] => (Kind::Plus, 1),
        ['*', ..] => (Kind::Star, 1),
        ['/', ..] => (Kind::Slash, 1),
        ['%', ..] => (Kind::Percent, 1),
        ['=' | '&' | '|', ..] => return Found::Nothing(1),
        _ => return Found::Nothing(0),
    };
    Found::Token(kind, length)
}

/// An identifier or a keyword, or a string behind `r` or `b`.
fn word(rest: &[char]) -> Found {
    let length = count(rest, |c| c.is_ascii_alphanumeric() || c == '_');
    let (kind, prefix) = match rest {
        ['b' | 'B', 'r' | 'R', '"' | '\'', ..] => (Kind::Bytes, 2),
        ['b' | 'B', '"' | '\'', ..] => (Kind::Bytes, 1),
        ['r' | 'R', '"' | '\'', ..] => (Kind::String, 1),
        _ => (Kind::Identifier, 0),
    };
    if prefix > 0 {
        let tail = rest.get(prefix..).unwrap_or_default();
        let raw = rest.get(prefix - 1).is_some_and(|c| matches!(c, 'r' | 'R'));
        if let Ok(found) = string(tail, raw) {
            return Found::Token(kind, prefix + found);
        }
    }
    let text: String = rest.iter().take(length).collect();
    let kind = match text.as_str() {
        "in" => Kind::In,
        "true" => Kind::True,
        "false" => Kind::False,
        "null" => Kind::Null,
        _ => Kind::Identifier,
    };
    Found::Token(kind, length)
}

fn number(rest: &[char]) -> Found {
    let digit = |c: char| c.is_ascii_digit();
    if let ['0', 'x', tail @ ..] = rest {
        let hex = count(tail, |c| c.is_ascii_hexdigit());
        if hex > 0 {
            return match tail.get(hex) {
                Some('u' | 'U') => Found::Token(Kind::Uint, hex + 3),
                _ => Found::Token(Kind::Int, hex + 2),
            };
        }
    }
    let whole = count(rest, digit);
    let tail = rest.get(whole..).unwrap_or_default();
    let fraction = match tail {
        ['.', digits @ ..] => count(digits, digit),
        _ => 0,
    };
    let after = if fraction > 0 { tail.get(fraction + 1..).unwrap_or_default() } else { tail };
    let exponent = match after {
        ['e' | 'E', '+' | '-', digits @ ..] => Some(count(digits, digit)).filter(|n| *n > 0).map(|n| n + 2),
        ['e' | 'E', digits @ ..] => Some(count(digits, digit)).filter(|n| *n > 0).map(|n| n + 1),
        _ => None,
    };
    if fraction > 0 || exponent.is_some() {
        let fraction = if fraction > 0 { fraction + 1 } else { 0 };
        return Found::Token(Kind::Float, whole + fraction + exponent.unwrap_or_default());
    }
    match tail {
        ['u' | 'U', ..] => Found::Token(Kind::Uint, whole + 1),
        _ => Found::Token(Kind::Int, whole),
    }
}

/// The length of an escape at the start, or how many characters could have been one.
fn escape(rest: &[char]) -> Result<usize, usize> {
    let hex = |from: usize, wanted: usize| {
        let found = count(rest.get(from..).unwrap_or_default(), |c| c.is_ascii_hexdigit()).min(wanted);
        if found == wanted { Ok(from + wanted) } else { Err(from + found) }
    };
    match rest {
        ['\\', 'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`', ..] => Ok(2),
        ['\\', 'x' | 'X', ..] => hex(2, 2),
        ['\\', 'u', ..] => hex(2, 4),
        ['\\', 'U', ..] => hex(2, 8),
        ['\\', '0'..='3', '0'..='7', '0'..='7', ..] => Ok(4),
        ['\\', '0'..='3', '0'..='7', ..] => Err(3),
        ['\\', '0'..='3', ..] => Err(2),
        _ => Err(1),
    }
}

/// The length of a string at the start, or how many characters could have been one. There are no escapes in a `raw` one.
fn string(rest: &[char], raw: bool) -> Result<usize, usize> {
    if let [a, b, c, ..] = rest
        && a == b
        && a == c
    {
        let mut at = 3;
        loop {
            match rest.get(at..).unwrap_or_default() {
                [x, y, z, ..] if x == a && y == a && z == a => return Ok(at + 3),
                tail @ ['\\', ..] if !raw => match escape(tail) {
                    Ok(length) => at += length,
                    Err(_) => return Ok(2),
                },
                [_, ..] => at += 1,
                // Never closed: the two quotes at the start are an empty string.
                [] => return Ok(2),
            }
        }
    }
    let quote = rest.first().copied().unwrap_or('"');
    let mut at = 1;
    loop {
        match rest.get(at..).unwrap_or_default() {
            [c, ..] if *c == quote => return Ok(at + 1),
            tail @ ['\\', ..] if !raw => match escape(tail) {
                Ok(length) => at += length,
                Err(length) => return Err(at + length),
            },
            ['\n' | '\r', ..] | [] => return Err(at),
            [_, ..] => at += 1,
        }
    }
}
