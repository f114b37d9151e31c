//! One fetch of a key set over HTTP.

use std::time::Duration;

use portcullis_jose::{JoseError, JwkSet};
use portcullis_runtime::{
    Timestamp,
    http_client::{HttpClient, HttpClientError},
};

use super::{
    cache_control::fresh_for,
    discovery::{body_start, content_type_text, status_text},
    jwks_cache::{JwksOptions, JwksPolicy},
};
use crate::quote::bounded;

/// Why a key set could not be fetched. The texts are go-oidc's as kube-apiserver prints them, with bounded bodies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksFetchError {
    /// The request failed.
    #[error("oidc: get keys failed {0}")]
    Http(HttpClientError),
    /// The answer was not 200.
    #[error("oidc: get keys failed: {} {body}", status_text(*status))]
    Status {
        /// The status code.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// The body is no key set, or one with a key that makes the whole set unusable.
    #[error("oidc: failed to decode keys: {}", content_type_text(content_type, &reason.to_string()))]
    Decode {
        /// The Content-Type of the answer, cut to 64 characters.
        content_type: String,
        /// What is wrong with the set.
        reason: JoseError,
    },
    /// The fetching task was torn down, as happens when the runtime shuts down.
    #[error("oidc: get keys failed: interrupted")]
    Interrupted,
}

/// A fetched set, and how long its headers call it fresh.
pub(super) struct Fetched {
    pub(super) keys: JwkSet,
    pub(super) fresh_for: Option<Duration>,
}

pub(super) async fn fetch(
    http: &HttpClient,
    uri: &str,
    options: &JwksOptions,
    now: Timestamp,
) -> Result<Fetched, JwksFetchError> {
    let headers: &[_] = match options.policy {
        JwksPolicy::Faithful => &[],
        JwksPolicy::Limited { .. } => &[("cache-control", "no-cache")],
    };
    let response = http.get(uri, headers).await.map_err(JwksFetchError::Http)?;
    if response.status != 200 {
        return Err(JwksFetchError::Status { status: response.status, body: body_start(&response.body) });
    }
    let keys = JwkSet::parse(&response.body, options.unknown_keys, &options.limits).map_err(|reason| {
        let content_type = bounded(response.header("content-type").unwrap_or_default(), 64);
        JwksFetchError::Decode { content_type, reason }
    })?;
    if keys.skipped() > 0 {
        tracing::debug!(uri, skipped = keys.skipped(), "key set has keys that cannot be used");
    }
    Ok(Fetched { keys: keys.with_hints(options.key_hints), fresh_for: fresh_for(&response.headers, now) })
}
