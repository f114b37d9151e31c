//! `$NAME` in connector, storage and signer settings.
//!
//! Compat: Go `os.ExpandEnv`, which has no escape (dex.md 0.1 T4): unset names give nothing, `$$` is the name `$`, and
//! `$*`, `$#`, `$@`, `$!`, `$?`, `$-` and `$0`..`$9` are names of one character.

/// Replaces `$NAME` and `${NAME}` by what `env` says.
pub(crate) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        let after = after.strip_prefix('$').unwrap_or_default();
        if after.is_empty() {
            out.push_str(rest);
            return out;
        }
        out.push_str(before);
        let (name, length) = shell_name(after);
        match (name.is_empty(), length) {
            // `${}` and other broken forms are swallowed; a `$` before something that is no name stays.
            (true, 0) => out.push('$'),
            (true, _) => {}
            (false, _) => out.push_str(&env(name).unwrap_or_default()),
        }
        rest = after.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The name at the start of `text` (just after the `$`), and how many bytes it takes.
fn shell_name(text: &str) -> (&str, usize) {
    if let Some(braced) = text.strip_prefix('{') {
        if let Some(special) = braced.chars().next().filter(|c| is_special(*c))
            && braced.get(special.len_utf8()..).is_some_and(|r| r.starts_with('}'))
        {
            return (braced.get(..1).unwrap_or_default(), 3);
        }
        return match braced.find('}') {
            Some(0) => ("", 2),
            Some(end) => (braced.get(..end).unwrap_or_default(), end + 2),
            None => ("", 1),
        };
    }
    if text.chars().next().is_some_and(is_special) {
        return (text.get(..1).unwrap_or_default(), 1);
    }
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    (text.get(..end).unwrap_or_default(), end)
}

const fn is_special(c: char) -> bool {
    matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_as_go_does() {
        let env = |name: &str| match name {
            "HOME" => Some("/root".to_owned()),
            "A_1" => Some("x".to_owned()),
            _ => None,
        };
        for (text, want) in [
            ("plain", "plain"),
            ("$HOME/db", "/root/db"),
            ("${HOME}db", "/rootdb"),
            ("$A_1$A_1", "xx"),
            ("$NOPE.", "."),
            ("100$", "100$"),
            ("a$$b", "ab"),
            ("$1b", "b"),
            ("${}x", "x"),
            ("${HOME", "HOME"),
            ("$.x", "$.x"),
            ("${*}y", "y"),
            ("$é", "$é"),
        ] {
            assert_eq!(expand(text, &env), want, "{text}");
        }
    }
}
