//! Distributed claims (OpenID Connect Core 1.0 section 5.6.2) for the groups claim.
//!
//! Flow: [`wanted`] tells from the verified token whether the groups are to be had elsewhere, and where → [`Resolver`]
//! asks that endpoint ([`fetch`]) → the token that comes back names its own issuer, whose keys are found in the
//! background ([`verifiers`]) → the same checks as for any token → the claim's value goes where it would have been.
//!
//! The endpoint is whatever host a signed token names, as kube-apiserver has it; [`DistributedClaims::FetchFrom`], which
//! the strict policy comes to by itself, keeps to known hosts, and [`DistributedClaims::Refuse`] asks nobody (SSRF). What comes back is a stranger's: it is bounded in size and
//! time, and nothing of it counts before its signature. The access token goes to the endpoint and nowhere else: it is in
//! no log and no error, and neither is the query of the endpoint's URL, where some put tokens.
//!
//! Compat: `claimResolver` of `oidc.go` in `k8s.io/apiserver` v0.37. Only the groups claim is ever resolved, a claim that
//! is present wins, aggregated claims are ignored.

mod error;
mod fetch;
mod hosts;
mod resolver;
mod verifiers;

use std::collections::BTreeMap;

use portcullis_runtime::Secret;

use crate::go::json::{self, Kind, Member};

pub use error::{ClaimFetchError, DistributedError};
pub(crate) use hosts::Reach;
pub use hosts::{ClaimHostError, ClaimHosts};
pub(crate) use resolver::{Resolved, Resolver};

/// Longest endpoint or issuer that an error shows, in characters.
const SHOWN_CHARS: usize = 512;

/// What happens to a token that says that its groups are to be had from an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DistributedClaims {
    /// The endpoint is asked, whatever its host, as kube-apiserver does; under [`crate::Policy::Strict`] only at the
    /// issuer's own hosts, as with an empty [`DistributedClaims::FetchFrom`]. [`crate::Network::egress`] still applies.
    #[default]
    Fetch,
    /// The endpoint is asked when it, every redirect, and the issuer of what it answers are https at the issuer's own hosts
    /// (those of its URL and of `discoveryURL`) or at these. Any other token is refused.
    FetchFrom(ClaimHosts),
    /// The token is refused, and the refusal says why: a user without the groups that the issuer meant could be one whom
    /// nothing restricts.
    Refuse,
}

/// Where a claim is to be had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Source {
    endpoint: String,
    /// Empty: none.
    access_token: Secret,
}

impl Source {
    /// The endpoint as errors may show it.
    pub(crate) fn shown(&self) -> String {
        shown_url(&self.endpoint)
    }
}

/// Where `claim` has to be fetched; `None` for a claim that is present, or that nobody distributes.
pub(crate) fn wanted(claim: &str, members: &[Member<'_>]) -> Result<Option<Source>, DistributedError> {
    if json::last(members, claim).is_some() {
        return Ok(None);
    }
    let Some(names) = json::last(members, "_claim_names") else { return Ok(None) };
    let names = claim_names(names)?;
    let Some(sources) = json::last(members, "_claim_sources") else { return Err(DistributedError::NoSources) };
    let mut sources = claim_sources(sources)?;
    let Some(name) = names.get(claim) else { return Ok(None) };
    match sources.remove(name) {
        None => Err(DistributedError::MissingSource(name.clone())),
        // An aggregated claim, which upstream ignores.
        Some(source) if source.endpoint.is_empty() => Ok(None),
        Some(source) => Ok(Some(source)),
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

fn claim_sources(value: &[u8]) -> Result<BTreeMap<String, Source>, DistributedError> {
    let fail = |text: String| DistributedError::Sources(text);
    match json::kind(value) {
        Kind::Null => Ok(BTreeMap::new()),
        Kind::Object => json::members(value)
            .into_iter()
            .map(|member| Ok((member.name.into_owned(), source(member.value).map_err(fail)?)))
            .collect(),
        other => Err(fail(type_error(other, "map[string]oidc.endpoint"))),
    }
}

/// One source. `JWT` must be a string as well, although nobody reads it.
fn source(value: &[u8]) -> Result<Source, String> {
    let mut source = Source::default();
    match json::kind(value) {
        Kind::Null => {}
        Kind::Object => {
            for member in json::members(value) {
                for tag in ["endpoint", "access_token", "JWT"] {
                    if !member.folds_to(tag) {
                        continue;
                    }
                    match (json::kind(member.value), tag) {
                        (Kind::String, "endpoint") => source.endpoint = json::string(member.value).into_owned(),
                        (Kind::String, "access_token") => source.access_token = Secret::new(json::string(member.value)),
                        (Kind::String | Kind::Null, _) => {}
                        (other, _) => {
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
    Ok(source)
}

fn type_error(kind: Kind, want: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {want}", kind.name())
}

/// A URL as errors may show it: no user, password, query or fragment, and not without end.
fn shown_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let without_user = match url.split_once("//") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}//{host}{path}")
        }
        None => url.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    shown_text(&without_user)
}

/// A stranger's text as errors may show it: no control characters, and not without end.
fn shown_text(text: &str) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS + 1).collect();
    if let Some((cut, _)) = shown.char_indices().nth(SHOWN_CHARS) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::json::Document;

    fn groups(payload: &str) -> Result<Option<Source>, String> {
        let Ok(Document::Object(members)) = json::parse(payload.as_bytes()) else { panic!("{payload}") };
        wanted("groups", &members).map_err(|error| error.to_string())
    }

    #[test]
    fn what_needs_no_fetch_is_decided_as_upstream_does() {
        for fine in [
            "{}",
            r#"{"groups":[],"_claim_names":{"groups":"s"}}"#,
            r#"{"groups":null,"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"endpoint":"https://x"}}}"#,
            r#"{"_claim_names":{"other":"s"},"_claim_sources":{"s":{"endpoint":"https://x"}}}"#,
            r#"{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"JWT":"a.b.c"}}}"#,
            r#"{"_claim_names":{"groups":"s"},"_claim_sources":{"s":null}}"#,
            r#"{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"endpoint":"https://x"},"s":{}}}"#,
            r#"{"_claim_names":null,"_claim_sources":null}"#,
        ] {
            assert_eq!(groups(fine), Ok(None), "{fine}");
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
    fn a_source_is_read_as_go_reads_it_and_never_shows_its_token() {
        let payload = r#"{"_claim_names":{"groups":"s"},"_claim_sources":{"s":{"Endpoint":"https://a","ENDPOINT":"https://graph.example/x","endpoint":null,"Access_Token":"hunter2"}}}"#;
        let source = groups(payload).expect("fine").expect("to be fetched");
        assert_eq!((source.endpoint.as_str(), source.access_token.expose()), ("https://graph.example/x", "hunter2"));
        assert!(!format!("{source:?}").contains("hunter2"));
    }

    #[test]
    fn shown_urls_have_no_secrets_and_an_end() {
        for (url, want) in [
            ("https://a.example/groups", "https://a.example/groups"),
            ("https://a.example:1/g?access_token=x#y", "https://a.example:1/g"),
            ("https://u:p@a.example/g@h", "https://a.example/g@h"),
            ("https://u:p@ss@a.example?x", "https://a.example"),
            ("https:u:p@a.example", "a.example"),
            ("https://a\r\nb", "https://ab"),
            ("", ""),
        ] {
            assert_eq!(shown_url(url), want, "{url}");
        }
        assert_eq!(shown_url(&format!("https://a/{}", "é".repeat(600))).chars().count(), SHOWN_CHARS + 1);
        assert_eq!(shown_text(&"é".repeat(512)), "é".repeat(512));
    }
}
