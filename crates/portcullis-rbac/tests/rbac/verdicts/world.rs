//! Random roles and bindings. Many worlds live in one cluster; each has names of its own, so that the bindings of one do not
//! decide the cases of another.

use std::collections::BTreeMap;

use portcullis_kube::ObjectMeta;
use portcullis_kube::meta::{LabelSelector, SelectorRequirement};
use portcullis_kube::rbac::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use portcullis_rbac::Policy;

use crate::dice::Dice;

pub(crate) const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
    "approve",
    "use",
    "odd-verb",
];
pub(crate) const GROUPS: &[&str] = &["", "apps", "batch", "example.com", "rbac.authorization.k8s.io"];
pub(crate) const RESOURCES: &[&str] =
    &["pods", "deployments", "jobs", "secrets", "configmaps", "nodes", "roles", "clusterroles", "widgets"];
pub(crate) const SUBRESOURCES: &[&str] = &["log", "status", "scale", "exec", "token", "a/b"];
pub(crate) const NAMES: &[&str] = &["web-0", "a", "x:y", "b.c", "UPPER", "*"];
pub(crate) const URLS: &[&str] =
    &["/metrics", "/metrics/cadvisor", "/logs", "/logs/a/b", "/custom", "/custom/", "/customs", "/", "", "no-slash"];
const URL_PATTERNS: &[&str] =
    &["/metrics", "/logs", "/custom", "/logs/*", "/custom*", "/metrics/**", "*", "/*", "no-*", ""];

/// One world.
pub(crate) struct World {
    /// Begins every name of it.
    pub(crate) mark: String,
    pub(crate) namespaces: [String; 2],
    pub(crate) users: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) cluster_roles: Vec<ClusterRole>,
    pub(crate) roles: Vec<Role>,
    pub(crate) cluster_role_bindings: Vec<ClusterRoleBinding>,
    pub(crate) role_bindings: Vec<RoleBinding>,
}

impl World {
    pub(crate) fn random(dice: &Dice, number: usize) -> Self {
        let mark = format!("w{number}");
        let named = |kind: &str, count: usize| (0..count).map(|n| format!("{mark}-{kind}{n}")).collect::<Vec<_>>();
        let mut users = named("u", 4);
        users.push(format!("{mark}:Odd \"us\u{e9}r\"<{mark}>@example.com"));
        let mut world = Self {
            namespaces: [format!("{mark}-a"), format!("{mark}-b")],
            users,
            groups: named("g", 4),
            cluster_roles: Vec::new(),
            roles: Vec::new(),
            cluster_role_bindings: Vec::new(),
            role_bindings: Vec::new(),
            mark,
        };
        world.make_cluster_roles(dice);
        for namespace in world.namespaces.clone() {
            for n in 0..3 {
                let rules = (0..=dice.below(3)).map(|_| resource_rule(dice)).collect();
                let metadata = ObjectMeta::namespaced(&namespace, format!("{}-r{n}", world.mark));
                world.roles.push(Role { metadata, rules, ..Role::default() });
            }
        }
        world.bind(dice);
        world
    }

    fn make_cluster_roles(&mut self, dice: &Dice) {
        for n in 0..6 {
            self.cluster_roles.push(self.cluster_role(dice, &format!("c{n}"), &[]));
        }
        // Parts, and roles that gather them by value, by presence, and through each other.
        for n in 0..4 {
            let value = dice.text(&["x", "y"]);
            self.cluster_roles.push(self.cluster_role(dice, &format!("part{n}"), &[("part", &value)]));
        }
        let key = self.label("part");
        let by_value =
            LabelSelector { match_labels: BTreeMap::from([(key.clone(), "x".to_owned())]), ..LabelSelector::default() };
        let requirement = |operator: &str, values: &[&str]| SelectorRequirement {
            key: key.clone(),
            operator: operator.to_owned(),
            values: values.iter().map(|&value| value.to_owned()).collect(),
        };
        let expressions =
            |list: Vec<SelectorRequirement>| LabelSelector { match_expressions: list, ..LabelSelector::default() };
        for (name, selectors, labels) in [
            ("agg-value", vec![by_value.clone()], vec![("sum", "1")]),
            ("agg-set", vec![expressions(vec![requirement("In", &["y", "z"])]), by_value], vec![]),
            (
                "agg-rest",
                vec![expressions(vec![requirement("Exists", &[]), requirement("NotIn", &["x"])])],
                vec![("sum", "2")],
            ),
            (
                "agg-sum",
                vec![expressions(vec![SelectorRequirement { key: self.label("sum"), ..requirement("Exists", &[]) }])],
                vec![],
            ),
        ] {
            let mut role = self.cluster_role(dice, name, &labels);
            // The controller overwrites what was there.
            role.rules.truncate(dice.below(2));
            role.aggregation_rule = Some(AggregationRule { cluster_role_selectors: selectors });
            self.cluster_roles.push(role);
        }
    }

    fn label(&self, name: &str) -> String {
        format!("{}/{name}", self.mark)
    }

    fn cluster_role(&self, dice: &Dice, name: &str, labels: &[(&str, &str)]) -> ClusterRole {
        let mut metadata = ObjectMeta::named(format!("{}-{name}", self.mark));
        metadata.labels = labels.iter().map(|(key, value)| (self.label(key), (*value).to_owned())).collect();
        let rule = |_| if dice.percent(35) { url_rule(dice) } else { resource_rule(dice) };
        ClusterRole { metadata, rules: (0..=dice.below(3)).map(rule).collect(), ..ClusterRole::default() }
    }

    fn bind(&mut self, dice: &Dice) {
        for n in 0..9 {
            let role = self.some_cluster_role(dice);
            let subjects = self.subjects(dice, false);
            let binding = ClusterRoleBinding::new(format!("{}-cb{n}", self.mark), role, subjects);
            self.cluster_role_bindings.push(binding);
        }
        // What everybody gets who is in a group that the server gives: a resource of this world only.
        for (n, group) in
            ["system:authenticated", "system:serviceaccounts", "system:unauthenticated"].iter().enumerate()
        {
            let name = format!("{}-all{n}", self.mark);
            let rule = PolicyRule {
                verbs: dice.some(VERBS, 1, 3),
                api_groups: dice.some(GROUPS, 1, 2),
                resources: vec![format!("{}-things", self.mark)],
                ..PolicyRule::default()
            };
            let metadata = ObjectMeta::named(&name);
            self.cluster_roles.push(ClusterRole { metadata, rules: vec![rule], ..ClusterRole::default() });
            self.cluster_role_bindings.push(ClusterRoleBinding::new(&name, &name, vec![Subject::group(*group)]));
        }
        for namespace in self.namespaces.clone() {
            for n in 0..7 {
                let role_ref = match dice.below(10) {
                    0..4 => RoleRef::role(format!("{}-r{}", self.mark, dice.below(3))),
                    4 => RoleRef::role(format!("{}-gone{}", self.mark, dice.below(4))),
                    _ => RoleRef::cluster_role(self.some_cluster_role(dice)),
                };
                self.role_bindings.push(RoleBinding {
                    metadata: ObjectMeta::namespaced(&namespace, format!("{}-rb{n}", self.mark)),
                    subjects: self.subjects(dice, true),
                    role_ref,
                    ..RoleBinding::default()
                });
            }
        }
    }

    /// One of this world's, of those that aggregate, or one that does not exist.
    fn some_cluster_role(&self, dice: &Dice) -> String {
        match dice.below(10) {
            0 => format!("{}-none{}", self.mark, dice.below(4)),
            1..4 => format!("{}-{}", self.mark, dice.text(&["agg-value", "agg-set", "agg-rest", "agg-sum"])),
            _ => format!("{}-c{}", self.mark, dice.below(6)),
        }
    }

    fn subjects(&self, dice: &Dice, namespaced: bool) -> Vec<Subject> {
        (0..=dice.below(3))
            .map(|_| match dice.below(8) {
                0..3 => Subject::user(dice.pick(&self.users)),
                3..5 => Subject::group(dice.pick(&self.groups)),
                5 => Subject::group(format!("system:serviceaccounts:{}", dice.pick(&self.namespaces))),
                6 if namespaced => {
                    Subject { namespace: String::new(), ..Subject::service_account("", self.account(dice)) }
                }
                _ => Subject::service_account(dice.pick(&self.namespaces), self.account(dice)),
            })
            .collect()
    }

    pub(crate) fn account(&self, dice: &Dice) -> String {
        format!("{}-{}", self.mark, dice.text(&["bot", "sa.1"]))
    }

    /// Adds everything to a policy.
    pub(crate) fn enter(&self, policy: &mut Policy) {
        self.cluster_roles.iter().for_each(|role| policy.set_cluster_role(role.clone()));
        self.roles.iter().for_each(|role| policy.set_role(role.clone()));
        self.cluster_role_bindings.iter().for_each(|binding| policy.set_cluster_role_binding(binding.clone()));
        self.role_bindings.iter().for_each(|binding| policy.set_role_binding(binding.clone()));
    }
}

fn star_or(dice: &Dice, percent: usize, list: &[&str], most: usize) -> Vec<String> {
    let mut some = dice.some(list, 1, most);
    if dice.percent(percent) {
        // Alone, or beside what it makes superfluous.
        if dice.percent(60) {
            some.clear();
        }
        some.push("*".to_owned());
    }
    some
}

fn resource_rule(dice: &Dice) -> PolicyRule {
    let resources = (0..=dice.below(3)).map(|_| match dice.below(10) {
        0 => "*".to_owned(),
        1..3 => format!("*/{}", dice.text(SUBRESOURCES)),
        3..5 => format!("{}/*", dice.text(RESOURCES)),
        5..7 => format!("{}/{}", dice.text(RESOURCES), dice.text(SUBRESOURCES)),
        _ => dice.text(RESOURCES),
    });
    PolicyRule {
        resources: resources.collect(),
        verbs: star_or(dice, 20, VERBS, 4),
        api_groups: star_or(dice, 20, GROUPS, 2),
        resource_names: if dice.percent(30) { dice.some(NAMES, 1, 3) } else { Vec::new() },
        ..PolicyRule::default()
    }
}

fn url_rule(dice: &Dice) -> PolicyRule {
    PolicyRule {
        verbs: star_or(dice, 25, &["get", "post", "put", "delete", "head", "patch", "options"], 3),
        non_resource_urls: dice.some(URL_PATTERNS, 1, 3),
        ..PolicyRule::default()
    }
}
