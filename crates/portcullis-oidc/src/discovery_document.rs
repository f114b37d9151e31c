//! The provider metadata document (OpenID Connect Discovery 1.0 section 3), typed and raw.
//!
//! The order of the fields is that of Dex's document, so that our provider's output reads the same.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// What an issuer says about itself. Fields that it left out, or wrote as null, are absent or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscoveryDocument {
    /// The issuer identifier.
    #[serde(deserialize_with = "or_default")]
    pub issuer: String,
    /// Where the browser goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    /// Where codes and refresh tokens are redeemed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// Where the keys are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Where an access token buys claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userinfo_endpoint: Option<String>,
    /// RFC 8628 section 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_authorization_endpoint: Option<String>,
    /// RFC 8414 section 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introspection_endpoint: Option<String>,
    /// OpenID Connect RP-Initiated Logout 1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_session_endpoint: Option<String>,
    /// OpenID Connect Back-Channel Logout 1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backchannel_logout_supported: Option<bool>,
    /// Whether logout tokens carry `sid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backchannel_logout_session_supported: Option<bool>,
    /// Grant types.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub grant_types_supported: Vec<String>,
    /// Response types.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub response_types_supported: Vec<String>,
    /// Subject identifier types.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub subject_types_supported: Vec<String>,
    /// Algorithms of ID tokens.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub id_token_signing_alg_values_supported: Vec<String>,
    /// PKCE methods.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub code_challenge_methods_supported: Vec<String>,
    /// Scopes.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub scopes_supported: Vec<String>,
    /// How clients may authenticate at the token endpoint.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Claims.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub claims_supported: Vec<String>,
    /// Everything else that was in the document.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl DiscoveryDocument {
    /// Where the document of `issuer` is: one trailing slash of the issuer is dropped (as go-oidc does; OpenID Connect
    /// Discovery 4.1 says the same).
    pub fn url(issuer: &str) -> String {
        format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
    }

    /// Whether the issuer lists exactly `S256` among its PKCE methods.
    pub fn supports_s256(&self) -> bool {
        self.code_challenge_methods_supported.iter().any(|method| method == "S256")
    }
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_slash_is_dropped() {
        for (issuer, url) in [
            ("https://a", "https://a/.well-known/openid-configuration"),
            ("https://a/", "https://a/.well-known/openid-configuration"),
            ("https://a/dex", "https://a/dex/.well-known/openid-configuration"),
            ("https://a/dex//", "https://a/dex//.well-known/openid-configuration"),
        ] {
            assert_eq!(DiscoveryDocument::url(issuer), url);
        }
    }

    #[test]
    fn null_and_absent_are_the_same_and_unknown_members_are_kept() {
        let text = r#"{"issuer":"https://a","jwks_uri":null,"scopes_supported":null,"x_custom":{"a":[1]}}"#;
        let document: DiscoveryDocument = serde_json::from_str(text).unwrap();
        assert_eq!(document.jwks_uri, None);
        assert!(document.scopes_supported.is_empty() && !document.supports_s256());
        assert_eq!(serde_json::to_string(&document).unwrap(), r#"{"issuer":"https://a","x_custom":{"a":[1]}}"#);
    }

    #[test]
    fn members_of_the_wrong_type_are_refused() {
        for text in [
            r#"{"issuer":1}"#,
            r#"{"issuer":"a","jwks_uri":[]}"#,
            r#"{"issuer":"a","scopes_supported":"openid"}"#,
            r#"{"issuer":"a","scopes_supported":[1]}"#,
            r#"{"issuer":"a","issuer":"b"}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<DiscoveryDocument>(text).is_err(), "{text}");
        }
    }
}
