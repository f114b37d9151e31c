//! Cookies in and out (RFC 6265).

use http::{HeaderMap, HeaderValue, header};

/// Most bytes of `Cookie` headers that are looked at.
const MAX_BYTES: usize = 32 * 1024;
/// Most cookies that are looked at.
const MAX_COOKIES: usize = 100;

/// The cookies of a request, in the browser's order.
#[derive(Default)]
pub(crate) struct Cookies<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Cookies<'a> {
    /// Reads all `Cookie` headers (HTTP/2 may split them). What is no cookie is skipped.
    pub(crate) fn read(headers: &'a HeaderMap) -> Self {
        let mut out = Vec::new();
        let mut left = MAX_BYTES;
        for value in headers.get_all(header::COOKIE) {
            if value.len() > left {
                break;
            }
            left -= value.len();
            let Ok(text) = value.to_str() else { continue };
            for pair in text.split(';') {
                if let Some((name, value)) = pair.trim().split_once('=')
                    && out.len() < MAX_COOKIES
                {
                    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
                    out.push((name, value));
                }
            }
        }
        Self(out)
    }

    /// The value of a cookie. Of several with one name the browser sends the most specific first, and that one counts.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    /// Names without `prefix`, and values, of the cookies whose name begins with it.
    pub(crate) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(name, value)| name.strip_prefix(prefix).map(|rest| (rest, *value)))
    }
}

/// A cookie to set: HttpOnly, SameSite=Lax.
pub(crate) struct SetCookie<'a> {
    /// Name; of token characters.
    pub(crate) name: &'a str,
    /// Value; of cookie characters. Empty to remove the cookie.
    pub(crate) value: &'a str,
    /// Path.
    pub(crate) path: &'a str,
    /// Whether the request came over TLS.
    pub(crate) secure: bool,
    /// Seconds; 0 removes the cookie.
    pub(crate) max_age: u64,
}

impl SetCookie<'_> {
    /// The header's value; `None` if name or path have characters that no header can hold.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let Self { name, value, path, max_age, .. } = self;
        let secure = if self.secure { "; Secure" } else { "" };
        HeaderValue::from_str(&format!(
            "{name}={value}; Path={path}; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}"
        ))
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|v| (header::COOKIE, HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn cookies_are_found_over_several_headers() {
        let headers = headers(&["a=1; b=\"2\"", "c=x=y; junk; a=3"]);
        let cookies = Cookies::read(&headers);
        assert_eq!(
            (cookies.get("a"), cookies.get("b"), cookies.get("c"), cookies.get("junk")),
            (Some("1"), Some("2"), Some("x=y"), None)
        );
        assert_eq!(cookies.with_prefix("").count(), 4);
    }

    #[test]
    fn too_many_and_too_large_ones_are_not_looked_at() {
        let many = (0..1000).map(|i| format!("c{i}=1")).collect::<Vec<_>>().join("; ");
        assert_eq!(Cookies::read(&headers(&[&many])).with_prefix("c").count(), MAX_COOKIES);
        let large = format!("a={}", "x".repeat(MAX_BYTES));
        assert!(Cookies::read(&headers(&[&large])).get("a").is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read(bytes: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers: HeaderMap = [(header::COOKIE, value)].into_iter().collect();
                Cookies::read(&headers).with_prefix("p").count();
            }
        }
    }
}
