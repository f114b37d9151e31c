//! Label selectors of a query: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, `a>1`, `a<1`, joined by commas.
//!
//! Compat: grammar, messages and the printed form follow `apimachinery/pkg/labels/selector.go`.

use std::fmt;

use portcullis_kube::{go, names};

/// Longest selector that is read, in bytes.
const MAX_BYTES: usize = 32 * 1024;
/// Most requirements of one selector.
const MAX_REQUIREMENTS: usize = 256;

/// A parsed selector: every requirement must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl LabelSelector {
    /// Reads a selector of at most 32 KiB and 256 requirements; an empty text selects everything.
    ///
    /// # Errors
    /// The message of the 400, in upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the label selector is longer than {MAX_BYTES} bytes"));
        }
        let mut parser = Parser { tokens: lex(text), at: 0 };
        let mut requirements = parser.requirements()?;
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(Self(requirements))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches<'o>(&self, label: impl Fn(&str) -> Option<&'o str>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value).is_some_and(|(value, limit)| value > limit),
            Operator::LessThan => self.compare(value).is_some_and(|(value, limit)| value < limit),
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

/// Sorted by key, each as it was written but for blanks and the order of its values.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Symbol(symbol) => symbol,
            Self::End => "",
        }
    }
}

/// Compat: upstream reads bytes and takes a zero byte for the end of a word or symbol, or else of the text.
fn lex(text: &str) -> Vec<Token> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(blank);
    while !rest.is_empty() && !rest.starts_with('\0') {
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            tokens.push(Token::Symbol(symbol));
            rest = rest.get(symbol.len()..).unwrap_or_default();
            // Compat: what reads symbols takes a zero byte behind them.
            rest = rest.strip_prefix('\0').unwrap_or(rest);
        } else {
            let ends = |c: char| c == '\0' || blank(c) || matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
            let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
            tokens.push(Token::Word(word.to_owned()));
            rest = after.strip_prefix('\0').unwrap_or(after);
        }
        rest = rest.trim_start_matches(blank);
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Token::End => return Ok(out),
                Token::Word(_) | Token::Symbol("!") => {
                    let requirement =
                        self.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?;
                    out.push(requirement);
                    if out.len() > MAX_REQUIREMENTS {
                        return Err(format!("the label selector has more than {MAX_REQUIREMENTS} requirements"));
                    }
                    match self.take() {
                        Token::End => return Ok(out),
                        Token::Symbol(",") => match self.peek() {
                            Token::Word(_) | Token::Symbol("!") => {}
                            other => return Err(format!("found '{}', expected: identifier after ','", other.text())),
                        },
                        other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
                    }
                }
                other @ Token::Symbol(_) => {
                    return Err(format!("found '{}', expected: !, identifier, or 'end of string'", other.text()));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = *self.peek() == Token::Symbol("!");
        if negated {
            self.take();
        }
        let key = match self.take() {
            Token::Word(word) => word,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        let wrong = names::label_key(&key);
        if !wrong.is_empty() {
            return Err(format!("<nil>: Invalid value: {}: {}", go::quote(&key), wrong.join("; ")));
        }
        let existence = |operator| Requirement { key: key.clone(), operator, values: Vec::new() };
        match self.peek() {
            Token::End | Token::Symbol(",") => {
                return Ok(existence(if negated { Operator::DoesNotExist } else { Operator::Exists }));
            }
            Token::Word(_) | Token::Symbol(_) if negated => return Ok(existence(Operator::DoesNotExist)),
            Token::Word(_) | Token::Symbol(_) => {}
        }
        let (operator, values) = match self.take() {
            Token::Symbol("=") => (Operator::Equals, vec![self.exact_value()?]),
            Token::Symbol("==") => (Operator::DoubleEquals, vec![self.exact_value()?]),
            Token::Symbol("!=") => (Operator::NotEquals, vec![self.exact_value()?]),
            Token::Symbol(">") => (Operator::GreaterThan, vec![self.exact_value()?]),
            Token::Symbol("<") => (Operator::LessThan, vec![self.exact_value()?]),
            Token::Word(word) if word == "in" => (Operator::In, self.set()?),
            Token::Word(word) if word == "notin" => (Operator::NotIn, self.set()?),
            other => {
                return Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.text()));
            }
        };
        for (index, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
                let quoted = go::quote(value);
                return Err(format!(
                    "values[{index}]: Invalid value: {quoted}: for 'Gt', 'Lt' operators, the value must be an integer"
                ));
            }
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                return Err(format!(
                    "values[{index}][{key}]: Invalid value: {}: {}",
                    go::quote(value),
                    wrong.join("; ")
                ));
            }
        }
        Ok(Requirement { key, operator, values })
    }

    /// The value after `=`; nothing there means the empty value.
    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.take() {
            Token::Word(word) => Ok(word),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    /// The values in parentheses. Between two commas, and where one begins or ends the list, stands an empty value.
    fn set(&mut self) -> Result<Vec<String>, String> {
        match self.take() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        let mut values = Vec::new();
        match self.peek() {
            Token::Word(_) | Token::Symbol(",") => {}
            Token::Symbol(")") => {
                self.take();
                return Ok(vec![String::new()]);
            }
            other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
        }
        loop {
            match self.take() {
                Token::Word(word) => {
                    values.push(word);
                    match self.peek() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                Token::Symbol(",") => {
                    if values.is_empty() || matches!(self.peek(), Token::Symbol(")" | ",")) {
                        values.push(String::new());
                    }
                    if *self.peek() == Token::Symbol(")") {
                        break;
                    }
                }
                other => return Err(format!("found '{}', expected: ',', or identifier", other.text())),
            }
        }
        self.take();
        values.sort();
        values.dedup();
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selects(selector: &str, labels: &[(&str, &'static str)]) -> bool {
        let parsed = LabelSelector::parse(selector).unwrap();
        parsed.matches(|key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
    }

    #[test]
    fn each_operator_selects_what_it_says() {
        let labels = [("a", "b"), ("n", "5"), ("e", ""), ("app.kubernetes.io/name", "dex")];
        for (selector, want) in [
            ("", true),
            ("a=b", true),
            ("a==b", true),
            ("a = b", true),
            ("a=c", false),
            ("a!=b", false),
            ("a!=c", true),
            ("missing!=c", true),
            ("a in (b,c)", true),
            ("a in (c)", false),
            ("a notin (c)", true),
            ("a notin (b)", false),
            ("missing notin (b)", true),
            ("a", true),
            ("missing", false),
            ("!missing", true),
            ("! a", false),
            ("n>4", true),
            ("n<4", false),
            ("a>4", false),
            ("e=", true),
            ("a=", false),
            ("app.kubernetes.io/name=dex,a=b", true),
            ("a=b,a=c", false),
            ("e in ()", true),
            ("a in (b,)", true),
            ("e in (,b)", true),
            ("e in (c,,b)", true),
            ("a in (c,,d)", false),
            ("a=b\u{0}", true),
            ("a in (\u{0}b)", true),
            ("a=b \u{0}no", true),
            ("a\u{0}=b", true),
            ("a=\u{0}b,\u{0}!z", true),
        ] {
            assert_eq!(selects(selector, &labels), want, "{selector}");
        }
    }

    #[test]
    fn mistakes_read_as_upstream_words_them() {
        for (selector, want) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a in (b,", "unable to parse requirement: found '', expected: ',', or identifier"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("a in (,", "unable to parse requirement: found '', expected: ',', or identifier"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("a=)", "unable to parse requirement: found ')', expected: identifier"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap_err(), want);
        }
        assert!(LabelSelector::parse("a b=c").is_err());
        assert!(LabelSelector::parse("_=c").is_err());
        assert!(LabelSelector::parse("a>x").is_err());
    }

    #[test]
    fn length_and_number_are_bounded() {
        assert!(LabelSelector::parse(&"a,".repeat(MAX_BYTES)).is_err());
        assert!(LabelSelector::parse(&format!("{}a", "a,".repeat(MAX_REQUIREMENTS - 1))).is_ok());
        assert!(LabelSelector::parse(&format!("{}a", "a,".repeat(MAX_REQUIREMENTS))).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c=!<>(), é\\u{0}]{0,40}") {
            let _ = LabelSelector::parse(&text);
        }

        #[test]
        fn equality_and_its_negation_never_agree(key in "[a-z]{1,5}", value in "[a-z]{0,5}", actual in "[a-z]{0,2}") {
            let yes = LabelSelector::parse(&format!("{key}={value}")).unwrap();
            let no = LabelSelector::parse(&format!("{key}!={value}")).unwrap();
            prop_assert_ne!(yes.matches(|_| Some(&*actual)), no.matches(|_| Some(&*actual)));
        }
    }
}
