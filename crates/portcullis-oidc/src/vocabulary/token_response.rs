//! The successful answer of a token endpoint (RFC 6749 section 5.1, OpenID Connect Core 3.1.3.3).

use portcullis_runtime::Secret;
use serde::{Serialize, Serializer};

/// Tokens that were issued. Member order on the wire is Dex's. `Debug` shows no token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenResponse {
    /// The access token.
    #[serde(serialize_with = "exposed")]
    pub access_token: Secret,
    /// How it is used: `bearer` or `Bearer`.
    pub token_type: String,
    /// Seconds until the access token expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// The refresh token.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub refresh_token: Option<Secret>,
    /// The ID token.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub id_token: Option<Secret>,
}

fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn exposed_option<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_some(secret.as_ref().map_or("", Secret::expose))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_has_the_tokens_and_debug_has_not() {
        let mut response = TokenResponse {
            access_token: "at-1".into(),
            token_type: "bearer".into(),
            expires_in: Some(86399),
            refresh_token: Some("rt-1".into()),
            id_token: Some("it-1".into()),
        };
        assert_eq!(
            serde_json::to_string(&response).unwrap(),
            r#"{"access_token":"at-1","token_type":"bearer","expires_in":86399,"refresh_token":"rt-1","id_token":"it-1"}"#
        );
        let debug = format!("{response:?}");
        assert!(!["at-1", "rt-1", "it-1"].iter().any(|token| debug.contains(token)), "{debug}");
        (response.refresh_token, response.id_token, response.expires_in) = (None, None, None);
        assert_eq!(serde_json::to_string(&response).unwrap(), r#"{"access_token":"at-1","token_type":"bearer"}"#);
    }
}
