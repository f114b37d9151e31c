//! Names that are no identifiers, written as ones: `a__dot__b` for `a.b`.
//!
//! Compat: `Unescape` in `k8s.io/apiserver/pkg/cel/escaping.go` 0.37.2.

/// Words that are escaped as a whole (`__in__`).
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A name with escapes that do not exist.
pub(crate) struct NoEscape;

/// The name behind an escaped one; nothing if `name` has no escapes.
pub(crate) fn unescape(name: &str) -> Result<Option<String>, NoEscape> {
    if !name.contains("__") {
        return Ok(None);
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    let mut changed = false;
    while let Some(start) = rest.find("__") {
        let (before, tail) = rest.split_at(start);
        let inner = tail.get(2..).unwrap_or_default();
        // `__`, at least one character that is no underscore, `__`.
        let length = inner.find('_').unwrap_or(inner.len());
        if length == 0 || !inner.get(length..).is_some_and(|end| end.starts_with("__")) {
            let (underscore, after) = tail.split_at(1);
            out.push_str(before);
            out.push_str(underscore);
            rest = after;
            continue;
        }
        let word = inner.get(..length).unwrap_or_default();
        out.push_str(before);
        out.push_str(match word {
            "underscores" => "__",
            "dot" => ".",
            "dash" => "-",
            "slash" => "/",
            word if RESERVED.contains(&word) && length + 4 == name.len() => word,
            _ => return Err(NoEscape),
        });
        changed = true;
        rest = inner.get(length + 2..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(changed.then_some(out))
}
