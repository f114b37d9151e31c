//! `AuthenticationConfiguration` of `apiserver.config.k8s.io`: which issuers an API server trusts, and how claims become users.
//!
//! Only the shape: `v1`, `v1beta1` and `v1alpha1` have the same members. [`AuthenticationConfiguration::decode`] reads a file
//! as the API server's strict decoder does, words included. What the values must satisfy is the business of
//! `portcullis-authn`.

mod decode;
mod shape;

use serde::{Deserialize, Serialize};

use crate::wire::nullable;

pub use decode::{API_VERSIONS, AuthenticationConfigError, BYTES_LIMIT};

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

impl AnonymousAuthConfig {
    /// They are let in everywhere, or nowhere: what `--anonymous-auth` says.
    pub const fn everywhere(enabled: bool) -> Self {
        Self { enabled, conditions: Vec::new() }
    }
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
