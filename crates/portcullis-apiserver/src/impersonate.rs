//! Impersonation: acting as someone else, with the `Impersonate-*` headers of `kubectl --as`.
//!
//! `portcullis_rbac::impersonation` decides; here the headers are read, and the mode that last worked for a user is kept.
//! A request whose impersonation is not allowed is refused: it must never be served under the caller's own name.
//!
//! Compat: `endpoints/filters/impersonation` of apiserver v0.37. Headers with an unknown part after `Impersonate-` are ignored, as
//! there.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use portcullis_kube::go::quote;
use portcullis_kube::{Status, UserInfo, query};
use portcullis_rbac::impersonation::{Impersonated, Mode, Wanted, impersonate};
use portcullis_rbac::{Policy, RequestInfo, authorize};

use crate::http::{Call, Outcome};

const EXTRA: &str = "extra-";
/// Impersonation headers of one request.
const MAX_HEADERS: usize = 256;
/// Users whose last mode is remembered.
const MAX_USERS: usize = 10_000;

/// The mode that last worked for each user. Only the order of attempts depends on it, and so which refusal is shown.
#[derive(Debug, Default)]
pub(crate) struct LastModes(Mutex<BTreeMap<String, Mode>>);

impl LastModes {
    fn of(&self, user: &str) -> Option<Mode> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(user).copied()
    }

    /// Everything is forgotten when there are too many: no entry is worth more than another.
    fn keep(&self, user: &str, mode: Mode) {
        let mut modes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if modes.len() >= MAX_USERS && !modes.contains_key(user) {
            modes.clear();
        }
        modes.insert(user.to_owned(), mode);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// As whom a request is served: `user`, or whom `user` may act as for this request.
pub(crate) fn effective_user(
    user: UserInfo,
    info: &RequestInfo,
    call: &Call,
    policy: &Policy,
    last: &LastModes,
) -> Outcome<UserInfo> {
    let Some(wanted) = wanted(&call.headers)? else { return Ok(user) };
    let attributes = info.attributes(&user);
    let granted = impersonate(&attributes, &wanted, last.of(&user.username), |asked| authorize(policy, asked))?;
    last.keep(&user.username, granted.mode);
    let Impersonated { user: wanted, mode } = granted;
    call.audit.impersonates(&wanted, mode.constraint().unwrap_or_default());
    tracing::debug!(user = %user.username, wanted = %wanted.username, constraint = mode.constraint(), "impersonating");
    Ok(wanted)
}

fn wanted(headers: &HeaderMap) -> Outcome<Option<Wanted>> {
    let mut wanted = Wanted::default();
    let mut parts = 0;
    for name in headers.keys() {
        let Some(part) = name.as_str().strip_prefix("impersonate-") else { continue };
        let values = headers.get_all(name).iter().map(|value| {
            let text = std::str::from_utf8(value.as_bytes()).map(str::to_owned);
            text.map_err(|_| Box::new(Status::bad_request(format!("the header {name} is not UTF-8"))))
        });
        let values = values.collect::<Outcome<Vec<String>>>()?;
        parts += values.len();
        match part {
            "user" => wanted.username = values.into_iter().next().unwrap_or_default(),
            "uid" => wanted.uid = values.into_iter().next().unwrap_or_default(),
            "group" => wanted.groups = values,
            _ => {
                if let Some(key) = part.strip_prefix(EXTRA) {
                    wanted.extra.entry(unescape(key)).or_default().extend(values);
                }
            }
        }
    }
    if parts > MAX_HEADERS {
        return Err(Box::new(Status::bad_request(format!("more than {MAX_HEADERS} Impersonate headers"))));
    }
    if !wanted.username.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted == Wanted::default() {
        return Ok(None);
    }
    let why = format!("requested {} without impersonating a user name", go_syntax(&wanted));
    Err(Box::new(Status::bad_request(why)))
}

/// A key that is not properly escaped stays as it is.
fn unescape(key: &str) -> String {
    if query::escapes(key) { query::unescape(key, false).into_owned() } else { key.to_owned() }
}

/// Compat: upstream prints its own type in Go's syntax.
fn go_syntax(wanted: &Wanted) -> String {
    fn list(values: &[String]) -> String {
        let quoted: Vec<String> = values.iter().map(|value| quote(value)).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    }
    let groups = if wanted.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&wanted.groups) };
    let extra = if wanted.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let pairs: Vec<String> =
            wanted.extra.iter().map(|(key, values)| format!("{}:{}", quote(key), list(values))).collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    format!("&user.DefaultInfo{{Name:\"\", UID:{}, Groups:{groups}, Extra:{extra}}}", quote(&wanted.uid))
}

#[cfg(test)]
mod tests {
    use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, PolicyRule, Subject};

    use super::*;

    fn policy() -> Policy {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let rule = |verbs: &[&str], groups: &[&str], resources: &[&str]| PolicyRule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            ..PolicyRule::default()
        };
        let mut policy = Policy::default();
        for (name, rules) in [
            ("actor", vec![rule(&["impersonate"], &[""], &["users", "serviceaccounts"])]),
            (
                "agent",
                vec![
                    rule(&["impersonate:user-info"], &["authentication.k8s.io"], &["users"]),
                    rule(&["impersonate-on:user-info:list"], &[""], &["pods"]),
                ],
            ),
        ] {
            let mut role = ClusterRole { rules, ..ClusterRole::default() };
            role.metadata.name = name.to_owned();
            policy.set_cluster_role(role);
            policy.set_cluster_role_binding(ClusterRoleBinding::new(name, name, vec![Subject::user(name)]));
        }
        policy
    }

    fn act_on(
        path: &str,
        user: &str,
        headers: &[(&'static str, &str)],
        last: &LastModes,
    ) -> Result<UserInfo, (i32, String)> {
        let call =
            headers.iter().fold(Call::test(&format!("GET {path}"), ""), |call, (name, value)| call.with(name, value));
        let info = RequestInfo::parse("GET", path, "").unwrap();
        effective_user(UserInfo::new(user, ["system:authenticated"]), &info, &call, &policy(), last)
            .map_err(|status| (status.code, status.message))
    }

    fn act(user: &str, headers: &[(&'static str, &str)]) -> Result<UserInfo, (i32, String)> {
        act_on("/api/v1/pods", user, headers, &LastModes::default())
    }

    #[test]
    fn without_headers_the_user_stays() {
        assert_eq!(act("bob", &[]).unwrap().username, "bob");
        assert_eq!(act("bob", &[("impersonate-user", ""), ("impersonate-odd", "x")]).unwrap().username, "bob");
    }

    #[test]
    fn every_part_needs_a_grant() {
        let jane = act("actor", &[("impersonate-user", "jane")]).unwrap();
        assert_eq!(
            (jane.username.as_str(), jane.groups.as_slice()),
            ("jane", &["system:authenticated".to_owned()][..])
        );
        for (user, headers) in [
            ("bob", vec![("impersonate-user", "jane")]),
            ("actor", vec![("impersonate-user", "jane"), ("impersonate-group", "system:masters")]),
            ("actor", vec![("impersonate-user", "jane"), ("impersonate-extra-a%2fb", "c")]),
            ("actor", vec![("impersonate-user", "jane"), ("impersonate-uid", "1")]),
        ] {
            assert_eq!(act(user, &headers).unwrap_err().0, 403, "{headers:?}");
        }
    }

    #[test]
    fn a_constrained_grant_is_for_its_requests_only() {
        let headers = [("impersonate-user", "jane")];
        assert_eq!(act("agent", &headers).unwrap().username, "jane");
        let (code, message) = act_on("/api/v1/secrets", "agent", &headers, &LastModes::default()).unwrap_err();
        assert_eq!(code, 403);
        assert!(message.contains("cannot impersonate-on:user-info:list resource \"secrets\""), "{message}");
    }

    #[test]
    fn the_refusal_is_that_of_the_mode_that_last_worked() {
        let last = LastModes::default();
        let more = [("impersonate-user", "jane"), ("impersonate-group", "x")];
        assert!(act_on("/", "actor", &more, &last).unwrap_err().1.contains("impersonate-on:user-info:get"));
        act_on("/", "actor", &[("impersonate-user", "jane")], &last).unwrap();
        assert!(act_on("/", "actor", &more, &last).unwrap_err().1.starts_with("groups \"x\" is forbidden"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let last = LastModes::default();
        for n in 0..=MAX_USERS {
            last.keep(&n.to_string(), Mode::Legacy);
        }
        assert_eq!((last.len(), last.of("0"), last.of(&MAX_USERS.to_string())), (1, None, Some(Mode::Legacy)));
    }

    #[test]
    fn a_group_without_a_user_is_an_error_and_not_ignored() {
        let error = |headers: &[(&'static str, &str)]| act("actor", headers).unwrap_err();
        assert_eq!(
            error(&[("impersonate-group", "al\"ice"), ("impersonate-uid", "7"), ("impersonate-extra-foo%2fbar", "x")]),
            (
                400,
                "requested &user.DefaultInfo{Name:\"\", UID:\"7\", Groups:[]string{\"al\\\"ice\"}, Extra:map[string][]string{\"foo/bar\":[]string{\"x\"}}} without impersonating a user name".to_owned()
            )
        );
        let (code, message) = error(&[("impersonate-uid", "7")]);
        assert_eq!(code, 400);
        assert!(message.contains("Groups:[]string(nil), Extra:map[string][]string(nil)}"), "{message}");
    }

    #[test]
    fn the_number_of_headers_is_bounded() {
        let headers = |count: usize| {
            let mut headers = vec![("impersonate-user", "jane")];
            headers.resize(count, ("impersonate-group", "g"));
            act("actor", &headers).unwrap_err().0
        };
        assert_eq!((headers(MAX_HEADERS), headers(MAX_HEADERS + 1)), (403, 400));
    }

    #[test]
    fn keys_are_unescaped_as_a_whole_or_not_at_all() {
        for (key, want) in
            [("a%2fb", "a/b"), ("a%2f%zz", "a%2f%zz"), ("a%2", "a%2"), ("%41", "A"), ("a+b", "a+b"), ("", "")]
        {
            assert_eq!(unescape(key), want);
        }
    }

    #[test]
    fn service_accounts_and_the_anonymous_user_get_their_groups() {
        let account = act("actor", &[("impersonate-user", "system:serviceaccount:n:s")]).unwrap();
        assert_eq!(account.groups, ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]);
        assert_eq!(
            act("actor", &[("impersonate-user", "system:anonymous")]).unwrap().groups,
            ["system:unauthenticated"]
        );
    }
}
