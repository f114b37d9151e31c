//! The claims of ID and access tokens (dex.md 3.2).
//!
//! Compat: members and their order are Dex's (`server/tokens`); `sub` is base64url of a protobuf message that names user
//! and connector, because bindings to it compare bytes (dex.md 0.1 T6). What is empty is left out.

use portcullis_oidc::vocabulary::{scope, subject};
use portcullis_storage::Identity;
use serde::{Deserialize, Serialize};

/// `aud`: a string when there is one entry, a list otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum AudienceClaim {
    One(String),
    Many(Vec<String>),
}

impl AudienceClaim {
    pub(crate) fn of(mut audience: Vec<String>) -> Self {
        match audience.pop() {
            Some(only) if audience.is_empty() => Self::One(only),
            Some(last) => {
                audience.push(last);
                Self::Many(audience)
            }
            None => Self::Many(audience),
        }
    }
}

/// `federated_claims`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FederatedClaims {
    pub(crate) connector_id: String,
    pub(crate) user_id: String,
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: AudienceClaim,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auth_time: Option<i64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) jti: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) azp: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) nonce: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) at_hash: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) c_hash: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) email: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) email_verified: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) preferred_username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) federated_claims: Option<FederatedClaims>,
}

impl Claims {
    /// The claims that `scopes` release of an identity, without times and hashes.
    pub(crate) fn new(
        issuer: &str,
        client_id: &str,
        audience: Vec<String>,
        connector_id: &str,
        identity: &Identity,
        scopes: &[String],
    ) -> Self {
        let has = |name: &str| scopes.iter().any(|s| s == name);
        let azp = if audience.len() > 1 { client_id.to_owned() } else { String::new() };
        let text = |on: bool, value: &str| if on { value.to_owned() } else { String::new() };
        let (email, profile) = (has(scope::EMAIL), has(scope::PROFILE));
        Self {
            iss: issuer.to_owned(),
            sub: subject::encode_sub(&identity.user_id, connector_id),
            aud: AudienceClaim::of(audience),
            exp: 0,
            iat: 0,
            auth_time: None,
            jti: String::new(),
            azp,
            nonce: String::new(),
            at_hash: String::new(),
            c_hash: String::new(),
            email: text(email, &identity.email),
            email_verified: email.then_some(identity.email_verified),
            groups: if has(scope::GROUPS) { identity.groups.clone() } else { Vec::new() },
            name: text(profile, &identity.username),
            preferred_username: text(profile, &identity.preferred_username),
            federated_claims: has(scope::FEDERATED_ID)
                .then(|| FederatedClaims { connector_id: connector_id.to_owned(), user_id: identity.user_id.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            user_id: "08a8684b-db88-4b73-90a9-3cd1661f5466".to_owned(),
            username: "Jane".to_owned(),
            preferred_username: "jane".to_owned(),
            email: "jane@example.com".to_owned(),
            email_verified: false,
            groups: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    fn claims(audience: &[&str], scopes: &[&str]) -> String {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let claims = Claims::new("https://i", "c", own(audience), "local", &identity(), &own(scopes));
        serde_json::to_string(&claims).unwrap()
    }

    #[test]
    fn only_what_was_asked_for_is_released() {
        let sub = "CiQwOGE4Njg0Yi1kYjg4LTRiNzMtOTBhOS0zY2QxNjYxZjU0NjYSBWxvY2Fs";
        assert_eq!(
            claims(&["c"], &["openid"]),
            format!(r#"{{"iss":"https://i","sub":"{sub}","aud":"c","exp":0,"iat":0}}"#)
        );
        assert_eq!(
            claims(&["c"], &["openid", "email", "groups", "profile", "federated:id"]),
            format!(
                r#"{{"iss":"https://i","sub":"{sub}","aud":"c","exp":0,"iat":0,"email":"jane@example.com","email_verified":false,"groups":["a","b"],"name":"Jane","preferred_username":"jane","federated_claims":{{"connector_id":"local","user_id":"08a8684b-db88-4b73-90a9-3cd1661f5466"}}}}"#
            )
        );
    }

    #[test]
    fn several_audiences_are_a_list_and_name_the_client() {
        assert!(claims(&["p", "c"], &["openid"]).contains(r#""aud":["p","c"],"exp":0,"iat":0,"azp":"c""#));
    }

    #[test]
    fn both_forms_of_aud_are_read_back() {
        for aud in [
            AudienceClaim::of(vec!["a".to_owned()]),
            AudienceClaim::of(vec!["a".to_owned(), "b".to_owned()]),
            AudienceClaim::of(vec![]),
        ] {
            let text = serde_json::to_string(&aud).unwrap();
            assert_eq!(serde_json::from_str::<AudienceClaim>(&text).unwrap(), aud);
        }
    }
}
