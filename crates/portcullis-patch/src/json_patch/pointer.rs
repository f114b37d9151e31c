//! JSON pointers and array indices as json-patch v4 takes them.
//!
//! Compat: what stands before the first `/` is not looked at; indices may have signs and leading zeros, and negative
//! ones count from the end.

use crate::go;

/// A pointer split at its slashes: the places to pass, and the last one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) through: Vec<String>,
    pub(crate) last: String,
}

impl Pointer {
    /// Splits a pointer. Without a slash it points nowhere.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut through: Vec<String> = text.split('/').skip(1).map(unescape).collect();
        let last = through.pop()?;
        Some(Self { through, last })
    }
}

/// `~1` is a slash and `~0` a tilde; any other tilde is itself.
fn unescape(token: &str) -> String {
    let mut out = String::with_capacity(token.len());
    let mut rest = token;
    while let Some(at) = rest.find('~') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let (c, length) = match after.as_bytes() {
            [b'~', b'1', ..] => ('/', 2),
            [b'~', b'0', ..] => ('~', 2),
            _ => ('~', 1),
        };
        out.push(c);
        rest = after.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The element that `token` names in a list of `length` elements.
///
/// # Errors
/// json-patch's text.
pub(crate) fn existing(token: &str, length: usize) -> Result<usize, String> {
    let index = go::atoi(token)?;
    let at = if index < 0 { from_end(index, length) } else { usize::try_from(index).ok() };
    at.filter(|at| *at < length).ok_or_else(|| outside(index))
}

/// Where `token` puts a new element into a list of `length` elements.
///
/// # Errors
/// json-patch's text.
pub(crate) fn insertion(token: &str, length: usize) -> Result<usize, String> {
    if token == "-" {
        return Ok(length);
    }
    let index = go::atoi(token).map_err(|error| format!("value was not a proper array index: '{token}': {error}"))?;
    // Compat: a negative index counts from the end of the longer list, so -1 appends.
    let at = if index < 0 { from_end(index, length + 1) } else { usize::try_from(index).ok() };
    at.filter(|at| *at <= length).ok_or_else(|| outside(index))
}

fn from_end(index: i64, length: usize) -> Option<usize> {
    length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)
}

fn outside(index: i64) -> String {
    format!("Unable to access invalid index: {index}: invalid index referenced")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_split_and_unescaped() {
        let parse = |text| Pointer::parse(text).map(|pointer| (pointer.through, pointer.last));
        assert_eq!(parse(""), None);
        assert_eq!(parse("a"), None);
        assert_eq!(parse("/"), Some((vec![], String::new())));
        assert_eq!(parse("ignored/a"), Some((vec![], "a".to_owned())));
        assert_eq!(parse("/a~1b/~01/~2~"), Some((vec!["a/b".to_owned(), "~1".to_owned()], "~2~".to_owned())));
        assert_eq!(parse("/é~0/"), Some((vec!["é~".to_owned()], String::new())));
    }

    #[test]
    fn indices_name_elements_from_both_ends() {
        for (token, want) in [("0", 0), ("2", 2), ("+1", 1), ("01", 1), ("-1", 2), ("-3", 0), ("-0", 0)] {
            assert_eq!(existing(token, 3), Ok(want), "{token}");
        }
        for token in ["3", "-4", "9223372036854775807", "-9223372036854775808"] {
            let number: i64 = token.parse().unwrap();
            assert_eq!(existing(token, 3), Err(outside(number)));
        }
        assert_eq!(existing("-", 3), Err(r#"strconv.Atoi: parsing "-": invalid syntax"#.to_owned()));
        assert_eq!(existing("0", 0), Err(outside(0)));
    }

    #[test]
    fn new_elements_go_where_the_index_says() {
        for (token, want) in [("-", 3), ("3", 3), ("0", 0), ("-1", 3), ("-4", 0)] {
            assert_eq!(insertion(token, 3), Ok(want), "{token}");
        }
        assert_eq!(insertion("4", 3), Err(outside(4)));
        assert_eq!(insertion("-5", 3), Err(outside(-5)));
        assert_eq!(
            insertion("x", 3).unwrap_err(),
            r#"value was not a proper array index: 'x': strconv.Atoi: parsing "x": invalid syntax"#
        );
    }
}
