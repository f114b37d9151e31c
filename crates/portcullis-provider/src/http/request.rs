//! A request whose body has been read.

use bytes::Bytes;
use http::{HeaderMap, Method, header};

use super::cookies::Cookies;
use super::form::{FormError, Params};
use super::source::Source;

/// A request whose body has been read.
#[derive(Debug, Clone)]
pub(crate) struct Inbound {
    pub(crate) method: Method,
    /// The path below the issuer's path, as sent.
    pub(crate) path: String,
    /// The query, as sent.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the browser's side of the connection is encrypted.
    pub(crate) secure: bool,
    /// Where it comes from.
    pub(crate) from: Source,
}

impl Inbound {
    pub(crate) fn cookies(&self) -> Cookies<'_> {
        Cookies::read(&self.headers)
    }

    /// The query's parameters.
    pub(crate) fn query_params(&self) -> Result<Params, FormError> {
        Params::parse(self.query.as_bytes())
    }

    /// The form body's parameters; none for another content type, as in Go.
    pub(crate) fn body_params(&self) -> Result<Params, FormError> {
        if self.is_form() { Params::parse(&self.body) } else { Ok(Params::default()) }
    }

    /// Query and form body together (Go's `Request.Form`), without repetitions across the two.
    pub(crate) fn all_params(&self) -> Result<Params, FormError> {
        let params = self.query_params()?;
        if self.method == Method::POST && self.is_form() { params.and(&self.body) } else { Ok(params) }
    }

    fn is_form(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    }

    /// Whether a page of another site sent this (CSRF). Browsers say so in `Sec-Fetch-Site`; where that is missing, in
    /// `Origin`, unless it is `null`, which our own pages' forms send because of their referrer policy.
    pub(crate) fn is_cross_site(&self) -> bool {
        if let Some(site) = self.headers.get("sec-fetch-site") {
            return !matches!(site.as_bytes(), b"same-origin" | b"none");
        }
        let Some(origin) = self.headers.get(header::ORIGIN).and_then(|o| o.to_str().ok()) else { return false };
        let host = self.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        origin != "null"
            && !host.is_empty()
            && origin.split_once("://").is_none_or(|(_, o)| !o.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: &[(&'static str, &'static str)]) -> Inbound {
        Inbound {
            method: Method::POST,
            path: String::new(),
            query: "a=1".to_owned(),
            headers: headers
                .iter()
                .map(|(k, v)| (http::HeaderName::from_static(k), http::HeaderValue::from_static(v)))
                .collect(),
            body: Bytes::from_static(b"b=2"),
            secure: false,
            from: Source::default(),
        }
    }

    #[test]
    fn only_a_form_body_is_a_form() {
        for (kind, want) in [
            ("application/x-www-form-urlencoded", "2"),
            ("Application/X-WWW-Form-URLEncoded; charset=utf-8", "2"),
            ("application/json", ""),
            ("text/plain", ""),
        ] {
            assert_eq!(with(&[("content-type", kind)]).all_params().unwrap().get("b"), want, "{kind}");
        }
    }

    #[test]
    fn cross_site_posts_are_recognised() {
        for (headers, cross) in [
            (vec![], false),
            (vec![("sec-fetch-site", "same-origin")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "same-site")], true),
            (vec![("sec-fetch-site", "cross-site")], true),
            (vec![("sec-fetch-site", "cross-site"), ("origin", "http://h:1"), ("host", "h:1")], true),
            (vec![("origin", "http://h:1"), ("host", "h:1")], false),
            (vec![("origin", "https://h:1"), ("host", "h:1")], false),
            (vec![("origin", "https://evil"), ("host", "h:1")], true),
            (vec![("origin", "null"), ("host", "h:1")], false),
        ] {
            assert_eq!(with(&headers).is_cross_site(), cross, "{headers:?}");
        }
    }
}
