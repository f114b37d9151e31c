//! Which access reviews an API server answers, and the texts it refuses others with.
//!
//! Compat: `pkg/apis/authorization/validation` of Kubernetes 1.37; its declarative twin is alpha and decides nothing. Operators
//! of selectors that the server does not know are let through: they widen the question, and the answer says so.

use serde::Serialize;

use super::{NonResourceAttributes, SelectorAttributes, SubjectAccessReviewSpec};
use crate::field::FieldError;
use crate::meta::{ObjectMeta, SelectorRequirement};
use crate::rbac::validate::{label_requirement, requirement_values};

/// The three reviews that ask whether something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessReview {
    /// `SubjectAccessReview`: about anybody.
    Subject,
    /// `LocalSubjectAccessReview`: about anybody, in the namespace of its own metadata.
    Local,
    /// `SelfSubjectAccessReview`: about oneself.
    Own,
}

/// Problems of a review; none, for a good one. The namespace in `metadata` is the one that the request names.
pub fn access_review(kind: AccessReview, metadata: &ObjectMeta, spec: &SubjectAccessReviewSpec) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let (resource, path) = (spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    if resource.is_some() == path.is_some() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        wrong.push(FieldError::invalid_json("spec", &path.map(Printed::of), why));
    }
    if kind != AccessReview::Own && spec.user.is_empty() && spec.groups.is_empty() {
        wrong.push(FieldError::invalid("spec.user", "", "at least one of user or group must be specified"));
    }
    if let Some(asked) = resource {
        let field = "spec.resourceAttributes.fieldSelector";
        selector(asked.field_selector.as_ref(), field, &mut wrong, |requirement, path, wrong| {
            if requirement.key.is_empty() {
                wrong.push(FieldError::required(format!("{path}.key"), "must be specified"));
            }
            requirement_values(requirement, path, true, wrong);
        });
        let field = "spec.resourceAttributes.labelSelector";
        selector(asked.label_selector.as_ref(), field, &mut wrong, |requirement, path, wrong| {
            label_requirement(requirement, path, true, wrong);
        });
    }
    let mut rest = ObjectMeta { managed_fields: Vec::new(), ..metadata.clone() };
    if kind == AccessReview::Local {
        rest.namespace.clear();
    }
    if rest != ObjectMeta::default() {
        let why = if kind == AccessReview::Local { "must be empty except for namespace" } else { "must be empty" };
        wrong.push(FieldError::invalid_json("metadata", metadata, why));
    }
    if kind == AccessReview::Local {
        if let Some(asked) = resource.filter(|asked| asked.namespace != metadata.namespace) {
            let field = "spec.resourceAttributes.namespace";
            wrong.push(FieldError::invalid(field, &asked.namespace, "must match metadata.namespace"));
        }
        if let Some(path) = path {
            let why = "disallowed on this kind of request";
            wrong.push(FieldError::invalid_json("spec.nonResourceAttributes", &Printed::of(path), why));
        }
    }
    wrong
}

/// Upstream prints its internal type, whose members are spelled like Go fields.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Printed<'a> {
    path: &'a str,
    verb: &'a str,
}

impl<'a> Printed<'a> {
    fn of(attributes: &'a NonResourceAttributes) -> Self {
        Self { path: &attributes.path, verb: &attributes.verb }
    }
}

fn selector(
    selector: Option<&SelectorAttributes>,
    path: &str,
    wrong: &mut Vec<FieldError>,
    requirement: impl Fn(&SelectorRequirement, &str, &mut Vec<FieldError>),
) {
    let Some(selector) = selector else { return };
    match (selector.raw_selector.is_empty(), selector.requirements.is_empty()) {
        (false, false) => wrong.push(FieldError::invalid(
            format!("{path}.rawSelector"),
            &selector.raw_selector,
            "may not specified at the same time as requirements",
        )),
        (true, true) => wrong.push(FieldError::required(
            format!("{path}.requirements"),
            format!("when {path} is specified, requirements or rawSelector is required"),
        )),
        _ => {}
    }
    for (index, item) in selector.requirements.iter().enumerate() {
        requirement(item, &format!("{path}.requirements[{index}]"), wrong);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(kind: AccessReview, metadata: &str, spec: &str) -> Vec<String> {
        let metadata: ObjectMeta = serde_json::from_str(metadata).unwrap();
        let spec: SubjectAccessReviewSpec = serde_json::from_str(spec).unwrap();
        access_review(kind, &metadata, &spec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_question_is_about_one_thing_and_somebody() {
        let union = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        let somebody = "spec.user: Invalid value: \"\": at least one of user or group must be specified";
        assert_eq!(
            texts(AccessReview::Subject, "{}", "{}"),
            [format!("spec: Invalid value: null: {union}"), somebody.to_owned()]
        );
        assert_eq!(texts(AccessReview::Own, "{}", "{}"), [format!("spec: Invalid value: null: {union}")]);
        let both = r#"{"groups":["g"],"resourceAttributes":{},"nonResourceAttributes":{"path":"/x","verb":"get"}}"#;
        assert_eq!(
            texts(AccessReview::Subject, "{}", both),
            [format!(r#"spec: Invalid value: {{"Path":"/x","Verb":"get"}}: {union}"#)]
        );
        for good in [r#"{"user":"u","resourceAttributes":{}}"#, r#"{"groups":[""],"nonResourceAttributes":{}}"#] {
            assert_eq!(texts(AccessReview::Subject, "{}", good), Vec::<String>::new());
        }
    }

    #[test]
    fn metadata_is_empty_but_for_the_namespace_of_a_local_review() {
        let spec = r#"{"user":"u","resourceAttributes":{"namespace":"ns"}}"#;
        assert_eq!(
            texts(AccessReview::Subject, r#"{"name":"x","labels":{"a":"<b>"}}"#, spec),
            [r#"metadata: Invalid value: {"name":"x","labels":{"a":"\u003cb\u003e"}}: must be empty"#]
        );
        assert_eq!(
            texts(AccessReview::Local, r#"{"name":"x","namespace":"ns"}"#, spec),
            [r#"metadata: Invalid value: {"name":"x","namespace":"ns"}: must be empty except for namespace"#]
        );
        assert_eq!(texts(AccessReview::Local, r#"{"namespace":"ns"}"#, spec), Vec::<String>::new());
        assert_eq!(
            texts(AccessReview::Local, r#"{"namespace":"other"}"#, spec),
            ["spec.resourceAttributes.namespace: Invalid value: \"ns\": must match metadata.namespace"]
        );
        assert_eq!(
            texts(
                AccessReview::Local,
                r#"{"namespace":"ns"}"#,
                r#"{"user":"u","nonResourceAttributes":{"verb":"get"}}"#
            ),
            [
                r#"spec.nonResourceAttributes: Invalid value: {"Path":"","Verb":"get"}: disallowed on this kind of request"#
            ]
        );
    }

    #[test]
    fn selectors_are_raw_or_parsed_and_may_use_operators_of_the_future() {
        let asked = |selectors: &str| format!(r#"{{"user":"u","resourceAttributes":{{{selectors}}}}}"#);
        let one = asked(
            r#""fieldSelector":{},"labelSelector":{"rawSelector":"a","requirements":[{"key":"_","operator":"In"},{"key":"b","operator":"Odd","values":["_"]}]}"#,
        );
        let prefix = "spec.resourceAttributes";
        let got = texts(AccessReview::Subject, "{}", &one);
        assert_eq!(
            got[..3],
            [
                format!(
                    "{prefix}.fieldSelector.requirements: Required value: when {prefix}.fieldSelector is specified, requirements or rawSelector is required"
                ),
                format!(
                    "{prefix}.labelSelector.rawSelector: Invalid value: \"a\": may not specified at the same time as requirements"
                ),
                format!(
                    "{prefix}.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
                ),
            ]
        );
        assert!(
            got[3].starts_with(&format!("{prefix}.labelSelector.requirements[0].key: Invalid value: \"_\": name part"))
        );
        assert!(got[4].starts_with(&format!("{prefix}.labelSelector.requirements[1].values[0]: Invalid value: \"_\"")));
        assert_eq!(got.len(), 5);
        let two = asked(
            r#""fieldSelector":{"requirements":[{"key":"","operator":"Exists","values":["x"]},{"key":"c","operator":"Odd","values":["_"]}]}"#,
        );
        assert_eq!(
            texts(AccessReview::Own, "{}", &two),
            [
                format!("{prefix}.fieldSelector.requirements[0].key: Required value: must be specified"),
                format!(
                    "{prefix}.fieldSelector.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                ),
            ]
        );
    }
}
