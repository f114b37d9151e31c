//! `ExecCredential` of `client.authentication.k8s.io`: what client-go tells an exec plugin, and what the plugin answers.
//!
//! Compat: the answer is byte for byte that of kubelogin 1.36, `spec` and its order included; the question is read as leniently
//! (only `apiVersion` matters to it). Nothing here may end up on stdout but the answer.

use serde::{Deserialize, Serialize};

use crate::go;
use crate::secret::SecretText;
use crate::timestamp::Time;
use crate::wire::nullable;

/// The variable in which client-go passes the question.
pub const EXEC_INFO_VARIABLE: &str = "KUBERNETES_EXEC_INFO";

/// Bytes that a question or an answer may have: a token of 64 KiB fits several times.
const BYTES_LIMIT: usize = 1024 * 1024;

/// Versions that client-go accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecApiVersion {
    /// `client.authentication.k8s.io/v1`.
    V1,
    /// `client.authentication.k8s.io/v1beta1`; also what a missing question means.
    #[default]
    V1Beta1,
}

impl ExecApiVersion {
    /// As it stands in `apiVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "client.authentication.k8s.io/v1",
            Self::V1Beta1 => "client.authentication.k8s.io/v1beta1",
        }
    }
}

/// What client-go tells the plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecInfo {
    /// The version of the answer; empty when nothing was passed.
    #[serde(deserialize_with = "nullable")]
    pub api_version: String,
    /// What may be done.
    #[serde(deserialize_with = "nullable")]
    pub spec: ExecSpec,
}

/// The circumstances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecSpec {
    /// The cluster, when the kubeconfig has `provideClusterInfo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ExecCluster>,
    /// Whether stdin is a terminal that the plugin may use.
    #[serde(deserialize_with = "nullable")]
    pub interactive: bool,
}

/// The cluster that the credential is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ExecCluster {
    /// Its URL.
    #[serde(deserialize_with = "nullable")]
    pub server: String,
    /// Name to check the certificate against.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub tls_server_name: String,
    /// Base64 PEM.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub certificate_authority_data: String,
    /// The cluster's extension named `client.authentication.k8s.io/exec`.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub config: serde_json::Value,
}

/// The question is not what client-go sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecInfoError {
    /// No JSON, or members of other types.
    #[error("invalid {EXEC_INFO_VARIABLE}: {0}")]
    Malformed(String),
    /// Larger than client-go ever sends.
    #[error("invalid {EXEC_INFO_VARIABLE}: {bytes} bytes, at most {BYTES_LIMIT} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A version that this plugin does not speak.
    #[error("unknown apiVersion: {0}")]
    UnknownVersion(String),
}

impl ExecInfo {
    /// Reads the variable; absent or empty is an empty question.
    ///
    /// # Errors
    /// [`ExecInfoError::Malformed`] or [`ExecInfoError::TooLarge`]; an unknown version is found later, by [`Self::version`],
    /// as kubelogin does.
    pub fn parse(variable: Option<&str>) -> Result<Self, ExecInfoError> {
        let Some(text) = variable.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        if text.len() > BYTES_LIMIT {
            return Err(ExecInfoError::TooLarge { bytes: text.len() });
        }
        serde_json::from_str(text).map_err(|why| ExecInfoError::Malformed(why.to_string()))
    }

    /// The version of the answer.
    ///
    /// # Errors
    /// [`ExecInfoError::UnknownVersion`].
    pub fn version(&self) -> Result<ExecApiVersion, ExecInfoError> {
        [ExecApiVersion::V1, ExecApiVersion::V1Beta1]
            .into_iter()
            .find(|v| v.as_str() == self.api_version)
            .or_else(|| self.api_version.is_empty().then_some(ExecApiVersion::V1Beta1))
            .ok_or_else(|| ExecInfoError::UnknownVersion(self.api_version.clone()))
    }
}

/// The plugin's answer: a bearer token and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecCredential {
    /// The version that was asked for.
    pub api_version: ExecApiVersion,
    /// When client-go must ask again.
    pub expiration: Time,
    /// The token.
    pub token: SecretText,
}

/// An answer that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecCredentialError {
    /// No JSON object of this kind, or too large.
    #[error("decoding stdout: not an ExecCredential")]
    Malformed,
    /// Another version than v1 or v1beta1.
    #[error("plugin returned version {0:?}")]
    UnknownVersion(String),
    /// No token, or no expiry.
    #[error("exec plugin didn't return a token and its expiry")]
    Incomplete,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    kind: String,
    api_version: String,
    #[serde(default)]
    spec: WireSpec,
    status: WireStatus,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct WireSpec {
    interactive: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    expiration_timestamp: Option<Time>,
    token: Option<SecretText>,
}

impl ExecCredential {
    /// The one line that goes to stdout, newline included.
    pub fn to_line(&self) -> Vec<u8> {
        let wire = Wire {
            kind: "ExecCredential".to_owned(),
            api_version: self.api_version.as_str().to_owned(),
            spec: WireSpec::default(),
            status: WireStatus { expiration_timestamp: Some(self.expiration), token: Some(self.token.clone()) },
        };
        go::to_body(&wire).unwrap_or_default()
    }

    /// Reads what a plugin printed.
    ///
    /// # Errors
    /// [`ExecCredentialError`]; the message never holds what the plugin printed.
    pub fn parse(output: &[u8]) -> Result<Self, ExecCredentialError> {
        if output.len() > BYTES_LIMIT {
            return Err(ExecCredentialError::Malformed);
        }
        let wire: Wire = serde_json::from_slice(output).map_err(|_| ExecCredentialError::Malformed)?;
        if wire.kind != "ExecCredential" {
            return Err(ExecCredentialError::Malformed);
        }
        let api_version = [ExecApiVersion::V1, ExecApiVersion::V1Beta1]
            .into_iter()
            .find(|v| v.as_str() == wire.api_version)
            .ok_or(ExecCredentialError::UnknownVersion(wire.api_version))?;
        let (Some(expiration), Some(token)) = (wire.status.expiration_timestamp, wire.status.token) else {
            return Err(ExecCredentialError::Incomplete);
        };
        if token.is_empty() {
            return Err(ExecCredentialError::Incomplete);
        }
        Ok(Self { api_version, expiration, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(api_version: ExecApiVersion) -> ExecCredential {
        ExecCredential {
            api_version,
            expiration: Time::from_unix_seconds(1_795_462_493),
            token: SecretText::new("eyJ.a-_.b"),
        }
    }

    #[test]
    fn the_answer_is_kubelogins_byte_for_byte() {
        let line = String::from_utf8(credential(ExecApiVersion::V1).to_line()).unwrap();
        assert_eq!(
            line,
            "{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"spec\":{\"interactive\":false},\"status\":{\"expirationTimestamp\":\"2026-11-23T19:34:53Z\",\"token\":\"eyJ.a-_.b\"}}\n"
        );
    }

    #[test]
    fn the_answer_reads_back() {
        for version in [ExecApiVersion::V1, ExecApiVersion::V1Beta1] {
            assert_eq!(ExecCredential::parse(&credential(version).to_line()), Ok(credential(version)));
        }
    }

    #[test]
    fn the_question_decides_the_version() {
        let table = [
            (None, Ok(ExecApiVersion::V1Beta1)),
            (Some(""), Ok(ExecApiVersion::V1Beta1)),
            (Some("{}"), Ok(ExecApiVersion::V1Beta1)),
            (
                Some(r#"{"apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":true}}"#),
                Ok(ExecApiVersion::V1),
            ),
            (Some(r#"{"apiVersion":"client.authentication.k8s.io/v1beta1"}"#), Ok(ExecApiVersion::V1Beta1)),
            (
                Some(r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#),
                Err("unknown apiVersion: client.authentication.k8s.io/v1alpha1".to_owned()),
            ),
        ];
        for (variable, want) in table {
            let got = ExecInfo::parse(variable).unwrap().version().map_err(|e| e.to_string());
            assert_eq!(got, want, "{variable:?}");
        }
    }

    #[test]
    fn a_malformed_or_oversized_question_is_refused() {
        let text = ExecInfo::parse(Some("{")).unwrap_err().to_string();
        assert!(text.starts_with("invalid KUBERNETES_EXEC_INFO: "), "{text}");
        assert!(ExecInfo::parse(Some(r#"{"apiVersion":1}"#)).is_err());
        let large = format!("\"{}\"", "x".repeat(BYTES_LIMIT));
        assert!(matches!(ExecInfo::parse(Some(&large)), Err(ExecInfoError::TooLarge { .. })));
    }

    #[test]
    fn answers_without_token_expiry_or_right_kind_are_refused() {
        let good = String::from_utf8(credential(ExecApiVersion::V1).to_line()).unwrap();
        let table = [
            (good.replace("ExecCredential", "Pod"), ExecCredentialError::Malformed),
            (
                good.replace("io/v1\"", "io/v2\""),
                ExecCredentialError::UnknownVersion("client.authentication.k8s.io/v2".to_owned()),
            ),
            (good.replace("eyJ.a-_.b", ""), ExecCredentialError::Incomplete),
            (good.replace("expirationTimestamp", "x"), ExecCredentialError::Incomplete),
            ("eyJ.secret".to_owned(), ExecCredentialError::Malformed),
        ];
        for (output, want) in table {
            assert_eq!(ExecCredential::parse(output.as_bytes()), Err(want), "{output}");
        }
    }
}
