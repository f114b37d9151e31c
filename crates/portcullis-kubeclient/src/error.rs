//! What can go wrong with a request to an API server, sorted by blame.

use portcullis_kube::Status;
use portcullis_runtime::http_client::{HttpClientError, HttpResponse};

/// Longest text of a server that is kept, in characters.
const WORDS: usize = 512;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Another writer: the object has another version or uid than the one that was named.
    #[error("the object was changed in the meantime")]
    Conflict,
    /// Another writer: the name is taken.
    #[error("the object exists already")]
    AlreadyExists,
    /// There is no such object.
    #[error("there is no such object")]
    NotFound,
    /// The cluster: it does not have the resource or the namespace.
    #[error("the cluster does not have it: {message}")]
    Missing {
        /// The server's words.
        message: String,
    },
    /// The cluster's operator: it does not know us.
    #[error("the API server does not accept our credential: {message}")]
    Unauthorized {
        /// The server's words.
        message: String,
    },
    /// The cluster's operator: we have no right to it.
    #[error("{message}")]
    Forbidden {
        /// The server's words, which name the verb and the resource.
        message: String,
    },
    /// Time: the list cannot be gone on with at its old version.
    #[error("the list's version is too old to go on with it")]
    Expired,
    /// Us: the server refuses the request as it is.
    #[error("the API server refuses the request ({code}): {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The server has too much to do, and said so until the deadline.
    #[error("the API server is throttling requests")]
    Throttled,
    /// The answer is larger than what is read.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The request was never sent.
    #[error("the API server cannot be reached: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The request was, or may have been, sent; what became of it is not known.
    #[error("the API server did not answer as it should: {reason}")]
    Lost {
        /// What came instead.
        reason: String,
    },
    /// The server has done what was asked for, and its answer cannot be read.
    #[error("the API server's answer cannot be read: {what}")]
    Unreadable {
        /// What is wrong with it; none of its content.
        what: String,
    },
}

impl ClientError {
    /// Whether a write that ended so may have taken effect, or may yet.
    #[must_use]
    pub const fn may_have_happened(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Unreadable { .. } | Self::TooLarge { .. })
    }

    /// Whether the same request may succeed later without anyone mending anything.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Throttled | Self::Unreachable { .. } | Self::Lost { .. })
    }

    /// A request that brought no answer.
    pub(crate) fn of_transport(error: &HttpClientError) -> Self {
        let reason = error.to_string();
        match error {
            HttpClientError::BodyTooLarge { limit, .. } => Self::TooLarge { limit: *limit },
            HttpClientError::Url { .. }
            | HttpClientError::Config(_)
            | HttpClientError::Proxy(_)
            | HttpClientError::Egress(_)
            | HttpClientError::Connect { .. }
            | HttpClientError::Tls { unknown_issuer: true, .. } => Self::Unreachable { reason },
            // A TLS alert can also come after the request went out.
            _ => Self::Lost { reason },
        }
    }

    /// An error that came in a stream.
    pub(crate) fn of_status(status: &Status) -> Self {
        let message: String =
            status.message.chars().take(WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
        match status.code {
            401 => Self::Unauthorized { message },
            403 => Self::Forbidden { message },
            410 => Self::Expired,
            429 => Self::Throttled,
            code => Self::Lost { reason: format!("{code}: {message}") },
        }
    }

    /// An answer that is no success. `plural` and `name` say what the request was about.
    pub(crate) fn of_response(response: &HttpResponse, plural: &str, name: Option<&str>) -> Self {
        let status: Option<Status> = serde_json::from_slice(&response.body).ok();
        let message = words(status.as_ref(), response);
        let reason = status.as_ref().map_or("", |status| status.reason.as_str());
        match response.status {
            401 => Self::Unauthorized { message },
            403 => Self::Forbidden { message },
            404 if is_about(status.as_ref(), plural, name) => Self::NotFound,
            404 => Self::Missing { message },
            409 if reason == "AlreadyExists" => Self::AlreadyExists,
            409 => Self::Conflict,
            410 => Self::Expired,
            429 => Self::Throttled,
            code @ 400..500 => Self::Refused { code, message },
            code => Self::Lost { reason: format!("{code}: {message}") },
        }
    }
}

/// Whether a 404 is about the object that was asked for, and not about its resource or its namespace.
fn is_about(status: Option<&Status>, plural: &str, name: Option<&str>) -> bool {
    status
        .and_then(|status| status.details.as_ref())
        .is_some_and(|details| name == Some(details.name.as_str()) && details.kind == plural)
}

/// The server's words on one line, and not more than it takes.
fn words(status: Option<&Status>, response: &HttpResponse) -> String {
    let text = status.filter(|status| !status.message.is_empty()).map_or_else(
        || String::from_utf8_lossy(response.body.get(..WORDS).unwrap_or(&response.body)).into_owned(),
        |status| status.message.clone(),
    );
    let line: String = text.chars().take(WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> HttpResponse {
        HttpResponse {
            status,
            headers: http::HeaderMap::new(),
            body: body.to_owned().into(),
            url: "https://x/".to_owned(),
        }
    }

    fn status(code: u16, reason: &str, details: &str) -> HttpResponse {
        let body = format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"words","reason":"{reason}","details":{details},"code":{code}}}"#
        );
        response(code, &body)
    }

    #[test]
    fn answers_are_sorted_by_blame() {
        let message = || "words".to_owned();
        let about = r#"{"name":"n","group":"example.com","kind":"widgets"}"#;
        for (response, error, happened) in [
            (status(401, "Unauthorized", "{}"), ClientError::Unauthorized { message: message() }, false),
            (status(403, "Forbidden", about), ClientError::Forbidden { message: message() }, false),
            (status(404, "NotFound", about), ClientError::NotFound, false),
            (status(404, "NotFound", "{}"), ClientError::Missing { message: message() }, false),
            (
                status(404, "NotFound", r#"{"name":"n","kind":"namespaces"}"#),
                ClientError::Missing { message: message() },
                false,
            ),
            (
                response(404, "404 page not found\n"),
                ClientError::Missing { message: "404 page not found".to_owned() },
                false,
            ),
            (status(409, "AlreadyExists", about), ClientError::AlreadyExists, false),
            (status(409, "Conflict", about), ClientError::Conflict, false),
            (status(410, "Expired", "{}"), ClientError::Expired, false),
            (status(422, "Invalid", "{}"), ClientError::Refused { code: 422, message: message() }, false),
            (status(429, "TooManyRequests", "{}"), ClientError::Throttled, false),
            (status(500, "InternalError", "{}"), ClientError::Lost { reason: "500: words".to_owned() }, true),
            (status(504, "Timeout", "{}"), ClientError::Lost { reason: "504: words".to_owned() }, true),
            (response(302, ""), ClientError::Lost { reason: "302: ".to_owned() }, true),
        ] {
            let found = ClientError::of_response(&response, "widgets", Some("n"));
            assert_eq!(found, error);
            assert_eq!(found.may_have_happened(), happened, "{found}");
        }
    }

    #[test]
    fn a_servers_words_are_one_line_of_bounded_length() {
        let long = format!("a\r\nb{}", "x".repeat(10_000));
        let ClientError::Refused { message, .. } = ClientError::of_response(&response(400, &long), "w", None) else {
            panic!("another error");
        };
        assert!(message.starts_with("a  bxxx") && message.len() <= WORDS, "{message}");
    }

    #[test]
    fn what_was_never_sent_cannot_have_happened() {
        let url = || "https://x/".to_owned();
        let reason = || "r".to_owned();
        for (error, happened) in [
            (HttpClientError::Connect { url: url(), reason: reason() }, false),
            (HttpClientError::Tls { url: url(), reason: reason(), unknown_issuer: true }, false),
            (HttpClientError::Tls { url: url(), reason: reason(), unknown_issuer: false }, true),
            (HttpClientError::Timeout { url: url() }, true),
            (HttpClientError::Broken { url: url(), reason: reason() }, true),
            (HttpClientError::BodyTooLarge { url: url(), limit: 1 }, true),
            (HttpClientError::Config(reason()), false),
        ] {
            assert_eq!(ClientError::of_transport(&error).may_have_happened(), happened, "{error}");
        }
    }
}
