//! The variable `claims`: a token's claims, each read when an expression asks for it.
//!
//! Compat: `newClaimsValue` of `oidc.go` in `k8s.io/apiserver` v0.37: the last of several members of one name counts, every
//! number is a double, and a number that no double holds fails the expression that looks at it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use portcullis_cel::{EvalError, Object, Value};
use portcullis_kube::go::quote;
use serde_json::Number;

use super::{CLAIMS, Variable};
use crate::go::json::{self, Kind, Member};

/// Levels of lists and objects that a claim may have.
///
/// Deeper ones would be walked by code that calls itself; upstream reads 10,000.
const DEPTH_LIMIT: usize = 100;

/// The claims of a token as the variable of its expressions.
pub(crate) fn claims(members: &[Member<'_>]) -> Variable<impl FnOnce() -> Value> {
    let claim = |member: &Member<'_>| {
        (Arc::from(member.name.as_ref()), Claim { text: member.value.to_vec(), value: OnceLock::new() })
    };
    Variable::new(CLAIMS, move || Value::Object(Arc::new(Claims(members.iter().map(claim).collect()))))
}

struct Claims(BTreeMap<Arc<str>, Claim>);

struct Claim {
    /// As it is written.
    text: Vec<u8>,
    value: OnceLock<Result<Value, EvalError>>,
}

/// Claims are whatever a token says, so only their names are shown.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Object for Claims {
    fn type_name(&self) -> &str {
        "kubernetes.claims"
    }

    fn field(&self, name: &str) -> Option<Result<Value, EvalError>> {
        let claim = self.0.get(name)?;
        let read = || match read(&claim.text, 0) {
            Ok(value) => Ok(Value::from_json(&value)),
            Err(reason) => Err(EvalError::Value(format!("claim {} failed to unmarshal: {reason}", quote(name)).into())),
        };
        Some(claim.value.get_or_init(read).clone())
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.0.keys().cloned().collect()
    }
}

/// A checked value, `depth` levels below its claim.
fn read(text: &[u8], depth: usize) -> Result<serde_json::Value, String> {
    if depth > DEPTH_LIMIT {
        return Err(format!("more than {DEPTH_LIMIT} levels of lists and objects"));
    }
    Ok(match json::kind(text) {
        Kind::Null => serde_json::Value::Null,
        Kind::Bool => serde_json::Value::Bool(text == b"true"),
        Kind::String => serde_json::Value::String(json::string(text).into_owned()),
        Kind::Number => serde_json::Value::Number(number(text)?),
        Kind::Array => {
            let elements = json::elements(text).into_iter();
            serde_json::Value::Array(elements.map(|element| read(element, depth + 1)).collect::<Result<_, _>>()?)
        }
        Kind::Object => {
            let members = json::members(text).into_iter();
            let members =
                members.map(|member| Ok::<_, String>((member.name.into_owned(), read(member.value, depth + 1)?)));
            serde_json::Value::Object(members.collect::<Result<_, _>>()?)
        }
    })
}

fn number(text: &[u8]) -> Result<Number, String> {
    let text = String::from_utf8_lossy(text);
    let value = text.parse().ok().and_then(Number::from_f64);
    value.ok_or_else(|| format!("json: cannot unmarshal number {text} into Go value of type float64"))
}

#[cfg(test)]
mod tests {
    use super::super::{Wanted, claims_expression};
    use super::*;
    use crate::go::json::Document;

    fn evaluate(payload: &str, expression: &str) -> Result<String, String> {
        let Ok(Document::Object(members)) = json::parse(payload.as_bytes()) else { panic!("{payload}") };
        let compiled = claims_expression(String::new(), expression, Wanted::Anything);
        let compiled = compiled.map_err(|broken| broken.error).expect(expression);
        match compiled.evaluate(&claims(&members))? {
            Value::String(text) => Ok(text.to_string()),
            other => Ok(format!("{other:?}")),
        }
    }

    #[test]
    fn claims_are_read_as_go_reads_them() {
        for (payload, expression, want) in [
            (r#"{"a":"x","a":"y"}"#, "claims.a", "y"),
            (r#"{"a":{"b":1,"b":2}}"#, "string(claims.a.b)", "2"),
            (r#"{"a":1999999999}"#, "string(claims.a)", "1.999999999e+09"),
            (r#"{"a":1999999999}"#, "string(int(claims.a))", "1999999999"),
            (r#"{"a":1}"#, "string(type(claims.a) == double)", "true"),
            (r#"{"a.b":"x"}"#, "claims.a__dot__b", "x"),
            (r#"{"a.b":"x"}"#, "claims['a.b']", "x"),
            (r#"{"a":{"b.c":"x"}}"#, "claims.a.b__dot__c", "x"),
            (r#"{"a":null}"#, "string(claims.a == null)", "true"),
            (r#"{"a":"\ud800"}"#, "claims.a", "\u{fffd}"),
        ] {
            assert_eq!(evaluate(payload, expression).as_deref(), Ok(want), "{payload} {expression}");
        }
    }

    #[test]
    fn only_what_is_looked_at_can_fail() {
        let payload = r#"{"a":[1e999],"b":"x"}"#;
        assert_eq!(evaluate(payload, "claims.b").as_deref(), Ok("x"));
        assert_eq!(
            evaluate(payload, "string(claims.a)").unwrap_err(),
            r#"expression 'string(claims.a)' resulted in error: claim "a" failed to unmarshal: json: cannot unmarshal number 1e999 into Go value of type float64"#
        );
        assert!(evaluate(payload, "claims.c").unwrap_err().ends_with("no such key: c"));
    }

    #[test]
    fn the_depth_of_a_claim_is_bounded() {
        let deep = |levels: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
        let is_list = "string(type(claims.a) == list)";
        assert_eq!(evaluate(&deep(DEPTH_LIMIT), is_list).as_deref(), Ok("true"));
        let error = evaluate(&deep(DEPTH_LIMIT + 1), is_list).unwrap_err();
        assert!(error.ends_with("more than 100 levels of lists and objects"), "{error}");
        assert!(evaluate(&deep(9_000), is_list).is_err());
    }
}
