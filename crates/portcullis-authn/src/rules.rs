//! The rules that one entry of `jwt` must keep, in upstream's order and words.
//!
//! Compat: `validateJWTAuthenticator` of `k8s.io/apiserver/pkg/apis/apiserver/validation` v0.37.

use std::collections::BTreeSet;

use portcullis_kube::authentication_config::{
    ClaimMappings, ClaimOrExpression, ClaimValidationRule, ExtraMapping, Issuer, JwtAuthenticator,
    PrefixedClaimOrExpression, UserValidationRule,
};
use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::cel::{self, Broken, Expression, Expressions, Rule, Wanted};
use crate::config::FieldErrors;
use crate::go::url;

const BOTH: &str = "claim and expression can't both be set";
const NEITHER: &str = "claim or expression is required";
const EMAIL_VERIFIED: &str = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";

/// What an entry amounts to beside what it says itself.
pub(crate) struct Checked {
    /// The certificates of `certificateAuthority`; `None` without one.
    pub(crate) roots: Option<Vec<CertificateDer<'static>>>,
    /// What its expressions compile to.
    pub(crate) expressions: Expressions,
}

/// Checks one entry. `path` precedes the fields in messages (`jwt[0]`, or nothing); `disallowed` are issuers that it may not
/// have. Broken rules go to `errors`, and then the answer is incomplete.
pub(crate) fn check(jwt: &JwtAuthenticator, path: &str, disallowed: &[String], errors: &mut FieldErrors) -> Checked {
    let mut rules = Rules { path, errors, expressions: Expressions::default() };
    let roots = rules.issuer(&jwt.issuer, disallowed);
    rules.claim_rules(&jwt.claim_validation_rules);
    rules.mappings(&jwt.claim_mappings);
    rules.user_rules(&jwt.user_validation_rules);
    Checked { roots, expressions: rules.expressions }
}

/// Checks that an issuer, which keeps the other rules, is none of `disallowed`.
pub(crate) fn check_allowed(issuer: &str, disallowed: &[String], errors: &mut FieldErrors) {
    Rules { path: "", errors, expressions: Expressions::default() }.allowed("issuer.url", issuer, disallowed);
}

/// Checks the place of the documents of an issuer.
pub(crate) fn check_discovery_url(issuer: &str, discovery: &str, errors: &mut FieldErrors) {
    Rules { path: "", errors, expressions: Expressions::default() }.discovery_url(issuer, discovery);
}

struct Rules<'a> {
    path: &'a str,
    errors: &'a mut FieldErrors,
    expressions: Expressions,
}

impl Rules<'_> {
    fn full(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    fn required(&mut self, field: &str, detail: &str) {
        self.errors.errors.push(FieldError::required(self.full(field), detail));
    }

    fn invalid(&mut self, field: &str, value: &str, detail: &str) {
        self.errors.errors.push(FieldError::invalid(self.full(field), value, detail));
    }

    /// Of a string with a type of its own, which messages print as JSON.
    fn invalid_typed(&mut self, field: &str, value: &str, detail: &str) {
        self.errors.errors.push(FieldError::invalid_json(self.full(field), value, detail));
    }

    fn duplicate(&mut self, field: &str, value: &str) {
        self.errors.errors.push(FieldError::duplicate(self.full(field), value));
    }

    fn claims_expression(&mut self, field: &str, expression: &str, wanted: Wanted) -> Option<Expression> {
        self.compiled(cel::claims_expression(self.full(field), expression, wanted))
    }

    fn compiled(&mut self, compiled: Result<Expression, Broken>) -> Option<Expression> {
        match compiled {
            Ok(expression) => Some(expression),
            Err(Broken { error, hints }) => {
                self.errors.errors.push(error);
                self.errors.hints.extend(hints);
                None
            }
        }
    }

    /// Whether an expression that may decide about the user name looks at `claims.email_verified`.
    fn asks_for_verified_addresses(&self, username: &Expression) -> bool {
        self.expressions.deciding(username).any(|expression| expression.selects("email_verified"))
    }

    fn issuer(&mut self, issuer: &Issuer, disallowed: &[String]) -> Option<Vec<CertificateDer<'static>>> {
        if issuer.url.is_empty() {
            self.required("issuer.url", "");
        } else {
            self.allowed("issuer.url", &issuer.url, disallowed);
            self.url("issuer.url", &issuer.url);
        }
        self.discovery_url(&issuer.url, issuer.discovery_url.as_deref().unwrap_or_default());
        self.audiences(&issuer.audiences, &issuer.audience_match_policy);
        let roots = self.certificate_authority(&issuer.certificate_authority);
        if !matches!(issuer.egress_selector_type.as_str(), "" | "controlplane" | "cluster") {
            let detail = "egress selector must be either controlplane or cluster";
            self.invalid_typed("issuer.egressSelectorType", &issuer.egress_selector_type, detail);
        }
        roots
    }

    fn discovery_url(&mut self, issuer: &str, discovery: &str) {
        if discovery.is_empty() {
            return;
        }
        if !issuer.is_empty() && issuer.trim_end_matches('/') == discovery.trim_end_matches('/') {
            self.invalid("issuer.discoveryURL", discovery, "discoveryURL must be different from URL");
        }
        self.url("issuer.discoveryURL", discovery);
    }

    fn allowed(&mut self, field: &str, issuer: &str, disallowed: &[String]) {
        if disallowed.iter().any(|other| other == issuer) {
            let list: BTreeSet<&str> = disallowed.iter().map(String::as_str).collect();
            let list: Vec<&str> = list.into_iter().collect();
            let detail = format!("URL must not overlap with disallowed issuers: [{}]", list.join(" "));
            self.invalid(field, issuer, &detail);
        }
    }

    fn url(&mut self, field: &str, text: &str) {
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
            self.invalid_typed("issuer.audienceMatchPolicy", policy, detail);
        } else if audiences.len() == 1 && !policy.is_empty() && policy != "MatchAny" {
            let detail = "audienceMatchPolicy must be empty or MatchAny for single audience";
            self.invalid_typed("issuer.audienceMatchPolicy", policy, detail);
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

    fn claim_rules(&mut self, rules: &[ClaimValidationRule]) {
        let (mut claims, mut expressions) = (BTreeSet::new(), BTreeSet::new());
        for (at, rule) in rules.iter().enumerate() {
            let field = format!("claimValidationRules[{at}]");
            let ClaimValidationRule { claim, required_value, expression, message } = rule;
            match (claim.is_empty(), expression.is_empty()) {
                (false, false) => self.invalid(&field, claim, BOTH),
                (true, true) => self.required(&field, NEITHER),
                (false, true) => {
                    if !message.is_empty() {
                        let detail = "may not be specified when claim is set";
                        self.invalid(&format!("{field}.message"), message, detail);
                    }
                    if !claims.insert(claim) {
                        self.duplicate(&format!("{field}.claim"), claim);
                    }
                }
                (true, false) => {
                    if !required_value.is_empty() {
                        let detail = "may not be specified when expression is set";
                        self.invalid(&format!("{field}.requiredValue"), required_value, detail);
                    }
                    let field = format!("{field}.expression");
                    if !expressions.insert(expression) {
                        self.duplicate(&field, expression);
                    } else if let Some(expression) = self.claims_expression(&field, expression, Wanted::Truth) {
                        self.expressions.claim_rules.push(Rule { expression, message: message.clone() });
                    }
                }
            }
        }
    }

    fn mappings(&mut self, mappings: &ClaimMappings) {
        let before = self.errors.errors.len();
        self.expressions.username = self.prefixed("claimMappings.username", &mappings.username, true);
        let username = self.expressions.username.clone().filter(|_| self.errors.errors.len() == before);
        self.expressions.groups = self.prefixed("claimMappings.groups", &mappings.groups, false);
        let ClaimOrExpression { claim, expression } = &mappings.uid;
        match (claim.is_empty(), expression.is_empty()) {
            (false, false) => self.invalid("claimMappings.uid", "", BOTH),
            (true, false) => {
                self.expressions.uid =
                    self.claims_expression("claimMappings.uid.expression", expression, Wanted::Anything);
            }
            (_, true) => {}
        }
        self.extra(&mappings.extra);
        if username.is_some_and(|name| name.selects("email") && !self.asks_for_verified_addresses(&name)) {
            let field = "claimMappings.username.expression";
            self.invalid(field, &mappings.username.expression, EMAIL_VERIFIED);
        }
    }

    fn extra(&mut self, extra: &[ExtraMapping]) {
        let mut keys = BTreeSet::new();
        for (at, ExtraMapping { key, value_expression }) in extra.iter().enumerate() {
            let field = format!("claimMappings.extra[{at}]");
            self.extra_key(&format!("{field}.key"), key);
            let value = format!("{field}.valueExpression");
            if !keys.insert(key) {
                self.duplicate(&format!("{field}.key"), key);
            } else if value_expression.is_empty() {
                self.required(&value, "");
            } else if let Some(expression) = self.claims_expression(&value, value_expression, Wanted::Anything) {
                self.expressions.extra.push((key.clone(), expression));
            }
        }
    }

    fn prefixed(&mut self, field: &str, mapping: &PrefixedClaimOrExpression, must: bool) -> Option<Expression> {
        let PrefixedClaimOrExpression { claim, prefix, expression } = mapping;
        match (claim.is_empty(), expression.is_empty()) {
            (false, false) => self.invalid(field, "", BOTH),
            (true, true) if must => self.required(field, NEITHER),
            (true, false) => {
                if let Some(prefix) = prefix {
                    let detail = "may not be specified when expression is set";
                    self.invalid(&format!("{field}.prefix"), prefix, detail);
                }
                return self.claims_expression(&format!("{field}.expression"), expression, Wanted::Anything);
            }
            (false, true) if prefix.is_none() => self.required(
                &format!("{field}.prefix"),
                "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            ),
            (_, true) => {}
        }
        None
    }

    fn extra_key(&mut self, field: &str, key: &str) {
        self.domain_prefixed_path(field, key);
        if key.chars().any(|c| !c.to_lowercase().eq([c])) {
            self.invalid(field, key, "must be lowercase");
        }
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        if ["kubernetes.io", "k8s.io"]
            .iter()
            .any(|own| domain.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
        {
            let detail = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
            self.invalid(field, key, detail);
        }
    }

    /// Compat: `IsDomainPrefixedPath` of apimachinery.
    fn domain_prefixed_path(&mut self, field: &str, key: &str) {
        const PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
        if key.is_empty() {
            return self.required(field, "");
        }
        let (host, path) = match key.split_once('/') {
            Some((host, path)) if !host.is_empty() && !path.is_empty() => (host, path),
            _ => return self.invalid(field, key, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
        };
        for problem in names::dns_subdomain(host) {
            self.invalid(field, host, &problem);
        }
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
            self.invalid(field, path, &format!("Invalid path (regex used for validation is '{PATH}')"));
        }
    }

    fn user_rules(&mut self, rules: &[UserValidationRule]) {
        let mut expressions = BTreeSet::new();
        for (at, UserValidationRule { expression, message }) in rules.iter().enumerate() {
            let field = format!("userValidationRules[{at}].expression");
            if expression.is_empty() {
                self.required(&field, "");
            } else if !expressions.insert(expression) {
                self.duplicate(&field, expression);
            } else if let Some(expression) = self.compiled(cel::user_expression(self.full(&field), expression)) {
                self.expressions.user_rules.push(Rule { expression, message: message.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> JwtAuthenticator {
        let mut jwt = JwtAuthenticator::default();
        jwt.issuer.url = "https://issuer.example".into();
        jwt.issuer.audiences = vec!["my-client".into()];
        jwt.claim_mappings.username =
            PrefixedClaimOrExpression { claim: "sub".into(), prefix: Some(String::new()), ..Default::default() };
        jwt
    }

    fn broken(change: impl FnOnce(&mut JwtAuthenticator)) -> String {
        let mut jwt = good();
        change(&mut jwt);
        let mut errors = FieldErrors::default();
        check(&jwt, "jwt[0]", &["https://kubernetes.default.svc".into(), "a".into()], &mut errors);
        errors.to_string()
    }

    type Change = fn(&mut JwtAuthenticator);

    fn rule(claim: &str, value: &str, expression: &str, message: &str) -> ClaimValidationRule {
        ClaimValidationRule {
            claim: claim.into(),
            required_value: value.into(),
            expression: expression.into(),
            message: message.into(),
        }
    }

    fn extra(key: &str, value: &str) -> Vec<ExtraMapping> {
        vec![ExtraMapping { key: key.into(), value_expression: value.into() }]
    }

    #[test]
    fn each_rule_of_the_issuer_has_kube_apiservers_text() {
        let cases: [(&str, Change); 16] = [
            ("issuer.url: Required value", |jwt| jwt.issuer.url.clear()),
            (r#"issuer.url: Invalid value: "http://a": URL scheme must be https"#, |jwt| {
                jwt.issuer.url = "http://a".into()
            }),
            (r#"issuer.url: Invalid value: "https://u@a": URL must not contain a username or password"#, |jwt| {
                jwt.issuer.url = "https://u@a".into()
            }),
            (r#"issuer.url: Invalid value: "https://a?b": URL must not contain a query"#, |jwt| {
                jwt.issuer.url = "https://a?b".into()
            }),
            (r#"issuer.url: Invalid value: "https://a#b": URL must not contain a fragment"#, |jwt| {
                jwt.issuer.url = "https://a#b".into()
            }),
            (r#"issuer.url: Invalid value: "https://a:b": parse "https://a:b": invalid port ":b" after host"#, |jwt| {
                jwt.issuer.url = "https://a:b".into()
            }),
            (
                r#"issuer.url: Invalid value: "https://kubernetes.default.svc": URL must not overlap with disallowed issuers: [a https://kubernetes.default.svc]"#,
                |jwt| jwt.issuer.url = "https://kubernetes.default.svc".into(),
            ),
            (
                r#"issuer.discoveryURL: Invalid value: "https://issuer.example/": discoveryURL must be different from URL"#,
                |jwt| jwt.issuer.discovery_url = Some("https://issuer.example/".into()),
            ),
            ("issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required", |jwt| {
                jwt.issuer.audiences.clear()
            }),
            ("issuer.audiences[0]: Required value", |jwt| jwt.issuer.audiences = vec![String::new()]),
            (
                r#"issuer.audienceMatchPolicy: Invalid value: "": audienceMatchPolicy must be MatchAny for multiple audiences"#,
                |jwt| jwt.issuer.audiences = vec!["a".into(), "b".into()],
            ),
            (
                r#"issuer.audienceMatchPolicy: Invalid value: "\u003cx": audienceMatchPolicy must be empty or MatchAny for single audience"#,
                |jwt| jwt.issuer.audience_match_policy = "<x".into(),
            ),
            (
                r#"issuer.certificateAuthority: Invalid value: "<omitted>": data does not contain any valid RSA or ECDSA certificates"#,
                |jwt| jwt.issuer.certificate_authority = "junk".into(),
            ),
            (r#"issuer.certificateAuthority: Invalid value: "<omitted>": x509: malformed certificate"#, |jwt| {
                jwt.issuer.certificate_authority =
                    "-----BEGIN CERTIFICATE-----\nMAAB\n-----END CERTIFICATE-----\n".into();
            }),
            (
                r#"issuer.egressSelectorType: Invalid value: "etcd": egress selector must be either controlplane or cluster"#,
                |jwt| jwt.issuer.egress_selector_type = "etcd".into(),
            ),
            (r#"issuer.discoveryURL: Invalid value: "http://x": URL scheme must be https"#, |jwt| {
                jwt.issuer.discovery_url = Some("http://x".into())
            }),
        ];
        for (want, change) in cases {
            assert_eq!(broken(change), format!("jwt[0].{want}"));
        }
        assert_eq!(broken(|jwt| jwt.issuer.egress_selector_type = "cluster".into()), "[]");
    }

    #[test]
    fn each_rule_of_mappings_and_claims_has_kube_apiservers_text() {
        let cases: [(&str, Change); 21] = [
            ("claimValidationRules[0]: Required value: claim or expression is required", |jwt| {
                jwt.claim_validation_rules = vec![rule("", "x", "", "")]
            }),
            (r#"claimValidationRules[0]: Invalid value: "a": claim and expression can't both be set"#, |jwt| {
                jwt.claim_validation_rules = vec![rule("a", "", "true", "")]
            }),
            (r#"claimValidationRules[0].message: Invalid value: "m": may not be specified when claim is set"#, |jwt| {
                jwt.claim_validation_rules = vec![rule("a", "", "", "m")]
            }),
            (r#"claimValidationRules[1].claim: Duplicate value: "hd""#, |jwt| {
                jwt.claim_validation_rules = vec![rule("hd", "x", "", ""), rule("hd", "y", "", "")]
            }),
            ("claimMappings.username: Required value: claim or expression is required", |jwt| {
                jwt.claim_mappings.username.claim.clear()
            }),
            (r#"claimMappings.username: Invalid value: "": claim and expression can't both be set"#, |jwt| {
                jwt.claim_mappings.username.expression = "x".into()
            }),
            (
                "claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                |jwt| jwt.claim_mappings.username.prefix = None,
            ),
            (
                "claimMappings.groups.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                |jwt| jwt.claim_mappings.groups.claim = "g".into(),
            ),
            (r#"claimMappings.uid: Invalid value: "": claim and expression can't both be set"#, |jwt| {
                jwt.claim_mappings.uid = ClaimOrExpression { claim: "a".into(), expression: "b".into() }
            }),
            ("claimMappings.extra[0].key: Required value", |jwt| jwt.claim_mappings.extra = extra("", "")),
            (
                r#"claimMappings.extra[0].key: Invalid value: "foo": must be a domain-prefixed path (such as "acme.io/foo")"#,
                |jwt| jwt.claim_mappings.extra = extra("foo", ""),
            ),
            (
                r#"claimMappings.extra[0].key: Invalid value: "acme.io/": must be a domain-prefixed path (such as "acme.io/foo")"#,
                |jwt| jwt.claim_mappings.extra = extra("acme.io/", ""),
            ),
            (r#"claimMappings.extra[0].key: Invalid value: "acme.io/Foo": must be lowercase"#, |jwt| {
                jwt.claim_mappings.extra = extra("acme.io/Foo", "")
            }),
            (
                r#"claimMappings.extra[0].key: Invalid value: "a b": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')"#,
                |jwt| jwt.claim_mappings.extra = extra("acme.io/a b", ""),
            ),
            (
                r#"claimMappings.extra[0].key: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
                |jwt| jwt.claim_mappings.extra = extra("a_b/c", ""),
            ),
            (
                r#"claimMappings.extra[0].key: Invalid value: "a.k8s.io/c": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"#,
                |jwt| jwt.claim_mappings.extra = extra("a.k8s.io/c", ""),
            ),
            (
                r#"claimMappings.extra[0].key: Invalid value: "kubernetes.io/c": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"#,
                |jwt| jwt.claim_mappings.extra = extra("kubernetes.io/c", ""),
            ),
            (r#"claimMappings.extra[1].key: Duplicate value: "a.io/b""#, |jwt| {
                jwt.claim_mappings.extra = [extra("a.io/b", ""), extra("a.io/b", "")].concat();
            }),
            ("userValidationRules[0].expression: Required value", |jwt| {
                jwt.user_validation_rules = vec![UserValidationRule::default()]
            }),
            (
                r#"claimValidationRules[0].requiredValue: Invalid value: "v": may not be specified when expression is set"#,
                |jwt| jwt.claim_validation_rules = vec![rule("", "v", "true", "")],
            ),
            (
                r#"claimMappings.groups.prefix: Invalid value: "p": may not be specified when expression is set"#,
                |jwt| {
                    jwt.claim_mappings.groups = PrefixedClaimOrExpression {
                        prefix: Some("p".into()),
                        expression: "e".into(),
                        ..Default::default()
                    }
                },
            ),
        ];
        for (want, change) in cases {
            let got = broken(change);
            let first = got.trim_start_matches('[');
            assert!(
                got == format!("jwt[0].{want}") || first.contains(&format!("jwt[0].{want}")),
                "{got}\nlacks {want}"
            );
        }
        for (place, change) in [
            ("claimMappings.username.expression", (|jwt| username(jwt, "e")) as Change),
            ("claimMappings.uid.expression", |jwt| jwt.claim_mappings.uid.expression = "e".into()),
            ("claimValidationRules[0].expression", |jwt| jwt.claim_validation_rules = vec![rule("", "", "e", "m")]),
            ("userValidationRules[0].expression", |jwt| jwt.user_validation_rules = vec![user_rule("e")]),
            ("claimMappings.extra[0].valueExpression", |jwt| jwt.claim_mappings.extra = extra("a.io/b", "e")),
        ] {
            assert_eq!(
                broken(change),
                format!(
                    "jwt[0].{place}: Invalid value: \"e\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'e' (in container '')\n | e\n | ^"
                )
            );
        }
        for change in [(|jwt| jwt.claim_validation_rules = vec![rule("", "", "claims.ok", "m")]) as Change, |jwt| {
            jwt.user_validation_rules = vec![user_rule("user.username")]
        }] {
            assert!(broken(change).ends_with(": must evaluate to bool"), "{}", broken(change));
        }
    }

    fn username(jwt: &mut JwtAuthenticator, expression: &str) {
        jwt.claim_mappings.username =
            PrefixedClaimOrExpression { expression: expression.into(), ..PrefixedClaimOrExpression::default() };
    }

    fn user_rule(expression: &str) -> UserValidationRule {
        UserValidationRule { expression: expression.into(), message: "m".into() }
    }

    #[test]
    fn a_user_name_made_of_an_address_needs_a_look_at_its_verification() {
        let cases: [(bool, Change); 9] = [
            (true, |jwt| username(jwt, "claims.email")),
            (true, |jwt| username(jwt, "'x' + claims.?email.orValue('')")),
            (false, |jwt| username(jwt, "claims.email_verified == true ? claims.email : claims.sub")),
            (false, |jwt| username(jwt, "claims['email']")),
            (false, |jwt| {
                username(jwt, "claims.email");
                jwt.claim_mappings.extra = extra("a.io/b", "string(claims.?email_verified.orValue(false))");
            }),
            (false, |jwt| {
                username(jwt, "claims.email");
                jwt.claim_validation_rules = vec![rule("", "", "claims.email_verified || true", "")];
            }),
            (true, |jwt| {
                username(jwt, "claims.email");
                jwt.claim_mappings.uid.expression = "string(claims.email_verified)".into();
            }),
            (true, |jwt| {
                username(jwt, "claims.email");
                jwt.user_validation_rules = vec![user_rule("user.username != 'email_verified'")];
            }),
            // With another mistake in the mapping it is not looked at.
            (false, |jwt| {
                username(jwt, "claims.email");
                jwt.claim_mappings.username.prefix = Some("p".into());
            }),
        ];
        for (at, (want, change)) in cases.into_iter().enumerate() {
            let got = broken(change);
            assert_eq!(got.contains("claims.email_verified must be used in"), want, "{at}: {got}");
        }
    }

    #[test]
    fn an_address_that_upstreams_rule_does_not_see_is_a_doubt() {
        let told = |change: Change| {
            let mut jwt = good();
            change(&mut jwt);
            let mut errors = FieldErrors::default();
            let checked = check(&jwt, "jwt[0]", &[], &mut errors);
            assert!(errors.is_empty(), "{errors}");
            checked.expressions.unverified_addresses().is_some()
        };
        let cases: [(bool, Change); 6] = [
            (true, |jwt| username(jwt, "claims['email']")),
            (true, |jwt| username(jwt, "dyn(claims).email")),
            (false, |jwt| username(jwt, "claims['email'] + string(claims['email_verified'])")),
            (false, |jwt| {
                username(jwt, "claims[\"email\"]");
                jwt.claim_validation_rules = vec![rule("", "", "claims.?email_verified.orValue(false) == true", "")];
            }),
            (false, |jwt| username(jwt, "'email:' + claims.emails + claims.sub")),
            (false, |jwt| username(jwt, "claims.sub")),
        ];
        for (at, (want, change)) in cases.into_iter().enumerate() {
            assert_eq!(told(change), want, "{at}");
        }
    }

    #[test]
    fn several_errors_are_listed_in_upstreams_order_and_once_each() {
        let text = broken(|jwt| {
            jwt.issuer.url = "http://a?b".into();
            jwt.issuer.audiences = vec!["x".into(), "x".into(), "x".into()];
            jwt.issuer.audience_match_policy = "MatchAny".into();
            jwt.claim_mappings.username.claim.clear();
        });
        assert_eq!(
            text,
            r#"[jwt[0].issuer.url: Invalid value: "http://a?b": URL scheme must be https, jwt[0].issuer.url: Invalid value: "http://a?b": URL must not contain a query, jwt[0].issuer.audiences[1]: Duplicate value: "x", jwt[0].issuer.audiences[2]: Duplicate value: "x", jwt[0].claimMappings.username: Required value: claim or expression is required]"#
        );
    }

    #[test]
    fn a_ca_is_read() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["ca.example".to_owned()]).expect("parameters");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let mut jwt = good();
        jwt.issuer.certificate_authority = format!("text before\n{pem}{pem}");
        let mut errors = FieldErrors::default();
        assert_eq!(check(&jwt, "", &[], &mut errors).roots.map(|roots| roots.len()), Some(2));
        assert_eq!(errors, FieldErrors::default());
    }
}
