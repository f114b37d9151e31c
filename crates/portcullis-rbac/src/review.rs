//! The answers of access reviews and rules reviews.
//!
//! Compat: `pkg/registry/authorization` of Kubernetes 1.37. RBAC never refuses outright and never fails, so `denied` stays
//! false, and an evaluation error speaks of selectors only. What is no valid question must have been turned away before
//! ([`portcullis_kube::authorization::validate`]).

use portcullis_kube::UserInfo;
use portcullis_kube::authorization::{
    NonResourceRule, ResourceRule, SelectorAttributes, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
    SubjectRulesReviewStatus,
};
use portcullis_kube::field::aggregate;
use portcullis_kube::meta::SelectorRequirement;

use crate::attributes::Attributes;
use crate::authorize::{authorize, rules_for};
use crate::field_selector::FieldSelector;
use crate::label_selector::LabelSelector;
use crate::policy::PolicySource;

/// Whether this user may do what the review asks about. The user is the review's own for a `SelfSubjectAccessReview`, and
/// otherwise [`subject`].
pub fn access(
    policy: &impl PolicySource,
    user: &UserInfo,
    spec: &SubjectAccessReviewSpec,
) -> SubjectAccessReviewStatus {
    let Some(attributes) = Attributes::from_review(user, spec) else { return SubjectAccessReviewStatus::default() };
    let decision = authorize(policy, &attributes);
    SubjectAccessReviewStatus {
        allowed: decision.allowed,
        denied: false,
        reason: decision.reason,
        evaluation_error: evaluation_error(spec),
    }
}

/// Whom a review asks about.
pub fn subject(spec: &SubjectAccessReviewSpec) -> UserInfo {
    UserInfo {
        username: spec.user.clone(),
        uid: spec.uid.clone(),
        groups: spec.groups.clone(),
        extra: spec.extra.clone(),
    }
}

/// What a user may do in a namespace.
pub fn rules(policy: &impl PolicySource, user: &UserInfo, namespace: &str) -> SubjectRulesReviewStatus {
    let found = rules_for(policy, user, namespace);
    let mut status = SubjectRulesReviewStatus::default();
    if !found.errors.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        status.evaluation_error = aggregate(&errors);
    }
    for rule in found.rules {
        if !rule.resources.is_empty() {
            status.resource_rules.push(ResourceRule {
                verbs: rule.verbs.clone(),
                api_groups: rule.api_groups.clone(),
                resources: rule.resources.clone(),
                resource_names: rule.resource_names.clone(),
            });
        }
        if !rule.non_resource_urls.is_empty() {
            let (verbs, non_resource_urls) = (rule.verbs.clone(), rule.non_resource_urls.clone());
            status.non_resource_rules.push(NonResourceRule { verbs, non_resource_urls });
        }
    }
    status
}

/// How much of a selector was understood.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Understood {
    All,
    Some,
    Nothing,
}

impl Understood {
    fn of(requirements: &[SelectorRequirement], known: impl Fn(&SelectorRequirement) -> bool) -> Self {
        match requirements.iter().filter(|requirement| known(requirement)).count() {
            count if count == requirements.len() => Self::All,
            0 => Self::Nothing,
            _ => Self::Some,
        }
    }
}

/// What of the selectors was ignored. To ignore a condition widens the question, so it is safe, and it is said.
fn evaluation_error(spec: &SubjectAccessReviewSpec) -> String {
    let Some(asked) = &spec.resource_attributes else { return String::new() };
    let selectors = [
        ("fieldSelector", asked.field_selector.as_ref().map(fields)),
        ("labelSelector", asked.label_selector.as_ref().map(labels)),
    ];
    let errors: Vec<String> = selectors
        .into_iter()
        .filter_map(|(name, understood)| {
            let how = match understood? {
                Understood::All => return None,
                Understood::Some => "partially ignored",
                Understood::Nothing => "ignored",
            };
            Some(format!("spec.resourceAttributes.{name} {how} due to parse error"))
        })
        .collect();
    errors.join("; ")
}

fn fields(selector: &SelectorAttributes) -> Understood {
    if !selector.requirements.is_empty() {
        // Upstream's field selectors compare with one value, and nothing else.
        return Understood::of(&selector.requirements, |requirement| {
            matches!(requirement.operator.as_str(), "In" | "NotIn") && requirement.values.len() == 1
        });
    }
    if FieldSelector::parse(&selector.raw_selector).is_ok() { Understood::All } else { Understood::Nothing }
}

fn labels(selector: &SelectorAttributes) -> Understood {
    if !selector.requirements.is_empty() {
        return Understood::of(&selector.requirements, |requirement| {
            matches!(requirement.operator.as_str(), "In" | "NotIn" | "Exists" | "DoesNotExist")
        });
    }
    if LabelSelector::parse(&selector.raw_selector).is_ok() { Understood::All } else { Understood::Nothing }
}

#[cfg(test)]
mod tests {
    use portcullis_kube::rbac::{ClusterRole, ClusterRoleBinding, PolicyRule, Subject};

    use super::*;
    use crate::policy::Policy;

    fn policy() -> Policy {
        let mut policy = Policy::default();
        let own = |text: &str| vec![text.to_owned()];
        let rule =
            PolicyRule { verbs: own("list"), api_groups: own(""), resources: own("pods"), ..PolicyRule::default() };
        let urls = PolicyRule { verbs: own("get"), non_resource_urls: own("/x"), ..PolicyRule::default() };
        let mut role = ClusterRole { rules: vec![rule, urls], ..ClusterRole::default() };
        role.metadata.name = "r".to_owned();
        policy.set_cluster_role(role);
        policy.set_cluster_role_binding(ClusterRoleBinding::new("b", "r", vec![Subject::user("u")]));
        policy.set_cluster_role_binding(ClusterRoleBinding::new("c", "gone", vec![Subject::user("u")]));
        policy
    }

    fn ask(selectors: &str) -> SubjectAccessReviewStatus {
        let text = format!(r#"{{"user":"u","resourceAttributes":{{"verb":"list","resource":"pods"{selectors}}}}}"#);
        let spec: SubjectAccessReviewSpec = serde_json::from_str(&text).unwrap();
        access(&policy(), &subject(&spec), &spec)
    }

    #[test]
    fn selectors_change_no_verdict_but_what_was_ignored_is_said() {
        let field = "spec.resourceAttributes.fieldSelector";
        let label = "spec.resourceAttributes.labelSelector";
        for (selectors, want) in [
            (String::new(), String::new()),
            (r#","fieldSelector":{"rawSelector":"a=b"},"labelSelector":{"rawSelector":"a in (b)"}"#.to_owned(), String::new()),
            (
                r#","fieldSelector":{"rawSelector":"a"},"labelSelector":{"rawSelector":"a b"}"#.to_owned(),
                format!("{field} ignored due to parse error; {label} ignored due to parse error"),
            ),
            (
                r#","fieldSelector":{"requirements":[{"key":"a","operator":"In","values":["1"]},{"key":"a","operator":"NotIn","values":["1","2"]}]}"#.to_owned(),
                format!("{field} partially ignored due to parse error"),
            ),
            (
                r#","fieldSelector":{"requirements":[{"key":"a","operator":"Exists"}]}"#.to_owned(),
                format!("{field} ignored due to parse error"),
            ),
            (
                r#","labelSelector":{"requirements":[{"key":"a","operator":"Exists"},{"key":"a","operator":"Gt","values":["1"]}]}"#.to_owned(),
                format!("{label} partially ignored due to parse error"),
            ),
            (
                r#","labelSelector":{"requirements":[{"key":"a","operator":"Gt","values":["1"]}]}"#.to_owned(),
                format!("{label} ignored due to parse error"),
            ),
        ] {
            let status = ask(&selectors);
            assert_eq!((status.allowed, status.denied), (true, false), "{selectors}");
            assert_eq!(status.evaluation_error, want, "{selectors}");
        }
    }

    #[test]
    fn a_rules_review_tells_resources_from_paths_and_names_what_is_missing() {
        let status = rules(&policy(), &UserInfo::new("u", [""; 0]), "ns");
        assert_eq!((status.resource_rules.len(), status.non_resource_rules.len()), (1, 1));
        assert!(!status.incomplete);
        assert_eq!(status.evaluation_error, "clusterrole.rbac.authorization.k8s.io \"gone\" not found");
        assert_eq!(rules(&policy(), &UserInfo::new("v", [""; 0]), "ns"), SubjectRulesReviewStatus::default());
    }
}
