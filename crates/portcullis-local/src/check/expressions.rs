//! What to change about an expression that fails for a token, or comes to what kube-apiserver does not take.
//!
//! The reason is upstream's. The claims that the expression names, and what the token holds under these names, tell the rest.

use serde_json::Value;

use super::hints::{CLAIMS_NAMED, spelled};
use super::view::Case;

/// What a function of lists makes, which kube-apiserver does not take for groups and extra unless it is mapped.
const MAKERS: [&str; 2] = [".split(", ".findAll("];
/// What is written behind a list alone.
const OF_LISTS: [&str; 6] = [".exists(", ".exists_one(", ".all(", ".map(", ".filter(", ".join("];

/// What an expression has to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A text, and not the empty one.
    Name,
    Text,
    /// A text or a list of texts.
    Texts,
    Truth,
}

/// What to do about the failure `text` of an expression, which is `expression` where the text does not say it. `place` is its
/// setting.
pub(crate) fn hint(text: &str, expression: &str, wanted: Wanted, place: &str, case: &Case<'_>) -> String {
    let failed = text.strip_prefix("expression '").and_then(|rest| rest.rsplit_once("' resulted in error: "));
    let (expression, reason) = failed.unwrap_or((expression, text));
    if reason.contains("actual cost limit exceeded") {
        return format!(
            "the expression at {place} costs more for this token than kube-apiserver lets it: an exists, map or filter inside another, \
             and what is done to long lists and texts, cost most; look at fewer elements, or let the provider send fewer"
        );
    }
    if let Some((_, key)) = reason.split_once("no such key: ") {
        return missing(expression, key, wanted, place, case);
    }
    if reason.contains("must return a string") {
        if wanted == Wanted::Texts && MAKERS.iter().any(|maker| expression.contains(maker)) {
            return format!(
                "kube-apiserver takes no list as split and findAll make it: write .map(x, x) behind it at {place}"
            );
        }
        return unsuited(expression, wanted, place, case);
    }
    if reason.contains("no such overload") || reason.contains("expected iterable type") || reason.contains("range type")
    {
        return overload(expression, place, case);
    }
    if reason.contains("index out of bounds") {
        return format!("the list is shorter than the expression at {place} expects: ask for its size(…) first");
    }
    if reason.contains("optional.none() dereference") {
        return format!(
            "what value() is asked of is missing: write orValue('') in its place at {place}, or let the provider send it"
        );
    }
    if reason.contains("type conversion error") {
        let told = told(&selections(expression), case);
        return format!(
            "a claim does not hold what the expression at {place} makes of it{told}: test it first, as with matches(…)"
        );
    }
    format!("correct the expression at {place}")
}

/// For a claim, or a member of one, that is not there.
fn missing(expression: &str, key: &str, wanted: Wanted, place: &str, case: &Case<'_>) -> String {
    if let Some(selected) = selections(expression).iter().find(|one| one.name == key) {
        if let Some(other) = case.odd_case(key) {
            return spelled(key, other, place);
        }
        if wanted == Wanted::Name {
            let texts = case.text_claims(CLAIMS_NAMED);
            return format!(
                "the token has no {key}: let the provider send it, or name a claim that is there at {place}: {texts}"
            );
        }
        let default = if selected.as_list || (wanted == Wanted::Texts && selected.alone) { "[]" } else { "''" };
        let write = format!("write claims.?{key}.orValue({default}) at {place}, or ask has(claims.{key}) first");
        // A rule refuses today; what is to stand in may let in who has none, which is not ours to decide.
        return if wanted == Wanted::Truth {
            format!("the token has no {key}: let the provider send it; if who has none may come in, {write}")
        } else {
            format!("the token has no {key}: {write}, or let the provider send it")
        };
    }
    let ask = match (path_to(expression, key), map_with(expression, key)) {
        (Some(path), _) => format!("has({path})"),
        // Upstream's claims are no map for `in`.
        (None, Some("claims")) => format!("claims[?'{key}'].orValue('')"),
        (None, Some(map)) => format!("'{key}' in {map}"),
        (None, None) => format!("{key:?} in x"),
    };
    format!(
        "what the expression at {place} reads has no {key:?}: ask for it first, as in: {ask}, or let the provider send it"
    )
}

/// For a value that is of another type than the user's part.
fn unsuited(expression: &str, wanted: Wanted, place: &str, case: &Case<'_>) -> String {
    let wants_list = wanted == Wanted::Texts;
    for Selection { name, .. } in selections(expression) {
        let Some(value) = case.claim(name) else { continue };
        let instead = match value {
            Value::String(_) => continue,
            Value::Number(number) if number.as_f64().is_some_and(|value| value.fract() == 0.0) => {
                // As a text, a number of a token is one of floating point.
                format!("write string(int(claims.{name}))")
            }
            Value::Number(_) | Value::Bool(_) => format!("write string(claims.{name})"),
            Value::Array(list) if wants_list => {
                if list.iter().all(Value::is_string) {
                    continue;
                } else if list.iter().any(Value::is_object) {
                    format!("name the member of each, as in dyn(claims.{name}).map(x, x.name)")
                } else if list.iter().all(Value::is_number) {
                    format!("write dyn(claims.{name}).map(x, string(int(x)))")
                } else {
                    format!("write dyn(claims.{name}).map(x, string(x))")
                }
            }
            Value::Array(_) if wanted == Wanted::Name => {
                "its order may change, so let the provider send one text".to_owned()
            }
            Value::Array(_) => format!("take one of it, as in dyn(claims.{name})[0]"),
            Value::Object(members) => {
                let member = members.iter().find(|(_, value)| value.is_string()).map_or("name", |(name, _)| name);
                format!("name a member of it, as in claims.{name}.{member}")
            }
            Value::Null if wanted == Wanted::Name => {
                format!("let the provider send one, or name a claim that is there ({})", case.text_claims(CLAIMS_NAMED))
            }
            Value::Null => {
                format!("orValue stands in for what is missing alone; write claims.{name} == null ? '' : claims.{name}")
            }
        };
        let what = if wants_list { "texts are" } else { "a text is" };
        return format!("the claim {name} is {}, and {what} wanted: {instead} at {place}", kind(value));
    }
    let what = if wants_list { "texts" } else { "a text" };
    format!("let the expression at {place} come to {what}, as with string(…)")
}

/// For a function or operator that does not take its values.
fn overload(expression: &str, place: &str, case: &Case<'_>) -> String {
    let selected = selections(expression);
    for Selection { name, default, .. } in &selected {
        let Some(default) = default else { continue };
        let (stands_in, given) = (kind_of(default), case.claim(name));
        match given {
            None => {
                return format!(
                    "the token has no {name}, and orValue({default}), {stands_in}, is nothing that the expression at {place} takes: a list \
                     wants orValue([]), a text orValue(''), a number orValue(0)"
                );
            }
            Some(value) if kind(value) != stands_in => {
                return format!(
                    "the claim {name} is {}, and orValue({default}) is {stands_in}: write claims.?{name}.orValue({}) at {place}, and \
                     around it what takes {0}",
                    kind(value),
                    default_like(value),
                );
            }
            Some(_) => {}
        }
    }
    for Selection { name, after, .. } in &selected {
        let instead = match case.claim(name) {
            Some(Value::Array(_)) if after.starts_with(".contains(") => {
                format!("ask with in, as in: 'x' in claims.{name}")
            }
            Some(Value::Number(_)) => format!(
                "write string(int(claims.{name})) beside texts, and beside it numbers with a point (1.0), which it has itself"
            ),
            _ => continue,
        };
        return format!(
            "{name} is {}, which the expression at {place} does not take: {instead}",
            kind(case.claim(name).unwrap_or(&Value::Null))
        );
    }
    let told = told(&selected, case);
    format!(
        "a claim has another type than the expression at {place} takes{told}: convert it, as with string(…), or test it with type(…)"
    )
}

/// The claims that an expression reads, and what they are.
fn told(selected: &[Selection<'_>], case: &Case<'_>) -> String {
    let mut kinds: Vec<String> =
        selected.iter().filter_map(|one| Some(format!("{} is {}", one.name, kind(case.claim(one.name)?)))).collect();
    kinds.dedup();
    if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) }
}

/// What an expression reads of the claims.
#[derive(Debug, PartialEq, Eq)]
struct Selection<'e> {
    name: &'e str,
    /// What stands in for it: the text between the parentheses of `orValue`.
    default: Option<&'e str>,
    /// What is behind it, and behind `orValue` and the `)` of `dyn(`.
    after: &'e str,
    /// Something is done to it that wants a list.
    as_list: bool,
    /// It is the whole expression.
    alone: bool,
}

/// Every `claims.name` and `claims.?name`.
fn selections(expression: &str) -> Vec<Selection<'_>> {
    const CLAIMS: &str = "claims.";
    let of = |at: usize| {
        let before = expression.get(..at)?;
        if before.ends_with(|c: char| part_of_name(c) || c == '.') {
            return None;
        }
        let rest = expression.get(at + CLAIMS.len()..)?;
        let rest = rest.strip_prefix('?').unwrap_or(rest);
        let (name, after) = rest.split_at(rest.find(|c: char| !part_of_name(c)).unwrap_or(rest.len()));
        if !is_identifier(name) {
            return None;
        }
        let default = after.strip_prefix(".orValue(").and_then(|rest| rest.split_once(')'));
        let (default, after) = default.map_or((None, after), |(default, rest)| (Some(default.trim()), rest));
        let (inside, after) = match before.trim_end().strip_suffix("dyn(") {
            Some(inside) => (inside.trim_end(), after.strip_prefix(')').unwrap_or(after)),
            None => (before.trim_end(), after),
        };
        let as_list = inside.ends_with(" in") || OF_LISTS.iter().any(|function| after.starts_with(function));
        Some(Selection { name, default, after, as_list, alone: before.trim().is_empty() && after.trim().is_empty() })
    };
    expression.match_indices(CLAIMS).filter_map(|(at, _)| of(at)).collect()
}

/// The names with dots between that lead to a member, as in `claims.realm.email`.
fn path_to<'e>(expression: &'e str, member: &str) -> Option<&'e str> {
    let read = format!(".{member}");
    let (at, _) = expression.match_indices(&read).find(|(at, _)| {
        let after = expression.get(at + read.len()..).and_then(|text| text.chars().next());
        !after.is_some_and(part_of_name)
    })?;
    let start = expression.get(..at)?.rfind(|c: char| !part_of_name(c) && c != '.').map_or(0, |before| before + 1);
    let path = expression.get(start..at + read.len())?;
    (is_identifier(member) && path.starts_with(|c: char| c.is_ascii_alphabetic())).then_some(path)
}

/// What is asked for a member by a text, as `user.extra` in `user.extra['a.example/b']`.
fn map_with<'e>(expression: &'e str, member: &str) -> Option<&'e str> {
    let at = expression.find(&format!("['{member}']")).or_else(|| expression.find(&format!("[\"{member}\"]")))?;
    let before = expression.get(..at)?;
    let start = before.rfind(|c: char| !part_of_name(c) && c != '.').map_or(0, |before| before + 1);
    before.get(start..).filter(|map| map.starts_with(|c: char| c.is_ascii_alphabetic()) && !member.contains('\''))
}

const fn part_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a claim can be written behind `claims.`.
pub(crate) fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(part_of_name)
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The kind of a literal.
fn kind_of(literal: &str) -> &'static str {
    match literal.as_bytes().first() {
        Some(b'\'' | b'"') => "a text",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(b'0'..=b'9' | b'-' | b'.') => "a number",
        _ if matches!(literal, "true" | "false") => "true or false",
        _ => "null",
    }
}

/// What stands in for a value of that kind.
const fn default_like(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "false",
        Value::Number(_) => "0",
        Value::String(_) => "''",
        Value::Array(_) => "[]",
        Value::Object(_) => "{}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_expression_reads_is_found_with_what_stands_in_for_it() {
        let read = |expression| {
            let told = |one: Selection<'_>| {
                let alone = if one.alone { " alone" } else { "" };
                let as_list = if one.as_list { " as a list" } else { "" };
                format!("{}{}{alone}{as_list}", one.name, one.default.map(|d| format!("={d}")).unwrap_or_default())
            };
            selections(expression).into_iter().map(told).collect::<Vec<_>>().join("; ")
        };
        for (expression, want) in [
            ("claims.a", "a alone"),
            ("claims.?a.orValue('')", "a='' alone"),
            ("'x' in claims.?a.orValue([])", "a=[] as a list"),
            ("dyn(claims.a).exists(x, x == claims.b)", "a as a list; b"),
            ("dyn(claims.?a.orValue( [] )).map(x, x)", "a=[] as a list"),
            ("!('x' in dyn(claims.a))", "a as a list"),
            ("claims.a.split(',')", "a"),
            ("user.claims.a + myclaims.b", ""),
            ("claims['a'] + claims.?", ""),
        ] {
            assert_eq!(read(expression), want, "{expression}");
        }
    }

    #[test]
    fn a_member_is_asked_for_with_its_path() {
        for (expression, member, want) in [
            ("claims.realm.email", "email", Some("claims.realm.email")),
            ("'x' + claims.realm.email.lowerAscii()", "email", Some("claims.realm.email")),
            ("claims.realm.emails", "email", None),
            ("claims['a'].email", "email", None),
        ] {
            assert_eq!(path_to(expression, member), want, "{expression}");
        }
        for (expression, member, want) in [
            ("claims['a']", "a", Some("claims")),
            ("'y' == user.extra[\"a.example/b\"][0]", "a.example/b", Some("user.extra")),
            ("f(x)['a']", "a", None),
            ("claims['a']", "b", None),
        ] {
            assert_eq!(map_with(expression, member), want, "{expression}");
        }
    }
}
