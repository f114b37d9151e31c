//! One GET to a claims endpoint: bounded in size, time, redirects and number, and shared by those who ask the same.
//!
//! The access token goes with a redirect only as far as Go's client lets it: to the host of the endpoint and to names
//! below it, and not again once it was left out. A redirect from https to http is refused.
//!
//! A burst of requests with one token makes one GET, as upstream, whose token cache asks once for all who wait. Nothing
//! is remembered beyond that.
//!
//! Compat: `getClaimJWT` of `oidc.go` in `k8s.io/apiserver` v0.37 over Go's `net/http` client: ten requests at most, a
//! redirect without a place is an answer, any status from 200 to 226 will do.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use portcullis_kube::go::quote;
use portcullis_runtime::http_client::{HttpClient, HttpClientError, HttpResponse};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout_at};
use url::Url;
use zeroize::Zeroizing;

use crate::config::ValidConfig;
use crate::go::url as go_url;
use crate::keys::{Network, http_config};

use super::error::ClaimFetchError;
use super::{Reach, Source, shown_text, shown_url};

/// Largest answer of an endpoint, in bytes: a token with tens of thousands of groups.
pub(super) const MAX_RESPONSE_BYTES: usize = 2 * 1024 * 1024;
/// Most requests at a time for one configured issuer; further ones wait, within their time.
const MAX_FETCHES: usize = 64;
/// Most requests for one answer: Go follows nine redirects and stops at the tenth.
const MAX_REQUESTS: usize = 10;

/// Go's word for a time that has run out.
pub(super) const TOO_LATE: &str = "context deadline exceeded";

type Outcome = Result<Arc<str>, ClaimFetchError>;

/// Asks claims endpoints.
pub(super) struct Fetcher {
    http: HttpClient,
    reach: Reach,
    slots: Semaphore,
    flights: Flights,
}

impl Fetcher {
    pub(super) fn new(config: &ValidConfig, reach: Reach, network: &Network) -> Result<Self, HttpClientError> {
        let mut settings = http_config(config, network);
        settings.max_body = MAX_RESPONSE_BYTES;
        // Followed here, because who may see the access token is decided here.
        settings.max_redirects = 0;
        let http = HttpClient::new(settings)?;
        Ok(Self { http, reach, slots: Semaphore::new(MAX_FETCHES), flights: Flights::default() })
    }

    /// Where claims may be fetched from.
    pub(super) const fn reach(&self) -> &Reach {
        &self.reach
    }

    /// The token that `source` gives, by `deadline`.
    pub(super) async fn get(&self, source: &Source, deadline: Instant) -> Outcome {
        let joined = self.flights.join(source);
        let answer = joined.flight.outcome.get_or_init(|| self.fetch(source, deadline));
        // Whoever waits for another one's request that was given up asks anew, but has no more time than before.
        timeout_at(deadline, answer).await.map_or_else(|_| Err(too_late(source)), Clone::clone)
    }

    async fn fetch(&self, source: &Source, deadline: Instant) -> Outcome {
        timeout_at(deadline, self.follow(source)).await.unwrap_or_else(|_| Err(too_late(source)))
    }

    async fn follow(&self, source: &Source) -> Outcome {
        let endpoint = parse(&source.endpoint)?;
        let mut bearer = bearer(source)?;
        // Never closed, so this only waits.
        let _slot = self.slots.acquire().await;
        let mut url = endpoint.clone();
        for _ in 0..MAX_REQUESTS {
            if !self.reach.allows(&url) {
                return Err(ClaimFetchError::OutOfReach { endpoint: shown_url(url.as_str()) });
            }
            if bearer.is_some() {
                // Compat: Go derives Basic authentication from the URL only where there is no other.
                let _ = url.set_username("");
                let _ = url.set_password(None);
            }
            let header = bearer.as_ref().map(|token| [("authorization", token.as_str())]);
            let headers: &[_] = header.as_ref().map_or(&[], |header| header);
            let response = self.http.get(url.as_str(), headers).await.map_err(|error| failed(&url, source, error))?;
            let Some(next) = redirect(&url, &response)? else { return text(&response) };
            if !may_see(&endpoint, &next) {
                bearer = None;
            }
            url = next;
        }
        Err(request_error(url.as_str(), "stopped after 10 redirects"))
    }
}

/// The endpoint as a URL that can be asked.
fn parse(endpoint: &str) -> Result<Url, ClaimFetchError> {
    let parsed = go_url::parse(endpoint).map_err(|_| {
        let endpoint = shown_url(endpoint);
        let unspecific = || format!("parse {}: invalid URL", quote(&endpoint));
        let reason = go_url::parse(&endpoint).err().unwrap_or_else(unspecific);
        ClaimFetchError::Url { endpoint, reason }
    })?;
    if !matches!(parsed.scheme.as_str(), "http" | "https") {
        let reason = format!("unsupported protocol scheme {}", quote(&parsed.scheme));
        return Err(request_error(endpoint, &reason));
    }
    // The URL standard repairs what Go refuses here.
    let host = endpoint.get(parsed.scheme.len() + 1..).and_then(|rest| rest.strip_prefix("//")).unwrap_or_default();
    if host.is_empty() || host.starts_with(['/', '?', '#', '\\']) {
        return Err(request_error(endpoint, "http: no Host in request URL"));
    }
    Url::parse(endpoint).map_err(|error| request_error(endpoint, &error.to_string()))
}

/// The value of `Authorization`, if any.
fn bearer(source: &Source) -> Result<Option<Zeroizing<String>>, ClaimFetchError> {
    let token = source.access_token.expose();
    if token.is_empty() {
        return Ok(None);
    }
    if token.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        let reason = r#"net/http: invalid header field value for "Authorization""#;
        return Err(request_error(&source.endpoint, reason));
    }
    Ok(Some(Zeroizing::new(format!("Bearer {token}"))))
}

/// Where `response` sends us; `None` when it is the answer.
fn redirect(from: &Url, response: &HttpResponse) -> Result<Option<Url>, ClaimFetchError> {
    if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(place) = response.header("location").filter(|place| !place.is_empty()) else { return Ok(None) };
    let next = from.join(place).map_err(|error| {
        request_error(from.as_str(), &format!("failed to parse Location header {}: {error}", quote(&shown_url(place))))
    })?;
    if from.scheme() == "https" && next.scheme() != "https" {
        let reason = format!("refused to follow a redirect from https to {}", shown_url(next.as_str()));
        return Err(request_error(from.as_str(), &reason));
    }
    Ok(Some(next))
}

/// Whether the access token for `first` may be shown to `next`. Compat: `shouldCopyHeaderOnRedirect` of Go 1.26.
fn may_see(first: &Url, next: &Url) -> bool {
    let (Some(parent), Some(host)) = (first.host_str(), next.host_str()) else { return false };
    let below = matches!(next.host(), Some(url::Host::Domain(_)))
        && host.strip_suffix(parent).is_some_and(|name| name.ends_with('.'));
    host == parent || below
}

fn text(response: &HttpResponse) -> Outcome {
    match response.status {
        200..=226 => Ok(String::from_utf8_lossy(&response.body).into()),
        other => Err(ClaimFetchError::Status(other)),
    }
}

fn failed(url: &Url, source: &Source, error: HttpClientError) -> ClaimFetchError {
    let reason = match error {
        HttpClientError::BodyTooLarge { limit, .. } => return ClaimFetchError::TooLarge { limit },
        HttpClientError::Timeout { .. } => TOO_LATE.to_owned(),
        HttpClientError::Tls { reason, .. } => format!("tls: {reason}"),
        HttpClientError::Connect { reason, .. } => format!("cannot connect: {reason}"),
        HttpClientError::Url { reason, .. }
        | HttpClientError::Redirect { reason, .. }
        | HttpClientError::Broken { reason, .. } => reason,
        other => other.to_string(),
    };
    // The first request is shown as the token spells it.
    let first = Url::parse(&source.endpoint).is_ok_and(|endpoint| endpoint == *url);
    request_error(if first { &source.endpoint } else { url.as_str() }, &reason)
}

fn too_late(source: &Source) -> ClaimFetchError {
    request_error(&source.endpoint, TOO_LATE)
}

fn request_error(url: &str, reason: &str) -> ClaimFetchError {
    ClaimFetchError::Request { endpoint: shown_url(url), reason: shown_text(reason) }
}

/// The requests under way.
#[derive(Default)]
struct Flights {
    hasher: RandomState,
    by_source: Mutex<HashMap<u64, Weak<Flight>>>,
}

struct Flight {
    source: Source,
    outcome: OnceCell<Outcome>,
}

/// A place among those who wait for a flight; the last one to leave takes it out.
struct Joined<'a> {
    flights: &'a Flights,
    key: u64,
    flight: Arc<Flight>,
}

impl Flights {
    /// Joins the flight to the same endpoint with the same access token, or begins one.
    fn join(&self, source: &Source) -> Joined<'_> {
        let key = self.hasher.hash_one((&source.endpoint, source.access_token.expose()));
        let mut by_source = self.by_source();
        let flight = match by_source.get(&key).and_then(Weak::upgrade) {
            // Compared in constant time, as a token is part of it.
            Some(flight) if flight.source == *source => flight,
            other => {
                let flight = Arc::new(Flight { source: source.clone(), outcome: OnceCell::new() });
                // Two sources with one hash: the second flies alone.
                if other.is_none() {
                    by_source.insert(key, Arc::downgrade(&flight));
                }
                flight
            }
        };
        Joined { flights: self, key, flight }
    }

    fn by_source(&self) -> MutexGuard<'_, HashMap<u64, Weak<Flight>>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        let mut by_source = self.flights.by_source();
        let ours = by_source.get(&self.key).is_some_and(|flight| flight.as_ptr() == Arc::as_ptr(&self.flight));
        if ours && Arc::strong_count(&self.flight) == 1 {
            by_source.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_runtime::Secret;
    use proptest::prelude::*;

    use super::*;

    fn source(endpoint: &str, token: &str) -> Source {
        Source { endpoint: endpoint.to_owned(), access_token: Secret::new(token) }
    }

    #[test]
    fn endpoints_are_urls_with_a_host_and_a_scheme_that_can_be_asked() {
        for good in ["https://a.example", "http://127.0.0.1:1/x?y", "HTTPS://A", "https://u:p@a.example/"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for (endpoint, want) in [
            ("ftp://a/b", r#"Get "ftp://a/b": unsupported protocol scheme "ftp""#),
            ("groups", r#"Get "groups": unsupported protocol scheme """#),
            ("https:///x", r#"Get "https:///x": http: no Host in request URL"#),
            ("https:x", r#"Get "https:x": http: no Host in request URL"#),
            ("https://?x", r#"Get "https://": http: no Host in request URL"#),
            ("https://a:b", r#"while calling https://a:b: parse "https://a:b": invalid port ":b" after host"#),
            ("https://a/%zz", r#"while calling https://a/%zz: parse "https://a/%zz": invalid URL escape "%zz""#),
            ("https://u\u{1}:secret@a/", r#"while calling https://a/: parse "https://a/": invalid URL"#),
        ] {
            assert_eq!(parse(endpoint).map_err(|error| error.to_string()), Err(want.to_owned()));
        }
    }

    #[test]
    fn an_access_token_that_no_header_can_carry_is_not_sent_and_not_shown() {
        assert_eq!(bearer(&source("https://a", "")), Ok(None));
        let sent = bearer(&source("https://a", "tökén\t~")).expect("fine").expect("a header");
        assert_eq!(sent.as_str(), "Bearer tökén\t~");
        let error = bearer(&source("https://a", "hunter2\r\nX: y")).expect_err("refused").to_string();
        assert_eq!(error, r#"Get "https://a": net/http: invalid header field value for "Authorization""#);
    }

    #[test]
    fn the_access_token_is_for_the_host_and_what_is_below_it() {
        let first = Url::parse("https://a.example:1/x").expect("a URL");
        for (next, want) in [
            ("https://a.example:2/y", true),
            ("https://b.a.example/", true),
            ("https://ba.example/", false),
            ("https://example/", false),
            ("https://evil.example/", false),
            ("https://127.0.0.1/", false),
        ] {
            assert_eq!(may_see(&first, &Url::parse(next).expect("a URL")), want, "{next}");
        }
        let address = Url::parse("https://1.1.1.1/").expect("a URL");
        assert!(may_see(&address, &address));
        assert!(!may_see(&address, &Url::parse("https://x.1.1.1.1.example/").expect("a URL")));
    }

    #[test]
    fn the_same_question_shares_a_flight_and_nothing_stays_behind() {
        let flights = Flights::default();
        let first = flights.join(&source("https://a", "t"));
        let same = flights.join(&source("https://a", "t"));
        let other = flights.join(&source("https://a", "u"));
        assert!(Arc::ptr_eq(&first.flight, &same.flight) && !Arc::ptr_eq(&first.flight, &other.flight));
        assert_eq!(flights.by_source().len(), 2);
        drop((first, other));
        assert_eq!(flights.by_source().len(), 1, "somebody still waits");
        drop(same);
        assert!(flights.by_source().is_empty());
    }

    proptest! {
        #[test]
        fn no_endpoint_is_shown_with_its_secrets(
            scheme in "(https|http|ftp|HTTPS|)",
            user in "[^/?#]{0,8}",
            host in "[^/?#]{0,12}",
            path in "[^?#]{0,12}",
        ) {
            let endpoint = format!("{scheme}://{user}:hunter2@{host}/{path}?hunter3#hunter4");
            let shown = shown_url(&endpoint);
            prop_assert!(!shown.contains("hunter"), "{shown}");
            match parse(&endpoint) {
                Err(error) => prop_assert!(!error.to_string().contains("hunter"), "{error}"),
                Ok(url) => {
                    let error = failed(&url, &source(&endpoint, ""), HttpClientError::Timeout { url: url.to_string() });
                    prop_assert!(!error.to_string().contains("hunter"), "{error}");
                }
            }
        }

        #[test]
        fn any_endpoint_is_a_url_or_refused(endpoint in "(https?:)?(//)?\\PC{0,60}") {
            let _ = parse(&endpoint);
        }
    }
}
