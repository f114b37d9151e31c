//! Field selectors of a query: `metadata.name=x,status.phase!=Running`.
//!
//! Compat: `pkg/fields/selector.go` of apimachinery v0.37: `=`, `==` and `!=`; `\`, `,` and `=` in a value are escaped by `\`.

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldTerm {
    /// Path of the field, for example `metadata.name`.
    pub field: String,
    /// Whether the value must be equal (or must not).
    pub equal: bool,
    /// The value.
    pub value: String,
}

/// A selector, all of whose terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// In upstream's order, which sorts them as text.
    pub terms: Vec<FieldTerm>,
}

/// Text that is no selector, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// A part without an operator.
    #[error("invalid selector: '{selector}'; can't understand '{part}'")]
    NotUnderstood {
        /// All of it.
        selector: String,
        /// The part.
        part: String,
    },
    /// A backslash before another character.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    InvalidEscape(String),
    /// An `=` in a value that is not escaped. Upstream prints the character's number.
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(u32),
}

impl FieldSelector {
    /// Reads a selector; an empty text selects everything.
    ///
    /// # Errors
    /// [`FieldSelectorError`].
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let terms = parts.into_iter().filter(|part| !part.is_empty()).map(|part| {
            let (field, equal, value) = split_term(part).ok_or_else(|| FieldSelectorError::NotUnderstood {
                selector: text.to_owned(),
                part: part.to_owned(),
            })?;
            Ok(FieldTerm { field: field.to_owned(), equal, value: unescape(value)? })
        });
        Ok(Self { terms: terms.collect::<Result<_, _>>()? })
    }

    /// The value that a field must have, when the selector says so.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }

    /// Whether an object satisfies the selector. `value_of` gives a field's value, empty when the object has none.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> &'a str) -> bool {
        self.terms.iter().all(|term| (value_of(&term.field) == term.value) == term.equal)
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c| {
        let separator = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        separator
    })
    .collect()
}

fn split_term(part: &str) -> Option<(&str, bool, &str)> {
    let at = part.char_indices().find_map(|(at, c)| {
        let rest = part.get(at..)?;
        (c == '=' || rest.starts_with("!=")).then_some(at)
    })?;
    let (field, rest) = part.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, false, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, true, value))
}

fn unescape(text: &str) -> Result<String, FieldSelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                Some(other) => return Err(FieldSelectorError::InvalidEscape(format!("\\{other}"))),
                None => return Err(FieldSelectorError::InvalidEscape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(u32::from(c))),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(field: &str, equal: bool, value: &str) -> FieldTerm {
        FieldTerm { field: field.to_owned(), equal, value: value.to_owned() }
    }

    #[test]
    fn selectors_are_read_as_upstream_reads_them() {
        let table = [
            ("", vec![]),
            (",,", vec![]),
            ("metadata.name=x", vec![term("metadata.name", true, "x")]),
            ("metadata.name==x", vec![term("metadata.name", true, "x")]),
            ("b!=1,a=2", vec![term("a", true, "2"), term("b", false, "1")]),
            (r"a=x\,y\=z\\", vec![term("a", true, r"x,y=z\")]),
            ("a=", vec![term("a", true, "")]),
            ("=x", vec![term("", true, "x")]),
            ("a!b=c", vec![term("a!b", true, "c")]),
        ];
        for (text, want) in table {
            assert_eq!(FieldSelector::parse(text).map(|s| s.terms), Ok(want), "{text}");
        }
    }

    #[test]
    fn malformed_selectors_are_refused_with_upstreams_words() {
        let table = [
            ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
            ("a=1,b", "invalid selector: 'a=1,b'; can't understand 'b'"),
            (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
            (r"a=x\", r"invalid field selector: invalid escape sequence: \"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ];
        for (text, want) in table {
            assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn matching_compares_each_term() {
        let selector = FieldSelector::parse("a=1,b!=2").unwrap();
        assert!(selector.matches(|field| if field == "a" { "1" } else { "" }));
        assert!(!selector.matches(|field| if field == "a" { "1" } else { "2" }));
        assert!(!selector.matches(|_| ""));
        assert_eq!(selector.required_value("a"), Some("1"));
        assert_eq!(selector.required_value("b"), None);
    }
}
