//! The typed view of a payload: what go-oidc's `idToken` struct would hold.
//!
//! Compat: `github.com/coreos/go-oidc` v2.5.0 `verify.go`, `oidc.go`. Names match without regard to case, a later member
//! overwrites an earlier one, `null` leaves strings alone, empties lists of sources, and is an error for `exp` and `iat`.
//! A wrong type in any of these claims refuses the token, even where the value is never used.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::VerifyError;
use crate::go::json::{self, Kind, Member};
use crate::go::number;

/// The claims that verification looks at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IdTokenClaims {
    pub(crate) issuer: String,
    pub(crate) audience: Vec<String>,
    /// Unix seconds; `None` when the claim is missing.
    pub(crate) expiry: Option<i64>,
    /// Unix seconds.
    pub(crate) not_before: Option<i64>,
    claim_names: BTreeMap<String, String>,
    claim_sources: BTreeSet<String>,
}

impl IdTokenClaims {
    /// Decodes `members`. The error is Go's text.
    pub(crate) fn decode(members: &[Member<'_>]) -> Result<Self, VerifyError> {
        let mut claims = Self::default();
        let mut first = None;
        for member in members {
            let Err(error) = claims.set(member) else { continue };
            // Compat: Go's decoder remembers the first wrong type and goes on; types that decode themselves end it.
            if ["aud", "exp", "iat", "nbf"].into_iter().any(|name| member.folds_to(name)) {
                return Err(VerifyError::ClaimTypes(error));
            }
            first.get_or_insert(error);
        }
        first.map_or(Ok(claims), |error| Err(VerifyError::ClaimTypes(error)))
    }

    /// Every source that `_claim_names` names exists, whether or not anyone wants the claim.
    pub(crate) fn check_sources(&self) -> Result<(), VerifyError> {
        for source in self.claim_names.values() {
            if source.is_empty() {
                return Err(VerifyError::EmptySource);
            }
            if !self.claim_sources.contains(source) {
                return Err(VerifyError::UnknownSource);
            }
        }
        Ok(())
    }

    fn set(&mut self, member: &Member<'_>) -> Result<(), String> {
        let value = member.value;
        // The first byte of a folded name is enough to leave most foreign claims alone.
        if !matches!(
            member.name.as_bytes().first(),
            Some(b'i' | b'I' | b's' | b'S' | b'a' | b'A' | b'e' | b'E' | b'n' | b'N' | b'_' | 0x80..)
        ) {
            return Ok(());
        }
        if member.folds_to("iss") {
            set_string(&mut self.issuer, value, "iss")
        } else if member.folds_to("sub") {
            set_string(&mut String::new(), value, "sub")
        } else if member.folds_to("aud") {
            self.audience = audience(value)?;
            Ok(())
        } else if member.folds_to("exp") {
            self.expiry = Some(time(value, "exp")?);
            Ok(())
        } else if member.folds_to("iat") {
            time(value, "iat").map(drop)
        } else if member.folds_to("nbf") {
            self.not_before = if json::kind(value) == Kind::Null { None } else { Some(time(value, "nbf")?) };
            Ok(())
        } else if member.folds_to("nonce") {
            set_string(&mut String::new(), value, "nonce")
        } else if member.folds_to("at_hash") {
            set_string(&mut String::new(), value, "at_hash")
        } else if member.folds_to("_claim_names") {
            self.set_names(value)
        } else if member.folds_to("_claim_sources") {
            self.set_sources(value)
        } else {
            Ok(())
        }
    }

    /// A second object adds to the first; `null` empties.
    fn set_names(&mut self, value: &[u8]) -> Result<(), String> {
        match json::kind(value) {
            Kind::Null => self.claim_names.clear(),
            Kind::Object => {
                for name in json::members(value) {
                    let mut source = String::new();
                    set_string(&mut source, name.value, "_claim_names")?;
                    self.claim_names.insert(name.name.into_owned(), source);
                }
            }
            other => return Err(field_error(other, "idToken", "_claim_names", "map[string]string")),
        }
        Ok(())
    }

    fn set_sources(&mut self, value: &[u8]) -> Result<(), String> {
        match json::kind(value) {
            Kind::Null => self.claim_sources.clear(),
            Kind::Object => {
                for source in json::members(value) {
                    check_source(source.value)?;
                    self.claim_sources.insert(source.name.into_owned());
                }
            }
            other => return Err(field_error(other, "idToken", "_claim_sources", "map[string]oidc.claimSource")),
        }
        Ok(())
    }
}

/// One entry of `_claim_sources` in go-oidc's eyes; it knows no `JWT`.
fn check_source(value: &[u8]) -> Result<(), String> {
    match json::kind(value) {
        Kind::Null => Ok(()),
        Kind::Object => {
            for member in json::members(value) {
                for tag in ["endpoint", "access_token"] {
                    if member.folds_to(tag) && !matches!(json::kind(member.value), Kind::String | Kind::Null) {
                        let field = format!("_claim_sources.{tag}");
                        return Err(field_error(json::kind(member.value), "claimSource", &field, "string"));
                    }
                }
            }
            Ok(())
        }
        other => Err(field_error(other, "idToken", "_claim_sources", "oidc.claimSource")),
    }
}

fn set_string(target: &mut String, value: &[u8], field: &str) -> Result<(), String> {
    match json::kind(value) {
        Kind::String => {
            *target = json::string(value).into_owned();
            Ok(())
        }
        Kind::Null => Ok(()),
        other => Err(field_error(other, "idToken", field, "string")),
    }
}

/// A string, or a list of strings. `null` is the list with one empty string, because go-oidc tries the string first.
fn audience(value: &[u8]) -> Result<Vec<String>, String> {
    match json::kind(value) {
        Kind::String => Ok(vec![json::string(value).into_owned()]),
        Kind::Null => Ok(vec![String::new()]),
        Kind::Array => string_list(value).map_err(|kind| field_error(kind, "idToken", "aud", "string")),
        other => Err(field_error(other, "idToken", "aud", "[]string")),
    }
}

/// A checked array's elements as strings, `null` as the empty one; the error is the kind of the first other element.
pub(crate) fn string_list(array: &[u8]) -> Result<Vec<String>, Kind> {
    json::elements(array)
        .into_iter()
        .map(|element| match json::kind(element) {
            Kind::String | Kind::Null => Ok(json::string(element).into_owned()),
            other => Err(other),
        })
        .collect()
}

fn time(value: &[u8], field: &str) -> Result<i64, String> {
    match json::kind(value) {
        kind @ (Kind::Bool | Kind::Array | Kind::Object) => Err(field_error(kind, "idToken", field, "json.Number")),
        Kind::Number | Kind::String | Kind::Null => number::unix_seconds(value),
    }
}

fn field_error(kind: Kind, structure: &str, field: &str, want: &str) -> String {
    format!("json: cannot unmarshal {} into Go struct field {structure}.{field} of type {want}", kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::json::Document;

    fn decode(payload: &str) -> Result<IdTokenClaims, String> {
        let Ok(Document::Object(members)) = json::parse(payload.as_bytes()) else { panic!("{payload}") };
        IdTokenClaims::decode(&members).map_err(|error| error.to_string())
    }

    #[test]
    fn later_members_win_in_any_case_and_null_leaves_strings_alone() {
        let claims = decode(r#"{"iss":"a","ISS":"b","Iss":null,"aud":"x","AUD":["y",null],"exp":1,"eXp":"2","nbf":5}"#);
        let claims = claims.expect("claims");
        assert_eq!((claims.issuer.as_str(), claims.expiry, claims.not_before), ("b", Some(2), Some(5)));
        assert_eq!(claims.audience, ["y", ""]);
        assert_eq!(decode(r#"{"nbf":5,"nbf":null}"#).expect("claims").not_before, None);
        assert_eq!(decode(r#"{"aud":null}"#).expect("claims").audience, [""]);
        assert_eq!(decode("{}").expect("claims"), IdTokenClaims::default());
    }

    #[test]
    fn wrong_types_are_refused_even_where_the_value_is_unused() {
        for (payload, want) in [
            (r#"{"sub":1}"#, "number into Go struct field idToken.sub of type string"),
            (r#"{"nonce":[]}"#, "array into Go struct field idToken.nonce of type string"),
            (r#"{"at_hash":{}}"#, "object into Go struct field idToken.at_hash of type string"),
            (r#"{"aud":1}"#, "number into Go struct field idToken.aud of type []string"),
            (r#"{"aud":["a",true]}"#, "bool into Go struct field idToken.aud of type string"),
            (r#"{"exp":true}"#, "bool into Go struct field idToken.exp of type json.Number"),
            (r#"{"exp":null}"#, r#"strconv.ParseFloat: parsing "": invalid syntax"#),
            (r#"{"iat":null}"#, r#"strconv.ParseFloat: parsing "": invalid syntax"#),
            (r#"{"iat":"x"}"#, "json: invalid number literal"),
            (r#"{"_claim_names":[]}"#, "array into Go struct field idToken._claim_names of type map[string]string"),
            (r#"{"_claim_names":{"a":1}}"#, "number into Go struct field idToken._claim_names of type string"),
            (
                r#"{"_claim_sources":{"a":"b"}}"#,
                "string into Go struct field idToken._claim_sources of type oidc.claimSource",
            ),
            (
                r#"{"_claim_sources":{"a":{"ENDPOINT":1}}}"#,
                "number into Go struct field claimSource._claim_sources.endpoint of type string",
            ),
        ] {
            let error = decode(payload).expect_err(payload);
            assert!(error.contains(want), "{payload}: {error}");
        }
        assert!(decode(r#"{"sub":null,"nonce":null,"nbf":null,"azp":1,"typ":[],"_claim_sources":{"a":null}}"#).is_ok());
    }

    #[test]
    fn of_several_wrong_types_that_which_go_names_is_named() {
        for (payload, want) in [
            (r#"{"sub":1,"nonce":[]}"#, "idToken.sub"),
            (r#"{"nonce":[],"sub":1}"#, "idToken.nonce"),
            (r#"{"sub":1,"AUD":true,"exp":[]}"#, "idToken.aud"),
            (r#"{"_claim_names":[],"sub":1,"nbf":{}}"#, "idToken.nbf"),
            (r#"{"exp":[],"sub":1}"#, "idToken.exp"),
        ] {
            let error = decode(payload).expect_err(payload);
            assert!(error.contains(want), "{payload}: {error}");
        }
    }

    #[test]
    fn sources_must_exist_and_repeated_objects_add_up() {
        let check = |payload: &str| decode(payload).expect("claims").check_sources();
        assert_eq!(check(r#"{"_claim_names":{"g":"s"}}"#), Err(VerifyError::UnknownSource));
        assert_eq!(check(r#"{"_claim_names":{"g":""}}"#), Err(VerifyError::EmptySource));
        assert_eq!(check(r#"{"_claim_names":{"g":null}}"#), Err(VerifyError::EmptySource));
        assert_eq!(check(r#"{"_claim_names":{"g":"s"},"_claim_sources":{"s":{}}}"#), Ok(()));
        assert_eq!(check(r#"{"_claim_names":{"g":"s"},"_claim_names":null}"#), Ok(()));
        assert_eq!(
            check(r#"{"_claim_names":{"g":"s"},"_claim_names":{"h":"t"},"_claim_sources":{"t":{}}}"#),
            Err(VerifyError::UnknownSource)
        );
        assert_eq!(check(r#"{"_claim_names":{"g":"s"},"_claim_sources":{"s":{}},"_Claim_Sources":{"t":{}}}"#), Ok(()));
    }
}
