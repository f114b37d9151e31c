//! What to write instead. Upstream has no such thing; the words are ours.

use crate::ast::{Expr, ExprKind};
use crate::environment::Environment;
use crate::types::Type;

/// How an expression is shown in a hint.
fn shown(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Call(call) if &*call.function == "_?._" => match call.args.as_slice() {
            [operand, field] => match field.as_literal() {
                Some(crate::Value::String(field)) => format!("{}.?{field}", shown(operand)),
                _ => "…".to_owned(),
            },
            _ => "…".to_owned(),
        },
        ExprKind::Select { operand, field, test_only: false } => format!("{}.{field}", shown(operand)),
        ExprKind::Ident(name) if !name.starts_with('@') => name.to_string(),
        _ => "…".to_owned(),
    }
}

/// For the range of a macro whose type is not known well enough.
pub(super) fn range(expr: &Expr, found: &Type) -> Option<String> {
    const LATER: &str = "what a claim holds is only known when a token comes";
    match found {
        Type::Any => Some(match or_value(expr) {
            Some(operand) => format!("write dyn({}.orValue([])): {LATER}", shown(operand)),
            None => format!("write dyn({}): {LATER}", shown(expr)),
        }),
        other => other.unwrap_optional().map(|inner| match inner {
            Type::Any => format!("write dyn({}.orValue([])): the value may be absent, and {LATER}", shown(expr)),
            _ => format!("write {}.orValue([]): the value may be absent", shown(expr)),
        }),
    }
}

/// What `orValue` stands in for.
fn or_value(expr: &Expr) -> Option<&Expr> {
    match &expr.kind {
        ExprKind::Call(call) if &*call.function == "orValue" => call.target.as_ref(),
        _ => None,
    }
}

/// For an element whose type differs from those before it.
pub(super) fn conversion(expr: &Expr, expected: &Type, actual: &Type) -> Option<String> {
    if expected.is_dyn() || actual.unwrap_optional().is_some() {
        return None;
    }
    match (expected, actual) {
        (Type::String | Type::Int | Type::Uint | Type::Double | Type::Bool, Type::Any | Type::Dyn) => {
            Some(format!("write {}({})", expected.runtime_name(), shown(expr)))
        }
        (_, Type::Any | Type::Dyn) | (Type::Bool, _) => None,
        _ => Some("write dyn(…) around each element: the elements of a literal have one type".to_owned()),
    }
}

/// For a call whose arguments fit no overload.
pub(super) fn overload(arguments: &[&Expr], types: &[Type]) -> Option<String> {
    if let Some((argument, _)) = arguments.iter().zip(types).find(|(_, found)| found.unwrap_optional().is_some()) {
        return Some(format!("write {}.orValue(…): the value may be absent", shown(argument)));
    }
    match types {
        [Type::Double, Type::Int] | [Type::Int, Type::Double] => {
            Some("write double(…) or a number with a point: int and double do not mix here".to_owned())
        }
        [Type::Uint, Type::Int] | [Type::Int, Type::Uint] => {
            Some("write int(…): int and uint do not mix here".to_owned())
        }
        [Type::String, Type::Int | Type::Uint | Type::Double | Type::Bool] => {
            Some("write string(…) around what is no text".to_owned())
        }
        _ => None,
    }
}

/// A known name that is close to an unknown one.
pub(super) fn similar(name: &str, environment: &Environment) -> Option<String> {
    let mut functions =
        crate::library::decls::names().filter(|known| known.starts_with(|c: char| c.is_ascii_alphabetic()));
    let close = |known: &&str| distance_is_one(name, known);
    if let Some(known) = environment.variable_names().find(close).or_else(|| functions.find(close)) {
        return Some(format!("did you mean {known}?"));
    }
    let known: Vec<&str> = environment.variable_names().collect();
    match name {
        "claims" | "user" => Some(format!("here only {} can be used", known.join(" and "))),
        _ => None,
    }
}

/// The fields that an object has.
pub(super) fn field(object: &str, field: &str, environment: &Environment) -> Option<String> {
    let fields = environment.field_names(object);
    if let Some(close) = fields.iter().find(|known| distance_is_one(field, known)) {
        return Some(format!("did you mean {close}?"));
    }
    (!fields.is_empty()).then(|| format!("the fields are {}", fields.join(", ")))
}

/// Whether one letter is changed, added, left out, or written in the other case.
fn distance_is_one(a: &str, b: &str) -> bool {
    if a == b {
        return false;
    }
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    let (short, long) = if a.len() <= b.len() { (a.as_bytes(), b.as_bytes()) } else { (b.as_bytes(), a.as_bytes()) };
    if short.len() < 3 || long.len() - short.len() > 1 {
        return false;
    }
    let same = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    let skip = usize::from(short.len() == long.len());
    short.get(same + skip..).is_some_and(|rest| long.get(same + 1..) == Some(rest))
}
