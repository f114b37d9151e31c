//! From verified claims to a user: names exact, last member wins, values decoded as Go decodes them into strings.
//!
//! Each part comes from a claim or from a CEL expression. Order as upstream, because the first failure is the one that is
//! reported: user name, groups, uid, extra, and only then the required claims, the rules about claims and those about the
//! user. Distributed claims have been put in before.
//!
//! Compat: `getUsername`, `getGroups`, `getUID`, `getExtra` and the rules of `oidc.go` in `k8s.io/apiserver` v0.37.

use std::collections::BTreeMap;

use portcullis_cel::{Activation, Value};
use portcullis_kube::user_info::UserInfo;

use crate::cel::{self, Expression, Expressions};
use crate::claims::string_list;
use crate::config::{JwtConfig, PrefixedClaim};
use crate::error::ClaimsError;
use crate::go::json::{self, Kind, Member};

/// The extra key under which the token's `jti` travels.
const CREDENTIAL_ID_KEY: &str = "authentication.kubernetes.io/credential-id";

/// Maps `members` to a user, or says which step failed.
pub(crate) fn user(
    config: &JwtConfig,
    expressions: &Expressions,
    members: &[Member<'_>],
) -> Result<UserInfo, ClaimsError> {
    let claims = cel::claims(members);
    let evaluated = |expression: &Option<Expression>| expression.as_ref().map(|one| one.evaluate(&claims));
    let user = UserInfo {
        username: match evaluated(&expressions.username) {
            None => username(&config.username, members)?,
            Some(value) => match value.map_err(ClaimsError::UsernameExpression)? {
                Value::String(name) if name.is_empty() => return Err(ClaimsError::EmptyUsername),
                value => string(&value, "username claim").map_err(ClaimsError::UsernameExpression)?,
            },
        },
        groups: match evaluated(&expressions.groups) {
            None => groups(config.groups.as_ref(), members)?,
            Some(value) => value.and_then(|value| cel::texts(&value)).map_err(ClaimsError::GroupsExpression)?,
        },
        uid: match evaluated(&expressions.uid) {
            None => uid(config.uid_claim.as_deref(), members)?,
            Some(value) => value.and_then(|value| string(&value, "uid claim")).map_err(ClaimsError::UidExpression)?,
        },
        extra: extra(&expressions.extra, members, &claims)?,
    };
    required(&config.required_claims, members)?;
    cel::check_rules(&expressions.claim_rules, &claims).map_err(ClaimsError::ClaimRule)?;
    cel::check_rules(&expressions.user_rules, &cel::user(&user)).map_err(ClaimsError::UserRule)?;
    Ok(user)
}

fn string(value: &Value, what: &str) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.to_string()),
        _ => Err(format!("{what} expression must return a string")),
    }
}

fn username(mapping: &PrefixedClaim, members: &[Member<'_>]) -> Result<String, ClaimsError> {
    let name = string_claim(members, &mapping.claim)
        .map_err(|reason| ClaimsError::Username { claim: mapping.claim.clone(), reason })?;
    if mapping.claim == "email"
        && let Some(verified) = json::last(members, "email_verified")
    {
        match json::kind(verified) {
            Kind::Bool if verified == b"true" => {}
            Kind::Bool | Kind::Null => return Err(ClaimsError::EmailNotVerified),
            other => return Err(ClaimsError::EmailVerifiedType(type_error(other, "bool"))),
        }
    }
    Ok(format!("{}{name}", mapping.prefix))
}

fn groups(mapping: Option<&PrefixedClaim>, members: &[Member<'_>]) -> Result<Vec<String>, ClaimsError> {
    let Some(mapping) = mapping else { return Ok(Vec::new()) };
    let Some(value) = json::last(members, &mapping.claim) else { return Ok(Vec::new()) };
    let groups = string_or_array(value)
        .map_err(|kind| ClaimsError::Groups { claim: mapping.claim.clone(), reason: type_error(kind, "string") })?;
    if mapping.prefix.is_empty() {
        return Ok(groups);
    }
    Ok(groups.into_iter().map(|group| format!("{}{group}", mapping.prefix)).collect())
}

/// A list of strings, `null` (no list), or one string. When the list does not fit, the string is tried, so the error
/// speaks of the whole value.
fn string_or_array(value: &[u8]) -> Result<Vec<String>, Kind> {
    match json::kind(value) {
        Kind::Array => string_list(value).map_err(|_| Kind::Array),
        Kind::Null => Ok(Vec::new()),
        Kind::String => Ok(vec![json::string(value).into_owned()]),
        other => Err(other),
    }
}

fn uid(claim: Option<&str>, members: &[Member<'_>]) -> Result<String, ClaimsError> {
    let Some(claim) = claim else { return Ok(String::new()) };
    string_claim(members, claim).map_err(|reason| ClaimsError::Uid { claim: claim.to_owned(), reason })
}

/// The credential id, and what expressions add; the same key again takes its place.
fn extra(
    expressions: &[(String, Expression)],
    members: &[Member<'_>],
    claims: &dyn Activation,
) -> Result<BTreeMap<String, Vec<String>>, ClaimsError> {
    let jti = json::last(members, "jti").map(json::string).filter(|jti| !jti.is_empty());
    let mut extra: BTreeMap<String, Vec<String>> =
        jti.map(|jti| (CREDENTIAL_ID_KEY.to_owned(), vec![format!("JTI={jti}")])).into_iter().collect();
    // Compat: all are evaluated before one is looked at.
    let values = expressions.iter().map(|(_, expression)| expression.evaluate(claims));
    let values = values.collect::<Result<Vec<_>, _>>().map_err(ClaimsError::ExtraExpression)?;
    for ((key, expression), value) in expressions.iter().zip(values) {
        let texts = cel::texts(&value)
            .map_err(|reason| ClaimsError::ExtraValue { expression: expression.source().to_owned(), reason })?;
        if !texts.is_empty() {
            extra.insert(key.clone(), texts);
        }
    }
    Ok(extra)
}

fn required(required: &[(String, String)], members: &[Member<'_>]) -> Result<(), ClaimsError> {
    for (claim, want) in required {
        let Some(value) = json::last(members, claim) else {
            return Err(ClaimsError::RequiredMissing(claim.clone()));
        };
        let got = string_value(value).map_err(|reason| ClaimsError::RequiredType { claim: claim.clone(), reason })?;
        if got != *want {
            return Err(ClaimsError::RequiredValue { claim: claim.clone(), got, want: want.clone() });
        }
    }
    Ok(())
}

fn string_claim(members: &[Member<'_>], claim: &str) -> Result<String, String> {
    json::last(members, claim).ok_or_else(|| "claim not present".to_owned()).and_then(string_value)
}

/// A string; `null` is the empty one.
fn string_value(value: &[u8]) -> Result<String, String> {
    match json::kind(value) {
        Kind::String | Kind::Null => Ok(json::string(value).into_owned()),
        other => Err(type_error(other, "string")),
    }
}

fn type_error(kind: Kind, want: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {want}", kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::json::Document;

    fn config() -> JwtConfig {
        JwtConfig {
            username: PrefixedClaim { claim: "sub".into(), prefix: "u:".into() },
            groups: Some(PrefixedClaim { claim: "groups".into(), prefix: "p:".into() }),
            ..JwtConfig::default()
        }
    }

    fn map(config: &JwtConfig, payload: &str) -> Result<UserInfo, String> {
        let Ok(Document::Object(members)) = json::parse(payload.as_bytes()) else { panic!("{payload}") };
        user(config, &Expressions::default(), &members).map_err(|error| error.to_string())
    }

    #[test]
    fn groups_take_every_shape_that_upstream_takes() {
        for (value, want) in [
            (r#"["a","b","a"]"#, Ok(vec!["p:a", "p:b", "p:a"])),
            (r#""one""#, Ok(vec!["p:one"])),
            (r#""""#, Ok(vec!["p:"])),
            ("null", Ok(vec![])),
            ("[]", Ok(vec![])),
            (r#"["a",null]"#, Ok(vec!["p:a", "p:"])),
            ("42", Err("number")),
            ("{}", Err("object")),
            (r#"["a",1]"#, Err("array")),
            (r#"[["a"]]"#, Err("array")),
        ] {
            let got = map(&config(), &format!(r#"{{"sub":"x","groups":{value}}}"#));
            match want {
                Ok(groups) => assert_eq!(got.expect(value).groups, groups, "{value}"),
                Err(kind) => assert_eq!(
                    got.expect_err(value),
                    format!(
                        r#"oidc: parse groups claim "groups": json: cannot unmarshal {kind} into Go value of type string"#
                    )
                ),
            }
        }
        assert!(map(&config(), r#"{"sub":"x","Groups":["a"]}"#).expect("names are exact here").groups.is_empty());
    }

    #[test]
    fn an_unverified_address_is_no_user_name() {
        let config = JwtConfig { username: PrefixedClaim { claim: "email".into(), prefix: String::new() }, ..config() };
        for (verified, want) in [
            ("", Ok("a@b")),
            (r#","email_verified":true"#, Ok("a@b")),
            (r#","email_verified":false,"email_verified":true"#, Ok("a@b")),
            (r#","email_verified":false"#, Err("oidc: email not verified")),
            (r#","email_verified":null"#, Err("oidc: email not verified")),
            (
                r#","email_verified":"true""#,
                Err("oidc: parse 'email_verified' claim: json: cannot unmarshal string into Go value of type bool"),
            ),
        ] {
            let got = map(&config, &format!(r#"{{"email":"a@b"{verified}}}"#));
            assert_eq!(got.as_ref().map(|user| user.username.as_str()).map_err(String::as_str), want);
        }
        let by_name = map(&JwtConfig::default(), "{}");
        assert_eq!(by_name, Err(r#"oidc: parse username claims "": claim not present"#.into()));
    }

    #[test]
    fn user_names_may_be_empty_and_must_be_strings() {
        for (payload, want) in [
            (r#"{"sub":""}"#, Ok("u:")),
            (r#"{"sub":null}"#, Ok("u:")),
            (r#"{"sub":"a","sub":"b"}"#, Ok("u:b")),
            (
                r#"{"sub":1}"#,
                Err(r#"oidc: parse username claims "sub": json: cannot unmarshal number into Go value of type string"#),
            ),
            (r#"{"SUB":"a"}"#, Err(r#"oidc: parse username claims "sub": claim not present"#)),
        ] {
            let got = map(&config(), payload);
            assert_eq!(got.as_ref().map(|user| user.username.as_str()).map_err(String::as_str), want, "{payload}");
        }
    }

    #[test]
    fn the_credential_id_is_the_jti_when_it_is_a_text() {
        let extra = |payload: &str| map(&config(), payload).expect(payload).extra;
        let want = BTreeMap::from([(CREDENTIAL_ID_KEY.to_owned(), vec!["JTI=abc".to_owned()])]);
        assert_eq!(extra(r#"{"sub":"x","jti":"abc"}"#), want);
        for payload in
            [r#"{"sub":"x"}"#, r#"{"sub":"x","jti":""}"#, r#"{"sub":"x","jti":1}"#, r#"{"sub":"x","jti":null}"#]
        {
            assert!(extra(payload).is_empty(), "{payload}");
        }
    }

    #[test]
    fn uid_and_required_claims() {
        let config = JwtConfig {
            uid_claim: Some("uid".into()),
            required_claims: vec![("hd".into(), "example.com".into()), ("e".into(), String::new())],
            ..config()
        };
        for (payload, want) in [
            (r#"{"sub":"x","uid":"7","hd":"example.com","e":null}"#, Ok("7")),
            (r#"{"sub":"x","hd":"example.com","e":""}"#, Err(r#"oidc: parse uid claim "uid": claim not present"#)),
            (r#"{"sub":"x","uid":"7","e":""}"#, Err("oidc: required claim hd not present in ID token")),
            (
                r#"{"sub":"x","uid":"7","hd":"other","e":""}"#,
                Err("oidc: required claim hd value does not match. Got = other, want = example.com"),
            ),
            (
                r#"{"sub":"x","uid":"7","hd":true,"e":""}"#,
                Err("oidc: parse claim hd: json: cannot unmarshal bool into Go value of type string"),
            ),
        ] {
            let got = map(&config, payload);
            assert_eq!(got.as_ref().map(|user| user.uid.as_str()).map_err(String::as_str), want, "{payload}");
        }
    }
}
