//! `authorization.k8s.io/v1`: asking whether someone may do something, and what oneself may do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::meta::{ObjectMeta, SelectorRequirement};
use crate::wire::{is_false, nullable, nullable_lists};

pub mod validate;

/// The API group.
pub const GROUP: &str = "authorization.k8s.io";
/// Group and version.
pub const API_VERSION: &str = "authorization.k8s.io/v1";

/// "May this user do that?"; also the shape of `LocalSubjectAccessReview`, which is bound to a namespace, and of
/// `SelfSubjectAccessReview`, whose question names no user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubjectAccessReview {
    /// `SubjectAccessReview`, `LocalSubjectAccessReview` or `SelfSubjectAccessReview`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub kind: String,
    /// [`API_VERSION`].
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub api_version: String,
    /// Must be empty, but for the namespace of a local review.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// The question.
    #[serde(deserialize_with = "nullable")]
    pub spec: SubjectAccessReviewSpec,
    /// The answer.
    #[serde(deserialize_with = "nullable")]
    pub status: SubjectAccessReviewStatus,
}

/// The question of a [`SubjectAccessReview`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubjectAccessReviewSpec {
    /// Exactly one of this
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_attributes: Option<ResourceAttributes>,
    /// and this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub non_resource_attributes: Option<NonResourceAttributes>,
    /// The user's name.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub user: String,
    /// The user's groups.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub groups: Vec<String>,
    /// What else is known of the user.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable_lists")]
    pub extra: BTreeMap<String, Vec<String>>,
    /// The user's uid.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub uid: String,
}

/// A question about a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceAttributes {
    /// Empty: cluster-scoped, or all namespaces.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub namespace: String,
    /// `get`, `list`, … or `*`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub verb: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub group: String,
    /// API version; empty is `*`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub version: String,
    /// Plural name.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub resource: String,
    /// For example `log`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub subresource: String,
    /// Empty: all.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub name: String,
    /// Limits a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_selector: Option<SelectorAttributes>,
    /// Limits a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<SelectorAttributes>,
}

/// A selector of a question, raw or parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SelectorAttributes {
    /// As it stands in a query.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub raw_selector: String,
    /// Parsed.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub requirements: Vec<SelectorRequirement>,
}

/// A question about a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NonResourceAttributes {
    /// The URL's path.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub path: String,
    /// HTTP verb in lower case.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub verb: String,
}

/// The answer of a [`SubjectAccessReview`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubjectAccessReviewStatus {
    /// Whether it may be done; always printed.
    #[serde(deserialize_with = "nullable")]
    pub allowed: bool,
    /// Whether it was refused, rather than not allowed.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "nullable")]
    pub denied: bool,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub reason: String,
    /// What went wrong meanwhile.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub evaluation_error: String,
}

/// "What may I do in this namespace?"; `kubectl auth can-i --list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SelfSubjectRulesReview {
    /// `SelfSubjectRulesReview`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub kind: String,
    /// [`API_VERSION`].
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub api_version: String,
    /// Hardly ever filled.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// The question.
    #[serde(deserialize_with = "nullable")]
    pub spec: SelfSubjectRulesReviewSpec,
    /// The answer.
    #[serde(deserialize_with = "nullable")]
    pub status: SubjectRulesReviewStatus,
}

/// The question of a [`SelfSubjectRulesReview`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelfSubjectRulesReviewSpec {
    /// Required.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub namespace: String,
}

/// The answer of a [`SelfSubjectRulesReview`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubjectRulesReviewStatus {
    /// On resources.
    #[serde(deserialize_with = "nullable")]
    pub resource_rules: Vec<ResourceRule>,
    /// On URLs.
    #[serde(deserialize_with = "nullable")]
    pub non_resource_rules: Vec<NonResourceRule>,
    /// Whether an authorizer could not list its rules.
    #[serde(deserialize_with = "nullable")]
    pub incomplete: bool,
    /// What went wrong meanwhile.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub evaluation_error: String,
}

/// Something that one may do to resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceRule {
    /// Verbs.
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    /// API groups.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub api_groups: Vec<String>,
    /// Resources.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub resources: Vec<String>,
    /// Names; empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub resource_names: Vec<String>,
}

/// Something that one may do to URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NonResourceRule {
    /// Verbs.
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    /// Paths.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub non_resource_urls: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectls_can_i_reads_and_answers() {
        let asked = r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{"creationTimestamp":null},"spec":{"resourceAttributes":{"namespace":"default","verb":"list","resource":"pods"}},"status":{"allowed":false}}"#;
        let mut review: SubjectAccessReview = serde_json::from_str(asked).unwrap();
        review.status.allowed = true;
        review.status.reason = "because".to_owned();
        assert_eq!(
            serde_json::to_string(&review).unwrap(),
            r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{"resourceAttributes":{"namespace":"default","verb":"list","resource":"pods"}},"status":{"allowed":true,"reason":"because"}}"#
        );
    }

    #[test]
    fn a_refusal_says_allowed_false() {
        let status = SubjectAccessReviewStatus::default();
        assert_eq!(serde_json::to_string(&status).unwrap(), r#"{"allowed":false}"#);
    }

    #[test]
    fn a_rules_review_prints_empty_lists() {
        let json = serde_json::to_string(&SubjectRulesReviewStatus::default()).unwrap();
        assert_eq!(json, r#"{"resourceRules":[],"nonResourceRules":[],"incomplete":false}"#);
    }
}
