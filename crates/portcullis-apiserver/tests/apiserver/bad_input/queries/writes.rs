//! Create, update, patch, delete and deletion of collections.

use super::super::wire::Case;
use super::values::*;
use super::{KEPT, MAPS, ask, pair};
use crate::rbac::Dice;

/// What is written to, and how.
const WRITES: &[(&str, &str)] = &[
    ("POST", MAPS),
    ("PUT", KEPT),
    ("PATCH", KEPT),
    ("DELETE", KEPT),
    ("DELETE", "/api/v1/namespaces/odd/podtemplates"),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ("POST", "/api/v1/namespaces/odd/serviceaccounts/none/token"),
    ("PUT", "/apis/apps/v1/namespaces/odd/deployments/none/scale"),
    ("PATCH", "/api/v1/namespaces/odd/pods/waiting/status"),
    ("PATCH", "/api/v1/namespaces/odd/configmaps/none"),
    ("DELETE", "/api/v1/namespaces/odd/configmaps/none"),
    ("POST", "/api/v1/namespaces/none/configmaps"),
];
const OPTIONS: &[(&str, &[&str])] = &[
    ("dryRun", DRY_RUNS),
    ("fieldValidation", VALIDATIONS),
    ("fieldManager", MANAGERS),
    ("force", BOOLS),
    ("pretty", BOOLS),
];
const DELETIONS: &[(&str, &[&str])] = &[
    ("gracePeriodSeconds", NUMBERS),
    ("propagationPolicy", POLICIES),
    ("orphanDependents", BOOLS),
    ("uid", IDS),
    ("resourceVersion", &["", "0", "x", "1.0", "-1", "18446744073709551616", "\0", "<x>", "\u{e9}"]),
    ("preconditions", IDS),
    ("preconditions.uid", IDS),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", BOOLS),
    ("dryRun", DRY_RUNS),
];

pub(super) fn cases(dice: &Dice) -> Vec<Case> {
    let mut out = Vec::new();
    for (name, values) in OPTIONS {
        for value in *values {
            for _ in 0..2 {
                let (method, path) = WRITES[dice.below(WRITES.len())];
                out.push(ask("write option", method, path, &pair(name, value)));
            }
        }
    }
    for (name, values) in DELETIONS {
        for value in *values {
            let path = if dice.percent(60) { KEPT } else { "/api/v1/namespaces/odd/podtemplates" };
            out.push(ask("deletion", "DELETE", path, &pair(name, value)));
        }
    }
    for _ in 0..100 {
        let query: Vec<String> = (0..2 + dice.below(2))
            .map(|_| DELETIONS[dice.below(DELETIONS.len())])
            .map(|(name, values)| pair(name, dice.word(values)))
            .collect();
        let path = if dice.percent(60) { KEPT } else { "/api/v1/namespaces/odd/podtemplates" };
        out.push(ask("deletion", "DELETE", path, &query.join("&")));
    }
    for _ in 0..100 {
        let (method, path) = WRITES[dice.below(WRITES.len())];
        let query: Vec<String> = (0..2 + dice.below(3))
            .map(|_| OPTIONS[dice.below(OPTIONS.len())])
            .map(|(name, values)| pair(name, dice.word(values)))
            .collect();
        out.push(ask("write options", method, path, &query.join("&")));
    }
    out
}
