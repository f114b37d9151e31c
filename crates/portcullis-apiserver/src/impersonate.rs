//! Impersonation: acting as someone else, with the `Impersonate-*` headers of `kubectl --as`.
//!
//! Every part of the wanted identity is authorized (verb `impersonate`) before anything of it counts. A request with such
//! headers that is not allowed is refused: it must never be served under the caller's own name.
//!
//! Compat: the legacy mode of `endpoints/filters/impersonation`; the constrained modes of KEP-5284 are not served.

use std::collections::BTreeMap;

use http::HeaderMap;
use portcullis_kube::user_info::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, SERVICE_ACCOUNT_PREFIX};
use portcullis_kube::{Status, UserInfo};
use portcullis_rbac::{Attributes, Policy, ResourceTarget, authorize, forbidden};

use crate::http::Outcome;
use crate::http::params::decode;

const EXTRA: &str = "impersonate-extra-";
/// Groups and extra values of one request.
const MAX_PARTS: usize = 256;

#[derive(Default)]
struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// The user as whom the request is served: `user`, or whom `user` may act as.
pub(crate) fn effective_user(user: UserInfo, headers: &HeaderMap, policy: &Policy) -> Outcome<UserInfo> {
    let Some(wanted) = wanted(headers)? else { return Ok(user) };
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let target = ResourceTarget { namespace, api_group: group, api_version: "v1", resource, subresource, name };
        let attributes = Attributes::resource(&user, "impersonate", target);
        let decision = authorize(policy, &attributes);
        if decision.allowed { Ok(()) } else { Err(Box::new(forbidden(&attributes, &decision.reason))) }
    };
    let account = wanted.user.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
    let account = account.filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains(':'));
    match account {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &wanted.user)?,
    }
    for group in &wanted.groups {
        may("", "groups", "", "", group)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            may("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    if !wanted.uid.is_empty() {
        may("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    let mut groups = wanted.groups;
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let everyone = if wanted.user == ANONYMOUS { ALL_UNAUTHENTICATED } else { ALL_AUTHENTICATED };
    if !groups.iter().any(|group| group == ALL_AUTHENTICATED || group == ALL_UNAUTHENTICATED) {
        groups.push(everyone.to_owned());
    }
    Ok(UserInfo { username: wanted.user, uid: wanted.uid, groups, extra: wanted.extra })
}

fn wanted(headers: &HeaderMap) -> Outcome<Option<Wanted>> {
    let mut wanted = Wanted::default();
    let mut parts = 0;
    for (name, value) in headers {
        let Some(part) = name.as_str().strip_prefix("impersonate-") else { continue };
        let text =
            value.to_str().map_err(|_| Box::new(Status::bad_request("an Impersonate header is not text")))?.to_owned();
        parts += 1;
        match part {
            "user" => wanted.user = text,
            "uid" => wanted.uid = text,
            "group" => wanted.groups.push(text),
            _ => {
                if let Some(key) = name.as_str().strip_prefix(EXTRA) {
                    wanted.extra.entry(decode(key, false).to_lowercase()).or_default().push(text);
                }
            }
        }
    }
    if parts > MAX_PARTS {
        return Err(Box::new(Status::bad_request(format!("more than {MAX_PARTS} Impersonate headers"))));
    }
    if wanted.user.is_empty() && parts > 0 {
        let what = format!("requested {:?} without impersonating a user", wanted.groups);
        return Err(Box::new(Status::internal_error(&what)));
    }
    Ok((parts > 0).then_some(wanted))
}

#[cfg(test)]
mod tests {
    use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, PolicyRule, Subject};

    use super::*;
    use crate::http::Call;

    fn policy() -> Policy {
        let mut policy = Policy::default();
        let mut role = ClusterRole::default();
        role.metadata.name = "actor".to_owned();
        role.rules = vec![PolicyRule {
            verbs: vec!["impersonate".to_owned()],
            api_groups: vec![String::new()],
            resources: vec!["users".to_owned(), "serviceaccounts".to_owned()],
            ..PolicyRule::default()
        }];
        policy.set_cluster_role(role);
        policy.set_cluster_role_binding(ClusterRoleBinding::new("actor", "actor", vec![Subject::user("gw")]));
        policy
    }

    fn act(user: &str, headers: &[(&'static str, &str)]) -> Result<UserInfo, i32> {
        let call = headers.iter().fold(Call::test("GET /", ""), |call, (name, value)| call.with(name, value));
        effective_user(UserInfo::new(user, ["system:authenticated"]), &call.headers, &policy())
            .map_err(|status| status.code)
    }

    #[test]
    fn without_headers_the_user_stays() {
        assert_eq!(act("bob", &[]).unwrap().username, "bob");
    }

    #[test]
    fn every_part_needs_a_grant() {
        let jane = act("gw", &[("impersonate-user", "jane")]).unwrap();
        assert_eq!(
            (jane.username.as_str(), jane.groups.as_slice()),
            ("jane", &["system:authenticated".to_owned()][..])
        );
        assert_eq!(act("bob", &[("impersonate-user", "jane")]), Err(403));
        assert_eq!(act("gw", &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")]), Err(403));
        assert_eq!(act("gw", &[("impersonate-user", "jane"), ("impersonate-extra-a%2fb", "c")]), Err(403));
        assert_eq!(act("gw", &[("impersonate-user", "jane"), ("impersonate-uid", "1")]), Err(403));
    }

    #[test]
    fn a_group_without_a_user_is_an_error_and_not_ignored() {
        assert_eq!(act("gw", &[("impersonate-group", "x")]), Err(500));
        assert_eq!(act("gw", &[("impersonate-odd", "x")]), Err(500));
    }

    #[test]
    fn service_accounts_and_the_anonymous_user_get_their_groups() {
        let account = act("gw", &[("impersonate-user", "system:serviceaccount:n:s")]).unwrap();
        assert_eq!(account.groups, ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]);
        assert_eq!(act("gw", &[("impersonate-user", "system:anonymous")]).unwrap().groups, ["system:unauthenticated"]);
    }
}
