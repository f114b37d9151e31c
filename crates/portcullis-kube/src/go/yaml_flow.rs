//! Where `yaml.v2` and our parser cut a plain scalar inside `{…}` or `[…]` differently.
//!
//! YAML 1.1 as libyaml reads it: there `?` and `:` are indicators wherever a token may begin, with a blank after them or
//! not; `?` ends a scalar; and `:` belongs to the scalar unless a blank follows (`{a:{b: c}}` is broken, `[a:]` is a text).
//! Our parser follows YAML 1.2. A scalar that it found and that libyaml would not is written in a way that both read alike,
//! and the text is read again.
//!
//! Compat: `scannerc.go` of `yaml.v2` 2.4.4.

use std::ops::Range;

/// A change of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewrite {
    /// The bytes to replace.
    pub(super) place: Range<usize>,
    /// What to put there; it has no line break.
    pub(super) with: String,
}

/// What is to be changed about the plain scalar at `place` inside a flow collection, if anything.
///
/// # Errors
/// What libyaml says where it would end the scalar.
pub(super) fn rewrite(source: &str, place: Range<usize>) -> Result<Option<Rewrite>, String> {
    let Some((scalar, rest)) = source.get(place.start..).and_then(|from| from.split_at_checked(place.len())) else {
        return Ok(None);
    };
    if scalar.is_empty() {
        // Nothing is written where a value may be left out.
        return Ok(None);
    }
    if scalar.starts_with(['?', ':']) {
        let after = place.start + 1;
        return Ok(Some(Rewrite { place: after..after, with: " ".to_owned() }));
    }
    if scalar.contains('?') {
        return Err("did not find expected ',' or the end of the collection".to_owned());
    }
    let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    let (blanks, rest) = rest.split_at(blanks);
    if !rest.strip_prefix(':').is_some_and(|rest| rest.starts_with([',', '[', ']', '{', '}'])) {
        return Ok(None);
    }
    // Such a text is no number and no word of YAML's, so quotes do not change what it means.
    let whole = format!("{scalar}{blanks}:");
    let end = place.start + whole.len();
    let with = serde_json::to_string(&whole).map_err(|error| error.to_string())?;
    // A scalar of several lines keeps its lines for messages.
    if with.contains("\\n") { Ok(None) } else { Ok(Some(Rewrite { place: place.start..end, with })) }
}

/// Whether the name at `place` in `{…}` and its `:` lie on several lines, which YAML 1.2 allows there and libyaml does only
/// after `?`.
pub(super) fn is_key_of_lines(source: &str, place: Range<usize>) -> bool {
    let (Some(before), Some(name), Some(mut rest)) =
        (source.get(..place.start), source.get(place.clone()), source.get(place.end..))
    else {
        return false;
    };
    let mut over = name.contains(BREAKS);
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(next) = rest.strip_prefix(BREAKS) {
            rest = next;
            over = true;
        } else if rest.starts_with('#') {
            rest = rest.trim_start_matches(|c| !BREAKS.contains(&c));
        } else {
            break;
        }
    }
    over && rest.starts_with(':') && !before.trim_end().ends_with('?')
}

/// What ends a line for libyaml.
const BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: &str, scalar: &str) -> Result<Option<String>, String> {
        let start = source.find(scalar).unwrap();
        let change = rewrite(source, start..start + scalar.len())?;
        Ok(change.map(|Rewrite { place, with }| {
            let mut text = source.to_owned();
            text.replace_range(place, &with);
            text
        }))
    }

    #[test]
    fn indicators_get_the_blank_that_our_parser_needs() {
        for (source, scalar, want) in [
            ("{?a: b}", "?a", "{? a: b}"),
            ("{?}", "?", "{? }"),
            ("[:a]", ":a", "[: a]"),
            ("[a:]", "a", r#"["a:"]"#),
            ("[\\ :,b]", "\\", r#"["\\ :",b]"#),
        ] {
            assert_eq!(of(source, scalar), Ok(Some(want.to_owned())), "{source}");
        }
    }

    #[test]
    fn a_question_mark_ends_a_scalar_and_other_scalars_are_left_alone() {
        assert!(of("[a?b]", "a?b").is_err());
        for (source, scalar) in [("[a: b]", "a"), ("[a:b]", "a:b"), ("[a]", "a"), ("{a : b}", "a")] {
            assert_eq!(of(source, scalar), Ok(None), "{source}");
        }
    }

    #[test]
    fn a_name_and_its_colon_are_on_one_line() {
        for (source, name, over) in [
            ("{a: b}", "a", false),
            ("{a : b}", "a", false),
            ("{a\n: b}", "a", true),
            ("{a # c\n  : b}", "a", true),
            ("{a\rb: c}", "a\rb", true),
            ("{\"a\nb\": c}", "\"a\nb\"", true),
            ("{? a\n: b}", "a", false),
            ("{a\n, b: c}", "a", false),
            ("{a\n}", "a", false),
        ] {
            let start = source.find(name).unwrap();
            assert_eq!(is_key_of_lines(source, start..start + name.len()), over, "{source:?}");
        }
    }
}
