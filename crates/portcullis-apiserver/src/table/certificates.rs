//! The table of certificate signing requests.

use portcullis_runtime::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Column, NAME, age, created, list, name, shown, string};
use crate::resources::at;
use crate::resources::tree::string as member;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    AGE,
    shown("SignerName", "Who is to sign."),
    shown("Requestor", "Who asks."),
    shown("RequestedDuration", "How long the certificate is to be good."),
    shown("Condition", "What has become of the request."),
];

pub(super) fn cells(tree: &Map<String, Value>, now: Timestamp) -> Vec<Value> {
    let signer = string(tree, &["spec", "signerName"]);
    let seconds = at(tree, &["spec", "expirationSeconds"]).and_then(Value::as_i64);
    vec![
        name(tree),
        created(tree, now),
        Value::from(if signer.is_empty() { "<none>" } else { signer }),
        Value::from(string(tree, &["spec", "username"])),
        Value::from(seconds.map_or("<none>".to_owned(), |seconds| age::human(seconds.saturating_mul(1_000_000_000)))),
        Value::from(state(tree)),
    ]
}

/// A denial counts for more than an approval.
fn state(tree: &Map<String, Value>) -> String {
    let has =
        |kind: &str| list(tree, &["status", "conditions"]).iter().any(|condition| member(condition, "type") == kind);
    let decided = ["Denied", "Approved"].into_iter().find(|kind| has(kind));
    let mut state = decided.unwrap_or("Pending").to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !string(tree, &["status", "certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    state
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_state_says_what_was_decided_and_done() {
        for (kinds, certificate, want) in [
            (&[][..], "", "Pending"),
            (&["Approved"], "eA==", "Approved,Issued"),
            (&["Approved", "Denied", "Failed"], "", "Denied,Failed"),
        ] {
            let conditions: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
            let tree = json!({"status": {"conditions": conditions, "certificate": certificate}});
            assert_eq!(state(tree.as_object().unwrap()), want);
        }
    }
}
