//! The HTTP surface without a connection: a [`Call`] comes in, a [`Reply`] goes out.
//!
//! The listener's types stay in `server`, so that every test and fuzz target can drive the whole server with values.

pub(crate) mod body;
pub(crate) mod deadline;
pub(crate) mod go_duration;
pub(crate) mod gzip;
pub(crate) mod head;
pub(crate) mod media_type;
pub(crate) mod negotiate;
pub(crate) mod params;
pub(crate) mod patched;
pub(crate) mod reply;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method};
use portcullis_kube::Status;

use self::params::Params;
use crate::audit::Record;

/// Warnings of a failed request that are kept. Far fewer fit into an answer's headers.
const MOST_NOTED: usize = 1_000;

/// A failure, as the `Status` that the client gets.
pub(crate) type Outcome<T> = Result<T, Box<Status>>;

/// A request whose body has been read.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The path as it came, still percent-encoded.
    pub(crate) path: String,
    pub(crate) params: Params,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The client's certificate, in DER, when its chain was valid.
    pub(crate) client_cert: Option<Arc<[u8]>>,
    /// A certificate was shown that does not count.
    pub(crate) client_cert_refused: bool,
    /// What the audit log says of it.
    pub(crate) audit: Record,
    /// What was odd about the body, for the answer's `Warning` headers when the request fails later.
    pub(crate) warnings: Mutex<Vec<String>>,
}

impl Call {
    /// Keeps what was odd about the body, each once, and no more than [`MOST_NOTED`].
    pub(crate) fn note(&self, warnings: &[String]) {
        let mut noted = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen: HashSet<&str> = noted.iter().map(String::as_str).collect();
        let new = warnings.iter().filter(|warning| seen.insert(warning));
        let new: Vec<String> = new.take(MOST_NOTED.saturating_sub(noted.len())).cloned().collect();
        noted.extend(new);
    }

    /// What was odd about the body.
    pub(crate) fn noted(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The media type of the body, without parameters; empty when the client did not say, `None` when it cannot be read.
    pub(crate) fn media_type(&self) -> Option<String> {
        media_type::of(&self.headers)
    }

    /// The first `Accept`; empty when absent. Compat: what is no text is no media type either, and still there.
    pub(crate) fn accept(&self) -> Cow<'_, str> {
        self.headers
            .get(http::header::ACCEPT)
            .map_or(Cow::Borrowed(""), |value| String::from_utf8_lossy(value.as_bytes()))
    }

    /// A header as text; empty when absent or not text.
    pub(crate) fn header(&self, name: http::header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[cfg(test)]
impl Call {
    /// A request for tests: `METHOD PATH[?QUERY]`.
    pub(crate) fn test(line: &str, body: impl Into<Bytes>) -> Self {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            params: Params::parse(query),
            headers: HeaderMap::new(),
            body: body.into(),
            client_cert: None,
            client_cert_refused: false,
            audit: Record::default(),
            warnings: Mutex::default(),
        }
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }
}
