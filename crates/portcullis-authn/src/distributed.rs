//! Distributed claims (OpenID Connect Core 1.0 section 5.6.2) for the groups claim.
//!
//! Everything that can be told from the token is told as upstream tells it. Where kube-apiserver would then ask the
//! endpoint that the token names, this authenticator refuses the token and says so: a signed token must not make it call
//! arbitrary hosts, and groups that are silently missing could lift a restriction.
//!
//! Compat: `claimResolver.expand` of `oidc.go` in `k8s.io/apiserver` v0.37.

use std::collections::BTreeMap;

use crate::error::DistributedError;
use crate::go::json::{self, Kind, Member};

/// Decides whether `claim` has to be fetched; a claim that is present, or that nobody distributes, is fine.
pub(crate) fn expand(claim: &str, members: &[Member<'_>]) -> Result<(), DistributedError> {
    if json::last(members, claim).is_some() {
        return Ok(());
    }
    let Some(names) = json::last(members, "_claim_names") else { return Ok(()) };
    let names = claim_names(names)?;
    let Some(sources) = json::last(members, "_claim_sources") else { return Err(DistributedError::NoSources) };
    let sources = claim_sources(sources)?;
    let Some(source) = names.get(claim) else { return Ok(()) };
    match sources.get(source) {
        None => Err(DistributedError::MissingSource(source.clone())),
        // An aggregated claim, which upstream ignores.
        Some(endpoint) if endpoint.is_empty() => Ok(()),
        Some(endpoint) => Err(DistributedError::NotFetched { claim: claim.to_owned(), endpoint: endpoint.clone() }),
    }
}

fn claim_names(value: &[u8]) -> Result<BTreeMap<String, String>, DistributedError> {
    let fail = |kind: Kind, want: &str| DistributedError::Names(type_error(kind, want));
    match json::kind(value) {
        Kind::Null => Ok(BTreeMap::new()),
        Kind::Object => json::members(value)
            .into_iter()
            .map(|member| match json::kind(member.value) {
                Kind::String | Kind::Null => Ok((member.name.into_owned(), json::string(member.value).into_owned())),
                other => Err(fail(other, "string")),
            })
            .collect(),
        other => Err(fail(other, "map[string]string")),
    }
}

/// The endpoint of each source. `access_token` and `JWT` must be strings as well.
fn claim_sources(value: &[u8]) -> Result<BTreeMap<String, String>, DistributedError> {
    let fail = |text: String| DistributedError::Sources(text);
    match json::kind(value) {
        Kind::Null => Ok(BTreeMap::new()),
        Kind::Object => json::members(value)
            .into_iter()
            .map(|source| Ok((source.name.into_owned(), endpoint(source.value).map_err(fail)?)))
            .collect(),
        other => Err(fail(type_error(other, "map[string]oidc.endpoint"))),
    }
}

fn endpoint(value: &[u8]) -> Result<String, String> {
    let mut endpoint = String::new();
    match json::kind(value) {
        Kind::Null => {}
        Kind::Object => {
            for member in json::members(value) {
                for tag in ["endpoint", "access_token", "JWT"] {
                    match json::kind(member.value) {
                        _ if !member.folds_to(tag) => {}
                        Kind::String if tag == "endpoint" => endpoint = json::string(member.value).into_owned(),
                        Kind::String | Kind::Null => {}
                        other => {
                            let kind = other.name();
                            return Err(format!(
                                "json: cannot unmarshal {kind} into Go struct field endpoint.{tag} of type string"
                            ));
                        }
                    }
                }
            }
        }
        other => return Err(type_error(other, "oidc.endpoint")),
    }
    Ok(endpoint)
}

fn type_error(kind: Kind, want: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {want}", kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::json::Document;

    fn groups(payload: &str) -> Result<(), String> {
        let Ok(Document::Object(members)) = json::parse(payload.as_bytes()) else { panic!("{payload}") };
        expand("groups", &members).map_err(|error| error.to_string())
    }

    #[test]
    fn what_needs_no_fetch_is_decided_as_upstream_does() {
        for fine in [
            "{}",
            r#"{"groups":[],"_claim_names":{"groups":"s"}}"#,
            r#"{"_claim_names":{"other":"s"},"_claim_sources":{"s":{"endpoint":"https://x"}}}"#,
            r#"{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"JWT":"a.b.c"}}}"#,
            r#"{"_claim_names":{"groups":"s"},"_claim_sources":{"s":null}}"#,
            r#"{"_claim_names":null,"_claim_sources":null}"#,
        ] {
            assert_eq!(groups(fine), Ok(()), "{fine}");
        }
        for (payload, want) in [
            (r#"{"_claim_names":{}}"#, "oidc: no claim sources"),
            (r#"{"_claim_names":null}"#, "oidc: no claim sources"),
            (
                r#"{"_claim_names":[]}"#,
                "oidc: error parsing distributed claim names: json: cannot unmarshal array into Go value of type map[string]string",
            ),
            (
                r#"{"_claim_names":{"groups":"s"},"_claim_sources":{"t":{}}}"#,
                "id token _claim_names contained a source s missing in _claims_sources",
            ),
            (
                r#"{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"jwt":1}}}"#,
                "oidc: could not parse claim sources: json: cannot unmarshal number into Go struct field endpoint.JWT of type string",
            ),
        ] {
            assert_eq!(groups(payload), Err(want.to_owned()), "{payload}");
        }
    }

    #[test]
    fn a_claim_that_must_be_fetched_is_a_clear_refusal() {
        let payload = r#"{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"Endpoint":"https://graph.example","access_token":"t"}}}"#;
        assert_eq!(
            groups(payload),
            Err(r#"while getting distributed claim "groups": this authenticator does not fetch claims from "https://graph.example""#.into())
        );
    }
}
