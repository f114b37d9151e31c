//! What one JWT authenticator is configured with.
//!
//! Flow: [`crate::OidcFlags`] (or a caller) fills a [`JwtConfig`], a file is read by [`crate::TrustConfiguration`] → the rules
//! of [`crate::rules`] → [`ValidConfig`], the only thing that an authenticator is made of.

use std::collections::BTreeSet;
use std::fmt;

use portcullis_kube::authentication_config::{
    AuthenticationConfigError, ClaimMappings, ClaimOrExpression, ClaimValidationRule, Issuer, JwtAuthenticator,
    PrefixedClaimOrExpression,
};
use portcullis_kube::field::{FieldError, aggregate};
use portcullis_kube::go::quote;
use rustls_pki_types::CertificateDer;

use crate::cel::Expressions;
use crate::rules;

/// The algorithms that kube-apiserver knows, in the order in which it lists them.
pub const ALL_SIGNING_ALGS: [&str; 9] =
    ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// What one entry of AuthenticationConfiguration's `jwt` list, or the `--oidc-*` flags, amount to, CEL expressions aside:
/// only a file has those, and they are compiled when it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JwtConfig {
    /// `issuer.url`: compared byte for byte with `iss` and with the discovery document's `issuer`.
    pub issuer_url: String,
    /// `issuer.discoveryURL`: fetched instead of the well-known path below the issuer URL.
    pub discovery_url: Option<String>,
    /// `issuer.certificateAuthority`: PEM; replaces the system's roots. Empty: the system's roots.
    pub certificate_authority: String,
    /// `issuer.audiences`.
    pub audiences: Vec<String>,
    /// `issuer.audienceMatchPolicy`: "" or `MatchAny`.
    pub audience_match_policy: String,
    /// `claimMappings.username`; its claim is empty when an expression makes the name.
    pub username: PrefixedClaim,
    /// `claimMappings.groups`.
    pub groups: Option<PrefixedClaim>,
    /// `claimMappings.uid.claim`.
    pub uid_claim: Option<String>,
    /// `claimValidationRules` with a claim: name and required value.
    pub required_claims: Vec<(String, String)>,
    /// Allowed `alg` names in the order in which messages list them; empty means RS256 alone.
    pub signing_algs: Vec<String>,
}

/// A claim and what is put before its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrefixedClaim {
    /// The top-level claim.
    pub claim: String,
    /// Put before each value; may be empty.
    pub prefix: String,
}

/// A configuration that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidConfig {
    pub(crate) config: JwtConfig,
    pub(crate) roots: Option<Vec<CertificateDer<'static>>>,
    pub(crate) expressions: Expressions,
}

impl ValidConfig {
    /// The configuration as it was given, without expressions, with the default algorithm filled in and empty names left out.
    pub fn config(&self) -> &JwtConfig {
        &self.config
    }

    /// A word about a user name that may be an address which nobody has verified: its expression names `email` in a form that
    /// kube-apiserver's own rule does not see (`claims['email']`, `dyn(claims).email`), and none that may decide names
    /// `email_verified`.
    pub fn unverified_addresses(&self) -> Option<&'static str> {
        self.expressions.unverified_addresses()
    }

    /// The same issuer, whose documents are at `url`: `discoveryURL`, which the flags do not have.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] when it is no such URL.
    pub fn with_discovery_url(mut self, url: &str) -> Result<Self, ConfigError> {
        let mut errors = FieldErrors::default();
        rules::check_discovery_url(&self.config.issuer_url, url, &mut errors);
        if !errors.is_empty() {
            return Err(ConfigError::Refused(errors));
        }
        // Compat: an empty name is the same as none.
        self.config.discovery_url = Some(url.to_owned()).filter(|url| !url.is_empty());
        Ok(self)
    }
}

/// Why a configuration may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Some `--oidc-*` flags are set, but not both of the two that belong together.
    #[error("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set")]
    IncompleteFlags,
    /// A file and `--oidc-*` flags are given.
    #[error("authentication-config file and oidc-* flags are mutually exclusive")]
    FileAndFlags,
    /// Both a file and `--anonymous-auth` speak of anonymous requests.
    #[error(
        "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file"
    )]
    AnonymousTwice,
    /// The CA file could not be read.
    #[error("open {path}: {reason}")]
    CaFile {
        /// The path as given.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file cannot be read as an AuthenticationConfiguration.
    #[error(transparent)]
    Decode(#[from] AuthenticationConfigError),
    /// Rules of AuthenticationConfiguration are broken.
    #[error("invalid authentication configuration: {0}")]
    Invalid(FieldErrors),
    /// As [`ConfigError::Invalid`], found where kube-apiserver says so without those words: of a reload, and of an issuer that
    /// its service accounts use.
    #[error("{0}")]
    Refused(FieldErrors),
    /// `egressSelectorType` is set, and there is no egress selector: nothing here takes `--egress-selector-config-file`.
    #[error("oidc: egress lookup required with egress selector type {}", quote(.0))]
    EgressSelector(String),
    /// A signing algorithm that kube-apiserver does not know.
    #[error("oidc: unsupported signing alg: {}", quote(.0))]
    UnsupportedSigningAlg(String),
}

impl ConfigError {
    /// What the user can do about it, where the text does not say it already.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Decode(error) => error.hint(),
            Self::EgressSelector(_) => Some(
                "leave egressSelectorType out: connections go straight, or through the proxy that the environment names"
                    .to_owned(),
            ),
            Self::Invalid(errors) | Self::Refused(errors) => {
                Some(errors.hints.join("; ")).filter(|hints| !hints.is_empty())
            }
            Self::FileAndFlags => {
                Some("leave the oidc-* flags out, and write what they say into the file".to_owned())
            }
            Self::AnonymousTwice => Some("leave --anonymous-auth out, or anonymous in the file".to_owned()),
            Self::IncompleteFlags | Self::CaFile { .. } | Self::UnsupportedSigningAlg(_) => None,
        }
    }
}

/// All broken rules: one is printed plain, several as `[a, b]` without repetitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldErrors {
    /// In upstream's order.
    pub errors: Vec<FieldError>,
    /// What to write instead of broken expressions, as far as that is known.
    pub hints: Vec<String>,
}

impl FieldErrors {
    pub(crate) const fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.errors.iter().map(ToString::to_string).collect();
        f.write_str(&aggregate(&texts))
    }
}

impl JwtConfig {
    /// Checks every rule. `path` precedes the fields in messages (`jwt[0]`, or "" as in the authenticator's own
    /// constructor); `disallowed` are the service account issuers of the same API server.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all broken rules, or [`ConfigError::UnsupportedSigningAlg`].
    pub fn validate(self, path: &str, disallowed: &[String]) -> Result<ValidConfig, ConfigError> {
        let mut errors = FieldErrors::default();
        let jwt = self.written();
        let checked = rules::check(&jwt, path, disallowed, &mut errors);
        if !errors.is_empty() {
            return Err(ConfigError::Invalid(errors));
        }
        ValidConfig::new(&jwt, self.signing_algs, checked)
    }

    /// Checks every rule as kube-apiserver does at start: only its second look knows the issuers of service accounts.
    pub(crate) fn at_start(self, disallowed: &[String]) -> Result<ValidConfig, ConfigError> {
        self.clone().validate("jwt[0]", &[])?;
        self.validate("", disallowed).map_err(|error| match error {
            ConfigError::Invalid(errors) => ConfigError::Refused(errors),
            other => other,
        })
    }

    /// The same as somebody would write it into a file.
    pub(crate) fn written(&self) -> JwtAuthenticator {
        let prefixed = |mapping: &PrefixedClaim| PrefixedClaimOrExpression {
            claim: mapping.claim.clone(),
            prefix: Some(mapping.prefix.clone()),
            expression: String::new(),
        };
        let rule = |(claim, value): &(String, String)| ClaimValidationRule {
            claim: claim.clone(),
            required_value: value.clone(),
            ..ClaimValidationRule::default()
        };
        JwtAuthenticator {
            issuer: Issuer {
                url: self.issuer_url.clone(),
                discovery_url: self.discovery_url.clone(),
                certificate_authority: self.certificate_authority.clone(),
                audiences: self.audiences.clone(),
                audience_match_policy: self.audience_match_policy.clone(),
                egress_selector_type: String::new(),
            },
            claim_validation_rules: self.required_claims.iter().map(rule).collect(),
            claim_mappings: ClaimMappings {
                username: prefixed(&self.username),
                groups: self.groups.as_ref().map(prefixed).unwrap_or_default(),
                uid: ClaimOrExpression { claim: self.uid_claim.clone().unwrap_or_default(), ..Default::default() },
                extra: Vec::new(),
            },
            user_validation_rules: Vec::new(),
        }
    }
}

impl ValidConfig {
    /// What `jwt`, which keeps the rules, amounts to. No algorithms mean RS256 alone.
    pub(crate) fn new(
        jwt: &JwtAuthenticator,
        mut signing_algs: Vec<String>,
        checked: rules::Checked,
    ) -> Result<Self, ConfigError> {
        if signing_algs.is_empty() {
            signing_algs.push("RS256".to_owned());
        }
        check_algs(&signing_algs)?;
        let JwtAuthenticator { issuer, claim_validation_rules, claim_mappings, .. } = jwt;
        if !issuer.egress_selector_type.is_empty() {
            return Err(ConfigError::EgressSelector(issuer.egress_selector_type.clone()));
        }
        let prefixed = |mapping: &PrefixedClaimOrExpression| PrefixedClaim {
            claim: mapping.claim.clone(),
            prefix: mapping.prefix.clone().unwrap_or_default(),
        };
        let required = claim_validation_rules.iter().filter(|rule| !rule.claim.is_empty());
        let config = JwtConfig {
            issuer_url: issuer.url.clone(),
            // Compat: an empty name is the same as none.
            discovery_url: issuer.discovery_url.clone().filter(|url| !url.is_empty()),
            certificate_authority: issuer.certificate_authority.clone(),
            audiences: issuer.audiences.clone(),
            audience_match_policy: issuer.audience_match_policy.clone(),
            username: prefixed(&claim_mappings.username),
            groups: Some(prefixed(&claim_mappings.groups)).filter(|groups| !groups.claim.is_empty()),
            uid_claim: Some(claim_mappings.uid.claim.clone()).filter(|claim| !claim.is_empty()),
            required_claims: required.map(|rule| (rule.claim.clone(), rule.required_value.clone())).collect(),
            signing_algs,
        };
        Ok(Self { config, roots: checked.roots, expressions: checked.expressions })
    }

    pub(crate) fn with_signing_algs(mut self, algs: &[String]) -> Result<Self, ConfigError> {
        check_algs(algs)?;
        self.config.signing_algs = algs.to_vec();
        Ok(self)
    }
}

fn check_algs(algs: &[String]) -> Result<(), ConfigError> {
    match algs.iter().find(|alg| !ALL_SIGNING_ALGS.contains(&alg.as_str())) {
        Some(unknown) => Err(ConfigError::UnsupportedSigningAlg(unknown.clone())),
        None => Ok(()),
    }
}

/// The list as it is printed in "expected […]": sorted and without repetitions, as `sets.List`.
pub(crate) fn sorted(audiences: &[String]) -> Vec<String> {
    audiences.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> JwtConfig {
        JwtConfig {
            issuer_url: "https://issuer.example".into(),
            audiences: vec!["my-client".into()],
            username: PrefixedClaim { claim: "sub".into(), prefix: String::new() },
            ..JwtConfig::default()
        }
    }

    #[test]
    fn a_sound_configuration_gets_the_default_algorithm() {
        let valid = good().validate("", &[]).expect("valid");
        assert_eq!(valid.config().signing_algs, ["RS256"]);
        assert!(valid.roots.is_none());
        assert_eq!(valid.config(), &JwtConfig { signing_algs: vec!["RS256".into()], ..good() });
    }

    #[test]
    fn empty_names_are_none() {
        let config = JwtConfig {
            discovery_url: Some(String::new()),
            groups: Some(PrefixedClaim { claim: String::new(), prefix: "p:".into() }),
            uid_claim: Some(String::new()),
            ..good()
        };
        let valid = config.validate("", &[]).expect("valid");
        let JwtConfig { discovery_url, groups, uid_claim, .. } = valid.config();
        assert_eq!((discovery_url, groups, uid_claim), (&None, &None, &None));
    }

    #[test]
    fn another_place_of_the_documents_changes_nothing_else() {
        let valid = good().validate("", &[]).expect("valid");
        let moved = valid.clone().with_discovery_url("https://d.example/x").expect("a place");
        assert_eq!(moved.config().discovery_url.as_deref(), Some("https://d.example/x"));
        assert_eq!(moved.with_discovery_url("").expect("none"), valid);
        for (url, want) in [
            ("https://issuer.example/", "discoveryURL must be different from URL"),
            ("http://d.example", "URL scheme must be https"),
        ] {
            let error = valid.clone().with_discovery_url(url).expect_err(url).to_string();
            assert_eq!(error, format!("issuer.discoveryURL: Invalid value: \"{url}\": {want}"));
        }
    }

    #[test]
    fn broken_rules_are_told_with_their_path() {
        let config = JwtConfig { audiences: Vec::new(), ..good() };
        assert_eq!(
            config.validate("jwt[0]", &[]).expect_err("refused").to_string(),
            "invalid authentication configuration: jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required"
        );
        let config = JwtConfig { signing_algs: vec!["RS256".into(), "HS256".into()], ..good() };
        assert_eq!(
            config.validate("", &[]).expect_err("refused").to_string(),
            r#"oidc: unsupported signing alg: "HS256""#
        );
    }

    #[test]
    fn what_is_written_means_the_same() {
        let config = JwtConfig {
            discovery_url: Some("https://d.example/x".into()),
            audience_match_policy: "MatchAny".into(),
            groups: Some(PrefixedClaim { claim: "g".into(), prefix: "p:".into() }),
            uid_claim: Some("u".into()),
            required_claims: vec![("hd".into(), "example.com".into())],
            signing_algs: vec!["ES256".into()],
            ..good()
        };
        assert_eq!(config.clone().validate("", &[]).expect("valid").config(), &config);
    }
}
