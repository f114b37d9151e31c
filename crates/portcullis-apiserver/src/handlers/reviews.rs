//! Reviews: who am I, may I, what may I, may they, whose token is this. Nothing is stored.
//!
//! Compat: `pkg/registry/authorization`, `pkg/registry/authentication` and their validation of Kubernetes 1.37.

use portcullis_kube::authorization::{
    NonResourceRule, ResourceRule, SubjectAccessReviewSpec, SubjectRulesReviewStatus,
};
use portcullis_kube::field::FieldError;
use portcullis_kube::{Status, UserInfo};
use portcullis_rbac::{Attributes, Policy, RequestInfo, authorize, rules_for};
use serde_json::{Map, Value, json};

use super::no_such_method;
use crate::engine::Engine;
use crate::http::body::{self, Expected};
use crate::http::negotiate::{Accepted, Form};
use crate::http::params::WriteOptions;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::resources::{Review, api_version, at};

/// POST of a review.
pub(crate) async fn review(
    engine: &Engine,
    call: &Call,
    info: &RequestInfo,
    user: &UserInfo,
    review: &'static Review,
    accepted: Accepted,
) -> Outcome<Reply> {
    let in_place = review.namespaced != info.namespace.is_empty();
    if info.verb != "create" || info.parts.len() > 1 || !in_place {
        return Err(no_such_method());
    }
    if accepted.form != Form::Object {
        return Err(super::not_acceptable("application/json", false));
    }
    let options = WriteOptions::parse(&call.params, "CreateOptions")?;
    let decoded = body::decode(call, Expected::of_review(review)?, options.field_validation)?;
    let mut members = decoded.members;
    let policy = engine.policy.snapshot();
    match review.kind {
        "SelfSubjectReview" => {
            members.insert("metadata".to_owned(), json!({"creationTimestamp": engine.clock.now().rfc3339()}));
            members.insert("status".to_owned(), json!({"userInfo": user}));
        }
        "SelfSubjectAccessReview" => access_review(&policy, review, &mut members, Some(user), "")?,
        "SubjectAccessReview" => access_review(&policy, review, &mut members, None, "")?,
        "LocalSubjectAccessReview" => access_review(&policy, review, &mut members, None, &info.namespace)?,
        "SelfSubjectRulesReview" => rules_review(&policy, &mut members, user)?,
        _ => token_review(engine, &mut members).await?,
    }
    let mut out = Map::new();
    out.insert("kind".to_owned(), Value::from(review.kind));
    out.insert("apiVersion".to_owned(), Value::from(api_version(review.group, review.version)));
    out.extend(members);
    let mut reply = Reply::json(201, &out, accepted.encoding);
    reply.warn(&decoded.warnings);
    Ok(reply)
}

fn access_review(
    policy: &Policy,
    review: &Review,
    members: &mut Map<String, Value>,
    own: Option<&UserInfo>,
    namespace: &str,
) -> Outcome<()> {
    let spec: SubjectAccessReviewSpec =
        serde_json::from_value(members.get("spec").cloned().unwrap_or_default()).unwrap_or_default();
    let wrong = problems(members, &spec, own.is_some(), namespace);
    if !wrong.is_empty() {
        // Compat: these kinds' names are missing from the message.
        return Err(Box::new(Status::invalid(review.group, "", "", &wrong)));
    }
    let asked = UserInfo {
        username: spec.user.clone(),
        uid: spec.uid.clone(),
        groups: spec.groups.clone(),
        extra: spec.extra.clone(),
    };
    let user = own.unwrap_or(&asked);
    let mut status = Map::new();
    if let Some(attributes) = Attributes::from_review(user, &spec) {
        let decision = authorize(policy, &attributes);
        status.insert("allowed".to_owned(), Value::from(decision.allowed));
        if !decision.reason.is_empty() {
            status.insert("reason".to_owned(), Value::from(decision.reason));
        }
    }
    members.insert("status".to_owned(), Value::Object(status));
    Ok(())
}

fn problems(
    members: &Map<String, Value>,
    spec: &SubjectAccessReviewSpec,
    own: bool,
    namespace: &str,
) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    if spec.resource_attributes.is_some() == spec.non_resource_attributes.is_some() {
        let mut error = match (own, spec.resource_attributes.is_some()) {
            (_, true) => FieldError::invalid("spec.nonResourceAttributes", "", ""),
            (_, false) => FieldError::invalid("spec", "", ""),
        };
        error.value = Some("null".to_owned());
        "exactly one of nonResourceAttributes or resourceAttributes must be specified".clone_into(&mut error.detail);
        if spec.resource_attributes.is_some() {
            "cannot be specified in combination with resourceAttributes".clone_into(&mut error.detail);
        }
        wrong.push(error);
    }
    if !own && spec.user.is_empty() && spec.groups.is_empty() {
        wrong.push(FieldError::invalid("spec.user", "", "at least one of user or group must be specified"));
    }
    if !namespace.is_empty() {
        match &spec.resource_attributes {
            Some(asked) if asked.namespace != namespace => {
                let field = "spec.resourceAttributes.namespace";
                wrong.push(FieldError::invalid(field, &asked.namespace, "must match metadata.namespace"));
            }
            Some(_) => {}
            None => {
                wrong.push(FieldError::invalid("spec.nonResourceAttributes", "", "disallowed on this kind of request"))
            }
        }
    }
    let empty = Map::new();
    let mut metadata = members.get("metadata").and_then(Value::as_object).unwrap_or(&empty).clone();
    if !namespace.is_empty() && metadata.get("namespace").is_some_and(|sent| sent == namespace) {
        metadata.shift_remove("namespace");
    }
    metadata.shift_remove("managedFields");
    if !metadata.is_empty() {
        wrong.push(FieldError::invalid_json("metadata", &metadata, "must be empty"));
    }
    wrong
}

fn rules_review(policy: &Policy, members: &mut Map<String, Value>, user: &UserInfo) -> Outcome<()> {
    let namespace = at(members, &["spec", "namespace"]).and_then(Value::as_str).unwrap_or_default();
    if namespace.is_empty() {
        return Err(Box::new(Status::bad_request("no namespace on request")));
    }
    let found = rules_for(policy, user, namespace);
    let mut status =
        SubjectRulesReviewStatus { incomplete: !found.errors.is_empty(), ..SubjectRulesReviewStatus::default() };
    if !found.errors.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        status.evaluation_error = portcullis_kube::field::aggregate(&errors);
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
    // Compat: the real server answers with an empty spec.
    members.insert("spec".to_owned(), json!({}));
    members.insert("status".to_owned(), json!(status));
    Ok(())
}

async fn token_review(engine: &Engine, members: &mut Map<String, Value>) -> Outcome<()> {
    let token = at(members, &["spec", "token"]).and_then(Value::as_str).unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(Box::new(Status::bad_request("token is required for TokenReview in authentication")));
    }
    let status = match engine.tokens.authenticate(&token).await {
        Ok(user) => json!({"authenticated": true, "user": user.with_authenticated_group()}),
        Err(why) => json!({"user": {}, "error": why}),
    };
    members.insert("status".to_owned(), status);
    Ok(())
}
