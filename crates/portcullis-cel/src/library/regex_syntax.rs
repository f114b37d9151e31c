//! Patterns as Go reads them, written for the `regex` crate.
//!
//! Compat: Go's `regexp/syntax` with its flags `Perl`. What both engines know and mean differently is spelled out: `\d`, `\s`,
//! `\w`, `\b` and `\B` are about ASCII, flags are written around each part that they apply to, and characters that have a
//! meaning only in the crate (`&&`, `~`) are escaped.

/// A part of a pattern that an operator behind it repeats.
struct Piece {
    text: String,
    /// How often repetitions inside repeat it, multiplied.
    weight: u64,
}

/// What is between a parenthesis and the one that closes it.
struct Level {
    done: Vec<Piece>,
    alternatives: Vec<String>,
    heaviest: u64,
    /// Flags to return to behind the closing parenthesis.
    flags: Flags,
}

impl Level {
    fn new(flags: Flags) -> Self {
        Self { done: Vec::new(), alternatives: Vec::new(), heaviest: 1, flags }
    }

    /// Ends an alternative.
    fn finish(&mut self) {
        self.heaviest = self.done.iter().map(|piece| piece.weight).fold(self.heaviest, u64::max);
        self.alternatives.push(std::mem::take(&mut self.done).into_iter().map(|piece| piece.text).collect());
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    ignore_case: bool,
    lines: bool,
    dot_all: bool,
    lazy: bool,
}

const MAX_REPEAT: u64 = 1_000;
/// Parentheses inside one another; the crate's own limit is close to it.
const MAX_NESTING: usize = 200;

type Translated<T> = Result<T, String>;

fn error<T>(code: &str, at: &str) -> Translated<T> {
    Err(format!("{code}: `{at}`"))
}

/// The pattern for the crate, or what Go says is wrong with it.
pub(super) fn translate(pattern: &str) -> Translated<String> {
    let mut levels = vec![Level::new(Flags::default())];
    let mut flags = Flags::default();
    let mut rest = pattern;
    let mut last_repeat = "";
    while let Some(c) = rest.chars().next() {
        let tail = rest.get(c.len_utf8()..).unwrap_or_default();
        let nesting = levels.len();
        let Some(level) = levels.last_mut() else { break };
        let mut repeat = "";
        match c {
            '(' if tail.starts_with('?') => {
                let (group, changed, after) = perl_flags(rest, flags)?;
                if group {
                    if nesting > MAX_NESTING {
                        return error("expression nests too deeply", pattern);
                    }
                    levels.push(Level::new(flags));
                }
                flags = changed;
                rest = after;
            }
            '(' if nesting > MAX_NESTING => return error("expression nests too deeply", pattern),
            '(' => {
                levels.push(Level::new(flags));
                rest = tail;
            }
            '|' => {
                level.finish();
                rest = tail;
            }
            ')' => {
                let Some(mut closed) = (levels.len() > 1).then(|| levels.pop()).flatten() else {
                    return error("unexpected )", pattern);
                };
                closed.finish();
                flags = closed.flags;
                let text = format!("(?:{})", closed.alternatives.join("|"));
                if let Some(level) = levels.last_mut() {
                    level.done.push(Piece { text, weight: closed.heaviest });
                }
                rest = tail;
            }
            '*' | '+' | '?' => {
                repeat = rest;
                rest = apply_repeat(level, flags, &c.to_string(), 1, (rest, tail), last_repeat)?;
            }
            '{' => {
                let before = rest;
                match repetition(rest) {
                    None => {
                        push(level, literal('{', flags));
                        rest = tail;
                    }
                    Some((min, max, after)) => {
                        let shown = shorter(before, after);
                        let wrong = max.is_some_and(|max| max > MAX_REPEAT || min > max);
                        if min > MAX_REPEAT || wrong {
                            return error("invalid repeat count", shown);
                        }
                        let operator = match max {
                            None => format!("{{{min},}}"),
                            Some(max) => format!("{{{min},{max}}}"),
                        };
                        let weight = max.unwrap_or(min).max(1);
                        let weight = if min >= 2 || max.is_some_and(|max| max >= 2) { weight } else { 1 };
                        repeat = before;
                        rest = apply_repeat(level, flags, &operator, weight, (before, after), last_repeat)?;
                    }
                }
            }
            '^' => {
                push(level, if flags.lines { "(?m:^)" } else { "^" }.to_owned());
                rest = tail;
            }
            '$' => {
                push(level, if flags.lines { "(?m:$)" } else { "$" }.to_owned());
                rest = tail;
            }
            '.' => {
                push(level, if flags.dot_all { "(?s:.)" } else { "." }.to_owned());
                rest = tail;
            }
            '[' => {
                let (class, after) = class(rest, flags)?;
                push(level, class);
                rest = after;
            }
            '\\' => {
                let (texts, after) = escape(rest, flags)?;
                for text in texts {
                    push(level, text);
                }
                rest = after;
            }
            c => {
                push(level, literal(c, flags));
                rest = tail;
            }
        }
        last_repeat = repeat;
    }
    let Some(mut root) = levels.pop().filter(|_| levels.is_empty()) else {
        return error("missing closing )", pattern);
    };
    root.finish();
    Ok(root.alternatives.join("|"))
}

fn push(level: &mut Level, text: String) {
    level.done.push(Piece { text, weight: 1 });
}

/// `before` without its end `after`.
fn shorter<'a>(before: &'a str, after: &str) -> &'a str {
    before.get(..before.len() - after.len()).unwrap_or_default()
}

fn apply_repeat<'a>(
    level: &mut Level,
    flags: Flags,
    operator: &str,
    weight: u64,
    (before, after): (&str, &'a str),
    last_repeat: &str,
) -> Translated<&'a str> {
    let (lazy, after) = match after.strip_prefix('?') {
        Some(after) => (!flags.lazy, after),
        None => (flags.lazy, after),
    };
    if !last_repeat.is_empty() {
        return error("invalid nested repetition operator", shorter(last_repeat, after));
    }
    let shown = shorter(before, after);
    let Some(piece) = level.done.last_mut() else {
        return error("missing argument to repetition operator", shown);
    };
    let heavier = piece.weight.saturating_mul(weight);
    if weight > 1 && heavier > MAX_REPEAT {
        return error("invalid repeat count", shown);
    }
    piece.weight = heavier;
    piece.text = format!("(?:{}){operator}{}", piece.text, if lazy { "?" } else { "" });
    Ok(after)
}

/// `{2}`, `{2,}` or `{2,5}`; numbers that are too large are as large as can be.
fn repetition(text: &str) -> Option<(u64, Option<u64>, &str)> {
    let rest = text.strip_prefix('{')?;
    let (min, rest) = count(rest)?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((min, Some(min), rest));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((min, None, rest));
    }
    let (max, rest) = count(rest)?;
    Some((min, Some(max), rest.strip_prefix('}')?))
}

fn count(text: &str) -> Option<(u64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let digits = text.get(..length)?;
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u64::MAX), text.get(length..)?))
}

/// Behind `(?`: whether a group starts, the flags that hold now, and the rest.
fn perl_flags(text: &str, old: Flags) -> Translated<(bool, Flags, &str)> {
    for (start, skip) in [("(?P<", 4), ("(?<", 3)] {
        if text.len() > skip && text.starts_with(start) {
            let Some(end) = text.find('>') else { return error("invalid named capture", text) };
            let name = text.get(skip..end).unwrap_or_default();
            if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
                return error("invalid named capture", text.get(..=end).unwrap_or_default());
            }
            return Ok((true, old, text.get(end + 1..).unwrap_or_default()));
        }
    }
    let mut flags = old;
    let (mut on, mut saw) = (true, false);
    let mut rest = text.get(2..).unwrap_or_default();
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            'i' => flags.ignore_case = on,
            'm' => flags.lines = on,
            's' => flags.dot_all = on,
            'U' => flags.lazy = on,
            '-' if on => {
                (on, saw) = (false, false);
                continue;
            }
            ':' | ')' if on || saw => return Ok((c == ':', flags, rest)),
            _ => break,
        }
        saw = true;
    }
    error("invalid or unsupported Perl syntax", shorter(text, rest))
}

fn literal(c: char, flags: Flags) -> String {
    let plain = escaped(c);
    if flags.ignore_case { format!("(?i:{plain})") } else { plain }
}

fn escaped(c: char) -> String {
    if c.is_ascii_alphanumeric() || c == '_' || (!c.is_ascii() && !c.is_whitespace()) {
        c.to_string()
    } else {
        format!("\\x{{{:x}}}", u32::from(c))
    }
}

/// What the crate has for Perl's classes, inside and outside of brackets.
fn perl_class(text: &str) -> Option<&'static str> {
    Some(match text.get(..2)? {
        "\\d" => "[0-9]",
        "\\D" => "[^0-9]",
        "\\s" => "[\\t\\n\\x0c\\r ]",
        "\\S" => "[^\\t\\n\\x0c\\r ]",
        "\\w" => "[0-9A-Za-z_]",
        "\\W" => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

fn cased(class: &str, flags: Flags) -> String {
    if flags.ignore_case { format!("(?i:{class})") } else { class.to_owned() }
}

fn escape(text: &str, flags: Flags) -> Translated<(Vec<String>, &str)> {
    let after = text.get(2..).unwrap_or_default();
    let simple = match text.get(..2) {
        Some("\\A") => Some("\\A"),
        Some("\\b") => Some("(?-u:\\b)"),
        Some("\\B") => Some("(?-u:\\B)"),
        Some("\\z") => Some("\\z"),
        Some("\\C") => return error("invalid escape sequence", "\\C"),
        _ => None,
    };
    if let Some(simple) = simple {
        return Ok((vec![simple.to_owned()], after));
    }
    if text.starts_with("\\Q") {
        let (quoted, rest) = after.split_once("\\E").unwrap_or((after, ""));
        return Ok((quoted.chars().map(|c| literal(c, flags)).collect(), rest));
    }
    if let Some((class, rest)) = unicode_class(text)? {
        return Ok((vec![cased(&class, flags)], rest));
    }
    if let Some(class) = perl_class(text) {
        return Ok((vec![class.to_owned()], after));
    }
    let (c, rest) = escaped_character(text)?;
    Ok((vec![c.map_or_else(|| "[^\\x00-\\x{10ffff}]".to_owned(), |c| literal(c, flags))], rest))
}

/// A class by name, such as `\p{Greek}`.
fn unicode_class(text: &str) -> Translated<Option<(String, &str)>> {
    let negated = match text.get(..2) {
        Some("\\p") => false,
        Some("\\P") => true,
        _ => return Ok(None),
    };
    let rest = text.get(2..).unwrap_or_default();
    let Some(first) = rest.chars().next() else {
        // Go reads on as if it were an escape of its own.
        return Ok(None);
    };
    let (sequence, name, after) = if first == '{' {
        let Some(end) = text.find('}') else { return error("invalid character class range", text) };
        (text.get(..=end), text.get(3..end), text.get(end + 1..))
    } else {
        let end = 2 + first.len_utf8();
        (text.get(..end), text.get(2..end), text.get(end..))
    };
    let (sequence, name, after) = (sequence.unwrap_or_default(), name.unwrap_or_default(), after.unwrap_or_default());
    let (negated, name) = name.strip_prefix('^').map_or((negated, name), |name| (!negated, name));
    let class = format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' });
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' '));
    if !plain || regex::Regex::new(&class).is_err() {
        return error("invalid character class range", sequence);
    }
    Ok(Some((class, after)))
}

/// One character behind a backslash; none if its number is no character.
fn escaped_character(text: &str) -> Translated<(Option<char>, &str)> {
    let rest = text.get(1..).unwrap_or_default();
    let Some(c) = rest.chars().next() else {
        return error("trailing backslash at end of expression", "");
    };
    let mut tail = rest.get(c.len_utf8()..).unwrap_or_default();
    let octal = |text: &str| text.bytes().next().is_some_and(|b| (b'0'..=b'7').contains(&b));
    match c {
        '0'..='7' if c == '0' || octal(tail) => {
            let mut value = c.to_digit(8).unwrap_or_default();
            for _ in 1..3 {
                if !octal(tail) {
                    break;
                }
                value = value * 8 + tail.chars().next().and_then(|c| c.to_digit(8)).unwrap_or_default();
                tail = tail.get(1..).unwrap_or_default();
            }
            return Ok((char::from_u32(value), tail));
        }
        'x' => {
            if let Some(inner) = tail.strip_prefix('{') {
                let length = inner.bytes().take_while(u8::is_ascii_hexdigit).count();
                let value = u32::from_str_radix(inner.get(..length).unwrap_or_default(), 16).ok();
                let after = inner.get(length..).unwrap_or_default();
                if let Some(value) = value.filter(|value| *value <= 0x10_ffff)
                    && let Some(after) = after.strip_prefix('}')
                {
                    return Ok((char::from_u32(value), after));
                }
                // Go has read the character that is wrong, too.
                let skip = after.chars().next().map_or(0, char::len_utf8);
                return error("invalid escape sequence", shorter(text, after.get(skip..).unwrap_or_default()));
            }
            let mut digits = tail.chars();
            let (x, y) = (digits.next(), digits.next());
            if let (Some(x), Some(y)) = (x, y) {
                if let (Some(a), Some(b)) = (x.to_digit(16), y.to_digit(16)) {
                    return Ok((char::from_u32(a * 16 + b), digits.as_str()));
                }
                return error("invalid escape sequence", shorter(text, digits.as_str()));
            }
            return error("invalid escape sequence", text);
        }
        'a' => return Ok((Some('\u{7}'), tail)),
        'f' => return Ok((Some('\u{c}'), tail)),
        'n' => return Ok((Some('\n'), tail)),
        'r' => return Ok((Some('\r'), tail)),
        't' => return Ok((Some('\t'), tail)),
        'v' => return Ok((Some('\u{b}'), tail)),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => return Ok((Some(c), tail)),
        _ => {}
    }
    error("invalid escape sequence", shorter(text, tail))
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

fn class(text: &str, flags: Flags) -> Translated<(String, &str)> {
    let mut rest = text.get(1..).unwrap_or_default();
    let mut out = String::from("[");
    if let Some(tail) = rest.strip_prefix('^') {
        out.push('^');
        rest = tail;
    }
    let mut first = true;
    let mut empty = true;
    while first || !rest.starts_with(']') {
        first = false;
        if rest.starts_with("[:")
            && let Some(end) = rest.get(2..).and_then(|tail| tail.find(":]"))
        {
            let name = rest.get(..end + 4).unwrap_or_default();
            let inner = rest.get(2..end + 2).unwrap_or_default();
            if !POSIX.contains(&inner.strip_prefix('^').unwrap_or(inner)) {
                return error("invalid character class range", name);
            }
            out.push_str(name);
            empty = false;
            rest = rest.get(name.len()..).unwrap_or_default();
            continue;
        }
        if let Some((class, after)) = unicode_class(rest)? {
            out.push_str(&class);
            empty = false;
            rest = after;
            continue;
        }
        if let Some(class) = perl_class(rest) {
            out.push_str(class);
            empty = false;
            rest = rest.get(2..).unwrap_or_default();
            continue;
        }
        let range = rest;
        let (low, after) = class_character(rest, text)?;
        rest = after;
        let mut high = low;
        if let Some(tail) = rest.strip_prefix('-')
            && !tail.is_empty()
            && !tail.starts_with(']')
        {
            let (end, after) = class_character(tail, text)?;
            (high, rest) = (end, after);
            if high < low {
                return error("invalid character class range", shorter(range, rest));
            }
        }
        if let (Some(low), Some(high)) = (low, high) {
            out.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(low), u32::from(high)));
            empty = false;
        }
    }
    if empty {
        out.push_str("&&[^\\x00-\\x{10ffff}]");
    }
    out.push(']');
    Ok((cased(&out, flags), rest.get(1..).unwrap_or_default()))
}

fn class_character<'a>(text: &'a str, class: &str) -> Translated<(Option<char>, &'a str)> {
    match text.chars().next() {
        None => error("missing closing ]", class),
        Some('\\') => escaped_character(text),
        Some(c) => Ok((Some(c), text.get(c.len_utf8()..).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn go_says_what_is_wrong() {
        for (pattern, text) in [
            ("[", "missing closing ]: `[`"),
            ("a[b-", "missing closing ]: `[b-`"),
            ("(", "missing closing ): `(`"),
            (")", "unexpected ): `)`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a*?+", "invalid nested repetition operator: `*?+`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("(a{40}){40}", "invalid repeat count: `{40}`"),
            ("\\q", "invalid escape sequence: `\\q`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("(?P<n", "invalid named capture: `(?P<n`"),
            ("(?z)", "invalid or unsupported Perl syntax: `(?z`"),
            ("\\pX", "invalid character class range: `\\pX`"),
        ] {
            assert_eq!(translate(pattern).unwrap_err(), text, "{pattern}");
        }
    }

    #[test]
    fn the_same_text_matches() {
        let cases = [
            (r"^a.c$", "a\nc", false),
            (r"(?s)^a.c$", "a\nc", true),
            (r"\d+", "\u{664}", false),
            (r"[a&&b]", "&", true),
            (r"(?i)K", "k", true),
            (r"a{,2}", "a{,2}", true),
            (r"\Qa.b\E+", "a.bb", true),
            (r"x*", "", true),
            (r"[^a]", "\n", true),
            (r"(?i)a|b", "B", true),
            (r"\x{1F600}", "\u{1f600}", true),
            (r"[[:alpha:]]", "é", false),
            (r"a#b c", "a#b c", true),
        ];
        for (pattern, text, wanted) in cases {
            let translated = translate(pattern).unwrap();
            let found = regex::Regex::new(&translated).unwrap().is_match(text);
            assert_eq!(found, wanted, "{pattern} as {translated} on {text:?}");
        }
    }
}
