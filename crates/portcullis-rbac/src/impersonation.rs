//! Who may act as whom: constrained impersonation (KEP-5284), then the legacy form.
//!
//! Flow: each mode that fits the wanted identity is tried, the one that last worked for this user first. A constrained mode asks
//! twice: may the user do *this request* while impersonating (`impersonate-on:<mode>:<verb>`), and may the user be *that
//! identity* (`impersonate:<mode>`). The legacy mode asks for each part of the identity with the verb `impersonate`. The first mode
//! that says yes decides; when none does, the refusal is that of the first one tried.
//!
//! It must never let any part of an identity through that no rule grants, and a constrained mode never grants
//! `system:masters`.
//!
//! Compat: `pkg/endpoints/filters/impersonation` of apiserver v0.37, where the gate `ConstrainedImpersonation` is on by default.
//! Upstream remembers successes for 10 seconds; here a withdrawn grant counts at once.

use std::collections::BTreeMap;

use portcullis_kube::field::{FieldError, aggregate};
use portcullis_kube::go::quote;
use portcullis_kube::user_info::{
    ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, MASTERS_GROUP, SERVICE_ACCOUNT_PREFIX,
};
use portcullis_kube::{Status, UserInfo, names};

use crate::attributes::{Attributes, ResourceTarget};
use crate::authorize::Decision;
use crate::forbidden::forbidden;

const NODE_PREFIX: &str = "system:node:";
const NODES_GROUP: &str = "system:nodes";
const AUTHENTICATION: &str = "authentication.k8s.io";
/// Under this key a bound service account token names the node of its pod.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From this many groups or extra values on, a constrained mode asks for all of them at once first.
const MANY: usize = 4;

/// The identity that a request asks for, exactly as its headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `Impersonate-User`; never empty.
    pub username: String,
    /// `Impersonate-Uid`.
    pub uid: String,
    /// `Impersonate-Group`, each.
    pub groups: Vec<String>,
    /// `Impersonate-Extra-<key>`, each.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn is_only_a_name(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }
}

/// A way to impersonate, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A service account as the node that its token is bound to.
    AssociatedNode,
    /// Any node.
    ArbitraryNode,
    /// A service account.
    ServiceAccount,
    /// Anybody who is neither, with groups, uid and extra.
    UserInfo,
    /// The form of all earlier versions.
    Legacy,
}

impl Mode {
    const ALL: [Self; 5] =
        [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Legacy];

    /// The verb that an audit event names as the constraint; the legacy mode has none.
    #[must_use]
    pub const fn constraint(self) -> Option<&'static str> {
        match self {
            Self::Legacy => None,
            constrained => Some(constrained.verb()),
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::AssociatedNode => "impersonate:associated-node",
            Self::ArbitraryNode => "impersonate:arbitrary-node",
            Self::ServiceAccount => "impersonate:serviceaccount",
            Self::UserInfo => "impersonate:user-info",
            Self::Legacy => "impersonate",
        }
    }

    /// What is asked about the request itself, for example `impersonate-on:user-info:list`.
    fn verb_on(self, verb: &str) -> String {
        format!("{}:{verb}", self.verb().replacen("impersonate:", "impersonate-on:", 1))
    }

    fn fits(self, requestor: &UserInfo, wanted: &Wanted) -> bool {
        let node = node_name(&wanted.username);
        match self {
            Self::AssociatedNode => {
                let bound = requestor.extra.get(NODE_NAME).map(Vec::as_slice);
                wanted.is_only_a_name()
                    && service_account(&requestor.username).is_some()
                    && node.is_some_and(|node| matches!(bound, Some([own]) if own == node))
            }
            Self::ArbitraryNode => wanted.is_only_a_name() && node.is_some(),
            Self::ServiceAccount => wanted.is_only_a_name() && service_account(&wanted.username).is_some(),
            Self::UserInfo => node.is_none() && service_account(&wanted.username).is_none(),
            Self::Legacy => true,
        }
    }
}

/// An identity that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonated {
    /// As whom the request is served.
    pub user: UserInfo,
    /// What granted it.
    pub mode: Mode,
}

/// Decides whether `attributes.user` may make the request of `attributes` as `wanted`. `last` is the mode that worked last for
/// this user, if that is known.
///
/// # Errors
/// The 403 of the first mode that was tried.
pub fn impersonate(
    attributes: &Attributes<'_>,
    wanted: &Wanted,
    last: Option<Mode>,
    authorize: impl Fn(&Attributes<'_>) -> Decision,
) -> Result<Impersonated, Box<Status>> {
    let others = Mode::ALL.into_iter().filter(|mode| Some(*mode) != last);
    let mut first_refusal = None;
    for mode in last.into_iter().chain(others).filter(|mode| mode.fits(attributes.user, wanted)) {
        match (Attempt { mode, attributes, wanted, authorize: &authorize }).run() {
            Ok(user) => return Ok(Impersonated { user, mode }),
            Err(refusal) => first_refusal = first_refusal.or(Some(refusal)),
        }
    }
    // The legacy mode fits everything, so there is a refusal.
    Err(first_refusal.unwrap_or_else(|| Box::new(Status::internal_error("all impersonation modes failed"))))
}

/// One mode applied to one request.
struct Attempt<'a, F> {
    mode: Mode,
    attributes: &'a Attributes<'a>,
    wanted: &'a Wanted,
    authorize: &'a F,
}

impl<F: Fn(&Attributes<'_>) -> Decision> Attempt<'_, F> {
    fn run(&self) -> Result<UserInfo, Box<Status>> {
        if self.is_constrained() {
            let verb = self.mode.verb_on(self.attributes.verb);
            self.check(&Attributes { verb: &verb, ..*self.attributes })?;
        }
        let mut groups = self.username()?;
        if !self.wanted.uid.is_empty() {
            self.may(ResourceTarget { resource: "uids", name: &self.wanted.uid, ..authentication() })?;
        }
        self.groups()?;
        self.extra()?;
        let has = |group: &str| groups.iter().any(|g| g == group);
        let everyone = match (self.wanted.username.as_str(), has(ALL_UNAUTHENTICATED)) {
            (ANONYMOUS, _) => Some(ALL_UNAUTHENTICATED),
            (_, false) => Some(ALL_AUTHENTICATED),
            (_, true) => None,
        };
        if let Some(everyone) = everyone.filter(|group| !has(group)) {
            groups.push(everyone.to_owned());
        }
        let Wanted { username, uid, extra, .. } = self.wanted.clone();
        Ok(UserInfo { username, uid, groups, extra })
    }

    fn is_constrained(&self) -> bool {
        self.mode != Mode::Legacy
    }

    /// Where users and groups are: in the core group only for the legacy mode.
    fn identity(&self) -> ResourceTarget<'static> {
        if self.is_constrained() {
            authentication()
        } else {
            ResourceTarget { api_version: "v1", ..ResourceTarget::default() }
        }
    }

    /// Checks the name, and gives the groups that come with it or were asked for.
    fn username(&self) -> Result<Vec<String>, Box<Status>> {
        let name = self.wanted.username.as_str();
        let mut groups = self.wanted.groups.clone();
        if let Some((namespace, name)) = service_account(name) {
            if groups.is_empty() {
                groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
            self.may(ResourceTarget { resource: "serviceaccounts", namespace, name, ..self.identity() })?;
            return Ok(groups);
        }
        if let Some(node) = node_name(name).filter(|_| self.is_constrained()) {
            // Compat: who may be the node of its own pod may be so on every node, and is asked for that.
            let node = if self.mode == Mode::AssociatedNode { "*" } else { node };
            self.may(ResourceTarget { resource: "nodes", name: node, ..self.identity() })?;
            return Ok(vec![NODES_GROUP.to_owned()]);
        }
        self.may(ResourceTarget { resource: "users", name, ..self.identity() })?;
        Ok(groups)
    }

    fn groups(&self) -> Result<(), Box<Status>> {
        let groups = &self.wanted.groups;
        let target = ResourceTarget { resource: "groups", ..self.identity() };
        if self.is_constrained() {
            if groups.iter().any(String::is_empty) {
                return Err(self.refuse(target, "impersonating the empty string group is not allowed"));
            }
            if groups.iter().any(|group| group == MASTERS_GROUP) {
                let target = ResourceTarget { name: MASTERS_GROUP, ..target };
                return Err(self.refuse(target, "impersonating the system:masters group is not allowed"));
            }
            if groups.len() >= MANY && self.may(ResourceTarget { name: "*", ..target }).is_ok() {
                return Ok(());
            }
        }
        groups.iter().try_for_each(|group| self.may(ResourceTarget { name: group, ..target }))
    }

    fn extra(&self) -> Result<(), Box<Status>> {
        let extra = &self.wanted.extra;
        let target = ResourceTarget { resource: "userextras", ..authentication() };
        if self.is_constrained() {
            if let Some(why) = extra.iter().find_map(|(key, values)| wrong_extra(key, values)) {
                return Err(self.refuse(target, &why));
            }
            let values: usize = extra.values().map(Vec::len).sum();
            let all = ResourceTarget { subresource: "*", name: "*", ..target };
            if extra.len().max(values) >= MANY && self.may(all).is_ok() {
                return Ok(());
            }
        }
        extra
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| (key, value)))
            .try_for_each(|(key, value)| self.may(ResourceTarget { subresource: key, name: value, ..target }))
    }

    fn may(&self, target: ResourceTarget<'_>) -> Result<(), Box<Status>> {
        self.check(&Attributes::resource(self.attributes.user, self.mode.verb(), target))
    }

    fn check(&self, attributes: &Attributes<'_>) -> Result<(), Box<Status>> {
        let decision = (self.authorize)(attributes);
        if decision.allowed { Ok(()) } else { Err(Box::new(forbidden(attributes, &decision.reason))) }
    }

    fn refuse(&self, target: ResourceTarget<'_>, why: &str) -> Box<Status> {
        Box::new(forbidden(&Attributes::resource(self.attributes.user, self.mode.verb(), target), why))
    }
}

fn authentication() -> ResourceTarget<'static> {
    ResourceTarget { api_group: AUTHENTICATION, api_version: "v1", ..ResourceTarget::default() }
}

/// The namespace and name of a service account's user name.
fn service_account(username: &str) -> Option<(&str, &str)> {
    let (namespace, name) = username.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (names::dns_label(namespace).is_empty() && names::dns_subdomain(name).is_empty()).then_some((namespace, name))
}

/// The node of a node's user name.
fn node_name(username: &str) -> Option<&str> {
    username.strip_prefix(NODE_PREFIX).filter(|name| names::dns_subdomain(name).is_empty())
}

/// Why a constrained mode takes no such extra key or value.
fn wrong_extra(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let wrong: Vec<String> = domain_prefixed_path(key).iter().map(ToString::to_string).collect();
    if !wrong.is_empty() {
        return Some(format!("impersonating an invalid key in extra is not allowed: {}", aggregate(&wrong)));
    }
    if key != key.to_lowercase() {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {}", quote(key)));
    }
    if values.is_empty() {
        return Some("impersonating empty values in extra is not allowed".to_owned());
    }
    values
        .iter()
        .any(String::is_empty)
        .then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

/// Compat: `IsDomainPrefixedPath` of apimachinery v0.37.
fn domain_prefixed_path(key: &str) -> Vec<FieldError> {
    const PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    const FIELD: &str = "extra.key";
    let Some((host, path)) = key.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty()) else {
        return vec![FieldError::invalid(FIELD, key, "must be a domain-prefixed path (such as \"acme.io/foo\")")];
    };
    let mut wrong: Vec<FieldError> =
        names::dns_subdomain(host).into_iter().map(|why| FieldError::invalid(FIELD, host, why)).collect();
    if !path.chars().all(|c| c.is_ascii_alphanumeric() || r"/-._~%!$&'()*+,;=:".contains(c)) {
        wrong.push(FieldError::invalid(FIELD, path, format!("Invalid path (regex used for validation is '{PATH}')")));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `(verb, resource with subresource, name)`; the name may be `*` for any.
    type Grant = (&'static str, &'static str, &'static str);

    fn user(name: &str) -> UserInfo {
        UserInfo::new(name, [ALL_AUTHENTICATED])
    }

    fn wanted(username: &str) -> Wanted {
        Wanted { username: username.to_owned(), ..Wanted::default() }
    }

    fn groups(username: &str, groups: &[&str]) -> Wanted {
        Wanted { groups: groups.iter().map(|&g| g.to_owned()).collect(), ..wanted(username) }
    }

    fn extra(key: &str, values: &[&str]) -> Wanted {
        let values = values.iter().map(|&v| v.to_owned()).collect();
        Wanted { extra: [(key.to_owned(), values)].into(), ..wanted("jane") }
    }

    /// Asks for `list pods` as somebody, with these grants.
    fn ask(
        requestor: &UserInfo,
        wanted: &Wanted,
        last: Option<Mode>,
        grants: &[Grant],
    ) -> Result<Impersonated, String> {
        let target = ResourceTarget { namespace: "ns", resource: "pods", ..ResourceTarget::default() };
        let attributes = Attributes::resource(requestor, "list", target);
        let authorize = |asked: &Attributes<'_>| {
            let crate::Target::Resource(target) = asked.target else { panic!("only resources are asked about") };
            let resource = [target.resource, target.subresource].join("/");
            let allowed = grants.iter().any(|(verb, granted, name)| {
                *verb == asked.verb
                    && *granted == resource.trim_end_matches('/')
                    && (*name == "*" || *name == target.name)
            });
            Decision { allowed, reason: String::new() }
        };
        impersonate(&attributes, wanted, last, authorize).map_err(|status| status.message)
    }

    const ON_USER: Grant = ("impersonate-on:user-info:list", "pods", "*");
    const USER: Grant = ("impersonate:user-info", "users", "jane");

    #[test]
    fn a_constrained_mode_needs_both_grants() {
        let gw = user("gw");
        let jane = ask(&gw, &wanted("jane"), None, &[ON_USER, USER]).unwrap();
        assert_eq!((jane.mode, jane.mode.constraint()), (Mode::UserInfo, Some("impersonate:user-info")));
        assert_eq!(jane.user, user("jane"));
        assert_eq!(
            ask(&gw, &wanted("jane"), None, &[USER]).unwrap_err(),
            r#"pods is forbidden: User "gw" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "ns""#
        );
        assert_eq!(
            ask(&gw, &wanted("jane"), None, &[ON_USER]).unwrap_err(),
            r#"users.authentication.k8s.io "jane" is forbidden: User "gw" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope"#
        );
    }

    #[test]
    fn the_legacy_mode_is_the_last_resort_and_its_refusal_is_shown_only_when_it_is_tried_first() {
        let gw = user("gw");
        let legacy = [("impersonate", "users", "jane")];
        let jane = ask(&gw, &wanted("jane"), None, &legacy).unwrap();
        assert_eq!((jane.mode, jane.mode.constraint()), (Mode::Legacy, None));
        let more = groups("jane", &["devs"]);
        assert!(ask(&gw, &more, None, &legacy).unwrap_err().contains("impersonate-on:user-info:list"));
        assert_eq!(
            ask(&gw, &more, Some(Mode::Legacy), &legacy).unwrap_err(),
            r#"groups "devs" is forbidden: User "gw" cannot impersonate resource "groups" in API group "" at the cluster scope"#
        );
        // A mode that does not fit has no refusal of its own, however well it worked before.
        assert!(ask(&gw, &more, Some(Mode::ArbitraryNode), &legacy).unwrap_err().contains("user-info"));
    }

    #[test]
    fn nodes_and_service_accounts_have_modes_and_groups_of_their_own() {
        let gw = user("gw");
        let node = [("impersonate-on:arbitrary-node:list", "pods", "*"), ("impersonate:arbitrary-node", "nodes", "n1")];
        let granted = ask(&gw, &wanted("system:node:n1"), None, &node).unwrap();
        assert_eq!(granted.mode, Mode::ArbitraryNode);
        assert_eq!(granted.user.groups, ["system:nodes", "system:authenticated"]);
        assert!(ask(&gw, &wanted("system:node:n2"), None, &node).is_err());
        assert!(ask(&gw, &groups("system:node:n1", &["system:nodes"]), None, &node).is_err());

        let account = "system:serviceaccount:a:b";
        let grants = [
            ("impersonate-on:serviceaccount:list", "pods", "*"),
            ("impersonate:serviceaccount", "serviceaccounts", "b"),
        ];
        let granted = ask(&gw, &wanted(account), None, &grants).unwrap();
        assert_eq!(granted.mode, Mode::ServiceAccount);
        assert_eq!(granted.user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
        // Anybody's name is user-info's business, but never these.
        let user_info = [ON_USER, ("impersonate:user-info", "users", "*")];
        assert!(ask(&gw, &wanted(account), None, &user_info).is_err());
        assert!(ask(&gw, &wanted("system:node:n1"), None, &user_info).is_err());
        assert!(ask(&gw, &wanted("system:node:N_1"), None, &user_info).is_ok());
        assert!(ask(&gw, &wanted("system:serviceaccount:A:b"), None, &user_info).is_ok());
    }

    #[test]
    fn a_service_account_may_be_the_node_of_its_own_pod_only() {
        let mut agent = user("system:serviceaccount:kube-system:agent");
        agent.extra.insert(NODE_NAME.to_owned(), vec!["n1".to_owned()]);
        let on = ("impersonate-on:associated-node:list", "pods", "*");
        let grants = [on, ("impersonate:associated-node", "nodes", "*")];
        assert_eq!(ask(&agent, &wanted("system:node:n1"), None, &grants).unwrap().mode, Mode::AssociatedNode);
        assert!(ask(&agent, &wanted("system:node:n2"), None, &grants).unwrap_err().contains("arbitrary-node"));
        assert_eq!(
            ask(&agent, &wanted("system:node:n1"), None, &[on]).unwrap_err(),
            r#"nodes.authentication.k8s.io "*" is forbidden: User "system:serviceaccount:kube-system:agent" cannot impersonate:associated-node resource "nodes" in API group "authentication.k8s.io" at the cluster scope"#
        );
        let mut person = agent.clone();
        person.username = "person".to_owned();
        assert!(ask(&person, &wanted("system:node:n1"), None, &grants).is_err());
    }

    #[test]
    fn every_part_of_an_identity_needs_its_grant() {
        let gw = user("gw");
        let all = Wanted {
            uid: "7".to_owned(),
            groups: vec!["devs".to_owned(), "ops".to_owned()],
            ..extra("acme.io/scopes", &["a", "b"])
        };
        for (on, mode, first) in
            [(Some(ON_USER), "impersonate:user-info", Mode::UserInfo), (None, "impersonate", Mode::Legacy)]
        {
            let parts = [
                (mode, "users", "jane"),
                (mode, "uids", "7"),
                (mode, "groups", "devs"),
                (mode, "groups", "ops"),
                (mode, "userextras/acme.io/scopes", "a"),
                (mode, "userextras/acme.io/scopes", "b"),
            ];
            let grants: Vec<Grant> = on.into_iter().chain(parts).collect();
            let granted = ask(&gw, &all, Some(first), &grants).unwrap();
            assert_eq!(granted.mode, first);
            assert_eq!(granted.user.groups, ["devs", "ops", "system:authenticated"]);
            assert_eq!((granted.user.uid, granted.user.extra), ("7".to_owned(), all.extra.clone()));
            for left_out in 0..grants.len() {
                let mut fewer = grants.clone();
                let (verb, resource, _) = fewer.remove(left_out);
                let refusal = ask(&gw, &all, Some(first), &fewer).unwrap_err();
                assert!(refusal.contains(&format!("cannot {verb} resource \"{resource}\"")), "{refusal}");
            }
        }
    }

    #[test]
    fn everyone_and_the_anonymous_have_their_group_unless_it_was_asked_for() {
        let gw = user("gw");
        let any = [("impersonate", "users", "*"), ("impersonate", "groups", "*")];
        for (wanted, want) in [
            (groups("jane", &["system:authenticated", "x"]), vec!["system:authenticated", "x"]),
            (groups("jane", &["system:unauthenticated"]), vec!["system:unauthenticated"]),
            (wanted(ANONYMOUS), vec!["system:unauthenticated"]),
            (groups(ANONYMOUS, &["system:authenticated"]), vec!["system:authenticated", "system:unauthenticated"]),
        ] {
            assert_eq!(ask(&gw, &wanted, None, &any).unwrap().user.groups, want, "{wanted:?}");
        }
    }

    #[test]
    fn a_constrained_mode_refuses_masters_and_malformed_parts() {
        let gw = user("gw");
        let grants = [ON_USER, ("impersonate:user-info", "users", "*"), ("impersonate:user-info", "groups", "*")];
        for (wanted, want) in [
            (groups("jane", &["a", "system:masters"]), "impersonating the system:masters group is not allowed"),
            (groups("jane", &[""]), "impersonating the empty string group is not allowed"),
            (extra("", &["v"]), "impersonating the empty string key in extra is not allowed"),
            (
                extra("plain", &["v"]),
                r#"impersonating an invalid key in extra is not allowed: extra.key: Invalid value: "plain": must be a domain-prefixed path (such as "acme.io/foo")"#,
            ),
            (
                extra("acme.io/a b", &["v"]),
                r#"impersonating an invalid key in extra is not allowed: extra.key: Invalid value: "a b": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')"#,
            ),
            (extra("acme.io/A", &["v"]), r#"impersonating a non-lowercase key in extra is not allowed: "acme.io/A""#),
            (extra("acme.io/a", &["v", ""]), "impersonating the empty string value in extra is not allowed"),
            (extra("acme.io/a", &[]), "impersonating empty values in extra is not allowed"),
        ] {
            let refusal = ask(&gw, &wanted, None, &grants).unwrap_err();
            assert!(refusal.ends_with(want), "{refusal}");
        }
        assert!(
            ask(
                &gw,
                &groups("jane", &["system:masters"]),
                None,
                &[("impersonate", "users", "*"), ("impersonate", "groups", "*")]
            )
            .is_ok()
        );
    }

    #[test]
    fn many_parts_may_be_granted_with_one_star() {
        let gw = user("gw");
        let star = [ON_USER, USER, ("impersonate:user-info", "groups", "*")];
        let many = groups("jane", &["a", "b", "c", "d"]);
        let count = std::cell::Cell::new(0);
        let target = ResourceTarget { namespace: "ns", resource: "pods", ..ResourceTarget::default() };
        let counting = |asked: &Attributes<'_>| {
            count.set(count.get() + 1);
            let crate::Target::Resource(target) = asked.target else { panic!("only resources are asked about") };
            Decision { allowed: target.resource != "groups" || target.name == "*", reason: String::new() }
        };
        impersonate(&Attributes::resource(&gw, "list", target), &many, None, counting).unwrap();
        assert_eq!(count.get(), 3);
        assert!(ask(&gw, &groups("jane", &["a", "b", "c"]), None, &star).is_ok());
        let values = extra("acme.io/a", &["1", "2", "3", "4"]);
        assert!(ask(&gw, &values, None, &[ON_USER, USER, ("impersonate:user-info", "userextras/*", "*")]).is_ok());
        let few = extra("acme.io/a", &["1", "2", "3"]);
        assert!(ask(&gw, &few, None, &[ON_USER, USER, ("impersonate:user-info", "userextras/*", "*")]).is_err());
    }

    proptest! {
        #[test]
        fn without_grants_nobody_is_anybody_and_with_all_of_them_everybody_is_who_they_want(
            name in "(jane|system:(anonymous|node:n1|serviceaccount:[a-z]{0,2}:[a-z:]{0,2}))",
            groups in proptest::collection::vec("(a|b||system:(masters|authenticated|unauthenticated))", 0..6),
            uid in "(7)?",
            key in "[a-zA-Z/.%]{0,6}",
            values in proptest::collection::vec("[a-z]{0,2}", 0..5),
            last in 0_usize..6,
        ) {
            let extra = if values.is_empty() { BTreeMap::new() } else { BTreeMap::from([(key, values)]) };
            let wanted = Wanted { username: name, uid, groups, extra };
            let last = Mode::ALL.get(last).copied();
            prop_assert!(ask(&user("gw"), &wanted, last, &[]).is_err());
            let gw = user("gw");
            let attributes = Attributes::path(&gw, "get", "/x");
            let all = |_: &Attributes<'_>| Decision { allowed: true, reason: String::new() };
            let granted = impersonate(&attributes, &wanted, last, all).unwrap();
            prop_assert_eq!((&granted.user.username, &granted.user.uid), (&wanted.username, &wanted.uid));
            prop_assert_eq!(&granted.user.extra, &wanted.extra);
            prop_assert!(wanted.groups.iter().all(|group| granted.user.in_group(group)));
            prop_assert!(!granted.user.in_group(MASTERS_GROUP) || granted.mode == Mode::Legacy);
        }
    }
}
