//! Query strings: what every verb takes, in all spellings, and what nobody takes.

mod mixed;
mod reads;
mod selectors;
mod values;
mod writes;

use super::wire::Case;
use crate::rbac::Dice;

/// A list that nobody writes to: five config maps with labels, and the one of the authorities.
const LIST: &str = "/api/v1/namespaces/odd/configmaps";
const ONE: &str = "/api/v1/namespaces/odd/configmaps/c";
/// A pod that no node has.
const POD: &str = "/api/v1/namespaces/odd/pods/waiting";
const NO_POD: &str = "/api/v1/namespaces/odd/pods/none";
const MAPS: &str = "/api/v1/namespaces/bad/configmaps";
const KEPT: &str = "/api/v1/namespaces/bad/configmaps/kept";

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let mut out = reads::cases(dice);
    out.extend(writes::cases(dice));
    out.extend(mixed::cases(dice));
    // Half of them, by lot: all take too long for one run.
    out.retain(|_| dice.percent(45));
    out
}

/// Percent-encodes all but what needs no thought.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// `name=value`, and the value encoded; what stands in braces is put in by each side.
fn pair(name: &str, value: &str) -> String {
    let value = if value.starts_with('{') && value.ends_with('}') { value.to_owned() } else { encode(value) };
    format!("{name}={value}")
}

/// A request that has a body if its method takes one.
fn ask(stratum: &'static str, method: &str, path: &str, query: &str) -> Case {
    let case = Case::new(stratum, method, format!("{path}?{query}"));
    match method {
        "POST" if path.ends_with("/token") => case.json(r#"{"spec":{}}"#),
        "POST" if path.ends_with("reviews") => {
            case.json(r#"{"spec":{"nonResourceAttributes":{"verb":"get","path":"/"}}}"#)
        }
        "POST" => case.json(r#"{"metadata":{"name":"made"}}"#),
        "PUT" => {
            let name = path.rsplit('/').find(|part| !matches!(*part, "scale" | "status")).unwrap_or_default();
            case.json(format!(r#"{{"metadata":{{"name":"{name}"}}}}"#))
        }
        "PATCH" => case.header("content-type", "application/merge-patch+json").body("{}"),
        _ => case,
    }
}
