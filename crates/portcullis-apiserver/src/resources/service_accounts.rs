//! Service accounts. Tokens are subresources of their own.

use serde_json::{Value, json};

use super::rules::Rules;
use super::tree::{Members, members_at, string};

pub(crate) const RULES: Rules = Rules {
    returns_deleted: true,
    prepare_create: names_only,
    prepare_update: |new, _| names_only(new),
    warnings,
    ..Rules::NAMESPACED
};
const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// A reference to a secret is its name and nothing else.
fn names_only(members: &mut Members) {
    for secret in members.get_mut("secrets").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = string(secret, "name").to_owned();
        *secret = if name.is_empty() { json!({}) } else { json!({"name": name}) };
    }
}

fn warnings(new: &Members, old: Option<&Members>) -> Vec<String> {
    let has = |members: &Members| members_at(members, &["metadata", "annotations"]).contains_key(MOUNTABLE);
    if !has(new) || old.is_some_and(has) {
        return Vec::new();
    }
    vec![format!(
        "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_keep_their_names_only() {
        let mut account =
            json!({"secrets": [{"name": "s", "kind": "Secret"}, {"uid": "u"}]}).as_object().unwrap().clone();
        names_only(&mut account);
        assert_eq!(account["secrets"], json!([{"name": "s"}, {}]));
    }

    #[test]
    fn the_deprecated_annotation_is_mentioned_when_it_is_new() {
        let with = json!({"metadata": {"annotations": {MOUNTABLE: "true"}}}).as_object().unwrap().clone();
        assert_eq!(
            (warnings(&with, None).len(), warnings(&with, Some(&with)).len(), warnings(&Members::new(), None).len()),
            (1, 0, 0)
        );
    }
}
