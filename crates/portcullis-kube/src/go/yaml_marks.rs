//! Where `yaml.v2` ends the name of an anchor or alias, and where it sees a comment.
//!
//! A name is letters, digits, `_` and `-`; what follows it without a blank, such as a colon, is the next token (`*a: b` is a
//! key, `&a:b` the text `:b`). Our parser takes everything up to a blank for the name. A comment may follow a quoted text or
//! a bracket without a blank, which our parser refuses. Both are set off with a blank, and the text is read again.
//!
//! Compat: `yaml_parser_scan_anchor` and `yaml_parser_scan_to_next_token` of `scannerc.go` in `yaml.v2` 2.4.4.

use super::yaml_flow::Rewrite;

const WANTED: &str = "did not find expected alphabetic or numeric character";

/// What is to be changed about the anchor or alias that begins at `at` with its `&` or `*`, if anything; `in_flow` says that it
/// lies inside `{…}` or `[…]`.
///
/// # Errors
/// What libyaml says of a name that it does not take.
pub(super) fn name(source: &str, at: usize, in_flow: bool) -> Result<Option<Rewrite>, &'static str> {
    let Some(text) = source.get(at..).and_then(|text| text.strip_prefix(['&', '*'])) else {
        return Ok(None);
    };
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let length = text.len() - rest.len();
    match rest.chars().next() {
        _ if length == 0 => Err(WANTED),
        // The last three end a name for our parser too.
        None | Some('\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' | ',' | ']' | '}') => Ok(None),
        Some(' ' | '\t') => {
            let value = rest.trim_start_matches([' ', '\t']);
            let is_key = in_flow
                && source.get(at..).is_some_and(|text| text.starts_with('*'))
                && value.strip_prefix(':').is_some_and(|value| value.starts_with(|c: char| !c.is_whitespace()));
            Ok(is_key.then(|| blank(source.len() - value.len() + 1)))
        }
        Some('?' | ':' | '%' | '@' | '`') => Ok(Some(blank(at + 1 + length))),
        Some(_) => Err(WANTED),
    }
}

/// The same about an anchor or alias that is the next thing from `from` on: behind blanks, comments, tags and indicators alone.
pub(super) fn next_name(source: &str, from: usize, in_flow: bool) -> Result<Option<Rewrite>, &'static str> {
    let mut rest = source.get(from..).unwrap_or_default();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ':', '-', '?', ',', '[', ']', '{', '}']);
        let next = match rest.chars().next() {
            Some('#') => rest.find(['\n', '\r']),
            Some('!') => rest.find([' ', '\t', '\n', '\r']),
            Some('&' | '*') => {
                let at = source.len() - rest.len();
                let opened = source.get(from..at).is_some_and(|passed| passed.ends_with(['[', '{']));
                return name(source, at, in_flow || opened);
            }
            Some(_) | None => None,
        };
        match next {
            Some(next) => rest = rest.get(next..).unwrap_or_default(),
            None => return Ok(None),
        }
    }
}

/// A blank at `at`.
pub(super) fn blank(at: usize) -> Rewrite {
    Rewrite { place: at..at, with: " ".to_owned() }
}

/// Whether the line with `at` begins as a directive does.
pub(super) fn in_directive(source: &str, at: usize) -> bool {
    let line = source.get(..at).and_then(|before| before.rsplit(['\n', '\r']).next());
    line.is_some_and(|line| line.starts_with('%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_libyaml_ends_it() {
        for (source, want) in [
            ("&a:b", Ok(Some(2))),
            ("*a-_9?", Ok(Some(5))),
            ("*a%", Ok(Some(2))),
            ("&a b", Ok(None)),
            ("&a", Ok(None)),
            ("&a\n", Ok(None)),
            ("*a]", Ok(None)),
            ("*a,b", Ok(None)),
            ("&a#", Err(WANTED)),
            ("&é", Err(WANTED)),
            ("& a", Err(WANTED)),
            ("a:", Ok(None)),
        ] {
            assert_eq!(name(source, 0, false).map(|change| change.map(|change| change.place.start)), want, "{source}");
        }
        for (source, in_flow, want) in [
            ("*a :b", true, Some(4)),
            ("*a \t:[", true, Some(5)),
            ("*a : b", true, None),
            ("*a :", true, None),
            ("*a :b", false, None),
            ("&a :b", true, None),
            ("*a:b", true, Some(2)),
        ] {
            let change = name(source, 0, in_flow).map(|change| change.map(|change| change.place.start));
            assert_eq!(change, Ok(want), "{source}");
        }
        for (source, want) in [
            ("x !!str  &a:b", Ok(Some(11))),
            ("x # &b:c\n  - ? &a:b", Ok(Some(17))),
            ("x !!str a &a:b", Ok(None)),
            ("x 'a' &a:b", Ok(None)),
            ("x # &a:b", Ok(None)),
            ("x &a# *b:", Err(WANTED)),
            ("x", Ok(None)),
        ] {
            assert_eq!(
                next_name(source, 2, false).map(|change| change.map(|change| change.place.start)),
                want,
                "{source}"
            );
        }
    }

    #[test]
    fn directives_are_told_by_their_line() {
        for (source, at, want) in [("%A#", 2, true), ("a\n%A#", 4, true), ("%A\n'a'#", 6, false), ("%A", 99, false)] {
            assert_eq!(in_directive(source, at), want, "{source:?}");
        }
    }
}
