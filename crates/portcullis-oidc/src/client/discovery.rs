//! Fetching the discovery document (OpenID Connect Discovery 1.0 section 4).
//!
//! The document must come with status 200, be JSON, and name exactly the issuer that was asked: that check is what keeps
//! one issuer from speaking for another (mix-up).

use portcullis_runtime::http_client::{HttpClient, HttpClientError};

use crate::{
    DiscoveryDocument, json,
    quote::{bounded, go_quote},
};

/// How discovery may depart from the plain case.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryOptions {
    /// Fetch the document from here instead of from below the issuer (structured authentication's `discoveryURL`). The
    /// issuer in it must still be the one that was asked.
    pub document_url: Option<String>,
}

/// Why there is no discovery document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The request failed.
    #[error(transparent)]
    Http(#[from] HttpClientError),
    /// The answer was not 200. Compat: go-oidc prints status and body, the body here cut to 256 characters.
    #[error("{}: {body}", status_text(*status))]
    Status {
        /// The status code.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// The body is not a discovery document. Compat: go-oidc.
    #[error("oidc: failed to decode provider discovery object: {}", content_type_text(content_type, reason))]
    Json {
        /// The Content-Type of the answer, cut to 64 characters.
        content_type: String,
        /// What the JSON reader said.
        reason: String,
    },
    /// The document speaks for another issuer. Compat: go-oidc 3.
    #[error(
        "oidc: issuer URL provided to client ({}) did not match the issuer URL returned by provider ({})",
        go_quote(expected),
        go_quote(got)
    )]
    IssuerMismatch {
        /// The issuer that was asked.
        expected: String,
        /// The issuer in the document, cut to 512 characters.
        got: String,
    },
}

/// Fetches and checks the document of `issuer`.
///
/// # Errors
/// [`DiscoveryError`].
pub async fn discover(
    http: &HttpClient,
    issuer: &str,
    options: &DiscoveryOptions,
) -> Result<DiscoveryDocument, DiscoveryError> {
    let below_issuer = DiscoveryDocument::url(issuer);
    let response = http.get(options.document_url.as_deref().unwrap_or(&below_issuer), &[]).await?;
    if response.status != 200 {
        return Err(DiscoveryError::Status { status: response.status, body: body_start(&response.body) });
    }
    read_discovery(issuer, response.header("content-type").unwrap_or_default(), &response.body)
}

/// Reads and checks a document that was fetched from `issuer`.
///
/// # Errors
/// [`DiscoveryError::Json`], [`DiscoveryError::IssuerMismatch`].
pub fn read_discovery(issuer: &str, content_type: &str, body: &[u8]) -> Result<DiscoveryDocument, DiscoveryError> {
    let document: DiscoveryDocument = json::object(body).map_err(|error| DiscoveryError::Json {
        content_type: bounded(content_type, 64),
        reason: bounded(&error.to_string(), 256),
    })?;
    if document.issuer != issuer {
        return Err(DiscoveryError::IssuerMismatch {
            expected: issuer.to_owned(),
            got: bounded(&document.issuer, 512),
        });
    }
    Ok(document)
}

/// A status as Go prints it: `404 Not Found`.
pub(super) fn status_text(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
}

/// The first 256 characters of a body that went wrong.
pub(super) fn body_start(body: &[u8]) -> String {
    bounded(&String::from_utf8_lossy(body.get(..2048).unwrap_or(body)), 256)
}

pub(super) fn content_type_text(content_type: &str, reason: &str) -> String {
    if content_type.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
        format!("got Content-Type = application/json, but could not unmarshal as JSON: {reason}")
    } else {
        format!("expected Content-Type = application/json, got {}: {reason}", go_quote(content_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_go_oidc() {
        let status = DiscoveryError::Status { status: 500, body: "oops".into() };
        assert_eq!(status.to_string(), "500 Internal Server Error: oops");
        assert_eq!(DiscoveryError::Status { status: 599, body: String::new() }.to_string(), "599: ");
        let html = DiscoveryError::Json { content_type: "text/html".into(), reason: "x".into() };
        assert_eq!(
            html.to_string(),
            "oidc: failed to decode provider discovery object: expected Content-Type = application/json, got \"text/html\": x"
        );
        let mismatch = DiscoveryError::IssuerMismatch { expected: "https://a".into(), got: "https://a/".into() };
        assert_eq!(
            mismatch.to_string(),
            "oidc: issuer URL provided to client (\"https://a\") did not match the issuer URL returned by provider (\"https://a/\")"
        );
    }
}
