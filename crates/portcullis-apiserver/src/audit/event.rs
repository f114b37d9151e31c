//! `audit.k8s.io/v1` `Event`: one line of the audit log.
//!
//! Members stand in the order in which upstream writes them. Objects are kept as the JSON that they were sent as, or are
//! sent as.
//!
//! Compat: `apis/audit/v1/types.go` of apiserver v0.37.

use std::collections::BTreeMap;

use portcullis_kube::status::StatusDetails;
use portcullis_kube::{Status, UserInfo};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json;

/// How much of a request is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Metadata, Self::Request, Self::RequestResponse]
            .into_iter()
            .find(|level| format!("{level:?}") == name)
    }
}

/// When in a request's life an event was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::RequestReceived, Self::ResponseStarted, Self::ResponseComplete, Self::Panic]
            .into_iter()
            .find(|stage| format!("{stage:?}") == name)
    }
}

/// An event, as far as it is known.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    pub(crate) kind: &'static str,
    pub(crate) api_version: &'static str,
    pub(crate) level: Level,
    #[serde(rename = "auditID")]
    pub(crate) audit_id: String,
    pub(crate) stage: Stage,
    #[serde(rename = "requestURI")]
    pub(crate) request_uri: String,
    pub(crate) verb: String,
    pub(crate) user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) impersonated_user: Option<UserInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authentication_metadata: Option<AuthenticationMetadata>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_status: Option<ResponseStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_object: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_object: Option<Box<RawValue>>,
    pub(crate) request_received_timestamp: String,
    pub(crate) stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// How whoever is acted as came to be.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthenticationMetadata {
    pub(crate) impersonation_constraint: &'static str,
}

/// What a request is about.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) subresource: String,
}

/// The parts of a `Status` that are bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ResponseStatus {
    pub(crate) metadata: Empty,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<Box<StatusDetails>>,
    pub(crate) code: u16,
}

/// Printed as `{}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Empty {}

impl ResponseStatus {
    /// What an answer that is a `Status` says.
    pub(crate) fn of(status: &Status, code: u16) -> Self {
        Self {
            metadata: Empty {},
            status: status.status.clone(),
            message: status.message.clone(),
            reason: status.reason.clone(),
            details: status.details.clone(),
            code,
        }
    }
}

impl Event {
    /// The line, with its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = json::to_vec(self);
        line.push(b'\n');
        line
    }
}

/// JSON that stands in a document of ours as it came, without white space and with Go's escapes.
///
/// Compat: what Go's encoder makes of a `json.RawMessage`.
pub(crate) fn compact(bytes: &[u8]) -> Option<Box<RawValue>> {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut inside, mut escaped) = (false, false);
    for &byte in bytes {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' if !inside => continue,
            b'<' | b'>' | b'&' => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
        (inside, escaped) = match (byte, escaped) {
            (b'"', false) => (!inside, false),
            (b'\\', false) => (inside, inside),
            _ => (inside, false),
        };
    }
    RawValue::from_string(String::from_utf8(out).ok()?).ok()
}

/// A tree as it stands in an event.
pub(crate) fn raw(value: &Value) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(json::to_vec(value)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_compacted_outside_of_strings_only() {
        for (text, want) in [
            (r#"{ "a" : [ 1 , "b c" ] }"#, r#"{"a":[1,"b c"]}"#),
            ("{\"a\\\"  b\":\n\t1e3}", "{\"a\\\"  b\":1e3}"),
            (r#"{"a\\" : "<&>"}"#, r#"{"a\\":"\u003c\u0026\u003e"}"#),
            (r#""\\\" x""#, r#""\\\" x""#),
        ] {
            assert_eq!(compact(text.as_bytes()).unwrap().get(), want, "{text}");
        }
        for broken in [&b"{"[..], b"", b"\xff", b"{} {}"] {
            assert!(compact(broken).is_none());
        }
    }
}
