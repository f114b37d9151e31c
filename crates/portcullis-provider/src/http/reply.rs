//! Answers and their usual headers.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use portcullis_oidc::vocabulary::{ErrorCode, TokenErrorBody};

/// An answer.
pub(crate) type Reply = http::Response<Bytes>;

/// A plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// A page. [`crate::pages`] adds the security headers.
pub(crate) fn html(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    with_type(status, "text/html; charset=utf-8", body)
}

/// An OAuth error in JSON (RFC 6749 section 5.2).
pub(crate) fn json_error(status: StatusCode, code: ErrorCode, description: &str) -> Reply {
    let body = serde_json::to_vec(&TokenErrorBody::new(code, description.to_owned())).unwrap_or_default();
    no_store(with_type(status, "application/json", body))
}

/// A redirect that turns a POST into a GET (RFC 9700 section 4.12: never 307 after credentials).
pub(crate) fn redirect(location: &str) -> Option<Reply> {
    redirect_with(StatusCode::SEE_OTHER, location)
}

/// A redirect between our own pages, with Dex's status.
pub(crate) fn redirect_found(location: &str) -> Option<Reply> {
    redirect_with(StatusCode::FOUND, location)
}

fn redirect_with(status: StatusCode, location: &str) -> Option<Reply> {
    let location = HeaderValue::from_str(location).ok().filter(|l| l.as_bytes().iter().all(u8::is_ascii_graphic))?;
    let mut reply = Reply::new(Bytes::new());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::LOCATION, location);
    reply.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(no_store(reply))
}

/// Keeps an answer out of every cache.
pub(crate) fn no_store(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    reply
}

pub(crate) fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Reply::new(body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_that_could_split_headers_is_refused() {
        for bad in ["https://a/\r\nX: y", "https://a/ b", "https://a/\u{e9}", "https://a/\t"] {
            assert!(redirect(bad).is_none(), "{bad:?}");
        }
        assert_eq!(redirect("https://a/?x=%20").unwrap().status(), 303);
    }

    #[test]
    fn json_errors_are_dexs() {
        let reply = json_error(StatusCode::BAD_REQUEST, ErrorCode::InvalidGrant, "");
        assert_eq!(reply.body().as_ref(), b"{\"error\":\"invalid_grant\"}");
        assert_eq!(reply.headers()[header::CACHE_CONTROL], "no-store");
    }
}
