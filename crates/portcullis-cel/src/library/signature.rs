//! Signatures as they are written in the table of functions.

use std::sync::Arc;

use crate::types::Type;

/// `(string, list(A)) -> A`: what is taken, and what is given. Nothing if `text` is no signature.
pub(super) fn parse(text: &str) -> Option<(Vec<Type>, Type)> {
    let (args, result) = text.split_once(" -> ")?;
    let args = args.strip_prefix('(')?.strip_suffix(')')?;
    Some((parts(args).into_iter().map(type_).collect::<Option<_>>()?, type_(result)?))
}

/// Splits at the commas that are not within parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut all: Vec<&str> = text
        .split(|c: char| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            c == ',' && depth == 0
        })
        .map(str::trim)
        .collect();
    all.retain(|part| !part.is_empty());
    all
}

fn type_(text: &str) -> Option<Type> {
    if let Some((outer, rest)) = text.split_once('(') {
        let mut inner = parts(rest.strip_suffix(')')?).into_iter().map(type_).collect::<Option<Vec<_>>>()?.into_iter();
        let first = inner.next()?;
        return Some(match outer {
            "list" => Type::list(first),
            "map" => Type::map(first, inner.next()?),
            "optional" => Type::optional(first),
            "type" => first.type_of(),
            _ => return None,
        });
    }
    Some(match text {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "dyn" => Type::Dyn,
        "net.IP" | "net.CIDR" => Type::Opaque(text.into(), Arc::new([])),
        name if name.len() == 1 => Type::Param(name.into()),
        name if name.starts_with("kubernetes.") => Type::Object(name.into()),
        _ => return None,
    })
}

/// The names of the parameters in `types`.
pub(super) fn params(types: &[&Type]) -> Vec<Arc<str>> {
    let mut found: Vec<Arc<str>> = Vec::new();
    let mut open: Vec<&Type> = types.to_vec();
    while let Some(next) = open.pop() {
        match next {
            Type::Param(name) if !found.contains(name) => found.push(Arc::clone(name)),
            other => open.extend(other.params()),
        }
    }
    found
}
