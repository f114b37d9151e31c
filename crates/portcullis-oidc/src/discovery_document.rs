//! The provider metadata document (OpenID Connect Discovery 1.0 section 3), typed and raw.
//!
//! The order of the fields is that of Dex's document, so that our provider's output reads the same.
//!
//! A document with a wrong type in a member that decides something is refused as a whole; in any other member such a
//! value counts as left out. Compat: the former are the members of go-oidc's `providerJSON` (v3.20 in kubelogin, v2.5 in
//! kube-apiserver, which lacks `device_authorization_endpoint`) and `code_challenge_methods_supported`, which kubelogin
//! reads on its own.

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
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
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Option::is_none")]
    pub introspection_endpoint: Option<String>,
    /// OpenID Connect RP-Initiated Logout 1.0.
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Option::is_none")]
    pub end_session_endpoint: Option<String>,
    /// OpenID Connect Back-Channel Logout 1.0.
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Option::is_none")]
    pub backchannel_logout_supported: Option<bool>,
    /// Whether logout tokens carry `sid`.
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Option::is_none")]
    pub backchannel_logout_session_supported: Option<bool>,
    /// Grant types.
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Vec::is_empty")]
    pub grant_types_supported: Vec<String>,
    /// Response types.
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Vec::is_empty")]
    pub response_types_supported: Vec<String>,
    /// Subject identifier types.
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Vec::is_empty")]
    pub subject_types_supported: Vec<String>,
    /// Algorithms of ID tokens.
    #[serde(deserialize_with = "go_strings", skip_serializing_if = "Vec::is_empty")]
    pub id_token_signing_alg_values_supported: Vec<String>,
    /// PKCE methods.
    #[serde(deserialize_with = "go_strings", skip_serializing_if = "Vec::is_empty")]
    pub code_challenge_methods_supported: Vec<String>,
    /// Scopes.
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Vec::is_empty")]
    pub scopes_supported: Vec<String>,
    /// How clients may authenticate at the token endpoint.
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Vec::is_empty")]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Claims.
    #[serde(deserialize_with = "or_ignored", skip_serializing_if = "Vec::is_empty")]
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

/// A member that decides something: null is its empty value.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A list that decides something, as Go reads it: null in it is an empty text.
fn go_strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list: Option<Vec<Option<String>>> = Option::deserialize(deserializer)?;
    Ok(list.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect())
}

/// A member that decides nothing: a value of another type is none.
fn or_ignored<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    Value::deserialize(deserializer).map(|value| serde_json::from_value(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    /// What go-oidc v3.20 and v2.5 (`providerJSON`) and kubelogin 1.36 (`code_challenge_methods_supported`) type.
    const TYPED_TEXTS: [&str; 6] = [
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "device_authorization_endpoint",
        "jwks_uri",
        "userinfo_endpoint",
    ];
    const TYPED_LISTS: [&str; 2] = ["id_token_signing_alg_values_supported", "code_challenge_methods_supported"];
    const IGNORED: [&str; 10] = [
        "introspection_endpoint",
        "end_session_endpoint",
        "backchannel_logout_supported",
        "backchannel_logout_session_supported",
        "grant_types_supported",
        "response_types_supported",
        "subject_types_supported",
        "scopes_supported",
        "token_endpoint_auth_methods_supported",
        "claims_supported",
    ];

    fn read(member: &str, value: &Value) -> Result<DiscoveryDocument, serde_json::Error> {
        let mut document = json!({"issuer": "https://a", "jwks_uri": "https://a/keys"});
        document[member] = value.clone();
        serde_json::from_str(&document.to_string())
    }

    fn written(document: &DiscoveryDocument, member: &str) -> Value {
        serde_json::to_value(document).unwrap().get(member).cloned().unwrap_or_default()
    }

    #[test]
    fn members_that_decide_something_are_typed_as_in_go() {
        for member in TYPED_TEXTS {
            for value in [json!(1), json!(true), json!([]), json!({}), json!(["https://a"])] {
                assert!(read(member, &value).is_err(), "{member}: {value}");
            }
            assert!(read(member, &Value::Null).is_ok() && read(member, &json!("")).is_ok(), "{member}");
        }
        for member in TYPED_LISTS {
            for value in [json!(1), json!(true), json!({}), json!("S256"), json!(["S256", 1]), json!([["S256"]])] {
                assert!(read(member, &value).is_err(), "{member}: {value}");
            }
            assert!(read(member, &Value::Null).is_ok() && read(member, &json!([])).is_ok(), "{member}");
            assert_eq!(written(&read(member, &json!([null, "S256"])).unwrap(), member), json!(["", "S256"]));
        }
    }

    #[test]
    fn members_that_decide_nothing_are_left_out_when_they_are_of_another_type() {
        for member in IGNORED {
            let kinds =
                [json!(1), json!(true), json!("x"), json!(["x"]), json!({"x": [1]}), json!(["x", 1]), json!(null)];
            let kept: Vec<_> = kinds
                .into_iter()
                .filter(|value| {
                    let document = read(member, value).unwrap();
                    assert_eq!(document.jwks_uri.as_deref(), Some("https://a/keys"), "{member}: {value}");
                    let written = written(&document, member);
                    assert!(written.is_null() || written == *value, "{member}: {value}");
                    !written.is_null()
                })
                .collect();
            assert_eq!(kept.len(), 1, "each has one type of its own: {member} keeps {kept:?}");
        }
    }

    #[test]
    fn every_member_is_in_one_of_the_two_tables() {
        let full = DiscoveryDocument {
            authorization_endpoint: Some("x".into()),
            token_endpoint: Some("x".into()),
            jwks_uri: Some("x".into()),
            userinfo_endpoint: Some("x".into()),
            device_authorization_endpoint: Some("x".into()),
            introspection_endpoint: Some("x".into()),
            end_session_endpoint: Some("x".into()),
            backchannel_logout_supported: Some(true),
            backchannel_logout_session_supported: Some(true),
            issuer: "x".into(),
            grant_types_supported: vec!["x".into()],
            response_types_supported: vec!["x".into()],
            subject_types_supported: vec!["x".into()],
            id_token_signing_alg_values_supported: vec!["x".into()],
            code_challenge_methods_supported: vec!["x".into()],
            scopes_supported: vec!["x".into()],
            token_endpoint_auth_methods_supported: vec!["x".into()],
            claims_supported: vec!["x".into()],
            other: Map::new(),
        };
        let mut members: Vec<String> =
            serde_json::to_value(full).unwrap().as_object().unwrap().keys().cloned().collect();
        let mut tables: Vec<&str> = TYPED_TEXTS.into_iter().chain(TYPED_LISTS).chain(IGNORED).collect();
        members.sort_unstable();
        tables.sort_unstable();
        assert_eq!(members, tables);
    }

    #[test]
    fn a_member_twice_and_a_list_are_refused() {
        for text in
            [r#"{"issuer":"a","issuer":"b"}"#, r#"{"issuer":"a","scopes_supported":1,"scopes_supported":2}"#, "[]"]
        {
            assert!(serde_json::from_str::<DiscoveryDocument>(text).is_err(), "{text}");
        }
    }
}
