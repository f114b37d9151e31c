//! `AuthenticationConfiguration` of `apiserver.config.k8s.io`: which issuers an API server trusts, and how claims become users.
//!
//! Only the shape: `v1`, `v1beta1` and `v1alpha1` have the same members. Unknown members are refused, as the API server's
//! strict decoder does. What the values must satisfy is the business of `portcullis-authn`.

use serde::{Deserialize, Serialize};

use crate::wire::nullable;
use crate::yaml::{self, YamlError};

/// Versions that decode, newest first.
pub const API_VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];

/// Bytes that a configuration may have.
const BYTES_LIMIT: usize = 1024 * 1024;

/// The file's root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationConfiguration {
    /// `AuthenticationConfiguration`.
    #[serde(deserialize_with = "nullable")]
    pub kind: String,
    /// One of [`API_VERSIONS`].
    #[serde(deserialize_with = "nullable")]
    pub api_version: String,
    /// Trusted issuers, at most 64.
    #[serde(deserialize_with = "nullable")]
    pub jwt: Vec<JwtAuthenticator>,
    /// Whether and where requests without credentials are let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<AnonymousAuthConfig>,
}

/// Requests without credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AnonymousAuthConfig {
    /// Whether they are let in at all.
    #[serde(deserialize_with = "nullable")]
    pub enabled: bool,
    /// Only to these paths; none is everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub conditions: Vec<AnonymousAuthCondition>,
}

/// A path for anonymous requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AnonymousAuthCondition {
    /// Exact path.
    #[serde(deserialize_with = "nullable")]
    pub path: String,
}

/// One trusted issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtAuthenticator {
    /// Who signs.
    #[serde(deserialize_with = "nullable")]
    pub issuer: Issuer,
    /// What claims must satisfy.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub claim_validation_rules: Vec<ClaimValidationRule>,
    /// How claims become a user.
    #[serde(deserialize_with = "nullable")]
    pub claim_mappings: ClaimMappings,
    /// What the user must satisfy.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub user_validation_rules: Vec<UserValidationRule>,
}

/// Who signs tokens, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// Equals the `iss` claim, byte for byte.
    #[serde(deserialize_with = "nullable")]
    pub url: String,
    /// Where the discovery document is, when not below the issuer.
    #[serde(rename = "discoveryURL", skip_serializing_if = "Option::is_none")]
    pub discovery_url: Option<String>,
    /// PEM; replaces the system's roots.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub certificate_authority: String,
    /// Accepted `aud` values, at least one.
    #[serde(deserialize_with = "nullable")]
    pub audiences: Vec<String>,
    /// `MatchAny` when there are several audiences.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub audience_match_policy: String,
    /// `controlplane`, `cluster` or nothing.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub egress_selector_type: String,
}

/// Either a claim with its required value, or an expression with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimValidationRule {
    /// Name of a claim.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub claim: String,
    /// Its value.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub required_value: String,
    /// CEL over `claims`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub expression: String,
    /// What is said when it does not hold.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub message: String,
}

/// How claims become a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimMappings {
    /// The user's name.
    #[serde(deserialize_with = "nullable")]
    pub username: PrefixedClaimOrExpression,
    /// The user's groups.
    #[serde(deserialize_with = "nullable")]
    pub groups: PrefixedClaimOrExpression,
    /// The user's uid.
    #[serde(deserialize_with = "nullable")]
    pub uid: ClaimOrExpression,
    /// Further attributes.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub extra: Vec<ExtraMapping>,
}

/// A claim with a prefix, or an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PrefixedClaimOrExpression {
    /// Name of a claim.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub claim: String,
    /// Required with a claim; `""` is no prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// CEL over `claims`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub expression: String,
}

/// A claim, or an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimOrExpression {
    /// Name of a claim.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub claim: String,
    /// CEL over `claims`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub expression: String,
}

/// A further attribute of the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtraMapping {
    /// A domain-prefixed path, lower case.
    #[serde(deserialize_with = "nullable")]
    pub key: String,
    /// CEL over `claims`.
    #[serde(deserialize_with = "nullable")]
    pub value_expression: String,
}

/// What the user must satisfy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct UserValidationRule {
    /// CEL over `user`.
    #[serde(deserialize_with = "nullable")]
    pub expression: String,
    /// What is said when it does not hold.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub message: String,
}

/// Why a text is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationConfigError {
    /// Not YAML, too large, or members with unknown names or other types.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// Another kind or version.
    #[error("{file}: no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// The file.
        file: String,
        /// Its kind.
        kind: String,
        /// Its version.
        api_version: String,
    },
}

impl AuthenticationConfigError {
    /// What the user can do about it, where the text does not say it already.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Yaml(error) => error.hint().map(str::to_owned),
            Self::UnknownKind { .. } => {
                Some(format!("kind must be AuthenticationConfiguration, apiVersion one of {}", API_VERSIONS.join(", ")))
            }
        }
    }
}

impl AuthenticationConfiguration {
    /// Reads YAML or JSON. `file` is for messages.
    ///
    /// # Errors
    /// [`AuthenticationConfigError`], with the file and, where there is one, the line.
    pub fn parse(text: &str, file: &str) -> Result<Self, AuthenticationConfigError> {
        let config: Self = yaml::parse(text, file, BYTES_LIMIT)?;
        if config.kind == "AuthenticationConfiguration" && API_VERSIONS.contains(&config.api_version.as_str()) {
            return Ok(config);
        }
        Err(AuthenticationConfigError::UnknownKind {
            file: file.to_owned(),
            kind: config.kind,
            api_version: config.api_version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: https://a\n    discoveryURL: https://b/x\n    audiences: [kubernetes]\n  claimMappings:\n    username: {claim: email, prefix: \"\"}\n    groups: {claim: groups, prefix: 'oidc:'}\nanonymous: {enabled: true, conditions: [{path: /livez}]}\n";

    #[test]
    fn a_configuration_of_each_version_is_read() {
        for version in API_VERSIONS {
            let config =
                AuthenticationConfiguration::parse(&GOOD.replace("apiserver.config.k8s.io/v1", version), "f").unwrap();
            let jwt = config.jwt.first().unwrap();
            assert_eq!(jwt.issuer.discovery_url.as_deref(), Some("https://b/x"));
            assert_eq!(jwt.claim_mappings.username.prefix.as_deref(), Some(""));
            assert_eq!(jwt.claim_mappings.uid, ClaimOrExpression::default());
            assert!(config.anonymous.unwrap().enabled);
        }
    }

    #[test]
    fn unknown_members_versions_and_kinds_are_refused() {
        let unknown = AuthenticationConfiguration::parse(&format!("{GOOD}jwts: []\n"), "auth.yaml").unwrap_err();
        assert!(unknown.to_string().starts_with("auth.yaml:12:1: "), "{unknown}");
        assert!(unknown.to_string().contains("jwts"), "{unknown}");
        let version = AuthenticationConfiguration::parse(&GOOD.replace("/v1\n", "/v2\n"), "auth.yaml").unwrap_err();
        assert_eq!(
            version.to_string(),
            "auth.yaml: no kind \"AuthenticationConfiguration\" is registered for version \"apiserver.config.k8s.io/v2\""
        );
        assert!(version.hint().unwrap().contains("apiserver.config.k8s.io/v1beta1"), "{:?}", version.hint());
        assert!(AuthenticationConfiguration::parse(&GOOD.replace("kind: Auth", "kind: X"), "f").is_err());
        assert!(AuthenticationConfiguration::parse("", "f").is_err());
    }
}
