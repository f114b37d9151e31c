//! From a file's bytes to the type, as kube-apiserver loads it.
//!
//! Flow: JSON when the first character is `{`, else YAML, which becomes JSON → `kind` and `apiVersion` → the version's
//! types, strictly.
//!
//! Compat: `loadAuthenticationConfigFromData` of Kubernetes v1.37, and the strict codec of apimachinery v0.37 below it.

use std::borrow::Cow;

use super::AuthenticationConfiguration;
use super::shape::{Shaped, Struct, Type, shape};
use crate::go::json::{self, Document, Kind};
use crate::go::{quote, syntax, yaml};

/// The API group of the file.
const GROUP: &str = "apiserver.config.k8s.io";

/// Versions that decode, newest first.
pub const API_VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];

/// Bytes that a configuration may have.
pub const BYTES_LIMIT: usize = 1024 * 1024;

/// What kube-apiserver 1.37.2 calls the set of types that it reads.
const SCHEME: &str = "pkg/kubeapiserver/options/authentication.go:874";

/// Other files of an API server: the kind, the type that it is, and the versions that it exists in.
const OTHER_KINDS: [(&str, &str, &[&str]); 6] = [
    ("AdmissionConfiguration", "AdmissionConfiguration", &["apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"]),
    ("AuthorizationConfiguration", "AuthorizationConfiguration", &API_VERSIONS),
    (
        "EgressSelectorConfiguration",
        "EgressSelectorConfiguration",
        &["apiserver.k8s.io/v1beta1", "apiserver.k8s.io/v1alpha1"],
    ),
    ("EncryptionConfiguration", "EncryptionConfiguration", &["apiserver.config.k8s.io/v1"]),
    ("EncryptionConfig", "EncryptionConfiguration", &["v1"]),
    ("TracingConfiguration", "TracingConfiguration", &API_VERSIONS),
];

/// Why a file is no configuration, in kube-apiserver's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationConfigError {
    /// Nothing at all.
    #[error("empty config data")]
    Empty,
    /// More bytes than [`BYTES_LIMIT`]; kube-apiserver has no limit.
    #[error("{bytes} bytes of config data, at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that is read.
        limit: usize,
    },
    /// Neither JSON nor YAML that could be JSON.
    #[error("{0}")]
    Yaml(String),
    /// No JSON, or `kind` or `apiVersion` are no text.
    #[error("couldn't get version/kind; json parse error: {0}")]
    NoObject(String),
    /// `apiVersion` has more than one slash.
    #[error("unexpected GroupVersion string: {0}")]
    GroupVersion(String),
    /// A member that every file must have is missing.
    #[error("Object '{member}' is missing in '{text}'")]
    Missing {
        /// `Kind` or `apiVersion`.
        member: &'static str,
        /// The whole file.
        text: String,
    },
    /// A kind or version that there is not.
    #[error("no kind {} is registered for version {} in scheme \"{SCHEME}\"", quote(kind), quote(api_version))]
    UnknownKind {
        /// Its kind.
        kind: String,
        /// Its version.
        api_version: String,
    },
    /// Another file of an API server.
    #[error("expected AuthenticationConfiguration, got *apiserver.{0}")]
    OtherKind(String),
    /// A value of a type that does not fit.
    #[error("{0}")]
    WrongType(String),
    /// Members that are unknown or occur twice.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

impl AuthenticationConfigError {
    /// What the user can do about it, where the text does not say it already.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Empty | Self::TooLarge { .. } => Some("is this the right file?".to_owned()),
            Self::NoObject(_) => {
                Some("a file that begins with { is read as JSON, any other as YAML with one map".to_owned())
            }
            Self::GroupVersion(_) | Self::Missing { .. } | Self::UnknownKind { .. } | Self::OtherKind(_) => {
                Some(format!("kind must be AuthenticationConfiguration, apiVersion one of {}", API_VERSIONS.join(", ")))
            }
            Self::WrongType(text) if text.contains("unmarshal bool into") || text.contains("unmarshal number into") => {
                Some("put the value into quotes: in YAML, yes, on, n and 12 are no texts".to_owned())
            }
            Self::Strict(_) => Some("names are case-sensitive, and each may occur once".to_owned()),
            Self::Yaml(_) | Self::WrongType(_) => None,
        }
    }
}

impl AuthenticationConfiguration {
    /// Reads a file, YAML or JSON.
    ///
    /// # Errors
    /// [`AuthenticationConfigError`], with kube-apiserver's words.
    pub fn decode(data: &[u8]) -> Result<Self, AuthenticationConfigError> {
        if data.is_empty() {
            return Err(AuthenticationConfigError::Empty);
        }
        if data.len() > BYTES_LIMIT {
            return Err(AuthenticationConfigError::TooLarge { bytes: data.len(), limit: BYTES_LIMIT });
        }
        let (text, mut strict) = if is_json(data) {
            (Cow::Borrowed(data), Vec::new())
        } else {
            let converted = yaml::to_json(data).map_err(AuthenticationConfigError::Yaml)?;
            (Cow::Owned(converted.json), Vec::from_iter(converted.duplicates))
        };
        let package = package(&text, data)?;
        match shape(&text, &CONFIGURATION, package) {
            Shaped::WrongType(text) => Err(AuthenticationConfigError::WrongType(text)),
            Shaped::Strict(more) => {
                strict.extend(more);
                Err(AuthenticationConfigError::Strict(strict))
            }
            Shaped::Fits(_) if !strict.is_empty() => Err(AuthenticationConfigError::Strict(strict)),
            Shaped::Fits(value) => {
                serde_json::from_value(value).map_err(|error| AuthenticationConfigError::WrongType(error.to_string()))
            }
        }
    }
}

/// Compat: `IsJSONBuffer` of apimachinery; Go's white space is Unicode's.
fn is_json(data: &[u8]) -> bool {
    let valid = data.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    valid.trim_start_matches(|c: char| c.is_whitespace()).starts_with('{')
}

/// The Go package of the file's version. `data` is the file as it was, for messages.
fn package(text: &[u8], data: &[u8]) -> Result<&'static str, AuthenticationConfigError> {
    let (kind, api_version) = kind_and_version(text).map_err(AuthenticationConfigError::NoObject)?;
    let (group, version) = match api_version.split_once('/') {
        _ if api_version == "/" => ("", ""),
        None => ("", api_version.as_str()),
        Some((_, version)) if version.contains('/') => {
            return Err(AuthenticationConfigError::GroupVersion(api_version));
        }
        Some((group, version)) => (group, version),
    };
    let missing = |member| {
        let text = String::from_utf8_lossy(data).into_owned();
        Err(AuthenticationConfigError::Missing { member, text })
    };
    if kind.is_empty() {
        return missing("Kind");
    }
    if version.is_empty() {
        return missing("apiVersion");
    }
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    if kind == "AuthenticationConfiguration" && group == GROUP {
        let known = ["v1", "v1beta1", "v1alpha1"].into_iter().find(|known| *known == version);
        if let Some(package) = known {
            return Ok(package);
        }
    }
    let other = OTHER_KINDS.iter().find(|(other, _, versions)| *other == kind && versions.contains(&&*api_version));
    match other {
        None => Err(AuthenticationConfigError::UnknownKind { kind, api_version }),
        Some((_, of, _)) => match odd_heads(text) {
            odd if odd.is_empty() => Err(AuthenticationConfigError::OtherKind((*of).to_owned())),
            odd => Err(AuthenticationConfigError::Strict(odd)),
        },
    }
}

/// What strictness says of `kind` and `apiVersion` in odd case, which count and are unknown nevertheless.
fn odd_heads(text: &[u8]) -> Vec<String> {
    let odd = |member: &json::Member<'_>| {
        ["kind", "apiVersion"].iter().any(|head| member.folds_to(head) && member.name != *head)
    };
    let members = json::members(text.trim_ascii());
    members.iter().filter(|member| odd(member)).map(|member| format!("unknown field {}", quote(&member.name))).collect()
}

/// `kind` and `apiVersion` as `encoding/json` finds them: in any case, the last one counts.
fn kind_and_version(text: &[u8]) -> Result<(String, String), String> {
    const NAMELESS: &str =
        r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let members = match json::parse(text) {
        Ok(Document::Object(members)) => members,
        Ok(Document::Other(Kind::Null)) => return Ok(Default::default()),
        Ok(Document::Other(kind)) => {
            return Err(format!("json: cannot unmarshal {} into Go value of type {NAMELESS}", kind.name()));
        }
        Err(error) => return Err(syntax::error(text).unwrap_or_else(|| error.to_string())),
    };
    let (mut found_kind, mut found_version) = (String::new(), String::new());
    let mut wrong = None;
    for member in &members {
        let (field, target) = if member.folds_to("kind") {
            ("kind", &mut found_kind)
        } else if member.folds_to("apiVersion") {
            ("apiVersion", &mut found_version)
        } else {
            continue;
        };
        match json::kind(member.value) {
            Kind::String => *target = json::string(member.value).into_owned(),
            Kind::Null => {}
            other if wrong.is_none() => {
                wrong = Some(format!(
                    "json: cannot unmarshal {} into Go struct field .{field} of type string",
                    other.name()
                ));
            }
            _ => {}
        }
    }
    wrong.map_or(Ok((found_kind, found_version)), Err)
}

const TEXT: Type = Type::Text(None);

static CONFIGURATION: Struct = Struct {
    name: "AuthenticationConfiguration",
    fields: &[
        ("kind", TEXT),
        ("apiVersion", TEXT),
        ("jwt", Type::List(&Type::Struct(&JWT))),
        ("anonymous", Type::StructOrNull(&ANONYMOUS)),
    ],
};

static ANONYMOUS: Struct = Struct {
    name: "AnonymousAuthConfig",
    fields: &[("enabled", Type::Bool), ("conditions", Type::List(&Type::Struct(&CONDITION)))],
};

static CONDITION: Struct = Struct { name: "AnonymousAuthCondition", fields: &[("path", TEXT)] };

static JWT: Struct = Struct {
    name: "JWTAuthenticator",
    fields: &[
        ("issuer", Type::Struct(&ISSUER)),
        ("claimValidationRules", Type::List(&Type::Struct(&CLAIM_RULE))),
        ("claimMappings", Type::Struct(&MAPPINGS)),
        ("userValidationRules", Type::List(&Type::Struct(&USER_RULE))),
    ],
};

static ISSUER: Struct = Struct {
    name: "Issuer",
    fields: &[
        ("url", TEXT),
        ("discoveryURL", Type::TextOrNull),
        ("certificateAuthority", TEXT),
        ("audiences", Type::List(&TEXT)),
        ("audienceMatchPolicy", Type::Text(Some("AudienceMatchPolicyType"))),
        ("egressSelectorType", Type::Text(Some("EgressSelectorType"))),
    ],
};

static CLAIM_RULE: Struct = Struct {
    name: "ClaimValidationRule",
    fields: &[("claim", TEXT), ("requiredValue", TEXT), ("expression", TEXT), ("message", TEXT)],
};

static MAPPINGS: Struct = Struct {
    name: "ClaimMappings",
    fields: &[
        ("username", Type::Struct(&PREFIXED)),
        ("groups", Type::Struct(&PREFIXED)),
        ("uid", Type::Struct(&UNPREFIXED)),
        ("extra", Type::List(&Type::Struct(&EXTRA))),
    ],
};

static PREFIXED: Struct = Struct {
    name: "PrefixedClaimOrExpression",
    fields: &[("claim", TEXT), ("prefix", Type::TextOrNull), ("expression", TEXT)],
};

static UNPREFIXED: Struct = Struct { name: "ClaimOrExpression", fields: &[("claim", TEXT), ("expression", TEXT)] };

static EXTRA: Struct = Struct { name: "ExtraMapping", fields: &[("key", TEXT), ("valueExpression", TEXT)] };

static USER_RULE: Struct = Struct { name: "UserValidationRule", fields: &[("expression", TEXT), ("message", TEXT)] };

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: https://a\n    discoveryURL: https://b/x\n    audiences: [kubernetes]\n  claimMappings:\n    username: {claim: email, prefix: \"\"}\n    groups: {claim: groups, prefix: 'oidc:'}\nanonymous: {enabled: true, conditions: [{path: /livez}]}\n";

    fn error(text: &str) -> String {
        AuthenticationConfiguration::decode(text.as_bytes()).expect_err(text).to_string()
    }

    /// A JSON file with these members beside kind and version.
    fn file(members: &str) -> String {
        format!(r#"{{"apiVersion":"apiserver.config.k8s.io/v1beta1","kind":"AuthenticationConfiguration",{members}}}"#)
    }

    #[test]
    fn a_configuration_of_each_version_is_read() {
        for version in API_VERSIONS {
            let text = GOOD.replace("apiserver.config.k8s.io/v1", version);
            let config = AuthenticationConfiguration::decode(text.as_bytes()).unwrap();
            let jwt = config.jwt.first().unwrap();
            assert_eq!(jwt.issuer.discovery_url.as_deref(), Some("https://b/x"));
            assert_eq!(jwt.claim_mappings.username.prefix.as_deref(), Some(""));
            assert_eq!(jwt.claim_mappings.uid, super::super::ClaimOrExpression::default());
            assert!(config.anonymous.unwrap().enabled);
        }
    }

    #[test]
    fn white_space_around_json_is_nothing() {
        let text = format!("\r\n\t {} \n", file(r#""jwt":[]"#));
        assert!(AuthenticationConfiguration::decode(text.as_bytes()).is_ok());
    }

    #[test]
    fn null_is_nothing_anywhere() {
        let text = file(
            r#""jwt":[null,{"issuer":null,"claimMappings":{"username":null,"uid":{"claim":null},"extra":[null]},"userValidationRules":null},{"issuer":{"audiences":[null],"discoveryURL":null}}],"anonymous":null"#,
        );
        let config = AuthenticationConfiguration::decode(text.as_bytes()).unwrap();
        assert_eq!(config.jwt.len(), 3);
        assert_eq!(config.jwt[0], super::super::JwtAuthenticator::default());
        assert_eq!(config.jwt[1].claim_mappings.extra.len(), 1);
        assert_eq!(config.jwt[2].issuer.audiences, [""]);
        assert_eq!(config.anonymous, None);
    }

    #[test]
    fn kind_and_version_are_looked_for_first() {
        let kinds = "kind must be AuthenticationConfiguration";
        for (text, want) in [
            ("", "empty config data"),
            (
                "x",
                "couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
            ),
            (
                "{a: b}",
                "couldn't get version/kind; json parse error: invalid character 'a' looking for beginning of object key string",
            ),
            (
                "kind: 1\n",
                "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string",
            ),
            ("apiVersion: a/b/c\n", "unexpected GroupVersion string: a/b/c"),
            ("apiVersion: v1\n", "Object 'Kind' is missing in 'apiVersion: v1\n'"),
            ("{\"kind\":\"X\"}", "Object 'apiVersion' is missing in '{\"kind\":\"X\"}'"),
            (
                "kind: Pod\napiVersion: v1\n",
                "no kind \"Pod\" is registered for version \"v1\" in scheme \"pkg/kubeapiserver/options/authentication.go:874\"",
            ),
            (
                "kind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v2\n",
                "no kind \"AuthenticationConfiguration\" is registered for version \"apiserver.config.k8s.io/v2\" in scheme \"pkg/kubeapiserver/options/authentication.go:874\"",
            ),
            (
                "kind: AuthorizationConfiguration\napiVersion: apiserver.config.k8s.io/v1\n",
                "expected AuthenticationConfiguration, got *apiserver.AuthorizationConfiguration",
            ),
            (
                "kind: EncryptionConfig\napiVersion: v1\n",
                "expected AuthenticationConfiguration, got *apiserver.EncryptionConfiguration",
            ),
            (
                "kind: EgressSelectorConfiguration\napiVersion: apiserver.config.k8s.io/v1beta1\n",
                "no kind \"EgressSelectorConfiguration\" is registered for version \"apiserver.config.k8s.io/v1beta1\" in scheme \"pkg/kubeapiserver/options/authentication.go:874\"",
            ),
            (
                "Kind: TracingConfiguration\napiVersion: apiserver.config.k8s.io/v1\n",
                "strict decoding error: unknown field \"Kind\"",
            ),
        ] {
            assert_eq!(error(text), want);
        }
        let unknown = AuthenticationConfiguration::decode(b"kind: Pod\napiVersion: v1\n").unwrap_err();
        assert!(unknown.hint().unwrap().starts_with(kinds));
        assert!(AuthenticationConfiguration::decode(b"Kind: AuthenticationConfiguration\n").is_err());
    }

    #[test]
    fn types_are_gos() {
        for (members, want) in [
            (
                r#""jwt":{}"#,
                "object into Go struct field AuthenticationConfiguration.jwt of type []v1beta1.JWTAuthenticator",
            ),
            (
                r#""jwt":[1]"#,
                "number into Go struct field AuthenticationConfiguration.jwt of type v1beta1.JWTAuthenticator",
            ),
            (
                r#""jwt":[{"issuer":[]}]"#,
                "array into Go struct field JWTAuthenticator.jwt.issuer of type v1beta1.Issuer",
            ),
            (r#""jwt":[{"issuer":{"url":true}}]"#, "bool into Go struct field Issuer.jwt.issuer.url of type string"),
            (
                r#""jwt":[{"issuer":{"audiences":"a"}}]"#,
                "string into Go struct field Issuer.jwt.issuer.audiences of type []string",
            ),
            (
                r#""jwt":[{"issuer":{"audiences":["a",1]}}]"#,
                "number into Go struct field Issuer.jwt.issuer.audiences of type string",
            ),
            (
                r#""jwt":[{"issuer":{"audienceMatchPolicy":1}}]"#,
                "number into Go struct field Issuer.jwt.issuer.audienceMatchPolicy of type v1beta1.AudienceMatchPolicyType",
            ),
            (
                r#""anonymous":[]"#,
                "array into Go struct field AuthenticationConfiguration.anonymous of type v1beta1.AnonymousAuthConfig",
            ),
            (
                r#""anonymous":{"enabled":"true"}"#,
                "string into Go struct field AnonymousAuthConfig.anonymous.enabled of type bool",
            ),
            (
                r#""x":1,"jwt":[{"issuer":{"url":1,"y":1,"url":2}}]"#,
                "number into Go struct field Issuer.jwt.issuer.url of type string",
            ),
        ] {
            assert_eq!(error(&file(members)), format!("json: cannot unmarshal {want}"), "{members}");
        }
    }

    #[test]
    fn unknown_and_repeated_members_are_listed() {
        assert_eq!(
            error(&file(
                r#""x":{"y":[]},"jwt":[{},{"Issuer":1,"issuer":{"url":"a","url":"a","q\"":1}}],"x":2,"kind":"AuthenticationConfiguration""#
            )),
            r#"strict decoding error: unknown field "x", unknown field "jwt[1].Issuer", duplicate field "jwt[1].issuer.url", unknown field "jwt[1].issuer.q\"", duplicate field "kind""#
        );
        assert_eq!(
            error(&format!("{GOOD}jwt: []\nzoo: 1\nBar: 1\n")),
            "strict decoding error: yaml: unmarshal errors:\n  line 12: key \"jwt\" already set in map, unknown field \"Bar\", unknown field \"zoo\""
        );
        let many: Vec<String> = (0..150).map(|n| format!("\"x{n}\":1")).collect();
        assert_eq!(error(&file(&many.join(","))).matches("unknown field").count(), MOST);
    }

    /// Upstream's number.
    const MOST: usize = 100;

    #[test]
    fn size_is_bounded() {
        let padded = |bytes: usize| format!("{GOOD}{}", "#".repeat(bytes - GOOD.len()));
        assert!(AuthenticationConfiguration::decode(padded(BYTES_LIMIT).as_bytes()).is_ok());
        assert_eq!(
            AuthenticationConfiguration::decode(padded(BYTES_LIMIT + 1).as_bytes()),
            Err(AuthenticationConfigError::TooLarge { bytes: BYTES_LIMIT + 1, limit: BYTES_LIMIT })
        );
    }
}
