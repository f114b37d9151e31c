//! `metav1.Status`: the body of every error that an API server answers, with the exact words of apimachinery.
//!
//! Compat: `pkg/api/errors` of apimachinery v0.37.2 and `responsewriters` of apiserver v0.37.2; kubectl and controllers
//! branch on `reason` and `details`, and people search for the messages.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::field::{FieldError, aggregate};
use crate::go;
use crate::meta::{ListMeta, TypeMeta};
use crate::wire::{is_zero_i32, nullable};

/// An outcome, almost always a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// `Status`, `v1`.
    #[serde(flatten)]
    pub types: TypeMeta,
    /// Printed as `{}`.
    pub metadata: ListMeta,
    /// `Failure` or `Success`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub status: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub message: String,
    /// For programs.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub reason: String,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<StatusDetails>>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "is_zero_i32", deserialize_with = "nullable")]
    pub code: i32,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusDetails {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub name: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub group: String,
    /// The resource (in most errors) or the kind (in `Invalid`).
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub kind: String,
    /// Uid of the object.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub uid: String,
    /// One entry per problem.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub causes: Vec<StatusCause>,
    /// Seconds to wait before another attempt.
    #[serde(skip_serializing_if = "is_zero_i32", deserialize_with = "nullable")]
    pub retry_after_seconds: i32,
}

/// One problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// For programs, for example `FieldValueRequired`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub message: String,
    /// Path of the field.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub field: String,
}

/// A resource and its group, as messages name it: `pods`, `deployments.apps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// Plural, lower case.
    pub resource: &'a str,
}

impl<'a> GroupResource<'a> {
    /// Group first, as upstream orders it.
    pub fn new(group: &'a str, resource: &'a str) -> Self {
        Self { group, resource }
    }

    fn is_empty(self) -> bool {
        self.group.is_empty() && self.resource.is_empty()
    }
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() { f.write_str(self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self {
            types: TypeMeta::new("Status", "v1"),
            metadata: ListMeta::default(),
            status: String::new(),
            message: String::new(),
            reason: String::new(),
            details: None,
            code: 0,
        }
    }
}

impl Status {
    /// A failure with these words and nothing more.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            code: i32::from(code),
            ..Self::default()
        }
    }

    /// The 401 of every unauthenticated request; the reason stays in the server's log.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// The 403 with a sentence of an authorizer. `portcullis-rbac` makes that sentence.
    pub fn forbidden(what: GroupResource<'_>, name: &str, sentence: &str) -> Self {
        let message = if what.is_empty() {
            format!("forbidden: {sentence}")
        } else if name.is_empty() {
            format!("{what} is forbidden: {sentence}")
        } else {
            format!("{what} {} is forbidden: {sentence}", go::quote(name))
        };
        Self::failure(403, "Forbidden", message).about(what, name)
    }

    /// The 404 for an object.
    pub fn not_found(what: GroupResource<'_>, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{what} {} not found", go::quote(name))).about(what, name)
    }

    /// The 404 for a resource or a version that this server does not have, in an API group that it has. For other paths the
    /// real server answers [`PAGE_NOT_FOUND`].
    pub fn unknown_resource() -> Self {
        let mut status = Self::failure(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// The 405 for an HTTP method that the path does not have.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut status = Self::failure(405, "MethodNotAllowed", message);
        status.details = Some(Box::default());
        status
    }

    /// The 405 for an operation that the resource does not have, although the path has the method.
    pub fn method_not_supported(what: GroupResource<'_>, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind {}", go::quote(&what.to_string()));
        Self::failure(405, "MethodNotAllowed", message).about(what, "")
    }

    /// The 409 of a create.
    pub fn already_exists(what: GroupResource<'_>, name: &str) -> Self {
        Self::failure(409, "AlreadyExists", format!("{what} {} already exists", go::quote(name))).about(what, name)
    }

    /// The 409 of a create whose name was, or could have been, generated.
    pub fn name_not_generated(what: GroupResource<'_>, name: &str) -> Self {
        let mut status = Self::already_exists(what, name);
        status.message.push_str(", the server was not able to generate a unique name for the object");
        if let Some(details) = &mut status.details {
            details.retry_after_seconds = 1;
        }
        status
    }

    /// The 409 of an update or a delete.
    pub fn conflict(what: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {what} {}: {why}", go::quote(name));
        Self::failure(409, "Conflict", message).about(what, name)
    }

    /// The 409 of an update with a stale `resourceVersion`.
    pub fn stale(what: GroupResource<'_>, name: &str) -> Self {
        Self::conflict(what, name, STALE)
    }

    /// The 410 of a watch or a list that starts too far back.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// The 422 with all problems of an object, each once. `kind` here is the kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, problems: &[FieldError]) -> Self {
        let what = GroupResource::new(group, kind);
        let head = format!("{what} {} is invalid", go::quote(name));
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let message = if texts.is_empty() { head } else { format!("{head}: {}", aggregate(&texts)) };
        let mut status = Self::failure(422, "Invalid", message).about(what, name);
        if let Some(details) = &mut status.details {
            let mut seen = HashSet::new();
            for problem in problems {
                let cause = StatusCause {
                    reason: problem.kind.cause().to_owned(),
                    message: problem.body(),
                    field: problem.field.clone(),
                };
                if seen.insert((cause.reason.clone(), cause.message.clone(), cause.field.clone())) {
                    details.causes.push(cause);
                }
            }
        }
        status
    }

    /// The 400 for a request that makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// The 406, with the types that would have been acceptable.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, "NotAcceptable", message)
    }

    /// The 415, with the types that would have been acceptable.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// The 413.
    pub fn too_large(message: &str) -> Self {
        Self::failure(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// The 429 with the seconds to wait.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        let mut status = Self::failure(429, "TooManyRequests", message);
        status.details = Some(Box::new(StatusDetails { retry_after_seconds, ..StatusDetails::default() }));
        status
    }

    /// The 500 with the words of the error.
    pub fn internal_error(error: &str) -> Self {
        let mut status = Self::failure(500, "InternalError", format!("Internal error occurred: {error}"));
        let cause = StatusCause { message: error.to_owned(), ..StatusCause::default() };
        status.details = Some(Box::new(StatusDetails { causes: vec![cause], ..StatusDetails::default() }));
        status
    }

    /// The 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// The 504.
    pub fn timeout(message: &str, retry_after_seconds: i32) -> Self {
        let mut status = Self::failure(504, "Timeout", format!("Timeout: {message}"));
        status.details = Some(Box::new(StatusDetails { retry_after_seconds, ..StatusDetails::default() }));
        status
    }

    /// The 200 of a delete of an object that is gone at once.
    pub fn deleted(what: GroupResource<'_>, name: &str, uid: &str) -> Self {
        let mut status = Self { status: "Success".to_owned(), ..Self::default() }.about(what, name);
        if let Some(details) = &mut status.details {
            uid.clone_into(&mut details.uid);
        }
        status
    }

    /// The body: Go's JSON and a newline.
    pub fn to_body(&self) -> Vec<u8> {
        go::to_body(self).unwrap_or_default()
    }

    /// The HTTP status code; 200 for a success without a code.
    pub fn http_code(&self) -> u16 {
        u16::try_from(self.code).ok().filter(|code| *code != 0).unwrap_or(200)
    }

    fn about(mut self, what: GroupResource<'_>, name: &str) -> Self {
        self.details = Some(Box::new(StatusDetails {
            name: name.to_owned(),
            group: what.group.to_owned(),
            kind: what.resource.to_owned(),
            ..StatusDetails::default()
        }));
        self
    }
}

/// The plain text that the real server answers, with 404, for a path or an API group that it does not have.
pub const PAGE_NOT_FOUND: &str = "404 page not found\n";

/// What an update with a stale version is told.
const STALE: &str = "the object has been modified; please apply your changes to the latest version and try again";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldError;

    fn text(status: &Status) -> String {
        String::from_utf8(status.to_body()).unwrap()
    }

    const PODS: GroupResource<'_> = GroupResource { group: "", resource: "pods" };
    const DEPLOYMENTS: GroupResource<'_> = GroupResource { group: "apps", resource: "deployments" };

    #[test]
    fn bodies_are_those_of_the_real_server() {
        let table = [
            (
                Status::unauthorized(),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#,
            ),
            (
                Status::forbidden(
                    PODS,
                    "",
                    r#"User "jane" cannot list resource "pods" in API group "" in the namespace "default""#,
                ),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"","reason":"Forbidden","details":{"kind":"pods"},"code":403}"#,
            ),
            (
                Status::forbidden(GroupResource::new("", ""), "", r#"User "u" cannot get path "/metrics""#),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"forbidden: User \"u\" cannot get path \"/metrics\"","reason":"Forbidden","details":{},"code":403}"#,
            ),
            (
                Status::not_found(DEPLOYMENTS, "web"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"web\" not found","reason":"NotFound","details":{"name":"web","group":"apps","kind":"deployments"},"code":404}"#,
            ),
            (
                Status::unknown_resource(),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the server could not find the requested resource","reason":"NotFound","details":{},"code":404}"#,
            ),
            (
                Status::method_not_allowed(),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the server does not allow this method on the requested resource","reason":"MethodNotAllowed","details":{},"code":405}"#,
            ),
            (
                Status::bad_request("no namespace on request"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"no namespace on request","reason":"BadRequest","code":400}"#,
            ),
            (
                Status::stale(PODS, "p"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Operation cannot be fulfilled on pods \"p\": the object has been modified; please apply your changes to the latest version and try again","reason":"Conflict","details":{"name":"p","kind":"pods"},"code":409}"#,
            ),
            (
                Status::already_exists(PODS, "p"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"p\" already exists","reason":"AlreadyExists","details":{"name":"p","kind":"pods"},"code":409}"#,
            ),
            (
                Status::method_not_supported(DEPLOYMENTS, "patch"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"patch is not supported on resources of kind \"deployments.apps\"","reason":"MethodNotAllowed","details":{"group":"apps","kind":"deployments"},"code":405}"#,
            ),
            (
                Status::internal_error("boom"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Internal error occurred: boom","reason":"InternalError","details":{"causes":[{"message":"boom"}]},"code":500}"#,
            ),
            (
                Status::deleted(PODS, "p", "u-1"),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"p","kind":"pods","uid":"u-1"}}"#,
            ),
            (
                Status::too_many_requests("wait", 1),
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"wait","reason":"TooManyRequests","details":{"retryAfterSeconds":1},"code":429}"#,
            ),
        ];
        for (status, want) in table {
            assert_eq!(text(&status), format!("{want}\n"));
            assert_eq!(serde_json::from_str::<Status>(want).unwrap(), status);
        }
    }

    #[test]
    fn an_invalid_object_lists_its_problems_as_sentence_and_as_causes() {
        let problems = [
            FieldError::required("roleRef.name", ""),
            FieldError::not_supported("roleRef.kind", "Rôle<", &["ClusterRole"]),
        ];
        let status = Status::invalid("rbac.authorization.k8s.io", "ClusterRoleBinding", "b", &problems);
        let want = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"ClusterRoleBinding.rbac.authorization.k8s.io \"b\" is invalid: [roleRef.name: Required value, roleRef.kind: Unsupported value: \"Rôle\u003c\": supported values: \"ClusterRole\"]","reason":"Invalid","details":{"name":"b","group":"rbac.authorization.k8s.io","kind":"ClusterRoleBinding","causes":[{"reason":"FieldValueRequired","message":"Required value","field":"roleRef.name"},{"reason":"FieldValueNotSupported","message":"Unsupported value: \"Rôle\u003c\": supported values: \"ClusterRole\"","field":"roleRef.kind"}]},"code":422}"#;
        assert_eq!(text(&status), format!("{want}\n"));
    }

    #[test]
    fn the_code_of_a_success_is_200() {
        assert_eq!(Status::deleted(PODS, "p", "").http_code(), 200);
        assert_eq!(Status::unauthorized().http_code(), 401);
    }
}
