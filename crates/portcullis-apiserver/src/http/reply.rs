//! Answers: prepared bytes or a stream, with the headers that the real server sends.

use std::collections::HashSet;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WARNING, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use portcullis_kube::Status;
use serde::Serialize;
use serde_json::Value;

use super::negotiate::Encoding;
use crate::json;
use crate::streams::Session;

/// Characters of all warnings of one answer before each is cut.
const WARNINGS_CHARACTERS: usize = 4 * 1024;
/// Characters of a warning that is cut.
const WARNING_CHARACTERS: usize = 256;

/// Pieces of a watch.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

pub(crate) enum Payload {
    Whole(Bytes),
    Pieces(Pieces),
    /// What runs on the connection after a 101.
    Upgrade(Session),
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    /// For the audit log: the object that the answer is.
    pub(crate) object: Option<Logged>,
    /// What the `Warning` headers say.
    warnings: Vec<String>,
}

/// An object of the API as it is answered, in compact JSON.
pub(crate) struct Logged {
    pub(crate) json: Bytes,
    /// What it says, when it is a `Status`.
    pub(crate) status: Option<Box<Status>>,
}

impl Reply {
    fn new(status: StatusCode, content_type: &'static str, payload: Payload) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, payload, object: None, warnings: Vec::new() }
    }

    /// Status and headers, and no body.
    pub(crate) const fn empty(status: StatusCode, headers: HeaderMap) -> Self {
        Self { status, headers, payload: Payload::Whole(Bytes::new()), object: None, warnings: Vec::new() }
    }

    /// Bytes of compact JSON without a final newline, written as `encoding` wants.
    pub(crate) fn json_bytes(code: u16, compact: impl Into<Bytes>, encoding: Encoding) -> Self {
        let compact = compact.into();
        let body: Bytes = match encoding {
            Encoding::Json => {
                let mut line = Vec::with_capacity(compact.len() + 1);
                line.extend_from_slice(&compact);
                line.push(b'\n');
                line.into()
            }
            Encoding::Pretty => match serde_json::from_slice::<Value>(&compact) {
                Ok(tree) => json::to_pretty(&tree).into(),
                Err(_) => compact.clone(),
            },
            Encoding::Yaml => to_yaml(&compact).into(),
        };
        let mut reply = Self::new(code_of(code), encoding.content_type(), Payload::Whole(body));
        reply.object = Some(Logged { json: compact, status: None });
        reply
    }

    /// A value as JSON, written as `encoding` wants.
    pub(crate) fn json<T: Serialize + ?Sized>(code: u16, value: &T, encoding: Encoding) -> Self {
        Self::json_bytes(code, json::to_vec(value), encoding)
    }

    /// A failure, or the success of a delete.
    pub(crate) fn status(status: &Status, encoding: Encoding) -> Self {
        let mut reply = Self::json(status.http_code(), status, encoding);
        // Compat: whoever takes no form that there is gets its refusal past the log.
        reply.object = reply
            .object
            .filter(|_| status.code != 406)
            .map(|logged| Logged { status: Some(Box::new(status.clone())), ..logged });
        let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        if retry > 0 {
            reply.set(http::header::RETRY_AFTER, &retry.to_string());
        }
        if status.code == 403 {
            reply.headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        reply
    }

    /// Plain text, as Go's `http.Error` and the health endpoints send it.
    pub(crate) fn text(code: u16, text: impl Into<Bytes>) -> Self {
        let mut reply = Self::new(code_of(code), "text/plain; charset=utf-8", Payload::Whole(text.into()));
        reply.headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        reply
    }

    /// What Go's server says to a head that it cannot read, before it closes the connection.
    pub(crate) fn bad_head() -> Self {
        Self::closing(400, "400 Bad Request")
    }

    /// What Go's server says before anything else is asked, and closes the connection.
    pub(crate) fn closing(code: u16, text: impl Into<Bytes>) -> Self {
        let mut reply = Self::text(code, text);
        reply.headers.remove(CACHE_CONTROL);
        reply.headers.remove(X_CONTENT_TYPE_OPTIONS);
        reply.headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        reply
    }

    /// What the real server says to a path that leads nowhere.
    pub(crate) fn page_not_found() -> Self {
        Self::text(404, portcullis_kube::status::PAGE_NOT_FOUND)
    }

    /// A watch.
    pub(crate) fn pieces(pieces: Pieces) -> Self {
        Self::new(StatusCode::OK, "application/json", Payload::Pieces(pieces))
    }

    /// For documents that are no objects of the API.
    pub(crate) fn unlogged(mut self) -> Self {
        self.object = None;
        self
    }

    /// Lines of a log.
    pub(crate) fn log(pieces: Pieces) -> Self {
        Self::new(StatusCode::OK, "text/plain", Payload::Pieces(pieces))
    }

    /// Nothing, which is what there is.
    pub(crate) fn no_content() -> Self {
        let mut reply = Self::new(StatusCode::NO_CONTENT, "text/plain", Payload::Whole(Bytes::new()));
        reply.headers.remove(CONTENT_TYPE);
        reply
    }

    /// Sets a header; a value that no header can hold is left out.
    pub(crate) fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }

    /// Adds `Warning` headers, which kubectl prints.
    pub(crate) fn warn(&mut self, warnings: &[String]) {
        self.warnings.extend_from_slice(warnings);
        self.write_warnings();
    }

    /// Adds a warning before those that are there.
    pub(crate) fn warn_first(&mut self, warning: &str) {
        self.warnings.insert(0, warning.to_owned());
        self.write_warnings();
    }

    /// Compat: each text once. When all of them are too long together, each is cut, and the rest is left out; what has
    /// control characters is not told.
    fn write_warnings(&mut self) {
        let mut seen = HashSet::new();
        let texts: Vec<&str> = self.warnings.iter().map(String::as_str).filter(|text| seen.insert(*text)).collect();
        let total: usize = texts.iter().map(|text| text.chars().count()).sum();
        let limit = if total > WARNINGS_CHARACTERS { WARNING_CHARACTERS } else { usize::MAX };
        self.headers.remove(WARNING);
        let mut written = 0;
        for text in texts {
            if written >= WARNINGS_CHARACTERS {
                break;
            }
            let cut: String = text.chars().take(limit).collect();
            if cut.is_empty() || cut.chars().any(char::is_control) {
                continue;
            }
            written += cut.chars().count();
            let quoted = cut.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
                self.headers.append(WARNING, value);
            }
        }
    }

    /// The body of a reply that is no stream.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.payload {
            Payload::Whole(bytes) => bytes,
            Payload::Pieces(_) | Payload::Upgrade(_) => b"(a stream)",
        }
    }
}

fn code_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Compat: the real server prints YAML with the members in alphabetical order.
fn to_yaml(compact: &[u8]) -> String {
    let Ok(mut tree) = serde_json::from_slice::<Value>(compact) else { return String::new() };
    tree.sort_all_objects();
    portcullis_kube::yaml::print(&tree).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(warnings: &[String]) -> Vec<String> {
        let mut reply = Reply::text(200, "");
        reply.warn(warnings);
        reply.warn_first("first");
        reply.headers.get_all(WARNING).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn warnings_are_told_once_and_cut_when_they_are_too_long_together() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(warned(&texts(&["a\"\\", "a\"\\", "", "b\nc"])), ["299 - \"first\"", r#"299 - "a\"\\""#]);
        let long = "x".repeat(4_000);
        assert_eq!(warned(std::slice::from_ref(&long))[1].len(), long.len() + 8);
        let cut = warned(&[long.clone(), long.replace('x', "y")]);
        assert_eq!(cut[1..].iter().map(String::len).collect::<Vec<_>>(), [WARNING_CHARACTERS + 8; 2]);
        let many: Vec<String> = (0..100).map(|number| format!("{number:0256}")).collect();
        assert_eq!(warned(&many).len(), 17);
    }
}
