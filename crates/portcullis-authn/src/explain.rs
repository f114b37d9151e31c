//! What a verdict is explained with: whose a token claims to be, and what each expression comes to for its claims.
//!
//! Nothing here decides anything: the verdict is [`crate::Authenticator`]'s. It must never be used in its place, because the
//! claims that are looked at need not be verified.

use portcullis_cel::{Activation, Value};
use portcullis_kube::go::quote;

use crate::cel::{self, Expression, Expressions};
use crate::config::ValidConfig;
use crate::go::json::{self, Document};
use crate::{mapping, route};

/// What an expression is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// It makes the user name.
    Username,
    /// It makes the groups.
    Groups,
    /// It makes the uid.
    Uid,
    /// It makes the values of this key of the user's extra.
    Extra(String),
    /// It has to hold of the claims; with what is said when it does not.
    ClaimRule(String),
    /// It has to hold of the user; with what is said when it does not.
    UserRule(String),
}

/// An expression, and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// What it is there for.
    pub purpose: Purpose,
    /// As it is written.
    pub expression: String,
    /// Its value, for people, or why there is none.
    pub outcome: Result<String, String>,
}

/// The issuer that `token` names, which decides whom it is compared with and nothing else.
///
/// # Errors
/// Why it names none: no authenticator has an opinion on it then.
pub fn claimed_issuer(token: &str) -> Result<String, &'static str> {
    let payload = route::lenient_payload(token)?;
    route::untrusted_issuer(&payload).ok_or("the payload is no JSON object with a text for iss")
}

impl ValidConfig {
    /// What each expression comes to for the claims in `payload`, in the order in which they are asked.
    #[must_use]
    pub fn evaluations(&self, payload: &[u8]) -> Vec<Evaluation> {
        let Ok(Document::Object(members)) = json::parse(payload) else { return Vec::new() };
        let Expressions { username, groups, uid, extra, claim_rules, user_rules } = &self.expressions;
        let claims = cel::claims(&members);
        let mut all = Vec::new();
        let mut add = |purpose, expression: &Expression, variable: Option<&dyn Activation>| {
            let evaluated = variable.ok_or_else(|| "the claims make no user".to_owned());
            let outcome = evaluated.and_then(|variable| expression.evaluate(variable)).map(|value| shown(&value));
            all.push(Evaluation { purpose, expression: expression.source().to_owned(), outcome });
        };
        for (purpose, expression) in [(Purpose::Username, username), (Purpose::Groups, groups), (Purpose::Uid, uid)] {
            if let Some(expression) = expression {
                add(purpose, expression, Some(&claims));
            }
        }
        for (key, expression) in extra {
            add(Purpose::Extra(key.clone()), expression, Some(&claims));
        }
        for rule in claim_rules {
            add(Purpose::ClaimRule(rule.message.clone()), &rule.expression, Some(&claims));
        }
        if user_rules.is_empty() {
            return all;
        }
        // The user as it is before anything has to hold.
        let mappings = Expressions { claim_rules: Vec::new(), user_rules: Vec::new(), ..self.expressions.clone() };
        let mut config = self.config.clone();
        config.required_claims.clear();
        let user = mapping::user(&config, &mappings, &members).ok();
        let user = user.as_ref().map(cel::user);
        for rule in user_rules {
            let purpose = Purpose::UserRule(rule.message.clone());
            add(purpose, &rule.expression, user.as_ref().map(|user| user as &dyn Activation));
        }
        all
    }
}

/// Elements of a list, or members of a map, that are shown.
const SHOWN: usize = 20;

fn shown(value: &Value) -> String {
    let join = |parts: &mut dyn Iterator<Item = String>| {
        let mut parts: Vec<String> = parts.take(SHOWN.saturating_add(1)).collect();
        if let Some(more) = parts.get_mut(SHOWN) {
            "…".clone_into(more);
        }
        parts.join(", ")
    };
    match value {
        Value::String(text) => quote(text),
        Value::List(list) => format!("[{}]", join(&mut list.iter().map(|item| shown(&item)))),
        Value::Map(map) => {
            format!("{{{}}}", join(&mut map.iter().map(|(key, value)| format!("{}: {}", shown(&key), shown(&value)))))
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrustConfiguration;

    #[test]
    fn every_expression_is_evaluated_and_rules_about_a_user_when_there_is_one() {
        let file = r#"{"apiVersion":"apiserver.config.k8s.io/v1","kind":"AuthenticationConfiguration","jwt":[{
            "issuer":{"url":"https://a","audiences":["c"]},
            "claimMappings":{"username":{"expression":"claims.sub"},"groups":{"expression":"claims.groups"},
                "uid":{"expression":"claims.id"},"extra":[{"key":"a.example/b","valueExpression":"claims.x"}]},
            "claimValidationRules":[{"claim":"hd","requiredValue":"z"},{"expression":"claims.sub != ''","message":"m"}],
            "userValidationRules":[{"expression":"user.username == 'jane'","message":"n"}]}]}"#;
        let trust = TrustConfiguration::load(file.as_bytes(), &[]).expect("valid");
        let of = |payload: &str| trust.issuers()[0].evaluations(payload.as_bytes());
        let all = of(r#"{"sub":"jane","groups":["a","b"],"id":"7","x":["y"]}"#);
        let told: Vec<(&Purpose, &str)> =
            all.iter().map(|one| (&one.purpose, one.outcome.as_deref().expect("a value"))).collect();
        assert_eq!(
            told,
            [
                (&Purpose::Username, r#""jane""#),
                (&Purpose::Groups, r#"["a", "b"]"#),
                (&Purpose::Uid, r#""7""#),
                (&Purpose::Extra("a.example/b".into()), r#"["y"]"#),
                (&Purpose::ClaimRule("m".into()), "true"),
                (&Purpose::UserRule("n".into()), "true"),
            ]
        );
        let broken = of(r#"{"sub":"jane"}"#);
        assert_eq!(broken[5].outcome, Err("the claims make no user".to_owned()));
        assert!(broken[1].outcome.as_ref().is_err_and(|error| error.contains("no such key: groups")), "{broken:?}");
        let object = of(r#"{"groups":{"k":[true,1.5,"x"]}}"#);
        assert_eq!(object[1].outcome.as_deref(), Ok(r#"{"k": [true, 1.5, "x"]}"#));
        let many = of(&format!(r#"{{"sub":"jane","groups":[{}1]}}"#, "1,".repeat(SHOWN)));
        assert!(many[1].outcome.as_ref().is_ok_and(|shown| shown.ends_with("1, …]")), "{many:?}");
        assert_eq!(of("[]"), []);
    }

    #[test]
    fn whose_a_token_claims_to_be_is_what_routes_it() {
        let token = |payload: &str| format!("x.{}.y", portcullis_jose::base64url_encode(payload.as_bytes()));
        assert_eq!(claimed_issuer(&token(r#"{"iss":"https://a"}"#)).as_deref(), Ok("https://a"));
        assert!(claimed_issuer(&token(r#"{"iss":1}"#)).is_err() && claimed_issuer("opaque").is_err());
    }
}
