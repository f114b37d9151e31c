//! A whole AuthenticationConfiguration: every issuer, and what holds for requests without credentials.
//!
//! Flow: bytes → `AuthenticationConfiguration` (strict decoding) → the rules of each issuer and those between them →
//! [`TrustConfiguration`], which an authenticator starts with or is given as its new one.
//!
//! Compat: `ToAuthenticationConfig`, `newJWTAuthenticator` and the reload of Kubernetes v1.37, and
//! `ValidateAuthenticationConfiguration` of `k8s.io/apiserver` v0.37. At start the issuers of service accounts are not known
//! to the validation, so the constructor refuses them, in other words; a reload knows them from the beginning.

use std::collections::HashSet;

use portcullis_kube::authentication_config::{AnonymousAuthConfig, AuthenticationConfiguration, JwtAuthenticator};
use portcullis_kube::field::FieldError;

use crate::config::{ALL_SIGNING_ALGS, ConfigError, FieldErrors, ValidConfig};
use crate::rules::{self, Checked};

/// Issuers that one file may name.
pub const MAX_ISSUERS: usize = 64;

/// Who is trusted, as a valid file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustConfiguration {
    issuers: Vec<ValidConfig>,
    anonymous: Option<AnonymousAuthConfig>,
}

impl TrustConfiguration {
    /// Reads the file that a server starts with. `disallowed` are the issuers of its own service account tokens.
    ///
    /// # Errors
    /// [`ConfigError`], with kube-apiserver's words.
    pub fn load(data: &[u8], disallowed: &[String]) -> Result<Self, ConfigError> {
        Self::new(AuthenticationConfiguration::decode(data)?, disallowed)
    }

    /// As [`TrustConfiguration::load`], of a file that is read.
    ///
    /// # Errors
    /// As [`TrustConfiguration::load`].
    pub fn new(file: AuthenticationConfiguration, disallowed: &[String]) -> Result<Self, ConfigError> {
        let (checked, errors) = validate(&file, &[]);
        if !errors.is_empty() {
            return Err(ConfigError::Invalid(errors));
        }
        Self::build(file, checked, disallowed)
    }

    /// Reads the file that takes the place of `self`, which the server started with: what it says of requests without
    /// credentials cannot change.
    ///
    /// # Errors
    /// As [`TrustConfiguration::load`].
    pub fn reload(&self, data: &[u8], disallowed: &[String]) -> Result<Self, ConfigError> {
        let file = AuthenticationConfiguration::decode(data)?;
        let (checked, mut errors) = validate(&file, disallowed);
        if file.anonymous != self.anonymous {
            errors.errors.push(FieldError::forbidden("anonymous", "changed from initial configuration file"));
        }
        if !errors.is_empty() {
            return Err(ConfigError::Refused(errors));
        }
        Self::build(file, checked, &[])
    }

    /// The same issuers with other algorithms, for comparisons with Kubernetes' own package, which takes them beside a file.
    #[doc(hidden)]
    pub fn with_signing_algs(mut self, algs: &[String]) -> Result<Self, ConfigError> {
        self.issuers = self.issuers.into_iter().map(|valid| valid.with_signing_algs(algs)).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Makes the issuers, of any algorithm that kube-apiserver knows. `disallowed` is what [`validate`] did not know of.
    fn build(
        file: AuthenticationConfiguration,
        checked: Vec<Checked>,
        disallowed: &[String],
    ) -> Result<Self, ConfigError> {
        let algs = ALL_SIGNING_ALGS.map(str::to_owned);
        let issuer = |(jwt, checked): (&JwtAuthenticator, Checked)| {
            let mut errors = FieldErrors::default();
            rules::check_allowed(&jwt.issuer.url, disallowed, &mut errors);
            if errors.is_empty() {
                ValidConfig::new(jwt, algs.to_vec(), checked)
            } else {
                Err(ConfigError::Refused(errors))
            }
        };
        let issuers = file.jwt.iter().zip(checked).map(issuer).collect::<Result<_, _>>()?;
        Ok(Self { issuers, anonymous: file.anonymous })
    }

    /// The issuers, in the file's order.
    #[must_use]
    pub fn issuers(&self) -> &[ValidConfig] {
        &self.issuers
    }

    /// What holds for requests without credentials; `None` when the file does not say.
    #[must_use]
    pub const fn anonymous(&self) -> Option<&AnonymousAuthConfig> {
        self.anonymous.as_ref()
    }
}

/// The rules of every issuer, and those between them: what each amounts to, which is complete when no rule is broken.
fn validate(file: &AuthenticationConfiguration, disallowed: &[String]) -> (Vec<Checked>, FieldErrors) {
    let mut errors = FieldErrors::default();
    if file.jwt.len() > MAX_ISSUERS {
        errors.errors.push(FieldError::too_many("jwt", file.jwt.len(), MAX_ISSUERS));
        return (Vec::new(), errors);
    }
    let mut checked = Vec::with_capacity(file.jwt.len());
    let (mut urls, mut documents) = (HashSet::new(), HashSet::new());
    for (at, jwt) in file.jwt.iter().enumerate() {
        let path = format!("jwt[{at}]");
        checked.push(rules::check(jwt, &path, disallowed, &mut errors));
        if !urls.insert(jwt.issuer.url.as_str()) {
            errors.errors.push(FieldError::duplicate(format!("{path}.issuer.url"), &jwt.issuer.url));
        }
        let document = jwt.issuer.discovery_url.as_deref().unwrap_or_default();
        if !document.is_empty() && !documents.insert(document) {
            errors.errors.push(FieldError::duplicate(format!("{path}.issuer.discoveryURL"), document));
        }
    }
    if let Some(AnonymousAuthConfig { enabled: false, conditions }) = &file.anonymous
        && !conditions.is_empty()
    {
        // Compat: the type inside upstream has no names of its own for JSON.
        let shown: Vec<_> = conditions.iter().map(|condition| Shown { path: &condition.path }).collect();
        let detail = "enabled should be set to true when conditions are defined";
        errors.errors.push(FieldError::invalid_json("anonymous.conditions", &shown, detail));
    }
    (checked, errors)
}

/// A condition as messages print it.
#[derive(serde::Serialize)]
struct Shown<'a> {
    #[serde(rename = "Path")]
    path: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = r#"{"issuer":{"url":"https://NAME","audiences":["c"]},"claimMappings":{"username":{"claim":"sub","prefix":""}}}"#;

    fn file(issuers: &[&str], more: &str) -> String {
        let issuers: Vec<String> = issuers.iter().map(|name| ISSUER.replace("NAME", name)).collect();
        format!(
            r#"{{"apiVersion":"apiserver.config.k8s.io/v1","kind":"AuthenticationConfiguration","jwt":[{}]{more}}}"#,
            issuers.join(",")
        )
    }

    fn load(text: &str) -> Result<TrustConfiguration, String> {
        TrustConfiguration::load(text.as_bytes(), &["https://own".into()]).map_err(|error| error.to_string())
    }

    #[test]
    fn any_number_of_issuers_up_to_the_limit_is_read_in_order() {
        assert_eq!(load(&file(&[], "")).expect("nobody is trusted").issuers().len(), 0);
        let names: Vec<String> = (0..=MAX_ISSUERS).map(|n| format!("i{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let most = load(&file(&names[..MAX_ISSUERS], "")).expect("as many as may be");
        let urls: Vec<&str> = most.issuers().iter().map(|one| one.config().issuer_url.as_str()).collect();
        assert_eq!((urls.len(), urls[0], urls[63]), (64, "https://i0", "https://i63"));
        assert_eq!(most.issuers()[0].config().signing_algs, ALL_SIGNING_ALGS);
        assert_eq!(
            load(&file(&names, "")),
            Err("invalid authentication configuration: jwt: Too many: 65: must have at most 64 items".to_owned())
        );
    }

    #[test]
    fn issuers_and_documents_are_unique() {
        let text = file(&["a", "b", "a"], "")
            .replace(r#""url":"https://b""#, r#""url":"https://b","discoveryURL":"https://d""#);
        let text = text.replace(r#""url":"https://a""#, r#""url":"https://a","discoveryURL":"https://d""#);
        assert_eq!(
            load(&text),
            Err("invalid authentication configuration: [jwt[1].issuer.discoveryURL: Duplicate value: \"https://d\", jwt[2].issuer.url: Duplicate value: \"https://a\", jwt[2].issuer.discoveryURL: Duplicate value: \"https://d\"]".to_owned())
        );
    }

    #[test]
    fn anonymous_is_read_and_its_conditions_need_it_enabled() {
        let read = load(&file(&[], r#","anonymous":{"enabled":true,"conditions":[{"path":"/livez"}]}"#)).expect("read");
        let anonymous = read.anonymous().expect("said");
        assert!(anonymous.enabled && anonymous.conditions[0].path == "/livez");
        assert_eq!(
            load(&file(&[], r#","anonymous":{"conditions":[{"path":"/<"}]}"#)),
            Err(r#"invalid authentication configuration: anonymous.conditions: Invalid value: [{"Path":"/\u003c"}]: enabled should be set to true when conditions are defined"#.to_owned())
        );
    }

    #[test]
    fn a_start_and_a_reload_refuse_the_servers_own_issuer_in_their_own_words() {
        let words =
            "issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [https://own]";
        assert_eq!(load(&file(&["a", "own"], "")), Err(words.to_owned()));
        let initial = load(&file(&["a"], "")).expect("valid");
        let again =
            |text: &str| initial.reload(text.as_bytes(), &["https://own".into()]).map_err(|error| error.to_string());
        assert_eq!(again(&file(&["a", "own"], "")), Err(format!("jwt[1].{words}")));
        assert_eq!(
            again(&file(&["b"], r#","anonymous":{"enabled":true}"#)),
            Err("anonymous: Forbidden: changed from initial configuration file".to_owned())
        );
        assert_eq!(again(&file(&["b"], "")).expect("valid").issuers().len(), 1);
        assert!(again("x").is_err());
    }

    #[test]
    fn an_egress_selector_is_known_and_not_to_be_had() {
        let text = file(&["a"], "").replace("\"audiences\"", "\"egressSelectorType\":\"cluster\",\"audiences\"");
        assert_eq!(load(&text), Err(r#"oidc: egress lookup required with egress selector type "cluster""#.to_owned()));
    }

    #[test]
    fn a_broken_expression_is_refused_with_its_place_and_a_hint() {
        let text = file(&["a", "b"], "");
        let text =
            text.replacen(r#""claim":"sub","prefix":"""#, r#""expression":"claims.groups.filter(g, true)[0]""#, 1);
        let error = TrustConfiguration::load(text.as_bytes(), &[]).expect_err("refused");
        assert!(
            error.to_string().starts_with("invalid authentication configuration: jwt[0].claimMappings.username.expression: Invalid value: \"claims.groups.filter(g, true)[0]\": compilation failed: ERROR: <input>:1:7: expression of type 'any' cannot be range of a comprehension"),
            "{error}"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("dyn(claims.groups)")), "{:?}", error.hint());
        let text = text.replace("claims.groups", "dyn(claims.groups)");
        assert_eq!(load(&text).expect("valid").issuers().len(), 2);
    }

    #[test]
    fn configurations_are_the_same_when_their_expressions_are() {
        let of = |expression: &str| {
            let text = file(&["a"], "").replacen(
                r#""claim":"sub","prefix":"""#,
                &format!(r#""expression":"{expression}""#),
                1,
            );
            load(&text).expect("valid")
        };
        assert_eq!(of("claims.sub"), of("claims.sub"));
        assert_ne!(of("claims.sub"), of("claims.name"));
    }
}
