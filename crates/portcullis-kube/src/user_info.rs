//! `UserInfo` of `authentication.k8s.io`: who someone is, as authenticators say it and authorizers read it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::{nullable, nullable_lists};

/// The group of everyone who authenticated.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone who did not.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of everyone who did not.
pub const ANONYMOUS: &str = "system:anonymous";
/// Members may do everything, before any authorizer is asked.
pub const MASTERS_GROUP: &str = "system:masters";
/// What a service account's user name begins with; namespace and name follow, separated by a colon.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// A user as an API server knows it. Order and repetition of groups are kept, as upstream does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserInfo {
    /// Unique among active users.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub username: String,
    /// Unique over time: a second user of the same name has another one.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub uid: String,
    /// Groups that the user is in.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub groups: Vec<String>,
    /// What else the authenticator says.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable_lists")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with this name in these groups.
    pub fn new(username: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { username: username.into(), groups: groups.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// `system:anonymous` in `system:unauthenticated`.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, [ALL_UNAUTHENTICATED])
    }

    /// Whether the user is in the group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Adds `system:authenticated`, as the API server does after a successful authentication: not for the anonymous user, not
    /// twice, and not when `system:unauthenticated` is there.
    ///
    /// Compat: `authenticatorfactory` and `group.AuthenticatedGroupAdder` of apiserver v0.37.
    pub fn with_authenticated_group(mut self) -> Self {
        let skip = self.username == ANONYMOUS
            || self.groups.iter().any(|g| g == ALL_AUTHENTICATED || g == ALL_UNAUTHENTICATED);
        if !skip {
            self.groups.push(ALL_AUTHENTICATED.to_owned());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_members_are_left_out() {
        let json = serde_json::to_string(&UserInfo::new("jane", ["a"])).unwrap();
        assert_eq!(json, r#"{"username":"jane","groups":["a"]}"#);
        assert_eq!(serde_json::to_string(&UserInfo::default()).unwrap(), "{}");
    }

    #[test]
    fn null_is_the_zero_value() {
        let user: UserInfo = serde_json::from_str(r#"{"username":null,"groups":null,"extra":null}"#).unwrap();
        assert_eq!(user, UserInfo::default());
        let user: UserInfo = serde_json::from_str(r#"{"extra":{"a":null,"b":["c"]}}"#).unwrap();
        assert_eq!(user.extra, [("a".to_owned(), vec![]), ("b".to_owned(), vec!["c".to_owned()])].into());
    }

    #[test]
    fn the_authenticated_group_is_added_once_and_never_to_the_anonymous() {
        let jane = UserInfo::new("jane", ["a"]).with_authenticated_group();
        assert_eq!(jane.groups, ["a", ALL_AUTHENTICATED]);
        assert_eq!(jane.clone().with_authenticated_group(), jane);
        assert_eq!(UserInfo::anonymous().with_authenticated_group(), UserInfo::anonymous());
    }
}
