//! client-go's exec credential protocol: what it asks through `KUBERNETES_EXEC_INFO`, what it reads from stdout.
//!
//! Compat: kubelogin `pkg/credentialplugin` v1.36 (reference sections 1.4 and 1.7): only `apiVersion` is read, an absent
//! one means v1beta1, `spec.interactive` is always false in the answer, an unknown version is an error only when the
//! token is to be written.

use serde_json::Value;
use thiserror::Error;

use crate::encoding::{go_json_string, printable};

const GROUP: &str = "client.authentication.k8s.io";

/// What client-go asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExecInfo {
    /// Empty when not run by client-go.
    api_version: String,
}

/// Why the request or the answer cannot be made sense of.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ExecCredentialError {
    /// The variable holds something else.
    #[error("invalid KUBERNETES_EXEC_INFO: {0}")]
    InvalidInfo(String),
    /// A version that nobody serves.
    #[error("generate ExecCredential: unknown apiVersion: {0}")]
    UnknownVersion(String),
}

impl ExecInfo {
    /// Reads the content of `KUBERNETES_EXEC_INFO`.
    pub(crate) fn parse(variable: Option<&str>) -> Result<Self, ExecCredentialError> {
        let Some(text) = variable.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let invalid = |reason: String| ExecCredentialError::InvalidInfo(reason);
        let value: Value = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        match value {
            Value::Null => Ok(Self::default()),
            Value::Object(members) => match members.get("apiVersion") {
                None | Some(Value::Null) => Ok(Self::default()),
                Some(Value::String(api_version)) => Ok(Self { api_version: api_version.clone() }),
                Some(_) => Err(invalid("apiVersion is not a string".to_owned())),
            },
            _ => Err(invalid("not an object".to_owned())),
        }
    }

    /// The line for stdout. `expiry` is RFC 3339 in UTC.
    pub(crate) fn credential(&self, token: &str, expiry: &str) -> Result<String, ExecCredentialError> {
        let version = match self.api_version.as_str() {
            "" | "client.authentication.k8s.io/v1beta1" => "v1beta1",
            "client.authentication.k8s.io/v1" => "v1",
            other => return Err(ExecCredentialError::UnknownVersion(printable(other, 200))),
        };
        Ok(format!(
            "{{\"kind\":\"ExecCredential\",\"apiVersion\":\"{GROUP}/{version}\",\"spec\":{{\"interactive\":false}},\"status\":{{\"expirationTimestamp\":{},\"token\":{}}}}}\n",
            go_json_string(expiry),
            go_json_string(token),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(info: Option<&str>) -> Result<String, ExecCredentialError> {
        ExecInfo::parse(info)?.credential("a.b.c", "2026-11-23T19:34:53Z")
    }

    #[test]
    fn the_answer_is_kubelogins_byte_for_byte() {
        let line = |version: &str| {
            format!(
                "{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/{version}\",\"spec\":{{\"interactive\":false}},\"status\":{{\"expirationTimestamp\":\"2026-11-23T19:34:53Z\",\"token\":\"a.b.c\"}}}}\n"
            )
        };
        for (info, version) in [
            (None, "v1beta1"),
            (Some(""), "v1beta1"),
            (Some("{}"), "v1beta1"),
            (Some("null"), "v1beta1"),
            (Some(r#"{"apiVersion":"client.authentication.k8s.io/v1beta1"}"#), "v1beta1"),
            (
                Some(
                    r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":true}}"#,
                ),
                "v1",
            ),
        ] {
            assert_eq!(answer(info), Ok(line(version)), "{info:?}");
        }
    }

    #[test]
    fn junk_and_unknown_versions_are_named() {
        for info in ["{", "[]", "1", r#"{"apiVersion":1}"#] {
            assert!(matches!(answer(Some(info)), Err(ExecCredentialError::InvalidInfo(_))), "{info}");
        }
        assert_eq!(
            answer(Some(r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#)).expect_err("unknown").to_string(),
            "generate ExecCredential: unknown apiVersion: client.authentication.k8s.io/v1alpha1"
        );
    }
}
