//! `serviceaccounts/token`: a token for a service account, and the documents that others verify it with.
//!
//! Flow: options → body → namespace and account as they are → validation → the object that the token is bound to → claims →
//! signature. Nothing is stored: a token ends with its time, its account or its object.
//!
//! Compat: `pkg/registry/core/serviceaccount/storage/token.go` and `pkg/apis/authentication/validation` of Kubernetes 1.37.
//! `--service-account-max-token-expiration` is not served: the bound is 2^32 seconds.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use portcullis_kube::field::FieldError;
use portcullis_kube::status::GroupResource;
use portcullis_kube::{Status, names};
use portcullis_rbac::RequestInfo;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::form::unstored;
use super::place::check_key;
use super::write::one_of_each_owner;
use super::{check_routed, nameless, no_representation, no_such_method, not_acceptable, store_error};
use crate::engine::{Engine, pretty};
use crate::http::body::{self, Expected};
use crate::http::negotiate::{Forms, negotiate, routed};
use crate::http::params::WriteOptions;
use crate::http::reply::Reply;
use crate::http::{Call, Outcome};
use crate::resources::defaults::TOKEN_SECONDS;
use crate::resources::{self, Resource, text};
use crate::schema::SCHEMA;
use crate::schema::normalise::normalise;
use crate::service_account::claims::{Binding, Claims, Reference, username};
use crate::service_account::{CONFIGURATION, ISSUER, KEYS};
use crate::store::StoreError;
use crate::store::object::Object;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
/// Least that may be asked for, in seconds.
const MIN_SECONDS: i64 = 10 * 60;
/// Most that may be asked for, in seconds.
const MAX_SECONDS: i64 = 1 << 32;
/// What kubelets ask for; a pod's token of that age lives a year, for clients that never read it again.
const PROJECTED_SECONDS: i64 = 60 * 60 + 7;
const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;
const WEBHOOK_GATE: &str = "APIServerWebhookAuthenticationToken";
/// The audit annotation that names the token that was given.
const ISSUED: &str = "authentication.kubernetes.io/issued-credential-id";
const ATTESTATION: &str = "admissionReviewAPIGroups";

/// The part of a request that decides.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(deserialize_with = "or_default")]
    audiences: Vec<String>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<BoundObject>,
    #[serde(default)]
    attestations: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct BoundObject {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

/// Go's `null` is an empty list.
fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Whether a request with a subresource is one of this file's.
pub(crate) fn is_of(resource: &Resource, info: &RequestInfo) -> bool {
    resource.group.is_empty()
        && resource.plural == "serviceaccounts"
        && info.parts.len() == 3
        && info.subresource == "token"
}

/// POST of a token request.
pub(crate) async fn create(engine: &Engine, call: &Call, info: &RequestInfo) -> Outcome<Reply> {
    if info.verb != "create" {
        return Err(no_such_method());
    }
    if info.name.is_empty() {
        return Err(nameless());
    }
    check_routed(&call.accept(), &[], false)?;
    let accepted = negotiate(&call.accept(), pretty(call), Forms::Metadata).ok_or_else(not_acceptable)?;
    let options = WriteOptions::parse(&call.params, "CreateOptions")?;
    let schema = SCHEMA.find("authn.TokenRequest");
    let schema = schema.ok_or_else(|| Box::new(Status::internal_error("the kind has no schema")))?;
    let expected = Expected { group: GROUP, version: "v1", kind: KIND, schema };
    let mut decoded = body::decode(call, expected, options.field_validation)?;
    one_of_each_owner(call, &mut decoded, "");
    let members = answer(engine, call, info, decoded.members).await?;
    let shaped = normalise(schema, Value::Object(members)).map_err(|why| Box::new(Status::internal_error(&why)))?;
    let mut out = Map::new();
    out.insert("kind".to_owned(), Value::from(KIND));
    out.insert("apiVersion".to_owned(), Value::from(resources::api_version(GROUP, "v1")));
    out.extend(shaped.value);
    let mut reply = unstored(accepted, 201, (GROUP, KIND), &out)?;
    reply.warn(&decoded.warnings);
    Ok(reply)
}

async fn answer(
    engine: &Engine,
    call: &Call,
    info: &RequestInfo,
    mut members: Map<String, Value>,
) -> Outcome<Map<String, Value>> {
    let (namespace, name) = (info.namespace.as_str(), info.parts.get(1).map_or("", String::as_str));
    let account = account(engine, namespace, name, &members)?;
    let spec = members.get("spec").cloned().unwrap_or_default();
    let spec: Spec = serde_json::from_value(spec).map_err(|error| Box::new(Status::bad_request(error.to_string())))?;
    let audiences =
        if spec.audiences.is_empty() { engine.service_accounts.audiences().to_vec() } else { spec.audiences.clone() };
    let seconds = spec.expiration_seconds.unwrap_or(TOKEN_SECONDS);
    let wrong = problems(&spec, seconds, &audiences);
    if !wrong.is_empty() {
        return Err(Box::new(Status::invalid(GROUP, KIND, "", &wrong)));
    }
    let mut binding = Binding {
        namespace: namespace.to_owned(),
        serviceaccount: Reference::new(name, &account.uid),
        ..Binding::default()
    };
    if let Some(wanted) = &spec.bound_object_ref {
        bind(engine, &mut binding, wanted)?;
    }
    let now = engine.clock.now();
    let after = |seconds: i64| now + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let own = engine.service_accounts.audiences();
    let extended =
        binding.pod.is_some() && seconds == PROJECTED_SECONDS && audiences.iter().all(|one| own.contains(one));
    binding.warnafter = extended.then(|| after(seconds));
    let claims = Claims {
        aud: audiences.clone(),
        exp: after(if extended { EXTENDED_SECONDS } else { seconds }),
        iat: now,
        iss: ISSUER.to_owned(),
        jti: engine.rng.uuid_v4(),
        kubernetes: binding,
        nbf: now,
        sub: username(namespace, name),
    };
    let failed = |error| Box::new(Status::internal_error(&format!("failed to generate token: {error}")));
    let credential = format!("JTI={}", claims.jti);
    let token = engine.service_accounts.sign(&claims).await.map_err(failed)?;
    call.audit.annotate(ISSUED, &credential);

    let metadata = resources::tree::object(&mut members, "metadata");
    metadata.insert("name".to_owned(), Value::from(name));
    metadata.insert("namespace".to_owned(), Value::from(namespace));
    metadata.insert("uid".to_owned(), Value::from(&*account.uid));
    metadata.insert("creationTimestamp".to_owned(), Value::from(now.rfc3339()));
    metadata.shift_remove("managedFields");
    let spec = resources::tree::object(&mut members, "spec");
    spec.insert("audiences".to_owned(), json!(audiences));
    spec.insert("expirationSeconds".to_owned(), Value::from(seconds));
    let status = json!({"token": token, "expirationTimestamp": after(seconds).rfc3339()});
    members.insert("status".to_owned(), status);
    Ok(members)
}

/// The account of the path, if the body is about it.
fn account(
    engine: &Engine,
    namespace: &str,
    name: &str,
    members: &Map<String, Value>,
) -> Outcome<std::sync::Arc<Object>> {
    let sent = |key: &str| text(members, &["metadata", key]);
    let what = resources::find("", "v1", "serviceaccounts").ok_or_else(super::no_such_resource)?;
    if !sent("namespace").is_empty() && *sent("namespace") != *namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Box::new(Status::bad_request(why)));
    }
    match engine.store.get(resources::namespaces(), "", namespace) {
        None => return Err(store_error(StoreError::NoNamespace, what, namespace, name)),
        Some(found) if found.terminating => {
            return Err(store_error(StoreError::NamespaceTerminating, what, namespace, name));
        }
        Some(_) => {}
    }
    if !sent("name").is_empty() && *sent("name") != *name {
        let wrong =
            FieldError::invalid("metadata.name", &sent("name"), "must match the service account name if specified");
        return Err(Box::new(Status::invalid(GROUP, KIND, name, &[wrong])));
    }
    check_key(what, namespace, name)?;
    let account = engine.store.get(what, namespace, name);
    let account = account.ok_or_else(|| store_error(StoreError::NotFound, what, namespace, name))?;
    let uid = sent("uid");
    if !uid.is_empty() && uid != account.uid {
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({})",
            account.uid
        );
        return Err(Box::new(Status::conflict(GroupResource::new(GROUP, KIND), name, &why)));
    }
    Ok(account)
}

fn problems(spec: &Spec, seconds: i64, audiences: &[String]) -> Vec<FieldError> {
    let mut wrong = Vec::new();
    let field = "spec.expirationSeconds";
    if seconds < MIN_SECONDS {
        wrong.push(FieldError::invalid_json(field, &seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX_SECONDS {
        wrong.push(FieldError::invalid_json(field, &seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    let field = "spec.attestations";
    let given = (!spec.attestations.is_empty()).then_some(&spec.attestations);
    if spec.bound_object_ref.as_ref().is_some_and(BoundObject::is_webhook) {
        if audiences.len() != 1 {
            let detail = "must be length 1 when bound to a webhook config";
            wrong.push(FieldError::invalid_json("spec.audiences", audiences, detail));
        }
        match spec.attestations.iter().next() {
            Some((key, values)) if spec.attestations.len() == 1 => attestation(key, values, &mut wrong),
            _ => {
                let detail = "webhook bound requests require exactly one admissionReviewAPIGroups attestation";
                wrong.push(FieldError::invalid_json(field, &given, detail));
            }
        }
    } else if given.is_some() {
        // Compat: nothing else is said then.
        let detail = "attestations may only be specified with a webhook bound object reference";
        return vec![FieldError::invalid_json(field, &given, detail)];
    }
    wrong
}

fn attestation(key: &str, values: &Value, wrong: &mut Vec<FieldError>) {
    let field = format!("spec.attestations[{key}]");
    if key != ATTESTATION {
        return wrong.push(FieldError::not_supported(field, key, &[ATTESTATION]));
    }
    let Some([Value::String(group)]) = values.as_array().map(Vec::as_slice) else {
        return wrong.push(FieldError::invalid_json(field, values, "must specify a single value"));
    };
    let field = format!("{field}[0]");
    match group.as_str() {
        "" => wrong.push(FieldError::invalid(field, "", "may not be an empty string")),
        "*" => {}
        _ => wrong.extend(
            names::dns_subdomain(group)
                .into_iter()
                .map(|reason| FieldError::invalid(&*field, group, format!("must specify a valid API Group: {reason}"))),
        ),
    }
}

impl BoundObject {
    fn group_version(&self) -> (&str, &str) {
        match self.api_version.split_once('/') {
            Some((_, version)) if version.contains('/') => ("", ""),
            Some(parts) => parts,
            None => ("", &self.api_version),
        }
    }

    fn is_webhook(&self) -> bool {
        self.group_version() == ("admissionregistration.k8s.io", "v1")
            && matches!(self.kind.as_str(), "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration")
    }
}

/// Ties the token to an object as it is now.
fn bind(engine: &Engine, binding: &mut Binding, wanted: &BoundObject) -> Outcome<()> {
    let (group, version) = wanted.group_version();
    let (kind, name) = (wanted.kind.as_str(), wanted.name.as_str());
    let get = |plural: &str, namespace: &str, name: &str| {
        if name.is_empty() {
            return Err(Box::new(Status::bad_request("Name parameter required.")));
        }
        let found = resources::find("", "v1", plural).and_then(|what| engine.store.get(what, namespace, name));
        found.ok_or_else(|| Box::new(Status::not_found(GroupResource::new("", plural), name)))
    };
    let uid = match (group, kind) {
        ("", "Pod") => {
            let pod = get("pods", &binding.namespace, name)?;
            let spec = |field: &str| text(&pod.members(), &["spec", field]);
            if *spec("serviceAccountName") != *binding.serviceaccount.name {
                let account = portcullis_kube::go::quote(&binding.serviceaccount.name);
                return Err(Box::new(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account} to pod running with different serviceaccount name."
                ))));
            }
            binding.pod = Some(Reference::new(name, &pod.uid));
            let node = spec("nodeName");
            if !node.is_empty() {
                // A node that is not there is named all the same.
                let uid = get("nodes", "", &node).map(|node| node.uid.clone()).unwrap_or_default();
                binding.node = Some(Reference::new(&node, &uid));
            }
            pod.uid.clone()
        }
        ("", "Node") => {
            let node = get("nodes", "", name)?;
            binding.node = Some(Reference::new(name, &node.uid));
            node.uid.clone()
        }
        ("", "Secret") => {
            let secret = get("secrets", &binding.namespace, name)?;
            binding.secret = Some(Reference::new(name, &secret.uid));
            secret.uid.clone()
        }
        _ => {
            let mut why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            if wanted.is_webhook() {
                why.push_str(&format!(" (feature gate {WEBHOOK_GATE} is disabled)"));
            }
            return Err(Box::new(Status::bad_request(why)));
        }
    };
    if !wanted.uid.is_empty() && *wanted.uid != *uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            wanted.uid
        );
        return Err(Box::new(Status::conflict(GroupResource::new(group, kind), name, &why)));
    }
    Ok(())
}

/// Whether a path is that of one of the issuer's documents.
pub(crate) fn is_document(path: &str) -> bool {
    matches!(path, CONFIGURATION | KEYS)
}

/// The issuer's configuration or its keys.
pub(crate) async fn document(engine: &Engine, call: &Call, path: &str) -> Outcome<Reply> {
    let keys = path.starts_with(KEYS);
    let media_type = if keys { "application/jwk-set+json" } else { "application/json" };
    if !routed(&call.accept(), &[media_type]) {
        return Err(no_representation(media_type));
    }
    let body = if keys {
        let failed = |error: portcullis_jose::JoseError| Box::new(Status::internal_error(&error.to_string()));
        engine.service_accounts.document().await.map_err(failed)?
    } else {
        engine.service_accounts.configuration()
    };
    let mut reply = Reply::text(200, body);
    reply.headers.remove(http::header::X_CONTENT_TYPE_OPTIONS);
    reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply.headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Ok(reply)
}
