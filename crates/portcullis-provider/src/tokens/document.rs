//! A document that is the same for everybody: prepared bytes and their ETag.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::http::{Reply, with_type};
use crate::signer::etag;

/// A prepared document.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    body: Bytes,
    etag: HeaderValue,
}

impl Document {
    pub(crate) fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let etag = etag(&body);
        Self { body, etag }
    }

    /// The answer to a request for it: 304 when the client has it already.
    pub(crate) fn reply(&self, headers: &HeaderMap, content_type: &'static str, cache: &'static str) -> Reply {
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| {
            value
                .as_bytes()
                .split(|b| *b == b',')
                .map(<[u8]>::trim_ascii)
                .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes())
        });
        let mut reply = if known {
            let mut reply = Reply::new(Bytes::new());
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
            reply
        } else {
            with_type(StatusCode::OK, content_type, self.body.clone())
        };
        reply.headers_mut().insert(header::ETAG, self.etag.clone());
        reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_it_gets_304() {
        let document = Document::new("{}");
        let tag = document.etag.to_str().unwrap().to_owned();
        let ask = |value: Option<&str>| {
            let headers: HeaderMap =
                value.map(|v| (header::IF_NONE_MATCH, HeaderValue::from_str(v).unwrap())).into_iter().collect();
            document.reply(&headers, "application/json", "max-age=1").status().as_u16()
        };
        assert_eq!(ask(None), 200);
        assert_eq!(ask(Some("\"other\"")), 200);
        assert_eq!(ask(Some("*")), 304);
        assert_eq!(ask(Some(&tag)), 304);
        assert_eq!(ask(Some(&format!("\"x\", W/{tag}"))), 304);
    }
}
