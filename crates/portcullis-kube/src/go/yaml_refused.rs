//! What `yaml.v2` refuses, or reads as something else, and our parser takes without a word: ends of lines of YAML 1.1, escapes, and
//! directives.
//!
//! Compat: `yaml_parser_scan_flow_scalar` of `scannerc.go`, `is_break` of `yamlprivateh.go`, and `yaml_parser_process_directives` of
//! `parserc.go` in `yaml.v2` 2.4.4.

use std::ops::Range;

/// Ends of lines there, and text here. A comment ends with them, so what looks like one may be none.
pub(super) const ODD_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// Looks at each odd end of a line as the text is read.
pub(super) struct OddBreaks<'t> {
    text: &'t str,
    places: Vec<usize>,
    /// How many of them were looked at.
    seen: usize,
}

impl<'t> OddBreaks<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, places: text.match_indices(ODD_BREAKS).map(|(at, _)| at).collect(), seen: 0 }
    }

    /// How many lines more libyaml counts before `at` than YAML 1.2 does.
    pub(super) fn before(&self, at: usize) -> usize {
        self.places.partition_point(|odd| *odd < at)
    }

    fn next_if(&mut self, wanted: impl FnOnce(usize) -> bool) -> Option<usize> {
        let at = *self.places.get(self.seen)?;
        wanted(at).then(|| {
            self.seen += 1;
            at
        })
    }

    /// Takes those before the end of a quoted text, which is the next one; inside it the separators U+2028 and U+2029 stay what they are, unless
    /// blanks or other breaks beside them are folded away.
    ///
    /// # Errors
    /// What stands outside, or means another text there.
    pub(super) fn quoted(&mut self, place: &Range<usize>) -> Result<(), String> {
        while let Some(at) = self.next_if(|at| at < place.end) {
            let (before, rest) = self.text.split_at_checked(at).unwrap_or_default();
            let mut after = rest.chars();
            let odd = after.next();
            let folds = |c: Option<char>| matches!(c, None | Some(' ' | '\t' | '\n' | '\r' | '\\' | '\u{85}'));
            let marks = after.as_str().starts_with("---") || after.as_str().starts_with("...");
            let same = at >= place.start
                && odd != Some('\u{85}')
                && !marks
                && !folds(before.chars().next_back())
                && !folds(after.next());
            if !same {
                return Err(self.refusal(at));
            }
        }
        Ok(())
    }

    /// The same of what is left at the end.
    ///
    /// # Errors
    /// What stands outside of quoted texts.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.next_if(|_| true).map_or(Ok(()), |at| Err(self.refusal(at)))
    }

    fn refusal(&self, at: usize) -> String {
        let (before, rest) = self.text.split_at_checked(at).unwrap_or_default();
        let odd = u32::from(rest.chars().next().unwrap_or_default());
        let line = before.matches(|c| c == '\n' || ODD_BREAKS.contains(&c)).count() + 1;
        format!(
            "line {line}: U+{odd:04X} ends a line in kube-apiserver's YAML; write it in double quotes, as \\u{odd:04X}"
        )
    }
}

/// Looks at the escapes of a text in double quotes, as it stands in the source.
///
/// # Errors
/// libyaml's words about the first that it does not take.
pub(super) fn escapes(source: &str) -> Result<(), &'static str> {
    let mut rest = source;
    while let Some((_, escaped)) = rest.split_once('\\') {
        let Some(code) = escaped.chars().next() else { return Ok(()) };
        rest = escaped.get(code.len_utf8()..).unwrap_or_default();
        let number = |digits: usize| rest.get(..digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let value = match code {
            '0' | 'a' | 'b' | 't' | '\t' | 'n' | 'v' | 'f' | 'r' | 'e' | ' ' | '"' | '\'' | '\\' | 'N' | '_' | 'L'
            | 'P' | '\n' | '\r' => continue,
            'x' => number(2),
            'u' => number(4),
            'U' => number(8),
            _ => return Err("found unknown escape character"),
        };
        if value.is_some_and(|value| char::from_u32(value).is_none()) {
            return Err("found invalid Unicode character escape code");
        }
    }
    Ok(())
}

/// Looks at the directives before the first document.
///
/// # Errors
/// libyaml's words, with the line.
pub(super) fn directives(text: &str) -> Result<(), String> {
    for (number, line) in text.lines().enumerate() {
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let told = match word {
            "%TAG" => continue,
            "%YAML" => {
                let version = rest.trim_start().split([' ', '\t']).next().unwrap_or_default();
                let part = |text: &str| text.parse::<u32>().ok();
                match version.split_once('.').map(|(major, minor)| (part(major), part(minor))) {
                    Some((Some(1), Some(1))) => continue,
                    _ => "found incompatible YAML document",
                }
            }
            _ if word.starts_with('%') => "found unknown directive name",
            // Blank lines and comments may come before them.
            _ if line.trim_start_matches([' ', '\t']).is_empty() || line.trim_start().starts_with('#') => continue,
            _ => return Ok(()),
        };
        return Err(format!("line {}: {told}", number + 1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_libyaml() {
        for good in ["plain", r#"\0\a\b\t\n\v\f\r\e\ \"\'\\\N\_\L\P"#, r"\x41\u00e9\U0001F600", "a\\\n  b", r"\\/"] {
            assert_eq!(escapes(good), Ok(()), "{good}");
        }
        for bad in [r"https:\/\/x", r"\q", r"\\\é", r"\1"] {
            assert_eq!(escapes(bad), Err("found unknown escape character"), "{bad}");
        }
        for bad in [r"\ud83d\ude00", r"\udfff", r"\U00110000"] {
            assert_eq!(escapes(bad), Err("found invalid Unicode character escape code"), "{bad}");
        }
    }

    #[test]
    fn directives_are_those_of_yaml_1_1() {
        for good in ["%YAML 1.1\n---\na", "# c\n\n%TAG ! tag:x:\n%YAML 1.1 # c\n---", "a: b\n%YAML 1.2", "", "--- %x"] {
            assert_eq!(directives(good), Ok(()), "{good}");
        }
        for (bad, said) in [
            ("%YAML 1.2\n---\na", "line 1: found incompatible YAML document"),
            ("# c\n%YAML 2.0\n---\na", "line 2: found incompatible YAML document"),
            ("%YAML\n---\na", "line 1: found incompatible YAML document"),
            ("%ANY x\n---\na", "line 1: found unknown directive name"),
        ] {
            assert_eq!(directives(bad).unwrap_err(), said, "{bad}");
        }
    }
}
