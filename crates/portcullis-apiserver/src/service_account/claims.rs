//! What a service account token says.
//!
//! Compat: `pkg/serviceaccount/claims.go`; members are written in alphabetical order, as Go writes a map.

use portcullis_runtime::{Timestamp, unix_seconds};
use serde::{Deserialize, Serialize};

/// The payload of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    #[serde(default)]
    pub(crate) aud: Vec<String>,
    #[serde(with = "unix_seconds")]
    pub(crate) exp: Timestamp,
    #[serde(with = "unix_seconds")]
    pub(crate) iat: Timestamp,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Binding,
    #[serde(with = "unix_seconds")]
    pub(crate) nbf: Timestamp,
    pub(crate) sub: String,
}

/// Whose token it is, and with what it lives and dies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Binding {
    pub(crate) namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Reference>,
    pub(crate) serviceaccount: Reference,
    /// When a client should have fetched a new one, of a token that lives on for clients that do not.
    #[serde(skip_serializing_if = "Option::is_none", with = "unix_seconds::option")]
    pub(crate) warnafter: Option<Timestamp>,
}

/// An object at one time of its life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reference {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

impl Reference {
    pub(crate) fn new(name: &str, uid: &str) -> Self {
        Self { name: name.to_owned(), uid: uid.to_owned() }
    }
}

/// The user name of a service account.
pub(crate) fn username(namespace: &str, name: &str) -> String {
    format!("{}{namespace}:{name}", portcullis_kube::user_info::SERVICE_ACCOUNT_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_written_as_upstream_writes_them() {
        let at = Timestamp::from_unix_seconds;
        let claims = Claims {
            aud: vec!["a".to_owned()],
            exp: at(2),
            iat: at(1),
            iss: "i".to_owned(),
            jti: "j".to_owned(),
            kubernetes: Binding {
                namespace: "n".to_owned(),
                node: Some(Reference::new("n1", "")),
                pod: Some(Reference::new("p", "u")),
                secret: None,
                serviceaccount: Reference::new("s", "v"),
                warnafter: Some(at(3)),
            },
            nbf: at(1),
            sub: username("n", "s"),
        };
        let text = serde_json::to_string(&claims).unwrap();
        let want = r#"{"aud":["a"],"exp":2,"iat":1,"iss":"i","jti":"j","kubernetes.io":{"namespace":"n","node":{"name":"n1"},"pod":{"name":"p","uid":"u"},"serviceaccount":{"name":"s","uid":"v"},"warnafter":3},"nbf":1,"sub":"system:serviceaccount:n:s"}"#;
        assert_eq!(text, want);
        assert_eq!(serde_json::from_str::<Claims>(&text).unwrap(), claims);
    }
}
