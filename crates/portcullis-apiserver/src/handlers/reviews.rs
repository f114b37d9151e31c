//! Reviews: who am I, may I, what may I, may they, whose token is this. Nothing is stored.
//!
//! Compat: `pkg/registry/authorization`, `pkg/registry/authentication` and their validation of Kubernetes 1.37.

use portcullis_kube::authorization::validate::{self, AccessReview};
use portcullis_kube::authorization::{GROUP as AUTHORIZATION, SubjectAccessReviewSpec};
use portcullis_kube::{ObjectMeta, Status, UserInfo};
use portcullis_rbac::{Policy, RequestInfo, review as answer};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::form::unstored;
use super::write::one_of_each_owner;
use super::{check_routed, no_such_method, not_acceptable};
use crate::engine::{Engine, pretty};
use crate::http::body::{self, Expected};
use crate::http::negotiate::{Forms, negotiate};
use crate::http::params::WriteOptions;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::resources::strategy::SYSTEM;
use crate::resources::{Review, api_version, at, tree};

/// POST of a review.
pub(crate) async fn review(
    engine: &Engine,
    call: &Call,
    info: &RequestInfo,
    user: &UserInfo,
    review: &'static Review,
) -> Outcome<Reply> {
    if info.verb != "create" || info.parts.len() > 1 {
        return Err(no_such_method());
    }
    check_routed(&call.accept(), &[], false)?;
    let accepted = negotiate(&call.accept(), pretty(call), Forms::Metadata).ok_or_else(not_acceptable)?;
    let options = WriteOptions::parse(&call.params, "CreateOptions")?;
    let mut decoded = body::decode(call, Expected::of_review(review)?, options.field_validation)?;
    one_of_each_owner(call, &mut decoded, "");
    let mut members = decoded.members;
    place_in(&mut members, if review.namespaced { &info.namespace } else { "" })?;
    for name in SYSTEM {
        tree::object(&mut members, "metadata").shift_remove(name);
    }
    let policy = engine.policy.snapshot();
    match review.kind {
        "SelfSubjectReview" => {
            members.insert("metadata".to_owned(), json!({"creationTimestamp": engine.clock.now().rfc3339()}));
            members.insert("status".to_owned(), json!({"userInfo": user}));
        }
        "SelfSubjectAccessReview" => access_review(&policy, AccessReview::Own, &mut members, user)?,
        "SubjectAccessReview" => access_review(&policy, AccessReview::Subject, &mut members, user)?,
        "LocalSubjectAccessReview" => access_review(&policy, AccessReview::Local, &mut members, user)?,
        "SelfSubjectRulesReview" => rules_review(&policy, &mut members, user)?,
        _ => token_review(engine, &mut members).await?,
    }
    let mut out = Map::new();
    out.insert("kind".to_owned(), Value::from(review.kind));
    out.insert("apiVersion".to_owned(), Value::from(api_version(review.group, review.version)));
    out.extend(members);
    let mut reply = unstored(accepted, 201, (review.group, review.kind), &out)?;
    reply.warn(&decoded.warnings);
    Ok(reply)
}

fn access_review(policy: &Policy, kind: AccessReview, members: &mut Map<String, Value>, own: &UserInfo) -> Outcome<()> {
    let spec: SubjectAccessReviewSpec = read(members, "spec");
    let wrong = validate::access_review(kind, &read::<ObjectMeta>(members, "metadata"), &spec);
    if !wrong.is_empty() {
        // Compat: these kinds' names are missing from the message.
        return Err(Box::new(Status::invalid(AUTHORIZATION, "", "", &wrong)));
    }
    let asked = answer::subject(&spec);
    let user = if kind == AccessReview::Own { own } else { &asked };
    members.insert("status".to_owned(), json!(answer::access(policy, user, &spec)));
    Ok(())
}

/// A member of a tree that has its kind's shape, as the typed object.
fn read<T: DeserializeOwned + Default>(members: &Map<String, Value>, name: &str) -> T {
    serde_json::from_value(members.get(name).cloned().unwrap_or_default()).unwrap_or_default()
}

/// Gives a review the namespace of its request, or none.
fn place_in(members: &mut Map<String, Value>, namespace: &str) -> Outcome<()> {
    let metadata = tree::object(members, "metadata");
    let sent = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if !namespace.is_empty() && !sent.is_empty() && sent != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Box::new(Status::bad_request(why)));
    }
    if namespace.is_empty() {
        metadata.shift_remove("namespace");
    } else if sent.is_empty() {
        // Where Go writes it: behind the names.
        let at = metadata.keys().take_while(|key| matches!(key.as_str(), "name" | "generateName")).count();
        metadata.shift_insert(at, "namespace".to_owned(), Value::from(namespace));
    }
    Ok(())
}

fn rules_review(policy: &Policy, members: &mut Map<String, Value>, user: &UserInfo) -> Outcome<()> {
    let namespace = at(members, &["spec", "namespace"]).and_then(Value::as_str).unwrap_or_default();
    if namespace.is_empty() {
        return Err(Box::new(Status::bad_request("no namespace on request")));
    }
    let status = answer::rules(policy, user, namespace);
    // Compat: the real server answers with empty metadata and an empty spec.
    members.insert("metadata".to_owned(), json!({}));
    members.insert("spec".to_owned(), json!({}));
    members.insert("status".to_owned(), json!(status));
    Ok(())
}

async fn token_review(engine: &Engine, members: &mut Map<String, Value>) -> Outcome<()> {
    let token = at(members, &["spec", "token"]).and_then(Value::as_str).unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(Box::new(Status::bad_request("token is required for TokenReview in authentication")));
    }
    let asked = at(members, &["spec", "audiences"]).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut wanted: Vec<String> = asked.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if wanted.is_empty() {
        wanted = engine.service_accounts.audiences().to_vec();
    }
    let verdict = engine.token_chain().review(&token, &wanted).await;
    let verdict = verdict.map(|(user, audiences)| (json!(user.with_authenticated_group()), json!(audiences)));
    let sent = members.get("status").cloned().unwrap_or_default();
    members.insert("status".to_owned(), token_status(&sent, verdict));
    Ok(())
}

/// What a review of a token says. Compat: what it does not say itself stays as it was sent.
fn token_status(sent: &Value, verdict: Result<(Value, Value), String>) -> Value {
    let sent = |name: &str| sent.get(name).cloned();
    let (authenticated, user, audiences, error) = match verdict {
        Ok((user, audiences)) => (Some(json!(true)), Some(user), Some(audiences), sent("error")),
        Err(why) => (None, sent("user").or_else(|| Some(json!({}))), sent("audiences"), Some(json!(why))),
    };
    let parts = [("authenticated", authenticated), ("user", user), ("audiences", audiences), ("error", error)];
    parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_review_does_not_say_stays_as_it_was_sent() {
        let sent = json!({"authenticated": true, "user": {"username": "x"}, "audiences": ["a"], "error": "e"});
        assert_eq!(
            token_status(&sent, Err("why".to_owned())),
            json!({"user": {"username": "x"}, "audiences": ["a"], "error": "why"})
        );
        assert_eq!(
            token_status(&sent, Ok((json!({"username": "y"}), json!(["b"])))),
            json!({"authenticated": true, "user": {"username": "y"}, "audiences": ["b"], "error": "e"})
        );
        assert_eq!(token_status(&Value::Null, Err("why".to_owned())), json!({"user": {}, "error": "why"}));
    }
}
