//! How often each feature of RBAC decided.

use std::collections::BTreeMap;

use portcullis_kube::UserInfo;
use portcullis_kube::authorization::{SelectorAttributes, SubjectAccessReviewSpec, SubjectAccessReviewStatus};
use portcullis_kube::rbac::PolicyRule;
use portcullis_rbac::{Attributes, Policy, PolicySource as _, Target, referenced_rules, rule_allows};

use super::case::Case;
use crate::deciding::{Allowing, Deciding};

/// How often each feature decided.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) allowed: usize,
    total: usize,
    features: BTreeMap<&'static str, usize>,
}

/// Everything that must have decided often enough.
const FEATURES: &[&str] = &[
    "apiGroup: *",
    "apiGroup: core",
    "apiGroup: named",
    "binding: ClusterRoleBinding",
    "binding: RoleBinding of a ClusterRole",
    "binding: RoleBinding of a Role",
    "group: of the server's own",
    "group: system:masters",
    "names: a resourceName",
    "names: refused without a name",
    "reason: a missing role",
    "reason: one of several",
    "reason: several missing roles",
    "reason: the only one",
    "resource: *",
    "resource: */subresource",
    "resource: literal",
    "resource: resource/* is literal",
    "resource: resource/* is no wildcard",
    "resource: resource/subresource",
    "role: aggregated",
    "role: of a new cluster",
    "scope: cluster-wide only through a ClusterRoleBinding",
    "scope: path only through a ClusterRoleBinding",
    "selector: field, raw",
    "selector: field, requirements",
    "selector: ignored",
    "selector: label, raw",
    "selector: label, requirements",
    "selector: partially ignored",
    "subject: Group",
    "subject: ServiceAccount",
    "subject: ServiceAccount of the binding's namespace",
    "subject: User",
    "subject: with uid and extra",
    "url: *",
    "url: literal",
    "url: prefix*",
    "verb: *",
    "verb: bind, escalate or impersonate",
    "verb: literal",
];

/// What was bent, when that made the difference.
const BENT: &[&str] =
    &["case", "group or path", "name", "namespace", "resource", "resource for path", "subject", "subresource", "verb"];

impl Counts {
    fn count(&mut self, feature: &'static str) {
        debug_assert!(FEATURES.contains(&feature) || BENT.contains(&feature), "{feature}");
        *self.features.entry(feature).or_default() += 1;
    }

    pub(crate) fn add(
        &mut self,
        policy: &Policy,
        deciding: &Deciding<'_>,
        case: &Case,
        (user, spec): (&UserInfo, &SubjectAccessReviewSpec),
        ours: &SubjectAccessReviewStatus,
    ) {
        self.total += 1;
        self.selectors(spec, ours);
        let attributes = Attributes::from_review(user, spec).expect("a question");
        if !ours.allowed {
            if let Some(bent) = case.bent {
                self.count(BENT.iter().find(|known| **known == bent).expect("a known kind"));
            }
            self.refused(policy, &attributes, ours);
            return;
        }
        self.allowed += 1;
        if user.in_group("system:masters") {
            self.count("group: system:masters");
            return;
        }
        if !user.uid.is_empty() {
            self.count("subject: with uid and extra");
        }
        let all = deciding.allowing(&attributes);
        self.count(if all.len() > 1 { "reason: one of several" } else { "reason: the only one" });
        let allowing = all.iter().find(|allowing| allowing.reason == ours.reason).expect("the binding that allows");
        self.binding(policy, allowing, user);
        let rules = referenced_rules(policy, allowing.role, allowing.namespace).expect("its role");
        let rule = rules.iter().find(|rule| rule_allows(rule, &attributes)).expect("the rule that allows");
        self.rule(rule, &attributes);
    }

    fn binding(&mut self, policy: &Policy, allowing: &Allowing<'_>, user: &UserInfo) {
        self.count(match (allowing.namespace.is_empty(), allowing.role.kind.as_str()) {
            (true, _) => "binding: ClusterRoleBinding",
            (false, "Role") => "binding: RoleBinding of a Role",
            (false, _) => "binding: RoleBinding of a ClusterRole",
        });
        let role = (allowing.role.kind == "ClusterRole").then(|| policy.cluster_role(&allowing.role.name)).flatten();
        if role.is_some_and(|role| role.aggregation_rule.is_some()) {
            self.count("role: aggregated");
        }
        if role.is_some_and(|role| role.metadata.labels.contains_key("kubernetes.io/bootstrapping")) {
            self.count("role: of a new cluster");
        }
        let named = allowing.subjects.iter().find(|subject| match subject.kind.as_str() {
            "User" => subject.name == user.username,
            "Group" => user.in_group(&subject.name),
            _ => {
                let own = if subject.namespace.is_empty() { allowing.namespace } else { &subject.namespace };
                user.username == format!("system:serviceaccount:{own}:{}", subject.name)
            }
        });
        let subject = named.expect("the subject that applies");
        self.count(match (subject.kind.as_str(), subject.namespace.is_empty()) {
            ("User", _) => "subject: User",
            ("Group", _) => "subject: Group",
            (_, true) => "subject: ServiceAccount of the binding's namespace",
            (_, false) => "subject: ServiceAccount",
        });
        if subject.kind == "Group" && subject.name.starts_with("system:") {
            self.count("group: of the server's own");
        }
    }

    fn rule(&mut self, rule: &PolicyRule, attributes: &Attributes<'_>) {
        let literal = |list: &[String], wanted: &str| list.iter().any(|item| item == wanted);
        self.count(if literal(&rule.verbs, attributes.verb) { "verb: literal" } else { "verb: *" });
        if matches!(attributes.verb, "bind" | "escalate" | "impersonate") {
            self.count("verb: bind, escalate or impersonate");
        }
        match attributes.target {
            Target::Path(path) => self.count(if literal(&rule.non_resource_urls, path) {
                "url: literal"
            } else if literal(&rule.non_resource_urls, "*") {
                "url: *"
            } else {
                "url: prefix*"
            }),
            Target::Resource(target) => {
                self.count(match (literal(&rule.api_groups, target.api_group), target.api_group) {
                    (false, _) => "apiGroup: *",
                    (true, "") => "apiGroup: core",
                    (true, _) => "apiGroup: named",
                });
                let full = format!("{}/{}", target.resource, target.subresource);
                self.count(match target.subresource {
                    "" if literal(&rule.resources, target.resource) => "resource: literal",
                    "*" if literal(&rule.resources, &full) => "resource: resource/* is literal",
                    "" => "resource: *",
                    _ if literal(&rule.resources, &full) => "resource: resource/subresource",
                    sub if literal(&rule.resources, &format!("*/{sub}")) => "resource: */subresource",
                    _ => "resource: *",
                });
                if !rule.resource_names.is_empty() {
                    self.count("names: a resourceName");
                }
            }
        }
    }

    /// Why a refused question came close.
    fn refused(&mut self, policy: &Policy, attributes: &Attributes<'_>, ours: &SubjectAccessReviewStatus) {
        if ours.reason.contains("], ") || ours.reason.contains(", ") {
            self.count("reason: several missing roles");
        } else if !ours.reason.is_empty() {
            self.count("reason: a missing role");
        }
        let rules = portcullis_rbac::rules_for(policy, attributes.user, attributes.namespace()).rules;
        match attributes.target {
            Target::Resource(target) => {
                let wildcard = format!("{}/*", target.resource);
                let only_star = |rule: &&PolicyRule| {
                    let mut wider = PolicyRule::clone(rule);
                    wider.resources = vec![format!("{}/{}", target.resource, target.subresource)];
                    rule.resources.contains(&wildcard) && rule_allows(&wider, attributes)
                };
                if !target.subresource.is_empty() && rules.iter().any(only_star) {
                    self.count("resource: resource/* is no wildcard");
                }
                let without_names = |rule: &&PolicyRule| {
                    let wider = PolicyRule { resource_names: Vec::new(), ..PolicyRule::clone(rule) };
                    rule_allows(&wider, attributes)
                };
                if target.name.is_empty() && rules.iter().any(without_names) {
                    self.count("names: refused without a name");
                }
                if target.namespace.is_empty() && self.allowed_somewhere(policy, attributes) {
                    self.count("scope: cluster-wide only through a ClusterRoleBinding");
                }
            }
            Target::Path(_) => {
                if self.allowed_somewhere(policy, attributes) {
                    self.count("scope: path only through a ClusterRoleBinding");
                }
            }
        }
    }

    /// Whether a role binding of some namespace has a rule that would allow it there.
    #[expect(clippy::unused_self, reason = "it belongs to the counting")]
    fn allowed_somewhere(&self, policy: &Policy, attributes: &Attributes<'_>) -> bool {
        // The world's mark begins its names, and so tells its namespaces.
        let mark = attributes.user.username.split(['-', ':']).find(|part| part.starts_with('w')).unwrap_or_default();
        ["a", "b"].into_iter().any(|end| {
            let rules = portcullis_rbac::rules_for(policy, attributes.user, &format!("{mark}-{end}")).rules;
            rules.iter().any(|rule| rule_allows(rule, attributes))
        })
    }

    fn selectors(&mut self, spec: &SubjectAccessReviewSpec, ours: &SubjectAccessReviewStatus) {
        let Some(asked) = &spec.resource_attributes else { return };
        let raw = |selector: &SelectorAttributes| !selector.raw_selector.is_empty();
        if let Some(selector) = &asked.field_selector {
            self.count(if raw(selector) { "selector: field, raw" } else { "selector: field, requirements" });
        }
        if let Some(selector) = &asked.label_selector {
            self.count(if raw(selector) { "selector: label, raw" } else { "selector: label, requirements" });
        }
        if ours.evaluation_error.contains("partially") {
            self.count("selector: partially ignored");
        }
        if ours.evaluation_error.contains("Selector ignored") {
            self.count("selector: ignored");
        }
    }

    pub(crate) fn print(&self) {
        println!("{} cases, {} allowed ({} %)", self.total, self.allowed, self.allowed * 100 / self.total.max(1));
        for feature in FEATURES {
            println!("{:>7}  {feature}", self.features.get(feature).copied().unwrap_or_default());
        }
        for bent in BENT {
            println!("{:>7}  refused, bent: {bent}", self.features.get(bent).copied().unwrap_or_default());
        }
    }

    /// The features that decided in fewer cases.
    pub(crate) fn rarer_than(&self, least: usize) -> Vec<(&'static str, usize)> {
        let counted = |feature: &&'static str| (*feature, self.features.get(*feature).copied().unwrap_or_default());
        FEATURES.iter().chain(BENT).map(counted).filter(|(_, count)| *count < least).collect()
    }
}
