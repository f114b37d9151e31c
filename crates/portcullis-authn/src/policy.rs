//! How far kube-apiserver's leniency goes.

use crate::error::StrictError;
use crate::go::json::Member;

/// Whether kube-apiserver's verdict is wanted, or a safer one.
///
/// Every difference is listed in `docs/compat/kube-apiserver-authn.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// kube-apiserver's verdict, leniency included. For the dev API server and for explaining.
    #[default]
    Faithful,
    /// Refuses what only leniency accepts. For what stands in front of a cluster.
    Strict,
}

/// Claims that the verification stage reads without regard to case.
const REGISTERED: [&str; 10] =
    ["iss", "sub", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "_claim_names", "_claim_sources"];

/// Refuses a payload that readers of the same token may understand differently.
pub(crate) fn check_members(members: &[Member<'_>]) -> Result<(), StrictError> {
    for member in members {
        let odd = REGISTERED.into_iter().find(|tag| member.folds_to(tag) && member.name != *tag);
        if let Some(expected) = odd {
            return Err(StrictError::OddCase { expected, got: member.name.clone().into_owned() });
        }
    }
    let mut names: Vec<&str> = members.iter().map(|member| member.name.as_ref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(pair) => Err(StrictError::DuplicateClaim(pair.first().copied().unwrap_or_default().to_owned())),
        None => Ok(()),
    }
}

/// Refuses names that only Kubernetes itself may give out, and the empty user name.
pub(crate) fn check_user(username: &str, groups: &[String]) -> Result<(), StrictError> {
    if username.is_empty() {
        return Err(StrictError::EmptyUsername);
    }
    let names = std::iter::once(username).chain(groups.iter().map(String::as_str));
    match names.into_iter().find(|name| name.starts_with("system:")) {
        Some(name) => Err(StrictError::SystemName(name.to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::json::{self, Document};

    fn check(payload: &str) -> Result<(), StrictError> {
        match json::parse(payload.as_bytes()) {
            Ok(Document::Object(members)) => check_members(&members),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn strict_refuses_payloads_with_two_readings() {
        assert_eq!(check(r#"{"iss":"a","sub":"b","groups":[],"Groups":[]}"#), Ok(()));
        assert_eq!(check(r#"{"sub":"a","x":1,"sub":"b"}"#), Err(StrictError::DuplicateClaim("sub".into())));
        assert_eq!(check(r#"{"ISS":"a"}"#), Err(StrictError::OddCase { expected: "iss", got: "ISS".into() }));
        assert_eq!(check(r#"{"i\u017fs":"a"}"#), Err(StrictError::OddCase { expected: "iss", got: "iſs".into() }));
    }

    #[test]
    fn strict_refuses_kubernetes_own_names() {
        let groups = |name: &str| vec!["dev".to_owned(), name.to_owned()];
        assert_eq!(check_user("jane", &groups("ops")), Ok(()));
        assert_eq!(check_user("", &[]), Err(StrictError::EmptyUsername));
        assert_eq!(check_user("system:admin", &[]), Err(StrictError::SystemName("system:admin".into())));
        assert_eq!(
            check_user("jane", &groups("system:masters")),
            Err(StrictError::SystemName("system:masters".into()))
        );
    }
}
