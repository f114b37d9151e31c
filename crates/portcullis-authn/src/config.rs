//! What one JWT authenticator is configured with, and the rules that the configuration must keep.
//!
//! Flow: [`crate::OidcFlags`] (or a caller) fills a [`JwtConfig`] → [`JwtConfig::validate`] checks it as kube-apiserver
//! does at start → [`ValidConfig`], the only thing that an authenticator is made of.
//!
//! Compat: `k8s.io/apiserver/pkg/apis/apiserver/validation` v0.37. Rules for CEL expressions are not here yet.

use std::collections::BTreeSet;
use std::fmt;

use portcullis_kube::field::{FieldError, aggregate};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::go::url;
use portcullis_kube::go::quote;

/// The algorithms that kube-apiserver knows, in the order in which it lists them.
pub const ALL_SIGNING_ALGS: [&str; 9] =
    ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// One entry of AuthenticationConfiguration's `jwt` list, or what the `--oidc-*` flags amount to.
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
    /// `claimMappings.username`.
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
#[derive(Debug, Clone)]
pub struct ValidConfig {
    pub(crate) config: JwtConfig,
    pub(crate) roots: Option<Vec<CertificateDer<'static>>>,
}

impl ValidConfig {
    /// The configuration as it was given, with the default algorithm filled in and empty names left out.
    pub fn config(&self) -> &JwtConfig {
        &self.config
    }
}

/// Why a configuration may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Some `--oidc-*` flags are set, but not both of the two that belong together.
    #[error("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set")]
    IncompleteFlags,
    /// The CA file could not be read.
    #[error("open {path}: {reason}")]
    CaFile {
        /// The path as given.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Rules of AuthenticationConfiguration are broken.
    #[error("invalid authentication configuration: {0}")]
    Invalid(FieldErrors),
    /// A signing algorithm that kube-apiserver does not know.
    #[error("oidc: unsupported signing alg: {}", quote(.0))]
    UnsupportedSigningAlg(String),
}

/// All broken rules: one is printed plain, several as `[a, b]` without repetitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&aggregate(&texts))
    }
}

impl JwtConfig {
    /// Checks every rule. `path` precedes the fields in messages (`jwt[0]`, or "" as in the authenticator's own
    /// constructor); `disallowed` are the service account issuers of the same API server.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all broken rules, or [`ConfigError::UnsupportedSigningAlg`].
    pub fn validate(mut self, path: &str, disallowed: &[String]) -> Result<ValidConfig, ConfigError> {
        let mut rules = Rules { path, errors: Vec::new() };
        rules.issuer_url(&self.issuer_url, disallowed);
        rules.discovery_url(&self.issuer_url, self.discovery_url.as_deref().unwrap_or_default());
        rules.audiences(&self.audiences, &self.audience_match_policy);
        let roots = rules.certificate_authority(&self.certificate_authority);
        rules.required_claims(&self.required_claims);
        rules.mappings(&self);
        if !rules.errors.is_empty() {
            return Err(ConfigError::Invalid(FieldErrors(rules.errors)));
        }
        if self.signing_algs.is_empty() {
            self.signing_algs.push("RS256".to_owned());
        }
        if let Some(unknown) = self.signing_algs.iter().find(|alg| !ALL_SIGNING_ALGS.contains(&alg.as_str())) {
            return Err(ConfigError::UnsupportedSigningAlg(unknown.clone()));
        }
        // Compat: an empty name is the same as none.
        self.discovery_url = self.discovery_url.filter(|url| !url.is_empty());
        self.groups = self.groups.filter(|groups| !groups.claim.is_empty());
        self.uid_claim = self.uid_claim.filter(|claim| !claim.is_empty());
        Ok(ValidConfig { config: self, roots })
    }
}

struct Rules<'a> {
    path: &'a str,
    errors: Vec<FieldError>,
}

impl Rules<'_> {
    fn required(&mut self, field: &str, detail: &str) {
        self.errors.push(FieldError::required(self.full(field), detail));
    }

    fn invalid(&mut self, field: &str, value: &str, detail: &str) {
        self.errors.push(FieldError::invalid(self.full(field), value, detail));
    }

    fn duplicate(&mut self, field: &str, value: &str) {
        self.errors.push(FieldError::duplicate(self.full(field), value));
    }

    fn full(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    fn issuer_url(&mut self, issuer: &str, disallowed: &[String]) {
        if issuer.is_empty() {
            return self.required("issuer.url", "");
        }
        self.url("issuer.url", issuer, disallowed);
    }

    fn discovery_url(&mut self, issuer: &str, discovery: &str) {
        if discovery.is_empty() {
            return;
        }
        if !issuer.is_empty() && issuer.trim_end_matches('/') == discovery.trim_end_matches('/') {
            self.invalid("issuer.discoveryURL", discovery, "discoveryURL must be different from URL");
        }
        self.url("issuer.discoveryURL", discovery, &[]);
    }

    fn url(&mut self, field: &str, text: &str, disallowed: &[String]) {
        if disallowed.iter().any(|issuer| issuer == text) {
            let list: BTreeSet<&str> = disallowed.iter().map(String::as_str).collect();
            let list: Vec<&str> = list.into_iter().collect();
            let detail = format!("URL must not overlap with disallowed issuers: [{}]", list.join(" "));
            self.invalid(field, text, &detail);
        }
        let parsed = match url::parse(text) {
            Ok(parsed) => parsed,
            Err(problem) => return self.invalid(field, text, &problem),
        };
        if parsed.scheme != "https" {
            self.invalid(field, text, "URL scheme must be https");
        }
        if parsed.has_user {
            self.invalid(field, text, "URL must not contain a username or password");
        }
        if parsed.has_query {
            self.invalid(field, text, "URL must not contain a query");
        }
        if parsed.has_fragment {
            self.invalid(field, text, "URL must not contain a fragment");
        }
    }

    fn audiences(&mut self, audiences: &[String], policy: &str) {
        if audiences.is_empty() {
            let detail = format!("at least one {} is required", self.full("issuer.audiences"));
            return self.required("issuer.audiences", &detail);
        }
        let mut seen = BTreeSet::new();
        for (at, audience) in audiences.iter().enumerate() {
            let field = format!("issuer.audiences[{at}]");
            if audience.is_empty() {
                self.required(&field, "");
            }
            if !seen.insert(audience) {
                self.duplicate(&field, audience);
            }
        }
        if audiences.len() > 1 && policy != "MatchAny" {
            let detail = "audienceMatchPolicy must be MatchAny for multiple audiences";
            self.invalid("issuer.audienceMatchPolicy", policy, detail);
        } else if audiences.len() == 1 && !policy.is_empty() && policy != "MatchAny" {
            let detail = "audienceMatchPolicy must be empty or MatchAny for single audience";
            self.invalid("issuer.audienceMatchPolicy", policy, detail);
        }
    }

    /// The certificates of the PEM text; `None` when there is no text.
    fn certificate_authority(&mut self, pem: &str) -> Option<Vec<CertificateDer<'static>>> {
        if pem.is_empty() {
            return None;
        }
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect();
        let readable = certificates.iter().all(|der| x509_parser::parse_x509_certificate(der).is_ok());
        let detail = match (certificates.is_empty(), readable) {
            (true, _) => "data does not contain any valid RSA or ECDSA certificates",
            (false, false) => "x509: malformed certificate",
            (false, true) => return Some(certificates),
        };
        self.invalid("issuer.certificateAuthority", "<omitted>", detail);
        None
    }

    fn required_claims(&mut self, required: &[(String, String)]) {
        let mut seen = BTreeSet::new();
        for (at, (claim, _)) in required.iter().enumerate() {
            let field = format!("claimValidationRules[{at}]");
            if claim.is_empty() {
                self.required(&field, "claim or expression is required");
            } else if !seen.insert(claim) {
                self.duplicate(&format!("{field}.claim"), claim);
            }
        }
    }

    fn mappings(&mut self, config: &JwtConfig) {
        if config.username.claim.is_empty() {
            self.required("claimMappings.username", "claim or expression is required");
        }
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

    fn broken(change: impl FnOnce(&mut JwtConfig)) -> String {
        let mut config = good();
        change(&mut config);
        config
            .validate("jwt[0]", &["https://kubernetes.default.svc".into(), "a".into()])
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn a_sound_configuration_gets_the_default_algorithm() {
        let valid = good().validate("", &[]).expect("valid");
        assert_eq!(valid.config().signing_algs, ["RS256"]);
        assert!(valid.roots.is_none());
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

    type Change = fn(&mut JwtConfig);

    #[test]
    fn each_rule_has_kube_apiservers_text() {
        let cases: [(&str, Change); 16] = [
            ("issuer.url: Required value", |c| c.issuer_url.clear()),
            (r#"issuer.url: Invalid value: "http://a": URL scheme must be https"#, |c| {
                c.issuer_url = "http://a".into()
            }),
            (r#"issuer.url: Invalid value: "https://u@a": URL must not contain a username or password"#, |c| {
                c.issuer_url = "https://u@a".into()
            }),
            (r#"issuer.url: Invalid value: "https://a?b": URL must not contain a query"#, |c| {
                c.issuer_url = "https://a?b".into()
            }),
            (r#"issuer.url: Invalid value: "https://a#b": URL must not contain a fragment"#, |c| {
                c.issuer_url = "https://a#b".into()
            }),
            (r#"issuer.url: Invalid value: "https://a:b": parse "https://a:b": invalid port ":b" after host"#, |c| {
                c.issuer_url = "https://a:b".into()
            }),
            (
                r#"issuer.url: Invalid value: "https://kubernetes.default.svc": URL must not overlap with disallowed issuers: [a https://kubernetes.default.svc]"#,
                |c| c.issuer_url = "https://kubernetes.default.svc".into(),
            ),
            (
                r#"issuer.discoveryURL: Invalid value: "https://issuer.example/": discoveryURL must be different from URL"#,
                |c| c.discovery_url = Some("https://issuer.example/".into()),
            ),
            ("issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required", |c| {
                c.audiences.clear()
            }),
            ("issuer.audiences[0]: Required value", |c| c.audiences = vec![String::new()]),
            (
                r#"issuer.audienceMatchPolicy: Invalid value: "": audienceMatchPolicy must be MatchAny for multiple audiences"#,
                |c| c.audiences = vec!["a".into(), "b".into()],
            ),
            (
                r#"issuer.audienceMatchPolicy: Invalid value: "x": audienceMatchPolicy must be empty or MatchAny for single audience"#,
                |c| c.audience_match_policy = "x".into(),
            ),
            (
                r#"issuer.certificateAuthority: Invalid value: "<omitted>": data does not contain any valid RSA or ECDSA certificates"#,
                |c| c.certificate_authority = "junk".into(),
            ),
            ("claimValidationRules[0]: Required value: claim or expression is required", |c| {
                c.required_claims = vec![(String::new(), "x".into())]
            }),
            (r#"claimValidationRules[1].claim: Duplicate value: "hd""#, |c| {
                c.required_claims = vec![("hd".into(), "x".into()), ("hd".into(), "y".into())]
            }),
            ("claimMappings.username: Required value: claim or expression is required", |c| c.username.claim.clear()),
        ];
        for (want, change) in cases {
            assert_eq!(broken(change), format!("invalid authentication configuration: jwt[0].{want}"));
        }
        assert_eq!(
            broken(|c| c.signing_algs = vec!["RS256".into(), "HS256".into()]),
            r#"oidc: unsupported signing alg: "HS256""#
        );
    }

    #[test]
    fn several_errors_are_listed_once_each() {
        let text = broken(|c| {
            c.issuer_url = "http://a?b".into();
            c.audiences = vec!["x".into(), "x".into()];
            c.audience_match_policy = "MatchAny".into();
        });
        assert_eq!(
            text,
            r#"invalid authentication configuration: [jwt[0].issuer.url: Invalid value: "http://a?b": URL scheme must be https, jwt[0].issuer.url: Invalid value: "http://a?b": URL must not contain a query, jwt[0].issuer.audiences[1]: Duplicate value: "x"]"#
        );
    }

    #[test]
    fn a_ca_is_read_and_a_broken_one_refused() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["ca.example".to_owned()]).expect("parameters");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let config = JwtConfig { certificate_authority: format!("text before\n{pem}{pem}"), ..good() };
        assert_eq!(config.validate("", &[]).expect("valid").roots.map(|roots| roots.len()), Some(2));
        let cut = "-----BEGIN CERTIFICATE-----\nMAAB\n-----END CERTIFICATE-----\n";
        let text = broken(|c| c.certificate_authority = cut.into());
        assert!(text.ends_with("x509: malformed certificate"), "{text}");
    }
}
