//! Where `yaml.v2` ends the name of an anchor or alias and a tag, where it sees a comment, and where it takes no tab.
//!
//! A name is letters, digits, `_` and `-`; what follows it without a blank, such as a colon, is the next token (`*a: b` is a
//! key, `&a:b` the text `:b`). Our parser takes everything up to a blank for the name. A comment may follow a quoted text or
//! a bracket without a blank, which our parser refuses. Both are set off with a blank, and the text is read again.
//!
//! Compat: `yaml_parser_scan_anchor`, `_tag`, `_block_scalar` and `_to_next_token` of `scannerc.go` in `yaml.v2` 2.4.4.

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
    let Some(at) = next(source, from, &['&', '*'], '!') else { return Ok(None) };
    let opened = source.get(from..at).is_some_and(|passed| passed.ends_with(['[', '{']));
    name(source, at, in_flow || opened)
}

/// Looks at a tag that is the next thing from `from` on. libyaml lets `,`, `[` and `]` belong to it, our parser lets them end it.
///
/// # Errors
/// What libyaml says of a tag that something follows without a blank.
pub(super) fn check_tag(source: &str, from: usize) -> Result<(), &'static str> {
    let tag = next(source, from, &['!'], '&').and_then(|at| source.get(at..)).unwrap_or_default();
    let (tag, _) = tag.split_at(tag.find([' ', '\t', '\n', '\r']).unwrap_or(tag.len()));
    let verbatim = tag.strip_prefix("!<").and_then(|tag| tag.strip_suffix('>'));
    let belongs = |c: char| c.is_ascii_alphanumeric() || "_-;/?:@&=+$.!~*'()%".contains(c);
    let whole = match verbatim {
        Some(uri) => uri.chars().all(|c| belongs(c) || matches!(c, ',' | '[' | ']')),
        None => tag.chars().all(belongs),
    };
    if whole { Ok(()) } else { Err("did not find expected whitespace or line break") }
}

/// The place of one of `marks`, when nothing comes before it but blanks, comments, indicators, and what `passed` begins.
fn next(source: &str, from: usize, marks: &[char], passed: char) -> Option<usize> {
    let mut rest = source.get(from..)?;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ':', '-', '?', ',', '[', ']', '{', '}']);
        let skipped = match rest.chars().next()? {
            mark if marks.contains(&mark) => return Some(source.len() - rest.len()),
            '#' => rest.find(['\n', '\r'])?,
            mark if mark == passed => rest.find([' ', '\t', '\n', '\r'])?,
            _ => return None,
        };
        rest = rest.get(skipped..)?;
    }
}

/// Whether a tab stands before the first text of the block scalar at `at` (its `|`, or its first line), which libyaml allows only
/// where the header says how far it is indented.
pub(super) fn tab_in_indentation(source: &str, at: usize) -> bool {
    let (before, rest) = source.split_at_checked(at).unwrap_or_default();
    let (before, lines) = match rest.starts_with(['|', '>']) {
        true => (source.get(..at + rest.find(['\n', '\r']).unwrap_or(rest.len())).unwrap_or_default(), rest),
        false => {
            let header = before.trim_end_matches([' ', '\t', '\n', '\r']);
            (header, source.get(header.len()..).unwrap_or_default())
        }
    };
    let header = before.rsplit(['\n', '\r']).next().unwrap_or_default();
    let explicit = header.match_indices(['|', '>']).find_map(|(at, _)| {
        let more = header.get(at + 1..)?;
        let end = more.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
        let marks = more.strip_suffix(end)?;
        let end = end.trim_start_matches([' ', '\t']);
        (end.is_empty() || end.starts_with('#')).then(|| marks.contains(|c: char| c.is_ascii_digit()))
    });
    let first = lines.split(['\n', '\r']).skip(1).find(|line| !line.trim_start_matches(' ').is_empty());
    explicit == Some(false) && first.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'))
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
    fn a_tag_ends_with_a_blank() {
        for source in ["! a", "!!str a", "[!a b", "- &x !a\n b", "!<tag:x,2000:y> b", "!a", "x !a,b", "# !a,b"] {
            assert_eq!(check_tag(source, 0), Ok(()), "{source}");
        }
        for source in ["[!a, b", "[!a]", "!a[", "!a{b}", "!a\"b", "!a#b", "!é", "!<a>b", "&x !,"] {
            assert!(check_tag(source, 0).is_err(), "{source}");
        }
    }

    #[test]
    fn the_indentation_of_a_block_has_no_tab() {
        for (source, want) in [
            ("a: |\n \tb", true),
            ("a: | # c | 1\n\n  \n\tb", true),
            ("a: >+\r\n \tb", true),
            ("a: |\n  b\n \tc", false),
            ("a: |1\n \tb", false),
            ("a: |-1\n \tb", false),
            ("a: |1+ # c\n \tb", false),
            ("a: |", false),
        ] {
            let header = source.find(['|', '>']).unwrap();
            assert_eq!(tab_in_indentation(source, header), want, "{source:?}");
            let text = source.rfind(['b', '|']).unwrap();
            assert_eq!(tab_in_indentation(source, text), want, "{source:?} at its text");
        }
    }

    #[test]
    fn directives_are_told_by_their_line() {
        for (source, at, want) in [("%A#", 2, true), ("a\n%A#", 4, true), ("%A\n'a'#", 6, false), ("%A", 99, false)] {
            assert_eq!(in_directive(source, at), want, "{source:?}");
        }
    }
}
